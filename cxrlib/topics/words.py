"""Words of reports as numbers: what counts as a word, which words are left out, which documents are too short.

After the released code of Shin et al. (CVPR 2015): lower case, letters and digits only, at least three of them; terms
of at least three documents; then without the ten most common terms; then documents of at least five terms. Nothing
here knows a language, so that Spanish reports work as English ones do.

What stands where de-identification removed something is no word: `[** ... **]` (MIMIC), underscores (MIMIC), and any
run of letters and digits with `xxx` in it (Open-i's XXXX, also in `x-XXXX` and `XXXXpm`).
"""

import array
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

_WORD = re.compile(r"[^\W_]+")


_BRACKETED = re.compile(r"\[\*\*.*?\*\*\]", re.S)


_REMOVED = "xxx"


_BLOCK = 50_000  # documents


@dataclass(frozen=True)
class WordRules:
    """Which words and documents are kept. The defaults are the released code's.

    Attributes
    ----------
    shortest : int
        Letters and digits of a word, at least.
    least_documents : int
        Documents that a term must be in.
    commonest_n : int
        Terms of most documents that are left out after that (equal ones by the alphabet). The released code's comment
        says 30, the code 10.
    least_terms : int
        Terms, repeated ones counted, that a document must have after that.
    """

    shortest: int = 3
    least_documents: int = 3
    commonest_n: int = 10
    least_terms: int = 5


def tokens(text, shortest=3):
    """Return the words of a text, in order: lower case, without what de-identification left.

    Parameters
    ----------
    text : str
        Accents may be letters of their own or combined.
    shortest : int
    """
    return [word for word in _words(text) if _kept(word, shortest)]


def _words(text):
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "[**" in text:
        text = _BRACKETED.sub(" ", text)
    return _WORD.findall(text.lower())


def _kept(word, shortest):
    return len(word) >= shortest and _REMOVED not in word


@dataclass(frozen=True)
class Corpus:
    """Documents as numbers of terms.

    Attributes
    ----------
    document_ids : tuple of str
    tokens : (n_tokens,) int32 array
        The terms of all documents, one after another, in the order of the text.
    starts : (n_documents + 1,) int64 array
        Where each document's tokens begin, and the end of the last.
    terms : tuple of str
        Sorted.
    dropped : pandas.DataFrame
        `document_id, terms_n, reason` of the documents that were left out.
    commonest : tuple of str
        The terms that were left out as too common, the most common first.
    """

    document_ids: tuple
    tokens: np.ndarray
    starts: np.ndarray
    terms: tuple
    dropped: pd.DataFrame
    commonest: tuple = ()

    def __len__(self):
        return len(self.document_ids)

    def words(self, row):
        """Return the words of one document, in order."""
        return [self.terms[t] for t in self.tokens[self.starts[row] : self.starts[row + 1]]]

    def counts(self):
        """Return how often each document has each term, a sparse int32 matrix of documents by terms."""
        ones = np.ones(len(self.tokens), np.int32)
        shape = len(self), len(self.terms)
        found = sparse.csr_matrix((ones, self.tokens.copy(), self.starts), shape=shape)
        found.sum_duplicates()
        return found

    def documents_n(self):
        """Return the number of documents that each term is in, an int64 array."""
        return np.bincount(self.counts().indices, minlength=len(self.terms))

    def part(self, rows):
        """Return some documents, with the same terms.

        Parameters
        ----------
        rows : array of int or bool, or slice
        """
        rows = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.arange(len(self))[rows]
        starts, found = _gathered(self.tokens, self.starts, rows)
        ids = tuple(self.document_ids[r] for r in rows)
        return Corpus(ids, found, starts, self.terms, self.dropped.iloc[:0], self.commonest)

    def filtered(self, rules):
        """Return the corpus by further rules, which see only its own documents; `shortest` has no part in it.

        Raises
        ------
        ValueError
            If no document is left.
        """
        return _filtered(self.document_ids, self.tokens, self.starts, np.array(self.terms, object), rules)


def _gathered(found, starts, rows):
    """Return starts and tokens of some documents."""
    lengths = np.diff(starts)[rows]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(ends[-1]) + np.repeat(starts[:-1][rows] - ends[:-1], lengths)
    return ends, found[places]


def corpus(documents, rules=None, terms=None):
    """Return the documents that have enough words, as numbers.

    One pass over the texts, which are not kept: memory is four bytes a word, and the ids.

    Parameters
    ----------
    documents : iterable of (str, str)
        Id and text. A text that is None or NaN is none.
    rules : WordRules, optional
    terms : sequence of str, optional
        Known terms, such as those of a model: no other word counts, and none is left out as rare or common.

    Raises
    ------
    ValueError
        If an id occurs twice, or no document is left.
    """
    rules = rules or WordRules()
    number = {} if terms is None else {term: k for k, term in enumerate(terms)}
    found, starts, ids = array.array("i"), array.array("q", [0]), []
    for document_id, text in documents:
        ids.append(document_id)
        for word in _words(text) if isinstance(text, str) else ():
            k = number.get(word)
            if k is None:
                new = terms is None and _kept(word, rules.shortest)
                k = number[word] = len(number) if new else -1
            if k >= 0:
                found.append(k)
        starts.append(len(found))
    if not ids:
        raise ValueError("There is no document: give reports.")
    if len(set(ids)) < len(ids):
        twice = pd.Series(ids)
        raise ValueError(f"document {twice[twice.duplicated()].iloc[0]!r} occurs twice: give each an id of its own.")
    names = np.array(list(number), object)
    arrays = np.frombuffer(found, np.int32), np.frombuffer(starts, np.int64)
    return _filtered(ids, *arrays, names, rules, known=terms)


def _blocks(starts):
    """Yield the first and last rows of blocks of documents, so that what is made of a block stays small."""
    for first in range(0, len(starts) - 1, _BLOCK):
        yield first, min(first + _BLOCK, len(starts) - 1)


def _documents_n(found, starts, terms_n):
    """Return the number of documents that each term is in."""
    counted = np.zeros(terms_n, np.int64)
    for first, last in _blocks(starts):
        part = found[starts[first] : starts[last]]
        rows = np.repeat(np.arange(last - first, dtype=np.int64), np.diff(starts[first : last + 1]))
        counted += np.bincount(np.unique(rows * terms_n + part) % terms_n, minlength=terms_n)
    return counted


def _filtered(ids, found, starts, names, rules, known=None):
    """Return the `Corpus` of what the rules keep; `known` terms are all kept, in their order."""
    kept, commonest = np.zeros(len(names), bool), ()
    if known is None:
        documents_n = _documents_n(found, starts, len(names))
        enough = np.flatnonzero(documents_n >= max(1, rules.least_documents))
        by_frequency = sorted(enough.tolist(), key=lambda k: (-documents_n[k], names[k]))
        commonest = tuple(names[by_frequency[: rules.commonest_n]].tolist())
        kept[by_frequency[rules.commonest_n :]] = True
    else:
        kept[: len(known)] = True
    terms_n, left, used = np.zeros(len(ids), np.int64), [], np.zeros(len(names), bool)
    for first, last in _blocks(starts):
        part = found[starts[first] : starts[last]]
        rows = np.repeat(np.arange(last - first), np.diff(starts[first : last + 1]))
        there = kept[part]
        terms_n[first:last] = np.bincount(rows[there], minlength=last - first)
        there &= terms_n[first:last][rows] >= max(1, rules.least_terms)
        left.append(part[there])
        used[left[-1]] = True
    long = terms_n >= max(1, rules.least_terms)
    if not long.any():
        raise ValueError(
            f"None of {len(ids)} documents has {rules.least_terms} terms that are in {rules.least_documents} "
            f"documents and not among the {rules.commonest_n} most common: give more reports, or looser rules."
        )
    if known is None:  # terms of documents alone that are too short are left out too; the others by the alphabet
        order = np.array(sorted(np.flatnonzero(kept & used).tolist(), key=lambda k: names[k]), int)
        terms = tuple(names[order].tolist())
    else:
        order, terms = np.arange(len(known)), tuple(known)
    number = np.full(len(names), -1, np.int32)
    number[order] = np.arange(len(order))
    ends = np.concatenate([[0], np.cumsum(terms_n[long])])
    numbered = np.concatenate([number[part] for part in left])
    kept_ids = tuple(np.array(ids, object)[long].tolist())
    return Corpus(kept_ids, numbered, ends, terms, _dropped(ids, terms_n, long, np.diff(starts), rules), commonest)


def _dropped(ids, terms_n, long, words_n, rules):
    few = f"it has fewer than {rules.least_terms} terms"
    rows = np.flatnonzero(~long)
    reason = ["it has no words" if words_n[k] == 0 else few for k in rows]
    return pd.DataFrame({"document_id": [ids[k] for k in rows], "terms_n": terms_n[rows], "reason": reason})
