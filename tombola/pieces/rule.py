"""From a trained network to a cut: which weights stay, and what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Global
from tombola.pieces.kind import not_a
from tombola.pieces.schedule import Target
from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of
from tombola.pieces.select import keep_best
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What a rule returns. params: all tensors as training is to go on from them, where the rule
    changed weights. units: which units of its basis are kept, by set, where the rule counts such.
    """

    mask: Mask
    params: Params | None = None
    units: Mask | None = None


class Rule(Protocol):
    """A frozen dataclass that selects, and may change, weights together.

    moves_weights: whether its cuts have `params`. One that counts units rather than weights has its
    `Basis` in an attribute `basis`, and its cuts have `units`.
    """

    moves_weights: ClassVar[bool]

    @property
    def needs(self) -> frozenset[Need]: ...

    def refuses(self, setting: Setting) -> str | None:
        """Why this rule cannot serve here, or None. Asked before anything is trained."""
        ...

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        """What the mask must keep: per tensor, or in all. The run checks the mask against it.

        layers: what is counted (see `counted`): tensors in scope, or sets of units.
        """
        ...

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        """Keep what `target` asks for, only from what `at.mask` still keeps."""
        ...


@dataclass(frozen=True, kw_only=True)
class ByScore:
    """Keep the highest scores: per tensor where the target sets counts, else as allocated.

    Raises:
        RecipeError: what is given is no score, or no allocation.
    """

    moves_weights: ClassVar[bool] = False

    score: Score
    allocation: Allocation = field(default_factory=Global)

    def __post_init__(self) -> None:
        for what, kind in (("score", Score), ("allocation", Allocation)):
            wrong = not_a(kind, getattr(self, what))
            if wrong:
                raise RecipeError(f"ByScore({what}=...): {wrong}.")

    @property
    def needs(self) -> frozenset[Need]:
        return self.score.needs

    def refuses(self, setting: Setting) -> str | None:
        where = type(self.score).__name__
        if examples_of(self.score) > setting.examples:
            return too_few(where, examples_of(self.score), setting)
        if Need.OUTPUTS in self.needs and setting.outputs is None:
            return no_outputs(where, setting)
        return unshared(self, setting)

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return asked_of(self.allocation, layers, target)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        asked = self.asks(at.layers, target)
        return Cut(mask=keep_best(self.score(at, probe), at.layers, asked, at.mask))


def too_few(where: str, wanted: int, setting: Setting) -> str:
    """Says that there are fewer training examples than a piece wants."""
    return f"{where} wants {wanted} training examples, there are {setting.examples}; ask for fewer."


def no_outputs(where: str, setting: Setting) -> str:
    """Says that a loss has no derivatives by outputs."""
    return (
        f"{where} needs {Need.OUTPUTS.value}; under the world's objective, {setting.objective}, "
        "the network is run more than once or says something else. DiagonalFisher and WoodFisher "
        "take gradients of the loss alone."
    )


def unshared(rule: Rule, setting: Setting) -> str | None:
    """Why a rule cannot say what some target keeps, or None."""
    try:
        for target in setting.targets:
            if target.round:
                rule.asks(setting.layers, target)
    except RecipeError as error:
        return str(error)
    return None


def asked_of(
    allocation: Allocation, layers: tuple[Layer, ...], target: Target
) -> Mapping[str, int] | int:
    """What a target asks to keep: its own counts where it sets them, else as allocated."""
    return allocation.counts(layers, target.density) if target.counts is None else target.counts
