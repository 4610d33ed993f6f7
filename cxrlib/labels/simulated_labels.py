"""Labels of simulated images: what was drawn, simulated radiologists, simulated reports."""

import numpy as np
import pandas as pd

from cxrlib.base import paths
from cxrlib.cohorts import simulation
from cxrlib.labelers import registry
from cxrlib.reports.simulated_reports import REPORTED_FINDINGS, simulated
from cxrlib.statistics import noise

_SIMULATED = {
    "source": "cxrlib.cohorts.simulation: simulated images, no patients",
    "licence": "Apache-2.0",
    "citation": "this repository",
}


# Which measured noise a simulated finding borrows. Findings that no adjudicated set assesses have none,
# and the simulated report labels do not assess them.
NOISE_MEASURED_AS = {
    "pneumothorax": "pneumothorax",
    "airspace_opacity": "airspace_opacity",
    "nodule": "nodule_or_mass",
    "mass": "nodule_or_mass",
}


def drawn_truth(store):
    """Return what was drawn on simulated images, whether or not it can be seen."""
    return store.labels.copy(), {
        "who": "the simulation",
        "how": "every finding that was drawn, however faint",
        "version": "1",
        **_SIMULATED,
    }


def simulated_panel(store, misses_frac):
    """Return the simulated radiologists' labels: what was drawn, less the faintest of each finding.

    The calibration's own reference is an adjudicated panel, so a panel's error cannot be read off it:
    `misses_frac` is an assumption.
    """
    table = store.labels.copy()
    for finding in simulation.SIMULATED_FINDINGS:
        present = table[finding] == 1
        faint = store.index[f"{finding}_conspicuity"].where(present).rank(pct=True)
        table.loc[present & (faint <= misses_frac), finding] = 0
    return table, {
        "who": "simulated adjudicated panel",
        "how": f"what was drawn, less the faintest {misses_frac:.0%} of each finding (assumed); no false alarms",
        "version": "1",
        **_SIMULATED,
    }


def simulated_reports(store, reference, noise_scale, drain_log_odds, faint_log_odds, seed, built, borrowed=None):
    """Return simulated report labels: the panel's, with the errors measured on real report labels.

    Parameters
    ----------
    store : cohorts.Store
    reference : str
        The label set that errors are put into.
    noise_scale : float in [0, 1]
        1 is the measured noise, 0 none.
    drain_log_odds : float
        How much rather a pneumothorax is reported, falsely, where a chest drain lies (assumed).
    faint_log_odds : float
        How much rather a finding of conspicuity 0 than one of conspicuity 1 goes unreported (assumed).
    seed : int
    built : dict of pandas.DataFrame
        The label sets of this cohort built so far.
    borrowed : Mapping of str to str, optional
        Findings that no adjudicated set assesses, and the finding whose measured errors they get (assumed). They are
        not assessed if not given.
    """
    borrowed = borrowed or {}
    measured = pd.read_csv(paths.label_noise_path())
    source = built[reference].set_index("image_id").loc[store.index["image_id"]]
    table = pd.DataFrame({"image_id": store.index["image_id"]})
    for k, (finding, proxy) in enumerate({**NOISE_MEASURED_AS, **borrowed}.items()):
        table[finding] = noise.corrupt(
            source[finding],
            store.index["patient_id"],
            measured[measured["finding"] == proxy],
            np.random.default_rng((seed, k)),
            scale=noise_scale,
            miss_log_odds=-faint_log_odds * store.index[f"{finding}_conspicuity"],
            false_alarm_log_odds=drain_log_odds * store.index["chest_drain"] * (finding == "pneumothorax"),
        )
    return table, {
        "who": "simulated report labels",
        "how": f"errors put into {reference!r} at {noise_scale:g} times the rates at which NIH's report labels "
        "err against Google's adjudicated ones, by whether another image of the patient is positive "
        "(measured, notebook 02); within a stratum, misses lean to faint findings by "
        f"{faint_log_odds:g} and false pneumothoraces to chest drains by {drain_log_odds:g} log-odds (assumed). "
        + ("".join(f"{finding} errs as {proxy} does (assumed). " for finding, proxy in borrowed.items()))
        + "Findings that the adjudicated labels lack are not assessed"
        + (", those apart." if borrowed else "."),
        "version": "1",
        **_SIMULATED,
    }


def simulated_report_texts(store, reference, seed, noise_scale=1.0, drain_log_odds=2.0, faint_log_odds=3.0):
    """Return the simulated reports of a simulated cohort's images, in the store's order.

    Parameters
    ----------
    store : cohorts.Store
    reference : pandas.DataFrame
        `image_id` and the findings that the reporter could have seen.
    seed, noise_scale, drain_log_odds, faint_log_odds
        See `reports.simulated`.

    Returns
    -------
    texts : list of str
    said : pandas.DataFrame
        What the reporter had in mind, in the same order.
    """
    truth = reference.set_index("image_id").loc[store.index["image_id"]].reset_index(drop=True)
    return simulated(
        store.index.reset_index(drop=True),
        truth,
        pd.read_csv(paths.label_noise_path()),
        seed,
        scale=noise_scale,
        drain_log_odds=drain_log_odds,
        faint_log_odds=faint_log_odds,
    )


def _as_simulated_findings(read):
    """Return a labeler's output on the findings of simulated reports; what is not mentioned counts as absent."""
    read = read.copy()
    parts = [f for f in ("lung_opacity", "consolidation", "infiltration", "pneumonia") if f in read]
    if "airspace_opacity" not in read:
        certain, doubted = (read[parts] == 1).any(axis=1), (read[parts] == -1).any(axis=1)
        read["airspace_opacity"] = np.select([certain, doubted], [1.0, -1.0], 0.0)
    return read[list(REPORTED_FINDINGS)].fillna(0).astype("float32")


def simulated_report_labels(store, labeler, reference, seed, built, arguments=None, **options):
    """Return what a labeler reads in the simulated reports of a simulated cohort.

    Errors arise twice, as in a hospital: the report omits and adds at the rates measured on real ones, and the
    labeler misreads.

    Parameters
    ----------
    store : cohorts.Store
    labeler : str
        A key of `registry.LABELERS`.
    reference : str
        The label set of what the reporter could have seen.
    seed : int
        Of the reports: the same for every labeler that is compared.
    built : dict of pandas.DataFrame
        The label sets of this cohort built so far.
    arguments : Mapping, optional
        Of the labeler.
    **options
        `noise_scale, drain_log_odds, faint_log_odds` of `simulated_report_texts`.
    """
    texts, _ = simulated_report_texts(store, built[reference], seed, **options)
    read = _as_simulated_findings(registry.open_labeler(labeler, **(arguments or {})).read_many(texts))
    table = pd.concat([store.index["image_id"].reset_index(drop=True), read.reset_index(drop=True)], axis=1)
    return table, {
        "who": f"the labeler {labeler!r} of this repository, reading simulated reports",
        "how": "reports written by a grammar, with the omissions and false alarms of real ones; what a report does "
        "not mention counts as absent; airspace_opacity is any of lung opacity, consolidation, infiltration and "
        "pneumonia",
        "version": "1",
        **_SIMULATED,
    }
