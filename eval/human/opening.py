"""From the path of a study file to the study and its database, which is made, opened, or taken over by a changed study file."""

import json
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from builder.errors import InputError, few
from builder.hub.client import PREFIX
from builder.published import version_folder
from eval.human.database import SCHEMA, Database, fact, is_laid_out, touch
from eval.human.material import Material, draw_material, material_from_dict, material_to_dict
from eval.human.store import Store
from eval.human.study import Study, changed_keys, fingerprint_of, load_study, settings_of

KINDS = ("human", "simulated")  # of a whole database: the two are never mixed


class ChangedStudyError(InputError):
    """The study file has changed since its database was made, and no answer is there yet: the next that may write takes it over."""


def open_study(
    study_path: Path, database: Path | None = None, *, simulated: bool = False, create: bool = True
) -> tuple[Study, Store]:
    """The study of the file, and its database, which stands beside it if none is named.

    The dataset is read only where the database holds no material yet. create=False: the database must be there, and stays as it is.
    Raises InputError as load_study, open_store and draw_material do, and for a dataset that is not there.
    """
    study = load_study(study_path)

    def draw() -> Material:
        return draw_material(study, dataset_folder(study, study_path))

    path = database or database_path(study_path, simulated)
    return study, open_store(path, study, draw, "simulated" if simulated else "human", create=create)


def database_path(study_path: Path, simulated: bool = False) -> Path:
    return study_path.with_suffix(".simulated.sqlite" if simulated else ".sqlite")


def dataset_folder(study: Study, study_path: Path) -> Path:
    """The published folder that the study names. Raises InputError where it is not there."""
    if study.dataset.startswith(PREFIX):
        return version_folder(study.dataset)
    folder = study_path.parent / study.dataset
    if not folder.is_dir():
        raise InputError(
            f"{study_path.name}: dataset is {study.dataset}, and there is no such folder beside the study file. Give a folder that "
            "`persona publish` wrote, as seen from the study file, or hub:org/name@v1.0.0."
        )
    return folder


def open_store(
    path: Path, study: Study, draw: Callable[[], Material], kind: str = "human", *, create: bool = True
) -> Store:
    """The study's database, made with what `draw` gives where there is none yet.

    A study file that changed while no answer was there takes the database over: the material is drawn anew, tokens stay valid, and who had
    begun begins again. Afterwards InputError names the keys that differ. Also InputError: no database of ours, another study's, one of the
    other kind. With create=False nothing is written: also one that is not there; ChangedStudyError for a study
    file that would have to take it over.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it is one of {KINDS}")
    material = None
    if not path.exists() or path.stat().st_size == 0:
        if not create:
            raise InputError(
                f"There is no database {path}: the study has not begun. `persona annotate "
                f"{'simulate' if kind == 'simulated' else 'tokens'}` makes it, or give another with --database."
            )
        material = draw()  # before there is a file: where it cannot be drawn, none is left behind
        touch(path)
    database = Database(path)
    try:
        with database.reading() as connection:
            empty = not is_laid_out(connection)
        if empty:
            if not create:
                raise InputError(f"{path} holds no study yet. Start one with `persona annotate tokens`.")
            _lay_out(database, study, material or draw(), kind)
        with database.reading() as connection:
            changed = _changed(connection, path, study, kind)
            answered = _has_answers(connection)
        if changed and not create and not answered:
            raise ChangedStudyError(
                f"The study file has changed since {path.name} was made ({few(changed)}). No answer is there yet: `persona annotate serve` "
                "takes the changed file over."
            )
        if changed:
            # Drawn before the lock is taken, for others answer meanwhile; where an answer came in between, nothing is taken over.
            if answered:
                raise _changed_too_late(path, changed, kind)
            _take_over(database, path, study, draw(), kind)
        with database.reading() as connection:
            kept = material_from_dict(json.loads(fact(connection, "material")))
    except BaseException:
        database.close()
        raise
    return Store(path, study, kept, kind, database)


def _lay_out(database: Database, study: Study, material: Material, kind: str) -> None:
    with database.writing() as connection:
        if is_laid_out(connection):  # another process was faster
            return
        for statement in SCHEMA:
            connection.execute(statement)
        facts = {"kind": kind, "secret": secrets.token_hex(32)} | _facts(study, material)
        connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())


def _facts(study: Study, material: Material) -> dict[str, str]:
    return {
        "settings": json.dumps(settings_of(study), ensure_ascii=False),
        "fingerprint": fingerprint_of(study),
        "material": json.dumps(material_to_dict(material), ensure_ascii=False),
    }


def _changed(connection: sqlite3.Connection, path: Path, study: Study, kind: str) -> list[str]:
    """Keys of the study file that differ from what the database was made with. Raises InputError for another study or kind."""
    if fact(connection, "kind") != kind:
        there, wanted = ("simulated raters", "people") if kind == "human" else ("people", "simulated raters")
        raise InputError(
            f"{path} is made for answers of {there}, and those of {wanted} were asked for; the two are never mixed. "
            f"{'Leave out' if kind == 'simulated' else 'Give'} --simulated, or give another file with --database."
        )
    settings = json.loads(fact(connection, "settings"))
    changed = changed_keys(settings, settings_of(study))
    if settings["title"] != study.title and changed != ["title"]:
        raise InputError(
            f"{path} belongs to another study, {settings['title']!r}; this one is {study.title!r}. Give its own database with --database. "
            "Nothing was changed."
        )
    return changed


def _changed_too_late(path: Path, changed: Sequence[str], kind: str) -> InputError:
    start_again = (
        f"delete {path.name}, for nobody's answers are in it, or give another file with --database"
        if kind == "simulated"
        else "start another study with a title and a database of its own"
    )
    return InputError(
        f"The study file has changed since the first answer in {path.name}: {', '.join(changed)}. Put the old values back, or "
        f"{start_again}. Nothing was changed."
    )


def _take_over(database: Database, path: Path, study: Study, material: Material, kind: str) -> None:
    with database.writing() as connection:
        changed = _changed(connection, path, study, kind)
        if not changed:  # another process was faster
            return
        if _has_answers(connection):
            raise _changed_too_late(path, changed, kind)
        connection.executemany(
            "UPDATE facts SET value = ? WHERE name = ?", [(v, k) for k, v in _facts(study, material).items()]
        )
        # They agreed to another study, perhaps, and to a persona that may be gone.
        connection.execute("UPDATE raters SET persona_id = NULL, began = NULL, last_seen = NULL")
        connection.execute("DELETE FROM shown")


def _has_answers(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT EXISTS (SELECT 1 FROM answers)").fetchone()[0] == 1
