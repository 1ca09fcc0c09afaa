#!/usr/bin/env bash
# Do edits at different layers add up? Each boundary alone, then all of them at once, in pictures and in scores.
#   bash docs/reproduce/layers.sh stylegan_bedroom      # finds the layers
#   bash docs/reproduce/joint.sh stylegan_bedroom indoor_lighting wood view
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1
shift
place=${OUT:-results/reproduce}/$(basename "${model%.*}")
mkdir -p "$place/joint"
for name in "$@"; do
    echo "($name, w): $place/boundaries/${name}_boundary.npy"
done > "$place/joint/list.txt"

move=(python manipulate.py "$model" "$place/joint/list.txt" --num="${RESCORE:-2000}" --layerwise_manipulation
    --start_distance=0 --end_distance=2 -S 3)
"${move[@]}" -o "$place/joint/single"
"${move[@]}" --combine -o "$place/joint/all"
"${move[@]}" --combine --num=20 --generate_html -o "$place/joint/page"
for codes in "$place"/joint/single/*_manipulated_wp.npy "$place/joint/all/combined_manipulated_wp.npy"; do
    edit=$(basename "$codes" _manipulated_wp.npy)
    python synthesize.py "$model" -i "$codes" --generate_prediction \
        ${PREDICTOR:+--predictor_name="$PREDICTOR"} -o "$place/joint/scores/$edit"
done
python docs/reproduce/tables.py joint "$place"/joint/scores/*/"${GROUP:-attribute}.npy"
