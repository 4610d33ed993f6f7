"""Labels of simulated images in doses: a radiologist who misses some, reports that err at a share of measured noise.

One image has one draw, whatever the dose: more noise adds errors to those that were there, a poorer radiologist
misses what a better one misses and more, and mechanisms are compared on the same luck.
"""

import numpy as np
import pandas as pd

from cxrlib.statistics import noise

DOSED = "pneumothorax"  # the finding whose report labels are measured and whose false alarms lean to drains


def _misses_alone(sensitivity):
    """Return a calibration, as `noise.calibrate` has it, of a reader who misses some and raises no false alarm."""
    rates = {"tp": sensitivity, "fn": 1 - sensitivity, "fp": 0.0, "tn": 1.0}
    return pd.DataFrame([{"stratum": stratum, **rates} for stratum in noise.STRATA])


def reading(images, sensitivity, faint_log_odds, seed):
    """Return the label of a simulated radiologist: what was drawn, less some misses; no false alarms.

    Parameters
    ----------
    images : pandas.DataFrame
        As `simulation.admissions` returns it.
    sensitivity : float in (0, 1]
    faint_log_odds : float
        How much rather a pneumothorax of conspicuity 0 than one of conspicuity 1 is missed (assumed).
    seed : int or sequence of int

    Returns
    -------
    (n,) float32 of 0/1
    """
    return noise.corrupt(
        images[DOSED],
        images["patient_id"],
        _misses_alone(sensitivity),
        np.random.default_rng(seed),
        miss_log_odds=-faint_log_odds * images[f"{DOSED}_conspicuity"],
    )


def report(images, read, calibration, mechanism, scale, correlation, seed):
    """Return the label of a simulated report: the radiologist's, with errors at a share of the measured rates.

    Parameters
    ----------
    images : pandas.DataFrame
        As `simulation.admissions` returns it.
    read : (n,) array of 0/1
        The radiologist's labels (`reading`).
    calibration : pandas.DataFrame
        As `noise.calibrate` returns it.
    mechanism : Mapping of str to float
        `faint_log_odds`: how much rather a finding of conspicuity 0 than one of conspicuity 1 goes unreported;
        `drain_log_odds`: how much rather one is reported, falsely, where a chest drain lies. Both 0: errors are
        independent of the image, given the radiologist's label and those of the patient's other images.
    scale : float in [0, 1]
        0 returns the radiologist's labels, 1 errs as often as measured.
    correlation : float in [0, 1)
        See `noise.corrupt`.
    seed : int or sequence of int

    Returns
    -------
    (n,) float32 of 0/1
    """
    return noise.corrupt(
        read,
        images["patient_id"],
        calibration,
        np.random.default_rng(seed),
        scale=scale,
        miss_log_odds=-mechanism["faint_log_odds"] * images[f"{DOSED}_conspicuity"],
        false_alarm_log_odds=mechanism["drain_log_odds"] * images["chest_drain"],
        correlation=correlation,
    )
