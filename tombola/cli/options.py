"""Options that several commands share, and what they stand for."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tombola.errors import CallError, StoreError, TombolaError
from tombola.out.frames import printed, users_part

if TYPE_CHECKING:
    from tombola.lab.question import Question
    from tombola.lab.store import Store

StoreOption = Annotated[
    Path | None, Parameter(help="Folder of finished work. Default: $TOMBOLA_STORE, else .tombola.")
]
DataOption = Annotated[
    Path | None,
    Parameter(help="Folder of data sets. Default: $TOMBOLA_DATA, else the user's cache."),
]
JsonOption = Annotated[
    bool, Parameter(name="--json", help="Print one JSON document and nothing else.")
]
RecipeName = Annotated[
    str,
    Parameter(
        help="A recipe of the catalogue (tombola ls recipes), or yours as package.module:NAME."
    ),
]
StudyName = Annotated[str, Parameter(help="The first digits of a study, or latest.")]
MinutesOption = Annotated[
    float | None,
    Parameter(
        help="How long all of it may take: trainings get as many steps as fit, at most the world's."
    ),
]
JobsOption = Annotated[int | None, Parameter(help="Processes at once. Default: one for each core.")]
WORLD_HELP = (
    "A world of the catalogue (tombola ls worlds); NETWORK@IMAGES, as conv2@flowers or "
    "lenet@./photos, for images of yours (tombola data list); or yours as package.module:NAME."
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options that say what a study is."""

    on: Annotated[str, Parameter(help=WORLD_HELP)]
    seeds: Annotated[
        str,
        Parameter(help="How many, or which: 0,3,7 (and 4, for seed 4 alone).", show_default=True),
    ] = "5"
    arms: Annotated[
        str,
        Parameter(
            help="What to train and compare: controls (tombola ls arms), and other recipes.",
            show_default=True,
        ),
    ] = "dense,ticket,reinit,shuffle"
    rule: Annotated[
        str, Parameter(help="What it takes to win (tombola ls rules).", show_default=True)
    ] = "matching"
    controls_at: Annotated[
        Literal["judged", "all"],
        Parameter(
            help="Train controls at the judged round and two others, or at all.", show_default=True
        ),
    ] = "judged"
    draws: Annotated[
        int, Parameter(help="Draws of reinit for each seed; they are averaged.", show_default=True)
    ] = 1
    data: DataOption = None

    def question(self, recipe: str) -> "Question":
        """The study asked for, checked; nothing is written.

        Raises:
            TombolaError: anything of it is wrong.
        """
        from tombola.lab.question import Question, seeds_of
        from tombola.lab.study import arms_of
        from tombola.lookup import find_arms, find_recipe, find_rule, find_world

        found, rule = find_recipe(recipe), find_rule(self.rule)
        arms = find_arms(self.arms.split(","), self.draws)
        seeds = seeds_of(seeds_in(self.seeds))
        return Question(
            recipe=found,
            world=find_world(self.on, self.data),
            seeds=seeds,
            arms=arms_of(arms),
            rule=rule,
            controls_at=self.controls_at,
        )

    def names(self, recipe: str) -> dict[str, Any]:
        """What `verify` needs to ask the same again."""
        return {
            "recipe": recipe,
            "world": self.on,
            "rule": self.rule,
            "arms": self.arms.split(","),
            "controls_at": self.controls_at,
            "draws": self.draws,
            "data": None if self.data is None else str(self.data.resolve()),
        }


def seeds_in(text: str) -> int | list[int]:
    """A number of seeds, or the seeds themselves.

    >>> seeds_in("5"), seeds_in("0,3,7"), seeds_in("4,")
    (5, [0, 3, 7], [4])
    """
    try:
        if "," not in text:
            return int(text)
        return [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise CallError(
            f"--seeds {text}: want a number of seeds such as 5, or a list of them such as 0,3,7."
        ) from None


def cores() -> int:
    """How many processes this one may run side by side."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def begin_work() -> None:
    """One torch thread, set before anything is computed, since jobs are forked; and what lies in
    the current directory can be named."""
    import torch

    torch.set_num_threads(1)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def store_folder(given: Path | None) -> Path:
    return given or Path(os.environ.get("TOMBOLA_STORE") or ".tombola")


def store_to_read(given: Path | None) -> "Store":
    """A store that must be there already."""
    from tombola.lab.store import Store

    folder = store_folder(given)
    found = Store(folder, create=False)
    if not folder.exists():
        raise StoreError(
            f"there is no store {folder}. `tombola find` makes one; name another with "
            "--store or $TOMBOLA_STORE."
        )
    return found


def question_and_plan(
    recipe: str,
    asked: Asked,
    jobs: int | None,
    store: Path | None,
    minutes: float | None = None,
) -> "tuple[Asked, Question, dict[str, Any]]":
    """The whole call, checked, and what it would take. Nothing is written.

    What was asked comes back with the steps that fit into `minutes` in its world's name, so that
    whoever asks by it asks for the same study.
    """
    from tombola.lab.budget import within
    from tombola.lab.plan import plan
    from tombola.lab.store import Store

    jobs = cores() if jobs is None else jobs
    if minutes is not None and ",steps=" in asked.on:
        raise CallError(f"--minutes chooses the steps, --on {asked.on} does too; leave one out.")
    if jobs < 1:
        raise CallError(f"--jobs {jobs}: want a number of processes, 1 or more.")
    begin_work()
    try:
        question = asked.question(recipe)
        if minutes is not None:
            whole = question.world.steps
            question = within(question, minutes, jobs=jobs)
            if question.world.steps != whole:
                asked = replace(asked, on=f"{asked.on},steps={question.world.steps}")
        return asked, question, plan(question, Store(store_folder(store), create=False), jobs=jobs)
    except TombolaError:
        raise
    except Exception as error:
        frames = users_part(printed(error))
        if frames is None:
            raise
        raise CallError(f"an error in your code; nothing was started.\n{frames}") from error
