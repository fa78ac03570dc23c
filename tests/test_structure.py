"""What the package promises about its own shape: names, docstrings, words, and who imports what."""

import ast
import importlib
import io
import os
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import tombola

ROOT = Path(tombola.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
LISTED = [str(path.relative_to(ROOT)) for path in SOURCES]


def run(script: str) -> str:
    """What a script prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        text=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", tombola.__all__)
def test_public_names_resolve_and_say_what_they_are(name: str) -> None:
    thing = getattr(tombola, name)
    text = thing.__doc__ if not isinstance(thing, str) else "a version"
    assert text
    assert len(text.split()) > 1 or name == "__version__"
    assert not text.startswith(f"{name}(")  # what dataclasses write by themselves


def test_public_names_are_listed_once_and_no_other_resolves() -> None:
    assert len(set(tombola.__all__)) == len(tombola.__all__)
    assert dir(tombola) == sorted(tombola.__all__)
    with pytest.raises(AttributeError, match="no attribute 'prune'"):
        tombola.prune  # noqa: B018


@pytest.mark.parametrize("path", SOURCES, ids=LISTED)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text is not None
    first = text.splitlines()[0]
    assert len(first.split()) >= 3
    assert first.endswith((".", "?", ":", ";", ",")) or len(text.splitlines()) > 1


@pytest.mark.parametrize("path", SOURCES, ids=LISTED)
def test_every_public_function_and_class_of_a_module_has_a_docstring(path: Path) -> None:
    """Methods that a protocol of the same layer documents need none; functions and classes do."""
    nodes = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in nodes if not ast.get_docstring(node)] == []


def names_in(path: Path) -> list[tuple[int, str, str]]:
    """Every name of a source, with its line and what stands before it."""
    tokens = [
        t
        for t in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if t.type in (tokenize.NAME, tokenize.OP)
    ]
    found = []
    for place, token in enumerate(tokens):
        before = "".join(t.string for t in tokens[max(0, place - 2) : place])
        if token.type == tokenize.NAME:
            found.append((token.start[0], token.string, before))
    return found


def test_one_word_for_one_quantity() -> None:
    """`density` is the fraction kept; no name says the opposite, or less than it holds."""
    found = []
    for path in SOURCES:
        assert "prune_rate" not in path.read_text(), path
        assert not {"utils", "helpers", "misc", "common"} & set(path.relative_to(ROOT).parts), path
        for line, name, before in names_in(path):
            if name in ("sparsity", "utils", "pruning_rate", "prune_ratio") and before != "torch.":
                found.append(f"{path.name}:{line}: {name}")
    assert found == []


def test_nobody_seeds_globally_or_unpickles() -> None:
    """Outside `values/rng.py` nothing seeds, and nothing reads a pickle."""
    found = []
    for path in SOURCES:
        for line, name, before in names_in(path):
            seeds = name in ("manual_seed", "manual_seed_all") and path.name != "rng.py"
            if seeds or name in ("pickle", "cPickle") or (name == "load" and before == "torch."):
                found.append(f"{path.name}:{line}: {name}")
    assert found == []


def test_importing_the_package_waits_for_nothing_heavy() -> None:
    script = (
        "import sys, tombola; import tombola.errors; {}\n"
        "print(sorted({{'torch', 'numpy', 'scipy', 'sklearn', 'plotly'}} & set(sys.modules)))"
    )
    assert run(script.format("dir(tombola)")) == "[]"
    if (ROOT / "cli.py").exists() or (ROOT / "cli").exists():
        assert run(script.format("import tombola.cli")) == "[]"


BLOCKED = """
import importlib, sys
blocked = {"scipy", "sklearn", "pydantic", "cyclopts", "rich", "plotly"}
class Blinkered:  # does not see those, as if they were not installed
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Blinkered, sys.meta_path)
for name in ["tombola.recipes.imp", "tombola.recipes", "tombola.testing", "tombola.lab.runner",
             "tombola.lab.store", "tombola.lab.engines.processes", "tombola.lab.engines.inline"]:
    importlib.import_module(name)
from tombola.testing import check_recipe
from tombola.recipes import ONESHOT
check_recipe(ONESHOT)
print("done", sorted(blocked & {name.partition(".")[0] for name in sys.modules}))
"""


def test_below_the_verdict_torch_numpy_and_safetensors_are_enough() -> None:
    assert run(BLOCKED) == "done []"


def test_every_module_can_be_imported() -> None:
    for path in SOURCES:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        importlib.import_module(".".join(part for part in parts if part != "__init__"))
