"""Pre-training: how the loss of greedily selected neurons depends on how long the whole trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tombola.errors import CallError
from tombola.lab.probe.neurons import Picked, PickNeurons
from tombola.lab.probe.probe import Chart, Row, Shown, Table
from tombola.lab.question import Question
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Train
from tombola.theory import Pretraining as Bound
from tombola.theory import Selection, fitted
from tombola.values.layer import Layer
from tombola.values.mask import FULL
from tombola.values.point import Point
from tombola.world.objective import SquaredError
from tombola.world.world import World

THRESHOLDS = ("threshold_step", "threshold_late_step", "saturated_step", "better_until_step")
SATURATED = 1.1  # a loss at most so many times the least of all steps
PARTS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of a training, after which neurons are selected


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Neurons selected greedily from a wide two-layer network, after more and more steps.

    Each subnetwork is a mean of k choices, with repetition, that fit the one-hot targets of
    training examples; nothing is retrained. Beside it stands the bound of `tombola.theory` and its
    threshold, with rho fitted to the dense losses measured here, and V and l_1 of the first step
    measured (what can be known before training) or of the last.

    steps: of training, at which neurons are selected; None: 0, 1, 3, 10, 30 and 100 % of the
    world's. neurons: k. examples: at most so many training examples to select on.

    Source: Wolfe, Wang, Kim & Kyrillidis 2021 (arXiv 2108.00259), for the experiment; Ye et al.
    2020 (arXiv 2003.01794), for the selection.

    Raises:
        CallError: no steps or neurons, or some below what they can be.
    """

    name: str = field(default="pretraining", repr=False, metadata={"identity": False})
    summary: str = field(
        default="loss of greedily selected neurons after more and more steps of training, and the "
        "step from which theory says more is of little use",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="Wolfe, Wang, Kim & Kyrillidis 2021, How much pre-training is enough to discover a "
        "good subnetwork? (arXiv 2108.00259)",
        repr=False,
        metadata={"identity": False},
    )
    steps: tuple[int, ...] | None = None
    neurons: tuple[int, ...] = (10, 50, 200)
    examples: int = 5_000

    def __post_init__(self) -> None:
        for what, least in (("steps", 0), ("neurons", 1)):
            values = getattr(self, what)
            if values is None and what == "steps":
                continue
            if len(values) < 1 or min(values) < least or any(b <= a for a, b in pairwise(values)):
                raise CallError(
                    f"Pretraining({what}={values!r}): want whole numbers that grow, {least} or "
                    "more."
                )
        if self.examples < 1:
            raise CallError(f"Pretraining(examples={self.examples}): want at least one.")

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        world, layers = question.world, question.recipe.layers(question.world)
        if not isinstance(world.objective, SquaredError):
            return (
                f"its bound is of squared errors, the world's objective is "
                f"{type(world.objective).__name__}; want tombola.SquaredError()"
            )
        if not two_layers(layers):
            return (
                f"it selects neurons of a two-layer network; in scope are "
                f"{[(layer.name, layer.shape) for layer in layers]}"
            )
        beyond = [step for step in self._steps(world) if step > world.steps]
        if beyond:
            return f"steps {beyond} are beyond the world's {world.steps}"
        return None

    def _steps(self, world: World) -> tuple[int, ...]:
        if self.steps is not None:
            return self.steps
        return tuple(sorted({round(part * world.steps) for part in PARTS}))

    def loop(self, question: Question, seed: int) -> Loop[tuple[Picked, ...] | None]:
        """See `Probe`. One trajectory, the dense training of the seed."""
        world, picks = question.world, list[PickNeurons]()
        init = (yield Init(world, seed)).params
        for step in self._steps(world):
            params = init
            if step:
                start = Point(init, None, 0)
                leg = yield Train(world, seed, start, FULL, step, world.objective)
                if leg.diverged:
                    return None
                params = leg.params
            picks.append(
                PickNeurons(
                    world=world,
                    seed=seed,
                    params=params,
                    layers=question.recipe.layers(world),
                    neurons=self.neurons,
                    examples=self.examples,
                )
            )
        picked: tuple[Picked, ...] = yield tuple(picks)
        return picked

    def show(self, question: Question, found: Sequence[tuple[Picked, ...] | None]) -> Shown:
        """See `Probe`."""
        steps = self._steps(question.world)
        losses = Table(
            name="losses",
            title="Loss on the examples selected on, and test accuracy",
            rows=tuple(self._losses(steps, found)),
            printed=("loss", "test_accuracy"),
        )
        neurons = Table(
            name="spread",
            title="The whole network: its loss, V and the loss of the best single neuron",
            rows=tuple(
                Row(
                    place={"step": step},
                    metrics={
                        "dense_loss": [None if one is None else one[at].dense for one in found],
                        "variance": [None if one is None else one[at].variance for one in found],
                        "first_loss": [None if one is None else one[at].first for one in found],
                    },
                )
                for at, step in enumerate(steps)
            ),
            printed=("dense_loss", "variance", "first_loss"),
        )
        thresholds = Table(
            name="thresholds",
            title="From which step on more pre-training is of little use",
            rows=tuple(self._thresholds(steps, found)),
            printed=THRESHOLDS,
        )
        charts = tuple(
            Chart(title=title, table="losses", x="step", y=metric, line="network")
            for metric, title in (
                ("loss", "Loss of the whole network and of subnetworks, by steps of pre-training"),
                ("test_accuracy", "Test accuracy of the same"),
            )
        )
        notes = (
            "threshold: where the bound's dense part falls below its own, rho fitted to the losses "
            "of the whole network, V and l_1 of the first step; threshold late: of the last.",
            f"saturated: the first step measured with a loss at most {SATURATED:g} times the least "
            "of all. better until: the last at which it loses less than the whole network.",
        )
        checks = {"under_bound": self._under_bound(found)}
        return Shown(
            tables=(losses, thresholds, neurons), charts=charts, notes=notes, checks=checks
        )

    def _losses(
        self, steps: Sequence[int], found: Sequence[tuple[Picked, ...] | None]
    ) -> list[Row]:
        rows = []
        for place, k in enumerate((None, *self.neurons)):
            name = "dense" if k is None else f"{k} neurons"
            for at, step in enumerate(steps):
                seeds = [None if one is None else _figures(one[at], place - 1) for one in found]
                metrics = {
                    metric: [None if one is None else one[metric] for one in seeds]
                    for metric in ("loss", "distinct", "test_loss", "test_accuracy")
                }
                rows.append(Row(place={"network": name, "step": step}, metrics=metrics))
        return rows

    def _thresholds(
        self, steps: Sequence[int], found: Sequence[tuple[Picked, ...] | None]
    ) -> list[Row]:
        rows = []
        for place, k in enumerate(self.neurons):
            seeds = [None if one is None else _found_at(k, place, steps, one) for one in found]
            metrics = {
                metric: [None if one is None else one[metric] for one in seeds]
                for metric in THRESHOLDS
            }
            rows.append(Row(place={"neurons": k}, metrics=metrics))
        return rows

    def _under_bound(self, found: Sequence[tuple[Picked, ...] | None]) -> bool | None:
        """Whether every loss keeps to the bound from the dense loss, V and l_1 of its own step."""
        held = [
            loss
            <= Selection(variance=one.variance, first=one.first).bound(k, one.dense) * (1 + 1e-5)
            for seed in found
            for one in seed or ()
            for k, loss in zip(self.neurons, one.losses, strict=True)
        ]
        return all(held) if held else None


def two_layers(layers: Sequence[Layer]) -> bool:
    """Whether these are the two matrices of a network of one hidden layer.

    >>> pair = [Layer(name=n, shape=s, kind="linear", rate=.8) for n, s in
    ...         (("hidden.weight", (5, 3)), ("output.weight", (2, 5)))]
    >>> two_layers(pair), two_layers(pair[::-1])
    (True, False)
    """
    shapes = [layer.shape for layer in layers]
    flat = len(shapes) == 2 and all(len(shape) == 2 for shape in shapes)
    return flat and shapes[0][0] == shapes[1][1]


def _figures(one: Picked, place: int) -> Mapping[str, float | None]:
    """Of a subnetwork by its place, or of the whole network for -1."""
    if place < 0:
        test, loss, distinct = one.dense_test, one.dense, None
    else:
        test, loss, distinct = one.test[place], one.losses[place], one.distinct[place]
    of_test = {f"test_{name}": value for name, value in test.items()}
    return {"loss": loss, "distinct": distinct, **of_test}


def _found_at(
    k: int, place: int, steps: Sequence[int], seed: Sequence[Picked]
) -> Mapping[str, float | None]:
    """Threshold by theory, and what was measured, of k neurons of one seed."""
    losses = {step: one.losses[place] for step, one in zip(steps, seed, strict=True)}
    enough = SATURATED * min(losses.values())
    better = [step for step, one in zip(steps, seed, strict=True) if losses[step] < one.dense]
    return {
        "threshold_step": _threshold(k, steps, seed, seed[0]),
        "threshold_late_step": _threshold(k, steps, seed, seed[-1]),
        "saturated_step": next(step for step, loss in losses.items() if loss <= enough),
        "better_until_step": max(better, default=None),
    }


def _threshold(k: int, steps: Sequence[int], seed: Sequence[Picked], at: Picked) -> int | None:
    """With V and l_1 as at a step. None where the dense losses have no rho: fewer than two, or none
    that falls."""
    curve = {step: one.dense for step, one in zip(steps, seed, strict=True)}
    selection = Selection(variance=at.variance, first=at.first)
    try:
        rate = fitted(curve)
    except CallError:
        return None
    return Bound(initial=seed[0].dense, selection=selection, rate=rate).threshold(k)


PRETRAINING = Pretraining()
