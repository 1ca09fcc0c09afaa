#!/usr/bin/env bash
# Jittering of each layer: what changes when one layer's code is moved at random, or is another sample's?
#   bash docs/reproduce/jitter.sh stylegan_bedroom
# Pictures of each random direction at each layer are on the page.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1
place=${OUT:-results/reproduce}/$(basename "${model%.*}")/jitter

python -m higan.directions "$model" --method random --num="${CONTROL:-20}" -o "$place/random"
python rescore.py "$model" "$place/random/boundary_list.txt" --num="${RESCORE:-2000}" \
    --layerwise_rescoring --layer_swap ${PREDICTOR:+--predictor_name="$PREDICTOR"} -o "$place/rescore"
python docs/reproduce/tables.py jitter "$place/rescore"
