"""A real Slurm of two nodes on this machine: stages through it, with who sent them killed, and a node killed."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import joblib
import pandas as pd
import pytest
import sent_stage as sent
import yaml

from cxrlib.base import editions, paths
from cxrlib.cohorts import packing, sources
from cxrlib.commands import places, replay, sending

SCRIPT = paths.ROOT / "tests" / "cluster" / "slurm.sh"
TWO_NODES = "tests/cluster/two_nodes.yaml"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start Slurm; return a call of its script."""
    missing = [name for name in NEEDED if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: apt-get install slurm-wlm munge, as .ci/run does")
    if os.getuid():
        pytest.skip("only root can start a Slurm of its own")
    home = tmp_path_factory.mktemp("slurm")
    own = {"SLURM_HOME": str(home), "SLURM_CONF": str(home / "slurm.conf")}
    own["SLURM_PORTS"] = str(20000 + os.getpid() % 10000)
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)

    def script(*words):
        subprocess.run(["bash", SCRIPT, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    try:
        script("start")
        yield script
    finally:
        script("stop")
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def node_of(stage, root):
    """Return the node on which the job of a stage of a checkout runs, or an empty string."""
    name = places.job_name(stage, root)
    command = ["squeue", "--noheader", "--states=running", "--name", name, "--format=%N"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def root(cluster, tmp_path):
    yield sent.project(tmp_path, engine="slurm", each={"timeout_min": 5})
    sent.end(tmp_path)


def test_a_job_is_joined_when_who_sent_it_was_killed_and_sacct_is_not_asked(root):
    first = sent.sender(root)
    sent.wait_for(lambda: sent.starts(root))
    sent.kill(first)
    shutil.rmtree(root / "results/out", ignore_errors=True)
    second = sent.sender(root)
    assert f"joining job {sent.job(root)['job']} of slurm" in second.stdout.readline()
    sent.go(root)
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 0 and {"begun", "done"} <= set(said.split("\n")) and "sacct" not in said
    assert sent.written(root) == sent.WHOLE and len(sent.starts(root)) == 1


def test_a_job_that_ended_while_nobody_waited_is_not_sent_again(root):
    first = sent.sender(root)
    sent.wait_for(lambda: sent.starts(root))
    sent.kill(first)
    sent.go(root)
    sent.wait_for(lambda: not node_of(sent.STAGE, root))
    second = sent.sender(root)
    second.communicate(timeout=60)
    assert second.returncode == 0 and sent.written(root) == sent.WHOLE and len(sent.starts(root)) == 1


def test_a_job_that_somebody_cancels_is_an_error_that_says_so(root):
    waiting = sent.sender(root, "from cxrlib.commands import sending; sending._LATE_SECONDS['slurm'] = 3;")
    sent.wait_for(lambda: sent.starts(root) and sent.is_sent(root))
    subprocess.run(["scancel", sent.job(root)["job"]], check=True)
    said = waiting.communicate(timeout=60)[0]
    assert waiting.returncode and "ended as CANCELLED and left no result" in said


def test_a_job_whose_id_was_not_noted_is_joined(root):
    first = sent.sender(root, sent.KILLED_WHEN_SENT)
    assert first.wait(timeout=60) == -signal.SIGKILL and sent.job(root)["job"] is None
    first.stdout.close()
    (number,) = sent.jobs(root)
    assert sending.still_running(root) == {sent.STAGE: "there"}
    sent.go(root)
    said = sent.sender(root).communicate(timeout=60)[0]
    assert f"joining job {number} of slurm" in said
    assert sent.written(root) == sent.WHOLE and len(sent.starts(root)) == 1


@pytest.mark.parametrize("order", ["{sbatch}; {kill}", "{kill}; sleep 2; {sbatch}"], ids=["after", "before"])
def test_a_job_is_cancelled_that_was_sent_when_nobody_could_note_it(root, order):
    folder = root / "bin"
    folder.mkdir()
    script = order.format(sbatch=f'{shutil.which("sbatch")} "$@"', kill="kill -KILL $PPID")
    (folder / "sbatch").write_text(f"#!/bin/bash\n{script}\n")
    (folder / "sbatch").chmod(0o755)
    first = sent.sender(root, PATH=f"{folder}:{os.environ['PATH']}")
    assert first.wait(timeout=60) == -signal.SIGKILL and sent.job(root)["job"] is None
    first.stdout.close()
    second = sent.sender(root)
    said = second.stdout.readline()
    assert "has no whole record and is cancelled" in said
    sent.wait_for(lambda: sent.starts(root))
    (number,) = sent.jobs(root)
    assert f"job {number} " not in said, "the first is gone"
    sent.go(root)
    assert second.wait(timeout=60) == 0
    second.stdout.close()
    assert sent.written(root) == sent.WHOLE and len(sent.starts(root)) == 1


def test_a_job_whose_record_is_damaged_is_cancelled_and_sent_anew(root):
    old = sent.interrupted(root)
    (root / "data/partial/jobs" / sent.STAGE / "job.json").write_text("{}")
    second = sent.sender(root)
    assert f"job {old} of slurm has no whole record and is cancelled" in second.stdout.readline()
    sent.wait_for(lambda: len(sent.starts(root)) == 2)
    assert len(sent.jobs(root)) == 1 and old not in sent.jobs(root)
    sent.go(root)
    assert second.wait(timeout=60) == 0
    second.stdout.close()
    assert sent.written(root)["out/second.txt"] == "whole"


def test_nothing_is_sent_or_removed_while_the_queue_does_not_answer(root, tmp_path_factory):
    old = sent.interrupted(root)
    (root / "data/partial/jobs" / sent.STAGE / "job.json").write_text("{}")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "slurm.conf"
    elsewhere.write_text(Path(os.environ["SLURM_CONF"]).read_text().replace("SlurmctldPort=", "SlurmctldPort=1"))
    done = sent.sender(root, SLURM_CONF=str(elsewhere))
    said = done.communicate(timeout=120)[0]
    name = places.job_name(sent.STAGE, root)
    assert done.returncode == 1 and f"where and when `squeue --name {name}` does" in said
    assert sent.jobs(root) == [old] and (root / "data/partial/jobs" / sent.STAGE / "tree").exists()


@pytest.mark.slow
def test_a_node_killed_in_the_middle_costs_one_start_and_no_byte(cluster, root):
    waiting = sent.sender(root)
    sent.wait_for(lambda: sent.starts(root))
    died = node_of(sent.STAGE, root)
    cluster("kill-node", died)
    try:
        sent.wait_for(lambda: len(sent.starts(root)) == 2 or waiting.poll() is not None, seconds=180)
        sent.go(root)
        said = waiting.communicate(timeout=60)[0]
    finally:
        cluster("up", died)
    assert waiting.returncode == 0, said
    assert len(set(sent.starts(root))) == 2, "it was started again on the other node"
    assert sent.written(root) == sent.WHOLE | {"kept/lines.txt": sent.WHOLE["kept/lines.txt"] + "a line\n"}


def pipeline(folder):
    """Make a checkout with an edition that trains two networks; return it."""
    from tiny_edition import tiny

    root = replay.scratch_copy(paths.ROOT, folder)
    for name in ("paper", "results"):
        shutil.rmtree(root / name / "quick")
    (root / "dvc.lock").unlink()
    (root / "params.yaml").write_text(yaml.safe_dump(tiny(), sort_keys=False))
    editions.refresh(root)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], cwd=root, check=True)
    return root


def repro(root, *words):
    """Start `make repro` for the two networks, by this environment's Python."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTEST", "PYTHONPATH"))}
    command = ["python", "-m", "cxrlib.commands.repro", *words, "train"]
    return subprocess.Popen(
        command, cwd=root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def comparable(root):
    """Return all that the stages wrote by name, without the times that a training took."""
    found = {}
    for top in ("data/cohorts", "data/label_sets", "data/splits", "data/targets", "results/tiny", "paper/tiny"):
        for path in (root / top).rglob("*"):
            name = path.relative_to(root).as_posix()
            if path.name == "run.json":
                entry = json.loads(path.read_text())
                del entry["files"]["history.csv"]  # it has the times, and is compared without them
                found[name] = {k: v for k, v in entry.items() if "second" not in k and k != "git_revision"}
            elif path.name == "history.csv":
                table = pd.read_csv(path)
                found[name] = table[[c for c in table if "second" not in c]].to_csv()
            elif path.is_file() and not path.name.endswith(".checked.json"):  # when each file was last changed
                found[name] = path.read_bytes()
    return found


@pytest.mark.slow
def test_stages_of_the_pipeline_have_the_same_bytes_though_a_node_and_their_host_are_killed(cluster, tmp_path):
    here, there = pipeline(tmp_path / "here"), pipeline(tmp_path / "there")
    alone = repro(here)
    assert alone.wait() == 0, alone.stdout.read()
    first = repro(there, "--place", TWO_NODES)
    died = sent.wait_for(lambda: node_of("cohort@simulated", there), seconds=300)
    cluster("kill-node", died)
    trained = sent.wait_for(lambda: node_of("train@tiny-pneumothorax_nlp", there), seconds=600)
    sent.kill(first)
    time.sleep(2)
    second = repro(there, "--place", TWO_NODES)
    said = second.communicate(timeout=900)[0]
    cluster("up", died)
    assert second.returncode == 0, said
    assert trained and "train@tiny-pneumothorax_nlp" in said
    log = (there / "data/partial/logs/train@tiny-pneumothorax_nlp.log").read_text()
    assert "joining job" in log, "the training that ran was joined"
    expected, found = comparable(here), comparable(there)
    assert set(found) == set(expected) and len(found) > 40
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.slow
def test_a_dask_cluster_of_two_jobs_packs_the_same_bytes(cluster, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed: no Dask")
    source = sources.simulated(size_px=32, images_n=300, seed=1, hospital="internal")
    packing.pack(source, tmp_path / "here", tmp_path / "work_here", size_px=32, workers=1)
    asks = {"workers": 2, "cores": 1, "memory": "1GB", "walltime": "00:10:00"}
    place = places.Place("two_nodes", "slurm", dask=asks | {"job_directives_skip": ["--mem"]})
    with places.at_place(place), distributed.Client(os.environ["CXR_DASK"]) as client:
        client.wait_for_workers(2, timeout=120)
        with joblib.parallel_config(backend="dask", client=client):
            packing.pack(source, tmp_path / "there", tmp_path / "work_there", size_px=32)
    there = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    assert there == {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} and len(there) >= 5
