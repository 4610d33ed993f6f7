"""Open-i's chest radiograph reports (Indiana University): one XML file each, 3,955 in the torchxrayvision package."""

import functools
import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from cxrlib.base import bounded, paths, xml_files

ARCHIVE = "NLMCXR_reports.tgz"


@dataclass(frozen=True)
class Report:
    """A report of Open-i.

    Attributes
    ----------
    report_id : str
        For example `CXR1`.
    sections : dict
        Heading to text, in the report's order: comparison, indication, findings, impression.
    codes : tuple of str
        Human MeSH and RadLex codes, as `Opacity/lung/base/left`.
    images_n : int
    """

    report_id: str
    sections: dict
    codes: tuple
    images_n: int

    @property
    def text(self):
        """The report as text, a heading and a paragraph per section."""
        return "\n\n".join(f"{heading}: {text}" for heading, text in self.sections.items() if text)

    @property
    def read_text(self):
        """What a labeler is to read: findings and impression alone, since a question is no finding."""
        kept = ("FINDINGS", "IMPRESSION")
        return "\n".join(f"{heading}: {text}" for heading, text in self.sections.items() if text and heading in kept)


def parse(data, where):
    """Return the `Report` in the XML of one file.

    Parameters
    ----------
    data : bytes
    where : str
        For the messages.

    Raises
    ------
    ValueError
        If it is not XML, declares entities, or is not a report of Open-i.
    """
    try:
        root = xml_files.parse_xml(data)
    except ValueError as error:
        raise ValueError(f"{where} is {error}.") from None
    named = root.find("uId")
    if named is None or not named.get("id"):
        raise ValueError(f"{where} is not a report of Open-i: it has no uId.")
    parts = [(part.get("Label", "FINDINGS"), "".join(part.itertext())) for part in root.iter("AbstractText")]
    sections = {heading: " ".join(text.split()) for heading, text in parts}
    codes = tuple((code.text or "").strip() for code in root.iterfind(".//MeSH/major"))
    return Report(named.get("id"), sections, codes, len(root.findall("parentImage")))


def part(report_id):
    """Return what a report may be used for.

    Returns
    -------
    str
        `apart`: nothing is trained or tuned on it (`openi_apart.txt`). Else by the first byte of the id's
        SHA-256: even `development`, on which rules were written and networks learn, odd `test`.
    """
    if report_id in _apart():
        return "apart"
    return "test" if hashlib.sha256(report_id.encode()).digest()[0] % 2 else "development"


@functools.cache
def _apart():
    lines = (Path(__file__).parent / "openi_apart.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def read_reports(path=None):
    """Yield the reports of an archive, in its order.

    Parameters
    ----------
    path : Path, optional
        A .tgz of XML files; the one in the torchxrayvision package if none is given.

    Raises
    ------
    ValueError
        If it is no archive, or a file in it is no report.
    """
    for name, data in members(path):
        yield parse(data, name)


def members(path=None):
    """Yield `name, bytes` of the XML files of an archive; the name says archive and file."""
    path = path or paths.torchxrayvision_data(ARCHIVE)
    try:
        with bounded.open_tar(path) as archive:
            for member in archive:
                if member.name.endswith(".xml") and member.isfile():
                    yield f"{path}: {member.name}", bounded.read_member(archive, member, path)
            bounded.check_end(archive)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{path} is not a whole .tgz archive ({error}).") from None
