"""All arms at once, through the command line, on a world of the user's own."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tombola.cli import main
from tombola.recipes.controls import CONTROLS

MODULE = "mine_with_all_arms"
MINE = """
import tombola as tb
from tombola.testing import toy_net, toy_world


def thin(factor):
    return toy_net(factor)


def world():
    return toy_world(steps=20, judged_density=.6, thin=thin)


uniform = tb.recipes.RandomMask(name="uniform", summary="another", allocation=tb.Uniform())
"""
BESIDE_IMP = {name: control for name, control in CONTROLS.items() if name != "inverted"}
ALL = ",".join(BESIDE_IMP)
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Say]:
    (tmp_path / f"{MODULE}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("TOMBOLA_STORE", raising=False)

    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*argv])
        return status, *capsys.readouterr()

    yield call
    sys.modules.pop(MODULE, None)


def document(say: Say, *argv: str) -> dict[str, Any]:
    status, out, err = say(*argv, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_all_arms_at_once(say: Say) -> None:
    call = ("imp", "--on", f"{MODULE}:world", "--seeds", "1", "--jobs", "1", "--arms", ALL)
    planned = document(say, "plan", *call)
    study = document(say, "find", *call)
    assert study["cost"]["steps_trained"] == planned["steps"]["to_train"]
    assert list(dict.fromkeys(row["arm"] for row in study["rows"])) == ["ticket", *BESIDE_IMP]
    assert study["checks"] == dict.fromkeys(study["checks"], True)
    rounds = planned["control_rounds"]
    kept = {(row["arm"], row["round"]): row["kept"] for row in study["rows"]}
    for name, control in BESIDE_IMP.items():
        assert [n for arm, n in kept if arm == name] == (rounds if control.beside else [0])
        for number in rounds if control.beside else []:
            if name.startswith("dense") or name == "uncut":
                assert kept[name, number] == 192
            elif name.startswith("thin"):
                assert 0 < kept[name, number] <= kept["ticket", number]
            elif name.startswith("half-width"):
                assert kept[name, number] == kept["half-width", 0] < 192
            else:
                assert kept[name, number] == kept["ticket", number]
    again = document(say, "find", *call)
    assert (again["cost"]["steps_trained"], again["rows"]) == (0, study["rows"])
    verified = document(say, "verify", "latest", "--sample", "6")
    assert (verified["differences"], verified["rows_equal"]) == ([], True)
    status, out, _ = say("find", *call)
    assert status == 0 and "thin-longer" in out and "arms_paired" in out


def test_draws_are_of_reinit_and_of_its_longer_form(say: Say) -> None:
    call = ("imp", "--on", f"{MODULE}:world", "--seeds", "1", "--jobs", "1")
    for name in ("reinit", "reinit-longer"):
        arms = ("--arms", f"dense,{name}")
        one = document(say, "plan", *call, *arms)
        three = document(say, "plan", *call, *arms, "--draws", "3")
        more = three["trainings"]["to_run"] - one["trainings"]["to_run"]
        assert more == 2 * len(one["control_rounds"])
    status, _, err = say("plan", *call, "--draws", "2", "--arms", "dense,dense-longer")
    assert status == 2 and "--draws 2" in err


def test_arms_are_listed_and_near_names_are_offered(say: Say) -> None:
    listed = document(say, "ls", "arms")["arms"]
    assert [entry["name"] for entry in listed] == ["ticket", *CONTROLS]
    assert all(entry["summary"] for entry in listed)
    for wrong, meant in (("randon", "random"), ("thin-long", "thin-longer"), ("ekr", "erk")):
        call = ("find", "imp", "--on", "digits-short", "--arms", f"dense,{wrong}")
        status, _, err = say(*call)
        assert status == 2 and f"no arm '{wrong}'. Did you mean {meant}" in " ".join(err.split())


def test_an_arm_that_cannot_stand_there_is_refused_before_anything_is_written(
    say: Say, tmp_path: Path
) -> None:
    for recipe, arm, message in (
        ("rigl", "dense-longer", "there is nothing to lengthen"),
        ("kd-ticket", "thin", "learn from other networks"),
        ("imp", "inverted", "does not cut by a score before training"),
    ):
        status, out, err = say("find", recipe, "--on", "digits-short", "--arms", f"dense,{arm}")
        assert (status, out) == (2, "") and message in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / ".tombola").exists()


def test_a_control_of_ones_own_is_an_arm_by_its_place(say: Say) -> None:
    arms = f"dense,{MODULE}:uniform"
    study = document(
        say, "find", "imp", "--on", f"{MODULE}:world", "--seeds", "1", "--jobs", "1", "--arms", arms
    )
    assert {row["arm"] for row in study["rows"]} == {"ticket", "dense", "uniform"}
