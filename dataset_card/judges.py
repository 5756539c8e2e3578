"""What is known of the judges: how often they prefer a revision, and whether their preference follows the persona."""

from collections.abc import Mapping
from typing import Any

from dataset_card.tables import cell, code, flat, number, share, table, table_of

FEWEST = 20  # below so many rows a share says next to nothing, and the card says that


def judge_table(judge: Mapping[str, Any]) -> str:
    """Who judged. A temperature has a meaning for a judge by likelihood only; others have theirs in the recipe's sampling."""
    shown = {key: value for key, value in flat(judge).items() if key != "temperature" or _divides_a_margin(judge)}
    return table_of(("judge", "value"), shown)


def temperature_note(judge: Mapping[str, Any]) -> str | None:
    if not _divides_a_margin(judge):
        return None
    return (
        "The judge's probability is the logistic function of the margin divided by `temperature`: the lower, the surer. Its verdicts do "
        "not depend on it."
    )


def _divides_a_margin(judge: Mapping[str, Any]) -> bool:
    return judge.get("kind") == "likelihood" and judge.get("temperature") is not None


def judge_check(check: Mapping[str, Any]) -> str:
    """Per judge how often it prefers an unselected revision to the base answer; the paper reports 96 %."""
    rows = []
    for entry in check.get("judges") or ():
        judge = f"{code(entry['judge'])}{' (also wrote the revisions)' if entry['judge_wrote_it'] else ''}"
        shares = [share(entry[name], entry[f"{name}_interval"]) for name in ("rate", "rate_ties_half")]
        rows.append((judge, *shares, *(number(entry[name]) for name in ("n", "ties", "unscored"))))
    return table(("judge", "prefers the revision", "ties counted half", "pairs", "ties", "unscored"), rows)


def flips(measured: Mapping[str, Any]) -> str:
    """Per judge how often its preference turns round with the persona, beside how often it turns the wrong way."""
    rows = []
    for entry in measured.get("judges") or ():
        rate = (
            "withheld: it chose among the revisions"
            if entry["selected_by_this_judge"]
            else share(entry["rate"], entry["interval"])
        )
        counts = (number(entry[name]) for name in ("n", "flipped", "reversed"))
        rows.append((code(entry["judge"]), rate, *counts, _difference(entry), number(entry["unscored"])))
    heads = ("judge", "flip rate", "candidates", "flipped", "reversed", "flipped less reversed", "unscored")
    return table(heads, rows)


def _difference(entry: Mapping[str, Any]) -> str:
    """Share flipped less share reversed; zero for a judge at random, whatever it does with ties."""
    if entry.get("judge_selected_the_revisions", entry.get("selected_by_this_judge")):
        return "withheld"
    return share(entry.get("difference"), entry.get("difference_interval"))


def flip_details(measured: Mapping[str, Any]) -> str:
    """Per judge that did not choose the revisions: flips and their reverse by topic, and by attribute in which the two personas differ."""
    tables = []
    for judge in measured.get("judges") or ():
        if judge["selected_by_this_judge"]:
            continue
        parts = [(f"topic: {topic}", said) for topic, said in judge["by_topic"].items()]
        for attribute, said in judge["by_attribute"].items():
            parts += [(f"{attribute.replace('_', ' ')} {kind}", part) for kind, part in said.items()]
        rows = [
            (cell(name), *(number(part[key]) for key in ("n", "flipped", "reversed")), share(part["rate"], None))
            for name, part in parts
        ]
        if rows:
            heads = ("candidates", "n", "flipped", "reversed", "flip rate")
            tables.append(f"Judge {code(judge['judge'])}:\n\n{table(heads, rows)}")
    return "\n\n".join(tables)


def flip_rate(measured: Mapping[str, Any]) -> str | None:
    rate, n = measured.get("rate"), measured.get("n")
    if measured.get("judge_selected_the_revisions"):
        return (
            f"withheld: the judge chose among the revisions ({number(measured.get('flipped'))} of {number(n)} flipped)."
        )
    if rate is None or not n:
        return None
    few = f" That is fewer than {FEWEST}: too few to conclude from." if n < FEWEST else ""
    judge = f" Judge: {code(measured['judge'])}." if measured.get("judge") else ""
    turned = ""
    if measured.get("reversed") is not None and measured.get("difference") is not None:
        turned = f" The reverse in {number(measured['reversed'])}; flipped less reversed {_difference(measured)}."
    return f"{100 * rate:.1f} % of {number(n)} contrast candidates.{few}{turned}{judge}"


def agreement(measured: Mapping[str, Any]) -> str | None:
    """How far two judges go together on the same candidates, where the build had two."""
    said = measured.get("agreement")
    if not said:
        return None
    first, second = map(code, said["judges"])
    text = (
        f"Of {number(said['n'])} candidates that both judges scored, {first} flips {number(said['flipped_by_first'])}, {second} "
        f"{number(said['flipped_by_second'])}, and both {number(said['flipped_by_both'])}"
    )
    if said["second_among_first"] is not None:
        text += f"; of what the first flips, the second flips {share(said['second_among_first'], None)}"
    return f"{text}."
