"""Labelers that read impressions or whole reports, compared with human codes of the same reports.

Codes say only what is present. A labeler's uncertain findings count as absent (`u_zeros`) or as present (`u_ones`).
"""

import numpy as np
import pandas as pd

from cxrlib.base import label_tables
from cxrlib.statistics import accuracy, intervals, resampling

MICRO = "all findings (micro)"


def called_present(readings, policy):
    """Return what each labeler calls present, by name, as tables of 1 and 0.

    Parameters
    ----------
    readings : Mapping of str to pandas.DataFrame
        Reports x findings: 1, 0, -1 or NaN, which is not mentioned.
    policy : {"u_zeros", "u_ones"}
    """
    return {
        name: table.fillna(0).apply(lambda column: label_tables.apply_policy(column, policy))
        for name, table in readings.items()
    }


def _micro_f1(codes, called, resamples):
    """Return F1 over all reports and findings in each resample."""
    hits, marks = (codes.to_numpy() * called.to_numpy()).sum(1), (codes.to_numpy() + called.to_numpy()).sum(1)
    with np.errstate(invalid="ignore"):
        return 2 * resamples.totals(hits) / resamples.totals(marks)


def f1_table(codes, readings, policies, resamples):
    """Return precision, recall and F1 of present findings, finding by finding and over all of them.

    Parameters
    ----------
    codes : pandas.DataFrame
        Reports x findings, 1 or 0.
    readings : Mapping of str to pandas.DataFrame
        As of `called_present`, of the same reports and findings.
    policies : sequence of str
    resamples : resampling.Resamples
        Of the reports.

    Returns
    -------
    pandas.DataFrame
        `finding, labeler, policy, positives_n, called_n, precision, recall`, and of F1 `estimate, low, high, reason`.
        A finding of fewer than `intervals.FEW_PATIENTS` reports has no interval.
    """
    rows = []
    for policy in policies:
        for name, called in called_present(readings, policy).items():
            for finding in codes:
                label, said = codes[finding].to_numpy(int), called[finding].to_numpy(int)
                few = intervals.too_few_of_either(label, resamples)
                value = intervals.interval(accuracy.f1(label, said), accuracy.f1(label, said, resamples), few)
                rows.append(_row(finding, name, policy, label, said, value))
            whole = float(_micro_f1(codes, called, resampling.whole(len(codes)))[0])
            value = intervals.interval(whole, _micro_f1(codes, called, resamples))
            flat = codes.to_numpy(int).ravel(), called.to_numpy(int).ravel()
            rows.append(_row(MICRO, name, policy, *flat, value))
    return pd.DataFrame(rows)


def _row(finding, name, policy, label, said, value):
    rates = accuracy.rates(label, said)
    counts = {"positives_n": int(label.sum()), "called_n": int(said.sum())}
    of_present = {"precision": rates["ppv"], "recall": rates["sensitivity"]}
    return {"finding": finding, "labeler": name, "policy": policy, **counts, **of_present, **value._asdict()}


def f1_gaps(codes, readings, pairs, policies, resamples):
    """Return paired differences of micro-F1 between labelers, first less second.

    Parameters
    ----------
    codes, readings, policies, resamples
        As of `f1_table`.
    pairs : sequence of (str, str)
        Names of readings.

    Returns
    -------
    pandas.DataFrame
        `first, second, policy, estimate, low, high, p, reason, p_holm`; Holm's family is all rows.
    """
    rows = []
    for policy in policies:
        called = called_present(readings, policy)
        for first, second in pairs:
            whole, each = (
                _micro_f1(codes, called[first], part) - _micro_f1(codes, called[second], part)
                for part in (resampling.whole(len(codes)), resamples)
            )
            test = intervals.difference(float(whole[0]), each)
            rows.append({"first": first, "second": second, "policy": policy, **test._asdict()})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=intervals.holm(table["p"]))
