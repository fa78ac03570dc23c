"""A few lines at the foot of a terminal that are drawn again and again, in place."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TextIO

STYLES = {"dim": "2", "bold": "1", "green": "32", "red": "31", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Span:
    """Text in one style, "" for plain."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


def plain(line: Line) -> str:
    """The text of a line, without its style.

    >>> plain((Span("12"), Span(" done", "green")))
    '12 done'
    """
    return "".join(span.text for span in line)


def cut(line: Line, columns: int) -> Line:
    """What fits of a line.

    >>> plain(cut((Span("12"), Span(" done", "green")), 4))
    '12 d'
    """
    spans = []
    for span in line:
        spans.append(Span(span.text[: max(0, columns)], span.style))
        columns -= len(span.text)
    return tuple(spans)


def can_draw(stream: TextIO) -> bool:
    """Whether somebody watches, on something that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def size_of(stream: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal as they are now; 80 and 24 where it does not say."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return columns or 80, rows or 24


class Screen:
    """The last lines of a terminal. The cursor rests below them, so that a process which dies
    leaves the next prompt on a line of its own.

    No line may be as wide as the terminal, and there must be fewer than it has rows.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colour = not os.environ.get("NO_COLOR")
        self._lines: tuple[Line, ...] = ()
        self._gone = False

    def size(self) -> tuple[int, int]:
        return size_of(self._stream)

    def writes(self, text: str) -> bool:
        """Whether the terminal's encoding has these characters."""
        try:
            text.encode(self._stream.encoding or "ascii")
        except UnicodeEncodeError:
            return False
        return True

    def draw(self, lines: Sequence[Line]) -> None:
        """Put these lines in the place of the last ones."""
        self._replace("", tuple(lines))

    def print(self, text: str) -> None:
        """Put whole lines of text above; they stay."""
        self._replace(f"\x1b[J{text}", self._lines)

    def _replace(self, above: str, lines: tuple[Line, ...]) -> None:
        """In one write, so that nothing is seen half drawn, and no other process writes between. A
        terminal that has been closed is no reason to stop the work."""
        up = self._rows()
        back = f"\r\x1b[{up}A" if up else "\r"
        drawn = "".join(f"{self._painted(line)}\x1b[K\n" for line in lines)
        if not self._gone:
            try:
                self._stream.write(f"{back}{above}{drawn}\x1b[J")
                self._stream.flush()
            except OSError:
                self._gone = True
        self._lines = lines

    def _rows(self) -> int:
        """How many rows up the lines begin. A terminal that became narrower has folded those that
        were wider than it is now."""
        columns, _ = self.size()
        return sum(max(1, -(-len(plain(line)) // columns)) for line in self._lines)

    def _painted(self, line: Line) -> str:
        if not self._colour:
            return plain(line)
        return "".join(
            f"\x1b[{STYLES[span.style]}m{span.text}\x1b[0m" if span.style else span.text
            for span in line
        )

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Keep what is drawn below whatever else is printed, and take it away in the end."""
        above = Above(self, self._stream)
        try:
            with redirect_stdout(above), redirect_stderr(above):
                yield
        finally:
            above.close()
            self.draw(())


class Above(io.TextIOBase):
    """Stands for stdout and stderr: what is printed goes above the lines of a screen.

    A forked job has a copy. It draws the lines as they were at the fork, which its parent, as
    there are as many, draws over.
    """

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen, self._stream = screen, stream
        self._open_line = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        whole, newline, self._open_line = (self._open_line + text).rpartition("\n")
        if newline:
            self._screen.print(whole + newline)
        return len(text)

    def flush(self) -> None:
        """Nothing: an unfinished line waits for its end."""

    def close(self) -> None:
        if self._open_line:
            self.write("\n")

    def writable(self) -> bool:
        return True
