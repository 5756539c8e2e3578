"""The personas beside the census, as `persona census compare` measured it: RUN/fidelity.json in, sentences and a table out."""

from collections.abc import Mapping
from typing import Any

from dataset_card.tables import cell, number, table, without_folder

PACKAGED = "synthetic_records.parquet"


def census_name(census: Mapping[str, Any]) -> str:
    """As it stands in a sentence. census: `census` of the result."""
    who = "the packaged synthetic records" if census["source"] == PACKAGED else cell(without_folder(census["source"]))
    return f"{who} (survey year {census['survey_year']})"


def fidelity_lines(result: Mapping[str, Any]) -> list[str]:
    """The sentences of the section, one a line of its list."""
    what, census, joint, pairs = (result[name] for name in ("what", "census", "joint", "pairs"))
    who = "adults" if result["adults_only"] else "persons"
    drawn = "with" if not census["drawn_from"] else "without"
    lines = [
        f"**Compared:** {number(what['people'])} personas with {number(census['people'])} {who} of {census_name(census)}, weighted by "
        f"PWGTP; SHA-256 `{census['sha256'][:12]}`. Noise is what chance alone gives: {number(result['draws'])} simulated draws of as many "
        f"people, {drawn} replacement.",
        f"**Attributes:** {joint['within']} of {joint['attributes']} directly sampled attributes lie within the 99th percentile of the "
        "noise" + (f"; all of them together: p = {number(joint['p'])}." if joint["p"] is not None else "."),
    ]
    worst = worst_attribute(result)
    if worst is not None:
        lines.append(
            f"**Worst attribute:** {cell(worst['label'])}, total variation {worst['tv']:.3f} where the noise is {worst['noise']:.3f} on "
            f"average and {worst['p99']:.3f} at its 99th percentile."
        )
    if pairs:
        mean = pairs["mean"]
        lines.append(
            f"**Pairs of attributes:** over all {number(pairs['count'])}, total variation is {mean['tv']:.3f} on average, the noise "
            f"{mean['noise']:.3f}; {100 * pairs['share_within']:.1f} % of the pairs lie within the 99th percentile."
        )
    if not census["drawn_from"]:
        lines.append(
            f"**Another census:** the personas themselves were drawn from {cell(without_folder(what['source']))}."
        )
    if census["source"] == PACKAGED:
        lines.append(
            "**Mind:** the packaged records are synthetic. These numbers say how well the draw follows them, not how well they follow "
            "the population."
        )
    return lines + [cell(note) for note in result.get("notes") or ()]


def worst_attribute(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    direct = [entry for entry in result["attributes"] if entry["sampled"] == "directly"]
    return max(direct, key=lambda entry: (entry["excess"], entry["label"]), default=None)


def fidelity_table(result: Mapping[str, Any]) -> str:
    rows = [
        (
            cell(entry["label"]),
            "" if entry["sampled"] == "directly" else "from donors",
            *(f"{entry[name]:.3f}" for name in ("tv", "noise", "p99", "excess")),
            "yes" if entry["within"] else "**no**",
        )
        for entry in sorted(result["attributes"], key=lambda entry: (-entry["excess"], entry["label"]))
    ]
    return table(("attribute", "", "TV", "noise", "99th percentile", "excess", "within"), rows)
