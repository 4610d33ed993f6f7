"""The label sets that a cohort can have: published, shipped with its images, one's own, or simulated.

`params.yaml` lists them by cohort; `kind` names a function of `KINDS`, the rest are its arguments.
"""

import numpy as np
import pandas as pd

from cxrlib import catalogue, labelsets, noise, paths, simulate


def published(store, name):
    """Return a published label set (`cxrlib.catalogue`) on the images of the cohort that it has.

    Parameters
    ----------
    store : cohorts.Store
    name : str
        A key of `catalogue.ENTRIES` with one label an image.

    Raises
    ------
    ValueError
        If several readers label each image, or no image of the cohort is in the set.
    """
    found = catalogue.read(name)
    if "reader_id" in found.table:
        single = ", ".join(n for n in catalogue.names() if not catalogue.ENTRIES[n].readers)
        raise ValueError(
            f"{name!r} has several readers an image, so it is no label set of a cohort; those with one label an "
            f"image are {single}."
        )
    inside = found.table["image_id"].isin(store.index["image_id"])
    if not inside.any():
        raise ValueError(
            f"None of the {len(inside)} images of {name!r} is in cohort {store.name!r}: it labels "
            f"{found.card['pixels']} images under the owner's ids."
        )
    card = {field: found.card[field] for field in (*labelsets.CARD_FIELDS, "pixels")}
    return found.table[inside].reset_index(drop=True), {**card, "published": name, "notes": list(found.notes)}


def shipped(store, **card):
    """Return the labels that came with the images (`folder`, torchxrayvision), with the user's card."""
    if len(store.labels.columns) < 2:
        raise ValueError(f"Cohort {store.name!r} came without labels: its source has no column of the vocabulary.")
    return store.labels.copy(), card


def own(store, path, **card):
    """Return a label set of one's own: one CSV with `image_id` and a column per finding.

    Rows of images that the cohort lacks are counted in the card and left out.
    """
    csv = paths.source_path(path)
    rows = labelsets.read_csv(csv, ("image_id",))
    if rows["image_id"].duplicated().any():
        at = int(np.flatnonzero(rows["image_id"].duplicated())[0])
        raise ValueError(
            f"{csv} line {rows.index[at] + 2}: image_id {rows['image_id'].iloc[at]!r} occurs twice; keep one row."
        )
    labels = labelsets.check_label_columns(rows, [c for c in rows.columns if c != "image_id"], csv)
    table = pd.concat([rows["image_id"], labels], axis=1)
    inside = table["image_id"].isin(store.index["image_id"])
    if not inside.any():
        raise ValueError(f"None of the {len(table)} image ids in {csv} is in cohort {store.name!r}.")
    card["how"] = f"{card.get('how', '')} {int((~inside).sum())} rows of images not in the cohort left out.".strip()
    return table[inside].reset_index(drop=True), card


_SIMULATED = {
    "source": "cxrlib.simulate: simulated images, no patients",
    "licence": "Apache-2.0",
    "citation": "this repository",
}

# Which measured noise a simulated finding borrows. Findings that no adjudicated set assesses have none,
# and the simulated report labels do not assess them.
MEASURED_AS = {
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
    for finding in simulate.FINDINGS:
        present = table[finding] == 1
        faint = store.index[f"{finding}_conspicuity"].where(present).rank(pct=True)
        table.loc[present & (faint <= misses_frac), finding] = 0
    return table, {
        "who": "simulated adjudicated panel",
        "how": f"what was drawn, less the faintest {misses_frac:.0%} of each finding (assumed); no false alarms",
        "version": "1",
        **_SIMULATED,
    }


def simulated_reports(store, reference, noise_scale, drain_log_odds, faint_log_odds, seed, built):
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
    """
    measured = pd.read_csv(paths.label_noise_path())
    source = built[reference].set_index("image_id").loc[store.index["image_id"]]
    table = pd.DataFrame({"image_id": store.index["image_id"]})
    for k, (finding, proxy) in enumerate(MEASURED_AS.items()):
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
        "Findings that the adjudicated labels lack are not assessed.",
        "version": "1",
        **_SIMULATED,
    }


KINDS = {
    "published": published,
    "shipped": shipped,
    "own": own,
    "drawn_truth": drawn_truth,
    "simulated_panel": simulated_panel,
    "simulated_reports": simulated_reports,
}


def build(store, settings):
    """Return the label sets of a cohort, as `params.yaml` lists them.

    Parameters
    ----------
    store : cohorts.Store
    settings : Mapping
        Name of the label set -> `kind` (of `KINDS`) and that function's arguments.

    Returns
    -------
    dict of (pandas.DataFrame, dict)
        Table and card by name.
    """
    built = {}
    for name, arguments in settings.items():
        arguments = dict(arguments)
        kind = arguments.pop("kind", None)
        if kind not in KINDS:
            raise ValueError(f"Label set {name!r}: kind {kind!r} is none of {', '.join(KINDS)}.")
        if "reference" in arguments:
            if arguments["reference"] not in built:
                raise ValueError(f"Label set {name!r}: list its reference {arguments['reference']!r} before it.")
            arguments["built"] = {n: table for n, (table, _) in built.items()}
        try:
            built[name] = KINDS[kind](store, **arguments)
        except TypeError as error:
            raise ValueError(f"Label set {name!r}: {error}.") from None
    return built
