import pytest

from builder.errors import InputError
from tests.published_folder import write_published_folder
from training.data import labelled_pairs, load_preference_data, rows_hash, trainer_rows


def load(folder, change=None, configs=("dpf", "contrast")):
    return load_preference_data(str(write_published_folder(folder, change=change)), configs)


def test_splits_stay_apart_and_train_holds_seen_personas_only(place):
    data = load_preference_data(str(place.data), ["dpf", "contrast"])
    assert set(data.splits) == {"train", "seen_test", "heldout_test", "support"}
    assert set(data.splits["train"]["persona_group"]) == {"seen"}
    assert set(data.splits["support"]["persona_group"]) == {"unseen"}
    assert set(data.splits["heldout_test"]["persona_group"]) == {"seen", "unseen"}
    assert set(data.splits["train"]["pair_kind"]) == {"dpf", "contrast"}
    assert data.identity["fingerprint"].startswith("test")
    assert len(data.profiles) == 6
    for rows in data.splits.values():
        assert rows["question"][:] == [prompt[-1]["content"] for prompt in rows["prompt"]]
        assert [mirror is not None for mirror in rows["mirror_pair_id"]] == [
            kind == "contrast" for kind in rows["pair_kind"]
        ]


def test_one_config_alone(place):
    assert set(load_preference_data(str(place.data), ["dpf"]).splits["train"]["pair_kind"]) == {"dpf"}


def test_labelled_pairs_are_train_for_the_seen_and_support_for_the_unseen(place):
    """No test pair may be looked at, and every persona has pairs of its own only."""
    data = load_preference_data(str(place.data), ["dpf"])
    labelled = labelled_pairs(data)
    assert set(labelled) == set(data.profiles)
    for persona, pairs in labelled.items():
        assert {pair.prompt_id for pair in pairs} == {"q00000", "q00001", "q00002"}
        trade = data.profiles[persona].split()[3].rstrip(",")
        for pair in pairs:
            assert pair.preferred.startswith(f"As a {trade} I like ")
            assert pair.other.startswith("Rules about ")
            assert pair.question.startswith("What do you think about ")


def test_a_trainer_gets_nothing_but_messages_and_ids(place):
    rows = load_preference_data(str(place.data), ["dpf"]).splits["train"]
    assert set(trainer_rows(rows).column_names) == {"prompt", "chosen", "rejected", "pair_id"}


def test_the_hash_of_rows_is_of_their_texts_ids_and_order(place):
    rows = load_preference_data(str(place.data), ["dpf"]).splits["train"]
    assert rows_hash(rows) == rows_hash(rows.remove_columns("wrong_persona_id"))
    assert len({rows_hash(rows), rows_hash(rows.select([1, 0])), rows_hash(rows.select([0, 1]))}) == 3


def string_prompts(tables):
    for rows in tables["dpf"].values():
        for row in rows:
            row["prompt"] = row["prompt"][1]["content"]


def no_seen_test(tables):
    del tables["dpf"]["seen_test"]


def no_support(tables):
    del tables["dpf"]["support"]


def no_wrong_persona(tables):
    for rows in tables["dpf"].values():
        for row in rows:
            del row["wrong_persona_id"]


def no_chosen(tables):
    for rows in tables["contrast"].values():
        for row in rows:
            del row["chosen"]


def prompts_without_personas(tables):
    for row in tables["dpf"]["train"]:
        row["prompt"] = row["prompt"][1:]


def other_profiles(tables):
    for row in tables["personas"]["train"]:
        row["profile"] += " Changed."


def unseen_in_train(tables):
    tables["dpf"]["train"] += tables["dpf"]["support"]


def heldout_prompt_in_train(tables):
    tables["dpf"]["train"][0]["prompt_id"] = "q00004"


def test_pair_in_train(tables):
    tables["dpf"]["seen_test"][0]["pair_id"] = tables["dpf"]["train"][0]["pair_id"]


test_pair_in_train.__test__ = False  # type: ignore[attr-defined]


def empty_train(tables):
    for config in ("dpf", "contrast"):
        tables[config]["train"] = []


def no_personas(tables):
    del tables["personas"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (string_prompts, "prompt holds text"),
        (no_seen_test, "'seen_test'"),
        (no_support, "'support'"),
        (no_wrong_persona, r"dpf, split train lacks the column\(s\) wrong_persona_id"),
        (no_chosen, r"contrast, split train lacks the column\(s\) chosen"),
        (prompts_without_personas, r"roles are \['user'\]"),
        (other_profiles, "not the profile of p00000"),
        (unseen_in_train, "unseen personas"),
        (heldout_prompt_in_train, "q00004"),
        (test_pair_in_train, "seen_test"),
        (empty_train, "no rows"),
        (no_personas, "personas"),
    ],
)
def test_datasets_that_cannot_be_used(tmp_path, change, named):
    with pytest.raises(InputError, match=named):
        load(tmp_path / "data", change)


def test_no_such_dataset(tmp_path, place):
    with pytest.raises(InputError, match="no such folder"):
        load_preference_data(str(tmp_path / "nowhere"), ["dpf"])
    with pytest.raises(InputError, match="dataset_revision"):
        load_preference_data(str(place.data), ["dpf"], revision="v1")
    with pytest.raises(InputError, match="dpf_matched"):
        load_preference_data(str(place.data), ["dpf_matched"])


def test_a_rebuilt_folder_is_read_anew(tmp_path):
    """Two folders of one name: the datasets library alone would read the second from the cache of the first."""
    load(tmp_path / "one" / "data")

    def change(tables):
        for rows in tables["dpf"].values():
            for row in rows:
                row["chosen"][0]["content"] = "Something new."

    rows = load(tmp_path / "two" / "data", change, configs=["dpf"]).splits["train"]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "Something new."}]


def test_a_test_split_without_rows_is_allowed(tmp_path):
    def change(tables):
        tables["dpf"]["heldout_test"] = []
        tables["dpf"]["support"] = []

    data = load(tmp_path / "data", change, configs=["dpf"])
    assert len(data.splits["heldout_test"]) == 0
    assert len(data.splits["seen_test"]) == 6
