"""The fidelity report as plain text, at most 110 columns wide."""

from textwrap import wrap
from typing import Any

from builder.census.pums import PACKAGED_RECORDS
from builder.fidelity.drift import FEW_TEXTS

WIDTH = 110
NAME_WIDTH = 41
WORST_PAIRS = 5


def fidelity_table(result: dict[str, Any]) -> str:
    """`result` as compare.compare_build or compare_records gives it."""
    direct = [entry for entry in result["attributes"] if entry["sampled"] == "directly"]
    donors = [entry for entry in result["attributes"] if entry["sampled"] != "directly"]
    lines = [*introduction(result), "", header("attribute", "bins")]
    lines += [distance_line(entry["label"], len(entry["bins"]), entry, entry["jsd"]) for entry in direct]
    if donors:
        lines += ["", header("taken from donors (imputed)", "bins")]
        lines += [distance_line(entry["label"], len(entry["bins"]), entry, entry["jsd"]) for entry in donors]
    lines += ["", header("without bins", "values")]
    lines += [distance_line(entry["label"], entry["values"], entry) for entry in result["without_bins"]]
    lines += ["", *pair_lines(result), "", *joint_lines(result)]
    for entry in result["not_compared"]:
        lines += wrap(f"Not compared: {entry['label']} ({entry['why']}).", WIDTH)
    if result["drift"] is not None:
        lines += ["", *drift_lines(result["drift"])]
    return "\n".join(lines)


def introduction(result: dict[str, Any]) -> list[str]:
    census, what = result["census"], result["what"]
    who = "adults" if result["adults_only"] else "persons"
    beside = counted_with(result)
    if result["kind"] == "build":
        sentences = [
            f"{what['people']:,} personas of {what['name']} beside {beside}.",
            f"noise: the same distance of {result['draws']:,} simulated draws of {what['people']:,} {who}, on average.",
        ]
        if not census["drawn_from"]:
            sentences.append(
                f"The personas themselves were drawn from {what['source']} (survey year {what['survey_year']})."
            )
    else:
        sizes = (what["effective_size"], census["effective_size"])
        sentences = [
            f"{what['people']:,} {who} of {shown_as(what)} (survey year {what['survey_year']}) beside {beside}.",
            f"noise: of {result['draws']:,} samples as large as the first table is worth ({sizes[0]:,} without weights), on average; "
            f"99th pct: of two samples, as large as both are worth ({sizes[0]:,} and {sizes[1]:,}).",
        ]
        if result["states_left_out"]:
            sentences.append(f"Left out, because only one table has them: {', '.join(result['states_left_out'])}.")
    sentences += result["notes"]
    sentences.insert(
        1, "TV: total variation distance, 0 to 1. excess: TV less noise. JSD: Jensen-Shannon divergence in bits."
    )
    return [line for sentence in sentences for line in wrap(sentence, WIDTH)]


def shown_as(table: dict[str, Any]) -> str:
    return "the packaged records" if table["source"] == PACKAGED_RECORDS.name else table["source"]


def initial_capital(text: str) -> str:
    """The first letter of `the packaged records`; a file's name stays as it is."""
    return text[:1].upper() + text[1:] if " " in text else text


def counted_with(result: dict[str, Any]) -> str:
    census = result["census"]
    who = "adults" if result["adults_only"] else "persons"
    return f"{census['people']:,} {who} of {shown_as(census)} (survey year {census['survey_year']}), weighted by PWGTP"


def header(name: str, count: str) -> str:
    return f"{name:{NAME_WIDTH}}{count:>7}{'TV':>9}{'noise':>9}{'99th pct':>10}{'excess':>9}{'within':>8}{'JSD':>9}{'noise':>8}"


def distance_line(name: str, count: int | None, entry: dict[str, Any], jsd: dict[str, Any] | None = None) -> str:
    """Without a count the name may run into its column."""
    start = f"{name:{NAME_WIDTH}}{count:>7}" if count is not None else f"{name:{NAME_WIDTH + 7}}"
    within = "" if entry["within"] is None else "yes" if entry["within"] else "NO"
    p99 = "" if entry["p99"] is None else f"{entry['p99']:.3f}"
    last = "" if jsd is None else f"{jsd['jsd']:>9.4f}{jsd['noise']:>8.4f}"
    excess = round(entry["excess"], 3) + 0.0  # no minus before a nought
    return f"{start}{entry['tv']:9.3f}{entry['noise']:9.3f}{p99:>10}{excess:+9.3f}{within:>8}{last}".rstrip()


def pair_lines(result: dict[str, Any]) -> list[str]:
    pairs = result["pairs"]
    if pairs is None:
        return ["Pairs: fewer than two attributes were sampled directly."]
    titles = {entry["attribute"]: entry["label"] for entry in result["attributes"]}
    lines = [
        header("pairs of directly sampled attributes", "pairs"),
        distance_line("mean over all pairs", pairs["count"], pairs["mean"], pairs["mean_jsd"]),
    ]
    for pair in pairs["largest_excess"][:WORST_PAIRS]:
        name = " x ".join(titles[attribute] for attribute in pair["attributes"])
        if len(name) > NAME_WIDTH + 5:
            name = name[: NAME_WIDTH + 2] + "..."
        lines.append(distance_line(name, None, pair, pair["jsd"]))
    lines.append(
        f"{pairs['share_within']:.1%} of the pairs are within their own 99th percentile; chance alone gives 99 %."
    )
    return lines


def joint_lines(result: dict[str, Any]) -> list[str]:
    joint = result["joint"]
    lines = [f"{joint['within']} of {joint['attributes']} directly sampled attributes are within the 99th percentile."]
    if joint["p"] is not None:
        share = "under 1%" if joint["p"] < 0.01 else f"{joint['p']:.0%}"
        lines.append(
            f"In {share} of the simulated draws the most extreme attribute is at least as extreme as here (joint p)."
        )
    return lines


def drift_lines(drift: dict[str, Any]) -> list[str]:
    if "note" in drift:
        return wrap(f"Drift: {drift['note']}", WIDTH)
    lines = [
        "Drift: texts of the language model beside those of rules and lists that they replaced. *: interval without 0.",
        f"{'':34}{'texts':>7}{'model':>9}{'replaced':>10}{'difference':>12}   95 % interval, personas resampled",
    ]
    for group in drift["groups"]:
        name = group["name"].replace("_", " ")
        lines.append(f"{name}{' (' + group['warning'] + ')' if group['warning'] else ''}")
        for measure, title in DRIFT_TITLES.items():
            lines.append(drift_line(title, group["texts"], group[measure]))
        same = group["sameness"]
        for measure, title in (("repeated", "exact repetitions"), ("distinct_words", "distinct words per word")):
            both = [same[side][measure] for side in ("written", "replaced")]
            lines.append(f"  {title:32}{'':7}{cell(both[0], 9)}{cell(both[1], 10)}")
        counted = group["coded_words"]["written"]["left"] + group["coded_words"]["written"]["right"]
        if group["lean"]["difference"] is None:
            lines.append("  No lean: the texts of one side hold no word of the lexicon.")
        elif counted < FEW_TEXTS:
            lines.append(f"  The lean of the model's texts rests on {counted} words only.")
    return lines


DRIFT_TITLES = {
    "compound": "valence (VADER, -1 to 1)",
    "per_word": "valence per word",
    "positive": "share of positive texts",
    "negative": "share of negative texts",
    "lean": "lean, -1 right to 1 left",
    "words": "words a text",
}


def drift_line(title: str, texts: int, entry: dict[str, Any]) -> str:
    line = f"  {title:32}{texts:>7}{cell(entry['written'], 9)}{cell(entry['replaced'], 10)}{cell(entry['difference'], 12, '+.3f')}"
    if entry["low"] is None:
        return line + "   no interval"
    return line + f"   {entry['low']:+.3f} to {entry['high']:+.3f}{'' if entry['low'] <= 0 <= entry['high'] else '  *'}"


def cell(value: float | None, width: int, form: str = ".3f") -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"
