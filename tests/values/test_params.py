"""Params: identity by content, and a way to find out who wrote into them."""

import torch
from torch import nn

from tombola.values.params import Params, params_of


def test_names_dtypes_shapes_and_bytes_count_and_nothing_else() -> None:
    base = Params({"a": torch.zeros(2), "b": torch.ones(3)})
    assert base.digest == Params({"b": torch.ones(3), "a": torch.zeros(2)}).digest
    others = [
        Params({"a": torch.zeros(2)}),
        Params({"a": torch.zeros(2), "c": torch.ones(3)}),
        Params({"a": torch.ones(3), "b": torch.zeros(2)}),
        base.replaced({"a": -torch.zeros(2)}),
        base.replaced({"a": torch.zeros(2, 1)}),
        base.replaced({"a": torch.zeros(2).double()}),
        base.replaced({"c": torch.zeros(0)}),
        Params({}),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1


def test_it_is_a_mapping_and_its_own_handle() -> None:
    params = Params({"a": torch.zeros(2), "b": torch.ones(3)})
    assert (list(params), len(params), params.load() is params) == (["a", "b"], 2, True)
    more = params.replaced({"b": torch.zeros(3), "c": torch.ones(1)})
    assert list(more) == ["a", "b", "c"]
    assert params["b"].tolist() == [1, 1, 1]


def test_rehash_detects_a_write() -> None:
    params = Params({"a": torch.zeros(2)})
    before = params.digest
    assert params.rehash() == before
    params["a"][0] = -0.0
    assert params.digest == before
    assert params.rehash() != before


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("gone", torch.ones(1), persistent=False)


def test_params_of_copies_parameters_and_persistent_buffers_tied_ones_once() -> None:
    network = Tied()
    params = params_of(network)
    assert list(params) == [
        "first.weight",
        "first.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "second.bias",
    ]
    assert not any(tensor.requires_grad for tensor in params.values())
    before = params.digest
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    assert params.rehash() == before
