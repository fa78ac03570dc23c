"""What is asked of every exported network, whatever its format."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tombola.errors import CheckError
from tombola.lab.bench.measure import this_machine
from tombola.out.ship.cargo import Cargo
from tombola.out.ship.speed import BATCHES, Compute, compared, inputs_of
from tombola.train.evaluate import evaluate
from tombola.values.mask import FULL, Mask
from tombola.values.tensors import encode_tensors
from tombola.world.batch import leaves
from tombola.world.world import World

EXAMPLES = 64  # of the test split, on which outputs are compared


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """A network on its way into a file of one format.

    world: None if it has no name here. batches: the sizes at which speed is measured. compact: as
    onnx, without the units that do nothing.
    """

    cargo: Cargo
    world: World | None
    folder: Path
    batches: Sequence[int] = BATCHES
    compact: bool = False

    @property
    def mask(self) -> Mask:
        """Of what can be left out: nothing, where what is cut was frozen and not set to zero."""
        return self.cargo.mask if self.cargo.cuts_to_zero else FULL

    def target(self, ending: str) -> Path:
        return self.folder / f"{self.cargo.stem}{ending}"

    def facts(self) -> dict[str, Any]:
        """What the file says of itself."""
        return {"schema": 1, "trained": self.cargo.trained, **self.cargo.provenance}

    def network(self) -> nn.Module:
        """The network as trained, dense arithmetic and all."""
        assert self.world is not None
        return self.world.network(self.cargo.params).eval()

    def found(
        self, exported: Compute, tolerance: float, timed: Compute | None = None
    ) -> dict[str, Any]:
        """What was found of an exported network beside the one it was made from.

        tolerance: largest difference of outputs, as a share of the largest output. timed: what its
        speed is measured on, where that is not itself.

        Raises:
            CheckError: outputs differ by more, or in shape.
        """
        assert self.world is not None
        own = self.network()
        inputs = inputs_of(self.world, EXAMPLES)
        with torch.no_grad():
            differ = difference(exported(inputs), own(inputs))
        if not differ <= tolerance:
            raise CheckError(
                f"outputs_equal failed: outputs of the file differ by {differ:.2g} of the largest, "
                f"{tolerance:g} is allowed; it was not kept."
            )
        return {
            "outputs": {"difference": float(f"{differ:.2g}"), "tolerance": tolerance},
            "test_accuracy": self.accuracy(exported),
            "network_accuracy": self.accuracy(own),
            "speed": compared(timed or exported, own, self.world, self.batches),
        }

    def accuracy(self, exported: Compute) -> float | None:
        """On the whole test split; None where the network was not trained, or has no accuracy."""
        if self.world is None or not self.cargo.trained:
            return None
        with self.world.numerics.in_force():
            frame = exported if isinstance(exported, nn.Module) else self.network()
            return evaluate(frame, self.world, self.world.test, call=exported).get("accuracy")

    def document(
        self, ending: str, content: bytes, checks: Mapping[str, bool | None], **more: Any
    ) -> dict[str, Any]:
        """What `tombola ship --json` prints."""
        dense = dense_bytes(self.cargo.params)
        return {
            "schema": 1,
            "path": str(self.target(ending)),
            "format": ending.removesuffix(".safetensors").removeprefix("."),
            "bytes": len(content),
            "dense_bytes": dense,
            "times_smaller": float(f"{dense / len(content):.3g}"),
            "sha256": hashlib.sha256(content).hexdigest(),
            "density": self.cargo.provenance.get("density"),
            "checks": dict(checks),
            "test_accuracy": None,
            "machine": this_machine(),
            **more,
        }


def difference(found: Any, wanted: Any) -> float:
    """Largest difference of two nested outputs as a share of the largest wanted; infinite if they
    differ in shape.

    >>> difference(torch.tensor([2.0, 4.0]), torch.tensor([2.0, 5.0]))
    0.2
    """
    here, there = leaves(found), leaves(wanted)
    if [t.shape for t in here] != [t.shape for t in there]:
        return float("inf")
    return max((_difference(a, b) for a, b in zip(here, there, strict=True)), default=0.0)


def _difference(found: Tensor, wanted: Tensor) -> float:
    if not wanted.numel():
        return 0.0
    gap = (found.double() - wanted.double()).abs().max()
    return round(float(gap / wanted.double().abs().max().clamp(min=1e-12)), 12)


def dense_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Size of the dense network as a plain safetensors file, without remarks."""
    return len(encode_tensors({name: t.contiguous() for name, t in tensors.items()}, {}))
