"""Links of Markdown pages, as they must be written where the page lies on the site."""

import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)[ \t]*$", re.S | re.M)
_LINK = re.compile(r'(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^()\s]+)(?P<title>\s+"[^"]*")?\)')
_NOTEBOOK = re.compile(r"\b(?P<word>[Nn]otebook) (?P<number>\d\d)\b")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)
# What a page may hand on as it is; larger files and folders are named, not copied.
_LARGEST = 5_000_000


@dataclass
class Addresses:
    """Where files of the repository lie on the site.

    Parameters
    ----------
    root : Path
        The repository.
    pages : dict of str to str
        File of the repository -> file of the site's source, POSIX paths from their roots, for all that are pages.
    copied : dict of str to str
        The same of files that pages refer to and that are not pages; filled while links are rewritten.
    downloads : bool
        Whether files that are neither pages nor pictures are copied, too; in print there is nothing to download.
    missing : set of tuple of str
        `(page, target)` of links to files that are not in the repository; filled too.
    numbered : list of tuple of str
        `(page, kind, name, caption)` of each figure and table that got a number; filled while pages are made.
    """

    root: Path
    pages: dict
    downloads: bool = True
    copied: dict = field(default_factory=dict)
    missing: set = field(default_factory=set)
    numbered: list = field(default_factory=list)

    def of(self, target):
        """Return where a file of the repository lies in the site's source, or None if it is not handed on."""
        if target in self.pages:
            return self.pages[target]
        path = self.root / target
        if not path.is_file() or path.suffix == ".ipynb" or path.stat().st_size > _LARGEST:
            return None
        if not self.downloads and path.suffix not in (".png", ".svg", ".jpg"):
            return None
        # Sphinx would look for a page behind the name of a Markdown file.
        return self.copied.setdefault(target, f"files/{target}" + (".txt" if path.suffix == ".md" else ""))


def rewritten(text, page, addresses):
    """Return the Markdown of a page with every link as it must be on the site, and notebooks that it names linked.

    Parameters
    ----------
    text : str
    page : str
        The file of the repository that the text is from; links in it are relative to it. An executed notebook's may
        be relative to its template, too.
    addresses : Addresses

    Returns
    -------
    str
        A link to a page leads to the page, a link to another file to a copy of it. A link to a folder, to a large
        file, to a template or to a file that is not there becomes its text; the last kind is noted in
        `addresses.missing`.
    """
    here = addresses.pages[page]

    def link(match):
        target, _, anchor = match["to"].partition("#")
        if _SCHEME.match(match["to"]) or not target:
            return match[0]
        found = _in_repository(target, page, addresses.root)
        if found is None:
            addresses.missing.add((page, target))
            return match["text"]
        at = addresses.of(found)
        if at is None:
            return match["text"]
        # The landing page stands for the README, whose sections it does not have.
        place = f"#{anchor}" if anchor and found != "README.md" else ""
        to = posixpath.relpath(at, posixpath.dirname(here) or ".") + place
        return f"{match['image']}[{match['text']}]({to}{match['title'] or ''})"

    def named(match):
        at = notebook_page(match["number"], page, addresses)
        if at is None or at == here:
            return match[0]
        return f"[{match[0]}]({posixpath.relpath(at, posixpath.dirname(here) or '.')})"

    def prose(part):
        pieces, end = [], 0
        for match in _LINK.finditer(part):
            pieces += [_NOTEBOOK.sub(named, part[end : match.start()]), link(match)]
            end = match.end()
        return "".join([*pieces, _NOTEBOOK.sub(named, part[end:])])

    pieces, end = [], 0
    for fence in _FENCE.finditer(text):
        pieces += [prose(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, prose(text[end:])])


def notebook_page(number, page, addresses):
    """Return the page of the notebook with a number: of the page's own edition, of every edition, or of `quick`."""
    folder = posixpath.dirname(page)
    for near in (folder, "paper", "paper/quick"):
        names = sorted(p for p in addresses.pages if posixpath.dirname(p) == near and p.endswith(".ipynb"))
        for name in names:
            if PurePosixPath(name).name.startswith(f"{number}_"):
                return addresses.pages[name]
    return None


def _in_repository(target, page, root):
    """Return a link's target as a path from the repository's root, or None if nothing is there."""
    folders = [posixpath.dirname(page)] + (["notebooks"] if page.endswith(".ipynb") else [])
    for folder in folders:
        found = posixpath.normpath(posixpath.join(folder, target))
        if not found.startswith("..") and os.path.lexists(root / found):
            return _executed(found, root)
    return None


def _executed(target, root):
    """Return the executed copy of a template, where a link leads to the template and the copy is there."""
    if not re.fullmatch(r"notebooks/\w+\.ipynb", target):
        return target
    name = posixpath.basename(target)
    copies = [f"paper/{name}", f"paper/quick/{name}"]
    return next((copy for copy in copies if (root / copy).is_file()), target)
