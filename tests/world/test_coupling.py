"""What belongs to a unit, on networks whose couplings are known."""

import re
from collections.abc import Mapping

import pytest
import torch
from entangled import Encoder, Grouped, Joined, Tied, Upwards
from torch import Tensor, nn

from tombola.errors import RecipeError, WorldError
from tombola.pieces.by_units import ByUnits
from tombola.pieces.score import Magnitude
from tombola.recipes import UNITS
from tombola.testing import toy_world
from tombola.values.units import Role
from tombola.world.coupling import coupling_of
from tombola.world.labels import Labels
from tombola.world.models import ResNet

IMAGES = torch.zeros(2, 3, 8, 8)


def units(network: nn.Module, inputs: Tensor = IMAGES) -> dict[str, Mapping[Role, list[str]]]:
    """name -> role -> tensors; with the number of units in the name."""
    return {
        f"{one.name} x {one.count}": {role: sorted(one.tensors(role)) for role in Role}
        for one in coupling_of(network, inputs).sets
    }


def test_a_residual_couples_all_that_adds_to_it() -> None:
    found = units(ResNet((4, 6), blocks=2))
    assert list(found) == [
        *("conv x 4", "blocks.0.conv1 x 4", "blocks.1.conv1 x 4"),
        *("blocks.2.conv1 x 6", "blocks.2.conv2 x 6", "blocks.3.conv1 x 6"),
    ]
    stream = found["conv x 4"]
    assert stream[Role.MADE] == ["blocks.0.conv2.weight", "blocks.1.conv2.weight", "conv.weight"]
    assert stream[Role.READ] == [
        *("blocks.0.conv1.weight", "blocks.1.conv1.weight", "blocks.2.conv1.weight"),
        "blocks.2.shortcut.0.weight",
    ]
    norms = ["blocks.0.norm2", "blocks.1.norm2", "norm"]
    numbers = ["bias", "running_mean", "running_var", "weight"]
    assert stream[Role.BESIDE] == [f"{norm}.{number}" for norm in norms for number in numbers]
    assert "blocks.2.shortcut.0.weight" in found["blocks.2.conv2 x 6"][Role.MADE]
    assert found["blocks.3.conv1 x 6"][Role.READ] == ["blocks.3.conv2.weight"]


def test_a_group_of_a_convolution_is_cut_whole() -> None:
    (one,) = coupling_of(Grouped(), IMAGES).sets
    assert (one.name, one.count) == ("first", 2)
    sizes = {part.tensor: part.unit.reshape(-1).tolist() for part in one.slices}
    assert sizes["first.weight"] == [0, 0, 1, 1]
    assert sizes["depthwise.weight"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert sizes["act.weight"] == sizes["depthwise.weight"]
    assert sizes["groups.weight"] == sizes["last.weight"] == [0, 0, 0, 1, 1, 1]


def test_concatenation_flattening_and_gates() -> None:
    found = {one.name: one for one in coupling_of(Joined(), IMAGES).sets}
    assert {name: one.count for name, one in found.items()} == {"left": 2, "right": 3, "gate": 20}
    (read,) = (part for part in found["right"].slices if part.role is Role.READ)
    assert read.unit.reshape(-1).tolist() == [-1] * 8 + [0] * 4 + [1] * 4 + [2] * 4
    assert set(found["gate"].tensors(Role.MADE)) == {"gate.weight", "hidden.weight"}


WORDS = torch.ones(2, 5, dtype=torch.int64)


def test_heads_are_units_and_what_is_normalised_over_is_held() -> None:
    found = coupling_of(Encoder(), WORDS)
    assert [(one.name, one.count) for one in found.sets] == [("query", 2), ("up", 12)]
    heads = found.sets[0]
    assert set(heads.tensors(Role.MADE)) == {"query.weight", "key.weight", "value.weight"}
    assert heads.tensors(Role.READ) == ("mixed.weight",)
    assert heads.slices[0].unit.reshape(-1).tolist() == [0] * 4 + [1] * 4
    assert "normalisation over units mixes them in norm" in found.held["mixed.weight"]
    assert found.held["head.weight"] == "it is an output of the network"


class Unknown(nn.Module):
    """One hidden layer is sorted, another not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.third(self.second(self.first(inputs).sort(dim=1).values))
        return outputs


def test_what_an_unknown_operator_meets_is_held() -> None:
    found = coupling_of(Unknown(), torch.zeros(2, 6))
    assert [one.name for one in found.sets] == ["second"]
    assert found.held["first.weight"] == "sort meets it, which units are not followed through"


def test_a_layer_that_is_used_twice_has_one_set_of_units() -> None:
    (one,) = coupling_of(Tied(), torch.zeros(2, 6)).sets
    assert set(one.tensors(Role.MADE)) == {"first.weight", "again.weight"}
    assert set(one.tensors(Role.READ)) == {"again.weight", "out.weight"}


def test_a_transposed_convolution_has_its_units_the_other_way_round() -> None:
    one, other = coupling_of(Upwards(), IMAGES).sets
    assert other.tensors(Role.READ) == ("out",)
    axes = {(part.tensor, part.role): part.axis for part in one.slices}
    assert axes["up.weight", Role.MADE] == 1 and axes["down.weight", Role.READ] == 1


class Mirrored(nn.Module):
    """An encoder whose decoder is its weight transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.last = nn.Linear(6, 4), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        decoded = self.encode(inputs).relu() @ self.encode.weight
        outputs: Tensor = self.last(decoded.relu())
        return outputs


def test_a_tensor_that_both_makes_and_reads_is_held() -> None:
    found = coupling_of(Mirrored(), torch.zeros(2, 6))
    assert found.sets == ()
    assert found.held["encode.weight"] == "encode.weight both makes and reads it"


class Branching(nn.Module):
    """A forward pass that depends on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 4), Decides())
        self.out = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.inner(inputs))
        return outputs


class Decides(nn.Module):
    """Takes one way or the other."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if float(inputs.sum()) > 0 else -inputs


def test_what_cannot_be_traced_is_named() -> None:
    world = toy_world(model=Branching, thin=None)
    message = r"Branching cannot be traced, .* module 'inner.1' \(Decides\): .*by hand: ByUnits"
    with pytest.raises(WorldError, match=re.compile(message, re.S)):
        UNITS.check(world)


def test_a_network_without_hidden_units_is_refused() -> None:
    world = toy_world(model=lambda: nn.Linear(6, 3), thin=None)
    with pytest.raises(RecipeError, match="weight: it is an output of the network"):
        UNITS.check(world)


def test_tracing_leaves_the_network_as_it_was() -> None:
    network = ResNet((2,), blocks=1).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    coupling_of(network, IMAGES)
    assert network.training
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ((2, 3, 4), (2, 12), [None, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]]),
        ((2, 3, 1, 1), (2, 3), [None, [0, 1, 2]]),
        ((2, 3), (2, 3, 1), [None, [0, 1, 2], None]),
        ((2, 3), (1, 2, 3), [None, None, [0, 1, 2]]),
    ],
)
def test_shapes_laid_out_anew(
    before: tuple[int, ...], after: tuple[int, ...], wanted: list[list[int] | None]
) -> None:
    labels = Labels()
    axes = [None, labels.fresh(3), *[None] * (len(before) - 2)]
    found = labels.reshaped(axes, before, after, "why")
    assert [None if axis is None else axis.tolist() for axis in found] == wanted
    assert not labels.held


def test_two_followed_dimensions_that_become_one_are_held() -> None:
    labels = Labels()
    axes = [labels.fresh(2), labels.fresh(3)]
    assert labels.reshaped(axes, (2, 3), (6,), "why") == [None]
    assert set(labels.held) == {0, 1, 2, 3, 4}


def test_heads_are_what_a_dimension_is_divided_into() -> None:
    labels = Labels()
    heads, within = labels.reshaped([labels.fresh(6)], (6,), (2, 3), "why")
    assert within is None and heads is not None
    roots = [labels.root(label) for label in range(6)]
    assert roots == [0, 0, 0, 3, 3, 3] and heads.tolist() == [0, 3]


def test_the_rule_takes_sets_by_hand_where_nothing_can_be_traced() -> None:
    import tombola as tb

    network = Branching()
    hidden = tb.coupled(
        dict(network.named_parameters()), made=["inner.0.weight"], read=["out.weight"]
    )
    rule = ByUnits(score=Magnitude(), basis=tb.Units(given=(hidden,)))
    world = toy_world(model=Branching, thin=None)
    recipe = tb.Recipe(name="mine", source="here", loop=UNITS.loop, rule=rule)
    recipe.check(world)
    assert [(one.name, one.count) for one in recipe.counted(world)] == [("inner.0", 4)]
