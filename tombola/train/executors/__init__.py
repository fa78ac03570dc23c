"""How the steps of a training are computed: one contract, several ways."""

from tombola.train.executors.choose import Choice, chosen
from tombola.train.executors.executor import Executor, Standing, Step

__all__ = ["Choice", "Executor", "Standing", "Step", "chosen"]
