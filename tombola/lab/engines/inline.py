"""One job after the other, in this process: for notebooks, scripts, and a single core."""

from collections.abc import Iterator, Mapping

from tombola.lab.engines.engine import Outcome, work
from tombola.lab.events import Advanced, Watcher, nobody
from tombola.lab.store import Store
from tombola.recipes.job import Job


class Inline:
    """Runs what was submitted when its end is waited for."""

    def __init__(self, store: Store, tell: Watcher = nobody) -> None:
        self._store, self._tell = store, tell
        self._outcomes: Iterator[Outcome] = iter(())
        self._awaited = 0

    @property
    def room(self) -> int:
        return 0 if self._awaited else 1

    def submit(self, jobs: Mapping[str, Job]) -> None:
        self._outcomes, self._awaited = work(self._store, jobs, self._say), len(jobs)

    def _say(self, key: str, done: int, metrics: Mapping[str, float]) -> None:
        self._tell(Advanced(key, done, metrics))

    def wait(self) -> Outcome:
        outcome = next(self._outcomes)
        self._awaited -= 1
        return outcome

    def close(self) -> None:
        self._outcomes, self._awaited = iter(()), 0
