"""A terminal of a few lines of code: what somebody would see."""

import re


class Terminal:
    """Folds long lines as most do, scrolls, and knows the controls that we send; any other is an
    error. `history` holds what has scrolled out at the top, too."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self._cells: list[list[str]] = [[]]  # lines as written; a full one goes on in the next
        self._folded: list[bool] = [False]  # whether a line goes on in the next
        self._x = self._y = self._top = 0

    def feed(self, text: str) -> None:
        for match in re.finditer(r"\x1b\[([0-9]*)([A-Za-z])|[^\x1b]", text):
            number, control = match[1], match[2]
            if control is None:
                self._put(match[0])
            elif control == "A":
                self._y = max(self._top, self._y - int(number))
            elif control == "K":
                del self._cells[self._y][self._x :]
            elif control == "J":
                del self._cells[self._y][self._x :]
                del self._cells[self._y + 1 :], self._folded[self._y + 1 :]
                self._folded[self._y] = False
            elif control != "m":
                raise AssertionError(f"unknown control {match[0]!r}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._x = 0
        elif character == "\n":
            self._down(folded=False)
        elif character == "\t":
            self._x = min(self.columns - 1, self._x // 8 * 8 + 8)
        else:
            assert character.isprintable(), repr(character)
            if self._x == self.columns:
                self._down(folded=True)
                self._x = 0
            line = self._cells[self._y]
            line += " " * (self._x + 1 - len(line))
            line[self._x] = character
            self._x += 1

    def _down(self, folded: bool) -> None:
        self._folded[self._y] = folded
        self._y += 1
        self._top = max(self._top, self._y + 1 - self.rows)
        if self._y == len(self._cells):
            self._cells.append([])
            self._folded.append(False)

    def resize(self, columns: int, rows: int) -> None:
        """Lines are folded anew; the cursor stays at the end of what is above it."""
        whole: list[list[str]] = [[]]
        at = 0
        for y, (line, folded) in enumerate(zip(self._cells, self._folded, strict=True)):
            if y == self._y:
                at = len(whole) - 1
            whole[-1] += line
            if not folded and y < len(self._cells) - 1:
                whole.append([])
        self._cells, self._folded = [], []
        self.columns, self.rows = columns, rows
        for number, line in enumerate(whole):
            if number == at:
                self._y = len(self._cells)
            parts = [line[i : i + columns] for i in range(0, len(line), columns)] or [[]]
            self._cells += parts
            self._folded += [*[True] * (len(parts) - 1), False]
        self._top = max(0, self._y + 1 - rows)

    @property
    def history(self) -> list[str]:
        return ["".join(line).rstrip() for line in self._cells]

    @property
    def screen(self) -> list[str]:
        return self.history[self._top :]
