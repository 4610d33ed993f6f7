"""A hospital's export: every file read or listed, every rule of matching, every fault, and nobody else's report."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from cxrlib.base import paths
from cxrlib.reports import (
    archive,
    archive_pairs,
    matching,
    matching_rules,
    mentions,
    release_pairs,
    report_headers,
    simulated_archive,
)

SR = "1.2.840.10008.5.1.4.1.1.88.11"
REPORT = (
    "Patient ID: P1\nAccession: A1\nExam date: 3 March 2014\n\nFINDINGS: The lungs are clear.\nIMPRESSION: Normal.\n"
)


def dicom(path, *, syntax=ExplicitVRLittleEndian, bare=False, pixels=True, kind=None, **elements):
    """Write a DICOM file whose elements are those given; None leaves one out."""
    kind = kind or DigitalXRayImageStorageForPresentation
    dataset = Dataset()
    defaults = {
        "SOPClassUID": kind,
        "SOPInstanceUID": generate_uid(entropy_srcs=[str(path)]),
        "StudyInstanceUID": generate_uid(entropy_srcs=[str(elements.get("AccessionNumber")), "study"]),
        "PatientID": "P1",
        "AccessionNumber": "A1",
        "StudyDate": "20140303",
        "Modality": "DX",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "ViewPosition": "PA",
    }
    if pixels:
        defaults |= {"Rows": 4, "Columns": 4, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 1}
        defaults |= {"PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2", "PixelData": bytes(16)}
    for keyword, value in {**defaults, **elements}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    if bare:
        dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    dataset.save_as(path, enforce_file_format=True)


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)


@pytest.fixture
def export(tmp_path):
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def read(export, **how):
    return archive.read_archive(export, export.parent / "tables", report_headers.conventions(**how))


def texts(found):
    whole = [text for part in found.texts() for text in part]
    return {report: whole[row] for row, report in found.reports["report_id"].items()}


# --- what stands in the head of a report ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("Accession: A1", {"accession": "A1"}),
        ("ACCESSION NUMBER = A-77 (CR)", {"accession": "A-77"}),
        ("Acc. No. 77", {}),  # nothing separates name and value: left in the text rather than guessed
        ("Accession #: 77, 78", {"accession": "77, 78"}),
        ("MRN: 0012  Accession: 77", {"patient_id": "0012", "accession": "77"}),
        (
            "| MRN: 5 | Acc. No. = 77 | Study Date: 2014-03-03 |",
            {"patient_id": "5", "accession": "77", "exam_date": "2014-03-03"},
        ),
        ("MRN.......: 123", {"patient_id": "123"}),
        ("Patient: John Doe", {}),
        ("Patient ID: anonymous", {}),
        ("Prior accession: 4471", {}),
        ("Accession: pending", {}),
        ("Date of exam: soon", {}),
        ("Date: 3.3.2014", {"date": "3.3.2014"}),
        ("Signed: 4 March 2014 10:12", {"report_date": "4 March 2014"}),
        ("Report status: Preliminary", {"status": "Preliminary"}),
        ("Status: post coronary bypass", {}),
        ("Study ID: 9001", {"study_id": "9001"}),
    ],
)
def test_fields_of_a_header(head, expected):
    [(_, fields, text)] = report_headers.split_reports(f"{head}\n\nFINDINGS: Clear.", report_headers.conventions())
    assert {k: v for k, v in fields.items() if k != "addendum"} == expected
    assert text == ("FINDINGS: Clear." if expected else f"{head}\n\nFINDINGS: Clear.")


def test_names_of_ones_own_are_added():
    how = report_headers.conventions(names={"accession": ["Rekvisisjon"]})
    for name in ("Rekvisisjon", "Accession"):
        assert report_headers.split_reports(f"{name}: 7\nFINDINGS: x", how)[0][1]["accession"] == "7"
    for wrong in ({"name": {}}, {"names": {"acession": "x"}}, {"date_order": "ymd"}, {"addendum": "("}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            report_headers.conventions(**wrong)


def test_what_is_said_of_earlier_images_is_no_header():
    text = "Accession: A1\nCOMPARISON:\nAccession: A0\nExam date: 1 March 2013\n\nFINDINGS: As before.\n"
    [(_, fields, body)] = report_headers.split_reports(text, report_headers.conventions())
    assert fields == {"accession": "A1", "addendum": 0} and "Accession: A0" in body


def test_reports_in_one_file_are_parted_and_nothing_is_lost():
    text = (
        "St. Elsewhere\nAccession: A1\nMRN: 5\nFINDINGS: Clear.\n\n-----\nSt. Elsewhere\nFINAL REPORT\n"
        "Accession: A2\nMRN: 6\nADDENDUM #2: A rib is broken.\n=====\nAccession: A3\nMRN: 7\n\nFINDINGS: Effusion.\n"
    )
    first, second, third = report_headers.split_reports(text, report_headers.conventions())
    assert first == (1, {"accession": "A1", "patient_id": "5", "addendum": 0}, "St. Elsewhere\nFINDINGS: Clear.")
    assert second[1] == {"accession": "A2", "patient_id": "6", "addendum": 2}
    assert second[0] == 7 and second[2] == "St. Elsewhere\nFINAL REPORT\nA rib is broken."
    assert third == (13, {"accession": "A3", "patient_id": "7", "addendum": 0}, "FINDINGS: Effusion.")


def random_dump(rng):
    """Return a text of several reports, and the fields of each: orders, separators, bodies and footers differ."""
    style = rng.integers(4)
    order = rng.permutation(4)
    reports, parts = [], []
    for _ in range(rng.integers(2, 6)):
        fields = {"accession": f"A{rng.integers(1000)}", "patient_id": f"P{rng.integers(4)}"}
        if rng.random() < 0.1:
            del fields["patient_id"]
        fields["exam_date"] = f"2014-03-{rng.integers(10, 29)}"
        head = [
            f"{name}: {fields[f]}"
            for f, name in (("patient_id", "MRN"), ("accession", "Accession No."), ("exam_date", "Exam date"))
            if f in fields
        ]
        head.append("Patient name: Jane Doe")
        head = [head[i] for i in order if i < len(head)]
        if rng.random() < 0.3:
            head = ["  ".join(head)]
        body = (
            "FINDINGS: Clear.\nIMPRESSION: Normal.",
            "Clear lungs.",
            "THE HEART IS LARGE.\nNO EFFUSION.",
            "FINDINGS:\n\nClear.\n\nIMPRESSION:\n\n1. Normal.",
        )
        foot = ("", "\n\nElectronically signed by Dr. X", "\n\nSigned: 30 March 2014")[rng.integers(3)]
        above = ("", "St. Elsewhere Hospital\nDepartment of Radiology\n", "FINAL REPORT\n\n")[style % 3]
        parts.append(f"{above}{chr(10).join(head)}\n\n{body[rng.integers(4)]}{foot}")
        reports.append(fields)
    return ("\n\n", "\n-----\n", "\n\f", "\n\n======\n\n")[style].join(parts), reports


def test_reports_of_a_random_dump_are_never_mixed():
    rng = np.random.default_rng(5)
    how, whole = report_headers.conventions(), 0
    for _ in range(300):
        text, truth = random_dump(rng)
        found = [
            {k: v for k, v in fields.items() if k in ("accession", "patient_id", "exam_date")}
            for _, fields, _ in report_headers.split_reports(text, how)
        ]
        for fields in found:
            assert any(fields.items() <= true.items() for true in truth), (text, fields)
        whole += found == truth
    assert whole == 300


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("ADDENDUM\nRib fracture.", 1),
        ("FINAL REPORT\n\nAddendum 3: rib fracture.", 3),
        ("Report type: Addendum\nRib fracture.", 1),
        ("Addendum to: R7\nRib fracture.", 1),
        ("Addendum dated 3 March 2014: rib.", 1),
        ("FINDINGS: Clear.\nADDENDUM: rib fracture.", 0),  # of this report, and in its text already
        ("THE LUNGS ARE CLEAR.\nADDENDUM: RIB FRACTURE.", 0),
        ("The addendum of last week was read.", 0),
    ],
)
def test_addenda_are_marked(text, number):
    [(_, fields, _)] = report_headers.split_reports(text, report_headers.conventions())
    assert fields["addendum"] == number


@pytest.mark.parametrize(
    ("text", "day"),
    [
        *[
            (t, "2014-03-04")
            for t in ("2014-03-04", "20140304", "20140304101112", "2014.03.04", "4.3.2014", "4 March 2014")
        ],
        *[(t, "2014-03-04") for t in ("04-MAR-2014", "March 4th, 2014", "4th of March 2014", "Tue 4 Mar 2014 at 9")],
        *[(t, "2014-03-14") for t in ("14/03/2014", "03/14/2014", "3-14-2014")],
        *[(t, None) for t in ("", "99/99/2014", "31 February 2014", "4/3/14", "1.2.840.2014.03.04", "201403041")],
    ],
)
def test_dates(text, day):
    dates = report_headers.said_dates(text)
    assert (str(report_headers.as_day(dates[0][2], None)) if dates else None) == day


def test_a_date_that_may_be_two_is_not_used_unless_the_archive_shows_its_order(export):
    write(export / "a.txt", "Patient ID: P1\nExam date: 03/04/2014\n\nClear lungs.")
    found = read(export)
    assert found.reports["date"].isna().all() and found.date_order is None and "date_order" in found.notes[0]
    assert str(read(export, date_order="mdy").reports["date"].iloc[0].date()) == "2014-03-04"
    write(export / "b.txt", "Patient ID: P2\nExam date: 25/04/2014\n\nClear lungs.")
    assert str(read(export).reports["date"].iloc[0].date()) == "2014-04-03"
    write(export / "c.txt", "Patient ID: P3\nExam date: 04/25/2014\n\nClear lungs.")
    assert read(export).reports["date"].isna().sum() == 1


# --- files ----------------------------------------------------------------------------------------------------------


def test_images_are_read_whatever_their_files_are_called(export):
    dicom(export / "a/b/IM1", SeriesDescription="CHEST")
    dicom(export / "x.dcm", AccessionNumber="", StudyDate=None, AcquisitionDate="20140305")
    dicom(export / "y.ima", bare=True, PatientID="Z")
    dicom(export / "00001", bare=True, PatientID="Y")
    dicom(export / "z.weird", syntax=ImplicitVRLittleEndian, PatientID="Müller^1", SpecificCharacterSet="ISO_IR 100")
    images = read(export).images.set_index("file")
    assert set(images.index) == {"a/b/IM1", "x.dcm", "y.ima", "00001", "z.weird"}
    assert images.loc["a/b/IM1", ["accession", "view", "photometric"]].tolist() == ["A1", "PA", "MONOCHROME2"]
    assert pd.isna(images.loc["x.dcm", "accession"]) and str(images.loc["x.dcm", "date"].date()) == "2014-03-05"
    assert images.loc["z.weird", "patient_id"] == "Müller^1" and images.loc["y.ima", "instance_number"] == 1


def test_pixels_are_not_read(export, monkeypatch):
    """A file that is whole but for what lies after its pixels' start is still read: only its length is looked at."""
    dicom(export / "a.dcm")
    asked = []
    real = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: asked.append(k) or real(*a, **k))
    read(export)
    assert asked[0]["stop_before_pixels"] and len(asked[0]["specific_tags"]) < 30


def test_what_is_neither_image_nor_report_is_listed_with_a_reason(export):
    dicom(export / "good.dcm")
    whole = (export / "good.dcm").read_bytes()
    write(export / "cut_pixels.dcm", whole[: len(whole) - 4])
    write(export / "cut_header.dcm", whole[:400])
    write(export / "no_dicom.dcm", b"not DICOM at all" * 20)
    write(export / "empty.dcm", b"")
    write(export / "empty.txt", b"")
    write(export / "null.txt", b"a\0b\0c")
    write(export / "blank.txt", b"Accession: A1\n\n  \n")
    write(export / "scan.pdf", b"%PDF-1.4")
    write(export / ".DS_Store", b"\0\0\0")
    write(export / "broken.xml", b"<a><b></a>")
    write(export / "broken.json", b"{")
    write(export / "other.json", json.dumps([{"colour": "red"}]).encode())
    write(export / "index.csv", b"colour,form\nred,round\n")
    write(export / "broken.csv.gz", gzip.compress(b"a" * 9999)[:20])
    write(export / "reports.csv", 'AccessionNumber;PatientID;Report\nA1;P1;"Clear lungs"\nA2;P2\nA3;P3;"open\n')
    write(export / "bad.parquet", b"PAR1")
    dicom(export / "header.dcm", pixels=False, AccessionNumber="A7")
    dicom(export / "pr.dcm", pixels=False, Modality="PR")
    dicom(export / "pdf.dcm", pixels=False, kind="1.2.840.10008.5.1.4.1.1.104.1")
    dicom(export / "DICOMDIR", pixels=False)
    (export / "link").symlink_to(export.parent)
    (export / "nowhere.dcm").symlink_to(export / "none")
    found = read(export)
    aside = found.aside.set_index("file")["reason"]
    assert found.images["file"].tolist() == ["good.dcm", "header.dcm"] and "no pixels" in found.notes[0]
    assert found.reports["file"].tolist() == ["blank.txt", "reports.csv"] and found.reports["words_n"].tolist() == [
        0,
        2,
    ]
    expected = {
        "cut_pixels.dcm": "cut off",
        "cut_header.dcm": "truncated",
        "no_dicom.dcm": "truncated",
        "empty.dcm": "empty",
        "empty.txt": "empty",
        "null.txt": "not text",
        "scan.pdf": "neither DICOM",
        ".DS_Store": "neither DICOM",
        "broken.xml": "not XML",
        "broken.json": "not JSON",
        "other.json": "colour",
        "index.csv": "none of its columns",
        "broken.csv.gz": "could not be read",
        "bad.parquet": "could not be read",
        "pr.dcm": "modality PR",
        "pdf.dcm": "PDF",
        "DICOMDIR": "DICOMDIR",
        "link": "link",
        "nowhere.dcm": "leads nowhere",
    }
    assert set(aside.index) == {*expected, "reports.csv"}
    assert not {file: aside[file] for file, words in expected.items() if words not in aside[file]}
    assert found.aside.query("file == 'reports.csv'")["line"].tolist() == [3, 4]
    matched = matching.match(found.images, found.reports)
    assert matched.reports["reason"].tolist() == ["empty"] and matched.links["report"].tolist() == [1]


def test_reports_of_every_kind_say_the_same(export):
    fields = {
        "AccessionNumber": "A1",
        "PatientID": "P1",
        "StudyDate": "2014-03-03",
        "Findings": "Clear.",
        "Impression": "No.",
    }
    body = "FINDINGS: Clear.\n\nIMPRESSION: No."
    write(export / "a.txt", f"Patient ID: P1\nAccession: A1\nExam date: 3 March 2014\n\n{body}")
    write(
        export / "b.rpt", f"\ufeffPatient ID: P1\r\nAccession: A1\r\nExam date: 3.3.2014\r\n\r\n{body}", "utf-16-le"
    )
    write(export / "c.json", json.dumps({"reports": [fields]}))
    write(export / "d.jsonl", json.dumps(fields) + "\n\n[1]\nnonsense\n")
    write(export / "e.tsv.gz", gzip.compress(("\t".join(fields) + "\n" + "\t".join(fields.values()) + "\n").encode()))
    pd.DataFrame([fields]).to_parquet(export / "f.parquet")
    xml = "".join(f"<{k}>{v}</{k}>" for k, v in fields.items())
    write(export / "g.xml", f"<?xml version='1.0'?><x:r xmlns:x='urn:x'>{xml}<Code>Pneumothorax</Code></x:r>")
    html = "<html><style>p</style><table><tr><td>Patient ID: P1</td><td>Accession: A1</td></tr></table>{}</html>"
    write(
        export / "h.html", html.format("<p>Exam date: 3 March 2014</p><p>FINDINGS: Clear.</p><p>IMPRESSION: No.</p>")
    )
    item = Dataset()
    item.ValueType, item.TextValue, item.ConceptNameCodeSequence = "TEXT", "Clear.", [Dataset()]
    item.ConceptNameCodeSequence[0].CodeMeaning = "Findings"
    other = Dataset()
    other.ValueType, other.TextValue, other.ConceptNameCodeSequence = "TEXT", "No.", [Dataset()]
    other.ConceptNameCodeSequence[0].CodeMeaning = "Impression"
    dicom(export / "i.dcm", pixels=False, kind=SR, Modality="SR", ContentSequence=[item, other])
    found = read(export)
    assert sorted(found.reports["file"].str[0]) == list("abcdefghi")
    for column, value in (("accession", "A1"), ("patient_id", "P1"), ("date", pd.Timestamp("2014-03-03"))):
        assert (found.reports[column] == value).all(), found.reports[["file", column]]
    assert {" ".join(t.split()) for t in texts(found).values()} == {"FINDINGS: Clear. IMPRESSION: No."}
    assert found.aside["line"].tolist() == [3, 4]
    assert found.reports["report_id"].is_unique and found.reports["has_sections"].all()


def test_a_report_that_is_not_utf8_is_read_and_said(export):
    write(export / "a.txt", REPORT.replace("clear", "kühl"), "cp1252")
    found = read(export)
    assert "kühl" in texts(found)["a"] and "cp1252" in found.notes[0]


def test_open_i_xml_keeps_codes_out_of_the_text(export):
    write(
        export / "1.xml",
        "<eCitation><uId id='CXR1'/><MeSH><major>Edema</major></MeSH><Abstract><AbstractText Label='FINDINGS'>Clear."
        "</AbstractText><AbstractText Label='IMPRESSION'>No.</AbstractText></Abstract></eCitation>",
    )
    assert texts(read(export)) == {"CXR1": "FINDINGS: Clear.\n\nIMPRESSION: No."}


def test_several_reports_in_one_xml_or_json_file(export):
    one = "<Exam><AccessionNumber>A{0}</AccessionNumber><Text>Lungs {0} clear.</Text></Exam>"
    write(export / "a.xml", "<Export><Exams>" + one.format(1) + one.format(2) + "</Exams></Export>")
    nested = [
        {"study": {"accession": f"A{k}"}, "patient": {"id": "P1"}, "report": {"findings": f"Lungs {k} clear."}}
        for k in (3, 4)
    ]
    write(export / "b.json", json.dumps(nested))
    found = read(export)
    assert found.reports["accession"].tolist() == ["A1", "A2", "A3", "A4"] and found.aside.empty
    assert found.reports["patient_id"].tolist()[2:] == ["P1", "P1"]
    assert [text[-14:] for text in texts(found).values()] == [f"Lungs {k} clear." for k in (1, 2, 3, 4)]


def test_text_is_known_without_an_ending_if_it_names_an_exam(export):
    write(export / "REPORT01", REPORT)
    write(export / "report.lis", REPORT.replace("A1", "A2"))
    write(export / "NOTES", "Remember to call the vendor.")
    write(export / "letter.rtf", "{\\rtf1 \\par\nAccession: A3\n}")
    write(export / "program.bin", REPORT.encode() + bytes(range(256)))
    found = read(export)
    assert found.reports["accession"].tolist() == ["A1", "A2"]
    assert found.aside["file"].tolist() == ["NOTES", "letter.rtf", "program.bin"]


def test_a_table_may_say_what_report_files_are_of(export):
    write(export / "r/one.txt", "Clear lungs.")
    write(export / "index.csv", "filename,accession,patient_id\none.txt,A1,P1\ntwo.txt,A2,P2\n")
    found = read(export)
    assert found.reports.set_index("file").loc["r/one.txt", ["accession", "patient_id"]].tolist() == ["A1", "P1"]
    assert found.reports["file"].tolist() == [
        "r/one.txt",
        "index.csv",
    ]  # the row of no file stays, as a report without text
    assert texts(found)["r/one"] == "Clear lungs."


def test_an_export_without_images_and_reports_is_refused(export):
    with pytest.raises(ValueError, match="neither a DICOM image nor a report"):
        read(export)
    with pytest.raises(ValueError, match="is no folder"):
        archive.read_archive(export / "none", export.parent / "tables")
    with pytest.raises(ValueError, match="within the export"):
        archive.read_archive(export, export / "tables")


def test_report_ids_that_occur_twice_become_two(export):
    write(export / "r.csv", "report_id,accession,report\nR1,A1,Clear lungs\nR1,A2,Large heart\n")
    assert read(export).reports["report_id"].tolist() == ["R1", "R1#2"]


# --- rules ----------------------------------------------------------------------------------------------------------

IMAGE = {
    "sop_uid": None,
    "study_uid": None,
    "accession": "A1",
    "study_id": None,
    "patient_id": "P1",
    "date": "2014-03-03",
    "file": None,
    "image_id": None,
}
ONE = {
    "accession": None,
    "study_id": None,
    "patient_id": "P1",
    "study_uid": None,
    "date": "2014-03-03",
    "date_kind": "exam",
    "status": None,
    "addendum": 0,
    "addendum_of": None,
    "has_sections": True,
    "words_n": 5,
    "line": 1,
    "encoding": "utf-8",
}


def tables(images, reports):
    """Return tables of an archive: of each image and report what differs from `IMAGE` and `ONE`."""
    left = pd.DataFrame(
        [
            {**IMAGE, "file": f"i/{k}", "image_id": f"i{k}", "sop_uid": f"1.{k}", "study_uid": f"2.{k}"} | i
            for k, i in enumerate(images)
        ]
    )
    right = pd.DataFrame(
        [{**ONE, "report_id": f"r{k}", "file": f"r/{k}.txt", "text_hash": str(k)} | r for k, r in enumerate(reports)]
    )
    for table in (left, right):
        table["date"] = pd.to_datetime(table["date"]).astype("datetime64[s]")
        text = [c for c in table if c not in ("date", "addendum", "words_n", "line", "has_sections")]
        table[text] = table[text].astype("str")
    return left, right


def match(images, reports, **options):
    """Return which report each image got by which rule, and the reasons of reports and images that got none."""
    matched = matching.match(*tables(images, reports), **options)
    links = {row.image: (row.report, row.rule) for row in matched.links.itertuples()}
    of_reports = dict(zip(matched.reports["report_id"], matched.reports["reason"], strict=True))
    return links, of_reports, dict(zip(matched.images["image_id"], matched.images["reason"], strict=True))


def test_each_rule_pairs_what_no_other_would():
    """Ten patients, each of whom one rule alone can match, and nobody's pair is made by another rule instead."""
    meant = {
        "accession": ({}, {"accession": "A0", "patient_id": None, "date": None}),
        "study_uid": ({"study_uid": "1.2.3"}, {"study_uid": "1.2.3", "patient_id": None}),
        "accession_normalised": (
            {"accession": "ACC-00077", "patient_id": None},
            {"accession": "77", "patient_id": None},
        ),
        "study_id": ({"study_id": "55"}, {"study_id": "55", "date": None}),
        "file_name": ({"accession": "A123456"}, {"file": "x/A123456_report.txt", "patient_id": None}),
        "file_name of a folder": ({"accession": "B7"}, {"file": "x/B7/report.txt", "patient_id": None}),
        "patient_and_date": ({"accession": None}, {}),
        "patient_and_nearest_date": ({"accession": None}, {"date": "2014-03-04"}),
        "same_folder": ({"file": "s1/im"}, {"file": "s1/report.txt", "patient_id": None, "date": None}),
        "patient_and_date_other_accession": ({}, {"accession": "A99"}),
    }
    images = [{"accession": f"A{k}", "patient_id": f"P{k}"} | image for k, (image, _) in enumerate(meant.values())]
    reports = [{"patient_id": f"P{k}"} | report for k, (_, report) in enumerate(meant.values())]
    every = tuple(matching_rules.MATCHING_RULES)
    links, *_ = match(images, reports, rules=every)
    assert links == {k: (k, name.split()[0]) for k, name in enumerate(meant)}
    for rule in every:
        but = {every[-1], "patient_and_nearest_date"} if rule == "patient_and_date" else set()
        links, *_ = match(images, reports, rules=[name for name in every if name not in {rule, *but}])
        alone = [k for k, name in enumerate(meant) if name.split()[0] in {rule, *but}]
        assert set(range(len(meant))) - set(links) == set(alone), rule
    links, left, there = match(images, reports)
    assert left == {"r9": "other_accession"} and there == {"i9": "other_accession"}


def test_the_order_of_rules_decides():
    """Two reports for one study: which rule comes first says which is taken."""
    images = [{"study_uid": "9.9"}]
    reports = [{"accession": "A1"}, {"study_uid": "9.9", "patient_id": None}]
    assert match(images, reports)[0] == {0: (0, "accession")}
    swapped = ("study_uid", "accession", *matching_rules.DEFAULT_RULES[2:])
    assert match(images, reports, rules=swapped)[0] == {0: (1, "study_uid")}


@pytest.mark.parametrize(
    ("ours", "theirs", "alike"),
    [
        ("A0001234", "1234", True),
        ("ACC 1234", "A1234", True),
        ("a-1234", "A1234", True),
        ("1234.0", "1234", False),  # taken off where the table is read
        ("CR1234", "CT1234", False),
        ("2014-1234", "1234", False),
        ("2014-001234", "2014-1234", True),
        ("2014-001234", "2014001234", True),
        ("1234-1", "1234", False),
        ("A", "B", False),
    ],
)
def test_accession_numbers_that_are_alike(ours, theirs, alike):
    links, *_ = match([{"accession": ours}], [{"accession": theirs}], rules=["accession_normalised"])
    assert links == ({0: (0, "accession_normalised")} if alike else {})


def test_a_number_that_was_made_alike_needs_patient_or_date():
    images, report = [{"accession": "0077", "patient_id": None}], {"accession": "77"}
    assert match(images, [{**report, "date": None}])[1] == {"r0": "accession_alike_only"}
    two = [{"accession": "0077"}, {"accession": "A77"}]
    assert match(two, [report])[:2] == ({}, {"r0": "several_fit"})


def test_a_wrong_accession_number_never_pairs_two_patients():
    images = [{"accession": "A1"}, {"accession": "A2", "patient_id": "P2", "date": "2014-05-05"}]
    links, reports, there = match(images, [{"accession": "A2", "patient_id": "P1"}])
    assert links == {0: (0, "patient_and_date")} and not reports and there == {"i1": "accession_of_another_patient"}
    links, reports, _ = match(images, [{"accession": "A2", "patient_id": "P1", "date": "2014-04-04"}])
    assert links == {} and reports == {"r0": "accession_of_another_patient"}
    links, *_ = match(
        images,
        [{"accession": "A2", "patient_id": "P1"}, {"accession": "A2", "patient_id": "P2", "date": "2014-05-05"}],
    )
    assert links == {0: (0, "patient_and_date"), 1: (1, "accession")}


def test_an_image_with_another_patients_accession_number_is_caught():
    images = [{"accession": "A1"}, {"accession": "A1", "patient_id": "P2"}]
    reports = [{"accession": "A1"}, {"accession": "A2", "patient_id": "P2"}]
    assert match(images, reports)[0] == {0: (0, "accession"), 1: (1, "patient_and_date")}


def test_a_number_that_its_own_patients_report_confirms_is_not_suspect():
    """Else the third report, of another patient, would let the fourth have a study whose number is not its own."""
    twice = {"accession": "A1", "date": None}
    assert match([{}], [twice, twice, {"accession": "A1", "patient_id": "P3"}, {"accession": "A99"}])[0] == {}


def test_dates_catch_what_patients_cannot():
    image = {"patient_id": None}
    assert match([image], [{"accession": "A1", "date": "2015-01-01"}])[1] == {"r0": "accession_of_another_date"}
    assert match([image], [{"accession": "A1", "date": "2014-03-04"}])[0]
    assert match([image], [{"accession": "A1", "date": "2015-01-01", "date_kind": "report"}])[0], (
        "it was written later"
    )
    assert not match([image], [{"accession": "A1", "date": "2013-01-01", "date_kind": "report"}])[0], "not before"
    assert match([image], [{"accession": "A1", "date": "2015-01-01"}], days=400)[0]


def test_of_several_reports_the_best_is_taken_or_none():
    other = {"accession": "A1", "patient_id": None}
    assert match([{}], [{"accession": "A1"}, other])[:2] == ({0: (0, "accession")}, {"r1": "several_claim"})
    assert match([{}], [{"accession": "A1", "date": "2014-03-04"}, {"accession": "A1"}])[0] == {0: (1, "accession")}
    links, reports, there = match([{}], [{"accession": "A1"}, {"accession": "A1"}])
    assert (
        links == {} and reports == {"r0": "several_claim", "r1": "several_claim"} and there == {"i0": "several_claim"}
    )


def test_patient_and_date_take_only_what_is_unique():
    images = [{"accession": None}, {"accession": None}]
    assert match(images, [{}])[:2] == ({}, {"r0": "several_fit"})
    assert match(images[:1], [{}, {}])[:2] == ({}, {"r0": "several_fit", "r1": "several_fit"})
    near = [{"accession": None, "date": "2014-03-02"}, {"accession": None, "date": "2014-03-04"}]
    assert match(near, [{}])[:2] == ({}, {"r0": "several_fit"})
    assert match(near[:1], [{}])[0] == {0: (0, "patient_and_nearest_date")}
    assert match(near[:1], [{}], days=0)[:2] == ({}, {"r0": "nothing_near"})
    assert match([{"date": "2014-03-05"}], [{}], days=1)[0] == {}
    assert match([{"date": "2014-03-05"}], [{}], days=2)[0] == {0: (0, "patient_and_nearest_date")}


def test_a_report_that_is_barred_by_its_number_still_makes_a_match_doubtful():
    """Of two reports of the day one has a number that no image has: the other one is not the only one that fits."""
    assert match([{}], [{}, {"accession": "A7"}])[0] == {}


def test_a_date_of_writing_is_not_taken_for_that_of_the_exam():
    written = {"date_kind": "report", "date": "2014-03-04"}
    two = [{"accession": None}, {"accession": None, "date": "2014-03-04"}]
    assert match(two, [written])[0] == {}, "it may have been written a day after the first exam"
    assert match(two[:1], [written])[0] == {0: (0, "patient_and_nearest_date")}
    assert match([{"accession": None, "date": "2014-03-05"}], [written])[0] == {}, "or before the exam"


def test_dates_that_agree_with_the_exams_are_taken_for_them():
    images = [{"accession": f"A{k}", "patient_id": f"P{k}"} for k in range(21)]
    reports = [{"accession": f"A{k}", "patient_id": f"P{k}", "date_kind": "date"} for k in range(20)]
    reports += [{"patient_id": "P20", "date_kind": "date"}]
    links, *_ = match(images, reports)
    assert links[20] == (20, "patient_and_date")
    assert match(images[1:], reports[1:])[0][19] == (19, "patient_and_nearest_date"), "19 are too few to show it"


def test_all_images_of_a_study_get_its_report_and_lacking_numbers_are_filled_in_within_it():
    study = {"study_uid": "5.5"}
    links, *_ = match(
        [{**study}, {**study, "accession": None, "patient_id": None}, {"study_uid": "6"}], [{"accession": "A1"}]
    )
    assert links == {0: (0, "accession"), 1: (0, "accession"), 2: (0, "accession")}
    links, *_ = match([{**study}, {**study, "patient_id": "P2"}], [{"accession": "A1"}])
    assert links == {0: (0, "accession")}, "one study UID of two patients is two studies"


def test_a_report_of_several_accession_numbers_is_of_all_their_images():
    assert match([{}, {"accession": "A2"}], [{"accession": "A1;A2"}])[0] == {0: (0, "accession"), 1: (0, "accession")}


def test_patient_ids_differ_in_zeros_only_if_no_two_patients_do():
    assert match([{"patient_id": "0012"}], [{"accession": "A1", "patient_id": "12^^^HOSPITAL"}])[0]
    images = [{"patient_id": "0012"}, {"patient_id": "12", "accession": "A2"}]
    links, reports, _ = match(images, [{"accession": "A1", "patient_id": "12", "date": "2015-01-01"}])
    assert links == {} and reports == {"r0": "accession_of_another_patient"}


def test_copies_of_images_are_set_aside_and_a_uid_of_two_images_is_believed_of_none():
    same = {"sop_uid": "7", "study_uid": "8"}
    links, _, there = match([same, same], [{"accession": "A1"}])
    assert links == {0: (0, "accession")} and there == {"i1": "copy"}
    links, _, there = match([same, {**same, "patient_id": "P2"}], [{"accession": "A1"}])
    assert links == {} and there == {"i0": "uid_of_several", "i1": "uid_of_several"}


def test_copies_of_reports_and_preliminary_ones_are_set_aside():
    report = {"accession": "A1", "text_hash": "same"}
    assert match([{}], [report, report])[:2] == ({0: (0, "accession")}, {"r1": "copy"})
    unknown = {"patient_id": None, "date": None, "text_hash": "same"}
    assert match([{}], [unknown, unknown])[1] == {"r0": "no_identifier", "r1": "no_identifier"}, "many are normal"
    early = {"accession": "A1", "status": "PRELIMINARY"}
    assert match([{}], [early, {"accession": "A1", "status": "Final"}])[:2] == (
        {0: (1, "accession")},
        {"r0": "superseded"},
    )
    assert match([{}], [early])[0] == {0: (0, "accession")}
    links, reports, _ = match([{}], [early, {"accession": "ACC-1", "status": "F"}])
    assert links == {0: (1, "accession_normalised")} and reports == {"r0": "superseded"}, (
        "though its number fits better"
    )


def test_addenda_join_their_report_in_order():
    late = {"accession": "A1", "addendum": 2, "has_sections": False}
    reports = [late, {"accession": "A1"}, {**late, "addendum": 1}, {**late, "accession": "ACC-1", "addendum": 3}]
    matched = matching.match(*tables([{}], reports))
    assert matched.addenda.to_dict("list") == {"addendum": [2, 0, 3], "report": [1, 1, 1]}
    assert matched.rules.query("rule == 'accession'")["addenda_n"].item() == 3 and matched.reports.empty


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([{"accession": "A1", "addendum": 1, "has_sections": False}], "addendum_without_report"),
        ([{"accession": "A1", "addendum": 1}], None),  # with sections of its own it may be the whole report
        (
            [{"accession": "A1", "addendum": 1, "patient_id": "P9", "has_sections": False}, {"accession": "A1"}],
            "addendum_without_report",
        ),
        (
            [{"addendum": 1, "has_sections": False}, {"accession": "A1"}, {"accession": "A2"}],
            "addendum_of_several_reports",
        ),
        ([{"accession": "A7", "addendum": 1, "has_sections": False}, {"accession": "A1"}], "addendum_without_report"),
        (
            [{"addendum": 1, "addendum_of": "r2", "has_sections": False}, {"accession": "A1"}, {"accession": "A2"}],
            "report_unmatched",
        ),
        (
            [{"addendum": 1, "addendum_of": "A1", "has_sections": False}, {"accession": "A1"}, {"accession": "A2"}],
            None,
        ),
    ],
)
def test_addenda_without_a_report_are_listed(reports, reason):
    assert match([{}], reports)[1].get("r0") == reason


def test_what_identifies_nothing_is_listed():
    reports = [
        {"patient_id": None, "date": None},
        {"patient_id": None, "accession": "A9"},
        {"patient_id": "P9"},
        {"date": None},
        {"date": "2019-01-01"},
        {"words_n": 0, "accession": "A1"},
    ]
    expected = ["no_identifier", "accession_unknown", "patient_unknown", "no_date", "nothing_near", "empty"]
    links, found, there = match([{}], reports)
    assert list(found.values()) == expected and links == {} and there == {"i0": "nothing_near"}
    assert set(found.values()) - {"empty"} <= set(matching.UNMATCHED_REASONS)


def test_what_comes_too_late_is_told():
    links, reports, there = match([{}], [{"accession": "A1"}, {}])
    assert links == {0: (0, "accession")} and reports == {"r1": "taken"} and not there


def test_registers_that_number_differently_are_noticed():
    images = [{"accession": f"A{k}", "patient_id": f"P{k}"} for k in range(20)]
    reports = [{"accession": f"X5{k}", "patient_id": f"P{k}"} for k in range(20)]
    matched = matching.match(*tables(images, reports))
    assert set(matched.links["rule"]) == {"patient_and_date"} and "different registers" in matched.notes[0]
    reports = [{"accession": f"A{k}", "patient_id": f"Q{k}"} for k in range(20)]
    matched = matching.match(*tables(images, reports))
    assert matched.links.empty and "compare_patients" in matched.notes[0]
    matched = matching.match(*tables(images, reports), compare_patients=False)
    assert len(matched.links) == 20 and not matched.links["patient_agrees"].any()


def test_wrong_settings_are_refused():
    for options, words in (
        ({"rules": ["acession"]}, "acession"),
        ({"rules": ["accession"] * 2}, "once"),
        ({"days": -1}, "-1"),
    ):
        with pytest.raises(ValueError, match=words):
            matching.match(*tables([{}], [{}]), **options)


def test_an_archive_of_images_alone_or_reports_alone_is_listed_whole():
    images, reports = tables([{}, {}], [{}, {}])
    assert matching.match(images, reports.iloc[:0]).rules.iloc[-1]["images_n"] == 2
    assert matching.match(images.iloc[:0], reports).rules.iloc[-1]["reports_n"] == 2


# --- images that a report names -------------------------------------------------------------------------------------

STUDY = (("PA", 1, 1), ("LATERAL", 1, 2), ("", 2, 1))
EXAM = np.datetime64("2014-03-03")


@pytest.mark.parametrize(
    ("sentence", "places"),
    [
        ("It is best seen on the lateral view.", [1]),
        ("On the lateral, there is fluid.", [1]),
        ("PA and lateral views show nothing.", [0, 1]),
        ("The frontal radiograph is rotated.", [0]),
        ("There is blunting of the lateral costophrenic angle.", []),
        ("A left lateral pneumothorax.", []),
        ("See image 2.", [1]),
        ("See series 2, image 1.", [2]),
        ("See image 1 of series 1.", [0]),
        ("Images 1 and 2 (series 1) agree.", [0, 1]),
        ("See image 1.", "several images"),
        ("See image 9.", "no image of this number"),
        ("The AP view is of poor quality.", "no such view"),
        ("Compared with the lateral view of 1 March 2014 it is unchanged.", []),
        ("The lateral view of 3 March 2014 shows it.", [1]),
        ("Compared with the lateral view of 3 March 2014, no change.", []),
        ("The previous lateral view was better.", []),
        ("Image 2 of the prior study 4471 shows it.", []),
        ("Image 2 of exam A-4471 shows it.", []),
        ("The lateral view of 03/04/2014 shows it.", "cannot be distinguished"),
        ("Compared with the radiograph of 1 March 2014, the lateral view shows more.", [1]),
        ("TECHNIQUE: PA and lateral views.", []),
    ],
)
def test_images_that_a_sentence_names(sentence, places):
    text = sentence if sentence.startswith("TECHNIQUE") else f"FINDINGS: The heart is normal. {sentence} No effusion."
    said = mentions.named(text, STUDY, EXAM)
    if isinstance(places, str):
        assert [places in reason for _, reason in said.unresolved] == [True] and not any(said.of_image)
    else:
        assert said.of_image == [sentence if k in places else "" for k in range(3)] and not said.unresolved


def test_earlier_exams_that_a_report_names():
    text = (
        "COMPARISON: Radiograph of 1 March 2014, accession A4471.\nFINDINGS: Compared with prior study 5512, no "
        "change. Unchanged since CT 2 days ago. Examined on 3 March 2014.\nIMPRESSION: Stable since the exam of 1 "
        "March 2014."
    )
    assert mentions.named(text, STUDY, EXAM).priors == [
        ("A4471", None),
        (None, np.datetime64("2014-03-01")),
        ("5512", None),
    ]


@pytest.mark.parametrize(
    ("position", "description", "view"),
    [
        ("PA", "", "PA"),
        ("LL", None, "LATERAL"),
        (None, "CHEST LAT", "LATERAL"),
        ("", "Chest PA/LAT", ""),
        (None, "", ""),
    ],
)
def test_view_of_an_image(position, description, view):
    assert mentions.view_of(position, description) == view


# --- a simulated archive, whose truth is known ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort():
    """300 exams of 75 patients, with 8 x 8 pixels."""
    n = 300
    index = pd.DataFrame(
        {
            "image_id": [f"P{k // 4:03d}_{k % 4}" for k in range(n)],
            "patient_id": [f"P{k // 4:03d}" for k in range(n)],
            "follow_up_number": [k % 4 for k in range(n)],
            "view": ["PA" if k % 3 else "AP" for k in range(n)],
        }
    )
    pixels = np.arange(n * 64, dtype=np.uint32).reshape(n, 8, 8).astype(np.uint8)
    reports = [f"FINDINGS: The lungs of exam {k} are clear.\nIMPRESSION: Normal." for k in range(n)]
    return SimpleNamespace(index=index, images=pixels), reports


FAULTS = {
    "no_accession": 0.1,
    "other_patient": 0.1,
    "reformatted": 0.2,
    "mistyped": 0.1,
    "date_off": 0.1,
    "no_image": 0.05,
    "no_report": 0.05,
    "addendum": 0.2,
}


@pytest.fixture(scope="module", params=simulated_archive.LAYOUTS)
def simulated(request, cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    key = simulated_archive.write_simulated_archive(*cohort, folder / "export", 3, FAULTS, request.param)
    found = archive.read_archive(folder / "export", folder / "tables")
    matched = matching.match(found.images, found.reports)
    ids = found.images["image_id"].map(key.images.set_index("sop_uid")["image_id"])
    written = archive_pairs.write_pairs(found, matched, folder / "pairs.parquet", ids)
    return SimpleNamespace(
        key=key,
        found=found,
        matched=matched,
        written=written,
        folder=folder,
        pairs=pd.read_parquet(folder / "pairs.parquet"),
    )


def test_a_simulated_archive_is_read_whole(simulated):
    assert len(simulated.found.images) == len(simulated.key.images) and simulated.found.aside.empty
    reports = simulated.key.reports
    assert len(simulated.found.reports) == len(reports) + reports["addendum"].sum()
    assert not simulated.found.notes and not simulated.matched.notes


def test_precision_and_recall_by_the_key(simulated):
    truth = simulated.key.images.set_index("image_id")
    pairs = simulated.pairs.set_index("image_id")
    assert (pairs["report_id"] == truth.loc[pairs.index, "report_id"]).all(), "no pair is wrong"
    assert (pairs["patient_id"] == truth.loc[pairs.index, "patient_id"]).all()
    possible = truth[truth["report_id"].notna()]
    fault = possible["report_id"].map(simulated.key.reports.set_index("report_id")["number_fault"])
    recall = possible.index.isin(pairs.index)
    recall = pd.Series(recall).groupby(fault.to_numpy()).mean()
    assert recall["none"] == 1 and recall["reformatted"] == 1
    assert recall["mistyped"] < 0.1, "a number that no image has bars patient and date, if the image's is not suspect"
    assert 0.6 < recall["no_accession"] and 0.6 < recall["other_patient"]
    assert not pairs.index.duplicated().any()


def test_each_fault_is_matched_by_the_rule_that_is_meant_for_it(simulated):
    fault = simulated.pairs["report_id"].map(simulated.key.reports.set_index("report_id")["number_fault"])
    rules = simulated.pairs.groupby(fault)["rule"].agg(set)
    assert rules["none"] == {"accession"} and rules["reformatted"] == {"accession_normalised"}
    by_date = {"patient_and_date", "patient_and_nearest_date"}
    assert rules["no_accession"] == by_date and rules["other_patient"] <= by_date
    off = simulated.pairs["report_id"].map(simulated.key.reports.set_index("report_id")["date_off"])
    assert off[simulated.pairs["rule"] == "patient_and_nearest_date"].all()


def test_the_counts_add_up(simulated):
    rules = simulated.matched.rules.set_index("rule")
    assert rules.loc["total", "images_n"] == len(simulated.found.images)
    assert rules.loc["total", ["reports_n", "addenda_n"]].sum() == len(simulated.found.reports)
    assert rules.loc["unmatched", "images_n"] == len(simulated.matched.images)
    assert rules["images_n"].iloc[:-2].sum() == len(simulated.pairs) == simulated.written.pairs_n
    assert simulated.matched.reports["detail"].str.len().min() > 10


def test_the_opted_rule_finds_mistyped_numbers(simulated):
    matched = matching.match(
        simulated.found.images, simulated.found.reports, rules=tuple(matching_rules.MATCHING_RULES)
    )
    added = matched.links[matched.links["rule"] == "patient_and_date_other_accession"]
    ids = simulated.found.reports["report_id"]
    fault = simulated.key.reports.set_index("report_id")["number_fault"]
    assert (added["report"].map(ids).map(fault) == "mistyped").mean() > 0.9 and len(added) > 10


def test_wrong_pairs_are_counted_by_rule_and_by_fault(simulated):
    right = simulated_archive.precision_by_rule(simulated.matched, simulated.found, simulated.key, resamples_n=50)
    assert right["wrong_n"].sum() == 0 and right["rule"].iloc[-1] == "all" and (right["precision"] == 1).all()
    faults = simulated_archive.recall_by_fault(simulated.matched, simulated.found, simulated.key, resamples_n=50)
    assert faults["wrong_n"].sum() == 0 and faults["unmatched_n"].sum() > 0
    possible_n = simulated.key.images["report_id"].notna().sum()
    assert faults["images_n"].sum() == possible_n == len(simulated.pairs) + faults["unmatched_n"].sum()
    assert right["recall"].iloc[-1] == pytest.approx(len(simulated.pairs) / possible_n)
    links = simulated.matched.links.copy()
    two = links.index[links["rule"] == "accession"][:2]
    links.loc[two, "report"] = links.loc[two[::-1], "report"].to_numpy()
    other = simulated.matched._replace(links=links)
    wrong = simulated_archive.precision_by_rule(other, simulated.found, simulated.key, resamples_n=50).set_index(
        "rule"
    )
    assert wrong["wrong_n"].to_dict() == {name: 2 * (name in ("accession", "all")) for name in wrong.index}
    assert simulated_archive.recall_by_fault(other, simulated.found, simulated.key, 50)["wrong_n"].sum() == 2


def test_addenda_and_named_images_and_earlier_exams(simulated):
    key, pairs = simulated.key, simulated.pairs.set_index("image_id")
    truth = key.images.set_index("image_id").loc[pairs.index]
    assert (pairs["named_in"] == truth["named_in"]).all() and (pairs["named_in"] != "").sum() > 20
    with_addendum = pairs["report_id"].map(key.reports.set_index("report_id")["addendum"]).astype(bool)
    assert (pairs["text"].str.contains("\n\nADDENDUM: Comparison with") == with_addendum).mean() > 0.97
    assert not pairs["text"].str.contains("Accession|Patient ID", regex=True).any(), "headers are no text"
    said = simulated.written.priors
    exam = key.reports.set_index("report_id")
    told = exam.loc[said["report_id"], "prior_exam"]
    known = said["report_of_it"].notna().to_numpy()
    assert known.sum() > 20 and simulated.written.unresolved.empty
    assert (exam.loc[said["report_of_it"][known], "exam"].to_numpy() == told[known].to_numpy(int)).all()


def test_pixels_of_the_archive_are_the_cohorts_and_headers_are_what_pydicom_would_write(simulated, cohort):
    row = simulated.key.images.iloc[5]
    dataset = pydicom.dcmread(simulated.folder / "export" / row["file"])
    assert (dataset.pixel_array == cohort[0].images[row["exam"]]).all()
    again = simulated.folder / "again"
    dataset.save_as(again, enforce_file_format=True)
    assert pydicom.dcmread(again) == dataset and dataset.file_meta.MediaStorageSOPInstanceUID == row["sop_uid"]


def test_a_simulated_archive_repeats_itself(cohort, tmp_path):
    keys = [simulated_archive.write_simulated_archive(*cohort, tmp_path / name, 3, FAULTS) for name in "ab"]
    assert keys[0].images.equals(keys[1].images) and keys[0].reports.equals(keys[1].reports)
    files = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*") if p.is_file()) for n in "ab"]
    assert files[0] == files[1]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files[0][::50])
    other = simulated_archive.write_simulated_archive(*cohort, tmp_path / "c", 4, FAULTS)
    assert not other.reports.equals(keys[0].reports)


def test_faults_come_as_often_as_they_are_asked_for(cohort, tmp_path):
    one = {name: 0.0 for name in simulated_archive.ArchiveFaults.__dataclass_fields__}
    key = simulated_archive.write_simulated_archive(*cohort, tmp_path / "none", 1, one)
    assert len(key.images) == len(key.reports) == 300 and (key.reports["number_fault"] == "none").all()
    key = simulated_archive.write_simulated_archive(
        *cohort, tmp_path / "all", 1, one | {"other_patient": 1, "lateral": 1}
    )
    assert len(key.images) == 600 and (key.reports["number_fault"] == "other_patient").all()
    found = archive.read_archive(tmp_path / "all", tmp_path / "tables")
    assert (matching.match(found.images, found.reports).links["rule"] == "patient_and_date").all()
    for wrong, words in (
        ({"accession": 1}, "accession"),
        ({"no_image": 2}, "no_image"),
        ({"mistyped": 0.6, "reformatted": 0.6}, "exclude"),
    ):
        with pytest.raises(ValueError, match=words):
            simulated_archive.write_simulated_archive(*cohort, tmp_path / "x", 1, wrong)
    with pytest.raises(ValueError, match="empty"):
        simulated_archive.write_simulated_archive(*cohort, tmp_path / "all", 1)


def test_images_outside_the_cohort_are_counted_and_not_written(simulated):
    of_cohort = simulated.found.images["image_id"].map(simulated.key.images.set_index("sop_uid")["image_id"])
    of_cohort = of_cohort.where(~of_cohort.str.endswith("_lateral"))
    written = archive_pairs.write_pairs(
        simulated.found, simulated.matched, simulated.folder / "some.parquet", of_cohort
    )
    assert written.outside_n > 20 and written.pairs_n + written.outside_n == simulated.written.pairs_n


def test_images_are_found_in_a_cohort_by_any_of_their_names():
    images = pd.DataFrame(
        {"image_id": ["1.2", "1.3", "1.4", "1.5"], "file": ["a/x.dcm", "b/x.dcm", "b/y.dcm", "IM4"]}
    )
    found = archive_pairs.cohort_images(images, ["1.2", "b/x", "y.dcm", "IM4", "x"])
    assert found.tolist() == ["1.2", "b/x", "y.dcm", "IM4"]
    assert archive_pairs.cohort_images(images, ["x", "y"]).isna().tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match="No image of the archive"):
        archive_pairs.cohort_images(images, ["z"])


# --- releases -------------------------------------------------------------------------------------------------------

PADCHEST = "ImageID,PatientID,PatientBirth,PatientSex_DICOM,StudyID,ReportID,Report\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    return tmp_path


def test_padchest(root):
    write(
        root / "p.csv",
        PADCHEST
        + "a.png,1,1950.0,F,s1,r1,sin hallazg .\nb.png,1,1950.0,F,s1,r1,sin hallazg .\nc.png,2,1950.0,F,s2,r2,nan\n"
        "d.png,3,1950.0,F,s3,r3,derram .\ne.png,4,1950.0,F,s4,r3,derram .\n"
        "f.png,5,1950.0,F,s5,r4,uno\ng.png,6,1960.0,M,s6,r4,uno\n",
    )
    found = release_pairs.release_pairs({"source": "padchest", "path": "p.csv"})
    assert found.pairs["image_id"].tolist() == ["a.png", "b.png", "d.png", "e.png"]
    assert found.pairs["patient_id"].tolist() == ["1", "1", "3", "3"], "two ids of one person"
    assert set(found.pairs["language"]) == {"es"} and set(found.pairs["rule"]) == {"release"}
    assert found.images["image_id"].tolist() == ["c.png", "f.png", "g.png"]
    with pytest.raises(ValueError, match=r"4 are in Spanish.*Topics"):
        release_pairs.require_english(found.pairs)
    write(root / "p.csv", PADCHEST + "a.png,1,1,F,s1,r1,uno\nb.png,1,1,F,s1,r1,dos\n")
    with pytest.raises(ValueError, match="two texts"):
        release_pairs.release_pairs({"source": "padchest", "path": "p.csv"})
    with pytest.raises(ValueError, match="not its arguments"):
        release_pairs.release_pairs({"source": "padchest", "file": "p.csv"})


def test_padchest_in_the_package():
    found = release_pairs.release_pairs({"source": "padchest"})
    assert (len(found.pairs), len(found.images), len(found.reports)) == (160_694, 167, 0)
    assert found.pairs["patient_id"].nunique() == 66_453
    assert (found.pairs.groupby("report_id")["patient_id"].nunique() == 1).all()


def test_open_i_in_the_package():
    found = release_pairs.release_pairs({"source": "openi", "sections": "both"})
    assert (len(found.pairs), len(found.images), len(found.reports)) == (7_430, 40, 104)
    assert release_pairs.require_english(found.pairs) is found.pairs


def test_mimic_and_chexpert_plus(root):
    write(root / "r/files/p10/p10000032/s50414267.txt", " FINDINGS: Clear.\n\n IMPRESSION: No acute process.\n")
    write(root / "m.csv", "dicom_id,subject_id,study_id\na,10000032,50414267\nb,10000032,50414267\nc,10000033,6\n")
    found = release_pairs.release_pairs({"source": "mimic", "folder": "r", "metadata": "m.csv"})
    assert found.pairs["report_id"].tolist() == ["s50414267"] * 2 and found.images["image_id"].tolist() == ["c"]
    write(
        root / "df_chexpert_plus_240401.csv",
        "path_to_image,frontal_lateral,deid_patient_id,report,section_findings,section_impression\n"
        "train/patient1/study1/view1_frontal.jpg,Frontal,patient1,all,,No change.\n"
        "train/patient1/study1/view2_lateral.jpg,Lateral,patient1,all,,No change.\n"
        "train/patient2/study1/view1_frontal.jpg,Frontal,patient2,,,\n",
    )
    found = release_pairs.release_pairs({"source": "chexpert_plus", "path": "df_chexpert_plus_240401.csv"})
    assert found.pairs["text"].tolist() == ["No change."] * 2 and len(found.images) == 1
    assert found.pairs["report_id"].nunique() == 1 and set(found.pairs["language"]) == {"en"}


def test_no_path_of_this_machine_is_in_tables(simulated):
    text = (simulated.folder / "tables" / "aside.csv").read_text() + simulated.found.images.to_csv()
    assert str(paths.ROOT) not in text and str(simulated.folder) not in text
