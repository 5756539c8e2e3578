"""How every page of ours is drawn from values, those that are served and the report."""

from pathlib import Path
from typing import Any


def new_environment(*folders: Path) -> Any:
    """Templates of these folders, the first that has a name. Everything that is filled in is data, personas and answers among it, and is
    escaped; a value that is missing is an error, never an empty place."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
