"""Calls of the command line drawn at random, nearly all of them wrong, and what none may do."""

import hashlib
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pictures import write_folder
from safetensors.torch import load, save
from storms import Said, results, say, unsound

import tombola as tb

# -- the user's code -----------------------------------------------------------------------------

MODULE = "theirs"
TEXT = '''
from dataclasses import dataclass, replace
from math import inf, nan
from types import SimpleNamespace

import torch
from torch import nn

import tombola as tb
from tombola.recipes.recipe import Recipe, iterate

print("loading")  # must not reach stdout

x = torch.randn(160, 6, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
number, text, nothing = 3, "imp", None


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


recipe = tb.recipes.IMP


def world(**changes):
    fields = dict(model=net, train=(x[:80], y[:80]), test=(x[80:], y[80:]), steps=8,
                  batch_size=10, optimiser=tb.Adam(lr=.01), judged_density=.6, name="tiny")
    return tb.World(**{**fields, **changes})


def wants_more(a, b):
    return recipe


def raises():
    raise RuntimeError("not today")


def leaves():
    raise SystemExit(3)


@dataclass(frozen=True)
class Scored:
    """A score that gives something odd."""

    what: str
    needs = frozenset({tb.Need.TRAINED})

    def __call__(self, at, probe):
        good = {layer.name: at.end[layer.name].abs() for layer in at.layers}
        return {
            "none": None,
            "short": {name: v.reshape(-1)[:1] for name, v in good.items()},
            "nan": {name: v * nan for name, v in good.items()},
            "some": dict(list(good.items())[:1]),
            "lists": {name: v.tolist() for name, v in good.items()},
            "equal": {name: v * 0 for name, v in good.items()},
        }[self.what]


class NoScore:
    needs = frozenset()


def empty(recipe, world, seed):
    return ()
    yield


def yields(recipe, world, seed):
    yield 3


class Moody(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = net()

    def forward(self, inputs):
        if self.training:
            raise ValueError("no training, please")
        return self.inside(inputs)
'''


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NUMBERS = _words("0 1 2 -1 .5 1.5 1e-9 nan inf -inf 10**30 True")
OTHERS = _words("None 'x' () [] {} 3j b'' object() nn.ReLU len tb torch.ones(2) (1,) (.5,) ('x',)")
PIECES = _words("tb.Magnitude() tb.Random() tb.Adam(lr=.01) tb.Scaled() tb.Global() tb.ToStep()")
VALUES = (*NUMBERS, *OTHERS, *PIECES)
# Where an object of a public class goes, by the module it comes from.
PLACES_OF = {
    "pieces.schedule": "replace(recipe, schedule={})",
    "pieces.score": "replace(recipe, rule=tb.ByScore(score={}))",
    "pieces.allocation": "replace(recipe, rule=tb.ByScore(score=tb.Magnitude(), allocation={}))",
    "pieces.rule": "replace(recipe, rule={})",
    "pieces.restarting": "replace(recipe, rule={})",
    "pieces.rewind": "replace(recipe, rewind={})",
    "pieces.scope": "replace(recipe, scope={})",
    "pieces.parametrisation": "replace(recipe, parametrisation={})",
    "world.optimiser": "world(optimiser={})",
    "world.prepare": "world(prepare={})",
    "world.objective": "world(objective={})",
    "world.distillation": "replace(recipe, retrain={})",
    "world.numerics": "world(numerics={})",
}


def _objects() -> Iterator[str]:
    """An object of each public class of pieces, its required fields to be filled, and one more."""
    for name in tb.__all__:
        owner = getattr(tb, name)
        if not (isinstance(owner, type) and is_dataclass(owner)):
            continue
        place = PLACES_OF.get(".".join(owner.__module__.split(".")[1:3]))
        needed = [f.name for f in fields(owner) if f.default is f.default_factory is MISSING]
        for more in ("", *(f.name for f in fields(owner) if f.name not in needed)):
            filled = ", ".join(f"{field}={{}}" for field in (*needed, more) if field)
            if place is not None:
                yield place.format(f"tb.{name}({filled})")


def _slots(*templates: str, values: Sequence[str] = VALUES) -> st.SearchStrategy[str]:
    """A template with each {} filled by a value."""

    def filled(template: str) -> st.SearchStrategy[str]:
        slots = [st.sampled_from(values)] * template.count("{}")
        return st.tuples(*slots).map(lambda drawn: template.format(*drawn))

    return st.sampled_from(templates).flatmap(filled)


OBJECTS = tuple(_objects())
RECIPE_FIELDS = (*(field.name for field in fields(tb.Recipe)), "nonsense")
RECIPES = st.one_of(
    _slots(*(text for text in OBJECTS if "recipe" in text)),
    _slots(*(f"replace(recipe, {field}={{}})" for field in RECIPE_FIELDS), "Recipe({})"),
    _slots(
        "replace(recipe, schedule=tb.Densities(values=({}, {})))",
        "replace(tb.recipes.SNIP, schedule=tb.Densities(values=({},)))",
        "replace(tb.recipes.KD_TICKET, retrain=tb.Distillation(temperature={}))",
    ),
    _slots(
        "replace(recipe, rule=tb.ByScore(score={}))",
        values=(
            *(f"Scored({what!r})" for what in _words("none short nan some lists equal")),
            *("NoScore()", "lambda at, probe: None"),
        ),
    ),
    st.sampled_from(
        (
            *("recipe", "tb.recipes.ONESHOT", "tb.recipes.RIGL", "tb.recipes.EDGE_POPUP"),
            *("replace(recipe, loop=empty)", "replace(recipe, loop=yields)", "tb.recipes"),
            *("Recipe", "iterate", "world()", "[recipe]", "raises()", "leaves()", "1 / 0"),
        )
    ),
)
WORLD_FIELDS = (*(field.name for field in fields(tb.World)), "nonsense")
MODELS = (
    *("lambda: nn.Linear(5, 3)", "lambda: nn.Linear(6, 2)", "lambda: nn.Linear(6, 3)"),
    *("lambda: nn.LazyLinear(3)", "lambda: net().double()", "lambda: nn.BatchNorm1d(6)"),
    *("lambda net=net(): net", "net()", "Moody", "nn.Linear", "raises", "leaves", "wants_more"),
)
DATA_SETS = (
    *("(x[:3], y)", "(x, y.float())", "x", "(x, None)", "([1], [2])", "(x * nan, y)"),
    *("(x, y - 5)", "(x, y + 5)", "(x[:0], y[:0])", "(x.int(), y)", "(x.reshape(-1), y)"),
    *("(y, x)", "(x.double(), y)", "(x.half(), y)", "(x, y[:, None])", "(x[:1], y[:1])"),
    *("(x, y, y)", "((x, x), y)", "(x.to_sparse(), y)", "(x.bool(), y)", "iter(())"),
)
WORLDS = st.one_of(
    _slots(*(text for text in OBJECTS if "recipe" not in text)),
    _slots(*(f"world({field}={{}})" for field in WORLD_FIELDS)),
    _slots("world(rates=dict(linear={}))", "world(unpruned=({},))"),
    _slots("world(train=({}, y))", "world(train=(x, {}))"),
    _slots("world(model={})", values=MODELS),
    _slots(
        *(f"world({split}={{}})" for split in ("train", "test", "validation")), values=DATA_SETS
    ),
    st.sampled_from(("world()", "tb.World", "tb.worlds.digits", "recipe", "raises()", "leaves()")),
)

# -- what is typed -------------------------------------------------------------------------------

Words = st.SearchStrategy[str]
LETTERS = "aeimnprst0123456789-_.:,@ '\"$*?[]{}()=<>|&;~^%#!é中🎲\x1b\n\r\t"  # no slash: stays here
GARBAGE = st.text(LETTERS, max_size=12).filter(lambda text: ".." not in text)
ODD = "odd_module"  # stands for the module with the recipe and world that were drawn


@st.composite
def _mistyped(draw: st.DrawFn, names: tuple[str, ...]) -> str:
    """A name with a letter too many, too few, or another."""
    name, letter = draw(st.sampled_from(names)), draw(st.sampled_from(LETTERS[:40]))
    place = draw(st.integers(0, len(name)))
    rest = name[place + draw(st.integers(0, 1)) :]
    return name[:place] + draw(st.sampled_from(("", letter))) + rest


def _seldom(usual: Words, else_: Words, times: int = 8) -> Words:
    """Once in so many times something else."""
    return st.sampled_from(range(times)).flatmap(lambda n: usual if n else else_)


def _name(*right: str, wrong: tuple[str, ...] = ()) -> Words:
    """Mostly one of the right ones, else a wrong one, one mistyped, or no name at all."""
    others = (st.sampled_from(wrong),) if wrong else ()
    return _seldom(st.sampled_from(right), st.one_of(*others, _mistyped(right), GARBAGE))


NAMED = (
    *("number", "text", "nothing", "net", "wants_more", "raises", "leaves", "nowhere", ""),
    *("Scored", "tb", "x", "Moody", "recipe.name", "recipe", "world"),
)
THEIRS = (
    *(f"{MODULE}:{name}" for name in NAMED),
    *("nowhere:recipe", f"{MODULE}.py:recipe", MODULE, ":", "a:b:c", "os:getcwd", "json:loads"),
)
LONG = "n" * 300  # too long for the name of a file
ODD_NUMBERS = (
    "0",
    "-1",
    "-3",
    "0x2",
    "1_0",
    "1e1",
    "nan",
    "",
    " 2 ",
    "²",
    "two",
    "1.0",
    "9" * 5_000,
)
ODD_PLACES = (
    *("foreign", "torn", "newer", "file", "file/below", "", ".", "a b/é", "link", LONG),
    *("/proc/none", "/dev/null"),
)


def _number(*right: str) -> Words:
    return _name(*right, wrong=ODD_NUMBERS)


RECIPE = _seldom(st.just(f"{ODD}:odd_recipe"), _name("imp", "snip", "obs", "rigl", wrong=THEIRS), 2)
WORLD = _seldom(
    st.just(f"{MODULE}:world"),
    st.one_of(
        st.just(f"{ODD}:odd_world"),
        st.just(f"{ODD}:odd_world"),
        _name(
            "digits-short",
            "lenet@images",
            "conv2@images",
            wrong=("lenet@torn", "@", f"lenet@{LONG}", *THEIRS),
        ),
    ),
    2,
)
SEEDS = _number("1", "2", "2,5", "3,", "4,4", ",")
ARMS = _name(
    "dense", "dense,ticket", "dense,reinit,shuffle", "dense,oneshot", "dense,thin", "reinit"
)
RULE = _name("matching", "2019", wrong=("strict", "densities", *THEIRS[:3]))
STUDY = _name("latest", wrong=("", "0", "f" * 64, LONG))
PLACE = _name("new", "data", wrong=ODD_PLACES)
STORE = _name("store", wrong=("new", *ODD_PLACES))
DATA = _name("data", wrong=ODD_PLACES)
TICKET = _name(
    *("odd.safetensors", "odd.safetensors", "good.safetensors", "latest", "latest:shuffle"),
    *("latest:ticket:1:0", "latest:dense:0"),
    wrong=("file", "none.safetensors", "store", "latest:ticket:99", "latest:a:b:c:d", ":::", LONG),
)


@dataclass(frozen=True)
class Command:
    """How a command is called: words, options that are usual, and options that are not; None for
    one without a value."""

    words: str
    given: Words | None
    usual: dict[str, Words]
    rare: dict[str, Words | None]

    def calls(self) -> st.SearchStrategy[list[str]]:
        """The words of a call. Now and then one is left out, or there is one too many."""

        @st.composite
        def drawn(draw: st.DrawFn) -> list[str]:
            def once_in(times: int) -> bool:
                return draw(st.sampled_from(range(times))) == 0

            argv = self.words.split()
            given = [] if self.given is None else [draw(self.given)]
            argv += [] if once_in(30) else given
            argv += [draw(GARBAGE)] if once_in(30) else []
            names = [name for name in self.usual if not once_in(20)]
            names += draw(st.lists(st.sampled_from(sorted(self.rare)), max_size=2))
            for name in names:
                value = {**self.rare, **self.usual}[name]
                argv.append(f"{name}s" if once_in(40) else name)
                argv += [] if value is None or once_in(30) else [draw(value)]
            return argv

        return drawn()


BOTH: dict[str, Words | None] = {"--json": None, "--store": STORE}
ASKED: dict[str, Words | None] = {
    "--seeds": SEEDS,
    "--arms": ARMS,
    "--rule": RULE,
    "--controls-at": _name("judged", "all"),
    "--draws": _number("1", "2"),
    "--data": DATA,
    "--jobs": _number("1", "2"),
    **BOTH,
}
USUAL = {"--store": STORE}
FIND = Command(
    "find",
    RECIPE,
    {"--on": WORLD, "--seeds": _name("1", "2,5"), **USUAL},
    {
        **ASKED,
        "--quiet": None,
        "--track": _name("tensorboard:file", "none", "mlflow:nowhere:x", f"tensorboard:{LONG}"),
    },
)
SHIP = Command(
    "ship",
    TICKET,
    {"--to": _name("safetensors", "packed", "sparse", "ticket"), "--out": PLACE, **USUAL},
    {"--on": WORLD, "--untrained": None, "--seed": _number("0", "3"), "--data": DATA, **BOTH},
)
POWER: dict[str, Words | None] = {"--power": None, "--margin": _number("0.01", "0")}
PLAN = Command("plan", RECIPE, {"--on": WORLD, **USUAL}, {**ASKED, **POWER})
COMMANDS = (
    *(FIND, FIND, FIND, FIND, PLAN, PLAN, SHIP, SHIP),
    Command("judge", STUDY, USUAL, {"--rule": RULE, **BOTH}),
    Command("verify", STUDY, {"--sample": _number("0", "2"), **USUAL}, {"--data": DATA, **BOTH}),
    Command("report", STUDY, USUAL, {"--out": PLACE, "--open": None, **BOTH}),
    Command("ls", _name("recipes", "worlds", "rules", "arms"), {}, BOTH),
    Command("ls", None, USUAL, BOTH),
    Command(
        "gc",
        None,
        {"--unused-for": _number("0", "60"), **USUAL},
        {"--drop": STUDY, "--dry-run": None, "--yes": None, **BOTH},
    ),
    Command("data list", None, {"--data": DATA}, {"--json": None}),
    Command("data fetch", _name("mnist", "org/name", "a/b/c"), {"--data": DATA}, {"--json": None}),
    Command(
        "data import",
        _name("data/images", wrong=("torn.zip", "data/torn", *ODD_PLACES)),
        {"--data": DATA, "--as": _name("mine", wrong=("a/b", "images"))},
        {"--size": _number("2", "8"), "--label": GARBAGE, "--json": None},
    ),
)


# -- tickets -------------------------------------------------------------------------------------

FACTS = (
    "schema",
    "start_step",
    "seed",
    "round",
    "density",
    "lineage",
    "basis",
    "recipe",
    "nonsense",
)
JSON = (
    "null",
    "1",
    "-1",
    "2",
    "99",
    "1.5",
    "{}",
    "[]",
    '"x"',
    "true",
    "",
    "{",
    "NaN",
    '{"init": 3}',
    "1e999",
)


@st.composite
def _ticket(draw: st.DrawFn, good: bytes) -> bytes:
    """A ticket file cut short, with a bit flipped, or with other facts or tensors in it."""
    kind = draw(st.sampled_from(("good", "cut", "flipped", "facts", "tensors", "bytes")))
    place = draw(st.integers(0, len(good) - 1))
    match kind:
        case "cut":
            return good[:place]
        case "flipped":
            flipped = good[place] ^ 1 << draw(st.integers(0, 7))
            return good[:place] + bytes([flipped]) + good[place + 1 :]
        case "bytes":
            return draw(st.binary(max_size=60))
    head = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])
    facts, tensors = head["__metadata__"], load(good)
    if kind == "facts":
        name = f"tombola.{draw(st.sampled_from(FACTS))}"
        facts = {**facts, name: draw(st.sampled_from(JSON))}
        if draw(st.booleans()):
            facts.pop(name)
    if kind == "tensors":
        name = draw(st.sampled_from(sorted(tensors)))
        tensor = tensors.pop(name)
        if draw(st.booleans()):
            other = draw(
                st.sampled_from((torch.ones(2), tensor.double(), tensor.reshape(-1), ~(tensor > 0)))
            )
            tensors[draw(st.sampled_from((name, "mask/nowhere", "init/0.weight", "x")))] = other
    return save(tensors, facts)


# -- a call and what comes of it -----------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A command line; the recipe and world it names, in Python; the ticket file it names."""

    argv: tuple[str, ...]
    recipe: str = "recipe"
    world: str = "world()"
    ticket: bytes = b""

    def __str__(self) -> str:
        theirs = f"  # {self.recipe} on {self.world}" if any(ODD in w for w in self.argv) else ""
        ticket = f"  # {self.ticket!r}" if "odd.safetensors" in self.argv else ""
        return f"tombola {shlex.join(self.argv)}{theirs}{ticket}"


def calls(good: bytes) -> st.SearchStrategy[Call]:
    """Calls of every command. good: a ticket file."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Call:
        argv = draw(draw(st.sampled_from(COMMANDS)).calls())
        call = Call(tuple(argv))
        if f"{ODD}:odd_recipe" in argv:
            call = replace(call, recipe=draw(RECIPES))
        if f"{ODD}:odd_world" in argv:
            call = replace(call, world=draw(WORLDS))
        if "odd.safetensors" in argv:
            call = replace(call, ticket=draw(_ticket(good)))
        return call

    return drawn()


def drawn_calls(good: bytes, number: int, first_seed: int) -> list[Call]:
    """So many calls, each another: in batches, since within one many are much alike."""
    found: dict[Call, None] = {}
    for batch in itertools.count():
        if len(found) >= number:
            return list(found)[:number]

        @seed(first_seed + batch)
        @settings(
            max_examples=BATCH,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(calls(good))
        def draw(call: Call) -> None:
            found[call] = None

        draw()
    raise AssertionError("unreachable")


class Sandbox:
    """A folder with a user's module, a store with a study, tickets, images, and things that are
    none of these; the current directory from then on, and importable."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.saved = folder / "here", folder / "saved"
        self.folder.mkdir()
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        Path(f"{MODULE}.py").write_text(TEXT)
        self._settle("find", "imp", "--on", f"{MODULE}:world", "--seeds", "1", "--jobs", "1")
        self._settle("ship", "latest", "--to", "ticket")
        shutil.rmtree("store/reports")  # large
        next(Path().glob("*.ticket.safetensors")).rename("good.safetensors")
        self.good = Path("good.safetensors").read_bytes()
        Path("file").write_text("a file")
        Path("link").symlink_to("nowhere")
        Path("foreign").mkdir()
        Path("foreign/thesis.tex").write_text("precious")
        for name, head in (("torn", '{"format": "tomb'), ("newer", NEWER)):
            Path(name).mkdir()
            Path(name, "format.json").write_text(head)
        for part, many in (("train", 40), ("test", 4)):
            classes = {"a": range(many), "b": range(50, 50 + many)}
            write_folder(Path("data/images", part), classes, width=8, height=8)
        shutil.copytree("data/images", "data/torn")
        next(Path("data/torn").rglob("*.png")).write_bytes(b"PNG")
        Path("torn.zip").write_bytes(b"PK")
        shutil.copytree(self.folder, self.saved, symlinks=True)
        self.before, self.known = self.contents(), results(Path("store"))

    def _settle(self, *argv: str) -> None:
        said = say(*argv, "--store", "store")
        assert said.status == 0, said.err

    def contents(self) -> dict[str, bytes | None]:
        """Every file, folder and link by name, less what Python itself writes and odd modules."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
            if "__pycache__" not in path.parts and not path.name.startswith(ODD)
        }

    def prepare(self, call: Call) -> list[str]:
        """The words of a call, with what it names in its place."""
        text = (
            f"from {MODULE} import *\n\n\ndef odd_recipe():\n    return {call.recipe}\n\n\n"
            f"def odd_world():\n    return {call.world}\n"
        )
        name = f"{ODD}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        (self.folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        (self.folder / "odd.safetensors").write_bytes(call.ticket)
        self.before["odd.safetensors"] = call.ticket
        return [word.replace(ODD, name) for word in call.argv]

    def wrong(self, call: Call) -> tuple[int, list[str]]:
        """Make a call; its exit status, and what ought not to have happened. Then all is as it
        was."""
        argv = self.prepare(call)
        with quick():
            said = say(*argv)
        after = self.contents()
        wrong = self._wrong_words(argv, said)
        if said.status == 2 and after != self.before:
            wrong.append(f"exit status 2, but {_changes(self.before, after)} changed")
        if after != self.before:
            wrong += [f"half-written: {name}" for name in after if HALF_WRITTEN.search(name)]
            for store in (path.parent for path in self.folder.rglob("format.json")):
                wrong += unsound(store) if store.name not in ("torn", "newer") else []
            if "gc" not in argv[:1]:
                kept = results(self.folder / "store")
                wrong += [
                    f"{key} changed" for key in self.known if kept.get(key) != self.known[key]
                ]
            self.restore()
        for path in self.folder.glob(f"{ODD}_*.py"):
            sys.modules.pop(path.stem, None)
            path.unlink()
        return said.status, [f"{call}\n    {what}" for what in wrong]

    def restore(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.saved, self.folder, symlinks=True, dirs_exist_ok=True)

    def _wrong_words(self, argv: list[str], said: Said) -> list[str]:
        wrong = []
        if said.status not in (0, 1, 2):
            return [f"exit status {said.status}: {said.err}"]
        if "Traceback" in said.err:  # of the user's own code, and then of nothing else
            frames = [line for line in said.err.splitlines() if line.startswith('  File "')]
            if not frames or not all(f'"{self.folder}' in frame for frame in frames):
                wrong.append(f"a traceback: {said.err}")
        if said.status and not said.err.strip():
            wrong.append(f"exit status {said.status} without a word")
        if said.status == 2 and said.out:
            wrong.append(f"exit status 2, but printed {said.out[:200]}")
        if said.status == 0 and "--json" in argv and "--help" not in argv:
            try:
                json.loads(said.out)
            except ValueError:
                wrong.append(f"not one JSON document: {said.out[:200]}")
        return wrong


BATCH = 25
HALF_WRITTEN = re.compile(r"\.\d+\.([0-9a-f]{8}|part)$")
NEWER = '{"format": "tombola-store", "schema": 99}'


def _changes(before: dict[str, bytes | None], after: dict[str, bytes | None]) -> list[str]:
    return sorted(name for name in before | after if before.get(name, 0) != after.get(name, 0))[:5]


@contextmanager
def quick() -> Iterator[None]:
    """Nothing that would take long is started, nothing is fetched, no browser is opened; sets of
    images are those of the current directory."""
    with (
        patch.dict("os.environ", TOMBOLA_DATA="data"),
        patch("tombola.cli.find.ASK_ABOVE", 2.0),
        patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),
        patch("webbrowser.open", return_value=False),
    ):
        yield
