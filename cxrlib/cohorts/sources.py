"""Cohorts: images with one row each, from wherever they come, packed into a store.

A *source* says what there is and reads one image at a time: `simulated`, `nih`, `folder`, `archive`,
`torchxrayvision`, chosen by `source` in `params.yaml`. `pack` turns any source into a store
(`cxrlib.cohorts.store`), and everything that was not taken into a line of `rejected.csv` with the reason.
"""

import hashlib
import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib.base import bounded, label_tables, paths, tables, vocabulary
from cxrlib.cohorts import image_files, image_source, simulation, store, torchxrayvision_source
from cxrlib.releases.nih import read_nih_boxes, read_nih_entries


def _read_painted(painter, rows, i):
    square, masks = painter.draw(rows[i], i)
    size = len(square)
    return image_source.PackedImage(
        square, hashlib.sha256(square.tobytes()).hexdigest(), size, size, 1.0, 0, 0, masks
    )


def simulated(*, size_px, hospital, images_n, seed):
    """Return a source of simulated radiographs (see `cxrlib.cohorts.simulation`).

    Parameters
    ----------
    size_px : int
    hospital : str
        A key of `simulate.HOSPITALS`.
    images_n : int
    seed : int
    """
    if hospital not in simulation.HOSPITALS:
        raise ValueError(f"hospital {hospital!r} is not one of {', '.join(simulation.HOSPITALS)}.")
    site = simulation.HOSPITALS[hospital]
    table = simulation.admissions(site, images_n, np.random.default_rng(seed))
    painter = simulation.Painter(site, size_px, seed)
    simulation.lung_shapes(), simulation.vessel_trees()  # once, before workers fork
    labels = table[["image_id", *simulation.SIMULATED_FINDINGS]].astype(
        {name: "float32" for name in simulation.SIMULATED_FINDINGS}
    )
    return image_source.ImageSource(
        table=table,
        read=partial(_read_painted, painter, table.to_dict("records")),
        labels=labels,
        fingerprint=f"simulated {hospital} {seed}",
        has_masks=True,
    )


def _read_file(files, size_px, i, suffix=None):
    content = image_files.read_bytes(Path(files[i]))
    image = image_files.decode(content, Path(files[i]).suffix if suffix is None else suffix)
    square, scale, left, top = image_files.fit(image, size_px)
    return image_source.PackedImage(
        square, hashlib.sha256(content).hexdigest(), image.height, image.width, scale, left, top
    )


def _stat(files):
    """Return a fingerprint of files by size and time, so that a changed file is packed anew."""
    digest = hashlib.sha256()
    for file in files:
        stat = os.stat(file)
        digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _refused(hindered):
    """Return lines of `rejected.csv` of paths that cannot be read, each with its reason."""
    return [(tables.as_text(Path(path.name)), tables.as_text(path), reason) for path, reason in hindered]


def _unique(found, rejected, what):
    """Return the entries whose key occurs once; of the others the first stays and the rest are listed."""
    kept = {}
    for key, value in found:
        if key in kept:
            rejected.append((key, str(value), f"{what} occurs twice; kept: {kept[key]}"))
        else:
            kept[key] = value
    return kept


def nih(*, size_px, folder, images_n=None):
    """Return a source for a folder laid out as the ChestX-ray14 release.

    `images*/**/*.png` in any size; `Data_Entry_2017_v2020.csv` (else the copy in torchxrayvision);
    `train_val_list.txt` and `test_list.txt` (without them there is no official split);
    `BBox_List_2017.csv` (else torchxrayvision's copy; coordinates in 1024 x 1024 pixels).

    With `images_n`, a folder that holds another number of images is refused: an edition is of its images.

    112,120 images of 30,805 patients when whole. Wang et al., CVPR 2017. Free use; credit the NIH
    Clinical Center and link its download page.
    """
    folder = paths.source_path(folder)
    there = sorted(p for sub in folder.glob("images*") for p in sub.rglob("*.png"))
    if not there:
        raise FileNotFoundError(f"{folder} holds no images*/**/*.png: unpack the NIH archives into {folder}/images.")
    reasons = {p: bounded.name_hindrance(p) or bounded.hindrance(p) for p in there}
    files = [p for p in there if reasons[p] is None]
    hindered = {p: reason for p, reason in reasons.items() if reason is not None}
    rejected = _refused(hindered.items())
    by_id = _unique(((p.name, p) for p in files), rejected, "the image file")
    entry = read_nih_entries(folder)
    known = entry.drop_duplicates("image_id").set_index("image_id")
    duplicated = entry["image_id"][entry["image_id"].duplicated()]
    rejected += [(i, "Data_Entry_2017_v2020.csv", "the row occurs twice; the first is kept") for i in duplicated]
    for image_id in sorted(set(by_id) - set(known.index)):
        rejected.append((image_id, str(by_id[image_id]), "no row in Data_Entry_2017_v2020.csv"))
    for image_id in sorted(set(known.index) - set(by_id) - {p.name for p in hindered}):
        rejected.append((image_id, "Data_Entry_2017_v2020.csv", "a row without an image file"))
    ids = sorted(set(by_id) & set(known.index))
    if not ids:
        raise ValueError(f"No image in {folder} has a row in Data_Entry_2017_v2020.csv: are these NIH file names?")
    if images_n is not None and len(ids) != images_n:
        raise ValueError(
            f"{folder} holds {len(ids)} images with a row; this edition is of {images_n} (docs/data.md)."
        )
    table = known.loc[ids].reset_index()
    table["official_split"] = _official_split(folder, ids)
    boxes = read_nih_boxes(folder)
    return image_source.ImageSource(
        table=table[[c for c in store.IMAGE_COLUMNS if c in table]],
        read=partial(_read_file, [str(by_id[i]) for i in ids], size_px),
        rejected=rejected,
        labels=table[["image_id", *vocabulary.NIH_FINDINGS.values()]],
        boxes=boxes[boxes["image_id"].isin(ids)],
        fingerprint="nih " + _stat([by_id[i] for i in ids]),
    )


def _official_split(folder, ids):
    """Return train_val / test / NA for each id from the release's two lists."""
    where = {}
    for name, split in (("train_val_list.txt", "train_val"), ("test_list.txt", "test")):
        if (folder / name).exists():
            for line in (folder / name).read_text().split():
                if where.setdefault(line, split) != split:
                    raise ValueError(f"{line} is in both train_val_list.txt and test_list.txt of {folder}.")
    return pd.array([where.get(i, pd.NA) for i in ids], dtype="string")


# What a hospital's own column names may be, besides ours.
_FOLDER_OPTIONAL = ("follow_up_number", "view", "sex", "age", "official_split")


def own_folder(*, size_px, folder, table):
    """Return a source for anyone's own images: a folder and a CSV.

    Parameters
    ----------
    size_px : int
    folder : str
        Searched below for PNG, JPEG and DICOM files.
    table : str
        A CSV with a header, UTF-8, comma-separated: `image_id` (the file's name, with or without its
        ending, or its path below the folder) and `patient_id` (any text; needed so that no patient is
        in two splits); optional `view, sex, age, follow_up_number, official_split`; and a column per
        finding that is labelled, named as in the vocabulary: 1, 0, -1, or empty for not assessed.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder, the table or a needed column is missing, a column is not in the vocabulary, or a
        label is none of 1, 0, -1 and empty. Single images and rows that cannot be used do not raise:
        they are rejected, one line each.
    """
    root, csv = paths.source_path(folder), paths.source_path(table)
    rows = tables.read_csv(csv, ("image_id", "patient_id"))
    known = [c for c in ("image_id", "patient_id", *_FOLDER_OPTIONAL) if c in rows]
    for column in known:  # a space after a patient id would make two patients of one
        rows[column] = rows[column].str.strip().replace("", pd.NA)
    findings = [c for c in rows.columns if c not in known]
    labels = label_tables.check_label_columns(rows, findings, csv)
    files, hindered = bounded.files_below(root)
    rejected = _refused(hindered)
    by_path, by_name = {}, {}
    for file in files:
        if image_files.is_image(file):
            by_path[file.relative_to(root).as_posix()] = file
            for name in (file.name, file.stem):
                by_name.setdefault(name, []).append(file)
        elif not file.samefile(csv):
            endings = ", ".join(image_files.SUFFIXES)
            rejected.append((file.name, str(file), f"not an image file (the ending is none of {endings})"))
    meant = [
        [] if pd.isna(i) else [by_path[i]] if i in by_path else list(dict.fromkeys(by_name.get(i, [])))
        for i in rows["image_id"]
    ]
    named = Counter(found[0] for found in meant if len(found) == 1)
    keep, where = [], []
    for i, (image_id, patient_id) in enumerate(zip(rows["image_id"], rows["patient_id"], strict=True)):
        reason = None
        if pd.isna(image_id):
            reason = "the image id is missing"
        elif not meant[i]:
            reason = f"no image file of this name below {root}"
        elif len(meant[i]) > 1:
            names = ", ".join(c.relative_to(root).as_posix() for c in meant[i][:3])
            reason = f"several files have this name ({names}): give the path"
        elif named[meant[i][0]] > 1:
            reason = "several rows are of this image; none of them is taken"
        elif pd.isna(patient_id):
            reason = "the patient id is missing, so its patient could be in two splits"
        if reason is None:
            keep.append(i)
            where.append(meant[i][0])
        else:
            rejected.append(("" if pd.isna(image_id) else image_id, f"{csv.name} line {rows.index[i] + 2}", reason))
    mentioned = {file for found in meant for file in found}
    rejected += [(f.stem, str(f), f"no row in {csv.name}") for f in by_path.values() if f not in mentioned]
    if not keep:
        first = f"; the first: {rejected[0][1]}: {rejected[0][2]}" if rejected else ""
        raise ValueError(
            f"None of the {len(rows)} rows of {csv} has an image below {root} that can be used: image_id must be "
            f"a file name there{first}."
        )
    taken = rows.iloc[keep].reset_index(drop=True)
    columns = [c for c in store.IMAGE_COLUMNS if c in taken]
    return image_source.ImageSource(
        table=image_source.typed_columns(taken[columns]),
        read=partial(_read_file, [str(w) for w in where], size_px),
        rejected=rejected,
        labels=labels.iloc[keep].reset_index(drop=True).assign(image_id=taken["image_id"]) if findings else None,
        fingerprint="folder " + _stat(where),
    )


def archive_folder(*, size_px, folder):
    """Return a source for a hospital's export: every DICOM image of a folder, with what its header says.

    Parameters
    ----------
    size_px : int
    folder : str
        Searched below. What is no DICOM file, such as a report, is not this source's business and not listed. An
        image's id is its SOP instance UID, by which notebook 15 finds it again.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is missing, or no image in it can be used. Single images do not raise: an image whose patient
        is unknown, of which there are two, or that is none, is rejected with a line.
    """
    root = paths.source_path(folder)
    files, hindered = bounded.files_below(root)
    kept, rejected = {}, _refused(hindered)
    for file in filter(image_files.is_dicom, files):
        row, reason = image_files.dicom_header(file)
        image_id = row.get("image_id")
        if reason is None and row["patient_id"] is None:
            reason = "the header has no patient id, so its patient could be in two splits"
        elif reason is None and image_id in kept:
            reason = f"an image of this SOP instance UID is there: {kept[image_id][0]}"
        if reason is None:
            kept[image_id] = file, row
        else:
            rejected.append((image_id or file.stem, str(file), reason))
    if not kept:
        first = f"; the first: {rejected[0][1]}: {rejected[0][2]}" if rejected else ""
        raise ValueError(f"No DICOM image below {root} can be used{first}.")
    files = [file for file, _ in kept.values()]
    return image_source.ImageSource(
        table=image_source.typed_columns(pd.DataFrame([row for _, row in kept.values()])),
        read=partial(_read_file, [str(file) for file in files], size_px, suffix=".dcm"),  # whatever their names
        rejected=rejected,
        fingerprint="archive " + _stat(files),
    )


IMAGE_SOURCES = {
    "simulated": simulated,
    "nih": nih,
    "folder": own_folder,
    "archive": archive_folder,
    "torchxrayvision": torchxrayvision_source.torchxrayvision,
}


def open_source(settings):
    """Return the source that a cohort's settings in `params.yaml` name.

    Parameters
    ----------
    settings : Mapping
        `source` names one of `SOURCES`; the rest are its arguments.
    """
    settings = dict(settings)
    name = settings.pop("source", None)
    for name_of_pixels in ("pixels", "official_part"):  # whose pixels these are is for splits.check_external
        settings.pop(name_of_pixels, None)
    if name not in IMAGE_SOURCES:
        raise ValueError(f"source: {name!r} is none of {', '.join(IMAGE_SOURCES)}.")
    try:
        return IMAGE_SOURCES[name](**settings)
    except TypeError as error:
        raise ValueError(f"The settings of source {name!r} are not its arguments: {error}.") from None
