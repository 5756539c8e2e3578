"""Topics that mean something, pools with the same mix of them, and near-duplicates on one side of the line only."""

import csv
import dataclasses
import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.prompts import filters, topics, vectors
from builder.prompts.prompts import build_prompts
from builder.prompts.sources import SourcePrompt, read_prompts
from builder.prompts.topic_names import NO_NAME, name_clusters, spellings, term_of
from builder.recipe import BuildRecipe, PairsRecipe, PromptsRecipe

SUBJECTS = {
    "war": [
        "Will the war between Russia and Ukraine end?",
        "Is the invasion of Gaza justified?",
        "Should soldiers refuse to fight?",
    ],
    "food": [
        "How do I cook a vegetable soup?",
        "Is butter better than oil for frying?",
        "What dessert goes with a pasta dinner?",
    ],
    "faith": ["Does God hear a prayer?", "Is every religion the same?", "Why do Christians go to church on Sunday?"],
    "pets": ["Do cats love their owners?", "Is it cruel to keep a dog alone?", "What should I feed a rabbit?"],
}


# Two questions of each, so that three terms are in six of 70.
MIXED = (
    "quartz violin tractor pickle comet ladder mitten fossil canyon pepper harbor needle "
    "lantern walrus magnet saddle turnip glacier anchor trumpet beetle chimney velvet pyramid "
    "thimble orchid gravel puzzle hammer window marble pocket basket ribbon kettle rocket"
)
LIKED = "milk fish sleep sun mice string boxes birds heat rain"


def prompt(question: str, line: int = 1) -> SourcePrompt:
    return SourcePrompt(line, question, None, "test", str(line), "unknown")


def recipe(source, count, heldout, similarity=0.7, seed=7, pairs=(1, 0, 1), **prompts) -> BuildRecipe:
    train, seen_test, heldout_test = pairs
    return BuildRecipe(
        name="test",
        seed=seed,
        prompts=PromptsRecipe(
            source=str(source), count=count, heldout=heldout, near_duplicate_similarity=similarity, **prompts
        ),
        pairs=PairsRecipe(train=train, seen_test=seen_test, heldout_test=heldout_test),
    )


# --- vectors and clusters


def test_questions_in_other_words_point_the_same_way():
    sentences = ["Is abortion wrong?", "Should women be allowed to end a pregnancy?", "How do I bake bread?"]
    one, other, third = vectors.sentence_vectors(sentences, topics.IGNORED)
    assert one @ other > 0.3 + max(one @ third, other @ third)
    assert not vectors.sentence_vectors(["为什么?", ""]).any()


def test_subjects_are_kept_together_though_they_share_no_word():
    questions = [question for group in SUBJECTS.values() for question in group]
    found, method = topics.assign_topics([prompt(q, n) for n, q in enumerate(questions)], len(SUBJECTS), 3)
    assert method == "clusters"
    assert [len(set(found[start : start + 3])) for start in range(0, len(questions), 3)] == [1] * len(SUBJECTS)
    assert len(set(found)) == len(SUBJECTS)


def test_topics_do_not_depend_on_the_order():
    prompts = [dataclasses.replace(p, topic=None) for p in read_prompts("packaged").prompts]
    found, _ = topics.assign_topics(prompts, 9, 3)
    turned = random.Random(1).sample(prompts, len(prompts))
    again, _ = topics.assign_topics(turned, 9, 3)
    assert dict(zip(turned, again, strict=True)) == dict(zip(prompts, found, strict=True))


# --- names


def test_a_name_is_made_of_telling_words_as_people_write_them():
    questions = [
        *(
            "Does Israel want peace?",
            "is israel at war",
            "Why does Israel bomb Gaza?",
            "Can Israelis and Gaza have peace?",
        ),
        *("Do cats sleep?", "Why do cats purr?", "My cat is ill", "can a cat swim"),
    ]
    names = name_clusters(questions, [0] * 4 + [1] * 4, topics.IGNORED)
    assert names[0].split(" / ")[0] == "Israel"
    assert "Israelis" not in names[0]
    assert names[1].split(" / ")[0] in ("cat", "cats")
    assert all(word.lower() not in topics.IGNORED for name in names.values() for word in name.split(" / "))


def test_forms_of_a_word_are_one_term():
    assert term_of("abortions") == term_of("abortion")
    assert term_of("women") == term_of("woman")
    assert term_of("cooking") == term_of("cooks") == term_of("cook")
    assert term_of("police") != term_of("policy")
    spelled = spellings(["I love AI", "Will ai win", "is AI bad, or is AI good"], frozenset())
    assert spelled[term_of("ai")] == "AI"


def test_a_cluster_without_a_common_subject_does_not_pretend_to_have_one():
    mixed = [f"{word} {turn}" for word in MIXED.split() for turn in ("somehow", "maybe")]
    cats = [f"Do cats like {word}" for word in LIKED.split()]
    names = name_clusters([*mixed, *cats], [0] * len(mixed) + [1] * len(cats), topics.IGNORED | {"somehow", "maybe"})
    assert names[0] == NO_NAME
    assert names[1].startswith("cat")


def test_equal_names_are_told_apart():
    assert name_clusters(["???", "!!!"], [0, 1], frozenset()) == {0: NO_NAME, 1: f"{NO_NAME} (2)"}


# --- the line between train and held-out


WORDS = st.lists(st.sampled_from(list("abcdefg")), min_size=1, max_size=7).map(" ".join)
SIMILARITIES = st.sampled_from([0.3, 0.5, 0.7, 0.9])


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=3, max_size=14), st.lists(WORDS, max_size=6), SIMILARITIES, st.integers(0, 5))
def test_no_near_duplicate_lies_across_the_line_in_a_csv_source_or_a_longer_one(
    tmp_path_factory, texts, more, similarity, seed
):
    path = tmp_path_factory.mktemp("line") / "q.csv"
    for part in (texts, [*texts, *more]):
        with path.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([["question"], *([f"{text}?"] for text in part)])
        kept = filters.remove_duplicates(read_prompts(str(path)).prompts, similarity)[0]
        if len(kept) < 2:
            return
        heldout = max(1, len(kept) // 3)
        rows = build_prompts(recipe(path, len(kept), heldout, similarity, seed, min_words=1, topics=3), None).rows
        held = [filters.shingles(row["question"]) for row in rows if row["pool"] == "heldout"]
        train = [filters.shingles(row["question"]) for row in rows if row["pool"] == "train"]
        assert len(held) == heldout
        assert all(filters.jaccard(one, other) < similarity for one in held for other in train)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.data())
def test_both_pools_have_each_topic_in_proportion_to_one_prompt(tmp_path_factory, sizes, data):
    words = iter(range(10_000))
    rows = [
        (f"w{next(words)} w{next(words)} w{next(words)}?", f"topic {n}")
        for n, size in enumerate(sizes)
        for _ in range(size)
    ]
    total = len(rows)
    if total < 2:
        return
    heldout = data.draw(st.integers(1, total - 1))
    path = tmp_path_factory.mktemp("topics") / "q.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("question", "topic"), *rows])
    table = build_prompts(recipe(path, total, heldout, min_words=1), None)
    everywhere = Counter(row["topic"] for row in table.rows)
    for pool, size in (("heldout", heldout), ("train", total - heldout)):
        inside = Counter(row["topic"] for row in table.rows if row["pool"] == pool)
        assert sum(inside.values()) == size
        assert all(abs(inside[topic] - number * size / total) < 1 for topic, number in everywhere.items())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(WORDS, min_size=4, max_size=14), st.lists(WORDS, min_size=1, max_size=8), SIMILARITIES, st.integers(0, 5)
)
def test_an_extension_keeps_every_row_and_the_line(tmp_path_factory, texts, more, similarity, seed):
    folder = tmp_path_factory.mktemp("extension")
    for name, part in (("old.jsonl", texts), ("new.jsonl", more)):
        (folder / name).write_text("".join(json.dumps({"question": f"{text}?"}) + "\n" for text in part))
    number = len(filters.remove_duplicates(read_prompts(str(folder / "old.jsonl")).prompts, similarity)[0])
    if number < 2:
        return
    old = build_prompts(recipe(folder / "old.jsonl", number, 1, similarity, seed, min_words=1, topics=2), None).rows
    asked = recipe(folder / "new.jsonl", number + 4, 3, similarity, seed, min_words=1, pairs=(0, 0, 0))
    table = build_prompts(asked, None, earlier=old)
    by_id = {row["prompt_id"]: row for row in table.rows}
    assert len(by_id) == len(table.rows)
    assert [by_id[row["prompt_id"]] for row in old] == old
    assert {row["topic"] for row in table.rows} == {row["topic"] for row in old}
    assert table.counts["in"] == table.counts["out"] + sum(table.counts["dropped"].values())
    held = [filters.shingles(row["question"]) for row in table.rows if row["pool"] == "heldout"]
    train = [filters.shingles(row["question"]) for row in table.rows if row["pool"] == "train"]
    assert len(held) == table.details["used"]["heldout"] <= 3
    assert all(filters.jaccard(one, other) < similarity for one in held for other in train)
    assert build_prompts(asked, None, earlier=old[::-1]).rows == table.rows


def test_an_extension_by_the_same_longer_file_keeps_the_numbers_of_the_lines(tmp_path):
    questions = [question for group in SUBJECTS.values() for question in group]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"question": q}) + "\n" for q in questions[:8]))
    old = build_prompts(recipe(path, 8, 2, topics=3, min_words=3), None).rows
    path.write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
    table = build_prompts(recipe(path, 12, 3, min_words=3), None, earlier=old)
    assert [row["question"] for row in table.rows] == questions
    assert [row["prompt_id"] for row in table.rows] == [f"q{n:05d}" for n in range(1, 13)]
    assert Counter(row["pool"] for row in table.rows) == {"train": 9, "heldout": 3}
    for count, heldout in ((7, 2), (12, 1), (9, 4)):
        with pytest.raises(InputError, match="which all stay where they are"):
            build_prompts(recipe(path, count, heldout, min_words=3), None, earlier=old)


# --- real prompts


@pytest.mark.shared_data
def test_topics_of_prism_agree_with_its_own_and_are_mixed_alike_in_3000_and_868(shared_data):
    from sklearn.metrics import normalized_mutual_info_score

    path = shared_data / "prism" / "prism_prompts.jsonl"
    known = {row["conversation_id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    # The file names topics for some prompts only, so all are clustered.
    table = build_prompts(recipe(path, 3868, 868, seed=1, pairs=(100, 50, 50)), None)
    found = [row["topic"] for row in table.rows]
    guess = [known[row["source_id"]]["topic_guess"] for row in table.rows]
    own = [(known[row["source_id"]]["topic"], row["topic"]) for row in table.rows if known[row["source_id"]]["topic"]]
    # Words alone (TF-IDF) gave 0.27 and 0.55.
    assert normalized_mutual_info_score(guess, found) > 0.42
    assert normalized_mutual_info_score(*zip(*own, strict=True)) > 0.6
    everywhere = Counter(found)
    held = Counter(row["topic"] for row in table.rows if row["pool"] == "heldout")
    assert sum(held.values()) == 868
    assert all(abs(held[topic] - number * 868 / 3868) < 1 for topic, number in everywhere.items())
    names = " ".join(everywhere).lower()
    for subject in ("abortion", "israel", "religion", "work", "marriage"):
        assert subject in names
