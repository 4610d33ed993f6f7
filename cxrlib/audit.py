"""The audit: one label set held against another on the same images.

    python -m cxrlib.audit google_adjudicated nih_reports
    python -m cxrlib.audit my_readers.csv my_reports.csv --by view sex --out audit/

A label set is a name of the catalogue (`cxrlib.catalogue`) or a CSV of one's own (docs/data.md).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib import catalogue, labelsets, stats

ATTRIBUTES = ("view", "sex", "age_band", "follow_up")
MEASURES = ("sensitivity", "specificity", "ppv", "npv", "f1", "kappa")
COLUMNS = ("finding", "by", "group", "images_n", "patients_n", "reference_n", "other_n", "tp", "fp", "fn", "tn")


def groups(images):
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


def pair(reference, other, finding):
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


def patients(images, ids):
    """Return the patient of each image, and whether each image had to be taken for a patient of its own."""
    known = images.set_index("image_id")["patient_id"].reindex(ids)
    if known.isna().all():
        return np.asarray(ids, dtype=object), True
    if known.isna().any():
        raise ValueError(
            f"image {known.index[known.isna()][0]} has no patient_id: give one for every image, or none."
        )
    return known.to_numpy(), False


def shared_findings(reference, other):
    """Return the findings that both label sets assess, or raise a ValueError that lists what each has."""
    shared = [f for f in reference.columns if f in other.columns]
    if not shared:
        raise ValueError(
            f"No finding is in both label sets: the reference has {', '.join(reference.columns)}; "
            f"the other has {', '.join(other.columns)}."
        )
    return shared


def against(reference, other, images, resamples_n, rng, findings=None, by=()):
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
        p_holm` from the largest group (Holm over the groups of all findings and attributes, by measure).
        A rate of fewer than `stats.FEW_PATIENTS` patients gets no interval and no test.
        `auc_of_reference` is the AUC that a detector equal to the reference reaches when the other label set
        scores it, (PPV + NPV) / 2.
    """
    rows = []
    grouped = groups(images).set_index(images["image_id"])
    for finding in findings or shared_findings(reference, other):
        both = pair(reference, other, finding)
        if both.empty:
            continue
        patient, _ = patients(images, both.index)
        resamples = stats.patient_resamples(patient, resamples_n, rng)
        rows += _rows(both, resamples, finding, "all", pd.Series("all", both.index))
        for name in by:
            rows += _rows(both, resamples, finding, name, grouped[name].reindex(both.index).fillna("not stated"))
    if not rows:
        raise ValueError("The two label sets have no image in common on which both assess a finding.")
    table = pd.DataFrame(rows)
    for column in ("difference", "difference_low", "difference_high", "p"):
        table[column] = table.get(column, pd.Series(np.nan, table.index)).astype(float)
    table["p_holm"] = table.groupby("measure")["p"].transform(stats.holm)
    return table


def _rows(both, resamples, finding, by, group):
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
        values, replicates = _measures(stats.rates(a, b)), _measures(stats.rates(a, b, part))
        few = _too_few(a, b, part.patient)
        for measure in values:
            row = {"finding": finding, "by": by, "group": name, **counts, "measure": measure}
            if few[measure]:
                row |= stats.Interval(values[measure], np.nan, np.nan, few[measure])._asdict()
                out.append(row)
                continue
            row |= stats.interval(values[measure], replicates[measure])._asdict()
            if first is not None and not first[2][measure]:
                test = stats.difference(values[measure] - first[0][measure], replicates[measure] - first[1][measure])
                row |= dict(zip(("difference", "difference_low", "difference_high", "p"), test, strict=False))
            out.append(row)
        first = first or (values, replicates, few)
    return out


def _too_few(a, b, patient):
    """Return for each measure why it gets no interval, or nothing: too few patients in its denominator."""
    denominators = {"sensitivity": [a], "specificity": [~a], "ppv": [b], "npv": [~b], "f1": [a]}
    all_four = [a, ~a, b, ~b]
    return {
        measure: stats.too_few([patient[chosen] for chosen in denominators.get(measure, all_four)])
        for measure in (*MEASURES, "auc_of_reference")
    }


def _measures(rates):
    return {**rates, "auc_of_reference": (rates["ppv"] + rates["npv"]) / 2}


def wide(table, measures=("sensitivity", "specificity", "ppv", "npv", "kappa")):
    """Return a table of `against` to read: a row per finding (and group), estimates with intervals as text."""
    text = [stats.text(r.estimate, r.low, r.high) for r in table.itertuples()]
    chosen = table.assign(text=text)[table["measure"].isin(measures)]
    grouped = (chosen["by"] != "all").any()
    keys = ["finding", *(["by", "group"] if grouped else []), "images_n", "reference_n", "other_n", "tp", "fp", "fn"]
    out = chosen.pivot(index=[*keys, "tn"], columns="measure", values="text")[list(measures)]
    return out.reindex(chosen.drop_duplicates(["finding", "by", "group"]).set_index([*keys, "tn"]).index)


# --- command line ---------------------------------------------------------------------------------------------------


def opened(where, policy):
    """Return a label set of the catalogue or of a CSV: labels by image id with the policy applied, and the images.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is neither such an entry nor such a file, or an entry has several readers.
    """
    if Path(where).suffix.lower() == ".csv":
        table, images, notes = labelsets.read_own(Path(where))
        print(*notes, sep="\n", end="\n" if notes else "")
    elif where in catalogue.names():
        entry = catalogue.read(where)
        if "reader_id" in entry.table:
            raise ValueError(f"{where} holds several readers an image: name one opinion (see cxrlib.agreement).")
        table, images = entry.table, entry.images
    else:
        raise ValueError(
            f"{where!r} is neither a CSV (a file named *.csv) nor in the catalogue ({', '.join(catalogue.names())})."
        )
    table = table.set_index("image_id")
    return table.apply(lambda column: labelsets.apply_policy(column, policy)), images


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m cxrlib.audit", description=__doc__.splitlines()[0])
    parser.add_argument("reference", help="a name of the catalogue, or a CSV")
    parser.add_argument("other", help="the label set held against it")
    parser.add_argument("--by", nargs="*", default=[], choices=ATTRIBUTES, help="groups of images")
    parser.add_argument("--policy", default="u_zeros", choices=list(labelsets.POLICIES), help="for uncertain labels")
    parser.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples of patients")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder to write audit.csv into")
    chosen = parser.parse_args(arguments)
    try:
        reference, images = opened(chosen.reference, chosen.policy)
        other, more = opened(chosen.other, chosen.policy)
        images = images if images["patient_id"].notna().any() else more
        shared = len(reference.index.intersection(other.index))
        print(f"{len(reference)} images in {chosen.reference}, {len(other)} in {chosen.other}, {shared} in both")
        rng = np.random.default_rng(chosen.seed)
        images = images[images["image_id"].isin(reference.index)]
        table = against(reference, other, images, chosen.resamples, rng, by=chosen.by)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    if images["patient_id"].isna().all():
        print("No patient ids: each image counts as a patient, and intervals are too narrow if some share one.")
    left_out = [f for f in reference.columns if f not in other.columns]
    if left_out:
        print(f"Not in {chosen.other}, so not compared: {', '.join(left_out)}")
    with pd.option_context("display.width", 250, "display.max_columns", 20, "display.max_rows", 500):
        print(wide(table).to_string())
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(chosen.out / "audit.csv", index=False)
        print(f"every measure: {chosen.out / 'audit.csv'}")


if __name__ == "__main__":
    main()
