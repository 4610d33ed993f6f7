"""Files that are whole or not there: written beside their place, and given their name once they are finished.

A process may be killed, or a disk be full, at any moment. So no file that somebody takes as finished because it is
there is written under its own name. What is written lies beside it as `.<name>.<host>.<process>.partial`, on the same
file system, so that giving it its name is one step; what a killed process left of it goes when the file is next
written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING = "partial"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_SPACE_BYTES = 1 << 16  # a disk with less is full, whatever a library says of a write that failed


class UnwrittenError(OSError):
    """A file could not be written; `str` of it is one sentence."""


def unfinished(path: Path) -> Path:
    """Return where a file is written until it is whole; what killed processes left of it is removed."""
    path = Path(path)
    host = socket.gethostname()
    for old in path.parent.glob(f".{_quoted(path.name)}.{_quoted(host)}.*.{_ENDING}"):
        pid = old.name.split(".")[-2]
        if pid.isdigit() and int(pid) != os.getpid() and not _lives(int(pid)):
            old.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.{_ENDING}")


def finish(new: Path, path: Path) -> None:
    """Give a finished file its name, in place of what has it; it is on the disk before that."""
    with open(new, "rb") as file:
        os.fsync(file.fileno())
    if path.exists():
        os.chmod(new, path.stat().st_mode & 0o777)
    os.replace(new, path)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the place to write a file in; at the end of the `with` it has its name, after an error nothing changed.

    Parameters
    ----------
    path : Path
        Its folder must be there.

    Yields
    ------
    Path
        Beside it. Its name ends in `.partial`: `numpy.save`, which adds an ending to others, needs an open file.

    Raises
    ------
    UnwrittenError
        If the disk is full or the folder must not be written, in one sentence that names the file.
    """
    path = Path(path)
    new = unfinished(path)
    try:
        yield new
        finish(new, path)
    except BaseException as error:
        full = isinstance(error, Exception) and not isinstance(error, OSError) and _is_full(path.parent)
        with contextlib.suppress(OSError):
            new.unlink()
        if full:  # torch and safetensors have errors of their own for it
            raise UnwrittenError(not_written(path, OSError(errno.ENOSPC, ""))) from None
        with naming(path):
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn the error of a full disk or of a forbidden place into an `UnwrittenError` that names what was written."""
    try:
        yield
    except OSError as error:
        if error.errno in (*_FULL, *_FORBIDDEN):
            raise UnwrittenError(not_written(path, error)) from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all, as `replacing`."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def not_written(path: Path, error: OSError) -> str:
    """Return the sentence that says why a file could not be written, and what to do."""
    code = error.errno or 0
    reason = os.strerror(code) if code else str(error)
    if code in _FULL:
        free = ""
        with contextlib.suppress(OSError):
            free = f", {shutil.disk_usage(path.parent).free / 2**20:.1f} MiB free"
        return f"{path} cannot be written ({reason}{free}): make space on its disk and run it again."
    if code in _FORBIDDEN:
        return f"{path} cannot be written ({reason}): give yourself the right to write into {path.parent}."
    return f"{path} cannot be written ({reason}): see to its folder's permissions and space."


def _quoted(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_full(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _NO_SPACE_BYTES
    return False
