#!/usr/bin/env bash
# What the experiments begin with: samples of a model with their scores, and a boundary per score.
#   bash docs/reproduce/boundaries.sh MODEL [OPTIONS OF synthesize.py]
# Samples that are there already are not drawn again. `docs/reproduce.md` lists the variables.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1
shift
place=${OUT:-results/reproduce}/$(basename "${model%.*}")
read -ra names <<< "${NAMES:-all}"

python synthesize.py "$model" --num="${NUM:-500000}" --generate_prediction \
    ${PREDICTOR:+--predictor_name="$PREDICTOR"} "$@" -o "$place/synthesis"
codes=$place/synthesis/w.npy
test -e "$codes" || codes=$place/synthesis/z.npy  # PGGAN has no w
python train_boundary.py "$codes" "$place/synthesis/${GROUP:-attribute}.npy" \
    --score_name "${names[@]}" -N "${SIDE:-2000}" -o "$place/boundaries"
