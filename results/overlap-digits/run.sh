#!/bin/sh
# Makes everything in this folder: studies, probes, tables. Run it here.
set -e
for rate in small large; do
    tombola find study:IMP_4 --on study:${rate}_rate --seeds 3 --arms dense,reinit --yes --quiet --json > $rate-study.json
    tombola probe overlap latest --quiet --json | python shortened.py > $rate.json
done
python tables.py > tables.md  # the tables of README.md
