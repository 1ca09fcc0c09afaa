#!/usr/bin/env bash
# Everything that needs a GPU, on one: all tests, whose scripts take the GPU by themselves, then the speeds, which are
# written into docs/numbers.md with the card's name.
#   bash tests/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python -c 'import torch; raise SystemExit(0 if torch.cuda.is_available() else "tests/gpu.sh: there is no CUDA device")'
pytest
python tests/benchmarks/gpu.py > docs/numbers.new
mv docs/numbers.new docs/numbers.md
echo "written to docs/numbers.md"
