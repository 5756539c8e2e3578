"""Who is asked what: numbers, independence of persona content, and the wrong persona of the control."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from builder.errors import InputError
from builder.pairs.assignment import assign_prompts, members_by_group, wrong_persona
from builder.randomness import rng_for
from builder.recipe import PairsRecipe

PROMPTS = [{"prompt_id": f"q{i:05d}", "pool": "train" if i < 30 else "heldout"} for i in range(40)]
DESIGN = PairsRecipe(train=10, seen_test=5, heldout_test=5)

# The paper's size. Each pool holds the topics in blocks of ids, so that any regularity of the draw in the order of ids would show.
PAPER_PERSONAS = [f"p{i:05d}" for i in range(1586)]
PAPER_PROMPTS = [{"prompt_id": f"q{i:05d}", "pool": "train" if i < 3000 else "heldout"} for i in range(3868)]
TOPICS = np.concatenate([np.arange(3000) * 20 // 3000, np.arange(868) * 20 // 868])
# Groups in the order of ids, in turn, and drawn with unequal shares.
DEMOGRAPHICS = {
    "age": np.arange(1586) * 6 // 1586,
    "sex": np.arange(1586) % 2,
    "region": np.arange(1586) % 4,
    "race": np.random.default_rng(1).choice(5, size=1586, p=[0.6, 0.18, 0.12, 0.06, 0.04]),
    "education": np.random.default_rng(2).choice(4, size=1586, p=[0.4, 0.3, 0.2, 0.1]),
    "faith": np.random.default_rng(3).choice(8, size=1586),
}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sets(st.integers(0, 99), min_size=1, max_size=12))
def test_each_persona_gets_its_numbers_without_overlap_and_without_looking_at_others(seed, numbers):
    personas = [f"p{n:05d}" for n in numbers]
    assigned = assign_prompts(seed, DESIGN, personas, PROMPTS)
    for persona in personas:
        own = [a for a in assigned if a.persona_id == persona]
        assert Counter(a.part for a in own) == {"train": 10, "seen_test": 5, "heldout_test": 5}
        assert len({a.prompt_id for a in own}) == 20
        assert all((a.part == "heldout_test") == (a.prompt_id >= "q00030") for a in own)
        alone = assign_prompts(seed, DESIGN, [persona], list(reversed(PROMPTS)))
        assert set(alone) == set(own)


def test_the_draw_is_that_of_the_seed_the_stage_and_the_persona():
    """Built again with the same seed, a later version asks everybody the same."""
    assigned = assign_prompts(3, DESIGN, ["p00007"], PROMPTS)
    rng = rng_for(3, "assignment", "p00007")
    drawn = [*rng.permutation(30)[:15], *(30 + rng.permutation(10)[:5])]
    parts = ["train"] * 10 + ["seen_test"] * 5 + ["heldout_test"] * 5
    assert [(a.prompt_id, a.part) for a in assigned] == [(f"q{i:05d}", p) for i, p in zip(drawn, parts, strict=True)]


def test_prompts_are_spread_evenly_over_personas():
    assigned = assign_prompts(3, DESIGN, [f"p{n:05d}" for n in range(600)], PROMPTS)
    counts = Counter(a.prompt_id for a in assigned if a.part == "train")
    # 600 personas x 10 of 30 prompts: 200 each, standard deviation 11.5.
    assert all(150 < n < 250 for n in counts.values())


def test_too_few_prompts_say_how_many_are_needed():
    with pytest.raises(InputError, match="needs 15 prompts of the train pool, and 3 passed"):
        assign_prompts(1, DESIGN, ["p00001"], PROMPTS[:3])
    with pytest.raises(InputError, match="needs 5 prompts of the heldout pool, and 4 passed"):
        assign_prompts(1, DESIGN, ["p00001"], PROMPTS[:34])
    # Exactly as many as needed are enough.
    assert len(assign_prompts(1, DESIGN, ["p00001"], [*PROMPTS[:15], *PROMPTS[30:35]])) == 20


@pytest.fixture(scope="module")
def drawn():
    """Per seed (topics, parts, distinct): per persona the number of prompts by topic, shape (1586, 20), and by part, shape (1586, 3),
    and how many different (persona, prompt) there are."""
    place = {
        name: i for names in (PAPER_PERSONAS, [p["prompt_id"] for p in PAPER_PROMPTS]) for i, name in enumerate(names)
    }
    place |= {"train": 0, "seen_test": 1, "heldout_test": 2}
    result = []
    for seed in range(6):
        assigned = assign_prompts(seed, PairsRecipe(), PAPER_PERSONAS, PAPER_PROMPTS)
        persona = np.array([place[a.persona_id] for a in assigned])
        prompt = np.array([place[a.prompt_id] for a in assigned])
        topics, parts = np.zeros((1586, 20), dtype=int), np.zeros((1586, 3), dtype=int)
        np.add.at(topics, (persona, TOPICS[prompt]), 1)
        np.add.at(parts, (persona, np.array([place[a.part] for a in assigned])), 1)
        result.append((topics, parts, len(np.unique(persona * 10_000 + prompt))))
    return result


def by_group(table, groups):
    """Counts of shape (groups, topics)."""
    return np.array([table[groups == group].sum(axis=0) for group in np.unique(groups)])


def mutual_information(counts):
    """In nats."""
    joint = counts / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return float((joint * np.log(np.where(joint > 0, joint / independent, 1.0))).sum())


def test_at_the_papers_size_every_persona_has_100_50_and_50(drawn):
    for topics, parts, distinct in drawn:
        assert distinct == topics.sum() == 317_200
        assert (parts == [100, 50, 50]).all()


def test_topic_and_demographics_are_independent(drawn):
    """A persona's prompts are drawn without replacement, so the chi-square test finds a little less than its 5 %."""
    p_values = [
        chi2_contingency(by_group(topics, groups)).pvalue for topics, _, _ in drawn for groups in DEMOGRAPHICS.values()
    ]
    # 36 tests at 5 %: 1.8 expected, and 7 or more once in 400 draws.
    assert sum(p < 0.05 for p in p_values) <= 6
    assert min(p_values) > 1e-4
    assert 0.35 < np.mean(p_values) < 0.75


def test_mutual_information_is_that_of_shuffled_personas(drawn):
    rng = np.random.default_rng(0)
    scores = []
    for topics, _, _ in drawn:
        for groups in DEMOGRAPHICS.values():
            shuffled = [mutual_information(by_group(topics, rng.permutation(groups))) for _ in range(40)]
            scores.append((mutual_information(by_group(topics, groups)) - np.mean(shuffled)) / np.std(shuffled))
    # Of 36 such scores 1.8 lie beyond 1.96 on average; their mean has a standard deviation of 0.17.
    assert sum(abs(score) > 1.96 for score in scores) <= 6
    assert abs(np.mean(scores)) < 0.7


def test_the_test_of_independence_sees_a_link(drawn):
    """Two more prompts of one topic, of 200, for every other persona are enough."""
    topics = drawn[0][0].copy()
    topics[::2, 3] += 2
    assert chi2_contingency(by_group(topics, DEMOGRAPHICS["sex"])).pvalue < 1e-6


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 9))
def test_the_wrong_persona_has_no_part_in_the_pair(seed, size):
    group = [f"p{n}" for n in range(size)]
    wrong = wrong_persona(seed, "x", {"p0", "p1"}, group)
    assert wrong not in ("p0", "p1")
    assert (wrong is None) == (size == 2)


@settings(deadline=None)
@given(st.integers(0, 99), st.sets(st.integers(0, 40), min_size=1), st.sets(st.integers(0, 40), min_size=1, max_size=2))
def test_the_wrong_persona_is_a_draw_from_all_others(seed, numbers, involved):
    """Those involved may be of another group; the draw is over the rest of the members in ascending order."""
    members = sorted(f"p{n:05d}" for n in numbers)
    names = [f"p{n:05d}" for n in involved]
    others = [member for member in members if member not in names]
    expected = others[int(rng_for(seed, "wrong_persona", "pair").integers(len(others)))] if others else None
    assert wrong_persona(seed, "pair", names, members) == expected
    assert wrong_persona(seed, "pair", names[::-1], members) == expected


def test_every_other_member_is_drawn_about_equally_often():
    members = [f"p{n:05d}" for n in range(10)]
    drawn = Counter(wrong_persona(1, f"pair {i}", ("p00004",), members) for i in range(9_000))
    assert set(drawn) == set(members) - {"p00004"}
    # 1,000 each, standard deviation 30.
    assert all(850 < n < 1150 for n in drawn.values())


def test_members_come_in_ascending_order():
    personas = [{"persona_id": f"p{n:05d}", "group": ("seen", "unseen")[n % 2]} for n in (5, 2, 9, 1, 0)]
    assert members_by_group(personas) == {"seen": ["p00000", "p00002"], "unseen": ["p00001", "p00005", "p00009"]}
