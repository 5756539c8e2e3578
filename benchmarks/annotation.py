"""A human study under load: many simulated raters at once go through `persona annotate serve`, and every answer is looked for afterwards.

    python -m benchmarks.annotation [--raters 200] [--think 4] [--json FILE]

A study with a place for every rater (10 questions and 1 check each, answers of 150 words) is written into a temporary folder; the server
is the command line's own, in a process of its own, and so are the raters, on loopback. All of them are there from the start: before each
click a rater thinks for a time that is drawn evenly from 0.5 to 1.5 times --think seconds; the next page follows at once. People
take a minute a question; 4 seconds ask the server for an order of magnitude more than so many people would.

  page, answer   milliseconds from the request to the last byte of its response: a GET, and a POST that saves an answer
  page without database, client late by
                 beside them, ten times a second: what the queue and the machine cost whatever is asked, so that a crowded machine is seen
  lost           answers that were answered with a redirect and are not in the database afterwards, or not as they were sent
  twice          answers that the database counts more than once, or as changed although nobody changed one

Then the same server, alone with one rater who does not think: a saved answer beside Store.save on a database of the same size in this
process, and a question's page beside a page that needs no database, taken in turns. Their ratios say what HTTP and the page cost on top.
Exit code 1 when an answer was lost or is there twice, or a rater got something else than the study's pages.
"""

import argparse
import asyncio
import html
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from builder.randomness import rng_for
from eval.human.material import Item, Material, ShownPersona
from eval.human.opening import open_store
from eval.human.store import Store
from eval.human.study import load_study

ROOT = Path(__file__).parent.parent
AIM = 300  # milliseconds, of the 95th percentile
RATERS_PER_PERSONA = 4
ALONE = 8  # raters of the comparison, one after the other
WORDS = ("fairness", "freedom", "family", "faith", "work", "health", "money", "time", "trust", "safety", "duty", "care")
QUESTIONS = 10
# What the forms hold. The attributes stand in this order in our pages; a page that has them otherwise is a failure here, not a slow page.
HIDDEN = re.compile(r'name="(item|n)"[^>]*value="([^"]*)"')
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=200, help="at once")
    parser.add_argument("--think", type=float, default=4.0, help="mean seconds before each click")
    parser.add_argument("--seed", type=int, default=0, help="of the thinking times and of what is answered")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--drive", nargs=2, metavar=("URL", "TOKENS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        url, tokens = arguments.drive
        print(json.dumps(asyncio.run(drive(url, json.loads(Path(tokens).read_text()), arguments))))
        return

    with tempfile.TemporaryDirectory(prefix="annotation-") as name:
        result = measure(Path(name), arguments)
    print_result(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if result["lost"] or result["twice"] or result["failed"]:
        first = f"; the first: {result['failed'][0]}" if result["failed"] else ""
        raise SystemExit(
            f"{result['lost']} answers lost, {result['twice']} there twice, {len(result['failed'])} raters stopped{first}"
        )


def measure(folder: Path, arguments: argparse.Namespace) -> Result:
    study_path = folder / "study.yaml"
    personas = -(-(arguments.raters + ALONE) // RATERS_PER_PERSONA)
    study_path.write_text(json.dumps(study_file(personas)))  # JSON is YAML
    study = load_study(study_path)
    store = open_store(study_path.with_suffix(".sqlite"), study, lambda: material(personas))
    tokens = store.issue_tokens(arguments.raters + ALONE)
    ids = {token: rater.rater_id for token in tokens if (rater := store.rater(token))}
    bare = open_store(folder / "bare.sqlite", study, lambda: material(personas))

    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = folder / "log.txt"
    with log.open("w") as output:
        command = [sys.executable, "-m", "persona", "annotate", "serve", str(study_path), "--port", str(port)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(url, server, log)
        before = cpu_seconds(server)
        crowd = drive_in_its_own_process(url, tokens[: arguments.raters], folder, arguments)
        cpu = cpu_seconds(server) - before
        peak = psutil.Process(server.pid).memory_info().rss / 2**20
        fill(bare, arguments.raters)
        alone = asyncio.run(compare(url, tokens[arguments.raters :], bare, arguments.seed))
    finally:
        server.terminate()
        server.wait()

    sent = {(ids[token], item): (choice, reason) for token, item, choice, reason in crowd["sent"] + alone["sent"]}
    store.close()
    store = open_store(study_path.with_suffix(".sqlite"), study, lambda: material(personas), create=False)
    there = store.answers()
    kept = {(answer.rater_id, answer.item_id): (answer.choice, answer.reason) for answer in there}
    finished = sum(rater.state == "finished" for rater in store.raters())
    return {
        "raters": arguments.raters,
        "think_s": arguments.think,
        "cores": psutil.cpu_count(),
        "finished": finished,
        "sent": len(sent),
        "in_database": len(there),
        "lost": sum(kept.get(key) != value for key, value in sent.items()),
        "failed": crowd["failed"],
        "twice": len(there) - len(kept) + sum(answer.changes for answer in there),
        "seconds": crowd["seconds"],
        "answers_per_s": len(crowd["sent"]) / crowd["seconds"],
        "requests_per_s": (len(crowd["page_ms"]) + len(crowd["answer_ms"])) / crowd["seconds"],
        "page": percentiles(crowd["page_ms"]),
        "answer": percentiles(crowd["answer_ms"]),
        "plain_page": percentiles(crowd["plain_page_ms"]),
        "late": percentiles(crowd["late_ms"]),
        "server_cpu_ms_per_request": cpu * 1000 / (len(crowd["page_ms"]) + len(crowd["answer_ms"])),
        "server_cores": cpu / crowd["seconds"],
        "server_mib": peak,
        "alone": {name: percentiles(values) for name, values in alone.items() if name != "sent"},
    }


def study_file(personas: int) -> Result:
    """With limits that simulated raters, who are fast, do not meet."""
    return {
        "title": "Load test",
        "dataset": "none",  # the database has its material before the server starts
        "consent": dict.fromkeys(("who", "purpose", "payment", "data", "contact"), "A load test; nobody takes part."),
        "completion_code": "LOADTEST",
        "personas": personas,
        "raters_per_persona": RATERS_PER_PERSONA,
        "questions_per_rater": QUESTIONS,
        "requests_per_minute": 1_000_000,
    }


def material(personas: int) -> Material:
    """Cards of ten lines; answers of 150 words."""
    shown = []
    for number in range(personas):
        persona = f"p{number:06d}"
        items = [
            Item(
                item_id=f"{persona}/{index}",
                kind="contrast" if index % 2 else "dpf",
                persona_id=persona,
                pair_id=f"pair{number}-{index}",
                question=f"Question {index}: {text(number, index, 20)}?",
                answers=(text(number, index, 150), text(index, number + 1, 150)),
            )
            for index in range(QUESTIONS)
        ]
        answers = ("Choose this one.", "Do not choose this one.")
        items.append(Item(f"check/{number}", "check", persona, f"check/{number}", "Which one?", answers))
        card = tuple((f"attribute {line}", text(number, line, 4)) for line in range(10))
        shown.append(ShownPersona(persona, card, tuple(items), tuple(item.item_id for item in items)))
    return Material("load-test", None, tuple(shown))


def text(one: int, other: int, words: int) -> str:
    return " ".join(WORDS[(one * 7 + other * 3 + i * i) % len(WORDS)] for i in range(words))


def reasoning(token: str, item: str) -> str:
    """Says whose it is, so that an answer at the wrong place is found."""
    return f"{token[:6]} chose so on {item}, because the answer fits what the card says. " + "It does so plainly. " * 5


def wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"The server ended: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("The server did not answer within a minute.")


def cpu_seconds(process: "subprocess.Popen[bytes]") -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def drive_in_its_own_process(url: str, tokens: list[str], folder: Path, arguments: argparse.Namespace) -> Result:
    path = folder / "tokens.json"
    path.write_text(json.dumps(tokens))
    command = [sys.executable, "-m", "benchmarks.annotation", "--drive", url, str(path)]
    command += ["--think", str(arguments.think), "--seed", str(arguments.seed)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(done.stdout)
    return result


async def drive(url: str, tokens: list[str], arguments: argparse.Namespace) -> Result:
    """All raters at once."""
    import aiohttp

    found: Result = {"page_ms": [], "answer_ms": [], "sent": [], "plain_page_ms": [], "late_ms": []}
    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        raters = [
            rate(session, url, token, arguments.think, rng_for(arguments.seed, "load_test", str(number)), found)
            for number, token in enumerate(tokens)
        ]
        probe = asyncio.create_task(probes(session, url, found))
        ended = await asyncio.gather(*raters, return_exceptions=True)
        probe.cancel()
    failed = [str(error) for error in ended if error is not None]
    return {**found, "failed": failed, "seconds": time.monotonic() - started}


async def probes(session: Any, url: str, found: Result) -> None:
    """Beside the raters, ten times a second: a page without a database, and how late a sleep of this process ends."""
    while True:
        started = time.perf_counter()
        await asyncio.sleep(0.1)
        found["late_ms"].append((time.perf_counter() - started - 0.1) * 1000)
        started = time.perf_counter()
        async with session.get(f"{url}/") as response:
            await response.read()
        found["plain_page_ms"].append((time.perf_counter() - started) * 1000)


async def rate(session: Any, url: str, token: str, think: float, rng: np.random.Generator, found: Result) -> None:
    """One rater, from the link to the completion code. Fails where a response is not what the study's pages promise."""

    async def pause() -> None:
        if think:
            await asyncio.sleep(float(think * rng.uniform(0.5, 1.5)))

    async def get(path: str) -> str:
        started = time.perf_counter()
        async with session.get(f"{url}{path}", allow_redirects=False) as response:
            page: str = await response.text()
        found["page_ms"].append((time.perf_counter() - started) * 1000)
        if response.status != 200:
            raise RuntimeError(f"GET {path.partition('?')[0]} gave {response.status}: {page[:300]}")
        return page

    async def post(path: str, form: dict[str, str], saves: bool = False) -> None:
        started = time.perf_counter()
        async with session.post(f"{url}{path}", data={"token": token, **form}, allow_redirects=False) as response:
            page = await response.text()
        if saves:
            found["answer_ms"].append((time.perf_counter() - started) * 1000)
        if response.status != 303:
            raise RuntimeError(f"POST {path} gave {response.status}, not a redirect: {page[:300]}")

    await pause()
    await get(f"/?token={token}")
    await pause()
    await post("/begin", {"consent": "yes"})
    for number in range(1, QUESTIONS + 2):
        fields = dict(HIDDEN.findall(await get(f"/question?token={token}&n={number}")))
        await pause()
        item, choice = html.unescape(fields["item"]), "AB"[int(rng.integers(2))]
        reason = reasoning(token, item)
        form = {"item": item, "choice": choice, "reason": reason, "pasted": "0"}
        await post("/answer", form, saves=True)
        found["sent"].append((token, item, choice, reason.strip()))
    await get(f"/finish?token={token}")
    await post("/finish", {})
    await get(f"/thanks?token={token}")


def fill(store: Store, raters: int) -> None:
    """As many answers as the server's database holds by now."""
    for number in range(raters):
        answer_all(store, number)


def answer_all(store: Store, number: int) -> list[float]:
    """Milliseconds of every save, of one more rater."""
    token = store.issue_tokens(1)[0]
    rater = store.rater(token)
    assert rater is not None
    rater = store.begin(rater.rater_id)
    taken = []
    for item, _ in store.items_of(rater):
        store.show(rater.rater_id, item)
        started = time.perf_counter()
        store.save(rater.rater_id, item, "AB"[number % 2], reasoning(token, item))
        taken.append((time.perf_counter() - started) * 1000)
    return taken


async def compare(url: str, tokens: list[str], bare: Store, seed: int) -> Result:
    """One rater at a time, then as many bare saves and as many pages without a database, in turns."""
    import aiohttp

    found: Result = {"page_ms": [], "answer_ms": [], "sent": [], "save_ms": [], "plain_page_ms": []}
    async with aiohttp.ClientSession() as session:
        for number, token in enumerate(tokens):
            await rate(session, url, token, 0, rng_for(seed, "load_test_alone", str(number)), found)
            found["save_ms"] += answer_all(bare, number)
            for _ in range(QUESTIONS):
                started = time.perf_counter()
                async with session.get(f"{url}/") as response:
                    await response.read()
                found["plain_page_ms"].append((time.perf_counter() - started) * 1000)
    return found


def percentiles(milliseconds: list[float]) -> Result:
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"count": len(milliseconds), "p50": float(p50), "p95": float(p95), "max": max(milliseconds)}


def print_result(result: Result) -> None:
    print(
        f"{result['raters']} raters at once, {result['think_s']:g} s before each click, {result['cores']} cores: "
        f"{result['seconds']:.1f} s, {result['answers_per_s']:.1f} answers/s, {result['requests_per_s']:.1f} requests/s"
    )
    print(f"{'milliseconds':<34}{'count':>8}{'p50':>9}{'p95':>9}{'max':>9}")
    alone = result["alone"]
    for name, row in {
        "page": result["page"],
        "answer": result["answer"],
        "page without database": result["plain_page"],
        "client late by": result["late"],
        "alone: page": alone["page_ms"],
        "alone: page without database": alone["plain_page_ms"],
        "alone: answer": alone["answer_ms"],
        "alone: Store.save, no HTTP": alone["save_ms"],
    }.items():
        print(f"{name:<34}{row['count']:>8,}{row['p50']:>9.1f}{row['p95']:>9.1f}{row['max']:>9.1f}")
    print(
        f"alone: an answer takes {alone['answer_ms']['p50'] / alone['save_ms']['p50']:.1f} times a bare save, a page "
        f"{alone['page_ms']['p50'] / alone['plain_page_ms']['p50']:.1f} times one without database"
    )
    print(
        f"server: {result['server_cpu_ms_per_request']:.1f} ms of processor time a request, {result['server_cores']:.2f} cores, "
        f"{result['server_mib']:.0f} MiB"
    )
    slowest = max(result["page"]["p95"], result["answer"]["p95"])
    print(
        f"{result['sent']:,} answers sent, {result['in_database']:,} in the database, {result['lost']} lost, {result['twice']} twice, "
        f"{result['finished']} raters finished; p95 {slowest:.0f} ms, aim {AIM} ms: {'met' if slowest <= AIM else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
