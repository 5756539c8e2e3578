"""From the path of a study file to the study and its database."""

from pathlib import Path

from builder.errors import InputError
from builder.hub.client import PREFIX
from builder.published import version_folder
from eval.human.material import Material, draw_material
from eval.human.store import Store, open_store
from eval.human.study import Study, load_study


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
