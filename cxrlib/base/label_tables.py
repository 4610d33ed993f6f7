"""Label sets: who says which finding is on which image, in one vocabulary, with a card each.

A label set is a table with `image_id` and one float32 column per finding it assesses. Values:
1 present, 0 absent, -1 uncertain, NaN not assessed. A set in which several readers label an image has a
row per image and reader, and a column `reader_id`. A cohort's label set lies at
`data/label_sets/<cohort>/<name>.parquet` with its card, `<name>.yaml`, beside it. What a study makes of -1
and NaN is a named policy (`POLICIES`). Published sets are in `cxrlib.releases.catalogue`; what a cohort's settings
may ask for is in `cxrlib.labels.kinds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from cxrlib.base import paths, tables, vocabulary, whole_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import ArrayLike

POLICIES = {
    "u_zeros": "uncertain counts as absent",
    "u_ones": "uncertain counts as present",
    "u_ignore": "uncertain counts as not assessed",
}


CARD_FIELDS = ("who", "how", "version", "source", "licence", "citation")


def check_label_columns(rows: pd.DataFrame, findings: Sequence[str], where: Path) -> pd.DataFrame:
    """Return columns of labels as float32, checked against the vocabulary and the four values.

    Parameters
    ----------
    rows : pandas.DataFrame of text
    findings : sequence of str
    where : Path
        For the messages.

    Raises
    ------
    ValueError
        Naming the column, or the first line and value, that is not allowed.
    """
    unknown = [f for f in findings if f not in vocabulary.VOCABULARY]
    if unknown:
        raise ValueError(
            f"{where} has columns that are no finding of the vocabulary: {', '.join(unknown)}. "
            f"Rename or remove them; the findings are {', '.join(vocabulary.VOCABULARY)}."
        )
    labels = {}
    for finding in findings:
        values = pd.to_numeric(rows[finding], errors="coerce").astype("float32")
        bad = (values.isna() & rows[finding].notna()) | ~(values.isna() | values.isin([-1, 0, 1]))
        if bad.any():
            at = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"{where} line {rows.index[at] + 2}: {finding} is {rows[finding].iloc[at]!r}; "
                "labels are 1 (present), 0 (absent), -1 (uncertain) or empty (not assessed)."
            )
        labels[finding] = values.to_numpy(dtype="float32", na_value=np.nan)
    return pd.DataFrame(labels, index=rows.index)


def check(table: pd.DataFrame, where: str, readers: bool = False) -> None:
    """Raise a ValueError unless a table is a label set.

    Parameters
    ----------
    table : pandas.DataFrame
    where : str
        For the messages.
    readers : bool
        Whether there is a row per image and reader (`image_id, reader_id`) instead of one per image.
    """
    key = ["image_id", "reader_id"] if readers else ["image_id"]
    for column in key:
        if column not in table:
            raise ValueError(f"{where}: a label set needs the column {column}.")
    again = table.duplicated(key)
    if again.any():
        twice = ", ".join(f"{column} {table[column][again].iloc[0]!r}" for column in key)
        raise ValueError(
            f"{where}: {twice} occurs twice; a label set has one row per image{' and reader' * readers}."
        )
    findings = [c for c in table if c not in key]
    unknown = [f for f in findings if f not in vocabulary.VOCABULARY]
    if unknown or not findings:
        raise ValueError(f"{where}: {unknown or 'no column'} is no finding of the vocabulary (labelsets.VOCABULARY).")
    for finding in findings:
        if not pd.api.types.is_numeric_dtype(table[finding].dtype):
            raise ValueError(
                f"{where}: {finding} is {table[finding].dtype}; labels are numbers, 1, 0, -1 or missing."
            )
        values = table[finding].to_numpy(dtype="float64", na_value=np.nan)
        bad = ~(np.isnan(values) | np.isin(values, (-1, 0, 1)))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"{where} row {row}: {finding} is {values[row]:g}; labels are 1, 0, -1 or missing.")


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return how often each finding is present, absent, uncertain and not assessed, as nested dicts."""
    names = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}
    return {
        finding: {
            **{name: int((table[finding] == value).sum()) for value, name in names.items()},
            "not_assessed": int(table[finding].isna().sum()),
        }
        for finding in table.columns
        if finding not in ("image_id", "reader_id")
    }


def save(table: pd.DataFrame, card: Mapping[str, Any], cohort: str, name: str, labeler: str = "") -> dict[str, Any]:
    """Write a label set and its card; return the card as written, with its counts.

    Parameters
    ----------
    table : pandas.DataFrame
    card : Mapping
    cohort, name : str
    labeler : str
        The trained labeler that it hangs on, if on any.

    Raises
    ------
    ValueError
        If the table is not a label set or the card lacks a field of `CARD_FIELDS`.
    """
    check(table, f"label set {name!r}")
    missing = [f for f in CARD_FIELDS if f not in card]
    if missing:
        raise ValueError(f"The card of label set {name!r} lacks {', '.join(missing)}: say it in params.yaml.")
    table = table.astype({c: "float32" for c in table if c != "image_id"}).astype({"image_id": "string"})
    path = paths.label_sets_dir(cohort, labeler) / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_files.replacing(path) as new:
        table.to_parquet(new, index=False)
    card = {"label_set": name, "cohort": cohort, **card, "images_n": len(table), "counts": counts(table)}
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100)
    whole_files.write_text(path.with_suffix(".yaml"), text)
    return card


def load(cohort: str, name: str) -> pd.DataFrame:
    """Return a label set, checked, indexed by `image_id`."""
    path = paths.label_set_path(cohort, name)
    if not path.exists():
        have = ", ".join(sorted(p.stem for p in path.parent.glob("*.parquet"))) or "none"
        raise FileNotFoundError(f"Cohort {cohort!r} has no label set {name!r} (it has: {have}).")
    table = tables.read_parquet(path)
    check(table, str(path))
    return table.set_index("image_id")


def apply_policy(values: ArrayLike, policy: str) -> np.ndarray:
    """Return labels with the uncertain ones resolved.

    Parameters
    ----------
    values : array of float
        1, 0, -1 or NaN.
    policy : str
        A key of `POLICIES` (Irvin et al., CheXpert, AAAI 2019).

    Returns
    -------
    ndarray of float32
        1, 0 or NaN, same shape.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}.")
    values = np.array(values, np.float32)
    values[values == -1] = {"u_zeros": 0, "u_ones": 1, "u_ignore": np.nan}[policy]
    return values
