"""A topic for every kept prompt: the source's own where it names one for all, else clusters of similar meaning.

A prompt stands where the vectors of its content words point (vectors.py), with its own rare words beside them, so that words the vectors
do not know still tell prompts apart. k-means finds the clusters; topic_names.py names them.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from builder.prompts import vectors
from builder.prompts.controversy_model import FUNCTION_WORDS
from builder.prompts.sources import SourcePrompt
from builder.prompts.topic_names import name_clusters
from builder.randomness import seed_for

# Of the space of a source's own words, and its weight beside the vectors. On PRISM the weight hardly matters (0.3 to 0.7); 50 dimensions
# hold what an unknown language needs.
OWN_DIMENSIONS = 50
OWN_WEIGHT = 0.5
RESTARTS = 10
# Words that open or fill a question and say nothing about its subject, on top of those that say how it is asked.
FILLING_WORDS = """
able actual actually advice affect allow allowed answer anybody ask asking bad based become becoming believe best better big bring
brought call came cause causes certain chat come comes coming common consider considered conversation curious current currently
day days deal dealing describe different difficult discuss easy effect effects eight enjoy especially everybody example explain
explanation fact favorite favourite feel feeling feels find five fix four general gets getting gives giving goes going gone good
got gotten great happen happened happening happens hard hello help hey hi high hundred idea ideas impact important interesting isn
issue issues kind know knows lead let like likes list little live lived living ll long lot lots main major makes making mean means
moment month need needs new nice nine number ok okay old opinion opinions opposite order ought people person popular possible
prefer problem problems question questions re read real really reason reasons recent recently right saying says seven simple
simply situation six small somebody sort start started stop suggest suggestion suggestions talk talking tells ten thank thanks
thing think thought thoughts thousand three time times today tomorrow tonight topic true truly try trying turn turned turns twenty
two use uses usually ve view views want wants way ways week wonder wondering word words write wrong year years yesterday
"""
QUESTION_WORDS = frozenset(FILLING_WORDS.split())
IGNORED = FUNCTION_WORDS | QUESTION_WORDS


def assign_topics(prompts: Sequence[SourcePrompt], clusters: int, seed: int) -> tuple[list[str], str]:
    """One topic per prompt and the method, `source` or `clusters`. The order of the prompts does not matter."""
    named = [prompt.topic for prompt in prompts]
    topics = [topic for topic in named if topic is not None]
    if len(topics) == len(prompts):
        return topics, "source"
    return _cluster([prompt.question for prompt in prompts], clusters, seed), "clusters"


def nearest_topics(prompts: Sequence[SourcePrompt], earlier: Mapping[str, str]) -> list[str]:
    """Of the topics that earlier questions have ({question: topic}), for each prompt that of the questions it is nearest to on the whole.

    A prompt without a known word gets the most frequent topic.
    """
    import numpy as np

    size = Counter(earlier.values())
    # The most frequent first, so that it wins where nothing is near.
    names = sorted(size, key=lambda name: (-size[name], name))
    questions = sorted(earlier)
    points = vectors.sentence_vectors(questions, IGNORED)
    labels = [earlier[question] for question in questions]
    centres = np.array([points[[label == name for label in labels]].mean(axis=0) for name in names])
    likeness = vectors.sentence_vectors([prompt.question for prompt in prompts], IGNORED) @ centres.T
    return [names[int(place)] for place in likeness.round(9).argmax(axis=1)]


def _cluster(questions: list[str], clusters: int, seed: int) -> list[str]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # Sorted, so that the result does not depend on the order of the file.
    order = sorted(range(len(questions)), key=lambda position: questions[position])
    ordered = [questions[position] for position in order]
    random_state = seed_for(seed, "prompts.topics", "clusters") % 2**32  # scikit-learn takes 32 bits
    number = max(1, min(clusters, len(questions)))
    # One thread: with several, sums are added up in changing order, and a prompt between clusters could go either way.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters: some stay empty
        points = _points(ordered, random_state)
        labels = KMeans(number, n_init=RESTARTS, random_state=random_state).fit_predict(points).tolist()
    names = name_clusters(ordered, labels, IGNORED)
    topics = [""] * len(questions)
    for position, label in zip(order, labels, strict=True):
        topics[position] = names[label]
    return topics


def _points(questions: list[str], random_state: int) -> Any:
    """(questions, dimensions): vectors of the content words, then the reduced TF-IDF of the source's own words."""
    import numpy as np
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    meaning = vectors.sentence_vectors(questions, IGNORED)
    counter = TfidfVectorizer(
        tokenizer=vectors.words,
        token_pattern=None,
        lowercase=False,
        stop_words=sorted(IGNORED),
        sublinear_tf=True,
        min_df=2 if len(questions) > 200 else 1,
    )
    try:
        weights = counter.fit_transform(questions)
    except ValueError:  # not one word is left to compare
        return meaning
    if weights.shape[1] > OWN_DIMENSIONS:
        reducer = TruncatedSVD(min(OWN_DIMENSIONS, len(questions)), random_state=random_state)
        own = normalize(reducer.fit_transform(weights))
    else:
        own = weights.toarray()
    return np.hstack([meaning, OWN_WEIGHT * own])
