#!/usr/bin/env bash
# Make boundaries/stylegan2_rooms with the toolkit's own steps, and write the numbers of the model card and of the README:
# sample, train, re-score, keep what the generator obeys; then compare with other ways to find directions, ask random
# directions, and measure.
#   bash models/stylegan2_rooms/make_boundaries.sh [FOLDER] [SAMPLES] [RESCORING_SAMPLES] [TURNS]
# Nearly all of the time is re-scoring and goes with its samples. Stopped, the same command goes on where it was; the
# results of earlier steps stay. Boundaries that are not obeyed are left out; those that could not be told from chance
# are kept, with their layers as candidates.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-results/stylegan2_rooms}
samples=${2:-20000}
rescoring_samples=${3:-200}
turns=${4:-3}
here=models/stylegan2_rooms
shipped=boundaries/stylegan2_rooms

python synthesize.py stylegan2_rooms -o "$out/synthesis" --num="$samples" --generate_prediction
[ -e "$out/rescore/rescore.json" ] || {
    python train_boundary.py "$out/synthesis/w.npy" "$out/synthesis/attribute.npy" --score_name all \
        --solver ridge --disentangle -o "$out/boundaries"
    python rescore.py stylegan2_rooms "$out/boundaries/boundary_list.txt" -o "$out/rescore" \
        --num="$rescoring_samples" --layerwise_rescoring --layer_swap --write_layers
}

mkdir -p "$shipped"
rm -f "$shipped"/*_boundary.*
for file in "$out"/boundaries/*_boundary.npy; do
    grep -q '"verdict": "none"' "${file%.npy}.json" || cp "$file" "${file%.npy}.json" "$shipped/"
done

[ -e "$out/judge.pth" ] || python $here/train_predictor.py --renders "$out/judge_renders.npy" --scenes 4000 \
    --scene_seed 5 --seed 5 --resolution 128 --channels 12 24 48 64 96 --epochs 6 --export "$out/judge.pth"
[ -e "$out/recipes.json" ] || python $here/compare_recipes.py "$out/synthesis" --second "$out/judge.pth" \
    --turns "$turns" --num 60 --choice 30 --json "$out/recipes.json" \
    --recipes svm svm_layers ridge_soft_layers gradient_wp_soft
[ -e "$out/recipes_stretched.json" ] || python $here/compare_recipes.py "$out/synthesis" --stretch 300 \
    --turns "$turns" --num 60 --json "$out/recipes_stretched.json" --recipes svm ridge ridge_soft
python $here/measure.py --judge "$out/judge.pth" --analysis "$out" --card $here/README.md README.md
