"""The tutorial's commands and snippets run as printed, in order, and print what it shows."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tombola.cli import main
from tombola.kernels.best import best_kernel

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
LEFT_OUT = ".."
# What is another on every machine, or after every change of what a name is made of: times, sizes of
# pages, digests.
VARIES = re.compile(r"\b[0-9a-f]{8,}\b|\b[\d.]+ (s|MB)\b")
NUMBERS = re.compile(r"[+-]?\d*\.?\d[\d,.e-]*")


def blocks() -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block, in order."""
    for found in re.finditer(
        r"^```(\w*)\n(.*?)^```", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE
    ):
        yield found[1], found[2]


def comparable(text: str) -> list[str]:
    """Lines as they are compared: without what varies; and without any number where the compiled
    kernels are not there, so that sums are made in another order."""
    text = VARIES.sub("#", text)
    if best_kernel().name != "c":
        text = NUMBERS.sub("#", text)
    return [" ".join(line.split()) for line in text.splitlines()]


def assert_shows(shown: str, printed: str) -> None:
    """Every run of lines that the tutorial shows was printed, in that order."""
    lines, place = comparable(printed), 0
    for part in re.split(rf"^{re.escape(LEFT_OUT)}\n", shown, flags=re.MULTILINE):
        wanted = comparable(part.strip("\n"))
        starts = range(place, len(lines) - len(wanted) + 1)
        found = next((at for at in starts if lines[at : at + len(wanted)] == wanted), None)
        assert found is not None, f"not printed:\n{part}\nbut:\n{printed}"
        place = found + len(wanted)


def test_what_the_tutorial_shows_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("TOMBOLA_STORE", raising=False)
    session: dict[str, object] = {"__name__": "tutorial"}
    printed, commands, snippets = "", 0, 0
    for language, text in blocks():
        if language == "sh":
            continue  # setting up, which the test has behind it
        if language == "console" and text.startswith("$ "):
            command, _, text = text.removeprefix("$ ").partition("\n")
            argv = command.split()[1:]
            inside = ["--jobs", "1"] if argv[0] in ("find", "probe") else []
            assert main([*argv, *inside]) == 0
            commands += 1
        elif language == "python":
            exec(compile(text, str(TUTORIAL), "exec"), session)
            snippets += 1
            printed = capsys.readouterr().out
            continue
        new = capsys.readouterr().out
        printed = new or printed
        assert_shows(text, printed)
    assert (commands, snippets) == (7, 2)


def test_output_that_was_not_printed_is_noticed() -> None:
    printed = "a  1\nb 2.5, 3 s\nc\n"
    assert_shows("a 1\n..\nc\n", printed)
    assert_shows("b 2.5, 77 s\n", printed)
    for wrong in ("a 1\nc\n", "c\n..\na 1\n", "d\n"):
        with pytest.raises(AssertionError, match="not printed"):
            assert_shows(wrong, printed)
