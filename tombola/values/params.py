"""Named tensors, buffers included: normalisation statistics rewind with the weights."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from tombola.values.digest import digest, tensor_digest


class Params(Mapping[str, Tensor]):
    """Tensors by name, never changed once made; identity is names, dtypes, shapes and bytes.

    Also its own handle: `digest` is what it is named by, `load()` gives it.

    Example:
        >>> import torch
        >>> p = Params({"w": torch.zeros(2)})
        >>> p.digest == Params({"w": torch.zeros(2)}).digest, p.load() is p
        (True, True)
    """

    __slots__ = ("_digest", "_tensors")

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        self._digest: str | None = None

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def digest(self) -> str:
        if self._digest is None:
            self._digest = self.rehash()
        return self._digest

    def rehash(self) -> str:
        """The digest computed anew from the bytes, to find out whether somebody wrote into them."""
        return digest(["params", {name: tensor_digest(t) for name, t in self._tensors.items()}])

    def load(self) -> "Params":
        return self

    def replaced(self, tensors: Mapping[str, Tensor]) -> "Params":
        """These tensors with some exchanged or added."""
        return Params({**self._tensors, **tensors})


def params_of(module: nn.Module) -> Params:
    """A copy of a module's parameters and persistent buffers; tied tensors appear once."""
    state = module.state_dict(keep_vars=True)
    seen: set[int] = set()
    copied: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            copied[name] = tensor.detach().clone()
    return Params(copied)
