"""Packing where workers are threads, and unfinished work that is damaged: what is kept is what was packed."""

import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from cxrlib.cohorts import image_source, packing

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
