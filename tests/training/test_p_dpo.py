"""Soft tokens by persona: what is learned, what unseen personas get, and that the saved model is the trained one."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from builder.errors import InputError
from builder.schema import NEUTRAL_SYSTEM_TEXT, assistant_message, preference_messages
from tests.published_folder import Tables, write_published_folder
from training import own_loop, p_dpo
from training.base_model import load_tokenizer
from training.conditioning import Conditioning
from training.data import load_preference_data
from training.evaluation import Candidate
from training.p_dpo import GENERIC, PersonaPolicy, Text, encoded, place_of
from training.prompts import PersonaPrompts
from training.scoring import load_base_model, score_log_probabilities
from training.trained import load_scorer

UNSEEN = ("p00004", "p00005")


@pytest.fixture(scope="module")
def folder(place, tmp_path_factory) -> Path:
    return p_dpo.main(place.arguments("demo_p_dpo", tmp_path_factory.mktemp("models") / "p_dpo"))


def record_of(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def scorer_of(folder: Path, place):
    profiles = load_preference_data(str(place.data), ["dpf"]).profiles
    return load_scorer(folder, profiles, {}, str(place.base), device="cpu")


def plant_a_rule(tables: Tables) -> None:
    """Personas with an even number prefer one sentence, the others another; the wrong persona is the mirror's."""
    for rows in tables["contrast"].values():
        for row in rows:
            texts = ("Yes, I like that.", "No, not at all.")
            own, other = (int(row[name][1:]) % 2 for name in ("persona_id", "partner_persona_id"))
            row["chosen"], row["rejected"] = assistant_message(texts[own]), assistant_message(texts[other])
            row["wrong_persona_id"] = row["partner_persona_id"]


def shares(record: dict, cell: str) -> dict[str, float]:
    """Accuracy on the contrast pairs of a cell by the persona shown."""
    entry = next(entry for entry in record["results"] if (entry["config"], entry["cell"]) == ("contrast", cell))
    return {
        condition: (outcome["wins"] + 0.5 * outcome["ties"]) / entry["rows"]
        for condition, outcome in entry["conditions"].items()
    }


def test_the_folder_holds_safetensors_and_says_who_was_not_trained(folder):
    names = {path.name for path in folder.rglob("*")}
    assert {"soft_tokens.safetensors", "adapter_model.safetensors", "personas.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert json.loads((folder / "personas.json").read_text()) == ["p00000", "p00001", "p00002", "p00003"]
    scores = pq.read_table(folder / "scores.parquet").to_pylist()
    expected = {
        "rows": len(scores),
        "rows_generic": sum(row["persona_id"] in UNSEEN for row in scores),
        "personas": 6,
        "personas_generic": 2,
    }
    assert 0 < expected["rows_generic"] < expected["rows"]
    assert record_of(folder)["run"]["coverage"]["true"] == expected


def test_the_model_read_back_scores_as_recorded(folder, place):
    data = load_preference_data(str(place.data), ["dpf", "contrast"])
    rows = {row["pair_id"]: row for split in ("seen_test", "heldout_test") for row in data.splits[split]}
    candidates, margins = [], []
    for saved in pq.read_table(folder / "scores.parquet").to_pylist():
        row = rows[saved["pair_id"]]
        for condition, persona in (("true", row["persona_id"]), ("none", None), ("wrong", row["wrong_persona_id"])):
            texts = [row[side][0]["content"] for side in ("chosen", "rejected")]
            candidates += [Candidate(persona, row["prompt_id"], row["question"], text) for text in texts]
            margins.append(saved[f"margin_{condition}"])
    # Backwards and so in other batches.
    scores = scorer_of(folder, place).score(candidates[::-1])[::-1]
    assert [a - b for a, b in zip(scores[::2], scores[1::2], strict=True)] == pytest.approx(margins, abs=1e-5)
    assert max(map(abs, margins)) > 1e-3


def test_unseen_personas_score_exactly_as_none_and_it_is_said(folder, place, capsys):
    candidates = [Candidate(p, "q00000", "What about pets?", "I like pets.") for p in (*UNSEEN, None, "p00000")]
    unseen, other, none, seen = scorer_of(folder, place).score(candidates)
    assert unseen == other == none
    assert seen != none
    assert "2 of 3 personas were not trained" in capsys.readouterr().out
    scores = pq.read_table(folder / "scores.parquet").to_pylist()
    assert all((r["margin_true"] == r["margin_none"]) == (r["persona_id"] in UNSEEN) for r in scores)


def test_without_a_persona_complete_mirrored_sets_are_won_by_half(folder):
    assert shares(record_of(folder), "all")["none"] == 0.5


def test_the_seed_alone_decides_the_weights(folder, place, tmp_path):
    state = torch.get_rng_state()
    again = p_dpo.main(place.arguments("demo_p_dpo", tmp_path / "again"))
    torch.rand(7)
    other = p_dpo.main(place.arguments("demo_p_dpo", tmp_path / "other", "--seed", "1"))
    torch.set_rng_state(state)
    for name in ("soft_tokens.safetensors", "adapter_model.safetensors"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()
        assert (folder / name).read_bytes() != (other / name).read_bytes()


def test_every_epoch_has_each_row_once_in_an_order_of_its_own():
    first, second = (list(p_dpo.batches(list("abcdefgh"), 3, 6, seed)) for seed in (0, 1))
    assert [len(batch) for batch in first] == [3, 3, 2] * 2
    epochs = [[row for batch in part for row in batch] for part in (first[:3], first[3:], second[:3])]
    assert all(sorted(epoch) == list("abcdefgh") for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_rule_that_the_persona_decides_is_learned_for_seen_personas(place, tmp_path):
    data = write_published_folder(tmp_path / "data", change=plant_a_rule)
    learning = ["--token_learning_rate", "3e-2", "--max_steps", "60", "--per_device_train_batch_size", "8"]
    planted = ["--dataset", str(data), "--dataset_configs", "contrast", "--eval_max_rows", "1000"]
    record = record_of(p_dpo.main([*place.arguments("demo_p_dpo", tmp_path / "model"), *learning, *planted]))
    for cell in ("seen/seen_test", "seen/heldout_test"):
        assert shares(record, cell)["true"] >= 0.95
        assert shares(record, cell)["wrong"] <= 0.05
    assert shares(record, "unseen/heldout_test") == {"true": 0.5, "none": 0.5, "wrong": 0.5}


def test_alpha_zero_trains_the_generic_persona_alone(place, tmp_path):
    folder = p_dpo.main(place.arguments("demo_p_dpo", tmp_path / "m", "--alpha", "0", "--use_peft", "false"))
    tokens = load_file(folder / "soft_tokens.safetensors")
    assert tokens["offsets"].abs().max() == 0
    assert not (folder / "adapter_model.safetensors").exists(), "the base is frozen"
    base = load_base_model(str(place.base), "cpu")
    ids = base.tokenizer(NEUTRAL_SYSTEM_TEXT)["input_ids"][:4]
    assert not torch.equal(tokens["generic"], base.model.get_input_embeddings().weight[ids])
    scores = pq.read_table(folder / "scores.parquet").to_pylist()
    for row in scores:
        assert row["margin_true"] == pytest.approx(row["margin_none"], abs=1e-5)
        assert row["margin_wrong"] == pytest.approx(row["margin_none"], abs=1e-5)


def test_alpha_one_moves_the_offsets(place, tmp_path):
    folder = p_dpo.main(place.arguments("demo_p_dpo", tmp_path / "m", "--alpha", "1", "--max_steps", "10"))
    offsets = load_file(folder / "soft_tokens.safetensors")["offsets"]
    assert (offsets.abs().amax(dim=(1, 2)) > 0).all()
    assert not torch.equal(offsets[0], offsets[1])


def test_soft_tokens_that_are_embeddings_of_words_are_read_as_these_words(place):
    """Beside a text of another length and another persona, and with the answer's log-probability as the other scorer computes it."""
    base = load_base_model(str(place.base), "cpu")
    for weight in base.model.parameters():
        weight.data *= 4  # as it is built, its attention is too weak to show what it reads
    tokenizer = load_tokenizer(place.base, for_reward=False)
    prompts = PersonaPrompts(Conditioning("none"), {}, {})
    start = place_of(tokenizer, prompts)
    question = "What about pets?"
    item = (preference_messages(NEUTRAL_SYSTEM_TEXT, question), "I like pets.")
    text = encoded(tokenizer, item)
    assert tokenizer.decode(text.ids[:start]) == "<|im_start|>system\n"
    words = tokenizer("Plain words.")["input_ids"]
    longer = (preference_messages("Plain words." + NEUTRAL_SYSTEM_TEXT, question), "I like pets.")
    assert encoded(tokenizer, longer).ids == [*text.ids[:start], *words, *text.ids[start:]]
    generic = base.model.get_input_embeddings().weight[words].detach().clone()
    offsets = torch.stack([torch.zeros_like(generic), torch.ones_like(generic)])
    policy = PersonaPolicy(base.model, generic, offsets, start).eval()
    padded = Text([*text.ids, *text.ids], text.start)
    with torch.no_grad():
        scored = policy([text, text, text, padded], [GENERIC, 0, 1, 1]).tolist()
    expected = score_log_probabilities(base, [longer])[0]
    assert scored[:2] == pytest.approx([expected] * 2, abs=1e-4)
    assert abs(scored[2] - expected) > 1e-2


def test_a_shared_cache_changes_nothing(folder, place, tmp_path):
    """The first run fills the cache of the reference's log-probabilities, the second finds all in it."""
    cache = ["--score_cache", str(tmp_path / "cache")]
    for name in ("first", "second"):
        again = p_dpo.main(place.arguments("demo_p_dpo", tmp_path / name, *cache))
        assert (again / p_dpo.TOKENS_FILE).read_bytes() == (folder / p_dpo.TOKENS_FILE).read_bytes()
        assert len(list((tmp_path / "cache").iterdir())) == 1
        assert str(tmp_path) not in (again / "training.json").read_text()


def test_a_loss_that_is_no_number_stops_the_run(place, tmp_path, monkeypatch):
    original = p_dpo.dpo_loss
    monkeypatch.setattr(p_dpo, "dpo_loss", lambda *args: original(*args) * float("nan"))
    with pytest.raises(InputError, match="loss is nan at step 1"):
        p_dpo.main(place.arguments("demo_p_dpo", tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_several_processes_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.setattr(own_loop, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(InputError, match="one process"):
        p_dpo.main(place.arguments("demo_p_dpo", tmp_path / "model"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--persona", "full"], "persona: none"),
        (["--merge_adapter", "true"], "merge_adapter"),
        (["--dtype", "bfloat16"], "float32"),
        (["--lora_dropout", "0.1"], "lora_dropout"),
        (["--alpha", "1.5"], "alpha"),
        (["--persona_tokens", "0"], "persona_tokens"),
        (["--beta", "0"], "beta"),
        (["--max_length", "510"], "Lower max_length"),
        (["--learning_rte", "1"], "learning_rate"),
    ],
)
def test_recipes_that_are_refused(place, tmp_path, arguments, named):
    with pytest.raises(InputError, match=named):
        p_dpo.main(place.arguments("demo_p_dpo", tmp_path / "model", *arguments))
    assert not (tmp_path / "model").exists()


def test_preflight_is_kept_in_the_record(folder):
    record = json.loads((folder / "training.json").read_text())
    assert "computed once" in record["run"]["reference"]
    assert record["run"]["estimated"]["steps"] == record["run"]["steps"]
    assert record["run"]["pad_token"] == "<|endoftext|>"
    assert record["data"]["shortcuts"]["heldout_test, contrast"] == {"length": 0.5, "majority": 0.5}
