"""The guide to one's own networks runs as printed, in order, in one session."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "prune-your-own.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "guide"}
    for block in BLOCKS:
        exec(compile(block, str(GUIDE), "exec"), session)
    assert session["checkpoint"].network is not None
    assert [layer.name for layer in session["odd"].layers] == [
        "mix",
        "body.parametrizations.weight.original1",
    ]
    assert len(session["rows"].layers) == 3
    assert {len(w.train) for w in (session["named"], session["spread"])} == {540}
    assert session["study"].document["recipe"] == "taught"
    assert len(session["reader"].layers) == 7
