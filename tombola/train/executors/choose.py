"""Which executor makes the steps of a training: a pure function of what is trained."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

from tombola.kernels.best import kernel_named
from tombola.kernels.break_even import break_even
from tombola.train.executors.dense import Dense
from tombola.train.executors.executor import Executor, NotServedError
from tombola.train.executors.links import Link
from tombola.train.executors.sparse import Sparse, check_served, links_for, name_of
from tombola.train.executors.stacked import NAME, alone, chain_is_enough, check_stackable
from tombola.train.leg import Leg
from tombola.train.training import Training
from tombola.values.params import Params
from tombola.world.world import World


@dataclass(frozen=True)
class Choice:
    """name: what is recorded. build: from a training, its start, and what it goes on from.
    why_dense: what kept another from serving; None where it serves, or none was asked for.
    links: of the stacked executor, the network as a chain; None where it is mapped."""

    name: str
    build: Callable[[Training, Params, Leg | None], Executor]
    why_dense: str | None = None
    links: tuple[Link, ...] | None = None


def chosen(training: Training) -> Choice:
    """The executor of a training, by its world's numerics; never by a timing.

    `auto` takes the sparse one where it can serve and the density is below break-even.
    """
    if training.world.numerics.executor == "dense":
        return Choice(Dense.name, Dense)
    try:
        return (_stacked if training.world.numerics.executor == NAME else _sparse)(training)
    except NotServedError as reason:
        return Choice(Dense.name, Dense, str(reason))


def _stacked(training: Training) -> Choice:
    links = None
    if chain_is_enough(training):
        with suppress(NotServedError):
            links = _links(training.world)
    check_stackable(training, links)
    return Choice(NAME, partial(alone, links=links), links=links)


def _sparse(training: Training) -> Choice:
    numerics = training.world.numerics
    check_served(training)
    links = _links(training.world)
    kernel = kernel_named(numerics.kernel)
    if kernel is None:
        raise NotServedError(f"this machine has no kernel {numerics.kernel!r}")
    if numerics.executor == "auto":
        counts = {link.weight: training.params[link.weight].numel() for link in links}
        total = sum(counts.values())
        density = sum(training.mask.kept(name, count) for name, count in counts.items()) / total
        limit = break_even(numerics.kernel, total)
        if density > limit:
            raise NotServedError(f"density {density:.3g} is above break-even ({limit:g})")
    return Choice(name_of(kernel), partial(Sparse, kernel=kernel, links=links))


_KNOWN: WeakKeyDictionary[World, tuple[Link, ...] | NotServedError] = WeakKeyDictionary()


def _links(world: World) -> tuple[Link, ...]:
    """The links of a world's network, looked for once."""
    if world not in _KNOWN:
        try:
            _KNOWN[world] = links_for(world)
        except NotServedError as reason:
            _KNOWN[world] = reason
    found = _KNOWN[world]
    if isinstance(found, NotServedError):
        raise NotServedError(str(found))
    return found
