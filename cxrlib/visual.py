"""A report labeler that learned from the images: VisualCheXbert's design (Jain et al., CHIL 2021).

The encoder of `cxrlib.bert` with one logit a finding is trained to predict, from the report, the probabilities that
an image network gives the paired image. Then one logistic regression a finding, over all these probabilities, is
fitted to radiologists' labels of few images, and decides.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from cxrlib import bert

# isort: split
from transformers import AutoConfig, AutoModel, AutoTokenizer


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
        Of the logistic regressions: a row a finding, coefficients of all logits, then minus the threshold.
    """

    name = "visual"

    def __init__(self, network, tokenizer, findings, encoder, weights=None):
        self.network, self.tokenizer, self.findings, self.encoder = network, tokenizer, tuple(findings), encoder
        self.weights = None if weights is None else np.asarray(weights, float)

    def probabilities(self, texts):
        """Return (n, findings_n) float64: what the report makes the image network's probabilities look like."""
        tokens = bert.tokenize(self.tokenizer, texts)
        return expit(bert.logits_of(self.network, tokens, pad=self.tokenizer.pad_token_id).astype(np.float64))

    def fit_decisions(self, texts, labels):
        """Fit one logistic regression a finding, over the logits of all probabilities, to radiologists' labels.

        The published one decides at a probability of 0.5, which calls almost nothing where a finding is rare; here
        the threshold is the one with the best F1 on these same images.

        Parameters
        ----------
        texts : sequence of str
        labels : pandas.DataFrame
            A row per text, a column per finding: 1, 0, NaN not assessed.

        Raises
        ------
        ValueError
            If a finding is never, or always, present on these images.
        """
        x = self._features(texts)
        rows = []
        for finding in self.findings:
            y = labels[finding].to_numpy(float)
            there = ~np.isnan(y)
            if len(np.unique(y[there])) < 2:
                raise ValueError(f"{finding} is on all or none of {there.sum()} images: add some with and without.")
            centre, spread = x[there].mean(0), x[there].std(0) + 1e-9
            model = LogisticRegression(max_iter=2000).fit((x[there] - centre) / spread, y[there])
            weights = model.coef_[0] / spread
            score = x[there] @ weights
            rows.append([*weights, -_best_threshold(y[there], score)])
        self.weights = np.array(rows)

    def _features(self, texts):
        """Return the logits of the probabilities, (n, findings_n)."""
        p = np.clip(self.probabilities(list(texts)), 1e-6, 1 - 1e-6)
        return np.log(p / (1 - p))

    def read_many(self, texts):
        """Return labels of reports, 1 or 0, a column per finding."""
        if self.weights is None:
            raise ValueError("The visual labeler decides nothing before fit_decisions.")
        x = self._features(texts)
        score = np.c_[x, np.ones(len(x))] @ self.weights.T
        return pd.DataFrame((score >= 0).astype(np.float32), columns=list(self.findings))

    def save(self, folder):
        """Write `model.safetensors` and `labeler.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        bert.save_network(self.network, folder / "model.safetensors")
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
        entry = json.loads((folder / "labeler.json").read_text())
        path = bert.encoder_path(entry["encoder"])
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(path))
        network = bert.ReportNetwork(encoder, len(entry["findings"]), entry["pooling"], entry["trained_layers"])
        bert.load_network(network, folder / "model.safetensors")
        tokenizer = AutoTokenizer.from_pretrained(path)
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
    model, tokenizer, pooling = bert.load_encoder(encoder)
    torch.manual_seed(settings.seed)
    network = bert.ReportNetwork(model, values.shape[1], pooling, trained_layers)
    tokens = bert.tokenize(tokenizer, texts)
    history = bert.fit(network, tokens, values, bert.soft_loss, settings, tokenizer.pad_token_id)
    return VisualLabeler(network, tokenizer, list(probabilities.columns), encoder), history
