"""A study as a folder that runs as a Hugging Face Space: the study file, what its raters are shown, and the code that serves it."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from builder.errors import InputError
from builder.files import make_folder, write_json, write_text
from builder.hub.client import PREFIX
from builder.strict_yaml import read_yaml
from eval.human.material import Material, draw_material, material_to_dict
from eval.human.opening import database_path, dataset_folder, open_store
from eval.human.study import Study, dataset_name, load_study, settings_of

ROOT = Path(__file__).parents[2]
OURS = ("builder", "training", "eval")
APP = Path(__file__).with_name("space_app.py")
README = Path(__file__).with_name("space_readme.txt")
# What those modules read: pages, and what the browser loads with them.
PAGES = (Path(__file__).with_name("templates"), ROOT / "eval" / "web" / "templates")
# Imported by what serves and exports a study. Gradio comes with the Space, by sdk_version, and brings FastAPI and Jinja.
REQUIREMENTS = ("datasets", "httpx2", "jinja2", "numpy", "pyarrow", "pyyaml")


def write_space(study_path: Path, out: Path, database: Path | None) -> str:
    """Writes the folder `out`, whole or not at all; returns what to do with it.

    With `recruiting: tokens` the tokens are issued here, into the study's database; their hashes let their holders into the Space, and give
    nothing away. What is shown is that database's material too, or drawn now where there is no database.
    Raises InputError where `out` exists, where no token was issued, and as load_study, open_store and draw_material do.
    """
    if out.exists():
        raise InputError(f"{out} is there already. Give a new folder, or remove it first.")
    study = load_study(study_path)
    material, raters = material_and_raters(study_path, study, database or database_path(study_path))
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
        folder = Path(name) / "space"
        folder.mkdir()
        write_text(folder / "STUDY.yaml", study_text(study))
        write_json(folder / "material.json", material_to_dict(material))
        write_json(folder / "raters.json", raters)
        shutil.copyfile(APP, folder / "app.py")
        for path in [*modules().values(), *(path for pages in PAGES for path in pages.rglob("*"))]:
            if path.is_file():
                target = folder / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        write_text(folder / "requirements.txt", "".join(f"{line}\n" for line in requirements()))
        for licence in ("LICENSE", "NOTICE"):
            write_text(folder / licence, licence_text(licence))
        write_text(folder / "README.md", readme(study, material, licence_of(study, study_path), len(raters)))
        folder.rename(out)
    files = [path for path in out.rglob("*") if path.is_file()]
    return (
        f"{out}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB, for a Space with Gradio "
        f"{version('gradio')}. It lets in {letting_in(study, len(raters))}.\nNext: the commands in {out / 'README.md'}."
    )


def material_and_raters(study_path: Path, study: Study, database: Path) -> tuple[Material, list[str]]:
    """raters: ids of the tokens that nobody has used yet, sorted; empty with `recruiting: open`."""
    if not database.exists():
        if study.recruiting == "tokens":
            raise InputError(
                f"There is no database {database}, so no token was issued, and nobody could enter the Space. Issue them first: persona "
                f"annotate tokens {study_path} --address https://ORG-NAME.hf.space"
            )
        return draw_material(study, dataset_folder(study, study_path)), []
    store = open_store(database, study, lambda: draw_material(study, dataset_folder(study, study_path)), create=False)
    try:
        raters = [rater.rater_id for rater in store.raters() if rater.state == "new"]
        if study.recruiting == "open":
            return store.material, []
        if not raters:
            raise InputError(
                f"{database} holds no token that is still unused, so nobody could enter the Space. Issue some: persona annotate tokens "
                f"{study_path} --address https://ORG-NAME.hf.space"
            )
        return store.material, raters
    finally:
        store.close()


def modules() -> dict[str, Path]:
    """Dotted names and files of our modules that the Space imports, found by importing it in a process of its own."""
    code = "import json, sys, eval.human.space_app; print(json.dumps({n: m.__file__ for n, m in sys.modules.items()" + (
        f" if n.partition('.')[0] in {OURS!r} and n != 'eval.human.space_app'}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name: Path(path) for name, path in json.loads(done.stdout).items()}


def requirements() -> list[str]:
    """Lines of requirements.txt, at the versions that are installed here."""
    return [f"{name}=={version(name)}" for name in REQUIREMENTS]


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"{package} is not installed, so its version for the Space is not known. Install it with: pip install "
            "'persona-testbed[annotate]'"
        ) from None


def licence_text(name: str) -> str:
    """LICENSE or NOTICE: beside the packages in a checkout, with the metadata where the program was installed."""
    if (ROOT / name).is_file():
        return (ROOT / name).read_text(encoding="utf-8")
    for file in importlib.metadata.files("persona-testbed") or ():
        if file.name == name:
            return file.read_text(encoding="utf-8")
    raise InputError(f"{name} of persona-testbed is not there. Install it again.")


def licence_of(study: Study, study_path: Path) -> str | None:
    """Of the dataset, by its card; None where that is not at hand."""
    card = study_path.parent / study.dataset / "README.md"
    if study.dataset.startswith(PREFIX) or not card.is_file():
        return None
    text = card.read_text(encoding="utf-8")
    front = text.split("---\n")[1] if text.startswith("---\n") else ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.yaml"
        path.write_text(front, encoding="utf-8")
        licence = read_yaml(path).get("license")
    return licence if isinstance(licence, str) else None


def study_text(study: Study) -> str:
    """The study file anew, every key with its value: what stands in the file beside them, comments and the dataset's place, stays here."""
    return yaml.safe_dump(settings_of(study), sort_keys=False, allow_unicode=True, width=120)


def letting_in(study: Study, raters: int) -> str:
    if study.recruiting == "tokens":
        return f"the holders of {raters} tokens, those that nobody has used yet"
    return f"whoever comes, once for each {study.panel_parameter}"


def readme(study: Study, material: Material, licence: str | None, raters: int) -> str:
    """The Space's front matter, and what to do with the folder."""
    front: Mapping[str, Any] = {
        "title": study.title,
        "sdk": "gradio",
        "sdk_version": version("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "app.py",
        "pinned": False,
        **({"license": licence} if licence else {}),
    }
    # A JSON value is a YAML value: a title may hold a colon or a quote.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()]
    text = README.read_text(encoding="utf-8")
    for word, value in {
        "TITLE": study.title,
        "DATASET": dataset_name(study.dataset) + (f", version {material.version}" if material.version else ""),
        "HASH": material.dataset_hash,
        "LICENCE": f"under {licence}" if licence else "under the licence that its card names",
        "LETTING_IN": letting_in(study, raters),
    }.items():
        text = text.replace(f"{{{word}}}", value)
    return "\n".join(["---", *lines, "---", "", text])
