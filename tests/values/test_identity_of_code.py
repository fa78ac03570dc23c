"""What a user's own code is named by: a changed body, default, closure or constant counts."""

import textwrap
from typing import Any

import pytest

from tombola.errors import RecipeError
from tombola.values.digest import canonical, digest


def run(text: str, **globals_: Any) -> dict[str, Any]:
    """The names that a module of this text defines, as a notebook cell would: without a file."""
    names: dict[str, Any] = {"__name__": "mine", **globals_}
    exec(compile(textwrap.dedent(text), "<cell>", "exec"), names)
    return names


SCORE = """
    from dataclasses import dataclass
    @dataclass(frozen=True)
    class Score:
        {field}
        table = {table}
        def __call__(self, at, power={default}):
            {comment}
            return at ** power {sign} CONSTANT
    def helper(x):
        return x {helper} 1
    class Uses:
        def __call__(self, at):
            return helper(at)
"""
PLAIN = {
    "field": "rate: float = 1.0",
    "table": "[1, 2]",
    "default": "1",
    "comment": "pass",
    "sign": "+",
    "helper": "+",
}


def identities(constant: int = 3, **changes: str) -> tuple[str, str]:
    names = run(SCORE.format(**PLAIN | changes), CONSTANT=constant)
    return digest(names["Score"]()), digest(names["Uses"])


def test_the_same_text_compiled_twice_is_the_same() -> None:
    assert identities() == identities()


def test_a_comment_changes_nothing() -> None:
    assert identities(comment="pass  # a remark") == identities()


@pytest.mark.parametrize(
    "change",
    [
        {"sign": "-"},
        {"default": "-1"},
        {"table": "[1, 3]"},
        {"field": "rate: float = 2.0"},
        {"constant": 4},
    ],
)
def test_body_default_attribute_field_and_global_count(change: dict[str, Any]) -> None:
    assert identities(**change)[0] != identities()[0]


def test_a_function_of_the_same_module_counts() -> None:
    assert identities(helper="-")[1] != identities()[1]


def test_what_a_class_closes_over_counts() -> None:
    made = run("""
        def scaled(factor):
            class Scaled:
                def __call__(self, at):
                    return factor * at
            return Scaled
    """)["scaled"]
    assert digest(made(1.0)) == digest(made(1.0)) != digest(made(-1.0))


def test_functions_that_name_each_other_end() -> None:
    names = run("""
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n != 0 and even(n - 1)
    """)
    assert digest(names["even"]) != digest(names["odd"])


def test_a_closure_over_what_has_no_identity_is_refused() -> None:
    thing = object()
    with pytest.raises(RecipeError, match="cannot tell the identity of a object"):
        canonical(lambda: thing)


@pytest.mark.parametrize(
    "config",
    [
        "SimpleNamespace(rate={})",
        "Config(rate={})",
        "torch.tensor({})",
        "dict(rate={})",
    ],
)
def test_settings_kept_in_a_global_count(config: str) -> None:
    text = """
        import torch
        from dataclasses import dataclass
        from types import SimpleNamespace
        @dataclass
        class Config:
            rate: float
        CONFIG = {}
        def make():
            return CONFIG
    """
    made = [digest(run(text.format(config.format(rate)))["make"]) for rate in (0.1, 0.1, 0.2)]
    assert made[0] == made[1] != made[2]
