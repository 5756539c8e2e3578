"""Two groups of people in the same bins, and how far apart they are: every attribute and every pair."""

from dataclasses import dataclass

import numpy as np

from builder.errors import InputError
from builder.fidelity.bins import Binning, binning
from builder.fidelity.distances import Cells, total_variation
from builder.fidelity.people import AGE_BAND, DEPENDS_ON, Answers, People

# Compared as they are, without bins: what the bins hide, and how large chance is where an attribute has many values.
WITHOUT_BINS = {"age": "age in single years", "occupation_category": "occupation codes"}


@dataclass(frozen=True)
class SideBySide:
    """What can be compared. labels: of the bins that anybody has, by attribute. first, second: shape (people, attributes), place in labels.

    not_compared: attribute -> why not.
    """

    attributes: list[str]
    binnings: dict[str, Binning]
    labels: dict[str, list[str]]
    first: np.ndarray
    second: np.ndarray
    not_compared: dict[str, str]
    without_bins: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def cells(self) -> Cells:
        return Cells.of([len(self.labels[name]) for name in self.attributes])


def side_by_side(first: People, second: People) -> SideBySide:
    """Raises InputError for words that no codebook knows."""
    not_compared: dict[str, str] = {}
    binnings: dict[str, Binning] = {}
    labels: dict[str, list[str]] = {}
    columns: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in first.answers:
        why = why_not_comparable(name, first, second)
        if why:
            not_compared[name] = why
            continue
        binnings[name] = binning(name, second.survey_year)
        placed = [place_answers(people.answers[name], binning(name, people.survey_year)) for people in (first, second)]
        used = np.unique(np.concatenate([np.unique(codes) for codes in placed]))
        if set(used) <= binnings[name].without_answer:
            not_compared[name] = "nobody has an answer"
            continue
        labels[name] = [binnings[name].labels[place] for place in used]
        for side, codes in zip(columns, placed, strict=True):
            side.append(np.searchsorted(used, codes).astype(np.int16))
    if not labels:
        raise InputError("The two have no attribute in common. Give a PUMS person file with the Bureau's columns.")
    without_bins = {
        name: same_codes(first.answers[name], second.answers[name]) for name in WITHOUT_BINS if name in labels
    }
    first_codes, second_codes = (np.stack(side, axis=1) for side in columns)
    return SideBySide(list(labels), binnings, labels, first_codes, second_codes, not_compared, without_bins)


def why_not_comparable(attribute: str, first: People, second: People) -> str | None:
    wanted = [column for column in DEPENDS_ON[attribute] if column not in (AGE_BAND, "ADJINC")]
    assert second.columns is not None
    if wanted[0] not in second.columns:
        whose = "; the other side has it from donors" if attribute in first.imputed else ""
        return f"the census table has no {wanted[0]}{whose}"
    if first.columns is None:
        return None
    only_first = [column for column in wanted if column in first.columns - second.columns]
    only_second = [column for column in wanted if column in second.columns - first.columns]
    if not only_first and not only_second:
        return None
    if wanted[0] in only_second:
        return f"only the census table has {wanted[0]}"
    return f"told by other columns: only one of the two tables has {' and '.join([*only_first, *only_second])}"


def place_answers(answers: Answers, bins: Binning) -> np.ndarray:
    return np.array([bins.place(answer) for answer in answers.distinct], dtype=np.int64)[answers.codes]


def same_codes(first: Answers, second: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Both with one code an answer, whatever its bin."""
    places = {answer: place for place, answer in enumerate(dict.fromkeys([*first.distinct, *second.distinct]))}
    codes = [np.array([places[answer] for answer in one.distinct])[one.codes] for one in (first, second)]
    return codes[0], codes[1]


@dataclass(frozen=True)
class Distances:
    """joint: shares of both in all pairs of bins (distances.Cells). tv, jsd: shape (attributes, attributes), marginals on the diagonal.

    shares: attribute -> shares of both in every answer, without bins; exact: attribute -> their total variation distance.
    """

    joint: tuple[np.ndarray, np.ndarray]
    tv: np.ndarray
    jsd: np.ndarray
    shares: dict[str, tuple[np.ndarray, np.ndarray]]
    exact: dict[str, float]

    @staticmethod
    def between(tables: SideBySide, first: People, second: People) -> "Distances":
        cells = tables.cells
        joint = (cells.joint_shares(tables.first, first.weights), cells.joint_shares(tables.second, second.weights))
        tv, jsd = cells.distances(*joint)
        shares = {}
        for name, codes in tables.without_bins.items():
            size = 1 + max(int(side.max()) for side in codes)
            counts = [
                np.bincount(side, people.weights, size) for side, people in zip(codes, (first, second), strict=True)
            ]
            shares[name] = (counts[0] / counts[0].sum(), counts[1] / counts[1].sum())
        exact = {name: float(total_variation(*both)) for name, both in shares.items()}
        return Distances(joint, tv, jsd, shares, exact)
