"""One persona's rows over HTTP without the rest, and the code of docs/data.md as it stands there."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as parquet

from builder.publishing.publish import publish
from builder.randomness import rng_for
from builder.schema import assistant_message, features, persona_id, preference_messages
from builder.tables import PERSONAS_PER_ROW_GROUP, arrow_table, write_by_persona
from tests.hub_server import environment, hub_server

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "data.md"
PERSONAS, PAIRS = 200, 8
BLOCK = (
    2**16
)  # what the documentation asks the Hub client to read ahead, and what Arrow reads from a file's end at first


def document_code() -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if "load_dataset" in block]


def one_persona_code() -> str:
    (code,) = [block for block in document_code() if "filters=" in block]
    return code


def tables(text_characters: int):
    """One Arrow table a persona, in texts that do not compress."""
    empty = dict.fromkeys(features("dpf"))
    for index in range(PERSONAS):
        rng = rng_for(0, "texts", str(index))
        rows = [
            empty
            | {
                "split": "train",
                "pair_id": f"dpf/{persona_id(index)}/q{number:05d}",
                "persona_id": persona_id(index),
                "prompt": preference_messages(f"Person {index}", "A question?"),
                "chosen": assistant_message(rng.bytes(text_characters // 2).hex()),
                "rejected": assistant_message(rng.bytes(text_characters // 2).hex()),
            }
            for number in range(PAIRS)
        ]
        yield arrow_table("dpf", rows)


def run(server, folder, program):
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(server, folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_one_persona_is_read_without_the_others(tmp_path):
    write_by_persona(tmp_path, "dpf", tables(3000))
    path = tmp_path / "tables" / "dpf.parquet"
    size, metadata = path.stat().st_size, parquet.read_metadata(path)
    # The first and last row group and one between.
    asked = [persona_id(index) for index in (0, 117, PERSONAS - 1)]
    code = one_persona_code()
    assert "p00012" in code
    loop = textwrap.indent(code.replace('"p00012"', "persona"), "    ")
    program = f"read = []\nfor persona in {asked}:\n{loop}"
    program += "    read.append(pairs)\nimport json\nprint(json.dumps(read))\n"
    header = "---\nconfigs:\n- config_name: dpf\n  data_files:\n  - {split: train, path: train.parquet}\n---\n"
    with hub_server() as server:
        server.commit("org/name", {"README.md": header, "train.parquet": path.read_bytes()}, ("v1.0.0",))
        read = run(server, tmp_path / "cache", program)
        sent = sum(sent for place, sent in server.bytes_sent.items() if place.endswith("train.parquet"))
    for persona, rows in zip(asked, read, strict=True):
        assert len(rows) == PAIRS
        assert rows == parquet.read_table(path, filters=[("persona_id", "==", persona)]).to_pylist()
    groups = [metadata.row_group(int(persona[1:]) // PERSONAS_PER_ROW_GROUP) for persona in asked]
    needed = sum(group.column(i).total_compressed_size for group in groups for i in range(group.num_columns))
    assert needed < size / 5
    # For each the end of the file, with the footer, once for the columns and once for the rows; the row group; what is read ahead of it.
    assert needed < sent <= needed + 3 * (2 * (metadata.serialized_size + BLOCK) + BLOCK)
    assert sent < size / 2


def test_the_footer_does_not_hold_texts(tmp_path):
    """Every reader fetches it whole. The smallest and largest text of each row group made it four times as large."""
    footers = []
    for characters in (20, 3000):
        write_by_persona(tmp_path, "dpf", tables(characters))
        footers.append(parquet.read_metadata(tmp_path / "tables" / "dpf.parquet"))
    assert footers[1].serialized_size < 1.1 * footers[0].serialized_size
    names = features("dpf").arrow_schema.names
    owner = footers[1].row_group(1).column(names.index("persona_id") + 1)  # `split` stands in front
    assert owner.path_in_schema == "persona_id"
    assert (owner.statistics.min, owner.statistics.max) == ("p00010", "p00019")


def test_the_code_of_the_documentation_runs(scripted_build, tmp_path):
    publish(scripted_build.folder, tmp_path / "data")
    train = parquet.read_table(next((tmp_path / "data" / "data" / "dpf").glob("train-*"))).to_pylist()
    persona = train[-1]["persona_id"]
    program = "\n".join(document_code()).replace("p00012", persona)
    program += """
import json
print(json.dumps({
    "everything": {split: rows.num_rows for split, rows in everything.items()},
    "paper_view": paper_view.num_rows,
    "question": question,
    "pairs": [row["pair_id"] for row in pairs],
    "kept": [list(kept["pair_id"]), list(kept["mirror_pair_id"])],
    "wrong": [[row["prompt"][0]["content"], profiles[row["wrong_persona_id"]]] for row in wrong],
}))
"""
    with hub_server() as server:
        server.commit("org/name", tmp_path / "data", ("v1.2.0",))
        got = run(server, tmp_path / "cache", program)
    splits = json.loads((tmp_path / "data" / "build.json").read_text())["configs"]["dpf"]
    assert got["everything"] == {split: entry["rows"] for split, entry in splits.items() if entry["rows"]}
    assert got["paper_view"] == splits["train"]["rows"] + splits["support"]["rows"]
    assert got["question"] == train[0]["prompt"][1]["content"]
    assert got["pairs"] == [row["pair_id"] for row in train if row["persona_id"] == persona]
    assert got["kept"][0]
    assert sorted(got["kept"][0]) == sorted(got["kept"][1])
    assert got["wrong"]
    assert all(shown == wanted for shown, wanted in got["wrong"])
