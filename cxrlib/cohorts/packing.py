"""Packing: a source of images into a store, on all cores; an interrupted pack goes on where it stopped."""

import hashlib
import json
import mmap
import multiprocessing
import os
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas as pd

from cxrlib.base import progress
from cxrlib.cohorts import image_files, image_source, simulation, store

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
    except (image_files.UnreadableImageError, OSError) as error:
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
    table = image_source.typed_columns(source.table.reset_index(drop=True))
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
    packed = pd.DataFrame([done[i] for i in good])[list(store.PACKED_COLUMNS)]
    kept = table.loc[good].reset_index(drop=True)
    for column in store.IMAGE_COLUMNS:
        if column not in kept:
            kept[column] = pd.NA
    kept = image_source.typed_columns(kept)[
        [*store.IMAGE_COLUMNS, *(c for c in kept if c not in store.IMAGE_COLUMNS)]
    ]
    index = pd.concat([kept, packed], axis=1)
    index.to_parquet(final / "images.parquet")
    _boxes(source, index, final).to_parquet(final / "boxes.parquet")
    labels = kept[["image_id"]] if source.labels is None else source.labels
    labels[labels["image_id"].isin(kept["image_id"])].reset_index(drop=True).to_parquet(final / "labels.parquet")
    rejected = pd.DataFrame(rejected, columns=list(image_source.REJECTED_COLUMNS))
    rejected.to_csv(final / "rejected.csv", index=False)
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(final, out)
    shutil.rmtree(work)
    return rejected


def _boxes(source, index, final):
    """Return boxes in packed pixels."""
    if source.has_masks:
        masks = np.load(final / "masks.npy", mmap_mode="r")
        rows = index.to_dict("records")
        found = [
            {"image_id": r["image_id"], **box}
            for m, r in zip(masks, rows, strict=True)
            for box in simulation.boxes(m, r)
        ]
        return pd.DataFrame(found, columns=[*store.BOX_COLUMNS, "area_frac"])
    if source.boxes is None:
        return pd.DataFrame(columns=list(store.BOX_COLUMNS))
    placed = source.boxes.merge(index[["image_id", *store.PACKED_COLUMNS]], on="image_id")
    for axis, side, offset in (("x", "width", "left_px"), ("y", "height", "top_px")):
        inner = np.maximum(1, np.rint(placed[f"source_{side}_px"] * placed["scale"]))  # as `images.fit` rounds
        for end in (0, 1):
            placed[f"{axis}{end}_px"] = placed[f"{axis}{end}_frac"] * inner + placed[offset]
    return placed[list(store.BOX_COLUMNS)]
