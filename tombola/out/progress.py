"""How a study is getting on: its trials side by side where somebody watches, else a line now and
then.

Nothing here starts a thread: jobs run in forked processes, and a lock that a thread holds when the
fork happens would be held for ever in the child. And nothing draws through a library of tables,
which takes ten times as long, ten times a second, on a processor that trainings want.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from tombola.lab.events import Event, Watcher
from tombola.out.amounts import duration, several
from tombola.out.course import Course, Row, Work
from tombola.out.screen import Line, Screen, Span, can_draw, cut
from tombola.out.terminal import fraction

LINE_EVERY = 10.0  # seconds
DRAW_EVERY = 0.1


@contextmanager
def watching(stream: TextIO) -> Iterator[Watcher]:
    """A watcher that tells `stream` how the work is getting on, in whichever way suits it."""
    course = Course()
    if can_draw(stream):
        screen = Screen(stream)
        with screen.standing():
            yield Display(course, screen)
        return
    lines = Lines(course, stream)
    yield lines
    lines.end()


class Lines:
    """A plain line every ten seconds, and one when all is done; for logs."""

    def __init__(self, course: Course, stream: TextIO) -> None:
        self._course, self._stream = course, stream
        self._told = course.clock()

    def __call__(self, event: Event) -> None:
        self._course(event)
        if self._course.clock() - self._told >= LINE_EVERY:
            self._told = self._course.clock()
            self._say(", ".join([*self._course.amounts(), *self._course.times()]))

    def end(self) -> None:
        course = self._course
        self._say(
            f"done in {duration(course.elapsed)}: {several(course.steps_done, 'step')}, "
            f"{several(course.trainings(stored=False), 'training')} run, "
            f"{course.trainings(stored=True)} from the store"
        )

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Display:
    """Lines in a terminal that are drawn anew as things happen, ten times a second at most."""

    def __init__(self, course: Course, screen: Screen) -> None:
        self._course, self._screen = course, screen
        self._bar = ("━", "─") if screen.writes("━─") else ("#", ".")
        self._drawn = -math.inf

    def __call__(self, event: Event) -> None:
        self._course(event)
        now = self._course.clock()
        if now - self._drawn >= DRAW_EVERY:
            self._drawn = now
            columns, rows = self._screen.size()
            self._screen.draw(frame(self._course, columns - 1, max(1, rows - 1), self._bar))


# -- what is drawn ---------------------------------------------------------------------------

# In the order in which they are shown where there is not room for all.
STATES = {
    "running": "cyan",
    "waiting": "dim",
    "diverged": "red",
    "done": "green",
    "from the store": "green",
}
RANKS = {state: rank for rank, state in enumerate(STATES)}
GAP = "  "
WIDEST_NAME = 16
LEAST_BAR, WIDEST_BAR = 6, 24  # lines stay under 90 columns: a terminal made narrower folds few


def frame(course: Course, columns: int, rows: int, bar: tuple[str, str] = ("━", "─")) -> list[Line]:
    """What the terminal shows: a line for each trial, or for each arm and seed where there are
    more than fit, the running ones first and the rest in a line; below, how much is done of all.

    columns, rows: how wide and how many the lines may be. bar: its two characters.
    """
    foot = [(Span(text),) for text in footing(course.amounts(), course.times(), columns)]
    groups, rest = fitting(course.rows.values(), room=rows - len(foot) - 2)
    lines = [(), *table(course, groups, columns, bar)]
    if rest:
        states = Counter(map(state_of, rest))
        counted = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
        lines.append((Span(f"{len(rest)} more: {counted}", "dim"),))
    return [cut(line, columns) for line in [*lines, *foot][-rows:]]


def footing(amounts: Sequence[str], times: Sequence[str], columns: int) -> list[str]:
    """Phrases in a line for amounts and one for times, else in as few lines as hold them.

    >>> footing(["1 of 2 steps", "1 running"], ["3 s so far"], columns=23)
    ['1 of 2 steps, 1 running', '3 s so far']
    >>> footing(["1 of 2 steps", "1 running"], ["3 s so far"], columns=22)
    ['1 of 2 steps', '1 running, 3 s so far']
    """
    lines = [", ".join(amounts), ", ".join(times)]
    if max(map(len, lines)) <= columns:
        return lines
    first, *others = *amounts, *times
    lines = [first]
    for phrase in others:
        if len(lines[-1]) + len(f", {phrase}") <= columns:
            lines[-1] += f", {phrase}"
        else:
            lines.append(phrase)
    return lines


def fitting(rows: Iterable[Row], room: int) -> tuple[list[list[Row]], list[list[Row]]]:
    """What is shown in a line each, in `room` lines, and what there is no room for."""
    groups = [[row] for row in rows]
    if len(groups) > room:
        together: dict[tuple[str, int], list[Row]] = {}
        for (row,) in groups:
            together.setdefault((row.trial.arm, row.trial.seed), []).append(row)
        groups = list(together.values())
    if len(groups) <= room:
        return groups, []
    groups.sort(key=lambda group: RANKS[state_of(group)])
    room = max(0, room - 1)  # the last line is about the rest
    return groups[:room], groups[room:]


def state_of(group: Sequence[Row]) -> str:
    """The state of the liveliest."""
    return min((row.state for row in group), key=RANKS.__getitem__)


def table(
    course: Course, groups: Sequence[Sequence[Row]], columns: int, bar: tuple[str, str]
) -> list[Line]:
    """Titles, and a line for each group; what `columns` has no room for is left out."""
    titles = ["arm", "seed", "round", "density", "training", course.metric, "state"]
    if course.rounds is None:
        titles = [title for title in titles if title not in ("round", "density")]
    texts = [texts_of(course, group) for group in groups]
    widths = {title: max(map(len, [title, *(t[title] for t in texts)])) for title in titles}
    widths["training"] = LEAST_BAR
    for title in ("density", "round", "training", course.metric, "seed"):
        if width_of(widths) > columns:
            widths.pop(title, None)
    if "training" in widths:
        spare = columns - width_of(widths)
        widths["training"] = max(LEAST_BAR, min(WIDEST_BAR, LEAST_BAR + spare))
    head = Span(GAP.join(padded(title, title, width) for title, width in widths.items()), "dim")
    return [
        (head,),
        *(line_of(group, t, widths, bar) for group, t in zip(groups, texts, strict=True)),
    ]


def texts_of(course: Course, group: Sequence[Row]) -> dict[str, str]:
    """What is said of a group, by title: of its training in flight, else of the next or last."""
    running, state = trainings_in(group), state_of(group)
    ended = all(row.ended for row in group)
    row = next(row for row in (reversed(group) if ended else group) if row.state == state)
    row = running[0].owner if running else row
    target = (running[0].target if running and row.trial.round is None else None) or row.target
    name = row.trial.arm
    return {
        "arm": name if len(name) <= WIDEST_NAME else f"{name[: WIDEST_NAME - 1]}…",
        "seed": str(row.trial.seed),
        "round": "" if target is None else f"{target.round}/{course.rounds}",
        "density": "" if target is None else fraction(target.density),
        "training": "",
        course.metric: "" if row.value is None else fraction(row.value),
        "state": f"{len(running)} running" if len(running) > 1 else state,
    }


def trainings_in(group: Sequence[Row]) -> list[Work]:
    """Those in flight, the one that was asked for first first."""
    return [work for row in group for work in row.running if work.trains]


def line_of(
    group: Sequence[Row], texts: dict[str, str], widths: dict[str, int], bar: tuple[str, str]
) -> Line:
    """Texts in columns, with a bar for the training in flight."""
    spans: list[Span] = []
    for title, width in widths.items():
        if title == "training":
            spans += bar_of(trainings_in(group)[:1], width, bar)
        else:
            style = STATES[state_of(group)] if title == "state" else ""
            spans.append(Span(padded(title, texts[title], width), style))
        spans.append(Span(GAP))
    return tuple(spans[:-1])


def bar_of(works: Sequence[Work], width: int, bar: tuple[str, str]) -> list[Span]:
    """How much of a training is done; blank without one."""
    if not works:
        return [Span(" " * width)]
    done = round(width * (1 - works[0].left / max(1, works[0].job.steps)))
    return [Span(bar[0] * done, "cyan"), Span(bar[1] * (width - done), "dim")]


def padded(title: str, text: str, width: int) -> str:
    """Names and words to the left, numbers to the right; nothing after the last."""
    if title == "state":
        return text
    return text.ljust(width) if title in ("arm", "training") else text.rjust(width)


def width_of(widths: dict[str, int]) -> int:
    """Columns that a line takes."""
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)
