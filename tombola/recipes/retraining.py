"""Renda et al. 2020: after a cut, which weights are retrained, and at which learning rates.

|                             | rates of the schedule, from T - t | the last rate     |
| --------------------------- | --------------------------------- | ----------------- |
| weights of T, what is left  | `lr-rewind`                       | `fine-tune`       |
| weights of T - t            | `weight-rewind`                   | `low-rate-rewind` |
| fresh weights               | the control `reinit`              |                   |

Each iterative, with the cut of the next round taken from the retrained network, and one-shot. All
tensors are ranked together, a fifth of the survivors goes each round. t, the length of retraining
in steps, is a field: `Stay(retrain=t)` where weights stay, `ToStep(step=T - t)` where they return.
As arms of one study they share its schedule:

    tombola find lr-rewind --on cifar10-resnet20 --arms dense,weight-rewind,fine-tune

Control `reinit` of `weight-rewind` is the published one: fresh weights, the schedule from T - t.
`random-sign-reinit` draws them anew in each round.

Source: Renda, Frankle & Carbin 2020, Comparing Rewinding and Fine-tuning in Neural Network Pruning
(arXiv 2003.02389), sections 2 and 3. Differs: t is the same at every density, where the published
curves choose it by validation accuracy for each; counts are exact, where the authors' code keeps
ties. Which tensors may be cut is for the world. In the data they published, `lottery` is our
weight-rewind, `lr_lottery` low-rate-rewind and `lr_finetune` lr-rewind.
"""

from dataclasses import replace

from tombola.pieces.rewind import AtLastRate, Rewind, Stay, ToStep
from tombola.pieces.schedule import Geometric
from tombola.recipes.imp import IMP, ONESHOT
from tombola.recipes.recipe import Recipe

# Weights of step 100, as `imp-rewind`: early, and a step that every world has.
EARLY = ToStep(step=100)
WHOLE = Stay(retrain=None)


def retrained(name: str, rewind: Rewind, says: str, method: Recipe = IMP) -> Recipe:
    """Magnitude pruning, all tensors together, with another way to retrain."""
    source = f"Renda, Frankle & Carbin 2020 (arXiv 2003.02389): {says}"
    return replace(method, name=name, source=source, schedule=Geometric(), rewind=rewind)


WEIGHT_REWIND = retrained(
    "weight-rewind", EARLY, "weights and learning rates go back to step k after each cut"
)
LR_REWIND = retrained(
    "lr-rewind", WHOLE, "weights stay after each cut, the learning-rate schedule is repeated"
)
FINE_TUNE = retrained(
    "fine-tune", AtLastRate(of=WHOLE), "weights stay, retrained at the last learning rate"
)
LOW_RATE_REWIND = retrained(
    "low-rate-rewind",
    AtLastRate(of=EARLY),
    "weights go back to step k, retrained at the last learning rate (ablation)",
)
ONESHOT_WEIGHT_REWIND = retrained(
    "oneshot-weight-rewind",
    EARLY,
    "one cut, then weights and learning rates go back to step k",
    ONESHOT,
)
ONESHOT_LR_REWIND = retrained(
    "oneshot-lr-rewind",
    WHOLE,
    "one cut, weights stay, the learning-rate schedule is repeated",
    ONESHOT,
)
ONESHOT_FINE_TUNE = retrained(
    "oneshot-fine-tune",
    AtLastRate(of=WHOLE),
    "one cut, weights stay, retrained at the last learning rate",
    ONESHOT,
)
ONESHOT_LOW_RATE_REWIND = retrained(
    "oneshot-low-rate-rewind",
    AtLastRate(of=EARLY),
    "one cut, weights go back to step k, retrained at the last learning rate (ablation)",
    ONESHOT,
)
