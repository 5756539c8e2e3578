"""What shared prompts are measured against: each text run in full, like lengths together, padded on the right."""

from collections.abc import Sequence
from typing import Any

import torch


def token_scores(
    model: Any, pad_token_id: int, sequences: Sequence[tuple[list[int], int]], batch_size: int
) -> list[list[float]]:
    """log p of each token from `start` on. model: a causal LM of transformers. sequences: (token ids, start)."""
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index][0]))
    scores: list[list[float]] = [[] for _ in sequences]
    for begin in range(0, len(order), batch_size):
        batch = order[begin : begin + batch_size]
        width = max(len(sequences[index][0]) for index in batch)
        padded = torch.full((len(batch), width), pad_token_id)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, index in enumerate(batch):
            padded[row, : len(sequences[index][0])] = torch.tensor(sequences[index][0])
            mask[row, : len(sequences[index][0])] = 1
        shortest = min(sequences[index][1] for index in batch)
        with torch.inference_mode():
            # Only the answers' logits, as anybody who minds the time would.
            logits = model(input_ids=padded, attention_mask=mask, logits_to_keep=width - shortest + 1).logits
        for row, index in enumerate(batch):
            tokens, start = sequences[index]
            answer = torch.tensor(tokens[start:])
            own = logits[row, start - shortest : start - shortest + len(answer)].float()
            scores[index] = torch.log_softmax(own, -1).gather(1, answer[:, None])[:, 0].tolist()
    return scores
