"""CheXpert's training labels, and readers, labeler and models on its 500 test studies."""

import pandas as pd

from cxrlib.base import label_tables, vocabulary
from cxrlib.releases import owner_tables

CHEXPERT_PANEL = ("bc1", "bc2", "bc3", "bc5", "bc7")  # the radiologists whose majority is the test set's truth


CHEXPERT_BENCHMARK = ("bc4", "bc6", "bc8")  # the radiologists whom models were compared with


CHEXPERT_MODELS = (
    "desmond",
    "drnet",
    "hieupham",
    "ihil",
    "jfaboy",
    "ngango2",
    "ngango3",
    "sensexdr",
    "uestc",
    "yww211",
)


_CHEXPERT_TRUTH = "chexpert_test/groundtruth.csv"


_CHEXPERT_LABELER = "chexpert_test/report_labeler.csv"


_CHEXPERT_READERS = (
    *(f"chexpert_test/radiologists/groundtruth/{reader}_gt.csv" for reader in CHEXPERT_PANEL),
    *(f"chexpert_test/radiologists/benchmark_radiologists/{reader}.csv" for reader in CHEXPERT_BENCHMARK),
)


CHEXPERT_MODEL_FILES = tuple(
    f"chexpert_test/model_predictions/standard/{model}_predictions.csv" for model in CHEXPERT_MODELS
)


def _chexpert_patients(image_ids, file):
    patients = image_ids.str.extract(r"(patient\d+)", expand=False)
    if patients.isna().any():
        raise ValueError(f"{file}: {image_ids[patients.isna()].iloc[0]!r} names no patient.")
    return patients


def _chexpert_labeler():
    """Return labels, images and notes of the release `chexpert_labeler`."""
    file = "chexpert_train.csv.gz"
    raw = owner_tables.package_table(
        file, ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *vocabulary.CHEXPERT_FINDINGS)
    )
    labels = raw[list(vocabulary.CHEXPERT_FINDINGS)].rename(columns=vocabulary.CHEXPERT_FINDINGS)
    table = owner_tables.release_table(raw["Path"], labels)
    owner_tables.check_words(raw["Frontal/Lateral"], ("Frontal", "Lateral"), file, "Frontal/Lateral")
    images = owner_tables.release_images(
        image_id=raw["Path"],
        patient_id=_chexpert_patients(raw["Path"], file),
        view=raw["AP/PA"].mask(raw["Frontal/Lateral"] == "Lateral", "L"),
        sex=raw["Sex"].map({"Male": "M", "Female": "F"}),
        age=raw["Age"].mask(raw["Age"] == 0),
    )
    counts = labels.stack().value_counts()
    odd = int((images["view"].isin(["LL", "RL"])).sum())
    notes = [
        f"All {len(table):,} rows are taken; {int(counts.get(-1, 0)):,} labels are uncertain (-1) and "
        f"{int(labels.isna().sum().sum()):,} are blank: not mentioned, kept as not assessed.",
        f"{int((images['view'] == 'L').sum()):,} images are lateral; {odd} are called frontal with view LL or RL, "
        "kept as that.",
        f"{int(images['age'].isna().sum())} ages of 0, which means unknown, and {int(images['sex'].isna().sum())} "
        "sex 'Unknown' are missing.",
    ]
    return table, images, notes


def _chexpert_test(file):
    """Return a table of CheXpert's 500 test studies: `image_id` (the study) and 14 findings."""
    raw = owner_tables.labels_csv(file, ("Study", *vocabulary.CHEXPERT_FINDINGS))
    raw = raw.rename(columns={"Study": "image_id", **vocabulary.CHEXPERT_FINDINGS})
    return owner_tables.release_table(
        raw["image_id"], label_tables.check_label_columns(raw, list(vocabulary.CHEXPERT_FINDINGS.values()), file)
    )


def _chexpert_studies(table, file):
    studies = table["image_id"].drop_duplicates()
    return owner_tables.release_images(image_id=studies, patient_id=_chexpert_patients(studies, file))


_STUDIES = "Ids are studies: all images of one share its labels."


def _chexpert_test_majority():
    """Return labels, images and notes of the release `chexpert_test_majority`."""
    table = _chexpert_test(_CHEXPERT_TRUTH)
    return table, _chexpert_studies(table, _CHEXPERT_TRUTH), [_STUDIES, f"{len(table)} studies; no row is dropped."]


def _chexpert_test_readers():
    """Return labels, images and notes of the release `chexpert_test_readers`."""
    parts = [_chexpert_test(file) for file in _CHEXPERT_READERS]
    for file, part in zip(_CHEXPERT_READERS, parts, strict=True):
        if set(part["image_id"]) != set(parts[0]["image_id"]):
            raise ValueError(f"{file} and {_CHEXPERT_READERS[0]} are of different studies.")
    whole = pd.concat(
        [p.assign(reader_id=r) for p, r in zip(parts, (*CHEXPERT_PANEL, *CHEXPERT_BENCHMARK), strict=True)]
    )
    table = owner_tables.release_table(
        whole["image_id"], whole[list(vocabulary.CHEXPERT_FINDINGS.values())], whole["reader_id"]
    )
    notes = [
        _STUDIES,
        f"{len(parts)} radiologists read {len(parts[0])} studies each; no row is dropped.",
        f"The majority of {', '.join(CHEXPERT_PANEL)} is chexpert_test_majority; {', '.join(CHEXPERT_BENCHMARK)} "
        "are the benchmark: only these are independent of it.",
    ]
    return table, _chexpert_studies(table, _CHEXPERT_READERS[0]), notes


def _chexpert_test_labeler():
    """Return labels, images and notes of the release `chexpert_test_labeler`."""
    table = _chexpert_test(_CHEXPERT_LABELER)
    labels = table.drop(columns="image_id")
    notes = [
        _STUDIES,
        f"{len(table)} studies; {int((labels == -1).sum().sum())} labels are uncertain (-1) and "
        f"{int(labels.isna().sum().sum()):,} blank: not mentioned.",
        "The owner's CheXpert and CheXbert files are the same bytes, so which labeler's output this is cannot be "
        "told.",
    ]
    return table, _chexpert_studies(table, _CHEXPERT_LABELER), notes


def chexpert_test_models():
    """Return what ten leaderboard models said of CheXpert's 500 test studies.

    Returns
    -------
    pandas.DataFrame
        `image_id` (the study), `model`, `finding`, `score` (float64), 25,000 rows: ten models, five findings.
        Scores are raw: desmond's edema and effusion and ngango2's atelectasis exceed 1 (up to 2.8), so they
        rank studies but are no probabilities.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, is not of the same studies as the first, or holds no numbers.

    Notes
    -----
    The models are not all independent: drnet, ihil, sensexdr and uestc share their scores of atelectasis,
    consolidation and effusion (the first three also of edema). Rajpurkar et al., CheXternal, CHIL 2021.
    """
    missing = [file for file in CHEXPERT_MODEL_FILES if owner_tables.find_labels(file) is None]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} is not in $CXR_DATA/labels or data/sources/labels: run `cxr fetch chexpert_test_models`."
        )
    parts = []
    for model, file in zip(CHEXPERT_MODELS, CHEXPERT_MODEL_FILES, strict=True):
        found = [
            f for f in vocabulary.CHEXPERT_FINDINGS if f in ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema")
        ]
        raw = owner_tables.labels_csv(file, ("Study", *found, "Pleural Effusion")).rename(
            columns={"Study": "image_id"}
        )
        long = raw.melt("image_id", var_name="finding", value_name="score")
        owner_tables.check_words(long["finding"], vocabulary.CHEXPERT_FINDINGS, file, "column")
        long["score"] = pd.to_numeric(long["score"], errors="coerce").astype("float64")
        if long["score"].isna().any():
            raise ValueError(
                f"{file}: study {long['image_id'][long['score'].isna()].iloc[0]!r} has a score that is no number."
            )
        other = bool(parts) and set(long["image_id"]) != set(parts[0]["image_id"])
        if other or raw["image_id"].duplicated().any():
            raise ValueError(f"{file} and {CHEXPERT_MODEL_FILES[0]} are of different studies, or one occurs twice.")
        parts.append(long.assign(model=model, finding=long["finding"].map(vocabulary.CHEXPERT_FINDINGS)))
    return pd.concat(parts, ignore_index=True)[["image_id", "model", "finding", "score"]]


# Release to the function that returns its labels, images and notes.
LOADERS = {
    "chexpert_labeler": _chexpert_labeler,
    "chexpert_test_majority": _chexpert_test_majority,
    "chexpert_test_readers": _chexpert_test_readers,
    "chexpert_test_labeler": _chexpert_test_labeler,
}
