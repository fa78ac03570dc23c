"""Trains several at once: those that stand at one step in one stack, each as if it were alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tombola.train.executors import Choice, chosen
from tombola.train.executors.stacked import NAME, Replica, Stack, independent
from tombola.train.leg import Leg
from tombola.train.loop import Keep, Loop, Tick, resumed, start_of, train
from tombola.train.training import Training
from tombola.values.params import Params
from tombola.values.rng import borrowed_generators


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One of several trainings; resume, keep, tick: of it, as for `train`."""

    training: Training
    resume: Leg | None = None
    keep: Keep | None = None
    tick: Tick | None = None


def train_together(asked: Sequence[Asked]) -> list[Leg]:
    """What `train` gives for each, bit for bit.

    Trainings of one world, objective and length go on side by side as long as they stand at the
    same step; one that was interrupted earlier than others catches up first. One that diverges
    stops there, and the others go on without it. Where the executor does not stack, or the bits of
    one would depend on the others, each is trained alone.
    """
    if len(asked) == 1:
        (one,) = asked
        return [train(one.training, one.resume, one.keep, one.tick)]
    ends: dict[int, Leg] = {}
    going: dict[int, Leg | None] = {}
    with asked[0].training.world.numerics.in_force(), borrowed_generators():
        choices = [chosen(one.training) for one in asked]
    for place, (one, choice) in enumerate(zip(asked, choices, strict=True)):
        going[place] = resumed(one.resume, choice)
    while going:
        places, until = _furthest_back(asked, going)
        group = [replace(asked[place], resume=going[place]) for place in places]
        for place, leg in zip(places, _advanced(group, until, choices[places[0]]), strict=True):
            going[place] = leg
            if leg.diverged_at is not None or leg.step >= asked[place].training.until:
                ends[place] = leg
                del going[place]
    return [ends[place] for place in range(len(asked))]


Clock = tuple[int, tuple[str, ...], int]


def _clock(training: Training, leg: Leg | None) -> Clock:
    """At which step a training stands, what its optimiser remembers, and of how many steps."""
    step, slots = (training.step, training.slots) if leg is None else (leg.step, leg.slots)
    remembered = slots or Params({})
    kinds = tuple(sorted({key.split("/", 1)[0] for key in remembered}))
    made = max(
        (int(value) for key, value in remembered.items() if key.startswith("step/")), default=0
    )
    return step, kinds, made


def _furthest_back(
    asked: Sequence[Asked], going: Mapping[int, Leg | None]
) -> tuple[list[int], int]:
    """Trainings whose clocks agree, the earliest, and the step to which they go by themselves."""
    clocks = {place: _clock(asked[place].training, leg) for place, leg in going.items()}
    first = min(clocks.values())
    places = [place for place, clock in clocks.items() if clock == first]
    later = [clock[0] for clock in clocks.values() if clock[0] > first[0]]
    return places, min([*later, *(asked[place].training.until for place in places)])


def _advanced(group: Sequence[Asked], until: int, choice: Choice) -> list[Leg]:
    """Where these stand at step `until`, or at an earlier one if one of them diverged."""
    trainings = [replace(one.training, until=until) for one in group]
    if choice.name == NAME and len(group) > 1:
        with trainings[0].world.numerics.in_force(), borrowed_generators():
            legs = _side_by_side(group, trainings, choice)
        if legs is not None:
            return legs
    return [
        train(training, one.resume, one.keep, one.tick)
        for one, training in zip(group, trainings, strict=True)
    ]


def _side_by_side(
    group: Sequence[Asked], trainings: Sequence[Training], choice: Choice
) -> list[Leg] | None:
    """As `_advanced`, in one stack; None where one would change the bits of another."""
    starts, resumes = [start_of(training) for training in trainings], [one.resume for one in group]
    if not independent(trainings, starts, resumes, choice.links):
        return None
    stack = Stack(trainings, starts, resumes, links=choice.links)
    loops = [
        Loop(training, start, one.resume, choice, Replica(stack, place), one.keep, one.tick)
        for place, (training, start, one) in enumerate(zip(trainings, starts, group, strict=True))
    ]
    while all(loop.going for loop in loops):
        stack.advance([loop.ahead() for loop in loops])
        for loop in loops:
            loop.look()
    return [loop.leg() if loop.going else loop.end() for loop in loops]
