"""When masks of one training have settled: their distance, beside that of masks drawn at random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tombola.errors import RecipeError
from tombola.pieces.basis import Basis, basis_of
from tombola.pieces.kind import not_a
from tombola.pieces.rule import Cut, Rule
from tombola.pieces.schedule import Target
from tombola.pieces.score.score import Need, Probe, Snapshot
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer
from tombola.values.mask import Mask


def mask_distance(one: Mask, other: Mask, layers: Sequence[Layer]) -> float:
    """The fraction of places at which two masks differ (normalised Hamming distance).

    >>> import torch
    >>> four = (Layer(name="a", shape=(4,), kind="conv", rate=.8),)
    >>> masks = [Mask({"a": torch.tensor(bits) > 0}) for bits in ([1, 1, 0, 0], [1, 0, 1, 0])]
    >>> mask_distance(*masks, four)
    0.5
    """
    differ = sum(int((one.of(x.name, x.shape) ^ other.of(x.name, x.shape)).sum()) for x in layers)
    return differ / sum(layer.count for layer in layers)


def chance_distance(density: float) -> float:
    """The distance of two masks of this density drawn independently, on average: 2 p (1 - p).

    >>> round(chance_distance(0.9), 3), round(chance_distance(0.95), 3)
    (0.18, 0.095)
    """
    return 2.0 * density * (1.0 - density)


@dataclass(frozen=True, kw_only=True)
class WhenSettled:
    """Another rule, whose masks are taken every so often while the whole network trains, and whose
    cut is made when the newest of them is near each of the ones before.

    of: the rule, one that leaves weights as they are. window: masks compared, the newest with each
    of the others (not each with the next). threshold: they have settled when all distances are at
    most this. every: steps between masks; None: an epoch. scaled: whether distances are divided by
    that of chance, 2 p (1 - p), which makes the threshold mean the same at every density.

    Without `scaled` a density at which masks drawn at random are within the threshold (p above
    .947 or below .053, for .1) is refused: masks would count as settled before anything is learnt.
    The mask of the initial network is not among those compared: its scales are all equal.

    Source: You et al. 2020, Drawing Early-Bird Tickets (arXiv 1909.11957), section 3, and the
    authors' code: five masks, four distances, .1. There the first mask is that of the initial
    network, and empty.

    Raises:
        RecipeError: a field out of range.
    """

    moves_weights: ClassVar[bool] = False

    of: Rule
    window: int = 5
    threshold: float = 0.1
    every: int | None = None
    scaled: bool = False

    def __post_init__(self) -> None:
        wrong = not_a(Rule, self.of)
        if wrong:
            raise RecipeError(f"WhenSettled(of=...): {wrong}.")
        if self.of.moves_weights:
            raise RecipeError(
                f"WhenSettled(of={type(self.of).__name__}(..)): it changes weights, and here only "
                "masks are watched; want a rule that leaves weights alone, such as ByScale()."
            )
        for what, least in (("window", 2), ("every", 1)):
            value = getattr(self, what)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not whole and not (what == "every" and value is None):
                raise RecipeError(
                    f"WhenSettled({what}={value!r}): want a whole number, {least} or more."
                )
        if not 0.0 < self.threshold < 1.0:
            raise RecipeError(
                f"WhenSettled(threshold={self.threshold!r}): want a distance between 0 and 1."
            )

    @property
    def basis(self) -> Basis | None:
        return basis_of(self.of)

    @property
    def needs(self) -> frozenset[Need]:
        return self.of.needs | {Need.TRAINED}

    def refuses(self, setting: Setting) -> str | None:
        for target in setting.targets:
            chance = chance_distance(target.density)
            if target.round and not self.scaled and chance <= self.threshold:
                return (
                    f"WhenSettled(threshold={self.threshold:g}): at density {target.density:g} two "
                    f"masks drawn at random differ by {chance:.3g} on average, so that noise "
                    "counts as settled. Take a smaller threshold, or scaled=True, which divides "
                    "by that."
                )
        return self.of.refuses(setting)

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return self.of.asks(layers, target)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        return self.of.cut(at, probe, target)

    def settled(self, distances: Sequence[float], density: float) -> bool:
        """Whether the newest mask is near each of the others of a full window.

        >>> from tombola.pieces.by_scale import ByScale
        >>> rule = WhenSettled(of=ByScale(), window=3)
        >>> rule.settled([.1, .02], .5), rule.settled([.1, .11], .5), rule.settled([.0], .5)
        (True, False, False)
        """
        unit = chance_distance(density) if self.scaled else 1.0
        full = len(distances) == self.window - 1
        return full and all(distance <= self.threshold * unit for distance in distances)
