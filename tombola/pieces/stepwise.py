"""A cut in many small steps, with the weights scored again at each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import ClassVar

from tombola.errors import RecipeError
from tombola.pieces.allocation import Allocation, Global
from tombola.pieces.rule import ByScore, Cut
from tombola.pieces.schedule import Target, round_half_up
from tombola.pieces.score.score import Need, Probe, Score, Snapshot
from tombola.pieces.select import keep_best
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Stepwise:
    """`ByScore` in `steps` steps, each of which sees the network as the one before has cut it.

    From n weights to k, step i of N keeps round_half_up(n (k / n)^(i / N)): the same fraction goes
    at every step. n and k are those of all tensors together, or of each where the target or the
    allocation sets counts. Nothing is trained between steps; a step costs one scoring.

    revives: a step may take back what an earlier one of the same cut has cut (never what the round
    started without), if the score says so of weights that are at zero; `Force` does.

    Source: Tanaka et al. 2020 (arXiv 2006.05467), algorithm 1, with 100 steps; de Jorge et al. 2020
    (arXiv 2006.09081), for iterative SNIP, and FORCE, which revives. In the public code of the
    former, scores of weights already cut compete (that of SNIP by a mask's gradient is not zero)
    and bring them back without being asked; here what is gone is out of the running.

    Raises:
        RecipeError: no step; or what is given is no score, or no allocation.
    """

    moves_weights: ClassVar[bool] = False

    score: Score
    steps: int = 100
    revives: bool = False
    allocation: Allocation = field(default_factory=Global)

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise RecipeError(f"Stepwise(steps={self.steps}): want a whole number, 1 or more.")
        _ = self._at_once

    @property
    def _at_once(self) -> ByScore:
        return ByScore(score=self.score, allocation=self.allocation)

    @property
    def needs(self) -> frozenset[Need]:
        return self.score.needs

    def refuses(self, setting: Setting) -> str | None:
        return self._at_once.refuses(setting)

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return self._at_once.asks(layers, target)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        prior, now = at.mask, at
        there = {layer.name: prior.kept(layer.name, layer.count) for layer in at.layers}
        asked = self.asks(at.layers, target)
        for count in ways(there, asked, self.steps):
            scores, pool = self.score(now, probe), prior if self.revives else now.mask
            mask = keep_best(scores, at.layers, count, pool)
            now = replace(now, mask=mask, end=mask.apply(at.end))
        return Cut(mask=now.mask)


def ways(
    there: Mapping[str, int], asked: Mapping[str, int] | int, steps: int
) -> list[Mapping[str, int] | int]:
    """What each step keeps, of what is there by tensor, on the way to what is asked.

    A step that would cut nothing is left out, but for the last.

    >>> ways({"a": 60, "b": 40}, 25, 2), ways({"a": 60, "b": 40}, {"a": 15, "b": 40}, 2)
    ([50, 25], [{'a': 30, 'b': 40}, {'a': 15, 'b': 40}])
    """
    if isinstance(asked, int):
        return [kept for kept, _ in groupby(way(sum(there.values()), asked, steps))]
    by_name = {name: way(there[name], count, steps) for name, count in asked.items()}
    at_once = zip(*by_name.values(), strict=True)
    return [dict(zip(by_name, counts, strict=True)) for counts, _ in groupby(at_once)]


def way(there: int, asked: int, steps: int) -> list[int]:
    """From a number of weights to another, the same fraction at each step; the last is exact.

    Where nothing is to be left, one weight is until the last step.

    >>> way(1_000, 10, 4), way(5, 0, 3), way(7, 7, 2)
    ([316, 100, 32, 10], [3, 2, 0], [7, 7])
    """
    if asked >= there:
        return [asked] * steps
    share = max(asked, 1) / there
    before = [round_half_up(there * share ** (step / steps)) for step in range(1, steps)]
    return [*(max(asked, count) for count in before), asked]
