"""RigL against a loop in plain Python, and inside the training loop."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import tombola.train.loop as loop
from tombola.errors import RecipeError
from tombola.pieces.dynamics import Dynamics, Moment, Move, RigL
from tombola.pieces.setting import Setting
from tombola.train.leg import Leg
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.models import LeNet
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD, Adam, Optimiser
from tombola.world.world import World, initial_params

NONE = Params({})


def moment(
    coords: dict[str, Tensor],
    grads: dict[str, Tensor],
    mask: Mask,
    until: int = 100,
    slots: dict[str, Tensor] | None = None,
) -> Moment:
    return Moment(
        coords=coords, grads=grads, mask=mask, slots=slots or {}, rate=0.1, seed=0, until=until
    )


def twin(
    weight: list[float], grad: list[float], slot: list[float], kept: list[bool], count: int
) -> tuple[list[bool], list[float], list[float]]:
    """Mask, values and slot after an update that exchanges `count` connections."""
    places = range(len(weight))
    alive = sorted((i for i in places if kept[i]), key=lambda i: (-abs(weight[i]), i))
    staying = alive[: len(alive) - count]
    free = sorted((i for i in places if i not in staying), key=lambda i: (-abs(grad[i]), i))
    found = [i in staying or i in free[:count] for i in places]
    old = [found[i] and kept[i] for i in places]
    return (
        found,
        [weight[i] if old[i] else 0.0 for i in places],
        [slot[i] if old[i] else 0.0 for i in places],
    )


# A dozen weights, eight kept, at the first update of 100 steps: f = .5 (1 + cos(pi / 75)) = .9996,
# c = 7, so that one stays; two kept weights are 0, three cut ones have the largest gradients.
WEIGHT = [0.5, -0.1, 0.0, 0.0, 0.2, -0.9, 0.0, 0.3, 0.0, 0.0, -0.4, 0.05]
GRAD = [0.1, -0.6, 0.7, 0.0, -0.3, 0.2, -0.8, 0.6, 0.9, 0.05, 0.0, -0.6]
KEPT = [True, True, False, True, True, True, False, True, False, False, True, True]


@pytest.mark.parametrize("drop", [0.26, 0.4, 0.6, 0.8, 1.0])
def test_an_update_equals_the_loop_in_plain_python(drop: float) -> None:
    rigl = RigL(drop=drop, every=1)
    kept, slot = torch.tensor(KEPT).reshape(3, 4), torch.arange(1.0, 13.0).reshape(3, 4)
    move = rigl.update(
        NONE,
        moment(
            {"w": torch.tensor(WEIGHT).reshape(3, 4)},
            {"w": torch.tensor(GRAD).reshape(3, 4)},
            Mask({"w": kept}),
            slots={"momentum_buffer/w": slot},
        ),
        1,
    )
    count = int(drop / 2 * (1 + math.cos(math.pi / 75)) * 8)
    assert count == rigl.exchanged(8, 1, 100) > 0
    found, weight, momentum = twin(
        torch.tensor(WEIGHT).tolist(),
        torch.tensor(GRAD).tolist(),
        slot.reshape(-1).tolist(),
        KEPT,
        count,
    )
    assert move.mask["w"].reshape(-1).tolist() == found
    assert move.coords["w"].reshape(-1).tolist() == weight
    assert move.slots["momentum_buffer/w"].reshape(-1).tolist() == momentum
    assert move.replaces_step


def test_an_update_written_out_by_hand() -> None:
    # f = 1/2 at half of T: two of four go, the weights 1 and 2. Of the free places 0, 1, 4, 5 the
    # largest gradients are at 1 (just dropped: keeps value and slot) and 5 (new).
    weight, grad = torch.tensor([1.0, -2.0, 3.0, 4.0, 0, 0]), torch.tensor([1.0, 9, 7, 8, 2, -3])
    kept, slot = torch.tensor([1, 1, 1, 1, 0, 0]) == 1, torch.tensor([5.0, 6, 7, 8, 9, 9])
    steps = torch.tensor(37.0)
    move = RigL(drop=1.0, until=1.0).update(
        NONE,
        moment(
            {"w": weight},
            {"w": grad},
            Mask({"w": kept}),
            slots={"exp_avg/w": slot, "step/w": steps, "exp_avg/b": slot},
        ),
        50,
    )
    assert move.mask["w"].tolist() == [False, True, True, True, False, True]
    assert move.coords["w"].tolist() == [0.0, -2.0, 3.0, 4.0, 0.0, 0.0]
    assert move.slots.keys() == {"exp_avg/w"}
    assert move.slots["exp_avg/w"].tolist() == [0.0, 6.0, 7.0, 8.0, 0.0, 0.0]


def test_what_is_dropped_is_positive_zero() -> None:
    weight, kept = torch.tensor([-1.0, -2.0, -3.0, -4.0, 0, 0]), torch.tensor([1, 1, 1, 1, 0, 0])
    move = RigL(drop=1.0, until=1.0).update(
        NONE,
        moment({"w": weight}, {"w": torch.tensor([0.0, 0, 0, 0, 1, 1])}, Mask({"w": kept == 1})),
        50,
    )
    assert move.coords["w"].tolist() == [0.0, 0.0, -3.0, -4.0, 0.0, 0.0]
    assert not move.coords["w"][[0, 1, 4, 5]].signbit().any()


def test_a_kept_weight_of_zero_is_not_mistaken_for_a_cut_one() -> None:
    # Three of six are kept, two of them 0, as if grown and never trained. Of those two the one of
    # higher index goes. The smallest of all six is a cut one: dropping that would drop nothing.
    weight, kept = torch.tensor([0.0, 0, 0, 0, 5.0, 0]), torch.tensor([0, 0, 0, 1, 1, 1]) == 1
    move = RigL(drop=0.35, until=1.0).update(
        NONE,
        moment({"w": weight}, {"w": torch.tensor([0.0, 4.0, 0, 0, 0, 0])}, Mask({"w": kept})),
        1,
    )
    assert move.mask["w"].tolist() == [False, True, False, True, True, False]


def test_ties_go_to_the_lower_index() -> None:
    kept = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]) == 1
    move = RigL(drop=1.0, until=1.0).update(
        NONE, moment({"w": torch.ones(8)}, {"w": torch.ones(8)}, Mask({"w": kept})), 50
    )
    assert move.mask["w"].tolist() == kept.tolist()  # drops 2 and 3, and grows them again
    grad = torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1])
    move = RigL(drop=1.0, until=1.0).update(
        NONE, moment({"w": torch.ones(8)}, {"w": grad}, Mask({"w": kept})), 50
    )
    assert move.mask["w"].tolist() == [True, True, False, False, True, True, False, False]


def test_not_a_number_does_not_change_the_count() -> None:
    kept = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]) == 1
    bad = torch.full((8,), math.nan)
    move = RigL(drop=1.0).update(NONE, moment({"w": bad}, {"w": bad}, Mask({"w": kept})), 20)
    assert move.mask.kept("w", 8) == 4


def test_a_tensor_without_a_gradient_stays_as_it_is() -> None:
    kept, weight = torch.tensor([1, 1, 1, 0, 0]) == 1, torch.tensor([3.0, 1.0, 2.0, 0.0, 0.0])
    move = RigL(drop=1.0).update(NONE, moment({"w": weight}, {}, Mask({"w": kept})), 20)
    assert move.mask["w"].equal(kept)
    assert move.coords["w"].equal(weight)


def test_the_number_exchanged_follows_a_cosine_and_ends_at_zero() -> None:
    rigl = RigL(drop=0.3, every=100, until=0.75)
    for step, fraction in [(100, 0.2967214), (500, 0.225), (750, 0.15), (1_000, 0.075), (1_500, 0)]:
        assert rigl.exchanged(10**6, step, 2_000) == pytest.approx(fraction * 10**6, abs=1)
    assert rigl.exchanged(6, 750, 2_000) == 0  # int(.9): the authors truncate


def test_updates_come_every_so_many_steps_and_end() -> None:
    asked = [step for step in range(2_000) if RigL().needs(NONE, step, 2_000)]
    assert asked == list(range(100, 1_501, 100))
    asked = [step for step in range(50) if RigL(every=7, until=0.5).needs(NONE, step, 50)]
    assert asked == [7, 14, 21]


@pytest.mark.parametrize(
    "wrong", [{"drop": 0.0}, {"drop": 1.5}, {"until": 0.0}, {"until": 75}, {"every": 0}]
)
def test_settings_without_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=rf"RigL\({next(iter(wrong))}=.*want"):
        RigL(**wrong)  # type: ignore[arg-type]


# -- inside the training loop --------------------------------------------------------------------

W0, W1 = "layers.0.weight", "layers.1.weight"
OPTIMISERS = [Adam(lr=3e-3), SGD(lr=0.1, momentum=0.9, weight_decay=1e-3)]
SMALL = RigL(drop=0.5, every=6, until=0.75)


def small_net() -> LeNet:
    return LeNet(6, 8, 3)


def small_world(optimiser: Optimiser) -> World:
    inputs = torch.randn(90, 6, generator=stream(0, "inputs"))
    targets = inputs[:, :3].argmax(dim=1)
    return World(
        model=small_net,
        train=(inputs[:60], targets[:60]),
        evaluate_every=5,
        validation=(inputs[60:75], targets[60:75]),
        test=(inputs[75:], targets[75:]),
        steps=32,
        batch_size=10,
        optimiser=optimiser,
        numerics=Numerics(executor="dense"),
    )


def small_training(optimiser: Optimiser, dynamics: Dynamics = SMALL) -> Training:
    world = small_world(optimiser)
    half = {
        name: torch.rand(shape, generator=stream(0, name)) < 0.5
        for name, shape in ((W0, (8, 6)), (W1, (3, 8)))
    }
    return Training(
        world=world,
        seed=0,
        params=initial_params(world, 0),
        mask=Mask(half),
        step=0,
        until=world.steps,
        objective=world.objective,
        dynamics=dynamics,
    )


@dataclass(frozen=True)
class Spy:
    """RigL that writes down copies of the moments it saw, and what it made of them."""

    moves: ClassVar[bool] = True

    seen: list[tuple[int, Moment, Move]] = field(default_factory=list)

    init = SMALL.init
    needs = SMALL.needs

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        copies = {
            what: {name: t.clone() for name, t in getattr(moment, what).items()}
            for what in ("coords", "slots", "grads")
        }
        move = SMALL.update(state, moment, step)
        self.seen.append((step, replace(moment, **copies), move))
        return move


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Training], list[Leg]]:
    """Trains, and gives the state after every step: element k is that after k + 1 steps."""

    def legs(training: Training) -> list[Leg]:
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
        kept: list[Leg] = []
        end = train(training, keep=kept.append)
        return [*kept, end]

    return legs


def same(one: Leg, other: Leg) -> bool:
    digests = [
        (leg.coords.digest, leg.slots.digest, leg.mask.digest, leg.best and leg.best.digest)
        for leg in (one, other)
    ]
    fields = [(leg.step, leg.readings, leg.best_step, leg.exposure) for leg in (one, other)]
    return digests[0] == digests[1] and fields[0] == fields[1]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_an_update_takes_the_place_of_the_step(
    optimiser: Optimiser, every_step: Callable[[Training], list[Leg]]
) -> None:
    training = small_training(optimiser)
    legs = every_step(training)
    moved_at = [
        after.step for before, after in pairwise(legs) if before.mask.digest != after.mask.digest
    ]
    assert moved_at == [7, 13, 19]  # updates at steps 6, 12, 18; at 24 = T nothing is exchanged
    for step in (6, 12, 18, 24):
        before, after = legs[step - 1], legs[step]
        assert (before.step, after.step) == (step, step + 1)
        for name, value in after.coords.items():
            if name in after.mask:
                old, new = before.mask[name], after.mask[name]
                assert new.sum() == old.sum() == training.mask[name].sum()
                assert value[old & new].equal(before.coords[name][old & new])
                assert not value[~(old & new)].any()
            else:
                assert value.equal(before.coords[name])
        for key, slot in after.slots.items():
            name = key.partition("/")[2]
            if name in after.mask and slot.shape == after.mask[name].shape:
                stayed = before.mask[name] & after.mask[name]
                assert slot[stayed].equal(before.slots[key][stayed])
                assert not slot[~stayed].any()
            else:
                assert slot.equal(before.slots[key])
    assert not legs[24].coords[W0].equal(legs[25].coords[W0])


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_cut_weights_and_their_state_are_zero_after_every_step(
    optimiser: Optimiser, every_step: Callable[[Training], list[Leg]]
) -> None:
    for leg in every_step(small_training(optimiser)):
        for name, kept in leg.mask.items():
            held = [
                leg.coords[name],
                *(
                    slot
                    for key, slot in leg.slots.items()
                    if key.endswith(f"/{name}") and slot.dim()
                ),
            ]
            assert all(not tensor[~kept].any() for tensor in held)
            assert not leg.coords[name][~kept].signbit().any()


def test_updates_use_dense_gradients_of_the_weights_in_use() -> None:
    spy = Spy()
    training = small_training(OPTIMISERS[1], spy)
    train(training)
    world = training.world
    assert [step for step, _, _ in spy.seen] == [6, 12, 18, 24]
    for step, at, move in spy.seen:
        epoch, place = divmod(step, world.steps_per_epoch)
        batch = world.train.take(world.order(0, epoch)[10 * place : 10 * place + 10])
        net = world.network(at.mask.apply(Params(at.coords)))
        torch.nn.functional.cross_entropy(net(batch.inputs), batch.targets).backward()
        for name, parameter in net.named_parameters():
            assert at.grads[name].equal(parameter.grad)
        for name, kept in at.mask.items():
            assert at.grads[name][~kept].any()
            count = int(0.25 * (1 + math.cos(math.pi * step / 24)) * int(kept.sum()))
            key = f"momentum_buffer/{name}"
            tensors = (at.coords[name], at.grads[name], at.slots[key], kept)
            found, weight, momentum = twin(*(t.reshape(-1).tolist() for t in tensors), count)
            assert move.mask[name].reshape(-1).tolist() == found
            assert move.coords[name].reshape(-1).tolist() == weight
            assert move.slots[key].reshape(-1).tolist() == momentum


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_training_resumed_on_either_side_of_an_update_ends_the_same(
    optimiser: Optimiser, every_step: Callable[[Training], list[Leg]]
) -> None:
    training = small_training(optimiser)
    legs = every_step(training)
    for step in (6, 7, 12, 13, 20):
        assert same(train(training, resume=legs[step - 1]), legs[-1])


def test_a_leg_moves_as_the_whole_training_does(
    every_step: Callable[[Training], list[Leg]],
) -> None:
    whole = small_training(OPTIMISERS[0])
    first = train(replace(whole, until=20))  # three quarters of which end before step 18 moves
    legs = every_step(whole)
    assert same(first, legs[19])
    assert same(train(whole, resume=first), legs[-1])


def test_refuses_a_training_too_short_for_its_first_update() -> None:
    facts = {"layers": (), "targets": (), "examples": 10, "objective": "CrossEntropy"}
    assert RigL(every=100).refuses(Setting(**facts, steps=134)) is None
    assert "never move" in str(RigL(every=100).refuses(Setting(**facts, steps=133 - 1)))
