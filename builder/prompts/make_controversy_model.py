"""Fits the packaged classifier again, or scores it: `python -m builder.prompts.make_controversy_model`.

    --questions FILE   fit on this file and on controversy_examples.yaml, and write controversy_model.json
    --score LABELS     precision, recall and AUC on prompts that people labelled (never used for fitting)
    --prompts FILE     pass rate on the prompts of this file that pass the text filters of a build

FILE of --questions has one JSON object a line with `source`, `question` and, for issue names, `topic`: ValueConsistency (MIT),
MoralChoice (MIT), Habermas Machine (CC-BY-4.0), IssueBench issue names (CC-BY-4.0). LABELS has `opening_prompt` (or `question`) and
`final_label`, which begins with 1 (clear yes), 0 (clear no) or is `borderline`. Given together, the numbers go into the model file.

The features are the smallest set whose mean AUC on the sources left out in turn was within 0.005 of the best of those tried (vectors,
words, patterns, characters, and sums of these); the labels had no say. ValueConsistency's questions on
uncontroversial subjects ("do you think the Alamo should be preserved?") ask for an opinion all the same: they are neither fitted on
nor counted as negatives, only reported.
"""

import argparse
import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from builder.errors import InputError
from builder.files import write_json
from builder.prompts import controversy_model, filters, sources, vectors
from builder.randomness import rng_for

EXAMPLES = Path(__file__).parent / "controversy_examples.yaml"
SOURCES = {
    "habermas_machine": "CC-BY-4.0",
    "ValueConsistency": "MIT",
    "moralchoice_high_ambiguity": "MIT",
    "issuebench_issues": "CC-BY-4.0",
}
OWN = {"open": "Apache-2.0", "plain": "Apache-2.0"}
SEED = 0
PER_GROUP = {"open": 100, "plain": 110}
HABERMAS_SHARE = 0.35  # of its 5,065 questions: the others ask the same in other words
RARE = 8  # patterns in fewer examples are left out
STRENGTH = 1.0  # inverse of the regularisation
# The default of the recipe. Both sides weigh the same, so at 0.5 either is as likely. It passes at least nine in ten open questions of
# every source left out; a lower one would let in facts and recipes, which give pairs without a difference.
THRESHOLD = 0.5
FOLDS = 3
RESAMPLES = 2000
ISSUE_FRAMES = (
    "What do you think about {}?",
    "What is your opinion on {}?",
    "{}, good or bad?",
    "Why do people disagree about {}?",
    "How do you feel about {}?",
    "Tell me about {}. Is it justified?",
)
DILEMMA_ENDS = ("What should I do?", "What would you do?", "Should I do it?")
GREETINGS = ("Hi, ", "Hello! ", "hey ", "Hello, ", "Good morning. ")
# A dilemma told to "you" is told by "I" instead, half of the time: so people write to an assistant.
FIRST_PERSON = (
    *((r"\b[Yy]ou are\b", "I am"), (r"\b[Yy]ou have\b", "I have"), (r"\b[Yy]our\b", "my")),
    *((r"\bYou\b", "I"), (r"\byou\b", "me")),
)


@dataclass(frozen=True)
class Example:
    source: str  # of SOURCES or OWN
    group: str  # the template group of own questions, else the source
    question: str
    is_open: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--score", type=Path, metavar="LABELS")
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--out", type=Path, default=controversy_model.FILE)
    arguments = parser.parse_args()
    measured: dict[str, Any] = {}
    if arguments.questions:
        rows = read_jsonl(arguments.questions)
        examples = [*licensed_examples(rows), *own_examples("open"), *own_examples("plain")]
        measured["sources left out in turn"] = score_held_out_sources(examples)
        model = fitted(examples)
        write_json(arguments.out, model)
        controversy_model.FILE = arguments.out
        controversy_model.read_model.cache_clear()
        uncontroversial = [row["question"] for row in rows if is_uncontroversial(row)]
        passed = share_passed(controversy_model.scores(uncontroversial))
        measured["ValueConsistency's uncontroversial subjects"] = {
            "questions": len(uncontroversial),
            "pass_rate": passed,
        }
    if arguments.score:
        measured[arguments.score.stem] = score_labels(read_jsonl(arguments.score))
    if arguments.prompts:
        read = sources.read_prompts(str(arguments.prompts)).prompts
        kept, _ = filters.text_filters(read, 5, True)
        passed = share_passed(controversy_model.scores([prompt.question for prompt in kept]))
        measured[arguments.prompts.stem] = {"prompts": len(kept), "pass_rate": passed}
    if arguments.questions:
        write_json(arguments.out, {"about": model["about"], "held_out": measured} | model)
    print(json.dumps({"version": controversy_model.version(), "threshold": THRESHOLD, **measured}, indent=1))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give the path of a JSONL file.")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def is_uncontroversial(row: dict[str, Any]) -> bool:
    return row["source"] == "ValueConsistency" and not row["controversial"]


def licensed_examples(rows: Sequence[dict[str, Any]]) -> list[Example]:
    """All of them open; issue names and dilemmas are made into questions."""
    examples = []
    for row in rows:
        source, question = row["source"], row["question"]
        if source not in SOURCES or is_uncontroversial(row):
            continue
        draw = rng_for(SEED, "controversy.example", question or row["topic"])
        if source == "habermas_machine" and draw.random() >= HABERMAS_SHARE:
            continue
        if source == "issuebench_issues":
            chosen = [frame for frame in ISSUE_FRAMES if draw.random() < 0.5]
            examples += [Example(source, source, frame.format(row["topic"].strip()), True) for frame in chosen]
            continue
        if source == "moralchoice_high_ambiguity":
            told = told_by_me(question) if draw.random() < 0.5 else question
            question = f"{told} {DILEMMA_ENDS[draw.integers(len(DILEMMA_ENDS))]}"
        examples.append(Example(source, source, question, True))
    return in_styles(examples)


def told_by_me(dilemma: str) -> str:
    for pattern, replacement in FIRST_PERSON:
        dilemma = re.sub(pattern, replacement, dilemma)
    return dilemma


def own_examples(kind: str) -> list[Example]:
    """Up to PER_GROUP distinct questions of every group of `open` or `plain`."""
    content = yaml.safe_load(EXAMPLES.read_text(encoding="utf-8"))
    examples = []
    for group in content[kind]:
        questions: dict[str, None] = {}
        for turn in range(3 * PER_GROUP[kind]):
            draw = rng_for(SEED, "controversy.own", f"{kind}/{group['group']}/{turn}")
            question = filled(group["templates"][turn % len(group["templates"])], content["slots"], draw)
            questions[question[0].upper() + question[1:]] = None
        kept = list(questions)[: PER_GROUP[kind]]
        examples += [Example(kind, f"{kind}/{group['group']}", question, kind == "open") for question in kept]
    return in_styles(examples)


def filled(template: str, slots: dict[str, list[str]], draw: np.random.Generator) -> str:
    """Entries may have slots of their own."""
    text = ""
    for literal, slot, _, _ in string.Formatter().parse(template):
        text += literal
        if slot is not None:
            text += filled(slots[slot][draw.integers(len(slots[slot]))], slots, draw)
    return text


def in_styles(examples: Sequence[Example]) -> list[Example]:
    """Some in lower case, with a greeting or without the question mark, in the same shares on either side, so that style says nothing."""
    styled = []
    for example in examples:
        draw = rng_for(SEED, "controversy.style", f"{example.group}/{example.question}")
        share, question = draw.random(), example.question
        if share < 0.2:
            question = question.lower()
        elif share < 0.3:
            question = GREETINGS[draw.integers(len(GREETINGS))] + question
        elif share < 0.4:
            question = question.rstrip("?")
        styled.append(Example(example.source, example.group, question, example.is_open))
    return styled


def fitted(examples: Sequence[Example]) -> dict[str, Any]:
    """The model as plain data. Both sides weigh the same, and on the open side every licensed source as much as any other; the
    project's own questions, which are nearest to what people type, three times that.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    questions = [example.question for example in examples]
    occurrences = Counter(run for question in questions for run in set(controversy_model.runs(question)))
    patterns = sorted(run for run, number in occurrences.items() if number >= RARE)
    inverse = np.array([np.log((1 + len(questions)) / (1 + occurrences[run])) + 1 for run in patterns]).round(4)
    with threadpool_limits(limits=1):
        features = controversy_model.controversy_features(questions, patterns, inverse)
        regression = LogisticRegression(C=STRENGTH, max_iter=2000)
        regression.fit(features, [example.is_open for example in examples], sample_weight=sample_weights(examples))
    used = Counter(example.source for example in examples)
    return {
        "about": {
            "made_by": "builder/prompts/make_controversy_model.py",
            "fitted_on": [
                {"source": source, "licence": licence, "questions": used[source]}
                for source, licence in (SOURCES | OWN).items()
            ],
            "word_vectors": vectors.about(),
        },
        "intercept": round(float(regression.intercept_[0]), 5),
        "weights": regression.coef_[0].round(4).tolist(),
        "patterns": patterns,
        "inverse_frequencies": inverse.tolist(),
    }


def sample_weights(examples: Sequence[Example]) -> np.ndarray:
    size = Counter(example.source for example in examples)
    weights = np.array([(3 if example.source == "open" else 1) / size[example.source] for example in examples])
    is_open = np.array([example.is_open for example in examples])
    for side in (is_open, ~is_open):
        weights[side] *= len(examples) / 2 / weights[side].sum()
    return weights


def score_held_out_sources(examples: Sequence[Example]) -> dict[str, Any]:
    """Each licensed source left out in turn, and each third of the own groups; the plain side is always groups that were left out too."""
    result = {}
    for turn, source in enumerate([*SOURCES, *(f"open, part {part + 1} of {FOLDS}" for part in range(FOLDS))]):
        fold = turn % FOLDS if source in SOURCES else turn - len(SOURCES)
        plain = set(sorted({e.group for e in examples if e.source == "plain"})[fold::FOLDS])
        opened = set(sorted({e.group for e in examples if e.source == "open"})[fold::FOLDS])
        left_out = plain | ({source} if source in SOURCES else opened)
        model = fitted([example for example in examples if example.group not in left_out])
        tested = [example for example in examples if example.group in left_out]
        features = controversy_model.controversy_features(
            [example.question for example in tested], model["patterns"], np.asarray(model["inverse_frequencies"])
        )
        scores = 1 / (1 + np.exp(-(features @ np.asarray(model["weights"]) + model["intercept"])))
        result[source] = quality(scores, np.array([example.is_open for example in tested]), source)
    return result


def score_labels(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """People's labels: `yes or borderline` against `clear no`, on all prompts and on those that pass a build's text filters."""
    texts = [row.get("opening_prompt") or row["question"] for row in rows]
    scores = np.array(controversy_model.scores(texts))
    labels = [str(row["final_label"]) for row in rows]
    wanted = np.array([not label.startswith("0") for label in labels])
    clear = np.array([label != "borderline" for label in labels])
    asked = np.array(["?" in text and len(text.split()) >= 5 for text in texts])
    return {
        "all": quality(scores, wanted, "labels"),
        "without borderline": quality(scores[clear], wanted[clear], "labels.clear"),
        "passing the text filters": quality(scores[asked], wanted[asked], "labels.asked"),
    }


def quality(scores: np.ndarray, wanted: np.ndarray, key: str) -> dict[str, Any]:
    """Each figure with its 95 % interval: bootstrap over prompts for the AUC, Wilson's for the shares, which reach 1."""
    from scipy.stats import rankdata

    def auc(draw: np.ndarray) -> float:
        """From the ranks; NaN where a side is empty. scikit-learn's gives the same, a hundred times slower on small samples."""
        right = wanted[draw]
        opened, plain = int(right.sum()), int((~right).sum())
        ranks = rankdata(scores[draw])[right].sum()
        return float((ranks - opened * (opened + 1) / 2) / (opened * plain)) if opened and plain else np.nan

    rng = rng_for(SEED, "controversy.bootstrap", key)
    resampled = [auc(rng.integers(len(scores), size=len(scores))) for _ in range(RESAMPLES)]
    passed = scores >= THRESHOLD
    return {
        "prompts": len(scores),
        "open": int(wanted.sum()),
        "auc": figure(auc(np.arange(len(scores))), *np.nanquantile(resampled, [0.025, 0.975]).tolist()),
        "precision": share(int((wanted & passed).sum()), int(passed.sum())),
        "recall": share(int((wanted & passed).sum()), int(wanted.sum())),
        "pass_rate": share(int(passed.sum()), len(scores)),
    }


def share(part: int, whole: int) -> dict[str, Any]:
    """With Wilson's 95 % interval; null of nothing."""
    if whole == 0:
        return {"value": None, "interval": None}
    z, rate = 1.959964, part / whole
    middle = (rate + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * np.sqrt(rate * (1 - rate) / whole + z * z / (4 * whole * whole))
    return figure(rate, middle - half, middle + half)


def figure(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": round(float(value), 3), "interval": [round(float(low), 3), round(float(high), 3)]}


def share_passed(scores: Sequence[float]) -> float:
    return round(float(np.mean(np.asarray(scores) >= THRESHOLD)), 4)


if __name__ == "__main__":
    main()
