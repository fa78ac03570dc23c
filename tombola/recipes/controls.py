"""What a ticket must beat: arms that differ from it in exactly one thing.

A control takes the training of the ticket (`reference`) and replaces one field. `claims` names that
field, and every study compares the two: a control that changed more, or nothing, stops it.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol

import torch

from tombola.errors import CheckError
from tombola.pieces.dynamics import Static
from tombola.pieces.parametrisation import Identity
from tombola.pieces.schedule import DENSE
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Init, Pruned, Train
from tombola.recipes.recipe import Recipe, Round
from tombola.values.digest import digest
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.rng import stream
from tombola.world.world import World


class Control(Protocol):
    """A frozen dataclass.

    claims: the fields of the `reference` training that it changes. beside: whether it is trained
    beside rounds of the ticket (else once for each seed, as round 0).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    claims: ClassVar[frozenset[str]]
    beside: ClassVar[bool]

    def loop(self, recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
        """Train the control of the recipe's last round, drawn once or more."""
        ...


def reference(recipe: Recipe, ticket: Round, init: Handle[Params]) -> Train:
    """The training that controls change one field of; for most recipes the ticket's own.

    Where the mask was found while training (it moved, or scores were trained), the found mask as it
    stands: a shuffled *start* would only compare one random start with another. Where weights do
    not return after the cut (`Stay`), from scratch for the whole length: the cut weights carry the
    dense training in them, which fresh values cannot have.
    """
    job = ticket.job
    if ticket.end.mask.digest != job.mask.digest or job.parametrisation.finds_mask:
        job = replace(job, mask=ticket.end.mask, dynamics=Static(), parametrisation=Identity())
    if not recipe.rewind.returns:
        job = replace(job, begin=Point(init, None, 0))
    return job


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The whole network, trained once: round 0."""

    name: ClassVar[str] = "dense"
    summary: ClassVar[str] = "the whole network"
    claims: ClassVar[frozenset[str]] = frozenset(
        {"mask", "begin", "objective", "given", "parametrisation", "dynamics"}
    )
    beside: ClassVar[bool] = False

    def loop(self, recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
        start = yield Init(world, seed)
        begin = Point(start.params, None, 0)
        job = Train(world, seed, begin, FULL, world.steps, world.objective)
        end = yield job
        return (Round(target=DENSE, job=job, end=end, spent=job.steps),)


@dataclass(frozen=True, kw_only=True)
class Reinit:
    """The ticket's mask on fresh initial values, drawn `draws` times for each seed.

    Source: Frankle & Carbin 2019 (arXiv 1803.03635), section 1 (three draws a trial there). The
    clock starts where the ticket's does, so that both see the same data and learning rates.
    """

    name: ClassVar[str] = "reinit"
    summary: ClassVar[str] = "the ticket's mask on fresh initial values"
    claims: ClassVar[frozenset[str]] = frozenset({"begin"})
    beside: ClassVar[bool] = True

    draws: int = 1

    def loop(self, recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
        ticket = (yield from recipe.loop(recipe, world, seed))[-1]
        init, *fresh = yield tuple(Init(world, seed, draw) for draw in range(self.draws + 1))
        job = reference(recipe, ticket, init.params)
        jobs = tuple(replace(job, begin=Point(one.params, None, job.begin.step)) for one in fresh)
        ends = yield jobs
        return tuple(
            replace(ticket, job=job, end=end, spent=job.steps, draw=draw)
            for draw, (job, end) in enumerate(zip(jobs, ends, strict=True))
        )


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """The ticket's initial values with its mask shuffled inside each tensor: same counts, other
    places.

    Source: Frankle et al. 2021 (arXiv 2009.08576); sparse-ticket literature calls it the
    layer-shuffled mask.
    """

    name: ClassVar[str] = "shuffle"
    summary: ClassVar[str] = "the ticket's initial values, its mask shuffled inside each tensor"
    claims: ClassVar[frozenset[str]] = frozenset({"mask"})
    beside: ClassVar[bool] = True

    def loop(self, recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
        ticket = (yield from recipe.loop(recipe, world, seed))[-1]
        init = yield Init(world, seed)
        job = reference(recipe, ticket, init.params)
        shuffled = yield ShuffleMask(
            mask=job.mask, layers=recipe.layers(world), seed=seed, round=ticket.target.round
        )
        job = replace(job, mask=shuffled.mask)
        end = yield job
        return (replace(ticket, job=job, end=end, spent=job.steps, cut=shuffled),)


MOST_DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class ShuffleMask:
    """The same number of weights of each tensor, at places drawn uniformly.

    Example:
        >>> from tombola.recipes.job import NoDesk
        >>> fc = Layer(name="fc", shape=(4, 5), kind="linear", rate=.8)
        >>> mask = Mask({"fc": torch.arange(20).reshape(4, 5) < 7})
        >>> done = ShuffleMask(mask=mask, layers=(fc,), seed=0, round=1).run(NoDesk())
        >>> done.kept, done.mask.digest == mask.digest
        ({'fc': 7}, False)
    """

    kind: ClassVar[str] = "shuffle"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    mask: Handle[Mask]
    layers: tuple[Layer, ...]
    seed: int
    round: int

    def run(self, desk: Desk) -> Pruned:
        mask = self.mask.load()
        result, again = self._drawn(mask, ()), 0
        while result.digest == mask.digest and can_be_shuffled(mask):
            again += 1  # a small mask may fall onto itself; the chance is at most one in two
            if again > MOST_DRAWS:
                raise CheckError(f"shuffle: the mask of round {self.round} is never rearranged.")
            result = self._drawn(mask, (again,))
        kept = {layer.name: result.kept(layer.name, layer.count) for layer in self.layers}
        exact = all(kept[layer.name] == mask.kept(layer.name, layer.count) for layer in self.layers)
        return Pruned(
            mask=result, params=None, kept=kept, checks={"mask_nested": None, "count_exact": exact}
        )

    def _drawn(self, mask: Mask, again: tuple[int, ...]) -> Mask:
        moved = {}
        for layer in self.layers:
            places = stream(self.seed, "shuffle", self.round, layer.name, *again)
            order = torch.randperm(layer.count, generator=places)
            kept = mask.of(layer.name, layer.shape).reshape(-1)
            moved[layer.name] = kept[order].reshape(layer.shape)
        return Mask(moved)

    def placeholder(self, pending: Any) -> Pruned:
        return Pruned(mask=pending("mask"), params=None, kept={}, checks={})


def can_be_shuffled(mask: Mask) -> bool:
    """Whether there is another arrangement: not where every tensor is full or empty."""
    return any(bool(kept.any()) for _, kept in mask.items())


CONTROLS: dict[str, Control] = {control.name: control for control in (Dense(), Reinit(), Shuffle())}


def unclaimed(control: Control, beside: Train, trained: Train) -> str | None:
    """What is wrong with a control beside its `reference`; None if it is what it claims to be.

    Compares the two trainings field by field, by content.
    """
    changed = {
        field.name
        for field in fields(Train)
        if digest(getattr(beside, field.name)) != digest(getattr(trained, field.name))
    }
    if changed - control.claims:
        return f"{control.name} also changed {sorted(changed - control.claims)}"
    if not control.beside:
        return None
    left = control.claims - changed
    if "mask" in left and not can_be_shuffled(beside.mask.load()):
        left -= {"mask"}
    if left:
        return f"{control.name} left {sorted(left)} as the ticket has it"
    if beside.begin.step != trained.begin.step:
        return f"{control.name} starts at another step than the ticket"
    return None
