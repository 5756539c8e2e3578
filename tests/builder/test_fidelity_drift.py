"""Drift is found where it was planted, and not where texts were only shuffled."""

from typing import Any

import pyarrow as pa
import pytest

from builder.fidelity.drift import coded_words, lean_lexicon, measure_drift
from builder.fidelity.table import WIDTH, drift_lines
from builder.lexical import words
from builder.randomness import rng_for

PLAIN = [
    *(
        "Works long shifts and cooks on Sundays",
        "Watches the news after supper",
        "Reads mysteries at the kitchen table",
    ),
    *("Mows lawns for neighbors", "Keeps to a weekly budget", "Worries about the bills", "Goes fishing at the lake"),
    *(
        "Walks the dog before dawn",
        "Sings in the church choir",
        "Browses the public library",
        "Grumbles at the referee",
    ),
    *("Visits museums on free days", "Recycles everything", "Fixes an old pickup", "Plays cards with cousins"),
]
POSITIVE = [f"Happily {text[0].lower()}{text[1:]}, with great joy and love" for text in PLAIN]
LEFT = [f"{text}, with yoga, compost and activism" for text in PLAIN]
RECIPE = {"seed": 4, "personas": {"enrichment": "lm"}}


def personas(
    written: list[str], replaced: list[str | None], provenance: str = "lm"
) -> tuple[list[dict[str, Any]], pa.Table]:
    ids = [f"p{number:05d}" for number in range(len(written))]
    rows = [
        {"persona_id": identity, "lifestyle": text, "provenance": {"lifestyle": provenance}}
        for identity, text in zip(ids, written, strict=True)
    ]
    return rows, pa.table(
        {"persona_id": ids, "AGEP": [40] * len(ids), "unwritten_lifestyle": pa.array(replaced, pa.string())}
    )


def drift_of(written: list[str], replaced: list[str | None]) -> dict[str, Any]:
    rows, drawn = personas(written, replaced)
    return measure_drift(rows, drawn, RECIPE)["groups"][0]


def many(texts: list[str], count: int = 150) -> list[str]:
    rng = rng_for(1, "test", "texts")
    return [texts[int(rng.integers(len(texts)))] for _ in range(count)]


def test_planted_cheer_is_found_and_no_lean() -> None:
    found = drift_of(many(POSITIVE), many(PLAIN))
    assert found["compound"]["low"] > 0.3
    assert found["per_word"]["low"] > 0.05
    assert found["positive"]["written"] > found["positive"]["replaced"]
    assert found["words"]["difference"] == pytest.approx(6)
    assert found["lean"]["difference"] == 0


def test_planted_leaning_is_found_without_cheer() -> None:
    found = drift_of(many(LEFT), many(PLAIN))
    assert found["lean"]["low"] > 0.3
    assert found["compound"]["difference"] == pytest.approx(0, abs=0.02)
    assert found["coded"]["written"] == 1
    right = drift_of(many(["Goes hunting and prays for the flag"]), many(PLAIN))
    assert right["lean"]["written"] == -1
    assert right["lean"]["high"] < 0
    assert right["negative"]["replaced"] > right["negative"]["written"] == 0
    alike = drift_of(["Works"] * 30, ["Sleeps"] * 30)
    assert alike["words"] == {"written": 1, "replaced": 1, "difference": 0, "low": None, "high": None}


def test_shuffled_texts_do_not_drift() -> None:
    texts = many([*POSITIVE, *PLAIN, *LEFT], 300)
    found = drift_of([texts[place] for place in rng_for(9, "test", "order").permutation(300)], list(texts))
    for measure in ("compound", "per_word", "words", "lean"):
        assert found[measure]["low"] <= 0 <= found[measure]["high"], measure
        assert found[measure]["difference"] == pytest.approx(0, abs=1e-6)
    assert found["sameness"]["written"]["repeated"] == found["sameness"]["replaced"]["repeated"]


def test_the_interval_covers_texts_drawn_from_one_list() -> None:
    first, second = many(PLAIN, 400)[:200], many(PLAIN, 400)[200:]
    found = drift_of(first, list(second))
    assert found["compound"]["low"] <= 0 <= found["compound"]["high"]
    assert found["lean"]["low"] <= 0 <= found["lean"]["high"]


def test_a_negative_drift_has_its_sign() -> None:
    found = drift_of(many(PLAIN), many(POSITIVE))
    assert found["compound"]["high"] < 0


def test_sameness_counts_repetitions_and_openings() -> None:
    found = drift_of(["Enjoys a quiet life"] * 30, [f"{text} {number}" for number, text in enumerate(PLAIN * 2)])
    same = found["sameness"]
    assert same["written"]["repeated"] == pytest.approx(29 / 30, abs=1e-5)
    assert same["replaced"]["repeated"] == 0
    assert same["written"]["opening"] == "enjoys a"
    assert same["written"]["share_of_opening"] == 1
    assert same["written"]["distinct_words"] < same["replaced"]["distinct_words"]
    assert same["words_counted"] == 120


def test_only_texts_that_replaced_something_count() -> None:
    rows, drawn = personas(["Happy"] * 40, [*PLAIN, *[None] * 25])
    assert measure_drift(rows, drawn, RECIPE)["groups"][0]["texts"] == 15
    kept, drawn = personas(["Happy"] * 15, list(PLAIN), provenance="sampled")
    assert "no field of any persona" in measure_drift(kept, drawn, RECIPE)["note"]


def test_few_texts_carry_a_warning_and_one_persona_no_interval() -> None:
    few = drift_of([*POSITIVE[:3], *PLAIN[:3]], list(PLAIN[5:11]))
    assert "too few" in few["warning"]
    assert few["compound"]["low"] is not None
    one = drift_of(POSITIVE[:1], list(PLAIN[:1]))
    assert one["compound"]["low"] is None
    assert one["lean"]["difference"] is None
    rows, drawn = personas(POSITIVE[:1], list(PLAIN[:1]))
    text = drift_lines(measure_drift(rows, drawn, RECIPE))
    assert any("No lean" in line for line in text)
    assert max(map(len, text)) <= WIDTH


def test_builds_without_written_fields_say_so() -> None:
    rows, drawn = personas(list(PLAIN), [None] * len(PLAIN))
    assert measure_drift(rows, drawn, {"seed": 1, "personas": {"enrichment": "none"}}) == {
        "note": "enrichment: none: no field was written by a language model."
    }
    assert "keeps no table persona_records" in measure_drift(rows, None, RECIPE)["note"]


def test_the_order_of_personas_changes_nothing_but_the_words_compared() -> None:
    rows, drawn = personas(many(POSITIVE), list(many(PLAIN)))
    first = measure_drift(rows, drawn, RECIPE)["groups"][0]
    second = measure_drift(rows[::-1], drawn, RECIPE)["groups"][0]
    assert first["compound"] == second["compound"]
    assert first["lean"] == second["lean"]


def test_the_lexicon_is_whole_and_each_word_has_one_side() -> None:
    sides = {side: [word for group in lean_lexicon()[side] for word in group["words"]] for side in ("left", "right")}
    assert all(group["why"] for side in sides for group in lean_lexicon()[side])
    for side, other in (("left", "right"), ("right", "left")):
        assert len(sides[side]) == len(set(sides[side])) >= 60
        for word in sides[side]:
            assert coded_words(side).search(word.rstrip("*-")) or word.endswith("-*"), word
            assert not coded_words(other).search(word.rstrip("*")), word


@pytest.mark.parametrize(
    ("text", "left", "right"),
    [
        ("attends a protestant church", 0, 1),
        ("recycles and visits farmers’ markets", 2, 0),
        ("has a home equity loan", 0, 0),
        ("goes hunting on a ranch in the small-town south", 0, 3),
        ("gunmetal and urbane", 0, 0),
        ("an eco-friendly, self-sufficient home", 1, 1),
    ],
)
def test_words_are_matched_whole(text: str, left: int, right: int) -> None:
    lower = text.lower().replace("’", "'")
    assert (len(coded_words("left").findall(lower)), len(coded_words("right").findall(lower))) == (left, right)
    assert words(text)
