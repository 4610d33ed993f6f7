"""Labels or scores from a CSV of one's own, whatever its columns are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxrlib.base import label_tables, tables, vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IDS = ("image_id", "image index", "image id", "imageid", "image", "filename", "study", "report_id")


_ATTRIBUTES = {
    "patient_id": ("patient_id", "patient id", "patientid", "patient"),
    "view": ("view", "view position", "viewposition"),
    "sex": ("sex", "patient gender", "gender", "patient sex"),
    "age": ("age", "patient age"),
    "follow_up_number": ("follow_up_number", "follow-up #"),
}


_SCORE_PREFIXES = ("prob_", "probability_", "probability.", "p_", "pred_", "score_")


def read_own(
    path: Path, scores: bool = False, also: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return labels or scores from a CSV of one's own, one row an image.

    Parameters
    ----------
    path : Path
        UTF-8, comma-separated, with a header: `image_id` (or a name of `IDS`), a column per finding in any spelling
        that `finding_named` knows, and, if known, `patient_id, view, sex, age, follow_up_number`.
    scores : bool
        Columns are scores (any number), which may be named `prob_<finding>` and so on (`_SCORE_PREFIXES`); if any is,
        columns without a prefix are not read as scores. Otherwise labels: 1, 0, -1 or empty.
    also : sequence of str
        Further columns that are read, as text, if the table has them.

    Returns
    -------
    table : pandas.DataFrame
        `image_id` and one column per finding: float32 labels, float64 scores, NaN where empty.
    images : pandas.DataFrame
        `image_id, patient_id, view, sex, age, follow_up_number`, NA where not given; then those of `also`.
    notes : list of str
        Which columns were not read.

    Raises
    ------
    ValueError
        In one sentence with the file, the line and the remedy.
    """
    rows = tables.read_csv(path, ())
    lower = {c.lower(): c for c in rows.columns}
    ids = [lower[name] for name in IDS if name in lower]
    if not ids:
        raise ValueError(f"{path} has no column image_id; it has {', '.join(rows.columns)}.")
    attributes = {ours: [lower[n] for n in named if n in lower] for ours, named in _ATTRIBUTES.items()}
    image_id = rows[ids[0]].str.strip()
    for wrong, what in ((image_id.isna(), "no image id"), (image_id.duplicated(), "an image id that occurs twice")):
        if wrong.any():
            at = int(np.flatnonzero(wrong.to_numpy())[0])
            raise ValueError(
                f"{path} line {rows.index[at] + 2} has {what} ({image_id.iloc[at]!r}): keep one row an image."
            )
    extra = {name: lower[name] for name in also if name in lower}
    used = {ids[0], *(c[0] for c in attributes.values() if c), *extra.values()}
    columns = _finding_columns([c for c in rows.columns if c not in used], scores, path)
    renamed = rows[list(columns)].rename(columns=columns)
    values = _scores(renamed, path) if scores else label_tables.check_label_columns(renamed, list(renamed), path)  # type: ignore[arg-type]  # names are text
    table = pd.concat([image_id.rename("image_id"), values], axis=1).reset_index(drop=True)
    images = pd.DataFrame({"image_id": table["image_id"]})
    for ours, found in attributes.items():
        text = rows[found[0]].str.strip().reset_index(drop=True) if found else pd.Series(pd.NA, images.index)
        images[ours] = _attribute(ours, text.astype("string"), rows.index, path)
    images = images.assign(**{name: rows[theirs].str.strip().to_numpy() for name, theirs in extra.items()})
    left = [c for c in rows.columns if c not in used and c not in columns]
    return table, images, [f"columns of {path} that are not read: {', '.join(left)}"] if left else []


def _attribute(name: str, text: pd.Series, index: pd.Index, path: Path) -> pd.Series:
    """Return an attribute's column with its dtype: ages such as 058Y as years, male and female as M and F."""
    if name == "sex":
        return text.replace({"male": "M", "Male": "M", "MALE": "M", "female": "F", "Female": "F", "FEMALE": "F"})
    if name not in ("age", "follow_up_number"):
        return text
    values = pd.to_numeric(text.str.replace(r"^0*(\d+)Y$", r"\1", regex=True), errors="coerce").astype("Float64")
    bad = values.isna() & text.notna()
    if bad.any():
        at = int(np.flatnonzero(bad.to_numpy())[0])
        raise ValueError(
            f"{path} line {index[at] + 2}: {name} is {text.iloc[at]!r}, which is no number; leave it empty."
        )
    return values


def _finding_columns(names: Sequence[str], scores: bool, path: Path) -> dict[str, str]:
    """Return which columns hold findings, theirs to ours."""
    prefixed = {
        c: found
        for c in names
        for prefix in _SCORE_PREFIXES
        if scores and c.lower().startswith(prefix) and (found := vocabulary.finding_named(c[len(prefix) :]))
    }
    columns = prefixed or {c: found for c in names if (found := vocabulary.finding_named(c))}
    if not columns:
        raise ValueError(
            f"{path} has no column of a finding; it has {', '.join(names)}. "
            f"Known: {', '.join(vocabulary.VOCABULARY)}."
        )
    ours = list(columns.values())
    twice = [c for c in columns if ours.count(columns[c]) > 1]
    if twice:
        raise ValueError(f"{path}: the columns {' and '.join(twice)} both mean {columns[twice[0]]}: keep one.")
    return columns


def _scores(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return columns of text as float64 scores; what is no number raises a ValueError with its line."""
    out = pd.DataFrame(index=rows.index)
    for finding in rows:
        values = pd.to_numeric(rows[finding], errors="coerce").astype("Float64")
        bad = (values.isna() & rows[finding].notna()) | values.isin([np.inf, -np.inf]).fillna(False)
        if bad.any():
            at = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"{path} line {rows.index[at] + 2}: {finding} is {rows[finding].iloc[at]!r}; a score is a number, or "
                "empty where there is none."
            )
        out[finding] = values.to_numpy(dtype=float, na_value=np.nan)
    return out
