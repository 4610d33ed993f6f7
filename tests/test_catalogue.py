"""Published label sets: their known counts, each one's quirks on tiny fakes, and who shares pixels with whom."""

import gzip
import io
import re
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml

from cxrlib.base import paths, vocabulary
from cxrlib.base.label_tables import CARD_FIELDS, check
from cxrlib.cohorts import splits
from cxrlib.labels import shipped_files
from cxrlib.releases import (
    cards,
    catalogue,
    challenges,
    chexpert,
    google,
    nih,
    nih_readers,
    openi,
    owner_tables,
    padchest,
    pixels,
)
from cxrlib.releases.nih import read_nih_boxes, read_nih_entries
from cxrlib.statistics import accuracy, noise

NAN = float("nan")
IN_PACKAGE = [name for name, entry in catalogue.ENTRIES.items() if not entry.labels]
ELSEWHERE = [name for name, entry in catalogue.ENTRIES.items() if entry.labels]


@pytest.fixture(scope="module")
def read():
    """Read each label set once for all tests of this file."""
    found = {}

    def once(name):
        if name not in found:
            found[name] = catalogue.read_release(name)
        return found[name]

    return once


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """Write tables below `labels/` of a fake $CXR_DATA."""
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")

    def write(path, text):
        to = tmp_path / "labels" / path
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text)

    return write


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write tables into a fake data folder of torchxrayvision; files that are not faked are the real ones."""
    real = paths.torchxrayvision_data

    def place(name):
        return tmp_path / name if (tmp_path / name).exists() else real(name)

    monkeypatch.setattr(paths, "torchxrayvision_data", place)

    def write(name, text):
        if name.endswith(".zip"):
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                archive.writestr("table.csv", text)
        else:
            (tmp_path / name).write_bytes(gzip.compress(text.encode()))

    return write


def rows(found, *findings):
    """Return a label set as a dict of key to values, NaN as None."""
    key = ["image_id", *(["reader_id"] if "reader_id" in found.table else [])]
    table = found.table.set_index(key)[list(findings)]
    return {
        index: tuple(None if np.isnan(v) else int(v) for v in values)
        for index, values in zip(table.index, table.to_numpy(), strict=True)
    }


# --- every entry -------------------------------------------------------------------------------------------


def check_contract(found):
    readers = catalogue.ENTRIES[found.name].readers
    check(found.table, found.name, readers)
    assert ("reader_id" in found.table) == readers == (found.card["readers_n"] > 0)
    findings = found.table.columns.difference(["image_id", "reader_id"])
    assert (found.table[findings].dtypes == np.float32).all()
    assert tuple(found.images.columns[:6]) == owner_tables.RELEASE_COLUMNS and found.images["image_id"].is_unique
    assert set(found.images["image_id"]) == set(found.table["image_id"])
    assert {*CARD_FIELDS, "pixels", "images_n", "readers_n", "counts"} == set(found.card)
    assert all(found.card[field] for field in CARD_FIELDS)
    assert found.card["images_n"] == len(found.images) and found.card["pixels"] == pixels.PIXELS[found.name]
    for finding, counts in found.card["counts"].items():
        assert sum(counts.values()) == len(found.table), finding
    assert found.notes and all(note.endswith(".") and "  " not in note for note in found.notes)
    assert found.images["sex"].dropna().isin(["M", "F"]).all()


@pytest.mark.parametrize("name", IN_PACKAGE)
def test_entries_in_packages_or_here_keep_the_contract(read, name):
    places = ("in the torchxrayvision package", "in third_party/ of this repository")
    assert catalogue.available(name) and any(place in catalogue.where(name) for place in places)
    check_contract(read(name))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_entries_elsewhere_keep_the_contract(label_tables, read, name):
    assert catalogue.available(name) and f"cxr fetch {name}" in catalogue.where(name)
    check_contract(read(name))


def test_every_entry_has_a_family_and_the_vocabulary_has_no_double():
    assert set(catalogue.names()) <= set(pixels.PIXELS)
    members = [m for family, members in pixels.SAME_PIXELS.items() for m in (family, *members)]
    assert len(set(members)) == len(members), "no member is in two families"
    assert len(set(vocabulary.VOCABULARY)) == len(vocabulary.VOCABULARY)


def test_unknown_and_missing(labels):
    for call in (catalogue.read_release, catalogue.available, catalogue.where):
        with pytest.raises(ValueError, match="no published label set 'rnsa'; there are nih_reports, "):
            call("rnsa")
    for name in ELSEWHERE:
        assert not catalogue.available(name)
        with pytest.raises(FileNotFoundError, match=f"{name!r} is not here: .*`cxr fetch {name}`"):
            catalogue.read_release(name)
    with pytest.raises(FileNotFoundError, match=r"cxr fetch chexpert_test_models"):
        chexpert.chexpert_test_models()


# --- the cards of cards.yaml -------------------------------------------------------------------------------

CARD = {field: f"its {field}" for field in CARD_FIELDS}
RELEASE = {"pixels": "nih", "labels": ["a.csv"], "card": CARD}


def releases_file(folder, entry, family=None):
    """Write a file like cards.yaml with one release, `mine`."""
    path = folder / "cards.yaml"
    family = {"datasets": ["NIH_Dataset"]} if family is None else family
    path.write_text(yaml.safe_dump({"families": {"nih": family}, "releases": {"mine": entry}}))
    return path


def test_every_release_has_a_loading_function_and_an_address_that_is_no_part_of_its_card():
    modules = (nih, nih_readers, google, challenges, padchest, chexpert, openi)
    assert sorted(name for module in modules for name in module.LOADERS) == sorted(catalogue.names())
    for name, entry in catalogue.ENTRIES.items():
        assert set(entry.card) == set(CARD_FIELDS), name
        assert re.fullmatch(r"10\.\d{4,}/\S+", entry.doi or "") or entry.url.startswith("https://"), name


def test_the_files_of_chexperts_readers_are_in_the_order_of_the_readers():
    files = catalogue.ENTRIES["chexpert_test_readers"].labels
    readers = (*chexpert.CHEXPERT_PANEL, *chexpert.CHEXPERT_BENCHMARK)
    assert [file.rpartition("/")[2].partition(".")[0].removesuffix("_gt") for file in files] == list(readers)


def test_a_card_file_is_read_as_it_stands(tmp_path):
    families, releases = cards.read_releases(releases_file(tmp_path, {**RELEASE, "readers": True, "doi": "10.1/x"}))
    assert families == {"nih": {"datasets": ["NIH_Dataset"]}}
    assert releases == {"mine": {**RELEASE, "readers": True, "doi": "10.1/x"}}


@pytest.mark.parametrize("field", CARD_FIELDS)
def test_a_card_that_lacks_a_field(tmp_path, field):
    card = {key: text for key, text in CARD.items() if key != field}
    with pytest.raises(ValueError, match=rf"cards\.yaml, entry 'mine': the card lacks '{field}'; it needs who, how"):
        cards.read_releases(releases_file(tmp_path, {**RELEASE, "card": card}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"card": {**CARD, "license": "CC0"}},
            "entry 'mine': the card has an unknown key 'license'; known are ",
        ),
        ({"card": {**CARD, "version": 2019}}, "entry 'mine': the card: 'version' is 2019, which is no text"),
        ({"card": "Google"}, "entry 'mine': the card is 'Google'; write its fields below it: who, how"),
        ({"lables": ["b.csv"]}, "entry 'mine' has an unknown key 'lables'; known are pixels, card, package"),
        ({"labels": "a.csv"}, "entry 'mine': 'labels' is 'a.csv'; write a list of names"),
        ({"readers": "several"}, "entry 'mine': 'readers' is 'several'; write true or false"),
        ({"pixels": "mimic"}, "entry 'mine': 'pixels' is 'mimic', no family; the families are nih"),
        ({"doi": 10.1}, "entry 'mine': 'doi' is 10.1, which is no text"),
    ],
)
def test_an_entry_that_is_wrong(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"cards\.yaml, {message}") as raised:
        cards.read_releases(releases_file(tmp_path, {**RELEASE, **change}))
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


def test_an_entry_that_lacks_something(tmp_path):
    with pytest.raises(ValueError, match="entry 'mine' lacks 'pixels'; it needs pixels, card"):
        cards.read_releases(releases_file(tmp_path, {"labels": ["a.csv"], "card": CARD}))
    with pytest.raises(ValueError, match="entry 'mine' names no file; give it 'package', 'third_party' or 'labels'"):
        cards.read_releases(releases_file(tmp_path, {"pixels": "nih", "card": CARD}))
    with pytest.raises(ValueError, match="family 'nih' lacks 'datasets'"):
        cards.read_releases(releases_file(tmp_path, RELEASE, family={"tables": []}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no entries"),
        ("a: 1\nb: 2\na: 3\n", "line 3 is no proper YAML: the key 'a' occurs twice"),
        ("a: [1\n", "line 2 is no proper YAML: "),
        ("families:\nreleases: {}\n", "'families' holds no entries"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path, text, message):
    (tmp_path / "cards.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"cards\.yaml:? ?{message}"):
        cards.read_releases(tmp_path / "cards.yaml")


def test_cards_of_shipped_files(tmp_path):
    path = tmp_path / "shipped_cards.yaml"
    path.write_text(yaml.safe_dump({"mine": CARD}))
    assert shipped_files.read_shipped_cards(path) == {"mine": CARD}
    for card, message in (({**CARD, "by": "me"}, "has an unknown key 'by'"), ({"who": "me"}, "lacks 'how'")):
        path.write_text(yaml.safe_dump({"mine": card}))
        with pytest.raises(ValueError, match=rf"shipped_cards\.yaml, entry 'mine': the card {message}"):
            shipped_files.read_shipped_cards(path)


# --- pixels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["nih", *pixels.SAME_PIXELS["nih"]])
@pytest.mark.parametrize("test", ["rsna", "rsna_on_nih", "siim", "google_adjudicated", "google_all_readers"])
def test_nothing_on_nih_pixels_is_external_to_nih(train, test):
    with pytest.raises(ValueError, match=f"{test!r} is not external to {train!r}: .* are on NIH images"):
        pixels.check_not_shared(train, test)


def test_other_families():
    pixels.check_not_shared("nih_reports", "chexpert_test_majority")
    pixels.check_not_shared("chexpert_labeler", "siim")
    assert not pixels.same_pixels("vindr_readers", "padchest_network")
    assert pixels.same_pixels("openi_codes", "openi_gold")
    with pytest.raises(ValueError, match="both are chexpert images"):
        pixels.check_not_shared("chexpert_labeler", "chexpert_test_readers")
    with pytest.raises(ValueError, match="'mimic' is in no family of images; known are nih, "):
        pixels.same_pixels("nih", "mimic")


@pytest.mark.parametrize("name", pixels.PIXELS)
def test_splits_know_the_same_families(name):
    assert splits.pixel_family({"source": "folder", "pixels": name}) == pixels.PIXELS[name]


# --- NIH and Google's adjudicated four: published numbers --------------------------------------------------


@pytest.fixture(scope="module")
def entries():
    return read_nih_entries()


@pytest.fixture(scope="module")
def paired(entries):
    """Return Google's labels with the report labels of the same images, `_nih`."""
    both = google.read_google_four().merge(entries, on="image_id", suffixes=("", "_nih"), validate="1:1")
    assert len(both) == 4376 and (both["patient_id"] == both["patient_id_nih"]).all()
    return both


def test_nih_entries_as_published(entries):
    assert entries.shape == (112120, 20) and entries["image_id"].is_unique
    assert entries["patient_id"].nunique() == 30805 and entries["pneumothorax"].sum() == 5302
    assert (entries["image_id"].str[:8] == entries["patient_id"]).all()
    labels = entries[list(vocabulary.NIH_FINDINGS.values())]
    assert (labels.max(axis=1) == 0).sum() == 60361  # No Finding
    assert labels.isin([0, 1]).all(axis=None) and labels.sum().sum() == 81176


def test_nih_boxes_as_published(entries):
    boxes = read_nih_boxes()
    assert len(boxes) == 984 and boxes["image_id"].nunique() == 880 and boxes["finding"].nunique() == 8
    assert boxes["image_id"].isin(entries["image_id"]).all()
    assert (
        (boxes["x0_frac"] >= 0).all()
        and (boxes["x0_frac"] < boxes["x1_frac"]).all()
        and (boxes["x1_frac"] <= 1).all()
    )
    assert (
        (boxes["y0_frac"] >= 0).all()
        and (boxes["y0_frac"] < boxes["y1_frac"]).all()
        and (boxes["y1_frac"] <= 1).all()
    )
    agreed = boxes.merge(entries, on="image_id").apply(lambda row: row[row["finding"]], axis=1)
    assert agreed.mean() > 0.99  # a box is of a finding that the report named


@pytest.mark.parametrize(
    ("which", "cells", "kappa"), [("test", (97, 103, 98, 1664), 0.434), ("val", (12, 26, 31, 2345), 0.284)]
)
def test_report_labels_against_adjudicated_pneumothorax(paired, which, cells, kappa):
    part = paired[paired["set"] == which]
    assert tuple(noise.confusion(part["pneumothorax"], part["pneumothorax_nih"]).values()) == cells
    assert round(accuracy.rates(part["pneumothorax"], part["pneumothorax_nih"])["kappa"], 3) == kappa
    assert google.read_google_four(which)["image_id"].tolist() == part["image_id"].tolist()


def test_five_report_labels_against_adjudicated_opacity(paired):
    part = paired[paired["set"] == "test"]
    said = part[list(vocabulary.ANY_OF["airspace_opacity"])].max(axis=1)
    rates = accuracy.rates(part["airspace_opacity"], said)
    assert (round(rates["sensitivity"], 3), round(rates["ppv"], 3)) == (0.506, 0.767)
    reports = (
        catalogue.read_release("nih_reports").table.set_index("image_id").loc[part["image_id"], "airspace_opacity"]
    )
    assert (reports.to_numpy() == said.to_numpy()).all()


def test_nih_reports_as_released(read):
    found = read("nih_reports")
    present = {finding: counts["present"] for finding, counts in found.card["counts"].items()}
    v2020 = (11559, 2776, 13317, 19894, 5782, 6331, 1431, 5302, 4667, 2303, 2516, 1686, 3385, 227)
    assert tuple(present[f] for f in vocabulary.NIH_FINDINGS.values()) == v2020
    assert len(found.table) == 112120 and found.images["patient_id"].nunique() == 30805
    assert present["airspace_opacity"] == 32325 and present["nodule_or_mass"] == 11207


def test_google_adjudicated_as_released(read):
    found = read("google_adjudicated")
    assert found.images["part"].value_counts().to_dict() == {"val": 2414, "test": 1962}
    both = found.table.merge(found.images, on="image_id", validate="1:1")
    positive = both.groupby("part")[["pneumothorax", "fracture"]].sum()
    assert positive["pneumothorax"].to_dict() == {"test": 195, "val": 43}
    assert both.groupby("part")["patient_id"].nunique().to_dict() == {"test": 860, "val": 835}
    assert not set(both["patient_id"][both["part"] == "val"]) & set(both["patient_id"][both["part"] == "test"])
    assert positive["fracture"].sum() == 186 and found.images["view"].notna().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image Index,Finding Labels\na,Mass\n", "has no column .*Patient ID.*not NIH's .* Reinstall"),
        (
            "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
            "a,Mass|Oedema,0,1,3,M,PA\n",
            "unknown finding 'Oedema' in column Finding Labels",
        ),
    ],
)
def test_nih_says_what_is_wrong(package, text, message):
    package("Data_Entry_2017_v2020.csv.gz", text)
    with pytest.raises(ValueError, match=message):
        catalogue.read_release("nih_reports")


# --- Google's readers --------------------------------------------------------------------------------------

FOUR = "Patient ID,Image ID,Reader ID,Fracture,Pneumothorax,Airspace opacity,Nodule/mass,Set ID\n"
FOUR_FILE = "google_four_findings/individual_readers.csv"


def test_google_four_readers(labels):
    labels(
        FOUR_FILE,
        FOUR + "1,00000001_000.png,7,NO,HEDGE,YES,NO,val\n"
        "1,00000001_000.png,8,NO,NO,YES,YES,val\n"
        "2,x.png,7,YES,NO,YES,NO,test\n"
        "2,x.png,7,YES,NO,NO,NO,test\n",
    )
    found = catalogue.read_release("google_four_readers")
    check_contract(found)
    assert rows(found, "fracture", "pneumothorax", "airspace_opacity", "nodule_or_mass") == {
        ("00000001_000.png", "7"): (0, -1, 1, 0),
        ("00000001_000.png", "8"): (0, 0, 1, 1),
        ("x.png", "7"): (1, 0, None, 0),
    }
    images = found.images.set_index("image_id")
    assert images["part"].to_dict() == {"00000001_000.png": "val", "x.png": "test"}
    assert images.loc["00000001_000.png", "patient_id"] == "00000001" and pd.isna(images.loc["x.png", "patient_id"])
    notes = " ".join(found.notes)
    assert "4 rows became 3: 1 pairs" in notes and "1 images are not in NIH's entry list" in notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FOUR + "1,a,7,NO,NO,YES,NO,val\n1,b,7,NO,PERHAPS,YES,NO,val\n", "line 3: Pneumothorax is 'PERHAPS'"),
        (FOUR + "1,a,7,NO,,YES,NO,val\n", "line 2: Pneumothorax is"),
        (FOUR.replace("Reader ID", "Reader") + "1,a,7,NO,NO,YES,NO,val\n", "has no column Reader ID"),
        ("", "is empty"),
    ],
)
def test_google_four_readers_says_what_is_wrong_and_what_to_do(labels, text, message):
    labels(FOUR_FILE, text)
    with pytest.raises(ValueError, match=f"individual_readers.csv.*{message}.*cxr fetch google_four"):
        catalogue.read_release("google_four_readers")


def test_google_four_readers_as_released(label_tables, read):
    found, adjudicated = read("google_four_readers"), read("google_adjudicated")
    assert len(found.table) == 13077 and found.card["images_n"] == 4376 and found.card["readers_n"] == 22
    assert set(found.table["image_id"]) == set(adjudicated.table["image_id"])
    assert "13,081 rows became 13,077: 4 pairs" in found.notes[0] and "4,327 images have 3" in found.notes[1]
    counts = found.card["counts"]
    assert {f: c["uncertain"] for f, c in counts.items()} == {
        "fracture": 0,
        "pneumothorax": 164,  # 165 rows, of which one pair is the same read twice
        "airspace_opacity": 0,
        "nodule_or_mass": 261,
    }
    assert counts["airspace_opacity"]["not_assessed"] == 4
    parts = found.images.set_index("image_id")["part"]
    assert parts.equals(adjudicated.images.set_index("image_id")["part"].reindex(parts.index))


def test_google_all_as_released(label_tables, read):
    majority, readers = read("google_all_majority"), read("google_all_readers")
    assert len(majority.table) == 810 and len(readers.table) == 4050 and readers.card["readers_n"] == 5
    assert majority.card["counts"]["abnormal"]["present"] == 578
    assert majority.card["counts"]["pneumothorax"]["present"] == 136
    assert (majority.images["view"] == "PA").all() and (majority.images["part"] == "test").all()
    three = readers.table[readers.table["reader_id"].isin(["4343882785", "4343883593", "4343883996"])]
    voted = (three.drop(columns="reader_id").groupby("image_id").sum() >= 2).astype("float32")
    said = majority.table.set_index("image_id").loc[voted.index]
    differ = (voted != said).sum()
    assert differ.pop("other") == 45 and (differ == 0).all()  # `other` is not the plain majority, as noted
    test = read("google_adjudicated").images
    assert set(majority.table["image_id"]) <= set(test["image_id"][test["part"] == "test"])


# --- RSNA and SIIM -----------------------------------------------------------------------------------------

OPACITY, NORMAL, OTHER = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"


def rsna_csv(pairs):
    return "rsna,nih,mse,cls\n" + "".join(f"r{k},{nih},{mse},{cls}\n" for k, (nih, mse, cls) in enumerate(pairs))


def test_rsna_classes_matches_and_duplicates(labels):
    pairs = [
        ("a", 1, OPACITY),
        ("b", 1, NORMAL),
        ("c", 1, OTHER),
        ("far", 5.1, OPACITY),
        ("edge", 5, OPACITY),
        *[("agree", 1, OPACITY)] * 2,
        *[("differ", 1, OPACITY), ("differ", 1, NORMAL)],
        *[("half", 1, NORMAL), ("half", 1, OTHER)],  # no opacity either way; whether normal is disputed
        *[("one_far", 1, NORMAL), ("one_far", 90, OPACITY)],
        *[("thrice", 1, OTHER), ("thrice", 1, OTHER), ("thrice", 1, OPACITY)],
    ]
    labels("rsna_to_nih.csv", rsna_csv(pairs))
    found = catalogue.read_release("rsna_on_nih")
    check_contract(found)
    assert rows(found, "airspace_opacity", "no_finding") == {
        "a": (1, 0),
        "agree": (1, 0),
        "b": (0, 1),
        "c": (0, 0),
        "differ": (None, None),
        "edge": (1, 0),
        "half": (0, None),
        "one_far": (0, 1),
        "thrice": (None, 0),
    }
    assert "2 of 16 rows are dropped: their match error is above 5." in found.notes
    assert "Of the 6 NIH images that occur twice in the file, 4 still do after that; 3 of these" in found.notes[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rsna,nih,cls\n", "has no column mse"),
        (rsna_csv([("a", 1, "Opacity")]), "class 'Opacity' is none of Lung Opacity"),
        (rsna_csv([("a", 1, NORMAL), ("b", "x", NORMAL)]), "line 3: mse is 'x', not a number"),
    ],
)
def test_rsna_bad_file(labels, text, message):
    labels("rsna_to_nih.csv", text)
    with pytest.raises(ValueError, match=f"rsna_to_nih.csv.*{message}"):
        catalogue.read_release("rsna_on_nih")


def test_rsna_on_nih_as_released(label_tables, read):
    """26,684 pairs: 21 NIH ids twice, but 20 of these second matches are among the 99 that do not match."""
    raw = pd.read_csv(owner_tables.find_labels("rsna_to_nih.csv"))
    assert len(raw) == 26684 and raw["nih"].duplicated().sum() == 21 and raw["nih"].value_counts().max() == 2
    assert ((raw["mse"] > 5).sum(), (raw["mse"] > 10).sum()) == (99, 98)
    found = read("rsna_on_nih")
    assert "99 of 26,684 rows are dropped: their match error is above 5." in found.notes
    assert "Of the 21 NIH images that occur twice in the file, 1 still do" in found.notes[-1]
    assert len(found.table) == 26584 and found.table.notna().all(axis=None)
    good = raw[raw["mse"] <= 5].drop_duplicates("nih")
    assert found.table["airspace_opacity"].sum() == (good["cls"] == OPACITY).sum() == 5997
    assert found.table["no_finding"].sum() == (good["cls"] == NORMAL).sum() == 8816
    assert found.images["patient_id"].notna().all()
    under_own_ids = read("rsna").table.set_index("image_id")["airspace_opacity"]  # from boxes, not from classes
    classes = raw.set_index("rsna")["cls"].loc[under_own_ids.index]
    assert ((classes == OPACITY) == (under_own_ids == 1)).all()


def test_rsna_and_siim_as_released(read):
    found = read("rsna")
    assert len(found.table) == 26684 and found.card["counts"]["airspace_opacity"]["present"] == 6012
    assert found.images["view"].value_counts().to_dict() == {"PA": 14511, "AP": 12173}
    found = read("siim")
    assert found.card["counts"]["pneumothorax"] == {
        "present": 2669,
        "absent": 9378,
        "uncertain": 0,
        "not_assessed": 0,
    }


def test_siim_masks(package):
    header = "ImageId, EncodedPixels\n"
    package("siim-pneumothorax-train-rle.csv.gz", header + "a,1 2 3\na,9 9 9\nb,-1\nc, -1\n")
    found = catalogue.read_release("siim")
    assert rows(found, "pneumothorax") == {"a": (1,), "b": (0,), "c": (0,)} and "4 rows" in found.notes[0]
    for text, message in (("a,1 2\na,-1\n", "1 images have both a mask and a -1"), ("a,\n", "line 2: no mask")):
        package("siim-pneumothorax-train-rle.csv.gz", header + text)
        with pytest.raises(ValueError, match=message):
            catalogue.read_release("siim")


def test_rsna_boxes(package):
    package("kaggle_stage_2_train_labels.csv.zip", "patientId,x,Target\na,1,1\na,2,1\nb,,0\n")
    package(
        "kaggle_stage_2_train_images_dicom_headers.csv.gz",
        "PatientID,ViewPosition,PatientSex,PatientAge\na,AP,F,50\nb,PA,M,155\n",
    )
    found = catalogue.read_release("rsna")
    assert rows(found, "airspace_opacity") == {"a": (1,), "b": (0,)}
    assert "1 images have an age above 120 years, as released." in found.notes
    package("kaggle_stage_2_train_labels.csv.zip", "patientId,x\na,1\n")
    with pytest.raises(ValueError, match=r"labels\.csv\.zip has no column Target"):
        catalogue.read_release("rsna")


# --- VinDr -------------------------------------------------------------------------------------------------


def test_vindr_raters_are_kept_apart(package):
    package(
        "vinbigdata-train.csv.gz",
        "image_id,class_name,rad_id\na,No finding,R1\na,Cardiomegaly,R2\na,Cardiomegaly,R2\n"
        "a,ILD,R2\nb,Other lesion,R1\n",
    )
    found = catalogue.read_release("vindr_readers")
    assert rows(found, "no_finding", "cardiomegaly", "interstitial_lung_disease", "other") == {
        ("a", "R1"): (1, 0, 0, 0),
        ("a", "R2"): (0, 1, 1, 0),
        ("b", "R1"): (0, 0, 0, 1),
    }
    assert "5 rows" in found.notes[0] and "1 rows repeat a class" in found.notes[0]
    package("vinbigdata-train.csv.gz", "image_id,class_name,rad_id\na,Cardiac enlargement,R1\n")
    with pytest.raises(ValueError, match="class 'Cardiac enlargement' is none of No finding, "):
        catalogue.read_release("vindr_readers")


def test_vindr_as_released(read):
    found = read("vindr_readers")
    assert len(found.table) == 45000 and found.card["images_n"] == 15000 and found.card["readers_n"] == 17
    assert (found.table.groupby("image_id").size() == 3).all()
    assert found.card["counts"]["no_finding"]["present"] == 31818
    assert found.card["counts"]["pneumothorax"]["present"] == 199
    findings = found.table.drop(columns=["image_id", "reader_id", "no_finding"]).max(axis=1)
    assert (found.table["no_finding"] == 1 - findings).all()


# --- PadChest ----------------------------------------------------------------------------------------------

PADCHEST_HEADER = "ImageID,PatientID,PatientBirth,PatientSex_DICOM,StudyDate_DICOM,Projection,MethodLabel,Labels\n"
PADCHEST_FILE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"


def padchest_csv(*lists, method="Physician", projection="PA"):
    return PADCHEST_HEADER + "".join(
        f"i{k},p{k},1930.0,F,20140915,{projection},{method},{terms}\n" for k, terms in enumerate(lists)
    )


def test_padchest_terms(package):
    package(
        PADCHEST_FILE,
        padchest_csv(
            "\"['pulmonary edema', ' pleural effusion']\"",
            "['normal']",
            "\"['unchanged', 'hydropneumothorax']\"",
            "['unchanged']",
            "\"['normal', 'unchanged']\"",
            "\"['normal', 'nodule']\"",
            "\"['exclude', 'nodule']\"",
            "['']",
            "",
            "\"['suboptimal study', 'subcutaneous emphysema']\"",
            "\"['pseudonodule', '']\"",
        ),
    )
    found = catalogue.read_release("padchest_physicians")
    check_contract(found)
    assert rows(found, "edema", "effusion", "pneumothorax", "nodule", "emphysema", "no_finding") == {
        "i0": (1, 1, 0, 0, 0, 0),
        "i1": (0, 0, 0, 0, 0, 1),
        "i2": (None, 1, 1, None, None, 0),
        "i3": (None, None, None, None, None, None),
        "i4": (0, 0, 0, 0, 0, 1),
        "i5": (0, 0, 0, 1, 0, None),
        "i9": (None, None, None, None, None, 0),
        "i10": (0, 0, 0, 0, 0, 0),
    }
    assert [note.split(":")[0] for note in found.notes[:3]] == [
        "2 of 11 images are dropped",
        "1 of 11 images are dropped",
        "0 of 11 images are dropped",
    ]
    assert found.notes[3].startswith("3 images list 'unchanged' or 'suboptimal study'")
    assert found.notes[4].startswith("1 images list 'normal' and something else")
    assert found.notes[5].startswith("2 of 9 terms (2 of 13 mentions)")
    assert found.images["age"].tolist() == [84] * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (padchest_csv("['normal']", method="GPT"), "MethodLabel 'GPT' is none of Physician, RNN_model"),
        (padchest_csv("['normal']", projection="OBL"), "Projection 'OBL' is none of PA, L"),
        (PADCHEST_HEADER.replace("Labels", "Terms"), "has no column Labels"),
    ],
)
def test_padchest_says_what_is_wrong(package, text, message):
    package(PADCHEST_FILE, text)
    with pytest.raises(ValueError, match=message):
        catalogue.read_release("padchest_network")


def test_padchest_as_released(read):
    physicians, network = read("padchest_physicians"), read("padchest_network")
    assert "of 39,053 images" in physicians.notes[0] and "of 121,808 images" in network.notes[0]
    assert len(physicians.table) == 38971 and len(network.table) == 119687
    assert not set(physicians.table["image_id"]) & set(network.table["image_id"])
    assert physicians.card["counts"]["pneumothorax"]["present"] == 115
    assert network.card["counts"]["cardiomegaly"]["present"] == 11259
    assert physicians.card["counts"]["no_finding"]["present"] == 12694
    assert (physicians.table["no_finding"].isna()).sum() < 0.1 * len(physicians.table)


def test_padchest_terms_are_padchests():
    """Every term that is mapped is one that PadChest uses, spelt as there."""
    raw = pd.read_csv(paths.torchxrayvision_data(PADCHEST_FILE), usecols=["Labels"], dtype="string")
    used = set(raw["Labels"].str.findall("'([^']*)'").explode().str.strip().dropna())
    assert {term for terms in vocabulary.PADCHEST_TERMS.values() for term in terms} <= used


# --- CheXpert ----------------------------------------------------------------------------------------------


def test_chexpert_labeler_as_released(read):
    found = read("chexpert_labeler")
    assert len(found.table) == 223414 and found.images["patient_id"].nunique() == 64540
    assert found.card["counts"]["pneumothorax"] == {
        "present": 19448,
        "absent": 56341,
        "uncertain": 3145,
        "not_assessed": 144480,
    }
    views = {"AP": 161590, "PA": 29420, "L": 32387, "LL": 16, "RL": 1}
    assert found.images["view"].value_counts().to_dict() == views
    assert found.images["age"].isna().sum() == 3 and found.images["sex"].isna().sum() == 1


CHEXPERT_HEADER = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *vocabulary.CHEXPERT_FINDINGS]) + "\n"


def test_chexpert_labeler_keeps_uncertain_and_blank(package):
    row = "train/patient00001/study1/view1_{0}.jpg,Unknown,0,{1},{2},1.0,-1.0,0.0" + "," * 11
    text = CHEXPERT_HEADER + row.format("a", "Frontal", "AP") + "\n" + row.format("b", "Lateral", "") + "\n"
    package("chexpert_train.csv.gz", text)
    found = catalogue.read_release("chexpert_labeler")
    columns = ("no_finding", "enlarged_cardiomediastinum", "cardiomegaly", "edema")
    assert set(rows(found, *columns).values()) == {(1, -1, 0, None)}
    assert found.images["view"].tolist() == ["AP", "L"] and set(found.images["patient_id"]) == {"patient00001"}
    assert found.images[["sex", "age"]].isna().all(axis=None)
    for change, message in (
        (("patient00001", "nobody"), "names no patient"),
        (("-1.0", "7"), "row 0: enlarged_cardiomediastinum is 7"),
        (("_b.jpg", "_a.jpg"), "occurs twice"),
        (("Pneumonia", "Pneumonie"), "has no column Pneumonia: .*Reinstall"),
        ((",0,Lateral", ",0,Oblique"), "Frontal/Lateral 'Oblique' is none of"),
    ):
        package("chexpert_train.csv.gz", text.replace(*change))
        with pytest.raises(ValueError, match=message):
            catalogue.read_release("chexpert_labeler")


def test_chexpert_test_set_as_released(label_tables, read):
    """500 studies in every file; groundtruth.csv only lacks the end of its last line."""
    majority, readers, labeler = (read(f"chexpert_test_{name}") for name in ("majority", "readers", "labeler"))
    assert len(majority.table) == len(labeler.table) == 500 and len(readers.table) == 4000
    assert majority.images["patient_id"].nunique() == 500
    assert set(readers.table["reader_id"]) == {*chexpert.CHEXPERT_PANEL, *chexpert.CHEXPERT_BENCHMARK}
    panel = readers.table[readers.table["reader_id"].isin(chexpert.CHEXPERT_PANEL)]
    voted = (panel.drop(columns="reader_id").groupby("image_id").sum() >= 3).astype("float32")
    pd.testing.assert_frame_equal(voted, majority.table.set_index("image_id").sort_index(), check_index_type=False)
    assert majority.card["counts"]["pneumothorax"]["present"] == 9
    counts = pd.DataFrame(labeler.card["counts"]).sum(axis=1)
    assert counts.to_dict() == {"present": 1025, "absent": 583, "uncertain": 310, "not_assessed": 5082}


def test_chexpert_models_as_released(label_tables, read):
    scores = chexpert.chexpert_test_models()
    assert len(scores) == 25000 and scores.notna().all(axis=None)
    assert scores.groupby(["model", "finding"]).size().eq(500).all()
    assert set(scores["image_id"]) == set(read("chexpert_test_majority").table["image_id"])
    over = scores[scores["score"] > 1].groupby(["model", "finding"]).size().to_dict()
    assert over == {("desmond", "edema"): 164, ("desmond", "effusion"): 171, ("ngango2", "atelectasis"): 340}
    wide = scores.pivot(index=["image_id", "finding"], columns="model", values="score").reset_index()
    shared = wide["drnet"].eq(wide["ihil"]).groupby(wide["finding"]).all()
    assert shared[shared].index.tolist() == ["atelectasis", "consolidation", "edema", "effusion"]


STUDY = ",".join(["Study", *vocabulary.CHEXPERT_FINDINGS]) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STUDY + "test/patient1/study1" + ",0" * 13 + ",2\n", "line 2: support_devices is '2'"),
        ((STUDY + "test/patient1/study1" + ",0" * 14 + "\n") + "test/patient1/study1" + ",0" * 14, "occurs twice"),
        (STUDY.replace("Edema,", "") + "test/patient1/study1" + ",0" * 13, "has no column Edema"),
        (STUDY + "test/study1" + ",0" * 14, "'test/study1' names no patient"),
    ],
)
def test_chexpert_test_set_says_what_is_wrong(labels, text, message):
    labels("chexpert_test/groundtruth.csv", text)
    with pytest.raises(ValueError, match=f"{message}.*cxr fetch chexpert_test_majority"):
        catalogue.read_release("chexpert_test_majority")


def test_chexpert_models_says_what_is_wrong(labels):
    header = "Study,Atelectasis,Cardiomegaly,Consolidation,Edema,Pleural Effusion\n"
    for file in chexpert.CHEXPERT_MODEL_FILES:
        labels(file, header + "test/patient1/study1,0.5,1.7,0.1,0,1\n")
    assert chexpert.chexpert_test_models()["score"].max() == 1.7
    for row, message in (("test/patient2/study1,0,0,0,0,0", "different studies"), ("a,0,0,0,0,high", "no number")):
        labels(chexpert.CHEXPERT_MODEL_FILES[3], header + row + "\n")
        with pytest.raises(ValueError, match=f"ihil_predictions.csv.*{message}"):
            chexpert.chexpert_test_models()


# --- Open-i ------------------------------------------------------------------------------------------------


def write_openi(tmp_path, reports):
    """Write reports, id to codes, as the package's archive."""
    with tarfile.open(tmp_path / "NLMCXR_reports.tgz", "w:gz") as archive:
        for name, codes in reports.items():
            mesh = "".join(f"<major>{code}</major>" for code in codes)
            text = f'<r><uId id="{name}"/><MeSH>{mesh}<automatic>edema</automatic></MeSH></r>'
            member = tarfile.TarInfo(f"ecgen-radiology/{name}.xml")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def test_openi_codes(package, tmp_path):
    reports = {
        "CXR1": ["normal"],
        "CXR2": ["Opacity/lung/base/left", "Pulmonary Atelectasis/base", "Aorta/tortuous"],
        "CXR3": ["No Indexing"],
        "CXR4": ["Technical Quality of Image Unsatisfactory ", "Cardiomegaly/mild"],
        "CXR5": ["Opacity/ribs", "Subcutaneous Emphysema", "Hydropneumothorax/right"],
    }
    write_openi(tmp_path, reports)
    found = catalogue.read_release("openi_codes")
    check_contract(found)
    findings = ("no_finding", "lung_opacity", "atelectasis", "cardiomegaly", "emphysema", "effusion", "edema")
    assert rows(found, *findings) == {
        "CXR1": (1, 0, 0, 0, 0, 0, 0),
        "CXR2": (0, 1, 1, 0, 0, 0, 0),
        "CXR4": (None, None, None, 1, None, None, None),
        "CXR5": (0, 0, 0, 0, 0, 1, 0),
    }
    assert "per report" in found.notes[0] and "1 of 5 reports are dropped" in found.notes[1]
    assert "3 of 9 codes" in found.notes[3]
    with tarfile.open(tmp_path / "NLMCXR_reports.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("broken.xml"), io.BytesIO(b""))
    with pytest.raises(ValueError, match=r"broken\.xml is not XML"):
        catalogue.read_release("openi_codes")


def test_openi_codes_as_released(read):
    found = read("openi_codes")
    assert "95 of 3,955 reports are dropped" in found.notes[1] and len(found.table) == 3860
    counts = found.card["counts"]
    assert counts["no_finding"]["present"] == 1391 and counts["cardiomegaly"]["present"] == 375


def test_openi_codes_agree_with_the_gold_set(label_tables, read):
    """The gold set was made of the same codes by others: where both assess a report, our mapping is theirs."""
    gold = read("openi_gold")
    present = {finding: counts["present"] for finding, counts in gold.card["counts"].items()}
    if len(gold.table) == 3080:  # without the 771 reports that we keep apart
        assert present["no_finding"] == 1097 and present["pneumothorax"] == 15 and present["hernia"] == 0
    else:
        assert len(gold.table) == 3851
    both = gold.table.merge(read("openi_codes").table, on="image_id", suffixes=("", "_codes"))
    assert len(both) > 3000
    for finding in ("atelectasis", "cardiomegaly", "infiltration", "pneumonia", "edema", "no_finding"):
        assessed = both[f"{finding}_codes"].notna()
        assert (both[finding] == both[f"{finding}_codes"])[assessed].all(), finding


def test_openi_gold_takes_the_owners_file_too(labels):
    header = ",".join(["filename", *vocabulary.OPENI_GOLD_FINDINGS]) + "\n"
    labels(*catalogue.ENTRIES["openi_gold"].instead, header + "CXR1" + ",0" * 14 + ",1\n")
    assert catalogue.available("openi_gold")
    assert rows(catalogue.read_release("openi_gold"), "no_finding", "hernia") == {"CXR1": (1, 0)}


# --- other readers of NIH's images, tubes, CheXbert ---------------------------------------------------------


def test_rsna_opacity_is_that_of_the_challenge_and_of_its_classes(label_tables, read):
    """The committed matches and the package's boxes say what the table of classes says, image by image."""
    boxes, classes = (read(name).table.set_index("image_id") for name in ("rsna_opacity_on_nih", "rsna_on_nih"))
    assert len(boxes) == 26_584 and boxes["airspace_opacity"].sum() == 5_997
    assert boxes["airspace_opacity"].equals(classes["airspace_opacity"].reindex(boxes.index))


@pytest.mark.parametrize("name", ["tang_attending", "tang_radiologists"])
def test_tang_reads_ids_and_yes_or_no(labels, name):
    file = catalogue.ENTRIES[name].labels[0]
    labels(file, "00000001_000.png 1\n00000002_000.png 0\n")
    found = catalogue.read_release(name)
    assert rows(found, "abnormal", "no_finding") == {"00000001_000.png": (1, 0), "00000002_000.png": (0, 1)}
    labels(file, "00000001_000.png 1\n00000002_000.png abnormal\n")
    with pytest.raises(ValueError, match=f"{file} line 2: .* is not an image id and 0 or 1"):
        catalogue.read_release(name)


def test_tang_as_released(label_tables, read):
    attending, radiologists = (
        read(name).table.set_index("image_id")["abnormal"] for name in ("tang_attending", "tang_radiologists")
    )
    assert noise.confusion(radiologists, attending.reindex(radiologists.index)) == {
        "tp": 649,
        "fp": 18,
        "fn": 4,
        "tn": 673,
    }


def test_mgh_platinum_holds_images_of_nih_alone(read):
    table = read("mgh_platinum").table
    assert table["image_id"].str.fullmatch(r"\d{8}_\d{3}\.png").all()
    assert table.drop(columns="image_id").notna().sum().sum() == 201


def test_tubes_go_with_drained_pneumothoraces(read):
    """333 of 453 images with a pneumothorax have a tube, 192 of 1,498 without."""
    both = read("siim_chest_tubes").table.merge(read("siim").table, on="image_id")
    assert noise.confusion(both["pneumothorax"], both["chest_tube"]) == {"tp": 333, "fp": 192, "fn": 120, "tn": 1306}


def test_chexbert_on_openi_keeps_uncertain(labels):
    header = ",".join(["report_id", *vocabulary.CHEXPERT_FINDINGS])
    labels("openi_chexbert.csv", f"{header}\nCXR1," + ",".join(["0.0"] * 3 + ["-1.0"] + ["1.0"] * 10) + "\n")
    found = catalogue.read_release("openi_chexbert")
    assert rows(found, "no_finding", "lung_opacity", "support_devices") == {"CXR1": (0, -1, 1)}
