"""Only kept weights: forward, gradients and optimiser, many steps in one call of a kernel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tombola.kernels.chain import Chain, Examples, Kernel, Moves, layer_of
from tombola.kernels.plain import move
from tombola.pieces.dynamics import ACDC, SET, Gradual, GraNet, Moment, RigL, Static
from tombola.pieces.parametrisation import Identity
from tombola.train.executors.executor import NotServedError, Standing, Step
from tombola.train.executors.links import Link, links_of
from tombola.train.executors.whole import WholeGradients
from tombola.train.leg import Leg
from tombola.train.training import Training
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import reseed, stream
from tombola.world.batch import Batch
from tombola.world.data.split import Split
from tombola.world.objective import CrossEntropy
from tombola.world.optimiser import SGD, Adam, AdamW, Optimiser
from tombola.world.prepare import AsIs, Scaled, Standardised
from tombola.world.world import World

# Masks that move at some steps. SNFS and Deep R ask for whole tensors at every one.
MOVING = (Static, SET, RigL, Gradual, GraNet, ACDC)


class Sparse:
    """A chain of linear layers and ReLU, trained on cross-entropy by Adam, AdamW or SGD.

    Its cost falls with density. A step equals that of `Dense` up to the order of sums: within
    1e-5 of the largest weight, which the tests hold it to. Where the mask moves, whole tensors are
    laid out at updates alone, and gradients of them computed where the update looks at them.
    """

    most: ClassVar[int] = 20

    def __init__(
        self,
        training: Training,
        start: Params,
        resume: Leg | None,
        *,
        kernel: Kernel,
        links: tuple[Link, ...],
    ) -> None:
        self.job, self.world = training, training.world
        self._kernel, self._links, self._names = kernel, links, tuple(start)
        self._moves = moves_of(self.world.optimiser)
        self._source = Source(self.world)
        self._network: nn.Module | None = None
        mask = training.mask if resume is None else resume.mask
        self._state = training.dynamics.init(mask, start) if resume is None else resume.state
        slots = training.slots if resume is None else resume.slots
        self._made = self._hold(start if resume is None else resume.coords, slots or {}, mask)

    def _hold(self, coords: Mapping[str, Tensor], slots: Mapping[str, Tensor], mask: Mask) -> int:
        """Lay out what a mask keeps of whole tensors; returns how many steps the slots remember."""
        self.mask, self._layout = mask, Layout(self._links, coords, mask)
        self._chain = self._layout.chain(coords)
        return self._layout.load(self._chain, slots, self._moves)

    @property
    def name(self) -> str:
        return name_of(self._kernel)

    # -- steps -------------------------------------------------------------------------------

    def advance(self, steps: Sequence[Step]) -> None:
        still: list[Step] = []
        for step in steps:
            if self.job.dynamics.needs(self._state, step.number, self.world.steps):
                self._run(still)
                self._update(step)
                still = []
            else:
                still.append(step)
        self._run(still)

    def _run(self, steps: Sequence[Step]) -> None:
        """Steps between which the mask stays as it is, in one call."""
        if not steps:
            return
        examples, index = self._source.training(steps)
        rates = [self._rate(step) for step in steps]
        self._kernel.train(self._chain, examples, index, self._moves, rates, self._made + 1)
        self._made += len(steps)

    def _rate(self, step: Step) -> float:
        return self.world.optimiser.lr * step.factor

    def _update(self, step: Step) -> None:
        """Let the dynamics change mask, weights and slots; then the optimiser's step, on gradients
        from before the change, unless the update takes its place."""
        if self._network is None:
            self._network = self.world.new_network(0).train()
        coords = self._params(self._chain.values)
        slots = self._layout.slots(self._chain, self._made, self._moves)
        grads = WholeGradients(self.job, self._network, coords, step)
        move = self.job.dynamics.update(
            self._state,
            Moment(
                coords=coords,
                slots=slots,
                grads=grads,
                mask=self.mask,
                rate=self._rate(step),
                seed=self.job.seed,
                until=self.world.steps,
            ),
            step.number,
        )
        self._state = move.state
        self._hold({**coords, **move.coords}, {**slots, **move.slots}, move.mask)
        if not move.replaces_step:
            self._step_along(grads, step)

    def _step_along(self, gradients: Mapping[str, Tensor], step: Step) -> None:
        """The optimiser's step on what is kept, along gradients of whole tensors."""
        chain = self._chain
        self._made += 1
        move(
            torch.from_numpy(chain.values),
            torch.from_numpy(self._layout.flat(gradients)),
            torch.from_numpy(chain.first),
            torch.from_numpy(chain.second),
            self._moves,
            self._rate(step),
            self._made,
        )

    # -- looking -----------------------------------------------------------------------------

    def measure(self, split: Split) -> dict[str, float]:
        metrics = self.world.objective.metrics
        states = {metric.name: metric.init() for metric in metrics}
        for examples, places, index in self._source.evaluation(split):
            outputs = torch.from_numpy(self._kernel.outputs(self._chain, examples, places))
            batch = Batch(None, split.targets[index], index)
            for metric in metrics:
                states[metric.name] = metric.update(states[metric.name], outputs, batch)
        return {metric.name: metric.result(states[metric.name]) for metric in metrics}

    def finite(self) -> bool:
        return bool(np.isfinite(self._chain.values).all())

    def frozen(self) -> Callable[[], Params]:
        values, layout = self._chain.values.copy(), self._layout
        return lambda: self._params(values, layout)

    def _params(self, values: np.ndarray, layout: "Layout | None" = None) -> Params:
        tensors = (layout or self._layout).tensors(values)
        return Params({name: tensors[name] for name in self._names})

    def standing(self) -> Standing:
        slots = self._layout.slots(self._chain, self._made, self._moves)
        return Standing(
            coords=self._params(self._chain.values),
            slots=Params(slots),
            mask=self.mask,
            state=self._state,
        )


def name_of(kernel: Kernel) -> str:
    """What is recorded of a training by this kernel."""
    return f"sparse ({kernel.name})"


def check_served(training: Training) -> None:
    """Raise NotServedError if `Sparse` cannot serve a training, as far as that is known without its
    network."""
    world = training.world
    pieces = {
        "parametrisation": (training.parametrisation, (Identity,)),
        "dynamics": (training.dynamics, MOVING),
        "objective": (training.objective, (CrossEntropy,)),
        "optimiser": (world.optimiser, (Adam, AdamW, SGD)),
    }
    for what, (piece, served) in pieces.items():
        if type(piece) not in served:
            names = " or ".join(kind.__name__ for kind in served)
            raise NotServedError(f"{what} {type(piece).__name__} is not {names}")
    beside = sorted(set(training.mask.names) - {layer.name for layer in world.layers})
    if beside:
        raise NotServedError(f"the mask cuts {', '.join(beside)}")
    if world.numerics.dtype != "float32":
        raise NotServedError(f"dtype {world.numerics.dtype} is not float32")
    if world.numerics.device != "cpu":
        raise NotServedError(f"device {world.numerics.device} is not cpu")
    inputs = world.train.inputs
    if not isinstance(inputs, Tensor) or inputs.dim() < 2:
        raise NotServedError("its inputs are not one tensor (examples, ...)")


def links_for(world: World) -> tuple[Link, ...]:
    """The links of a world's network.

    Raises:
        NotServedError: it is no chain, or takes examples of another size.
    """
    network = world.new_network(0)
    example = world.batch(world.train, torch.arange(1)).inputs[0]
    links = links_of(network, example)
    wanted = dict(network.named_parameters())[links[0].weight].shape[1]
    if example.numel() != wanted:
        raise NotServedError(f"an example has {example.numel()} numbers, the first layer {wanted}")
    return links


def moves_of(optimiser: Optimiser) -> Moves:
    if isinstance(optimiser, SGD):
        return Moves(
            adam=False,
            momentum=optimiser.momentum,
            nesterov=optimiser.nesterov,
            decay=optimiser.weight_decay,
        )
    assert isinstance(optimiser, (Adam, AdamW))
    decay = optimiser.weight_decay if isinstance(optimiser, AdamW) else 0.0
    return Moves(adam=True, betas=optimiser.betas, eps=optimiser.eps, decay=decay)


@dataclass(frozen=True)
class Place:
    """Where a tensor's kept entries lie among the values, and in the flat tensor; kept None: all of
    them."""

    begin: int
    end: int
    shape: torch.Size
    kept: np.ndarray | None


class Layout:
    """Between named tensors with zeros where cut, and flat arrays of what is kept."""

    def __init__(self, links: tuple[Link, ...], like: Mapping[str, Tensor], mask: Mask) -> None:
        self._links, self._mask, at = links, mask, 0
        self.places: dict[str, Place] = {}
        for link in links:
            for name in (link.weight, link.bias):
                if name is not None:
                    kept = np.flatnonzero(mask[name].numpy()) if name in mask else None
                    end = at + (like[name].numel() if kept is None else len(kept))
                    self.places[name] = Place(at, end, like[name].shape, kept)
                    at = end
        self._count = at

    def chain(self, held: Mapping[str, Tensor]) -> Chain:
        first = self._mask.of(self._links[0].weight, self.places[self._links[0].weight].shape)
        used = np.flatnonzero(first.numpy().any(axis=0)).astype(np.int32)
        layers = tuple(
            layer_of(
                self._mask.of(link.weight, self.places[link.weight].shape).numpy(),
                self.places[link.weight].begin,
                None if link.bias is None else self.places[link.bias].begin,
                link.relu,
                None if number else used,
            )
            for number, link in enumerate(self._links)
        )
        return Chain(layers, used, self.flat(held))

    def flat(self, tensors: Mapping[str, Tensor]) -> np.ndarray:
        values = np.zeros(self._count, dtype=np.float32)
        for name, place in self.places.items():
            whole = tensors[name].numpy().reshape(-1)
            values[place.begin : place.end] = whole if place.kept is None else whole[place.kept]
        return values

    def tensors(self, values: np.ndarray) -> dict[str, Tensor]:
        found = {}
        for name, place in self.places.items():
            own, whole = values[place.begin : place.end], np.zeros(place.shape, dtype=np.float32)
            whole.reshape(-1)[... if place.kept is None else place.kept] = own
            found[name] = torch.from_numpy(whole)
        return found

    # -- what the optimiser remembers, under torch's names -------------------------------------

    def load(self, chain: Chain, slots: Mapping[str, Tensor], moves: Moves) -> int:
        """Put stored state into a chain; returns how many steps it remembers."""
        for own, slot in _slots(moves):
            if slots:
                stored = {name: slots[f"{slot}/{name}"] for name in self.places}
                getattr(chain, own)[:] = self.flat(stored)
        steps = {int(value) for name, value in slots.items() if name.startswith("step/")}
        assert len(steps) <= 1
        return steps.pop() if steps else 0

    def slots(self, chain: Chain, made: int, moves: Moves) -> dict[str, Tensor]:
        """The optimiser's state; nothing before its first step."""
        arrays = {slot: getattr(chain, own) for own, slot in _slots(moves)}
        if made == 0 and not any(array.any() for array in arrays.values()):
            return {}
        found = {
            f"{slot}/{name}": tensor
            for slot, array in arrays.items()
            for name, tensor in self.tensors(array).items()
        }
        if moves.adam:
            found |= {f"step/{name}": torch.tensor(float(made)) for name in self.places}
        return found


def _slots(moves: Moves) -> tuple[tuple[str, str], ...]:
    """Arrays of a chain, and what torch calls them."""
    if moves.adam:
        return (("first", "exp_avg"), ("second", "exp_avg_sq"))
    return (("first", "momentum_buffer"),) if moves.momentum else ()


class Source:
    """A world's examples as the kernel reads them: bytes with a table where that can be had, else
    prepared as for any network."""

    CHUNK: ClassVar[int] = 2_048

    def __init__(self, world: World) -> None:
        self._world, self._table = world, _table(world)
        self._whole: dict[int, Examples] = {}

    def training(self, steps: Sequence[Step]) -> tuple[Examples, np.ndarray]:
        """Examples, and which of them each step takes."""
        world = self._world
        if self._as_stored(world.train):
            index = torch.stack([step.index for step in steps])
            return self._stored(world.train), index.numpy()
        batches = []
        for step in steps:
            reseed(step.noise)
            batches.append(world.batch(world.train, step.index, stream(step.noise, "prepare")))
        rows = torch.cat([batch.inputs.flatten(1) for batch in batches]).contiguous().numpy()
        targets = torch.cat([batch.targets for batch in batches]).numpy()
        return Examples(rows, targets), np.arange(len(rows)).reshape(len(steps), -1)

    def evaluation(self, split: Split) -> Sequence[tuple[Examples, np.ndarray, Tensor]]:
        """Examples, which of them, and which those are in the split; in chunks."""
        index = torch.arange(len(split))
        if self._as_stored(split):
            return [(self._stored(split), index.numpy(), index)]
        chunks = []
        for part in index.split(self.CHUNK):
            batch = self._world.batch(split, part)
            rows = batch.inputs.flatten(1).contiguous().numpy()
            chunks.append((Examples(rows, batch.targets.numpy()), np.arange(len(rows)), part))
        return chunks

    def _as_stored(self, split: Split) -> bool:
        """Whether the kernel can read a split without anything being prepared."""
        if self._table is not None:
            return split.inputs.dtype is torch.uint8
        plain = type(self._world.prepare) is AsIs and split.inputs.dtype is torch.float32
        return plain and split.inputs.is_contiguous()

    def _stored(self, split: Split) -> Examples:
        if id(split) not in self._whole:
            rows = split.inputs.flatten(1).contiguous().numpy()
            self._whole[id(split)] = Examples(rows, split.targets.numpy(), self._table)
        return self._whole[id(split)]


def _table(world: World) -> np.ndarray | None:
    """What each byte becomes in each channel, asked of `prepare` itself; None where that cannot be
    said."""
    inputs = world.train.inputs
    if inputs.dtype is not torch.uint8 or type(world.prepare) not in (Scaled, Standardised):
        return None
    channels = inputs.shape[1] if isinstance(world.prepare, Standardised) else 1
    all_bytes = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    prepared = world.prepare(
        Batch(all_bytes.expand(256, channels, 1, 1), None, torch.arange(256)), None
    )
    table: np.ndarray = world.numerics.convert(prepared.inputs).reshape(256, channels).T.numpy()
    return np.ascontiguousarray(table)
