"""Reads the document of an overlap probe, and writes what this folder's tables are made of.

Left out are displacements, overlaps by chance, and the summary that the terminal prints.

tombola probe .. --json | python shortened.py > short.json
"""

import json
import sys

document = json.load(sys.stdin)
document["tables"] = [table for table in document["tables"] if table["name"] == "overlap"]
document["charts"] = []
for table in document["tables"]:
    for row in table["rows"]:
        for left_out in ("moved", "chance"):
            row["metrics"].pop(left_out)
json.dump(document, sys.stdout, separators=(",", ":"))
print()
