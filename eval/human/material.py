"""What raters are shown: the personas of a study with their cards, the pairs about which each is asked, and the attention checks.

Drawn once, by seed, from the test splits of a published dataset; kept in the study's database from then on, so that no later version of
the dataset changes what was shown.
"""

from dataclasses import dataclass
from pathlib import Path

from eval.human.study import Study


@dataclass(frozen=True)
class Item:
    """One question with two answers. kind: `contrast`, `dpf` or `check`. pair_id: as published; a check has an id of its own, `check/…`.

    answers: those that the data call chosen and rejected, in this order; of a check the one that it asks for, and the other. The app shows
    them in an order drawn for each rater.
    """

    item_id: str
    kind: str
    persona_id: str
    pair_id: str
    question: str
    answers: tuple[str, str]


@dataclass(frozen=True)
class ShownPersona:
    """card: (what, value) lines, as raters see them. items: all that were drawn; shown: ids of those that its raters are asked, the
    checks among them, in a fixed order."""

    persona_id: str
    card: tuple[tuple[str, str], ...]
    items: tuple[Item, ...]
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """dataset_hash: eval.rows.content_hash of the folder it was drawn from. version: the dataset's, or None."""

    dataset_hash: str
    version: str | None
    personas: tuple[ShownPersona, ...]


def draw_material(study: Study, folder: Path) -> Material:
    """Raises InputError where the dataset has too few adult personas with test pairs, saying how many there are."""
    raise NotImplementedError
