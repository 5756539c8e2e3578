"""What a build says at its end."""

import resource
import sys
import time
from typing import Any


def build_summary(build: dict[str, Any]) -> str:
    """Counts by stage, calls, and the two figures that tell whether the personas matter to the judge."""
    lines = [f"{'stage':<10}{'in':>9}{'out':>9}{'seconds':>9}  dropped"]
    for name, stage in build["stages"].items():
        dropped = ", ".join(f"{reason} {n}" for reason, n in stage["dropped"].items()) or "none"
        lines.append(f"{name:<10}{stage['in']:>9,}{stage['out']:>9,}{stage['seconds']:>9.1f}  {dropped}")
    usage = build["usage"]
    if "estimate" in build:
        return "\n".join([*lines, *estimate_lines(build["estimate"], usage["hits"])])
    lines.append(
        f"calls: {usage['calls']:,} made, {usage['hits']:,} replayed; tokens: {usage['prompt_tokens']:,} read, "
        f"{usage['completion_tokens']:,} written; {usage['cost_usd']:.2f} USD"
    )
    if usage.get("retried_requests"):
        lines.append(
            f"on top {usage['retried_requests']:,} requests without a usable answer (timeouts, unreadable responses), their prompts "
            "charged by estimate"
        )
    preferred = build["stages"].get("pairs", {}).get("judge_prefers_revision")
    if preferred and preferred["n"]:
        counts = f"the judge prefers the revision in {preferred['preferred']} of {preferred['n']} pairs"
        lines.append(counts + rate_or_reason(preferred["rate"], preferred["judge_selected_the_revision"]))
    flip = build["stages"].get("contrast", {}).get("flip")
    if flip and flip["n"]:
        lines.append(flip_line(flip))
    for check in build["stages"].get("pairs", {}).get("judge_check", {}).get("judges", []):
        lines.append(judge_check_line(check))
    return "\n".join(lines)


def rate_or_reason(rate: float | None, selected: bool) -> str:
    """A judge that chose among the candidates gets counts and no rate: it picked what it likes."""
    return " (no rate: it also chose among the candidates)" if selected else "" if rate is None else f" = {rate:.1%}"


def flip_line(flip: dict[str, Any]) -> str:
    """Flips beside their reverse: a judge that decides at random does both equally often."""
    selected = flip["judge_selected_the_revisions"]
    counts = f"its preference flips between the two personas in {flip['flipped']} of {flip['n']}"
    line = counts + rate_or_reason(flip["rate"], selected) + f", and turns the wrong way in {flip['reversed']}"
    if selected or flip["difference"] is None:
        return line
    low, high = flip["difference_interval"]
    return f"{line}; the difference is {flip['difference']:.1%} [{low:.1%}, {high:.1%}], 0 for a judge that ignores the persona"


def judge_check_line(check: dict[str, Any]) -> str:
    """The paper's claim (a role-playing judge prefers 96 % of the revisions) on revisions that no judge chose."""
    if check["rate"] is None:
        return f"judge check: {check['judge']} gave {check['n']} verdicts, too few to tell"
    low, high = check["rate_interval"]
    own = ", which also wrote them" if check["judge_wrote_it"] else ""
    return (
        f"judge check: {check['judge']}{own} prefers {check['preferred']} of {check['n']} unselected revisions = {check['rate']:.1%} "
        f"[{low:.1%}, {high:.1%}], ties {check['ties']} (paper: 96 %)"
    )


def estimate_lines(estimate: dict[str, Any], hits: int) -> list[str]:
    """What a dry run found: what is still to be called, and what the expected lengths rest on."""
    time_needed = "time unknown" if estimate["seconds"] is None else f"about {estimate['seconds'] / 3600:.1f} hours"
    lines = [
        f"still to be called: {estimate['calls']:,} calls ({hits:,} are recorded), {estimate['prompt_tokens']:,} tokens to read, "
        f"{estimate['completion_tokens']:,} to write, {estimate['cost_usd']:.2f} USD, {time_needed}"
    ]
    guessed = sorted(name for name, basis in estimate["basis"].items() if basis == "max_tokens")
    rests_on = {name: basis for name, basis in estimate["basis"].items() if basis != "max_tokens"}
    if guessed:
        advice = (
            " Run the build with --pilot 50 first, and the estimate rests on real answers."
            if estimate["pilot_helps"]
            else ""
        )
        lines.append(f"an upper bound: every answer of {', '.join(guessed)} counted with its max_tokens.{advice}")
    elif rests_on:
        fewest = min(rests_on, key=lambda name: (rests_on[name], name))
        lines.append(f"the lengths are those of recorded replies, of {fewest} only {rests_on[fewest]:,}")
    return lines


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
