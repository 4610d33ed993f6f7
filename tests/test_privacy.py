"""Nothing of a patient is committed: what is published is searched, and the search finds what is planted."""

import base64
import gzip
import io
import json
import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from safetensors.numpy import save

from cxrlib.base import paths
from cxrlib.cohorts import folder_images, sources
from cxrlib.commands import cxr, privacy
from cxrlib.releases import openi_reports, padchest
from cxrlib.site import disclosure, photographs, traces

ALLOWED = paths.ROOT / "tools" / "privacy_allowed.yaml"


TABLES = (".csv", ".tsv", ".json", ".parquet", ".csv.gz")
QUOTED_N = 12  # runs of eight words of Open-i that a file may quote, which is about three sentences
BY_CHANCE = {"models/archive_reader/reports.parquet": 20}  # simulated reports, of phrases that real ones have too


@pytest.fixture(scope="module")
def committed():
    """The files that git tracks; without git the tests of them are skipped."""
    if not (paths.ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so nothing says what is committed")
    return privacy.committed_files(paths.ROOT)


def told(found):
    return [f"{one.file}: {one.kind}: {one.what[:80]}" for one in found]


def quoted_too_much(found, root):
    """Return which files quote Open-i without naming it, at length or in a table, each with the reason."""
    counted = Counter(one.file for one in found if one.kind == "report text of Open-i")
    out = {}
    for name, runs_n in counted.items():
        if name.endswith(TABLES) or name.startswith("models/"):
            out[name] = "a table of reports" * (runs_n > BY_CHANCE.get(name, 0))
        elif runs_n > QUOTED_N:
            out[name] = f"{runs_n} runs of words"
        elif runs_n > 1 and "Open-i" not in (root / name).read_text():  # one run is a phrase of the trade
            out[name] = "no source"
    return {name: reason for name, reason in out.items() if reason}


def test_nothing_of_a_patient_is_committed(committed):
    found = disclosure.scan(paths.ROOT, committed, allowed=disclosure.read_allowed(ALLOWED))
    assert not told(found)
    rooms = {path.relative_to(paths.ROOT).parts[0] for path in committed}
    assert len(committed) > 900 and rooms > {
        "cxrlib",
        "tests",
        "notebooks",
        "benchmarks",
        "editions",
        "tools",
        "paper",
    }


def test_everything_that_is_allowed_is_there(committed):
    """An entry that nothing needs any more is to be taken out."""
    allowed = disclosure.read_allowed(ALLOWED)
    for name, entry in allowed.items():
        others = {key: value for key, value in allowed.items() if key != name}
        files = [f for f in committed if any(f.relative_to(paths.ROOT).match(p) for p in entry["files"])]
        assert disclosure.scan(paths.ROOT, files, allowed=others), f"{name} allows nothing that is there"


@pytest.mark.slow
def test_no_report_of_a_gated_set_is_committed(committed):
    """PadChest's reports are gated; Open-i's are under CC BY-NC-ND 4.0, and single sentences are quoted in docs."""
    reports = {"PadChest": traces.report_words(padchest.read_padchest_studies()["text"])}
    found = disclosure.scan(paths.ROOT, committed, disclosure.Known(reports))
    assert not [line for line in told(found) if "report text" in line]


@pytest.mark.slow
def test_of_openi_only_pages_that_name_it_quote_few_sentences(committed):
    known = disclosure.Known({"Open-i": traces.report_words(r.text for r in openi_reports.read_reports())})
    found = disclosure.scan(paths.ROOT, committed, known)
    assert "report text of Open-i" in {one.kind for one in found}, "notebook 12 quotes a sentence"
    assert not quoted_too_much(found, paths.ROOT)


@pytest.mark.slow
def test_no_real_radiograph_is_committed(committed, cxr_data, tmp_path):
    known = privacy.known_radiographs([cxr_data / "nih" / "images"], tmp_path)
    found = disclosure.scan(paths.ROOT, committed, known)
    assert not [line for line in told(found) if ": radiograph:" in line]


@pytest.mark.skipif(
    not os.environ.get("CXR_REPORTS"), reason="CXR_REPORTS names no CSV of gated reports (column text)"
)
def test_no_report_of_ones_own_is_committed(committed):
    reports = pd.read_csv(os.environ["CXR_REPORTS"], dtype=str)["text"].dropna()
    found = disclosure.scan(paths.ROOT, committed, disclosure.Known({"CXR_REPORTS": traces.report_words(reports)}))
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


def tinted(image):
    return Image.fromarray(np.uint8(np.asarray(image)[..., None] * [1, 0.92, 0.85]))


def below_a_map(image):
    """Return a radiograph below a heat map of red, yellow and blue, 35 % of the colour."""
    y, x = np.mgrid[: image.height, : image.width] / image.height
    heat = np.exp(-((x - 0.35) ** 2 + (y - 0.6) ** 2) / 0.05)
    colours = np.stack([np.clip(1.5 - abs(4 * heat - k), 0, 1) for k in (3, 2, 1)], axis=-1) * 255
    return Image.fromarray(np.uint8(0.65 * np.asarray(image)[..., None] + 0.35 * colours))


def touching(*rows):
    """Return radiographs that touch each other, the one that is known last."""
    source = sources.simulated(size_px=128, hospital="internal", images_n=3, seed=8)
    numbers = {"known": 1, "other": 0, "third": 2}
    return Image.fromarray(np.vstack([np.hstack([source.read(numbers[one]).square for one in row]) for row in rows]))


def on_page(image, colour="white"):
    page = Image.new("RGB", (image.width + 260, image.height + 40), colour)
    ImageDraw.Draw(page).line((20, image.height, 200, 30), fill=(0, 114, 178), width=3)
    page.paste(image, (240, 20))
    return page


def notebook(*outputs, source="1 + 1", **metadata):
    cell = {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {}}
    return json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def shown(image):
    return {"output_type": "display_data", "data": {"image/png": base64.b64encode(encoded(image)).decode()}}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def parquet(**columns):
    content = io.BytesIO()
    pd.DataFrame(columns).to_parquet(content)
    return content.getvalue()


def npz(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


HEAD = "   StudyDate   view\n0  2019-03-07   PA\n1  2019-04-11   AP"
MOMENT = pd.to_datetime(["2019-03-07 08:15"])

# The name of a file, what stands in it, and the kinds of trace that are to be found.
PLANTED = {
    "a date in a table": ("results/a.csv", b"image_id,taken\na,2019-03-07\n", "date"),
    "a date as DICOM has it": ("results/a.csv", b"image_id,taken\na,20190307\n", "date"),
    "a moment as DICOM has it": ("results/a.csv", b"image_id,taken\na,20190307081500\n", "date"),
    "a moment as DICOM has it, in parts": ("results/a.csv", b"image_id,taken\na,20190307081500.250000\n", "date"),
    "a moment": ("results/a.csv", b"image_id,taken\na,2019-03-07T08:15:00\n", "date"),
    "a moment elsewhere": ("results/a.csv", b"image_id,taken\na,2019-03-07T08:15:00.5+01:00\n", "date"),
    "a date with slashes": ("results/a.csv", b"image_id,taken\na,2019/03/07\n", "date"),
    "a day before its month": ("results/a.csv", b"image_id,taken\na,07-03-2019\n", "date"),
    "a year of two digits": ("results/a.csv", b"image_id,taken,age\na,7.3.19,61\n", "date"),
    "a month in letters": ("results/a.csv", b"image_id,taken\na,07-MAR-2019\nb,7 Mar 2019\n", "date"),
    "a date as a number with a point": ("results/a.csv", b"image_id,taken\na,20190307.0\n", "date"),
    "a date in a compressed table": ("results/a.csv.gz", gzip.compress(b"image_id,taken\na,7.3.2019\n"), "date"),
    "a date in Parquet": ("results/a.parquet", parquet(when=["2019-03-07"]), "date"),
    "a moment in Parquet": ("results/a.parquet", parquet(when=MOMENT), "date"),
    "a moment with its zone in Parquet": (
        "results/a.parquet",
        parquet(when=MOMENT.tz_localize("Europe/Berlin")),
        "date",
    ),
    "a date as a number in Parquet": ("results/a.parquet", parquet(when=[20190307, 12]), "date"),
    "a moment as a number in Parquet": ("results/a.parquet", parquet(when=[20190307081500, 1]), "date"),
    "a date as a number with gaps in Parquet": ("results/a.parquet", parquet(when=[20190307.0, None]), "date"),
    "a column of a record in Parquet": ("results/a.parquet", parquet(MRN=[123456]), "record field"),
    "bytes in Parquet": ("results/a.parquet", parquet(image=[encoded(Image.new("L", (8, 8)))]), "binary column"),
    "a date in JSON": ("results/a.json", b'{"taken": "03/07/2019"}', "date"),
    "dates that a notebook shows": ("notebooks/a.ipynb", notebook(printed(HEAD)), "date, record field"),
    "dates on a page": ("docs/a.html", b"<td>2019-03-07</td>", "date"),
    "dates in a script": ("docs/a.js", b"const cases = [{taken: '2019-03-07'}];", "date"),
    "a moment in a notebook's metadata": ("paper/a.ipynb", notebook(run="2019-03-07T08:15:00"), "date"),
    "a date in the name of a file": ("results/case_20190307.csv", b"a,b\n", "date"),
    "a doctor": ("docs/a.md", b"as Dr. Miller wrote", "name"),
    "a patient as DICOM has it": ("results/a.csv", b"patient\nDOE^JANE\n", "name"),
    "a patient with an umlaut": ("results/a.csv", "patient\nMÜLLER^HANS\n".encode(), "name"),
    "a patient in another encoding": ("results/a.csv", "patient\nMÜLLER^HANS\n".encode("cp1252"), "name"),
    "a patient as a record has it": ("results/a.csv", b'patient,age\n"Doe, Jane",61\n', "name"),
    "a patient on a page": ("docs/a.html", b"<td>Doe, Jane</td>", "name"),
    "a record number": ("docs/a.md", b"(MRN: 00123456)", "record number"),
    "a record number in a table": ("results/a.csv", b"image_id,mrn,age\na,00123456,61\n", "record field"),
    "a record number in JSON": ("results/a.json", b'{"MRN": "00123456"}', "record field, record number"),
    "a record number on a page": ("docs/a.html", b"<td>MRN</td><td>00123456</td>", "record field, record number"),
    "an accession number": (
        "paper/a.ipynb",
        notebook(printed("Accession number: A1234567")),
        "accession number, record field",
    ),
    "an accession number in a table": (
        "results/a.csv",
        b"image_id,accession_number,auc\na,A1234567,0.9\n",
        "record field",
    ),
    "a day of birth": ("results/a.csv", b"image_id,PatientBirthDate\na,x\n", "record field"),
    "a number of a hospital": ("results/a.csv", b"PatientID,auc\n81,0.9\n", "record field"),
    "a UID": ("results/a.csv", b"study\n1.2.840.113619.2.55.3.604688119\n", "DICOM UID"),
    "a path": ("paper/a.ipynb", notebook(source="open('/home/jane/x.csv')"), "absolute path"),
    "a path on a page": ("docs/a.html", b"<td>/home/jane/x</td>", "absolute path"),
    "a path after a sign": ("docs/a.md", b"ls >/home/jane/x", "absolute path"),
    "a path as an address": ("docs/a.md", b"see file:///home/jane/x", "absolute path"),
    "a path in a module": ("cxrlib/a.py", b"ROOT = '/home/jane/x'", "absolute path"),
    "an address": ("docs/a.html", b"<p>ask jane.doe@hospital.org</p>", "email"),
    "report text": ("paper/a.ipynb", notebook(printed(REPORT[:90])), "report text of ours"),
    "report text in a table": ("results/a.csv", f'id,text\n1,"{REPORT}"\n'.encode(), "report text of ours"),
    "a radiograph": ("results/a.png", encoded(radiograph()), "radiograph"),
    "a radiograph as JPEG": ("results/a.jpg", encoded(radiograph(), "JPEG"), "radiograph"),
    "a radiograph, cropped": ("results/a.png", encoded(radiograph().crop((3, 3, 125, 125))), "radiograph"),
    "a radiograph with a tint": ("results/a.png", encoded(on_page(tinted(radiograph()))), "radiograph"),
    "a radiograph below a map": ("results/a.png", encoded(on_page(below_a_map(radiograph()))), "radiograph"),
    "a radiograph below a map, mirrored": (
        "results/a.png",
        encoded(on_page(below_a_map(radiograph().transpose(Image.Transpose.FLIP_LEFT_RIGHT)))),
        "radiograph",
    ),
    "a radiograph on a dark page": ("results/a.png", encoded(on_page(radiograph(), "#223344")), "radiograph"),
    "two radiographs that touch": ("results/a.png", encoded(on_page(touching(["other", "known"]))), "radiograph"),
    "two radiographs, one above the other": ("results/a.png", encoded(touching(["other"], ["known"])), "radiograph"),
    "six radiographs that touch": (
        "results/a.png",
        encoded(touching(["other", "third"], ["third", "known"], ["third", "other"])),
        "radiograph",
    ),
    "a panel of a figure": ("results/a.png", encoded(sheet(radiograph())), "radiograph"),
    "a panel on a page": ("paper/a.ipynb", notebook(shown(sheet(radiograph()))), "radiograph"),
    "a picture in HTML": (
        "docs/a.html",
        b'<img src="data:image/png;base64,' + base64.b64encode(encoded(radiograph())) + b'">',
        "radiograph",
    ),
    "a DICOM file": ("results/a.dcm", bytes(128) + b"DICM" + bytes(64), "DICOM file"),
    "a DICOM file without its preamble": ("results/a.dcm", b"\x08\0\x05\0CS\x0a\0ISO_IR 100", "unread file"),
    "a table of Excel": ("results/a.xlsx", b"PK\x03\x04\x14\0\x06\0", "unread file"),
    "a table of UTF-16": ("results/a.csv", "mrn\n00123456\n".encode("utf-16"), "unread file"),
    "a damaged notebook": ("paper/a.ipynb", notebook()[:-9], "unread file"),
    "a notebook without cells": ("paper/a.ipynb", b"{}", "unread file"),
    "a damaged table": ("results/a.parquet", parquet(a=[1])[:-9], "unread file"),
    "a damaged archive": ("results/a.csv.gz", gzip.compress(b"a,b\n" * 99)[:-12], "unread file"),
    "an array of objects": ("results/a.npz", npz(a=np.array([{}, None], object)), "unread file"),
    "images as an array": ("results/a.npz", npz(x=np.zeros((3, 64, 64), np.uint8)), "array like an image"),
    "an image as an array": ("results/a.npz", npz(x=np.zeros((64, 80), np.uint16)), "array like an image"),
    "images as numbers with a point": ("results/a.npz", npz(x=np.zeros((3, 64, 64, 1))), "array like an image"),
    "dates in an array": ("results/a.npz", npz(x=np.array(["a", "2019-03-07"])), "date"),
    "images among weights": (
        "models/a.safetensors",
        save({"x": np.zeros((64, 64), np.uint8)}),
        "array like an image",
    ),
    "a path among weights": (
        "models/a.safetensors",
        save({"x": np.zeros(3)}, {"trained_on": "/home/jane/x"}),
        "absolute path",
    ),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A report and a radiograph that must not be found, as files."""
    folder = tmp_path_factory.mktemp("known")
    (folder / "images").mkdir()
    radiograph().save(folder / "images" / "patient.png")
    pd.DataFrame({"text": [REPORT, "No acute cardiopulmonary abnormality."]}).to_csv(folder / "ours.csv", index=False)
    radiographs = privacy.known_radiographs([folder / "images"], folder)
    words = {"ours": traces.report_words([REPORT])}
    return folder, disclosure.Known(words, radiographs.radiographs, radiographs.pictures)


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_planted_is_found(case, tmp_path, known):
    name, content, kind = PLANTED[case]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    found = disclosure.scan(tmp_path, [path], known[1], disclosure.read_allowed(ALLOWED))
    assert ", ".join(sorted({one.kind for one in found})) == kind


HARMLESS = {
    "README.md": b"Version 1.2.3 of 2026-11-29, doi 10.1148/radiol.2019191293, see /docs and ~/work; 3.11.2 and 0.95",
    "results/a.csv": b"image_id,auc,low\n00000013_005.png,0.9123456,20190307.5\n",
    "docs/a.md": b"mail is not given; a path data/cxr/nih is relative; accession numbers and MRNs are left out",
    "results/plot.png": encoded(sheet(Image.new("L", (128, 128), 200))),
    "docs/b.md": b"| release | of |\n|---|---|\n| CheXpert | 2019-01-21 |\n\nPublished on 7 March 2019 by Doe, Jane.",
    "requirements.txt": b"certifi==2026.11.15\nnumpy==2.3.10\n",
    "results/c.csv": b"date_off,patient_id,images_n\n0.1,8,20190299\n",
    "results/d.csv": b'what,auc\n"Sex, age",0.7\n"view, sex, age",0.8\n',
    "results/a.parquet": parquet(n=[1, 2], share=[0.5, 20190307.5], name=["effusion", None]),
    "results/a.npz": npz(scores=np.zeros((700, 300), np.float32), seeds=np.arange(40)),
    "models/a.safetensors": save({"conv": np.zeros((64, 64, 3, 3)), "linear": np.zeros((128, 1000), np.float32)}),
    "paper/a.ipynb": notebook(printed("epoch  auc\n1  0.91"), source="# of 2019-03-07"),
    "cxrlib/a.py": b"WHEN = '2019-03-07'  # b@example.org, 1.2.840.10008.1.2.1",
    "results/b.csv": b'finding,text\nno,"no acute cardiopulmonary abnormality is seen"\n',
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_raises_no_alarm(name, tmp_path, known):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HARMLESS[name])
    assert not disclosure.scan(tmp_path, [path], known[1])


def test_another_radiograph_is_photographic_but_not_that_one(known):
    source = sources.simulated(size_px=128, hospital="internal", images_n=3, seed=8)
    ((kind, _),) = photographs.in_picture(encoded(Image.fromarray(source.read(0).square)), known[1])
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


def test_a_file_that_is_not_read_is_an_alarm_until_it_is_allowed(tmp_path, capsys):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "scan.pdf").write_bytes(b"%PDF-1.7\n\0")
    words = ["privacy", str(tmp_path / "page")]
    assert cxr.main(words) == 1
    said = capsys.readouterr().out
    assert "scan.pdf: unread file" in said and "1 of them are files that are not read" in said
    (tmp_path / "allowed.yaml").write_text("a: {files: [scan.pdf], kinds: [unread file], reason: looked at}")
    assert cxr.main([*words, "--allow", str(tmp_path / "allowed.yaml")]) == 0


def test_a_known_radiograph_is_never_allowed(tmp_path, known):
    (tmp_path / "a.png").write_bytes(encoded(radiograph()))
    every = {"all": {"files": ["*"], "kinds": ["*"], "reason": "none"}}
    assert [one.kind for one in disclosure.scan(tmp_path, [tmp_path / "a.png"], known[1], every)] == ["radiograph"]


def test_a_person_has_many_radiographs_but_a_map_shows_one(known):
    """Below a coloured map the other simulated radiographs are not taken for the one that is known."""
    source = sources.simulated(size_px=128, hospital="internal", images_n=3, seed=8)
    for row in (0, 2):
        found = photographs.in_picture(encoded(below_a_map(Image.fromarray(source.read(row).square))), known[1])
        assert {kind for kind, _ in found} == {"picture"}


def cropped(image):
    rim = image.width // 40
    return image.crop((rim, rim, image.width - rim, image.height - rim))


DRAWN = {
    "plain": on_page,
    "cropped": lambda image: on_page(cropped(image)),
    "tinted": lambda image: on_page(tinted(image)),
    "below a map": lambda image: on_page(below_a_map(image)),
    "beside another": lambda image: on_page(Image.fromarray(np.hstack([np.asarray(image)[:, ::-1], image]))),
}


@pytest.mark.slow
def test_real_radiographs_are_found_as_figures_draw_them(cxr_data, tmp_path):
    """Of thirty, at least 28 in each way; and where the one that is drawn is not known, no other is taken for it."""
    folder = cxr_data / "nih" / "images"
    known, names = privacy.known_radiographs([folder], tmp_path), folder_images.images_below(folder)
    rows = np.random.default_rng(3).choice(len(names), 30, replace=False)
    others = np.setdiff1d(np.arange(len(names)), rows)
    for how, draw in DRAWN.items():
        found_n = 0
        for row in rows:
            figure = draw(Image.open(folder / names[row]).convert("L").resize((170, 170)))
            (part,) = photographs.parts(figure)
            found_n += photographs.radiograph_number(part, known.radiographs, known.pictures) == row
            taken = photographs.radiograph_number(
                part, known.radiographs[others], lambda other: known.pictures(others[other])
            )
            assert taken is None, f"{how}: {names[row]} is taken for {names[others[taken]]}"
        assert found_n >= 28, f"{how}: {found_n} of 30 are found"


def test_open_i_is_quoted_by_its_name_in_few_words_and_in_no_table(tmp_path):
    reports = [f"{REPORT} It was film {'a' * n} of the series." for n in range(1, 9)]
    known = disclosure.Known({"Open-i": traces.report_words([*reports, REPORT])})
    text = "Open-i says: " + " ".join(f"film {'a' * n} of the series. It was as before" for n in range(1, 9))
    page = "From Open-i: in every respect. It was film a of the series."
    files = {
        "full.ipynb": notebook(source=text + " ".join(reports)),
        "table.csv": ("source,text\nOpen-i," + page + "\n").encode(),
        "page.md": page.encode(),
        "unnamed.md": page.replace("Open-i", "elsewhere").encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = disclosure.scan(tmp_path, tmp_path.iterdir(), known)
    said = quoted_too_much(found, tmp_path)
    assert set(said) == {"full.ipynb", "table.csv", "unnamed.md"}
    assert "runs of words" in said["full.ipynb"] and said["table.csv"] == "a table of reports"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {files: [x], kinds: [date]}", "lacks 'reason'"),
        ("a: {files: [x], kinds: [date], reason: r, text: '('}", "no regular expression"),
        ("a: {files: [x], kinds: [radiograph], reason: r}", "is not to be allowed"),
        ("a: {files: [x], kinds: ['*'], reason: r}", "is not to be allowed"),
        ("a: {files: [x], kinds: ['radio*'], reason: r}", "is not to be allowed"),
        ("a: {files: '*', kinds: [date], reason: r}", "write a list of patterns"),
    ],
)
def test_what_is_allowed_needs_a_reason(text, message, tmp_path):
    (tmp_path / "allowed.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        disclosure.read_allowed(tmp_path / "allowed.yaml")


def test_common_phrases_are_nobodys_words():
    phrase = "no acute cardiopulmonary abnormality is seen on this film today"
    words = traces.report_words([f"{REPORT} {phrase}", *(f"{phrase} {k}" for k in "abc")])
    assert not [run for run in words if run in phrase]
    assert "allotment with a hairline shadow behind the third" in words and all(
        len(run.split()) == 8 for run in words
    )
