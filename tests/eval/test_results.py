"""One schema for every result: written whole, read back the same, refused where it is not what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from eval.results import (
    Result,
    finished_result,
    load_results,
    read_result,
    row_counts,
    too_many_unscored,
    without_paths,
    write_result,
)
from eval.tables import read_table, write_table


def a_result(name: str = "bench-x", **changed: Any) -> Result:
    whole: dict[str, Any] = {
        "evaluation": "bench",
        "name": name,
        "description": "a test",
        "fingerprint": {"seed": 0, "judge": "j@1:m"},
        "dataset": {"name": "demo", "version": None, "content_sha256": "ab" * 32, "rows": {}},
        "subject": None,
        "judges": [],
        "settings": {},
        "seed": 0,
        "provenance": {},
        "rows": {"scored": 3, "unscored": {"refused": 1}},
        "files": {},
        "content": {"share": 0.5, "none": None, "text": "é <b>"},
    }
    return Result(**(whole | changed))


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_result(tmp_path, a_result())
    assert path.name == "bench-x.json"
    assert read_result(path) == a_result()
    assert not [p for p in tmp_path.iterdir() if p != path]


def test_numbers_that_are_no_json_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, a_result(content={"share": float("nan")}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 1}, "schema version 2"),
        ({"more": 1}, "lacks or adds the keys more"),
        (None, "lacks or adds the keys seed"),
    ],
)
def test_another_schema_is_refused(tmp_path: Path, change: dict[str, Any] | None, said: str) -> None:
    path = write_result(tmp_path, a_result())
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw = raw | change if change is not None else {key: value for key, value in raw.items() if key != "seed"}
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_result(path)


def test_results_of_two_datasets_never_stand_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no evaluation result"):
        load_results(tmp_path / "nowhere")
    write_result(tmp_path, a_result("bench-b"))
    write_result(tmp_path, a_result("bench-a"))
    write_result(tmp_path, a_result("calibration-j", evaluation="calibration", dataset=None))
    assert [result.name for result in load_results(tmp_path)] == ["bench-a", "bench-b", "calibration-j"]
    assert [result.name for result in load_results(tmp_path, "calibration")] == ["calibration-j"]
    other = {"name": "other", "version": None, "content_sha256": "cd" * 32, "rows": {}}
    write_result(tmp_path, a_result("bench-c", dataset=other))
    with pytest.raises(InputError, match="2 different datasets"):
        load_results(tmp_path)


def test_a_finished_result_is_kept_only_with_the_files_it_came_from(tmp_path: Path) -> None:
    files = write_table(
        tmp_path, "bench-x-answers.parquet", [{"id": "a", "value": 1.0}], {"id": "string", "value": "double"}
    )
    result = a_result(files=files)
    assert finished_result(tmp_path, result.name, result.fingerprint) is None
    write_result(tmp_path, result)
    assert finished_result(tmp_path, result.name, result.fingerprint) == result
    assert read_table(tmp_path / "bench-x-answers.parquet") == [{"id": "a", "value": 1.0}]
    with pytest.raises(InputError, match=r"differing: judge\)"):
        finished_result(tmp_path, result.name, {"seed": 0, "judge": "j@2:m"})
    write_table(tmp_path, "bench-x-answers.parquet", [{"id": "a", "value": 2.0}], {"id": "string", "value": "double"})
    with pytest.raises(InputError, match="not the file that"):
        finished_result(tmp_path, result.name, result.fingerprint)


def test_unscored_rows_are_counted_with_their_reason_and_withhold_figures_above_a_tenth() -> None:
    rows = row_counts([None] * 90 + ["refused"] * 6 + ["truncated"] * 4)
    assert rows == {"scored": 90, "unscored": {"refused": 6, "truncated": 4}}
    assert too_many_unscored(rows) is None
    assert too_many_unscored(row_counts([None] * 89 + ["refused"] * 11)) == "11% of rows unscored (at most 10%)"
    assert too_many_unscored(row_counts([])) is None
    assert too_many_unscored(row_counts(["refused"])) == "100% of rows unscored (at most 10%)"


def test_no_folder_of_a_machine_stands_in_a_result() -> None:
    nested = {"model": "/home/someone/models/dpo/", "list": ["C:\\data\\x", "org/name", "a\n/b"], "n": 1}
    assert without_paths(nested) == {"model": "dpo", "list": ["x", "org/name", "a\n/b"], "n": 1}
