"""Early-bird tickets: channels are cut as soon as it is settled which, and training goes on.

A loop of its own: neither of the two others looks at a training while it runs, and here how long
the whole network trains depends on what is seen.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

from tombola.errors import RecipeError
from tombola.pieces.by_scale import ByScale
from tombola.pieces.rewind import FromCut, Stay
from tombola.pieces.schedule import Densities, Target
from tombola.pieces.settling import WhenSettled, mask_distance
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Init, Prune, Pruned, Train
from tombola.recipes.recipe import Recipe, Round
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.world.slimming import Slimming, normalisation_scales
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Compared:
    """distances: of the newest mask to each of the ones before, the nearest in time first."""

    distances: list[float]


@dataclass(frozen=True, kw_only=True)
class Compare:
    """How far a mask is from earlier ones. layers: what the masks are over."""

    kind: ClassVar[str] = "compare-masks"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    newest: Handle[Mask]
    before: tuple[Handle[Mask], ...]
    layers: tuple[Layer, ...]

    def run(self, desk: Desk) -> Compared:
        newest = self.newest.load()
        others = [mask.load() for mask in self.before]
        return Compared(distances=[mask_distance(newest, one, self.layers) for one in others])

    def placeholder(self, pending: Any) -> Compared:
        return Compared(distances=[1.0] * len(self.before))  # a plan is of the longest search


@dataclass(frozen=True, kw_only=True)
class Search:
    """What was seen on the way to a cut.

    cuts: by step, each that was tried. settled_at: the step of the last of them if masks had
    settled there; None if the training was over before. params: of the whole network at that step.
    """

    target: Target
    cuts: dict[int, Pruned]
    settled_at: int | None
    params: Handle[Params]

    @property
    def step(self) -> int:
        """The step of the cut."""
        return max(self.cuts)


def slimmed(world: World) -> Slimming:
    """The world's objective, with a pull on the scales of all its normalisation layers.

    Raises:
        RecipeError: the network has none.
    """
    network = world.new_network(0)
    scales = normalisation_scales(network)
    if not scales:
        raise RecipeError(
            f"early-bird tickets are drawn by the scales of normalisation layers, and "
            f"{type(network).__name__} of world {world.name!r} has none. Put nn.BatchNorm2d or "
            "nn.BatchNorm1d behind its layers, or take a world that has them, such as "
            "cifar10-vgg19 or cifar10-resnet20."
        )
    return Slimming(of=world.objective, scales=scales)


def search(recipe: Recipe, world: World, seed: int) -> Loop[tuple[Search, ...] | None]:
    """Train the whole network until the masks of each target have settled; None if it diverges.

    Targets are tracked side by side on one training; without settling the cut is that of the end.
    """
    rule, layers, objective = recipe.rule, recipe.layers(world), slimmed(world)
    if not isinstance(rule, WhenSettled):
        raise RecipeError(
            f"recipe {recipe.name!r}: its loop waits for masks to settle; want the rule as "
            "WhenSettled(of=...)."
        )
    init = (yield Init(world, seed)).params
    counts, every = recipe.counted(world), rule.every or world.steps_per_epoch
    open_ = [target for target in recipe.targets(world) if target.round]
    cuts: dict[int, dict[int, Pruned]] = {target.round: {} for target in open_}
    queues = {t.round: deque[Handle[Mask]](maxlen=rule.window) for t in open_}
    found: dict[int, Search] = {}
    for step in steps_looked_at(world, every):
        leg = yield Train(world, seed, Point(init, None, 0), FULL, step, objective)
        if leg.diverged:
            return None
        made: tuple[Pruned, ...] = yield tuple(
            Prune(world, seed, rule, layers, target, init, leg.params, FULL) for target in open_
        )
        for target, cut in zip(open_, made, strict=True):
            cuts[target.round][step] = cut
            queues[target.round].append(cut.mask if cut.units is None else cut.units)
        seen = [list(queues[target.round])[::-1] for target in open_]
        compared: tuple[Compared, ...] = yield tuple(
            Compare(newest=masks[0], before=tuple(masks[1:]), layers=counts) for masks in seen
        )
        for target, result in zip(open_, compared, strict=True):
            settled = rule.settled(result.distances, target.density)
            at = step if settled else None
            found[target.round] = Search(
                target=target, cuts=cuts[target.round], settled_at=at, params=leg.params
            )
        open_ = [target for target in open_ if found[target.round].settled_at is None]
        if not open_:
            break
    return tuple(found[number] for number in sorted(found))


def steps_looked_at(world: World, every: int) -> list[int]:
    """Each time so many steps are over, and at the end where there is no such time.

    >>> from tombola.testing import toy_world
    >>> steps_looked_at(toy_world(steps=60), 25), steps_looked_at(toy_world(steps=60), 90)
    ([25, 50], [60])
    """
    return list(range(every, world.steps + 1, every)) or [world.steps]


def early_bird(recipe: Recipe, world: World, seed: int) -> Loop[tuple[Round, ...]]:
    """Search, cut, and train what is left; targets stand side by side.

    Steps spent are those of the search, up to the cut, and of the training after it.
    """
    searched: tuple[Search, ...] | None = yield from search(recipe, world, seed)
    if searched is None:
        return ()
    init = (yield Init(world, seed)).params
    start, objective = Point(init, None, 0), slimmed(world)
    jobs, cuts = [], []
    for one in searched:
        cut = one.cuts[one.step]
        begin = recipe.rewind.point(start, Point(one.params, None, one.step), cut.params)
        jobs.append(Train(world, seed, begin, cut.mask, world.steps, objective))
        cuts.append(cut)
    ends = yield tuple(jobs)
    return tuple(
        Round(target=one.target, job=job, end=end, spent=one.step + job.steps, cut=cut)
        for one, job, end, cut in zip(searched, jobs, ends, cuts, strict=True)
    )


SOURCE = (
    "You et al. 2020, Drawing Early-Bird Tickets (arXiv 1909.11957): channels with small "
    "normalisation scales go as soon as it is settled which"
)

EARLY_BIRD = Recipe(
    name="early-bird",
    source=f"{SOURCE}; weights and schedule go on from there; densities count channels",
    loop=early_bird,
    rule=WhenSettled(of=ByScale()),
    schedule=Densities(values=(0.7, 0.5, 0.3)),
    rewind=Stay(retrain=0),
)

EARLY_BIRD_RESET = Recipe(
    name="early-bird-reset",
    source=f"{SOURCE}; then back to the initial values, for the whole schedule",
    loop=early_bird,
    rule=WhenSettled(of=ByScale()),
    schedule=Densities(values=(0.7, 0.5, 0.3)),
    rewind=FromCut(),
)
