"""The command line, from outside: what it prints, what it returns, what it leaves behind."""

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tombola.cli import main
from tombola.lab.pace import Pace
from tombola.lab.store import Store
from tombola.lab.study import open_study
from tombola.out.ship.formats import FORMATS
from tombola.out.ship.packed import unpack
from tombola.values.digest import digest
from tombola.values.ticket import Ticket

MINE = """
import torch
from torch import nn
import tombola as tb

print("loading")  # must not reach stdout

x = torch.randn(160, 6, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def world(train=(x[:80], y[:80]), test=(x[80:], y[80:]), model=net, steps=20, **more):
    return tb.World(model=model, train=train, test=test, steps=steps, batch_size=10,
                    optimiser=tb.Adam(lr=.01), judged_density=.6, name="tiny", **more)


recipe = tb.recipes.IMP
number = 3
"""


class Shell:
    """Runs commands in a folder of its own, with a user's module in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.module = f"mine_{abs(hash(folder)):x}"
        self.write(self.module, MINE)

    def write(self, module: str, text: str) -> None:
        (self.folder / f"{module}.py").write_text(text)

    def mine(self, text: str) -> str:
        """Another module of the user's, on top of the first; returns its name."""
        name = f"{self.module}_more"
        self.write(name, f"from {self.module} import *\nfrom dataclasses import replace\n{text}\n")
        return name

    def __call__(self, *argv: str | Path) -> tuple[int, str, str]:
        self.capsys.readouterr()
        status = main([str(part) for part in argv])
        out, err = self.capsys.readouterr()
        return status, out, err

    def json(self, *argv: str | Path) -> dict[str, Any]:
        status, out, err = self(*argv, "--json")
        assert status == 0, err
        document = json.loads(out)
        assert isinstance(document, dict)
        return document

    def find(self, *more: str | Path) -> dict[str, Any]:
        return self.json("find", "imp", "--on", f"{self.module}:world", "--jobs", "1", *more)

    def refused(self, *argv: str | Path) -> str:
        """The message of a call that is wrong: nothing on stdout, nothing written."""
        before = sorted(self.folder.rglob("*"))
        status, out, err = self(*argv)
        assert (status, out) == (2, ""), err
        assert "Traceback" not in err
        new = [
            path
            for path in set(self.folder.rglob("*")) - set(before)
            if "__pycache__" not in path.parts
        ]
        assert not new
        return " ".join(err.replace("│", " ").split())


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("TOMBOLA_STORE", "TOMBOLA_DATA"):
        monkeypatch.delenv(name, raising=False)
    yield Shell(tmp_path, capsys)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


# -- help ------------------------------------------------------------------------------------


def test_help_waits_for_nothing_heavy() -> None:
    code = (
        "import sys; from tombola.cli import main; status = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'safetensors'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr); sys.exit(status or len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("find", "plan", "judge", "verify", "ship", "ls"):
        assert command in done.stdout


def test_version_and_no_command(shell: Shell) -> None:
    assert shell("--version")[:2] == (0, "0.1.0\n")
    status, out, _ = shell()
    assert status == 0 and "Usage: tombola COMMAND" in out


# -- wrong calls -----------------------------------------------------------------------------

DIGITS = ("--on", "digits-short")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ("find", "impp", *DIGITS),
            ["'impp'", "Did you mean imp", "rigl", "package.module:RECIPE"],
        ),
        (("find", "imp", "--on", "digit-short"), ["'digit-short'", "Did you mean digits-short"]),
        (
            ("find", "imp", *DIGITS, "--rule", "matchin"),
            ["'matchin'", "Did you mean matching", "2019"],
        ),
        (("find", "imp", *DIGITS, "--arms", "dense,reini"), ["'reini'", "Did you mean reinit"]),
        (("find", "imp", *DIGITS, "--arms", "dense,dense"), ["two arms are named 'dense'"]),
        (("find", "imp", *DIGITS, "--arms", "dense,"), ["no arm ''", "ticket, dense, reinit"]),
        (("find", "imp", *DIGITS, "--sed", "3"), ["--sed", "Did you mean --seeds"]),
        (("find", "imp", *DIGITS, "--jobs", "x"), ["--jobs", '"x"']),
        (("find", "imp", *DIGITS, "--jobs", "0"), ["--jobs 0", "1 or more"]),
        (("find", "imp"), ["--on", "requires an argument"]),
        (("find", "imp", *DIGITS, "--controls-at", "al"), ["--controls-at", "all"]),
        (("find", "imp", *DIGITS, "--draws", "0"), ["--draws 0", "1 to 1,000"]),
        (("find", "imp", *DIGITS, "--draws", "2", "--arms", "dense"), ["--draws 2", "reinit"]),
        (("find", "imp", *DIGITS, "--seeds", "0"), ["seeds=0", "at least one"]),
        (("find", "imp", *DIGITS, "--seeds", "-1"), ["seeds=-1", "at least one"]),
        (("find", "imp", *DIGITS, "--seeds", "0,-1"), ["-1", "0 or more"]),
        (("find", "imp", *DIGITS, "--seeds", "abc"), ["--seeds abc", "such as 0,3,7"]),
        (("find", "imp", *DIGITS, "--seeds", "3,4,3"), ["[3, 4, 3]", "twice"]),
        (("find", "obs", *DIGITS), ["'obs'", "digits-small"]),
        (("fnd",), ['"fnd"', 'Did you mean "find"']),
        (("ls", "recipe"), ['"recipe"', '"recipes"']),
        (("ship", "latest", "--to", "tflite"), ["--to", "safetensors"]),
        (("ship", "none.safetensors", "--to", "ticket"), ["none.safetensors"]),
    ],
)
def test_a_wrong_call_is_refused(shell: Shell, argv: tuple[str, ...], says: list[str]) -> None:
    message = shell.refused(*argv)
    for text in says:
        assert text in message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:recipe", ["no module 'nowhere'", "neither in", "nor installed"]),
        ("MINE:recip", ["no 'recip'", "Did you mean recipe"]),
        ("MINE:number", ["is an int; want a recipe, or a function that returns one"]),
        ("MINE:net", ["net() returned a Sequential; want a recipe"]),
        ("MINE:replace", ["cannot be called without arguments", "want a recipe"]),
        ("MINE.py:recipe", ["not the name of a file"]),
        ("MINE:", ["package.module:NAME"]),
    ],
)
def test_a_wrong_module_name_is_refused(shell: Shell, name: str, says: list[str]) -> None:
    module = shell.mine("")
    message = shell.refused("find", name.replace("MINE", module), *DIGITS)
    for text in says:
        assert text in message


def test_an_error_in_the_users_module_shows_the_users_frames(shell: Shell) -> None:
    module = shell.mine("def broken():\n    return 1 / 0\n\nrecipe = broken()")
    status, out, err = shell("plan", f"{module}:recipe", *DIGITS)
    assert (status, out) == (2, "")
    assert f'{module}.py", line 4, in broken' in err and "ZeroDivisionError" in err
    assert "tombola/" not in err and "importlib" not in err


def test_a_module_that_lacks_another_is_not_called_absent_itself(shell: Shell) -> None:
    module = shell.mine("import nowhere_else")
    status, _, err = shell("plan", f"{module}:recipe", *DIGITS)
    assert status == 2
    assert "No module named 'nowhere_else'" in err and f"{module}.py" in err


@pytest.mark.parametrize(
    ("density", "says"),
    [
        ("0", "want more than 0"),
        ("1.5", "To keep 1.5 % of the weights pass 0.015"),
        ("-.1", "want more than 0"),
        ("float('nan')", "density nan"),
    ],
)
def test_a_density_out_of_range_is_refused(shell: Shell, density: str, says: str) -> None:
    module = shell.mine(f"recipe = replace(recipe, schedule=tb.Densities(values=({density},)))")
    message = shell.refused("find", f"{module}:recipe", *DIGITS)
    assert says in message
    assert f'{module}.py", line 3' in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bad = lambda: world(model=nn.ReLU)", ["ReLU has no parameters", "nothing to train"]),
        ("x[3, 1] = torch.nan; bad = lambda: world()", ["inputs have NaN", "example 3", "Remove"]),
        ("y[7] = 3; bad = lambda: world()", ["labels go from", "to 3; the", "want 0 to 2"]),
        (
            "bad = lambda: world(train=(x[:80], y[:79]))",
            ["train: lengths differ", "one target per"],
        ),
        ("bad = lambda: world(train=(x[:4], y[:4]))", ["validation", "empty split", "Pass"]),
        ("bad = lambda: world(validation=(x[:0], y[:0]))", ["validation: no examples"]),
        ("bad = lambda: world(steps=0)", ["steps=0", "1 or more"]),
    ],
)
def test_a_world_that_cannot_be_used_is_refused(shell: Shell, text: str, says: list[str]) -> None:
    message = shell.refused("find", "imp", "--on", f"{shell.mine(text)}:bad")
    for part in says:
        assert part in message


def test_missing_data_says_where_it_looked_and_what_to_do(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = shell.folder / "empty"
    empty.mkdir()
    monkeypatch.setenv("TOMBOLA_DATA", str(empty))
    message = shell.refused("find", "imp", "--on", "mnist-lenet-short")
    assert f"{empty}/mnist/train-images-idx3-ubyte.gz" in message and "--data" in message


def foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("")


def newer(folder: Path) -> None:
    folder.mkdir()
    (folder / "format.json").write_text('{"format": "tombola-store", "schema": 99}')


def torn(folder: Path) -> None:
    folder.mkdir()
    (folder / "format.json").write_text('{"format": "tomb')


def a_file(folder: Path) -> None:
    folder.write_text("not a folder")


@pytest.mark.parametrize("command", ["find", "plan", "ls"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (foreign, "not a tombola store"),
        (newer, "schema 99"),
        (torn, "damaged"),
        (a_file, "not a tombola store"),
    ],
)
def test_a_folder_that_is_no_store_is_refused(
    shell: Shell, command: str, make: Callable[[Path], None], says: str
) -> None:
    make(shell.folder / "st")
    call = () if command == "ls" else ("imp", "--on", f"{shell.module}:world")
    message = shell.refused(command, *call, "--store", "st")
    assert says in message and "st" in message


def test_a_store_that_cannot_be_written_is_refused(shell: Shell) -> None:
    a_file(shell.folder / "file")
    for folder in ("/proc/none", "file/below"):
        message = shell.refused("find", "imp", "--on", f"{shell.module}:world", "--store", folder)
        assert f"store {folder} cannot be written" in message and "--store" in message


@pytest.mark.parametrize(
    "argv",
    [
        ("ls",),
        ("judge", "latest"),
        ("verify", "latest"),
        ("ship", "latest", "--to", "ticket"),
    ],
)
def test_reading_a_store_that_is_not_there_does_not_make_it(
    shell: Shell, argv: tuple[str, ...]
) -> None:
    assert "there is no store .tombola" in shell.refused(*argv)


def test_too_long_a_study_wants_to_be_confirmed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tombola.cli.find.ASK_ABOVE", 0.0)
    message = shell.refused("find", "imp", "--on", f"{shell.module}:world")
    assert "nothing was started" in message and "--yes" in message
    assert shell.find("--yes")["cost"]["steps_trained"] > 0


# -- a study from end to end -----------------------------------------------------------------


def test_find_prints_the_document_of_the_contract(shell: Shell) -> None:
    document = shell.find("--seeds", "2")
    assert list(document) == [
        "schema",
        "study",
        "recipe",
        "world",
        "seeds",
        "rows",
        "verdict",
        "checks",
        "cost",
        "store",
        "report",
    ]
    assert document["seeds"] == [0, 1]
    row = document["rows"][0]
    assert list(row) == ["arm", "round", "density", "kept", "total", "n", "metrics"]
    assert set(row["metrics"]) == {
        "test_accuracy",
        "test_loss",
        "stop_step",
        "stop_test_accuracy",
        "stop_test_loss",
    }
    assert set(row["metrics"]["test_accuracy"]) == {"mean", "low", "high", "values"}
    assert set(document["verdict"]) == {"outcome", "rule", "density", "conditions", "seeds_needed"}
    assert set(document["verdict"]["conditions"][0]) == {
        "name",
        "estimate",
        "low",
        "high",
        "margin",
        "passed",
        "n",
    }
    assert set(document["checks"]) == {
        "rewind_exact",
        "optimiser_fresh",
        "mask_nested",
        "count_exact",
        "cut_stays_zero",
        "arms_paired",
    }
    assert set(document["cost"]) == {"steps_trained", "steps_reused", "seconds"}
    arms = [row["arm"] for row in document["rows"]]
    assert list(dict.fromkeys(arms)) == ["ticket", "dense", "reinit", "shuffle"]


def test_nothing_is_trained_twice(shell: Shell) -> None:
    first = shell.find("--seeds", "2")
    again = shell.find("--seeds", "2")
    assert again["cost"]["steps_trained"] == 0
    assert again["cost"]["steps_reused"] == first["cost"]["steps_trained"]
    assert again["rows"] == first["rows"]
    more = shell.find("--seeds", "3")
    assert more["cost"]["steps_trained"] == first["cost"]["steps_trained"] // 2
    one = shell.find("--seeds", "7,")
    assert one["seeds"] == [7]


def test_processes_give_what_one_process_gives(shell: Shell) -> None:
    inline = shell.find("--seeds", "2", "--store", "one")
    forked = shell.json(
        "find",
        "imp",
        "--on",
        f"{shell.module}:world",
        "--seeds",
        "2",
        "--jobs",
        "2",
        "--store",
        "two",
    )
    assert forked["rows"] == inline["rows"] and forked["study"] == inline["study"]


def test_people_get_a_table_the_plan_goes_to_stderr(shell: Shell) -> None:
    status, out, err = shell(
        "find", "imp", "--on", f"{shell.module}:world", "--seeds", "2", "--jobs", "1"
    )
    assert status == 0
    assert "trainings to run" in err and "loading" in err
    assert "loading" not in out and "\x1b" not in out
    lines = [line for line in out.splitlines() if not line.startswith("report ")]  # a path, whole
    assert len(lines) == len(out.splitlines()) - 1
    assert max(len(line.rstrip()) for line in lines) <= 80
    for text in ("density", "test accuracy", "shuffle", "matches-dense", "mask_nested", "store"):
        assert text in out
    _, one, _ = shell("find", "imp", "--on", f"{shell.module}:world", "--seeds", "1", "--jobs", "1")
    assert "(no interval)" in one and "n = 1" in one


def test_recipes_as_arms_and_several_draws(shell: Shell) -> None:
    document = shell.find(
        "--seeds",
        "1",
        "--arms",
        "dense,ticket,reinit,oneshot",
        "--draws",
        "2",
        "--controls-at",
        "all",
    )
    arms = {row["arm"] for row in document["rows"]}
    assert arms == {"ticket", "dense", "reinit", "oneshot"}
    rounds = [row["round"] for row in document["rows"] if row["arm"] == "reinit"]
    assert rounds == list(range(1, max(rounds) + 1))
    assert shell.json("verify", "latest", "--sample", "2")["differences"] == []


def test_plan_writes_nothing_and_knows_what_is_stored(shell: Shell) -> None:
    call = ("plan", "imp", "--on", f"{shell.module}:world", "--seeds", "2", "--jobs", "1")
    before = shell.json(*call)
    assert not (shell.folder / ".tombola").exists()
    assert before["trainings"]["stored"] == 0 and before["steps"]["to_train"] > 0
    study = shell.find("--seeds", "2")
    assert study["cost"]["steps_trained"] == before["steps"]["to_train"]
    after = shell.json(*call)
    assert after["trainings"] == {"stored": before["trainings"]["to_run"], "to_run": 0}
    assert "in the store" in shell(*call)[1]


def test_judge_trains_nothing(shell: Shell) -> None:
    study = shell.find("--seeds", "3")
    judged = shell.json("judge", study["study"][:8], "--rule", "2019")
    assert list(judged) == ["schema", "study", "verdict"]
    assert judged["verdict"]["rule"] == "2019" and judged["study"] == study["study"]
    assert shell.json("judge", "latest")["verdict"] == study["verdict"]
    assert "no study begins with 'zz'" in shell.refused("judge", "zz")
    assert "no rule 'nine'" in shell.refused("judge", "latest", "--rule", "nine")


def test_judge_asks_about_densities_and_strictly(shell: Shell) -> None:
    study = shell.find("--seeds", "3")
    along = shell.json("judge", "latest", "--rule", "densities")["verdict"]
    assert len(along["rungs"]) == len({r["round"] for r in study["rows"] if r["round"]})
    assert "corrected" in shell("judge", "latest", "--rule", "densities-holm")[1]
    refused = shell.refused("judge", "latest", "--rule", "strict")
    assert f"tombola find imp --on {shell.module}:world --seeds 3 --arms " in refused
    assert ",thin" in refused
    assert "got 2 studies; want one, or a strict rule" in shell.refused("judge", "latest", "latest")
    assert "is for finished studies" in shell.refused(
        "find", "imp", "--on", f"{shell.module}:world", "--rule", "strict"
    )


def test_plan_says_how_many_seeds_a_rule_needs(shell: Shell) -> None:
    call = ("plan", "imp", "--on", f"{shell.module}:world", "--seeds", "3", "--power")
    refused = shell.refused(*call)
    assert f"Make one with tombola find imp --on {shell.module}:world --seeds 3" in refused
    assert not (shell.folder / ".tombola").exists()
    shell.find("--seeds", "3")
    power = shell.json(*call, "--margin", "0.2")["power"]
    assert power["pilot"] == [0, 1, 2] and power["margin"] == 0.2
    assert power["conditions"][0]["name"] == "matches-dense"
    assert "cautious" in shell(*call)[1]
    assert "--margin 0.2 is about --power" in shell.refused(*call[:-1], "--margin", "0.2")
    assert "want a finite number >= 0" in shell.refused(*call, "--margin", "-1")


def test_ls_lists_studies_and_catalogues(shell: Shell) -> None:
    study = shell.find("--seeds", "2")
    held = shell.json("ls")
    assert [s["study"] for s in held["studies"]] == [study["study"]]
    assert held["bytes"]["objects"] > 0
    assert study["study"][:12] in shell("ls")[1]
    for what, name in (
        ("recipes", "rigl"),
        ("worlds", "digits"),
        ("rules", "2019"),
        ("arms", "shuffle"),
    ):
        known = shell.json("ls", what)[what]
        assert name in [entry["name"] for entry in known]
        assert all(entry["summary"] for entry in known)
        assert name in shell("ls", what)[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_says_what_is_done_and_what_is_left(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tombola.out.progress.LINE_EVERY", 0.0)
    call = ("find", "imp", "--on", f"{shell.module}:world", "--seeds", "1", "--jobs", "1")
    _, _, err = shell(*call)
    assert "\n100 of 200 steps, 5 of 10 trainings done, 1 running, " in err
    assert err.splitlines()[-1].endswith(": 200 steps, 10 trainings run, 0 from the store")
    again = shell(*call)[2]
    assert again.splitlines()[-1].endswith(": 0 steps, 0 trainings run, 10 from the store")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", Terminal())
        assert shell(*call, "--store", "other")[0] == 0
        assert isinstance(sys.stderr, Terminal)
        assert "of 200 steps" in sys.stderr.getvalue()


# -- verify ----------------------------------------------------------------------------------


def test_verify_finds_equal_what_is_equal(shell: Shell) -> None:
    shell.find("--seeds", "1")
    found = shell.json("verify", "latest", "--sample", "0")
    assert found["checked"] == found["equal"] == found["stored"] > 5
    assert found["differences"] == []


def test_verify_finds_a_record_that_was_altered(shell: Shell) -> None:
    shell.find("--seeds", "1")
    for path in (shell.folder / ".tombola" / "calls").rglob("*.json"):
        content = json.loads(path.read_text())
        if content["kind"] == "train":
            content["result"]["metrics"]["test_accuracy"] += 0.1
            content.pop("digest")
            path.write_text(json.dumps({**content, "digest": digest(content)}))
            break
    status, out, err = shell("verify", "latest", "--sample", "0", "--json")
    assert status == 1 and "DIFFERS" in err
    assert [d["parts"] for d in json.loads(out)["differences"]] == [["metrics"]]


def test_damaged_objects_are_an_error_of_verify_and_made_again_by_find(shell: Shell) -> None:
    first = shell.find("--seeds", "1")
    for path in (shell.folder / ".tombola" / "objects").rglob("*.safetensors"):
        raw = path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    status, out, err = shell("verify", "latest", "--sample", "0", "--json")
    assert (status, out) == (1, "") and "set aside" in err and "tombola find" in err
    # Another seed's trials do not need them, a longer study of the same seed does.
    assert shell.find("--seeds", "1", "--controls-at", "all")["rows"][0] == first["rows"][0]


def test_verify_refuses_names_that_stand_for_something_else_now(shell: Shell) -> None:
    shell.find("--seeds", "1")
    path = shell.folder / f"{shell.module}.py"
    path.write_text(path.read_text().replace("lr=.01", "lr=.02  "))
    del sys.modules[shell.module]
    message = shell.refused("verify", "latest")
    assert "code or data has changed" in message


def test_a_study_made_in_python_is_verified_in_python(shell: Shell) -> None:
    import tombola as tb

    module = __import__(shell.module)
    tb.find(tb.recipes.IMP, module.world(), seeds=1, store=shell.folder / "st")
    assert "in Python" in shell.refused("verify", "latest", "--store", "st")


# -- ship ------------------------------------------------------------------------------------


def test_a_trained_network_ships_as_a_state_dict(shell: Shell) -> None:
    study = shell.find("--seeds", "2")
    shipped = shell.json("ship", "latest:ticket:2:1", "--to", "safetensors", "--out", "new/models")
    assert {"path", "format", "bytes", "density", "checks", "test_accuracy"} <= set(shipped)
    assert shipped["checks"] == {
        "tensors_equal": True,
        "cut_is_zero": True,
        "loads": True,
        "test_accuracy_equal": True,
    }
    row = next(r for r in study["rows"] if (r["arm"], r["round"]) == ("ticket", 2))
    assert shipped["density"] == row["density"]
    assert shipped["test_accuracy"] == row["metrics"]["test_accuracy"]["values"][1]
    path = Path(shipped["path"])
    assert path.stat().st_size == shipped["bytes"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    network = sys.modules[shell.module].net()
    network.load_state_dict(load_file(path))
    kept = sum(int((network[place].weight != 0).sum()) for place in (0, 2))
    assert kept == row["kept"]
    assert "as large as the dense" in shipped["notes"][0]


def test_a_ticket_of_whole_units_ships_smaller(shell: Shell) -> None:
    on = f"{shell.module}:world"
    study = shell.json("find", "units-oneshot", "--on", on, "--seeds", "1", "--arms", "dense")
    shipped = shell.json("ship", "latest", "--to", "compact", "--batch", "1", "--out", "small")
    assert shipped["checks"] == {"tensors_equal": True, "outputs_equal": True}
    row = next(r for r in study["rows"] if (r["arm"], r["round"]) == ("ticket", 1))
    assert shipped["test_accuracy"] == row["metrics"]["test_accuracy"]["values"][0]
    assert sorted(path.suffix for path in Path("small").iterdir()) == [".py", ".safetensors"]
    shell.find("--seeds", "1")
    whole = shell.refused("ship", "latest:dense", "--to", "compact")
    assert "no unit of" in whole and "the recipe `units`" in whole
    wrong = shell.refused("ship", "latest", "--to", "packed", "--compact")
    assert "--compact is for --to onnx" in wrong


def test_a_ticket_goes_round(shell: Shell) -> None:
    shell.find("--seeds", "1")
    shipped = shell.json("ship", "latest", "--to", "ticket")
    ticket = Ticket.load(shipped["path"])
    stored = open_study(Store(".tombola"), "latest")
    assert ticket.digest == stored.ticket().digest
    assert shipped["density"] == ticket.provenance["density"]

    start = shell.json("ship", shipped["path"], "--to", "safetensors", "--untrained")
    values = load_file(start["path"])
    assert all(
        torch.equal(values[name], tensor) for name, tensor in ticket.mask.apply(ticket.init).items()
    )
    assert start["test_accuracy"] is None

    trained = shell.json(
        "ship",
        shipped["path"],
        "--to",
        "safetensors",
        "--on",
        f"{shell.module}:world",
        "--store",
        "other",
    )
    again = load_file(trained["path"])
    assert all(torch.equal(again[name], tensor) for name, tensor in stored.params().items())
    assert trained["checks"]["test_accuracy_equal"] is True


def test_wrong_tickets_are_refused(shell: Shell) -> None:
    shell.find("--seeds", "1")
    path = Path(shell.json("ship", "latest", "--to", "ticket")["path"])
    torn_ticket = shell.folder / "torn.safetensors"
    torn_ticket.write_bytes(path.read_bytes()[:-9])
    call = ("--to", "safetensors")
    assert "torn.safetensors is cut short" in shell.refused("ship", torn_ticket, *call)
    assert "--on WORLD" in shell.refused("ship", path, *call)
    assert "does not fit LeNet" in shell.refused("ship", path, *call, *DIGITS)
    assert "has no round 99" in shell.refused("ship", "latest:ticket:99", *call)
    assert "no trial of arm 'tickets'" in shell.refused("ship", "latest:tickets", *call)
    assert "STUDY[:arm[:round[:seed]]]" in shell.refused("ship", "latest:ticket:last", *call)
    assert "--seed" in shell.refused("ship", "latest", *call, "--seed", "1")
    assert "not a folder" in shell.refused("ship", "latest", *call, "--out", path)


def test_a_file_that_fails_its_check_is_not_kept(shell: Shell) -> None:
    shell.find("--seeds", "1")
    module = shell.mine("other = lambda: world(test=(x[80:], (y[80:] + 1) % 3))")
    status, out, err = shell(
        "ship", "latest", "--to", "safetensors", "--on", f"{module}:other", "--out", "models"
    )
    assert (status, out) == (1, "")
    assert "test_accuracy_equal" in err and not list((shell.folder / "models").iterdir())


def test_smaller_and_faster_files(shell: Shell) -> None:
    row = shell.find("--seeds", "1")["rows"][-1]
    packed = shell.json("ship", "latest", "--to", "packed", "--batch", "1")
    assert packed["checks"]["tensors_equal"] is True
    state = unpack(packed["path"])
    assert sum(int((state[f"{n}.weight"] != 0).sum()) for n in (0, 2)) <= row["total"]
    sparse = shell.json("ship", "latest", "--to", "sparse", "--batch", "1,5")
    assert [measured["batch"] for measured in sparse["speed"]] == [1, 5]
    assert sparse["test_accuracy"] == packed["test_accuracy"]
    for shipped in (packed, sparse):
        content = Path(shipped["path"]).read_bytes()
        assert shipped["sha256"] == hashlib.sha256(content).hexdigest()
    status, out, err = shell("ship", "latest", "--to", "packed", "--precision", "int8")
    assert status == 0, err
    assert "of test accuracy, against float32" in " ".join(out.split())


def test_formats_say_what_they_cannot_take(shell: Shell) -> None:
    shell.find("--seeds", "1")
    ship = ("ship", "latest", "--to")
    assert "--batch '1,x'" in shell.refused(*ship, "packed", "--batch", "1,x")
    assert "--precision int8 is for --to packed" in shell.refused(
        *ship, "sparse", "--precision", "int8"
    )
    path = shell.json(*ship, "ticket")["path"]
    assert "--to sparse needs" in shell.refused("ship", path, "--to", "sparse", "--untrained")
    assert shell.json("ship", path, "--to", "packed", "--untrained")["bytes"]


def test_a_network_of_ones_own_that_a_format_cannot_take(shell: Shell) -> None:
    module = shell.mine(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lstm, self.head = nn.LSTM(2, 8, batch_first=True), nn.Linear(8, 3)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.lstm(x.view(-1, 3, 2))[0][:, -1])\n"
        "own = lambda: world(model=Net)"
    )
    shell.json("find", "imp", "--on", f"{module}:own", "--jobs", "1", "--seeds", "1")
    said = shell.refused("ship", "latest", "--to", "sparse")
    assert "--to sparse: lstm is LSTM, neither linear nor ReLU" in said
    packed = shell.json("ship", "latest", "--to", "packed", "--batch", "1")
    assert packed["checks"]["tensors_equal"] is True and packed["test_accuracy"] is not None


def test_minutes_become_steps_in_the_name(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(step=0.1, sparse=0.1, sparse_at=1.0, example=0.0)
    monkeypatch.setattr("tombola.lab.budget.pace_of", lambda world, least: pace)
    shell.find("--seeds", "1", "--arms", "dense", "--minutes", "1")  # enough: nothing changes
    world = f"{shell.module}:world"
    assert shell.json("ls")["studies"][-1]["world"] == "tiny"
    call = ("imp", "--seeds", "1", "--arms", "dense")
    found = shell.json("find", *call, "--on", world, "--minutes", "0.1")
    steps = found["world"].removeprefix("tiny,steps=")
    assert 10 <= int(steps) < 20
    again = shell.json("find", *call, "--on", f"{world},steps={steps}")
    assert again["study"] == found["study"] and again["cost"]["steps_trained"] == 0
    assert shell.json("verify", "latest", "--sample", "1")["differences"] == []
    assert "leave one out" in shell.refused(
        "plan", *call, "--on", f"{world},steps=9", "--minutes", "1"
    )
    assert "too few" in shell.refused("find", *call, "--on", world, "--minutes", "1e-6")


def test_what_shipping_gains_is_in_the_report(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tombola.out.ship.speed.TURN", 1e-5)
    monkeypatch.delitem(FORMATS, "onnx")
    shell.find("--seeds", "1", "--arms", "dense")
    measured = shell.json("bench", "ship", "--study", "latest")
    assert {row["format"] for row in measured["rows"]} >= {"dense", "packed", "sparse"}
    (page,) = (shell.folder / ".tombola" / "reports").glob("*.html")
    assert measured["notes"][0] in page.read_text()
    assert "--study: bench step" in shell.refused("bench", "step", "--study", "latest")


# -- what goes wrong on the way --------------------------------------------------------------

FAILS_LATE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.calls = net(), 0

    def forward(self, inputs):
        self.calls += self.training
        if self.calls > 120:  # 100 steps at most only estimate the time
            raise ValueError("tired")
        return self.inside(inputs)


late = lambda: world(model=Net, steps=150, numerics=tb.Numerics(executor="dense"))
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_error_of_the_users_code_at_work_shows_the_users_frames(shell: Shell, jobs: str) -> None:
    module = shell.mine(FAILS_LATE)
    status, out, err = shell("find", "imp", "--on", f"{module}:late", "--jobs", jobs)
    assert (status, out) == (1, "")
    assert "ValueError: tired" in err and f'{module}.py", line ' in err
    assert "tombola/train" not in err and "site-packages" not in err


def test_a_full_disk_keeps_what_is_finished(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, written = Path.write_bytes, 0

    def until_full(path: Path, content: bytes) -> int:
        nonlocal written
        written += 1
        if written > 60:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", until_full)
        status, out, err = shell("find", "imp", "--on", f"{shell.module}:world", "--jobs", "1")
    assert (status, out) == (1, "")
    assert "the disk is full" in err and "repeat the command" in err
    assert shell.find()["cost"]["steps_reused"] > 0


def test_an_interrupted_study_goes_on(shell: Shell) -> None:
    module = shell.mine("long = lambda: world(steps=1_000)")
    call = [
        sys.executable,
        "-m",
        "tombola.cli",
        "find",
        "imp",
        "--on",
        f"{module}:long",
        "--seeds",
        "1",
        "--jobs",
        "2",
        "--store",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [*call, "cut", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
        env=env,
        cwd=shell.folder,
    )
    calls = shell.folder / "cut" / "calls"
    for _ in range(600):
        if len(list(calls.rglob("*.json"))) > 6 or running.poll() is not None:
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert out == "" and "Finished work is kept" in err
    resumed = shell.json(*call[3:], "cut")
    assert resumed["cost"]["steps_reused"] > 0
    assert resumed["rows"] == shell.json(*call[3:], "whole")["rows"]
