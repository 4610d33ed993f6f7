"""Parts that reading an owner's table needs: files, words as labels, attributes of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxrlib.base import paths, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any


RELEASE_COLUMNS = ("image_id", "patient_id", "view", "sex", "age", "follow_up_number")


def find_file(path: str | Path) -> Path | None:
    """Return a file of `$CXR_DATA` or `data/sources`, None if it is in neither."""
    try:
        return paths.source_path(path)
    except FileNotFoundError:
        return None


def find_labels(path: str | Path) -> Path | None:
    """Return the file `labels/<path>` of `$CXR_DATA` or `data/sources`, None if it is in neither."""
    return find_file(Path("labels") / path)


REINSTALL = "Reinstall requirements.txt."


def package_table(file: str, columns: Sequence[str], **options: Any) -> pd.DataFrame:
    """Return columns of a table in the torchxrayvision package, or say which one is missing."""
    path = paths.torchxrayvision_data(file)
    raw = pd.read_csv(path, usecols=lambda c: c in columns, **options)
    missing = [c for c in columns if c not in raw]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}: it is not the published table.")
    return raw


def labels_csv(path: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table below `labels/` as text."""
    return tables.read_csv(find_labels(path), columns)  # type: ignore[arg-type]  # asked only of what is there


def words_as_labels(
    raw: pd.DataFrame, spelling: Mapping[str, str], meaning: Mapping[str, float], path: str
) -> pd.DataFrame:
    """Return columns of words (YES, NO, HEDGE) as float32 findings; an unknown word raises, naming its line."""
    labels = {}
    for theirs, ours in spelling.items():
        values = raw[theirs].map(meaning)
        if values.isna().any():
            at = int(np.flatnonzero(values.isna())[0])
            raise ValueError(
                f"{path} line {raw.index[at] + 2}: {theirs} is {raw[theirs].iloc[at]!r}, none of "
                f"{', '.join(meaning)}."
            )
        labels[ours] = values.astype("float32")
    return pd.DataFrame(labels, index=raw.index)


def check_words(values: pd.Series, known: Iterable[str], path: str, column: str) -> None:
    """Raise a ValueError naming the first line whose word is none of those allowed."""
    unknown = sorted(set(values.dropna()) - set(known)) + ["empty"] * bool(values.isna().any())
    if unknown:
        raise ValueError(f"{path}: {column} {unknown[0]!r} is none of {', '.join(known)}.")


def agreed(rows: pd.DataFrame, key: str | list[str]) -> tuple[pd.DataFrame, int, int]:
    """Return one row per key, sorted; where rows of one key differ in a finding, it is not assessed.

    Returns
    -------
    table : pandas.DataFrame
    twice_n, differ_n : int
        Keys that occur more than once, and those of them that differ in any finding.
    """
    grouped = rows.groupby(key)
    low, high = grouped.min(), grouped.max()
    differ = low != high
    return (
        low.mask(differ).astype("float32").reset_index(),
        int((grouped.size() > 1).sum()),
        int(differ.any(axis=1).sum()),
    )


def release_images(**columns: Any) -> pd.DataFrame:
    """Return the images of a label set, one row each, with the standard columns and dtypes."""
    images = pd.DataFrame(columns)
    kinds: dict[str, Any] = dict.fromkeys(RELEASE_COLUMNS, "string") | {"age": "Float64", "follow_up_number": "Int64"}
    for column, kind in kinds.items():
        images[column] = images[column].astype(kind) if column in images else pd.array([pd.NA] * len(images), kind)
    rest = [c for c in images if c not in RELEASE_COLUMNS]
    return images.drop_duplicates("image_id")[[*RELEASE_COLUMNS, *rest]].reset_index(drop=True)


def release_table(image_id: pd.Series, labels: pd.DataFrame, reader_id: pd.Series | None = None) -> pd.DataFrame:
    """Return a label table from ids and a frame of findings, with its dtypes."""
    keys: Any = {"image_id": image_id} if reader_id is None else {"image_id": image_id, "reader_id": reader_id}
    keys = pd.DataFrame({name: values.astype("string") for name, values in keys.items()})
    return pd.concat([keys, labels.astype("float32")], axis=1).reset_index(drop=True)
