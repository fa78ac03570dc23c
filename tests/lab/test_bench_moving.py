"""What `tombola bench moving` measures, on a world whose steps take no time."""

import pytest

from tombola.lab.bench import measure
from tombola.lab.bench.moving import moving
from tombola.testing import toy_world


def test_every_method_is_measured_on_both_executors_and_updates_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "TURNS", 1)
    found = moving(toy_world(), (0.3,), steps=102)
    rows = {(row["method"], row["executor"].split()[0]): row for row in found.rows}
    methods = ("static", "set", "rigl")
    assert set(rows) == {("dense", "dense")} | {
        (m, e) for m in methods for e in ("dense", "sparse")
    }
    assert rows["dense", "dense"]["ratio"] == rows["static", "sparse"]["over_static"] == 1.0
    assert all(row["microseconds"] > 0 for row in found.rows)
    assert found.notes == ()


def test_what_is_trained_densely_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import tombola.train.executors.choose as choose

    monkeypatch.setattr(choose, "break_even", lambda kernel, weights: 0.0)
    found = moving(toy_world(), (0.3,), steps=102)
    assert [note.split(" is ")[0] for note in found.notes] == [
        f"{method} at density 0.3" for method in ("rigl", "set", "static")
    ]
