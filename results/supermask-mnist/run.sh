#!/bin/sh
# Makes the studies and their tables anew. The work is kept in .tombola here, so that what is there
# is not trained again.
set -eu
cd "$(dirname "$0")"
find_on() { # world, recipe
    tombola find "study:$2" --on "study:$1" --seeds 3 --controls-at all --jobs 1 --arms dense \
        --store .tombola --quiet --yes --json > "$(echo "$2-$1" | tr A-Z a-z).json"
}
find_on lenet SCALED
find_on lenet KAIMING
find_on lenet PRIZE
find_on chances CHANCES
python tables.py > tables.md
