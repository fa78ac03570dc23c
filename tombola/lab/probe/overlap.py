"""Weight correlation: do the weights that are large at the start stay the large ones?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import mean
from typing import Any, ClassVar, TypeAlias

from tombola.errors import CallError
from tombola.lab.probe.probe import Chart, Row, Shown, Table, finished
from tombola.lab.question import Question
from tombola.lab.verdict import TICKET
from tombola.pieces.overlap import by_chance, displacement, overlap
from tombola.recipes.job import Desk, Loop
from tombola.recipes.jobs import Init, Train
from tombola.recipes.recipe import Round
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.values.point import Point

FRESH = 1_000_000  # a draw of initial values that no control has: reinit counts from 1

PAIRS: Mapping[str, tuple[str, str]] = {
    "start-end": ("start", "end"),
    "dense-end": ("dense", "end"),
    "init-end": ("init", "end"),
    "init-dense": ("init", "dense"),
    "fresh-end": ("fresh", "end"),
}
"""The pairs that can be compared. init: the initial values of the seed. start: where the arm's
training began (other than init after a rewind, or with fresh values). end: where it ended. dense:
the trained whole network. fresh: another draw of initial values, which nothing was trained from."""


WORDS: Mapping[str, str] = {
    "start-end": "where the arm's training began and ended",
    "dense-end": "the trained dense network and where the arm's training ended",
    "init-end": "the seed's initial values and where the arm's training ended",
    "init-dense": "the seed's initial values and the trained dense network",
    "fresh-end": "other initial values, never trained, and where the arm's training ended",
}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Pair -> one value for each share; the displacement of each pair; the overlap by chance for
    each share; how many weights are kept."""

    overlap: dict[str, list[float | None]]
    moved: dict[str, float | None]
    chance: list[float | None]
    kept: int


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Overlaps of pairs of networks, among the weights that a mask keeps."""

    kind: ClassVar[str] = "compare"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    layers: tuple[Layer, ...]
    mask: Handle[Mask]
    networks: Mapping[str, Handle[Params]]
    pairs: tuple[tuple[str, str], ...]
    shares: tuple[float, ...]

    def run(self, desk: Desk) -> Compared:
        mask, layers = self.mask.load(), self.layers
        of = {name: handle.load() for name, handle in self.networks.items()}
        named = {f"{one}-{other}": (of[one], of[other]) for one, other in self.pairs}
        return Compared(
            overlap={
                name: [overlap(*two, layers, mask, share) for share in self.shares]
                for name, two in named.items()
            },
            moved={name: displacement(*two, layers, mask) for name, two in named.items()},
            chance=[by_chance(layers, mask, share) for share in self.shares],
            kept=sum(mask.kept(layer.name, layer.count) for layer in layers),
        )

    def placeholder(self, pending: Any) -> Compared:
        return Compared(overlap={}, moved={}, chance=[], kept=0)


Place: TypeAlias = tuple[str, int]
"""Arm, and round."""

Found: TypeAlias = Mapping[Place, tuple[Compared, ...]]
"""What was compared at each place; more than one where a control is drawn more than once."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Of the largest weights of one network, the fraction among the largest of another.

    For every arm and round of the study, among the weights that the arm keeps, layer by layer. At
    a small learning rate weights stay near where they started, and their overlap is far above
    chance; the source holds that tickets win only there.

    pairs: which networks, by name (see `PAIRS`): the source has `start-end` and `dense-end` of
    tickets, `init-end` of the whole network; the strict definition of tickets (Ma et al. 2021,
    arXiv 2107.00166) `init-dense` under the ticket's mask; `fresh-end` says what no correlation
    looks like. shares: which fraction of each layer's weights counts as large.

    Raises:
        CallError: a pair or a share that cannot be meant.
    """

    name: str = field(default="overlap", repr=False, metadata={"identity": False})
    summary: str = field(
        default="which weights are large: at the start and at the end, in the ticket and in the "
        "dense network",
        repr=False,
        metadata={"identity": False},
    )
    source: str = field(
        default="Liu, Yuan, Che, Shen, Ma, Jin, Ren, Tang, Liu & Wang 2021, Lottery Ticket "
        "Preserves Weight Correlation: Is It Desirable or Not? (arXiv 2102.11068), section 3",
        repr=False,
        metadata={"identity": False},
    )
    pairs: tuple[str, ...] = tuple(PAIRS)
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)

    def __post_init__(self) -> None:
        if not self.pairs or not set(self.pairs) <= set(PAIRS):
            raise CallError(f"Overlap(pairs={self.pairs!r}): want some of {', '.join(PAIRS)}.")
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise CallError(f"Overlap(shares={self.shares!r}): want fractions in (0, 1).")

    def refuses(self, question: Question) -> str | None:
        """See `Probe`."""
        return None

    def loop(self, question: Question, seed: int) -> Loop[Found]:
        """See `Probe`."""
        world = question.world
        init = (yield Init(world, seed)).params
        fresh = (yield Init(world, seed, FRESH)).params
        whole = Train(world, seed, Point(init, None, 0), FULL, world.steps, world.objective)
        dense = yield whole
        places: list[Place] = []
        jobs: list[Compare] = []
        for arm in (TICKET, *question.arms):
            for turn in (yield from finished(question, arm, seed)):
                if not dense.diverged and self._fits(turn, question):
                    networks = {
                        "init": init,
                        "start": turn.job.begin.params,
                        "end": turn.end.params,
                        "dense": dense.params,
                        "fresh": fresh,
                    }
                    places.append((arm, turn.target.round))
                    jobs.append(self._compare(question, turn, networks))
        results = yield tuple(jobs)
        found: dict[Place, tuple[Compared, ...]] = {}
        for place, compared in zip(places, results, strict=True):
            found[place] = (*found.get(place, ()), compared)
        return found

    def _fits(self, turn: Round, question: Question) -> bool:
        """Whether a round has the network of the study, and finished."""
        return not turn.end.diverged and turn.job.world.model_digest == question.world.model_digest

    def _compare(
        self, question: Question, turn: Round, networks: Mapping[str, Handle[Params]]
    ) -> Compare:
        pairs = tuple(PAIRS[name] for name in self.pairs)
        used = {name for pair in pairs for name in pair}
        return Compare(
            layers=question.recipe.layers(question.world),
            mask=turn.end.mask,
            networks={name: handle for name, handle in networks.items() if name in used},
            pairs=pairs,
            shares=self.shares,
        )

    def show(self, question: Question, found: Sequence[Found]) -> Shown:
        """See `Probe`."""
        arms = [TICKET, *question.arms]
        places = sorted(
            {place for seed in found for place in seed}, key=lambda at: (arms.index(at[0]), at[1])
        )
        looked_at = {0, *question.control_rounds}
        fifth = min(self.shares, key=lambda share: abs(share - 0.2))
        tables = (
            Table(
                name="summary",
                title="Overlap of the weights that are largest in each layer",
                rows=tuple(
                    self._summary(question, found, at, fifth) for at in places if at[1] in looked_at
                ),
                printed=self.pairs[:2],
            ),
            Table(
                name="overlap",
                title="Overlap by pair and share",
                rows=tuple(
                    self._row(question, found, at, pair, share)
                    for at, pair, share in product(places, self.pairs, self.shares)
                ),
            ),
        )
        return Shown(tables=tables, charts=self._charts(fifth), notes=self._notes())

    def _charts(self, share: float) -> tuple[Chart, ...]:
        by_density = (
            Chart(
                title=f"Overlap {pair} of the largest {share:g}, by density",
                table="overlap",
                x="density",
                y="overlap",
                line="arm",
                where={"pair": pair, "share": share},
                level=(share, "by chance"),
            )
            for pair in self.pairs
        )
        by_share = Chart(
            title="Overlap in the whole network, by the share that counts as large",
            table="overlap",
            x="share",
            y="overlap",
            line="pair",
            where={"arm": TICKET, "round": 0},
        )
        return (*by_density, by_share)

    def _notes(self) -> tuple[str, ...]:
        said = "; ".join(f"{name}, {WORDS[name]}" for name in self.pairs)
        return (
            "Among the weights each arm keeps. Two networks that have nothing to do with each other"
            " have about their share in common.",
            f"Pairs: {said}.",
        )

    def _summary(self, question: Question, found: Sequence[Found], at: Place, share: float) -> Row:
        """All pairs side by side."""
        rows = {pair: self._row(question, found, at, pair, share) for pair in self.pairs}
        place = dict(next(iter(rows.values())).place)
        del place["pair"]
        return Row(
            place=place, metrics={pair: row.metrics["overlap"] for pair, row in rows.items()}
        )

    def _row(
        self, question: Question, found: Sequence[Found], at: Place, pair: str, share: float
    ) -> Row:
        """One value for each seed, mean over the draws of a control; none where it diverged."""
        which = self.shares.index(share)
        of = [seed.get(at, ()) for seed in found]
        kept = next(compared.kept for seed in of for compared in seed)
        return Row(
            place={
                "arm": at[0],
                "round": at[1],
                "density": kept / question.total,
                "pair": pair,
                "share": share,
            },
            metrics={
                "overlap": [_mean([one.overlap[pair][which] for one in seed]) for seed in of],
                "chance": [_mean([one.chance[which] for one in seed]) for seed in of],
                "moved": [_mean([one.moved[pair] for one in seed]) for seed in of],
            },
        )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


OVERLAP = Overlap()
