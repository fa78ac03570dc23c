"""Labels as they are written, to the numbers of classes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tombola.errors import WorldError


def numbered(
    labels: Mapping[str, Sequence[int | str | None]], classes: tuple[str, ...], where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The labels of each split as int64 (n,), and what they stand for where that is known.

    classes: what whole numbers stand for. Labels that are text are numbered in alphabetical order
    over all splits.

    Raises:
        WorldError: a label is missing, or out of range.

    Example:
        >>> numbered({"train": ["owl", "bat"], "test": ["bat"]}, (), "here")
        ({'train': tensor([1, 0]), 'test': tensor([0])}, ('bat', 'owl'))
    """
    for split, column in labels.items():
        if None in column:
            raise WorldError(
                f"{where} ({split}): image {column.index(None)} has no label. Want one for every "
                "image."
            )
    texts = sorted({v for column in labels.values() for v in column if isinstance(v, str)})
    if texts:
        classes = tuple(texts)
        places = {name: place for place, name in enumerate(texts)}
        labels = {split: [places[str(v)] for v in column] for split, column in labels.items()}
    tensors = {s: torch.tensor(column, dtype=torch.int64) for s, column in labels.items()}
    for split, numbers in tensors.items():
        wrong = (numbers < 0) | (numbers >= (len(classes) or numbers.max() + 1))
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            wanted = f"0 to {len(classes) - 1}" if classes else "0 or more"
            hint = (
                f" Where -1 stands for a label that is kept secret, use the set without {split}: "
                "a part of train is held out instead."
            )
            raise WorldError(
                f"{where} ({split}): image {place} has label {int(numbers[place])}; want {wanted}."
                f"{hint if int(numbers[place]) == -1 else ''}"
            )
    return tensors, classes
