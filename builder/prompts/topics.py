"""A topic for every kept prompt: the source's own where it names one for all, else clusters of similar wording."""

import warnings
from collections import Counter
from collections.abc import Sequence

from builder.prompts.sources import SourcePrompt
from builder.randomness import seed_for

TERMS_IN_A_NAME = 3
# Of the space in which clusters are sought. On PRISM 30 gave the most even sizes of 30, 50, 100, 200 and no reduction.
DIMENSIONS = 30
RESTARTS = 10
# Words that open or fill a question and say nothing about its subject, on top of scikit-learn's English stop words.
QUESTION_WORDS = """
able actually best better did didn do does doesn doing don explain feel feels get getting give going good got gotten
hello help hey hi isn just know let like ll lot make making many mean much need ok okay opinion people person really
right say should tell thing things think thought thoughts time used ve want way ways won would write wrong
"""


def assign_topics(prompts: Sequence[SourcePrompt], clusters: int, seed: int) -> tuple[list[str], str]:
    """One topic per prompt and the method, `source` or `clusters`. The order of the prompts does not matter."""
    named = [prompt.topic for prompt in prompts]
    topics = [topic for topic in named if topic is not None]
    if len(topics) == len(prompts):
        return topics, "source"
    return _cluster([prompt.question for prompt in prompts], clusters, seed), "clusters"


def _cluster(questions: list[str], clusters: int, seed: int) -> list[str]:
    """TF-IDF of words, SVD (without it one cluster takes most: short questions share few words), then k-means."""
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
    from sklearn.preprocessing import normalize
    from threadpoolctl import threadpool_limits

    # Sorted, so that the result does not depend on the order of the file.
    ordered = sorted(range(len(questions)), key=lambda position: questions[position])
    vectorizer = TfidfVectorizer(
        stop_words=sorted(ENGLISH_STOP_WORDS | set(QUESTION_WORDS.split())),
        sublinear_tf=True,
        min_df=2 if len(questions) > 200 else 1,
        token_pattern=r"(?u)\b[^\W\d_][^\W_]+\b",
    )
    try:
        weights = vectorizer.fit_transform([questions[position] for position in ordered])
    except ValueError:  # not one word is left to compare
        return ["general"] * len(questions)
    random_state = seed_for(seed, "prompts.topics", "clusters") % 2**32  # scikit-learn takes 32 bits
    vectors = weights.toarray() if weights.shape[1] <= DIMENSIONS else None
    # One thread: with several, sums are added up in changing order, and a prompt between clusters could go either way.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters: some stay empty
        if vectors is None:
            reducer = TruncatedSVD(min(DIMENSIONS, len(questions), weights.shape[1]), random_state=random_state)
            vectors = normalize(reducer.fit_transform(weights))
        number = max(1, min(clusters, len(questions)))
        labels = KMeans(number, n_init=RESTARTS, random_state=random_state).fit_predict(vectors)
    terms = vectorizer.get_feature_names_out()
    overall = np.asarray(weights.mean(axis=0)).ravel()
    names: dict[int, str] = {}
    for label in sorted(set(labels.tolist())):
        mean = np.asarray(weights[labels == label].mean(axis=0)).ravel()
        # Terms that the cluster uses more than the rest do; with one cluster there is no rest. Ties by term, the same
        # everywhere.
        excess = mean - overall if len(set(labels.tolist())) > 1 else mean
        order = sorted(np.flatnonzero(mean), key=lambda term: (-round(float(excess[term]), 9), terms[term]))
        names[label] = " / ".join(terms[term] for term in order[:TERMS_IN_A_NAME]) or "general"
    topics = [""] * len(questions)
    unique = _told_apart(names)
    for position, label in zip(ordered, labels.tolist(), strict=True):
        topics[position] = unique[label]
    return topics


def _told_apart(names: dict[int, str]) -> dict[int, str]:
    """Clusters with equal names get a number, so that a topic is one cluster."""
    count: Counter[str] = Counter()
    unique = {}
    for label, name in names.items():
        count[name] += 1
        unique[label] = name if count[name] == 1 else f"{name} ({count[name]})"
    return unique
