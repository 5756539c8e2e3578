"""`persona diff`: rows by id and content, columns and splits of two published versions, and the step that follows."""

import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from builder.errors import InputError
from builder.files import read_json, sha256_file, write_json
from builder.pipeline import run_build
from builder.publishing import blocks, diff
from builder.publishing.diff import diff_versions
from builder.publishing.difference_text import difference_text
from builder.publishing.publish import publish
from builder.publishing.versions import STEP_OF, STEPS, changelog_entry, refuse_small_step
from persona import app

from .conftest import scripted_recipe

CONFIGS = "configs=[dpf,dpf_matched,contrast,judgements]"
Change = Callable[[arrow.Table], arrow.Table]


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """Version 1.0.0 with all configs, as `persona publish` writes it."""
    folder = tmp_path_factory.mktemp("version")
    run_build(scripted_recipe(CONFIGS), folder / "run")
    publish(folder / "run", folder / "published", "1.0.0")
    return folder / "published"


def rewrite(folder: Path, config: str, split: str, change: Change, **options) -> None:
    """Another content of one file, under the name and number of rows that belong to it; a table without rows loses its file."""
    build = read_json(folder / "build.json")
    entry = build["configs"][config].setdefault(split, {"rows": 0, "file": None})
    sibling = next(e["file"] for e in build["configs"][config].values() if e["file"])
    table = parquet.read_table(folder / (entry["file"] or sibling))
    table = change(table if entry["file"] else table.slice(0, 0))
    place = folder / "data" / config / "unnamed.parquet"
    parquet.write_table(table, place, **options)
    sha256 = sha256_file(place)
    name = f"data/{config}/{split}-00000-of-00001-{sha256[:12]}.parquet"
    place.rename(folder / name)
    entry |= {"rows": table.num_rows, "file": name if table.num_rows else None, "sha256": sha256}
    write_json(folder / "build.json", build)


@pytest.fixture
def other(version, tmp_path):
    """A copy of the version, to be changed."""
    return Path(shutil.copytree(version, tmp_path / "other"))


def with_values(table: arrow.Table, column: str, values: dict[int, object]) -> arrow.Table:
    cells = table[column].to_pylist()
    for row, value in values.items():
        cells[row] = value
    place = table.column_names.index(column)
    kind = table.schema.field(place)
    return table.set_column(place, kind, arrow.array(cells, kind.type))


def new_rows(table: arrow.Table, column: str, ids: list[str]) -> arrow.Table:
    """The table and, at its end, its first rows under other ids."""
    return arrow.concat_tables([table, with_values(table.slice(0, len(ids)), column, dict(enumerate(ids)))])


def of(difference, config):
    return next(c for c in difference.configs if c.config == config)


def reasons(difference):
    return [sentence for _, sentence in difference.reasons]


def test_the_same_build_published_twice_does_not_differ(scripted_build, tmp_path):
    publish(scripted_build.folder, tmp_path / "a", "1.0.0")
    publish(scripted_build.folder, tmp_path / "b", "1.0.1")
    difference = diff_versions(tmp_path / "a", tmp_path / "b")
    assert (difference.step, difference.reasons) == ("none", [])
    dpf = of(difference, "dpf")
    assert dpf.before == dpf.after == dpf.unchanged == len(scripted_build.rows("dpf"))
    assert "Step: none, no row differs. A version with another card or code is 1.0.1." in difference_text(difference)
    assert changelog_entry(tmp_path / "a", "1.0.1", difference) == [
        {
            "version": "1.0.1",
            "previous": "1.0.0",
            "step": "patch",
            "changes": ["no row differs: another card, recipe or code"],
        }
    ]


def test_an_extension_adds_rows_and_nothing_else(version, tmp_path):
    """Two real builds, the second with more personas and questions: rows of all configs are added, so a patch is too small."""
    larger = ("personas.count=17", "personas.seen=11", "prompts.count=20", "prompts.heldout=5")
    run_build(scripted_recipe(CONFIGS, *larger), tmp_path / "run", extend=str(version))
    published = publish(tmp_path / "run", tmp_path / "published", "1.1.0", previous=str(version))
    difference = published.difference
    assert difference.step == "minor"
    for config in difference.configs:
        assert config.count("added") == config.after - config.before > 0
        assert config.unchanged == config.before
    assert of(difference, "personas").count("added") == 5
    entry = published.build["changelog"][0]
    assert (entry["version"], entry["previous"], entry["step"]) == ("1.1.0", "1.0.0", "minor")
    assert "personas: 5 personas added" in entry["changes"]
    assert any(said.startswith("dpf: ") and "pairs added (train " in said for said in entry["changes"])
    with pytest.raises(InputError, match=r"1\.0\.1 is a patch step .* asks for a minor one: .* Give 1\.1\.0 or more"):
        publish(tmp_path / "run", tmp_path / "too-small", "1.0.1", previous=str(version))
    assert not (tmp_path / "too-small").exists()
    assert diff_versions(tmp_path / "published", version).step == "major"


def test_changed_rows_are_a_patch_and_name_their_columns(version, other):
    rewrite(other, "dpf", "train", lambda t: with_values(t, "critique", {2: "Shorter.", 5: "Longer."}))
    rewrite(other, "dpf", "train", lambda t: with_values(t, "chosen", {5: [{"role": "assistant", "content": "No."}]}))
    rewrite(other, "prompts", "train", lambda t: with_values(t, "topic", {1: "sport"}))
    difference = diff_versions(version, other)
    assert difference.step == "patch"
    dpf = of(difference, "dpf")
    assert dpf.counts == {"added": {}, "removed": {}, "changed": {"train": 2}, "moved": {}}
    assert dpf.columns == {"critique": 2, "chosen": 1}
    table = parquet.read_table(other / other_file(other, "dpf", "train"))
    assert dpf.examples == {"changed": [table["pair_id"][2].as_py(), table["pair_id"][5].as_py()]}
    assert reasons(difference) == ["dpf: 2 pairs changed (critique, chosen)", "prompts: 1 prompt changed (topic)"]
    text = difference_text(difference)
    assert "dpf, rows by changed column: critique 2, chosen 1" in text
    assert text.endswith("Step: patch. The next version after 1.0.0 is 1.0.1.")
    refuse_small_step(version, "1.0.1", difference)


def other_file(folder, config, split):
    return read_json(folder / "build.json")["configs"][config][split]["file"]


def test_added_rows_are_a_minor_and_removed_ones_a_major_step(version, other):
    rewrite(other, "dpf", "train", lambda t: new_rows(t, "pair_id", ["dpf/p00000/q99998", "dpf/p00000/q99999"]))
    difference = diff_versions(version, other)
    assert (difference.step, of(difference, "dpf").counts["added"]) == ("minor", {"train": 2})
    assert reasons(difference) == ["dpf: 2 pairs added (train 2)"]
    rewrite(other, "dpf", "seen_test", lambda t: t.slice(1))
    difference = diff_versions(version, other)
    assert difference.step == "major"
    assert reasons(difference) == ["dpf: 1 pair removed (seen_test 1)", "dpf: 2 pairs added (train 2)"]
    first = parquet.read_table(version / other_file(version, "dpf", "seen_test"))["pair_id"][0].as_py()
    assert of(difference, "dpf").examples["removed"] == [first]
    with pytest.raises(InputError, match=r"is a minor step .* major one: dpf: 1 pair removed \(seen_test 1\)\. Give 2"):
        refuse_small_step(version, "1.1.0", difference)


def test_a_row_in_another_split_has_moved_whether_or_not_it_changed(version, other):
    source = parquet.read_table(version / other_file(version, "dpf", "train")).slice(0, 2)
    moved = with_values(source, "persona_group", {1: "unseen"})
    rewrite(other, "dpf", "train", lambda t: t.slice(2))
    rewrite(other, "dpf", "support", lambda t: arrow.concat_tables([t, moved]))
    difference = diff_versions(version, other)
    dpf = of(difference, "dpf")
    assert dpf.counts == {"added": {}, "removed": {}, "changed": {}, "moved": {"train to support": 2}}
    assert (dpf.columns, dpf.regrouped, dpf.unchanged) == ({"persona_group": 1}, 1, dpf.before - 2)
    assert difference.step == "major"
    assert reasons(difference) == [
        "dpf: 2 pairs moved to another split (train to support 2)",
        "dpf: 1 pair with another persona_group",
    ]


@pytest.mark.parametrize(
    ("config", "column"), [("personas", "group"), ("prompts", "pool"), ("contrast", "persona_group")]
)
def test_another_group_or_pool_is_a_major_step(version, other, config, column):
    rewrite(other, config, "train", lambda t: with_values(t, column, {0: "elsewhere"}))
    difference = diff_versions(version, other)
    assert difference.step == "major"
    assert any(said.endswith(f"with another {column}") for said in reasons(difference))
    assert of(difference, config).count("changed") == 1


def cast(column: str, kind: arrow.DataType) -> Change:
    return lambda t: t.set_column(t.column_names.index(column), column, t[column].cast(kind))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.append_column("note", arrow.array(["x"] * t.num_rows)), "prompts: column note added (string)"),
        (lambda t: t.drop_columns("topic"), "prompts: column topic removed"),
        (
            cast("controversy_score", arrow.float32()),
            "prompts: type of controversy_score changed from double to float",
        ),
    ],
)
def test_a_column_that_came_went_or_has_another_type_is_a_major_step(version, other, change, said):
    rewrite(other, "prompts", "train", change)
    difference = diff_versions(version, other)
    assert (difference.step, reasons(difference)) == ("major", [said])
    assert of(difference, "prompts").count("changed") == 0  # said once, not in every row
    assert said in difference_text(difference)


def test_configs_and_splits_that_come_and_go(version, other):
    build = read_json(other / "build.json")
    del build["configs"]["dpf_matched"]
    write_json(other / "build.json", build)
    rewrite(other, "contrast", "support", lambda t: t.slice(0, 0))
    forth, back = diff_versions(version, other), diff_versions(other, version)
    assert (forth.step, back.step) == ("major", "minor")
    rows = of(forth, "dpf_matched").before
    assert reasons(forth)[0] == f"dpf_matched: config removed, {rows:,} pairs"
    assert f"dpf_matched: config added, {rows:,} pairs" in reasons(back)
    assert of(forth, "dpf_matched").count("removed") == of(back, "dpf_matched").count("added") == rows
    assert "contrast: split support removed" in reasons(forth)
    assert "contrast: split support added" in reasons(back)


def test_another_licence_is_a_major_step(version, other):
    build = read_json(other / "build.json")
    build["licence"] = "cc-by-4.0"  # what a version without the key is under
    assert diff_versions(version, other, build).step == "none"
    build["licence"] = "cc-by-nc-4.0"
    difference = diff_versions(version, other, build)
    assert (difference.step, reasons(difference)) == ("major", ["licence: cc-by-4.0 became cc-by-nc-4.0"])


def test_judgements_are_told_apart_by_judge_condition_and_order(version, other):
    twice = lambda t: arrow.concat_tables([t, with_values(t.slice(0, 1), "condition", {0: "none"})])  # noqa: E731
    rewrite(other, "judgements", "train", twice)
    rewrite(other, "judgements", "train", lambda t: with_values(t, "probability", {3: 0.123}))
    judgements = of(diff_versions(version, other), "judgements")
    assert (judgements.count("added"), judgements.count("changed"), judgements.columns) == (1, 1, {"probability": 1})
    first = parquet.read_table(version / other_file(version, "judgements", "train")).slice(0, 1).to_pylist()[0]
    wanted = " | ".join([first["pair_id"], first["judge"], "none", first["order"]])
    assert judgements.examples["added"] == [wanted]


def otherwise_laid_out(table: arrow.Table) -> arrow.Table:
    """The same rows in another order, with dictionaries, large offsets and other chunks."""
    table = table.take(list(range(0, table.num_rows, 2)) + list(range(1, table.num_rows, 2)))
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        place = table.column_names.index(name)
        if kind == arrow.string():
            wanted = table[name].dictionary_encode() if place % 2 else table[name].cast(arrow.large_string())
            table = table.set_column(place, name, wanted)
    return arrow.concat_tables([table.slice(0, 3), table.slice(3)]).select(list(reversed(table.column_names)))


def test_how_rows_lie_in_the_files_does_not_matter(version, other, monkeypatch):
    for config, splits in read_json(version / "build.json")["configs"].items():
        for split, entry in splits.items():
            if entry["rows"]:
                rewrite(other, config, split, otherwise_laid_out, row_group_size=5, compression="snappy")
    monkeypatch.setattr(blocks, "ROWS_AT_A_TIME", 7)
    difference = diff_versions(version, other)
    assert difference.reasons == []
    assert all(config.unchanged == config.before == config.after for config in difference.configs)
    rewrite(other, "dpf", "train", lambda t: with_values(t, "judge_score", {0: 0.125}))
    assert of(diff_versions(version, other), "dpf").counts["changed"] == {"train": 1}


# Made-up tables, small enough to be compared by hand -----------------------------------------------------------------------------------

FEW_COLUMNS = arrow.schema(
    [
        ("pair_id", arrow.string()),
        ("persona_id", arrow.string()),
        ("persona_group", arrow.string()),
        ("chosen", arrow.list_(arrow.struct([("role", arrow.string()), ("content", arrow.string())]))),
        ("judge_score", arrow.float64()),
        ("tokens", arrow.int64()),
        ("leak", arrow.bool_()),
    ]
)


def write_version(folder: Path, splits: dict[str, list[dict]], row_group_size: int = 100) -> Path:
    (folder / "data").mkdir(parents=True)
    entries = {}
    for split, rows in splits.items():
        file = f"data/{split}.parquet" if rows else None
        if file:
            table = arrow.Table.from_pylist(rows, schema=FEW_COLUMNS)
            parquet.write_table(table, folder / file, row_group_size=row_group_size)
        entries[split] = {"rows": len(rows), "file": file}
    write_json(folder / "build.json", {"version": "0.3.1", "configs": {"dpf": entries}, "content_sha256": "0" * 64})
    return folder


def row(pair: int, **values) -> dict:
    persona = f"p{pair // 4}"
    ids = {"pair_id": f"dpf/{persona}/q{pair % 4}", "persona_id": persona, "persona_group": "seen"}
    return {**ids, "chosen": [], "judge_score": 0.5, "tokens": 3, "leak": False, **values}


texts = st.sampled_from([None, "", "a", "b", "ab"])
messages = st.none() | st.lists(st.none() | st.fixed_dictionaries({"role": texts, "content": texts}), max_size=3)
scores = st.sampled_from([None, 0.0, -0.0, 0.5, float("nan"), float("inf")])
contents = st.fixed_dictionaries(
    {
        "chosen": messages,
        "judge_score": scores,
        "tokens": st.sampled_from([None, 0, 1, -1]),
        "leak": st.none() | st.booleans(),
    }
)
versions = st.dictionaries(st.integers(0, 11), st.tuples(st.sampled_from(["train", "support"]), contents), max_size=12)


def splits_of(rows: dict[int, tuple[str, dict]], order: list[int] | None = None) -> dict[str, list[dict]]:
    splits: dict[str, list[dict]] = {"train": [], "support": []}
    for pair in sorted(rows) if order is None else order:
        split, values = rows[pair]
        splits[split].append(row(pair, **values))
    return splits


def by_hand(a: dict, b: dict) -> tuple[dict[str, int], Counter]:
    """Counts by kind and rows by changed column, cell by cell."""

    def told(value):
        return repr(value + 0.0) if isinstance(value, float) else repr(value)

    counts, columns = Counter(added=len(b.keys() - a.keys()), removed=len(a.keys() - b.keys())), Counter()
    for pair in a.keys() & b.keys():
        differing = [name for name in a[pair][1] if told(a[pair][1][name]) != told(b[pair][1][name])]
        columns.update(differing)
        counts["moved" if a[pair][0] != b[pair][0] else "changed"] += bool(differing) or a[pair][0] != b[pair][0]
    return {kind: counts[kind] for kind in STEP_OF}, columns


@settings(max_examples=30, deadline=None)
@given(versions, versions, st.randoms(use_true_random=False), st.integers(1, 5))
def test_what_differs_is_what_differs_by_hand(a, b, random, row_group_size):
    order = random.sample(sorted(b), len(b))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "ROWS_AT_A_TIME", 3)
        patch.setattr(blocks, "FEW_ROWS", 1)
        patch.setattr(diff, "LISTED_AT_A_TIME", 2)
        before = write_version(Path(folder) / "a", splits_of(a))
        after = write_version(Path(folder) / "b", splits_of(b))
        shuffled = write_version(Path(folder) / "c", splits_of(b, order), row_group_size)
        forth, back = diff_versions(before, after), diff_versions(after, before)
        unsorted = diff_versions(before, shuffled, out=Path(folder) / "differing.parquet")
        assert diff_versions(after, shuffled).step == diff_versions(before, before).step == "none"
        listed = parquet.read_table(Path(folder) / "differing.parquet").to_pylist()
    counts, columns = by_hand(a, b)
    for difference in (forth, unsorted):
        found = of(difference, "dpf")
        assert {kind: found.count(kind) for kind in STEP_OF} == counts
        assert found.columns == columns
        assert found.unchanged + counts["added"] + counts["changed"] + counts["moved"] == len(b)
    assert of(back, "dpf").counts["added"] == of(forth, "dpf").counts["removed"]
    assert of(back, "dpf").counts["changed"] == of(forth, "dpf").counts["changed"]
    assert Counter(entry["what"] for entry in listed) == Counter({k: n for k, n in counts.items() if n})
    for entry in listed:
        persona, question = entry["id"].removeprefix("dpf/p").split("/q")
        pair = int(persona) * 4 + int(question)
        assert (entry["hash_before"] is not None, entry["hash_after"] is not None) == (pair in a, pair in b)
        assert entry["split"] == (b.get(pair) or a[pair])[0]
        if entry["what"] == "changed":
            assert entry["hash_before"] != entry["hash_after"]


@settings(max_examples=30, deadline=None)
@given(versions.filter(bool), st.permutations(["none", "add", "remove", "change", "move"]), st.integers(1, 5))
def test_one_more_change_never_makes_the_step_smaller(a, order, steps):
    def apply(rows: dict, what: str) -> dict:
        first = min(rows, default=None)
        if what == "add":
            return rows | {20: ("train", {})}
        if first is None or what == "none":
            return rows
        split, values = rows[first]
        if what == "remove":
            return {pair: content for pair, content in rows.items() if pair != first}
        if what == "change":
            return rows | {first: (split, values | {"tokens": 77})}
        return rows | {first: ("train" if split == "support" else "support", values)}

    changed, largest = a, 0
    with tempfile.TemporaryDirectory() as folder:
        before = write_version(Path(folder) / "before", splits_of(a))
        for number, what in enumerate(order[:steps]):
            changed = apply(changed, what)
            difference = diff_versions(before, write_version(Path(folder) / str(number), splits_of(changed)))
            assert STEPS.index(difference.step) >= largest
            largest = STEPS.index(difference.step)


def test_differing_hashes_can_be_computed_again(tmp_path):
    """The documented hash: SHA-256 of the row as JSON with sorted keys."""
    import hashlib

    a = write_version(tmp_path / "a", {"train": [row(0), row(1)]})
    b = write_version(tmp_path / "b", {"train": [row(0), row(1, judge_score=None), row(2)]})
    diff_versions(a, b, out=tmp_path / "out" / "differing.parquet")
    found = parquet.read_table(tmp_path / "out" / "differing.parquet").sort_by("id").to_pylist()

    def digest(content):
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    assert found == [
        {
            **{"config": "dpf", "split": "train", "id": "dpf/p0/q1", "what": "changed"},
            **{"hash_before": digest(row(1)), "hash_after": digest(row(1, judge_score=None))},
        },
        {
            **{"config": "dpf", "split": "train", "id": "dpf/p0/q2", "what": "added"},
            **{"hash_before": None, "hash_after": digest(row(2))},
        },
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["differing.parquet"]


def test_a_struct_with_its_fields_in_another_order_is_the_same(tmp_path):
    rows = [row(0, chosen=[{"role": "assistant", "content": "Yes."}, None]), row(1, chosen=None)]
    a, b = write_version(tmp_path / "a", {"train": rows}), write_version(tmp_path / "b", {"train": rows})
    place = FEW_COLUMNS.names.index("chosen")
    turned = arrow.list_(arrow.struct([("content", arrow.string()), ("role", arrow.string())]))
    table = arrow.Table.from_pylist(rows, schema=FEW_COLUMNS.set(place, arrow.field("chosen", turned)))
    parquet.write_table(table, b / "data" / "train.parquet")
    assert diff_versions(a, b).step == "none"


def test_every_value_is_told_from_every_other_wherever_its_row_stands(tmp_path):
    """In place (side by side), and where the row came up elsewhere and only hashes are left of it."""
    said = [{"role": "a", "content": "b"}, {"role": "b", "content": "a"}]
    apart = {
        "judge_score": [None, 0.0, float("nan"), 1.0, float("inf")],
        "tokens": [None, 0, 1, -1, 2**62],
        "leak": [None, True, False],
        "persona_group": [None, "", "a", "A", "a "],
        "chosen": [None, [], [None], [None, None], said, said[::-1], said[:1], said[1:]],
    }
    for column, values in apart.items():
        rows = [row(pair, **{column: value}) for pair, value in enumerate(values)]
        turned = [row(pair, **{column: value}) for pair, value in enumerate(values[1:] + values[:1])]
        a = write_version(tmp_path / column / "a", {"train": rows})
        for place, others in (("b", turned), ("c", turned[::-1])):
            dpf = of(diff_versions(a, write_version(tmp_path / column / place, {"train": others})), "dpf")
            assert dpf.columns == {column: len(values)}
            assert dpf.count("changed") == len(values)


def test_equal_numbers_that_are_written_differently_are_the_same_wherever_their_row_stands(tmp_path):
    rows = [row(pair, judge_score=score) for pair, score in enumerate([0.0, float("nan"), 1.0, -0.0, 0.5, 0.25])]
    again = [{**r, "judge_score": -r["judge_score"] if not r["judge_score"] else r["judge_score"]} for r in rows]
    a = write_version(tmp_path / "a", {"train": rows})
    for name, others in (("b", again), ("c", again[::-1])):
        assert diff_versions(a, write_version(tmp_path / name, {"train": others})).step == "none"
    differing = diff_versions(a, write_version(tmp_path / "d", {"train": [*again[:-1], row(5)]}))
    assert of(differing, "dpf").count("changed") == 1


@pytest.mark.parametrize(
    "twice", [[row(0), row(0)], [row(0), row(1), row(1, tokens=4)], [row(0), row(0, persona_id="p9")]]
)
def test_an_id_twice_among_rows_that_differ_is_refused(tmp_path, twice):
    sound = write_version(tmp_path / "sound", {"train": [row(1), row(2)]})
    unsound = write_version(tmp_path / "unsound", {"train": twice})
    for pair in ((sound, unsound), (unsound, sound)):
        with pytest.raises(InputError, match=r"unsound has the id dpf/p0/q[01] of dpf twice"):
            diff_versions(*pair)


def test_the_command_prints_the_table_and_writes_every_id(version, other, tmp_path):
    rewrite(other, "personas", "train", lambda t: with_values(t, "profile", {0: "You are somebody else."}))
    done = CliRunner().invoke(app, ["diff", str(version), str(other), "--out", str(tmp_path / "ids.parquet")])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "Version 1.0.0 -> 1.0.0"
    assert lines[2].split() == ["config", "before", "after", *STEP_OF, "unchanged"]
    people = parquet.read_metadata(version / other_file(version, "personas", "train")).num_rows
    line = next(line for line in lines if line.startswith("personas "))
    assert line.split()[1:] == [str(people), str(people), "0", "0", "1", "0", str(people - 1)]
    assert "personas, changed: p00000" in lines
    assert parquet.read_table(tmp_path / "ids.parquet")["id"].to_pylist() == ["p00000"]


# What cannot be compared ---------------------------------------------------------------------------------------------------------------


def spoil_build(folder: Path, change) -> None:
    build = read_json(folder / "build.json")
    change(build)
    write_json(folder / "build.json", build)


def cut(folder: Path) -> None:
    path = folder / other_file(folder, "dpf", "train")
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder: Path) -> None:
    path = folder / other_file(folder, "dpf", "train")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def unnamed_rubbish(folder: Path) -> None:
    (folder / "data" / "dpf" / "train.parquet").write_bytes(b"PAR1 not really")
    spoil_build(folder, lambda b: b["configs"]["dpf"]["train"].update(file="data/dpf/train.parquet"))


def twice(folder: Path) -> None:
    rewrite(folder, "dpf", "train", lambda t: new_rows(t, "pair_id", ["dpf/p00000/q99999"] * 2))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "build.json").unlink(), "does not exist"),
        (lambda f: (f / "build.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "build.json").write_text("[]"), "is no published version"),
        (lambda f: spoil_build(f, lambda b: b.pop("configs")), "lists no data files"),
        (lambda f: spoil_build(f, lambda b: b.pop("version")), "says version None"),
        (lambda f: spoil_build(f, lambda b: b.update(version="1.0")), r"says version '1\.0'"),
        (lambda f: spoil_build(f, lambda b: b["configs"]["dpf"].update(train={"rows": 3})), "which file"),
        (lambda f: spoil_build(f, lambda b: b["configs"].update(dpf=[])), "which file"),
        (lambda f: spoil_build(f, lambda b: b["configs"].update(poems={})), "has the config poems"),
        (lambda f: spoil_build(f, lambda b: b["configs"]["dpf"]["train"].update(rows=3)), "and build.json says 3"),
        (lambda f: (f / other_file(f, "dpf", "train")).unlink(), "does not exist. build.json lists it"),
        (cut, "is damaged|cannot be read as Parquet"),
        (flip, "is damaged: its content has the hash"),
        (unnamed_rubbish, "cannot be read as Parquet"),
        (twice, "has the id dpf/.* of dpf twice"),
        (
            lambda f: rewrite(f, "dpf", "train", lambda t: with_values(t, "pair_id", {0: None})),
            "row of dpf without an id",
        ),
        (lambda f: rewrite(f, "prompts", "train", lambda t: t.drop_columns("prompt_id")), "has no column prompt_id"),
        (lambda f: rewrite(f, "dpf", "train", lambda t: t.drop_columns("topic")), "other columns than .*topic"),
    ],
)
def test_what_is_no_sound_version_is_refused(version, other, spoil, said):
    spoil(other)
    with pytest.raises(InputError, match=said):
        diff_versions(version, other)
    with pytest.raises(InputError, match=said):
        diff_versions(other, version)


def test_a_differing_list_that_cannot_be_written_leaves_nothing(version, other, tmp_path, monkeypatch):
    rewrite(other, "dpf", "train", lambda t: with_values(t, "critique", {0: "No."}))

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(diff, "row_hash", fail)
    with pytest.raises(InputError):
        diff_versions(version, other, out=tmp_path / "out" / "ids.parquet")
    assert list((tmp_path / "out").iterdir()) == []


def test_equal_files_are_not_read(version, other, monkeypatch):
    """At full size a difference in the questions alone must not read a gigabyte of pairs."""
    rewrite(other, "prompts", "train", lambda t: with_values(t, "topic", {1: "sport"}))
    read = []
    batches = blocks.batches
    monkeypatch.setattr(blocks, "batches", lambda path, *rest: read.append(path.parent.name) or batches(path, *rest))
    diff_versions(version, other)
    assert set(read) == {"prompts"}


def test_only_a_few_rows_around_a_differing_one_become_python_objects(version, other, monkeypatch):
    """At full size, turning all rows into Python objects takes minutes."""
    rewrite(other, "dpf", "train", lambda t: with_values(t, "critique", {0: "No."}))
    monkeypatch.setattr(blocks, "FEW_ROWS", 2)
    read = []
    by_id = diff.by_id
    monkeypatch.setattr(diff, "by_id", lambda *of: read.append(of[0].num_rows) or by_id(*of))
    assert of(diff_versions(version, other), "dpf").count("changed") == 1
    assert len(read) == 2
    assert sum(read) <= 4


def test_personas_that_came_or_went_do_not_make_the_others_be_read(tmp_path, monkeypatch):
    rows = [row(pair) for pair in range(16)]
    a, b = write_version(tmp_path / "a", {"train": rows[4:12]}), write_version(tmp_path / "b", {"train": rows[:8]})
    read = []
    by_id = diff.by_id
    monkeypatch.setattr(diff, "by_id", lambda *of: read.extend([] if of[0] is None else of[0]["pair_id"]) or by_id(*of))
    for versions in ((a, b), (b, a)):
        found = of(diff_versions(*versions), "dpf")
        assert (found.count("added"), found.count("removed"), found.unchanged) == (4, 4, 4)
    assert {one.as_py() for one in read} == {r["pair_id"] for r in rows[:4] + rows[8:12]}


def test_what_differs_is_listed_as_it_is_found_and_nothing_of_it_is_kept(tmp_path, monkeypatch):
    """A million rows that differ in place must not fill the memory."""
    rows = [row(pair) for pair in range(40)]
    a = write_version(tmp_path / "a", {"train": rows})
    b = write_version(tmp_path / "b", {"train": [r | {"tokens": 4} for r in rows]})
    monkeypatch.setattr(diff, "LISTED_AT_A_TIME", 10)
    dpf = of(diff_versions(a, b, out=tmp_path / "rows.parquet"), "dpf")
    listed = parquet.ParquetFile(tmp_path / "rows.parquet")
    assert [listed.metadata.row_group(n).num_rows for n in range(listed.num_row_groups)] == [10] * 4
    assert listed.read()["id"].to_pylist() == [r["pair_id"] for r in rows]
    assert (dpf.count("changed"), len(dpf.examples["changed"])) == (40, 3)


def test_a_config_that_one_version_lacks_is_listed_whole(version, other, tmp_path):
    build = read_json(other / "build.json")
    del build["configs"]["judgements"]
    write_json(other / "build.json", build)
    ids = {}
    for what, versions in (("removed", (version, other)), ("added", (other, version))):
        out = tmp_path / f"{what}.parquet"
        judgements = of(diff_versions(*versions, out=out), "judgements")
        listed = parquet.read_table(out).to_pylist()
        assert judgements.count(what) == len(listed) > 0
        assert {entry["what"] for entry in listed} == {what}
        assert all((entry["hash_before"] is None) == (what == "added") for entry in listed)
        ids[what] = [entry["id"] for entry in listed]
    assert ids["added"] == ids["removed"]
    assert len(set(ids["added"])) == len(ids["added"])


def test_models_judges_and_templates_that_changed_are_named_and_ask_for_no_step(version, other):
    build = read_json(other / "build.json")
    judge = build["judges"][0]
    build["models"]["generator"] |= {"model": "org/larger", "revision": "0123456789abcdef"}
    build["models"]["critic"]["provider"] = "local"
    build["models"]["judge"]["model"] = "org/larger"
    build["judges"] = ["roleplay@1:org/larger", "likelihood@1:org/second"]
    build["templates"]["critique_paper"] = "000000000000"
    build["templates"]["answer_two"] = build["templates"].pop("answer")
    write_json(other / "build.json", build)
    difference = diff_versions(version, other)
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (difference.step, difference.reasons) == ("none", [])
    assert difference.notes == [
        f"judge {judge} became roleplay@1:org/larger",
        "second judge none became likelihood@1:org/second",
        f"models: generator {model} became org/larger@0123456789ab",
        f"models: critic {model} (provider scripted) became {model} (provider local)",
        "template answer no longer used",
        "template answer_two added",
        "template critique_paper changed",
    ]
    text = difference_text(difference)
    assert all(note in text for note in difference.notes)
    assert text.endswith("A version with another card or code is 1.0.1.")
    (entry,) = changelog_entry(version, "1.0.1", difference)
    assert entry["changes"] == ["no row differs", *difference.notes]


@pytest.mark.parametrize(
    ("out", "said"),
    [("folder", "is a folder. Give a file, as .*folder/diff.parquet"), ("file/d.parquet", "file is a file")],
)
def test_a_list_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, out, said):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("builder.published.version_folder", lambda source: pytest.fail("versions were read first"))
    done = CliRunner().invoke(app, ["diff", "a", "b", "--out", str(tmp_path / out)])
    assert isinstance(done.exception, InputError)
    assert re.search(said, str(done.exception))
