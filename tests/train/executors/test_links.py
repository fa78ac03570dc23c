"""Which networks are recognised as chains of linear layers, and why others are not."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.testing import toy_net
from tombola.train.executors.executor import NotServedError
from tombola.train.executors.links import Link, links_of
from tombola.world.models import LeNet


class Written(nn.Module):
    """The same chain, with its forward pass given."""

    def __init__(self, forward: Callable[["Written", Tensor], Tensor], **more: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 5), nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.ones(1)) if more.pop("scaled", False) else 1.0
        for name, module in more.items():
            self.add_module(name, module)
        self._forward = forward

    def forward(self, inputs: Tensor) -> Tensor:
        return self._forward(self, inputs)


def flat(net: Written, x: Tensor) -> Tensor:
    return net.second(F.relu(net.first(x.flatten(1))))


def viewed(net: Written, x: Tensor) -> Tensor:
    return net.second(torch.relu(net.first(x.view(x.size(0), -1))))


def reshaped(net: Written, x: Tensor) -> Tensor:
    return net.second(net.first(x.reshape(x.shape[0], -1)).relu())


def scaled(net: Written, x: Tensor) -> Tensor:
    return net.second(F.relu(net.first(x.flatten(1)))) * 2.0


def skipping(net: Written, x: Tensor) -> Tensor:
    hidden = net.first(x.flatten(1))
    return net.second(F.relu(hidden) + hidden)


def branching(net: Written, x: Tensor) -> Tensor:
    return flat(net, x) if x.sum() > 0 else flat(net, -x)


def softer(net: Written, x: Tensor) -> Tensor:
    hidden = net.first(x.flatten(1))
    return net.second(hidden.relu() if net.training else hidden)


def transposed(net: Written, x: Tensor) -> Tensor:
    return net.second(F.relu(net.first(x.transpose(1, 2).flatten(1))))


def backwards(net: Written, x: Tensor) -> Tensor:
    return flat(net, x.flatten(1).flip(1))


CHAIN = (Link("first.weight", "first.bias", True), Link("second.weight", "second.bias", False))


@pytest.mark.parametrize("forward", [flat, viewed, reshaped])
def test_a_chain_is_found_however_it_is_written(forward) -> None:
    assert links_of(Written(forward), torch.zeros(3, 4)) == CHAIN


def test_sequences_and_our_own_networks_are_chains() -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 5, bias=False), nn.Identity(), nn.ReLU(), nn.Linear(5, 3)
    )
    assert links_of(net, torch.zeros(3, 4)) == (
        Link("1.weight", None, True),
        Link("4.weight", "4.bias", False),
    )
    lenet = links_of(LeNet(12, 7, 5, 3), torch.zeros(1, 3, 4))
    assert [link.weight for link in lenet] == [f"layers.{n}.weight" for n in range(3)]
    assert [link.relu for link in lenet] == [True, True, False]
    assert len(links_of(toy_net(), torch.zeros(6))) == 3


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Written(scaled), "mul is mul, neither linear"),
        (Written(skipping), "add is add, neither linear"),
        (Written(branching), "forward pass of Written cannot be traced"),
        (Written(softer), "something else in training"),
        (Written(transposed), "transpose is transpose, neither linear nor ReLU"),
        (Written(backwards), "flip is flip, neither"),
        (Written(flat, spare=nn.Linear(2, 2)), "spare.bias, spare.weight beside its linear"),
        (Written(flat, norm=nn.BatchNorm1d(3)), "norm.bias"),
        (Written(flat).requires_grad_(False), "first.weight, first.bias, second.weight"),
        (nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)), "1 is Tanh, neither"),
        (nn.Sequential(nn.Linear(12, 5), nn.Dropout(), nn.Linear(5, 3)), "1 is Dropout"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(4, 3)), "0 is Conv2d"),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "neither linear"),
        (nn.Sequential(nn.Flatten()), "0 linear layers"),
        (nn.Sequential(*(nn.Linear(12, 12) for _ in range(33))), "33 linear layers"),
    ],
)
def test_anything_else_is_not_served_and_the_part_is_named(network: nn.Module, reason: str) -> None:
    with pytest.raises(NotServedError) as caught:
        links_of(network, torch.zeros(3, 4))
    assert reason in str(caught.value)


def test_a_layer_used_twice_is_not_served() -> None:
    layer = nn.Linear(12, 12)
    with pytest.raises(NotServedError, match=r"3\.weight beside"):
        links_of(nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer), torch.zeros(3, 4))


def test_hooks_are_not_passed_over() -> None:
    network = toy_net()
    network.register_forward_hook(lambda module, inputs, outputs: outputs * 2)
    with pytest.raises(NotServedError, match="hooks"):
        links_of(network, torch.zeros(6))


def test_what_is_found_is_compared_with_the_network() -> None:
    class Doubling(nn.Linear):
        """A layer that torch does not look into, because it is not torch's own class."""

        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) * 2

    with pytest.raises(NotServedError):
        links_of(nn.Sequential(nn.Flatten(), Doubling(12, 3)), torch.zeros(3, 4))
    network = Written(lambda net, x: net.second(F.relu(net.first(x.view(-1, 12).view(-1, 12)))))
    assert links_of(network, torch.zeros(3, 4)) == CHAIN
    other = Written(lambda net, x: net.second(F.relu(net.first(x.view(12, -1).reshape(-1, 12)))))
    assert links_of(other, torch.zeros(3, 4)) == CHAIN
    mixed = Written(flat)
    mixed.second.forward = lambda x: F.linear(x, mixed.second.weight) * 3.0  # type: ignore[method-assign]
    with pytest.raises(NotServedError, match="computes something else than its linear layers"):
        links_of(mixed, torch.zeros(3, 4))


def test_the_network_is_left_as_it_was() -> None:
    network = toy_net().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    links_of(network, torch.zeros(6))
    assert network.training
    assert all(torch.equal(tensor, before[n]) for n, tensor in network.state_dict().items())
