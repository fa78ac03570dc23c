#!/bin/sh
# Makes everything in this folder: studies, probes, tables. Run it here.
set -e
tombola find study:IMP_6 --on study:resnet --seeds 5 --arms dense,reinit --yes --json > resnet-study.json
tombola probe study:STABILITY latest --yes --json > resnet.json
tombola find imp --on study:lenet --seeds 5 --arms dense,reinit --yes --json > lenet-study.json
tombola probe study:AT_START latest --yes --json > lenet.json
python tables.py > tables.md
