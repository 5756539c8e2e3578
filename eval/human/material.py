"""What raters are shown: the personas of a study with their cards, the pairs about which each is asked, and the attention checks.

Drawn once, by seed, from the test splits of a published dataset; kept in the study's database from then on, so that no later version of
the dataset changes what was shown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.randomness import rng_for, seed_for
from builder.schema import paper_key
from builder.strict_yaml import read_yaml
from eval.human.cards import Card, cards_of_adults
from eval.human.dataset_tables import count_by_persona, files_with
from eval.human.drawn_pairs import Pair, choose_pairs, pairs_to_ask, read_pairs
from eval.human.study import EXTRAS, Study
from eval.rows import content_hash, read_build

CHECK = "check"
CHECKS_FILE = Path(__file__).with_name("attention_checks.yaml")


@dataclass(frozen=True)
class Item:
    """One question with two answers. kind: `contrast`, `dpf` or `check`. pair_id: as published; a check has an id of its own,
    `check/PERSONA/NAME`. item_id: says nothing to a rater who looks into the page, neither that it is a check nor whose answer it holds.

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
    card: Card
    items: tuple[Item, ...]
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """dataset_hash: eval.rows.content_hash of the folder it was drawn from. version: the dataset's, or None."""

    dataset_hash: str
    version: str | None
    personas: tuple[ShownPersona, ...]


def draw_material(study: Study, folder: Path) -> Material:
    """Adults whose profile fills the card, with enough test pairs of both kinds, in an order drawn by seed; then the pairs of each.

    The texts are read of the drawn personas alone: a full dataset has more than half a million contrast pairs. Raises InputError where
    the dataset has too few such personas, saying how many there are.
    """
    wanted = {"contrast": study.pairs.contrast, "dpf": study.pairs.dpf}
    checks = attention_checks()
    if study.attention_checks > len(checks):
        raise InputError(
            f"attention_checks is {study.attention_checks}, but only {len(checks)} are written ({CHECKS_FILE.name}). Lower it."
        )
    files = {kind: files_with(folder, kind) for kind, count in wanted.items() if count}
    cards, adults = cards_of_adults(study, folder)
    counts = {kind: count_by_persona(paths) for kind, paths in files.items()}
    candidates = sorted(
        (name for name in cards if all(counts[kind][name] >= wanted[kind] for kind in files)),
        key=lambda name: (seed_for(study.seed, "human/persona", name), name),
    )
    pairs: dict[str, dict[str, list[Pair]]] = {}
    drawn: list[str] = []
    waiting = list(candidates)
    # A pair without a text, or with one text twice, shows only once the texts are read: then the next persona takes the place.
    while len(drawn) < study.personas and waiting:
        tried, waiting = _split(waiting, study.personas - len(drawn))
        found = read_pairs(files, tried)
        pairs |= found
        drawn += [name for name in tried if all(len(found[name][kind]) >= wanted[kind] for kind in files)]
    if len(drawn) < study.personas:
        raise InputError(_too_few(study, folder, adults, cards, counts, len(drawn)))
    return Material(
        dataset_hash=content_hash(folder),
        version=(read_build(folder) or {}).get("version"),
        personas=tuple(_shown_personas(study, drawn, cards, pairs)),
    )


@cache
def attention_checks() -> dict[str, tuple[str, tuple[str, str]]]:
    """Name -> (question, (the answer that asks to be chosen, the other))."""
    return {
        name: (check["question"], (check["asked"], check["other"])) for name, check in read_yaml(CHECKS_FILE).items()
    }


def in_proportion(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """`total` things split as `sizes` are, by largest remainder; of equal remainders the first."""
    whole = sum(sizes.values())
    shares = {name: divmod(total * size, whole) for name, size in sizes.items()}
    left = total - sum(share for share, _ in shares.values())
    first = sorted(shares, key=lambda name: -shares[name][1])[:left]
    return {name: share + (name in first) for name, (share, _) in shares.items()}


def material_to_dict(material: Material) -> dict[str, Any]:
    """Plain JSON types."""
    return asdict(material)


def material_from_dict(raw: Mapping[str, Any]) -> Material:
    """The reverse of material_to_dict, also after JSON has made lists of the tuples."""
    return Material(
        raw["dataset_hash"],
        raw["version"],
        tuple(
            ShownPersona(
                persona["persona_id"],
                tuple((what, value) for what, value in persona["card"]),
                tuple(Item(**item | {"answers": tuple(item["answers"])}) for item in persona["items"]),
                tuple(persona["shown"]),
            )
            for persona in raw["personas"]
        ),
    )


def _shown_personas(
    study: Study,
    drawn: Sequence[str],
    cards: Mapping[str, Card],
    pairs: Mapping[str, Mapping[str, Sequence[Pair]]],
) -> Iterator[ShownPersona]:
    """pairs: persona -> kind -> its pairs, at least as many as are wanted."""
    seed, wanted = study.seed, {"contrast": study.pairs.contrast, "dpf": study.pairs.dpf}
    chosen = choose_pairs(seed, drawn, pairs, wanted)
    asked = pairs_to_ask(seed, chosen, in_proportion(study.questions_per_rater, wanted))
    for name in drawn:
        checks = _checks(study, name)
        yield ShownPersona(
            name,
            cards[name],
            (*(_item(seed, pair) for own in chosen[name].values() for pair in own), *checks),
            tuple(_item_id(seed, pair.pair_id) for pair in asked[name]) + tuple(check.item_id for check in checks),
        )


def _checks(study: Study, persona: str) -> list[Item]:
    names = sorted(attention_checks())
    order = rng_for(study.seed, "human/check", persona).permutation(len(names))[: study.attention_checks]
    checks = []
    for name in (names[place] for place in order):
        question, answers = attention_checks()[name]
        pair_id = f"check/{persona}/{name}"
        checks.append(Item(_item_id(study.seed, pair_id), CHECK, persona, pair_id, question, answers))
    return checks


def _item(seed: int, pair: Pair) -> Item:
    return Item(_item_id(seed, pair.pair_id), pair.kind, pair.persona_id, pair.pair_id, pair.question, pair.answers)


def _item_id(seed: int, pair_id: str) -> str:
    return f"i{seed_for(seed, 'human/item', pair_id):016x}"


def _split(names: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    return list(names[:count]), list(names[count:])


def _too_few(
    study: Study,
    folder: Path,
    adults: int,
    cards: Mapping[str, Card],
    counts: Mapping[str, Counter[str]],
    found: int,
) -> str:
    wanted = {"contrast": study.pairs.contrast, "dpf": study.pairs.dpf}
    extras = " and ".join(paper_key(extra) for extra in EXTRAS)
    said = (
        f"{folder} has {found} personas for this study, and it asks for {study.personas}: of its {adults} adults, {len(cards)} have "
        f"{extras} and {study.attributes - len(EXTRAS)} more attributes in their profile, and {found} of these have "
        f"{' and '.join(f'{wanted[kind]} {kind}' for kind in counts)} test pairs with two different texts."
    )
    advice = [f"lower personas to {found}"] if found else []
    if len(cards) < study.personas:
        advice.append("lower attributes")
    possible = min(study.personas, len(cards))
    lower = [] if possible == study.personas or possible == found else [f"personas to {possible}"]
    for kind, own in counts.items() if possible else ():
        most = sorted((own[name] for name in cards), reverse=True)[possible - 1]
        lower += [f"pairs.{kind} to {most}"] if most < wanted[kind] else []
    advice += [f"lower {', '.join(lower)}"] if lower else []
    return f"{said} To go on, {', or '.join(advice) or 'name another dataset'}."
