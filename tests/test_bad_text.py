"""Bad text and tables, kind by kind: each is refused in one sentence that names file or row and the remedy.

What is said of a whole file is a ValueError; what is said of one report or row is listed, and the others are read.
"""

import gzip
import json
import os
import shutil
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import editions, label_tables, own_tables, paths, yaml_files
from cxrlib.cohorts import splits
from cxrlib.labels import given
from cxrlib.releases import cards, openi_reports
from cxrlib.reports import export_files, image_reports, report_files, report_headers
from cxrlib.topics import models, pages

HEAD = "image_id,patient_id,edema\n"
GOOD = HEAD + "a,1,1\nb,2,0\n"
LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9))
    + "]>"
)
OPENI = '<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">{}</AbstractText></eCitation>'


def written(folder, name, content):
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") and not name.startswith("cut") else data)
    return path


def refused(read, *arguments, **options):
    """Return the sentence with which a reader refuses."""
    with pytest.raises((ValueError, OSError)) as caught:
        read(*arguments, **options)
    return str(caught.value)


def check_sentence(said, path, message):
    assert message in said and path.name in said, said
    assert "\n" not in said and "Traceback" not in said and said.isprintable() and len(said) < 800, said


LABELS = {
    "empty": (b"", "is empty: it needs a header"),
    "blank line first": (b"\nimage_id,edema\na,1\n", "is empty: it needs a header"),
    "header alone": (HEAD, "has a header and no rows below it: export it anew"),
    "blank lines alone": (HEAD + "\n\n  \n", "has a header and no rows"),
    "utf-16 with a mark": (GOOD.encode("utf-16"), "not UTF-8 text but UTF-16: save it as CSV UTF-8"),
    "utf-16 without a mark": (GOOD.encode("utf-16-le"), "line 1 has null bytes"),
    "latin-1": (GOOD.replace("b,", "\xe4,").encode("latin-1"), "is not UTF-8 text (line 3): save it as CSV UTF-8"),
    "null bytes": (HEAD + "a,1,1\nb\0,2,0\n", "line 3 has null bytes"),
    "a short row": (HEAD + "a,1,1\nb,2\n", "line 3: 2 fields, fewer than its header, which has 3"),
    "a long row": (HEAD + "a,1,1\nb,2,0,1\n", "line 3: 4 fields, more fields than its header"),
    "commas at the ends": (HEAD + "a,1,1,\nb,2,0,\n", "remove commas at the ends of lines"),
    "a decimal comma": ("image_id,edema\na,0,5\nb,0,7\n", "decimals take a point"),
    "a decimal comma in quotes": ('image_id,edema\na,"0,5"\n', "line 2: edema is '0,5'; labels are 1"),
    "a column twice": ("image_id,edema,edema\na,1,0\n", "has the column 'edema' twice: rename or remove one"),
    "a column twice but for blanks": ("image_id,edema, edema\na,1,0\n", "has the column 'edema' twice"),
    "two spellings of a finding": ("image_id,edema,Edema\na,1,0\n", "both mean edema: keep one"),
    "no header": ("a,1\nb,0\n", "has no column image_id; it has a, 1"),
    "semicolons": (GOOD.replace(",", ";"), "separated by semicolons: separate them by commas"),
    "tabs": (GOOD.replace(",", "\t"), "separated by tabs: separate them by commas"),
    "a quote never closed": (HEAD + 'a,1,1\n"b,2,0\nc,3,1\n', "line 3 opens a quote that is not closed up to line 4"),
    "text after a quote": (HEAD + 'a,1,1\n"b"x,2,0\n', "line 3 is not CSV"),
    "a quote that swallows rows": (HEAD + '"a,1,1\nb,2,0\n"c,3,1\n', "line 2"),
    "an id twice": (GOOD + "a,1,0\n", "line 4 has an image id that occurs twice ('a'): keep one row an image"),
    "no id": (HEAD + "a,1,1\n,2,0\n", "line 3 has no image id"),
    "a line number below text of several lines": (
        'image_id,note,edema\na,"two\nlines",1\nb,one,2\n',
        "line 4: edema is '2'",
    ),
    "lone carriage returns": ("image_id,edema\ra,1\rb,7\r", "line 3: edema is '7'"),
    "mixed ends of lines": ("image_id,edema\r\na,1\nb,1\rc,8\n", "line 4: edema is '8'"),
    "a label of 2": (HEAD + "a,1,2\n", "line 2: edema is '2'; labels are 1 (present), 0 (absent)"),
    "a label of 0.5": (HEAD + "a,1,0.5\n", "line 2: edema is '0.5'"),
    "a label in words": (HEAD + "a,1,yes\n", "line 2: edema is 'yes'"),
    "a label nan": (HEAD + "a,1,nan\n", "line 2: edema is 'nan'"),
    "a label inf": (HEAD + "a,1,inf\n", "line 2: edema is 'inf'"),
    "a formula": (HEAD + "a,1,=1+0\n", "line 2: edema is '=1+0'"),
    "no finding": ("image_id,oedematous\na,1\n", "has no column of a finding"),
    "an age in words": ("image_id,age,edema\na,old,1\n", "line 2: age is 'old', which is no number; leave it empty"),
    "control characters in the header": (b"image_id,\x1b[2Jedema\na,1\n", "with control characters: save it as CSV"),
    "a workbook": (b"PK\3\4" + bytes(99), "not CSV but an Excel workbook or a zip archive: save it as CSV UTF-8"),
    "an old workbook": (b"\xd0\xcf\x11\xe0" + bytes(99), "an Excel workbook: save it as CSV UTF-8"),
    "a Parquet file": (b"PAR1" + bytes(99), "not CSV but a Parquet file"),
    "packed under a plain name": (gzip.compress(GOOD.encode()), "compressed by gzip: let its name end in .csv.gz"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_table_of_labels(tmp_path, kind):
    path = written(tmp_path, "labels.csv", LABELS[kind][0])
    check_sentence(refused(own_tables.read_own, path), path, LABELS[kind][1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_id,edema\na,inf\n", "line 2: edema is 'inf'; a score is a number, or empty"),
        ("image_id,edema\na,nan\n", "line 2: edema is 'nan'"),
        ("image_id,edema\na,1e999\n", "line 2: edema is '1e999'"),
        ("image_id,edema\na,90 %\n", "line 2: edema is '90 %'"),
        ("image_id,prob_edema,p_edema\na,1,1\n", "both mean edema: keep one"),
    ],
)
def test_a_table_of_scores(tmp_path, content, message):
    path = written(tmp_path, "scores.csv", content)
    check_sentence(refused(own_tables.read_own, path, scores=True), path, message)


def test_what_looks_wrong_and_is_not(tmp_path):
    """A byte order mark, blank lines, any ends of lines, and ids that look like numbers or like nothing are read."""
    content = "\ufeffimage_id,edema\r\n001,1\r\n\r\nNA,0\r\n1e5,\r\nnull,-1\r\n =1,1\r\n"
    table = own_tables.read_own(written(tmp_path, "labels.csv", content))[0]
    assert table["image_id"].tolist() == ["001", "NA", "1e5", "null", "=1"]
    np.testing.assert_array_equal(table["edema"], np.array([1, 0, np.nan, -1, 1], np.float32))
    above = own_tables.read_own(written(tmp_path, "scores.csv", "image_id,edema\na,1.5\nb,-2\n"), scores=True)[0]
    assert above["edema"].tolist() == [1.5, -2.0], "a score is any number; what needs a probability says so"


def test_unknown_findings_are_said(tmp_path):
    path = written(tmp_path, "labels.csv", "image_id,edema,wellness\na,1,0\n")
    assert own_tables.read_own(path)[2] == [f"columns of {path} that are not read: wellness"]
    store = type("Store", (), {"index": pd.DataFrame({"image_id": ["a"]}), "name": "c"})
    _, card = given.own(store, str(path), who="us", how="read")
    assert card["notes"] == [f"columns of {path} that are not read: wellness"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.csv.gz", gzip.compress(GOOD.encode() * 999, mtime=0)[:60], "is damaged or cut off"),
        ("none.csv.gz", None, "There is no file"),
        ("plain.csv.gz", None, "is damaged or cut off"),
    ],
)
def test_a_packed_table(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name.startswith("plain"):
        path.write_text(GOOD)
    check_sentence(refused(own_tables.read_own, path), path, message)


def test_a_folder_for_a_table(tmp_path):
    check_sentence(refused(own_tables.read_own, tmp_path), tmp_path, "is a folder: name the table in it")


@pytest.mark.parametrize("name", ["labels.csv", "labels.csv.gz"])
def test_a_line_without_end_takes_no_memory(tmp_path, name):
    """A gigabyte without an end of line, and 64 MB that are packed in some kilobytes."""
    path = tmp_path / name
    if name.endswith(".gz"):
        with gzip.open(path, "wb", 1) as file:
            file.write(b"image_id,edema\n")
            for _ in range(32):
                file.write(b"a" * 2**21)
    else:
        path.write_bytes(b"image_id,edema\n")
        os.truncate(path, 2**30)
    tracemalloc.start()
    said = refused(own_tables.read_own, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    check_sentence(said, path, "line 2 is longer than 16,777,216 characters")
    assert peak < 300e6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,train\na,test\n", "image 'a' is in two splits: keep one row of it"),
        ("a,train\nb,test\n", "patient '1' is in test, train: a split must be disjoint by patient"),
        ("a,training\nb,test\n", "split 'training' is none of train, valid, test"),
        ("x,train\ny,test\n", "None of the 2 images"),
    ],
)
def test_a_split(tmp_path, rows, message):
    path = written(tmp_path, "split.csv", "image_id,split\n" + rows)
    index = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["1", "1"]})
    check_sentence(refused(splits.listed, index, str(path)), path, message)


# Reports that `cxr label` reads: what stands in the file, and what is said of the one report, or row, that is bad.
REPORTS = {
    "no text": ("report_id,report\ngood,Edema.\nbad,\n", "it has no text"),
    "no words": ("report_id,report\ngood,Edema.\nbad,n/a\n", "it holds no words"),
    "no id": ("report_id,report\ngood,Edema.\n,Edema.\n", "it has no id that can be read: give it one"),
    "an id twice": ("report_id,report\ngood,Edema.\ngood,Edema.\n", "its id occurs before"),
    "an id that a spreadsheet executes": (
        "report_id,report\ngood,Edema.\n=cmd(),Edema.\n",
        "a spreadsheet would execute",
    ),
    "an id that clears the screen": ("report_id,report\ngood,Edema.\n\x1b[2J,Edema.\n", "no id that can be read"),
    "null bytes": ("report_id,report\ngood,Edema.\nbad,Ede\0ma.\n", "null bytes"),
    "HTML": (
        "report_id,report\ngood,Edema.\nbad,<html><p>Edema.</p>\n",
        "it is not plain text but begins with '<html'",
    ),
    "RTF": ("report_id,report\ngood,Edema.\nbad,{\\rtf1 Edema.}\n", "it is not plain text but begins with"),
    "too long": ("report_id,report\ngood,Edema.\nbad," + "Edema. " * 150_000 + "\n", "more than a report has"),
    "a line without end": ("report_id,report\nbad," + "a" * 2**24 + "\ngood,Edema.\n", "longer than 16,777,216"),
    "bytes of another encoding": (b"report_id,report\ngood,Edema.\nbad,\xd6dem.\n", "name that by --encoding"),
    "a short row": ("report_id,report\ngood,Edema.\nbad\n", "it has 1 fields, the header 2"),
    "a comma outside quotes": ("report_id,report\ngood,Edema.\nbad,Edema, small.\n", "it has 3 fields, the header 2"),
    "a quote never closed": ('report_id,report\ngood,Edema.\nbad,"Edema.\n', "opens in line 3 is not closed"),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_a_row_of_reports(tmp_path, kind):
    content, message = REPORTS[kind]
    rejected = []
    path = written(tmp_path, "reports.csv", content)
    kept = list(report_files.accepted(report_files.sources(path, say=str), rejected.append))
    assert [report_id for report_id, _ in kept] == ["good"]
    assert len(rejected) == 1 and rejected[0].where.startswith("line ") and message in rejected[0].problem


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("reports.csv", "report_id,report,report\na,b,c\n", "several columns named 'report'"),
        ("reports.csv", "report_id;report\na;Edema.\n", "separated by ';'"),
        ("reports.csv", "report_id,report\n", "a header but no rows"),
        ("reports.csv", "report_id,words\na,Edema.\n", "no column of reports; name it by --text-column"),
        ("reports.csv", "report_id,report\na,Edema.\n".encode("utf-16"), "looks like UTF-16"),
        ("reports.csv", b"\0" * 99, "looks like UTF-16"),
        ("reports.parquet", b"PAR1" + bytes(99), "is not a Parquet file, or a damaged one"),
        ("reports.docx", b"PK", "is none of .csv"),
    ],
)
def test_a_file_of_reports(tmp_path, name, content, message):
    path = written(tmp_path, name, content)
    check_sentence(refused(lambda: list(report_files.sources(path, say=str))), path, message)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"report_id": [b"1"], "report": ["Edema."]}, "the column 'report_id' is binary, no ids"),
        ({"report_id": [[1, 2]], "report": ["Edema."]}, "no ids; name the column of ids by --id-column"),
        ({"report_id": ["1"], "report": [3.5]}, "the column 'report' is double, not text"),
        ({"report_id": ["1"], "words": ["Edema."]}, "no column of reports"),
    ],
)
def test_parquet_of_reports(tmp_path, columns, message):
    path = tmp_path / "reports.parquet"
    pd.DataFrame(columns).to_parquet(path)
    check_sentence(refused(lambda: list(report_files.sources(path, say=str))), path, message)


DOCUMENTS = {
    "entities that grow": (LAUGHS + OPENI.format("&j;"), "XML that declares the entity"),
    "an entity that names a file": (
        '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + OPENI.format("&x;"),
        "XML that declares the entity",
    ),
    "an entity of a parameter": (
        '<!DOCTYPE l [<!ENTITY % x SYSTEM "http://localhost/">%x;]>' + OPENI.format(""),
        "XML that declares the entity",
    ),
    "an entity that is not declared": (OPENI.format("&x;"), "not XML (undefined entity"),
    "an unknown encoding": ('<?xml version="1.0" encoding="klingon"?>' + OPENI.format("Edema."), "not XML"),
    "another encoding than stated": (
        b'<?xml version="1.0" encoding="utf-8"?>' + OPENI.format("\xd6dem").encode("latin-1"),
        "not XML",
    ),
    "elements without end": ("<a>" * 50_000, "more than 200 deep"),
    "cut off": (OPENI.format("Edema.")[:-9], "not XML"),
    "control characters": (OPENI.format("\x01"), "not XML"),
    "empty": ("", "not XML"),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_report_in_xml(tmp_path, kind):
    """By both readers: of Open-i, also by `cxr label`, and of a hospital's export, which lists it."""
    content, message = DOCUMENTS[kind]
    path = written(tmp_path, "bad.xml", content)
    check_sentence(refused(openi_reports.parse, path.read_bytes(), "bad.xml"), path, message)
    if content:
        (listed,) = report_files.sources(path, say=str)
        assert listed.text is None and message in listed.problem and "fetch it anew" in listed.problem
        (problem,) = export_files.read_document(path, report_headers.conventions())
        assert message in problem.reason and "export it anew" in problem.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"report": NaN}', "NaN is no number of JSON; write null"),
        ('{"report": "Edema.", "report": "None."}', "the name 'report' occurs twice in one object"),
        ("[" * 100_000, "it is nested too deep"),
        ('{"a":' * 100_000, "it is nested too deep"),
        ('{"report": ' + "9" * 5_000 + "}", "it is not JSON"),
        ('{"report": "Edema."', "it is not JSON"),
        ("3", "neither a JSON object nor a list of them"),
        ('{"words": "Edema."}', "it has no report text"),
        ("", "the file is empty: export the report anew"),
    ],
)
def test_a_report_in_json(tmp_path, content, message):
    how = report_headers.conventions()
    (problem,) = export_files.read_document(written(tmp_path, "bad.json", content), how)
    assert message in problem.reason
    if content.strip():
        path = written(tmp_path, "bad.jsonl", content + '\n{"report": "Edema.", "id": "1"}\n')
        problem, good = export_files.read_table(path, how)
        assert problem.line == 1 and problem.reason and good["text"] == "Edema.", "the line after it is read"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("accession,report\n1,Edema.\n2\n", "its row has 1 fields, the header 2"),
        ("accession,report\n1,Edema.\n2,Ede\0ma.\n", "null bytes"),
        ('accession,report\n1,Edema.\n2,"Edema.\n', "close quotes"),
        ("accession,report\n1,Edema.\n2," + "a" * 2**24, "longer than 16,777,216 characters"),
    ],
)
def test_a_row_of_an_export(tmp_path, content, message):
    path = written(tmp_path, "export.csv", content)
    good, problem = export_files.read_table(path, report_headers.conventions())
    assert good["text"] == "Edema." and problem.line == 3 and message in problem.reason


def test_an_export_with_a_column_twice(tmp_path):
    path = written(tmp_path, "export.csv", "accession,report,report\n1,Edema.,None.\n")
    (problem,) = export_files.read_table(path, report_headers.conventions())
    assert "several columns named 'report': rename all but one" in problem.reason


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 30)
)
YAML = {
    "aliases that grow": (BOMB, "its aliases stand for more than 1,000,000 entries"),
    "merges that grow": (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}]}}\n" for k in range(1, 30)),
        "its aliases stand for more than 1,000,000 entries",
    ),
    "an alias of itself": ("a: &a [*a]\n", "line 1 is no YAML: an alias that contains itself"),
    "a tag that executes": ("a: 1\nb: !!python/object/apply:os.system [ls]\n", "line 2 is no YAML: the tag"),
    "a tag that builds": ("a: !!python/name:os.system ''\n", "write the value without a tag"),
    "a tag of one's own": ("a: !mine 1\n", "the tag '!mine' is none of plain YAML"),
    "a tag that does not fit": ("a: !!timestamp soon\n", "does not fit its tag"),
    "a key twice": ("a: 1\nb: 2\na: 3\n", "line 3 is no YAML: the key 'a' occurs twice"),
    "a key twice below": ("a:\n  b: 1\n  b: 2\n", "line 3 is no YAML: the key 'b' occurs twice"),
    "tabs": ("a:\n\tb: 1\n", "line 2 is no YAML"),
    "no mapping": ("- a\n", "holds no settings: it must be `name: value` lines"),
    "a single value": ("a\n", "holds no settings"),
    "empty": ("", "holds no settings"),
    "two documents": ("a: 1\n---\nb: 1\n", "is no YAML"),
    "brackets without end": ("[" * 600, "is nested too deep; write it flatter"),
    "an unclosed bracket": ("a: [1\n", "is no YAML"),
    "an impossible date": ("a: 2024-02-31\n", "put such a value in quotes"),
    "a key that is a list": ("? [1]\n: 2\n", "is no YAML: found unhashable key"),
    "latin-1": ("a: \xe4\n".encode("latin-1"), "line 1 is no YAML: it is not UTF-8"),
    "utf-16": ("a: 1\n".encode("utf-16"), "it is not UTF-8; save it as UTF-8"),
    "control characters": ("a: 1\nb: \x01\n", "line 2 is no YAML: it has a character that YAML forbids"),
}


@pytest.mark.parametrize("kind", YAML)
def test_a_file_of_settings(tmp_path, kind):
    """By what reads editions and params.yaml, and by what reads cards."""
    content, message = YAML[kind]
    path = written(tmp_path, "mine.yaml", content)
    check_sentence(refused(yaml_files.read_mapping, path), path, message)
    said = refused(cards.read_entries, path)
    assert path.name in said and "\n" not in said


EDITIONS = {
    "an unknown section": ("sead: 3\n", "sets sead, which is no setting"),
    "an unknown setting": ("training: {epoch: 3}\n", "sets training.epoch, which is no setting"),
    "a number for a mapping": ("training: 3\n", "sets training to '3'; it takes a mapping"),
    "nothing for a mapping": ("cohorts:\n", "sets cohorts to 'None'; it takes a mapping"),
    "text for a number": ("training: {epochs: many}\n", "sets training.epochs to 'many'; it takes a number"),
    "nan for a number": ("training: {epochs: .nan}\n", "it takes a number"),
    "a date for a number": ("training: {epochs: 2024-01-01}\n", "it takes a number"),
    "a number for a target": ("targets: {a: 5}\n", "an entry of another kind than base.yaml has there"),
    "a number for a group of runs": ("runs: {metric: 1}\n", "an entry of another kind"),
    "a group without seeds": ("runs: {metric: {targets: [], architectures: []}}\n", "runs.metric has no seeds"),
    "a reference to itself": ("shared: {a: '${shared.a}'}\n", "Recursive interpolation"),
    "a reference to nothing": ("shared: {a: '${shared.b}'}\n", "Interpolation key 'shared.b' not found"),
    "a reference to the environment": ("shared: {a: '${oc.env:HOME}'}\n", "refers to more than a setting"),
    "references that grow": (
        "shared:\n  z0: aaaaaaaaaa\n" + "".join(f"  z{k}: '{f'${{shared.z{k - 1}}}' * 10}'\n" for k in range(1, 30)),
        "stands for more than 1,000,000 entries",
    ),
    "nothing to extend": ("extends: nothing\n", "extends 'nothing'"),
    "itself to extend": ("extends: mine\n", "extends itself"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    shutil.copytree(paths.ROOT / "editions", folder / "editions")
    return folder


@pytest.mark.parametrize("kind", EDITIONS)
def test_an_edition(root, kind):
    content, message = EDITIONS[kind]
    path = root / "editions" / "mine.yaml"
    path.write_text(content if content.startswith("extends") else "extends: quick\n" + content)
    check_sentence(refused(editions.compose, "mine", root), path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="image_id"), "needs the column image_id"),
        (lambda table: table.assign(edema=["yes", "no"]), "edema is str; labels are numbers"),
        (lambda table: table.assign(edema=[1, np.inf]), "row 1: edema is inf"),
        (lambda table: table.assign(image_id="a"), "occurs twice"),
        (lambda table: table.rename(columns={"edema": "oedema"}), "no finding of the vocabulary"),
        (None, "is not a Parquet file, or a damaged one"),
    ],
)
def test_a_label_set_in_parquet(tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    path = tmp_path / "data/label_sets/c/bad.parquet"
    path.parent.mkdir(parents=True)
    table = pd.DataFrame({"image_id": ["a", "b"], "edema": [1.0, 0.0]})
    (table if change is None else change(table)).to_parquet(path)
    if change is None:
        path.write_bytes(path.read_bytes()[:-20])
    check_sentence(refused(label_tables.load, "c", "bad"), path, message)


def test_pairs_in_parquet_that_lack_a_column(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"report_id": ["1"], "text": ["Edema."]}).to_parquet(path)
    said = refused(image_reports.read_linked, {"source": "archive", "path": str(path)})
    check_sentence(said, path, "has no column image_id, patient_id; it has report_id, text")


def test_a_card_that_is_incomplete(tmp_path):
    path = written(
        tmp_path, "cards.yaml", "families: {a: {datasets: [x]}}\nreleases:\n  r: {pixels: a, card: {who: 1}}\n"
    )
    check_sentence(refused(cards.read_releases, path), path, "'how'")


@pytest.fixture
def topic_model(tmp_path):
    path = tmp_path / "topics.npz"
    phi = np.full((2, 3), 1 / 3, np.float32)
    models.TopicModel("sklearn", ("a", "b", "c"), phi, 0.1, ("1",), {"seed": 1}).save(path)
    return path


@pytest.mark.parametrize(
    "kind", ["cut off", "an array more", "pickled", "other shapes", "claims a terabyte", "no JSON"]
)
def test_a_topic_model(topic_model, kind):
    assert models.load_topics(topic_model).terms == ("a", "b", "c")
    arrays = dict(np.load(topic_model))
    if kind == "cut off":
        topic_model.write_bytes(topic_model.read_bytes()[:-50])
    elif kind == "claims a terabyte":
        data = topic_model.with_suffix("")
        np.savez(data.with_suffix(".npz"), **arrays)
        whole = topic_model.read_bytes()
        topic_model.write_bytes(whole.replace(b"'shape': (2, 3), }", b"'shape': (2, 3" + b"0" * 0 + b"), }"))
        header = b"'shape': (2, 3), }          "
        assert header in whole, "the header is as numpy pads it"
        topic_model.write_bytes(whole.replace(header, b"'shape': (2, 300000000000), }"[: len(header)]))
    else:
        change = {
            "an array more": {"more": np.zeros(3)},
            "pickled": {"terms": np.array([{"a": 1}, 2, 3], object)},
            "other shapes": {"terms": np.array(["a", "b"])},
            "no JSON": {"about": np.array("{")},
        }[kind]
        np.savez(topic_model, **{**arrays, **change})
    check_sentence(refused(models.load_topics, topic_model), topic_model, "is no topic model")


def test_answers_of_readers(tmp_path):
    answers = written(tmp_path, "answers.json", '{"q1": {"topic": 1, "intruder": "x"}, "q1": {}}')
    filled = written(tmp_path, "filled.csv", "reader,question,word\nr,q1,x\n")
    check_sentence(refused(pages.intrusion_scores, answers, [filled], 10, 0), answers, "occurs twice in one object")
    answers.write_text(json.dumps({"q2": {"topic": 1, "intruder": "x"}}))
    assert "was not asked" in refused(pages.intrusion_scores, answers, [filled], 10, 0)
