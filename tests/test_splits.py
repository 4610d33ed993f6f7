"""Splits never share a patient; external cohorts never share pixels; targets differ in labels alone."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import label_tables
from cxrlib.cohorts import splits
from cxrlib.labels import targets
from cxrlib.releases import nih
from cxrlib.releases.google import read_google_four

NAN = float("nan")
FRACTIONS = {"train": 0.6, "valid": 0.15, "test": 0.25}
NIH = Path(os.environ.get("CXR_DATA") or "nowhere") / "nih"
needs_lists = pytest.mark.skipif(
    not (NIH / "test_list.txt").exists(), reason="CXR_DATA is not set, or $CXR_DATA/nih lacks NIH's two lists"
)


def patients_of(n, seed=0):
    """Return an index of n patients with 1 to 12 images each, rows in no order."""
    rng = np.random.default_rng(seed)
    patient = np.repeat([f"p{i:04d}" for i in range(n)], rng.integers(1, 13, n))
    index = pd.DataFrame({"image_id": [f"i{k:05d}" for k in range(len(patient))], "patient_id": patient})
    return index.sample(frac=1, random_state=seed).reset_index(drop=True)


def with_lists(index, test_frac=0.3):
    patients = sorted(index["patient_id"].unique())
    listed = dict.fromkeys(patients[: int(test_frac * len(patients))], "test")
    where = index["patient_id"].map(lambda p: pd.NA if p == patients[-1] else listed.get(p, "train_val"))
    return index.assign(official_split=where.astype("string"))


def disjoint(split):
    return split.dropna(subset="split").groupby("patient_id")["split"].nunique().eq(1).all()


# --- by patient --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fractions", [FRACTIONS, {"valid": 0.1, "train": 0.9}, {"train": 1 / 3, "valid": 1 / 3, "test": 1 / 3}]
)
@pytest.mark.parametrize("n", [3, 20, 997])
def test_by_patient(n, fractions):
    index = patients_of(n)
    split = splits.by_patient(index, fractions, seed=5)
    assert disjoint(split) and split["split"].notna().all()
    assert split["image_id"].tolist() == index["image_id"].tolist()
    got = split.drop_duplicates("patient_id")["split"].value_counts()
    for name, fraction in fractions.items():
        assert abs(got.get(name, 0) - fraction * n) < 1
    pd.testing.assert_frame_equal(split, splits.by_patient(index, fractions, seed=5))
    shuffled = index.sample(frac=1, random_state=9)
    again = splits.by_patient(shuffled, fractions, seed=5).set_index("image_id")["split"]
    assert again.loc[split["image_id"]].tolist() == split["split"].tolist()


def test_another_seed_is_another_split():
    index = patients_of(200)
    a, b = (splits.by_patient(index, FRACTIONS, seed)["split"] for seed in (1, 2))
    assert 0.3 < (a != b).mean() < 0.8


@pytest.mark.parametrize(
    "fractions", [{"train": 0.5, "valid": 0.4}, {"train": 0.9, "dev": 0.1}, {"train": 1.5, "valid": -0.5}, {}]
)
def test_bad_fractions(fractions):
    with pytest.raises(ValueError, match="split fractions"):
        splits.by_patient(patients_of(5), fractions, seed=1)


# --- official ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["string", "str", object])
def test_official_keeps_the_test_list_and_splits_the_rest_by_patient(dtype):
    index = with_lists(patients_of(300)).astype({"official_split": dtype})
    split = splits.make(index, {"kind": "official", "valid_frac": 0.2, "seed": 3})
    listed = index["official_split"].fillna("neither")
    assert disjoint(split)
    placed = split["split"].fillna("neither").replace({"valid": "train_val", "train": "train_val"})
    assert placed.tolist() == listed.tolist() and set(listed) == {"test", "train_val", "neither"}
    inside = split[listed == "train_val"].drop_duplicates("patient_id")["split"].value_counts()
    assert abs(inside["valid"] - 0.2 * inside.sum()) < 1 and set(inside.index) == {"train", "valid"}
    again = splits.official(index.sample(frac=1, random_state=1), 0.2, 3).set_index("image_id")["split"]
    pd.testing.assert_series_equal(again.loc[split["image_id"]], split.set_index("image_id")["split"])


def test_official_lists_that_share_a_patient_are_refused():
    index = with_lists(patients_of(50))
    one = index.index[(index["official_split"] == "test") & index["patient_id"].duplicated(keep=False)][0]
    index.loc[one, "official_split"] = "train_val"
    with pytest.raises(ValueError, match=f"patient '{index['patient_id'][one]}' is in test, "):
        splits.official(index, 0.2, 3)


def test_official_without_lists():
    index = patients_of(5).assign(official_split=pd.array([pd.NA] * len(patients_of(5)), dtype="string"))
    with pytest.raises(ValueError, match=r"train_val_list\.txt and test_list\.txt"):
        splits.official(index, 0.1, 1)


def test_unknown_kind_and_all_test():
    with pytest.raises(ValueError, match="split kind 'random' is none of by_patient, official"):
        splits.make(patients_of(5), {"kind": "random"})
    assert (splits.all_test(patients_of(5))["split"] == "test").all()


@needs_lists
def test_nihs_own_lists():
    """86,524 + 25,596 images, 28,008 + 2,797 patients, none in both; Google's sets lie inside them."""
    where = {i: name for name in ("train_val", "test") for i in (NIH / f"{name}_list.txt").read_text().split()}
    entries = nih.read_nih_entries()[["image_id", "patient_id"]]
    index = entries.assign(official_split=entries["image_id"].map(where).astype("string"))
    assert index["official_split"].value_counts().to_dict() == {"train_val": 86524, "test": 25596}
    assert index.groupby("official_split")["patient_id"].nunique().to_dict() == {"train_val": 28008, "test": 2797}
    split = splits.official(index, 0.1, 3)
    assert disjoint(split) and (split["split"] == "test").sum() == 25596 and split["split"].notna().all()
    google = read_google_four()
    assert google["image_id"].map(where).groupby(google["set"]).unique().map(list).to_dict() == {
        "test": ["test"],
        "val": ["train_val"],
    }


# --- what a split is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "p", "train"), ("a", "p", "train")], "image 'a' is in the split twice"),
        ([("a", "p", "train"), ("b", "p", "valid")], "patient 'p' is in train, valid"),
        ([("a", "p", "test"), ("b", "p", "train")], "patient 'p' is in test, train"),
        ([("a", "p", "dev")], "split 'dev' is none of train, valid, test"),
    ],
)
def test_checked_refuses(rows, message):
    with pytest.raises(ValueError, match=message):
        splits.checked(pd.DataFrame(rows, columns=["image_id", "patient_id", "split"]))


def test_checked_lets_images_of_no_split_be():
    table = pd.DataFrame([("a", "p", "test"), ("b", "p", pd.NA)], columns=["image_id", "patient_id", "split"])
    assert len(splits.checked(table)) == 2


# --- external ----------------------------------------------------------------------------------------------

COHORTS = {
    "nih": {"source": "nih", "folder": "nih"},
    "nih_mini": {"source": "nih", "folder": "elsewhere"},
    "nih_txrv": {"source": "torchxrayvision", "dataset": "NIH_Dataset", "folder": "a"},
    "google": {"source": "torchxrayvision", "dataset": "NIH_Google_Dataset", "folder": "b"},
    "rsna": {"source": "torchxrayvision", "dataset": "RSNA_Pneumonia_Dataset", "folder": "c"},
    "siim": {"source": "torchxrayvision", "dataset": "SIIM_Pneumothorax_Dataset", "folder": "d"},
    "siim_in_a_folder": {"source": "folder", "folder": "siim", "pixels": "nih"},
    "chexpert": {"source": "torchxrayvision", "dataset": "CheX_Dataset", "folder": "e"},
    "chexlocalize": {"source": "torchxrayvision", "dataset": "CheXlocalize_Dataset", "folder": "f"},
    "padchest": {"source": "torchxrayvision", "dataset": "PC_Dataset", "folder": "g"},
    "ours": {"source": "folder", "folder": "ours"},
    "theirs": {"source": "folder", "folder": "theirs"},
    "drawn": {"source": "simulated", "hospital": "internal"},
    "drawn_again": {"source": "simulated", "hospital": "internal"},
    "drawn_elsewhere": {"source": "simulated", "hospital": "external"},
}
FAMILIES = [
    {"nih", "nih_mini", "nih_txrv", "google", "rsna", "siim", "siim_in_a_folder"},
    {"chexpert", "chexlocalize"},
    {"drawn", "drawn_again"},
    *({name} for name in ("padchest", "ours", "theirs", "drawn_elsewhere")),
]


@pytest.mark.parametrize("train", COHORTS)
def test_the_same_pixels_are_never_external(train):
    family = next(f for f in FAMILIES if train in f)
    for test in COHORTS:
        if test in family:
            with pytest.raises(ValueError, match=f"{test!r} is not external to {train!r}"):
                splits.check_external(train, test, COHORTS)
        else:
            splits.check_external(train, test, COHORTS)


def test_shared_files_are_refused():
    ours = pd.DataFrame({"image_id": ["a", "b"], "sha256": ["1", "2"]})
    theirs = pd.DataFrame({"image_id": ["x", "y", "z"], "sha256": ["3", "2", "4"]})
    splits.check_no_shared_files(ours, theirs.drop(index=1), "ours", "theirs")
    with pytest.raises(ValueError, match=r"1 images of 'theirs' are also in 'ours' \(the first: y\)"):
        splits.check_no_shared_files(ours, theirs, "ours", "theirs")


def test_the_owners_parts_may_test_each_other_if_they_share_no_patient():
    cohorts = {
        name: {**COHORTS["chexpert"], "official_part": part} for name, part in (("a", "train"), ("b", "valid"))
    }
    cohorts |= {"c": {**COHORTS["chexlocalize"], "official_part": "train"}, "d": COHORTS["chexlocalize"]}
    splits.check_external("a", "b", cohorts)
    for other in ("c", "d"):
        with pytest.raises(ValueError, match=f"{other!r} is not external to 'a'"):
            splits.check_external("a", other, cohorts)
    ours = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["1", "2"], "sha256": ["1", "2"]})
    theirs = pd.DataFrame({"image_id": ["x", "y"], "patient_id": ["3", "2"], "sha256": ["3", "4"]})
    splits.check_apart(ours, theirs[:1], "a", "b", cohorts)
    with pytest.raises(ValueError, match=r"1 patients of 'b' are also in 'a' \(the first: 2\)"):
        splits.check_apart(ours, theirs, "a", "b", cohorts)
    splits.check_apart(ours, theirs, "a", "nih", {**cohorts, "nih": COHORTS["nih"]})  # another patient 2
    with pytest.raises(ValueError, match="1 images of 'nih' are also in 'a'"):
        splits.check_apart(ours, theirs.assign(sha256="2"), "a", "nih", {**cohorts, "nih": COHORTS["nih"]})


def test_a_listed_split(tmp_path):
    index = pd.DataFrame({"image_id": list("abcd"), "patient_id": list("1123")})
    path = tmp_path / "split.csv"
    path.write_text("dicom_id,study_id,split\na,1,train\nb,2,train\nc,3,validate\nz,4,test\n")
    settings = {"kind": "listed", "path": str(path), "image": "dicom_id"}
    assert splits.make(index, settings)["split"].fillna("none").tolist() == ["train", "train", "valid", "none"]
    for text, message in (
        ("dicom_id,split\na,train\na,test\n", "'a' is in two splits"),
        ("dicom_id,split\na,train\nb,test\n", "patient '1' is in test, train"),
        ("dicom_id,split\na,fold1\n", "split 'fold1' is none of"),
        ("dicom_id,split\nz,train\n", "None of the 1 images"),
        ("dicom_id,fold\nz,train\n", "no column split"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            splits.make(index, settings)


# --- targets -----------------------------------------------------------------------------------------------

IDS = list("abcdefghij")
SPLIT = pd.DataFrame({"image_id": IDS, "split": ["train"] * 5 + ["valid"] * 4 + ["test"]})
LABELS = {
    "report": pd.DataFrame(
        {"mass": [1, 0, -1, NAN, 0, 1, 0, -1, 0, 1], "edema": [0, 1, 0, 1, NAN, 0, 1, 0, 1, 1]}, index=IDS
    ),
    "reader": pd.DataFrame({"mass": [0, 1, 1, 1, NAN, 1, 0, 0, -1]}, index=IDS[:9]),
}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("u_zeros", dict(zip("abcefghi", [1, 0, 0, 0, 1, 0, 0, 0], strict=True))),
        ("u_ones", dict(zip("abcefghi", [1, 0, 1, 0, 1, 0, 1, 0], strict=True))),
        ("u_ignore", dict(zip("abefgi", [1, 0, 0, 1, 0, 0], strict=True))),
    ],
)
def test_target_by_policy(policy, expected):
    got = targets.target_table(SPLIT, LABELS, ["mass"], "report", policy)
    assert got.set_index("image_id")["mass"].to_dict() == expected and got["mass"].dtype == np.float32
    assert got.set_index("image_id")["split"].to_dict() == {i: "train" if i < "f" else "valid" for i in expected}


@pytest.mark.parametrize(("policy", "images"), [("u_zeros", "abcfghi"), ("u_ones", "abcfghi"), ("u_ignore", "abfg")])
def test_targets_on_the_same_images(policy, images):
    """Either way round the images are the same: what one label set leaves out, the other does without."""
    for one, other in (("report", "reader"), ("reader", "report")):
        got = targets.target_table(SPLIT, LABELS, ["mass"], one, policy, same_images_as=[other])
        assert "".join(got["image_id"]) == images
        own = label_tables.apply_policy(LABELS[one]["mass"].loc[list(images)], policy)
        assert (got["mass"] == own).all()


def test_two_findings_keep_what_either_has():
    got = targets.target_table(SPLIT, LABELS, ["mass", "edema"], "report", "u_ignore").set_index("image_id")
    assert "".join(got.index) == "abcdefghi" and np.isnan(got.loc["d", "mass"]) and got.loc["d", "edema"] == 1


@pytest.mark.parametrize(
    ("findings", "label_set", "same", "message"),
    [
        (["edema"], "reader", [], "'reader' does not assess 'edema'; it has mass"),
        (["edema"], "report", ["reader"], "'reader' does not assess 'edema'"),
        (["mass"], "one", [], "target mass by one: the valid part has 4 labelled images of 1 class"),
    ],
)
def test_targets_that_cannot_be_learned(findings, label_set, same, message):
    sets = {**LABELS, "one": pd.DataFrame({"mass": [1.0, 0] + [0] * 8}, index=IDS)}
    with pytest.raises(ValueError, match=message):
        targets.target_table(SPLIT, sets, findings, label_set, "u_zeros", same)


# --- the twins by image and by patient -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [30, 400])
@pytest.mark.parametrize("seed", [1, 2])
def test_twins_have_the_same_test_images_and_as_many_to_train_on(n, seed):
    index = patients_of(n, seed)
    fractions = {"train": 0.7, "valid": 0.2, "test": 0.1}
    mixed, apart = splits.by_image(index, fractions, seed), splits.by_patient_beside(index, fractions, seed)
    parts = [{p: set(s["image_id"][s["split"] == p]) for p in splits.SPLITS} for s in (mixed, apart)]
    assert parts[0]["test"] == parts[1]["test"] and len(parts[0]["test"]) == round(0.1 * len(index))
    assert all(len(parts[0][p]) == len(parts[1][p]) > 0 for p in ("train", "valid"))
    assert sum(map(len, parts[0].values())) == len(set.union(*parts[0].values())), "an image is in one part"
    assert disjoint(apart)


def test_only_the_split_by_image_leaks():
    index = patients_of(300)
    mixed = splits.by_image(index, FRACTIONS, 3)
    trained = mixed["patient_id"][mixed["split"] == "train"]
    assert mixed["patient_id"][mixed["split"] == "test"].isin(trained).mean() > 0.3
    with pytest.raises(ValueError, match="must be disjoint by patient"):
        splits.checked(mixed)


def test_twins_do_not_hang_on_the_order_of_index_labels():
    index = patients_of(50)
    relabelled = index.set_index(pd.Index(range(1000, 1000 + len(index))))
    for make in (splits.by_image, splits.by_patient_beside):
        pd.testing.assert_frame_equal(make(index, FRACTIONS, 1), make(relabelled, FRACTIONS, 1))


def test_twins_need_fractions_of_one():
    with pytest.raises(ValueError, match="none below 0, and sum to 1"):
        splits.by_image(patients_of(5), {"train": 0.7, "valid": 0.2, "test": 0.2}, 1)
