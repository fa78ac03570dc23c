"""The straight line between two trained networks: a job, and the barrier on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tombola.errors import CallError
from tombola.recipes.job import Desk
from tombola.train.evaluate import CHUNKS, evaluate
from tombola.values.handle import Handle
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, stream
from tombola.world.calling import called
from tombola.world.data.split import Split
from tombola.world.world import World, fill

SPLITS = ("train", "validation", "test")
STATISTICS = ("interpolated", "recomputed")


@dataclass(frozen=True, kw_only=True)
class Walked:
    """What was measured on a line.

    metrics: of the world's objective, each with a value for every point, None where it is not
    finite. apart, first_moved, second_moved: Euclidean distances between the two networks, and of
    each from the start they share, over all parameters that are kept; no buffers.
    """

    metrics: dict[str, list[float | None]]
    apart: float
    first_moved: float
    second_moved: float


@dataclass(frozen=True, kw_only=True)
class Path:
    """Evaluate the networks on the straight line from one network to another.

    Source: Frankle, Dziugaite, Roy & Carbin 2020 (arXiv 1912.05671), section 2: points evenly
    spaced, both ends among them (30 there). Evci et al. 2022 (arXiv 2010.03533) go `beyond` both
    ends by a fifth of the way, in 29 points.

    first, second: the ends. start, mask: what both were trained from. split: train, validation or
    test; at most `examples` of them, the same for every network, drawn once. statistics: those of
    normalisation layers lie on the line as the weights do (`interpolated`), or are computed anew at
    every point, ends too, from those examples of the training split, unaugmented (`recomputed`).
    The paper does not repair statistics.

    Raises:
        CallError: a split or a handling of statistics that there is not, fewer than two points.
    """

    kind: ClassVar[str] = "path"
    version: ClassVar[int] = 2
    steps: ClassVar[int] = 0

    world: World
    first: Handle[Params]
    second: Handle[Params]
    start: Handle[Params]
    mask: Handle[Mask] = FULL
    split: str = "test"
    statistics: str = "interpolated"
    points: int = 30
    examples: int = 10_000
    beyond: float = 0.0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise CallError(f"Path(split={self.split!r}): want one of {', '.join(SPLITS)}.")
        if self.statistics not in STATISTICS:
            raise CallError(
                f"Path(statistics={self.statistics!r}): want {' or '.join(STATISTICS)}."
            )
        if self.points < 2:
            raise CallError(f"Path(points={self.points}): want both ends at least, so 2 or more.")
        if self.examples < 1:
            raise CallError(f"Path(examples={self.examples}): want 1 or more.")
        if not 0.0 <= self.beyond < math.inf:
            raise CallError(f"Path(beyond={self.beyond}): want a part of the way, 0 or more.")

    def run(self, desk: Desk) -> Walked:
        world, first, second = self.world, self.first.load(), self.second.load()
        found: dict[str, list[float | None]] = {m.name: [] for m in world.objective.metrics}
        with world.numerics.in_force():
            network = world.new_network(0)
            trained = [name for name, _ in network.named_parameters()]
            split, seen = some(getattr(world, self.split), self.examples), None
            if self.statistics == "recomputed":
                seen = some(world.train, self.examples)
            for place in alphas(self.points, self.beyond):
                fill(network, between(first, second, place))
                if seen is not None:
                    recompute_statistics(network, world, seen)
                for name, value in evaluate(network, world, split).items():
                    found[name].append(value if math.isfinite(value) else None)
                desk.tick(0, {})  # a sign of life: long walks are not taken over by others
        start, mask = self.start.load(), self.mask.load()
        return Walked(
            metrics=found,
            apart=distance(first, second, trained, mask),
            first_moved=distance(first, start, trained, mask),
            second_moved=distance(second, start, trained, mask),
        )

    def placeholder(self, pending: Any) -> Walked:
        return Walked(metrics={}, apart=0.0, first_moved=0.0, second_moved=0.0)


def alphas(points: int, beyond: float = 0.0) -> list[float]:
    """Evenly spaced from 0 to 1, both among them; or from so far before 0 to as far after 1.

    >>> alphas(3), alphas(8, 0.2)
    ([0.0, 0.5, 1.0], [-0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    """
    if not beyond:
        return [place / (points - 1) for place in range(points)]
    step = (1.0 + 2.0 * beyond) / (points - 1)
    return [round(place * step - beyond, 12) + 0.0 for place in range(points)]


def between(first: Mapping[str, Tensor], second: Mapping[str, Tensor], place: float) -> Params:
    """The network at a place of the line: exactly `first` at 0 and `second` at 1, and where the two
    are equal, that everywhere. Whole numbers (counters) are those of `first`."""
    return Params(
        {
            name: torch.lerp(one, second[name], place) if one.is_floating_point() else one
            for name, one in first.items()
        }
    )


def barrier(values: Sequence[float | None]) -> float | None:
    """The largest value on a line less the mean of its ends, in the unit of the values.

    Source: Frankle et al. 2020 (arXiv 1912.05671), section 2, `linear interpolation instability`;
    of the error there. Not less the line between the ends, nor the larger end, as in others' work.
    None where a value is none.

    >>> barrier([0.25, 0.75, 0.25]), barrier([0.25, 0.25]), barrier([0.25, None])
    (0.5, 0.0, None)
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return max(known) - mean([known[0], known[-1]])


def height(values: Sequence[float | None], places: Sequence[float]) -> float | None:
    """The largest value above the straight line between the ends, from 0 to 1; 0 where none is.

    Source: Evci et al. 2022 (arXiv 2010.03533), of training loss. values: at these places, 0 and 1
    among them; what lies beyond does not count. None where a value between is none, or there are
    no values.

    >>> height([9.0, 1.0, 2.5, 2.0, 9.0], [-0.5, 0.0, 0.5, 1.0, 1.5])
    1.0
    """
    pairs = zip(places, values, strict=True)
    between = {place: value for place, value in pairs if 0.0 <= place <= 1.0}
    known = {place: value for place, value in between.items() if value is not None}
    if not known or len(known) < len(between):
        return None
    first, last = known[0.0], known[1.0]
    return max(value - (first + place * (last - first)) for place, value in known.items())


def distance(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    names: Sequence[str],
    mask: Mask = FULL,
) -> float:
    """Euclidean distance over what is kept of the tensors named; those a network has once under
    several names count once."""
    squares = []
    for name in (name for name in names if name in first):
        squared = (first[name].double() - second[name].double()).square()
        squares.append(float(squared[mask.of(name, squared.shape)].sum()))
    return math.sqrt(math.fsum(squares))


def some(split: Split, examples: int) -> Split:
    """So many examples at most, always the same."""
    if len(split) <= examples:
        return split
    order = torch.randperm(len(split), generator=stream(0, "path"))
    return split.part(order[:examples].sort().values)


def recompute_statistics(network: nn.Module, world: World, seen: Split) -> None:
    """Set the running statistics of every normalisation layer to those of these examples, as the
    network computes them now: means over chunks of equal size, the layers below in training mode
    too. Everything else (dropout) stays in inference mode."""
    layers = [m for m in network.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    if not layers:
        return
    was_training, momenta = network.training, [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over chunks
        layer.train()
    with torch.no_grad(), borrowed_generators():
        for index in torch.arange(len(seen)).tensor_split(math.ceil(len(seen) / CHUNKS["cpu"])):
            called(network, world.batch(seen, index).inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.train(was_training)
