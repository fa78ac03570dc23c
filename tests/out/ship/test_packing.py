"""Packed networks: every bit comes back, in as few bytes as entropy allows, or nothing does."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tombola.errors import ShipError
from tombola.out.ship.entropy import cost, decode, encode, frequencies
from tombola.out.ship.packing import PRECISIONS, SEAL, Packed
from tombola.out.ship.shipment import dense_bytes
from tombola.pieces.parametrisation.multi_prize import signed
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params, params_of
from tombola.world.models import LeNet


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# -- entropy coding --------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5_000), st.integers(1, 5), st.integers(1, 256), st.integers(0, 1_000))
def test_symbols_come_back(count: int, contexts: int, symbols: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    text = (draw.random(count) ** 3 * symbols).astype(np.uint8)
    context = draw.integers(0, contexts, count).astype(np.uint8)
    counts = np.zeros((contexts, 256), dtype=np.int64)
    np.add.at(counts, (context, text), 1)
    table = frequencies(counts)
    stream = encode(text, context, table)
    assert np.array_equal(decode(stream, context, table), text)
    assert len(stream) <= cost(counts) + 4 * max(1, count // 2_048) + 3


def test_frequencies_add_up_and_leave_nothing_out() -> None:
    counts = np.array([[1, 10**9, 0, 1], [5, 5, 5, 1]])
    found = frequencies(counts)
    assert (found.sum(axis=1) == 1 << 14).all()
    assert ((found > 0) == (counts > 0)).all()


def test_cost_is_the_entropy() -> None:
    p = 0.05
    wanted = -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) * 100_000 / 8
    assert cost(np.array([[95_000, 5_000]])) == pytest.approx(wanted, rel=1e-3)


def test_a_stream_of_something_else_is_noticed() -> None:
    text, context = np.array([0, 1, 0, 0] * 9, dtype=np.uint8), np.zeros(36, dtype=np.uint8)
    table = frequencies(np.array([[3, 1]]))
    stream = bytearray(encode(text, context, table))
    stream[0] ^= 1
    with pytest.raises(ValueError):
        decode(bytes(stream), context, table)


# -- files -----------------------------------------------------------------------------------


def lenet(density: float = 0.05) -> tuple[Params, Mask]:
    with torch.random.fork_rng():
        params = params_of(LeNet(784, 300, 100, 10))
    weights = {name: tensor for name, tensor in params.items() if tensor.dim() == 2}
    mask = Mask({name: uniform(*t.shape) < density for name, t in weights.items()})
    return mask.apply(params), mask


def small() -> tuple[Params, Mask]:
    params = Params({"w": uniform(20, 3, 3, 3) - 0.5, "b": uniform(20)})
    mask = Mask({"w": uniform(20, 3, 3, 3, seed=1) < 0.3})
    return mask.apply(params), mask


def test_lenet_at_5_percent_is_15_times_smaller() -> None:
    params, mask = lenet()
    raw = Packed(tensors=params, mask=mask).encode()
    assert dense_bytes(params) / len(raw) > 15.0
    read = Packed.decode(raw)
    assert read.tensors.digest == params.digest
    assert read.mask.digest == mask.digest
    assert raw == Packed(tensors=params, mask=mask).encode()


def test_uneven_masks_take_fewer_bytes() -> None:
    """Pixels at a border that nobody hears are told once, not once a unit."""
    rates = torch.tensor([0.0, 0.2]).repeat(200)[None, :]
    even, uneven = uniform(300, 400) < 0.1, uniform(300, 400) < rates
    ones = Params({"w": torch.ones(300, 400)})
    sizes = []
    for kept in (even, uneven):
        mask = Mask({"w": kept})
        sizes.append(len(Packed(tensors=mask.apply(ones), mask=mask).encode()))
    assert sizes[1] < 0.85 * sizes[0]


ODD = {
    "signs": torch.tensor([[-0.0, 0.0], [float("nan"), float("-inf")]]),
    "empty": torch.zeros(0, 3),
    "one": torch.tensor(2.5),
    "count": torch.tensor([1 << 40, -1]),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([1.5], dtype=torch.bfloat16),
    "double": torch.tensor([[1 / 3]], dtype=torch.float64),
    "flags": torch.tensor([True, False]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_tensors_come_back_bit_for_bit(name: str) -> None:
    params = Params({name: ODD[name]})
    assert Packed.decode(Packed(tensors=params, mask=FULL).encode()).tensors.digest == params.digest


@pytest.mark.parametrize("kept", ["none", "first row", "one column", "zeros kept"])
def test_odd_masks_come_back(kept: str) -> None:
    mask = torch.zeros(5, 7, dtype=torch.bool)
    if kept == "first row":
        mask[0] = True
    elif kept != "none":
        mask[:, 2] = True
    values = torch.zeros(5, 7) if kept == "zeros kept" else torch.where(mask, uniform(5, 7), 0.0)
    packed = Packed(tensors=Params({"w": values}), mask=Mask({"w": mask}))
    read = Packed.decode(packed.encode())
    assert (read.tensors.digest, read.mask.digest) == (packed.tensors.digest, packed.mask.digest)


def test_tied_names_and_facts_come_back() -> None:
    params, mask = small()
    packed = Packed(tensors=params, mask=mask, same={"v": "w"}, facts={"seed": 3})
    read = Packed.decode(packed.encode())
    assert read.state["v"] is read.state["w"] and read.facts == {"seed": 3}


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_rounded_weights_are_the_nearest(precision: str) -> None:
    params, mask = small()
    read = Packed.decode(Packed(tensors=params, mask=mask, precision=precision).encode())
    assert torch.equal(read.tensors["b"], params["b"])
    assert read.mask.digest == mask.digest
    found, wanted = read.tensors["w"].flatten(1), params["w"].flatten(1)
    if precision == "float16":
        assert torch.equal(found, wanted.half().float())
    else:
        step = wanted.abs().amax(dim=1, keepdim=True) / 127
        assert bool(((found - wanted).abs() <= 0.501 * step).all())
    assert not bool(found[~mask["w"].flatten(1)].any())


# -- signs -----------------------------------------------------------------------------------


def binary_lenet(density: float) -> tuple[Params, Mask]:
    """LeNet with the weights of a multi-prize ticket."""
    params, mask = lenet(density)
    return params.replaced({n: signed(params[n], kept) for n, kept in mask.items()}), mask


def test_a_binary_lenet_at_10_percent_takes_its_mask_and_a_bit_a_kept_weight() -> None:
    params, mask = binary_lenet(0.1)
    packed = Packed(tensors=params, mask=mask)
    raw = packed.encode()
    assert packed.signs == mask.names
    assert dense_bytes(params) / len(raw) > 50.0  # wanted: 20
    sizes = {name: kept.numel() for name, kept in mask.items()}
    kept = sum(mask.kept(name, size) for name, size in sizes.items())
    entropy = -sum(p * math.log2(p) for p in (0.1, 0.9)) * sum(sizes.values())
    biases = 4 * (300 + 100 + 10)
    assert (entropy + kept) / 8 < len(raw) < 1.02 * (entropy + kept) / 8 + biases + 500
    read = Packed.decode(raw)
    assert (read.tensors.digest, read.mask.digest) == (params.digest, mask.digest)


def test_signs_stay_exact_whatever_the_precision() -> None:
    params, mask = binary_lenet(0.02)
    for precision in PRECISIONS:
        raw = Packed(tensors=params, mask=mask, precision=precision).encode()
        assert Packed.decode(raw).tensors.digest == params.digest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 40])
def test_signs_of_any_number_of_weights_come_back(dtype: torch.dtype, count: int) -> None:
    mask = Mask({"w": torch.arange(41).reshape(1, 41) < count})
    values = torch.where(uniform(1, 41) < 0.5, -0.3, 0.3).to(dtype)
    packed = Packed(tensors=mask.apply(Params({"w": values})), mask=mask)
    assert packed.signs == ("w",)
    assert Packed.decode(packed.encode()).tensors.digest == packed.tensors.digest


def test_weights_of_more_sizes_than_one_are_no_signs() -> None:
    mask = Mask({"w": torch.tensor([[True, True, True, False]])})
    for odd in (0.0, 0.30000001192092896 * (1 + 2**-23), float("nan")):
        params = Params({"w": torch.tensor([[0.3, -0.3, odd, 0.0]])})
        packed = Packed(tensors=params, mask=mask)
        assert packed.signs == ()
        assert Packed.decode(packed.encode()).tensors.digest == params.digest


def test_weights_a_precision_cannot_hold_are_refused() -> None:
    huge = Params({"w": torch.full((2, 2), 1e6)})
    nothing = Params({"w": torch.full((2, 2), torch.nan)})
    with pytest.raises(ShipError, match="'w' has weights beyond float16"):
        Packed(tensors=huge, mask=FULL, precision="float16").encode()
    with pytest.raises(ShipError, match="'w' has weights that are no numbers"):
        Packed(tensors=nothing, mask=FULL, precision="int8").encode()
    with pytest.raises(ShipError, match="'z' is complex64"):
        Packed(tensors=Params({"z": torch.zeros(2, dtype=torch.complex64)}), mask=FULL).encode()


def test_every_changed_byte_and_every_cut_is_refused() -> None:
    params, mask = small()
    raw = Packed(tensors=params, mask=mask).encode()
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 0x10
        with pytest.raises(ShipError, match=r"my\.packed"):
            Packed.decode(bytes(changed), "my.packed")
        with pytest.raises(ShipError):
            Packed.decode(raw[:place])
    with pytest.raises(ShipError, match="not a packed network"):
        Packed.decode(b"PK\x03\x04" + raw)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nonsense_under_a_right_digest_is_refused_too(data: st.DataObject) -> None:
    """Whoever can write a file can write its digest: then it is wrong, never a crash."""
    params, mask = small()
    body = bytearray(Packed(tensors=params, mask=mask).encode()[:-SEAL])
    place = data.draw(st.integers(8, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    forged = bytes(body) + hashlib.sha256(body).digest()
    try:
        read = Packed.decode(forged)
    except ShipError:
        return
    assert isinstance(read.state, dict)
