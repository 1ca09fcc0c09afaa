#!/usr/bin/env bash
# At which layers does a model decide layout, objects, attributes and colours?
#   bash docs/reproduce/layers.sh stylegan_bedroom
# The layers found are stored with the boundaries, for the other experiments.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1
place=${OUT:-results/reproduce}/$(basename "${model%.*}")

bash docs/reproduce/boundaries.sh "$model"
python rescore.py "$model" "$place/boundaries/boundary_list.txt" --num="${RESCORE:-2000}" \
    --layerwise_rescoring --layer_swap --write_layers --control="${CONTROL:-20}" \
    ${PREDICTOR:+--predictor_name="$PREDICTOR"} -o "$place/layers"
python docs/reproduce/tables.py layers "$place/layers"
