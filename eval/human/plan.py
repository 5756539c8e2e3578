"""`persona annotate plan`: what a study asks whom, how long that takes, and how sure its kappas will be, before anybody is invited."""

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eval.human.exclusion import PASTED
from eval.human.material import CHECK, Item, Material, draw_material
from eval.human.opening import ChangedStudyError, database_path, dataset_folder, open_study
from eval.human.power import (
    DIFFERENCE,
    JUDGE,
    MAJORITY,
    RATERS,
    Assumed,
    Planned,
    closed_form_half_width,
    personas_needed,
    planned_study,
    power_rows,
)
from eval.human.study import Exclusions, Study, fingerprint_of, load_study
from eval.printing import plain_number
from training.estimates import MINIMUM_ROWS

WIDTH = 110
# Brysbaert (2019, Journal of Memory and Language 109): adults read 238 words of English non-fiction a minute. Comparing two answers takes
# reading back, so it is taken slower here.
WORDS_A_MINUTE = 200
SECONDS_TO_WRITE = 60.0  # a choice and a reasoning of a sentence or two
MINUTES_BEFORE = 2.0  # instructions and consent
WISHED = (0.10, 0.15)  # half-widths
RATERS_TRIED = (2, 3, 4, 6)


def plan_text(study_path: Path) -> str:
    """For a terminal, at most WIDTH columns. Draws what would be shown, and writes nothing. Raises InputError as load_study and
    draw_material do."""
    study = load_study(study_path)
    database = database_path(study_path)
    material = None
    if database.exists():
        # Where the file changed before the first answer, the next that may write draws anew, and so does this.
        with suppress(ChangedStudyError):
            study, store = open_study(study_path, create=False)
            material = store.material
            store.close()
    drawn_anew = material is None
    material = material or draw_material(study, dataset_folder(study, study_path))
    shown = shown_items(material)
    found = planned_study(study, personas_a_question(shown))
    parts = [
        *_design(study, material, shown),
        "",
        *_wrapped(
            f"About {minutes_of(material):.0f} minutes a rater, {study.raters * minutes_of(material) / 60:.0f} hours of all raters "
            f"together: {MINUTES_BEFORE:g} minutes for instructions and consent, the words of the card, the questions and the answers at "
            f"{WORDS_A_MINUTE} a minute, and {SECONDS_TO_WRITE:g} seconds for each choice with its reasoning. Try it yourself before you "
            "promise a payment."
        ),
        "",
        "Who finished and does not count:",
        *(line for rule in rules_in_words(study.exclusions) for line in _wrapped(f"- {rule}", "  ")),
        *_wrapped(_by_chance(study)),
        "",
        *_wrapped(
            f"Fingerprint of the study file: {fingerprint_of(study)}. It covers these rules, is fixed with the first answer and stands in "
            "the result; publish it before, and everybody can see that the rules were not chosen by the result."
        ),
        "",
        *_precision(study, found, personas_a_question(shown)),
        "",
        *_next(study, study_path, database, drawn_anew),
    ]
    return "\n".join(parts)


def rules_in_words(rules: Exclusions) -> list[str]:
    """A sentence for each rule that is on, as eval.human.exclusion applies them; one sentence if all are off."""
    said = []
    if (failed := rules.attention_checks_failed) is not None:
        said.append(f"Failed {failed} attention check{'s' if failed > 1 else ''} or more.")
    if (seconds := rules.median_seconds_below) is not None:
        said.append(f"Took less than {seconds:g} seconds a question (the median).")
    if (share := rules.pasted_share_above) is not None:
        said.append(f"Pasted {PASTED} characters or more into over {share:.0%} of the reasonings.")
    if (share := rules.same_place_share_above) is not None:
        said.append(f"Took the same place, first or second, in over {share:.0%} of the choices.")
    if (share := rules.repeated_reasoning_above) is not None:
        said.append(f"Repeated an earlier reasoning word for word in over {share:.0%} of the questions.")
    return said or ["Nobody: every rule of exclusion is off."]


def shown_items(material: Material) -> list[Item]:
    """Those that raters are asked, without the checks."""
    return [
        item
        for persona in material.personas
        for item in persona.items
        if item.item_id in persona.shown and item.kind != CHECK
    ]


def personas_a_question(items: Sequence[Item]) -> float:
    return len(items) / max(1, len({item.question for item in items}))


def mirror_counts(items: Sequence[Item]) -> tuple[int, int]:
    """(contrast pairs that are shown, how many of them with their mirror): a mirror has the same question and the same two texts."""
    texts = Counter((item.question, *sorted(item.answers)) for item in items if item.kind == "contrast")
    return texts.total(), sum(count for count in texts.values() if count > 1)


def minutes_of(material: Material) -> float:
    """Of one rater, the mean over personas."""
    minutes = []
    for persona in material.personas:
        shown = [item for item in persona.items if item.item_id in persona.shown]
        words = sum(len(f"{what} {value}".split()) for what, value in persona.card)
        words += sum(len(" ".join((item.question, *item.answers)).split()) for item in shown)
        minutes.append(MINUTES_BEFORE + words / WORDS_A_MINUTE + len(shown) * SECONDS_TO_WRITE / 60)
    return sum(minutes) / max(1, len(minutes))


def _by_chance(study: Study) -> str:
    """How often a careful rater is excluded for its places, which are drawn: of n choices each side is as likely."""
    share, n = study.exclusions.same_place_share_above, study.questions_per_rater
    if share is None:
        return ""
    chance = sum(math.comb(n, count) for count in range(n + 1) if max(count, n - count) / n > share) / 2**n
    said = f"By chance alone {chance:.2%} of careful raters take one place that often in {n} questions"
    return f"{said}; raise the share, or switch the rule off with null." if chance > 0.01 else f"{said}."


def _design(study: Study, material: Material, shown: Sequence[Item]) -> list[str]:
    kinds = Counter(item.kind for item in shown)
    contrast, mirrored = mirror_counts(shown)
    lines = [
        f"{study.title}",
        f"{study.personas} personas with {study.attributes} attributes each, {study.raters_per_persona} raters a persona: "
        f"{study.raters} raters.",
        f"{study.questions_per_rater} of a persona's {study.questions_per_persona} questions are asked, the same of all its raters, with "
        f"{study.attention_checks} attention check{'s' if study.attention_checks != 1 else ''}.",
        f"In all {len(shown)} questions, {len(shown) * study.raters_per_persona:,} answers.",
    ]
    if contrast:
        lines.append(
            f"contrast: {kinds['contrast']} pairs, {mirrored} of them with their mirror (the same two answers, for the other persona)."
        )
    if kinds["dpf"]:
        lines.append(
            f"dpf: {kinds['dpf']} pairs, a base answer against the refined one. The rule `take the refined one` needs no persona; only "
            "contrast pairs tell it from a rater who looks at the persona."
        )
    few = [f"{kind} ({kinds[kind]})" for kind in ("contrast", "dpf") if 0 < kinds[kind] < MINIMUM_ROWS]
    if few:
        lines.append(f"Too few for figures of their own, which take {MINIMUM_ROWS}: {', '.join(few)}.")
    if contrast and mirrored < MINIMUM_ROWS:
        lines.append(
            f"With {mirrored} mirrored pairs raters of two personas on the same two answers cannot be compared, which takes "
            f"{MINIMUM_ROWS}: ask more questions, or of more personas."
        )
    if kinds["dpf"] and not contrast:
        lines.append(
            "No contrast pair is asked, so nothing in this study can tell persona from the taste for refined answers."
        )
    version = f"version {material.version}, " if material.version else ""
    lines.append(f"Drawn from {Path(study.dataset).name}, {version}content {material.dataset_hash[:12]}.")
    return [line for text in lines for line in _wrapped(text)]


def _precision(study: Study, found: Planned, a_question: float) -> list[str]:
    """The table of half-widths, power, and how many personas other widths would need."""
    assumed = Assumed()
    lines = _wrapped(
        f"Expected half-widths of 95 % intervals of kappa, if any two raters agree with kappa {assumed.kappa:g}, the judge with a rater "
        f"as well, and kappas differ by {assumed.persona_spread:g} between personas and {assumed.question_spread:g} between "
        f"questions (standard deviations). `printed` are the intervals of the analysis, which resample personas and questions and err on "
        "the wide side."
    )
    lines.append(f"{'':<26}{'all personas':>14}{'printed':>10}{'one persona':>13}{'of one, undefined':>19}")
    for name, pooled, printed, one, undefined in power_rows(found):
        lines.append(f"{name:<26}{_width(pooled):>14}{_width(printed):>10}{_width(one):>13}{f'{undefined:.1%}':>19}")
    pooled_items = study.personas * study.questions_per_rater
    lines += _wrapped(
        f"Closed form, two raters, independent items: {_width(closed_form_half_width(assumed.kappa, pooled_items))} for all "
        f"{pooled_items}, {_width(closed_form_half_width(assumed.kappa, study.questions_per_rater))} for one persona's "
        f"{study.questions_per_rater}."
    )
    if found.with_majority is not None:
        lines.append(f"Three quarters of the raters agree on {found.with_majority:.0%} of the questions.")
    else:
        lines.append("With fewer than three raters a persona there is no majority; only single raters can be compared.")
    lines += _wrapped(
        f"Power at 5 %: the judge's kappa told from its own under a wrong persona (kappa {assumed.control:g}): all personas "
        f"{_share(found.against_control)}, one persona {_share(found.one_persona_against_control)}. From a judge whose kappa is "
        f"{DIFFERENCE:g} lower: {_share(found.against_weaker)}."
    )
    lines += ["", "Personas needed for a printed half-width, with raters a persona:"]
    lines.append(f"{'':<26}{'':>6}" + "".join(f"{count:>8}" for count in RATERS_TRIED))
    for name in (RATERS, JUDGE, MAJORITY):
        pooled, printed = found.pooled[name], found.printed[name]
        widened = printed / pooled if pooled and printed else 1.0
        for wished in WISHED:
            needed = [
                personas_needed(
                    wished,
                    count,
                    study.questions_per_rater,
                    name,
                    widened=widened,
                    personas_a_question=a_question,
                )
                for count in RATERS_TRIED
            ]
            cells = "".join(f"{'-' if count is None else f'{count:,}':>8}" for count in needed)
            lines.append(f"{name:<26}{_width(wished):>6}{cells}")
    return lines


def _next(study: Study, study_path: Path, database: Path, drawn_anew: bool) -> list[str]:
    name = study_path.name
    if database.exists() and drawn_anew:
        return _wrapped(
            f"The study file has changed since {database.name} was made, and no answer is there yet. This plan is drawn anew from the "
            "changed file, and nothing was written; the next `persona annotate tokens` or `serve` takes the changed file over. "
            "Tokens stay valid."
        )
    if database.exists():
        return [f"{database.name} is there already: the study can be served, and what it shows stays as it is."]
    letting_in = (
        f"persona annotate tokens {name} --address https://WHERE-IT-IS-SERVED   the raters' links"
        if study.recruiting == "tokens"
        else "(recruiting: open; whoever comes by the panel's link is let in)"
    )
    return [
        "Nothing was written. Next:",
        f"  persona annotate simulate {name}      try the whole study without people",
        f"  {letting_in}",
        f"  persona annotate serve {name}         the raters' pages",
        f"  persona annotate status {name}        who has answered",
        f"  persona annotate analyse {name} --judge JUDGE=MODEL",
    ]


def _width(value: float | None) -> str:
    return "undefined" if value is None else f"±{plain_number(value)}"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.0%}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent)
