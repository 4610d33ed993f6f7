"""The released CheXbert checkpoint (Smit et al., EMNLP 2020), loaded and used."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split
from transformers import BertConfig, BertModel, BertTokenizerFast

from cxrlib.base import weight_files
from cxrlib.labelers import report_network

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
        tokens = report_network.tokenize(self.tokenizer, texts, 512)
        out = np.full((len(tokens), len(self.findings)), np.nan, np.float32)
        device = report_network.torch_device()
        self.network.to(device)
        for rows in report_network.batches_by_length(np.array([len(t) for t in tokens]), 32):
            ids, mask = report_network.padded([tokens[k] for k in rows], self.tokenizer.pad_token_id)
            heads = self.network(ids.to(device), mask.to(device))
            for k, head in enumerate(heads):  # the last has two classes: not mentioned, present
                out[rows, k] = np.asarray(report_network.CLASSES, np.float32)[head.argmax(-1).cpu().numpy()]
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
    stored = weight_files.read_torch(path, "name chexbert.pth, as CheXbert's authors give it out")
    state = stored.get("model_state_dict", stored)
    state = state if isinstance(state, dict) else {}
    state = {
        str(k).removeprefix("module."): v
        for k, v in state.items()
        if isinstance(v, torch.Tensor) and not str(k).endswith("position_ids")
    }
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
    wrong = [k for k, v in state.items() if k in wanted and v.is_floating_point() and not torch.isfinite(v).all()]
    if wrong:
        raise ValueError(f"{path}: the weights {wrong[0]!r} hold NaN or infinity: copy it from its authors again.")
    network.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)
    if tokenizer is None:
        tokenizer = BertTokenizerFast.from_pretrained(report_network.encoder_path("minilm"))
    return ChexbertLabeler(network, tokenizer)
