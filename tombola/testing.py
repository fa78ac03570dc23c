"""Contract checks for pieces and recipes: what this package asks of its own, for yours.

Each raises an AssertionError that names the piece and what it broke; each takes a second at most.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from tombola.pieces.action import Action, Site
from tombola.pieces.allocation import Allocation
from tombola.pieces.basis import basis_of, counted
from tombola.pieces.dynamics import Dynamics, Ending, Moment, Thinning
from tombola.pieces.parametrisation import Parametrisation
from tombola.pieces.rule import Rule
from tombola.pieces.schedule import DENSE, Schedule, Target, round_half_up
from tombola.pieces.score import Need, Score, Snapshot
from tombola.pieces.setting import Setting
from tombola.recipes.controls import Control, control_loop, of_ticket, unclaimed
from tombola.recipes.imp import IMP
from tombola.recipes.job import Loop, NoDesk, job_key
from tombola.recipes.recipe import Recipe
from tombola.train.loop import train
from tombola.train.select import Selection
from tombola.train.training import Training
from tombola.values.digest import digest
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators, reseed, stream
from tombola.world.models import LeNet
from tombola.world.optimiser import Adam
from tombola.world.probe import NetworkProbe
from tombola.world.world import World, initial_params

if TYPE_CHECKING:
    from tombola.lab.probe import Probe

T = TypeVar("T")
Layers = tuple[Layer, ...]
DENSITIES = (1.0, 0.999, 0.5, 0.5, 0.2, 0.05)
SHAPES = ((8, 3, 3, 3), (20, 72), (3, 1), (4, 20))
LAYERS = tuple(Layer(name=str(s), shape=s, kind="linear", rate=0.8) for s in SHAPES)


def toy_net(factor: float = 1.0) -> LeNet:
    """6-12-8-3, 192 weights; the two hidden layers times a factor."""
    return LeNet(6, *(max(1, round(factor * width)) for width in (12, 8)), 3)


def toy_world(**changes: Any) -> World:
    """Three linearly separable classes in six dimensions, 60 steps: a training takes some 20 ms.

    changes: fields of `World` to set otherwise.

    >>> toy_world(steps=30).steps
    30
    """
    inputs = torch.randn(300, 6, generator=stream(0, "toy", "inputs"))
    targets = (inputs[:, :3] - inputs[:, 3:]).argmax(dim=1)
    parts = {"train": slice(180), "validation": slice(180, 240), "test": slice(240, 300)}
    fields: dict[str, Any] = {name: (inputs[part], targets[part]) for name, part in parts.items()}
    fields |= {
        "model": toy_net,
        "thin": toy_net,
        "steps": 60,
        "batch_size": 20,
        "optimiser": Adam(lr=1e-2),
        "evaluate_every": 5,
        "judged_density": 0.3,
        "margin": 0.05,
        "name": "toy",
    }
    return World(**fields | changes)


def check_score(score: Score, world: World | None = None, seed: int = 0) -> None:
    """One finite number per weight for each tensor in scope, for any order of the tensors.

    >>> import tombola as tb; tb.testing.check_score(tb.Magnitude())
    """
    world = _world(score, world)
    at, probe, needs = _snapshot(world, seed), NetworkProbe(world, seed), score.needs
    held = isinstance(needs, frozenset) and all(isinstance(need, Need) for need in needs)
    _claim(held, score, f"needs {needs!r}, want a frozenset of Need")
    found = _twice(score, score, at, probe)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    wanted = {layer.name: layer.shape for layer in at.layers}
    _claim(shapes == wanted, score, f"has scores of shapes {shapes}, want {wanted}")
    finite = all(bool(tensor.isfinite().all()) for tensor in found.values())
    _claim(finite, score, "has scores that are not finite")
    again = score(replace(at, layers=at.layers[::-1]), probe)
    _claim(digest(again) == digest(found), score, "depends on the order of the tensors")


def check_action(action: Action, world: World | None = None, seed: int = 0) -> None:
    """A finite tensor like the initial one for each cut, drawn from the stream given.

    >>> import tombola as tb; tb.testing.check_action(tb.actions.Reinit())
    """
    world = _world(action, world)
    at = _snapshot(world, seed)
    for layer in at.layers:
        start, some = at.start[layer.name], at.mask.of(layer.name, layer.shape)
        for kept in (some, torch.ones_like(some), torch.zeros_like(some)):
            draw = partial(stream, seed, layer.name)
            site = Site(start=start, end=at.end[layer.name], kept=kept, stream=draw)
            values = _twice(action, action, site)
            _fits(action, "call", {layer.name: values}, {layer.name: start})
            _claim(bool(values.isfinite().all()), action, "gives values that are not finite")
            _claim(values.data_ptr() != start.data_ptr(), action, "gives the initial tensor itself")


def check_allocation(allocation: Allocation, layers: Layers = LAYERS) -> None:
    """Whole numbers, no more than a tensor has, that add up to the density exactly, to the nearest
    weight, and fall with it.

    >>> import tombola as tb; tb.testing.check_allocation(tb.ERK())
    """
    _world(allocation)
    before: Mapping[str, int] = {layer.name: layer.count for layer in layers}
    total = sum(before.values())
    for density in DENSITIES:
        asked = allocation.counts(layers, density)
        held = asked == allocation.counts(layers[::-1], density)
        _claim(held, allocation, "depends on the order of the tensors")
        if not isinstance(asked, int):
            before = _counts(allocation, asked, before)
        kept = asked if isinstance(asked, int) else sum(asked.values())
        held = kept == round_half_up(density * total)
        _claim(held, allocation, f"keeps {kept} of {total} at density {density}")


def check_schedule(schedule: Schedule, layers: Layers = LAYERS, judged: float = 0.1) -> None:
    """The dense round first, rounds without gaps; densities and counts agree and never grow.

    judged: the world's judged density.

    >>> import tombola as tb; tb.testing.check_schedule(tb.LayerRates(rounds=3))
    """
    _world(schedule)
    targets = _twice(schedule, schedule.targets, layers, judged)
    numbers = [target.round for target in targets]
    _claim(targets[:1] == (DENSE,), schedule, f"begins with {targets[:1]}, want {DENSE}")
    _claim(numbers == list(range(len(numbers))), schedule, f"numbers its rounds {numbers}")
    before: Mapping[str, int] = {layer.name: layer.count for layer in layers}
    total = sum(before.values())
    for last, target in pairwise(targets):
        held = 0.0 <= target.density <= last.density
        _claim(held, schedule, f"has density {target.density} after {last.density}")
        if target.counts is not None:
            before = _counts(schedule, target.counts, before)
            held = abs(sum(before.values()) - target.density * total) <= 0.5
            _claim(held, schedule, f"says density {target.density} and counts {before} of {total}")


def check_rule(
    rule: Rule, world: World | None = None, seed: int = 0, *, cuts_to_zero: bool = True
) -> None:
    """Cuts keep exactly what is asked, only of what is left, also when all weights are equal; of
    units, where the rule has a basis.

    cuts_to_zero: whether it is for recipes whose cut weights are zero, rather than frozen.

    >>> import tombola as tb; tb.testing.check_rule(tb.ByScore(score=tb.Magnitude()))
    """
    world = _world(rule, world)
    at, probe = _snapshot(world, seed, rule, cuts_to_zero), NetworkProbe(world, seed)
    counts = counted(rule, at.layers, probe.coupling)
    uneven = {one.name: place * one.count // 100 for place, one in enumerate(counts)}
    targets = [Target(round=n, density=density) for n, density in enumerate(DENSITIES)]
    tied = at.end.replaced({layer.name: torch.full(layer.shape, 0.5) for layer in at.layers})
    for now in (replace(at, mask=FULL), replace(at, mask=FULL, end=tied)):
        for target in (*targets, Target(round=len(targets), density=0.01, counts=uneven)):
            cut = _twice(rule, rule.cut, now, probe, target)
            of = cut.mask if basis_of(rule) is None or cut.units is None else cut.units
            kept, asked = _kept(of, counts), rule.asks(counts, target)
            held = asked in (kept, sum(kept.values()))
            _claim(held, rule, f"keeps {kept}, was asked for {asked}")
            scope = {layer.name for layer in at.layers}
            held = cut.mask <= now.mask and set(cut.mask.names) <= scope
            _claim(held, rule, "keeps weights that were cut before, or cuts some out of scope")
            end = now.end if cut.params is None else cut.params
            _fits(rule, "cut", end, at.end)
            now = replace(now, end=cut.mask.apply(end) if cuts_to_zero else end, mask=cut.mask)


def check_parametrisation(
    parametrisation: Parametrisation, world: World | None = None, seed: int = 0
) -> None:
    """Coordinates hold the network's tensors; the finished network has them alone, cut ones +0.0
    or as they started; training repeats, resumes, and leaves its start alone.

    >>> from tombola.pieces.parametrisation import Identity
    >>> check_parametrisation(Identity())
    """
    piece, world = parametrisation, _world(parametrisation, world)
    at, network = _snapshot(world, seed, piece), world.new_network(0)
    coords = _twice(piece, piece.coords, at.start, at.mask, seed)
    own = {name: tensor for name, tensor in coords.items() if name in network.state_dict()}
    _fits(piece, "coords", own, at.start)
    names = {name for name, tensor in network.named_parameters() if tensor.requires_grad}
    names |= set(coords) - set(own)
    chosen = piece.trained(frozenset(names))
    _claim(bool(chosen) and chosen <= names, piece, f"trains {set(chosen)}, of {sorted(names)}")
    held = {name: t.clone().requires_grad_(name in chosen) for name, t in coords.items()}
    effective = piece.effective(held, at.mask, 0)
    _fits(piece, "effective", {**at.start, **effective}, at.start)
    passes = not effective or any(tensor.requires_grad for tensor in effective.values())
    _claim(passes, piece, "has effective tensors that pass no gradient on")
    final, mask = _twice(piece, piece.settle, coords, at.mask)
    _fits(piece, "settle", final, at.start)
    if piece.cuts_to_zero:
        _cut_is_zero(piece, final, mask)
    else:
        _cut_is_frozen(piece, final, mask, at.start)
    _trains(piece, at, world, seed, parametrisation=piece)


def check_dynamics(dynamics: Dynamics, world: World | None = None, seed: int = 0) -> None:
    """Updates are pure and leave +0.0 where they cut; training with them repeats and resumes.

    >>> from tombola.pieces.dynamics import RigL
    >>> check_dynamics(RigL(every=20))
    """
    world = _world(dynamics, world)
    at, steps = _snapshot(world, seed, dynamics), world.steps
    if isinstance(dynamics, Thinning):
        half = {name: kept // 2 for name, kept in _kept(at.mask, at.layers).items()}
        dynamics = dynamics.ending_with(Ending(layers=at.layers, asked=half))
        at = replace(at, mask=FULL)
    draws = {x.name: torch.randn(x.shape, generator=stream(seed, x.name)) for x in at.layers}
    slots = {f"momentum_buffer/{n}": t for n, t in at.mask.apply(Params(draws)).items()}
    moment = Moment(
        coords=at.end, slots=slots, grads=draws, mask=at.mask, rate=0.1, seed=seed, until=steps
    )
    state = _twice(dynamics, dynamics.init, at.mask, at.end)
    asked = [step for step in range(steps) if dynamics.needs(state, step, steps)]
    what = f"asks for {len(asked)} updates in {steps} steps, but moves={dynamics.moves}"
    _claim(bool(asked) == dynamics.moves, dynamics, what)
    for step in asked[:3]:
        move = _twice(dynamics, dynamics.update, state, moment, step)
        move.mask.check(at.end)
        before = {**at.end, **slots}
        _fits(dynamics, "update", {**before, **move.coords, **move.slots}, before)
        _cut_is_zero(dynamics, {**at.end, **move.coords}, move.mask)
    _trains(dynamics, at, world, seed, dynamics=dynamics)


def check_recipe(recipe: Recipe, world: World | None = None, seed: int = 0) -> None:
    """Its loop, run twice in memory, asks for the same jobs, gets the same bytes, and keeps the
    promises of every run: exact counts, nested masks, cuts at +0.0 or frozen, starts left alone.

    >>> import tombola as tb; tb.testing.check_recipe(tb.recipes.ONESHOT)
    """
    piece, world = f"recipe {recipe.name!r}", world or toy_world(steps=60 + recipe.rewind.step)
    recipe.check(world)
    (rounds, jobs), (again, same) = (_drive(recipe.loop(recipe, world, seed)) for _ in range(2))
    _claim(jobs == same, piece, "asks for other jobs when it is run again")
    _claim(digest(rounds) == digest(again), piece, "gets other results when it is run again")
    numbers, before = [turn.target.round for turn in rounds], FULL
    held = bool(numbers) and numbers == sorted(set(numbers))
    _claim(held, piece, f"returns rounds {numbers}, want each once and in order")
    for turn in rounds:
        mask, start, where = turn.job.mask.load(), turn.job.begin.params.load(), turn.target.round
        checks = {**turn.end.checks, **(turn.cut.checks if turn.cut else {})}
        held = turn.target in recipe.targets(world) and False not in checks.values()
        _claim(held, piece, f"has in round {where} {turn.target} and checks {checks}")
        held = recipe.dynamics.moves or mask <= before
        _claim(held, piece, f"keeps weights in round {where} that it had cut before")
        counts, moving = recipe.counted(world), turn.job.dynamics
        anew = moving.redistributes or turn.job.parametrisation.redistributes
        of = turn.end.mask.load() if moving.moves else mask
        if turn.cut is not None and turn.cut.units is not None:
            of = turn.cut.units.load()
        kept = _kept(of, counts)
        asked = recipe.rule.asks(counts, turn.target) if where else _kept(FULL, counts)
        if anew and not isinstance(asked, int):
            asked = sum(asked.values())
        held = asked in (kept, sum(kept.values()))
        _claim(held, piece, f"keeps {kept} in round {where}, was asked for {asked}")
        final, found = turn.end.params.load(), turn.end.mask.load()
        if turn.job.parametrisation.cuts_to_zero:
            _cut_is_zero(piece, final, found)
        else:
            _cut_is_frozen(piece, final, found, start)
        _claim(start.rehash() == start.digest, piece, "writes into the start of a training")
        before = mask


def check_control(
    control: Control, recipe: Recipe, world: World | None = None, seed: int = 0
) -> None:
    """Beside the recipe's last round, asked twice, it trains the same; and of what the ticket
    trains it changes what it claims, and nothing else.

    >>> from tombola.recipes import IMP, Shuffle
    >>> check_control(Shuffle(), IMP.up_to(1))
    """
    piece, world = f"control {control.name!r}", world or toy_world()
    recipe.check(world)
    (turns, jobs), (again, same) = (
        _drive(control_loop(control, recipe, world, seed)) for _ in range(2)
    )
    _claim(bool(turns), piece, "trains nothing")
    _claim(jobs == same, piece, "asks for other jobs when it is run again")
    _claim(digest(turns) == digest(again), piece, "gets other results when it is run again")
    last = recipe.targets(world)[-1].round if control.beside else 0
    rounds, _ = _drive(recipe.up_to(last).loop(recipe.up_to(last), world, seed))
    for turn in turns:
        where = turn.target.round
        _claim(where == last, piece, f"stands at round {where}, want {last}")
        checks = {**turn.end.checks, **(turn.cut.checks if turn.cut else {})}
        _claim(False not in checks.values(), piece, f"has checks {checks}")
        for ticket in rounds[-1:]:
            beside = of_ticket(recipe, ticket, initial_params(world, seed), world)
            wrong = unclaimed(control, beside, turn.job)
            _claim(wrong is None, piece, f"is not what it claims: {wrong}")


def _claim(held: bool, piece: object, what: str) -> None:
    if not held:
        raise AssertionError(f"{piece if isinstance(piece, str) else repr(piece)} {what}.")


def _world(piece: Any, world: World | None = None) -> World:
    """Check that a piece is a value with an identity; gives the world to try it on."""
    frozen = is_dataclass(piece) and vars(type(piece))["__dataclass_params__"].frozen
    _claim(frozen, piece, "is not a frozen dataclass, so its results could not be found again")
    _claim(digest(piece) == digest(replace(piece)), piece, "has another digest when copied")
    return toy_world() if world is None else world


def _twice(piece: object, call: Callable[..., T], *given: Any) -> T:
    """A call's result, checked to be the same a second time, with nothing it was given changed."""
    before, names = digest(_content(given)), []
    with borrowed_generators():
        for number in (1, 2):
            reseed(number)
            result = call(*given)
            names.append(digest(result))
    what = "gives another result for the same arguments; draw from `stream` alone"
    _claim(names[0] == names[1], piece, what)
    _claim(digest(_content(given)) == before, piece, "writes into what it was given")
    return result


def _content(value: Any) -> Any:
    """All tensors of nested arguments, without the digests they are named by."""
    if isinstance(value, (Mapping, Mask)):
        return dict(value.items())
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (tuple, Snapshot, Moment, Site)):
        parts = value if isinstance(value, tuple) else vars(value).values()
        return [_content(part) for part in parts]
    return None


def _snapshot(world: World, seed: int, piece: Any = None, cuts_to_zero: bool = True) -> Snapshot:
    """A network that has moved away from its start, a third of each tensor cut at random."""
    if piece is not None:
        reason = piece.refuses(
            Setting(
                layers=world.layers,
                counted=counted(piece, world.layers, lambda: world.coupling),
                targets=(Target(round=1, density=0.5),),
                steps=world.steps,
                examples=len(world.train),
                objective=type(world.objective).__name__,
                cuts_to_zero=cuts_to_zero,
            )
        )
        _claim(reason is None, piece, f"refuses this world, so check it on another: {reason}")
    start, moved, kept = initial_params(world, seed), {}, {}
    for layer in world.layers:
        draw = torch.rand(2, *layer.shape, generator=stream(seed, "snapshot", layer.name))
        moved[layer.name], kept[layer.name] = start[layer.name] + draw[0] - 0.5, draw[1] > 1 / 3
    end = Mask(kept).apply(start.replaced(moved))
    return Snapshot(start=start, end=end, mask=Mask(kept), layers=world.layers)


def _counts(piece: object, asked: Mapping[str, int], most: Mapping[str, int]) -> Mapping[str, int]:
    held = set(asked) == set(most) and all(
        isinstance(count, int) and 0 <= count <= most[name] for name, count in asked.items()
    )
    _claim(held, piece, f"keeps {asked}, want a whole number for each, at most {most}")
    return asked


def _kept(mask: Mask, layers: Layers) -> dict[str, int]:
    return {layer.name: mask.kept(layer.name, layer.count) for layer in layers}


def _fits(
    piece: object, what: str, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]
) -> None:
    got, want = ({n: (tuple(t.shape), t.dtype) for n, t in x.items()} for x in (tensors, like))
    _claim(got == want, piece, f"{what} gives tensors {got}, want {want}")


def _cut_is_zero(piece: object, tensors: Mapping[str, Tensor], mask: Mask) -> None:
    for name, kept in mask.items():
        zero = Selection(kept, tensors[name].dtype).cut_is_zero(tensors[name].detach())
        _claim(zero, piece, f"leaves cut weights of {name!r} that are not +0.0")


def _cut_is_frozen(
    piece: object, tensors: Mapping[str, Tensor], mask: Mask, start: Mapping[str, Tensor]
) -> None:
    for name, kept in mask.items():
        same = Selection(kept, tensors[name].dtype).cut_is_same(tensors[name], start[name])
        _claim(same, piece, f"changes cut weights of {name!r}, which it is to freeze")


def _trains(piece: object, at: Snapshot, world: World, seed: int, **pieces: Any) -> None:
    training = Training(
        world=world,
        seed=seed,
        params=at.start,
        mask=at.mask,
        step=0,
        until=world.steps,
        objective=world.objective,
        **pieces,
    )
    whole, half = digest(train(training)), train(replace(training, until=training.until // 2))
    _claim(digest(train(training)) == whole, piece, "trains to another end the second time")
    resumed = digest(train(training, resume=half))
    _claim(resumed == whole, piece, "trains to another end when interrupted")


def check_probe(probe: "Probe", world: World | None = None, seed: int = 0) -> None:
    """On a study of IMP with its controls, run twice in memory, it asks for the same jobs and finds
    the same; it can be planned, with nothing found; and it shows one value for each seed.

    >>> import tombola as tb; tb.testing.check_probe(tb.probes.OVERLAP)
    """
    from tombola.lab.question import Question, rehearsed  # here: verdicts need more packages

    world = _world(probe, world or toy_world(steps=40, judged_density=0.5))
    question = Question(recipe=IMP, world=world, seeds=(seed,))
    digest(probe)
    refused = probe.refuses(question)
    _claim(refused is None, probe, f"refuses a study of imp on a toy world: {refused}")
    rehearsed(probe.loop(question, seed))
    (found, jobs), (again, same) = (_drive(probe.loop(question, seed)) for _ in range(2))
    _claim(jobs == same, probe, "asks for other jobs when it is run again")
    shown, twice = (probe.show(question, [of]) for of in (found, again))
    _claim(digest(shown) == digest(twice), probe, "finds something else when it is run again")
    rows = {table.name: [row.as_json() for row in table.rows] for table in shown.tables}
    _claim(len(rows) == len(shown.tables), probe, "has two tables of one name")
    held = all(row["n"] == 1 for of in rows.values() for row in of)
    _claim(held, probe, "has rows of another number of values than there are seeds, which is 1")
    json.dumps(rows, allow_nan=False)
    for table in shown.tables:
        _claim(
            all(set(table.printed) <= set(row["metrics"]) for row in rows[table.name]),
            probe,
            f"prints {table.printed} of table {table.name!r}, whose rows have not all of them",
        )
    for chart in shown.charts:
        wanted = {chart.x, chart.line, *chart.where}
        drawn = rows.get(chart.table, [])
        held = all(wanted <= set(row) and chart.y in row["metrics"] for row in drawn)
        _claim(bool(drawn) and held, probe, f"draws {chart.title!r} from what is not there")


def _drive(loop: Loop[T]) -> tuple[T, list[str]]:
    """Run a loop in memory, equal jobs once; gives what it returns, and the keys of its jobs as
    asked for."""
    keys, sent, known = list[str](), None, dict[str, Any]()
    while True:
        try:
            asked = loop.send(sent)
        except StopIteration as stop:
            return stop.value, keys
        jobs = asked if isinstance(asked, tuple) else (asked,)
        wanted = [job_key(job) for job in jobs]
        keys += wanted
        for key, job in zip(wanted, jobs, strict=True):
            if key not in known:
                known[key] = job.run(NoDesk())
        results = tuple(known[key] for key in wanted)
        sent = results if isinstance(asked, tuple) else results[0]
