"""Proofs: what must hold by construction, counted over all rows. One defect is a failure.

People: ids, groups, splits, households, near-clones. Prompts: pools, near-duplicates. Pairs: ids, sides, mirrors, controls.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from builder.audit.checks import Check, figure, proof, unknown
from builder.audit.pairs import ABSENT, UNKNOWN, Pairs
from builder.imports.clusters import cluster_imported
from builder.imports.similarity import find_similar, index_texts
from builder.personas.groups import COMPARED, compared_value, find_clusters, near_clones
from builder.prompts.filters import shingles
from builder.schema import SPLITS
from builder.tables import read_columns, read_serials

Row = dict[str, Any]
TRAIN, SEEN_TEST, HELDOUT_TEST, SUPPORT = (SPLITS.index(s) for s in ("train", "seen_test", "heldout_test", "support"))
STOCK_ANSWER = 20  # words
BUILD = "build"  # in place of a config, where a check concerns none alone


def pair_proofs(pairs: Pairs, groups: np.ndarray, pools: np.ndarray) -> list[Check]:
    """Ids, sides and splits of one pair table. groups, pools: strings, in the order of `pairs.personas` and `pairs.prompts`."""
    config, n = pairs.config, len(pairs)
    group = _looked_up(groups, pairs.persona)
    heldout = _looked_up(pools, pairs.prompt) == "heldout"
    strangers = (pairs.persona < 0) | (pairs.prompt < 0) | (pairs.split < 0) | (pairs.partner == UNKNOWN)
    partner = _looked_up(groups, pairs.partner)
    other_group = (pairs.group != group) | ((pairs.partner >= 0) & (partner != group))
    return [
        proof(config, "repeated pair ids", n - _distinct(pairs.pair_ids), n, "each id once"),
        proof(config, "empty or identical sides", pairs.degenerate.sum(), n, "both sides differ and say something"),
        proof(config, "ids that no table knows", strangers.sum(), n, "personas, prompts and splits that exist"),
        proof(
            config, "groups that are not the persona's", other_group.sum(), n, "one group a pair, that of its persona"
        ),
        proof(
            config,
            "unseen personas in train",
            ((pairs.split == TRAIN) & (group != "seen")).sum(),
            n,
            "train holds seen personas only",
        ),
        proof(
            config,
            "seen personas in support",
            ((pairs.split == SUPPORT) & (group != "unseen")).sum(),
            n,
            "support holds unseen personas only",
        ),
        proof(
            config,
            "prompts in the wrong pool",
            ((pairs.split == HELDOUT_TEST) != heldout).sum(),
            n,
            "held-out prompts only in heldout_test",
        ),
        proof(config, "persona-prompt pairs in two splits", straddling([pairs]), n, "each combination in one split"),
        proof(
            config,
            "controls that are no controls",
            _false_controls(pairs, groups).sum(),
            n,
            "the wrong persona is of the same group, has no part in the pair, and is absent only where there is nobody else",
        ),
        *(base_answer_proofs(pairs) if config != "contrast" else []),
        *repeated_texts(pairs, heldout),
    ]


def row_proof(pairs: Pairs, stage: Row) -> Check:
    """The table has the rows that its stage counted. stage: its entry in build.json; those of an extended version come on top."""
    name = "rows more or fewer than counted"
    if "out" not in stage:
        return unknown(pairs.config, name, len(pairs), "build.json does not say how many rows the build wrote")
    counted = stage["out"] + stage.get("earlier_rows", 0)
    return proof(pairs.config, name, abs(len(pairs) - counted), counted, "as many rows as build.json counts")


def judgement_proofs(run: Path, tables: Sequence[Pairs], counted: int | None) -> list[Check]:
    """Every judgement is about a pair that is there. counted: rows by build.json, None if it does not say. Nothing without the table."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    if not (run / "tables" / "judgements.parquet").is_file():
        return []
    judged = read_columns(run, "judgements", ["pair_id"])["pair_id"]
    times = compute.value_counts(judged.combine_chunks())
    known = arrow.chunked_array([chunk for pairs in tables for chunk in pairs.pair_ids.chunks], arrow.string())
    strange = compute.invert(compute.is_in(times.field("values"), value_set=known.combine_chunks()))
    strangers = compute.sum(times.field("counts").filter(strange)).as_py() or 0
    checks = [proof("judgements", "of pairs that are not there", strangers, len(judged), "the pair is in its table")]
    if counted is not None:
        name, note = "rows more or fewer than counted", "as many rows as build.json counts"
        checks.append(proof("judgements", name, abs(len(judged) - counted), counted, note))
    return checks


def straddling(tables: Sequence[Pairs]) -> int:
    """(persona, prompt) combinations that stand in more than one split, over all tables; a contrast pair counts for both personas."""
    people, prompts, splits = [], [], []
    for pairs in tables:
        for persona in (pairs.persona, pairs.partner):
            known = persona != ABSENT
            people.append(persona[known])
            prompts.append(pairs.prompt[known])
            splits.append(pairs.split[known])
    if not sum(map(len, people)):
        return 0
    width = len(SPLITS) + 1
    places = np.concatenate(people).astype(np.int64) * (max(len(t.prompts) for t in tables) + 1) + np.concatenate(
        prompts
    )
    once = np.unique(places * width + np.concatenate(splits) + 1)
    return int((np.unique(once // width, return_counts=True)[1] > 1).sum())


def base_answer_proofs(pairs: Pairs) -> list[Check]:
    """No base answer of a held-out prompt, by its id or its text, in train. Models give short stock answers to many questions: texts of
    fewer than STOCK_ANSWER words do not count."""
    train = np.isin(pairs.split, (TRAIN, SUPPORT))
    heldout = pairs.split == HELDOUT_TEST
    own_words = pairs.rejected_words >= STOCK_ANSWER
    texts = np.intersect1d(pairs.rejected[train & own_words], pairs.rejected[heldout & own_words])
    # A text that is shared together with its id is one base answer, not two.
    foreign = np.setdiff1d(texts, pairs.rejected[train & np.isin(pairs.base, pairs.base[heldout])])
    shared = np.intersect1d(pairs.base[train], pairs.base[heldout])
    # An id names its prompt; that of a prompt which is asked in heldout_test must not stand in train either.
    asked = {pairs.prompts[p] for p in np.unique(pairs.prompt[heldout]) if p >= 0}
    named = [
        b
        for b in np.unique(pairs.base[train])
        if pairs.base_ids[b].split("/")[1:2] and pairs.base_ids[b].split("/")[1] in asked
    ]
    return [
        proof(
            pairs.config,
            "base answers of held-out prompts in train",
            len(set(shared.tolist()) | set(named)) + len(foreign),
            len(pairs.base_ids),
            "a base answer is of a train-pool prompt or of a held-out one",
        )
    ]


def repeated_texts(pairs: Pairs, heldout: np.ndarray) -> list[Check]:
    """Texts chosen for several prompts, and chosen texts of heldout_test that stand in train. Told only: small models repeat themselves."""
    train = np.isin(pairs.split, (TRAIN, SUPPORT))
    known = np.unique(np.concatenate([pairs.chosen[train], pairs.rejected[train]]))
    again = np.isin(pairs.chosen, known) & heldout
    prompts_of = np.unique(np.column_stack([pairs.chosen, pairs.prompt.astype(np.uint64)]), axis=0)[:, 0]
    repeated = prompts_of[:-1][prompts_of[1:] == prompts_of[:-1]]
    n = len(pairs)
    return [
        figure(
            pairs.config,
            "chosen texts of several prompts",
            len(np.unique(repeated)),
            n,
            "the same answer to two questions",
        ),
        figure(
            pairs.config,
            "held-out answers that train knows",
            int(again.sum()),
            n,
            "chosen in heldout_test, a text of train too",
        ),
    ]


def _false_controls(pairs: Pairs, groups: np.ndarray) -> np.ndarray:
    given = pairs.wrong != ABSENT
    involved = (pairs.wrong == pairs.persona) | (pairs.wrong == pairs.partner)
    group = _looked_up(groups, pairs.persona)
    sizes = Counter(groups.tolist())
    others = np.array([sizes[name] for name in group.tolist()], dtype=int) - 1 - (pairs.partner != ABSENT)
    foreign = (pairs.wrong < 0) | involved | (_looked_up(groups, pairs.wrong) != group)
    return np.where(given, foreign, others > 0)


def matched_proofs(pairs: Pairs) -> list[Check]:
    """dpf_matched: in every split and group as many pairs are longer on the chosen side by some tokens as are shorter by as many."""
    difference = pairs.chosen_tokens - pairs.rejected_tokens
    balance: Counter[tuple[int, str, int]] = Counter()
    for split, group, d in zip(pairs.split.tolist(), pairs.group.tolist(), difference.tolist(), strict=True):
        balance[split, group, abs(d)] += (d > 0) - (d < 0)
    uneven = sum(map(abs, balance.values()))
    note = "as many longer as shorter by the same number of tokens"
    return [proof(pairs.config, "pairs whose length has no counterpart", uneven, len(pairs), note)]


def mirror_proofs(pairs: Pairs) -> list[Check]:
    """Contrast pairs: every mirror is there and reverses its pair, so that every text is chosen exactly as often as rejected."""
    n = len(pairs)
    there = pairs.mirror >= 0
    mirror = np.where(there, pairs.mirror, 0)
    reversed_ = there.copy()
    if n:
        reversed_ &= pairs.mirror[mirror] == np.arange(n)
        reversed_ &= (pairs.persona[mirror] == pairs.partner) & (pairs.partner[mirror] == pairs.persona)
        reversed_ &= (pairs.chosen[mirror] == pairs.rejected) & (pairs.rejected[mirror] == pairs.chosen)
        for same in (pairs.split, pairs.group, pairs.prompt):
            reversed_ &= same[mirror] == same
    texts, uneven = _uneven_texts(pairs)
    return [
        proof(
            "contrast", "mirrors that are absent or differ", (~reversed_).sum(), n, "both mirrors, same split and group"
        ),
        proof("contrast", "texts chosen unequally often", uneven, texts, "each as often chosen as rejected"),
    ]


def _uneven_texts(pairs: Pairs) -> tuple[int, int]:
    """How many texts of a prompt and split there are, and how many are not chosen as often as rejected."""
    import pyarrow as arrow

    table = arrow.table(
        {
            "text": np.concatenate([pairs.chosen, pairs.rejected]),
            "prompt": np.tile(pairs.prompt, 2),
            "split": np.tile(pairs.split, 2),
            "times": np.repeat(np.array([1, -1]), len(pairs)),
        }
    )
    balance = table.group_by(["text", "prompt", "split"]).aggregate([("times", "sum")])["times_sum"].to_numpy()
    return len(balance), int((balance != 0).sum())


def revision_proofs(contrast: Pairs, dpf: Pairs) -> list[Check]:
    """Both texts of a contrast pair are what `dpf` chose for its two personas on that prompt, in the same split."""
    width = len(dpf.prompts) + 1
    keys = dpf.persona.astype(np.int64) * width + dpf.prompt
    order = np.argsort(keys, kind="stable")
    foreign = np.zeros(len(contrast), dtype=bool)
    for persona, text in ((contrast.persona, contrast.chosen), (contrast.partner, contrast.rejected)):
        wanted = persona.astype(np.int64) * width + contrast.prompt
        place = order[np.minimum(np.searchsorted(keys[order], wanted), len(order) - 1)] if len(order) else None
        if place is None:
            foreign[:] = True
            continue
        foreign |= (keys[place] != wanted) | (dpf.chosen[place] != text) | (dpf.split[place] != contrast.split)
    note = "chosen is the persona's own revision in dpf, rejected the partner's"
    return [proof("contrast", "texts that are not the personas' own", foreign.sum(), len(contrast), note)]


def prompt_proofs(prompts: Sequence[Row], similarity: float) -> list[Check]:
    """No held-out prompt has a near-duplicate in the train pool: Jaccard similarity of word pairs of at least `similarity`.

    The build looks for near-duplicates by MinHash, which finds them with high probability; here they are looked for exactly.
    """
    pools = {pool: [p["question"] for p in prompts if p["pool"] == pool] for pool in ("train", "heldout")}
    train = index_texts(pools["train"])
    close = sum(bool(find_similar(train, shingles(question), similarity)) for question in pools["heldout"])
    note = f"word pairs at least {similarity:g} similar to a prompt of the train pool"
    return [proof(BUILD, "held-out prompts with a near-duplicate in train", close, len(pools["heldout"]), note)]


def people_proofs(run: Path, personas: Sequence[Row], divided: int) -> list[Check]:
    """No household and no near-clone in both groups. personas: rows with id, group and the attributes of COMPARED.

    divided: clusters that the build had to divide to meet the number of seen personas (build.json); so many are excused and reported.
    """
    groups = np.array([p["group"] for p in personas], dtype=object)
    n = len(personas)
    households = read_households(run, [p["persona_id"] for p in personas])
    told = f"; {divided} clusters had to be divided" if divided else ""
    if households is None:
        # Of imported personas little may be known, so those are compared as they were when they were imported.
        clusters = cluster_imported(personas) if n else np.zeros(0, dtype=int)
        straddling = [c for c in np.unique(clusters) if len(set(groups[clusters == c])) > 1]
        note = f"imported personas that are too much like one in the other group{told}"
        unasked = "the personas come from no census record, so nothing is known of households"
        return [
            proof(
                BUILD,
                "near-clones in both groups",
                np.isin(clusters, straddling).sum(),
                n,
                note,
                len(straddling) <= divided,
            ),
            unknown(BUILD, "households in both groups", n, unasked, verdict="report"),
        ]
    clusters = find_clusters(households, list(personas)) if n else np.zeros(0, dtype=int)
    excused = _in_both(clusters, groups) <= divided

    values = [[str(compared_value(name, p[name])) for p in personas] for name in COMPARED]
    codes = np.column_stack([np.unique(column, return_inverse=True)[1] for column in values])
    across: set[int] = set()
    for links in near_clones(codes) if n else ():
        across.update(links[groups[links[:, 0]] != groups[links[:, 1]]].ravel().tolist())
    note = f"personas of whom a near-clone is in the other group{told}"
    names = np.unique(np.array(households, dtype=str), return_inverse=True)[1]
    shared = _in_both(names, groups)
    return [
        proof(BUILD, "near-clones in both groups", len(across), n, note, excused),
        proof(BUILD, "households in both groups", shared, n, f"all of a household in one group{told}", excused),
    ]


def read_households(run: Path, persona_ids: Sequence[str]) -> list[str] | None:
    """The census household of every persona; None where the personas were not drawn from census records."""
    table = read_serials(run)
    if table is None:
        return None
    known = dict(zip(table["persona_id"].to_pylist(), table["SERIALNO"].to_pylist(), strict=True))
    # A persona without a record shares its household with nobody.
    return [known.get(persona) or f"none/{persona}" for persona in persona_ids]


def _in_both(numbers: np.ndarray, groups: np.ndarray) -> int:
    """How many of the sets of equal `numbers` have members in more than one group."""
    order = np.argsort(numbers, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(numbers[order])) + 1).tolist(), len(order)]
    return sum(len(set(groups[order[a:b]])) > 1 for a, b in pairwise(bounds))


def _looked_up(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """values[places], None where there is no place."""
    padded = np.full(len(values) + 1, None, dtype=object)
    padded[:-1] = values
    return padded[np.where(places >= 0, places, len(values))]


def _distinct(column: Any) -> int:
    import pyarrow.compute as compute

    return compute.count_distinct(column).as_py()
