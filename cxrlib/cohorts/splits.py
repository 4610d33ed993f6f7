"""Splits, always disjoint by patient, and the training tables (targets) that stand on them."""

import numpy as np
import pandas as pd

from cxrlib.base import paths, tables
from cxrlib.releases import pixels

SPLITS = ("train", "valid", "test")


def pixel_family(settings):
    """Return which collection a cohort's pixels come from.

    Parameters
    ----------
    settings : Mapping
        The cohort's section of `params.yaml`: `pixels` if given, else the dataset or source it names, by the
        families of `catalogue.SAME_PIXELS`.
    """
    name = settings.get("pixels") or settings.get("dataset") or settings["source"]
    if name == "simulated":
        return f"simulated {settings['hospital']}"
    return pixels.PIXELS.get(name) or f"{name} {settings.get('folder', '')}".strip()


def check_external(train_cohort, test_cohort, settings):
    """Raise a ValueError if a test cohort shares pixels with the training cohort.

    Parts of one collection that its owner divided by patient (CheXpert's train, valid and test) may test each other
    if each says which it is, `official_part`; `check_apart` then holds them to it.

    Parameters
    ----------
    train_cohort, test_cohort : str
    settings : Mapping
        The `cohorts` section of `params.yaml`.
    """
    train, test = pixel_family(settings[train_cohort]), pixel_family(settings[test_cohort])
    parts = [settings[cohort].get("official_part") for cohort in (train_cohort, test_cohort)]
    if train == test and (None in parts or parts[0] == parts[1]):
        raise ValueError(f"{test_cohort!r} is not external to {train_cohort!r}: {pixels.shared_reason(train)}")


def check_no_shared_files(train_index, test_index, train_cohort, test_cohort):
    """Raise a ValueError if two cohorts hold the same image file, by SHA-256."""
    shared = set(train_index["sha256"]) & set(test_index["sha256"])
    if shared:
        first = test_index["image_id"][test_index["sha256"].isin(shared)].iloc[0]
        raise ValueError(
            f"{len(shared)} images of {test_cohort!r} are also in {train_cohort!r} (the first: {first}): "
            "it is not an external test set until they are removed."
        )


def check_apart(train_index, test_index, train_cohort, test_cohort, settings):
    """Raise a ValueError if two cohorts hold the same image file, or parts of one collection the same patient.

    Parameters
    ----------
    train_index, test_index : pandas.DataFrame
        Packed cohorts' `images.parquet`.
    train_cohort, test_cohort : str
    settings : Mapping
        The `cohorts` section of `params.yaml`.
    """
    check_no_shared_files(train_index, test_index, train_cohort, test_cohort)
    if pixel_family(settings[train_cohort]) != pixel_family(settings[test_cohort]):
        return  # patients of two collections may have the same number and be two people
    shared = sorted(set(train_index["patient_id"]) & set(test_index["patient_id"]))
    if shared:
        raise ValueError(
            f"{len(shared)} patients of {test_cohort!r} are also in {train_cohort!r} (the first: {shared[0]}): these "
            "are not the parts that the owner divided by patient."
        )


def _assign(patients, fractions, rng):
    """Return a split for each patient, in the given fractions of patients."""
    order = rng.permutation(len(patients))
    edges = np.floor(np.cumsum(list(fractions.values()))[:-1] * len(patients) + 1e-9).astype(int)
    names = np.array(list(fractions), object)
    return pd.Series(names[np.searchsorted(edges, np.arange(len(patients)), side="right")], index=patients[order])


def _check_fractions(fractions):
    if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values()) < 0 or set(fractions) - set(SPLITS):
        raise ValueError(
            f"split fractions {dict(fractions)} must name {', '.join(SPLITS)}, none below 0, and sum to 1."
        )


def by_patient(index, fractions, seed):
    """Return a random split by patient.

    Parameters
    ----------
    index : pandas.DataFrame
        With `image_id, patient_id`.
    fractions : Mapping of str to float
        Of patients; sums to 1.
    seed : int

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, split`.
    """
    _check_fractions(fractions)
    patients = np.array(sorted(index["patient_id"].unique()), object)
    split = index["patient_id"].map(_assign(patients, fractions, np.random.default_rng(seed)))
    return checked(index[["image_id", "patient_id"]].assign(split=split.astype("string")))


def official(index, valid_frac, seed):
    """Return the publisher's split: its test list, and a validation part of its train_val list by patient.

    Images in neither list are left out of every split (`split` is missing).
    """
    if index["official_split"].isna().all():
        raise ValueError(
            "This cohort has no official split: put train_val_list.txt and test_list.txt beside its images."
        )
    inside = index[index["official_split"] == "train_val"]
    part = by_patient(inside, {"valid": valid_frac, "train": 1 - valid_frac}, seed).set_index("image_id")["split"]
    split = index["image_id"].map(part).astype("string")
    split = split.mask(
        (index["official_split"] == "test").fillna(False).astype(bool), "test"
    )  # mask() takes NA as true
    return checked(index[["image_id", "patient_id"]].assign(split=split))


def listed(index, path, image="image_id"):
    """Return the split that a table gives, such as `mimic-cxr-2.0.0-split.csv.gz`.

    Parameters
    ----------
    index : pandas.DataFrame
    path : str
        A CSV with the image's id and `split`: train, valid (or validate, val) or test. Images that it does not list
        are left out of every split.
    image : str
        The column of the image's id (`dicom_id`).
    """
    csv = paths.source_path(path)
    rows = tables.read_csv(csv, (image, "split")).drop_duplicates([image, "split"])
    if rows[image].duplicated().any():
        raise ValueError(
            f"{csv}: image {rows[image][rows[image].duplicated()].iloc[0]!r} is in two splits: keep one row of it."
        )
    split = index["image_id"].map(rows.set_index(image)["split"].replace({"validate": "valid", "val": "valid"}))
    if split.isna().all():
        raise ValueError(f"None of the {len(rows)} images of {csv} is in the cohort.")
    try:
        return checked(index[["image_id", "patient_id"]].assign(split=split.astype("string")))
    except ValueError as error:
        raise ValueError(f"{csv}: {error}") from None


def _leak_pair(index, fractions, seed):
    """Return two splits with the same test images, one by image and one by patient, with parts of the same sizes.

    Test images are drawn at random. By patient, training and validation images are of patients without a test image;
    by image they are drawn from all the others, as many.
    """
    _check_fractions(fractions)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(index))
    test = np.zeros(len(index), bool)
    test[order[: round(fractions["test"] * len(index))]] = True
    patient = index["patient_id"].to_numpy(object)
    free = index[~np.isin(patient, patient[test])]
    rest = fractions["train"] + fractions["valid"]
    parts = by_patient(free, {part: fractions[part] / rest for part in ("train", "valid")}, seed)
    apart = np.where(test, "test", None).astype(object)
    apart[free.index] = parts["split"].to_numpy(object)
    mixed = np.where(test, "test", None).astype(object)
    others = order[~test[order]]
    train_n, valid_n = (int((parts["split"] == part).sum()) for part in ("train", "valid"))
    mixed[others[:train_n]], mixed[others[train_n : train_n + valid_n]] = "train", "valid"
    return tuple(index[["image_id", "patient_id"]].assign(split=pd.array(s, "string")) for s in (mixed, apart))


def by_image(index, fractions, seed):
    """Return a random split by image, as many papers have it: a patient can be in several parts.

    It is made to be compared with `by_patient_beside`: both have the same test images, and as many images to train
    and to validate on.

    Parameters
    ----------
    index : pandas.DataFrame
        With `image_id, patient_id`.
    fractions : Mapping of str to float
        Of images; sums to 1. The training and validation parts come out smaller, in the same ratio, since what they
        have is what patients without a test image have.
    seed : int
    """
    return checked(_leak_pair(index.reset_index(drop=True), fractions, seed)[0], patients_apart=False)


def by_patient_beside(index, fractions, seed):
    """Return the split by patient whose test images are those of `by_image` with the same arguments."""
    return checked(_leak_pair(index.reset_index(drop=True), fractions, seed)[1])


def all_test(index):
    """Return a split that puts everything into the test set: an external cohort."""
    return checked(index[["image_id", "patient_id"]].assign(split=pd.Series("test", index.index, dtype="string")))


def checked(split, patients_apart=True):
    """Return a split table if it is one, else raise a ValueError naming the image or patient.

    Parameters
    ----------
    split : pandas.DataFrame
    patients_apart : bool
        Whether a patient may be in one part only. False only where the leak itself is measured.
    """
    if split["image_id"].duplicated().any():
        raise ValueError(
            f"image {split['image_id'][split['image_id'].duplicated()].iloc[0]!r} is in the split twice."
        )
    placed = split.dropna(subset="split")
    unknown = set(placed["split"]) - set(SPLITS)
    if unknown:
        raise ValueError(f"split {sorted(unknown)[0]!r} is none of {', '.join(SPLITS)}.")
    spread = placed.groupby("patient_id")["split"].nunique()
    if patients_apart and (spread > 1).any():
        patient = spread.index[spread > 1][0]
        where = ", ".join(sorted(placed["split"][placed["patient_id"] == patient].unique()))
        raise ValueError(f"patient {patient!r} is in {where}: a split must be disjoint by patient.")
    return split.reset_index(drop=True)


_SPLIT_KINDS = {f.__name__: f for f in (by_patient, official, listed, by_image, by_patient_beside)}


def make(index, settings):
    """Return a split of the `splits` section of `params.yaml` (`kind` and its arguments).

    `main` is the split that a target has unless it names another; it is by patient. `leave_out` may list images that
    are to be in no part, such as copies of others (`cxrlib.cohorts.leaks`); of the rest the parts stay as they were.

    Raises
    ------
    ValueError
        If there is no such kind, or an image of `leave_out` is not in the cohort.
    """
    settings = dict(settings)
    kind = settings.pop("kind", None)
    left_out = list(settings.pop("leave_out", ()))
    if kind not in _SPLIT_KINDS:
        raise ValueError(f"split kind {kind!r} is none of {', '.join(_SPLIT_KINDS)}.")
    unknown = sorted(set(left_out) - set(index["image_id"]))
    if unknown:
        raise ValueError(f"leave_out of a split names {unknown[0]!r}, which is no image of the cohort.")
    split = _SPLIT_KINDS[kind](index, **settings)
    return split.assign(split=split["split"].mask(split["image_id"].isin(left_out))) if left_out else split
