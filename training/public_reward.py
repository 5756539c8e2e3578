"""Rewards of a public reward model: any sequence classifier of transformers with one label, decoder or encoder.

Every text is read whole, padded with its neighbours of like length; nothing is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from builder.errors import InputError
from builder.schema import assistant_message
from training.base_model import BaseModel, context_of, load_tokenizer, resolve_base_model
from training.scoring import Item
from training.tokens import token_ids

Tokens = tuple[tuple[int, int], ...]  # id, and which of the two texts it is of


@dataclass(frozen=True)
class PublicReward:
    model: Any
    tokenizer: Any
    base: BaseModel
    context: int | None  # tokens


def load(name_or_path: str, revision: str | None, device: str | None, dtype: str) -> PublicReward:
    """Raises InputError for what is no classifier with one label, or lacks its head (transformers would draw one at random)."""
    base = resolve_base_model(name_or_path, revision)
    config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    architectures = config.architectures or []
    if not any(name.endswith("ForSequenceClassification") for name in architectures) or config.num_labels != 1:
        raise InputError(
            f"{base.model_id} is {', '.join(architectures) or 'of no stated architecture'} with {config.num_labels} labels, and a reward "
            "model is a sequence classifier with one. Give another model."
        )
    tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    if tokenizer.chat_template is not None:
        tokenizer = load_tokenizer(base.folder, for_reward=True)
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        base.folder,
        dtype=getattr(torch, dtype),
        pad_token_id=tokenizer.pad_token_id,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if loading["missing_keys"]:
        raise InputError(
            f"{base.model_id} lacks the weights {', '.join(sorted(loading['missing_keys']))}, which would be drawn at random. Give a "
            "complete model."
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return PublicReward(model.to(device).eval(), tokenizer, base, context_of(model))


def fits(model: PublicReward, item: Item) -> bool:
    return model.context is None or len(_tokens(model.tokenizer, item)) <= model.context


@torch.no_grad()
def rewards(model: PublicReward, items: Sequence[Item], batch_size: int) -> list[float]:
    """The raw logit of each item, in their order; each different text is read once."""
    texts = [_tokens(model.tokenizer, item) for item in items]
    different = sorted(set(texts), key=lambda tokens: (len(tokens), tokens))
    device = next(model.model.parameters()).device
    reads_types = "token_type_ids" in model.tokenizer.model_input_names and model.tokenizer.chat_template is None
    reward: dict[Tokens, float] = {}
    with tqdm(total=len(different), desc="Rewards", unit="text", disable=None) as progress:
        for start in range(0, len(different), batch_size):
            batch = different[start : start + batch_size]
            shape = (len(batch), max(len(tokens) for tokens in batch))
            ids, types = torch.full(shape, model.tokenizer.pad_token_id or 0), torch.zeros(shape, dtype=torch.long)
            mask = torch.zeros(shape, dtype=torch.long)
            for row, tokens in enumerate(batch):
                ids[row, : len(tokens)], types[row, : len(tokens)] = torch.tensor(tokens).T
                mask[row, : len(tokens)] = 1
            inputs = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": types} if reads_types else {})
            logits = model.model(**{name: value.to(device) for name, value in inputs.items()}).logits
            reward |= {tokens: logits[row, 0].float().item() for row, tokens in enumerate(batch)}
            progress.update(len(batch))
    return [reward[tokens] for tokens in texts]


def _tokens(tokenizer: Any, item: Item) -> Tokens:
    """By the chat template; a tokenizer without one (most encoders) gets what stands before the answer, and the answer, as two texts."""
    messages, answer = item
    if tokenizer.chat_template is not None:
        return tuple((token, 0) for token in token_ids(tokenizer, messages + assistant_message(answer)))
    encoded = tokenizer("\n\n".join(message["content"] for message in messages), answer, return_token_type_ids=True)
    return tuple(zip(encoded["input_ids"], encoded["token_type_ids"], strict=True))
