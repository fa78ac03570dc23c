#!/bin/sh
# Makes the studies of retraining, distillation and transfer anew, with their tables:
#   sh again.sh [retraining-digits] [distillation-digits] [transfer]      (default: all three)
# The work is kept in .tombola here, so that what is there is not trained again.
set -eu
cd "$(dirname "$0")"

study() { # folder, name of the files, pairs of arms to compare, then the arguments of `tombola find`
    folder=$1 name=$2 pairs=$3
    shift 3
    (
        cd "$folder"
        tombola find "$@" --store ../.tombola --quiet --yes --json > "$name.json"
        # shellcheck disable=SC2086 # the pairs are words
        python ../arms.py "$name.json" $pairs > "$name.md"
    )
}

for part in "${@:-retraining-digits distillation-digits transfer}"; do
    for one in $part; do
        case $one in
        retraining-digits)
            study "$one" study "ticket/weight-rewind ticket/fine-tune weight-rewind/low-rate-rewind \
weight-rewind/reinit ticket/reinit ticket/dense weight-rewind/dense" \
                lr-rewind --on study:digits_drops --seeds 5 \
                --arms dense,ticket,reinit,weight-rewind,fine-tune,low-rate-rewind
            study "$one" oneshot "ticket/oneshot-weight-rewind ticket/oneshot-fine-tune \
oneshot-weight-rewind/oneshot-low-rate-rewind ticket/dense" \
                oneshot-lr-rewind --on study:digits_drops --seeds 5 \
                --arms dense,ticket,oneshot-weight-rewind,oneshot-fine-tune,oneshot-low-rate-rewind
            ;;
        distillation-digits)
            study "$one" study "ticket/oneshot kd-rewind/oneshot-weight-rewind \
kd-lr-rewind/oneshot-lr-rewind kd-rewind/ticket uncut/dense ticket/dense ticket/reinit \
switched-off/ticket" \
                study:KD --on study:digits_few --seeds 6 --arms \
"dense,ticket,uncut,reinit,oneshot,oneshot-weight-rewind,kd-rewind,oneshot-lr-rewind,kd-lr-rewind,\
study:OFF,study:TAU_1,study:TAU_2,study:TAU_8,study:TAU_16,study:HALF_1,study:HALF_4,\
study:HALF_16,study:MOST_1,study:MOST_4,study:MOST_16"
            ;;
        transfer)
            study "$one" digits "ticket/dense ticket/shuffle ticket/reinit ticket/imp-rewind" \
                study:from_low --on study:high --seeds 5 \
                --arms dense,ticket,shuffle,reinit,study:LATE
            study "$one" optimiser "ticket/dense ticket/shuffle ticket/reinit ticket/imp-rewind" \
                study:from_adam --on study:high_by_sgd --seeds 5 \
                --arms dense,ticket,shuffle,reinit,study:LATE
            study "$one" sentences "ticket/dense ticket/shuffle ticket/reinit \
bert-ticket-from-subject-after-subject/ticket" \
                bert-ticket --on study:number --seeds 3 \
                --arms dense,ticket,shuffle,reinit,study:from_subject
            ;;
        *)
            echo "again.sh: no study $one" >&2
            exit 2
            ;;
        esac
    done
done
