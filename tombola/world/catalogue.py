"""The worlds one can name on the command line, and what each is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch.nn.functional import normalize

from tombola.world.data.cifar10 import cifar10 as cifar10_data
from tombola.world.data.digits import digits as digits_data
from tombola.world.data.mnist import mnist as mnist_data
from tombola.world.data.sentences import LENGTH, WORDS, sentences
from tombola.world.data.split import Split
from tombola.world.models import BertClassifier, LeNet, MeanField
from tombola.world.networks import NETWORKS, lenet
from tombola.world.objective import SquaredError
from tombola.world.optimiser import SGD, Adam, AdamW
from tombola.world.prepare import Scaled
from tombola.world.world import World

RATES_LENET = {"linear": 0.8, "output": 0.9}


def lenet_digits() -> LeNet:
    """64-300-100-10."""
    return LeNet(64, 300, 100, 10)


def small_digits(factor: float = 1.0) -> LeNet:
    """64-20-10, small enough for an exact inverse Hessian; the hidden layer times a factor."""
    return LeNet(64, max(1, round(factor * 20)), 10)


def lenet_mnist() -> LeNet:
    """784-300-100-10."""
    return LeNet(784, 300, 100, 10)


def digits(data: Path | None = None) -> World:
    """LeNet-300-100 on 1,797 scans of 8 x 8 digits; a ticket study takes about a minute."""
    parts = digits_data()
    return World(
        name="digits",
        model=lenet_digits,
        thin=partial(lenet, (1, 8, 8), 10),
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        steps=2_000,
        batch_size=60,
        optimiser=Adam(lr=1.2e-3),
        evaluate_every=10,
        rates=RATES_LENET,
        judged_density=0.1122,
        margin=0.01,
    )


def digits_short(data: Path | None = None) -> World:
    """`digits` with 200 steps, judged at 33 % density: for trying out, in seconds."""
    return replace(digits(), name="digits-short", steps=200, judged_density=0.333)


def digits_small(data: Path | None = None) -> World:
    """A 64-20-10 network on the same scans (1,480 weights), for exact second-order methods."""
    return replace(
        digits(), name="digits-small", model=small_digits, thin=small_digits, judged_density=0.5
    )


def wide_digits() -> MeanField:
    """64-1,000-10, the mean of its neurons."""
    return MeanField(64, 1_000, 10)


def digits_wide(data: Path | None = None) -> World:
    """1,000 neurons in one layer on the same scans, squared error; for greedy selection."""
    parts = digits_data()
    return World(
        name="digits-wide",
        model=wide_digits,
        train=of_length_one(parts["train"]),
        validation=of_length_one(parts["validation"]),
        test=of_length_one(parts["test"]),
        objective=SquaredError(),
        steps=1_000,
        batch_size=128,
        optimiser=SGD(lr=1_000.0),  # times the gradient of a mean of 1,000 neurons
        judged_density=0.1,
        margin=0.02,
    )


def of_length_one(split: Split) -> Split:
    """Inputs as float32 vectors of length 1."""
    return Split(normalize(split.inputs.flatten(1).float()), split.targets, split.classes)


def mnist_lenet(data: Path | None = None) -> World:
    """LeNet-300-100 on MNIST as in 2019: Adam 1.2e-3, batch 60, 50,000 steps; round 10 judged."""
    parts = mnist_data(data)
    return World(
        name="mnist-lenet",
        model=lenet_mnist,
        thin=partial(lenet, (1, 28, 28), 10),
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        steps=50_000,
        batch_size=60,
        optimiser=Adam(lr=1.2e-3),
        evaluate_every=100,
        rates=RATES_LENET,
        prepare=Scaled(),
        judged_density=0.1083,
        margin=0.002,
    )


def mnist_lenet_short(data: Path | None = None) -> World:
    """`mnist-lenet` with 2,000 steps."""
    return replace(mnist_lenet(data), name="mnist-lenet-short", steps=2_000)


def bert_sentences(classes: int) -> BertClassifier:
    """BERT of two layers, two heads and width 32, with a head for the classes of a task."""
    return BertClassifier(len(WORDS), LENGTH, classes)


def sentences_number(data: Path | None = None) -> World:
    """A small BERT on made-up sentences: is the verb to be of one or of many?"""
    return on_sentences("number")


def sentences_subject(data: Path | None = None) -> World:
    """The same network on the same sentences: which of 24 nouns is the subject?"""
    return on_sentences("subject")


def on_sentences(task: str) -> World:
    """A task on sentences; embeddings and head are not pruned, as with BERT's tickets."""
    parts = sentences(task)
    return World(
        name=f"sentences-{task}",
        model=partial(bert_sentences, len(parts["train"].classes)),
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        steps=150,
        batch_size=32,
        optimiser=AdamW(lr=2e-3),
        evaluate_every=15,
        rates=0.8,
        unpruned=("head.*",),
        judged_density=0.3,
        margin=0.01,
    )


@dataclass(frozen=True)
class Entry:
    """A world of the catalogue: what it is, in a line, and the function that makes it."""

    summary: str
    make: Callable[[Path | None], World]

    def __call__(self, data: Path | None = None) -> World:
        """The world; data: folder of data sets, else $TOMBOLA_DATA or the user's cache folder."""
        return self.make(data)


def on_cifar10(network: str, data: Path | None = None) -> World:
    """A network of the 2019 paper on CIFAR-10, at full length."""
    return NETWORKS[network](cifar10_data(data), f"cifar10-{network}")


def on_cifar10_short(network: str, data: Path | None = None) -> World:
    """The same with few steps on few examples."""
    return NETWORKS[network].shortened(cifar10_data(data), f"cifar10-{network}-short")


def _entries() -> dict[str, Entry]:
    found = {}
    for make in (
        digits,
        digits_short,
        digits_small,
        digits_wide,
        mnist_lenet,
        mnist_lenet_short,
        sentences_number,
        sentences_subject,
    ):
        summary = (make.__doc__ or "").splitlines()[0]
        found[make.__name__.replace("_", "-")] = Entry(summary, make)
    for name, network in NETWORKS.items():
        if name != "lenet":
            full, short = f"cifar10-{name}", f"cifar10-{name}-short"
            found[full] = Entry(f"{network.summary}.", partial(on_cifar10, name))
            found[short] = Entry(
                f"`{full}` with {network.short} steps on 2,000 images.",
                partial(on_cifar10_short, name),
            )
    return found


WORLDS = _entries()
