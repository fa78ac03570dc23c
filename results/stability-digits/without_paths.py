"""Reads the document of a stability probe, and writes it without the 30 points of every path.

tombola probe .. --json | python without_paths.py > small.json
"""

import json
import sys

document = json.load(sys.stdin)
document["tables"] = [table for table in document["tables"] if table["name"] != "paths"]
document["charts"] = [chart for chart in document["charts"] if chart["table"] != "paths"]
json.dump(document, sys.stdout, indent=1)
print()
