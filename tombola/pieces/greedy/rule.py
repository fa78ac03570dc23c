"""Build each layer up from nothing: the units that together come nearest to what it computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Uniform
from tombola.pieces.basis import Basis, Units, counted
from tombola.pieces.by_units import units_asked
from tombola.pieces.greedy.contributions import Reading, contributions
from tombola.pieces.greedy.forward import Atoms, Selected, forward_selection
from tombola.pieces.kind import not_a
from tombola.pieces.rule import Cut, too_few
from tombola.pieces.schedule import Target
from tombola.pieces.score.score import Need, Probe, Snapshot
from tombola.pieces.select import largest
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.units import Role, Slices, UnitSet, alive, expanded

CHUNK = (
    50  # examples at once, so that patches of images are not all in memory before some are drawn
)


class Aim(Enum):
    """What the layer that reads the units is to come near to."""

    OUTPUTS = "what it computed before the cut"
    LABELS = "the one-hot classes"


@dataclass(frozen=True, kw_only=True)
class GreedySelection:
    """Select units one by one, set by set from the input on; the layers that read them are matched.

    With N units left in a set, each layer that reads them computes the mean of N atoms: N times
    what a unit adds. A step takes the atom that brings the mean of all taken so far nearest to the
    aim, exactly (`forward_selection`), the sets before being as already cut. A unit may be taken
    again; with m of k steps, the weights that read it are multiplied by N m / k. So the rule
    changes weights, and what is left works without retraining.

    Targets count units, n for each set. Steps go on until n different ones are taken, at most
    `patience` n; places left then are filled with those that would be nearest alone, at weight 0:
    they count as kept, and training may use them.

    aim: `LABELS` is for networks with one set of units, read by the last layer, and the objective
    SquaredError. repetition: False takes each once, as the authors' code of the deep version does.
    allocation: how many of each set, where the schedule has no counts. examples: distinct training
    examples, in whole batches of 50. rows: at most so many inputs of a layer (an example has one,
    an image one for each position of a convolution), drawn at random. Memory: rows x fan-in of a
    layer.

    Source: Ye et al. 2020, Good Subnetworks Provably Exist (arXiv 2003.01794), for LABELS and the
    form of the network; Ye, Wu & Liu 2020, Greedy Optimization Provably Wins the Lottery (arXiv
    2010.15969), for imitating a layer. In their code a layer grows until the accuracy of the whole
    network is back, by trying a few channels on one batch; here it has a number of units, and every
    unit is tried on the same inputs.

    Raises:
        RecipeError: a field out of range, or no allocation or basis.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BATCHES})
    moves_weights: ClassVar[bool] = True

    aim: Aim = Aim.OUTPUTS
    basis: Basis = field(default_factory=Units)
    allocation: Allocation = field(default_factory=Uniform)
    repetition: bool = True
    patience: int = 4
    examples: int = 1_000
    rows: int = 20_000

    def __post_init__(self) -> None:
        for what in ("patience", "examples", "rows"):
            value = getattr(self, what)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise RecipeError(
                    f"GreedySelection({what}={value!r}): want a whole number, 1 or more."
                )
        for what, kind in (("basis", Basis), ("allocation", Allocation)):
            wrong = not_a(kind, getattr(self, what))
            if wrong:
                raise RecipeError(f"GreedySelection({what}=...): {wrong}.")
        if not isinstance(self.aim, Aim):
            raise RecipeError(f"GreedySelection(aim={self.aim!r}): want one of {list(Aim)}.")

    def refuses(self, setting: Setting) -> str | None:
        if self.examples > setting.examples:
            return too_few("GreedySelection", self.examples, setting)
        if isinstance(self.allocation.counts(setting.counted, 0.5), int):
            return (
                f"GreedySelection builds one set of units after another, and "
                f"{type(self.allocation).__name__} does not say how many each is to have; take "
                "Uniform()."
            )
        if self.aim is Aim.LABELS and setting.objective != "SquaredError":
            return (
                f"GreedySelection(aim=Aim.LABELS) fits one-hot classes by squared error, the "
                f"world's objective is {setting.objective}; take Aim.OUTPUTS, or SquaredError()."
            )
        if self.aim is Aim.LABELS and len(setting.counted) != 1:
            return (
                f"GreedySelection(aim=Aim.LABELS) is for one set of units, read by the last layer; "
                f"here are {len(setting.counted)}. Take Aim.OUTPUTS."
            )
        return None

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int]:
        asked = units_asked(self.allocation, layers, target, least=1)
        assert not isinstance(asked, int)  # refused
        return asked

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        sets = self.basis.sets(at.layers, probe.coupling)
        shapes = {layer.name: layer.shape for layer in at.layers}
        prior = alive(at.mask, sets, shapes)
        asked = self.asks(counted(self, at.layers, probe.coupling), target)
        now, chosen = at.end, dict[str, Tensor]()
        for one in sets:
            left = prior.of(one.name, one.shape).reshape(-1)
            taken, kept = self._build(one, left, asked[one.name], at, now, probe)
            factors = taken.double() * int(left.sum()) / int(taken.sum())
            now = _rescaled(now, one, factors)
            chosen[one.name] = kept.reshape(one.shape)
        units = Mask(chosen)
        mask = at.mask & expanded(units, sets, shapes)
        return Cut(mask=mask, params=mask.apply(now), units=units)

    def _build(
        self, one: UnitSet, left: Tensor, asked: int, at: Snapshot, now: Params, probe: Probe
    ) -> tuple[Tensor, Tensor]:
        """How often each unit of a set is taken, int64 (units,), and which are kept, bool."""
        if asked > int(left.sum()):
            raise RecipeError(
                f"the target keeps {asked} units of {one.name!r}, only {int(left.sum())} are left: "
                "a later round may not ask for more than the one before."
            )
        readings = [
            self._reading(slices, at, now, probe)
            for slices in one.slices
            if slices.role is Role.READ
        ]
        atoms = contributions(readings, one.count, float(left.sum()))
        found = self._selected(atoms, left, asked)
        taken = found.counts(one.count)
        alone = 2.0 * atoms.linear - atoms.squares  # |y|^2 - |phi - y|^2
        fill = largest(alone, left & (taken == 0), asked - int((taken > 0).sum()))
        return taken, (taken > 0) | fill

    def _selected(self, atoms: Atoms, left: Tensor, asked: int) -> Selected:
        steps = asked * self.patience if self.repetition else asked
        return forward_selection(
            atoms, steps, distinct=asked, repetition=self.repetition, among=left
        )

    def _reading(self, slices: Slices, at: Snapshot, now: Params, probe: Probe) -> Reading:
        """A layer that reads units: its inputs as the sets before are cut, and its aim."""
        name, dense, current = slices.tensor, at.end[slices.tensor], now[slices.tensor]
        if slices.unit.shape[0] != 1:
            raise RecipeError(f"GreedySelection: {name!r} does not read units by its columns.")
        unit = slices.unit.expand(1, *dense.shape[1:]).reshape(-1)
        rows, before, classes = self._fed(name, at.end, now, probe)
        weight = current.flatten(1)
        if self.aim is Aim.LABELS:
            wanted = one_hot(classes, len(dense)).to(rows.dtype)
            bias = at.end.get(f"{name.removesuffix('weight')}bias")
            wanted = wanted if bias is None else wanted - bias
        else:
            wanted = before @ dense.flatten(1).T
        inside = unit >= 0
        fixed = rows[:, ~inside] @ weight[:, ~inside].T
        return Reading(
            rows=rows[:, inside],
            weight=weight[:, inside],
            unit=unit[inside],
            target=wanted - fixed,
        )

    def _fed(
        self, name: str, dense: Params, now: Params, probe: Probe
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of a layer under two sets of weights, (rows, fan-in) each: as cut so far, as they
        were; and the classes of the examples."""
        chunk = min(CHUNK, self.examples)
        batches = probe.batches(self.examples // chunk, chunk)
        least = -(-self.rows // len(batches))
        parts = []
        for number, batch in enumerate(batches):
            both = [probe.inputs(params, name, batch) for params in (now, dense)]
            if both[0].shape[0] != 1:
                raise RecipeError(
                    f"GreedySelection: {name!r} is a convolution in {both[0].shape[0]} groups, "
                    "whose channels do not add up to one output; leave it out of the scope."
                )
            order = torch.arange(both[0].shape[1])
            if len(order) > least:
                draw = probe.stream("greedy", name, number)
                order = torch.randperm(len(order), generator=draw)[:least]
            parts.append((*(rows[0][order] for rows in both), batch.targets))
        rows, before, classes = (torch.cat(of) for of in zip(*parts, strict=True))
        return rows, before, classes


def _rescaled(params: Params, one: UnitSet, factors: Tensor) -> Params:
    """The weights that read each unit, multiplied by its factor, float64 (units,)."""
    changed = {}
    for slices in one.slices:
        if slices.role is Role.READ:
            weight = params[slices.tensor]
            factor = factors[slices.unit.clamp(min=0)].masked_fill(slices.unit < 0, 1.0)
            changed[slices.tensor] = (weight.double() * factor).to(weight.dtype)
    return params.replaced(changed)
