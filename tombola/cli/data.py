"""`tombola data`: list, fetch and import sets of images."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import DataOption, JsonOption

data_app = App(
    name="data",
    help="List, fetch and import sets of images.",
    help_format="plaintext",
    sort_key=6,
    default_parameter=Parameter(negative="", show_default=False),
)
app.command(data_app)


@data_app.command(name="list", sort_key=0)
def list_sets(*, as_json: JsonOption = False, data: DataOption = None) -> Answer:
    """List the sets of images that are here, and those that can be fetched."""
    from tombola.out.datasets import data_holdings, show_sets

    document = data_holdings(data)
    return Answer(document, lambda console: show_sets(console, document), as_json)


@data_app.command(sort_key=1)
def fetch(
    name: Annotated[
        str,
        Parameter(
            help="mnist, cifar10, or org/name of an image classification set of the Hugging Face "
            "hub."
        ),
    ],
    /,
    *,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> Answer:
    """Fetch a set of images from the Hugging Face hub, and open what came."""
    from tombola.out.datasets import show_set
    from tombola.out.fetch import fetch as fetched

    document = fetched(name, data, lambda line: print(line, file=sys.stderr, flush=True))
    return Answer(document, lambda console: show_set(console, document), as_json)


@data_app.command(name="import", sort_key=2)
def import_set(
    path: Annotated[
        Path,
        Parameter(
            help="A folder of images as train/CLASS/.. and test/CLASS/.., or as CLASS/.. alone; a "
            "folder of parquet files in the Hugging Face layout; or a .zip or .tar of one."
        ),
    ],
    /,
    *,
    name: Annotated[
        str | None, Parameter(name="--as", help="Its name here. Default: that of the path.")
    ] = None,
    size: Annotated[
        int | None,
        Parameter(
            help="Make all images N pixels wide and high: the largest square in the middle, "
            "resized. Default: they must be of one size."
        ),
    ] = None,
    label: Annotated[
        str | None, Parameter(help="The column of labels, where parquet files have several.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> Answer:
    """Write images of yours as a set, for --on NETWORK@NAME."""
    from tombola.out.counting import Counting
    from tombola.out.datasets import show_set, survey
    from tombola.world.data.importing import import_images

    with Counting(sys.stderr) as count:
        folder = import_images(path, name, data, size=size, label=label, tell=count)
    document = {"schema": 1, "source": str(path), **(survey(folder) or {})}
    return Answer(document, lambda console: show_set(console, document), as_json)
