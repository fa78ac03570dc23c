"""What a piece may ask of a world and a recipe before anything is trained."""

from dataclasses import dataclass

from tombola.pieces.schedule import Target
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Facts by which a rule, a dynamics or a parametrisation refuses what it cannot serve.

    layers: the tensors in scope. counted: what targets count, those or sets of units. targets:
    of the schedule. examples: of the training split. steps: length of one training. objective:
    name of the world's objective. cuts_to_zero: whether the recipe's cut weights are zero, rather
    than frozen. outputs: how many numbers the network says of an example, None where the loss is
    not one of a single tensor of outputs. fed: the tensors whose layer's inputs a probe can take
    (`Probe.inputs`). beside, zero: of what is trained, tensors of two or more dimensions that are
    no layer's weights (embeddings, recurrent weights), and weights and scales that start at zero
    everywhere; by name.
    """

    layers: tuple[Layer, ...]
    targets: tuple[Target, ...]
    examples: int
    steps: int
    objective: str
    cuts_to_zero: bool = True
    counted: tuple[Layer, ...] = ()
    outputs: int | None = None
    fed: frozenset[str] = frozenset()
    beside: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
