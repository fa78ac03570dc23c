"""Sparse training: networks sparse from the first step to the last, or made so on the way."""

from dataclasses import replace

import tombola.pieces.dynamics as masks  # whole: recipes have the names of dynamics
from tombola.pieces.action import FanIn, Rescaled, Rewound
from tombola.pieces.allocation import Uniform
from tombola.pieces.restarting import Restarting
from tombola.pieces.rule import ByScore
from tombola.pieces.score import Random
from tombola.recipes.rigl import RIGL

# All share the random mask of `rigl`, at the densities of an Erdős-Rényi kernel, its every 100
# steps and its end at three quarters of the training, unless their own source says otherwise.
UNIFORM = ByScore(score=Random(), allocation=Uniform())

STATIC = replace(
    RIGL,
    name="static",
    source="as compared with RigL by Evci et al. 2020 (arXiv 1911.11134), section 4: a random mask "
    "at the densities of an Erdős-Rényi kernel, which never moves",
    dynamics=masks.Static(),
)
SET = replace(
    RIGL,
    name="set",
    source="Mocanu, Mocanu, Stone, Nguyen, Gibescu & Liotta 2018, Scalable Training of Artificial "
    "Neural Networks with Adaptive Sparse Connectivity (arXiv 1707.04780): as rigl, but "
    "connections are grown at random",
    dynamics=masks.SET(),
)
GRADUAL = replace(
    RIGL,
    name="gradual",
    source="Zhu & Gupta 2017, To Prune, or Not to Prune (arXiv 1710.01878): the whole network, cut "
    "by magnitude along a cubic curve within one training",
    dynamics=masks.Gradual(),
)
SNFS = replace(
    RIGL,
    name="snfs",
    source="Dettmers & Zettlemoyer 2019, Sparse Networks from Scratch (arXiv 1907.04840): grown "
    "where an average of dense gradients is largest, in tensors in proportion to its mean",
    dynamics=masks.SNFS(),
)
DEEP_R = replace(
    RIGL,
    name="deep-r",
    source="Bellec, Kappel, Maass & Legenstein 2018, Deep Rewiring (arXiv 1711.05136): connections "
    "with a sign each; those that cross zero die, and as many wake at random",
    dynamics=masks.DeepR(),
)
GRANET = replace(
    RIGL,
    name="granet",
    source="Liu et al. 2021, Sparse Training via Boosting Pruning Plasticity with "
    "Neuroregeneration (arXiv 2106.10404): half the network, cut by magnitude along a cubic "
    "curve; drops and grows by gradient on the way",
    dynamics=masks.GraNet(),
)
AC_DC = replace(
    RIGL,
    name="ac-dc",
    source="Peste, Iofinova, Vladu & Alistarh 2021, AC/DC: Alternating Compressed/DeCompressed "
    "Training (arXiv 2106.12379): phases of sparse and of dense training in turn",
    dynamics=masks.ACDC(),
)
STATIC_UNIFORM, SET_UNIFORM, RIGL_UNIFORM, GRADUAL_UNIFORM = (
    replace(
        recipe,
        name=f"{recipe.name}-uniform",
        source=f"{recipe.name}, with the same density in every tensor",
        rule=UNIFORM,
    )
    for recipe in (STATIC, SET, RIGL, GRADUAL)
)
STATIC_FAN_IN, RIGL_FAN_IN = (
    replace(
        recipe,
        name=f"{recipe.name}-fan-in",
        source=f"Evci, Ioannou, Keskin & Dauphin 2022, Gradient Flow in Sparse Neural Networks and "
        f"How Lottery Tickets Win (arXiv 2010.03533): {recipe.name}, from values drawn for the "
        "connections that each unit has",
        rule=Restarting(rule=recipe.rule, kept=FanIn()),
    )
    for recipe in (STATIC, RIGL)
)
STATIC_SCALED = replace(
    STATIC,
    name="static-scaled",
    source="as compared with values by fan-in by Evci et al. 2022 (arXiv 2010.03533), after Liu et "
    "al. 2019 (arXiv 1810.05270): static, with each tensor's initial values divided by the root of "
    "its density",
    rule=Restarting(rule=STATIC.rule, kept=Rescaled(of=Rewound(), power=0.5)),
)
# In-time over-parameterisation, for trainings of tens of thousands of steps: longer between
# updates, half of the connections exchanged, to the end.
SET_ITOP, RIGL_ITOP = (
    replace(
        recipe,
        name=f"{recipe.name}-itop",
        source="Liu, Yin, Mocanu & Pechenizkiy 2021, Do We Actually Need Dense "
        f"Over-Parameterization? (arXiv 2102.02887): {recipe.name} with longer between updates",
        dynamics=slow,
    )
    for recipe, slow in (
        (SET, masks.SET(drop=0.5, every=1_500, until=1.0)),
        (RIGL, masks.RigL(drop=0.5, every=4_000, until=1.0)),
    )
)
