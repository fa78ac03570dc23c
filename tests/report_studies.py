"""Small studies for the tests of reports: of images for pictures, and with things gone wrong."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tombola as tb
from tombola.values.rng import stream
from tombola.world.world import World


class Flat(nn.Sequential):
    """64-6-3, on flat images of 8 by 8."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3))


class Filters(nn.Sequential):
    """Four filters of 3 by 3 on two channels, on images of 8 by 8."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def image_world(model: type[nn.Module] = Flat, **changes: Any) -> World:
    """Three classes by which third of the image is bright; a training takes some 20 ms."""
    shape = (2, 8, 8) if model is Filters else (64,)
    targets = torch.arange(120) % 3
    inputs = torch.rand(120, *shape, generator=stream(0, "report", "images"))
    inputs.reshape(120, -1, 8, 8)[torch.arange(120), :, 2 * targets] += 1.0
    parts = {"train": slice(60), "validation": slice(60, 90), "test": slice(90, 120)}
    fields: dict[str, Any] = {name: (inputs[part], targets[part]) for name, part in parts.items()}
    fields |= {
        "model": model,
        "steps": 30,
        "batch_size": 20,
        "optimiser": tb.Adam(lr=1e-2),
        "evaluate_every": 5,
        "judged_density": 0.5,
        "margin": 0.05,
        "name": "images",
    }
    return World(**fields | changes)


def data_in(page: str) -> dict[str, Any]:
    """What a page's charts and pictures are drawn from."""
    text = page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def objects(store: tb.Store) -> list[Path]:
    """The files of a store's weights and masks."""
    return sorted((store.folder / "objects").rglob("*.safetensors"))


def plain(value: Any) -> Any:
    """A figure with a colour or a font in the place of each style variable."""
    if isinstance(value, dict):
        return {name: plain(of) for name, of in value.items()}
    if isinstance(value, list):
        return [plain(of) for of in value]
    if isinstance(value, str) and value.startswith("var("):
        return "serif" if value == "var(--sans)" else "#777777"
    return value
