"""The beginning of another schedule."""

from dataclasses import dataclass

from tombola.pieces.schedule.target import Schedule, Target
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class UpTo:
    """Another schedule's rounds up to one of them, unchanged."""

    of: Schedule
    round: int

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> tuple[Target, ...]:
        all_rounds = self.of.targets(layers, judged_density)
        return tuple(target for target in all_rounds if target.round <= self.round)
