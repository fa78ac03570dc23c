"""`--to sparse`: compressed rows, and a loader that computes with them alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode_tensors
from torch import Tensor

from tombola.errors import ShipError
from tombola.kernels.infer import Rows
from tombola.out.ship.chain import SparseNetwork
from tombola.out.ship.files import deliver
from tombola.out.ship.format import Form, Format
from tombola.out.ship.safetensors import FROZEN
from tombola.out.ship.shipment import Shipment
from tombola.train.executors.executor import NotServedError
from tombola.train.executors.links import Link, links_of
from tombola.values.digest import digest
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.tensors import encode_tensors
from tombola.world.world import World

ENDING = ".sparse.safetensors"
TOLERANCE = 1e-5
SCHEMA = 1
LOADED = (
    "tombola.load_sparse(path) gives a module for inference on the CPU; it was measured beside the "
    "dense network by turns on one thread. Inputs as prepared by the world."
)
SLOWER = "Dense is faster at batch {}: the sparse file pays there in size alone."


def load_sparse(path: str | Path, way: str | None = None) -> SparseNetwork:
    """The network of a file written by `tombola ship --to sparse`; `way` as in `SparseNetwork`.

    Raises:
        ShipError: it cannot be read, is no such file, or was changed since.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ShipError(f"{path} cannot be read: {error}.") from error
    return SparseNetwork(decode_rows(raw, str(path)), way)


def ship_sparse(shipment: Shipment) -> dict[str, Any]:
    """Write `<stem>.sparse.safetensors`; returns the document of `tombola ship --json`.

    Raises:
        CheckError: the file does not compute what the network does; it is not kept.
        ShipError: the network is no chain of linear layers.
    """
    assert shipment.world is not None
    links = links_for_shipping(shipment.world)
    layers = rows_of(links, shipment.cargo.params, shipment.mask)
    content = encode_rows(layers, shipment.facts())
    target, found = shipment.target(ENDING), dict[str, Any]()

    def check(raw: bytes) -> dict[str, bool | None]:
        network = SparseNetwork(decode_rows(raw, str(target)))
        found.update(shipment.found(network, TOLERANCE))
        found["ways"] = {str(size): network.ways(size) for size in shipment.batches}
        return {"outputs_equal": True}

    checks = deliver(content, target, check)
    notes = [LOADED] if shipment.cargo.cuts_to_zero else [LOADED, FROZEN]
    notes += [SLOWER.format(row["batch"]) for row in found["speed"] if row["high"] < 1.0]
    return shipment.document(ENDING, content, checks, **found, notes=notes)


def links_for_shipping(world: World) -> tuple[Link, ...]:
    """The linear layers of a world's network, in order.

    Raises:
        ShipError: it is something else; the message says which operator.
    """
    inputs = world.batch(world.test, torch.arange(1)).inputs
    network = world.new_network(0)
    try:
        if not isinstance(inputs, Tensor):
            raise NotServedError(f"{type(network).__name__} takes several inputs")
        if inputs.dtype is not torch.float32:
            raise NotServedError(f"its inputs are {inputs.dtype}, not float32")
        return links_of(network, inputs[0])
    except NotServedError as error:
        raise ShipError(
            f"--to sparse: {error}. It takes linear layers with ReLU between them; --to packed and "
            "--to onnx take any network."
        ) from error


# -- rows ------------------------------------------------------------------------------------


def rows_of(links: tuple[Link, ...], tensors: Mapping[str, Tensor], mask: Mask) -> tuple[Rows, ...]:
    """What each layer keeps. A weight is kept by the mask, whatever its value."""
    return tuple(
        _rows(
            mask.of(link.weight, tensors[link.weight].shape).numpy(),
            tensors[link.weight].numpy(),
            None if link.bias is None else tensors[link.bias].numpy().copy(),
            link.relu,
        )
        for link in links
    )


def _rows(kept: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, relu: bool) -> Rows:
    row = np.concatenate([[0], kept.sum(axis=1).cumsum()]).astype(np.int32)
    column = np.nonzero(kept)[1].astype(np.int32)
    return Rows(kept.shape[1], row, column, np.ascontiguousarray(weight[kept]), bias, relu)


# -- files -----------------------------------------------------------------------------------


def encode_rows(layers: tuple[Rows, ...], facts: Mapping[str, Any]) -> bytes:
    """Safetensors: `<layer>/row`, `/column` (16 bits where that is enough), `/weight`, `/bias`."""
    tensors = dict[str, Tensor]()
    for number, layer in enumerate(layers):
        column = torch.from_numpy(layer.column)
        own = {
            "row": torch.from_numpy(layer.row),
            "column": column.to(torch.uint16) if layer.inputs <= 1 << 16 else column,
            "weight": torch.from_numpy(layer.weight),
        }
        if layer.bias is not None:
            own["bias"] = torch.from_numpy(layer.bias)
        tensors |= {f"{number}/{name}": tensor for name, tensor in own.items()}
    shape = [{"inputs": layer.inputs, "relu": layer.relu} for layer in layers]
    head = {"format": "sparse", "layers": shape, **facts, "schema": SCHEMA}
    head["digest"] = digest(["sparse", shape, Params(tensors)])
    return encode_tensors(tensors, {f"tombola.{k}": json.dumps(v) for k, v in head.items()})


def decode_rows(raw: bytes, where: str) -> tuple[Rows, ...]:
    """The layers of these bytes.

    Raises:
        ShipError: not a sparse network, of a newer tombola, or not what was written.
    """
    try:
        tensors = decode_tensors(raw)
        texts = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
        head = {key.removeprefix("tombola."): json.loads(value) for key, value in texts.items()}
    except (SafetensorError, ValueError, KeyError) as error:
        raise ShipError(
            f"{where} is not a sparse network ({error}); `tombola ship --to sparse` writes one."
        ) from error
    if head.get("format") != "sparse" or head.get("schema") != SCHEMA:
        raise ShipError(
            f"{where} is of format {head.get('format')!r}, schema {head.get('schema')!r}; want "
            f"'sparse', {SCHEMA}. A newer tombola may have written it."
        )
    shape = head.get("layers", [])
    if digest(["sparse", shape, Params(dict(sorted(tensors.items())))]) != head.get("digest"):
        raise ShipError(f"{where} is damaged or was changed: its digest is another. Ship it anew.")
    try:
        layers = tuple(_read(number, one, tensors) for number, one in enumerate(shape))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ShipError(f"{where} does not hold what its head says ({error}).") from error
    _check_places(layers, where)
    return layers


def _read(number: int, shape: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Rows:
    bias = tensors.get(f"{number}/bias")
    return Rows(
        inputs=int(shape["inputs"]),
        row=tensors[f"{number}/row"].to(torch.int32).numpy(),
        column=tensors[f"{number}/column"].to(torch.int32).numpy(),
        weight=tensors[f"{number}/weight"].to(torch.float32).numpy(),
        bias=None if bias is None else bias.to(torch.float32).numpy(),
        relu=bool(shape["relu"]),
    )


def _check_places(layers: tuple[Rows, ...], where: str) -> None:
    """Whoever can write a file can write its digest: no place may lie outside its layer."""
    widths = [layers[0].inputs if layers else 0, *(layer.outputs for layer in layers)]
    for layer, width in zip(layers, widths, strict=False):
        rising = bool((np.diff(layer.row) >= 0).all()) and layer.outputs > 0
        ends = rising and layer.row[0] == 0 and layer.row[-1] == len(layer.column)
        inside = not len(layer.column) or 0 <= layer.column.min() <= layer.column.max() < width
        whole = len(layer.weight) == len(layer.column) and (
            layer.bias is None or layer.bias.shape == (layer.outputs,)
        )
        if not (ends and inside and whole and layer.inputs == width):
            raise ShipError(f"{where} has places outside its layers; it is no file of ours.")
    if not layers:
        raise ShipError(f"{where} has no layers.")


# -- the format ------------------------------------------------------------------------------

LIBRARIES = {"torch": "torch CSR", "scipy": "scipy CSR"}  # the same file, all layers that way


def _forms(world: World, params: Params, mask: Mask) -> dict[str, Form]:
    content = encode_rows(rows_of(links_for_shipping(world), params, mask), {})
    layers = decode_rows(content, "the file")
    networks = {"sparse": SparseNetwork(layers)}
    networks |= {name: SparseNetwork(layers, way) for way, name in LIBRARIES.items()}
    return {
        name: Form(compute=network, size=len(content), held=network.held)
        for name, network in networks.items()
    }


def _check(world: World) -> None:
    links_for_shipping(world)


SPARSE = Format(
    name="sparse",
    ship=lambda one, _: ship_sparse(one),
    forms=_forms,
    check=_check,
    needs_world=True,
)
