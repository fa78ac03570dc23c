"""The recipes one can name on the command line, and where each is."""

# Zhou et al. 2019, each the constant of its name in capitals.
ZHOU_2019 = (
    "small-final",
    "large-init-large-final",
    "small-init-small-final",
    "magnitude-increase",
    "movement",
    "large-final-same-sign",
    "large-final-different-sign",
    "magnitude-increase-same-sign",
    "magnitude-increase-different-sign",
    "random-mask",
    "large-init",
    "small-init",
    "layerwise-snip",
    "layerwise-gradient",
    "random-sign-reinit",
    "keep-sign-reinit",
    "random-sign-reshuffle",
    "keep-sign-reshuffle",
    "random-sign-constant",
    "keep-sign-constant",
    "random-sign-constant-rescaled",
    "keep-sign-constant-rescaled",
    "survivor-reinit",
    "noisy-init",
    "freeze-init",
    "freeze-grown",
    "freeze-grown-zero-shrunk",
    "mask-only",
    "mask-only-constant",
    "mask-only-random-sign",
)

# Renda et al. 2020, the same.
RENDA_2020 = (
    "weight-rewind",
    "lr-rewind",
    "fine-tune",
    "low-rate-rewind",
    "oneshot-weight-rewind",
    "oneshot-lr-rewind",
    "oneshot-fine-tune",
    "oneshot-low-rate-rewind",
)

# What to cut before training, the same.
FORESIGHT = (
    "iterative-snip",
    "force",
    "grasp",
    "synflow",
    "prospr",
    "magnitude-at-start",
    "random-at-start",
)

# Cut by curvature after training, the same.
SECOND_ORDER = (
    "magnitude-at-end",
    *(
        method + how
        for method in ("obd", "obs", "fisher", "woodfisher", "layerwise", "layerwise-erk")
        for how in ("", "-retrained", "-stepwise", "-iterated")
    ),
)

# Sparse from the first step, or made so within one training.
SPARSE_TRAINING = (
    "static",
    "static-uniform",
    "static-fan-in",
    "static-scaled",
    "set",
    "set-uniform",
    "set-itop",
    "rigl-uniform",
    "rigl-fan-in",
    "rigl-itop",
    "gradual",
    "gradual-uniform",
    "snfs",
    "deep-r",
    "granet",
    "ac-dc",
)

# Whole units, blocks, patterns.
STRUCTURED = ("units", "units-oneshot", "blocks", "n-of-m")

# Found without training a weight.
UNTRAINED = (
    "edge-popup",
    "edge-popup-kaiming",
    "edge-popup-scaled",
    "edge-popup-global",
    "supermask",
    "supermask-constant",
    "multi-prize",
)

RECIPES: dict[str, str] = {
    "imp": "tombola.recipes.imp:IMP",
    "imp-rewind": "tombola.recipes.imp:IMP_REWIND",
    "imp-continued": "tombola.recipes.imp:IMP_CONTINUED",
    "oneshot": "tombola.recipes.imp:ONESHOT",
    **{name: f"tombola.recipes.retraining:{name.replace('-', '_').upper()}" for name in RENDA_2020},
    "bert-ticket": "tombola.recipes.transfer:BERT_TICKET",
    "snip": "tombola.recipes.snip:SNIP",
    **{name: f"tombola.recipes.foresight:{name.replace('-', '_').upper()}" for name in FORESIGHT},
    **{
        name: f"tombola.recipes.second_order:{name.replace('-', '_').upper()}"
        for name in SECOND_ORDER
    },
    "early-bird": "tombola.recipes.early_bird:EARLY_BIRD",
    "early-bird-reset": "tombola.recipes.early_bird:EARLY_BIRD_RESET",
    "greedy": "tombola.recipes.greedy:GREEDY",
    "greedy-retrained": "tombola.recipes.greedy:GREEDY_RETRAINED",
    "rigl": "tombola.recipes.rigl:RIGL",
    **{
        name: f"tombola.recipes.sparse_training:{name.replace('-', '_').upper()}"
        for name in SPARSE_TRAINING
    },
    **{name: f"tombola.recipes.edge_popup:{name.replace('-', '_').upper()}" for name in UNTRAINED},
    **{name: f"tombola.recipes.units:{name.replace('-', '_').upper()}" for name in STRUCTURED},
    "kd-ticket": "tombola.recipes.distil:KD_TICKET",
    "kd-rewind": "tombola.recipes.distil:KD_REWIND",
    "kd-lr-rewind": "tombola.recipes.distil:KD_LR_REWIND",
    **{
        name: f"tombola.recipes.deconstructing:{name.replace('-', '_').upper()}"
        for name in ZHOU_2019
    },
}
