"""Nothing of a patient is committed: what is published is searched, and the search finds what is planted."""

import base64
import gzip
import io
import json
import os

import pandas as pd
import pytest
from PIL import Image, ImageDraw

from cxrlib.base import paths
from cxrlib.cohorts import sources
from cxrlib.commands import cxr, privacy
from cxrlib.releases import openi_reports, padchest
from cxrlib.site import disclosure

ALLOWED = paths.ROOT / "tools" / "privacy_allowed.yaml"


@pytest.fixture(scope="module")
def committed():
    """The files that git tracks of what is published; without git the tests of them are skipped."""
    if not (paths.ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so nothing says what is committed")
    return privacy.published_files(paths.ROOT)


def told(found):
    return [f"{one.file}: {one.kind}: {one.what[:80]}" for one in found]


def test_nothing_of_a_patient_is_committed(committed):
    found, unread = disclosure.scan(paths.ROOT, committed, allowed=disclosure.read_allowed(ALLOWED))
    assert not told(found) and len(committed) > 300
    weights = {name for name in unread if name.endswith((".safetensors", ".npz", "LICENSE", ".py"))}
    assert set(unread) == weights, "a new kind of file: teach the search to read it"


def test_everything_that_is_allowed_is_there(committed):
    """An entry that nothing needs any more is to be taken out."""
    allowed = disclosure.read_allowed(ALLOWED)
    for name, entry in allowed.items():
        others = {key: value for key, value in allowed.items() if key != name}
        files = [f for f in committed if any(f.relative_to(paths.ROOT).match(p) for p in entry["files"])]
        assert disclosure.scan(paths.ROOT, files, allowed=others)[0], f"{name} allows nothing that is there"


@pytest.mark.slow
def test_no_report_of_a_gated_set_is_committed(committed):
    """PadChest's reports are gated; Open-i's are under CC BY-NC-ND 4.0, and single sentences are quoted in docs."""
    reports = {"PadChest": disclosure.report_words(padchest.read_padchest_studies()["text"])}
    found, _ = disclosure.scan(paths.ROOT, committed, disclosure.Known(reports))
    assert not [line for line in told(found) if "report text" in line]


@pytest.mark.slow
def test_of_openi_only_pages_that_name_it_quote_reports(committed):
    texts = [f"{report.findings} {report.impression}" for report in openi_reports.read_reports()]
    known = disclosure.Known({"Open-i": disclosure.report_words(texts)})
    found, _ = disclosure.scan(paths.ROOT, committed, known)
    quoting = {one.file for one in found if one.kind == "report text of Open-i"}
    for name in quoting:
        assert "Open-i" in (paths.ROOT / name).read_text(), f"{name} quotes Open-i and does not name it"
    assert not {name for name in quoting if name.startswith("models/")}, "weights and their tables hold no report"


@pytest.mark.slow
def test_no_real_radiograph_is_committed(committed, cxr_data, tmp_path):
    known = privacy.known_radiographs([cxr_data / "nih" / "images"], tmp_path)
    found, _ = disclosure.scan(paths.ROOT, committed, known)
    assert not [line for line in told(found) if ": radiograph:" in line]


@pytest.mark.skipif(
    not os.environ.get("CXR_REPORTS"), reason="CXR_REPORTS names no CSV of gated reports (column text)"
)
def test_no_report_of_ones_own_is_committed(committed):
    reports = pd.read_csv(os.environ["CXR_REPORTS"], dtype=str)["text"].dropna()
    found, _ = disclosure.scan(
        paths.ROOT, committed, disclosure.Known({"CXR_REPORTS": disclosure.report_words(reports)})
    )
    assert not [line for line in told(found) if "report text" in line]


# --- what is planted is found ---------------------------------------------------------------------------------

REPORT = (
    "The patient returned from the allotment with a hairline shadow behind the third rib on the left. "
    "Otherwise the picture resembles that of the previous visit in every respect."
)


def radiograph():
    source = sources.simulated(size_px=128, hospital="internal", images_n=3, seed=8)
    return Image.fromarray(source.read(1).square)


def encoded(image, kind="PNG"):
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def sheet(image):
    """Return a figure with two plots and a radiograph as its third panel, as Matplotlib would draw it."""
    page = Image.new("RGB", (640, 220), "white")
    for x in (20, 230):
        ImageDraw.Draw(page).rectangle((x, 20, x + 170, 190), outline="black", fill=(222, 235, 247))
        ImageDraw.Draw(page).line((x, 190, x + 170, 40), fill=(0, 114, 178), width=3)
    page.paste(image.resize((170, 170)), (440, 20))
    return page


def notebook(*outputs, source="1 + 1"):
    cell = {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {}}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def shown(image):
    return {"output_type": "display_data", "data": {"image/png": base64.b64encode(encoded(image)).decode()}}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def parquet(**columns):
    content = io.BytesIO()
    pd.DataFrame(columns).to_parquet(content)
    return content.getvalue()


PLANTED = {
    "a date in a table": ("results/a.csv", b"image_id,taken\na,2019-03-07\n", "date"),
    "a date as DICOM has it": ("results/a.csv", b"image_id,taken\na,20190307\n", "date"),
    "a date in a compressed table": ("results/a.csv.gz", gzip.compress(b"image_id,taken\na,7.3.2019\n"), "date"),
    "a date in Parquet": ("results/a.parquet", parquet(when=["2019-03-07"]), "date"),
    "a moment in Parquet": ("results/a.parquet", parquet(when=pd.to_datetime(["2019-03-07"])), "date"),
    "a date in JSON": ("results/a.json", b'{"taken": "03/07/2019"}', "date"),
    "a doctor": ("docs/a.md", b"as Dr. Miller wrote", "name"),
    "a patient as DICOM has it": ("results/a.csv", b"patient\nDOE^JANE\n", "name"),
    "a record number": ("docs/a.md", b"(MRN: 00123456)", "record number"),
    "an accession number": ("paper/a.ipynb", notebook(printed("Accession number: A1234567")), "accession number"),
    "a UID": ("results/a.csv", b"study\n1.2.840.113619.2.55.3.604688119\n", "DICOM UID"),
    "a path": ("paper/a.ipynb", notebook(source="open('/home/jane/x.csv')"), "absolute path"),
    "an address": ("docs/a.html", b"<p>ask jane.doe@hospital.org</p>", "email"),
    "report text": ("paper/a.ipynb", notebook(printed(REPORT[:90])), "report text of ours"),
    "report text in a table": ("results/a.csv", f'id,text\n1,"{REPORT}"\n'.encode(), "report text of ours"),
    "a radiograph": ("results/a.png", encoded(radiograph()), "radiograph"),
    "a radiograph as JPEG": ("results/a.jpg", encoded(radiograph(), "JPEG"), "radiograph"),
    "a panel of a figure": ("results/a.png", encoded(sheet(radiograph())), "radiograph"),
    "a panel on a page": ("paper/a.ipynb", notebook(shown(sheet(radiograph()))), "radiograph"),
    "a picture in HTML": (
        "docs/a.html",
        b'<img src="data:image/png;base64,' + base64.b64encode(encoded(radiograph())) + b'">',
        "radiograph",
    ),
    "a DICOM file": ("results/a.dcm", bytes(128) + b"DICM" + bytes(64), "DICOM file"),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A report and a radiograph that must not be found, as files."""
    folder = tmp_path_factory.mktemp("known")
    (folder / "images").mkdir()
    radiograph().save(folder / "images" / "patient.png")
    pd.DataFrame({"text": [REPORT, "No acute cardiopulmonary abnormality."]}).to_csv(folder / "ours.csv", index=False)
    radiographs = privacy.known_radiographs([folder / "images"], folder)
    words = {"ours": disclosure.report_words([REPORT])}
    return folder, disclosure.Known(words, radiographs.radiographs, radiographs.pictures)


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_planted_is_found(case, tmp_path, known):
    name, content, kind = PLANTED[case]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    found, unread = disclosure.scan(tmp_path, [path], known[1], disclosure.read_allowed(ALLOWED))
    assert {one.kind for one in found} == {kind} and not unread


HARMLESS = {
    "README.md": b"Version 1.2.3 of 2026-11-29, doi 10.1148/radiol.2019191293, see /docs and ~/work; 3.11.2 and 0.95",
    "results/a.csv": b"image_id,auc,low\n00000013_005.png,0.9123456,20190307.5\n",
    "docs/a.md": b"mail is not given; a path data/cxr/nih is relative; accession numbers and MRNs are left out",
    "results/plot.png": encoded(sheet(Image.new("L", (128, 128), 200))),
    "results/b.csv": b'finding,text\nno,"no acute cardiopulmonary abnormality is seen"\n',
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_raises_no_alarm(name, tmp_path, known):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HARMLESS[name])
    assert not disclosure.scan(tmp_path, [path], known[1])[0]


def test_another_radiograph_is_photographic_but_not_that_one(known):
    source = sources.simulated(size_px=128, hospital="internal", images_n=3, seed=8)
    ((kind, _),) = disclosure.in_picture(encoded(Image.fromarray(source.read(0).square)), known[1])
    assert kind == "picture"


def test_the_command(tmp_path, known, capsys, monkeypatch):
    folder, _ = known
    (tmp_path / "page.md").write_text(f"{REPORT}\nDr. Miller")
    words = ["privacy", str(tmp_path), "--reports", str(folder / "ours.csv"), "--images", str(folder / "images")]
    assert cxr.main(words) == 1
    said = capsys.readouterr().out
    assert "page.md: name: 'Dr. Miller'" in said and "report text of ours.csv" in said
    (tmp_path / "page.md").write_text("Nothing of anybody.")
    assert cxr.main(words) == 0 and "0 findings in 1 files" in capsys.readouterr().out
    assert cxr.main(["privacy", str(tmp_path / "nowhere")]) == 2
    assert "There is no file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {files: [x], kinds: [date]}", "lacks 'reason'"),
        ("a: {files: [x], kinds: [date], reason: r, text: '('}", "no regular expression"),
        ("a: {files: [x], kinds: [radiograph], reason: r}", "is not to be allowed"),
    ],
)
def test_what_is_allowed_needs_a_reason(text, message, tmp_path):
    (tmp_path / "allowed.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        disclosure.read_allowed(tmp_path / "allowed.yaml")


def test_common_phrases_are_nobodys_words():
    phrase = "no acute cardiopulmonary abnormality is seen on this film today"
    words = disclosure.report_words([f"{REPORT} {phrase}", *(f"{phrase} {k}" for k in "abc")])
    assert not [run for run in words if run in phrase]
    assert "allotment with a hairline shadow behind the third" in words and all(
        len(run.split()) == 8 for run in words
    )
