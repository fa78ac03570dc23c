"""Beginnings of sentences of a small made-up English, with questions about them; made in code."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tombola.errors import WorldError
from tombola.values.rng import stream
from tombola.world.data.split import Split

# fmt: off
NOUNS = (
    "cat", "dog", "bird", "horse", "cow", "snake", "tiger", "bear",
    "farmer", "teacher", "singer", "sailor", "doctor", "painter", "writer", "king",
    "house", "car", "boat", "train", "tree", "river", "table", "chair",
)
# fmt: on
PLACES = ("near", "behind", "above", "without")
# Every noun is two words, for one and for many.
WORDS = ("<pad>", "<start>", "the", ",", *PLACES, *NOUNS, *(f"{noun}s" for noun in NOUNS))
LENGTH = 17  # words of the longest, with the mark of the start
MOST_PLACES = 4


@dataclass(frozen=True)
class Beginning:
    """Words of a sentence up to its verb; which noun is the subject, and whether of many."""

    words: tuple[str, ...]
    subject: int
    many: bool


def beginning(generator: torch.Generator) -> Beginning:
    """One of `[place the N ,] .. the N [place the N] ..`, with up to four places in all.

    The subject is the noun without a place; how many stand before it and after it, and the number
    of each noun, are drawn.

    Example:
        >>> one = beginning(stream(0, "sentences"))
        >>> " ".join(one.words)
        '<start> the chairs behind the cow near the cars'
        >>> NOUNS[one.subject], one.many
        ('chair', True)
    """

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=generator))

    def place() -> list[str]:
        return [PLACES[draw(len(PLACES))], "the", f"{NOUNS[draw(len(NOUNS))]}{'s' * draw(2)}"]

    before = draw(3)
    after = draw(MOST_PLACES - before + 1)
    words = ["<start>"]
    for _ in range(before):
        words += [*place(), ","]
    subject, many = draw(len(NOUNS)), draw(2)
    words += ["the", f"{NOUNS[subject]}{'s' * many}"]
    for _ in range(after):
        words += place()
    return Beginning(tuple(words), subject, bool(many))


TASKS: dict[str, tuple[tuple[str, ...], Callable[[Beginning], int]]] = {
    "number": (("one", "many"), lambda one: int(one.many)),
    "subject": (NOUNS, lambda one: one.subject),
}


def sentences(
    task: str, train: int = 2_000, validation: int = 500, test: int = 1_000
) -> dict[str, Split]:
    """Splits of beginnings, all different, with the answers to one question.

    task: `number`, whether the verb that follows is to be of one or of many (the agreement task of
    Linzen, Dupoux & Goldberg 2016, arXiv 1611.01368, in small); `subject`, which of 24 nouns the
    subject is. Both ask about the same words. Inputs int64 (n, 17), words by their place in
    `WORDS`, padded with 0.

    Raises:
        WorldError: there is no such task.
    """
    if task not in TASKS:
        raise WorldError(f"sentences({task!r}): there are {', '.join(TASKS)}.")
    classes, answer = TASKS[task]
    generator, found = stream(0, "sentences"), dict[tuple[str, ...], Beginning]()
    while len(found) < train + validation + test:
        one = beginning(generator)
        found.setdefault(one.words, one)
    number = {word: place for place, word in enumerate(WORDS)}
    inputs = torch.zeros(len(found), LENGTH, dtype=torch.int64)
    for row, words in zip(inputs, found, strict=True):
        row[: len(words)] = torch.tensor([number[word] for word in words])
    targets = torch.tensor([answer(one) for one in found.values()])
    parts = torch.arange(len(found)).split([train, validation, test])
    whole = Split(inputs, targets, classes)
    return {
        name: whole.part(part)
        for name, part in zip(("train", "validation", "test"), parts, strict=True)
    }
