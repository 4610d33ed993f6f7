"""Cohorts: images with one row each, from wherever they come, packed into a store.

A *source* says what there is and reads one image at a time: `simulated`, `nih`, `folder`,
`torchxrayvision`, chosen by `source` in `params.yaml`. `pack` turns any source into a store
(`cxrlib.store`), and everything that was not taken into a line of `rejected.csv` with the reason.
"""

import hashlib
import json
import mmap
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib import catalogue, images, labelsets, paths, progress, simulate
from cxrlib.store import BOX_COLUMNS, IMAGE_COLUMNS, PACKED_COLUMNS, open_store  # noqa: F401
from cxrlib.torchxrayvision_source import torchxrayvision

REJECTED_COLUMNS = ("image_id", "where", "reason")


class Picture(NamedTuple):
    """One image as a source reads it."""

    square: np.ndarray  # (size_px, size_px) uint8
    sha256: str  # of the source file, or of the pixels where there is no file
    source_height_px: int
    source_width_px: int
    scale: float  # packed pixels per source pixel
    left_px: int
    top_px: int
    masks: np.ndarray | None = None  # (size_px, size_px) uint16, bits as simulate.DRAWN


@dataclass
class Source:
    """What `pack` needs to know of where images come from.

    Attributes
    ----------
    table : pandas.DataFrame
        A row per image, `image_id` unique, `patient_id` never missing; other columns as known.
    read : Callable[[int], Picture]
        Read the image of row i; raises `images.UnreadableImageError`. Runs in worker processes.
    rejected : list of tuple
        `(image_id, where, reason)` of what was refused before any image was read.
    labels : pandas.DataFrame or None
        Labels that came with the images: `image_id` and one column per finding.
    boxes : pandas.DataFrame or None
        `image_id, finding, x0_frac, y0_frac, x1_frac, y1_frac`: fractions of the source's width and height.
    fingerprint : str
        Changes when the same row would be read differently.
    has_masks : bool
        Whether every picture carries masks.
    """

    table: pd.DataFrame
    read: Callable[[int], Picture]
    rejected: list = field(default_factory=list)
    labels: pd.DataFrame | None = None
    boxes: pd.DataFrame | None = None
    fingerprint: str = ""
    has_masks: bool = False


# --- sources -----------------------------------------------------------------------------------------------


def _read_painted(painter, rows, i):
    square, masks = painter.draw(rows[i], i)
    size = len(square)
    return Picture(square, hashlib.sha256(square.tobytes()).hexdigest(), size, size, 1.0, 0, 0, masks)


def simulated(*, size_px, hospital, images_n, seed):
    """Return a source of simulated radiographs (see `cxrlib.simulate`).

    Parameters
    ----------
    size_px : int
    hospital : str
        A key of `simulate.HOSPITALS`.
    images_n : int
    seed : int
    """
    if hospital not in simulate.HOSPITALS:
        raise ValueError(f"hospital {hospital!r} is not one of {', '.join(simulate.HOSPITALS)}.")
    site = simulate.HOSPITALS[hospital]
    table = simulate.admissions(site, images_n, np.random.default_rng(seed))
    painter = simulate.Painter(site, size_px, seed)
    simulate.lung_shapes(), simulate.vessel_trees()  # once, before workers fork
    labels = table[["image_id", *simulate.FINDINGS]].astype({name: "float32" for name in simulate.FINDINGS})
    return Source(
        table=table,
        read=partial(_read_painted, painter, table.to_dict("records")),
        labels=labels,
        fingerprint=f"simulated {hospital} {seed}",
        has_masks=True,
    )


def _read_file(files, size_px, i):
    content = Path(files[i]).read_bytes()
    image = images.decode(content, Path(files[i]).suffix)
    square, scale, left, top = images.fit(image, size_px)
    return Picture(square, hashlib.sha256(content).hexdigest(), image.height, image.width, scale, left, top)


def _stat(files):
    """Return a fingerprint of files by size and time, so that a changed file is packed anew."""
    digest = hashlib.sha256()
    for file in files:
        stat = os.stat(file)
        digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


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
    rejected = []
    files = sorted(p for sub in folder.glob("images*") for p in sub.rglob("*.png"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no images*/**/*.png: unpack the NIH archives into {folder}/images.")
    by_id = _unique(((p.name, p) for p in files), rejected, "the image file")
    entry = catalogue.read_nih_entries(folder)
    known = entry.drop_duplicates("image_id").set_index("image_id")
    duplicated = entry["image_id"][entry["image_id"].duplicated()]
    rejected += [(i, "Data_Entry_2017_v2020.csv", "the row occurs twice; the first is kept") for i in duplicated]
    for image_id in sorted(set(by_id) - set(known.index)):
        rejected.append((image_id, str(by_id[image_id]), "no row in Data_Entry_2017_v2020.csv"))
    for image_id in sorted(set(known.index) - set(by_id)):
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
    boxes = catalogue.read_nih_boxes(folder)
    return Source(
        table=table[[c for c in IMAGE_COLUMNS if c in table]],
        read=partial(_read_file, [str(by_id[i]) for i in ids], size_px),
        rejected=rejected,
        labels=table[["image_id", *labelsets.NIH_FINDINGS.values()]],
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
FOLDER_OPTIONAL = ("follow_up_number", "view", "sex", "age", "official_split")


def folder(*, size_px, folder, table):
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
    rows = labelsets.read_csv(csv, ("image_id", "patient_id"))
    known = [c for c in ("image_id", "patient_id", *FOLDER_OPTIONAL) if c in rows]
    for column in known:  # a space after a patient id would make two patients of one
        rows[column] = rows[column].str.strip().replace("", pd.NA)
    findings = [c for c in rows.columns if c not in known]
    labels = labelsets.check_label_columns(rows, findings, csv)
    rejected = []
    by_path, by_name = {}, {}
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        if images.is_image(file):
            by_path[file.relative_to(root).as_posix()] = file
            for name in (file.name, file.stem):
                by_name.setdefault(name, []).append(file)
        elif not file.samefile(csv):
            endings = ", ".join(images.SUFFIXES)
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
    columns = [c for c in IMAGE_COLUMNS if c in taken]
    return Source(
        table=_typed(taken[columns]),
        read=partial(_read_file, [str(w) for w in where], size_px),
        rejected=rejected,
        labels=labels.iloc[keep].reset_index(drop=True).assign(image_id=taken["image_id"]) if findings else None,
        fingerprint="folder " + _stat(where),
    )


SOURCES = {"simulated": simulated, "nih": nih, "folder": folder, "torchxrayvision": torchxrayvision}


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
    if name not in SOURCES:
        raise ValueError(f"source: {name!r} is none of {', '.join(SOURCES)}.")
    try:
        return SOURCES[name](**settings)
    except TypeError as error:
        raise ValueError(f"The settings of source {name!r} are not its arguments: {error}.") from None


# --- packing -----------------------------------------------------------------------------------------------

_work = {}  # set in the parent before workers fork: the source's read, memory maps, what is being read


def _stop_with_parent():
    """Let this worker end when the process that packs is killed, instead of waiting for it for ever."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _pack_one(i):
    try:
        picture = _work["read"](i)
    except (images.UnreadableImageError, OSError) as error:
        return {"row": i, "reason": str(error)}
    _work["images"][i] = picture.square
    if picture.masks is not None:
        _work["masks"][i] = picture.masks
    entry = picture._asdict()
    del entry["square"], entry["masks"]
    return {"row": i, **entry}


def _pack_some(rows):
    entries = []
    for i in rows:
        _work["reading"][i] = 1
        entries.append(_pack_one(i))
        _work["reading"][i] = 0
    return entries


def _packed(rows, workers):
    """Yield what `_pack_one` returns for each row, in any order, from worker processes."""
    some = max(1, min(16, len(rows) // (4 * workers)))
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(min(workers, len(rows)), mp_context=context, initializer=_stop_with_parent)
    try:
        futures = [pool.submit(_pack_some, rows[k : k + some]) for k in range(0, len(rows), some)]
        for future in as_completed(futures):
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_journal(path):
    """Return the finished rows of an interrupted pack; a last line cut short is dropped.

    What could not be read is tried again: its folder may not have been mounted.
    """
    done = {}
    if path.exists():
        for line in path.read_text().split("\n"):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "reason" not in entry:
                done[entry["row"]] = entry
    return done


def pack(source, out, work, *, size_px, workers=None):
    """Pack a source into a store, on all cores; an interrupted pack goes on where it stopped.

    Parameters
    ----------
    source : Source
    out : Path
        The store's folder; replaced.
    work : Path
        Where unfinished work is kept; emptied when done.
    size_px : int
    workers : int, optional
        Processes; by default one per core that this process may use.

    Returns
    -------
    pandas.DataFrame
        The table of rejected images, as written to `rejected.csv`.

    Raises
    ------
    ValueError
        If an image id is not unique, an age is no number, or no image can be read.
    RuntimeError
        If a worker process is killed; what was done until then is kept.
    """
    table = _typed(source.table.reset_index(drop=True))
    if table["image_id"].duplicated().any():
        raise ValueError(f"image_id {table['image_id'][table['image_id'].duplicated()].iloc[0]!r} is not unique.")
    n = len(table)
    workers = workers or len(os.sched_getaffinity(0))
    key = json.dumps(
        [source.fingerprint, size_px, n, hashlib.sha256("\n".join(table["image_id"]).encode()).hexdigest()]
    )
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "key.json").exists() or (work / "key.json").read_text() != key:
        shutil.rmtree(work)
        work.mkdir(parents=True)
        np.lib.format.open_memmap(work / "images.npy", "w+", np.uint8, (n, size_px, size_px)).flush()
        if source.has_masks:
            np.lib.format.open_memmap(work / "masks.npy", "w+", np.uint16, (n, size_px, size_px)).flush()
        (work / "key.json").write_text(key)
    done = _read_journal(work / "journal.jsonl")
    todo = [i for i in range(n) if i not in done]
    _work["read"] = source.read
    for name in ("images", "masks"):
        path = work / f"{name}.npy"
        _work[name] = np.load(path, mmap_mode="r+") if path.exists() else None
    _work["reading"] = mmap.mmap(-1, n)  # shared with the workers
    try:
        with open(work / "journal.jsonl", "a") as journal:
            for entry in progress.bar(_packed(todo, workers), total=len(todo), desc="pack") if todo else ():
                done[entry["row"]] = entry
                journal.write(json.dumps(entry) + "\n")
                journal.flush()
    except BrokenProcessPool:
        reading = [i for i in range(n) if _work["reading"][i]]
        names = " or ".join(f"{table['image_id'][i]} ({_place(source, i)})" for i in reading) or "no image"
        raise RuntimeError(
            f"A worker process was killed while it read {names}. If memory ran out, use fewer cores (for two, "
            "put `taskset -c 0,1` before the command); if it is the file, take it away. "
            f"{len(done)} of {n} images are done and kept: run it again."
        ) from None
    finally:
        _work.clear()
    return _finish(source, table, done, out, work)


def _place(source, i):
    """Return where the image of row i comes from: its file, if the source names files."""
    where = getattr(source.read, "args", [None])[0]
    return where[i] if isinstance(where, list) and isinstance(where[i], str) else f"row {i}"


def _finish(source, table, done, out, work):
    """Write the store from finished work."""
    rejected = list(source.rejected)
    good = [i for i in range(len(table)) if "reason" not in done[i]]
    for i in sorted(set(range(len(table))) - set(good)):
        rejected.append((table["image_id"][i], _place(source, i), done[i]["reason"]))
    if not good:
        raise ValueError(
            f"None of {len(table)} images could be read; the first: {_place(source, 0)}: {done[0]['reason']}."
        )
    final = work / "final"
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir()
    for name in ("images", "masks"):
        path = work / f"{name}.npy"
        if not path.exists():
            continue
        if len(good) == len(table):
            try:
                os.link(path, final / path.name)
            except OSError:  # network drives may have no hard links
                shutil.copyfile(path, final / path.name)
        else:  # close the gaps, in a copy: the work can still be taken up after an interruption here
            old = np.load(path, mmap_mode="r")
            new = np.lib.format.open_memmap(final / path.name, "w+", old.dtype, (len(good), *old.shape[1:]))
            for start in range(0, len(good), 1024):
                new[start : start + 1024] = old[good[start : start + 1024]]
            new.flush()
    packed = pd.DataFrame([done[i] for i in good])[list(PACKED_COLUMNS)]
    kept = table.loc[good].reset_index(drop=True)
    for column in IMAGE_COLUMNS:
        if column not in kept:
            kept[column] = pd.NA
    kept = _typed(kept)[[*IMAGE_COLUMNS, *(c for c in kept if c not in IMAGE_COLUMNS)]]
    index = pd.concat([kept, packed], axis=1)
    index.to_parquet(final / "images.parquet")
    _boxes(source, index, final).to_parquet(final / "boxes.parquet")
    labels = kept[["image_id"]] if source.labels is None else source.labels
    labels[labels["image_id"].isin(kept["image_id"])].reset_index(drop=True).to_parquet(final / "labels.parquet")
    rejected = pd.DataFrame(rejected, columns=list(REJECTED_COLUMNS))
    rejected.to_csv(final / "rejected.csv", index=False)
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(final, out)
    shutil.rmtree(work)
    return rejected


def _typed(table):
    """Return the table with one dtype per standard column, whatever the source gave."""
    table = table.copy()
    for column in table.columns.intersection(IMAGE_COLUMNS):
        kind = {"age": "Float64", "follow_up_number": "Int64"}.get(column, "string")
        values = table[column]
        if kind != "string":
            values = pd.to_numeric(values, errors="coerce").astype("Float64")
            wrong = values.isna() & table[column].notna()
            if kind == "Int64":
                wrong |= (values % 1 != 0).fillna(False)
            if wrong.any():
                row = table[wrong].iloc[0]
                number = "a whole number" if kind == "Int64" else "a number"
                raise ValueError(
                    f"{column} of image {row['image_id']} is {row[column]!r}: it must be {number} or empty."
                )
        table[column] = values.astype(kind)
    return table


def _boxes(source, index, final):
    """Return boxes in packed pixels."""
    if source.has_masks:
        masks = np.load(final / "masks.npy", mmap_mode="r")
        rows = index.to_dict("records")
        found = [
            {"image_id": r["image_id"], **box}
            for m, r in zip(masks, rows, strict=True)
            for box in simulate.boxes(m, r)
        ]
        return pd.DataFrame(found, columns=[*BOX_COLUMNS, "area_frac"])
    if source.boxes is None:
        return pd.DataFrame(columns=list(BOX_COLUMNS))
    placed = source.boxes.merge(index[["image_id", *PACKED_COLUMNS]], on="image_id")
    for axis, side, offset in (("x", "width", "left_px"), ("y", "height", "top_px")):
        inner = np.maximum(1, np.rint(placed[f"source_{side}_px"] * placed["scale"]))  # as `images.fit` rounds
        for end in (0, 1):
            placed[f"{axis}{end}_px"] = placed[f"{axis}{end}_frac"] * inner + placed[offset]
    return placed[list(BOX_COLUMNS)]
