"""The packaged classifier: how likely it is that people who differ in outlook want different answers, without any language model.

A logistic regression on two things: what the question is about (the mean vector of its content words) and how it is asked (the runs
of up to three words that remain when every content word is replaced by a gap: "do you think GAP", "how do i GAP"). Fitted by
make_controversy_model.py on ValueConsistency (MIT), MoralChoice (MIT), Habermas Machine questions (CC-BY-4.0), IssueBench issue names
(CC-BY-4.0) and questions written for this project (controversy_examples.yaml); none of the licensed text is in the model. What it
scores on sources that it was not fitted on stands in the model file.
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from builder.prompts import vectors

FILE = Path(__file__).parent / "controversy_model.json"
LONGEST_RUN = 3
GAP = "_"
AT_ONCE = 4096  # bounds the memory
# The words that say how something is asked. Part of the model: another list would be another model.
WORDS_OF_FORM = """
a about above across after again against all almost along already also although always am among an and another any
anyone anything are around as at away back be became because been before behind being below beside between beyond
both but by can cannot could did do does doing done down during each either else enough even ever every everyone
everything few first for from further get give go had has have he hence her here hers him his how however i if in
into is it its itself just keep last least less made make many may me might mine more most much must my myself
never next no nobody none nor not nothing now of off often on once one only onto or other others otherwise our ours
out over own part perhaps please put quite rather really said same say see seem seems several she should show since
so some someone something sometimes somewhere still such take tell than that the their them then there therefore
these they thing things think this those though through thus to together too toward towards two under until up upon
us used using very was we well were what whatever when where whether which while who whole whom whose why will with
within without would yet you your yours yourself
aren cant couldn didn didnt doesn doesnt don dont hadn hasn haven im isn isnt ive shouldn wasn weren wont wouldn
"""
FUNCTION_WORDS = frozenset(WORDS_OF_FORM.split())


def scores(questions: Sequence[str]) -> list[float]:
    """Between 0 and 1, one per question. Each depends on its own question only."""
    model = read_model()
    inverse, weights = np.asarray(model["inverse_frequencies"]), np.asarray(model["weights"])
    logits: list[float] = []
    for start in range(0, len(questions), AT_ONCE):
        features = controversy_features(questions[start : start + AT_ONCE], model["patterns"], inverse)
        logits += (features @ weights + model["intercept"]).tolist()
    # Seven digits: the last bits of a sum differ between processors, and a published score must not.
    return [round(1 / (1 + math.exp(-value)), 7) for value in logits]


def controversy_features(questions: Sequence[str], patterns: Sequence[str], inverse: np.ndarray) -> np.ndarray:
    """(questions, dimensions of a vector + patterns): twice the vector of the content words, then TF-IDF of the patterns."""
    place = {pattern: column for column, pattern in enumerate(patterns)}
    weights = np.zeros((len(questions), len(patterns)))
    for row, question in enumerate(questions):
        for run, number in Counter(runs(question)).items():
            if run in place:
                weights[row, place[run]] = (1 + math.log(number)) * inverse[place[run]]
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    weights /= np.where(lengths > 0, lengths, 1)
    # Twice: on the held-out sources the words should count about as much as the many patterns together.
    return np.hstack([2 * vectors.sentence_vectors(questions, FUNCTION_WORDS), weights])


def runs(question: str) -> list[str]:
    """The runs of one to three neighbouring words, content words replaced by a gap."""
    shape = [word if word in FUNCTION_WORDS else GAP for word in vectors.words(question)]
    return [
        " ".join(run)
        for length in range(1, LONGEST_RUN + 1)
        for run in zip(*(itertools.islice(shape, start, None) for start in range(length)), strict=False)
    ]


@lru_cache(maxsize=1)
def read_model() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def version() -> str:
    """Twelve digits of the SHA-256 of the model and the word vectors: another of either gives other scores."""
    model = read_model()
    parts = {key: model[key] for key in ("patterns", "inverse_frequencies", "weights", "intercept")}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8"))
    digest.update(vectors.FILE.read_bytes())
    return digest.hexdigest()[:12]
