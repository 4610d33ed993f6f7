"""What tables look like on a page: headings and numbers to read, estimates as text, the lines of a forest plot.

P-values. A bootstrap of b resamples resolves none below 2 / (b + 1). What `intervals.difference` gives below that is
the tail of a normal distribution, which is there so that Holm's correction has something to multiply, and no number
to read. So corrections are made on these numbers first. Then pages, sentences and printed tables say "< 0.001"
(`p_text`), and the files in `results/` say "< 0.0001" of what is smaller (`written`). Only the files that `cxr audit`
and `cxr score` write for the programs of their users keep the number.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from numbers import Integral

import numpy as np
import pandas as pd

from cxrlib.statistics import intervals

INTERNAL = "internal"  # what the test images of the training cohort are called

_HEADINGS = {  # names that are read otherwise than with spaces for underscores
    "auc": "AUC",
    "auc_of_reference": "AUC of the reference",
    "f1": "F1",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
    "tn": "TN",
    "iou": "IoU",
    "iobb": "IoBB",
    "npv": "NPV",
    "ppv": "PPV",
    "p_holm": "p (Holm)",
    "delong_p": "p (DeLong, by image)",
    "delong_clustered_p": "p (DeLong, by patient)",
    "low_patients": "95 % interval, other patients alone",
    "u_ones": "uncertain present",
    "u_zeros": "uncertain absent",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
}
_ENDINGS = {"frac": "fraction", "px": "pixels", "u_ones": "uncertain present", "u_zeros": "uncertain absent"}
# Columns whose values are read as headings are.
_WORDS = set("finding measure method policy by less_by stratum trained_on truth opinion what at".split())
_MISSING = "\N{EN DASH}"
_P_VALUE = re.compile(r"p|p_\w+|\w+_p")  # names of columns of p-values
LEAST_P = 1e-4  # what is smaller is written as smaller


def places(cohorts, train_cohort):
    """Return what to call each test cohort, by cohort: `internal`, or its name without that of the training cohort.

    Parameters
    ----------
    cohorts : iterable of str
    train_cohort : str
    """
    return {c: INTERNAL if c == train_cohort else c.removeprefix(f"{train_cohort}_") for c in cohorts}


def readable(table, digits=3):
    """Return a table as text to show on a page; files get the table itself.

    Headings are words. Columns `low, high` become the interval of the column before, `x_low, x_high` that of `x`.
    Counts (`*_n`) have no decimals, p-values below 0.001 are "< 0.001", and what is missing is a dash.

    Parameters
    ----------
    table : pandas.DataFrame
    digits : int
        Decimals of numbers that are neither counts nor p-values.
    """
    names = list(table.columns)
    cells = {k: [_cell(value, name, digits) for value in table.iloc[:, k]] for k, name in enumerate(names)}
    headings = {
        k: tuple(map(_heading, name)) if isinstance(name, tuple) else _heading(name) for k, name in enumerate(names)
    }
    for k, of in _interval_columns(names).items():
        ends = [a if a == _MISSING else f"{a} to {b}" for a, b in zip(cells.pop(k), cells.pop(k + 1), strict=True)]
        if of == k:
            cells[k] = ends
        else:
            cells[of] = [x if e == _MISSING else f"{x} ({e})" for x, e in zip(cells[of], ends, strict=True)]
            headings[of] += " (95 % interval)"
    out = pd.DataFrame(dict(sorted(cells.items())), index=_row_names(table.index, digits), dtype=object)
    out.columns = _index([headings[k] for k in out], table.columns.names)
    return out


def _interval_columns(names):
    """Return by the place of a column of lower ends the place of the column whose interval it begins, or its own."""
    places = {}
    for k, (name, after) in enumerate(pairwise(names)):
        if isinstance(name, str) and re.search(r"\blow|_low$", name) and after == re.sub(r"\blow|low$", "high", name):
            of = name.removesuffix("_low")
            places[k] = k - 1 if name == "low" else names.index(of) if of in names else k
    return places


def _index(labels, names):
    """Return an index of texts, or of tuples of texts, with the names of its levels in words."""
    names = [None if name is None else _heading(name) for name in names]
    return pd.MultiIndex.from_tuples(labels, names=names) if len(names) > 1 else pd.Index(labels, name=names[0])


def _heading(name):
    """Return the name of a column, finding, measure or method in words."""
    if name in _HEADINGS:
        return _HEADINGS[name]
    plain = re.sub("_n$", "", str(name))
    for end, meaning in _ENDINGS.items():
        plain = re.sub(f"_{end}$", f" ({meaning})", plain)
    return " ".join(_HEADINGS.get(word, word.replace("_", " ")) for word in plain.split(" "))


def _cell(value, name, digits):
    """Return one value of a column as text."""
    name = re.sub("_(low|high)$", "", str(name[-1] if isinstance(name, tuple) else name))
    if isinstance(value, str):
        return _heading(value) if name in _WORDS else value
    if not pd.api.types.is_scalar(value):
        return str(value)
    if pd.isna(value):
        return _MISSING
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if _P_VALUE.fullmatch(name):
        return p_text(value)
    whole = isinstance(value, Integral) or name.endswith("_n") or name in ("count", "tp", "fp", "fn", "tn")
    return f"{value:.0f}" if whole else f"{value:g}" if name == "rank" else f"{value:.{digits}f}"


def _row_names(index, digits):
    """Return an index as text; rows that are only numbered get no name."""
    if isinstance(index, pd.RangeIndex):
        return pd.Index([""] * len(index))
    levels = [[_cell(v, name, digits) for v in index.get_level_values(k)] for k, name in enumerate(index.names)]
    return _index(list(zip(*levels, strict=True)) if len(levels) > 1 else levels[0], index.names)


def p_text(p):
    """Return a p-value to read: three decimals, or that it is smaller."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_columns(table):
    """Return the names of a table's columns of p-values: `p`, `p_...` or `..._p`."""
    return [name for name in table.columns if isinstance(name, str) and _P_VALUE.fullmatch(name)]


def written(table):
    """Return a table as it is written to a file: columns with a p-value below `LEAST_P` are text that says so.

    Parameters
    ----------
    table : pandas.DataFrame
        With p-values as `p_columns` finds them, not rounded.
    """
    out = table.copy()
    for name in p_columns(table):
        p = table[name]
        if (p < LEAST_P).any():
            out[name] = p.map("{:.6g}".format).mask(p < LEAST_P, f"< {LEAST_P:.4f}").where(p.notna(), None)
    return out


def texts(table):
    """Return each row's estimate with its interval as text, a list.

    Parameters
    ----------
    table : pandas.DataFrame
        With `estimate, low, high`.
    """
    return [intervals.text(*row) for row in table[["estimate", "low", "high"]].itertuples(index=False)]


def wide(table, index, columns):
    """Return a table with estimates and intervals as text, one column for each value of `columns`.

    Parameters
    ----------
    table : pandas.DataFrame
        With `estimate, low, high`; one row for each pair of index and column.
    index, columns : str or list of str
    """
    return table.assign(text=texts(table)).pivot(index=index, columns=columns, values="text")


def forest_lines(table, names, colours):
    """Return the lines of `figures.forest`, one a row of a table.

    Parameters
    ----------
    table : pandas.DataFrame
        With `estimate, low, high`.
    names, colours : sequence of str
        One a row.
    """
    return [
        {"name": name, "estimate": r.estimate, "low": r.low, "high": r.high, "colour": colour}
        for r, name, colour in zip(table.itertuples(), names, colours, strict=True)
    ]


def caption(kind, tables, covers="", note=""):
    """Return what stands under a figure: what images it is from, how many of how many patients, what intervals cover.

    Parameters
    ----------
    kind : str
        What the images are, real or simulated, e.g. "simulated images".
    tables : pandas.DataFrame or Mapping of str to pandas.DataFrame
        A row an image, with `patient_id` and, where an image has several rows, `image_id`; of several test sets by
        what each is called.
    covers : str
        What the 95 % intervals allow for, such as "patients and seeds"; nothing if there are no intervals.
    note : str
    """
    parts = tables if isinstance(tables, Mapping) else {"": tables}
    sizes = [f"{_size(table)}{f' ({name})' if name else ''}" for name, table in parts.items()]
    intervals_are = f"95 % intervals over {covers}" if covers else "no intervals"
    return "; ".join(part for part in (f"{kind}: {', '.join(sizes)}", intervals_are, note) if part)


def _size(table):
    images_n = table["image_id"].nunique() if "image_id" in table else len(table)
    return f"{images_n:,} of {table['patient_id'].nunique():,} patients"


def verdict(row, better="better", worse="worse"):
    """Return what a difference says, in words: by p after Holm's correction if it was tested, else by its interval.

    Parameters
    ----------
    row : Mapping, Series or named tuple with `estimate, low, high` and, if it was tested, `p_holm`
        The interval is not corrected: it can leave out zero where the corrected test does not.
    better, worse : str
        Above and below zero.
    """
    row = row._asdict() if hasattr(row, "_asdict") else row
    if np.isnan(row["low"]):
        return "not estimable"
    corrected, apart = row.get("p_holm", np.nan), row["low"] > 0 or row["high"] < 0
    if corrected < 0.05 or (np.isnan(corrected) and apart):
        return better if row["estimate"] > 0 else worse
    return "not significant after Holm's correction" if apart else "indistinguishable from zero"
