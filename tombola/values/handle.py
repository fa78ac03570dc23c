"""What a recipe's loop holds of a result: its name at once, its content on demand."""

from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Handle(Protocol[T_co]):
    """`digest` names the content, `load()` fetches it. `Params` and `Mask` are their own."""

    @property
    def digest(self) -> str: ...

    def load(self) -> T_co: ...
