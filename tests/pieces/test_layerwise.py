"""The layer-wise sweep against inverses of what is left, and the traps of its public code."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tombola.errors import RecipeError
from tombola.pieces.allocation import Global, Uniform
from tombola.pieces.layerwise import LayerwiseLeastSquares
from tombola.pieces.schedule import Densities, Target
from tombola.pieces.score import Need, Snapshot
from tombola.pieces.setting import Setting
from tombola.pieces.sweep import Block, factored, shared_out, sweep
from tombola.recipes import LAYERWISE
from tombola.testing import check_rule, toy_world
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.probe import NetworkProbe
from tombola.world.world import World, initial_params

LAYERS = (
    Layer(name="first", shape=(4, 6), kind="linear", rate=0.8),
    Layer(name="last", shape=(2, 4), kind="output", rate=0.9),
)
FED = frozenset({"first", "last"})
EXAMPLES = 40


def draw(*shape: int, of: str) -> Tensor:
    return torch.randn(*shape, generator=stream(3, of), dtype=torch.float64)


def products(d: int) -> Tensor:
    """Of correlated inputs."""
    inputs = draw(60, d, of="inputs") @ (torch.eye(d).double() + 0.4 * draw(d, d, of="mixing"))
    return inputs.T @ inputs


class TinyProbe:
    """A 6-4-2 network with ReLU, float64; the last input is always 0."""

    def batches(self, count: int, size: int) -> list[Tensor]:
        inputs = draw(EXAMPLES, 6, of="examples")
        inputs[:, 5] = 0.0
        return list(inputs[: count * size].split(size))

    def inputs(self, params: Mapping[str, Tensor], name: str, batch: Tensor) -> Tensor:
        hidden = (batch @ params["first"].T + params["bias"]).relu()
        return (batch if name == "first" else hidden)[None]


PROBE = TinyProbe()
RULE = LayerwiseLeastSquares(batches=4, batch_size=10, columns=3)


def snapshot(mask: Mask = FULL) -> Snapshot:
    shapes = {"first": (4, 6), "bias": (4,), "last": (2, 4)}
    params = Params({name: draw(*shape, of=name) for name, shape in shapes.items()})
    return Snapshot(start=params, end=mask.apply(params), mask=mask, layers=LAYERS)


# -- the factor ------------------------------------------------------------------------------------


def test_the_squared_diagonal_is_the_inverse_once_earlier_inputs_are_settled() -> None:
    """Where one might think the square one too many."""
    matrix = products(9)
    factor = factored(matrix, 0.01)
    damped = matrix + 0.01 * matrix.diagonal().mean() * torch.eye(9).double()
    torch.testing.assert_close(factor.T @ factor, torch.linalg.inv(damped))
    for j in range(9):
        inverse = torch.linalg.inv(damped[j:, j:])
        assert float(factor[j, j] ** 2) == pytest.approx(float(inverse[0, 0]), rel=1e-10)
        torch.testing.assert_close(factor[j, j:] / factor[j, j], inverse[0] / inverse[0, 0])


def test_damping_is_a_share_of_the_mean_over_inputs_that_are_not_dead() -> None:
    matrix = torch.diag(torch.tensor([4.0, 0.0, 2.0, 0.0]).double())
    diagonal = factored(matrix, 0.1).diagonal() ** -2
    assert diagonal.tolist() == pytest.approx([4.3, 3.3, 2.3, 3.3])


def test_inputs_that_depend_on_one_another_want_damping() -> None:
    with pytest.raises(RecipeError, match="no inverse in float64; raise the damping"):
        factored(torch.ones(3, 3).double(), 1e-300)


# -- the sweep -------------------------------------------------------------------------------------


def slow_sweep(
    weights: Tensor, hessian: Tensor, allowed: Tensor, blocks: tuple[Block, ...]
) -> tuple[Tensor, Tensor]:
    """Column by column, with the inverse of the Hessian of what is left computed anew."""
    weights, kept, d = weights.clone(), allowed.clone(), len(hessian)
    inverses = [torch.linalg.inv(hessian[j:, j:]) for j in range(d)]
    for block in blocks:
        columns = list(range(d))[block.columns]
        scores = {
            (row, j): float(weights[row, j] ** 2 / inverses[j][0, 0])
            for row in range(len(weights))
            for j in columns
            if allowed[row, j]
        }
        rows = (
            [[row] for row in range(len(weights))] if block.in_each_row else [range(len(weights))]
        )
        chosen = set()
        for some in rows:
            order = sorted((key for key in scores if key[0] in some), key=lambda k: -scores[k])
            chosen |= set(order[: block.keep])
        for j in columns:
            for row in range(len(weights)):
                kept[row, j] = (row, j) in chosen
                if not kept[row, j]:
                    error = weights[row, j] / inverses[j][0, 0]
                    weights[row, j:] -= error * inverses[j][0]
                    weights[row, j] = 0.0
    return weights, kept


@pytest.mark.parametrize("cut_before", [False, True])
@pytest.mark.parametrize(
    "blocks",
    [
        (Block(columns=slice(0, 8), keep=14),),
        tuple(
            Block(columns=slice(i, i + 2), keep=keep)
            for i, keep in zip((0, 2, 4, 6), (3, 0, 5, 6), strict=True)
        ),
        tuple(Block(columns=slice(i, i + 4), keep=1, in_each_row=True) for i in (0, 4)),
    ],
    ids=["one block", "four blocks", "1 of 4"],
)
def test_a_sweep_is_the_one_that_inverts_what_is_left(
    blocks: tuple[Block, ...], cut_before: bool
) -> None:
    weights, allowed = draw(5, 8, of="weights"), torch.ones(5, 8, dtype=torch.bool)
    if cut_before:
        allowed = torch.arange(40).reshape(5, 8) % 3 != 1
        weights = weights * allowed
    matrix = products(8)
    damped = matrix + 0.01 * matrix.diagonal().mean() * torch.eye(8).double()
    expected, stays = slow_sweep(weights, damped, allowed, blocks)
    before = weights.clone()
    found, kept = sweep(weights, factored(matrix, 0.01), allowed, blocks)
    assert torch.equal(kept, stays) and torch.equal(weights, before)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert not bool(found[~kept].signbit().any()) and not bool(found[~kept].any())


def test_the_last_column_of_a_row_is_fitted_exactly() -> None:
    """When all but the last of a row's weights go, the last is the least-squares fit."""
    matrix, weights = products(8), draw(1, 8, of="weights")
    blocks = tuple(Block(columns=slice(i, i + 1), keep=int(i == 7)) for i in range(8))
    found, _ = sweep(weights, factored(matrix, 1e-12), torch.ones(1, 8, dtype=torch.bool), blocks)
    best = (matrix[7] @ weights[0]) / matrix[7, 7]
    assert float(found[0, 7]) == pytest.approx(float(best), rel=1e-8)


@pytest.mark.parametrize("in_each_row", [False, True], ids=["half", "2 of 4"])
def test_outputs_change_less_than_by_magnitude(in_each_row: bool) -> None:
    matrix, weights = products(16), draw(10, 16, of="wide")
    allowed, keep = torch.ones(10, 16, dtype=torch.bool), 2 if in_each_row else 20
    blocks = [
        Block(columns=slice(i, i + 4), keep=keep, in_each_row=in_each_row) for i in (0, 4, 8, 12)
    ]
    sizes = weights.abs()
    largest = torch.cat(
        [block.best(sizes[:, block.columns], allowed[:, block.columns]) for block in blocks], dim=1
    )
    found, kept = sweep(weights, factored(matrix, 0.01), allowed, blocks)
    assert int(kept.sum()) == int(largest.sum()) == 80

    def wrong(now: Tensor) -> float:
        return float(((now - weights) @ matrix * (now - weights)).sum())

    assert wrong(found) < 0.6 * wrong(weights * largest)


def test_shares_add_up_to_the_count_and_leave_dead_inputs_for_last() -> None:
    allowed = torch.arange(60).reshape(6, 10) % 7 != 2
    live = torch.tensor([0, 0, 1, 1, 0, 1, 1, 1, 1, 1], dtype=torch.bool)
    left = int((allowed & live).sum())
    for keep in range(int(allowed.sum()) + 1):
        blocks = shared_out(allowed, live, keep, 4)
        counts = [block.keep for block in blocks]
        there = [int(allowed[:, block.columns].sum()) for block in blocks]
        of_live = [int((allowed & live)[:, block.columns].sum()) for block in blocks]
        assert [block.columns for block in blocks] == [slice(0, 4), slice(4, 8), slice(8, 10)]
        assert sum(counts) == keep
        assert all(0 <= k <= most for k, most in zip(counts, there, strict=True))
        if keep <= left:
            for k, size in zip(counts, of_live, strict=True):
                assert abs(k - keep * size / left) < 1 and k <= size


# -- the rule --------------------------------------------------------------------------------------


def test_each_layer_is_swept_on_inputs_of_the_network_as_cut_so_far() -> None:
    at, counts = snapshot(), {"first": 11, "last": 5}
    cut = RULE.cut(at, PROBE, Target(round=1, density=0.5, counts=counts))
    now = dict(at.end)
    inputs = torch.cat(PROBE.batches(4, 10))
    for name, width in (("first", 6), ("last", 4)):
        rows = PROBE.inputs(now, name, inputs)[0]
        matrix = rows.T @ rows
        live = matrix.diagonal() != 0
        assert bool(live.all()) == (name == "last")
        allowed = torch.ones_like(now[name], dtype=torch.bool)
        blocks = shared_out(allowed, live, counts[name], 3)
        now[name], kept = sweep(now[name] * live, factored(matrix, 0.01), allowed, blocks)
        assert torch.equal(cut.mask[name], kept) and kept.shape[1] == width
        assert cut.params is not None
        torch.testing.assert_close(cut.params[name], now[name], rtol=1e-9, atol=1e-12)
    assert cut.params is not None and torch.equal(cut.params["bias"], at.end["bias"])
    assert not bool(cut.mask["first"][:, 5].any())  # the dead input


def test_counts_are_exact_where_a_threshold_would_cut_one_more() -> None:
    """One of a layer's weights, and all but one; the authors' code keeps none and cuts two."""
    for keep in (1, 4, 23, 24):
        target = Target(round=1, density=0.5, counts={"first": keep, "last": 8})
        cut = RULE.cut(snapshot(), PROBE, target)
        assert cut.mask.kept("first", 24) == keep


def test_the_first_number_of_a_pattern_is_of_those_kept() -> None:
    rule = replace(RULE, pattern=(1, 4))
    only = replace(snapshot(), layers=LAYERS[1:])
    target = Target(round=1, density=0.25)
    assert rule.asks(only.layers, target) == {"last": 2}
    cut = rule.cut(only, PROBE, target)
    assert cut.mask["last"].sum(1).tolist() == [1, 1]
    three = replace(rule, pattern=(3, 4)).cut(only, PROBE, Target(round=1, density=0.75))
    assert three.mask["last"].sum(1).tolist() == [3, 3]
    again = replace(only, mask=cut.mask, end=cut.params or only.end)
    assert rule.cut(again, PROBE, target).mask.digest == cut.mask.digest
    uneven = replace(only, mask=Mask({"last": torch.tensor([[True] * 4, [True, False] * 2])}))
    with pytest.raises(RecipeError, match="somewhere in last fewer than 3 of 4 weights are left"):
        replace(rule, pattern=(3, 4)).cut(uneven, PROBE, Target(round=2, density=0.75))


class Convolutions(nn.Sequential):
    """One plain convolution and one in two groups."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(4, 6, 3, groups=2),
            nn.Flatten(),
            nn.Linear(24, 3),
        )


def test_groups_of_a_convolution_are_layers_of_their_own() -> None:
    world = toy_world(model=Convolutions)
    start = initial_params(world, 0)
    at = Snapshot(start=start, end=start, mask=FULL, layers=world.layers[1:2])
    rule, probe = LayerwiseLeastSquares(batches=2, batch_size=40), NetworkProbe(world, 0)
    cut = rule.cut(at, probe, Target(round=1, density=15 / 36))
    kept = [int(part.sum()) for part in cut.mask["3.weight"].split(3)]
    assert kept == [8, 7]
    assert cut.params is not None
    for group in (0, 1):
        rows = torch.cat(
            [probe.inputs(start, "3.weight", batch)[group] for batch in probe.batches(2, 40)]
        )
        matrix, part = (rows.T @ rows).double(), slice(3 * group, 3 * group + 3)
        allowed = torch.ones(3, 6, dtype=torch.bool)
        blocks = shared_out(allowed, torch.ones(6, dtype=torch.bool), kept[group], 128)
        expected, stays = sweep(
            start["3.weight"][part].flatten(1).double(), factored(matrix, 0.01), allowed, blocks
        )
        assert torch.equal(cut.mask["3.weight"][part].flatten(1), stays)
        found = cut.params["3.weight"][part].flatten(1).double()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    check_rule(replace(rule, allocation=Uniform()), world)


# -- what it refuses -------------------------------------------------------------------------------


def setting(**changes: Any) -> Setting:
    facts = {"layers": LAYERS, "targets": (), "examples": 1_000, "steps": 10, "objective": "Own"}
    return Setting(**{**facts, "fed": FED, **changes})


def halves(*densities: float) -> tuple[Target, ...]:
    return Densities(values=densities).targets(LAYERS, 0.5)


def test_needs_training_and_examples() -> None:
    rule = LayerwiseLeastSquares()
    assert rule.needs == {Need.TRAINED, Need.BATCHES}
    assert rule.refuses(setting(targets=halves(0.5, 0.1))) is None
    reason = rule.refuses(setting(examples=999))
    assert "wants 1000 training examples, there are 999" in str(reason)


def test_what_cannot_be_cut_so_is_said_before_anything_is_trained() -> None:
    rule = LayerwiseLeastSquares()
    reason = str(rule.refuses(setting(fed=frozenset({"last"}))))
    assert "cannot be had for ['first']" in reason and "WoodFisher" in reason
    wide = (Layer(name="wide", shape=(10, 20_000), kind="linear", rate=0.8),)
    assert rule.refuses(setting(layers=wide, fed=frozenset({"wide"}))) == (
        "LayerwiseLeastSquares inverts the products of all 20,000 inputs of 'wide', 12.8 GB of "
        "memory, and its limit is 4 GB. Exclude that tensor in the recipe's scope; take "
        "`woodfisher` (WoodFisher) or `fisher` (DiagonalFisher); or raise `limit`."
    )
    together = replace(rule, allocation=Global())
    assert "does not compare weights of different layers" in str(
        together.refuses(setting(targets=halves(0.5)))
    )


def test_a_pattern_wants_its_density_and_inputs_that_it_divides() -> None:
    rule = LayerwiseLeastSquares(pattern=(1, 2))
    assert rule.refuses(setting(targets=halves(0.5))) is None
    reason = str(rule.refuses(setting(targets=halves(0.5, 0.4))))
    assert "the schedule wants 0.4 in round 2" in reason and "Densities(values=(0.5,))" in reason
    four = LayerwiseLeastSquares(pattern=(2, 4))
    assert "inputs of ['first'] are not a multiple of 4" in str(
        four.refuses(setting(targets=halves(0.5)))
    )


def test_keeps_no_more_than_is_left() -> None:
    at = snapshot(Mask({"last": torch.arange(8).reshape(2, 4) < 3}))
    target = Target(round=1, density=0.5, counts={"first": 3, "last": 4})
    with pytest.raises(RecipeError, match="keeps 4 weights of last, only 3 are left"):
        RULE.cut(at, PROBE, target)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batches": 0}, "at least one batch"),
        ({"damping": 0.0}, r"damping=0.0\): want a positive fraction"),
        ({"columns": 0}, r"columns=0\): want a whole number"),
        ({"columns": True}, r"columns=True\): want a whole number"),
        ({"limit": -1.0}, r"limit=-1.0\): want gigabytes, more than 0"),
        ({"pattern": (4, 2)}, "the first is how many stay"),
        ({"pattern": (0, 2)}, "the first is how many stay"),
        ({"pattern": "2:4"}, "want two whole numbers"),
        ({"allocation": Uniform}, "Uniform is a class"),
    ],
)
def test_fields_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"LayerwiseLeastSquares.*{message}"):
        LayerwiseLeastSquares(**wrong)


def test_attention_is_refused_by_name() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.output = nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = self.output(self.attention(*[inputs[:, None]] * 3)[0][:, 0])
            return found

    world: World = toy_world(model=Attending)
    with pytest.raises(RecipeError, match=r"cannot be had for \['attention.in_proj_weight', 'att"):
        replace(LAYERWISE, rule=LayerwiseLeastSquares(batch_size=10)).check(world)
