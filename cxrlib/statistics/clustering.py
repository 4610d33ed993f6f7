"""How much the images of one patient repeat each other, as a design effect and as a correlation within patients."""

import numpy as np
from scipy.stats import t as student

from cxrlib.statistics import delong, intervals, planning

ONE, DIFFERENCE = "one AUC", "difference of two AUCs"
_GROUPS_N = 40  # of patients, for the jackknife


def design_effects(label, scores, patient_id):
    """Return by how much several images of a patient raise the variance of one AUC, and of a paired difference.

    Variances are those of DeLong 1988 by image and of Obuchowski 1997 by patient; the ratio is of their sums over the
    networks, or over all pairs of networks.

    Parameters
    ----------
    label : (n,) array of 0/1
    scores : (k, n) array
        A row a network, two or more.
    patient_id : (n,) array

    Returns
    -------
    dict of str to float
        `ONE` and `DIFFERENCE`: clustered over unclustered variance, 1 if patients do not matter.
    """
    ratios = {}
    by_image, by_patient = (delong.delong(label, scores, clusters)[1] for clusters in (None, patient_id))
    ratios[ONE] = np.trace(by_patient) / np.trace(by_image)
    first, second = np.triu_indices(len(by_image), 1)
    gaps = [(c[first, first] + c[second, second] - 2 * c[first, second]).sum() for c in (by_patient, by_image)]
    ratios[DIFFERENCE] = gaps[0] / gaps[1]
    return {name: float(ratio) for name, ratio in ratios.items()}


def intraclass_correlations(label, scores, patient_id):
    """Return the correlation within patients that Kish's design effect implies, each with a 95 % interval.

    `planning.design_effect` turns it into the design effect of a set whose patients have more images or fewer. The
    interval is Student's, by a jackknife that leaves out one of 40 groups of patients at a time (Shao and Tu, The
    Jackknife and Bootstrap, 1995, section 5.1).

    Parameters
    ----------
    label, scores, patient_id
        As of `design_effects`.

    Returns
    -------
    dict of str to intervals.Interval
        `ONE` and `DIFFERENCE`; NaN with the reason where a class has fewer than `intervals.FEW_PATIENTS` patients.
    """
    label, scores = np.asarray(label), np.asarray(scores)
    names, patient = np.unique(np.asarray(patient_id, dtype=object).astype(str), return_inverse=True)
    few = intervals.too_few([patient[label == 1], patient[label == 0]])
    if few:
        return dict.fromkeys((ONE, DIFFERENCE), intervals.Interval(np.nan, np.nan, np.nan, few))
    whole = _correlations(label, scores, patient)
    groups_n = min(_GROUPS_N, len(names))
    parts = []
    for group in range(groups_n):
        kept = patient % groups_n != group
        parts.append(_correlations(label[kept], scores[:, kept], patient[kept]))
    found = {}
    for name, estimate in whole.items():
        each = np.array([part[name] for part in parts])
        error = np.sqrt((groups_n - 1) * np.mean((each - each.mean()) ** 2))
        reach = float(student.ppf(0.975, groups_n - 1) * error)
        found[name] = intervals.Interval(estimate, estimate - reach, estimate + reach)
    return found


def patients_like(patient_id, own_size):
    """Return the images to take so that patients are as large, or as small, as in another test set, (n,) bool.

    Correlations within patients fall with the number of images that a patient has, so that one that comes from
    smaller patients must not be carried to larger ones. Patients with few images are left out, or those with many,
    until the patient of an image has about `own_size` images on average.

    Parameters
    ----------
    patient_id : (n,) array
    own_size : float
        As of `planning.own_patient_size`.
    """
    _, patient, counts = np.unique(
        np.asarray(patient_id, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    size = counts[patient]
    larger = own_size > planning.own_patient_size(patient)
    choices = [size >= limit if larger else size <= limit for limit in np.unique(size)]
    return min(choices, key=lambda kept: abs(planning.own_patient_size(patient[kept]) - own_size))


def _correlations(label, scores, patient):
    size = planning.own_patient_size(patient)
    return {name: (effect - 1) / (size - 1) for name, effect in design_effects(label, scores, patient).items()}
