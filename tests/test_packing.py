"""Packing where workers are threads, and unfinished work that is damaged: what is kept is what was packed."""

import hashlib
import json
import os
import pickle
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import checksums
from cxrlib.cohorts import image_source, packing, simulation

SIZE = 8
N = 12


def square(i):
    return np.random.default_rng(i).integers(1, 256, (SIZE, SIZE), np.uint8)  # nowhere black


def image(i):
    return image_source.PackedImage(square(i), f"{i:064x}", 40, 40, 0.2, 0, 0)


# --- threads of one worker -----------------------------------------------------------------------------------

_BOTH = threading.Barrier(2)


def in_step(i):
    """Read an image; two threads that do so at once wait for each other at every row."""
    _BOTH.wait(10)
    return image(i)


def test_two_threads_of_a_worker_each_return_the_pixels_of_their_own_rows(tmp_path, monkeypatch):
    """A worker that was not forked returns pixels to the caller, and Dask gives one some threads."""
    monkeypatch.setattr(packing, "_packs", {})
    packing._new_array(tmp_path / "reading.npy", bool, (6,))
    content = pickle.dumps((in_step, None))
    (tmp_path / "needed.pickle").write_bytes(content)
    some = partial(packing._pack_some, "call", tmp_path, hashlib.sha256(content).hexdigest())
    with ThreadPoolExecutor(2) as threads:
        for rows, (entries, pixels) in zip(parts := [[0, 1, 2], [3, 4, 5]], threads.map(some, parts), strict=True):
            assert [entry["row"] for entry in entries] == rows
            assert list(pixels["images"]) == rows and not pixels["masks"]
            assert all(np.array_equal(pixels["images"][i], square(i)) for i in rows)


# --- unfinished work that is damaged -------------------------------------------------------------------------


class Stop(Exception):
    pass


def pack(folder, stop=None):
    """Pack N images with masks into `folder/store`; return the rows that were read. At row `stop`, work ends."""
    rows = []

    def read(i):
        if i == stop:
            raise Stop
        rows.append(i)
        return image(i)._replace(masks=np.uint16(257) * square(i + N))

    ids = [f"i{k:02d}" for k in range(N)]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, **dict.fromkeys(simulation.DRAWN, 0)})
    source = image_source.ImageSource(table=table, read=read, has_masks=True)
    packing.pack(source, folder / "store", folder / "work", size_px=SIZE, workers=1)
    return rows


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "store").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert pack(folder) == list(range(N))
    return files(folder)


@pytest.fixture
def work(tmp_path):
    """Unfinished work: rows 0 to 8 are packed."""
    with pytest.raises(Stop):
        pack(tmp_path, stop=9)
    return tmp_path / "work"


def test_what_was_packed_is_not_read_again(work, undisturbed, capfd):
    assert pack(work.parent) == [9, 10, 11]
    assert files(work.parent) == undisturbed and not capfd.readouterr().err


@pytest.mark.parametrize("name", ["images", "masks"])
@pytest.mark.parametrize("lost", ["pages", "bit"])
def test_a_row_whose_pixels_are_not_those_that_were_packed_is_packed_again(work, undisturbed, capfd, name, lost):
    """After a power loss the journal may be on the disk, and pages of the arrays not."""
    array = np.load(work / f"{name}.npy", mmap_mode="r+")
    if lost == "pages":
        array[2:4] = 0
    else:
        array[2, 3, 4] ^= 1
    array.flush()
    again = [2, 3] if lost == "pages" else [2]
    assert pack(work.parent) == [*again, 9, 10, 11]
    assert files(work.parent) == undisturbed
    assert (
        f"{work} has images that are not as they were packed ({len(again)}): these rows are packed again."
        in capfd.readouterr().err
    )


def lines_of(work):
    return (work / "journal.jsonl").read_bytes().splitlines(keepends=True)


def told(entry):
    """Return a line of the journal with a checksum that is right."""
    text = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def bit_turned(line, after):
    """Turn the last bit of the first digit after some text: another number, and JSON as before."""
    at = next(k for k in range(line.index(after) + len(after), len(line)) if line[k : k + 1].isdigit())
    return line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]


DAMAGES = {
    "a bit in the row": lambda line: bit_turned(line, b'"row"'),
    "a bit in the scale": lambda line: bit_turned(line, b'"scale"'),
    "a bit in the margin": lambda line: bit_turned(line, b'"left_px"'),
    "a bit in the checksum": lambda line: bit_turned(line, b""),
    "no text": lambda line: line[:20] + b"\xff" + line[21:],
    "zeros": lambda line: b"\0" * (len(line) - 1) + b"\n",
    "an older form": lambda line: line.partition(b" ")[2],
    "a row beyond the last": lambda line: told({**json.loads(line[9:]), "row": N}),
    "a row before the first": lambda line: told({**json.loads(line[9:]), "row": -1}),
    "a column missing": lambda line: told({k: v for k, v in json.loads(line[9:]).items() if k != "scale"}),
    "no mapping": lambda line: told([1]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_line_of_the_journal_is_dropped_with_a_word_and_its_row_is_packed_again(
    work, undisturbed, capfd, damage
):
    lines = lines_of(work)
    (work / "journal.jsonl").write_bytes(b"".join([*lines[:5], damage(lines[5]), *lines[6:]]))
    assert pack(work.parent) == [5, 9, 10, 11]
    assert files(work.parent) == undisturbed
    expected = f"{work / 'journal.jsonl'} has lines that are cut short, damaged or of an older form (1): these rows"
    assert expected in capfd.readouterr().err


def test_a_line_that_follows_one_cut_short_is_kept(work, undisturbed):
    lines = lines_of(work)
    (work / "journal.jsonl").write_bytes(b"".join([*lines[:-1], lines[-1][:30]]))
    with pytest.raises(Stop):
        pack(work.parent, stop=9)  # row 8 is packed again
    assert len(lines_of(work)) == 9 and pack(work.parent) == [9, 10, 11]
    assert files(work.parent) == undisturbed


@pytest.mark.parametrize("name", ["images", "masks"])
@pytest.mark.parametrize("damage", ["absent", "empty", "short", "header", "zeros"])
def test_an_array_of_unfinished_work_that_cannot_be_opened_is_made_anew(work, undisturbed, capfd, name, damage):
    file = work / f"{name}.npy"
    content = file.read_bytes()
    file.unlink()
    if damage != "absent":
        short = {"empty": b"", "short": content[:-1], "header": content[:70] + b"?" + content[71:]}
        file.write_bytes(short.get(damage, bytes(len(content))))
    assert pack(work.parent) == list(range(N))
    assert files(work.parent) == undisturbed and f"An array in {work} is damaged" in capfd.readouterr().err


def test_a_key_that_is_no_text_discards_old_work(work, undisturbed):
    (work / "key.json").write_bytes(b"\xff" + (work / "key.json").read_bytes())
    assert pack(work.parent) == list(range(N)) and files(work.parent) == undisturbed


def test_all_of_a_store_is_on_the_disk_before_it_is_sealed(tmp_path, monkeypatch):
    """What was written through a memory map too: else the checksums are of bytes that a power loss takes."""
    order, fsync, seal = [], os.fsync, checksums.seal

    def noted(number):
        order.append(Path(os.readlink(f"/proc/self/fd/{number}")))
        fsync(number)

    monkeypatch.setattr(packing.os, "fsync", noted)
    monkeypatch.setattr(packing.checksums, "seal", lambda folder: (order.append("sealed"), seal(folder)))
    pack(tmp_path)
    final = tmp_path / "work" / "final"
    before = order[: order.index("sealed")]
    whole = {final / name for name in files(tmp_path) if name != checksums.NAME}
    assert final / "images.npy" in whole <= set(before[before.index(final / "boxes.parquet") :])
    assert order.index("sealed") < order.index(final) < order.index(tmp_path)


# --- the record of how a store was packed --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b"3", b"{}", b'{"how": [8], "sha256": []}', b'{"how": [8], "sha256": [], "files": 3}', b"\xff"],
)
def test_a_record_that_does_not_say_how_a_store_was_packed_counts_for_nothing(tmp_path, capfd, text):
    (tmp_path / "work.json").write_bytes(text)
    table = pd.DataFrame({"image_id": ["a"]})
    assert packing._before(None, table, tmp_path, tmp_path / "work.json", [8]) is None
    assert f"{tmp_path / 'work.json'} is damaged: all images of {tmp_path} are packed anew." in capfd.readouterr().err


def test_a_store_without_a_record_is_packed_without_a_word(tmp_path, capfd):
    assert packing._before(None, None, tmp_path, tmp_path / "work.json", [8]) is None
    assert not capfd.readouterr().err
