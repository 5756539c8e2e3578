"""Log-probabilities of given texts under a causal language model, the shared prefix computed once.

Used by the likelihood judge and by everything that scores answers with a language model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

PrefixGroup = tuple[list[int], list[list[int]]]  # the prefix's token ids, and those of each continuation after it


@torch.inference_mode()
def continuation_log_probabilities(
    model: Any,
    pad_token_id: int,
    groups: Sequence[PrefixGroup],
    on_batch_done: Callable[[], None] | None = None,
    batch_size: int = 16,
) -> list[list[list[float]]]:
    """log p(token | prefix, tokens before) for each token of each continuation.

    Args:
        model: a causal LM of transformers, in evaluation mode.
        groups: per group a prefix of at least one token and its continuations (each at least one token).
        batch_size: prefixes run together, and continuations run together.

    Returns: per group, per continuation, natural-log probabilities, one per token.

    The keys and values of a prefix are computed once and shared by its continuations: with a profile of 120 tokens and answers of
    40, four answers cost 280 token positions instead of 640.
    """
    results: list[list[list[float]]] = [[[] for _ in continuations] for _, continuations in groups]
    # Sorted by length so that little is spent on padding; ties keep their order, so batches depend on the input alone.
    order = sorted(range(len(groups)), key=lambda i: len(groups[i][0]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        prefixes = [groups[i][0] for i in batch]
        output, prefix_mask = _run_prefixes(model, pad_token_id, prefixes)
        rows = [(position, i, j) for position, i in enumerate(batch) for j in range(len(groups[i][1]))]
        rows.sort(key=lambda row: len(groups[row[1]][1][row[2]]))
        for row_start in range(0, len(rows), batch_size):
            chunk = rows[row_start : row_start + batch_size]
            continuations = [groups[i][1][j] for _, i, j in chunk]
            positions = torch.tensor([position for position, _, _ in chunk])
            scores = _run_continuations(
                model, pad_token_id, output.past_key_values, output.logits[:, -1], prefix_mask, positions, continuations
            )
            for (_, i, j), row_scores in zip(chunk, scores, strict=True):
                results[i][j] = row_scores
        if on_batch_done:
            on_batch_done()
    return results


def _run_prefixes(model: Any, pad_token_id: int, prefixes: list[list[int]]) -> tuple[Any, torch.Tensor]:
    """Padded on the left, so that the last position is every prefix's last token."""
    width = max(map(len, prefixes))
    ids = torch.tensor([[pad_token_id] * (width - len(p)) + p for p in prefixes], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prefixes], device=model.device)
    position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
    output = model(input_ids=ids, attention_mask=mask, position_ids=position_ids, use_cache=True, logits_to_keep=1)
    return output, mask


def _run_continuations(
    model: Any,
    pad_token_id: int,
    prefix_cache: Any,
    first_logits: torch.Tensor,
    prefix_mask: torch.Tensor,
    positions: torch.Tensor,
    continuations: list[list[int]],
) -> list[list[float]]:
    """`positions[row]` is the place of the row's prefix in the prefix batch."""
    positions = positions.to(model.device)
    log_probabilities = [torch.log_softmax(first_logits[positions].float(), dim=-1)]
    width = max(map(len, continuations))
    ids = torch.tensor([c + [pad_token_id] * (width - len(c)) for c in continuations], device=model.device)
    if width > 1:
        # The last token of a continuation predicts nothing that is asked for, so it is not run.
        cache = _rows_of_cache(prefix_cache, positions)
        mask = torch.cat([prefix_mask[positions], torch.ones_like(ids[:, :-1])], dim=1)
        position_ids = prefix_mask.sum(-1)[positions].unsqueeze(1) + torch.arange(width - 1, device=model.device)
        output = model(
            input_ids=ids[:, :-1], attention_mask=mask, position_ids=position_ids, past_key_values=cache, use_cache=True
        )
        following = torch.log_softmax(output.logits.float(), dim=-1)
        picked = following.gather(2, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
        first = log_probabilities[0].gather(1, ids[:, :1])
        scores = torch.cat([first, picked], dim=1)
    else:
        scores = log_probabilities[0].gather(1, ids[:, :1])
    table = scores.tolist()
    return [row[: len(c)] for row, c in zip(table, continuations, strict=True)]


def _rows_of_cache(prefix_cache: Any, positions: torch.Tensor) -> Any:
    """A new cache holding the given rows; the original stays as it is for the next continuations."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for index, layer in enumerate(prefix_cache.layers):
        cache.update(layer.keys[positions], layer.values[positions], index)
    return cache
