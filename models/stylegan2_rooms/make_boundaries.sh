#!/usr/bin/env bash
# Make boundaries/stylegan2_rooms with the toolkit's own steps: sample, score, train, re-score, keep the verified layers;
# then print the tables of the model card.
#   bash models/stylegan2_rooms/make_boundaries.sh [OUTPUT_FOLDER] [SAMPLES] [RESCORING_SAMPLES]
# With the defaults about half an hour on two CPU cores, nearly all of it re-scoring, whose time goes with
# RESCORING_SAMPLES. Boundaries without a verified layer are left out.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-results/stylegan2_rooms}
samples=${2:-50000}
rescoring_samples=${3:-2000}

python synthesize.py stylegan2_rooms -o "$out/synthesis" --num="$samples" --generate_prediction
python train_boundary.py "$out/synthesis/w.npy" "$out/synthesis/attribute.npy" --score_name all \
    -N 2000 -o "$out/boundaries" --bootstrap 10 --jobs 2

for file in "$out"/boundaries/*_boundary.npy; do
    echo "($(basename "$file" _boundary.npy), w): $file"
done > "$out/boundaries.txt"
python rescore.py stylegan2_rooms "$out/boundaries.txt" -o "$out/rescore" --num="$rescoring_samples" \
    --layerwise_rescoring --layer_swap --write_layers

mkdir -p boundaries/stylegan2_rooms
rm -f boundaries/stylegan2_rooms/*_boundary.*
for file in "$out"/boundaries/*_boundary.npy; do
    if grep -q '"layers": \[' "${file%.npy}.json"; then
        cp "$file" "${file%.npy}.json" boundaries/stylegan2_rooms/
    fi
done
python models/stylegan2_rooms/measure.py --tables "$out" --ground_truth "$out"
