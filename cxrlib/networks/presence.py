"""Presence and absence of frequent findings: networks trained on labels, the route through topics, and the trade.

Shin et al. ask how far labels mined from reports go without anyone labelling an image. Here the answer is a curve:
networks are trained on few or many images with clean labels, with labels that the rules read in reports (weak), and
on weak labels first and clean ones after; every one predicts the same test images.
"""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.metrics import precision_recall_curve

from cxrlib.networks import batches, losses, routes, short_training

_OPACITIES = ("lung_opacity", "consolidation", "infiltration", "pneumonia")


def with_airspace_opacity(labels):
    """Return what the rules read with a column `airspace_opacity`: any of the four findings that readers call so.

    Parameters
    ----------
    labels : pandas.DataFrame
        A row per report, a column per finding: 1, 0, -1, NaN not mentioned. Present before uncertain before absent.
    """
    parts = labels[[f for f in _OPACITIES if f in labels]]
    said = [(parts == value).any(axis=1) for value in (1, -1, 0)]
    return labels.assign(airspace_opacity=np.select(said, [1.0, -1.0, 0.0], np.nan).astype("float32"))


def frequent_findings(labels, patient_id, least_frac=0.02, least_patients=20):
    """Return which findings are frequent enough to be learned, and why others are not.

    The paper kept 77 terms by how often they occur; here a finding is kept if at least `least_frac` of the training
    reports say that it is present, and at least `least_patients` patients have it, and as many do not.

    Parameters
    ----------
    labels : pandas.DataFrame
        A row per training report, a column per finding: 1, 0, -1, NaN not mentioned.
    patient_id : (n,) array
    least_frac : float
    least_patients : int

    Returns
    -------
    pandas.DataFrame
        `finding, present_n, uncertain_n, absent_n, not_mentioned_n, patients_n, kept, reason`; no reason where it is
        kept.
    """
    patient, rows = np.asarray(patient_id), []
    for finding in labels:
        value = labels[finding].to_numpy(float)
        present = value == 1
        with_n, without_n = len(np.unique(patient[present])), len(np.unique(patient[~present]))
        reason = ""
        if present.mean() < least_frac:
            reason = f"present in {present.mean():.1%} of the reports, fewer than {least_frac:.1%}"
        elif min(with_n, without_n) < least_patients:
            reason = f"{with_n} patients with and {without_n} without it, fewer than {least_patients}"
        counts = {"present_n": present.sum(), "uncertain_n": (value == -1).sum(), "absent_n": (value == 0).sum()}
        counts |= {"not_mentioned_n": np.isnan(value).sum(), "patients_n": with_n}
        rows.append({"finding": finding, **counts, "kept": not reason, "reason": reason})
    return pd.DataFrame(rows)


def train_findings(images, rows, labels, settings, seed, start=None, epochs=None):
    """Train a network with one logit a finding.

    Parameters
    ----------
    images : (n, side, side) uint8
    rows : (m,) int
    labels : (m, f) float
        1, 0, or NaN, which is not learned from. Positives weigh the root of negatives over positives.
    settings : short_training.ShortSettings
    seed : int
    start : torch.nn.Module, optional
        As in `topic_networks.train_topics`; of a network with as many outputs the last layer is taken too.
    epochs : int, optional

    Returns
    -------
    torch.nn.Module
    """
    labels = np.asarray(labels, np.float32)
    network = short_training.new_network(settings, labels.shape[1], seed, start)
    if start is not None and start.num_classes == labels.shape[1]:
        network.load_state_dict(start.state_dict())
    weighed = losses.MaskedBCE(losses.positive_weights(labels, "sqrt"))
    target = torch.as_tensor(labels, device=batches.device())

    def loss(logits, which):
        return weighed(logits, target[which])

    options = {"tuned": start is not None, "epochs": epochs}
    short_training.learn(network, images, rows, loss, settings, seed, **options)
    return network


def finding_probabilities(network, images, rows):
    """Return what a network with one logit a finding gives images, (len(rows), f) float32 in [0, 1]."""
    return expit(short_training.outputs(network, images, rows))


def best_thresholds(label, probability):
    """Return for each finding the probability from which on calling it present has the best F1, (f,) float64.

    On validation images. A finding that is never present there gets 0.5.

    Parameters
    ----------
    label : (n, f) float
        1, 0, NaN.
    probability : (n, f) float in [0, 1]
    """
    label, probability = np.asarray(label, float), np.asarray(probability, float)
    out = np.full(label.shape[1], 0.5)
    for k in range(label.shape[1]):
        known = np.isin(label[:, k], (0, 1))
        if (label[known, k] == 1).any():
            precision, recall, threshold = precision_recall_curve(label[known, k], probability[known, k])
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            out[k] = threshold[np.argmax(f1[:-1])]
    return out


def through_topics(probability, topics, topic, labels):
    """Return the probability of findings that an image's topic implies, the sum of P(topic) P(finding | topic).

    The weakly supervised route: the network learned topics alone, and labels only say how often reports of a topic
    have a finding. Half a report at the overall rate is added to each topic.

    Parameters
    ----------
    probability : (n, k) float
        Of topics, by a network.
    topics : (k,) int
        Which topic each column is of.
    topic : (m,) int
        Of training reports.
    labels : (m, f) float
        Of the same: 1 present, all else absent; NaN rows are left out.

    Returns
    -------
    (n, f) float64 in [0, 1]
    """
    labels, index = np.asarray(labels, float), pd.Index(topics).get_indexer(np.asarray(topic))
    keep = (index >= 0) & ~np.isnan(labels).any(1)
    present = (labels[keep] == 1).astype(float)
    member = np.eye(len(topics))[index[keep]]
    rate = (member.T @ present + 0.5 * present.mean(0)) / (member.sum(0)[:, None] + 0.5)
    return np.asarray(probability, float) @ rate


def labelled_order(patient_id, seed):
    """Return the order in which images are labelled, (n,) int64: patient by patient, at random.

    The first n of it are the images of a budget of n labels: budgets of one seed lie inside each other.
    """
    patient = pd.factorize(np.asarray(patient_id, dtype=object))[0]
    rank = np.random.default_rng((seed, 17)).permutation(patient.max(initial=-1) + 1)
    return np.argsort(rank[patient], kind="stable")


def trade_curve(images, train, test, findings, sizes, weak_networks, settings, topic_starts=None):
    """Train networks on few or many labels by every route, and return what they give the test images.

    Parameters
    ----------
    images : (n, side, side) uint8
    train : Mapping
        `rows` (m,) int, `patient_id` (m,), `clean` and `weak` (m, f) of 1, 0 and NaN.
    test : Mapping
        `rows` (t,) int, `image_id` (t,) str.
    findings : sequence of f str
    sizes : sequence of int
        Numbers of labelled images; that of all images is added, and sizes beyond it are left out.
    weak_networks : Mapping of int to torch.nn.Module
        By seed, trained on the weak labels of all training images. Each seed draws its own patients to label.
    settings : short_training.ShortSettings
    topic_starts : Mapping of int to torch.nn.Module, optional
        By seed a network that learned topics: with it comes the route `topics then clean`.

    Returns
    -------
    pandas.DataFrame
        `route, images_n, seed, finding, image_id, probability` (float32, four decimals). `images_n` are the images
        whose labels of the route's last kind were used; `weak then clean` saw the weak labels of all images before.

    Notes
    -----
    Few labels are passed through more often, so that every training of a route's last kind has as many steps as that
    on all images: else the curve would show what training longer is worth.
    """
    rows, all_n = np.asarray(train["rows"]), len(train["rows"])
    sizes = sorted({n for n in sizes if n < all_n} | {all_n})
    settings = dataclasses.replace(settings, least_images=max(settings.least_images, settings.epochs * all_n))
    parts = []
    for seed, whole in weak_networks.items():
        order = labelled_order(train["patient_id"], seed)
        starts = {routes.CLEAN: None, routes.WEAK: None, routes.WEAK_CLEAN: whole}
        starts |= {routes.TOPICS_CLEAN: topic_starts[seed]} if topic_starts else {}
        for n, (route, start) in itertools.product(sizes, starts.items()):
            some = order[:n]
            labels = np.asarray(train[routes.WEAK if route == routes.WEAK else routes.CLEAN])[some]
            known = route == routes.WEAK and n == all_n
            network = whole if known else train_findings(images, rows[some], labels, settings, seed, start)
            probability = finding_probabilities(network, images, test["rows"])
            parts.append(long_scores(probability, findings, test["image_id"], route=route, images_n=n, seed=seed))
    return pd.concat(parts, ignore_index=True)


def long_scores(probability, findings, image_id, **where):
    """Return probabilities as a long table: `**where`, `finding, image_id, probability`, float32 of four decimals.

    Parameters
    ----------
    probability : (n, f) float
    findings : sequence of f str
    image_id : (n,) str
    **where
        Columns that are the same in every row.
    """
    parts = [
        pd.DataFrame({**where, "finding": finding, "image_id": image_id, "probability": probability[:, k]})
        for k, finding in enumerate(findings)
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(probability=table["probability"].astype("float32").round(4))
