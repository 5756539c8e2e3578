"""What is checked and printed before the first step, so that nothing is cut, dropped or misread in silence.

Both trainers get the same rows: lengths are measured here, and a row over `max_length` is dropped here, counted,
together with its mirror. (Left to themselves the reward trainer drops long pairs and the DPO trainer cuts their ends,
neither saying how many.)
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset

from builder.errors import InputError, few
from training.arguments import PersonaDataArguments
from training.conditioning import WITHOUT_OWN_PERSONA, Conditioning, persona_messages
from training.data import TRAIN_SPLIT
from training.profiles import as_lines
from training.prompts import PersonaPrompts
from training.rules import shortcut_figures
from training.selection import condition_rows, shown_in_training
from training.tokens import common_prefix_length, token_ids

PERCENTILES = (5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class SplitReport:
    rows: int
    kept: int
    dropped: dict[str, int]  # reason -> rows
    token_percentiles: dict[str, int]  # tokens of a whole row (prompt and the longer answer), before dropping
    boundary_mismatches: int  # rows whose prompt, rendered alone, is no prefix of prompt and answer
    drawn_from: int | None = None  # rows of the split, where only a draw of them was looked at
    without_persona: int = 0  # kept rows whose prompt shows no persona: all in mode `none`, else by persona_dropout


def say(text: str) -> None:
    """Print once, from the main process."""
    if PartialState().is_main_process:
        print(text, flush=True)


def check_chat_template(tokenizer: Any, conditioning: Conditioning) -> None:
    """The persona must reach the model. Raises InputError where the template refuses or swallows the message that holds it."""
    marker = "PersonaMarkerText"
    whole = Conditioning(persona_role=conditioning.persona_role)
    try:
        rendered = tokenizer.apply_chat_template(
            persona_messages(whole, as_lines({"age": marker}), "A question?"), tokenize=False
        )
    except Exception as error:  # jinja errors and whatever a template raises by itself
        raise InputError(
            f"The model's chat template refuses a {whole.persona_role} message ({error}), which is where the persona stands. Set "
            "persona_role: user, or use a model whose template has a system role."
        ) from error
    if marker not in rendered:
        raise InputError(
            f"The model's chat template drops the {whole.persona_role} message without a word, so the model would never see the persona. "
            "Set persona_role: user, or use a model whose template has a system role."
        )


def check_persona_lengths(rows: Dataset, prompts: PersonaPrompts, tokenizer: Any, budget: int, key: str) -> None:
    """No persona may take more than `budget` tokens of the prompt: cutting it would train on another one. key: the budget's key."""
    lengths: dict[str, int] = {}
    texts: dict[str, int] = {}
    for row in rows.select_columns(["shown_persona_id", "prompt_id", "question"]):
        persona = row["shown_persona_id"]
        if persona:
            text = prompts.text(persona, row["prompt_id"], row["question"])
            if text not in texts:
                texts[text] = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            lengths[persona] = max(lengths.get(persona, 0), texts[text])
    too_long = {persona: length for persona, length in lengths.items() if length > budget}
    if too_long:
        longest = sorted(too_long, key=lambda persona: -too_long[persona])
        raise InputError(
            f"{len(too_long)} of {len(lengths)} personas take more than {budget} tokens by themselves "
            f"({few([f'{persona}: {too_long[persona]}' for persona in longest])}), and {key} is {budget}. A profile is never cut. Raise "
            f"{key} above {max(lengths.values())} (max_length: plus question and answer), choose a shorter `persona` mode, or build with a "
            "lower personas.profile_max_tokens."
        )


def keep_rows(
    published: Dataset,
    split: str,
    prompts: PersonaPrompts,
    tokenizer: Any,
    max_length: int,
    data: PersonaDataArguments,
) -> tuple[Dataset, SplitReport]:
    """The rows with the prompts that the trainer gets, cut to those that both trainers take whole, and the count of the others by reason.

    Blind rows are measured with the whole profile too. Reasons: `too_few_labelled_pairs` (few-shot modes), `empty_completion`,
    `identical_completions`, `over_max_length` (prompt and either answer exceed `max_length` tokens), `mirror_dropped`. Raises InputError
    for a persona over its budget, and if more than `data.max_dropped_share` of the rows would go.
    """
    if len(published) == 0:
        return published, SplitReport(0, 0, {}, {}, 0)
    dropout = data.persona_dropout if split == TRAIN_SPLIT else 0.0
    reasons: dict[str, str] = {}
    for row in published:
        if not prompts.has_examples(shown_in_training(row, prompts.conditioning, dropout), row["prompt_id"]):
            reasons[row["pair_id"]] = "too_few_labelled_pairs"
        elif not _text(row["chosen"]) or not _text(row["rejected"]):
            reasons[row["pair_id"]] = "empty_completion"
        elif row["chosen"] == row["rejected"]:
            reasons[row["pair_id"]] = "identical_completions"
    rows = condition_rows(_without(published, reasons), prompts, dropout)
    budget = min(data.persona_budget or max_length, max_length)
    check_persona_lengths(
        rows, prompts, tokenizer, budget, "persona_budget" if budget == data.persona_budget else "max_length"
    )

    def measured(row: dict[str, Any]) -> dict[str, int]:
        prompt = token_ids(tokenizer, row["prompt"], open_answer=True)
        chosen = token_ids(tokenizer, row["prompt"] + row["chosen"])
        rejected = token_ids(tokenizer, row["prompt"] + row["rejected"])
        shared = min(common_prefix_length(prompt, chosen), common_prefix_length(prompt, rejected))
        longest = tokens = max(len(chosen), len(rejected))
        if prompts.conditioning.mode in WITHOUT_OWN_PERSONA:
            profile = whole.messages(row["persona_id"], row["prompt_id"], row["question"])
            longest = max(longest, tokens - len(prompt) + len(token_ids(tokenizer, profile, open_answer=True)))
        return {"tokens": tokens, "longest": longest, "boundary_mismatch": int(shared < len(prompt))}

    # A blind row is kept only where the whole profile would fit too, so that blind and conditioned models train on the same rows.
    whole = replace(prompts, conditioning=replace(prompts.conditioning, mode="full", persona_corruption=0.0))
    with PartialState().main_process_first():
        lengths = rows.map(measured, desc=f"Measuring {split}", remove_columns=rows.column_names)
    tokens, longest = (lengths[name][:] if len(rows) else [] for name in ("tokens", "longest"))
    for pair, count in zip(rows["pair_id"][:], longest, strict=True):
        if count > max_length:
            reasons[pair] = "over_max_length"
    # A mirrored set without one of its mirrors would let a persona-blind model score other than one half.
    gone = set(reasons)
    for row in published.select_columns(["pair_id", "mirror_pair_id"]):
        if row["pair_id"] not in reasons and row["mirror_pair_id"] in gone:
            reasons[row["pair_id"]] = "mirror_dropped"
    kept = _without(rows, reasons)
    levels = np.percentile(tokens, PERCENTILES, method="higher") if len(rows) else []
    report = SplitReport(
        rows=len(published),
        kept=len(kept),
        dropped=dict(sorted(Counter(reasons.values()).items())),
        token_percentiles={f"p{p}": int(level) for p, level in zip(PERCENTILES, levels, strict=False)},
        boundary_mismatches=int(sum(lengths["boundary_mismatch"])) if len(rows) else 0,
        without_persona=sum(not shown for shown in kept["shown_persona_id"]),
    )
    _print_split(split, report, max_length)
    if len(reasons) > data.max_dropped_share * len(published):
        raise InputError(
            f"{split}: {len(reasons)} of {len(published)} rows would be dropped ({report.dropped}), more than max_dropped_share "
            f"{data.max_dropped_share}. {_advice(report, max_length, prompts.conditioning)} Or allow the loss with a higher "
            "max_dropped_share."
        )
    return kept, report


def _advice(report: SplitReport, max_length: int, conditioning: Conditioning) -> str:
    """What to do about each of the reasons for which rows were dropped."""
    advice = []
    if "over_max_length" in report.dropped:
        blind = "; blind rows are measured with the profile too" if conditioning.mode in WITHOUT_OWN_PERSONA else ""
        advice.append(
            f"Row lengths in tokens: {report.token_percentiles}; max_length: {max_length}{blind}. Raise max_length, or build shorter "
            "profiles and answers."
        )
    if "too_few_labelled_pairs" in report.dropped:
        advice.append(
            f"Lower few_shot_pairs ({conditioning.few_shot_pairs}), or build with more train pairs a persona."
        )
    if report.dropped.keys() & {"empty_completion", "identical_completions"}:
        advice.append("Answers that are empty or alike come from the build: look at its report and build again.")
    return " ".join(advice)


def _without(rows: Dataset, reasons: dict[str, str]) -> Dataset:
    return rows.select([place for place, pair in enumerate(rows["pair_id"][:]) if pair not in reasons])


def _text(completion: list[dict[str, str]]) -> str:
    return "".join(message["content"] or "" for message in completion).strip()


def _print_split(split: str, report: SplitReport, max_length: int) -> None:
    dropped = ", ".join(f"{reason} {count}" for reason, count in report.dropped.items()) or "none"
    percentiles = ", ".join(f"{name} {value}" for name, value in report.token_percentiles.items())
    say(f"[preflight] {split}: {report.rows} rows, {report.kept} kept, 0 truncated; dropped: {dropped}")
    say(f"[preflight] {split}: tokens a row: {percentiles} (max_length {max_length})")
    if report.boundary_mismatches:
        say(
            f"[preflight] {split}: in {report.boundary_mismatches} rows the prompt rendered alone is no prefix of "
            "prompt and answer; "
            "the answer is taken to begin where they part"
        )


def print_sample(rows: Dataset, tokenizer: Any) -> None:
    """One row as the model reads it, decoded from the tokens, with the place where the loss begins."""
    row = rows[0]
    prompt = token_ids(tokenizer, row["prompt"], open_answer=True)
    whole = token_ids(tokenizer, row["prompt"] + row["chosen"])
    boundary = common_prefix_length(prompt, whole)
    say(f"[preflight] sample {row['pair_id']}, chosen, prompt and completion divided by `|||`:")
    say(f"{tokenizer.decode(whole[:boundary])}|||{tokenizer.decode(whole[boundary:])}")


def print_shortcuts(rows: dict[str, Dataset]) -> dict[str, dict[str, float]]:
    """What rules that never see the persona would score, fitted on the training rows: what a model gets without them. Returned for the
    record.
    """
    shortcuts = shortcut_figures(rows)
    for split, figures in shortcuts.items():
        said = ", ".join(f"{rule} {accuracy:.2f}" for rule, accuracy in figures.items())
        say(f"[preflight] {split}: accuracy of rules that never see the persona: {said}")
    return shortcuts


def share_in_words(trainable: int, total: int) -> str:
    return f"{trainable:,} of {total:,} parameters ({trainable / max(total, 1):.2%})"


def print_model(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Trainable share, dtypes and padding; returned for the record."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    facts = {
        "trainable_parameters": trainable,
        "parameters": total,
        "weights_dtype": sorted(
            {str(p.dtype).removeprefix("torch.") for p in model.parameters() if not p.requires_grad}
        ),
        "trainable_dtype": sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}),
        "pad_token": tokenizer.pad_token,
        "eos_token": tokenizer.eos_token,
    }
    if trainable == 0:
        raise InputError("No parameter of the model is trainable. Check lora_target_modules, or set use_peft: false.")
    say(f"[preflight] trainable: {share_in_words(trainable, total)}")
    say(
        f"[preflight] dtype: weights {facts['weights_dtype']}, trained {facts['trainable_dtype']}; pad "
        f"{tokenizer.pad_token!r}"
    )
    return facts
