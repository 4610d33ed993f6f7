"""Targets: what one network learns, a label for each training and validation image."""

import numpy as np

from cxrlib.base import label_tables


def target_table(split, label_sets, findings, label_set, policy, same_images_as=()):
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
    rows = split[split["split"].isin(["train", "valid"])][["image_id", "split"]].reset_index(drop=True)
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
