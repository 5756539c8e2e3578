"""What raters are shown: the personas of a study with their cards, the pairs about which each is asked, and the attention checks.

Drawn once, by seed, from the test splits of a published dataset; kept in the study's database from then on, so that no later version of
the dataset changes what was shown.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.personas.profile import NULL_WORDS, label, profile_text
from builder.randomness import rng_for, seed_for
from builder.schema import ATTRIBUTES, paper_key
from builder.strict_yaml import read_yaml
from eval.human.study import EXTRAS, Study
from eval.rows import EVALUATED_SPLITS, config_names, content_hash, read_build
from training.profiles import stated_attributes

PAIR_KINDS = ("contrast", "dpf")  # the configs of the dataset
CHECK = "check"
CHECKS_FILE = Path(__file__).with_name("attention_checks.yaml")
# A line with one of these tells a rater nothing. "None" does: the question applied, and the answer was none.
UNTOLD = (NULL_WORDS["missing"], NULL_WORDS["not_applicable"], "nan", "")

Card = tuple[tuple[str, str], ...]


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


@dataclass(frozen=True)
class _Pair:
    """A test pair with its texts. partner: on contrast, whose answer the rejected one is."""

    kind: str
    pair_id: str
    persona_id: str
    prompt_id: str
    question: str
    answers: tuple[str, str]
    partner: str | None
    mirror: str | None


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
    files = {kind: _files_with(folder, kind) for kind, count in wanted.items() if count}
    cards, adults = _cards_of_adults(study, folder)
    counts = {kind: _count_by_persona(paths) for kind, paths in files.items()}
    candidates = sorted(
        (name for name in cards if all(counts[kind][name] >= wanted[kind] for kind in files)),
        key=lambda name: (seed_for(study.seed, "human/persona", name), name),
    )
    pairs: dict[str, dict[str, list[_Pair]]] = {}
    drawn: list[str] = []
    waiting = list(candidates)
    # A pair without a text, or with one text twice, shows only once the texts are read: then the next persona takes the place.
    while len(drawn) < study.personas and waiting:
        tried, waiting = _split(waiting, study.personas - len(drawn))
        found = _read_pairs(files, tried)
        pairs |= found
        drawn += [name for name in tried if all(len(found[name][kind]) >= wanted[kind] for kind in files)]
    if len(drawn) < study.personas:
        raise InputError(_too_few(study, folder, adults, cards, counts, len(drawn)))
    return Material(
        dataset_hash=content_hash(folder),
        version=(read_build(folder) or {}).get("version"),
        personas=tuple(_shown_personas(study, drawn, cards, pairs)),
    )


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
        for row in _read(_files_with(folder, "personas"), ["persona_id", "profile", "extras"], persona_ids)
    }
    if missing := sorted(set(persona_ids) - found.keys()):
        raise InputError(f"The personas config of {folder} has no {missing[0]}. Publish the dataset again.")
    return found


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
    pairs: Mapping[str, Mapping[str, Sequence[_Pair]]],
) -> Iterator[ShownPersona]:
    """pairs: persona -> kind -> its pairs, at least as many as are wanted.

    Half a mirror is worth no more than any other pair. So whole mirrors are taken first, among the pairs and then among those that are
    shown; the places that are left are filled for each persona by itself.
    """
    seed, wanted = study.seed, {"contrast": study.pairs.contrast, "dpf": study.pairs.dpf}
    asked = in_proportion(study.questions_per_rater, wanted)
    # A contrast pair may take the question of a dpf pair only while dpf has questions to spare.
    of_dpf = {name: {pair.prompt_id for pair in pairs[name].get("dpf", ())} for name in drawn}
    spare = {name: max(0, len(of_dpf[name]) - study.pairs.dpf) for name in drawn}
    contrast = {
        name: sorted(pairs[name].get("contrast", ()), key=lambda pair: _place(seed, pair, drawn)) for name in drawn
    }
    whole = _whole_mirrors(seed, contrast, wanted["contrast"], of_dpf, spare)
    chosen: dict[str, dict[str, list[_Pair]]] = {}
    for name in drawn:
        own = _distinct(contrast[name], wanted["contrast"], (), of_dpf[name], spare[name], whole[name])
        dpf = sorted(pairs[name].get("dpf", ()), key=lambda pair: _place(seed, pair, drawn))
        chosen[name] = {"contrast": own, "dpf": _distinct(dpf, wanted["dpf"], {pair.prompt_id for pair in own}, (), 0)}
    # A question that stands twice among them, for want of others, may be asked twice: here nothing but room counts.
    shown = _whole_mirrors(seed, {name: chosen[name]["contrast"] for name in drawn}, asked["contrast"])
    for name in drawn:
        first = shown[name]
        kept = [*first, *(pair for pair in chosen[name]["contrast"] if pair not in first)][: asked["contrast"]]
        checks = _checks(study, name)
        yield ShownPersona(
            name,
            cards[name],
            (*(_item(seed, pair) for own in chosen[name].values() for pair in own), *checks),
            tuple(_item_id(seed, pair.pair_id) for pair in [*kept, *chosen[name]["dpf"][: asked["dpf"]]])
            + tuple(check.item_id for check in checks),
        )


def _whole_mirrors(
    seed: int,
    pairs: Mapping[str, Sequence[_Pair]],
    room: int,
    of_dpf: Mapping[str, Collection[str]] | None = None,
    spare: Mapping[str, int] | None = None,
) -> dict[str, list[_Pair]]:
    """Persona -> contrast pairs, `room` at most, whose mirror is taken for the other persona too, in an order by seed.

    of_dpf, spare: where they are given, a persona takes no question twice, and of those in of_dpf not more than `spare`.
    """
    by_id = {pair.pair_id: pair for own in pairs.values() for pair in own}
    mirrors = sorted(
        ((pair, by_id[pair.mirror]) for pair in by_id.values() if pair.mirror in by_id and pair.pair_id < pair.mirror),
        key=lambda mirror: (seed_for(seed, "human/pair", mirror[0].pair_id), mirror[0].pair_id),
    )
    taken: dict[str, list[_Pair]] = {name: [] for name in pairs}

    def fits(pair: _Pair) -> bool:
        own = [other.prompt_id for other in taken[pair.persona_id]]
        if len(own) >= room:
            return False
        if of_dpf is None or spare is None:
            return True
        theirs = of_dpf[pair.persona_id]
        used = sum(question in theirs for question in own)
        return pair.prompt_id not in own and (pair.prompt_id not in theirs or used < spare[pair.persona_id])

    for mirror in mirrors:
        if all(fits(pair) for pair in mirror):
            for pair in mirror:
                taken[pair.persona_id].append(pair)
    return taken


def _place(seed: int, pair: _Pair, drawn: Collection[str]) -> tuple[bool, int, str]:
    """Order of the pairs that fill up. Those whose partner is in the study stand first, by seed, both halves of a mirror at one place:
    where questions have to be repeated, the two persons may still meet."""
    name = min(pair.pair_id, pair.mirror or pair.pair_id)
    return pair.partner not in drawn, seed_for(seed, "human/pair", name), pair.pair_id


def _distinct(
    pairs: Sequence[_Pair],
    count: int,
    used: Collection[str],
    others: Collection[str],
    spare: int,
    first: Sequence[_Pair] = (),
) -> list[_Pair]:
    """`first`, then the first of `pairs` up to `count` with questions of their own, and only if these do not suffice pairs whose questions
    were used. Of the questions in `others`, `spare` may be taken."""
    taken = list(first)
    met = {*used, *(pair.prompt_id for pair in first)}
    spare -= sum(pair.prompt_id in others for pair in first)
    left: list[_Pair] = []
    for pair in (pair for pair in pairs if pair not in first):
        if len(taken) < count and pair.prompt_id not in met and (pair.prompt_id not in others or spare > 0):
            spare -= pair.prompt_id in others
            met.add(pair.prompt_id)
            taken.append(pair)
        else:
            left.append(pair)
    # First those that repeat a question of the other kind only, then the rest.
    own = {pair.prompt_id for pair in taken}
    for again in (False, True):
        for pair in list(left):
            if len(taken) < count and (again or pair.prompt_id not in own):
                own.add(pair.prompt_id)
                taken.append(pair)
                left.remove(pair)
    return taken


def _checks(study: Study, persona: str) -> list[Item]:
    names = sorted(attention_checks())
    order = rng_for(study.seed, "human/check", persona).permutation(len(names))[: study.attention_checks]
    checks = []
    for name in (names[place] for place in order):
        question, answers = attention_checks()[name]
        pair_id = f"check/{persona}/{name}"
        checks.append(Item(_item_id(study.seed, pair_id), CHECK, persona, pair_id, question, answers))
    return checks


def _item(seed: int, pair: _Pair) -> Item:
    return Item(_item_id(seed, pair.pair_id), pair.kind, pair.persona_id, pair.pair_id, pair.question, pair.answers)


def _item_id(seed: int, pair_id: str) -> str:
    return f"i{seed_for(seed, 'human/item', pair_id):016x}"


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


def _cards_of_adults(study: Study, folder: Path) -> tuple[dict[str, Card], int]:
    """(persona id -> card, of adults whose card is full; how many adults there are)."""
    rows = _read(_files_with(folder, "personas"), ["persona_id", "is_adult", "profile", "extras"])
    adults = [row for row in rows if row["is_adult"]]
    cards = {}
    for row in adults:
        card = card_lines(row["persona_id"], row["profile"], row["extras"], study)
        if len(card) == study.attributes and all((row["extras"] or {}).get(extra) for extra in EXTRAS):
            cards[row["persona_id"]] = card
    return cards, len(adults)


def _files_with(folder: Path, config: str) -> dict[str, list[str]]:
    """Split -> Parquet files of a config. Raises InputError where the folder is no dataset or has no such config."""
    from datasets import load_dataset_builder

    if config not in config_names(folder):
        what = f"set pairs.{config} to 0" if config in PAIR_KINDS else "publish it again"
        raise InputError(f"{folder} has no config {config}; {what}, or name another dataset.")
    try:
        files = load_dataset_builder(str(folder), config).config.data_files
    except Exception as error:  # the loader raises many kinds; each means that the folder cannot be read
        raise InputError(f"Config {config} of {folder} cannot be read: {error}. Publish the dataset again.") from None
    splits = {str(split): [str(path) for path in paths] for split, paths in files.items()}
    return (
        splits if config not in PAIR_KINDS else {split: splits[split] for split in EVALUATED_SPLITS if split in splits}
    )


def _read(
    files: Mapping[str, Sequence[str]], columns: Sequence[str], personas: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of all splits, of `personas` alone if given. Straight from Parquet, not through the loader's cache, which would write the whole
    config to the disk once more; a few row groups at a time in memory."""
    import pyarrow
    import pyarrow.dataset

    paths = [path for own in files.values() for path in own]
    if not paths:
        return []
    try:
        table = pyarrow.dataset.dataset(paths, format="parquet").to_table(
            columns=list(columns),
            filter=None if personas is None else pyarrow.dataset.field("persona_id").isin(sorted(personas)),
            batch_size=4096,
            batch_readahead=2,
            fragment_readahead=1,
        )
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InputError(f"{paths[0]} cannot be read ({error}). Publish the dataset again.") from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _count_by_persona(files: Mapping[str, Sequence[str]]) -> Counter[str]:
    import pyarrow.parquet

    counts: Counter[str] = Counter()
    for path in (path for own in files.values() for path in own):
        column = pyarrow.parquet.read_table(path, columns=["persona_id"])["persona_id"]
        counts.update({entry["values"].as_py(): entry["counts"].as_py() for entry in column.value_counts()})
    return counts


def _read_pairs(
    files: Mapping[str, Mapping[str, Sequence[str]]], personas: Collection[str]
) -> dict[str, dict[str, list[_Pair]]]:
    """Persona -> kind -> its pairs with two texts that differ."""
    found: dict[str, dict[str, list[_Pair]]] = {name: {kind: [] for kind in files} for name in personas}
    for kind, paths in files.items():
        more = ["partner_persona_id", "mirror_pair_id"] if kind == "contrast" else []
        for row in _read(
            paths, ["pair_id", "persona_id", "prompt_id", "prompt", "chosen", "rejected", *more], personas
        ):
            question, *answers = (_last_text(row[column]) for column in ("prompt", "chosen", "rejected"))
            if question and all(answers) and answers[0] != answers[1]:
                found[row["persona_id"]][kind].append(
                    _Pair(
                        kind,
                        row["pair_id"],
                        row["persona_id"],
                        row["prompt_id"],
                        question,
                        (answers[0], answers[1]),
                        row.get("partner_persona_id"),
                        row.get("mirror_pair_id"),
                    )
                )
    return found


def _last_text(messages: Sequence[Mapping[str, str]] | None) -> str:
    return ((messages[-1]["content"] if messages else "") or "").strip()


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
