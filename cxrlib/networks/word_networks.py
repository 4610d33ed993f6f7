"""From an image to words: a network regresses the vectors of its report's disease terms, and words nearby are found.

Shin et al., CVPR 2015, section 4: the target is a term of two words as two vectors one after the other; sigmoid
cross-entropy; the words that are looked through are the key words of the three most probable topics, by cosine with
either half of the output. Departures: a report has several terms, so the target is the mean of their vectors; vectors
are brought to [0, 1], dimension by dimension, since a sigmoid can reach nothing else; a term counts only where the
rules read it as present or possible, while the paper's counted denied ones as well.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxrlib.networks import batches, short_training
from cxrlib.statistics import retrieval
from cxrlib.topics import vectors, words

FIRST_WORDS = (1, 5, 10)  # K of R@K

_TOPICS_N = 3  # most probable topics whose key words are looked through (the paper's)


def asserted_terms(readings, terms):
    """Return the disease terms that each report says are present or possible, a list of tuples of str.

    Parameters
    ----------
    readings : iterable of rules.Reading
    terms : sequence of str
        Of one or two words (`vectors.disease_terms`).
    """
    known = set(terms)
    found = []
    for reading in readings:
        said = {}
        for mention in reading.evidence:
            if mention.assertion in ("present", "uncertain"):
                each = words.tokens(mention.text, 1)
                spelled = (*each, *map(" ".join, itertools.pairwise(each)))
                said |= dict.fromkeys(term for term in spelled if term in known)
        found.append(tuple(said))
    return found


def words_of(terms_of_reports, term_words):
    """Return which words are in the terms of each report, (n, w) bool.

    Parameters
    ----------
    terms_of_reports : sequence of tuple of str
    term_words : sequence of str
    """
    column = {word: k for k, word in enumerate(term_words)}
    out = np.zeros((len(terms_of_reports), len(column)), bool)
    for k, terms in enumerate(terms_of_reports):
        out[k, [column[word] for term in terms for word in term.split() if word in column]] = True
    return out


@dataclass(frozen=True)
class WordNetwork:
    """A network that regresses the two word vectors of a disease term.

    Attributes
    ----------
    network : torch.nn.Module
    low, high : (2 size,) float32
        Of each dimension: what outputs of 0 and 1 stand for.
    words : tuple of str
        That can be found.
    matrix : (n_words, size) float32
        Their vectors.
    history : list of float
        Mean loss of each epoch.
    """

    network: nn.Module
    low: np.ndarray
    high: np.ndarray
    words: tuple
    matrix: np.ndarray
    history: list

    def scores(self, images, rows):
        """Return how near each word is to an image, (len(rows), n_words) float32: the greater of two cosines."""
        logits = short_training.outputs(self.network, images, rows)
        halves = np.split(self.low + (self.high - self.low) / (1 + np.exp(-logits)), 2, axis=1)
        known = self.matrix / np.maximum(np.linalg.norm(self.matrix, axis=1, keepdims=True), 1e-12)
        return np.max([h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12) @ known.T for h in halves], 0)


def train_words(images, rows, terms_of_reports, word_vectors, settings, seed, start=None, epochs=None):
    """Train a network to regress the vectors of the disease terms of an image's report.

    Parameters
    ----------
    images : (n, side, side) uint8
    rows : (m,) int
    terms_of_reports : sequence of tuple of str
        m of them (`asserted_terms`); images whose report has none are not learned from.
    word_vectors : vectors.WordVectors
    settings : short_training.ShortSettings
    seed : int
    start : torch.nn.Module, optional
        As in `topic_networks.train_topics`.
    epochs : int, optional

    Returns
    -------
    WordNetwork
        Its words are those of the terms.

    Raises
    ------
    ValueError
        If fewer than two images have a term.
    """
    having = np.array([k for k, terms in enumerate(terms_of_reports) if terms], int)
    if len(having) < 2:
        raise ValueError(f"{len(having)} images have a disease term in their report: two or more are needed.")
    every = sorted({term for terms in terms_of_reports for term in terms})
    by_term = dict(zip(every, vectors.term_vectors(word_vectors, every, "pair"), strict=True))
    target = np.stack([np.mean([by_term[term] for term in terms_of_reports[k]], axis=0) for k in having])
    spread = np.stack(list(by_term.values()))
    low, high = spread.min(0), spread.max(0)
    scaled = (target - low) / np.maximum(high - low, 1e-12)
    scaled = torch.as_tensor(scaled.clip(0, 1).astype(np.float32), device=batches.device())
    network = short_training.new_network(settings, target.shape[1], seed, start)

    def loss(logits, which):
        return nn.functional.binary_cross_entropy_with_logits(logits, scaled[which])

    options = {"tuned": start is not None, "epochs": epochs}
    history = short_training.learn(network, images, np.asarray(rows)[having], loss, settings, seed, **options)
    found = tuple(sorted({word for term in every for word in term.split()}))
    matrix = np.stack([word_vectors.of(word) for word in found])
    return WordNetwork(network, low, high, found, matrix, history)


def topic_words(probability, key_words, term_words, topics_n=_TOPICS_N):
    """Return which words are key words of an image's most probable topics, (n, w) bool.

    Parameters
    ----------
    probability : (n, k) float
        Of topics.
    key_words : sequence of k str
        The key words of each, space-separated.
    term_words : sequence of str
    topics_n : int
    """
    column = {word: k for k, word in enumerate(term_words)}
    of_topic = np.zeros((len(key_words), len(column)), bool)
    for k, text in enumerate(key_words):
        of_topic[k, [column[word] for word in str(text).split() if word in column]] = True
    first = np.argsort(-np.asarray(probability), axis=1, kind="stable")[:, :topics_n]
    return of_topic[first].any(1)


def word_scores(score, right, frequency, candidates):
    """Return whether words of an image's report are among the first that are found for it.

    Parameters
    ----------
    score : (n, w) float
        Of a network.
    right : (n, w) bool
        Words of the report. Images without any are not scored.
    frequency : (w,) float
        How many training reports have each word.
    candidates : Mapping of str to (n, w) bool
        Which words are looked through, by name.

    Returns
    -------
    scores : pandas.DataFrame
        Three rows an image that is scored and set of candidates, by `model`: `network`; `frequency`, words in the
        order in which they are common; `chance`, in any order. Columns `candidates, at` (position among the n) and
        `r1, r5, r10`, the probability that at least one of the first K is right.
    left_out_n : int
        Images that are not scored.
    """
    right = np.asarray(right, bool)
    at = np.flatnonzero(right.any(1))
    models = {"network": np.asarray(score), "frequency": np.broadcast_to(frequency, right.shape)}
    models["chance"] = np.zeros(right.shape)
    parts = [
        pd.DataFrame(
            {"model": model, "candidates": name, "at": at}
            | {f"r{k}": retrieval.any_hit_probability(ranked[at], right[at], k, chosen[at]) for k in FIRST_WORDS}
        )
        for name, chosen in candidates.items()
        for model, ranked in models.items()
    ]
    return pd.concat(parts, ignore_index=True), len(right) - len(at)
