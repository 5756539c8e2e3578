"""What each figure of the card shows, in words: an alternative text for those who cannot see it and a caption for all."""

from collections.abc import Mapping
from typing import Any

from dataset_card.fidelity import census_name
from dataset_card.tables import cell, number


def figures(statistics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(file, alternative text, caption) of each figure that the version has.

    `figures` of the statistics names files by what they show: `topics` (the paper's figure 3), `population` (its figures 2 and 13), or
    `personas` (figure 2 alone).
    """
    named = statistics.get("figures") or {}
    said = {"population": _population, "personas": _personas, "topics": _topics}
    return [(named[kind], *say(statistics)) for kind, say in said.items() if kind in named]


def _population(statistics: Mapping[str, Any]) -> tuple[str, str]:
    result = statistics["fidelity"]
    panels, people, census = len(result["attributes"]), result["what"]["people"], census_name(result["census"])
    outside = [entry["label"] for entry in result["attributes"] if not entry["within"]]
    alternative = (
        f"Bar charts of {panels} attributes, each twice on one scale: left the shares of {number(people)} personas, right those of "
        f"{census}."
    )
    found = (
        f"{len(outside)} of {panels} lie outside it: {cell(', '.join(outside))}" if outside else "none lies outside it"
    )
    caption = (
        f"Personas (left) beside {census} (right), the paper's figures 2 and 13 in one. The lines over the bars show where 95 % of "
        f"simulated draws lie; of the attributes as a whole, measured against the 99th percentile of the noise, {found}."
    )
    return alternative, caption


def _personas(statistics: Mapping[str, Any]) -> tuple[str, str]:
    people = statistics.get("personas") or {}
    count = number(people.get("seen", 0) + people.get("unseen", 0))
    return (
        f"Bar charts of the attributes of {count} personas: how many have each value.",
        f"How many of the {count} personas have each value, attribute by attribute (the paper's figure 2).",
    )


def _topics(statistics: Mapping[str, Any]) -> tuple[str, str]:
    topics = by_size(statistics.get("topics") or {})
    if not topics:
        return "An empty chart: no question has a topic.", "No question has a topic."
    (largest, most), (smallest, fewest) = topics[0], topics[-1]
    if most == fewest:
        seen = f"Every one of the {number(len(topics))} topics has {_questions(most)}"
    else:
        seen = (
            f"The largest of {number(len(topics))} topics is “{cell(largest)}” with {_questions(most)}, the smallest “{cell(smallest)}” "
            f"with {number(fewest)}"
        )
    return (
        f"Bar chart of the number of questions in each of {number(len(topics))} topics. {seen}.",
        f"Questions by topic (the paper's figure 3). {seen}.",
    )


def _questions(count: int) -> str:
    return "1 question" if count == 1 else f"{number(count)} questions"


def by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
