"""The kernels of `conv.c`, called through plain pointers, as torch functions with gradients."""

import ctypes
from ctypes import Structure, c_int32, c_void_p
from typing import Any, ClassVar

import torch
from torch import Tensor

from tombola.kernels.built import VARIANTS
from tombola.kernels.compiled import library
from tombola.kernels.conv import Conv, Image, Pair, Sums
from tombola.kernels.plain_conv import PlainConvolution

AT_ONCE = 128  # examples of a pass without gradients: what is laid out for them stays in caches


class _Planes(Structure):
    _fields_: ClassVar = [
        (name, c_int32)
        for name in (
            "examples",
            "channels",
            "height",
            "width",
            "stride_y",
            "stride_x",
            "rows",
            "columns",
            "top",
            "left",
        )
    ]


class _Sums(Structure):
    _fields_: ClassVar = [
        ("variant", c_int32),
        ("units", c_int32),
        ("first", c_void_p),
        ("offset", c_void_p),
        *((name, c_int32) for name in ("rows", "columns", "pitch", "groups")),
    ]


class CompiledConvolution:
    """variant: an instruction set, the best of this processor unless given.

    Raises:
        RuntimeError: there is no library, or the processor lacks the variant.
    """

    def __init__(self, variant: str | None = None) -> None:
        found = library()
        if found is None:
            raise RuntimeError("no compiled kernels; tombola was installed without a C compiler.")
        self._library, best = found, found.tombola_variant()
        self._variant = best if variant is None else VARIANTS.index(variant)
        if self._variant > best:
            raise RuntimeError(f"this processor has {VARIANTS[best]}, not {variant}.")

    @property
    def name(self) -> str:
        return "c" if self._variant else "c plain"

    def apply(self, conv: Conv, inputs: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled():
            found: Tensor = _Applied.apply(  # type: ignore[no-untyped-call]
                inputs, values, bias, conv, self
            )
            return found
        parts = inputs.split(AT_ONCE)
        done = [self.outputs(conv, self.laid_out(conv, p), len(p), values, bias) for p in parts]
        return done[0] if len(done) == 1 else torch.cat(done)

    # -- the three products of a layer --------------------------------------------------------

    def laid_out(self, conv: Conv, images: Tensor) -> Tensor:
        """Inputs in planes, as `outputs` and `weight_gradients` read them."""
        own = conv.forward
        return self._pack(images, conv.image, conv.window.stride, own.before, own.plane)

    def outputs(
        self, conv: Conv, planes: Tensor, examples: int, values: Tensor, bias: Tensor | None
    ) -> Tensor:
        sums = self._sums(conv.forward, planes, examples, values, bias)
        return self._unpack(sums, examples, conv.outputs, (1, 1), conv.forward)

    def delta_laid_out(self, conv: Conv, delta: Tensor) -> Tensor:
        own = conv.backward
        return self._pack(delta, conv.outputs, (1, 1), own.before, own.plane)

    def input_gradients(self, conv: Conv, delta: Tensor, examples: int, values: Tensor) -> Tensor:
        own = conv.backward
        assert own.place is not None
        ordered = values[own.place]
        sums = self._sums(own, delta, examples, ordered, None)
        return self._unpack(sums, examples, conv.image, conv.window.stride, own)

    def weight_gradients(self, conv: Conv, planes: Tensor, delta: Tensor, examples: int) -> Tensor:
        """planes: of inputs. delta: planes of gradients of outputs."""
        found = torch.empty(len(conv.where))
        (above, left), (rows, columns) = conv.backward.before, conv.backward.plane
        begin = (above * columns + left) * _padded(examples)
        self._library.tombola_conv_gradients(
            ctypes.byref(self._struct(conv.forward, examples)),
            c_void_p(planes.data_ptr()),
            c_void_p(delta.data_ptr() + 4 * begin),
            rows * columns,
            columns,
            c_void_p(found.data_ptr()),
        )
        return found

    # -- calls --------------------------------------------------------------------------------

    def _sums(
        self, sums: Sums, planes: Tensor, examples: int, weights: Tensor, bias: Tensor | None
    ) -> Tensor:
        padded = _padded(examples)
        found = torch.empty(sums.units * sums.rows * sums.columns * padded)
        self._library.tombola_conv_sums(
            ctypes.byref(self._struct(sums, examples)),
            c_void_p(weights.data_ptr()),
            None if bias is None else c_void_p(bias.data_ptr()),
            c_void_p(planes.data_ptr()),
            c_void_p(found.data_ptr()),
        )
        return found

    def _struct(self, sums: Sums, examples: int) -> _Sums:
        first, offset = sums.first.ctypes.data, sums.offset.ctypes.data
        sizes = sums.rows, sums.columns, sums.plane[1], _padded(examples) // 16
        return _Sums(self._variant, sums.units, first, offset, *sizes)

    def _pack(
        self,
        images: Tensor,
        image: Image,
        stride: Pair,
        before: Pair,
        plane: Pair,
    ) -> Tensor:
        images = images.contiguous()
        planes = _planes(len(images), image, stride, before, plane)
        count = image.channels * stride[0] * stride[1] * plane[0] * plane[1]
        found = torch.empty(count * _padded(len(images)))
        self._library.tombola_conv_pack(
            ctypes.byref(planes), c_void_p(images.data_ptr()), c_void_p(found.data_ptr())
        )
        return found

    def _unpack(
        self, planes: Tensor, examples: int, image: Image, stride: Pair, sums: Sums
    ) -> Tensor:
        found = torch.empty((examples, *image))
        layout = _planes(examples, image, stride, (0, 0), (sums.rows, sums.columns))
        self._library.tombola_conv_unpack(
            ctypes.byref(layout), c_void_p(planes.data_ptr()), c_void_p(found.data_ptr())
        )
        return found


class _Applied(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        values: Tensor,
        bias: Tensor | None,
        conv: Conv,
        kernel: CompiledConvolution,
    ) -> Tensor:
        planes = kernel.laid_out(conv, inputs)
        ctx.save_for_backward(inputs, values, bias, planes)
        ctx.conv, ctx.kernel = conv, kernel
        return kernel.outputs(conv, planes, len(inputs), values, bias)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
        inputs, values, bias, planes = ctx.saved_tensors
        conv, kernel, examples = ctx.conv, ctx.kernel, len(inputs)
        wanted = ctx.needs_input_grad
        if torch.is_grad_enabled():  # these gradients are to be differentiated again
            return _differentiable(ctx, inputs, values, bias, delta)
        laid_out = kernel.delta_laid_out(conv, delta)
        return (
            kernel.input_gradients(conv, laid_out, examples, values) if wanted[0] else None,
            kernel.weight_gradients(conv, planes, laid_out, examples) if wanted[1] else None,
            delta.sum((0, 2, 3)) if wanted[2] else None,
            None,
            None,
        )


def _differentiable(
    ctx: Any, inputs: Tensor, values: Tensor, bias: Tensor | None, delta: Tensor
) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:3]
    outputs = PlainConvolution().apply(ctx.conv, inputs, values, bias)
    given = zip((inputs, values, bias), wanted, strict=True)
    sources = [tensor for tensor, want in given if want and tensor is not None]
    found = iter(torch.autograd.grad(outputs, sources, delta, create_graph=True))
    return (*(next(found) if want else None for want in wanted), None, None)


def _planes(examples: int, image: Image, stride: Pair, before: Pair, plane: Pair) -> _Planes:
    if image.height == image.width == 1 and stride == plane == (1, 1):
        return _Planes(examples, 1, 1, image.channels, 1, 1, 1, image.channels, 0, 0)  # one row
    return _Planes(examples, *image, *stride, *plane, *before)


def _padded(examples: int) -> int:
    return -(-examples // 16) * 16
