"""How the explorer's pages are drawn from values."""

from functools import cache
from pathlib import Path
from typing import Any

from eval.explore.filters import Asked
from eval.web.drawing import new_environment
from eval.web.server import TEMPLATES as SHARED_TEMPLATES

TEMPLATES = Path(__file__).with_name("templates")


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
