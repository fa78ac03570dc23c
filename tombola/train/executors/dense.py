"""The plain executor: torch's own autograd and optimiser on whole tensors; it serves everything."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tombola.pieces.dynamics import Moment
from tombola.train.evaluate import evaluate
from tombola.train.executors.executor import Standing, Step
from tombola.train.given import answering
from tombola.train.leg import Leg
from tombola.train.optim import copied, load_slots, slots_of
from tombola.train.select import Selection
from tombola.train.training import Training
from tombola.values.params import Params
from tombola.values.rng import reseed, stream
from tombola.world.calling import called
from tombola.world.data.split import Split
from tombola.world.world import fill


class Dense:
    """A network, a torch optimiser, and gradients of cut weights made zero at each step.

    compute: gives the network's outputs where weights are what is trained; the network itself,
    unless somebody knows a shorter way.
    """

    name: ClassVar[str] = "dense"
    most: ClassVar[int] = 1

    def __init__(self, training: Training, start: Params, resume: Leg | None) -> None:
        self.job, self.world = training, training.world
        self._device = self.world.numerics.torch_device
        self._train = self.world.train.on(self._device)
        self.network = self.world.numerics.place(self.world.new_network(0))
        self.compute: Callable[[Any], Any] = partial(called, self.network)
        held = start if resume is None else resume.coords
        fill(self.network, held)
        self.coords = self._coordinates(held)
        self.trained = self._trained()
        self.optimiser = self.world.optimiser.build(list(self.trained.values()))
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        given = {name: self._given(params) for name, params in training.given.items()}
        self.given = answering(self.world, training.objective, given)
        slots = training.slots if resume is None else resume.slots
        if slots is not None:
            load_slots(self.optimiser, self.trained, slots)
        self.mask = training.mask if resume is None else resume.mask
        self.state = training.dynamics.init(self.mask, start) if resume is None else resume.state
        self.reached = training.step if resume is None else resume.step
        self._here = self.mask.on(self._device)
        self._select()
        self.network.train()

    def _coordinates(self, start: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's own tensors under their names, then the parametrisation's.

        In the network's order, whatever order a file came in: an optimiser or a penalty that sums
        over tensors would round otherwise in another.
        """
        own = dict(self.network.state_dict(keep_vars=True))
        coords = {name: tensor for name, tensor in own.items() if name in start}
        for name in sorted(set(start) - set(own)):
            coords[name] = start[name].to(self._device, copy=True).requires_grad_(True)
        return coords

    def _trained(self) -> dict[str, Tensor]:
        trainable = frozenset(n for n, p in self.network.named_parameters() if p.requires_grad)
        added_ones = frozenset(self.coords) - frozenset(self.network.state_dict())
        chosen = self.job.parametrisation.trained(trainable | added_ones)
        for name in trainable | added_ones:
            self.coords[name].requires_grad_(name in chosen)
        return {name: tensor for name, tensor in self.coords.items() if name in chosen}

    def _given(self, params: Params) -> nn.Module:
        return self.world.numerics.place(self.world.network(params)).eval().requires_grad_(False)

    # -- steps -------------------------------------------------------------------------------

    def advance(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._one(step)
            self.reached = step.number + 1

    def _one(self, step: Step) -> None:
        job, number = self.job, step.number
        for group, built in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = built * step.factor
        reseed(step.noise)
        batch = self.world.batch(self._train, step.index, stream(step.noise, "prepare"))
        effective = job.parametrisation.effective(self.coords, self._here, number)
        asked = job.dynamics.needs(self.state, number, self.world.steps)
        if asked:
            for tensor in effective.values():
                tensor.retain_grad()
        given = {name: one.about(batch) for name, one in self.given.items()}
        with self.world.numerics.autocast():
            loss = job.objective.loss(self._call(effective), batch, given)
        penalty = job.objective.penalty(self.trained)
        total = loss if penalty is None else loss + penalty
        total.backward()
        replaced = self._move(effective, step) if asked else False
        if not replaced:
            for name, selection in self.selections.items():
                gradient = self.trained[name].grad
                if gradient is not None:
                    selection.zero_cut_(gradient)
            self.optimiser.step()
        for tensor in self.trained.values():
            tensor.grad = None

    def _call(self, effective: Mapping[str, Tensor]) -> Callable[[Any], Any]:
        if not effective:
            return self.compute
        return lambda inputs: called(self.network, inputs, effective)

    def _move(self, effective: Mapping[str, Tensor], step: Step) -> bool:
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
                    rate=self.world.optimiser.lr * step.factor,
                    seed=self.job.seed,
                    until=self.world.steps,
                ),
                step.number,
            )
            for name, value in move.coords.items():
                self.coords[name].copy_(value)
            for name, value in move.slots.items():
                slots[name].copy_(value)
        self.state = move.state
        if move.mask.digest != self.mask.digest:
            self.mask, self._here = move.mask.on(torch.device("cpu")), move.mask.on(self._device)
            self._select()
        return move.replaces_step

    def _select(self) -> None:
        """Prepare the selections that keep cut weights from moving."""
        names = [name for name in self._here.names if name in self.trained]
        self.selections = {n: Selection(self._here[n], self.trained[n].dtype) for n in names}

    # -- looking -----------------------------------------------------------------------------

    def measure(self, split: Split) -> dict[str, float]:
        with torch.no_grad():
            effective = self.job.parametrisation.effective(self.coords, self._here, self.reached)
        return evaluate(self.network, self.world, split, self._call(effective))

    def finite(self) -> bool:
        found = [torch.isfinite(tensor).all() for tensor in self.trained.values()]
        return bool(torch.stack(found).all())  # one wait for the device, not one a tensor

    def frozen(self) -> Callable[[], Params]:
        now = {name: tensor.detach().clone() for name, tensor in self._now().items()}
        return lambda: copied(now)

    def _now(self) -> dict[str, Tensor]:
        # Asked for anew, since a network may put another tensor in the place of a buffer.
        now = {**self.coords, **self.network.state_dict(keep_vars=True)}
        return {name: now[name] for name in self.coords}

    def standing(self) -> Standing:
        slots = copied(slots_of(self.optimiser, self.trained))
        state = copied(self.state)
        return Standing(coords=copied(self._now()), slots=slots, mask=self.mask, state=state)
