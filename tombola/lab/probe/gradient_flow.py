"""Gradient flow: how much a step could lower the loss, while arms train."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import torch

from tombola.errors import CallError
from tombola.lab.probe.path import distance, some
from tombola.lab.probe.probe import Chart, Row, Shown, Table, abreast, finished
from tombola.lab.question import Question
from tombola.lab.verdict import TICKET
from tombola.pieces.parametrisation import Identity
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Train
from tombola.recipes.recipe import Round
from tombola.values.handle import Handle
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, derive, reseed
from tombola.world.objective import Objective
from tombola.world.world import World

SHARES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)  # of the training, unless steps are


@dataclass(frozen=True, kw_only=True)
class Flowing:
    """norm: of the gradient of everything kept; of each tensor in `norms`. loss: on the same
    examples. moved: Euclidean distance of the kept weights from where training started."""

    norm: float | None
    norms: dict[str, float | None]
    loss: float | None
    moved: float


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The gradient of one network on at most `examples` of the training split, always the same.

    Of the objective's loss alone, so without weight decay, in whatever place that stands; cut
    entries left out; the network in training mode, as it is trained, on all examples at once,
    without augmentation.
    """

    kind: ClassVar[str] = "flow"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    objective: Objective
    params: Handle[Params]
    start: Handle[Params]
    mask: Handle[Mask]
    examples: int

    def run(self, desk: Desk) -> Flowing:
        world, mask = self.world, self.mask.load()
        params = mask.apply(self.params.load())  # where training starts nothing is zero yet
        numerics, split = world.numerics, some(world.train, self.examples)
        with numerics.in_force(), borrowed_generators():
            network = numerics.place(world.network(params)).train()
            index, split = torch.arange(len(split)), split.on(numerics.torch_device)
            batch = world.batch(split, index)
            reseed(derive(0, "flow"))  # dropout
            with numerics.autocast():
                loss = self.objective.loss(network, batch, {})
            loss.backward()
        squares: dict[str, float] = {}
        for name, tensor in network.named_parameters():
            if tensor.grad is not None:
                gradient = tensor.grad.detach().cpu().double()
                squares[name] = float(gradient[mask.of(name, gradient.shape)].square().sum())
        return Flowing(
            norm=_known(math.sqrt(math.fsum(squares.values()))),
            norms={name: _known(math.sqrt(square)) for name, square in squares.items()},
            loss=_known(float(loss.detach())),
            moved=distance(params, self.start.load(), list(squares), mask),
        )

    def placeholder(self, pending: Any) -> Flowing:
        return Flowing(norm=None, norms={}, loss=None, moved=0.0)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


Found: TypeAlias = Mapping[str, Mapping[int, Flowing]]
"""Arm -> step -> what was measured; steps after one has diverged are not there."""


@dataclass(frozen=True, kw_only=True)
class GradientFlow:
    """The norm of the masked gradient of each arm, from its start to the end of its training.

    A small step along the gradient lowers the loss by rate times its square, so it says how fast a
    network can learn at all. Networks drawn for dense layers and then cut give small ones; values
    drawn for the connections that each unit has give larger ones; masks that move raise them on the
    way. It is not a measure of quality across networks: a layer before normalisation that is scaled
    down computes the same and has a larger gradient.

    Each arm at one round, whole networks at theirs: arms of a study are the initialisations and
    methods to compare, for example static, static-scaled and static-fan-in. Trains each arm once
    more, up to the last step asked for, to stop on the way; where the mask moves, it is the mask of
    the step.

    Source: Evci, Ioannou, Keskin & Dauphin 2022 (arXiv 2010.03533), section 3, and the authors'
    code: 1,000 training examples, training mode, without weight decay, every 200 to 250 steps.

    steps: where to look; none: ten, more of them early. A step before the arm's training starts (a
    rewound one) is left out. examples: so many of the training split at most. round: None is where
    the study is judged.

    Raises:
        CallError: a field that cannot be meant.
    """

    name: str = field(default="gradient-flow", repr=False, metadata={"identity": False})
    summary: str = field(
        default="norm of the gradient of what is kept, from the start of training to its end",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="Evci, Ioannou, Keskin & Dauphin 2022, Gradient Flow in Sparse Neural Networks and "
        "How Lottery Tickets Win (arXiv 2010.03533), section 3",
        repr=False,
        metadata={"identity": False},
    )
    steps: tuple[int, ...] = ()
    examples: int = 1_000
    round: int | None = None

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(set(self.steps)) or any(step < 0 for step in self.steps):
            raise CallError(f"GradientFlow(steps={self.steps!r}): want steps from 0 on, ascending.")
        if self.examples < 1:
            raise CallError(f"GradientFlow(examples={self.examples}): want 1 or more.")

    def steps_in(self, world: World) -> tuple[int, ...]:
        """The steps that are given, or those that no steps stand for."""
        return self.steps or tuple(sorted({int(share * world.steps) for share in SHARES}))

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        last, steps = question.targets[-1].round, question.world.steps
        if self.round is not None and not 0 <= self.round <= last:
            return f"there is no round {self.round}; want 0 to {last}"
        if self.steps and self.steps[-1] > steps:
            return f"there is no step {self.steps[-1]}; its trainings end at step {steps}"
        if not isinstance(question.recipe.parametrisation, Identity):
            return (
                f"{question.recipe.name} trains something else than weights, by "
                f"{type(question.recipe.parametrisation).__name__}"
            )
        if question.world.objective.given:
            return (
                f"its objective wants {sorted(question.world.objective.given)} beside the network, "
                "which a gradient on a fixed batch has not got"
            )
        return None

    # -- the loop ----------------------------------------------------------------------------

    def loop(self, question: Question, seed: int) -> Loop[Found]:
        """See `Probe`: arms side by side, the steps of each one after the other, so that every leg
        goes on from the one before."""
        arms = list(self._arms(question))
        turns: list[Round | None] = []
        for arm in arms:
            turns.append((yield from self._turn(question, arm, seed)))
        there = [(arm, turn) for arm, turn in zip(arms, turns, strict=True) if turn is not None]
        found = yield from abreast([self._followed(question, turn) for _, turn in there])
        return {arm: flows for (arm, _), flows in zip(there, found, strict=True)}

    def _arms(self, question: Question) -> tuple[str, ...]:
        return (TICKET, *question.arms)

    def _turn(self, question: Question, arm: str, seed: int) -> Loop[Round | None]:
        """An arm's training at the round, or the one of the whole network; None where the arm's
        network is another, something else than weights is trained, or its ticket diverged before.
        """
        rounds = yield from finished(question, arm, seed)
        wanted = question.judged_round if self.round is None else self.round
        at = [turn for turn in rounds if turn.target.round == wanted and turn.draw == 0]
        whole = [turn for turn in rounds if turn.target.round == 0]
        same = question.world.model_digest
        fitting = [
            turn
            for turn in at or whole
            if turn.job.world.model_digest == same
            and isinstance(turn.job.parametrisation, Identity)
        ]
        return fitting[0] if fitting else None

    def _followed(self, question: Question, turn: Round) -> Loop[dict[int, Flowing]]:
        """What is measured on the way of one training."""
        job, flows = turn.job, dict[int, Flowing]()
        for step in self.steps_in(question.world):
            if not job.begin.step <= step <= job.until:
                continue
            params, mask = job.begin.params, job.mask
            if step > job.begin.step:
                end = yield replace(job, until=step)
                if end.diverged:
                    break
                params, mask = end.params, end.mask
            flows[step] = yield self._flow(job, params, mask)
        return flows

    def _flow(self, job: Train, params: Handle[Params], mask: Handle[Mask]) -> Flow:
        return Flow(
            world=job.world,
            objective=job.world.objective,
            params=params,
            start=job.begin.params,
            mask=mask,
            examples=self.examples,
        )

    # -- what is shown -----------------------------------------------------------------------

    def show(self, question: Question, found: Sequence[Found]) -> Shown:
        """See `Probe`."""
        places = [
            (arm, step)
            for arm in self._arms(question)
            for step in self.steps_in(question.world)
            if any(step in seed.get(arm, {}) for seed in found)
        ]
        rows = tuple(_row(found, *place) for place in places)
        names = list(dict.fromkeys(n for seed in found for arm in seed.values() for n in _all(arm)))
        by_tensor = tuple(_row(found, *place, name) for place in places for name in names)
        arms = list(dict.fromkeys(arm for arm, _ in places))
        return Shown(
            tables=(
                Table(
                    name="summary",
                    title="Norm of the gradient at the first step looked at, at most, at the last",
                    rows=tuple(_summary(found, arm) for arm in arms),
                    printed=("first", "most", "last"),
                ),
                Table(
                    name="gradient_flow",
                    title="Norm of the gradient, and loss, of the same training examples",
                    rows=rows,
                ),
                Table(name="tensors", title="Norm of the gradient, by tensor", rows=by_tensor),
            ),
            charts=(
                _chart("Norm of the gradient, by step", "gradient_norm"),
                _chart("Distance from the start of training, by step", "moved"),
            ),
            notes=self._notes(question),
        )

    def _notes(self, question: Question) -> tuple[str, ...]:
        turn = question.judged_round if self.round is None else self.round
        examples = min(self.examples, len(question.world.train))
        return (
            f"Of {examples:,} training examples at round {turn}, in training mode, without weight "
            "decay; what is cut is left out.",
            "Norms compare networks that compute on one scale: normalisation makes them depend on "
            "the length of the weights before it.",
        )


def _all(flows: Mapping[int, Flowing]) -> list[str]:
    return list(next(iter(flows.values())).norms) if flows else []


def _chart(title: str, metric: str) -> Chart:
    return Chart(title=title, table="gradient_flow", x="step", y=metric, line="arm")


def _summary(found: Sequence[Found], arm: str) -> Row:
    """None where a training diverged on the way."""
    norms = [[one.norm for _, one in sorted(seed.get(arm, {}).items())] for seed in found]
    length = max(map(len, norms))
    known = [[norm for norm in of if norm is not None] for of in norms]
    whole = [of if len(of) == length else [] for of in known]
    return Row(
        place={"arm": arm},
        metrics={
            "first": [of[0] if of else None for of in whole],
            "most": [max(of, default=None) for of in whole],
            "last": [of[-1] if of else None for of in whole],
        },
    )


def _row(found: Sequence[Found], arm: str, step: int, tensor: str | None = None) -> Row:
    """Of one place; of one tensor, or of all."""
    seeds = [seed.get(arm, {}).get(step) for seed in found]
    if tensor is not None:
        norms = [None if one is None else one.norms.get(tensor) for one in seeds]
        return Row(
            place={"arm": arm, "step": step, "tensor": tensor}, metrics={"gradient_norm": norms}
        )
    return Row(
        place={"arm": arm, "step": step},
        metrics={
            "gradient_norm": [None if one is None else one.norm for one in seeds],
            "loss": [None if one is None else one.loss for one in seeds],
            "moved": [None if one is None else one.moved for one in seeds],
        },
    )


GRADIENT_FLOW = GradientFlow()
