"""The low-rank head: planted preferences are found again, and a whole run keeps its promises."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from builder.errors import InputError
from tests.published_folder import write_published_folder
from training import low_rank
from training.data import labelled_pairs, load_preference_data
from training.evaluation import Candidate
from training.low_rank import LowRankConfig, fit_generic, fit_head, fit_weights, generic_weights
from training.trained import load_scorer

SEEN, UNSEEN, TRAIN, TEST = 60, 20, 60, 40


@pytest.fixture(scope="module")
def planted():
    """Differences of 24 dimensions and their owners: 80 personas who judge by two hidden directions, train pairs first."""
    rng = np.random.default_rng(0)
    hidden, weights = rng.normal(size=(2, 24)) / 5, rng.normal(size=(SEEN + UNSEEN, 2))
    owner = np.repeat(np.arange(SEEN + UNSEEN), TRAIN + TEST)
    differences = rng.normal(size=(len(owner), 24))
    differences *= np.sign((weights[owner] * (differences @ hidden.T)).sum(axis=1))[:, None]
    return differences, owner, np.arange(len(owner)) % (TRAIN + TEST) < TRAIN


def fitted(planted, rank=2, differences=None):
    own, owner, train = planted
    chosen = train & (owner < SEEN)
    rows = (own if differences is None else differences)[chosen]
    return fit_head(rows, [str(o) for o in owner[chosen]], LowRankConfig(rank=rank))


def seen_accuracy(planted, directions, personas):
    differences, owner, train = planted
    test = ~train & (owner < SEEN)
    weights = np.array([personas[str(o)] for o in owner[test]])
    return ((differences[test] @ directions.T * weights).sum(axis=1) > 0).mean()


def unseen_accuracy(planted, directions, pairs):
    differences, owner, train = planted
    shares = []
    for persona in range(SEEN, SEEN + UNSEEN):
        support = differences[train & (owner == persona)][:pairs] @ directions.T
        weights = fit_weights(support, generic_weights(len(directions) - 1), 1.0)
        shares.append((differences[~train & (owner == persona)] @ directions.T @ weights > 0).mean())
    return np.mean(shares)


def test_planted_preferences_are_recovered(planted):
    directions, personas, objective = fitted(planted)
    assert seen_accuracy(planted, directions, personas) >= 0.95
    assert objective == sorted(objective, reverse=True)


def test_an_unseen_persona_is_the_better_known_the_more_pairs_it_has(planted):
    directions, _, _ = fitted(planted)
    few, some, many = (unseen_accuracy(planted, directions, pairs) for pairs in (2, 8, 32))
    assert 0.6 < few < some < many
    assert many >= 0.9
    assert 0.35 < unseen_accuracy(planted, directions, 0) < 0.65


def test_shuffled_labels_teach_nothing(planted):
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=len(planted[0]))[:, None]
    directions, personas, _ = fitted(planted, differences=planted[0] * signs)
    assert 0.44 < seen_accuracy(planted, directions, personas) < 0.56
    assert 0.44 < unseen_accuracy(planted, directions, 32) < 0.56


def test_without_directions_every_persona_is_the_generic_one(planted):
    directions, personas, _ = fitted(planted, rank=0)
    assert directions.shape == (1, 24)
    assert personas == {}


def test_without_pairs_the_weights_are_the_generic_ones():
    generic = generic_weights(3)
    np.testing.assert_array_equal(fit_weights(np.zeros((0, 4)), generic, 1.0), generic)


def test_a_higher_penalty_keeps_weights_nearer_to_the_generic_ones():
    features = np.random.default_rng(2).normal(size=(20, 3)) * 50
    generic = generic_weights(2)
    distances = [np.linalg.norm(fit_weights(features, generic, penalty) - generic) for penalty in (0.1, 1, 10, 1e6)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-2
    # At the minimum the gradient vanishes, however large the margins.
    weights = fit_weights(features, generic, 1.0)
    gradient = weights - generic - features.T @ (1 / (1 + np.exp(np.clip(features @ weights, -500, 500))))
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_generic_direction_is_what_all_prefer(planted):
    differences = np.abs(planted[0][:200])
    assert (differences @ fit_generic(differences, 0.1) > 0).mean() > 0.95
    with pytest.raises(InputError, match="single training row"):
        fit_generic(differences[:1], 0.1)


def arguments(place, output, *more):
    common = ["--config", "demo_low_rank", "--dataset", str(place.data), "--model_name_or_path", str(place.base)]
    quick = ["--base_model_id", "persona-testbed/tiny", "--eval_max_rows", "24"]
    return [*common, *quick, "--output_dir", str(output), *more]


def record_of(folder):
    return json.loads((folder / "training.json").read_text())


@pytest.fixture(scope="module")
def folder(place, tmp_path_factory):
    return low_rank.main(arguments(place, tmp_path_factory.mktemp("low_rank") / "model"))


@pytest.fixture(scope="module")
def data(place):
    return load_preference_data(str(place.data), ["dpf", "contrast"])


def scorer(folder, data, place, **more):
    return load_scorer(folder, data.profiles, labelled_pairs(data), str(place.base), device="cpu", **more)


def cell(record, config, condition):
    return next(e for e in record["results"] if e["config"] == config and e["cell"] == "all")["conditions"][condition]


def test_a_run_writes_what_it_learned(folder):
    record, weights = record_of(folder), load_file(folder / "low_rank.safetensors")
    assert record["kind"] == "low_rank"
    assert record["reload_difference"] == 0
    assert record["run"]["trained_rows"] == 36
    assert json.loads((folder / "personas.json").read_text()) == ["p00000", "p00001", "p00002", "p00003"]
    assert weights["directions"].shape == (3, 16)
    assert weights["personas"].shape == (4, 3)
    assert {path.name for path in folder.iterdir()} >= {"README.md", "scores.parquet", "training.json"}


def test_what_everybody_prefers_is_learned(folder):
    """In `dpf` the persona's own answer is chosen over a text of rules, whoever the persona is."""
    entry = next(e for e in record_of(folder)["results"] if e["config"] == "dpf" and e["cell"] == "all")
    assert entry["conditions"]["none"]["wins"] == entry["rows"]


def test_without_a_persona_mirrored_pairs_are_even(folder):
    none = cell(record_of(folder), "contrast", "none")
    assert none["accuracy"] == 0.5
    assert none["wins"] > 0  # not by ties alone


def test_the_persona_shown_matters(folder, data, place):
    score = scorer(folder, data, place).score
    row = data.splits["seen_test"][0]
    answer = row["chosen"][0]["content"]
    shown = [row["persona_id"], row["wrong_persona_id"], None]
    scores = score([Candidate(persona, row["prompt_id"], row["question"], answer) for persona in shown])
    assert len(set(scores)) == 3


def test_unseen_personas_are_fitted_from_their_pairs_alone(folder, data, place):
    row = next(row for row in data.splits["seen_test"] if row["persona_group"] == "unseen")
    texts = [row["chosen"][0]["content"], row["rejected"][0]["content"]]
    own = [Candidate(row["persona_id"], row["prompt_id"], row["question"], text) for text in texts]
    nobody = [Candidate(None, row["prompt_id"], row["question"], text) for text in texts]
    scores = {k: scorer(folder, data, place, few_shot_pairs=k).score([*own, *nobody]) for k in (0, 1, 3)}
    assert scores[0][:2] == scores[0][2:]
    assert scores[1][:2] != scores[3][:2]
    assert scores[1][2:] == pytest.approx(scores[3][2:], abs=1e-6)
    seen = Candidate("p00000", row["prompt_id"], row["question"], texts[0])
    few, many = (scorer(folder, data, place, few_shot_pairs=k) for k in (1, 9))
    assert few.score([seen]) == pytest.approx(many.score([seen]), abs=1e-6)
    assert many.usable(seen)
    assert many.usable(nobody[0])
    assert not many.usable(own[0])
    with pytest.raises(InputError, match="few_shot_pairs"):
        many.score(own)


def test_test_rows_enter_no_fit(folder, place, tmp_path):
    """A dataset whose test rows are turned round gives the same head."""

    def turned(tables):
        for config in ("dpf", "contrast"):
            for split in ("seen_test", "heldout_test"):
                for row in tables[config][split]:
                    row["chosen"], row["rejected"] = row["rejected"], row["chosen"]

    other = write_published_folder(tmp_path / "data", change=turned)
    again = low_rank.main([*arguments(place, tmp_path / "model"), "--dataset", str(other)])
    assert (again / "low_rank.safetensors").read_bytes() == (folder / "low_rank.safetensors").read_bytes()
    margins = [cell(record_of(run), "dpf", "true")["mean_margin"] for run in (folder, again)]
    assert margins[0] == pytest.approx(-margins[1], abs=1e-6)
    assert margins[0] != 0


def test_the_same_run_gives_the_same_bits_and_seeds_share_the_embeddings(folder, place, tmp_path):
    cache = ["--score_cache", str(tmp_path / "cache")]
    first = low_rank.main(arguments(place, tmp_path / "first", *cache))
    files = sorted((tmp_path / "cache").iterdir())
    second = low_rank.main(arguments(place, tmp_path / "second", "--seed", "1", *cache))
    for again in (first, second):
        assert (again / "low_rank.safetensors").read_bytes() == (folder / "low_rank.safetensors").read_bytes()
    assert sorted((tmp_path / "cache").iterdir()) == files
    assert str(tmp_path) not in (second / "training.json").read_text()


def test_blind_heads_treat_all_personas_alike(place, tmp_path):
    for name, more in (("rank", ["--rank", "0"]), ("mode", ["--persona", "none"])):
        record = record_of(low_rank.main(arguments(place, tmp_path / name, *more)))
        assert record["run"]["rank"] == 0
        for config in ("dpf", "contrast"):
            won = {cell(record, config, condition)["mean_margin"] for condition in ("true", "none", "wrong")}
            assert len(won) == 1
        assert cell(record, "contrast", "true")["accuracy"] == 0.5


def test_no_candidates_have_no_scores(folder, data, place):
    assert scorer(folder, data, place).score([]) == []


def test_a_finished_head_is_not_scored_with_corrupted_profiles(folder, data, place):
    with pytest.raises(InputError, match=r"persona_corruption .* a low_rank model reads none"):
        scorer(folder, data, place, persona_corruption=0.5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--rank", "-1"], "rank is -1"),
        (["--persona_penalty", "0"], "persona_penalty is 0"),
        (["--persona_corruption", "0.5"], "does not read persona_corruption"),
        (["--dtype", "bfloat16"], "float32"),
        (["--load_in_4bit", "true"], "load_in_4bit"),
    ],
)
def test_bad_settings_are_refused(place, tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        low_rank.main(arguments(place, tmp_path / "model", *more))
    assert not (tmp_path / "model").exists()
