"""The ways to retrain of Renda et al. 2020, each against its steps written out in plain torch."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drive import drive
from torch import Tensor
from toy import small_world

import tombola as tb
from tombola.errors import RecipeError
from tombola.lab.checks import checks_of
from tombola.lab.engines.inline import Inline
from tombola.lab.question import Question
from tombola.lab.runner import Runner
from tombola.lab.study import arms_of
from tombola.pieces.rewind import AtLastRate, Stay, ToStep
from tombola.pieces.schedule import Geometric
from tombola.recipes import (
    FINE_TUNE,
    LOW_RATE_REWIND,
    LR_REWIND,
    ONESHOT_FINE_TUNE,
    ONESHOT_LOW_RATE_REWIND,
    ONESHOT_LR_REWIND,
    ONESHOT_WEIGHT_REWIND,
    WEIGHT_REWIND,
    Recipe,
    Reinit,
)
from tombola.recipes.controls import control_loop
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Train
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.optimiser import SGD, Adam, Cosine, Drops, LastRate
from tombola.world.world import World, initial_params

SGD_DROPS = SGD(lr=0.1, momentum=0.9, rate=Drops(at=(20, 30)))
WORLD = small_world(optimiser=SGD_DROPS)
T, K = WORLD.steps, 15  # the first drop is at 20
Tensors = dict[str, Tensor]


def by_hand(start: Tensors, masks: Tensors, first: int, last_rate: bool = False) -> list[Tensors]:
    """Masked SGD with fresh momentum from step `first` to T: the weights after each step."""
    network = WORLD.new_network(1)
    network.load_state_dict({n: t * masks.get(n, 1.0) for n, t in start.items()})
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    states = [{n: t.clone() for n, t in network.state_dict().items()}]
    for step in range(first, T):
        epoch, place = divmod(step, WORLD.steps_per_epoch)
        size = WORLD.batch_size
        index = WORLD.order(1, epoch)[place * size : (place + 1) * size]
        at = T if last_rate else step
        optimiser.param_groups[0]["lr"] = 0.1 * 0.1 ** ((at >= 20) + (at >= 30))
        optimiser.zero_grad()
        outputs = network(WORLD.train.inputs[index])
        torch.nn.functional.cross_entropy(outputs, WORLD.train.targets[index]).backward()
        for name, parameter in network.named_parameters():
            parameter.grad *= masks.get(name, torch.ones(()))
        optimiser.step()
        states.append({n: t.clone() for n, t in network.state_dict().items()})
    return states


def largest(weights: Tensors, masks: Tensors, density: float) -> Tensors:
    """A mask of the largest of the weights left, all tensors ranked together."""
    names = [layer.name for layer in WORLD.layers]
    flat = torch.cat([weights[n].abs().flatten() for n in names])
    if masks:
        flat[torch.cat([masks[n].flatten() for n in names]) == 0.0] = -1.0
    keep = torch.zeros_like(flat)
    keep[flat.argsort(descending=True)[: int(len(flat) * density + 0.5)]] = 1.0
    parts = keep.split([weights[n].numel() for n in names])
    return {n: part.reshape(weights[n].shape) for n, part in zip(names, parts, strict=True)}


def written_out(recipe: Recipe, stays: bool, first: int, last_rate: bool) -> list[Tensors]:
    """Train, cut, retrain, for two rounds; one-shot cuts each round from the dense network."""
    dense = by_hand(dict(initial_params(WORLD, 1)), {}, 0)
    ends, masks = [dense[-1]], dict[str, Tensor]()
    for density in (0.8, 0.64):
        cut = dense[-1] if recipe.name.startswith("oneshot") else ends[-1]
        masks = largest(cut, {} if recipe.name.startswith("oneshot") else masks, density)
        start = cut if stays else dense[K]
        ends.append(by_hand(start, masks, first, last_rate)[-1])
    return ends


@pytest.mark.parametrize("recipe", [WEIGHT_REWIND, ONESHOT_WEIGHT_REWIND], ids=lambda r: r.name)
def test_weight_rewinding_equals_the_steps_written_out(recipe: Recipe) -> None:
    compare(replace(recipe, rewind=ToStep(step=K)), stays=False, first=K, last_rate=False)


@pytest.mark.parametrize("t", [None, 25])
@pytest.mark.parametrize("recipe", [LR_REWIND, ONESHOT_LR_REWIND], ids=lambda r: r.name)
def test_learning_rate_rewinding_equals_the_steps_written_out(
    recipe: Recipe, t: int | None
) -> None:
    first = 0 if t is None else T - t
    compare(replace(recipe, rewind=Stay(retrain=t)), stays=True, first=first, last_rate=False)


@pytest.mark.parametrize("t", [None, 25])
@pytest.mark.parametrize("recipe", [FINE_TUNE, ONESHOT_FINE_TUNE], ids=lambda r: r.name)
def test_fine_tuning_equals_the_steps_written_out(recipe: Recipe, t: int | None) -> None:
    rewind = AtLastRate(of=Stay(retrain=t))
    first = 0 if t is None else T - t
    compare(replace(recipe, rewind=rewind), stays=True, first=first, last_rate=True)


@pytest.mark.parametrize("recipe", [LOW_RATE_REWIND, ONESHOT_LOW_RATE_REWIND], ids=lambda r: r.name)
def test_low_rate_rewinding_equals_the_steps_written_out(recipe: Recipe) -> None:
    rewind = AtLastRate(of=ToStep(step=K))
    compare(replace(recipe, rewind=rewind), stays=False, first=K, last_rate=True)


def compare(recipe: Recipe, **how: Any) -> None:
    rounds = drive(recipe.loop(replace(recipe, schedule=Geometric(rounds=2)), WORLD, 1))
    for turn, expected in zip(rounds, written_out(recipe, **how), strict=True):
        found = turn.end.params.load()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)


def test_learning_rate_rewinding_with_nothing_cut_goes_on_with_the_schedule() -> None:
    """Full mask, full length: the dense training, then the whole schedule once more, bit for bit;
    and with length t the schedule's last t steps."""
    init = initial_params(WORLD, 1)
    dense = Train(WORLD, 1, Point(init, None, 0), FULL, T, WORLD.objective).run(NoDesk())
    states = by_hand(by_hand(dict(init), {}, 0)[-1], {}, 0)
    begin = LR_REWIND.rewind.point(Point(init, None, 0), dense.point, None)
    again = Train(WORLD, 1, begin, FULL, T, WORLD.objective).run(NoDesk())
    by_legs = Train(WORLD, 1, begin, FULL, 25, WORLD.objective).run(NoDesk())
    on = Train(WORLD, 1, by_legs.point, FULL, T, WORLD.objective).run(NoDesk())
    assert on.params.digest == again.params.digest
    for name, tensor in states[-1].items():
        torch.testing.assert_close(again.params.load()[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_four_ways_differ_in_weights_and_rates_alone() -> None:
    recipes = {
        "weight-rewind": replace(WEIGHT_REWIND, rewind=ToStep(step=K)),
        "lr-rewind": replace(LR_REWIND, rewind=Stay(retrain=T - K)),
        "fine-tune": replace(FINE_TUNE, rewind=AtLastRate(of=Stay(retrain=T - K))),
        "low-rate": replace(LOW_RATE_REWIND, rewind=AtLastRate(of=ToStep(step=K))),
    }
    short = {n: replace(r, schedule=Geometric(rounds=1)) for n, r in recipes.items()}
    turns = {name: drive(recipe.loop(recipe, WORLD, 0)) for name, recipe in short.items()}
    jobs = {name: rounds[1].job for name, rounds in turns.items()}
    assert {job.mask.digest for job in jobs.values()} == {jobs["fine-tune"].mask.digest}
    assert {(job.begin.step, job.begin.slots, job.until) for job in jobs.values()} == {(K, None, T)}
    begins = {name: job.begin.params.digest for name, job in jobs.items()}
    assert begins["weight-rewind"] == begins["low-rate"] != begins["lr-rewind"]
    assert begins["lr-rewind"] == begins["fine-tune"] == turns["fine-tune"][0].end.params.digest
    rates = {name: job.world.optimiser.rate for name, job in jobs.items()}
    plain, last = SGD_DROPS.rate, LastRate(of=SGD_DROPS.rate)
    assert rates == {
        "weight-rewind": plain,
        "lr-rewind": plain,
        "fine-tune": last,
        "low-rate": last,
    }
    assert len({rounds[1].end.params.digest for rounds in turns.values()}) == 4


def test_reinit_beside_weight_rewinding_is_the_published_arm() -> None:
    """Fresh weights, and the schedule from T - t; where weights stay, from scratch at all rates."""
    rewound = replace(ONESHOT_WEIGHT_REWIND, rewind=ToStep(step=K), schedule=Geometric(rounds=1))
    (fresh,) = drive(control_loop(Reinit(), rewound, WORLD, 0))
    assert fresh.job.begin.step == K
    assert fresh.job.begin.params.digest == initial_params(WORLD, 0, "draw", 1).digest
    tuned = replace(FINE_TUNE, schedule=Geometric(rounds=1))
    (scratch,) = drive(control_loop(Reinit(), tuned, WORLD, 0))
    assert (scratch.job.begin.step, scratch.job.until) == (0, T)
    assert scratch.job.world is WORLD


def test_arms_with_other_rates_pass_the_checks_of_a_study(tmp_path: Path) -> None:
    world = replace(WORLD, judged_density=0.64)
    others = (FINE_TUNE, replace(LOW_RATE_REWIND, rewind=AtLastRate(of=ToStep(step=K))))
    ticket = replace(WEIGHT_REWIND, rewind=ToStep(step=K))
    study = tb.find(
        ticket,
        world,
        seeds=2,
        arms=("dense", "reinit", "shuffle", *others),
        store=tmp_path / "s",
    )
    assert study.checks["arms_paired"] is True
    tuned = tb.find(
        FINE_TUNE, world, seeds=2, arms=("dense", "reinit", "thin"), store=tmp_path / "s"
    )
    assert tuned.checks["arms_paired"] is True


def test_a_training_at_the_last_rate_that_saw_something_else_is_found(tmp_path: Path) -> None:
    world = replace(WORLD, judged_density=0.8)
    question = Question(recipe=FINE_TUNE, world=world, seeds=(0,), arms=arms_of(("dense",)))
    store = tb.Store(tmp_path / "s")
    rounds = Runner(store, Inline(store)).drive(question.loops())
    assert checks_of(question, rounds)["arms_paired"] is True
    trial = next(trial for trial in rounds if trial.arm == "ticket")
    dense, tuned = rounds[trial]
    forged = replace(tuned, end=replace(tuned.end, exposure="0" * 32))
    with pytest.raises(tb.TombolaError, match=r"arms_paired: .* end at step 40 have not seen"):
        checks_of(question, {**rounds, trial: (dense, forged)})


def test_the_last_rate_is_that_of_the_last_step() -> None:
    for rate in (Drops(at=(20, 30)), Cosine(to=0.1)):
        assert LastRate(of=rate).factor(3, T) == rate.factor(T - 1, T)


class Untimed:
    """An optimiser without a schedule to exchange."""

    lr, rate = 0.1, Drops(at=())

    def build(self, tensors: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(tensors, lr=self.lr)

    digest = "untimed"


@pytest.mark.parametrize(
    ("recipe", "world", "message"),
    [
        (replace(LR_REWIND, rewind=Stay(retrain=41)), WORLD, r"repeats the last 41 steps, but"),
        (replace(WEIGHT_REWIND, rewind=ToStep(step=41)), WORLD, r"want a step from 0 to 40"),
        (
            FINE_TUNE,
            small_world(optimiser=Untimed()),
            r"recipe 'fine-tune': the Untimed .* cannot be exchanged\. Give it one\.",
        ),
    ],
)
def test_what_cannot_be_retrained_so_is_refused(recipe: Recipe, world: World, message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        recipe.check(world)
    assert re.search(message, str(refused.value))


def test_at_a_constant_rate_fine_tuning_is_learning_rate_rewinding() -> None:
    world = small_world(optimiser=Adam(lr=1e-2))
    tuned, rewound = (replace(r, schedule=Geometric(rounds=1)) for r in (FINE_TUNE, LR_REWIND))
    ends = [drive(recipe.loop(recipe, world, 0))[-1].end for recipe in (tuned, rewound)]
    assert ends[0].params.digest == ends[1].params.digest
