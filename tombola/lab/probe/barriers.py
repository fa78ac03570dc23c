"""What stability probes measured, and the tables and pictures of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Protocol, TypeAlias

from tombola.lab.probe.path import Walked, alphas, barrier
from tombola.lab.probe.probe import Chart, Row, Table, Value

Place: TypeAlias = tuple[str, str]
"""Split, and how statistics were handled."""

Kind: TypeAlias = tuple[str, str]
"""Arm, and noise."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two copies. walked: what was measured on the line between them; ends_exact: as found on it,
    None where it could not be."""

    walked: Mapping[Place, Walked]
    ends_exact: bool | None = None

    def errors(self, place: Place) -> list[float | None]:
        """The fraction of examples that is wrong, at every point."""
        right = self.walked[place].metrics.get("accuracy", [None])
        return [None if value is None else 1.0 - value for value in right]

    def losses(self, place: Place) -> list[float | None]:
        return self.walked[place].metrics.get("loss", [None])

    @property
    def distance(self) -> float | None:
        """Between the copies, as a fraction of how far they moved in the mean; None if neither
        did."""
        walked = next(iter(self.walked.values()))
        moved = (walked.first_moved + walked.second_moved) / 2
        return walked.apart / moved if moved else None


Pairs: TypeAlias = Mapping[int, tuple[Pair, ...]]
"""Step -> pairs of copies made there, none where one diverged."""

Found: TypeAlias = Mapping[Kind, Pairs]
"""What was found with one seed."""

At: TypeAlias = tuple[Kind, Place, int]
"""Kind, place and step: where a row of a table stands."""


def pairs_in(found: Pairs) -> list[Pair]:
    """All pairs, of whatever step."""
    return [pair for of in found.values() for pair in of]


def mean_of(values: Sequence[float | None]) -> float | None:
    """None where there is no value, or one of them is none.

    >>> mean_of([1.0, 2.0]), mean_of([1.0, None]), mean_of([])
    (1.5, None, None)
    """
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def barriers_table(found: Sequence[Found], at: Sequence[At]) -> Table:
    """Barriers, errors at the ends and distances, each the mean over a seed's pairs."""
    return Table(
        name="barriers",
        title="Barriers between copies made at step k",
        rows=tuple(
            _barriers([seed[kind][step] for seed in found], (kind, place, step))
            for kind, place, step in at
        ),
        printed=("error_barrier", "end_error"),
    )


def _barriers(seeds: Sequence[Sequence[Pair]], at: At) -> Row:
    place = at[1]
    return Row(
        place=_columns(at),
        metrics={
            "error_barrier": [mean_of([barrier(p.errors(place)) for p in of]) for of in seeds],
            "loss_barrier": [mean_of([barrier(p.losses(place)) for p in of]) for of in seeds],
            "end_error": [mean_of([_ends(p.errors(place)) for p in of]) for of in seeds],
            "distance": [mean_of([p.distance for p in of]) for of in seeds],
        },
    )


def paths_table(found: Sequence[Found], at: Sequence[At], points: int) -> Table:
    """Error and loss at every point of the paths."""
    return Table(
        name="paths",
        title="Error and loss on the way from one copy to the other",
        rows=tuple(
            _point([seed[kind][step] for seed in found], (kind, place, step), number, alpha)
            for kind, place, step in at
            for number, alpha in enumerate(alphas(points))
        ),
    )


def _point(seeds: Sequence[Sequence[Pair]], at: At, number: int, alpha: float) -> Row:
    place = at[1]
    return Row(
        place={**_columns(at), "alpha": alpha},
        metrics={
            "error": [mean_of([p.errors(place)[number] for p in of]) for of in seeds],
            "loss": [mean_of([p.losses(place)[number] for p in of]) for of in seeds],
        },
    )


class Settings(Protocol):
    """What pictures need to know of a probe."""

    @property
    def noises(self) -> tuple[str, ...]: ...

    @property
    def statistics(self) -> tuple[str, ...]: ...

    @property
    def threshold(self) -> float: ...


def barrier_chart(noise: str, place: Place, settings: Settings) -> Chart:
    """Error barriers by step, a line for each arm, with the threshold of stability."""
    split, how = place
    return Chart(
        title=f"Error barrier, {split} data, by the step of the copies"
        f"{_beside(noise, how, settings)}",
        table="barriers",
        x="step",
        y="error_barrier",
        line="arm",
        where={"noise": noise, "split": split, "statistics": how},
        level=(settings.threshold, "unstable from here up"),
    )


def path_chart(kind: Kind, place: Place, settings: Settings) -> Chart:
    """Error on the way from one copy to another, a line for each step."""
    (arm, noise), (split, how) = kind, place
    return Chart(
        title=f"Error on the way, {split} data, {arm}{_beside(noise, how, settings)}",
        table="paths",
        x="alpha",
        y="error",
        line="step",
        where={"arm": arm, "noise": noise, "split": split, "statistics": how},
    )


def _beside(noise: str, how: str, settings: Settings) -> str:
    """What of several a picture is about; nothing where there is one alone."""
    named = {f", noise {noise}": settings.noises, f", statistics {how}": settings.statistics}
    return "".join(said for said, of in named.items() if len(of) > 1)


def _columns(at: At) -> dict[str, Value]:
    (arm, noise), (split, how), step = at
    return {"arm": arm, "noise": noise, "split": split, "statistics": how, "step": step}


def _ends(values: Sequence[float | None]) -> float | None:
    return mean_of([values[0], values[-1]])
