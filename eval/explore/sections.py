"""`python -m eval.explore.sections FOLDER`: the sections of the report as HTML, one JSON list on standard output.

A program of its own, because some evaluations import torch, and the explorer is to start quickly and to stay small.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")


def main() -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from eval.metrics import FEW_CLUSTERS
    from eval.report import render
    from eval.report.judges import judges_in_words
    from eval.report.paper_figures import figure_groups
    from eval.report.sections import evaluation_sections
    from eval.results import load_results
    from training.estimates import Estimate

    folder = Path(sys.argv[1])
    loaded = load_results(folder)
    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, render.TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": render.percent,
        "number": render.number,
        "strip": render.strip_places,
        "plain": render.plain,
        "first_sentence": render.first_sentence,
    }
    environment.tests["estimate"] = lambda value: isinstance(value, Estimate)
    template = environment.get_template("section.html")
    drawn = []
    for section in evaluation_sections(loaded, folder):
        # Samples are what the explorer itself shows.
        bare = replace(section, examples=())
        html = template.render(
            entry=bare,
            figure_groups={bare.anchor: figure_groups(bare)},
            judges=judges_in_words(loaded),
            few_clusters=FEW_CLUSTERS,
        )
        drawn.append({"anchor": section.anchor, "title": section.title, "scripted": section.scripted, "html": html})
    json.dump(drawn, sys.stdout)


if __name__ == "__main__":
    main()
