"""Recipe, and the two loops: cut after training (`iterate`), cut first (`grow`)."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from tombola.errors import RecipeError, WorldError
from tombola.pieces.basis import basis_of, counted
from tombola.pieces.dynamics import Dynamics, Ending, Static, Thinning
from tombola.pieces.kind import not_a
from tombola.pieces.parametrisation import Identity, Parametrisation
from tombola.pieces.rewind import Rewind, ToStep
from tombola.pieces.rule import ByScore, Rule
from tombola.pieces.schedule import LayerRates, Schedule, Target, UpTo, round_half_up
from tombola.pieces.scope import Scope
from tombola.pieces.score import Magnitude, Need
from tombola.pieces.setting import Setting
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Init, Prune, Pruned, Train, Trained
from tombola.recipes.worlds import at_last_rate
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.rng import borrowed_generators
from tombola.values.units import expanded
from tombola.world.facts import facts
from tombola.world.objective import Objective
from tombola.world.switched import Switched, stages
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Round:
    """One turn: what was asked for, the training that answered, and its end.

    spent: optimiser steps it took in all to find and train this, from the initial values on. cut:
    how the mask came to be, None for the whole network. draw: number of the draw, for controls that
    are drawn more than once at a round.
    """

    target: Target
    job: Train
    end: Trained
    spent: int
    cut: Pruned | None = None
    draw: int = 0


_PIECES: dict[str, type] = {
    "rule": Rule,
    "scope": Scope,
    "schedule": Schedule,
    "rewind": Rewind,
    "retrain": Objective,
    "parametrisation": Parametrisation,
    "dynamics": Dynamics,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published method: pieces, and the loop that uses them.

    name, source: for people; not part of the identity. retrain: the objective of every training
    after the first cut, where it differs from the world's, or changes on the way (`Switched`); what
    it names as given is the dense network of the same seed. loop: a generator function (recipe,
    world, seed) of jobs.

    Raises:
        RecipeError: a piece that is not of its kind.
    """

    name: str = field(metadata={"identity": False})
    source: str = field(metadata={"identity": False})
    loop: Callable[["Recipe", World, int], Loop[tuple[Round, ...]]]
    rule: Rule = field(default_factory=lambda: ByScore(score=Magnitude()))
    scope: Scope = field(default_factory=Scope)
    schedule: Schedule = field(default_factory=LayerRates)
    rewind: Rewind = field(default_factory=ToStep)
    retrain: Objective | Switched | None = None
    parametrisation: Parametrisation = field(default_factory=Identity)
    dynamics: Dynamics = field(default_factory=Static)

    def __post_init__(self) -> None:
        for what in ("name", "source"):
            if not isinstance(getattr(self, what), str):
                raise RecipeError(f"Recipe({what}={getattr(self, what)!r}): want a text.")
        if not inspect.isgeneratorfunction(inspect.unwrap(self.loop)):
            raise RecipeError(
                f"recipe {self.name!r}: loop={self.loop!r:.60}: want a generator function, such as "
                "tombola.recipes.recipe.iterate."
            )
        for what, kind in _PIECES.items():
            piece = getattr(self, what)
            given = what == "retrain" and (piece is None or isinstance(piece, Switched))
            wrong = None if given else not_a(kind, piece)
            if wrong:
                raise RecipeError(f"recipe {self.name!r}: {what}: {wrong}.")

    def layers(self, world: World) -> tuple[Layer, ...]:
        """What may be cut; its weights are the denominator of density."""
        return self.scope.select(world.layers)

    def counted(self, world: World) -> tuple[Layer, ...]:
        """What targets count: those tensors, by weights, or the rule's sets of units."""
        return counted(self.rule, self.layers(world), lambda: world.coupling)

    def targets(self, world: World) -> tuple[Target, ...]:
        """What each round keeps. Where the world ranks all tensors together, in all: how that is
        shared out among tensors is then for the rule."""
        targets = self.schedule.targets(self.counted(world), world.judged_density)
        if world.ranks_together:
            return tuple(replace(target, counts=None) for target in targets)
        return targets

    def size(self, world: World, target: Target) -> int | None:
        """How many weights a target keeps; None where only the cut will tell."""
        counts, layers = self.counted(world), self.layers(world)
        asked, basis = self.rule.asks(counts, target), basis_of(self.rule)
        if basis is None:
            return asked if isinstance(asked, int) else sum(asked.values())
        if isinstance(asked, int):
            return None
        units = Mask(
            {x.name: (torch.arange(x.count) < asked[x.name]).reshape(x.shape) for x in counts}
        )
        shapes = {layer.name: layer.shape for layer in layers}
        mask = expanded(units, basis.sets(layers, lambda: world.coupling), shapes)
        return sum(mask.kept(layer.name, layer.count) for layer in layers)

    def up_to(self, round_number: int) -> "Recipe":
        """The same recipe, ending after a round; every job it asks for is one of the whole's."""
        return replace(self, schedule=UpTo(of=self.schedule, round=round_number))

    def check(self, world: World) -> None:
        """Raise RecipeError if this recipe cannot be applied to this world; trains nothing."""
        cuts_to_zero = self.parametrisation.cuts_to_zero
        setting = setting_of(
            world, self.layers(world), self.counted(world), self.targets(world), cuts_to_zero
        )
        total = sum(layer.count for layer in setting.counted)
        what = "weights" if basis_of(self.rule) is None else "units"
        for target in setting.targets:
            if round_half_up(target.density * total) == 0:
                raise RecipeError(
                    f"recipe {self.name!r} on world {world.name!r}: density {target.density:g} of "
                    f"round {target.round} keeps none of {total} {what}; want at least "
                    f"{1 / total:.2g}."
                )
        for piece in (self.rule, self.dynamics, self.parametrisation, self.rewind):
            reason = piece.refuses(setting)
            if reason:
                raise RecipeError(f"recipe {self.name!r} on world {world.name!r}: {reason}")
        if self.dynamics.moves and not self.parametrisation.cuts_to_zero:
            raise RecipeError(
                f"recipe {self.name!r}: {type(self.dynamics).__name__} moves the mask, but "
                f"{type(self.parametrisation).__name__} freezes what it cuts when training starts; "
                "want one of the two."
            )
        if self.dynamics.moves and basis_of(self.rule) is not None:
            raise RecipeError(
                f"recipe {self.name!r}: {type(self.dynamics).__name__} moves single weights, which "
                f"takes the units of {type(self.rule).__name__} apart; want Static()."
            )
        if self.loop is grow and Need.TRAINED in self.rule.needs:
            raise RecipeError(
                f"recipe {self.name!r}: its rule needs {Need.TRAINED.value}, but `grow` cuts first."
            )
        if self.loop is grow and self.retraining(world).given:
            raise RecipeError(
                f"recipe {self.name!r}: its objective needs {sorted(self.retraining(world).given)} "
                "from a dense training, but `grow` has none."
            )
        _ = self.world_after(world)
        self._check_retraining(world)

    def world_after(self, world: World) -> World:
        """The world as every training after the first cut has it: with the last learning rate, if
        the rewind holds it, else as it is."""
        if not self.rewind.holds_rate:
            return world
        return at_last_rate(world, f"recipe {self.name!r}")

    def retraining(self, world: World) -> Objective | Switched:
        return world.objective if self.retrain is None else self.retrain

    def _check_retraining(self, world: World) -> None:
        """Try what retraining minimises on two examples, with the untrained network as `given`."""
        if self.retrain is None:
            return
        begin = self.rewind.step if self.rewind.returns else 0
        if isinstance(self.retrain, Switched) and not begin < self.retrain.at <= world.steps:
            raise RecipeError(
                f"recipe {self.name!r} on world {world.name!r}: Switched(at={self.retrain.at}) "
                f"changes the objective at a step that retraining, {begin} to {world.steps}, does "
                f"not reach; want {begin + 1} to {world.steps}."
            )
        network = world.new_network(0).eval()
        with torch.no_grad(), world.numerics.in_force(), borrowed_generators():
            batch = world.batch(world.train, torch.arange(min(2, len(world.train))))
            for objective, _ in stages(self.retrain, begin, world.steps):
                try:
                    objective.loss(network, batch, dict.fromkeys(objective.given, network))
                except (WorldError, RuntimeError) as error:
                    raise RecipeError(
                        f"recipe {self.name!r} on world {world.name!r}: its tickets cannot be "
                        f"retrained so: {error}"
                    ) from error


def setting_of(
    world: World,
    layers: tuple[Layer, ...],
    counted: tuple[Layer, ...],
    targets: tuple[Target, ...],
    cuts_to_zero: bool,
) -> Setting:
    """What a piece is told of a world and a recipe."""
    found = facts(world)
    return Setting(
        layers=layers,
        counted=counted,
        targets=targets,
        examples=len(world.train),
        steps=world.steps,
        objective=type(world.objective).__name__,
        cuts_to_zero=cuts_to_zero,
        outputs=found.outputs,
        fed=found.fed,
        beside=found.beside,
        zero=found.zero,
    )


def opening(recipe: Recipe, world: World, seed: int) -> Loop[tuple[Point, Point]]:
    """The initial point, and the early one whose weights a rewind returns to."""
    start = yield Init(world, seed)
    init = Point(start.params, None, 0)
    if recipe.rewind.step == 0:
        return init, init
    leg = yield Train(world, seed, init, FULL, recipe.rewind.step, world.objective)
    return init, leg.point


def iterate(recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
    """Train, cut, rewind; once for each target of the schedule."""
    layers, where = recipe.layers(world), world
    objective: Objective | Switched = world.objective
    given: dict[str, Handle[Params]] = {}
    parametrisation: Parametrisation = Identity()
    init, early = yield from opening(recipe, world, seed)
    mask: Handle[Mask] = FULL
    cut: Pruned | None = None
    begin, rounds, spent = init, list[Round](), 0
    for target in recipe.targets(world):
        if target.round:
            end = rounds[-1].end
            cut = yield Prune(
                world, seed, recipe.rule, layers, target, init.params, end.params, mask
            )
            mask, begin = cut.mask, recipe.rewind.point(early, end.point, cut.params)
            objective, where = recipe.retraining(world), recipe.world_after(world)
            given = dict.fromkeys(sorted(objective.given), rounds[0].end.params)
            parametrisation = recipe.parametrisation
        job = Train(where, seed, begin, mask, world.steps, objective, given, parametrisation)
        end = yield job
        spent += job.steps
        rounds.append(Round(target=target, job=job, end=end, spent=spent, cut=cut))
        if end.diverged:
            break
    return tuple(rounds)


def grow(recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
    """Cut first, then train once with dynamics or a parametrisation; targets stand side by side.

    A dynamics that thins out begins from a cut of its own, and is told what the target asks for.
    """
    layers, objective = recipe.layers(world), recipe.retraining(world)
    targets = [target for target in recipe.targets(world) if target.round]
    init = (yield Init(world, seed)).params

    def cut_to(target: Target) -> Prune:
        return Prune(world, seed, recipe.rule, layers, target, init, init, FULL)

    cuts = yield tuple(cut_to(target) for target in targets)
    starts, dynamics = cuts, [recipe.dynamics for _ in targets]
    if isinstance(recipe.dynamics, Thinning):
        thinning = recipe.dynamics
        opening = [thinning.opening(target.density) for target in targets]
        starts = yield tuple(
            cut_to(replace(target, density=density, counts=None))
            for target, density in zip(targets, opening, strict=True)
        )
        asked = [recipe.rule.asks(layers, target) for target in targets]
        dynamics = [thinning.ending_with(Ending(layers=layers, asked=kept)) for kept in asked]
    jobs = tuple(
        Train(
            world,
            seed,
            Point(init if start.params is None else start.params, None, 0),
            start.mask,
            world.steps,
            objective,
            parametrisation=recipe.parametrisation,
            dynamics=moving,
        )
        for start, moving in zip(starts, dynamics, strict=True)
    )
    ends = yield jobs
    return tuple(
        Round(target=target, job=job, end=end, spent=job.steps, cut=cut)
        for target, job, end, cut in zip(targets, jobs, ends, cuts, strict=True)
    )
