"""What tests of the built site share: its pages as parsed HTML, and what a stored data frame holds."""

import functools
import json
import posixpath
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup


class BuiltSite:
    """A built site: its folder, the pages that it was built of, and what Sphinx warned of."""

    def __init__(self, folder, pages, warnings):
        self.folder, self.pages, self.warnings = folder, pages, warnings

    def page_of(self, file):
        """Return the parsed page of a file of the repository."""
        docname = next(page.docname for page in self.pages if page.file == file)
        return self.html(f"{docname}.html")

    @functools.cache  # noqa: B019  as long-lived as the session
    def html(self, name):
        """Return a parsed page by its place in the site."""
        return BeautifulSoup((self.folder / name).read_text(), "html.parser")

    @functools.cache  # noqa: B019
    def tags(self, name):
        """Return the start tags of a page, quicker than its tree: a list of name and attributes."""
        reader = _Tags()
        reader.feed((self.folder / name).read_text())
        return reader.found

    @functools.cache  # noqa: B019
    def anchors(self, name):
        """Return the ids of a page's elements."""
        return {attributes["id"] for _, attributes in self.tags(name) if "id" in attributes}

    def names(self):
        """Return the places of all HTML files of Sphinx, below the site's folder."""
        files = sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.html"))
        return [name for name in files if "_static/" not in name and not name.startswith("explorer/")]


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {key: value or "" for key, value in attrs}))


def stored_frames(path):
    """Return the data frames among a notebook's outputs: a list of lists of rows of the text of their values."""
    frames = []
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/html", ""))
            if 'class="dataframe"' in text:
                rows = BeautifulSoup(text, "html.parser").select("tbody tr")
                frames.append([[words(cell) for cell in row.find_all("td")] for row in rows])
    return frames


def words(node):
    """Return an element's text in one line."""
    return " ".join(node.get_text(" ").split())


def broken_links(site, names):
    """Return what links and sources of pages lead to no file, or to no place in it: `(page, target)`."""
    broken = []
    for name in names:
        for tag, attributes in site.tags(name):
            target = attributes.get("href", attributes.get("src"))
            parts = urlsplit(target or "")
            if target is None or parts.scheme or parts.netloc:
                continue
            place = posixpath.join(posixpath.dirname(name), unquote(parts.path))
            to = posixpath.normpath(place) if parts.path else name
            if not (site.folder / to).is_file():
                broken.append((name, target))
            elif tag == "a" and parts.fragment and to.endswith(".html"):
                if unquote(parts.fragment) not in site.anchors(to):
                    broken.append((name, target))
    return broken
