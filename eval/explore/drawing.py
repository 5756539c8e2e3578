"""How pages are drawn from values: everything that is filled in is data, and escaped."""

from functools import cache
from pathlib import Path
from typing import Any

from eval.explore.filters import Asked
from eval.web.server import TEMPLATES as SHARED_TEMPLATES

TEMPLATES = Path(__file__).with_name("templates")


def new_environment(*folders: Path) -> Any:
    """Templates of these folders; a value that is missing is an error, never an empty place."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def draw(template: str, values: dict[str, Any]) -> str:
    text: str = _of_pages().get_template(template).render(values)
    return text


@cache
def _of_pages() -> Any:
    environment = new_environment(TEMPLATES, SHARED_TEMPLATES)
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "score": score,
        "words": lambda text: str(text).replace("_", " "),
    }
    environment.globals["link"] = lambda page, **values: Asked({}).address(page, **values)
    return environment


def score(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")
