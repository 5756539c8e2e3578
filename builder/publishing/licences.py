"""Under which licences a text may stand in a published dataset, whatever way its source spells them."""

import re

DEFAULT_LICENCE = "cc-by-4.0"
CC_BY = re.compile(r"cc-by(-\d\.\d)?(-(?!nc|nd|sa)[a-z]{2,3})?")  # of every version and port

# Licences under which a question may stand in a dataset under CC-BY-4.0, each row naming its own, and why. Names as SPDX writes them, in
# lower case; CC-BY in every version and port is CC_BY.
ACCEPTED_LICENCES = {
    "cc0-1.0": "given to everyone without conditions",
    "public-domain": "nobody's",
    "pddl-1.0": "given to everyone without conditions",
    "unlicense": "given to everyone without conditions",
    "odc-by-1.0": "asks for the source's name only, which every row gives",
    "cdla-permissive-1.0": "asks for the licence's text with the data only",
    "cdla-permissive-2.0": "asks for the licence's text with the data only",
    "mit": "asks for its notice only",
    "mit-0": "asks for nothing",
    "isc": "asks for its notice only",
    "bsd-2-clause": "asks for its notice only",
    "bsd-3-clause": "asks for its notice only",
    "apache-2.0": "asks for its notice and a note of changes only",
    "ogl-uk-3.0": "says itself that it goes with CC-BY-4.0",
    "etalab-2.0": "says itself that it goes with CC-BY",
}
# First match decides.
REFUSED_LICENCES = (
    (r"unknown|other|none|", "says nothing of what one may do"),
    (r".*\bnc\b.*", "not for commercial use, which CC-BY-4.0 allows"),
    (r".*\bnd\b.*", "not to be changed, and pairs are made of the question"),
    (r".*(\bsa\b|gpl|gfdl|odbl).*", "must be passed on under the same licence, not under CC-BY-4.0"),
    (r".*", "not among the licences that are known to allow it"),
)
OTHER_SPELLINGS = {
    "cc0": "cc0-1.0",
    "cc-zero": "cc0-1.0",
    "cc0-1.0-universal": "cc0-1.0",
    "pd": "public-domain",
    "pdm": "public-domain",
    "us-pd": "public-domain",
    "pddl": "pddl-1.0",
    "odc-by": "odc-by-1.0",
    "mit-license": "mit",
    "the-mit-license": "mit",
    "bsd": "bsd-3-clause",
    "apache": "apache-2.0",
    "apache-license-2.0": "apache-2.0",
    "apache-2": "apache-2.0",
    "etalab-open-license-2.0": "etalab-2.0",
    "ogl-3.0": "ogl-uk-3.0",
}
WORDS_OF_LICENCES = (
    *(
        ("creative commons", "cc"),
        ("attribution", "by"),
        ("noncommercial", "nc"),
        ("non-commercial", "nc"),
        ("sharealike", "sa"),
    ),
    *(
        ("share-alike", "sa"),
        ("noderivatives", "nd"),
        ("noderivs", "nd"),
        ("international", ""),
        ("unported", ""),
        ("version", ""),
    ),
)
REMARK = re.compile(r"\(.*?\)")
CC_ADDRESS = re.compile(r"https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)(?:/(\d\.\d))?.*")


def licence_defect(licence: str, dataset: str = DEFAULT_LICENCE) -> str | None:
    """Why a text under this licence cannot stand in a dataset under `dataset`; None where it can. Of several, all must allow it."""
    own = normal_licence(dataset)
    for part in re.split(r"[,;]| and ", REMARK.sub(" ", licence)):
        name = normal_licence(part)
        if name != own and name not in ACCEPTED_LICENCES and not CC_BY.fullmatch(name):
            return next(reason for pattern, reason in REFUSED_LICENCES if re.fullmatch(pattern, name))
    # A remark in brackets, `(NVIDIA)`, may say who; it must not take back what the name allows.
    remarks = " ".join(normal_licence(remark.strip("()")) for remark in REMARK.findall(licence))
    return next((reason for pattern, reason in REFUSED_LICENCES[1:-1] if re.fullmatch(pattern, remarks)), None)


def normal_licence(text: str) -> str:
    """`CC BY 4.0`, `Creative Commons Attribution 4.0 (by somebody)` and the licence's address -> `cc-by-4.0`."""
    name = REMARK.sub(" ", text.lower()).strip()
    address = CC_ADDRESS.fullmatch(name)
    if address:
        kind, version = address[1], address[2]
        if kind == "mark":
            return "public-domain"
        name = " ".join(["cc0" if kind == "zero" else f"cc-{kind}", version or ""])
    for words, short in WORDS_OF_LICENCES:
        name = name.replace(words, short)
    name = re.sub(r"[\s_/-]+", "-", name).strip("-.")
    name = re.sub(r"^ccby", "cc-by", name)
    name = re.sub(r"-v(\d)", r"-\1", name)
    return OTHER_SPELLINGS.get(name, name)
