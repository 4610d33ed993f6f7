"""torchxrayvision's dataset classes, each on a tiny fake of its release, packed and opened."""

import hashlib
import io
import json
import tarfile
import zipfile
from typing import NamedTuple

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1, SecondaryCaptureImageStorage

from cxrlib.base import vocabulary
from cxrlib.cohorts import packing, torchxrayvision_source
from cxrlib.cohorts.store import open_store

NAN = float("nan")
HEIGHT, WIDTH = 24, 32
CHEXPERT = sorted(set(vocabulary.CHEXPERT_FINDINGS.values()) - {"no_finding"})  # the classes leave it out
CHEXPERT_CSV = [name for name in vocabulary.CHEXPERT_FINDINGS if name != "No Finding"]


class Case(NamedTuple):
    """A fake release, and what has to come out of it. `fakes` builds it in a folder."""

    dataset: str
    arguments: dict
    rows: dict  # image_id -> (patient_id, view, sex, age)
    findings: list  # columns of labels
    labels: dict  # image_id -> the findings that are not `other`
    lost: tuple  # image_id and reason of the one image that cannot be read
    unmapped: tuple = ()
    other: float = 0.0
    pictures: dict | None = None  # image_id -> pixels, where they are not ramp(place in rows)
    tolerance: int = 0
    patients: bool = True


def ramp(k):
    """A gradient in both directions, 24 x 32, different for each k by more than any tolerance here."""
    return np.uint8(np.add.outer(3 * np.arange(HEIGHT), 4 * np.arange(WIDTH)) + 12 * k)


def save(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **({"quality": 100} if file.suffix == ".jpg" else {}))


def table(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(file, index=False)


def dicom(file, pixels, bits=8, photometric="MONOCHROME2", window=None, syntax=ExplicitVRLittleEndian):
    file.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = syntax
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PixelRepresentation, data.PhotometricInterpretation = 1, 0, photometric
    data.BitsAllocated, data.BitsStored, data.HighBit = (8 if bits == 8 else 16), bits, bits - 1
    if window:
        data.WindowCenter, data.WindowWidth = window
    if syntax.is_compressed:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=100)
        data.PixelData = encapsulate([content.getvalue()])
        data["PixelData"].VR = "OB"
    else:
        data.PixelData = pixels.astype("<u1" if bits == 8 else "<u2").tobytes()
    data.save_as(file, enforce_file_format=True)


def nih(root):
    # Two images of one patient; one RGBA as four of the release are; a lateral-like view left out.
    entries = [
        ("1_0.png", "Mass|Pleural_Thickening", 0, 1, 57, "M", "PA"),
        ("1_1.png", "No Finding", 1, 1, 58, "M", "AP"),
        ("2_0.png", "Effusion", 0, 2, 33, "F", "PA"),
        ("3_0.png", "Hernia", 0, 3, 70, "F", "PA"),
    ]
    names = (
        "Image Index",
        "Finding Labels",
        "Follow-up #",
        "Patient ID",
        "Patient Age",
        "Patient Sex",
        "View Position",
    )
    table(root / "entry.csv", [dict(zip(names, row, strict=True)) for row in entries])
    save(root / "images/1_0.png", ramp(0))
    save(root / "images/1_1.png", np.dstack([ramp(1)] * 3 + [np.full((HEIGHT, WIDTH), 255, np.uint8)]))
    save(root / "images/2_0.png", ramp(2))
    save(root / "images/3_0.png", ramp(3))
    whole = (root / "images/3_0.png").read_bytes()
    (root / "images/3_0.png").write_bytes(whole[:50])  # within its pixels
    return Case(
        "NIH_Dataset",
        {"imgpath": "images", "csvpath": "entry.csv"},
        {"1_0.png": ("1", "PA", "M", 57), "1_1.png": ("1", "AP", "M", 58), "2_0.png": ("2", "PA", "F", 33)},
        sorted(vocabulary.NIH_FINDINGS.values()),
        {"1_0.png": {"mass": 1, "pleural_thickening": 1}, "2_0.png": {"effusion": 1}},
        ("3_0.png", "truncated"),
    )


def google(root):
    # "Airspace opacity", which the class renames to the name of another finding, and no patientid.
    names = (
        "Image Index",
        "Patient ID",
        "Patient Age",
        "Patient Gender",
        "View Position",
        "Fracture",
        "Pneumothorax",
    )
    names += ("Airspace opacity", "Nodule or mass")
    entries = [
        ("1_0.png", 13, 60, "M", "AP", "NO", "YES", "YES", "NO"),
        ("1_1.png", 13, 61, "M", "PA", "NO", "NO", "NO", "YES"),
        ("4_0.png", 4, 20, "F", "PA", "NO", "NO", "NO", "NO"),
    ]
    table(root / "google.csv", [dict(zip(names, row, strict=True)) for row in entries])
    save(root / "images/1_0.png", ramp(0))
    save(root / "images/1_1.png", ramp(1))
    return Case(
        "NIH_Google_Dataset",
        {"imgpath": "images", "csvpath": "google.csv"},
        {"1_0.png": ("13", "AP", "M", 60), "1_1.png": ("13", "PA", "M", 61)},
        ["airspace_opacity", "fracture", "nodule_or_mass", "pneumothorax"],
        {"1_0.png": {"pneumothorax": 1, "airspace_opacity": 1}, "1_1.png": {"nodule_or_mass": 1}},
        ("4_0.png", "No such file"),
    )


# RSNA's ids of 00016399_017.png and 00016399_008.png, of 00019124_092.png, and one that no image of NIH matches well.
RSNA_A, RSNA_B = "0087bd3a-55a7-4045-b111-b018fa52d361", "01a6eaa6-222f-4ea8-9874-bbd89dc1a1ce"
RSNA_C, RSNA_UNMATCHED = "0004cfab-14fd-4e49-80ba-63a80b6bddd6", "06f1d0a2-d8c5-4229-9944-59da85c96b81"


def rsna(root, extension=".jpg"):
    # Two boxes make two rows of one image; "patientId" is the image's id, and the patient that of NIH's image.
    boxes = [(RSNA_A, 1, 1), (RSNA_A, 9, 1), (RSNA_B, None, 0), (RSNA_C, None, 0)]
    table(root / "labels.csv", [dict(patientId=i, x=x, y=x, width=x, height=x, Target=t) for i, x, t in boxes])
    headers = [(RSNA_A, 43, "F", "AP"), (RSNA_B, 65, "M", "PA"), (RSNA_C, 2, "M", "PA")]
    names = ("PatientID", "PatientAge", "PatientSex", "ViewPosition")
    table(root / "headers.csv", [dict(zip(names, row, strict=True)) for row in headers])
    for k, name in enumerate((RSNA_A, RSNA_B)):
        file = root / "images" / (name + extension)
        save(file, ramp(k)) if extension == ".jpg" else dicom(file, ramp(k), syntax=JPEGBaseline8Bit)
    if extension == ".jpg":
        (root / f"images/{RSNA_C}.jpg").write_bytes(b"no image at all, for whatever reason")
    else:  # the environment has no decoder for it
        dicom(root / f"images/{RSNA_C}.dcm", ramp(2), syntax=JPEGLosslessSV1)
    return Case(
        "RSNA_Pneumonia_Dataset",
        {"imgpath": "images", "csvpath": "labels.csv", "dicomcsvpath": "headers.csv", "extension": extension},
        {RSNA_A: ("16399", "AP", "F", 43), RSNA_B: ("16399", "PA", "M", 65)},
        ["airspace_opacity", "pneumonia"],
        {RSNA_A: {"airspace_opacity": 1, "pneumonia": 1}},
        (RSNA_C, f"{RSNA_C}.jpg`` with iomode `r`.)" if extension == ".jpg" else "gdcm - requires"),
        tolerance=3,
    )


def rsna_dicom(root):
    return rsna(root, ".dcm")


def padchest(root):
    # 16-bit PNGs, Spanish release: age from the study's year, sex "O", AP_horizontal only when asked for,
    # children and rows without labels dropped by the class, labels are words within a text.
    names = ("ImageID", "StudyDate_DICOM", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection", "Labels")
    entries = [
        ("a.png", 20140915, "77", 1930, "F", "PA", "['pleural effusion', 'heart insufficiency']"),
        ("b.png", 20100101, "77", 1930, "F", "AP_horizontal", "['cardiomegaly', 'air bronchogram', 'pacemaker']"),
        ("c.png", 20100101, "78", 1990, "O", "AP", "['normal', 'scoliosis']"),
        ("d.png", 20100101, "79", 1990, "M", "L", "['normal']"),
        ("e.png", 20180101, "80", 2015, "M", "PA", "['normal']"),
        ("f.png", 20180101, "81", 1950, "M", "PA", None),
        ("g.png", 20180101, "82", 1950, "M", "PA", "['normal']"),
    ]
    table(root / "padchest.csv", [dict(zip(names, row, strict=True)) for row in entries])
    for k, name in enumerate(("a", "b", "c", "d", "e", "f")):
        save(root / f"images/{name}.png", ramp(k).astype(np.uint16) * 257)
    (root / "images/g.png").write_bytes(b"")
    unmapped = "Air Trapping,Aortic Atheromatosis,Aortic Elongation,Bronchiectasis,Costophrenic Angle Blunting,"
    unmapped += "Flattened Diaphragm,Granuloma,Hemidiaphragm Elevation,Hilar Enlargement,Scoliosis,Tube,Tuberculosis"
    return Case(
        "PC_Dataset",
        {"imgpath": "images", "csvpath": "padchest.csv", "views": ["PA", "AP", "AP Supine"]},
        {"a.png": ("77", "PA", "F", 84), "b.png": ("77", "AP", "F", 80), "c.png": ("78", "AP", None, 20)},
        sorted([*vocabulary.NIH_FINDINGS.values(), "fracture", "support_devices"]),
        {
            "a.png": {"effusion": 1},
            "b.png": {"cardiomegaly": 1, "consolidation": 1, "infiltration": 1, "support_devices": 1},
        },
        ("g.png", "Could not find a backend"),
        tuple(unmapped.split(",")),
    )


def chexpert_rows(paths_and_more):
    """CheXpert's labeller: -1 uncertain, empty not mentioned, "No Finding" makes all others 0."""
    rows = []
    for k, row in enumerate(paths_and_more):
        labels = dict.fromkeys(CHEXPERT_CSV) | {"No Finding": 1.0 if k == 1 else None}
        labels |= {"Pleural Effusion": -1.0, "Lung Opacity": 1.0, "Fracture": 0.0} if k == 0 else {}
        rows.append(row | labels)
    return rows


def chexpert_labels(first, second, healthy_devices):
    healthy = dict.fromkeys(CHEXPERT, 0.0) | {"support_devices": healthy_devices}
    return {first: {"effusion": -1, "lung_opacity": 1, "fracture": 0}, second: healthy}


def chexpert(root):
    # The folder in Path is the release's, not the user's; Age 0 is unknown; laterals have no AP/PA.
    folder = "CheXpert-v1.0-small/train"
    views = [(1, "Female", 68, "AP"), (1, "Female", 0, "PA"), (2, "Unknown", 50, "PA"), (3, "Male", 50, None)]
    rows, ids = [], []
    for k, (patient, sex, age, view) in enumerate(views):
        ids.append(f"{folder}/patient{patient:05d}/study{k}/view1_{'frontal' if view else 'lateral'}.jpg")
        side = "Frontal" if view else "Lateral"
        rows.append({"Path": ids[k], "Sex": sex, "Age": age, "Frontal/Lateral": side, "AP/PA": view})
        if k != 2:
            save(root / ids[k].removeprefix("CheXpert-v1.0-small/"), ramp(k))
    table(root / "train.csv", chexpert_rows(rows))
    return Case(
        "CheX_Dataset",
        {"imgpath": ".", "csvpath": "train.csv"},
        {ids[0]: ("00001", "AP", "F", 68), ids[1]: ("00001", "PA", "F", None)},
        CHEXPERT,
        chexpert_labels(ids[0], ids[1], NAN),
        (ids[2], "No such file"),
        other=NAN,
        tolerance=3,
    )


def chexlocalize(root):
    # The blinded test csv: paths and labels only, so views and the rest are unknown.
    ids = [f"test/patient{n}/study1/view1_{v}.jpg" for n, v in ((7, "frontal"), (8, "frontal"), (9, "frontal"))]
    ids.append("test/patient9/study1/view2_lateral.jpg")
    for k in (0, 1, 3):
        save(root / ids[k], ramp(k))
    table(root / "labels.csv", chexpert_rows([{"Path": name} for name in ids]))
    return Case(
        "CheXlocalize_Dataset",
        {"imgpath": ".", "csvpath": "labels.csv"},
        {ids[0]: ("7", None, None, None), ids[1]: ("8", None, None, None)},
        CHEXPERT,
        chexpert_labels(ids[0], ids[1], NAN),
        (ids[2], "No such file"),
        other=NAN,
        tolerance=3,
    )


def mimic(root):
    # Labels are of studies, images of another table: both images of study 5 get its labels.
    keys = [(10000032, 5), (10000033, 6), (10000034, 7)]
    rows = chexpert_rows([{"subject_id": s, "study_id": t} for s, t in keys])
    table(root / "chexpert.csv", [rows[0], rows[1], rows[2]])
    files = [("a", 0, "PA"), ("b", 0, "AP"), ("c", 0, "LATERAL"), ("d", 1, "PA"), ("e", 2, "PA")]
    meta = [
        {"dicom_id": name, "subject_id": keys[k][0], "study_id": keys[k][1], "ViewPosition": view, "StudyDate": 1}
        for name, k, view in files
    ]
    table(root / "metadata.csv", meta)
    for k, (name, study, _) in enumerate(files[:-1]):
        save(root / "p10" / f"p{keys[study][0]}" / f"s{keys[study][1]}" / f"{name}.jpg", ramp(k))
    labels = chexpert_labels("a", "d", 0)
    return Case(
        "MIMIC_Dataset",
        {"imgpath": ".", "csvpath": "chexpert.csv", "metacsvpath": "metadata.csv"},
        {
            "a": ("10000032", "PA", None, None),
            "b": ("10000032", "AP", None, None),
            "d": ("10000033", "PA", None, None),
        },
        CHEXPERT,
        labels | {"b": labels["a"]},
        ("e", "No such file"),
        other=NAN,
        pictures={"d": ramp(3)},
        tolerance=3,
    )


def brax(root):
    # Ages in groups with a text for the oldest; the paths begin with the folder that is imgpath.
    ids = [f"images/id_{k}/image.png" for k in range(4)]
    more = [("M", "85 or more", "PA", 30), ("F", "40", "AP", 30), ("F", "45", "PA", 30), ("F", "45", "PA", 999)]
    rows = [
        {"PngPath": ids[k], "PatientID": f"id_{k}", "PatientSex": s, "PatientAge": a, "ViewPosition": v}
        | {"Rows": rows, "Columns": 30}
        for k, (s, a, v, rows) in enumerate(more)
    ]
    table(root / "master.csv", chexpert_rows(rows))
    for k in (0, 1, 3):
        save(root / ids[k], ramp(k))
    return Case(
        "BRAX_Dataset",
        {"imgpath": "images", "csvpath": "master.csv"},
        {ids[0]: ("id_0", "PA", "M", 85), ids[1]: ("id_1", "AP", "F", 40)},
        CHEXPERT,
        chexpert_labels(ids[0], ids[1], NAN),
        (ids[2], "No such file"),
        other=NAN,
    )


def openi(root):
    # Reports are XML in a tgz, views come from a table of DICOM headers, labels from automatic terms.
    reports = {"CXR1": (["Opacity", "Pleural Effusion"], ["x1", "x2"]), "CXR2": ([], ["x3"]), "CXR3": ([], ["x4"])}
    with tarfile.open(root / "reports.tgz", "w:gz") as archive:
        for uid, (terms, shown) in reports.items():
            mesh = "".join(f"<automatic>{term}</automatic>" for term in terms)
            shown = "".join(f'<parentImage id="{name}"/>' for name in shown)
            text = f'<e><uId id="{uid}"/><MeSH><major>x</major>{mesh}</MeSH>{shown}</e>'.encode()
            info = tarfile.TarInfo(f"{uid}.xml")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    views = {"x1": "PA", "x2": "LATERAL", "x3": "AP", "x4": "PA"}
    table(root / "headers.csv", [{"imageid": name, "View Position": view} for name, view in views.items()])
    table(root / "tsne.csv", [{"imageid": name, "tsne-view": "PA"} for name in views])
    for k, name in enumerate(("x1", "x3", "x2")):
        save(root / f"images/{name}.png", ramp(k))
    save(root / "images/x4.png", np.uint16(ramp(3)) * 200)  # deeper than the class allows
    return Case(
        "Openi_Dataset",
        {"imgpath": "images", "xmlpath": "reports.tgz", "dicomcsv_path": "headers.csv", "tsnepacsv_path": "tsne.csv"},
        {"x1": ("CXR1", "PA", None, None), "x3": ("CXR2", "AP", None, None)},
        sorted(
            {*vocabulary.NIH_FINDINGS.values(), "fracture", "lung_lesion", "lung_opacity"} - {"consolidation"},
        ),
        {"x1": {"lung_opacity": 1, "effusion": 1}},
        ("x4", "higher than expected"),
        ("Calcified Granuloma", "Granuloma"),
    )


def siim(root):
    # JPEG-compressed DICOM in subfolders; a row per mask; "no mask" as Kaggle writes it, with a blank.
    rows = [("1.2.a", " -1"), ("1.2.b", "5 2 8 1"), ("1.2.b", "9 1"), ("1.2.c", "-1"), ("1.2.d", " -1")]
    table(root / "rle.csv", [{"ImageId": name, " EncodedPixels": mask} for name, mask in rows])
    for k, name in enumerate("abc"):
        dicom(root / f"train/{name}/{name}/1.2.{name}.dcm", ramp(k), syntax=JPEGBaseline8Bit)
    return Case(
        "SIIM_Pneumothorax_Dataset",
        {"imgpath": "train", "csvpath": "rle.csv"},
        {f"1.2.{name}": (f"1.2.{name}", None, None, None) for name in "abc"},
        ["pneumothorax"],
        {"1.2.b": {"pneumothorax": 1}},
        ("1.2.d", "1.2.d.dcm"),
        tolerance=3,
        patients=False,
    )


def vindr(root):
    # 12 bits, one image inverted, one under a window half as wide; a row per radiologist and box.
    readings = [("a", "Pleural effusion"), ("a", "Nodule/Mass"), ("a", "No finding"), ("b", "No finding")]
    readings += [("c", "Pulmonary fibrosis"), ("c", "Aortic enlargement"), ("c", "Lung Opacity"), ("d", "No finding")]
    table(root / "train.csv", [{"image_id": name, "class_name": found} for name, found in readings])
    deep = [np.uint16(ramp(k)) * 16 for k in range(3)]
    dicom(root / "train/a.dicom", deep[0], 12)
    dicom(root / "train/b.dicom", deep[1], 12, "MONOCHROME1", (2048, 4096))
    dicom(root / "train/c.dicom", deep[2], 12, window=(1024, 2048))
    dicom(root / "train/d.dicom", deep[0], 12)
    (root / "train/d.dicom").write_bytes((root / "train/d.dicom").read_bytes()[:-200])
    window = np.uint8(np.minimum(255, 2 * ramp(2).astype(int)))
    return Case(
        "VinDr_Dataset",
        {"imgpath": "train", "csvpath": "train.csv"},
        {name: (name, None, None, None) for name in "abc"},
        sorted(
            "atelectasis cardiomegaly consolidation effusion fibrosis infiltration lung_opacity nodule_or_mass "
            "pleural_thickening pneumothorax".split()
        ),
        {"a": {"effusion": 1, "nodule_or_mass": 1}, "c": {"fibrosis": 1, "lung_opacity": 1}},
        ("d", "number of bytes of pixel data is less than expected"),
        ("Aortic enlargement", "Calcification", "ILD", "Other Lesion"),
        pictures={"b": 255 - ramp(1), "c": window},
        tolerance=3,
        patients=False,
    )


def covid(root):
    # Findings as a path of names; several of them are the data set's own words.
    names = ("filename", "patientid", "sex", "age", "view", "finding", "offset")
    entries = [
        ("a.png", 4, "M", 65, "PA", "Pneumonia/Viral", 0),
        ("b.png", 4, "M", 65, "AP", "No Finding", 3),
        ("c.png", 5, None, None, "PA", "Pneumonia", 0),
        ("d.png", 6, "F", 30, "Axial", "Pneumonia", 0),
    ]
    table(root / "metadata.csv", [dict(zip(names, row, strict=True)) for row in entries])
    for k, name in enumerate("ab"):
        save(root / f"images/{name}.png", ramp(k))
    return Case(
        "COVID19_Dataset",
        {"imgpath": "images", "csvpath": "metadata.csv"},
        {"a.png": ("4", "PA", "M", 65), "b.png": ("4", "AP", "M", 65)},
        ["no_finding", "pneumonia"],
        {"a.png": {"pneumonia": 1}, "b.png": {"no_finding": 1}},
        ("c.png", "No such file"),
        ("Viral",),
    )


def nlm(root):
    save(root / "CXR_png/MCUCXR_0001_0.png", ramp(0))
    save(root / "CXR_png/MCUCXR_0002_1.png", ramp(1))
    (root / "CXR_png/MCUCXR_0003_1.png").write_bytes(b"")
    names = ("MCUCXR_0001_0.png", "MCUCXR_0002_1.png")
    rows = {name: (name, "PA", None, None) for name in names}
    lost = ("MCUCXR_0003_1.png", "Could not find a backend")
    return Case("NLMTB_Dataset", {"imgpath": "."}, rows, [], {}, lost, ("Tuberculosis",), patients=False)


def tbx11k(root):
    kinds = ["ActiveTuberculosis", "ObsoletePulmonaryTuberculosis", "PulmonaryTuberculosis"]
    content = {
        "images": [{"id": k, "file_name": f"tb/{k}.png"} for k in (1, 2)],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": k, "name": n, "supercategory": "Tuberculosis"} for k, n in enumerate(kinds, 1)],
    }
    (root / "annotations/json").mkdir(parents=True)
    (root / "annotations/json/TBX11K_train.json").write_text(json.dumps(content))
    save(root / "imgs/tb/1.png", ramp(0))
    rows = {"tb/1.png": ("tb/1.png", None, None, None)}
    lost, unmapped = ("tb/2.png", "No such file"), (*kinds, "Tuberculosis")
    return Case("TBX11K_Dataset", {"imgpath": "."}, rows, [], {}, lost, unmapped, patients=False)


def object_cxr(root):
    table(
        root / "dev.csv",
        [{"image_name": "1.png", "annotation": "0 1 2"}, {"image_name": "2.png", "annotation": None}],
    )
    save(root / "1.png", ramp(0))
    with zipfile.ZipFile(root / "train.zip", "w") as archive:
        archive.write(root / "1.png", "train/1.png")
    arguments = {"imgzippath": "train.zip", "csvpath": "dev.csv"}
    rows = {"1.png": ("1.png", None, None, None)}
    lost = ("2.png", "no item named")
    return Case("ObjectCXR_Dataset", arguments, rows, [], {}, lost, ("Foreign Object",), patients=False)


FAKES = [nih, google, rsna, rsna_dicom, padchest, chexpert, chexlocalize, mimic, brax, openi, siim, vindr, covid, nlm]
FAKES += [tbx11k, object_cxr]


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "release"
    folder.mkdir()
    monkeypatch.setenv("CXR_DATA", str(folder))
    return folder


def open_case(case, **arguments):
    return torchxrayvision_source.torchxrayvision(
        size_px=WIDTH, dataset=case.dataset, arguments=case.arguments | arguments
    )


@pytest.mark.parametrize("fake", FAKES)
def test_a_release_packs(fake, root, tmp_path):
    case = fake(root)
    source = open_case(case)
    assert case.dataset in source.fingerprint and str(root) in source.fingerprint
    rejected = packing.pack(source, tmp_path / "store", tmp_path / "work", size_px=WIDTH, workers=2)
    store = open_store(tmp_path / "store")
    index = store.index.set_index("image_id")
    assert set(index.index) == set(case.rows)
    got = index[["patient_id", "view", "sex", "age"]].astype(object).where(lambda t: t.notna(), None)
    assert {i: tuple(row) for i, row in zip(got.index, got.to_numpy(), strict=True)} == case.rows

    labels = store.labels.set_index("image_id")
    assert sorted(labels.columns) == case.findings and set(labels.index) == set(case.rows)
    for image_id in case.rows:
        expected = dict.fromkeys(case.findings, case.other) | case.labels.get(image_id, {})
        np.testing.assert_equal(labels.loc[image_id].to_dict(), {k: float(v) for k, v in expected.items()})

    for k, (image_id, number) in enumerate(zip(case.rows, store.rows(list(case.rows)), strict=True)):
        picture = store.images[number]
        expected = (case.pictures or {}).get(image_id, ramp(k))
        assert not picture[:4].any() and not picture[28:].any()
        assert np.abs(picture[4:28].astype(int) - expected).max() <= case.tolerance
        packed = index.loc[image_id]
        assert (packed["source_height_px"], packed["source_width_px"], packed["top_px"]) == (HEIGHT, WIDTH, 4)
        assert packed["sha256"] == hashlib.sha256(picture[4:28].tobytes()).hexdigest()

    lost = rejected[rejected["reason"].str.contains("cannot be read")]
    assert lost["image_id"].tolist() == [case.lost[0]] and case.lost[1] in lost["reason"].item()
    assert "\n" not in lost["reason"].item()
    left_out = [f"label column {name} is not in the vocabulary and was left out" for name in case.unmapped]
    left_out += [] if case.patients else ["it names no patients, so each image counts as a patient of its own"]
    assert sorted(rejected["reason"][rejected["where"] == case.dataset]) == sorted(left_out)
    assert len(rejected) == 1 + len(left_out) + (fake is siim)


def test_a_repeated_row_is_listed_and_contradictions_stop(root):
    case = siim(root)
    source = open_case(case)
    assert (
        "1.2.b",
        "SIIM_Pneumothorax_Dataset row 2",
        "the row repeats its image; the first is kept",
    ) in source.rejected
    table(root / "rle.csv", [{"ImageId": "x", " EncodedPixels": mask} for mask in ("-1", "5 2")])
    with pytest.raises(ValueError, match="row 1: image_id 'x' occurs in several rows that differ"):
        open_case(case)


def test_an_image_of_rsna_whose_patient_nobody_knows_is_listed(root):
    case = rsna(root)
    rows = pd.read_csv(root / "labels.csv")
    table(root / "labels.csv", rows.replace(RSNA_B, RSNA_UNMATCHED))
    headers = pd.read_csv(root / "headers.csv")
    table(root / "headers.csv", headers.replace(RSNA_B, RSNA_UNMATCHED))
    source = open_case(case)
    assert sorted(source.table["image_id"]) == [RSNA_C, RSNA_A]
    reasons = {image_id: reason for image_id, _, reason in source.rejected if image_id}
    assert reasons == {RSNA_UNMATCHED: "the patient id is missing, so its patient could be in two splits"}


def test_a_second_siim_folder_gets_its_own_files(root):
    case = siim(root)
    open_case(case)
    dicom(root / "other/1.2.a.dcm", ramp(5), syntax=JPEGBaseline8Bit)
    square = open_case(case, imgpath="other").read(0).square
    assert np.abs(square[4:28].astype(int) - ramp(5)).max() <= 3


def test_the_columns_of_other_views_and_of_follow_up(root):
    views = open_case(padchest(root), views="*").table.set_index("image_id")["view"]
    assert views.to_dict() == {"a.png": "PA", "b.png": "AP", "c.png": "AP", "d.png": "L", "g.png": "PA"}
    assert open_case(nih(root)).table["follow_up_number"].tolist() == [0, 1, 0, 0]


def test_one_image_per_patient_if_asked_for(root):
    assert open_case(mimic(root), unique_patients=True).table["patient_id"].is_unique


@pytest.mark.parametrize("blank", [None, " "])
def test_rows_without_ids_are_listed(blank, root):
    case = covid(root)
    rows = pd.read_csv(root / "metadata.csv")
    table(root / "metadata.csv", rows.assign(patientid=[4, blank, 5, 6]))
    source = open_case(case)
    assert source.table["patient_id"].tolist() == ["4", "5"]
    assert source.table.index.tolist() == source.labels.index.tolist() == [0, 1]
    assert source.table["image_id"].tolist() == source.labels["image_id"].tolist() == ["a.png", "c.png"]
    assert source.labels["pneumonia"].tolist() == [1, 1]
    assert np.array_equal(source.read(0).square[4:28], ramp(0))
    reason = "the patient id is missing, so its patient could be in two splits"
    assert ("b.png", "COVID19_Dataset row 1", reason) in source.rejected

    case = mimic(root)
    rows = pd.read_csv(root / "metadata.csv")
    table(root / "metadata.csv", rows[rows["study_id"] != 7])  # leaves a study of no image
    assert ("", "MIMIC_Dataset row 4", "the image id is missing") in open_case(case, views="*").rejected


def test_scores_are_no_labels(root):
    names = (
        "Total GEOGRAPHIC",
        "Total GEOGRAPHIC.1",
        "Total OPACITY",
        "Total OPACITY.1",
        "Exam_DateTime",
        "Subject_ID",
    )
    row = "1,1,2,3,20200101_1,7"
    (root / "ralo.csv").write_text(f"a line above the header\n{','.join(names)}\n{row}\n")
    with pytest.raises(ValueError, match=r"row 0: Lung Opacity is 2\.5; labels are 1, 0, -1 or missing"):
        torchxrayvision_source.torchxrayvision(
            size_px=WIDTH, dataset="StonyBrookCOVID_Dataset", arguments={"imgpath": ".", "csvpath": "ralo.csv"}
        )


@pytest.mark.parametrize(
    ("dataset", "changes", "kind", "message"),
    [
        ("NIH", {}, ValueError, "no dataset class 'NIH'; it has BRAX_Dataset, .*VinDr_Dataset"),
        ("MergeDataset", {}, ValueError, "no dataset class 'MergeDataset'"),
        ("NIH_Dataset", {"path": "x"}, ValueError, "unexpected keyword argument 'path'; it takes imgpath, csvpath"),
        ("MIMIC_Dataset", {}, ValueError, "missing a required argument: 'metacsvpath'; it takes imgpath"),
        ("NIH_Dataset", {"csvpath": "x.csv"}, FileNotFoundError, "csvpath of NIH_Dataset: x.csv was not found at"),
        (
            "NIH_Dataset",
            {"imgpath": "entry.csv"},
            ValueError,
            "imgpath=.*entry.csv.*imgpath must be a directory.*which",
        ),
        ("CheX_Dataset", {}, ValueError, "cannot be opened with imgpath=.*csvpath=.*entry.csv .*contain 'train'"),
        ("NIH_Dataset", {"views": ["LL"]}, ValueError, r"no usable row for views \['LL'\]"),
    ],
)
def test_wrong_settings_are_told(dataset, changes, kind, message, root):
    arguments = nih(root).arguments | changes
    with pytest.raises(kind, match=message) as raised:
        torchxrayvision_source.torchxrayvision(size_px=WIDTH, dataset=dataset, arguments=arguments)
    assert "\n" not in str(raised.value)
