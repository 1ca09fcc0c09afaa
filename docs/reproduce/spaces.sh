#!/usr/bin/env bash
# w against z: boundaries of the same scores, trained in both spaces on the same samples, re-scored side by side.
#   bash docs/reproduce/spaces.sh stylegan_bedroom
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1
place=${OUT:-results/reproduce}/$(basename "${model%.*}")
read -ra names <<< "${NAMES:-all}"

bash docs/reproduce/boundaries.sh "$model"
for space in w z; do
    python train_boundary.py "$place/synthesis/$space.npy" "$place/synthesis/${GROUP:-attribute}.npy" \
        --score_name "${names[@]}" -N "${SIDE:-2000}" -V -o "$place/spaces/$space"
done
python rescore.py "$model" "$place/spaces/w/boundary_list.txt" "$place/spaces/z/boundary_list.txt" \
    --num="${RESCORE:-2000}" --control="${CONTROL:-20}" ${PREDICTOR:+--predictor_name="$PREDICTOR"} -o "$place/spaces"
python docs/reproduce/tables.py ranking "$place/spaces"
