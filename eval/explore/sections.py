"""`python -m eval.explore.sections FOLDER`: the sections of the report as HTML, one JSON list on standard output.

A program of its own, because some evaluations import torch, and the explorer is to start quickly and to stay small. It ends when its
standard input does: the explorer holds the other end, and nothing of it is left behind, however the explorer ends.
"""

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path


def main() -> None:
    threading.Thread(target=_end_with_input, daemon=True).start()

    from eval.explore.drawing import TEMPLATES
    from eval.metrics import FEW_CLUSTERS
    from eval.report.judges import judges_in_words
    from eval.report.paper_figures import figure_groups
    from eval.report.render import new_report_environment
    from eval.report.sections import evaluation_sections
    from eval.results import load_results

    folder = Path(sys.argv[1])
    loaded = load_results(folder)
    template = new_report_environment(TEMPLATES).get_template("section.html")
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
        drawn.append({"anchor": section.anchor, "title": section.title, "mark": section.mark, "html": html})
    json.dump(drawn, sys.stdout)


def _end_with_input() -> None:
    # Not sys.stdin: its lock would be held when the program ends by itself.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
