"""Whatever is cited is in docs/references.bib, and docs/references.md lists the same works."""

import json
import re
from urllib.parse import unquote

import pytest

from cxrlib.base import paths
from cxrlib.commands import readme

BIB = (paths.ROOT / "docs/references.bib").read_text()
ENTRIES = dict(re.findall(r"^@\w+\{(\w+),\n(.*?)^\}$", BIB, re.M | re.S))
LISTED = (paths.ROOT / "docs/references.md").read_text()
WITHOUT_DOI = set("zhang2019 shin2015 siim2019 zech2018 zbabar holm1979 chang2009 mongan2020 sounderajah2025".split())


def fields(entry):
    """Return the fields of an entry, without their braces."""
    return {name: value.strip("{}") for name, value in re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.M)}


def cited(text):
    """Return the DOIs and arXiv numbers of the links in a text; one of arXiv's DOIs is its number."""
    dois = [unquote(doi) for doi in re.findall(r"doi\.org/(10\.[^\s)>\"\\]+)", text)]
    numbers = set(re.findall(r"arxiv\.org/abs/(\d+\.\d+)", text))
    return {doi.removeprefix("10.48550/arXiv.") for doi in dois} | numbers


def marks(entry):
    """Return the DOI and the arXiv number of an entry, as `cited` does."""
    found = fields(entry)
    return {found.get("doi", "").removeprefix("10.48550/arXiv."), found.get("eprint", "")} - {""}


KNOWN = set().union(*map(marks, ENTRIES.values()))


def test_every_entry_is_whole():
    assert len(ENTRIES) == BIB.count("\n@") + 1 >= 60
    for key, entry in ENTRIES.items():
        found = fields(entry)
        assert found["author"] and found["title"], key
        assert ("doi" in found) != (key in WITHOUT_DOI), key


@pytest.mark.parametrize("name", [page.relative_to(paths.ROOT).as_posix() for page in readme.pages()])
def test_what_a_page_cites_is_known(name):
    assert cited((paths.ROOT / name).read_text()) <= KNOWN


def test_what_cards_and_notebooks_cite_is_known():
    texts = [(paths.ROOT / "cxrlib/releases/cards.yaml").read_text()]
    for path in (paths.ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert cited("\n".join(texts)) <= KNOWN
    dois = set(re.findall(r"doi: (\S+)", texts[0]))
    assert {doi.removeprefix("10.48550/arXiv.") for doi in dois} <= KNOWN


def test_the_list_of_references_has_every_entry():
    there = cited(LISTED)
    for key, entry in ENTRIES.items():
        found = fields(entry)
        title = found["title"].split(":")[0].split(" (")[0].split(",")[0]
        assert marks(entry) & there or title in " ".join(LISTED.split()) or found.get("url", "none") in LISTED, key
    assert there <= KNOWN
