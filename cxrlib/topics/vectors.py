"""Vectors of words, by skip-gram (Mikolov et al., 2013) through gensim, and of terms that name diseases.

The defaults are those of Shin et al. (CVPR 2015): 256 numbers, hierarchical softmax, window 10, sub-sampling 0.01 %.
They learned from 1.2 billion words, reports and articles of Open-i; a few thousand reports give far less.

Their terms were the Disease Ontology's (JMLR 2016: UMLS with RadLex), which are not shipped here. Terms are instead
this project's findings and the phrases by which the rule labeler finds them (`labelers/phrases`), English both.
"""

import functools
import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlib.base import vocabulary
from cxrlib.labelers import lexicon, rules
from cxrlib.topics import words

# Every word of at least one letter, in its order: what surrounds a word is what skip-gram learns from.
VECTOR_RULES = words.WordRules(shortest=1, least_documents=1, commonest_n=0, least_terms=2)


_NO_TERM = ("no_finding", "abnormal", "other", "pleural_other")  # names that no report would use


@dataclass(frozen=True)
class WordVectors:
    """Vectors of words.

    Attributes
    ----------
    words : tuple of str
        The commonest first.
    matrix : (n_words, size) float32 array
    """

    words: tuple
    matrix: np.ndarray

    def of(self, word):
        """Return a word's vector, (size,) float32; a KeyError in a sentence if it has none."""
        if word not in self._place:
            raise KeyError(f"The word {word!r} has no vector: it is in too few reports.")
        return self.matrix[self._place[word]]

    def __contains__(self, word):
        return word in self._place

    @functools.cached_property
    def _place(self):
        return {word: k for k, word in enumerate(self.words)}

    def only(self, words):
        """Return the vectors of some words, those that it has."""
        asked = set(words)
        kept = [k for k, word in enumerate(self.words) if word in asked]
        return WordVectors(tuple(self.words[k] for k in kept), self.matrix[kept])

    def nearest(self, vector, words_n=10, without=()):
        """Return the words whose vectors have the greatest cosine with a vector.

        Parameters
        ----------
        vector : (size,) array
        words_n : int
        without : sequence of str
            Words that are passed over.

        Returns
        -------
        pandas.Series of float in [-1, 1]
            Cosine by word, descending.
        """
        lengths = np.linalg.norm(self.matrix, axis=1) * np.linalg.norm(vector)
        cosine = pd.Series(self.matrix @ vector / np.maximum(lengths, 1e-12), index=list(self.words))
        return cosine.drop(list(without), errors="ignore").sort_values(ascending=False, kind="stable")[:words_n]

    def save(self, path):
        """Write a Parquet table `word, v0, v1, ...` of float32."""
        columns = {f"v{k}": column for k, column in enumerate(self.matrix.T)}
        pd.DataFrame({"word": list(self.words), **columns}).to_parquet(path, index=False)


def load_vectors(path):
    """Return the `WordVectors` of a Parquet table `word, v0, v1, ...`.

    Raises
    ------
    ValueError
        If it is no such table.
    """
    table = pd.read_parquet(path)
    if list(table.columns) != ["word", *(f"v{k}" for k in range(table.shape[1] - 1))] or table.shape[1] < 2:
        raise ValueError(f"{path} is no table of word vectors: its columns must be word, v0, v1, ...")
    return WordVectors(tuple(table["word"].tolist()), table.drop(columns="word").to_numpy(np.float32))


class _Sequences:
    """The documents of a corpus as lists of words, as often as gensim asks for them."""

    def __init__(self, corpus):
        self.corpus = corpus

    def __iter__(self):
        return (self.corpus.words(row) for row in range(len(self.corpus)))


def train_vectors(corpus, seed, size=256, window=10, sample=1e-4, least_n=5, epochs=5):
    """Return `WordVectors` of the words of reports.

    Parameters
    ----------
    corpus : words.Corpus
        By `VECTOR_RULES`.
    seed : int
        One worker, so that it repeats itself on one machine.
    size, window : int
    sample : float
        Words of a greater frequency are passed over more often.
    least_n : int
        Occurrences that a word must have; gensim's own default.
    epochs : int
        Passes over the reports; gensim's own default.

    Raises
    ------
    ValueError
        If no word occurs so often.
    """
    from gensim.models import Word2Vec

    if np.bincount(corpus.tokens).max(initial=0) < least_n:
        raise ValueError(f"No word occurs {least_n} times: give more reports.")
    logging.getLogger("gensim").setLevel(logging.ERROR)
    model = Word2Vec(
        _Sequences(corpus),
        sg=1,
        hs=1,
        negative=0,
        vector_size=size,
        window=window,
        sample=sample,
        min_count=least_n,
        epochs=epochs,
        workers=1,
        seed=seed,
    )
    return WordVectors(tuple(model.wv.index_to_key), model.wv.vectors.astype(np.float32))


def disease_terms(corpus, vectors, least_reports=5):
    """Return the terms of one or two words that name a finding and that reports have.

    Parameters
    ----------
    corpus : words.Corpus
        By `VECTOR_RULES`; the two words of a term stand side by side in it.
    vectors : WordVectors
        Every word of a term has one.
    least_reports : int
        That have the term.

    Returns
    -------
    pandas.DataFrame
        `finding, term, reports_n`, sorted; a term may name two findings. Terms are the findings' own names and the
        phrases that the rule labeler takes for their presence, without those with a gap (`...`); an ending `*` stands
        for every known word. Whether a report says that it is there or not makes no difference here.
    """
    known = sorted(set(corpus.terms) & set(vectors.words))
    rows = set()
    for finding in vocabulary.VOCABULARY:
        names = [] if finding in _NO_TERM else [finding.replace("_", " ")]
        if finding in rules.LABELED_FINDINGS and finding != "no_finding":
            file = lexicon.PHRASES / "findings" / f"{finding}.txt"
            names += lexicon.read_phrases(file, lexicon.FINDING_KINDS)["present"]
        for name in names:
            if "..." not in name and len(name.split()) <= 2:
                rows |= {(finding, term) for term in _spelled(name.split(), known)}
    table = pd.DataFrame(sorted(rows), columns=["finding", "term"])
    table["reports_n"] = table["term"].map(_reports_n(corpus, set(table["term"])))
    return table[table["reports_n"] >= least_reports].reset_index(drop=True)


def _reports_n(corpus, terms):
    """Return in how many documents each term is, its words side by side."""
    number, size = {term: k for k, term in enumerate(corpus.terms)}, len(corpus.terms)
    rows = np.repeat(np.arange(len(corpus)), np.diff(corpus.starts))
    found = corpus.tokens.astype(np.int64)
    inside = rows[1:] == rows[:-1]
    pairs = found[:-1][inside] * size + found[1:][inside]
    pair_n = dict(
        zip(*np.unique(np.unique(np.c_[rows[1:][inside], pairs], axis=0)[:, 1], return_counts=True), strict=True)
    )
    single_n = corpus.documents_n()
    counted = {}
    for term in terms:
        first, *rest = (number[word] for word in term.split())
        counted[term] = int(pair_n.get(first * size + rest[0], 0) if rest else single_n[first])
    return counted


def _spelled(parts, known):
    """Return what a phrase stands for, of known words alone."""
    found = [""]
    for part in parts:
        stem = part.removesuffix("*")
        options = [w for w in known if w.startswith(stem)] if part.endswith("*") else [w for w in known if w == part]
        found = [f"{before} {word}".strip() for before in found for word in options]
    return found


def term_vectors(vectors, terms, form="mean"):
    """Return the vectors of terms of one or two words.

    Parameters
    ----------
    vectors : WordVectors
    terms : sequence of str
    form : {"mean", "pair"}
        The mean of the words' vectors, (n, size); or the two words' one after the other, (n, 2 size), as the paper's
        R^(256x2). A single word then stands twice, a choice of ours.

    Returns
    -------
    (n, size) or (n, 2 size) float32 array

    Raises
    ------
    ValueError, KeyError
        If the form is unknown, a term has another number of words than the form takes, or a word has no vector.
    """
    if form not in ("mean", "pair"):
        raise ValueError(f"form {form!r} is neither mean nor pair.")
    found = []
    for term in terms:
        parts = term.split()
        if not parts or (form == "pair" and len(parts) > 2):
            raise ValueError(f"the term {term!r} has {len(parts)} words: give one or two.")
        each = [vectors.of(word) for word in parts]
        found.append(np.mean(each, axis=0) if form == "mean" else np.concatenate([each[0], each[-1]]))
    width = vectors.matrix.shape[1] * (2 if form == "pair" else 1)
    return np.array(found, np.float32).reshape(len(found), width)
