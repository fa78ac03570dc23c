"""How important is each weight? One criterion a file; higher means keep."""

from tombola.pieces.score.both import Both
from tombola.pieces.score.by_sign import BySign, Sign
from tombola.pieces.score.diagonal_fisher import DiagonalFisher
from tombola.pieces.score.force import Force
from tombola.pieces.score.gradient import Gradient
from tombola.pieces.score.grasp import GraSP
from tombola.pieces.score.lamp import LAMP
from tombola.pieces.score.magnitude import Magnitude
from tombola.pieces.score.magnitude_increase import MagnitudeIncrease
from tombola.pieces.score.movement import Movement
from tombola.pieces.score.obd import OBD
from tombola.pieces.score.prospr import ProsPr
from tombola.pieces.score.random import Random
from tombola.pieces.score.reversed import Reversed
from tombola.pieces.score.saliency import Saliency
from tombola.pieces.score.score import Need, Probe, Score, Snapshot, When
from tombola.pieces.score.synflow import SynFlow

__all__ = [
    "LAMP",
    "OBD",
    "Both",
    "BySign",
    "DiagonalFisher",
    "Force",
    "GraSP",
    "Gradient",
    "Magnitude",
    "MagnitudeIncrease",
    "Movement",
    "Need",
    "Probe",
    "ProsPr",
    "Random",
    "Reversed",
    "Saliency",
    "Score",
    "Sign",
    "Snapshot",
    "SynFlow",
    "When",
]
