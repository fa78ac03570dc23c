"""The application: one parser, one way out of every command.

Results go to stdout and everything else to stderr; while a command works, stdout is turned to
stderr, so that what the user's own code prints cannot end up in a JSON document. Imports of torch
and the like wait until a command needs them: `tombola --help` does not.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cyclopts import App, CycloptsError, Parameter

from tombola import __version__
from tombola.errors import CallError, DamagedObjectError, TombolaError
from tombola.out.frames import printed, users_frames, users_part

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130

app = App(
    name="tombola",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    help="Finds, judges and ships winning lottery tickets: sparse subnetworks that train as well "
    "as the whole.",
    help_epilogue="To see it work, in half a minute: tombola find imp --on digits-short",
    default_parameter=Parameter(negative="", show_default=False),
)


@dataclass(frozen=True)
class Answer:
    """What a command has to say: a document, and how to show it to people."""

    document: dict[str, Any]
    show: "Callable[[Console], None]"
    as_json: bool
    status: int = 0

    def write(self, stream: TextIO) -> None:
        if self.as_json:
            print(json.dumps(self.document, indent=1, allow_nan=False), file=stream)
            return
        from tombola.out.terminal import console_on

        self.show(console_on(stream))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (see design: 0, 1, 2 or 130)."""
    from rich.console import Console

    stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            answer = app(
                argv,
                console=Console(file=stdout),
                exit_on_error=False,
                result_action="return_value",
            )
        if isinstance(answer, Answer):
            answer.write(stdout)
            stdout.flush()
            return answer.status
        return 0
    except CycloptsError:
        return CallError.exit_status  # its message is printed
    except TombolaError as error:
        complain(explained(error))
        return error.exit_status
    except KeyboardInterrupt:
        complain("interrupted. Finished work is kept; repeat the command to go on.")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read stdout has gone
        return 1
    except Exception as error:
        frames = users_part(printed(error))
        if frames is None and isinstance(error, OSError):
            return refused(error)
        if frames is None:
            raise
        complain(f"an error in your code; finished work is kept.\n{frames}")
        return 1


def refused(error: OSError) -> int:
    """Say what the system would not do. A place that was named, wrongly, is the call's fault."""
    if error.filename is None:
        complain(
            f"the system refused: {error}. Finished work is kept; repeat the command to go on."
        )
        return 1
    complain(
        f"{error.filename}: {error.strerror}. Name another place, with --store, --data or --out."
    )
    return 2


def complain(text: str) -> None:
    print(f"tombola: {text.rstrip()}", file=sys.stderr)


def explained(error: TombolaError) -> str:
    """The message, with the user's own frames where they led to it."""
    text = str(error)
    text = users_part(text) or text  # an error in a job's process brings its traceback as text
    if isinstance(error, DamagedObjectError):
        text += " Repeat the `tombola find` that made it."
    frames = users_frames(error)
    return f"{text}\nwhere:\n{frames}" if frames else text
