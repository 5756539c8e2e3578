"""A training step with the prompt computed once for both answers.

Chosen and rejected of a pair begin with the same tokens, the persona and the question, which are most of a row. TRL's trainers compute
them twice. Here each pair's common beginning goes through the model once, and both answers go on from its keys and values, with gradients
through both: same loss, same gradients, fewer tokens.
"""

from typing import Any

import torch
from transformers import DynamicCache

# What TRL's fused head gives for every token (trl.trainer.utils.FusedCausalLMOutput).
PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask")
ATTENTIONS = ("eager", "sdpa")


class SharedPrompt:
    """Stands for the model in a trainer's loss.

    input_ids, attention_mask: (2N, L), N chosen then N rejected, padded on the right. A sequence classifier gives logits (2N, 1), a causal
    model with TRL's fused head (labels given) its figures for each token, (2N, L - 1). The model must not checkpoint its activations:
    those drop the keys and values.
    """

    def __init__(self, model: Any):
        self.model = model

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None, **others: Any
    ) -> Any:
        prefixes = common_beginnings(input_ids, attention_mask, labels)
        cache, prefix_mask = self._beginnings(input_ids[: len(prefixes)], prefixes, causal=labels is not None)
        # What follows, of both answers, padded on the right.
        owner = torch.arange(len(prefixes), device=input_ids.device).repeat(2)
        cache.batch_select_indices(owner)
        rest = attention_mask.sum(dim=1) - prefixes[owner]
        steps = torch.arange(int(rest.max()), device=input_ids.device)[None, :]
        positions = prefixes[owner][:, None] + steps
        padding = steps >= rest[:, None]
        places = positions.clamp(max=input_ids.shape[1] - 1)
        given: dict[str, Any] = {}
        if labels is not None:
            given = {
                "labels": labels.gather(1, places).masked_fill(padding, -100),
                "fused_lm_head": others["fused_lm_head"],
            }
        outputs = self.model(
            input_ids=input_ids.gather(1, places).masked_fill(padding, self._padding()),
            attention_mask=torch.cat([prefix_mask[owner], (~padding).long()], dim=1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **given,
        )
        if labels is not None:
            _put_back(outputs, positions[:, :-1], padding[:, 1:], input_ids.shape[1] - 1)
        return outputs

    def _beginnings(
        self, chosen_ids: torch.Tensor, prefixes: torch.Tensor, causal: bool
    ) -> tuple[DynamicCache, torch.Tensor]:
        """Keys and values of each pair's common beginning, padded on the left so that all end at the same place; and their mask."""
        width = int(prefixes.max())
        places = torch.arange(width, device=chosen_ids.device)[None, :] - (width - prefixes)[:, None]
        mask = (places >= 0).long()
        cache = DynamicCache(config=self.model.config)
        self.model(
            input_ids=chosen_ids.gather(1, places.clamp(min=0)).masked_fill(mask == 0, self._padding()),
            attention_mask=mask,
            position_ids=places.clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            **({"logits_to_keep": 1} if causal else {}),
        )
        return cache, mask

    def _padding(self) -> int:
        """Any token will do where the mask is zero."""
        return self.model.config.pad_token_id or 0


def reason_against(trainer: Any, asked: bool) -> str | None:
    """Why this run computes each prompt twice, as TRL does; None: it need not. asked: the recipe's `share_prompt`."""
    if not asked:
        return "share_prompt is false"
    if trainer.args.gradient_checkpointing:
        return "gradient_checkpointing keeps no keys and values"
    if trainer.accelerator.num_processes > 1:
        return "a model in several processes takes one pass a step"
    attention = getattr(trainer.model.config, "_attn_implementation", "eager")
    if attention not in ATTENTIONS:
        return f"{attention} has not been tried with padding on both sides"
    return None


def common_beginnings(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """(N,) tokens with which both answers of a pair begin. At least one token of each is left over, and where tokens have labels the one
    before the first of them, which predicts it.
    """
    pairs = len(input_ids) // 2
    both = (attention_mask[:pairs] == 1) & (attention_mask[pairs:] == 1)
    shared = ((input_ids[:pairs] == input_ids[pairs:]) & both).long().cumprod(dim=1).sum(dim=1)
    ends = attention_mask.sum(dim=1) - 1
    if labels is not None:
        has_label = labels != -100
        first = torch.where(has_label.any(dim=1), has_label.long().argmax(dim=1), attention_mask.sum(dim=1))
        ends = torch.minimum(ends, first - 1)
    return torch.minimum(shared, torch.minimum(ends[:pairs], ends[pairs:]))


def _put_back(outputs: Any, positions: torch.Tensor, padding: torch.Tensor, length: int) -> None:
    """The figures of the tokens that were computed, at their places in (2N, length); zero elsewhere, where no token has a label."""
    places = torch.where(padding, length, positions)  # padding falls into a column that is cut off again
    for name in PER_TOKEN:
        values = getattr(outputs, name, None)
        if values is not None:
            whole = torch.zeros(len(values), length + 1, dtype=values.dtype, device=values.device)
            setattr(outputs, name, whole.scatter(1, places, values)[:, :length])
