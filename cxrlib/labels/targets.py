"""Targets: what one network learns, a label for each training and validation image."""

import numpy as np
import pandas as pd

from cxrlib.base import label_tables


def target_table(split, label_sets, findings, label_set, policy, same_images_as=(), thinned=None, without=()):
    """Return what one target trains on: a label for each training and validation image.

    Parameters
    ----------
    split : pandas.DataFrame
    label_sets : Mapping of str to pandas.DataFrame
        Indexed by `image_id`, values 1, 0, -1, NaN.
    findings : sequence of str
    label_set : str
        Whose labels are learned.
    policy : str
        What uncertain means (`labelsets.POLICIES`).
    same_images_as : sequence of str
        Only labels that these label sets assess too, under the same policy, are used, so that targets
        differ in labels alone.
    thinned : Mapping, optional
        `by, findings, imbalance, seed` of `long_tailed`: training images are left out so that some findings are rare.
    without : sequence of str
        Findings that no training or validation image has by this label set: a network that is trained on the target
        has not seen them. Images whose label is uncertain or missing are left out too.

    Returns
    -------
    pandas.DataFrame
        `image_id, split` and one float32 column per finding: 1, 0 or NaN. Images with NaN alone are
        left out.

    Raises
    ------
    ValueError
        If a label set does not assess a finding, or a part of the split has one class only.
    """
    findings = list(findings)
    for name in (label_set, *same_images_as):
        missing = [f for f in findings if f not in label_sets[name]]
        if missing:
            have = ", ".join(label_sets[name].columns)
            raise ValueError(f"label set {name!r} does not assess {missing[0]!r}; it has {have}.")
    rows = split[split["split"].isin(["train", "valid"])]
    if thinned:
        rows = rows[_kept(rows, label_sets, thinned)]
    for finding in without:
        if finding in findings:
            raise ValueError(f"{finding!r} stands in findings and in without: a target learns it or has none of it.")
        if finding not in label_sets[label_set]:
            have = ", ".join(label_sets[label_set].columns)
            raise ValueError(f"label set {label_set!r} does not assess {finding!r}, named in without; it has {have}.")
        rows = rows[(label_sets[label_set][finding].reindex(rows["image_id"]) == 0).to_numpy()]
    rows = rows[["image_id", "split"]].reset_index(drop=True)
    for finding in findings:
        values = label_tables.apply_policy(label_sets[label_set][finding].reindex(rows["image_id"]), policy)
        for name in same_images_as:
            theirs = label_tables.apply_policy(label_sets[name][finding].reindex(rows["image_id"]), policy)
            values[np.isnan(theirs)] = np.nan
        rows[finding] = values
    rows = rows.dropna(subset=findings, how="all").reset_index(drop=True)
    for finding in findings:
        for part in ("train", "valid"):
            values = rows[finding][rows["split"] == part].dropna()
            if values.nunique() < 2:
                raise ValueError(
                    f"target {finding} by {label_set}: the {part} part has {len(values)} labelled images of "
                    f"{values.nunique()} class; both classes are needed."
                )
    return rows


def _kept(rows, label_sets, thinned):
    """Return which rows of a split stay, (n,) bool: all that are no training images, and those of `long_tailed`."""
    options = dict(thinned)
    labels = label_sets[options.pop("by")]
    train = (rows["split"] == "train").to_numpy()
    keep = ~train
    present = labels[list(options["findings"])].reindex(rows["image_id"][train]) == 1
    keep[train] = long_tailed(present, rows["patient_id"][train], options["imbalance"], options["seed"])
    return keep


def long_tailed(present, patient_id, imbalance, seed):
    """Return which images stay so that findings become rare step by step, (n,) bool.

    As Cao et al. (NeurIPS 2019) thin the training part of CIFAR: with f findings in the order of how common they are,
    at most n_1 imbalance^(-k / (f - 1)) images of finding k stay, where n_1 is the number of the commonest one. An
    image has several findings, so fewer may stay. Test images are left alone: what is rare in training is common
    enough there to be scored.

    Parameters
    ----------
    present : (n, f) pandas.DataFrame of bool
    patient_id : (n,) array
        Images that stay are those of as few patients as reach the number, drawn at random.
    imbalance : float
        How many times rarer the rarest finding is to be than the commonest; 1 or more.
    seed : int
    """
    if imbalance < 1:
        raise ValueError(f"imbalance is {imbalance}: it is 1 or more.")
    patient = pd.factorize(np.asarray(patient_id, dtype=object))[0]
    rank = np.random.default_rng((seed, 47)).permutation(patient.max(initial=-1) + 1)[patient]
    counts = present.sum().sort_values(ascending=False, kind="stable")
    keep = np.ones(len(present), bool)
    for k in reversed(range(len(counts))):
        quota = round(counts.iloc[0] * imbalance ** (-k / max(len(counts) - 1, 1)))
        having = np.flatnonzero(present[counts.index[k]].to_numpy() & keep)
        keep[having[np.argsort(rank[having], kind="stable")][quota:]] = False
    return keep
