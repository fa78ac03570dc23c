"""Calls drawn at random end as the contract says, and do no harm (`benchmarks/wrong_calls.py` makes
thousands of them)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from storms import Said
from wrong_calls import COMMANDS, MODULE, ODD, Call, Sandbox, drawn_calls


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TOMBOLA_STORE", raising=False)
        patch.chdir(tmp_path_factory.mktemp("calls"))
        patch.syspath_prepend(".")
        yield Sandbox(Path.cwd())
    for name in [name for name in sys.modules if name.startswith(MODULE)]:
        del sys.modules[name]


def test_no_call_does_harm(sandbox: Sandbox) -> None:
    calls = drawn_calls(sandbox.good, 100, first_seed=0)
    assert {call.argv[0] for call in calls} == {c.words.split()[0] for c in COMMANDS}
    ends = [sandbox.wrong(call) for call in calls]
    assert [what for _, wrong in ends for what in wrong] == []
    assert {status for status, _ in ends} >= {0, 2}


ODD_RECIPE = ("find", f"{ODD}:odd_recipe", "--on", f"{MODULE}:world", "--seeds", "1")


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (Call(("ls", "--store", "store")), 0),
        (Call(("find", "imp", "--on", f"{MODULE}:world", "--seeds", "1", "--store", "new")), 0),
        (Call(("ship", "odd.safetensors", "--to", "ticket"), ticket=b"no ticket"), 2),
        (
            Call(
                ODD_RECIPE,
                recipe="replace(recipe, rule=tb.ByScore(score=Scored('nan')))",
            ),
            1,
        ),
        (
            Call(
                ODD_RECIPE,
                recipe="replace(recipe, schedule=.5)",
            ),
            2,
        ),
    ],
)
def test_a_call_ends_with_its_status(sandbox: Sandbox, call: Call, status: int) -> None:
    assert sandbox.wrong(call) == (status, [])


def test_harm_would_be_seen(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is refused but writes, one that fails without a word, one that damages."""

    def harmful(*argv: str) -> Said:
        Path("store/format.json").write_text("{")
        return Said(2, "result", "")

    monkeypatch.setattr("wrong_calls.say", harmful)
    _, wrong = sandbox.wrong(Call(("ls",)))
    text = "\n".join(wrong)
    assert "changed" in text and "without a word" in text and "but printed" in text
    monkeypatch.setattr("wrong_calls.say", lambda *argv: Said(99, "", "KeyError: 3"))
    assert "exit status 99" in sandbox.wrong(Call(("ls",)))[1][0]
