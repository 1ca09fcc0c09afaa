#!/usr/bin/env bash
# Make boundaries/stylegan2_rooms with the toolkit's own steps: sample, score, train, re-score, keep the verified layers.
#   bash models/stylegan2_rooms/make_boundaries.sh [OUTPUT_FOLDER] [SAMPLES] [RESCORING_SAMPLES]
# With the defaults about fifteen minutes on two CPU cores; a killed run goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-results/stylegan2_rooms}
samples=${2:-50000}
rescoring_samples=${3:-2000}
# Boundaries of these scores do not do what their names say in this generator; see the model card.
not_shipped=${NOT_SHIPPED-}

python synthesize.py stylegan2_rooms -o "$out/synthesis" --num="$samples" --generate_prediction
python train_boundary.py "$out/synthesis/w.npy" "$out/synthesis/attribute.npy" --score_name all \
    -N 0.05 -o "$out/boundaries" --bootstrap 10

for file in "$out"/boundaries/*_boundary.npy; do
    name=$(basename "$file" _boundary.npy)
    [[ " $not_shipped " == *" $name "* ]] || echo "($name, w): $file"
done > "$out/boundaries.txt"
python rescore.py stylegan2_rooms "$out/boundaries.txt" -o "$out/rescore" --num="$rescoring_samples" \
    --layerwise_rescoring --layer_swap --write_layers

mkdir -p boundaries/stylegan2_rooms
while IFS= read -r line; do
    file=${line#*: }
    cp "$file" "${file%.npy}.json" boundaries/stylegan2_rooms/
done < "$out/boundaries.txt"
