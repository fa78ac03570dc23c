"""Settling: how far apart the masks of early-bird tickets were, and what the early cut saved."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tombola.lab.probe.probe import Chart, Row, Shown, Table, finished
from tombola.lab.question import Question
from tombola.lab.verdict import TICKET
from tombola.pieces.schedule import Target
from tombola.pieces.settling import WhenSettled, chance_distance
from tombola.recipes.cost import training_cost
from tombola.recipes.early_bird import Compare, Search, search, steps_looked_at
from tombola.recipes.job import Loop
from tombola.recipes.recipe import Round


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One target of a seed. distances: by step, to each mask before it, the nearest first. turn:
    the ticket's training; None where the study has none."""

    search: Search
    distances: dict[int, list[float]]
    turn: Round | None


@dataclass(frozen=True, kw_only=True)
class Settling:
    """The distance of every mask of the search to every earlier one, and what was saved.

    Distances are fractions of places that differ; `scaled` those divided by the one of masks drawn
    at random with the same density, 2 p (1 - p). Costs are of multiplications, counted as in
    `training_cost`: those of the search, which trains the whole network, and of the training after
    the cut. Trains nothing that the study has not.

    Source: You et al. 2020 (arXiv 1909.11957), figure 4, for the matrix of distances.
    """

    name: str = field(default="settling", repr=False, metadata={"identity": False})
    summary: str = field(
        default="distances between the masks of early-bird tickets, when they settled, and what "
        "the early cut saved",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="You et al. 2020, Drawing Early-Bird Tickets (arXiv 1909.11957), figure 4",
        repr=False,
        metadata={"identity": False},
    )

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        if isinstance(question.recipe.rule, WhenSettled):
            return None
        return (
            f"it is about the search of early-bird tickets, and {question.recipe.name!r} has none; "
            "want a study of early-bird, or of a recipe like it"
        )

    def loop(self, question: Question, seed: int) -> Loop[tuple[Seen, ...] | None]:
        """See `Probe`."""
        recipe, world = question.recipe, question.world
        searched: tuple[Search, ...] | None = yield from search(recipe, world, seed)
        if searched is None:
            return None
        turns = {turn.target.round: turn for turn in (yield from finished(question, TICKET, seed))}
        counts, found = recipe.counted(world), list[Seen]()
        for one in searched:
            masks = [cut.mask if cut.units is None else cut.units for cut in one.cuts.values()]
            compared = yield tuple(
                Compare(newest=mask, before=tuple(masks[:place][::-1]), layers=counts)
                for place, mask in enumerate(masks)
            )
            away = [result.distances for result in compared]
            distances = dict(zip(one.cuts, away, strict=True))
            turn = turns.get(one.target.round)
            found.append(Seen(search=one, distances=distances, turn=turn))
        return tuple(found)

    def show(self, question: Question, found: Sequence[tuple[Seen, ...] | None]) -> Shown:
        """See `Probe`."""
        rule = question.recipe.rule
        assert isinstance(rule, WhenSettled)
        targets = [target for target in question.targets if target.round]
        saved = Table(
            name="settled",
            title="When masks had settled, and the cost of search and training",
            rows=tuple(
                _saved(question, target, _at(found, place)) for place, target in enumerate(targets)
            ),
            printed=("settled_step", "of_dense", "of_three_stages"),
        )
        rows = [
            row
            for place, target in enumerate(targets)
            for row in _distances(question, rule, target, _at(found, place))
        ]
        near = [row for row in rows if int(row.place["apart"]) < rule.window]
        tables = (
            saved,
            Table(name="window", title="Distance to the masks before", rows=tuple(near)),
            Table(name="matrix", title="Distance to every mask before", rows=tuple(rows)),
        )
        charts = tuple(
            Chart(
                title=f"Distance of a mask to those 1 to {rule.window - 1} before it, density "
                f"{target.density:g} of the units",
                table="window",
                x="step",
                y="scaled" if rule.scaled else "distance",
                line="apart",
                where={"density": target.density},
                level=(rule.threshold, "threshold"),
            )
            for target in targets
        )
        notes = (
            "settled: the step of the cut; none where the training was over first.",
            "of dense: multiplications of search and training, over those of one dense training. "
            "of three stages: over those of training the whole network, cutting it, and training "
            "the rest for the whole length.",
            *(
                f"At density {target.density:g} masks drawn at random differ by "
                f"{chance_distance(target.density):.3g}."
                for target in targets
            ),
        )
        return Shown(tables=tables, charts=charts, notes=notes)


def _at(found: Sequence[tuple[Seen, ...] | None], place: int) -> list[Seen | None]:
    return [None if seed is None else seed[place] for seed in found]


def _saved(question: Question, target: Target, seeds: Sequence[Seen | None]) -> Row:
    costs = [None if one is None else _cost(question, one) for one in seeds]
    return Row(
        place={"density": target.density},
        metrics={
            "settled_step": [None if one is None else one.search.settled_at for one in seeds],
            "spent_steps": [
                None if one is None or one.turn is None else one.turn.spent for one in seeds
            ],
            "of_dense": [None if cost is None else cost[0] for cost in costs],
            "of_three_stages": [None if cost is None else cost[1] for cost in costs],
        },
    )


def _cost(question: Question, one: Seen) -> tuple[float, float] | None:
    """Multiplications of search and training, of one dense training and of the three stages."""
    if one.turn is None:
        return None
    world, job, end = question.world, one.turn.job, one.turn.end
    spent = one.search.step / world.steps + training_cost(job, end, world)
    whole = training_cost(job, replace(end, began=0, step=world.steps), world)
    return spent, spent / (1.0 + whole)


def _distances(
    question: Question, rule: WhenSettled, target: Target, seeds: Sequence[Seen | None]
) -> list[Row]:
    """A row for each pair of masks that some seed has."""
    steps = steps_looked_at(question.world, rule.every or question.world.steps_per_epoch)
    chance, rows = chance_distance(target.density), []
    for place, step in enumerate(steps):
        for apart in range(1, place + 1):
            values = [
                None if one is None or step not in one.distances else one.distances[step][apart - 1]
                for one in seeds
            ]
            if any(value is not None for value in values):
                scaled = [None if value is None else value / chance for value in values]
                where = {"density": target.density, "step": step, "apart": apart}
                rows.append(Row(place=where, metrics={"distance": values, "scaled": scaled}))
    return rows


SETTLING = Settling()
