"""Cut the units whose normalisation scales are smallest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Global
from tombola.pieces.basis import Basis, Units, counted
from tombola.pieces.by_units import check_least, emptied, keep_units, units_asked
from tombola.pieces.kind import not_a
from tombola.pieces.rule import Cut
from tombola.pieces.schedule import Target
from tombola.pieces.score.score import Need, Probe, Snapshot
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.units import Coupling, Role, Sets, UnitSet, alive, expanded


@dataclass(frozen=True, kw_only=True)
class ScaledUnits:
    """Units that are normalised, each set by one layer with a scale for each unit.

    Sets that are normalised in several places, as the stream of a residual network, are left
    whole, so that residual blocks are cut inside alone.

    Raises:
        RecipeError: there are none.
    """

    of: Basis = field(default_factory=Units)

    def sets(self, layers: tuple[Layer, ...], coupling: Callable[[], Coupling]) -> Sets:
        known = self.of.sets(layers, coupling)
        found = tuple(one for one in known if len(scales_of(one)) == 1)
        if not found:
            raise RecipeError(
                "no units have a normalisation scale of their own here: of the sets "
                f"{[one.name for one in known]} none is followed by one normalisation layer with "
                "weight and bias. Put such layers (nn.BatchNorm1d, nn.BatchNorm2d) behind the "
                "layers that are to be cut, or take another rule, such as ByUnits."
            )
        return found


def scales_of(one: UnitSet) -> list[str]:
    """The normalisation scales beside a set: `.weight` beside it, with a bias or running mean."""
    beside = set(one.tensors(Role.BESIDE))
    stems = [name.removesuffix(".weight") for name in sorted(beside) if name.endswith(".weight")]
    return [f"{stem}.weight" for stem in stems if {f"{stem}.bias", f"{stem}.running_mean"} & beside]


@dataclass(frozen=True, kw_only=True)
class ByScale:
    """Keep the units with the largest |gamma|, the scale of their normalisation.

    By rank, ties to the earlier set and lower number: exact counts also at the start, where all
    scales are equal and a threshold keeps none of them. All sets compete unless targets set counts
    or the allocation does; each keeps `least` units, since a threshold for all sets may empty one,
    after which nothing passes.

    Source: Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming
    (arXiv 1708.06519); You et al. 2020, Drawing Early-Bird Tickets (arXiv 1909.11957). Their code
    keeps what is above a threshold and drops emptied layers from the network.

    Raises:
        RecipeError: no allocation or basis, or `least` below 1.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRAINED})
    moves_weights: ClassVar[bool] = False

    basis: Basis = field(default_factory=ScaledUnits)
    allocation: Allocation = field(default_factory=Global)
    least: int = 1

    def __post_init__(self) -> None:
        for what, kind in (("basis", Basis), ("allocation", Allocation)):
            wrong = not_a(kind, getattr(self, what))
            if wrong:
                raise RecipeError(f"ByScale({what}=...): {wrong}.")
        check_least(self.least, "ByScale")

    def refuses(self, setting: Setting) -> str | None:
        return emptied(setting, self.least)

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return units_asked(self.allocation, layers, target, self.least)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        sets = self.basis.sets(at.layers, probe.coupling)
        layers = counted(self, at.layers, probe.coupling)
        shapes = {layer.name: layer.shape for layer in at.layers}
        scores = {one.name: at.end[scales_of(one)[0]].abs().reshape(one.shape) for one in sets}
        prior = alive(at.mask, sets, shapes)
        units = keep_units(scores, layers, self.asks(layers, target), prior, self.least)
        return Cut(mask=at.mask & expanded(units, sets, shapes), units=units)
