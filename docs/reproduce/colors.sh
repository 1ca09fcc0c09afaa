#!/usr/bin/env bash
# Colour scores: hue, brightness and saturation of the pixels, by the predictor `colors`, which needs no weights.
#   bash docs/reproduce/colors.sh stylegan_bedroom
set -euo pipefail
export PREDICTOR=colors GROUP=color NAMES=all OUT=${OUT:-results/reproduce}/colors
exec bash "$(dirname "$0")/layers.sh" "$@"
