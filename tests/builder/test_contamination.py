"""Planted contamination is found, each kind as what it is, and nothing is found where nothing was planted."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from builder.contamination import contamination_table, find_contamination
from builder.errors import InputError
from builder.imports.similarity import find_similar, index_texts, similar_clusters
from builder.prompts.filters import jaccard, shingles
from builder.randomness import rng_for
from builder.schema import CANARY

LONG = "If a town had to choose between a new library and a wider road to the harbour, which one should it build first?"
SHORT = "Should shops stay closed on Sundays?"
TINY = "Why war?"
OTHER = "Do you think that schools should teach every child how to cook a simple meal before they are twelve?"
ANSWER = (
    "A library lasts for generations, and people who never meet elsewhere meet there. The road saves a few minutes a day for those who "
    "drive, which is worth something too, but a harbour that has waited this long can wait another year for its lorries."
)
BASE = "It depends on the town. Some towns need roads more than books, and the people who live there know best what they lack today."
STRANGERS = [
    "The recipe asks for two cups of flour, one egg and a pinch of salt, stirred until no lumps remain in the bowl.",
    "Trains from the northern line run every ten minutes except in the early morning, when they run twice an hour.",
    "Which kind of paint keeps longest on a wooden fence that stands in the rain for most of the year?",
]


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return write_build(
        tmp_path / "build",
        {"q00001": LONG, "q00002": SHORT, "q00003": OTHER, "q00004": TINY},
        [
            ("dpf/p00000/q00001", ANSWER, BASE),
            ("dpf/p00001/q00001", ANSWER, BASE),
            ("dpf/p00000/q00003", BASE + " Yes.", BASE),
        ],
    )


def write_build(folder: Path, questions: dict[str, str], pairs: list[tuple[str, str, str]]) -> Path:
    (folder / "tables").mkdir(parents=True)
    rows: list[dict[str, Any]] = [{"prompt_id": name, "question": text} for name, text in questions.items()]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "tables" / "prompts.parquet")
    rows = [
        {
            "pair_id": pair,
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for pair, chosen, rejected in pairs
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "tables" / "dpf.parquet")
    return folder


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def hits_of(result: Any, table: str) -> dict[str, dict[str, Any]]:
    """First id -> hit."""
    return {hit["ids"][0]: hit for hit in result.hits if hit["table"] == table}


def test_nothing_is_found_where_nothing_was_planted(build: Path, tmp_path: Path) -> None:
    result = find_contamination(build, write_lines(tmp_path / "texts.jsonl", STRANGERS))
    assert result.hits == []
    assert result.canary["texts"] == 0
    assert {(t["exact"], t["any_ngram"], t["half_ngrams"], t["near"] or 0) for t in result.tables.values()} == {
        (0, 0, 0, 0)
    }
    assert "in none of the texts" in contamination_table(result)


def test_a_text_that_differs_in_case_spacing_and_punctuation_is_exact(build: Path, tmp_path: Path) -> None:
    texts = [*STRANGERS, "  should SHOPS stay closed, on sundays", "why   war", ANSWER.upper()]
    result = find_contamination(build, write_lines(tmp_path / "texts.jsonl", texts))
    questions = hits_of(result, "prompts")
    assert questions["q00002"]["exact_row"] == 4
    assert questions["q00004"]["exact_row"] == 5
    assert set(questions) == {"q00002", "q00004"}
    chosen = hits_of(result, "dpf chosen")["dpf/p00000/q00001"]
    assert chosen["exact_row"] == 6
    assert chosen["ids"] == ["dpf/p00000/q00001", "dpf/p00001/q00001"]
    assert result.tables["dpf chosen"] | {"rows": 0} == {
        "rows": 0, "texts": 2, "exact": 1, "any_ngram": 1, "half_ngrams": 1, "near": None,
    }  # fmt: skip


def test_a_cut_answer_is_found_by_its_runs_of_words(build: Path, tmp_path: Path) -> None:
    words = ANSWER.split()
    cut = "Somebody once wrote: " + " ".join(words[5:25]) + " and then went home"
    result = find_contamination(build, write_lines(tmp_path / "texts.jsonl", [*STRANGERS, cut]))
    hit = hits_of(result, "dpf chosen")["dpf/p00000/q00001"]
    assert hit["exact_row"] is None
    assert hit["ngram_row"] == 4
    # 20 of the words in a row hold 8 of the answer's runs of 13.
    assert hit["ngram_share"] == pytest.approx(8 / (len(words) - 12), abs=1e-4)
    assert result.tables["dpf chosen"]["half_ngrams"] == 0
    too_short = "Somebody once wrote: " + " ".join(words[5:17]) + " and then went home"
    assert find_contamination(build, write_lines(tmp_path / "short.jsonl", [too_short])).hits == []


def test_a_short_question_is_found_inside_a_longer_text(build: Path, tmp_path: Path) -> None:
    text = f"Answer as briefly as you can. Question: {SHORT} Answer:"
    hit = hits_of(find_contamination(build, write_lines(tmp_path / "texts.jsonl", [text])), "prompts")["q00002"]
    assert (hit["exact_row"], hit["ngram_share"], hit["ngram_row"]) == (None, 1.0, 1)
    # Two words say nothing inside a longer text: every history book has them.
    assert not find_contamination(
        build, write_lines(tmp_path / "tiny.jsonl", ["They never asked why war came to them."])
    ).hits


def test_runs_do_not_pass_the_end_of_a_text(build: Path, tmp_path: Path) -> None:
    words = LONG.split()
    halves = [" ".join(words[:11]), " ".join(words[11:])]
    assert find_contamination(build, write_lines(tmp_path / "texts.jsonl", halves)).tables["prompts"]["any_ngram"] == 0


def test_a_question_with_two_other_words_is_near(build: Path, tmp_path: Path) -> None:
    other = LONG.replace("town", "city").replace("wider", "longer")
    result = find_contamination(build, write_lines(tmp_path / "texts.jsonl", [*STRANGERS, other]))
    hit = hits_of(result, "prompts")["q00001"]
    assert hit["exact_row"] is None
    assert hit["similar_row"] == 4
    assert hit["similarity"] == pytest.approx(jaccard(shingles(other), shingles(LONG)), abs=1e-4)
    assert result.tables["prompts"]["near"] == 1
    assert result.tables["dpf chosen"]["near"] is None
    strict = find_contamination(build, tmp_path / "texts.jsonl", similarity=0.9)
    assert strict.tables["prompts"]["near"] == 0


def test_the_canary_is_found_in_any_column(build: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    rows = [{"text": STRANGERS[0]}, {"text": f"page one {CANARY} page two"}, {"text": STRANGERS[1], "canary": CANARY}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = find_contamination(build, path)
    assert result.canary == {"texts": 2, "first": [2, 3]}
    assert "The canary stands in 2 texts (rows 2, 3)" in contamination_table(result)
    columns = {name: [row.get(name) for row in rows] for name in ("id", "text", "canary")}
    parquet.write_table(pa.table(columns), tmp_path / "texts.parquet")
    assert find_contamination(build, tmp_path / "texts.parquet").canary == {"texts": 2, "first": [2, 3]}


def test_every_format_gives_the_same_hits(build: Path, tmp_path: Path) -> None:
    texts = [*STRANGERS, SHORT, ANSWER, LONG.replace("town", "city")]
    expected = find_contamination(build, write_lines(tmp_path / "t.jsonl", texts)).hits
    assert expected
    (tmp_path / "t.txt").write_text("\n".join(texts), encoding="utf-8")
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    parquet.write_table(pa.table({"id": range(len(texts)), "text": texts}), tmp_path / "t.parquet")
    chats = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    (tmp_path / "strings.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    for name in ("t.txt", "t.csv", "t.parquet", "chat.jsonl", "strings.jsonl"):
        assert find_contamination(build, tmp_path / name).hits == expected, name


def test_batches_change_nothing(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = write_lines(tmp_path / "t.jsonl", [SHORT, *STRANGERS, ANSWER, SHORT, ANSWER, LONG])
    whole = find_contamination(build, texts)
    monkeypatch.setattr("builder.contamination.BATCH_CHARACTERS", 1)
    monkeypatch.setattr("builder.contamination.TEXTS_AT_A_TIME", 1)
    single = find_contamination(build, texts)
    assert (single.hits, single.tables) == (whole.hits, whole.tables)
    assert hits_of(whole, "prompts")["q00002"]["exact_row"] == 1
    assert hits_of(whole, "prompts")["q00002"]["ngram_row"] == 1


def test_the_result_is_written_and_a_published_folder_stays_as_it_was(build: Path, tmp_path: Path) -> None:
    texts = write_lines(tmp_path / "t.jsonl", [SHORT, "42", ""])
    result = find_contamination(build, texts)
    written = json.loads((build / "contamination.json").read_text(encoding="utf-8"))
    assert written["hits"] == result.hits
    assert written["tables"]["prompts"]["exact"] == 1
    assert written["texts"]["source"] == "t.jsonl"
    assert (written["texts"]["rows"], written["texts"]["texts"]) == (3, 2)
    published = tmp_path / "published"
    for config in ("prompts", "dpf"):
        (published / "data" / config).mkdir(parents=True)
        (build / "tables" / f"{config}.parquet").rename(
            published / "data" / config / "train-00000-of-00001-abc.parquet"
        )
    before = sorted(published.rglob("*"))
    again = find_contamination(published, texts)
    assert again.hits == result.hits
    assert again.path == tmp_path / "published.contamination.json"
    assert sorted(published.rglob("*")) == before


def test_what_cannot_be_read_is_refused(build: Path, tmp_path: Path) -> None:
    texts = write_lines(tmp_path / "t.jsonl", [SHORT])
    with pytest.raises(InputError, match="no column 'words'; it has text"):
        find_contamination(build, texts, column="words")
    with pytest.raises(InputError, match="holds no table of prompts"):
        find_contamination(tmp_path, texts)
    with pytest.raises(InputError, match="has no text"):
        find_contamination(build, write_lines(tmp_path / "blank.jsonl", [" "]))
    (tmp_path / "two.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"columns a, b\. Name the one with the texts with --text-column"):
        find_contamination(build, tmp_path / "two.csv")
    with pytest.raises(InputError, match="does not exist"):
        find_contamination(build, tmp_path / "none.jsonl")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        find_contamination(build, tmp_path / "bad.parquet")
    (tmp_path / "latin.txt").write_bytes("na\xefve".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        find_contamination(build, tmp_path / "latin.txt")


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 1.0])
def test_the_similar_texts_are_those_that_comparing_all_pairs_finds(similarity: float) -> None:
    rng = rng_for(1, "test", "similar")
    texts = [" ".join(rng.choice(list("abcdef"), size=int(rng.integers(1, 9)))) for _ in range(80)]
    sets = [shingles(text) for text in texts]
    index = index_texts(texts)
    for own in sets:
        expected = [(n, jaccard(own, other)) for n, other in enumerate(sets) if jaccard(own, other) >= similarity]
        assert find_similar(index, own, similarity) == expected
    clusters = similar_clusters(texts, similarity)
    for i in range(len(texts)):
        for j in range(i):
            if jaccard(sets[i], sets[j]) >= similarity:
                assert clusters[i] == clusters[j]
