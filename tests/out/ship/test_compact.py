"""Networks without the units that do nothing: the same outputs, from files that need no tombola."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from entangled import Encoder, Grouped, Joined, Tied, Upwards
from torch import Tensor, nn

from tombola.errors import CallError, CheckError, ShipError, WorldError
from tombola.out.ship import speed
from tombola.out.ship.cargo import Cargo
from tombola.out.ship.compact import imported, plain_outputs
from tombola.out.ship.elsewhere import Elsewhere
from tombola.out.ship.formats import check_format, ship_as
from tombola.out.ship.shipment import Shipment, difference
from tombola.out.ship.smaller import Smaller, smaller
from tombola.out.ship.source import NoSourceError, Source
from tombola.testing import toy_world
from tombola.values.mask import Mask
from tombola.values.params import params_of
from tombola.values.rng import borrowed_generators, reseed, stream
from tombola.values.units import expanded
from tombola.world.coupling import coupling_of
from tombola.world.models import BertClassifier, LeNet, ResNet
from tombola.world.networks import NETWORKS
from tombola.world.world import World, fill

IMAGE = (3, 32, 32)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns are so short that they say nothing, which nobody here looks at."""
    monkeypatch.setattr(speed, "TURN", 1e-5)


def made(make: Callable[[], nn.Module], inputs: Tensor, density: float) -> nn.Module:
    """A network that has moved from its start, with about this share of its units."""
    with borrowed_generators():
        reseed(0)
        network = make()
    for name, tensor in network.state_dict(keep_vars=True).items():
        if tensor.dim() == 1 and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=stream(1, name)) - 0.4
            tensor.data.add_(noise.abs() if name.endswith("running_var") else noise)
    sets = coupling_of(network, inputs).sets
    shapes = {name: tuple(t.shape) for name, t in network.named_parameters() if t.dim() > 1}
    units = {
        one.name: torch.rand(one.count, generator=stream(2, one.name)) < density for one in sets
    }
    fill(network, expanded(Mask(units), sets, shapes).apply(params_of(network)))
    return network.eval()


def compared(network: nn.Module, inputs: Tensor, others: Tensor) -> Smaller:
    """A network made smaller on some inputs, and looked at on others."""
    found = smaller(network, coupling_of(network, inputs[:2]), inputs)
    with torch.no_grad():
        assert difference(found.network(others), network(others)) <= 1e-5
    before, after = (sum(p.numel() for p in n.parameters()) for n in (network, found.network))
    assert after < before
    return found


@pytest.mark.parametrize("name", [n for n in NETWORKS if "-low" not in n and "-warmup" not in n])
def test_networks_of_the_catalogue_compute_the_same_with_fewer_units(name: str) -> None:
    inputs = torch.randn(2, 4, *IMAGE, generator=stream(0, "images"))
    make = partial(NETWORKS[name].build, IMAGE, 10, 0.25)
    found = compared(made(make, inputs[0][:2], 0.5), *inputs)
    assert len(found.left) >= 2 and all(a < b for a, b in found.left.values() if b > 6)
    Source(found.network)  # as a page


def test_a_small_transformer_computes_the_same_with_fewer_units_and_heads() -> None:
    pytest.importorskip("transformers")
    words = torch.randint(1, 30, (2, 4, 7), generator=stream(0, "words"))
    make = partial(BertClassifier, 30, 7, 3, heads=4)
    found = compared(made(make, words[0][:2], 0.5), *words)
    heads = {n: kept for n, kept in found.left.items() if n.endswith("self.query")}
    assert len(heads) == 2 and any(a < b == 4 for a, b in heads.values())
    assert any(a < b == 64 for n, (a, b) in found.left.items() if "intermediate" in n)
    with pytest.raises(NoSourceError):
        Source(found.network)


@pytest.mark.parametrize("make", [Grouped, Joined, Encoder, Tied, Upwards])
def test_layers_joined_in_other_ways_compute_the_same_with_fewer_units(
    make: type[nn.Module],
) -> None:
    inputs = torch.randn(2, 4, 3, 8, 8, generator=stream(0, "images"))
    if make is Encoder:
        inputs = torch.randint(0, 9, (2, 4, 5), generator=stream(0, "words"))
    if make is Tied:
        inputs = inputs.flatten(2)[:, :, :6]
    compared(made(make, inputs[0][:2], 0.5), *inputs)


# -- which units matter ----------------------------------------------------------------------


def chain() -> nn.Sequential:
    with borrowed_generators():
        reseed(3)
        layers = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)
    return nn.Sequential(*layers).requires_grad_(False)


def left(network: nn.Module, inputs: Tensor) -> dict[str, int]:
    found = smaller(network, coupling_of(network, inputs), inputs)
    with torch.no_grad():
        assert difference(found.network(inputs), network(inputs)) <= 1e-6
    return {name: kept for name, (kept, _) in found.left.items()}


INPUTS = torch.randn(8, 4, generator=stream(0, "inputs"))


def test_what_nothing_reads_goes_and_what_it_alone_reads_goes_too() -> None:
    network = chain()
    network[4].weight[:, :4] = 0.0  # units 0 to 3 of the second layer are not read
    network[2].weight[4:, 0] = 0.0  # unit 0 of the first is read by those alone
    assert left(network, INPUTS) == {"0": 4, "2": 2}


def test_what_is_the_same_for_every_input_goes_into_biases() -> None:
    network = chain()
    network[0].weight[0] = 0.0  # unit 0 of the first layer is its bias, of 1 the second's share
    network[0].bias[0] = 0.7
    network[2].weight[3, 1:] = 0.0  # unit 3 of the second layer reads that one alone
    network[2].bias[3] = 0.2
    assert left(network, INPUTS) == {"0": 4, "2": 5}


def test_a_bias_comes_where_there_was_none() -> None:
    network = chain()
    network[2] = nn.Linear(5, 6, bias=False).requires_grad_(False)
    network[0].weight[0], network[0].bias[0] = 0.0, 0.7
    found = smaller(network, coupling_of(network, INPUTS), INPUTS)
    assert found.network[2].bias is not None
    assert left(network, INPUTS) == {"0": 4, "2": 6}


def convs(padding: int) -> nn.Sequential:
    with borrowed_generators():
        reseed(3)
        first, last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=padding)
    network = nn.Sequential(first, nn.ReLU(), last, nn.Flatten()).requires_grad_(False)
    network[0].weight[1] = 0.0
    return network


@pytest.mark.parametrize(
    ("padding", "bias", "kept"),
    [(0, 0.7, 2), (1, 0.7, 3), (1, -0.7, 2)],
    ids=["no border", "zeros around it", "nothing after ReLU"],
)
def test_constants_go_into_convolutions_where_the_border_allows(
    padding: int, bias: float, kept: int
) -> None:
    network, inputs = convs(padding), torch.randn(4, 3, 5, 5, generator=stream(0, "i"))
    network[0].bias[1] = bias
    if kept == 3:
        with pytest.raises(ShipError, match="no unit of Sequential can be left out"):
            left(network, inputs)
        network[2].weight[:, 0] = 0.0  # another goes, this one stays
        assert left(network, inputs) == {"0": 2}
    else:
        assert left(network, inputs) == {"0": kept}


def test_a_dead_branch_keeps_one_unit() -> None:
    network = ResNet((4,), blocks=1, classes=3).requires_grad_(False).eval()
    network.blocks[0].conv1.weight.zero_()
    inputs = torch.randn(4, 3, 8, 8, generator=stream(0, "i"))
    assert left(network, inputs) == {"conv": 4, "blocks.0.conv1": 1}


def test_nothing_to_leave_out_is_refused() -> None:
    with pytest.raises(ShipError, match=r"no unit of Sequential .* Cut whole units \(the recipe"):
        left(chain(), INPUTS)
    alone = nn.Linear(4, 2).requires_grad_(False)
    with pytest.raises(ShipError, match=r"left out \(it is an output of the network\)"):
        left(alone, INPUTS)


class Stubborn(nn.Module):
    """Writes its width into its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Linear(16, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.first(inputs).view(-1, 16))
        return outputs


def test_a_width_written_into_the_forward_pass_is_refused() -> None:
    network = Stubborn().requires_grad_(False)
    network.last.weight[:, :4] = 0.0
    with pytest.raises(ShipError, match="Stubborn counts on the number of its units"):
        left(network, torch.randn(3, 3, 2, 2, generator=stream(0, "i")))


# -- files -----------------------------------------------------------------------------------


def shipment(folder: Path, world: World | None = None, **changes: Any) -> Shipment:
    world = world or toy_world()
    shapes = {layer.name: layer.shape for layer in world.layers}
    sets = world.coupling.sets
    units = Mask({one.name: torch.arange(one.count) % 2 == 0 for one in sets})
    mask = expanded(units, sets, shapes)
    cargo = Cargo(
        params=mask.apply(params_of(world.new_network(0))),
        mask=mask,
        stem="my-stem",
        provenance={"density": 0.4, "seed": 0},
        trained=True,
    )
    return Shipment(cargo=cargo, world=world, folder=folder, batches=(1, 7), **changes)


LOADED = """
import sys
sys.modules["tombola"] = sys.modules["safetensors"] = None  # not to be had here
sys.path.insert(0, {folder!r})
import torch, my_stem_compact as page
print(page.load()(torch.ones(2, 6)).tolist())
"""


def test_a_page_and_its_weights_are_enough(tmp_path: Path) -> None:
    one = shipment(tmp_path)
    document = ship_as("compact", one, "float32")
    assert document["checks"] == {"tensors_equal": True, "outputs_equal": True}
    assert document["units"] == {
        "layers.0": {"kept": 6, "total": 12},
        "layers.1": {"kept": 4, "total": 8},
    }
    assert document["test_accuracy"] == document["network_accuracy"]
    assert [row["batch"] for row in document["speed"]] == [1, 7]
    assert {path.name for path in tmp_path.iterdir()} == {
        "my-stem.compact.safetensors",
        "my_stem_compact.py",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(folder=str(tmp_path))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        wanted = one.network()(torch.ones(2, 6))
    torch.testing.assert_close(torch.tensor(eval(done.stdout)), wanted, rtol=1e-5, atol=1e-5)
    weights = Path(document["path"])
    page = Path(document["source"]).read_text()
    with pytest.raises(ValueError, match="was changed since it was written"):
        imported(page, weights.read_bytes()[:-1] + b"x")


def test_files_that_compute_something_else_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Source._forward
    monkeypatch.setattr(Source, "_forward", lambda s: right(s).replace(".relu()", ".abs()"))
    with pytest.raises(CheckError, match="outputs_equal failed"):
        ship_as("compact", shipment(tmp_path), "float32")
    assert not list(tmp_path.iterdir())


class Odd(LeNet):
    """A chain that is no row of layers: it multiplies by a tensor of its own."""

    def __init__(self) -> None:
        super().__init__(6, 12, 8, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) * self.scale


def test_other_networks_become_a_program_that_runs_elsewhere(tmp_path: Path) -> None:
    one = shipment(tmp_path, toy_world(model=Odd, thin=None))
    document = ship_as("compact", one, "float32")
    assert document["checks"] == {"outputs_equal": True, "loads_elsewhere": True}
    assert document["path"].endswith("my-stem.compact.pt2") and document["source"] is None
    assert document["test_accuracy"] == document["network_accuracy"]
    assert "Odd computes with tensors outside its layers" in document["notes"][0]


def test_a_program_that_is_none_is_refused_with_what_torch_says() -> None:
    with (
        Elsewhere(b"no program", nn.Identity(), torch.zeros(1)) as elsewhere,
        pytest.raises(CheckError, match="loads_elsewhere failed: a fresh process cannot run"),
    ):
        elsewhere(torch.zeros(1))


def test_onnx_takes_the_smaller_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    one = shipment(tmp_path)
    dense = ship_as("onnx", one, "float32")
    compact = ship_as("onnx", replace(one, compact=True), "float32")
    assert compact["path"].endswith(".compact.onnx") and compact["bytes"] < dense["bytes"]
    assert compact["format"] == dense["format"] == "onnx"
    assert compact["test_accuracy"] == dense["test_accuracy"]


def test_what_cannot_be_made_smaller_says_so_before_anything_is_trained() -> None:
    with pytest.raises(CallError, match=r"--to compact needs .*--on WORLD"):
        check_format("compact", None)

    class Deciding(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs if float(inputs.sum()) > 0 else -inputs)

    with pytest.raises(WorldError, match="Deciding cannot be traced"):
        check_format("compact", toy_world(model=lambda: Deciding(6, 3), thin=None))


def test_records_are_written_as_dicts_and_the_network_stays_as_it_is() -> None:
    @dataclass
    class Answer:
        logits: Tensor
        nothing: None = None

    class Net(nn.Linear):
        def forward(self, inputs: Tensor) -> Any:
            return Answer(super().forward(inputs))

    network, inputs = Net(2, 3), torch.ones(4, 2)
    with plain_outputs(network):
        found = network(inputs)
    assert list(found) == ["logits"] and found["logits"].shape == (4, 3)
    assert isinstance(network(inputs), Answer) and "forward" not in vars(network)
