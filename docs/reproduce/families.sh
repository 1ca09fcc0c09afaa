#!/usr/bin/env bash
# PGGAN, StyleGAN and BigGAN compared: the same scores, at all layers at once and, where there are layers, at each.
#   bash docs/reproduce/families.sh pggan_bedroom stylegan_bedroom biggan_deep_256 831
# The third is a conditional model; the classes behind it are those drawn from (default: all).
set -euo pipefail
cd "$(dirname "$0")/../.."
classes=("${@:4}")
folders=()

bash docs/reproduce/boundaries.sh "$1"
bash docs/reproduce/boundaries.sh "$2"
bash docs/reproduce/boundaries.sh "$3" --class_idx "${classes[@]:-all}"
for model in "${@:1:3}"; do
    place=${OUT:-results/reproduce}/$(basename "${model%.*}")
    layers=()
    test -e "$place/synthesis/w.npy" && layers=(--layerwise_rescoring)
    python rescore.py "$model" "$place/boundaries/boundary_list.txt" --num="${RESCORE:-2000}" \
        --control="${CONTROL:-20}" ${PREDICTOR:+--predictor_name="$PREDICTOR"} \
        ${layers[@]+"${layers[@]}"} -o "$place/families"
    folders+=("$place/families")
done
python docs/reproduce/tables.py ranking "${folders[@]}"
python docs/reproduce/tables.py layers "${folders[@]:1}"
