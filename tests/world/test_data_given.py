"""What users give as data: tensors, torch Datasets, and data identified by a text."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pictures import picture, pixels
from torch import nn
from torch.utils.data import Dataset

import tombola as tb
from tombola.errors import WorldError
from tombola.world.data.given import Identified, as_split
from tombola.world.data.split import Split

X, Y = torch.arange(24.0).reshape(8, 3), torch.arange(8) % 3


class Items(Dataset[Any]):
    """A map-style data set over a function of the place; it counts how often it is read."""

    def __init__(self, length: int, item: Callable[[int], Any]) -> None:
        self.length, self.item, self.reads = length, item, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> Any:
        self.reads += 1
        return self.item(place)


# -- an identity by name -------------------------------------------------------------------------


def noisy(length: int = 8) -> Items:
    return Items(length, lambda place: (torch.randn(3), place % 3))


def test_data_that_changes_can_be_named_and_is_read_once() -> None:
    data = noisy()
    with pytest.raises(
        WorldError, match=r"differs when read twice.*tombola\.Identified\(data, dat"
    ):
        as_split(data, "train")
    data.reads = 0
    once = as_split(Identified(data, "noise"), "train")
    assert data.reads == 8
    again = as_split(Identified(noisy(), "noise"), "train")
    assert not once.inputs.equal(again.inputs)
    assert once.digest == again.digest


def test_names_lengths_and_splits_are_told_apart() -> None:
    given = [
        as_split(Identified((X, Y), "a"), "train"),
        as_split(Identified((X, Y), "b"), "train"),
        as_split(Identified((X, Y), "a"), "test"),
        as_split(Identified((X[:7], Y[:7]), "a"), "train"),
        as_split(Identified((X.double(), Y), "a"), "train"),
        as_split((X, Y), "train"),
    ]
    parts = [given[0].part(torch.tensor(places)) for places in ([0, 1], [1, 0], [0, 1, 2])]
    assert len({split.digest for split in [*given, *parts]}) == 9
    same = given[0].part(torch.tensor([0, 1]))
    assert same.digest == parts[0].digest
    assert same.inputs.equal(X[:2])


@pytest.mark.parametrize(
    ("data", "data_id", "message"),
    [
        ((X, Y), "", r"Identified\(data_id=''\): want a text that changes when the data does"),
        ((X, Y), " ", r"Identified\(data_id=' '\)"),
        ((X, Y), 3, r"Identified\(data_id=3\)"),
        (Split(X, Y), "a", r"Identified\(Split\): it has an identity already"),
    ],
)
def test_names_that_are_none(data: Any, data_id: Any, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        Identified(data, data_id)


def test_named_data_is_checked_like_any_other() -> None:
    with pytest.raises(WorldError, match=r"train: lengths differ"):
        as_split(Identified((X, Y[:7]), "a"), "train")
    with pytest.raises(WorldError, match=r"train=int: want a pair"):
        as_split(Identified(3, "a"), "train")


def test_worlds_of_named_data() -> None:
    def world(train: Any) -> tb.World:
        return tb.World(
            model=lambda: nn.Linear(3, 3),
            train=train,
            test=(X, Y),
            steps=2,
            batch_size=2,
            optimiser=tb.SGD(lr=0.1),
        )

    first, second, other = (world(Identified(noisy(20), name)) for name in ("a", "a", "b"))
    assert first.digest == second.digest != other.digest
    assert first.validation.digest == second.validation.digest != first.train.digest


# -- torch Datasets ------------------------------------------------------------------------------


def test_pictures_of_a_dataset_become_bytes() -> None:
    split = as_split(Items(5, lambda place: (picture(place), place % 2)), "train")
    assert split.inputs.tolist() == [pixels(place) for place in range(5)]
    assert (split.inputs.dtype, split.targets.tolist()) == (torch.uint8, [0, 1, 0, 1, 0])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            lambda place: (torch.zeros(place + 1), 0),
            r"the items cannot be made one tensor \(.*size",
        ),
        (
            lambda place: (object(), 0),
            r"the items cannot be made one tensor \(.*Want pairs \(input",
        ),
        (
            lambda place: (picture(0, width=place + 1), 0),
            r"item 0 has 1 x 2 pixels, item 1 has 2 x 2",
        ),
    ],
)
def test_items_that_do_not_go_together(item: Callable[[int], Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        as_split(Items(5, item), "train")
