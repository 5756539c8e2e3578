"""A trained DPO model behind the interface of every other language model, so that its answers are recorded, replayed and counted alike."""

import hashlib
from pathlib import Path
from typing import Any

from builder.files import sha256_file
from builder.llm.transformers_client import TransformersClient
from training.record import finished_record
from training.scoring import load_dpo_model


class TrainedClient(TransformersClient):
    """folder: of a finished DPO model. base_model: where the base of its adapter is, if it was trained from a folder."""

    def __init__(self, folder: Path, base_model: str | None = None, batch_size: int = 16):
        record = finished_record(folder)
        weights = hashlib.sha256()
        for path in sorted(folder.glob("*.safetensors")):
            weights.update(sha256_file(path).encode())
        weights.update(str(record["base_model"].get("content_hash")).encode())
        self.identity = {
            "model": f"{record['base_model']['model_id']}+{record['kind']}",
            "revision": weights.hexdigest(),
        }
        self.folder = folder
        self.base_model = base_model
        self.batch_size = batch_size
        self._tokenizer: Any = None
        self._model: Any = None
        self._sentence_tables: Any = None

    @property
    def tokenizer(self) -> Any:
        self._load()
        return self._tokenizer

    @property
    def model(self) -> Any:
        self._load()
        return self._model

    def _load(self) -> None:
        if self._model is None:
            loaded = load_dpo_model(self.folder, self.base_model)
            self._model, self._tokenizer = loaded.model.eval(), loaded.tokenizer
            self._tokenizer.padding_side = "left"
