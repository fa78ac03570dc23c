"""From a trained network to a cut: which weights stay, and what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Global
from tombola.pieces.kind import not_a
from tombola.pieces.schedule import Target
from tombola.pieces.score.score import Need, Probe, Score, Snapshot, examples_of
from tombola.pieces.select import keep_top, keep_top_together
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
        wanted = examples_of(self.score)
        if wanted <= setting.examples:
            return None
        return (
            f"{type(self.score).__name__} wants {wanted} training examples, there are "
            f"{setting.examples}; ask for fewer."
        )

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        if target.counts is not None:
            return target.counts
        return self.allocation.counts(layers, target.density)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        scores, asked = self.score(at, probe), self.asks(at.layers, target)
        if isinstance(asked, int):
            return Cut(mask=keep_top_together(scores, at.layers, asked, at.mask))
        return Cut(mask=keep_top(scores, at.layers, asked, at.mask))
