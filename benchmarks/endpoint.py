"""Calls a second to an OpenAI-compatible endpoint, each answer recorded: ours beside the tools that a user would pick instead.

    python -m benchmarks.endpoint --environments FOLDER [--calls 20000] [--peer-calls 5000] [--json result.json]

Every tool asks the same questions of the same kind of server (benchmarks/endpoint_server.py: 200 ms a call and 200 at once, so 1,000
calls a second at most), one tool after the other, each in a fresh process that shares the machine with the server. How each is set
stands in benchmarks/endpoint_peers.py; ours is ModelCalls on an endpoint with the record on disk, as a build uses it. The others live in
virtual environments under --environments, which are made on first use (about 3 GB); one that does not install is left out and said so.

  calls/s     calls by seconds, from the tool's first line of work to its last answer on disk; imports left out
  sustained   calls/s of the middle 80 % of the answers, by the server's clock: without what a tool does before and after its calls
  CPU ms/call processor time of the tool, start-up included: what stays the same on a busy machine
  ours/its    the ratio of calls/s
  peak        memory of the tool with all its processes, shared pages counted once where the system says so (Linux)
  grew        by how much that rose between a quarter of the way and the end
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

# What pip is asked for, by environment. requests: distilabel imports it and no longer gets it from its dependencies.
PEERS = {
    "distilabel": ["distilabel[openai]==1.5.3", "requests"],
    "bespokelabs-curator": ["bespokelabs-curator==0.1.31"],
    "inspect-ai": ["inspect-ai==0.3.285", "openai"],
    # A range, so that pip can take the version before where the newest asks for what an index has not.
    "data-designer": ["data-designer>=0.9.6,<=0.9.7"],
}
WORDS = ("fairness", "freedom", "family", "faith", "work", "health", "money", "time", "trust", "safety", "duty", "care")
ROOT = Path(__file__).parent.parent
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, help="calls of ours")
    parser.add_argument("--peer-calls", type=int, default=5_000, help="calls of each other tool")
    parser.add_argument("--concurrency", type=int, default=200, help="calls at once that each tool may make")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long the server takes for a call")
    parser.add_argument("--at-once", type=int, default=200, help="calls that the server works on at once")
    parser.add_argument("--prompt-words", type=int, default=300)
    parser.add_argument(
        "--environments", type=Path, help="folder for the other tools; without it only ours is measured"
    )
    parser.add_argument("--tools", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--measure", nargs=3, metavar=("URL", "PROMPTS", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        url, prompts, folder = arguments.measure
        print("\n" + json.dumps(ours(url, json.loads(Path(prompts).read_text()), Path(folder), arguments.concurrency)))
        return

    print(
        f"server: {arguments.seconds * 1000:.0f} ms a call, {arguments.at_once} at once: at most "
        f"{arguments.at_once / arguments.seconds:,.0f} calls/s; {arguments.concurrency} calls at once, prompts of "
        f"{arguments.prompt_words} words, {psutil.cpu_count()} cores"
    )
    print(
        f"{'tool':<21}{'version':<12}{'calls':>7}{'answers':>9}{'seconds':>9}{'calls/s':>9}{'sustained':>11}{'CPU ms/call':>13}"
        f"{'peak MiB':>10}{'grew MiB':>10}{'ours/its':>10}"
    )
    results: dict[str, Result] = {}
    for tool in ["ours", *(arguments.tools if arguments.environments else [])]:
        python: Path | str = sys.executable
        if tool != "ours":
            python, reason = environment(arguments.environments / tool, tool)
            if reason:
                results[tool] = {"left_out": reason}
                print(f"{tool:<21}left out: {reason}", flush=True)
                continue
        count = arguments.calls if tool == "ours" else arguments.peer_calls
        results[tool] = result = measure(tool, python, count, arguments)
        if "left_out" in result:
            print(f"{tool:<21}left out: {result['left_out']}", flush=True)
            continue
        result["ratio"] = results["ours"]["calls_per_s"] / result["calls_per_s"]
        print(
            f"{tool:<21}{result['version']:<12}{count:>7,}{result['answers']:>9,}{result['seconds']:>9.1f}{result['calls_per_s']:>9.0f}"
            f"{result['sustained_per_s']:>11.0f}{result['cpu_ms_per_call']:>13.2f}{result['peak_mib']:>10.0f}{result['grew_mib']:>10.0f}{result['ratio']:>10.2f}",
            flush=True,
        )
    others = [result["ratio"] for tool, result in results.items() if tool != "ours" and "ratio" in result]
    if others:
        print(f"ours does {min(others):.2f} times the calls of the best of the others")
    if arguments.json:
        settings = {name: value for name, value in vars(arguments).items() if isinstance(value, int | float | list)}
        arguments.json.write_text(json.dumps({"settings": settings, "results": results}, indent=1) + "\n")


def ours(url: str, prompts: list[str], folder: Path, concurrency: int) -> Result:
    """In portions, as the stages of a build hand over their requests."""
    from builder.llm.calls import CHUNK, ModelCalls
    from builder.llm.messages import Answer, ChatRequest, Sampling
    from builder.llm.record import Record
    from builder.recipe import ModelRecipe, ModelsRecipe

    recipe = ModelRecipe(provider="openai", model="bench-model", base_url=url, max_concurrency=concurrency)
    calls = ModelCalls(ModelsRecipe(generator=recipe), Record(folder / "responses.sqlite"))
    calls.client("generator")  # imports the client's packages
    answers = 0
    started = time.monotonic()
    for start in range(0, len(prompts), CHUNK):
        requests = [
            ChatRequest(({"role": "user", "content": prompt},), Sampling(200, 0.7), "bench@1", 1)
            for prompt in prompts[start : start + CHUNK]
        ]
        answers += sum(isinstance(reply, Answer) for reply in calls.generate("generator", requests, "bench"))
    return {"seconds": time.monotonic() - started, "answers": min(answers, calls.record.count()[0])}


def environment(folder: Path, tool: str) -> tuple[Path, str | None]:
    """The interpreter of a tool's own environment, made if it is not there, and why there is none."""
    python = folder / "bin" / "python"
    if python.exists() and version(python, tool):
        return python, None
    print(f"  installing {tool} into {folder} ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[tool]]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode == 0:
        return python, None
    errors = re.findall(r"^ERROR: (.*)$", installed.stderr, re.MULTILINE)
    return python, f"does not install ({(errors or ['pip failed'])[-1][:120]})"


def version(python: Path | str, tool: str) -> str:
    name = "persona-testbed" if tool == "ours" else tool
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip()


def measure(tool: str, python: Path | str, count: int, arguments: argparse.Namespace) -> Result:
    """Server and tool, each in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="endpoint-") as name:
        folder = Path(name)
        prompts = folder / "prompts.json"
        prompts.write_text(json.dumps([prompt(i, arguments.prompt_words) for i in range(count)]))
        server_command = [sys.executable, "-m", "benchmarks.endpoint_server"]
        server_command += ["--seconds", str(arguments.seconds), "--at-once", str(arguments.at_once)]
        server = subprocess.Popen(server_command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            concurrency = ["--concurrency", str(arguments.concurrency)]
            if tool == "ours":
                command = [python, "-m", "benchmarks.endpoint", "--measure", url, prompts, folder, *concurrency]
            else:
                command = [python, ROOT / "benchmarks" / "endpoint_peers.py", tool, "--url", url]
                command += ["--prompts", prompts, "--folder", folder, *concurrency]
            log = folder / "log.txt"
            # The tool's own working folder: some write there.
            cwd = ROOT if tool == "ours" else folder
            with log.open("w") as output:
                process = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
                memory = watch_memory(process)
                # wait4 gives the processor time of this tool and of the processes that it waited for.
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            if process.returncode:
                return {"left_out": f"failed with exit code {process.returncode}: {lines[-1][:160]}"}
            result: Result = next(json.loads(line) for line in reversed(lines) if line.startswith('{"seconds"'))
            with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as response:
                served = json.load(response)
        finally:
            server.terminate()
            server.wait()
    times = sorted(served["replied"])
    first, last = times[len(times) // 10], times[len(times) * 9 // 10]
    return {
        **result,
        "version": version(python, tool),
        "calls": count,
        "served": served["calls"],
        "most_at_once": served["most_at_once"],
        "calls_per_s": result["answers"] / result["seconds"],
        "sustained_per_s": 0.8 * len(times) / (last - first),
        "cpu_ms_per_call": (usage.ru_utime + usage.ru_stime) * 1000 / count,
        "peak_mib": max(memory),
        "grew_mib": max(memory[len(memory) // 4 :]) - memory[len(memory) // 4],
    }


def prompt(number: int, words: int) -> str:
    text = " ".join(WORDS[(number * 7 + i * i) % len(WORDS)] for i in range(words))
    return f"Question {number}: {text}"


def watch_memory(process: subprocess.Popen[bytes]) -> list[float]:
    """MiB of a process and its children, twice a second until it ends."""
    root = psutil.Process(process.pid)
    samples = [0.0]
    while root.status() != psutil.STATUS_ZOMBIE:
        total = 0
        try:
            for one in [root, *root.children(recursive=True)]:
                info = one.memory_full_info()
                total += getattr(info, "pss", info.rss)
        except psutil.Error:
            pass  # one of them ended meanwhile
        samples.append(total / 2**20)
        time.sleep(0.5)
    return samples


if __name__ == "__main__":
    main()
