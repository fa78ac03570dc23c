"""2:4 on a graphics card: where of four neighbouring inputs at most two are kept, the card's own
sparse products, in half precision."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tombola.errors import ShipError
from tombola.kernels.infer import Rows

Stage = Callable[[Tensor], Tensor]  # (examples, inputs) to (examples, outputs)

WAY = "2:4"
LEAST = (8, 0)  # compute capability: from Ampere on
MULTIPLES = (32, 64)  # of rows and columns, which both of torch's backends take


def has_form(layer: Rows) -> bool:
    """Whether of every four neighbouring inputs of an output at most two are kept.

    >>> def keeps(*columns: int) -> Rows:
    ...     column = np.array(columns, dtype=np.int32)
    ...     row = np.array([0, len(column)], dtype=np.int32)
    ...     return Rows(8, row, column, np.ones(len(column), dtype=np.float32), None, False)
    >>> has_form(keeps(0, 3, 4, 5)), has_form(keeps(0, 1, 3))
    (True, False)
    """
    fours = -(-layer.inputs // 4)
    four = layer.outputs_of_kept() * fours + layer.column // 4
    kept = np.bincount(four, minlength=1)
    return bool(kept.max() <= 2)


def check_card(layers: Sequence[Rows]) -> None:
    """Raise ShipError where no layer has the form, or no card computes with it."""
    if not any(map(has_form, layers)):
        raise ShipError(
            f"way={WAY!r}: no layer keeps at most two of every four neighbouring inputs; "
            "`tombola find n-of-m` makes such tickets."
        )
    if not torch.cuda.is_available():
        raise ShipError(f"way={WAY!r}: there is no CUDA device here.")
    found = torch.cuda.get_device_capability()
    if found < LEAST:
        raise ShipError(
            f"way={WAY!r}: {torch.cuda.get_device_name()} has compute capability "
            f"{found[0]}.{found[1]}; want {LEAST[0]}.{LEAST[1]} or newer."
        )


def held(layer: Rows) -> int:
    """Bytes of a layer on the card: of the form, half of the numbers and two bits for each."""
    whole = layer.outputs * layer.inputs
    bias = 0 if layer.bias is None else layer.bias.nbytes // 2
    return bias + (whole + whole // 8 if has_form(layer) else 2 * whole)


def staged(layers: Sequence[Rows], card: torch.device | None = None) -> tuple[Stage, ...]:
    """All layers on the card: those of the form by its sparse products, others dense; float32 in
    and out, float16 between. What comes out stays on the card; usually the current one."""
    card = torch.device("cuda") if card is None else card
    products = [_product(layer, card) for layer in layers]
    return (
        lambda inputs: inputs.to(card, torch.float16),
        *products,
        lambda outputs: outputs.float(),
    )


def _product(layer: Rows, card: torch.device) -> Stage:
    whole = layer.whole()
    more = [-size % multiple for size, multiple in zip(whole.shape, MULTIPLES, strict=True)]
    weight: Tensor = F.pad(torch.from_numpy(whole), (0, more[1], 0, more[0])).to(
        card, torch.float16
    )
    if has_form(layer):
        weight = torch.sparse.to_sparse_semi_structured(weight)
    bias = None
    if layer.bias is not None:
        bias = F.pad(torch.from_numpy(layer.bias), (0, more[0])).to(card, torch.float16)

    def stage(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            found = F.linear(F.pad(inputs, (0, more[1])), weight, bias)[:, : layer.outputs]
        return found.relu() if layer.relu else found

    return stage
