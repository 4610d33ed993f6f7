"""An executed notebook as a page to read: its question first, its parameters once, code folded, figures captioned."""

import ast
import copy
import html
import io
import re
import tokenize

from cxrlib.site import figure_text, html_tables, links

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*$", re.M)


def staged_notebook(notebook, page, addresses, variant=""):
    """Return an executed notebook as it is rendered.

    Parameters
    ----------
    notebook : dict
        Of nbformat 4, with stored outputs; it is not changed.
    page : layout.Page
    addresses : links.Addresses
    variant : str
        What its title must say to differ from those of the same template's other copies, such as the cohort.

    Returns
    -------
    dict
        The same notebook with its title's line of purpose as a lead, links as they must be on the site, one folded
        table of parameters, code tagged to be folded, a caption and an alternative text for each figure, and a name
        and a caption for each table.
    """
    stem = page.docname.replace("/", "-")
    state = _State(stem, page, addresses)
    cells = []
    for cell in copy.deepcopy(notebook["cells"]):
        cell["source"] = "".join(cell["source"])
        tags = cell.get("metadata", {}).get("tags", [])
        if cell["cell_type"] == "markdown":
            source = cell["source"] if cells else _titled(_lead(cell["source"]), variant)
            cells.append(_markdown(state.read(source)))
        elif cell["cell_type"] == "code" and "parameters" in tags:
            cells += _parameters(cell["source"], _injected(notebook))
        elif cell["cell_type"] == "code" and "injected-parameters" not in tags:
            cells += _code(cell, state)
    metadata = {
        key: notebook["metadata"][key] for key in ("kernelspec", "language_info") if key in notebook["metadata"]
    }
    if page.number:
        metadata["number"] = page.number
    for k, cell in enumerate(cells):
        cell["id"] = f"cell-{k}"
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


class _State:
    """What stands above a cell, and how many figures and tables did."""

    def __init__(self, stem, page, addresses):
        self.stem, self.page, self.addresses = stem, page, addresses
        self.heading, self.before = page.docname, ""
        self.figures_n = self.tables_n = 0

    def read(self, text):
        """Return a cell's Markdown with its links rewritten, and remember its last heading and paragraph."""
        headings = [match[2] for match in _HEADING.finditer(text)]
        if headings:
            self.heading = figure_text.without_markup(headings[-1])
        paragraphs = [p for p in text.strip().split("\n\n") if p.strip() and not _HEADING.match(p.strip())]
        self.before = paragraphs[-1] if paragraphs else ""
        return links.rewritten(text, self.page.file, self.addresses)

    def next_figure(self, caption):
        """Return the name of the next figure."""
        self.figures_n += 1
        name = f"{self.stem}-figure-{self.figures_n}"
        self.addresses.numbered.append((self.page.file, "figure", name, caption))
        return name

    def next_table(self):
        """Return the name and the caption of the next table: what announces it, or its section's heading."""
        self.tables_n += 1
        words = figure_text.without_markup(self.before)
        sentence = re.split(r"(?<=[.!?])\s+", words)[-1]
        announced = sentence.removesuffix(":") if sentence.endswith(":") and len(sentence) < 160 else self.heading
        self.before = ""
        name, caption = f"{self.stem}-table-{self.tables_n}", announced[:1].upper() + announced[1:]
        self.addresses.numbered.append((self.page.file, "table", name, caption))
        return name, caption


def _lead(text):
    """Return a first cell's Markdown with its `>` lines marked as the page's lead."""
    return re.sub(
        r"(?:^>.*\n?)+", lambda m: "{.lead}\n" + re.sub(r"^> ?", "", m[0], flags=re.M), text, count=1, flags=re.M
    )


def _titled(text, variant):
    return re.sub(r"^(# .*?)[ \t]*$", rf"\1 ({variant})", text, count=1, flags=re.M) if variant else text


def _markdown(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(cell, state):
    """Return a code cell, folded, with a cell of its own for each picture among its outputs."""
    source, outputs = cell["source"], cell.get("outputs", [])
    cells = [_code_cell(source, ["hide-input"] if source.strip() else ["remove-input"])]
    for output in outputs:
        if "image/png" in output.get("data", {}):
            cells.append(_picture(output, state))
        elif cells[-1]["metadata"].get("mystnb"):
            cells.append(_code_cell("", ["remove-input"]))
            cells[-1]["outputs"].append(_output(output, state))
        else:
            cells[-1]["outputs"].append(_output(output, state))
    return cells


def _code_cell(source, tags):
    metadata = {"tags": tags}
    source = source or "# an output alone: a cell without a line of code would be left out"
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "source": source, "outputs": []}


def _picture(output, state):
    """Return a cell that shows a picture as a numbered figure."""
    plain = "".join(output["data"].get("text/plain", ""))
    said = figure_text.read_figure_text(plain, state.heading, state.before)
    cell = _code_cell("", ["remove-input"])
    caption = said.caption
    if said.details:
        # A blank line would end this block of HTML in Markdown.
        lines = "\n".join(line for line in html.escape(said.details).splitlines() if line.strip())
        caption += f"\n\n<details><summary>The figure in words</summary><pre>{lines}</pre></details>"
    cell["metadata"]["mystnb"] = {
        "figure": {"name": state.next_figure(said.caption), "caption": caption},
        "image": {"alt": said.alternative},
    }
    kept = {"image/png": "".join(output["data"]["image/png"])}
    cell["outputs"] = [{"output_type": "display_data", "data": kept, "metadata": {}}]
    return cell


def _output(output, state):
    """Return an output with only what is shown of it, and with a name and a caption if it is a table."""
    data = {
        kind: "".join(value) if isinstance(value, list) else value for kind, value in output.get("data", {}).items()
    }
    if 'class="dataframe"' in data.get("text/html", ""):
        shown = {"text/html": html_tables.marked(data["text/html"], *state.next_table())}
    elif "text/html" in data:
        shown = {"text/html": data["text/html"]}
    elif "text/markdown" in data:
        shown = {"text/markdown": data["text/markdown"]}
    else:
        return output
    return {"output_type": "display_data", "data": shown, "metadata": {}}


def _injected(notebook):
    """Return the parameters that the run was given, by name, as source."""
    for cell in notebook["cells"]:
        if "injected-parameters" in cell.get("metadata", {}).get("tags", []):
            return {name: value for name, value, _ in assigned("".join(cell["source"]))}
    return {}


def _parameters(source, injected):
    """Return a cell with the parameters of a run as one folded table; none if there are none."""
    rows = [(name, injected.get(name, value), meaning) for name, value, meaning in assigned(source)]
    rows += [(name, value, "") for name, value in injected.items() if name not in [row[0] for row in rows]]
    if not rows:
        return []
    lines = ["| parameter | value | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | `{_cell(value)}` | {_cell(meaning)} |" for name, value, meaning in rows]
    return [_markdown("````{dropdown} Parameters of this run\n" + "\n".join(lines) + "\n````")]


def _cell(text):
    return " ".join(text.split()).replace("|", "\\|")


def assigned(source):
    """Return what a cell of parameters assigns: a list of name, value as source, and the comment at the line's end.

    Parameters
    ----------
    source : str
        Python with assignments `name = literal  # meaning`.

    Raises
    ------
    SyntaxError
        If it is not Python.
    """
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            names = ", ".join(ast.unparse(target) for target in node.targets)
            meaning = comments.get(node.end_lineno, comments.get(node.lineno, ""))
            found.append((names, ast.get_source_segment(source, node.value), meaning))
    return found
