#!/usr/bin/env bash
# Which scores does each model obey most? A ranking per model, and all models in one table.
#   bash docs/reproduce/ranking.sh stylegan_bedroom stylegan_livingroom stylegan_kitchen
set -euo pipefail
cd "$(dirname "$0")/../.."
folders=()

for model in "$@"; do
    bash docs/reproduce/boundaries.sh "$model"
    place=${OUT:-results/reproduce}/$(basename "${model%.*}")
    python rescore.py "$model" "$place/boundaries/boundary_list.txt" --num="${RESCORE:-2000}" \
        --control="${CONTROL:-20}" ${PREDICTOR:+--predictor_name="$PREDICTOR"} -o "$place/ranking"
    folders+=("$place/ranking")
done
python docs/reproduce/tables.py ranking "${folders[@]}"
