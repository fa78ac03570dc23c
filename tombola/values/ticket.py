"""A ticket: where a sparse network starts, which weights it keeps, and where it comes from."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode_tensors
from torch import Tensor, nn

from tombola.errors import TicketError
from tombola.values.digest import digest
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params, params_of
from tombola.values.tensors import encode_tensors

SCHEMA = 1
PROVENANCE = ("recipe", "world", "seed", "round", "density", "lineage")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """The sparse network to train, before training.

    init: all tensors at the start, uncut. mask: what is kept. start_step: what the training clock
    shows there (0, or the step rewound to). provenance: recipe, world, seed, round, density and
    lineage (digests of the study and of the start and mask); not part of the identity. units,
    basis: of a ticket that keeps or cuts whole units, which of them it keeps, by set, and what the
    sets are: name -> shape of the grid of units, and the tensors they are part of (see
    `UnitSet.facts`).

    Example:
        >>> net = nn.Linear(3, 2)
        >>> ticket = Ticket(init=params_of(net), start_step=0,
        ...                 mask=Mask({"weight": torch.eye(3, dtype=torch.bool)[:2]}))
        >>> again = Ticket.decode(ticket.encode())
        >>> again.digest == ticket.digest
        True
        >>> int((again.build(lambda: nn.Linear(3, 2)).weight != 0).sum())
        2
    """

    init: Params
    mask: Mask
    start_step: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    units: Mask = FULL
    basis: Mapping[str, Any] | None = None

    @cached_property
    def digest(self) -> str:
        """Identity: tensors, mask, start step, and the basis if it is not weights."""
        basis = None if self.basis is None else [self.basis, self.units]
        return digest(["ticket", self.init, self.mask, self.start_step, basis])

    # -- use ---------------------------------------------------------------------------------

    def build(self, model: Callable[[], nn.Module]) -> nn.Module:
        """A new network that starts as this ticket: its values, cut weights +0.0.

        Raises:
            TicketError: the network's tensors have other names or shapes.
        """
        network = model()
        own = params_of(network)
        self._fits(own, type(network).__name__)
        start = self.mask.apply(self.init)
        with torch.no_grad():
            for name, tensor in network.state_dict(keep_vars=True).items():
                if name in start:
                    tensor.copy_(start[name])
        return network

    def hold(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> "Hold":
        """Keep cut weights at +0.0 while you train `network` in your own loop.

        Their gradients are zeroed as they arrive, and after each step of `optimiser` the weights
        are set to +0.0 again, so that neither momentum nor weight decay can bring them back.
        """
        tensors = dict(network.named_parameters())
        self.mask.check(tensors)
        return Hold(self.mask, tensors, optimiser)

    def _fits(self, own: Params, network: str) -> None:
        missing, extra = sorted(set(own) - set(self.init)), sorted(set(self.init) - set(own))
        if missing or extra:
            raise TicketError(
                f"the ticket does not fit {network}: the ticket lacks {missing[:5]}, the network "
                f"lacks {extra[:5]}. Build it with the model it was found on."
            )
        for name, tensor in own.items():
            if tensor.shape != self.init[name].shape:
                raise TicketError(
                    f"the ticket's {name!r} has shape {tuple(self.init[name].shape)}, "
                    f"{network}'s {tuple(tensor.shape)}. Build it with the model it was found on."
                )

    # -- files -------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Safetensors: `init/<name>`, `mask/<parameter>` and `mask/<unit set>` (bool), and JSON
        metadata."""
        tensors = {f"init/{name}": tensor.contiguous() for name, tensor in self.init.items()}
        tensors |= {
            f"mask/{name}": kept.contiguous()
            for mask in (self.mask, self.units)
            for name, kept in mask.items()
        }
        basis = {} if self.basis is None else {"basis": self.basis}
        facts = {
            **basis,
            "schema": SCHEMA,
            "start_step": self.start_step,
            **{key: self.provenance.get(key) for key in PROVENANCE},
        }
        return encode_tensors(tensors, {f"tombola.{k}": json.dumps(v) for k, v in facts.items()})

    @classmethod
    def decode(cls, raw: bytes, where: str = "the ticket") -> "Ticket":
        """The ticket of these bytes.

        Raises:
            TicketError: cut short, not a ticket, of a newer tombola, in a basis that is not known
                here, or with masks that do not fit its tensors.
        """
        try:
            tensors = decode_tensors(raw)
            head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
            text = head.get("__metadata__", {})
            facts = {
                key.removeprefix("tombola."): json.loads(value)
                for key, value in text.items()
                if key.startswith("tombola.")
            }
        except (SafetensorError, ValueError) as error:
            raise TicketError(
                f"{where} is cut short or not a safetensors file ({error})."
            ) from error
        _check_facts(facts, where)
        init = {
            name.removeprefix("init/"): t for name, t in tensors.items() if name.startswith("init/")
        }
        kept = {
            name.removeprefix("mask/"): t for name, t in tensors.items() if name.startswith("mask/")
        }
        basis = facts.get("basis")
        units = _units_in(kept, basis or {}, where)
        for name, mask in kept.items():
            if name not in init or mask.dtype is not torch.bool or mask.shape != init[name].shape:
                raise TicketError(
                    f"{where}: mask of {name!r} is {mask.dtype} {tuple(mask.shape)}, which does "
                    f"not fit {tuple(init[name].shape) if name in init else 'any tensor'}."
                )
        found = cls(
            init=Params(init),
            mask=Mask(kept),
            start_step=facts["start_step"],
            provenance={key: facts.get(key) for key in PROVENANCE},
            units=Mask(units),
            basis=basis,
        )
        lineage = facts.get("lineage") or {}
        parts = (("init", found.init), ("mask", found.mask), ("units", found.units))
        for part, held in parts:
            if lineage.get(part, held.digest) != held.digest:
                raise TicketError(f"{where} is damaged: its {part} is not what its lineage says.")
        return found

    def save(self, path: str | Path) -> None:
        """Write `encode()` to a file, under a temporary name first."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.part")
        try:
            temporary.write_bytes(self.encode())
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise TicketError(f"ticket {target} cannot be written: {error}.") from error

    @classmethod
    def load(cls, path: str | Path) -> "Ticket":
        """Read a file that `save` wrote."""
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise TicketError(f"ticket {path} cannot be read: {error}.") from error
        return cls.decode(raw, f"ticket {path}")


def _check_facts(facts: Mapping[str, Any], where: str) -> None:
    schema = facts.get("schema")
    if not _is_count(schema) or not _is_count(facts.get("start_step")):
        raise TicketError(f"{where} is a safetensors file, but not a ticket of tombola.")
    if schema > SCHEMA:
        raise TicketError(
            f"{where} has schema {schema}, this tombola knows {SCHEMA}. Update tombola."
        )
    seed, lineage = facts.get("seed"), facts.get("lineage")
    if not (seed is None or _is_count(seed)) or not isinstance(lineage, dict | None):
        raise TicketError(
            f"{where} is damaged: its seed is {seed!r:.40}, its lineage {lineage!r:.40}; want a "
            "whole number, and digests by name."
        )
    basis = facts.get("basis")
    known = basis is None or (
        isinstance(basis, dict)
        and all(isinstance(one, dict) and set(one) == {"shape", "slices"} for one in basis.values())
    )
    if not known:
        raise TicketError(
            f"{where} is in basis {basis!r:.60}; this tombola knows weights, and units by set."
        )


def _units_in(kept: dict[str, Tensor], basis: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The masks of sets of units, taken out of all masks of a file."""
    units = {name: kept.pop(name) for name in basis if name in kept}
    for name, mask in units.items():
        if mask.dtype is not torch.bool or list(mask.shape) != basis[name]["shape"]:
            raise TicketError(
                f"{where}: mask of units {name!r} is {mask.dtype} {tuple(mask.shape)}, its basis "
                f"says {basis[name]['shape']}."
            )
    return units


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class Hold:
    """Keeps cut weights at +0.0 until `release()`."""

    def __init__(
        self, mask: Mask, tensors: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer
    ) -> None:
        self._pairs = [
            (tensors[name], ~kept.to(tensors[name].device)) for name, kept in mask.items()
        ]
        self._handles: list[Any] = [
            tensor.register_hook(lambda gradient, cut=cut: gradient.masked_fill(cut, 0.0))
            for tensor, cut in self._pairs
            if tensor.requires_grad
        ]
        self._handles.append(optimiser.register_step_post_hook(lambda *_: self._zero()))
        self._zero()

    def _zero(self) -> None:
        with torch.no_grad():
            for tensor, cut in self._pairs:
                tensor.masked_fill_(cut, 0.0)

    def release(self) -> None:
        """Let the weights go: from now on they train like any other."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
