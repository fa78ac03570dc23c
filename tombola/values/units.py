"""Units: what goes together when a network gets smaller, and which weights each of them has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.values.layer import Layer
from tombola.values.mask import Mask

Sets = tuple["UnitSet", ...]


class Role(Enum):
    """What the weights of a slice do to its unit."""

    MADE = "made"  # compute it: a row of a matrix, a filter
    READ = "read"  # take it in: a column
    BESIDE = "beside"  # one number or so a unit: bias, normalisation


@dataclass(frozen=True, kw_only=True, eq=False)
class Slices:
    """A tensor, cut up by units.

    unit: int64, the number of the unit that each weight belongs to, -1 for none; of a shape that
    broadcasts to the tensor's: (300, 1) for the rows of a matrix, (1, 784) for its columns.
    """

    tensor: str
    role: Role
    unit: Tensor

    @property
    def axis(self) -> int:
        """The dimension along which the units lie.

        >>> slices_along("w", Role.READ, 1, torch.arange(6) // 2, 2).axis
        1
        """
        return next((d for d, size in enumerate(self.unit.shape) if size > 1), 0)

    def of(self, kept: Tensor) -> Tensor:
        """Which weights stay, in the shape of `unit`, where units are kept so, bool (units,)."""
        return kept[self.unit.clamp(min=0)] | (self.unit < 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitSet:
    """Units of one kind, of which any may be cut: the neurons of a layer, filters, heads, blocks.

    shape: (units,), or that of the grid they lie in. slices: of every tensor that has a part in
    them. A unit is gone when all weights that make or read it are zero, and the network then
    computes the same as one without it.

    Example:
        >>> hidden = coupled({"a.weight": torch.zeros(3, 2), "b.weight": torch.zeros(1, 3)},
        ...                  made=("a.weight",), read=("b.weight",))
        >>> hidden.name, hidden.count
        ('a', 3)
        >>> cut = expanded(Mask({"a": torch.tensor([True, False, True])}), (hidden,),
        ...                {"a.weight": (3, 2), "b.weight": (1, 3)})
        >>> cut["a.weight"][:, 0], cut["b.weight"]
        (tensor([ True, False,  True]), tensor([[ True, False,  True]]))
    """

    name: str
    shape: tuple[int, ...]
    slices: tuple[Slices, ...]

    @property
    def count(self) -> int:
        return prod(self.shape)

    def tensors(self, *roles: Role) -> tuple[str, ...]:
        """Names of the tensors that have a part of these roles in it; of any, if none is named."""
        return tuple(s.tensor for s in self.slices if not roles or s.role in roles)

    def facts(self) -> dict[str, object]:
        """What a ticket file says of it."""
        parts = [[s.tensor, s.role.value, s.axis] for s in self.slices]
        return {"shape": list(self.shape), "slices": parts}


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """What is known of a network's units.

    sets: of units that can be cut. held: tensors that make none, and what stands in the way.
    """

    sets: Sets
    held: Mapping[str, str]


def slices_along(tensor: str, role: Role, axis: int, unit: Tensor, dims: int) -> Slices:
    """Slices of a tensor of `dims` dimensions along one of them; unit: (size of that one,)."""
    shape = [1] * dims
    shape[axis] = len(unit)
    return Slices(tensor=tensor, role=role, unit=unit.reshape(shape))


def coupled(
    tensors: Mapping[str, Tensor],
    *,
    made: Sequence[str],
    read: Sequence[str],
    beside: Sequence[str] = (),
    name: str | None = None,
) -> UnitSet:
    """A set of units given by hand, by the names of its tensors.

    tensors: those of the network, for their shapes, such as `dict(net.named_parameters())`. made:
    with one row for each unit (dimension 0); the first sets the number of units. read: with one or
    more neighbouring columns for each (dimension 1), as behind a flattening. beside: with a number
    for each (biases, normalisation). name: of the set; default: the first tensor's, without
    `.weight`.

    Raises:
        RecipeError: no such tensor, or one whose size the number of units does not divide.
    """
    if not made or not read:
        raise RecipeError(
            "coupled(...): want at least one tensor that makes units and one that reads them."
        )
    for tensor in (*made, *read, *beside):
        if tensor not in tensors:
            raise RecipeError(f"coupled(...): no tensor {tensor!r}; there are {sorted(tensors)}.")
    count = tensors[made[0]].shape[0]
    roles = [(made, Role.MADE, 0), (read, Role.READ, 1), (beside, Role.BESIDE, 0)]
    slices = []
    for names, role, axis in roles:
        for tensor in names:
            shape = tuple(tensors[tensor].shape)
            if len(shape) <= axis or shape[axis] % count:
                raise RecipeError(
                    f"coupled(...): {tensor!r} has shape {shape}; want {count} units (rows of "
                    f"{made[0]!r}), or a multiple, along dimension {axis}."
                )
            unit = torch.arange(count).repeat_interleave(shape[axis] // count)
            slices.append(slices_along(tensor, role, axis, unit, len(shape)))
    own = name or set_name(made[0])
    return UnitSet(name=own, shape=(count,), slices=tuple(slices))


def set_name(tensor: str) -> str:
    """What a set is called after the tensor that makes it; never the name of a tensor.

    >>> set_name("layers.0.weight"), set_name("embedding")
    ('layers.0', 'embedding.units')
    """
    stem = tensor.removesuffix(".weight")
    return stem if stem != tensor else f"{tensor}.units"


# -- from units to weights and back ----------------------------------------------------------------


def expanded(units: Mask, sets: Sets, shapes: Mapping[str, tuple[int, ...]]) -> Mask:
    """The mask over weights of a mask over units: a weight stays if all units it belongs to do.

    shapes: of the tensors it may cut; parts of units in others stay.
    """
    kept: dict[str, Tensor] = {}
    for one, slices in _within(sets, shapes):
        if one.name not in units or slices.role is Role.BESIDE:
            continue
        own = slices.of(units[one.name].reshape(-1)).expand(shapes[slices.tensor])
        before = kept.get(slices.tensor)
        kept[slices.tensor] = own.clone() if before is None else before & own
    return Mask(kept)


def alive(mask: Mask, sets: Sets, shapes: Mapping[str, tuple[int, ...]]) -> Mask:
    """Which units a mask over weights leaves: those with a kept weight among those that make them.

    >>> two = coupled({"a.weight": torch.zeros(2, 2), "b.weight": torch.zeros(1, 2)},
    ...               made=("a.weight",), read=("b.weight",))
    >>> mask = Mask({"a.weight": torch.tensor([[False, False], [False, True]])})
    >>> alive(mask, (two,), {"a.weight": (2, 2), "b.weight": (1, 2)})["a"]
    tensor([False,  True])
    """
    kept: dict[str, Tensor] = {}
    for one, slices in _within(sets, shapes):
        if slices.role is not Role.MADE:
            continue
        there = mask.of(slices.tensor, shapes[slices.tensor])
        own = summed(there.double(), slices.unit, one.count) > 0
        kept[one.name] = own | kept[one.name] if one.name in kept else own
    return Mask({one.name: kept[one.name].reshape(one.shape) for one in sets if one.name in kept})


def summed(values: Tensor, unit: Tensor, count: int) -> Tensor:
    """Sums over the weights of each unit, float64 (count,).

    >>> summed(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1], [0]]), 2)
    tensor([7., 3.], dtype=torch.float64)
    """
    values = values.detach().cpu().double()
    spread = [d for d, size in enumerate(unit.shape) if size == 1]
    if spread:
        values = values.sum(dim=spread, keepdim=True)
    unit = unit.expand_as(values)
    inside = unit >= 0
    return values.new_zeros(count).index_add_(0, unit[inside], values[inside])


def in_scope(sets: Sets, layers: tuple[Layer, ...]) -> Sets:
    """The sets of which units can be cut by cutting weights of these tensors alone.

    All that read them must be among these, and one at least of those that make them: then what a
    unit still holds (its bias) is read by nobody.
    """
    names = {layer.name for layer in layers}
    return tuple(
        one
        for one in sets
        if set(one.tensors(Role.READ)) <= names and set(one.tensors(Role.MADE)) & names
    )


def counted_as(one: UnitSet, layers: tuple[Layer, ...]) -> Layer:
    """A set as schedules and allocations count it: of the kind and rate of what makes it."""
    by_name = {layer.name: layer for layer in layers}
    maker = next(by_name[name] for name in one.tensors(Role.MADE) if name in by_name)
    return Layer(name=one.name, shape=one.shape, kind=maker.kind, rate=maker.rate)


def _within(sets: Sets, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[UnitSet, Slices]]:
    return ((one, s) for one in sets for s in one.slices if s.tensor in shapes)
