"""Versions of a label set: every kind of change by hand, the guide's commands as written, and what is wrong input."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import paths
from cxrlib.commands import audit
from cxrlib.labels import label_versions

GUIDE = (paths.ROOT / "docs/guides/label_versions.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", GUIDE, re.S | re.M)


def labels(**findings):
    ids = [f"i{k}" for k in range(len(next(iter(findings.values()))))]
    return pd.DataFrame(findings, index=pd.Index(ids, name="image_id"), dtype=float)


def test_every_kind_of_change_is_counted_by_finding():
    """Sixteen images with every pair of states; the four that stay as they are are no change."""
    values = [1.0, 0.0, -1.0, np.nan]
    first = labels(edema=np.repeat(values, 4), mass=np.zeros(16))
    second = labels(mass=np.zeros(16), edema=np.tile(values, 4))
    counts, changed = label_versions.changed_labels(first, second)
    assert set(counts["finding"]) == {"edema"} and (counts["images_n"] == 1).all() and len(counts) == 12
    assert list(zip(counts["before"], counts["after"], strict=True)) == [
        (a, b) for a in label_versions.STATES for b in label_versions.STATES if a != b
    ]
    assert len(changed) == 12 and changed["image_id"].is_unique


def test_images_of_one_version_and_patients():
    first = labels(edema=[1, 1, 1, 0])
    second = labels(edema=[0, 0, 0, 0, 1]).drop("i3")
    patient = pd.Series(["p", "p", "q"], ["i0", "i1", "i2"])
    counts, changed = label_versions.changed_labels(first, second, patient)
    absent, present = label_versions.STATES[1], label_versions.STATES[0]
    none_before, none_after = label_versions.ONE_SIDED
    assert counts.to_numpy().tolist() == [
        ["edema", present, absent, 3, 2],
        ["edema", absent, none_after, 1, 1],
        ["edema", none_before, present, 1, 1],
    ]
    assert changed["patient_id"].tolist() == ["p", "p", "q", "i3", "i4"], "an image without patient counts as one"
    nothing, none = label_versions.changed_labels(first, first)
    assert nothing.empty and none.empty


def test_other_findings_are_no_other_version():
    with pytest.raises(ValueError, match=r"^The second version has no mass: versions of one label set have the same"):
        label_versions.changed_labels(labels(edema=[1], mass=[1]), labels(edema=[1]))
    with pytest.raises(ValueError, match=r"^The first version has no mass"):
        label_versions.changed_labels(labels(edema=[1]), labels(edema=[1], mass=[1]))


# --- the guide ----------------------------------------------------------------------------------------------------

CSV, BY_GIT, BY_DVC, COMPARED = BLOCKS
NEXT = "image_id,patient_id,pneumothorax,effusion\ni1,p1,0,0\ni2,p1,0,1\ni3,p2,0,\n"


def shell(folder, script):
    """Run lines as somebody types them, with the commands of this environment; return what they printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "t", f"GIT_{who}_EMAIL": "t@example.org"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    script = script.replace("cxr ", f"{sys.executable} -m cxrlib ")
    environment["PYTHONPATH"] = str(paths.ROOT)
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def by_git(tmp_path):
    """A folder with two versions of a CSV, made as the guide says."""
    (tmp_path / "labels.csv").write_text(CSV)
    shell(tmp_path, f"git init -q\n{BY_GIT}")
    (tmp_path / "labels.csv").write_text(NEXT)
    shell(tmp_path, 'git commit -qam "Read again"\ngit tag labels-v2')
    return tmp_path


def test_the_guide_from_the_csv_to_what_changed(by_git):
    (by_git / "old_labels.csv").write_text(CSV)
    (by_git / "new_labels.csv").write_text(NEXT)
    said = shell(by_git, COMPARED)
    counted = "3 images in labels.csv@labels-v1, 3 in labels.csv@labels-v2, 3 in both; 2 images have a label"
    assert said.startswith(counted)
    found = pd.read_csv(by_git / "changes" / "changes.csv")
    assert found.to_numpy().tolist() == [
        ["i1", "p1", "pneumothorax", "present", "absent"],
        ["i2", "p1", "effusion", "uncertain", "present"],
    ]
    assert pd.read_csv(by_git / "changes" / "counts.csv")["images_n"].tolist() == [1, 1]


def test_the_guide_with_versions_that_dvc_keeps(tmp_path):
    (tmp_path / "labels.csv").write_text(CSV)
    shell(tmp_path, f"git init -q\ndvc init -q\ndvc remote add -q private ../private\n{BY_DVC}")
    (tmp_path / "labels.csv").write_text(NEXT)
    shell(tmp_path, 'dvc add -q labels.csv\ngit commit -qam "Read again"\ngit tag labels-v2')
    assert "remote: private" in (tmp_path / "labels.csv.dvc").read_text()
    with contextlib.chdir(tmp_path):
        tables = {v: label_versions.opened_version(f"labels.csv@labels-{v}")[0] for v in ("v1", "v2")}
    assert tables["v1"].loc["i1", "pneumothorax"] == 1 and tables["v2"].loc["i1", "pneumothorax"] == 0
    for cached in (tmp_path / ".dvc" / "cache" / "files").rglob("*"):
        if cached.is_file():
            cached.unlink()
    with (
        contextlib.chdir(tmp_path),
        pytest.raises(ValueError, match=r"labels-v1 is kept by DVC, and neither the cache nor a remote has it"),
    ):
        label_versions.opened_version("labels.csv@labels-v1")


def test_a_label_set_of_the_pipeline_is_read_too(tmp_path):
    labels(edema=[1, 0]).reset_index().to_parquet(tmp_path / "nlp.parquet")
    shell(tmp_path, "git init -q; git add .; git commit -qm one; git tag v1")
    labels(edema=[1, 1]).reset_index().to_parquet(tmp_path / "nlp.parquet")
    first, second = (label_versions.opened_version(f"{tmp_path}/nlp.parquet{at}")[0] for at in ("@v1", ""))
    assert label_versions.changed_labels(first, second)[0]["images_n"].tolist() == [1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["labels.csv@v9", "labels.csv"], "labels.csv@v9: git knows no revision 'v9'; it knows labels-v1, labels-v2"),
        (["other.csv@labels-v1", "labels.csv"], "other.csv is not in revision labels-v1, neither of git nor of DVC"),
        (["labels.csv@labels-v1", "none.csv"], "There is no file none.csv: name a CSV, or FILE@REVISION"),
        (["labels.csv@labels-v1", "more.csv"], "The first version has no mass: versions of one label set have"),
        (["labels.csv@labels-v1", "bad.csv"], "bad.csv line 2"),
        (["bad.csv@labels-v3", "labels.csv"], "bad.csv@labels-v3 line 2"),
        (["labels.csv@labels-v1", "labels.csv", "--by", "sex"], "--by is for two label sets that are compared"),
        (["labels.csv@labels-v1", "labels.csv", "--out", "more.csv"], "more.csv is a file: name a folder by --out."),
    ],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
def test_what_is_wrong_is_one_sentence(by_git, monkeypatch, words, message):
    monkeypatch.chdir(by_git)
    Path("bad.csv").write_text(NEXT.replace("i1,p1,0,0", "i1,p1,7,0"))
    Path("more.csv").write_text("image_id,pneumothorax,effusion,mass\ni1,1,1,1\n")
    shell(by_git, "git add bad.csv; git commit -qm three; git tag labels-v3")
    if "it knows" in message:
        message += ", labels-v3, and every commit."
    with pytest.raises(SystemExit) as ended:
        audit.main(words)
    assert message in str(ended.value) and "\n" not in str(ended.value)


def test_a_file_outside_git_has_no_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ValueError, match="lies in no git checkout, so that it has no versions: name two files"):
        label_versions.opened_version(f"{tmp_path}/a.csv@v1")
