"""Whether pruning pays here: every format against the dense network, by density and batch."""

import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from tombola.errors import CallError, ShipError, TombolaError, WorldError
from tombola.lab.bench.measure import Measured, rounded
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET
from tombola.out.ship.format import Form
from tombola.out.ship.formats import FORMATS
from tombola.out.ship.shipment import dense_bytes, held_bytes
from tombola.out.ship.speed import RANK, TURNS, by_turns, inputs_of
from tombola.pieces.basis import Units
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.values.units import expanded
from tombola.world.calling import called
from tombola.world.world import World, initial_params

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
BATCHES = (1, 4, 16, 64, 256)
ABOUT = (
    "a forward pass on one thread, in processor time; ratio: dense over the format, low and high: "
    f"the interval of its median at .965, n = {TURNS} turns; what is loaded into the dense network "
    "takes its time; kB: of the file; held: of the weights and places that a pass reads, in kB"
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A network to measure: its density, its tensors with cut weights +0.0, and its mask."""

    density: float
    params: Params
    mask: Mask


def ship(
    world: World, densities: Sequence[float] = DENSITIES, batches: Sequence[int] = BATCHES
) -> Measured:
    """The table for a world's network, under a random mask of each density in every layer; and with
    a random half of the units of every set, where the network has units."""
    points, notes = [drawn(world, density) for density in densities], list[str]()
    try:
        points.append(halved(world))
    except TombolaError as error:
        notes.append(f"compact: {error}")
    found = measured(world, points, batches, f"{ABOUT}; random masks")
    return replace(found, notes=(*found.notes, *notes))


def ship_study(study: Study, world: World, batches: Sequence[int] = BATCHES) -> Measured:
    """The table for the trained tickets of a study's first seed, five of its rounds at most; kept
    in its store, for its report.

    Raises:
        CallError: no ticket whose cut weights are zero.
    """
    found = measured(world, trained(study), batches, f"{ABOUT}; trained tickets of one seed")
    study.store.write_bench(study.digest, found.as_json())
    return found


def drawn(world: World, density: float) -> Point:
    """The initial network under a random mask."""
    mask = mask_of(world, density)
    return Point(density=density, params=mask.apply(initial_params(world, 0)), mask=mask)


def mask_of(world: World, density: float) -> Mask:
    """A random mask of about this density in every layer."""
    return Mask(
        {
            layer.name: torch.rand(layer.shape, generator=stream(0, "bench", layer.name)) < density
            for layer in world.layers
        }
    )


def halved(world: World) -> Point:
    """The initial network with a random half of the units of every set.

    Raises:
        TombolaError: it cannot be traced, or has no units that can be cut.
    """
    layers = world.layers
    sets, kept = Units().sets(layers, lambda: world.coupling), {}
    for one in sets:
        order = torch.randperm(one.count, generator=stream(0, "bench", one.name))
        kept[one.name] = order < (one.count + 1) // 2
    mask = expanded(Mask(kept), sets, {layer.name: layer.shape for layer in layers})
    left = sum(mask.kept(layer.name, layer.count) for layer in layers)
    density = round(left / sum(layer.count for layer in layers), 4)
    return Point(density=density, params=mask.apply(initial_params(world, 0)), mask=mask)


def trained(study: Study) -> list[Point]:
    """Tickets of a study, from dense to sparse."""
    seed = study.document["seeds"][0]
    rounds = [
        trial["round"]
        for trial in study.facts["trials"]
        if (trial["arm"], trial["seed"]) == (TICKET, seed)
        and trial["round"]
        and trial["cuts_to_zero"]
        and trial["diverged_at"] is None
    ]
    if not rounds:
        raise CallError(
            f"study {study.digest[:12]} has no trained ticket of seed {seed} with cut weights at "
            "zero; there is nothing to measure."
        )
    most = min(len(rounds), len(DENSITIES))
    places = {round(place) for place in torch.linspace(0, len(rounds) - 1, most).tolist()}
    which = [{"round": rounds[place], "seed": seed} for place in sorted(places)]
    density = {row["round"]: row["density"] for row in study.rows if row["arm"] == TICKET}
    return [
        Point(
            density=rounded(density[one["round"]]),
            params=study.params(**one),
            mask=study.mask(**one),
        )
        for one in which
    ]


def measured(world: World, points: Sequence[Point], batches: Sequence[int], about: str) -> Measured:
    """Every format of the catalogue, at every point and batch, by turns with the dense network.

    `sparse` is what `tombola.load_sparse` gives: each layer the way its table says; "torch CSR" and
    "scipy CSR" are the same weights in those libraries throughout. `onnx` is in onnxruntime.
    """
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    computed = set[str]()
    for point in points:
        forms = {"dense": dense_form(world, point.params), **_forms(world, point, refused)}
        computed |= {name for name, form in forms.items() if form.compute is not None} - {"dense"}
        for batch in batches:
            rows += _rows(point.density, batch, forms, inputs_of(world, batch))
    return Measured(
        bench="ship",
        world=world.name,
        about=about,
        rows=tuple(rows),
        notes=(*_plain(rows, computed), *_sizes(rows), *refused.values()),
    )


def dense_form(world: World, params: Params) -> Form:
    """The network as it is, zeros and all."""
    held = held_bytes(params)
    compute = partial(called, world.network(params).eval())
    return Form(compute=compute, size=dense_bytes(params), held=lambda _: held)


def _forms(world: World, point: Point, refused: dict[str, str]) -> dict[str, Form]:
    forms = dict[str, Form]()
    for one in FORMATS.values():
        try:
            forms |= one.forms(world, point.params, point.mask)
            refused.pop(one.name, None)  # at another density
        except (ShipError, CallError, WorldError) as error:
            refused[one.name] = str(error)
    return forms


def _rows(
    density: float, batch: int, forms: Mapping[str, Form], inputs: Any
) -> Iterator[dict[str, Any]]:
    computing = {name: form.compute for name, form in forms.items() if form.compute is not None}
    turns = by_turns(computing, inputs)
    for name in forms:
        times = turns.get(name, turns["dense"])
        ratios = sorted(a / b for a, b in zip(turns["dense"], times, strict=True))
        yield {
            "density": density,
            "batch": batch,
            "format": name,
            "microseconds": rounded(statistics.median(times) * 1e6),
            "ratio": rounded(statistics.median(ratios)),
            "low": rounded(ratios[RANK]),
            "high": rounded(ratios[-1 - RANK]),
            "kB": rounded(forms[name].size / 1e3),
            "held": rounded(forms[name].held(batch) / 1e3),
        }


# -- in words --------------------------------------------------------------------------------


def _plain(rows: Sequence[Mapping[str, Any]], computed: Collection[str]) -> Iterator[str]:
    """What to use, in a sentence for each density; then what the table says of each format."""
    for density in dict.fromkeys(row["density"] for row in rows):
        best = _best([row for row in rows if row["density"] == density])
        yield f"at {100 * density:g} % density {best}"
    for name, density in dict.fromkeys((row["format"], row["density"]) for row in rows):
        if name in computed:
            own = [r for r in rows if (r["format"], r["density"]) == (name, density)]
            yield f"{name} at density {density:g}: {_sentence(own)}"


def _best(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which format is fastest at which batch.

    >>> sparse = {"format": "sparse", "batch": 1, "ratio": 2.3, "low": 2.2}
    >>> dense = {"format": "dense", "batch": 1, "ratio": 1.0, "low": 1.0}
    >>> _best([dense, sparse, {**sparse, "batch": 64, "ratio": .8, "low": .7}])
    'sparse is fastest at batch 1 (2.3x dense); nothing is faster than dense at batch 64.'
    """
    fastest = dict[str, list[str]]()
    for batch in dict.fromkeys(row["batch"] for row in rows):
        faster = [row for row in rows if row["batch"] == batch and row["low"] > 1.0]
        if faster:
            best = max(faster, key=lambda row: row["ratio"])
            said = f"{batch} ({best['ratio']:g}x{'' if fastest.get(best['format']) else ' dense'})"
            fastest.setdefault(best["format"], []).append(said)
        else:
            fastest.setdefault("", []).append(str(batch))
    parts = [f"{name} is fastest" if name else "nothing is faster than dense" for name in fastest]
    places = [", ".join(batches) for batches in fastest.values()]
    return "; ".join(f"{a} at batch {b}" for a, b in zip(parts, places, strict=True)) + "."


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


def _sizes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The smallest file at each density."""
    for density in dict.fromkeys(row["density"] for row in rows):
        own = {r["format"]: r["kB"] for r in rows if r["density"] == density}
        name = min(own, key=lambda one: own[one])
        times = own["dense"] / own[name]
        yield (
            f"smallest file at density {density:g}: {name}, {own[name]:g} kB, {times:.1f} times "
            "smaller"
        )
