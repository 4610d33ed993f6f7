"""How small a difference a test set can show."""

import numpy as np
import pandas as pd
from scipy.stats import multivariate_normal, norm
from scipy.stats import t as student


def smallest_difference(standard_error, power=0.8, freedom=np.inf):
    """Return the smallest true difference that a two-sided test at 0.05 finds with this probability.

    Parameters
    ----------
    standard_error : float
        Of the paired difference: of its bootstrap replicates, or planned (`planned_standard_error`).
    power : float in (0, 1)
    freedom : float
        Degrees of freedom of the standard error, if it is from few seeds (`over_seeds`).
    """
    if np.isinf(freedom):
        return (norm.ppf(0.975) + norm.ppf(power)) * standard_error
    return float(student.ppf(0.975, freedom) + student.ppf(power, freedom)) * standard_error


def planned_standard_error(area, positives_n, negatives_n, correlation, design_effect=1.0):
    """Return the standard error of a paired AUC difference, before any image is scored.

    The variance of one AUC from the probabilities that one image beats two (Bamber 1975; Hanley and McNeil,
    Radiology 1982;143:29), these taken from normal scores of equal variance; two such AUCs with this correlation
    (Radiology 1983;148:839); times a design effect for several images of a patient (`design_effect`).

    Parameters
    ----------
    area : float in (0.5, 1)
    positives_n, negatives_n : int
        Images.
    correlation : float in [0, 1)
        Between the two AUC estimates; networks on the same images have about 0.5 to 0.8.
    design_effect : float
        Clustered over unclustered variance.
    """
    at = norm.ppf(area)
    beats_two = multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]).cdf([at, at])
    variance = area * (1 - area) + (positives_n + negatives_n - 2) * (beats_two - area**2)
    variance /= positives_n * negatives_n
    return float(np.sqrt(2 * variance * (1 - correlation) * design_effect))


def own_patient_size(patient_id):
    """Return how many images the patient of an image has, on average over images.

    Parameters
    ----------
    patient_id : (n,) array
    """
    sizes = pd.Series(np.asarray(patient_id, dtype=object)).value_counts().to_numpy()
    return float((sizes**2).sum() / sizes.sum())


def design_effect(patient_id, intraclass_correlation):
    """Return 1 + (m - 1) * correlation, with m the mean size of the patient that an image belongs to (Kish)."""
    return 1 + (own_patient_size(patient_id) - 1) * intraclass_correlation
