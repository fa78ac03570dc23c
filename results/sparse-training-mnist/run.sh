#!/bin/sh
# Makes the study and its tables anew. The work is kept in .tombola here, so that what is there is
# not trained again.
set -eu
cd "$(dirname "$0")"
tombola find study:SHORT_RIGL --on study:lenet --seeds 3 --controls-at all --jobs 1 \
    --arms dense,thin,study:SHORT_SET,study:SHORT_STATIC,study:SHORT_FAN_IN,study:SHORT_GRADUAL \
    --store .tombola --quiet --yes --json > study.json
python tables.py > tables.md
