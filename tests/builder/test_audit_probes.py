"""Probes that see no persona: each finds what is planted for it, none finds what is not there, and mirrors give exactly one half."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from builder.audit.pairs import ABSENT, Pairs, Sample, text_hash
from builder.audit.probes import (
    cross_validated_wins,
    items_of,
    length_outcomes,
    probe_outcomes,
    question_features,
    style_features,
    wins,
    with_question,
    word_features,
)
from builder.lexical import profile_overlap, words
from builder.randomness import rng_for

PROMPTS, PERSONAS = 40, 12
VOCABULARY = [f"{a}{b}{c}ing" for a in "bdfgklmnprst" for b in "aeiou" for c in "dklmnprst"]
QUESTIONS = [f"{'Should we' if n % 2 else 'Could they'} talk of matter {n}?" for n in range(PROMPTS)]
PROFILES = [
    f"{' '.join(VOCABULARY[20 * n : 20 * n + 20])}\nSide: {'left' if n % 2 else 'right'}" for n in range(PERSONAS)
]
# Of personas drawn at random every other one is of the same side.
WRONG = rng_for(1, "test", "wrong").integers(1, PERSONAS, PERSONAS * PROMPTS)


def planted(plant, seed=3, config="dpf_matched"):
    """Pairs of 12 personas and 40 prompts; both sides random words of random length, then `plant(chosen, rejected, ...)` changes them."""
    rng = rng_for(seed, "test", "planted")
    chosen, rejected, persona, prompt = [], [], [], []
    for p in range(PERSONAS):
        for q in range(PROMPTS):
            sides = [
                [VOCABULARY[n] for n in rng.integers(300, len(VOCABULARY), rng.integers(30, 120))] for _ in range(2)
            ]
            a, b = plant(*sides, rng=rng, persona=p, prompt=q)
            chosen.append(" ".join(a) + ".")
            rejected.append(" ".join(b) + ".")
            persona.append(p)
            prompt.append(q)
    return pairs_of(config, persona, prompt, chosen, rejected)


def pairs_of(config, persona, prompt, chosen, rejected):
    n = len(chosen)
    counts = [np.array([len(words(text)) for text in side]) for side in (chosen, rejected)]
    persona = np.array(persona)
    nothing = np.zeros(n, dtype=int)
    return Pairs(
        config=config,
        personas=[f"p{i:05d}" for i in range(PERSONAS)],
        prompts=[f"q{i:05d}" for i in range(PROMPTS)],
        pair_ids=None,
        split=nothing,
        persona=persona,
        partner=np.full(n, ABSENT),
        wrong=(persona + WRONG[:n]) % PERSONAS,
        prompt=np.array(prompt),
        mirror=np.full(n, ABSENT),
        base=np.full(n, ABSENT),
        base_ids=[],
        group=np.full(n, "seen", dtype=object),
        chosen=np.array([text_hash(text) for text in chosen], dtype=np.uint64),
        rejected=np.array([text_hash(text) for text in rejected], dtype=np.uint64),
        degenerate=nothing.astype(bool),
        chosen_words=counts[0],
        rejected_words=counts[1],
        chosen_tokens=counts[0],
        rejected_tokens=counts[1],
        not_shorter=nothing,
        names_attribute=nothing,
        gives_away=nothing,
        sample=Sample(np.arange(n), chosen, rejected),
    )


def found(pairs):
    """Share of the pairs that each rule or probe wins, by name."""
    outcomes = [*length_outcomes(pairs, None), *probe_outcomes(pairs, QUESTIONS, PROFILES, None, None, seed=1)]
    return {outcome.name: float(np.nanmean(outcome.values)) for outcome in outcomes}


def nothing(chosen, rejected, **_):
    return chosen, rejected


def five_shorter(chosen, rejected, rng, **_):
    return [VOCABULARY[n] for n in rng.integers(300, len(VOCABULARY), len(rejected) - 5)], rejected


def commas(chosen, rejected, **_):
    return [word + "," * (i in (3, 9)) for i, word in enumerate(chosen)], rejected


def one_word(chosen, rejected, **_):
    return [*chosen[1:], "therefore"], rejected


def profile_words(chosen, rejected, persona, **_):
    return [*chosen[4:], *VOCABULARY[20 * persona : 20 * persona + 4]], rejected


def nearer_to_seventy(chosen, rejected, rng, **_):
    """Chosen is the side whose length is nearer to 70 words, and as often the longer one as the shorter."""
    lengths = rng.integers(30, 70, 2)
    longer = lengths if rng.random() < 0.5 else 140 - lengths
    near, far = sorted(longer.tolist(), key=lambda n: abs(n - 70))
    return tuple([VOCABULARY[n] for n in rng.integers(300, len(VOCABULARY), size)] for size in (near, far))


def word_by_persona(chosen, rejected, persona, **_):
    """Both answers hold one of two words, neither of the profile; which of them is chosen depends on the persona."""
    one, other = ("gladly", "hardly") if persona % 2 else ("hardly", "gladly")
    return [*chosen[1:], one], [*rejected[1:], other]


def word_by_question(chosen, rejected, prompt, **_):
    """Both answers hold one of two words; which of them is chosen depends on how the question begins."""
    one, other = ("gladly", "hardly") if prompt % 2 else ("hardly", "gladly")
    return [*chosen[1:], one], [*rejected[1:], other]


def test_where_nothing_is_planted_nothing_is_found():
    for name, share in found(planted(nothing)).items():
        assert share == pytest.approx(0.5, abs=0.075), name  # 480 pairs: three standard errors are 0.068


@pytest.mark.parametrize(
    ("plant", "finders", "blind"),
    [
        (five_shorter, {"shorter wins", "shorter wins in tokens", "style wins"}, {"profile overlap wins"}),
        (commas, {"style wins"}, {"shorter wins", "words win", "profile overlap wins"}),
        (one_word, {"words win", "question and words win"}, {"shorter wins", "profile overlap wins"}),
        (profile_words, {"profile overlap wins"}, {"shorter wins", "style wins", "wrong profile overlap wins"}),
        (profile_words, {"profile and answer win"}, {"wrong profile and answer win"}),
        (nearer_to_seventy, {"lengths win"}, {"shorter wins", "shorter wins in tokens", "words win"}),
        (
            word_by_persona,
            {"profile and answer win"},
            {"words win", "question and words win", "wrong profile and answer win"},
        ),
        (word_by_question, {"question and words win"}, {"words win", "style wins", "shorter wins"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_probe_finds_what_is_planted_for_it(plant, finders, blind):
    shares = found(planted(plant))
    for name in finders:
        assert shares[name] > 0.85, name
    for name in blind:
        assert shares[name] == pytest.approx(0.5, abs=0.1), name


def test_a_pooled_probe_misses_five_tokens_that_the_probe_within_pairs_finds():
    """Lengths differ from prompt to prompt by hundreds of words; chosen is always five shorter than its own rejected."""
    rng = rng_for(1, "test", "pooled")
    chosen, rejected, prompt = [], [], []
    for q in range(PROMPTS):
        for _ in range(PERSONAS):
            length = int(rng.integers(50, 400))
            sides = [[VOCABULARY[n] for n in rng.integers(0, len(VOCABULARY), size)] for size in (length - 5, length)]
            for side, told in zip((chosen, rejected), sides, strict=True):
                side.append(" ".join(told) + ".")
            prompt.append(q)
    style = np.array([style_features(text) for text in [*chosen, *rejected]])
    is_chosen = np.array([1] * len(chosen) + [0] * len(rejected))
    held_out = np.tile(np.array(prompt) % 2 == 0, 2)
    size = style.std(axis=0) + 1e-9
    pooled = LogisticRegression(max_iter=500).fit(style[~held_out] / size, is_chosen[~held_out])
    auc = roc_auc_score(is_chosen[held_out], pooled.decision_function(style[held_out] / size))
    assert auc < 0.6

    items = items_of(np.array(prompt), chosen, rejected)
    within = cross_validated_wins(np.array([style_features(text) for text in items.texts]), items, 1, "x")
    assert within.mean() > 0.95


@st.composite
def mirrored_sets(draw):
    """Pairs of answers to some prompts, each with its mirror."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
    rows = [(q, f"answer {a} {'!' * a}", f"answer {b} {'!' * b}") for q, a, b in pairs]
    return [*rows, *((q, b, a) for q, a, b in rows)]


@settings(max_examples=60, deadline=None)
@given(mirrored_sets(), st.integers(0, 2**31))
def test_any_blind_scorer_gets_exactly_half_of_complete_mirrors(rows, seed):
    prompts, chosen, rejected = zip(*rows, strict=True)
    items = items_of(np.array(prompts), chosen, rejected)
    arbitrary = np.random.Generator(np.random.PCG64(seed)).normal(size=len(items.texts))
    assert wins(arbitrary, items).mean() == 0.5
    assert wins(np.round(arbitrary), items).mean() == 0.5  # with ties


@settings(max_examples=15, deadline=None)
@given(mirrored_sets(), st.integers(0, 1000))
def test_any_fitted_probe_gets_exactly_half_of_complete_mirrors(rows, seed):
    prompts, chosen, rejected = zip(*rows, strict=True)
    items = items_of(np.array(prompts), chosen, rejected)
    for features in (np.array([style_features(t) for t in items.texts]), word_features(items.texts)[0]):
        taken = cross_validated_wins(features, items, seed, "x")
        assert (taken is None) == (len(set(prompts)) < 2)
        if taken is not None:
            assert np.nansum(taken) == 0.5 * np.isfinite(taken).sum()


def test_half_of_the_mirrors_is_not_exactly_half():
    """The statement above is about complete sets: with one mirror lost it no longer holds."""
    items = items_of(np.array([0, 0, 1]), ["a", "b", "a"], ["b", "a", "b"])
    assert wins(np.array([1.0, 0.0, 1.0, 0.0]), items).mean() != 0.5


def test_prompts_of_a_fold_are_left_out():
    """Every prompt has its own telling word: known only to a probe that was fitted on the prompt's other pairs."""

    def own_word(chosen, rejected, prompt, **_):
        return [*chosen[1:], VOCABULARY[prompt]], [*rejected[1:], VOCABULARY[prompt + 100]]

    assert found(planted(own_word))["words win"] == pytest.approx(0.5, abs=0.1)


def test_overlap_is_the_rule_of_the_evaluation():
    pairs = planted(profile_words)
    own = next(o for o in probe_outcomes(pairs, QUESTIONS, PROFILES, None, None, 1) if o.name == "profile overlap wins")
    for place in range(0, len(pairs), 37):
        a, b = (
            profile_overlap(side[place], PROFILES[pairs.persona[place]])
            for side in (pairs.sample.chosen, pairs.sample.rejected)
        )
        assert own.values[place] == (1.0 if a > b else 0.0 if a < b else 0.5)


def test_a_pair_without_a_wrong_persona_is_not_asked():
    pairs = planted(nothing)
    pairs.wrong[:5] = ABSENT
    other = next(
        o for o in probe_outcomes(pairs, QUESTIONS, PROFILES, None, None, 1) if o.name == "wrong profile overlap wins"
    )
    assert np.isnan(other.values[:5]).all()
    assert not np.isnan(other.values[5:]).any()


def test_with_one_prompt_nothing_can_be_left_out():
    items = items_of(np.zeros(4, dtype=int), list("abcd"), list("efgh"))
    assert cross_validated_wins(np.eye(8), items, 1, "x") is None


def test_answers_without_words_are_no_error():
    assert word_features(["!!!", "..."])[0].shape[0] == 2
    assert len(style_features("")) == len(style_features("1. One\n- Two\n# THREE ... é"))
    weights, counts = word_features(["yes", "no"])
    assert with_question(weights, counts, question_features(["Why?", "Why?"])).shape == (2, 2)
