"""What a training multiplies, as a fraction of training the whole network for as long."""

from tombola.recipes.jobs import Train, Trained
from tombola.world.work import multiplications
from tombola.world.world import World


def training_cost(job: Train, trained: Trained, whole: World | None = None) -> float:
    """Multiplications of a training over those of a dense one of `whole`; 1 is dense.

    A step multiplies as often as the kept weights of each layer ask for, three times: forward, for
    the gradient of the layer's inputs, and for that of its weights. At a step whose update reads
    gradients of unconnected positions, the last counts for the whole layer. What kept is, step by
    step, is what the training noted down. Layers that are never cut count whole.

    Counted, not timed: on an executor that computes with zeros the time is that of the dense one.
    A step that an update took the place of counts as a step. whole: the world whose dense training
    is 1, for a thinner network; None is the training's own.

    Source: Evci et al. 2020 (arXiv 1911.11134), appendix on FLOPs: 3 f_S for a static mask, and
    (3 f_S every + 2 f_S + f_D) / (every + 1) for RigL (there updates do not count as steps).
    """
    world, whole = job.world, job.world if whole is None else whole
    counts, start = {layer.name: layer.count for layer in world.layers}, job.mask.load()
    dense_steps, spent = _dense_steps(job, trained), 0.0
    for name, products in multiplications(world).items():
        rows = (trained.moves or {}).get(name, [])
        always = start.kept(name, counts[name]) / counts[name] if name in counts else 1.0
        density = [always] * (trained.step - trained.began)
        for place, row in enumerate(
            rows
        ):  # what the update of a step leaves counts from the next one on
            since = row[0] + 1 - trained.began if place else 0
            density[since:] = [row[1] / counts[name]] * (len(density) - since)
        spent += products * 3.0 * sum(density)
        spent += products * sum(1.0 - density[step - trained.began] for step in dense_steps)
    return spent / (3.0 * sum(multiplications(whole).values()) * whole.steps)


def _dense_steps(job: Train, trained: Trained) -> list[int]:
    """Steps whose update reads gradients of unconnected positions."""
    if not job.dynamics.reads_gradients:
        return []
    state = job.dynamics.init(job.mask.load(), job.begin.params.load())
    return [
        step
        for step in range(trained.began, trained.step)
        if job.dynamics.needs(state, step, job.world.steps)
    ]
