"""Examples in docstrings, shown as code: Markdown takes `>>>` for a quotation of a quotation."""

import re
from typing import Any

from griffe import Extension, Object

HEADING = re.compile(r"^Example:$", flags=re.MULTILINE)
EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", flags=re.DOTALL | re.MULTILINE)


def readable(text: str) -> str:
    """A docstring with its section of examples under the name that Griffe knows, `Examples`, and
    with examples outside of one in a fence."""
    text = HEADING.sub("Examples:", text)
    return EXAMPLE.sub(lambda example: f"```pycon\n{example[0].rstrip()}\n```", text)


class Doctests(Extension):
    """What mkdocstrings runs on every docstring it reads."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
