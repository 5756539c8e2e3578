"""How texts written by a language model drift: each beside the text of the rule or the lists that it replaced, on the same persona.

Three questions. Are they more positive? VADER (Hutto and Gilbert 2014), a lexicon with rules for negation and emphasis: `compound` of a
text in [-1, 1], which grows with the number of feeling words, and `per_word`, the share of positive less that of negative words, which does
not grow with length. Do they lean to the left? Words of lifestyle_lean.yaml: (left - right) / (left + right) over all texts. Are they
longer and more alike? Words a text, share of exact repetitions, distinct words over the same number of words on both sides.

95 % intervals resample personas. The lists know a persona's religion and party and the writer does not, so a pious or partisan phrase can
vanish without the model having any leaning; the lean of both sides is shown beside the difference.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from builder.lexical import words
from builder.randomness import rng_for
from builder.statistics import cluster_sums, resampled_means

LEXICON = Path(__file__).with_name("lifestyle_lean.yaml")
UNWRITTEN = "unwritten_"
WRITTEN_BY_MODEL = ("lm", "repaired")
FEW_TEXTS = 20
ALL = "all texts"
# From this compound on VADER's authors call a text positive, and from its negative on negative.
CLEARLY = 0.05
MEASURES = ("compound", "per_word", "positive", "negative", "left", "right", "words")


@dataclass(frozen=True)
class Text:
    """One attribute of one persona: what the model wrote, and what stood there before."""

    persona: str
    attribute: str
    written: str
    replaced: str


def measure_drift(rows: Sequence[dict[str, Any]], drawn: Any, recipe: dict[str, Any]) -> dict[str, Any]:
    """The drift of all texts together and of each attribute.

    rows: the table `personas`. drawn: the table `persona_records` with its columns `unwritten_...` (None: not kept). recipe: of build.json.
    Where nothing can be compared, the result is `{"note": why}`.
    """
    if recipe["personas"]["enrichment"] == "none":
        return {"note": "enrichment: none: no field was written by a language model."}
    if drawn is None:
        return {
            "note": "The build keeps no table persona_records (older version), so what the texts replaced is not known."
        }
    texts = written_texts(rows, drawn.to_pylist())
    if not texts:
        return {"note": "enrichment: lm, but no field of any persona was written by a language model."}
    attributes = sorted({text.attribute for text in texts})
    groups = {ALL: texts, **{name: [text for text in texts if text.attribute == name] for name in attributes}}
    return {"groups": [compare_texts(name, group, recipe["seed"]) for name, group in groups.items()]}


def written_texts(rows: Sequence[dict[str, Any]], drawn: Sequence[dict[str, Any]]) -> list[Text]:
    """Texts that a model wrote and whose predecessor is known, by persona."""
    before = {record["persona_id"]: record for record in drawn}
    columns = sorted(name for name in drawn[0] if name.startswith(UNWRITTEN)) if drawn else []
    texts = []
    for row in rows:
        for column in columns:
            attribute = column.removeprefix(UNWRITTEN)
            replaced = before.get(row["persona_id"], {}).get(column)
            if replaced is None or row.get(attribute) is None:
                continue
            if row["provenance"].get(attribute) in WRITTEN_BY_MODEL:
                texts.append(Text(row["persona_id"], attribute, str(row[attribute]), str(replaced)))
    return texts


def compare_texts(name: str, texts: Sequence[Text], seed: int) -> dict[str, Any]:
    """Both sides and their difference, with intervals from the second persona on."""
    sides = [np.array([measures(getattr(text, side)) for text in texts]) for side in ("written", "replaced")]
    # One row a text, the measures of both sides next to each other, so that a resample takes both.
    values = np.concatenate(sides, axis=1)
    clusters = cluster_sums(values, [(text.persona,) for text in texts])
    resampled = resampled_means(clusters, rng_for(seed, "fidelity", f"drift|{name}")) if clusters.personas > 1 else None
    report: dict[str, Any] = {
        "name": name,
        "texts": len(texts),
        "personas": clusters.personas,
        "warning": f"fewer than {FEW_TEXTS} texts: too few to conclude from" if len(texts) < FEW_TEXTS else None,
    }
    mean = values.mean(axis=0)
    for measure in ("compound", "per_word", "positive", "negative", "words"):
        place = MEASURES.index(measure)
        report[measure] = difference(mean, resampled, lambda means, p=place: means[..., p])
    report["lean"] = difference(mean, resampled, lean)
    # A text counts as coded where it holds any coded word.
    coded = [side[:, MEASURES.index("left")] + side[:, MEASURES.index("right")] > 0 for side in sides]
    report["coded"] = {"written": digits(coded[0].mean()), "replaced": digits(coded[1].mean())}
    report["coded_words"] = {
        side: {kind: int(array[:, MEASURES.index(kind)].sum()) for kind in ("left", "right")}
        for side, array in zip(("written", "replaced"), sides, strict=True)
    }
    report["sameness"] = sameness([text.written for text in texts], [text.replaced for text in texts])
    return report


def measures(text: str) -> list[float]:
    scores = analyzer().polarity_scores(text)
    lower = text.lower().replace("’", "'")
    return [
        scores["compound"],
        scores["pos"] - scores["neg"],
        float(scores["compound"] >= CLEARLY),
        float(scores["compound"] <= -CLEARLY),
        float(len(coded_words("left").findall(lower))),
        float(len(coded_words("right").findall(lower))),
        float(len(words(text))),
    ]


def lean(means: np.ndarray) -> np.ndarray:
    """(left - right) / (left + right) in [-1, 1], left positive; NaN where no coded word occurs."""
    left, right = means[..., MEASURES.index("left")], means[..., MEASURES.index("right")]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (left - right) / (left + right)


def difference(mean: np.ndarray, resampled: np.ndarray | None, statistic: Any) -> dict[str, float | None]:
    """A statistic of both sides, and written minus replaced with its interval. None where a side has nothing to count."""
    half = len(MEASURES)
    written, replaced = statistic(mean[:half]), statistic(mean[half:])
    low = high = None
    if resampled is not None:
        drawn = statistic(resampled[:, :half]) - statistic(resampled[:, half:])
        # A resample without any coded word says nothing; where that is common there is no interval. Nor where all texts are alike: an
        # interval without width would claim certainty.
        if np.isnan(drawn).mean() < 0.05 and np.nanmax(drawn) - np.nanmin(drawn) > 1e-12:
            low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {
        "written": digits(written),
        "replaced": digits(replaced),
        "difference": digits(written - replaced),
        "low": digits(low),
        "high": digits(high),
    }


def sameness(written: Sequence[str], replaced: Sequence[str]) -> dict[str, Any]:
    """How alike the texts of each side are. Distinct words are counted over equally many words of both, since longer texts repeat more."""
    tokens = [[word for text in side for word in words(text)] for side in (written, replaced)]
    length = min(len(side) for side in tokens)
    report: dict[str, Any] = {"words_counted": length}
    for name, texts, side in zip(("written", "replaced"), (written, replaced), tokens, strict=True):
        openings = Counter(" ".join(words(text)[:2]) for text in texts)
        opening, times = min(openings.items(), key=lambda item: (-item[1], item[0]))
        report[name] = {
            "distinct_words": digits(len(set(side[:length])) / length) if length else None,
            "repeated": digits(1 - len(set(texts)) / len(texts)),
            "opening": opening,
            "share_of_opening": digits(times / len(texts)),
        }
    return report


def digits(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 6)


@lru_cache(maxsize=1)
def analyzer() -> Any:
    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=2)
def coded_words(side: str) -> re.Pattern[str]:
    """Finds the words of one side, longest first, in lower-case text."""
    entries = [entry for group in lean_lexicon()[side] for entry in group["words"]]
    patterns = [re.escape(entry).replace(r"\*", r"[\w'-]*") for entry in sorted(entries, key=len, reverse=True)]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(patterns)})(?![\w-])")


@lru_cache(maxsize=1)
def lean_lexicon() -> dict[str, list[dict[str, Any]]]:
    return yaml.safe_load(LEXICON.read_text(encoding="utf-8"))
