"""Where heads on frozen features look: the cell that speaks most for a finding, and the boxes of RSNA's radiologists.

A linear head on pooled features has an exact class activation map (Zhou et al., CVPR 2016): its weights applied in
every cell. A cell's *coverage* is the part of it that boxes cover; its mean over cells is what a random cell gets.
"""

import numpy as np
import pandas as pd

from cxrlib.base import paths
from cxrlib.networks import localization
from cxrlib.releases import owner_tables
from cxrlib.statistics import intervals
from cxrlib.studies import matched

_BOXED_PX = 1024  # side of the images on which the boxes were drawn
_MATCHED = "rsna_matches/rsna_to_nih.csv.gz"


def rsna_boxes():
    """Return RSNA's boxes on NIH's images: `image_id`, and `x0, y0, x1, y1` as fractions of the image's side.

    Of an NIH image that stands for several of RSNA's, and of pairs that match badly, none.
    """
    pairs = pd.read_csv(paths.third_party(_MATCHED), dtype={"rsna": "string", "nih": "string"})
    pairs = pairs[pairs["mse"] <= 5].drop_duplicates("nih", keep=False)
    columns = ("patientId", "x", "y", "width", "height")
    boxes = owner_tables.package_table("kaggle_stage_2_train_labels.csv.zip", columns).dropna()
    boxes = boxes.assign(image_id=boxes["patientId"].map(pairs.set_index("rsna")["nih"])).dropna()
    corners = pd.DataFrame(
        {"x0": boxes.x, "y0": boxes.y, "x1": boxes.x + boxes.width, "y1": boxes.y + boxes.height}, dtype=float
    )
    return corners.div(_BOXED_PX).assign(image_id=boxes["image_id"]).reset_index(drop=True)


def covered(boxes, image_ids, grid):
    """Return what part of each cell an image's boxes cover, (n, h, w) float64 in [0, 1]; overlaps count once.

    Parameters
    ----------
    boxes : pandas.DataFrame
        As `rsna_boxes` returns it.
    image_ids : sequence of str
    grid : (int, int)
    """
    fine = 16  # points across a cell
    shape = grid[0] * fine, grid[1] * fine
    out = np.zeros((len(image_ids), *shape))
    place = {image: k for k, image in enumerate(image_ids)}
    for box in boxes[boxes["image_id"].isin(place)].itertuples():
        edges = np.array([box.x0 * shape[1], box.y0 * shape[0], box.x1 * shape[1], box.y1 * shape[0]])
        out[place[box.image_id]] = np.maximum(out[place[box.image_id]], localization.coverage(edges, shape))
    return out.reshape(len(out), grid[0], fine, grid[1], fine).mean((2, 4))


def at_peak(cam, coverage):
    """Return the coverage of each map's highest cell, (n,) float64.

    Parameters
    ----------
    cam, coverage : (n, h, w) float
    """
    highest = cam.reshape(len(cam), -1).argmax(1)
    return coverage.reshape(len(coverage), -1)[np.arange(len(coverage)), highest]


def activation(maps, heads, tested_in):
    """Return class activation maps, each by the head of the fold in which its image was tested, (n, h, w).

    Parameters
    ----------
    maps : (n, h, w, channels) float
    heads : (folds, channels) float
    tested_in : (n,) int
    """
    return np.einsum("nhwc,nc->nhw", maps, heads[tested_in])


def of_others(coverage, patient):
    """Return the mean coverage of all other patients' images, (n, h, w): a map that has not seen the image.

    Parameters
    ----------
    coverage : (n, h, w) float
    patient : (n,) array
    """
    code = np.unique(patient, return_inverse=True)[1]
    own = np.eye(code.max() + 1)[code]
    others = 1 - own @ own.T
    return np.einsum("ij,jhw->ihw", others, coverage) / others.sum(1)[:, None, None]


def in_boxes(study, maps, heads, folds, resamples, finding="airspace_opacity"):
    """Return how far the highest cells of maps lie in the radiologists' boxes, of the images that have one.

    Parameters
    ----------
    study : matched.Study
    maps : (n, h, w, channels) float
    heads, folds
        As `matched.learn` returns them.
    resamples : Resamples
        Of the study's images.
    finding : str

    Returns
    -------
    pandas.DataFrame
        `map, images_n`, as `intervals.over_seeds`, and `p_others_holm`: of each head's map, whether it differs from
        the boxes of other patients, corrected within the table.
    """
    coverage = covered(rsna_boxes(), study.images["image_id"], maps.shape[1:3])
    boxed = (coverage.sum((1, 2)) > 0) & (study.labels[finding, "radiologists"] == 1)
    coverage, inside = coverage[boxed], resamples.of(boxed)
    few = intervals.too_few([inside.patient])
    others = at_peak(of_others(coverage, study.images["patient_id"].to_numpy()[boxed]), coverage)
    hits = {}
    for predictor in (matched.NETWORK, matched.SHUFFLED_LABELS):
        for side in matched.SIDES:
            of_seeds = heads[finding, predictor, "weighted", side]
            tested = np.repeat(folds, len(of_seeds) // len(folds), axis=0)[:, boxed]
            cams = (activation(maps[boxed], h, fold) for h, fold in zip(of_seeds, tested, strict=True))
            hits[f"{predictor}, trained on {side}"] = np.stack([at_peak(cam, coverage) for cam in cams])
    hits |= {"boxes of other patients": others[None], "a random cell": coverage.mean((1, 2))[None]}
    rows = []
    for name, values in hits.items():
        each, replicates = values.mean(1), _means(values, inside)
        if len(values) > 1:
            row = intervals.over_seeds(each, replicates.mean(0), few)
            test = intervals.over_seeds(
                each - others.mean(), (replicates - _means(others[None], inside)).mean(0), few
            )
            row["p"] = test["p"]
        else:
            row = {**intervals.interval(each[0], replicates[0], few)._asdict(), "p": np.nan}
        rows.append({"map": name, "images_n": int(boxed.sum()), **row})
    table = pd.DataFrame(rows)[["map", "images_n", "estimate", "low", "high", "p", "reason"]]
    return table.assign(p_others_holm=intervals.holm(table["p"])).drop(columns="p")


def _means(values, resamples):
    """Return the mean of per-image values in each resample, (rows, b)."""
    images_n = resamples.totals(np.ones(values.shape[1]))
    return np.stack([resamples.totals(row) / images_n for row in values])
