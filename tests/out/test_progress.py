"""What is said while a study runs: true at every event, and fit for any terminal."""

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from terminal import Terminal
from toy import small_world

import tombola as tb
import tombola.lab.engines.engine
from tombola.cli import main
from tombola.lab.events import Advanced, Asked, Ended, Event, Finished, Opened, Started
from tombola.lab.question import Trial
from tombola.lab.runner import Share, Tally
from tombola.out.course import Course
from tombola.out.progress import Display, Lines, fitting, frame, watching
from tombola.out.screen import Screen, plain
from tombola.pieces.schedule import Target
from tombola.recipes.imp import IMP


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Played:
    """A study and its events."""

    study: tb.Study
    events: list[Event]


def played(folder: Path, **changes: Any) -> Played:
    """A study of two seeds, every step told."""
    events: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tombola.lab.engines.engine, "SAY_EVERY", 0.0)
        study = tb.find(
            IMP, small_world(**changes), seeds=2, store=folder, watchers=[events.append]
        )
    return Played(study, events)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return played(tmp_path_factory.mktemp("first") / "store")


@pytest.fixture(scope="module")
def again(first: Played) -> Played:
    return played(first.study.store.folder)


def shown(course: Course, columns: int = 79, rows: int = 40) -> list[str]:
    return [plain(line).rstrip() for line in frame(course, columns, rows)]


# -- what is known ---------------------------------------------------------------------------


def test_what_is_done_and_what_is_left_are_all_there_is_at_every_moment(first: Played) -> None:
    course = Course()
    course(first.events[0])
    steps, trainings = course.steps_left, course.trainings_left
    assert steps == first.study.document["cost"]["steps_trained"] == 40 * trainings
    reached: dict[str, int] = {}
    for event in first.events[1:]:
        course(event)
        if isinstance(event, Advanced):
            reached[event.key] = event.done
        assert course.steps_done == sum(reached.values())
        assert course.steps_done + course.steps_left == steps
        assert course.trainings(stored=False) + course.trainings_left == trainings
    assert (course.steps_left, course.trainings_left, course.seconds_left) == (0, 0, 0.0)


def test_every_trial_goes_through_its_rounds_to_its_own_last_reading(first: Played) -> None:
    course, rounds = Course(), dict[Trial, list[int]]()
    for event in first.events:
        course(event)
        for trial, row in course.rows.items():
            seen = rounds.setdefault(trial, [])
            if row.target is not None and row.target.round not in seen[-1:]:
                seen.append(row.target.round)
            begun = any(work.trains and (work.running or work.finished) for work in row.own)
            assert trial.round is None or begun or row.value is None  # not of the ticket's
    last = max(row["round"] for row in first.study.rows)
    for trial, row in course.rows.items():
        ticket_like = list(range(last + 1)) if trial.arm == "ticket" else [0]
        assert rounds[trial] == (ticket_like if trial.round is None else [trial.round])
        assert row.state == "done"
        ends = [e for e in first.events if isinstance(e, Ended) and e.trial == trial]
        assert row.value == ends[0].result[-1].end.readings[-1]["accuracy"]


def test_what_the_store_answers_is_said_to_be_from_there(first: Played, again: Played) -> None:
    course = Course()
    for event in again.events:
        course(event)
        if not isinstance(event, Asked):
            assert course.steps_left == course.steps_done == 0
    assert {row.state for row in course.rows.values()} == {"from the store"}
    trained = sum(isinstance(e, Finished) and e.job.kind == "train" for e in first.events)
    assert course.trainings(stored=True) == trained
    assert course.amounts() == [
        "0 of 0 steps",
        "0 of 0 trainings done",
        "0 running",
        f"{trained} from the store",
    ]
    assert None not in {row.value for row in course.rows.values()}


def test_trials_that_are_driven_again_are_not_counted_again(first: Played, again: Played) -> None:
    """As happens where damage is found in the end."""
    course = Course()
    for event in first.events:
        course(event)
    amounts, states = course.amounts(), [row.state for row in course.rows.values()]
    for event in again.events[1:]:
        course(event)
        if isinstance(event, Ended):
            assert course.amounts() == amounts
    assert [row.state for row in course.rows.values()] == states


def test_rounds_that_a_diverged_ticket_will_not_reach_are_not_waited_for(tmp_path: Path) -> None:
    course = Course()
    events = played(tmp_path / "store", optimiser=tb.SGD(lr=1e30)).events
    course(events[0])
    assert course.steps_left > 0
    for event in events[1:]:
        course(event)
    assert {row.state for row in course.rows.values()} == {"diverged"}
    assert (course.steps_left, course.trainings_left) == (0, 0)
    assert course.steps_done < 80  # two trainings that did not come to their end


# -- with made-up work, to the second --------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """As much of a training as matters here."""

    name: str
    steps: int = 100
    kind: str = "train"


@dataclass
class Made:
    """A course that is told what the test says."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.course = Course(self.clock)

    def open(self, shares: dict[Trial, Share]) -> None:
        targets = (Target(round=0, density=1.0), Target(round=1, density=0.5))
        question = SimpleNamespace(
            world=small_world(), targets=targets, target=lambda arm, number: targets[number]
        )
        self.course(Opened(question, Tally(shares=dict(shares))))  # type: ignore[arg-type]

    def start(self, trial: Trial, *names: str, steps: int = 100) -> None:
        self.course(Asked(trial, {name: Task(name, steps) for name in names}))
        for name in names:
            self.course(Started(name))
            self.course(Advanced(name, 0, {}))

    def advance(self, name: str, done: int, at: float) -> None:
        self.clock.now = 100.0 + at
        self.course(Advanced(name, done, {"accuracy": done / 1000}))

    def finish(self, name: str, at: float, stored: bool = False) -> None:
        self.clock.now = 100.0 + at
        result = SimpleNamespace(diverged=False, readings=[{"step": 100, "accuracy": 0.5}])
        self.course(Finished(name, self.course.works[name].job, result, stored))

    @property
    def seconds(self) -> float | None:
        return self.course.seconds_left


ONE, OTHER = Trial("ticket", 0), Trial("ticket", 1)
THREE = Share(steps=300, trainings=3, chain=300)


def test_time_left_is_by_the_longest_chain_where_that_is_longer() -> None:
    made = Made()
    made.open({ONE: THREE, OTHER: Share(steps=100, trainings=1, chain=100)})
    made.start(ONE, "a")
    made.start(OTHER, "b")
    made.advance("a", 5, at=1)
    assert made.seconds is None  # too early to tell
    for second in range(2, 11):
        made.advance("a", 5 * second, at=second)
        made.advance("b", 5 * second, at=second)
    # 300 steps are left, 10 a second are made; but 250 follow each other, at 5 a second
    assert made.seconds == pytest.approx(50)
    made.finish("b", at=10)
    assert made.seconds == pytest.approx(250 / 7.5)  # 150 steps in 20 seconds of a training
    made.finish("a", at=10)
    made.start(ONE, "c")
    assert made.seconds == pytest.approx(200 / 10)  # 200 steps in as many seconds
    made.finish("c", at=20)
    assert made.seconds == pytest.approx(100 / 10)


def test_time_left_is_by_all_steps_where_there_are_many_short_chains() -> None:
    made = Made()
    made.open({Trial("ticket", seed): Share(100, 1, 100) for seed in range(10)})
    made.start(Trial("ticket", 0), "a")
    made.start(Trial("ticket", 1), "b")
    for second in range(1, 11):
        made.advance("a", 5 * second, at=second)
        made.advance("b", 5 * second, at=second)
    assert made.seconds == pytest.approx(900 / 10)


def test_speed_is_of_the_last_minute_and_of_steps_made_now() -> None:
    made = Made()
    made.open({ONE: Share(10_000, 1, 10_000)})
    made.course(Asked(ONE, {"a": Task("a", 10_000)}))
    made.course(Started("a"))
    made.course(Advanced("a", 5_000, {}))  # an earlier call had come so far
    assert made.course.steps_done == 5_000
    for second in range(1, 101):
        made.advance("a", 5_000 + second, at=second)
        if second >= 2:
            assert made.seconds == pytest.approx(5_000 - second)
    for second in range(101, 165):
        made.advance("a", 5_100 + 10 * (second - 100), at=second)
    assert made.seconds == pytest.approx((10_000 - 5_740) / 10)


def test_work_of_a_process_that_was_killed_is_done_again() -> None:
    made = Made()
    made.open({ONE: Share(100, 1, 100)})
    made.start(ONE, "a")
    made.advance("a", 90, at=9)
    made.advance("a", 40, at=9)  # from its last checkpoint
    assert (made.course.steps_done, made.course.steps_left) == (40, 60)
    assert made.seconds == pytest.approx(60 / 10)


def test_a_training_that_another_process_does_is_not_waited_for_twice() -> None:
    made = Made()
    made.open({ONE: THREE})
    made.course(Asked(ONE, {"a": Task("a")}))
    made.course(Advanced("a", 0, {}))
    assert made.course.steps_left == 300
    made.finish("a", at=1, stored=True)
    assert (made.course.steps_left, made.course.steps_done) == (200, 0)
    assert (made.course.trainings_left, made.course.trainings(stored=True)) == (2, 1)


def test_a_training_alone_is_shown_without_rounds() -> None:
    made = Made()
    made.start(ONE, "ship", steps=200)
    made.advance("ship", 50, at=5)
    assert shown(made.course) == [
        "",
        "arm     seed  training                  accuracy  state",
        "ticket     0  ━━━━━━──────────────────     .0500  running",
        "50 of 200 steps, 0 of 1 training done, 1 running",
        "about 15 s left, 5 s so far",
    ]


# -- how it looks ----------------------------------------------------------------------------


def busy() -> Made:
    """Two tickets and their controls, in every state there is."""
    made, late = Made(), Trial("a-control-of-a-long-name", 0, 1)
    dense = Trial("dense", 0)
    made.open({ONE: THREE, OTHER: THREE, dense: Share(), late: Share(200, 2, 400)})
    made.start(ONE, "a")
    made.course(Asked(dense, {"a": made.course.works["a"].job}))
    made.finish("a", at=5)
    made.course(Ended(dense, (1,)))
    made.start(ONE, "b", "c")
    made.start(OTHER, "d")
    made.advance("d", 75, at=10)
    made.advance("b", 50, at=10)
    return made


def test_trials_stand_side_by_side() -> None:
    assert shown(busy().course) == [
        "",
        "arm               seed  round  density  training            accuracy  state",
        "ticket               0                  ━━━━━━━━━─────────     .0500  2 running",
        "ticket               1                  ━━━━━━━━━━━━━━────     .0750  running",
        "dense                0                                         .5000  done",
        "a-control-of-a-…     0    1/1    .5000                                waiting",
        "225 of 800 steps, 1 of 8 trainings done, 3 running",
        "about 36 s left, 10 s so far",
    ]


def test_where_there_is_not_room_for_all_the_running_ones_come_first() -> None:
    course = busy().course
    assert shown(course, rows=7)[2:5] == [
        "ticket     0                  ━━━━━━━━━━━━────────────     .0500  2 running",
        "ticket     1                  ━━━━━━━━━━━━━━━━━━──────     .0750  running",
        "2 more: 1 waiting, 1 done",
    ]


def test_controls_of_an_arm_and_seed_share_a_line_before_any_is_left_out() -> None:
    made = Made()
    trials = [Trial("reinit", seed, number) for seed in (0, 1) for number in (0, 1)]
    made.open({trial: Share(100, 1, 100) for trial in trials})
    for trial in trials[:2]:
        made.course(Ended(trial, (1,)))
    assert [line.split()[:3] for line in shown(made.course, rows=8)[2:6]] == [
        ["reinit", "0", "0/1"],
        ["reinit", "0", "1/1"],
        ["reinit", "1", "0/1"],
        ["reinit", "1", "1/1"],
    ]
    lines = shown(made.course, rows=7)[2:-2]
    assert [line.split()[:3] for line in lines] == [["reinit", "0", "1/1"], ["reinit", "1", "0/1"]]
    made.start(trials[3], "x")
    assert shown(made.course, rows=7)[3].split()[:3] == ["reinit", "1", "1/1"]
    rows = list(made.course.rows.values())
    for room in range(10):
        groups, rest = fitting(rows, room)
        assert sum(map(len, groups + rest)) == 4
        assert len(groups) + bool(rest) <= max(room, 1)


def test_what_a_narrow_terminal_has_no_room_for_is_left_out() -> None:
    course = busy().course
    titles = {columns: shown(course, columns)[1].split() for columns in (70, 60, 50, 40, 30)}
    assert titles == {
        70: ["arm", "seed", "round", "density", "training", "accuracy", "state"],
        60: ["arm", "seed", "round", "training", "accuracy", "state"],
        50: ["arm", "seed", "accuracy", "state"],
        40: ["arm", "seed", "state"],
        30: ["arm", "state"],
    }
    assert shown(course, 40)[-2:] == [
        "225 of 800 steps, 1 of 8 trainings done",
        "3 running, about 36 s left, 10 s so far",
    ]


def test_every_frame_fits_its_terminal(first: Played) -> None:
    course = Course()
    sizes = [(columns, rows) for columns in (1, 7, 20, 39, 79, 200) for rows in (1, 3, 9, 60)]
    for number, event in enumerate(first.events):
        course(event)
        for columns, rows in [*sizes, (0, 1)] if number % 97 == 0 else ():
            lines = frame(course, columns, rows)
            assert len(lines) <= rows
            assert max(len(plain(line)) for line in lines) <= columns
    widest = max(len(plain(line)) for line in frame(course, 500, 60))
    assert widest < 90


# -- where it goes ---------------------------------------------------------------------------


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    made = Made()
    lines = Lines(made.course, sys.stderr)
    made.open({ONE: THREE})
    made.course = lines  # type: ignore[assignment]
    lines(Asked(ONE, {"a": Task("a")}))
    lines(Started("a"))
    lines(Advanced("a", 0, {}))
    for second in range(1, 25):
        made.advance("a", second, at=second)
    assert capsys.readouterr().err == (
        "10 of 300 steps, 0 of 3 trainings done, 1 running, about 5 min left, 10 s so far\n"
        "20 of 300 steps, 0 of 3 trainings done, 1 running, about 5 min left, 20 s so far\n"
    )
    lines.end()
    assert capsys.readouterr().err == "done in 24 s: 24 steps, 0 trainings run, 0 from the store\n"


def test_frames_are_drawn_ten_times_a_second_at_most(tmp_path: Path) -> None:
    made = Made()
    with (tmp_path / "stream").open("w", encoding="ascii") as stream:
        display = Display(made.course, Screen(stream))
        made.open({ONE: THREE})
        made.start(ONE, "a")
        for millisecond in range(0, 1_000, 5):
            made.clock.now = 100.0 + millisecond / 1_000
            display(Advanced("a", millisecond // 10, {}))
    text = (tmp_path / "stream").read_bytes().decode()
    assert 9 <= text.count("\r") <= 10
    assert "#####" in text  # this stream has no better characters for a bar


class Keyboard:
    """A pseudo terminal, and what it has shown."""

    def __init__(self, columns: int, rows: int) -> None:
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.stream = os.fdopen(self._slave, "w", encoding="utf-8")
        self._heard: list[bytes] = []
        self._reader = Thread(target=self._listen)
        self._reader.start()

    def _listen(self) -> None:
        try:
            while chunk := os.read(self._master, 65_536):
                self._heard.append(chunk)
        except OSError:  # Linux says so when the other end is closed
            pass

    def text(self) -> str:
        """All that was written; ends the terminal."""
        self.stream.close()
        self._reader.join()
        os.close(self._master)
        return b"".join(self._heard).decode()


@pytest.mark.parametrize(
    ("columns", "rows", "colour"), [(80, 24, True), (160, 50, False), (33, 9, True)]
)
def test_in_a_terminal_nothing_is_left_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, rows: int, colour: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "" if colour else "1")
    monkeypatch.setattr(tombola.lab.engines.engine, "SAY_EVERY", 0.0)
    monkeypatch.setattr(tombola.out.progress, "DRAW_EVERY", 0.0)
    keyboard = Keyboard(columns, rows)
    print("before", file=keyboard.stream, flush=True)
    with watching(keyboard.stream) as watcher:
        arms, store = ["dense"], tmp_path / "store"
        tb.find(IMP, small_world(), seeds=2, arms=arms, store=store, watchers=[watcher])
    print("after", file=keyboard.stream, flush=True)
    text = keyboard.text()
    terminal = Terminal(columns, rows)
    frames = []
    for part in text.split("\x1b[J"):
        terminal.feed(part + "\x1b[J")
        frames.append(terminal.screen)
    assert terminal.history == ["before", "after", ""]
    assert len(frames) > 2
    assert any("running" in line for frame in frames[1:-2] for line in frame)
    assert ("\x1b[3" in text or "\x1b[2m" in text) is colour


def test_a_study_that_fails_takes_its_lines_away(tmp_path: Path) -> None:
    keyboard = Keyboard(80, 24)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setenv("TERM", "xterm")
        with watching(keyboard.stream) as watcher:
            tb.find(IMP, small_world(), store=tmp_path, watchers=[watcher, interrupt])
    terminal = Terminal()
    terminal.feed(keyboard.text())
    assert terminal.history == [""]


def interrupt(event: Event) -> None:
    """A watcher that presses Ctrl-C at the first result."""
    if isinstance(event, Finished):
        raise KeyboardInterrupt


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The beginning of a call of `find` on a world of one's own."""
    (tmp_path / "progress_mine.py").write_text("from toy import small_world as world\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield ["find", "imp", "--on", "progress_mine:world", "--seeds", "2", "--arms", "dense"]


def test_a_log_has_whole_lines_and_no_controls(
    mine: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*mine, "--jobs", "1", "--json"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("imp on toy, 2 seeds: ")
    assert lines[2].startswith("done in ")
    assert "\x1b" not in "".join(lines)
    assert "\r" not in "".join(lines)


def test_quiet_says_nothing_but_errors(mine: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*mine, "--jobs", "2", "--quiet", "--json"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*mine, "--quiet", "--rule", "2091"]) == 2
    assert "2091" in capsys.readouterr().err
