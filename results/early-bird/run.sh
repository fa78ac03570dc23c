#!/bin/sh
# Makes study.json, study.md and settling.json anew.
set -eu
cd "$(dirname "$0")"
tombola find early-bird --on study:mnist_normed --seeds 3 --arms dense,random,early-bird-reset \
    --controls-at all --store ../.tombola --jobs 1 --quiet --yes --json > study.json
python ../arms.py study.json ticket/dense ticket/random ticket/early-bird-reset > study.md
tombola probe settling latest --store ../.tombola --jobs 1 --quiet --json > settling.json
tombola probe settling latest --store ../.tombola --jobs 1 --quiet > settling.txt
