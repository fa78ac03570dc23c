"""What tickets learn: the solution their mask was pruned from, or another?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tombola.errors import CallError, CheckError, RecipeError
from tombola.lab.probe.copies import with_noise
from tombola.lab.probe.opinions import Opinions
from tombola.lab.probe.path import STATISTICS, Path, alphas
from tombola.lab.probe.probe import Chart, Shown, Table
from tombola.lab.probe.relearned import (
    KINDS,
    SCRATCH,
    SOLUTION,
    TICKET,
    Found,
    Relearned,
    answers_row,
    distances_row,
    ensemble_row,
    path_row,
    solution_row,
)
from tombola.lab.question import Question
from tombola.pieces.dynamics import Gradual
from tombola.pieces.rewind import ToStep
from tombola.pieces.schedule import Densities
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Train, Trained
from tombola.recipes.recipe import Recipe, opening
from tombola.recipes.sparse_training import GRADUAL
from tombola.values.point import Point
from tombola.world.objective import CrossEntropy

FRESH = 2_000_000  # draws of initial values that no control has: reinit counts from 1
CUTS = 40
BEYOND = 0.2  # of the way, past both ends


@dataclass(frozen=True, kw_only=True)
class Relearning:
    """Prune a network while it trains, train its mask anew, and see where the copies end.

    The pruning solution is what gradual magnitude pruning ends with, at one density. Under its mask
    train `copies` tickets, from the weights the solution started from (or had at `step`), and as
    many from scratch, from values of other draws; copy number i of either kind sees the same data
    in the same order, another one than the solution saw. Asked of them:

    - distance of the kept weights to the solution's, at the start and at the end of training;
    - the barrier on the straight line to the solution, under the mask that all share: on training
      data, the largest value above the line between its ends (0: one basin);
    - the fraction of the test split that is put into another class: than by the solution, and among
      copies of one kind;
    - accuracy of the mean probabilities of the first 1, 2, .. copies of a kind.

    The source finds that tickets lie in the basin of their solution and agree with it and with one
    another, so that several together are hardly better than one; networks from scratch do not.

    density: None is where the study is judged. pruning: how the solution is pruned; None is as
    published, in forty cuts from a quarter to three fifths of the training. points: on the
    line from -0.2 to 1.2; one with the ends among them, such as 29. statistics: of normalisation
    layers on it (see `Path`). examples: of the training split, at most.

    Source: Evci, Ioannou, Keskin & Dauphin 2022 (arXiv 2010.03533), section 4, and the authors'
    interpolation script. Differs: barriers are of the error, too; one mask a seed.

    Raises:
        CallError: a field that cannot be meant.
    """

    name: str = field(default="relearning", repr=False, metadata={"identity": False})
    summary: str = field(
        default="do tickets learn the solution their mask was pruned from: distances, barriers, "
        "answers, ensembles",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="Evci, Ioannou, Keskin & Dauphin 2022, Gradient Flow in Sparse Neural Networks and "
        "How Lottery Tickets Win (arXiv 2010.03533), section 4",
        repr=False,
        metadata={"identity": False},
    )
    density: float | None = None
    step: int = 0
    copies: int = 3
    pruning: Gradual | None = None
    points: int = 29
    statistics: str = "recomputed"
    examples: int = 10_000

    def __post_init__(self) -> None:
        if self.density is not None and not 0.0 < self.density < 1.0:
            raise CallError(f"Relearning(density={self.density}): want a fraction kept in (0, 1).")
        if self.copies < 2:
            raise CallError(f"Relearning(copies={self.copies}): want 2 or more, to compare.")
        if self.step < 0:
            raise CallError(f"Relearning(step={self.step}): want a step of the training.")
        if self.statistics not in STATISTICS:
            raise CallError(
                f"Relearning(statistics={self.statistics!r}): want {' or '.join(STATISTICS)}."
            )
        if self.examples < 1:
            raise CallError(f"Relearning(examples={self.examples}): want 1 or more.")
        if self.points < 2 or not {0.0, 1.0} <= set(alphas(self.points, BEYOND)):
            raise CallError(
                f"Relearning(points={self.points}): of the points from -0.2 to 1.2 none is an end; "
                "want a number such as 8, 15 or 29."
            )

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        world = question.world
        if not isinstance(world.objective, CrossEntropy):
            return (
                f"its objective is {type(world.objective).__name__}; answers are compared by class"
            )
        if self.step >= world.steps:
            return f"there is no step {self.step} to rewind to; trainings end at {world.steps}"
        try:
            self._recipe(question).check(world)
        except RecipeError as error:
            return str(error).removesuffix(".")
        return None

    def _recipe(self, question: Question) -> Recipe:
        """What finds the pruning solution."""
        density, pruning = self.density, self.pruning
        if density is None:
            density = question.targets[question.judged_round].density
        if pruning is None:
            usual = Gradual()
            span = (usual.until - usual.begin) * question.world.steps
            pruning = replace(usual, every=max(1, round(span / CUTS)))
        return replace(
            GRADUAL,
            scope=question.recipe.scope,
            schedule=Densities(values=(density,)),
            dynamics=pruning,
        )

    # -- the loop ----------------------------------------------------------------------------

    def loop(self, question: Question, seed: int) -> Loop[Found]:
        """See `Probe`."""
        world, recipe = question.world, self._recipe(question)
        rounds = yield from recipe.loop(recipe, world, seed)
        solution = rounds[-1].end
        if solution.diverged:
            return None
        rewound = replace(recipe, rewind=ToStep(step=self.step))
        _, early = yield from opening(rewound, world, seed)
        begins = {TICKET: [Point(early.params, None, early.step)] * self.copies}
        inits = yield tuple(Init(world, seed, FRESH + number) for number in range(self.copies))
        begins[SCRATCH] = [Point(init.params, None, 0) for init in inits]
        jobs = {
            (kind, number): with_noise(
                Train(world, seed, begin, solution.mask, world.steps, world.objective),
                "both",
                number + 1,
            )
            for kind in KINDS
            for number, begin in enumerate(begins[kind])
        }
        ends = dict(zip(jobs, (yield tuple(jobs.values())), strict=True))
        if any(end.diverged for end in ends.values()):
            return None
        return (yield from self._compared(solution, jobs, ends))

    def _compared(
        self,
        solution: Trained,
        jobs: Mapping[tuple[str, int], Train],
        ends: Mapping[tuple[str, int], Trained],
    ) -> Loop[Relearned]:
        """Walk from each copy to the solution, and ask all of them."""
        paths = tuple(
            Path(
                world=job.world,
                first=ends[place].params,
                second=solution.params,
                start=job.begin.params,
                mask=solution.mask,
                split="train",
                statistics=self.statistics,
                points=self.points,
                examples=self.examples,
                beyond=BEYOND,
            )
            for place, job in jobs.items()
        )
        named = {_name(*place): end.params for place, end in ends.items()}
        members = {
            kind: tuple(_name(kind, number) for number in range(self.copies)) for kind in KINDS
        }
        world = next(iter(jobs.values())).world
        asked = Opinions(world=world, networks={SOLUTION: solution.params, **named}, groups=members)
        *walks, told = yield (*paths, asked)
        by_place = dict(zip(jobs, walks, strict=True))
        return Relearned(
            walked={
                kind: tuple(by_place[kind, number] for number in range(self.copies))
                for kind in KINDS
            },
            masks=(solution.mask.digest, *(end.mask.digest for end in ends.values())),
            told=told,
        )

    # -- what is shown -----------------------------------------------------------------------

    def show(self, question: Question, found: Sequence[Found]) -> Shown:
        """See `Probe`."""
        _check_masks(found)
        places = alphas(self.points, BEYOND)
        members = [(kind, number) for kind in KINDS for number in range(self.copies)]
        tables = (
            Table(
                name="distances",
                title="From copies under the mask of a pruning solution to that solution",
                rows=tuple(distances_row(found, kind, places) for kind in KINDS),
                printed=("distance_at_start", "distance_at_end", "loss_barrier", "error_barrier"),
            ),
            Table(
                name="answers",
                title="Test examples put into another class",
                rows=tuple(answers_row(found, kind) for kind in KINDS),
                printed=("than_solution", "among_copies"),
            ),
            Table(
                name="ensembles",
                title="Accuracy of several together",
                rows=(
                    solution_row(found),
                    *(ensemble_row(found, kind, number) for kind, number in members),
                ),
                printed=("test_accuracy",),
            ),
            Table(
                name="paths",
                title="From a copy (0) to the pruning solution (1)",
                rows=tuple(
                    path_row(found, kind, number, place)
                    for kind in KINDS
                    for number, place in enumerate(places)
                ),
            ),
        )
        charts = (
            _chart("Training loss from a copy (0) to the pruning solution (1)", "paths", "loss"),
            _chart("Training error on the same way", "paths", "error"),
            _chart("Test accuracy of several copies together", "ensembles", "test_accuracy"),
        )
        ran = any(seed is not None for seed in found)
        return Shown(
            tables=tables,
            charts=charts,
            notes=self._notes(question),
            checks={"same_mask": True if ran else None},
        )

    def _notes(self, question: Question) -> tuple[str, ...]:
        density = (
            self._recipe(question)
            .schedule.targets(
                question.recipe.layers(question.world), question.world.judged_density
            )[-1]
            .density
        )
        return (
            f"At density {density:.4g}; {self.copies} copies of each kind, averaged first. Barriers"
            " are on training data.",
            "Among copies: the mean over their pairs. One copy: the first.",
        )


def _name(kind: str, number: int) -> str:
    return f"{kind}-{number + 1}"


def _check_masks(found: Sequence[Found]) -> None:
    """Self-check: distances and lines are between networks of one mask, or mean nothing.

    Raises:
        CheckError: they have not one.
    """
    for seed in found:
        if seed is not None and len(set(seed.masks)) > 1:
            raise CheckError("same_mask: a copy does not keep what the pruning solution keeps.")


def _chart(title: str, table: str, metric: str) -> Chart:
    x = "alpha" if table == "paths" else "members"
    return Chart(title=title, table=table, x=x, y=metric, line="network")


RELEARNING = Relearning()
