"""The labelling command: tables, folders and archives in, labels out, and what cannot be read listed."""

import io
import subprocess
import sys
import tarfile

import numpy as np
import pandas as pd
import pytest

from cxrlib import label, rules

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
        status = label.main([str(given), "--out", str(out), "--workers", "1", *map(str, options)])
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
    assert list(labels.index) == ["a", "b", "c"] and tuple(labels.columns) == rules.FINDINGS
    assert labels.loc["a", ["cardiomegaly", "pneumothorax", "no_finding"]].tolist() == [1, 0, 0]
    assert labels.loc["b", "pneumonia"] == -1 and np.isnan(labels.loc["b", "cardiomegaly"])
    assert labels.loc["c", "no_finding"] == 1


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
    assert (
        reasons["empty"] == "it has no text" and "not utf-8" in reasons["latin"] and "null bytes" in reasons["binary"]
    )
    assert "5 of 8 reports could not be read" in said


def test_one_file_and_archive(run, tmp_path):
    (tmp_path / "one.txt").write_text("Small effusion.")
    assert run(tmp_path / "one.txt")[1].loc["one", "effusion"] == 1
    with tarfile.open(tmp_path / "reports.tgz", "w:gz") as archive:
        for name, text in (("CXR1", "Small effusion."), ("CXR2", "")):
            data = XML.format(name, text).encode()
            member = tarfile.TarInfo(f"x/{name}.xml")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    status, labels, rejected, _ = run(tmp_path / "reports.tgz")
    assert status == 0 and list(labels.index) == ["CXR1"]
    assert rejected["report_id"].tolist() == ["CXR2"] and "no text under findings" in rejected["reason"][0]


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
    assert reasons["line 3"] == "it has no text" and reasons["line 4"] == "it has no id"
    assert reasons["line 5"] == "its id occurs before" and "encoding" in reasons["line 6"]
    assert reasons["line 7"] == "it has 3 fields, the header 2"
    assert "not CSV" in reasons["line 11"] and "not CSV" in reasons["line 13"]
    assert "7 of 10 reports could not be read" in said


def test_empty_cells_of_parquet(run, tmp_path):
    rows = pd.DataFrame({"id": ["a", None, "c"], "text": ["Edema.", "Edema.", None]})
    rows.to_parquet(tmp_path / "in.parquet")
    status, labels, rejected, _ = run(tmp_path / "in.parquet")
    assert status == 0 and list(labels.index) == ["a"]
    assert rejected["reason"].tolist() == ["it has no id", "it has no text"] and rejected["where"][0] == "row 2"


def test_an_old_list_of_rejected_is_removed(run, table, tmp_path):
    (tmp_path / "out.csv.rejected.csv").write_text("where,report_id,reason\n")
    table.to_csv(tmp_path / "in.csv", index=False)
    assert run(tmp_path / "in.csv")[2] is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"", "is empty"),
        ("in.csv", b"\n\n", "is empty"),
        ("in.csv", b"report_id,report\n", "nothing in"),
        (
            "in.csv",
            b"report_id,words\na,b\n",
            "has no column of reports; name it by --text-column. It has report_id, words",
        ),
        ("in.csv", b"words,report\na,b\n", "has no column of ids; name it by --id-column"),
        ("in.csv", "report_id,report\na,b\n".encode("utf-16"), "looks like UTF-16"),
        ("in.csv", "report_id,Größe\n".encode("latin-1"), "save it as CSV UTF-8"),
        ("in.parquet", b"PAR0", "is not a Parquet file"),
        ("in.tgz", b"no archive", "is not a whole .tgz archive"),
        ("in.xlsx", b"x", "is none of .csv, .parquet, .txt, .xml, .tgz"),
        ("in.txt", b" ", "nothing in"),
    ],
)
def test_inputs_that_cannot_be_read(run, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    status, labels, _, said = run(tmp_path / name)
    assert status == 1 and labels is None and message in said and "Traceback" not in said


def test_other_things_that_go_wrong(run, table, tmp_path):
    table.to_csv(tmp_path / "in.csv", index=False)
    assert "does not exist" in run(tmp_path / "none.csv")[3]
    (tmp_path / "folder").mkdir()
    assert "has no .txt or .xml file" in run(tmp_path / "folder")[3]
    assert "no column 'words'" in run(tmp_path / "in.csv", "--text-column", "words")[3]
    assert "no column 'key'" in run(tmp_path / "in.csv", "--id-column", "key")[3]
    assert "both id and text" in run(tmp_path / "in.csv", "--text-column", "report_id")[3]
    assert "is missing" in run(tmp_path / "in.csv", "--phrases", tmp_path)[3]
    table.assign(report=[1, 2, 3]).to_parquet(tmp_path / "in.parquet")
    assert "not text" in run(tmp_path / "in.parquet")[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers is at least 1"),
        (["--out", "labels.xlsx"], "must end in .csv or .parquet"),
        (["--out", "in.csv"], "must be different files"),
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

    monkeypatch.setitem(label.LABELERS, "constant", Constant)
    table.to_csv(tmp_path / "in.csv", index=False)
    labels = run(tmp_path / "in.csv", "--labeler", "constant")[1]
    assert labels["effusion"].tolist() == [-1] * 3 and labels["no_finding"].isna().all()
    assert "names no words" in run(tmp_path / "in.csv", "--labeler", "constant", "--evidence", tmp_path / "e.csv")[3]


def test_as_a_command(tmp_path, table):
    table.to_csv(tmp_path / "in.csv", index=False)
    command = [sys.executable, "-m", "cxrlib.label"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--evidence" in shown and "rejected.csv" in shown
    done = subprocess.run(
        [*command, tmp_path / "in.csv", "--out", tmp_path / "out.csv"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "3 reports labelled" in done.stdout
    check(pd.read_csv(tmp_path / "out.csv").set_index("report_id"))
