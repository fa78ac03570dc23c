"""What ships, is read back, and computes what the network does; and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

import tombola as tb
from tombola.errors import CallError, CheckError, ShipError
from tombola.lab.bench.measure import Measured
from tombola.out.ship import break_even, speed
from tombola.out.ship.cargo import Cargo
from tombola.out.ship.chain import COMPILED, NOT_COMPILED, WAYS, SparseNetwork
from tombola.out.ship.formats import check_format, ship_as
from tombola.out.ship.shipment import Shipment
from tombola.out.ship.sparse import decode_rows, encode_rows
from tombola.testing import toy_world
from tombola.values.mask import Mask
from tombola.values.tensors import encode_tensors
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


def test_break_even_says_in_words_what_the_table_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise CallError("no onnx")

    monkeypatch.setattr(break_even, "check_installed", missing)
    measured = break_even.ship(toy_world(), densities=(0.5, 0.1), batches=(1, 4))
    assert isinstance(measured, Measured)
    assert json.loads(json.dumps(measured.as_json()))["rows"]
    formats = {"dense", "sparse", "torch CSR", "scipy CSR"}
    places = {(row["density"], row["batch"], row["format"]) for row in measured.rows}
    share = round((6 * 6 + 6 * 4 + 4 * 3) / 192, 4)  # half of 12 and half of 8 units
    assert places == {(d, b, f) for d in (0.5, 0.1) for b in (1, 4) for f in formats} | {
        (share, b, f) for b in (1, 4) for f in ("dense", "compact")
    }
    assert all(row["ratio"] == 1.0 for row in measured.rows if row["format"] == "dense")
    assert sum(note.startswith("packed at density") for note in measured.notes) == 2
    assert sum(note.startswith("sparse at density") for note in measured.notes) == 2


def test_break_even_says_which_format_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))

    monkeypatch.setattr(break_even, "_forms", lambda *_: ({}, {"dense": 1_000}))
    monkeypatch.setattr(break_even, "_smaller_forms", lambda *_: ({}, {"dense": 1_000}))
    measured = break_even.ship(toy_world(model=net, thin=None), densities=(0.5,), batches=(1,))
    assert "Tanh" in measured.notes[-1]
    assert {row["format"] for row in measured.rows} == {"dense"}


def test_state_dicts_do_not_need_tombola(tmp_path: Path) -> None:
    document = ship_as("safetensors", shipment(tmp_path), "float32")
    assert set(load_tensors(Path(document["path"]).read_bytes())) == set(
        initial_params(toy_world(), 0)
    )
