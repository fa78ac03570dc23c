"""What users give as data, to a Split in memory, checked once at the door."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from tombola.errors import WorldError
from tombola.values.digest import digest, tensor_digest
from tombola.world.batch import leaves
from tombola.world.data.encoded import is_picture, pixels_of, stacked
from tombola.world.data.hugging_face import is_table, read_table
from tombola.world.data.pairs import as_tensors, is_pair, pair_of
from tombola.world.data.split import Split

READ_TWICE = 32  # items; a flip with chance one half shows in every other item alone


@dataclass(frozen=True)
class Identified:
    """Data whose identity is a text of yours rather than its content.

    For a Dataset whose items differ each time they are read, as one does that draws them; it is
    read once, and what was read then is trained on. You promise that data with one `data_id` is
    worth the same: results found under it are used again.

    Example:
        >>> x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
        >>> once, again = (as_split(Identified((v, y), data_id="noise v1"), "train")
        ...                for v in (x, x + 1))
        >>> once.digest == again.digest
        True
    """

    data: Any
    data_id: str

    def __post_init__(self) -> None:
        if not isinstance(self.data_id, str) or not self.data_id.strip():
            raise WorldError(
                f"Identified(data_id={self.data_id!r}): want a text that changes when the data "
                'does, for example "photos of 3 May".'
            )
        if isinstance(self.data, (Split, Identified)):
            raise WorldError(f"Identified({type(self.data).__name__}): it has an identity already.")


@dataclass(frozen=True)
class Collated:
    """Data whose items are put together by a function of yours: padded, for example.

    data: a Dataset, or rows of a Hugging Face data set. collate: a function of a list of items, as
    a `DataLoader` takes it, to a pair (inputs, targets) or a dict with labels. It is called once
    with all items, so that everything is padded to one length.

    Example:
        >>> from torch.nn.utils.rnn import pad_sequence
        >>> texts = [(torch.tensor([3, 4]), 0), (torch.tensor([5]), 1)]
        >>> def padded(items):
        ...     words, labels = zip(*items)
        ...     return pad_sequence(words, batch_first=True), torch.tensor(labels)
        >>> as_split(Collated(texts, padded), "train").inputs.tolist()
        [[3, 4], [5, 0]]
    """

    data: Any
    collate: Callable[[list[Any]], Any]

    def __post_init__(self) -> None:
        sized = hasattr(self.data, "__len__") and hasattr(self.data, "__getitem__")
        if not sized or isinstance(self.data, (Split, Identified, Collated)):
            raise WorldError(
                f"Collated({type(self.data).__name__}): want a Dataset, or another sequence."
            )
        if not callable(self.collate):
            raise WorldError(f"Collated(collate={self.collate!r:.60}): want a function of items.")


def as_split(data: Any, name: str) -> Split:
    """Tensors or arrays `(inputs, targets)`, a map-style Dataset of such pairs or of dicts with a
    label, or a `datasets.Dataset`, read once into memory. Pictures of Pillow become uint8 (n,
    channels, height, width). A dict with a `label` (or `labels`, `target`, ..) is taken apart.

    Raises:
        WorldError: nothing in it, lengths that differ, NaN, or items that change between reads.
    """
    if isinstance(data, Identified):
        split = _read(data.data, name, twice=False)
        shapes = [[str(t.dtype), *t.shape] for t in leaves([split.inputs, split.targets])]
        split = replace(split, identity=digest(["split", "data_id", name, data.data_id, shapes]))
    else:
        split = _read(data, name, twice=True)
    _check(split, name)
    return split


def _read(data: Any, name: str, twice: bool) -> Split:
    if isinstance(data, Collated):
        return _collated(data.data, name, twice, data.collate)
    if is_table(data) and len(data):
        data = read_table(data, name)
    if isinstance(data, Split):
        return data
    if is_pair(data):
        # Copies, so that what is trained on later is what has been checked and named now.
        return pair_of(as_tensors(data), name)
    if hasattr(data, "__len__") and (isinstance(data, Dataset) or is_table(data)):
        return _collated(data, name, twice, partial(_together, name=name))
    raise WorldError(
        f"{name}={type(data).__name__}: want a pair (inputs, targets) of tensors, a torch Dataset "
        "of such pairs with a length, or one split of a Hugging Face data set."
    )


def _collated(data: Any, name: str, twice: bool, together: Callable[[list[Any]], Any]) -> Split:
    if len(data) == 0:
        raise WorldError(f"{name}: the data set is empty; want at least one example.")
    if twice:
        _check_same(data, name, together)
    return pair_of(as_tensors(together([data[place] for place in range(len(data))])), name)


def _check_same(data: Any, name: str, together: Callable[[list[Any]], Any]) -> None:
    for place in torch.linspace(0, len(data) - 1, min(len(data), READ_TWICE)).int().tolist():
        once, again = (
            [tensor_digest(leaf) for leaf in leaves(as_tensors(together([data[place]])))]
            for _ in range(2)
        )
        if once != again:
            raise WorldError(
                f"{name}: item {place} differs when read twice, so the data has no identity. Take "
                "the random augmentation out of the data set and pass it as `prepare`; or name "
                "what it is, and have it read once: tombola.Identified(data, data_id=..)."
            )


def _together(items: list[Any], name: str) -> Any:
    """Items as one nested tensor; a picture of Pillow counts as its pixels."""
    if isinstance(items[0], (tuple, list)) and len(items[0]) == 2 and is_picture(items[0][0]):
        named = ((pixels_of(item[0], name), f"item {place}") for place, item in enumerate(items))
        return stacked(named, len(items), name), default_collate([item[1] for item in items])
    try:
        return default_collate(items)
    except (RuntimeError, TypeError) as error:
        raise WorldError(
            f"{name}: the items cannot be made one tensor ({_first_line(error)}). Want pairs "
            "(input, target) of tensors, numbers or images, all of one size; or a function that "
            "pads them: tombola.Collated(data, collate)."
        ) from error


def _check(split: Split, name: str) -> None:
    sides = {"inputs": leaves(split.inputs), "targets": leaves(split.targets)}
    for side, found in sides.items():
        if not found:
            raise WorldError(f"{name}: the {side} hold no tensor; want tensors, examples first.")
        for leaf in found:
            if leaf.dim() == 0:
                raise WorldError(f"{name}: a tensor of the {side} has no example dimension.")
            if leaf.is_floating_point() and not bool(leaf.isfinite().all()):
                where = int((~leaf.isfinite()).reshape(len(leaf), -1).any(dim=1).nonzero()[0])
                raise WorldError(
                    f"{name}: the {side} have NaN or infinity, first in example {where}. Remove or "
                    "fill those examples before making the world."
                )
    lengths = {side: [len(leaf) for leaf in found] for side, found in sides.items()}
    if len({length for found in lengths.values() for length in found}) > 1:
        raise WorldError(f"{name}: lengths differ, {lengths}; want one target per input.")
    if len(split) == 0:
        raise WorldError(f"{name}: no examples; want at least one.")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
