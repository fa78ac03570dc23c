"""Optimiser state as named tensors, and metrics over a split."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tombola.train.evaluate as evaluating
from tombola.errors import WorldError
from tombola.testing import toy_net, toy_world
from tombola.train.evaluate import evaluate
from tombola.train.optim import copied, load_slots, slots_of
from tombola.values.params import Params, params_of
from tombola.world.optimiser import SGD, Adam, AdamW, Optimiser


def named(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters())


def one_step(network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    batch = toy_world().train.take(torch.arange(20))
    optimiser.zero_grad()
    cross_entropy(network(batch.inputs), batch.targets).backward()
    optimiser.step()


@pytest.mark.parametrize(
    ("optimiser", "slots"),
    [
        (SGD(lr=0.1), set()),
        (SGD(lr=0.1, momentum=0.9), {"momentum_buffer"}),
        (Adam(lr=0.1), {"step", "exp_avg", "exp_avg_sq"}),
        (AdamW(lr=0.1), {"step", "exp_avg", "exp_avg_sq"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_state_goes_out_and_comes_back(optimiser: Optimiser, slots: set[str]) -> None:
    network = toy_net()
    running = optimiser.build(list(network.parameters()))
    assert slots_of(running, named(network)) == {}
    one_step(network, running)
    stored = copied(slots_of(running, named(network)))
    assert set(stored) == {f"{slot}/{name}" for slot in slots for name in named(network)}

    other = toy_net()
    other.load_state_dict(network.state_dict())
    again = optimiser.build(list(other.parameters()))
    load_slots(again, named(other), stored)
    before = stored.rehash()
    for _ in range(3):
        one_step(network, running)
        one_step(other, again)
    assert params_of(other).digest == params_of(network).digest
    assert stored.rehash() == before  # later steps do not write into what was stored


def test_state_that_is_not_tensors_is_refused() -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            self.state[self.param_groups[0]["params"][0]]["count"] = 1

    network = toy_net()
    running = Counting(network.parameters(), lr=0.1)
    running.step()
    with pytest.raises(WorldError, match=r"Counting keeps 'count' as a int; only optimisers whose"):
        slots_of(running, named(network))


class Flips(nn.Module):
    """Dropout and running statistics: what inference mode must switch off."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)


@pytest.mark.parametrize("training", [True, False])
def test_metrics_are_of_the_whole_split_in_inference_mode(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = toy_world(model=Flips)
    network = world.new_network(1).train(training)
    before = params_of(network).digest
    found = evaluate(network, world, world.test)
    assert network.training == training
    assert all(module.training == training for module in network.modules())
    assert params_of(network).digest == before
    with torch.no_grad():
        outputs = network.eval()(world.test.inputs)
    wanted = float(cross_entropy(outputs, world.test.targets))
    right = float((outputs.argmax(1) == world.test.targets).float().mean())
    assert found == {"loss": pytest.approx(wanted), "accuracy": pytest.approx(right)}
    monkeypatch.setitem(
        evaluating.CHUNKS, "cpu", 7
    )  # the last chunk is smaller, and counts as such
    assert evaluate(network, world, world.test) == {
        "loss": pytest.approx(wanted),
        "accuracy": found["accuracy"],
    }


def test_another_call_may_compute() -> None:
    world = toy_world()
    network = world.network(
        Params({name: torch.zeros_like(tensor) for name, tensor in params_of(toy_net()).items()})
    )
    assert evaluate(network, world, world.test)["loss"] == pytest.approx(math.log(3))
    sure = evaluate(
        network, world, world.test, lambda inputs: 100.0 * (inputs[:, :3] - inputs[:, 3:])
    )
    assert sure["accuracy"] == 1.0
