"""Names for clusters of questions, from their own words: `abortion / pregnancy / rights`."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from builder.prompts import vectors

TERMS = 3
# A cluster whose terms are in fewer of its questions than this holds what went nowhere else; terms would promise a subject it has not.
LEAST_COVERED = 0.1
NO_NAME = "various subjects"
# A word that fewer of a cluster's questions hold does not name it, nor one that a single question of a cluster above SMALL holds.
LEAST_SHARE = 0.02
SMALL = 4
# The second and third term must be at least so telling as this share of the first.
LEAST_PART = 0.06
ALIKE = 5  # terms with so many first letters in common say the same twice (religion, religious)
ENDINGS = ("ian", "ing", "ed", "i")
IRREGULAR = {"children": "child", "women": "woman", "men": "man", "wives": "wife", "lives": "life", "mice": "mouse"}


def name_clusters(questions: Sequence[str], labels: Sequence[int], ignored: Collection[str]) -> dict[int, str]:
    """{label: name}, every name another. A term names a cluster when many of its questions hold it, few others do, and it
    points where the cluster does. Forms of one word (Israel, Israeli) count as one term. Nothing depends on the order of the questions.
    """
    held = [{term_of(word) for word in vectors.words(question) if word not in ignored} for question in questions]
    number = Counter(labels)
    everywhere = Counter(term for terms in held for term in terms)
    inside: dict[int, Counter[str]] = defaultdict(Counter)
    for label, terms in zip(labels, held, strict=True):
        inside[label].update(terms)
    spelled = spellings(questions, ignored)
    names: dict[int, str] = {}
    # The largest first: it has the first claim to its name.
    for label in sorted(number, key=lambda label: (-number[label], sorted(inside[label].items())[:1], label)):
        telling = _telling_terms(label, labels, questions, inside[label], everywhere, number, spelled, ignored)
        mine = [holds for holds, other in zip(held, labels, strict=True) if other == label]
        covered = sum(not holds.isdisjoint(telling) for holds in mine) / len(mine)
        names[label] = " / ".join(spelled[term] for term in telling) if covered >= LEAST_COVERED else NO_NAME
    return _told_apart(names)


def term_of(word: str) -> str:
    """What the forms of a word share: the singular, without a common ending where at least four letters remain."""
    word = IRREGULAR.get(word, word)
    if word.endswith("ies") and len(word) > 5:
        word = f"{word[:-3]}y"
    elif re.search(r"(ch|sh|x|ss|z)es$", word):
        word = word[:-2]
    elif re.search(r"[^siu]s$", word) and len(word) > 3:
        word = word[:-1]
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: len(word) - len(ending)]
    return word


def spellings(questions: Sequence[str], ignored: Collection[str]) -> dict[str, str]:
    """{term: how it is mostly written}: the most frequent form, with a capital where most writers put one inside a sentence."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        for found in re.finditer(r"[^\W\d_]{2,}", re.sub(r"['’]\w*", " ", question)):
            word = found[0]
            plain = "".join(vectors.words(word))
            if not plain or plain in ignored:
                continue
            forms[term_of(plain)][plain] += 1
            opens = not re.search(r"[\w,;'’]\s*$", question[: found.start()])
            if not opens and not question.isupper():
                written[plain][word] += 1
    spelled = {}
    for term, counts in forms.items():
        plain = min(counts, key=lambda form: (-counts[form], form))
        own = written[plain]
        capital = Counter({word: own[word] for word in own if word != word.lower()})
        best = min(capital, key=lambda word: (-capital[word], word)) if capital else plain
        spelled[term] = best if 2 * sum(capital.values()) > sum(own.values()) else plain
    return spelled


def _telling_terms(
    label: int,
    labels: Sequence[int],
    questions: Sequence[str],
    inside: Counter[str],
    everywhere: Counter[str],
    number: Counter[int],
    spelled: dict[str, str],
    ignored: Collection[str],
) -> list[str]:
    mine = [question for question, other in zip(questions, labels, strict=True) if other == label]
    centre = vectors.sentence_vectors(mine, ignored).sum(axis=0)
    length = float(np.linalg.norm(centre)) or 1.0
    terms = sorted(inside)
    pointing = vectors.sentence_vectors([spelled[term].lower() for term in terms]) @ (centre / length)
    total = sum(number.values())
    score = {}
    for term, direction in zip(terms, pointing.tolist(), strict=True):
        share, overall = inside[term] / number[label], everywhere[term] / total
        lift = math.log(share / overall) if number[label] < total else 1.0
        if lift > 0:
            # A word that the vectors do not know points nowhere; it counts as one that points half away.
            score[term] = round(share * lift * max(direction, 0.2) ** 2, 9)
    ranked = sorted(score, key=lambda term: (-score[term], term))
    least = max(1 if number[label] <= SMALL else 2, LEAST_SHARE * number[label])
    frequent = [term for term in ranked if inside[term] >= least]
    chosen: list[str] = []
    for term in frequent:
        if score[term] >= LEAST_PART * score[frequent[0]] and all(term[:ALIKE] != other[:ALIKE] for other in chosen):
            chosen.append(term)
    return chosen[:TERMS]


def _told_apart(names: dict[int, str]) -> dict[int, str]:
    """Clusters with equal names get a number, so that a topic is one cluster."""
    count: Counter[str] = Counter()
    unique = {}
    for label, name in names.items():
        count[name] += 1
        unique[label] = name if count[name] == 1 else f"{name} ({count[name]})"
    return unique
