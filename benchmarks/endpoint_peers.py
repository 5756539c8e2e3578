"""The work of benchmarks/endpoint.py in the tools that a user would pick instead. Runs in each tool's own environment, so it
imports nothing of this project.

    ENVIRONMENT/bin/python benchmarks/endpoint_peers.py TOOL --url http://127.0.0.1:8000/v1 --prompts prompts.json --folder OUT

Each tool gets its plainest documented way to send many single-turn chats to an OpenAI-compatible server, set to the speed that its
documentation or its settings allow, with the recording of answers that it has. Prints one line of JSON: seconds from the first line of
its work to the last answer on disk (imports left out), and the number of answers that it gave back.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import time
from pathlib import Path
from typing import Any

# Nobody is told that a benchmark ran.
for name in ("TELEMETRY_ENABLED", "NEMO_TELEMETRY_ENABLED"):
    os.environ[name] = "false"
os.environ["OPENAI_API_KEY"] = "no-key"

MODEL = "bench-model"
MAX_TOKENS = 200
TEMPERATURE = 0.7


def distilabel(url: str, prompts: list[str], folder: Path, concurrency: int) -> tuple[float, int]:
    """A pipeline of one task. A batch is sent at once, and the next one follows when all of it is there: batches of five times the
    concurrency spread that wait, and the server's own limit holds the rest back. Recorded: the pipeline's cache, and the result."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    batch = 5 * concurrency
    started = time.monotonic()
    with Pipeline(name="bench", cache_dir=folder / "cache") as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": prompt} for prompt in prompts], batch_size=batch)
        task = TextGeneration(
            llm=OpenAILLM(
                model=MODEL,
                base_url=url,
                api_key="no-key",
                generation_kwargs={"max_new_tokens": MAX_TOKENS, "temperature": TEMPERATURE},
            ),
            input_batch_size=batch,
            add_raw_input=False,
            add_raw_output=False,
        )
        load >> task
    result = pipeline.run(
        use_cache=False
    )  # False: not to be answered from an earlier run; it writes its cache all the same
    answers = result["default"]["train"]["generation"]
    return time.monotonic() - started, sum(bool(answer) for answer in answers)


def curator(url: str, prompts: list[str], folder: Path, concurrency: int) -> tuple[float, int]:
    """Its `openai` backend, which speaks aiohttp. Limits per minute out of the way. Recorded: its cache of responses."""
    os.environ["CURATOR_CACHE_DIR"] = str(folder / "cache")
    os.environ["CURATOR_DISABLE_RICH_DISPLAY"] = "1"
    # It counts tokens with a vocabulary that is otherwise fetched from the network. litellm, on which it depends, carries the file.
    if (litellm := importlib.util.find_spec("litellm")) and litellm.origin:
        tokenizers = Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tokenizers))
    from bespokelabs import curator as library

    started = time.monotonic()
    model = library.LLM(
        model_name=MODEL,
        backend="openai",
        generation_params={"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE},
        backend_params={
            "base_url": url,
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10**12,
        },
    )
    result = model(prompts)
    answers = result.dataset["response"]
    return time.monotonic() - started, sum(bool(answer) for answer in answers)


def inspect(url: str, prompts: list[str], folder: Path, concurrency: int) -> tuple[float, int]:
    """Its model API with its cache on, fed by as many tasks as calls at once."""
    os.environ["INSPECT_CACHE_DIR"] = str(folder / "cache")
    from inspect_ai.model import GenerateConfig, get_model

    async def run() -> int:
        model = get_model(
            f"openai-api/bench/{MODEL}",
            base_url=url,
            api_key="no-key",
            config=GenerateConfig(max_connections=concurrency, max_tokens=MAX_TOKENS, temperature=TEMPERATURE),
        )
        queue = iter(prompts)
        answers = 0

        async def work() -> None:
            nonlocal answers
            for prompt in queue:
                output = await model.generate(prompt, cache=True)
                answers += bool(output.completion)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        return answers

    started = time.monotonic()
    answers = asyncio.run(run())
    return time.monotonic() - started, answers


def data_designer(url: str, prompts: list[str], folder: Path, concurrency: int) -> tuple[float, int]:
    """A dataset of one LLM column over a seed table. Recorded: the dataset, in groups of rows as they get ready."""
    import data_designer.config as dd
    import pandas as pd
    from data_designer.interface import DataDesigner

    started = time.monotonic()
    designer = DataDesigner(
        artifact_path=folder,
        model_providers=[dd.ModelProvider(name="bench", endpoint=url, provider_type="openai", api_key="no-key")],
    )
    builder = dd.DataDesignerConfigBuilder(
        model_configs=[
            dd.ModelConfig(
                alias="bench",
                model=MODEL,
                provider="bench",
                skip_health_check=True,
                inference_parameters=dd.ChatCompletionInferenceParams(
                    max_parallel_requests=concurrency, max_tokens=MAX_TOKENS, temperature=TEMPERATURE
                ),
            )
        ]
    )
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame({"question": prompts})))
    builder.add_column(dd.LLMTextColumnConfig(name="answer", prompt="{{ question }}", model_alias="bench"))
    result = designer.create(builder, num_records=len(prompts))
    answers = result.load_dataset()["answer"]
    return time.monotonic() - started, sum(bool(answer) for answer in answers)


def main() -> None:
    tools: dict[str, Any] = {
        "distilabel": distilabel,
        "bespokelabs-curator": curator,
        "inspect-ai": inspect,
        "data-designer": data_designer,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=list(tools))
    parser.add_argument("--url", required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="JSON list of texts")
    parser.add_argument("--folder", type=Path, required=True, help="where the tool records")
    parser.add_argument("--concurrency", type=int, default=200)
    arguments = parser.parse_args()
    prompts = json.loads(arguments.prompts.read_text())
    seconds, answers = tools[arguments.tool](arguments.url, prompts, arguments.folder, arguments.concurrency)
    print("\n" + json.dumps({"seconds": seconds, "answers": answers}), flush=True)


# Some of them start processes that import this file.
if __name__ == "__main__":
    main()
