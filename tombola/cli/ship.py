"""`tombola ship`: a model for use elsewhere."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import (
    DataOption,
    JsonOption,
    StoreOption,
    begin_work,
    store_folder,
    store_to_read,
)
from tombola.cli.studies import data_of
from tombola.errors import CallError

if TYPE_CHECKING:
    from tombola.out.ship.cargo import Cargo
    from tombola.values.ticket import Ticket
    from tombola.world.world import World


@app.command(sort_key=4)
def ship(
    ticket: Annotated[str, Parameter(help="A ticket file, or STUDY[:arm[:round[:seed]]].")],
    /,
    *,
    to: Annotated[
        Literal["safetensors", "packed", "compact", "sparse", "onnx", "ticket"],
        Parameter(
            help="safetensors: the trained network's state dict. packed: the smallest file. "
            "compact: a smaller network, without the units that do nothing. "
            "sparse: compressed rows, for chains of linear layers. onnx: for other runtimes. "
            "ticket: its start and mask."
        ),
    ],
    out: Annotated[Path, Parameter(help="Folder to write to.", show_default=True)] = Path("."),
    on: Annotated[
        str | None,
        Parameter(help="The world to train a ticket file on, or to measure a study's network on."),
    ] = None,
    untrained: Annotated[bool, Parameter(help="Ship the network as it starts.")] = False,
    seed: Annotated[
        int | None,
        Parameter(help="Of the training of a ticket file. Default: the one it was found with."),
    ] = None,
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        Parameter(help="Of the weights, --to packed. float32 gives every bit back."),
    ] = "float32",
    compact: Annotated[
        bool, Parameter(help="Leave the units out that do nothing, --to onnx.", negative="")
    ] = False,
    batch: Annotated[
        str, Parameter(help="Examples at once, where speed is measured.", show_default=True)
    ] = "1,64",
    as_json: JsonOption = False,
    store: StoreOption = None,
    data: DataOption = None,
) -> Answer:
    """Write a model for use elsewhere, checked on the exported file itself."""
    from tombola.lab.study import open_study
    from tombola.lookup import find_world
    from tombola.out.ship.cargo import at_start, stem_in, stem_of, trained_in, which_of
    from tombola.out.ship.files import check_folder
    from tombola.out.ship.formats import check_format, ship_as
    from tombola.out.ship.shipment import Shipment
    from tombola.out.ship.speed import batches_of
    from tombola.out.ship.ticket import ship_ticket
    from tombola.out.terminal import show_shipment
    from tombola.values.ticket import Ticket

    begin_work()
    check_folder(out)
    sizes = batches_of(batch)
    if precision != "float32" and to != "packed":
        raise CallError(f"--precision {precision} is for --to packed.")
    if compact and to != "onnx":
        raise CallError("--compact is for --to onnx; --to compact writes a smaller torch network.")
    source, trained = which_of(ticket), to != "ticket" and not untrained

    def written(cargo: "Cargo", world: "World | None") -> dict[str, Any]:
        shipment = Shipment(cargo=cargo, world=world, folder=out, batches=sizes, compact=compact)
        return ship_as(to, shipment, precision)

    if isinstance(source, Path):
        start, stem = Ticket.load(source), stem_of(source)
        world = None if on is None else find_world(on, data)
        if world is not None:
            start.build(world.model)  # or it does not fit, and nothing is trained or written
        if to == "ticket":
            document = ship_ticket(start, stem, out)
        elif untrained:
            check_format(to, world)
            document = written(at_start(start, stem), world)
        elif world is not None:
            check_format(to, world)
            document = written(trained_from(start, stem, world, seed, store), world)
        else:
            raise CallError(
                f"{ticket} has no trained weights. Train them with --on WORLD, or ship the "
                "start with --untrained."
            )
    else:
        if seed is not None:
            raise CallError("--seed is for ticket files; name a study's as STUDY:arm:round:seed.")
        study = open_study(store_to_read(store), source.study)
        stem = stem_in(study, study.trial(**source.choice()))
        name = on or study.facts["names"].get("world")
        world = None if name is None else find_world(name, data_of(study, data))
        if to != "ticket":
            check_format(to, world)
        if trained:
            document = written(trained_in(study, source), world)
        else:
            start = study.ticket(**source.choice())
            if world is not None:
                start.build(world.model)  # or it does not fit, and nothing is written
            document = (
                ship_ticket(start, stem, out)
                if to == "ticket"
                else written(at_start(start, stem), world)
            )
    return Answer(document, lambda console: show_shipment(console, document), as_json)


def trained_from(
    start: "Ticket", stem: str, world: "World", seed: int | None, store: Path | None
) -> "Cargo":
    """A ticket file's network, trained now."""
    from tombola.lab.store import Store
    from tombola.out.progress import watching
    from tombola.out.ship.cargo import trained_now, training_of

    job = training_of(start, world, seed)
    kept = Store(store_folder(store))
    kept.check_writable()
    with watching(sys.stderr) as watcher:
        return trained_now(start, job, stem, kept, watcher)
