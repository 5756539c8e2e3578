"""Answers and token scores from a model in this process, on CPU or GPU."""

from collections.abc import Callable, Sequence
from typing import Any

from builder.errors import InputError
from builder.llm.messages import (
    Answer,
    ChatRequest,
    Failure,
    Message,
    Reply,
    ScoreRequest,
    TokenScores,
    Usage,
    as_plain,
)
from builder.llm.model_recipe import ModelRecipe
from builder.llm.weights import LocalModel, find_model
from builder.randomness import rng_for

OnReply = Callable[[list[tuple[int, Reply]]], None]


class TransformersClient:
    """Loads the weights at the first call that needs them; a replay of recorded answers never does."""

    def __init__(self, recipe: ModelRecipe):
        self.located: LocalModel = find_model(recipe.model, recipe.path, recipe.revision)
        self.identity = {"model": recipe.model, "revision": self.located.content_hash}
        self.batch_size = recipe.batch_size
        self._tokenizer: Any = None
        self._model: Any = None
        self._sentence_tables: Any = None

    @property
    def tokenizer(self) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(
                self.located.folder, padding_side="left", trust_remote_code=False
            )
        return self._tokenizer

    @property
    def model(self) -> Any:
        if self._model is None:
            import torch
            import transformers

            transformers.utils.logging.disable_progress_bar()
            on_gpu = torch.cuda.is_available()
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                self.located.folder,
                dtype=torch.bfloat16 if on_gpu else torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
            ).eval()
            if on_gpu:
                self._model.to("cuda")
        return self._model

    def check(self) -> None:
        """The template must carry a system message, and padding must differ from the end token."""
        marker = "a system text that must appear"
        try:
            text = self._render(({"role": "system", "content": marker}, {"role": "user", "content": "?"}))
        except Exception as error:  # jinja2's TemplateError, or transformers' ValueError for a model without a template
            raise InputError(
                f"The chat template of {self.identity['model']} does not take a system message ({error}). The profile is sent as "
                "system message; choose an instruction-tuned model whose template has a system role."
            ) from None
        if marker not in text:
            raise InputError(
                f"The chat template of {self.identity['model']} drops the system message, so the persona would never reach the "
                "model. Choose a model whose template has a system role."
            )
        if self.tokenizer.pad_token_id is None or self.tokenizer.pad_token_id == self.tokenizer.eos_token_id:
            raise InputError(
                f"The tokenizer of {self.identity['model']} has no padding token of its own (pad = "
                f"{self.tokenizer.pad_token!r}, end = {self.tokenizer.eos_token!r}). Set pad_token in its tokenizer_config.json to "
                "an unused special token."
            )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def generate(
        self, requests: Sequence[ChatRequest], keys: Sequence[str], wanted: set[int], on_reply: OnReply
    ) -> None:
        """Answer the requests in `wanted`.

        Batches are formed over all requests, wanted or not, and a batch is run whole if any of its rows is wanted: the last bits of
        a logit depend on what else is in the batch, and this way an interrupted build draws exactly what an uninterrupted one does.
        """
        ids = self.tokenizer([self._render(r.messages) for r in requests], add_special_tokens=False)["input_ids"]
        by_sampling: dict[Any, list[int]] = {}
        for index in range(len(requests)):
            by_sampling.setdefault(requests[index].sampling, []).append(index)
        for indices in by_sampling.values():
            indices.sort(key=lambda i: len(ids[i]))
            for start in range(0, len(indices), self.batch_size):
                batch = indices[start : start + self.batch_size]
                if wanted.isdisjoint(batch):
                    continue
                replies = self._generate_batch(
                    [requests[i] for i in batch], [keys[i] for i in batch], [ids[i] for i in batch]
                )
                on_reply([(i, reply) for i, reply in zip(batch, replies, strict=True) if i in wanted])

    def score(self, requests: Sequence[ScoreRequest], wanted: set[int], on_reply: OnReply) -> None:
        from builder.llm.likelihood import continuation_log_probabilities

        prefixes: dict[tuple[Any, ...], list[int]] = {}
        for index, request in enumerate(requests):
            prefixes.setdefault(tuple((m["role"], m["content"]) for m in request.messages), []).append(index)
        groups = list(prefixes.values())
        rendered = [self._render(requests[g[0]].messages) for g in groups]
        prefix_ids = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        continuation_ids = self.tokenizer([r.continuation for r in requests], add_special_tokens=False)["input_ids"]
        order = sorted(range(len(groups)), key=lambda g: len(prefix_ids[g]))
        for start in range(0, len(order), self.batch_size):
            # As in `generate`: a batch runs whole or not at all, so that an interruption changes no last bit.
            batch = order[start : start + self.batch_size]
            if all(wanted.isdisjoint(groups[g]) for g in batch):
                continue
            inputs = [(prefix_ids[g], [continuation_ids[i] for i in groups[g]]) for g in batch]
            scores = continuation_log_probabilities(
                self.model, self.tokenizer.pad_token_id, inputs, batch_size=self.batch_size
            )
            replies: list[tuple[int, Reply]] = []
            for group, group_scores in zip(batch, scores, strict=True):
                # The prefix is counted once, with the first of its continuations.
                for position, (index, row) in enumerate(zip(groups[group], group_scores, strict=True)):
                    usage = Usage(prompt_tokens=(len(prefix_ids[group]) if position == 0 else 0) + len(row))
                    replies.append((index, TokenScores(tuple(round(x, 6) for x in row), usage)))
            on_reply([(index, reply) for index, reply in replies if index in wanted])

    def _render(self, messages: tuple[Message, ...]) -> str:
        return self.tokenizer.apply_chat_template(as_plain(messages), tokenize=False, add_generation_prompt=True)

    def _generate_batch(self, requests: list[ChatRequest], keys: list[str], ids: list[list[int]]) -> list[Reply]:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList, TemperatureLogitsWarper, TopPLogitsWarper

        from builder.llm.sampling import EndOfSentence, GumbelNoise, sentence_tables

        sampling = requests[0].sampling
        tokenizer, model = self.tokenizer, self.model
        padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
        width = padded["input_ids"].shape[1]
        processors = LogitsProcessorList()
        if sampling.temperature > 0:
            processors.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_p < 1:
                processors.append(TopPLogitsWarper(sampling.top_p))
            noise = [rng_for(r.seed, "sampled_answer", key) for r, key in zip(requests, keys, strict=True)]
            processors.append(GumbelNoise(noise))
        stops = StoppingCriteriaList()
        if self._sentence_tables is None:
            self._sentence_tables = tuple(
                t.to(model.device) for t in sentence_tables(tokenizer, model.config.vocab_size)
            )
        closes, digit = self._sentence_tables
        if sampling.end_sentence_after is not None:
            stops.append(EndOfSentence(closes, digit, width, sampling.end_sentence_after))
        with torch.inference_mode():
            output = model.generate(
                **padded,
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                logits_processor=processors,
                stopping_criteria=stops,
                pad_token_id=tokenizer.pad_token_id,
            )
        return [
            self._read_row(row[width:].tolist(), len(prompt), sampling.end_sentence_after)
            for row, prompt in zip(output, ids, strict=True)
        ]

    def _read_row(self, tokens: list[int], prompt_length: int, end_sentence_after: int | None) -> Reply:
        """An answer if the model ended it, or the sentence rule did; else a truncated one."""
        # Some models end a turn with another token than the tokenizer's end token; `generate` stops at any of these.
        ends = self.model.generation_config.eos_token_id
        special = {
            self.tokenizer.eos_token_id,
            self.tokenizer.pad_token_id,
            *(ends if isinstance(ends, list) else [ends]),
        }
        length = next((i for i, token in enumerate(tokens) if token in special), len(tokens))
        text = self.tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
        usage = Usage(prompt_length, length)
        closes, digit = self._sentence_tables
        ended = length < len(tokens) or (
            end_sentence_after is not None
            and length >= max(end_sentence_after, 2)
            and bool(closes[tokens[length - 1]] and not digit[tokens[length - 2]])
        )
        if not ended:
            return Failure("truncated", f"no end within {length} tokens", text, usage)
        if not text:
            return Failure("empty", "the model ended at once", "", usage)
        return Answer(text, usage)
