"""Layers of kept weights against torch on whole tensors: odd shapes, each instruction set."""

import ctypes

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tombola.kernels.break_even import LAYER_BREAK_EVEN, intensity, layer_break_even
from tombola.kernels.compiled import VARIANTS, library
from tombola.kernels.compiled_conv import CompiledConvolution, _Planes, _Sums
from tombola.kernels.conv import Conv, Convolution, Image, Window, inputs_axis, outputs_axis
from tombola.kernels.plain_conv import PlainConvolution

compiled = pytest.mark.skipif(library() is None, reason="no compiled kernels here")

# examples, channels, outputs, image, window of the weight, stride, padding
SHAPES = [
    (5, 3, 4, (6, 5), (3, 3), (1, 1), (1, 1)),
    (20, 2, 5, (7, 8), (3, 3), (2, 2), (1, 1)),
    (33, 3, 4, (8, 8), (1, 1), (2, 2), (0, 0)),
    (64, 7, 9, (1, 1), (1, 1), (1, 1), (0, 0)),
    (17, 2, 3, (9, 7), (5, 2), (3, 2), (2, 1)),
    (16, 2, 3, (4, 4), (2, 2), (3, 3), (0, 0)),
    (9, 2, 3, (4, 4), (3, 3), (1, 1), (2, 2)),
    (130, 2, 3, (2, 1), (2, 1), (2, 1), (0, 0)),
    (4, 2, 3, (1, 1), (1, 1), (2, 2), (0, 0)),
    (60, 4, 3, (11, 16), (3, 3), (1, 1), (1, 1)),
    (1, 1, 1, (3, 3), (3, 3), (1, 1), (0, 0)),
]


def kernels() -> list[Convolution]:
    """The twin, then every variant of the compiled one that this machine has."""
    found = library()
    names = () if found is None else VARIANTS[: found.tombola_variant() + 1]
    return [PlainConvolution(), *map(CompiledConvolution, names)]


def drawn(shape: tuple, density: float) -> tuple[Conv, Tensor, Tensor, Tensor]:
    """A layer, its inputs, whole weight with zeros where cut, and bias."""
    examples, channels, outputs, image, window, stride, padding = shape
    generator = torch.Generator().manual_seed(len(str(shape)))
    weight = torch.randn(outputs, channels, *window, generator=generator)
    kept = torch.rand(weight.shape, generator=generator) < density
    inputs = torch.randn(examples, channels, *image, generator=generator)
    conv = Conv(kept.numpy(), Image(channels, *image), Window(stride, padding))
    return conv, inputs, weight * kept, torch.randn(outputs, generator=generator)


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_torch(shape: tuple, density: float) -> None:
    """In double precision there; 1e-5 of the largest number is the rounding of float32 sums."""
    conv, inputs, weight, bias = drawn(shape, density)
    sources = [t.double().requires_grad_(True) for t in (inputs, weight, bias)]
    window = conv.window
    expected = F.conv2d(*sources, window.stride, window.padding)
    assert (conv.outputs.height, conv.outputs.width) == expected.shape[2:]
    delta = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = [expected, *torch.autograd.grad(expected, sources, delta.double())]
    wanted[2] = wanted[2].flatten()[conv.where]
    for kernel in kernels():
        values = weight.flatten()[conv.where]
        own = [t.clone().requires_grad_(True) for t in (inputs, values, bias)]
        outputs = kernel.apply(conv, *own)
        found = [outputs, *torch.autograd.grad(outputs, own, delta)]
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype is torch.float32 and one.shape == other.shape
            scale = float(other.detach().abs().max()) if other.numel() else 0.0
            torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * scale)


@compiled
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_wide_vectors_give_equal_bits(shape: tuple) -> None:
    conv, inputs, weight, bias = drawn(shape, 0.4)
    found = []
    for kernel in kernels()[2:]:
        own = [t.clone().requires_grad_(True) for t in (inputs, weight.flatten()[conv.where], bias)]
        outputs = kernel.apply(conv, *own)
        found.append([outputs, *torch.autograd.grad(outputs.square().sum(), own)])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@compiled
def test_without_gradients_many_examples_go_through_in_parts() -> None:
    conv, inputs, weight, bias = drawn((300, 2, 3, (4, 4), (3, 3), (1, 1), (1, 1)), 0.5)
    kernel, values = CompiledConvolution(), weight.flatten()[conv.where]
    with torch.no_grad():
        found = kernel.apply(conv, inputs, values, bias)
    torch.testing.assert_close(found, PlainConvolution().apply(conv, inputs, values, bias))


@compiled
def test_gradients_can_be_differentiated() -> None:
    conv, inputs, weight, bias = drawn(SHAPES[1], 0.5)
    seconds = []
    for kernel in (CompiledConvolution(), PlainConvolution()):
        own = [t.clone().requires_grad_(True) for t in (inputs, weight.flatten()[conv.where], bias)]
        outputs = kernel.apply(conv, *own).square().sum()
        firsts = torch.autograd.grad(outputs, own, create_graph=True)
        penalty = sum((first.square().sum() for first in firsts), torch.zeros(()))
        seconds.append(torch.autograd.grad(penalty, own))
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@compiled
def test_only_what_is_wanted_is_differentiated() -> None:
    conv, inputs, weight, _ = drawn(SHAPES[0], 0.5)
    values = weight.flatten()[conv.where].requires_grad_(True)
    CompiledConvolution().apply(conv, inputs, values, None).sum().backward()
    assert inputs.grad is None and values.grad is not None


@compiled
def test_what_is_not_finite_spreads_where_it_is_read() -> None:
    conv, inputs, weight, bias = drawn((3, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0)), 1.0)
    inputs[1] = float("nan")
    with torch.no_grad():
        found = CompiledConvolution().apply(conv, inputs, weight.flatten(), bias)
    assert found.isnan().flatten().tolist() == [False, True, False]


def test_each_tap_meets_inputs_of_one_remainder() -> None:
    for size, taps, stride, padding in [(8, 3, 2, 1), (9, 5, 3, 2), (4, 2, 3, 0), (5, 1, 2, 0)]:
        axes = inputs_axis(size, taps, stride, padding)
        phases = np.array([axis.phase for axis in axes])
        assert ((phases == 0).sum(axis=0) == 1).all()
        own = outputs_axis(size, taps, stride, padding)
        assert min(own.shift) >= 0 and max(own.shift) + own.sums <= own.places


def test_the_table_of_layers_has_every_kernel_and_rises_in_intensity() -> None:
    assert set(LAYER_BREAK_EVEN) == {"c", "c plain", "numba", "torch"}
    for kinds in LAYER_BREAK_EVEN.values():
        for rows in kinds.values():
            assert list(rows) == sorted(rows)
    assert layer_break_even("c", "conv", intensity((64, 3, 3, 3), (3, 32, 32), (1, 1))) == 0.0
    assert layer_break_even("c", "conv", intensity((64, 64, 3, 3), (64, 32, 32), (1, 1))) > 0.2


@compiled
def test_structures_agree_with_the_header() -> None:
    assert ctypes.sizeof(_Planes) == 40 and ctypes.sizeof(_Sums) == 40
