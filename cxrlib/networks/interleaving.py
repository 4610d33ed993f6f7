"""Text and images in turns: topics teach a network, and what it sees in images regroups the reports.

Shin et al. name the loop as the aim of mining an archive. A round here: two networks, each trained on the current
groups of half of the patients, look at the other half's images, so that nobody's own label comes back as a feature.
Reports are then grouped anew by k-means on text features and the networks' probabilities side by side, from the
current groups as the start, and the groups teach the next round. Rounds end where groups hardly change.
"""

import copy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import nn

from cxrlib.networks import batches, presence, routes, short_training


@dataclass(frozen=True)
class InterleavingSettings:
    """What fixes the rounds.

    Attributes
    ----------
    rounds_n : int
        Regroupings, at most.
    least_rounds : int
        Before which they do not end.
    agreement : float
        Adjusted Rand index of two rounds' groups of the training reports from which on they end.
    image_weight : float
        Total variance of the image features over that of the text features.
    tuning_epochs : int
        Of the networks in a round after the first; they go on from where they were.
    """

    rounds_n: int = 3
    least_rounds: int = 3
    agreement: float = 0.95
    image_weight: float = 1.0
    tuning_epochs: int = 1


@dataclass(frozen=True)
class Round:
    """Groups before or after a regrouping, and what networks that learned them see.

    Attributes
    ----------
    number : int
        0 is the start: topics of the text alone.
    group : (n,) int64
        Of each pair of image and report; -1 has none (a dropped topic, at the start).
    probability : (n, k) float32
        Of the groups, by networks that did not learn this pair's group; of test images the mean of both.
    adjusted_rand, mutual_information : float
        Agreement with the round before, on training pairs: adjusted Rand index, and normalised mutual information;
        NaN at the start.
    moved_n : int
        Training pairs whose group changed.
    """

    number: int
    group: np.ndarray
    probability: np.ndarray
    adjusted_rand: float
    mutual_information: float
    moved_n: int


def dense_text(features, trained, size, seed):
    """Return report features in few dimensions, (n, size) float64: a truncated SVD, fitted on training reports.

    Parameters
    ----------
    features : (n, d) array or sparse matrix
    trained : (n,) bool
    size : int
        At most one less than there are columns.
    seed : int
    """
    size = min(size, features.shape[1] - 1)
    return TruncatedSVD(size, random_state=seed).fit(features[np.flatnonzero(trained)]).transform(features)


def _halves(patient_id, trained, seed):
    """Return which half each training pair is of, patient by patient, (n,) int; -1 of others."""
    patient = np.unique(np.asarray(patient_id, dtype=object).astype(str), return_inverse=True)[1]
    side = np.random.default_rng((seed, 23)).permutation(patient.max() + 1) % 2
    return np.where(trained, side[patient], -1)


def _taught(networks, images, rows, group, half, groups_n, settings, seed, epochs):
    """Train both networks on the groups of their half, in place or new, and return what they see of all pairs."""
    seen = np.zeros((len(rows), groups_n), np.float32)
    label = torch.as_tensor(group, device=batches.device())
    for side in (0, 1):
        learned = np.flatnonzero((half == side) & (group >= 0))
        target, tuned = label[torch.as_tensor(learned, device=label.device)], side in networks
        if not tuned:
            networks[side] = short_training.new_network(settings, groups_n, seed + 1000 * side)

        def loss(logits, which, target=target):
            return nn.functional.cross_entropy(logits, target[which])

        options = {"tuned": tuned, "epochs": epochs if tuned else None}
        short_training.learn(networks[side], images, rows[learned], loss, settings, seed, **options)
        look = np.flatnonzero(half != side)
        found = torch.softmax(torch.from_numpy(short_training.outputs(networks[side], images, rows[look])), 1).numpy()
        seen[look] += found / np.where(half[look] < 0, 2, 1)[:, None]
    return seen


def _unit(part, trained, variance):
    """Return features centred on training pairs, with a total variance there."""
    if not len(part):
        return part
    part = part - part[trained].mean(0)
    total = part[trained].var(0).sum()
    return part * np.sqrt(variance / total) if total > 0 else part


@dataclass(frozen=True)
class Start:
    """The start of the rounds: networks that learned the topics of the text alone, and all that stays the same.

    Attributes
    ----------
    first : Round
        Number 0.
    networks : dict of int to torch.nn.Module
        By half of the patients.
    images, rows, text, trained, half, groups_n, settings, rounds, seed
        As `start_rounds` took them.
    """

    first: Round
    networks: dict
    images: np.ndarray
    rows: np.ndarray
    text: np.ndarray
    trained: np.ndarray
    half: np.ndarray
    groups_n: int
    settings: short_training.ShortSettings
    rounds: InterleavingSettings
    seed: int


def start_rounds(images, rows, patient_id, text, topic, trained, settings, rounds, seed):
    """Return the `Start` of the rounds of text and images in turns.

    Parameters
    ----------
    images : (n_images, side, side) uint8
    rows : (n,) int
        The image of each pair.
    patient_id : (n,) array
    text : (n, d) float
        Features of each report (`dense_text`).
    topic : (n,) int
        -1 none.
    trained : (n,) bool
        Training pairs; of the others nothing is learned, and they join the groups that are there.
    settings : short_training.ShortSettings
    rounds : InterleavingSettings
    seed : int
    """
    trained, rows = np.asarray(trained, bool), np.asarray(rows)
    topics, group = np.unique(np.asarray(topic), return_inverse=True)
    group = group - int(topics[0] == -1)
    groups_n, half, networks = int(group.max()) + 1, _halves(patient_id, trained, seed), {}
    seen = _taught(networks, images, rows, group, half, groups_n, settings, seed, None)
    first = Round(0, group, seen, np.nan, np.nan, 0)
    scaled = _unit(np.asarray(text, float), trained, 1.0)
    return Start(first, networks, images, rows, scaled, trained, half, groups_n, settings, rounds, seed)


def later_rounds(start, arm=routes.IMAGES):
    """Yield the rounds after a start, until two agree or there are `rounds_n`.

    Parameters
    ----------
    start : Start
        It stays as it is, so that the control can begin at the same one.
    arm : str
        `routes.IMAGES`; the controls are `routes.TEXT_ALONE`, which regroups by text features and nothing else, and
        `routes.SHUFFLED_IMAGES`, which deals image features out anew among pairs before each regrouping.

    Yields
    ------
    Round
    """
    trained, rounds = start.trained, start.rounds
    networks, rng = copy.deepcopy(start.networks), np.random.default_rng((start.seed, 29))
    group, seen = start.first.group, start.first.probability
    for number in range(1, rounds.rounds_n + 1):
        of_image = seen.astype(float)
        if arm == routes.SHUFFLED_IMAGES:
            for part in (np.flatnonzero(trained), np.flatnonzero(~trained)):
                of_image[part] = of_image[rng.permutation(part)]
        # two networks are offset against each other: without this, groups would tell who looked at the image
        sides = [np.flatnonzero(start.half == side) for side in (0, 1, -1)]
        for part in sides:
            of_image[part] = _unit(of_image[part], np.ones(len(part), bool), rounds.image_weight)
        both = start.text if arm == routes.TEXT_ALONE else np.c_[start.text, of_image]
        before, group = group, _regrouped(both, group, trained, start.groups_n)
        taught = start.groups_n, start.settings, start.seed + number, rounds.tuning_epochs
        seen = _taught(networks, start.images, start.rows, group, start.half, *taught)
        old, new = before[trained], group[trained]
        rand, mutual = adjusted_rand_score(old, new), normalized_mutual_info_score(old, new)
        yield Round(number, group, seen, float(rand), float(mutual), int((old != new).sum()))
        if number >= rounds.least_rounds and rand >= rounds.agreement:
            return


def round_scores(done, arm, seed, trained, truth, findings, image_id):
    """Return what a round's groups say of the findings of test images, and how it agrees with the one before.

    Parameters
    ----------
    done : Round
    arm : str
        `routes.IMAGES`, `routes.TEXT_ALONE` or `routes.SHUFFLED_IMAGES`.
    seed : int
    trained : (n,) bool
    truth : (n, f) float
        1, 0, NaN: how often a group has a finding is counted on training pairs, by this truth. It only measures what
        the groups know; the rounds never see it.
    findings : sequence of f str
    image_id : (n,) str

    Returns
    -------
    scores : pandas.DataFrame
        `arm, seed, round, route, finding, image_id, probability` of the pairs that are not trained on. Routes:
        `groups of reports`, the rate of the image's own report's group; `network`, the mean rate over groups by the
        probabilities that networks give the image.
    about : dict
        `arm, seed, round, adjusted_rand, mutual_information, moved_n`.
    """
    groups_n, test = done.probability.shape[1], ~np.asarray(trained, bool)
    member = np.eye(groups_n + 1)[done.group[test]][:, :groups_n]  # -1 is the last: no group
    member[member.sum(1) == 0] = np.bincount(done.group[trained & (done.group >= 0)], minlength=groups_n) / max(
        1, (trained & (done.group >= 0)).sum()
    )
    rate = np.arange(groups_n), done.group[trained], np.asarray(truth, float)[trained]
    where = {"arm": arm, "seed": seed, "round": done.number}
    parts = [
        presence.long_scores(
            presence.through_topics(chance, *rate), findings, np.asarray(image_id)[test], **where, route=route
        )
        for route, chance in ((routes.OWN_GROUP, member), (routes.BY_NETWORK, done.probability[test]))
    ]
    about = {name: getattr(done, name) for name in ("adjusted_rand", "mutual_information", "moved_n")}
    return pd.concat(parts, ignore_index=True), {**where, **about}


def _regrouped(features, group, trained, groups_n):
    """Return groups by k-means from the means of the current ones; an empty group starts at the overall mean."""
    known = features[trained]
    members = [known[group[trained] == k] for k in range(groups_n)]
    start = np.stack([(part if len(part) else known).mean(0) for part in members])
    model = KMeans(groups_n, init=start, n_init=1, max_iter=50).fit(known)
    return model.predict(features).astype(np.int64)
