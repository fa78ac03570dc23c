"""Trains `imp` on digits-short at three learning rates and two lengths; judges it by every rule.

python study.py > verdicts.txt

What is stored is not trained again; the store is ./.tombola, or $TOMBOLA_STORE.
"""

import io
import json
import os
import sys
from contextlib import redirect_stdout

from tombola.cli import main
from tombola.lab.grid import judge_grid
from tombola.lab.store import Store
from tombola.lab.strict import STRICT
from tombola.lab.study import open_study
from tombola.lookup import catalogue

RATES = ("0.0004", "0.0012", "0.004")
SEEDS = "5"
# (length in steps, arms): the world's own with every control, a quarter of it with those that the
# strict definition cannot do without.
LENGTHS = (
    ("200", "dense,ticket,reinit,shuffle,thin,random,half-width"),
    ("50", "dense,ticket,reinit,thin"),
)
OWN = ("0.0012", "200")


def printed(*call: str) -> str:
    """What a command prints on stdout; the script ends with its status where it fails."""
    out = io.StringIO()
    with redirect_stdout(out):
        status = main(call)
    if status:
        sys.exit(status)
    return out.getvalue()


def trained() -> dict[tuple[str, str], str]:
    """The digest of the study at each learning rate and length."""
    found = {}
    for steps, arms in LENGTHS:
        for lr in RATES:
            world = f"digits-short,lr={lr},steps={steps}"
            call = ("find", "imp", "--on", world, "--seeds", SEEDS, "--arms", arms)
            document = json.loads(printed(*call, "--quiet", "--json"))
            found[lr, steps] = document["study"]
            rows = {(row["arm"], row["round"]): row for row in document["rows"]}
            print(f"{world}: study {document['study'][:12]}")
            for (arm, number), row in rows.items():
                if number == 5 or (number == 0 and arm in ("dense", "half-width")):
                    of = row["metrics"]["test_accuracy"]
                    print(
                        f"  {arm:10} density {row['density']:.4f}  test accuracy "
                        f"{of['mean']:.4f} [{of['low']:.4f}, {of['high']:.4f}]  n = {row['n']}"
                    )
    return found


def judged(studies: dict[tuple[str, str], str]) -> None:
    """Every rule but those of other data sets; the strict one on all studies, at both lengths."""
    for rule in (name for name in catalogue("rules") if not name.startswith("strict-")):
        chosen = list(studies.values()) if rule == "strict" else [studies[OWN]]
        print(f"\n$ tombola judge {' '.join(one[:12] for one in chosen)} --rule {rule}")
        print(printed("judge", *chosen, "--rule", rule).rstrip())
    store = Store(os.environ.get("TOMBOLA_STORE", ".tombola"))
    opened = [open_study(store, digest) for digest in studies.values()]
    print(f"\njudge_grid(STRICT, .., steps=50)\n{judge_grid(STRICT, opened, steps=50)}")
    lr, steps = OWN
    world = f"digits-short,lr={lr},steps={steps}"
    for margin in ("0.005", "0.01", "0.02"):
        call = ("plan", "imp", "--on", world, "--seeds", SEEDS, "--power", "--margin", margin)
        print(f"\n$ tombola {' '.join(call)}")
        print(printed(*call).partition("seeds that rule")[2].join(("seeds that rule", "")).rstrip())


if __name__ == "__main__":
    judged(trained())
