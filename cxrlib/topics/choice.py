"""How many topics: held-out perplexity, coherence, and stability over seeds, which need not agree.

- Perplexity (lower is better) says how well a model foretells words of reports that it has not seen (`models`).
- Coherence (higher is better) is the normalised pointwise mutual information of the pairs of a topic's first words,
  NPMI(v, w) = log(p(v, w) / (p(v) p(w))) / -log p(v, w) (Bouma, GSCL 2009; of topics: Lau et al., EACL 2014). The
  probabilities are shares of documents, or of windows of words, of a reference corpus. Words that never meet have -1.
- Stability (higher is better) asks whether another seed finds the same topics: the rank-biased overlap of their lists
  of words (Webber et al., ACM TOIS 2010;28:20, the extrapolated one of equation 32). Topics of two seeds are matched
  one to one so that the sum is greatest.

Any two topics share words that are common in all reports, the more so the fewer topics there are. A control says how
much: a model of the same words permuted over the reports (`shuffled`), which have no topics. Stability above chance
is (stability - control) / (1 - control), as kappa is of agreement.
"""

import dataclasses
import itertools

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from cxrlib.base import figures
from cxrlib.statistics import intervals, resampling
from cxrlib.topics import models

_COHERENCE_WORDS, _STABILITY_WORDS = 10, 20  # of a topic, the most probable


_PERSISTENCE = 0.9  # p of the rank-biased overlap: its first ten ranks carry 86 % of the weight


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
    """Return which held-out documents do not repeat a trained one word for word, (n,) bool.

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


def shuffled(corpus, seed):
    """Return a corpus whose words are permuted over all documents, so that there are no topics: a control.

    Parameters
    ----------
    corpus : words.Corpus
    seed : int
    """
    return dataclasses.replace(corpus, tokens=np.random.default_rng(seed).permutation(corpus.tokens))


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


def rank_biased_overlap(first, second, persistence=_PERSISTENCE):
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


def matched_topics(first, second, persistence=_PERSISTENCE):
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


def stability(fitted, words_n=_STABILITY_WORDS, persistence=_PERSISTENCE):
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
    return np.array([matched_topics(a, b, persistence)["overlap"].mean() for a, b in pairs])


def unigram_perplexity(trained, held):
    """Return the perplexity of held-out documents without topics: every word by its share of the trained ones.

    Parameters
    ----------
    trained, held : words.Corpus
        Of the same terms. The words that count are those of `models.TopicModel.perplexity`.
    """
    share = np.bincount(trained.tokens, minlength=len(trained.terms)) / len(trained.tokens)
    second = models.halves(held)[1]
    return float(np.exp(-(second @ np.log(share)).sum() / second.sum()))


def topic_numbers(trained, held, groups, numbers, seeds, resamples_n=500, window=None, **settings):
    """Return what speaks for each number of topics, and the models.

    Parameters
    ----------
    trained, held : words.Corpus
        Of the same terms. Coherence, too, is by the documents that were held out.
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
        least, most, n, control`. The interval is of perplexity alone; the least and the most are of the `n` seeds, of
        their pairs for stability. The control is the value of a model of permuted words, for stability the mean
        overlap of the models with it.
    fitted : dict
        (topics_n, seed) -> models.TopicModel
    """
    resamples = resampling.patient_resamples(groups, resamples_n, np.random.default_rng(0))
    rows, fitted, permuted = [], {}, shuffled(trained, seeds[0])
    for topics_n in numbers:
        some = {(topics_n, seed): models.fit_topics(trained, topics_n, seed, **settings) for seed in seeds}
        fitted |= some
        scores = [model.completion(held) for model in some.values()]
        each = [_perplexity(ll.sum(), n.sum()) for ll, n in scores]
        drawn = np.mean([_perplexity(resamples.totals(ll), resamples.totals(n)) for ll, n in scores], axis=0)
        interval = intervals.over_seeds(each, drawn)
        coherent = [npmi(m.key_words(_COHERENCE_WORDS), held, window).mean() for m in some.values()]
        control = models.fit_topics(permuted, topics_n, seeds[0], **settings)
        beside = model_table({"control": control, **some}, held)
        rows += [
            _row(topics_n, "perplexity", each, beside["perplexity"].iloc[0], interval["low"], interval["high"]),
            _row(topics_n, "npmi", coherent, beside["npmi"].iloc[0]),
            _row(topics_n, "stability", stability(list(some.values())), beside["overlap"].iloc[1:].mean()),
        ]
    return pd.DataFrame(rows), fitted


def _perplexity(log_likelihood, words_n):
    return np.exp(-log_likelihood / words_n)


def _row(topics_n, measure, each, control, low=np.nan, high=np.nan):
    ends = {"low": low, "high": high, "least": min(each), "most": max(each), "n": len(each), "control": control}
    return {"topics_n": topics_n, "measure": measure, "estimate": float(np.mean(each)), **ends}


def model_table(fitted, held):
    """Return how models of the same terms compare.

    Parameters
    ----------
    fitted : Mapping of str to models.TopicModel
    held : words.Corpus
        Documents that none of them was fitted to.

    Returns
    -------
    pandas.DataFrame
        By `model` its `perplexity` and `npmi`, and `overlap`, the mean rank-biased overlap of its topics with those
        of the first model, matched.
    """
    lists = {name: model.key_words(_STABILITY_WORDS) for name, model in fitted.items()}
    first = next(iter(lists.values()))
    rows = {
        name: {
            "perplexity": model.perplexity(held),
            "npmi": npmi(model.key_words(_COHERENCE_WORDS), held).mean(),
            "overlap": matched_topics(first, lists[name])["overlap"].mean(),
        }
        for name, model in fitted.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def chosen_number(table, baseline):
    """Return the number of topics that each measure would choose, and the one that is taken.

    Coherence decides, since readers agree with it and not with perplexity (Chang et al. 2009, Lau et al. 2014). Taken
    is the smallest number of which a seed is as coherent as the best number's mean. A number counts only if its
    perplexity's interval lies below that without topics, and if every pair of its seeds is more alike than by chance.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `topic_numbers`.
    baseline : float
        Perplexity without topics (`unigram_perplexity`).

    Returns
    -------
    dict
        `perplexity, npmi, stability, stability_above_chance, chosen`, each a number of topics.

    Raises
    ------
    ValueError
        If no number counts.
    """
    wide = table.pivot(index="topics_n", columns="measure").sort_index()
    estimate, chance = wide["estimate"], wide["control"]["stability"]
    best = {"perplexity": estimate["perplexity"].idxmin(), "npmi": estimate["npmi"].idxmax()}
    best["stability"] = estimate["stability"].idxmax()
    best["stability_above_chance"] = ((estimate["stability"] - chance) / (1 - chance)).idxmax()
    counts = (wide["high"]["perplexity"] < baseline) & (wide["least"]["stability"] > chance)
    if not counts.any():
        raise ValueError(
            f"None of {', '.join(map(str, wide.index))} topics foretells reports better than no topics, with topics "
            "that another seed finds again: give more reports, or other numbers."
        )
    coherent = wide[counts]["most"]["npmi"] >= estimate["npmi"][counts].max()
    return {name: int(n) for name, n in {**best, "chosen": coherent.idxmax()}.items()}


def choice_figure(table, choices, baseline):
    """Return a figure of three curves over the number of topics, the best of each and the number taken marked.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `topic_numbers`.
    choices : dict
        Of `chosen_number`.
    baseline : float
        Perplexity without topics (`unigram_perplexity`).
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
        axis.vlines(x, rows["low"], rows["high"], color="#0072B2", linewidth=1)
        axis.plot(x, rows["estimate"], "o-", color="#0072B2", markersize=4)
        best = rows[rows["topics_n"] == choices[measure]]
        axis.plot(best["topics_n"], best["estimate"], "o", color="#D55E00", markersize=8)
        control = np.full(len(x), baseline) if measure == "perplexity" else rows["control"].to_numpy()
        axis.plot(x, control, "--", color="#888888", linewidth=1)
        name = "without topics" if measure == "perplexity" else "of permuted words"
        at = x[0], control[0]
        axis.annotate(name, at, (2, 3), textcoords="offset points", fontsize=8, color="#888888")
        axis.axvline(choices["chosen"], color="#888888", linewidth=0.8, linestyle=":")
        axis.set(title=title, xlabel="number of topics", xscale="log")
        axis.set_xticks(x, [str(v) for v in x])
        axis.minorticks_off()
    return fig
