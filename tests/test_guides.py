"""Every snippet of the guides runs, and every command in them is one that can be given."""

import re
import shlex
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import tombola as tb
import tombola.cli  # which adds the commands to the application
from tombola.cli.app import app
from tombola.lookup import find_arms, find_judge, find_probe, find_recipe
from tombola.testing import toy_world
from tombola.world.catalogue import WORLDS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if path.name != "tutorial.md")
FENCES = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def two_layers(first: str, second: str) -> nn.Sequential:
    """6-12-3, its layers called so."""
    layers = {first: nn.Linear(6, 12), "relu": nn.ReLU(), second: nn.Linear(12, 3)}
    return nn.Sequential(OrderedDict(layers))


def stand_ins(text: str) -> dict[str, Any]:
    """What the snippets of a page speak of and do not make."""
    found: dict[str, Any] = {}
    if re.search(r"\bstudy[.,)]", text):
        found["study"] = tb.find(tb.recipes.ONESHOT, toy_world(), seeds=1, arms=("dense",))
    if "MyNet" in text:
        found["MyNet"] = partial(two_layers, "encoder", "decoder")
    if "digits_0_to_4" in text:
        found |= {name: toy_world(steps=120) for name in ("digits_0_to_4", "digits_5_to_9")}
    if "there, before." in text:
        there = toy_world(model=partial(two_layers, "body", "head"), thin=None)
        before = tb.find(tb.recipes.IMP, there, seeds=1, arms=("dense",))
        found |= {"there": there, "before": before}
    return found


def snippets(page: str) -> list[str]:
    """The Python of a page; what loads a shipped file is tested with it, in tests/out/ship."""
    blocks = FENCES.findall((DOCS / page).read_text())
    python = (text for language, text in blocks if language == "python")
    return [text for text in python if "my_ticket_compact" not in text]


# The guide to one's own networks is run, and looked at more closely, in test_guide.py.
@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p) and p != "prune-your-own.md"])
def test_the_snippets_of_a_guide_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = stand_ins("\n".join(snippets(page)))
    session = {"tb": tb, **made, "__name__": page.removesuffix(".md")}
    for snippet in snippets(page):
        exec(compile(snippet, page, "exec"), session)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for language, text in FENCES.findall((DOCS / page).read_text()):
            lines = text.splitlines() if language in ("", "sh", "console") else []
            found += [(page, line.removeprefix("$ ")) for line in lines]
    return [(page, line) for page, line in found if line.startswith("tombola ")]


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_of_a_guide_can_be_given(page: str, line: str) -> None:
    """Its options are there, and what it names is in the catalogue, or the reader's own."""
    words = shlex.split(line, comments=True)[1:]
    command, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    named = {name: str(value) for name, value in bound.arguments.items()}
    own = re.compile(r".*(:|\.safetensors)")
    recipe = named.get("recipe", "imp")
    assert own.match(recipe) or find_recipe(recipe)
    world = re.split(r"[,@]", named.get("on", "digits"))[0]
    assert own.match(world) or world in (*WORLDS, "lenet", "conv2")
    arms = bound.arguments.get("arms") or ""
    assert find_arms([arm for arm in arms.split(",") if arm and not own.match(arm)], 1) is not None
    if command.__name__ == "judge" and named.get("rule"):
        assert find_judge(named["rule"])
    if command.__name__ == "probe" and not own.match(named["probe"]):
        assert find_probe(named["probe"])
