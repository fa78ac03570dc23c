"""What a study asks: which arms, of which recipe, on which world, for which seeds, judged how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from tombola.errors import CallError, RecipeError, VerdictError
from tombola.lab.runner import Pending
from tombola.lab.verdict import MATCHING, TICKET, Matches, Rule
from tombola.pieces.schedule import Densities, Target, at_or_below
from tombola.recipes.controls import Control, Dense, Reinit, Shuffle, control_loop
from tombola.recipes.job import Loop, R, jobs_in
from tombola.recipes.recipe import Recipe, Round
from tombola.values.digest import digest
from tombola.world.world import World, initial_params


@dataclass(frozen=True)
class Trial:
    """One arm with one seed; a control beside the ticket is one trial for each round."""

    arm: str
    seed: int
    round: int | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """A study before it is run.

    arms: name -> control, or another recipe that is trained at the same targets; the ticket is
    always among them. controls_at: "judged" for the judged round and two others, "all" for all.

    Raises:
        CallError: no seeds, a seed twice, an arm that is neither control nor recipe.
        VerdictError: a rule that needs an arm or a metric there will not be.
        RecipeError: a recipe that cannot be applied to the world, a control that cannot stand
            beside it.
    """

    recipe: Recipe
    world: World
    seeds: tuple[int, ...]
    arms: Mapping[str, Control | Recipe] = field(
        default_factory=lambda: {arm.name: arm for arm in (Dense(), Reinit(), Shuffle())}
    )
    rule: Rule = MATCHING
    controls_at: str = "judged"

    def __post_init__(self) -> None:
        if not self.seeds:
            raise CallError("seeds: got none; want at least one, for example --seeds 5.")
        for seed in self.seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                raise CallError(f"seeds: got {seed!r}; want whole numbers, 0 or more.")
        if len(set(self.seeds)) < len(self.seeds):
            raise CallError(f"seeds: {list(self.seeds)} has one twice; a seed counts once.")
        if self.controls_at not in ("judged", "all"):
            raise CallError(f"controls_at={self.controls_at!r}: want 'judged' or 'all'.")
        self.recipe.check(self.world)
        self._check_rule()
        for arm in self.arms.values():
            if isinstance(arm, Recipe):
                self._aligned(arm).check(self.world)
            elif arm.beside and "begin" in arm.claims:
                self._check_draws(arm.name)
        _ = self.rehearsed  # what cannot stand beside the recipe says so now
        for recipe in (self.recipe, *(a for a in self.arms.values() if isinstance(a, Recipe))):
            own = recipe if recipe is self.recipe else self._aligned(recipe)
            rehearsed(own.loop(own, self.world, self.seeds[0]))  # and what its loop refuses

    def _aligned(self, other: Recipe) -> Recipe:
        """Another recipe at this one's densities; how they are shared out among tensors stays its
        own, where its schedule leaves that to its rule."""
        schedule = self.recipe.schedule
        if isinstance(other.schedule, Densities):
            later = tuple(target.density for target in self.targets if target.round)
            schedule = Densities(values=later)
        return replace(other, schedule=schedule, scope=self.recipe.scope)

    def _check_draws(self, name: str) -> None:
        one, other = (
            initial_params(self.world, self.seeds[0], *draw) for draw in ((), ("draw", 1))
        )
        if one.digest == other.digest:
            raise RecipeError(
                f"arm {name!r}: the model of world {self.world.name!r} has the same initial values "
                "at every draw, so there are no fresh ones. Leave the arm out, or draw them from "
                "torch's random generator when the network is made."
            )

    def _check_rule(self) -> None:
        """Refuse, before anything is trained, a rule that could not be applied afterwards."""
        measured = metric_names(self.world)
        for condition in self.rule.conditions:
            if isinstance(condition, Matches) and condition.arm not in self.arms:
                raise VerdictError(
                    f"rule {self.rule.name!r} cannot do without the arm {condition.arm!r}; the "
                    f"arms are {['ticket', *self.arms]}. Train it with --arms "
                    f"{','.join([TICKET, *self.arms, condition.arm])}, or judge by another rule."
                )
            if condition.metric not in measured:
                raise VerdictError(
                    f"rule {self.rule.name!r} looks at {condition.metric!r}, world "
                    f"{self.world.name!r} measures {list(measured)}. Judge by another rule, for "
                    f'example rule=tombola.matching({measured[0]!r}, better="less").'
                )

    @cached_property
    def digest(self) -> str:
        """Identity of the study."""
        return digest(
            [
                "study",
                1,
                self.recipe,
                self.world,
                self.world.rate_of,
                self.world.ranks_together,
                self.world.unpruned,
                self.world.judged_density,
                self.world.margin,
                self.seeds,
                self.arms,
                self.rule,
                self.control_rounds,
                *([["pruned", self.world.pruned]] if self.world.pruned else []),
                *self._other_worlds,
            ]
        )

    @property
    def _other_worlds(self) -> list[str]:
        """Digests of the worlds other than the study's own that controls train in."""
        found = {turn.job.world.digest for turns in self.rehearsed.values() for turn in turns}
        return sorted(found - {self.world.digest})

    @cached_property
    def rehearsed(self) -> dict[Trial, tuple[Round, ...]]:
        """What controls will train with the first seed, in outline: nothing is run, so weights and
        masks have no content.

        Raises:
            RecipeError: one of them cannot stand beside the recipe.
        """
        loops = (
            self._control_loops(name, arm, self.seeds[0])
            for name, arm in self.arms.items()
            if not isinstance(arm, Recipe)
        )
        return {trial: rehearsed(loop) for found in loops for trial, loop in found.items()}

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        return self.recipe.targets(self.world)

    def target(self, arm: str, number: int) -> Target:
        """What an arm keeps at a round, also where it was not reached."""
        for trial, turns in self.rehearsed.items():
            for turn in turns:
                if (trial.arm, turn.target.round) == (arm, number):
                    return turn.target
        return self.targets[number]

    @cached_property
    def total(self) -> int:
        """Number of weights that density is a fraction of."""
        return sum(layer.count for layer in self.recipe.layers(self.world))

    @cached_property
    def judged_round(self) -> int:
        """The first round at or below the world's judged density, else the last."""
        layers = self.recipe.counted(self.world)
        for target in self.targets:
            if target.round and at_or_below(target, self.world.judged_density, layers):
                return target.round
        return self.targets[-1].round

    @cached_property
    def control_rounds(self) -> tuple[int, ...]:
        """Where controls are trained."""
        judged, last = self.judged_round, self.targets[-1].round
        if self.controls_at == "all":
            return tuple(range(1, last + 1))
        others = (
            (round(judged / 2), last)
            if last > judged
            else (round(judged / 3), round(2 * judged / 3))
        )
        return tuple(sorted({judged, *(number for number in others if number > 0)}))

    def loops(self) -> dict[Trial, Loop[tuple[Round, ...]]]:
        """Every trial's generator: the tickets first, the longest chains of work."""
        recipe, world, loops = self.recipe, self.world, dict[Trial, Loop[tuple[Round, ...]]]()
        for seed in self.seeds:
            loops[Trial(TICKET, seed)] = recipe.loop(recipe, world, seed)
        for name, arm in self.arms.items():
            for seed in self.seeds:
                if isinstance(arm, Recipe):
                    other = self._aligned(arm)
                    loops[Trial(name, seed)] = other.loop(other, world, seed)
                else:
                    loops |= self._control_loops(name, arm, seed)
        return loops

    def _control_loops(
        self, name: str, arm: Control, seed: int
    ) -> dict[Trial, Loop[tuple[Round, ...]]]:
        """A control with one seed: once, or beside each of the control rounds."""
        recipe, world = self.recipe, self.world
        if not arm.beside:
            return {Trial(name, seed): control_loop(arm, recipe, world, seed)}
        return {
            Trial(name, seed, number): control_loop(arm, recipe.up_to(number), world, seed)
            for number in self.control_rounds
        }


def rehearsed(loop: Loop[R]) -> R:
    """What a loop returns where all results are placeholders; nothing is run."""
    answer = None
    while True:
        try:
            asked = loop.send(answer)
        except StopIteration as end:
            returned: R = end.value
            return returned
        results = tuple(job.placeholder(Pending) for job in jobs_in(asked))
        answer = results if isinstance(asked, tuple) else results[0]


def metric_names(world: World) -> tuple[str, ...]:
    """What is known of every trial: the test metrics of both states, and the stop step."""
    names = [metric.name for metric in world.objective.metrics]
    return (
        *(f"test_{name}" for name in names),
        "stop_step",
        *(f"stop_test_{name}" for name in names),
    )


MOST_SEEDS = 10_000  # more is a slip of the finger, and would fill the memory before it trains


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """A number of seeds means 0, 1, ...; a sequence is taken as it is.

    >>> seeds_of(3), seeds_of([4, 7])
    ((0, 1, 2), (4, 7))
    """
    if isinstance(seeds, int):
        if not 1 <= seeds <= MOST_SEEDS:
            raise CallError(f"seeds={seeds}: want at least one, at most {MOST_SEEDS:,}.")
        return tuple(range(seeds))
    return tuple(seeds)
