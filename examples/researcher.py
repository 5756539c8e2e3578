"""docs/researcher.md as one file, in the project's folder after `make demo`: look at the data, train with plain TRL, then the control."""

import os
import subprocess

import numpy as np
import pandas as pd
from datasets import load_dataset

DATA = os.environ.get("DATA", "runs/demo/published")
OUT = os.environ.get("OUT", "runs/researcher")


def shell(commands: str) -> None:
    subprocess.run(["bash", "-euc", commands], check=True)


personas = load_dataset(DATA, "personas", split="train")
train = load_dataset(DATA, "dpf", split="train")
persona = personas[0]
own = train.filter(lambda row: row["persona_id"] == persona["persona_id"])
pair = own[0]
print(f"{persona['persona_id']} has {len(own)} of {len(train)} training pairs. {persona['profile']}")
print("question:", pair["prompt"][1]["content"])
print("chosen:", pair["chosen"][0]["content"], "\nrejected:", pair["rejected"][0]["content"])

contrast = load_dataset(DATA, "contrast", split="seen_test")
row = contrast[0]
mirror = contrast.filter(lambda other: other["pair_id"] == row["mirror_pair_id"])[0]
print(row["pair_id"], "|", row["chosen"][0]["content"])
print(mirror["pair_id"], "|", mirror["chosen"][0]["content"], mirror["chosen"] == row["rejected"])

shell(f"""
MODEL=${{MODEL:-$(python -c "from builder.llm.weights import embedded_model; print(embedded_model().folder)")}}
trl dpo --dataset_name {DATA} --model_name_or_path $MODEL --output_dir {OUT}/dpo \\
    --max_length 512 --max_steps 12 --per_device_train_batch_size 2 --learning_rate 1e-5 \\
    --use_cpu --bf16 False --logging_steps 4 --save_strategy no
persona train score {DATA} --prompted sum --model_name_or_path $MODEL --out {OUT}/before.json \\
    --dataset_configs dpf contrast --eval_max_rows 6 --use_cpu true --dtype float32
persona train score {DATA} --prompted sum --model_name_or_path {OUT}/dpo --out {OUT}/after.json \\
    --dataset_configs dpf contrast --eval_max_rows 6 --use_cpu true --dtype float32
""")

tables = [pd.read_parquet(f"{OUT}/{name}.parquet") for name in ("before", "after")]
before, after = (table.set_index("pair_id") for table in tables)
margins = ["margin_true", "margin_none", "margin_wrong"]
won = (np.sign(after[margins] - before[margins]) + 1) / 2  # training moved towards chosen: 1, not at all: one half
print(won.groupby(after["pair_kind"]).mean().assign(rows=after["pair_kind"].value_counts()))
