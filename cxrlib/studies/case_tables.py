"""Case tables: one row per validation or test image, with every label and every prediction side by side.

Columns: `image_id, patient_id, split, view, sex, age, follow_up_number`, attributes the cohort knows (such
as `chest_drain`), `patient_trained_on` (whether the training part has another image of the patient: only of the split
by image), `label.<label set>.<finding>` (1, 0, -1, missing) and `probability.<run>.<finding>`.
Everything that a study reports is computed from these tables.
"""

import numpy as np
import pandas as pd

from cxrlib.base import paths

CASE_ATTRIBUTES = ("view", "sex", "age", "follow_up_number")


def label(label_set, finding):
    """Return the name of a label column."""
    return f"label.{label_set}.{finding}"


def probability(run, finding):
    """Return the name of a prediction column."""
    return f"probability.{run}.{finding}"


def read(edition, cohort, split="main"):
    """Return the case table of a cohort, from `data/cases` or, in a clone without it, as it is published."""
    return pd.read_parquet(paths.to_read(paths.cases_path(edition, cohort, split)))


def assemble(index, split, label_sets, findings, attributes=()):
    """Return the validation and test images with their labels.

    Parameters
    ----------
    index : pandas.DataFrame
        A packed cohort's `images.parquet`.
    split : pandas.DataFrame
    label_sets : Mapping of str to pandas.DataFrame
        Indexed by `image_id`.
    findings : sequence of str
        Those a label set assesses get a column.
    attributes : sequence of str
        Further columns of the index to keep.
    """
    scored = split[split["split"].isin(["valid", "test"])][["image_id", "split"]]
    columns = ["image_id", "patient_id", *CASE_ATTRIBUTES, *attributes]
    table = scored.merge(index[columns], on="image_id", validate="one_to_one")
    if len(table) != len(scored):
        raise ValueError(f"{len(scored) - len(table)} images of the split are not in the cohort: split it again.")
    trained = split["patient_id"][split["split"] == "train"]
    table["patient_trained_on"] = table["patient_id"].isin(trained).to_numpy()
    for name, labels in label_sets.items():
        for finding in findings:
            if finding in labels:
                table[label(name, finding)] = labels[finding].reindex(table["image_id"]).to_numpy(np.float32)
    return table


def add_predictions(table, run, predictions):
    """Return the table with a run's probabilities.

    Parameters
    ----------
    table : pandas.DataFrame
    run : str
    predictions : pandas.DataFrame
        `image_id, finding, probability`.

    Raises
    ------
    ValueError
        If the run lacks an image of the table, or has one twice.
    """
    columns = {}
    for finding, part in predictions.groupby("finding"):
        if part["image_id"].duplicated().any():
            twice = part["image_id"][part["image_id"].duplicated()].iloc[0]
            raise ValueError(f"run {run}: image {twice!r} is predicted twice for {finding}.")
        values = part.set_index("image_id")["probability"].reindex(table["image_id"])
        if values.isna().any():
            raise ValueError(f"run {run}: no prediction of {finding} for image {values.index[values.isna()][0]!r}.")
        columns[probability(run, finding)] = values.to_numpy(np.float32)
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)  # at once: one block a run


def runs_in(table):
    """Return `(run, finding)` of every prediction column."""
    return [tuple(c.removeprefix("probability.").rsplit(".", 1)) for c in table if c.startswith("probability.")]
