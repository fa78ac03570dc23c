"""A study: asked, run, checked, judged, kept; and what can be had from it afterwards."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from tombola.errors import CallError
from tombola.lab.checks import checks_of
from tombola.lab.engines.engine import Engine
from tombola.lab.engines.inline import Inline
from tombola.lab.engines.processes import Processes, can_fork
from tombola.lab.question import Question, seeds_of
from tombola.lab.rows import rows_of, samples_of, trials_of
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.lab.verdict import RULES, TICKET, Rule, Verdict, judge
from tombola.recipes.controls import CONTROLS, Control
from tombola.recipes.job import Job
from tombola.recipes.recipe import Recipe
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.ticket import Ticket
from tombola.world.world import World

DEFAULT_ARMS = ("dense", TICKET, "reinit", "shuffle")


class Watcher(Protocol):
    """Who wants to know how a study is getting on."""

    def started(self, job: Job) -> None: ...

    def finished(self, job: Job) -> None: ...

    def steps(self, number: int) -> None: ...


class NoWatcher:
    """Nobody."""

    def started(self, job: Job) -> None:
        return None

    def finished(self, job: Job) -> None:
        return None

    def steps(self, number: int) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished study, as stored.

    document: what `tombola find --json` prints. facts: what later commands need beside it: the
    names it was asked by, where its trials lie, margin and resolution, what each call cost.
    """

    store: Store
    document: Mapping[str, Any]
    facts: Mapping[str, Any]
    world: World | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        return str(self.document["study"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.document["rows"])

    @property
    def checks(self) -> dict[str, bool | None]:
        return dict(self.document["checks"])

    @property
    def verdict(self) -> Verdict:
        return Verdict.from_json(self.document["verdict"])

    def judge(self, rule: Rule | str) -> Verdict:
        """The verdict under another rule; trains nothing.

        Raises:
            VerdictError: an arm that the rule cannot do without was not trained.
        """
        return verdict_of(rule_named(rule), self.rows, self.facts["setting"])

    def trial(
        self,
        *,
        arm: str = TICKET,
        seed: int | None = None,
        round: int | None = None,  # noqa: A002
        density: float | None = None,
    ) -> dict[str, Any]:
        """One trial's record: the round given, else the first at or below `density`, else the
        judged one; seed 0 (or the first) unless given.

        Raises:
            CallError: no such trial; says which there are.
        """
        seed = self.document["seeds"][0] if seed is None else seed
        own = [t for t in self.facts["trials"] if t["arm"] == arm and t["seed"] == seed]
        if not own:
            pairs = sorted({(t["arm"], t["seed"]) for t in self.facts["trials"]})
            raise CallError(f"study has no trial of arm {arm!r} with seed {seed}; it has {pairs}.")
        rows = {row["round"]: row["density"] for row in self.rows if row["arm"] == arm}
        rounds = sorted({t["round"] for t in own})
        if round is None and density is not None:
            sparse = [number for number in rounds if rows[number] <= density * (1 + 1e-9)]
            if not sparse:
                raise CallError(
                    f"arm {arm!r} has no round at density {density} or below; it has "
                    f"{[f'{rows[number]:.4g}' for number in rounds]}."
                )
            round = sparse[0]  # noqa: A001
        if round is None:
            judged = self.facts["setting"]["judged_round"]
            round = judged if judged in rounds else rounds[-1]  # noqa: A001
        found = [t for t in own if t["round"] == round]
        if not found:
            raise CallError(f"arm {arm!r} has no round {round}; it has {rounds}.")
        return dict(found[0])

    def ticket(self, **which: Any) -> Ticket:
        """The ticket of a trial (see `trial`): its start and its mask, to be trained."""
        trial = self.trial(**which)
        init = self.store.fetch(Params, trial["init"])
        mask = self.store.fetch(Mask, trial["mask"])
        kept = next(
            row["density"]
            for row in self.rows
            if (row["arm"], row["round"]) == (trial["arm"], trial["round"])
        )
        return Ticket(
            init=init,
            mask=mask,
            start_step=trial["start_step"],
            provenance={
                "recipe": self.document["recipe"],
                "world": self.document["world"],
                "seed": trial["seed"],
                "round": trial["round"],
                "density": kept,
                "lineage": {
                    "study": self.digest,
                    "arm": trial["arm"],
                    "init": trial["init"],
                    "mask": trial["mask"],
                },
            },
        )

    def params(self, **which: Any) -> Params:
        """All tensors of a trained network, cut weights +0.0."""
        return self.store.fetch(Params, self.trial(**which)["params"])

    def model(self, **which: Any) -> nn.Module:
        """The trained sparse network of a trial (see `trial`), a plain module."""
        if self.world is None:
            raise CallError(
                "this study was read from the store without its world; use `params()` "
                "and load them into your network."
            )
        return self.world.network(self.params(**which)).eval()


def find(
    recipe: Recipe,
    world: World,
    *,
    seeds: int | Sequence[int] = 5,
    arms: Sequence[str | Control | Recipe] = DEFAULT_ARMS,
    rule: Rule | str = "matching",
    controls_at: str = "judged",
    jobs: int = 1,
    store: Store | str | Path = ".tombola",
) -> Study:
    """Find tickets, train the controls, judge.

    seeds: how many, or which. arms: names of controls, controls, or other recipes to compare with.
    jobs: processes at once; 1 works in this process. store: a folder, made if it is not there.

    Returns the study; the same call again trains nothing.

    Raises:
        TombolaError: see `tombola.errors`; nothing is started when the call is wrong.
    """
    question = Question(
        recipe=recipe,
        world=world,
        seeds=seeds_of(seeds),
        arms=arms_of(arms),
        rule=rule_named(rule),
        controls_at=controls_at,
    )
    return answer(question, store if isinstance(store, Store) else Store(store), jobs=jobs)


def answer(
    question: Question,
    store: Store,
    *,
    jobs: int = 1,
    watcher: Watcher | None = None,
    names: Mapping[str, Any] | None = None,
) -> Study:
    """Run a question to its study; what is stored already is not done again."""
    if jobs > 1 and question.world.numerics.threads > 1:
        raise CallError(
            f"jobs={jobs} with Numerics(threads={question.world.numerics.threads}): processes are "
            "forked, and torch's threads do not survive a fork. Use jobs=1, or one thread."
        )
    store.check_writable()
    watcher, began = watcher or NoWatcher(), time.perf_counter()
    engine = engine_of(store, jobs, watcher.steps)
    runner = Runner(store, engine, watcher.started, watcher.finished)
    try:
        rounds = question.reached(runner.drive(question.loops()))
    finally:
        engine.close()
    rows = rows_of(question, rounds)
    setting = {
        "judged_round": question.judged_round,
        "margin": question.world.margin,
        "resolution": question.world.evaluate_every,
        "judged_density": question.world.judged_density,
    }
    verdict = verdict_of(question.rule, rows, setting)
    document = {
        "schema": 1,
        "study": question.digest,
        "recipe": question.recipe.name,
        "world": question.world.name,
        "seeds": list(question.seeds),
        "rows": rows,
        "verdict": verdict.as_json(),
        "checks": checks_of(question, rounds),
        "cost": {
            "steps_trained": sum(store.context(key)["steps"] for key in runner.tally.run),
            "steps_reused": sum(job.steps for job in runner.tally.stored.values()),
            "seconds": round(time.perf_counter() - began, 3),
        },
        "store": str(store.folder),
        "report": None,
    }
    facts = {
        "names": dict(names or {}),
        "setting": setting,
        "arms": list(question.arms),
        "rule": question.rule.name,
        "controls_at": question.controls_at,
        "trials": trials_of(rounds),
        "costs": [*earlier_costs(store, question.digest), document["cost"]],
    }
    store.write_study(question.digest, {"document": document, "facts": facts})
    return Study(store=store, document=document, facts=facts, world=question.world)


def earlier_costs(store: Store, name: str) -> list[dict[str, Any]]:
    """What each earlier call for this study cost; the document has the last one's."""
    content = store.read_study(name)
    return [] if content is None else list(content["facts"]["costs"])


def engine_of(store: Store, jobs: int, say: Callable[[int], None]) -> Engine:
    """Processes where more than one job is asked for and the system can fork, else this one."""
    if not isinstance(jobs, int) or jobs < 1:
        raise CallError(f"jobs={jobs!r}: want a whole number of processes, 1 or more.")
    if jobs > 1 and can_fork():
        return Processes(store, jobs, say)
    return Inline(store, say)


def verdict_of(rule: Rule, rows: list[dict[str, Any]], setting: Mapping[str, Any]) -> Verdict:
    """Apply a rule to a table."""
    number = setting["judged_round"]
    density = next(r["density"] for r in rows if r["arm"] == TICKET and r["round"] == number)
    return judge(
        rule,
        samples_of(rows, number),
        density=density,
        margin=setting["margin"],
        resolution=setting["resolution"],
    )


def rule_named(rule: Rule | str) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise CallError(f"no rule {rule!r}; there are {', '.join(RULES)}.")
    return RULES[rule]


def arms_of(arms: Sequence[str | Control | Recipe]) -> dict[str, Control | Recipe]:
    """Arms by name, without the ticket, which is always there."""
    found: dict[str, Control | Recipe] = {}
    for arm in arms:
        if arm == TICKET:
            continue
        if isinstance(arm, str):
            if arm not in CONTROLS:
                raise CallError(
                    f"no arm {arm!r}; there are {', '.join((TICKET, *CONTROLS))}, and recipes."
                )
            arm = CONTROLS[arm]
        if arm.name in found or arm.name == TICKET:
            raise CallError(
                f"two arms are named {arm.name!r}; give one another name, for example "
                "with dataclasses.replace(recipe, name=...)."
            )
        found[arm.name] = arm
    return found


def open_study(store: Store, prefix: str) -> Study:
    """A stored study by a unique prefix of its digest, or `latest`.

    Raises:
        CallError: none, or several.
    """
    names = store.studies()
    if not names:
        raise CallError(f"store {store.folder} has no study yet; `tombola find` makes one.")
    chosen = names[-1:] if prefix == "latest" else [n for n in names if n.startswith(prefix)]
    if len(chosen) != 1:
        listed = ", ".join(name[:12] for name in (chosen or names)[-8:])
        what = f"{len(chosen)} studies begin with" if chosen else "no study begins with"
        raise CallError(f"{what} {prefix!r}; there are {listed}.")
    content = store.read_study(chosen[0])
    if content is None:
        raise CallError(
            f"study {chosen[0][:12]} was damaged and has been set aside; repeat its "
            "`tombola find`, which trains nothing that is stored."
        )
    return Study(store=store, document=content["document"], facts=content["facts"])
