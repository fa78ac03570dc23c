"""What to cut before anything is trained: a score of the initial values, then one training.

Each recipe is `snip` with another rule, so all tensors compete; as tickets or as arms:
`tombola find synflow --on digits --arms dense,ticket,snip,random-at-start,shuffle,reinit,inverted`.
"""

from dataclasses import replace

from tombola.pieces.rule import ByScore, Rule
from tombola.pieces.score import Force, GraSP, Magnitude, ProsPr, Random, Saliency, SynFlow, When
from tombola.pieces.stepwise import Stepwise
from tombola.recipes.recipe import Recipe
from tombola.recipes.snip import SNIP


def before_training(name: str, rule: Rule, source: str) -> Recipe:
    """Cut the initial values by a rule, then train."""
    return replace(SNIP, name=name, rule=rule, source=source)


ITERATIVE_SNIP = before_training(
    "iterative-snip",
    Stepwise(score=Saliency()),
    "de Jorge et al. 2020, Progressive Skeletonization (arXiv 2006.09081): snip in 100 steps, each "
    "of what the one before has left",
)
FORCE = before_training(
    "force",
    Stepwise(score=Force(), revives=True),
    "de Jorge et al. 2020, Progressive Skeletonization (arXiv 2006.09081): as iterative-snip, and "
    "what was cut may come back",
)
GRASP = before_training(
    "grasp",
    ByScore(score=GraSP()),
    "Wang, Zhang & Grosse 2020, Picking Winning Tickets Before Training by Preserving Gradient "
    "Flow (arXiv 2002.07376)",
)
SYNFLOW = before_training(
    "synflow",
    Stepwise(score=SynFlow()),
    "Tanaka, Kunin, Yamins & Ganguli 2020, Pruning neural networks without any data by iteratively "
    "conserving synaptic flow (arXiv 2006.05467), algorithm 1: 100 steps, no data",
)
PROSPR = before_training(
    "prospr",
    ByScore(score=ProsPr()),
    "Alizadeh et al. 2022, Prospect Pruning: Finding Trainable Weights at Initialization using "
    "Meta-Gradients (arXiv 2202.08132)",
)
MAGNITUDE_AT_START = before_training(
    "magnitude-at-start",
    ByScore(score=Magnitude(when=When.START)),
    "Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark? "
    "(arXiv 2009.08576), a baseline: the largest initial weights",
)
RANDOM_AT_START = before_training(
    "random-at-start",
    ByScore(score=Random()),
    "Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark? "
    "(arXiv 2009.08576), a baseline: weights drawn at random",
)
