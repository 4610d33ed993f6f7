"""Images and reports in one space: two encoders trained so that an image lies nearest to its own report.

After CLIP (Radford et al., ICML 2021, figure 3; for radiographs ConVIRT, Zhang et al., MLHC 2022): an image network
and a projection of report features give vectors of length 1, and both directions of a batch are softmax
classifications of who belongs to whom, with a learned temperature. Reports with the same words after normalisation
are never negatives of each other: which of them is an image's own nobody can tell.

Report features are fixed: TF-IDF of one and two words, or the mean of MiniLM's vectors of the report's sentences,
each distinct sentence read once.
"""

import math

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn
from torch.nn import functional as F

from cxrlib.labelers import report_network
from cxrlib.networks import batches, short_training

TEXT_ENCODERS = ("tfidf", "minilm")

_END = "\x00"  # between sentences
_SCALE = 1 / 0.07  # of cosines at the start, as in CLIP; at most 100


class TextFeatures:
    """Fixed features of reports, fitted on training reports.

    Parameters
    ----------
    texts : sequence of str
        Training reports, as they are read (`report_network.what_is_read`).
    encoder : str
        One of `TEXT_ENCODERS`.
    least_reports, terms_n : int
        Of TF-IDF: a term is in that many training reports, and at most so many terms are kept.
    """

    def __init__(self, texts, encoder="tfidf", least_reports=3, terms_n=4000):
        if encoder not in TEXT_ENCODERS:
            raise ValueError(f"There is no text encoder {encoder!r}; there are {', '.join(TEXT_ENCODERS)}.")
        self.encoder = encoder
        if encoder == "tfidf":
            words = TfidfVectorizer(ngram_range=(1, 2), min_df=least_reports, max_features=terms_n, sublinear_tf=True)
            self._fitted = words.fit(texts)
            return
        self._fitted, self._known = report_network.load_encoder("minilm"), {}
        vectors = self._sentence_means(texts)
        self._mean, self._spread = vectors.mean(0), vectors.std(0) + 1e-6

    def of(self, texts):
        """Return features of reports, (n, d) float32: a sparse matrix of TF-IDF, an array of MiniLM."""
        if self.encoder == "tfidf":
            return self._fitted.transform(texts).astype(np.float32)
        return ((self._sentence_means(texts) - self._mean) / self._spread).astype(np.float32)

    def _sentence_means(self, texts):
        """Return the mean vector of each text's sentences; distinct sentences are read once."""
        parts = [[s.strip() for s in text.replace("\n", ". ").split(".") if s.strip()] or [""] for text in texts]
        new = sorted({s for sentences in parts for s in sentences} - set(self._known), key=lambda s: (len(s), s))
        encoder, tokenizer, _ = self._fitted
        encoder.to(batches.device()).eval()
        for k in range(0, len(new), 64):
            ids = tokenizer(new[k : k + 64], truncation=True, max_length=64, padding=True, return_tensors="pt")
            ids = ids.to(batches.device())
            with torch.no_grad():
                tokens = encoder(**ids).last_hidden_state
            weight = ids["attention_mask"].unsqueeze(-1).float()
            vectors = ((tokens * weight).sum(1) / weight.sum(1)).cpu().numpy()
            self._known.update(zip(new[k : k + 64], vectors, strict=True))
        return np.stack([np.mean([self._known[s] for s in sentences], axis=0) for sentences in parts])


def _rows(features, at):
    """Return some rows of features as a float32 tensor on the device."""
    some = features[np.asarray(at)]
    dense = some.toarray() if hasattr(some, "toarray") else some
    return torch.as_tensor(np.ascontiguousarray(dense, np.float32), device=batches.device())


class JointEmbedding(nn.Module):
    """An image network and a projection of report features into one space, with a learned temperature.

    Parameters
    ----------
    network : torch.nn.Module
        Of images, with `embedding_n` outputs.
    features_n, embedding_n : int
    seed : int
        Of the projection.
    """

    def __init__(self, network, features_n, embedding_n, seed):
        super().__init__()
        self.network = network
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.project = nn.Linear(features_n, embedding_n).to(batches.device())
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE), device=batches.device()))

    def scale(self):
        """Return what cosines are multiplied by: one over the temperature, at most 100."""
        return self.log_scale.exp().clamp(max=100)

    def embed_images(self, images, rows):
        """Return image vectors of length 1, (len(rows), embedding_n) float32."""
        found = short_training.outputs(self.network, images, rows)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    @torch.no_grad()
    def embed_texts(self, features, block_n=4096):
        """Return report vectors of length 1, (n, embedding_n) float32."""
        n = features.shape[0]
        blocks = [np.arange(k, min(k + block_n, n)) for k in range(0, n, block_n)]
        return np.concatenate([F.normalize(self.project(_rows(features, at)), dim=1).cpu().numpy() for at in blocks])


def info_nce(image, text, group, scale):
    """Return the contrastive loss of a batch of pairs, the mean of both directions (Radford et al. 2021, figure 3).

    Parameters
    ----------
    image, text : (b, d) float32
        Row k of both is a pair; they are brought to length 1.
    group : (b,) int
        Pairs whose reports say the same: they are left out of each other's negatives.
    scale : scalar tensor
        One over the temperature.
    """
    logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    same = (group[:, None] == group[None, :]) & ~torch.eye(len(group), dtype=torch.bool, device=group.device)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(group), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train_joint(images, rows, features, group, settings, seed, embedding_n=64, start=None, epochs=None):
    """Train image network and projection on pairs of an image and the features of its report.

    Parameters
    ----------
    images : (n, side, side) uint8
    rows : (m,) int
    features : (m, d) array or sparse matrix
        Of the report of each image.
    group : (m,) int
        Which reports say the same (`retrieval.duplicate_groups`).
    settings : short_training.ShortSettings
    seed, embedding_n : int
    start : torch.nn.Module, optional
        An image network whose weights are taken but for its last layer.
    epochs : int, optional

    Returns
    -------
    joint : JointEmbedding
    history : list of float
        Mean loss of each epoch.
    """
    network = short_training.new_network(settings, embedding_n, seed, start)
    joint = JointEmbedding(network, features.shape[1], embedding_n, seed)
    group = torch.as_tensor(np.asarray(group), device=batches.device())

    def loss(output, which):
        text = joint.project(_rows(features, which.cpu().numpy()))
        return info_nce(output, text, group[which], joint.scale())

    also = [joint.project, nn.ParameterList([joint.log_scale])]
    options = {"also": also, "tuned": start is not None, "epochs": epochs}
    return joint, short_training.learn(network, images, rows, loss, settings, seed, **options)
