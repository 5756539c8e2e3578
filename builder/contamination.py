"""Does a list of texts (a training set, a crawl) hold our questions or answers?

Our side is indexed, theirs is streamed, so memory follows our tables and not their file. Four signs are looked for:
exact: the whole text, but for case, spacing and punctuation. n-grams: runs of 13 words, the length that is usual since Brown et al. 2020
(a text of 6 to 12 words counts as one run, so a short question is found inside a longer text). Near-duplicates of questions: Jaccard
similarity of word pairs. The canary of schema.py, which whoever copied our rows has copied too.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import InputError
from builder.files import write_json
from builder.imports.reading import Source, column_names, open_source, read_rows
from builder.imports.similarity import ShingleIndex, find_similar, index_texts
from builder.prompts.filters import normalised, shingles
from builder.prompts.rows import text_of
from builder.randomness import rng_for
from builder.schema import CANARY, PAIR_CONFIGS

GRAM = 13
SHORTEST_GRAM = 6  # words; what is shorter is only compared as a whole
SIMILAR = 0.5
TEXT_COLUMNS = ("text", "question", "prompt", "content", "instruction", "opening_prompt", "messages")
# The part of the canary that nothing else contains.
CANARY_ID = CANARY.rsplit(" ", 1)[1]
BATCH_CHARACTERS = 4_000_000
TEXTS_AT_A_TIME = 20_000
SHOWN_LINES = 100
ODD = np.uint64(0x9E3779B97F4A7C15)  # base of the polynomial over 64 bits; any large odd number


@dataclass
class OurTexts:
    """The distinct texts of one table column. `words`: numbers in the vocabulary, those of text i at words[ends[i - 1] : ends[i]]."""

    name: str  # `prompts`, `dpf chosen`, ...
    rows: int = 0
    by_content: dict[bytes, int] = field(default_factory=dict)  # digest of the text as it stands -> text
    by_words: dict[bytes, int] = field(default_factory=dict)  # digest of the normalised text -> the first such text
    twin: list[int] = field(default_factory=list)  # text -> the first text with the same words
    words: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class Grams:
    """Sorted hashes of all runs of `length` words on our side, and the first of their texts that has each (0: none)."""

    length: int
    hashes: np.ndarray
    first: np.ndarray


@dataclass(frozen=True)
class Contamination:
    """tables: {table: {texts, rows, exact, any_ngram, half_ngrams, near}}, counted in distinct texts; `near` for questions only.

    hits: one entry per contaminated text with its table, the ids of its rows, and per sign the first place in their list.
    canary: how many of their texts hold it, and the first places.
    """

    texts: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    hits: list[dict[str, Any]]
    canary: dict[str, Any]
    path: Path


def find_contamination(
    folder: Path, texts: str | Path, column: str | None = None, out: Path | None = None, similarity: float = SIMILAR
) -> Contamination:
    """Compare a build or a published folder with a list of texts and write the result as JSON.

    texts: JSONL, CSV, Parquet or plain text, one text a row, or `hub:org/name@revision`. column: its name, where it is none of
    TEXT_COLUMNS; a list of chat messages counts as one text. out: the JSON file (default RUN/contamination.json, or beside a published
    folder, whose content must not change). similarity: Jaccard similarity of word pairs from which a question counts as near. Places
    are row numbers of the list from 1 on. Raises InputError for a folder without tables and a list that cannot be read.
    """
    if not 0 < similarity <= 1:
        raise InputError(f"similarity is {similarity:g}; it takes a number above 0 and at most 1.")
    source = open_source(texts)
    column = text_column(source, column)
    path = out or default_path(folder)
    # A new word gets the next number; 0 stands for words that we do not use.
    vocabulary: dict[str, int] = defaultdict(itertools.count(1).__next__)
    tables = [index_column(name, rows, vocabulary) for name, rows in our_columns(folder)]
    codes = word_codes(len(vocabulary))
    grams = index_grams(tables, codes)
    questions = dict.fromkeys(text for name, rows in our_columns(folder) if name == "prompts" for _, text in rows)
    near = NearQuestions(list(questions), similarity, vocabulary, codes)

    exact: list[dict[int, int]] = [{} for _ in tables]
    canary_rows: list[int] = []
    read = usable = 0
    for batch in their_batches(source, column):
        read += batch.read
        usable += len(batch.texts)
        canary_rows += batch.canary
        plain = [normalised(text) for text in batch.texts]
        for row, words in zip(batch.rows, plain, strict=True):
            key = digest(words)
            for table, found in zip(tables, exact, strict=True):
                if key in table.by_words:
                    found.setdefault(table.by_words[key], row)
        match_batch(batch.rows, plain, vocabulary, codes, grams, near)
    if not usable:
        raise InputError(
            f"{source.name} has no text in its {column or 'lines'} ({read} rows). Name another column with --text-column."
        )

    summaries, hits = {}, []
    for table, found in zip(tables, exact, strict=True):
        summary, entries = judge_table(table, found, grams, near if table.name == "prompts" else None, codes)
        summaries[table.name] = summary
        hits += entries
    name_rows(folder, tables, hits)
    result = Contamination(
        texts={"source": source.name, "sha256": source.sha256, "column": column, "rows": read, "texts": usable},
        tables=summaries,
        hits=hits,
        canary={"texts": len(canary_rows), "first": canary_rows[:SHOWN_LINES]},
        path=path,
    )
    write_json(path, as_json(result, similarity))
    return result


def contamination_table(result: Contamination) -> str:
    """The counts as plain text."""
    texts = result.texts
    lines = [
        f"{texts['texts']:,} texts of {texts['source']}",
        f"{'table':<22}{'texts':>9}{'exact':>9}{'any run':>9}{'half':>9}{'near':>9}",
    ]
    for name, table in result.tables.items():
        near = "-" if table["near"] is None else f"{table['near']:,}"
        lines.append(
            f"{name:<22}{table['texts']:>9,}{table['exact']:>9,}{table['any_ngram']:>9,}{table['half_ngrams']:>9,}{near:>9}"
        )
    lines.append(
        f"any run, half: at least one, at least half of a text's runs of {GRAM} words found; near: similar question"
    )
    if result.canary["texts"]:
        rows = ", ".join(f"{row:,}" for row in result.canary["first"][:5])
        lines.append(
            f"The canary stands in {result.canary['texts']:,} texts (rows {rows}): the list holds rows of our data."
        )
    else:
        lines.append("The canary stands in none of the texts.")
    return "\n".join(lines)


def as_json(result: Contamination, similarity: float) -> dict[str, Any]:
    return {
        "texts": result.texts,
        "settings": {"ngram_words": GRAM, "shortest_text_words": SHORTEST_GRAM, "similarity": similarity},
        "tables": result.tables,
        "canary": result.canary,
        "hits": result.hits,
    }


def default_path(folder: Path) -> Path:
    if (folder / "tables").is_dir():
        return folder / "contamination.json"
    return folder.resolve().with_name(f"{folder.resolve().name}.contamination.json")


# --- our side


def our_columns(folder: Path) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    """(table, its rows as (id, text)): the questions, and chosen and rejected of `dpf` and `dpf_matched`; contrast pairs are made of
    the same revisions. Raises InputError for a folder that is neither a build nor published."""
    files = {config: table_files(folder, config) for config in ("prompts", *PAIR_CONFIGS) if config != "contrast"}
    if not files["prompts"]:
        raise InputError(
            f"{folder} holds no table of prompts. Give the folder that `persona build` or `persona publish` wrote."
        )
    for config, paths in files.items():
        if config == "prompts":
            yield config, read_texts(paths, "prompt_id", "question")
        elif paths:
            for side in ("chosen", "rejected"):
                yield f"{config} {side}", read_texts(paths, "pair_id", side)


def table_files(folder: Path, config: str) -> list[Path]:
    built = folder / "tables" / f"{config}.parquet"
    return [built] if built.is_file() else sorted((folder / "data" / config).glob("*.parquet"))


def read_texts(paths: Sequence[Path], key: str, column: str) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet as parquet

    for path in paths:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(4096, columns=[key, column]):
                values = batch.column(1)
                if column != "question":  # one assistant message
                    values = values.flatten().field("content")
                yield from zip(batch.column(0).to_pylist(), values.to_pylist(), strict=True)


def index_column(name: str, rows: Iterator[tuple[str, str]], vocabulary: dict[str, int]) -> OurTexts:
    """The column's distinct texts. `vocabulary` gives every new word a number."""
    table = OurTexts(name)
    numbers: list[np.ndarray] = []
    for _, text in rows:
        table.rows += 1
        content = digest(text)
        if content in table.by_content:
            continue
        place = table.by_content[content] = len(table.by_content)
        plain = normalised(text)
        table.twin.append(table.by_words.setdefault(digest(plain), place))
        numbers.append(np.array([vocabulary[word] for word in plain.split(" ")], np.int32))
    table.ends = np.cumsum([len(words) for words in numbers], dtype=np.int64)
    table.words = np.concatenate(numbers) if numbers else table.words
    return table


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def word_codes(words: int) -> np.ndarray:
    """A 64-bit number for each word of the vocabulary; fixed, since it decides nothing but which hashes stand for which runs."""
    return rng_for(0, "contamination", "words").integers(0, 2**64, size=words + 1, dtype=np.uint64)


def index_grams(tables: Sequence[OurTexts], codes: np.ndarray) -> list[Grams]:
    """All runs of our texts, by length: GRAM words, or the whole of a shorter text."""
    index = []
    for length in range(SHORTEST_GRAM, GRAM + 1):
        parts = [hashes for table in tables for hashes, _ in own_grams(table, codes, length)]
        hashes = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
        del parts
        # In place: at full size this is the largest array there is.
        hashes.sort()
        hashes = hashes[np.append(True, hashes[1:] != hashes[:-1])] if len(hashes) else hashes
        if len(hashes):
            index.append(Grams(length, hashes, np.zeros(len(hashes), np.uint32)))
    return index


def own_grams(table: OurTexts, codes: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(hashes, texts) of the runs of `length` words, some texts at a time: of texts of just that many words, or, at GRAM, of at least
    as many."""
    sizes = np.diff(table.ends, prepend=0)
    for text in range(0, len(sizes), TEXTS_AT_A_TIME):
        own = sizes[text : text + TEXTS_AT_A_TIME]
        words = table.words[table.ends[text] - sizes[text] : table.ends[text + len(own) - 1]]
        starts, owners = run_starts(own, length)
        if length < GRAM:
            right = own[owners] == length
            starts, owners = starts[right], owners[right]
        if len(starts):
            yield hash_runs(words, codes, length)[starts], owners + text


def run_starts(sizes: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of `length` words begin that do not pass the end of their text, and the number of that text.

    sizes: words of the texts, which stand one after the other.
    """
    runs = np.maximum(sizes - length + 1, 0)
    owners = np.repeat(np.arange(len(sizes)), runs)
    first = np.cumsum(sizes) - sizes
    before = np.cumsum(runs) - runs
    return first[owners] + np.arange(len(owners)) - before[owners], owners


def hash_runs(words: np.ndarray, codes: np.ndarray, length: int) -> np.ndarray:
    """The polynomial hash of the `length` words from each place on (modulo 2^64), shape (places,)."""
    places = max(0, len(words) - length + 1)
    values = codes[words]
    hashes = np.zeros(places, np.uint64)
    for offset in range(length):
        hashes *= ODD
        hashes += values[offset : offset + places]
    return hashes


# --- their side


@dataclass
class Batch:
    """`rows`: the numbers of the rows that hold the texts. `canary`: of rows with the canary in any column. `read`: rows, usable or not."""

    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    canary: list[int] = field(default_factory=list)
    read: int = 0


def text_column(source: Source, wanted: str | None) -> str | None:
    """The column that holds the texts: `wanted`, else the first of TEXT_COLUMNS that is there, else the only one. None for plain lines."""
    names = column_names(source)
    if not names:
        return None
    known = [name for name in TEXT_COLUMNS if name in names] or (names if len(names) == 1 else [])
    if wanted is not None and wanted not in names:
        raise InputError(f"{source.name} has no column {wanted!r}; it has {', '.join(names)}. Name one of these.")
    if wanted is None and not known:
        raise InputError(
            f"{source.name} has the columns {', '.join(names)}. Name the one with the texts with --text-column."
        )
    return wanted or known[0]


def their_batches(source: Source, column: str | None) -> Iterator[Batch]:
    batch, size = Batch(), 0
    for number, value in read_rows(source, None if column is None else [column, "canary"]):
        batch.read += 1
        cells = value if isinstance(value, dict) else {column: value}
        # Cells of a CSV row beyond its columns are a list: somebody's comma must not hide the canary.
        found = [cell for value in cells.values() for cell in (value if isinstance(value, list) else [value])]
        if any(isinstance(cell, str) and CANARY_ID in cell for cell in found):
            batch.canary.append(number)
        text = their_text(cells.get(column))
        if text is not None:
            batch.rows.append(number)
            batch.texts.append(text)
            size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = Batch(), 0
    yield batch


def their_text(value: Any) -> str | None:
    """A text, or the contents of a list of chat messages one after the other."""
    if isinstance(value, list):
        contents = [message.get("content") for message in value if isinstance(message, dict)]
        value = "\n".join(content for content in contents if isinstance(content, str))
    return text_of(value)


class NearQuestions:
    """Our questions by their word pairs, and the most similar of their texts for each: `best[question] = (similarity, row)`."""

    def __init__(self, questions: Sequence[str], similarity: float, vocabulary: dict[str, int], codes: np.ndarray):
        self.similarity = similarity
        self.index: ShingleIndex = index_texts(questions)
        pairs = [pair.split(" ") for pair in self.index.holders]
        numbers = [vocabulary[word] for pair in pairs if len(pair) == 2 for word in pair]
        # Every second run of two begins a pair.
        self.pairs = np.unique(hash_runs(np.array(numbers, np.int32), codes, 2)[::2])
        self.longest = max((len(members) for members in self.index.members), default=0)
        self.best: dict[int, tuple[float, int]] = {}

    def look_at(self, row: int, words: str) -> None:
        for question, score in find_similar(self.index, shingles(words), self.similarity):
            if score > self.best.get(question, (0.0, 0))[0]:
                self.best[question] = (score, row)


def match_batch(
    rows: Sequence[int],
    plain: Sequence[str],
    vocabulary: dict[str, int],
    codes: np.ndarray,
    grams: Sequence[Grams],
    near: NearQuestions,
) -> None:
    """Note in `grams` which of our runs stand in these texts, and show `near` the texts that could resemble a question."""
    numbers: list[int] = []
    sizes_list: list[int] = []
    known = vocabulary.get
    for text in plain:
        words = text.split(" ")
        sizes_list.append(len(words))
        numbers += [known(word, 0) for word in words]
    if not sizes_list:
        return
    words_here, sizes = np.array(numbers, np.int32), np.array(sizes_list)
    row_numbers = np.array(rows, np.uint32)
    unknown = np.concatenate([[0], np.cumsum(words_here == 0)])
    for gram in grams:
        starts, owners = run_starts(sizes, gram.length)
        # A run with a word that we never use is none of ours.
        possible = unknown[starts + gram.length] == unknown[starts]
        starts, owners = starts[possible], owners[possible]
        hashes = hash_runs(words_here, codes, gram.length)[starts]
        # Sorted, because looking up neighbours together is several times faster on a long table.
        order = np.argsort(hashes)
        place = np.minimum(np.searchsorted(gram.hashes, hashes[order]), len(gram.hashes) - 1)
        hit = gram.hashes[place] == hashes[order]
        place, row = place[hit], row_numbers[owners[order[hit]]]
        fresh = gram.first[place] == 0
        # Written from the last row to the first, so that the first of the batch stays.
        last_first = np.argsort(row[fresh], kind="stable")[::-1]
        gram.first[place[fresh][last_first]] = row[fresh][last_first]

    starts, owners = run_starts(sizes, 2)
    shared = np.isin(hash_runs(words_here, codes, 2)[starts], near.pairs) & (unknown[starts + 2] == unknown[starts])
    counts = np.bincount(owners[shared], minlength=len(sizes))
    # A text has to share this part of its word pairs, and one that is much longer than every question cannot.
    wanted = (sizes >= 2) & (counts >= near.similarity * (sizes - 1)) & (sizes - 1 <= near.longest / near.similarity)
    for place in np.flatnonzero(wanted).tolist():
        near.look_at(rows[place], plain[place])


# --- the result


def judge_table(
    table: OurTexts, exact: dict[int, int], grams: Sequence[Grams], near: NearQuestions | None, codes: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Counts over the distinct texts, and an entry for each that shows any sign."""
    texts = len(table.by_content)
    runs, found = np.zeros(texts, np.int64), np.zeros(texts, np.int64)
    first = np.full(texts, np.iinfo(np.uint32).max, np.uint32)
    for gram in grams:
        # Looked up among the runs that were found, which are few, and not in the whole index, where each look-up waits for memory.
        seen = gram.first > 0
        seen_hashes, seen_rows = gram.hashes[seen], gram.first[seen]
        for hashes, owners in own_grams(table, codes, gram.length):
            runs += np.bincount(owners, minlength=texts)
            if len(seen_hashes):
                place = np.minimum(np.searchsorted(seen_hashes, hashes), len(seen_hashes) - 1)
                hit = seen_hashes[place] == hashes
                found += np.bincount(owners[hit], minlength=texts)
                np.minimum.at(first, owners[hit], seen_rows[place[hit]])
    share = found / np.maximum(runs, 1)
    best = near.best if near is not None else {}
    exact_rows = [exact.get(twin) for twin in table.twin]
    hits = []
    for text in range(texts):
        if exact_rows[text] is None and not found[text] and text not in best:
            continue
        hits.append(
            {
                "table": table.name,
                "text": text,
                "ids": [],
                "exact_row": exact_rows[text],
                "ngram_share": round(float(share[text]), 4),
                "ngram_row": int(first[text]) if found[text] else None,
                "similarity": round(best[text][0], 4) if text in best else None,
                "similar_row": best[text][1] if text in best else None,
            }
        )
    return {
        "rows": table.rows,
        "texts": texts,
        "exact": sum(row is not None for row in exact_rows),
        "any_ngram": int((found > 0).sum()),
        "half_ngrams": int((share >= 0.5).sum()),
        "near": None if near is None else len(best),
    }, hits


def name_rows(folder: Path, tables: Sequence[OurTexts], hits: Sequence[dict[str, Any]]) -> None:
    """Put the ids of the rows that hold a text into its entry; the tables are read once more, because only hits need them."""
    wanted = {(hit["table"], hit.pop("text")): hit["ids"] for hit in hits}
    hit_tables = {name for name, _ in wanted}
    table_of = {table.name: table for table in tables}
    for name, rows in our_columns(folder):
        if name in hit_tables:
            for identity, text in rows:
                ids = wanted.get((name, table_of[name].by_content[digest(text)]))
                if ids is not None:
                    ids.append(identity)
