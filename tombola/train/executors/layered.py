"""Any network, layer by layer: those cut enough hold and compute with kept weights alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tombola.kernels.break_even import intensity
from tombola.kernels.conv import Convolution, Image
from tombola.kernels.plain_conv import PlainConvolution
from tombola.pieces.dynamics import Static
from tombola.pieces.parametrisation import Identity
from tombola.train.evaluate import evaluate
from tombola.train.executors.executor import NotServedError, Standing, Step
from tombola.train.executors.kept import layers_of, replace_layers
from tombola.train.given import answering
from tombola.train.leg import Leg
from tombola.train.optim import load_slots, slots_of
from tombola.train.select import Selection
from tombola.train.training import Training
from tombola.values.mask import FULL
from tombola.values.params import Params
from tombola.values.rng import reseed, stream
from tombola.world.batch import leaves
from tombola.world.calling import called
from tombola.world.data.split import Split
from tombola.world.optimiser import SGD, Adam, AdamW
from tombola.world.world import World, fill


class Layered:
    """A network with some layers replaced, torch's autograd, and its optimiser on kept values.

    The optimisers act on each weight alone, so that kept values move as they do in whole tensors.
    A step equals that of `Dense` up to the order of sums: within 1e-5 of the largest weight, which
    the tests hold it to. Random draws (dropout) are the same. An objective that differentiates
    gradients is served, with whole tensors in that part; its `penalty` is handed whole tensors.
    """

    most: ClassVar[int] = 1

    def __init__(
        self,
        training: Training,
        start: Params,
        resume: Leg | None,
        *,
        kernel: Convolution,
        layers: tuple[str, ...],
    ) -> None:
        self.job, self.world, self.mask = training, training.world, training.mask
        self._kernel, self._names = kernel, tuple(start)
        held = start if resume is None else resume.coords
        self.network = self.world.new_network(0)
        fill(self.network, held)
        replace_layers(self.network, layers, self.mask, kernel)
        self._layout = Layout({name: self.mask.of(name, held[name].shape) for name in layers})
        self.network.train()
        now = self.network.state_dict(keep_vars=True)
        trainable = {n for n, p in self.network.named_parameters() if p.requires_grad}
        self.trained = {n: t for n, t in now.items() if n in trainable and n in start}
        self._optimiser = self.world.optimiser.build(list(self.trained.values()))
        self._rates = [group["lr"] for group in self._optimiser.param_groups]
        slots = training.slots if resume is None else resume.slots
        if slots is not None:
            load_slots(self._optimiser, self.trained, self._layout.flat_slots(slots))
        self._selections = {
            name: Selection(kept, self.trained[name].dtype)
            for name, kept in self.mask.items()
            if name in self.trained and name not in layers
        }
        given = {
            name: self.world.network(params).eval().requires_grad_(False)
            for name, params in training.given.items()
        }
        self._given = answering(self.world, training.objective, given)

    @property
    def name(self) -> str:
        return name_of(self._kernel)

    # -- steps -------------------------------------------------------------------------------

    def advance(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._one(step)

    def _one(self, step: Step) -> None:
        job = self.job
        for group, built in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = built * step.factor
        reseed(step.noise)
        batch = self.world.batch(self.world.train, step.index, stream(step.noise, "prepare"))
        given = {name: one.about(batch) for name, one in self._given.items()}
        loss = job.objective.loss(partial(called, self.network), batch, given)
        penalty = job.objective.penalty(_Whole(self.trained, self._layout))
        total = loss if penalty is None else loss + penalty
        total.backward()
        for name, selection in self._selections.items():
            gradient = self.trained[name].grad
            if gradient is not None:
                selection.zero_cut_(gradient)
        self._optimiser.step()
        for tensor in self.trained.values():
            tensor.grad = None

    # -- looking -----------------------------------------------------------------------------

    def measure(self, split: Split) -> dict[str, float]:
        return evaluate(self.network, self.world, split)

    def finite(self) -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.trained.values())

    def frozen(self) -> Callable[[], Params]:
        now = self.network.state_dict()
        copied = {name: now[name].detach().clone() for name in self._names}
        return lambda: self._params(copied)

    def _params(self, tensors: Mapping[str, Tensor]) -> Params:
        return Params({name: self._layout.whole(name, tensors[name]) for name in self._names})

    def standing(self) -> Standing:
        slots = {
            key: self._layout.whole_slot(key, value.detach()).clone()
            for key, value in slots_of(self._optimiser, self.trained).items()
        }
        return Standing(
            coords=self.frozen()(), slots=Params(slots), mask=self.mask, state=Params({})
        )


def name_of(kernel: Convolution) -> str:
    """What is recorded of a training by this kernel."""
    return f"layered ({kernel.name})"


class Layout:
    """Between whole tensors, zeros where cut, and their kept entries in one row.

    kept: of each tensor that is held in that way; all others stay as they are.
    """

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        self._shapes = {name: tensor.shape for name, tensor in kept.items()}
        self._where = {name: tensor.flatten().nonzero()[:, 0] for name, tensor in kept.items()}

    def whole(self, name: str, values: Tensor) -> Tensor:
        """Differentiable; the tensor itself where it is not held otherwise."""
        if name not in self._where:
            return values
        shape = self._shapes[name]
        empty = values.new_zeros(shape.numel())
        return empty.index_put((self._where[name],), values).reshape(shape)

    def flat(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.flatten()[self._where[name]] if name in self._where else tensor

    # -- what the optimiser remembers: tensors like the weight, and numbers --------------------

    def whole_slot(self, key: str, value: Tensor) -> Tensor:
        return value if value.dim() == 0 else self.whole(key.split("/", 1)[1], value)

    def flat_slots(self, slots: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            key: value if value.dim() == 0 else self.flat(key.split("/", 1)[1], value)
            for key, value in slots.items()
        }


class _Whole(Mapping[str, Tensor]):
    """Everything trained in its plain shapes; laid out when asked for."""

    def __init__(self, trained: Mapping[str, Tensor], layout: Layout) -> None:
        self._trained, self._layout = trained, layout

    def __getitem__(self, name: str) -> Tensor:
        return self._layout.whole(name, self._trained[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._trained)

    def __len__(self) -> int:
        return len(self._trained)


# -- what is served ------------------------------------------------------------------------------


def check_served(training: Training) -> None:
    """Raise NotServedError if `Layered` cannot serve a training, as far as that is known without
    its network."""
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
    if world.numerics.dtype != "float32":
        raise NotServedError(f"dtype {world.numerics.dtype} is not float32")


@dataclass(frozen=True)
class Found:
    """A layer of a network. intensity: see `break_even`. hindrance: what keeps it from being
    replaced, None if nothing does."""

    kind: Literal["linear", "conv"]
    intensity: float
    hindrance: str | None


def found_layers(world: World) -> Mapping[str, Found]:
    """The linear and convolution layers of a world's network, by the names of their weights.

    Raises:
        NotServedError: with its layers replaced the network does not compute what it computed.
    """
    network = world.new_network(0).eval()
    inputs = world.batch(world.train, torch.arange(min(3, len(world.train)))).inputs
    images = images_of(network, inputs)
    found: dict[str, Found] = {}
    for name, layer, hindrance in layers_of(network):
        image = images.get(name, Image(0, 0, 0))
        hindrance = hindrance or (None if name in images else "it is not called")
        linear = isinstance(layer, nn.Linear)
        shape = (*layer.weight.shape, 1, 1)[:4]
        stride = (1, 1) if isinstance(layer, nn.Linear) else layer.stride
        intense = intensity(shape, image, stride) if name in images else 0.0
        found[name] = Found("linear" if linear else "conv", intense, hindrance)
    names = tuple(name for name, layer in found.items() if layer.hindrance is None)
    if not _computes_the_same(network, names, inputs):
        raise NotServedError(
            f"{type(network).__name__} computes something else with its layers replaced"
        )
    return found


def images_of(network: nn.Module, inputs: Any) -> dict[str, Image]:
    """What each layer is first called with: channels, height, width."""
    seen: dict[str, Image] = {}

    def note(name: str, layer: nn.Module, given: tuple[Any, ...]) -> None:
        if name not in seen and given and isinstance(given[0], Tensor):
            shape = given[0].shape
            linear = isinstance(layer, nn.Linear)
            seen[name] = Image(shape[-1], 1, 1) if linear else Image(*shape[-3:])

    hooks = [
        layer.register_forward_pre_hook(partial(note, name))
        for name, layer, hindrance in layers_of(network)
        if hindrance is None
    ]
    with torch.no_grad():
        called(network, inputs)
    for hook in hooks:
        hook.remove()
    return seen


def _computes_the_same(network: nn.Module, names: tuple[str, ...], inputs: Any) -> bool:
    """Whether outputs and gradients stay what they were, dropout left out."""

    def computed() -> tuple[Tensor | None, ...]:
        trained = [p for p in network.parameters() if p.requires_grad]
        outputs = [o for o in leaves(called(network, inputs)) if o.is_floating_point()]
        total = torch.stack([part.square().sum() for part in outputs]).sum()
        return (*outputs, *torch.autograd.grad(total, trained, allow_unused=True))

    with torch.enable_grad():
        try:
            before = computed()
            replace_layers(network, names, FULL, PlainConvolution())
            after = computed()
        except Exception:  # whatever the network's own code stumbles over
            return False
    return all(_close(one, other) for one, other in zip(before, after, strict=True))


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    scale = float(one.detach().abs().max())
    return bool(((one.flatten() - other.flatten()).abs() <= 1e-4 * scale + 1e-30).all())
