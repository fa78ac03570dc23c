"""The README's Python runs as printed, in order, in one session."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 3
    session: dict[str, object] = {"__name__": "readme"}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), session)
    study, moved = session["study"], session["moved"]
    assert study.checks["rewind_exact"] is True
    assert moved.document["recipe"] == "movement"
    assert moved.digest != study.digest
    assert (tmp_path / "ticket.safetensors").is_file()
