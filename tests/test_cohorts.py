"""Sources and the packed store: what comes in, what is refused and why, and what an interruption leaves."""

import hashlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

from cxrlib.base import vocabulary
from cxrlib.cohorts import image_files, image_source, packing, simulation, sources
from cxrlib.cohorts import store as store_module
from cxrlib.cohorts.store import open_store

SIZE = 32


def picture(seed, height=40, width=48, mode="L"):
    """A smooth picture that differs from that of any other seed."""
    rng = np.random.default_rng(seed)
    grid = np.uint8(rng.integers(0, 256, (3, 4)))
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def save(file, seed=0, **kind):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, **kind).save(file)
    return file


def pack(source, folder, workers=2):
    """Pack; return the store and rejected.csv as written."""
    returned = packing.pack(source, folder / "store", folder / "work", size_px=SIZE, workers=workers)
    written = pd.read_csv(folder / "store" / "rejected.csv", dtype="string", keep_default_na=False)
    assert len(written) == len(returned) and tuple(written) == image_source.REJECTED_COLUMNS
    assert not (folder / "work").exists()
    return open_store(folder / "store"), written


def expected(file):
    """What the packed picture of a file is."""
    return image_files.fit(image_files.decode(file.read_bytes(), file.suffix), SIZE)[0]


class Ours:
    """A hospital's folder with a CSV beside its images."""

    def __init__(self, root):
        self.root, self.csv = root / "ours", root / "ours" / "table.csv"
        self.root.mkdir()

    def write(self, text, encoding="utf-8"):
        self.csv.write_bytes(text.encode(encoding))
        return self

    def open(self):
        return sources.open_source(
            {"source": "folder", "size_px": SIZE, "folder": str(self.root), "table": str(self.csv)}
        )


@pytest.fixture
def ours(tmp_path):
    return Ours(tmp_path)


@pytest.fixture
def three(ours):
    """Three images that can be read: a.png, b.jpg and deep/er/c.png."""
    for k, name in enumerate(("a.png", "b.jpg", "deep/er/c.png")):
        save(ours.root / name, k)
    return ours


# --- one's own folder --------------------------------------------------------------------------------------


def test_folder_packs_what_the_table_says(three, tmp_path):
    """Subfolders, a file name with and without its ending, a path; every column where it belongs."""
    three.write(
        "image_id,patient_id,sex,pneumothorax,age,view,follow_up_number,effusion\n"
        "deep/er/c.png,007,F,1,61.5,AP,2,\n"
        'b,"Müller, A",M,-1,,PA,0,0\n'
        "a.png,0100,,0,40,,,1\n"
    )
    store, rejected = pack(three.open(), tmp_path)
    assert len(rejected) == 0
    index = store.index
    assert index["image_id"].tolist() == ["deep/er/c.png", "b", "a.png"]
    assert index["patient_id"].tolist() == ["007", "Müller, A", "0100"]  # leading zeros stay
    assert index["age"].fillna(-9).tolist() == [61.5, -9, 40]
    assert index["follow_up_number"].fillna(-9).tolist() == [2, 0, -9]
    assert index["view"].fillna("").tolist() == ["AP", "PA", ""]
    assert index["sex"].fillna("").tolist() == ["F", "M", ""]
    assert tuple(index) == (*store_module.IMAGE_COLUMNS, *store_module.PACKED_COLUMNS)
    labels = store.labels
    assert labels["image_id"].tolist() == index["image_id"].tolist()
    np.testing.assert_array_equal(labels["pneumothorax"], np.float32([1, -1, 0]))
    np.testing.assert_array_equal(labels["effusion"], np.float32([np.nan, 0, 1]))
    files = [three.root / "deep/er/c.png", three.root / "b.jpg", three.root / "a.png"]
    for k, file in enumerate(files):
        np.testing.assert_array_equal(store.images[k], expected(file))
        assert index["sha256"][k] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert index[["source_height_px", "source_width_px"]].eq([40, 48]).all(axis=None)
    assert index["scale"].tolist() == pytest.approx([SIZE / 48] * 3)
    assert index[["left_px", "top_px"]].eq([0, 2]).all(axis=None)
    assert store.masks is None and len(store.boxes) == 0 and tuple(store.boxes) == store_module.BOX_COLUMNS
    np.testing.assert_array_equal(store.rows(["a.png", "b"]), [2, 1])
    with pytest.raises(KeyError, match="nope"):
        store.rows(["a.png", "nope"])


TEXT = ("image_id", "patient_id", "view", "sex", "official_split", "sha256")
WHOLE = ("source_height_px", "source_width_px", "left_px", "top_px")


@pytest.mark.parametrize("full", [False, True], ids=["two columns", "all columns"])
def test_dtypes_do_not_depend_on_what_is_known(three, tmp_path, full):
    rest = (
        {"view": "PA", "sex": "F", "age": "50", "follow_up_number": "1.0", "official_split": "test"} if full else {}
    )
    header = ",".join(["image_id", "patient_id", *rest])
    three.write("\n".join([header, ",".join(["a", "1", *rest.values()]), ",".join(["b", "2", *rest.values()])]))
    store, _ = pack(three.open(), tmp_path)
    kinds = store.index.dtypes.astype(str)
    for name in TEXT:
        assert kinds[name] in ("string", "str"), name
    assert (kinds["age"], kinds["follow_up_number"], kinds["scale"]) == ("Float64", "Int64", "float64")
    assert (kinds[list(WHOLE)] == "int64").all()
    assert store.images.dtype == np.uint8 and store.images.shape == (2, SIZE, SIZE)
    assert store.index["view"].isna().all() != full


def spoil(kind):
    """What is wrong, as (files to add, lines to add, image_id, where, reason)."""
    cases = {
        "missing file": ((), "gone,9", "gone", "table.csv line 4", "no image file of this name"),
        "missing patient": (("d.png",), "d,", "d", "table.csv line 4", "patient id is missing"),
        "blank patient": (("d.png",), "d,  ", "d", "table.csv line 4", "patient id is missing"),
        "missing image id": ((), ",9", "", "table.csv line 4", "image id is missing"),
        "same stem": (("x/d.png", "y/d.jpg"), "d,9", "d", "table.csv line 4", "x/d.png, y/d.jpg"),
        "same name": (("x/d.png", "y/d.png"), "d.png,9", "d.png", "table.csv line 4", "give the path"),
        "no row": (("d.png",), None, "d", "d.png", "no row in table.csv"),
        "no image": (("notes.txt",), None, "notes.txt", "notes.txt", "not an image file"),
        "dicom without ending": (("IM0001",), None, "IM0001", "IM0001", ".dicom"),
        "truncated": (("d.png!",), "d,9", "d", "d.png", "truncated"),
        "renamed text": (("d.jpg?",), "d,9", "d", "d.jpg", "neither PNG nor JPEG"),
        "empty file": (("d.dcm",), "d,9", "d", "d.dcm", "empty"),
    }
    return cases[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "missing file",
        "missing patient",
        "blank patient",
        "missing image id",
        "same stem",
        "same name",
        "no row",
        "no image",
        "dicom without ending",
        "truncated",
        "renamed text",
        "empty file",
    ],
)
def test_one_bad_thing_is_one_rejected_line_and_the_rest_is_packed(ours, tmp_path, kind):
    for k, name in enumerate(("a.png", "b.png")):
        save(ours.root / name, k)
    files, line, image_id, where, reason = spoil(kind)
    for k, name in enumerate(files):
        file = ours.root / name.rstrip("!?")
        if file.suffix in (".png", ".jpg"):
            save(file, 5 + k)
            if name.endswith("!"):
                file.write_bytes(file.read_bytes()[:-30])
            if name.endswith("?"):
                file.write_text("Impression: normal.")
        else:
            file.write_text("" if file.suffix == ".dcm" else "hello")
    ours.write("image_id,patient_id\na,1\nb,1\n" + (f"{line}\n" if line is not None else ""))
    store, rejected = pack(ours.open(), tmp_path)
    assert store.index["image_id"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(store.images[1], expected(ours.root / "b.png"))
    assert len(rejected) == 1, rejected.to_string()
    row = rejected.iloc[0]
    assert row["image_id"] == image_id and row["where"].endswith(where) and reason in row["reason"]


@pytest.mark.parametrize("second", ["d", "d.png"])
def test_an_image_with_two_rows_is_not_taken_at_all(ours, tmp_path, second):
    """Under one name or two; which of its patients would be the right one?"""
    save(ours.root / "a.png", 1)
    save(ours.root / "d.png", 2)
    ours.write(f"image_id,patient_id\nd,1\na,2\n{second},3\n")
    store, rejected = pack(ours.open(), tmp_path)
    assert store.index["image_id"].tolist() == ["a"]
    assert rejected["where"].tolist() == ["table.csv line 2", "table.csv line 4"]
    assert rejected["reason"].str.contains("several rows are of this image").all()


def test_paths_tell_files_of_one_name_apart(ours, tmp_path):
    """Also the one at the top, whose path is its name; the ambiguous row takes no file away."""
    for k, name in enumerate(("d.png", "x/d.png", "y/d.png")):
        save(ours.root / name, k)
    ours.write("image_id,patient_id\nd,0\ny/d.png,3\nd.png,1\nx/d.png,2\n")
    store, rejected = pack(ours.open(), tmp_path)
    assert store.index["image_id"].tolist() == ["y/d.png", "d.png", "x/d.png"]
    np.testing.assert_array_equal(store.images[1], expected(ours.root / "d.png"))
    assert rejected[["image_id", "where"]].to_numpy().tolist() == [["d", "table.csv line 2"]]


def test_every_file_and_row_is_accounted_for(ours, tmp_path):
    """Everything wrong at once, and the table outside the folder."""
    ours.csv = tmp_path / "table.csv"
    good = [f"good{k}.png" for k in range(5)]
    for k, name in enumerate([*good, "two/d.png", "too/d.png", "twice.png", "lonely.png", "cut.png", "nobody.png"]):
        save(ours.root / name, k)
    (ours.root / "cut.png").write_bytes((ours.root / "cut.png").read_bytes()[:60])
    (ours.root / "Thumbs.db").write_text("x")
    lines = [
        *(f"{name},{k}" for k, name in enumerate(good)),
        "d,1",
        "twice,1",
        "twice,2",
        "cut,3",
        "nobody,",
        "gone,4",
    ]
    ours.write("image_id,patient_id\n" + "\n".join(lines) + "\n")
    store, rejected = pack(ours.open(), tmp_path)
    assert store.index["image_id"].tolist() == good
    assert sorted(rejected["image_id"]) == sorted(
        ["Thumbs.db", "cut", "d", "gone", "lonely", "nobody", "twice", "twice"]
    )
    assert (rejected["reason"].str.len() > 10).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image_id,view\na,PA\n", "no column patient_id"),
        ("", "is empty"),
        ("image_id;patient_id;effusion\na;1;0\n", "separate them by commas"),
        ("image_id,patient_id,effusion\na,1,0\nb,2,yes\n", "line 3: effusion is 'yes'"),
        ("image_id,patient_id,effusion\na,1,0\nb,2,2\n", "line 3: effusion is '2'"),
        ("image_id,patient_id,effusion\na,1,0.5\n", "line 2: effusion is '0.5'"),
        ("image_id,patient_id,Effusion\na,1,0\n", "no finding of the vocabulary: Effusion"),
        ("image_id,patient_id,comment\na,1,0\n", "comment"),
        ("image_id,patient_id,effusion,effusion\na,1,0,1\n", "effusion"),
        ("image_id,patient_id,age\na,1,40\nb,2,045Y\n", "age of image b is '045Y'"),
        ("image_id,patient_id,follow_up_number\na,1,first\n", "follow_up_number of image a is 'first'"),
        ("image_id,patient_id,follow_up_number\na,1,1.5\n", "a whole number"),
        ("image_id,patient_id\nx,1\ny,2\n", "None of the 2 rows"),
        ("image_id,patient_id\n", "a header and no rows below it"),
        ("image_id,patient_id,effusion\na,1,0,\nb,2,0,\n", "more fields than its header"),
        ("image_id;patient_id\na;1\n", "separate them by commas"),
        ("image_id,patient_id,effusion\n\n\na,1,x\n", "line 4: effusion is 'x'"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(three, text, says):
    """And is noticed before any image is read."""
    with pytest.raises(ValueError) as raised:
        three.write(text).open()
    assert says in str(raised.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_of_another_encoding_is_refused(three, encoding):
    with pytest.raises(ValueError, match="not UTF-8 text"):
        three.write("image_id,patient_id\na,Müller\n", encoding).open()


def test_byte_order_mark_and_spaces_do_no_harm(three, tmp_path):
    """A patient written with a space at the end is the same patient."""
    three.write("image_id, patient_id ,effusion\r\na , P1,1\r\nb,P1 ,0\r\nc, P2, \r\n", "utf-8-sig")
    store, rejected = pack(three.open(), tmp_path)
    assert len(rejected) == 0
    assert store.index["image_id"].tolist() == ["a", "b", "c"]
    assert store.index["patient_id"].tolist() == ["P1", "P1", "P2"]
    np.testing.assert_array_equal(store.labels["effusion"], np.float32([1, 0, np.nan]))


@pytest.mark.parametrize("lost", ["folder", "table"])
def test_a_lost_folder_or_table_is_named(three, lost):
    three.write("image_id,patient_id\na,1\n")
    settings = {"source": "folder", "size_px": SIZE, "folder": str(three.root), "table": str(three.csv)}
    with pytest.raises(FileNotFoundError, match="/nowhere/at/all"):
        sources.open_source(settings | {lost: "/nowhere/at/all"})


def test_settings_that_make_no_source():
    with pytest.raises(ValueError, match="'nonsense' is none of simulated, nih, folder, archive, torchxrayvision"):
        sources.open_source({"source": "nonsense"})
    with pytest.raises(ValueError, match=r"settings of source 'nih'.*fodler"):
        sources.open_source({"source": "nih", "size_px": 8, "fodler": "x"})
    with pytest.raises(ValueError, match="'third' is not one of internal, external"):
        sources.open_source({"source": "simulated", "size_px": 8, "hospital": "third", "images_n": 3, "seed": 1})


def test_dicom_of_either_polarity_is_the_same_picture(ours, tmp_path):
    """One of them without an ending, as they come from an archive."""
    pixels = np.asarray(picture(3)).astype(np.uint16) * 16
    for name, photometric, stored in (("m1.dcm", "MONOCHROME1", 4095 - pixels), ("m2", "MONOCHROME2", pixels)):
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = pydicom.uid.DigitalXRayImageStorageForPresentation, "1.2.3"
        ds.Rows, ds.Columns = pixels.shape
        ds.SamplesPerPixel, ds.PixelRepresentation, ds.PhotometricInterpretation = 1, 0, photometric
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        ds.PixelData = stored.tobytes()
        ds.save_as(ours.root / name, enforce_file_format=True)
    store, rejected = pack(ours.write("image_id,patient_id\nm1,1\nm2,2\n").open(), tmp_path)
    assert len(rejected) == 0
    np.testing.assert_array_equal(store.images[0], store.images[1])
    png = np.asarray(image_files.fit(picture(3), SIZE)[0], int)
    assert np.corrcoef(store.images[0].ravel(), png.ravel())[0, 1] > 0.999


# --- the NIH release ---------------------------------------------------------------------------------------

ENTRY = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,Extra"


@pytest.fixture
def release(tmp_path):
    """ChestX-ray14 in small: three archives unpacked, 1024 and 256 px, RGBA, and what does not belong."""
    root = tmp_path / "nih"
    save(root / "images_001/images/00000001_000.png", 1, width=1024, height=1024)
    save(root / "images_001/images/00000001_001.png", 2, width=1024, height=1024, mode="RGBA")
    save(root / "images_002/images/00000002_000.png", 3, width=256, height=256)
    save(root / "images_002/images/00000003_000.png", 4, width=512, height=256)
    save(root / "images_003/00000001_000.png", 5, width=1024, height=1024)  # twice
    save(root / "images_003/00000099_000.png", 6)  # without a row
    save(root / "other/00000004_000.png", 7)  # elsewhere
    (root / "images_004.tar.gz").write_bytes(b"not unpacked")
    rows = [
        "00000001_000.png,Cardiomegaly|Effusion,0,1,58,M,PA,x",
        "00000001_001.png,No Finding,1,1,59,M,AP,x",
        "00000002_000.png,Nodule,0,2,81,F,PA,x",
        "00000003_000.png,Pleural_Thickening,0,3,7,F,AP,x",
        "00000004_000.png,Hernia,0,4,33,F,AP,x",
    ]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([ENTRY, *rows]) + "\n")
    boxes = [f"{name},{what},256,512,128,64,,," for name, what in (("00000001_000.png", "Cardiomegaly"),)]
    boxes += ["00000002_000.png,Nodule,256,512,128,64,,,", "00000003_000.png,Infiltrate,0,0,1024,1024,,,"]
    boxes += ["00000004_000.png,Mass,1,1,5,5,,,"]
    (root / "BBox_List_2017.csv").write_text("\n".join(["Image Index,Finding Label,Bbox [x,y,w,h],,,,,,", *boxes]))
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png")
    (root / "test_list.txt").write_text("00000002_000.png\n00000004_000.png\n")
    return root


def test_nih_release(release, tmp_path):
    store, rejected = pack(sources.open_source({"source": "nih", "size_px": SIZE, "folder": str(release)}), tmp_path)
    index = store.index
    assert index["image_id"].tolist() == [
        "00000001_000.png",
        "00000001_001.png",
        "00000002_000.png",
        "00000003_000.png",
    ]
    assert index["patient_id"].tolist() == ["00000001", "00000001", "00000002", "00000003"]
    assert index["official_split"].fillna("").tolist() == ["train_val", "train_val", "test", ""]
    assert index["age"].tolist() == [58, 59, 81, 7] and index["follow_up_number"].tolist() == [0, 1, 0, 0]
    assert index["view"].tolist() == ["PA", "AP", "PA", "AP"] and index["sex"].tolist() == ["M", "M", "F", "F"]
    assert tuple(store.labels) == ("image_id", *vocabulary.NIH_FINDINGS.values())
    positive = store.labels.set_index("image_id").apply(lambda row: set(row.index[row == 1]), axis=1)
    assert positive.tolist() == [{"cardiomegaly", "effusion"}, set(), {"nodule"}, {"pleural_thickening"}]
    assert len(rejected) == 3
    reasons = rejected.set_index("image_id")["reason"]
    assert "occurs twice" in reasons["00000001_000.png"] and "images_001" in reasons["00000001_000.png"]
    assert "no row" in reasons["00000099_000.png"] and "without an image" in reasons["00000004_000.png"]
    # the kept one of the two; RGBA is what its grey is
    first = release / "images_001/images/00000001_000.png"
    np.testing.assert_array_equal(store.images[0], expected(first))
    np.testing.assert_array_equal(store.images[1], image_files.fit(picture(2, 1024, 1024), SIZE)[0])
    # boxes, given in 1024 x 1024 pixels whatever the file's size
    boxes = store.boxes.set_index("image_id")[list(store_module.BOX_COLUMNS[2:])]
    at = [256 * SIZE / 1024, 512 * SIZE / 1024, 384 * SIZE / 1024, 576 * SIZE / 1024]
    assert boxes.loc["00000001_000.png"].tolist() == pytest.approx(at)
    assert boxes.loc["00000002_000.png"].tolist() == pytest.approx(at)
    assert boxes.loc["00000003_000.png"].tolist() == pytest.approx([0, SIZE / 4, SIZE, 3 * SIZE / 4])  # all of it
    assert sorted(store.boxes["finding"]) == ["cardiomegaly", "infiltration", "nodule"]


def test_nih_image_in_both_lists_is_an_error(release):
    (release / "test_list.txt").write_text("00000001_001.png\n")
    with pytest.raises(ValueError, match=r"00000001_001\.png is in both"):
        sources.nih(size_px=SIZE, folder=str(release))


def test_nih_row_twice_is_listed(release, tmp_path):
    entries = release / "Data_Entry_2017_v2020.csv"
    entries.write_text(entries.read_text() + "00000002_000.png,Mass,0,2,82,F,PA,x\n")
    store, rejected = pack(sources.nih(size_px=SIZE, folder=str(release)), tmp_path)
    assert store.labels.set_index("image_id").loc["00000002_000.png", ["nodule", "mass"]].tolist() == [1, 0]
    assert rejected.set_index("image_id")["reason"]["00000002_000.png"] == "the row occurs twice; the first is kept"


def test_nih_without_lists_or_tables_uses_the_copies(tmp_path):
    """No list: no official split. No tables: those that torchxrayvision ships."""
    save(tmp_path / "nih/images/00013118_008.png", width=256, height=256)
    store, _ = pack(sources.nih(size_px=SIZE, folder=str(tmp_path / "nih")), tmp_path)
    assert store.index["official_split"].isna().all() and store.index["patient_id"].tolist() == ["00013118"]
    assert store.boxes["finding"].tolist() == ["atelectasis"]


@pytest.mark.parametrize(("have", "says"), [((), "unpack the NIH archives"), (("images/x.png",), "NIH file names")])
def test_nih_wrong_folder(tmp_path, have, says):
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(f"{ENTRY}\n00000001_000.png,Mass,0,1,58,M,PA,x\n")
    for name in have:
        save(tmp_path / name)
    with pytest.raises((FileNotFoundError, ValueError), match=says):
        sources.nih(size_px=SIZE, folder=str(tmp_path))


@pytest.mark.parametrize("size", [(300, 1024), (37, 1024), (1, 1024), (1024, 300), (1024, 1024)], ids=str)
def test_boxes_lie_on_what_is_painted_in_long_images(tmp_path, size):
    """A white rectangle over the whole of the short side and a quarter to all of the long one."""
    start = [0 if side < 1024 else 256 for side in size]
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[start[1] :, start[0] :] = 255
    pixels[-1, -1] = 254  # of one value it would be refused
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = sources._read_file([str(tmp_path / "a.png")], 128, 0)
    index = pd.DataFrame([{"image_id": "a", **{c: getattr(read, c) for c in store_module.PACKED_COLUMNS}}])
    sides = dict(zip(("x0_frac", "y0_frac"), np.divide(start, size), strict=True))
    boxes = pd.DataFrame([{"image_id": "a", "finding": "mass", **sides, "x1_frac": 1.0, "y1_frac": 1.0}])
    source = image_source.ImageSource(index, None, boxes=boxes)
    (found,) = packing._boxes(source, index, tmp_path)[["x0_px", "y0_px", "x1_px", "y1_px"]].to_numpy()
    for low, high, line in ((found[0], found[2], read.square.max(0)), (found[1], found[3], read.square.max(1))):
        assert high == pytest.approx(np.nonzero(line)[0][-1] + 1, abs=0.01)
        assert high - low == pytest.approx(line.sum() / 255, abs=0.02)
    square = [box * 128 for box in (*sides.values(), 1, 1)]
    assert size != (1024, 1024) or found.tolist() == square


def within(boxes, size_px):
    sides = boxes[list(store_module.BOX_COLUMNS[2:])].to_numpy()
    return (sides >= 0).all() and (sides <= size_px).all() and (sides[:, :2] < sides[:, 2:]).all()


def linked(release, folder, names=None):
    """A release folder that holds links to (some of) the images of one folder of the real one."""
    for name in ("train_val_list.txt", "test_list.txt"):
        (folder / name).symlink_to(release / name)
    if names is None:
        (folder / "images").symlink_to(release / "images_1024")
        return folder
    (folder / "images").mkdir()
    for name in names:
        (folder / "images" / name).symlink_to(release / "images" / name)
    return folder


def test_real_originals(cxr_data, tmp_path):
    """48 radiographs as released, 4 of them RGBA, at 224 px."""
    release = cxr_data / "nih"
    root = tmp_path / "release"
    root.mkdir()
    source = sources.nih(size_px=224, folder=str(linked(release, root)))
    rejected = packing.pack(source, tmp_path / "store", tmp_path / "work", size_px=224)
    store = open_store(tmp_path / "store")
    assert len(store.index) == 48 and set(rejected["reason"]) == {"a row without an image file"}
    rgba = []
    for k, name in enumerate(store.index["image_id"]):
        with Image.open(release / "images_1024" / name) as image:
            if image.mode != "RGBA":
                continue
            rgba.append(name)
            bands = np.asarray(image)
        assert (bands[..., 0] == bands[..., 1]).all() and (bands[..., 0] == bands[..., 2]).all()
        grey = image_files.fit(Image.fromarray(bands[..., 0].copy()), 224)[0]
        np.testing.assert_array_equal(store.images[k], grey)
    assert len(rgba) == 4
    assert len(store.boxes) >= 10 and within(store.boxes, 224)
    assert store.index["official_split"].isin(["train_val", "test"]).all()
    assert (store.images.reshape(48, -1).std(1) > 10).all()


def test_real_small_images_agree_with_their_originals(cxr_data, tmp_path):
    """60 of the 256 px images, among them the 48 whose originals are there: same picture, same boxes."""
    release = cxr_data / "nih"
    originals = {p.name for p in (release / "images_1024").glob("*.png")}
    others = sorted({p.name for p in (release / "images").glob("*.png")} - originals)[:12]
    stores = {}
    for name, only in (("small", [*originals, *others]), ("large", None)):
        root = tmp_path / name
        root.mkdir()
        source = sources.nih(size_px=64, folder=str(linked(release, root, only)))
        packing.pack(source, root / "store", root / "work", size_px=64)
        stores[name] = open_store(root / "store")
    small, large = stores["small"], stores["large"]
    assert len(small.index) == 60 and within(small.boxes, 64)
    rows = small.rows(large.index["image_id"])
    difference = np.abs(small.images[rows].astype(float) - large.images)
    assert difference.mean((1, 2)).max() < 6
    common = small.boxes[small.boxes["image_id"].isin(originals)]
    key = ["image_id", "finding", "x0_px", "y0_px"]
    pd.testing.assert_frame_equal(
        common.sort_values(key).reset_index(drop=True), large.boxes.sort_values(key).reset_index(drop=True)
    )
    assert len(common) >= 10


# --- packing: interruptions --------------------------------------------------------------------------------


def read_counted(folder, action, i):
    """Read image i of a made-up source, leaving a line in `folder/reads`; `action(i)` comes first."""
    with open(folder / "reads", "a") as reads:
        reads.write(f"{i}\n")
    action(i)
    square = np.asarray(picture(i, SIZE, SIZE))
    return image_source.PackedImage(square, hashlib.sha256(square.tobytes()).hexdigest(), SIZE, SIZE, 1.0, 0, 0)


def nothing(i):
    pass


def counted(folder, n, action=nothing, fingerprint="counted"):
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(
        {"image_id": [f"i{k:03d}" for k in range(n)], "patient_id": [f"p{k // 2}" for k in range(n)]}
    )
    return image_source.ImageSource(table=table, read=partial(read_counted, folder, action), fingerprint=fingerprint)


def reads(folder):
    path = folder / "reads"
    found = [int(line) for line in path.read_text().split()] if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def contents(store):
    """Everything in a store, comparable."""
    tables = {name: pd.read_parquet(store / f"{name}.parquet").to_json() for name in ("images", "boxes", "labels")}
    pixels = hashlib.sha256((store / "images.npy").read_bytes()).hexdigest()
    return {**tables, "pixels": pixels, "rejected": (store / "rejected.csv").read_text()}


N = 60


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    pack(counted(folder, N), folder)
    assert reads(folder) == list(range(N))
    return contents(folder / "store")


def journalled(folder):
    return packing._read_journal(folder / "work", N).rows().tolist()


def finish(folder, uninterrupted, done, n=N):
    """Pack again: only what is missing is read, and the result is as if nothing had happened."""
    reads(folder)
    store, _ = pack(counted(folder, n), folder)
    assert reads(folder) == sorted(set(range(n)) - set(done))
    assert contents(folder / "store") == uninterrupted
    return store


class Boom(Exception):
    pass


def stop_at(error, row, i):
    if i == row:
        time.sleep(0.2)  # the others get on
        raise error


@pytest.mark.parametrize(
    "error", [SystemExit("stop"), Boom("a bug"), KeyboardInterrupt()], ids=lambda e: type(e).__name__
)
def test_an_exception_in_the_middle(tmp_path, uninterrupted, error):
    """It comes out, unlike an unreadable image, and what was done stays."""
    with pytest.raises(type(error)):
        pack(counted(tmp_path, N, partial(stop_at, error, 40)), tmp_path)
    done = journalled(tmp_path)
    assert 0 < len(done) < N and 40 not in done and not (tmp_path / "store").exists()
    finish(tmp_path, uninterrupted, done)


def die_at(row, how, i):
    if i == row:
        time.sleep(0.2)  # the others get on
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_worker_that_dies_is_one_sentence_and_not_a_hang(tmp_path, uninterrupted, how):
    """As on a decoder that crashes, or when memory runs out. multiprocessing.Pool would wait for ever."""
    with pytest.raises(RuntimeError) as raised:
        pack(counted(tmp_path, N, partial(die_at, 40, how)), tmp_path)
    text = str(raised.value)
    done = journalled(tmp_path)
    assert "i040 (row 40)" in text and f"{len(done)} of {N} images are done" in text and "taskset" in text
    assert 0 < len(done) < N and raised.value.__cause__ is None
    finish(tmp_path, uninterrupted, done)


KILLED = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background commands without it
sys.path.insert(0, {tests!r})
from functools import partial
from pathlib import Path
import test_cohorts as t
folder = Path({folder!r})
def slow(i):
    time.sleep(0.04)
    (folder / f"worker-{{os.getpid()}}").touch()
t.pack(t.counted(folder, t.N, slow), folder)
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_pack_that_is_killed_goes_on_and_leaves_no_workers(tmp_path, uninterrupted, signal_):
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    journal = tmp_path / "work" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") > 10) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal_)
    assert process.wait(20) != 0
    workers = [int(p.name.split("-")[1]) for p in tmp_path.glob("worker-*")]
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(workers) == 2 and not left
    done = journalled(tmp_path)
    assert 10 < len(done) < N
    finish(tmp_path, uninterrupted, done)


def test_interrupted_between_the_last_image_and_the_store(tmp_path, uninterrupted, monkeypatch):
    """And once more while the finished store is moved; nothing is read a second time."""

    def stop(*_):
        raise Boom

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_finish", stop)
        with pytest.raises(Boom):
            pack(counted(tmp_path, N), tmp_path)
    assert reads(tmp_path) == list(range(N))
    with monkeypatch.context() as patch:
        patch.setattr(packing.os, "replace", stop)
        with pytest.raises(Boom):
            pack(counted(tmp_path, N), tmp_path)
    assert reads(tmp_path) == []
    finish(tmp_path, uninterrupted, range(N))


def test_a_journal_line_cut_short_is_read_again(tmp_path, uninterrupted):
    with pytest.raises(Boom):
        pack(counted(tmp_path, N, partial(stop_at, Boom(), 40)), tmp_path)
    journal = tmp_path / "work" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:-1], lines[-1][:20]]))
    done = journalled(tmp_path)
    assert len(done) == len(lines) - 1 and json.loads(lines[-1].partition(" ")[2])["row"] not in done
    finish(tmp_path, uninterrupted, done)


@pytest.mark.parametrize("change", ["fingerprint", "size", "ids"])
def test_changed_settings_discard_old_work(tmp_path, change):
    with pytest.raises(Boom):
        pack(counted(tmp_path, N, partial(stop_at, Boom(), 40)), tmp_path)
    assert journalled(tmp_path) and reads(tmp_path)
    source = counted(tmp_path, N, fingerprint="other" if change == "fingerprint" else "counted")
    if change == "ids":
        source.table["image_id"] = "x" + source.table["image_id"]
    size_px = SIZE
    if change == "size":
        size_px, source.read = 16, lambda i, read=source.read: read(i)._replace(square=np.full((16, 16), i, np.uint8))
    packing.pack(source, tmp_path / "store", tmp_path / "work", size_px=size_px, workers=2)
    assert reads(tmp_path) == list(range(N))
    assert open_store(tmp_path / "store").images.shape == (N, size_px, size_px)


def test_a_file_that_changed_discards_old_work_and_a_table_that_changed_does_not(three):
    three.write("image_id,patient_id,effusion\na,1,0\nb,2,0\n")
    first = three.open().fingerprint
    three.write("image_id,patient_id,effusion\na,1,1\nb,2,0\n")
    assert three.open().fingerprint == first
    save(three.root / "a.png", 9)
    assert three.open().fingerprint != first


def unreadable(rows, i):
    if i in rows:
        raise image_files.UnreadableImageError("it is broken")


def test_gaps_are_closed(tmp_path):
    """Unreadable images in the middle: the rest keep their order, pixels and rows."""
    lost = {0, 7, 8, 59}
    store, rejected = pack(counted(tmp_path, N, partial(unreadable, lost)), tmp_path)
    kept = sorted(set(range(N)) - lost)
    assert store.index["image_id"].tolist() == [f"i{k:03d}" for k in kept]
    np.testing.assert_array_equal(store.images, [np.asarray(picture(k, SIZE, SIZE)) for k in kept])
    assert rejected["image_id"].tolist() == [f"i{k:03d}" for k in sorted(lost)]
    assert set(rejected["reason"]) == {"it is broken"} and rejected["where"][1] == "row 7"


def test_all_unreadable_is_an_error_and_a_second_try_reads_them_again(tmp_path, uninterrupted):
    with pytest.raises(ValueError, match=f"None of {N} images could be read; the first: row 0: it is broken"):
        pack(counted(tmp_path, N, partial(unreadable, range(N))), tmp_path)
    assert not (tmp_path / "store").exists()
    finish(tmp_path, uninterrupted, [])


def test_an_image_id_twice_is_an_error(tmp_path):
    source = counted(tmp_path, 4)
    source.table["image_id"] = ["a", "b", "b", "c"]
    with pytest.raises(ValueError, match="'b' is not unique"):
        pack(source, tmp_path)


def test_packing_replaces_an_older_store(tmp_path, uninterrupted):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "masks.npy").write_text("of another cohort")
    assert finish(tmp_path, uninterrupted, []).masks is None


@pytest.mark.parametrize("workers", [1, 3, 70])
def test_the_number_of_workers_does_not_matter(tmp_path, uninterrupted, workers):
    pack(counted(tmp_path, N), tmp_path, workers)
    assert contents(tmp_path / "store") == uninterrupted


def test_without_hard_links(tmp_path, uninterrupted, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(packing.os, "link", refuse)
    finish(tmp_path, uninterrupted, [])


# --- packing again -----------------------------------------------------------------------------------------


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """How many images were decoded since it was last asked, in whatever process."""
    log, decode = tmp_path / "decoded", image_files.decode

    def counted_decode(content, suffix):
        with open(log, "a") as file:
            file.write("x")
        return decode(content, suffix)

    def since():
        n = len(log.read_text()) if log.exists() else 0
        log.unlink(missing_ok=True)
        return n

    monkeypatch.setattr(image_files, "decode", counted_decode)
    return since


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def five(ours, tmp_path, decoded):
    """Five images, packed, with one that is refused."""
    for k, name in enumerate("abcde"):
        save(ours.root / f"{name}.png", k)
    (ours.root / "broken.png").write_bytes(b"no picture")
    ours.write("image_id,patient_id,effusion\n" + "".join(f"{i},p{i},1\n" for i in [*"abcde", "broken"]))
    pack(ours.open(), tmp_path)
    assert decoded() == 6
    return ours


def check_from_nothing(five, folder, tmp_path):
    """The store is, byte by byte, what packing from nothing makes."""
    pack(five.open(), tmp_path / "from-nothing")
    assert files_in(folder / "store") == files_in(tmp_path / "from-nothing" / "store")


def change(five):
    """One image is replaced, one removed, one added; three stay, not where they were."""
    save(five.root / "b.png", 7)
    (five.root / "c.png").unlink()
    save(five.root / "0.png", 8)
    five.write("image_id,patient_id\n" + "".join(f"{i},p{i}\n" for i in ["0", "broken", *"edba"]))


def test_only_what_changed_is_decoded(five, tmp_path, decoded, capfd):
    change(five)
    store, rejected = pack(five.open(), tmp_path)
    assert decoded() == 3  # with the one that is refused
    assert "3 of 6 images are taken over" in capfd.readouterr().err
    assert store.index["image_id"].tolist() == [*"0edba"] and rejected["image_id"].tolist() == ["broken"]
    for k, name in enumerate("0edba"):
        np.testing.assert_array_equal(store.images[k], expected(five.root / f"{name}.png"))
    check_from_nothing(five, tmp_path, tmp_path)


def test_a_file_that_was_touched_only_is_taken_over(five, tmp_path, decoded):
    before = files_in(tmp_path / "store")
    os.utime(five.root / "a.png", (0, 0))
    pack(five.open(), tmp_path)
    assert decoded() == 1 and files_in(tmp_path / "store") == before


@pytest.mark.parametrize("other", ["size", "code", "record", "names"])
def test_what_was_packed_in_another_way_is_decoded(five, tmp_path, decoded, monkeypatch, other):
    if other == "size":
        settings = {"source": "folder", "size_px": 16, "folder": str(five.root), "table": str(five.csv)}
        packing.pack(sources.open_source(settings), tmp_path / "store", tmp_path / "work", size_px=16)
        assert open_store(tmp_path / "store").images.shape == (5, 16, 16)
    if other == "code":
        getsource = inspect.getsource
        monkeypatch.setattr(packing.inspect, "getsource", lambda what: getsource(what) + "# mended")
    if other == "record":
        (tmp_path / "work.json").write_text("{")
    if other == "names":
        for name in "abcde":
            (five.root / f"{name}.png").rename(five.root / f"{name}.jpg")
    if other != "size":
        pack(five.open(), tmp_path)
    assert decoded() == 6


def test_what_a_packed_image_hangs_on_is_in_one_module():
    """But for the bounds, which decide what is refused and no pixel of what is taken."""
    lines = [line for line in inspect.getsource(image_files).splitlines() if "import" in line and "cxrlib" in line]
    assert lines == ["from cxrlib.base import bounded"]


@pytest.mark.parametrize("fault", ["length", "pixel", "index", "absent"])
def test_a_damaged_store_is_packed_anew(five, tmp_path, decoded, capfd, fault):
    before = files_in(tmp_path / "store")
    pixels = tmp_path / "store" / "images.npy"
    if fault == "length":
        pixels.write_bytes(pixels.read_bytes()[:-10])
    if fault == "pixel":
        pixels.write_bytes(pixels.read_bytes()[:-1] + b"?")
    if fault == "index":
        (tmp_path / "store" / "images.parquet").write_text("no table")
    if fault == "absent":
        pixels.unlink()
    pack(five.open(), tmp_path)
    assert decoded() == 6 and files_in(tmp_path / "store") == before
    said = capfd.readouterr().err
    assert "is not the cohort that was packed last: all its images are packed anew." in said and "taken" not in said


def test_a_pack_over_an_older_store_that_is_interrupted_leaves_it_and_goes_on(five, tmp_path, decoded, monkeypatch):
    before, decode = files_in(tmp_path / "store"), image_files.decode
    change(five)
    content = (five.root / "b.png").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Boom):
        patch.setattr(image_files, "decode", lambda *file: stop_at(Boom(), content, file[0]) or decode(*file))
        pack(five.open(), tmp_path)
    assert files_in(tmp_path / "store") == before
    assert journalled(tmp_path) and decoded() == 2
    with monkeypatch.context() as patch, pytest.raises(Boom):
        patch.setattr(packing, "_finish", lambda *_: stop_at(Boom(), 0, 0))
        pack(five.open(), tmp_path)
    assert files_in(tmp_path / "store") == before and decoded() == 2  # what is refused is tried again
    (tmp_path / "store").rename(tmp_path / "work" / "old")  # as if killed while the new one takes its place
    pack(five.open(), tmp_path)
    assert decoded() == 1
    check_from_nothing(five, tmp_path, tmp_path)


def test_other_backends_of_joblib_pack_the_same(five, tmp_path):
    """Workers that were not forked find all they need in the folder of unfinished work."""
    change(five)
    with joblib.parallel_config(backend="loky"):
        pack(five.open(), tmp_path)
    check_from_nothing(five, tmp_path, tmp_path)


def test_a_source_without_files_is_read_again(tmp_path, uninterrupted):
    pack(counted(tmp_path, N), tmp_path)
    assert finish(tmp_path, uninterrupted, []) and not (tmp_path / "work.json").exists()


# --- packing simulated images ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_simulated_store(tmp_path, workers):
    settings = {"source": "simulated", "hospital": "internal", "images_n": 40, "seed": 3, "size_px": SIZE}
    store, rejected = pack(sources.open_source(settings), tmp_path, workers)
    assert len(rejected) == 0 and store.masks.shape == store.images.shape and store.masks.dtype == np.uint16
    site = simulation.HOSPITALS["internal"]
    rows = simulation.admissions(site, 40, np.random.default_rng(3)).to_dict("records")
    painter = simulation.Painter(site, SIZE, 3)
    for k in (0, 17, 39):
        square, masks = painter.draw(rows[k], k)
        np.testing.assert_array_equal(store.images[k], square)
        np.testing.assert_array_equal(store.masks[k], masks)
    assert len(store.boxes) == store.index[list(simulation.DRAWN)].sum().sum() > 10
    assert tuple(store.labels) == ("image_id", *simulation.SIMULATED_FINDINGS)
    assert (store.labels.dtypes[1:] == "float32").all()


def test_simulated_store_without_findings_has_a_table_of_boxes(tmp_path, monkeypatch):
    healthy = simulation.Hospital(prevalence={}, pneumothorax_patients_frac=0)
    monkeypatch.setitem(simulation.HOSPITALS, "healthy", healthy)
    store, _ = pack(sources.simulated(size_px=SIZE, hospital="healthy", images_n=1, seed=7), tmp_path)
    assert set(store_module.BOX_COLUMNS) <= set(store.boxes)


# --- opening -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["length", "dtype", "column", "twice", "patient", "absent"])
def test_a_store_that_is_not_whole_is_refused(tmp_path, fault):
    pack(counted(tmp_path, 4), tmp_path)
    where = tmp_path / "store"
    index = pd.read_parquet(where / "images.parquet")
    if fault == "length":
        np.save(where / "images.npy", np.zeros((3, SIZE, SIZE), np.uint8))
    if fault == "dtype":
        np.save(where / "images.npy", np.zeros((4, SIZE, SIZE), np.float32))
    if fault == "column":
        index.drop(columns="sha256").to_parquet(where / "images.parquet")
    if fault == "twice":
        index.assign(image_id="same").to_parquet(where / "images.parquet")
    if fault == "patient":
        index.assign(patient_id=None).to_parquet(where / "images.parquet")
    if fault == "absent":
        (where / "images.parquet").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"pack|make repro"):
        open_store(where)
