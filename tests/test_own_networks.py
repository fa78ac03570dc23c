"""Networks and data of users': from `find` to a verdict, a module, a file, and back."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

import tombola as tb
from tombola.errors import RecipeError, VerdictError, WorldError
from tombola.lab.question import Question
from tombola.lab.study import Study
from tombola.out.ship import speed
from tombola.out.ship.cargo import Which, trained_in
from tombola.out.ship.formats import ship_as
from tombola.out.ship.shipment import Shipment
from tombola.values.rng import stream
from tombola.world.batch import leaves
from tombola.world.calling import called
from tombola.world.data.given import as_split

X = torch.randn(80, 6, generator=stream(0, "own"))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
ROWS = torch.randn(80, 5, 4, generator=stream(1, "own"))
WORDS = torch.randint(1, 20, (80, 5), generator=stream(2, "own"))
IMAGES = torch.randn(80, 3, 8, 8, generator=stream(3, "own"))
FIRST, LAST = slice(0, 50), slice(50, 80)


def part(value: Any, of: slice) -> Any:
    if isinstance(value, dict):
        return {key: part(item, of) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(part(item, of) for item in value))
    return tuple(part(item, of) for item in value) if isinstance(value, tuple) else value[of]


def world(model: Callable[[], nn.Module], inputs: Any = X, **more: Any) -> tb.World:
    fields: dict[str, Any] = {
        "model": model,
        "train": (part(inputs, FIRST), Y[FIRST]),
        "test": (part(inputs, LAST), Y[LAST]),
        "steps": 4,
        "evaluate_every": 4,
        "batch_size": 10,
        "optimiser": tb.Adam(lr=0.01),
        "judged_density": 0.5,
        "name": "own",
    }
    return tb.World(**fields | more)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.body(x)))


class Shared(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.other(self.one(x)))


class Buffers(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("scale", torch.ones(6), persistent=False)

    def forward(self, x: Tensor) -> Any:
        if self.training:
            self.calls += 1
        return self.head(F.relu(self.norm(self.body(x * self.scale))))


class Two(Plain):
    def forward(self, left: Tensor, right: Tensor) -> Any:
        return super().forward(left - right)


class ByName(Plain):
    def forward(self, *, left: Tensor, right: Tensor, scale: float = 1.0) -> Any:
        return super().forward(scale * (left - right))


class AnyName(Plain):
    def forward(self, **parts: Tensor) -> Any:
        return super().forward(parts["left"] - parts["right"])


class OneDict(Plain):
    def forward(self, batch: dict[str, Tensor]) -> Any:
        return super().forward(batch["left"] - batch["right"])


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class OnePair(Plain):
    def forward(self, pair: Pair, scale: float = 1.0) -> Any:
        return super().forward(scale * (pair.left - pair.right))


class Frozen(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Linear(6, 6).requires_grad_(False)
        self.norm = nn.BatchNorm1d(6).requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.norm(self.early(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Any:
        return self.head(self.lstm(rows)[0][:, -1])


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 8), nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Any:
        hidden = None
        for place in range(rows.shape[1]):
            hidden = self.cell(rows[:, place], hidden)
        return self.head(hidden)


@dataclass
class Answer:
    logits: Tensor
    hidden: Tensor


class Record(Plain):
    def forward(self, x: Tensor) -> Any:
        hidden = F.relu(self.body(x))
        return Answer(logits=self.head(hidden), hidden=hidden)


class OddNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a b": nn.Linear(6, 8), "ü/[x]*": nn.Linear(8, 3)})

    def forward(self, x: Tensor) -> Any:
        return self.parts["ü/[x]*"](F.relu(self.parts["a b"](x)))


class Checkpointed(Plain):
    def forward(self, x: Tensor) -> Any:
        def hidden(of: Tensor) -> Tensor:
            return F.dropout(F.relu(self.body(of)), 0.2, self.training)

        return self.head(checkpoint(hidden, x, use_reentrant=False))


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.body)


class Empty(Plain):
    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(UserWarning, match="zero-element"):
            self.none, self.back = nn.Linear(6, 0), nn.Linear(0, 6)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x + self.back(self.none(x)))


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = (nn.Parameter(torch.randn(s) / 3) for s in ((6, 8), (8, 3)))

    def forward(self, x: Tensor) -> Any:
        return F.relu(x @ self.there) @ self.back


SIDES = {"left": X, "right": X.flip(1)}
OWN: dict[str, Callable[[], tb.World]] = {
    "plain": lambda: world(Plain),
    "shared weights": lambda: world(Shared),
    "buffers": lambda: world(Buffers),
    "two arguments": lambda: world(Two, tuple(SIDES.values())),
    "arguments by name": lambda: world(ByName, SIDES),
    "any names": lambda: world(AnyName, SIDES),
    "a dict as one": lambda: world(OneDict, SIDES),
    "a named tuple as one": lambda: world(OnePair, Pair(*SIDES.values())),
    "frozen part": lambda: world(Frozen),
    "lstm": lambda: world(Recurrent, ROWS),
    "gru cell": lambda: world(Cell, ROWS),
    "a record": lambda: world(Record),
    "odd names": lambda: world(OddNames),
    "gradient checkpointing": lambda: world(Checkpointed),
    "weight norm": lambda: world(Normed, pruned=("body.*.original1",)),
    "nothing in a layer": lambda: world(Empty),
    "bare parameters": lambda: world(Bare, pruned=("there", "back")),
    "float64": lambda: world(lambda: Plain().double(), X.double()),
    "compiled": lambda: world(lambda: torch.compile(Plain(), backend="eager")),
    "imbalance": lambda: world(Plain, train=(X, (torch.arange(80) % 16 == 0).long())),
}


def shipped(study: Study, of: tb.World, form: str, folder: Path) -> dict[str, Any]:
    cargo = trained_in(study, Which(study.digest))
    shipment = Shipment(cargo=cargo, world=of, folder=folder, batches=(1,))
    return ship_as(form, shipment, "float32")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TURN", 1e-5)


def found(of: tb.World, folder: Path, **how: Any) -> Study:
    recipe = how.pop("recipe", tb.recipes.ONESHOT)
    return tb.find(recipe, of, seeds=2, store=folder / "store", **how)


def outputs(network: nn.Module, of: tb.World) -> Any:
    with torch.no_grad():
        return called(network.eval(), of.batch(of.test, torch.arange(7)).inputs)


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


@pytest.mark.parametrize("name", OWN)
def test_from_find_to_a_file_and_back(name: str, tmp_path: Path) -> None:
    of = OWN[name]()
    study = found(of, tmp_path)
    assert study.verdict.outcome.name in ("WINS", "MATCHES", "LOSES", "UNDECIDED")
    assert all(held is not False for held in study.checks.values())
    net = study.model()
    kept = sum(study.mask().kept(layer.name, layer.count) for layer in of.layers)
    assert kept == next(row["kept"] for row in study.rows if row["round"] == study.trial()["round"])
    state = dict(net.state_dict())
    assert kept >= sum(int((state[layer.name] != 0).sum()) for layer in of.layers)

    study.ticket().save(tmp_path / "ticket.safetensors")
    built = tb.Ticket.load(tmp_path / "ticket.safetensors").build(of.model)
    assert set(built.state_dict()) == set(state)

    for form, read in {"safetensors": load_file, "packed": tb.unpack}.items():
        document = shipped(study, of, form, tmp_path)
        assert document["test_accuracy"] is not None
        again = of.new_network(0)
        again.load_state_dict(read(document["path"]), strict=True)
        assert same(outputs(again, of), outputs(net, of))


# -- what is pruned --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("lstm", ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "head.weight"]),
        ("gru cell", ["cell.weight_ih", "cell.weight_hh", "head.weight"]),
        ("weight norm", ["body.parametrizations.weight.original1", "head.weight"]),
        ("frozen part", ["body.weight", "head.weight"]),
        ("shared weights", ["body.weight", "head.weight", "one.weight"]),
        ("bare parameters", ["there", "back"]),
    ],
)
def test_what_may_be_cut(name: str, layers: list[str]) -> None:
    assert [layer.name for layer in OWN[name]().layers] == layers


def test_of_a_weight_norm_a_cut_direction_cuts_the_weight(tmp_path: Path) -> None:
    of = OWN["weight norm"]()
    study = found(of, tmp_path)
    kept = study.mask()["body.parametrizations.weight.original1"]
    assert not bool(study.model().body.weight[~kept].any()) and not bool(kept.all())


def test_names_to_prune_are_checked() -> None:
    with pytest.raises(WorldError, match=r"nothing to prune\. Name .* `pruned`; .*'there', 'back'"):
        world(Bare)
    with pytest.raises(WorldError, match=r"pruned='theer'\) matches no trained tensor; there are"):
        world(Bare, pruned=("theer", "back"))
    named = world(OddNames, unpruned=("parts.ü/[x]*.weight",))
    assert [layer.name for layer in named.layers] == ["parts.a b.weight"]


def test_the_names_to_prune_are_part_of_the_question() -> None:
    one, other = (
        Question(recipe=tb.recipes.ONESHOT, world=w, seeds=(0,))
        for w in (world(Normed), world(Normed, pruned=("body.*.original1",)))
    )
    assert one.digest != other.digest


# -- what is refused -------------------------------------------------------------------------


class Bad:
    """Networks that are refused before anything is trained."""

    class Tuple(Plain):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), x

    class Complex(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Parameter(torch.ones(6, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Any:
            return super().forward((x * self.turn).abs())

    class FromNumpy(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.body.weight.data = torch.from_numpy(np.random.randn(8, 6)).float()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Bad.Tuple, r"output is a tuple of 2; want a tensor .*`logits`.*tombola\.Loss"),
        (Bad.Complex, r"trains complex tensors \(turn\)"),
        (Bad.FromNumpy, r"other initial values for the same seed"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), r"has lazy layers"),
        (lambda: torch.jit.script(Plain()), r"nothing to prune"),
        (Plain(), r"want the class or a function"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_networks_that_are_refused(model: Any, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        world(model)


# -- losses and metrics ----------------------------------------------------------------------

CLOSE = {"objective": tb.Loss(F.mse_loss, measure={"mae": F.l1_loss})}
FLOATS = {"train": (X[FIRST], X[FIRST, :1]), "test": (X[LAST], X[LAST, :1])}


def line() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))


def test_a_loss_and_a_metric_of_ones_own(tmp_path: Path) -> None:
    of = world(line, **FLOATS, **CLOSE, margin=0.5)
    with pytest.raises(VerdictError, match=r"measures .*'test_mae'.*tombola\.matching"):
        found(of, tmp_path)
    study = found(of, tmp_path, rule=tb.matching("test_mae", better="less"))
    conditions = study.facts["about"]["conditions"]
    assert {(c["metric"], c["direction"]) for c in conditions} == {("test_mae", -1)}
    by_hand = F.l1_loss(outputs_of_test(study.model(), of), X[LAST, :1])
    judged = study.trial()["round"]
    row = next(r for r in study.rows if (r["arm"], r["round"]) == ("ticket", judged))
    assert row["metrics"]["test_mae"]["values"][0] == pytest.approx(float(by_hand), rel=1e-6)


def outputs_of_test(network: nn.Module, of: tb.World) -> Tensor:
    with torch.no_grad():
        answer: Tensor = network(of.test.inputs)
    return answer


def test_losses_are_told_apart_by_what_they_compute() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    losses = [
        tb.Loss(nn.CrossEntropyLoss()),
        tb.Loss(nn.CrossEntropyLoss(label_smoothing=0.1)),
        tb.Loss(nn.CrossEntropyLoss(weight=weights)),
        tb.Loss(nn.CrossEntropyLoss(weight=weights + 1)),
        tb.Loss(F.cross_entropy),
        tb.Loss(F.cross_entropy, measure={"loss_again": F.cross_entropy}),
        tb.Loss(lambda outputs, targets: F.cross_entropy(outputs, targets)),
    ]
    assert len({loss.digest for loss in losses}) == len(losses)
    assert tb.Loss(nn.CrossEntropyLoss(weight=weights)).digest == losses[2].digest
    assert world(Plain, objective=losses[0]).digest != world(Plain, objective=losses[1]).digest


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tb.Loss(nn.MSELoss), r"Loss\(function=.*want a function"),
        (lambda: tb.Loss(F.mse_loss, measure={"loss": F.l1_loss}), r"measured under that name"),
        (
            lambda: world(line, train=(X, X[:, 0]), test=(X, X[:, 0]), **CLOSE),
            r"train: Loss: loss\(outputs \(2, 1\), targets \(2,\)\) warns: .*target size",
        ),
        (
            lambda: world(line, **FLOATS, objective=tb.Loss(lambda o, t: o - t)),
            r"loss\(.*\) gives \(2, 1\); want one number",
        ),
        (lambda: world(Plain, train=(X, Y.int())), r"targets\.long\(\)"),
    ],
)
def test_losses_that_cannot_be_used(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        make()


# -- data ------------------------------------------------------------------------------------


class Items(Dataset[Any]):
    """A map-style data set of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Any:
        return self.items[place]


def padded(items: list[Any]) -> Any:
    rows = nn.utils.rnn.pad_sequence([row for row, _ in items], batch_first=True)
    return F.pad(rows, (0, 6 - rows.shape[1])), torch.tensor([label for _, label in items])


UNEVEN = [
    (row[: 1 + place % 6], int(label)) for place, (row, label) in enumerate(zip(X, Y, strict=True))
]
SAME_DATA: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (X.numpy(), Y.numpy()),
    "a dict with labels": lambda: {"x": X, "labels": Y},
    "pairs": lambda: Items(list(zip(X, Y, strict=True))),
    "dicts": lambda: Items([{"x": row, "label": label} for row, label in zip(X, Y, strict=True)]),
    "collated": lambda: tb.Collated(Items(list(zip(X, Y.tolist(), strict=True))), padded),
}


@pytest.mark.parametrize("name", SAME_DATA)
def test_data_counts_by_its_content(name: str) -> None:
    assert as_split(SAME_DATA[name](), "train").digest == as_split((X, Y), "train").digest


def test_items_of_different_lengths_are_padded_to_one() -> None:
    split = as_split(tb.Collated(UNEVEN, padded), "train")
    assert split.inputs.shape == (80, 6) and split.targets.equal(Y)
    assert not bool(split.inputs[0, 1:].any()) and split.inputs[5].equal(X[5])
    collated = tb.Collated(UNEVEN, lambda items: {"x": padded(items)[0], "label": padded(items)[1]})
    assert as_split(collated, "train").digest == split.digest
    assert as_split(tb.Identified(tb.Collated(UNEVEN, padded), "once"), "train").identity


def test_two_inputs_by_place_or_by_name() -> None:
    by_name = as_split(
        Items([{"left": a, "right": b, "y": c} for a, b, c in zip(X, X, Y, strict=True)]), "t"
    )
    assert set(by_name.inputs) == {"left", "right"}
    assert (
        len(as_split(Items([((a, b), c) for a, b, c in zip(X, X, Y, strict=True)]), "t").inputs)
        == 2
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: Items([(X[0], X[1], 0)]), r"items are list of 3; .*\(\(one, other\), target\)"),
        (lambda: Items([{"x": X[0]}]), r"a dict of x; want inputs and a `label`"),
        (lambda: Items([{"x": X[0], "name": "a", "label": 0}]), r"the inputs hold str \('a'\)"),
        (lambda: (np.array(["a"]), Y[:1]), r"the inputs hold ndarray .*arrays of numbers"),
        (lambda: Items(UNEVEN), r"cannot be made one tensor .*tombola\.Collated"),
        (lambda: tb.Collated(iter([]), padded), r"Collated\(list_iterator\)"),
        (lambda: tb.Collated(UNEVEN, None), r"Collated\(collate=None\): want a function"),
        (lambda: tb.Collated([], padded), r"the data set is empty"),
    ],
)
def test_data_that_cannot_be_used(data: Callable[[], Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        as_split(data(), "train")


def test_a_tokenised_table_is_a_dict_of_inputs() -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"input_ids": WORDS.tolist(), "attention_mask": torch.ones_like(WORDS).tolist()}
    made = datasets.Dataset.from_dict({**rows, "text": ["a"] * 80, "label": Y.tolist()})
    with pytest.raises(WorldError, match=r"'text' holds string; .*data\.remove_columns\('text'\)"):
        as_split(made, "train")
    for chosen in (
        made.remove_columns("text"),
        made.with_format("torch", columns=["input_ids", "attention_mask", "label"]),
    ):
        split = as_split(chosen, "train")
        assert set(split.inputs) == {"input_ids", "attention_mask"}
        assert split.inputs["input_ids"].equal(WORDS) and split.targets.equal(Y)
    changed = made.remove_columns("text").with_transform(lambda batch: batch)
    assert set(as_split(changed, "train").inputs) == {"input_ids", "attention_mask"}
    uneven = datasets.Dataset.from_dict(
        {"input_ids": [[1], [1, 2]], "attention_mask": [[1], [1, 1]], "label": [0, 1]}
    )
    with pytest.raises(WorldError, match=r"different sizes; .*max_length.*tombola\.Collated"):
        as_split(uneven, "train")


# -- a trained checkpoint --------------------------------------------------------------------


def test_a_checkpoint_is_pruned_after_the_fact(tmp_path: Path) -> None:
    dense = found(world(Shared, steps=40), tmp_path, arms=("dense",))
    trained = dense.model(arm="dense")
    of = tb.pretrained(world(Shared, steps=12), trained.state_dict())
    start = of.new_network(3).state_dict()
    assert all(torch.equal(start[name], t) for name, t in trained.state_dict().items())
    one_shot = tb.recipes.MAGNITUDE_AT_START
    with pytest.raises(RecipeError, match=r"'reinit'.*same initial values.*Leave the arm out"):
        found(of, tmp_path, recipe=one_shot)
    teacher = tb.Distillation(teacher=tb.Teacher(trained))
    for recipe in (
        one_shot,
        replace(tb.recipes.GRADUAL, dynamics=tb.Gradual(every=1)),
        replace(one_shot, name="taught", retrain=teacher),
    ):
        study = found(of, tmp_path, recipe=recipe, arms=("dense", "shuffle"))
        kept = study.mask()["body.weight"]
        assert not bool(study.model().body.weight[~kept].any())
        if recipe is one_shot:  # the smallest weights of the checkpoint went
            size = trained.body.weight.detach().abs()
            assert float(size[kept].min()) > float(size[~kept].max())


# -- transformers ----------------------------------------------------------------------------


def tiny(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    common = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3}
    made = {
        "ResNet": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "num_labels": 3}
        | {"layer_type": "basic"},
        "ViT": {**common, "intermediate_size": 16, "image_size": 8, "patch_size": 4},
        "Bert": {**common, "intermediate_size": 16, "vocab_size": 20}
        | {"max_position_embeddings": 8},
        "GPT2": {"vocab_size": 20, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
        | {"num_labels": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
    }[kind]
    task = "ForImageClassification" if kind in ("ResNet", "ViT") else "ForSequenceClassification"
    network: nn.Module = getattr(transformers, kind + task)(
        getattr(transformers, f"{kind}Config")(**made)
    )
    return network


SEEN = {"input_ids": WORDS, "attention_mask": torch.ones_like(WORDS)}
HUGGING = {"ResNet": (IMAGES, 7), "ViT": (IMAGES, 8), "Bert": (SEEN, 8), "GPT2": (WORDS, 5)}

RELOADED = """
import json, sys
import numpy as np
import onnxruntime, torch, transformers
from safetensors.torch import load_file
kind, task, config, state, model, given, wanted = json.loads(sys.argv[1])
network = getattr(transformers, kind + task)(
    getattr(transformers, kind + "Config").from_dict(config)).eval()
network.load_state_dict(load_file(state), strict=True)
inputs = {name: torch.tensor(value) for name, value in given.items()}
with torch.no_grad():
    logits = network(**inputs).logits
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
named = [one.name for one in session.get_inputs()]
(found,) = session.run(["logits"], {name: inputs[name].numpy() for name in named})
assert logits.tolist() == wanted, "safetensors"
assert np.allclose(found, logits, atol=1e-5), "onnx"
assert "tombola" not in sys.modules and set(named) == set(inputs)
print("the same")
"""


@pytest.mark.parametrize("kind", HUGGING)
def test_networks_of_transformers(kind: str, tmp_path: Path) -> None:
    inputs, layers = HUGGING[kind]
    of = world(lambda: tiny(kind), inputs)
    assert len(of.layers) == layers
    study = found(of, tmp_path, arms=("dense",))
    net = study.model()
    document = shipped(study, of, "safetensors", tmp_path)
    again = of.new_network(0)
    again.load_state_dict(load_file(document["path"]), strict=True)
    assert same(outputs(again, of), outputs(net, of))
    if kind in ("ResNet", "Bert"):
        reloaded(kind, study, of, document["path"], tmp_path)


def reloaded(kind: str, study: Study, of: tb.World, state: str, folder: Path) -> None:
    """In a fresh process, without tombola, both files compute what the network does."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = shipped(study, of, "onnx", folder)
    assert model["checks"] == {"outputs_equal": True}
    net = study.model()
    task = type(net).__name__.removeprefix(kind)
    rows = of.batch(of.test, torch.arange(5)).inputs
    given = rows if isinstance(rows, dict) else {"pixel_values": rows}
    with torch.no_grad():
        wanted = net(**given).logits.tolist()
    listed = {name: tensor.tolist() for name, tensor in given.items()}
    told = [kind, task, net.config.to_dict(), state, model["path"], listed, wanted]
    done = subprocess.run(
        [sys.executable, "-c", RELOADED, json.dumps(told, default=str)],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.stdout.strip() == "the same", done.stderr
