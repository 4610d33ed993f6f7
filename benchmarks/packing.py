"""Packing on all cores against Pillow's bare decode rate; also what the other benchmarks share."""

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cxrlib.base import paths
from cxrlib.cohorts import packing, sources, store

CORES = len(os.sched_getaffinity(0))


def real_images():
    """Return the 48 NIH files at 1024 px, or exit saying what to set."""
    try:
        return sorted(paths.source_path("nih/images_1024").glob("*.png"))
    except FileNotFoundError:
        sys.exit("Set CXR_DATA to a folder that holds nih/images_1024: NIH radiographs as released, 1024 px PNG.")


def measure(contenders, rounds=3, seconds=2.0):
    """Return images/s of each contender in each round, after a warm-up of all.

    Parameters
    ----------
    contenders : Mapping of str to Callable[[], int]
        Each call does some work and returns how many images it took.
    rounds : int
        The contenders take turns in each.
    seconds : float
        A timing repeats the call until this has passed.

    Returns
    -------
    dict of str to (rounds,) ndarray
    """
    rates = {what: np.zeros(rounds) for what in contenders}
    for run in contenders.values():
        run()
    for i in range(rounds):
        for what, run in contenders.items():
            images_n, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds:
                images_n += run()
            rates[what][i] = images_n / elapsed
    return rates


def show(rates, ratios, meaning):
    """Print the table: medians over the rounds."""
    width = max(map(len, rates))
    print(f"{'what':{width}}  {'images/s':>10}  {'ratio':>8}")
    for what in rates:
        print(f"{what:{width}}  {np.median(rates[what]):>10,.1f}  {np.median(ratios[what]):>8,.2f}")
    print(f"ratio: {meaning}; medians of {len(rates[what])} rounds; {CORES} cores")


def nih_source(folder, size_px, copies=1):
    """Return a source of the real images, each under `copies` names in a folder laid out as the release."""
    files = real_images()
    entries = pd.read_csv(paths.torchxrayvision_data("Data_Entry_2017_v2020.csv.gz")).set_index("Image Index")
    table = pd.concat([entries.loc[[f.name for f in files]].rename(f"{k:02d}_{{}}".format) for k in range(copies)])
    (folder / "images").mkdir()
    for name, file in zip(table.index, files * copies, strict=True):
        (folder / "images" / name).symlink_to(file.resolve())
    table.to_csv(folder / "Data_Entry_2017_v2020.csv", index_label="Image Index")
    return sources.nih(size_px=size_px, folder=folder)


def packed_pixels(folder, size_px, images_n):
    """Pack the real images, repeat them to `images_n`, and return these memory-mapped as a store is."""
    packing.pack(nih_source(folder, size_px), folder / "store", folder / "work", size_px=size_px)
    pixels = store.open_store(folder / "store").images
    np.save(folder / "repeated.npy", pixels[np.arange(images_n) % len(pixels)])
    return np.load(folder / "repeated.npy", mmap_mode="r")


def decode(file):
    with Image.open(file) as image:
        image.load()


def main():
    with tempfile.TemporaryDirectory() as folder, multiprocessing.Pool(CORES) as pool:
        folder = Path(folder)
        source = nih_source(folder, 224, copies=20)
        files = sorted((folder / "images").iterdir())

        def pillow():
            return len([decode(file) for file in files])

        def pillow_pool():
            return len(pool.map(decode, files, chunksize=16))

        def pack():
            packing.pack(source, folder / "store", folder / "work", size_px=224)
            return len(files)

        rates = measure(
            {
                "Pillow open + load, 1 core, before": pillow,
                f"cohorts.pack to 224 px, {CORES} cores": pack,
                "Pillow open + load, 1 core, after": pillow,
                f"Pillow open + load, {CORES} processes": pillow_pool,
            }
        )
    before, _, after, _ = rates.values()
    ideal = CORES * (before + after) / 2
    show(rates, {what: r / ideal for what, r in rates.items()}, f"over {CORES} x Pillow on 1 core")


if __name__ == "__main__":
    main()
