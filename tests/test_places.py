"""Stages sent elsewhere: to processes of this machine by the call that also serves Slurm."""

import contextlib
import os
import shutil
import time

import pytest
import sent_stage as sent

from cxrlib.base import paths
from cxrlib.commands import job_trees, places, sending


@pytest.fixture
def root(tmp_path):
    yield sent.project(tmp_path, engine="local", each={"timeout_min": 5})
    sent.end(tmp_path)


def test_what_it_prints_and_writes_comes_home_and_nothing_stays(root):
    (root / "data/partial").mkdir(parents=True)
    sent.go(root)
    done = sent.sender(root)
    assert "begun\ndone\n" in done.communicate(timeout=60)[0] and done.returncode == 0
    assert sent.written(root) == sent.WHOLE and sent.starts(root) == ["here"]
    assert not (root / "data/partial/jobs" / sent.STAGE).exists()


def test_a_failure_has_its_status_and_leaves_what_dvc_leaves(root):
    (root / "data/partial").mkdir(parents=True)
    sent.go(root, 7)
    done = sent.sender(root)
    done.communicate(timeout=60)
    assert done.returncode == 7
    assert sent.written(root) == {"kept/lines.txt": sent.WHOLE["kept/lines.txt"]}


def test_a_job_is_joined_by_the_next_call_though_dvc_took_its_outputs_away(root):
    first = sent.sender(root)
    sent.wait_for(lambda: sent.starts(root) and (root / "data/partial/jobs" / sent.STAGE / "job.json").exists())
    sent.kill(first)
    assert sending.still_running(root) == {sent.STAGE: "there"}
    shutil.rmtree(root / "results/out", ignore_errors=True)  # as DVC does before it calls again
    second = sent.sender(root)
    assert f"joining job {sent.job(root)['job']} of local" in second.stdout.readline()
    sent.go(root)
    assert second.wait(timeout=60) == 0
    second.stdout.close()
    assert sent.written(root) == sent.WHOLE and sent.starts(root) == ["here"], "it ran once"
    assert sending.still_running(root) == {}


def test_a_job_with_other_dependencies_is_cancelled(root):
    first = sent.sender(root)
    sent.wait_for(lambda: sent.starts(root) and (root / "data/partial/jobs" / sent.STAGE / "job.json").exists())
    old = sent.job(root)["job"]
    sent.kill(first)
    (root / "asked.txt").write_text("2")
    second = sent.sender(root)
    sent.wait_for(lambda: len(sent.starts(root)) == 2)
    assert places.job_state("local", root / "data/partial/jobs" / sent.STAGE / "submitit", old) == "GONE"
    sent.go(root)
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 0 and f"job {old} has other dependencies and is cancelled" in said
    assert sent.written(root)["out/first.txt"] == "2"
    lines = ["a line from before", "a line", "a line"]
    assert (root / "results/kept/lines.txt").read_text().splitlines() == lines, "what the first had finished is kept"


def test_a_cancelled_job_does_not_undo_what_was_made_since(root):
    first = sent.sender(root)
    sent.wait_for(lambda: sent.starts(root) and (root / "data/partial/jobs" / sent.STAGE / "job.json").exists())
    sent.kill(first)
    (root / "asked.txt").write_text("2")
    time.sleep(0.05)
    (root / "results/kept/lines.txt").write_text("newer\n")
    second = sent.sender(root)
    sent.wait_for(lambda: len(sent.starts(root)) == 2)
    sent.go(root)
    assert second.wait(timeout=60) == 0
    second.stdout.close()
    assert sent.written(root)["kept/lines.txt"] == "newer\na line\n"


def test_a_tree_reads_all_and_writes_only_its_own(tmp_path):
    root = tmp_path / "root"
    sources = ("cxrlib/a.py", "notebooks/n.ipynb", "data/x/1", "data/y/1", "results/e/runs/2", "results/f", ".git/x")
    for name in sources:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for name in ("params.yaml", "dvc.yaml"):
        (root / name).write_text(name)
    tree = root / "data/partial/jobs/j/tree"
    outs = {"data/x": False, "results/e/runs": True, "paper/e/page.ipynb": False}
    job_trees.grow(root, tree, outs)
    assert (tree / "data/y/1").read_text() == "data/y/1" and not (tree / "data/x").exists()
    assert not (tree / ".git").exists() and (tree / "results/f").is_symlink()
    assert not (tree / "cxrlib").is_symlink(), "code is what it was when the job was sent"
    (tree / "data/x").mkdir()
    (tree / "data/x/new").write_text("new")
    (tree / "results/e/runs/3").write_text("3")
    assert (root / "data/x/1").exists() and not (root / "results/e/runs/3").exists()
    job_trees.bring_home(root, tree, outs)
    assert [p.name for p in (root / "data/x").iterdir()] == ["new"]
    assert {p.name for p in (root / "results/e/runs").iterdir()} == {"2", "3"}
    assert not (root / "paper/e/page.ipynb").exists(), "what was not written is not there"


@pytest.mark.parametrize("name", ["slurm", "local", str(paths.ROOT / "tests/cluster/two_nodes.yaml")])
def test_the_committed_places_are_understood(name):
    place = places.open_place(name)
    assert place.engine in places.ENGINES and place.asks("train@quick-x")["timeout_min"] > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engine: [", "is no YAML"),
        ("engine: pbs", "has the engine 'pbs': it is one of slurm, local"),
        ("engine: local\ncpus: 3", "has cpus, which no place has"),
        ("- engine", "which no place has"),
        ("engine: local\neach: 3", "has each: 3, which is no mapping"),
        ("engine: local\njobs: many", "has jobs: 'many', which is no number above 0"),
    ],
)
def test_a_wrong_place_is_one_sentence(tmp_path, text, said):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.yaml") as raised:
        places.open_place(str(tmp_path / "wrong.yaml"))
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_place_that_is_not_there_names_those_that_are():
    with pytest.raises(ValueError, match=r"There is no place .*: places/ has local, slurm"):
        places.open_place("moon")


def test_what_a_place_cannot_ask_for_is_said(root):
    (root / "places/there.yaml").write_text("engine: local\neach: {cpu: 3}")
    done = sent.sender(root)
    said = done.communicate(timeout=60)[0]
    assert done.returncode == 1 and "What place there asks for count is not understood" in said


@pytest.mark.parametrize(
    ("engine", "dask", "said"),
    [
        ("local", {"cores": 2}, "has cores of dask: on this machine it has only workers"),
        ("slurm", {"colour": 2, "cores": 1, "memory": "1GB"}, "What place here has of dask is not understood"),
        ("local", {}, None),
    ],
)
def test_a_place_says_what_is_wrong_with_its_cluster_and_leaves_no_variable(engine, dask, said):
    place = places.Place("here", engine, dask=dask)
    with pytest.raises(ValueError, match=said) if said else contextlib.nullcontext(), places.at_place(place):
        assert os.environ[places.PLACE] == "here"
    assert places.PLACE not in os.environ and "CXR_DASK" not in os.environ
