"""No code but the installed packages' runs: none from a model's folder, none from the Hub, none out of a pickle.

Three ways in which transformers 5.23 would run such code: a class named by `auto_map` in config.json (with `trust_remote_code`, or after
asking on the terminal), compiled kernels fetched from the Hub (`use_kernels`, or an attention named owner/name), and weights in a pickle.
"""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import InputError

# What each attention needs beside torch. Without its package transformers would fetch a compiled kernel from the Hub in its place.
ATTENTION_PACKAGES = {
    "eager": None,
    "sdpa": None,
    "flex_attention": None,
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
}
LOADING_KEYS = ("trust_remote_code", "code_revision", "use_kernels", "allow_all_kernels", "kernel_config")


def check_loading_keys(model_init_kwargs: Mapping[str, Any] | None, attn_implementation: str | None) -> None:
    """Raises InputError for recipe keys with which a model's loading would run code that is not installed."""
    asked = [key for key in LOADING_KEYS if (model_init_kwargs or {}).get(key)]
    if asked:
        raise InputError(
            f"model_init_kwargs sets {', '.join(asked)}, which runs code from a model's folder or from the Hub. Remove it, and use a model "
            "whose code is part of transformers."
        )
    for name in {attn_implementation, (model_init_kwargs or {}).get("attn_implementation")} - {None}:
        if name not in ATTENTION_PACKAGES:
            raise InputError(
                f"attn_implementation is {name!r}. Anything but {', '.join(ATTENTION_PACKAGES)} is a compiled kernel that would be fetched "
                "from the Hub and run. Choose one of these."
            )
        package = ATTENTION_PACKAGES[name]
        if package is not None and importlib.util.find_spec(package) is None:
            raise InputError(
                f"attn_implementation is {name!r}, but the package {package} is not installed, and a kernel from the Hub is no substitute. "
                "Install it, or choose sdpa."
            )


def check_model_folder(folder: Path) -> None:
    """Raises InputError for a model folder (base or finished, with all weights or an adapter) that needs code of its own, or whose
    weights are no safetensors.
    """
    adapter = (folder / "adapter_config.json").is_file()
    weights = "adapter_model.safetensors" if adapter else "model*.safetensors"
    if not any(folder.glob(weights)):
        others = sorted(path.name for path in folder.glob("*.bin"))
        raise InputError(
            f"{folder} holds no {weights}"
            + (f", only {', '.join(others)}" if others else "")
            + ". Weights are read from safetensors only, "
            "because reading a pickle can run code. Save the model with safe_serialization=True, or give another folder."
        )
    if not adapter:
        _check_own_classes(folder)


def _check_own_classes(folder: Path) -> None:
    """An `auto_map` beside a model type that transformers knows is harmless: transformers then uses its own class."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}/config.json cannot be read ({type(error).__name__}). Give a whole model folder."
        ) from None
    model_type = config.get("model_type")
    if model_type not in CONFIG_MAPPING:
        brings = ", and the folder's own code is never run" if "auto_map" in config else ""
        raise InputError(
            f"{folder.name} is a model of type {model_type!r}, which the installed transformers does not have{brings}. Use a model whose "
            "code is part of transformers, or a newer transformers."
        )
