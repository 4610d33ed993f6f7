"""`cxr read`: what it says of an image, that it is research, and what it says where networks are not there."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxrlib.base import paths
from cxrlib.commands import cxr, read
from cxrlib.networks import image_reading, joint, mined_pairs, presence, short_training, topic_networks, word_networks

SETTINGS = short_training.ShortSettings("test_byobnet")
FINDINGS = ["effusion", "cardiomegaly"]
KEY_WORDS = ["effusion left small", "cardiomegaly heart enlarged"]


def call(words):
    """Run `cxr` in this process; return its exit status and what it ended with."""
    try:
        return cxr.main([str(word) for word in words]) or 0, ""
    except SystemExit as stopped:
        return (stopped.code or 0, "") if isinstance(stopped.code, int | None) else (1, f"{stopped.code}\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Networks that nobody trained, as notebook 17 writes them, and the archive's reports."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "params.yaml").write_text("edition: tiny\n")
    made = {n: short_training.new_network(SETTINGS, k, n) for n, k in ((1, 2), (2, 8), (3, 2), (4, 4))}
    topics = topic_networks.TopicNetwork(made[1], np.array([3, 8]), np.array([0.5, 0.5]), [])
    bounds = np.zeros(8, np.float32), np.ones(8, np.float32)
    matrix = np.eye(2, 4, dtype=np.float32)
    words = word_networks.WordNetwork(made[2], *bounds, ("cardiomegaly", "effusion"), matrix, [])
    vectors = np.eye(3, 4, dtype=np.float32)
    reports = pd.DataFrame({"report_id": ["r0", "r1", "r2"], "image_id": ["i0", "i1", "i2"], "group": [0, 0, 1]})
    reports[[f"v{k}" for k in range(4)]] = vectors
    about = {
        "edition": "tiny",
        "cohort": "c",
        "images": "simulated images",
        "store_px": 64,
        "size_px": 32,
        "findings": FINDINGS,
    }
    about |= {"scaling": [[0.0, 1.0]] * 2, "thresholds": [0.0, 1.0], "calibrated_by": "radiologist"}
    where = image_reading.reader_dir("tiny")
    image_reading.save_reader(
        where,
        settings=SETTINGS,
        topics=topics,
        key_words=KEY_WORDS,
        words=words,
        findings=made[3],
        embedding=joint.JointEmbedding(made[4], 5, 4, 1),
        reports=reports,
        about=about,
    )
    pairs = mined_pairs.pairs_path("tiny", "c")
    pairs.parent.mkdir(parents=True)
    texts = ["Left effusion.", "left EFFUSION", "The heart is enlarged."]
    pd.DataFrame({"report_id": ["r0", "r1", "r2"], "text": texts}).to_parquet(pairs)
    pixels = np.random.default_rng(1).integers(0, 255, (90, 70)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "chest.png")
    return tmp_path


def test_a_reading_says_everything_and_that_it_is_research(folder, capsys):
    assert call(["read", folder / "chest.png"]) == (0, "")
    said = capsys.readouterr().out
    assert said.count("RESEARCH ONLY, NOT FOR DIAGNOSIS") == 2 and said.startswith("RESEARCH ONLY")
    assert any(f"Topic {k}" in said for k in (3, 8)) and all(words in said for words in KEY_WORDS)
    lines = [line.split() for line in said.splitlines() if line.strip().startswith(tuple(FINDINGS))]
    called = {line[0]: line[2] for line in lines if len(line) > 2}
    assert called == {"effusion": "present", "cardiomegaly": "absent"}  # thresholds of 0 and 1
    assert "calibrated by radiologist" in said
    assert "learned from simulated images (edition tiny)\nThey say nothing about a real radiograph." in said
    shown = [text for text in ("Left effusion.", "left EFFUSION", "The heart is enlarged.") if text in said]
    assert len(shown) == 2  # two reports say the same: one of them stands for both


def test_the_true_report_stands_beside(folder, capsys):
    (folder / "report.txt").write_text("No effusion. Possible cardiomegaly.")
    assert call(["read", folder / "chest.png", "--report", folder / "report.txt", "--nearest", 0]) == (0, "")
    said = capsys.readouterr().out
    assert "No effusion. Possible cardiomegaly." in said and "Left effusion." not in said
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip().startswith(tuple(FINDINGS))}
    assert lines["effusion"].endswith("absent") and lines["cardiomegaly"].endswith("uncertain")


def test_reports_that_are_not_on_this_disk_are_not_made_up(folder, capsys):
    mined_pairs.pairs_path("tiny", "c").unlink()
    assert call(["read", folder / "chest.png"]) == (0, "")
    said = capsys.readouterr().out
    assert said.count("its text is not on this disk") == 2 and "Left effusion." not in said


def test_maps_of_what_is_present(folder, capsys):
    assert call(["read", folder / "chest.png", "--out", folder / "maps"]) == (0, "")
    table = pd.read_csv(folder / "maps" / "explained.csv")
    assert table["finding"].tolist() == ["effusion"] and (folder / "maps" / table["overlay"][0]).exists()
    inside = table.dropna(subset="peak_x_px")
    assert (inside["peak_x_px"].between(-20, 90)).all()  # of the source image, 70 pixels wide
    status, said = call(["read", folder / "chest.png", "--out", folder / "maps"])
    assert status == 1 and "already has an explained.csv" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.png"], "missing.png cannot be read: it cannot be opened"),
        (["chest.png", "--report", "missing.txt"], "missing.txt cannot be read"),
        (["chest.png", "--edition", "elsewhere"], "has no reading.json and no topics.safetensors"),
        (["chest.png", "--nearest", "-1"], "--nearest is below 0"),
    ],
)
def test_what_is_wrong_is_one_sentence(folder, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    status, ended = call(["read", *words])
    assert status == 1 and said in ended and ended.count("\n") == 1


@pytest.mark.parametrize("harm", ["cut", "other", "unreadable"])
def test_damaged_networks_are_one_sentence(folder, harm):
    where = image_reading.reader_dir("tiny")
    file = where / "topics.safetensors"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif harm == "other":
        entry = json.loads((where / "reading.json").read_text())
        entry["outputs"]["topics"] = 7
        (where / "reading.json").write_text(json.dumps(entry))
    else:
        (where / "reading.json").write_text("{")
    status, ended = call(["read", folder / "chest.png"])
    assert status == 1 and "does not hold the networks of notebook 17" in ended and ended.count("\n") == 1


def test_what_is_opened_is_what_was_saved(folder):
    reader = image_reading.open_reader(image_reading.reader_dir("tiny"))
    square = np.random.default_rng(2).integers(0, 255, (64, 64)).astype(np.uint8)
    small = short_training.shrunk(square[None], 32)
    assert (reader.fitted(square) == small).all()
    expected = presence.finding_probabilities(short_training.new_network(SETTINGS, 2, 3), small, np.arange(1))[0]
    found = reader.read(square)
    assert found.findings["probability"].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert found.words["word"].tolist() and set(found.words["word"]) <= {"cardiomegaly", "effusion"}
    assert found.nearest["similarity"].is_monotonic_decreasing and len(found.nearest) == 2
    assert dataclasses.replace(reader, words=None).read(square).words.empty


def test_the_warning_names_research_and_care():
    assert "NOT FOR DIAGNOSIS" in read.RESEARCH_ONLY and "anyone's care" in read.RESEARCH_ONLY
