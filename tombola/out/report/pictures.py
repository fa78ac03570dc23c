"""What the first layer of an image network keeps: its masks and values, packed for drawing.

A tile is one unit of the layer: the weights that lead to it from every pixel of the input, or one
filter of a convolution. The page draws tiles, and counts what each pixel or kernel position keeps,
from the masks given here.
"""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tombola.errors import DamagedObjectError
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET
from tombola.values.mask import Mask
from tombola.values.params import Params

BUDGET = 2_000_000  # bytes of masks and values in a page: one LeNet-300-100 of 16 rounds on MNIST
LEAST_SIDE = 8  # of an image; what has fewer is more likely a table, or has its channels last


@dataclass(frozen=True, kw_only=True)
class FirstLayer:
    """The layer that sees the image. Weights are (units, channels, height, width) in this order."""

    name: str
    kind: str  # pixels, where each weight belongs to a pixel of the input; filters, of a kernel
    units: int
    channels: int
    height: int
    width: int
    flat: bool  # the input is a vector, so that the square was inferred

    @property
    def count(self) -> int:
        """Weights of one unit."""
        return self.channels * self.height * self.width


def first_layer(
    layers: Sequence[Mapping[str, Any]], shape: Sequence[int] | None
) -> FirstLayer | None:
    """The first prunable layer, if it sees an image; None where the input is none.

    layers: name, shape and kind, in the network's order. shape: of one input example, channels
    first. A flat input counts as a square image of one channel if it is at least 8 by 8.

    Example:
        >>> found = first_layer([{"name": "fc", "shape": [300, 784], "kind": "linear"}], [784])
        >>> found.height, found.width, found.flat
        (28, 28, True)
        >>> first_layer([{"name": "fc", "shape": [8, 6], "kind": "linear"}], [6]) is None
        True
    """
    if not layers or shape is None or layers[0]["kind"] == "attention":
        return None
    image = _image(shape)
    weights = layers[0]["shape"]
    if image is None:
        return None
    channels, height, width = image
    if len(weights) == 2 and weights[1] == math.prod(image):
        kind = "pixels"
    elif len(weights) == 4 and len(shape) == 3 and weights[1] == channels:
        kind, (height, width) = "filters", weights[2:]
    else:
        return None
    return FirstLayer(
        name=layers[0]["name"],
        kind=kind,
        units=weights[0],
        channels=channels,
        height=height,
        width=width,
        flat=len(shape) == 1,
    )


def _image(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Channels, height and width of an input; None where it is none, or has its channels last."""
    if len(shape) == 3:
        channels, height, width = shape
    elif len(shape) == 2:
        channels, height, width = 1, *shape
    else:
        side = math.isqrt(shape[0]) if len(shape) == 1 else 0
        if side**2 != math.prod(shape):
            return None
        channels, height, width = 1, side, side
    return (channels, height, width) if min(height, width) >= LEAST_SIDE else None


def pictures_of(study: Study, budget: int = BUDGET) -> dict[str, Any] | None:
    """What the page draws of the ticket's first layer; None where there is no image to draw.

    As many seeds as fit the budget in bytes, the first always; of a layer too large even for one,
    its first units. networks: for each seed its rounds, each with a packed mask and the places of
    its values, trained and at the start, in `values`; None where the store has lost them. frozen:
    whether what is cut keeps a value instead of zero.
    """
    about = study.facts["about"]
    layer = first_layer(about["layers"], about["input"])
    if layer is None:
        return None
    rounds = {seed: _ticket_of(study, seed) for seed in study.document["seeds"]}
    first, *others = rounds
    packed = _Packed(study, layer, layer.units)
    networks = [packed.network(first, rounds[first])]
    if packed.size > budget:
        packed = _Packed(study, layer, max(1, layer.units * budget // packed.size))
        networks = [packed.network(first, rounds[first])]
    room = budget // max(1, packed.size) - 1
    networks += [packed.network(seed, rounds[seed]) for seed in others[: max(0, room)]]
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "flat": layer.flat,
        "units": packed.units,
        "of": layer.units,
        "channels": layer.channels,
        "height": layer.height,
        "width": layer.width,
        "frozen": not all(trial["cuts_to_zero"] for of in rounds.values() for trial in of),
        "values": packed.values,
        "networks": networks,
    }


def _ticket_of(study: Study, seed: int) -> list[Mapping[str, Any]]:
    trials = study.facts["trials"]
    own = [trial for trial in trials if trial["arm"] == TICKET and trial["seed"] == seed]
    return sorted(own, key=lambda trial: trial["round"])


class _Packed:
    """The first layer's tensors as the page takes them; equal starts are packed once.

    size: bytes so far. values: each with the largest magnitude as `scale` and signed bytes `at`;
    a byte is 127 value / scale, and never 0, so that its sign is kept. Trained values are of the
    kept weights alone, in their order.
    """

    def __init__(self, study: Study, layer: FirstLayer, units: int) -> None:
        self.units, self.size, self.values = units, 0, list[dict[str, Any]]()
        self._study, self._layer = study, layer
        self._starts: dict[str, int | None] = {}

    def network(self, seed: int, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Every round of one seed."""
        return {"seed": seed, "rounds": [self._round(trial) for trial in trials]}

    def _round(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """What a round keeps, and values where they can still be read."""
        kept = self._mask(trial["mask"])
        if trial["init"] not in self._starts:
            self._starts[trial["init"]] = self._whole(trial["init"])
        trained = None if kept is None else self._trained(trial["params"], kept)
        return {
            "round": trial["round"],
            "mask": None if kept is None else self._bytes(np.packbits(kept, bitorder="little")),
            "start": self._starts[trial["init"]],
            "trained": trained,
        }

    def _mask(self, digest: str) -> np.ndarray | None:
        try:
            mask = self._study.store.fetch(Mask, digest)
        except DamagedObjectError:
            return None
        shape = (self._layer.units, self._layer.count)
        return mask.of(self._layer.name, shape).reshape(shape)[: self.units].numpy()

    def _tensor(self, digest: str) -> np.ndarray | None:
        try:
            tensor: Tensor = self._study.store.fetch(Params, digest)[self._layer.name]
        except DamagedObjectError:
            return None
        whole = tensor.to(torch.float32).reshape(self._layer.units, self._layer.count)
        return whole[: self.units].numpy()

    def _whole(self, digest: str) -> int | None:
        tensor = self._tensor(digest)
        return None if tensor is None else self._add(tensor.reshape(-1))

    def _trained(self, digest: str, kept: np.ndarray) -> int | None:
        tensor = self._tensor(digest)
        return None if tensor is None else self._add(tensor[kept])

    def _add(self, values: np.ndarray) -> int:
        scale = float(np.abs(values).max(initial=0.0))
        self.values.append({"scale": float(f"{scale:.4g}"), "at": self._bytes(signed(values))})
        return len(self.values) - 1

    def _bytes(self, raw: np.ndarray) -> str:
        self.size += raw.nbytes
        return b64encode(raw.tobytes()).decode()


def signed(values: np.ndarray) -> np.ndarray:
    """Values as signed bytes, the largest magnitude 127 and none of them 0; (n,) int8.

    >>> signed(np.array([0.5, -0.25, 0.0001])).tolist()
    [127, -64, 1]
    """
    magnitudes = np.abs(values)
    scale = magnitudes.max(initial=0.0) or 1.0
    found = np.copysign(np.maximum(np.rint(magnitudes / scale * 127), 1), values)
    return np.asarray(found, dtype=np.int8)
