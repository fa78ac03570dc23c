"""`tombola theory`: what can be worked out before anything is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from tombola.cli.app import Answer, app
from tombola.cli.options import JsonOption
from tombola.errors import CallError

if TYPE_CHECKING:
    from tombola.theory import Rate

theory_app = App(
    name="theory",
    help="Bounds from theory, with their assumptions.",
    help_format="plaintext",
    sort_key=5,
    default_parameter=Parameter(negative="", show_default=False),
)
app.command(theory_app)


@theory_app.command(sort_key=0)
def pretraining(
    *,
    neurons: Annotated[
        str, Parameter(help="Sizes of the subnetwork, such as 200 or 10,50,200.", show_default=True)
    ] = "10,50,200",
    variance: Annotated[
        float,
        Parameter(
            help="V: mean squared distance of a neuron's output from the network's. A probe of "
            "that name measures it: tombola probe pretraining STUDY."
        ),
    ],
    first_loss: Annotated[
        float | None, Parameter(help="Loss of the best single neuron. Default: the bound on it.")
    ] = None,
    initial_loss: Annotated[
        float | None,
        Parameter(help="Loss of the whole network before training. Default: of the --curve."),
    ] = None,
    curve: Annotated[
        Path | None,
        Parameter(help="rho from a loss curve: a file of lines step,loss, the start first."),
    ] = None,
    upheld: Annotated[
        bool, Parameter(help="The rho that the whole --curve keeps to, not the one that fits best.")
    ] = False,
    rho: Annotated[
        float | None, Parameter(help="rho itself: the fraction of the loss a step takes away.")
    ] = None,
    kernel: Annotated[
        str | None,
        Parameter(help="rho by the tangent kernel: RATE,EIGENVALUE, its half product."),
    ] = None,
    wide: Annotated[
        str | None, Parameter(help="rho = c d / m^2: C,INPUTS,EXAMPLES. No theory says what c is.")
    ] = None,
    as_json: JsonOption = False,
) -> Answer:
    """How many steps of pre-training are enough for a subnetwork of so many neurons.

    For two-layer networks with squared error, by a bound: up to the threshold the loss of the whole
    network rules that of the subnetwork, after it selection does. Losses are halved squared errors.
    """
    from tombola.out.bounds import pretraining_document, show_pretraining
    from tombola.theory import Pretraining, Selection

    sizes = [int(size) for size in numbers("--neurons", neurons, whole=True)]
    points = None if curve is None else read_curve(curve)
    rate = rate_of(points, upheld, rho, kernel, wide)
    if initial_loss is None:
        if points is None:
            raise CallError("--initial-loss: want it where no --curve says what it is.")
        initial_loss = points[min(points)]
    bound = Pretraining(
        initial=initial_loss,
        selection=Selection(variance=variance, first=first_loss),
        rate=rate,
    )
    document = pretraining_document(bound, sizes)
    return Answer(document, lambda console: show_pretraining(console, document), as_json)


def rate_of(
    points: dict[int, float] | None,
    upheld: bool,
    rho: float | None,
    kernel: str | None,
    wide: str | None,
) -> "Rate":
    """rho from the one option that says it."""
    from tombola import theory

    given = {"--curve": points, "--rho": rho, "--kernel": kernel, "--wide": wide}
    said = [name for name, value in given.items() if value is not None]
    if len(said) != 1:
        raise CallError(
            f"rho: got {' and '.join(said) or 'no option that says it'}; want one of "
            f"{', '.join(given)}."
        )
    if upheld and points is None:
        raise CallError("--upheld is about a --curve, and there is none.")
    if points is not None:
        return theory.upheld(points) if upheld else theory.fitted(points)
    if rho is not None:
        return theory.Rate(rho=rho, assumes="at the rho that was given")
    if kernel is not None:
        return theory.kernel_rate(*numbers("--kernel", kernel, 2))
    assert wide is not None
    c, inputs, examples = numbers("--wide", wide, 3)
    return theory.wide_rate(c, int(inputs), int(examples))


def numbers(
    option: str, text: str, count: int | None = None, *, whole: bool = False
) -> list[float]:
    """Numbers with commas between.

    >>> numbers("--kernel", "0.1,2", 2)
    [0.1, 2.0]
    """
    try:
        found: list[float] = [int(part) if whole else float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or (count is not None and len(found) != count):
        want = f"{count} numbers" if count else "whole numbers" if whole else "numbers"
        raise CallError(f"{option} {text}: want {want} with commas between.")
    return found


def read_curve(path: Path) -> dict[int, float]:
    """Step -> loss, from a file of lines `step,loss`; a first line of words is passed over.

    Raises:
        CallError: no such file, or a line that is something else.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(f"--curve {path}: it cannot be read as text ({error}).") from error
    curve: dict[int, float] = {}
    for number, line in enumerate(lines, start=1):
        step, comma, loss = line.partition(",")
        try:
            at, value = int(step), float(loss)
        except ValueError:
            if (number == 1 and comma) or not line.strip():
                continue
            raise CallError(
                f"--curve {path}, line {number}: {line[:40]!r}; want step,loss, such as 100,0.25."
            ) from None
        if at < 0 or at in curve:
            raise CallError(
                f"--curve {path}, line {number}: step {at}; want each step once, 0 or later."
            )
        curve[at] = value
    return curve
