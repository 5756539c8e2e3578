"""README.md of a trained model. (TRL's own card names neither the base of a local model nor the data.)"""

from typing import Any

import yaml

MINIMUM_ROWS = 20  # below this a percentage says nothing and is left out


def model_card(record: dict[str, Any]) -> str:
    """Markdown with the Hub's front matter, from training.json's content."""
    dpo = record["kind"] == "dpo"
    base, data = record["base_model"], record["data"]
    header: dict[str, Any] = {
        "base_model": base["model_id"],
        "library_name": "peft" if record["adapter"] else "transformers",
        "pipeline_tag": "text-generation" if dpo else "text-classification",
        "tags": ["persona", "preference", "dpo" if dpo else "reward-model"],
    }
    if data["revision"]:
        header["datasets"] = [data["dataset"]]
    what = "a DPO model" if dpo else "a reward model (one scalar per text)"
    sees = {
        "full": "It reads a persona's profile as system message before the question.",
        "none": "It never saw a persona (the neutral system text stood in its place): the persona-blind baseline.",
    }[record["persona"]]
    load = "load_dpo_model" if dpo else "load_reward_model"
    score = "score_implicit_rewards" if dpo else "score_rewards"
    adapter = "a LoRA adapter on" if record["adapter"] else "all weights of"
    lines = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {what[2:].capitalize()} conditioned on personas",
        f"This is {what}: {adapter} `{base['model_id']}`, trained on persona preference pairs. {sees}",
        "## Use",
        "```python",
        f"from training.scoring import {load}, {score}",
        "from builder.schema import preference_messages",
        "",
        f'model = {load}("path/to/this/folder")',
        f"{score}(model, [(preference_messages(profile, question), answer)])",
        "```",
        "Scores compare answers to the same prompt. They have no meaning across prompts or personas.",
        "## Training data",
        f"Dataset `{data['dataset']}`, configs {', '.join(data['configs'])}"
        + (f", revision `{data['revision']}`" if data["revision"] else "")
        + (f", build fingerprint `{data['fingerprint']}`" if data.get("fingerprint") else "")
        + f". Trained on {data['splits']['train']['kept']} of {data['splits']['train']['rows']} train rows"
        + f" ({_dropped(data['splits']['train']['dropped'])}), for {record['run']['steps']} steps.",
        "## Results, persona shown as in training",
        *_table(record["metrics"]),
        "A high accuracy alone does not show that the persona was used: the chosen text is the revised one, so a "
        "persona-blind model can "
        "score highly on `dpf`. Compare the conditions true, none and wrong persona, and look at the mirrored "
        "`contrast` pairs.",
        "## Limits",
        "Personas are drawn from census microdata and enriched by language models: they are synthetic, cover one "
        "country, and stand for "
        "no real person. Do not use the scores to guess what a real person wants.",
        "Everything that decides this model is in `training.json`.",
    ]
    return "\n\n".join(_joined_code(lines)) + "\n"


def _dropped(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} dropped: {reason}" for reason, count in reasons.items()) or "none dropped"


def _table(metrics: dict[str, float]) -> list[str]:
    names = [key.removesuffix("/rows") for key in metrics if key.endswith("/rows")]
    if not names:
        return ["No rows were scored at the end of training."]
    table = ["| rows | pairs | won | tied | accuracy |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        rows, accuracy = int(metrics[f"{name}/rows"]), metrics[f"{name}/accuracy"]
        shown = f"{accuracy:.1%}" if rows >= MINIMUM_ROWS else f"(fewer than {MINIMUM_ROWS} pairs)"
        table.append(f"| {name} | {rows} | {int(metrics[f'{name}/wins'])} | {int(metrics[f'{name}/ties'])} | {shown} |")
    return ["\n".join(table)]


def _joined_code(lines: list[str]) -> list[str]:
    """Code fences stay in one piece where paragraphs are divided by blank lines."""
    blocks: list[str] = []
    fence: list[str] | None = None
    for line in lines:
        if line.startswith("```"):
            if fence is None:
                fence = [line]
            else:
                blocks.append("\n".join([*fence, line]))
                fence = None
        elif fence is not None:
            fence.append(line)
        else:
            blocks.append(line)
    return blocks
