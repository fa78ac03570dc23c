"""Which executor makes the steps of a training: a pure function of what is trained."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from math import inf
from typing import TypeVar
from weakref import WeakKeyDictionary

from tombola.kernels.best import convolution_named, kernel_named
from tombola.kernels.break_even import break_even, layer_break_even
from tombola.pieces.dynamics import Ending
from tombola.train.executors import compact, layered, sparse
from tombola.train.executors.compact import Compact
from tombola.train.executors.dense import Dense
from tombola.train.executors.executor import DenseIsFasterError, Executor, NotServedError
from tombola.train.executors.layered import Found, Layered
from tombola.train.executors.links import Link
from tombola.train.executors.sparse import Sparse
from tombola.train.executors.stacked import NAME, alone, chain_is_enough, check_stackable
from tombola.train.leg import Leg
from tombola.train.training import Training
from tombola.values.params import Params
from tombola.world.world import World

T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """name: what is recorded. build: from a training, its start, and what it goes on from.
    why_dense: what kept another from serving; None where it serves, or none was asked for.
    links: of the stacked executor, the network as a chain; None where it is mapped.
    measures: whether it tells the outputs of finished networks too, in the network's place."""

    name: str
    build: Callable[[Training, Params, Leg | None], Executor]
    why_dense: str | None = None
    links: tuple[Link, ...] | None = None
    measures: bool = False


def chosen(training: Training) -> Choice:
    """The executor of a training, by its world's numerics; never by a timing.

    `sparse` is the kernel for whole chains of linear layers where it can serve, else the one for
    single layers. `auto` takes these where the density is below break-even; a moving mask counts
    with that of its start.
    """
    if training.world.numerics.executor == "dense":
        return Choice(Dense.name, Dense)
    reasons: list[str] = []
    for choose in _CHOICES[training.world.numerics.executor]:
        try:
            return choose(training)
        except NotServedError as reason:
            reasons.append(str(reason))
            if isinstance(reason, DenseIsFasterError):
                break
    return Choice(Dense.name, Dense, "; ".join(dict.fromkeys(reasons)))


def _compact(training: Training) -> Choice:
    compact.check_served(training)
    return Choice(Compact.name, partial(Compact, parts=_parts(training.world)))


def _stacked(training: Training) -> Choice:
    links = None
    if chain_is_enough(training):
        with suppress(NotServedError):
            links = _links(training.world)
    check_stackable(training, links)
    return Choice(NAME, partial(alone, links=links), links=links)


def _sparse(training: Training) -> Choice:
    numerics = training.world.numerics
    sparse.check_served(training)
    links = _links(training.world)
    kernel = kernel_named(numerics.kernel)
    if kernel is None:
        raise NotServedError(f"this machine has no kernel {numerics.kernel!r}")
    if numerics.executor == "auto":
        counts = {link.weight: training.params[link.weight].numel() for link in links}
        limit = break_even(numerics.kernel, sum(counts.values()))
        if _density(training, counts) > limit:
            raise DenseIsFasterError(f"a density above {limit:g}, where dense is faster")
    build = partial(Sparse, kernel=kernel, links=links)
    return Choice(sparse.name_of(kernel), build, measures=True)


def _density(training: Training, counts: Mapping[str, int]) -> float:
    """Of weights so many in each tensor, the fraction kept; where a training thins out, half way
    from its start to its end."""
    total = sum(counts.values())
    begin = sum(training.mask.kept(name, count) for name, count in counts.items()) / total
    ending = getattr(training.dynamics, "ending", None)
    if not isinstance(ending, Ending):
        return begin
    beside = counts.keys() - {layer.name for layer in ending.layers}
    end = (ending.total + sum(counts[name] for name in beside)) / total
    return (begin + end) / 2


def _layered(training: Training) -> Choice:
    numerics = training.world.numerics
    layered.check_served(training)
    kernel = convolution_named(numerics.kernel)
    if kernel is None:
        raise NotServedError(f"this machine has no kernel {numerics.kernel!r}")
    if numerics.executor == "auto" and numerics.threads > 1:
        raise NotServedError(f"break-even of layers is for one thread, not {numerics.threads}")
    layers = tuple(_served_layers(training, _layers(training.world)))
    return Choice(layered.name_of(kernel), partial(Layered, kernel=kernel, layers=layers))


def _served_layers(training: Training, layers: Mapping[str, Found]) -> Iterator[str]:
    """The weights to hold as kept values: all that are cut, for `auto` where that pays.

    Raises:
        NotServedError: there are none; with the reason of the one that came nearest.
    """
    numerics, reasons = training.world.numerics, {}
    cut = [name for name in layers if name in training.mask]
    for name in cut:
        layer, count = layers[name], training.mask[name].numel()
        density = training.mask.kept(name, count) / count
        limit = 1.0
        if numerics.executor == "auto":
            limit = layer_break_even(numerics.kernel, layer.kind, layer.intensity)
        if layer.hindrance is not None:
            reasons[name] = (inf, f"{name} stays dense: {layer.hindrance}")
        elif density > limit:
            above = f"at a density above {limit:g}" if limit else "at any density"
            reasons[name] = (density - limit, f"{name}: {above} dense is faster")
        else:
            yield name
    if len(reasons) == len(cut):
        raise NotServedError(min(reasons.values())[1] if reasons else "no layer is cut")


def _once(find: Callable[[World], T]) -> Callable[[World], T]:
    """What is found out about a world's network, or why it is not served: looked for once."""
    known: WeakKeyDictionary[World, T | NotServedError] = WeakKeyDictionary()

    @wraps(find)
    def looked_up(world: World) -> T:
        if world not in known:
            try:
                known[world] = find(world)
            except NotServedError as reason:
                known[world] = reason
        found = known[world]
        if isinstance(found, NotServedError):
            raise NotServedError(str(found))
        return found

    return looked_up


_links = _once(sparse.links_for)
_layers = _once(layered.found_layers)
_parts = _once(compact.parts_for)

_CHOICES: dict[str, tuple[Callable[[Training], Choice], ...]] = {
    "auto": (_sparse, _layered),
    "sparse": (_sparse, _layered),
    "compact": (_compact,),
    NAME: (_stacked,),
}
