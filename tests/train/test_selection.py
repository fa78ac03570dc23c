"""Selection by bits against torch.where."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.train.select import Selection

ODD = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3.4e38, -2.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(ODD), st.booleans()), min_size=1, max_size=20))
def test_selection_is_where(dtype: torch.dtype, pairs: list[tuple[float, bool]]) -> None:
    values = torch.tensor([value for value, _ in pairs]).to(dtype)
    kept = torch.tensor([ok for _, ok in pairs])
    wanted = torch.where(kept, values, torch.zeros((), dtype=dtype))
    selection = Selection(kept, dtype)
    found = values.clone()
    selection.zero_cut_(found)
    assert found.view(torch.uint8).equal(wanted.view(torch.uint8))
    assert selection.cut_is_zero(found)
    clean = bool((values[~kept] == 0).all()) and not bool(values[~kept].signbit().any())
    assert selection.cut_is_zero(values) == clean


def test_minus_zero_is_not_zero() -> None:
    selection = Selection(torch.tensor([True, False]), torch.float32)
    assert selection.cut_is_zero(torch.tensor([-0.0, 0.0]))
    assert not selection.cut_is_zero(torch.tensor([0.0, -0.0]))


def test_a_tensor_that_is_not_contiguous_is_changed_in_place() -> None:
    tensor, kept = torch.ones(3, 2).t(), torch.tensor([[True, False, True], [False, True, False]])
    Selection(kept, tensor.dtype).zero_cut_(tensor)
    assert tensor.equal(kept.float())
