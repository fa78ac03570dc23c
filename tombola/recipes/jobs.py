"""The three jobs recipes are made of: Init, Train, Prune."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from tombola.errors import CheckError
from tombola.pieces.basis import basis_of, counted
from tombola.pieces.dynamics import Dynamics, Static, moves_of
from tombola.pieces.parametrisation import Identity, Parametrisation
from tombola.pieces.rule import Cut, Rule
from tombola.pieces.schedule import Target
from tombola.pieces.score.score import Snapshot
from tombola.recipes.job import Desk, Job, job_key
from tombola.train.executors import chosen
from tombola.train.leg import Leg
from tombola.train.loop import final_metrics, settled, train
from tombola.train.select import Selection
from tombola.train.together import Asked, train_together
from tombola.train.training import Training
from tombola.values.digest import canonical, digest
from tombola.values.handle import Handle
from tombola.values.layer import Layer
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.rng import borrowed_generators
from tombola.values.units import expanded
from tombola.world.objective import Objective
from tombola.world.probe import NetworkProbe
from tombola.world.switched import Switched, stages
from tombola.world.world import World, initial_params


@dataclass(frozen=True, kw_only=True)
class Started:
    """A network at initialisation."""

    params: Handle[Params]


@dataclass(frozen=True)
class Init:
    """The initial values of a seed. draw: another number is an independent draw (for `reinit`)."""

    kind: ClassVar[str] = "init"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    seed: int
    draw: int = 0

    def run(self, desk: Desk) -> Started:
        names = () if self.draw == 0 else ("draw", self.draw)
        return Started(params=initial_params(self.world, self.seed, *names))

    def placeholder(self, pending: Any) -> Started:
        return Started(params=pending("params"))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training's end.

    params: the finished network, cut weights +0.0 or as frozen. slots: optimiser state, None at the
    end of the world's length. mask: what is kept, found by the training where it moves. readings:
    the validation curve. metrics: of the test split, empty before the world's length. exposure:
    what was seen from `began` to `step`, in hexadecimal. diverged_at: the step at which weights or
    loss were found not finite; the training stopped there. kept: weights of each tensor that the
    mask cuts into. executor, why_dense: what made the steps (see `Leg`). moves: where the mask has
    been, rows of `pieces.dynamics.COLUMNS` for each tensor that moved; None where none did.
    """

    params: Handle[Params]
    slots: Handle[Params] | None
    mask: Handle[Mask]
    began: int
    step: int
    readings: list[dict[str, float]]
    metrics: dict[str, float | None]
    exposure: str
    checks: dict[str, bool | None]
    diverged_at: int | None
    kept: dict[str, int]
    executor: str
    why_dense: str | None
    moves: dict[str, list[list[int]]] | None = None

    @property
    def diverged(self) -> bool:
        return self.diverged_at is not None

    @property
    def point(self) -> Point:
        return Point(self.params, self.slots, self.step)


@dataclass(frozen=True)
class Train:
    """Train from a point, with a mask, to a step.

    The steps on the way are one trajectory: training to k and then to T is stored, and found, as
    the same work as training to T, for every k.

    order_seed, noise_seed: of the order of the examples, and of augmentation and dropout, where
    they are not `seed`; copies that share a start and differ in one of them tell how stable it is.
    """

    kind: ClassVar[str] = "train"
    version: ClassVar[int] = 5

    world: World
    seed: int
    begin: Point
    mask: Handle[Mask]
    until: int
    objective: Objective | Switched
    given: Mapping[str, Handle[Params]] = field(default_factory=dict)
    parametrisation: Parametrisation = field(default_factory=Identity)
    dynamics: Dynamics = field(default_factory=Static)
    order_seed: int | None = None
    noise_seed: int | None = None

    @property
    def steps(self) -> int:
        return self.until - self.begin.step

    @property
    def trajectory(self) -> str:
        """The name of this training whatever step it is to reach."""
        return job_key(self, leave_out=frozenset({"until"}))

    @property
    def company(self) -> str | None:
        """What trainings that may be advanced together have in common; None for one that is always
        trained alone."""
        if self.world.numerics.executor != "stacked" or isinstance(self.objective, Switched):
            return None
        pieces = canonical([self.objective, self.parametrisation, self.dynamics])
        fresh = self.begin.slots is None
        return digest(["company", self.world.digest, pieces, self.begin.step, self.until, fresh])

    def run(self, desk: Desk) -> Trained:
        begin = before = self.begin.step
        leg = desk.resume(self.trajectory, begin, self.until)
        for objective, until in stages(self.objective, begin, self.until):
            training = self._training(objective, until)
            if leg is not None and begin < leg.step == before:
                leg = replace(leg, executor=chosen(training).name)  # from the end of another stage
            before = until
            if leg is not None and leg.step >= until < self.until:
                continue  # resumed in a later stage
            leg = train(
                training,
                leg,
                keep=lambda leg: desk.keep(self.trajectory, leg, False),
                tick=lambda step, metrics: desk.tick(step - begin, metrics),
            )
        assert leg is not None
        if self.until < self.world.steps:
            desk.keep(self.trajectory, leg, True)
        return self._result(training, leg)

    def _asked(self, desk: Desk) -> Asked:
        begin, trajectory = self.begin.step, self.trajectory
        assert not isinstance(self.objective, Switched)
        return Asked(
            training=self._training(self.objective, self.until),
            resume=desk.resume(trajectory, begin, self.until),
            keep=lambda leg: desk.keep(trajectory, leg, False),
            tick=lambda step, metrics: desk.tick(step - begin, metrics),
        )

    def _training(self, objective: Objective, until: int) -> Training:
        slots = self.begin.slots
        return Training(
            world=self.world,
            seed=self.seed,
            params=self.begin.params.load(),
            slots=None if slots is None else slots.load(),
            mask=self.mask.load(),
            step=self.begin.step,
            until=until,
            objective=objective,
            given={name: self.given[name].load() for name in sorted(objective.given)},
            parametrisation=self.parametrisation,
            dynamics=self.dynamics,
            order_seed=self.order_seed,
            noise_seed=self.noise_seed,
        )

    def _result(self, training: Training, leg: Leg) -> Trained:
        finished = settled(training, leg)
        assert finished is not None
        params, mask = finished
        at_end = self.until == self.world.steps
        return Trained(
            params=params,
            slots=None if at_end else leg.slots,
            mask=mask,
            began=self.begin.step,
            step=leg.step,
            readings=[{"step": r.step, **r.metrics} for r in leg.readings],
            metrics=final_metrics(training, leg) if at_end else {},
            exposure=f"{leg.exposure:032x}",
            diverged_at=leg.diverged_at,
            checks={**leg.checks, "cut_stays_zero": self._cut_stays(params, mask)},
            kept={name: mask.kept(name, 0) for name in mask.names},
            executor=leg.executor,
            why_dense=leg.why_dense,
            moves=moves_of(leg.state) or None,
        )

    def _cut_stays(self, params: Params, mask: Mask) -> bool | None:
        """Self-check on what is handed on: cut weights are +0.0, or what they were frozen at when
        training started, bit for bit. None where nothing is cut, or nothing to zero."""
        to_zero = self.parametrisation.cuts_to_zero
        start = None if to_zero or not mask.names else self.begin.params.load()
        for name, kept in mask.items():
            selection = Selection(kept, params[name].dtype)
            if start is None and not selection.cut_is_zero(params[name]):
                raise CheckError(
                    f"cut_stays_zero: cut weights of {name!r} are not +0.0 at the end."
                )
            if start is not None and not selection.cut_is_same(params[name], start[name]):
                raise CheckError(
                    f"cut_stays_frozen: cut weights of {name!r} are not at the end what they were "
                    "frozen at when training started."
                )
        return True if to_zero and mask.names else None

    def placeholder(self, pending: Any) -> Trained:
        slots = None if self.until == self.world.steps else pending("slots")
        return Trained(
            params=pending("params"),
            slots=slots,
            mask=pending("mask"),
            began=self.begin.step,
            step=self.until,
            readings=[],
            metrics={},
            exposure="",
            checks={},
            diverged_at=None,
            kept={},
            executor="",
            why_dense=None,
        )


def run_together(jobs: Sequence[Train], desks: Sequence[Desk]) -> list[Trained]:
    """Trainings of one `company`; the result of each is what its own `run` gives, bit for bit."""
    asked = [job._asked(desk) for job, desk in zip(jobs, desks, strict=True)]
    legs = train_together(asked)
    for job, desk, leg in zip(jobs, desks, legs, strict=True):
        if job.until < job.world.steps:
            desk.keep(job.trajectory, leg, True)
    return [job._result(a.training, leg) for job, a, leg in zip(jobs, asked, legs, strict=True)]


def company_of(job: Job) -> str | None:
    """The `company` of a training; None for any other job."""
    return job.company if isinstance(job, Train) else None


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A cut. params: all tensors after it, where the rule changed weights. kept: by tensor, and
    checks, as found on the mask itself. units: which units are kept, where such are cut."""

    mask: Handle[Mask]
    params: Handle[Params] | None
    kept: dict[str, int]
    checks: dict[str, bool | None]
    units: Handle[Mask] | None = None


@dataclass(frozen=True)
class Prune:
    """Apply a rule: from weights and a mask to a smaller mask."""

    kind: ClassVar[str] = "prune"
    version: ClassVar[int] = 1
    steps: ClassVar[int] = 0

    world: World
    seed: int
    rule: Rule
    layers: tuple[Layer, ...]
    target: Target
    start: Handle[Params]
    end: Handle[Params]
    mask: Handle[Mask]

    def run(self, desk: Desk) -> Pruned:
        prior = self.mask.load()
        at = Snapshot(start=self.start.load(), end=self.end.load(), mask=prior, layers=self.layers)
        with self.world.numerics.in_force(), borrowed_generators():
            cut = self.rule.cut(at, NetworkProbe(self.world, self.seed), self.target)
        kept = {layer.name: cut.mask.kept(layer.name, layer.count) for layer in self.layers}
        if not cut.mask <= prior:
            raise CheckError(f"mask_nested: round {self.target.round} keeps weights cut before.")
        beside = sorted(set(cut.mask.names) - set(kept))
        if beside:
            raise CheckError(f"count_exact: the mask cuts {beside}, which are not in scope.")
        self._check_counts(cut)
        return Pruned(
            mask=cut.mask,
            params=cut.params,
            kept=kept,
            checks={"mask_nested": True, "count_exact": True},
            units=cut.units,
        )

    def _check_counts(self, cut: Cut) -> None:
        """Self-check: as many weights, or units, as the target asks for; and a unit that is gone
        has no weight left."""
        coupling = partial(getattr, self.world, "coupling")
        counts = counted(self.rule, self.layers, coupling)
        asked, basis = self.rule.asks(counts, self.target), basis_of(self.rule)
        of = cut.mask if basis is None or cut.units is None else cut.units
        found = {one.name: of.kept(one.name, one.count) for one in counts}
        if (sum(found.values()) if isinstance(asked, int) else found) != asked:
            raise CheckError(f"count_exact: asked for {asked}, the mask keeps {found}.")
        if basis is not None:
            shapes = {layer.name: layer.shape for layer in self.layers}
            whole = expanded(of, basis.sets(self.layers, coupling), shapes)
            if not cut.mask <= whole:
                raise CheckError("count_exact: the mask keeps weights of units that are cut.")

    def placeholder(self, pending: Any) -> Pruned:
        params = pending("params") if self.rule.moves_weights else None
        units = None if basis_of(self.rule) is None else pending("units")
        return Pruned(mask=pending("mask"), params=params, kept={}, checks={}, units=units)
