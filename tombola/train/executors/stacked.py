"""Several trainings of one world as one: their tensors side by side, one operation for all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from tombola.pieces.dynamics import Static
from tombola.pieces.parametrisation import Identity
from tombola.train.evaluate import evaluate
from tombola.train.executors.executor import NotServedError, Standing, Step
from tombola.train.executors.links import Link
from tombola.train.executors.replay import Replay
from tombola.train.executors.rows import Rows
from tombola.train.leg import Leg
from tombola.train.optim import copied
from tombola.train.training import Training
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, reseed, stream
from tombola.world.batch import Batch, leaves, nested
from tombola.world.calling import called
from tombola.world.data.split import Split
from tombola.world.objective import CrossEntropy
from tombola.world.optimiser import SGD, Adam, AdamW
from tombola.world.prepare import AsIs, Scaled, Standardised
from tombola.world.world import fill

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRIED = 2  # steps by which trainings show whether they change one another's bits


class Stack:
    """Trainings of one world that stand at one step, advanced together.

    Each is to end as in a stack of its own, bit for bit; `independent` says whether it will. A
    chain of linear layers (`links`) is computed by batched products, any other network by
    `torch.func.vmap`. starts: coordinates. resumes: what each goes on from, if anything.
    """

    most: ClassVar[int] = 20

    def __init__(
        self,
        trainings: Sequence[Training],
        starts: Sequence[Params],
        resumes: Sequence[Leg | None],
        *,
        links: tuple[Link, ...] | None,
    ) -> None:
        self.trainings, self.world, self._links = trainings, trainings[0].world, links
        self._device = self.world.numerics.torch_device
        self._train = self.world.train.on(self._device)
        self.network = self.world.numerics.place(self.world.new_network(0)).train()
        at = [s if leg is None else leg.coords for s, leg in zip(starts, resumes, strict=True)]
        self.names, trained = tuple(at[0]), trained_names(self.network)
        self._rows = self._empty({name: at[0][name].shape for name in at[0] if name in trained})
        for name in self._rows.shapes:
            self._rows.fill(name, [own[name] for own in at])
        held = [name for name in self.names if name not in trained]
        self._held = {n: torch.stack([own[n] for own in at]).to(self._device) for n in held}
        self._leaves = {n: view.requires_grad_() for n, view in self._rows.views.items()}
        self._gradients = self._empty(self._rows.shapes)
        self._kept = {name: self._bits(name) for name in self._names_cut()}
        both = zip(trainings, resumes, strict=True)
        self._replay: Replay | None = None
        self._optimise([own.slots if leg is None else leg.slots for own, leg in both])

    def _empty(self, shapes: Any) -> Rows:
        dtype = self.world.numerics.torch_dtype
        return Rows(shapes, dtype, self._device, count=len(self.trainings))

    def _names_cut(self) -> list[str]:
        return sorted({name for training in self.trainings for name in training.mask.names})

    def _bits(self, name: str) -> Tensor:
        """All ones where a weight is kept, all zeros where it is cut (see `Selection`)."""
        shape, integer = self._rows.shapes[name], _integer(self._rows.matrix)
        bits = torch.stack([-t.mask.of(name, shape).to(integer) for t in self.trainings])
        return bits.to(self._device)

    def _optimise(self, slots: Sequence[Params | None]) -> None:
        """Build one optimiser of all rows, with what each training's remembers."""
        matrix = self._rows.matrix
        matrix.grad = self._gradients.matrix
        self._optimiser = self.world.optimiser.build([matrix])
        self._rate = self._optimiser.param_groups[0]["lr"]
        for kind in sorted({key.split("/", 1)[0] for key in slots[0] or ()}):
            own = [{n: s[f"{kind}/{n}"] for n in self._rows.shapes} for s in slots if s]
            if kind == "step":
                value = next(iter(own[0].values())).to(self._device, copy=True)
            else:
                rows = self._empty(self._rows.shapes)
                for name in rows.shapes:
                    rows.fill(name, [tensors[name] for tensors in own])
                value = rows.matrix
            self._optimiser.state[matrix][kind] = value

    # -- steps -------------------------------------------------------------------------------

    def advance(self, steps: Sequence[Sequence[Step]]) -> None:
        """Make these steps of each training: the first of all, the second of all, and so on."""
        for together in zip(*steps, strict=True):
            assert len({(step.number, step.factor) for step in together}) == 1
            self._one(together)

    def _one(self, steps: Sequence[Step]) -> None:
        batch, rate = self._batch(steps), self._rate * steps[0].factor
        group = self._optimiser.param_groups[0]
        if self._device.type == "cpu":
            group["lr"] = rate
            self._step(batch)
            return
        if self._replay is None:  # what is recorded finds its rate in a tensor
            group["lr"], group["capturable"] = torch.tensor(rate, device=self._device), True
            self._replay = Replay(self._step, _parts(batch, Tensor.clone), self._written)
        group["lr"].fill_(rate)
        self._replay(batch)

    def _written(self) -> list[Tensor]:
        """Everything a step changes."""
        memory = self._optimiser.state.get(self._rows.matrix, {}).values()
        return [
            self._rows.matrix,
            *self._held.values(),
            *(value for value in memory if isinstance(value, Tensor)),
        ]

    def _step(self, batch: Batch) -> None:
        with self.world.numerics.autocast():
            loss = self._loss(batch)
        gradients = torch.autograd.grad(loss, list(self._leaves.values()))
        for name, gradient in zip(self._leaves, gradients, strict=True):
            place = self._gradients.views[name]
            if name in self._kept:
                integer = _integer(gradient)
                whole = gradient.view(integer)
                torch.bitwise_and(whole, self._kept[name], out=place.view(integer))
            else:
                place.copy_(gradient)
        self._optimiser.step()

    def _batch(self, steps: Sequence[Step]) -> Batch:
        """The examples of each training: (trainings, examples, ...)."""
        world, count = self.world, len(steps)
        if type(world.prepare) in (AsIs, Scaled, Standardised):  # each number by itself
            whole = world.batch(self._train, torch.cat([step.index for step in steps]))
            return _parts(whole, lambda tensor: tensor.unflatten(0, (count, -1)))
        batches = []
        for step in steps:
            reseed(step.noise)
            batches.append(world.batch(self._train, step.index, stream(step.noise, "prepare")))
        return _side_by_side(batches)

    def _loss(self, batch: Batch) -> Tensor:
        """The sum of the trainings' mean losses, so that each has the gradient of its own."""
        if self._links is None:
            return self._mapped(batch).sum()
        hidden = batch.inputs.flatten(2)
        for link in self._links:
            weight = self._leaves[link.weight].transpose(1, 2)
            if link.bias is None:
                hidden = torch.bmm(hidden, weight)
            else:
                hidden = torch.baddbmm(self._leaves[link.bias].unsqueeze(1), hidden, weight)
            hidden = hidden.relu() if link.relu else hidden
        outputs, targets = hidden.flatten(0, 1), batch.targets.flatten(0, 1)
        loss: Tensor = F.cross_entropy(outputs, targets, reduction="sum") / hidden.shape[1]
        return loss

    def _mapped(self, batch: Batch) -> Tensor:
        """The loss of each training, by its own tensors, on its own examples."""
        objective = self.trainings[0].objective

        def one(leaves: Any, held: Any, inputs: Any, targets: Any, index: Tensor) -> Tensor:
            def call(given: Any) -> Any:
                return called(self.network, given, {**leaves, **held})

            loss = objective.loss(call, Batch(inputs, targets, index), {})
            penalty = objective.penalty(leaves)
            return loss if penalty is None else loss + penalty

        found: Tensor = vmap(one, randomness="error")(
            self._leaves, self._held, batch.inputs, batch.targets, batch.index
        )
        return found

    # -- looking -----------------------------------------------------------------------------

    def coords(self, place: int) -> dict[str, Tensor]:
        """The tensors of one training, in the network's order; not copied."""
        own = {**self._rows.of(place), **{name: t[place] for name, t in self._held.items()}}
        return {name: own[name].detach() for name in self.names}

    def slots(self, place: int) -> dict[str, Tensor]:
        """The optimiser's state of one training under `"<slot>/<parameter>"`; not copied."""
        found: dict[str, Tensor] = {}
        for kind, value in self._optimiser.state.get(self._rows.matrix, {}).items():
            if value is not None:
                count = value.dim() == 0  # of steps, which all have made
                own = (
                    dict.fromkeys(self._rows.shapes, value)
                    if count
                    else self._rows.of(place, value)
                )
                found |= {f"{kind}/{name}": tensor for name, tensor in own.items()}
        return found

    def row(self, place: int) -> Tensor:
        """Everything trained of one training, flat; not copied."""
        return self._rows.matrix[place]


class Replica:
    """One training of a stack: everything an executor does but advance, which all do together."""

    most: ClassVar[int] = Stack.most

    def __init__(self, stack: Stack, place: int) -> None:
        self._stack, self._place = stack, place

    @property
    def name(self) -> str:
        return NAME

    @property
    def mask(self) -> Mask:
        return self._stack.trainings[self._place].mask

    def advance(self, steps: Sequence[Step]) -> None:
        """Only of a stack of one."""
        self._stack.advance([steps])

    def measure(self, split: Split) -> dict[str, float]:
        fill(self._stack.network, self._stack.coords(self._place))
        return evaluate(self._stack.network, self._stack.world, split)

    def finite(self) -> bool:
        return bool(torch.isfinite(self._stack.row(self._place)).all())

    def frozen(self) -> Callable[[], Params]:
        now = {n: tensor.clone() for n, tensor in self._stack.coords(self._place).items()}
        return lambda: copied(now)

    def standing(self) -> Standing:
        return Standing(
            coords=copied(self._stack.coords(self._place)),
            slots=copied(self._stack.slots(self._place)),
            mask=self.mask,
            state=Params({}),
        )


NAME = "stacked"


def alone(
    training: Training, start: Params, resume: Leg | None, *, links: tuple[Link, ...] | None
) -> Replica:
    """A stack of one: what a result by this executor is, whoever it was trained beside."""
    return Replica(Stack([training], [start], [resume], links=links), 0)


def independent(
    trainings: Sequence[Training],
    starts: Sequence[Params],
    resumes: Sequence[Leg | None],
    links: tuple[Link, ...] | None,
) -> bool:
    """Whether these trainings, advanced together, stay what each is alone, bit for bit.

    Found out by making two steps both ways: which routine multiplies two matrices depends on their
    shapes and places in memory, which stay as they are, and never on their values.
    """
    world = trainings[0].world
    rows = torch.arange(len(trainings) * world.batch_size) % len(world.train)
    index = rows.unflatten(0, (len(trainings), -1))
    steps = [[Step(n, own, 1.0, n) for n in range(TRIED)] for own in index]
    together = Stack(trainings, starts, resumes, links=links)
    together.advance(steps)
    for place, (training, start, resume) in enumerate(zip(trainings, starts, resumes, strict=True)):
        one = alone(training, start, resume, links=links)
        one.advance(steps[place])
        same, own = Replica(together, place).standing(), one.standing()
        if (same.coords.digest, same.slots.digest) != (own.coords.digest, own.slots.digest):
            return False
    return True


def check_stackable(training: Training, links: tuple[Link, ...] | None) -> None:
    """Raise NotServedError if `Stack` cannot serve a training.

    A step is tried on its network: one that draws at random, looks at values to decide what to do,
    or puts other tensors in the place of its buffers cannot be mapped over several.
    """
    world = training.world
    pieces = {
        "parametrisation": (training.parametrisation, (Identity,)),
        "dynamics": (training.dynamics, (Static,)),
        "optimiser": (world.optimiser, (Adam, AdamW, SGD)),
    }
    for what, (piece, served) in pieces.items():
        if type(piece) not in served:
            names = " or ".join(kind.__name__ for kind in served)
            raise NotServedError(f"{what} {type(piece).__name__} is not {names}")
    if training.given:
        raise NotServedError(f"objective {type(training.objective).__name__} is given networks")
    beside = sorted(set(training.mask.names) - trained_names(world.new_network(0)))
    if beside:
        raise NotServedError(f"the mask cuts {', '.join(beside)}, which is not trained")
    if links is None:
        convolves = any(isinstance(m, CONVOLUTIONS) for m in world.new_network(0).modules())
        if convolves and world.numerics.torch_device.type == "cpu":
            raise NotServedError("convolutions of several networks at once are slow on a processor")
        _check_mapped(training)


def _check_mapped(training: Training) -> None:
    world = training.world
    network = world.new_network(0).train()
    with torch.no_grad(), borrowed_generators():
        before = {name: id(buffer) for name, buffer in network.named_buffers()}
        called(network, world.batch(world.train, torch.arange(world.batch_size)).inputs)
    if before != {name: id(buffer) for name, buffer in network.named_buffers()}:
        raise NotServedError(f"{type(network).__name__} replaces its buffers")
    fresh = replace(training, slots=None)
    start = training.parametrisation.coords(training.params, training.mask, training.seed)
    try:
        with borrowed_generators():
            step = Step(training.step, torch.arange(world.batch_size), 1.0, 0)
            alone(fresh, start, None, links=None).advance([step])
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        raise NotServedError(f"{type(network).__name__} cannot be mapped: {first:.120}") from error


def trained_names(network: nn.Module) -> frozenset[str]:
    """The parameters an optimiser moves."""
    return frozenset(name for name, p in network.named_parameters() if p.requires_grad)


def chain_is_enough(training: Training) -> bool:
    """Whether batched products do, where the network is a chain: its loss must be theirs."""
    inputs = training.world.train.inputs
    return type(training.objective) is CrossEntropy and isinstance(inputs, Tensor)


def _integer(tensor: Tensor) -> torch.dtype:
    return {8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.dtype.itemsize]


def _parts(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    return Batch(nested(change, batch.inputs), nested(change, batch.targets), change(batch.index))


def _side_by_side(batches: Sequence[Batch]) -> Batch:
    """Batches of one structure as one, with the batches as first dimension."""

    def stacked(sides: Sequence[Any]) -> Any:
        columns = zip(*(leaves(side) for side in sides), strict=True)
        found = iter([torch.stack(column) for column in columns])
        return nested(lambda _: next(found), sides[0])

    return Batch(
        stacked([batch.inputs for batch in batches]),
        stacked([batch.targets for batch in batches]),
        torch.stack([batch.index for batch in batches]),
    )
