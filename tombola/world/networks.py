"""The networks of the literature, each with the settings it is trained with, for any images.

Source: Frankle & Carbin 2019 (arXiv 1803.03635), figure 2 and appendices G, H and I. What is in no
table there, and so our choice: inputs of convolutional networks are standardised by channel; where
dropout stands; normalisation starts at scale 1; the density at which a verdict is given, which is
that of a round of the paper's curves.

`-sgd`: the small convolutional networks as edge-popup's scores are trained, Ramanujan et al. 2019
(arXiv 1911.13299) and the authors' configurations; `conv8` is theirs too, trained otherwise as
`conv6` here. `wrn22-2`: as sparse trainings of it are compared, Evci et al. 2020 (arXiv 1911.11134)
and the published reproduction, varun19299/rigl-reproducibility.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Protocol

import torch
from torch import nn

from tombola.errors import WorldError
from tombola.world.data.split import Split
from tombola.world.models import VGG, ConvNet, LeNet, ResNet, WideResNet
from tombola.world.optimiser import SGD, Adam, Cosine, Drops, Optimiser, Stretched, WarmUp
from tombola.world.prepare import FlipAndCrop, InTurn, Prepare, Scaled, Standardised
from tombola.world.world import World

Image = tuple[int, int, int]  # channels, height, width


class Build(Protocol):
    """Makes a network for images of a size and a number of classes, its widths times a factor."""

    def __call__(self, image: Image, classes: int, factor: float = 1.0) -> nn.Module: ...


def lenet(image: Image, classes: int, factor: float = 1.0) -> LeNet:
    """LeNet-300-100."""
    return LeNet(prod(image), *_times(factor, 300, 100), classes)


def convnet(
    filters: tuple[int, ...], dropout: float, image: Image, classes: int, factor: float = 1.0
) -> ConvNet:
    """Conv-2, Conv-4, Conv-6 or Conv-8 by the filters of each pair; two linear layers of 256."""
    return ConvNet(
        _times(factor, *filters),
        _times(factor, 256, 256),
        image=image,
        classes=classes,
        dropout=dropout,
    )


def resnet20(image: Image, classes: int, factor: float = 1.0) -> ResNet:
    """The residual network of 20 layers."""
    return ResNet(_times(factor, 16, 32, 64), channels=image[0], classes=classes)


def wrn22(image: Image, classes: int, factor: float = 1.0) -> WideResNet:
    """The wide residual network of 22 layers, of width 2."""
    stem, *widths = _times(factor, 16, 32, 64, 128)
    return WideResNet(stem, widths, channels=image[0], classes=classes)


def vgg19(image: Image, classes: int, factor: float = 1.0) -> VGG:
    """VGG-19 with one linear layer."""
    groups = (64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4
    thinner = tuple(_times(factor, *group) for group in groups)
    return VGG(thinner, channels=image[0], classes=classes)


def _times(factor: float, *widths: int) -> tuple[int, ...]:
    return tuple(max(1, round(factor * width)) for width in widths)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network and how it is trained; called with splits of images, it gives a world.

    rates, unpruned: as in `World`. augmented: shifted and mirrored in training. standardised: by
    channel, else scaled to 0 to 1. short: steps of its short preset.
    """

    summary: str
    build: Build
    optimiser: Optimiser
    steps: int
    batch_size: int
    judged_density: float
    short: int
    rates: Mapping[str, float] | float = field(default_factory=dict)
    unpruned: tuple[str, ...] = ()
    augmented: bool = False
    standardised: bool = True

    def __call__(self, parts: Mapping[str, Split], name: str) -> World:
        """The world of this network on images: uint8 (n, channels, height, width) in `parts`.

        Raises:
            WorldError: inputs that are no images, or targets that are no classes.
        """
        image, classes = shape_of(parts["train"], name)
        build = partial(self.build, image, classes)
        return World(
            name=name,
            model=build,
            thin=build,
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts["test"],
            steps=self.steps,
            batch_size=self.batch_size,
            optimiser=self.optimiser,
            prepare=self._prepare(parts["train"]),
            evaluate_every=100,
            rates=self.rates,
            unpruned=self.unpruned,
            judged_density=self.judged_density,
        )

    def _prepare(self, train: Split) -> Prepare:
        convert = standardised(train) if self.standardised else Scaled()
        return InTurn((FlipAndCrop(padding=4), convert)) if self.augmented else convert

    def shortened(self, parts: Mapping[str, Split], name: str) -> World:
        """The short preset, for trying out: few steps on few examples, judged after two rounds.

        The learning rate keeps its course, in as many steps as there are.
        """
        few = {
            split: part.part(torch.arange(min(SHORT[split], len(part))))
            for split, part in parts.items()
        }
        factor = self.short / self.steps
        world = self(few, name)
        rate = Stretched(of=self.optimiser.rate, times=factor)
        return replace(
            world,
            steps=self.short,
            evaluate_every=max(1, self.short // 5),
            optimiser=replace(self.optimiser, rate=rate),  # type: ignore[type-var]
            judged_density=SHORT_DENSITY,
            margin=SHORT_MARGIN,
        )


SHORT = {"train": 2_000, "validation": 200, "test": 500}
SHORT_DENSITY = 0.74  # two rounds, in each of the networks
SHORT_MARGIN = 0.05


def shape_of(split: Split, name: str) -> tuple[Image, int]:
    """The shape of an image, and the number of classes.

    Raises:
        WorldError: the split has no images or no classes.
    """
    inputs, targets = split.inputs, split.targets
    if not isinstance(inputs, torch.Tensor) or inputs.dim() != 4:
        shape = tuple(inputs.shape) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
        raise WorldError(
            f"{name}: the inputs are {shape}; want images as one tensor (examples, channels, "
            "height, width)."
        )
    if not isinstance(targets, torch.Tensor) or targets.is_floating_point() or targets.dim() != 1:
        raise WorldError(f"{name}: the targets are no classes; want whole numbers, one an image.")
    channels, height, width = inputs.shape[1:]
    return (channels, height, width), max(len(split.classes), int(targets.max()) + 1)


def standardised(train: Split) -> Standardised:
    """By mean and deviation of each channel of the training images, to four places."""
    images = train.inputs
    count = images.numel() / images.shape[1]
    values = torch.arange(256, dtype=torch.float64) / 255.0
    means, deviations = [], []
    for channel in range(images.shape[1]):
        pixels = torch.bincount(images[:, channel].reshape(-1).int(), minlength=256)
        share = pixels.double() / count
        mean = float(share @ values)
        means.append(round(mean, 4))
        deviations.append(round(max(float(share @ (values - mean) ** 2) ** 0.5, 1e-4), 4))
    return Standardised(mean=tuple(means), std=tuple(deviations))


FILTERS = (64, 128, 256, 512)  # of both convolutions of each pair


def _conv(pairs: int, lr: float, steps: int, judged: float, dropout: float = 0.0) -> Network:
    filters = FILTERS[:pairs]
    with_dropout = f", dropout {dropout:g}" if dropout else ""
    return Network(
        summary=f"Conv-{2 * pairs}{with_dropout}: Adam {lr:g}, batch 60, {steps:,} steps",
        build=partial(convnet, filters, dropout),
        optimiser=Adam(lr=lr),
        steps=steps,
        batch_size=60,
        judged_density=judged,
        short=60,
        rates={"conv": 0.85 if pairs >= 3 else 0.9, "linear": 0.8, "output": 0.9},
    )


def _conv_sgd(pairs: int) -> Network:
    """100 epochs of 45,000 images; the density at which supermasks of these networks are best."""
    steps = 100 * (45_000 // 128)
    return replace(
        _conv(pairs, 1e-3, steps, 0.5),
        summary=f"Conv-{2 * pairs}: SGD 0.1 along a cosine, batch 128, 100 epochs ({steps:,} "
        "steps), for scores",
        optimiser=SGD(lr=0.1, momentum=0.9, weight_decay=1e-4, rate=Cosine()),
        batch_size=128,
    )


def _wrn22() -> Network:
    steps = 250 * (45_000 // 128)
    rate = Drops(at=(30_000, 60_000), by=0.2)
    return Network(
        summary=f"WRN-22-2: SGD 0.1, batch 128, 250 epochs ({steps:,} steps)",
        build=wrn22,
        optimiser=SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, rate=rate),
        steps=steps,
        batch_size=128,
        judged_density=0.2,
        short=20,
        rates=0.8,
        augmented=True,
    )


def _resnet20(lr: float, warm_up: int = 0) -> Network:
    drops = Drops(at=(20_000, 25_000))
    return Network(
        summary=f"20-layer residual network: SGD {lr:g}{_warmed(warm_up)}, batch 128, 30,000 steps",
        build=resnet20,
        optimiser=_sgd(lr, drops, warm_up),
        steps=30_000,
        batch_size=128,
        judged_density=0.2622,
        short=30,
        rates=0.8,
        unpruned=("*.shortcut.*", "output.weight"),
        augmented=True,
    )


def _vgg19(lr: float, warm_up: int = 0) -> Network:
    epoch = 45_000 // 64
    drops = Drops(at=(80 * epoch, 120 * epoch))
    return Network(
        summary=f"VGG-19: SGD {lr:g}{_warmed(warm_up)}, batch 64, 160 epochs ({160 * epoch:,} "
        "steps)",
        build=vgg19,
        optimiser=_sgd(lr, drops, warm_up),
        steps=160 * epoch,
        batch_size=64,
        judged_density=0.0352,
        short=12,
        rates=0.8,
        unpruned=("output.weight",),
        augmented=True,
    )


def _sgd(lr: float, drops: Drops, warm_up: int) -> SGD:
    rate = WarmUp(steps=warm_up, then=drops) if warm_up else drops
    return SGD(lr=lr, momentum=0.9, weight_decay=1e-4, rate=rate)


def _warmed(steps: int) -> str:
    return f" after {steps:,} steps of warm-up" if steps else ""


NETWORKS: dict[str, Network] = {
    "lenet": Network(
        summary="LeNet-300-100: Adam 0.0012, batch 60, 50,000 steps",
        build=lenet,
        optimiser=Adam(lr=1.2e-3),
        steps=50_000,
        batch_size=60,
        judged_density=0.1083,
        short=500,
        rates={"linear": 0.8, "output": 0.9},
        standardised=False,
    ),
    "conv2": _conv(1, 2e-4, 20_000, 0.0882),
    "conv4": _conv(2, 3e-4, 25_000, 0.0919),
    "conv6": _conv(3, 3e-4, 30_000, 0.153),
    "conv8": _conv(4, 3e-4, 30_000, 0.153),
    **{f"conv{2 * pairs}-sgd": _conv_sgd(pairs) for pairs in (1, 2, 3, 4)},
    "conv2-dropout": _conv(1, 3e-4, 60_000, 0.0882, dropout=0.5),
    "conv4-dropout": _conv(2, 2e-4, 75_000, 0.0919, dropout=0.5),
    "conv6-dropout": _conv(3, 2e-4, 90_000, 0.153, dropout=0.5),
    "resnet20": _resnet20(0.1),
    "resnet20-low": _resnet20(0.01),
    "resnet20-warmup": _resnet20(0.03, warm_up=20_000),
    "wrn22-2": _wrn22(),
    "vgg19": _vgg19(0.1),
    "vgg19-low": _vgg19(0.01),
    "vgg19-warmup": _vgg19(0.1, warm_up=10_000),
}
