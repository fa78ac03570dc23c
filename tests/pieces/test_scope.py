"""What a recipe may cut."""

import pytest

from tombola.errors import RecipeError
from tombola.pieces.scope import Scope
from tombola.values.layer import Layer

NAMES = ("body.0.weight", "body.1.weight", "head.weight", "Head.weight")
LAYERS = tuple(Layer(name=name, shape=(2,), kind="linear", rate=0.8) for name in NAMES)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ((), (0, 1, 2, 3)),
        (("head.weight",), (0, 1, 3)),  # the case of letters counts
        (("head.*", "body.1.weight"), (0, 3)),
        (("body.[01].weight",), (2, 3)),
        (("*ead*", "body.0*"), (1,)),
    ],
)
def test_names_and_patterns_leave_tensors_out(
    exclude: tuple[str, ...], left: tuple[int, ...]
) -> None:
    assert Scope(exclude=exclude).select(LAYERS) == tuple(LAYERS[i] for i in left)


def test_a_pattern_that_matches_nothing_is_a_mistake() -> None:
    wanted = r"'tail\.\*'\) matches no prunable tensor; there are .*body"
    with pytest.raises(RecipeError, match=wanted):
        Scope(exclude=("head.*", "tail.*")).select(LAYERS)


def test_a_scope_with_nothing_left_is_a_mistake() -> None:
    with pytest.raises(RecipeError, match=r"leaves nothing of .*body.0.weight.* to cut"):
        Scope(exclude=("*",)).select(LAYERS)
