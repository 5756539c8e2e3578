"""Sweeps with the tiny model: what is run, kept, refused, and what the table says."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from trl import DPOConfig, RewardConfig

from builder.errors import InputError
from tests.published_folder import write_published_folder
from tests.tiny_model import build_tiny_model
from tests.waiting import wait_until
from training import dpo, launch, low_rank, reward, score
from training.arguments import parse_arguments
from training.low_rank import LowRankConfig
from training.p_dpo import PersonalDPOConfig
from training.per_persona import PerPersonaConfig
from training.profiles import as_lines
from training.results import margins_file
from training.sweep import run_sweep
from training.sweep_recipe import (
    GROUPS_FILE,
    Cell,
    all_cells,
    cell_recipe,
    load_sweep,
    model_folder,
    recipe_file,
    result_file,
)
from training.sweep_table import sweep_table, write_table
from training.vpl import VplConfig

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
MAINS = {
    "training.dpo": dpo.main,
    "training.reward": reward.main,
    "training.low_rank": low_rank.main,
    "training.score": score.main,
}
PACKAGED = ("baselines_cpu", "baselines")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A base model and a dataset large enough that shares are not withheld."""
    root = tmp_path_factory.mktemp("sweep")
    return build_tiny_model(root / "tiny"), write_published_folder(root / "data", seen=6, unseen=6)


def sweep_file(place: Path, base: Path, **changes) -> Path:
    """A small sweep over the kinds of methods; `changes` replace its keys."""
    quick = {"max_steps": 2, "learning_rate": 1e-2}
    sweep = {
        "name": "tiny",
        "seeds": [0, 1],
        "arguments": {
            "model_name_or_path": str(base),
            "base_model_id": "persona-testbed/tiny",
            "use_cpu": True,
            "dataset_configs": ["dpf", "contrast"],
            "max_train_rows": 24,
            "max_length": 320,
            "eval_max_rows": None,
            "rows_seed": 0,
        },
        "methods": [
            {"id": "B0", "name": "length rule", "method": "rule", "arguments": {"rule": "length"}},
            {"id": "B1", "name": "public", "method": "public_reward", "not_run": "no model is packaged"},
            {"id": "B2", "name": "blind", "method": "prompted", "arguments": {"prompted": "sum", "persona": "none"}},
            {"id": "B3", "name": "profile", "method": "prompted", "blind": "B2", "arguments": {"prompted": "sum"}},
            {"id": "B6", "name": "reward", "method": "reward", "arguments": quick},
            {
                "id": "B7",
                "name": "DPO blind",
                "method": "dpo",
                "arguments": {**quick, "persona": "none", "dataset_configs": ["dpf"]},
            },
        ],
    } | changes
    path = place / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def here():
    """Scripts run in this process: what takes long is starting Python. (That they can be started is shown elsewhere.)"""

    def run(command, log=None, lock=None):
        module = next(part for part in command if part in MAINS)
        with contextlib.ExitStack() as opened:
            if log:
                opened.enter_context(contextlib.redirect_stdout(opened.enter_context(log.open("w"))))
            MAINS[module](list(command[command.index(module) + 1 :]))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(launch, "run_script", run)
        yield run


@pytest.fixture(scope="module")
def finished(wide, here, tmp_path_factory):
    """(folder, sweep file, what was said, failures) of a whole sweep, with axes and a low-rank head."""
    base, data = wide
    place = tmp_path_factory.mktemp("finished")
    path = sweep_file(place, base)
    sweep = yaml.safe_load(path.read_text())
    sweep["methods"][3]["axes"] = {"persona_corruption": [0.0]}
    sweep["methods"].append(
        {
            "id": "few",
            "name": "few-shot",
            "method": "prompted",
            "arguments": {"prompted": "per_token", "persona": "few_shot", "few_shot_pairs": 2},
            "axes": {"few_shot_pairs": [0, 1]},
        }
    )
    sweep["methods"].append({"id": "B11", "name": "low rank", "method": "low_rank", "axes": {"few_shot_pairs": [0, 1]}})
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    said, failed = run_sweep(str(path), str(data), place / "out")
    return place / "out", path, said, failed


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("results", "table.md", "table.json", "table.csv")
        for path in sorted([folder / name] if (folder / name).is_file() else (folder / name).rglob("*"))
        if path.is_file()
    }


def test_every_method_and_seed_has_one_result_and_the_margins_beside_it(finished):
    folder, path, said, failed = finished
    assert failed == 0, said
    cells = all_cells(load_sweep(str(path)))
    files = {result_file(folder, cell) for cell in cells}
    assert set((folder / "results").rglob("*.json")) == files
    assert set((folder / "results").rglob("*.parquet")) == {margins_file(file) for file in files}
    results = {str(cell): json.loads(result_file(folder, cell).read_text()) for cell in cells}
    assert {r["seed"] for name, r in results.items() if name.startswith("B6")} == {0, 1}
    for result in results.values():
        assert result["data"]["fingerprint"]
        assert result["versions"]["torch"]
        assert str(folder.parent) not in json.dumps(result)


def test_all_methods_and_seeds_are_asked_about_the_same_rows(finished):
    folder, path, *_ = finished
    asked = {
        str(cell): tuple(pq.read_table(margins_file(result_file(folder, cell)))["pair_id"].to_pylist())
        for cell in all_cells(load_sweep(str(path)))
        # With labelled pairs a persona needs as many of them.
        if cell.axis is None
    }
    assert len(set(asked.values())) == 1
    assert len(asked["B0, seed 0"]) >= 40


def test_the_table_is_the_mean_over_seeds_of_what_the_margins_say(finished):
    """Recomputed by hand, share by share."""
    folder, *_ = finished
    table = json.loads((folder / "table.json").read_text())
    method = next(m for m in table["methods"] if m["id"] == "B6")
    rows = [pq.read_table(folder / "results" / "B6" / f"seed-{s}.parquet").to_pylist() for s in (0, 1)]
    checked = 0
    for entry in method["results"]:
        own = [
            [
                r
                for r in seed
                if r["pair_kind"] == entry["config"] and entry["cell"] in ("all", f"{r['persona_group']}/{r['split']}")
            ]
            for seed in rows
        ]
        assert entry["rows"] == len(own[0])
        by_seed = {
            name: [
                np.mean([1.0 if r[f"margin_{name}"] > 0 else 0.5 if r[f"margin_{name}"] == 0 else 0.0 for r in s])
                for s in own
            ]
            for name in ("true", "none", "wrong")
        }
        for name, shares in by_seed.items():
            found = entry["conditions"][name]
            if entry["rows"] < 20:
                assert (found["value"], found["by_seed"]) == (None, [])
                continue
            assert found["by_seed"] == pytest.approx(shares)
            assert found["value"] == pytest.approx(np.mean(shares))
            checked += 1
        if entry["rows"] >= 20:
            gap = entry["gaps"]["wrong"]
            assert gap["value"] == pytest.approx(np.mean(by_seed["true"]) - np.mean(by_seed["wrong"]))
            if gap["low"] is not None:
                assert gap["low"] <= gap["value"] <= gap["high"]
    assert checked >= 6


def test_the_interval_of_one_seed_is_that_of_the_evaluation(finished):
    folder, *_ = finished
    result = json.loads((folder / "results" / "B3" / "seed-0.json").read_text())
    method = next(m for m in json.loads((folder / "table.json").read_text())["methods"] if m["id"] == "B3")
    for one, other in zip(method["results"], result["results"], strict=True):
        for name in ("true", "none", "wrong"):
            assert [one["conditions"][name][k] for k in ("low", "high")] == [
                other["conditions"][name][k] for k in ("low", "high")
            ]


def test_blind_methods_are_marked_and_stand_beside_the_others(finished):
    folder, _, said, _ = finished
    table = json.loads((folder / "table.json").read_text())
    methods = {method["id"]: method for method in table["methods"]}
    assert {name: m["own_condition"] for name, m in methods.items()} == {
        **dict.fromkeys(("B0", "B2", "B7"), "none"),
        **dict.fromkeys(("B3", "B6", "few", "B11"), "true"),
        "B1": None,
    }
    contrast = {
        m: next(e for e in methods[m]["results"] if (e["config"], e["cell"]) == ("contrast", "all"))
        for m in ("B2", "B3", "B7")
    }
    # Without a persona the mirrors are one question with one answer: exactly one half, under every condition that shows none.
    assert {contrast["B2"]["conditions"][name]["value"] for name in ("true", "none", "wrong")} == {0.5}
    assert contrast["B7"]["conditions"]["none"]["value"] == 0.5
    assert contrast["B3"]["blind_spread"] == contrast["B2"]["spread"]
    assert any(line.startswith("B1") and "not run: no model is packaged" in line for line in said.splitlines())
    assert max(len(line) for line in said.splitlines() if line.startswith(("B", "few", " "))) <= 120
    assert "0.50*" in (folder / "table.md").read_text()


def test_points_of_an_axis_are_results_of_the_same_model(finished):
    folder, *_ = finished
    methods = {m["id"]: m for m in json.loads((folder / "table.json").read_text())["methods"]}
    corrupted = {
        (e["config"], e["cell"]): e["conditions"]
        for e in methods["B3"]["axes"]["persona_corruption"]
        if e["value"] == 0 and e["cell"] not in ("seen", "unseen")
    }
    assert corrupted == {(e["config"], e["cell"]): e["conditions"] for e in methods["B3"]["results"]}
    points = {
        e["value"]: e
        for e in methods["few"]["axes"]["few_shot_pairs"]
        if (e["config"], e["cell"]) == ("contrast", "all")
    }
    assert list(points) == [None, 0, 1]
    # Without a labelled pair nothing is known of the person, so that the few-shot prompt is blind.
    assert points[0]["gaps"]["wrong"]["value"] == 0
    assert points[0]["conditions"]["true"]["value"] == 0.5
    assert "## Labelled pairs shown in testing" in (folder / "table.md").read_text()
    lines = list(csv.DictReader((folder / "table.csv").open()))
    assert {(line["axis"], line["axis_value"]) for line in lines if line["id"] == "few"} == {
        ("", ""),
        ("few_shot_pairs", "as trained"),
        ("few_shot_pairs", "0.0"),
        ("few_shot_pairs", "1.0"),
    }


def test_a_finished_sweep_runs_nothing_again(finished, wide, monkeypatch):
    folder, path, *_ = finished
    before = contents(folder)
    monkeypatch.setattr(launch, "run_script", lambda *a, **k: pytest.fail("started"))
    said, failed = run_sweep(str(path), str(wide[1]), folder)
    assert failed == 0
    assert "0 of" in said
    assert contents(folder) == before


def test_changed_settings_and_other_data_are_refused_before_anything_runs(finished, wide, tmp_path, monkeypatch):
    folder, path, *_ = finished
    before = contents(folder)
    monkeypatch.setattr(launch, "run_script", lambda *a, **k: pytest.fail("started"))
    sweep = yaml.safe_load(path.read_text())
    sweep["methods"][4]["arguments"]["learning_rate"] = 0.5
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(sweep, sort_keys=False))
    with pytest.raises(InputError, match=r"other settings .*learning_rate"):
        run_sweep(str(changed), str(wide[1]), folder)
    with pytest.raises(InputError, match="another sweep's results"):
        run_sweep(str(path), str(write_published_folder(tmp_path / "other")), folder)
    assert contents(folder) == before


def test_one_failed_method_does_not_lose_the_others(wide, here, tmp_path):
    base, data = wide
    methods = [
        {"id": "bad", "name": "too short", "method": "rule", "arguments": {"rule": "length", "max_length": 20}},
        {"id": "worse", "name": "no such key", "method": "reward", "arguments": {"max_stpes": 2}},
        {"id": "good", "name": "majority", "method": "rule", "arguments": {"rule": "majority"}},
    ]
    said, failed = run_sweep(str(sweep_file(tmp_path, base, methods=methods, seeds=[0])), str(data), tmp_path / "out")
    assert failed == 2
    assert "2 failed" in said
    assert "closest valid key is max_steps" in said
    assert (tmp_path / "out" / "results" / "good" / "seed-0.json").is_file()
    table = (tmp_path / "out" / "table.md").read_text()
    assert "not run: no result yet" in table
    assert "| good | majority | all |" in table


def test_seeds_and_methods_can_be_chosen_and_added_to(wide, here, tmp_path):
    base, data = wide
    path = sweep_file(tmp_path, base)
    run_sweep(str(path), str(data), tmp_path / "out", seeds=1, only=["B6"])
    assert [p.name for p in sorted((tmp_path / "out" / "results").rglob("*.json"))] == ["seed-0.json"]
    table = sweep_table(tmp_path / "out", load_sweep(str(path)))
    assert next(m for m in table["methods"] if m["id"] == "B6")["missing_seeds"] == [1]
    said, _ = run_sweep(str(path), str(data), tmp_path / "out", only=["B0", "B6"], jobs=1)
    assert "2 of 3 results made now, 1 kept from before" in said
    for options, named in (
        ({"only": ["B66"]}, "closest is B6"),
        ({"seeds": 3}, "--seeds is 3"),
        ({"jobs": 0}, "--jobs"),
    ):
        with pytest.raises(InputError, match=named):
            run_sweep(str(path), str(data), tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sedes": [0]}, "closest valid key is seeds"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"methods": []}, "methods is no list"),
        ({"methods": [{"id": "a", "name": "a", "method": "dop"}]}, "closest is dpo"),
        ({"methods": [{"id": "a", "name": "a", "methd": "dpo"}]}, "closest valid key is methods\\[0\\].method"),
        ({"methods": [{"id": "a", "name": "a"}]}, "methods\\[0\\].method"),
        ({"methods": [{"id": "a/b", "name": "a", "method": "dpo"}]}, "no file name"),
        ({"methods": [{"id": "a", "name": "a", "method": "dpo"}] * 2}, "given twice"),
        ({"methods": [{"id": "a", "name": "a", "method": "dpo", "recipe": "no_such"}]}, "no_such does not exist"),
        ({"methods": [{"id": "a", "name": "a", "method": "dpo", "blind": "b"}]}, "blind is 'b'"),
        ({"methods": [{"id": "a", "name": "a", "method": "rule"}]}, "arguments lack rule"),
        ({"methods": [{"id": "a", "name": "a", "method": "rule", "recipe": "demo_dpo"}]}, "has no recipe"),
        (
            {"methods": [{"id": "a", "name": "a", "method": "dpo", "axes": {"k": [1]}}]},
            "Unknown key methods\\[0\\].axes.k",
        ),
        ({"arguments": {"seed": 3}}, "arguments.seed is set by the sweep"),
        ({"arguments": {"rows_seed": 0}}, "arguments lack dataset_configs, eval_max_rows, so"),
        (
            {"methods": [{"id": "a", "name": "a", "method": "rule", "arguments": {"rule": "length", "rows_seed": 1}}]},
            "a: arguments give rows_seed",
        ),
        (
            {"methods": [{"id": "a", "name": "a", "method": "low_rank", "axes": {"persona_corruption": [0.5]}}]},
            "a: persona_corruption is \\(0.5,\\), but low_rank never reads a profile",
        ),
        (
            {"methods": [{"id": "a", "name": "a", "method": "vpl", "arguments": {"persona_corruption": 0.5}}]},
            "a: persona_corruption is 0.5, but vpl never reads a profile",
        ),
        ({"methods": [{"id": "a", "name": "a", "method": "dpo", "seeds": 5}]}, "seeds is 5"),
    ],
)
def test_sweeps_that_are_refused(tmp_path, change, named):
    with pytest.raises(InputError, match=named):
        load_sweep(str(sweep_file(tmp_path, tmp_path, **change)))


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_sweeps_can_be_read_and_give_keys_that_the_scripts_know(name, tmp_path):
    """Every cell's recipe is parsed by its own script's parser."""
    configs = {
        **{
            "dpo": DPOConfig,
            "reward": RewardConfig,
            "low_rank": LowRankConfig,
            "vpl": VplConfig,
            "p_dpo": PersonalDPOConfig,
        },
        "per_persona": PerPersonaConfig,
    }
    sweep = load_sweep(name)
    for cell in all_cells(sweep):
        trains = cell.trained and cell.axis is None
        recipe = cell_recipe(sweep, cell) | ({"bf16": False} if trains else {})  # there is no GPU here
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        output = ["--output_dir", "o"] if trains else ["--out", "o.json"]
        config = configs[cell.method.method] if trains else score.ScoreConfig
        parse_arguments(["--config", str(path), "--dataset", "d", *output], config)


@pytest.mark.slow
def test_a_sweep_killed_at_any_moment_goes_on_and_ends_with_the_same_files(wide, here, tmp_path):
    """Killed for real, with the training that it had started; then finished, and compared with a sweep that was never stopped."""
    base, data = wide
    path = sweep_file(tmp_path, base)
    sweep = yaml.safe_load(path.read_text())
    sweep["methods"] = [m for m in sweep["methods"] if m["id"] in ("B0", "B6")]
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    run_sweep(str(path), str(data), tmp_path / "whole")

    killed = tmp_path / "killed"
    run_sweep(str(path), str(data), killed, seeds=1)
    command = [sys.executable, str(ROOT / "persona.py"), "train", "sweep", str(path), str(data), "--out", str(killed)]
    process = subprocess.Popen(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, start_new_session=True, stdout=subprocess.DEVNULL
    )
    partial = killed / "models" / "B6" / ".seed-1.partial"
    wait_until(lambda: partial.exists() or process.poll() is not None, 600, "the training that is to be killed")
    assert partial.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not result_file(killed, Cell(load_sweep(str(path)).methods[1], 1)).exists()

    said, failed = run_sweep(str(path), str(data), killed)
    assert failed == 0, said
    assert "1 of 3 results made now, 2 kept" in said
    assert contents(killed) == contents(tmp_path / "whole")


def test_a_point_of_an_axis_waits_for_its_model(wide, tmp_path, monkeypatch):
    base, data = wide
    methods = [{"id": "B6", "name": "r", "method": "reward", "axes": {"persona_corruption": [0.5]}}]
    path = sweep_file(tmp_path, base, methods=methods, seeds=[0])

    def broken(*arguments, **_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(launch, "run_script", broken)
    said, failed = run_sweep(str(path), str(data), tmp_path / "out")
    assert failed == 2
    assert "out of memory" in said
    assert "its model is not trained" in said
    assert (
        yaml.safe_load(recipe_file(tmp_path / "out", Cell(load_sweep(str(path)).methods[0], 0)).read_text())["seed"]
        == 0
    )


def scored_rows(groups=("seen", "unseen"), personas=4, kind="dpf"):
    """24 test rows of each group, six a persona."""
    return [
        {
            "pair_id": f"{group}{persona}/{place}",
            "mirror_pair_id": None,
            "persona_id": f"{group}{persona}",
            "pair_kind": kind,
            "split": "seen_test",
            "persona_group": group,
        }
        for group in groups
        for persona in range(personas)
        for place in range(6)
    ]


def write_result(folder, cell, rows, wins, method="prompted", own="true", drawn=None):
    """A result as training.score writes it. wins: row -> margins under true, none and wrong."""
    file = result_file(folder, cell)
    file.parent.mkdir(parents=True, exist_ok=True)
    margins = {f"margin_{n}": [float(wins(row)[i]) for row in rows] for i, n in enumerate(("true", "none", "wrong"))}
    columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in scored_rows()[0]}
    pq.write_table(pa.table(columns | margins), margins_file(file))
    facts = {"own_condition": own, "method": method, "conditioning": {"few_shot_pairs": 4}, "data": {"rows_seed": 0}}
    file.write_text(json.dumps(facts | {"left_out": (drawn or len(rows)) - len(rows)}))


def made_sweep(tmp_path, *methods):
    return load_sweep(str(sweep_file(tmp_path, tmp_path, seeds=[0], methods=list(methods))))


FEW = {"id": "few", "name": "f", "method": "low_rank", "axes": {"few_shot_pairs": [0, 1, 2, 8]}}
BLIND = {"id": "B2", "name": "blind", "method": "prompted", "arguments": {"prompted": "sum", "persona": "none"}}
FULL = {"id": "B3", "name": "full", "method": "prompted", "blind": "B2", "arguments": {"prompted": "sum"}}


def test_every_point_of_an_axis_is_of_the_same_rows(tmp_path):
    """At k = 2 two pairs of unseen personas are gone, easy ones; at k = 8 all of them; nobody has run k = 1."""
    sweep = made_sweep(tmp_path, FEW)
    rows = scored_rows()
    easy = [row["pair_id"] for row in rows if row["persona_group"] == "unseen"][:2]
    few = [row for row in rows if row["pair_id"] not in easy]
    for k, left in {None: rows, 0: rows, 2: few, 8: [r for r in rows if r["persona_group"] == "seen"]}.items():
        cell = Cell(sweep.methods[0], 0, None if k is None else ("few_shot_pairs", k))
        write_result(tmp_path, cell, left, lambda row: (1 if row["pair_id"] in easy else -1, 0, 0), "low_rank")
    write_table(tmp_path, sweep)
    method = json.loads((tmp_path / "table.json").read_text())["methods"][0]
    found = {
        (e["value"], e["cell"]): (e["rows"], e["asked"], e["conditions"]["true"]["value"])
        for e in method["axes"]["few_shot_pairs"]
        if e["cell"] in ("seen", "unseen")
    }
    assert found == {
        **{(k, "unseen"): (22, 24, 0.0) for k in (None, 0, 2)},
        **{(k, "seen"): (24, 24, 0.0) for k in (None, 0, 2)},
    }
    assert method["no_points"]["few_shot_pairs"] == [
        {"value": 1, "config": None, "reason": "no result yet"},
        {"value": 8, "config": "dpf", "reason": "0 of 24 pairs of unseen personas could be scored"},
    ]
    said = (tmp_path / "table.md").read_text()
    assert "| few | f | dpf | unseen | as trained (4) | 22 of 24 |" in said
    assert "| few | f | dpf | | 8 | not available: 0 of 24 pairs of unseen personas could be scored |" in said
    assert "* few, f: an unseen persona has the generic weights" in said


def test_methods_that_scored_other_rows_are_marked(tmp_path):
    sweep = made_sweep(tmp_path, BLIND, FULL)
    rows = scored_rows()
    write_result(
        tmp_path, Cell(sweep.methods[0], 0), rows, lambda row: (1, 1 if row in rows[:44] else -1, 1), own="none"
    )
    write_result(tmp_path, Cell(sweep.methods[1], 0), rows[:44], lambda row: (1, 1, 0), drawn=48)
    said = write_table(tmp_path, sweep)
    assert "44†" in said
    assert "48†" not in said
    assert "test pairs left out: B3 4." in said
    table = (tmp_path / "table.md").read_text()
    assert "| B3 | full | all | 44† |" in table
    assert "| B3 | full | seen/seen_test | 24 |" in table
    assert "| B3 | full | unseen/seen_test | 20† |" in table
    assert "labelled pairs): B3 4. †" in table
    # The blind figure beside a spread is of the same rows.
    entry = json.loads((tmp_path / "table.json").read_text())["methods"][1]["results"][0]
    assert entry["blind_spread"]["worst_persona"] == 1.0


def test_alike_rows_are_not_marked(tmp_path):
    sweep = made_sweep(tmp_path, BLIND, FULL)
    for method in sweep.methods:
        write_result(tmp_path, Cell(method, 0), scored_rows(), lambda row: (1, 1, 1), drawn=50)
    assert "†" not in write_table(tmp_path, sweep)
    assert "†" not in (tmp_path / "table.md").read_text()
    assert "labelled pairs): B2 2, B3 2." in (tmp_path / "table.md").read_text()


def test_a_method_without_a_single_row_says_so(tmp_path):
    sweep = made_sweep(tmp_path, BLIND, FULL)
    write_result(tmp_path, Cell(sweep.methods[0], 0), scored_rows(), lambda row: (1, 1, 1), own="none")
    write_result(tmp_path, Cell(sweep.methods[1], 0), [], lambda row: (1, 1, 1), drawn=48)
    assert "not run: none of its 48 test pairs could be scored" in write_table(tmp_path, sweep)


def test_the_worst_group_stands_beside_the_blind_figure_of_the_same_group(tmp_path):
    """The left half of the personas is served worst by the method; the blind one serves the right half worst."""
    sweep = made_sweep(tmp_path, BLIND, FULL)
    rows = scored_rows()
    left = [row["pair_id"] for row in rows if row["persona_id"][-1] in "01"]
    first = [row["pair_id"] for row in rows if row["pair_id"].endswith("/0")]

    def full(row):
        return (-1 if row["pair_id"] in left else 1, 0, 0)

    def blind(row):
        return (0, 1 if row["pair_id"] in [*left, *first] else -1, 0)

    write_result(tmp_path, Cell(sweep.methods[0], 0), rows, blind, own="none")
    write_result(tmp_path, Cell(sweep.methods[1], 0), rows, full)
    personas = {row["persona_id"] for row in rows}
    groups = {p: {"ideology": "Left" if p[-1] in "01" else "Right"} for p in personas}
    groups["seen0"]["religion"] = "Rare"  # six rows: too few to be the worst
    (tmp_path / GROUPS_FILE).write_text(json.dumps(groups))
    write_table(tmp_path, sweep)
    entry = json.loads((tmp_path / "table.json").read_text())["methods"][1]["results"][0]
    worst = {"attribute": "ideology", "value": "Left", "rows": 24}
    assert entry["spread"]["worst_group"] == worst | {"accuracy": 0.0}
    assert entry["blind_spread"]["worst_group"] == worst | {"accuracy": 1.0}
    table = (tmp_path / "table.md").read_text()
    assert "| ideology: Left | 24 | 0.00 | 1.00 |" in table
    assert f"| ideology: Right | 24 | {4 / 24:.2f} | - |" in table


def test_personas_known_by_id_are_noted_with_their_coverage(tmp_path):
    sweep = made_sweep(tmp_path, {"id": "B10", "name": "P-DPO", "method": "p_dpo"}, BLIND)
    for method in sweep.methods:
        write_result(tmp_path, Cell(method, 0), scored_rows(), lambda row: (1, 1, 1))
    record = model_folder(tmp_path, Cell(sweep.methods[0], 0)) / "training.json"
    record.parent.mkdir(parents=True)
    counted = {"rows": 48, "rows_generic": 24, "personas": 8, "personas_generic": 4}
    record.write_text(json.dumps({"run": {"coverage": {"true": counted}}}))
    write_table(tmp_path, sweep)
    said = [line for line in (tmp_path / "table.md").read_text().splitlines() if "by their id" in line]
    assert len(said) == 1
    assert said[0].startswith("B10, P-DPO, knows personas by their id: an unseen one is scored as the generic persona")
    assert said[0].endswith("Scored as the generic persona: true: 24 of 48 rows, 4 of 8 personas.")


def test_a_sweep_keeps_the_groups_that_the_profiles_state(wide, here, tmp_path):
    data = write_published_folder(tmp_path / "data", seen=6, unseen=6, change=with_lines)
    methods = [{"id": "B0", "name": "length", "method": "rule", "arguments": {"rule": "length"}}]
    run_sweep(str(sweep_file(tmp_path, wide[0], methods=methods, seeds=[0])), str(data), tmp_path / "out")
    groups = json.loads((tmp_path / "out" / GROUPS_FILE).read_text())
    assert set(groups) == {f"p{place:05d}" for place in range(12)}
    assert set(map(str, groups.values())) == {"{'religion': 'None'}"}
    result = json.loads((tmp_path / "out" / "results" / "B0" / "seed-0.json").read_text())
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    for one, other in zip(table["methods"][0]["results"], result["results"], strict=True):
        own = other["conditions"]["none"]["spread"]
        assert one["spread"] == (own if one["rows"] >= 20 else None)
        if one["rows"] >= 20:
            assert own["worst_group"]["rows"] == one["rows"]


def with_lines(tables):
    """Profiles written in lines, all of one religion."""
    profile = as_lines({"religion": "None"})
    for row in tables["personas"]["train"]:
        row["profile"] = profile
    for config in ("dpf", "contrast"):
        for rows in tables[config].values():
            for row in rows:
                row["prompt"][0]["content"] = profile
