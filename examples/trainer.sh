#!/usr/bin/env bash
# docs/trainer.md as one file, run in the project's folder after `make demo`: one model by either way of starting it, then a small sweep.
set -euo pipefail
DATA=${DATA:-runs/demo/published}
OUT=${OUT:-runs/trainer}
RECIPE=${RECIPE:-demo_dpo}
SWEEP=${SWEEP:-examples/sweep.yaml}

accelerate launch --config_file accelerate_configs/cpu.yaml -m training.dpo \
    --config "$RECIPE" --dataset "$DATA" --output_dir "$OUT/launched" --max_steps 4 --eval_max_rows 2
persona train dpo "$DATA" --out "$OUT/dpo" --recipe "$RECIPE" --accelerate cpu --max_steps 4 --eval_max_rows 2
cmp "$OUT/launched/adapter_model.safetensors" "$OUT/dpo/adapter_model.safetensors" && echo "the same weights"

persona train sweep "$SWEEP" "$DATA" --out "$OUT/sweep" --jobs 2 --seeds 1
persona train sweep "$SWEEP" "$DATA" --out "$OUT/sweep" --jobs 2
