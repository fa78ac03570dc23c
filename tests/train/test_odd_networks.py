"""Networks that are legal and unusual: each resumes as it would have gone on undisturbed."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tombola.train.loop
from tombola.lab.encoding import decode_leg, encode_leg
from tombola.testing import toy_world
from tombola.train.executors.sparse import Sparse
from tombola.train.leg import Leg
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.mask import FULL
from tombola.world.optimiser import SGD, Adam
from tombola.world.world import World, initial_params


class Transposed(nn.Module):
    """A weight that does not lie in memory in the order of its indices."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 20)
        self.fc.weight = nn.Parameter(torch.randn(6, 20).t())
        self.out = nn.Linear(20, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.fc(inputs).relu())
        return outputs


class ChannelsLast(nn.Sequential):
    """A convolution stored with its channels last."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (2, 3, 1)), nn.Conv2d(2, 5, (2, 1)), nn.Flatten(), nn.Linear(10, 3)
        )
        self.to(memory_format=torch.channels_last)


class Running(nn.Module):
    """A buffer that training replaces by another tensor instead of writing into it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(0).detach()
        outputs: Tensor = self.fc(inputs - self.mean)
        return outputs


class TiedEarlier(nn.Module):
    """A weight known under a name of the module before that of its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(6, 6)
        self.shared = self.inside.weight
        self.out = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.inside(inputs).relu() @ self.shared)
        return outputs


def training(world: World) -> Training:
    return Training(
        world=world,
        seed=0,
        params=initial_params(world, 0),
        mask=FULL,
        step=0,
        until=world.steps,
        objective=world.objective,
    )


@pytest.mark.parametrize("optimiser", [Adam(lr=1e-2), SGD(lr=0.1, momentum=0.9)])
@pytest.mark.parametrize("model", [Transposed, ChannelsLast, Running, TiedEarlier])
def test_a_stored_leg_goes_on_to_the_same_bytes(monkeypatch, model, optimiser) -> None:
    monkeypatch.setattr(tombola.train.loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(Sparse, "most", 1)
    job = training(toy_world(model=model, optimiser=optimiser, steps=30))
    legs: list[Leg] = []
    whole = train(job, keep=legs.append)
    stored = decode_leg(encode_leg(next(leg for leg in legs if leg.step == 13)))
    again = train(job, resume=stored)
    assert again.coords.digest == whole.coords.digest
    assert again.slots.digest == whole.slots.digest
    assert again.readings == whole.readings


def test_a_replaced_buffer_is_the_one_that_is_kept() -> None:
    leg = train(training(toy_world(model=Running, steps=30)))
    assert float(leg.coords["mean"].abs().sum()) > 0


def test_a_tied_weight_is_prunable_under_the_name_it_is_stored_by() -> None:
    world = toy_world(model=TiedEarlier)
    names = [layer.name for layer in world.layers]
    assert names == ["shared", "out.weight"]
    assert set(names) <= set(initial_params(world, 0))


def test_a_half_and_a_double_network_train_in_the_worlds_dtype() -> None:
    from tombola.world.numerics import Numerics

    world = toy_world(model=lambda: nn.Linear(6, 3).double(), numerics=Numerics(dtype="bfloat16"))
    leg = train(training(replace(world, steps=5)))
    assert leg.coords["weight"].dtype is torch.bfloat16
