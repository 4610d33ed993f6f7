"""Vectors of findings' names: of a language model, and the controls that tell whether their meaning matters."""

import numpy as np
import torch

from cxrlib.base import paths, vocabulary
from cxrlib.labelers import report_network

# One sentence a finding on what it looks like in a frontal radiograph; with the name, the longer of the two prompts.
DEFINITIONS = {
    "airspace_opacity": "a cloudy white area of lung in which air is replaced by fluid, pus or blood",
    "atelectasis": "collapsed lung tissue, a dense band or wedge with loss of volume",
    "cardiomegaly": "an enlarged heart, wider than half of the chest",
    "consolidation": "a dense white area of lung with air-filled bronchi visible in it",
    "edema": "fluid in both lungs, hazy around the hila, with thickened vessels and septal lines",
    "effusion": "fluid in the pleural space that blunts the angle above the diaphragm and layers at the base",
    "emphysema": "overinflated dark lungs with flat diaphragms and few vessels",
    "fibrosis": "scarred lung with coarse lines and loss of volume",
    "hernia": "stomach above the diaphragm, a round shadow with gas behind the heart",
    "infiltration": "an ill-defined hazy or streaky density in the lung",
    "mass": "a round solid spot in the lung, larger than three centimetres",
    "nodule": "a small round spot in the lung, up to three centimetres",
    "pleural_thickening": "a thick white rim along the chest wall or the apex",
    "pneumonia": "an infected area of lung, patchy and white",
    "pneumothorax": "air in the pleural space, a thin line at the lung's edge without vessels beyond it",
}
PROMPTS = ("name", "name and definition")
CONTROLS = ("shuffled", "random", "one-hot")

# Encoders by what an edition calls them: a file of vectors, where one is here, and the name on the hub.
_BIOBERT_FILE = "text/nih_findings_biobert.npy"  # of the 14 names, in the order of `vocabulary.NIH_FINDINGS`
_BIOBERT_HUB = "dmis-lab/biobert-large-cased-v1.1"


def name_vectors(findings, encoder="minilm", prompt="name"):
    """Return the vectors of findings' names, (f, d) float32, as the encoder gives them.

    Parameters
    ----------
    findings : sequence of str
        Of the vocabulary.
    encoder : str
        `minilm` (384 numbers, from a package, the mean over tokens); `biobert` (1,024 numbers: of the file
        `text/nih_findings_biobert.npy` in `$CXR_DATA` if it is there and has the names, else by transformers from the
        hub); or a folder, or another name of the hub.
    prompt : {"name", "name and definition"}

    Raises
    ------
    ValueError
        If a finding has no definition, the prompt is unknown, or the encoder is not to be had.
    """
    if prompt not in PROMPTS:
        raise ValueError(f"prompt {prompt!r} is none of {', '.join(PROMPTS)}.")
    if encoder == "biobert" and prompt == "name":
        stored = _stored_biobert(findings)
        if stored is not None:
            return stored
    missing = [finding for finding in findings if finding not in DEFINITIONS]
    if missing and prompt != "name":
        raise ValueError(f"{missing[0]!r} has no definition: add one to name_vectors.DEFINITIONS.")
    texts = [finding.replace("_", " ") for finding in findings]
    if prompt != "name":
        texts = [f"{text}: {DEFINITIONS[finding]}" for text, finding in zip(texts, findings, strict=True)]
    return _encoded(texts, _BIOBERT_HUB if encoder == "biobert" else encoder)


def _stored_biobert(findings):
    """Return BioBERT's vectors of the file in `$CXR_DATA`, or None if it is not here or lacks a name."""
    names = list(vocabulary.NIH_FINDINGS.values())
    try:
        path = paths.source_path(_BIOBERT_FILE)
    except FileNotFoundError:
        return None
    vectors = np.load(path)
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise ValueError(f"{path} is {vectors.shape}: it must have a row for each of the {len(names)} NIH findings.")
    known = set(findings) <= set(names)
    return np.float32(vectors[[names.index(finding) for finding in findings]]) if known else None


@torch.no_grad()
def _encoded(texts, encoder):
    """Return the mean token vector, or the first, of each text by an encoder, (n, d) float32."""
    network, tokenizer, pooling = report_network.load_encoder(encoder)
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    tokens = network.eval()(**ids).last_hidden_state
    if pooling == "first":
        return tokens[:, 0].numpy()
    weight = ids["attention_mask"].unsqueeze(-1).float()
    return ((tokens * weight).sum(1) / weight.sum(1)).numpy()


def space(vectors):
    """Return prototypes in a space of f numbers, (f, f) float32 of length 1, with the angles of centred vectors.

    What all names share is taken away, their mean, since vectors of short texts lie close together. The f centred
    vectors span f - 1 numbers at most; turning them into those changes no angle and no distance. In the last number
    every prototype is 0: along it an image gets farther from all of them alike.

    Parameters
    ----------
    vectors : (f, d) float

    Raises
    ------
    ValueError
        If two findings have the same vector, or one is the mean of all.
    """
    vectors = np.asarray(vectors, float)
    centred = vectors - vectors.mean(0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    if (length < 1e-8 * np.linalg.norm(vectors, axis=1).max()).any():
        raise ValueError(f"The vector of name {int(np.argmin(length))} is the mean of all: it says nothing.")
    unit = centred / length
    left, size, _ = np.linalg.svd(unit, full_matrices=False)
    out = np.zeros((len(unit), len(unit)))
    kept = size[: len(unit)] > 1e-8 * size[0]
    out[:, : kept.sum()] = (left * size)[:, kept]
    return np.float32(_fixed_signs(out))


def _fixed_signs(columns):
    """Return columns whose largest entry is positive: a singular vector's sign is the library's choice."""
    at = np.abs(columns).argmax(0)
    sign = np.sign(columns[at, np.arange(columns.shape[1])])
    return columns * np.where(sign == 0, 1, sign)


def control(kind, prototypes, seed):
    """Return prototypes that know nothing of the names, of the shape of the true ones.

    Parameters
    ----------
    kind : {"shuffled", "random", "one-hot"}
        Every name's prototype given to another finding, so that the geometry stays and the meaning goes; random
        directions; or one axis a finding, with no relation between findings at all.
    prototypes : (f, k) float32
    seed : int
    """
    rng, n = np.random.default_rng((seed, 41)), len(prototypes)
    if kind == "shuffled":
        order = np.arange(n)
        while n > 1 and (order == np.arange(n)).any():
            order = rng.permutation(n)
        return np.asarray(prototypes)[order]
    if kind == "random":
        return space(rng.normal(size=(n, max(64, 4 * n))))
    if kind == "one-hot":
        return space(np.eye(n))
    raise ValueError(f"control {kind!r} is none of {', '.join(CONTROLS)}.")
