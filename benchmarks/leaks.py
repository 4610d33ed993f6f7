"""Near-duplicates: how many altered copies of radiographs are found, and what the search costs at 112,120 images.

Writes `results/leaks/`: copies.csv (by change, how many copies are found), real.csv (pairs among all radiographs at
hand) and scale.csv (time and growth beside scikit-learn's BallTree). No id of an image is written.
"""

import io
import platform
import resource
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from scipy import stats
from sklearn.neighbors import BallTree

from cxrlib.base import paths
from cxrlib.cohorts import lookalikes, packing, sources, store

SIDE = 128  # pixels, packed
COPIES_N = 200
CHESTXRAY14_N = 112_120
TRAIN_N, TEST_N = 86_524, 25_596  # of the official lists
TEST_SHARE = 0.25  # of images; the official test list has 23 %


def jpeg(image, quality):
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("L")


def cropped(image, left, top, right, bottom):
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def noisy(image, sd):
    grey = np.asarray(image, float) + np.random.default_rng(0).normal(0, sd, (image.height, image.width))
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def marked(image):
    image = image.copy()
    image.paste(255, (0, 0, 30, 12))
    return image


def brighter(image):
    return Image.fromarray((np.asarray(image, float) + 40).clip(0, 255).astype(np.uint8))


def contrasted(image):
    return Image.fromarray(((np.asarray(image, float) - 128) * 1.4 + 128).clip(0, 255).astype(np.uint8))


def inner_part(fraction):
    return lambda image: cropped(image, fraction / 2, fraction / 2, 1 - fraction / 2, 1 - fraction / 2)


CHANGES = {
    "JPEG, quality 80": lambda image: jpeg(image, 80),
    "JPEG, quality 30": lambda image: jpeg(image, 30),
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR),
    "40 grey levels brighter": brighter,
    "contrast + 40 %": contrasted,
    "gamma 0.6": lambda image: image.point([round(255 * (k / 255) ** 0.6) for k in range(256)]),
    "noise of 8 grey levels": lambda image: noisy(image, 8),
    "cropped by 2 %": inner_part(0.02),
    "cropped by 4 %": inner_part(0.04),
    "cropped by 6 %": inner_part(0.06),
    "cropped by 10 %": inner_part(0.1),
    "cropped by 5 % on one side": lambda image: cropped(image, 0.05, 0, 1, 1),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BILINEAR),
    "a white marker in a corner": marked,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "inverted": ImageOps.invert,
}


def packed_real(folder):
    """Return all radiographs of `nih/images`, packed; exit saying what to set."""
    try:
        source = sources.open_source({"source": "nih", "folder": "nih", "size_px": SIDE})
    except FileNotFoundError:
        sys.exit("Set CXR_DATA to a folder that holds nih/images: NIH radiographs (docs/data.md).")
    packing.pack(source, folder / "store", folder / "work", size_px=SIDE)
    return store.open_store(folder / "store")


def distance(one, other):
    """Return the distance that the search sees: the least over an image, its mirror, negative and inner parts."""
    probes = [
        (one, other),
        (lookalikes.changed(one, "mirrored"), other),
        (lookalikes.changed(one, "inverted"), other),
        (lookalikes.inner(one), other),
        (one, lookalikes.inner(other)),
    ]
    pairs = [[lookalikes.difference_hash(image) for image in pair] for pair in probes]
    return min(int(np.bitwise_count(a ^ b).sum()) for a, b in pairs)


def copies(packed):
    """Return by change of a packed radiograph how many copies can be laid over it, and how many are found."""
    rows = np.random.default_rng(0).choice(len(packed.index), COPIES_N, replace=False)
    table = []
    for name, change in CHANGES.items():
        seen = []
        for row in rows:
            one = lookalikes.content(packed, row)
            other = np.asarray(change(Image.fromarray(one)))
            laid = lookalikes.changed(one, name if name in ("mirrored", "inverted") else "")
            match = lookalikes.overlay_correlation(laid, other) >= lookalikes.MIN_CORRELATION
            seen.append((match, match and distance(one, other) <= lookalikes.MAX_DISTANCE))
        match, found = np.mean(seen, axis=0)
        table.append({"change": name, "copies_n": COPIES_N, "laid over each other": match, "found": found})
    return pd.DataFrame(table)


def unordered(pairs, first, second):
    """Return the pairs of two different images, each once, whichever of the two came first."""
    return {frozenset(pair) for pair in zip(pairs[first], pairs[second], strict=True) if pair[0] != pair[1]}


def real_pairs(packed):
    """Return how many pairs of the radiographs at hand the hash lets through, and how many are found, by patient."""
    rows = np.arange(len(packed.index))
    patient = packed.index["patient_id"].to_numpy(object)
    let_through = unordered(lookalikes.candidates(packed, rows, packed, rows), "first", "second")
    found = unordered(lookalikes.near_duplicates(packed, rows, packed, rows), "row", "other_row")
    same = sum(patient[one] == patient[other] for one, other in found)
    compared_n = len(rows) * (len(rows) - 1) // 2
    false_n = len(found) - same
    highest = stats.beta.ppf(0.95, false_n + 1, compared_n - false_n)  # Clopper and Pearson, one-sided
    counts = {
        "images_n": len(rows),
        "compared_n": compared_n,
        "candidates_n": len(let_through),
        "pairs_n": len(found),
        "of one patient": same,
        "of two patients": false_n,
        "false alarms to be expected in ChestX-ray14, at most": round(highest * TRAIN_N * TEST_N),
    }
    return pd.DataFrame([counts])


def timed(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def scale(packed):
    """Return what hashing, searching and laying over cost at 1, 2 and 4 quarters of ChestX-ray14."""
    rng = np.random.default_rng(2)
    seconds, real = timed(lambda: lookalikes.hashes(packed, np.arange(len(packed.index)))[0])
    hash_ms = seconds / len(real) * 1000
    one, other = lookalikes.content(packed, 0), lookalikes.content(packed, 1)
    overlay_ms = timed(lambda: [lookalikes.overlay_correlation(one, other) for _ in range(50)])[0] / 50 * 1000
    table = []
    for part in (16, 4, 2, 1):
        n = CHESTXRAY14_N // part
        bits = real[rng.integers(0, len(real), n)] ^ np.packbits(rng.random((n, 256)) < 0.15, axis=1)
        test, train = bits[: int(n * TEST_SHARE)], bits[int(n * TEST_SHARE) :]
        ours, _ = timed(lambda: lookalikes.near_hashes(train, test))  # noqa: B023
        tree = np.nan
        if part == 16:
            unpacked = [np.unpackbits(one, axis=1) for one in (train, test)]
            limit = lookalikes.MAX_DISTANCE / lookalikes.HASH_BITS
            tree, _ = timed(lambda: BallTree(unpacked[0], metric="hamming").query_radius(unpacked[1], limit))  # noqa: B023
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        table.append(
            {"images_n": n, "test_n": len(test), "search_s": ours, "ball_tree_s": tree, "ratio": tree / ours}
            | {"hash_s": hash_ms * n / 1000, "overlay_ms": overlay_ms, "memory_gib": memory}
        )
        print(table[-1], flush=True)
    return pd.DataFrame(table).assign(
        cores=1, machine=platform.processor() or platform.machine(), date=str(date.today())
    )


def main():
    out = paths.results_dir("leaks")
    with tempfile.TemporaryDirectory() as folder:
        packed = packed_real(Path(folder))
        for name, table in (
            ("copies", copies(packed)),
            ("real", real_pairs(packed)),
            ("scale", scale(packed)),
        ):
            table.round(4).to_csv(out / f"{name}.csv", index=False)
            print(table.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
