"""Evaluating real (tiny) models from folders: what is written, what is kept, what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from builder.errors import InputError
from builder.schema import assistant_message, preference_messages
from eval.models import evaluate_models
from eval.pair_results import gap, label, load_pair_results, measurement, measurements
from eval.pair_results import kind as kind_of
from eval.results import Result
from eval.rows import load_profiles, load_rows
from tests.eval.conftest import Trained
from tests.published_folder import Tables, write_published_folder
from training.evaluation import Scorer
from training.scoring import load_dpo_model, score_implicit_rewards

ALL_NAMES = ["reward", "dpo", "untrained-tiny", "untrained-tiny-per-token", "profile-overlap", "shorter-answer"]


@pytest.fixture(scope="module")
def evaluated(published: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evaluated") / "results"
    return evaluate_models(published, trained.models, output, base_model=str(trained.base), command="persona eval")


def scores_of(folder: Path, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    table = pyarrow.parquet.read_table(folder / f"models-{name}.parquet").to_pylist()
    return {(row["pair_id"], row["condition"]): row for row in table}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_name(folder: Path) -> dict[str, Result]:
    return {label(result): result for result in load_pair_results(folder)}


def test_every_scorer_gets_a_result_with_all_conditions_and_its_controls(evaluated: Path, published: Path) -> None:
    results = load_pair_results(evaluated)
    assert [label(result) for result in results] == ALL_NAMES
    for result in results:
        for config, subset in (("dpf", "all"), ("contrast", "all"), ("contrast", "flipped")):
            assert all(measurement(result, config, subset, "all", c) for c in ("true", "none", "wrong"))
            assert all(gap(result, config, subset, "all", against) for against in ("wrong", "none"))
        blind = measurement(result, "contrast", "all", "all", "none")
        assert blind is not None
        assert blind.accuracy.value == 0.5
        assert result.dataset is not None
        assert result.dataset["rows"] == {
            "contrast/heldout_test": 120,
            "contrast/seen_test": 60,
            "dpf/heldout_test": 60,
            "dpf/seen_test": 30,
        }
        assert len(scores_of(evaluated, label(result))) == 270 * 3


def test_test_splits_and_groups_never_share_a_figure(evaluated: Path) -> None:
    result = by_name(evaluated)["reward"]
    counts = {m.cell: m.accuracy.n for m in measurements(result) if (m.config, m.condition) == ("dpf", "true")}
    assert counts == {
        "all": 90,
        "seen/seen_test": 24,
        "seen/heldout_test": 48,
        "unseen/seen_test": 6,
        "unseen/heldout_test": 12,
    }
    few = measurement(result, "dpf", "all", "unseen/seen_test", "true")
    assert few is not None
    assert (few.accuracy.value, few.accuracy.withheld) == (None, "n < 20")


def test_scores_are_those_of_the_models(evaluated: Path, published: Path, trained: Trained) -> None:
    rows = load_rows(published)
    model = load_dpo_model(trained.models[0], base_model=str(trained.base))
    profile = load_profiles(published)[rows[7].published["wrong_persona_id"]]
    chosen = rows[7].chosen
    assert chosen is not None
    ((policy, reference),) = score_implicit_rewards(model, [(preference_messages(profile, rows[7].question), chosen)])
    key = (rows[7].pair_id, "wrong")
    assert scores_of(evaluated, "dpo")[key]["score_chosen"] == pytest.approx(0.1 * (policy - reference), abs=1e-4)
    assert scores_of(evaluated, "untrained-tiny")[key]["score_chosen"] == pytest.approx(reference, abs=1e-3)


@pytest.fixture(scope="module")
def evaluated_unusual(
    published: Path, trained: Trained, unusual: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("unusual") / "results"
    models = [trained.models[0], *unusual]
    return evaluate_models(published, models, output, base_model=str(trained.base))


@pytest.mark.parametrize("name", ["unusual-dpo", "unusual-reward"])
def test_evaluation_finds_what_the_training_found(evaluated_unusual: Path, unusual: list[Path], name: str) -> None:
    """Labelled pairs as shown in training, a reference without the persona, the persona in the user's message."""
    folder = next(folder for folder in unusual if folder.name == name)
    scores = scores_of(evaluated_unusual, name)
    trained_scores = pyarrow.parquet.read_table(folder / "scores.parquet").to_pylist()
    assert len(trained_scores) * 3 == len(scores) == 270 * 3
    for row in trained_scores:
        for condition in ("true", "none", "wrong"):
            score = scores[row["pair_id"], condition]
            margin = score["score_chosen"] - score["score_rejected"]
            assert margin == pytest.approx(row[f"margin_{condition}"], abs=1e-4)
    result = by_name(evaluated_unusual)[name]
    for entry in json.loads((folder / "training.json").read_text(encoding="utf-8"))["results"]:
        for condition, outcome in entry["conditions"].items():
            measured = measurement(result, entry["config"], "all", entry["cell"], condition)
            assert measured is not None
            assert (measured.accuracy.n, measured.accuracy.value) == (entry["rows"], outcome["accuracy"])


def test_an_untrained_model_is_measured_with_each_of_the_prompts(evaluated_unusual: Path) -> None:
    results = by_name(evaluated_unusual)
    other = "untrained-tiny-few_shot-k2-dpf+contrast"
    assert {"untrained-tiny", "untrained-tiny-per-token", other, f"{other}-per-token"} <= set(results)
    assert "prompts: few_shot k2" in results["unusual-dpo"].description
    assert "reference without the persona" in results["unusual-dpo"].description
    first, second = (scores_of(evaluated_unusual, name) for name in ("untrained-tiny", other))
    differences = {
        name: max(abs(s["score_chosen"] - second[key]["score_chosen"]) for key, s in first.items() if key[1] == name)
        for name in ("true", "none", "wrong")
    }
    assert differences["none"] < 1e-4
    assert min(differences["true"], differences["wrong"]) > 1e-2


def test_a_persona_without_enough_labelled_pairs_is_unscored(
    trained: Trained, unusual: list[Path], tmp_path: Path
) -> None:
    def forget(tables: Tables) -> None:
        for config in ("dpf", "contrast"):
            rows = tables[config]["support"]
            tables[config]["support"] = [row for row in rows if row["persona_id"] != "p00024"]

    folder = write_published_folder(tmp_path / "data", seen=24, unseen=6, change=forget)
    output = evaluate_models(folder, unusual[:1], tmp_path / "results", base_model=str(trained.base))
    rows = {row.pair_id: row for row in load_rows(folder)}
    scores = scores_of(output, "unusual-dpo")
    unscored = {key for key, score in scores.items() if score["reason"] == "too few labelled pairs of the persona"}
    assert unscored == {key for key, score in scores.items() if score["verdict"] == "unscored"}
    assert unscored == {
        (pair, condition)
        for pair, row in rows.items()
        for condition, persona in (("true", row.persona_id), ("wrong", row.published["wrong_persona_id"]))
        if persona == "p00024"
    }


def test_the_untrained_control_costs_no_pass_of_its_own(
    published: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import reference

    computed: list[int] = []
    original = reference.score_log_probabilities

    def counting(model: Any, items: Any, *more: Any, **named: Any) -> list[float]:
        computed.append(len(items))
        return original(model, items, *more, **named)

    monkeypatch.setattr(reference, "score_log_probabilities", counting)
    evaluate_models(published, trained.models[:1], tmp_path / "results", 20, base_model=str(trained.base))
    assert len(computed) == 1
    assert by_name(tmp_path / "results").keys() == set(ALL_NAMES) - {"reward"}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("low_rank", "too few labelled pairs of the persona"),
        ("vpl", "too few labelled pairs of the persona"),
        ("p_dpo", "longer than the model's context"),
        ("per_persona", "no model was trained for the persona"),
    ],
)
def test_models_of_every_kind_are_evaluated(
    published: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    """A method stands in that scores by length, for all but one persona; labelled pairs are read for those that learn from them."""
    from training import trained as loading

    given: list[set[str]] = []

    def load(folder: Path, record: dict[str, Any], prompts: Any, *rest: Any) -> Scorer:
        given.append(set(prompts.labelled))
        return Scorer(
            lambda candidates: [float(len(candidate.answer)) for candidate in candidates],
            lambda candidate: candidate.persona_id != "p00003",
            record,
        )

    monkeypatch.setattr(loading, "_load_own", lambda name: {kind: load}[name])
    folder = tmp_path / "model"
    folder.mkdir()
    record = json.loads((trained.models[1] / "training.json").read_text(encoding="utf-8"))
    (folder / "training.json").write_text(json.dumps(record | {"kind": kind}), encoding="utf-8")
    output = evaluate_models(published, [folder], tmp_path / "results")
    result = by_name(output)["model"]
    assert kind_of(result) == kind
    measured = measurement(result, "dpf", "all", "all", "true")
    assert measured is not None
    assert measured.unscored == {reason: 3}
    assert len(given[0]) == (30 if kind in ("low_rank", "vpl") else 0)


def test_baselines_say_what_they_can_do_without_learning(evaluated: Path) -> None:
    results = by_name(evaluated)
    overlap, shorter = results["profile-overlap"], results["shorter-answer"]
    # The test data's revisions name the persona's trade, which the profile contains and a base answer does not.
    right, blind = (measurement(overlap, "dpf", "all", "all", condition) for condition in ("true", "none"))
    assert right is not None
    assert blind is not None
    assert right.accuracy.value == 1.0
    assert (blind.accuracy.value, blind.ties) == (0.5, 90)
    missed = gap(shorter, "dpf", "all", "all", "wrong")
    assert missed is not None
    assert missed.difference.value == 0.0


def test_a_finished_result_is_kept_and_only_a_missing_one_is_computed(
    evaluated: Path, published: Path, trained: Trained, tmp_path: Path
) -> None:
    before = contents(evaluated)
    times = {path.name: path.stat().st_mtime_ns for path in evaluated.glob("*.*")}
    # As after a kill between the two files of one result: the JSON, written last, is not there.
    (evaluated / "models-untrained-tiny.json").unlink()
    (evaluated / "models-untrained-tiny.parquet").write_bytes(b"half a file")
    evaluate_models(published, trained.models, evaluated, base_model=str(trained.base), command="persona eval")
    assert contents(evaluated) == before
    written = {path.name for path in evaluated.glob("*.*") if path.stat().st_mtime_ns != times[path.name]}
    assert written == {"models-untrained-tiny.json", "models-untrained-tiny.parquet"}


def test_results_of_something_else_are_refused_before_any_scoring(evaluated: Path, published: Path) -> None:
    before = contents(evaluated)
    with pytest.raises(InputError, match=r"differing: limit"):
        evaluate_models(published, [], evaluated, limit=4)
    with pytest.raises(InputError, match=r"differing: seed"):
        evaluate_models(published, [], evaluated, seed=3)
    assert contents(evaluated) == before


def test_a_damaged_score_file_is_noticed(published: Path, tmp_path: Path) -> None:
    evaluate_models(published, [], tmp_path)
    (tmp_path / "models-shorter-answer.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"Delete models-shorter-answer\.json and evaluate again"):
        evaluate_models(published, [], tmp_path)


@pytest.mark.parametrize("limit", [2, 7, 40])
def test_a_limit_keeps_mirrors_together(published: Path, limit: int) -> None:
    rows = load_rows(published, limit)
    identifiers = {row.pair_id for row in rows}
    for config in ("dpf", "contrast"):
        for split in ("seen_test", "heldout_test"):
            taken = sum((row.config, row.split) == (config, split) for row in rows)
            assert limit - 1 <= taken <= limit or taken == {"seen_test": 30, "heldout_test": 60}[split]
    assert all(row.mirror_pair_id in identifiers for row in rows if row.config == "contrast")
    assert rows == load_rows(published, limit)


def test_a_text_longer_than_the_context_is_unscored_with_its_reason(trained: Trained, tmp_path: Path) -> None:
    def lengthen(tables: Tables) -> None:
        tables["dpf"]["seen_test"][0]["chosen"] = assistant_message("very long " * 400)

    folder = write_published_folder(tmp_path / "data", seen=24, unseen=6, change=lengthen)
    output = evaluate_models(folder, trained.models, tmp_path / "results", limit=30, base_model=str(trained.base))
    for name in ("dpo", "reward", "untrained-tiny"):
        measured = measurement(by_name(output)[name], "dpf", "all", "all", "true")
        assert measured is not None
        assert measured.unscored == {"longer than the model's context": 1}
        assert measured.accuracy.n == 59


def test_results_name_no_folder_of_this_machine(evaluated: Path, published: Path, trained: Trained) -> None:
    for path in evaluated.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        for folder in (published, *trained.models):
            assert str(folder.parent) not in text


def test_model_folders_that_cannot_be_used_are_refused_by_name(
    published: Path, trained: Trained, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty holds no training\.json"):
        evaluate_models(published, [empty], tmp_path / "results")
    with pytest.raises(InputError, match="Two results would be called dpo"):
        evaluate_models(published, [trained.models[0], trained.models[0]], tmp_path / "results")
    record = json.loads((trained.models[0] / "training.json").read_text(encoding="utf-8"))
    (empty / "training.json").write_text(json.dumps(record | {"template_hash": "0" * 64}), encoding="utf-8")
    with pytest.raises(InputError, match="another prompt template"):
        evaluate_models(published, [empty], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_dataset_built_again_under_the_same_name_is_read_anew(tmp_path: Path) -> None:
    """The cache of the datasets library tells such folders apart by neither path nor content."""
    first = load_rows(write_published_folder(tmp_path / "a" / "data", seen=4))
    second = load_rows(write_published_folder(tmp_path / "b" / "data", seen=8))
    assert len(first) < len(second)
    folder = tmp_path / "a" / "data"
    write_published_folder(folder, seen=6)
    assert len(first) < len(load_rows(folder)) < len(second)


def test_folders_that_hold_nothing_to_evaluate_are_refused(tmp_path: Path) -> None:
    def clear_tests(tables: Tables) -> None:
        tables.pop("contrast")
        for split in ("seen_test", "heldout_test"):
            tables["dpf"].pop(split)

    with pytest.raises(InputError, match="is not a folder"):
        evaluate_models(tmp_path / "nowhere", [], tmp_path / "results")
    folder = write_published_folder(tmp_path / "data", change=clear_tests)
    with pytest.raises(InputError, match="holds no row in seen_test or heldout_test"):
        evaluate_models(folder, [], tmp_path / "results")
