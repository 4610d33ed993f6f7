"""The audit: one label set compared with another on the same images.

    cxr audit google_adjudicated nih_reports --part test
    cxr audit my_readers.csv my_reports.csv --by view sex --out audit/

A label set is a name of the catalogue (`cxrlib.releases.catalogue`) or a CSV of one's own (docs/data.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxrlib.base import label_tables, own_tables
from cxrlib.releases import catalogue
from cxrlib.statistics import accuracy, intervals, resampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


GROUP_ATTRIBUTES = ("view", "sex", "age_band", "follow_up")


AUDIT_MEASURES = ("sensitivity", "specificity", "ppv", "npv", "f1", "kappa")


def groups(images: pd.DataFrame) -> pd.DataFrame:
    """Return the groups that an image is in: `view, sex, age_band, follow_up`, text; NA where it is not known.

    Parameters
    ----------
    images : pandas.DataFrame
        `view, sex, age` in years, `follow_up_number`, as far as known.
    """
    out = pd.DataFrame(index=images.index)
    for name in ("view", "sex"):
        out[name] = images.get(name, pd.Series(pd.NA, images.index)).astype("string")
    bands = (
        ("age_band", "age", (0, 18, 40, 60, 75, np.inf), ("0-17", "18-39", "40-59", "60-74", "75+")),
        ("follow_up", "follow_up_number", (0, 1, 5, 10, np.inf), ("first", "2nd-5th", "6th-10th", "later")),
    )
    for name, column, edges, labels in bands:
        values = pd.to_numeric(images.get(column, pd.Series(np.nan, images.index)), errors="coerce").astype(float)
        out[name] = pd.cut(values, edges, right=False, labels=labels).astype("string")
    return out


def pair(reference: pd.DataFrame, other: pd.DataFrame, finding: str) -> pd.DataFrame:
    """Return the images that both label sets assess for a finding, `reference, other` as 1 and 0, by image id.

    Parameters
    ----------
    reference, other : pandas.DataFrame
        Indexed by `image_id`; 1, 0 or NaN (apply a policy to -1 first).
    """
    both = pd.concat({"reference": reference[finding], "other": other[finding]}, axis=1, join="inner").dropna()
    wrong = ~both.isin((0, 1)).all(axis=1)
    if wrong.any():
        row = both[wrong].iloc[0]
        raise ValueError(f"{finding} of image {row.name}: {row.to_dict()}; apply a policy to uncertain labels first.")
    return both


def patients(images: pd.DataFrame, ids: pd.Index) -> np.ndarray:
    """Return the patient of each image; where no patient is known, each image counts as one."""
    known = images.set_index("image_id")["patient_id"].reindex(ids)
    if known.isna().all():
        return np.asarray(ids, dtype=object)
    if known.isna().any():
        raise ValueError(
            f"image {known.index[known.isna()][0]} has no patient_id: give one for every image, or none."
        )
    return known.to_numpy()


def shared_findings(reference: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """Return the findings that both label sets assess, or raise a ValueError that lists what each has."""
    shared = [f for f in reference.columns if f in other.columns]
    if not shared:
        raise ValueError(
            f"No finding is in both label sets: the reference has {', '.join(reference.columns)}; "
            f"the other has {', '.join(other.columns)}."
        )
    return shared


def against(
    reference: pd.DataFrame,
    other: pd.DataFrame,
    images: pd.DataFrame,
    resamples_n: int,
    rng: np.random.Generator,
    findings: Sequence[str] | None = None,
    by: Sequence[str] = (),
) -> pd.DataFrame:
    """Return how a label set agrees with a reference, by finding and by group of images.

    Parameters
    ----------
    reference, other : pandas.DataFrame
        Indexed by `image_id`, findings as columns: 1, 0, NaN.
    images : pandas.DataFrame
        `image_id`, and `patient_id, view, sex, age, follow_up_number` as far as known. Without patients each
        image counts as one.
    resamples_n : int
    rng : numpy.random.Generator
    findings : sequence of str, optional
        All that both assess.
    by : sequence of {"view", "sex", "age_band", "follow_up"}

    Returns
    -------
    pandas.DataFrame
        One row per finding, group and measure: `finding, by, group` (`all, all` for every image), counts
        `images_n, patients_n, reference_n, other_n, tp, fp, fn, tn`, then `measure, estimate, low, high, reason`
        with 95 % intervals over patients, and for groups `difference, difference_low, difference_high, p,
        p_holm` from the largest group (Holm, a family for each measure: the groups of all findings and
        attributes). A rate of fewer than `stats.FEW_PATIENTS` patients gets no interval and no test; one of exactly 0
        or 1 gets an exact interval by patients and no test.
        `auc_of_reference` is the AUC that a detector equal to the reference reaches when the other label set
        scores it, (PPV + NPV) / 2.
    """
    rows = []
    grouped = groups(images).set_index(images["image_id"])
    for finding in findings or shared_findings(reference, other):
        both = pair(reference, other, finding)
        if both.empty:
            continue
        patient = patients(images, both.index)
        resamples = resampling.patient_resamples(patient, resamples_n, rng)
        rows += _rows(both, resamples, finding, "all", pd.Series("all", both.index))
        for name in by:
            rows += _rows(both, resamples, finding, name, grouped[name].reindex(both.index).fillna("not stated"))
    if not rows:
        raise ValueError("The two label sets have no image in common on which both assess a finding.")
    table = pd.DataFrame(rows)
    for column in ("difference", "difference_low", "difference_high", "p"):
        table[column] = table.get(column, pd.Series(np.nan, table.index)).astype(float)
    table["p_holm"] = table.groupby("measure")["p"].transform(intervals.holm)
    return table


def _rows(both: pd.DataFrame, resamples: resampling.Resamples, finding: str, by: str, group: pd.Series) -> list[dict]:
    """Return the rows of one finding and one attribute; groups in order of size, the first the yardstick."""
    out, first = [], None
    for name in group.value_counts().index:
        inside = (group == name).to_numpy()
        a, b = (both[side].to_numpy()[inside] == 1 for side in ("reference", "other"))
        part = resamples.of(inside)
        counts = {
            "images_n": len(a),
            "patients_n": len(np.unique(part.patient)),
            "reference_n": int(a.sum()),
            "other_n": int(b.sum()),
            "tp": int((a & b).sum()),
            "fp": int((~a & b).sum()),
            "fn": int((a & ~b).sum()),
            "tn": int((~a & ~b).sum()),
        }
        values, replicates = _measures(accuracy.rates(a, b)), _measures(accuracy.rates(a, b, part))
        rests_on = _denominators(a, b)
        testable = {}
        for measure in values:
            row = {"finding": finding, "by": by, "group": name, **counts, "measure": measure}
            patients = [part.patient[chosen] for chosen in rests_on[measure]]
            found, testable[measure] = _interval(values[measure], replicates[measure], patients)
            row |= found._asdict()
            if first is not None and testable[measure] and first[2][measure]:
                test = intervals.difference(
                    values[measure] - first[0][measure], replicates[measure] - first[1][measure]
                )
                row |= dict(zip(("difference", "difference_low", "difference_high", "p"), test, strict=False))
            out.append(row)
        first = first or (values, replicates, testable)
    return out


def _denominators(a: np.ndarray, b: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Return the images that each measure rests on, one mask or several."""
    single = {"sensitivity": [a], "specificity": [~a], "ppv": [b], "npv": [~b], "f1": [a]}
    return {measure: single.get(measure, [a, ~a, b, ~b]) for measure in (*AUDIT_MEASURES, "auc_of_reference")}


def _interval(
    value: float, replicates: np.ndarray, patients: Sequence[np.ndarray]
) -> tuple[intervals.Interval, bool]:
    """Return the interval of one measure, and whether it can be tested against another group's."""
    few = intervals.too_few(patients)
    if few:
        return intervals.Interval(value, np.nan, np.nan, few), False
    good = replicates[np.isfinite(replicates)]
    if np.isfinite(value) and len(good) and np.ptp(good) == 0:
        if len(patients) == 1 and value in (0, 1):
            return intervals.exact_interval(value, patients[0]), False
        return intervals.Interval(value, np.nan, np.nan, "no interval: every resample gives the same"), False
    return intervals.interval(value, replicates), True


def _measures(rates: Mapping) -> dict:
    return {**rates, "auc_of_reference": (rates["ppv"] + rates["npv"]) / 2}


def wide(
    table: pd.DataFrame, measures: Sequence[str] = ("sensitivity", "specificity", "ppv", "npv", "kappa")
) -> pd.DataFrame:
    """Return a table of `against` to read: a row per finding (and group), estimates with intervals as text."""
    text = [
        intervals.text(r.estimate, r.low, r.high)  # type: ignore[arg-type]
        for r in table.itertuples()
    ]
    chosen = table.assign(text=text)[table["measure"].isin(measures)]
    grouped = (chosen["by"] != "all").any()
    keys = ["finding", *(["by", "group"] if grouped else []), "images_n", "reference_n", "other_n", "tp", "fp", "fn"]
    out = chosen.pivot(index=[*keys, "tn"], columns="measure", values="text")[list(measures)]
    return out.reindex(chosen.drop_duplicates(["finding", "by", "group"]).set_index([*keys, "tn"]).index)


def _check_header(path: Path) -> None:
    """Raise a ValueError if the columns of a text file are separated by something other than commas."""
    with open(path, "rb") as file:
        header = file.readline(1 << 20)
    for separator, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if separator in header and b"," not in header:
            raise ValueError(f"{path} separates its columns by {name}: save it with commas between columns.")


def read_file(path: Path | str, scores: bool = False, also: Sequence[str] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return labels or scores of a CSV by image id, and what it knows of the images; print what is not read.

    Parameters
    ----------
    path : Path
    scores : bool
    also : sequence of str
        As in `own_tables.read_own`.

    Raises
    ------
    ValueError, FileNotFoundError
        In one sentence with the file and the remedy.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the CSV file itself.")
    try:
        if path.suffix.lower() in (".csv", ".tsv", ".txt") and path.exists():
            _check_header(path)
        table, images, notes = own_tables.read_own(path, scores, also)
    except OSError as error:
        if error.strerror is None:  # a sentence of our own
            raise
        raise ValueError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    if table.empty:
        raise ValueError(f"{path} has a header but no rows: give it a row for each image.")
    print(*notes, sep="\n", end="\n" if notes else "")
    return table.set_index("image_id"), images


def opened(where: str, policy: str, blank: str = "ignore") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a label set of the catalogue or of a CSV: labels by image id with the policy applied, and the images.

    `blank` says what a label that is not given means: `ignore`, not assessed; `absent`, as in the label files of
    report labelers, where nothing is written of what a report does not mention.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is neither such an entry nor such a file, or an entry has several readers.
    """
    if Path(where).suffix.lower() == ".csv":
        table, images = read_file(where)
    elif where in catalogue.names():
        entry = catalogue.read_release(where)
        if "reader_id" in entry.table:
            raise ValueError(
                f"{where} holds several readers of an image: name a label set with one opinion of each image."
            )
        table, images = entry.table.set_index("image_id"), entry.images
    else:
        raise ValueError(
            f"{where!r} is neither a CSV (a file named *.csv) nor in the catalogue ({', '.join(catalogue.names())})."
        )
    table = table.apply(lambda column: label_tables.apply_policy(column, policy))
    return table.fillna(0) if blank == "absent" else table, images


def only_part(labels: pd.DataFrame, images: pd.DataFrame, part: str, name: str) -> pd.DataFrame:
    """Return the labels of the images that a release's publisher put into one part, such as `test`.

    Parameters
    ----------
    labels, images : pandas.DataFrame
        As `opened` returns them.
    part : str
    name : str
        Of the label set, for the messages.

    Raises
    ------
    ValueError
        If the label set has no such part.
    """
    if "part" not in images:
        raise ValueError(f"{name} is not divided into parts: leave out --part.")
    known = images.set_index("image_id")["part"]
    if part not in set(known.dropna()):
        raise ValueError(f"{name} has no part {part!r}; it has {' and '.join(sorted(known.dropna().unique()))}.")
    return labels[among(labels.index, known.index[(known == part).fillna(False)])]


def merged(images: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Return what either table knows of each image of the first: the first's word where both speak.

    A column that only one of them has, such as the publisher's `part`, is kept.
    """
    columns = dict.fromkeys([*images.columns, *more.columns])
    both = images.set_index("image_id").combine_first(more.set_index("image_id"))
    return both.loc[images["image_id"]].reset_index()[list(columns)]


def among(ids: pd.Index | pd.Series, known: Iterable) -> np.ndarray:
    """Return which of some image ids are among others, as a boolean array."""
    known = set(pd.Index(known).tolist())  # `isin` takes seconds for strings as PyArrow keeps them
    return np.array([one in known for one in pd.Index(ids).tolist()], dtype=bool)


def matched(table: pd.DataFrame, ids: pd.Index) -> pd.DataFrame:
    """Return a table whose image ids are those of `ids`: as they are, or, if none matches, without their ending."""
    if among(table.index, ids).any():
        return table
    stems = pd.Series(ids, pd.Index(ids).str.replace(r"\.[A-Za-z]+$", "", regex=True))
    stems = stems[~stems.index.duplicated(keep=False)]
    bare = table.index.str.replace(r"\.[A-Za-z]+$", "", regex=True)
    shared = among(bare, stems.index)
    if not shared.any():
        raise ValueError(
            f"No image id is on both sides: {table.index[0]!r} here, {next(iter(ids))!r} there. Spell "
            "image_id alike, or take a label set of the same images."
        )
    return table[shared].set_axis(stems[bare[shared]].to_numpy()).rename_axis("image_id")


def common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the audit and the scores share."""
    parser.add_argument("--by", nargs="*", default=[], choices=GROUP_ATTRIBUTES, help="groups of images")
    parser.add_argument(
        "--policy", default="u_zeros", choices=list(label_tables.POLICIES), help="for uncertain labels"
    )
    parser.add_argument("--blank", default="ignore", choices=["ignore", "absent"], help="what a missing label means")
    parser.add_argument("--resamples", type=_resamples, default=2000, help="bootstrap resamples of patients; 2000")
    parser.add_argument("--seed", type=_seed, default=1, help="of the resamples; 1 by default")


def _resamples(text: str) -> int:
    if not text.isdecimal() or int(text) < 20:
        raise argparse.ArgumentTypeError(f"{text} is too few: give 20 resamples or more")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def tell(table: pd.DataFrame, images: pd.DataFrame, by: Iterable[str]) -> None:
    """Print why some estimates have no interval, and stop if nothing is known of an attribute."""
    unknown = [name for name in by if groups(images)[name].isna().all()]
    if unknown:
        raise ValueError(
            f"Nothing is known of {', '.join(unknown)} of these images: give the column, or leave out --by."
        )
    if images["patient_id"].isna().all():
        print("No patient ids: each image counts as a patient, and intervals are too narrow if some share one.")
    whole = table[(table["by"] == "all") & (table["reason"] != "")]
    for reason, part in whole.groupby("reason"):
        named = ", ".join(f"{r.finding} {r.measure}" for r in part.itertuples())
        print(f"{reason}: {named}")
