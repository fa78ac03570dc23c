"""One job after the other, in this process: for notebooks, scripts, and a single core."""

from collections import deque
from collections.abc import Callable

from tombola.lab.engines.engine import Finished, say_nothing, work
from tombola.lab.store import Store
from tombola.recipes.job import Job


class Inline:
    """Runs a job when its end is waited for."""

    def __init__(self, store: Store, say: Callable[[int], None] = say_nothing) -> None:
        self._store, self._say = store, say
        self._queue: deque[tuple[str, Job]] = deque()

    def has_room(self) -> bool:
        return not self._queue

    def submit(self, key: str, job: Job) -> None:
        self._queue.append((key, job))

    def wait(self) -> Finished:
        key, job = self._queue.popleft()
        try:
            work(self._store, key, job, self._say)
        except Exception as error:
            return Finished(key, error)
        return Finished(key)

    def close(self) -> None:
        self._queue.clear()
