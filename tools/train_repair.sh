#!/bin/bash
# PHOTOGRAPHS BANK OUT [DEVICE] [MINUTES]: the repair net from nothing to the files that ship; goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
photographs="$1" bank="$2" out="$3" device="${4:-cpu}" minutes="${5:-}"
training=("$python" -m inspector.generator.training)
limit=()
if [[ -n "$minutes" ]]; then limit=(--minutes "$minutes"); fi

"$python" -c 'import torch' 2>/dev/null || {
    echo 'Training needs PyTorch: .venv/bin/pip install "line-inspector[train]"' >&2
    exit 1
}
if [[ ! -f "$bank/samples.json" ]]; then "${training[@]}" bank --out "$bank"; fi
"${training[@]}" train configs/train/repair.yaml --out "$out/repair" --photographs "$photographs" --bank "$bank" \
    --device "$device" "${limit[@]}"
"${training[@]}" train configs/train/repair-rounded.yaml --out "$out/repair-rounded" --photographs "$photographs" \
    --bank "$bank" --start-from "$out/repair/checkpoint.pt" --device "$device" "${limit[@]}"
"${training[@]}" export "$out/repair-rounded/checkpoint.pt" --out "$out/weights"
