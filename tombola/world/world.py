"""World: the network, its data, the objective, and how long and how it is trained."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from tombola.errors import RecipeError, WorldError
from tombola.pieces.kind import not_a
from tombola.values.digest import canonical, code_identity, digest
from tombola.values.layer import Layer
from tombola.values.params import Params, params_of
from tombola.values.rng import borrowed_generators, derive, reseed, stream
from tombola.values.steps import steps_per_epoch
from tombola.values.units import Coupling
from tombola.world.batch import Batch, nested
from tombola.world.calling import called
from tombola.world.coupling import coupling_of
from tombola.world.data.given import as_split
from tombola.world.data.split import Split
from tombola.world.device import check_there
from tombola.world.layers import is_one_of, prunable_layers, trained_tensors
from tombola.world.numerics import Numerics
from tombola.world.objective import CrossEntropy, Objective
from tombola.world.optimiser import Optimiser
from tombola.world.prepare import AsIs, Prepare

# 2019: a fifth of the survivors goes each round, a tenth in the output layer, which is small.
RATES_2019 = {"linear": 0.8, "conv": 0.8, "attention": 0.8, "output": 0.9}


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What a recipe is applied to.

    model: a class or function without arguments that returns a new network. Several inputs, in a
        tuple or dict, are the arguments of its forward where that takes so many, or these names;
        else they are one argument (`tombola.world.calling`).
    train, test, validation: pairs (inputs, targets) of tensors or arrays, torch Datasets of such
        pairs, splits of a Hugging Face data set, or of `tombola.images`; read once into memory.
        Data that differs each time it is read is wrapped in `tombola.Identified`, items of
        different sizes in `tombola.Collated`. Without `validation`, a tenth of `train` is held out,
        the same for every seed.
    steps: length of one training, in optimiser steps. batch_size: examples per step.
    evaluate_every: steps between evaluations on the validation split (default: steps / 100).
    rates: fraction of survivors a round keeps, by kind of layer; those left out .8 (output .9). One
        number instead: all tensors are ranked together (2019: deep networks).
    unpruned: names or shell patterns of tensors that are never cut, nor counted in a density.
    pruned: the same of tensors that are cut besides the weights of linear, recurrent, convolution
        and attention layers: parameters used in other ways, or those a weight is computed from.
    thin: for the control of that name; a function that takes a factor in (0, 1] and returns the
        network with all its widths multiplied by it.
    judged_density, margin: at which density a verdict is given, and how far below dense a ticket
        may be to match it, in the unit of the metric (of accuracy, a fraction); both are declared
        before training.
    name: what reports call it. Not part of its identity; nor are margin and judged density.

    Raises:
        WorldError: what cannot be trained on; the message says why and what to do.

    Example:
        >>> from tombola.world.models import LeNet
        >>> from tombola.world.optimiser import SGD
        >>> x, y = torch.randn(40, 4), torch.arange(40) % 3
        >>> world = World(model=lambda: LeNet(4, 8, 3), train=(x, y), test=(x, y), steps=10,
        ...               batch_size=6, optimiser=SGD(lr=.1))
        >>> [(layer.name, layer.kind) for layer in world.layers]
        [('layers.0.weight', 'linear'), ('layers.1.weight', 'output')]
    """

    model: Callable[[], nn.Module]
    train: Any
    test: Any
    steps: int
    batch_size: int
    optimiser: Optimiser
    validation: Any = None
    objective: Objective = field(default_factory=CrossEntropy)
    prepare: Prepare = field(default_factory=AsIs)
    evaluate_every: int | None = None
    rates: Mapping[str, float] | float = field(default_factory=dict)
    unpruned: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    thin: Callable[[float], nn.Module] | None = None
    judged_density: float = 0.1
    margin: float = 0.01
    numerics: Numerics = field(default_factory=Numerics)
    name: str = "unnamed"

    def __post_init__(self) -> None:
        self._check_settings()
        splits = {"train": as_split(self.train, "train"), "test": as_split(self.test, "test")}
        if self.validation is None:
            splits |= _hold_out(splits["train"])
        else:
            splits["validation"] = as_split(self.validation, "validation")
        for split_name, split in splits.items():
            object.__setattr__(self, split_name, split)
        if self.evaluate_every is None:
            object.__setattr__(self, "evaluate_every", max(1, self.steps // 100))
        steps_per_epoch(len(self.train), self.batch_size)
        self._check_network(splits)

    @cached_property
    def digest(self) -> str:
        """Identity: everything that a trained weight or a measured number depends on."""
        return digest(
            [
                "world",
                1,
                self.model_digest,
                self.train.digest,
                self.validation.digest,
                self.test.digest,
                self.steps,
                self.batch_size,
                self.optimiser,
                self.objective,
                self.objective.metrics,
                self.prepare,
                self.evaluate_every,
                self.numerics.identity,
            ]
        )

    @cached_property
    def model_digest(self) -> str:
        """Names, shapes and initial values of the tensors, which of them train, how the network
        prints (rates of dropout and the like), and the code of factory and classes."""
        network = self.new_network(0)
        trains = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        own = {
            code_identity(type(m))
            for m in network.modules()
            if not type(m).__module__.startswith("torch.")
        }
        try:
            factory = canonical(self.model)
        except RecipeError as error:
            raise WorldError(f"model: {error}") from error
        return digest(["model", factory, own, params_of(network), trains, repr(network)])

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The tensors that may be pruned, in the order of the network's modules."""
        network = self.new_network(0)
        found = prunable_layers(network, self.rate_of, self.pruned)
        chosen = tuple(layer for layer in found if not is_one_of(layer.name, self.unpruned))
        for pattern in self.pruned:
            if not any(is_one_of(layer.name, (pattern,)) for layer in found):
                raise WorldError(
                    f"World(pruned={pattern!r}) matches no trained tensor; there are "
                    f"{list(trained_tensors(network))}."
                )
        for pattern in self.unpruned:
            if not any(is_one_of(layer.name, (pattern,)) for layer in found):
                raise WorldError(
                    f"World(unpruned={pattern!r}) matches no prunable tensor; there are "
                    f"{[layer.name for layer in found]}."
                )
        return chosen

    @cached_property
    def coupling(self) -> Coupling:
        """The units of the network: neurons, channels, heads, with all tensors they are part of.

        Raises:
            WorldError: the network cannot be traced; names the module.
        """
        with self.numerics.in_force(), borrowed_generators():
            inputs = self.batch(self.train, torch.arange(min(2, len(self.train)))).inputs
            return coupling_of(self.new_network(0), inputs)

    @property
    def ranks_together(self) -> bool:
        """Whether all tensors are ranked together, rather than each by itself."""
        return not isinstance(self.rates, Mapping)

    @property
    def rate_of(self) -> dict[str, float]:
        """Fraction of survivors a round keeps, for every kind of layer."""
        if isinstance(self.rates, Mapping):
            return {**RATES_2019, **self.rates}
        return dict.fromkeys(RATES_2019, self.rates)

    @cached_property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.train), self.batch_size)

    def new_network(self, seed: int, *names: object) -> nn.Module:
        """A network with the initial values of this seed; no seeding is visible outside."""
        with self.numerics.in_force(), borrowed_generators():
            reseed(derive(seed, "init", *names))
            network = self.model()
        if not isinstance(network, nn.Module):
            raise WorldError(
                f"model() returned a {type(network).__name__}; want a torch.nn.Module. Pass the "
                "class or a function that makes a new network, for example model=lambda: MyNet(10)."
            )
        if any(isinstance(p, UninitializedParameter) for p in network.parameters()):
            raise WorldError(
                f"{type(network).__name__} has lazy layers, whose shapes are not known yet. Give "
                "them their sizes, or run the network once in the function that makes it."
            )
        return floats_as(network, self.numerics.torch_dtype)

    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Examples as the network sees them: taken, prepared, converted, where the split is.

        index: on the processor.
        """
        batch = self.prepare(split.take(index), generator)
        return Batch(nested(self.numerics.convert, batch.inputs), batch.targets, batch.index)

    def network(self, params: Mapping[str, Tensor]) -> nn.Module:
        """A new network that holds copies of these tensors."""
        network = self.new_network(0)
        fill(network, params)
        return network

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of the training examples in one pass, int64 (examples,)."""
        return torch.randperm(len(self.train), generator=stream(seed, "order", epoch))

    def _check_settings(self) -> None:
        if isinstance(self.model, nn.Module) or not callable(self.model):
            raise WorldError(
                f"model is a {type(self.model).__name__}; want the class or a function that makes "
                "a new network (one for each seed), for example model=lambda: MyNet(10)."
            )
        self._check_kinds()
        for what in ("steps", "batch_size", "evaluate_every"):
            value = getattr(self, what)
            if value is None and what == "evaluate_every":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise WorldError(f"World({what}={value!r}): want a whole number, 1 or more.")
        rates = self.rates if isinstance(self.rates, Mapping) else {"rates": self.rates}
        for what, value in {"judged_density": self.judged_density, **rates}.items():
            if not (isinstance(value, (int, float)) and 0.0 < value <= 1.0):
                raise WorldError(
                    f"World: {what}={value!r}; want a fraction kept, over 0, at most 1."
                )
        if not self.ranks_together and not set(rates) <= set(RATES_2019):
            raise WorldError(f"World(rates={dict(rates)}): kinds are {', '.join(RATES_2019)}.")
        if self.objective.given:
            raise WorldError(
                f"World(objective={type(self.objective).__name__}): it needs "
                f"{sorted(self.objective.given)} beside a batch, which only a recipe can give: "
                "pass it as the recipe's `retrain`."
            )
        names = [metric.name for metric in self.objective.metrics]
        if "loss" not in names:
            raise WorldError(
                f"World(objective={type(self.objective).__name__}): its metrics are "
                f"{names}; one must be named 'loss', for validation chooses by it."
            )
        if not (isinstance(self.margin, (int, float)) and 0.0 <= self.margin < math.inf):
            raise WorldError(f"World(margin={self.margin!r}): want a number, 0 or more.")

    def _check_kinds(self) -> None:
        kinds = {"optimiser": Optimiser, "objective": Objective, "prepare": Prepare}
        for what, kind in kinds.items():
            wrong = not_a(kind, getattr(self, what))
            if wrong:
                raise WorldError(f"World({what}=...): {wrong}.")
        if not isinstance(self.numerics, Numerics):
            raise WorldError(f"World(numerics={self.numerics!r:.60}): want a tombola.Numerics.")
        check_there(self.numerics.device)
        if not isinstance(self.name, str):
            raise WorldError(f"World(name={self.name!r:.60}): want a text.")
        for what, patterns in {"unpruned": self.unpruned, "pruned": self.pruned}.items():
            if not isinstance(patterns, tuple) or not all(isinstance(p, str) for p in patterns):
                raise WorldError(
                    f"World({what}={patterns!r:.60}): want a tuple of names or patterns, such as "
                    '("head.*",).'
                )
        if self.thin is not None and not callable(self.thin):
            raise WorldError(f"World(thin={self.thin!r:.60}): want a function of a factor.")

    def _check_network(self, splits: Mapping[str, Split]) -> None:
        network, again = self.new_network(0), self.new_network(0)
        if {id(tensor) for tensor in network.parameters()} & {id(t) for t in again.parameters()}:
            raise WorldError(
                "model() gives the same tensors each time, so trainings would write into one "
                "another. Make the network inside it, for example model=lambda: MyNet(10)."
            )
        if params_of(network).digest != params_of(again).digest:
            raise WorldError(
                "model() gives other initial values for the same seed; want all its draws from "
                "torch's generators, which are seeded for it."
            )
        imaginary = [
            name for name, tensor in trained_tensors(network).items() if tensor.is_complex()
        ]
        if imaginary:
            raise WorldError(
                f"{type(network).__name__} trains complex tensors ({', '.join(imaginary)}); want "
                "real ones: hold them as torch.view_as_real gives them."
            )
        if not any(True for _ in network.parameters()):
            raise WorldError(
                f"{type(network).__name__} has no parameters; there is nothing to train."
            )
        if not self.layers:
            other = [n for n, t in trained_tensors(network).items() if t.dim() > 1]
            raise WorldError(
                f"{type(network).__name__} has no trainable linear, recurrent, convolution or "
                "attention layer outside `unpruned`; there is nothing to prune. Name tensors to "
                f"prune with `pruned`; with two dimensions or more there are {other}."
            )
        for name, split in splits.items():
            wrong = self.objective.check_targets(split.targets, self._first_outputs(network, name))
            if wrong:
                raise WorldError(f"{name}: {wrong}.")
        self._check_buffers(network)

    def _first_outputs(self, network: nn.Module, name: str) -> Any:
        """What the network says of a split's first two examples; `train` comes first."""
        split = getattr(self, name)
        with torch.no_grad(), borrowed_generators():
            batch = self.batch(split, torch.arange(min(2, len(split))))
            try:
                return called(network.eval(), batch.inputs)
            except Exception as error:
                if name == "train":
                    raise  # the user's own code, so the user's own frames
                raise WorldError(
                    f"{name}: the network takes the examples of `train`, but not these ({error})."
                ) from error

    def _check_buffers(self, network: nn.Module) -> None:
        """Refuse buffers that training changes and nobody could store."""
        kept = set(network.state_dict())
        loose = {
            name: buffer.clone() for name, buffer in network.named_buffers() if name not in kept
        }
        if not loose:
            return
        network.train()
        with torch.no_grad(), borrowed_generators():
            called(network, self.batch(self.train, torch.arange(self.batch_size)).inputs)
        now = dict(network.named_buffers())
        moved = [name for name, before in loose.items() if not torch.equal(before, now[name])]
        if moved:
            raise WorldError(
                f"{type(network).__name__} changes {moved} in training, but keeps it out of its "
                "state_dict, so it could not be stored. Register it with persistent=True."
            )


def _hold_out(everything: Split) -> dict[str, Split]:
    count = round(len(everything) / 10)
    if count == 0:
        raise WorldError(
            f"validation: a tenth of {len(everything)} training examples is an empty split. Pass "
            "`validation`, or more data."
        )
    order = torch.randperm(len(everything), generator=stream(0, "validation"))
    return {"train": everything.part(order[count:]), "validation": everything.part(order[:count])}


def floats_as(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A network with its floating tensors in this dtype, in place; complex ones stay as they are,
    where `nn.Module.to` would drop their imaginary part."""
    tensors = (*network.parameters(), *network.buffers())
    if not any(tensor.is_complex() for tensor in tensors):
        return network.to(dtype)
    converted: nn.Module = network._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)
    return converted


def fill(network: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Copy tensors into a network in place. Extra names are ignored, missing ones an error."""
    state = network.state_dict(keep_vars=True)
    seen: set[int] = set()
    with torch.no_grad():
        for name, tensor in state.items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                tensor.copy_(params[name])


def initial_params(world: World, seed: int, *names: object) -> Params:
    """The tensors of a fresh network."""
    return params_of(world.new_network(seed, *names))
