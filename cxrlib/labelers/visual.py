"""A report labeler that learned from the images: VisualCheXbert's design (Jain et al., CHIL 2021).

The encoder of `cxrlib.labelers.bert` with one logit a finding is trained to predict, from the report, the
probabilities that an image network gives the paired image. Then one logistic regression a finding, over all these
probabilities, is fitted to radiologists' labels of few images, and decides.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split

from cxrlib.labelers import report_network

_FOLDS_N = 5


@dataclass(frozen=True)
class Decisions:
    """A logistic regression a finding over the same features, and the score from which on each calls it present.

    Attributes
    ----------
    findings : tuple of str
    weights : (findings_n, k + 1) array
        Coefficients, then the intercept: scores are logits of a probability.
    thresholds : (findings_n,) array
        With the best F1 on the scores out of fold.
    held_out : (n, findings_n) array
        Scores of the images it was fitted on, each by regressions fitted without that image's patient.
    """

    findings: tuple
    weights: np.ndarray
    thresholds: np.ndarray
    held_out: np.ndarray

    def scores(self, x):
        """Return (n, findings_n) logits of features (n, k)."""
        return np.c_[x, np.ones(len(x))] @ self.weights.T

    def decide(self, scores, at_half=False):
        """Return labels 1 or 0, a column per finding, by the thresholds or at a probability of 0.5."""
        called = scores >= (0.0 if at_half else self.thresholds)
        return pd.DataFrame(called.astype(np.float32), columns=list(self.findings))


def decisions(x, labels, patient_id):
    """Fit one logistic regression a finding, over all features, to radiologists' labels of few images.

    The published one decides at a probability of 0.5, which calls almost nothing where a finding is rare; here the
    threshold is the one with the best F1 on scores out of fold (patients in five groups).

    Parameters
    ----------
    x : (n, k) array
    labels : pandas.DataFrame
        A row per image, a column per finding: 1, 0, NaN not assessed.
    patient_id : (n,) array

    Raises
    ------
    ValueError
        If a finding is never, or always, present on these images, or on those of any four groups of five.
    """
    x, patient = np.asarray(x, float), np.asarray(patient_id).astype(str)
    if not len(x) == len(labels) == len(patient):
        raise ValueError(f"{len(x)} reports, {len(labels)} rows of labels, {len(patient)} patients: one each.")
    if len(np.unique(patient)) < _FOLDS_N:
        raise ValueError(f"{len(np.unique(patient))} patients: thresholds are chosen on {_FOLDS_N} groups of them.")
    weights, thresholds, held_out = [], [], np.empty((len(x), labels.shape[1]))
    for k, finding in enumerate(labels):
        y = labels[finding].to_numpy(float)
        weights.append(_regression(x, y, finding))
        for inside, outside in GroupKFold(_FOLDS_N).split(x, groups=patient):
            row = _regression(x[inside], y[inside], finding)
            held_out[outside, k] = x[outside] @ row[:-1] + row[-1]
        there = ~np.isnan(y)
        thresholds.append(_best_threshold(y[there], held_out[there, k]))
    return Decisions(tuple(labels), np.array(weights), np.array(thresholds), held_out)


def _regression(x, y, finding):
    """Return coefficients and intercept (k + 1,), fitted on standardised features."""
    there = ~np.isnan(y)
    if len(np.unique(y[there])) < 2:
        raise ValueError(f"{finding} is on all or none of {there.sum()} images: add some with and without.")
    centre, spread = x[there].mean(0), x[there].std(0) + 1e-9
    model = LogisticRegression(max_iter=2000).fit((x[there] - centre) / spread, y[there])
    coefficients = model.coef_[0] / spread
    return np.r_[coefficients, model.intercept_[0] - centre @ coefficients]


def one_hot(labels):
    """Return a labeler's output as features (n, 3 * findings_n): present, absent, uncertain; blank is none."""
    values = labels.to_numpy(float)
    return np.concatenate([values == value for value in (1, 0, -1)], axis=1).astype(float)


def spread_out(probabilities, strength=2.0):
    """Return a teacher's probabilities with its logits standardised by finding and spread: what is taught.

    A teacher that hardly commits itself gives all images nearly the same probability, and a student that always says
    the mean is near the least loss. The order of the images stays; the level is lost, which the regressions of
    `decisions` set anew.

    Parameters
    ----------
    probabilities : pandas.DataFrame
        A row per training image, a column per finding.
    strength : float
        The standard deviation of the logits that come out.
    """
    z = logit(probabilities.clip(1e-6, 1 - 1e-6))
    return expit(strength * (z - z.mean()) / z.std(ddof=0).clip(lower=1e-9))


def from_words(texts, aims, other_texts):
    """Return what a ridge regression on a report's words makes of a teacher's outputs, for other reports.

    A student without a language model, trained in seconds: how far the words of a report, in runs of up to three,
    follow a teacher at all. The strength of the ridge is chosen by leave-one-out on the training reports.

    Parameters
    ----------
    texts : sequence of str
    aims : pandas.DataFrame
        A row per text, a column per finding: logits of the teacher, or any numbers.
    other_texts : sequence of str

    Returns
    -------
    pandas.DataFrame
        A row per other text, a column per finding.
    """
    words = CountVectorizer(ngram_range=(1, 3), min_df=3, binary=True)
    known = words.fit_transform(texts)
    other = words.transform(other_texts)
    said = {
        finding: RidgeCV(alphas=np.geomspace(1, 1e4, 9)).fit(known, aims[finding].to_numpy(float)).predict(other)
        for finding in aims
    }
    return pd.DataFrame(said)


class VisualLabeler:
    """Reports in, image-like labels out.

    Parameters
    ----------
    network : bert.ReportNetwork
        With one output a finding.
    tokenizer
    findings : sequence of str
    encoder : str
    weights : (findings_n, findings_n + 1) array
        Of the logistic regressions: a row a finding, coefficients of all logits, then intercept minus threshold.
    """

    name = "visual"

    def __init__(self, network, tokenizer, findings, encoder, weights=None):
        self.network, self.tokenizer, self.findings, self.encoder = network, tokenizer, tuple(findings), encoder
        self.weights = None if weights is None else np.asarray(weights, float)

    def probabilities(self, texts):
        """Return (n, findings_n) float64: what the report makes the image network's probabilities look like."""
        tokens = report_network.tokenize(self.tokenizer, texts)
        return expit(
            report_network.logits_of(self.network, tokens, pad=self.tokenizer.pad_token_id).astype(np.float64)
        )

    def fit_decisions(self, texts, labels, patient_id):
        """Fit the regressions that decide, over the logits of all probabilities; return the `Decisions`.

        Parameters
        ----------
        texts : sequence of str
        labels : pandas.DataFrame
            A row per text, a column per finding: 1, 0, NaN not assessed.
        patient_id : (n,) array

        Raises
        ------
        ValueError
            As `decisions`.
        """
        made = decisions(self.features(texts), labels[list(self.findings)], patient_id)
        self.weights = np.c_[made.weights[:, :-1], made.weights[:, -1] - made.thresholds]
        return made

    def features(self, texts):
        """Return the logits of the probabilities, (n, findings_n)."""
        p = np.clip(self.probabilities(list(texts)), 1e-6, 1 - 1e-6)
        return np.log(p / (1 - p))

    def read_many(self, texts):
        """Return labels of reports, 1 or 0, a column per finding."""
        if self.weights is None:
            raise ValueError("The visual labeler decides nothing before fit_decisions.")
        x = self.features(texts)
        score = np.c_[x, np.ones(len(x))] @ self.weights.T
        return pd.DataFrame((score >= 0).astype(np.float32), columns=list(self.findings))

    def save(self, folder):
        """Write `model.safetensors` and `labeler.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        report_network.save_network(self.network, folder / "model.safetensors")
        entry = {
            "findings": self.findings,
            "encoder": self.encoder,
            "pooling": self.network.pooling,
            "trained_layers": self.network.trained_layers,
            "weights": self.weights.tolist(),
        }
        (folder / "labeler.json").write_text(json.dumps(entry, indent=1) + "\n")

    @classmethod
    def load(cls, folder):
        """Return a labeler that `save` wrote."""
        folder = Path(folder)
        if not (folder / "labeler.json").exists():
            raise FileNotFoundError(f"{folder} holds no labeler (labeler.json): run `dvc repro visual`.")
        entry = report_network.read_entry(folder, {"weights": list})
        encoder, tokenizer = report_network.outline(entry["encoder"])
        network = report_network.ReportNetwork(
            encoder, len(entry["findings"]), entry["pooling"], entry["trained_layers"]
        )
        report_network.load_network(network, folder / "model.safetensors")
        return cls(network, tokenizer, entry["findings"], entry["encoder"], entry["weights"])


def _best_threshold(label, score):
    """Return the score from which on calling a finding present has the best F1."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(label[order] == 1)
    f1 = 2 * hits / (np.arange(1, len(label) + 1) + (label == 1).sum())
    last_of_tie = np.r_[np.diff(score[order]) != 0, True]
    return float(score[order][np.argmax(np.where(last_of_tie, f1, -1))])


def train(texts, probabilities, settings, encoder="minilm", trained_layers=None):
    """Return a visual labeler trained on reports and an image network's probabilities, and its losses.

    Parameters
    ----------
    texts : sequence of str
    probabilities : pandas.DataFrame
        A row per text, a column per finding, in [0, 1].
    settings : bert.Settings
    encoder : str
    trained_layers : int, optional
        See `bert.ReportNetwork`.
    """
    values = probabilities.to_numpy(float)
    if np.isnan(values).any() or (values < 0).any() or (values > 1).any():
        raise ValueError("probabilities lie in [0, 1], and every report needs one of each finding.")
    model, tokenizer, pooling = report_network.load_encoder(encoder)
    torch.manual_seed(settings.seed)
    network = report_network.ReportNetwork(model, values.shape[1], pooling, trained_layers)
    tokens = report_network.tokenize(tokenizer, texts)
    history = report_network.fit(network, tokens, values, report_network.soft_loss, settings, tokenizer.pad_token_id)
    return VisualLabeler(network, tokenizer, list(probabilities.columns), encoder), history
