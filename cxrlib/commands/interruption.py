"""What makes `make repro` safe to interrupt: one at a time, no process left behind, DVC's own files mended."""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

import yaml

from cxrlib.base import paths, whole_files

_PATIENCE_S = 15  # for stages to end by themselves after Ctrl+C, which the terminal sends to them too


def end(processes):
    """End processes and all that they started: wait for a while, since Ctrl+C reaches them too, then tell them."""
    deadline = time.monotonic() + _PATIENCE_S
    for tell in (signal.SIGTERM, signal.SIGKILL):
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in processes:
            for pid in [*descendants(process.pid), process.pid] if process.poll() is None else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, tell)
        deadline = time.monotonic() + 5


def descendants(pid):
    """Return the processes that a process started, and those that they did, the youngest first."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(word) for word in file.read().split()]
    except OSError:  # it has ended
        return []
    return [each for child in children for each in (*descendants(child), child)]


@contextlib.contextmanager
def alone():
    """Have the clone for oneself: whoever comes second says so, and waits until the first has ended."""
    with open(paths.partial_dir() / "repro.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            first = file.read().strip() or "unknown"
            sentence = (
                f"Another `make repro` (process {first}) runs in this clone: this one starts when it has ended."
            )
            print(sentence, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _torn(text):
    """Return whether a text is not all of a `dvc.lock`: DVC writes it in place, which takes a moment."""
    try:
        told = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError:
        return True
    return bool(text) and (not isinstance(told, dict) or "schema" not in told or not text.endswith("\n"))


def keep_lock(root=None):
    """Keep a copy of `dvc.lock` in `data/partial/`, unless DVC is writing it."""
    lock = (root or paths.ROOT) / "dvc.lock"
    text = lock.read_text(encoding="utf-8", errors="replace") if lock.exists() else ""
    if text and not _torn(text):
        copy = (root or paths.ROOT) / "data" / "partial" / "dvc.lock"
        copy.parent.mkdir(parents=True, exist_ok=True)
        whole_files.write_text(copy, text)


def mend(root=None):
    """Mend what DVC was writing when it was killed; return a sentence on each file that was mended.

    Parameters
    ----------
    root : Path, optional
        The checkout; this one if not given.

    Raises
    ------
    ValueError
        If `dvc.lock` is damaged and there is no copy of it.
    """
    root = root or paths.ROOT
    lock, copy, held = root / "dvc.lock", root / "data" / "partial" / "dvc.lock", root / ".dvc" / "tmp" / "rwlock"
    said = []
    if lock.exists() and _torn(lock.read_text(encoding="utf-8", errors="replace")):
        if not copy.exists() or _torn(copy.read_text(encoding="utf-8", errors="replace")):
            raise ValueError(f"{lock} is damaged: restore it by `git checkout dvc.lock` and run this again.")
        whole_files.write_text(lock, copy.read_text(encoding="utf-8"))
        said.append(f"{lock} was damaged: it is again as it was when the last stage had ended.")
    try:
        json.loads(held.read_text() or "{}")
    except FileNotFoundError:
        pass
    except ValueError:
        held.unlink()
        said.append(f"{held} was damaged, a list of the files that DVC was using: it is removed.")
    return said
