#!/bin/sh
# Makes study.json, probe.json and probe.txt anew. Another number of examples: sh run.sh 20000
set -eu
cd "$(dirname "$0")"
world=study:mnist_${1:-5000}
tombola find greedy --on "$world" --seeds 3 --arms dense --store ../.tombola --jobs 1 --quiet --yes \
    --json > study.json
tombola probe study:BY_STEP latest --store ../.tombola --jobs 1 --quiet --yes --json > probe.json
tombola probe study:BY_STEP latest --store ../.tombola --jobs 1 --quiet > probe.txt
