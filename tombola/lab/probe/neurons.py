"""Neurons of a two-layer network, selected greedily to fit its targets, and how good they are."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tombola.pieces.greedy import Reading, Selected, contributions, forward_selection
from tombola.recipes.job import Desk
from tombola.train.evaluate import evaluate
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.params import Params
from tombola.world.probe import NetworkProbe
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Picked:
    """Losses are halved squared errors on the examples selected on.

    dense: of the whole network. variance, first: V and l_1 of `theory.Selection`. losses, distinct,
    test: for each number of neurons the loss, how many different ones, and test metrics.
    dense_test: those of the whole.
    """

    dense: float
    variance: float
    first: float
    losses: list[float]
    distinct: list[int]
    test: list[dict[str, float]]
    dense_test: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class PickNeurons:
    """Select neurons of a two-layer network, with repetition, to fit one-hot targets.

    neurons: steps of the selection; a subnetwork for each. Memory: the activations, examples x
    neurons of the network.
    """

    kind: ClassVar[str] = "pick-neurons"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    seed: int
    params: Handle[Params]
    layers: tuple[Layer, ...]
    neurons: tuple[int, ...]
    examples: int

    def run(self, desk: Desk) -> Picked:
        params, output = self.params.load(), self.layers[1]
        probe, weight = NetworkProbe(self.world, self.seed), params[output.name]
        (batch,) = probe.batches(1, min(self.examples, len(self.world.train)))
        with torch.no_grad(), self.world.numerics.in_force():
            (rows,) = probe.inputs(params, output.name, batch)
            shift = params[bias] if (bias := _bias_of(output)) in params else 0.0
            target = torch.nn.functional.one_hot(batch.targets, len(weight)).to(rows.dtype) - shift
            error = (rows @ weight.T - target).double().square().sum(1).mean()
            size = (rows @ weight.T).double().square().sum(1).mean()
            count = weight.shape[1]
            unit = torch.arange(count)
            reading = Reading(rows=rows, weight=weight, unit=unit, target=target)
            atoms = contributions([reading], count, float(count))
            chosen = forward_selection(atoms, max(self.neurons))
        losses = chosen.errors / (2 * len(rows))
        return Picked(
            dense=float(error) / 2,
            variance=float(atoms.squares.mean()) / len(rows) - float(size),
            first=float(losses[0]),
            losses=[float(losses[k - 1]) for k in self.neurons],
            distinct=[int((chosen.counts(count, k) > 0).sum()) for k in self.neurons],
            test=[self._test(params, chosen, k) for k in self.neurons],
            dense_test=self._evaluated(params),
        )

    def _test(self, params: Params, chosen: Selected, steps: int) -> dict[str, float]:
        output = self.layers[1]
        share = chosen.counts(output.shape[1], steps) * (output.shape[1] / steps)
        weight: Tensor = params[output.name] * share.to(params[output.name].dtype)
        return self._evaluated(params.replaced({output.name: weight}))

    def _evaluated(self, params: Params) -> dict[str, float]:
        with self.world.numerics.in_force():
            return evaluate(self.world.network(params), self.world, self.world.test)

    def placeholder(self, pending: Any) -> Picked:
        return Picked(
            dense=0.0, variance=0.0, first=0.0, losses=[], distinct=[], test=[], dense_test={}
        )


def _bias_of(layer: Layer) -> str:
    return f"{layer.name.removesuffix('weight')}bias"
