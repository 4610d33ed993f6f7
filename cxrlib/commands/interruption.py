"""What makes `make repro` safe to interrupt: one at a time, no process left behind, DVC's own files mended."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
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
    """Have the clone for oneself: whoever comes second says so, and waits until the first has ended.

    Raises
    ------
    whole_files.UnwrittenError
        If `data/partial/` must not be written, or the disk is full.
    """
    path = paths.partial_dir() / "repro.lock"
    with whole_files.naming(path):
        file = open(path, "a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            first = file.read().strip() or "unknown"
            sentence = f"Another `make repro` (process {first}) runs in this clone: this waits until it has ended."
            print(sentence, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        with whole_files.naming(path):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def is_torn(text):
    """Return whether a text is not all of a `dvc.lock`: DVC empties the file and writes it anew, in place."""
    try:
        told = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError:
        return True
    if not isinstance(told, dict) or "schema" not in told or not text.endswith("\n"):
        return True
    stages = told.get("stages", {})
    return not isinstance(stages, dict) or not all(map(_is_entry, stages.values()))


def _is_entry(entry):
    """Return whether what `dvc.lock` has of a stage is what DVC can read."""
    if not isinstance(entry, dict) or not entry.get("cmd"):
        return False
    files = [entry.get(key, []) for key in ("deps", "outs")]
    named = all(isinstance(each, list) and all(isinstance(e, dict) and e.get("path") for e in each) for each in files)
    settings = entry.get("params", {})
    return named and isinstance(settings, dict) and all(isinstance(value, dict) for value in settings.values())


def _cut(text, copy, root):
    """Return whether a `dvc.lock` ends at a line at which its copy goes on, and git has no such version of it.

    A version of git's that is shorter, of another branch or of an older commit, is whole.
    """
    here, kept = (re.split(r"(?m)^(?=  [^\s-])", each) for each in (text, copy))
    names, others = ([entry.partition("\n")[0] for entry in each] for each in (here, kept))
    if names != others[: len(names)]:
        return False
    if len(here) == len(kept) and (here[-1] == kept[-1] or not kept[-1].startswith(here[-1])):
        return False
    name = subprocess.run(["git", "hash-object", "dvc.lock"], cwd=root, capture_output=True, text=True)
    known = ["git", "cat-file", "-e", name.stdout.strip() or "none"]
    return subprocess.run(known, cwd=root, capture_output=True).returncode != 0


def _text(path):
    """Return the text of a file, empty if there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def keep_lock(root=None):
    """Keep a copy of `dvc.lock` in `data/partial/`, unless DVC is writing it."""
    root = root or paths.ROOT
    text, copy = _text(root / "dvc.lock"), root / "data" / "partial" / "dvc.lock"
    kept = _text(copy)
    if text != kept and not is_torn(text) and (is_torn(kept) or not _cut(text, kept, root)):
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
        If `dvc.lock` is damaged and there is no copy of it, or if a merge of git left it with both sides.
    """
    root = root or paths.ROOT
    lock, copy, held = root / "dvc.lock", root / "data" / "partial" / "dvc.lock", root / ".dvc" / "tmp" / "rwlock"
    said = []
    text, kept = _text(lock), _text(copy)
    if re.search(r"(?m)^<<<<<<< ", text):
        raise ValueError(
            f"{lock} has both sides of a merge: take one of them by `git checkout --ours dvc.lock` or "
            "`git checkout --theirs dvc.lock`, or resolve it by hand, and run `make repro` again."
        )
    if lock.exists() and (is_torn(text) or (not is_torn(kept) and _cut(text, kept, root))):
        if is_torn(kept):
            raise ValueError(f"{lock} is damaged: restore it by `git checkout dvc.lock` and run this again.")
        whole_files.write_text(lock, kept)
        said.append(f"{lock} was damaged: it is again as it was when the last stage had ended.")
    try:
        users = json.loads(held.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        held.unlink()
        said.append(f"{held} was damaged, a list of the files that DVC was using: it is removed.")
    else:
        living = _living(users)
        if living != users:
            whole_files.write_text(held, json.dumps(living))
    return said


def _living(users):
    """Return DVC's list of who uses which files without processes that have ended.

    DVC itself waits for a process that was killed and is not yet buried, and for any that has got its number since.
    """
    if not isinstance(users, dict):
        return users
    writes = {path: user for path, user in users.get("write", {}).items() if _is_alive(user)}
    reads = {path: [user for user in each if _is_alive(user)] for path, each in users.get("read", {}).items()}
    kept = {"write": writes, "read": {path: each for path, each in reads.items() if each}}
    return {**users, **{kind: kept[kind] for kind in users if kind in kept}}


def _is_alive(user):
    """Return whether the process of an entry of DVC's list lives and was called as the entry says.

    One that was killed has no command line, and one that has got its number since ends in other words.
    """
    try:
        with open(f"/proc/{int(user['pid'])}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).rstrip("\0").replace("\0", " ")
    except OSError:
        return False
    return bool(words) and words.endswith(user["cmd"].partition(" ")[2])
