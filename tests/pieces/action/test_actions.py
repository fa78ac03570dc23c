"""What weights start from after a cut: each action against its definition in plain Python."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from tombola.errors import RecipeError
from tombola.pieces.action import (
    Action,
    Constant,
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
from tombola.pieces.score import Need
from tombola.values.rng import stream

# Exact in binary; all different, 0 among them.
START = torch.tensor([[0.5, -0.25, 1.0, 0.0], [-0.125, 0.75, -0.625, 0.25]])
END = torch.tensor([[0.375, 0.25, -1.5, 0.5], [-0.25, 0.0, -0.625, 0.125]])
KEPT = torch.tensor([[True, True, False, True], [False, False, True, True]])
SIGMA = math.sqrt(sum(w * w for w in START.flatten().tolist()) / 8 - (1.5 / 8) ** 2)


def site(kept: Tensor = KEPT, seed: int = 0, start: Tensor = START) -> Site:
    return Site(start=start, end=END, kept=kept, stream=lambda name: stream(seed, name))


def values(action: Action, seed: int = 0) -> list[float]:
    return action(site(seed=seed)).flatten().tolist()


def test_rewound_is_the_start() -> None:
    assert values(Rewound()) == START.flatten().tolist()


def test_reinit_permutes_the_whole_tensor() -> None:
    found = values(Reinit())
    assert sorted(found) == sorted(START.flatten().tolist()) != found
    assert found != values(Reinit(), seed=1)
    assert found == Reinit()(site(kept=~KEPT)).flatten().tolist()


def test_reshuffle_permutes_the_survivors_among_themselves() -> None:
    drawn = [Reshuffle()(site(seed=seed)) for seed in range(5)]
    for found in drawn:
        assert found[~KEPT].equal(START[~KEPT])
        assert sorted(found[KEPT].tolist()) == sorted(START[KEPT].tolist())
    assert len({tuple(found.flatten().tolist()) for found in drawn}) > 1


def test_resample_draws_from_the_survivors_with_replacement() -> None:
    drawn = [tuple(values(Resample(), seed)) for seed in range(400)]
    survivors = START[KEPT].tolist()
    counts = Counter(value for draw in drawn for value in draw)
    assert set(counts) == set(survivors)
    assert any(len(set(draw)) < len(survivors) for draw in drawn)
    # Each of the five with probability 1/5: standard deviation of the share .0071.
    assert all(abs(count / 3_200 - 0.2) < 5 * 0.0071 for count in counts.values())


def test_nothing_to_resample_from_leaves_the_start() -> None:
    assert Resample()(site(kept=torch.zeros_like(KEPT))).equal(START)


def test_constant_is_the_deviation_under_permuted_signs() -> None:
    found = values(Constant())
    assert Counter(round(w / SIGMA, 6) for w in found) == {1.0: 5, -1.0: 3}
    draws = {tuple(values(Constant(), seed)) for seed in range(5)}
    assert len(draws) > 1


@pytest.mark.parametrize("of", [Reinit(), Reshuffle(), Resample(), Constant(), Noise()], ids=str)
def test_keep_sign_takes_the_magnitudes_and_the_initial_signs(of: Action) -> None:
    magnitudes, found = values(of), values(KeepSign(of=of))
    for start, magnitude, value in zip(START.flatten().tolist(), magnitudes, found, strict=True):
        sign = (start > 0) - (start < 0)
        assert value == abs(magnitude) * sign


def test_keep_sign_of_a_constant_is_a_signed_constant() -> None:
    signs = [(w > 0) - (w < 0) for w in START.flatten().tolist()]
    for seed in range(5):
        assert values(KeepSign(of=Constant()), seed) == pytest.approx([SIGMA * s for s in signs])


def test_noise_has_the_size_it_says() -> None:
    start = torch.randn(200, 300, generator=stream(0, "start")) * 0.1 + 0.05
    draw = Noise(sigmas=2.0)(site(torch.ones(200, 300) > 0, start=start)) - start
    sigma = float(start.std(correction=0))
    # 60,000 draws: the mean within 5 / sqrt(60,000), the deviation within 5 / sqrt(120,000).
    assert abs(float(draw.mean())) < 2 * sigma * 0.0204
    assert float(draw.std()) == pytest.approx(2 * sigma, rel=0.0144)
    assert values(Noise(sigmas=0.0)) == START.flatten().tolist()


def test_what_has_shrunk_is_zero() -> None:
    expected = [
        0.0 if abs(f) < abs(i) else i
        for i, f in zip(START.flatten().tolist(), END.flatten().tolist(), strict=True)
    ]
    assert values(ZeroShrunk()) == expected
    assert expected.count(0.0) == 4  # three that shrank and one that began there
    assert not ZeroShrunk()(site()).signbit()[ZeroShrunk()(site()) == 0].any()


@pytest.mark.parametrize(("power", "factor"), [(1.0, 8 / 5), (0.5, math.sqrt(8 / 5)), (0.0, 1.0)])
def test_rescaled_divides_by_the_density(power: float, factor: float) -> None:
    found = values(Rescaled(of=Rewound(), power=power))
    assert found == pytest.approx([factor * w for w in START.flatten().tolist()])
    nothing = site(kept=torch.zeros_like(KEPT))
    assert Rescaled(of=Rewound(), power=power)(nothing).isfinite().all()


def test_the_power_one_half_leaves_the_variance_of_a_sum_as_it_was() -> None:
    start = torch.randn(400, 500, generator=stream(0, "start"))
    kept = torch.rand(400, 500, generator=stream(0, "kept")) < 0.1
    action = Rescaled(of=KeepSign(of=Constant()), power=0.5)
    after = action(Site(start=start, end=start, kept=kept, stream=lambda name: stream(0, name)))
    whole, sparse = start.square().sum(1).mean(), (after * kept).square().sum(1).mean()
    assert float(sparse / whole) == pytest.approx(1.0, rel=0.01)


def test_only_what_looks_at_trained_weights_needs_training() -> None:
    assert ZeroShrunk.needs == {Need.TRAINED}
    assert KeepSign(of=ZeroShrunk()).needs == Rescaled(of=ZeroShrunk()).needs == {Need.TRAINED}
    assert KeepSign(of=Reinit()).needs == Rescaled(of=Constant()).needs == frozenset()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(sigmas=-1.0), r"Noise\(sigmas=-1.0\): want how many standard deviations"),
        (lambda: Noise(sigmas=math.inf), r"Noise\(sigmas=inf\)"),
        (lambda: Rescaled(of=Rewound(), power=math.nan), r"Rescaled\(power=nan\): want a number"),
    ],
    ids=["below 0", "infinite", "no number"],
)
def test_numbers_that_mean_nothing_are_refused(make: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()  # type: ignore[operator]
