"""The metric space of study 5 in the explorer: where test images and the names of findings lie."""

import numpy as np
import pandas as pd

from cxrlib.base import paths
from cxrlib.site import explorer_files

_DECIMALS = 1000  # the published space is rounded to three decimals


def space_data(edition, image_ids):
    """Return the published metric spaces, one a training seed, as the page reads them.

    Parameters
    ----------
    edition : str
    image_ids : sequence of str
        Of the cohort's test images: the page finds pictures and reports by them.

    Returns
    -------
    dict
        `findings`; `spaces` by seed: `images` (n * d, thousandths, image after image), `prototypes` (f * d) and
        `flat` (d * 2), the two directions in which prototypes differ most; `dimensions_n`; `labels` by label set and
        finding; `nearest_table`, the study's answer on neighbours; `images_n, patients_n`.

    Raises
    ------
    FileNotFoundError
        If the scores are not here; the message says which target makes them.
    ValueError
        If they are of other images.
    """
    folder = paths.ROOT / "data" / "metric_scores" / edition
    images = pd.read_parquet(paths.to_read(folder / "images.parquet"))
    if images["image_id"].tolist() != list(image_ids):
        raise ValueError(
            f"metric_scores/images.parquet of edition {edition!r} is of other test images than the case table: run "
            f"`make repro EDITION={edition}` first."
        )
    table = pd.read_parquet(paths.to_read(folder / "space.parquet"))
    axes = sorted((c for c in table if c[0] == "x"), key=lambda c: int(c[1:]))
    spaces, findings = {}, None
    for seed, part in table.groupby("seed"):
        by_kind = {what: some.set_index("name")[axes] for what, some in part.groupby("what", observed=True)}
        prototypes, points = by_kind["prototype"], by_kind["image"].loc[images["image_id"]]
        findings = list(prototypes.index)
        turned = np.linalg.svd(prototypes - prototypes.mean(), full_matrices=False)[2][:2].T
        spaces[str(seed)] = {
            "images": explorer_files.packed(_thousandths(points), "i2"),
            "prototypes": explorer_files.packed(_thousandths(prototypes), "i2"),
            "flat": explorer_files.packed(np.float32(turned).ravel(), "f4"),
        }
    labels = {}
    for column in images.columns.drop(["image_id", "patient_id"]):
        label_set, finding = column.split(".")
        labels.setdefault(label_set, {})[finding] = explorer_files.packed_labels(images[column])
    nearest = pd.read_csv(paths.ROOT / "results" / edition / "metric" / "nearest.csv")
    nearest = nearest[nearest["near"] == "images"][["model", "images_n", "estimate", "low", "high"]]
    return {
        "findings": findings,
        "spaces": spaces,
        "dimensions_n": len(axes),
        "labels": labels,
        "nearest_table": nearest.to_dict("records"),
        "images_n": len(images),
        "patients_n": int(images["patient_id"].nunique()),
    }


def _thousandths(points):
    return np.rint(points.to_numpy(float) * _DECIMALS).astype(np.int64).ravel()
