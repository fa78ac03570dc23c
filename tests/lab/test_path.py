"""The straight line between two networks: against a walk by hand, and what must be exact."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import small_world

from tombola.errors import CallError
from tombola.lab.probe.path import Path, alphas, barrier, between, distance, recompute_statistics
from tombola.recipes.job import NoDesk
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.world.world import World, initial_params


class Normalised(nn.Sequential):
    """6-8-3 with normalisation and dropout."""

    def __init__(self) -> None:
        layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
        super().__init__(*layers)


WORLD, NORMALISED = small_world(), small_world(model=Normalised)


def path(world: World = WORLD, **changes) -> Path:
    one, other = initial_params(world, 1), initial_params(world, 2)
    return Path(world=world, first=one, second=other, start=initial_params(world, 0), **changes)


def test_it_measures_what_networks_made_by_hand_do() -> None:
    job = path(points=5)
    walked = job.run(NoDesk())
    for at, alpha in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        network = WORLD.new_network(0)
        state = {
            name: (1 - alpha) * tensor + alpha * job.second.load()[name]
            for name, tensor in job.first.load().items()
        }
        network.load_state_dict(state)
        with torch.no_grad():
            outputs = network(WORLD.test.inputs)
        loss = float(nn.functional.cross_entropy(outputs, WORLD.test.targets))
        right = float((outputs.argmax(1) == WORLD.test.targets).float().mean())
        assert walked.metrics["loss"][at] == pytest.approx(loss, rel=1e-5)
        assert walked.metrics["accuracy"][at] == pytest.approx(right, abs=1e-6)
    one, other = (
        nn.utils.parameters_to_vector(WORLD.network(p).parameters())
        for p in (job.first.load(), job.second.load())
    )
    assert walked.apart == pytest.approx(float((one - other).detach().norm()), rel=1e-5)


@pytest.mark.parametrize("statistics", ["interpolated", "recomputed"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_barrier_of_a_network_with_itself_is_exactly_zero(split: str, statistics: str) -> None:
    job = path(NORMALISED, points=7, split=split, statistics=statistics)
    walked = replace(job, second=job.first).run(NoDesk())
    for values in walked.metrics.values():
        assert barrier(values) == 0.0
        assert len(set(values)) == 1 and len(values) == 7
    assert walked.apart == 0.0 and walked.first_moved == walked.second_moved > 0.0


def test_a_line_is_the_same_from_either_end() -> None:
    job = path(points=5)
    back = replace(job, first=job.second, second=job.first).run(NoDesk())
    assert back.metrics["loss"][::-1] == pytest.approx(job.run(NoDesk()).metrics["loss"], rel=1e-5)


def test_both_ends_are_exact_and_counters_are_not_mixed() -> None:
    one = Params({"w": torch.tensor([0.1, 1e30]), "n": torch.tensor(7)})
    other = Params({"w": torch.tensor([1e-30, -3.0]), "n": torch.tensor(9)})
    assert torch.equal(between(one, other, 0.0)["w"], one["w"])
    assert torch.equal(between(one, other, 1.0)["w"], other["w"])
    assert int(between(one, other, 0.5)["n"]) == 7


def test_the_barrier_is_above_the_mean_of_the_ends() -> None:
    """Frankle et al. 2020, not the line between the ends nor the larger end."""
    assert barrier([0.0, 0.5, 1.0]) == 0.5
    assert barrier([0.25, 0.125, 0.25]) == 0.0
    assert barrier([0.25, None, 0.25]) is None
    assert alphas(30)[0] == 0.0 and alphas(30)[-1] == 1.0 and len(alphas(30)) == 30


def test_recomputed_statistics_are_those_of_the_training_data() -> None:
    """Against the first layer's outputs by hand; the layer is left as it was otherwise."""
    network = NORMALISED.network(initial_params(NORMALISED, 1)).train()
    norm = network[1]
    recompute_statistics(network, NORMALISED, NORMALISED.train)
    with torch.no_grad():
        hidden = network[0](NORMALISED.train.inputs)
    torch.testing.assert_close(norm.running_mean, hidden.mean(0))
    torch.testing.assert_close(norm.running_var, hidden.var(0))
    assert norm.momentum == 0.1 and network.training and network[3].training


def test_handling_of_statistics_matters_between_the_ends_of_networks_that_have_them() -> None:
    plain, anew = (
        path(NORMALISED, points=3, statistics=how).run(NoDesk()).metrics["loss"]
        for how in ("interpolated", "recomputed")
    )
    assert plain[1] != anew[1]
    without = [
        path(points=3, statistics=how).run(NoDesk()).metrics
        for how in ("interpolated", "recomputed")
    ]
    assert without[0] == without[1]


def test_a_loss_that_is_not_finite_is_no_number() -> None:
    job = path(points=3)
    broken = Params({n: torch.full_like(t, 1e30) for n, t in job.second.load().items()})
    walked = replace(job, second=broken).run(NoDesk())
    assert walked.metrics["loss"][0] is not None and walked.metrics["loss"][-1] is None
    assert barrier(walked.metrics["loss"]) is None


def test_few_examples_are_always_the_same_ones() -> None:
    few, all_of = path(points=3, examples=20), path(points=3, examples=60)
    assert few.run(NoDesk()) == few.run(NoDesk())
    assert all_of.run(NoDesk()) == path(points=3).run(NoDesk())
    assert few.run(NoDesk()).metrics != all_of.run(NoDesk()).metrics


def test_distance_counts_each_tensor_once() -> None:
    one, other = (
        {"a": torch.zeros(2), "b": torch.zeros(3)},
        {"a": torch.ones(2), "b": torch.ones(3)},
    )
    assert distance(one, other, ["a"]) == 2**0.5
    assert distance(one, other, ["a", "b", "tied"]) == 5**0.5
    mask = Mask({"b": torch.tensor([True, False, False])})
    assert distance(one, other, ["a", "b"], mask) == 3**0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "dev"}, "Path(split='dev'): want one of train, validation, test"),
        ({"statistics": "frozen"}, "want interpolated or recomputed"),
        ({"points": 1}, "Path(points=1): want both ends"),
        ({"examples": 0}, "Path(examples=0)"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(CallError) as refused:
        path(**changes)
    assert said in str(refused.value)
