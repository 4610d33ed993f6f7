"""The site: what its pages are made of, and that the built one has its figures, numbers and links, and no network."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from site_pages import BuiltSite, broken_links, stored_frames, words

from cxrlib.base import figure_text as base_figure_text
from cxrlib.base import figures, paths
from cxrlib.site import (
    building,
    docs_pages,
    figure_text,
    html_tables,
    layout,
    links,
    notebook_pages,
    staging,
)

NOTEBOOKS = sorted(path.relative_to(paths.ROOT).as_posix() for path in (paths.ROOT / "paper").rglob("*.ipynb"))
_FRAME = pd.DataFrame({"auc": ["0.9 (0.8 to 1.0)", ""], "n": [10, 20]}, index=pd.Index(["a", "b"], name="finding"))


# What a figure says


def test_a_described_figure_gives_its_first_line_its_caption_and_the_rest():
    plain = (
        "AUC of two networks.\nx axis: AUC\nred: 0.7, 0.8\n\nCaption: Simulated images, 40 patients;\n95 % intervals."
    )
    said = figure_text.read_figure_text(plain, "The picture", "Before it.")
    assert said.alternative == "AUC of two networks."
    assert said.caption == "Simulated images, 40 patients; 95 % intervals."
    assert said.details == "x axis: AUC\nred: 0.7, 0.8"


def test_a_figure_is_read_as_the_library_describes_it():
    fig, axis = figures.figure()
    figures.forest(axis, [{"name": "edema", "estimate": 0.7, "low": 0.6, "high": 0.8, "colour": "#0072B2"}])
    axis.set(title="agreement", xlabel="kappa")
    described = base_figure_text.described(fig, "real labels: 9 of 3 patients; no intervals")
    said = figure_text.read_figure_text(described, "Heading")
    assert said.alternative == base_figure_text.alternative_text(described) == "Figure: agreement. kappa."
    assert said.caption == "real labels: 9 of 3 patients; no intervals"
    assert said.details == "agreement: kappa.\nedema: 0.7 (0.6 to 0.8)"


def test_a_described_figure_without_a_caption_is_captioned_by_its_first_line():
    assert figure_text.read_figure_text("Two bars.", "Heading").caption == "Two bars."


def test_a_figure_that_is_not_described_is_named_by_its_heading_and_the_paragraph_before_it():
    said = figure_text.read_figure_text(
        "<Figure size 900x460 with 1 Axes>", "The **picture**", "As [told](x.md), `a` rises."
    )
    assert said.alternative == "The picture: As told, a rises."
    assert (said.caption, said.details) == ("The picture.", "")
    assert (
        figure_text.read_figure_text("<Figure size 1x1 with 0 Axes>", "Maps").alternative
        == "Figure of the section Maps"
    )


def test_a_long_alternative_text_ends_with_a_sentence():
    assert figure_text.shortened("One is here. " + "Two " * 80) == "One is here."
    assert figure_text.shortened("word " * 100).endswith("word ...")


# Tables


def test_a_frame_with_names_in_a_row_of_their_own_has_one_header():
    grid = html_tables.read_grid(_FRAME.to_html())
    assert grid.header == ("finding", "auc", "n")
    assert grid.rows == (("a", "0.9 (0.8 to 1.0)", "10"), ("b", "", "20"))
    assert [grid.looks(x) for x in range(3)] == ["short", "number", "number"]
    missing = html_tables.Grid(("a", "b"), (("0.1", "–"), ("–", "x" * 40)))
    assert [missing.looks(x) for x in range(2)] == ["number", ""]


def test_cells_over_several_rows_are_repeated_and_levels_of_columns_joined():
    index = pd.MultiIndex.from_tuples([("p", 1), ("p", 2), ("q", 1)], names=["part", "k"])
    columns = pd.MultiIndex.from_tuples([("AUC", "low"), ("AUC", "high"), ("n", "")])
    grid = html_tables.read_grid(pd.DataFrame([[1, 2, 3]] * 3, index=index, columns=columns).to_html())
    assert grid.header == ("part", "k", "AUC, low", "AUC, high", "n")
    assert [row[:2] for row in grid.rows] == [("p", "1"), ("p", "2"), ("q", "1")]


def test_an_index_that_only_counts_rows_is_left_out_and_one_that_says_something_is_not():
    assert html_tables.read_grid(_FRAME.reset_index().to_html()).header == ("finding", "auc", "n")
    assert html_tables.read_grid(_FRAME.set_axis(["", ""], axis=0).to_html()).header == ("auc", "n")
    numbered = _FRAME.set_axis(pd.Index([3, 4]), axis=0)
    assert html_tables.read_grid(numbered.to_html()).rows[0] == ("3", "0.9 (0.8 to 1.0)", "10")


def test_html_without_a_table_says_what_to_do():
    with pytest.raises(ValueError, match="write it as a pandas data frame"):
        html_tables.read_grid("<p>no table</p>")


def test_a_frame_becomes_a_numbered_table_with_its_name_and_caption():
    table = html_tables.document_table(html_tables.marked(_FRAME.to_html(), "x-table-1", 'of "two" & more'))
    assert table["names"] == ["x-table-1"] and table["classes"] == ["data"]
    assert table[0].astext() == 'of "two" & more'


# Links


@pytest.fixture
def repository(tmp_path):
    """A small repository: two pages, two notebooks, a template and a table."""
    for name in ("docs/index.md", "docs/a.md", "README.md", "third_party/README.md", "results/t.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# Title\n\n## A part\n")
    for name in ("notebooks/06_audit.ipynb", "paper/06_audit.ipynb", "paper/quick/20_study.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cells = [{"cell_type": "markdown", "metadata": {}, "source": "# Title\n\n> Why.\n"}]
        (tmp_path / name).write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return tmp_path


@pytest.fixture
def addresses(repository):
    pages = layout.arrange(staging.page_files(repository))
    return links.Addresses(repository, {page.file: page.staged for page in pages} | {"README.md": "index.md"})


@pytest.mark.parametrize(
    ("page", "text", "becomes"),
    [
        ("docs/a.md", "[x](index.md#a-part)", "[x](index.md#a-part)"),
        ("docs/a.md", "[x](../paper/06_audit.ipynb)", "[x](paper/06_audit.ipynb)"),
        ("docs/a.md", "[x](../notebooks/06_audit.ipynb)", "[x](paper/06_audit.ipynb)"),
        ("docs/a.md", "[`t.csv`](../results/t.csv)", "[`t.csv`](files/results/t.csv)"),
        ("docs/a.md", "[x](../third_party/README.md)", "[x](files/third_party/README.md.txt)"),
        ("docs/a.md", "[x](../README.md#part)", "[x](index.md)"),
        ("docs/a.md", "[`results/`](../results)", "`results/`"),
        ("docs/a.md", "[x](https://example.org/a.md)", "[x](https://example.org/a.md)"),
        ("docs/a.md", "[x](#a-part)", "[x](#a-part)"),
        ("docs/a.md", "As notebook 06 says.", "As [notebook 06](paper/06_audit.ipynb) says."),
        ("docs/a.md", "[notebook 06](index.md)", "[notebook 06](index.md)"),
        ("docs/a.md", "```\n[x](../results)\nnotebook 06\n```\n", "```\n[x](../results)\nnotebook 06\n```\n"),
        ("paper/quick/20_study.ipynb", "Notebook 06", "[Notebook 06](../06_audit.ipynb)"),
        ("paper/quick/20_study.ipynb", "notebook 20", "notebook 20"),
        ("paper/quick/20_study.ipynb", "[x](../docs/a.md)", "[x](../../a.md)"),
    ],
)
def test_a_link_leads_to_where_its_file_lies_on_the_site(addresses, page, text, becomes):
    assert links.rewritten(text, page, addresses) == becomes
    assert not addresses.missing


def test_a_link_to_nothing_becomes_its_text_and_is_told(addresses):
    assert links.rewritten("see [b](b.md)", "docs/a.md", addresses) == "see b"
    assert addresses.missing == {("docs/a.md", "b.md")}


def test_nothing_but_pictures_is_copied_for_print(repository):
    printed = links.Addresses(repository, {"docs/a.md": "a.md"}, downloads=False)
    assert links.rewritten("[t](../results/t.csv)", "docs/a.md", printed) == "t"


# Pages


def test_pages_have_a_section_and_a_number_of_their_own():
    files = ["docs/index.md", "docs/methods.md", "docs/data.md", "docs/new.md", *NOTEBOOKS]
    pages = {page.file: page for page in layout.arrange(files)}
    assert set(pages) == set(files)
    assert [pages[f].number for f in ("docs/index.md", "docs/methods.md", "docs/data.md")] == [None, "1", "D1"]
    assert (pages["docs/new.md"].section, pages["docs/new.md"].docname) == ("More", "new")
    assert pages["paper/36_references.ipynb"].number == "N36"
    assert pages["docs/methods.md"].docname == "methods"


def test_studies_follow_in_the_order_of_their_numbers():
    pages = layout.arrange([f"docs/studies/{k}_x.md" for k in (10, 2, 1)])
    assert [page.docname for page in pages[1:]] == ["studies/1_x", "studies/2_x", "studies/10_x"]


def test_parameters_are_one_table_with_the_values_of_the_run(addresses):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "\n", "> Why it is done.\n"]},
        _code("n = 1000  # resamples\nseed = 1", ["parameters"]),
        _code("# Parameters\nn = 5\nextra = 'x|y'", ["injected-parameters"]),
        _code("1 + 1", []),
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    page = next(p for p in layout.arrange(["paper/quick/20_study.ipynb"]) if p.number)
    staged = notebook_pages.staged_notebook(notebook, page, addresses, variant="external")
    texts = [cell["source"] for cell in staged["cells"]]
    assert texts[0] == "# Title (external)\n\n{.lead}\nWhy it is done.\n"
    assert "| `n` | `5` | resamples |" in texts[1] and "| `seed` | `1` |  |" in texts[1]
    assert "| `extra` | `'x\\|y'` |  |" in texts[1] and "1000" not in texts[1]
    assert len(texts) == 3 and staged["cells"][2]["metadata"]["tags"] == ["hide-input"]
    assert staged["metadata"]["number"] == "N20"


def _code(source, tags, outputs=()):
    metadata = {"tags": tags}
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": source,
        "outputs": list(outputs),
        "execution_count": 1,
    }


def test_a_picture_between_other_outputs_keeps_its_place_and_is_a_figure(addresses):
    def shown(**data):
        return {
            "output_type": "display_data",
            "metadata": {},
            "data": {k.replace("_", "/"): v for k, v in data.items()},
        }

    picture = shown(image_png="iVBORw0KGgo=", text_plain="Bars.\n\nCaption: Real images.")
    frame = shown(text_html=_FRAME.to_html(), text_plain="")
    cells = [_code("f()", [], [frame, picture, frame])]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    page = next(p for p in layout.arrange(["paper/06_audit.ipynb"]) if p.number)
    staged = notebook_pages.staged_notebook(notebook, page, addresses)["cells"]
    assert [list(cell["outputs"][0]["data"]) for cell in staged] == [["text/html"], ["image/png"], ["text/html"]]
    assert staged[1]["metadata"]["mystnb"]["image"] == {"alt": "Bars."}
    assert staged[1]["metadata"]["mystnb"]["figure"]["caption"] == "Real images."
    assert [entry[1:3] for entry in addresses.numbered] == [
        ("table", "paper-06_audit-table-1"),
        ("figure", "paper-06_audit-figure-1"),
        ("table", "paper-06_audit-table-2"),
    ]


def test_a_table_of_results_in_docs_is_captioned_and_can_be_downloaded(addresses):
    table = "<!-- table: results/t.csv -->\n| a |\n| --- |\n| notebook 06 |\n<!-- end -->"
    text = f"# T\n\n## Noise\n\n{table}\n\nn is <!-- value: x | y -->3<!-- end -->."
    page = next(p for p in layout.arrange(["docs/a.md"]) if p.file == "docs/a.md")
    staged = docs_pages.staged_markdown(text, page, addresses)
    assert ":::{table} Noise ([t.csv](files/results/t.csv))\n:name: a-table-1\n:class: data\n\n| a |" in staged
    assert "| [notebook 06](paper/06_audit.ipynb) |\n:::" in staged and "n is 3." in staged


def test_a_table_whose_rows_go_on_with_the_row_above_does_not_sort(addresses):
    page = next(p for p in layout.arrange(["docs/a.md"]) if p.file == "docs/a.md")
    text = "# T\n\n<!-- made: five -->\n| a | b |\n| --- | --- |\n| 1 | 2 |\n|  | 3 |\n<!-- end -->\n"
    staged = docs_pages.staged_markdown(text, page, addresses)
    assert ":::{table} T\n:name: a-table-1\n\n| a | b |" in staged and ":class: data" not in staged


def test_a_picture_of_docs_takes_the_italics_below_it_as_its_caption(addresses):
    page = next(p for p in layout.arrange(["docs/a.md"]) if p.file == "docs/a.md")
    addresses.copied.clear()
    (addresses.root / "results/p.png").write_bytes(b"x")
    text = '# T\n\n![Bars: "a"](../results/p.png)\n\n***Real** images\n(notebook 06).*\n\n**Bold.**\n'
    staged = docs_pages.staged_markdown(text, page, addresses)
    assert "```{figure} files/results/p.png\n:name: a-figure-1\n" in staged
    assert ':alt: "Bars: \\"a\\""' in staged
    assert "\n**Real** images\n([notebook 06](paper/06_audit.ipynb)).\n```\n\n**Bold.**" in staged
    plain = docs_pages.staged_markdown("![Bars](../results/p.png)\n\n**Bold.**\n", page, addresses)
    assert "\nBars\n```\n\n**Bold.**" in plain


def test_staging_keeps_the_time_of_what_did_not_change_and_removes_what_is_gone(repository, tmp_path):
    folder = tmp_path / "staged"
    staging.stage(repository, folder)
    kept, gone = folder / "a.md", folder / "paper/quick/20_study.ipynb"
    before = kept.stat().st_mtime_ns
    assert gone.exists() and (folder / "_bundle/datatables.js").stat().st_size > 100_000
    (repository / "paper/quick/20_study.ipynb").unlink()
    staging.stage(repository, folder)
    assert kept.stat().st_mtime_ns == before and not gone.exists()


def test_a_site_without_pages_fails(repository, tmp_path):
    shutil.rmtree(repository / "paper")
    with pytest.raises(FileNotFoundError, match="make repro"):
        building.build_site(repository, tmp_path / "site", tmp_path / "work")


def test_printing_without_a_page_or_a_browser_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "find_browser", lambda: "/bin/true")
    with pytest.raises(FileNotFoundError, match="make site"):
        building.print_pdf(tmp_path / "none.html", tmp_path / "x.pdf")
    (tmp_path / "page.html").write_text("<p>x")
    with pytest.raises(RuntimeError, match="printed no PDF"):
        building.print_pdf(tmp_path / "page.html", tmp_path / "x.pdf")
    monkeypatch.setattr(building, "find_browser", lambda: None)
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        building.print_pdf(tmp_path / "page.html", tmp_path / "x.pdf")


# The built site


def test_every_notebook_and_every_page_of_docs_is_rendered_and_reached_from_the_first(built_site):
    assert built_site.warnings == []
    files = set(staging.page_files(paths.ROOT)) | {layout.LIST}
    assert {page.file for page in built_site.pages} == files and len(files) > len(NOTEBOOKS) > 40
    reached = {link.get("href") for link in built_site.html("index.html").select(".bd-sidebar-primary a")}
    for page in built_site.pages:
        html = built_site.html(f"{page.docname}.html")
        assert len(words(html.select_one("article"))) > 200, page.file
        assert page.file == layout.INDEX or f"{page.docname}.html" in reached, page.file


@pytest.mark.parametrize("file", NOTEBOOKS)
def test_a_notebook_s_title_lead_parameters_and_code_are_where_they_belong(built_site, file):
    html = built_site.page_of(file)
    number = re.match(r"\d+", Path(file).name)[0]
    assert words(html.select_one("article h1")).startswith(f"N{number} ") or words(html.h1).startswith(f"N{number}.")
    assert html.select_one("article .lead"), "the line that says what for"
    open_code = [c for c in html.select("article .cell_input") if not c.find_parent("details")]
    assert not open_code
    assert sum("Parameters of this run" in words(s) for s in html.select("summary")) <= 1
    assert "injected-parameters" not in str(html.select_one("article"))


@pytest.mark.parametrize("file", NOTEBOOKS)
def test_a_page_has_every_table_and_number_of_its_notebook(built_site, file):
    """Row by row: what the notebook stored is what the page shows."""
    tables = built_site.page_of(file).select("article table.data")
    frames = stored_frames(paths.ROOT / file)
    assert len(tables) == len(frames)
    for table, frame in zip(tables, frames, strict=True):
        shown = [[words(cell) for cell in row.find_all("td")] for row in table.select("tbody tr")]
        assert [row[len(row) - len(stored) :] for row, stored in zip(shown, frame, strict=True)] == frame
        assert re.match(r"Table N\d+\.\d+ \S", words(table.caption)) and table["id"]


@pytest.mark.parametrize("file", NOTEBOOKS)
def test_a_page_has_every_figure_of_its_notebook_with_its_caption(built_site, file):
    cells = json.loads((paths.ROOT / file).read_text())["cells"]
    pictures = [o for c in cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    figures = [f for f in built_site.page_of(file).select("article figure") if f.select_one(".caption-number")]
    assert len(figures) == len(pictures)
    for figure in figures:
        assert re.match(r"Figure N\d+\.\d+ \S", words(figure.figcaption))
        assert (built_site.folder / Path(file).parent / figure.img["src"]).stat().st_size > 1000


def _blocks():
    for page in sorted((paths.ROOT / "docs").rglob("*.md")):
        for match in re.finditer(r"<!-- table: (\S+)", page.read_text()):
            yield page.relative_to(paths.ROOT).as_posix(), match[1]


@pytest.mark.parametrize(("file", "csv"), list(_blocks()))
def test_a_page_of_docs_has_the_numbers_of_its_table(built_site, file, csv):
    table = pd.read_csv(paths.ROOT / csv).round(3)
    wanted = table.astype(object).where(table.notna(), "").astype(str).map(lambda text: " ".join(text.split()))
    shown = [
        [[words(cell) for cell in row.find_all("td")] for row in html.select("tbody tr")]
        for html in built_site.page_of(file).select("article table.data")
        if csv.rsplit("/", 1)[1] in words(html.caption)
    ]
    assert wanted.to_numpy().tolist() in shown


def test_every_link_and_anchor_leads_somewhere(built_site):
    names = built_site.names()
    assert len(names) > len(NOTEBOOKS)
    assert broken_links(built_site, names) == []


def test_a_link_to_nothing_is_seen(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">b</a><a href="#here">x</a><a href="a.html#no">y</a><p id="here">'
    )
    site = BuiltSite(tmp_path, [], [])
    assert broken_links(site, ["a.html"]) == [("a.html", "b.html"), ("a.html", "a.html#no")]


def test_every_heading_of_a_numbered_page_has_a_number_of_its_own(built_site):
    for file in ("methods.html", "studies/1_pneumothorax.html", "paper/34_transport.html"):
        headings = re.findall(r"<h[1-4]>(.*?)</h[1-4]>", (built_site.folder / file).read_text(), re.S)
        numbers = [re.match(r"(\S+?)\.? ", re.sub(r"<[^>]+>", "", heading))[1] for heading in headings]
        top = numbers[0]
        assert len(set(numbers)) == len(numbers) > 4 and all(number.startswith(top) for number in numbers), numbers


def test_every_image_says_what_it_shows(built_site):
    images = [(name, at) for name in built_site.names() for tag, at in built_site.tags(name) if tag == "img"]
    assert len(images) > len(NOTEBOOKS)
    for name, attributes in images:
        said = attributes.get("alt", "").strip()
        assert len(said) > 4 and not re.search(r"No description|<Figure|\.png|^figure$|^\.\./", said), (name, said)


_LOADS = {"script", "link", "img", "iframe", "source", "video", "audio", "object", "embed"}
_OUTSIDE = re.compile(r"\s*(https?:)?//", re.I)
_STYLE_OUTSIDE = re.compile(r"(url\(|@import)\s*[\"']?(https?:)?//", re.I)


def test_nothing_is_loaded_from_elsewhere(built_site):
    for name in built_site.names():
        for tag, attributes in built_site.tags(name):
            targets = [attributes.get(key, "") for key in ("src", "href", "data", "srcset")]
            assert tag not in _LOADS or not any(map(_OUTSIDE.match, targets)), (name, tag, attributes)
            assert not _STYLE_OUTSIDE.search(attributes.get("style", "")), (name, tag, attributes)
        assert not _STYLE_OUTSIDE.search((built_site.folder / name).read_text()), name
    for sheet in built_site.folder.rglob("*.css"):
        assert not _STYLE_OUTSIDE.search(sheet.read_text(errors="replace")), sheet


def test_the_search_index_has_findings_and_numbers_of_tables(built_site):
    index = (built_site.folder / "searchindex.js").read_text()
    terms = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    found = {kind: terms[kind]["pneumothorax"] for kind in ("terms", "titleterms")}
    names = {kind: [terms["docnames"][k] for k in places] for kind, places in found.items()}
    assert "paper/quick/20_pneumothorax" in names["titleterms"] and "paper/36_references" in names["terms"]
    assert "seyyed_kalantari" in terms["terms"], "of tables, too, every word can be found"


def test_every_figure_and_table_is_listed_with_its_number(built_site):
    listed = {words(link) for link in built_site.page_of(layout.LIST).select("article li a:has(.std-numref)")}
    numbers = set()
    for page in built_site.pages:
        html = built_site.html(f"{page.docname}.html")
        numbers |= {words(number) for number in html.select("article .caption-number")}
    assert listed == numbers and "Table N36.1" in numbers


def test_equations_are_mathml_without_a_script(built_site):
    page = built_site.page_of("paper/30_two_references.ipynb")
    assert "PPV" in page.select_one("math[display=block]").get_text()
    assert "mathjax@" not in str(page) and "MathJax" not in str(page)


def test_the_printed_page_has_the_paper_and_leads_only_to_the_site(built_site):
    html = built_site.html("print/index.html")
    titles = [words(title) for title in html.select("article h1, article h2, article h3")]
    for page in built_site.pages:
        if page.section in layout.PRINTED:
            assert any(title.startswith(f"{page.number}.") for title in titles), page.file
    links_out = {a["href"] for a in html.select("a[href]") if not re.match(r"#|https?:|index\.html", a["href"])}
    assert links_out == {"../index.html"}
