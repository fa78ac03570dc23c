"""Reads the document of a stability probe, and writes what this folder's tables are made of.

Left out are the 30 points of every path, loss barriers and distances.

tombola probe .. --json | python shortened.py > short.json
"""

import json
import sys

document = json.load(sys.stdin)
document["tables"] = [table for table in document["tables"] if table["name"] != "paths"]
document["charts"] = [chart for chart in document["charts"] if chart["table"] != "paths"]
for table in document["tables"]:
    for row in table["rows"]:
        for left_out in ("loss_barrier", "distance"):
            row["metrics"].pop(left_out, None)
json.dump(document, sys.stdout, indent=1)
print()
