"""What the first layer keeps, unpacked by a slow twin and compared with the store."""

from base64 import b64decode
from typing import Any

import numpy as np
import pytest
from report_studies import Filters, Flat, image_world, objects
from toy import small_world

import tombola as tb
from tombola.lab.study import Study
from tombola.out.report.pictures import first_layer, pictures_of, signed
from tombola.recipes.imp import IMP


@pytest.fixture(scope="module", params=[Flat, Filters], ids=["flat", "filters"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = tmp_path_factory.mktemp("pictures") / "store"
    return tb.find(IMP, image_world(request.param), seeds=2, store=store)


def unpacked(pictures: dict[str, Any], part: dict[str, Any], which: str) -> tuple[Any, Any]:
    """Mask and values of a round, a bit and a byte at a time; (units, weights of a unit)."""
    weights = pictures["channels"] * pictures["height"] * pictures["width"]
    raw = b64decode(part["mask"])
    kept = [bool(raw[k // 8] >> (k % 8) & 1) for k in range(pictures["units"] * weights)]
    stored = pictures["values"][part[which]]
    found = list(np.frombuffer(b64decode(stored["at"]), dtype=np.int8))
    places = [k for k, one in enumerate(kept) if one or which == "start"]
    assert len(found) == len(places)
    values = np.zeros(len(kept))
    for place, byte in zip(places, found, strict=True):
        values[place] = byte * stored["scale"] / 127
    shape = (pictures["units"], weights)
    return np.array(kept).reshape(shape), values.reshape(shape)


def test_a_page_holds_the_masks_exactly_and_the_values_to_two_figures(study: Study) -> None:
    pictures = pictures_of(study)
    assert pictures is not None and pictures["units"] == pictures["of"]
    assert [network["seed"] for network in pictures["networks"]] == [0, 1]
    for network in pictures["networks"]:
        assert len(network["rounds"]) == sum(row["arm"] == "ticket" for row in study.rows)
        for part in network["rounds"]:
            which = {"seed": network["seed"], "round": part["round"]}
            trained, ticket = study.params(**which), study.ticket(**which)
            name = pictures["layer"]
            mask = ticket.mask.of(name, trained[name].shape).flatten(1).numpy()
            for values, asked in ((trained, "trained"), (ticket.init, "start")):
                kept, found = unpacked(pictures, part, asked)
                true = values[name].flatten(1).numpy()
                assert (kept == mask).all()
                assert np.abs(found - true)[kept].max() <= np.abs(true).max() / 127
                assert (np.sign(found) == np.sign(true))[kept].all()


def test_what_a_tile_is(study: Study) -> None:
    pictures = pictures_of(study)
    assert pictures is not None
    shape = study.facts["about"]["layers"][0]["shape"]
    tile = [pictures[part] for part in ("channels", "height", "width")]
    if len(shape) == 4:
        assert (pictures["kind"], pictures["flat"], tile) == ("filters", False, [2, 3, 3])
    else:
        assert (pictures["kind"], pictures["flat"], tile) == ("pixels", True, [1, 8, 8])
    assert pictures["units"] == shape[0]


def test_equal_starts_are_there_once(study: Study) -> None:
    pictures = pictures_of(study)
    assert pictures is not None
    for network in pictures["networks"]:
        assert len({part["start"] for part in network["rounds"]}) == 1
    rounds = sum(len(network["rounds"]) for network in pictures["networks"])
    assert len(pictures["values"]) == rounds + 2


def test_a_budget_takes_seeds_first_then_units(study: Study) -> None:
    whole, one = pictures_of(study), None
    assert whole is not None
    size = sum(len(b64decode(of["at"])) for of in whole["values"])
    size += sum(len(b64decode(p["mask"])) for n in whole["networks"] for p in n["rounds"])
    one = pictures_of(study, budget=size - 1)
    assert one is not None
    assert [network["seed"] for network in one["networks"]] == [0] and one["units"] == one["of"]
    few = pictures_of(study, budget=size // 4)
    assert few is not None
    assert len(few["networks"]) == 1 and 1 <= few["units"] < few["of"]
    kept, values = unpacked(few, few["networks"][0]["rounds"][1], "trained")
    all_kept, all_values = unpacked(whole, whole["networks"][0]["rounds"][1], "trained")
    assert (kept == all_kept[: few["units"]]).all()
    assert values == pytest.approx(all_values[: few["units"]], abs=0.02)


def test_what_the_store_has_lost_is_none_and_the_rest_is_there(tmp_path) -> None:
    study = tb.find(IMP, image_world(), seeds=1, arms=("dense",), store=tmp_path / "s")
    lost = [study.trial(round=1)["mask"], study.trial(round=2)["params"], study.trial()["init"]]
    paths = [path for path in objects(study.store) if path.stem in lost]
    assert len(paths) == 3
    paths[0].unlink()
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-1])
    pictures = pictures_of(study)
    assert pictures is not None
    rounds = pictures["networks"][0]["rounds"]
    assert [part["mask"] is None for part in rounds] == [False, True] + [False] * (len(rounds) - 2)
    assert [part["trained"] is None for part in rounds[:3]] == [False, True, True]
    assert all(part["start"] is None for part in rounds)


def linear(*shape: int) -> dict[str, Any]:
    return {"name": "first", "shape": list(shape), "kind": "linear"}


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [
        ([300, 784], [784], ("pixels", 1, 28, 28)),
        ([300, 784], [28, 28], ("pixels", 1, 28, 28)),
        ([300, 784], [1, 28, 28], ("pixels", 1, 28, 28)),
        ([10, 3072], [3, 32, 32], ("pixels", 3, 32, 32)),
        ([64, 3, 5, 3], [3, 32, 32], ("filters", 3, 5, 3)),
        ([10, 16], [16], None),  # too small for an image: a table, more likely
        ([10, 65], [65], None),  # no square
        ([10, 128], [64], None),  # not the layer that sees the input
        ([10, 3072], [32, 32, 3], None),  # channels last
        ([64, 1, 3, 3], [3, 32, 32], None),  # grouped
        ([64, 3, 3], [3, 32], None),  # one dimension
        ([64, 3, 3, 3, 3], [3, 8, 8, 8], None),
        ([10, 64], [], None),
        ([10, 64], None, None),
    ],
)
def test_which_layer_sees_an_image(shape, given, expected) -> None:
    found = first_layer([linear(*shape)], given)
    assert (found and (found.kind, found.channels, found.height, found.width)) == expected


def test_attention_and_no_layers_at_all_are_no_image() -> None:
    assert first_layer([], [64]) is None
    assert first_layer([{**linear(192, 64), "kind": "attention"}], [64]) is None


def test_a_network_that_sees_no_image_has_no_pictures(tmp_path) -> None:
    study = tb.find(IMP, small_world(), seeds=1, arms=("dense",), store=tmp_path / "s")
    assert pictures_of(study) is None


def test_bytes_keep_every_sign() -> None:
    assert signed(np.zeros(0, dtype=np.float32)).tolist() == []
    assert signed(np.zeros(2, dtype=np.float32)).tolist() == [1, 1]
    assert signed(np.array([-1e-9, 2.0, -2.0])).tolist() == [-1, 127, -127]
