"""Which rows are trained on and whose persona they show."""

from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.randomness import rng_for
from training.conditioning import Conditioning
from training.prompts import PersonaPrompts
from training.selection import choose_rows, condition_rows, shown_in_training, split_validation

CONFIGS = ["dpf", "contrast"]


def rows(dpf: int = 12, mirrored: int = 8, questions: int = 5) -> Dataset:
    """`dpf` rows and twice `mirrored` contrast rows, a pair and its mirror far from each other."""
    made: list[dict[str, Any]] = [row(f"dpf/{n}", None, "dpf", n % questions) for n in range(dpf)]
    for side, other in (("a", "b"), ("b", "a")):
        made += [row(f"contrast/{n}{side}", f"contrast/{n}{other}", "contrast", n % questions) for n in range(mirrored)]
    return Dataset.from_list(made)


def row(pair: str, mirror: str | None, kind: str, question: int) -> dict[str, Any]:
    ids = {"pair_id": pair, "mirror_pair_id": mirror, "pair_kind": kind, "prompt_id": f"q{question}"}
    return {**ids, "question": "Why?", "persona_id": "p0", "wrong_persona_id": "p1"}


def assert_whole_sets(chosen: Dataset) -> None:
    ids = set(chosen["pair_id"])
    assert all(mirror in ids for mirror in chosen["mirror_pair_id"] if mirror is not None)


@settings(max_examples=25, deadline=None)
@given(
    limit=st.integers(2, 40), seed=st.integers(0, 3), shares=st.sampled_from([None, [0.5, 0.5], [0.8, 0.2], [0.2, 0.8]])
)
def test_chosen_rows(limit, seed, shares):
    """Whole mirrored sets within the limit and in the stated shares; another order of the rows chooses the same ones."""
    all_rows = rows()
    chosen = choose_rows(all_rows, shares, CONFIGS, limit, seed)
    assert_whole_sets(chosen)
    kinds = chosen["pair_kind"]
    if shares is None:
        assert min(limit, 28) - 1 <= len(chosen) <= limit
    else:
        total = min(limit, *(n / share for n, share in zip((12, 16), shares, strict=True)))
        for config, share in zip(CONFIGS, shares, strict=True):
            assert round(total * share) - 1 <= kinds.count(config) <= round(total * share)
    place = {pair: n for n, pair in enumerate(all_rows["pair_id"])}
    assert [place[pair] for pair in chosen["pair_id"]] == sorted(place[pair] for pair in chosen["pair_id"])
    shuffled = all_rows.select(rng_for(seed, "test", str(limit)).permutation(len(all_rows)))
    assert set(choose_rows(shuffled, shares, CONFIGS, limit, seed)["pair_id"]) == set(chosen["pair_id"])


def test_without_shares_and_limit_all_rows_stay_and_seeds_choose_others():
    all_rows = rows()
    assert choose_rows(all_rows, None, CONFIGS, None, 0)["pair_id"] == all_rows["pair_id"]
    assert len({tuple(choose_rows(all_rows, None, CONFIGS, 6, seed)["pair_id"]) for seed in range(6)}) > 3


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.4], [1.0, 0.0], [0.5, 0.25, 0.25]])
def test_shares_that_do_not_fit(shares):
    with pytest.raises(InputError, match=r"dataset_shares.*\['dpf', 'contrast'\]"):
        choose_rows(rows(), shares, CONFIGS, None, 0)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.01, 0.85), seed=st.integers(0, 3))
def test_no_question_of_the_validation_rows_is_trained_on(share, seed):
    train, validation = split_validation(rows(), share, seed)
    assert not set(train["prompt_id"]) & set(validation["prompt_id"])
    assert len(set(validation["prompt_id"])) == max(1, round(share * 5))
    assert sorted([*train["pair_id"], *validation["pair_id"]]) == sorted(rows()["pair_id"])
    assert_whole_sets(train)
    assert_whole_sets(validation)


def test_no_validation_rows_unless_asked_for_and_never_all():
    train, validation = split_validation(rows(), 0.0, 0)
    assert (len(train), len(validation)) == (28, 0)
    with pytest.raises(InputError, match="only 5 questions"):
        split_validation(rows(), 0.95, 0)


def shown(conditioning: Conditioning, dropout: float, count: int = 400) -> list[str | None]:
    made = [row(f"dpf/{n}", None, "dpf", 0) for n in range(count)]
    return [shown_in_training(one, conditioning, dropout) for one in made]


def test_whose_persona_is_shown():
    assert set(shown(Conditioning("full"), 0.0)) == {"p0"}
    assert set(shown(Conditioning("shuffled"), 0.0)) == {"p1"}
    assert set(shown(Conditioning("none"), 0.0)) == {None}


def test_persona_dropout_is_a_share_of_the_rows_drawn_by_seed_and_id():
    dropped = shown(Conditioning("full", seed=1), 0.3)
    assert 0.2 < dropped.count(None) / len(dropped) < 0.4
    assert dropped == shown(Conditioning("full", seed=1), 0.3)
    assert dropped != shown(Conditioning("full", seed=2), 0.3)
    # A larger share drops the same rows and more.
    more = shown(Conditioning("full", seed=1), 0.6)
    assert all(later is None for earlier, later in zip(dropped, more, strict=True) if earlier is None)
    # A row's draw does not depend on the rows beside it.
    assert shown(Conditioning("full", seed=1), 0.3, count=50) == dropped[:50]


def test_prompts_of_the_rows_show_what_is_said_of_them():
    prompts = PersonaPrompts(Conditioning("full", seed=1), {"p0": "Profile 0"}, {})
    conditioned = condition_rows(rows(), prompts, dropout=0.5)
    texts = {"p0": "Profile 0", "": "You are a helpful assistant."}
    assert set(conditioned["shown_persona_id"]) == set(texts)
    for one in conditioned:
        assert one["prompt"][0] == {"role": "system", "content": texts[one["shown_persona_id"]]}
        assert one["prompt"][1] == {"role": "user", "content": "Why?"}
