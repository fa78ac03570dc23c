"""Which of the prunable tensors a recipe may cut."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from tombola.errors import RecipeError
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Scope:
    """All weights of linear, convolution, attention and recurrent layers, less those in `exclude`.

    `exclude` takes tensor names or shell patterns (`"head.*"`). Biases, normalisation, embeddings
    and frozen tensors are never prunable (the world's list leaves them out).

    Raises:
        RecipeError: a pattern that excludes nothing, or a scope with nothing left.
    """

    exclude: tuple[str, ...] = ()

    def select(self, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        names = [layer.name for layer in layers]
        for pattern in self.exclude:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise RecipeError(
                    f"Scope(exclude={pattern!r}) matches no prunable tensor; there are {names}."
                )
        chosen = tuple(
            layer for layer in layers if not any(fnmatchcase(layer.name, p) for p in self.exclude)
        )
        if not chosen:
            raise RecipeError(f"Scope(exclude={self.exclude}) leaves nothing of {names} to cut.")
        return chosen
