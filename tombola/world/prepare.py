"""What happens to a batch on its way to the network: conversion, and augmentation on tensors."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from tombola.errors import WorldError
from tombola.world.batch import Batch, nested


class Prepare(Protocol):
    """A frozen dataclass and a call.

    `generator` is keyed by (seed, step) in training and None in evaluation, where nothing random
    may happen. One with `random = False` promises that it never draws, so that what a network says
    of an example may be remembered; without that attribute it counts as random.
    """

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch: ...


@dataclass(frozen=True, kw_only=True)
class AsIs:
    """Inputs go in as they are."""

    random: ClassVar[bool] = False

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        return batch


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Bytes to float32: (input - mean) / scale. Keeps a set of images in memory at a quarter."""

    random: ClassVar[bool] = False

    mean: float = 0.0
    scale: float = 255.0

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        def scaled(tensor: Tensor) -> Tensor:
            return tensor.to(torch.float32, copy=True).sub_(self.mean).div_(self.scale)

        inputs = nested(scaled, batch.inputs)
        return Batch(inputs, batch.targets, batch.index)


@dataclass(frozen=True, kw_only=True)
class Standardised:
    """Images of bytes (n, channels, height, width) to float32, each channel by mean and deviation.

    mean, std: one number a channel, of pixels from 0 to 1.

    Example:
        >>> grey = Standardised(mean=(.5,), std=(.25,))
        >>> images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> grey(Batch(images, None, None), None).inputs.flatten()
        tensor([-2.,  2.])
    """

    random: ClassVar[bool] = False

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise WorldError(
                f"Standardised(mean={self.mean}, std={self.std}): want one mean and one deviation "
                "over 0 for each channel."
            )

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        images = batch.inputs
        if images.dim() != 4 or images.shape[1] != len(self.mean):
            raise WorldError(
                f"Standardised for {len(self.mean)} channels: the inputs have shape "
                f"{tuple(images.shape)}; want (examples, {len(self.mean)}, height, width)."
            )
        mean, std = (_of_bytes(tuple(values), images.device) for values in (self.mean, self.std))
        inputs = images.to(torch.float32, copy=True).sub_(mean).div_(std)
        return Batch(inputs, batch.targets, batch.index)


@functools.cache
def _of_bytes(values: tuple[float, ...], device: torch.device) -> Tensor:
    """One number a channel, of pixels from 0 to 255, as (1, channels, 1, 1); made once."""
    return (torch.tensor(values).reshape(1, -1, 1, 1) * 255.0).to(device)


@dataclass(frozen=True, kw_only=True)
class FlipAndCrop:
    """In training: shift each image by up to `padding` pixels, mirror it with chance one half.

    Images (n, channels, height, width) keep their size: each is cut, at a place drawn uniformly,
    from itself with `padding` zeros on every side. The draws of an image depend on the generator
    and its place in the batch alone. In evaluation images stay as they are.

    Source: He et al. 2016 (arXiv 1512.03385), section 4.2; 2019 took it over for its deep networks.
    Zeros are put around the bytes, before any standardisation: black, as there.
    """

    random: ClassVar[bool] = True

    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise WorldError(f"FlipAndCrop(padding={self.padding}): want pixels, 0 or more.")

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        if generator is None:
            return batch
        images = batch.inputs
        (count, _, height, width), room = images.shape, 2 * self.padding + 1
        mirrored = torch.rand(count, generator=generator) < 0.5
        down, right = torch.randint(room, (2, count, 1), generator=generator)
        # Drawn and worked out on the processor, so that they are the same on every device.
        rows = down + torch.arange(height)
        columns = torch.arange(width).expand(count, width)
        columns = right + torch.where(mirrored[:, None], columns.flip(1), columns)
        wide = pad(images, (self.padding,) * 4)
        each = torch.arange(count)
        each, rows, columns = (
            places.to(images.device, non_blocking=True) for places in (each, rows, columns)
        )
        chosen = wide[each[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        inputs = chosen.permute(0, 3, 1, 2)
        return Batch(inputs.contiguous(), batch.targets, batch.index)


@dataclass(frozen=True)
class InTurn:
    """Several preparations, one after the other; their random draws too.

    >>> InTurn((FlipAndCrop(), Scaled())).parts[1].scale
    255.0
    """

    parts: Sequence[Prepare]

    @property
    def random(self) -> bool:
        return any(draws(part) for part in self.parts)

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        for part in self.parts:
            batch = part(batch, generator)
        return batch


def draws(prepare: Prepare) -> bool:
    """Whether a preparation may change an example from one time to the next.

    >>> draws(Scaled()), draws(InTurn((FlipAndCrop(), Scaled()))), draws(lambda batch, _: batch)
    (False, True, True)
    """
    return bool(getattr(prepare, "random", True))
