"""Reports from fakes of the releases' layouts, and their match with images."""

import gzip
import io
import tarfile

import pandas as pd
import pytest

from cxrlib.reports import image_reports

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  Evaluate for pneumonia.

 FINDINGS:

 The lungs are clear.
 No effusion.

 IMPRESSION:

 No acute   process.
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    return tmp_path


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


# --- sections -----------------------------------------------------------------------------------------------------


def test_sections_leave_the_clinical_question_out():
    assert image_reports.sections(REPORT) == {
        "findings": "The lungs are clear. No effusion.",
        "impression": "No acute process.",
        "last": "No acute process.",
    }


@pytest.mark.parametrize(
    ("report", "impression", "both"),
    [
        (REPORT, "No acute process.", "The lungs are clear. No effusion. No acute process."),
        (" FINDINGS: Clear.\n RECOMMENDATION: None.", "Clear.", "Clear."),
        (" CONCLUSION: Edema.", "Edema.", "Edema."),
        (" INDICATION: Cough.\n\n The heart is large.\n", "The heart is large.", "The heart is large."),
        (" COMPARISON: -\n\n Impression: small letters", "Impression: small letters", "Impression: small letters"),
        (" \n", "none", "none"),
        ("No heading at all.", "No heading at all.", "No heading at all."),
    ],
)
def test_what_is_read(report, impression, both, root):
    write(root / "r/p1/p10/s1.txt", report)
    write(root / "meta.csv", "dicom_id,subject_id,study_id\nx,10,1\n")
    settings = {"source": "mimic", "folder": "r", "metadata": "meta.csv"}
    for which, expected in (("impression", impression), ("both", both)):
        assert image_reports.read_linked({**settings, "sections": which})["text"].fillna("none").item() == expected


# --- MIMIC-CXR ----------------------------------------------------------------------------------------------------

METADATA = "dicom_id,subject_id,study_id\na,10000032,50414267\nb,10000032,50414267\nc,10000033,6\n"


def mimic(root, files="reports/files", zipped=True):
    write(root / files / "p10/p10000032/s50414267.txt", REPORT)
    write(root / files / "p11/p11000000/s7.txt", " IMPRESSION: Of no image.")
    path = root / ("meta.csv.gz" if zipped else "meta.csv")
    content = METADATA.encode()
    path.write_bytes(gzip.compress(content) if zipped else content)
    return {"source": "mimic", "folder": "reports", "metadata": path.name}


@pytest.mark.parametrize(("files", "zipped"), [("reports/files", True), ("reports", False)])
def test_mimic(root, files, zipped):
    table = image_reports.read_linked(mimic(root, files, zipped))
    assert table.columns.tolist() == list(image_reports.LINKED_COLUMNS)
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    assert rows == [
        ["s50414267", "a", "10000032", "No acute process."],
        ["s50414267", "b", "10000032", "No acute process."],
        ["s6", "c", "10000033", None],
        ["s7", None, "11000000", "Of no image."],
    ]
    found = image_reports.of_images(table, ["c", "a", "elsewhere"])
    assert found.table["image_id"].tolist() == ["a"]
    assert (found.without_report, found.without_image) == (["c", "elsewhere"], ["s7"])
    assert found.notes() == [
        "2 images have no report with text: c, elsewhere.",
        "1 reports are of no image of the cohort: s7.",
    ]


def test_mimic_says_what_is_wrong(root):
    settings = mimic(root)
    write(root / "reports/files/p10/p10000032/s50414267.txt", "IMPRESSION: Erguß", "latin-1")
    with pytest.raises(ValueError, match=r"s50414267.txt is not UTF-8 text \(byte 16\)"):
        image_reports.read_linked(settings)
    (root / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty holds no report files/p10/p10000032/s50414267.txt: unpack"):
        image_reports.read_linked({**settings, "folder": "empty"})
    with pytest.raises(FileNotFoundError, match="nowhere was not found"):
        image_reports.read_linked({**settings, "folder": "nowhere"})
    mimic(root)
    write(root / "meta.csv", "dicom_id,study_id\na,1\n")
    with pytest.raises(ValueError, match=r"meta.csv has no column subject_id; it has dicom_id, study_id"):
        image_reports.read_linked({**settings, "metadata": "meta.csv"})
    write(root / "meta.csv", "dicom_id,subject_id,study_id\na,1,1\na,1,2\n")
    with pytest.raises(ValueError, match=r"meta.csv: image 'a' occurs twice"):
        image_reports.read_linked({**settings, "metadata": "meta.csv"})


# --- CheXpert Plus --------------------------------------------------------------------------------------------------

PLUS = """path_to_image,path_to_dcm,deid_patient_id,section_narrative,section_findings,section_impression
train/patient1/study1/view1_frontal.jpg,x,patient1,,"Two
lines, quoted.",Edema.
train/patient1/study1/view2_lateral.jpg,x,patient1,,"Two
lines, quoted.",Edema.
train/patient2/study1/view1_frontal.jpg,x,patient2,,Clear.,
train/patient3/study4/view1_frontal.jpg,x,patient3,Narrated.,,
valid/patient4/study1/view1_frontal.jpg,x,patient4,,,
"""


def test_chexpert_plus(root):
    write(root / "plus.csv", PLUS)
    settings = {"source": "chexpert_plus", "path": "plus.csv"}
    table = image_reports.read_linked(settings)
    assert table["report_id"].tolist() == [
        "train/patient1/study1",
        "train/patient1/study1",
        "train/patient2/study1",
        "train/patient3/study4",
        "val/patient4/study1",
    ]
    assert table["text"].fillna("none").tolist() == ["Edema.", "Edema.", "Clear.", "Narrated.", "none"]
    both = image_reports.read_linked({**settings, "sections": "both"})
    assert both["text"][0] == "Two lines, quoted. Edema." and both["patient_id"][0] == "patient1"


def test_chexpert_plus_meets_chexperts_own_ids(root):
    write(root / "plus.csv", PLUS)
    table = image_reports.read_linked({"source": "chexpert_plus", "path": "plus.csv"})
    ids = [f"CheXpert-v1.0-small/train/patient{p}/study1/view1_frontal.jpg" for p in (2, 1, 9)]
    found = image_reports.of_images(table, ids)
    assert dict(zip(found.table["image_id"], found.table["text"], strict=True)) == {
        ids[0]: "Clear.",
        ids[1]: "Edema.",
    }
    assert found.without_report == [ids[2]]
    assert found.without_image == ["train/patient3/study4"]
    with pytest.raises(ValueError, match=r"None of 1 images \(the first: x.png\) is among the 4 that have a report"):
        image_reports.of_images(table, ["x.png"])


def test_a_study_with_two_texts_is_refused(root):
    write(root / "plus.csv", PLUS.replace('lines, quoted.",Edema.', 'lines, quoted.",Other.', 1))
    with pytest.raises(ValueError, match="report 'train/patient1/study1' has two texts"):
        image_reports.read_linked({"source": "chexpert_plus", "path": "plus.csv"})


def test_image_key():
    keys = image_reports.image_key(
        pd.Series(
            [
                "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg",
                "val/patient64541/study1/view1_frontal.png",
                "CheXpert-v1.0/test/patient64741/study1",
                "00000001_000.png",
                "02aa804e-bde0afdd",
            ]
        )
    )
    assert keys.tolist() == [
        "val/patient64541/study1/view1_frontal",
        "val/patient64541/study1/view1_frontal",
        "test/patient64741/study1",
        "00000001_000.png",
        "02aa804e-bde0afdd",
    ]


# --- one's own, and Open-i ----------------------------------------------------------------------------------------


def test_folder(root):
    write(root / "r.csv", 'image_id,text,report_id,patient_id\na,"One\nreport.",1,p\nb,"One report.",1,p\nc, ,2,q\n')
    table = image_reports.read_linked({"source": "folder", "path": "r.csv"})
    assert table["text"].fillna("none").tolist() == ["One report.", "One report.", "none"]
    write(root / "r.csv", "image_id,text\na,Clear.\n")
    assert image_reports.read_linked({"source": "folder", "path": "r.csv"})["report_id"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("image_id,report\na,Clear.\n", "utf-8", "has no column text; it has image_id, report"),
        ("image_id,text\na,Erguß\n", "latin-1", "is not UTF-8 text"),
        ("image_id,text\na,Clear.\na,Not clear.\n", "utf-8", "image 'a' occurs twice; keep one row an image"),
        ("image_id,text,report_id\na,Clear.,1\nb,Edema.,1\n", "utf-8", "report '1' has two texts"),
        ("image_id,text\n,Clear.\n", "utf-8", "has no image id"),
        ("", "utf-8", "is empty"),
    ],
)
def test_folder_says_what_is_wrong(root, text, encoding, message):
    write(root / "r.csv", text, encoding)
    with pytest.raises(ValueError, match=message):
        image_reports.read_linked({"source": "folder", "path": "r.csv"})


def openi_tar(path, *reports):
    with tarfile.open(path, "w:gz") as tar:
        for k, report in enumerate(reports):
            info = tarfile.TarInfo(f"ecgen-radiology/{k}.xml")
            info.size = len(report.encode())
            tar.addfile(info, io.BytesIO(report.encode()))


def test_openi(root):
    abstract = '<AbstractText Label="FINDINGS">Clear.</AbstractText><AbstractText Label="IMPRESSION"> </AbstractText>'
    first = f'<r><uId id="CXR1"/>{abstract}<parentImage id="CXR1_1"/><parentImage id="CXR1_2"/></r>'
    openi_tar(root / "o.tgz", first, '<r><uId id="CXR2"/></r>')
    table = image_reports.read_linked({"source": "openi", "archive": "o.tgz"})
    assert table["image_id"].fillna("none").tolist() == ["CXR1_1", "CXR1_2", "none"]
    assert table["text"].fillna("none").tolist() == ["Clear.", "Clear.", "none"]
    openi_tar(root / "o.tgz", "<r>")
    with pytest.raises(ValueError, match=r"0.xml is not XML"):
        image_reports.read_linked({"source": "openi", "archive": "o.tgz"})


def test_openi_whole():
    table = image_reports.read_linked({"source": "openi"})
    assert table["report_id"].nunique() == 3955 and table["image_id"].dropna().is_unique


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "pacs"}, "source 'pacs' is none of mimic, chexpert_plus, folder, openi"),
        ({}, "source None is none of"),
        ({"source": "folder", "file": "x"}, "The settings of reports from 'folder' are not its arguments: .*file"),
        ({"source": "openi", "sections": "all"}, "sections: 'all' is none of impression, both"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        image_reports.read_linked(settings)
