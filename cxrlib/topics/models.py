"""Latent Dirichlet allocation by two engines behind one interface.

tomotopy samples (collapsed Gibbs, Griffiths and Steyvers, PNAS 2004;101:5228), scikit-learn optimises (variational
Bayes, Hoffman et al., NIPS 2010). What an engine leaves is each topic's distribution of words; all the rest is by one
definition for both. A document's shares theta are the fixed point

    theta_k  is proportional to  alpha + sum_w n_w theta_k phi_kw / sum_j theta_j phi_jw

that is reached from even shares (the update of CVB0 at fixed phi: Asuncion et al., UAI 2009). Perplexity is by
document completion (Wallach et al., ICML 2009): theta of a document that was not trained on comes from its first,
third, fifth, ... word, and exp(-mean log sum_k theta_k phi_kw) is over its other words.

tomotopy repeats itself only with one worker, and floating point differs between machines: store what a model says of
a document, and do not expect the same topic of it elsewhere.
"""

import json
import math
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from cxrlib.base import bounded, json_files

_ITERATIONS = {"tomotopy": 100, "sklearn": 10}  # sweeps of the sampler; passes of variational Bayes


_BLOCK, _ROWS = 4_000, 250  # documents whose shares are computed at once; as many as a processor's cache holds


# Of scikit-learn, a document and pass. Its own, 100 and 1e-3, are several times slower.
_DOCUMENT_STEPS, _DOCUMENT_TOLERANCE = 20, 1e-2


_SHARE_STEPS, _SHARE_TOLERANCE = 50, 1e-3  # of the fixed point; the tolerance is of any share


_HEADER_MOST = 10_000  # characters of what says an array's shape


_NAMES = {"terms", "word_probabilities", "document_ids", "about"}


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class TopicModel:
    """Topics of a corpus.

    Attributes
    ----------
    engine : str
        `tomotopy` or `sklearn`.
    terms : tuple of str
    word_probabilities : (n_topics, n_terms) float32 array in (0, 1]
        Rows sum to 1.
    alpha : float
        Prior of a document's shares, the same for every topic.
    document_ids : tuple of str
        Those that it was fitted to.
    settings : dict
        `topics_n, seed, alpha, eta, iterations`, as `fit` took them.
    """

    engine: str
    terms: tuple
    word_probabilities: np.ndarray
    alpha: float
    document_ids: tuple
    settings: dict

    def __len__(self):
        return len(self.word_probabilities)

    def key_words(self, words_n=20):
        """Return each topic's most probable words, a tuple of tuples; equal ones by the alphabet."""
        order = np.argsort(-self.word_probabilities, axis=1, kind="stable")[:, :words_n]
        return tuple(tuple(self.terms[t] for t in row) for row in order)

    def shares_of(self, corpus):
        """Return documents' shares of the topics, (n_documents, n_topics) float32 in [0, 1], whose rows sum to 1.

        Parameters
        ----------
        corpus : words.Corpus
            Of this model's terms: that which it was fitted to, or `words.corpus(documents, terms=model.terms)`.

        Raises
        ------
        ValueError
            If the corpus has other terms.
        """
        self._check(corpus)
        found = np.empty((len(corpus), len(self)), np.float32)
        for block in _blocks(corpus):
            found[block] = self._shares(corpus.part(block).counts())
        return found

    def best_of(self, corpus):
        """Return each document's topic with the greatest share; memory does not grow with the number of topics.

        Parameters
        ----------
        corpus : words.Corpus
            As for `shares_of`.

        Returns
        -------
        topic : (n_documents,) int32 array
        share : (n_documents,) float32 array in [0, 1]
        """
        self._check(corpus)
        topic, share = np.empty(len(corpus), np.int32), np.empty(len(corpus), np.float32)
        for block in _blocks(corpus):
            shares = self._shares(corpus.part(block).counts())
            topic[block], share[block] = shares.argmax(axis=1), shares.max(axis=1)
        return topic, share

    def perplexity(self, corpus):
        """Return the perplexity of documents that it was not fitted to, by document completion.

        Parameters
        ----------
        corpus : words.Corpus
            Of this model's terms. Documents of one word have nothing to complete and do not count.

        Raises
        ------
        ValueError
            If the corpus has other terms, holds a document that the model was fitted to, or has no document of two
            words.
        """
        likelihoods, words_n = self.completion(corpus)
        if not words_n.any():
            raise ValueError("No document has two words of the model: give longer ones.")
        return float(np.exp(-likelihoods.sum() / words_n.sum()))

    def completion(self, corpus):
        """Return what the first half of each document says of its second.

        Returns
        -------
        likelihoods : (n_documents,) float64 array
            Natural logarithm, summed over the second half's words.
        words_n : (n_documents,) int64 array
            Of the second half.

        Raises
        ------
        ValueError
            If the corpus has other terms, or holds a document that the model was fitted to.
        """
        self._check(corpus)
        if seen := set(corpus.document_ids) & set(self.document_ids):
            raise ValueError(f"document {min(seen)!r} is one that the model was fitted to: leave it out of the test.")
        by_term, likelihoods, words_n = self._by_term(), np.zeros(len(corpus)), np.zeros(len(corpus), np.int64)
        for block in _blocks(corpus):
            first, second = halves(corpus.part(block))
            logs = second.data * np.log(_mixed(second, self._shares(first), by_term), dtype=float)
            rows = np.repeat(np.arange(second.shape[0]), np.diff(second.indptr))
            likelihoods[block] = np.bincount(rows, logs, minlength=second.shape[0])
            words_n[block] = np.asarray(second.sum(axis=1)).ravel()
        return likelihoods, words_n

    def _by_term(self):
        return np.ascontiguousarray(self.word_probabilities.T, np.float32)

    def _shares(self, counts):
        """Return documents' shares, the fixed point above, (n_documents, n_topics) float32."""
        by_term, part = self._by_term(), counts.astype(np.float32)
        found = np.full((part.shape[0], len(self)), 1 / len(self), np.float32)
        rows, moving = np.arange(len(found)), np.ones(len(found), bool)
        for _ in range(_SHARE_STEPS):
            old = found[rows]
            ratio = sparse.csr_matrix((part.data / _mixed(part, old, by_term), part.indices, part.indptr), part.shape)
            new = np.float32(self.alpha) + old * (ratio @ by_term)
            new /= new.sum(axis=1, keepdims=True)
            found[rows[moving]] = new[moving]  # each document stops by itself, whatever others do
            moving &= np.abs(new - old).max(axis=1) > _SHARE_TOLERANCE
            if not moving.any():
                break
            if moving.mean() < 0.7:
                rows, part, moving = rows[moving], part[moving], moving[moving]
        return found

    def _check(self, corpus):
        if corpus.terms != self.terms:
            raise ValueError("The documents have other terms than the model: read them with `terms=model.terms`.")

    def save(self, path):
        """Write the model as .npz, in which nothing can be executed: arrays of numbers and text, no pickle."""
        np.savez_compressed(
            path,
            terms=np.array(self.terms, str),
            word_probabilities=self.word_probabilities,
            document_ids=np.array(self.document_ids, str),
            about=np.array(json.dumps({"engine": self.engine, "alpha": self.alpha, "settings": self.settings})),
        )


def load_topics(path):
    """Return a model that `TopicModel.save` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is none of ours.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no topic model {path}: fit one first.")
    try:
        bounded.check_zip(path)
        found = _arrays(path)
        about = json_files.parse_json(str(found["about"]))
        return TopicModel(
            about["engine"],
            tuple(found["terms"].tolist()),
            found["word_probabilities"],
            about["alpha"],
            tuple(found["document_ids"].tolist()),
            about["settings"],
        )
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, TypeError, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path} is no topic model ({type(error).__name__}): fit it anew and save it.") from None


def _arrays(path):
    """Return the arrays of a .npz file that is a topic model, none of which is larger than what is packed says."""
    with np.load(path, allow_pickle=False, max_header_size=_HEADER_MOST) as file:
        if set(file.files) != _NAMES:
            raise ValueError("it has other arrays")
        for name in file.files:
            with file.zip.open(f"{name}.npy") as entry:
                version = np.lib.format.read_magic(entry)
                shape, _, dtype = _HEADERS[version](entry, max_header_size=_HEADER_MOST)
                if math.prod(shape) * dtype.itemsize > file.zip.getinfo(f"{name}.npy").file_size:
                    raise ValueError(f"the header of {name} claims more than there is")
        found = {name: file[name] for name in file.files}
    phi = found["word_probabilities"]
    if phi.shape[1:] != found["terms"].shape or phi.dtype.kind != "f" or not ((phi > 0) & (phi <= 1)).all():
        raise ValueError("its words have no probabilities")
    return found


def fit_topics(corpus, topics_n, seed, engine="tomotopy", alpha=0.01, eta=0.01, iterations=None):
    """Return a `TopicModel` of a corpus.

    Parameters
    ----------
    corpus : words.Corpus
    topics_n : int
        At least 1, at most the number of documents.
    seed : int
    engine : {"tomotopy", "sklearn"}
    alpha, eta : float or None
        Dirichlet priors of a document's topics and of a topic's words: 0.01 as in the released code of Shin et al.;
        None for 1 / topics_n. They stay fixed.
    iterations : int, optional
        Sweeps of the sampler, 100 if not given; passes of variational Bayes, 10.

    Raises
    ------
    ValueError
        If there is no such engine, or there are more topics than documents.
    """
    if engine not in _ITERATIONS:
        raise ValueError(f"engine {engine!r} is none of {', '.join(_ITERATIONS)}.")
    if not 1 <= topics_n <= len(corpus):
        raise ValueError(f"{topics_n} topics of {len(corpus)} documents: ask for 1 to {len(corpus)}.")
    alpha, eta = (1 / topics_n if prior is None else float(prior) for prior in (alpha, eta))
    iterations = iterations or _ITERATIONS[engine]
    fitted = {"tomotopy": _by_tomotopy, "sklearn": _by_sklearn}[engine]
    phi = fitted(corpus, topics_n, seed, alpha, eta, iterations).astype(np.float32)
    settings = {"topics_n": topics_n, "seed": seed, "alpha": alpha, "eta": eta, "iterations": iterations}
    return TopicModel(engine, corpus.terms, phi, alpha, corpus.document_ids, settings)


def _by_tomotopy(corpus, topics_n, seed, alpha, eta, iterations):
    import tomotopy

    model = tomotopy.LDAModel(k=topics_n, alpha=alpha, eta=eta, seed=seed)
    model.optim_interval = 0  # else it would fit alpha
    for row in range(len(corpus)):
        model.add_doc(corpus.words(row))
    model.train(iterations, workers=1)
    place = {term: k for k, term in enumerate(model.used_vocabs)}
    unused = len(place)  # a term that no document has is only smoothed
    order = np.array([place.get(term, unused) for term in corpus.terms])
    counts = np.zeros((topics_n, unused + 1))
    for topic, total in enumerate(model.get_count_by_topics()):
        share = np.asarray(model.get_topic_word_dist(topic), float)
        counts[topic, :unused] = share * (total + unused * eta) - eta
    phi = np.maximum(counts[:, order], 0) + eta
    return phi / phi.sum(axis=1, keepdims=True)


def _by_sklearn(corpus, topics_n, seed, alpha, eta, iterations):
    from sklearn.decomposition import LatentDirichletAllocation

    model = LatentDirichletAllocation(
        topics_n,
        doc_topic_prior=alpha,
        topic_word_prior=eta,
        learning_method="batch",
        max_iter=iterations,
        max_doc_update_iter=_DOCUMENT_STEPS,
        mean_change_tol=_DOCUMENT_TOLERANCE,
        random_state=seed,
    )
    phi = model.fit(corpus.counts()).components_
    return phi / phi.sum(axis=1, keepdims=True)


def halves(corpus):
    """Return two sparse matrices of counts: of every document's first, third, ... words, and of its others."""
    rows = np.repeat(np.arange(len(corpus)), np.diff(corpus.starts))
    odd = (np.arange(len(corpus.tokens)) - corpus.starts[:-1][rows]) % 2 == 1
    shape = len(corpus), len(corpus.terms)
    parts = (sparse.csr_matrix((np.ones(p.sum()), (rows[p], corpus.tokens[p])), shape=shape) for p in (~odd, odd))
    return tuple(parts)


def _blocks(corpus):
    """Yield slices of documents whose shares are computed at once."""
    return (slice(low, min(low + _BLOCK, len(corpus))) for low in range(0, len(corpus), _BLOCK))


def _mixed(counts, theta, by_term):
    """Return sum_k theta_k phi_kw at each entry of a sparse matrix of counts, float32."""
    found = np.empty(counts.nnz, np.float32)
    for low in range(0, counts.shape[0], _ROWS):
        bounds = counts.indptr[low : low + _ROWS + 1]
        rows = low + np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        entries = slice(bounds[0], bounds[-1])
        found[entries] = np.einsum("nk,nk->n", theta[rows], by_term[counts.indices[entries]])
    return found
