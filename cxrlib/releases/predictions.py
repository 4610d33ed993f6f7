"""Predictions that others have published, of networks trained on NIH's report labels, on images of ChestX-ray14.

`read_predictions(name)` returns one network's probabilities of the 14 findings. `FIVE` are retrainings of CheXNet by
two groups on one split, tested on the same 22,433 images; they lie in `third_party/` of this repository. `SEEDS` are
five seeds of one DenseNet-121 of a third group on a split of its own (6,373 images), read where `$CXR_DATA` has them.
The images are those of each owner's test part, disjoint by patient from those that trained the network.
"""

import functools
import re

import numpy as np
import pandas as pd

from cxrlib.base import paths, vocabulary
from cxrlib.releases import owner_tables

# The owners' files of what lies in `third_party/`, in a folder laid out as `$CXR_DATA` (tools/pack_third_party.py)
OWNERS_FILES = {
    "zech": "predictions/chexnet.csv.gz",
    "haooyuee_25": "predictions/haooyuee_nih25.csv.gz",
    "haooyuee_25_decay": "predictions/haooyuee_nih25_lr033.csv.gz",
    "haooyuee_first": "predictions/haooyuee_preds.csv.gz",
    "haooyuee_test": "predictions/haooyuee_test1.csv.gz",
}

FIVE = tuple(OWNERS_FILES)
SEED_FILES = {
    f"seyyed_kalantari_{seed}": f"predictions/underdiagnosis_seed{seed}.csv.gz" for seed in (11, 37, 45, 62, 76)
}
SEEDS = tuple(SEED_FILES)
OPENI_FILE = "predictions/openi_chexnet.csv.gz"
NETWORKS = (*FIVE, *SEEDS)

_COLUMNS = [*vocabulary.NIH_FINDINGS.values()]


@functools.cache
def _five():
    return pd.read_parquet(paths.third_party("nih_predictions/probabilities.parquet")).set_index("image_id")


def read_predictions(name):
    """Return the probabilities that a published network gives to images of its own test part.

    Parameters
    ----------
    name : str
        Of `NETWORKS`.

    Returns
    -------
    pandas.DataFrame
        Indexed by `image_id`, sorted: the 14 findings of NIH, float64 in [0, 1] (of `FIVE` stored in half precision),
        and `no_finding` where the network has an output of that name.

    Raises
    ------
    ValueError
        If there is no such network, or its file is another than the published one.
    FileNotFoundError
        If its file is not here.
    """
    if name in FIVE:
        return _five()[[f"{name} {f}" for f in _COLUMNS]].set_axis(_COLUMNS, axis=1).astype(float)
    if name not in SEEDS:
        raise ValueError(f"There is no published network {name!r}; there are {', '.join(NETWORKS)}.")
    path = owner_tables.find_file(SEED_FILES[name])
    if path is None:
        raise FileNotFoundError(
            f"The predictions of {name} are not here: put {SEED_FILES[name]} below $CXR_DATA (`cxr fetch "
            "nih_networks` says where from)."
        )
    return _checked(pd.read_csv(path), path)


def read_openi_predictions():
    """Return what a CheXNet that was trained on NIH's report labels says of Open-i's frontal images.

    Returns
    -------
    pandas.DataFrame
        Indexed by the report, `CXRnnn`: the 14 findings of NIH, float64 in [0, 1], the highest of the report's
        frontal images where it has several.

    Raises
    ------
    FileNotFoundError, ValueError
        If its file is not here, or is another than the published one.
    """
    path = paths.source_path(OPENI_FILE)
    raw = pd.read_csv(path)
    missing = [column for column in ("uid", "projection", *vocabulary.NIH_FINDINGS) if column not in raw]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]}: it is not the published table.")
    frontal = raw[raw["projection"] == "Frontal"].rename(columns=vocabulary.NIH_FINDINGS)
    return frontal.groupby("CXR" + frontal["uid"].astype(str))[_COLUMNS].max().rename_axis("image_id").astype(float)


def _checked(raw, path):
    spelling = {f"prob_{theirs}": ours for theirs, ours in vocabulary.NIH_FINDINGS.items()}
    spelling |= {"prob_No Finding": "no_finding", "path": "image_id"}
    missing = [column for column in spelling if column not in raw]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]}: it is not the published table.")
    rows = raw[list(spelling)].rename(columns=spelling)
    strange = ~rows["image_id"].astype(str).map(lambda image: bool(re.fullmatch(r"\d{8}_\d{3}\.png", image)))
    if strange.any():
        at = int(np.flatnonzero(strange)[0])
        raise ValueError(f"{path} line {at + 2}: {rows['image_id'].iloc[at]!r} is no image id of ChestX-ray14.")
    rows = rows.set_index("image_id").sort_index().astype(float)
    if rows.index.has_duplicates or not rows.stack().between(0, 1).all():
        raise ValueError(f"{path} is not the published table: an image occurs twice, or a value is no probability.")
    return rows


def abnormal_score(scores):
    """Return a network's score for an abnormal image, (n,) float64 in [0, 1].

    One less its probability of `no_finding` where it has that output; else the probability of at least one of the 14
    findings, taken as independent, which ranks images and is no calibrated probability.

    Parameters
    ----------
    scores : pandas.DataFrame
        As `read_predictions` returns it.
    """
    if "no_finding" in scores:
        return (1 - scores["no_finding"]).to_numpy()
    return 1 - np.prod(1 - scores[_COLUMNS].to_numpy(), axis=1)


def of_finding(scores, finding):
    """Return a network's score for a finding of the vocabulary, (n,) float64 in [0, 1].

    `abnormal` is `abnormal_score`; of a finding that stands for several (`vocabulary.ANY_OF`) it is the highest of
    its parts, as the label is present if any part is.

    Raises
    ------
    ValueError
        If the network has no output for it.
    """
    if finding == "abnormal":
        return abnormal_score(scores)
    if finding in scores:
        return scores[finding].to_numpy()
    if finding not in vocabulary.ANY_OF:
        raise ValueError(f"No output of the network stands for {finding}; there are {', '.join(scores)}.")
    return scores[list(vocabulary.ANY_OF[finding])].max(axis=1).to_numpy()
