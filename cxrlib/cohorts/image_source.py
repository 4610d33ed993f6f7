"""What packing needs to know of where images come from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.cohorts import store

REJECTED_COLUMNS = ("image_id", "where", "reason")


class PackedImage(NamedTuple):
    """One image as a source reads it."""

    square: np.ndarray  # (size_px, size_px) uint8
    sha256: str  # of the source file, or of the pixels where there is no file
    source_height_px: int
    source_width_px: int
    scale: float  # packed pixels per source pixel
    left_px: int
    top_px: int
    masks: np.ndarray | None = None  # (size_px, size_px) uint16, bits as simulate.DRAWN


@dataclass
class ImageSource:
    """What `pack` needs to know of where images come from.

    Attributes
    ----------
    table : pandas.DataFrame
        A row per image, `image_id` unique, `patient_id` never missing; other columns as known.
    read : Callable[[int], Picture]
        Read the image of row i; raises `images.UnreadableImageError`. Runs in worker processes.
    rejected : list of tuple
        `(image_id, where, reason)` of what was refused before any image was read.
    labels : pandas.DataFrame or None
        Labels that came with the images: `image_id` and one column per finding.
    boxes : pandas.DataFrame or None
        `image_id, finding, x0_frac, y0_frac, x1_frac, y1_frac`: fractions of the source's width and height.
    fingerprint : str
        Changes when the same row would be read differently.
    has_masks : bool
        Whether every picture carries masks.
    """

    table: pd.DataFrame
    read: Callable[[int], PackedImage]
    rejected: list = field(default_factory=list)
    labels: pd.DataFrame | None = None
    boxes: pd.DataFrame | None = None
    fingerprint: str = ""
    has_masks: bool = False


def typed_columns(table):
    """Return the table with one dtype per standard column, whatever the source gave."""
    table = table.copy()
    for column in table.columns.intersection(store.IMAGE_COLUMNS):
        kind = {"age": "Float64", "follow_up_number": "Int64"}.get(column, "string")
        values = table[column]
        if kind != "string":
            values = pd.to_numeric(values, errors="coerce").astype("Float64")
            wrong = values.isna() & table[column].notna()
            if kind == "Int64":
                wrong |= (values % 1 != 0).fillna(False)
            if wrong.any():
                row = table[wrong].iloc[0]
                number = "a whole number" if kind == "Int64" else "a number"
                raise ValueError(
                    f"{column} of image {row['image_id']} is {row[column]!r}: it must be {number} or empty."
                )
        table[column] = values.astype(kind)
    return table
