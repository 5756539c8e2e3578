"""Where a build's personas come from, which decides what may be said of them."""

from collections.abc import Mapping
from typing import Any

CENSUS = "census"  # drawn from census records, completed from published statistics
FILE = "file"  # finished personas from a file or a dataset of the Hub
AUTHORS = "authors"  # those in the pairs that the paper's authors released


def persona_origin(build: Mapping[str, Any]) -> str:
    """CENSUS, FILE or AUTHORS. Only records of a census have a survey year; a build that says nothing of its personas drew them."""
    if (build.get("imported") or {}).get("kind") == "authors":
        return AUTHORS
    personas = (build.get("stages") or {}).get("personas") or {}
    return FILE if "survey_year" in personas and personas["survey_year"] is None else CENSUS
