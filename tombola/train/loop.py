"""The training loop: the one place where an optimiser makes a step."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tombola.errors import CheckError
from tombola.pieces.dynamics import Dynamics, Moment, Static
from tombola.pieces.parametrisation import Frozen, Identity, Parametrisation
from tombola.train.evaluate import evaluate
from tombola.train.exposure import added, exposure_of
from tombola.train.leg import Leg, Reading
from tombola.train.optim import copied, is_fresh, load_slots, slots_of
from tombola.train.select import Selection
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, derive, reseed, stream
from tombola.world.objective import Objective
from tombola.world.world import World, fill

CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training, given with everything loaded.

    params, slots, step: where it starts. mask: what is kept. until: the step it goes to.
    given: networks the objective asks for by name, as tensors. order_seed, noise_seed: of the order
    of the examples, and of augmentation and dropout, where they are not `seed`.
    """

    world: World
    seed: int
    params: Params
    mask: Mask
    step: int
    until: int
    slots: Params | None = None
    objective: Objective
    given: Mapping[str, Params] = field(default_factory=dict)
    parametrisation: Parametrisation = field(default_factory=Identity)
    dynamics: Dynamics = field(default_factory=Static)
    order_seed: int | None = None
    noise_seed: int | None = None


def train(
    training: Training,
    resume: Leg | None = None,
    keep: Callable[[Leg], None] | None = None,
    tick: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Leg:
    """Run a training from its start, or from `resume`, to its end.

    keep: is handed a complete state every 20 seconds. tick: is told, after every step, how many
    there were since the world's step 0, and the last validation reading.
    The result is the same, bit for bit, wherever the training was interrupted.

    Raises:
        CheckError: the run found that it does not do what it claims (design of self-checks).
    """
    with training.world.numerics.in_force(), borrowed_generators():
        loop = _Loop(training, resume)
        loop.run(keep or (lambda leg: None), tick or (lambda step, metrics: None))
        return loop.leg()


class _Loop:
    """The state of one training while it runs."""

    def __init__(self, training: Training, resume: Leg | None) -> None:
        self.job = training
        self.world = training.world
        self.stored = training.params.digest  # now, so that a write from here on is noticed
        self.network = self.world.new_network(0)
        start = training.parametrisation.coords(training.params, training.mask, training.seed)
        fill(self.network, start if resume is None else resume.coords)
        self.coords = self._coordinates(start if resume is None else resume.coords)
        self.trained = self._trained()
        self.optimiser = self.world.optimiser.build(list(self.trained.values()))
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.given = {name: self._given(params) for name, params in training.given.items()}
        if resume is None:
            self._begin(start)
        else:
            self._continue(resume)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)
        self.select(self.mask)

    # -- set-up ------------------------------------------------------------------------------

    def _coordinates(self, start: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's own tensors under their names, then the parametrisation's.

        In the network's order, whatever order a file came in: an optimiser or a penalty that sums
        over tensors would round otherwise in another.
        """
        own = dict(self.network.state_dict(keep_vars=True))
        coords = {name: tensor for name, tensor in own.items() if name in start}
        for name in sorted(set(start) - set(own)):
            coords[name] = start[name].clone().requires_grad_(True)
        return coords

    def _trained(self) -> dict[str, Tensor]:
        trainable = frozenset(n for n, p in self.network.named_parameters() if p.requires_grad)
        added_ones = frozenset(self.coords) - frozenset(self.network.state_dict())
        chosen = self.job.parametrisation.trained(trainable | added_ones)
        for name in trainable | added_ones:
            self.coords[name].requires_grad_(name in chosen)
        return {name: tensor for name, tensor in self.coords.items() if name in chosen}

    def _given(self, params: Params) -> nn.Module:
        network = self.world.network(params).eval()
        return network.requires_grad_(False)

    def _begin(self, start: Params) -> None:
        job = self.job
        self.step, self.mask, self.exposure = job.step, job.mask, 0
        self.state = job.dynamics.init(job.mask, start)
        self.readings: list[Reading] = []
        self.best: Params | None = None
        self.best_mask: Mask | None = None
        self.best_step: int | None = None
        self.diverged_at: int | None = None
        self.checks: dict[str, bool | None] = {
            "rewind_exact": self._starts_at(start),
            "optimiser_fresh": self._starts_fresh(),
        }
        if job.slots is not None:
            load_slots(self.optimiser, self.trained, job.slots)

    def _continue(self, leg: Leg) -> None:
        self.step, self.mask, self.exposure = leg.step, leg.mask, leg.exposure
        self.state, self.readings = leg.state, list(leg.readings)
        self.best, self.best_mask, self.best_step = leg.best, leg.best_mask, leg.best_step
        self.diverged_at, self.checks = leg.diverged_at, dict(leg.checks)
        load_slots(self.optimiser, self.trained, leg.slots)

    def _starts_at(self, start: Params) -> bool:
        """Self-check: what the network holds is what was stored, bit for bit, before any step."""
        held = Params({name: tensor.detach() for name, tensor in self.coords.items()})
        if held.digest != Params({name: start[name] for name in held}).digest:
            raise CheckError(
                "rewind_exact: the network does not hold the stored start of training."
            )
        self._kept_at_start()
        return True

    def _kept_at_start(self) -> None:
        """Every kept weight equals the stored one, where weights are what is trained."""
        if not isinstance(self.job.parametrisation, (Identity, Frozen)):
            return
        for name, stored in self.job.params.items():
            same = _same_bits(self.coords[name].detach(), stored)
            if name in self.job.mask:
                same = same | ~self.job.mask[name]
            if not bool(same.all()):
                raise CheckError(f"rewind_exact: {name!r} does not start from its stored values.")

    def _starts_fresh(self) -> bool | None:
        if self.job.slots is not None:
            return None
        if not is_fresh(self.optimiser):
            raise CheckError("optimiser_fresh: the optimiser holds state before its first step.")
        return True

    # -- the loop ----------------------------------------------------------------------------

    def run(
        self, keep: Callable[[Leg], None], tick: Callable[[int, Mapping[str, float]], None]
    ) -> None:
        self.network.train()
        saved = time.monotonic()
        if self.step == self.job.until == self.job.step:
            self._read()  # no step to make: the network as it stands is final and best
        while self.step < self.job.until and self.diverged_at is None:
            self.one_step()
            if self._evaluates_now():
                self._read()
            tick(self.step, self.readings[-1].metrics if self.readings else {})
            if time.monotonic() - saved > CHECKPOINT_SECONDS and self.step < self.job.until:
                keep(self.leg())
                saved = time.monotonic()
        self._verify_end()

    def one_step(self) -> None:
        job, step = self.job, self.step
        factor = self.world.optimiser.rate.factor(step, self.world.steps)
        for group, built in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = built * factor
        rate = self.world.optimiser.lr * factor
        noise = derive(job.seed if job.noise_seed is None else job.noise_seed, "noise", step)
        index = self._examples(step)
        self.exposure = added(self.exposure, exposure_of(step, index, rate, noise))
        reseed(noise)
        batch = self.world.batch(self.world.train, index, stream(noise, "prepare"))

        effective = job.parametrisation.effective(self.coords, self.mask, step)
        asked = job.dynamics.needs(self.state, step, self.world.steps)
        if asked:
            for tensor in effective.values():
                tensor.retain_grad()
        loss = job.objective.loss(self._call(effective), batch, self.given)
        penalty = job.objective.penalty(self.trained)
        total = loss if penalty is None else loss + penalty
        total.backward()
        replaced = self._move(effective, rate) if asked else False
        if not replaced:
            for name, selection in self.selections.items():
                gradient = self.trained[name].grad
                if gradient is not None:
                    selection.zero_cut_(gradient)
            self.optimiser.step()
        for tensor in self.trained.values():
            tensor.grad = None
        self.step += 1

    def _call(self, effective: Mapping[str, Tensor]) -> Callable[[Any], Any]:
        if not effective:
            return self.network
        return lambda inputs: functional_call(self.network, dict(effective), (inputs,))

    def _examples(self, step: int) -> Tensor:
        epoch, place = divmod(step, self.world.steps_per_epoch)
        if epoch != self._epoch:
            seed = self.job.seed if self.job.order_seed is None else self.job.order_seed
            self._epoch, self._order = epoch, self.world.order(seed, epoch)
        size = self.world.batch_size
        return self._order[place * size : (place + 1) * size]

    def _move(self, effective: Mapping[str, Tensor], rate: float) -> bool:
        """Let the dynamics change mask, weights and slots. True if it replaces the step."""
        sources = {**self.trained, **effective}
        grads = {name: tensor.grad for name, tensor in sources.items() if tensor.grad is not None}
        slots = slots_of(self.optimiser, self.trained)
        with torch.no_grad():
            move = self.job.dynamics.update(
                self.state,
                Moment(
                    coords={n: t.detach() for n, t in self.coords.items()},
                    slots=slots,
                    grads=grads,
                    mask=self.mask,
                    rate=rate,
                    seed=self.job.seed,
                    until=self.world.steps,
                ),
                self.step,
            )
            for name, value in move.coords.items():
                self.coords[name].copy_(value)
            for name, value in move.slots.items():
                slots[name].copy_(value)
        self.state = move.state
        if move.mask.digest != self.mask.digest:
            self.mask = move.mask
            self.select(move.mask)
        return move.replaces_step

    def select(self, mask: Mask) -> None:
        """Prepare the selections that keep cut weights from moving."""
        names = [name for name in mask.names if name in self.trained]
        self.selections = {n: Selection(mask[n], self.trained[n].dtype) for n in names}

    # -- looking -----------------------------------------------------------------------------

    def _evaluates_now(self) -> bool:
        every = self.world.evaluate_every
        assert every is not None
        return self.step % every == 0 or self.step == self.world.steps

    def _read(self) -> None:
        metrics = self.measure(self.world.validation)
        loss = metrics["loss"]
        finite = math.isfinite(loss) and all(
            bool(torch.isfinite(tensor).all()) for tensor in self.trained.values()
        )
        if not finite:
            self.diverged_at = self.step
            return
        self.readings.append(Reading(step=self.step, metrics=metrics))
        least = min((r.metrics["loss"] for r in self.readings[:-1]), default=math.inf)
        if loss < least:
            self.best, self.best_mask, self.best_step = self._copy(), self.mask, self.step

    def measure(self, split: Any) -> dict[str, float]:
        """Metrics of the network as it computes now."""
        with torch.no_grad():
            effective = self.job.parametrisation.effective(self.coords, self.mask, self.step)
        return evaluate(self.network, self.world, split, self._call(effective))

    def _copy(self) -> Params:
        # Asked for anew, since a network may put another tensor in the place of a buffer.
        now = {**self.coords, **self.network.state_dict(keep_vars=True)}
        return Params({name: now[name].detach().clone() for name in self.coords})

    def leg(self) -> Leg:
        slots = copied(slots_of(self.optimiser, self.trained))
        return Leg(
            step=self.step,
            coords=self._copy(),
            slots=slots,
            mask=self.mask,
            state=self.state,
            readings=tuple(self.readings),
            best=self.best,
            best_mask=self.best_mask,
            best_step=self.best_step,
            exposure=self.exposure,
            diverged_at=self.diverged_at,
            checks=dict(self.checks),
        )

    def _verify_end(self) -> None:
        """Self-checks when training ends."""
        if self.job.params.rehash() != self.stored:
            raise CheckError(
                "rewind_exact: the stored start of training changed while training ran; something "
                "writes into it."
            )
        for name, selection in self.selections.items():
            if not selection.cut_is_zero(self.trained[name].detach()):
                raise CheckError(
                    f"cut_stays_zero: cut weights of {name!r} are not +0.0 at the end."
                )
        self.checks["cut_stays_zero"] = True if self.selections else None


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
    world = training.world
    found: dict[str, float | int | None] = {}
    with world.numerics.in_force():
        for prefix, best in (("", False), ("stop_", True)):
            state = settled(training, leg, best)
            metrics = {}
            if state is not None and leg.diverged_at is None:
                metrics = evaluate(world.network(state[0]), world, world.test)
            for metric in world.objective.metrics:
                found[f"{prefix}test_{metric.name}"] = metrics.get(metric.name)
    found["stop_step"] = leg.best_step if leg.diverged_at is None else None
    return found
