"""Whether pruning pays here: every format against the dense network, by density and batch."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tombola.errors import CallError, ShipError, TombolaError
from tombola.lab.bench.measure import Measured, rounded
from tombola.out.amounts import size
from tombola.out.ship.chain import WAYS, SparseNetwork
from tombola.out.ship.onnx import check_installed, exported, session
from tombola.out.ship.packing import Packed
from tombola.out.ship.shipment import EXAMPLES, dense_bytes
from tombola.out.ship.smaller import smaller
from tombola.out.ship.sparse import encode_rows, links_for_shipping, rows_of
from tombola.out.ship.speed import RANK, Compute, by_turns, inputs_of
from tombola.pieces.basis import Units
from tombola.train.executors.links import Link
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.values.units import expanded
from tombola.world.world import World, initial_params

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
BATCHES = (1, 4, 16, 64, 256)
LIBRARIES = {"torch": "torch CSR", "scipy": "scipy CSR"}


def ship(
    world: World, densities: Sequence[float] = DENSITIES, batches: Sequence[int] = BATCHES
) -> Measured:
    """Whole forward passes on one thread, under a random mask of each density in every layer; and
    with a random half of the units of every set, where the network has units.

    `ratio` is dense over the format, turn by turn, with the interval of its median at .965.
    `sparse` is what `tombola.load_sparse` gives: each layer the way its table says; "torch CSR" and
    "scipy CSR" are the same weights in those libraries throughout. `onnxruntime` computes zeros;
    "compact" is the network without the units that are cut, and "compact onnx" that in onnxruntime.
    """
    links, why_not = _links(world)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    dense = world.new_network(0)
    for density in densities:
        mask = mask_of(world, density)
        params = mask.apply(initial_params(world, 0))
        forms, sizes = _forms(world, params, mask, links)
        for batch in batches:
            rows += _rows(density, batch, dense, forms, sizes, inputs_of(world, batch))
        packed = len(Packed(tensors=params, mask=mask).encode())
        times = dense_bytes(params) / packed
        notes.append(f"packed at density {density:g}: {size(packed)}, {times:.1f} times smaller")
    try:
        halved, share = halves(world)
    except TombolaError as error:
        notes.append(f"compact: {error}")
    else:
        forms, sizes = _smaller_forms(world, halved)
        for batch in batches:
            rows += _rows(share, batch, dense, forms, sizes, inputs_of(world, batch))
    notes += _sentences(rows)
    if why_not:
        notes.append(why_not)
    return Measured(
        bench="ship",
        world=world.name,
        about="a forward pass on one thread, in processor time; ratio: dense over the format, low "
        "and high: the interval of its median over 15 turns; kB: of the file",
        rows=tuple(rows),
        notes=tuple(notes),
    )


def mask_of(world: World, density: float) -> Mask:
    """A random mask of about this density in every layer."""
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(0, "bench", layer.name)) < density
            for layer in world.layers
        }
    )


def halves(world: World) -> tuple[Params, float]:
    """Initial values with a random half of the units of every set, and the density that leaves.

    Raises:
        TombolaError: the network cannot be traced, or has no units that can be cut.
    """
    layers = world.layers
    sets = Units().sets(layers, lambda: world.coupling)
    kept = {}
    for one in sets:
        order = torch.randperm(one.count, generator=stream(0, "bench", one.name))
        kept[one.name] = order < (one.count + 1) // 2
    mask = expanded(Mask(kept), sets, {layer.name: layer.shape for layer in layers})
    left = sum(mask.kept(layer.name, layer.count) for layer in layers)
    share = left / sum(layer.count for layer in layers)
    return mask.apply(initial_params(world, 0)), round(share, 4)


def _smaller_forms(world: World, params: Params) -> tuple[dict[str, Compute], dict[str, int]]:
    """What computes with the units that are left, and the bytes of its file."""
    inputs = inputs_of(world, EXAMPLES)
    network = smaller(world.network(params).eval(), world.coupling, inputs).network
    forms: dict[str, Compute] = {"compact": network}
    sizes = {"dense": dense_bytes(params), "compact": dense_bytes(network.state_dict())}
    onnx = _in_onnxruntime(world, network)
    if onnx is not None:
        forms["compact onnx"], sizes["compact onnx"] = onnx
    return forms, sizes


def _links(world: World) -> tuple[tuple[Link, ...] | None, str]:
    try:
        return links_for_shipping(world), ""
    except ShipError as error:
        return None, str(error)


def _forms(
    world: World, params: Params, mask: Mask, links: tuple[Link, ...] | None
) -> tuple[dict[str, Compute], dict[str, int]]:
    """What computes in each format, and the bytes of its file."""
    forms, sizes = dict[str, Compute](), {"dense": dense_bytes(params)}
    if links is not None:
        layers = rows_of(links, params, mask)
        forms["sparse"] = SparseNetwork(layers)
        for way, name in LIBRARIES.items():
            assert way in WAYS
            forms[name] = SparseNetwork(layers, way)
        sizes |= dict.fromkeys(forms, len(encode_rows(layers, {})))
    onnx = _in_onnxruntime(world, world.network(params).eval())
    if onnx is not None:
        forms["onnxruntime"], sizes["onnxruntime"] = onnx
    return forms, sizes


def _in_onnxruntime(world: World, network: nn.Module) -> tuple[Compute, int] | None:
    """A network there, and the bytes of its file; None where it is not installed."""
    try:
        check_installed()
    except CallError:
        return None
    inputs = inputs_of(world, 2)
    content = exported(network, inputs)
    with torch.no_grad():
        return session(content, network(inputs)), len(content)


def _rows(
    density: float,
    batch: int,
    dense: nn.Module,
    forms: Mapping[str, Compute],
    sizes: Mapping[str, int],
    inputs: Any,
) -> list[dict[str, Any]]:
    turns = by_turns({"dense": dense.eval(), **forms}, inputs)
    rows = []
    for name, times in turns.items():
        ratios = sorted(a / b for a, b in zip(turns["dense"], times, strict=True))
        rows.append(
            {
                "density": density,
                "batch": batch,
                "format": name,
                "microseconds": rounded(statistics.median(times) * 1e6),
                "ratio": rounded(statistics.median(ratios)),
                "low": rounded(ratios[RANK]),
                "high": rounded(ratios[-1 - RANK]),
                "kB": rounded(sizes[name] / 1e3),
            }
        )
    return rows


def _sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table says of each format and density, in a line."""
    places = dict.fromkeys((row["format"], row["density"]) for row in rows)
    return [
        f"{name} at density {density:g}: "
        + _sentence([r for r in rows if (r["format"], r["density"]) == (name, density)])
        for name, density in places
        if name != "dense"
    ]


def _sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of one format at one density.

    >>> row = {"batch": 1, "ratio": 2.3, "low": 2.2, "high": 2.4}
    >>> _sentence([row, {"batch": 64, "ratio": 0.5, "low": 0.4, "high": 0.6}])
    'faster than dense at batch 1 (2.3x); slower at batch 64 (0.5x)'
    """
    kinds: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "faster than dense": lambda row: row["low"] > 1.0,
        "slower": lambda row: row["high"] < 1.0,
        "not told apart": lambda row: row["low"] <= 1.0 <= row["high"],
    }
    said = []
    for kind, holds in kinds.items():
        own = [f"{row['batch']} ({row['ratio']:g}x)" for row in rows if holds(row)]
        if own:
            said.append(f"{kind} at batch {', '.join(own)}")
    return "; ".join(said)
