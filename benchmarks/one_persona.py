"""How many bytes of a published split are read for one persona's rows, footer included.

    python -m benchmarks.one_persona [--environments FOLDER] [--folder FOLDER]

Makes `dpf` in the paper's size (1,586 personas x 200 questions) of made-up words in realistic lengths, writes it as publishing does, puts
it on a Hub on 127.0.0.1, and reads one persona of each split with each reader, every time in a fresh process with an empty cache. Bytes
are counted at the server; the rows must be exactly that persona's.

DuckDB and Polars have the real Hub's address built in, so here they read the same file under its plain `http://` address. They live in
virtual environments under --environments, which are made on first use; without it they are left out. Takes about five minutes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from builder.pairs.assignment import assign_prompts
from builder.publishing.folder import write_pairs
from builder.randomness import rng_for
from builder.recipe import load_recipe
from builder.schema import (
    assistant_message,
    dpf_pair_id,
    persona_id,
    preference_messages,
    prompt_id,
    split_for,
)
from builder.tables import arrow_table, write_by_persona
from dataset_card.render import front_matter
from tests.hub_server import HubServer, environment, hub_server

REPOSITORY = "org/name"
# Characters of each text: a profile of all 33 attributes, and what the paper's templates ask of a model.
PROFILE, QUESTION, ANSWER, CRITIQUE = 1500, 100, 1300, 800
SYLLABLES = (
    "ba be bi da de do fa fe ga go ha he ka ke la le li lo ma me mi mo na ne no pa pe ra re ri ro sa se so ta te"
)
PHRASES = 30_000
PHRASE_CHARACTERS = 10  # on average, with the space

# What each reader runs: the variables `repository`, `split`, `file`, `url` and `persona` are set, and it prints the pair_ids that it got.
READERS = {
    "datasets": """
from datasets import load_dataset
small = {"hf": {"block_size": 2**16}}
wanted = [("persona_id", "==", persona)]
rows = load_dataset(repository, "dpf", split=split, streaming=True, filters=wanted, storage_options=small)
print(*(row["pair_id"] for row in rows))
""",
    "datasets, no block_size": """
from datasets import load_dataset
rows = load_dataset(repository, "dpf", split=split, streaming=True, filters=[("persona_id", "==", persona)])
print(*(row["pair_id"] for row in rows))
""",
    "datasets, not streaming": """
from datasets import load_dataset
rows = load_dataset(repository, "dpf", split=split, filters=[("persona_id", "==", persona)])
print(*rows["pair_id"])
""",
    "pyarrow": """
import os
import pyarrow.parquet as parquet
from huggingface_hub import HfFileSystem
hub = HfFileSystem(block_size=2**16)
rows = parquet.read_table(f"datasets/{repository}/{file}", filesystem=hub, filters=[("persona_id", "==", persona)])
print(*rows["pair_id"].to_pylist(), flush=True)
# Arrow's threads may still be reading ahead in the Python file, and abort a process that ends meanwhile (Arrow issue 45214).
os._exit(0)
""",
    "duckdb": """
import duckdb
import duckdb_extension_httpfs
from pathlib import Path
extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension"))
connection = duckdb.connect()
connection.execute(f"LOAD '{extension}'")
rows = connection.sql(f"SELECT * FROM '{url}' WHERE persona_id = '{persona}'")
place = rows.columns.index("pair_id")
print(*(row[place] for row in rows.fetchall()))
""",
    "polars": """
import polars
rows = polars.scan_parquet(url).filter(polars.col("persona_id") == persona).collect()
print(*rows["pair_id"].to_list())
""",
}
# What pip is asked for. DuckDB would download the extension that reads http by itself, from a server of its own.
PACKAGES = {"duckdb": ["duckdb==1.5.5", "duckdb-extension-httpfs==1.5.5"], "polars": ["polars==2.1.0"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--personas", type=int, default=1586)
    parser.add_argument("--folder", type=Path, help="keep the tables here, and take those that are there already")
    parser.add_argument("--environments", type=Path, help="folder for DuckDB and Polars")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        published = folder / "published"
        if not published.is_dir():
            make_dataset(folder / "run", published, arguments.personas)
        pythons = {}
        for reader in arguments.readers:
            if reader not in PACKAGES:
                pythons[reader] = sys.executable
            elif arguments.environments:
                pythons[reader] = python_with(arguments.environments / reader, PACKAGES[reader])
        with hub_server() as server:
            server.commit(REPOSITORY, published, ("v1.0.0",))
            measure(server, published, pythons)


def make_dataset(run: Path, published: Path, personas: int) -> None:
    started = time.monotonic()
    rows = write_by_persona(run, "dpf", tables(personas))
    made = time.monotonic()
    configs = {"dpf": write_pairs(published, run, "dpf")}
    header = front_matter({"recipe_name": "paper", "version": "1.0.0", "configs": configs})
    (published / "README.md").write_text(f"---\n{header}\n---\n", encoding="utf-8")
    print(
        f"{rows:,} rows made in {made - started:.0f} s, divided into splits in {time.monotonic() - made:.0f} s",
        flush=True,
    )


def tables(personas: int) -> Iterator[Any]:
    """One Arrow table a persona: the paper's recipe with made-up texts."""
    phrases = made_up_phrases()

    def text(rng: np.random.Generator, characters: int) -> str:
        return " ".join(phrases[drawn(rng, PHRASES, characters // PHRASE_CHARACTERS)].tolist())

    recipe = load_recipe("paper")
    rng = rng_for(0, "benchmark", "questions")
    train = recipe.prompts.count - recipe.prompts.heldout
    prompts = [
        {"prompt_id": prompt_id(i), "pool": "train" if i < train else "heldout"} for i in range(recipe.prompts.count)
    ]
    questions = {p["prompt_id"]: text(rng, QUESTION) for p in prompts}
    base = {p["prompt_id"]: text(rng, ANSWER) for p in prompts}
    seen = set(rng.permutation(personas)[: round(personas * 1000 / 1586)].tolist())
    for index in range(personas):
        persona, group = persona_id(index), "seen" if index in seen else "unseen"
        rng = rng_for(0, "benchmark", persona)
        profile = text(rng, PROFILE)
        rows = [
            {
                "split": split_for(asked.part, group),
                "pair_id": dpf_pair_id(persona, asked.prompt_id),
                "persona_id": persona,
                "prompt_id": asked.prompt_id,
                "prompt": preference_messages(profile, questions[asked.prompt_id]),
                "chosen": assistant_message(text(rng, ANSWER)),
                "rejected": assistant_message(base[asked.prompt_id]),
                "topic": f"topic {int(asked.prompt_id[1:]) % 40}",
                "persona_group": group,
                "is_adult": True,
                "wrong_persona_id": persona_id(int(rng.integers(personas))),
                "judge": "roleplay",
                "judge_verdict": "chosen",
                "judge_score": float(rng.random()),
                "prompt_tokens": int(rng.integers(300, 500)),
                "chosen_tokens": int(rng.integers(200, 400)),
                "rejected_tokens": int(rng.integers(200, 400)),
                "length_violation": bool(rng.random() < 0.2),
                "attribute_leak": False,
                "inferable_attributes": [],
                "base_id": f"base/{asked.prompt_id}",
                "critique": text(rng, CRITIQUE),
            }
            for asked in assign_prompts(0, recipe.pairs, [persona], prompts)
        ]
        yield arrow_table("dpf", rows)


def made_up_phrases() -> Any:
    """One to three words each, in the order of how often they are to be drawn. Texts of them compress about threefold, as English does."""
    rng = rng_for(0, "benchmark", "words")
    made = {"".join(rng.choice(SYLLABLES.split(), rng.integers(1, 5))) for _ in range(20_000)}
    words = np.array(sorted(made, key=lambda word: (len(word), word)), dtype=object)
    taken = words[drawn(rng, len(words), 3 * PHRASES)].tolist()
    return np.array([" ".join(taken[3 * i : 3 * i + 1 + i % 3]) for i in range(PHRASES)], dtype=object)


def drawn(rng: np.random.Generator, below: int, count: int) -> Any:
    """`count` indices below `below`, the smaller ones oftener (Zipf)."""
    weights = np.cumsum(1 / (np.arange(below) + 2.7))
    return np.searchsorted(weights, rng.random(count) * weights[-1])


def measure(server: HubServer, published: Path, pythons: dict[str, str]) -> None:
    head = f"{'split':<14}{'bytes':>13}{'row groups':>12}{'footer':>9}  {'reader':<25}{'requests':>9}{'bytes read':>13}"
    print(f"{head}{'share':>9}{'seconds':>9}")
    for path in sorted((published / "data" / "dpf").iterdir()):
        split, size, metadata = path.name.split("-")[0], path.stat().st_size, parquet.read_metadata(path)
        columns = parquet.read_table(path, columns=["persona_id", "pair_id"])
        owners = columns["persona_id"].to_pylist()
        persona = sorted(set(owners))[len(set(owners)) // 2]
        wanted = [pair for pair, owner in zip(columns["pair_id"].to_pylist(), owners, strict=True) if owner == persona]
        file = path.relative_to(published).as_posix()
        url = f"{server.base_url}/datasets/{REPOSITORY}/resolve/v1.0.0/{file}"
        values = {"repository": REPOSITORY, "split": split, "file": file, "url": url, "persona": persona}
        for reader, python in pythons.items():
            server.requests.clear()
            server.bytes_sent.clear()
            got, seconds = read(server, python, values, READERS[reader])
            if got != wanted:
                raise SystemExit(f"{reader} read {len(got)} rows of {persona} from {split}, not its {len(wanted)}.")
            # Of all data files: `datasets` takes the columns from the footer of the first split, and without streaming reads them all.
            taken = sum(sent for place, sent in server.bytes_sent.items() if place.endswith(".parquet"))
            requests = sum(place.endswith(".parquet") for _, place in server.requests)
            line = f"{split:<14}{size:>13,}{metadata.num_row_groups:>12}{metadata.serialized_size:>9,}  {reader:<25}"
            print(f"{line}{requests:>9}{taken:>13,}{taken / size:>9.2%}{seconds:>9.1f}", flush=True)


def read(server: HubServer, python: str, values: dict[str, str], program: str) -> tuple[list[str], float]:
    """The pair_ids that the program prints, and its seconds, start-up included."""
    lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [python, "-c", lines + program],
            env=environment(server, Path(cache)),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"This failed:\n{lines}{program}\n{done.stderr[-3000:]}")
    return done.stdout.split(), time.monotonic() - started


def python_with(folder: Path, packages: list[str]) -> str:
    """The interpreter of the virtual environment in `folder`, made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


if __name__ == "__main__":
    main()
