#!/bin/sh
# Makes the study, its tables, and what its ticket is worth shipped: half an hour on two cores. Ship
# with nothing else running, since it measures time.
set -eu
cd "$(dirname "$0")"
tombola find units-oneshot --on cifar10-conv4-short,steps=300 --seeds 3 \
    --arms dense,reinit,shuffle,random --store ../.tombola --quiet --yes --json > study.json
python ../arms.py study.json ticket/dense ticket/reinit ticket/shuffle ticket/random > study.md
here=$PWD files=$(mktemp -d)
trap 'rm -r "$files"' EXIT
cd "$files"
ship() { # name of the document, then the arguments of `tombola ship`
    name=$1
    shift
    tombola ship latest "$@" --batch 1,16,64 --store "$here/../.tombola" --json > "$here/$name.json"
}
ship compact --to compact
ship onnx-dense --to onnx
ship onnx-compact --to onnx --compact
