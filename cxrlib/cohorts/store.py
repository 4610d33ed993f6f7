"""The packed store: a cohort's images in one memory-mapped array, with a row each.

- `images.npy`: uint8 (n, size_px, size_px)
- `images.parquet`: a row per image, in that order: `IMAGE_COLUMNS`, `PACKED_COLUMNS`, what else the source knows
- `boxes.parquet`: boxes of findings in packed pixels, `x0_px, y0_px, x1_px, y1_px`, end exclusive
- `labels.parquet`: labels that came with the images, `image_id` and one column per finding, if any
- `rejected.csv`: everything that was not taken, and why
- `masks.npy`: uint16 (n, size_px, size_px), bits as `simulate.DRAWN`, of simulated images
- `checksums.json`: size and SHA-256 of each of these files, as `packing.pack` wrote them
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from cxrlib.base import checksums, paths, records

IMAGE_COLUMNS = ("image_id", "patient_id", "follow_up_number", "view", "sex", "age", "official_split")


PACKED_COLUMNS = ("sha256", "source_height_px", "source_width_px", "scale", "left_px", "top_px")


BOX_COLUMNS = ("image_id", "finding", "x0_px", "y0_px", "x1_px", "y1_px")


@dataclass(frozen=True)
class Store:
    """A packed cohort, opened for reading.

    Attributes
    ----------
    index : pandas.DataFrame
        `images.parquet`: a row per image, in the order of `images`.
    images : (n, size_px, size_px) uint8, memory-mapped
    boxes : pandas.DataFrame
    masks : (n, size_px, size_px) uint16, memory-mapped, or None
    labels : pandas.DataFrame
        `image_id` and a column per finding that came with the images.
    """

    name: str
    index: pd.DataFrame
    images: np.ndarray
    boxes: pd.DataFrame
    masks: np.ndarray | None
    labels: pd.DataFrame

    def rows(self, image_ids):
        """Return the row number of each image id, (len(image_ids),) int64.

        Raises
        ------
        KeyError
            Naming the first id that is not in the cohort.
        """
        at = pd.Index(self.index["image_id"]).get_indexer(image_ids)
        if (at < 0).any():
            missing = np.asarray(image_ids, object)[at < 0]
            raise KeyError(f"{len(missing)} image ids are not in cohort {self.name!r}, the first: {missing[0]!r}")
        return at


def open_store(cohort):
    """Open a packed cohort and check what it promises.

    Its files must have the sizes and the SHA-256 of `checksums.json`, if it has one; bytes are hashed once, and again
    when the file has changed (`base.checksums`).

    Parameters
    ----------
    cohort : str or Path
        A cohort's name, or its folder.

    Raises
    ------
    FileNotFoundError
        If it is not packed yet.
    ValueError
        If files disagree, or one is damaged; the message names the file.
    """
    where = Path(cohort) if isinstance(cohort, Path) else paths.cohort_dir(cohort)
    if not (where / "images.parquet").exists():
        raise FileNotFoundError(f"Cohort {where.name!r} is not packed at {where}: run `make repro` first.")
    check_store(where)
    index, pixels = _table(where / "images.parquet"), _array(where / "images.npy")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != len(index):
        raise ValueError(
            f"{where}/images.npy is {pixels.dtype} {pixels.shape}, not uint8 with the {len(index)} rows of "
            "images.parquet: pack the cohort again."
        )
    missing = [c for c in (*IMAGE_COLUMNS, *PACKED_COLUMNS) if c not in index]
    if missing or index["image_id"].duplicated().any() or index["patient_id"].isna().any():
        raise ValueError(
            f"{where}/images.parquet lacks {missing or 'unique image ids with patients'}: pack it again."
        )
    return Store(
        name=where.name,
        index=index,
        images=pixels,
        boxes=_table(where / "boxes.parquet"),
        masks=_array(where / "masks.npy") if (where / "masks.npy").exists() else None,
        labels=_table(where / "labels.parquet"),
    )


def pixels_sha256(folder):
    """Return the SHA-256 of a store's `images.npy`, which is hashed only if it has changed since it last was.

    Raises
    ------
    ValueError
        If the store is not as it was packed.
    """
    told = checksums.sealed(folder)
    if "images.npy" not in told:
        return records.sha256(folder / "images.npy")
    check_store(folder)
    return told["images.npy"]["sha256"]


def check_store(folder, *, anew=False):
    """Raise a ValueError that names the file if a store is not as it was packed.

    Parameters
    ----------
    folder : Path
    anew : bool
        Whether all bytes are read, although no file has changed since that was last done.
    """
    try:
        memory = folder.with_name(f".{folder.name}.checked.json")
        wrong = checksums.problem(folder, checksums.sealed(folder), memory, anew=anew)
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise ValueError(f"{wrong}: {checksums.remedy(folder, 'packs it')}")


def _array(path):
    """Return a stored array, memory-mapped; raise a ValueError that names the file if it is damaged or pickled."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0][:120].rstrip(".")
        raise ValueError(f"{path} is cut short, damaged or no array ({reason}): pack the cohort again.") from None


def _table(path):
    """Return a stored table; raise a ValueError that names the file if it is damaged."""
    try:
        return pd.read_parquet(path)
    except pa.ArrowException as error:
        reason = str(error).strip().splitlines()[0][:120].rstrip(".")
        raise ValueError(f"{path} is cut short, damaged or no table ({reason}): pack the cohort again.") from None
