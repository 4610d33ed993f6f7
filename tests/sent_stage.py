"""A DVC pipeline of one stage whose command is a script, sent to a place; what several test files need."""

import json
import os
import signal
import subprocess
import sys
import time

import yaml

from cxrlib.base import paths
from cxrlib.commands import places

STAGE = "count"
# Notes that it started, writes one file, waits until it may go on, writes another and adds a line to what is kept.
SCRIPT = """
import os, pathlib, sys, time
root = pathlib.Path.cwd()
with open("data/partial/starts.txt", "a") as file:
    print(os.environ.get("SLURMD_NODENAME", "here"), file=file)
print("begun", flush=True)
out = root / "results/out"
out.mkdir(parents=True)
(out / "first.txt").write_text(pathlib.Path("asked.txt").read_text())
kept = root / "results/kept"
kept.mkdir(parents=True, exist_ok=True)
with open(kept / "lines.txt", "a") as file:
    print("a line", file=file)
while not pathlib.Path("data/partial/go").exists():
    time.sleep(0.05)
(out / "second.txt").write_text("whole")
print("done", flush=True)
sys.exit(int(pathlib.Path("data/partial/go").read_text() or 0))
"""
SEND = (
    "import sys; from pathlib import Path; from cxrlib.commands import places, sending; root = Path.cwd();"
    "sys.exit(sending.send([sys.executable, 'script.py'], 'count', places.open_place('there', root), root))"
)


# Before it: who sends is killed as soon as the job is sent, before the job's id is noted.
KILLED_WHEN_SENT = (
    "import os, signal; from cxrlib.commands import places; sent = places.submit;"
    "places.submit = lambda *what: (sent(*what), os.kill(os.getpid(), signal.SIGKILL));"
)


WHOLE = {"out/first.txt": "1", "out/second.txt": "whole", "kept/lines.txt": "a line from before\na line\n"}


def project(root, **place):
    """Make the pipeline, with a place `there`."""
    for name in ("cxrlib", "notebooks", "places"):
        (root / name).mkdir(parents=True)
    (root / "script.py").write_text(SCRIPT)
    (root / "asked.txt").write_text("1")
    (root / "params.yaml").write_text("{}")
    (root / "places" / "there.yaml").write_text(yaml.safe_dump({"poll_seconds": 0.5, **place}))
    stage = {
        "cmd": "python script.py",
        "deps": ["asked.txt"],
        "outs": ["results/out", {"results/kept": {"persist": True}}],
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {STAGE: stage}}))
    (root / "results" / "kept").mkdir(parents=True)
    (root / "results" / "kept" / "lines.txt").write_text("a line from before\n")
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=root, check=True)
    return root


def sender(root, before="", **variables):
    """Start a process that sends the stage and waits for it, after some code and with more variables."""
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)} | variables
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", before + SEND], cwd=root, env=environment, **how)


def interrupted(root):
    """Send the stage and kill who sent it while the job runs; return the job's id."""
    first = sender(root)
    wait_for(lambda: starts(root) and is_sent(root))
    kill(first)
    return job(root)["job"]


def starts(root):
    """Return where the command started, a name a start."""
    file = root / "data" / "partial" / "starts.txt"
    return file.read_text().split() if file.exists() else []


def wait_for(something, seconds=60):
    """Wait until a call returns something true; return it."""
    end = time.monotonic() + seconds
    while not (found := something()):
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.1)
    return found


def go(root, status=""):
    """Let the command go on, and end with a status."""
    part = root / "data" / "partial" / "go.part"
    part.write_text(str(status))
    part.rename(root / "data" / "partial" / "go")


def written(root):
    """Return the files of the stage's outputs by name."""
    return {
        path.relative_to(root / "results").as_posix(): path.read_text()
        for path in (root / "results").rglob("*")
        if path.is_file()
    }


def kill(process):
    """Kill a process at once, and wait for its end."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def job(root):
    """Return the record of the stage's job."""
    return json.loads((root / "data/partial/jobs" / STAGE / "job.json").read_text())


def is_sent(root):
    """Return whether the record of the stage's job has the job's id."""
    record = root / "data/partial/jobs" / STAGE / "job.json"
    return record.exists() and bool(job(root)["job"])


def log(root):
    """Return the folder of submitit's files."""
    return root / "data/partial/jobs" / STAGE / "submitit"


def jobs(root):
    """Return the ids of the stage's jobs that wait or run."""
    engine = yaml.safe_load((root / "places" / "there.yaml").read_text())["engine"]
    return places.find_jobs(engine, log(root), places.job_name(STAGE, root))


def end(root):
    """End the stage's jobs, if there are any still."""
    engine = yaml.safe_load((root / "places" / "there.yaml").read_text())["engine"]
    for number in jobs(root):
        places.cancel(engine, log(root), number)
