"""The short table of the study of finding or no finding (notebook 22): questions, each with its answer as text."""

import numpy as np
import pandas as pd

from cxrlib.statistics import intervals
from cxrlib.studies import displays, finding_study


def _answer(question, value):
    """Return a line of the short table; with one seed its interval is that of the patients alone."""
    alone = "low_patients" in value and np.isnan(value["low"])
    ends = ("low_patients", "high_patients") if alone else ("low", "high")
    return {"question": question, "answer": intervals.text(value["estimate"], *(value[end] for end in ends))}


def _short(label_set):
    return label_set.removeprefix("finding_")


def about_leak(published, leak):
    """Return the AUC of either split, and what the split by image gains, as `question, answer`.

    Parameters
    ----------
    published : pandas.DataFrame
        Of `finding_study.as_published`.
    leak : pandas.DataFrame
        Of `comparisons.leak_table`.
    """
    theirs = finding_study.PUBLISHED["both", "auc"]
    rows = [
        _answer(f"AUC, split {r['split'].replace('_', ' ')}, scored by reports (published: {theirs})", r)
        for r in published[published["measure"] == "auc"].to_dict("records")
    ]
    rows.append(_answer("gain of the split by image, all test images", leak.iloc[0]))
    rows.append(_answer("gain on patients seen in training less that on others: the leak", leak.iloc[-1]))
    return pd.DataFrame(rows)


def about_labels(table, rescored, study):
    """Return the internal test's AUCs by other label sets than the published one, as `question, answer`.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `comparisons.auc_table`, with short names of training labels.
    rescored : pandas.DataFrame
        Of `finding_study.rescored_table`.
    study : Mapping
        `leak`, `published_as`, `comparisons`.
    """
    by_patient = _short(study["leak"][1])
    own = table[(table["test"] == displays.INTERNAL) & (table["trained_on"] == by_patient) & table["low"].notna()]
    rows = [
        _answer(
            f"AUC, split by patient, scored by {_short(r['scored_against'])} "
            f"({r['images_n'] - r['positives_n']} normals)",
            r,
        )
        for r in own[own["scored_against"] != study["published_as"][1]].to_dict("records")
    ]
    taught = [by_patient, *(_short(pair[0]) for pair in study["comparisons"].values())]
    alone = rescored[(rescored["test"] == displays.INTERNAL) & rescored["trained_on"].isin(taught)]
    for r in alone.to_dict("records"):
        pair = f"{_short(r['by'])} less by {_short(r['less_by'])}"
        rows.append(
            _answer(f"trained on {r['trained_on']}, on the same {r['first_n']} images: AUC scored by {pair}", r)
        )
    return pd.DataFrame(rows)


def about_training(differences, scored_against):
    """Return the internal test's gains by other training labels, as `question, answer`.

    Parameters
    ----------
    differences : pandas.DataFrame
        Of `comparisons.mean_difference_table`, and `validation_rarer_n` (`finding_study.rarer_class_n`): where that
        is too small to choose an epoch by, the answer says so and gives no number.
    scored_against : sequence of str
    """
    rows = []
    ahead = differences[
        (differences["test"] == displays.INTERNAL) & differences["scored_against"].isin(scored_against)
    ]
    for r in ahead.to_dict("records"):
        by, n = _short(r["scored_against"]), r["validation_rarer_n"]
        row = _answer(f"trained on the same images, {r['comparison']}, scored by {by}: gain in AUC", r)
        if n < intervals.FEW_PATIENTS:
            row["answer"] = f"not told: validation has {n} of the rarer class to choose an epoch by"
        rows.append(row)
    return pd.DataFrame(rows)


def about_triage(rule_out, reading, scored_against, study):
    """Return the work that ruling out saves and the minutes that a sorted list gains, as `question, answer`.

    Parameters
    ----------
    rule_out : pandas.DataFrame
        Of `finding_study.rule_out_table`; the internal test counts.
    reading : pandas.DataFrame
        Of `finding_study.reading_table`.
    scored_against : sequence of str
    study : Mapping
        `desk`, `rule_out_sensitivity`, `critical`, `critical_by`.
    """
    share = f"work saved at prevalence {study['desk']['abnormal_frac']:g}"
    chosen = f"threshold for sensitivity {study['rule_out_sensitivity']:g} on validation"
    kept = rule_out[rule_out["test"] == displays.INTERNAL].set_index(["scored_against", "measure"])
    rows = [_answer(f"{share}, {chosen}, scored by {_short(by)}", kept.loc[(by, share)]) for by in scored_against]
    gain = ("highest score first", "gain, minutes to the first critical image")
    wait = reading.set_index(["order", "measure"]).loc[gain]
    who = f"the first {' or '.join(study['critical'])} (by {study['critical_by']})"
    spread = "" if np.isnan(wait["low"]) else f" ({wait['low']:.1f} to {wait['high']:.1f})"
    rows.append({"question": f"minutes that {who} waits less, by score", "answer": f"{wait['estimate']:.1f}{spread}"})
    return pd.DataFrame(rows)
