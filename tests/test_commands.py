"""The command `cxr`: its help, the commands that the pages show, run as written, and what it says of wrong input."""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxrlib.base import paths
from cxrlib.commands import cxr, readme
from cxrlib.networks import architectures
from cxrlib.releases import catalogue

BIN = Path(sys.executable).parent
TOO_LONG = {
    "verify": "it compares the results with those that are committed, which `make verify` does",
    "notebook": "it runs a notebook, which tests/test_notebooks.py does",
    "repro": "it runs the whole pipeline, which tests/test_pipeline.py does",
}


def call(words):
    """Run `cxr` in this process; return its exit status and what it ended with, as a shell would show it."""
    try:
        return cxr.main([str(word) for word in words]) or 0, ""
    except SystemExit as stopped:
        return (stopped.code or 0, "") if isinstance(stopped.code, int | None) else (1, f"{stopped.code}\n")


# --- `cxr` itself ---------------------------------------------------------------------------------------------


def test_the_module_answers_as_the_command_does():
    told = subprocess.run([sys.executable, "-m", "cxrlib.commands.cxr", "nonsense"], capture_output=True, text=True)
    assert told.returncode == 2 and "there is no command 'nonsense'" in told.stderr


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands(words, capsys):
    assert call(words) == (0, "")
    said = capsys.readouterr().out
    assert said.startswith("usage: cxr COMMAND") and all(f"\n  {name} " in said for name in cxr.COMMANDS)


def test_a_command_that_is_not_there(capsys):
    assert call(["nonsense"]) == (2, "")
    said = capsys.readouterr()
    assert said.err.startswith("cxr: there is no command 'nonsense'; there are label, audit")
    assert said.err.count("\n") == 1 and not said.out


def test_as_a_module_and_as_a_script():
    for command in ([sys.executable, "-m", "cxrlib", "--help"], [str(BIN / "cxr"), "--help"]):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=paths.ROOT)
        assert done.stdout.startswith("usage: cxr COMMAND") and not done.stderr


@pytest.mark.parametrize("name", cxr.COMMANDS)
def test_every_command_has_help_under_its_own_name(name, capsys):
    assert call([name, "--help"]) == (0, "")
    assert capsys.readouterr().out.startswith(f"usage: cxr {name} ")


# --- the commands that the pages show ---------------------------------------------------------------------------


def shown_commands():
    """Return the commands in the code blocks of README.md and docs/, each with its page."""
    found = {}
    for page in readme.pages():
        for block in re.findall(r"^ *```[^\n]*\n(.*?)^ *```", page.read_text(), re.S | re.M):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.strip().removeprefix("$ ")
                if re.match(r"(\.venv/bin/)?cxr |\.venv/bin/python -m cxrlib ", line):
                    found.setdefault(" ".join(line.split()), page.relative_to(paths.ROOT).as_posix())
    return found


def words_of(command):
    """Return a command's words behind `cxr`, as the shell divides them, without a comment at its end."""
    words = shlex.split(command, comments=True)
    return words[3:] if words[0].endswith("python") else words[1:]


def options_of(words):
    """Return the words that belong to no option, and those of each option."""
    plain, options, name = [], {}, None
    for word in words:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            options.setdefault(name, [])
            options[name] += [value] * bool(value)
        elif name and (not options[name] or name in ("--by", "--labels", "--radiologist")):
            options[name].append(word)
        else:
            plain.append(word)
    return plain, options


@functools.cache
def release_rows(name):
    """Return 120 images of a published label set, half of them with its pneumothorax, and that finding's name."""
    release = catalogue.read_release(name)
    table = release.table.drop(columns="reader_id", errors="ignore").drop_duplicates("image_id")
    finding = "pneumothorax" if "pneumothorax" in table else table.columns[1]
    present = table[finding] == 1
    rows = pd.concat([table[present][:60], table[~present][:60]])
    return rows.merge(release.images[["image_id", "patient_id", "view", "sex", "age"]], on="image_id"), finding


def labels_csv(path, name):
    """Write a label set on images of a published one."""
    release_rows(name)[0].to_csv(path, index=False)


def predictions_csv(path, name):
    """Write a network's predictions of images of a published label set."""
    rows, finding = release_rows(name)
    noise = np.random.default_rng(len(path.name)).normal(size=len(rows))
    scores = 1 / (1 + np.exp(-2 * rows[finding].fillna(0) - noise))
    pd.DataFrame({"image_id": rows["image_id"], f"prob_{finding}": scores}).to_csv(path, index=False)


def reports(path):
    """Write reports as what a name promises: a table, a folder, or one file."""
    texts = {"r1": "Cardiomegaly. No pneumothorax.", "r2": "Possible pneumonia.", "r3": "Clear lungs."}
    table = pd.DataFrame({"report_id": list(texts), "report": list(texts.values())})
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix in (".csv", ".tsv"):
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".txt":
        path.write_text(texts["r1"])
    else:
        path.mkdir()
        for name, text in texts.items():
            (path / f"{name}.txt").write_text(text)


def picture(path):
    """Write a small radiograph: PNG, JPEG or DICOM."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 80)).astype(np.uint8)
    if path.suffix != ".dcm":
        Image.fromarray(pixels).save(path)
        return
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    dicom = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dicom.Rows, dicom.Columns = pixels.shape
    dicom.BitsAllocated = dicom.BitsStored = 8
    dicom.HighBit, dicom.PixelRepresentation, dicom.SamplesPerPixel = 7, 0, 1
    dicom.PhotometricInterpretation, dicom.PixelData = "MONOCHROME2", pixels.tobytes()
    dicom.save_as(path, enforce_file_format=True)


def trained_run(folder, findings=("pneumothorax", "effusion")):
    """Make the folder of a run, of a network with random weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = architectures.create_network("test_resnet", len(findings))[0]
    architectures.save_network(network, folder / "model.safetensors")
    parameters = {"architecture": "test_resnet", "findings": list(findings), "cohort": "none", "size_px": 32}
    (folder / "run.json").write_text(json.dumps({"parameters": parameters, "data_sha256": {"images": "0"}}))


def own_images(folder, options):
    """Write the images and the table of a hospital's own, with the columns that a command names."""
    images = Path(options["--folder"][0])
    images = images if images.is_absolute() else folder / images
    images.mkdir(parents=True)
    rng, n = np.random.default_rng(0), 120
    ids = [f"{k}.png" for k in range(n)]
    for name in ids:
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)).save(images / name)
    rows = pd.DataFrame({"image_id": ids, "patient_id": [f"p{k // 2}" for k in range(n)]})
    tables = {options["--table"][0]: rows.copy()}
    for name in ("--labels", "--radiologist"):
        words = options.get(name, [])
        csv, columns = (
            (words[0], words[1:]) if words and words[0].endswith(".csv") else (options["--table"][0], words)
        )
        for column in columns:
            tables.setdefault(csv, rows[["image_id"]].copy())[column] = rng.integers(0, 2, n)
    for csv, table in tables.items():
        (folder / csv).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / csv, index=False)


def prepare(words, folder, monkeypatch):
    """Put what a command reads into a folder, or skip the test with the reason."""
    name, (plain, options) = words[0], options_of(words[1:])
    if name in TOO_LONG:
        pytest.skip(f"not run: {TOO_LONG[name]}")
    releases = [word for word in words if word in catalogue.names()]
    missing = [word for word in releases if not catalogue.available(word)]
    if missing:
        pytest.skip(f"the label table of {missing[0]} is not here: cxr fetch says where from")
    release = next((word for word in releases if word != "nih_reports"), "google_adjudicated")
    if name == "fetch" and "--list" not in options:
        pytest.skip("not run: it would ask the network; tests/test_fetch.py fetches from a server of its own")
    if name == "edition":
        monkeypatch.setattr(paths, "ROOT", folder)
        shutil.copytree(CHECKOUT / "editions", folder / "editions")
        shutil.copy(CHECKOUT / "params.yaml", folder)
        if "--folder" in options:
            own_images(folder, options)
    if name == "label":
        if options.get("--labeler", ["rules"]) != ["rules"]:
            pytest.skip("not run: it needs a trained labeler; tests/test_bert.py makes one")
        reports(folder / plain[0])
    if name == "audit" and ("--changes" in options or any("@" in word for word in plain)):
        pytest.skip("not run here: tests/test_label_versions.py runs that guide from its CSV to its end")
    if name in ("push", "pull", "gc"):
        pytest.skip("not run here: tests/test_remotes.py runs it in checkouts with remotes of their own")
    if name in ("audit", "score"):
        for word in [*plain, *options.get("--labels", [])]:
            if word.endswith(".csv"):
                make = predictions_csv if name == "score" and word in plain else labels_csv
                make(folder / word, release)
        for word in options.get("--compare", []):
            predictions_csv(folder / word, release)
        for word in options.get("--adjudicated", []):
            rows, finding = release_rows(release)
            rows.iloc[::2][["image_id", finding]].to_csv(folder / word, index=False)
    if name == "explain":
        for word in plain:
            picture(folder / word)
        if "--run" in options:  # else it uses a released model
            trained_run(folder / options["--run"][0], tuple(options.get("--finding", ["pneumothorax"])))


CHECKOUT = paths.ROOT
COMMANDS_SHOWN = shown_commands()


def test_the_pages_show_commands():
    assert {words_of(command)[0] for command in COMMANDS_SHOWN} >= {"audit", "score", "label", "explain"}


@pytest.mark.parametrize("command", COMMANDS_SHOWN)
def test_a_command_of_the_pages_runs_as_written(command, tmp_path, monkeypatch, capsys):
    words = words_of(command)
    monkeypatch.chdir(tmp_path)
    prepare(words, tmp_path, monkeypatch)
    before = set(tmp_path.iterdir())
    if re.search(r"[|;&<>$`*]", command):  # a shell has to read it
        path = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        line = command.replace(".venv/bin/", f"{shlex.quote(str(BIN))}/")
        status = subprocess.run(["bash", "-c", line], env=path, capture_output=True, text=True).returncode
        ended = ""
    else:
        status, ended = call(words)
    allowed = (0, 1) if words[0] == "fetch" else (0,)  # 1: some tables are not here, as --list then says
    assert status in allowed, f"{COMMANDS_SHOWN[command]}: {command}\n{ended}{capsys.readouterr().err}"
    _, options = options_of(words[1:])
    for option in ("--out", "--evidence"):
        for name in options.get(option, []):
            assert (tmp_path / name).exists() and tmp_path / name not in before


# --- what is wrong is one sentence --------------------------------------------------------------------------------

GOOD = "image_id,pneumothorax\n" + "".join(f"i{k},{k % 2}\n" for k in range(60))
FILES = {
    "good.csv": GOOD,
    "scores.csv": GOOD.replace(",1\n", ",0.8\n").replace(",0\n", ",0.3\n"),
    "header.csv": "image_id,pneumothorax\n",
    "semicolons.csv": GOOD.replace(",", ";"),
    "tabs.csv": GOOD.replace(",", "\t"),
    "other_ids.csv": GOOD.replace("\ni", "\nx"),
    "read.csv": "".join(GOOD.splitlines(keepends=True)[:41]),
    "read_few.csv": "".join(GOOD.splitlines(keepends=True)[:13]),
    "read_fracture.csv": GOOD.replace("pneumothorax", "fracture"),
    "read_of_percent.csv": "image_id,pneumothorax,sampling_probability\ni0,0,50\ni1,1,50\n",
    "read_more.csv": GOOD + "z7,1\n",
    "scores_of_some.csv": "image_id,pneumothorax\n" + "".join(f"i{k},{0.3 + 0.5 * (k % 2)}\n" for k in range(45, 60)),
    "half.csv": GOOD.replace("i3,1", "i3,"),
    "empty.csv": "",
    "reports.csv": "report_id,report\na,Edema.\n",
    "no_reports.csv": "report_id,report\n",
    "table.txt": "not a folder",
}
WRONG = [
    ("audit header.csv good.csv", "header.csv has a header and no rows below it"),
    ("audit good.csv header.csv", "header.csv has a header and no rows below it"),
    ("score header.csv --labels good.csv", "header.csv has a header and no rows below it"),
    ("score scores.csv --labels good.csv --compare header.csv", "header.csv has a header and no rows below it"),
    ("audit semicolons.csv good.csv", "semicolons.csv separates its columns by semicolons: save it with commas"),
    ("score tabs.csv --labels good.csv", "tabs.csv separates its columns by tabs: save it with commas"),
    ("audit empty.csv good.csv", "empty.csv is empty"),
    ("audit none.csv good.csv", "There is no file none.csv."),
    ("audit folder.csv good.csv", "folder.csv is a folder: name the CSV file itself."),
    ("score folder.csv --labels good.csv", "folder.csv is a folder: name the CSV file itself."),
    ("audit locked.csv good.csv", "locked.csv cannot be read (Permission denied): check its permissions."),
    ("score scores.csv --labels locked.csv", "locked.csv cannot be read (Permission denied): check"),
    ("audit good.csv good.csv --out table.txt", "table.txt is a file: name a folder by --out."),
    ("score scores.csv --labels good.csv --out table.txt", "table.txt is a file: name a folder by --out."),
    ("audit good.csv good.csv --out table.txt/x", "table.txt/x cannot be made (Not a directory): name another"),
    ("audit good.csv good.csv --out blocked --resamples 20", "blocked/audit.csv cannot be written (Is a directory)"),
    ("audit good.csv good.csv --part test", "good.csv is not divided into parts: leave out --part."),
    ("audit good.csv good.csv --by view", "Nothing is known of view of these images: give the column, or"),
    (
        "audit good.csv other_ids.csv",
        "other_ids.csv and good.csv: No image id is on both sides: 'x0' here, 'i0' there. Spell image_id alike",
    ),
    ("audit nonsense good.csv", "'nonsense' is neither a CSV (a file named *.csv) nor in the catalogue"),
    (
        "score scores_of_some.csv --labels good.csv --adjudicated read.csv",
        "No adjudicated image is in the predictions",
    ),
    (
        "score scores.csv --labels good.csv --adjudicated read_fracture.csv",
        "read_fracture.csv has labels of fracture, which",
    ),
    (
        "score scores.csv --labels good.csv --adjudicated read_of_percent.csv",
        "sampling_probability of image i0 is 50: it must",
    ),
    (
        "score scores.csv --labels good.csv --adjudicated read_more.csv",
        "1 images have no report labels in good.csv, such as 'z7'",
    ),
    (
        "score scores.csv --labels half.csv --adjudicated read.csv",
        "pneumothorax of image i3 is adjudicated and has no report",
    ),
    (
        "score scores.csv --labels good.csv --adjudicated read_few.csv",
        "it rests on 6 adjudicated patients, fewer than 10",
    ),
    ("score scores.csv --labels good.csv --adjudicated none.csv", "There is no file none.csv."),
    ("explain a.png --run run --out table.txt", "table.txt is a file: name a folder by --out."),
    ("explain a.png --run folder.csv --out out", "folder.csv has no run.json and no model.safetensors: give one of"),
    ("label none.csv --out out.csv", "none.csv does not exist: check its name."),
    ("label no_reports.csv --out out.csv", "no_reports.csv has a header but no rows"),
    ("label reports.csv --out good.csv", "good.csv exists already: name another file, or say --force to replace it."),
    ("label folder.csv --out out.csv", "folder.csv has no .txt or .xml file"),
]
MISUSED = [
    ("audit good.csv", "the following arguments are required: other"),
    ("audit good.csv good.csv --seed -1", "'-1' is not a whole number of 0 or more"),
    ("audit good.csv good.csv --resamples 5", "5 is too few: give 20 resamples or more"),
    ("score scores.csv --labels good.csv --specificity high", "high is no fraction between 0 and 1"),
    (
        "score scores.csv --labels good.csv --adjudicated a.csv --by sex",
        "--adjudicated takes one label set, that of the",
    ),
    ("score scores.csv --labels good.csv good.csv", "--labels takes one label set, or two different ones"),
    ("fetch nonsense", "there is no label set 'nonsense'; there are"),
]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Put good and bad files into the folder that commands run in; one of them is locked, for root too."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "blocked" / "audit.csv").mkdir(parents=True)
    (tmp_path / "locked.csv").write_text(GOOD)
    picture(tmp_path / "a.png")
    opened = open

    def refuse(path, *more, **options):
        if str(path) == "locked.csv":
            raise PermissionError(13, "Permission denied", "locked.csv")
        return opened(path, *more, **options)

    monkeypatch.setattr("builtins.open", refuse)
    return tmp_path


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[command for command, _ in WRONG])
def test_wrong_input_is_one_sentence(desk, capsys, command, message):
    if command.startswith("explain"):
        trained_run(desk / "run")
    status, ended = call(command.split())
    said = capsys.readouterr().err + ended
    assert status == 1 and message in said and "Traceback" not in said and "Errno" not in said
    assert len(said.strip().splitlines()) == 1 and "\r" not in said


@pytest.mark.parametrize(("command", "message"), MISUSED, ids=[command for command, _ in MISUSED])
def test_wrong_options_end_with_the_usage(desk, capsys, command, message):
    assert call(command.split()) == (2, "")
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"cxr {command.split()[0]}: error: ") and message in last


def test_a_failure_prints_no_traceback(desk):
    """As a process of its own, with its errors in a file: the sentence and nothing else, no rest of a bar either."""
    command = [BIN / "cxr", "audit", "header.csv", "good.csv"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=desk)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and "\r" not in done.stderr
