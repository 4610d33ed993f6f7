"""Bad files that are not text: each kind is refused in a sentence or a line of rejected.csv, and nothing is run."""

import contextlib
import gzip
import json
import os
import resource
import socket
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bad_input.archives import BAD_ARCHIVES, EMPTY, REPORT, TAKEN, bad_npz, member, tar, zeros
from bad_input.images import BAD_IMAGES, RAMP8, deflated_bomb, dicom, jpeg, png, rotated_jpeg, shouting_pickle
from bad_input.weights import BAD_RECORDS, array_of_objects, bad_torch, bad_weights
from PIL import Image
from safetensors.torch import save_file

from cxrlib.base import bounded, paths
from cxrlib.cohorts import image_files, packing, sources, store, torchxrayvision_source
from cxrlib.commands import explain, read
from cxrlib.labelers import bert, chexbert, released_bert, visual
from cxrlib.networks import architectures, trained_runs
from cxrlib.releases import downloads
from cxrlib.reports import dicom_headers, export_files, image_reports, report_files, report_headers
from cxrlib.topics import models

ARCHITECTURE, SIZE = "test_resnet", 64
MEMORY = 400 * 2**20  # what a bad file may cost at most; the bombs are of 80 MB up to 4 TB


def said_in_a_sentence(text):
    """Whether a reason is one line for people, and short."""
    words = ("Traceback", "Exception", "<class", "object has no attribute")
    return "\n" not in text and 10 < len(text) < 400 and not any(word in text for word in words)


@pytest.fixture
def marker(tmp_path):
    """A file that is there after the test only if something was executed."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "a foreign file was executed"


@contextlib.contextmanager
def bounded_memory():
    """Let numpy and Python take no more than `MEMORY`, and the process not grow by more than that and a little."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY + 300 * 2**20, before[1]))
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
        resource.setrlimit(resource.RLIMIT_AS, before)


# --- images --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A cohort of all bad images and two good ones; rejected.csv by the file's name, and the store."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "images").mkdir()
    for name, content in {"good1.png": png(Image.fromarray(RAMP8)), "good2.dcm": dicom()}.items():
        (folder / "images" / name).write_bytes(content)
    for name, content, _ in BAD_IMAGES.values():
        (folder / "images" / name).write_bytes(content)
    names = [p.name for p in (folder / "images").iterdir()]
    pd.DataFrame({"image_id": names, "patient_id": names}).to_csv(folder / "table.csv", index=False)
    with pytest.warns() as _, bounded_memory():
        source = sources.own_folder(size_px=32, folder=str(folder / "images"), table=str(folder / "table.csv"))
        packing.pack(source, folder / "store", folder / "work", size_px=32, workers=1)
    rejected = pd.read_csv(folder / "store" / "rejected.csv", dtype=str)
    return rejected.assign(name=[Path(where).name for where in rejected["where"]]), store.open_store(folder / "store")


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_a_line_of_rejected_csv_with_its_reason(packed, kind):
    name, _, says = BAD_IMAGES[kind]
    reasons = packed[0]["reason"][packed[0]["name"] == name]
    assert len(reasons) == 1 and says in reasons.iloc[0] and said_in_a_sentence(reasons.iloc[0]), reasons.tolist()


def test_good_images_among_bad_ones_are_packed(packed):
    rejected, good = packed
    assert good.index["image_id"].tolist() == ["good1.png", "good2.dcm"]
    unlabelled = rejected["where"].str.startswith("table.csv")  # rows of the table whose file is no image
    assert sorted(rejected["name"][~unlabelled]) == sorted(name for name, _, _ in BAD_IMAGES.values())
    np.testing.assert_array_equal(good.images[0], good.images[1])


@pytest.mark.parametrize("kind", [kind for kind, bad in BAD_IMAGES.items() if not bad[0].endswith(("tif", "tiff"))])
def test_explain_says_what_is_wrong_with_a_bad_image(tmp_path, kind):
    name, content, says = BAD_IMAGES[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(image_files.UnreadableImageError) as raised:
        explain.read_fitted(tmp_path / name, SIZE)
    assert says in str(raised.value) and said_in_a_sentence(str(raised.value))


def _socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


# Kind: how a path called x.png that is no image file comes to be, and what is said of it.
PLACES = {
    "a link to itself": (lambda path: path.symlink_to(path), "a link that leads to no file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere.png"), "a link that leads to no file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "a named pipe": (os.mkfifo, "it is a named pipe"),
    "a socket": (_socket, "it is a socket"),
    "a link to a folder": (lambda path: path.symlink_to(path.parent.parent), "it is a link to a folder"),
    "a file of 3 GB": (lambda path: (path.touch(), os.truncate(path, 3 * 2**30)), "it has 3 GiB"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_image_file_is_a_line_of_rejected_csv(tmp_path, monkeypatch, kind):
    make, says = PLACES[kind]
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path / "images")
    (tmp_path / "images" / "good.png").write_bytes(png(Image.fromarray(RAMP8)))
    make(tmp_path / "images" / "x.png")
    (tmp_path / "table.csv").write_text("image_id,patient_id\ngood.png,1\nx.png,2\n")
    with bounded_memory():
        source = sources.own_folder(size_px=32, folder=str(tmp_path / "images"), table=str(tmp_path / "table.csv"))
        rejected = packing.pack(source, tmp_path / "store", tmp_path / "work", size_px=32, workers=1)
        with pytest.raises(image_files.UnreadableImageError, match=r"it (is|has) "):
            explain.read_fitted(tmp_path / "images" / "x.png", SIZE)
    reasons = rejected["reason"][rejected["where"].str.endswith("x.png")].tolist()
    assert len(reasons) == 1 and says in reasons[0]


def test_a_folder_called_png_is_searched_and_no_image(tmp_path):
    (tmp_path / "images" / "x.png").mkdir(parents=True)
    (tmp_path / "images" / "x.png" / "good.png").write_bytes(png(Image.fromarray(RAMP8)))
    (tmp_path / "table.csv").write_text("image_id,patient_id\ngood,1\nx.png,2\n")
    source = sources.own_folder(size_px=32, folder=str(tmp_path / "images"), table=str(tmp_path / "table.csv"))
    assert source.table["image_id"].tolist() == ["good"]
    assert [reason for _, _, reason in source.rejected] == [f"no image file of this name below {tmp_path / 'images'}"]
    with pytest.raises(image_files.UnreadableImageError, match="it is a folder"):
        explain.read_fitted(tmp_path / "images" / "x.png", SIZE)


def test_names_that_are_no_text_are_lines_of_rejected_csv_and_odd_ones_are_read(tmp_path):
    (tmp_path / "images").mkdir()
    for name in (b"caf\xe9.png", b"two\nlines.png", b"--out=x.png", b"'; drop table.png"):
        Path(os.fsdecode(os.fsencode(tmp_path / "images") + b"/" + name)).write_bytes(png(Image.fromarray(RAMP8)))
    (tmp_path / "table.csv").write_text('image_id,patient_id\n"two\nlines.png",1\n--out=x.png,2\n\'; drop table,3\n')
    source = sources.own_folder(size_px=32, folder=str(tmp_path / "images"), table=str(tmp_path / "table.csv"))
    rejected = packing.pack(source, tmp_path / "store", tmp_path / "work", size_px=32, workers=1)
    assert len(store.open_store(tmp_path / "store").index) == 3
    assert rejected["image_id"].tolist() == ["caf\\xe9.png"]
    assert rejected["reason"].tolist() == ["its name is not UTF-8: rename it"]


def test_a_file_and_a_folder_without_permission_are_lines_of_rejected_csv():
    with tempfile.TemporaryDirectory() as there:  # pytest's own folders are closed to other users
        folder = Path(there)
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        for name in ("good.png", "locked.png", "closed/inside.png"):
            (folder / name).write_bytes(png(Image.fromarray(RAMP8)))
        (folder / "table.csv").write_text("image_id,patient_id\ngood.png,1\nlocked.png,2\n")
        (folder / "locked.png").chmod(0)
        (folder / "closed").chmod(0)
        with _nobody():
            source = sources.own_folder(size_px=32, folder=there, table=str(folder / "table.csv"))
        (folder / "closed").chmod(0o755)
    reasons = {Path(where).name: reason for _, where, reason in source.rejected}
    assert reasons["locked.png"].startswith("it cannot be opened (Permission denied)")
    assert reasons["closed"].startswith("this folder cannot be searched (Permission denied)")


@contextlib.contextmanager
def _nobody():
    """Be a user who may not read everything, where root runs the tests."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_nih_release_with_pngs_that_are_none(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("00000001_000.png", "00000001_001.png"):
        (tmp_path / "images" / name).write_bytes(png(Image.fromarray(RAMP8)))
    for k, make in enumerate((PLACES["a link to itself"][0], PLACES["a named pipe"][0], os.mkdir)):
        make(tmp_path / "images" / f"00000002_00{k}.png")
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    names = ("00000001_000.png", "00000001_001.png", *(f"00000002_00{k}.png" for k in range(3)))
    rows = [f"{name},No Finding,0,{int(name[:8])},50,F,PA\n" for name in names]
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(header + "".join(rows))
    source = sources.nih(size_px=32, folder=str(tmp_path))
    assert source.table["image_id"].tolist() == ["00000001_000.png", "00000001_001.png"]
    named = {image_id: reason for image_id, _, reason in source.rejected if image_id.startswith("00000002_00")}
    assert [named[f"00000002_00{k}.png"].split(":")[0].split(",")[0] for k in range(3)] == [
        "it is a link that leads to no file",
        "it is a named pipe",
        "it is a folder",
    ]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_picture_stored_lying_is_turned_upright(orientation):
    upright = Image.fromarray(RAMP8).transpose(Image.Transpose.ROTATE_90)
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    expected = upright if orientation == 1 else upright.transpose(turn[orientation])
    got = image_files.decode(rotated_jpeg(orientation), ".jpg")
    assert got.size == expected.size
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), atol=6)


def test_a_damaged_exif_note_costs_no_image():
    content = jpeg(RAMP8)
    note = b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff"
    np.testing.assert_array_equal(
        image_files.decode(content[:2] + note + content[2:], ".jpg"), image_files.decode(content, ".jpg")
    )


def test_headers_of_a_deflated_bomb_are_not_expanded(tmp_path):
    path = tmp_path / "bomb.dcm"
    path.write_bytes(deflated_bomb())
    with bounded_memory():
        row, reason = image_files.dicom_header(path)
        (problem,) = dicom_headers.read_dicom(path, False, None)
    assert row == {} and reason == "it expands to more than 64 MiB"
    assert "it expands to more than 64 MiB" in problem.reason


def test_pixels_that_are_no_numbers_are_refused_whatever_read_them():
    pixels = np.zeros((1, 8, 9), np.float32)
    pixels[0, 2, 3] = np.nan
    with pytest.raises(image_files.UnreadableImageError, match="NaN or infinite"):
        torchxrayvision_source._read(["PC_Dataset row 4"], [{"img": pixels}], [0], 32, 0)


# --- weights -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """The weights of a small network for two findings."""
    torch.manual_seed(1)
    return architectures.create_network(ARCHITECTURE, 2)[0].state_dict()


def make_run(folder, state, content=None, **parameters):
    """Write a run's folder, its weights or its record replaced."""
    folder.mkdir(exist_ok=True)
    record = {"parameters": {"architecture": ARCHITECTURE, "findings": ["a", "b"], "size_px": SIZE, **parameters}}
    (folder / "run.json").write_text(json.dumps(record))
    if content is None:
        save_file(state, folder / "model.safetensors")
    else:
        (folder / "model.safetensors").write_bytes(content)
    return folder


KINDS_OF_WEIGHTS = list(bad_weights({"fc.bias": torch.zeros(2), "fc.weight": torch.zeros(2, 3)}, Path("marker")))


@pytest.mark.parametrize("kind", KINDS_OF_WEIGHTS)
def test_bad_weights_are_refused_by_explain_and_nothing_is_run(tmp_path, whole, marker, kind):
    content, says = bad_weights(whole, marker)[kind]
    folder = make_run(tmp_path / "run", whole, content)
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(RAMP8)))
    with pytest.raises(SystemExit) as ended, bounded_memory():
        explain.main([str(tmp_path / "a.png"), "--run", str(folder), "--out", str(tmp_path / "out")])
    text = str(ended.value.code)
    assert text.startswith(f"{folder / 'model.safetensors'}") and says in text and said_in_a_sentence(text), text
    assert ": " in text.removeprefix(str(folder))  # what is wrong, and the remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_bad_records_beside_weights_are_refused(tmp_path, whole, kind):
    content, says = BAD_RECORDS[kind]
    folder = make_run(tmp_path / "run", whole, **(content if isinstance(content, dict) else {}))
    if isinstance(content, bytes):
        (folder / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=says) as raised, bounded_memory():
        trained_runs.open_run(folder)
    assert str(folder) in str(raised.value) and said_in_a_sentence(str(raised.value))


def test_a_folder_of_pickled_weights_alone_is_no_run(tmp_path, marker):
    make_run(tmp_path / "run", {}, b"")
    (tmp_path / "run" / "model.safetensors").unlink()
    for name in ("model.pkl", "model.pth", "export.pkl"):
        (tmp_path / "run" / name).write_bytes(shouting_pickle(marker))
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors"):
        trained_runs.open_run(tmp_path / "run")


@pytest.mark.parametrize("kind", [*bad_torch(Path("marker")), "checkpoint that is a pipe"])
def test_bad_checkpoints_of_chexbert_are_refused_and_nothing_is_run(tmp_path, marker, kind):
    path = tmp_path / "chexbert.pth"
    if kind == "checkpoint that is a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(bad_torch(marker)[kind])
    from transformers import BertConfig

    small = BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    with pytest.raises(ValueError, match=r"chexbert\.pth") as raised, bounded_memory():
        chexbert.load_chexbert(path, config=small)
    assert said_in_a_sentence(str(raised.value))


BAD_LABELERS = {
    "labeler that is no JSON": b"{",
    "labeler of arrays in arrays": b"[" * 100_000,
    "labeler that is an array": b"[]",
    "labeler without fields": b"{}",
    "labeler of a path as a finding": {"findings": ["../x"]},
    "labeler of findings that are one text": {"findings": "effusion"},
    "labeler of an encoder that is nowhere": {"encoder": "/nowhere"},
    "labeler of an encoder that is a number": {"encoder": 7},
    "labeler whose weights are a pickle": {},
}


@pytest.mark.parametrize("load", [bert.BertLabeler.load, visual.VisualLabeler.load, released_bert.load_difference])
@pytest.mark.parametrize("kind", BAD_LABELERS)
def test_bad_labelers_are_refused_and_nothing_is_run(tmp_path, marker, kind, load):
    content = BAD_LABELERS[kind]
    entry = {"findings": ["effusion"], "encoder": "minilm", "pooling": "mean", "trained_layers": 1, "weights": []}
    encoder = Path(released_bert.report_network.encoder_path("minilm")) / "model.safetensors"
    entry["encoder_sha256"] = released_bert.records.sha256(encoder)
    text = content if isinstance(content, bytes) else json.dumps({**entry, **content}).encode()
    (tmp_path / "labeler.json").write_bytes(text)
    for name in ("model.safetensors", "difference.safetensors"):
        (tmp_path / name).write_bytes(shouting_pickle(marker))
    with pytest.raises((ValueError, OSError)) as raised:
        load(tmp_path)
    assert said_in_a_sentence(str(raised.value))
    assert str(tmp_path) in str(raised.value) or "/nowhere" in str(raised.value)


def test_an_encoder_with_code_of_its_own_is_refused_without_a_question(tmp_path, marker, monkeypatch):
    """`auto_map` names a module of the folder, which transformers would import after a question to the terminal."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}))
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    entry = {"findings": ["effusion"], "encoder": str(folder), "pooling": "mean", "trained_layers": None}
    (tmp_path / "labeler.json").write_text(json.dumps(entry))
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    with pytest.raises(ValueError, match="cannot be opened"):
        bert.BertLabeler.load(tmp_path)
    with pytest.raises(ValueError, match="neither a folder here nor"):
        released_bert.report_network.load_encoder(str(folder))


BAD_READINGS = {
    "reading that is no JSON": b"{",
    "reading that is an array": b"[]",
    "reading without fields": b"{}",
    "reading of a path as a finding": {"findings": ["../x"]},
    "reading of a size beyond memory": {"size_px": 10**9, "store_px": 10**9},
    "reading of outputs beyond memory": {"outputs": {"topics": 10**12, "findings": 1, "joint": 1}},
    "reading of a network from an address": {"settings": {"architecture": "hf-hub:someone/else"}},
    "reading whose weights are pickles": {},
}


@pytest.mark.parametrize("kind", BAD_READINGS)
def test_bad_networks_are_refused_by_read_and_nothing_is_run(tmp_path, marker, kind):
    content = BAD_READINGS[kind]
    entry = json.loads((Path("models") / "archive_reader" / "reading.json").read_text())
    text = content if isinstance(content, bytes) else json.dumps({**entry, **content}).encode()
    networks = ("topics.safetensors", "findings.safetensors", "joint.safetensors")
    for name in ("reading.json", *networks, "reports.parquet"):
        (tmp_path / name).write_bytes(text if name == "reading.json" else shouting_pickle(marker))
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(RAMP8)))
    with pytest.raises(SystemExit) as ended, bounded_memory():
        read.main([str(tmp_path / "a.png"), "--networks", str(tmp_path)])
    assert str(tmp_path) in str(ended.value.code) and "make them again" in str(ended.value.code)


@pytest.mark.parametrize("kind", ["cut", "objects", "pickle", "huge", "empty", "text"])
def test_a_bad_array_of_a_store_is_named_and_nothing_is_run(packed, tmp_path, marker, kind):
    good = Path(packed[1].images.filename).parent
    for file in good.iterdir():
        if file.name != "checksums.json":  # a store from elsewhere brings none, or its own
            (tmp_path / file.name).write_bytes(file.read_bytes())
    content = (good / "images.npy").read_bytes()
    huge = content.replace(b"(2, 32, 32)", b"(2, 9**9,9)")
    kinds = {"cut": content[:-9], "objects": array_of_objects(marker), "pickle": shouting_pickle(marker)}
    kinds |= {"huge": huge, "empty": b"", "text": b"no array"}
    (tmp_path / "images.npy").write_bytes(kinds[kind])
    with pytest.raises(ValueError, match=r"images.npy is .*: pack the cohort again.$"), bounded_memory():
        store.open_store(tmp_path)


@pytest.mark.parametrize("kind", bad_npz(Path("marker")))
def test_a_bad_topic_model_is_refused_and_nothing_is_run(tmp_path, marker, kind):
    (tmp_path / "model.npz").write_bytes(bad_npz(marker)[kind])
    with pytest.raises(ValueError, match="is no topic model"), bounded_memory():
        models.load_topics(tmp_path / "model.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


# --- archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_a_bad_archive_is_refused_or_its_reports_are_taken_and_nothing_is_written(tmp_path, kind):
    end, make, says = BAD_ARCHIVES[kind]
    path = tmp_path / "reports.tgz"
    path.write_bytes(make())
    notes, rejected = [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(bounded_memory())
        if end == TAKEN:
            found = list(report_files.accepted(report_files.sources(path, say=notes.append), rejected.append))
            assert found[0][0] == "CXR9" and "Clear lungs" in found[0][1]
        else:
            raised = stack.enter_context(pytest.raises(ValueError, match=says))
            list(report_files.sources(path, say=notes.append))
    if end == TAKEN:
        listed = " ".join([*notes, *(f"{one.where} {one.problem}" for one in rejected)])
        assert says is None or says in listed
    else:
        assert str(path) in str(raised.value) and said_in_a_sentence(str(raised.value))
    assert os.listdir(tmp_path) == ["reports.tgz"] and not Path("/tmp/outside.xml").exists()


@pytest.mark.parametrize(
    "kind", [kind for kind, (end, *_) in BAD_ARCHIVES.items() if end != TAKEN and "nothing" not in kind]
)
def test_a_bad_archive_of_open_i_is_refused(tmp_path, kind):
    path = tmp_path / "NLMCXR_reports.tgz"
    path.write_bytes(BAD_ARCHIVES[kind][1]())
    with pytest.raises(ValueError) as raised, bounded_memory():
        image_reports.openi(archive=str(path))
    assert str(path) in str(raised.value) and said_in_a_sentence(str(raised.value))


@pytest.mark.parametrize("name", ["bomb.txt.gz", "bomb.csv.gz", "long.txt", "pipe.csv"])
def test_a_bad_file_of_an_export_is_a_problem_with_a_reason(tmp_path, name):
    path = tmp_path / name
    if name == "pipe.csv":
        os.mkfifo(path)
    elif name == "long.txt":
        path.touch()
        os.truncate(path, 65 * 2**20)
    else:
        path.write_bytes(zeros(EMPTY))
    read_file = export_files.read_table if ".csv" in name else export_files.read_document
    with bounded_memory():
        problems = list(read_file(path, report_headers.conventions()))
    assert len(problems) == 1 and isinstance(problems[0], export_files.Problem)
    assert "64 MiB" in problems[0].reason or "named pipe" in problems[0].reason


def test_a_table_of_reports_that_expands_beyond_measure_is_refused(tmp_path):
    path = tmp_path / "reports.csv.gz"
    path.write_bytes(gzip.compress(b"report_id,text\n") + zeros(EMPTY))
    with pytest.raises(ValueError, match="expands to more than 64 MiB, over 200 times its size"), bounded_memory():
        list(report_files.sources(path, say=lambda sentence: None))


def test_a_whole_archive_is_read_as_before(tmp_path):
    for packing_ in (bytes, None):
        archive = tar(member("a/CXR9.xml"), **({} if packing_ is None else {"packed": packing_}))
        (tmp_path / "whole.tgz").write_bytes(archive)
        with bounded.open_tar(tmp_path / "whole.tgz") as opened:
            (only,) = opened
            assert bounded.read_member(opened, only, tmp_path) == REPORT


def test_the_guide_says_the_bounds():
    page = (paths.ROOT / "docs" / "own_images.md").read_text(encoding="utf-8")
    for most in (bounded.IMAGE_BYTES, bounded.MEMBER_BYTES, bounded.FREE_BYTES, bounded.RECORD_BYTES):
        assert f"| {bounded.size_text(most)}" in page
    assert f"| {bounded.IMAGE_PIXELS // 10**6} million pixels |" in page
    assert f"beyond that {bounded.EXPANSION} times its size" in page
    assert f"| {trained_runs.MOST_PX:,} px |" in page and f"| {bounded.size_text(downloads.TABLE_BYTES)} |" in page


def test_there_are_at_least_sixty_kinds():
    assert len(BAD_IMAGES) + len(PLACES) >= 60
    assert len(KINDS_OF_WEIGHTS) + len(BAD_RECORDS) + len(BAD_ARCHIVES) >= 50
