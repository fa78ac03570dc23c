"""What is to be shipped: from a study, or from a ticket file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tombola.errors import CallError, ShipError, TicketError, WorkError
from tombola.lab.engines.inline import Inline
from tombola.lab.events import Watcher
from tombola.lab.question import Trial
from tombola.lab.runner import Runner
from tombola.lab.store import Store
from tombola.lab.study import Study
from tombola.lab.verdict import TICKET
from tombola.recipes.job import Loop
from tombola.recipes.jobs import Train, Trained
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.point import Point
from tombola.values.ticket import Ticket
from tombola.world.world import World


@dataclass(frozen=True, kw_only=True)
class Cargo:
    """A network on its way out.

    params: all tensors, cut weights +0.0 (`cuts_to_zero`) or as frozen. stem: the file's name
    without its ending. provenance: as in `Ticket`. trained: whether its test accuracy says
    anything. recorded: that accuracy as measured when it was trained, a fraction; None if it was
    not noted for this network alone.
    """

    params: Params
    mask: Mask
    stem: str
    provenance: dict[str, Any]
    trained: bool
    recorded: float | None = None
    cuts_to_zero: bool = True


@dataclass(frozen=True)
class Which:
    """A trial as named on the command line; None leaves the choice to the study."""

    study: str
    arm: str | None = None
    round: int | None = None
    seed: int | None = None

    def choice(self) -> dict[str, Any]:
        """Arguments of `Study.trial`."""
        return {"arm": self.arm or TICKET, "round": self.round, "seed": self.seed}


def which_of(text: str) -> Path | Which:
    """`STUDY[:arm[:round[:seed]]]`, or an existing file.

    >>> which_of("latest::5")
    Which(study='latest', arm=None, round=5, seed=None)
    """
    if Path(text).is_file():
        return Path(text)
    if "/" in text or text.endswith(".safetensors"):
        raise TicketError(f"there is no ticket file {text}.")
    study, *rest = text.split(":")
    if len(rest) > 3 or not all(part.isdecimal() for part in rest[1:] if part):
        raise CallError(
            f"ticket {text!r}: want a ticket file, or STUDY[:arm[:round[:seed]]], for "
            "example latest:ticket:5:0."
        )
    arm, number, seed = (*rest, "", "", "")[:3]
    return Which(study, arm or None, int(number) if number else None, int(seed) if seed else None)


# -- from a study ----------------------------------------------------------------------------


def trained_in(study: Study, which: Which) -> Cargo:
    """The trained network of a trial."""
    trial = study.trial(**which.choice())
    if trial["diverged_at"] is not None:
        raise ShipError(
            f"{_place(trial)} of study {study.digest[:12]} diverged at step "
            f"{trial['diverged_at']}; there is no network to ship."
        )
    return Cargo(
        params=study.params(**which.choice()),
        mask=study.mask(**which.choice()),
        stem=stem_in(study, trial),
        provenance=study.provenance(**which.choice()),
        trained=True,
        recorded=_recorded(study, trial),
        cuts_to_zero=trial["cuts_to_zero"],
    )


def stem_in(study: Study, trial: dict[str, Any]) -> str:
    """A name that no other trial of any study has."""
    document = study.document
    name = (
        f"{document['recipe']}-{document['world']}-{study.digest[:8]}-{trial['arm']}"
        f"-round{trial['round']}-seed{trial['seed']}"
    )
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".")


def _recorded(study: Study, trial: dict[str, Any]) -> float | None:
    """The table's value; where a seed has several draws it is their mean, and of no use here."""
    place = ("arm", "round", "seed")
    if sum(all(t[key] == trial[key] for key in place) for t in study.facts["trials"]) > 1:
        return None
    row = next(r for r in study.rows if (r["arm"], r["round"]) == (trial["arm"], trial["round"]))
    values = row["metrics"].get("test_accuracy", {}).get("values")
    return None if values is None else values[study.document["seeds"].index(trial["seed"])]


def _place(trial: dict[str, Any]) -> str:
    return f"arm {trial['arm']}, round {trial['round']}, seed {trial['seed']}"


# -- from a ticket file ----------------------------------------------------------------------


def stem_of(path: Path) -> str:
    """The name of a ticket file without its endings.

    >>> stem_of(Path("tickets/mine.ticket.safetensors"))
    'mine'
    """
    return path.name.removesuffix(".safetensors").removesuffix(".ticket")


def at_start(ticket: Ticket, stem: str) -> Cargo:
    """The sparse network as it starts."""
    return Cargo(
        params=ticket.mask.apply(ticket.init),
        mask=ticket.mask,
        stem=f"{stem}.untrained",
        provenance=dict(ticket.provenance),
        trained=False,
    )


def training_of(ticket: Ticket, world: World, seed: int | None) -> Train:
    """The job that trains a ticket: with the world's own objective, in the data order of `seed`.

    Raises:
        ShipError: no seed, or the world's training is shorter than the ticket's start.
    """
    seed = ticket.provenance.get("seed") if seed is None else seed
    if seed is None:
        raise ShipError("the ticket file names no seed; give one with --seed.")
    if ticket.start_step > world.steps:
        raise ShipError(
            f"the ticket starts at step {ticket.start_step}, world {world.name!r} "
            f"trains for {world.steps}."
        )
    begin = Point(ticket.init, None, ticket.start_step)
    return Train(
        world=world,
        seed=seed,
        begin=begin,
        mask=ticket.mask,
        until=world.steps,
        objective=world.objective,
    )


def trained_now(ticket: Ticket, job: Train, stem: str, store: Store, watcher: Watcher) -> Cargo:
    """The network a ticket file's ticket trains to; what the store has is not trained again."""

    def loop() -> Loop[Trained]:
        end: Trained = yield job
        return end

    trial = Trial(TICKET, job.seed)
    end = Runner(store, Inline(store, watcher), watcher).drive({trial: loop()})[trial]
    if end.diverged:
        raise WorkError(
            f"the ticket's training diverged at step {end.diverged_at}; there is no "
            "network to ship."
        )
    return Cargo(
        params=end.params.load(),
        mask=ticket.mask,
        stem=f"{stem}.trained",
        provenance={**ticket.provenance, "world": job.world.name, "seed": job.seed},
        trained=True,
        recorded=end.metrics.get("test_accuracy"),
    )
