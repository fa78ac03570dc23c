"""The contract of probes, what they show, and how they come by the trainings of a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from tombola.lab.question import Question
from tombola.lab.statistics import summarise
from tombola.recipes.job import Job, Loop, R, jobs_in
from tombola.recipes.recipe import Round

Value = str | int | float


@dataclass(frozen=True, kw_only=True)
class Row:
    """Metrics at one place, over seeds. place: column -> what it holds there. metrics: name -> one
    value for each seed, None where there is none."""

    place: Mapping[str, Value]
    metrics: Mapping[str, Sequence[float | None]]

    def as_json(self) -> dict[str, Any]:
        """As in the table of a study: n, and each metric with its mean and 95 % interval."""
        n = {len(values) for values in self.metrics.values()}
        assert len(n) == 1, f"{self.place}: metrics of {n} seeds"
        found = {name: summarise(values).as_json() for name, values in self.metrics.items()}
        return {**self.place, "n": n.pop(), "metrics": found}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one kind. printed: metrics that the terminal shows; none, and it shows no table.
    The document and the report have all."""

    name: str
    title: str
    rows: tuple[Row, ...]
    printed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture of a table: a metric against a column, a line for each value of another column.

    where: the rows that are drawn, by what their columns hold. level: a horizontal line, and its
    name.
    """

    title: str
    table: str
    x: str
    y: str
    line: str
    where: Mapping[str, Value] = field(default_factory=dict)
    level: tuple[float, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a probe found, for people: tables, pictures of them, and what must be said beside.

    checks: what it found true of itself; None where a check did not apply.
    """

    tables: tuple[Table, ...]
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()
    checks: Mapping[str, bool | None] = field(default_factory=dict)


class Probe(Protocol):
    """A frozen dataclass: a measurement on the trainings of a study, as the loop of one seed.

    name, summary, source: for people; mark the fields `metadata={"identity": False}`, so that what
    was found is found again under another name. `tombola.testing.check_probe` checks a probe of
    yours.
    """

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def source(self) -> str: ...

    def refuses(self, question: Question) -> str | None:
        """Why this study cannot be probed so, and what to do; None if it can. Trains nothing."""
        ...

    def loop(self, question: Question, seed: int) -> Loop[Any]:
        """Yields jobs as a recipe's loop does; returns what `show` needs of this seed.

        Loads nothing, since a plan runs it too, with results that have no content yet: what is
        quick is computed in `show`, the rest in a job of your own.
        """
        ...

    def show(self, question: Question, found: Sequence[Any]) -> Shown:
        """What all seeds say, in the order of the question's seeds; trains nothing."""
        ...


def finished(question: Question, arm: str, seed: int) -> Loop[tuple[Round, ...]]:
    """The rounds of an arm, as the study trained them: its own jobs, and so from the store."""
    rounds: list[Round] = []
    for trial, loop in question.loops().items():
        if (trial.arm, trial.seed) == (arm, seed):
            rounds += yield from loop
    return tuple(rounds)


def abreast(loops: Sequence[Loop[R]]) -> Loop[tuple[R, ...]]:
    """Several loops as one: what they wait for is asked for at once, so it may run side by side.

    >>> from tombola.recipes.jobs import Init
    >>> from tombola.testing import toy_world
    >>> def one(seed): return (yield Init(toy_world(), seed))
    >>> both = abreast([one(3), one(5)])
    >>> [job.seed for job in next(both)]
    [3, 5]
    """
    ends: dict[int, R] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(loops)))
    while answers:
        asked: dict[int, Any] = {}
        for place, answer in answers.items():
            try:
                asked[place] = loops[place].send(answer)
            except StopIteration as end:
                ends[place] = end.value
        if not asked:
            break
        wanted: dict[int, tuple[Job, ...]] = {at: jobs_in(of) for at, of in asked.items()}
        results = iter((yield tuple(job for jobs in wanted.values() for job in jobs)))
        answers = {}
        for place, jobs in wanted.items():
            got = tuple(islice(results, len(jobs)))
            answers[place] = got if isinstance(asked[place], tuple) else got[0]
    return tuple(ends[place] for place in sorted(ends))
