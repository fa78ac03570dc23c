"""What a training has seen, in a number that adds up over steps.

Arms of a seed must see the same examples in the same order with the same noise and learning rate.
Each step's digest is taken of what the loop really used; digests of steps are added, so that steps
0 to k plus k to T equal 0 to T.
"""

import hashlib

from torch import Tensor

MODULUS = 1 << 128


def exposure_of(step: int, index: Tensor, rate: float, noise: int) -> int:
    """Digest of one step as a number below 2**128.

    index: the examples in order. rate: the learning rate in force. noise: the seed of everything
    random in the step (augmentation, dropout).

    >>> import torch
    >>> one = exposure_of(0, torch.tensor([1, 2]), .1, 7)
    >>> one == exposure_of(0, torch.tensor([2, 1]), .1, 7)
    False
    """
    hashed = hashlib.blake2b(f"{step}/{rate!r}/{noise}/".encode(), digest_size=16)
    hashed.update(index.numpy().data)
    return int.from_bytes(hashed.digest(), "little")


def added(total: int, more: int) -> int:
    """The exposure of two stretches together."""
    return (total + more) % MODULUS
