"""What layers are fed, against what they make of it; and what a network says of itself."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tombola.errors import RecipeError
from tombola.testing import toy_world
from tombola.values.rng import stream
from tombola.world.catalogue import sentences_number
from tombola.world.facts import facts
from tombola.world.feeding import fed_to, rows_of
from tombola.world.objective import Call, CrossEntropy


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, *shape))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(5, 3, bias=False), (7, 5)),
        (nn.Linear(5, 3, bias=False), (2, 4, 5)),
        (nn.Conv1d(2, 4, 3, bias=False), (3, 2, 9)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (2, 4, 8, 7)),
        (nn.Conv2d(4, 6, (3, 2), dilation=2, groups=2, bias=False), (2, 4, 8, 7)),
        (nn.Conv2d(2, 2, 3, padding="same", bias=False), (2, 2, 5, 5)),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", bias=False), (2, 2, 5, 5)),
        (nn.Conv2d(2, 3, 3, bias=False), (2, 5, 5)),
        (nn.Conv3d(2, 4, 2, stride=2, bias=False), (2, 2, 4, 4, 4)),
    ],
    ids=str,
)
def test_rows_times_the_weight_are_what_the_layer_puts_out(
    module: nn.Module, shape: tuple[int, ...]
) -> None:
    inputs = draw(*shape)
    rows, weight = rows_of(module, inputs), module.get_parameter("weight").detach()
    assert rows is not None
    groups = len(rows)
    product = rows @ weight.reshape(groups, -1, rows.shape[2]).transpose(1, 2)
    flat = torch.cat(list(product), dim=1)  # (rows, outputs)
    outputs = module(inputs).detach()
    if isinstance(module, nn.Linear):
        expected = outputs.reshape(-1, outputs.shape[-1])
    else:
        batched = outputs if outputs.dim() == weight.dim() else outputs[None]
        expected = batched.transpose(0, 1).flatten(1).T
    torch.testing.assert_close(flat, expected, rtol=1e-5, atol=1e-6)


def test_other_layers_have_no_rows() -> None:
    for module in (nn.ConvTranspose1d(2, 2, 2), nn.LayerNorm(2), nn.Embedding(3, 2)):
        assert rows_of(module, draw(1, 2, 2)) is None


class Tied(nn.Module):
    """One weight in two layers, which it names by the first; and one that no call runs through."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.output = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.two.weight = self.one.weight
        self.apart = nn.Linear(6, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.two(self.one(inputs).relu()).relu()
        hidden = hidden + nn.functional.linear(hidden, self.apart.weight)
        outputs: Tensor = self.output(hidden)
        return outputs


def test_a_tied_weight_is_fed_by_both_layers_and_hooks_are_taken_off() -> None:
    torch.manual_seed(0)
    network = Tied()
    params, inputs = dict(network.named_parameters()), draw(5, 6)
    rows = fed_to(network, params, "one.weight", inputs)
    assert rows.shape == (1, 10, 6)
    assert torch.equal(rows[0, :5], inputs)
    torch.testing.assert_close(rows[0, 5:], network.one(inputs).relu().detach())
    assert not any(module._forward_pre_hooks for module in network.modules())
    with pytest.raises(RecipeError, match=r"the inputs of 'apart.weight' cannot be had"):
        fed_to(network, params, "apart.weight", inputs)
    assert facts(toy_world(model=Tied)).fed == {"one.weight", "two.weight", "output.weight"}


class Twice(CrossEntropy):
    """Runs the network on two views of a batch."""

    def loss(self, call: Call, batch: object, given: object) -> Tensor:
        return (call(batch.inputs) + call(-batch.inputs)).square().mean()


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (toy_world, 3),
        (sentences_number, 2),
        (lambda: toy_world(objective=Twice()), None),
    ],
    ids=["toy", "sentences", "two views"],
)
def test_a_network_says_how_many_outputs_its_loss_is_of(
    make: Callable[[], object], outputs: int | None
) -> None:
    found = facts(make())
    assert found.outputs == outputs
    world = make()
    assert {layer.name for layer in world.layers} <= found.fed
