"""Batches that fill no more than one group of lanes."""

import pytest

from tombola.kernels.compiled import VARIANTS, Compiled, library
from tombola.testing import toy_world
from tombola.train.executors.executor import Step
from tombola.train.executors.sparse import Sparse, links_for
from tombola.train.training import Training
from tombola.values.mask import FULL
from tombola.world.world import initial_params


@pytest.mark.parametrize("size", [1, 10, 16, 17])
def test_wide_vectors_give_equal_bits(size: int) -> None:
    found = library()
    if found is None or found.tombola_variant() < VARIANTS.index("avx512"):
        pytest.skip("this machine has no two wide variants")
    world = toy_world(batch_size=size)
    start = initial_params(world, 0)
    job = Training(
        world=world, seed=0, params=start, mask=FULL, step=0, until=3, objective=world.objective
    )
    digests = set()
    for variant in ("avx2", "avx512"):
        own = Sparse(job, start, None, kernel=Compiled(variant), links=links_for(world))
        own.advance([Step(n, world.order(0, 0)[:size], 1.0, n) for n in range(3)])
        digests.add(own.standing().coords.digest)
    assert len(digests) == 1
