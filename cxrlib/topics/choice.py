"""How many topics: held-out perplexity, coherence, and stability over seeds, which need not agree.

- Perplexity (lower is better) says how well a model foretells words of reports that it has not seen (`models`).
- Coherence (higher is better) is the normalised pointwise mutual information of the pairs of a topic's first words,
  NPMI(v, w) = log(p(v, w) / (p(v) p(w))) / -log p(v, w) (Bouma, GSCL 2009; of topics: Lau et al., EACL 2014). The
  probabilities are shares of documents, or of windows of words, of a reference corpus. Words that never meet have -1.
- Stability (higher is better) asks whether another seed finds the same topics: the rank-biased overlap of their lists
  of words (Webber et al., ACM TOIS 2010;28:20, the extrapolated one of equation 32), topics of two seeds matched one to
  one so that the sum is greatest.
"""

import itertools

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from cxrlib.base import figures
from cxrlib.statistics import intervals, resampling
from cxrlib.topics import models

COHERENCE_WORDS, STABILITY_WORDS = 10, 20  # of a topic, the most probable


PERSISTENCE = 0.9  # p of the rank-biased overlap: its first ten ranks carry 86 % of the weight


_BETTER = {"perplexity": -1, "npmi": 1, "stability": 1}


def held_out(groups, held_frac=0.2, seed=0):
    """Return which documents are held out, whole groups (patients) at a time, (n,) bool.

    Parameters
    ----------
    groups : (n,) array
    held_frac : float in (0, 1)
        Of the groups; the paper's is 0.2.
    seed : int

    Raises
    ------
    ValueError
        If no group would be left on either side.
    """
    names, group = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    held_n = round(held_frac * len(names))
    if not 0 < held_n < len(names):
        raise ValueError(f"{held_frac:g} of {len(names)} patients leaves one side empty: give more reports.")
    chosen = np.random.default_rng(seed).permutation(len(names))[:held_n]
    return np.isin(group, chosen)


def unrepeated(held, trained):
    """Return the held-out documents whose words, in order, are not those of a document that was trained on, (n,) bool.

    Parameters
    ----------
    held, trained : words.Corpus
        Of the same terms.
    """

    def keys(corpus):
        bounds = zip(corpus.starts[:-1], corpus.starts[1:], strict=True)
        return [corpus.tokens[low:high].tobytes() for low, high in bounds]

    seen = set(keys(trained))
    return np.array([key not in seen for key in keys(held)], bool)


def npmi(key_words, reference, window=None):
    """Return the coherence of topics, (n_topics,) float in [-1, 1].

    Parameters
    ----------
    key_words : sequence of sequence of str
        Each topic's first words, at least two.
    reference : words.Corpus
        Whose documents are counted. A word that it lacks meets no other.
    window : int, optional
        Count windows of so many successive words (a shorter document is one window), not documents.

    Raises
    ------
    ValueError
        If a topic has fewer than two words.
    """
    if min((len(words) for words in key_words), default=0) < 2:
        raise ValueError("A topic's coherence needs at least two words.")
    chosen = sorted({word for words in key_words for word in words})
    number = {word: k for k, word in enumerate(chosen)}
    of_term = np.array([number.get(term, -1) for term in reference.terms])
    rows, column = _places(reference, window), of_term[reference.tokens]
    found = np.concatenate([np.c_[row, column][(row >= 0) & (column >= 0)] for row in rows])
    units_n = int(max(row.max(initial=0) for row in rows)) + 1
    there = sparse.csr_matrix((np.ones(len(found)), found.T), shape=(units_n, len(chosen)))
    there.data[:] = 1
    there = sparse.csr_matrix(there > 0, dtype=float)
    both = (there.T @ there).toarray() / units_n
    each = np.diag(both)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(both / np.outer(each, each)) / -np.log(both)
    value[both == 0], value[both == 1] = -1.0, 1.0
    pairs = [np.array(list(itertools.combinations([number[w] for w in words], 2))).T for words in key_words]
    return np.array([value[first, second].mean() for first, second in pairs])


def _places(reference, window):
    """Return in which documents, or windows, each token is: arrays of numbers from 0, -1 where there is none."""
    lengths = np.diff(reference.starts)
    if window is None:
        return [np.repeat(np.arange(len(lengths)), lengths)]
    windows_n = np.maximum(lengths - window + 1, 1)
    before = np.repeat(np.concatenate([[0], np.cumsum(windows_n)[:-1]]), lengths)
    place = np.arange(len(reference.tokens)) - np.repeat(reference.starts[:-1], lengths)
    last = np.repeat(windows_n, lengths) - 1
    start = [place - k for k in range(window)]
    return [np.where((first >= 0) & (first <= last), before + first, -1) for first in start]


def rank_biased_overlap(first, second, persistence=PERSISTENCE):
    """Return the overlap of two ranked lists of the same length, in [0, 1], extrapolated beyond their end.

    Parameters
    ----------
    first, second : sequence of str
        Without repeated words.
    persistence : float in (0, 1)
        How little the weight falls from rank to rank.
    """
    return float(_overlaps([first], [second], persistence)[0, 0])


def _overlaps(first, second, persistence):
    """Return the rank-biased overlap of each list of one model with each of another.

    The overlap is a sum over common words of a weight that hangs on the lower of the word's two ranks m alone:
    p^k / k + (1 - p) / p * sum from d = m to k of p^d / d.
    """
    depths = {len(words) for words in (*first, *second)}
    if len(depths) != 1:
        raise ValueError("Only lists of the same length can be compared: cut the longer ones.")
    depth = depths.pop()
    d = np.arange(1, depth + 1)
    tail = np.cumsum((persistence**d / d)[::-1])[::-1]
    weight = persistence**depth / depth + (1 - persistence) / persistence * tail
    places = {}
    for topic, words in enumerate(second):
        for rank, word in enumerate(words):
            places.setdefault(word, []).append((topic, rank))
    found = np.zeros((len(first), len(second)))
    for topic, words in enumerate(first):
        for rank, word in enumerate(words):
            for other, at in places.get(word, ()):
                found[topic, other] += weight[max(rank, at)]
    return found


def matched(first, second, persistence=PERSISTENCE):
    """Return which topics of two models belong together, and how alike they are.

    Parameters
    ----------
    first, second : sequence of sequence of str
        Key words of each topic, lists of one length.

    Returns
    -------
    pandas.DataFrame
        `first, second, overlap`, a row a matched pair, in the order of the first model's topics. With unequal numbers
        of topics the rest is left over.
    """
    overlap = _overlaps(first, second, persistence)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return pd.DataFrame({"first": rows, "second": columns, "overlap": overlap[rows, columns]})


def stability(fitted, words_n=STABILITY_WORDS, persistence=PERSISTENCE):
    """Return how alike the topics of models are that differ in their seed, a value in [0, 1] each pair of models.

    Parameters
    ----------
    fitted : sequence of models.TopicModel
        At least two.

    Returns
    -------
    (n_pairs,) float array
        Mean overlap of matched topics.

    Raises
    ------
    ValueError
        If there are fewer than two models.
    """
    if len(fitted) < 2:
        raise ValueError("Stability needs models of at least two seeds.")
    lists = [model.key_words(words_n) for model in fitted]
    pairs = itertools.combinations(lists, 2)
    return np.array([matched(a, b, persistence)["overlap"].mean() for a, b in pairs])


def topic_numbers(trained, held, groups, numbers, seeds, resamples_n=500, window=None, **settings):
    """Return what speaks for each number of topics, and the models.

    Parameters
    ----------
    trained, held : words.Corpus
        Of the same terms; coherence is that of the trained documents.
    groups : (n_held,) array
        The held-out documents' patients: perplexity's interval holds for other patients and other seeds.
    numbers, seeds : sequence of int
        At least two seeds.
    resamples_n : int
        Of patients.
    window : int, optional
        As for `npmi`.
    **settings
        Further arguments of `models.fit_topics`.

    Returns
    -------
    table : pandas.DataFrame
        A row a number of topics and measure (`perplexity, npmi, stability`): `topics_n, measure, estimate, low, high,
        least, most, n`; the least and the most of the `n` seeds (of their pairs, for stability), and for perplexity
        alone the interval.
    fitted : dict
        (topics_n, seed) -> models.TopicModel
    """
    resamples = resampling.patient_resamples(groups, resamples_n, np.random.default_rng(0))
    rows, fitted = [], {}
    for topics_n in numbers:
        some = {(topics_n, seed): models.fit_topics(trained, topics_n, seed, **settings) for seed in seeds}
        fitted |= some
        scores = [model.completion(held) for model in some.values()]
        each = [_perplexity(ll.sum(), n.sum()) for ll, n in scores]
        drawn = np.mean([_perplexity(resamples.totals(ll), resamples.totals(n)) for ll, n in scores], axis=0)
        interval = intervals.over_seeds(each, drawn)
        coherent = [npmi(m.key_words(COHERENCE_WORDS), trained, window).mean() for m in some.values()]
        rows += [
            _row(topics_n, "perplexity", each, interval["low"], interval["high"]),
            _row(topics_n, "npmi", coherent),
            _row(topics_n, "stability", stability(list(some.values()))),
        ]
    return pd.DataFrame(rows), fitted


def _perplexity(log_likelihood, words_n):
    return np.exp(-log_likelihood / words_n)


def _row(topics_n, measure, each, low=np.nan, high=np.nan):
    ends = {"low": low, "high": high, "least": min(each), "most": max(each), "n": len(each)}
    return {"topics_n": topics_n, "measure": measure, "estimate": float(np.mean(each)), **ends}


def chosen_number(table):
    """Return the number of topics that each measure would choose, and the one that is taken.

    The rule: each measure is scaled so that its worst value is 0 and its best 1; taken is the number of topics of which
    the lowest of the three is highest, of equal ones the smaller number. So none of the three may be bad. The scale is
    that of the numbers that were tried.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `topic_numbers`.

    Returns
    -------
    dict
        `perplexity, npmi, stability, chosen`, each a number of topics.
    """
    wide = table.pivot(index="topics_n", columns="measure", values="estimate").sort_index()
    good = pd.DataFrame({m: sign * wide[m] for m, sign in _BETTER.items()})
    spread = (good.max() - good.min()).replace(0, 1)
    scaled = ((good - good.min()) / spread).round(9)
    return {**{m: int(good[m].idxmax()) for m in _BETTER}, "chosen": int(scaled.min(axis=1).idxmax())}


def choice_figure(table, choice, baseline=None):
    """Return a figure of three curves over the number of topics, the best of each and the chosen one marked.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `topic_numbers`.
    choice : dict
        Of `chosen_number`.
    baseline : float, optional
        Perplexity without topics, a dotted line.
    """
    fig, axes = figures.figure(1, 3, width=10, height=3.2)
    titles = {
        "perplexity": "Perplexity of held-out reports (low is good)",
        "npmi": "Coherence, NPMI (high is good)",
        "stability": "Stability over seeds, RBO (high is good)",
    }
    for axis, (measure, title) in zip(axes, titles.items(), strict=True):
        rows = table[table["measure"] == measure].sort_values("topics_n")
        x = rows["topics_n"].to_numpy()
        axis.fill_between(x, rows["least"], rows["most"], color="#0072B2", alpha=0.2, linewidth=0)
        if rows["low"].notna().all():
            axis.vlines(x, rows["low"], rows["high"], color="#0072B2", linewidth=1)
        axis.plot(x, rows["estimate"], "o-", color="#0072B2", markersize=4)
        best = rows[rows["topics_n"] == choice[measure]]
        axis.plot(best["topics_n"], best["estimate"], "o", color="#D55E00", markersize=8)
        axis.axvline(choice["chosen"], color="#888888", linewidth=0.8, linestyle=":")
        axis.set_xscale("log")
        axis.set_xticks(x, [str(v) for v in x])
        axis.minorticks_off()
        axis.set(title=title, xlabel="number of topics")
    if baseline is not None:
        axes[0].axhline(baseline, color="#888888", linewidth=0.8, linestyle="--")
        axes[0].annotate("no topics", (x[0], baseline), fontsize=8, color="#888888", va="bottom")
    return fig
