"""From an image to the topic of its report: softmax networks, one a level, each started from the one before.

Shin et al., CVPR 2015, section 3: a network learns the topic that latent Dirichlet allocation gave the report of an
image, first of whole reports, then of the second level, then of sentences, each from the weights of the one before.
What knows nothing of the image stands beside it, which the paper lacks: the commonest topics in their order, and a
guess by how common topics are.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxrlib.base import paths
from cxrlib.networks import batches, short_training
from cxrlib.statistics import retrieval

TOPIC_LEVELS = ("document", "second", "sentence")  # in the order in which networks are started from each other


@dataclass(frozen=True)
class TopicNetwork:
    """A network with one logit a topic.

    Attributes
    ----------
    network : torch.nn.Module
    topics : (k,) int64
        Which topic each logit is of.
    prior : (k,) float64
        How often each was among the training images; the sum is 1.
    history : list of float
        Mean loss of each epoch.
    """

    network: nn.Module
    topics: np.ndarray
    prior: np.ndarray
    history: list

    def probabilities(self, images, rows):
        """Return the probability of each topic, (len(rows), k) float32, rows sum to 1."""
        logits = short_training.outputs(self.network, images, rows)
        return torch.softmax(torch.from_numpy(logits), 1).numpy()


def train_topics(images, rows, topic, settings, seed, start=None, epochs=None):
    """Train a network to tell the topic of an image's report.

    Parameters
    ----------
    images : (n, side, side) uint8
    rows : (m,) int
    topic : (m,) int
        Of each image's report; -1 (a dropped topic) is not learned from.
    settings : short_training.ShortSettings
    seed : int
    start : torch.nn.Module, optional
        A network of the same architecture whose weights this one starts from.
    epochs : int, optional

    Returns
    -------
    TopicNetwork

    Raises
    ------
    ValueError
        If fewer than two topics are left.
    """
    rows, topic = np.asarray(rows), np.asarray(topic)
    topics, label, counts = np.unique(topic[topic >= 0], return_inverse=True, return_counts=True)
    if len(topics) < 2:
        raise ValueError(f"{len(topics)} topics to learn: two or more must have training images.")
    target = torch.as_tensor(label, device=batches.device())
    network = short_training.new_network(settings, len(topics), seed, start)

    def loss(logits, which):
        return nn.functional.cross_entropy(logits, target[which])

    options = {"tuned": start is not None, "epochs": epochs}
    history = short_training.learn(network, images, rows[topic >= 0], loss, settings, seed, **options)
    return TopicNetwork(network, topics.astype(np.int64), counts / counts.sum(), history)


def topic_scores(probability, topics, prior, topic):
    """Return how near the first an image's topic stands, by a network and by what knows nothing of images.

    Parameters
    ----------
    probability : (n, k) float
        Of the topics that a network knows.
    topics : (k,) int
    prior : (k,) float
        How common each is among training images.
    topic : (n,) int
        The image's own. One that the network does not know, or -1, is not scored.

    Returns
    -------
    scores : pandas.DataFrame
        Four rows an image that is scored, by `model`: `network`; `majority`, topics in the order in which they are
        common; `prior`, each of five guesses drawn by how common topics are; `chance`, even guesses. Columns `at`
        (position among the n), `top1, top5` (the probability that the topic is the first, or among the first five)
        and `bits` (minus log2 of the probability that the topic was given; of `majority` none).
    left_out_n : int
        Images that are not scored.
    """
    index = pd.Index(topics).get_indexer(np.asarray(topic))
    at = np.flatnonzero(index >= 0)
    own, k = index[at], len(topics)
    common = np.broadcast_to(prior, (len(at), k))
    ranked = {}
    for model, score in (("network", np.asarray(probability)[at]), ("majority", common)):
        where = retrieval.own_places(score, own, np.arange(k), own)
        ranked[model] = {f"top{m}": retrieval.hit_probability(where, m) for m in (1, 5)}
    given = np.asarray(probability, float)[at, own]
    ranked["network"]["bits"] = -np.log2(np.maximum(given, 1e-12))
    ranked["prior"] = {"top1": prior[own], "top5": 1 - (1 - prior[own]) ** 5, "bits": -np.log2(prior[own])}
    even = np.ones(len(at))
    ranked["chance"] = {"top1": even / k, "top5": even * min(5 / k, 1), "bits": even * np.log2(k)}
    parts = [pd.DataFrame({"model": model, "at": at, **columns}) for model, columns in ranked.items()]
    return pd.concat(parts, ignore_index=True), len(index) - len(at)


def topics_dir(edition):
    """Return the folder of the topics of an edition's pairs (notebook 16)."""
    return paths.ROOT / "data" / "topics" / edition
