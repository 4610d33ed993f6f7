"""Label files that come with CheXpert and MIMIC-CXR."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib.base import label_tables, paths, tables, vocabulary
from cxrlib.labels import report_labels
from cxrlib.releases import cards
from cxrlib.reports import image_reports

_CARDS = Path(__file__).with_name("shipped_cards.yaml")


def read_shipped_cards(path=_CARDS):
    """Return who wrote which label file that ships with its images: the cards of `shipped_cards.yaml`, checked.

    Raises
    ------
    ValueError
        In one sentence that names file and entry, if a card lacks a field or has an unknown one.
    """
    found = cards.read_entries(path)
    for name, card in found.items():
        cards.check_card(card, f"{path}, entry {name!r}: the card")
    return found


SHIPPED_BY = read_shipped_cards()


# MIMIC's radiologist calls lung opacity airspace opacity.
_SPELLING = {**vocabulary.CHEXPERT_FINDINGS, "Airspace Opacity": "lung_opacity"}


def shipped_file(store, path, by, metadata=None, blank="kept"):
    """Return a label file that comes with CheXpert or MIMIC-CXR, on the images of the cohort.

    Parameters
    ----------
    store : cohorts.Store
        Of torchxrayvision's `CheX_Dataset`, `CheXlocalize_Dataset` or `MIMIC_Dataset`.
    path : str
        `.csv` or `.csv.gz` with a column per finding in CheXpert's spelling (only `No Finding` may lack), 1, 0, -1 or
        blank, and `Path` (images, in whatever folder), `Study` (CheXpert's) or `study_id` (MIMIC's): every image of a
        study gets its labels.
    by : str
        Who wrote it, a key of `SHIPPED_BY`: the card.
    metadata : str, optional
        `mimic-cxr-2.0.0-metadata.csv.gz`, needed with `study_id`.
    blank : {"kept", "absent"}
        Whether a blank stays not assessed or counts as absent, as in CheXpert's own networks. -1 is always kept.

    Raises
    ------
    ValueError
        If there is no such `by`, a column is missing, a value is no label, an image or study occurs twice, or no
        image of the cohort is in the file.
    """
    if by not in SHIPPED_BY:
        raise ValueError(f"by: {by!r} is none of {', '.join(SHIPPED_BY)}.")
    csv = paths.source_path(path)
    rows = tables.read_csv(csv, ())
    spelling = {theirs: ours for theirs, ours in _SPELLING.items() if theirs in rows}
    missing = sorted(set(_SPELLING.values()) - set(spelling.values()) - {"no_finding"})
    if missing:
        raise ValueError(f"{csv} has no column for {', '.join(missing)}; it has {', '.join(rows.columns)}.")
    labels = rows[list(spelling)].rename(columns=spelling)
    labels = label_tables.check_label_columns(labels, list(labels), csv)
    keys, images = _keys(store, rows, csv, metadata)
    if keys.duplicated().any():
        at = int(np.flatnonzero(keys.duplicated())[0])
        raise ValueError(f"{csv} line {rows.index[at] + 2}: {keys.iloc[at]!r} occurs twice; keep one row.")
    table = images.merge(labels.assign(key=keys), on="key").drop(columns="key")
    if table.empty:
        raise ValueError(f"None of the {len(rows)} rows of {csv} is of an image of cohort {store.name!r}.")
    notes = [f"{len(store.index) - len(table)} of {len(store.index)} images of the cohort are not in {csv.name}."]
    notes.append(f"{int((~keys.isin(images['key'])).sum())} of its {len(rows)} rows are of no image of the cohort.")
    return report_labels.with_blanks(table, {**SHIPPED_BY[by], "notes": notes}, blank)


def _keys(store, rows, csv, metadata):
    """Return the key of each row of a shipped file, and `image_id, key` of the cohort's images."""
    ids = store.index["image_id"]
    if "Path" in rows:
        return image_reports.image_key(rows["Path"]), pd.DataFrame(
            {"image_id": ids, "key": image_reports.image_key(ids)}
        )
    if "Study" in rows:
        key = image_reports.image_key(ids).str.rpartition("/")[0]
        return image_reports.image_key(rows["Study"]), pd.DataFrame({"image_id": ids, "key": key})
    if "study_id" not in rows:
        raise ValueError(f"{csv} has no column Path, Study or study_id; it has {', '.join(rows.columns)}.")
    if metadata is None:
        raise ValueError(
            f"{csv} labels studies: name `metadata` (mimic-cxr-2.0.0-metadata.csv.gz), which has images."
        )
    studies = tables.read_csv(paths.source_path(metadata), ("dicom_id", "study_id"))
    images = pd.DataFrame({"image_id": ids}).merge(
        studies[["dicom_id", "study_id"]].drop_duplicates("dicom_id"), left_on="image_id", right_on="dicom_id"
    )
    return rows["study_id"], images[["image_id", "study_id"]].rename(columns={"study_id": "key"})
