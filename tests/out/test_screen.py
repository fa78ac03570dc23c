"""Lines drawn in place: nothing else is touched, whatever the terminal does meanwhile."""

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal

from tombola.out.screen import Line, Screen, Span, can_draw, size_of


class Watched:
    """A screen that writes into a file, and the terminal that shows it."""

    def __init__(self, folder: Path, columns: int = 30, rows: int = 10) -> None:
        self.terminal = Terminal(columns, rows)
        self._path = folder / "stream"
        self.stream = self._path.open("w", encoding="utf-8")
        self.screen = Screen(self.stream)
        self.screen.size = lambda: (self.terminal.columns, self.terminal.rows)  # type: ignore[method-assign]
        self._shown = 0

    @property
    def text(self) -> str:
        """All that was ever written."""
        self.stream.flush()
        return self._path.read_bytes().decode()

    @property
    def lines(self) -> list[str]:
        """What the terminal shows now, less the empty line of the cursor."""
        new, self._shown = self.text[self._shown :], len(self.text)
        self.terminal.feed(new.replace("\n", "\r\n"))  # as a terminal's driver does
        return self.terminal.screen[:-1]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    with watched.stream:
        yield watched


def line(text: str, style: str = "") -> Line:
    return (Span(text, style),)


def test_lines_take_the_place_of_the_last_ones(watched: Watched) -> None:
    print("before", file=watched.stream)
    watched.screen.draw([line("one"), line("two and more"), line("three")])
    assert watched.lines == ["before", "one", "two and more", "three"]
    watched.screen.draw([line("1"), line("2")])
    assert watched.lines == ["before", "1", "2"]
    watched.screen.draw([])
    assert watched.lines == ["before"]


def test_what_is_printed_meanwhile_goes_above_and_stays(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    with watched.screen.standing():
        watched.screen.draw([line("a long line of progress"), line("more")])
        print("a warning\tin two\nlines")
        assert watched.lines[2:] == ["a long line of progress", "more"]
        print("no end", end="")
        assert watched.lines[2:] == ["a long line of progress", "more"]
        print(" yet")
        print("x" * 70)
        print("left open", end="")
    assert watched.lines == [
        "a warning       in two",
        "lines",
        "no end yet",
        "x" * 30,
        "x" * 30,
        "x" * 10,
        "left open",
    ]
    print("outside")
    assert capsys.readouterr().out == "outside\n"


def test_a_forked_process_prints_above_too(watched: Watched) -> None:
    with watched.screen.standing():
        watched.screen.draw([line("1 of 3"), line("running")])
        child = os.fork()
        if child == 0:
            print("from the job")
            os._exit(0)
        os.waitpid(child, 0)
        watched.screen.draw([line("2 of 3"), line("running")])
        assert watched.lines == ["from the job", "2 of 3", "running"]
    assert watched.lines == ["from the job"]


@pytest.mark.parametrize("seed", range(20))
def test_no_resize_leaves_anything_behind(watched: Watched, seed: int) -> None:
    """Lines that a narrower terminal has folded are found and taken away."""
    draw = random.Random(seed)
    watched.terminal.resize(40, 50)
    print("before", file=watched.stream)
    for _ in range(30):
        columns, _ = watched.screen.size()
        drawn = ["x" * draw.randrange(columns) for _ in range(draw.randrange(8))]
        watched.screen.draw([line(text) for text in drawn])
        assert watched.lines == ["before", *drawn]
        watched.terminal.resize(draw.randrange(12, 60), draw.randrange(40, 50))
    watched.screen.draw([])
    assert watched.lines == ["before"]


def test_a_terminal_that_became_lower_is_drawn_from_its_top(watched: Watched) -> None:
    watched.screen.draw([line(str(number)) for number in range(9)])
    assert len(watched.lines) == 9
    watched.terminal.resize(30, 5)
    watched.screen.draw([line("a"), line("b")])
    assert watched.lines == ["a", "b"]


def test_colours_unless_they_are_not_wanted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [(Span("plain "), Span("green", "green"))]
    watched.screen.draw(lines)
    assert watched.text == "\rplain \x1b[32mgreen\x1b[0m\x1b[K\n\x1b[J"
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(watched.stream).draw(lines)
    assert watched.text.endswith("\x1b[J\rplain green\x1b[K\n\x1b[J")


def test_only_a_terminal_that_moves_its_cursor_is_drawn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, screen = os.openpty()
    with open(screen, "w") as terminal, open(os.devnull, "w") as nothing:
        for term, drawn in {"xterm": True, "dumb": False, "": False}.items():
            monkeypatch.setenv("TERM", term)
            assert can_draw(terminal) is drawn
            assert not can_draw(nothing)
        assert size_of(terminal) == (80, 24)  # a new one has no size yet
        assert size_of(nothing) == (80, 24)
    os.close(keyboard)


def test_a_terminal_that_was_closed_does_not_stop_the_work() -> None:
    keyboard, end = os.openpty()
    raw = open(end, "wb", buffering=0)  # noqa: SIM115
    screen = Screen(io.TextIOWrapper(raw, write_through=True))
    screen.draw([line("1 of 2")])
    os.close(keyboard)
    for text in ("2 of 2", "done"):
        screen.draw([line(text)])
    with pytest.raises(OSError):
        raw.write(b"nobody reads this")
    raw.close()


def test_a_stream_says_which_characters_it_has(tmp_path: Path) -> None:
    for encoding, has in {"utf-8": True, "ascii": False, "latin-1": False}.items():
        with (tmp_path / encoding).open("w", encoding=encoding) as stream:
            assert Screen(stream).writes("━─") is has
