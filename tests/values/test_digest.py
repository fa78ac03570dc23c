"""Identity: every part counts, nothing else does, and it is the same in every process."""

import enum
import functools
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.errors import RecipeError
from tombola.pieces.allocation import ERK
from tombola.pieces.dynamics import RigL
from tombola.pieces.parametrisation.edge_popup import EdgePopup
from tombola.pieces.rewind import Stay, ToStep
from tombola.pieces.rule import ByScore
from tombola.pieces.schedule import Densities, LayerRates
from tombola.pieces.scope import Scope
from tombola.pieces.score import Magnitude, Random
from tombola.recipes.imp import IMP, IMP_REWIND, ONESHOT
from tombola.values.digest import canonical, canonical_bytes, digest, tensor_digest
from tombola.values.mask import FULL, Mask
from tombola.values.params import Params
from tombola.world.distillation import Distillation
from tombola.world.optimiser import SGD, Adam, AdamW, Cosine


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True, kw_only=True)
class Piece:
    number: float = 1.0
    label: str = field(default="a", metadata={"identity": False})


def plus(x: int, y: int = 1) -> int:
    return x + y


def plus_ten(x: int, y: int = 10) -> int:
    return x + y


def adder(n: int) -> Callable[[int], int]:
    return lambda x: x + n


DIFFERENT: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    1.0,
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    "",
    "1",
    "None",
    "True",
    [],
    [[]],
    [1],
    [1, 2],
    [2, 1],
    [[1], 2],
    {},
    {"a": 1},
    {"a": 2},
    {"b": 1},
    {"a": {"a": 1}},
    {1, 2, 3},
    Colour.RED,
    Colour.BLUE,
    Level.LOW,
    Piece,
    Piece(),
    Piece(number=2.0),
    plus,
    plus_ten,
    adder(1),
    adder(2),
    functools.partial(plus, 1),
    functools.partial(plus, 2),
    functools.partial(plus, y=1),
    functools.partial(plus_ten, 1),
    math.sqrt,
    math.sin,
    Params({}),
    FULL,
    torch.float32,
    torch.float64,
    torch.device("cpu"),
    torch.zeros(2),
    torch.tensor([0.0, -0.0]),
    torch.zeros(1, 2),
    torch.zeros(2, 1),
    torch.zeros(3),
    torch.zeros(2, dtype=torch.float64),
    torch.zeros(2, dtype=torch.int32),
    torch.zeros(()),
    torch.zeros(2, dtype=torch.bfloat16),
    torch.zeros(2, dtype=torch.float16),
    torch.zeros(0),
    torch.zeros(2, dtype=torch.bool),
    torch.tensor([math.nan, 0.0]),
    torch.zeros(0, 2),
]


def test_values_that_differ_have_digests_that_differ() -> None:
    assert len({digest(value) for value in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("value", DIFFERENT, ids=lambda value: type(value).__name__)
def test_the_canonical_form_is_json_and_the_same_each_time(value: Any) -> None:
    assert canonical_bytes(value) == canonical_bytes(value)
    assert len(digest(value)) == 64


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def frozen(value: Any) -> Any:
    """Another shape of the same value: tuples for lists, dictionaries filled backwards."""
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: frozen(value[key]) for key in reversed(value)}
    return value


@settings(deadline=None, max_examples=50)
@given(NESTED)
def test_equal_content_is_one_identity_whatever_holds_it(value: Any) -> None:
    assert digest(frozen(value)) == digest(value)
    assert digest([value]) != digest(value)


def test_every_byte_of_a_tensor_counts() -> None:
    tensor = torch.tensor([[1.5, -2.0], [0.0, 3.25]])
    seen = {tensor_digest(tensor)}
    for place in range(16):
        flipped = tensor.clone()
        flipped.view(torch.uint8).view(-1)[place] ^= 1
        seen.add(tensor_digest(flipped))
    assert len(seen) == 17


def test_how_a_tensor_lies_in_memory_does_not_count() -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    same = [
        tensor.t().contiguous().t(),
        torch.stack([tensor, tensor], dim=2)[..., 0],
        tensor.clone().requires_grad_(),
        torch.nn.Parameter(tensor),
    ]
    assert {tensor_digest(other) for other in same} == {tensor_digest(tensor)}


@pytest.mark.parametrize(
    ("piece", "changes"),
    [
        (
            IMP,
            {
                "loop": ONESHOT.loop,
                "rule": ByScore(score=Random()),
                "scope": Scope(exclude=("a",)),
                "schedule": LayerRates(rounds=3),
                "rewind": ToStep(step=1),
                "retrain": Distillation(),
                "parametrisation": EdgePopup(),
                "dynamics": RigL(),
            },
        ),
        (Adam(lr=0.1), {"lr": 0.2, "betas": (0.9, 0.99), "eps": 1e-7, "rate": Cosine()}),
        (
            AdamW(lr=0.1),
            {"lr": 0.2, "betas": (0.9, 0.99), "eps": 1e-7, "rate": Cosine(), "weight_decay": 0.0},
        ),
        (
            SGD(lr=0.1, momentum=0.9),
            {"lr": 0.2, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "rate": Cosine()},
        ),
        (ToStep(), {"step": 1}),
        (Stay(), {"retrain": 1}),
        (ByScore(score=Magnitude()), {"score": Random(), "allocation": ERK()}),
        (Densities(), {"values": (0.5,)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_field_counts_and_so_does_every_default(piece: Any, changes: dict[str, Any]) -> None:
    digests = {name: digest(replace(piece, **{name: value})) for name, value in changes.items()}
    assert len({digest(piece), *digests.values()}) == len(changes) + 1
    form = canonical(piece)["fields"]
    assert set(changes) == set(form)  # a new field must be added to this table
    for name in form:  # each default is spelled out, so that another default is another name
        assert form[name] == canonical(getattr(piece, name))


def test_names_and_sources_of_recipes_do_not_count() -> None:
    assert digest(replace(IMP, name="other", source="elsewhere")) == digest(IMP)
    assert digest(Piece(label="b")) == digest(Piece())
    assert len({digest(recipe) for recipe in (IMP, IMP_REWIND, ONESHOT)}) == 3


def test_an_own_digest_is_used() -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.digest = name

    assert digest(Named("x")) == digest(Named("x")) != digest(Named("y"))


@pytest.mark.parametrize(
    "value",
    [object(), iter([1]), math, complex(1, 2), np.zeros(2)],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_identity_is_refused_with_advice(value: Any) -> None:
    with pytest.raises(RecipeError, match=r"identity of a .*Use a frozen dataclass.*`digest`"):
        digest({"deep": [value]})


# -- the code of users ---------------------------------------------------------------------------


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A user's module with this text; each call is the module after another edit."""
    edits = iter(range(100))

    def load(text: str) -> ModuleType:
        path = tmp_path / str(next(edits)) / "mine.py"
        path.parent.mkdir()
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", module)
        spec.loader.exec_module(module)
        return module

    return load


SCORE = """
from dataclasses import dataclass

class Base:
    def size(self, x):
        return abs(x)

@dataclass(frozen=True)
class Mine(Base):
    power: float = 1.0
    def __call__(self, x):
        return self.size(x) ** self.power

STEP = 1
TABLE = {"a": (1, 2)}

def helper(x):
    return x * 3  # a comment

def mine(x):
    return helper(x) + STEP + TABLE["a"][0]

pair = (lambda x: x + 1), (lambda x: x + 2)
"""


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("Mine", "** self.power", "* self.power"),
        ("Mine", "power: float = 1.0", "power: float = 2.0"),
        ("Mine", "return abs(x)", "return -abs(x)"),  # in the class it builds on
        ("mine", "helper(x) +", "helper(x) -"),
        ("mine", "x * 3", "x * 4"),  # in what it calls
        ("mine", "STEP = 1", "STEP = 2"),  # in what it reads
        ("mine", "(1, 2)", "(2, 2)"),
    ],
)
def test_an_edit_of_a_users_code_is_another_identity(
    user_module: Callable[[str], ModuleType], what: str, old: str, new: str
) -> None:
    def identity(text: str) -> str:
        thing = getattr(user_module(text), what)
        return digest(thing() if what == "Mine" else thing)

    assert old in SCORE
    assert identity(SCORE) == identity(SCORE)
    assert identity(SCORE) != identity(SCORE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a comment", ""),
        ("STEP = 1", "\n\nSTEP = 1\nOTHER = 7"),
        ("pair =", "couple ="),
        ("x + 2", "x + 9"),
    ],
)
def test_an_edit_that_changes_nothing_is_none(
    user_module: Callable[[str], ModuleType], old: str, new: str
) -> None:
    before, after = user_module(SCORE), user_module(SCORE.replace(old, new))
    assert digest(before.mine) == digest(after.mine)
    assert digest(before.Mine()) == digest(after.Mine())


def test_two_lambdas_of_one_line_are_two(user_module: Callable[[str], ModuleType]) -> None:
    one, other = user_module(SCORE).pair
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + 1", "x + 2"),
        ("RATE = 1", "RATE = 2"),
        ("- 3", "- 4"),
        ("* 5", "* 6"),
        ("/ 7", "/ 8"),
        ('{"p", "q", "r"}', '{"p", "q", "s"}'),
    ],
)
def test_code_without_source_counts_by_what_it_was_compiled_to(old: str, new: str) -> None:
    """Classes of a notebook: Python finds no source text for them."""
    text = """class Mine:
    RATE = 1
    def __call__(self, x): return x + 1
    @staticmethod
    def fixed(x): return x - 3
    @classmethod
    def made(cls, x): return x * 5
    @property
    def part(self): return 9 / 7 if "p" in {"p", "q", "r"} else 0
"""

    def identity(source: str) -> str:
        names: dict[str, Any] = {"__name__": "notebook"}
        exec(source, names)
        return digest(names["Mine"])

    assert old in text
    assert identity(text) == identity(text)
    assert identity(text) != identity(text.replace(old, new))


def test_what_a_function_holds_counts() -> None:
    assert digest(adder(3)) == digest(adder(3)) != digest(adder(4))
    method = Piece(number=2.0).__eq__
    assert digest(method) != digest(Piece(number=3.0).__eq__)


SCRIPT = """
import functools, torch
from tombola.recipes import IMP, ONESHOT
from tombola.testing import toy_world
from tombola.values.digest import digest
from tombola.values.mask import FULL
from tombola.values.rng import derive, stream
names = {"__name__": "notebook"}
exec('class Own:\\n  def __call__(self, x): return x in {"a", "b", "c", "d", "e", "f", "g"}', names)
exec('def own(x): return x in {"a", "b", "c", "d", "e", "f", "g"}', names)
print(digest([IMP, ONESHOT, FULL, toy_world(), {"b", "a", "c"}, {"x": 1, "a": 2}, toy_world]))
print(digest(names["own"]))
print(digest(names["Own"]))
print(derive(3, "a", 4), torch.rand(2, generator=stream(0, "x")).tolist())
"""


def test_identities_and_draws_are_the_same_in_every_process() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            check=True,
            text=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": salt, "OMP_NUM_THREADS": "1"},
        ).stdout
        for salt in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 4


# -- pinned: these change only together with a version -------------------------------------------


def test_golden_digests() -> None:
    params = Params({"w": torch.tensor([[1.0, -0.0], [0.5, 2.0]]), "n": torch.tensor(3)})
    mask = Mask({"w": torch.tensor([[True, False], [True, True]])})
    assert digest(None) == "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"
    assert params.digest == "eea1f1adfeae81f1443fa844a2830603d34126676d0d28b76a18d116294a1964"
    assert mask.digest == "0723b14fc4ea9314db36f777f90e7dcfc338832fa9b1fa74686bd32eb5937d3a"
    assert FULL.digest == "c3b88a8e292f1a912ee3df39d689fd3487725c547a33ebfe8820336a4854e55c"
    rates = digest(LayerRates())
    assert rates == "06689feec79507cc2baf99e19756a72157beed11bbf5ff86eaeb56b938dd89a6"
    assert digest(IMP) == "d05b70cadd40d783a90914cc50d34aa7b93d426939c07b42e6b14e00f8ac41e6"


def test_the_canonical_bytes_of_a_recipe_are_pinned() -> None:
    assert canonical_bytes(IMP).decode() == (
        '{"fields":{"dynamics":{"fields":{},"type":"tombola.pieces.dynamics.dynamics.Static@1"},"'
        'loop":{"function":"tombola.recipes.recipe.iterate@1"},"parametrisation":{"fields":{},"ty'
        'pe":"tombola.pieces.parametrisation.parametrisation.Identity@1"},"retrain":null,"rewind"'
        ':{"fields":{"step":0},"type":"tombola.pieces.rewind.ToStep@1"},"rule":{"fields":{"alloca'
        'tion":{"fields":{},"type":"tombola.pieces.allocation.allocation.Global@1"},"score":{"fie'
        'lds":{"when":{"enum":"When.END"}},"type":"tombola.pieces.score.magnitude.Magnitude@1"}},'
        '"type":"tombola.pieces.rule.ByScore@1"},"schedule":{"fields":{"rounds":null},"type":"tom'
        'bola.pieces.schedule.layer_rates.LayerRates@1"},"scope":{"fields":{"exclude":[]},"type":'
        '"tombola.pieces.scope.Scope@1"}},"type":"tombola.recipes.recipe.Recipe@1"}'
    )
