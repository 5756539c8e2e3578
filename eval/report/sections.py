"""The sections of the evaluations, in the order of the page. Each is written by its own evaluation."""

from collections.abc import Sequence
from pathlib import Path

from eval.page import Section
from eval.results import Result


def evaluation_sections(results: Sequence[Result], folder: Path) -> list[Section]:
    """One for each evaluation with results in the folder."""
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

    written = (
        ("models", models),
        ("generations", generations),
        ("bench", bench),
        ("calibration", calibration),
        ("attributes", attributes),
        ("agreement", agreement),
        ("human_study", human_study),
        ("summaries", summaries),
        ("subtlety", subtlety),
        ("side_effects", side_effects),
        ("elicitation", elicitation),
    )
    found = []
    for evaluation, section in written:
        own = [result for result in results if result.evaluation == evaluation]
        made = section(own, folder) if own else None
        if made is not None:
            found.append(made)
    return found
