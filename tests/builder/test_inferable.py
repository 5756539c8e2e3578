"""Attributes read off the chosen answer: found where they are planted, not where they are not, and never by knowing the person."""

import numpy as np
import pyarrow as arrow
import pytest

from builder.pairs.inferable import RECOVERED, Guesses, guess_attributes, inferable_attributes
from builder.randomness import rng_for
from builder.schema import assistant_message, features

PERSONAS, PROMPTS = 60, 14
VOCABULARY = [f"{a}{b}{c}ing" for a in "bdfgklmnprst" for b in "aeiou" for c in "dklm"]
RELIGIONS = ("Buddhist", "Catholic", "Hindu", "Muslim", "None at all")


def people():
    """Attributes go round, each with another step, so that none tells another."""
    return [
        {
            "persona_id": f"p{n:05d}",
            "sex": ("Female", "Male")[n % 2],
            "age": 20 + (7 * n) % 60,
            "race": ("White", "Asian")[n // 2 % 2],
            "religion": RELIGIONS[n % 5],
            "political_views": None if n % 3 == 0 else ("Democrat", "Republican")[n // 3 % 2],
            "ideology": "Moderate",
            "education": ("Grade 11", "Doctorate degree")[n // 4 % 2],
            "marital_status": ("Married", "Widowed")[n // 6 % 2],
        }
        for n in range(PERSONAS)
    ]


def pairs_of(personas, telling, seed=5):
    """One answer for every persona and prompt: random words, and what `telling(persona)` adds."""
    rng = rng_for(seed, "test", "recovery")
    rows = []
    for persona in personas:
        for q in range(PROMPTS):
            told = [VOCABULARY[n] for n in rng.integers(0, len(VOCABULARY), 30)]
            rows.append(
                {
                    "pair_id": f"dpf/{persona['persona_id']}/q{q:05d}",
                    "persona_id": persona["persona_id"],
                    "prompt_id": f"q{q:05d}",
                    "chosen": " ".join([*told, *telling(persona)]),
                }
            )
    return arrow.Table.from_pylist(rows)


def religion(persona):
    told = {"Buddhist": "temple", "Catholic": "mass", "Hindu": "festival", "Muslim": "mosque"}
    return [told.get(persona["religion"], "gardens")] * 3


def test_an_attribute_that_the_words_give_away_is_marked_and_no_other():
    found, details = inferable_attributes(pairs_of(people(), religion), people(), seed=1)
    marked = [name for names in found.values() for name in names]
    assert len(found) == PERSONAS * PROMPTS
    assert marked.count("religion") > 0.8 * len(found)
    assert len(marked) - marked.count("religion") < 0.02 * len(found)
    figures = details["attributes"]["religion"]
    assert figures["accuracy"] > 0.9
    assert figures["baseline"] == pytest.approx(0.2)
    assert (figures["n"], details["personas"]) == (PERSONAS * PROMPTS, PERSONAS)


def test_where_nothing_is_planted_guesses_are_neither_better_nor_worse_than_the_most_frequent_value():
    gains = []
    for seed in range(6):
        personas = people()
        found, details = inferable_attributes(pairs_of(personas, lambda persona: [], seed), personas, seed)
        assert sum(map(len, found.values())) < 0.02 * len(found)
        for attribute, figures in details["attributes"].items():
            assert abs(figures["accuracy"] - figures["baseline"]) < 0.08, (seed, attribute)
        # Half of the personas have each value, so that chance is one half.
        sex = details["attributes"]["sex"]
        assert sex["baseline"] == pytest.approx(0.5, abs=0.01)
        gains.append(sex["accuracy"] - sex["baseline"])
    assert abs(np.mean(gains)) < 0.025


@pytest.mark.parametrize("seed", range(4))
def test_a_word_that_tells_the_sex_in_a_third_of_the_answers_is_seen(seed):
    rng = rng_for(seed, "test", "weak")

    def telling(persona):
        return [{"Female": "daughterly", "Male": "fatherly"}[persona["sex"]]] * 2 if rng.random() < 0.3 else []

    by_attribute = {g.attribute: g for g in guess_attributes(pairs_of(people(), telling, seed), people(), seed)}
    assert by_attribute["sex"].gain.mean() > 0.08


def test_the_baseline_says_the_most_frequent_value_and_shares_out_equally_frequent_ones():
    personas = people()
    for n, persona in enumerate(personas):
        persona["sex"] = "Male" if n % 3 == 0 else "Female"
    guesses = {g.attribute: g for g in guess_attributes(pairs_of(personas, lambda persona: []), personas, 1)}
    sex, religion = guesses["sex"], guesses["religion"]
    assert set(sex.blind[sex.known].tolist()) == {0.0, 1.0}
    assert sex.baseline == pytest.approx(2 / 3)
    # Five values of twelve personas each.
    assert religion.baseline == pytest.approx(0.2)


def test_a_common_value_can_be_marked_too():
    """Half of the personas are women, so that twice their share is certainty; most of the doubt gone is enough."""
    found, _ = inferable_attributes(pairs_of(people(), lambda p: [p["sex"].lower() * 2] * 3), people(), seed=1)
    assert sum("sex" in names for names in found.values()) > 0.8 * len(found)


def test_who_is_recognised_by_a_word_of_their_own_is_not_read_off():
    """Each persona has a pet word. It gives the person away, and nothing that others share: folds leave out whole personas."""
    found, details = inferable_attributes(pairs_of(people(), lambda p: [f"pet{p['persona_id']}"] * 3), people(), seed=1)
    assert sum(map(len, found.values())) < 0.03 * len(found)
    assert details["attributes"]["sex"]["accuracy"] < 0.6


def test_nulls_are_neither_guessed_nor_counted_and_a_single_value_is_no_attribute():
    personas = people()
    by_attribute = {g.attribute: g for g in guess_attributes(pairs_of(personas, religion), personas, seed=1)}
    assert set(by_attribute) == set(RECOVERED) - {"ideology"}
    known = by_attribute["political_views"].known
    assert known.sum() == PROMPTS * sum(p["political_views"] is not None for p in personas)


def test_neither_the_order_of_the_rows_nor_the_form_of_the_answer_matters():
    personas, pairs = people(), pairs_of(people(), religion)
    expected = inferable_attributes(pairs, personas, seed=1)
    turned = pairs.take(np.arange(pairs.num_rows)[::-1])
    messages = arrow.array(
        [assistant_message(t) for t in turned["chosen"].to_pylist()], features("dpf").arrow_schema.field("chosen").type
    )
    turned = turned.set_column(turned.column_names.index("chosen"), "chosen", messages)
    assert inferable_attributes(turned, personas[::-1], seed=1) == expected


def test_with_too_few_personas_nothing_is_marked_and_it_is_said():
    few = people()[:39]
    found, details = inferable_attributes(pairs_of(few, religion), people(), seed=1)
    assert set(map(tuple, found.values())) == {()}
    assert details["attributes"] == {}
    assert "39 personas" in details["note"]


def test_no_pairs_are_no_error():
    empty = pairs_of(people(), religion).slice(0, 0)
    assert inferable_attributes(empty, people(), seed=1)[0] == {}


@pytest.mark.parametrize(
    ("share", "probability", "inferable"),
    [
        (0.1, 0.49, False),  # less than one half
        (0.1, 0.51, True),
        (0.3, 0.59, False),  # less than twice the share
        (0.3, 0.61, True),
        (0.6, 0.79, False),  # not half of the doubt gone
        (0.6, 0.81, True),
    ],
)
def test_how_sure_a_guess_must_be(share, probability, inferable):
    guesses = Guesses(
        "x",
        ["a", "b"],
        np.array([share, 1 - share]),
        np.array([0, 0, -1]),
        np.array([0, 1, 0]),
        np.full(3, probability),
        np.full(3, 0.5),
    )
    assert guesses.inferable.tolist() == [inferable, False, False]
