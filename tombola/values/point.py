"""Where a training stands: weights, optimiser state, and the step its clock shows."""

from dataclasses import dataclass

from tombola.values.handle import Handle
from tombola.values.params import Params


@dataclass(frozen=True)
class Point:
    """A place to start or to continue from.

    params: all tensors of the network. slots: the optimiser's state, `"<slot>/<parameter>"`; None
    after a rewind, so that training starts with a fresh optimiser. step: optimiser steps done,
    which sets the place in the learning-rate schedule and in the data order.
    """

    params: Handle[Params]
    slots: Handle[Params] | None
    step: int
