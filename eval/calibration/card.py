"""A calibration card as plain text of at most 110 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.calibration.anchors import ANCHORS
from eval.printing import plain_number
from eval.results import Result

WIDTH = 110
LABEL = 51  # columns of a line's name
BASELINES = (
    ("true", "accuracy, own profile"),
    ("none", "  no profile"),
    ("wrong", "  another person's profile"),
    ("demographics", "  demographic lines only"),
    ("profile_overlap", "  words shared with the profile (no model)"),
    ("shorter_answer", "  the shorter answer (no model)"),
)
AGAINST = (
    ("counter_true", "answer against the demographics, own profile"),
    ("counter_demographics", "  demographic lines only"),
)
DIFFERENCES = (
    ("true_minus_none", "own - no profile"),
    ("true_minus_wrong", "own - another's profile"),
    ("true_minus_demographics", "own - demographic lines only"),
)
MIRRORS = (
    ("moved_to_fit", "verdict moves with the person, to the right answer"),
    ("moved_away", "  moves to the wrong one"),
    ("unmoved", "  does not move"),
)
POSITION = (
    ("order_consistency", "both orders agree"),
    ("first_place", "first place taken"),
    ("p_first_shown_first", "P(answer 1) when shown first"),
    ("p_first_shown_second", "P(answer 1) when shown second"),
    ("accuracy_by_probability", "accuracy by mean probability of both orders"),
)
LENGTH = (
    ("longer_taken", "longer answer taken"),
    ("longer_expected", "longer answer is the right one"),
    ("accuracy_longer_expected", "accuracy where the longer is right"),
    ("accuracy_shorter_expected", "accuracy where the shorter is right"),
)


def printed(result: Result) -> str:
    (judge,), content = result.judges, result.content
    lines = [
        f"Judge {judge['label']}"[:WIDTH],
        f"{judge['kind']}, {result.settings['item_count']} items of {result.settings['profiles']} profiles "
        f"({result.settings['items']})"[:WIDTH],
        *(
            ["*scripted*: its verdicts follow from a fixed rule and say nothing of a model"]
            if judge["scripted"]
            else []
        ),
        _rows(result),
    ]
    if content["withheld"]:
        return "\n".join([*lines, f"No figure is given: {content['withheld']}."])
    lines += _body(content)
    lines.append(
        "In % [95 % interval, profiles and questions resampled], n; a tie counts half, an unscored item nowhere."
    )
    return "\n".join(lines)


def _body(content: Mapping[str, Any]) -> list[str]:
    lines = [_line(name, content["accuracy"][key]) for key, name in BASELINES]
    lines += [_line(name, content["accuracy"][key], signed=True) for key, name in DIFFERENCES]
    if content["accuracy"]["counter_true"]["n"]:
        lines += [_line(name, content["accuracy"][key]) for key, name in AGAINST]
    lines.append(_plain("ties", plain_number(content["ties"]["value"], 1, 100), f"n {content['ties']['n']}"))
    lines.append(
        _plain(
            "accuracy where it chose", plain_number(content["decided"]["value"], 1, 100), f"n {content['decided']['n']}"
        )
    )
    lines.append(_line("Cohen's kappa with the label", content["kappa"], plain=True))
    lines += _part(content["mirrors"], MIRRORS, "mirrors")
    lines += _part(content["position"], POSITION, "position", ("order_effect", "  P shown first - shown second"))
    lines += _part(content["length"], LENGTH, "length", ("bias", "  longer taken - longer right"))
    own = (("own_taken", "own model's answer taken"), ("own_expected", "own model's answer is the right one"))
    lines += _part(content["self_preference"], own, "self-preference", ("bias", "  taken - right"))
    retest = content["retest"]
    if "same" in retest:
        lines.append(_line(f"same verdict in {retest['draws']} draws", retest["same"]))
    else:
        value = "" if retest["value"] is None else f"{retest['value']:.0f} by construction: "
        lines.append(f"test-retest: {value}{retest['reason']}"[:WIDTH])
    reliability = content["reliability"]
    ece = "-" if reliability["ece"] is None else f"{reliability['ece']:.3f}"
    lines.append(_plain("expected calibration error", ece, f"n {reliability['n']}"))
    for own_bin in reliability["bins"]:
        name = f"  P {own_bin['from']:.1f}-{own_bin['to']:.1f}"
        lines.append(
            _plain(
                name,
                f"{100 * own_bin['share_right']:.1f}",
                f"mean P {own_bin['mean_probability']:.2f}, n {own_bin['n']}",
            )
        )
    if content["anchors"]:
        is_critique = content["kind"] == "critique"
        lines.append("passes:" if is_critique else "the fitting answer is preferred to")
        words = {"fitting": "the fitting answer (known good)", **ANCHORS}
        lines += [_line(f"  {words[name]}", estimate) for name, estimate in content["anchors"].items()]
        for name, reason in content["anchors_by_construction"].items():
            lines.append(f"  {name}: {reason}"[:WIDTH])
    asked = ", ".join(f"{name} {count:,}" for name, count in content["asked"].items())
    lines.append(f"judgements asked: {asked}"[:WIDTH])
    return lines


def _part(
    part: Mapping[str, Any],
    entries: Sequence[tuple[str, str]],
    name: str,
    difference: tuple[str, str] | None = None,
) -> list[str]:
    if "reason" in part:
        return [f"{name}: {part['reason']}"[:WIDTH]]
    lines = [_line(words, part[key]) for key, words in entries]
    return lines if difference is None else [*lines, _line(difference[1], part[difference[0]], signed=True)]


def _rows(result: Result) -> str:
    unscored = ", ".join(f"{count} {reason}" for reason, count in result.rows["unscored"].items())
    return f"{result.rows['scored']:,} verdicts scored, unscored: {unscored or 'none'}"[:WIDTH]


def _line(name: str, estimate: Mapping[str, Any], signed: bool = False, plain: bool = False) -> str:
    if estimate["value"] is None:
        return _plain(name, "-", str(estimate["withheld"]))
    scale, digits, sign = (1, 2, "") if plain else (100, 1, "+" if signed else "")
    value = f"{scale * estimate['value']:{sign}.{digits}f}"
    if estimate["low"] is None:
        return _plain(name, value, f"n {estimate['n']}, {estimate['withheld']}")
    low, high = (f"{scale * estimate[side]:{sign}.{digits}f}" for side in ("low", "high"))
    return _plain(name, value, f"[{low} {high}]  n {estimate['n']}")


def _plain(name: str, value: str, rest: str) -> str:
    return f"{name:<{LABEL}}{value:>7}  {rest}"[:WIDTH].rstrip()
