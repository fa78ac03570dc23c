"""Sensitivity: which layer minds being cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tombola.errors import CallError
from tombola.lab.probe.path import some
from tombola.lab.probe.probe import Chart, Row, Shown, Table
from tombola.lab.question import Question
from tombola.pieces.schedule import round_half_up
from tombola.pieces.select import largest
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Init, Train
from tombola.train.evaluate import evaluate
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """Metrics of the whole network, and at each density: name -> value, None where not finite."""

    whole: dict[str, float | None]
    cut: list[dict[str, float | None]]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Cut one tensor of a network to some densities, the smallest weights first, and evaluate each.

    Each keeps round_half_up(n density) of its n weights, ties to the lower index; nothing is
    retrained. On validation data, at most `examples` of it.
    """

    kind: ClassVar[str] = "scan"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    params: Handle[Params]
    layer: Layer
    densities: tuple[float, ...]
    examples: int

    def run(self, desk: Desk) -> Scanned:
        params, layer = self.params.load(), self.layer
        size, all_there = params[layer.name].abs(), FULL.of(layer.name, layer.shape)
        counts = [round_half_up(density * layer.count) for density in self.densities]
        masks = [Mask({layer.name: largest(size, all_there, count)}) for count in counts]
        whole, *cut = (self._metrics(mask.apply(params)) for mask in (FULL, *masks))
        return Scanned(whole=whole, cut=cut)

    def _metrics(self, params: Params) -> dict[str, float | None]:
        split = some(self.world.validation, self.examples)
        with self.world.numerics.in_force():
            found = evaluate(self.world.network(params), self.world, split)
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def placeholder(self, pending: Any) -> Scanned:
        return Scanned(whole={}, cut=[])


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What each layer of the trained dense network loses when it alone is cut, without retraining.

    By loss and by whatever else the world measures, on validation data, so that what it says may
    choose densities. densities: fractions of one layer's weights that stay. examples: at most so
    many. A layer that minds little at one density may do so for being large: `kept` says how many
    weights each density leaves.

    Source: Li, Kadav, Durdanovic, Samet & Graf 2017 (arXiv 1608.08710), for filters;
    here single weights, by magnitude.

    Raises:
        CallError: no density, one outside (0, 1), or no examples.
    """

    name: str = field(default="sensitivity", repr=False, metadata={"identity": False})
    summary: str = field(
        default="which layer of the trained dense network minds being cut, alone and not retrained",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="Li, Kadav, Durdanovic, Samet & Graf 2017, Pruning Filters for Efficient ConvNets "
        "(arXiv 1608.08710); here single weights",
        repr=False,
        metadata={"identity": False},
    )
    densities: tuple[float, ...] = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
    examples: int = 10_000

    def __post_init__(self) -> None:
        if not self.densities or not all(0 < density < 1 for density in self.densities):
            raise CallError(
                f"Sensitivity(densities={self.densities!r}): want fractions kept in (0, 1)."
            )
        if self.examples < 1:
            raise CallError(f"Sensitivity(examples={self.examples}): want at least one.")

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        return None

    def loop(self, question: Question, seed: int) -> Loop[tuple[Scanned, ...] | None]:
        """See `Probe`. Of the dense training of the seed, which most studies have."""
        world = question.world
        init = (yield Init(world, seed)).params
        whole = Train(world, seed, Point(init, None, 0), FULL, world.steps, world.objective)
        dense = yield whole
        if dense.diverged:
            return None
        scanned: tuple[Scanned, ...] = yield tuple(
            Scan(
                world=world,
                params=dense.params,
                layer=layer,
                densities=self.densities,
                examples=self.examples,
            )
            for layer in question.recipe.layers(world)
        )
        return scanned

    def show(self, question: Question, found: Sequence[tuple[Scanned, ...] | None]) -> Shown:
        """See `Probe`."""
        layers = question.recipe.layers(question.world)
        names = [metric.name for metric in question.world.objective.metrics]
        rows = tuple(
            Row(
                place={
                    "tensor": layer.name,
                    "density": density,
                    "kept": round_half_up(density * layer.count),
                },
                metrics={
                    f"{name}_change": [_change(seed, at, which, name) for seed in found]
                    for name in names
                },
            )
            for at, layer in enumerate(layers)
            for which, density in enumerate(self.densities)
        )
        changes = tuple(f"{name}_change" for name in names)
        table = Table(
            name="sensitivity",
            title="What cutting one layer alone changes, on validation data",
            rows=rows,
            printed=changes,
        )
        charts = tuple(
            Chart(
                title=f"{name}: change when one layer is cut, by what it keeps",
                table="sensitivity",
                x="density",
                y=f"{name}_change",
                line="tensor",
                level=(0.0, "nothing cut"),
            )
            for name in names
        )
        note = "The dense network of each seed, the smallest weights of one layer cut; no training."
        return Shown(tables=(table,), charts=charts, notes=(note,))


def _change(scanned: tuple[Scanned, ...] | None, layer: int, which: int, name: str) -> float | None:
    """Of a metric, from the whole network to one layer cut; None where either has no value."""
    if scanned is None:
        return None
    before, after = scanned[layer].whole[name], scanned[layer].cut[which][name]
    return None if before is None or after is None else after - before


SENSITIVITY = Sensitivity()
