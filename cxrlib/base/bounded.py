"""Bounds on what a file from elsewhere may cost: its bytes, its pixels, what it expands to.

A file of a few kilobytes can ask for terabytes: an image whose header claims them, an archive that expands to them, a
pipe that never ends. What is beyond these bounds is refused with the bound and the remedy, before it is read.
"""

from __future__ import annotations

import bz2
import collections
import contextlib
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGE_PIXELS = 200_000_000  # the largest detectors and scanned films have 60 million
IMAGE_BYTES = 2**30
MEMBER_BYTES = 64 * 2**20  # of one file in an archive, and of one compressed document: reports have some kilobytes
RECORD_BYTES = 64 * 2**20  # of the JSON beside weights
EXPANSION = 200  # times; deflate makes at most 1,032 of one, text ten
FREE_BYTES = 64 * 2**20  # up to here anything may expand as it likes

_PIECE = 2**20

_NO_FILES = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a named pipe, from which nothing is read",
    stat.S_IFCHR: "it is a device, from which nothing is read",
    stat.S_IFBLK: "it is a device, from which nothing is read",
    stat.S_IFSOCK: "it is a socket, from which nothing is read",
}


class TooLargeError(ValueError):
    """What a file claims or expands to is beyond a bound; the message says the bound and the remedy."""


def size_text(size: int) -> str:
    """Return a number of bytes in words, such as `64 MiB`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:,.0f} {name}"
    return f"{size} bytes"


def hindrance(path: Path, most_bytes: int | None = None) -> str | None:
    """Return why a path cannot be read as a file, without a full stop and with the remedy; None if it can.

    Nothing is read of it, so that pipes and devices are known before they block or never end.

    Parameters
    ----------
    path : Path
    most_bytes : int, optional
        The largest size that is taken.
    """
    try:
        known = os.stat(path)
        reason = _NO_FILES.get(stat.S_IFMT(known.st_mode))
        if reason is None:
            with open(path, "rb"):
                pass
    except OSError as error:
        if path.is_symlink() and not path.exists():
            return "it is a link that leads to no file: mend or remove it"
        return f"it cannot be opened ({error.strerror}): check its name and its permissions"
    if reason is None and most_bytes is not None and known.st_size > most_bytes:
        return f"it has {size_text(known.st_size)}, and more than {size_text(most_bytes)} are not taken"
    return reason


def name_hindrance(path: Path) -> str | None:
    """Return why a path's name cannot stand in a table, without a full stop; None if it can."""
    return None if os.fsencode(path).decode("utf-8", "replace") == str(path) else "its name is not UTF-8: rename it"


def files_below(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the files of a folder and its sub-folders, sorted, and what there is besides.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    files : list of Path
        Those that can be read; links to files are followed, links to folders are not.
    hindered : list of (Path, str)
        What cannot be read, and folders that are not searched, each with the reason and the remedy.
    """
    files: list[Path] = []
    locked: list[OSError] = []
    hindered: list[tuple[Path, str]] = []
    for root, folders, names in os.walk(folder, onerror=locked.append):
        here = folder / os.path.relpath(root, folder)
        files += [here / name for name in names]
        linked = [here / name for name in folders if (here / name).is_symlink()]
        hindered += [
            (path, "it is a link to a folder, which is not searched: put the folder itself") for path in linked
        ]
    for error in locked:
        where = folder / os.path.relpath(error.filename, folder)
        hindered.append((where, f"this folder cannot be searched ({error.strerror}): check its permissions"))
    reasons = {path: name_hindrance(path) or hindrance(path) for path in sorted(files)}
    hindered += [(path, reason) for path, reason in reasons.items() if reason is not None]
    return [path for path, reason in reasons.items() if reason is None], sorted(hindered)


class _Bounded(io.RawIOBase):
    """A stream of unpacked bytes that raises `TooLargeError` where they are too many for what was packed.

    Parameters
    ----------
    inner : file
        Seekable, of unpacked bytes.
    path : Path
        Of the packed file.
    """

    def __init__(self, inner: IO[bytes], path: Path) -> None:
        super().__init__()
        self._inner, self._path = inner, path
        self._most = max(FREE_BYTES, EXPANSION * os.stat(path).st_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + self._inner.tell() if whence == io.SEEK_CUR else offset
        if whence == io.SEEK_END or target < self._inner.tell():
            return self._inner.seek(offset, whence)
        while (left := target - self._inner.tell()) > 0 and self._piece(min(left, _PIECE)):
            pass
        return self._inner.tell()

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MEMBER_BYTES:
            raise TooLargeError(
                f"{self._path} has an entry of {size_text(size)}, and more than {size_text(MEMBER_BYTES)} are not "
                "taken: leave it out."
            )
        left = self._most + 1 if size is None or size < 0 else size
        pieces = []
        while left > 0 and (piece := self._piece(min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._piece(min(len(buffer), _PIECE))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._inner.close()
        super().close()

    def _piece(self, size: int) -> bytes:
        piece = self._inner.read(size)
        if self._inner.tell() > self._most:
            raise TooLargeError(
                f"{self._path} expands to more than {size_text(self._most)}, over {EXPANSION} times its size: unpack "
                "it yourself if you trust it."
            )
        return piece


def _opener(path: Path) -> Callable[[Path, str], IO[bytes]]:
    """Return what opens a file for its unpacked bytes, by how it begins."""
    with open(path, "rb") as file:
        start = file.read(6)
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    return next((opener for mark, opener in openers.items() if start.startswith(mark)), open)  # type: ignore


def open_gzip(path: Path) -> io.BufferedReader:
    """Return the unpacked bytes of a .gz file as a stream.

    Reading it raises `TooLargeError` once it expands to more than `FREE_BYTES` and over `EXPANSION` times its size.
    """
    return io.BufferedReader(_Bounded(gzip.open(path, "rb"), path))  # type: ignore[arg-type]


def gunzipped(path: Path) -> bytes:
    """Return the unpacked bytes of one .gz document.

    Raises
    ------
    TooLargeError
        If they are more than `MEMBER_BYTES`.
    """
    with open_gzip(path) as file:
        data = file.read(MEMBER_BYTES + 1)
    if len(data) > MEMBER_BYTES:
        raise TooLargeError(f"it expands to more than {size_text(MEMBER_BYTES)}: unpack it yourself if you trust it")
    return data


@contextlib.contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a .tar archive, which may be packed by gzip, bzip2 or xz, for reading one entry after the other.

    Nothing of it is ever unpacked onto the disk, so that no name in it can lead anywhere.

    Raises
    ------
    TooLargeError
        While it is read, if it expands as `open_gzip` says, or a header or file in it is beyond `MEMBER_BYTES`.
    tarfile.TarError, EOFError, zlib.error, OSError
        If it is damaged.
    """
    try:
        with contextlib.ExitStack() as opened:
            inner = opened.enter_context(_opener(path)(path, "rb"))
            yield opened.enter_context(tarfile.open(fileobj=_Bounded(inner, path), mode="r:"))
    except lzma.LZMAError as error:
        raise tarfile.ReadError(str(error)) from None


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    """Return the bytes of one file in an open archive.

    Parameters
    ----------
    archive, member
        The member is a file, neither link, folder nor device.
    path : Path
        Of the archive, for the message.

    Raises
    ------
    TooLargeError
        If it is beyond `MEMBER_BYTES`.
    """
    if member.size > MEMBER_BYTES:
        raise TooLargeError(
            f"{path}: {member.name!r} has {size_text(member.size)}, and more than {size_text(MEMBER_BYTES)} are not "
            "taken: leave it out."
        )
    file = archive.extractfile(member)
    assert file is not None, "the member is a file"
    return file.read()


def check_end(archive: tarfile.TarFile) -> None:
    """Read an archive to its end, and raise if it goes on where its list of files ended.

    Without it, tarfile takes a list that breaks off for the end, and a cut in the packing goes unnoticed.

    Raises
    ------
    tarfile.ReadError, TooLargeError, EOFError, zlib.error, OSError
    """
    assert archive.fileobj is not None, "the archive is open for reading"
    while chunk := archive.fileobj.read(_PIECE):
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("its list of files breaks off")


def check_zip(path: Path) -> None:
    """Raise unless a file is a zip archive that can be read without harm, such as .npz and weights of torch.

    Raises
    ------
    zipfile.BadZipFile
        If it is none, is damaged, has a name twice, or is encrypted.
    TooLargeError
        If it says that it expands to more than `FREE_BYTES` and over `EXPANSION` times its size.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    twice = [name for name, n in collections.Counter(entry.filename for entry in entries).items() if n > 1]
    if twice:
        raise zipfile.BadZipFile(f"it has {twice[0]!r} twice")
    if any(entry.flag_bits & 1 for entry in entries):
        raise zipfile.BadZipFile("it is encrypted")
    most = max(FREE_BYTES, EXPANSION * os.stat(path).st_size)
    if sum(entry.file_size for entry in entries) > most:
        raise TooLargeError(f"it expands to more than {size_text(most)}, over {EXPANSION} times its size")


def check_deflated(data: bytes) -> None:
    """Raise unless raw deflated bytes, such as those of a deflated DICOM file, expand within the bounds.

    Raises
    ------
    TooLargeError
        If they expand to more than `FREE_BYTES` and over `EXPANSION` times their size, or to over `IMAGE_BYTES`.
    zlib.error
        If they are damaged.
    """
    most = min(IMAGE_BYTES, max(FREE_BYTES, EXPANSION * len(data)))
    unpack, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while data and not unpack.eof:
        size += len(unpack.decompress(data, _PIECE))
        data = unpack.unconsumed_tail
        if size > most:
            raise TooLargeError(f"it expands to more than {size_text(most)}")
