"""What a build says at its end."""

import resource
import sys
import time
from typing import Any


def build_summary(build: dict[str, Any]) -> str:
    """Counts by stage, calls, and the two rates that tell whether the personas matter to the judge."""
    lines = [f"{'stage':<10}{'in':>9}{'out':>9}{'seconds':>9}  dropped"]
    for name, stage in build["stages"].items():
        dropped = ", ".join(f"{reason} {n}" for reason, n in stage["dropped"].items()) or "none"
        lines.append(f"{name:<10}{stage['in']:>9,}{stage['out']:>9,}{stage['seconds']:>9.1f}  {dropped}")
    usage = build["usage"]
    lines.append(
        f"calls: {usage['calls']:,} made, {usage['hits']:,} replayed; tokens: {usage['prompt_tokens']:,} read, "
        f"{usage['completion_tokens']:,} written; {usage['cost_usd']:.2f} USD"
    )
    preferred = build["stages"].get("pairs", {}).get("judge_prefers_revision")
    if preferred and preferred["rate"] is not None:
        chosen_by_judge = " (it also chose among the candidates)" if preferred["judge_selected_the_revision"] else ""
        lines.append(
            f"the judge prefers the revision in {preferred['preferred']} of {preferred['n']} pairs = {preferred['rate']:.1%}"
            + chosen_by_judge
        )
    flip = build["stages"].get("contrast", {}).get("flip")
    if flip and flip["rate"] is not None:
        lines.append(
            f"its preference flips between the two personas in {flip['flipped']} of {flip['n']} = {flip['rate']:.1%} (chance 25 %)"
        )
    return "\n".join(lines)


def run_costs(started: float) -> str:
    """Minutes since `started` (time.monotonic) and the memory that this process and its children needed at most."""
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Kilobytes on Linux, bytes on macOS. This process and one child run at a time, so their peaks add up at worst.
    gigabytes = (own + children) / (2**30 if sys.platform == "darwin" else 2**20)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    return f"{minutes} min {seconds} s, at most {gigabytes:.1f} GiB of memory"


def pair_text(persona: dict[str, Any], pair: dict[str, Any] | None) -> str:
    """A persona and a pair to read."""
    parts = ["PERSONA", persona["profile"], ""]
    if pair is None:
        return "\n".join([*parts, "The pair could not be written; see the reasons above, or try another model."])
    for title, text in (
        ("QUESTION", pair["prompt"][-1]["content"]),
        ("REJECTED (base answer)", pair["rejected"][0]["content"]),
        ("CRITIQUE", pair["critique"]),
        ("CHOSEN (revision)", pair["chosen"][0]["content"]),
        ("JUDGE", f"{pair['judge_verdict']} (score {pair['judge_score']})"),
    ):
        parts += [title, str(text), ""]
    return "\n".join(parts)
