"""No result is typed: numbers in prose are in a result file, an output, a setting or a publication."""

import json
import re

import pytest
import yaml

from cxrlib.base import paths
from cxrlib.commands import readme, values
from cxrlib.studies import finding_study, labeler_agreement, metric_study

PAGES = {page.relative_to(paths.ROOT).as_posix(): page.read_text() for page in readme.pages()}

# Decimals, percentages, and whole numbers from 100 on, but no versions (3.11 of Python, 4.0 of a licence, 2.1.0).
VERSION = re.compile(r"Python \d\.\d+|\d+\.\d+\.\d+|CC BY[-A-Z ]* 4\.0")
NUMBER = re.compile(r"(?<![\w.,/:=-])-?(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?:( ?%)|(?![\w/]*\w))")


def published():
    """Return the numbers of docs/published.yaml as they are printed."""
    listed = yaml.safe_load((paths.ROOT / "docs/published.yaml").read_text())
    parts = [work["numbers"] for work in listed["works"].values()] + [*listed["data"].values(), listed["once"]]
    return {number for part in parts for number in part}


def whole_settings():
    """Return the whole numbers of the editions' settings, as texts without commas."""
    text = "\n".join(path.read_text() for path in (paths.ROOT / "editions").glob("*.yaml"))
    return set(re.findall(r"(?<![\w.])\d+(?![\w.])", re.sub(r"(?m)#.*$", "", text)))


def typed(text, known=frozenset()):
    """Return the numbers in a text that could be results and are not known, in their order.

    95 % is how wide intervals are, 80 % the power and 0.05 the level of a test, 100 % all, and years are years.
    """
    found = []
    for match in NUMBER.finditer(VERSION.sub("", text)):
        number, percent = match[1], match[2] or ""
        plain = number.replace(",", "")
        small = not percent and "." not in number and float(plain) < 100
        year = not percent and re.fullmatch(r"(19|20)\d\d", number)
        usual = (number, percent.strip()) in {("95", "%"), ("80", "%"), ("100", "%"), ("0.05", "")}
        listed = {number, plain, number + percent, f"{number} %" if percent else number} & known
        if not (small or year or usual or listed):
            found.append(number + percent)
    return found


def prose(text):
    """Return a page's text without filled blocks and markers, code, comments and the targets of links."""
    text = re.sub(r"<!-- (table|made): .*?<!-- end -->", "", text, flags=re.S)
    text = values.MARKER.sub("", text)
    text = re.sub(r"```.*?```|<!--.*?-->|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.S)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"<?https?://\S+", "", text)


TABLE = """network,test,auc,n,"gain - loss, all"
a,internal,0.930 (0.909 to 0.952),1776,-0.004
a,external,"0.815 (1,200 to 0.855)",1200,0.25
"b, c",internal,0.7,20,< 0.0001
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "some.yaml").write_text("one: {two: [{three: 0.98, four: 12000}]}")
    row = "<table><tr><th>size</th><td>0.775</td></tr><tr><th>file</th><td>2,500</td></tr></table>"
    outputs = [
        {"output_type": "stream", "text": ["108,358 studies; 11,352 of them\n", "p = 0.5\n"]},
        {"output_type": "display_data", "data": {"text/html": [row], "text/plain": ["size 0.775"]}},
    ]
    (tmp_path / "page.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "outputs": outputs}]}))
    return tmp_path


@pytest.mark.parametrize(
    ("marker", "shown"),
    [
        ("table.csv ; network = a & test = internal ; {auc}", "0.930 (0.909 to 0.952)"),
        ("table.csv ; network = a & test = internal ; {auc:.2f}, {auc[1]:.1f} to {auc[2]:.1f}", "0.93, 0.9 to 1.0"),
        ("table.csv ; network = a & test = external ; {auc[1]:d}", "1,200"),
        ("table.csv ; network = b, c ; {auc:.0p} %", "70 %"),
        ("table.csv ; network = b, c ; {gain - loss, all}", "< 0.0001"),
        ("table.csv ; network = a & test = internal ; {gain - loss, all:.2f}", "0.00"),
        ("table.csv ; network = a & test = internal ; {abs(gain - loss, all):.3f}", "0.004"),
        ("table.csv ; network = a ; {min(n):d} to {max(n):d}, {sum(n):d} of {count()}", "1,200 to 1,776, 2,976 of 2"),
        ("table.csv ; network = b, c ; {auc / n:.3f}, {n - auc:.1f}, {n + auc:.1f}", "0.035, 19.3, 20.7"),
        ("some.yaml ; one/two/0 ; {three:.0p} of {four:d}", "98 of 12,000"),
        ("page.ipynb ; studies & of them ; {1:d}", "11,352"),
        ("page.ipynb ; file ; {0:d}", "2,500"),
    ],
)
def test_a_marker_shows_what_its_file_has(root, marker, shown):
    assert values.value(marker, root) == shown


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("table.csv ; network = a ; {auc}", "2 rows have 'network = a'"),
        ("table.csv ; network = z ; {auc}", "no row has 'network = z'"),
        ("table.csv ; nets = a ; {auc}", "names none of its columns (network, test, auc"),
        ("table.csv ; network = b, c ; {area:.2f}", "it has no column 'area'"),
        ("table.csv ; network = b, c ; {auc[1]:.2f}", "the column 'auc' has no number 1 in '0.7'"),
        ("absent.csv ; ; {auc}", "there is no absent.csv"),
        ("table.csv ; {auc}", "write it as FILE ; WHERE ; TEMPLATE"),
        ("some.yaml ; one/three ; {x}", "it has no 'one/three'"),
        ("page.ipynb ; of ; {9:d}", "it has no column '9'"),
        ("page.ipynb ; 5 ; {0}", "4 lines of its outputs have '5'"),
        (".", "write it as FILE"),
    ],
)
def test_a_marker_that_names_no_number_is_named_with_its_page(root, marker, reason):
    with pytest.raises(ValueError) as raised:
        values.with_values(f"So <!-- value: {marker} -->0<!-- end -->.", root, "docs/x.md")
    said = str(raised.value)
    assert said.startswith(f"docs/x.md: the marker <!-- value: {marker} --> cannot be filled: ") and reason in said


def test_a_marker_that_starts_a_line_is_refused_since_markdown_would_end_the_paragraph(root):
    with pytest.raises(ValueError, match="it starts its line"):
        values.with_values("So\n  <!-- value: table.csv ; network = b, c ; {auc} -->0<!-- end -->", root)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an AUC of 0.93, in 28 % of 1,962 images", ["0.93", "28 %", "1,962"]),
        ("95 % intervals in 2019, five of 12 seeds, Python 3.11, version 2.1.0, CC BY-NC-ND 4.0", []),
        ("from -0.17 to 0.29 (p < 0.001)", ["0.17", "0.29", "0.001"]),
        ("2,222 images and 112,120 more", ["2,222"]),
    ],
)
def test_typed_numbers_are_found(text, found):
    assert typed(text, {"112,120"}) == found


def test_prose_is_what_nobody_filled():
    line = "A <!-- value: a.csv ; ; {b} -->0.5<!-- end --> b `0.6` [c](d/0.7) $0.8$ 0.9\n"
    assert typed(prose(line + "<!-- table: x.csv -->\n| 1.0 |\n<!-- end -->")) == ["0.9"]


def test_every_published_number_names_what_it_is():
    listed = yaml.safe_load((paths.ROOT / "docs/published.yaml").read_text())
    keys = set(re.findall(r"^@\w+\{(\w+),", (paths.ROOT / "docs/references.bib").read_text(), re.M))
    assert set(listed["works"]) | set(listed["data"]) <= keys
    for part in [work["numbers"] for work in listed["works"].values()] + [*listed["data"].values(), listed["once"]]:
        assert part and all(NUMBER.search(number) and what for number, what in part.items())


@pytest.mark.parametrize("name", [name for name in PAGES if name != "docs/references.md"])
def test_no_page_types_a_result(name):
    assert typed(prose(PAGES[name]), published() | whole_settings()) == []


# --- notebooks --------------------------------------------------------------------------------------------------

EXECUTED = sorted((paths.ROOT / "paper").rglob("*.ipynb"))


def unsaid(number, percent, shown):
    """Return whether no number that is shown rounds to a typed one; of a percentage, as it is or times 100.

    A number that is shown was rounded itself, so that half of its last place is allowed for.
    """
    value, places = float(number.replace(",", "")), len(number.partition(".")[2])
    for other, decimals in shown:
        for scale in (1, 100) if percent else (1,):
            half = 0.5 * 10.0**-places + scale * 0.5 * 10.0**-decimals
            if abs(abs(other) * scale - value) <= (half if decimals else 0.5 * 10.0**-places) + 1e-12:
                return False
    return True


def numbers_shown(text):
    """Return the numbers of a text, each with how many decimals it has."""
    return {
        (float(found.replace(",", "")), len(found.partition(".")[2]))
        for found in re.findall(r"\d[\d,]*\.?\d*", text)
        if found.strip(",.")
    }


NEAR = 4  # code cells before and behind the prose whose outputs may have its numbers


def typed_in_notebook(notebook, known):
    """Return the decimals and percentages in a page's prose that cells nearby and its parameters do not have.

    Chance finds most short numbers somewhere on a long page, so only a few code cells around the prose, with their
    outputs, count; all cells for the first, which may say what it comes to.
    """
    cells = notebook["cells"]
    code = [at for at, cell in enumerate(cells) if cell["cell_type"] == "code"]
    tagged = [cell for cell in cells if {"parameters", "injected-parameters"} & {*cell["metadata"].get("tags", [])}]
    always = numbers_shown("\n".join("".join(cell["source"]) for cell in tagged))
    found = []
    for at, cell in enumerate(cells):
        if cell["cell_type"] != "markdown":
            continue
        numbers = typed(prose("".join(cell["source"])), known)
        numbers = [number for number in numbers if "." in number or number.endswith("%")]
        if not numbers:
            continue
        before, behind = [c for c in code if c < at][-NEAR:], [c for c in code if c > at][:NEAR]
        near = cells if at == 0 else [cells[c] for c in before + behind]
        written = [
            "".join(cell["source"]) for cell in near if cell["cell_type"] == "code"
        ]  # settings of a simulation
        shown = always | numbers_shown("\n".join(written + values.output_lines({"cells": near})))
        found += [n for n in numbers if unsaid(n.removesuffix("%").strip(), n.endswith("%"), shown)]
    return found


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_no_notebook_types_a_result_that_it_does_not_show(path):
    settings = set(re.findall(r"\d+\.\d+", "".join(p.read_text() for p in (paths.ROOT / "editions").glob("*.yaml"))))
    assert typed_in_notebook(json.loads(path.read_text()), published() | settings) == []


@pytest.mark.parametrize("name", ["07_readers", "32_cleaning", "quick/20_pneumothorax"])
def test_a_number_that_a_notebook_does_not_show_is_found(name):
    notebook = json.loads((paths.ROOT / f"paper/{name}.ipynb").read_text())
    last = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"][-1]
    last["source"] = [*last["source"], "\n\nThe AUC is 7.73915 on 961.57 % of images, and never 123456.5."]
    assert typed_in_notebook(notebook, published()) == ["7.73915", "961.57 %", "123456.5"]


@pytest.mark.parametrize(
    "path", [p for p in EXECUTED if p.parent.name in ("paper", "quick")], ids=lambda path: path.stem
)
def test_the_prose_of_a_page_is_that_of_its_template(path):
    def markdown(file):
        cells = json.loads(file.read_text())["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]

    number = path.stem.partition("_")[0]
    templates = (paths.ROOT / "notebooks").glob(f"{number}_*.ipynb")
    assert markdown(path) in [markdown(template) for template in templates]


def test_what_the_code_says_was_published_is_what_the_list_says():
    works = yaml.safe_load((paths.ROOT / "docs/published.yaml").read_text())["works"]
    said = {
        "jin2023": [f"{metric_study.JIN_MEAN_AUC:.3f}"],
        "hayat2021": [f"{metric_study.HAYAT_UNSEEN_AUC:.2f}"],
        "zhang2019": [f"{number:,}" for number in finding_study.PUBLISHED_N.values()]
        + [f"{number:.{2 if what == 'auc' else 3}f}" for (_, what), number in finding_study.PUBLISHED.items()],
        "jain2021visual": [
            f"{number:.2f}"
            for row in labeler_agreement.PUBLISHED.iloc[[0, 2, 3]][["estimate", "low", "high"]].to_numpy()
            for number in row[row == row]
        ],
    }
    for work, numbers in said.items():
        assert numbers and {*numbers} <= {*works[work]["numbers"]}, work
    notebook = json.loads((paths.ROOT / "notebooks/20_pneumothorax.ipynb").read_text())
    (code,) = [
        c
        for c in notebook["cells"]
        if c["cell_type"] == "code" and "published = pd.DataFrame" in "".join(c["source"])
    ]
    aucs = re.findall(r'"(?:NIH test|external)", (0\.\d+), .*?, .*?, (0\.\d+)', "".join(code["source"]))
    assert len(aucs) == 6 and {number for pair in aucs for number in pair} <= {*works["hallinan2022"]["numbers"]}
