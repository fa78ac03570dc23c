"""A study: asked, run, checked, judged, kept; and what can be had from it afterwards."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from tombola.errors import CallError, DamagedObjectError, TombolaError, VerdictError, WorkError
from tombola.lab.budget import within
from tombola.lab.checks import checks_of
from tombola.lab.commands import training_command
from tombola.lab.engines.engine import Engine
from tombola.lab.engines.inline import Inline
from tombola.lab.engines.processes import Processes, can_fork
from tombola.lab.events import Answered, Opened, Watcher, together
from tombola.lab.ladder import LADDERS, Ladder, LadderVerdict, judge_ladder
from tombola.lab.presence import Diary
from tombola.lab.provenance import about, call_cost, place_of
from tombola.lab.question import Question, Trial, seeds_of
from tombola.lab.rows import rows_of, samples_of, trials_of
from tombola.lab.runner import Runner, Tally
from tombola.lab.store import Store
from tombola.lab.verdict import RULES, TICKET, Matches, Rule, Verdict, judge
from tombola.pieces.basis import basis_of
from tombola.recipes.controls import CONTROLS, Control
from tombola.recipes.job import Job
from tombola.recipes.jobs import Train
from tombola.recipes.recipe import Recipe, Round
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.ticket import Ticket
from tombola.world.world import World

DEFAULT_ARMS = ("dense", TICKET, "reinit", "shuffle")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished study, as stored.

    document: what `tombola find --json` prints. facts: what later commands need beside it: the
    names it was asked by, what they stood for, where its trials lie, margin and resolution, the
    keys of its calls and the trajectories of its trainings, what each asking cost, when and where.
    worlds: in which an arm was trained at a round; empty for a study read from the store. question:
    what it answers, for probes; None for a study read from the store.
    """

    store: Store
    document: Mapping[str, Any]
    facts: Mapping[str, Any]
    worlds: Mapping[tuple[str, int], World] = field(default_factory=dict, repr=False)
    question: Question | None = field(default=None, repr=False)

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
            VerdictError: an arm that the rule cannot do without was not trained; says what trains
                it.
        """
        rule = rule_named(rule)
        there = (TICKET, *self.facts["arms"])
        absent = [c.arm for c in rule.conditions if isinstance(c, Matches) and c.arm not in there]
        if absent:
            raise VerdictError(
                f"rule {rule.name!r} cannot do without the arm {', '.join(absent)}, which study "
                f"{self.digest[:12]} has not. Train it with {self.training(rule)}"
            )
        return verdict_of(rule, self.rows, self.facts["setting"])

    def judge_along(self, ladder: Ladder | str) -> LadderVerdict:
        """At which densities a rule's claim holds, corrected for their number; trains nothing.

        Raises:
            VerdictError: an arm of the rule was trained at no density; says what trains it.
            CallError: no ladder of that name.
        """
        if isinstance(ladder, str):
            if ladder not in LADDERS:
                raise CallError(
                    f"no rule {ladder!r} about densities; there are {', '.join(LADDERS)}."
                )
            ladder = LADDERS[ladder]
        rounds = {
            row["round"]: (row["density"], samples_of(self.rows, row["round"]))
            for row in self.rows
            if row["arm"] == TICKET and row["round"]
        }
        if not {c.arm for c in ladder.rule.conditions} <= {TICKET, *self.facts["arms"]}:
            raise VerdictError(
                f"rule {ladder.name!r} asks about arms that study {self.digest[:12]} has not. "
                f"Train them with {self.training(ladder.rule, controls_at='all')}"
            )
        setting = self.facts["setting"]
        return judge_ladder(
            ladder, rounds, margin=setting["margin"], resolution=setting["resolution"]
        )

    def training(self, rule: Rule, **other: Any) -> str:
        """The command, or the call, that trains every arm a rule looks at."""
        arms = dict.fromkeys(condition.arm for condition in rule.conditions)
        return training_command(self.facts["names"], self.document["seeds"], arms, **other)

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
        """The ticket of a trial (see `trial`): its start and its mask, to be trained.

        Raises:
            CallError: cut weights are frozen at other values than zero, which no ticket can say.
        """
        trial = self.trial(**which)
        if not trial["cuts_to_zero"]:
            raise CallError(
                f"arm {trial['arm']!r} freezes what it cuts; a ticket has a start and a mask, and "
                "what is cut is zero. Take the trained network: `study.model()`, or ship it to "
                "safetensors."
            )
        units = trial.get("units")
        return Ticket(
            init=self.store.fetch(Params, trial["init"]),
            mask=self.mask(**which),
            start_step=trial["start_step"],
            provenance=self.provenance(**which),
            units=FULL if units is None else self.store.fetch(Mask, units),
            basis=None if units is None else self.facts["basis"],
        )

    def provenance(self, **which: Any) -> dict[str, Any]:
        """Where a trial comes from, as in `Ticket`."""
        trial = self.trial(**which)
        kept = next(
            row["density"]
            for row in self.rows
            if (row["arm"], row["round"]) == (trial["arm"], trial["round"])
        )
        units = {"units": trial["units"]} if trial.get("units") else {}
        return {
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
                **units,
            },
        }

    def mask(self, **which: Any) -> Mask:
        """What a trial keeps."""
        return self.store.fetch(Mask, self.trial(**which)["mask"])

    def params(self, **which: Any) -> Params:
        """All tensors of a trained network, cut weights +0.0 or as frozen."""
        return self.store.fetch(Params, self.trial(**which)["params"])

    def model(self, **which: Any) -> nn.Module:
        """The trained sparse network of a trial (see `trial`), a plain module."""
        if not self.worlds:
            raise CallError(
                "this study was read from the store without its world; use `params()` "
                "and load them into your network."
            )
        trial = self.trial(**which)
        return self.worlds[trial["arm"], trial["round"]].network(self.params(**which)).eval()


def find(
    recipe: Recipe,
    world: World,
    *,
    seeds: int | Sequence[int] = 5,
    arms: Sequence[str | Control | Recipe] = DEFAULT_ARMS,
    rule: Rule | str = "matching",
    controls_at: str = "judged",
    jobs: int = 1,
    minutes: float | None = None,
    store: Store | str | Path = ".tombola",
    watchers: Sequence[Watcher] = (),
) -> Study:
    """Find tickets, train the controls, judge.

    seeds: how many, or which. arms: names of controls, controls, or other recipes to compare with.
    jobs: processes at once; 1 works in this process. minutes: trainings are made as short as it
    takes for all of it to be done in so many (`tombola.lab.budget`); the study's world then names
    its steps, and repeats with them. store: a folder, made if it is not there.
    watchers: told what happens (see `tombola.lab.events`), for example trackers.

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
    if minutes is not None:
        question = within(question, minutes, jobs=jobs)
    store = store if isinstance(store, Store) else Store(store)
    return answer(question, store, jobs=jobs, watchers=watchers)


def answer(
    question: Question,
    store: Store,
    *,
    jobs: int = 1,
    watchers: Sequence[Watcher] = (),
    names: Mapping[str, Any] | None = None,
) -> Study:
    """Run a question to its study; what is stored already is not done again."""
    check_jobs(question, jobs)
    store.check_writable()
    with store.at_work(question.digest, question.recipe.name, question.world.name) as diary:
        try:
            return _answered(question, store, jobs, watchers, names or {}, diary)
        except TombolaError as error:
            if isinstance(error, WorkError):
                raise
            # Found out on the way only, so the call was not wrong: what is finished stays.
            raise WorkError(str(error)).with_traceback(error.__traceback__) from error


def check_jobs(question: Question, jobs: int) -> None:
    """Raise CallError for a number of processes that this world cannot be worked on by."""
    if not isinstance(jobs, int) or jobs < 1:
        raise CallError(f"jobs={jobs!r}: want a whole number of processes, 1 or more.")
    if jobs > 1 and question.world.numerics.threads > 1:
        raise CallError(
            f"jobs={jobs} with Numerics(threads={question.world.numerics.threads}): processes are "
            "forked, and torch's threads do not survive a fork. Use jobs=1, or one thread."
        )
    device = question.world.numerics.device
    if jobs > 1 and device != "cpu":
        raise CallError(
            f"jobs={jobs} with Numerics(device={device!r}): processes that share a card wait "
            "for one another. Use jobs=1, and executor='stacked' to advance trainings together."
        )


def _answered(
    question: Question,
    store: Store,
    jobs: int,
    watchers: Sequence[Watcher],
    names: Mapping[str, Any],
    diary: Diary,
) -> Study:
    tell, began = together([*watchers, diary.watch]), time.perf_counter()
    if watchers:
        tell(Opened(question, planned(question, store)))
    rounds, checks, tally = _driven(question, store, jobs, tell)
    rows = rows_of(question, rounds)
    setting = {
        "judged_round": question.judged_round,
        "margin": question.world.margin,
        "resolution": question.world.evaluate_every,
        "judged_density": question.world.judged_density,
        "place": place_of(question),
    }
    verdict = verdict_of(question.rule, rows, setting)
    document: dict[str, Any] = {
        "schema": 1,
        "study": question.digest,
        "recipe": question.recipe.name,
        "world": question.world.name,
        "seeds": list(question.seeds),
        "rows": rows,
        "verdict": verdict.as_json(),
        "checks": checks,
        "cost": {
            "steps_trained": sum(store.context(key)["steps"] for key in tally.run),
            "steps_reused": sum(job.steps for job in tally.stored.values()),
            "seconds": round(time.perf_counter() - began, 3),
        },
        "store": str(store.folder),
        "report": None,
    }
    calls = tally.stored | tally.run
    facts = {
        "names": dict(names),
        "setting": setting,
        "arms": list(question.arms),
        "rule": question.rule.name,
        "controls_at": question.controls_at,
        "about": about(question),
        "basis": basis_facts(question.recipe, question.world),
        "trials": trials_of(question, rounds),
        "calls": sorted(calls),
        "trainings": sorted({job.trajectory for job in calls.values() if isinstance(job, Train)}),
        "costs": [*earlier_costs(store, question.digest), call_cost(document["cost"])],
    }
    store.write_study(question.digest, {"document": document, "facts": facts})
    tell(Answered(document, facts))
    worlds = {
        (trial.arm, turn.target.round): turn.job.world
        for trial, turns in rounds.items()
        for turn in turns
    }
    return Study(store=store, document=document, facts=facts, worlds=worlds, question=question)


def _driven(
    question: Question, store: Store, jobs: int, tell: Watcher
) -> tuple[dict[Trial, tuple[Round, ...]], dict[str, bool | None], Tally]:
    """All trials run and checked. A stored object that only the checks find damaged has been set
    aside by then: what makes it is run again, once."""
    run: dict[str, Job] = {}
    found: set[str] = set()
    while True:
        engine = engine_of(store, jobs, tell)
        runner = Runner(store, engine, tell)
        try:
            rounds = runner.drive(question.loops())
            checks = checks_of(question, rounds)
        except DamagedObjectError as error:
            if error.digest in found:
                raise
            found.add(error.digest)
        else:
            stored = {key: job for key, job in runner.tally.stored.items() if key not in run}
            return rounds, checks, Tally(stored=stored, run=run | runner.tally.run)
        finally:
            run |= runner.tally.run
            engine.close()


def planned(question: Question, store: Store) -> Tally:
    """What a question takes beyond what is stored; trains nothing."""
    runner = Runner(store, None)
    runner.drive(question.loops())
    return runner.tally


def with_report(study: Study, path: Path) -> Study:
    """The study with the place of its report in its document, here and in the store."""
    noted = replace(study, document={**study.document, "report": str(path)})
    study.store.write_study(study.digest, {"document": noted.document, "facts": noted.facts})
    return noted


def basis_facts(recipe: Recipe, world: World) -> dict[str, Any] | None:
    """What the units are that a recipe cuts, for ticket files; None where it cuts weights."""
    basis = basis_of(recipe.rule)
    if basis is None:
        return None
    sets = basis.sets(recipe.layers(world), lambda: world.coupling)
    return {one.name: one.facts() for one in sets}


def earlier_costs(store: Store, name: str) -> list[dict[str, Any]]:
    """What each earlier call for this study cost; the document has the last one's."""
    content = store.read_study(name)
    return [] if content is None else list(content["facts"]["costs"])


def engine_of(store: Store, jobs: int, tell: Watcher) -> Engine:
    """Processes where more than one job is asked for and the system can fork, else this one."""
    if jobs > 1 and can_fork():
        return Processes(store, jobs, tell)
    return Inline(store, tell)


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
    name = one_of(names, prefix)
    content = store.read_study(name)
    if content is None:
        raise CallError(
            f"study {name[:12]} was damaged and has been set aside; repeat its "
            "`tombola find`, which trains nothing that is stored."
        )
    return Study(store=store, document=content["document"], facts=content["facts"])


def one_of(studies: Sequence[str], prefix: str) -> str:
    """The one study whose digest begins so; the last of them for `latest`.

    Raises:
        CallError: none, or several.
    """
    latest = prefix == "latest"
    chosen = studies[-1:] if latest else [name for name in studies if name.startswith(prefix)]
    if len(chosen) != 1:
        listed = ", ".join(name[:12] for name in (chosen or studies)[-8:])
        what = f"{len(chosen)} studies begin with" if chosen else "no study begins with"
        raise CallError(f"{what} {prefix!r}; there are {listed or 'none'}.")
    return chosen[0]
