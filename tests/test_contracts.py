"""Every piece and every recipe through the public contract checks; and the checks themselves."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import tombola.pieces.action as actions
import tombola.pieces.allocation as allocations
import tombola.pieces.dynamics as dynamics
import tombola.pieces.parametrisation as parametrisations
import tombola.pieces.schedule as schedules
import tombola.pieces.score as scores
import tombola.recipes as recipes
from tombola.errors import CheckError
from tombola.lookup import find_recipe
from tombola.pieces.action import (
    Action,
    Constant,
    FanIn,
    KeepSign,
    Noise,
    Reinit,
    Resample,
    Rescaled,
    Reshuffle,
    Rewound,
    Site,
    ZeroShrunk,
)
from tombola.pieces.allocation import (
    ERK,
    Allocation,
    ByRate,
    BySensitivity,
    Global,
    Uniform,
)
from tombola.pieces.basis import Blocks, basis_of
from tombola.pieces.by_scale import ByScale
from tombola.pieces.by_units import ByUnits, Pool
from tombola.pieces.dynamics import (
    ACDC,
    SET,
    SNFS,
    DeepR,
    Dynamics,
    Gradual,
    GraNet,
    Moment,
    Move,
    RigL,
    Static,
)
from tombola.pieces.greedy import GreedySelection
from tombola.pieces.layerwise import LayerwiseLeastSquares
from tombola.pieces.n_of_m import NOfM
from tombola.pieces.parametrisation import (
    EdgePopup,
    Frozen,
    Identity,
    MultiPrize,
    Parametrisation,
    Ranking,
    Supermask,
    Weights,
)
from tombola.pieces.restarting import Restarting
from tombola.pieces.rewind import Stay, ToStep
from tombola.pieces.rule import ByScore, Cut, Rule
from tombola.pieces.schedule import (
    DENSE,
    Cubic,
    Densities,
    Geometric,
    LayerRates,
    Linear,
    Schedule,
    Target,
    UpTo,
)
from tombola.pieces.scope import Scope
from tombola.pieces.score import (
    LAMP,
    OBD,
    Both,
    BySign,
    DiagonalFisher,
    Force,
    Gradient,
    GraSP,
    Magnitude,
    MagnitudeIncrease,
    Movement,
    Probe,
    ProsPr,
    Random,
    Reversed,
    Saliency,
    Score,
    Sign,
    Snapshot,
    SynFlow,
    When,
)
from tombola.pieces.setting import Setting
from tombola.pieces.settling import WhenSettled
from tombola.pieces.stepwise import Stepwise
from tombola.pieces.surgeon import OptimalBrainSurgeon
from tombola.pieces.woodfisher import Update, WoodFisher
from tombola.recipes import (
    BERT_TICKET,
    FREEZE_GROWN,
    IMP,
    IMP_CONTINUED,
    IMP_REWIND,
    KD_LR_REWIND,
    KD_REWIND,
    KD_TICKET,
    ONESHOT,
    PROSPR,
    RIGL,
    SNIP,
    Recipe,
)
from tombola.recipes.catalogue import (
    FORESIGHT,
    RENDA_2020,
    SECOND_ORDER,
    SPARSE_TRAINING,
    UNTRAINED,
    ZHOU_2019,
)
from tombola.recipes.early_bird import EARLY_BIRD, EARLY_BIRD_RESET
from tombola.recipes.greedy import GREEDY, GREEDY_RETRAINED
from tombola.recipes.job import Loop, NoDesk
from tombola.recipes.jobs import Init, Prune
from tombola.testing import (
    LAYERS,
    check_action,
    check_allocation,
    check_dynamics,
    check_parametrisation,
    check_recipe,
    check_rule,
    check_schedule,
    check_score,
    toy_world,
)
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.units import Role
from tombola.world.models import LeNet
from tombola.world.optimiser import SGD
from tombola.world.switched import Switched
from tombola.world.world import World

SCORES: list[Score] = [
    Magnitude(),
    Random(),
    Saliency(),
    Saliency(batches=3, batch_size=7),
    LAMP(),
    LAMP(of=Saliency(batch_size=30)),
    Magnitude(when=When.START),
    Gradient(when=When.START),
    MagnitudeIncrease(),
    Movement(),
    Reversed(of=Magnitude()),
    Both(first=Magnitude(when=When.START), second=Magnitude()),
    BySign(of=MagnitudeIncrease()),
    BySign(of=Saliency(), sign=Sign.DIFFERENT),
    Force(),
    GraSP(),
    GraSP(batches=2, batch_size=20, temperature=1.0),
    SynFlow(),
    ProsPr(batch_size=40),
    ProsPr(steps=4, batches=2, batch_size=20, momentum=0.9),
    OBD(examples=4),
    DiagonalFisher(gradients=10),
]
SCANNED = BySensitivity(
    curves={
        **{layer.name: ((0.5, 0.2), (0.1, 1.0 + i)) for i, layer in enumerate(LAYERS)},
        **{str(i): ((0.5, 0.1), (0.1, 0.1 * i)) for i in range(3)},
        **{f"layers.{i}.weight": ((0.3, 0.0), (0.1, 2.0 - i)) for i in range(3)},
    }
)
ALLOCATIONS: list[Allocation] = [Global(), Uniform(), ERK(), ByRate(), SCANNED]
SCHEDULES: list[Schedule] = [
    LayerRates(),
    LayerRates(rounds=1),
    LayerRates(rounds=30),
    Geometric(),
    Geometric(keep=0.5, rounds=9),
    Linear(cut=0.01),
    Linear(rounds=9),
    Cubic(rounds=1),
    Cubic(rounds=7, final=0.01),
    Densities(),
    Densities(values=(0.5, 0.5, 0.01)),
    UpTo(of=LayerRates(), round=3),
    UpTo(of=Densities(), round=0),
]
ACTIONS: list[Action] = [
    Rewound(),
    Reinit(),
    Reshuffle(),
    Resample(),
    Constant(),
    FanIn(),
    Noise(),
    ZeroShrunk(),
    KeepSign(of=Reshuffle()),
    Rescaled(of=KeepSign(of=Constant()), power=0.5),
]
FEW = OptimalBrainSurgeon(examples=5)
BY_RATE = ByScore(score=Magnitude(), allocation=ByRate())
RULES: list[Rule] = [
    *(
        ByScore(score=score, allocation=one)
        for score in SCORES
        for one in ALLOCATIONS
        if one is not SCANNED
    ),
    FEW,
    WoodFisher(gradients=6),
    WoodFisher(gradients=6, block=50, steps=2, update=Update.SINGLE, allocation=ERK()),
    LayerwiseLeastSquares(batches=2, batch_size=20),
    LayerwiseLeastSquares(batches=1, batch_size=20, columns=None, allocation=ERK()),
    Stepwise(score=OBD(examples=3), steps=2),
    Stepwise(score=SynFlow(), steps=7),
    Stepwise(score=Saliency(), steps=3, allocation=ERK()),
    Stepwise(score=Force(), steps=3, revives=True),
    Restarting(rule=ByScore(score=Magnitude()), kept=KeepSign(of=Reinit())),
    Restarting(rule=FEW, kept=ZeroShrunk()),
]
UNITS: list[Rule] = [
    ByUnits(score=Magnitude()),
    ByUnits(score=Saliency(), pool=Pool.L2, roles=(Role.MADE,)),
    ByUnits(score=Random(), allocation=Uniform(), relative=False, least=2),
    ByUnits(score=GraSP(), basis=Blocks(rows=1, columns=2)),
    Restarting(rule=ByUnits(score=Magnitude()), kept=Reinit()),
    GreedySelection(examples=50),
    GreedySelection(examples=100, rows=60, repetition=False, allocation=ERK()),
]
SCALED: list[Rule] = [ByScale(), ByScale(allocation=Uniform(), least=2), WhenSettled(of=ByScale())]
FREEZING: list[Rule] = [
    Restarting(rule=ByScore(score=Magnitude()), frozen_at=Rewound()),
    Restarting(rule=ByScore(score=Random()), kept=Noise(), frozen_at=ZeroShrunk()),
]
PARAMETRISATIONS: list[Parametrisation] = [
    Identity(),
    EdgePopup(),
    EdgePopup(weights=Weights.AS_IS, ranking=Ranking.TOGETHER),
    EdgePopup(weights=Weights.KAIMING, scaled=True),
    Supermask(),
    Supermask(weights=Weights.SIGNED_CONSTANT, rescaled=False),
    MultiPrize(),
    MultiPrize(search=EdgePopup(ranking=Ranking.TOGETHER)),
    Frozen(),
]
DYNAMICS: list[Dynamics] = [
    Static(),
    RigL(every=10),
    RigL(every=7, drop=0.9, until=1.0),
    SET(every=10),
    SNFS(every=10),
    DeepR(penalty=0.1),
    Gradual(every=10),
    GraNet(every=10),
    ACDC(),
]


def _often(recipe: Recipe) -> Recipe:
    """With updates that come within 60 steps."""
    moving: Any = recipe.dynamics
    return replace(
        recipe, dynamics=replace(moving, every=10) if hasattr(moving, "every") else moving
    )


def _with_few(recipe: Recipe) -> Recipe:
    """With a rule that takes few examples, and two cuts."""
    rule: Any = recipe.rule
    few = {
        OptimalBrainSurgeon: FEW,
        WoodFisher: WoodFisher(gradients=6),
        LayerwiseLeastSquares: LayerwiseLeastSquares(batches=1, batch_size=20),
        ByScore: ByScore(score=OBD(examples=4)),
    }
    return replace(recipe, rule=few[type(rule)], schedule=Densities(values=(0.5, 0.2)))


RECIPES: list[Recipe] = [
    IMP,
    IMP_REWIND,
    IMP_CONTINUED,
    ONESHOT,
    SNIP,
    *(find_recipe(name) for name in UNTRAINED),
    KD_TICKET,
    KD_REWIND,
    KD_LR_REWIND,
    BERT_TICKET,
    replace(KD_TICKET, name="kd-ticket, switched off", retrain=Switched(at=30)),
    *(_with_few(find_recipe(name)) for name in SECOND_ORDER),
    replace(RIGL, dynamics=RigL(every=10)),
    *(_often(find_recipe(name)) for name in SPARSE_TRAINING),
    replace(_often(recipes.GRADUAL), name="gradual, together", rule=ByScore(score=Random())),
    replace(IMP, name="imp, random", rule=ByScore(score=Random())),
    replace(IMP, name="imp, all together", schedule=Densities(values=(0.6, 0.3, 0.3, 0.1))),
    replace(IMP, name="imp, lamp", rule=ByScore(score=LAMP()), schedule=Geometric(keep=0.6)),
    replace(IMP, name="imp, linear", rule=BY_RATE, schedule=Linear(cut=0.3, rounds=3)),
    replace(IMP_CONTINUED, name="imp-continued, cubic", schedule=Cubic(rounds=3)),
    replace(IMP, name="imp, without the output", scope=Scope(exclude=("layers.2.*",))),
    replace(IMP, name="imp, fine-tuned", rewind=Stay(retrain=20)),
    replace(IMP, name="imp, to the end", rewind=ToStep(step=60)),
    replace(ONESHOT, name="one cut", schedule=Densities(values=(0.5, 0.2)), rewind=Stay()),
    replace(SNIP, name="snip, several", schedule=Densities(values=(0.5, 0.2, 0.05))),
    replace(IMP, name="dense alone", schedule=UpTo(of=Densities(), round=0)),
    replace(SNIP, name="snip, frozen", parametrisation=Frozen()),
    recipes.UNITS,
    replace(recipes.UNITS_ONESHOT, schedule=Densities(values=(0.5, 0.2))),
    replace(recipes.UNITS, name="units, together", schedule=Geometric(keep=0.6)),
    replace(SNIP, name="snip, units", rule=ByUnits(score=Saliency())),
    replace(recipes.BLOCKS, rule=ByUnits(score=Magnitude(), basis=Blocks(rows=1, columns=2))),
    replace(recipes.N_OF_M, rule=NOfM(score=Magnitude(), m=2)),
    replace(ONESHOT, name="one cut, frozen", rewind=ToStep(step=20), parametrisation=Frozen()),
    *(find_recipe(name) for name in FORESIGHT if name != "prospr"),
    replace(PROSPR, rule=ByScore(score=ProsPr(batch_size=40))),
    *(replace(find_recipe(name), schedule=LayerRates(rounds=2)) for name in ZHOU_2019),
    *(replace(find_recipe(name), schedule=Geometric(rounds=2)) for name in RENDA_2020),
]

NORMALISED: list[Recipe] = [
    replace(EARLY_BIRD, rule=WhenSettled(of=ByScale(), window=2, threshold=0.4)),
    replace(EARLY_BIRD_RESET, rule=WhenSettled(of=ByScale(), window=2, every=7)),
    replace(GREEDY, rule=GreedySelection(examples=50), schedule=Densities(values=(0.7, 0.4))),
    replace(GREEDY_RETRAINED, rule=GreedySelection(examples=100, repetition=False)),
]


class Normed(nn.Sequential):
    """Convolution, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 4, 3),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(16, 3),
        )


def worlds() -> list[World]:
    return [
        toy_world(),
        toy_world(model=Normed, optimiser=SGD(lr=0.1, momentum=0.9, weight_decay=1e-3)),
    ]


def named(piece: object) -> str:
    return str(getattr(piece, "name", piece))[:60]


@pytest.mark.parametrize("score", SCORES, ids=named)
def test_scores(score: Score) -> None:
    for world in worlds():
        check_score(score, world, seed=2)


@pytest.mark.parametrize("allocation", ALLOCATIONS, ids=named)
def test_allocations(allocation: Allocation) -> None:
    check_allocation(allocation)
    for model in (LeNet(784, 300, 100, 10), LeNet(3, 1, 2)):
        world = toy_world()
        shapes = [tuple(layer.weight.shape) for layer in model.layers]
        layers = tuple(replace(world.layers[i], name=str(i), shape=s) for i, s in enumerate(shapes))
        check_allocation(allocation, layers)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=named)
def test_schedules(schedule: Schedule) -> None:
    check_schedule(schedule)
    check_schedule(schedule, toy_world().layers, 0.02)
    check_schedule(schedule, (Layer(name="a", shape=(3,), kind="output", rate=0.9),), 0.5)


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_rules(rule: Rule) -> None:
    for world in worlds():
        check_rule(rule, world, seed=1)


@pytest.mark.parametrize("rule", UNITS, ids=named)
def test_rules_that_cut_units(rule: Rule) -> None:
    blocks = isinstance(basis_of(rule), Blocks)  # of 3 inputs of a convolution, there are no pairs
    for world in worlds()[: 1 if blocks else 2]:
        check_rule(rule, world, seed=1)


@pytest.mark.parametrize("rule", SCALED, ids=named)
def test_rules_that_cut_by_scales(rule: Rule) -> None:
    check_rule(rule, worlds()[1], seed=1)


@pytest.mark.parametrize("rule", FREEZING, ids=named)
def test_rules_that_freeze(rule: Rule) -> None:
    for world in worlds():
        check_rule(rule, world, seed=1, cuts_to_zero=False)


@pytest.mark.parametrize("action", ACTIONS, ids=named)
def test_actions(action: Action) -> None:
    for world in worlds():
        check_action(action, world, seed=1)


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS, ids=named)
def test_parametrisations(parametrisation: Parametrisation) -> None:
    for world in worlds():
        check_parametrisation(parametrisation, world, seed=1)


@pytest.mark.parametrize("one", DYNAMICS, ids=named)
def test_dynamics(one: Dynamics) -> None:
    for world in worlds():
        check_dynamics(one, world, seed=1)


@pytest.mark.parametrize("recipe", RECIPES, ids=named)
def test_recipes(recipe: Recipe) -> None:
    check_recipe(recipe)


@pytest.mark.parametrize("recipe", NORMALISED, ids=named)
def test_recipes_on_networks_with_normalisation(recipe: Recipe) -> None:
    check_recipe(recipe, worlds()[1], seed=1)


@pytest.mark.parametrize("recipe", [IMP, ONESHOT, SNIP, FREEZE_GROWN], ids=named)
def test_recipes_on_networks_with_running_statistics(recipe: Recipe) -> None:
    check_recipe(replace(recipe, schedule=Densities(values=(0.5, 0.2))), worlds()[1], seed=1)


@pytest.mark.parametrize(
    ("module", "table", "left_out"),
    [
        (scores, SCORES, {"Need", "Probe", "Score", "Sign", "Snapshot", "When"}),
        (allocations, ALLOCATIONS, {"Allocation"}),
        (
            schedules,
            SCHEDULES,
            {"DENSE", "Schedule", "Target", "at_or_below", "check_density", "round_half_up"},
        ),
        (actions, ACTIONS, {"Action", "Site"}),
        (parametrisations, PARAMETRISATIONS, {"Parametrisation", "Ranking", "Weights"}),
        (
            dynamics,
            DYNAMICS,
            {"COLUMNS", "Dynamics", "Ending", "Moment", "Move", "Thinning", "moves_of"},
        ),
    ],
    ids=["scores", "allocations", "schedules", "actions", "parametrisations", "dynamics"],
)
def test_no_piece_is_missing_from_the_tables(
    module: ModuleType, table: list[Any], left_out: set[str]
) -> None:
    names = getattr(module, "__all__", None) or [
        name
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__
    ]
    assert set(names) - left_out == {type(piece).__name__ for piece in table}


def test_no_recipe_is_missing_from_the_table() -> None:
    known = {thing.name for thing in vars(recipes).values() if isinstance(thing, Recipe)}
    assert known <= {recipe.name for recipe in (*RECIPES, *NORMALISED)}


# -- the checks find what they are for -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bent:
    """Magnitude, with one thing wrong."""

    needs: ClassVar[Any] = frozenset()

    bend: Callable[[Snapshot, Mapping[str, Tensor]], Any]

    def __call__(self, at: Snapshot, probe: Probe) -> Any:
        return self.bend(at, {layer.name: at.end[layer.name].abs() for layer in at.layers})


@dataclass(frozen=True, kw_only=True)
class Needy(Bent):
    needs: ClassVar[Any] = {"batches"}


class Loose:
    """Not a dataclass."""

    needs = frozenset[Any]()

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        return {layer.name: at.end[layer.name].abs() for layer in at.layers}


def writes(at: Snapshot, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    at.end[at.layers[0].name].mul_(1.5)
    return {name: torch.zeros_like(tensor) for name, tensor in found.items()}


BENT: dict[str, tuple[Any, str]] = {
    "missing": (Bent(bend=lambda at, s: dict(list(s.items())[1:])), "has scores of shapes"),
    "shape": (Bent(bend=lambda at, s: {n: t.reshape(-1) for n, t in s.items()}), "shapes"),
    "nan": (Bent(bend=lambda at, s: {n: t / t for n, t in s.items()}), "not finite"),
    "random": (
        Bent(bend=lambda at, s: {n: torch.rand(t.shape) for n, t in s.items()}),
        "gives another result for the same arguments; draw from `stream` alone",
    ),
    "writes": (Bent(bend=writes), "writes into what it was given"),
    "order": (
        Bent(bend=lambda at, s: {n: t + i for i, (n, t) in enumerate(s.items())}),
        "depends on the order of the tensors",
    ),
    "needs": (Needy(bend=lambda at, s: s), "needs {'batches'}, want a frozenset of Need"),
    "class": (Loose(), "is not a frozen dataclass"),
}


@pytest.mark.parametrize("case", BENT)
def test_a_bent_score_is_found(case: str) -> None:
    score, message = BENT[case]
    with pytest.raises(AssertionError) as caught:
        check_score(score)
    assert message in str(caught.value)
    assert type(score).__name__ in str(caught.value)
    check_score(Bent(bend=lambda at, s: s))


@dataclass(frozen=True)
class BentAllocation:
    bend: Callable[[dict[str, int], float], Any]

    def counts(self, layers: tuple[Layer, ...], density: float) -> Any:
        return self.bend(Uniform().counts(layers, density), density)


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda c, d: {n: k + 1 for n, k in c.items()}, "want a whole number for each, at most"),
        (lambda c, d: {n: k / 2 for n, k in c.items()}, "want a whole number"),
        (lambda c, d: {n: -k for n, k in c.items()}, "want a whole number"),
        (lambda c, d: {n: k for n, k in c.items() if n != min(c)}, "want a whole number for each"),
        (lambda c, d: {n: k // 2 for n, k in c.items()}, "at density 1.0"),
        (lambda c, d: sum(c.values()) + 3, "at density"),
        (lambda c, d: {n: k if n != min(c) else 0 for n, k in c.items()}, "at density"),
        (
            lambda c, d: {n: k - (i == 0) for i, (n, k) in enumerate(c.items())},
            "depends on the order",
        ),
    ],
)
def test_a_bent_allocation_is_found(bend: Callable[..., Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_allocation(BentAllocation(bend))
    check_allocation(BentAllocation(lambda c, d: c))


@dataclass(frozen=True)
class BentSchedule:
    bend: Callable[[list[Target]], Any]

    def targets(self, layers: tuple[Layer, ...], judged_density: float) -> Any:
        return tuple(self.bend(list(LayerRates(rounds=3).targets(layers, judged_density))))


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda t: t[1:], "begins with"),
        (lambda t: [], "begins with"),
        (lambda t: [*t[:1], *t[2:]], r"numbers its rounds \[0, 2, 3\]"),
        (lambda t: [DENSE, replace(t[2], round=1), replace(t[1], round=2)], "has density"),
        (lambda t: [DENSE, replace(t[1], density=0.5)], "says density 0.5 and counts"),
        (lambda t: [DENSE, replace(t[1], density=-0.1, counts=None)], "has density -0.1"),
        (lambda t: [DENSE, replace(t[1], counts={"a": 3})], "want a whole number for each"),
    ],
)
def test_a_bent_schedule_is_found(bend: Callable[..., Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_schedule(BentSchedule(bend))
    check_schedule(BentSchedule(lambda t: t))


@dataclass(frozen=True)
class BentRule:
    bend: Callable[[Cut, Snapshot], Cut]
    reason: str | None = None
    needs = frozenset[Any]()
    asks = ByScore(score=Magnitude()).asks

    def refuses(self, setting: Setting) -> str | None:
        return self.reason

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        return self.bend(ByScore(score=Magnitude()).cut(at, probe, target), at)


def one_more(cut: Cut, at: Snapshot) -> Cut:
    name = at.layers[0].name
    fewer = cut.mask.of(name, at.layers[0].shape).clone()
    fewer.view(-1)[int(fewer.view(-1).int().argmax())] = False
    return Cut(mask=cut.mask & Mask({name: fewer}))


def elsewhere(cut: Cut, at: Snapshot) -> Cut:
    return Cut(mask=Mask({n: kept.flip(0) for n, kept in cut.mask.items()}))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (BentRule(one_more), "was asked for"),
        (BentRule(elsewhere), "keeps weights that were cut before"),
        (
            BentRule(
                lambda c, at: Cut(mask=c.mask & Mask({"layers.0.bias": torch.arange(12) > 0}))
            ),
            "or cuts some out of scope",
        ),
        (BentRule(lambda c, at: replace(c, params=Params({}))), r"cut gives tensors \{\}"),
        (BentRule(lambda c, at: c, reason="too large"), "refuses this world, .*: too large"),
    ],
)
def test_a_bent_rule_is_found(rule: Rule, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_rule(rule)
    check_rule(BentRule(lambda c, at: c))


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda c, at: c, None),
        (one_more, r"count_exact: asked for 58, the mask keeps"),
        (elsewhere, r"mask_nested: round 1 keeps weights cut before"),
        (
            lambda c, at: Cut(mask=c.mask & Mask({"layers.0.bias": torch.arange(12) > 0})),
            r"count_exact: the mask cuts \['layers.0.bias'\], which are not in scope",
        ),
    ],
)
def test_a_run_stops_when_a_rule_breaks_its_promise(bend: Any, message: str | None) -> None:
    """Self-checks 3: masks only shrink, and keep exactly what is asked."""
    world = toy_world()
    start = Init(world=world, seed=0).run(NoDesk()).params
    prior = Mask({"layers.1.weight": torch.arange(96).reshape(8, 12) > 20})
    job = Prune(
        world=world,
        seed=0,
        rule=BentRule(bend),
        layers=world.layers,
        mask=prior,
        target=Target(round=1, density=0.3),
        start=start,
        end=prior.apply(start.load()),
    )
    if message is None:
        assert job.run(NoDesk()).checks == {"mask_nested": True, "count_exact": True}
        return
    with pytest.raises(CheckError, match=message):
        job.run(NoDesk())


@dataclass(frozen=True)
class BentAction:
    bend: Callable[[Site], Tensor]
    needs = frozenset[Any]()

    def __call__(self, at: Site) -> Tensor:
        return self.bend(at)


def tripled(at: Site) -> Tensor:
    return at.start.mul_(3.0).clone()


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda at: at.start, "gives the initial tensor itself"),
        (lambda at: at.start.flatten(), "call gives tensors"),
        (lambda at: at.start.double(), "call gives tensors"),
        (lambda at: at.start / 0.0, "not finite"),
        (lambda at: torch.rand(at.start.shape), "gives another result"),
        (lambda at: at.start[at.kept].mean() + at.start, "not finite"),  # of nothing
        (tripled, "writes into|another result"),
    ],
    ids=["itself", "flat", "dtype", "infinite", "random", "nothing kept", "writes"],
)
def test_a_bent_action_is_found(bend: Callable[[Site], Tensor], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_action(BentAction(bend))
    check_action(BentAction(lambda at: -at.start))


@dataclass(frozen=True)
class BentParametrisation(Parametrisation):
    cuts_to_zero: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False

    what: str = ""

    def refuses(self, setting: Setting) -> str | None:
        return None

    def coords(self, params: Params, mask: Mask, seed: int) -> Params:
        if self.what == "coords":
            return Params({name: tensor[:1] for name, tensor in params.items()})
        if self.what == "draws":
            return mask.apply(params).replaced({"extra": torch.rand(3)})
        return mask.apply(params)

    def trained(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset() if self.what == "trained" else names

    def effective(self, coords: Mapping[str, Tensor], mask: Mask, step: int) -> dict[str, Tensor]:
        if self.what == "gradient":
            return {name: coords[name].detach() for name in mask.names}
        return {"new": torch.zeros(1)} if self.what == "effective" else {}

    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        if self.what == "settle":
            return coords.replaced({"extra": torch.zeros(1)}), mask
        if self.what == "zero":
            return Params({name: -tensor for name, tensor in coords.items()}), mask
        return coords, mask


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("coords", "coords gives"),
        ("draws", "gives another result"),
        ("trained", "trains set"),
        ("gradient", "pass no gradient on"),
        ("effective", "effective gives"),
        ("settle", "settle gives"),
        ("zero", r"leaves cut weights of .* not \+0.0"),
    ],
)
def test_a_bent_parametrisation_is_found(what: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_parametrisation(BentParametrisation(what))
    check_parametrisation(BentParametrisation())


@dataclass(frozen=True)
class Thawing(Frozen):
    def settle(self, coords: Params, mask: Mask) -> tuple[Params, Mask]:
        final, mask = super().settle(coords, mask)
        return mask.apply(final), mask


def test_a_parametrisation_that_forgets_what_it_froze_is_found() -> None:
    with pytest.raises(AssertionError, match=r"changes cut weights of .*, which it is to freeze"):
        check_parametrisation(Thawing())


@dataclass(frozen=True)
class BentDynamics:
    moves: ClassVar[bool] = True
    redistributes: ClassVar[bool] = False
    reads_gradients: ClassVar[bool] = True

    bend: Callable[[Move, Moment], Move]
    good = RigL(every=10)

    def refuses(self, setting: Setting) -> str | None:
        return None

    def init(self, mask: Mask, params: Params) -> Params:
        return Params({})

    def needs(self, state: Params, step: int, until: int) -> bool:
        return self.good.needs(state, step, until)

    def update(self, state: Params, moment: Moment, step: int) -> Move:
        return self.bend(self.good.update(state, moment, step), moment)


def in_place(move: Move, moment: Moment) -> Move:
    next(iter(moment.coords.values())).add_(1)
    return move


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda move, at: replace(move, coords={}), r"leaves cut weights of .* not \+0.0"),
        (lambda move, at: replace(move, coords={"new": torch.zeros(1)}), "update gives tensors"),
        (lambda move, at: replace(move, slots={"new": torch.zeros(1)}), "update gives tensors"),
        (lambda move, at: replace(move, state=Params({"x": torch.rand(1)})), "another result"),
        (in_place, "writes into|another result"),
    ],
)
def test_a_bent_dynamics_is_found(bend: Callable[[Move, Moment], Move], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_dynamics(BentDynamics(bend))
    check_dynamics(BentDynamics(lambda move, at: move))
    with pytest.raises(AssertionError, match="refuses this world"):
        check_dynamics(RigL(every=100))


def bent_loop(bend: Callable[[tuple[Any, ...]], Any]) -> Callable[..., Loop[Any]]:
    def loop(recipe: Recipe, world: World, seed: int) -> Loop[Any]:
        rounds = yield from ONESHOT.loop(recipe, world, seed)
        return bend(rounds)

    return loop


CALLS = iter(range(1_000))


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda rounds: (), r"returns rounds \[\]"),
        (lambda rounds: rounds[::-1], "want each once and in order"),
        (lambda rounds: (*rounds, rounds[-1]), "want each once and in order"),
        (lambda rounds: tuple(replace(r, draw=next(CALLS)) for r in rounds), "gets other results"),
        (
            lambda rounds: tuple(
                replace(r, target=replace(r.target, density=0.77)) for r in rounds
            ),
            "has in round 0",
        ),
        (lambda rounds: (rounds[0], replace(rounds[2], target=rounds[1].target)), "was asked for"),
        (
            lambda rounds: (rounds[0], replace(rounds[1], job=replace(rounds[1].job, mask=FULL))),
            "was asked for",
        ),
    ],
)
def test_a_bent_recipe_is_found(bend: Callable[..., Any], message: str) -> None:
    recipe = replace(
        ONESHOT, name="bent", loop=bent_loop(bend), schedule=Densities(values=(0.5, 0.2))
    )
    with pytest.raises(AssertionError, match=rf"recipe 'bent' .*{message}"):
        check_recipe(recipe)
    check_recipe(replace(recipe, loop=bent_loop(lambda rounds: rounds)))


def test_a_check_takes_a_world_of_ones_own_and_says_what_is_wrong_with_it() -> None:
    check_score(Magnitude(), toy_world(model=Normed, steps=10), seed=4)
    with pytest.raises(AssertionError, match="refuses this world, so check it on another"):
        check_rule(OptimalBrainSurgeon(examples=1_000))
