"""What README.md and docs/ say is what the result files and the checkout say."""

import re

import pytest
from markdown_it import MarkdownIt

from cxrlib.base import paths
from cxrlib.commands import readme, values
from cxrlib.releases import catalogue, fetching

PAGES = {page.relative_to(paths.ROOT).as_posix(): page.read_text() for page in readme.pages()}
README = PAGES["README.md"]
FILLED = [name for name, text in PAGES.items() if "<!-- " in text]
WITH_TABLES = [name for name, text in PAGES.items() if "<!-- table:" in text]


def prose(text):
    """Return a page's text without tables, code blocks, comments and the targets of links."""
    text = re.sub(r"```.*?```|<!-- (?:table|made).*?<!-- end -->", "", text, flags=re.S)
    text = values.MARKER.sub(lambda match: match["shown"], text)
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", "\n".join(lines))


def anchors(text):
    """Return the names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", FILLED)
def test_tables_and_numbers_are_those_of_the_files(name):
    assert readme.filled(PAGES[name], page=name) == PAGES[name], "run make readme"


def test_every_headline_table_stands_on_one_page():
    named = re.findall(r"<!-- table: (\S+) -->", "".join(PAGES.values()))
    assert len(named) == len(set(named))
    headlines = {path.relative_to(paths.ROOT).as_posix() for path in (paths.ROOT / "results").rglob("headline.csv")}
    assert headlines <= set(named)


@pytest.mark.parametrize("name", WITH_TABLES)
def test_a_table_that_differs_is_found(name):
    altered = re.sub(r"\| -?0\.\d+ (?=[(|])", "| 0.123456 ", PAGES[name])
    assert altered != PAGES[name]
    assert readme.filled(altered) == PAGES[name]


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if values.MARKER.search(text)])
def test_a_number_that_differs_is_found(name):
    altered = re.sub(r" -->-?\d(?=[^<\n]*<!-- end -->)", " -->9876543", PAGES[name])
    assert altered != PAGES[name]
    assert readme.filled(altered) == PAGES[name]


def test_an_unknown_table_is_named_with_its_page():
    with pytest.raises(ValueError, match=r"docs/x\.md: there is no table 'nothing'"):
        readme.filled("<!-- made: nothing -->\n<!-- end -->", page="docs/x.md")


def test_the_readme_is_short():
    assert len(prose(README).split()) <= 900
    assert len(re.findall(r"^\|(?: *-+ *\|)+$", README, re.M)) <= 3


def test_the_readme_counts_the_published_label_sets():
    """Those with one opinion of each image: in the installation, fetched, and by hand."""
    single = [entry for entry in catalogue.ENTRIES.values() if not entry.readers]
    elsewhere = [entry.labels for entry in single if entry.labels]
    fetched_n = sum(all(fetching.FILES[path].address for path in labels) for labels in elsewhere)
    here_n, by_hand_n = len(single) - len(elsewhere), len(elsewhere) - fetched_n
    said = " ".join(prose(README).split())
    assert f"any two of {here_n} published label sets" in said
    assert f"`cxr fetch` gets {fetched_n} more and says how to get {by_hand_n}." in said


@pytest.mark.parametrize("readers", [name for name, entry in catalogue.ENTRIES.items() if entry.readers])
def test_the_page_of_data_names_the_label_sets_that_audits_refuse(readers):
    (said,) = re.findall(r"refuse the sets (.+?):", PAGES["docs/data.md"], re.S)
    assert f"`{readers}`" in said and said.count("`") == 2 * sum(e.readers for e in catalogue.ENTRIES.values())


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        page = (paths.ROOT / name).parent / path if path else paths.ROOT / name
        assert page.exists(), target
        if anchor:
            assert anchor in anchors(page.read_text()), target


@pytest.mark.parametrize("name", PAGES)
def test_every_make_command_exists(name):
    rules = set(re.findall(r"^(\w+):", (paths.ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z]+)", PAGES[name])) <= rules


@pytest.mark.parametrize("name", PAGES)
def test_every_python_example_imports_what_there_is(name):
    for room, modules in re.findall(r"^from (cxrlib[.\w]*) import (.+)$", PAGES[name], re.M):
        folder = paths.ROOT / room.replace(".", "/")
        for module in modules.split(", "):
            there = (folder / f"{module}.py").exists() if folder.is_dir() else folder.with_suffix(".py").exists()
            assert there, f"from {room} import {module}"


def test_the_rooms_are_those_of_the_library():
    rooms = {path.parent.name for path in (paths.ROOT / "cxrlib").glob("*/__init__.py")}
    section = PAGES["docs/design.md"].split("## The rooms")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == rooms


@pytest.mark.parametrize("name", FILLED)
def test_markers_are_comments_and_nothing_else_to_a_reader(name):
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(PAGES[name])
    text = re.sub(r"<!--.*?-->", "", shown, flags=re.S)
    assert not re.search(r"value: |&lt;!--|--&gt;|\[\d\]:|<!--|-->", text)
    # a comment that starts a line would end its paragraph: then what follows stands outside of any element
    assert not re.search(r"^<!-- value", shown, re.M)
