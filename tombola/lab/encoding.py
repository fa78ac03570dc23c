"""Values and unfinished trainings as bytes: safetensors, never pickles."""

import json
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import load as decode_tensors
from torch import Tensor

from tombola.train.leg import Leg, Reading
from tombola.values.digest import digest
from tombola.values.mask import Mask
from tombola.values.params import Params
from tombola.values.tensors import encode_tensors

T = TypeVar("T", Params, Mask)


def encode_value(value: Params | Mask) -> bytes:
    """Safetensors: tensors as they are, masks packed."""
    tensors = dict(value) if isinstance(value, Params) else _packed(value)
    return encode_tensors(_contiguous(tensors), _shapes(value))


def _packed(mask: Mask) -> dict[str, Tensor]:
    """One bit a weight, row-major, least significant first."""
    return {
        name: torch.from_numpy(np.packbits(kept.cpu().numpy(), bitorder="little"))
        for name, kept in mask.items()
    }


def _shapes(value: Params | Mask) -> dict[str, str]:
    shapes = {n: list(t.shape) for n, t in value.items()} if isinstance(value, Mask) else {}
    return {"kind": type(value).__name__, "shapes": json.dumps(shapes, sort_keys=True)}


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: on the CPU, whole, none sharing memory with another."""
    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        ready[name] = whole.clone() if whole.data_ptr() in seen else whole
        seen.add(whole.data_ptr())
    return ready


def _metadata(raw: bytes) -> dict[str, str]:
    """The text that travels in a safetensors head."""
    length = int.from_bytes(raw[:8], "little")
    return dict(json.loads(raw[8 : 8 + length]).get("__metadata__", {}))


def decode_value(kind: type[T], raw: bytes) -> T:
    """What `encode_value` wrote; whatever the decoders raise for bytes that are something else."""
    tensors, metadata = decode_tensors(raw), _metadata(raw)
    if metadata["kind"] != kind.__name__:
        raise ValueError(f"it holds a {metadata['kind']}, not a {kind.__name__}")
    if kind is Params:
        return kind(tensors)
    shapes = json.loads(metadata["shapes"])
    kept = {}
    for name, packed in tensors.items():
        bits = np.unpackbits(packed.numpy(), bitorder="little", count=int(np.prod(shapes[name])))
        kept[name] = torch.from_numpy(bits.astype(bool)).reshape(shapes[name])
    return kind(kept)


_PARTS = ("coords", "slots", "state", "best")


def encode_leg(leg: Leg) -> bytes:
    """One safetensors file: the tensors by part, the rest as JSON with the digest of it all."""
    tensors: dict[str, Tensor] = {}
    for part in _PARTS:
        tensors |= {f"{part}:{name}": t for name, t in (getattr(leg, part) or {}).items()}
    for part in ("mask", "best_mask"):
        mask = getattr(leg, part)
        tensors |= {f"{part}:{name}": kept for name, kept in (mask.items() if mask else ())}
    head = {
        "step": leg.step,
        "readings": [[r.step, r.metrics] for r in leg.readings],
        "best_step": leg.best_step,
        "exposure": f"{leg.exposure:x}",
        "diverged_at": leg.diverged_at,
        "checks": leg.checks,
        "executor": leg.executor,
        "why_dense": leg.why_dense,
    }
    tensors = _contiguous(tensors)
    content = Params(tensors).digest
    return encode_tensors(tensors, {"leg": json.dumps(head), "digest": digest([head, content])})


def decode_leg(raw: bytes) -> Leg:
    """What `encode_leg` wrote. Raises ValueError when the content does not have its digest."""
    tensors, metadata = decode_tensors(raw), _metadata(raw)
    head = json.loads(metadata["leg"])
    if digest([head, Params(tensors).digest]) != metadata["digest"]:
        raise ValueError("the content does not have its digest")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(":")
        parts.setdefault(part, {})[rest] = tensor
    has_best = head["best_step"] is not None
    return Leg(
        step=head["step"],
        coords=Params(parts["coords"]),
        slots=Params(parts.get("slots", {})),
        mask=Mask(parts.get("mask", {})),
        state=Params(parts.get("state", {})),
        readings=tuple(Reading(step=step, metrics=metrics) for step, metrics in head["readings"]),
        best=Params(parts["best"]) if has_best else None,
        best_mask=Mask(parts.get("best_mask", {})) if has_best else None,
        best_step=head["best_step"],
        exposure=int(head["exposure"], 16),
        diverged_at=head["diverged_at"],
        checks=head["checks"],
        executor=head["executor"],
        why_dense=head["why_dense"],
    )
