"""Tickets moved between halves of the digits, optimisers and tasks of sentences, as objects that
`tombola find` can name."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from tombola.pieces.rewind import ToStep
from tombola.recipes.imp import IMP_REWIND
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Init, Train
from tombola.recipes.recipe import Recipe
from tombola.recipes.transfer import BERT_TICKET, transferred
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.catalogue import digits, sentences_number, sentences_subject
from tombola.world.data.split import Split
from tombola.world.models import LeNet
from tombola.world.optimiser import SGD
from tombola.world.pretrained import pretrained
from tombola.world.world import World

LATE = replace(IMP_REWIND, name="imp-rewind", rewind=ToStep(step=50))
OUTPUT = ("layers.2.*",)


def half(split: Split, first: int) -> Split:
    """The five digits from `first` on, as classes 0 to 4."""
    chosen = ((split.targets >= first) & (split.targets < first + 5)).nonzero().flatten()
    part = split.part(chosen)
    return Split(part.inputs, part.targets - first)


def lenet_half() -> LeNet:
    """64-300-100-5."""
    return LeNet(64, 300, 100, 5)


def digits_half(name: str, first: int, data: Path | None = None) -> World:
    """Five of the ten digits, 1,000 steps; judged at round 14 (4.4 %)."""
    whole = digits(data)
    return replace(
        whole,
        name=name,
        model=lenet_half,
        thin=None,
        train=half(whole.train, first),
        validation=half(whole.validation, first),
        test=half(whole.test, first),
        steps=1_000,
        rates=0.8,
        judged_density=0.044,
    )


low = partial(digits_half, "digits-0-4", 0)
high = partial(digits_half, "digits-5-9", 5)


def high_by_sgd() -> World:
    """The same digits with another optimiser than Adam."""
    return replace(high(), name="digits-5-9-sgd", optimiser=SGD(lr=0.1, momentum=0.9))


def from_low() -> Recipe:
    """Tickets of digits 0 to 4."""
    return transferred(LATE, low(), fresh=OUTPUT)


def from_adam() -> Recipe:
    """Tickets of the same digits, found with Adam."""
    return transferred(LATE, high())


# -- sentences -------------------------------------------------------------------------------------


@cache
def taught(seed: int = 1_000) -> World:
    """The number task for a network that was trained on the subject task, with a new head."""
    there = sentences_subject()
    start = Init(there, seed).run(NoDesk())
    job = Train(there, seed, Point(start.params, None, 0), FULL, there.steps, there.objective)
    end = job.run(NoDesk())
    return pretrained(sentences_number(), end.params.load(), ("head.*",), "number-after-subject")


def number() -> World:
    """Judged at 10 %, the last of nine rounds of a tenth of the original weights. 60 steps: after
    150, all arms are right about every sentence."""
    return replace(taught(), steps=60, evaluate_every=6, judged_density=0.1)


def subject() -> World:
    """The subject task from the same pre-trained weights."""
    there = sentences_subject()
    params = taught().model.params  # type: ignore[attr-defined]
    return pretrained(there, params, ("head.*",), "subject-after-subject")


def from_subject() -> Recipe:
    """Tickets of the task that the network was pre-trained on."""
    return transferred(BERT_TICKET, subject(), fresh=("head.*",))
