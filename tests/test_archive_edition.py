"""Edition archive, from a hospital's export to the tables of study 4, and releases that pair images and reports."""

import nbformat
import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml

from cxrlib.base import editions, label_tables, paths
from cxrlib.cohorts import packing, sources, splits, store
from cxrlib.reports import simulated_archive

CHECKOUT = paths.ROOT
TINY = {
    "topics": dict(topics_n=4, second_topics_n=2, sentence_topics_n=4, commonest_n=0, iterations=20, least_images=2),
    "training": dict(architecture="test_byobnet", epochs=1, batch_size=16, least_images=0, pretrained="none"),
    "image_to_text": dict(size_px=32, seeds=[1, 2], least_frac=0.01, least_patients=2),
}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A simulated cohort of 240 images, written as a hospital exports it, its key, and the reports as they were."""
    root = tmp_path_factory.mktemp("archive")
    patched = pytest.MonkeyPatch()
    patched.setattr(paths, "ROOT", root / "simulated")
    source = sources.open_source(
        {"source": "simulated", "hospital": "internal", "images_n": 240, "seed": 1, "size_px": 32}
    )
    packing.pack(source, paths.cohort_dir("made"), paths.partial_dir("made"), size_px=32, workers=1)
    made = store.open_store("made")
    names = ["pneumothorax", "effusion", "cardiomegaly", "edema"]
    said = pd.DataFrame(np.random.default_rng(1).random((240, 4)) < 0.4, columns=names)  # enough patients of each
    texts = [
        "FINDINGS: " + " ".join(f"There is {'' if there else 'no '}{what}." for what, there in row.items())
        for _, row in said.iterrows()
    ]
    key = simulated_archive.write_simulated_archive(made, texts, root / "data" / "archive", 3)
    patched.setattr(paths, "ROOT", root / "checkout")
    patched.setenv("CXR_DATA", str(root / "data"))
    yield root, key, texts
    patched.undo()


def executed(name, given):
    """Run a notebook's code cells here, with its parameters; return what they leave."""
    space = {"display": print}
    for cell in nbformat.read(CHECKOUT / "notebooks" / f"{name}.ipynb", 4).cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
            if "parameters" in cell.metadata.get("tags", ()):
                assert set(given) <= set(space)
                space.update(given)
    return space


def test_an_export_becomes_tables_without_any_label(export, capsys):
    _, key, texts = export
    settings = editions.compose("archive", CHECKOUT)
    settings["splits"]["main"]["fractions"] = {"train": 0.4, "valid": 0.1, "test": 0.5}  # ten patients of a finding
    mining = settings["mining"]
    mining["archive"]["workers"] = 1
    mining["image_to_text"] |= TINY["image_to_text"]
    mining["image_to_text"]["training"] |= TINY["training"]
    mining["image_to_text"]["joint"] = {"text_encoder": "tfidf", "embedding_n": 4, "epochs": 1}
    mining["image_to_text"]["words"] = {"epochs": 1, "least_reports": 1}
    mining["image_to_text"]["rounds"] |= {"rounds_n": 1, "text_size": 4, "seeds_n": 2}
    paths.ROOT.mkdir()
    (paths.ROOT / "params.yaml").write_text(yaml.safe_dump(settings))

    source = sources.open_source({**settings["cohorts"]["archive"], "size_px": 32})
    assert set(source.table["image_id"]) == set(key.images["sop_uid"]) and not source.rejected
    packing.pack(source, paths.cohort_dir("archive"), paths.partial_dir("archive"), size_px=32, workers=1)
    index = store.open_store("archive").index
    expected = key.images.set_index("sop_uid")["patient_id"]
    assert (index.set_index("image_id")["patient_id"] == expected[index["image_id"]].astype("string")).all()

    common = {"edition": "archive", "cohort": "archive", "images": "a simulated export"}
    executed("15_archive", {**common, "resamples_n": 50})
    pairs = pd.read_parquet(paths.ROOT / "data" / "reports" / "archive" / "archive.parquet")
    exam = key.images.set_index("sop_uid")["exam"][pairs["image_id"]]
    right = [texts[k].removeprefix("FINDINGS: ") in text for k, text in zip(exam, pairs["text"], strict=True)]
    assert len(pairs) > 150 and np.mean(right) > 0.95

    noise = paths.label_noise_path()  # which another stage makes, and which this cohort has no use for
    noise.parent.mkdir(exist_ok=True)
    noise.touch()
    executed("03_label_sets", {"cohort": "archive", "reference": "reports", "resamples_n": 50})
    assert set(label_tables.load("archive", "reports").index) == set(pairs["image_id"])
    split = splits.make(index, settings["splits"]["main"])
    paths.split_path("archive").parent.mkdir(parents=True)
    split.to_parquet(paths.split_path("archive"))

    executed("16_topics", {**common, **TINY["topics"], "corpus": "pairs", "least_patients": 2, "seeds": [1]})
    executed("17_image_to_text", common)
    executed("24_mining", {"edition": "archive", "images": "a simulated export", "resamples_n": 50})
    written = {path.name: path for path in (paths.ROOT / "results" / "archive" / "mining").glob("*.csv")}
    assert {"topics.csv", "words.csv", "retrieval.csv", "presence.csv", "rounds.csv", "control.csv"} <= set(written)
    assert "trade.csv" not in written, "nobody labelled an image"
    assert set(pd.read_csv(written["presence.csv"])["scored_against"]) == {"reports"}

    sentences = {s.strip() for text in pairs["text"] for s in text.split(".") if len(s.split()) > 2}
    for path in (paths.ROOT / "results").rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".json", ".html"):
            text = path.read_text()
            assert not [s for s in sentences if s in text], f"{path.name} holds a sentence of a report"
            assert not [i for i in pairs["patient_id"].unique() if f",{i}," in text], f"{path.name} names a patient"
    shown = capsys.readouterr().out
    assert "images have no report with text" in shown
    for secret in (*sentences, *index["image_id"], *pairs["report_id"]):
        assert secret not in shown, "a page that git tracks shows it"


def test_what_of_an_export_is_no_image_is_said(export, tmp_path):
    root, key, _ = export
    folder = tmp_path / "export"
    folder.mkdir()
    files = [root / "data" / "archive" / name for name in key.images["file"].iloc[:4]]
    whole = files[0].read_bytes()
    (folder / "1.2.840.77").write_bytes(whole)  # named by its UID, without an ending that is one
    (folder / "twice.dcm").write_bytes(whole)
    (folder / "cut.dcm").write_bytes(files[1].read_bytes()[:200])
    (folder / "report.txt").write_text("No pneumothorax.")
    for k, (keyword, value) in enumerate([("PatientID", ""), ("SOPInstanceUID", "")]):
        dataset = pydicom.dcmread(files[2 + k])
        setattr(dataset, keyword, value)
        dataset.save_as(folder / f"without{k}.dcm")
    source = sources.open_source({"source": "archive", "folder": str(folder), "size_px": 32})
    assert len(source.table) == 1 and source.read(0).square.shape == (32, 32)
    said = {path.rsplit("/", 1)[1]: reason for _, path, reason in source.rejected}
    assert set(said) == {"twice.dcm", "cut.dcm", "without0.dcm", "without1.dcm"}
    assert "an image of this SOP instance UID is there" in said["twice.dcm"]
    assert "no patient id" in said["without0.dcm"] and "no SOP instance UID" in said["without1.dcm"]
    (folder / "1.2.840.77").unlink()
    (folder / "twice.dcm").unlink()
    with pytest.raises(ValueError, match=r"No DICOM image below .* can be used; the first: .*cut\.dcm"):
        sources.open_source({"source": "archive", "folder": str(folder), "size_px": 32})


def test_a_release_pairs_images_and_reports(tmp_path, monkeypatch):
    """Notebook 15_release itself: ids of another folder name, an image without text, a report without image."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    ids = [f"train/patient0000{k}/study1/view1_frontal.jpg" for k in range(4)]
    csv = tmp_path / "plus.csv"
    reports = {"section_findings": ["Clear lungs.", "", None], "section_impression": ["No edema.", "Edema.", None]}
    pd.DataFrame({"path_to_image": ids[:3], "deid_patient_id": ["p0", "p1", "p2"], **reports}).to_csv(
        csv, index=False
    )
    folder = paths.cohort_dir("plus")
    folder.mkdir(parents=True)
    table = pd.DataFrame({"image_id": [f"CheXpert-v1.0-small/{i}" for i in ids], "patient_id": list("abcd")})
    table.reindex(columns=[*store.IMAGE_COLUMNS, *store.PACKED_COLUMNS]).to_parquet(folder / "images.parquet")
    np.save(folder / "images.npy", np.zeros((4, 8, 8), np.uint8))
    pd.DataFrame(columns=["image_id"]).to_parquet(folder / "labels.parquet")
    pd.DataFrame(columns=list(store.BOX_COLUMNS)).to_parquet(folder / "boxes.parquet")
    release = {"source": "chexpert_plus", "path": str(csv), "sections": "both"}
    settings = {"mining": {"archive": {"release": release}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    executed("15_release", {"edition": "e", "cohort": "plus"})
    pairs = pd.read_parquet(tmp_path / "data" / "reports" / "e" / "plus.parquet")
    assert pairs["image_id"].tolist() == table["image_id"].tolist()[:2] and pairs["patient_id"].tolist() == ["a", "b"]
    assert pairs["text"].tolist() == ["Clear lungs. No edema.", "Edema."] and set(pairs["rule"]) == {"release"}
    alone = pd.read_csv(tmp_path / "results" / "e" / "archive" / "unmatched.csv")
    assert alone["images_n"].tolist() == [1]


def test_an_edition_of_a_release_asks_for_its_notebook_and_watches_its_file(tmp_path):
    folder = tmp_path / "editions"
    folder.mkdir()
    for name in ("base", "archive"):
        (folder / f"{name}.yaml").write_text((CHECKOUT / "editions" / f"{name}.yaml").read_text())
    release = {"folder": None, "release": {"source": "chexpert_plus", "path": "plus.csv"}}
    (folder / "plus.yaml").write_text(yaml.safe_dump({"extends": "archive", "mining": {"archive": release}}))
    stages = {name: editions.compose(name, tmp_path)["stages"] for name in ("archive", "plus")}
    assert stages["archive"]["archive"] == {"notebook": "15_archive", "reads": "data/cxr/archive"}
    assert stages["plus"]["archive"] == {"notebook": "15_release", "reads": "data/cxr/plus.csv"}
    for name, made in stages.items():
        assert made["sources"]["archive"]["reports"] == f"data/reports/{name}"
        assert list(made["studies"]) == [f"{name}-mining"] and not made["evaluate"] and not made["results"]
