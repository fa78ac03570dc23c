"""Cuts by second derivatives of the trained network's loss, one shot and iterative.

|                 | nothing retrained | retrained over the whole schedule |
| --------------- | ----------------- | --------------------------------- |
| one cut         | `obd`             | `obd-retrained`                   |
| cut after cut   | `obd-stepwise`    | `obd-iterated`                    |

and so for `obs`, `fisher`, `woodfisher` and `layerwise`, `layerwise-erk`. One cut is made of the
dense network to each density of the schedule; cut after cut begins each from the one before, a
fifth of what is left at a time. `magnitude-at-end` is what all are beside: the same for the largest
weights, whose retrained forms are `oneshot-lr-rewind` and `lr-rewind`. As arms of one study they
share its schedule and its dense network:

    tombola find obd --on digits --arms dense,ticket,magnitude-at-end,woodfisher,layerwise-erk
"""

from dataclasses import replace

from tombola.pieces import score
from tombola.pieces.allocation import ERK
from tombola.pieces.layerwise import LayerwiseLeastSquares
from tombola.pieces.rewind import Stay
from tombola.pieces.rule import ByScore, Rule
from tombola.pieces.schedule import Densities, Geometric
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.pieces.woodfisher import WoodFisher
from tombola.recipes.imp import oneshot
from tombola.recipes.recipe import Recipe, iterate


def once(name: str, rule: Rule, source: str) -> Recipe:
    """One cut of the trained network to each density, nothing retrained."""
    return Recipe(
        name=name,
        source=source,
        loop=oneshot,
        rule=rule,
        schedule=Densities(),
        rewind=Stay(retrain=0),
    )


def retrained(of: Recipe) -> Recipe:
    """The same cut, then the whole training again from the weights it left."""
    return replace(
        of,
        name=f"{of.name}-retrained",
        source=f"{of.source}; then the whole training again",
        rewind=Stay(retrain=None),
    )


def stepwise(of: Recipe) -> Recipe:
    """A fifth of what is left at a time, with nothing retrained in between."""
    return replace(
        of,
        name=f"{of.name}-stepwise",
        source=f"{of.source}; a fifth at a time",
        loop=iterate,
        schedule=Geometric(),
    )


def iterated(of: Recipe) -> Recipe:
    """A fifth of what is left at a time, each cut from the network retrained after the last."""
    return replace(
        of,
        name=f"{of.name}-iterated",
        source=f"{of.source}; a fifth at a time, the whole training again after each",
        loop=iterate,
        schedule=Geometric(),
        rewind=Stay(retrain=None),
    )


MAGNITUDE_AT_END = once(
    "magnitude-at-end",
    ByScore(score=score.Magnitude()),
    "a baseline of Hassibi & Stork 1993, Second order derivatives for network pruning: Optimal "
    "Brain Surgeon (NIPS 5), and since: the largest trained weights stay, no training after",
)

OBD = once(
    "obd",
    ByScore(score=score.OBD()),
    "LeCun, Denker & Solla 1990, Optimal Brain Damage (NIPS 2): the diagonal of the second "
    "derivatives; obd-iterated is its procedure, with a fifth at a time where it has a few percent",
)
OBD_RETRAINED, OBD_STEPWISE, OBD_ITERATED = retrained(OBD), stepwise(OBD), iterated(OBD)

OBS = once(
    "obs",
    OptimalBrainSurgeon(),
    "Hassibi & Stork 1993, Second order derivatives for network pruning: Optimal Brain Surgeon "
    "(NIPS 5), section 2: cut, move the other weights, do not train again",
)
OBS_RETRAINED, OBS_STEPWISE, OBS_ITERATED = retrained(OBS), stepwise(OBS), iterated(OBS)

FISHER = once(
    "fisher",
    ByScore(score=score.DiagonalFisher()),
    "Theis, Korshunova, Tejani & Huszár 2018, Faster gaze prediction with dense networks and "
    "Fisher pruning (arXiv 1801.05787): squared gradients, here for single weights",
)
FISHER_RETRAINED, FISHER_STEPWISE, FISHER_ITERATED = (
    retrained(FISHER),
    stepwise(FISHER),
    iterated(FISHER),
)

WOODFISHER = once(
    "woodfisher",
    WoodFisher(),
    "Singh & Alistarh 2020, WoodFisher: Efficient Second-Order Approximation for Neural Network "
    "Compression (arXiv 2004.14340): blocks of the Fisher matrix, all tensors compete; the weights "
    "that stay make up for all cut ones together",
)
WOODFISHER_RETRAINED, WOODFISHER_STEPWISE, WOODFISHER_ITERATED = (
    retrained(WOODFISHER),
    stepwise(WOODFISHER),
    iterated(WOODFISHER),
)

LAYERWISE = once(
    "layerwise",
    LayerwiseLeastSquares(),
    "Frantar & Alistarh 2023, SparseGPT (arXiv 2301.00774): each layer's outputs kept by least "
    "squares, the same density in each",
)
LAYERWISE_RETRAINED, LAYERWISE_STEPWISE, LAYERWISE_ITERATED = (
    retrained(LAYERWISE),
    stepwise(LAYERWISE),
    iterated(LAYERWISE),
)

LAYERWISE_ERK = once(
    "layerwise-erk",
    LayerwiseLeastSquares(allocation=ERK()),
    "Frantar & Alistarh 2023, SparseGPT (arXiv 2301.00774), in place of the same density in all "
    "layers small ones denser, by the Erdős-Rényi kernel of Evci et al. 2020 (arXiv 1911.11134)",
)
LAYERWISE_ERK_RETRAINED, LAYERWISE_ERK_STEPWISE, LAYERWISE_ERK_ITERATED = (
    retrained(LAYERWISE_ERK),
    stepwise(LAYERWISE_ERK),
    iterated(LAYERWISE_ERK),
)
