"""A network without the units that do nothing: fewer neurons, channels and heads, the same outputs.

A unit goes if nothing reads it (all weights that do are zero, or belong to units that go), or if it
is the same for every input (no weight that is not zero leads to it) and what it adds can be put
into the biases of those that read it. `train.executors.units` asks the same of chains in training,
where gradients and statistics count too; here it is outputs alone, of any network that is traced.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from tombola.errors import ShipError
from tombola.values.units import Coupling, Role, Sets, UnitSet, summed

Left = dict[str, Tensor]  # set -> which of its units stay, bool (units,)


@dataclass(frozen=True)
class Smaller:
    """network: a copy, in inference mode, with smaller tensors under the same names (a bias is new
    where one was needed). left: set -> units that stay, and units there were."""

    network: nn.Module
    left: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Steady:
    """What a layer is given, place by place of the dimension it reads, over examples and positions.

    ok: bool, whether that is one number, and can be added to the layer's bias. value: that number.
    """

    ok: Tensor
    value: Tensor


def smaller(network: nn.Module, coupling: Coupling, inputs: Any) -> Smaller:
    """A copy without the units that do nothing; every set keeps one at least.

    network: with the weights it is to have, and coupling as found on it. inputs: some examples, to
    find what units that are the same for all examples add.

    Raises:
        ShipError: there is nothing to leave out; or the forward pass counts on the number of units.

    Example:
        >>> from tombola.world.coupling import coupling_of
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).requires_grad_(False)
        >>> _ = net[2].weight[:, 1:].zero_()
        >>> found = smaller(net, coupling_of(net, torch.zeros(2, 3)), torch.zeros(2, 3))
        >>> found.network[0], found.left
        (Linear(in_features=3, out_features=1, bias=True), {'0': (1, 4)})
    """
    kind = type(network).__name__
    copy = deepcopy(network).eval().requires_grad_(False)
    steady = _steady(copy, coupling.sets, inputs)
    left, folded = _left(copy, coupling.sets, steady)
    counts = {one.name: (int(left[one.name].sum()), one.count) for one in coupling.sets}
    if all(now == before for now, before in counts.values()):
        held = f" ({next(iter(coupling.held.values()))})" if not counts and coupling.held else ""
        raise ShipError(
            f"--to compact: no unit of {kind} can be left out{held}: each makes a difference, "
            "however few weights it has. Cut whole units (the recipe `units`), or take --to packed "
            "or --to sparse for weights cut one by one."
        )
    _fold(copy, coupling.sets, left, folded, steady)
    _slice(copy, coupling.sets, left)
    try:
        with torch.no_grad():
            copy(inputs)
    except Exception as error:
        raise ShipError(
            f"--to compact: the forward pass of {kind} counts on the number of its units and fails "
            f"with fewer ({error}). Write its shapes as -1, or take another format."
        ) from error
    return Smaller(network=copy, left=counts)


# -- which units stay ------------------------------------------------------------------------------


def _left(network: nn.Module, sets: Sets, steady: Mapping[str, Steady]) -> tuple[Left, Left]:
    """Which units stay; and which of those that go are the same for every input."""
    state = network.state_dict()
    there = {name: _any(state[name] != 0) for one in sets for name in _weights(one)}
    left = {one.name: torch.ones(one.count, dtype=torch.bool) for one in sets}
    foldable = {one.name: _foldable(one, steady) for one in sets}
    while True:
        read = _leads(there, sets, left, Role.READ)
        same = _same(there, sets, left)
        folded = {name: same[name] & foldable[name] for name in left}
        now = {
            name: _one_at_least(left[name] & read[name] & ~folded[name], left[name])
            for name in left
        }
        if all(torch.equal(now[name], left[name]) for name in left):
            return left, {name: folded[name] & ~left[name] for name in left}
        left = now


def _weights(one: UnitSet) -> tuple[str, ...]:
    return one.tensors(Role.MADE, Role.READ)


def _any(there: Tensor) -> Tensor:
    """Over the window of a convolution."""
    if there.dim() < 3:
        return there
    return there.flatten(2).any(dim=2).reshape(*there.shape[:2], *[1] * (there.dim() - 2))


def _one_at_least(now: Tensor, before: Tensor) -> Tensor:
    if not bool(now.any()):
        now = now.clone()
        now[before.nonzero()[0]] = True
    return now


def _leads(there: Mapping[str, Tensor], sets: Sets, left: Left, role: Role) -> Left:
    """Whether a unit has a weight of this role that is not zero and belongs to no unit that has
    gone."""
    inside = _inside(there, sets, left, (Role.MADE, Role.READ))
    return {one.name: _has(one, inside, role) for one in sets}


def _inside(
    there: Mapping[str, Tensor], sets: Sets, left: Left, roles: tuple[Role, ...]
) -> dict[str, Tensor]:
    inside = dict(there)
    for one in sets:
        for part in one.slices:
            if part.role in roles:
                inside[part.tensor] = inside[part.tensor] & part.of(left[one.name])
    return inside


def _has(one: UnitSet, inside: Mapping[str, Tensor], role: Role) -> Tensor:
    found = torch.zeros(one.count, dtype=torch.float64)
    for part in one.slices:
        if part.role is role:
            found += summed(inside[part.tensor], part.unit, one.count)
    return found > 0


def _same(there: Mapping[str, Tensor], sets: Sets, left: Left) -> Left:
    """Which units are the same for every input: all that lead to them are, or none does."""
    moving = {name: kept.clone() for name, kept in left.items()}
    while True:
        inside = _inside(there, sets, moving, (Role.READ,))
        now = {one.name: moving[one.name] & _has(one, inside, Role.MADE) for one in sets}
        if all(torch.equal(now[name], moving[name]) for name in now):
            return {name: ~moved for name, moved in moving.items()}
        moving = now


# -- what is the same for every input --------------------------------------------------------------


def _steady(network: nn.Module, sets: Sets, inputs: Any) -> dict[str, Steady]:
    """By name of the weight, for layers that are called once."""
    names = dict.fromkeys(name for one in sets for name in one.tensors(Role.READ))
    owners = {name: owner for name in names if (owner := _owner(network, name)) is not None}
    given: dict[str, list[Tensor]] = {name: [] for name in owners}

    def noted(name: str) -> Any:
        return lambda module, args: given[name].append(args[0])

    hooks = [owner.register_forward_pre_hook(noted(name)) for name, owner in owners.items()]
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {n: _steady_in(owners[n], given[n][0]) for n in owners if len(given[n]) == 1}


def _owner(network: nn.Module, name: str) -> nn.Linear | _ConvNd | None:
    """The layer whose weight it is, if it adds up what it is given and then its bias."""
    path, _, attribute = name.rpartition(".")
    owner = network.get_submodule(path)
    known = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    fits = attribute == "weight" and type(owner) in known and getattr(owner, "groups", 1) == 1
    return owner if fits else None  # type: ignore[return-value]


def _steady_in(layer: nn.Linear | _ConvNd, inputs: Tensor) -> Steady:
    axis = 1 if isinstance(layer, _ConvNd) else inputs.dim() - 1
    flat = inputs.movedim(axis, 0).flatten(1)
    value = flat[:, 0].clone()
    ok = (flat == value[:, None]).all(dim=1)
    if isinstance(layer, _ConvNd) and not _is_unpadded(layer):
        ok &= value == 0  # around the image there are zeros, not this
    return Steady(ok, value)


def _is_unpadded(layer: _ConvNd) -> bool:
    return layer.padding == "valid" or not any(
        layer.padding if isinstance(layer.padding, tuple) else (1,)
    )


def _foldable(one: UnitSet, steady: Mapping[str, Steady]) -> Tensor:
    """Which units could be put into biases, if they are the same for every input."""
    bad = torch.zeros(one.count, dtype=torch.float64)
    for part in one.slices:
        if part.role is Role.READ:
            if part.tensor not in steady:
                return torch.zeros(one.count, dtype=torch.bool)
            places = part.unit.reshape(-1)
            bad += summed(~steady[part.tensor].ok, places, one.count)
    return bad == 0


def _fold(
    network: nn.Module, sets: Sets, left: Left, folded: Left, steady: Mapping[str, Steady]
) -> None:
    """Add what goes to the biases of the layers that read it."""
    for one in sets:
        for part in one.slices:
            if part.role is not Role.READ or not bool(folded[one.name].any()):
                continue
            layer, values = _owner(network, part.tensor), steady[part.tensor]
            assert layer is not None
            gone = ~part.of(~folded[one.name]).reshape(-1)
            weight = layer.weight[:, gone].double().flatten(2 if layer.weight.dim() > 2 else 1)
            weight = weight.sum(dim=2) if weight.dim() == 3 else weight
            added = (weight @ values.value[gone].double()).to(layer.weight.dtype)
            if bool(added.any()):
                _add(layer, added)


def _add(layer: nn.Linear | _ConvNd, added: Tensor) -> None:
    bias = added if layer.bias is None else layer.bias + added
    layer.bias = nn.Parameter(bias, requires_grad=False)


# -- smaller tensors -------------------------------------------------------------------------------


def _slice(network: nn.Module, sets: Sets, left: Left) -> None:
    state = network.state_dict(keep_vars=True)
    homes = _homes(network)
    cut: dict[str, Tensor] = {}
    for name, (axis, kept) in _kept_places(network, sets, left):
        cut[name] = cut.get(name, state[name].detach()).index_select(axis, kept.nonzero()[:, 0])
    for name, tensor in cut.items():
        for module, attribute in homes[id(state[name])]:
            if attribute in module._parameters:
                module._parameters[attribute] = nn.Parameter(tensor, requires_grad=False)
            else:
                module._buffers[attribute] = tensor
    for module in network.modules():
        _say_sizes(module)


def _kept_places(
    network: nn.Module, sets: Sets, left: Left
) -> Iterable[tuple[str, tuple[int, Tensor]]]:
    """For each tensor and dimension that loses something: which places stay, bool."""
    places: dict[tuple[str, int], Tensor] = {}
    names = network.state_dict().keys()
    for one in sets:
        for part in one.slices:
            kept = part.of(left[one.name]).reshape(-1)
            bias = part.tensor.removesuffix("weight") + "bias"  # one that folding made
            own = {(part.tensor, part.axis)}
            if part.role is Role.MADE and part.axis == 0 and bias in names:
                own.add((bias, 0))
            for key in own:
                places[key] = places[key] & kept if key in places else kept
    return ((name, (axis, kept)) for (name, axis), kept in places.items() if not bool(kept.all()))


def _homes(network: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Where each tensor is held; a tied one in several places."""
    homes: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for attribute, tensor in held.items():
                if tensor is not None:
                    homes.setdefault(id(tensor), []).append((module, attribute))
    return homes


def _say_sizes(module: nn.Module) -> None:
    """Let a layer's own record of its sizes agree with its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _ConvNd) and not module.transposed:
        if module.groups > 1:
            module.groups = module.groups * len(module.weight) // module.out_channels
        module.out_channels = len(module.weight)
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, _ConvNd):
        module.in_channels, module.out_channels = module.weight.shape[0], module.weight.shape[1]
    elif isinstance(module, _NormBase) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
