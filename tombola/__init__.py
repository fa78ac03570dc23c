"""tombola finds, judges, explains and ships winning lottery tickets.

>>> import tombola as tb
>>> tb.recipes.IMP.name
'imp'
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that has it. Resolved on first use (PEP 562), so that importing tombola,
# and `tombola --help`, wait for nothing heavy.
_HOMES = {
    "find": "tombola.lab.study",
    "Study": "tombola.lab.study",
    "Store": "tombola.lab.store",
    "World": "tombola.world.world",
    "Numerics": "tombola.world.numerics",
    "Scaled": "tombola.world.prepare",
    "Standardised": "tombola.world.prepare",
    "FlipAndCrop": "tombola.world.prepare",
    "InTurn": "tombola.world.prepare",
    "CrossEntropy": "tombola.world.objective",
    "Distillation": "tombola.world.distillation",
    "Adam": "tombola.world.optimiser",
    "AdamW": "tombola.world.optimiser",
    "SGD": "tombola.world.optimiser",
    "Constant": "tombola.world.optimiser",
    "Drops": "tombola.world.optimiser",
    "Cosine": "tombola.world.optimiser",
    "WarmUp": "tombola.world.optimiser",
    "Recipe": "tombola.recipes.recipe",
    "ByScore": "tombola.pieces.rule",
    "Magnitude": "tombola.pieces.score",
    "Random": "tombola.pieces.score",
    "Saliency": "tombola.pieces.score",
    "Need": "tombola.pieces.score",
    "Scope": "tombola.pieces.scope",
    "LayerRates": "tombola.pieces.schedule",
    "Densities": "tombola.pieces.schedule",
    "Global": "tombola.pieces.allocation",
    "Uniform": "tombola.pieces.allocation",
    "ERK": "tombola.pieces.allocation",
    "ToStep": "tombola.pieces.rewind",
    "Stay": "tombola.pieces.rewind",
    "Ticket": "tombola.values.ticket",
    "Mask": "tombola.values.mask",
    "Params": "tombola.values.params",
    "TombolaError": "tombola.errors",
}
_MODULES = {
    "recipes": "tombola.recipes",
    "worlds": "tombola.world.catalogue",
    "testing": "tombola.testing",
}

__all__ = ["__version__", *_HOMES, *_MODULES]  # noqa: PLE0604 (they are all strings)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tombola' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
