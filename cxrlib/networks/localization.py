"""Is the map right: saliency maps scored against boxes and masks, beside chance and the accuracies published in 2017.

Boxes are `x0, y0, x1, y1` in pixels of the map, float, end exclusive; masks are bool. Every score is the same for a
map and for the map times a positive number.
"""

import io
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import ndimage

from cxrlib.cohorts import simulation

BOX = ["x0_px", "y0_px", "x1_px", "y1_px"]


THRESHOLDS = (60 / 255, 180 / 255)


_TIE = 1e-6  # maxima that differ by less, relatively, differ by rounding alone


IOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


IOBB_THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)


def _box(box, shape):
    """Return a box clipped to the map, x0, y0, x1, y1 as floats; raise ValueError if nothing of it is left."""
    try:
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError):
        raise ValueError(f"Box {box!r} is not four numbers: give x0, y0, x1, y1 in pixels of the map.") from None
    text = f"Box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if not np.isfinite([x0, y0, x1, y1]).all():
        raise ValueError(f"{text} has coordinates that are not numbers: leave out findings that cannot be seen.")
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"{text} has no area: boxes are x0, y0, x1, y1 and not x, y, width, height.")
    height, width = shape
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"{text} lies outside the map of {width} x {height} px (across, down).")
    return x0, y0, x1, y1


def _along(low, high, pixels_n):
    """Return the share of each of a line of pixels inside [low, high), (..., pixels_n) float64."""
    at = np.arange(pixels_n)
    low, high = np.asarray(low, float)[..., None], np.asarray(high, float)[..., None]
    return np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, 1)


def coverage(box, shape):
    """Return the share of each pixel that lies inside a box, exactly.

    Parameters
    ----------
    box : (4,) float
        What lies outside the map is cut off.
    shape : (int, int)
        Height and width of the map, in pixels.

    Returns
    -------
    (height, width) float64 in [0, 1]

    Raises
    ------
    ValueError
        If the box has no area, lies wholly outside the map, or has coordinates that are not finite.
    """
    x0, y0, x1, y1 = _box(box, shape)
    return np.outer(_along(y0, y1, shape[0]), _along(x0, x1, shape[1]))


def region(box, shape):
    """Return the pixels that a box covers by more than half, bool; if none, those that it covers most."""
    share = coverage(box, shape)
    return share > 0.5 if (share > 0.5).any() else share >= share.max()


def _checked(map_, inside=None):
    """Return a map as float64 (h, w); raise ValueError if it is none or does not fit a region."""
    map_ = np.asarray(map_, np.float64)
    if map_.ndim != 2 or not np.isfinite(map_).all() or (map_ < 0).any():
        raise ValueError(f"A map of shape {map_.shape} is not (h, w) with finite values of 0 or more.")
    if inside is not None and np.shape(inside) != map_.shape:
        raise ValueError(f"The region has shape {np.shape(inside)} and the map {map_.shape}.")
    return map_


def highest(map_):
    """Return the pixels at a map's maximum or within `_TIE` of it, relatively; all of a map of zeros."""
    map_ = _checked(map_)
    return map_ >= (1 - _TIE) * map_.max()


def pointing(map_, inside):
    """Return whether a map's maximum lies in a region.

    The pointing game (Zhang et al., IJCV 2018, section 4.2), without their tolerance of 15 pixels. Of several
    equal maxima (`highest`) it is the share that lies inside; so a map that is constant, or zero, and points
    nowhere gets the region's share of the image, which is what a random point would get.

    Parameters
    ----------
    map_ : (h, w) float, 0 or more
    inside : (h, w) bool

    Returns
    -------
    float in [0, 1]
    """
    map_ = _checked(map_, inside)
    return float(np.asarray(inside, bool)[highest(map_)].mean())


def energy(map_, inside):
    """Return the share of a map's sum that lies in a region.

    The energy-based pointing game (Wang et al., CVPR Workshops 2020, section 4.3). A map of zeros gets the region's
    share of the image, as a constant one does.

    Parameters
    ----------
    map_ : (h, w) float, 0 or more
    inside : (h, w) bool, or float in [0, 1]
        Float as `coverage` returns it: pixels that lie partly inside count in part.

    Returns
    -------
    float in [0, 1]
    """
    map_, inside = _checked(map_, inside), np.asarray(inside, np.float64)
    total = map_.sum()
    return float((map_ * inside).sum() / total) if total > 0 else float(inside.mean())


def proposals(map_, thresholds=THRESHOLDS):
    """Return the boxes around a map's hot regions.

    Wang et al., CVPR 2017, section 3: the map is scaled to [0, 255] (here: its maximum becomes 255), thresholded at
    60 and at 180, and each isolated region gets a box. Pixels that touch by a side or a corner are one region.

    Parameters
    ----------
    map_ : (h, w) float, 0 or more
    thresholds : sequence of float in (0, 1]
        Shares of the maximum; a pixel at the threshold is hot.

    Returns
    -------
    (k, 4) float64
        Of all thresholds together; none for a map of zeros.
    """
    map_ = _checked(map_)
    found = []
    for threshold in thresholds if map_.max() > 0 else ():
        regions, _ = ndimage.label(map_ >= threshold * map_.max(), structure=np.ones((3, 3)))
        found += [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(regions)]
    return np.array(found, np.float64).reshape(-1, 4)


def best_overlap(proposed, box):
    """Return the best IoU and the best IoBB of proposed boxes with a box, each over all proposals; 0 if none.

    IoU is the intersection over the union, IoBB the intersection over the area of the proposal (Wang et al., CVPR
    2017, section 4). A localization counts as correct if IoU > T(IoU), or IoBB > T(IoBB), as `PUBLISHED` has them.

    Parameters
    ----------
    proposed : (k, 4) float
    box : (4,) float
        Taken as it is: unlike `score`, this knows no map and cuts nothing off.

    Returns
    -------
    iou, iobb : float in [0, 1]
    """
    proposed = np.asarray(proposed, np.float64).reshape(-1, 4)
    if not len(proposed):
        return 0.0, 0.0
    box = np.asarray(box, np.float64)
    sides = np.minimum(proposed[:, 2:], box[2:]) - np.maximum(proposed[:, :2], box[:2])
    shared = np.clip(sides, 0, None).prod(1)
    own = (proposed[:, 2:] - proposed[:, :2]).prod(1)
    whole = (box[2:] - box[:2]).prod()
    return float((shared / (own + whole - shared)).max()), float((shared / own).max())


def score(map_, box=None, mask=None):
    """Return all scores of one map against a box or a mask.

    Parameters
    ----------
    map_ : (h, w) float, 0 or more
    box : (4,) float, optional
    mask : (h, w) bool, optional
        Exactly one of the two. IoU and IoBB compare boxes: of a mask, the box around all of it.

    Returns
    -------
    dict
        `pointing, energy, iou, iobb`, floats in [0, 1].

    Raises
    ------
    ValueError
        If the box has no area in the map, the mask is empty or of another shape, or both or neither are given.
    """
    if (box is None) == (mask is None):
        raise ValueError("Give either a box or a mask to score a map against.")
    map_ = _checked(map_, mask)
    if mask is None:
        box = _box(box, map_.shape)
        target, weight = region(box, map_.shape), coverage(box, map_.shape)
    else:
        target = weight = np.asarray(mask, bool)
        rows, columns = np.nonzero(target.any(1))[0], np.nonzero(target.any(0))[0]
        if not len(rows):
            raise ValueError("The mask is empty: leave out findings that cannot be seen.")
        box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    iou, iobb = best_overlap(proposals(map_), box)
    return {"pointing": pointing(map_, target), "energy": energy(map_, weight), "iou": iou, "iobb": iobb}


def centre_map(shape, spread_frac=0.25):
    """Return a map that always points at the middle: one Gaussian peak.

    Parameters
    ----------
    shape : (int, int)
    spread_frac : float
        Standard deviation, as a share of each side.

    Returns
    -------
    (h, w) float32 in [0, 1], maximum 1
    """
    down, across = (
        np.exp(-0.5 * np.square((np.arange(n) + 0.5 - n / 2) / (spread_frac * n)), dtype=np.float64) for n in shape
    )
    found = np.outer(down, across)
    return np.float32(found / found.max())


def mean_box_map(boxes, shape):
    """Return, for each box, where other patients' boxes of the same finding lie.

    Parameters
    ----------
    boxes : pandas.DataFrame
        `patient_id, finding, x0_px, y0_px, x1_px, y1_px`, as in a packed store.
    shape : (int, int)

    Returns
    -------
    (len(boxes), h, w) float32 in [0, 1]
        The mean coverage of the boxes of all other patients, divided by its maximum. Where no other patient has a
        box of the finding, 1 everywhere: nothing is known.

    Raises
    ------
    ValueError
        If a box has no area in the map; the message names its row.
    """
    placed = np.empty((len(boxes), 4))
    for n, box in enumerate(boxes[BOX].to_numpy(float)):
        try:
            placed[n] = _box(box, shape)
        except ValueError as error:
            raise ValueError(f"Row {boxes.index[n]} of the boxes: {error}") from None
    down, across = _along(placed[:, 1], placed[:, 3], shape[0]), _along(placed[:, 0], placed[:, 2], shape[1])
    found = np.ones((len(boxes), *shape), np.float32)
    finding = boxes["finding"].to_numpy()
    patient = boxes["patient_id"].to_numpy()
    for name in pd.unique(finding):
        of_finding = finding == name
        everyone = down[of_finding].T @ across[of_finding]
        for who in pd.unique(patient[of_finding]):
            own = of_finding & (patient == who)
            others = everyone - down[own].T @ across[own]
            if own.sum() < of_finding.sum():
                found[own] = np.clip(others / others.max(), 0, 1)
    return found


@lru_cache(maxsize=4)
def lung_map(shape):
    """Return where lungs lie on average, whatever the image.

    The mean of the real lung outlines that `simulate` paints with, put where it puts them on average in a PA
    image: from 0.12 to 0.78 of the height, the middle 0.74 of the width.

    Parameters
    ----------
    shape : (int, int)

    Returns
    -------
    (h, w) float32 in [0, 1], maximum 1; read-only
    """
    lungs = simulation.lung_shapes().sum(1).mean(0)
    top, height, width = 0.12, 0.66, 0.74
    y, x = ((np.arange(n) + 0.5) / n for n in shape)
    grid = np.meshgrid(95 * (y - top) / height, 95 * (x - 0.5 + width / 2) / width, indexing="ij")
    found = np.float32(np.clip(ndimage.map_coordinates(lungs, grid, order=1, mode="constant"), 0, 1))
    found /= found.max()
    found.flags.writeable = False
    return found


# Wang et al., CVPR 2017: IoBB from table 4, IoU from the supplement. Cut off after four digits, not rounded.
_PUBLISHED = """
measure,threshold,atelectasis,cardiomegaly,effusion,infiltration,mass,nodule,pneumonia,pneumothorax
iobb,0.1,.7277,.9931,.7124,.7886,.4352,.1645,.7500,.4591
iobb,0.25,.5500,.9794,.5424,.5772,.2823,.0506,.5583,.3469
iobb,0.5,.2833,.8767,.3333,.4227,.1411,.0126,.3833,.1836
iobb,0.75,.1666,.7260,.2418,.3252,.1176,.0126,.2583,.1020
iobb,0.9,.1333,.6849,.2091,.2520,.0588,.0126,.2416,.0816
iou,0.1,.6888,.9383,.6601,.7073,.4000,.1392,.6333,.3775
iou,0.2,.4722,.6849,.4509,.4796,.2588,.0506,.3500,.2346
iou,0.3,.2444,.4589,.3006,.2764,.1529,.0379,.1666,.1326
iou,0.4,.0944,.2808,.2026,.1219,.0705,.0126,.0750,.0714
iou,0.5,.0500,.1780,.1111,.0650,.0117,.0126,.0333,.0306
iou,0.6,.0222,.0753,.0457,.0243,.0000,.0126,.0166,.0306
iou,0.7,.0055,.0273,.0196,.0000,.0000,.0000,.0083,.0204
"""


_SOURCES = {
    "iobb": "Wang et al., ChestX-ray8, CVPR 2017, table 4",
    "iou": "Wang et al., ChestX-ray8, CVPR 2017, supplement",
}


# `measure, threshold, finding, accuracy, source`: the share of a finding's boxes that were located.
PUBLISHED = (
    pd.read_csv(io.StringIO(_PUBLISHED))
    .melt(["measure", "threshold"], var_name="finding", value_name="accuracy")
    .assign(source=lambda table: table["measure"].map(_SOURCES))
)
