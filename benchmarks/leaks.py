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
from PIL import Image, ImageEnhance
from sklearn.neighbors import BallTree

from cxrlib.base import paths
from cxrlib.cohorts import lookalikes, packing, sources, store

SIDE = 128  # pixels, packed
COPIES_N = 100
CHESTXRAY14_N = 112_120
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
    image.paste(255, (0, 0, image.width // 8, image.height // 16))
    return image


CHANGES = {
    "JPEG, quality 80": lambda image: jpeg(image, 80),
    "JPEG, quality 30": lambda image: jpeg(image, 30),
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR),
    "height shrunk by a fifth": lambda image: image.resize((image.width, image.height * 4 // 5)),
    "brightness + 25 %": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "brightness - 30 %": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast + 40 %": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "gamma 0.6": lambda image: image.point([round(255 * (k / 255) ** 0.6) for k in range(256)]),
    "noise of 4 grey levels": lambda image: noisy(image, 4),
    "noise of 8 grey levels": lambda image: noisy(image, 8),
    "cropped by 4 %": lambda image: cropped(image, 0.02, 0.02, 0.98, 0.98),
    "cropped by 6 %": lambda image: cropped(image, 0.03, 0.03, 0.97, 0.97),
    "cropped by 10 %": lambda image: cropped(image, 0.05, 0.05, 0.95, 0.95),
    "cropped by 5 % on one side": lambda image: cropped(image, 0.05, 0, 1, 1),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BILINEAR),
    "a white marker in a corner": marked,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def packed_real(folder):
    """Return all radiographs of `nih/images`, packed, and their files by row; exit saying what to set."""
    try:
        source = sources.open_source({"source": "nih", "folder": "nih", "size_px": SIDE})
    except FileNotFoundError:
        sys.exit("Set CXR_DATA to a folder that holds nih/images: NIH radiographs (docs/data.md).")
    packing.pack(source, folder / "store", folder / "work", size_px=SIDE)
    packed = store.open_store(folder / "store")
    files = dict(zip(source.table["image_id"], packing.source_files(source), strict=True))
    return packed, [files[image_id] for image_id in packed.index["image_id"]]


def as_packed(image):
    """Return a changed image at the size at which it would be packed."""
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.5))


def distance(one, other):
    """Return the distance that the search sees: the least over an image, its mirror image and the inner parts."""
    probes = [
        (one, other),
        (np.ascontiguousarray(one[:, ::-1]), other),
        (lookalikes.inner(one), other),
        (one, lookalikes.inner(other)),
    ]
    pairs = [[lookalikes.difference_hash(image) for image in pair] for pair in probes]
    return min(int(np.bitwise_count(a ^ b).sum()) for a, b in pairs)


def copies(packed, files):
    """Return by change how many of the copies are candidates, and how many are found."""
    rows = np.random.default_rng(1).choice(len(packed.index), COPIES_N, replace=False)
    table = []
    for name, change in CHANGES.items():
        seen = []
        for row in rows:
            one = lookalikes.content(packed, row)
            other = as_packed(change(Image.open(files[row]).convert("L")))
            near = distance(one, other) <= lookalikes.MAX_DISTANCE
            match = lookalikes.overlay_correlation(one, other, name == "mirrored")
            seen.append((near, near and match >= lookalikes.MIN_CORRELATION))
        near, found = np.mean(seen, axis=0)
        table.append({"change": name, "copies_n": COPIES_N, "candidates_frac": near, "found_frac": found})
    return pd.DataFrame(table)


def real_pairs(packed):
    """Return how many pairs of the radiographs at hand the hash lets through, and how many are found, by patient."""
    rows = np.arange(len(packed.index))
    patient = packed.index["patient_id"].to_numpy(object)
    hashes = lookalikes.hashes(packed, rows)[0]
    candidates = lookalikes.near_hashes(hashes, hashes)
    candidates = candidates[candidates["first"] < candidates["second"]]
    pairs, _ = lookalikes.near_duplicates(packed, rows, packed, rows)
    pairs = pairs[pairs["row"] < pairs["other_row"]]
    of_one = (patient[:, None] == patient[None]).sum() - len(rows)
    table = []
    for name, wanted, all_n in (("one patient", True, of_one // 2), ("two patients", False, None)):
        here = candidates[(patient[candidates["first"]] == patient[candidates["second"]]) == wanted]
        found = pairs[(patient[pairs["row"]] == patient[pairs["other_row"]]) == wanted]
        equal = sum(np.array_equal(packed.images[r.row], packed.images[r.other_row]) for r in found.itertuples())
        table.append(
            {
                "images of": name,
                "images_n": len(rows),
                "compared_n": all_n if all_n is not None else len(rows) * (len(rows) - 1) // 2 - of_one // 2,
                "candidates_n": len(here),
                "pairs_n": len(found),
                "equal_pixels_n": equal,
            }
        )
    return pd.DataFrame(table)


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
        packed, files = packed_real(Path(folder))
        for name, table in (
            ("copies", copies(packed, files)),
            ("real", real_pairs(packed)),
            ("scale", scale(packed)),
        ):
            table.round(4).to_csv(out / f"{name}.csv", index=False)
            print(table.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
