"""Drawing answers from an in-process model so that each answer depends on its own seed alone.

`generate` is run greedily on perturbed scores: adding Gumbel noise to log-probabilities and taking the maximum is a draw from the
distribution. The noise of a row comes from the row's own generator, so global random state is never touched and neither the order of
rows nor an interruption changes an answer.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, StoppingCriteria


class GumbelNoise(LogitsProcessor):
    """Turns the maximum into a draw. `generators`: one per row, or None for a row that is to be greedy."""

    def __init__(self, generators: Sequence[np.random.Generator | None]):
        self.generators = generators

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        noisy = torch.log_softmax(scores.float(), dim=-1)
        for row, generator in enumerate(self.generators):
            if generator is not None:
                # -log(E) with E exponential is Gumbel noise. In double precision: single-precision draws are exactly zero once in
                # some ten million, which over a whole vocabulary is once in a few hundred tokens, and zero wins over any score.
                exponential = generator.standard_exponential(scores.shape[-1])
                gumbel = -np.log(np.maximum(exponential, np.finfo(np.float64).tiny))
                noisy[row] += torch.from_numpy(gumbel).to(noisy.device, noisy.dtype)
        return noisy  # type: ignore[return-value]


class EndOfSentence(StoppingCriteria):
    """Ends a row at the first token that closes a sentence after `minimum` new tokens."""

    def __init__(self, closes_sentence: torch.Tensor, is_digit: torch.Tensor, prompt_width: int, minimum: int):
        self.closes_sentence = closes_sentence
        self.is_digit = is_digit
        self.prompt_width = prompt_width
        self.minimum = minimum

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> torch.BoolTensor:
        if input_ids.shape[1] - self.prompt_width < max(self.minimum, 2):
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]
        last, before = input_ids[:, -1], input_ids[:, -2]
        # "3." is more often a list number or a decimal than the end of a sentence.
        return self.closes_sentence[last] & ~self.is_digit[before]  # type: ignore[return-value]


def sentence_tables(tokenizer: Any, vocabulary_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For each token id: does its text close a sentence; does it end in a digit. Both bool, shape (vocabulary_size,)."""
    closes = torch.zeros(vocabulary_size, dtype=torch.bool)
    digit = torch.zeros(vocabulary_size, dtype=torch.bool)
    # The raw tokens, not their decoded text: punctuation and digits stand for themselves in byte-level and SentencePiece vocabularies
    # alike, and decoding a whole vocabulary takes seconds. Ġ and Ċ are the byte-level signs for space and line break, ▁ is SentencePiece's.
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), vocabulary_size))))
    for index, token in enumerate(tokens):
        bare = (token or "").strip("ĠĊ▁ \n").rstrip("\"')")
        closes[index] = bare.endswith((".", "!", "?")) and not bare.endswith("..")
        digit[index] = bare[-1:].isdigit()
    return closes, digit
