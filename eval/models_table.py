"""The results of `persona eval models` as plain text: what the command prints."""

from collections.abc import Sequence
from pathlib import Path

from eval.pair_results import gap, label, load_pair_results, measurement
from eval.printing import plain_number
from eval.results import Result
from eval.seed_spread import seed_groups, spread_over_seeds
from eval.significance import Comparison, compare_scorers
from training.conditioning import CONDITIONS
from training.estimates import Estimate

# config, subset, title, title in the text table
TABLES = (
    ("dpf", "all", "Revision against base answer", "dpf"),
    ("contrast", "all", "One persona's revision against another's", "contrast"),
    ("contrast", "flipped", "Contrast pairs on which the judge changes sides with the persona", "contrast, flipped"),
    (
        "contrast",
        "flipped_second",
        "Contrast pairs on which a second judge changes sides with the persona",
        "contrast, flipped by the second judge",
    ),
)
NAME_WIDTH = 24


def result_table(results: Path) -> str:
    """The results of a folder as plain text, at most 110 columns: accuracy in % with its 95 % interval under the three
    conditions.
    """
    loaded = load_pair_results(results)
    lines: list[str] = []
    for config, subset, title, short in TABLES:
        body = []
        for result in loaded:
            measured = {c: measurement(result, config, subset, "all", c) for c in CONDITIONS}
            found, true = gap(result, config, subset, "all", "wrong"), measured["true"]
            if found is None or true is None:
                continue
            cells = [plain_estimate(m.accuracy) if m else "not scored" for m in measured.values()]
            difference = plain_estimate(found.difference, signed=True)
            body.append(
                (
                    _cut(label(result), NAME_WIDTH),
                    str(true.accuracy.n),
                    *cells,
                    difference,
                    plain_number(true.kappa.value),
                )
            )
        if body:
            heads = ("", "n", "true persona", "no persona", "wrong persona", "true - wrong", "kappa")
            lines += [f"{short}: {title[0].lower()}{title[1:]}", _text_row(heads), *map(_text_row, body), ""]
    lines += _against_control(compare_scorers(results, loaded), loaded)
    lines += _over_seeds(loaded)
    lines += [
        "Accuracy in % [95 % interval, personas and prompts resampled]; ties count half. true - wrong in points.",
        "A scorer that ignores the persona has true - wrong = 0, and on contrast 50.0 without a persona.",
        "kappa: Cohen's, with the verdicts of the dataset's judge, under the true persona; -: none can be given.",
    ]
    return "\n".join(lines)


def plain_estimate(estimate: Estimate, signed: bool = False) -> str:
    if estimate.value is None:
        return str(estimate.withheld)
    sign = "+" if signed else ""
    value = "0.0" if round(estimate.value, 3) == 0 else f"{100 * estimate.value:{sign}.1f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{100 * estimate.low:{sign}.0f} {100 * estimate.high:{sign}.0f}]"


def _against_control(comparisons: Sequence[Comparison], results: Sequence[Result]) -> list[str]:
    """Each model's true - wrong less that of the best scorer that learned nothing."""
    lines: list[str] = []
    for config in dict.fromkeys(comparison.config for comparison in comparisons):
        own = [c for c in comparisons if (c.config, c.measure, c.against) == (config, "gap", "control")]
        if not own:
            continue
        lines.append(f"{config}: true - wrong less that of the best control, {own[0].second} (p corrected after Holm)")
        for comparison in own:
            p = "" if comparison.holm is None else f"  p = {comparison.holm:.3f}"
            difference = plain_estimate(comparison.difference, signed=True)
            lines.append(f"{_cut(comparison.first, NAME_WIDTH):<{NAME_WIDTH}}  {difference:<15}{p}".rstrip())
        lines.append("")
    return lines


def _over_seeds(results: Sequence[Result]) -> list[str]:
    lines: list[str] = []
    for group in seed_groups(results):
        said = []
        for config in ("dpf", "contrast"):
            spread = spread_over_seeds(group, config)
            if spread is not None:
                said.append(f"{config} {100 * spread.mean:+.1f} ({100 * spread.low:+.1f} to {100 * spread.high:+.1f})")
        if said:
            names = _cut(", ".join(label(result) for result in group), 50)
            lines.append(f"{len(group)} seeds ({names}), true - wrong, mean (lowest to highest): {'; '.join(said)}")
    return [*lines, ""] if lines else []


def _cut(text: str, length: int) -> str:
    """Cut in the middle: names of results differ at either end."""
    kept = length - 1
    return text if len(text) <= length else f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def _text_row(cells: Sequence[str]) -> str:
    estimates = (f"{cell:<16}" for cell in cells[2:6])
    return " ".join((f"{cells[0]:<{NAME_WIDTH}}", f"{cells[1]:>6} ", *estimates, f"{cells[6]:>5}")).rstrip()
