"""Supermasks against slow twins; what edge-popup chooses among, and among how many."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from drive import drive
from torch import Tensor, nn

from tombola.errors import RecipeError
from tombola.pieces.parametrisation import EdgePopup, MultiPrize, Ranking, Supermask, Weights
from tombola.pieces.schedule import Densities, Target
from tombola.pieces.scope import Scope
from tombola.recipes import EDGE_POPUP, IMP, MULTI_PRIZE, SUPERMASK, SUPERMASK_CONSTANT, Recipe
from tombola.testing import toy_world
from tombola.train.evaluate import evaluate
from tombola.train.loop import settled, train
from tombola.train.training import Training
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, reseed, stream
from tombola.world.optimiser import SGD
from tombola.world.world import World, initial_params

WEIGHT = torch.randn(3, 4, generator=stream(0, "w"))
PARAMS = Params({"w": WEIGHT, "b": torch.ones(3)})


def keeping(count: int) -> Mask:
    return Mask({"w": (torch.arange(12) < count).reshape(3, 4)})


def start(mask: Mask, logits: Tensor | None = None, **fields: object) -> dict[str, Tensor]:
    coords = dict(Supermask(**fields).coords(PARAMS, mask, 7))  # type: ignore[arg-type]
    if logits is not None:
        coords["logits/w"] = logits.clone()
    coords["logits/w"].requires_grad_(True)
    return coords


def test_chances_start_at_the_density_asked_for() -> None:
    for count in (1, 3, 6, 11):
        chance = start(keeping(count))["logits/w"].sigmoid()
        assert chance.flatten().tolist() == pytest.approx([count / 12] * 12, rel=1e-5)


@pytest.mark.parametrize("rescaled", [True, False])
def test_a_step_uses_what_it_drew_and_its_gradient_goes_through(rescaled: bool) -> None:
    logits = torch.randn(3, 4, generator=stream(0, "logits"))
    coords, pull = start(keeping(3), logits, rescaled=rescaled), torch.arange(12.0).reshape(3, 4)
    with borrowed_generators():
        reseed(5)
        used = Supermask(rescaled=rescaled).effective(coords, keeping(3), 0)["w"]
        reseed(5)
        drawn = torch.bernoulli(logits.sigmoid()) == 1.0
    factor = 12 / int(drawn.sum()) if rescaled else 1.0
    (used * pull).sum().backward()
    gradient = coords["logits/w"].grad
    assert gradient is not None
    for row in range(3):
        for column in range(4):
            weight, p = float(WEIGHT[row, column]), 1 / (1 + math.exp(-float(logits[row, column])))
            expected = factor * weight if drawn[row, column] else 0.0
            assert used[row, column].item() == pytest.approx(expected, rel=1e-6)
            expected = factor * float(pull[row, column]) * weight * p * (1 - p)
            assert float(gradient[row, column]) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert not used[~drawn].signbit().any()


def test_draws_follow_the_chances_and_not_the_asked_count() -> None:
    logits = torch.full((3, 4), -1.0)
    logits[0] = 3.0
    coords, total = start(keeping(6), logits, rescaled=False), torch.zeros(3, 4)
    with borrowed_generators():
        reseed(0)
        for _ in range(2_000):
            total += (Supermask(rescaled=False).effective(coords, keeping(6), 0)["w"] != 0).float()
    share = total / 2_000  # sd under .0105
    assert share[0].tolist() == pytest.approx([0.9526] * 4, abs=0.03)
    assert share[1:].flatten().tolist() == pytest.approx([0.2689] * 8, abs=0.05)


def test_the_finished_network_uses_exactly_the_likeliest_and_rescales_them() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 2.0], [-1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, -5.0]])
    coords = start(keeping(3), logits)
    final, mask = Supermask().settle(Params(coords), keeping(3))
    places = [5, 1, 2]  # ties at 2 go to the lower index
    assert [i for i in range(12) if mask["w"].reshape(-1)[i]] == sorted(places)
    expected = torch.where(mask["w"], WEIGHT * 4.0, 0.0)
    assert final["w"].equal(expected)
    assert final.keys() == {"w", "b"}
    assert not final["w"][~mask["w"]].signbit().any()
    with torch.no_grad():
        assert Supermask().effective(coords, keeping(3), 0)["w"].equal(final["w"])


def test_training_moves_chances_alone_and_measures_the_finished_network() -> None:
    world = toy_world(optimiser=SGD(lr=20.0, momentum=0.9), steps=40)
    half = {
        layer.name: torch.arange(layer.count).reshape(layer.shape) % 2 == 0
        for layer in world.layers
    }
    job = Training(
        world=world,
        seed=1,
        params=initial_params(world, 1),
        mask=Mask(half),
        step=0,
        until=40,
        objective=world.objective,
        parametrisation=Supermask(),
    )
    before = Supermask().coords(job.params, job.mask, 1)
    end = train(job)
    moved = {name for name in before if not end.coords[name].equal(before[name])}
    assert moved == {f"logits/{layer.name}" for layer in world.layers}
    final, mask = settled(job, end) or (None, None)
    assert final is not None and mask is not None
    assert [mask.kept(la.name, la.count) for la in world.layers] == [36, 48, 12]
    assert evaluate(world.network(final), world, world.validation) == end.readings[-1].metrics


def test_a_mask_that_cuts_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="no chance to train"):
        Supermask().coords(PARAMS, FULL, 0)


# -- what is chosen among -------------------------------------------------------------------------


def test_weights_that_are_not_trained() -> None:
    big = Params({"w": torch.randn(50, 10, 2, 2, generator=stream(0, "big"))})
    mask = Mask({"w": torch.arange(2_000).reshape(50, 10, 2, 2) < 600})
    found = {weights: EdgePopup(weights=weights).coords(big, mask, 3)["w"] for weights in Weights}
    kaiming, xavier = math.sqrt(2 / 40), math.sqrt(2 / (40 + 200))
    sign = torch.where(big["w"] < 0, -1.0, 1.0)
    assert found[Weights.AS_IS].equal(big["w"])
    assert found[Weights.CONSTANT].unique().tolist() == pytest.approx([kaiming])
    for weights, size in (
        (Weights.SIGNED_CONSTANT, kaiming),
        (Weights.XAVIER_CONSTANT, xavier),
        (Weights.SIGNED_DEVIATION, float(big["w"].std(correction=0))),
    ):
        torch.testing.assert_close(found[weights], sign * size)
        assert found[weights].abs().unique().numel() == 1
    for weights, size in (
        (Weights.KAIMING, kaiming),
        (Weights.KAIMING_UNIFORM, kaiming),
        (Weights.XAVIER, xavier),
    ):
        assert float(found[weights].std()) == pytest.approx(size, rel=0.06)
        assert found[weights].unique().numel() > 1_900
    assert float(found[Weights.KAIMING_UNIFORM].abs().max()) <= math.sqrt(3) * kaiming
    assert float(found[Weights.KAIMING].abs().max()) > 2.5 * kaiming


def test_an_initial_weight_of_zero_has_a_positive_sign() -> None:
    """torch.sign(0) is 0: in the authors' code such a weight is cut for good."""
    zero = Params({"w": torch.tensor([[0.0, -0.0, -1.0, 2.0]])})
    mask = Mask({"w": torch.tensor([[True, True, False, False]])})
    for weights in (Weights.SIGNED_CONSTANT, Weights.XAVIER_CONSTANT, Weights.SIGNED_DEVIATION):
        found = EdgePopup(weights=weights).coords(zero, mask, 0)["w"]
        assert found.sign().tolist() == [[1.0, 1.0, -1.0, 1.0]]


def test_the_weights_of_the_published_code() -> None:
    """Against torch's own initialisers, which the authors call."""
    weight = torch.empty(300, 20, 3, 3)
    params = Params({"w": torch.ones_like(weight)})
    mask = Mask({"w": torch.arange(weight.numel()).reshape(weight.shape) < 600})
    for weights, draw in {
        Weights.KAIMING: partial(nn.init.kaiming_normal_, nonlinearity="relu"),
        Weights.KAIMING_UNIFORM: partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
        Weights.XAVIER: nn.init.xavier_normal_,
    }.items():
        found = EdgePopup(weights=weights).coords(params, mask, 3)["w"]
        twin = draw(weight, generator=stream(1, "twin"))
        assert float(found.std()) == pytest.approx(float(twin.std()), rel=0.02)
        assert float(found.abs().max()) == pytest.approx(float(twin.abs().max()), rel=0.2)


@pytest.mark.parametrize("weights", list(Weights))
def test_scaling_divides_the_variance_by_the_fraction_kept(weights: Weights) -> None:
    """Not by the fraction cut, as in the authors' code: at .3 the two differ by 7 / 3."""
    big = Params({"w": torch.randn(50, 40, generator=stream(0, "big"))})
    mask = Mask({"w": torch.arange(2_000).reshape(50, 40) < 600})
    plain, scaled = (
        EdgePopup(weights=weights, scaled=one).coords(big, mask, 3)["w"] for one in (False, True)
    )
    torch.testing.assert_close(scaled, plain * math.sqrt(1 / 0.3))


def test_scores_ranked_together_share_out_the_places() -> None:
    popup = EdgePopup(ranking=Ranking.TOGETHER)
    mask = Mask({"v": torch.arange(4) < 3, "w": torch.arange(6) < 1})
    coords = {
        "v": torch.full((4,), 2.0),
        "w": torch.full((6,), -1.0),
        "scores/v": torch.tensor([0.1, -0.9, 0.2, 0.3]),
        "scores/w": torch.tensor([0.8, 0.3, 0.0, -0.7, 0.05, 0.1]),
    }
    # Of ten the four largest |s|: .9, .8, .7 and, of the two of .3, that of the earlier tensor.
    final, found = popup.settle(Params(coords), mask)
    assert found["v"].tolist() == [False, True, False, True]
    assert found["w"].tolist() == [True, False, False, True, False, False]
    assert final["w"].tolist() == [-1.0, 0.0, 0.0, -1.0, 0.0, 0.0]
    used = popup.effective(coords, mask, 0)
    assert used["v"].equal(final["v"]) and used["w"].equal(final["w"])
    assert popup.redistributes
    assert not EdgePopup().redistributes


# -- kept, not cut --------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [EDGE_POPUP, MULTI_PRIZE, SUPERMASK], ids=lambda r: r.name)
def test_density_is_the_fraction_kept_in_all_that_is_said_of_it(recipe: Recipe) -> None:
    """In the authors' repository the same number is the fraction kept while scores are trained, the
    one cut in a fixed subnetwork, and the one that the count of parameters leaves out."""
    world = toy_world()
    quarter = replace(recipe, schedule=Densities(values=(0.25,)))
    (ticket,) = drive(quarter.loop(quarter, world, 0))
    mask = ticket.end.mask.load()
    assert ticket.target.density == 0.25
    assert [mask.kept(la.name, la.count) for la in world.layers] == [18, 24, 6]
    assert ticket.end.kept == {la.name: la.count // 4 for la in world.layers}


@pytest.mark.parametrize(("count", "density"), [(10, 0.9), (100, 0.29), (10, 0.3), (7, 0.5)])
def test_counts_are_the_nearest_to_the_density(count: int, density: float) -> None:
    """The authors keep n - int((1 - k) n): all ten of ten at .9, since 1 - .9 is under .1."""
    layer = Layer(name="w", shape=(1, count), kind="output", rate=0.9)
    asked = EDGE_POPUP.rule.asks((layer,), Target(round=1, density=density))
    assert asked == {"w": math.floor(density * count + 0.5)}
    if (count, density) == (10, 0.9):
        assert count - int((1 - density) * count) == 10


@pytest.mark.parametrize("density", [0.0, -0.5, 1.5, 50, float("nan")])
def test_densities_outside_0_to_1_are_refused(density: float) -> None:
    with pytest.raises(RecipeError, match="is not a fraction kept; want more than 0, at most 1"):
        replace(EDGE_POPUP, schedule=Densities(values=(density,)))


@pytest.mark.parametrize(
    ("piece", "fields", "message"),
    [
        (
            EdgePopup,
            {"weights": "kaiming"},
            r"EdgePopup\(weights='kaiming'\): want Weights.SIGNED_C",
        ),
        (EdgePopup, {"scaled": 2}, r"EdgePopup\(scaled=2\): want a value of bool"),
        (EdgePopup, {"ranking": Weights.AS_IS}, r"want Ranking.EACH_TENSOR, Ranking.TOGETHER"),
        (Supermask, {"weights": None}, r"Supermask\(weights=None\): want Weights"),
        (Supermask, {"rescaled": None}, "want a value of bool"),
        (
            MultiPrize,
            {"search": Supermask()},
            r"MultiPrize\(search=Supermask.*: want a value of EdgePopup",
        ),
    ],
)
def test_fields_of_another_kind_are_refused(
    piece: type, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        piece(**fields)


# -- networks that cannot do without trained weights -----------------------------------------------


class Reader(nn.Module):
    """An embedding and a recurrent layer before a linear one."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.embed, self.read, self.out = nn.Linear(6, 5), nn.GRU(5, 4), nn.Linear(4, 3)
        self.place = nn.Parameter(torch.ones(1, 5))
        for parameter in (*self.read.parameters(), self.place):
            parameter.requires_grad_(not frozen)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.read((self.embed(inputs) + self.place)[None])[0][0])
        return outputs


class Silent(nn.Module):
    """A last layer, and a scale of normalisation, that start at zero."""

    def __init__(self, scale: bool = True) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        nn.init.zeros_(self.norm.weight if scale else self.last.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.norm(self.first(inputs)).relu())
        return outputs


@pytest.mark.parametrize("recipe", [EDGE_POPUP, MULTI_PRIZE, SUPERMASK], ids=lambda r: r.name)
def test_weights_that_no_mask_is_found_in_are_named(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=rf"{recipe.name}.*would leave place as drawn"):
        recipe.check(toy_world(model=Reader, thin=None))
    recipe.check(toy_world(model=partial(Reader, frozen=True), thin=None))
    IMP.check(toy_world(model=Reader, thin=None))


def test_layers_that_start_at_zero_and_would_stay_there_are_named() -> None:
    def world(scale: bool) -> World:
        return toy_world(model=partial(Silent, scale), thin=None)

    message = "{} of the model starts at zero everywhere, and would stay there"
    for recipe in (EDGE_POPUP, SUPERMASK):
        with pytest.raises(RecipeError, match=message.format("norm.weight")):
            recipe.check(world(scale=True))
    with pytest.raises(RecipeError, match=message.format("last.weight")):
        SUPERMASK.check(world(scale=False))
    EDGE_POPUP.check(world(scale=False))  # has other values in the place of zeros
    IMP.check(world(scale=True))


def test_a_layer_left_out_of_scope_stays_whole_as_drawn() -> None:
    """The authors' flag for a dense first layer: its weights are not trained either."""
    recipe = replace(EDGE_POPUP, scope=Scope(exclude=("layers.0.*",)))
    world = toy_world()
    (ticket,) = drive(recipe.loop(recipe, world, 0))
    end, start = ticket.end.params.load(), initial_params(world, 0)
    assert end["layers.0.weight"].equal(start["layers.0.weight"])
    assert not end["layers.1.weight"].equal(start["layers.1.weight"])


def test_zhous_constant_is_the_deviation_of_the_initial_weights() -> None:
    assert SUPERMASK_CONSTANT.parametrisation == Supermask(weights=Weights.SIGNED_DEVIATION)
