"""One training as it is handed to the loop: everything loaded, nothing started."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tombola.pieces.dynamics import Dynamics, Static
from tombola.pieces.parametrisation import Identity, Parametrisation
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.world.objective import Objective
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training, given with everything loaded.

    params, slots, step: where it starts. mask: what is kept. until: the step it goes to.
    given: networks the objective asks for by name, as tensors. order_seed, noise_seed: of the order
    of the examples, and of augmentation and dropout, where they are not `seed`.
    """

    world: World
    seed: int
    params: Params
    mask: Mask
    step: int
    until: int
    slots: Params | None = None
    objective: Objective
    given: Mapping[str, Params] = field(default_factory=dict)
    parametrisation: Parametrisation = field(default_factory=Identity)
    dynamics: Dynamics = field(default_factory=Static)
    order_seed: int | None = None
    noise_seed: int | None = None
