"""Copies of a training that share its start and differ in named noise."""

from dataclasses import replace

import torch

from tombola.errors import CheckError
from tombola.lab.probe.path import Path, Walked
from tombola.lab.question import Question
from tombola.lab.verdict import TICKET
from tombola.pieces.rewind import ToStep
from tombola.recipes.controls import CONTROLS, Control, control_loop, of_ticket
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Train, Trained
from tombola.recipes.recipe import Recipe, opening
from tombola.values.mask import FULL
from tombola.values.rng import borrowed_generators, derive, reseed, stream
from tombola.world.batch import leaves
from tombola.world.calling import called
from tombola.world.world import World

DENSE = "dense"
NOISES = ("order", "augmentation", "both")
CLOSE = 1e-3  # relative, to which the end of a path must measure the loss its training recorded


def start_at(
    question: Question, arm: str, round_number: int, seed: int, step: int
) -> Loop[tuple[Train, Train] | None]:
    """The training of an arm that copies at a step are made of, and the one that others are copied
    from: the same, but for the whole network, where that goes on from its state at the step.

    A subnetwork's mask is found anew, by the study's recipe with rewinding to that step. None where
    its ticket diverged before the round.
    """
    world = question.world
    recipe = replace(question.recipe, rewind=ToStep(step=step)).up_to(round_number)
    if arm == DENSE:
        init, early = yield from opening(recipe, world, seed)
        own = Train(world, seed, init, FULL, world.steps, world.objective)
        return own, replace(own, begin=early)
    if arm == TICKET:
        init = (yield Init(world, seed)).params
        rounds = yield from recipe.loop(recipe, world, seed)
        reached = [turn for turn in rounds if turn.target.round == round_number]
        jobs = [of_ticket(recipe, turn, init, world).job for turn in reached]
    else:
        drawn = yield from control_loop(control_of(question, arm), recipe, world, seed)
        jobs = [turn.job for turn in drawn]
    return (jobs[0], jobs[0]) if jobs else None


def controls_in(question: Question) -> list[str]:
    """Names of the controls that stand beside a ticket: the study's own, and those there are."""
    own = {name: arm for name, arm in question.arms.items() if not isinstance(arm, Recipe)}
    return [name for name, control in {**CONTROLS, **own}.items() if control.beside]


def control_of(question: Question, arm: str) -> Control:
    """A control by its name, as the study has it where it has it."""
    found = question.arms.get(arm, CONTROLS.get(arm))
    assert found is not None and not isinstance(found, Recipe)
    return found


def with_noise(job: Train, noise: str, number: int) -> Train:
    """The copy of this number, from 1 on: the same start, other draws of what `noise` names."""
    seed = derive(job.seed, "copy", number)
    return replace(
        job,
        order_seed=job.order_seed if noise == "augmentation" else seed,
        noise_seed=job.noise_seed if noise == "order" else seed,
    )


def has_noise(world: World) -> bool:
    """Whether anything but the order of the examples is drawn in training: looked at on a batch."""
    index, network = torch.arange(min(8, len(world.train))), world.new_network(0).train()
    seen = []
    with world.numerics.in_force(), torch.no_grad(), borrowed_generators():
        for number in range(4):  # a draw may leave eight examples as they are
            batch = world.batch(world.train, index, stream(number, "noise"))
            reseed(number)
            seen.append([*leaves(batch.inputs), *leaves(called(network, batch.inputs))])
    return any(
        not torch.equal(one, other)
        for found in seen[1:]
        for one, other in zip(seen[0], found, strict=True)
    )


def check_ends(path: Path, walked: Walked, first: Trained, second: Trained) -> bool | None:
    """Self-check: the ends of a walk are the two networks, since they measure on test data what
    their trainings recorded. None where that cannot be said.

    Raises:
        CheckError: an end measures something else.
    """
    whole = path.split == "test" and path.examples >= len(path.world.test)
    recorded = [end.metrics.get("test_loss") for end in (first, second)]
    if not whole or path.statistics != "interpolated" or None in recorded or not walked.metrics:
        return None
    measured = [walked.metrics["loss"][0], walked.metrics["loss"][-1]]
    for loss, at in zip(recorded, measured, strict=True):
        assert loss is not None
        if at is None or abs(at - loss) > CLOSE * max(abs(loss), 1e-6):
            raise CheckError(
                f"ends_exact: the end of a path has test loss {at}, its training recorded {loss}."
            )
    return True
