"""What a study checks about itself, over all its trials."""

from collections.abc import Iterable, Mapping

from tombola.errors import CheckError
from tombola.lab.question import Question, Trial
from tombola.lab.verdict import TICKET
from tombola.recipes.controls import of_ticket, unclaimed
from tombola.recipes.recipe import Recipe, Round
from tombola.train.exposure import MODULUS, exposure_of
from tombola.values.digest import digest
from tombola.values.rng import derive
from tombola.world.optimiser import LastRate
from tombola.world.world import World, initial_params

CHECKS = (
    "rewind_exact",
    "optimiser_fresh",
    "mask_nested",
    "count_exact",
    "cut_stays_zero",
    "arms_paired",
)

Rounds = Mapping[Trial, tuple[Round, ...]]


def checks_of(question: Question, rounds: Rounds) -> dict[str, bool | None]:
    """True where a check was made and held, None where it did not apply.

    Raises:
        CheckError: a check failed; names the trial.
    """
    every = [(trial, turn) for trial, turns in rounds.items() for turn in turns]
    found: dict[str, bool | None] = dict.fromkeys(CHECKS)
    for trial, turn in every:
        cut = {} if turn.cut is None else turn.cut.checks
        for name, held in {**cut, **turn.end.checks}.items():
            if held is False:
                raise CheckError(f"{name} failed in {trial}, round {turn.target.round}.")
            found[name] = found[name] or held
    if any(turn.end.mask.digest != turn.job.mask.digest for _, turn in every):
        found["mask_nested"] = None  # the recipe moves its masks
    for trial, turn in every:
        if turn.cut is not None:
            ended = {
                layer.name: turn.end.kept.get(layer.name, layer.count)
                for layer in question.recipe.layers(question.world)
            }
            exact = ended == turn.cut.kept
            if turn.job.dynamics.redistributes or turn.job.parametrisation.redistributes:
                exact = sum(ended.values()) == sum(turn.cut.kept.values())
            if not exact:
                raise CheckError(
                    f"count_exact: {trial} ends with {ended}, was cut to {turn.cut.kept}."
                )
    found["arms_paired"] = _paired(question, rounds)
    return found


def _paired(question: Question, rounds: Rounds) -> bool | None:
    """All arms of a seed saw the same, and each control differs in what it claims alone."""
    if len({trial.arm for trial in rounds}) < 2:
        return None
    recipe, world = question.recipe, question.world
    tickets = {
        (trial.seed, turn.target.round): turn
        for trial, turns in rounds.items()
        if trial.arm == TICKET
        for turn in turns
    }
    inits = {seed: initial_params(world, seed) for seed in question.seeds}
    for trial, turns in rounds.items():
        control = question.arms.get(trial.arm)
        for turn in turns:
            ticket = tickets.get((trial.seed, turn.target.round))
            if control is None or isinstance(control, Recipe) or ticket is None:
                continue
            beside = of_ticket(recipe, ticket, inits[trial.seed], world)
            wrong = unclaimed(control, beside, turn.job)
            if wrong:
                raise CheckError(f"arms_paired: {wrong} ({trial}, round {turn.target.round}).")
    for seed in question.seeds:
        of_seed = [turn for trial, turns in rounds.items() if trial.seed == seed for turn in turns]
        _same_exposure(seed, of_seed)
    return True


def _same_exposure(seed: int, turns: Iterable[Round]) -> None:
    """Trainings of one length and one optimiser that end at the same step have seen the same, over
    the steps they share, whatever network they train.

    One that began later is filled up with what its world shows in the steps before. One whose rates
    are its recipe's own (fine-tuning) has seen what its world shows, computed without training.
    """
    seen: dict[tuple[int, str, int], set[int]] = {}
    before: dict[tuple[int, str, int], int] = {}
    for turn in turns:
        world, end = turn.job.world, turn.end
        rates = digest(world.optimiser)
        began = world.steps, rates, end.began
        if began not in before:
            before[began] = expected_exposure(world, seed, end.began)
        total = (before[began] + int(end.exposure, 16)) % MODULUS
        group = world.steps, rates, end.step
        if group not in seen:
            own = isinstance(world.optimiser.rate, LastRate)
            seen[group] = {expected_exposure(world, seed, end.step)} if own else set()
        seen[group].add(total)
    for (_, _, step), totals in seen.items():
        if len(totals) > 1:
            raise CheckError(
                f"arms_paired: trainings of seed {seed} that end at step {step} have not seen the "
                "same examples, order, noise and learning rates."
            )


def expected_exposure(world: World, seed: int, until: int) -> int:
    """What a training of a world shows in steps 0 to `until`, computed without training."""
    total, size, per_epoch = 0, world.batch_size, world.steps_per_epoch
    for step in range(until):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or step == 0:
            order = world.order(seed, epoch)
        rate = world.optimiser.lr * world.optimiser.rate.factor(step, world.steps)
        index = order[place * size : (place + 1) * size]
        total += exposure_of(step, index, rate, derive(seed, "noise", step))
    return total % MODULUS
