"""How a model is used, in its card: Python that runs as it stands, with this project and with the libraries alone."""

import json
from collections.abc import Mapping
from typing import Any

from training.conditioning import FEW_SHOT_MODES, Conditioning, LabelledPair, Messages, persona_messages
from training.kinds import TRL_KINDS
from training.profiles import as_lines
from training.trained import PER_TOKEN_LOSSES

FOLDER = "path/to/this/folder"
BASE_FOLDER = "path/to/the/base/model"
DATASET_FOLDER = "path/to/the/dataset"
EXAMPLE_PROFILE = as_lines(
    {
        "age": "43",
        "sex": "Female",
        "occupation_category": "Registered nurses",
        "place_of_birth": "Ohio",
        "mannerisms": "Likes plain words",
    }
)
EXAMPLE_QUESTION = "Should shops open on Sundays?"
EXAMPLE_ANSWERS = ("Yes, if the staff agree to it.", "No, everybody needs a day off.")
EXAMPLE_PAIRS = (LabelledPair("", "Is it right to eat meat?", "It is, in moderation.", "No, never."),)


def use_section(record: Mapping[str, Any], repository: str | None) -> list[str]:
    ours = [
        "With the PERSONA testbed, from its repository (prompt template, base weights and chat template are checked):",
        "```python\n" + "\n".join(_testbed_use(record, repository)) + "\n```",
    ]
    if record["kind"] not in TRL_KINDS:
        return ours
    if _per_token(record):
        ours.append(
            f"The loss ({', '.join(record['loss_type'])}) compares averages over an answer's tokens, and so do the results above: the "
            "implicit reward is beta * (policy - reference), in nats, divided by the answer's number of tokens with the end of turn."
        )
    notes = []
    if record["kind"] == "reward":
        note = 'A text-classification pipeline shows the sigmoid of the reward; `function_to_apply="none"` gives the reward itself.'
        notes = [
            f"`num_labels=1` is needed, because an adapter does not store it. {note}" if record["adapter"] else note
        ]
    return [
        *ours,
        "With the libraries alone:",
        "```python\n" + "\n".join(_plain_use(record, repository)) + "\n```",
        *notes,
    ]


def _per_token(record: Mapping[str, Any]) -> bool:
    return record["kind"] == "dpo" and bool(set(record.get("loss_type", ())) & set(PER_TOKEN_LOSSES))


def _testbed_use(record: Mapping[str, Any], repository: str | None) -> list[str]:
    dpo = record["kind"] == "dpo"
    download = [] if repository is None else ["from huggingface_hub import snapshot_download", ""]
    folder = f'"{FOLDER}"' if repository is None else f'snapshot_download("{repository}")'
    needs_base = record["adapter"] or record["kind"] != "reward"
    base = f', base_model="{BASE_FOLDER}"' if record["base_model"]["given"] == "folder" and needs_base else ""
    if record["kind"] not in TRL_KINDS:
        return [*download, *_own_use(record, folder, base)]
    few_shot = record["conditioning"]["mode"] in FEW_SHOT_MODES
    neutral_reference = dpo and record["reference_persona"] is False
    load, score = ("load_dpo_model", "score_implicit_rewards") if dpo else ("load_reward_model", "score_rewards")
    if neutral_reference:
        score = "score_log_probabilities"
    names = ["LabelledPair", "from_record", "persona_messages"] if few_shot else ["from_record", "persona_messages"]
    lines = [
        *download,
        f"from training.conditioning import {', '.join(names)}",
        f"from training.scoring import {', '.join(['answer_tokens'] * _per_token(record) + [load, score])}",
        "",
        f"model = {load}({folder}{base})",
        "conditioning = from_record(model.record)",
        f"profile = {None if record['persona'] == 'none' else json.dumps(EXAMPLE_PROFILE)}",
        f'question = "{EXAMPLE_QUESTION}"',
    ]
    if few_shot:
        lines += [
            f"examples = [  # {record['conditioning']['few_shot_pairs']} of them in training",
            *(
                f"    LabelledPair({', '.join(map(json.dumps, (p.prompt_id, p.question, p.preferred, p.other)))}),"
                for p in EXAMPLE_PAIRS
            ),
            "]",
        ]
    lines += [
        f"messages = persona_messages(conditioning, profile, question{', examples' if few_shot else ''})",
        f"answers = {json.dumps(EXAMPLE_ANSWERS)}",
    ]
    if not dpo:
        return [*lines, "rewards = score_rewards(model, [(messages, answer) for answer in answers])"]
    if neutral_reference:
        lines += [
            "neutral = persona_messages(conditioning, None, question)",
            "policy = score_log_probabilities(model, [(messages, answer) for answer in answers])",
            "reference = score_log_probabilities(model, [(neutral, answer) for answer in answers], reference=True)",
            "rewards = [model.beta * (p - r) for p, r in zip(policy, reference, strict=True)]",
        ]
    else:
        lines += [
            "scores = score_implicit_rewards(model, [(messages, answer) for answer in answers])",
            "rewards = [model.beta * (policy - reference) for policy, reference in scores]",
        ]
    if _per_token(record):
        lines += [
            "tokens = answer_tokens(model, [(messages, answer) for answer in answers])",
            "rewards = [reward / count for reward, count in zip(rewards, tokens, strict=True)]",
        ]
    return lines


def _own_use(record: Mapping[str, Any], folder: str, base: str) -> list[str]:
    """Of a model that knows personas by their ids or their labelled pairs, so that it is used with its dataset."""
    data = record["data"]
    source = f"hub:{data['dataset']}@{data['revision']}" if data["revision"] else DATASET_FOLDER
    return [
        "from pathlib import Path",
        "",
        "from training.data import labelled_pairs, load_preference_data",
        "from training.evaluation import candidate_of",
        "from training.trained import load_scorer",
        "",
        f'data = load_preference_data("{source}", {json.dumps(data["configs"])})',
        f"scorer = load_scorer(Path({folder}), data.profiles, labelled_pairs(data){base})",
        'candidates = [candidate_of(row, "true", "chosen") for row in data.splits["seen_test"]]',
        "candidates = [candidate for candidate in candidates if scorer.usable(candidate)]",
        "rewards = scorer.score(candidates)",
    ]


def _plain_use(record: Mapping[str, Any], repository: str | None) -> list[str]:
    dpo, base = record["kind"] == "dpo", record["base_model"]
    auto = "AutoModelForCausalLM" if dpo else "AutoModelForSequenceClassification"
    place = repr(repository or FOLDER).replace("'", '"')
    head = "" if dpo else ", num_labels=1, pad_token_id=tokenizer.pad_token_id"
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
    lines += ["messages = [", *_spelled_out(example_messages(record))]
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
        *_spelled_out([{"role": "assistant", "content": EXAMPLE_ANSWERS[0]}]),
        "]",
        'text = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")',
        "reward = model(**text).logits[0, 0].item()",
    ]


def example_messages(record: Mapping[str, Any]) -> Messages:
    """What the model reads of the card's example persona and question."""
    profile = None if record["persona"] == "none" else EXAMPLE_PROFILE
    return persona_messages(Conditioning(**record["conditioning"]), profile, EXAMPLE_QUESTION, EXAMPLE_PAIRS)


def _spelled_out(messages: Messages) -> list[str]:
    return [f"    {json.dumps(message)}," for message in messages]
