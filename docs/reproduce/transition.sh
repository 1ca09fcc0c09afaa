#!/usr/bin/env bash
# From one category to another, with a model of several: at which layers does a bedroom become a living room?
#   bash docs/reproduce/transition.sh stylegan_apartment bedroom living_room
# The boundary stands between the samples of the largest and of the smallest difference of the two scores.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1 from=$2 to=$3
place=${OUT:-results/reproduce}/$(basename "${model%.*}")
folder=$place/transition

python synthesize.py "$model" --num="${NUM:-500000}" --generate_prediction \
    ${PREDICTOR:+--predictor_name="$PREDICTOR"} -o "$place/synthesis"
mkdir -p "$folder"
python docs/reproduce/tables.py difference "$place/synthesis/${GROUP:-category}.npy" "$from" "$to" "$folder/scores.npy"
python train_boundary.py "$place/synthesis/w.npy" "$folder/scores.npy" --score_name "$to" -N "${SIDE:-2000}" -o "$folder"
python rescore.py "$model" "$folder/${to}_boundary.npy" --num="${RESCORE:-2000}" --layerwise_rescoring \
    --write_layers --control="${CONTROL:-20}" ${PREDICTOR:+--predictor_name="$PREDICTOR"} -o "$folder/rescore"
for layers in bottom lower upper top; do
    python manipulate.py "$model" "$folder/${to}_boundary.npy" --num=10 --manipulate_layers=$layers \
        --start_distance=0 --end_distance=4 -S 5 --generate_html -o "$folder/$layers"
done
python docs/reproduce/tables.py layers "$folder/rescore"
