"""Real label tables in the explorer: two label sets of the same radiographs, compared without any pixel.

Image ids are shown of tables that the torchxrayvision package or `third_party/` passes on under stated terms. Of the
others (CheXpert's and Google's single readers among them) the page shows counts alone, from a committed table that
`count_pairs` makes where the owners' tables are.
"""

import itertools

import numpy as np
import pandas as pd

from cxrlib.base import label_tables, paths, tables
from cxrlib.releases import catalogue, chexpert, google
from cxrlib.site import explorer_files
from cxrlib.statistics import intervals, resampling
from cxrlib.studies import auditing

WITH_IDS = ("google_adjudicated", "rsna_opacity_on_nih", "mgh_platinum", "nih_reports")  # the reference first
_REPORTS = "nih_reports"
_COUNTED = {  # label sets that are compared by counts alone, by family of images; readers are taken one by one
    "chexpert_test": ("chexpert_test_majority", "chexpert_test_readers", "chexpert_test_labeler"),
    "google_810": ("google_all_majority", "google_all_readers", "nih_reports"),
    "vindr": ("vindr_readers",),
}
_BLANK_IS_ABSENT = ("chexpert_test_labeler",)  # what a report does not mention counts as absent
_PANELS = (*chexpert.CHEXPERT_PANEL, *google.GOOGLE_ALL_PANEL)  # readers whose majority is a label set too
_LEAST_PATIENTS = 100  # that two readers have in common
_RESAMPLES_N, _SEED = 1000, 1
COLUMNS = (
    *("family", "reference", "other", "finding", "images_n", "patients_n", "tp", "fp", "fn", "tn"),
    *("kappa", "kappa_low", "kappa_high"),
)


def counts_path():
    """Return the committed table of counts of pairs whose ids are not shown."""
    return paths.ROOT / "results" / "explorer" / "pairs.csv"


def real_data():
    """Return real label sets of ChestX-ray14 by image, and counts of those that may not be passed on.

    Returns
    -------
    dict
        `ids`, packed: patient * 1000 + follow-up number, of which the page makes the file's name; `parts`, packed: 1
        in Google's validation part, 2 in its test part, 0 in neither; `sets` by name: `card` and packed `labels` by
        finding; `counts`: `columns` and `rows` of `pairs.csv`; `cards` of the label sets that these are of.

    Raises
    ------
    FileNotFoundError
        If the table of counts is not here.
    """
    releases = {name: catalogue.read_release(name) for name in WITH_IDS}
    read = [releases[name].table["image_id"] for name in WITH_IDS if name != _REPORTS]
    ids = pd.Index(sorted(set().union(*(set(each.tolist()) for each in read))))
    google = releases["google_adjudicated"].images.set_index("image_id")["part"].reindex(ids)
    sets = {}
    for name, release in releases.items():
        table = release.table.set_index("image_id").reindex(ids)
        labels = {f: explorer_files.packed_labels(table[f].to_numpy(float)) for f in table if table[f].notna().any()}
        sets[name] = {"card": _card(release.card), "labels": labels}
    number = ids.str.slice(0, 8).astype(int) * 1000 + ids.str.slice(9, 12).astype(int)
    return {
        "ids": explorer_files.packed(number.to_numpy(), "u4"),
        "parts": explorer_files.packed(google.map({"val": 1, "test": 2}).fillna(0).to_numpy(int), "u1"),
        "sets": sets,
        "counts": _counted_rows(),
        "cards": {name: _card(catalogue.ENTRIES[name].card) for names in _COUNTED.values() for name in names},
    }


def _card(card):
    return {field: card[field] for field in label_tables.CARD_FIELDS}


def _counted_rows():
    path = counts_path()
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not in results/explorer: restore it with `git checkout {path}`.")
    table = tables.read_csv(path, COLUMNS)
    for column in table.columns[4:]:
        table[column] = pd.to_numeric(table[column])
    plain = table.astype(object).where(table.notna(), None)
    return {"columns": list(COLUMNS), "rows": plain[list(COLUMNS)].to_numpy().tolist()}


def count_pairs():
    """Return how any two opinions of a family of images part: cells, kappa and its interval over patients.

    Only counts leave the owners' tables. Two readers are compared on the images that both have read, if these are of
    100 patients or more. What is uncertain counts as absent.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`: `tp` both say present, `fp` only the other, `fn` only the reference, `tn` neither.

    Raises
    ------
    FileNotFoundError
        If a table is not here; the message says where it is to be had.
    """
    rows = []
    for family, names in _COUNTED.items():
        opinions, patients = _opinions(names)
        for (one, first), (two, second) in itertools.combinations(opinions.items(), 2):
            rows += _compared(first, second, patients, family=family, reference=one, other=two)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _opinions(names):
    """Return labels by image id of every label set and reader, by name, and the patient of each image."""
    opinions, patients = {}, {}
    for name in names:
        release = catalogue.read_release(name)
        images = release.images.set_index("image_id")["patient_id"]
        patients |= images.fillna(images.index.to_series()).to_dict()
        if not catalogue.ENTRIES[name].readers:
            table = release.table.set_index("image_id")
            opinions[name] = table.fillna(0) if name in _BLANK_IS_ABSENT else table
            continue
        for reader, part in release.table.groupby("reader_id"):
            role = " (of the majority)" if reader in _PANELS else ""
            opinions[f"{name}: {reader}{role}"] = part.drop(columns="reader_id").set_index("image_id")
    return opinions, patients


def _compared(first, second, patients, **where):
    """Return a row a finding that both assess, of images that both have read."""
    rows = []
    for finding in [f for f in first if f in second]:
        policy = {
            side: pd.DataFrame({finding: label_tables.apply_policy(labels[finding], "u_zeros")}, index=labels.index)
            for side, labels in (("first", first), ("second", second))
        }
        both = auditing.pair(policy["first"], policy["second"], finding)
        patient = both.index.map(patients).to_numpy(object)
        if len(np.unique(patient.astype(str))) < _LEAST_PATIENTS:
            continue
        a, b = both["reference"].to_numpy(), both["other"].to_numpy()
        resamples = resampling.patient_resamples(patient, _RESAMPLES_N, np.random.default_rng(_SEED))
        kappa = intervals.rate_intervals(a, b, resamples)["kappa"]
        cells = {
            "tp": int(((a == 1) & (b == 1)).sum()),
            "fp": int(((a == 0) & (b == 1)).sum()),
            "fn": int(((a == 1) & (b == 0)).sum()),
            "tn": int(((a == 0) & (b == 0)).sum()),
        }
        sizes = {"images_n": len(both), "patients_n": len(np.unique(patient.astype(str)))}
        value = {"kappa": kappa.estimate, "kappa_low": kappa.low, "kappa_high": kappa.high}
        rows.append({**where, "finding": finding, **sizes, **cells, **value})
    return rows
