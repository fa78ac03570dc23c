"""SET, gradual, SNFS, Deep R, GraNet, AC/DC against loops in plain Python, and in training."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

import tombola.train.loop as loop
from tombola.errors import RecipeError
from tombola.pieces.dynamics import (
    ACDC,
    SET,
    SNFS,
    DeepR,
    Dynamics,
    Ending,
    Gradual,
    GraNet,
    Moment,
    Move,
    RigL,
    Thinning,
    moves_of,
)
from tombola.pieces.dynamics.deep_r import SIGNS
from tombola.pieces.dynamics.snfs import MOMENTUM, shared_out
from tombola.pieces.setting import Setting
from tombola.testing import toy_world
from tombola.train.leg import Leg
from tombola.train.loop import train
from tombola.train.training import Training
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import stream
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD, Adam
from tombola.world.world import initial_params

NONE = Params({})
WEIGHT = [0.5, -0.1, 0.0, 0.0, 0.2, -0.9, 0.0, 0.3, 0.0, 0.0, -0.4, 0.05]
GRAD = [0.1, -0.6, 0.7, 0.0, -0.3, 0.2, -0.8, 0.6, 0.9, 0.05, 0.0, -0.6]
KEPT = [True, True, False, True, True, True, False, True, False, False, True, True]


def of(values: list[float] | list[bool]) -> Tensor:
    return torch.tensor(values).reshape(3, 4)


def moment(**changes: object) -> Moment:
    found = Moment(
        coords={"w": of(WEIGHT)},
        grads={"w": of(GRAD)},
        mask=Mask({"w": of(KEPT)}),
        slots={"exp_avg/w": of([1.0] * 12), "step/w": torch.tensor(7.0)},
        rate=0.1,
        seed=3,
        until=100,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def flat(tensor: Tensor) -> list[float]:
    return tensor.reshape(-1).tolist()


def smallest_first(weight: list[float], places: list[int]) -> list[int]:
    """Of equal ones the higher index goes first."""
    return sorted(places, key=lambda i: (abs(weight[i]), -i))


def held(move: Move, name: str = "w") -> tuple[list[float], list[float], list[float]]:
    slot = f"exp_avg/{name}"
    return flat(move.mask.of(name, (3, 4))), flat(move.coords[name]), flat(move.slots[slot])


# -- SET ------------------------------------------------------------------------------------------


def test_set_drops_the_smallest_and_grows_what_the_draw_says() -> None:
    drop, step = 0.6, 20
    count = int(drop / 2 * (1 + math.cos(math.pi * step / 75)) * 8)
    assert count == 4
    move = SET(drop=drop, every=1).update(NONE, moment(), step)
    alive = [i for i in range(12) if KEPT[i]]
    staying = set(alive) - set(smallest_first(WEIGHT, alive)[:count])
    draw = flat(torch.rand(3, 4, generator=stream(3, "set", step, "w")))
    free = sorted(set(range(12)) - staying, key=lambda i: -draw[i])[:count]
    found = [i in staying or i in free for i in range(12)]
    old = [found[i] and KEPT[i] for i in range(12)]
    assert held(move) == (
        found,
        flat(torch.where(of(old), of(WEIGHT), 0.0)),
        [float(stays) for stays in old],
    )
    assert "step/w" not in move.slots
    assert move.replaces_step


def test_set_draws_anew_at_each_step_and_for_each_seed_and_needs_no_gradient() -> None:
    here = SET(every=1, drop=1.0)
    masks = {
        here.update(NONE, moment(seed=seed, grads={}), step).mask.digest
        for seed in (0, 1)
        for step in (5, 6)
    }
    assert len(masks) == 4


# -- gradual --------------------------------------------------------------------------------------

LAYERS = (
    Layer(name="w", shape=(3, 4), kind="linear", rate=0.8),
    Layer(name="v", shape=(2, 4), kind="output", rate=0.8),
)
V = torch.tensor([[3.0, -2.0, 0.01, 0.0], [1.0, 0.6, -0.02, 0.7]])


def whole() -> Moment:
    slots = {"exp_avg/w": of([1.0] * 12), "exp_avg/v": torch.ones(2, 4)}
    return moment(coords={"w": of(WEIGHT), "v": V}, mask=FULL, slots=slots)


def test_gradual_keeps_the_cubic_share_of_each_tensor() -> None:
    gradual = Gradual(begin=0.2, until=0.6, every=10).ending_with(
        Ending(layers=LAYERS, asked={"w": 3, "v": 8})
    )
    # x = 1/2 at step 40: 3 + (12 - 3) / 8 = 4.125 of w; v stays whole.
    move = gradual.update(NONE, whole(), 40)
    best = [i in (0, 5, 7, 10) for i in range(12)]
    assert held(move)[0] == best
    assert held(move)[1:] == (
        flat(torch.where(of(best), of(WEIGHT), 0.0)),
        [float(stays) for stays in best],
    )
    assert "v" not in move.mask
    assert not move.replaces_step
    later = gradual.update(move.state, replace(whole(), mask=move.mask), 60)
    assert [i for i in range(12) if held(later)[0][i]] == [0, 5, 10]
    assert moves_of(later.state) == {
        "w": [[0, 12, 0, 0, 12, 4], [40, 4, 0, 8, 12, 4], [60, 3, 0, 1, 12, 3]]
    }


def test_gradual_never_takes_back_what_is_cut_though_it_is_larger() -> None:
    gradual = Gradual(begin=0.2, until=0.6, every=10).ending_with(
        Ending(layers=LAYERS[:1], asked={"w": 3})
    )
    kept = of([i not in (0, 5) for i in range(12)])
    move = gradual.update(NONE, moment(mask=Mask({"w": kept})), 60)
    assert [i for i in range(12) if held(move)[0][i]] == [4, 7, 10]


def test_gradual_lets_tensors_compete_where_one_number_is_asked() -> None:
    gradual = Gradual(begin=0.2, until=0.6).ending_with(Ending(layers=LAYERS, asked=5))
    assert gradual.redistributes
    move = gradual.update(NONE, whole(), 60)
    assert [i for i in range(12) if held(move)[0][i]] == [5]  # .9
    assert flat(move.mask["v"]) == [True, True, False, False, True, False, False, True]


def test_gradual_ends_exactly_at_its_last_cut_wherever_that_falls() -> None:
    gradual = Gradual(begin=0.25, until=1.0, every=7)
    asked = [step for step in range(50) if gradual.needs(NONE, step, 50)]
    assert asked == [20, 27, 34, 41, 48, 49]  # from 12.5, rounded half up; the last step is 49
    assert gradual.share(49, 50) == 0.0


def test_a_dynamics_that_was_told_no_end_says_so() -> None:
    for one, step in ((Gradual(), 60), (GraNet(), 50), (ACDC(), 10)):
        with pytest.raises(RecipeError, match=f"{type(one).__name__} was not told what"):
            one.update(NONE, whole(), step)


# -- SNFS -----------------------------------------------------------------------------------------


def test_snfs_keeps_an_average_of_dense_gradients_at_every_step() -> None:
    snfs = SNFS(every=50, decay=0.8)
    state, average = snfs.init(Mask({"w": of(KEPT)}), Params({"w": of(WEIGHT)})), [0.0] * 12
    for step in (0, 1, 2):
        assert snfs.needs(state, step, 100)
        move = snfs.update(state, moment(), step)
        state, average = move.state, [0.8 * a + 0.2 * g for a, g in zip(average, GRAD, strict=True)]
        assert flat(state[MOMENTUM + "w"]) == pytest.approx(average)
        assert (move.mask.digest, move.coords, move.replaces_step) == (
            moment().mask.digest,
            {},
            False,
        )


def test_snfs_moves_connections_to_the_tensor_of_larger_momentum() -> None:
    # drop 1/2 at half of T: two of w's eight go, one of v's four. Mean |m| of the connections: w
    # .3, v 1.15; of three freed w gets .6, v 2.4: so 1 and 2.
    kept = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1]]) == 1
    other = torch.tensor([[1.0, -1.2, 0.3, -0.2], [1.3, 0.1, -0.4, 1.1]])
    weight = torch.where(kept, V, 0.0)
    seen = moment(
        coords={"w": of(WEIGHT), "v": weight},
        grads={"w": of(GRAD), "v": other},
        mask=Mask({"w": of(KEPT), "v": kept}),
        slots={"exp_avg/w": of([1.0] * 12), "exp_avg/v": torch.ones(2, 4)},
    )
    zeros = {MOMENTUM + "w": torch.zeros(3, 4), MOMENTUM + "v": torch.zeros(2, 4)}
    move = SNFS(drop=0.5, every=50).update(Params(zeros), seen, 50)
    assert int(move.mask["w"].sum()) + int(move.mask["v"].sum()) == 12
    assert flat(move.mask["v"]) == [True, True, False, False, True, False, True, True]
    # w drops 3 (a kept 0) and 11, and grows where |m| is largest of what is free: 8.
    assert [i for i in range(12) if held(move)[0][i]] == [0, 1, 4, 5, 7, 8, 10]
    assert held(move)[1][8] == held(move)[2][8] == 0.0
    # v drops 7, and grows it again with its value, and 6, where |m| is .4.
    assert flat(move.coords["v"]) == pytest.approx([3.0, -2.0, 0, 0, 1.0, 0, 0, 0.7])
    assert move.replaces_step


@pytest.mark.parametrize(
    ("total", "parts", "free", "expected"),
    [
        (10, (3.0, 1.0, 1.0), (4, 90, 90), [3, 4, 3]),  # 99 % of 4 is 3
        (9, (0.0, 0.0, 0.0), (50, 50, 50), [3, 3, 3]),
        (7, (0.0, 0.0, 1.0), (50, 50, 4), [2, 2, 3]),  # what is over has somewhere to go
        (9, (1.0, 2.0, 1.0), (3, 3, 3), [3, 3, 3]),  # 99 % of 9 is not enough
        (5, (math.nan, 2.0, 1.0), (30, 30, 30), [2, 2, 1]),
        (0, (1.0, 2.0, 1.0), (3, 3, 3), [0, 0, 0]),
    ],
)
def test_what_is_shared_out_adds_up(
    total: int, parts: tuple[float, ...], free: tuple[int, ...], expected: list[int]
) -> None:
    names = ("a", "b", "c")
    found = shared_out(
        total, dict(zip(names, parts, strict=True)), dict(zip(names, free, strict=True))
    )
    assert list(found.values()) == expected


# -- Deep R ---------------------------------------------------------------------------------------


def test_deep_r_shrinks_kills_and_wakes() -> None:
    deep, kept = DeepR(penalty=1.0, temperature=0.0), of(KEPT)
    state = deep.init(Mask({"w": kept}), Params({"w": of(WEIGHT)}))
    # Signs of the start: those of WEIGHT, + for the kept 0. rate .1 x penalty 1 = .1 to zero: 3 (0)
    # and 11 (.05) cross it, 1 (-.1) stops at 0 and lives.
    move = deep.update(state, moment(), 0)
    mask, value, slot = held(move)
    dead = {3, 11}
    alive = [i for i in range(12) if KEPT[i] and i not in dead]
    assert sum(mask) == 8 and all(mask[i] for i in alive)
    for i in range(12):
        expected = WEIGHT[i] - math.copysign(0.1, WEIGHT[i]) if i in alive else 0.0
        assert value[i] == pytest.approx(expected, abs=1e-7)
        assert slot[i] == (1.0 if i in alive else 0.0)
    woken = [i for i in range(12) if mask[i] and i not in alive]
    signs = flat(move.state[SIGNS + "w"])
    assert len(woken) == 2 and all(signs[i] in (1, -1) for i in woken)
    assert all(signs[i] == math.copysign(1, WEIGHT[i]) for i in alive)
    assert not move.replaces_step
    # Woken ones are 0 and alive: without a pull nothing crosses zero.
    again = replace(moment(), coords=move.coords, mask=move.mask)
    still = DeepR(penalty=0.0, temperature=0.0).update(move.state, again, 1)
    assert still.mask.digest == move.mask.digest


def test_a_sign_of_deep_r_is_the_same_whenever_a_connection_wakes() -> None:
    deep, kept = DeepR(penalty=100.0), of(KEPT)
    first = deep.init(Mask({"w": kept}), Params({"w": of(WEIGHT)}))
    found: dict[int, set[float]] = {}
    for step in range(20):
        move = deep.update(first, moment(), step)
        assert int(move.mask["w"].sum()) == 8
        for i, sign in enumerate(flat(move.state[SIGNS + "w"])):
            if sign:
                found.setdefault(i, set()).add(sign)
    assert len(found) == 12 and all(len(signs) == 1 for signs in found.values())
    assert {sign for i in range(12) if not KEPT[i] for sign in found[i]} == {1, -1}


# -- GraNet and AC/DC -----------------------------------------------------------------------------


def test_granet_cuts_all_tensors_together_then_exchanges_in_each() -> None:
    ending = Ending(layers=LAYERS, asked={"w": 2, "v": 2})
    granet = GraNet(start=1.0, drop=0.5, every=10, until=1.0, cut_by=0.4).ending_with(ending)
    # x = 1/2 at step 20: 4 + (20 - 4) / 8 = 6 of 20, v's 3, 2, 1, .7, .6 and w's .9. Then f = .452:
    # v drops two of five, .7 and .6, for its largest gradients; w none of one.
    grad = torch.tensor([[0.0, 0.0, 5.0, -4.0], [0.0, 0.0, 3.0, 2.0]])
    move = granet.update(NONE, replace(whole(), grads={"w": of(GRAD), "v": grad}), 20)
    assert [i for i in range(12) if held(move)[0][i]] == [5]
    assert flat(move.mask["v"]) == [True, True, True, True, True, False, False, False]
    assert flat(move.coords["v"]) == pytest.approx([3.0, -2.0, 0.01, 0.0, 1.0, 0, 0, 0])
    assert [granet.kept(step, 100) for step in (0, 20, 40, 90)] == [20, 6, 4, 4]
    assert move.replaces_step


def test_granet_opens_at_half_or_at_its_target() -> None:
    assert (GraNet().opening(0.1), GraNet().opening(0.8)) == (0.5, 0.8)
    ending = Ending(layers=LAYERS, asked=16)
    assert {GraNet().ending_with(ending).kept(step, 100) for step in (0, 10, 99)} == {16}


def test_ac_dc_alternates_and_what_was_cut_starts_from_zero() -> None:
    ac_dc = ACDC(warm_up=0.2, phase=0.1, final=0.2).ending_with(
        Ending(layers=LAYERS, asked={"w": 3, "v": 8})
    )
    asked = [step for step in range(100) if ac_dc.needs(NONE, step, 100)]
    assert asked == [20, 30, 40, 50, 60, 70, 80]
    sparse = ac_dc.update(NONE, whole(), 20)
    assert [i for i in range(12) if held(sparse)[0][i]] == [0, 5, 10]
    dense = ac_dc.update(
        sparse.state, replace(whole(), coords={**sparse.coords}, mask=sparse.mask), 30
    )
    assert dense.mask.digest == FULL.digest
    assert held(dense)[1] == held(sparse)[1]
    assert held(dense)[2] == [float(i in (0, 5, 10)) for i in range(12)]
    assert moves_of(dense.state)["w"][-1] == [30, 12, 9, 0, 12, 4]


# -- inside the training loop ---------------------------------------------------------------------

ALL: list[Dynamics] = [
    SET(drop=0.5, every=6),
    RigL(drop=0.5, every=6),
    SNFS(every=6),
    DeepR(penalty=0.05),
    Gradual(every=4),
    GraNet(every=4),
    ACDC(phase=0.1),
]
IDS = [type(one).__name__ for one in ALL]
STEPS = 40


def training(dynamics: Dynamics) -> Training:
    """By SGD with momentum, which is the only slot; each tensor is to end with its half."""
    world = toy_world(
        steps=STEPS,
        optimiser=SGD(lr=0.1, momentum=0.9, weight_decay=1e-3),
        numerics=Numerics(executor="dense"),
    )
    half = {
        layer.name: torch.rand(layer.shape, generator=stream(0, layer.name)) < 0.5
        for layer in world.layers
    }
    mask, opening = Mask(half), 0.0
    if isinstance(dynamics, Thinning):
        opening = dynamics.opening(0.0)
        kept = {name: int(tensor.sum()) // 2 for name, tensor in half.items()}
        dynamics = dynamics.ending_with(Ending(layers=world.layers, asked=kept))
    return Training(
        world=world,
        seed=0,
        params=initial_params(world, 0),
        mask=FULL if opening == 1.0 else mask,
        step=0,
        until=world.steps,
        objective=world.objective,
        dynamics=dynamics,
    )


@cache
def legs(place: int) -> tuple[Leg, ...]:
    """The state after every step."""
    kept: list[Leg] = []
    seconds, loop.CHECKPOINT_SECONDS = loop.CHECKPOINT_SECONDS, -1.0
    try:
        end = train(training(ALL[place]), keep=kept.append)
    finally:
        loop.CHECKPOINT_SECONDS = seconds
    return (*kept, end)


@pytest.mark.parametrize("place", range(len(ALL)), ids=IDS)
def test_no_value_or_state_is_left_where_nothing_is_connected(place: int) -> None:
    for leg in legs(place):
        for name, kept in leg.mask.items():
            for held in (leg.coords[name], leg.slots.get(f"momentum_buffer/{name}")):
                if held is not None:
                    assert not held[~kept].any()
                    assert not held[~kept].signbit().any()


@pytest.mark.parametrize("place", range(len(ALL)), ids=IDS)
def test_what_is_kept_is_counted_exactly_at_every_step(place: int) -> None:
    job, layers = training(ALL[place]), training(ALL[place]).world.layers
    moving, whole = job.dynamics, {layer.name: layer.count for layer in layers}
    opened = {name: job.mask.kept(name, count) for name, count in whole.items()}
    digests = set()
    for leg in legs(place):
        kept = {name: leg.mask.kept(name, count) for name, count in whole.items()}
        digests.add(leg.mask.digest)
        step = leg.step - 1  # the last update was at or before it
        match moving:
            case SNFS():
                assert sum(kept.values()) == sum(opened.values())
            case Gradual() | ACDC():
                asked = moving.ending.asked if moving.ending else {}
                if isinstance(moving, ACDC):
                    share = 0.0 if moving.sparse(step, STEPS) else 1.0
                else:
                    last = max(t for t in range(step + 1) if t == 0 or moving.needs(NONE, t, STEPS))
                    share = moving.share(last, STEPS)
                assert kept == {
                    name: least + math.floor((whole[name] - least) * share + 0.5)
                    for name, least in asked.items()  # type: ignore[union-attr]
                }
            case GraNet():
                last = step // moving.every * moving.every
                expected = moving.kept(last, STEPS) if last else sum(opened.values())
                assert sum(kept.values()) == expected
            case _:
                assert kept == opened
    assert len(digests) > 2 - isinstance(moving, ACDC)


def columns(kept: Tensor) -> int:
    return sum(any(row[place] for row in kept.tolist()) for place in range(kept.shape[1]))


@pytest.mark.parametrize("place", range(len(ALL)), ids=IDS)
def test_the_record_says_what_the_masks_were(place: int) -> None:
    """Against masks of every step: counts, births, deaths, coverage, which never falls, and columns
    with anything in them."""
    steps, job = legs(place), training(ALL[place])
    for layer in job.world.layers:
        before = job.mask.of(layer.name, layer.shape)
        kept = int(before.sum())
        seen, rows = before.clone(), [[0, kept, 0, 0, kept, columns(before)]]
        for leg in steps:
            after = leg.mask.of(layer.name, layer.shape)
            born, died = (after & ~before).sum(), (before & ~after).sum()
            seen, before = seen | after, after
            if born or died:
                counts = (after.sum(), born, died, seen.sum(), columns(after))
                rows.append([leg.step - 1, *map(int, counts)])
        assert moves_of(steps[-1].state).get(layer.name, rows[:1]) == rows
        assert rows[-1][4] <= layer.count


@pytest.mark.parametrize("place", range(len(ALL)), ids=IDS)
def test_a_training_that_was_interrupted_ends_the_same(place: int) -> None:
    steps = legs(place)
    end = train(training(ALL[place]), resume=steps[22])
    assert end.coords.digest == steps[-1].coords.digest
    assert end.state.digest == steps[-1].state.digest


def test_a_new_connection_of_adam_starts_without_moments() -> None:
    job = training(SET(drop=1.0, every=20))
    job = replace(job, world=replace(job.world, optimiser=Adam(lr=1e-2)))
    before, after = (train(replace(job, until=until)) for until in (20, 21))
    for name, kept in after.mask.items():
        grown = kept & ~before.mask[name]
        assert grown.any()
        for slot in ("exp_avg", "exp_avg_sq"):
            assert not after.slots[f"{slot}/{name}"][grown].any()
            assert after.slots[f"{slot}/{name}"][kept & before.mask[name]].any()


# -- settings -------------------------------------------------------------------------------------


def setting(steps: int) -> Setting:
    return Setting(layers=(), targets=(), examples=10, steps=steps, objective="CrossEntropy")


@pytest.mark.parametrize(
    ("one", "steps", "message"),
    [
        (SET(), 100, "SET.* would never move the mask of a training of 100 steps"),
        (SNFS(), 99, "SNFS.* would never move"),
        (Gradual(), 200, r"Gradual.* from step 50 to 120 of 200, .* take a smaller `every`"),
        (GraNet(), 200, r"GraNet.* target by step 60 of 200, .* at step 100 and its last at 100"),
        (GraNet(cut_by=1.0), 1_050, r"target by step 1050 of 1050, .* last at 1000"),
        (ACDC(), 9, "phases of less than a step"),
    ],
)
def test_a_training_too_short_for_the_updates_is_refused(
    one: Dynamics, steps: int, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(one.refuses(setting(steps)))
    assert one.refuses(setting(40_000)) is None or "1050" in message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SET(drop=0.0), r"SET\(drop=0.0\): want a fraction"),
        (lambda: SNFS(decay=1.0), r"SNFS\(decay=1.0\): want 0 up to"),
        (lambda: SNFS(every=0), r"SNFS\(every=0\): want a number of steps"),
        (lambda: Gradual(begin=0.7), "want begin before until"),
        (lambda: Gradual(every=0), r"Gradual\(every=0\)"),
        (lambda: GraNet(start=50), r"GraNet\(start=50\): want a fraction"),
        (lambda: DeepR(penalty=-1.0), r"DeepR\(penalty=-1.0\): want 0 or more"),
        (lambda: ACDC(final=0.9), "together are at most 1"),
    ],
)
def test_settings_without_meaning_are_refused(make: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()  # type: ignore[operator]
