"""What Sphinx is told besides its settings: numbers of pages, tables from stored HTML, equations without a script.

`docs/conf.py` loads it as an extension.
"""

import zlib
from pathlib import Path

import latex2mathml.converter
from docutils import nodes
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.transforms import SphinxTransform

from cxrlib.site import html_tables


class FrameTables(SphinxTransform):
    """Make a table of the document of each data frame among a notebook's outputs."""

    default_priority = 300

    def apply(self):
        """Replace them in the document that was just read."""
        for raw in list(self.document.findall(nodes.raw)):
            if raw.get("format") == "html" and 'class="dataframe"' in raw.astext():
                table = html_tables.document_table(raw.astext())
                raw["classes"] = []  # those of stored HTML, which themes give a background of its own
                raw.replace_self(table)
                self.document.note_explicit_target(table, table)


def assign_numbers(app, env):
    """Number pages by the `number` in their front matter, sections below it, and figures and tables with them.

    Sphinx counts pages by their place in the table of contents. Here a notebook goes by its own number everywhere, as
    in `Table N36.2`, so that Sphinx's counting is replaced once it is done.

    Returns
    -------
    list of str
        Pages to write again.
    """
    env.toc_secnumbers = {}
    for docname in env.found_docs:
        number = env.metadata[docname].get("number")
        if not number:
            continue
        numbers, counted = {}, []
        for reference in env.tocs[docname].findall(nodes.reference):
            below = _depth(reference) - 1  # 0 for the page's title
            counted = counted[:below] + [0] * (below - len(counted))
            if below:
                counted[-1] += 1
            numbers[reference["anchorname"]] = reference["secnumber"] = (str(number), *counted)
        env.titles[docname]["secnumber"] = (str(number),)
        env.toc_secnumbers[docname] = numbers
    return TocTreeCollector().assign_figure_numbers(env)


def _depth(reference):
    """Return how deep in the page's contents an entry stands: 1 for the page's title."""
    depth, node = 0, reference
    while node is not None:
        depth += isinstance(node, nodes.list_item)
        node = node.parent
    return depth


def visit_math(translator, node):
    """Write an equation within a line as MathML."""
    translator.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def visit_displayed_math(translator, node):
    """Write an equation on a line of its own as MathML, with its number if it has one."""
    anchors = "".join(f' id="{name}"' for name in node.get("ids", [])[:1])
    equation = latex2mathml.converter.convert(node.astext(), display="block")
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    translator.body.append(
        f'<div class="math"{anchors} tabindex="0" role="group" aria-label="Equation">{equation}{number}</div>\n'
    )
    raise nodes.SkipNode


def add_bundle(app, config):
    """Let the site have the files that staging bundled, where it is built from a staged folder."""
    bundle = Path(app.srcdir) / "_bundle"
    if bundle.is_dir():
        config.html_static_path.append(str(bundle))


def setup(app):
    """Register all this with Sphinx."""
    app.add_transform(FrameTables)
    app.connect("config-inited", add_bundle)
    app.connect("env-get-updated", assign_numbers, priority=900)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(visit_math, None), block_renderers=(visit_displayed_math, None)
    )
    code = Path(__file__).read_bytes() + Path(html_tables.__file__).read_bytes()
    version = zlib.crc32(code)  # pages that another version of this code read are read again
    return {"version": "1", "env_version": version, "parallel_read_safe": True, "parallel_write_safe": True}
