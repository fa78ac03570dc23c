"""At which densities does a ticket match, or win? One rule at many densities, corrected for them.

To test at every density and tell of those that pass is to have many chances. Two corrections keep
the probability of even one false claim below alpha: in a fixed sequence from dense to sparse, which
stops at the first density that does not pass, each test has all of alpha; Holm's needs no order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Final

from tombola.errors import VerdictError
from tombola.lab.statistics import chance, holm
from tombola.lab.verdict import (
    MATCHING,
    TICKET,
    Finding,
    Matches,
    Rule,
    Samples,
    differences,
    judge,
)


class Correction(Enum):
    """How tests at several densities are corrected; the value is what a verdict says of it."""

    SEQUENCE = "in a fixed sequence from dense to sparse, up to the first that does not pass"
    HOLM = "corrected by Holm's method"


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A rule asked at every density where its arms were trained.

    Attributes:
        name: on the command line and in documents.
        rule: all its conditions must pass for a density to count.
        correction: for the number of densities.
        summary: one sentence for lists of rules.
    """

    name: str
    rule: Rule
    correction: Correction = Correction.SEQUENCE
    summary: str


_MATCHES_DENSE: Final = Rule(
    name="matches-dense",
    conditions=(Matches(name="matches-dense", metric="test_accuracy"),),
    summary="Final test accuracy: matches dense within the world's margin.",
)

LADDERS: Final = {
    ladder.name: ladder
    for ladder in (
        Ladder(
            name="densities",
            rule=_MATCHES_DENSE,
            summary="At which densities the ticket matches dense, from dense to sparse.",
        ),
        Ladder(
            name="densities-holm",
            rule=_MATCHES_DENSE,
            correction=Correction.HOLM,
            summary="At which densities the ticket matches dense, in any order (Holm).",
        ),
        Ladder(
            name="winning-densities",
            rule=MATCHING,
            summary="At which densities the ticket wins by `matching`; wants --controls-at all.",
        ),
    )
}
"""The rules about densities that the command line knows by name."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What was found at one density.

    round, density: of the ticket. chance: p-value of "not every condition holds", the largest of
    its tests. adjusted: the same, corrected for the number of densities. holds: whether the claim
    is made here; None with too few seeds.
    """

    round: int
    density: float
    chance: float | None
    adjusted: float | None
    holds: bool | None
    conditions: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class LadderVerdict:
    """At which densities a rule's claim is made.

    rule: name of the ladder. rungs: from dense to sparse. left_out: densities at which an arm that
    the rule needs was not trained. alpha: probability of even one false claim, at most.
    """

    rule: str
    correction: Correction
    alpha: float
    rungs: tuple[Rung, ...]
    left_out: tuple[float, ...] = field(default=())

    @property
    def densities(self) -> tuple[float, ...]:
        """Where the claim is made, from dense to sparse."""
        return tuple(rung.density for rung in self.rungs if rung.holds)

    def as_json(self) -> dict[str, object]:
        """The object `verdict` that `judge --json` prints."""
        return {
            "rule": self.rule,
            "correction": self.correction.name.lower(),
            "alpha": self.alpha,
            "densities": list(self.densities),
            "rungs": [asdict(rung) for rung in self.rungs],
            "left_out": list(self.left_out),
        }

    def __str__(self) -> str:
        n = self.rungs[0].conditions[0].n
        listed = ", ".join(f"{density:.4g}" for density in self.densities)
        said = [
            f"HOLDS AT {listed}." if listed else "HOLDS NOWHERE that was tried.",
            f"Rule {self.rule!r}, n = {n}; {self.correction.value}; the probability of even one"
            f" false claim is at most {self.alpha:g}.",
        ]
        if all(rung.holds is None for rung in self.rungs):
            said.append("There are too few seeds for any claim.")
        if self.left_out:
            left = ", ".join(f"{density:.4g}" for density in self.left_out)
            said.append(f"Not asked at {left}, where an arm of the rule was not trained.")
        return " ".join(said)


def judge_ladder(
    ladder: Ladder,
    samples: Mapping[int, tuple[float, Samples]],
    *,
    margin: float,
    resolution: float,
) -> LadderVerdict:
    """Ask a rule at every density, corrected for their number.

    Args:
        ladder: for instance `LADDERS["densities"]`.
        samples: round -> density of the ticket, and samples as for `judge`. A round at which an arm
            of the rule is missing is left out.
        margin, resolution: as for `judge`.

    Raises:
        VerdictError: no round has every arm; what `judge` raises.

    Example:
        >>> dense = [0.96, 0.97, 0.96, 0.97]
        >>> near, far = [0.96, 0.97, 0.97, 0.97], [0.91, 0.92, 0.9, 0.92]
        >>> rounds = {
        ...     number: (density, {"ticket": {"test_accuracy": values},
        ...                        "dense": {"test_accuracy": dense}})
        ...     for number, density, values in ((1, 0.8, near), (2, 0.64, near), (3, 0.51, far))
        ... }
        >>> judge_ladder(LADDERS["densities"], rounds, margin=0.01, resolution=10).densities
        (0.8, 0.64)
    """
    rule = ladder.rule
    wanted = {TICKET, *(condition.arm for condition in rule.conditions)}
    order = sorted(samples, key=lambda number: -samples[number][0])
    asked = [number for number in order if wanted <= samples[number][1].keys()]
    if not asked:
        came = sorted({arm for _, arms in samples.values() for arm in arms})
        raise VerdictError(
            f"rule {ladder.name!r} asks about the arms {sorted(wanted)} at one density; got "
            f"{came}, nowhere all of them. Train them, with --controls-at all."
        )
    found, chances = {}, []
    for number in asked:
        density, arms = samples[number]
        found[number] = judge(rule, arms, density=density, margin=margin, resolution=resolution)
        chances.append(_chance(rule, arms, margin=margin, resolution=resolution))
    enough = all(chance is not None for chance in chances)
    enough = enough and found[asked[0]].conditions[0].n >= rule.least_seeds
    numbers = [chance for chance in chances if chance is not None]
    adjusted = _adjusted(numbers, ladder.correction) if enough else [None] * len(asked)
    rungs = tuple(
        Rung(
            round=number,
            density=samples[number][0],
            chance=one,
            adjusted=corrected,
            holds=None if corrected is None else corrected < rule.alpha,
            conditions=found[number].conditions,
        )
        for number, one, corrected in zip(asked, chances, adjusted, strict=True)
    )
    return LadderVerdict(
        rule=ladder.name,
        correction=ladder.correction,
        alpha=rule.alpha,
        rungs=rungs,
        left_out=tuple(samples[number][0] for number in order if number not in asked),
    )


def _chance(rule: Rule, samples: Samples, *, margin: float, resolution: float) -> float | None:
    """p-value of an intersection-union test: all conditions must pass, so the largest of theirs."""
    found = []
    for condition in rule.conditions:
        allowed = condition.allowance(margin=margin, resolution=resolution)
        found.append(chance(differences(condition, samples), 0.0 - allowed))
    numbers = [one for one in found if one is not None]
    return max(numbers) if len(numbers) == len(found) else None


def _adjusted(chances: Sequence[float], correction: Correction) -> Sequence[float]:
    """p-values that are compared with alpha whatever their number, in the order given.

    >>> _adjusted([0.01, 0.25, 0.02], Correction.SEQUENCE)
    [0.01, 0.25, 0.25]
    """
    if correction is Correction.HOLM:
        return holm(chances)
    return [max(chances[: place + 1]) for place in range(len(chances))]
