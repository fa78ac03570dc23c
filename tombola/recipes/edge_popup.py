"""Edge-popup: a subnetwork of random weights, none of which is trained."""

from tombola.pieces.allocation import Uniform
from tombola.pieces.parametrisation.edge_popup import EdgePopup
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
