"""The built site in a real browser: no error, search, tables that sort and download, three widths, dark, axe."""

import contextlib
import functools
import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from cxrlib.base import paths
from cxrlib.site import building

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

PAGES = (
    "index.html",
    "paper/36_references.html",
    "paper/30_two_references.html",
    "paper/12_labelers.html",
    "paper/quick/14_maps.html",
    "data.html",
    "search.html",
    "print/index.html",
)
_OWN = ("http://127.", "file:", "data:", "blob:")
_READY = "document.querySelectorAll('table.data').length === document.querySelectorAll('[data-ready]').length"
CAPTION = "In short, and what is written"
HEADLINE = "results/references/headline.csv"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing of each request."""


@pytest.fixture(scope="module")
def address(built_site):
    """The address at which the built site is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=built_site.folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; without one the tests are skipped."""
    found = building.find_browser()
    if found is None:
        pytest.skip("no Chromium is installed here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


_PAPER_PX = 680  # between the margins of a sheet of A4, at 96 pixels an inch


@contextlib.contextmanager
def opened(chromium, url, width=1280, scheme="light", **more):
    """Open a page, wait until its tables are made, and fail on an error or a request that leaves the site."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
    context.set_default_timeout(120_000)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    # What a page was still fetching when the reader left it was not refused.
    page.on("requestfailed", lambda request: request.failure == "net::ERR_ABORTED" or wrong.append(request.url))
    page.on("request", lambda request: request.url.startswith(_OWN) or wrong.append(request.url))
    try:
        page.goto(url)
        if more.get("java_script_enabled", True):
            page.wait_for_function(_READY)
        else:
            wrong.clear()  # the scripts, which were refused
        yield page
        assert wrong == []
    finally:
        context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_page_is_wider_than_the_window(chromium, address, name, width):
    with opened(chromium, address + name, width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        beyond = """() => [...document.querySelectorAll("article img, article h1, article p")].filter((element) =>
            !element.closest("table, .output, pre") && element.getBoundingClientRect().right > innerWidth + 1
        ).length"""
        assert page.evaluate(beyond) == 0


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium, address, name, scheme):
    with opened(chromium, address + name, scheme=scheme) as page:
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        # Preloading would fetch style sheets again, from a wrong folder where one imports another.
        found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in serious] == []


def test_search_finds_pneumothorax_and_leads_to_its_study(chromium, address):
    with opened(chromium, address + "search.html?q=pneumothorax") as page:
        page.wait_for_selector("#search-results li a")
        results = page.locator("#search-results li a").all_inner_texts()
        assert any("Pneumothorax" in text for text in results)
        page.locator("#search-results li a", has_text="radiologist labels against report labels").first.click()
        page.wait_for_selector("article h1")
        assert "Pneumothorax" in page.locator("article h1").inner_text()


def test_the_search_field_opens_from_every_page(chromium, address):
    with opened(chromium, address + "paper/36_references.html") as page:
        page.locator("button.search-button").first.click()
        field = page.locator("#pst-search-dialog input[type=search]")
        field.fill("kappa")
        field.press("Enter")
        page.wait_for_selector("#search-results li a")


def _headline(page):
    return page.locator("table.data", has=page.locator("caption", has_text=CAPTION))


def test_a_table_sorts_by_its_numbers(chromium, address):
    table = pd.read_csv(paths.ROOT / HEADLINE)
    wanted = table["AUC by radiologists"].sort_values(key=lambda text: text.str.split().str[0].astype(float)).tolist()
    with opened(chromium, address + "paper/36_references.html") as page:
        column = list(_headline(page).locator("thead th").all_inner_texts()).index("AUC by radiologists")
        header = _headline(page).locator("thead th").nth(column)
        header.click()
        cells = _headline(page).locator(f"tbody td:nth-child({column + 1})")
        assert cells.all_inner_texts() == wanted
        header.click()
        assert cells.all_inner_texts() == wanted[::-1]


def test_a_table_filters(chromium, address):
    table = pd.read_csv(paths.ROOT / HEADLINE)
    with opened(chromium, address + "paper/36_references.html") as page:
        box = page.locator(".dt-container", has=page.locator("caption", has_text=CAPTION))
        box.locator("input[type=search]").fill("RSNA")
        assert box.locator("tbody tr").count() == (table["radiologists"] == "RSNA").sum()


def test_a_table_downloads_as_what_pandas_wrote(chromium, address):
    wanted = pd.read_csv(paths.ROOT / HEADLINE, dtype=str).fillna("")
    with opened(chromium, address + "paper/36_references.html", accept_downloads=True) as page:
        box = page.locator(".dt-container", has=page.locator("caption", has_text=CAPTION))
        with page.expect_download() as download:
            box.locator(".buttons-csv").click()
        text = download.value.path().read_text(encoding="utf-8-sig")
        assert download.value.suggested_filename.endswith(".csv")
    got = pd.read_csv(io.StringIO(text), dtype=str).fillna("")
    # Pages show a finding's name with spaces and a missing value as a dash.
    wanted = wanted.replace("", "–")
    wanted["finding"] = wanted["finding"].str.replace("_", " ")
    pd.testing.assert_frame_equal(got, wanted)


def test_a_wide_table_scrolls_in_its_own_box_and_by_the_keyboard(chromium, address):
    with opened(chromium, address + "paper/36_references.html", 390) as page:
        box = page.locator(
            ".dt-layout-table > .dt-layout-cell",
            has=page.locator("caption", has_text=CAPTION),
        )
        sizes = box.evaluate("(box) => [box.scrollWidth, box.clientWidth, box.tabIndex]")
        assert sizes[0] > sizes[1] and sizes[1] <= 390 and sizes[2] == 0


def test_one_click_shows_all_code_and_another_hides_it(chromium, address):
    with opened(chromium, address + "paper/36_references.html") as page:
        assert page.locator("details.hide[open]").count() == 0
        page.locator(".show-code").click()
        assert page.locator("details.hide[open]").count() == page.locator("details.hide").count() > 10
        assert page.locator(".cell_input pre").first.is_visible()
        page.locator(".show-code").click()
        assert page.locator("details.hide[open]").count() == 0


def test_figures_keep_a_light_card_in_the_dark(chromium, address):
    with opened(chromium, address + "paper/36_references.html", scheme="dark") as page:
        style = "(image) => [getComputedStyle(image).backgroundColor, getComputedStyle(image).filter]"
        assert page.locator("article figure img").first.evaluate(style) == ["rgb(255, 255, 255)", "none"]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


def test_without_javascript_tables_are_whole(chromium, address):
    rows = len(pd.read_csv(paths.ROOT / HEADLINE))
    with opened(chromium, address + "paper/36_references.html", java_script_enabled=False) as page:
        assert _headline(page).locator("tbody tr").count() == rows
        assert page.locator("article figure img").first.is_visible()


def test_the_site_works_from_a_folder_without_a_server(chromium, built_site):
    with opened(chromium, (built_site.folder / "paper/36_references.html").as_uri()) as page:
        assert page.locator(".buttons-csv").count() == page.locator("table.data").count() > 10


def test_print_hides_what_is_clicked_and_shows_what_is_read(chromium, address):
    with opened(chromium, address + "paper/36_references.html") as page:
        page.emulate_media(media="print")
        for hidden in ("header", ".bd-sidebar-primary", ".show-code", ".dt-search", ".buttons-csv", "details.hide"):
            assert not page.locator(hidden).first.is_visible(), hidden
        assert _headline(page).is_visible() and page.locator("article figure img").first.is_visible()


def test_no_table_is_wider_than_the_paper_that_it_is_printed_on(chromium, address):
    with opened(chromium, address + "print/index.html", _PAPER_PX) as page:
        page.emulate_media(media="print")
        cut = """(width) => [...document.querySelectorAll("article table")].filter(
            (table) => table.getBoundingClientRect().right > width + 1
        ).map((table) => table.id)"""
        assert page.evaluate(cut, _PAPER_PX) == []


def test_the_paper_prints_as_a_pdf(chromium, built_site, tmp_path):
    building.print_pdf(built_site.folder / "print" / "index.html", tmp_path / "paper.pdf")
    assert (tmp_path / "paper.pdf").stat().st_size > 100_000
