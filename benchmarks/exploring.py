"""How quickly `persona explore` answers on a dataset of a million pairs, beside reading the same rows as one would without it.

    python -m benchmarks.exploring [--rows 1000000] [--folder FOLDER] [--repeats 15] [--dataset PUBLISHED]

Makes a published folder of made-up words in realistic lengths: half of the pairs in `dpf`, half in `contrast`, two verdicts a pair in
`judgements`. Starts the explorer, asks for each kind of page over HTTP, and prints the median, the 95th percentile and the worst of the
milliseconds; every request asks for something else, so that nothing comes from a cache. Then a fresh process answers some of the same
questions through `datasets` and through pandas, as far as `dpf` goes. At a million pairs the folder takes 1.0 GB and
the whole about ten minutes. --dataset: take this published folder instead.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import numpy as np

from benchmarks.one_persona import (
    ANSWER,
    CRITIQUE,
    PHRASE_CHARACTERS,
    PHRASES,
    PROFILE,
    QUESTION,
    drawn,
    made_up_phrases,
)
from builder.files import sha256_file, write_json, write_text
from builder.randomness import rng_for
from builder.schema import (
    ATTRIBUTES,
    BIG_FIVE,
    CANARY,
    SPLITS,
    assistant_message,
    contrast_pair_id,
    dpf_pair_id,
    persona_id,
    preference_messages,
    prompt_id,
)
from builder.tables import RowGroups, arrow_table, table_schema

ROOT = Path(__file__).parent.parent
QUESTIONS, PER_PERSONA, TOPICS = 3868, 200, 40
# Split -> questions of a seen persona; an unseen one's training questions are its support.
SHARES = {"train": 100, "seen_test": 50, "heldout_test": 50}
JUDGEMENTS_PER_ROW_GROUP = 16_000  # as builds write them
RARE = "zyzzyva"  # stands in one answer of RARE_EVERY
RARE_EVERY = 20_000
WORDS = "no such word in dpf, chosen"
SLOW = ("words that hit seldom", "words that are never there", WORDS)  # asked three times

PEERS = {
    "datasets": """
from datasets import load_dataset
tables = load_dataset(folder, "dpf", cache_dir=cache)
def by(column, value):
    return [table.filter(lambda values: [v == value for v in values], batched=True, input_columns=[column],
        keep_in_memory=True, load_from_cache_file=False)[:] for table in tables.values()]
ask = {
    "one persona": lambda: by("persona_id", persona),
    "one question": lambda: by("prompt_id", question),
    "no such word in dpf, chosen": lambda: [table.filter(lambda column: [never in messages[0]["content"] for messages in column],
        batched=True, input_columns=["chosen"], keep_in_memory=True, load_from_cache_file=False) for table in tables.values()],
}
""",
    "pandas": """
import pandas
from pathlib import Path
files = sorted(Path(folder, "data", "dpf").iterdir())
def read(columns, **more):
    return pandas.concat(pandas.read_parquet(file, columns=columns, **more) for file in files)
ask = {
    "one persona": lambda: read(None, filters=[("persona_id", "==", persona)]),
    "one question": lambda: read(None, filters=[("prompt_id", "==", question)]),
    "no such word in dpf, chosen": lambda: sum(int(pandas.read_parquet(file, columns=["chosen"])["chosen"]
        .map(lambda messages: never in messages[0]["content"]).sum()) for file in files),
}
""",
}
PEER_END = """
import json, resource, sys, time
seconds = {"start": time.monotonic() - began}
for name, answer in ask.items():
    started = time.monotonic()
    answer()
    seconds[name] = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
print(json.dumps([seconds, peak]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the dataset here, and take the one that is there already")
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        published = arguments.dataset or (arguments.folder or Path(temporary)) / "published"
        if not (published / "README.md").is_file():
            started = time.monotonic()
            make_dataset(published, arguments.rows)
            size = sum(path.stat().st_size for path in published.rglob("*.parquet")) / 1e6
            print(f"{published.name}: {size:,.0f} MB made in {time.monotonic() - started:.0f} s", flush=True)
        medians = measure(published, arguments.repeats)
        for name in arguments.peers:
            compare(name, published, Path(temporary) / "cache", medians)


def make_dataset(folder: Path, rows: int) -> None:
    """The published folder; README.md is written last, so that what was broken off is made again."""
    phrases = made_up_phrases()

    def text(rng: np.random.Generator, characters: int) -> str:
        return " ".join(phrases[drawn(rng, PHRASES, max(1, characters // PHRASE_CHARACTERS))].tolist())

    rng = rng_for(0, "benchmark", "questions")
    questions = [text(rng, QUESTION) + "?" for _ in range(QUESTIONS)]
    base = [text(rng, ANSWER) for _ in range(QUESTIONS)]
    files: dict[str, dict[str, Any]] = {"dpf": {}, "contrast": {}}
    for config, writers in files.items():
        (folder / "data" / config).mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            writers[split] = RowGroups(folder / "data" / config / f"{split}.parquet", table_schema(config).remove(0))
    (folder / "data" / "judgements").mkdir(exist_ok=True)
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    judged = parquet.ParquetWriter(
        folder / "data" / "judgements" / "train.parquet", table_schema("judgements"), compression="zstd"
    )
    personas: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    total = 0
    # Two personas at a time, who are each other's partner.
    for couple in range(max(1, rows // (4 * PER_PERSONA))):
        rng = rng_for(0, "benchmark", f"couple/{couple}")
        ids = [persona_id(2 * couple), persona_id(2 * couple + 1)]
        profiles = [text(rng, PROFILE) for _ in ids]
        group = "seen" if couple % 8 < 5 else "unseen"
        asked = np.sort(rng.choice(QUESTIONS, PER_PERSONA, replace=False))
        parts = np.repeat(list(SHARES), list(SHARES.values()))[rng.permutation(PER_PERSONA)]
        answers = [[text(rng, int(rng.integers(ANSWER // 2, 2 * ANSWER))) for _ in asked] for _ in ids]
        for own, other in ((0, 1), (1, 0)):
            tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for place, number in enumerate(asked.tolist()):
                split = "support" if parts[place] == "train" and group == "unseen" else str(parts[place])
                if (2 * couple + own) * PER_PERSONA % RARE_EVERY < PER_PERSONA and place == 7:
                    answers[own][place] += f" {RARE}"
                shared = row_of(ids[own], number, group, preference_messages(profiles[own], questions[number]), rng)
                dpf = {
                    "pair_id": dpf_pair_id(ids[own], prompt_id(number)),
                    "chosen": assistant_message(answers[own][place]),
                    "rejected": assistant_message(base[number]),
                    "base_id": f"base/{prompt_id(number)}",
                    "critique": text(rng, CRITIQUE),
                }
                contrast = {
                    "pair_id": contrast_pair_id(ids[own], ids[other], prompt_id(number)),
                    "chosen": assistant_message(answers[own][place]),
                    "rejected": assistant_message(answers[other][place]),
                    "partner_persona_id": ids[other],
                    "partner_distance": 0.8,
                    "mirror_pair_id": contrast_pair_id(ids[other], ids[own], prompt_id(number)),
                    "flips": [
                        {"judge": "roleplay", "flip": bool(rng.random() < 0.3), "margin": 0.1, "is_selector": True}
                    ],
                }
                tables.setdefault(("dpf", split), []).append({**shared, **dpf})
                tables.setdefault(("contrast", split), []).append({**shared, **contrast})
            for (config, split), own_rows in tables.items():
                total += len(own_rows)
                schema = table_schema(config).remove(0)
                files[config][split].add(
                    arrow.Table.from_pylist([{n: r[n] for n in schema.names} for r in own_rows], schema=schema)
                )
                for row in own_rows:
                    for order in ("AB", "BA"):
                        verdict = {"verdict": row["judge_verdict"], "probability": row["judge_score"], "reason": None}
                        said.append(
                            {
                                "pair_id": row["pair_id"],
                                "judge": "roleplay",
                                "condition": "true",
                                "order": order,
                                **verdict,
                            }
                        )
            personas.append(person_of(ids[own], group, profiles[own], rng))
        if len(said) >= JUDGEMENTS_PER_ROW_GROUP:
            judged.write_table(arrow_table("judgements", said))
            said = []
        if couple % 100 == 99:
            print(f"{total:,} pairs made", file=sys.stderr, flush=True)
    if said:
        judged.write_table(arrow_table("judgements", said))
    judged.close()
    for writers in files.values():
        for writer in writers.values():
            writer.close()
    for config, own_rows in (
        ("personas", personas),
        ("prompts", [question_of(n, questions[n]) for n in range(QUESTIONS)]),
    ):
        (folder / "data" / config).mkdir(exist_ok=True)
        parquet.write_table(
            arrow_table(config, own_rows), folder / "data" / config / "train.parquet", compression="zstd"
        )
    write_card(folder)


def row_of(persona: str, number: int, group: str, prompt: Any, rng: np.random.Generator) -> dict[str, Any]:
    verdicts = ("chosen", "rejected", "tie")
    return {
        "persona_id": persona,
        "prompt_id": prompt_id(number),
        "prompt": prompt,
        "topic": f"topic {number % TOPICS}",
        "persona_group": group,
        "is_adult": True,
        "wrong_persona_id": persona_id(0),
        "judge": "roleplay",
        "judge_verdict": verdicts[int(rng.integers(3))],
        "judge_score": float(rng.random()),
        "prompt_tokens": int(rng.integers(300, 500)),
        "chosen_tokens": int(rng.integers(200, 400)),
        "rejected_tokens": int(rng.integers(200, 400)),
        "length_violation": bool(rng.random() < 0.2),
        "attribute_leak": bool(rng.random() < 0.05),
        "inferable_attributes": [],
    }


def person_of(persona: str, group: str, profile: str, rng: np.random.Generator) -> dict[str, Any]:
    values = dict.fromkeys(ATTRIBUTES) | {
        "age": int(rng.integers(18, 90)),
        "income": int(rng.integers(0, 200)) * 1000,
        "religion": f"religion {rng.integers(12)}",
        "sex": ("Female", "Male")[int(rng.integers(2))],
        "big_five_scores": dict.fromkeys(BIG_FIVE, "Average"),
    }
    extras = {"core_values": ["honesty"], "entertainment_preferences": ["books"]}
    known = {
        "persona_id": persona,
        "group": group,
        "is_adult": True,
        "weight": 100,
        "profile": profile,
        "extras": extras,
    }
    return {**values, **known, "null_reasons": dict.fromkeys(ATTRIBUTES), "provenance": dict.fromkeys(ATTRIBUTES)}


def question_of(number: int, question: str) -> dict[str, Any]:
    given = {"source": "benchmark", "source_id": str(number), "licence": "CC0-1.0", "canary": CANARY}
    votes = {"controversy_score": 1.0, "controversy_votes": [True]}
    return {
        "prompt_id": prompt_id(number),
        "question": question,
        "topic": f"topic {number % TOPICS}",
        "pool": "train",
        **votes,
        **given,
    }


def write_card(folder: Path) -> None:
    """Names with the hash of the content, build.json, and a README.md that lists them, as publishing does."""
    configs: list[dict[str, Any]] = []
    for config in ("dpf", "contrast", "personas", "prompts", "judgements"):
        listed = []
        for split in SPLITS:
            path = folder / "data" / config / f"{split}.parquet"
            if path.is_file():
                named = path.rename(path.with_name(f"{split}-00000-of-00001-{sha256_file(path)[:12]}.parquet"))
                listed.append({"split": split, "path": named.relative_to(folder).as_posix()})
        configs.append({"config_name": config, "data_files": listed})
    write_json(
        folder / "build.json", {"name": "benchmark", "version": "1.0.0", "configs": {}, "content_sha256": "benchmark"}
    )
    import yaml

    header = yaml.safe_dump({"configs": configs}, sort_keys=False)
    write_text(folder / "README.md", f"---\n{header}---\n\n# Made-up data\n")


@contextmanager
def explorer(published: Path) -> Iterator[tuple[str, int]]:
    """(address, process id) of a running explorer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    command = [sys.executable, "-m", "persona", "explore", str(published), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                httpx2.get(f"{address}/", timeout=30)
                break
            except httpx2.HTTPError:
                if process.poll() is not None:
                    raise SystemExit("The explorer ended.") from None
                time.sleep(0.1)
        print(f"The first page came {time.monotonic() - started:.1f} s after the start.", flush=True)
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def measure(published: Path, repeats: int) -> dict[str, float]:
    """Prints the table; gives the median seconds of each kind of page."""
    people, asked, topics, words, total = facts(published)
    rng = rng_for(0, "benchmark", "asked")

    def one(values: list[str]) -> str:
        return values[int(rng.integers(len(values)))]

    def pairs(**values: Any) -> str:
        return f"/pairs?{urlencode(values)}"

    def deep() -> str:
        return pairs(after=int(rng.integers(total * 8 // 10, total - 100)))

    pages: dict[str, Callable[[], str]] = {
        "home": lambda: "/",
        "pairs, first page": lambda: pairs(),
        "pairs, deep page": deep,
        "pairs before a deep one": lambda: pairs(before=int(rng.integers(total * 8 // 10, total - 100))),
        "one persona": lambda: pairs(persona=one(people)),
        "one question": lambda: pairs(prompt=one(asked)),
        "topic and verdict": lambda: pairs(topic=one(topics), verdict=one(["chosen", "rejected", "tie"])),
        "persona's page": lambda: f"/persona?id={one(people)}",
        "personas by attribute": lambda: f"/personas?show=religion&age={int(rng.integers(18, 60))}..75",
        "question's page": lambda: f"/prompt?id={one(asked)}",
        "words that hit often": lambda: pairs(q=one(words)),
        "words that hit seldom": lambda: pairs(q=f"{RARE}", after=int(rng.integers(0, 1000))),
        "words that are never there": lambda: pairs(q=f"nothing {int(rng.integers(10**9))}"),
        WORDS: lambda: pairs(q=f"nothing {int(rng.integers(10**9))}", config="dpf", **{"in": "chosen"}),
        "words, for one persona": lambda: pairs(q=f"nothing {int(rng.integers(10**9))}", persona=one(people)),
    }
    medians: dict[str, float] = {}
    print(f"{'page':<30}{'n':>4}{'p50 ms':>9}{'p95 ms':>9}{'worst':>9}{'KB':>7}")
    with explorer(published) as (address, process), httpx2.Client(timeout=60, base_url=address) as client:
        ids: list[str] = []

        def take(name: str, address: Callable[[], str], count: int) -> None:
            seconds, size = [], 0
            for _ in range(count):
                began = time.monotonic()
                answer = client.get(address())
                seconds.append(time.monotonic() - began)
                answer.raise_for_status()
                size = len(answer.content)
                ids.extend(re.findall(r'href="(pair\?id=[^"&]+)', answer.text))
            medians[name] = float(np.median(seconds))
            figures = (1000 * np.percentile(seconds, p) for p in (50, 95, 100))
            print(
                f"{name:<30}{count:>4}" + "".join(f"{f:>9,.0f}" for f in figures) + f"{size / 1024:>7.0f}", flush=True
            )

        for name, make in pages.items():
            take(name, make, 3 if name in SLOW else repeats)
        found = sorted(set(ids))
        take("a pair", lambda: "/" + found[int(rng.integers(len(found)))], repeats)
        peak = (
            re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
            if os.path.isdir("/proc")
            else None
        )
        if peak:
            print(f"Peak memory of the explorer: {int(peak[1]) / 2**20:.2f} GiB")
    return medians


def facts(published: Path) -> tuple[list[str], list[str], list[str], list[str], int]:
    """Ids of personas and questions, topics, words that answers hold, and the number of pairs."""
    import pyarrow.parquet as parquet

    files = sorted((published / "data").glob("*/*.parquet"))
    total = sum(parquet.read_metadata(f).num_rows for f in files if f.parent.name in ("dpf", "dpf_matched", "contrast"))
    first = next(f for f in files if f.parent.name == "dpf")
    people = parquet.read_table(next(f for f in files if f.parent.name == "personas"), columns=["persona_id"])
    prompts = parquet.read_table(next(f for f in files if f.parent.name == "prompts"), columns=["prompt_id", "topic"])
    texts = parquet.ParquetFile(first).read_row_group(0, columns=["chosen"])["chosen"].slice(0, 20).to_pylist()
    words = sorted(
        {word.strip(".,?").lower() for text in texts for word in text[0]["content"].split() if len(word) > 3}
    )
    columns = (people["persona_id"], prompts["prompt_id"], prompts["topic"])
    ids = [sorted({str(value) for value in column.to_pylist() if value is not None}) for column in columns]
    return ids[0], ids[1], ids[2], words, total


def compare(peer: str, published: Path, cache: Path, medians: dict[str, float]) -> None:
    """The same questions in a fresh process without the explorer: on `dpf` alone, which is half of what the explorer looks at."""
    import json

    people, asked, *_ = facts(published)
    values = {
        "folder": str(published),
        "persona": people[len(people) // 2],
        "question": asked[len(asked) // 2],
        "never": "nothing 1",
        "cache": str(cache),
    }
    lines = "import time\nbegan = time.monotonic()\n" + "\n".join(
        f"{name} = {value!r}" for name, value in values.items()
    )
    done = subprocess.run(
        [sys.executable, "-c", lines + PEERS[peer] + PEER_END], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    print(f"{peer}, on dpf alone: ready after {seconds.pop('start'):.1f} s, peak {peak:.2f} GiB")
    for name, taken in seconds.items():
        print(
            f"  {name:<28}{1000 * taken:>9,.0f} ms, {taken / medians[name]:>7,.1f} times the explorer's page",
            flush=True,
        )


if __name__ == "__main__":
    main()
