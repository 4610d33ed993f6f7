"""What `make lab` adds: a clock under long cells, saved notebooks without traces, and a git that sees no change."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jupyterlab
import pytest
from jupyter_client.manager import start_new_kernel

from cxrlib.base import paths
from cxrlib.commands import lab

CONFIGURATION = paths.ROOT / "tools" / "lab"


class Published(list):
    """What a clock published: (data, name, whether it replaces)."""

    def __call__(self, data, metadata, *, transient, update):
        self.append((data, transient["display_id"], update))


def test_a_short_cell_shows_no_clock():
    published = Published()
    clock = lab.CellClock(published, after_s=30, every_s=30)
    before = time.monotonic()
    clock.start()
    clock.stop()
    assert not published and time.monotonic() - before < 10, "nor does the cell wait for the clock"


def test_the_clock_of_a_long_cell_is_one_line_that_is_taken_away():
    published = Published()
    clock = lab.CellClock(published, after_s=0.01, every_s=0.01)
    clock.start()
    while len(published) < 3:
        time.sleep(0.01)
    clock.stop()
    n = len(published)
    time.sleep(0.1)
    assert len(published) == n, "a clock that was stopped says nothing more"
    assert "has been running for 0 s." in published[0][0]["text/plain"]
    assert [update for *_, update in published] == [False] + [True] * (n - 1)
    assert len({name for _, name, _ in published}) == 1 and published[-1][0] == {}


@pytest.mark.parametrize(("seconds", "words"), [(7.4, "7 s"), (60, "1 min 0 s"), (185, "3 min 5 s")])
def test_durations(seconds, words):
    assert lab._duration(seconds) == words


def test_a_kernel_of_make_lab_has_the_clock_and_no_name_more(tmp_path):
    """The startup file starts it; what it shows is taken away, and a notebook's names are its own."""
    added = {"PYTHONSTARTUP": str(CONFIGURATION / "startup.py"), "IPYTHONDIR": str(tmp_path)}
    environment = {**os.environ, **added, "PYTHONPATH": str(paths.ROOT)}
    manager, client = start_new_kernel(kernel_name="python3", env=environment)
    try:
        messages = []
        for code in (
            f"import time; time.sleep({lab.CLOCK_AFTER_S + 0.5})",
            "print(sorted(n for n in dir() if n[0] != '_'))",
        ):
            client.execute_interactive(code, output_hook=messages.append, timeout=60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    shown = [m["content"]["data"] for m in messages if m["msg_type"] in ("display_data", "update_display_data")]
    assert len(shown) >= 2 and "A cell has been running for 5 s." in shown[0]["text/plain"] and shown[-1] == {}
    (names,) = (m["content"]["text"] for m in messages if m["msg_type"] == "stream")
    assert names.strip() == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit', 'time']"


def notebook(cells=(), **metadata):
    return {"type": "notebook", "content": {"nbformat": 4, "metadata": dict(metadata), "cells": list(cells)}}


def test_a_saved_notebook_keeps_what_shows_something():
    picture = {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": {}}
    text = {"output_type": "stream", "name": "stdout", "text": "done\n"}
    wiped = {"output_type": "stream", "name": "stderr", "text": ["\r", "     ", "\r"]}
    gone = {"output_type": "display_data", "data": {}, "metadata": {}}
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    cells = [{"cell_type": "code", "outputs": [gone, picture, wiped, text, error]}, {"cell_type": "markdown"}]
    model = notebook(cells, widgets={"state": 1}, kernelspec={"name": "python3"})
    lab.without_residue(model=model, path="a.ipynb", contents_manager=None)
    assert model["content"]["cells"][0]["outputs"] == [picture, text, error]
    assert model["content"]["metadata"] == {"kernelspec": {"name": "python3"}}
    file = {"type": "file", "content": "text"}
    lab.without_residue(model=file)
    assert file == {"type": "file", "content": "text"}


@pytest.fixture
def clone(tmp_path):
    """A repository with one template, and the filter of this one."""
    for name in (".gitattributes", "tools/git_filter.sh", "tools/strip_outputs.py", "notebooks/00_tour.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(paths.ROOT / name, tmp_path / name)
    run = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*run, "init", "--quiet"], check=True)
    subprocess.run(["bash", str(tmp_path / "tools" / "git_filter.sh")], check=True)
    subprocess.run([*run, "add", "--all"], check=True)
    subprocess.run([*run, "commit", "--quiet", "--message", "first"], check=True)
    return tmp_path


def status(clone):
    done = subprocess.run(
        ["git", "-C", str(clone), "status", "--porcelain"], check=True, capture_output=True, text=True
    )
    return done.stdout


def saved_by_jupyterlab(path, source=None):
    """Change a template as JupyterLab does when it saves after Run All; with a source, as a person does, too."""
    content = json.loads(path.read_text())
    content["metadata"]["kernelspec"]["display_name"] = "My Python (ipykernel)"
    content["metadata"]["language_info"] |= {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": "3.11.99",
    }
    content["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    for k, cell in enumerate(cell for cell in content["cells"] if cell["cell_type"] == "code"):
        cell["execution_count"] = k + 1
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": ["x\n"]}]
        cell["metadata"] |= {"scrolled": True, "editable": True, "slideshow": {"slide_type": ""}}
    if source:
        content["cells"][0]["source"] = source
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def test_git_sees_no_change_after_run_all_and_save(clone):
    path = clone / "notebooks" / "00_tour.ipynb"
    saved_by_jupyterlab(path)
    lab.seen_by_git(model=notebook(), os_path=str(path), contents_manager=None).join()
    assert status(clone) == ""
    assert '"x\\n"' in path.read_text(), "the file itself keeps its outputs"


def test_git_sees_no_change_after_a_save_while_somebody_else_asks_git(clone):
    """An extension that watches git holds the lock of its index for a moment, again and again."""
    path, lock = clone / "notebooks" / "00_tour.ipynb", clone / ".git" / "index.lock"
    saved_by_jupyterlab(path)
    lock.touch()
    thread = lab.seen_by_git(model=notebook(), os_path=str(path))
    thread.join(1)
    assert thread.is_alive(), "it waits for the lock"
    lock.unlink()
    thread.join()
    assert status(clone) == ""


def test_git_sees_what_a_person_changed_and_nothing_is_staged(clone):
    path = clone / "notebooks" / "00_tour.ipynb"
    saved_by_jupyterlab(path, source=["# Another tour"])
    lab.seen_by_git(model=notebook(), os_path=str(path)).join()
    assert status(clone) == " M notebooks/00_tour.ipynb\n"
    new = clone / "notebooks" / "new.ipynb"
    shutil.copy(path, new)
    lab.seen_by_git(model=notebook(), os_path=str(new)).join()
    assert "?? notebooks/new.ipynb\n" in status(clone), "a new notebook is not added"
    assert lab.seen_by_git(model={"type": "file"}, os_path=str(clone / "README.md")) is None


def test_outside_git_saving_is_saving(tmp_path):
    shutil.copy(paths.ROOT / "notebooks" / "00_tour.ipynb", tmp_path)
    lab.seen_by_git(model=notebook(), os_path=str(tmp_path / "00_tour.ipynb")).join()
    assert [path.name for path in tmp_path.iterdir()] == ["00_tour.ipynb"]


def test_jupyter_finds_what_it_is_told_to_call():
    hooks = json.loads((CONFIGURATION / "jupyter_server_config.json").read_text())["ContentsManager"]
    assert set(hooks) == {"pre_save_hook", "post_save_hook"}
    for name in hooks.values():
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def test_settings_are_ones_that_jupyterlab_knows():
    """A setting that a new version no longer knows would be dropped in silence."""
    share = Path(sys.prefix) / "share" / "jupyter"
    schemas = [share / "lab" / "schemas", *(share / "labextensions").rglob("schemas")]
    settings = json.loads((CONFIGURATION / "labconfig" / "default_setting_overrides.json").read_text())
    assert jupyterlab.__version__.startswith("4.") and len(settings) == 3
    for plugin, chosen in settings.items():
        package, _, name = plugin.partition(":")
        (file,) = (
            folder / package / f"{name}.json" for folder in schemas if (folder / package / f"{name}.json").exists()
        )
        known = json.loads(file.read_text())["properties"]
        assert set(chosen) <= set(known), plugin


def test_make_lab_tells_jupyter_and_the_kernel():
    done = subprocess.run(
        ["make", "--dry-run", "lab", "BIN=/bin", "PORT=1234", "TOKEN=secret", "LAB=--no-browser"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    line = " ".join(done.stdout.replace("\\\n", " ").split())
    assert f'JUPYTER_CONFIG_PATH="{CONFIGURATION}' in line and f'PYTHONSTARTUP="{CONFIGURATION}/startup.py"' in line
    assert "--port 1234 --IdentityProvider.token=secret --no-browser notebooks/00_tour.ipynb" in line
