"""What the card and the Croissant metadata say in the same words: what the dataset is, its limits, how to cite it."""

import re
from collections.abc import Mapping
from typing import Any

from dataset_card.snippets import tag

AUTHORS = "The PERSONA testbed authors"
TITLE = "PERSONA testbed: personas, preference pairs and the controls that show whether the persona was used"
HUB = "https://huggingface.co/datasets"

WHAT_IT_IS = (
    "Preference pairs in which the better answer depends on **who is asking**. Each pair belongs to a synthetic persona; a chat question "
    "was answered without a persona, criticised on the persona's behalf, and revised."
)
NOBODY_SPEAKS = "**No real person speaks here.** Personas are synthetic; what they prefer was written and judged by language models."

# Each begins with what it is about, in bold on the card.
PAPERS_LIMITATIONS = (
    "**One country.** Personas follow the population of the United States; other societies are not represented.",
    "**Simulated feedback.** Language models play the personas, and a critique followed by a rewrite can miss what somebody would want.",
    "**Agreement is not truth.** Agreement between judges (kappa) says that they agree, not that they are right.",
    "**Nobody was asked.** Nothing was tested with real users or over time.",
)
PAPERS_BIASES = (
    "**The models' own biases** enter every text, and unevenly: groups that are rare in their training data are likely drawn worse.",
    "**Stereotypes.** A persona is a handful of attributes. Models tend to fill the rest with stereotypes, and training on such text can "
    "teach them.",
)
OWN_BIASES = (
    "**The text of a persona is itself biased.** Which attributes a profile names, in which order and words, steers the answers.",
    "**The judge may be an author.** Where one model writes, selects and judges, its preference is not independent evidence; compare the "
    "models above, and prefer scores by a judge that had no part in the build.",
)
OWN_LIMITATIONS = (
    "**Census records may be synthetic.** The packaged records are drawn from models fitted to real ones. They follow the marginals and "
    "many joint distributions, not all; do not use them to estimate anything about a population.",
    "**Sampled attributes.** Politics, religion, personality and habits are not census questions; they are drawn from published "
    "statistics and hand-written lists, and their combination in one persona may be unlike any living person.",
    "**Near-duplicates** are removed by wording. A question put in other words may stand on both sides of the split.",
    "**Some questions are sensitive**, and some come from a public collection with its own tone. Answers are no advice.",
)
NOT_FOR = "predicting what a real person or group thinks, targeting people, or replacing their consent or their voice"
SENSITIVE = (
    "Every persona has attributes that are sensitive of a real person: race, religion, politics, health, disability, income. The personas "
    "are synthetic.",
    "Record numbers and areas of the census microdata are not published, and income is rounded unless the recipe says otherwise. The "
    "Census Bureau asks users not to try to identify anyone in its microdata.",
)


def limitations(imported: bool) -> tuple[str, ...]:
    """imported: the personas come from a file; then nothing is said of records that were not used."""
    return PAPERS_LIMITATIONS + (OWN_LIMITATIONS[2:] if imported else OWN_LIMITATIONS)


def biases() -> tuple[str, ...]:
    return PAPERS_BIASES + OWN_BIASES


def plain(text: str) -> str:
    """Without the marks of Markdown."""
    return re.sub(r"\*\*|`", "", text)


def page(statistics: Mapping[str, Any]) -> str | None:
    """Where this version is seen on the Hub, None for a folder."""
    repository = statistics.get("repo_id")
    return f"{HUB}/{repository}/tree/{tag(statistics['version'])}" if repository else None


def citation(statistics: Mapping[str, Any]) -> str:
    """BibTeX of this version."""
    fingerprint = (statistics.get("build") or {}).get("fingerprint")
    note = f"Recipe {_in_braces(statistics['recipe_name'])}" + (
        f", fingerprint {fingerprint[:12]}" if fingerprint else ""
    )
    lines = [
        "@misc{personatestbed,",
        f"  title   = {{{{{TITLE}}}}},",
        f"  author  = {{{{{AUTHORS}}}}},",
        f"  version = {{{statistics['version']}}},",
        *([f"  url     = {{{page(statistics)}}},"] if page(statistics) else []),
        f"  note    = {{{note}}}",
        "}",
    ]
    return "\n".join(lines)


def _in_braces(text: Any) -> str:
    """A name that can end neither its field nor the code block."""
    return re.sub(r"[{}`\s]+", " ", str(text)).strip()
