"""Leaks: constructed ones are all found, clean cohorts raise no alarm."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps

from cxrlib.base import paths
from cxrlib.cohorts import leaks, lookalikes, packing, sources, splits, store
from cxrlib.commands import cxr
from cxrlib.releases import image_ids

SIDE = 128


def jpeg(image, quality):
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("L")


def inner(image, left, top, right, bottom):
    return image.crop((left * image.width, top * image.height, right * image.width, bottom * image.height))


def noisy(image):
    grey = np.asarray(image, float) + np.random.default_rng(0).normal(0, 4, (image.height, image.width))
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


# What becomes of a copy of an image that was trained on, and the kind of leak that it is then.
COPIES = {
    "as it is": (lambda image: image, "same pixels"),
    "compressed": (lambda image: jpeg(image, 80), "near-duplicate"),
    "compressed hard": (lambda image: jpeg(image, 35), "near-duplicate"),
    "half as large": (lambda image: image.resize((image.width // 2, image.height // 2)), "near-duplicate"),
    "enlarged": (lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2)), "near-duplicate"),
    "stretched": (lambda image: image.resize((image.width, image.height * 4 // 5)), "near-duplicate"),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.25), "near-duplicate"),
    "darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.7), "near-duplicate"),
    "more contrast": (lambda image: ImageEnhance.Contrast(image).enhance(1.3), "near-duplicate"),
    "noisy": (noisy, "near-duplicate"),
    "cropped by 4 %": (lambda image: inner(image, 0.02, 0.02, 0.98, 0.98), "near-duplicate"),
    "cropped by 6 %": (lambda image: inner(image, 0.03, 0.03, 0.97, 0.97), "near-duplicate"),
    "cropped on one side": (lambda image: inner(image, 0, 0.0, 0.98, 1), "near-duplicate"),
    "mirrored": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "near-duplicate"),
    "inverted": (ImageOps.invert, "near-duplicate"),
    "mirrored and compressed": (
        lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 60),
        "near-duplicate",
    ),
}


def saved(folder, images):
    """Write images into a folder, with a CSV beside it that gives each a patient of its own; return the CSV."""
    folder.mkdir()
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    csv = folder.with_suffix(".csv")
    pd.DataFrame({"image_id": list(images), "patient_id": [f"{folder.name}{i}" for i in range(len(images))]}).to_csv(
        csv, index=False
    )
    return csv


@pytest.fixture(scope="module")
def drawn():
    source = sources.simulated(size_px=SIDE, hospital="internal", images_n=40, seed=5)
    return [Image.fromarray(source.read(i).square) for i in range(2 * len(COPIES))]


def searched(sets, capsys, *options):
    """Run `cxr leaks`; return its exit status and what it prints."""
    status = cxr.main(["leaks", *map(str, sets), *map(str, options)])
    return status, capsys.readouterr()


def found_copies(folder, pictures, others, capsys):
    """Return the leaks that `cxr leaks` finds of a copy of each kind among images of other people, by copy."""
    train = saved(folder / "train", {f"t{i}": image for i, image in enumerate(pictures)})
    copies = {
        name.replace(" ", "-"): change(image)
        for (name, (change, _)), image in zip(COPIES.items(), pictures, strict=True)
    }
    test = saved(folder / "test", copies | {f"clean{i}": image for i, image in enumerate(others)})
    options = ["--images", folder / "train", folder / "test", "--out", folder / "out", "--other-hospital"]
    status, _ = searched([train, test], capsys, *options)
    assert status == 1
    return pd.read_csv(folder / "out" / "leaks.csv").set_index("image_id"), list(copies)


def test_copies_of_simulated_images_are_found_and_no_others(drawn, tmp_path, capsys):
    pictures, others = drawn[: len(COPIES)], drawn[len(COPIES) :]
    found, copies = found_copies(tmp_path, pictures, others, capsys)
    assert sorted(found.index) == sorted(copies), "each copy once, and nobody else"
    assert dict(found["kind"]) == {name.replace(" ", "-"): kind for name, (_, kind) in COPIES.items()}
    assert found.loc[copies, "other_image_id"].tolist() == [f"t{i}" for i in range(len(copies))]


def test_copies_of_real_radiographs_are_found_and_no_others(cxr_data, tmp_path, capsys):
    files = sorted((cxr_data / "nih" / "images").glob("*.png"))[:: 2222 // 40]
    real = {file.name.split("_")[0]: Image.open(file).convert("L") for file in files}  # one a patient
    pictures, others = list(real.values())[: len(COPIES)], list(real.values())[len(COPIES) :]
    found, copies = found_copies(tmp_path, pictures, others, capsys)
    assert sorted(found.index) == sorted(copies), "each copy once, and nobody else"
    assert found.loc[copies, "other_image_id"].tolist() == [f"t{i}" for i in range(len(copies))]


def test_real_radiographs_that_others_made_smaller_are_found(cxr_data, tmp_path, capsys):
    """The 48 radiographs as released, 1024 px, against copies of 256 px that public holders made of them."""
    released = sorted((cxr_data / "nih" / "images_1024").glob("*.png"))[:12]
    train = saved(tmp_path / "train", {f"t{i}": Image.open(file).convert("L") for i, file in enumerate(released)})
    smaller = {f"s{i}": Image.open(cxr_data / "nih" / "images" / file.name) for i, file in enumerate(released)}
    test = saved(tmp_path / "test", smaller)
    options = ["--images", tmp_path / "train", tmp_path / "test", "--out", tmp_path / "out"]
    assert searched([train, test], capsys, *options)[0] == 1
    found = pd.read_csv(tmp_path / "out" / "leaks.csv")
    assert {(r.image_id, r.other_image_id) for r in found.itertuples()} == {(f"s{i}", f"t{i}") for i in range(12)}


# --- what ids tell --------------------------------------------------------------------------------------------------

RSNA = "0004cfab-14fd-4e49-80ba-63a80b6bddd6"  # 00019124_092.png, as matched
RSNA_UNMATCHED = "06f1d0a2-d8c5-4229-9944-59da85c96b81"  # whose best match is a bad one
RSNA_FIRST = "0087bd3a-55a7-4045-b111-b018fa52d361"  # 00016399_017.png, as matched
RSNA_OTHER = "01a6eaa6-222f-4ea8-9874-bbd89dc1a1ce"  # 00016399_008.png
OF_ONE_PATIENT = {"same patient", "same collection"}
SIIM = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819"
TRAIN = [
    ("00000013_005.png", "00000013"),
    ("00019124_092.png", "00019124"),
    ("00000700_000.png", ""),
    ("scan-07", "P007"),
]
CHEXPERT = [("CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg", "patient00001")]

# What is called external, what was trained on, and the kinds of leak.
NAMED = {
    "another case and no ending": ([("00000013_005.PNG", "")], TRAIN, {"same image", "same collection"}),
    "in a folder": ([("images_001/00000013_005.png", "")], TRAIN, {"same image", "same collection"}),
    "no leading zeros": ([("13_5", "")], TRAIN, {"same image"}),
    "the image of RSNA": ([(RSNA, "")], TRAIN, {"same image", "same collection"}),
    "RSNA's in capitals": ([(f"{RSNA.upper()}.dcm", "")], TRAIN, {"same image", "same collection"}),
    "RSNA's without a match": ([(RSNA_UNMATCHED, "")], TRAIN, {"unmatched"}),
    "SIIM-ACR's": ([(SIIM, "")], TRAIN, {"unmatched"}),
    "a follow-up": ([("00000013_006.png", "00000013")], TRAIN, {"same patient", "same collection"}),
    "a follow-up without a patient id": ([("00000013_006.png", "")], TRAIN, {"same patient", "same collection"}),
    "a patient known from the image alone": (
        [("00000700_001.png", "700")],
        TRAIN,
        {"same patient", "same collection"},
    ),
    "a follow-up of a patient saved as a number": ([("a.png", "13.0")], TRAIN, {"same patient"}),
    "a patient in another case": ([("b.png", " p007 ")], TRAIN, {"same patient"}),
    "a patient without zeros": ([("b.png", "P7")], TRAIN, {"same patient"}),
    "the small release": (
        [("CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg", "")],
        CHEXPERT,
        {"same image", "same collection"},
    ),
    "CheXpert's patient by number": (
        [("train/patient00001/study2/view1.jpg", "1")],
        CHEXPERT,
        {"same patient", "same collection"},
    ),
    "a copy in another format": ([("images_224/00000013_005.jpg", "")], TRAIN, {"same image", "same collection"}),
    "a follow-up under an id of one's own": (
        [("00000013_006.png", "p2")],
        TRAIN,
        {"same patient", "same collection"},
    ),
    "RSNA's follow-up with RSNA's own id": ([(RSNA_OTHER, RSNA_OTHER)], [(RSNA_FIRST, RSNA_FIRST)], OF_ONE_PATIENT),
    "another id in front of the one that is shared": (
        [("00000013_006.png", "")],
        [("train/patient00013/study1/view1.jpg", ""), ("00000013_005.png", "")],
        {"same patient", "same collection"},
    ),
    "MIMIC's patient with and without its letter": (
        [("files/p10/p10000032/s50414267/a.dcm", "10000032")],
        [("files/p10/p10000032/s50414268/b.dcm", "")],
        {"same patient", "same collection"},
    ),
    "MIMIC's image in another folder": (
        [("jpg/p10/p10000032/s50414267/a.jpg", "")],
        [("files/p10/p10000032/s50414267/a.dcm", "")],
        {"same image", "same collection"},
    ),
}


def table(path, rows, **columns):
    """Write a CSV of image and patient ids, and return its path."""
    pd.DataFrame(rows, columns=["image_id", "patient_id"]).assign(**columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("case", NAMED)
def test_leaks_that_ids_tell(case, tmp_path, capsys):
    test, train, kinds = NAMED[case]
    sets = [table(tmp_path / "train.csv", train), table(tmp_path / "test.csv", [*test, ("other", "nobody")])]
    status, said = searched(sets, capsys, "--out", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "leaks.csv")
    assert status == 1 and set(found["kind"]) == kinds, found
    assert set(found["image_id"]) == {test[0][0]} and all(f"x {kind}:" in said.out for kind in kinds)


@pytest.mark.parametrize(
    ("train", "test", "kinds"),
    [
        ("mgh_platinum", "siim_chest_tubes", {"unmatched"}),
        ("google_adjudicated", "mgh_platinum", {"same image", "same patient", "same collection"}),
        pytest.param("nih_reports", "google_adjudicated", {"same image", "same collection"}, marks=pytest.mark.slow),
        pytest.param("nih_reports", "rsna", {"same image", "unmatched"}, marks=pytest.mark.slow),
    ],
)
def test_label_sets_of_the_same_pixels_are_never_external(train, test, kinds, tmp_path, capsys):
    assert searched([train, test], capsys, "--out", tmp_path)[0] == 1
    assert set(pd.read_csv(tmp_path / "leaks.csv")["kind"]) == kinds


def test_a_patient_under_two_spellings_in_two_parts_of_one_table(tmp_path, capsys):
    rows = [("a1", "P1"), ("b1", "P2"), ("a2", " p01"), ("c1", "P3")]
    path = table(tmp_path / "mine.csv", rows, split=["train", "train", "test", "test"])
    status, said = searched([path], capsys)
    assert status == 1 and "1 x same patient" in said.out and "a2" in said.out and "c1" not in said.out


# In one table: what is of `train`, what is of `test`, and the kinds of leak.
IN_ONE_TABLE = {
    "a follow-up under an id of one's own": (
        ("00000013_005.png", "p1"),
        ("00000013_006.png", "p2"),
        {"same patient"},
    ),
    "RSNA's follow-up with RSNA's own id": ((RSNA_FIRST, RSNA_FIRST), (RSNA_OTHER, RSNA_OTHER), {"same patient"}),
    "SIIM-ACR's beside NIH's": (("00000013_005.png", "13"), (SIIM, SIIM), {"unmatched"}),
    "SIIM-ACR's beside SIIM-ACR's": ((SIIM, ""), (SIIM.replace("6904", "6905"), ""), {"unmatched"}),
    "two people": (("00000013_005.png", "p1"), ("00000014_006.png", "p2"), set()),
}


@pytest.mark.parametrize("case", IN_ONE_TABLE)
def test_leaks_between_parts_of_one_table(case, tmp_path, capsys):
    train, test, kinds = IN_ONE_TABLE[case]
    path = table(tmp_path / "mine.csv", [train, test], split=["train", "test"])
    status, _ = searched([path], capsys, "--out", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "leaks.csv")
    assert set(found["kind"]) == kinds and status == bool(kinds), found


@pytest.mark.parametrize(
    ("train", "test", "options"),
    [
        ([("a", "1"), ("b", "2")], [("c", "3"), ("d", "4")], []),
        ([("1.png", "1")], [("1.png", "1")], ["--other-hospital"]),
        ([("00000013_005.png", "13")], [("train/patient00013/study1/view1_frontal.jpg", "13")], []),
        ([("00000013_005.png", "13")], [("x", "13")], ["--other-hospital"]),
    ],
)
def test_what_does_not_leak_raises_no_alarm(train, test, options, tmp_path, capsys):
    sets = [table(tmp_path / "train.csv", train), table(tmp_path / "test.csv", test)]
    status, said = searched(sets, capsys, *options)
    assert status == 0 and "No leak was found." in said.out


def test_of_a_split_the_test_part_was_not_trained_on(tmp_path, capsys):
    train = table(tmp_path / "train.csv", [("a", "1"), ("b", "2")], split=["train", "test"])
    assert searched([train, table(tmp_path / "b.csv", [("b", "2")])], capsys)[0] == 0
    assert searched([train, table(tmp_path / "a.csv", [("x", "1")])], capsys)[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.csv", "nih_reports"], "There is no file nothing.csv"),
        (["nonsense", "nih_reports"], "nonsense is no CSV, no folder, no name of the catalogue"),
        (["nih_reports"], "nih_reports has no parts: give a CSV with a column split"),
        (["siim", "siim"], "A set is named twice"),
        (["siim", "rsna", "--images", "."], "--images names 1 folders for 0 CSVs"),
    ],
)
def test_what_cannot_be_searched_is_said_in_a_sentence(words, message, capsys):
    status, said = searched(words, capsys)
    assert status == 2 and message in said.err and said.err.count("\n") == 1


def test_ids_have_one_spelling():
    same = [" P007", "p7", "P07 "]
    assert image_ids.one_spelling(same).nunique() == 1
    assert image_ids.one_spelling(["13.0", "0013", "13"]).nunique() == 1
    assert image_ids.one_spelling(["10", "1", "100", "A1", "1A"]).nunique() == 5
    assert image_ids.one_spelling(["", None, " "]).isna().all()


# --- where the pipeline refuses -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Two small packed cohorts, one of either simulated hospital."""
    folder = tmp_path_factory.mktemp("packed")
    made = {}
    for seed, (name, hospital) in enumerate((("ours", "internal"), ("theirs", "external"))):
        source = sources.simulated(size_px=64, hospital=hospital, images_n=200, seed=seed)
        packing.pack(source, folder / name, folder / f"{name}-work", size_px=64)
        made[name] = store.open_store(folder / name)
    return made


def changed(one, images=None, **columns):
    """Return a store with other columns or pixels."""
    return store.Store(one.name, one.index.assign(**columns), one.images if images is None else images, *[None] * 3)


def test_a_clean_cohort_raises_no_alarm(packed):
    settings = {
        "ours": {"source": "simulated", "hospital": "internal"},
        "theirs": {"source": "simulated", "hospital": "external"},
    }
    split = splits.by_patient(packed["ours"].index, {"train": 0.6, "valid": 0.2, "test": 0.2}, 1)
    assert leaks.check_split(packed["ours"], split, "main").empty
    assert leaks.check_cohorts(packed["ours"], packed["theirs"], settings).empty


def test_a_split_with_equal_pixels_of_two_patients_is_refused_until_one_is_left_out(packed):
    index = packed["ours"].index
    settings = {"kind": "by_patient", "fractions": {"train": 0.6, "valid": 0.2, "test": 0.2}, "seed": 1}
    split = splits.make(index, settings)
    first, copy = (int(np.flatnonzero(split["split"] == part)[0]) for part in ("train", "test"))
    pixels = np.array(packed["ours"].images)
    pixels[copy] = pixels[first]
    leaking = changed(packed["ours"], pixels)
    names = index["image_id"]
    with pytest.raises(
        ValueError, match=rf"1 same pixels.*{names[copy]} of test and {names[first]} of train.*patient"
    ):
        leaks.check_split(leaking, split, "main")
    kept = splits.make(index, {**settings, "leave_out": [names[copy]]})
    assert kept["split"].isna().sum() == 1 and leaks.check_split(leaking, kept, "main").empty
    with pytest.raises(ValueError, match="'nobody', which is no image of the cohort"):
        splits.make(index, {**settings, "leave_out": ["nobody"]})


def test_a_split_with_a_patient_under_two_spellings_is_refused(packed):
    index = packed["ours"].index
    split = splits.by_patient(index, {"train": 0.6, "valid": 0.2, "test": 0.2}, 1)
    first, other = (index["patient_id"][np.flatnonzero(split["split"] == part)[0]] for part in ("train", "test"))
    spelled = index["patient_id"].replace(other, f"{first.lower()} ")
    split["patient_id"] = spelled
    splits.checked(split)  # to which these are two patients
    with pytest.raises(ValueError, match=r"same patient.*split by patient, or, if these are two people"):
        leaks.check_split(changed(packed["ours"], patient_id=spelled), split, "main")


def test_near_duplicates_of_two_patients_are_listed_and_not_refused(packed):
    split = splits.by_patient(packed["ours"].index, {"train": 0.6, "valid": 0.2, "test": 0.2}, 1)
    first, copy = (int(np.flatnonzero(split["split"] == part)[0]) for part in ("train", "test"))
    pixels = np.array(packed["ours"].images)
    pixels[copy] = np.asarray(jpeg(Image.fromarray(pixels[first]), 90))
    (row,) = leaks.check_split(changed(packed["ours"], pixels), split, "main").itertuples()
    assert row.kind == "near-duplicate" and row.correlation > lookalikes.MIN_CORRELATION
    assert (row.image_id, row.other_image_id) == (*packed["ours"].index["image_id"].iloc[[copy, first]],)


def test_an_external_cohort_with_equal_pixels_is_refused(packed):
    settings = {"ours": {"source": "folder", "folder": "a"}, "theirs": {"source": "folder", "folder": "b"}}
    pixels = np.array(packed["theirs"].images)
    pixels[7] = packed["ours"].images[11]
    with pytest.raises(ValueError, match=r"'theirs' tested by networks of 'ours' leaks .1 same pixels"):
        leaks.check_cohorts(packed["ours"], changed(packed["theirs"], pixels), settings)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("{:08d}_000.png", r"leaks .1 same collection.*neither is external"),
        ("1.2.276.0.7230010.3.1.4.8323329.{}.1517875201.1", r"leaks .1 unmatched.*cannot be external"),
    ],
)
def test_an_external_cohort_that_is_of_the_same_collection_by_its_ids_is_refused(packed, names, message):
    settings = {"ours": {"source": "nih"}, "theirs": {"source": "folder", "folder": "b"}}
    ours, theirs = (
        changed(each, image_id=[name.format(start + i) for i in range(len(each.index))], patient_id=None)
        for each, name, start in ((packed["ours"], "{:08d}_000.png", 1), (packed["theirs"], names, 5000))
    )
    with pytest.raises(ValueError, match=message):
        leaks.check_cohorts(ours, theirs, settings)


# --- scores -------------------------------------------------------------------------------------------------


def scored(folder, ids, trained_on):
    rng = np.random.default_rng(0)
    pd.DataFrame({"image_id": ids, "pneumothorax": rng.random(len(ids)).round(3)}).to_csv(
        folder / "p.csv", index=False
    )
    words = [
        "score",
        folder / "p.csv",
        "--labels",
        "google_adjudicated",
        "--resamples",
        "20",
        "--trained-on",
        trained_on,
    ]
    cxr.main([str(word) for word in words])


def test_a_score_of_images_that_were_trained_on_is_refused(tmp_path, capsys):
    from cxrlib.releases.google import read_google_four

    ids = read_google_four("test")["image_id"].head(200).tolist()
    apart = table(tmp_path / "apart.csv", [("mine1", "a"), ("mine2", "b")])
    scored(tmp_path, ids, apart)
    assert "No scored image and no patient of one is in" in capsys.readouterr().out
    table(tmp_path / "apart.csv", [(ids[5].replace(".png", ""), "")])
    with pytest.raises(SystemExit) as stopped:
        scored(tmp_path, ids, apart)
    assert "leaks" in stopped.value.code and "same image" in stopped.value.code


# --- the search itself --------------------------------------------------------------------------------------


def test_near_hashes_are_those_of_a_plain_count():
    rng = np.random.default_rng(1)
    first = rng.integers(0, 256, (300, 32), np.uint8)
    second = np.concatenate([first[:50] ^ (rng.random((50, 32)) < 0.3), rng.integers(0, 256, (80, 32), np.uint8)])
    distance = np.bitwise_count(first[:, None] ^ second[None]).sum(axis=2)
    expected = {(a, b, distance[a, b]) for a, b in np.argwhere(distance <= 20)}
    found = lookalikes.near_hashes(first, second.astype(np.uint8), 20)
    assert set(found.itertuples(index=False, name=None)) == expected and len(expected) >= 50


@pytest.mark.slow
def test_the_real_radiographs_have_no_near_duplicates_of_two_patients(cxr_data, tmp_path):
    """Of 2,222 radiographs one pair is equal, two images of one patient; results/leaks/real.csv says so."""
    source = sources.open_source({"source": "nih", "folder": "nih", "size_px": 128})
    packing.pack(source, tmp_path / "nih", tmp_path / "work", size_px=128)
    packed = store.open_store(tmp_path / "nih")
    rows = np.arange(len(packed.index))
    pairs = lookalikes.near_duplicates(packed, rows, packed, rows)
    found = {frozenset(pair) for pair in pairs[["row", "other_row"]].itertuples(index=False, name=None)}
    apart = [tuple(pair) for pair in found if len(pair) == 2]
    patient = packed.index["patient_id"].to_numpy(object)
    assert all(patient[one] == patient[other] for one, other in apart)
    assert len(apart) == pd.read_csv(paths.ROOT / "results" / "leaks" / "real.csv")["pairs_n"].sum()


def test_what_is_committed_of_leaks_has_no_id_of_a_real_image():
    for file in Path(paths.ROOT, "results", "leaks").glob("*.csv"):
        assert not pd.read_csv(file, dtype=str).stack().str.contains(r"\d{8}_\d{3}").any(), file
