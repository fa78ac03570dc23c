"""Units and their weights, against loops over single weights."""

import re
from itertools import product

import pytest
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.units import (
    Role,
    Slices,
    UnitSet,
    alive,
    counted_as,
    coupled,
    expanded,
    in_scope,
    summed,
)

# Three units made by `a`, read by `b` (two columns each, as behind a flattening) and by `c`; `b`
# itself makes two that `c` reads.
TENSORS = {
    "a.weight": torch.zeros(3, 2),
    "a.bias": torch.zeros(3),
    "b.weight": torch.zeros(2, 6),
    "c.weight": torch.zeros(4, 3),
    "d.weight": torch.zeros(1, 2),
}
SHAPES = {name: tuple(t.shape) for name, t in TENSORS.items() if name.endswith("weight")}
A = coupled(TENSORS, made=("a.weight",), read=("b.weight", "c.weight"), beside=("a.bias",))
B = coupled(TENSORS, made=("b.weight",), read=("d.weight",), name="second")
UNITS = Mask({"a": torch.tensor([True, False, True]), "second": torch.tensor([False, True])})


def test_a_weight_stays_if_every_unit_it_belongs_to_does() -> None:
    mask = expanded(UNITS, (A, B), SHAPES)
    assert mask.names == ("a.weight", "b.weight", "c.weight", "d.weight")
    kept_a, kept_b = UNITS["a"].tolist(), UNITS["second"].tolist()
    for i, j in product(range(2), range(6)):
        assert bool(mask["b.weight"][i, j]) == (kept_b[i] and kept_a[j // 2])
    assert mask["a.weight"].tolist() == [[kept, kept] for kept in kept_a]
    assert mask["d.weight"].tolist() == [kept_b]
    assert expanded(FULL, (A, B), SHAPES).digest == FULL.digest


def test_only_tensors_in_scope_are_cut() -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if name != "c.weight"}
    assert "c.weight" not in expanded(UNITS, (A, B), shapes)


def test_what_is_left_of_units_comes_back() -> None:
    assert alive(expanded(UNITS, (A, B), SHAPES), (A, B), SHAPES).digest == UNITS.digest
    assert alive(FULL, (A, B), SHAPES).digest == FULL.digest
    one_left = Mask({"a.weight": torch.tensor([[False, True], [False, False], [True, True]])})
    assert alive(one_left, (A,), SHAPES)["a"].tolist() == [True, False, True]


@pytest.mark.parametrize("shape", [(3, 1), (1, 4), (3, 4)])
def test_sums_are_those_of_a_loop(shape: tuple[int, ...]) -> None:
    values = torch.arange(24, dtype=torch.float32).reshape(3, 4, 2)
    unit = torch.arange(shape[0] * shape[1]).reshape(*shape, 1) % 3 - 1
    wanted = [0.0, 0.0]
    for i, j, k in product(range(3), range(4), range(2)):
        number = int(unit[min(i, shape[0] - 1), min(j, shape[1] - 1), 0])
        if number >= 0:
            wanted[number] += float(values[i, j, k])
    assert summed(values, unit, 2).tolist() == wanted


def layers(*names: str) -> tuple[Layer, ...]:
    return tuple(Layer(name=n, shape=SHAPES[n], kind="conv", rate=0.7) for n in names)


def test_units_can_be_cut_where_all_that_read_them_is_in_scope() -> None:
    assert in_scope((A, B), layers(*SHAPES)) == (A, B)
    assert in_scope((A, B), layers("a.weight", "b.weight", "d.weight")) == (B,)
    assert in_scope((A, B), layers("b.weight", "c.weight")) == ()  # nothing makes units of A
    counts = counted_as(A, layers(*SHAPES))
    assert (counts.name, counts.count, counts.kind, counts.rate) == ("a", 3, "conv", 0.7)


@pytest.mark.parametrize(
    ("made", "read", "beside", "message"),
    [
        (("a.weight",), (), (), "want at least one tensor that makes units and one that reads"),
        (("a.weight",), ("x",), (), r"no tensor 'x'; there are \['a.bias', 'a.weight'"),
        (("a.weight",), ("d.weight",), (), r"'d.weight' has shape \(1, 2\); want 3 units"),
        (("b.weight",), ("d.weight",), ("a.bias",), r"'a.bias' has shape \(3,\); want 2 units"),
        (("a.weight",), ("a.bias",), (), r"'a.bias' has shape \(3,\); want 3 units .*dimension 1"),
    ],
)
def test_sets_that_do_not_fit_are_refused(
    made: tuple[str, ...], read: tuple[str, ...], beside: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        coupled(TENSORS, made=made, read=read, beside=beside)


def test_a_set_says_what_it_is() -> None:
    def along(tensor: str, role: Role, unit: Tensor) -> Slices:
        return Slices(tensor=tensor, role=role, unit=unit)

    one = UnitSet(name="x", shape=(2,), slices=(along("w", Role.READ, torch.tensor([[0, 1]])),))
    assert one.facts() == {"shape": [2], "slices": [["w", "read", 1]]}
    assert A.tensors(Role.READ) == ("b.weight", "c.weight")
    assert re.fullmatch(r"\('a.weight', .*, 'a.bias'\)", str(A.tensors()))
