"""Serves the study of this folder in a Hugging Face Space. README.md says what the Space needs, and how to get the answers out."""

import json
import os
import sys
from pathlib import Path

from builder.errors import InputError
from eval.human.app import serve
from eval.human.material import material_from_dict
from eval.human.opening import open_store
from eval.human.space_storage import admit, copied, place, take_up
from eval.human.study import load_study

HERE = Path(__file__).resolve().parent


def main() -> None:
    where = place(os.environ)
    taken_up = take_up(where)
    if taken_up is not None:
        print(f"Goes on from {taken_up}.", flush=True)
    study = load_study(HERE / "STUDY.yaml")
    frozen = json.loads((HERE / "material.json").read_text(encoding="utf-8"))
    open_store(where.database, study, lambda: material_from_dict(frozen)).close()
    admit(where.database, json.loads((HERE / "raters.json").read_text(encoding="utf-8")))
    # In a Space, Gradio watches for changes of its own kind of page, misses one here and says so. There is nothing to reload.
    os.environ.pop("SYSTEM", None)
    with copied(where):
        # Spaces say by Gradio's own variables where they look for the pages.
        host, port = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
        # One proxy stands before a Space; it writes down who asks.
        serve(HERE / "STUDY.yaml", where.database, host, port, proxies=1)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
