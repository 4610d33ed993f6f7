"""The study of report labelers (notebook 21): their labels against people's, and the networks trained on them."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cxrlib.base import figures
from cxrlib.reports import simulated_reports
from cxrlib.statistics import intervals
from cxrlib.studies import case_tables, displays, labeler_agreement


def finding_groups(findings, simulated):
    """Return which findings are averaged, by name of the group, a dict of lists; `all` comes first.

    Parameters
    ----------
    findings : sequence of str
    simulated : bool
        Of simulated reports, findings whose error rates were measured are shown apart from those that borrow them.
    """
    groups = {"all": list(findings)}
    if simulated:
        measured = [f for f in findings if simulated_reports.OMISSIONS_MEASURED_AS.get(f) == f]
        groups |= {f: [f] for f in measured}
        groups["borrowed rates"] = [f for f in findings if f not in measured]
    return groups


def against(tests, resamples, findings, scored_by, label_sets, decided=None):
    """Return the labelers compared with a reference on each test that has labels of both, by cohort, a dict.

    Parameters
    ----------
    tests : Mapping of str to pandas.DataFrame
        Case tables by cohort.
    resamples : Mapping of str to resampling.Resamples
        Of the same rows.
    findings : sequence of str
    scored_by : str
        The reference's label set.
    label_sets, decided
        See `labeler_agreement.opinions`.

    Returns
    -------
    dict of str to labeler_agreement.Against
    """
    out = {}
    for cohort, test in tests.items():
        columns = {f: case_tables.label(scored_by, f) for f in findings}
        truth = pd.DataFrame({f: test[column] for f, column in columns.items() if column in test})
        said = labeler_agreement.opinions(test, label_sets, list(truth), decided)
        if len(truth.columns) and said:
            out[cohort] = labeler_agreement.Against(truth, said, resamples[cohort])
    return out


def label_table(compared, places):
    """Return F1 and kappa of every labeler on every test, as `labeler_agreement.Against.table`, and `test`.

    Parameters
    ----------
    compared : Mapping of str to labeler_agreement.Against
        By cohort; without any the table is empty.
    places : Mapping of str to str
    """
    return pd.concat([pd.DataFrame(), *(a.table().assign(test=places[c]) for c, a in compared.items())])


def label_difference_table(compared, places, groups):
    """Return paired differences between labelers of mean F1, over each group of findings on every test.

    Parameters
    ----------
    compared, places
        See `label_table`.
    groups : Mapping of str to sequence of str
        Of `finding_groups`. Holm's correction runs over the rows of `all`, whatever the test.

    Returns
    -------
    pandas.DataFrame
        As `labeler_agreement.Against.differences`, and `test, findings, difference` (what is less what). It is empty
        where fewer than two labelers are compared.
    """
    parts = [
        a.differences(findings=findings).assign(test=places[cohort], findings=name)
        for cohort, a in compared.items()
        for name, findings in groups.items()
    ]
    table = pd.concat([pd.DataFrame(), *parts], ignore_index=True)
    if len(table):
        table["p_holm"] = intervals.holm(table["p"].where(table["findings"] == "all"))
        table["difference"] = table["first"] + " - " + table["second"]
    return table


def seed_table(cells, arms, places, scored_by):
    """Return the mean AUC over findings of each training seed, a column a seed, by training labels and test.

    Parameters
    ----------
    cells : crossing.Cells
    arms : sequence of crossing.Arm
    places : Mapping of str to str
    scored_by : str
    """
    by_seed = {}
    for arm in arms:
        for cohort, place in places.items():
            for seed in arm.seeds:
                found = cells.auc(replace(arm, seeds=(seed,)), cohort, scored_by) or {"estimate": np.nan}
                by_seed.setdefault((short(arm.target), place, seed), []).append(found["estimate"])
    return pd.Series({key: np.nanmean(areas) for key, areas in by_seed.items()}).unstack()


def short(target):
    """Return what a target of this study is called in its tables: the labels trained on."""
    return target.removeprefix("labelers_")


def difference_figure(differences, scored_by):
    """Return a figure of paired differences of mean AUC, coloured by their sign where Holm's p is below 0.05.

    Parameters
    ----------
    differences : pandas.DataFrame
        Rows of `comparisons.mean_difference_table` scored by one label set.
    scored_by : str
        What that label set is called.
    """
    sides = {1: figures.colour("radiologist"), -1: figures.colour("nlp")}
    colours = [
        sides[np.sign(r.estimate)] if r.p_holm < 0.05 else figures.colour("") for r in differences.itertuples()
    ]
    names = differences["comparison"] + ", " + differences["test"]
    fig, axis = figures.figure(width=8, height=0.32 * len(differences) + 1)
    figures.forest(axis, displays.forest_lines(differences, names, colours), reference=0)
    axis.set_xlabel(f"difference in mean AUC, scored by {scored_by}")
    return fig


def difference_sentences(differences):
    """Return for each paired difference whether it is more than chance, a list.

    Parameters
    ----------
    differences : pandas.DataFrame
        As for `difference_figure`.
    """
    out = []
    for r in differences.itertuples():
        gap = f"{r.comparison}, {r.test}: {intervals.text(r.estimate, r.low, r.high)}"
        if np.isnan(r.p_holm):
            out.append(f"{gap}; {r.reason}")
        elif r.p_holm < 0.05:
            out.append(f"{gap}; Holm's p {displays.p_text(r.p_holm)}: more than chance")
        else:
            power = f"a difference below {r.smallest:.3f} would hardly show"
            out.append(f"{gap}; Holm's p {displays.p_text(r.p_holm)}: indistinguishable from 0, and {power}")
    return out
