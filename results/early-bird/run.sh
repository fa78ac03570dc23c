#!/bin/sh
# Makes study.json, study.md, settling.json and settling.txt anew.
set -eu
cd "$(dirname "$0")"
tombola find early-bird --on study:mnist_normed --seeds 3 --arms dense --store ../.tombola --jobs 1 \
    --quiet --yes --json > study.json
python ../arms.py study.json ticket/dense > study.md
tombola probe settling latest --store ../.tombola --jobs 1 --quiet --json > settling.json
tombola probe settling latest --store ../.tombola --jobs 1 --quiet > settling.txt
