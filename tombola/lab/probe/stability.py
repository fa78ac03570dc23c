"""Is a network stable to the noise of training? Barriers between copies that share a start.

Source: Frankle, Dziugaite, Roy & Carbin 2020, Linear Mode Connectivity and the Lottery Ticket
Hypothesis (arXiv 1912.05671), section 2 (`instability analysis`) and section 4 (of subnetworks).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

from tombola.errors import CallError
from tombola.lab.probe.barriers import (
    Found,
    Kind,
    Pair,
    Pairs,
    barrier_chart,
    barriers_table,
    mean_of,
    pairs_in,
    path_chart,
    paths_table,
)
from tombola.lab.probe.copies import (
    DENSE,
    NOISES,
    check_ends,
    controls_in,
    has_noise,
    start_at,
    with_noise,
)
from tombola.lab.probe.path import SPLITS, STATISTICS, Path, barrier
from tombola.lab.probe.probe import Row, Shown, Table, abreast
from tombola.lab.question import Question
from tombola.lab.verdict import TICKET
from tombola.pieces.rewind import ToStep
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Train, Trained
from tombola.recipes.recipe import grow
from tombola.world.world import World

SHARES = (0.0, 0.02, 0.1, 0.5)  # of the training, at which copies are made unless steps are given


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Copy a network at step k, train the copies under different noise, walk from one to another.

    The barrier is the largest error on the straight line between two copies less the mean error of
    both. At `threshold` or above, the network is unstable at k: noise decides which minimum it
    ends in. Seeds are those of the study.

    arms: `dense`, copied with its optimiser state; `ticket`, whose mask is found anew for each k by
        the study's recipe with rewinding to k, as published, and whose copies start from the
        weights of step k with a fresh optimiser; or a control of that ticket (`reinit`, ..).
    steps: the k; none: 0, and 2, 10 and 50 % of the training. round: of the ticket; None: where
        the study is judged.
    noises: what differs: `order` of the examples; `augmentation`, and dropout; or `both`.
    copies: of each start, the first of them the training of the study itself; of several pairs the
        mean is taken.
    splits, statistics, points, examples: of the walk (see `Path`). Whether a pair is stable is
        decided on the first split under the first handling: the training split unless told
        otherwise, so that test data chooses no k.
    within: the onset of stability is searched, seed by seed, by halving the interval between the
        steps that bracket it, down to this fraction of the training; None: among `steps` alone.

    Deviates: one training of each pair is the study's own (the paper trains both anew; which is
    noise, either way). One pair a seed unless told otherwise (the paper: three for each of three
    seeds).

    Raises:
        CallError: a field that cannot be meant.
    """

    name: str = field(default="stability", repr=False, metadata={"identity": False})
    summary: str = field(
        default="error barriers between copies that share a start and differ in noise, by step k",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="Frankle, Dziugaite, Roy & Carbin 2020, Linear Mode Connectivity and the Lottery "
        "Ticket Hypothesis (arXiv 1912.05671), sections 2 and 4",
        repr=False,
        metadata={"identity": False},
    )
    arms: tuple[str, ...] = (DENSE, TICKET)
    steps: tuple[int, ...] = ()
    round: int | None = None
    noises: tuple[str, ...] = ("both",)
    copies: int = 2
    splits: tuple[str, ...] = ("train", "test")
    statistics: tuple[str, ...] = ("interpolated",)
    points: int = 30
    examples: int = 10_000
    threshold: float = 0.02
    within: float | None = None

    def __post_init__(self) -> None:
        among = {"noises": NOISES, "splits": SPLITS, "statistics": STATISTICS}
        for what, known in among.items():
            given = getattr(self, what)
            if not given or not set(given) <= set(known) or len(set(given)) < len(given):
                raise CallError(
                    f"Stability({what}={given!r}): want some of {', '.join(known)}, each once."
                )
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise CallError(f"Stability(arms={self.arms!r}): want at least one arm, each once.")
        if list(self.steps) != sorted(set(self.steps)) or any(step < 0 for step in self.steps):
            raise CallError(f"Stability(steps={self.steps}): want steps, 0 or more, rising.")
        if self.points < 2 or self.examples < 1:
            raise CallError(
                f"Stability(points={self.points}, examples={self.examples}): want both ends of a "
                "path at least, and an example."
            )
        if self.copies < 2:
            raise CallError(f"Stability(copies={self.copies}): want a pair at least, so 2 or more.")
        if not 0 < self.threshold < 1:
            raise CallError(
                f"Stability(threshold={self.threshold!r}): want an error in (0, 1); 2 points are "
                "0.02."
            )
        if self.within is not None and not 0 < self.within < 1:
            raise CallError(
                f"Stability(within={self.within!r}): want a fraction of the training in (0, 1), or "
                "None for no search."
            )

    # -- what is asked -----------------------------------------------------------------------

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        world, last = question.world, question.targets[-1].round
        beyond = [step for step in self.steps if step >= world.steps]
        if beyond:
            return (
                f"step {beyond[0]:,} is not inside the training of {world.steps:,} steps; want 0 "
                f"to {world.steps - 1:,}"
            )
        if self.round is not None and not 1 <= self.round <= last:
            return f"there is no round {self.round}; want 1 to {last}"
        if "accuracy" not in [metric.name for metric in world.objective.metrics]:
            return "stability is about errors, and this world measures no accuracy"
        if "augmentation" in self.noises and not has_noise(world):
            return (
                "this world has neither augmentation nor dropout, so copies that differ in that "
                "alone would be one; want noises=('order',) or ('both',)"
            )
        return self._refuses_arms(question)

    def _refuses_arms(self, question: Question) -> str | None:
        recipe, known = question.recipe, (DENSE, TICKET, *controls_in(question))
        for arm in self.arms:
            if arm not in known:
                return f"there is no arm {arm!r} to copy; there are {', '.join(known)}"
            if arm != DENSE and (recipe.loop is grow or not isinstance(recipe.rewind, ToStep)):
                return (
                    f"{recipe.name} does not rewind to a step, so its ticket has no copies at step "
                    "k; want arms=('dense',), or a study of a recipe that does, such as imp"
                )
        return None

    def loop(self, question: Question, seed: int) -> Loop[Found]:
        """See `Probe`: arms and noises side by side."""
        places = list(product(self.arms, self.noises))
        found = yield from abreast([self._searched(question, seed, *place) for place in places])
        return dict(zip(places, found, strict=True))

    def _searched(self, question: Question, seed: int, arm: str, noise: str) -> Loop[Pairs]:
        """All the given steps side by side, then those of the search one after the other."""
        steps = self.steps_in(question.world)
        pairs = yield from abreast([self._pairs(question, seed, arm, noise, k) for k in steps])
        found = dict(zip(steps, pairs, strict=True))
        while (step := self._next(found, question.world)) is not None:
            found[step] = yield from self._pairs(question, seed, arm, noise, step)
        return found

    def _pairs(
        self, question: Question, seed: int, arm: str, noise: str, step: int
    ) -> Loop[tuple[Pair, ...]]:
        """Train the copies of one start, and walk between each two of them; none where one of them
        diverged."""
        turn = question.judged_round if self.round is None else self.round
        start = yield from start_at(question, arm, turn, seed, step)
        if start is None:
            return ()
        own, job = start
        others = [with_noise(job, noise, number) for number in range(1, self.copies)]
        ends: tuple[Trained, ...] = yield (own, *others)
        if any(end.diverged for end in ends):
            return ()
        walks = [self._walked(job, *two) for two in combinations(ends, 2)]
        pairs: tuple[Pair, ...] = yield from abreast(walks)
        return pairs

    def _walked(self, job: Train, first: Trained, second: Trained) -> Loop[Pair]:
        """Every kind of walk between two copies."""
        places = list(product(self.splits, self.statistics))
        paths = tuple(
            Path(
                world=job.world,
                first=first.params,
                second=second.params,
                start=job.begin.params,
                mask=job.mask,
                split=split,
                statistics=how,
                points=self.points,
                examples=self.examples,
            )
            for split, how in places
        )
        walks = yield paths
        held = [check_ends(*of, first, second) for of in zip(paths, walks, strict=True)]
        return Pair(walked=dict(zip(places, walks, strict=True)), ends_exact=any(held) or None)

    # -- the search --------------------------------------------------------------------------

    def steps_in(self, world: World) -> tuple[int, ...]:
        """The steps that are given, or those that no steps stand for."""
        return self.steps or tuple(sorted({int(share * world.steps) for share in SHARES}))

    def onset(self, found: Pairs) -> int | None:
        """The least step from which on, as far as was looked, the copies are stable."""
        least = None
        for step in sorted(found, reverse=True):
            height = self._height(found[step])
            if height is None or height >= self.threshold:
                break
            least = step
        return least

    def _height(self, pairs: Sequence[Pair]) -> float | None:
        """The barrier that decides."""
        judged = self.splits[0], self.statistics[0]
        return mean_of([barrier(pair.errors(judged)) for pair in pairs])

    def _next(self, found: Pairs, world: World) -> int | None:
        """The middle of the interval in which stability begins; None where that is narrow enough,
        or it begins at no step that was looked at."""
        if self.within is None or (onset := self.onset(found)) is None:
            return None
        below = max((step for step in found if step < onset), default=onset)
        narrow = max(1.0, self.within * world.steps)
        return None if onset - below <= narrow else (below + onset) // 2

    # -- what is shown -----------------------------------------------------------------------

    def show(self, question: Question, found: Sequence[Found]) -> Shown:
        """See `Probe`."""
        kinds = list(product(self.arms, self.noises))
        places = list(product(self.splits, self.statistics))
        at = list(product(kinds, places, self.steps_in(question.world)))
        tables = [
            barriers_table(found, at),
            self._onset_table(found, kinds),
            paths_table(found, at, self.points),
        ]
        if self.within is not None:
            tables.append(self._search_table(question, found, kinds))
        charts = [
            *(barrier_chart(noise, place, self) for place, noise in product(places, self.noises)),
            *(
                path_chart(kind, (self.splits[-1], how), self)
                for kind, how in product(kinds, self.statistics)
            ),
        ]
        pairs = [pair for seed in found for of in seed.values() for pair in pairs_in(of)]
        return Shown(
            tables=tuple(tables),
            charts=tuple(charts),
            notes=self._notes(question, found),
            checks={"ends_exact": any(pair.ends_exact for pair in pairs) or None},
        )

    def _onset_table(self, found: Sequence[Found], kinds: Sequence[Kind]) -> Table:
        rows = tuple(
            Row(
                place={"arm": arm, "noise": noise},
                metrics={"onset_step": [self.onset(seed[arm, noise]) for seed in found]},
            )
            for arm, noise in kinds
        )
        title = "The first step from which on copies are stable"
        return Table(name="onset", title=title, rows=rows, printed=("onset_step",))

    def _search_table(
        self, question: Question, found: Sequence[Found], kinds: Sequence[Kind]
    ) -> Table:
        """Every step that was looked at: in a search each seed has its own, so n = 1."""
        rows = tuple(
            Row(
                place={"arm": kind[0], "noise": kind[1], "seed": seed, "step": step},
                metrics={"error_barrier": [self._height(pairs)]},
            )
            for kind in kinds
            for seed, of in zip(question.seeds, found, strict=True)
            for step, pairs in sorted(of[kind].items())
        )
        return Table(name="search", title="Steps that the search looked at", rows=rows)

    def _notes(self, question: Question, found: Sequence[Found]) -> tuple[str, ...]:
        """How the numbers are to be read."""
        turn = question.judged_round if self.round is None else self.round
        notes = [
            f"Stable: an error barrier below {self.threshold:g} on {self.splits[0]} data; the end "
            "error is the mean of both copies."
        ]
        if set(self.arms) - {DENSE}:
            density = question.targets[turn].density
            notes.append(
                f"Subnetworks are of round {turn}, density {density:.4g}, each found with rewinding"
                " to step k."
            )
        if any(self.onset(of) is None for seed in found for of in seed.values()):
            notes.append("An onset is the mean over the seeds that have one; the rest have none.")
        return tuple(notes)


STABILITY = Stability()

ONSET = Stability(
    name="onset",
    summary="the least step k from which on copies end in one minimum, searched by halving",
    within=0.01,
)
