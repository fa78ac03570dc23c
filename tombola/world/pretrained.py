"""Worlds whose networks start from given weights, with parts drawn anew."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from tombola.errors import WorldError
from tombola.values.params import Params, params_of
from tombola.world.layers import is_one_of
from tombola.world.world import World, fill


def pretrained(
    world: World, params: Mapping[str, Tensor], fresh: tuple[str, ...] = (), name: str = ""
) -> World:
    """The world with networks that start from `params`, but for the tensors named in `fresh`.

    fresh: names or shell patterns of what each seed draws anew, such as the head of another task.
    Everything else is the same for every seed, and so is what `reinit` draws.

    Source: Chen, Frankle et al. 2020 (arXiv 2007.12223): tickets of BERT start, and start over,
    from pre-trained weights; the head of each task is drawn anew.

    Raises:
        WorldError: tensors that do not fit the network; the message lists them.

    Example:
        >>> from tombola.world.catalogue import digits_short
        >>> there = digits_short()
        >>> here = pretrained(there, params_of(there.new_network(7)), fresh=("layers.2.*",))
        >>> one, other = here.new_network(0), here.new_network(1)
        >>> [bool((a.weight == b.weight).all()) for a, b in zip(one.layers, other.layers)]
        [True, True, False]
    """
    network = world.new_network(0)
    here = params_of(network)
    # A state dict has tied tensors under each of their names; one of them is enough.
    tied = set(network.state_dict()) - set(here)
    params = {name: tensor for name, tensor in params.items() if name not in tied}
    wrong = misfits(params, here, fresh)
    if wrong:
        raise WorldError(
            f"pretrained weights do not fit the network of world {world.name!r}: {wrong}. Name "
            'what is to be drawn anew, for example fresh=("head.*",), or take weights of this '
            "network."
        )
    model = Pretrained(world.model, Params(dict(params)), fresh)
    return replace(world, model=model, thin=None, name=name or f"{world.name}-pretrained")


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model factory: the networks of another one, holding copies of given tensors."""

    version: ClassVar[int] = 1

    model: Callable[[], nn.Module]
    params: Params
    fresh: tuple[str, ...]

    def __call__(self) -> nn.Module:
        network = self.model()
        own = network.state_dict(keep_vars=True)
        given = {name: t for name, t in self.params.items() if not is_one_of(name, self.fresh)}
        fill(network, {**own, **given})  # further names of tied tensors are filled by their first
        return network


def misfits(
    there: Mapping[str, Tensor], here: Mapping[str, Tensor], fresh: tuple[str, ...]
) -> str | None:
    """What keeps the tensors `there` from taking the places of those `here`; None if they can.

    >>> import torch
    >>> misfits({"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(3)}, ())
    'a is (2,) there, (3,) here; b is there alone'
    """
    for pattern in fresh:
        if not any(is_one_of(name, (pattern,)) for name in here):
            return f"{pattern!r}, which is to be drawn anew, is no tensor of {sorted(here)}"
    found = []
    for name in sorted({*there, *here}):
        if is_one_of(name, fresh):
            continue
        if name not in there or name not in here:
            found.append(f"{name} is {'there' if name in there else 'here'} alone")
        elif there[name].shape != here[name].shape:
            was, now = (tuple(side[name].shape) for side in (there, here))
            found.append(f"{name} is {was} there, {now} here")
        elif there[name].dtype != here[name].dtype:
            found.append(f"{name} is {there[name].dtype} there, {here[name].dtype} here")
    more = f"; and {len(found) - 6} more" if len(found) > 6 else ""
    return "; ".join(found[:6]) + more if found else None
