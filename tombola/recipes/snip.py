"""SNIP: one cut at initialisation, by what each connection does to the loss."""

from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities
from tombola.pieces.score import Saliency
from tombola.recipes.recipe import Recipe, grow

SNIP = Recipe(
    name="snip",
    source="Lee, Ajanthan & Torr 2019, SNIP: Single-shot Network Pruning based on Connection "
    "Sensitivity (arXiv 1810.02340), section 4: all tensors compete, then train",
    loop=grow,
    rule=ByScore(score=Saliency()),
    schedule=Densities(),
)
