"""Where each page stands on the site: its section of the sidebar, its place in it, and the number it goes by."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

INDEX = "docs/index.md"
LIST = "docs/figures_and_tables.md"  # written while the site is built

# Sections of the sidebar in order: caption, what its pages' numbers begin with, and patterns of pages in order. A
# page belongs to the first pattern that it fits. Of a section with None, pages have no number; "" counts 1, 2, ...
SECTIONS = (
    (
        "Paper",
        "",
        ("docs/methods.md", "docs/studies/*.md", "docs/beyond.md", "docs/results.md", "docs/limitations.md"),
    ),
    ("Reporting checklists", "C", ("docs/checklists/*.md",)),
    (
        "Data, label sets, models",
        "D",
        (
            "docs/data.md",
            "docs/label_sets/**/*.md",
            "docs/label_sets.md",
            "docs/labelers.md",
            "docs/model_cards/*.md",
        ),
    ),
    ("Notebooks of every edition", "N", ("paper/*.ipynb",)),
    ("Notebooks on simulated images (quick)", "N", ("paper/quick/*.ipynb",)),
    ("Notebooks on real images (nih_mini)", "N", ("paper/nih_mini/*.ipynb",)),
    ("Notebooks of other editions", "N", ("paper/**/*.ipynb",)),
    (
        "Guides",
        "G",
        ("docs/own_images.md", "docs/own_archive.md", "docs/maps.md", "docs/guides/*.md"),
    ),
    ("Reproduce", "R", ("docs/reproducing.md", "docs/design.md", "docs/references.md", LIST)),
    ("API", None, ("docs/api/index.md", "docs/api/**/*.md")),
    ("More", None, ("docs/**/*.md",)),
)
# The pages that `make pdf` prints as one: the notebooks are its supplement and print one by one.
PRINTED = ("Paper", "Reporting checklists")


@dataclass(frozen=True)
class Page:
    """A page: the file that it is from, its place in the site's source, its section and its number."""

    file: str
    staged: str
    section: str
    number: str | None = None

    @property
    def docname(self):
        """The page's name for Sphinx."""
        return str(PurePosixPath(self.staged).with_suffix(""))


def arrange(files):
    """Return the pages of the site in the order of the sidebar.

    Parameters
    ----------
    files : iterable of str
        Markdown below `docs/` and notebooks below `paper/`, as POSIX paths from the repository's root.

    Returns
    -------
    list of Page
        Pages of `docs/` lie at the site's root, notebooks in `paper/`. A notebook goes by the number in its name,
        with an N before it (`N36`); other pages by their place in their section (`2`, `D1`).
    """
    left = sorted(set(files) - {INDEX})
    pages = [Page(INDEX, "index.md", "")]
    for section, letter, patterns in SECTIONS:
        taken = []
        for pattern in patterns:
            fits = [f for f in left if _fits(f, pattern)]
            fits.sort(key=lambda f: (PurePosixPath(f).name != "index.md", _natural(f)))
            taken += fits
            left = [f for f in left if f not in fits]
        for place, file in enumerate(taken, 1):
            pages.append(Page(file, file.removeprefix("docs/"), section, _number(file, letter, place)))
    return pages


def variant(file, templates):
    """Return what an executed notebook's name has beyond its template's: `simulated` of `01_cohort_simulated`.

    Parameters
    ----------
    file : str
    templates : iterable of str
        Names of templates without their ending.
    """
    stem = PurePosixPath(file).stem
    fits = [name for name in templates if stem.startswith(f"{name}_")]
    return stem.removeprefix(max(fits, key=len) + "_") if fits else ""


def figure_list(pages, numbered):
    """Return the page that lists every numbered figure and table of the site, with links, as Markdown.

    Parameters
    ----------
    pages : list of Page
    numbered : iterable of tuple of str
        `(page, kind, name, caption)`, as `links.Addresses` collects them.
    """
    of_page = {}
    for file, _, name, caption in numbered:
        # What follows a name must not read as another link.
        words = re.sub(r"[\[\]{}`|<>]", "", caption)
        of_page.setdefault(file, []).append(f"- {{numref}}`{name}` {words}")
    lines = ["# Figures and tables", "", "Every numbered figure and table of the site, page by page."]
    for page in pages:
        if page.file in of_page:
            lines += ["", f"{{doc}}`/{page.docname}`", "", *of_page[page.file]]
    return "\n".join(lines) + "\n"


def toctrees(pages):
    """Return the hidden tables of contents of the landing page, which make the sidebar, as Markdown."""
    parts = []
    for section in dict.fromkeys(page.section for page in pages if page.section):
        names = "\n".join(f"/{page.docname}" for page in pages if page.section == section)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: {section}\n\n{names}\n```\n")
    return "\n".join(parts)


def _fits(file, pattern):
    """Return whether a file fits a pattern, in which `**/` is any folder, also none, and `*` no folder."""
    form = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(form, file) is not None


def _natural(file):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file)]


def _number(file, letter, place):
    if letter is None:
        return None
    if letter == "N":
        number = re.match(r"\d+", PurePosixPath(file).name)
        return f"N{number[0]}" if number else None
    return f"{letter}{place}"
