"""The labelling command: tables, folders and archives in, labels out, and what cannot be read listed."""

import io
import os
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import paths
from cxrlib.commands import label
from cxrlib.labelers import registry, rules
from cxrlib.releases import released_models
from cxrlib.reports import report_rows

TEXTS = {"a": "Cardiomegaly. No pneumothorax.", "b": "Possible pneumonia.", "c": "Clear lungs."}
XML = (
    '<eCitation><uId id="{0}"/><MedlineCitation><Article><Abstract><AbstractText Label="INDICATION">pneumonia'
    '</AbstractText><AbstractText Label="FINDINGS">{1}</AbstractText></Abstract></Article></MedlineCitation>'
    "</eCitation>"
)


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command on an input; return exit status, labels (None if not written), rejected and what was said."""

    def run(given, *options, out="out.csv"):
        out = tmp_path / out
        status = label.main([str(given), "--out", str(out), "--workers", "1", "--force", *map(str, options)])
        labels = None
        if out.exists():
            labels = pd.read_csv(out, dtype={"report_id": str}) if out.suffix == ".csv" else pd.read_parquet(out)
            labels = labels.set_index("report_id")
        listed = out.with_name(out.name + ".rejected.csv")
        rejected = pd.read_csv(listed, dtype=str) if listed.exists() else None
        assert not list(tmp_path.glob(".*.partial"))
        return status, labels, rejected, capsys.readouterr().err

    return run


@pytest.fixture
def table():
    return pd.DataFrame({"report_id": list(TEXTS), "report": list(TEXTS.values())})


def check(labels):
    assert list(labels.index) == ["a", "b", "c"] and tuple(labels.columns) == rules.LABELED_FINDINGS
    assert labels.loc["a", ["cardiomegaly", "pneumothorax", "no_finding"]].tolist() == [1, 0, 0]
    assert labels.loc["b", "pneumonia"] == -1 and np.isnan(labels.loc["b", "cardiomegaly"])
    assert labels.loc["c", "no_finding"] == 1


def test_a_process_that_is_killed_is_one_sentence(run, table, tmp_path, monkeypatch):
    monkeypatch.setattr(report_rows, "BATCH_N", 2)
    table.to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / "out.csv").write_text("report_id\nz\n")
    monkeypatch.setattr(rules, "_read_here", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    status, labels, _, said = run(tmp_path / "in.csv", "--workers", "2")
    assert status == 1 and said.count("\n") == 1 and "was killed" in said and "such as --workers 1" in said
    assert list(labels.index) == ["z"], "what was there is there"


def test_csv_to_csv(run, table, tmp_path):
    table.to_csv(tmp_path / "in.csv", index=False)
    status, labels, rejected, said = run(tmp_path / "in.csv")
    assert status == 0 and rejected is None and "could not" not in said
    check(labels)


def test_parquet_to_parquet(run, table, tmp_path):
    table.to_parquet(tmp_path / "in.parquet")
    status, labels, rejected, _ = run(tmp_path / "in.parquet", out="out.parquet")
    assert status == 0 and rejected is None
    check(labels.astype("float64"))


def test_ids_that_are_numbers(run, table, tmp_path):
    table.assign(report_id=[7, 8, 9]).to_parquet(tmp_path / "in.parquet")
    assert list(run(tmp_path / "in.parquet")[1].index) == ["7", "8", "9"]


def test_folder_of_text_and_xml(run, tmp_path):
    folder = tmp_path / "reports"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.txt").write_text(TEXTS["a"])
    (folder / "deeper" / "b.txt").write_text(TEXTS["b"])
    (folder / "z.xml").write_text(XML.format("CXR7", "Small effusion."))
    (folder / "notes.pdf").write_bytes(b"%PDF")
    (folder / "README").write_text("Reports.")
    (folder / "broken.xml").write_text("<a>")
    (folder / "other.xml").write_text("<a/>")
    (folder / "empty.txt").write_text(" \n")
    (folder / "latin.txt").write_bytes("Erguß".encode("latin-1"))
    (folder / "binary.txt").write_bytes(b"a\0b")
    status, labels, rejected, said = run(folder)
    assert status == 0 and list(labels.index) == ["a", "deeper/b", "CXR7"]
    assert labels.loc["CXR7", "effusion"] == 1 and np.isnan(labels.loc["CXR7", "pneumonia"])
    reasons = rejected.set_index("report_id")["reason"].to_dict()
    assert "is not XML" in reasons["broken"] and "no uId" in reasons["other"]
    assert "it has no text: " in reasons["empty"]
    assert "not utf-8" in reasons["latin"] and "null bytes" in reasons["binary"]
    assert all(":" in reason for reason in rejected["reason"])  # each with its remedy
    assert "5 of 8 reports could not be read" in said and "are: 1 .pdf, 1 without ending;" in said
    assert "1 .pdf, 1 without ending" in rejected.set_index("where")["reason"][str(folder)]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.csv").write_text("x")
    assert "has no .txt or .xml file, only 1 .csv: name" in run(tmp_path / "none")[3]


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def test_one_file_and_archive(run, tmp_path):
    (tmp_path / "one.txt").write_text("Small effusion.")
    assert run(tmp_path / "one.txt")[1].loc["one", "effusion"] == 1
    with tarfile.open(tmp_path / "reports.tgz", "w:gz") as archive:
        for name, text in (("CXR1", "Small effusion."), ("CXR2", "")):
            data = XML.format(name, text).encode()
            add(archive, f"x/{name}.xml", data)
        add(archive, "x/c.txt", b"Edema.")
        add(archive, "x/notes.pdf", b"%PDF")
    status, labels, rejected, said = run(tmp_path / "reports.tgz")
    assert status == 0 and list(labels.index) == ["CXR1", "x/c"]
    assert rejected["report_id"][0] == "CXR2" and "no text under findings" in rejected["reason"][0]
    assert "1 .pdf" in rejected["reason"][1] and "1 .pdf" in said and "1 of 3 reports could not" in said
    data = (tmp_path / "reports.tgz").read_bytes()
    (tmp_path / "cut.tgz").write_bytes(data[: len(data) // 2])
    assert "cut.tgz is damaged or cut off" in run(tmp_path / "cut.tgz", out="cut.csv")[3]
    with tarfile.open(tmp_path / "holed.tgz", "w:gz") as archive:
        add(archive, "a.txt", b"Edema.")
        archive.fileobj.write(b"no header".ljust(512))
        add(archive, "b.txt", b"Edema.")
    assert "its list of files breaks off" in run(tmp_path / "holed.tgz", out="holed.csv")[3]


def test_evidence(run, table, tmp_path):
    table.to_csv(tmp_path / "in.csv", index=False)
    run(tmp_path / "in.csv", "--evidence", tmp_path / "spans.csv")
    spans = pd.read_csv(tmp_path / "spans.csv")
    row = spans[spans["finding"] == "pneumothorax"].iloc[0]
    assert row["report_id"] == "a" and row["assertion"] == "absent" and row["rule"] == "negation before"
    text = TEXTS["a"]
    assert text[row["start"] : row["end"]] == "pneumothorax" and text[row["rule_start"] : row["rule_end"]] == "No"
    run(tmp_path / "in.csv", "--evidence", tmp_path / "spans.parquet")
    assert len(pd.read_parquet(tmp_path / "spans.parquet")) == len(spans)


def test_policy_nih(run, table, tmp_path):
    table.to_csv(tmp_path / "in.csv", index=False)
    labels = run(tmp_path / "in.csv", "--policy", "nih")[1]
    assert labels.loc["b", "pneumonia"] == 0 and labels.loc["b", "no_finding"] == 1 and labels.notna().all(axis=None)


def test_columns_by_name_and_several_of_text(run, tmp_path):
    rows = {"key": ["1"], "indication": ["pneumonia"], "Findings": ["Effusion."], "Impression": ["Cardiomegaly."]}
    pd.DataFrame(rows).to_csv(tmp_path / "in.csv", index=False)
    labels = run(tmp_path / "in.csv", "--id-column", "key")[1]
    assert labels.loc["1", ["effusion", "cardiomegaly"]].tolist() == [1, 1] and np.isnan(labels.loc["1", "pneumonia"])
    labels = run(tmp_path / "in.csv", "--id-column", "key", "--text-column", "Impression")[1]
    assert np.isnan(labels.loc["1", "effusion"])


def test_rows_that_cannot_be_read_are_listed_and_the_rest_labelled(run, tmp_path):
    lines = [
        b"report_id,report",
        b"a,Cardiomegaly.",
        b"b,",
        b",Effusion.",
        b"a,Edema.",
        "c,Erguß.".encode("latin-1"),
        b"d,one,two",
        b"",
        b'e,"Effusion,\nsmall."',
        b'f,"Edema" extra',
        b"g,Edema.",
        b'h,"never closed',
    ]
    (tmp_path / "in.csv").write_bytes(b"\n".join(lines))
    status, labels, rejected, said = run(tmp_path / "in.csv")
    assert status == 0 and list(labels.index) == ["a", "e", "g"]
    assert labels.loc["e", "effusion"] == 1 and labels.loc["a", "cardiomegaly"] == 1
    reasons = rejected.set_index("where")["reason"].to_dict()
    assert "it has no text: " in reasons["line 3"] and "it has no id" in reasons["line 4"]
    assert "its id occurs before: " in reasons["line 5"] and "encoding" in reasons["line 6"]
    assert "it has 3 fields, the header 2: " in reasons["line 7"]
    assert "a quote inside a cell twice" in reasons["line 11"] and "opens in line 13" in reasons["line 13"]
    assert "7 of 10 reports could not be read" in said


def test_empty_cells_of_parquet(run, tmp_path):
    rows = pd.DataFrame({"id": ["a", None, "c"], "text": ["Edema.", "Edema.", None]})
    rows.to_parquet(tmp_path / "in.parquet")
    status, labels, rejected, _ = run(tmp_path / "in.parquet")
    assert status == 0 and list(labels.index) == ["a"]
    assert rejected["where"].tolist() == ["row 2", "row 3"]
    assert rejected["reason"].str.contains("it has no id|it has no text").all()


@pytest.mark.parametrize(
    "cell", ["NaN", "nan", "NA", "n/a", "None", "null", "<NA>", "#N/A", "123", "1e+05", "___", "?"]
)
def test_cells_without_words_are_no_normal_chests(run, tmp_path, cell):
    pd.DataFrame({"id": ["a", "b"], "text": [cell, "Edema."]}).to_csv(tmp_path / "in.csv", index=False)
    status, labels, rejected, _ = run(tmp_path / "in.csv")
    assert status == 0 and list(labels.index) == ["b"]
    assert rejected["report_id"].tolist() == ["a"] and f"no words, only {cell!r}" in rejected["reason"][0]
    two = {"id": ["a", "b"], "findings": [cell, "Edema."], "impression": [cell, cell]}
    pd.DataFrame(two).to_parquet(tmp_path / "in.parquet")
    assert list(run(tmp_path / "in.parquet")[1].index) == ["b"]


def test_short_reports_keep_their_words(run, tmp_path):
    pd.DataFrame({"id": list("ab"), "text": ["Negative.", "COPD"]}).to_csv(tmp_path / "in.csv", index=False)
    assert list(run(tmp_path / "in.csv")[1].index) == ["a", "b"]


def test_a_quote_that_swallows_lines_is_found(run, tmp_path):
    lines = ["id,text", 'a,"Edema.', 'small."', 'b,"never closed', *(f"{k},Edema." for k in range(7))]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    status, labels, rejected, said = run(tmp_path / "in.csv")
    assert status == 0 and list(labels.index) == ["a"] and rejected["where"].tolist() == ["line 4"]
    assert "opens in line 4 is not closed and swallowed 7 more lines, to line 11: close it" in rejected["reason"][0]
    assert "quotes that are not closed, the first in line 4, swallowed 7 lines" in said
    (tmp_path / "in.csv").write_text("\n".join([*lines, 'x,"Effusion."', "y,Edema."]) + "\n")
    status, labels, rejected, said = run(tmp_path / "in.csv")
    assert list(labels.index) == ["a", "y"] and "swallowed 8 more lines, to line 12" in rejected["reason"][0]


def test_null_bytes_in_cells(run, tmp_path):
    (tmp_path / "in.csv").write_bytes(b"id,text\na,Ede\0ma.\nb\0,Edema.\nc,Edema.\n")
    _, labels, rejected, _ = run(tmp_path / "in.csv")
    assert list(labels.index) == ["c"] and "null bytes" in rejected["reason"][0] and "no id" in rejected["reason"][1]


def test_several_columns_that_could_be_the_text(run, tmp_path):
    rows = {"id": ["a"], "impression": ["Effusion."], "report_text": ["Edema."], "report": ["Cardiomegaly."]}
    pd.DataFrame(rows).to_csv(tmp_path / "in.csv", index=False)
    _, labels, _, said = run(tmp_path / "in.csv")
    assert labels.loc["a", "cardiomegaly"] == 1
    assert "read from the column 'report', not from 'report_text', 'impression'; choose by --text-column" in said
    assert "choose by" not in run(tmp_path / "in.csv", "--text-column", "report_text")[3]


def test_other_separators_and_gzip(run, table, tmp_path):
    for name, separator, options in (
        ("in.csv", ";", ["--separator", ";"]),
        ("in.csv", "\t", ["--separator", "tab"]),
        ("in.tsv", "\t", []),
        ("in.csv.gz", ",", []),
        ("in.tsv.gz", "\t", []),
    ):
        table.to_csv(tmp_path / name, sep=separator, index=False)
        check(run(tmp_path / name, *options)[1])


def test_parquet_with_categories_and_float_ids(run, table, tmp_path):
    table["report"] = table["report"].astype("category")
    table.assign(report_id=[1.0, 2.5, None]).to_parquet(tmp_path / "in.parquet")
    _, labels, rejected, _ = run(tmp_path / "in.parquet")
    assert list(labels.index) == ["1", "2.5"] and "no id" in rejected["reason"][0]
    table[:0].to_parquet(tmp_path / "in.parquet")
    assert "has columns but no rows" in run(tmp_path / "in.parquet")[3]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_utf_16_is_noticed(run, tmp_path, encoding):
    for codec in ("utf-16", "utf-16-le"):
        (tmp_path / "in.csv").write_bytes("report_id,report\na,b\n".encode(codec))
        assert (
            "looks like UTF-16: save it as CSV UTF-8 or say --encoding utf-16"
            in run(tmp_path / "in.csv", "--encoding", encoding)[3]
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "folder.csv"], "folder.csv is a folder: name a file, such as folder.csv/labels.csv"),
        (["--out", "blocked.csv"], "blocked.csv.rejected.csv is a folder"),
        (["--evidence", "folder.csv"], "folder.csv is a folder"),
        (["--evidence", "in.csv/e.csv"], "in.csv is no folder"),
        (
            ["--out", "/proc/x.csv"],
            "/proc/x.csv cannot be written (No such file or directory): name a file elsewhere",
        ),
        (["--out", "x" * 300 + ".csv"], "cannot be written (File name too long)"),
    ],
)
def test_places_that_cannot_be_written_are_named_before_anything_is_done(
    table, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(label, "label", None)
    table.to_csv("in.csv", index=False)
    for folder in ("folder.csv", "blocked.csv.rejected.csv"):
        (tmp_path / folder).mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert label.main(["in.csv", "--out", "out.csv", *options]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and "partial" not in said and "Errno" not in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("out", "where"),
    [
        ("out.csv", "csv.writer"),
        ("out.parquet", "pq.ParquetWriter.write_batch"),
        ("out.csv", "os.replace"),
    ],
)
def test_nothing_partial_is_left_after_an_error(table, tmp_path, monkeypatch, capsys, out, where):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    table.to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / out).write_bytes(b"older")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(f"cxrlib.commands.label.{where}", full)
    status = label.main([str(tmp_path / "in.csv"), "--out", str(tmp_path / out), "--workers", "1", "--force"])
    said = capsys.readouterr().err
    assert status == 1 and sorted(tmp_path.iterdir()) == before and (tmp_path / out).read_bytes() == b"older"
    assert f"{out} cannot be written (No space left on device): name" in said or where == "csv.writer"


def test_files_that_exist_are_kept_unless_forced(table, tmp_path, capsys):
    table.to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / "old.csv").write_text("older")
    for options in (["--out", "old.csv"], ["--out", "new.csv", "--evidence", "old.csv"]):
        words = [str(tmp_path / word) if word.endswith(".csv") else word for word in options]
        before = sorted(tmp_path.iterdir())
        assert label.main([str(tmp_path / "in.csv"), *words]) == 1
        said = capsys.readouterr().err
        assert (
            said
            == f"cxr label: {tmp_path}/old.csv exists already: name another file, or say --force to replace it.\n"
        )
        assert sorted(tmp_path.iterdir()) == before and (tmp_path / "old.csv").read_text() == "older"
    assert label.main([str(tmp_path / "in.csv"), "--out", str(tmp_path / "old.csv"), "--force"]) == 0
    check(pd.read_csv(tmp_path / "old.csv").set_index("report_id"))


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, capsys):
    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(label.os, "listdir", locked)
    assert label.main([str(tmp_path), "--out", str(tmp_path / "out.csv")]) == 1
    said = capsys.readouterr().err
    assert said == f"cxr label: {tmp_path} could not be read (Permission denied): check its permissions.\n"


def test_an_error_stands_on_a_line_of_its_own_below_no_bar(table, tmp_path, monkeypatch, capsys):
    """Where a person looks, the bar is gone before a sentence; elsewhere there is none."""
    table.to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / "bad.csv").write_text("report_id,report\n")
    command = [str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out.csv")]
    assert label.main(command) == 1
    assert capsys.readouterr().err.startswith("cxr label: ")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert label.main(command) == 1
    last = capsys.readouterr().err.rstrip("\n").rsplit("\r", 1)[-1]
    assert last.startswith("cxr label: ")


def test_an_old_list_of_rejected_is_removed(run, table, tmp_path):
    (tmp_path / "out.csv.rejected.csv").write_text("where,report_id,reason\n")
    table.to_csv(tmp_path / "in.csv", index=False)
    assert run(tmp_path / "in.csv")[2] is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"", "is empty"),
        ("in.csv", b"\n\n", "is empty"),
        ("in.csv", b"report_id,report\n", "has a header but no rows"),
        ("in.csv", b"report_id;report\na;b\n", "separated by ';', not by comma: say --separator ';'"),
        ("in.csv", b"report_id\treport\na\tb\n", "say --separator tab"),
        ("in.csv", b"report_id,report,report\na,b,c\n", "several columns named 'report': rename"),
        ("in.csv", b"PAR1\x15\x04\x15", "is not CSV but a Parquet file: let its name end in .parquet"),
        ("in.csv", b"\x1f\x8b\x08\x00", "is not CSV but compressed by gzip: let its name end in .csv.gz"),
        ("in.csv", b"report_id\x01,report\na,b\n", "control characters"),
        ("in.csv.gz", b"\x1f\x8b\x08\x00abc", "is damaged or cut off"),
        (
            "in.csv",
            b"report_id,words\na,b\n",
            "has no column of reports; name it by --text-column. It has report_id, words",
        ),
        ("in.csv", b"words,report\na,b\n", "has no column of ids; name it by --id-column"),
        ("in.csv", "report_id,report\na,b\n".encode("utf-16"), "looks like UTF-16"),
        ("in.csv", "report_id,Größe\n".encode("latin-1"), "save it as CSV UTF-8"),
        ("in.parquet", b"PAR0", "is not a Parquet file"),
        ("in.tgz", b"no archive", "is damaged or cut off (truncated header): copy or pack it"),
        ("in.xlsx", b"x", "is none of .csv"),
        ("in.txt", b" ", "nothing in"),
    ],
)
def test_inputs_that_cannot_be_read(run, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    status, labels, _, said = run(tmp_path / name)
    assert status == 1 and labels is None and message in said and "Traceback" not in said
    sentences = [line for line in said.splitlines() if line.startswith("cxr label: ")]
    assert len(sentences) == len(said.splitlines()) <= 2 and "\0" not in said


def test_other_things_that_go_wrong(run, table, tmp_path):
    table.to_csv(tmp_path / "in.csv", index=False)
    assert "does not exist" in run(tmp_path / "none.csv")[3]
    (tmp_path / "folder").mkdir()
    assert "has no .txt or .xml file" in run(tmp_path / "folder")[3]
    assert "no column 'words'" in run(tmp_path / "in.csv", "--text-column", "words")[3]
    assert "no column 'key'" in run(tmp_path / "in.csv", "--id-column", "key")[3]
    assert "both id and text" in run(tmp_path / "in.csv", "--text-column", "report_id")[3]
    assert "is missing" in run(tmp_path / "in.csv", "--phrases", tmp_path)[3]
    assert "in.csv is no folder of phrases" in run(tmp_path / "in.csv", "--phrases", tmp_path / "in.csv")[3]
    table.assign(report=[1, 2, 3]).to_parquet(tmp_path / "in.parquet")
    assert "not text" in run(tmp_path / "in.parquet")[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers is at least 1"),
        (["--out", "labels.xlsx"], "must end in .csv or .parquet"),
        (["--out", "in.csv"], "must be different files"),
        (["--evidence", "out.csv.rejected.csv"], "must be different files"),
        (["--separator", "ab"], "is not one character"),
        (["--encoding", "klingon"], "no encoding 'klingon'"),
        (["--labeler", "oracle"], "invalid choice"),
    ],
)
def test_wrong_options(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("report_id,report\na,b\n")
    with pytest.raises(SystemExit) as stopped:
        label.main(["in.csv", "--out", "out.csv", *options])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_another_encoding(run, tmp_path):
    (tmp_path / "in.csv").write_bytes("report_id,report\na,Effusion (Erguß).\n".encode("latin-1"))
    assert run(tmp_path / "in.csv", "--encoding", "latin-1")[1].loc["a", "effusion"] == 1
    (tmp_path / "in.csv").write_bytes("report_id,report\na,Effusion.\n".encode("utf-16"))
    assert run(tmp_path / "in.csv", "--encoding", "utf-16")[1].loc["a", "effusion"] == 1


def test_a_labeler_of_ones_own(run, table, tmp_path, monkeypatch):
    class Constant:
        name = "constant"
        findings = ("effusion", "no_finding")

        def __init__(self, folder=None):
            pass

        def read_many(self, texts):
            return pd.DataFrame({"effusion": np.float32([-1] * len(texts)), "no_finding": np.float32(np.nan)})

    monkeypatch.setitem(registry.LABELERS, "constant", Constant)
    table.to_csv(tmp_path / "in.csv", index=False)
    labels = run(tmp_path / "in.csv", "--labeler", "constant")[1]
    assert labels["effusion"].tolist() == [-1] * 3 and labels["no_finding"].isna().all()
    assert "names no words" in run(tmp_path / "in.csv", "--labeler", "constant", "--evidence", tmp_path / "e.csv")[3]


@pytest.mark.parametrize(
    ("labeler", "message"),
    [
        ("bert", "labeler.json): name the folder of one by --weights, or train it by `make repro` in a clone"),
        ("visual", "labeler.json): name the folder of one by --weights"),
        ("chexbert", "chexbert/chexbert.pth: CheXbert's authors give it out"),
    ],
)
def test_a_labeler_that_is_not_there(run, table, tmp_path, monkeypatch, labeler, message):
    monkeypatch.setattr(paths, "labeler_dir", lambda name: tmp_path / "labelers" / name)
    monkeypatch.setattr(released_models, "models_dir", lambda: tmp_path / "models")  # nor a released one
    table.to_csv(tmp_path / "in.csv", index=False)
    status, _, _, said = run(tmp_path / "in.csv", "--labeler", labeler)
    assert status == 1 and message in said and said.count("\n") == 1


def test_a_table_is_no_checkpoint(run, table, tmp_path):
    table.to_csv(tmp_path / "in.csv", index=False)
    said = run(tmp_path / "in.csv", "--labeler", "chexbert", "--weights", tmp_path / "in.csv")[3]
    assert "is not a file of weights" in said and "name chexbert.pth" in said and "index" not in said


def test_as_a_command(tmp_path, table):
    table.to_csv(tmp_path / "in.csv", index=False)
    command = [sys.executable, "-m", "cxrlib", "label"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--evidence" in shown and "rejected.csv" in shown and "labelers/chexbert/chexbert.pth" in shown
    done = subprocess.run(
        [*command, tmp_path / "in.csv", "--out", tmp_path / "out.csv"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "3 reports labelled" in done.stdout
    check(pd.read_csv(tmp_path / "out.csv").set_index("report_id"))
