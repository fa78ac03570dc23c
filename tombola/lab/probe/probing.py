"""A probe of a study: asked, run, kept; nothing that is stored is done again."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tombola.errors import CallError, TombolaError, WorkError
from tombola.lab.events import Opened, Watcher, together
from tombola.lab.plan import outlook
from tombola.lab.probe.probe import Probe, Shown
from tombola.lab.provenance import call_cost
from tombola.lab.question import Question, Trial
from tombola.lab.runner import Runner, Tally
from tombola.lab.store import Store
from tombola.lab.study import Study, check_jobs, engine_of
from tombola.pieces.kind import not_a
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Train
from tombola.values.digest import digest


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A finished probe, as stored. document: what `tombola probe --json` prints. facts: the calls
    and trainings it rests on, and what each asking cost."""

    store: Store
    document: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return str(self.document["digest"])

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table.

        Raises:
            CallError: there is no such table.
        """
        tables = {table["name"]: table["rows"] for table in self.document["tables"]}
        if name not in tables:
            raise CallError(
                f"probe {self.document['probe']} has no table {name!r}; it has {', '.join(tables)}."
            )
        return list(tables[name])


def probe(probe: Probe, study: Study, *, jobs: int = 1, watchers: Sequence[Watcher] = ()) -> Probed:
    """Measure something on a study's trainings; what it needs beyond them is trained.

    jobs: processes at once; 1 works in this process. watchers: told what happens.

    Returns what was found, which the store keeps beside the study, and its report shows; the same
    call again trains nothing.

    Raises:
        CallError: this study cannot be probed so; or it was read from the store, and so without its
            recipe and world: repeat its `find`, which trains nothing.
    """
    if study.question is None:
        raise CallError(
            f"study {study.digest[:12]} was read from the store without its recipe and world; "
            "repeat its `tombola.find`, which trains nothing that is stored, and probe that."
        )
    return measure(probe, study.question, study.store, jobs=jobs, watchers=watchers)


def measure(
    probe: Probe,
    question: Question,
    store: Store,
    *,
    jobs: int = 1,
    watchers: Sequence[Watcher] = (),
) -> Probed:
    """Run a probe on a question whose study is, or could be, in the store."""
    check_jobs(question, jobs)
    check_probe(probe, question)
    store.check_writable()
    name, doing = digest_of(probe, question), f"probe {probe.name} of {question.recipe.name}"
    with store.at_work(name, doing, question.world.name) as diary:
        try:
            tell = together([*watchers, diary.watch])
            if watchers:
                tell(Opened(question, planned(probe, question, store)))
            return _measured(probe, question, store, jobs, tell)
        except TombolaError as error:
            if isinstance(error, WorkError):
                raise
            raise WorkError(str(error)).with_traceback(error.__traceback__) from error


def check_probe(probe: Probe, question: Question) -> None:
    """Raise CallError unless this probe can be applied to this study; trains nothing."""
    wrong = not_a(Probe, probe)
    if wrong:
        raise CallError(f"probe: {wrong}.")
    reason = probe.refuses(question)
    if reason:
        raise CallError(
            f"probe {probe.name!r} on {question.recipe.name} on {question.world.name}: {reason}."
        )


def digest_of(probe: Probe, question: Question) -> str:
    """Identity of what a probe finds on a study."""
    return digest(["probe", 1, probe, question.digest])


def planned(probe: Probe, question: Question, store: Store) -> Tally:
    """What a probe takes beyond what is stored, but for a search's later steps; trains nothing."""
    runner = Runner(store, None)
    runner.drive(loops_of(probe, question))
    return runner.tally


def plan_probe(probe: Probe, question: Question, store: Store, *, jobs: int) -> dict[str, Any]:
    """The same, with the time it will take, as `plan` says it of a study."""
    check_jobs(question, jobs)
    check_probe(probe, question)
    return {
        "recipe": f"probe {probe.name} of {question.recipe.name}",
        "world": question.world.name,
        "seeds": list(question.seeds),
        "store": str(store.folder),
        **outlook(planned(probe, question, store), question.world, jobs=jobs),
    }


def loops_of(probe: Probe, question: Question) -> dict[Trial, Loop[Any]]:
    """A loop for each seed."""
    return {Trial(probe.name, seed): probe.loop(question, seed) for seed in question.seeds}


def _measured(probe: Probe, question: Question, store: Store, jobs: int, tell: Watcher) -> Probed:
    began, name = time.perf_counter(), digest_of(probe, question)
    engine = engine_of(store, jobs, tell)
    try:
        runner = Runner(store, engine, tell)
        found = runner.drive(loops_of(probe, question))
    finally:
        engine.close()
    shown = probe.show(question, [found[Trial(probe.name, seed)] for seed in question.seeds])
    tally = runner.tally
    document = {
        "schema": 1,
        "probe": probe.name,
        "digest": name,
        "study": question.digest,
        "recipe": question.recipe.name,
        "world": question.world.name,
        "seeds": list(question.seeds),
        "summary": probe.summary,
        "source": probe.source,
        "settings": repr(probe),
        **_as_json(shown),
        "cost": {
            "steps_trained": sum(store.context(key)["steps"] for key in tally.run),
            "steps_reused": sum(job.steps for job in tally.stored.values()),
            "seconds": round(time.perf_counter() - began, 3),
        },
        "store": str(store.folder),
    }
    calls = tally.stored | tally.run
    earlier = store.read_probe(question.digest, name)
    facts = {
        "calls": sorted(calls),
        "trainings": sorted({job.trajectory for job in calls.values() if isinstance(job, Train)}),
        "costs": [*(earlier["facts"]["costs"] if earlier else []), call_cost(document["cost"])],
    }
    store.write_probe(question.digest, name, {"document": document, "facts": facts})
    return Probed(store=store, document=document, facts=facts)


def _as_json(shown: Shown) -> dict[str, Any]:
    return {
        "tables": [
            {
                "name": table.name,
                "title": table.title,
                "printed": list(table.printed),
                "rows": [row.as_json() for row in table.rows],
            }
            for table in shown.tables
        ],
        "charts": [
            {**asdict(chart), "level": list(chart.level) if chart.level else None}
            for chart in shown.charts
        ],
        "notes": list(shown.notes),
        "checks": dict(shown.checks),
    }
