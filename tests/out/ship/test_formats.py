"""What ships, is read back, and computes what the network does; and what is refused."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drive import drive
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

import tombola as tb
from tombola.errors import CallError, CheckError, ShipError
from tombola.kernels.infer import Rows
from tombola.lab.bench.measure import Measured
from tombola.lab.gc import sweep
from tombola.out.report.page import render
from tombola.out.ship import break_even, speed
from tombola.out.ship.cargo import Cargo
from tombola.out.ship.chain import COMPILED, NOT_COMPILED, WAYS, SparseNetwork
from tombola.out.ship.format import Form, Format
from tombola.out.ship.formats import FORMATS, check_format, ship_as
from tombola.out.ship.shipment import Shipment
from tombola.out.ship.sparse import decode_rows, encode_rows
from tombola.pieces.schedule import Densities
from tombola.recipes import MULTI_PRIZE
from tombola.testing import toy_world
from tombola.values.mask import Mask
from tombola.values.tensors import encode_tensors
from tombola.world.binary import binarised
from tombola.world.models import LeNet
from tombola.world.world import World, initial_params


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns are so short that they say nothing, which nobody here looks at."""
    monkeypatch.setattr(speed, "TURN", 1e-5)


def masked(world: World, density: float = 0.4) -> Mask:
    return break_even.mask_of(world, density)


def shipment(folder: Path, world: World | None = None) -> Shipment:
    world = world or toy_world()
    mask = masked(world)
    cargo = Cargo(
        params=mask.apply(initial_params(world, 0)),
        mask=mask,
        stem="mine",
        provenance={"density": 0.4, "seed": 0},
        trained=True,
    )
    return Shipment(cargo=cargo, world=world, folder=folder, batches=(1, 7))


def outputs(call: Callable[[Any], Any], world: World) -> Tensor:
    with torch.no_grad():
        found: Tensor = call(speed.inputs_of(world, 33))
    return found


# -- packed ----------------------------------------------------------------------------------


def test_packed_gives_the_state_dict_back(tmp_path: Path) -> None:
    one = shipment(tmp_path)
    document = ship_as("packed", one, "float32")
    assert document["checks"]["tensors_equal"] is True
    assert document["outputs"] == {"difference": 0.0, "tolerance": 0.0}
    assert document["accuracy_cost"] == 0.0 and document["machine"]["processor"]
    assert [row["batch"] for row in document["speed"]] == [1, 7]
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in document["speed"])
    state = tb.unpack(document["path"])
    assert list(state) == list(one.cargo.params)
    assert all(torch.equal(state[name], tensor) for name, tensor in one.cargo.params.items())
    assert Path(document["path"]).stat().st_size == document["bytes"]


def test_each_precision_is_a_file_and_an_accuracy_of_its_own(tmp_path: Path) -> None:
    documents = [ship_as("packed", shipment(tmp_path), p) for p in ("float32", "float16", "int8")]
    assert len({document["path"] for document in documents}) == 3
    assert documents[0]["bytes"] > documents[1]["bytes"]
    assert {document["network_accuracy"] for document in documents} == {
        documents[0]["test_accuracy"]
    }
    assert documents[2]["outputs"]["tolerance"] is None


def test_packed_needs_no_world(tmp_path: Path) -> None:
    one = replace(shipment(tmp_path), world=None)
    document = ship_as("packed", one, "float32")
    assert document["test_accuracy"] is None and "--on" in document["notes"][-1]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = nn.Linear(6, 3, bias=False), nn.Linear(6, 3, bias=False)
        self.back.weight = self.there.weight

    def forward(self, inputs: Tensor) -> Tensor:
        there: Tensor = self.there(inputs) + self.back(inputs)
        return there


def test_tied_tensors_are_packed_once(tmp_path: Path) -> None:
    world = toy_world(model=Tied, thin=None)
    state = tb.unpack(ship_as("packed", shipment(tmp_path, world), "float32")["path"])
    assert state["there.weight"] is state["back.weight"]
    Tied().load_state_dict(state, strict=True)


def test_what_was_frozen_is_packed_whole(tmp_path: Path) -> None:
    one = shipment(tmp_path)
    params = initial_params(toy_world(), 0)
    frozen = replace(one, cargo=replace(one.cargo, params=params, cuts_to_zero=False))
    document = ship_as("packed", frozen, "float32")
    assert "was frozen" in document["notes"][-1]
    assert all(torch.equal(t, params[n]) for n, t in tb.unpack(document["path"]).items())


@pytest.mark.parametrize("binary", [False, True])
def test_a_multi_prize_ticket_is_packed_as_signs(tmp_path: Path, binary: bool) -> None:
    world = wide_world()
    world = binarised(world) if binary else world
    (ticket,) = drive(TENTH.loop(TENTH, world, 0))
    cargo = Cargo(
        params=ticket.end.params.load(),
        mask=ticket.end.mask.load(),
        stem="prize",
        provenance={"density": 0.1, "seed": 0},
        trained=True,
    )
    one = Shipment(cargo=cargo, world=world, folder=tmp_path, batches=(1,))
    document = ship_as("packed", one, "float32")
    assert document["outputs"]["difference"] == 0.0
    assert document["checks"]["tensors_equal"] and document["checks"]["mask_equal"]
    assert document["test_accuracy"] == ticket.end.metrics["test_accuracy"] > 0.5
    assert document["times_smaller"] > 20.0
    assert Path(document["path"]).stat().st_size * 20 < document["dense_bytes"]
    assert "layers.0.weight, layers.1.weight" in document["notes"][1]
    assert "take a bit each" in document["notes"][1]
    network = world.new_network(5).eval()
    network.load_state_dict(tb.unpack(document["path"]))
    assert outputs(network, world).equal(outputs(one.network(), world))


def wide_net() -> LeNet:
    return LeNet(6, 300, 300, 3)


def wide_world() -> World:
    """Wide enough that heads and biases weigh little."""
    return toy_world(model=wide_net, thin=None, optimiser=tb.SGD(lr=0.5, momentum=0.9), steps=40)


TENTH = replace(MULTI_PRIZE, schedule=Densities(values=(0.1,)))


# -- sparse ----------------------------------------------------------------------------------


def test_sparse_computes_what_the_network_does(tmp_path: Path) -> None:
    one = shipment(tmp_path)
    document = ship_as("sparse", one, "float32")
    assert one.world is not None
    assert document["checks"] == {"outputs_equal": True}
    assert document["test_accuracy"] == document["network_accuracy"]
    wanted = outputs(one.network(), one.world)
    for way in (None, *WAYS):
        found = outputs(tb.load_sparse(document["path"], way), one.world)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("table", [COMPILED, NOT_COMPILED])
def test_tables_name_a_way_for_every_density(table: Any) -> None:
    for rows in table.values():
        assert rows[-1][1] == 1.0 and {way for way, _ in rows} <= set(WAYS)
        assert [most for _, most in rows] == sorted(most for _, most in rows)
    assert max(table) > 1 << 40


def test_a_sparse_network_without_compiled_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ship_as("sparse", shipment(tmp_path), "float32")["path"]
    wanted = outputs(tb.load_sparse(path), toy_world())
    monkeypatch.setattr("tombola.out.ship.chain.library", lambda: None)
    network = tb.load_sparse(path)
    assert "tombola" not in network.ways(1) + network.ways(64)
    torch.testing.assert_close(outputs(network, toy_world()), wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(ShipError, match="without a C compiler"):
        tb.load_sparse(path, "tombola")


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    network = tb.load_sparse(ship_as("sparse", shipment(tmp_path), "float32")["path"])
    for wrong in (torch.zeros(2, 5), torch.zeros(2, 6, dtype=torch.float64)):
        with pytest.raises(ShipError, match="want float32, 6 numbers an example"):
            network(wrong)


def test_a_network_with_another_operator_is_refused_by_name() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))

    with pytest.raises(ShipError, match=r"Tanh, neither linear nor ReLU\. .*--to packed"):
        check_format("sparse", toy_world(model=net, thin=None))


@pytest.mark.parametrize("name", ["sparse", "onnx"])
def test_formats_that_run_need_a_world(name: str) -> None:
    with pytest.raises(CallError, match=f"--to {name} needs .*--on WORLD"):
        check_format(name, None)


def test_a_changed_sparse_file_is_refused(tmp_path: Path) -> None:
    path = Path(ship_as("sparse", shipment(tmp_path), "float32")["path"])
    raw = path.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    for place in (*range(begin, len(raw), 7), raw.index(b"relu") + 8):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(ShipError):
            decode_rows(bytes(changed), "it")
    path.write_bytes(raw[:-5])
    with pytest.raises(ShipError, match="is not a sparse network"):
        tb.load_sparse(path)
    path.write_bytes(encode_tensors({"w": torch.zeros(2)}, {"tombola.schema": "1"}))
    with pytest.raises(ShipError, match="is of format None, schema 1"):
        tb.load_sparse(path)
    with pytest.raises(ShipError, match="cannot be read"):
        tb.load_sparse(tmp_path / "none")


@pytest.mark.parametrize("place", ["column", "row", "bias"])
def test_places_outside_a_layer_are_refused_under_a_right_digest(
    tmp_path: Path, place: str
) -> None:
    path = Path(ship_as("sparse", shipment(tmp_path), "float32")["path"])
    first, *others = decode_rows(path.read_bytes(), "it")
    array = getattr(first, place).copy()
    array[-1] = 6_000
    forged = replace(first, **{place: array[:-1] if place == "bias" else array})
    with pytest.raises(ShipError, match="places outside its layers"):
        decode_rows(encode_rows((forged, *others), {}), "it")


def test_a_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SparseNetwork, "forward", lambda self, inputs: torch.zeros(len(inputs), 3))
    with pytest.raises(CheckError, match="outputs_equal failed"):
        ship_as("sparse", shipment(tmp_path), "float32")
    assert not list(tmp_path.iterdir())


# -- onnx ------------------------------------------------------------------------------------


def test_onnx_runs_elsewhere_and_names_what_it_lacks(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    one = shipment(tmp_path)
    assert one.world is not None
    document = ship_as("onnx", one, "float32")
    assert document["checks"] == {"outputs_equal": True}
    assert document["test_accuracy"] == document["network_accuracy"]
    session = onnxruntime.InferenceSession(document["path"], providers=["CPUExecutionProvider"])
    inputs = speed.inputs_of(one.world, 5)
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), one.network()(inputs))


# -- the table -------------------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.delitem(FORMATS, name)


def test_break_even_says_in_words_what_the_table_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnx")
    world = toy_world()
    measured = break_even.ship(world, densities=(0.5, 0.1), batches=(1, 4))
    assert isinstance(measured, Measured)
    assert json.loads(json.dumps(measured.as_json()))["rows"]
    formats = {"dense", "safetensors", "packed", "sparse", "torch CSR", "scipy CSR"}
    places = {(row["density"], row["batch"], row["format"]) for row in measured.rows}
    share = round((6 * 6 + 6 * 4 + 4 * 3) / 192, 4)  # half of 12 and half of 8 units
    formats.add("compact")  # of so small a network random masks cut whole units off
    assert places == {(d, b, f) for d in (0.5, 0.1, share) for b in (1, 4) for f in formats}
    by = {(row["format"], row["density"], row["batch"]): row for row in measured.rows}
    dense = by["dense", 0.5, 1]
    for name in ("dense", "safetensors", "packed"):  # all of these compute as the dense network
        assert by[name, 0.5, 1]["ratio"] == 1.0
        assert by[name, 0.5, 1]["microseconds"] == dense["microseconds"]
        assert by[name, 0.5, 1]["held"] == dense["held"]
    assert by["packed", 0.1, 1]["kB"] < by["packed", 0.5, 1]["kB"] < dense["kB"]
    assert by["torch CSR", 0.1, 1]["held"] < by["torch CSR", 0.5, 1]["held"]
    notes = measured.notes
    assert notes[0].startswith("at 50 % density ") and "at batch 1" in notes[0]
    assert sum(note.startswith("sparse at density") for note in notes) == 3
    assert not any(note.startswith("packed at density") for note in notes)
    assert sum("smallest file at density" in note for note in notes) == 3


def test_what_a_pass_reads_is_counted_by_hand() -> None:
    layer = Rows(
        64,
        np.arange(129, dtype=np.int32),
        np.zeros(128, dtype=np.int32),
        np.ones(128, dtype=np.float32),
        np.zeros(128, dtype=np.float32),
        relu=False,
    )
    rows = 4 * (129 + 128 + 128 + 128)
    assert SparseNetwork([layer], "scipy").held(1) == rows
    assert SparseNetwork([layer], "dense").held(1) == 4 * (64 * 128 + 128)


def test_break_even_says_which_format_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))

    def missing(*_: Any) -> dict[str, Any]:
        raise CallError("onnx needs a package")

    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], forms=missing))
    world = toy_world(model=net, thin=None)
    measured = break_even.ship(world, densities=(0.5,), batches=(1,))
    assert "Tanh" in measured.notes[-2] and measured.notes[-1] == "onnx needs a package"
    served = {"dense", "safetensors", "packed", "compact"}
    assert {row["format"] for row in measured.rows} == served
    assert measured.notes[0].startswith("at 50 % density ")


def test_a_new_format_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "sparse", "onnx")
    own = Format(
        name="mine",
        ship=lambda *_: {},
        forms=lambda *_: {"mine": Form(compute=lambda x: x, size=12_000, held=lambda _: 3_000)},
    )
    monkeypatch.setitem(FORMATS, "mine", own)
    rows = break_even.ship(toy_world(), densities=(0.5,), batches=(1,)).rows
    mine = next(row for row in rows if row["format"] == "mine")
    assert (mine["kB"], mine["held"]) == (12.0, 3.0) and mine["ratio"] > 0


def test_the_tickets_of_a_study_are_measured_into_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "onnx")
    world = toy_world(steps=20)
    study = tb.find(tb.recipes.IMP, world, seeds=2, store=tmp_path / "store")
    assert 'id="ship"' not in render(study)
    measured = break_even.ship_study(study, world, batches=(1,))
    densities = {row["round"]: row["density"] for row in study.rows if row["arm"] == "ticket"}
    shown = list(dict.fromkeys(row["density"] for row in measured.rows))
    last = max(densities)
    assert len(shown) == min(5, last) and shown[0] > shown[-1]
    assert shown[-1] == pytest.approx(densities[last], rel=1e-2)
    page = render(study)
    assert 'id="ship"' in page and measured.notes[0] in page
    assert page.count("<td>packed</td>") == len(shown)
    store = study.store
    assert any(held.part == "benches" for held in store.files())
    going = sweep(store, unused_for=0.0).going
    assert not any(held.part == "benches" for held in going)
    given_up = sweep(store, drop=[study.digest], unused_for=0.0).going
    assert any(held.part == "benches" for held in given_up)


# -- files that anybody may hand over ----------------------------------------------------------


def test_nothing_in_any_format_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    one = shipment(tmp_path)
    # onnx is a protobuf that onnxruntime reads; for compact the network has no unit to leave out.
    without(monkeypatch, "onnx", "compact")
    paths = {name: ship_as(name, one, "float32")["path"] for name in FORMATS}
    ticket = tb.Ticket(init=one.cargo.params, mask=one.cargo.mask, start_step=0)
    ticket.save(tmp_path / "ticket.safetensors")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    read: dict[str, Callable[[Any], Any]] = {
        "safetensors": lambda path: load_tensors(Path(path).read_bytes()),
        "packed": tb.unpack,
        "sparse": tb.load_sparse,
    }
    assert set(read) == set(FORMATS)
    assert all(read[name](path) is not None for name, path in paths.items())
    assert tb.Ticket.load(tmp_path / "ticket.safetensors").digest == ticket.digest


@pytest.mark.parametrize("name", ["packed", "sparse"])
def test_a_file_that_was_tampered_with_is_refused(name: str, tmp_path: Path) -> None:
    path = Path(ship_as(name, shipment(tmp_path), "float32")["path"])
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1  # in the weights, which any value is legal for
    path.write_bytes(raw)
    with pytest.raises(ShipError, match="damaged or was changed"):
        (tb.unpack if name == "packed" else tb.load_sparse)(path)


@pytest.mark.parametrize("name", ["safetensors", "packed", "sparse"])
def test_where_nothing_can_be_written_nothing_is_left(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    one = shipment(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(ShipError, match=r"cannot be written: .*Permission denied.*Name another"):
        ship_as(name, one, "float32")
    assert not list(tmp_path.iterdir())


def test_state_dicts_do_not_need_tombola(tmp_path: Path) -> None:
    document = ship_as("safetensors", shipment(tmp_path), "float32")
    assert set(load_tensors(Path(document["path"]).read_bytes())) == set(
        initial_params(toy_world(), 0)
    )
