"""Effective density: what is left of a ticket without the weights that are cut off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, ClassVar, TypeAlias

from tombola.lab.probe.probe import Chart, Row, Shown, Table, Value, finished
from tombola.lab.question import Question
from tombola.lab.verdict import TICKET
from tombola.pieces.effective import effective
from tombola.recipes.job import Desk, Loop
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.world.probe import NetworkProbe
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Weights by tensor: those kept, and those of them on a way from an input to an output."""

    kept: dict[str, int]
    live: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Follow a mask through its network. seed: of the positive weights that flow is measured with.
    params: of a network with this mask, for its names and shapes."""

    kind: ClassVar[str] = "trace"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    seed: int
    layers: tuple[Layer, ...]
    mask: Handle[Mask]
    params: Handle[Params]

    def run(self, desk: Desk) -> Traced:
        mask, probe = self.mask.load(), NetworkProbe(self.world, self.seed)
        with self.world.numerics.in_force():
            live = effective(mask, self.layers, self.params.load(), probe)
        kept, left = (
            {layer.name: one.kept(layer.name, layer.count) for layer in self.layers}
            for one in (mask, live)
        )
        return Traced(kept=kept, live=left)

    def placeholder(self, pending: Any) -> Traced:
        return Traced(kept={}, live={})


Place: TypeAlias = tuple[str, int]
"""Arm, and round."""

Found: TypeAlias = Mapping[Place, tuple[Traced, ...]]
"""What was traced at each place; more than one where a control is drawn more than once."""


@dataclass(frozen=True, kw_only=True)
class Effective:
    """Of the kept weights of each arm and round, how many lie on a way from input to output.

    A weight into a unit whose every output is cut does nothing, and so one out of a unit without
    inputs. Criteria that look at each weight alone leave many such at low densities; two tickets of
    one density may then differ in how much of a network they are. Trains nothing.
    """

    name: str = field(default="effective", repr=False, metadata={"identity": False})
    summary: str = field(
        default="density without the kept weights that are cut off from inputs or outputs",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="Tanaka, Kunin, Yamins & Ganguli 2020 (arXiv 2006.05467), for the pass that finds "
        "them",
        repr=False,
        metadata={"identity": False},
    )

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        return None

    def loop(self, question: Question, seed: int) -> Loop[Found]:
        """See `Probe`."""
        places: list[Place] = []
        jobs: list[Trace] = []
        for arm in (TICKET, *question.arms):
            for turn in (yield from finished(question, arm, seed)):
                world = turn.job.world
                places.append((arm, turn.target.round))
                jobs.append(
                    Trace(
                        world=world,
                        seed=seed,
                        layers=question.recipe.layers(world),
                        mask=turn.end.mask,
                        params=turn.job.begin.params,
                    )
                )
        results = yield tuple(jobs)
        found: dict[Place, tuple[Traced, ...]] = {}
        for place, traced in zip(places, results, strict=True):
            found[place] = (*found.get(place, ()), traced)
        return found

    def show(self, question: Question, found: Sequence[Found]) -> Shown:
        """See `Probe`."""
        arms = [TICKET, *question.arms]
        places = sorted(
            {place for seed in found for place in seed}, key=lambda at: (arms.index(at[0]), at[1])
        )
        whole = tuple(_row(question, found, at) for at in places)
        names = [layer.name for layer in question.recipe.layers(question.world)]
        by_tensor = tuple(_row(question, found, at, name) for at in places for name in names)
        return Shown(
            tables=(
                Table(
                    name="effective",
                    title="Density, and that of weights on a way from input to output",
                    rows=whole,
                    printed=("effective", "cut_off"),
                ),
                Table(name="tensors", title="The same, tensor by tensor", rows=by_tensor),
            ),
            charts=(
                Chart(
                    title="Effective density, by density",
                    table="effective",
                    x="density",
                    y="effective",
                    line="arm",
                ),
            ),
            notes=("cut_off is the fraction of kept weights that are on no such way.",),
        )


def _row(question: Question, found: Sequence[Found], at: Place, name: str | None = None) -> Row:
    """Of one place; of one tensor, or of all in scope."""

    def of(weights: Mapping[str, int]) -> int:
        return sum(weights.values()) if name is None else weights[name]

    seeds = [seed.get(at, ()) for seed in found]
    sizes = {layer.name: layer.count for layer in question.recipe.layers(question.world)}
    kept = next(of(one.kept) for traced in seeds for one in traced)
    tensor: dict[str, Value] = {} if name is None else {"tensor": name}
    return Row(
        place={"arm": at[0], "round": at[1], **tensor, "density": kept / of(sizes)},
        metrics={
            "effective": [_mean([of(one.live) / of(sizes) for one in traced]) for traced in seeds],
            "cut_off": [
                _mean([1 - of(one.live) / of(one.kept) for one in traced if of(one.kept)])
                for traced in seeds
            ],
        },
    )


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


EFFECTIVE = Effective()
