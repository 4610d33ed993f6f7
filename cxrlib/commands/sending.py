"""Send the command of a stage elsewhere and wait for it, as `make repro PLACE=NAME` has each notebook do.

All processes of DVC stay on one host, since its locks do not reach further, and only commands travel. A job runs in a
tree of its own (`job_trees`). Its record, `data/partial/jobs/STAGE/job.json`, outlives whoever sent it: when the same
stage is run again with the same dependencies, the job is joined and not sent twice, whether it waits, runs, or has
ended since. With other dependencies, the old job is cancelled. The record is there before the job is, and where it
does not name one, the engine is asked for jobs of the stage's name before anything is removed or sent.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

from cxrlib.base import paths, whole_files
from cxrlib.commands import job_trees, places

_OF_DVC = ("DVC_STAGE", "DVC_ROOT", "DVC_NO_ANALYTICS")
# After a job ended, until its result is no longer waited for: file systems of networks are slow.
_LATE_SECONDS = {"slurm": 30, "local": 2}
_SENT = "_submitted.pkl"  # submitit's file of a job that was sent, after its id


class Left(Exception):
    """Nobody waits any more for who waits for a job."""


def _described(stage, root):
    """Return a stage's outputs, each with whether it begins with what is there, and a hash of what it reads."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        found = repo.stage.load_one(name=stage)
        found.save_deps(allow_missing=True)
        reads = [[dep.def_path, dep.hash_info.to_dict() if dep.hash_info else None] for dep in found.deps]
        outs = {Path(out.fs_path).relative_to(root).as_posix(): bool(out.persist) for out in found.outs}
        told = json.dumps([found.cmd, reads, outs], sort_keys=True, default=str)
    return outs, hashlib.sha256(told.encode()).hexdigest()


def _dvc_process():
    """Return the id of the DVC process that runs this command, or None if there is none above it."""
    pid = os.getppid()
    while pid > 1:
        try:
            words = Path("/proc", str(pid), "cmdline").read_bytes().decode(errors="replace").split("\0")
            above = int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return None
        if any(os.path.basename(word) == "dvc" for word in words[:2]):
            return pid
        pid = above
    return None


def _is_there(pid):
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class _DamagedError(ValueError):
    """A record of a job cannot be read; `str` of it is one sentence."""


class _Job:
    """A job of a stage: its folder, its record and its tree."""

    def __init__(self, stage, root):
        self.root, self.stage = root, stage
        self.folder = root / "data" / "partial" / "jobs" / stage.replace("/", "_")
        self.record, self.tree = self.folder / "job.json", self.folder / "tree"
        self.log, self.output = self.folder / "submitit", self.folder / "output.log"
        self.name = places.job_name(self.folder.name, root)

    def told(self):
        """Return the record, or None if there is none.

        Who sent the job may have been killed before its id was noted: then submitit's file has it, or it is None.
        """
        try:
            told = json.loads(self.record.read_text())
            texts = [told[name] for name in ("key", "engine", "place")] + [told["job"] or ""]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, LookupError):
            texts = [None]
        if not all(isinstance(text, str) for text in texts) or told["engine"] not in places.ENGINES:
            raise _DamagedError(f"{self.record} is damaged: {self._remedy()} delete {self.folder}.")
        sent = [path.name.removesuffix(_SENT) for path in self.log.glob(f"*{_SENT}")]
        return told if told["job"] or len(sent) != 1 else {**told, "job": sent[0]}

    def _remedy(self):
        if self.is_of_slurm():
            return (
                f"see by `squeue --name {self.name}` whether its job waits or runs, end it by `scancel --name "
                f"{self.name}`, and"
            )
        if places.find_jobs("local", self.log, self.name):
            return f"its job runs: end it by `{places.how_to_end('local', self.log, '')}`, and"
        return "no process of its job lives:"

    def is_of_slurm(self):
        """Return whether submitit began to send the job to Slurm, whatever the record says."""
        return any(self.log.glob("*submission*"))

    def send(self, place, words, outs, key):
        """Grow the tree and submit the job; the record without its id is there before, and with it after."""
        shutil.rmtree(self.folder, ignore_errors=True)
        job_trees.grow(self.root, self.tree, outs)
        afresh = [self.tree / path for path, kept in outs.items() if not kept]
        command = places.Command(words, self.tree, self.output, afresh, (places.PLACE, *_OF_DVC))
        told = {"key": key, "engine": place.engine, "place": place.name, "job": None, "words": words}
        whole_files.write_text(self.record, json.dumps(told, indent=1))
        told["job"] = places.submit(place, self.stage, command, self.log, self.name)
        whole_files.write_text(self.record, json.dumps(told, indent=1))
        return told

    def clear(self, engines, outs):
        """Cancel all jobs of the stage of which no record tells, and remove record and tree."""
        for engine in engines:
            for number in places.find_jobs(engine, self.log, self.name):
                print(f"{self.stage}: job {number} of {engine} has no whole record and is cancelled.", flush=True)
                places.cancel(engine, self.log, number)
        self.end(self.unchanged(outs))

    def unchanged(self, outs):
        """Return the outputs that begin with what was there, and that nobody has changed since the job was sent."""
        return [path for path, begins in outs.items() if begins and self.record.exists() and self.is_newest(path)]

    def is_newest(self, path):
        """Return whether nobody has changed an output in the checkout since the job was sent."""
        home, sent = self.root / path, self.record.stat().st_mtime
        return all(file.lstat().st_mtime <= sent for file in (home, *home.rglob("*")) if file.exists())

    def end(self, outs):
        """Bring home what is named of what the job wrote, and remove record and tree, in this order."""
        job_trees.bring_home(self.root, self.tree, outs)
        self.record.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _wait(job, told, poll_seconds, dvc):
    """Show what a job prints until it has a result; return the exit status of its command.

    Raises
    ------
    RuntimeError
        If the job ended without a result.
    Left
        If the DVC process that waits for this one is gone.
    """
    shown = ended = 0
    before, looked = None, -poll_seconds
    while True:
        status = places.exit_status(told["engine"], job.log, told["job"])
        shown = _show(job.output, shown)
        if status is not None:
            return status
        if dvc and not _is_there(dvc):
            raise Left
        now = time.monotonic()
        if now - looked >= poll_seconds:
            looked, state = now, places.job_state(told["engine"], job.log, told["job"])
            if state != before:
                print(f"{job.stage}: job {told['job']} of {told['engine']} is {state.lower()}.", flush=True)
                before = state
            ended = 0 if places.is_alive(state) else ended or now
        if ended and now - ended >= _LATE_SECONDS[told["engine"]]:
            raise RuntimeError(
                f"{job.stage}: job {told['job']} of {told['engine']} ended as {before} and left no result; what it "
                f"printed stands above, submitit's own files lay in {job.log}."
            )
        time.sleep(min(poll_seconds, 0.5))


def _show(output, shown):
    """Print what was added to a file; return how many bytes of it are shown."""
    try:
        with open(output, "rb") as file:
            file.seek(shown)
            more = file.read()
    except FileNotFoundError:
        return shown
    if more:
        sys.stdout.write(more.decode(errors="replace"))
        sys.stdout.flush()
    return shown + len(more)


def still_running(root=paths.ROOT):
    """Return the stages whose jobs still wait or run, each with the name of the place that its job was sent to.

    Raises
    ------
    ValueError
        In one sentence, if the record of a job is damaged.
    """
    found = {}
    for record in sorted((root / "data" / "partial" / "jobs").glob("*/job.json")):
        job = _Job(record.parent.name, root)
        told = job.told()
        if told and _is_running(job, told):
            found[job.stage] = told["place"]
    return found


def _is_running(job, told):
    if not told["job"]:
        if told["engine"] == "slurm" and not job.is_of_slurm():
            return False
        try:
            return bool(places.find_jobs(told["engine"], job.log, job.name))
        except RuntimeError:  # nobody knows
            return True
    state = places.job_state(told["engine"], job.log, told["job"])
    return places.is_alive(state) and not _result_is_there(told, job.log)


def _result_is_there(told, log):
    try:
        return places.exit_status(told["engine"], log, told["job"]) is not None
    except RuntimeError:
        return True


def _joined(job, engine, outs, key):
    """Return the record of the job that is to be joined; if there is none, nothing of an earlier one is left."""
    engines = {"local", engine, *["slurm"] * job.is_of_slurm()}
    try:
        told = job.told()
    except _DamagedError:
        told = None
    if told and told["job"] and told["key"] == key:
        print(f"{job.stage}: joining job {told['job']} of {told['engine']}.", flush=True)
        return told
    if told and told["job"]:
        print(f"{job.stage}: job {told['job']} has other dependencies and is cancelled.", flush=True)
        places.cancel(told["engine"], job.log, told["job"])
    job.clear(sorted(engines), outs)
    return None


def send(words, stage, place, root=paths.ROOT):
    """Run the command of a stage at a place, or join the job that does; return its exit status.

    Parameters
    ----------
    words : list of str
    stage : str
        As DVC calls it, such as `train@quick-pneumothorax_nlp`.
    place : Place
    root : Path
        The checkout, which every node must see at the same path.

    Raises
    ------
    ValueError
        In one sentence, if the place cannot be used.
    RuntimeError
        If the job was lost, or the queue does not say whether one of the stage runs.
    """
    dvc = _dvc_process()
    job = _Job(stage, root)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(job.folder.parent / f"{job.folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until one that was left behind has noticed
        outs, key = _described(stage, root)
        told = _joined(job, place.engine, outs, key) or job.send(place, words, outs, key)
        kept = [path for path, begins in outs.items() if begins]  # what DVC leaves of a stage that failed
        try:
            status = _wait(job, told, place.poll_seconds, dvc)
        except Left:
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(
                f"{stage}: job {told['job']} of {told['engine']} goes on, and the next `make repro` joins it "
                f"(`{places.how_to_end(told['engine'], job.log, told['job'])}` ends it)."
            )
        except RuntimeError:
            places.cancel(told["engine"], job.log, told["job"])  # Slurm may have put it back into the queue
            job.end(kept)
            raise
        job.end(kept if status else outs)
        return status
