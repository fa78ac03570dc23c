"""`tombola theory` from outside: what it prints, and what it says of a wrong call."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tombola.cli import main

BARE = ("theory", "pretraining", "--variance", "2")
BASE = (*BARE, "--first-loss", "1", "--initial-loss", "0.5")


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*BASE, *argv, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def test_thresholds_as_worked_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    said = document(capsys, "--rho", "0.01", "--neurons", "1,200")
    one, many = said["rows"]
    assert (one["threshold_step"], many["threshold_step"]) == (0, 276)
    assert many["least_bound"] == pytest.approx((1 + math.log(200)) / 200)
    assert many["bound_at_start"] == pytest.approx(many["least_bound"] + 199 / 200 * 0.5)
    points = said["curves"][1]["points"]
    assert points[0]["step"] == 0 and 276 in [point["step"] for point in points]
    assert all(point["selection"] == many["least_bound"] for point in points)
    assert len(said["assumptions"]) == 7


def test_rho_comes_from_each_of_its_sources(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    curve = tmp_path / "curve.csv"
    curve.write_text("step,loss\n0,0.8\n10,0.2\n30,0.1\n")
    assert document(capsys, "--kernel", "0.1,0.4")["rho"] == pytest.approx(0.02)
    assert document(capsys, "--wide", "2,100,1000")["rho"] == pytest.approx(2e-4)
    slow = document(capsys, "--curve", str(curve), "--upheld")
    assert slow["rho"] == pytest.approx(1 - (1 / 8) ** (1 / 30))
    assert document(capsys, "--curve", str(curve))["rho"] > slow["rho"]
    assert main([*BARE, "--curve", str(curve), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["initial_loss"] == 0.8


def test_people_see_the_thresholds_the_bars_and_every_assumption(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*BASE, "--rho", "0.01", "--neurons", "50,200"]) == 0
    said = capsys.readouterr().out
    assert "276" in said and "bound on the loss of 200 neurons" in said
    bars = [line.split()[1] for line in said.splitlines() if "  #" in line]
    lengths = [len(bar) for bar in bars]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == 13
    assert said.count("\n - ") == 7 and "upper bound" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (BASE, "want one of --curve, --rho, --kernel, --wide"),
        ((*BASE, "--rho", "0.1", "--kernel", "1,2"), "got --rho and --kernel"),
        ((*BASE, "--rho", "1.5"), "between 0 and 1"),
        ((*BASE, "--rho", "0.1", "--upheld"), "about a --curve"),
        ((*BASE, "--rho", "0.1", "--neurons", "few"), "--neurons few: want whole numbers"),
        ((*BASE, "--rho", "0.1", "--neurons", "0"), "0 neurons"),
        ((*BARE, "--rho", "0.1", "--initial-loss", "0"), "initial loss"),
        ((*BARE, "--rho", "0.1"), "--initial-loss: want it"),
        ((*BARE[:2], "--rho", "0.1", "--variance=-1", "--initial-loss", "1"), "variance=-1"),
        ((*BASE, "--kernel", "0.1"), "want 2 numbers"),
        ((*BASE, "--wide", "0,1,2"), "c is 0"),
        ((*BASE, "--curve", "absent.csv"), "absent.csv"),
    ],
)
def test_a_wrong_call_says_what_is_wanted(
    argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1\n5 0.5\n", "line 2"),
        ("0,1\n0,0.5\n", "line 2: step 0"),
        ("0,1\n", "1 points"),
        ("0,1\n5,2\n", "does not fall"),
    ],
)
def test_a_damaged_curve_is_named_with_its_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = tmp_path / "curve.csv"
    curve.write_text(text)
    assert main([*BASE, "--curve", str(curve)]) == 2
    assert message in capsys.readouterr().err
