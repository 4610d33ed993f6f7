"""A Markdown page of `docs/` as a page of the site: tables of results and pictures numbered, with captions."""

import re
from pathlib import PurePosixPath

from cxrlib.site import figure_text, links

# A block of lines of one table: of a CSV, or made by a function.
_TABLE = re.compile(r"<!-- (?P<kind>table|made): (?P<path>.+?) -->\n(?P<rows>(?:\|.*\n)+)<!-- end -->")
# A picture that stands alone, and the paragraph in italics below it, if there is one.
_PICTURE = re.compile(
    r"^!\[(?P<alternative>[^\]]+)\]\((?P<to>[^()\s]+)\)[ \t]*$"
    r"(?:\n\n(?P<caption>\*(?:[^*\n]|\*\*)(?:(?!\n\n).)*\*)[ \t]*(?=\n\n|\n*\Z))?",
    re.M | re.S,
)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.M)
# What says where a number in a sentence is from, which `make readme` reads and a reader does not.
_MARKER = re.compile(r"<!-- (?:value|made|end)\b.*?-->", re.S)


def staged_markdown(text, page, addresses):
    """Return a page of `docs/` as Sphinx reads it.

    Parameters
    ----------
    text : str
        Markdown, as GitHub shows it.
    page : layout.Page
    addresses : links.Addresses

    Returns
    -------
    str
        With its number in its front matter, links as they must be on the site, a table for each block filled from a
        CSV, with a caption and the CSV to download, and a figure for each picture that stands alone.
    """
    stem = page.docname.replace("/", "-")
    counts = {"table": 0, "figure": 0}

    def section_of(match):
        headings = [m[1] for m in _HEADING.finditer(match.string[: match.start()])]
        return figure_text.without_markup(headings[-1]) if headings else page.docname

    def table(match):
        counts["table"] += 1
        name = f"{stem}-table-{counts['table']}"
        addresses.numbered.append((page.file, "table", name, section_of(match)))
        caption = section_of(match)
        if match["kind"] == "table":
            csv = "../" * page.file.count("/") + match["path"]
            caption += f" ([{PurePosixPath(csv).name}]({csv}))"
        # Rows that go on with what the row above says would lose it if they were sorted.
        sorts = "" if re.search(r"^\|\s*\|", match["rows"], re.M) else ":class: data\n"
        # Colons and not backticks, so that links in it are rewritten as elsewhere.
        return f":::{{table}} {caption}\n:name: {name}\n{sorts}\n{match['rows']}:::"

    def figure(match):
        moved = re.search(r"\]\((\S+)\)", links.rewritten(f"[x]({match['to']})", page.file, addresses))
        if moved is None:
            return match[0]
        counts["figure"] += 1
        alternative = figure_text.without_markup(match["alternative"])
        # An option of a directive is YAML, where a colon or a quotation mark would end it.
        quoted = '"' + alternative.replace("\\", "\\\\").replace('"', '\\"') + '"'
        caption = links.rewritten((match["caption"] or f"*{alternative}*")[1:-1], page.file, addresses)
        name = f"{stem}-figure-{counts['figure']}"
        addresses.numbered.append((page.file, "figure", name, figure_text.without_markup(caption)))
        return f"```{{figure}} {moved[1]}\n:name: {name}\n:alt: {quoted}\n\n{caption}\n```"

    staged = _PICTURE.sub(figure, _MARKER.sub("", _TABLE.sub(table, text)))
    number = f"---\nnumber: {page.number}\n---\n\n" if page.number else ""
    return number + links.rewritten(staged, page.file, addresses)
