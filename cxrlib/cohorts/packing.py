"""Packing: a source of images into a store, on all cores; an interrupted pack goes on where it stopped.

What was packed before from the same file is taken over. So that the store itself hangs on nothing but its images, a
record of how it was packed, and from which files, lies beside the folder of unfinished work.

Pixels go through a memory map, whose pages the system writes when it likes, and nothing forces the journal to the
disk either. So each of its lines has a CRC-32 of itself and one of the pixels of its row. After a power loss, or
where a bit turned, a row counts only if both agree. A store is on the disk before it is sealed.
"""

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import os
import pickle
import shutil
import sys
import uuid
import zlib
from functools import partial

import joblib
import numpy as np
import pandas as pd

from cxrlib.base import checksums, parallel, progress, records, whole_files
from cxrlib.cohorts import image_files, image_source, simulation, store

_KINDS = {"images": np.uint8, "masks": np.uint16}  # of the arrays of unfinished work, by their names

_packs: dict = {}  # what the workers of a call of `pack` need: those that were forked have it, others open it once


def _opened(work, read, before):
    """Return what workers need: how to read an image, what was packed before, and the arrays in `work`."""
    arrays = {name: work / f"{name}.npy" for name in ("images", "masks", "reading")}
    maps = {name: np.load(path, mmap_mode="r+") if path.exists() else None for name, path in arrays.items()}
    if before:
        before = {**before, "images": np.load(before["images"], mmap_mode="r")}
    return {"read": read, "before": before, **maps}


def _taken_over(pack, i):
    """Return what `_pack_one` returns if row i was packed before from the same bytes, else None."""
    before = pack["before"]
    if not before or before["row"][i] < 0:
        return None
    (entry,) = before["index"].iloc[[before["row"][i]]].to_dict("records")
    try:
        unchanged = records.sha256(before["files"][i]) == entry["sha256"]
    except OSError:  # or no file: torchxrayvision's names of rows
        unchanged = False
    if not unchanged:
        return None
    square = np.array(before["images"][before["row"][i]])
    pack["images"][i] = square
    return {"row": i, **entry, "crc": {"images": _crc("images", square)}, "taken_over": True}


def _crc(name, pixels):
    """Return the CRC-32 of pixels as they are in the array of that name."""
    return zlib.crc32(np.ascontiguousarray(pixels, _KINDS[name]))


def _pack_one(pack, i):
    try:
        if entry := _taken_over(pack, i):
            return entry
        picture = pack["read"](i)
    except (image_files.UnreadableImageError, OSError) as error:
        return {"row": i, "reason": str(error)}
    entry = picture._asdict()
    pixels = {"images": entry.pop("square"), "masks": entry.pop("masks")}
    crc = {}
    for name, array in pixels.items():
        if array is not None:
            pack[name][i] = array
            crc[name] = _crc(name, array)
    return {"row": i, **entry, "crc": crc}


def _needed(work, digest):
    """Return what the caller has written for workers that were not forked, if it is just that.

    Unpickling can execute anything. So the file's SHA-256 comes with the call, by the way that this function came.
    """
    content = (work / "needed.pickle").read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise RuntimeError(f"{work / 'needed.pickle'} is not what was written for this pack: run it again.")
    return pickle.loads(content)


def _pack_some(call, work, digest, rows):
    """Return what `_pack_one` returns for some rows, and the pixels by array and row that the caller is to write.

    A forked worker writes them itself. Any other may be on another host, and two hosts that write to one page of a
    file undo each other's writes on most file systems of networks.
    """
    pack, entries = _packs.get(call), []
    if pack is None:
        pack = _opened(work, *_needed(work, digest)) | {"elsewhere": True}
        _packs.clear()
        _packs[call] = pack
    if "elsewhere" in pack:  # the worker's threads share the rest, and each has pixels of its own
        pack = {**pack, "images": {}, "masks": {}}
    for i in rows:
        pack["reading"][i] = 1
        entries.append(_pack_one(pack, i))
        pack["reading"][i] = 0
    return entries, {name: pack[name] for name in ("images", "masks") if "elsewhere" in pack}


def _packed(source, before, work, rows, workers):
    """Yield what `_pack_one` returns for each row, in any order, from worker processes."""
    workers = max(1, min(workers, len(rows)))
    some = max(1, min(16, len(rows) // (4 * workers)))
    call = uuid.uuid4().hex
    digest = None
    if not parallel.forked():
        content = pickle.dumps((source.read, before))
        digest = hashlib.sha256(content).hexdigest()
        (work / "needed.pickle").write_bytes(content)
    pack = _packs[call] = _opened(work, source.read, before)
    parts = (rows[k : k + some] for k in range(0, len(rows), some))
    results = parallel.mapped(partial(_pack_some, call, work, digest), parts, workers, ordered=False)
    try:
        for entries, pixels in results:
            for name, by_row in pixels.items():
                for i, array in by_row.items():
                    pack[name][i] = array
            yield from entries
    finally:
        _packs.pop(call, None)


def source_files(source):
    """Return where the image of each row comes from, its file, or None if the source does not say so."""
    where = getattr(source.read, "args", [None])[0]
    return where if isinstance(where, list) and where and isinstance(where[0], str) else None


def _how(source, size_px):
    """Return what a packed image hangs on besides its file: its size, the code that reads it, the decoders."""
    code = inspect.getsource(image_files) + inspect.getsource(source.read.func)
    versions = [importlib.metadata.version(name) for name in ("numpy", "pillow", "pydicom")]
    return [size_px, hashlib.sha256(code.encode()).hexdigest(), *versions]


_HASHED = ("images.npy", "images.parquet")  # by which a store is known to be the one that was packed last


def _hashes(out):
    return [records.sha256(out / name) for name in _HASHED]


def _say(sentence):
    """Tell whoever watches, past the notebook: its page is the same whatever was packed before."""
    print(sentence, file=sys.__stderr__, flush=True)


def _before(source, table, out, record, how):
    """Return what may be taken over from `out`: where in it each image is, or -1; its file; index and pixels."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        before, hashes, places = told["how"], told["sha256"], dict(told["files"].items())
    except FileNotFoundError:  # never packed
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        _say(f"{record} is damaged: all images of {out} are packed anew.")
        return None
    if before != how or not out.exists():
        return None
    try:
        whole = hashes == _hashes(out)
    except OSError:
        whole = False
    if not whole:
        _say(f"{out} is not the cohort that was packed last: all its images are packed anew.")
        return None
    index = pd.read_parquet(out / "images.parquet")
    row = pd.Index(index["image_id"]).get_indexer(table["image_id"])
    files = source_files(source)
    row[[places.get(i) != file for i, file in zip(table["image_id"], files, strict=True)]] = -1
    return {"row": row, "files": files, "index": index[list(store.PACKED_COLUMNS)], "images": out / "images.npy"}


class _Done:
    """What is known of the rows that were packed, in arrays by column, since there may be a hundred thousand of them.

    Attributes
    ----------
    reasons : dict
        Of each row that could not be read, why.
    taken_over_n : int
    """

    def __init__(self, n):
        kinds = {"sha256": "S64", "scale": np.float64}
        self._columns = {name: np.zeros(n, kinds.get(name, np.int64)) for name in store.PACKED_COLUMNS}
        self._packed = np.zeros(n, bool)
        self.reasons, self.taken_over_n = {}, 0

    def __len__(self):
        return int(self._packed.sum()) + len(self.reasons)

    def add(self, entry):
        """Take what `_pack_one` returned."""
        row = entry["row"]
        if "reason" in entry:
            self.reasons[row] = entry["reason"]
            return
        for name, column in self._columns.items():
            column[row] = entry[name]
        self._packed[row] = True
        self.taken_over_n += "taken_over" in entry

    def rows(self):
        """Return the rows that were packed, in order."""
        return np.flatnonzero(self._packed)

    def left(self):
        """Return the rows that were not, as a list."""
        return np.flatnonzero(~self._packed).tolist()

    def table(self):
        """Return `PACKED_COLUMNS` of the rows that were packed."""
        found = {name: column[self._packed] for name, column in self._columns.items()}
        return pd.DataFrame({**found, "sha256": found["sha256"].astype("U64").astype(object)})


def _line(entry):
    """Return the line of the journal for what `_pack_one` returned: the CRC-32 of the rest, and JSON."""
    text = json.dumps(entry)
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


def _entry(line, n):
    """Return what `_line` was given, of a row of n; None if the line is cut short, damaged or of an older form."""
    told, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or told != b"%08x" % zlib.crc32(text[:-1]):
        return None
    try:
        entry = json.loads(text)
        whole = "reason" in entry or {"crc", *store.PACKED_COLUMNS} <= entry.keys()
        return entry if whole and 0 <= entry["row"] < n else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_journal(work, n):
    """Return the finished rows of an interrupted pack of n, as a `_Done`; the journal has their lines alone then.

    What could not be read is tried again: its folder may not have been mounted.
    """
    path, done, lines_n, images_n = work / "journal.jsonl", _Done(n), 0, 0
    if not path.exists():
        return done
    arrays = {name: np.load(file, mmap_mode="r") for name in _KINDS if (file := work / f"{name}.npy").exists()}
    with whole_files.replacing(path) as new, open(path, "rb") as lines, open(new, "wb") as kept:
        for line in lines:
            entry = _entry(line, n)
            if entry is None:
                lines_n += 1
            elif "reason" in entry:
                continue
            elif all(
                name in arrays and _crc(name, arrays[name][entry["row"]]) == crc for name, crc in entry["crc"].items()
            ):
                done.add(entry)
                kept.write(line)
            else:
                images_n += 1
    wrong = [f"{path} has lines that are cut short, damaged or of an older form ({lines_n})"] if lines_n else []
    wrong += [f"{work} has images that are not as they were packed ({images_n})"] if images_n else []
    if wrong:
        _say(f"{' and '.join(wrong)}: these rows are packed again.")
    return done


def _is_kept(work, key, shapes):
    """Return whether a folder has unfinished work of this key, with arrays that can be opened."""
    if not (work / "key.json").exists() or (work / "key.json").read_bytes() != key.encode():
        return False
    try:
        arrays = {name: np.load(work / f"{name}.npy", mmap_mode="r") for name in shapes}
        if all(array.shape == shapes[name] and array.dtype == _KINDS[name] for name, array in arrays.items()):
            return True
    except (FileNotFoundError, ValueError, EOFError, OverflowError, MemoryError):
        pass
    _say(f"An array in {work} is damaged: all images are packed again.")
    return False


def pack(source, out, work, *, size_px, workers=None):
    """Pack a source into a store, on all cores; an interrupted pack goes on where it stopped.

    If the store is there from an earlier pack, images whose file, code and size are the same as then are taken over
    without being decoded. The result is the same as without it.

    Parameters
    ----------
    source : Source
    out : Path
        The store's folder; replaced.
    work : Path
        Where unfinished work is kept; emptied when done. How the store was packed is kept beside it, as `.json`.
    size_px : int
    workers : int, optional
        Processes; by default one per core that this process may use. With 1, images are read in this process.

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
    workers = workers or max(2, joblib.effective_n_jobs())  # two: an image that kills its reader must not kill us
    how = _how(source, size_px) if source_files(source) else [size_px]
    ids = hashlib.sha256("\n".join(table["image_id"]).encode()).hexdigest()
    key = json.dumps([source.fingerprint, n, ids, *how])
    with whole_files.naming(work):
        work.mkdir(parents=True, exist_ok=True)
    if (work / "old").exists() and not out.exists():  # interrupted between the two
        os.replace(work / "old", out)
    shapes = dict.fromkeys(["images", "masks"] if source.has_masks else ["images"], (n, size_px, size_px))
    if not _is_kept(work, key, shapes):
        shutil.rmtree(work)
        work.mkdir(parents=True)
        for name, shape in shapes.items():
            _new_array(work / f"{name}.npy", _KINDS[name], shape)
        whole_files.write_text(work / "key.json", key)  # last: with it, the arrays are whole
    done = _read_journal(work, n)
    todo = done.left()
    record = work.with_name(f"{work.name}.json")
    before = _before(source, table, out, record, how) if todo and source_files(source) else None
    reading = _new_array(work / "reading.npy", bool, (n,))  # shared with the workers
    try:
        packed = contextlib.closing(_packed(source, before, work, todo, workers))
        with whole_files.naming(work), open(work / "journal.jsonl", "a") as journal, packed as entries:
            for entry in progress.bar(entries, total=len(todo), desc="pack"):
                done.add(entry)
                journal.write(_line(entry))
                journal.flush()
    except parallel.WorkerKilledError:
        names = " or ".join(f"{table['image_id'][i]} ({_place(source, i)})" for i in np.flatnonzero(reading))
        raise RuntimeError(
            f"A worker process was killed while it read {names or 'no image'}. If memory ran out, use fewer cores "
            "(for two, put `taskset -c 0,1` before the command); if it is the file, take it away. "
            f"{len(done)} of {n} images are done and kept: run it again."
        ) from None
    if before:
        _say(f"{done.taken_over_n} of {n} images are taken over from {out}.")
    with whole_files.naming(out):
        rejected = _finish(source, table, done, out, work)
    if source_files(source):
        files = dict(zip(table["image_id"], source_files(source), strict=True))
        told = checksums.sealed(out)
        hashes = [told[name]["sha256"] for name in _HASHED]
        whole_files.write_text(record, json.dumps({"how": how, "sha256": hashes, "files": files}))
    (work / "key.json").unlink()  # first: without it, what is left of the folder counts for nothing
    shutil.rmtree(work)
    return rejected


def _new_array(path, dtype, shape):
    """Return an array of zeros in a file, memory-mapped, whose header and place on the disk are written now.

    Otherwise a disk that is full kills whoever writes into the map (SIGBUS).
    """
    with whole_files.naming(path):
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            os.fsync(file.fileno())
    return array


def _to_disk(path):
    """Wait until a file, or the names in a folder, are on the disk, also what was written through a memory map."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if not path.is_dir():  # some network drives have no such call for folders
            raise whole_files.UnwrittenError(whole_files.not_written(path, error)) from None
    finally:
        os.close(number)


def _place(source, i):
    """Return where the image of row i comes from: its file, if the source names files."""
    places = source_files(source)
    return places[i] if places else f"row {i}"


def _finish(source, table, done, out, work):
    """Write the store from finished work."""
    rejected = list(source.rejected)
    good = done.rows()
    for i in done.left():
        rejected.append((table["image_id"][i], _place(source, i), done.reasons[i]))
    if not len(good):
        raise ValueError(
            f"None of {len(table)} images could be read; the first: {_place(source, 0)}: {done.reasons[0]}."
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
            new = _new_array(final / path.name, old.dtype, (len(good), *old.shape[1:]))
            for start in range(0, len(good), 1024):
                new[start : start + 1024] = old[good[start : start + 1024]]
            new.flush()
    packed = done.table()
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
    for path in sorted(final.iterdir()):
        _to_disk(path)
    checksums.seal(final)
    _to_disk(final)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():  # moved, not deleted: at no time is half a store there
        shutil.rmtree(work / "old", ignore_errors=True)
        os.replace(out, work / "old")
    os.replace(final, out)
    _to_disk(out.parent)
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
