"""Which of many images look alike: a difference hash finds candidates, and laying two images over each other decides.

Chest radiographs resemble each other so much that no hash alone keeps copies of one apart from radiographs of two
people (docs/methods.md has what was measured). So the threshold of the hash is loose, and whatever it lets through is
compared pixel by pixel.
"""

import functools

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

HASH_BITS = 256  # 16 rows of 16 differences
MAX_DISTANCE = 20  # differing bits of a candidate, of 256
MIN_CORRELATION = 0.96  # correlation of fine structure of two images that are taken for one

_CROP = 0.95  # the inner part that is compared as well, in case that the other image was cropped
_SIDE, _RIM, _SHIFT = 48, 6, 3  # pixels: of a thumbnail, around the part that is laid over, and how far it is moved
_ZOOMS = ((1.0, 1.0), (0.97, 1.0), (0.94, 1.0), (0.91, 1.0), (1.0, 0.97), (1.0, 0.94), (1.0, 0.91))
_BLOCK = 4096


def content(store, row):
    """Return the pixels of a packed image without the black that packing put around it, 2-D uint8.

    Parameters
    ----------
    store : cohorts.store.Store
    row : int
    """
    told = store.index
    left, top, scale = (told[name].iat[row] for name in ("left_px", "top_px", "scale"))
    width, height = (max(1, round(told[f"source_{side}_px"].iat[row] * scale)) for side in ("width", "height"))
    return np.asarray(store.images[row])[top : top + height, left : left + width]


def difference_hash(pixels):
    """Return whether grey rises from each of 16 x 17 cells to the next one on its right, (32,) uint8 of packed bits.

    Parameters
    ----------
    pixels : (height, width) uint8
        Stretched to a square first, so that the shape does not matter.
    """
    cells = np.asarray(Image.fromarray(pixels).resize((17, 16), Image.Resampling.BOX), np.int16)
    return np.packbits(cells[:, 1:] > cells[:, :-1])


def hashes(store, rows):
    """Return four hashes of each image: as it is, mirrored, of its inner part, inverted, (4, len(rows), 32) uint8.

    Parameters
    ----------
    store : cohorts.store.Store
    rows : (m,) int
    """
    out = np.empty((4, len(rows), HASH_BITS // 8), np.uint8)
    for i, row in enumerate(rows):
        pixels = content(store, row)
        out[0, i] = difference_hash(pixels)
        out[1, i] = difference_hash(changed(pixels, "mirrored"))
        out[2, i] = difference_hash(inner(pixels))
        out[3, i] = difference_hash(changed(pixels, "inverted"))
    return out


def changed(pixels, change):
    """Return an image as a copy may have it: unchanged, `mirrored`, or `inverted`, as MONOCHROME1 read for 2 is.

    Parameters
    ----------
    pixels : (height, width) uint8
    change : {"", "mirrored", "inverted"}
    """
    if change == "inverted":
        return 255 - pixels
    return np.ascontiguousarray(pixels[:, ::-1]) if change else pixels


def inner(pixels):
    """Return the inner 95 % of an image's sides, which is what a cropped copy of it resembles.

    Parameters
    ----------
    pixels : (height, width) uint8
    """
    rim = [round(side * (1 - _CROP) / 2) for side in pixels.shape]
    return np.ascontiguousarray(pixels[rim[0] : pixels.shape[0] - rim[0], rim[1] : pixels.shape[1] - rim[1]])


def _signs(packed):
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def near_hashes(first, second, max_distance=MAX_DISTANCE):
    """Return all pairs of hashes that differ in few bits, exactly, in memory that does not grow with the pairs.

    Every pair is looked at, as a product of matrices of signs: with thresholds as wide as radiographs need, bands of
    bits or a tree of distances leave out next to nothing, and take longer.

    Parameters
    ----------
    first, second : (n, 32), (m, 32) uint8
    max_distance : int
        Bits.

    Returns
    -------
    pandas.DataFrame
        `first, second` (rows), `distance` (bits).
    """
    least = HASH_BITS - 2 * max_distance
    found = []
    for j in range(0, len(second), _BLOCK):
        right = _signs(second[j : j + _BLOCK]).T
        for i in range(0, len(first), _BLOCK):
            agreement = _signs(first[i : i + _BLOCK]) @ right
            a, b = np.nonzero(agreement >= least)
            found.append(np.column_stack([a + i, b + j, (HASH_BITS - agreement[a, b]) / 2]))
    table = np.concatenate(found) if found else np.empty((0, 3))
    return pd.DataFrame(table.astype(int), columns=["first", "second", "distance"])


def _thumbnail(pixels, zoom):
    """Return the fine structure of an image's inner part, (48, 48) float32: grey less its surroundings."""
    image = Image.fromarray(pixels)
    rim = image.width * (1 - zoom) / 2, image.height * (1 - zoom) / 2
    box = (rim[0], rim[1], image.width - rim[0], image.height - rim[1])
    grey = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX, box=box), np.float32)
    return grey - ndimage.gaussian_filter(grey, 4)


def _best_match(one, other):
    """Return the best correlation of a thumbnail's inner part with another's, moved by up to 3 pixels."""
    part = one[_RIM:-_RIM, _RIM:-_RIM]
    part = (part - part.mean()).ravel()
    windows = np.lib.stride_tricks.sliding_window_view(other, (_SIDE - 2 * _RIM,) * 2)
    edge = _RIM - _SHIFT
    windows = windows[edge:-edge, edge:-edge].reshape(-1, part.size)
    spread = np.linalg.norm(windows - windows.mean(axis=1, keepdims=True), axis=1) * np.linalg.norm(part)
    return float((windows @ part / np.maximum(spread, 1e-6)).max())


def overlay_correlation(one, other):
    """Return how well two images can be laid over each other: the best correlation of fine structure, up to 1.

    One is moved by up to 6 % and enlarged by up to 10 %, so that a crop is recognised. Brightness and contrast do not
    matter.

    Parameters
    ----------
    one, other : (height, width) uint8
    """
    thumbs = [
        {zoom: _thumbnail(image, zoom) for zoom in {z[k] for z in _ZOOMS}} for k, image in enumerate((one, other))
    ]
    return max(_best_match(thumbs[0][a], thumbs[1][b]) for a, b in _ZOOMS)


def candidates(store, rows, other_store, other_rows, max_distance=MAX_DISTANCE):
    """Return pairs of images, one of each side, that a hash takes for copies, changed as `changed` says or cropped.

    Parameters
    ----------
    store, other_store : cohorts.store.Store
    rows, other_rows : (m,), (k,) int
    max_distance : int
        Bits, of 256.

    Returns
    -------
    pandas.DataFrame
        `first, second` (places in `rows` and `other_rows`), `distance` (bits), `change`.
    """
    mine, theirs = hashes(store, rows), hashes(other_store, other_rows)
    probes = [
        (mine[0], theirs[0], ""),
        (mine[1], theirs[0], "mirrored"),
        (mine[2], theirs[0], ""),
        (mine[0], theirs[2], ""),
        (mine[3], theirs[0], "inverted"),
    ]
    near = pd.concat([near_hashes(a, b, max_distance).assign(change=change) for a, b, change in probes])
    return near.sort_values("distance", kind="stable").drop_duplicates(["first", "second", "change"])


def near_duplicates(store, rows, other_store, other_rows, max_distance=MAX_DISTANCE, min_correlation=MIN_CORRELATION):
    """Return pairs of images, one of each side, that are copies of one image as far as pixels tell.

    Found are copies that were compressed again, resized, brightened, mirrored, inverted or cropped a little;
    docs/methods.md has how many of each.

    Parameters
    ----------
    store, other_store : cohorts.store.Store
        May be of different sizes.
    rows, other_rows : (m,), (k,) int
    max_distance : int
        Bits, of 256.
    min_correlation : float
        See `overlay_correlation`.

    Returns
    -------
    pandas.DataFrame
        `row, other_row, distance` (bits), `correlation`, `change`; the likeliest pair first.
    """
    near = candidates(store, rows, other_store, other_rows, max_distance)
    seen = functools.lru_cache(4096)(lambda side, k: content((store, other_store)[side], k))
    near["correlation"] = [
        overlay_correlation(changed(seen(0, rows[r.first]), r.change), seen(1, other_rows[r.second]))
        for r in near.itertuples(index=False)
    ]
    pairs = near[near["correlation"] >= min_correlation].sort_values("correlation", ascending=False, kind="stable")
    pairs = pairs.drop_duplicates(["first", "second"])
    named = {"row": np.asarray(rows)[pairs["first"]], "other_row": np.asarray(other_rows)[pairs["second"]]}
    return pairs.assign(**named)[["row", "other_row", "distance", "correlation", "change"]].reset_index(drop=True)
