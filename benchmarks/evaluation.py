"""What evaluation costs beside what a user would write instead, on the same rows and the same model.

    python -m benchmarks.evaluation [--dataset PUBLISHED_FOLDER] [--rows 24] [--rounds 3] [--json FILE]

* reward: rows a second of `score_rewards` over transformers' `pipeline("text-classification")` in batches of the same size. Both give every
  answer of every row a reward under the true, no and a wrong persona; ours computes a text that occurs in several rows once, and a prompt
  once for its answers. The untrained 135M model with a reward head stands for any reward model: the work is the same.
* likelihood: comparisons a second of the likelihood judge over the same judge that runs each different text whole, and the largest
  difference of a token's log-probability.
* endpoint: calls a second of the role-play judge at a local server that takes 200 ms a call and 200 calls at once, as a share of the
  1,000 that the server can answer (--judgements 0 leaves it out).
The first two alternate, round by round. Without a dataset one is made of sentences of about the demo's lengths.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.training import made_dataset, report
from benchmarks.whole_texts import token_scores
from builder.files import write_json
from builder.judge.judge import Comparison, compare
from builder.judge.judge_file import load_judge
from builder.llm.calls import ModelCalls
from builder.llm.messages import ScoreRequest, TokenScores
from builder.llm.model_recipe import ModelRecipe
from builder.llm.record import Record
from builder.llm.transformers_client import TransformersClient
from builder.schema import assistant_message, preference_messages
from eval.rows import EvaluatedRow, load_profiles, load_rows
from training.conditioning import CONDITIONS, Conditioning
from training.evaluation import Candidate, shown_persona
from training.prompts import PersonaPrompts
from training.scoring import Item, ScoringModel, score_rewards
from training.trained import items_of

BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a published folder with configs `dpf` and `contrast`")
    parser.add_argument("--rows", type=int, default=24, help="rows of each config and split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--judgements", type=int, default=10_000, help="comparisons at the endpoint, two calls each")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        dataset = (arguments.dataset or made_dataset(Path(temporary) / "data")).resolve()
        rows, profiles = load_rows(dataset, arguments.rows), load_profiles(dataset)
        figures: dict[str, Any] = {
            "rows": len(rows),
            "reward": reward_scoring(rows, profiles, arguments.rounds, Path(temporary)),
            "likelihood": likelihood_judge(rows, profiles, arguments.rounds),
        }
        if arguments.judgements:
            figures["endpoint"] = judge_at_endpoint(arguments.judgements, Path(temporary))
    if arguments.json:
        write_json(arguments.json, figures)


def reward_scoring(rows: list[EvaluatedRow], profiles: dict[str, str], rounds: int, folder: Path) -> dict[str, Any]:
    from transformers import pipeline

    items = [item for condition in CONDITIONS for item in row_items(rows, profiles, condition)]
    model = reward_model()
    model.model.save_pretrained(folder / "reward")
    model.tokenizer.save_pretrained(folder / "reward")
    classify = pipeline(
        "text-classification", model=str(folder / "reward"), tokenizer=model.tokenizer, device="cpu", batch_size=BATCH
    )
    texts = [
        model.tokenizer.apply_chat_template(messages + assistant_message(answer), tokenize=False)
        for messages, answer in items
    ]
    ours, stock, difference = [], [], 0.0
    for _ in range(rounds):
        started = time.monotonic()
        first = score_rewards(model, items, BATCH)
        ours.append(len(rows) / (time.monotonic() - started))
        started = time.monotonic()
        second = [said["score"] for said in classify(texts, function_to_apply="none", add_special_tokens=False)]
        stock.append(len(rows) / (time.monotonic() - started))
        difference = max(difference, max(abs(a - b) for a, b in zip(first, second, strict=True)))
    figures = report("reward: rows a second, ours over transformers' pipeline", ours, stock)
    different = len({json.dumps(item) for item in items})
    print(f"{len(items)} texts, {different} different; largest difference of a reward: {difference:.1e}", flush=True)
    return figures | {"texts": len(items), "different": different, "difference": difference}


def row_items(rows: list[EvaluatedRow], profiles: dict[str, str], condition: str) -> list[Item]:
    candidates = [
        Candidate(shown_persona(row.published, condition), row.published["prompt_id"], row.question, str(answer))
        for row in rows
        for answer in (row.chosen, row.rejected)
    ]
    return items_of(PersonaPrompts(Conditioning(), profiles, {}), candidates)


def reward_model() -> ScoringModel:
    """The embedded model with a reward head; what the head says does not matter for the time."""
    from transformers import AutoModelForSequenceClassification

    from training.base_model import load_tokenizer, resolve_base_model

    base = resolve_base_model("embedded")
    tokenizer = load_tokenizer(base.folder, for_reward=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        base.folder, num_labels=1, dtype="float32", use_safetensors=True, trust_remote_code=False
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    return ScoringModel(model.eval(), tokenizer, "reward")


def likelihood_judge(rows: list[EvaluatedRow], profiles: dict[str, str], rounds: int) -> dict[str, Any]:
    """The texts that the judge scores for these rows: both answers, with the persona and without, each different one once."""
    texts = dict.fromkeys(
        (profile, row.question, str(answer))
        for row in rows
        for profile in (profiles[row.persona_id], None)
        for answer in (row.chosen, row.rejected)
    )
    requests = [
        ScoreRequest(tuple(preference_messages(profile, question)), answer, "benchmark")
        for profile, question, answer in texts
    ]
    client = TransformersClient(ModelRecipe(batch_size=BATCH))
    scored_whole(client, requests[:1])  # loads the model before the clock starts
    shared, whole, difference = [], [], 0.0
    for _ in range(rounds):
        scores: dict[int, tuple[float, ...]] = {}

        def keep(batch: list[tuple[int, Any]], scores: dict[int, tuple[float, ...]] = scores) -> None:
            for index, reply in batch:
                assert isinstance(reply, TokenScores)
                scores[index] = reply.log_probabilities

        started = time.monotonic()
        client.score(requests, set(range(len(requests))), keep)
        shared.append(len(rows) / (time.monotonic() - started))
        started = time.monotonic()
        plain = scored_whole(client, requests)
        whole.append(len(rows) / (time.monotonic() - started))
        for index, tokens in enumerate(plain):
            difference = max(difference, max(abs(a - b) for a, b in zip(scores[index], tokens, strict=True)))
    figures = report("likelihood judge: comparisons a second, prompts shared over every text whole", shared, whole)
    print(f"{len(requests)} different texts; largest difference of a token: {difference:.1e} nats", flush=True)
    return figures | {"texts": len(requests), "difference": difference}


def scored_whole(client: TransformersClient, requests: list[ScoreRequest]) -> list[list[float]]:
    """The same token scores with each text run in full."""
    sequences = []
    for request in requests:
        prefix = client.tokenizer(client._render(request.messages), add_special_tokens=False)["input_ids"]
        own = client.tokenizer(request.continuation, add_special_tokens=False)["input_ids"]
        sequences.append((prefix + own, len(prefix)))
    return token_scores(client.model, client.tokenizer.pad_token_id, sequences, BATCH)


def judge_at_endpoint(comparisons: int, folder: Path) -> dict[str, Any]:
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.endpoint_server", "--ending", "\nREASON: so it is.\nVERDICT: A"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        model = ModelRecipe(provider="openai", model="bench-model", base_url=address, max_concurrency=200)
        calls = ModelCalls({"judge": model}, Record(folder / "responses.sqlite"))
        items = [Comparison(f"Age: {20 + i % 60}", f"Question {i}?", ("One.", "Another.")) for i in range(comparisons)]
        judge = load_judge("roleplay", model, seed=0)
        started = time.monotonic()
        compare(judge, calls, items)
        seconds = time.monotonic() - started
        with urllib.request.urlopen(address.removesuffix("/v1") + "/stats") as reply:
            stats = json.load(reply)
    finally:
        server.terminate()
        server.wait()
    rate = stats["calls"] / seconds
    print(f"endpoint: {rate:.0f} judge calls/s of the server's 1,000, {stats['most_at_once']} at once", flush=True)
    return {"calls": stats["calls"], "calls_per_second": rate, "most_at_once": stats["most_at_once"]}


if __name__ == "__main__":
    main()
