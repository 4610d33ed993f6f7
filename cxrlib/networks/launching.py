"""Several processes for one training, started from a notebook's cell by torchrun.

The processes are new ones: what the notebook imported, or did on a GPU, does not reach them, and they end when the
notebook's process does, however that ends.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager

from cxrlib.base import paths

_LAUNCHED = "CXR_LAUNCHED"  # set for processes of `launch`, whose standard input ends with the one that launched them


def launch(module, job, processes_n, log):
    """Run a module in several processes on this machine, and return when all have ended well.

    Parameters
    ----------
    module : str
        Run as `python -m <module> <job>` in each process, within `launched`.
    job : Path
        A file that tells the module what to do.
    processes_n : int
    log : Path
        For what the processes and torchrun print.

    Raises
    ------
    RuntimeError
        If a process fails or is killed: which one, why, and what to do. The others are ended.
    """
    for old in job.parent.glob("error.*.json"):
        old.unlink()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes_n}"]
    here = {_LAUNCHED: "1", "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo")}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*launcher, "-m", module, str(job)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=paths.ROOT,
            env={**os.environ, **here},
        )
        try:
            code = process.wait()
        finally:
            process.stdin.close()  # by which its processes end, if they have not
            process.wait()
    if code:
        raise RuntimeError(_sentence(job, processes_n, log))


def _sentence(job, processes_n, log):
    """Return which process failed and why, from torchrun's report and what the process wrote down itself."""
    report = log.read_text(errors="replace")
    failures = [(int(r), int(c)) for r, c in re.findall(r"rank +: (\d+).*?exitcode +: (-?\d+)", report, re.DOTALL)]
    killed = [(r, -c) for r, c in failures if c < 0 and -c != signal.SIGTERM]  # SIGTERM: torchrun ended it
    again = "Run it again: it goes on after its last whole epoch"
    if killed:
        which, number = killed[0]
        name = signal.Signals(number).name
        return (
            f"Process {which} of {processes_n}, counted from 0, was killed by {name}, and the others were ended. "
            f"{again}; if memory ran out, use fewer processes or a smaller batch. {log} has what they printed."
        )
    told = sorted(job.parent.glob("error.*.json"), key=lambda file: file.stat().st_mtime)
    if told:
        said = json.loads(told[0].read_text())
        return f"Process {said['rank']} of {processes_n}, counted from 0, failed: {said['message']}"
    return f"torchrun could not run {processes_n} processes. {again}; {log} has what they printed."


@contextmanager
def launched(job):
    """Let a process that `launch` started end with the one that launched it, and write down why it failed.

    Parameters
    ----------
    job : Path
        As the process was given it.
    """
    if os.environ.get(_LAUNCHED):
        threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        yield
    except Exception as error:
        rank = os.environ.get("RANK", "0")
        told = {"rank": int(rank), "message": str(error) or type(error).__name__}
        new = job.with_name(f".error.{rank}.json")
        new.write_text(json.dumps(told))
        os.replace(new, job.with_name(f"error.{rank}.json"))
        traceback.print_exc()
        raise


def _end_with_launcher():
    """Wait until the standard input ends, which the launching process holds open, and end this process."""
    while os.read(0, 1):
        pass
    os._exit(1)
