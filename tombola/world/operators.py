"""What torch's operators do to units: from the dimensions they are given to those they give."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from tombola.values.units import Role
from tombola.world.labels import Axes, Axis

if TYPE_CHECKING:
    from tombola.world.coupling import Follow

Rule = Callable[["Follow", fx.Node], Any]  # Axes, or a list of them


def shape_of(node: Any) -> tuple[int, ...] | None:
    """Of what a node gives; of the first, if it gives several tensors."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], Tensor):
        value = value[0]
    return tuple(int(size) for size in value.shape) if isinstance(value, Tensor) else None


def kind_of(node: fx.Node) -> str:
    """The name of an operator, in place or not: `relu` for `aten.relu_.default`."""
    text = str(node.target)
    name = text.split(".")[1] if text.startswith("aten.") else text
    return name if name.startswith("_") else name.removesuffix("_")


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """By place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


# -- weights ---------------------------------------------------------------------------------------


def _linear(at: "Follow", node: fx.Node) -> Axes:
    inputs, weight, bias = node.args[0], node.args[1], argument(node, 2, "bias")
    axes = at.axes(inputs)
    why = at.where(node, "a linear layer reads it beside what is no unit")
    at.labels.same(axes[-1], at.weight(weight, 1, Role.READ), why)
    made = at.weight(weight, 0, Role.MADE)
    if bias is not None:
        made = at.labels.same(made, at.axes(bias)[0], why)
    return [*axes[:-1], made]


def _convolution(at: "Follow", node: fx.Node) -> Any:
    inputs, weight, bias = node.args[0], node.args[1], argument(node, 2, "bias")
    axes, groups = at.axes(inputs), argument(node, 6, "groups", 1)
    if not _is_batched(axes, node):
        return _mixed(at, node)
    why = at.where(node, "a convolution reads it beside what is no unit")
    at.hold_all(axes[2:], at.where(node, "a convolution slides along it"))
    made = at.weight(weight, 0, Role.MADE)
    if groups == 1:
        at.labels.same(axes[1], at.weight(weight, 1, Role.READ), why)
    else:
        _grouped(at, axes[1], made, groups, why)
    if bias is not None:
        made = at.labels.same(made, at.axes(bias)[0], why)
    return [axes[0], made, *[None] * (len(axes) - 2)]


def _grouped(at: "Follow", read: Axis, made: Axis, groups: int, why: str) -> None:
    """A group is cut whole: what it reads and what it makes belong together."""
    if read is None or made is None:
        at.hold_all([read, made], why)
        return
    for one in zip(read.reshape(groups, -1), made.reshape(groups, -1), strict=True):
        at.labels.together(torch.cat(one))


def _transposed(at: "Follow", node: fx.Node) -> Any:
    inputs, weight, bias = node.args[0], node.args[1], argument(node, 2, "bias")
    axes, groups = at.axes(inputs), argument(node, 6, "groups", 1)
    if not _is_batched(axes, node) or groups != 1:
        return _mixed(at, node)
    why = at.where(node, "a convolution reads it beside what is no unit")
    at.hold_all(axes[2:], at.where(node, "a convolution slides along it"))
    at.labels.same(axes[1], at.weight(weight, 0, Role.READ), why)
    made = at.weight(weight, 1, Role.MADE)
    if bias is not None:
        made = at.labels.same(made, at.axes(bias)[0], why)
    return [axes[0], made, *[None] * (len(axes) - 2)]


def _embedding(at: "Follow", node: fx.Node) -> Axes:
    weight, indices = node.args[0], node.args[1]
    at.hold_all(at.axes(weight)[:1], at.where(node, "it is looked up by number"))
    return [*at.axes(indices), at.weight(weight, 1, Role.MADE)]


def _matmul(at: "Follow", node: fx.Node) -> Any:
    left, right = node.args[0], node.args[1]
    a, b = at.axes(left), at.axes(right)
    if not isinstance(left, fx.Node) or len(a) < 2 or len(b) < 2:
        return _mixed(at, node)
    if at.is_own(right) and len(b) == 2:
        why = at.where(node, "a product reads it beside what is no unit")
        at.labels.same(a[-1], at.weight(right, 0, Role.READ), why)
        return [*a[:-1], at.weight(right, 1, Role.MADE)]
    why = at.where(node, "a product sums over it")
    at.hold_all([a[-1], b[-2]], why)
    return [*_batched(at, node, [a[:-2], b[:-2]]), a[-2], b[-1]]


def _batched(at: "Follow", node: fx.Node, several: list[Axes]) -> Axes:
    """Dimensions ahead of those that are multiplied: heads, for example."""
    why = at.where(node, f"{kind_of(node)} meets it beside what is no unit")
    found, *others = several
    for other in others:
        if len(other) != len(found):
            at.hold_all([*found, *other], why)
            return [None] * max(len(found), len(other))
        found = [at.labels.same(a, b, why) for a, b in zip(found, other, strict=True)]
    return found


def _attention(at: "Follow", node: fx.Node) -> Axes:
    query, key, value = (at.axes(one) for one in node.args[:3])
    at.hold_all([query[-1], key[-1], key[-2], value[-2]], at.where(node, "attention sums over it"))
    ahead = _batched(at, node, [query[:-2], key[:-2], value[:-2]])
    mask = argument(node, 3, "attn_mask")
    if isinstance(mask, fx.Node):
        sizes = shape_of(mask) or ()
        at.hold_all(
            [axis for axis, size in zip(at.axes(mask), sizes, strict=True) if size > 1],
            at.where(node, "attention is masked by it"),
        )
    return [*ahead, query[-2], value[-1]]


# -- normalisation ---------------------------------------------------------------------------------


def _batch_norm(at: "Follow", node: fx.Node) -> Any:
    axes = at.axes(node.args[0])
    why = at.where(node, "normalisation meets it beside what is no unit")
    for own in node.args[1:5]:
        if isinstance(own, fx.Node):
            axes[1] = at.labels.same(axes[1], at.axes(own)[0], why)
    value = node.meta.get("val")
    return [axes] * len(value) if isinstance(value, (tuple, list)) else axes


def _layer_norm(at: "Follow", node: fx.Node) -> Axes:
    axes, over = at.axes(node.args[0]), len(node.args[1])  # type: ignore[arg-type]
    at.hold_all(axes[-over:], at.where(node, "normalisation over units mixes them"))
    for own in node.args[2:4]:
        at.hold_all(at.axes(own), at.where(node, "normalisation over units mixes them"))
    return axes


def _group_norm(at: "Follow", node: fx.Node) -> Axes:
    axes = at.axes(node.args[0])
    at.hold_all(axes[1:2], at.where(node, "normalisation of groups mixes units"))
    return axes


def _softmax(at: "Follow", node: fx.Node) -> Axes:
    axes = at.axes(node.args[0])
    dim: Any = node.args[1]
    at.hold_all([axes[dim]], at.where(node, "a softmax mixes units"))
    return axes


# -- place by place --------------------------------------------------------------------------------


def _each(at: "Follow", node: fx.Node) -> Axes:
    return at.elementwise(node, [a for a in node.args if isinstance(a, fx.Node)])


def _prelu(at: "Follow", node: fx.Node) -> Axes:
    axes, slope = at.axes(node.args[0]), node.args[1]
    if len(axes) > 1 and shape_of(slope) != (1,):
        why = at.where(node, "a slope meets it beside what is no unit")
        axes[1] = at.labels.same(axes[1], at.axes(slope)[0], why)
    return axes


def _is_batched(axes: Axes, node: fx.Node) -> bool:
    """Whether there are examples and channels ahead of the dimensions that an operator slides
    along, whose number is in its name."""
    sliding = next(int(letter) for letter in kind_of(node) if letter.isdigit())
    return len(axes) == sliding + 2


def _pool(at: "Follow", node: fx.Node) -> Any:
    axes = at.axes(node.args[0])
    if not _is_batched(axes, node):
        return _mixed(at, node)
    at.hold_all(axes[2:], at.where(node, "a pool slides along it"))
    found = [*axes[:2], *[None] * (len(axes) - 2)]
    value = node.meta.get("val")
    return [found] * len(value) if isinstance(value, (tuple, list)) else found


def _reduced(at: "Follow", node: fx.Node) -> Any:
    axes, shape = at.axes(node.args[0]), shape_of(node)
    dims = argument(node, 1, "dim")
    if dims is None or shape is None:
        return _mixed(at, node)
    gone = {d % len(axes) for d in ([dims] if isinstance(dims, int) else dims)}
    at.hold_all([axes[d] for d in gone], at.where(node, f"a {kind_of(node)} mixes units"))
    keeps = len(shape) == len(axes)
    return [None if d in gone else axis for d, axis in enumerate(axes) if keeps or d not in gone]


def _mixed(at: "Follow", node: fx.Node) -> Any:
    """Nothing is followed through it."""
    for given in node.all_input_nodes:
        at.hold_all(at.axes(given), at.where(node, f"{kind_of(node)} mixes units"))
    found: Axes = [None] * len(shape_of(node) or ())
    value = node.meta.get("val")
    return [found] * len(value) if isinstance(value, (tuple, list)) else found


# -- shapes ----------------------------------------------------------------------------------------


def _reshape(at: "Follow", node: fx.Node) -> Axes:
    given = node.args[0]
    before, after = shape_of(given), shape_of(node)
    assert before is not None and after is not None
    why = at.where(node, "two followed dimensions become one")
    return at.labels.reshaped(at.axes(given), before, after, why)


def _transpose(at: "Follow", node: fx.Node) -> Axes:
    dims = len(at.axes(node.args[0]))
    order = list(range(dims))
    given: Any = node.args[1:3]
    a, b = (d % dims for d in given)
    order[a], order[b] = b, a
    return at.moved(node, order)


def _t(at: "Follow", node: fx.Node) -> Axes:
    return at.moved(node, list(range(len(at.axes(node.args[0]))))[::-1])


def _permute(at: "Follow", node: fx.Node) -> Axes:
    order: Any = node.args[1]
    return at.moved(node, [d % len(order) for d in order])


def _as_sized(at: "Follow", node: fx.Node) -> Axes:
    """Dimensions of size 1 that come, go or spread; the others stay in their order."""
    given = node.args[0]
    axes, before, after = at.axes(given), shape_of(given), shape_of(node)
    assert before is not None and after is not None
    kept = [axis for axis, size in zip(axes, before, strict=True) if size > 1]
    sizes = [size for size in before if size > 1]
    found: Axes = []
    for size in after:
        if sizes and size == sizes[0]:
            found.append(kept.pop(0))
            sizes.pop(0)
        else:
            found.append(None)
    at.hold_all(kept, at.where(node, f"{kind_of(node)} repeats it"))
    at.hold_all(
        [axis for axis, size in zip(axes, before, strict=True) if size == 1],
        at.where(node, f"{kind_of(node)} spreads it"),
    )
    return found


def _expand(at: "Follow", node: fx.Node) -> Axes:
    given = node.args[0]
    axes, before, after = at.axes(given), shape_of(given), shape_of(node)
    assert before is not None and after is not None
    ahead = len(after) - len(before)
    found: Axes = [None] * ahead
    for axis, size, wide in zip(axes, before, after[ahead:], strict=True):
        if size != wide:
            at.hold_all([axis], at.where(node, "expand spreads it"))
        found.append(axis if size == wide else None)
    return found


def _select(at: "Follow", node: fx.Node) -> Axes:
    axes = at.axes(node.args[0])
    dim = int(argument(node, 1, "dim")) % len(axes)
    at.hold_all([axes[dim]], at.where(node, "one place of it is taken"))
    return axes[:dim] + axes[dim + 1 :]


def _slice(at: "Follow", node: fx.Node) -> Axes:
    given = node.args[0]
    axes = at.axes(given)
    dim = int(argument(node, 1, "dim", 0)) % len(axes)
    if shape_of(given) != shape_of(node):
        at.hold_all([axes[dim]], at.where(node, "a part of it is taken"))
        axes[dim] = None
    return axes


def _split(at: "Follow", node: fx.Node) -> list[Axes]:
    axes = at.axes(node.args[0])
    dim = int(argument(node, 2, "dim", 0)) % len(axes)
    at.hold_all([axes[dim]], at.where(node, "it is split into parts"))
    axes[dim] = None
    return [axes] * len(node.meta["val"])


def _padded(at: "Follow", node: fx.Node) -> Axes:
    given = node.args[0]
    axes, before, after = at.axes(given), shape_of(given), shape_of(node)
    assert before is not None and after is not None
    grown = [d for d in range(len(axes)) if before[d] != after[d]]
    at.hold_all([axes[d] for d in grown], at.where(node, "it is padded"))
    return [None if d in grown else axis for d, axis in enumerate(axes)]


def _cat(at: "Follow", node: fx.Node) -> Axes:
    given: Any = node.args[0]
    dim, shape = argument(node, 1, "dim", 0), shape_of(node)
    assert shape is not None
    dim %= len(shape)
    found: Axes = []
    for d in range(len(shape)):
        axes = [at.axes(one)[d] for one in given]
        if d == dim:
            found.append(_joined(at, given, axes, dim))
        else:
            found.append(_batched(at, node, [[axis] for axis in axes])[0])
    return found


def _joined(at: "Follow", given: Any, axes: Axes, dim: int) -> Axis:
    if all(axis is None for axis in axes):
        return None
    parts = []
    for one, axis in zip(given, axes, strict=True):
        if axis is None:
            shape = shape_of(one)
            assert shape is not None
            axis = at.labels.fresh(shape[dim])
            at.labels.hold(axis, "it is joined to what is no unit")
        parts.append(axis)
    return torch.cat(parts)


_BY_RULE: dict[Rule, tuple[str, ...]] = {
    _linear: ("linear",),
    _convolution: ("conv1d", "conv2d", "conv3d"),
    _transposed: ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    _embedding: ("embedding",),
    _matmul: ("matmul", "mm", "bmm"),
    _attention: ("scaled_dot_product_attention",),
    _batch_norm: ("batch_norm", "_native_batch_norm_legit_no_training", "instance_norm"),
    _layer_norm: ("layer_norm", "rms_norm"),
    _group_norm: ("group_norm",),
    _softmax: ("softmax", "log_softmax", "_softmax", "_log_softmax"),
    _prelu: ("prelu",),
    _pool: (
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "max_pool2d_with_indices",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "adaptive_max_pool1d",
        "adaptive_max_pool2d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
    ),
    _reduced: ("mean", "sum", "amax", "amin"),
    _reshape: ("view", "reshape", "flatten", "unflatten", "_unsafe_view"),
    _transpose: ("transpose",),
    _t: ("t",),
    _permute: ("permute",),
    _as_sized: ("squeeze", "unsqueeze"),
    _expand: ("expand",),
    _select: ("select",),
    _slice: ("slice",),
    _split: ("split", "chunk", "split_with_sizes"),
    _cat: ("cat",),
    _padded: ("pad", "constant_pad_nd"),
    _each: (
        *("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus"),
        *("tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid", "clamp", "abs", "neg"),
        *("exp", "sqrt", "rsqrt", "square", "pow", "add", "sub", "mul", "div", "maximum"),
        *("minimum", "where", "masked_fill", "dropout", "feature_dropout", "alpha_dropout"),
        *("clone", "contiguous", "to", "_to_copy", "detach", "alias", "type_as"),
    ),
}
RULES: dict[str, Rule] = {name: rule for rule, names in _BY_RULE.items() for name in names}
