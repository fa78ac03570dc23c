"""Kernels against the same arithmetic in torch, and against each other bit for bit."""

import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch

from tombola.kernels import built, compiled, jit
from tombola.kernels.best import best_kernel, kernel_named
from tombola.kernels.break_even import BREAK_EVEN, break_even
from tombola.kernels.chain import Chain, Examples, Kernel, Layer, Moves, layer_of
from tombola.kernels.compiled import VARIANTS, Compiled, library
from tombola.kernels.jit import Jit
from tombola.kernels.plain import Plain

OPTIMISERS = {
    "adam": Moves(adam=True, betas=(0.8, 0.99), eps=1e-3),
    "adamw": Moves(adam=True, decay=0.1, eps=1e-3),
    "sgd": Moves(adam=False),
    "sgd with decay": Moves(adam=False, decay=0.05),
    "momentum": Moves(adam=False, momentum=0.9, decay=0.01),
    "nesterov": Moves(adam=False, momentum=0.9, nesterov=True),
}
WIDTHS = (40, 19, 17, 5)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def chain_of(density: float, widths: tuple[int, ...] = WIDTHS, biases: bool = True) -> Chain:
    """Layers that keep about this fraction; the first two units of each get nothing at all."""
    draw, at = random(), 0
    layers: list[Layer] = []
    values: list[np.ndarray] = []
    used = np.arange(widths[0], dtype=np.int32)
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        kept = draw.random((outputs, inputs)) < density
        kept[:2] = False
        if number == 0:
            kept[:, 3] = False
            used = np.flatnonzero(kept.any(axis=0)).astype(np.int32)
        count = int(kept.sum())
        last = number == len(widths) - 2
        bias = at + count if biases else None
        layers.append(layer_of(kept, at, bias, not last, used if number == 0 else None))
        values += [draw.normal(size=count), draw.normal(size=outputs * biases)]
        at += count + outputs * biases
    return Chain(tuple(layers), used, np.concatenate(values).astype(np.float32))


def bytes_of(examples: int, features: int = WIDTHS[0], channels: int = 2) -> Examples:
    draw = random()
    table = draw.normal(size=(channels, 256)).astype(np.float32)
    rows = draw.integers(0, 256, (examples, features), dtype=np.uint8)
    return Examples(rows, draw.integers(0, WIDTHS[-1], examples), table)


def floats_of(examples: int, features: int = WIDTHS[0]) -> Examples:
    rows = random().normal(size=(examples, features)).astype(np.float32)
    return Examples(rows, random().integers(0, WIDTHS[-1], examples))


def after(
    kernel: Kernel,
    chain: Chain,
    examples: Examples,
    batch: int,
    moves: Moves,
    steps: int = 4,
) -> tuple[np.ndarray, ...]:
    """What a chain holds and says after a few steps."""
    index = random().integers(0, len(examples.rows), (steps, batch))
    kernel.train(chain, examples, index, moves, [0.01 / (1 + n) for n in range(steps)], 1)
    said = kernel.outputs(chain, examples, np.arange(len(examples.rows)))
    return chain.values, chain.first, chain.second, said


def variants() -> list[str]:
    found = library()
    return [] if found is None else list(VARIANTS[: found.tombola_variant() + 1])


def test_there_is_a_compiled_kernel_here() -> None:
    """Where tests run there is a compiler, so its absence is a fault of the build."""
    assert variants()
    assert best_kernel().name in ("c", "c plain")


# -- against torch -------------------------------------------------------------------------------


@pytest.mark.parametrize("moves", OPTIMISERS)
@pytest.mark.parametrize("variant", variants())
def test_steps_are_those_of_torch(variant: str, moves: str) -> None:
    for batch in (1, 16, 20, 60, 64, 65, 130):
        args = bytes_of(90), batch, OPTIMISERS[moves]
        for one, other in zip(
            after(Compiled(variant), chain_of(0.3), *args),
            after(Plain(), chain_of(0.3), *args),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("moves", OPTIMISERS)
def test_the_loops_that_numba_compiles_are_those_of_torch(moves: str) -> None:
    for batch in (1, 20, 60):
        args = bytes_of(90), batch, OPTIMISERS[moves]
        found = after(Jit(), chain_of(0.3), *args), after(Plain(), chain_of(0.3), *args)
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("widths", [WIDTHS, (40, 5), (40, 300, 5), (250, 30, 5), (230, 5)])
@pytest.mark.parametrize("kernel", ["best", "numba"])
def test_any_pattern_gives_what_torch_gives(
    density: float, biases: bool, widths: tuple[int, ...], kernel: str
) -> None:
    def chain() -> Chain:
        return chain_of(density, widths, biases)

    for examples in (bytes_of(30, widths[0]), floats_of(30, widths[0])):
        args = examples, 20, Moves(adam=False, momentum=0.5)
        found = after(best_kernel() if kernel == "best" else Jit(), chain(), *args)
        for one, other in zip(found, after(Plain(), chain(), *args), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


def test_the_twin_is_torch_itself() -> None:
    """`Plain` against a network and an optimiser of torch: what the others are compared with."""
    chain, examples = chain_of(1.0), floats_of(30)
    network = torch.nn.Sequential()
    for layer in chain.layers:
        linear = torch.nn.Linear(layer.inputs, layer.outputs)
        matrix = torch.zeros(layer.outputs, layer.inputs)
        rows = np.repeat(np.arange(layer.outputs), np.diff(layer.row))
        matrix[rows, layer.column] = torch.from_numpy(chain.values[layer.weights :][: layer.kept])
        assert layer.biases is not None
        with torch.no_grad():
            linear.weight.copy_(matrix)
            linear.bias.copy_(torch.from_numpy(chain.values[layer.biases :][: layer.outputs]))
        network.append(linear)
        if layer.relu:
            network.append(torch.nn.ReLU())
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    index = random().integers(0, 30, (3, 20))
    Plain().train(chain, examples, index, Moves(adam=True), [0.01] * 3, 1)
    for batch in index:
        outputs = network(torch.from_numpy(examples.rows[batch][:, chain.used]))
        targets = torch.from_numpy(examples.targets[batch])
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(outputs, targets).backward()
        masks = [layer_mask(layer) for layer in chain.layers]
        for linear, mask in zip(network[::2], masks, strict=True):
            linear.weight.grad *= mask
        optimiser.step()
    said = Plain().outputs(chain, examples, np.arange(30))
    wanted = network(torch.from_numpy(examples.rows[:, chain.used])).detach().numpy()
    np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-5)


def layer_mask(layer: Layer) -> torch.Tensor:
    mask = torch.zeros(layer.outputs, layer.inputs)
    mask[np.repeat(np.arange(layer.outputs), np.diff(layer.row)), layer.column] = 1.0
    return mask


def test_what_is_not_a_number_shows() -> None:
    for kernel in (Plain(), Jit(), best_kernel()):
        chain = chain_of(0.5)
        chain.values[0] = np.nan
        values, *_, said = after(kernel, chain, bytes_of(30), 20, OPTIMISERS["sgd"])
        assert np.isnan(values).any()
        assert np.isnan(said).any()


def test_large_logits_do_not_overflow() -> None:
    chain = chain_of(0.5)
    chain.values[:] *= 50.0
    for kernel in (Jit(), best_kernel()):
        found = after(kernel, chain, floats_of(30), 20, Moves(adam=False))
        assert all(np.isfinite(array).all() for array in found)


# -- bit for bit ---------------------------------------------------------------------------------


@pytest.mark.skipif("avx512" not in variants(), reason="this processor has no AVX-512")
@pytest.mark.parametrize("moves", OPTIMISERS)
def test_instruction_sets_that_fuse_give_equal_bits(moves: str) -> None:
    for batch, widths in ((7, WIDTHS), (60, WIDTHS), (100, WIDTHS), (60, (250, 30, 5))):
        data = bytes_of(90, widths[0])
        one, other = (
            after(Compiled(variant), chain_of(0.5, widths), data, batch, OPTIMISERS[moves], 20)
            for variant in ("avx2", "avx512")
        )
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("variant", variants())
def test_units_without_inputs_change_no_bit_of_the_others(variant: str) -> None:
    """With a thousand of them the inputs are no longer read in stretches."""
    draw, found = random(), []
    first, second = draw.random((30, 250)) < 0.5, draw.random((5, 30)) < 0.5
    weights = [draw.normal(size=int(kept.sum())) for kept in (first, second)]
    for empty in (0, 1_000):
        rows = np.vstack([first, np.zeros((empty, 250), dtype=bool)])
        columns = np.hstack([second, np.zeros((5, empty), dtype=bool)])
        begin = len(weights[0]) + len(rows)
        layers = (
            layer_of(rows, 0, len(weights[0]), True),
            layer_of(columns, begin, begin + len(weights[1]), False),
        )
        values = np.concatenate([weights[0], np.zeros(len(rows)), weights[1], np.zeros(5)])
        chain = Chain(layers, np.arange(250, dtype=np.int32), values.astype(np.float32))
        moves = OPTIMISERS["adam"]
        *_, said = after(Compiled(variant), chain, bytes_of(90, 250), 60, moves)
        trained = chain.values[: len(weights[0])], chain.values[begin:]
        found.append([array.tobytes() for array in (*trained, said)])
    assert found[0] == found[1]


@pytest.mark.parametrize("kernel", [Plain(), Jit(), *(Compiled(name) for name in variants())])
def test_steps_in_one_call_or_in_many_are_the_same(kernel: Kernel) -> None:
    index = random().integers(0, 90, (6, 20))
    rates, moves = [0.01 * (1 + n) for n in range(6)], OPTIMISERS["adam"]
    whole, parts = chain_of(0.3), chain_of(0.3)
    kernel.train(whole, bytes_of(90), index, moves, rates, 1)
    for n in range(6):
        kernel.train(parts, bytes_of(90), index[n : n + 1], moves, rates[n : n + 1], 1 + n)
    assert whole.values.tobytes() == parts.values.tobytes()


def test_bytes_and_the_floats_they_stand_for_give_equal_bits() -> None:
    examples = bytes_of(90)
    assert examples.table is not None
    channel = np.arange(WIDTHS[0]) // (WIDTHS[0] // 2)
    told = Examples(examples.table[channel, examples.rows], examples.targets)
    one, other = (
        after(best_kernel(), chain_of(0.3), data, 60, OPTIMISERS["adam"])
        for data in (examples, told)
    )
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


# -- where there is none -------------------------------------------------------------------------


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was found out about this machine is found out anew, and again afterwards."""
    for look in (0, 1):
        for cached in (library, best_kernel, jit.compiled):
            cached.cache_clear()
        if look == 0:
            yield


@pytest.fixture
def no_library(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "__file__", "/nowhere/built.py")


@pytest.mark.usefixtures("no_library")
def test_without_a_library_numba_does_the_work_and_without_numba_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert best_kernel().name == "numba"
    assert (kernel_named("c"), kernel_named("c plain")) == (None, None)
    with pytest.raises(RuntimeError, match="without a C compiler"):
        Compiled()
    for cached in (best_kernel, jit.compiled):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert best_kernel().name == "torch"
    assert kernel_named("numba") is None
    with pytest.raises(RuntimeError, match=r"install tombola\[fast\]"):
        Jit()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("broken", ["cannot be written", "cannot be read back"])
def test_a_cache_of_compiled_loops_is_done_without(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def njit(*, cache: bool, **options: Any) -> Callable[[Any], Any]:
        asked.append(cache)
        if cache and broken == "cannot be written":
            raise RuntimeError("cannot cache function: no locator available")

        def stale(*args: Any) -> None:
            raise EOFError("ran out of input")

        return lambda function: stale if cache else function

    monkeypatch.setattr(numba, "njit", njit)
    found = after(Jit(), chain_of(0.3), floats_of(10), 4, OPTIMISERS["adam"])  # slow, and right
    wanted = after(Plain(), chain_of(0.3), floats_of(10), 4, OPTIMISERS["adam"])
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
    assert asked == [True, False]


@pytest.mark.usefixtures("forgotten")
def test_a_numba_that_does_not_work_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(**options: Any) -> None:
        raise ImportError("Numba needs NumPy 1.0 or less")

    monkeypatch.setattr(numba, "njit", njit)
    assert jit.compiled() is None


@pytest.mark.parametrize("content", [b"", b"no library at all"])
def test_a_file_that_is_no_library_is_as_good_as_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "_chain.so"
    path.write_bytes(content)
    assert built.loaded(path, "tombola_interface", 1, lambda found: None) is None


@pytest.mark.usefixtures("forgotten")
def test_a_library_of_another_version_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "INTERFACE", -1)
    assert library() is None


def test_break_even_is_looked_up_by_size() -> None:
    assert set(BREAK_EVEN) == {"c", "c plain", "numba", "torch"}
    (small, low), *_, (large, high) = BREAK_EVEN["c"]
    assert (break_even("c", 1), break_even("c", small)) == (low, low)
    assert break_even("c", 10 * large) == high
    assert all(0.0 <= density <= 1.0 for rows in BREAK_EVEN.values() for _, density in rows)
