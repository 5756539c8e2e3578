"""What is checked and printed before the first step, so that nothing is cut, dropped or misread in silence.

Both trainers get the same rows: lengths are measured here, and a row over `max_length` is dropped here, counted,
together with its mirror. (Left to themselves the reward trainer drops long pairs and the DPO trainer cuts their ends,
neither saying how many.)
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset

from builder.errors import InputError
from builder.schema import preference_messages
from training.tokens import common_prefix_length, token_ids

PERCENTILES = (5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class SplitReport:
    rows: int
    kept: int
    dropped: dict[str, int]  # reason -> rows
    token_percentiles: dict[str, int]  # tokens of a whole row (prompt and the longer answer), before dropping
    boundary_mismatches: int  # rows whose prompt, rendered alone, is no prefix of prompt and answer


def say(text: str) -> None:
    """Print once, from the main process."""
    if PartialState().is_main_process:
        print(text, flush=True)


def check_chat_template(tokenizer: Any) -> None:
    """The system text must reach the model. Raises InputError where the template refuses or swallows it."""
    marker = "PersonaMarkerText"
    try:
        rendered = tokenizer.apply_chat_template(preference_messages(marker, "A question?"), tokenize=False)
    except Exception as error:  # jinja errors and whatever a template raises by itself
        raise InputError(
            f"The model's chat template refuses a system message ({error}), which is where the persona stands. Use a "
            "model whose "
            "template has a system role."
        ) from error
    if marker not in rendered:
        raise InputError(
            "The model's chat template drops the system message without a word, so the model would never see the "
            "persona. Use a model "
            "whose template has a system role."
        )


def check_profile_lengths(rows: Dataset, tokenizer: Any, max_length: int) -> None:
    """No profile may fill the whole of `max_length` tokens by itself: cutting it would train on another persona."""
    profiles = {row["persona_id"]: row["prompt"][0]["content"] for row in rows.select_columns(["persona_id", "prompt"])}
    lengths = {persona: len(token_ids(tokenizer, preference_messages(text, ""))) for persona, text in profiles.items()}
    too_long = {persona: length for persona, length in lengths.items() if length >= max_length}
    if too_long:
        shown = ", ".join(
            f"{persona}: {length}" for persona, length in sorted(too_long.items(), key=lambda x: -x[1])[:5]
        )
        raise InputError(
            f"{len(too_long)} of {len(profiles)} profiles take {max_length} tokens or more by themselves ({shown}), "
            "and max_length is "
            f"{max_length}. A profile is never cut. Raise max_length above {max(lengths.values())} plus question and "
            "answer, or build "
            "with a lower personas.profile_max_tokens."
        )


def keep_rows(
    rows: Dataset, split: str, tokenizer: Any, max_length: int, max_dropped_share: float
) -> tuple[Dataset, SplitReport]:
    """The rows that both trainers take whole, and the count of the others by reason.

    Reasons: `empty_completion`, `identical_completions`, `over_max_length` (prompt and either answer exceed
    `max_length` tokens), `mirror_dropped`. Raises InputError if more than `max_dropped_share` of the rows would go.
    """

    def measured(row: dict[str, Any]) -> dict[str, int]:
        prompt = token_ids(tokenizer, row["prompt"], open_answer=True)
        chosen = token_ids(tokenizer, row["prompt"] + row["chosen"])
        rejected = token_ids(tokenizer, row["prompt"] + row["rejected"])
        shared = min(common_prefix_length(prompt, chosen), common_prefix_length(prompt, rejected))
        return {"row_tokens": max(len(chosen), len(rejected)), "boundary_mismatch": int(shared < len(prompt))}

    if len(rows) == 0:
        return rows, SplitReport(0, 0, {}, {}, 0)
    with PartialState().main_process_first():
        lengths = rows.map(measured, desc=f"Measuring {split}", remove_columns=rows.column_names)
    tokens, mismatches = lengths["row_tokens"], int(sum(lengths["boundary_mismatch"]))
    reasons: dict[int, str] = {}
    for index, row in enumerate(rows):
        if not _text(row["chosen"]) or not _text(row["rejected"]):
            reasons[index] = "empty_completion"
        elif row["chosen"] == row["rejected"]:
            reasons[index] = "identical_completions"
        elif tokens[index] > max_length:
            reasons[index] = "over_max_length"
    # A mirrored set without one of its mirrors would let a persona-blind model score other than one half.
    mirrors = rows["mirror_pair_id"]
    gone = {rows[index]["pair_id"] for index in reasons}
    for index, mirror in enumerate(mirrors):
        if index not in reasons and mirror in gone:
            reasons[index] = "mirror_dropped"
    kept = rows.select([index for index in range(len(rows)) if index not in reasons])
    levels = np.percentile(tokens, PERCENTILES, method="higher")
    report = SplitReport(
        rows=len(rows),
        kept=len(kept),
        dropped=dict(sorted(Counter(reasons.values()).items())),
        token_percentiles={f"p{p}": int(level) for p, level in zip(PERCENTILES, levels, strict=True)},
        boundary_mismatches=mismatches,
    )
    _print_split(split, report, max_length)
    if len(reasons) > max_dropped_share * len(rows):
        raise InputError(
            f"{split}: {len(reasons)} of {len(rows)} rows would be dropped ({report.dropped}), more than "
            "max_dropped_share "
            f"{max_dropped_share}. Row lengths in tokens: {report.token_percentiles}; max_length: {max_length}. Raise "
            "max_length, build "
            "shorter profiles and answers, or allow the loss with a higher max_dropped_share."
        )
    return kept, report


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
    say(f"[preflight] trainable: {trainable:,} of {total:,} parameters ({trainable / max(total, 1):.2%})")
    say(
        f"[preflight] dtype: weights {facts['weights_dtype']}, trained {facts['trainable_dtype']}; pad "
        f"{tokenizer.pad_token!r}"
    )
    return facts
