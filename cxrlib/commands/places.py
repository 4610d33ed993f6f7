"""Where the commands of stages run: a file of `places/`, and jobs that submitit sends there.

The same call sends a command to Slurm or to a process of this machine (`engine: local`). submitit asks `sacct` how a
job does, which needs an accounting database that many clusters lack; here its result file is asked, and `squeue`.
"""

import contextlib
import dataclasses
import hashlib
import os
import pickle
import shlex
import signal
import subprocess
import time
from pathlib import Path

from cxrlib.base import paths, yaml_files

ENGINES = ("slurm", "local")
# States of `squeue` from which a job goes on by itself; from any other it has ended, or is unknown.
_ALIVE: tuple[str, ...] = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD")
_ALIVE += ("REQUEUE_FED", "RESIZING", "SPECIAL_EXIT", "STAGE_OUT", "SIGNALING", "STOPPED", "SUSPENDED")
_ALIVE += ("RESV_DEL_HOLD", "PREEMPTED")
UNKNOWN = "UNKNOWN"  # the queue does not answer
# What pickle raises for a file that is cut short or has zeros, beside what submitit raises.
_CUT_SHORT = (EOFError, pickle.UnpicklingError, AttributeError, ImportError, LookupError, TypeError, ValueError)
_SIGNALLED_SECONDS = 60  # more than Slurm's usual KillWait, 30
PLACE = "CXR_PLACE"  # the variable that names the place to what runs stages; its absence means here
_DASK = "CXR_DASK"  # the variable with the address of the scheduler that a stage's kernel connects to
KERNEL_STARTUP = Path(__file__).with_name("kernel_startup.py")  # what that kernel runs first


@dataclasses.dataclass(frozen=True)
class Place:
    """What a file of `places/` says; the fields are described in places/slurm.yaml."""

    name: str
    engine: str
    jobs: int = 1
    poll_seconds: float = 10
    each: dict = dataclasses.field(default_factory=dict)
    stages: dict = dataclasses.field(default_factory=dict)
    dask: dict = dataclasses.field(default_factory=dict)

    def asks(self, stage):
        """Return what the job of a stage asks for, in submitit's words."""
        return {**self.each, **self.stages.get(stage.split("@")[0], {})}


def open_place(name, root=paths.ROOT):
    """Return a place.

    Parameters
    ----------
    name : str
        Of a file `places/NAME.yaml`, or the path of a file elsewhere.
    root : Path

    Raises
    ------
    ValueError
        In one sentence, if there is no such place or its file says what no place has.
    """
    path = Path(name) if name.endswith(".yaml") else root / "places" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (root / "places").glob("*.yaml")))
        raise ValueError(f"There is no place {path}: places/ has {known}.")
    told = yaml_files.read_yaml(path, str(path))
    fields = [field.name for field in dataclasses.fields(Place)][1:]
    if not isinstance(told, dict) or set(told) - set(fields):
        other = ", ".join(sorted(set(told) - set(fields))) if isinstance(told, dict) else repr(told)
        raise ValueError(f"{path} has {other}, which no place has; it may have {', '.join(fields)}.")
    if told.get("engine") not in ENGINES:
        raise ValueError(f"{path} has the engine {told.get('engine')!r}: it is one of {', '.join(ENGINES)}.")
    for part in ("each", "stages", "dask"):
        if not isinstance(told.get(part, {}), dict):
            raise ValueError(f"{path} has {part}: {told[part]!r}, which is no mapping of names to values.")
    for part in ("jobs", "poll_seconds"):
        number = told.get(part, 1)
        if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
            raise ValueError(f"{path} has {part}: {number!r}, which is no number above 0.")
    return Place(name=name, **told)


def _dask_cluster(place, options, workers):
    if place.engine == "local" and options:
        raise ValueError(f"Place {place.name} has {', '.join(options)} of dask: on this machine it has only workers.")
    try:
        import dask
        import dask_jobqueue
        import distributed

        if place.engine == "local":
            return distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
        # One thread a worker: what stages divide has state of its process, such as files that are open.
        cores = options.get("cores", dask.config.get("jobqueue.slurm.cores", None))
        if cores is not None and options.get("processes", cores) != cores:
            raise ValueError(f"it has processes: {options['processes']}, but each of {cores} cores is a process.")
        options |= {"processes": cores, "log_directory": options.get("log_directory", str(paths.partial_dir("logs")))}
        cluster = dask_jobqueue.SLURMCluster(**options)
    except ModuleNotFoundError as error:
        raise ValueError(f'{error.name} is not installed: run pip install "cxrlib[cluster]".') from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"What place {place.name} has of dask is not understood: {error}") from None
    cluster.scale(workers)
    return cluster


@contextlib.contextmanager
def at_place(place):
    """Let stages run at a place while this lasts, with the Dask cluster that it has, if any.

    Raises
    ------
    ValueError
        In one sentence, if the Dask cluster cannot be had.
    """
    options = dict(place.dask)
    workers = options.pop("workers", 2)
    os.environ[PLACE] = place.name
    with contextlib.ExitStack() as stack:
        stack.callback(os.environ.pop, PLACE)
        if place.dask:
            cluster = stack.enter_context(_dask_cluster(place, options, workers))
            os.environ[_DASK] = cluster.scheduler_address
            stack.callback(os.environ.pop, _DASK)
        yield


def join_dask():
    """Send what joblib divides among processes to the Dask cluster of the place, if there is one."""
    address = os.environ.get(_DASK)
    if address:
        import distributed
        import joblib

        joblib.parallel_config(backend="dask", client=distributed.Client(address))


class Command:
    """A command as a job runs it: it starts afresh whenever the job does, and its exit status is the result.

    Parameters
    ----------
    words : list of str
    folder : Path
        Where it runs.
    output : Path
        To which what it prints is added.
    afresh : list of Path
        Files and folders that are taken away before it starts, which a node that died may have left half-written.
    without : list of str
        Variables of the environment that it does not get.
    """

    def __init__(self, words, folder, output, afresh=(), without=()):
        self.words, self.folder, self.output = words, folder, output
        self.afresh, self.without = list(afresh), list(without)

    def __call__(self):
        """Run the command; return its exit status."""
        from cxrlib.commands import job_trees

        if os.environ.get("SUBMITIT_EXECUTOR") == "local":  # a group of its own, so that it can be ended as a whole
            os.setsid()
            _group(self.output.parent).write_text(str(os.getpid()))
        for path in self.afresh:
            job_trees.remove(path)
        environment = {name: value for name, value in os.environ.items() if name not in self.without}
        with open(self.output, "ab") as output:
            status = subprocess.run(
                self.words, cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
            ).returncode
            if status < 0:
                output.write(f"The command was killed by signal {-status}.\n".encode())
        if status < 0 and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            time.sleep(_SIGNALLED_SECONDS)  # then this process is about to be killed as well, and perhaps requeued
        return status

    def checkpoint(self):
        """Return the same command again: submitit requeues it when its time is up or another job takes its node."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _group(folder):
    """Return the file that has the process group of a local job."""
    return folder / "group"


def job_name(stage, root):
    """Return the name by which the jobs of a stage are found again: no other stage has it, and no other checkout."""
    return f"{stage}.{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:8]}"


def submit(place, stage, command, folder, name):
    """Send a command to a place; return the id of its job, a str.

    Parameters
    ----------
    place : Place
    stage : str
    command : Command
    folder : Path
        Where submitit keeps the job's files; every node must see it.
    name : str
        Of the job, `job_name`.

    Raises
    ------
    ValueError
        In one sentence, if submitit is not installed, there is no Slurm, or the place asks for what it does not have
        or gives its jobs a name of its own.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise ValueError('The package submitit is not installed: run pip install "cxrlib[cluster]".') from None
    asks = place.asks(stage)
    named = {"name", "slurm_job_name"} & set(asks)
    named |= {"job-name", "job_name"} & set(asks.get("slurm_additional_parameters", {}))
    if named:
        raise ValueError(
            f"Place {place.name} has {min(named)} for {stage}: take it away, since a job is found again by the name "
            f"{name}."
        )
    more = {"slurm_additional_parameters": {"requeue": True, **asks.pop("slurm_additional_parameters", {})}}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a job outlives Ctrl+C; what it starts inherits this
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=place.engine)
        executor.update_parameters(**{"name": name, **asks, **more})
        conf = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
        with submitit.helpers.clean_env():  # this process may itself be in a job
            os.environ.update(conf)
            return executor.submit(command).job_id
    except (NameError, TypeError, AssertionError) as error:
        raise ValueError(f"What place {place.name} asks for {stage} is not understood: {error}") from None
    except (RuntimeError, subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        raise ValueError(f"{stage} could not be sent to place {place.name}: {error}") from None
    finally:
        signal.signal(signal.SIGINT, before)


def _job(engine, folder, number):
    from submitit.local.local import LocalJob
    from submitit.slurm.slurm import SlurmJob

    return {"slurm": SlurmJob, "local": LocalJob}[engine](folder=folder, job_id=number, tasks=[0])


def exit_status(engine, folder, number):
    """Return the exit status of a job's command, or None as long as it has left none.

    Raises
    ------
    RuntimeError
        If the job itself failed before or after its command, with what submitit says of it, or if its result cannot
        be read.
    """
    from submitit.core.utils import FailedJobError, UncompletedJobError

    job = _job(engine, folder, number)
    if not job.paths.result_pickle.exists():
        return None
    try:
        return job.result()
    except (FailedJobError, UncompletedJobError) as error:
        raise RuntimeError(str(error)) from None
    except _CUT_SHORT as error:
        raise RuntimeError(
            f"Job {number} of {engine} is lost: its result {job.paths.result_pickle} cannot be read "
            f"({type(error).__name__}), as after a node lost power; run `make repro` again, which sends it anew."
        ) from None


def _queue(*words):
    """Return the words that `squeue` says of some jobs, or None if it does not answer."""
    try:
        done = subprocess.run(["squeue", "--noheader", *words], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    return done.stdout.split()


def _words(pid, what):
    """Return the words of a file of `/proc` on a process."""
    return Path("/proc", pid, what).read_bytes().decode(errors="surrogateescape").split("\0")


def _parent(pid):
    return Path("/proc", pid, "stat").read_text(errors="replace").rpartition(")")[2].split()[1]


def _local_processes(folder):
    """Return the living processes of the local jobs of a folder, a dict of process id to job id, both str.

    They are known by the environment that a job's first process got and that all inherit which it starts. After a
    restart of the machine, an id alone may be a stranger's.
    """
    numbers, parents = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            try:
                variables = dict(word.split("=", 1) for word in _words(pid, "environ") if "=" in word)
                ours = shlex.split(variables.get("SUBMITIT_LOCAL_COMMAND", ""))[-1:] == [str(folder)]
                number = variables.get("SUBMITIT_LOCAL_JOB_ID")
            except PermissionError:  # another user's
                words = _words(pid, "cmdline")
                ours = str(folder) in words and bool({"submitit.local._local", "submitit.core._submit"} & set(words))
                number = _parent(pid) if "submitit.core._submit" in words else None
            if ours:
                numbers[pid], parents[pid] = number, _parent(pid)
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    # The first process has no number but is it; a shell, if there are lines of `setup`, has started another without.
    return {pid: number or (parents[pid] if parents[pid] in numbers else pid) for pid, number in numbers.items()}


def _being_sent(folder):
    """Return whether an `sbatch` of this host that nobody waits for any more has still to send a job of a folder."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if any(word.startswith(f"{folder}/.submission_file_") for word in _words(pid, "cmdline")):
                return True
    return False


def job_state(engine, folder, number):
    """Return the state of a job in Slurm's words: `RUNNING`, `PENDING`; `UNKNOWN` if the queue does not answer.

    A job that Slurm has forgotten is `GONE`, and a local one of which no process lives.
    """
    if engine == "local":
        return "RUNNING" if number in _local_processes(folder).values() else "GONE"
    words = _queue("--states=all", "--jobs", number, "--format=%T")
    return UNKNOWN if words is None else " ".join(words) or "GONE"


def is_alive(named_state):
    """Return whether a job of this state may still come to a result by itself."""
    return named_state == UNKNOWN or named_state in _ALIVE


def find_jobs(engine, folder, name):
    """Return the ids of the jobs of a name that wait or run, though there may be no record of them.

    Parameters
    ----------
    engine : str
    folder : Path
        Where submitit keeps their files, by which local ones are known.
    name : str
        `job_name`, by which those of Slurm are known.

    Raises
    ------
    RuntimeError
        In one sentence, if the queue does not answer.
    """
    if engine == "local":
        return sorted(set(_local_processes(folder).values()))
    while _being_sent(folder):
        time.sleep(0.2)
    words = _queue("--name", name, "--format=%A")
    if words is None:
        raise RuntimeError(
            f"It is not known whether a job {name} waits or runs, since squeue does not answer: run this where and "
            f"when `squeue --name {name}` does."
        )
    return words


def how_to_end(engine, folder, number):
    """Return the command that ends a job, for a person; it is `kill` of the process group of a local one."""
    if engine == "slurm":
        return f"scancel {number}"
    group = _group(folder.parent)
    return f"kill -- -{group.read_text() if group.exists() else f'$(cat {group})'}"


def cancel(engine, folder, number):
    """End a job, and wait until it is no longer there.

    Parameters
    ----------
    engine : str
    folder : Path
        Where submitit keeps its files.
    number : str

    Raises
    ------
    RuntimeError
        In one sentence, if it cannot be ended from here.
    """
    if engine == "slurm":
        while _queue("--jobs", number) != []:
            try:
                done = subprocess.run(["scancel", number], capture_output=True, text=True)
            except OSError as error:
                raise RuntimeError(
                    f"Job {number} of slurm cannot be cancelled here ({error.strerror}): run this where scancel is."
                ) from None
            if "denied" in done.stderr:
                raise RuntimeError(f"Job {number} of slurm is another user's: ask for its end, then run this again.")
            time.sleep(1)
        return
    while pids := [pid for pid, job in _local_processes(folder).items() if job == number]:
        for pid in sorted(pids, key=lambda pid: pid != number):  # that first which might start the others again
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
            except PermissionError:
                raise RuntimeError(
                    f"Job {number} of local is another user's (process {pid}): ask for its end, then run this again."
                ) from None
        time.sleep(0.05)
