"""From what a user types to the thing meant: a catalogue name, or `package.module:NAME`.

Imports of everything heavy wait until something is looked up.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tombola.errors import CallError, TombolaError
from tombola.out.frames import printed, users_part

if TYPE_CHECKING:
    from tombola.lab.ladder import Ladder
    from tombola.lab.probe import Probe
    from tombola.lab.strict import Strict
    from tombola.lab.verdict import Rule
    from tombola.recipes.controls import Control
    from tombola.recipes.recipe import Recipe
    from tombola.world.world import World

T = TypeVar("T")
VARIED = re.compile(r"(?P<world>.+?)(?P<changes>(,(lr|steps|activations)=[^,]*)+)")
MOST_DRAWS = 1_000  # of a control for each seed


def find_recipe(text: str) -> "Recipe":
    """A recipe by its name in the catalogue, or as `module:NAME`.

    Raises:
        CallError: no such name, module or object, or it is something else.
    """
    from tombola.recipes.catalogue import RECIPES
    from tombola.recipes.recipe import Recipe

    if text in RECIPES:
        text = RECIPES[text]
    recipe: Recipe = _given("recipe", text, RECIPES, lambda found: isinstance(found, Recipe))
    return recipe


def find_world(text: str, data: Path | None = None) -> "World":
    """A world by its name in the catalogue, as `NETWORK@IMAGES`, or as `module:NAME`; a function
    that makes one is called, with `data` if it takes that argument. At another learning rate or
    length with `,lr=0.01` or `,steps=4000` after it, and with `,activations=binary`.

    Raises:
        CallError: no such name, module or object, or it is something else.
        WorldError: the world cannot be used, or its data is not there.
    """
    from tombola.world.catalogue import WORLDS
    from tombola.world.world import World

    varied = VARIED.fullmatch(text)
    if varied:
        return _varied(text, varied["world"], varied["changes"], data)
    if text in WORLDS:
        return WORLDS[text](data)
    if "@" in text:
        return _on_images(text, data)
    world: World = _given("world", text, WORLDS, lambda w: isinstance(w, World), data=data)
    return world


def _varied(text: str, base: str, changes: str, data: Path | None) -> "World":
    """A world at another learning rate or length, or with binary activations."""
    from tombola.recipes.worlds import varied
    from tombola.world.binary import binarised

    lr, steps, binary = None, None, False
    for change in changes.removeprefix(",").split(","):
        name, _, value = change.partition("=")
        try:
            if name == "lr" and lr is None:
                lr = float(value)
                continue
            if name == "steps" and steps is None and int(value) > 0:
                steps = int(value)
                continue
            if name == "activations" and not binary and value == "binary":
                binary = True
                continue
        except ValueError:
            pass
        raise CallError(
            f"world {text!r}: got {change!r}; want after the world at most one lr=NUMBER, one "
            "steps=NUMBER and activations=binary, such as digits,lr=0.01,steps=4000."
        )
    found = varied(find_world(base, data), lr=lr, steps=steps)
    return binarised(found) if binary else found


def _on_images(text: str, data: Path | None) -> "World":
    """A network of the 2019 paper on a set of images: `conv2@flowers`, `lenet@./photos`."""
    from tombola.world.data.images import images
    from tombola.world.networks import NETWORKS

    name, _, of = text.partition("@")
    if name not in NETWORKS:
        raise no_such("network", name, NETWORKS, f"; want one of them before the @ of {text}")
    if not of:
        raise CallError(f"world {text!r}: want a set of images after the @, by name or path.")
    return NETWORKS[name](images(of, data), text)


def find_rule(text: str) -> "Rule":
    """A rule by its name, or as `module:NAME`.

    Raises:
        CallError: no such rule, or one that is for finished studies alone.
    """
    from tombola.lab.ladder import LADDERS
    from tombola.lab.strict import STRICTS
    from tombola.lab.verdict import RULES, Rule

    if text in STRICTS or text in LADDERS:
        several = "STUDY STUDY .." if text in STRICTS else "STUDY"
        raise CallError(
            f"rule {text!r} is for finished studies; make them under another rule, then "
            f"`tombola judge {several} --rule {text}`."
        )

    if text in RULES:
        return RULES[text]
    rule: Rule = _given("rule", text, RULES, lambda found: isinstance(found, Rule))
    return rule


def find_judge(text: str) -> "Rule | Strict | Ladder":
    """What finished studies can be judged by: a rule, one about densities, or a strict one."""
    from tombola.lab.ladder import LADDERS, Ladder
    from tombola.lab.strict import STRICTS, Strict
    from tombola.lab.verdict import RULES, Rule

    known: dict[str, Rule | Strict | Ladder] = {**RULES, **LADDERS, **STRICTS}
    if text in known:
        return known[text]
    found: Rule | Strict | Ladder = _given(
        "rule", text, known, lambda found: isinstance(found, (Rule, Strict, Ladder))
    )
    return found


def find_probe(text: str) -> "Probe":
    """A probe by its name in the catalogue, or as `module:NAME`."""
    from tombola.lab.probe import Probe
    from tombola.lab.probe.catalogue import PROBES
    from tombola.pieces.kind import not_a

    if text in PROBES:
        text = PROBES[text]
    probe: Probe = _given("probe", text, PROBES, lambda found: not_a(Probe, found) is None)
    return probe


def find_arms(texts: Sequence[str], draws: int) -> "list[str | Control | Recipe]":
    """Controls and recipes to compare with, by name or as `module:NAME`.

    draws: how often `reinit` is drawn for each seed, and `reinit-longer`.
    """
    from tombola.lab.verdict import TICKET
    from tombola.recipes.catalogue import RECIPES
    from tombola.recipes.controls import CONTROLS, Longer, Reinit

    if not 1 <= draws <= MOST_DRAWS:
        raise CallError(
            f"--draws {draws}: want how often a seed draws reinit, 1 to {MOST_DRAWS:,}."
        )
    drawn = {arm.name: arm for arm in (Reinit(draws=draws), Longer(of=Reinit(draws=draws)))}
    if draws > 1 and not set(texts) & set(drawn):
        raise CallError(f"--draws {draws} is about the arm reinit, which is not among --arms.")
    found: list[str | Control | Recipe] = []
    for text in texts:
        if text in drawn:
            found.append(drawn[text])
        elif text == TICKET or text in CONTROLS:
            found.append(text)
        elif text in RECIPES:
            found.append(find_recipe(text))
        else:
            found.append(_given("arm", text, (TICKET, *CONTROLS, *RECIPES), _is_an_arm))
    names = [arm if isinstance(arm, str) else arm.name for arm in found]
    for name in names:
        if names.count(name) > 1:
            raise CallError(f"--arms {','.join(texts)}: two arms are named {name!r}.")
    return found


def catalogue(kind: str) -> dict[str, str]:
    """Name and summary of each of the recipes, worlds, probes, rules or arms."""
    if kind == "recipes":
        from tombola.recipes.catalogue import RECIPES

        return {name: find_recipe(name).source for name in RECIPES}
    if kind == "worlds":
        from tombola.world.catalogue import WORLDS

        return {name: make.summary for name, make in WORLDS.items()}
    if kind == "probes":
        from tombola.lab.probe.catalogue import PROBES

        return {name: find_probe(name).summary for name in PROBES}
    if kind == "rules":
        from tombola.lab.ladder import LADDERS
        from tombola.lab.strict import STRICTS
        from tombola.lab.verdict import RULES

        single = {name: rule.summary for name, rule in RULES.items()}
        along = {name: ladder.summary for name, ladder in LADDERS.items()}
        return {**single, **along, **{name: rule.summary for name, rule in STRICTS.items()}}
    from tombola.recipes.controls import CONTROLS

    controls = {name: control.summary for name, control in CONTROLS.items()}
    return {"ticket": "what the recipe finds; always there", **controls}


def no_such(kind: str, text: str, known: Iterable[str], more: str = "") -> CallError:
    """The error for an unknown name: near matches, then all there are."""
    names = list(known)
    near = difflib.get_close_matches(text, names, n=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return CallError(f"no {kind} {text!r}.{hint} There are {', '.join(names)}{more}.")


def _is_an_arm(found: Any) -> bool:
    from tombola.recipes.recipe import Recipe

    parts = ("name", "summary", "claims", "sets", "beside", "trainings", "amiss")
    control = all(hasattr(found, part) for part in parts)
    return isinstance(found, Recipe) or (control and not isinstance(found, type))


def _given(
    kind: str,
    text: str,
    catalogue: Iterable[str],
    fits: Callable[[Any], bool],
    **offered: Any,
) -> Any:
    """The object that `module:NAME` stands for, or that the function there returns.

    offered: arguments a function is passed if it takes them.
    """
    module_name, colon, name = text.partition(":")
    if not colon:
        raise no_such(kind, text, catalogue, f"; or name your own as package.module:{kind.upper()}")
    parts = [*module_name.split("."), name]
    if not all(part.isidentifier() for part in parts) or module_name.endswith(".py"):
        raise CallError(
            f"{kind} {text!r}: want package.module:NAME, as you would import it, not "
            "the name of a file."
        )
    found = _attribute(kind, text, _module(kind, text, module_name), name, fits)
    if fits(found):
        return found
    if isinstance(found, type) or not callable(found):
        raise CallError(f"{text} is {_a(found)}; want a {kind}, or a function that returns one.")
    made = _called(kind, text, found, offered)
    if not fits(made):
        raise CallError(f"{text}() returned {_a(made)}; want a {kind}.")
    return made


def _module(kind: str, text: str, name: str) -> Any:
    try:
        return _users_code(f"{kind} {text}: importing {name}", importlib.import_module, name)
    except CallError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{name}.".startswith(f"{missing.name}."):
            raise CallError(
                f"{kind} {text!r}: there is no module {missing.name!r}, neither in {Path.cwd()} "
                "nor installed."
            ) from missing
        raise


def _attribute(kind: str, text: str, module: Any, name: str, fits: Callable[[Any], bool]) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    names = [n for n, value in vars(module).items() if fits(value) or inspect.isfunction(value)]
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise CallError(
        f"{kind} {text!r}: module {module.__name__} ({module.__file__}) has no {name!r}.{hint}"
    )


def _called(kind: str, text: str, function: Callable[..., T], offered: dict[str, Any]) -> T:
    try:
        wanted = inspect.signature(function).parameters
        taken = {name: value for name, value in offered.items() if name in wanted}
        inspect.signature(function).bind(**taken)
    except (TypeError, ValueError) as error:
        allowed = f" other than {', '.join(offered)}" if offered else ""
        raise CallError(
            f"{text} is a function that cannot be called without arguments{allowed} "
            f"({error}); want a {kind}, or a function that returns one."
        ) from error
    return _users_code(f"{kind} {text}: calling it", function, **taken)


def _users_code(doing: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run what the user wrote; what goes wrong in it is shown with the user's frames."""
    try:
        return function(*args, **kwargs)
    except TombolaError:
        raise
    except (Exception, SystemExit) as error:
        text = printed(error)
        raise CallError(f"{doing} failed:\n{users_part(text) or text}".rstrip()) from error


def _a(found: Any) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    name = type(found).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
