"""Masks drawn anew: other places, and never the mask there is where there is another."""

from collections.abc import Callable

from tombola.errors import CheckError
from tombola.values.mask import Mask

MOST_DRAWS = 100


def can_be_rearranged(mask: Mask) -> bool:
    """Whether its tensors have another arrangement: not where each is full or empty."""
    return any(bool(kept.any()) for _, kept in mask.items())


def drawn_anew(mask: Mask, draw: Callable[..., Mask], there_is_another: bool, what: str) -> Mask:
    """A draw other than the mask. A small one may fall onto itself; the chance is at most a half.

    draw: called without arguments, then with 1, 2, .., the numbers of the next draws.
    """
    result, again = draw(), 0
    while result.digest == mask.digest and there_is_another:
        again += 1
        if again > MOST_DRAWS:
            raise CheckError(f"{what} is never rearranged in {MOST_DRAWS} draws.")
        result = draw(again)
    return result


def cut_by_tensor(mask: Mask) -> dict[str, int]:
    """How many weights are cut of each tensor that is cut at all."""
    return {name: int((~kept).sum()) for name, kept in mask.items()}
