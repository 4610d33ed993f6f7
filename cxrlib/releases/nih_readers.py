"""Radiologists' labels of some images of ChestX-ray14 by groups other than Google: Tang 2020, MGH's seven readers."""

import pandas as pd

from cxrlib.base import paths, tables
from cxrlib.releases import nih, owner_tables

_MGH_FINDINGS = {
    "atelectasis": "atelectasis",
    "cardiomegaly": "cardiomegaly",
    "pleural_effusion": "effusion",
    "pneumonia": "pneumonia",
    "pulmonary_edema": "edema",
}


def _tang(file):
    """Return labels, images and notes of one of Tang's lists: an image id and 1 (abnormal) or 0 (normal) a line."""
    path = owner_tables.find_labels(file)
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    for k, line in enumerate(lines, 1):
        if len(line) != 2 or line[1] not in ("0", "1"):
            raise ValueError(f"{file} line {k}: {' '.join(line)!r} is not an image id and 0 or 1.")
    rows = pd.DataFrame(lines, columns=["image_id", "abnormal"])
    abnormal = rows["abnormal"].astype("float32")
    table = owner_tables.release_table(
        rows["image_id"], pd.DataFrame({"abnormal": abnormal, "no_finding": 1 - abnormal})
    )
    images, notes = nih.nih_images(table["image_id"])
    notes.append(
        f"{len(table):,} images of NIH's official test list, {int(abnormal.sum())} of them abnormal; they were "
        "chosen, so that prevalence means nothing, and reports and radiologists agree more often than elsewhere."
    )
    return table, images, notes


def _mgh_platinum():
    """Return labels, images and notes of the release `mgh_platinum`."""
    parts = []
    for theirs, ours in _MGH_FINDINGS.items():
        file = f"mgh_platinum/platinum_lable_{theirs}.csv"
        raw = tables.read_csv(paths.third_party(file), ("PATH", "majority vote"))
        owner_tables.check_words(raw["majority vote"], ("0", "1"), file, "majority vote")
        parts.append(raw.set_index("PATH")["majority vote"].astype("float32").rename(ours))
    wide = pd.concat(parts, axis=1).sort_index().rename_axis("image_id").reset_index()
    table = owner_tables.release_table(wide["image_id"], wide.drop(columns="image_id"))
    images, notes = nih.nih_images(table["image_id"])
    each = ", ".join(f"{part.name} {len(part)}" for part in parts)
    notes.append(
        f"Most images were read for one finding ({each} images); what an image was not read for is not assessed. The "
        "owner's rows of CheXpert and MIMIC-CXR are left out."
    )
    return table, images, notes


# Release to the function that returns its labels, images and notes.
LOADERS = {
    "tang_attending": lambda: _tang("tang2020/test_attending_rad.txt"),
    "tang_radiologists": lambda: _tang("tang2020/test_rad_consensus_voted3.txt"),
    "mgh_platinum": _mgh_platinum,
}
