"""One job after the other, in this process: for notebooks, scripts, and a single core."""

from collections import deque
from collections.abc import Mapping

from tombola.lab.engines.engine import Outcome, work
from tombola.lab.events import Advanced, Watcher, nobody
from tombola.lab.store import Store
from tombola.recipes.job import Job


class Inline:
    """Runs a job when its end is waited for."""

    def __init__(self, store: Store, tell: Watcher = nobody) -> None:
        self._store, self._tell = store, tell
        self._queue: deque[tuple[str, Job]] = deque()

    def has_room(self) -> bool:
        return not self._queue

    def submit(self, key: str, job: Job) -> None:
        self._queue.append((key, job))

    def wait(self) -> Outcome:
        key, job = self._queue.popleft()

        def say(done: int, metrics: Mapping[str, float]) -> None:
            self._tell(Advanced(key, done, metrics))

        try:
            work(self._store, key, job, say)
        except Exception as error:
            return Outcome(key, error)
        return Outcome(key)

    def close(self) -> None:
        self._queue.clear()
