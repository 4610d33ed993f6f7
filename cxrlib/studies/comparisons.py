"""Comparisons of training labels: arms, and the cells of a table that crosses them with tests and test labels."""

import numpy as np
import pandas as pd

from cxrlib.statistics import accuracy, intervals
from cxrlib.studies import case_tables, crossing


def seed_floor(table):
    """Return how far training seeds alone move the AUC, by network and training labels.

    Parameters
    ----------
    table : pandas.DataFrame
        With `network, trained_on, seed_range`.
    """
    return table.groupby(["network", "trained_on"])["seed_range"].agg(["median", "max"])


def _where(arm, place, test_labels):
    return {"network": arm.architecture, "finding": arm.finding, "test": place, "scored_against": test_labels}


def auc_table(cells, all_arms, places, test_labels):
    """Return the AUC of every arm on every test, scored by every label set that assesses its finding.

    Parameters
    ----------
    cells : Cells
    all_arms : sequence of Arm
    places : Mapping of str to str
        Test cohort -> what to call it.
    test_labels : sequence of str

    Returns
    -------
    pandas.DataFrame
        `network, finding, test, scored_against, trained_on, images_n, patients_n, positives_n, estimate, low,
        high, reason, seeds_n, seed_range`; the last is missing where one seed was trained.
    """
    rows = [
        {**_where(arm, place, name), "trained_on": arm.label_set, **cell}
        for arm in all_arms
        for cohort, place in places.items()
        for name in test_labels
        if (cell := cells.auc(arm, cohort, name)) is not None
    ]
    return pd.DataFrame(rows)


def crossed(table):
    """Return an `auc_table` to read: estimates with intervals as text, training labels as columns."""
    text = table.assign(auc=[intervals.text(r.estimate, r.low, r.high) for r in table.itertuples()])
    rows = ["finding", "network", "test", "scored_against", "positives_n"]
    order = list(dict.fromkeys(table["trained_on"]))
    return text.pivot(index=rows, columns="trained_on", values="auc")[order].fillna("")


def difference_table(cells, all_arms, study, places, test_labels):
    """Return the paired differences that a study asks for, and its controls.

    Holm's correction runs over the comparisons scored by `study["scored_against"]`; controls, and rows scored
    by other labels, are left out of it.

    Parameters
    ----------
    study : Mapping
        `comparisons` and `controls` (name -> two targets), `scored_against`.

    Returns
    -------
    pandas.DataFrame
        `comparison, role, first, second` (whose labels the two sides learned), `network, finding, test,
        scored_against, positives_n`, then as `intervals.over_seeds`, `seeds_n, delong_first_seed, delong_p,
        delong_clustered_p, p_holm`. `smallest` is the smallest true difference that this test set and as many seeds
        show with 80 % power.
    """
    rows = [
        {
            "comparison": name,
            "role": role,
            "first": a.label_set,
            "second": b.label_set,
            **_where(a, place, labels),
            **cell,
        }
        for role in ("comparison", "control")
        for name, (first, second) in study[f"{role}s"].items()
        for a, b in crossing.pairs(all_arms, first, second)
        for cohort, place in places.items()
        for labels in test_labels
        if (cell := cells.difference(a, b, cohort, labels)) is not None
    ]
    table = pd.DataFrame(rows)
    if table.empty:
        raise ValueError("None of the study's comparisons can be made: no test labels assess their findings.")
    asked = (table["role"] == "comparison") & table["scored_against"].isin(study["scored_against"])
    table["p_holm"] = np.nan
    table.loc[asked, "p_holm"] = intervals.holm(table.loc[asked, "p"])
    return table


def left_table(cells, all_arms, study, places):
    """Return how much of each lead is left when other labels score it, and how much their noise alone leaves.

    Parameters
    ----------
    cells, all_arms, study, places
        As in `difference_table`; the first of `study["scored_against"]` is the reference.

    Returns
    -------
    pandas.DataFrame
        `comparison, network, finding, test, scored_against`, then as `Cells.lead_left`; no row where a test has only
        one of the two label sets.
    """
    reference, *others = study["scored_against"]
    return pd.DataFrame(
        {"comparison": name, **_where(a, place, other), **cell}
        for name, (first, second) in study["comparisons"].items()
        for a, b in crossing.pairs(all_arms, first, second)
        for cohort, place in places.items()
        for other in others
        if (cell := cells.lead_left(a, b, cohort, reference, other)) is not None
    )


def _by_network(all_arms):
    """Return arms by target and architecture."""
    out = {}
    for arm in all_arms:
        out.setdefault((arm.target, arm.architecture), []).append(arm)
    return out


def mean_table(cells, all_arms, places, test_labels, groups):
    """Return the mean AUC over groups of findings of every network on every test.

    Parameters
    ----------
    cells : Cells
    all_arms : sequence of Arm
    places : Mapping of str to str
        Test cohort -> what to call it.
    test_labels : sequence of str
    groups : Mapping of str to sequence of str
        Name -> findings.

    Returns
    -------
    pandas.DataFrame
        `target, network, test, scored_against, findings`, then as `Cells.mean`. Every row is there; one that cannot
        be scored says why.
    """
    return pd.DataFrame(
        {"target": target, "network": architecture, "test": place, "scored_against": name, "findings": group}
        | cells.mean([arm for arm in arms if arm.finding in findings], cohort, name)
        for (target, architecture), arms in _by_network(all_arms).items()
        for cohort, place in places.items()
        for name in test_labels
        for group, findings in groups.items()
    )


def mean_difference_table(cells, all_arms, comparisons, places, test_labels, groups):
    """Return paired differences of mean AUC between the targets that are compared.

    Parameters
    ----------
    comparisons : Mapping of str to (str, str)
        Name -> two targets; first minus second.
    cells, all_arms, places, test_labels, groups
        See `mean_table`. Holm's correction runs over the rows of the first group alone.

    Returns
    -------
    pandas.DataFrame
        `comparison, network, test, scored_against, findings`, then as `Cells.mean_difference`, and `p_holm`.
    """
    rows = []
    for comparison, (first, second) in comparisons.items():
        paired = {}
        for a, b in crossing.pairs(all_arms, first, second):
            paired.setdefault(a.architecture, []).append((a, b))
        for architecture, both in paired.items():
            for cohort, place in places.items():
                for name in test_labels:
                    for group, findings in groups.items():
                        row = {"comparison": comparison, "network": architecture, "test": place}
                        row |= {"scored_against": name, "findings": group}
                        asked = [(a, b) for a, b in both if a.finding in findings]
                        rows.append(row | cells.mean_difference(asked, cohort, name))
    table = pd.DataFrame(rows)
    if table.empty:
        raise ValueError("None of the study's comparisons can be made: no two of its targets share a network.")
    corrected = table["findings"] == next(iter(groups))
    table["p_holm"] = np.nan
    table.loc[corrected, "p_holm"] = intervals.holm(table.loc[corrected, "p"])
    return table


def leak_table(test, first, second, test_labels, seen, resamples):
    """Return what a split by image is worth: AUC by image less AUC by patient, on patients seen and on others.

    The twins train on other mixes of patients, which matters on all test images alike; so the leak is the gain on the
    patients seen less the gain on the others, on the same resamples.

    Parameters
    ----------
    test : pandas.DataFrame
        Case table of the test images that both splits share.
    first, second : Arm
        Trained by image and by patient, with the same seeds.
    test_labels : str
    seen : (n,) bool
        Whether the first was trained on another image of the patient.
    resamples : stats.Resamples

    Returns
    -------
    pandas.DataFrame
        Rows `all`, `patients trained on`, `other patients` and `leak: seen less others`: `test_images, images_n,
        by_image, by_patient, seeds_n`, then as `stats.over_seeds`.
    """
    crossing.same_seeds([first, second])
    label = test[case_tables.label(test_labels, first.finding)].to_numpy(float)
    groups = {"all": seen | True, "patients trained on": seen, "other patients": ~seen}
    found, few = {}, {}
    for name, chosen in groups.items():
        keep = chosen & np.isin(label, (0, 1))
        part = resamples.of(keep)
        few[name] = intervals.too_few_of_either(label[keep], part)
        columns = [[case_tables.probability(key, arm.finding) for key in arm.runs()] for arm in (first, second)]
        scores = [[test[column].to_numpy(float)[keep] for column in side] for side in columns]
        areas = np.array([[accuracy.auc(label[keep], s) for s in side] for side in scores])
        drawn = [np.mean([accuracy.auc(label[keep], s, part) for s in side], axis=0) for side in scores]
        found[name] = areas[0] - areas[1], drawn[0] - drawn[1], areas.mean(axis=1), int(keep.sum())
    inside, outside = found["patients trained on"], found["other patients"]
    leak = "leak: seen less others"
    found[leak] = inside[0] - outside[0], inside[1] - outside[1], (np.nan, np.nan), found["all"][3]
    few[leak] = few["patients trained on"] or few["other patients"]
    rows = []
    for name, (each, drawn, areas, images_n) in found.items():
        where = {"test_images": name, "images_n": images_n, "by_image": areas[0], "by_patient": areas[1]}
        rows.append({**where, "seeds_n": len(each), **intervals.over_seeds(each, drawn, few[name])})
    return pd.DataFrame(rows)


def operating_table(cells, all_arms, valid, study, places):
    """Return rates at the threshold that has the study's specificity on validation images.

    Parameters
    ----------
    valid : pandas.DataFrame
        Validation part of the training cohort's case table; thresholds are chosen there, by each arm's own labels.
    study : Mapping
        `specificity`, `prevalences`, `scored_against`.

    Returns
    -------
    pandas.DataFrame
        `network, finding, test, scored_against, trained_on, measure, estimate, low, high, reason`.
    """
    rows = []
    for arm in all_arms:
        thresholds = cells.thresholds(arm, valid, study["specificity"])
        for cohort, place in places.items():
            for name in study["scored_against"]:
                for cell in cells.operating_point(arm, thresholds, cohort, name, study["prevalences"]):
                    rows.append({**_where(arm, place, name), "trained_on": arm.label_set, **cell})
    return pd.DataFrame(rows)


def drain_table(cells, all_arms, places, test_labels):
    """Return AUCs for pneumothorax with and without a drain, where the cohort knows which images show one."""
    columns = ["network", "finding", "test", "scored_against", "trained_on", "subset", "estimate", "low", "high"]
    rows = [
        {**_where(arm, place, test_labels), "trained_on": arm.label_set, "subset": subset, **cell}
        for arm in all_arms
        for cohort, place in places.items()
        if arm.finding == "pneumothorax" and "chest_drain" in cells.tests[cohort]
        for subset, cell in cells.by_drain(arm, cohort, test_labels).items()
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def headline(table, differences):
    """Return the README's table: each comparison's two AUCs and their difference, by every scorer asked for.

    Parameters
    ----------
    table, differences : pandas.DataFrame
        A study's `table.csv` and `differences.csv`.
    """
    where = ["network", "finding", "test", "scored_against"]
    rows = []
    for row in differences[(differences["role"] == "comparison") & differences["p_holm"].notna()].itertuples():
        same = table[(table[where] == [getattr(row, name) for name in where]).all(axis=1)].set_index("trained_on")
        entry = {name.replace("_", " "): getattr(row, name) for name in where}
        for label_set in (row.first, row.second):
            entry[f"trained on {label_set}"] = intervals.text(*same.loc[label_set, ["estimate", "low", "high"]])
        rows.append({**entry, "difference": intervals.text(row.estimate, row.low, row.high)})
    return pd.DataFrame(rows)
