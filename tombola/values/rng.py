"""Random draws, each keyed by seed and name: nothing global, no state to save."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit number that depends on the seed and all names, equal in every process.

    Example:
        >>> derive(0, "order", 3) == derive(0, "order", 3), derive(0, "order") == derive(1, "order")
        (True, False)
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: object) -> torch.Generator:
    """A fresh CPU generator for one named purpose.

    Example:
        >>> torch.rand(1, generator=stream(0, "mask")) == torch.rand(1, generator=stream(0, "mask"))
        tensor([True])
    """
    return torch.Generator().manual_seed(derive(seed, *names))


def reseed(number: int) -> None:
    """Seed torch's global generators. Call it only inside `borrowed_generators`."""
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


@contextmanager
def borrowed_generators() -> Iterator[None]:
    """Give torch's global generators back as they were: no seeding is visible outside."""
    used = torch.cuda.is_initialized()  # asking an unused device would start it
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if used else []):
        yield
