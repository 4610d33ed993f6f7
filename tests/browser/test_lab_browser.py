"""JupyterLab in a browser, as `make lab` opens it: Run All, change, save; then git has nothing to say.

One server serves all tests. It runs in a clone, so that what is tested is what is committed.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cxrlib.base import paths

sync_playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: install requirements.txt"
).sync_playwright
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(not (paths.ROOT / ".git").exists(), reason="no git checkout: what is tested is a clone"),
]

TOKEN = "a-token-of-the-tests"
PATIENCE_S = 240  # for the server, a page and a notebook on a machine that has much else to do
IDLE = ".jp-StatusBar-TextItem:text-matches('Python 3.* Idle')"  # the kernel is there, and has nothing to do
SLIDER = ".widget-slider"


def git(folder, *words):
    """Return what git says in a folder."""
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout


def wait_until(condition, what, seconds=PATIENCE_S):
    """Wait until a condition holds, or fail and say what did not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.2)


class Lab:
    """A JupyterLab server in a clone."""

    def __init__(self, clone, process, port):
        self.clone, self.process, self.port = clone, process, port

    def answers(self):
        """Return whether the server answers."""
        assert self.process.poll() is None, (self.clone.parent / "lab.log").read_text()[-2000:]
        address = f"http://127.0.0.1:{self.port}/api/status?token={TOKEN}"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stored(self, notebook):
        """Return a notebook as it lies on the disk."""
        return json.loads((self.clone / "notebooks" / notebook).read_text())


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The server that `make lab` starts in a clone without data, and its address and token."""
    folder = tmp_path_factory.mktemp("lab")
    clone, binaries = folder / "clone", Path(sys.executable).parent
    git(folder, "clone", "--quiet", str(paths.ROOT), str(clone))
    subprocess.run(["bash", "tools/git_filter.sh"], cwd=clone, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")  # nothing of whoever runs the tests
    environment = {**os.environ, **{f"JUPYTER_{name}": str(folder / name.lower()) for name in own}}
    environment |= {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(clone), "MAKEFLAGS": ""}
    options = f"--no-browser --allow-root --ServerApp.ip=127.0.0.1 --LabApp.user_settings_dir={folder}/settings"
    options += f" --LabApp.workspaces_dir={folder}/workspaces"
    command = ["make", "--silent", "lab", f"BIN={binaries}", f"PORT={port}", f"TOKEN={TOKEN}", f"LAB={options}"]
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=clone, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = Lab(clone, process, port)
    try:
        wait_until(server.answers, "JupyterLab")
        yield server
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):  # make, the server and every kernel that it has left
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)


@pytest.fixture(scope="module")
def window(lab):
    """A window of a headless Chromium, and every address elsewhere that it asked for."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE_S * 1000)
        page.elsewhere = []
        here = (f"http://127.0.0.1:{lab.port}/", f"ws://127.0.0.1:{lab.port}/", "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(here) else page.elsewhere.append(r.url))
        yield page
        chromium.close()


def run_all(window, lab, notebook):
    """Open a notebook, run all of its cells by the menu and wait until the kernel has nothing left to do."""
    window.goto(f"http://127.0.0.1:{lab.port}/lab/tree/notebooks/{notebook}?token={TOKEN}&reset")
    window.locator(".jp-NotebookPanel-toolbar").wait_for()
    window.locator(IDLE).wait_for()
    window.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
    window.locator('.lm-Menu-itemLabel:text-is("Run All Cells")').click()
    last = window.locator(".jp-CodeCell .jp-InputPrompt").last
    wait_until(lambda: last.text_content().strip("[]: ").isdigit(), f"the last cell of {notebook}")
    window.locator(IDLE).wait_for()


def save(window, lab, notebook):
    """Save by the keyboard, wait until the file is whole and return it."""
    file = lab.clone / "notebooks" / notebook
    before = file.stat().st_mtime_ns
    window.keyboard.press("Control+s")

    def written():
        try:
            return file.stat().st_mtime_ns != before and bool(lab.stored(notebook))
        except json.JSONDecodeError:  # the server is writing it
            return False

    wait_until(written, "the saved file", 60)
    return lab.stored(notebook)


def nothing_left_for_git(lab):
    """Wait until git finds the clone clean: it is told a second after a notebook was saved."""
    try:
        wait_until(lambda: git(lab.clone, "status", "--porcelain") == "", "a clean `git status`", 60)
    except AssertionError as error:
        left = git(lab.clone, "status", "--porcelain") + git(lab.clone, "diff")
        raise AssertionError(f"{error}; git has\n{left[:2000]}") from None


def outputs(notebook):
    """Return all outputs of a notebook."""
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def test_the_tour_runs_is_saved_and_leaves_git_clean(window, lab):
    run_all(window, lab, "00_tour.ipynb")
    saved = save(window, lab, "00_tour.ipynb")
    counts = [cell["execution_count"] for cell in saved["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1)), "every cell has run, in order"
    assert {output["output_type"] for output in outputs(saved)} == {"display_data", "execute_result", "stream"}
    assert not [output for output in outputs(saved) if "been running for" in json.dumps(output)]
    assert any("image/png" in output.get("data", {}) for output in outputs(saved))
    nothing_left_for_git(lab)
    assert not window.elsewhere, "JupyterLab asks nobody else for anything"


def test_a_changed_sentence_is_still_seen_by_git(window, lab):
    """The check above is real: what git keeps is not hidden."""
    file = lab.clone / "notebooks" / "00_tour.ipynb"
    kept = file.read_text()
    file.write_text(kept.replace("# A tour", "# A detour"))
    assert git(lab.clone, "status", "--porcelain") == " M notebooks/00_tour.ipynb\n"
    file.write_text(kept)


def test_widgets_of_the_play_notebook_change_what_they_show(window, lab):
    run_all(window, lab, "01_play.ipynb")
    slider = window.locator(SLIDER, has_text="specificity").first
    slider.scroll_into_view_if_needed()
    assert slider.is_visible()
    table = window.locator(".jp-RenderedHTMLCommon table", has_text="share not called at prevalence").first
    picture = window.locator(".widget-output img").first
    before, drawn = table.inner_text(), picture.get_attribute("src")
    handle = slider.locator(".noUi-handle")
    handle.focus()
    for _ in range(20):
        handle.press("ArrowLeft")
    wait_until(lambda: table.inner_text() != before, "another table", 30)
    assert picture.get_attribute("src") != drawn
    assert float(slider.locator(".widget-readout").inner_text()) < 0.9
    saved = save(window, lab, "01_play.ipynb")
    assert "error" not in {output["output_type"] for output in outputs(saved)}
    assert "widgets" not in saved["metadata"]
    nothing_left_for_git(lab)
