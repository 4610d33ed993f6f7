"""The label sets that a cohort can have: published, shipped, one's own, read from reports, or simulated.

`params.yaml` lists them by cohort; `kind` names a function of `KINDS`, the rest are its arguments.
"""

from importlib import import_module

import numpy as np
import pandas as pd

from cxrlib import catalogue, labelsets, noise, paths, report_sources, reports, simulate


def published(store, name, readers=None):
    """Return a published label set (`cxrlib.catalogue`) on the images of the cohort that it has.

    Parameters
    ----------
    store : cohorts.Store
    name : str
        A key of `catalogue.ENTRIES`.
    readers : {"unanimous"}, optional
        What becomes of several readers an image: only what all of them say is a label.

    Raises
    ------
    ValueError
        If several readers label each image and `readers` is not given, or no image of the cohort is in the set.
    """
    found = catalogue.read(name)
    table = found.table
    if "reader_id" in table:
        if readers != "unanimous":
            single = ", ".join(n for n in catalogue.names() if not catalogue.ENTRIES[n].readers)
            raise ValueError(
                f"{name!r} has several readers an image: say readers: unanimous, or take one with one label an image "
                f"({single})."
            )
        by_image = table.drop(columns="reader_id").groupby("image_id")
        table = by_image.min().where(by_image.min() == by_image.max()).reset_index()
    inside = table["image_id"].isin(store.index["image_id"])
    if not inside.any():
        raise ValueError(
            f"None of the {len(inside)} images of {name!r} is in cohort {store.name!r}: it labels "
            f"{found.card['pixels']} images under the owner's ids."
        )
    card = {field: found.card[field] for field in (*labelsets.CARD_FIELDS, "pixels")}
    if "reader_id" in found.table:
        card["how"] = f"{card['how']}; here only what all readers of an image say alike"
    return table[inside].reset_index(drop=True), {**card, "published": name, "notes": list(found.notes)}


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


# --- files that come with CheXpert and MIMIC-CXR ------------------------------------------------------------------

_CHEXPERT = {
    "source": "Stanford, CheXpert",
    "licence": "Stanford's research use agreement",
}
_CHEXPERT_IRVIN = {**_CHEXPERT, "citation": "Irvin J et al. CheXpert. AAAI 2019"}
_MIMIC = {
    "source": "PhysioNet, MIMIC-CXR-JPG",
    "licence": "PhysioNet Credentialed Health Data License 1.5.0",
    "citation": "Johnson AEW et al. MIMIC-CXR-JPG. arXiv:1901.07042",
}
_RULES_HOW = "rules for mention, negation and uncertainty; -1 uncertain, blank not mentioned"

# Who wrote which file that its owner ships.
SHIPPED_BY = {
    "chexpert": {
        "who": "the CheXpert labeler, a program reading the radiology report",
        "how": _RULES_HOW,
        "version": "CheXpert-v1.0, train.csv",
        **_CHEXPERT_IRVIN,
    },
    "chexbert": {
        "who": "CheXbert, a network reading the radiology report",
        "how": "BERT trained on the CheXpert labeler's output, then on radiologists'; -1 uncertain, blank: unsaid",
        "version": "train_cheXbert.csv",
        **_CHEXPERT,
        "citation": "Smit A et al. CheXbert. EMNLP 2020",
    },
    "visualchexbert": {
        "who": "VisualCheXbert, a network reading the radiology report",
        "how": "BERT trained to give what a network sees on the image; present or absent only",
        "version": "train_visualCheXbert.csv",
        **_CHEXPERT,
        "citation": "Jain S et al. VisualCheXbert. CHIL 2021",
    },
    "chexpert_valid_radiologists": {
        "who": "three radiologists, majority",
        "how": "independent reads of the study; every image of it shares its labels",
        "version": "CheXpert-v1.0, valid.csv",
        **_CHEXPERT_IRVIN,
    },
    "chexpert_test_radiologists": {
        "who": "five radiologists, majority",
        "how": "independent reads of the study; every image of it shares its labels",
        "version": "test_labels.csv of CheXlocalize",
        **_CHEXPERT_IRVIN,
    },
    "chexpert_test_labeler": {
        "who": "a program reading the radiology report (the CheXpert labeler or CheXbert)",
        "how": "which of the two, the release does not tell; -1 uncertain, blank not mentioned",
        "version": "test set of 500 studies, labels released 2021",
        "source": "Stanford, rajpurkarlab/cheXpert-test-set-labels",
        "licence": "none stated",
        "citation": "Irvin J et al. CheXpert. AAAI 2019",
    },
    "mimic_chexpert": {
        "who": "the CheXpert labeler, a program reading the radiology report",
        "how": _RULES_HOW,
        "version": "mimic-cxr-2.0.0-chexpert",
        **_MIMIC,
    },
    "mimic_negbio": {
        "who": "NegBio, a program reading the radiology report",
        "how": _RULES_HOW,
        "version": "mimic-cxr-2.0.0-negbio",
        **_MIMIC,
    },
    "mimic_report_radiologist": {
        "who": "one radiologist reading the radiology report, not the image",
        "how": "reports of the test part only; -1 uncertain, blank not mentioned",
        "version": "mimic-cxr-2.1.0-test-set-labeled",
        **_MIMIC,
    },
}
BLANK = ("kept", "absent")  # what a finding that a report does not mention becomes: not assessed, or 0
_SPELLING = {
    **labelsets.CHEXPERT_FINDINGS,
    "Airspace Opacity": "lung_opacity",
}  # so MIMIC's radiologist calls it


def shipped_file(store, path, by, metadata=None, blank="kept"):
    """Return a label file that comes with CheXpert or MIMIC-CXR, on the images of the cohort.

    Parameters
    ----------
    store : cohorts.Store
        Of torchxrayvision's `CheX_Dataset`, `CheXlocalize_Dataset` or `MIMIC_Dataset`.
    path : str
        `.csv` or `.csv.gz` with a column per finding in CheXpert's spelling (only `No Finding` may lack), 1, 0, -1 or
        blank, and `Path` (images, in whatever folder), `Study` (CheXpert's) or `study_id` (MIMIC's): every image of a
        study gets its labels.
    by : str
        Who wrote it, a key of `SHIPPED_BY`: the card.
    metadata : str, optional
        `mimic-cxr-2.0.0-metadata.csv.gz`, needed with `study_id`.
    blank : {"kept", "absent"}
        Whether a blank stays not assessed or counts as absent, as in CheXpert's own networks. -1 is always kept.

    Raises
    ------
    ValueError
        If there is no such `by`, a column is missing, a value is no label, an image or study occurs twice, or no
        image of the cohort is in the file.
    """
    if by not in SHIPPED_BY:
        raise ValueError(f"by: {by!r} is none of {', '.join(SHIPPED_BY)}.")
    csv = paths.source_path(path)
    rows = labelsets.read_csv(csv, ())
    spelling = {theirs: ours for theirs, ours in _SPELLING.items() if theirs in rows}
    missing = sorted(set(_SPELLING.values()) - set(spelling.values()) - {"no_finding"})
    if missing:
        raise ValueError(f"{csv} has no column for {', '.join(missing)}; it has {', '.join(rows.columns)}.")
    labels = rows[list(spelling)].rename(columns=spelling)
    labels = labelsets.check_label_columns(labels, list(labels), csv)
    keys, images = _keys(store, rows, csv, metadata)
    if keys.duplicated().any():
        at = int(np.flatnonzero(keys.duplicated())[0])
        raise ValueError(f"{csv} line {rows.index[at] + 2}: {keys.iloc[at]!r} occurs twice; keep one row.")
    table = images.merge(labels.assign(key=keys), on="key").drop(columns="key")
    if table.empty:
        raise ValueError(f"None of the {len(rows)} rows of {csv} is of an image of cohort {store.name!r}.")
    notes = [f"{len(store.index) - len(table)} of {len(store.index)} images of the cohort are not in {csv.name}."]
    notes.append(f"{int((~keys.isin(images['key'])).sum())} of its {len(rows)} rows are of no image of the cohort.")
    return _with_blanks(table, {**SHIPPED_BY[by], "notes": notes}, blank)


def _keys(store, rows, csv, metadata):
    """Return the key of each row of a shipped file, and `image_id, key` of the cohort's images."""
    ids = store.index["image_id"]
    if "Path" in rows:
        return report_sources.image_key(rows["Path"]), pd.DataFrame(
            {"image_id": ids, "key": report_sources.image_key(ids)}
        )
    if "Study" in rows:
        key = report_sources.image_key(ids).str.rpartition("/")[0]
        return report_sources.image_key(rows["Study"]), pd.DataFrame({"image_id": ids, "key": key})
    if "study_id" not in rows:
        raise ValueError(f"{csv} has no column Path, Study or study_id; it has {', '.join(rows.columns)}.")
    if metadata is None:
        raise ValueError(
            f"{csv} labels studies: name `metadata` (mimic-cxr-2.0.0-metadata.csv.gz), which has images."
        )
    studies = labelsets.read_csv(paths.source_path(metadata), ("dicom_id", "study_id"))
    images = pd.DataFrame({"image_id": ids}).merge(
        studies[["dicom_id", "study_id"]].drop_duplicates("dicom_id"), left_on="image_id", right_on="dicom_id"
    )
    return rows["study_id"], images[["image_id", "study_id"]].rename(columns={"study_id": "key"})


def _with_blanks(table, card, blank):
    """Return a label set with its blanks kept or taken as absent, which the card says with their number."""
    if blank not in BLANK:
        raise ValueError(f"blank: {blank!r} is none of {', '.join(BLANK)}.")
    findings = [c for c in table if c != "image_id"]
    said = f"{int(table[findings].isna().sum().sum())} blank labels, not mentioned, are "
    if blank == "absent":
        table = table.fillna(dict.fromkeys(findings, 0.0))
    notes = [
        *card.get("notes", []),
        said + ("taken as absent." if blank == "absent" else "kept as not assessed."),
    ]
    return table, {**card, "notes": notes}


# --- reports, read by a labeler -------------------------------------------------------------------------------------


def labeler(name, **arguments):
    """Return a report labeler: an object whose `read_many(texts)` gives a row of findings a text.

    Parameters
    ----------
    name : str
        A key of `cxrlib.label.LABELERS`, which is imported only here.
    **arguments
        Of that entry.
    """
    labelers = import_module("cxrlib.label").LABELERS
    if name not in labelers:
        raise ValueError(f"There is no report labeler {name!r}; there are {', '.join(labelers)}.")
    return labelers[name](**arguments)


def _opened(name, arguments):
    return labeler(name, **arguments)


def read_reports(store, labeler, reports, arguments=None, blank="kept", **card):
    """Return what a labeler reads in the reports of the cohort's images.

    Parameters
    ----------
    store : cohorts.Store
    labeler : str
        A name that the function `labeler` knows.
    reports : Mapping
        Where the reports are (`report_sources.read`).
    arguments : Mapping, optional
        Of the labeler.
    blank : {"kept", "absent"}
        Whether what a report does not mention stays not assessed or counts as absent. -1 is always kept.
    **card
        Fields of the card, where they are to say something else.

    Raises
    ------
    ValueError
        If a setting is unknown, no image has a report, or the labeler does not give one row a text.

    Notes
    -----
    Every image of a study gets its report's labels. Images without a report are not in the label set: the card
    counts them.
    """
    unknown = sorted(set(card) - set(labelsets.CARD_FIELDS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is neither an argument of read_reports nor a field of the card.")
    found = report_sources.of_images(report_sources.read(reports), store.index["image_id"])
    texts = found.table.drop_duplicates("report_id").set_index("report_id")["text"]
    said = _opened(labeler, dict(arguments or {})).read_many(texts.tolist())
    if len(said) != len(texts):
        raise ValueError(f"Labeler {labeler!r} gave {len(said)} rows for {len(texts)} reports.")
    labels = said.astype("float32").set_axis(texts.index).loc[found.table["report_id"]].reset_index(drop=True)
    table = pd.concat([found.table["image_id"].reset_index(drop=True), labels], axis=1)
    about = {
        "who": f"the labeler {labeler!r} of this repository, a program reading the radiology report",
        "how": f"{len(texts)} reports of {len(table)} images; section {reports.get('sections', 'impression')}",
        "version": "this revision",
        "source": f"reports from {reports['source']}",
        "licence": "as the reports",
        "citation": "this repository, and the owner of the reports",
        **card,
        "labeler": {"name": labeler, **(arguments or {})},
        "notes": found.notes(),
    }
    return _with_blanks(table, about, blank)


# --- simulated ------------------------------------------------------------------------------------------------------

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


def simulated_report_texts(store, reference, seed, noise_scale=1.0, drain_log_odds=2.0, faint_log_odds=3.0):
    """Return the simulated reports of a simulated cohort's images (`cxrlib.reports`), in the store's order.

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
    return reports.simulated(
        store.index.reset_index(drop=True),
        truth,
        pd.read_csv(paths.label_noise_path()),
        seed,
        scale=noise_scale,
        drain_log_odds=drain_log_odds,
        faint_log_odds=faint_log_odds,
    )


def as_simulated_findings(read):
    """Return a labeler's output on the findings of simulated reports; what is not mentioned counts as absent."""
    read = read.copy()
    parts = [f for f in ("lung_opacity", "consolidation", "infiltration", "pneumonia") if f in read]
    if "airspace_opacity" not in read:
        certain, doubted = (read[parts] == 1).any(axis=1), (read[parts] == -1).any(axis=1)
        read["airspace_opacity"] = np.select([certain, doubted], [1.0, -1.0], 0.0)
    return read[list(reports.FINDINGS)].fillna(0).astype("float32")


def simulated_report_labels(store, labeler, reference, seed, built, arguments=None, **options):
    """Return what a labeler reads in the simulated reports of a simulated cohort.

    Errors arise twice, as in a hospital: the report omits and adds at the rates measured on real ones, and the
    labeler misreads.

    Parameters
    ----------
    store : cohorts.Store
    labeler : str
        A key of `cxrlib.label.LABELERS`.
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
    read = as_simulated_findings(_opened(labeler, dict(arguments or {})).read_many(texts))
    table = pd.concat([store.index["image_id"].reset_index(drop=True), read.reset_index(drop=True)], axis=1)
    return table, {
        "who": f"the labeler {labeler!r} of this repository, reading simulated reports",
        "how": "reports written by a grammar, with the omissions and false alarms of real ones; what a report does "
        "not mention counts as absent; airspace_opacity is any of lung opacity, consolidation, infiltration and "
        "pneumonia",
        "version": "1",
        **_SIMULATED,
    }


# --- finding or no finding, made from other label sets ------------------------------------------------------------

_NOT_FINDINGS = ("image_id", "no_finding", "abnormal", "support_devices", *simulate.DEVICES)


def any_finding(store, reference, built, findings=None):
    """Return finding (`abnormal` 1) or no finding (0) of each image, as another label set has it.

    Where that set says `abnormal` or `no_finding` itself, this is taken; else an image is abnormal if any finding is
    present, uncertain if one is uncertain, and not assessed if one is missing and none present.

    Parameters
    ----------
    store : store.Store
    reference : str
        The label set.
    built : dict of pandas.DataFrame
    findings : sequence of str, optional
        Only these make an image abnormal; an image without them that is not normal either is not assessed.
    """
    table = built[reference]
    every = [c for c in table if c not in _NOT_FINDINGS]
    listed = every if findings is None else list(findings)
    missing = [f for f in listed if f not in table]
    if missing:
        raise ValueError(f"label set {reference!r} does not assess {missing[0]!r}; it has {', '.join(every)}.")
    present = (table[listed] == 1).any(axis=1)
    if "abnormal" in table or "no_finding" in table:
        said = table["abnormal"] if "abnormal" in table else table["no_finding"].replace({1: 0, 0: 1})
        present = present if findings is not None else said == 1
        value = said.where((said != 1) | present)
    else:
        value = pd.Series(np.nan, table.index).mask((table[every] == 0).all(axis=1), 0)
        value = value.mask((table[listed] == -1).any(axis=1), -1)
    words = "whatever it is" if findings is None and listed != every else "any of " + ", ".join(listed)
    return pd.DataFrame({"image_id": table["image_id"], "abnormal": value.mask(present, 1).astype("float32")}), {
        "who": f"the label set {reference!r}",
        "how": f"abnormal: {words}; an image with another finding alone is not assessed",
        **_DERIVED,
    }


def agreeing(store, reference, built, also):
    """Return a label set where others say the same, the rest not assessed; curated test sets are such.

    Parameters
    ----------
    store : store.Store
    reference : str
        The label set.
    built : dict of pandas.DataFrame
    also : sequence of str
        The others.
    """
    table = built[reference].set_index("image_id")
    for name in also:
        other = built[name].set_index("image_id").reindex(table.index)
        table = table[[f for f in table if f in other]]
        table = table.where(table == other[table.columns])
    return table.reset_index(), {
        "who": f"the label set {reference!r}",
        "how": f"only where {', '.join(also)} says the same",
        **_DERIVED,
    }


def permuted(store, reference, built, seed):
    """Return a label set with its labels dealt out anew among its images: nothing to learn in them (a control)."""
    table = built[reference]
    order = np.random.default_rng(seed).permutation(len(table))
    dealt = table.drop(columns="image_id").iloc[order].reset_index(drop=True)
    return pd.concat([table["image_id"].reset_index(drop=True), dealt], axis=1), {
        "who": "nobody",
        "how": f"the labels of {reference!r}, dealt out anew at random",
        **_DERIVED,
    }


_DERIVED = {
    "version": "1",
    "source": "made from another label set of this cohort",
    "licence": "that of its source",
    "citation": "that of its source",
}

KINDS = {
    "any_finding": any_finding,
    "agreeing": agreeing,
    "permuted": permuted,
    "published": published,
    "shipped": shipped,
    "own": own,
    "shipped_file": shipped_file,
    "read_reports": read_reports,
    "drawn_truth": drawn_truth,
    "simulated_panel": simulated_panel,
    "simulated_reports": simulated_reports,
    "simulated_report_labels": simulated_report_labels,
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
        needed = [arguments[k] for k in ("reference",) if k in arguments] + list(arguments.get("also", []))
        if needed:
            late = [n for n in needed if n not in built]
            if late:
                raise ValueError(f"Label set {name!r}: list its reference {late[0]!r} before it.")
            arguments["built"] = {n: table for n, (table, _) in built.items()}
        try:
            built[name] = KINDS[kind](store, **arguments)
        except TypeError as error:
            raise ValueError(f"Label set {name!r}: {error}.") from None
    return built
