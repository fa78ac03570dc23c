"""The contract between a moving mask and the training loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor

from tombola.pieces.setting import Setting
from tombola.values.mask import Mask
from tombola.values.params import Params


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The training at one step, before the optimiser has moved anything.

    coords: what is trained. slots: optimiser state, `"<slot>/<parameter>"`. grads: gradients of
    the *effective* tensors, dense: cut weights have theirs too. rate: the learning rate now.
    seed: for keyed draws. until: the length of the whole training, wherever this leg of it ends.
    """

    coords: Mapping[str, Tensor]
    slots: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    mask: Mask
    rate: float
    seed: int
    until: int


@dataclass(frozen=True, kw_only=True)
class Move:
    """A new mask, and what becomes of values and optimiser state where it changed.

    coords, slots: new contents for the tensors named, the others stay. replaces_step: whether
    this update takes the place of the optimiser step. state: the dynamics' own tensors.
    """

    mask: Mask
    coords: Mapping[str, Tensor] = field(default_factory=dict)
    slots: Mapping[str, Tensor] = field(default_factory=dict)
    replaces_step: bool = False
    state: Params = field(default_factory=lambda: Params({}))


class Dynamics(Protocol):
    """A frozen dataclass of pure functions. One that begins denser than its target also has the
    methods of `Thinning`.

    moves: False only for the mask that never does. redistributes: whether a tensor may end with
    another number of weights than the rule gave it; all together end with what was asked.
    reads_gradients: whether its updates use gradients of unconnected positions, which a sparse
    step has not got.
    """

    @property
    def moves(self) -> bool: ...

    @property
    def redistributes(self) -> bool: ...

    @property
    def reads_gradients(self) -> bool: ...

    def refuses(self, setting: Setting) -> str | None:
        """Why this dynamics cannot serve here, or None. Asked before anything is trained."""
        ...

    def init(self, mask: Mask, params: Params) -> Params:
        """The dynamics' own state at the start."""
        ...

    def needs(self, state: Params, step: int, until: int) -> bool:
        """Whether `update` wants to see this step (0-based, asked before it), with dense gradients.

        until: the length of the whole training, as in `Moment`.
        """
        ...

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        """The mask after this step."""
        ...


@dataclass(frozen=True, kw_only=True)
class Static:
    """The mask stays as it was given."""

    moves: ClassVar[bool] = False
    redistributes: ClassVar[bool] = False
    reads_gradients: ClassVar[bool] = False

    def refuses(self, setting: Setting) -> str | None:
        return None

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({})

    def needs(self, state: Params, step: int, until: int) -> bool:
        return False

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        return Move(mask=moment.mask, state=state)
