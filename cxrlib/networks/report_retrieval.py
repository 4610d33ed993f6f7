"""Which report belongs to an image, and which image to a report: scores of every pair, by networks and without.

A score is a matrix of images by reports, in the order of the same pairs. `retrieved` turns one into a row a pair and
direction: image to report, among the distinct texts; report to image, among the images.
"""

import numpy as np
import pandas as pd

from cxrlib.statistics import retrieval

DIRECTIONS = ("image to report", "report to image")


def commonest_scores(group, trained_group, images_n):
    """Return how often the text of each report occurs among training reports, for every image the same, (n, m).

    Parameters
    ----------
    group : (m,) int
        Of the reports.
    trained_group : (k,) int
        Of training reports, numbered alike.
    images_n : int
    """
    counts = pd.Series(np.asarray(trained_group)).value_counts()
    often = counts.reindex(np.asarray(group)).fillna(0).to_numpy(float)
    return np.broadcast_to(often, (images_n, len(often)))


def topic_neighbour_scores(probability, topics, topic):
    """Return the probability that an image has the topic of each report, (n, m) float32.

    Parameters
    ----------
    probability : (n, k) float
        Of topics.
    topics : (k,) int
    topic : (m,) int
        Of the reports; one that is unknown counts as even chances.
    """
    column = pd.Index(topics).get_indexer(np.asarray(topic))
    even = np.full((len(probability), 1), 1 / len(topics), np.float32)
    return np.c_[np.asarray(probability, np.float32), even][:, column]


def label_neighbour_scores(probability, labels, prior):
    """Return the log-likelihood of each report's labels under an image's probabilities, over their prior one, (n, m).

    Without the prior every image would come nearest to reports without findings, the commonest ones.

    Parameters
    ----------
    probability : (n, f) float in [0, 1]
        Calibrated.
    labels : (m, f) float
        1 present, -1 uncertain, all else absent; an uncertain one counts half as either.
    prior : (f,) float in [0, 1]
        How common each finding is among training reports.
    """
    labels = np.asarray(labels, float)
    said = np.select([labels == 1, labels == -1], [1.0, 0.5], 0.0)
    p, rate = (np.clip(np.asarray(each, float), 1e-6, 1 - 1e-6) for each in (probability, prior))
    return np.log(p / rate) @ said.T + np.log((1 - p) / (1 - rate)) @ (1 - said).T


def retrieved(score, group, findings):
    """Return where each image's report stands among the reports, and each report's image among the images.

    Parameters
    ----------
    score : (n, n) float
        Of images by reports, pair k on the diagonal.
    group : (n,) int
        Which reports say the same: one text stands once among the reports, and images whose report says the same do
        not compete for it.
    findings : (n, f) bool
        That each report says are there: what two reports share of them grades the nDCG.

    Returns
    -------
    pandas.DataFrame
        Two rows a pair: `direction`, `at` (position among the n), `above, tied, wrong_n` (`retrieval.Places`),
        `ndcg`.
    """
    group, findings = np.asarray(group), np.asarray(findings, bool)
    first, own = retrieval.first_of_each(group)
    gain = retrieval.label_overlap(findings, findings)
    scores = {DIRECTIONS[0]: (score[:, first], gain[:, first], first, own)}
    scores[DIRECTIONS[1]] = (score.T, gain, np.arange(len(group)), np.arange(len(group)))
    parts = []
    for direction, (each, relevant, items, mine) in scores.items():
        where = retrieval.own_places(each, group, group[items], mine)
        columns = {"at": np.arange(len(group)), **where._asdict(), "ndcg": retrieval.ndcg(each, relevant)}
        parts.append(pd.DataFrame({"direction": direction, **columns}))
    return pd.concat(parts, ignore_index=True)
