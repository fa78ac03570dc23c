"""Subnetworks of random weights, none trained: edge-popup, supermasks, multi-prize tickets."""

from dataclasses import replace

from tombola.pieces.allocation import Uniform
from tombola.pieces.parametrisation import EdgePopup, MultiPrize, Ranking, Supermask, Weights
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities
from tombola.pieces.score import Random
from tombola.recipes.recipe import Recipe, grow

# The rule only says how many weights each tensor uses; its random places play no part (the authors
# round the number down where we round half up, which may be one weight apart). Scores are trained
# by the world's optimiser; the authors' is SGD, lr .1, momentum .9, weight decay 1e-4, cosine.
EDGE_POPUP = Recipe(
    name="edge-popup",
    source="Ramanujan, Wortsman, Kembhavi, Farhadi & Rastegari 2019, What's Hidden in a Randomly "
    "Weighted Neural Network? (arXiv 1911.13299): the half of each layer's weights with the "
    "largest trained scores, the weights themselves frozen at a signed constant",
    loop=grow,
    rule=ByScore(score=Random(), allocation=Uniform()),
    schedule=Densities(values=(0.5,)),
    parametrisation=EdgePopup(),
)
# The paper's other weights, "scaled" as it means it: variances over the density.
EDGE_POPUP_KAIMING = replace(
    EDGE_POPUP,
    name="edge-popup-kaiming",
    source="Ramanujan et al. 2019 (arXiv 1911.13299): edge-popup on weights drawn from a Kaiming "
    "normal distribution, their variance divided by the density",
    parametrisation=EdgePopup(weights=Weights.KAIMING, scaled=True),
)
EDGE_POPUP_SCALED = replace(
    EDGE_POPUP,
    name="edge-popup-scaled",
    source="Ramanujan et al. 2019 (arXiv 1911.13299): edge-popup on signed constants, their "
    "square divided by the density",
    parametrisation=EdgePopup(scaled=True),
)
EDGE_POPUP_GLOBAL = replace(
    EDGE_POPUP,
    name="edge-popup-global",
    source="edge-popup with the scores of all tensors in one ranking",
    parametrisation=EdgePopup(ranking=Ranking.TOGETHER),
)
# Chances are trained by the world's optimiser; the authors' is SGD at a rate of 100.
SUPERMASK = replace(
    EDGE_POPUP,
    name="supermask",
    source="Zhou, Lan, Liu & Yosinski 2019, Deconstructing Lottery Tickets (arXiv 1905.01067), "
    "section 5: each weight used with a trained chance, rescaled by the share in use",
    parametrisation=Supermask(),
)
SUPERMASK_CONSTANT = replace(
    SUPERMASK,
    name="supermask-constant",
    source="Zhou et al. 2019 (arXiv 1905.01067), section 5: supermask on the standard deviation of "
    "each tensor's initial weights, with their signs",
    parametrisation=Supermask(weights=Weights.SIGNED_DEVIATION),
)
# The authors' densities for small convolutional networks are .8 to .1.
MULTI_PRIZE = replace(
    EDGE_POPUP,
    name="multi-prize",
    source="Diffenderfer & Kailkhura 2021, Multi-Prize Lottery Ticket Hypothesis (arXiv "
    "2103.09377): edge-popup with the weights in use reduced to their signs and one gain a layer",
    schedule=Densities(values=(0.5, 0.2, 0.1)),
    parametrisation=MultiPrize(),
)
