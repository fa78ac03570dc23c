"""How important is each weight? One criterion a file; higher means keep."""

from tombola.pieces.score.magnitude import Magnitude
from tombola.pieces.score.random import Random
from tombola.pieces.score.saliency import Saliency
from tombola.pieces.score.score import Need, Probe, Score, Snapshot

__all__ = ["Magnitude", "Need", "Probe", "Random", "Saliency", "Score", "Snapshot"]
