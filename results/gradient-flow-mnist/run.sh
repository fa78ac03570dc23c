#!/bin/sh
# Makes the study and both probes anew. The work is kept in .tombola here, so that what is there is
# not trained again.
set -eu
cd "$(dirname "$0")"
tombola find study:SHORT_STATIC --on study:lenet --seeds 3 --jobs 1 --store .tombola --quiet --yes \
    --arms dense,study:SHORT_SCALED,study:SHORT_FAN_IN,study:SHORT_SET,study:SHORT_RIGL,study:SHORT_RIGL_FAN_IN \
    --json > study.json
for probe in gradient-flow relearning; do
    tombola probe "$probe" latest --store .tombola --jobs 1 --quiet --yes --json > "$probe.json"
done
python tables.py > tables.md
