"""scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, shipped with that library."""

import torch

from tombola.values.rng import stream
from tombola.world.data.split import Split


def digits() -> dict[str, Split]:
    """train 1,077, validation 360, test 360, by a fixed permutation; float32 (n, 64), 0 to 1.

    Source: the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    inputs = torch.as_tensor(bunch.data, dtype=torch.float32) / 16.0
    targets = torch.as_tensor(bunch.target, dtype=torch.int64)
    order = torch.randperm(len(inputs), generator=stream(0, "digits", "split"))
    parts = dict(zip(("train", "validation", "test"), order.split([1077, 360, 360]), strict=True))
    return {name: Split(inputs[index], targets[index]) for name, index in parts.items()}
