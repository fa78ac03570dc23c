"""Probes: what finished tickets can be asked beside a verdict."""

from tombola.lab.probe.effective import EFFECTIVE, Effective
from tombola.lab.probe.gradient_flow import GRADIENT_FLOW, GradientFlow
from tombola.lab.probe.overlap import OVERLAP, Overlap
from tombola.lab.probe.path import Path
from tombola.lab.probe.pretraining import PRETRAINING, Pretraining
from tombola.lab.probe.probe import Chart, Probe, Row, Shown, Table, abreast, finished
from tombola.lab.probe.relearning import RELEARNING, Relearning
from tombola.lab.probe.sensitivity import SENSITIVITY, Sensitivity
from tombola.lab.probe.settling import SETTLING, Settling
from tombola.lab.probe.stability import ONSET, STABILITY, Stability

__all__ = [
    "Chart",
    "EFFECTIVE",
    "Effective",
    "GRADIENT_FLOW",
    "GradientFlow",
    "ONSET",
    "OVERLAP",
    "Overlap",
    "PRETRAINING",
    "Path",
    "Pretraining",
    "Probe",
    "RELEARNING",
    "Relearning",
    "Row",
    "SENSITIVITY",
    "SETTLING",
    "STABILITY",
    "Sensitivity",
    "Settling",
    "Shown",
    "Stability",
    "Table",
    "abreast",
    "finished",
]
