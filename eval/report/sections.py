"""The sections of the evaluations, in the order of the page. Each is written by its own evaluation."""

from collections.abc import Callable, Sequence
from pathlib import Path

from eval.page import Section
from eval.results import Result

SectionWriter = Callable[[Sequence[Result], Path], Section]


def evaluation_sections(results: Sequence[Result], folder: Path) -> list[Section]:
    """One for each evaluation with results in the folder. Each is given its own results alone, and at least one."""
    return [
        section(own, folder)
        for evaluation, section in section_writers().items()
        if (own := [result for result in results if result.evaluation == evaluation])
    ]


def section_writers() -> dict[str, SectionWriter]:
    """Name of the evaluation -> its `section`, imported when needed."""
    from eval.agreement.section import section as agreement
    from eval.attributes.section import section as attributes
    from eval.bench.section import section as bench
    from eval.calibration.section import section as calibration
    from eval.elicitation.section import section as elicitation
    from eval.generations_section import section as generations
    from eval.human.section import section as human_study
    from eval.models_section import section as models
    from eval.side_effects.section import section as side_effects
    from eval.subtlety.section import section as subtlety
    from eval.summaries.section import section as summaries

    return {
        "models": models,
        "generations": generations,
        "bench": bench,
        "calibration": calibration,
        "attributes": attributes,
        "agreement": agreement,
        "human_study": human_study,
        "summaries": summaries,
        "subtlety": subtlety,
        "side_effects": side_effects,
        "elicitation": elicitation,
    }
