"""The card of a persona, as raters and judges see it: some of the attributes that its profile states, and the two extras."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from builder.errors import InputError
from builder.personas.profile import NULL_WORDS, label, profile_text
from builder.randomness import rng_for
from builder.schema import ATTRIBUTES, paper_key
from eval.human.dataset_tables import files_with, read_rows
from eval.human.study import EXTRAS, Study
from training.profiles import stated_attributes

# A line with one of these tells a rater nothing. "None" does: the question applied, and the answer was none.
UNTOLD = (NULL_WORDS["missing"], NULL_WORDS["not_applicable"], "nan", "")
Card = tuple[tuple[str, str], ...]


def card_lines(persona_id: str, profile: str, extras: Mapping[str, Sequence[str]] | None, study: Study) -> Card:
    """(what, value): a draw of the attributes that the profile states, in its order and wording, then the two extras; study.attributes
    lines together, fewer where the persona has not so many. Of any persona of a dataset, so that a judge can be shown a wrong one's."""
    stated = _told(profile)
    names = list(stated)
    count = min(study.attributes - len(EXTRAS), len(names))
    order = rng_for(study.seed, "human/card", persona_id).permutation(len(names))[:count]
    lines = [(names[place], stated[names[place]]) for place in sorted(order)]
    own = [(label(extra), "; ".join((extras or {}).get(extra) or ())) for extra in EXTRAS]
    return (*lines, *((what, value) for what, value in own if value))


def card_text(card: Iterable[tuple[str, str]]) -> str:
    """What a judge sees of a persona: the lines of the card under a profile's header."""
    return profile_text([f"{what}: {value}" for what, value in card])


def read_cards(study: Study, folder: Path, persona_ids: Collection[str]) -> dict[str, Card]:
    """Persona id -> card, of any personas of the dataset. Raises InputError for one that it does not have."""
    if not persona_ids:
        return {}
    found = {
        row["persona_id"]: card_lines(row["persona_id"], row["profile"], row["extras"], study)
        for row in read_rows(files_with(folder, "personas"), ["persona_id", "profile", "extras"], persona_ids)
    }
    if missing := sorted(set(persona_ids) - found.keys()):
        raise InputError(f"The personas config of {folder} has no {missing[0]}. Publish the dataset again.")
    return found


def cards_of_adults(study: Study, folder: Path) -> tuple[dict[str, Card], int]:
    """(persona id -> card, of adults whose card is full; how many adults there are)."""
    rows = read_rows(files_with(folder, "personas"), ["persona_id", "is_adult", "profile", "extras"])
    adults = [row for row in rows if row["is_adult"]]
    cards = {}
    for row in adults:
        card = card_lines(row["persona_id"], row["profile"], row["extras"], study)
        if len(card) == study.attributes and all((row["extras"] or {}).get(extra) for extra in EXTRAS):
            cards[row["persona_id"]] = card
    return cards, len(adults)


def _told(profile: str) -> dict[str, str]:
    """What -> value, of all that the profile says something about but the extras; nothing of a profile that is no list of lines."""
    try:
        stated = stated_attributes(profile)
    except InputError:
        return {}
    extras = {paper_key(extra) for extra in EXTRAS}
    return {
        label(name) if name in ATTRIBUTES else name: value
        for name, value in stated.items()
        if value not in UNTOLD and paper_key(name).lower() not in extras
    }
