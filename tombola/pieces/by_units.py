"""Cut whole units: the scores of their weights, pooled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Global
from tombola.pieces.basis import Basis, Units, counted
from tombola.pieces.kind import not_a
from tombola.pieces.rule import Cut, too_few
from tombola.pieces.schedule import Target, round_half_up
from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of
from tombola.pieces.select import keep_top, largest
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.units import Role, Sets, alive, expanded, summed


class Pool(Enum):
    """How the scores of a unit's weights become one."""

    SUM = "sum"
    L2 = "the root of the sum of squares"


@dataclass(frozen=True, kw_only=True)
class ByUnits:
    """Keep the units of highest score: per set where the target sets counts, else as allocated.

    A cut unit loses all weights in scope that make it or read it, so that it can be removed.
    Targets count units; which weights that leaves is known after the cut.

    basis: what is kept or cut whole. pool, roles: a unit's score is that of its weights in these
    roles, summed, or the root of their sum of squares. relative: divided by the mean size of the
    set's scores, so that sets of large units and of small ones can be ranked together; within a set
    it changes nothing. least: units that every set keeps whatever is asked.

    Source: Li et al. 2017, Pruning Filters for Efficient ConvNets (arXiv 1608.08710), section 3.1,
    for the sum of |w| over a filter (roles=(Role.MADE,)); Fang et al. 2023 (arXiv 2301.12900) for
    pooling over all coupled tensors and the division by the mean of the group. There tensors that
    hold a number for each unit (normalisation) are pooled as well; here, weights in scope alone.

    Raises:
        RecipeError: what is given is no score, allocation or basis; no role; `least` below 1.
    """

    moves_weights: ClassVar[bool] = False

    score: Score
    basis: Basis = field(default_factory=Units)
    allocation: Allocation = field(default_factory=Global)
    pool: Pool = Pool.SUM
    roles: tuple[Role, ...] = (Role.MADE, Role.READ)
    relative: bool = True
    least: int = 1

    def __post_init__(self) -> None:
        kinds: dict[str, type] = {"score": Score, "basis": Basis, "allocation": Allocation}
        for what, kind in kinds.items():
            wrong = not_a(kind, getattr(self, what))
            if wrong:
                raise RecipeError(f"ByUnits({what}=...): {wrong}.")
        if Role.MADE not in self.roles and Role.READ not in self.roles:
            raise RecipeError(f"ByUnits(roles={self.roles}): want Role.MADE, Role.READ or both.")
        check_least(self.least, "ByUnits")

    @property
    def needs(self) -> frozenset[Need]:
        return self.score.needs

    def refuses(self, setting: Setting) -> str | None:
        wanted = examples_of(self.score)
        if wanted > setting.examples:
            return too_few(type(self.score).__name__, wanted, setting)
        return emptied(setting, self.least)

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return units_asked(self.allocation, layers, target, self.least)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        sets = self.basis.sets(at.layers, probe.coupling)
        layers = counted(self, at.layers, probe.coupling)
        shapes = {layer.name: layer.shape for layer in at.layers}
        scores = self._pooled(self.score(at, probe), sets)
        prior = alive(at.mask, sets, shapes)
        units = keep_units(scores, layers, self.asks(layers, target), prior, self.least)
        return Cut(mask=at.mask & expanded(units, sets, shapes), units=units)

    def _pooled(self, scores: Mapping[str, Tensor], sets: Sets) -> dict[str, Tensor]:
        found = {}
        for one in sets:
            total = torch.zeros(one.count, dtype=torch.float64)
            for part in one.slices:
                if part.role in self.roles and part.tensor in scores:
                    values = scores[part.tensor].double()
                    values = values.square() if self.pool is Pool.L2 else values
                    total += summed(values, part.unit, one.count)
            total = total.sqrt() if self.pool is Pool.L2 else total
            if self.relative:
                total = total / total.abs().mean().clamp(min=torch.finfo(torch.float64).tiny)
            found[one.name] = total.reshape(one.shape)
        return found


def check_least(least: object, where: str) -> None:
    """Raise RecipeError unless every set keeps a unit at least."""
    if not isinstance(least, int) or isinstance(least, bool) or least < 1:
        raise RecipeError(
            f"{where}(least={least!r}): want a whole number, 1 or more; a set without units would "
            "cut the network in two."
        )


def units_asked(
    allocation: Allocation, layers: tuple[Layer, ...], target: Target, least: int
) -> Mapping[str, int] | int:
    """Of each set, or in all, as the target or the allocation says; but `least` of every set, or
    all it has. layers: the sets, as counted."""
    floors = {layer.name: min(least, layer.count) for layer in layers}
    asked: Mapping[str, int] | int = (
        allocation.counts(layers, target.density) if target.counts is None else target.counts
    )
    if isinstance(asked, int):
        return max(asked, sum(floors.values()))
    return {name: max(asked[name], floor) for name, floor in floors.items()}


def emptied(setting: Setting, least: int) -> str | None:
    """Why a target leaves some sets with fewer than `least` units, or None."""
    total = sum(layer.count for layer in setting.counted)
    fewest = sum(min(least, layer.count) for layer in setting.counted)
    for target in setting.targets:
        asked = round_half_up(target.density * total)
        if target.counts is None and asked < fewest:
            names = ", ".join(layer.name for layer in setting.counted[:5])
            return (
                f"round {target.round} keeps {asked} of {total} units, so that some of the "
                f"{len(setting.counted)} sets ({names}, ..) would be emptied; each keeps at least "
                f"{least}. Ask for a density of {fewest / total:.3g} or more."
            )
    return None


def keep_units(
    scores: Mapping[str, Tensor],
    layers: tuple[Layer, ...],
    asked: Mapping[str, int] | int,
    prior: Mask,
    least: int,
) -> Mask:
    """The mask over units that keeps those of highest score of what `prior` keeps; exact.

    layers: the sets, as counted. asked: of each set, or in all, where each set keeps `least` (or
    all it has) whatever the others score. Ties go to the earlier set, then the lower number.

    Raises:
        RecipeError: more is asked for than is left; or a score is missing, misshapen, not finite.

    Example:
        >>> pair = tuple(Layer(name=n, shape=(2,), kind="linear", rate=.8) for n in "ab")
        >>> scores = {"a": torch.tensor([5., 4.]), "b": torch.tensor([1., 2.])}
        >>> found = keep_units(scores, pair, 2, Mask({}), least=1)
        >>> found["a"], found["b"]
        (tensor([ True, False]), tensor([False,  True]))
    """
    if not isinstance(asked, int):
        return keep_top(scores, layers, asked, prior)
    there = {layer.name: prior.kept(layer.name, layer.count) for layer in layers}
    floor = keep_top(scores, layers, {n: min(least, left) for n, left in there.items()}, prior)
    first = torch.cat([floor.of(x.name, x.shape).reshape(-1) for x in layers])
    left = torch.cat([prior.of(x.name, x.shape).reshape(-1) for x in layers])
    if asked > int(left.sum()):
        raise RecipeError(
            f"the target keeps {asked} units of all sets together, only {int(left.sum())} are "
            "left: a later round may not ask for more than the one before."
        )
    values = torch.cat([scores[x.name].reshape(-1).double() for x in layers])
    best = first | largest(values, left & ~first, asked - int(first.sum()))
    parts = best.split([layer.count for layer in layers])
    return Mask({x.name: part.reshape(x.shape) for x, part in zip(layers, parts, strict=True)})
