"""Masks: canonical, exact, and applied by selection."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from tombola.errors import MaskError
from tombola.values.digest import digest
from tombola.values.mask import FULL, Mask, cut_to_zero
from tombola.values.params import Params


def mask(**kept: list[int]) -> Mask:
    return Mask({name: torch.tensor(places) == 1 for name, places in kept.items()})


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def test_a_tensor_with_nothing_cut_is_absent() -> None:
    whole = mask(a=[1, 1, 1], b=[1, 0])
    assert whole.names == ("b",)
    assert whole.digest == mask(b=[1, 0]).digest
    assert mask(a=[1, 1]).digest == FULL.digest == Mask({}).digest
    assert "a" not in whole
    assert "b" in whole
    assert Mask({"empty": torch.ones(0, dtype=torch.bool)}).digest == FULL.digest


def test_one_mask_has_one_digest_and_every_bit_counts() -> None:
    seen = {Mask({"a": torch.tensor(places)}).digest for places in product([True, False], repeat=9)}
    assert len(seen) == 2**9
    one, other = torch.eye(3) == 1, torch.tensor([1, 0]) == 1
    assert Mask({"a": one, "b": other}).digest == Mask({"b": other, "a": one}).digest
    assert Mask({"a": one}).digest == Mask({"a": one.t().contiguous().t()}).digest
    shapes = [(1, 8), (8, 1), (8,), (2, 4), (7,), (9,)]
    cut = {Mask({"a": torch.zeros(shape, dtype=torch.bool)}).digest for shape in shapes}
    assert len(cut) == len(shapes)
    assert mask(a=[1, 0]).digest != mask(b=[1, 0]).digest
    assert digest(mask(a=[1, 0])) == digest(mask(a=[1, 0]))


def test_of_and_kept_fill_in_what_is_absent() -> None:
    some = mask(a=[1, 0, 0])
    assert some.kept("a", 3) == 1
    assert some.kept("b", 7) == 7
    assert some.of("a", (3,)).tolist() == [True, False, False]
    assert some.of("b", (2, 2)).tolist() == [[True, True], [True, True]]
    assert some.load() is some


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_only_booleans_are_masks(dtype: torch.dtype) -> None:
    with pytest.raises(MaskError, match=r"'w' has dtype .*want torch.bool, True where kept"):
        Mask({"w": torch.ones(2, dtype=dtype)})


TRIPLES = [mask(a=list(p), b=list(q)) for p in product([0, 1], repeat=2) for q in ([0, 1], [1, 1])]


@pytest.mark.parametrize("one", TRIPLES, ids=lambda m: m.digest[:4])
def test_inclusion_and_intersection_are_those_of_sets(one: Mask) -> None:
    def places(of: Mask) -> set[tuple[str, int]]:
        return {(name, int(i)) for name in "ab" for i in of.of(name, (2,)).nonzero()}

    assert one <= FULL
    assert FULL.__le__(one) == (one.digest == FULL.digest)
    for other in TRIPLES:
        assert (one <= other) == (places(one) <= places(other))
        both = one & other
        assert places(both) == places(one) & places(other)
        assert both <= one
        assert both <= other
        assert both.digest == (other & one).digest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_cut_is_positive_zero_bit_for_bit(dtype: torch.dtype) -> None:
    values = torch.tensor([-1.0, -0.0, math.inf, -math.inf, math.nan, 2.0, -3.0, -0.0], dtype=dtype)
    kept = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]) == 1
    before = bits(values)
    found = Mask({"w": kept}).apply(Params({"w": values}))["w"]
    assert bits(found[:5]) == bytes(5 * dtype.itemsize)
    assert bits(found[5:]) == bits(values[5:])
    assert bits(cut_to_zero(values, kept)) == bits(found)
    assert bits(values) == before


def test_apply_makes_new_tensors_and_leaves_the_others() -> None:
    params = Params({"w": torch.ones(2), "bias": torch.ones(1)})
    found = mask(w=[0, 1]).apply(params)
    found["w"].add_(1)
    assert params["w"].tolist() == [1, 1]
    assert found["bias"] is params["bias"]
    assert FULL.apply(params).digest == params.digest


@pytest.mark.parametrize("use", [Mask.check, Mask.apply])
def test_a_mask_of_another_network_is_refused(use: object) -> None:
    assert callable(use)
    with pytest.raises(MaskError, match=r"mask has 'v', .*no such tensor; it has bias, w"):
        use(mask(v=[1, 0]), Params({"w": torch.ones(2), "bias": torch.ones(1)}))
    with pytest.raises(MaskError, match=r"'w' has shape \(2,\), .*\(3,\).*another network"):
        use(mask(w=[1, 0]), Params({"w": torch.ones(3)}))
