"""What may be pruned in a network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tombola.world.layers import prunable_layers

RATES = {"linear": 0.8, "conv": 0.7, "attention": 0.6, "output": 0.9}


def found(network: nn.Module) -> list[tuple[str, str, tuple[int, ...]]]:
    layers = prunable_layers(network, RATES)
    assert all(layer.rate == RATES[layer.kind] for layer in layers)
    parameters = dict(network.named_parameters())
    assert all(tuple(parameters[layer.name].shape) == layer.shape for layer in layers)
    return [(layer.name, layer.kind, layer.shape) for layer in layers]


class TiedHead(nn.Module):
    """A language model: the last linear layer has the weights of the embedding."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def frozen() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 2))
    network[1].weight.requires_grad_(False)
    return network


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    network[2].weight = network[0].weight
    return network


def shared_module() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 2))


def tied_last() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (
            lambda: nn.Sequential(
                nn.Conv2d(1, 2, 3),
                nn.BatchNorm2d(2),
                nn.GroupNorm(1, 2),
                nn.Flatten(),
                nn.Linear(8, 3),
            ),
            [("0.weight", "conv", (2, 1, 3, 3)), ("4.weight", "output", (3, 8))],
        ),
        (
            lambda: nn.Sequential(
                nn.Conv1d(2, 4, 3, groups=2), nn.ConvTranspose2d(4, 2, 3), nn.Conv3d(2, 1, 1)
            ),
            [
                ("0.weight", "conv", (4, 1, 3)),
                ("1.weight", "conv", (4, 2, 3, 3)),
                ("2.weight", "output", (1, 2, 1, 1, 1)),
            ],
        ),  # the last is the output, whatever it is
        (
            lambda: TiedHead(tied=False),
            [
                ("attention.in_proj_weight", "attention", (24, 8)),
                ("attention.out_proj.weight", "linear", (8, 8)),
                ("body.weight", "linear", (8, 8)),
                ("head.weight", "output", (20, 8)),
            ],
        ),
        (
            lambda: TiedHead(tied=True),
            [
                ("attention.in_proj_weight", "attention", (24, 8)),
                ("attention.out_proj.weight", "linear", (8, 8)),
                ("body.weight", "output", (8, 8)),
            ],
        ),
        (
            lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
            [
                ("q_proj_weight", "attention", (8, 8)),
                ("k_proj_weight", "attention", (8, 4)),
                ("v_proj_weight", "attention", (8, 6)),
                ("out_proj.weight", "output", (8, 8)),
            ],
        ),
        (frozen, [("0.weight", "linear", (5, 4)), ("2.weight", "output", (2, 6))]),
        (tied, [("0.weight", "linear", (4, 4)), ("3.weight", "output", (2, 4))]),
        (shared_module, [("0.weight", "linear", (4, 4)), ("3.weight", "output", (2, 4))]),
        (tied_last, [("0.weight", "linear", (4, 4)), ("1.weight", "output", (3, 4))]),
        (lambda: nn.Linear(3, 2), [("weight", "output", (2, 3))]),
        (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3), nn.Embedding(3, 3)), []),
    ],
    ids=[
        "norm",
        "conv",
        "embedding",
        "tied-embedding",
        "qkv",
        "frozen",
        "tied",
        "shared",
        "tied-last",
        "alone",
        "nothing",
    ],
)
def test_weights_of_layers_and_nothing_else(
    network: Callable[[], nn.Module], expected: list[tuple[str, str, tuple[int, ...]]]
) -> None:
    assert found(network()) == expected


def test_a_weight_that_is_computed_is_none_of_the_networks_tensors() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    network = nn.Sequential(normed, nn.Linear(4, 2))
    assert found(network) == [("1.weight", "output", (2, 4))]


def test_layers_of_ones_own_count_by_what_they_are_made_of() -> None:
    class Gate(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs).sigmoid()

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4, 4))
            self.gate, self.out = Gate(4, 4), nn.Linear(4, 2)

    assert [name for name, _, _ in found(Own())] == ["gate.weight", "out.weight"]
