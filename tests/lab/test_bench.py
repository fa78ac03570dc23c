"""What `tombola bench` measures: the arithmetic on made-up times, and each measurement once."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tombola.cli import main
from tombola.kernels import break_even
from tombola.kernels.best import NAMES, best_kernel
from tombola.kernels.conv import Image, Window
from tombola.lab.bench.layers import Shape, layers, limits, shapes_of
from tombola.lab.bench.measure import Measured, crossing
from tombola.lab.bench.memory import memory
from tombola.lab.bench.step import step
from tombola.out.benches import table_text
from tombola.testing import toy_world
from tombola.world.models.lenet import LeNet

auto = importlib.import_module("tombola.lab.bench.auto")


def linear(outputs: int, inputs: int) -> Shape:
    return Shape(
        image=Image(inputs, 1, 1),
        weight=(outputs, inputs, 1, 1),
        window=Window(),
        batch=60,
        inner=True,
    )


def test_break_even_lies_between_the_densities_measured() -> None:
    assert crossing({0.5: 2.0, 1.0: 0.5}) == pytest.approx(0.5 + 0.5 * (1.0 / 1.5))
    assert crossing({1.0: 0.5, 0.1: 0.8, 0.5: 3.0}) == 0.0  # not up to any density
    assert crossing({0.1: 5.0, 0.2: 0.5, 0.3: 1.5}) == pytest.approx(0.1 + 0.1 * 4 / 4.5)


def test_a_row_of_the_table_is_the_worst_of_its_layers_rounded_down() -> None:
    assert [round(linear(o, i).intensity) for o, i in ((300, 784), (100, 300), (256, 256))] == [
        217,
        75,
        128,
    ]
    found = {linear(300, 784): 0.44, linear(100, 300): 0.38, linear(256, 256): 0.31}
    steps = {"linear": (70.0, 200.0), "conv": (45.0,)}
    assert limits(found, steps) == {"linear": [[70.0, 0.3], [200.0, 0.4]], "conv": []}
    found[linear(256, 256)] = 0.04
    assert limits(found, steps) == {"linear": [[200.0, 0.4]], "conv": []}


def test_the_table_in_the_code_is_one_that_the_measurement_writes() -> None:
    path = Path(break_even.__file__).with_suffix(".json")
    table = json.loads(path.read_text())
    assert path.read_text() == table_text(table)
    assert set(table["chains"]) == set(table["layers"]) == set(NAMES)
    for name, rows in table["chains"].items():
        assert tuple(map(tuple, rows)) == break_even.BREAK_EVEN[name]
        assert [most for most, _ in rows] in ([], list(auto.CHAINS))
    for kinds in table["layers"].values():
        for kind, rows in kinds.items():
            assert {least for least, _ in rows} <= set(auto.INTENSITIES[kind])


def test_every_chain_stands_for_as_many_weights_as_its_row_says() -> None:
    for most, widths in auto.CHAINS.items():
        count = sum(layer.count for layer in auto.chain_world(widths).layers)
        assert most / 2 < count <= most


def test_layers_of_one_shape_are_measured_once() -> None:
    shapes = shapes_of(toy_world(model=lambda: LeNet(6, 8, 8, 8, 3)))
    assert [shape.weight[:2] for shape in shapes.values()] == [(8, 6), (8, 8), (3, 8)]
    assert [shape.inner for shape in shapes.values()] == [False, True, True]


def test_auto_measures_its_table_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With made-up times: dense takes 1, a kernel as much as its density by 2."""
    shape = linear(300, 784)

    def gains(of: Shape, kernel: str, densities: Sequence[float] = (1.0, 0.5, 0.25)):
        return {density: 0.5 / density for density in densities}

    monkeypatch.setattr(auto, "layer_shapes", lambda: iter([(shape, "lenet first")]))
    monkeypatch.setattr(auto, "gains_of", gains)
    monkeypatch.setattr(
        auto, "chain_break_evens", lambda world, kernels: dict.fromkeys(kernels, 0.52)
    )
    measured = auto.auto()
    here = best_kernel().name
    if here == "torch":
        assert measured.table["chains"][here] == []
        return
    assert measured.table["chains"][here] == [[most, 0.5] for most in auto.CHAINS]
    assert measured.table["layers"][here]["linear"] in ([[200.0, 0.5]], [])
    assert measured.as_json()["table"] == measured.table


def test_the_table_is_written_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"chains": {"c": [[60, 0.5]]}, "layers": {"c": {"linear": []}}}
    made = Measured(bench="auto", world="w", about="a", rows=({"kernel": "c"},), table=table)
    monkeypatch.setattr("tombola.lab.bench.auto", lambda: made)
    path = tmp_path / "table.json"
    assert main(["bench", "auto", "--out", str(path)]) == 0
    assert json.loads(path.read_text()) == table
    assert main(["bench", "auto", "--out", str(tmp_path / "no" / "table.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "taken.json").mkdir()
    assert main(["bench", "auto", "--out", str(tmp_path / "taken.json")]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table.json", "taken.json"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["auto", "--on", "digits"], "networks of its own"),
        (["step", "--out", "t.json"], "makes no table"),
        (["layers", "--steps", "3"], "single layers"),
        (["memory", "--jobs", "2"], "one process"),
    ],
)
def test_options_that_a_measurement_has_no_use_for_are_named(
    call: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *call]) == 2
    assert said in capsys.readouterr().err


def test_steps_and_layers_and_memory_are_measured() -> None:
    world = toy_world(steps=20)
    found = step(world, densities=(1.0, 0.2))
    assert {row["density"] for row in found.rows} == {1.0, 0.2} and found.notes
    rows = layers(world).rows
    assert [row["layer"] for row in rows] and all(0 <= row["break-even"] <= 1 for row in rows)
    peaks = memory(world, steps=4).rows
    assert all(row["MB at its peak"] >= row["MB added"] >= 0 for row in peaks)
