"""Finds the units of a network: follows every channel through what the network computes with it.

The forward pass is traced by `torch.export`, down to torch's own operators, so that it does not
matter how it is written. Each place of each dimension of each tensor gets a label; an operator
says which labels go on into what it gives, which are added or multiplied place by place and so
belong together (residuals, normalisation, gates), which are read by weights, and which it mixes in
a way that no unit can be taken out of. What carries one label is a unit.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from tombola.errors import WorldError
from tombola.values.units import Coupling, Role, Slices, UnitSet, set_name, slices_along
from tombola.world.calling import arguments
from tombola.world.labels import Axes, Axis, Labels
from tombola.world.operators import RULES, kind_of, shape_of


def coupling_of(network: nn.Module, inputs: Any) -> Coupling:
    """The units of a network, by tracing it on these inputs (examples first; two are enough).

    Followed through linear, convolution (also depthwise, grouped, transposed), normalisation,
    elementwise operators, pools, flattening, concatenation, attention. Where an operator mixes
    units (layer normalisation, a softmax or a mean over channels) or is not known here, units that
    meet it are held.

    Raises:
        WorldError: it cannot be traced; names the module.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        >>> (found,) = coupling_of(net, torch.zeros(2, 1, 4, 4)).sets
        >>> found.name, found.count, found.tensors()
        ('0', 4, ('0.weight', '3.weight', '0.bias'))
    """
    program = traced(network, inputs)
    follow = Follow(network, program)
    for node in program.graph.nodes:
        follow.node(node)
    return follow.found()


def traced(network: nn.Module, inputs: Any) -> torch.export.ExportedProgram:
    """A network's forward pass in inference mode, as torch's operators.

    Raises:
        WorldError: it cannot be traced; names the module.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            args, named = arguments(network, inputs)
            return torch.export.export(network, args, named, strict=False)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise WorldError(
            f"the forward pass of {type(network).__name__} cannot be traced, so its units are not "
            f"known: {_module_in(network, error)}: {reason}. Name them by hand: "
            "ByUnits(basis=Units(given=(coupled(...),)))."
        ) from error
    finally:
        network.train(was_training)


def _module_in(network: nn.Module, error: BaseException) -> str:
    """The innermost module whose code was running."""
    names = {id(module): name for name, module in network.named_modules()}
    found, at = f"{type(network).__name__}", error.__traceback__
    while at is not None:
        own = at.tb_frame.f_locals.get("self")
        if isinstance(own, nn.Module) and names.get(id(own)):
            found = f"module {names[id(own)]!r} ({type(own).__name__})"
        at = at.tb_next
    return found


class Follow:
    """One pass over a traced network."""

    def __init__(self, network: nn.Module, program: torch.export.ExportedProgram) -> None:
        self.labels = Labels()
        self._axes: dict[fx.Node, Any] = {}  # Axes, or a list of them for what gives several
        self._source: dict[fx.Node, tuple[str, list[int]]] = {}  # a tensor, its dimensions moved
        self._own: dict[str, Axes] = {}  # of each tensor of the network
        self._role: dict[tuple[str, int], Role] = {}
        self._names = _first_names(network)
        signature = program.graph_signature
        self._held_as = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._inputs = set(signature.user_inputs)

    # -- nodes -----------------------------------------------------------------------------------

    def node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "output":
            for given in node.all_input_nodes:
                self._hold(given, "it is an output of the network")
        elif node.op == "call_function":
            self._call(node)

    def _placeholder(self, node: fx.Node) -> None:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return
        name = self._names.get(self._held_as.get(node.name, ""))
        if name is not None:
            if name not in self._own:
                self._own[name] = [self.labels.fresh(size) for size in value.shape]
            self._axes[node] = list(self._own[name])
            self._source[node] = (name, list(range(value.dim())))
            return
        axes: Axes = [None] * value.dim()
        if value.is_floating_point():
            axes = [self.labels.fresh(size) for size in value.shape]
            for axis in axes:
                self.labels.hold(axis, "it is an input of the network, or a constant in it")
            if node.name in self._inputs:
                axes[:1] = [None]  # the examples
        self._axes[node] = axes

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            of, place = node.args
            several = self._axes.get(of)  # type: ignore[arg-type]
            if several and isinstance(several[0], list):
                self._axes[node] = several[place]
            return
        kind = kind_of(node)
        rule, shape = RULES.get(kind), shape_of(node)
        if rule is not None and shape is not None:
            self._axes[node] = rule(self, node)
            return
        for given in node.all_input_nodes:
            self._hold(given, f"{kind} meets it, which units are not followed through")
        if shape is not None:
            self._axes[node] = [None] * len(shape)

    # -- what rules are made of --------------------------------------------------------------------

    def axes(self, node: Any) -> Axes:
        found = self._axes.get(node) if isinstance(node, fx.Node) else None
        if found is not None:
            return list(found)
        return [None] * len(shape_of(node) or ()) if isinstance(node, fx.Node) else []

    def where(self, node: fx.Node, what: str) -> str:
        """For people: what holds units, and in which module."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        return f"{what} in {path}" if path else what

    def _hold(self, node: fx.Node, why: str) -> None:
        found = self._axes.get(node) or []
        for axes in found if found and isinstance(found[0], list) else [found]:
            for axis in axes:
                self.labels.hold(axis, why)

    def hold_all(self, axes: Sequence[Axis], why: str) -> None:
        for axis in axes:
            self.labels.hold(axis, why)

    def elementwise(self, node: fx.Node, given: Sequence[Any]) -> Axes:
        """What is computed place by place, with sizes of 1 spread out."""
        shape = shape_of(node)
        assert shape is not None
        why = self.where(node, f"{kind_of(node)} with something of no units")
        found: Axes = [None] * len(shape)
        known = [False] * len(shape)
        for one in given:
            own_shape = shape_of(one)
            if own_shape is None:
                continue
            axes, ahead = self.axes(one), len(shape) - len(own_shape)
            for d, axis in enumerate(axes):
                place = ahead + d
                if own_shape[d] == 1 and shape[place] != 1:
                    self.labels.hold(axis, why)
                elif known[place]:
                    found[place] = self.labels.same(found[place], axis, why)
                else:
                    found[place], known[place] = axis, True
        return found

    def weight(self, node: Any, axis: int, role: Role) -> Axis:
        """Labels along a dimension of a weight, which has this role there; held if it is computed
        rather than a tensor of the network."""
        axes = self.axes(node)
        source = self._source.get(node)
        if source is None:
            self.labels.hold(axes[axis], "it meets a weight that is itself computed")
        else:
            name, dims = source
            if self._role.setdefault((name, dims[axis]), role) is not role:
                self.labels.hold(axes[axis], f"{name} both makes and reads it")
        return axes[axis]

    def is_own(self, node: Any) -> bool:
        """Whether it is a tensor of the network, or one with its dimensions in another order."""
        return node in self._source

    def moved(self, node: fx.Node, order: Sequence[int]) -> Axes:
        """Dimensions in another order."""
        given: Any = node.args[0]
        axes, source = self.axes(given), self._source.get(given)
        if source is not None:
            self._source[node] = (source[0], [source[1][d] for d in order])
        return [axes[d] for d in order]

    # -- what was found ----------------------------------------------------------------------------

    def found(self) -> Coupling:
        """Sets of units, in the order in which the network has the tensors that make them."""
        places: dict[int, dict[tuple[str, int], list[int]]] = {}
        for name, axes in self._own.items():
            for d, axis in enumerate(axes):
                assert axis is not None
                for place, label in enumerate(axis.tolist()):
                    root = self.labels.root(label)
                    places.setdefault(root, {}).setdefault((name, d), []).append(place)
        alike: dict[Any, list[int]] = {}
        for root, own in places.items():
            roles = {self._role.get(key) for key in own}
            if root not in self.labels.held and {Role.MADE, Role.READ} <= roles:
                sizes = tuple(sorted((key, len(of)) for key, of in own.items()))
                alike.setdefault(sizes, []).append(root)
        sets = [self._set(roots, places) for roots in alike.values()]
        order = {name: place for place, name in enumerate(self._own)}
        sets.sort(key=lambda one: min(order[name] for name in one.tensors(Role.MADE)))
        return Coupling(sets=tuple(_named_apart(sets)), held=self._reasons(places))

    def _set(
        self, roots: Sequence[int], places: Mapping[int, Mapping[tuple[str, int], list[int]]]
    ) -> UnitSet:
        keys = sorted(
            places[roots[0]],
            key=lambda key: (
                _ORDER[self._role.get(key, Role.BESIDE)],
                list(self._own).index(key[0]) if self._role.get(key) else 0,
                key,
            ),
        )
        roots = sorted(roots, key=lambda root: places[root][keys[0]])
        slices = list[Slices]()
        for name, d in keys:
            axes = self._own[name]
            axis = axes[d]
            assert axis is not None
            unit = torch.full((len(axis),), -1)
            for number, root in enumerate(roots):
                unit[places[root][name, d]] = number
            role = self._role.get((name, d), Role.BESIDE)
            slices.append(slices_along(name, role, d, unit, len(axes)))
        return UnitSet(name=set_name(keys[0][0]), shape=(len(roots),), slices=tuple(slices))

    def _reasons(self, places: Mapping[int, Mapping[tuple[str, int], list[int]]]) -> dict[str, str]:
        """For tensors that make what is held: what holds it."""
        found: dict[str, str] = {}
        for root, own in places.items():
            for key in own:
                if root in self.labels.held and self._role.get(key) is Role.MADE:
                    found.setdefault(key[0], self.labels.held[root])
        return found


_ORDER = {Role.MADE: 0, Role.READ: 1, Role.BESIDE: 2}


def _named_apart(sets: Sequence[UnitSet]) -> list[UnitSet]:
    """Sets of one maker (a fused projection) by number."""
    found, seen = [], dict[str, int]()
    for one in sets:
        seen[one.name] = number = seen.get(one.name, 0) + 1
        name = one.name if number == 1 else f"{one.name}.{number}"
        found.append(UnitSet(name=name, shape=one.shape, slices=one.slices))
    return found


def _first_names(network: nn.Module) -> dict[str, str]:
    """Every name of a tensor -> the first of those it has."""
    state = network.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: first[id(tensor)] for name, tensor in state.items()}
