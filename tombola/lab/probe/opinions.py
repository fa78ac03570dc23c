"""Do networks answer alike, and are several together better? A job on the test split."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor

from tombola.errors import CallError
from tombola.recipes.job import Desk
from tombola.train.evaluate import CHUNKS
from tombola.values.handle import Handle
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Told:
    """disagree: `one|other` -> fraction of the test split that the two put into different classes.
    alone: accuracy of each network. together: accuracy of the mean of the class probabilities of
    the first 1, 2, .. networks of each group."""

    disagree: dict[str, float]
    alone: dict[str, float]
    together: dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """What classifiers say about every example of the test split.

    networks: by name. groups: names of the members of each ensemble, in order.

    Raises:
        CallError: a group names a network there is not.
    """

    kind: ClassVar[str] = "opinions"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    networks: Mapping[str, Handle[Params]]
    groups: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        named = {name for members in self.groups.values() for name in members}
        if not named <= set(self.networks):
            raise CallError(f"Opinions: no networks {sorted(named - set(self.networks))}.")

    def run(self, desk: Desk) -> Told:
        targets = self.world.test.targets
        chances = {}
        for name in sorted(self.networks):
            chances[name] = class_probabilities(self.world, self.networks[name].load())
            desk.tick(0, {})
        said = {name: of.argmax(dim=1) for name, of in chances.items()}
        return Told(
            disagree={
                f"{one}|{other}": _share(said[one] != said[other])
                for one, other in combinations(sorted(said), 2)
            },
            alone={name: _share(of == targets) for name, of in said.items()},
            together={
                group: _together([chances[name] for name in members], targets)
                for group, members in self.groups.items()
            },
        )

    def placeholder(self, pending: Any) -> Told:
        pairs = combinations(sorted(self.networks), 2)
        return Told(
            disagree={f"{one}|{other}": 0.0 for one, other in pairs},
            alone=dict.fromkeys(sorted(self.networks), 0.0),
            together={group: [0.0] * len(members) for group, members in self.groups.items()},
        )


def class_probabilities(world: World, params: Params) -> Tensor:
    """(examples, classes), float64: of the test split, by softmax, in inference mode."""
    numerics = world.numerics
    split, found = world.test.on(numerics.torch_device), []
    with numerics.in_force(), torch.no_grad(), borrowed_generators():
        network = numerics.place(world.network(params)).eval()
        for index in torch.arange(len(split)).split(CHUNKS[numerics.torch_device.type]):
            outputs = network(world.batch(split, index).inputs)
            found.append(outputs.double().softmax(dim=1).cpu())
    return torch.cat(found)


def _together(chances: Sequence[Tensor], targets: Tensor) -> list[float]:
    sums = torch.stack(list(chances)).cumsum(dim=0)
    return [_share(of.argmax(dim=1) == targets) for of in sums]


def _share(these: Tensor) -> float:
    value = float(these.double().mean())
    assert math.isfinite(value)
    return value
