"""Zhou et al. 2019: which weights stay, where they start from, and what becomes of the others.

Each recipe is `imp` with one thing changed; their large final is `imp` itself. As tickets or as
arms: `tombola find imp --on digits --arms dense,ticket,magnitude-increase,keep-sign-constant`.

Source: Zhou, Lan, Liu & Yosinski 2019, Deconstructing Lottery Tickets: Zeros, Signs, and the
Supermask (arXiv 1905.01067). Counts are those of the world's schedule, layer by layer; ties go to
the lower index (the authors' code breaks them at random).
"""

from dataclasses import replace

from tombola.pieces.action import (
    Action,
    Constant,
    KeepSign,
    Noise,
    Reinit,
    Resample,
    Rescaled,
    Reshuffle,
    Rewound,
    ZeroShrunk,
)
from tombola.pieces.parametrisation import Frozen
from tombola.pieces.restarting import Restarting
from tombola.pieces.rewind import FromCut, Untrained
from tombola.pieces.rule import ByScore
from tombola.pieces.score import (
    Both,
    BySign,
    Gradient,
    Magnitude,
    MagnitudeIncrease,
    Movement,
    Random,
    Reversed,
    Saliency,
    Score,
    Sign,
    When,
)
from tombola.recipes.imp import IMP, ONESHOT
from tombola.recipes.recipe import Recipe, grow

ZHOU = "Zhou et al. 2019 (arXiv 1905.01067)"
FRANKLE = "Frankle & Carbin 2019 (arXiv 1803.03635)"
INITIAL = Magnitude(when=When.START)
FINAL = Magnitude()

# -- mask criteria: section 2 ----------------------------------------------------------------------


def keeping(name: str, score: Score, says: str) -> Recipe:
    """IMP that keeps the weights of highest score."""
    return replace(
        IMP, name=name, source=f"{ZHOU}: imp that keeps {says}", rule=ByScore(score=score)
    )


def keeping_untrained(name: str, score: Score, says: str) -> Recipe:
    """The same for a score that wants no training: the rounds are cut at once, from the start."""
    return replace(keeping(name, score, f"{says}, cut before training"), loop=grow)


SMALL_FINAL = keeping("small-final", Reversed(of=FINAL), "the smallest trained weights")
LARGE_INIT_LARGE_FINAL = keeping(
    "large-init-large-final",
    Both(first=INITIAL, second=FINAL),
    "what is large at the start and at the end",
)
SMALL_INIT_SMALL_FINAL = keeping(
    "small-init-small-final",
    Both(first=Reversed(of=INITIAL), second=Reversed(of=FINAL)),
    "what is small at the start and at the end",
)
MAGNITUDE_INCREASE = keeping(
    "magnitude-increase", MagnitudeIncrease(), "what has grown most, |w_f| - |w_i|"
)
MOVEMENT = keeping("movement", Movement(), "what has moved farthest, |w_f - w_i|")
LARGE_FINAL_SAME_SIGN = keeping(
    "large-final-same-sign", BySign(of=FINAL), "the largest of those that kept their sign"
)
LARGE_FINAL_DIFFERENT_SIGN = keeping(
    "large-final-different-sign",
    BySign(of=FINAL, sign=Sign.DIFFERENT),
    "the largest of those that changed their sign",
)
MAGNITUDE_INCREASE_SAME_SIGN = keeping(
    "magnitude-increase-same-sign",
    BySign(of=MagnitudeIncrease()),
    "what has grown most of those that kept their sign",
)
MAGNITUDE_INCREASE_DIFFERENT_SIGN = keeping(
    "magnitude-increase-different-sign",
    BySign(of=MagnitudeIncrease(), sign=Sign.DIFFERENT),
    "what has grown most of those that changed their sign",
)
RANDOM_MASK = keeping_untrained("random-mask", Random(), "weights drawn at random")
LARGE_INIT = keeping_untrained("large-init", INITIAL, "the largest initial weights")
SMALL_INIT = keeping_untrained("small-init", Reversed(of=INITIAL), "the smallest initial weights")
LAYERWISE_SNIP = keeping_untrained(
    "layerwise-snip", Saliency(when=When.START), "the largest |g_0 w_i| of each layer"
)
LAYERWISE_GRADIENT = keeping_untrained(
    "layerwise-gradient", Gradient(when=When.START), "the largest |g_0| of each layer"
)

# -- mask-1 actions: section 3 ---------------------------------------------------------------------


def restarting(name: str, kept: Action, says: str, source: str = ZHOU) -> Recipe:
    """IMP whose survivors start from other values."""
    return replace(
        IMP,
        name=name,
        source=f"{source}: imp whose survivors start from {says}",
        rule=Restarting(rule=IMP.rule, kept=kept),
        rewind=FromCut(),
    )


RANDOM_SIGN_REINIT = restarting(
    "random-sign-reinit", Reinit(), "initial values drawn anew in each round"
)
KEEP_SIGN_REINIT = restarting(
    "keep-sign-reinit", KeepSign(of=Reinit()), "new magnitudes under their initial signs"
)
RANDOM_SIGN_RESHUFFLE = restarting(
    "random-sign-reshuffle", Reshuffle(), "one another's initial values"
)
KEEP_SIGN_RESHUFFLE = restarting(
    "keep-sign-reshuffle",
    KeepSign(of=Reshuffle()),
    "one another's initial magnitudes, under their own signs",
)
RANDOM_SIGN_CONSTANT = restarting(
    "random-sign-constant", Constant(), "+- the layer's deviation at random"
)
KEEP_SIGN_CONSTANT = restarting(
    "keep-sign-constant",
    KeepSign(of=Constant()),
    "+- the layer's deviation under their initial signs",
)
RANDOM_SIGN_CONSTANT_RESCALED = restarting(
    "random-sign-constant-rescaled",
    Rescaled(of=Constant()),
    "+- the layer's deviation over its density, at random",
)
KEEP_SIGN_CONSTANT_RESCALED = restarting(
    "keep-sign-constant-rescaled",
    Rescaled(of=KeepSign(of=Constant())),
    "+- the layer's deviation over its density, under their initial signs",
)
SURVIVOR_REINIT = restarting(
    "survivor-reinit", Resample(), "values drawn from those of the survivors", FRANKLE
)
NOISY_INIT = restarting(
    "noisy-init", Noise(sigmas=0.5), "initial values with noise of half their deviation", FRANKLE
)

# -- mask-0 actions: section 4 ---------------------------------------------------------------------


def freezing(name: str, kept: Action, frozen_at: Action, says: str) -> Recipe:
    """IMP whose cut weights stay in the network, untrained."""
    return replace(
        IMP,
        name=name,
        source=f"{ZHOU}: imp that {says}",
        rule=Restarting(rule=IMP.rule, kept=kept, frozen_at=frozen_at),
        rewind=FromCut(),
        parametrisation=Frozen(),
    )


FREEZE_INIT = freezing(
    "freeze-init", Rewound(), Rewound(), "freezes what it cuts at its initial value"
)
FREEZE_GROWN = freezing(
    "freeze-grown",
    Rewound(),
    ZeroShrunk(),
    "freezes what it cuts: at its initial value if that has grown, else at zero",
)
FREEZE_GROWN_ZERO_SHRUNK = freezing(
    "freeze-grown-zero-shrunk",
    ZeroShrunk(),
    ZeroShrunk(),
    "starts at zero, kept or frozen, all that has shrunk, else at its initial value",
)

# -- the mask alone: section 5 ---------------------------------------------------------------------


def untrained(name: str, kept: Action, says: str) -> Recipe:
    """One cut of the trained network; then its mask on other values, without training."""
    return replace(
        ONESHOT,
        name=name,
        source=f"{ZHOU}: one cut, large final with the same sign; then, untrained, {says}",
        rule=Restarting(rule=LARGE_FINAL_SAME_SIGN.rule, kept=kept),
        rewind=Untrained(),
    )


MASK_ONLY = untrained("mask-only", Rewound(), "the initial values")
MASK_ONLY_CONSTANT = untrained(
    "mask-only-constant",
    KeepSign(of=Constant()),
    "+- the layer's deviation under their initial signs",
)
MASK_ONLY_RANDOM_SIGN = untrained(
    "mask-only-random-sign", Constant(), "+- the layer's deviation at random, a control"
)
