"""Archives that lead outside, claim what they do not hold, or expand beyond measure."""

import functools
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np

EMPTY = 80 * 2**20  # bytes of the bombs: over the 64 MiB that are allowed
REPORT = b"<eCitation><uId id='CXR9'/><AbstractText Label='FINDINGS'>Clear lungs.</AbstractText></eCitation>"


def member(name, content=REPORT, **more):
    """An entry of an archive: what is said of it, and its bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in more.items():
        setattr(info, field, value)
    return info, content


def tar(*members, packed=gzip.compress):
    """An archive of such entries."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return packed(stream.getvalue())


def _link(name, target, kind=tarfile.SYMTYPE):
    return member(name, b"", type=kind, linkname=target)


@functools.cache
def zeros(size):
    """As many zero bytes, packed, made in pieces."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=9) as file:
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    return stream.getvalue()


def _claimed(size, kind=tarfile.REGTYPE):
    """An archive whose entry claims a size; what follows is zeros."""
    info = tarfile.TarInfo("bomb.xml")
    info.size, info.type = size, kind
    head = info.tobuf(tarfile.USTAR_FORMAT if kind == tarfile.REGTYPE else tarfile.GNU_FORMAT)
    return gzip.compress(head) + zeros(EMPTY)


def _sparse():
    """An archive of one block whose only entry says that it is 4 GB of holes."""
    info = tarfile.TarInfo("holes.xml")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(4 * 2**30),
        "GNU.sparse.name": "holes.xml",
    }
    return tar((info, b""))


_GOOD = member("good.xml")

# Kind: the archive, and what is said: of the reports taken ("good" alone), or of the whole that is refused.
TAKEN, REFUSED = "taken", "refused"
BAD_ARCHIVES = {
    "archive with a way out": (TAKEN, lambda: tar(_GOOD, member("../../outside.xml")), "outside"),
    "archive with an absolute name": (TAKEN, lambda: tar(_GOOD, member("/tmp/outside.xml")), "outside"),
    "archive with a link out": (TAKEN, lambda: tar(_GOOD, _link("outside.xml", "/etc/passwd")), "1 link"),
    "archive with a hard link out": (
        TAKEN,
        lambda: tar(_GOOD, _link("outside.xml", "/etc/passwd", tarfile.LNKTYPE)),
        "1 link",
    ),
    "archive with a device": (TAKEN, lambda: tar(_GOOD, _link("zero.xml", "", tarfile.CHRTYPE)), "1 link"),
    "archive with a pipe": (TAKEN, lambda: tar(_GOOD, _link("pipe.xml", "", tarfile.FIFOTYPE)), "1 link"),
    "archive with a folder called .xml": (TAKEN, lambda: tar(_GOOD, _link("x.xml", "", tarfile.DIRTYPE)), None),
    "archive with a name twice": (TAKEN, lambda: tar(_GOOD, member("good.xml")), "id occurs before"),
    "archive with a program": (TAKEN, lambda: tar(_GOOD, member("run.sh", b"#!/bin/sh\n")), "1 .sh"),
    "archive cut short": (REFUSED, lambda: tar(_GOOD, packed=bytes)[:700], "damaged or cut off"),
    "archive cut in its packing": (REFUSED, lambda: tar(_GOOD)[:-20], "damaged or cut off"),
    "archive with a flipped byte": (REFUSED, lambda: _flipped(tar(_GOOD)), "damaged or cut off"),
    "archive that is text": (REFUSED, lambda: b"no archive at all\n" * 99, "damaged or cut off"),
    "archive that is encrypted": (REFUSED, lambda: b"Salted__" + bytes(range(256)) * 9, "damaged or cut off"),
    "archive that is a zip": (REFUSED, lambda: zipped({"a.xml": REPORT}), "damaged or cut off"),
    "archive of nothing": (REFUSED, lambda: tar(), "no .xml or .txt file"),
    "archive of a report of 70 MB": (REFUSED, lambda: _claimed(70 * 2**20), "more than 64 MiB are not taken"),
    "archive with a name of 70 MB": (
        REFUSED,
        lambda: _claimed(70 * 2**20, tarfile.GNUTYPE_LONGNAME),
        "more than 64 MiB are not taken",
    ),
    "archive of 80 MB of nothing": (REFUSED, lambda: tar(_GOOD) + zeros(EMPTY), "over 200 times its size"),
    "archive of 80 MB of nothing in xz": (
        REFUSED,
        lambda: lzma.compress(tar(_GOOD, packed=bytes) + bytes(EMPTY), preset=0),
        "over 200 times its size",
    ),
    "archive of 4 GB of holes": (REFUSED, _sparse, "more than 64 MiB are not taken"),
}


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255, content[middle + 1] ^ 255]) + content[middle + 2 :]


def zipped(files, **more):
    """A zip archive of such files, name to bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content, **more)
    return stream.getvalue()


def _array(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def zip_bomb(name, head=b"", **files):
    """A zip archive of some kilobytes: such files, and one of `head` and 80 MB of zeros."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for other, content in files.items():
            archive.writestr(other, content)
        with archive.open(name, "w") as file:
            file.write(head)
            for _ in range(80):
                file.write(bytes(1_000_000))
    return stream.getvalue()


@functools.cache
def npz_bomb():
    """A .npz file of 80 kB with 80 MB of zeros."""
    return zip_bomb("word_probabilities.npy", _array(np.zeros(1))[:-8].replace(b"(1,)", b"(4,)"))


def encrypted(content):
    """A zip archive that says that its entries are encrypted."""
    content = bytearray(content)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    return bytes(content)


def bad_npz(marker):
    """Return kind: content of a file that is to be a topic model (.npz)."""
    from bad_input.weights import array_of_objects

    plain = zipped({"about.npy": _array(np.array("{}"))})
    return {
        "model empty": b"",
        "model cut short": zipped({"about.npy": _array(np.arange(999))})[:-60],
        "model of objects": zipped({"about.npy": array_of_objects(marker)}),
        "model that expands to 80 MB": npz_bomb(),
        "model that is encrypted": encrypted(plain),
        "model that is a pickle": array_of_objects(marker),
        "model with a way out": zipped({"../../outside.npy": _array(np.arange(3))}),
    }
