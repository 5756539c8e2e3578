"""What the card is made of: the statistics of a build for `dataset_card`, and its figures."""

from collections import Counter
from pathlib import Path
from typing import Any

from builder.files import write_bytes
from builder.tables import read_table

Row = dict[str, Any]
TOPIC_FIGURE = "figures/topics.png"  # the paper's figure 3


def write_card(
    folder: Path, run: Path, published: dict[str, Any], checks: list[dict[str, Any]], repository: str | None
) -> None:
    """README.md and figures/ in `folder`. repository: `org/name`, for the snippets; None for a folder."""
    from dataset_card.figures import topic_figure
    from dataset_card.render import render_card

    personas, prompts = read_table(run, "personas"), read_table(run, "prompts")
    topics = Counter(p["topic"] for p in prompts)
    write_bytes(folder / TOPIC_FIGURE, topic_figure(topics))
    stages = published["stages"]
    licences = Counter(p["licence"] or "unknown" for p in prompts)
    census = stages["personas"]
    statistics = {
        "repo_id": repository,
        "version": published["version"],
        "recipe_name": published["name"],
        "licence": published.get("licence", "cc-by-4.0"),
        "configs": published["configs"],
        "build": {
            **published,
            "sources": {
                "census records": census.get("source"),
                "census survey year": census.get("survey_year"),
                "questions": stages["prompts"].get("source"),
                "question licences": ", ".join(f"{name} ({n})" for name, n in sorted(licences.items())),
            },
        },
        "audit": {check["name"]: check for check in checks},
        "flip_rate": stages.get("contrast", {}).get("flip", {}),
        "personas": {
            "seen": sum(p["group"] == "seen" for p in personas),
            "unseen": sum(p["group"] == "unseen" for p in personas),
            "adults": sum(bool(p["is_adult"]) for p in personas),
        },
        "topics": dict(topics),
        "figures": {"Questions by topic": TOPIC_FIGURE},
    }
    (folder / "README.md").write_text(render_card(statistics), encoding="utf-8")
