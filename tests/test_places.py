"""Stages sent elsewhere: to processes of this machine by the call that also serves Slurm."""

import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sent_stage as sent

from cxrlib.base import paths
from cxrlib.commands import job_trees, places, sending

WHOLE_RECORD = {"key": "0", "engine": "slurm", "place": "there", "job": "3", "words": []}


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
    sent.interrupted(root)
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
    old = sent.interrupted(root)
    (root / "asked.txt").write_text("2")
    second = sent.sender(root)
    sent.wait_for(lambda: len(sent.starts(root)) == 2)
    assert places.job_state("local", sent.log(root), old) == "GONE"
    sent.go(root)
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 0 and f"job {old} has other dependencies and is cancelled" in said
    assert sent.written(root)["out/first.txt"] == "2"
    lines = ["a line from before", "a line", "a line"]
    assert (root / "results/kept/lines.txt").read_text().splitlines() == lines, "what the first had finished is kept"


def test_a_cancelled_job_does_not_undo_what_was_made_since(root):
    sent.interrupted(root)
    (root / "asked.txt").write_text("2")
    time.sleep(0.05)
    (root / "results/kept/lines.txt").write_text("newer\n")
    second = sent.sender(root)
    sent.wait_for(lambda: len(sent.starts(root)) == 2)
    sent.go(root)
    assert second.wait(timeout=60) == 0
    second.stdout.close()
    assert sent.written(root)["kept/lines.txt"] == "newer\na line\n"


def test_a_job_whose_id_was_not_noted_is_joined(root):
    first = sent.sender(root, sent.KILLED_WHEN_SENT)
    assert first.wait(timeout=60) == -signal.SIGKILL and sent.job(root)["job"] is None
    first.stdout.close()
    sent.wait_for(lambda: sent.starts(root))
    (number,) = sent.jobs(root)
    assert sending.still_running(root) == {sent.STAGE: "there"}
    sent.go(root)
    said = sent.sender(root).communicate(timeout=60)[0]
    assert f"joining job {number} of local" in said and "cancelled" not in said
    assert sent.written(root) == sent.WHOLE and sent.starts(root) == ["here"]


def test_a_job_of_which_submitit_noted_no_id_is_cancelled(root):
    old = sent.interrupted(root)
    (root / "data/partial/jobs" / sent.STAGE / "job.json").write_text(json.dumps(sent.job(root) | {"job": None}))
    (sent.log(root) / f"{old}_submitted.pkl").unlink()
    assert sending.still_running(root) == {sent.STAGE: "there"}, "its processes are found without a record"
    second = sent.sender(root)
    sent.wait_for(lambda: len(sent.starts(root)) == 2)
    assert sent.jobs(root) and old not in sent.jobs(root), "there is one job, the second"
    sent.go(root)
    assert f"job {old} of local has no whole record and is cancelled" in second.communicate(timeout=60)[0]
    assert second.returncode == 0 and sent.written(root)["out/second.txt"] == "whole"


def test_a_job_that_was_never_sent_does_not_run_though_no_queue_answers(root, monkeypatch):
    record = root / "data/partial/jobs" / sent.STAGE / "job.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps(WHOLE_RECORD | {"job": None}))
    monkeypatch.setenv("SLURM_CONF", str(root / "none.conf"))
    assert sending.still_running(root) == {}
    sent.go(root)
    done = sent.sender(root)
    done.communicate(timeout=60)
    assert done.returncode == 0 and sent.written(root) == sent.WHOLE


def test_a_job_whose_record_is_damaged_is_cancelled_and_sent_anew(root):
    old = sent.interrupted(root)
    record = root / "data/partial/jobs" / sent.STAGE / "job.json"
    record.write_text(record.read_text()[:40])
    group = (record.parent / "group").read_text()
    with pytest.raises(ValueError, match=rf"job\.json is damaged: its job runs: end it by `kill -- -{group}`"):
        sending.still_running(root)
    second = sent.sender(root)
    sent.wait_for(lambda: len(sent.starts(root)) == 2)
    assert sent.jobs(root) and old not in sent.jobs(root), "there is one job, the second"
    sent.go(root)
    assert f"job {old} of local has no whole record and is cancelled" in second.communicate(timeout=60)[0]
    lines = ["a line from before", "a line", "a line"]
    assert (root / "results/kept/lines.txt").read_text().splitlines() == lines, "what the first had finished is kept"


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "[1]", "3", *(json.dumps(WHOLE_RECORD | {n: 3}) for n in ("key", "engine", "place", "job"))],
)
def test_without_a_place_a_damaged_record_is_one_sentence_that_says_what_to_do(tmp_path, text):
    record = tmp_path / "data/partial/jobs/train@x" / "job.json"
    (record.parent / "submitit").mkdir(parents=True)
    record.write_text(text)
    with pytest.raises(ValueError, match="is damaged: no process of its job lives: delete "):
        sending.still_running(tmp_path)
    (record.parent / "submitit" / "3_submission.sh").write_text("#!/bin/bash\n")
    name = places.job_name("train@x", tmp_path)
    with pytest.raises(ValueError, match="is damaged") as raised:
        sending.still_running(tmp_path)
    said = str(raised.value)
    assert f"{record} is damaged" in said and f"delete {record.parent}." in said and "\n" not in said
    assert f"`squeue --name {name}`" in said and f"`scancel --name {name}`" in said


def test_the_name_of_a_job_is_that_of_its_stage_and_checkout(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("a")
    names = [
        places.job_name(stage, tmp_path / root) for stage in ("cohort", "train@x") for root in ("a", "b", "link")
    ]
    assert len(set(names)) == 4 and names[0] == names[2] and names[0].startswith("cohort.")


@pytest.mark.filterwarnings("ignore:EOFError")  # submitit tries again
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-3], lambda b: bytes(len(b)), lambda b: b[:2] + b"."])
def test_a_result_that_was_cut_short_is_that_of_a_lost_job(tmp_path, damage):
    (tmp_path / "7_0_result.pkl").write_bytes(damage(pickle.dumps(("success", 0))))
    with pytest.raises(RuntimeError, match=r"Job 7 of local is lost: its result .*7_0_result\.pkl cannot be read"):
        places.exit_status("local", tmp_path, "7")


def test_a_job_with_a_result_that_was_cut_short_is_sent_anew_by_the_next_call(root):
    number = sent.interrupted(root)
    sent.go(root)
    sent.wait_for(lambda: not sent.jobs(root))
    result = sent.log(root) / f"{number}_0_result.pkl"
    result.write_bytes(bytes(result.stat().st_size))
    assert sending.still_running(root) == {}
    second = sent.sender(root)
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 1 and f"RuntimeError: Job {number} of local is lost" in said
    third = sent.sender(root)
    third.communicate(timeout=60)
    assert third.returncode == 0 and sent.written(root)["out/second.txt"] == "whole" and len(sent.starts(root)) == 2


def pids(root):
    """Return the process ids of the script itself, which a stage's notebook stands for."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                b"script.py" in (path / "cmdline").read_bytes().split(b"\0")
                and root in (path / "cwd").resolve().parents
            ):
                found.append(int(path.name))
    return [pid for pid in found if "-c" not in Path("/proc", str(pid), "cmdline").read_text().split("\0")]


def test_a_local_job_is_there_as_long_as_its_command_is(root):
    number = sent.interrupted(root)
    os.kill(int(number), signal.SIGKILL)
    os.kill(int((root / "data/partial/jobs" / sent.STAGE / "group").read_text()), signal.SIGKILL)
    (script,) = pids(root)
    assert places.job_state("local", sent.log(root), number) == "RUNNING"
    assert sending.still_running(root) == {sent.STAGE: "there"}
    second = sent.sender(root)
    assert f"joining job {number}" in second.stdout.readline()
    time.sleep(3)
    assert second.poll() is None and pids(root) == [script], "it is waited for, and its tree stays"
    sent.go(root)
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 1 and "ended as GONE and left no result" in said


def test_after_ctrl_c_it_is_said_what_ends_a_local_job_and_that_does(root):
    first = sent.sender(root)
    sent.wait_for(lambda: sent.starts(root) and sent.is_sent(root))
    first.send_signal(signal.SIGINT)
    said = next(line for line in first.stdout if "goes on" in line)  # the job's first process holds the pipe open
    first.wait()
    first.stdout.close()
    (command,) = re.findall(r"`(kill -- -\d+)` ends it", said)
    assert pids(root)
    subprocess.run(["bash", "-c", command], check=True)
    sent.wait_for(lambda: not sent.jobs(root), seconds=20)
    assert pids(root) == [] and sending.still_running(root) == {}
    second = sent.sender(root)
    assert "was killed by signal 15" in second.communicate(timeout=60)[0] and second.returncode
    assert not (root / "data/partial/jobs" / sent.STAGE).exists()


def test_a_stranger_with_the_id_of_a_local_job_is_not_killed(tmp_path):
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        log = tmp_path / "job" / "submitit"
        log.mkdir(parents=True)
        (tmp_path / "job" / "group").write_text(str(stranger.pid))
        assert places.job_state("local", log, str(stranger.pid)) == "GONE"
        places.cancel("local", log, str(stranger.pid))
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_a_job_of_another_user_is_one_sentence(root, monkeypatch):
    number = sent.interrupted(root)

    def forbidden(pid, _):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(places.os, "kill", forbidden)
        with pytest.raises(RuntimeError, match=f"Job {number} of local is another user's"):
            places.cancel("local", sent.log(root), number)


@pytest.mark.parametrize(("late", "comes"), [(29, True), (31, False)])
def test_a_late_result_is_waited_for_as_long_as_the_guide_says(tmp_path, monkeypatch, late, comes):
    now = 100.0
    late += now

    def sleep(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(sending.time, "sleep", sleep)
    monkeypatch.setattr(sending.time, "monotonic", lambda: now)
    monkeypatch.setattr(places, "job_state", lambda *_: "COMPLETED")
    monkeypatch.setattr(places, "exit_status", lambda *_: 0 if now >= late else None)
    job = sending._Job("count", tmp_path)
    told = {"engine": "slurm", "job": "7"}
    with contextlib.nullcontext() if comes else pytest.raises(RuntimeError, match="left no result"):
        assert sending._wait(job, told, 1, None) == 0
    guide = (paths.ROOT / "docs/guides/cluster.md").read_text()
    assert f"is waited for up to {sending._LATE_SECONDS['slurm']} seconds after its end" in guide


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


def test_the_guide_calls_python_by_this_environment():
    guide = (paths.ROOT / "docs/guides/cluster.md").read_text()
    assert set(re.findall(r"(?<![\w./-])[\w./]*python3? ", guide)) == {".venv/bin/python "}


def test_a_place_that_is_not_there_names_those_that_are():
    with pytest.raises(ValueError, match=r"There is no place .*: places/ has local, slurm"):
        places.open_place("moon")


def test_what_a_place_cannot_ask_for_is_said(root):
    (root / "places/there.yaml").write_text("engine: local\neach: {cpu: 3}")
    done = sent.sender(root)
    said = done.communicate(timeout=60)[0]
    assert done.returncode == 1 and "What place there asks for count is not understood" in said


@pytest.mark.parametrize("each", ["name: mine", "slurm_additional_parameters: {job-name: mine}"])
def test_a_place_gives_jobs_no_name_of_its_own(root, each):
    (root / "places/there.yaml").write_text(f"engine: local\neach: {{{each}}}")
    done = sent.sender(root)
    said = done.communicate(timeout=60)[0]
    assert done.returncode == 1 and "Place there has " in said and "take it away" in said


def test_each_core_of_a_job_of_dask_is_a_worker_with_one_thread(monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue", reason="the extra cluster is not installed: no Dask")
    scaled = []
    monkeypatch.setattr(jobqueue.SLURMCluster, "scale", lambda _, n: scaled.append(n))
    asks = {"cores": 8, "memory": "16GB", "queue": "main"}  # left to itself, dask-jobqueue gives each two threads
    cluster = places._dask_cluster(places.Place("here", "slurm"), asks, 16)
    with cluster:
        script = cluster.job_script()
    assert (
        "--nthreads 1 " in script
        and "--nworkers 8 " in script
        and "--cpus-per-task=8" in script
        and "-p main" in script
    )
    assert 16 in scaled


def test_the_cores_of_dask_may_stand_in_its_own_settings(monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue", reason="the extra cluster is not installed: no Dask")
    import dask

    got = {}
    monkeypatch.setattr(jobqueue, "SLURMCluster", lambda **asks: got.update(asks) or contextlib.nullcontext())
    with dask.config.set({"jobqueue.slurm.cores": 6}), contextlib.suppress(AttributeError):  # which has no `scale`
        places._dask_cluster(places.Place("here", "slurm"), {"memory": "1GB"}, 2)
    assert got["processes"] == 6 and got["memory"] == "1GB" and "cores" not in got


@pytest.mark.parametrize(
    ("engine", "dask", "said"),
    [
        ("local", {"cores": 2}, "has cores of dask: on this machine it has only workers"),
        (
            "slurm",
            {"cores": 4, "processes": 2, "memory": "1GB"},
            "it has processes: 2, but each of 4 cores is a process",
        ),
        ("slurm", {"colour": 2, "cores": 1, "memory": "1GB"}, "What place here has of dask is not understood"),
        ("local", {}, None),
    ],
)
def test_a_place_says_what_is_wrong_with_its_cluster_and_leaves_no_variable(engine, dask, said):
    place = places.Place("here", engine, dask=dask)
    with pytest.raises(ValueError, match=said) if said else contextlib.nullcontext(), places.at_place(place):
        assert os.environ[places.PLACE] == "here"
    assert places.PLACE not in os.environ and "CXR_DASK" not in os.environ
