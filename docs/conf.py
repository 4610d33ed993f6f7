"""Settings of the site that `make site` builds with Sphinx from a copy of `docs/` and `paper/` (cxrlib/site)."""

from pathlib import Path

project = "What chest X-ray labels are worth"
author = "The cxr-labels maintainers"
copyright = "the cxr-labels maintainers, Apache-2.0"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "cxrlib.site.sphinx_extension",
]
exclude_patterns = ["_bundle", "files"]
templates_path = ["_templates"]

# Notebooks are rendered as they were run.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Code"
nb_code_prompt_hide = "Code"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "ref.python"]

# What a table holds is shown as it was written.
smartquotes = False

numfig = True
numfig_format = {"figure": "Figure %s", "table": "Table %s", "code-block": "Listing %s", "section": "Section %s"}

# Citations, where the staged copy has a bibliography.
if Path("references.bib").exists():
    extensions.append("sphinxcontrib.bibtex")
    bibtex_bibfiles = ["references.bib"]
    bibtex_default_style = "unsrtalpha"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = project
html_favicon = "_static/icon.svg"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["datatables.css", "site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_domain_indices = False
html_permalinks_icon = "#"
html_sidebars = {"**": ["sections.html"]}
html_theme_options = {
    "navbar_center": [],
    "navbar_end": ["explorer-link", "theme-switcher"],
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "search_bar_text": "Search the paper ...",
    "footer_start": ["copyright"],
    "footer_end": [],
    "logo": {"text": "Chest X-ray labels"},
    "show_toc_level": 2,
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}

# The paper as one page, which is printed: `make pdf`. It has no other pages to go to, nor an index to search.
if tags.has("printed"):  # noqa: F821  Sphinx defines it
    html_css_files += ["printed.css"]
    html_sidebars = {"**": []}
    html_theme_options |= {"navbar_end": ["all-pages", "theme-switcher"], "navbar_persistent": []}
    html_theme_options |= {"secondary_sidebar_items": [], "show_prev_next": False, "disable_search": True}


def skip_field(app, what, name, obj, skip, options):
    """Leave out what a named tuple says of its fields by itself."""
    return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field number") else skip


def setup(app):
    """Connect what this file adds to Sphinx."""
    app.connect("autodoc-skip-member", skip_field)
