"""The preference pairs that the paper's authors released -> a build's folder, for one's own use.

Their table has a row per pair and one split: `persona`, `instruction`, `original` (the base answer, here `rejected`), `data` (the revision,
here `chosen`), `critique`, and `question type`, which says train or test. What that leaves open is decided by our rules: which personas are
unseen, which of a persona's train questions are kept for its seen-prompt test, and what happens to a question on both sides.
"""

import hashlib
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import make_folder, write_json
from builder.imports.clusters import cluster_imported
from builder.imports.persona_text import imported_row, parse_persona
from builder.imports.reading import Source, column_names, open_source, read_rows
from builder.imports.similarity import similar_clusters
from builder.llm.budget import Spending
from builder.llm.tokens import approximate_tokens
from builder.ownership import claimed, code_version
from builder.pairs.assignment import members_by_group
from builder.pairs.dpf import pair_row
from builder.pairs.flags import Statements, statements_of
from builder.personas.groups import assign_groups, describe_clusters
from builder.personas.personas import null_rates, provenance_shares
from builder.prompts.rows import text_of
from builder.prompts.sources import SourcePrompt
from builder.prompts.topics import assign_topics
from builder.randomness import rng_for
from builder.recipe import (
    ROLES,
    BuildRecipe,
    CensusRecipe,
    ModelRecipe,
    ModelsRecipe,
    PairsRecipe,
    PersonasRecipe,
    PromptsRecipe,
    as_dict,
    fingerprint,
    seen_count,
)
from builder.schema import (
    CANARY,
    persona_id,
    prompt_id,
)
from builder.tables import arrow_table, write_by_persona, write_parquet, write_table

COLUMNS = ("persona", "instruction", "original", "data", "critique", "question type")
TEXTS = ("persona", "instruction", "original", "data")  # a pair without one of them is none
POOLS = {"train": "train", "test": "heldout"}
LICENCE = "CC-BY-NC-SA-4.0 (as tagged by its authors)"
NOT_FOR_PUBLISHING = (
    "These are the pairs that the paper's authors released, behind a form and under CC-BY-NC-SA-4.0 as they tag it, so they are imported "
    "for your own use"
)
# The paper's shares of a persona's train-pool questions: 100 of 150 are trained on, 50 are its seen-prompt test.
TRAIN_SHARE = 2 / 3
SIMILAR_QUESTIONS = 0.7
PERSONAS_PER_BUCKET = 40  # about 8,000 pairs, which is what is in memory at a time
ROWS_PER_FLUSH = 5_000
Row = dict[str, Any]


@dataclass
class Scan:
    """What one reading of the source leaves in memory: every text of a persona and a question once, and a few numbers a row.

    rows, persona, prompt, heldout, digest: of the usable rows in their order: number in the source, numbers of persona and prompt by
    first appearance, whether `question type` is test, and a digest of both answers.
    """

    personas: dict[str, int] = field(default_factory=dict)
    prompts: dict[str, int] = field(default_factory=dict)
    first_row: list[int] = field(default_factory=list)  # of each prompt
    rows: list[int] = field(default_factory=list)
    persona: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    heldout: list[bool] = field(default_factory=list)
    digest: list[bytes] = field(default_factory=list)
    read: int = 0
    ledger: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Kept:
    """part: usable row -> `train`, `seen_test` or `heldout_test`. pool: prompt -> its pool. moved: held-out prompts, now in train."""

    part: dict[int, str]
    pool: dict[int, str]
    moved: list[int]


def import_authors(
    source: str | Path, folder: Path, seed: int = 0, seen: int | None = None, topics: int = 20, name: str = "authors"
) -> dict[str, Any]:
    """Write tables/personas, prompts and dpf, ledger and build.json into `folder`; gives the content of build.json.

    source: a Parquet, JSONL or CSV file, or `hub:org/name@revision`. seen: how many personas are trained on (null: the paper's share).
    Personas are p00000, p00001, ... and prompts q00000, ... in the order of their first usable row; one whose rows are all turned away
    leaves its number unused. A row that cannot be used goes to ledger/pairs.json with its reason. Raises InputError for a source that
    cannot be read or has no usable row, and for a folder that holds something else.
    """
    opened = open_source(source)
    names = released_columns(opened)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        started = time.monotonic()
        scan = scan_rows(opened, names, Path(scratch))
        kept = divide(scan, seed)
        if not kept.part:
            reasons = ", ".join(f"{reason} {n}" for reason, n in Counter(e["reason"] for e in scan.ledger).items())
            raise InputError(
                f"{opened.name} has no usable row ({reasons or 'no row at all'}). Its columns must be {', '.join(COLUMNS)}."
            )
        personas, about_personas = persona_rows(scan, kept, seed, seen)
        prompts, about_prompts = prompt_rows(scan, kept, opened, seed, topics)
        recipe = recipe_of(opened, scan, kept, personas, prompts, seed, topics, name)
        build = new_build(recipe, opened)
        with claimed(make_folder(folder), build):
            # From here on the folder belongs to this import, also if nothing else gets written.
            write_json(folder / "build.json", build)
            write_table(folder / "tables" / "personas.parquet", "personas", personas)
            write_table(folder / "tables" / "prompts.parquet", "prompts", prompts)
            shards = list(write_shards(Path(scratch), scan, kept, personas, prompts, seed))
            about_pairs = complete_pairs(folder, shards, personas, seed)
            ledgers = {"personas": about_personas.pop("ledger"), "prompts": [], "pairs": scan.ledger}
            for stage, entries in ledgers.items():
                write_json(folder / "ledger" / f"{stage}.json", entries)
            seconds = round(time.monotonic() - started, 2)
            build["stages"] = {
                "personas": {**about_personas, "seconds": 0.0, "source": opened.name, "sha256": opened.sha256},
                "prompts": {**about_prompts, "seconds": 0.0, "source": opened.name, "sha256": opened.sha256},
                "pairs": {
                    "in": scan.read,
                    "out": len(kept.part),
                    "dropped": dict(sorted(Counter(entry["reason"] for entry in scan.ledger).items())),
                    "seconds": seconds,
                    **about_pairs,
                },
            }
            write_json(folder / "build.json", build)
    return build


def released_columns(source: Source) -> dict[str, str]:
    """Our name of each released column -> its name in the source (`question_type` counts as `question type`)."""
    there = column_names(source)
    names = {" ".join(name.lower().replace("_", " ").split()): name for name in there}
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InputError(
            f"{source.name} has no column {', '.join(missing)}; it has {', '.join(there) or 'none'}. The authors' table has "
            f"{', '.join(COLUMNS)}."
        )
    return {name: names[name] for name in COLUMNS}


def scan_rows(source: Source, names: dict[str, str], scratch: Path) -> Scan:
    """Read the source once. The answers of usable rows go to files in `scratch`, those of some personas in each, so that the table can be
    written persona by persona without holding it."""
    scan = Scan()
    waiting: dict[int, list[str]] = defaultdict(list)
    for number, value in read_rows(source, list(names.values())):
        scan.read += 1
        problem = unusable(value, names)
        if problem:
            scan.ledger.append(entry(number, *problem))
            continue
        row = {name: text_of(value[column]) for name, column in names.items()}
        persona = scan.personas.setdefault(row["persona"] or "", len(scan.personas))
        prompt = scan.prompts.setdefault(row["instruction"] or "", len(scan.prompts))
        if prompt == len(scan.first_row):
            scan.first_row.append(number)
        answers = [row["data"], row["original"], row["critique"]]
        waiting[persona // PERSONAS_PER_BUCKET].append(json.dumps([len(scan.rows), *answers]))
        scan.rows.append(number)
        scan.persona.append(persona)
        scan.prompt.append(prompt)
        scan.heldout.append((row["question type"] or "").lower() == "test")
        scan.digest.append(hashlib.blake2b(json.dumps(answers[:2]).encode(), digest_size=16).digest())
        if len(scan.rows) % ROWS_PER_FLUSH == 0:
            flush(scratch, waiting)
    flush(scratch, waiting)
    return scan


def unusable(value: Any, names: dict[str, str]) -> tuple[str, str] | None:
    """(reason, detail) if the row is no pair."""
    if not isinstance(value, dict):
        return "unreadable", "no JSON object with the released columns"
    if None in value:
        return "unreadable", "more cells than columns"
    missing = [name for name, column in names.items() if column not in value]
    if missing:
        return "missing_columns", ", ".join(missing)
    texts = {name: text_of(value[column]) for name, column in names.items()}
    empty = [name for name in TEXTS if texts[name] is None]
    if empty:
        return "empty_text", ", ".join(empty)
    kind = (texts["question type"] or "").lower()
    if kind not in POOLS:
        return "unknown_question_type", f"{value[names['question type']]!r:.60}; known are train and test"
    if texts["data"] == texts["original"]:
        return "identical_texts", ""
    return None


def entry(number: int, reason: str, detail: str) -> dict[str, str]:
    return {"stage": "pairs", "item": f"row {number}", "reason": reason, "detail": detail}


def flush(scratch: Path, waiting: dict[int, list[str]]) -> None:
    for bucket, lines in waiting.items():
        with (scratch / f"{bucket:05d}.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
    waiting.clear()


def divide(scan: Scan, seed: int) -> Kept:
    """Which usable rows stay, and in which part. The others go to the ledger.

    One pair per persona and question: the first; none where the release calls the question train and test for the same persona. A
    question has one pool, that of most of its rows (at a tie train, which promises less), and rows that say otherwise go. A held-out
    question that resembles a train question joins the train pool, because held out it would promise what it does not hold.
    """
    kept = without_repetitions(scan)
    votes: dict[int, Counter[bool]] = defaultdict(Counter)
    for n in kept:
        votes[scan.prompt[n]][scan.heldout[n]] += 1
    heldout = {prompt: count[True] > count[False] for prompt, count in votes.items()}
    for n in kept:
        if scan.heldout[n] != heldout[scan.prompt[n]]:
            most = "test" if heldout[scan.prompt[n]] else "train"
            scan.ledger.append(
                entry(scan.rows[n], "question_in_both_pools", f"most rows with this question say {most}")
            )
    kept = [n for n in kept if scan.heldout[n] == heldout[scan.prompt[n]]]

    questions = list(scan.prompts)
    used = sorted(votes)
    clusters = dict(zip(used, similar_clusters([questions[p] for p in used], SIMILAR_QUESTIONS).tolist(), strict=True))
    trained = {clusters[p] for p in used if not heldout[p]}
    pool = {p: "heldout" if heldout[p] and clusters[p] not in trained else "train" for p in used}
    moved = [p for p in used if heldout[p] and pool[p] == "train"]
    return Kept(assign_parts(scan, kept, pool, clusters, seed), pool, moved)


def without_repetitions(scan: Scan) -> list[int]:
    by_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, pair in enumerate(zip(scan.persona, scan.prompt, strict=True)):
        by_pair[pair].append(n)
    kept = []
    for (persona, prompt), rows in by_pair.items():
        both = f"{persona_id(persona)} and {prompt_id(prompt)}"
        if len({scan.heldout[n] for n in rows}) > 1:
            scan.ledger += [entry(scan.rows[n], "two_question_types", f"{both} are train and test") for n in rows]
            continue
        kept.append(rows[0])
        for n in rows[1:]:
            reason = "duplicate" if scan.digest[n] == scan.digest[rows[0]] else "second_pair"
            scan.ledger.append(entry(scan.rows[n], reason, f"{both} stand in row {scan.rows[rows[0]]} already"))
    return sorted(kept)


def assign_parts(
    scan: Scan, kept: Sequence[int], pool: dict[int, str], clusters: dict[int, int], seed: int
) -> dict[int, str]:
    """Two thirds of a persona's train-pool questions are `train`, the rest `seen_test`: a seeded order that depends on the persona's id
    and its own questions. Questions that resemble each other stay together."""
    part = {n: "heldout_test" for n in kept if pool[scan.prompt[n]] == "heldout"}
    own: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for n in kept:
        if n not in part:
            own[scan.persona[n]][clusters[scan.prompt[n]]].append(n)
    for persona, units in own.items():
        numbers = sorted(units)
        places = round(TRAIN_SHARE * sum(map(len, units.values())))
        for i in rng_for(seed, "import_parts", persona_id(persona)).permutation(len(numbers)):
            unit = units[numbers[int(i)]]
            trained = len(unit) <= places
            places -= len(unit) * trained
            part |= dict.fromkeys(unit, "train" if trained else "seen_test")
    return part


def persona_rows(scan: Scan, kept: Kept, seed: int, seen: int | None) -> tuple[list[Row], Row]:
    """Rows of the persona table, and what the stage says of itself with its ledger."""
    used = {scan.persona[n] for n in kept.part}
    unknown: Counter[str] = Counter()
    unreadable: Counter[str] = Counter()
    rows = []
    for text, number in scan.personas.items():
        if number in used:
            parsed = parse_persona(text)
            unknown.update(set(parsed.unknown))
            unreadable.update(parsed.unreadable)
            rows.append(imported_row(persona_id(number), text, parsed.attributes))
    settings = PersonasRecipe(count=len(rows), seen=seen)
    if seen is not None and not 0 <= seen <= len(rows):
        raise InputError(
            f"seen is {seen}, of {len(rows)} imported personas. Choose 0 <= seen <= {len(rows)}, or leave it out."
        )
    clusters = cluster_imported(rows)
    groups = assign_groups(clusters, seen_count(settings), seed)
    for row, group in zip(rows, groups, strict=True):
        row["group"] = group
    ledger = [
        {"stage": "personas", "item": persona_id(number), "reason": "no_usable_row", "detail": ""}
        for number in scan.personas.values()
        if number not in used
    ]
    return rows, {
        "in": len(scan.personas),
        "out": len(rows),
        "dropped": {"no_usable_row": len(ledger)} if ledger else {},
        "survey_year": None,
        "clusters": describe_clusters(clusters, groups, [row["persona_id"] for row in rows]),
        "unknown_keys": dict(sorted(unknown.items())),
        "unreadable_values": dict(sorted(unreadable.items())),
        "null_rates": null_rates(rows),
        "provenance": provenance_shares(rows),
        "ledger": ledger,
    }


def prompt_rows(scan: Scan, kept: Kept, source: Source, seed: int, topics: int) -> tuple[list[Row], Row]:
    used = sorted({scan.prompt[n] for n in kept.part})
    questions = list(scan.prompts)
    prompts = [
        SourcePrompt(scan.first_row[p], questions[p], None, source.name, str(scan.first_row[p]), LICENCE) for p in used
    ]
    names, method = assign_topics(prompts, topics, seed)
    rows: list[Row] = [
        {
            "prompt_id": prompt_id(p),
            "question": prompt.question,
            "topic": topic,
            "pool": kept.pool[p],
            "controversy_score": None,
            "controversy_votes": [],
            "source": prompt.source,
            "source_id": prompt.source_id,
            "licence": prompt.licence,
            "canary": CANARY,
        }
        for p, prompt, topic in zip(used, prompts, names, strict=True)
    ]
    unused = len(questions) - len(used)
    return rows, {
        "in": len(questions),
        "out": len(rows),
        "dropped": {"no_usable_row": unused} if unused else {},
        "moved_to_train_pool": [prompt_id(p) for p in kept.moved],
        "used": {"count": len(rows), "heldout": sum(row["pool"] == "heldout" for row in rows)},
        "topic_method": method,
        "topics": dict(Counter(row["topic"] for row in rows).most_common()),
        "licences": {f"{source.name}: {LICENCE}": len(rows)},
    }


def write_shards(
    scratch: Path, scan: Scan, kept: Kept, personas: list[Row], prompts: list[Row], seed: int
) -> Iterator[Path]:
    """A Parquet file of finished pairs for every file of answers, sorted by persona and prompt."""
    persona_of = {row["persona_id"]: row for row in personas}
    prompt_of = {row["prompt_id"]: row for row in prompts}
    members = members_by_group(personas)
    tokens = {row["profile"]: approximate_tokens(row["profile"]) for row in personas}
    tokens |= {row["question"]: approximate_tokens(row["question"]) for row in prompts}
    for file in sorted(scratch.glob("*.jsonl")):
        rows: list[Row] = []
        statements: dict[str, Statements] = {}
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                n, *answers = json.loads(line)
                if n not in kept.part:
                    continue
                persona, prompt = persona_of[persona_id(scan.persona[n])], prompt_of[prompt_id(scan.prompt[n])]
                if persona["persona_id"] not in statements:
                    statements[persona["persona_id"]] = statements_of(persona)
                known = statements[persona["persona_id"]]
                chosen, rejected, critique = answers
                counts = (
                    tokens[persona["profile"]] + tokens[prompt["question"]],
                    approximate_tokens(chosen),
                    approximate_tokens(rejected),
                )
                texts = (chosen, rejected, critique)
                row = pair_row(seed, "dpf", kept.part[n], persona, prompt, texts, counts, members, known)
                rows.append(row | {"judge": "none", "judge_verdict": "unscored", "judge_score": None})
        if rows:
            rows.sort(key=lambda row: (row["persona_id"], row["prompt_id"]))
            write_parquet(file.with_suffix(".parquet"), arrow_table("dpf", rows))
            yield file.with_suffix(".parquet")


def complete_pairs(folder: Path, shards: Sequence[Path], personas: list[Row], seed: int) -> Row:
    """tables/dpf.parquet from the shards, with what the probe can infer of the personas; gives what the stage says of itself."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    from builder.pairs.inferable import inferable_attributes, with_inferable

    columns = ["pair_id", "persona_id", "prompt_id", "chosen"]
    texts = arrow.concat_tables([parquet.read_table(shard, columns=columns) for shard in shards])
    inferable, recovery = inferable_attributes(texts, personas, seed)
    write_by_persona(folder, "dpf", (with_inferable(parquet.read_table(shard), inferable) for shard in shards))
    return {"inferable_attributes": recovery}


def recipe_of(
    source: Source, scan: Scan, kept: Kept, personas: list[Row], prompts: list[Row], seed: int, topics: int, name: str
) -> BuildRecipe:
    """What the import amounts to, in the words of a recipe: sizes as found, no models, pairs only."""
    most = dict.fromkeys(("train", "seen_test", "heldout_test"), 0)
    for (_, part), count in Counter((scan.persona[n], part) for n, part in kept.part.items()).items():
        most[part] = max(most[part], count)
    seen = sum(row["group"] == "seen" for row in personas)
    heldout = sum(row["pool"] == "heldout" for row in prompts)
    none = ModelRecipe(provider="none", model="none")
    return BuildRecipe(
        name=name,
        seed=seed,
        census=CensusRecipe(source="none"),
        personas=PersonasRecipe(source=source.name, count=len(personas), seen=seen, enrichment="none"),
        prompts=PromptsRecipe(source=source.name, count=len(prompts), heldout=heldout, topics=topics),
        pairs=PairsRecipe(
            train=most["train"], seen_test=most["seen_test"], heldout_test=most["heldout_test"], judge_check=0
        ),
        models=ModelsRecipe(**dict.fromkeys(ROLES, none)),
        configs=("dpf",),
    )


def new_build(recipe: BuildRecipe, source: Source) -> dict[str, Any]:
    """The beginning of build.json. `not_for_publishing`: why publishing is refused unless it is asked for in so many words."""
    no_replies = {"responses": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost_usd": 0.0}
    # The release names no model; the paper says GPT-4 for every text (section 3.2).
    model = {"provider": "imported", "model": "GPT-4, as the paper says", "revision": None}
    return {
        "recipe": as_dict(recipe),
        "fingerprint": fingerprint(recipe),
        "inputs": {"imported": source.sha256},
        "imported": {"kind": "authors", "source": source.name, "sha256": source.sha256},
        "licence": LICENCE,
        "not_for_publishing": NOT_FOR_PUBLISHING,
        "code_version": code_version(),
        "templates": {},
        "packaged": {},
        "canary": CANARY,
        "judge": {"label": "none", "kind": "none", "temperature": None},
        "judges": [],
        "models": {role: dict(model) for role in ("generator", "critic", "reviser")},
        "stages": {},
        "usage": {**vars(Spending()), "recorded": no_replies},
    }
