"""How far something simple has come: so many of so many images."""

import time
from typing import Self, TextIO

FIRST_AFTER = 2.0  # seconds; what takes less needs no word
LINE_EVERY = 10.0  # in a log
DRAWN_EVERY = 0.2  # on a terminal, where the line is written over


class Counting:
    """Tells `stream` how many of a split's images are done; call it whenever some are."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._over = stream, stream.isatty()
        self._next, self._drawn = time.monotonic() + FIRST_AFTER, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn and self._over:
            print("\r\x1b[K", end="", file=self._stream, flush=True)

    def __call__(self, split: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next, self._drawn = now + (DRAWN_EVERY if self._over else LINE_EVERY), True
        text = f"{split}: {done:,} of {total:,} images"
        print(
            f"\r\x1b[K{text}" if self._over else text,
            end="" if self._over else "\n",
            file=self._stream,
            flush=True,
        )
