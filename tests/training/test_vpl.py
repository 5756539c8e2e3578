"""VPL: the latent of an unseen persona is found from its pairs, and a whole run keeps its promises."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from builder.errors import InputError
from training import vpl
from training.data import labelled_pairs, load_preference_data
from training.evaluation import Candidate
from training.trained import load_scorer
from training.vpl import VplConfig, latent_of, train_vpl

PERSONAS, UNSEEN, PAIRS, SIZE = 80, 30, 20, 6


@pytest.fixture(scope="module")
def planted():
    """Texts of 6 dimensions and pairs of 110 personas, each of whom likes or dislikes one hidden direction."""
    rng = np.random.default_rng(0)
    taste = rng.choice([-1.0, 1.0], size=PERSONAS + UNSEEN)
    owner = np.repeat(np.arange(PERSONAS + UNSEEN), PAIRS)
    phi = rng.normal(size=(2 * len(owner), SIZE)).astype(np.float32)
    pairs = np.arange(len(phi)).reshape(-1, 2)
    margins = taste[owner] * (phi[pairs[:, 0]] - phi[pairs[:, 1]])[:, 0]
    return torch.from_numpy(phi), np.where(margins[:, None] > 0, pairs, pairs[:, ::-1]), owner


def trained(planted, steps=200, seed=0, most_pairs=6, shown=True):
    phi, pairs, owner = planted
    rows = owner < PERSONAS
    personas = [str(persona) for persona in owner[rows]]
    config = VplConfig(
        latent_size=2, hidden_size=32, max_steps=steps, learning_rate=1e-2, logging_steps=steps, seed=seed
    )
    questions = [str(row) for row in range(len(personas))]
    shown_personas = personas if shown else [None] * len(personas)
    return train_vpl(phi, pairs[rows], personas, shown_personas, questions, most_pairs, config)[0]


def unseen_accuracy(planted, model, known):
    """On the second half of each unseen persona's pairs, its latent guessed from `known` of the first half."""
    phi, pairs, owner = planted
    shares = []
    for persona in range(PERSONAS, PERSONAS + UNSEEN):
        own = pairs[owner == persona]
        support, test = own[:known], own[PAIRS // 2 :]
        z = latent_of(model, [phi[a] - phi[b] for a, b in support]).expand(len(test), -1)
        with torch.no_grad():
            margins = model.reward(phi[test[:, 0]], z) - model.reward(phi[test[:, 1]], z)
        shares.append((margins > 0).float().mean().item())
    return np.mean(shares)


@pytest.fixture(scope="module")
def model(planted):
    return trained(planted)


def test_unseen_personas_are_understood_from_their_pairs(planted, model):
    assert unseen_accuracy(planted, model, 6) > 0.85
    assert unseen_accuracy(planted, model, 6) >= unseen_accuracy(planted, model, 1) > 0.6
    assert 0.3 < unseen_accuracy(planted, model, 0) < 0.7


def test_without_pairs_the_latent_is_the_priors_mean(model):
    assert torch.equal(latent_of(model, []), torch.zeros(2))


def test_more_pairs_narrow_the_posterior_whatever_their_order(planted, model):
    phi, pairs, _ = planted
    differences = torch.stack([phi[a] - phi[b] for a, b in pairs[:8]])[None]
    with torch.no_grad():
        variances = [model.posterior(differences[:, :k], torch.ones(1, k))[1].max() for k in (0, 2, 8)]
        forwards = model.posterior(differences, torch.ones(1, 8))[0]
        backwards = model.posterior(differences.flip(1), torch.ones(1, 8))[0]
        hidden = model.posterior(differences, torch.tensor([[1.0, 1, 0, 0, 0, 0, 0, 0]]))[0]
        two = model.posterior(differences[:, :2], torch.ones(1, 2))[0]
    assert variances[0] == 1
    assert variances[0] > variances[1] > variances[2]
    assert torch.allclose(forwards, backwards, atol=1e-5)
    assert torch.allclose(hidden, two, atol=1e-5)


def test_trained_without_pairs_it_stays_at_chance(planted):
    blind = trained(planted, shown=False)
    assert 0.35 < unseen_accuracy(planted, blind, 0) < 0.65


def test_training_repeats_to_the_bit_and_leaves_the_global_state_alone(planted):
    state = torch.random.get_rng_state()
    first, second, other = (trained(planted, steps=5, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["score.weight"], other["score.weight"])


def test_the_encoder_never_gets_a_pair_on_the_rows_own_question():
    rows_of = {"a": [0, 1, 2, 3], "b": [4]}
    questions = ["q1", "q1", "q2", "q2", "q1"]
    counts = set()
    for epoch in range(40):
        contexts, given = vpl._contexts([0, 4], rows_of, ["a"] * 4 + ["b"], questions, 3, 0, epoch)
        drawn = contexts[0][given[0] == 1].tolist()
        assert set(drawn) <= {2, 3}
        counts.add(len(drawn))
        assert given[1].sum() == 0
    assert counts == {0, 1}  # both of the others are on one question


def arguments(place, output, *more):
    common = ["--config", "demo_vpl", "--dataset", str(place.data), "--model_name_or_path", str(place.base)]
    quick = [
        "--base_model_id",
        "persona-testbed/tiny",
        "--max_steps",
        "20",
        "--learning_rate",
        "1e-2",
        "--eval_max_rows",
        "24",
    ]
    return [*common, *quick, "--output_dir", str(output), *more]


def record_of(folder):
    return json.loads((folder / "training.json").read_text())


def cell(record, config, condition):
    return next(e for e in record["results"] if e["config"] == config and e["cell"] == "all")["conditions"][condition]


@pytest.fixture(scope="module")
def folder(place, tmp_path_factory):
    return vpl.main(arguments(place, tmp_path_factory.mktemp("vpl") / "model"))


@pytest.fixture(scope="module")
def data(place):
    return load_preference_data(str(place.data), ["dpf", "contrast"])


def test_a_run_writes_what_it_learned(folder):
    record = record_of(folder)
    assert record["kind"] == "vpl"
    assert record["reload_difference"] == 0
    assert record["run"]["steps"] == 20
    assert record["run"]["history"][-1]["step"] == 20
    assert load_file(folder / "vpl.safetensors")["mean"].shape == (16,)
    assert cell(record, "contrast", "none")["accuracy"] == 0.5
    # Everybody's own answer is chosen over a text of rules.
    entry = next(e for e in record["results"] if e["config"] == "dpf" and e["cell"] == "all")
    assert entry["conditions"]["none"]["wins"] == entry["rows"]


def test_the_persona_shown_matters_and_so_does_the_number_of_pairs(folder, data, place):
    row = next(row for row in data.splits["seen_test"] if row["persona_group"] == "unseen")
    shown = [row["persona_id"], row["wrong_persona_id"], None]
    candidates = [Candidate(p, row["prompt_id"], row["question"], row["chosen"][0]["content"]) for p in shown]
    scorers = {
        k: load_scorer(folder, data.profiles, labelled_pairs(data), str(place.base), device="cpu", few_shot_pairs=k)
        for k in (0, 1, 3, 9)
    }
    assert len(set(scorers[3].score(candidates))) == 3
    assert len(set(scorers[0].score(candidates))) == 1
    assert scorers[1].score(candidates)[0] != scorers[3].score(candidates)[0]
    assert scorers[9].usable(candidates[2])
    assert not scorers[9].usable(candidates[0])


def test_the_same_run_gives_the_same_bits(folder, place, tmp_path):
    cache = ["--score_cache", str(tmp_path / "cache")]
    again = vpl.main(arguments(place, tmp_path / "again", *cache))
    other = vpl.main(arguments(place, tmp_path / "other", "--seed", "1", *cache))
    assert (again / "vpl.safetensors").read_bytes() == (folder / "vpl.safetensors").read_bytes()
    assert (other / "vpl.safetensors").read_bytes() != (folder / "vpl.safetensors").read_bytes()


@pytest.mark.parametrize("more", [["--persona", "none"], ["--few_shot_pairs", "0"]])
def test_trained_without_pairs_all_personas_are_alike(place, tmp_path, more):
    record = record_of(vpl.main(arguments(place, tmp_path / "model", *more)))
    assert cell(record, "contrast", "true")["accuracy"] == 0.5
    margins = {cell(record, "dpf", condition)["mean_margin"] for condition in ("true", "none", "wrong")}
    assert len(margins) == 1


def test_no_candidates_have_no_scores(folder, data, place):
    def load(**more):
        return load_scorer(folder, data.profiles, labelled_pairs(data), str(place.base), device="cpu", **more)

    assert load().score([]) == []
    with pytest.raises(InputError, match=r"persona_corruption .* a vpl model reads none"):
        load(persona_corruption=0.5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--latent_size", "0"], "latent_size is 0"),
        (["--persona_corruption", "0.5"], "does not read persona_corruption"),
        (["--learning_rate", "0"], "learning_rate is 0"),
        (["--learning_rate", "1e30"], "Lower learning_rate"),
        (["--bf16", "true", "--use_cpu", "true"], "float32"),
    ],
)
def test_bad_settings_are_refused(place, tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        vpl.main(arguments(place, tmp_path / "model", *more))
    assert not (tmp_path / "model").exists()
