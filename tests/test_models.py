"""The released models: whole, small, opened without pickle, used where nothing was trained, fetched from mirrors."""

import functools
import http.server
import json
import pickle
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score

from cxrlib.base import paths
from cxrlib.cohorts import simulation
from cxrlib.commands import cxr, readme, released
from cxrlib.labelers import released_bert
from cxrlib.networks import image_reading, trained_runs, training
from cxrlib.releases import released_models
from cxrlib.studies import case_tables

SHIPPED = paths.ROOT / "models"
MODELS = released_models.read_models(SHIPPED)
NETWORKS = [name for name, model in MODELS.items() if model.kind == released_models.IMAGE_NETWORK]
FIRST = NETWORKS[0]
TOLERANCE = 0.005  # as models/README.md promises it


def call(*words):
    """Run `cxr` in this process; return its exit status and what it ended with."""
    try:
        return cxr.main([str(word) for word in words]) or 0, ""
    except SystemExit as stopped:
        return (stopped.code or 0, "") if isinstance(stopped.code, int | None) else (1, stopped.code)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root that holds the released models and settings alone: no results, no data."""
    shutil.copytree(SHIPPED, tmp_path / "models")
    (tmp_path / "params.yaml").write_text("edition: quick\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def damaged(root, name, file):
    """Flip the lowest bit of the last byte of a file; return the file."""
    path = root / "models" / name / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path


def test_every_file_is_whole_listed_and_all_are_small(capsys):
    assert released_models.list_models(SHIPPED)
    listed = {model.folder / file for model in MODELS.values() for file in model.files}
    listed |= {SHIPPED / name for name in ("models.yaml", "models.csv", "README.md")}
    there = {path for path in SHIPPED.rglob("*") if path.is_file()}
    assert there == listed
    assert sum(path.stat().st_size for path in there) < 10e6
    said = capsys.readouterr().out
    assert all(name in said for name in MODELS) and "missing" not in said


def test_each_model_says_what_it_learned_from():
    for model in MODELS.values():
        assert "not for patients" in model.said and model.about["trained_on"] in model.said
        assert model.about["probability_change"]["largest"] <= (1 if model.name == "bert" else TOLERANCE)
    assert MODELS["bert"].about["labels_changed"]["changed"] == 0
    assert MODELS["bert"].about["labels_changed"]["reports"] >= 300


def test_records_and_entries_agree():
    for name in NETWORKS:
        told, about = json.loads((SHIPPED / name / "run.json").read_text())["parameters"], MODELS[name].about
        assert name == f"{about['target']}-{about['architecture']}-{about['seed']}"
        assert {key: told[key] for key in ("target", "architecture", "seed", "findings", "size_px", "edition")} == {
            key: about[key] for key in ("target", "architecture", "seed", "findings", "size_px", "edition")
        }


@pytest.mark.parametrize("name", NETWORKS)
def test_areas_are_those_of_the_published_case_tables(name):
    """Of the internal test images, recomputed from the probabilities that the model's folder has."""
    known = pd.read_parquet(SHIPPED / name / "predictions.parquet")
    split = "by_patient" if MODELS[name].about["findings"] == ["abnormal"] else "main"
    cases = case_tables.read("quick", "simulated", split)
    rows = [row for row in MODELS[name].about["metrics"] if row["test"] == "internal"]
    assert rows
    for row in rows:
        probability = known[known["finding"] == row["finding"]].set_index("image_id")["probability"]
        test = cases[cases["split"] == "test"].set_index("image_id")
        label = test[case_tables.label(row["scored_by"], row["finding"])]
        label = label[label.isin([0, 1])]
        assert (len(label), int(label.sum())) == (row["images"], row["positives"])
        assert round(roc_auc_score(label, probability.loc[label.index]), 3) == row["auc"]


def test_the_page_has_the_table_that_was_packed():
    page = (SHIPPED / "README.md").read_text()
    assert readme.filled(page) == page, "run tools/pack_models.py"
    assert list(pd.read_csv(SHIPPED / "models.csv")["model"]) == NETWORKS


@pytest.fixture(scope="module")
def drawn():
    """Every hundredth image of the quick edition's cohort, drawn again, with its id."""
    settings = yaml.safe_load((paths.ROOT / "editions" / "quick.yaml").read_text())
    told = settings["cohorts"]["simulated"]
    hospital = simulation.HOSPITALS[told["hospital"]]
    people = simulation.admissions(hospital, told["images_n"], np.random.default_rng(told["seed"]))
    painter = simulation.Painter(hospital, settings["size_px"], told["seed"])
    rows = people.to_dict("records")
    some = range(0, told["images_n"], 100)
    return people["image_id"].iloc[list(some)].tolist(), np.stack([painter.draw(rows[k], k)[0] for k in some])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_what_the_trained_one_said(name, drawn):
    image_ids, images = drawn
    known = pd.read_parquet(SHIPPED / name / "predictions.parquet").set_index("image_id")["probability"]
    at = [k for k, image_id in enumerate(image_ids) if image_id in known.index]
    assert len(at) >= 5
    network = trained_runs.open_run(SHIPPED / name).network
    now = training.predict(network, SimpleNamespace(images=images), np.array(at))[:, 0]
    assert np.abs(now - known.loc[[image_ids[k] for k in at]]).max() <= TOLERANCE


def test_nothing_is_unpickled(monkeypatch):
    def refused(*arguments, **options):
        raise AssertionError("something was unpickled")

    for owner, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(owner, name, refused)
    for name in NETWORKS:
        assert trained_runs.open_run(SHIPPED / name).findings
    assert image_reading.open_reader(SHIPPED / "archive_reader").about["findings"]
    assert released_bert.load_difference(SHIPPED / "bert").findings


def test_explain_draws_an_example_without_anything_trained(root, capsys):
    assert call("explain", "--example", "--out", root / "maps") == (0, "")
    said = capsys.readouterr()
    assert FIRST in said.err and "simulated images: not for patients" in said.err
    table = pd.read_csv(root / "maps" / "explained.csv")
    assert list(table["finding"]) == ["pneumothorax"] and table["run"][0].endswith(FIRST)
    assert (root / "maps" / table["overlay"][0]).stat().st_size > 10_000
    assert Image.open(root / "maps" / "example.png").size == (64, 64)
    assert table["probability"][0] > 0.5 and 0 <= table["in_box_frac"][0] <= 1


def test_the_example_has_its_box_on_the_pneumothorax(tmp_path):
    path, (x, y, width, height), size_px = released.draw_example(tmp_path)
    assert width > 2 and height > 2 and 0 <= x and x + width <= size_px and 0 <= y and y + height <= size_px
    again = released.draw_example(tmp_path / ".")[0].read_bytes()
    assert path.read_bytes() == again


def test_a_run_that_is_not_here_has_its_released_copy_stand_in(root, capsys):
    run = root / "results" / "quick" / "runs" / "pneumothorax_nlp" / "test_resnet-1"
    assert call("explain", "--example", "--run", run, "--out", root / "a") == (0, "")
    assert "pneumothorax_nlp-test_resnet-1" in capsys.readouterr().err
    other = root / "results" / "nih_mini" / "runs" / "pneumothorax_nlp" / "test_resnet-1"
    status, said = call("explain", "--example", "--run", other, "--out", root / "b")
    assert status == 1 and "has no run.json and no model.safetensors" in said


def test_a_run_that_is_here_comes_first(root, capsys):
    run = root / "results" / "quick" / "runs" / "pneumothorax_nlp" / "test_resnet-1"
    shutil.copytree(root / "models" / FIRST, run)
    assert call("explain", "--example", "--run", run, "--out", root / "a") == (0, "")
    assert "released" not in capsys.readouterr().err
    assert pd.read_csv(root / "a" / "explained.csv")["run"][0] == str(run)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "none_such"], f"There is no released image network 'none_such'; there are {FIRST}, "),
        (["--model", "bert"], "There is no released image network 'bert'"),
        (["x.png"], "--example brings its own image and box"),
        (["--box", "1,1,2,2"], "--example brings its own image and box"),
    ],
)
def test_explain_refuses_in_a_sentence(root, words, says):
    status, said = call("explain", "--example", "--out", root / "maps", *words)
    assert status == 1 and said.startswith(says) and "\n" not in said


def test_explain_needs_an_image(root):
    assert call("explain", "--out", root / "maps") == (
        1,
        "No image is given: name one, or --example to have a simulated one drawn.",
    )


def test_read_reads_with_reports_and_maps(root, capsys):
    path, *_ = released.draw_example(root)
    assert call("read", path, "--out", root / "reading") == (0, "")
    said = capsys.readouterr()
    assert "archive_reader" in said.err and "not for patients" in said.err
    assert said.out.count("RESEARCH ONLY, NOT FOR DIAGNOSIS") == 2
    assert "its text is not on this disk" not in said.out and "IMPRESSION:" in said.out
    assert pd.read_csv(root / "reading" / "explained.csv")["run"][0].endswith("archive_reader")


def test_read_of_another_edition_needs_its_own_networks(root):
    path, *_ = released.draw_example(root)
    status, said = call("read", path, "--edition", "archive")
    assert status == 1 and "run `make repro` for an edition with an archive" in said


def test_label_uses_the_released_language_model(root, capsys):
    reports = [("a", "There is a large left pneumothorax."), ("b", "No pneumothorax. No pleural effusion.")]
    pd.DataFrame(reports, columns=["report_id", "text"]).to_csv(root / "reports.csv", index=False)
    assert call("label", root / "reports.csv", "--labeler", "bert", "--out", root / "labels.csv") == (0, "")
    assert "The model is bert of the release" in capsys.readouterr().err
    labels = pd.read_csv(root / "labels.csv").set_index("report_id")
    assert labels.loc["a", "pneumothorax"] == 1 and labels.loc["b", "pneumothorax"] == 0


def test_a_difference_from_another_encoder_is_refused(root):
    path = root / "models" / "bert" / "labeler.json"
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "encoder_sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"is not the encoder that .* differs from: install the version"):
        released_bert.load_difference(path.parent)


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        (FIRST, "model.safetensors", ["explain", "--example", "--out", "maps"]),
        (FIRST, "run.json", ["explain", "--example", "--out", "maps"]),
        ("archive_reader", "joint.safetensors", ["read", "example.png"]),
        ("bert", "difference.safetensors", ["label", "reports.csv", "--labeler", "bert", "--out", "labels.csv"]),
    ],
)
def test_a_flipped_bit_is_named(root, capsys, name, file, words):
    released.draw_example(root)
    (root / "reports.csv").write_text("report_id,text\na,No pneumothorax.\n")
    path = damaged(root, name, file)
    status, said = call(*words)
    said += capsys.readouterr().err
    assert status == 1 and f"{path} is not the file that was released" in said and "git checkout models" in said
    assert call("fetch", "models", "--list")[0] == 1 and str(path) in capsys.readouterr().out


def test_a_missing_and_a_shortened_file_are_named(root):
    path = root / "models" / FIRST / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model.safetensors has 1000 bytes, and models.yaml says"):
        released_models.find_model()
    path.unlink()
    with pytest.raises(ValueError, match=r"model.safetensors is missing: restore it by"):
        released_models.find_model()


def test_without_a_release_the_remedy_is_said(root):
    shutil.rmtree(root / "models")
    (root / "dvc.yaml").write_text("")
    status, said = call("explain", "--example", "--out", root / "maps")
    assert status == 1 and "models has no models.yaml: restore it by `git checkout models`, or get" in said


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(params=["folder", "http"])
def mirror(request, root, tmp_path_factory):
    """A copy of the release, and what `--from` is told: the folder itself, or the address of its server."""
    folder = tmp_path_factory.mktemp("mirror") / "models"
    shutil.copytree(SHIPPED, folder)
    if request.param == "folder":
        yield folder, str(folder)
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_fetch_brings_what_is_missing_or_damaged(root, mirror, capsys):
    gone = root / "models" / "bert" / "difference.safetensors"
    gone.unlink()
    flipped = damaged(root, FIRST, "model.safetensors")
    assert call("fetch", "models", "--from", mirror[1]) == (0, "")
    said = capsys.readouterr().out
    assert (
        f"{FIRST}: 2 of 3 files were here, 1 fetched." in said and "bert: 1 of 2 files were here, 1 fetched." in said
    )
    assert gone.read_bytes() == (SHIPPED / "bert" / gone.name).read_bytes()
    assert flipped.read_bytes() == (SHIPPED / FIRST / flipped.name).read_bytes()


def test_fetch_makes_a_whole_release_elsewhere(root, mirror, capsys):
    assert call("fetch", "models", "--from", mirror[1], "--to", root / "new") == (0, "")
    assert "models.yaml is the mirror's (SHA-256 " in capsys.readouterr().out
    assert released_models.list_models(root / "new")
    assert trained_runs.open_run(root / "new" / FIRST).findings == ("pneumothorax",)


def test_fetch_keeps_nothing_that_differs_and_names_it(root, mirror, capsys):
    path = mirror[0] / FIRST / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    (mirror[0] / "bert" / "labeler.json").unlink()
    for name, file in ((FIRST, "model.safetensors"), ("bert", "labeler.json")):
        (root / "models" / name / file).unlink()
    assert call("fetch", "models", "--from", mirror[1])[0] == 1
    said = capsys.readouterr().out
    where = mirror[1].rstrip("/")
    assert f"  {where}/{FIRST}/model.safetensors is not the file that was released: its SHA-256 differs" in said
    assert f"  {where}/bert/labeler.json " in said and ("is missing" in said or "status 404" in said)
    assert not (root / "models" / FIRST / "model.safetensors").exists()
    assert "Traceback" not in said


def test_fetch_says_what_a_place_without_models_is(root, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for source in (str(empty), "http://127.0.0.1:9"):
        status, said = call("fetch", "models", "--from", source, "--to", root / "new")
        assert status == 1 and "--from is to name the folder or address that holds models.yaml" in said
        assert not (root / "new" / "models.yaml").exists()


def test_fetch_asks_for_a_mirror_and_keeps_to_models(root, capsys):
    status, said = call("fetch", "models")
    assert status == 1 and "name the folder or address of a mirror by --from" in said
    assert call("fetch", "nih_reports", "--from", "x")[0] == 2
    assert call("fetch", "models", "google_four_readers")[0] == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda whole: whole.pop("version"), "lacks 'version'"),
        (lambda whole: whole["models"][FIRST].pop("files"), "lacks 'files'"),
        (lambda whole: whole["models"][FIRST].update(kind="pickle"), "'kind' is 'pickle'; there are"),
        (lambda whole: whole["models"][FIRST]["files"].pop("run.json"), "lacks the file run.json"),
        (lambda whole: whole["models"][FIRST]["files"]["run.json"].update(sha256="0"), "needs 'sha256'"),
        (
            lambda whole: whole["models"][FIRST]["files"].update({"../../x.json": {"sha256": "0" * 64, "bytes": 1}}),
            "file '../../x.json' is no plain name",
        ),
        (
            lambda whole: whole["models"][FIRST]["files"].update({"x.pkl": {"sha256": "0" * 64, "bytes": 1}}),
            "file 'x.pkl' is no plain name",
        ),
        (lambda whole: whole["models"].update({"../up": whole["models"][FIRST]}), "model '../up': a name is letters"),
    ],
)
def test_a_list_that_is_wrong_is_refused(tmp_path, change, says):
    whole = yaml.safe_load((SHIPPED / "models.yaml").read_text())
    change(whole)
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(ValueError, match=r"models\.yaml") as refused:
        released_models.read_models(tmp_path)
    assert says in str(refused.value)
