"""Radiographs in a picture: parts that look photographic, and whether one of them is a known radiograph."""

import io
import warnings

import numpy as np
from PIL import Image
from scipy import ndimage

from cxrlib.cohorts import lookalikes

SIDE_PX = 32  # pixels: a part of a picture below this is a mark of a plot
_WHITE = 250  # brightness of a page, or more
_LEVELS_N = 48  # levels of brightness of a photographic part, more
_TEXTURE = (
    0.2  # share of it that is neither flat nor an edge, more; plots have a tenth at most, radiographs two thirds
)
_EDGE = 48  # levels within three pixels that are an edge
_COLOURED = 12  # levels between red, green and blue that are no grey
_TILES_N = 4  # rows and columns of radiographs without a gap that are looked at one by one, at most
_LONGER = 1.6  # how often a radiograph is as long as wide, at most
_NEAREST_N = 5  # known radiographs that are laid over each part
_PART_BITS, _TILE_BITS = (
    80,
    48,
)  # of 256 that differ, of a candidate, cropped or below a map: of a whole part, of a tile
_FINE_PX, _PATCHES_N, _MOVED_PX = 64, 4, 2  # of a thumbnail: its side, patches per side, and how far it is moved
_MIN_BELOW_MAP = 0.6  # median correlation of the patches' finest structure; two radiographs of a person reach 0.5


def _places(brightness):
    """Yield where the areas of a picture lie that are no page: on a white one, and on one of the commonest level."""
    commonest = int(np.bincount(brightness.ravel(), minlength=256).argmax())
    grounds = [brightness >= _WHITE]
    if commonest < _WHITE:
        grounds.append(brightness == commonest)
    for ground in grounds:
        if (~ground).sum() < SIDE_PX**2 / 2:
            continue
        filled = ndimage.binary_opening(~ground, np.ones((5, 5)))  # without lines and letters
        for place in ndimage.find_objects(ndimage.label(filled)[0]):
            if min(filled[place].shape) >= SIDE_PX and filled[place].mean() > 0.7:
                yield place


def _is_photographic(brightness):
    """Return whether a part of a picture has many levels that change from pixel to pixel, but by little."""
    share = np.bincount(brightness.ravel(), minlength=256) / brightness.size
    spread = ndimage.maximum_filter(brightness, 3) - ndimage.minimum_filter(brightness, 3)
    texture = ((spread > 0) & (spread < _EDGE)).mean()
    return (share > 0.0005).sum() > _LEVELS_N and share.max() < 0.6 and texture > _TEXTURE


def parts(picture):
    """Return the parts of a picture that look photographic, in whatever colour.

    Parameters
    ----------
    picture : PIL.Image.Image

    Returns
    -------
    list of (height, width, 3) uint8
        Plots have none, since their areas are of one colour each.
    """
    colours = picture.convert("RGBA").convert("RGB")
    brightness, pixels = np.asarray(colours.convert("L")), np.asarray(colours)
    places = {str(place): place for place in _places(brightness)}  # each once
    return [np.ascontiguousarray(pixels[place]) for place in places.values() if _is_photographic(brightness[place])]


def _tiles(height, width):
    """Yield where radiographs may lie that touch: in equal rows and columns, and in a square at either end."""
    for rows in range(1, _TILES_N + 1):
        for columns in range(1, _TILES_N + 1):
            tall, wide = height // rows, width // columns
            if rows * columns > 1 and min(tall, wide) >= SIDE_PX and 1 / _LONGER <= tall / wide <= _LONGER:
                for i in range(rows * columns):
                    top, left = i // columns * tall, i % columns * wide
                    yield np.s_[top : top + tall, left : left + wide]
    side = min(height, width)
    if max(height, width) > side * 1.2:
        yield from (np.s_[:side, :side], np.s_[height - side :, width - side :])


def _patches(pixels):
    """Return the finest structure of a thumbnail by patches and by how it is moved, (moves_n, patches_n, k) float."""
    image = Image.fromarray(pixels).resize((_FINE_PX, _FINE_PX), Image.Resampling.BOX)
    fine = np.asarray(image, np.float32)
    fine = fine - ndimage.gaussian_filter(fine, 1)
    side = (_FINE_PX - 2 * _PATCHES_N) // _PATCHES_N
    moves = range(_PATCHES_N - _MOVED_PX, _PATCHES_N + _MOVED_PX + 1)
    moved = np.stack([fine[y : y + side * _PATCHES_N, x : x + side * _PATCHES_N] for y in moves for x in moves])
    moved = moved.reshape(-1, _PATCHES_N, side, _PATCHES_N, side).swapaxes(2, 3).reshape(len(moved), -1, side * side)
    moved -= moved.mean(axis=2, keepdims=True)
    return moved / np.maximum(np.linalg.norm(moved, axis=2, keepdims=True), 1e-6)


def _below_map(seen, pixels):
    """Return how well a radiograph agrees with what is seen below a coloured map, up to 1.

    A map is smooth, so it leaves the finest structure of most patches as it was; where it does not, the median of the
    patches does without.
    """
    still = _patches(seen)[(2 * _MOVED_PX + 1) ** 2 // 2]
    return float(np.median((_patches(pixels) * still).sum(axis=2), axis=1).max())


def radiograph_number(part, hashes, pictures):
    """Return the number of the known radiograph that a part shows, in whole or in a tile, or None.

    Parameters
    ----------
    part : (height, width, 3) uint8
    hashes : (n, 32) uint8
        Difference hashes of the known radiographs.
    pictures : callable
        Of a row of `hashes` the pixels, (height, width) uint8.
    """
    bands = [np.asarray(Image.fromarray(part).convert("L"))]
    if np.quantile(np.ptp(part, axis=2), 0.95) > _COLOURED:
        bands += [part.min(axis=2), *np.moveaxis(part, 2, 0)]
    coloured = len(bands) > 1
    for tiles, bits in (([np.s_[:, :]], _PART_BITS), (list(_tiles(*part.shape[:2])), _TILE_BITS)):
        seen = [[np.ascontiguousarray(band[tile][:, ::way]) for band in bands] for tile in tiles for way in (1, -1)]
        probes = [(i, probe) for i, one in enumerate(seen) for probe in (*one[:2], lookalikes.inner(one[0]))]
        if not probes:
            continue
        hashed = np.stack([lookalikes.difference_hash(probe) for _, probe in probes])
        near = lookalikes.near_hashes(hashed, hashes, bits)
        near["seen"] = [probes[k][0] for k in near["first"]]
        near = near.sort_values("distance", kind="stable").drop_duplicates(["seen", "second"])
        for row in near.groupby("seen").head(_NEAREST_N).itertuples():
            one, pixels = seen[row.seen], pictures(row.second)
            if lookalikes.overlay_correlation(one[0], pixels) >= lookalikes.MIN_CORRELATION:
                return int(row.second)
            if coloured and max(_below_map(band, pixels) for band in one) >= _MIN_BELOW_MAP:
                return int(row.second)
    return None


def in_picture(content, known=None):
    """Return the kind and a description of every photographic part of a picture.

    Parameters
    ----------
    content : bytes
        Of a PNG, JPEG, GIF or DICOM file.
    known : disclosure.Known, optional

    Returns
    -------
    list of (str, str)
        `radiograph` where a part is one of the known radiographs, `picture` where it is photographic.
    """
    if content[128:132] == b"DICM":
        return [("DICOM file", "an image with its header")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content))
            picture.load()
    except Exception as error:  # on damaged files Pillow raises far more than OSError
        return [("unreadable picture", type(error).__name__)]
    found = []
    for part in parts(picture):
        height, width = part.shape[:2]
        row = None
        if known is not None and known.radiographs is not None:
            row = radiograph_number(part, known.radiographs, known.pictures)
        if row is None:
            found.append(("picture", f"{width} x {height} pixels of many levels"))
        else:
            found.append(("radiograph", f"{width} x {height} pixels, number {row} of those known"))
    return found
