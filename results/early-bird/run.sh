#!/bin/sh
# Makes everything here anew: two minutes for MNIST, an hour for ResNet-20 on two cores.
set -eu
cd "$(dirname "$0")"
tombola find early-bird --on study:mnist_normed --seeds 3 --arms dense --store ../.tombola --jobs 1 \
    --quiet --yes --json > study.json
python ../arms.py study.json ticket/dense > study.md
tombola probe settling latest --store ../.tombola --jobs 1 --quiet --json > settling.json
tombola probe settling latest --store ../.tombola --jobs 1 --quiet > settling.txt

resnet20() { # name of the files, steps, further arms, pairs to compare
    tombola find early-bird --on "cifar10-resnet20-short,steps=$2" --seeds 3 --arms "dense,random$3" \
        --controls-at all --store ../.tombola --quiet --yes --json > "$1.json"
    # shellcheck disable=SC2086 # the pairs are words
    python ../arms.py "$1.json" ticket/dense ticket/random $4 > "$1.md"
    tombola probe settling latest --store ../.tombola --quiet > "$1-settling.txt"
}
resnet20 resnet20 300 "" ""
tombola probe settling latest --store ../.tombola --quiet --json > resnet20-settling.json
resnet20 resnet20-short 150 ,early-bird-reset \
    "early-bird-reset/dense early-bird-reset/random ticket/early-bird-reset"
