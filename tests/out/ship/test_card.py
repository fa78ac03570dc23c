"""2:4 on a graphics card: which layers have the form, and what is handed to the card."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from tombola.errors import ShipError
from tombola.kernels.infer import Rows
from tombola.out.ship.card import check_card, has_form, held, staged
from tombola.out.ship.chain import SparseNetwork
from tombola.out.ship.sparse import _rows


def layer(outputs: int, inputs: int, *, form: bool, seed: int = 0, relu: bool = False) -> Rows:
    """Kept weights at random: two of every four, or three of them."""
    draw = np.random.default_rng(seed)
    order = draw.random((outputs, inputs // 4, 4)).argsort(axis=2)
    kept = (order < (2 if form else 3)).reshape(outputs, inputs)
    weight = draw.normal(size=(outputs, inputs)).astype(np.float32)
    return _rows(kept, weight, draw.normal(size=outputs).astype(np.float32), relu)


def whole(one: Rows) -> Tensor:
    matrix = torch.zeros(one.outputs, one.inputs)
    for row, (begin, end) in enumerate(pairwise(one.row.tolist())):
        for place in range(begin, end):
            matrix[row, one.column[place]] = float(one.weight[place])
    return matrix


def test_the_form_is_at_most_two_in_every_run_of_four() -> None:
    draw = np.random.default_rng(1)
    found = []
    for density in (0.0, 0.2, 0.3, 0.5):
        for _ in range(30):
            outputs, inputs = draw.integers(1, 5), draw.integers(1, 14)
            kept = draw.random((outputs, inputs)) < density
            one = _rows(kept, np.ones(kept.shape, dtype=np.float32), None, False)
            slow = all(
                kept[row, run : run + 4].sum() <= 2
                for row in range(outputs)
                for run in range(0, inputs, 4)
            )
            assert has_form(one) is slow
            found.append(slow)
    assert 20 < sum(found) < 100


def test_what_the_card_computes_is_what_the_layers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's compression, there and back, in the place of the card's product: nothing is lost, and
    sizes are such as it takes. A layer without the form stays as it is."""
    compressed: list[tuple[int, ...]] = []

    def there_and_back(weight: Tensor) -> Tensor:
        compressed.append(tuple(weight.shape))
        return sparse_semi_structured_to_dense_cutlass(
            *sparse_semi_structured_from_dense_cutlass(weight)
        )

    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", there_and_back)
    layers = [
        layer(40, 100, form=True, relu=True),
        layer(64, 40, form=False, seed=1, relu=True),
        layer(12, 64, form=True, seed=2),
    ]
    inputs = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    wanted, found = inputs, inputs
    for one in layers:
        assert one.bias is not None
        wanted = wanted @ whole(one).T + torch.from_numpy(one.bias)
        wanted = wanted.relu() if one.relu else wanted
    for stage in staged(layers, torch.device("cpu")):
        found = stage(found)
    assert compressed == [(64, 128), (32, 64)]
    assert found.dtype is torch.float32
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 5e-3


def test_bytes_are_of_half_the_numbers_and_their_places() -> None:
    assert held(layer(8, 16, form=True)) == 8 * 8 * 2 + 8 * 8 // 4 + 2 * 8
    assert held(layer(8, 16, form=False)) == 8 * 16 * 2 + 2 * 8


def test_what_no_card_can_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [layer(8, 16, form=True), layer(4, 8, form=False)]
    with pytest.raises(ShipError, match=r"no layer keeps at most two .* n-of-m"):
        SparseNetwork(pair[1:], "2:4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ShipError, match="no CUDA device"):
        SparseNetwork(pair, "2:4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(ShipError, match=r"Old has compute capability 7\.5; want 8\.0"):
        check_card(pair)
    with pytest.raises(ShipError, match=r"way='4:8': want one of tombola, .*2:4, or None"):
        SparseNetwork(pair, "4:8")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_card_gives_what_the_processor_gives() -> None:
    layers = [layer(40, 100, form=True, relu=True), layer(12, 40, form=True, seed=2)]
    inputs = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    wanted, found = SparseNetwork(layers)(inputs), SparseNetwork(layers, "2:4")(inputs)
    assert found.is_cuda
    assert float((found.cpu() - wanted).abs().max() / wanted.abs().max()) < 5e-3
