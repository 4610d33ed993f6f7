"""What is known of an image without looking at the anatomy: grey levels, sharpness, metadata, its file, its holder.

A study of labels shows what these alone achieve beside its networks. Where they do as well, a network may have
learned nothing else.
"""

import os

import numpy as np
import pandas as pd
from scipy import ndimage

from cxrlib.base import paths, tables
from cxrlib.cohorts import packing, sources


def pixel_statistics(images, rows):
    """Return eight statistics of grey levels and sharpness, a float32 column each.

    `mean, spread, dark, middle, bright` (5th, 50th and 95th percentile) of grey levels in [0, 1], `gradient` (mean
    absolute difference of neighbours), `laplacian` (standard deviation), `frame` (mean of the outermost tenth).

    Parameters
    ----------
    images : (n, side, side) uint8
    rows : (m,) int
    """
    out = []
    for row in rows:
        image = np.asarray(images[row], np.float32) / 255
        edge = max(1, len(image) // 10)
        inside = image[edge:-edge, edge:-edge]
        frame = (image.sum() - inside.sum()) / (image.size - inside.size)
        steps = (np.abs(np.diff(image, axis=axis)).mean() for axis in (0, 1))
        quantiles = np.quantile(image, (0.05, 0.5, 0.95))
        out.append([image.mean(), image.std(), *quantiles, np.mean([*steps]), ndimage.laplace(image).std(), frame])
    names = ["mean", "spread", "dark", "middle", "bright", "gradient", "laplacian", "frame"]
    return pd.DataFrame(np.float32(out).reshape(-1, len(names)), columns=names)


def metadata(index):
    """Return view, sex, age and follow-up number as numbers, a row an image; what is missing is NaN.

    Parameters
    ----------
    index : pandas.DataFrame
        A packed cohort's `images.parquet`.
    """
    return pd.DataFrame(
        {
            "ap": _coded(index["view"], "AP"),
            "male": _coded(index["sex"], "M"),
            "age": pd.to_numeric(index["age"], errors="coerce").to_numpy(float, na_value=np.nan),
            "follow_up_number": pd.to_numeric(index["follow_up_number"], errors="coerce").to_numpy(
                float, na_value=np.nan
            ),
        }
    )


def _coded(column, value):
    """Return 1 where a column is a value, 0 where it is another, NaN where it is missing."""
    known = column.notna().to_numpy()
    return np.where(known, (column.astype(object) == value).to_numpy(float), np.nan)


def files(settings, size_px, index):
    """Return of each image the bytes of its file and the size of its pixels, or None where there are no files.

    Parameters
    ----------
    settings : Mapping
        The cohort's section of `params.yaml`.
    size_px : int
    index : pandas.DataFrame
        A packed cohort's `images.parquet`.

    Returns
    -------
    pandas.DataFrame or None
        `bytes, height_px, width_px`; sizes as released, before packing.
    """
    if settings["source"] == "simulated":
        return None
    source = sources.open_source({**settings, "size_px": size_px})
    found = packing.source_files(source)
    if found is None:
        return None
    size = {image: os.path.getsize(file) for image, file in zip(source.table["image_id"], found, strict=True)}
    sizes = index[["source_height_px", "source_width_px"]].to_numpy(float)
    return pd.DataFrame(
        {"bytes": index["image_id"].map(size).to_numpy(float), "height_px": sizes[:, 0], "width_px": sizes[:, 1]}
    )


def holders(settings, index):
    """Return which public holder each image came from, a 0/1 column each, or None where no table says so.

    Parameters
    ----------
    settings : Mapping
        The cohort's section of `params.yaml`; `sources.csv` (`image_id, holder`) lies in its `folder`.
    index : pandas.DataFrame
        A packed cohort's `images.parquet`.
    """
    if "folder" not in settings:
        return None
    table = paths.source_path(settings["folder"]) / "sources.csv"
    if not table.exists():
        return None
    known = tables.read_csv(table, ("image_id", "holder")).drop_duplicates("image_id").set_index("image_id")
    return pd.get_dummies(index["image_id"].map(known["holder"]).fillna("not known"), dtype=float)
