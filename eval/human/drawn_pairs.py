"""The pairs about which raters are asked: read with their texts, and drawn for each persona by seed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from builder.randomness import seed_for
from eval.human.dataset_tables import read_rows


@dataclass(frozen=True)
class Pair:
    """A test pair with its texts. partner: on contrast, whose answer the rejected one is."""

    kind: str
    pair_id: str
    persona_id: str
    prompt_id: str
    question: str
    answers: tuple[str, str]
    partner: str | None
    mirror: str | None


Chosen = dict[str, dict[str, list[Pair]]]  # persona -> kind -> its pairs, in the order in which they were drawn


def read_pairs(
    files: Mapping[str, Mapping[str, Sequence[str]]], personas: Collection[str]
) -> dict[str, dict[str, list[Pair]]]:
    """Persona -> kind -> its pairs with two texts that differ."""
    found: dict[str, dict[str, list[Pair]]] = {name: {kind: [] for kind in files} for name in personas}
    for kind, paths in files.items():
        more = ["partner_persona_id", "mirror_pair_id"] if kind == "contrast" else []
        for row in read_rows(
            paths, ["pair_id", "persona_id", "prompt_id", "prompt", "chosen", "rejected", *more], personas
        ):
            question, *answers = (_last_text(row[column]) for column in ("prompt", "chosen", "rejected"))
            if question and all(answers) and answers[0] != answers[1]:
                found[row["persona_id"]][kind].append(
                    Pair(
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


def choose_pairs(
    seed: int, drawn: Sequence[str], pairs: Mapping[str, Mapping[str, Sequence[Pair]]], wanted: Mapping[str, int]
) -> Chosen:
    """Those of each drawn persona. pairs: persona -> kind -> its pairs, at least as many as are wanted. wanted: kind -> how many.

    Half a mirror is worth no more than any other pair. So whole mirrors are taken first; the places that are left are filled for each
    persona by itself.
    """
    # A contrast pair may take the question of a dpf pair only while dpf has questions to spare.
    of_dpf = {name: {pair.prompt_id for pair in pairs[name].get("dpf", ())} for name in drawn}
    spare = {name: max(0, len(of_dpf[name]) - wanted["dpf"]) for name in drawn}
    contrast = {
        name: sorted(pairs[name].get("contrast", ()), key=lambda pair: _place(seed, pair, drawn)) for name in drawn
    }
    whole = _whole_mirrors(seed, contrast, wanted["contrast"], of_dpf, spare)
    chosen: Chosen = {}
    for name in drawn:
        own = _distinct(contrast[name], wanted["contrast"], (), of_dpf[name], spare[name], whole[name])
        dpf = sorted(pairs[name].get("dpf", ()), key=lambda pair: _place(seed, pair, drawn))
        chosen[name] = {"contrast": own, "dpf": _distinct(dpf, wanted["dpf"], {pair.prompt_id for pair in own}, (), 0)}
    return chosen


def pairs_to_ask(seed: int, chosen: Chosen, asked: Mapping[str, int]) -> dict[str, list[Pair]]:
    """Persona -> those of its chosen pairs that its raters are asked, whole mirrors first here too. asked: kind -> how many."""
    # A question that stands twice among them, for want of others, may be asked twice: here nothing but room counts.
    shown = _whole_mirrors(seed, {name: chosen[name]["contrast"] for name in chosen}, asked["contrast"])
    kept = {}
    for name, own in chosen.items():
        first = shown[name]
        contrast = [*first, *(pair for pair in own["contrast"] if pair not in first)][: asked["contrast"]]
        kept[name] = [*contrast, *own["dpf"][: asked["dpf"]]]
    return kept


def _whole_mirrors(
    seed: int,
    pairs: Mapping[str, Sequence[Pair]],
    room: int,
    of_dpf: Mapping[str, Collection[str]] | None = None,
    spare: Mapping[str, int] | None = None,
) -> dict[str, list[Pair]]:
    """Persona -> contrast pairs, `room` at most, whose mirror is taken for the other persona too, in an order by seed.

    of_dpf, spare: where they are given, a persona takes no question twice, and of those in of_dpf not more than `spare`.
    """
    by_id = {pair.pair_id: pair for own in pairs.values() for pair in own}
    mirrors = sorted(
        ((pair, by_id[pair.mirror]) for pair in by_id.values() if pair.mirror in by_id and pair.pair_id < pair.mirror),
        key=lambda mirror: (seed_for(seed, "human/pair", mirror[0].pair_id), mirror[0].pair_id),
    )
    taken: dict[str, list[Pair]] = {name: [] for name in pairs}

    def fits(pair: Pair) -> bool:
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


def _place(seed: int, pair: Pair, drawn: Collection[str]) -> tuple[bool, int, str]:
    """Order of the pairs that fill up. Those whose partner is in the study stand first, by seed, both halves of a mirror at one place:
    where questions have to be repeated, the two persons may still meet."""
    name = min(pair.pair_id, pair.mirror or pair.pair_id)
    return pair.partner not in drawn, seed_for(seed, "human/pair", name), pair.pair_id


def _distinct(
    pairs: Sequence[Pair],
    count: int,
    used: Collection[str],
    others: Collection[str],
    spare: int,
    first: Sequence[Pair] = (),
) -> list[Pair]:
    """`first`, then the first of `pairs` up to `count` with questions of their own, and only if these do not suffice pairs whose questions
    were used. Of the questions in `others`, `spare` may be taken."""
    taken = list(first)
    met = {*used, *(pair.prompt_id for pair in first)}
    spare -= sum(pair.prompt_id in others for pair in first)
    left: list[Pair] = []
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
