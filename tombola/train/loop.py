"""The training loop: decides what each step is, looks between steps, and knows where it stands."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from tombola.errors import CheckError
from tombola.pieces.parametrisation import Frozen, Identity
from tombola.train.evaluate import evaluate
from tombola.train.executors import Choice, Executor, Standing, Step, chosen
from tombola.train.exposure import added, exposure_of
from tombola.train.leg import Leg, Reading
from tombola.train.select import Selection
from tombola.train.training import Training
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, derive

CHECKPOINT_SECONDS = 20.0
Keep = Callable[[Leg], None]
Tick = Callable[[int, Mapping[str, float]], None]


def train(
    training: Training,
    resume: Leg | None = None,
    keep: Keep | None = None,
    tick: Tick | None = None,
) -> Leg:
    """Run a training from its start, or from `resume`, to its end.

    resume: used where it was written by the executor that runs now; else training starts anew.
    keep: is handed a complete state every 20 seconds. tick: is told, every few steps, how many
    there were since the world's step 0, and the last validation reading.
    The result is the same, bit for bit, wherever the training was interrupted.

    Raises:
        CheckError: the run found that it does not do what it claims (design of self-checks).
    """
    with training.world.numerics.in_force(), borrowed_generators():
        choice, start = chosen(training), start_of(training)
        leg = resumed(resume, choice)
        loop = Loop(training, start, leg, choice, choice.build(training, start, leg), keep, tick)
        while loop.going:
            loop.executor.advance(loop.ahead())
            loop.look()
        return loop.end()


def start_of(training: Training) -> Params:
    """The coordinates a training starts from."""
    return training.parametrisation.coords(training.params, training.mask, training.seed)


def resumed(leg: Leg | None, choice: Choice) -> Leg | None:
    """What a training goes on from: a state that the executor which runs now has written."""
    return leg if leg is not None and leg.executor == choice.name else None


class Loop:
    """The state of one training while it runs: `ahead`, whose steps are made, then `look`."""

    def __init__(
        self,
        training: Training,
        start: Params,
        resume: Leg | None,
        choice: Choice,
        executor: Executor,
        keep: Keep | None = None,
        tick: Tick | None = None,
    ) -> None:
        self.job, self.world = training, training.world
        self.stored = training.params.digest  # now, so that a write from here on is noticed
        self.choice, self.executor = choice, executor
        self._keep, self._tick = keep, tick
        self._epoch, self._batches = -1, tuple[Tensor, ...]()
        self._saved = time.monotonic()
        if resume is None:
            self._begin(start)
        else:
            self._continue(resume)

    # -- set-up ------------------------------------------------------------------------------

    def _begin(self, start: Params) -> None:
        self.step, self.exposure = self.job.step, 0
        self.readings: list[Reading] = []
        self.best: Callable[[], Params] | None = None
        self.best_mask: Mask | None = None
        self.best_step: int | None = None
        self.diverged_at: int | None = None
        held = self.executor.standing()
        self.checks: dict[str, bool | None] = {
            "rewind_exact": self._starts_at(start, held),
            "optimiser_fresh": self._starts_fresh(held),
        }

    def _continue(self, leg: Leg) -> None:
        self.step, self.exposure, self.readings = leg.step, leg.exposure, list(leg.readings)
        best = leg.best
        self.best = None if best is None else lambda: best
        self.best_mask, self.best_step = leg.best_mask, leg.best_step
        self.diverged_at, self.checks = leg.diverged_at, dict(leg.checks)

    def _starts_at(self, start: Params, held: Standing) -> bool:
        """Self-check: what is trained is what was stored, bit for bit, before any step."""
        if held.coords.digest != Params({name: start[name] for name in held.coords}).digest:
            raise CheckError(
                "rewind_exact: the network does not hold the stored start of training."
            )
        self._kept_at_start(held)
        return True

    def _kept_at_start(self, held: Standing) -> None:
        """Every kept weight equals the stored one, where weights are what is trained."""
        if not isinstance(self.job.parametrisation, (Identity, Frozen)):
            return
        for name, stored in self.job.params.items():
            same = _same_bits(held.coords[name], stored)
            if name in self.job.mask:
                same = same | ~self.job.mask[name]
            if not bool(same.all()):
                raise CheckError(f"rewind_exact: {name!r} does not start from its stored values.")

    def _starts_fresh(self, held: Standing) -> bool | None:
        if self.job.slots is not None:
            return None
        if held.slots:
            raise CheckError("optimiser_fresh: the optimiser holds state before its first step.")
        return True

    # -- the loop ----------------------------------------------------------------------------

    @property
    def going(self) -> bool:
        """Whether there are steps left to make."""
        return self.step < self.job.until and self.diverged_at is None

    def ahead(self) -> list[Step]:
        """The steps before the next look at anything, noted down as seen."""
        self._ahead = list(self._next_steps())
        return self._ahead

    def look(self) -> None:
        """After the steps `ahead` were made: read, tell, keep, where it is time to."""
        self.step += len(self._ahead)
        if self._evaluates_now():
            self._read()
        if self._tick is not None:
            self._tick(self.step, self.readings[-1].metrics if self.readings else {})
        due = time.monotonic() - self._saved > CHECKPOINT_SECONDS
        if self._keep is not None and due and self.step < self.job.until:
            self._keep(self.leg())
            self._saved = time.monotonic()

    def end(self) -> Leg:
        """Where the training ended, checked."""
        if self.step == self.job.until == self.job.step:
            self._read()  # no step to make: the network as it stands is final and best
        self._verify_end()
        return self.leg()

    def _next_steps(self) -> Iterator[Step]:
        every, optimiser = self.world.evaluate_every, self.world.optimiser
        assert every is not None
        reading = (self.step // every + 1) * every
        noise_seed = _other(self.job.noise_seed, self.job.seed)
        for number in range(
            self.step, min(reading, self.job.until, self.step + self.executor.most)
        ):
            factor = optimiser.rate.factor(number, self.world.steps)
            index, noise = self._examples(number), derive(noise_seed, "noise", number)
            seen = exposure_of(number, index, optimiser.lr * factor, noise)
            self.exposure = added(self.exposure, seen)
            yield Step(number, index, factor, noise)

    def _examples(self, step: int) -> Tensor:
        epoch, place = divmod(step, self.world.steps_per_epoch)
        if epoch != self._epoch:
            seed = _other(self.job.order_seed, self.job.seed)
            batches = self.world.order(seed, epoch).split(self.world.batch_size)
            self._epoch, self._batches = epoch, batches
        return self._batches[place]

    # -- looking -----------------------------------------------------------------------------

    def _evaluates_now(self) -> bool:
        every = self.world.evaluate_every
        assert every is not None
        return self.step % every == 0 or self.step == self.world.steps

    def _read(self) -> None:
        metrics = self.executor.measure(self.world.validation)
        loss = metrics["loss"]
        if not (math.isfinite(loss) and self.executor.finite()):
            self.diverged_at = self.step
            return
        self.readings.append(Reading(step=self.step, metrics=metrics))
        least = min((r.metrics["loss"] for r in self.readings[:-1]), default=math.inf)
        if loss < least:
            self.best, self.best_step = self.executor.frozen(), self.step
            self.best_mask = self.executor.mask

    def leg(self) -> Leg:
        now = self.executor.standing()
        return Leg(
            step=self.step,
            coords=now.coords,
            slots=now.slots,
            mask=now.mask,
            state=now.state,
            readings=tuple(self.readings),
            best=None if self.best is None else self.best(),
            best_mask=self.best_mask,
            best_step=self.best_step,
            exposure=self.exposure,
            diverged_at=self.diverged_at,
            checks=dict(self.checks),
            executor=self.choice.name,
            why_dense=self.choice.why_dense,
        )

    def _verify_end(self) -> None:
        """Self-checks when training ends."""
        if self.job.params.rehash() != self.stored:
            raise CheckError(
                "rewind_exact: the stored start of training changed while training ran; something "
                "writes into it."
            )
        now = self.executor.standing()
        trained = self.job.parametrisation.trained(frozenset(now.coords))
        cut = [name for name in now.mask.names if name in trained]
        for name in cut:
            if not Selection(now.mask[name], now.coords[name].dtype).cut_is_zero(now.coords[name]):
                raise CheckError(
                    f"cut_stays_zero: cut weights of {name!r} are not +0.0 at the end."
                )
        self.checks["cut_stays_zero"] = True if cut else None


def _other(seed: int | None, usual: int) -> int:
    return usual if seed is None else seed


def _same_bits(one: Tensor, other: Tensor) -> Tensor:
    if not one.is_floating_point():
        return one == other
    return (one == other) & (one.signbit() == other.signbit()) | (one.isnan() & other.isnan())


def settled(training: Training, leg: Leg, best: bool = False) -> tuple[Params, Mask] | None:
    """The finished network of a leg, or of its state of least validation loss; None without one."""
    coords, mask = (leg.best, leg.best_mask) if best else (leg.coords, leg.mask)
    if coords is None or mask is None:
        return None
    return training.parametrisation.settle(coords, mask)


def final_metrics(training: Training, leg: Leg) -> dict[str, float | int | None]:
    """The test split, evaluated on exactly two states: the final one, and that of least validation
    loss, whose results are named `stop_*`. None where the training diverged."""
    ended = stopped = dict[str, float]()
    if leg.diverged_at is None:
        ended = _tested(training, leg, best=False)
        at_end = leg.best_step == leg.step  # one and the same state is looked at once
        stopped = ended if at_end else _tested(training, leg, best=True)
    names = [metric.name for metric in training.world.objective.metrics]
    found: dict[str, float | int | None] = {f"test_{name}": ended.get(name) for name in names}
    found |= {f"stop_test_{name}": stopped.get(name) for name in names}
    found["stop_step"] = leg.best_step if leg.diverged_at is None else None
    return found


def _tested(training: Training, leg: Leg, best: bool) -> dict[str, float]:
    """Metrics of one state on the test split, as the validation readings before it were made; none
    where there is no such state."""
    state, world = settled(training, leg, best), training.world
    if state is None:
        return {}
    params, mask = state
    with world.numerics.in_force():
        choice = chosen(training)
        if choice.measures and choice.name == leg.executor:
            finished = replace(training, params=params, mask=mask, slots=None)
            return choice.build(finished, params, None).measure(world.test)
        return evaluate(world.network(params), world, world.test)
