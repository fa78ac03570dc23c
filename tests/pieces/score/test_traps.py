"""What public codes of these scores get wrong, each as a case that ours must get right."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Target
from tombola.pieces.score import (
    Force,
    GraSP,
    ProsPr,
    Reversed,
    Saliency,
    Score,
    Snapshot,
    SynFlow,
)
from tombola.pieces.stepwise import Stepwise
from tombola.testing import toy_world
from tombola.values.mask import FULL, Mask
from tombola.world.probe import NetworkProbe
from tombola.world.world import World, initial_params


def unstable() -> nn.Sequential:
    """Batch normalisation and dropout."""
    return nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)
    )


def begun(world: World) -> Snapshot:
    start = initial_params(world, 0)
    return Snapshot(start=start, end=start, mask=FULL, layers=world.layers)


@pytest.mark.parametrize("score", [Saliency(), Force(), Reversed(of=GraSP())], ids=str)
def test_what_is_cut_stays_cut_however_well_it_scores(score: Score) -> None:
    """The gradient of a mask is not zero where it cuts, and GraSP's scores may be negative while
    those of cut weights are 0: ranked together, later rounds bring cut weights back."""
    world = toy_world()
    at, probe = begun(world), NetworkProbe(world, 0)
    gone = Mask(
        {layer.name: torch.arange(layer.count).reshape(layer.shape) % 2 == 0 for layer in at.layers}
    )
    now = replace(at, mask=gone, end=gone.apply(at.end))
    for rule in (ByScore(score=score), Stepwise(score=score, steps=4)):
        cut = rule.cut(now, probe, Target(round=1, density=0.4))
        assert cut.mask <= gone
        assert sum(cut.mask.kept(layer.name, layer.count) for layer in at.layers) == 77
    if isinstance(score, Force):
        found = score(now, probe)
        best = max(float(found[name][~kept].max()) for name, kept in gone.items())
        assert best > float(torch.cat([s.flatten() for s in found.values()]).median())


@pytest.mark.parametrize(
    "score",
    [Saliency(batch_size=50), Force(batch_size=50), GraSP(batch_size=50), ProsPr(batch_size=50)],
    ids=lambda score: type(score).__name__,
)
def test_scores_are_of_inference_mode_and_leave_statistics_alone(score: Score) -> None:
    """In training mode scores before a normalisation differ by orders of magnitude, and dropout
    makes them other ones each time."""
    world = toy_world(model=unstable)
    start = initial_params(world, 0)
    seen = {"1.running_mean": torch.full((5,), 0.3), "1.running_var": torch.full((5,), 4.0)}
    at = replace(begun(world), start=start.replaced(seen), end=start.replaced(seen))
    before = at.end.rehash()
    one, two = (score(at, NetworkProbe(world, 0)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one) and at.end.rehash() == before
    other = score(begun(world), NetworkProbe(world, 0))
    assert not torch.allclose(one["0.weight"], other["0.weight"])  # running statistics are read
    if isinstance(score, Saliency):
        network = world.network(at.end).eval()
        [batch] = NetworkProbe(world, 0).batches(1, 50)
        F.cross_entropy(network(batch.inputs), batch.targets).backward()
        weight = network[0].weight
        torch.testing.assert_close(one["0.weight"], (weight * weight.grad).abs().detach())


def test_synflow_takes_no_absolute_value_of_what_is_counted() -> None:
    """A batch counter is no weight; and the sign of a running mean is not a path's."""
    world = toy_world(model=unstable)
    at = begun(world)
    counted = {"1.num_batches_tracked": torch.tensor(-7), "1.running_mean": torch.full((5,), -9.0)}
    later = replace(at, end=at.end.replaced(counted))
    one, two = (SynFlow()(now, NetworkProbe(world, 0)) for now in (at, later))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert int(later.end["1.num_batches_tracked"]) == -7


def test_a_group_of_equal_scores_is_not_dropped_at_once() -> None:
    """`<=` the score at the cut takes a whole group of ties, `>=` keeps one."""
    world = toy_world()
    at = begun(world)
    dead = at.end.replaced({"layers.1.weight": torch.zeros(8, 12)})  # no path: all scores are 0
    now = replace(at, end=dead)
    for count in (1, 50, 191):
        for score in (SynFlow(), Saliency()):
            mask = (
                ByScore(score=score)
                .cut(now, NetworkProbe(world, 0), Target(round=1, density=count / 192))
                .mask
            )
            assert sum(mask.kept(layer.name, layer.count) for layer in at.layers) == count
