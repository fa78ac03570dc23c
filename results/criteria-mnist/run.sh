#!/bin/sh
# Makes study.json and study.md anew. Another world: sh run.sh cifar10-conv4
set -eu
cd "$(dirname "$0")"
before=iterative-snip,force,grasp,synflow,prospr,magnitude-at-start,random-at-start
after=magnitude-at-end,obd,fisher,woodfisher,layerwise,layerwise-erk
trained=oneshot-lr-rewind,obd-retrained,woodfisher-retrained,layerwise-erk-retrained
tombola find study:CRITERIA --on "${1:-study:mnist_brief}" --seeds 3 --controls-at all \
    --arms "dense,ticket,$before,shuffle,reinit,inverted,$after,$trained,oneshot,study:OBD_RESET" \
    --store ../.tombola --jobs 1 --quiet --yes --json > study.json
python ../arms.py study.json ticket/random-at-start iterative-snip/ticket force/ticket \
    grasp/ticket synflow/ticket prospr/ticket magnitude-at-start/ticket synflow/random-at-start \
    magnitude-at-start/random-at-start ticket/shuffle ticket/reinit ticket/inverted \
    obd/magnitude-at-end fisher/magnitude-at-end woodfisher/magnitude-at-end \
    layerwise/magnitude-at-end layerwise-erk/magnitude-at-end obd/fisher layerwise-erk/woodfisher \
    obd-retrained/oneshot-lr-rewind woodfisher-retrained/oneshot-lr-rewind \
    layerwise-erk-retrained/oneshot-lr-rewind oneshot/ticket obd-reset/oneshot > study.md
echo >> study.md
python ../arms.py study.json --loss obd/magnitude-at-end fisher/magnitude-at-end \
    woodfisher/magnitude-at-end layerwise/magnitude-at-end layerwise-erk/magnitude-at-end \
    obd/fisher woodfisher/fisher layerwise-erk/woodfisher >> study.md
