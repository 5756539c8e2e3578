"""The model that training starts from: found, identified by content, with a tokenizer that pads safely.

A finished adapter names its base by declared id and content hash, never by a path of the machine that trained it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.weights import EMBEDDED_MODEL_ID, embedded_model, find_model
from training.foreign_code import check_model_folder

EMBEDDED = "embedded"
EMBEDDED_LICENCE = "apache-2.0"  # of SmolLM2-135M-Instruct
SAFE_PAD_TOKEN = "<|endoftext|>"
DEFAULT_REVISION = "main"  # of TRL's model_revision


@dataclass(frozen=True)
class BaseModel:
    folder: Path  # where the files are on this machine; never written into an output
    given: str  # `embedded`, `folder` or `hub`
    model_id: str
    revision: str | None  # the Hub commit
    content_hash: str  # SHA-256, or the Hub commit

    def declared(self) -> dict[str, str | None]:
        """What a checkpoint says about its base."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def resolve_base_model(
    name_or_path: str | None, revision: str | None = None, declared_id: str | None = None
) -> BaseModel:
    """`embedded`, a local folder or a Hub id -> the folder with its files.

    `declared_id` names a local folder's model in outputs (default: the folder's own name). Raises InputError if nothing
    is there, a revision is asked of what has none, the weights are not safetensors, or the model needs code of its own.
    """
    if not name_or_path:
        raise InputError("model_name_or_path is missing. Give `embedded`, a model folder or a Hub id.")
    asked = None if revision in (None, DEFAULT_REVISION) else revision
    if name_or_path == EMBEDDED:
        if asked:
            raise InputError(
                f"model_revision is {asked!r}, but the embedded model is one file and has no other revision. Remove model_revision, or "
                "give the folder of another version."
            )
        located = embedded_model()
        return BaseModel(located.folder, "embedded", located.model_id, None, located.content_hash)
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        if asked:
            raise InputError(
                f"model_revision is {asked!r}, but {name_or_path} is a folder, which has none. Remove model_revision."
            )
        located = find_model(declared_id or folder.resolve().name, str(folder.resolve()))
        check_model_folder(located.folder)
        return BaseModel(located.folder, "folder", located.model_id, None, located.content_hash)
    if folder.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") != 1:
        raise InputError(
            f"model_name_or_path is {name_or_path!r}: no such folder, and not a Hub id of the form owner/name. "
            "Give `embedded`, an existing folder or a Hub id."
        )
    if name_or_path == EMBEDDED_MODEL_ID:
        # The package's file stands for this id, so that no revision of the Hub could be declared truly.
        raise InputError(
            f"model_name_or_path is {name_or_path}, which is the embedded model. Write `embedded`, or download the revision that you want "
            "and give its folder."
        )
    located = find_model(name_or_path, revision=asked)
    check_model_folder(located.folder)
    return BaseModel(located.folder, "hub", name_or_path, located.content_hash, located.content_hash)


def declared_licence(base: BaseModel) -> str | None:
    """As the base model's card says in its front matter, in the Hub's spelling (`apache-2.0`); None where nobody says."""
    from huggingface_hub import ModelCard, hf_hub_download
    from yaml import YAMLError

    if base.given == EMBEDDED:
        return EMBEDDED_LICENCE
    try:
        if base.given == "hub":
            card = hf_hub_download(base.model_id, "README.md", revision=base.revision)
        else:
            card = str(base.folder / "README.md")
        licence = ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError, YAMLError):  # no card, or no network: then the licence is simply not known
        return None
    return licence if isinstance(licence, str) else None


def context_of(model: Any) -> int | None:
    """How many tokens a loaded model reads at most; None where it does not say."""
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    return limit


def load_tokenizer(folder: Path, for_reward: bool) -> Any:
    """The tokenizer, with a padding token that is not the end token.

    A reward is read at the last token that is not padding: where padding and end are the same token, it is read one
    token too early. So such a tokenizer pads with `<|endoftext|>` if it has that token, and is refused for a reward
    model otherwise.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise InputError(
            "The model's tokenizer has no chat template, so persona and question cannot be told apart. Use an "
            "instruction-tuned model."
        )
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        if SAFE_PAD_TOKEN in tokenizer.get_vocab() and tokenizer.eos_token != SAFE_PAD_TOKEN:
            tokenizer.pad_token = SAFE_PAD_TOKEN
        elif for_reward:
            raise InputError(
                f"The tokenizer's padding token is {tokenizer.pad_token!r} and its end token {tokenizer.eos_token!r}, "
                "so a reward would "
                f"be read one token before the end; {SAFE_PAD_TOKEN} is not to be had as another padding token. Give "
                "the tokenizer a "
                "padding token of its own (tokenizer.pad_token = ...) and save it with the model."
            )
    return tokenizer
