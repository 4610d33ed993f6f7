"""The case tables of the explorer: every label and every run's probability, as the studies use them."""

import numpy as np
import pandas as pd

from cxrlib.base import paths, runs
from cxrlib.site import explorer_files
from cxrlib.studies import case_tables

_PARTS = ("valid", "test")
_VISUAL = "visual"  # the label set of the labeler that reads images (notebook 13)
_SAYS = {  # what a label set of each kind holds, in the page's words
    "drawn_truth": "every finding that the simulation drew, however faint",
    "simulated_panel": "a simulated panel of radiologists: what was drawn, less the faintest",
    "simulated_reports": "simulated report labels: the panel's labels with the error rates of real report labels",
    "simulated_report_labels": "what a labeler read in the simulated report",
    "any_finding": "abnormal or not, from the findings of another label set",
    "agreeing": "abnormal or not, where panel and reports agree",
    "permuted": "labels shuffled among images, a control",
    "bert": "what the language-model labeler read in the simulated report",
    "rules": "what the rule labeler read in the simulated report",
    _VISUAL: "what a network read in the image, which was trained on what the rule labeler read in reports",
}


def case_tables_of(settings):
    """Return the case tables of an edition: name to `cohort, split, title`."""
    train = settings["train_cohort"]
    out = {}
    for cohort in settings["test_cohorts"]:
        hospital = settings["cohorts"][cohort]["hospital"]
        out[cohort] = (cohort, "main", f"{hospital} hospital, the split of studies 1, 2, 4 and 5")
    for split in settings["finding"]["splits"]:
        title = f"{settings['cohorts'][train]['hospital']} hospital, study 3, split {split.replace('_', ' ')}"
        out[f"{train}-{split}"] = (train, split, title)
    return out


def read_cases(edition, settings):
    """Return the case tables of an edition by name, each a pandas.DataFrame.

    Raises
    ------
    FileNotFoundError
        If one is neither in `data/cases` nor in `results/EDITION/cases`; the message says which target makes it.
    """
    return {
        name: case_tables.read(edition, cohort, split)
        for name, (cohort, split, _) in case_tables_of(settings).items()
    }


def case_data(table, title, hospital):
    """Return a case table as the page reads it.

    Returns
    -------
    dict
        `title, hospital, images_n, patients_n, image_ids`; packed `part` (0 validation, 1 test) and `patients`;
        `labels` by label set and finding, `probabilities` by run and finding, float32 as in the table.
    """
    labels, probabilities = {}, {}
    for column in table:
        kind, *rest = column.split(".")
        if kind == "label":
            labels.setdefault(rest[0], {})[rest[1]] = explorer_files.packed_labels(table[column])
        elif kind == "probability":
            probabilities.setdefault(rest[0], {})[rest[1]] = explorer_files.packed(table[column].to_numpy(), "f4")
    return {
        "title": title,
        "hospital": hospital,
        "images_n": len(table),
        "patients_n": int(table["patient_id"].nunique()),
        "image_ids": table["image_id"].tolist(),
        "part": explorer_files.packed(table["split"].map(_PARTS.index).to_numpy(), "u1"),
        "patients": explorer_files.packed(pd.factorize(table["patient_id"])[0], "u2"),
        "labels": labels,
        "probabilities": probabilities,
    }


def with_visual_labels(table, edition):
    """Return a case table with the labels of the labeler that reads images, or as it was where there are none."""
    try:
        decided = pd.read_parquet(paths.to_read(paths.visual_labels_path(edition, "decided")))
    except FileNotFoundError:
        return table
    decided = decided[decided["labeler"] == _VISUAL].set_index("image_id")
    columns = {
        case_tables.label(_VISUAL, finding): decided[finding].reindex(table["image_id"]).to_numpy(np.float32)
        for finding in decided.columns.drop("labeler")
    }
    return table.assign(**columns)


def label_set_notes(settings):
    """Return what each label set of the training cohort holds, in the page's words, by name."""
    found = {_VISUAL: _SAYS[_VISUAL]}
    for name, how in settings["label_sets"][settings["train_cohort"]].items():
        found[name] = _SAYS.get(how.get("labeler")) or _SAYS[how["kind"]]
    return found


def run_notes(settings):
    """Return of each planned run its target, network, seed, and the label set that it was trained on, by key."""
    return {
        runs.key(target, architecture, seed): {
            "target": target,
            "network": architecture,
            "seed": seed,
            "trained_on": settings["targets"][target]["label_set"],
        }
        for target, architecture, seed in runs.planned(settings)
    }
