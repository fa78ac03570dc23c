"""What a store holds."""

from datetime import datetime
from typing import Any

from tombola.lab.store import Store


def holdings(store: Store) -> dict[str, Any]:
    """The document that `tombola ls --json` prints: studies, the latest last, and bytes."""
    return {
        "schema": 1,
        "store": str(store.folder),
        "studies": [_study(store, name) for name in store.studies()],
        "bytes": store.size(),
    }


def _study(store: Store, name: str) -> dict[str, Any]:
    changed = (store.folder / "studies" / f"{name}.json").stat().st_mtime
    date = datetime.fromtimestamp(changed).astimezone().isoformat(timespec="seconds")
    content = store.read_study(name)
    if content is None:
        return {
            "study": name,
            "recipe": "damaged, set aside",
            "world": "",
            "seeds": [],
            "outcome": "",
            "rule": "",
            "date": date,
        }
    document = content["document"]
    return {
        "study": name,
        "recipe": document["recipe"],
        "world": document["world"],
        "seeds": document["seeds"],
        "outcome": document["verdict"]["outcome"],
        "rule": document["verdict"]["rule"],
        "date": date,
    }
