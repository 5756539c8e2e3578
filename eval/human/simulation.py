"""What was planted in simulated raters: a JSON file beside their database. Apart from eval.human.simulated, so that a served study, which
exports it, needs no judge."""

from pathlib import Path
from typing import Any

from builder.files import read_json


def simulation_path(database: Path) -> Path:
    return database.with_suffix(".json")


def read_simulation(database: Path) -> Any:
    """Settings of the simulation and its raters; None where the file is gone."""
    path = simulation_path(database)
    return read_json(path) if path.is_file() else None
