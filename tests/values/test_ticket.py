"""Tickets: a file that comes back whole or is refused, and a hold for loops that are not ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as decode_tensors
from safetensors.torch import save as encode_tensors
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tombola.errors import MaskError, TicketError
from tombola.testing import toy_net, toy_world
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params, params_of
from tombola.values.rng import stream
from tombola.values.ticket import PROVENANCE, Ticket
from tombola.world.models import LeNet
from tombola.world.world import initial_params

W0, W1 = "layers.0.weight", "layers.1.weight"


def half(*names: str) -> Mask:
    shapes = {W0: (12, 6), W1: (8, 12)}
    return Mask({n: torch.rand(shapes[n], generator=stream(0, n)) < 0.5 for n in names})


@pytest.fixture(scope="module")
def ticket() -> Ticket:
    facts = {
        "recipe": "imp",
        "world": "toy",
        "seed": 3,
        "round": 2,
        "density": 0.5,
        "lineage": {"study": "abc"},
    }
    return Ticket(
        init=initial_params(toy_world(), 3), mask=half(W0, W1), start_step=7, provenance=facts
    )


class Everything(nn.Module):
    """Buffers, integers, half precision, a tie and a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.bfloat16))
        self.view = nn.Parameter(torch.randn(3, 2).t())


def parts(raw: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return decode_tensors(raw), head["__metadata__"]


# -- identity ------------------------------------------------------------------------------------


def test_identity_is_tensors_mask_and_start_step(ticket: Ticket) -> None:
    def other(**changes: Any) -> str:
        fields = {"init": ticket.init, "mask": ticket.mask, "start_step": 7, "provenance": {}}
        return Ticket(**{**fields, **changes}).digest

    assert other() == ticket.digest
    changed = [
        other(init=initial_params(toy_world(), 4)),
        other(mask=half(W0)),
        other(mask=FULL),
        other(start_step=8),
    ]
    assert len({ticket.digest, *changed}) == 5


# -- files ---------------------------------------------------------------------------------------


def test_a_ticket_comes_back_whole(ticket: Ticket, tmp_path: Path) -> None:
    path = tmp_path / "ticket.safetensors"
    ticket.save(path)
    ticket.save(str(path))  # again, over the first
    again = Ticket.load(path)
    assert again.digest == ticket.digest
    assert again.provenance == ticket.provenance
    assert [entry.name for entry in tmp_path.iterdir()] == ["ticket.safetensors"]
    assert Ticket.decode(again.encode()).digest == ticket.digest


def test_odd_tensors_come_back_bit_for_bit() -> None:
    init = params_of(Everything())
    made = Ticket(init=init, mask=Mask({"first.weight": torch.eye(4) == 1}), start_step=0)
    again = Ticket.decode(made.encode())
    assert again.init.digest == init.digest
    assert set(again.init) == set(init)
    assert "second.weight" not in again.init
    network = again.build(Everything)
    assert network.second.weight is network.first.weight
    assert int((network.first.weight != 0).sum()) == 4


def test_the_file_is_as_the_design_says(ticket: Ticket) -> None:
    tensors, text = parts(ticket.encode())
    assert set(tensors) == {*(f"init/{n}" for n in ticket.init), f"mask/{W0}", f"mask/{W1}"}
    assert tensors[f"mask/{W0}"].dtype is torch.bool
    assert {key: json.loads(value) for key, value in text.items()} == {
        "tombola.schema": 1,
        "tombola.start_step": 7,
        **{f"tombola.{key}": ticket.provenance[key] for key in PROVENANCE},
    }
    uncut = Ticket(init=ticket.init, mask=FULL, start_step=0)
    assert all(name.startswith("init/") for name in parts(uncut.encode())[0])
    assert Ticket.decode(uncut.encode()).mask.digest == FULL.digest


def test_a_file_cut_short_anywhere_is_refused(ticket: Ticket) -> None:
    raw = ticket.encode()
    for length in {*range(64), *range(0, len(raw), 50), len(raw) - 1}:
        with pytest.raises(TicketError, match=r"my ticket is cut short or not a safetensors file"):
            Ticket.decode(raw[:length], "my ticket")


@pytest.mark.parametrize(
    "raw",
    [
        b"PK\x03\x04" + bytes(60),
        bytes(8),
        b"\x02" + bytes(7) + b"[]",
        b"\xff" * 40,
        b"\x02" + bytes(7) + b"{}",
    ],
)
def test_a_foreign_file_is_refused(raw: bytes) -> None:
    with pytest.raises(TicketError, match=r"my file is (cut short or not|a safetensors file, but)"):
        Ticket.decode(raw, "my file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, r"schema 2, this tombola knows 1. Update"),
        (
            {"basis": {"rows": 1}},
            r"in basis \{'rows': 1\}; this tombola knows weights, and units by set",
        ),
        ({"schema": None}, r"but not a ticket of tombola"),
        ({"schema": "1"}, r"but not a ticket of tombola"),
        ({"start_step": None}, r"but not a ticket of tombola"),
    ],
)
def test_a_newer_or_other_ticket_is_refused(
    ticket: Ticket, changes: dict[str, Any], message: str
) -> None:
    tensors, text = parts(ticket.encode())
    text |= {f"tombola.{key}": json.dumps(value) for key, value in changes.items()}
    with pytest.raises(TicketError, match=message):
        Ticket.decode(encode_tensors(tensors, text))


def test_metadata_of_others_is_let_be_and_a_basis_of_null_is_weights(ticket: Ticket) -> None:
    tensors, text = parts(ticket.encode())
    text |= {"format": "pt", "tombola.basis": "null", "tombola.note": '"x"'}
    assert Ticket.decode(encode_tensors(tensors, text)).digest == ticket.digest
    with pytest.raises(TicketError, match="cut short or not"):
        Ticket.decode(encode_tensors(tensors, {**text, "tombola.seed": "{"}))


@pytest.mark.parametrize(
    ("name", "mask"),
    [(W0, torch.ones(2, 2) == 1), (W0, torch.ones(12, 6)), ("nowhere", torch.ones(2) == 1)],
)
def test_masks_that_do_not_fit_are_refused(ticket: Ticket, name: str, mask: Tensor) -> None:
    tensors, text = parts(ticket.encode())
    raw = encode_tensors({**tensors, f"mask/{name}": mask}, text)
    with pytest.raises(TicketError, match=rf"mask of '{name}' is torch\..* does not fit"):
        Ticket.decode(raw)


def test_paths_that_cannot_be_used_are_named(ticket: Ticket, tmp_path: Path) -> None:
    with pytest.raises(TicketError, match=r"ticket .*absent.* cannot be read"):
        Ticket.load(tmp_path / "absent")
    with pytest.raises(TicketError, match=r"ticket .*ticket cannot be written"):
        ticket.save(tmp_path / "absent" / "ticket")
    with pytest.raises(TicketError, match=r"cannot be written"):
        ticket.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "short").write_bytes(ticket.encode()[:-3])
    with pytest.raises(TicketError, match=r"ticket .*short is cut short"):
        Ticket.load(tmp_path / "short")


# -- use -----------------------------------------------------------------------------------------


def test_build_gives_the_network_at_its_start(ticket: Ticket) -> None:
    before = ticket.init.rehash()
    network = ticket.build(toy_net)
    assert params_of(network).digest == ticket.mask.apply(ticket.init).digest
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        network.layers[0].weight.add_(1)
    assert ticket.init.rehash() == before


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((6, 12, 8, 4, 3), r"does not fit LeNet: the ticket lacks \['layers.3.bias',"),
        ((6, 12, 3), r"the network lacks \['layers.2.bias', 'layers.2.weight'\].*it was found on"),
        ((6, 12, 7, 3), r"'layers.1.weight' has shape \(8, 12\), LeNet's \(7, 12\)"),
    ],
)
def test_another_network_is_refused(ticket: Ticket, widths: tuple[int, ...], message: str) -> None:
    with pytest.raises(TicketError, match=message):
        ticket.build(lambda: LeNet(*widths))


OPTIMISERS = {
    "sgd": lambda tensors: torch.optim.SGD(tensors, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda tensors: torch.optim.SGD(tensors, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda tensors: torch.optim.Adam(tensors, lr=0.01, weight_decay=0.1),
    "adamw": lambda tensors: torch.optim.AdamW(tensors, lr=0.01, weight_decay=0.1),
}


def steps(network: nn.Module, optimiser: torch.optim.Optimizer, number: int) -> None:
    """A loop of the user's own."""
    world = toy_world()
    batch = world.train.take(torch.arange(60))
    for _ in range(number):
        optimiser.zero_grad()
        cross_entropy(network(batch.inputs), batch.targets).backward()
        optimiser.step()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_hold_keeps_cuts_at_positive_zero_and_lets_the_rest_move(
    ticket: Ticket, optimiser: str
) -> None:
    network = toy_net()  # full of other values, and with momentum from before the cut
    running = OPTIMISERS[optimiser](network.parameters())
    steps(network, running, 5)
    hold = ticket.hold(network, running)
    for number in (0, 1, 10):
        before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
        steps(network, running, number)
        for name, tensor in network.named_parameters():
            kept = ticket.mask.of(name, tensor.shape)
            assert not tensor[~kept].any()
            assert not tensor[~kept].signbit().any()
            if number:
                moved, was = tensor.detach()[kept] != before[name][kept], before[name][kept]
                assert moved.float().mean() > 0.7  # all but those behind dead units
                assert bool(moved[was < 0].any() or name.endswith("bias"))
    hold.release()
    steps(network, running, 3)
    tensors = dict(network.named_parameters())
    assert all(bool(tensors[name][~kept].any()) for name, kept in ticket.mask.items())


def test_hold_is_the_training_of_the_loop(ticket: Ticket) -> None:
    """Gradients arrive with cut entries zero, so momentum of kept weights is that of the mask."""
    network = ticket.build(toy_net)
    running = OPTIMISERS["sgd"](network.parameters())
    ticket.hold(network, running)
    steps(network, running, 3)
    for name, tensor in network.named_parameters():
        kept = ticket.mask.of(name, tensor.shape)
        assert not running.state[tensor]["momentum_buffer"][~kept].any()
        assert tensor.grad is not None
        assert not tensor.grad[~kept].any()


def test_hold_of_another_network_is_refused(ticket: Ticket) -> None:
    network = LeNet(6, 13, 8, 3)
    with pytest.raises(MaskError, match="belongs to another network"):
        ticket.hold(network, OPTIMISERS["sgd"](network.parameters()))
    assert Params(dict(network.named_parameters()))  # and nothing was hooked


def test_a_flipped_bit_in_a_ticket_with_a_lineage_is_found(ticket: Ticket) -> None:
    lineage = {"study": "abc", "init": ticket.init.digest, "mask": ticket.mask.digest}
    facts = {**ticket.provenance, "lineage": lineage}
    whole = Ticket(init=ticket.init, mask=ticket.mask, start_step=7, provenance=facts).encode()
    assert Ticket.decode(whole).digest == ticket.digest
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in (start, start + (len(whole) - start) // 3, len(whole) - 1):
        raw = bytearray(whole)
        raw[place] ^= 1
        with pytest.raises(TicketError, match=r"is damaged: its (init|mask)"):
            Ticket.decode(bytes(raw))
