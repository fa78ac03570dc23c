#!/bin/sh
# Makes study.json and study.md anew. Another world: sh run.sh cifar10-conv4
set -eu
cd "$(dirname "$0")"
criteria=iterative-snip,force,grasp,synflow,prospr,magnitude-at-start,random-at-start
tombola find study:CRITERIA --on "${1:-study:mnist_brief}" --seeds 3 --controls-at all \
    --arms "dense,ticket,$criteria,shuffle,reinit,inverted" \
    --store ../.tombola --jobs 1 --quiet --yes --json > study.json
python ../arms.py study.json ticket/random-at-start iterative-snip/ticket force/ticket \
    grasp/ticket synflow/ticket prospr/ticket magnitude-at-start/ticket synflow/random-at-start \
    magnitude-at-start/random-at-start ticket/shuffle ticket/reinit ticket/inverted > study.md
