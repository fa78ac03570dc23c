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
    "probe": "tombola.lab.probe.probing",
    "report": "tombola.out.report",
    "Study": "tombola.lab.study",
    "Store": "tombola.lab.store",
    "matching": "tombola.lab.verdict",
    "World": "tombola.world.world",
    "images": "tombola.world.data.images",
    "binarised": "tombola.world.binary",
    "pretrained": "tombola.world.pretrained",
    "varied": "tombola.recipes.worlds",
    "Identified": "tombola.world.data.given",
    "Collated": "tombola.world.data.given",
    "Numerics": "tombola.world.numerics",
    "Scaled": "tombola.world.prepare",
    "Standardised": "tombola.world.prepare",
    "FlipAndCrop": "tombola.world.prepare",
    "InTurn": "tombola.world.prepare",
    "CrossEntropy": "tombola.world.objective",
    "Slimming": "tombola.world.slimming",
    "SquaredError": "tombola.world.objective",
    "Loss": "tombola.world.loss",
    "Distillation": "tombola.world.distillation",
    "Teacher": "tombola.world.distillation",
    "Switched": "tombola.world.switched",
    "Adam": "tombola.world.optimiser",
    "AdamW": "tombola.world.optimiser",
    "SGD": "tombola.world.optimiser",
    "Constant": "tombola.world.optimiser",
    "Drops": "tombola.world.optimiser",
    "Cosine": "tombola.world.optimiser",
    "WarmUp": "tombola.world.optimiser",
    "Stretched": "tombola.world.optimiser",
    "LastRate": "tombola.world.optimiser",
    "Recipe": "tombola.recipes.recipe",
    "transferred": "tombola.recipes.transfer",
    "ByScore": "tombola.pieces.rule",
    "Stepwise": "tombola.pieces.stepwise",
    "ByUnits": "tombola.pieces.by_units",
    "Pool": "tombola.pieces.by_units",
    "NOfM": "tombola.pieces.n_of_m",
    "Units": "tombola.pieces.basis",
    "Blocks": "tombola.pieces.basis",
    "Role": "tombola.values.units",
    "coupled": "tombola.values.units",
    "Restarting": "tombola.pieces.restarting",
    "OptimalBrainSurgeon": "tombola.pieces.surgeon",
    "WoodFisher": "tombola.pieces.woodfisher",
    "Update": "tombola.pieces.woodfisher",
    "LayerwiseLeastSquares": "tombola.pieces.layerwise",
    "GreedySelection": "tombola.pieces.greedy",
    "ByScale": "tombola.pieces.by_scale",
    "WhenSettled": "tombola.pieces.settling",
    "Aim": "tombola.pieces.greedy",
    "Magnitude": "tombola.pieces.score",
    "Random": "tombola.pieces.score",
    "Saliency": "tombola.pieces.score",
    "LAMP": "tombola.pieces.score",
    "OBD": "tombola.pieces.score",
    "DiagonalFisher": "tombola.pieces.score",
    "Force": "tombola.pieces.score",
    "GraSP": "tombola.pieces.score",
    "Gradient": "tombola.pieces.score",
    "MagnitudeIncrease": "tombola.pieces.score",
    "Movement": "tombola.pieces.score",
    "ProsPr": "tombola.pieces.score",
    "Reversed": "tombola.pieces.score",
    "SynFlow": "tombola.pieces.score",
    "Both": "tombola.pieces.score",
    "BySign": "tombola.pieces.score",
    "Sign": "tombola.pieces.score",
    "When": "tombola.pieces.score",
    "Need": "tombola.pieces.score",
    "Scope": "tombola.pieces.scope",
    "LayerRates": "tombola.pieces.schedule",
    "Geometric": "tombola.pieces.schedule",
    "Linear": "tombola.pieces.schedule",
    "Cubic": "tombola.pieces.schedule",
    "Densities": "tombola.pieces.schedule",
    "Global": "tombola.pieces.allocation",
    "Uniform": "tombola.pieces.allocation",
    "ERK": "tombola.pieces.allocation",
    "ByRate": "tombola.pieces.allocation",
    "BySensitivity": "tombola.pieces.allocation",
    "ToStep": "tombola.pieces.rewind",
    "FromCut": "tombola.pieces.rewind",
    "Untrained": "tombola.pieces.rewind",
    "Stay": "tombola.pieces.rewind",
    "AtLastRate": "tombola.pieces.rewind",
    "Frozen": "tombola.pieces.parametrisation",
    "EdgePopup": "tombola.pieces.parametrisation",
    "MultiPrize": "tombola.pieces.parametrisation",
    "Supermask": "tombola.pieces.parametrisation",
    "Ranking": "tombola.pieces.parametrisation",
    "Weights": "tombola.pieces.parametrisation",
    "Static": "tombola.pieces.dynamics",
    "SET": "tombola.pieces.dynamics",
    "RigL": "tombola.pieces.dynamics",
    "SNFS": "tombola.pieces.dynamics",
    "DeepR": "tombola.pieces.dynamics",
    "Gradual": "tombola.pieces.dynamics",
    "GraNet": "tombola.pieces.dynamics",
    "ACDC": "tombola.pieces.dynamics",
    "training_cost": "tombola.recipes.cost",
    "tensorboard": "tombola.out.track",
    "mlflow": "tombola.out.track",
    "unpack": "tombola.out.ship.packed",
    "load_sparse": "tombola.out.ship.sparse",
    "Ticket": "tombola.values.ticket",
    "Mask": "tombola.values.mask",
    "Params": "tombola.values.params",
    "TombolaError": "tombola.errors",
}
_MODULES = {
    "probes": "tombola.lab.probe",
    "recipes": "tombola.recipes",
    "actions": "tombola.pieces.action",
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
