"""What the card and the Croissant metadata say in the same words: what the dataset is, its limits, how to cite it."""

import re
from collections.abc import Mapping
from typing import Any

from dataset_card.origin import CENSUS, FILE
from dataset_card.snippets import tag

AUTHORS = "The PERSONA testbed authors"
TITLE = "PERSONA testbed: personas, preference pairs and the controls that show whether the persona was used"
HUB = "https://huggingface.co/datasets"

WHAT_IT_IS = (
    "Preference pairs in which the better answer depends on **who is asking**. Each pair belongs to a persona; a chat question "
    "was answered without a persona, criticised on the persona's behalf, and revised."
)

# Each begins with what it is about, in bold on the card.
ONE_COUNTRY = (
    "**One country.** Personas follow the population of the United States; other societies are not represented."
)
PAPERS_LIMITATIONS = (
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
OF_CENSUS_PERSONAS = (
    "**Census records may be synthetic.** The packaged records are drawn from models fitted to real ones. They follow the marginals and "
    "many joint distributions, not all; do not use them to estimate anything about a population.",
    "**Sampled attributes.** Politics, religion, personality and habits are not census questions; they are drawn from published "
    "statistics and hand-written lists, and their combination in one persona may be unlike any living person.",
)
OF_FILE_PERSONAS = (
    "**Personas as they came.** They come from a file. Whom they represent and how they were made is for its source to say; nothing about "
    "them was compared with a population or checked for contradictions.",
)
OWN_LIMITATIONS = (
    "**Near-duplicates** are recognised by wording. A question put in other words may stand on both sides of the split.",
    "**Some questions are sensitive**, and some come from a public collection with its own tone. Answers are no advice.",
)
NOT_FOR = "predicting what a real person or group thinks, targeting people, or replacing their consent or their voice"
SENSITIVE_ATTRIBUTES = (
    "attributes that are sensitive of a real person: race, religion, politics, health, disability, income."
)
CENSUS_PRIVACY = (
    "Record numbers and areas of the census microdata are not published, and income is rounded unless the recipe says otherwise. The "
    "Census Bureau asks users not to try to identify anyone in its microdata."
)


def nobody_speaks(origin: str) -> str:
    """origin: here and below, of the personas (`origin.persona_origin`)."""
    if origin == FILE:
        return "**No real person speaks here.** What the personas prefer was written and judged by language models."
    if origin == CENSUS:
        return "**No real person speaks here.** Personas are synthetic; what they prefer was written and judged by language models."
    return "**No real person speaks here.** Personas are synthetic; what they prefer was written by a language model."


def papers_limitations(origin: str) -> tuple[str, ...]:
    """The paper's limits that hold here. Personas from a file follow whatever population they follow."""
    return PAPERS_LIMITATIONS if origin == FILE else (ONE_COUNTRY, *PAPERS_LIMITATIONS)


def own_limitations(origin: str) -> tuple[str, ...]:
    """Of the authors' personas no more is said than the authors say."""
    of_personas = {CENSUS: OF_CENSUS_PERSONAS, FILE: OF_FILE_PERSONAS}.get(origin, ())
    return of_personas + OWN_LIMITATIONS


def sensitive(origin: str) -> tuple[str, ...]:
    if origin == FILE:
        return (
            f"Personas may have {SENSITIVE_ATTRIBUTES} Whether they are synthetic is for the source of their file to say; they are "
            "published as they came.",
        )
    said = f"Every persona has {SENSITIVE_ATTRIBUTES} The personas are synthetic."
    return (said, CENSUS_PRIVACY) if origin == CENSUS else (said,)


def limitations(origin: str) -> tuple[str, ...]:
    return papers_limitations(origin) + own_limitations(origin)


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
