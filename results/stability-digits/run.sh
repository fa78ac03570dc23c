#!/bin/sh
# Makes everything in this folder: studies, probes, tables. Run it here.
set -e
tombola find study:IMP_6 --on study:resnet --seeds 3 --arms dense,reinit --yes --quiet --json > resnet-study.json
tombola probe study:STABILITY latest --yes --quiet --json | python shortened.py > resnet.json
tombola find study:IMP_6 --on study:lenet --seeds 3 --arms dense,reinit --yes --quiet --json > lenet-study.json
tombola probe study:AT_START latest --yes --quiet --json | python shortened.py > lenet.json
python tables.py > tables.md  # the tables of README.md
