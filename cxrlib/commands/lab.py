"""What `make lab` adds to JupyterLab: a clock under cells that take long, and saved notebooks without its traces.

The kernel loads the clock as an IPython extension (`tools/lab/startup.py`). The server calls `without_residue` before
it saves a notebook and `seen_by_git` after (`tools/lab/jupyter_server_config.json`). Notebooks that the pipeline or a
test runs have none of these, so that nothing of them can be in a page.
"""

import contextvars
import shutil
import subprocess
import threading
import time
import uuid
from pathlib import Path

CLOCK_AFTER_S = 5.0  # a cell that takes no longer shows no clock
# Run All scrolls to the last cell, so that a line under the running one would be out of sight. JupyterLab must keep
# that cell in the page for this (`windowingMode` in tools/lab/labconfig).
_CORNER = (
    "position:fixed;right:24px;bottom:12px;z-index:10;padding:4px 12px;border-radius:4px;"
    "border:1px solid var(--jp-border-color1,#bdbdbd);"
    "background:var(--jp-layout-color1,#ffffff);color:var(--jp-ui-font-color1,#212121)"
)

_one_at_a_time = threading.Lock()
_WAITS_S = (0.1, 0.3, 1, 3, 10)  # between tries to let git see a saved notebook


class CellClock:
    """Says in the corner of a notebook for how long a cell has been running; the line goes when the cell is done.

    Parameters
    ----------
    publish : Callable
        `publish(data, metadata, transient=..., update=...)`, as IPython's `display_pub.publish`.
    after_s : float
        How long a cell runs before the line appears.
    every_s : float
        How often the line changes.
    """

    def __init__(self, publish, after_s=CLOCK_AFTER_S, every_s=1.0):
        self._publish, self._after_s, self._every_s = publish, after_s, every_s
        self._done = self._thread = None

    def start(self, *_):
        """Begin with a cell."""
        self.stop()
        self._done = threading.Event()
        # The context says which cell is running: what is published is an output of that cell.
        told = contextvars.copy_context().run, self._tick, self._done, time.monotonic(), uuid.uuid4().hex
        self._thread = threading.Thread(target=told[0], args=told[1:], daemon=True)
        self._thread.start()

    def stop(self, *_):
        """End with a cell; return when the line is gone."""
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self._thread = None

    def _tick(self, done, since, name):
        shown, wait = False, self._after_s
        while not done.wait(wait):
            text = f"A cell has been running for {_duration(time.monotonic() - since)}."
            html = f'<div class="cxr-clock" style="{_CORNER}">{text}</div>'
            self._publish({"text/plain": text, "text/html": html}, {}, transient={"display_id": name}, update=shown)
            shown, wait = True, self._every_s
        if shown:
            self._publish({}, {}, transient={"display_id": name}, update=True)


def _duration(seconds):
    """Return a duration in words: "12 s", "3 min 5 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def load_ipython_extension(shell):
    """Start a clock with every cell of this kernel; IPython calls this for `%load_ext cxrlib.commands.lab`."""
    clock = CellClock(shell.display_pub.publish)
    shell.events.register("pre_run_cell", clock.start)
    shell.events.register("post_run_cell", clock.stop)


def without_residue(model, **_):
    """Take out of a notebook that is about to be saved, in place, what showed progress and what widgets stored.

    That is: outputs that show nothing (a clock that was taken away, a progress bar that was wiped), and the state of
    widgets, which only their kernel could bring to life. Jupyter calls this as its `pre_save_hook`.

    Parameters
    ----------
    model : dict
        Of Jupyter's contents API.
    """
    if model["type"] != "notebook" or model["content"]["nbformat"] != 4:
        return
    model["content"]["metadata"].pop("widgets", None)
    for cell in model["content"]["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if _shows(output)]


def _shows(output):
    """Return whether an output shows anything."""
    if output["output_type"] == "stream":
        return bool("".join(output["text"]).strip())
    return output["output_type"] != "display_data" or bool(output["data"])


def seen_by_git(model, os_path, **_):
    """Let `git status` see that a saved notebook is as committed, if nothing but what git does not keep has changed.

    Git takes a file of another size for a changed one, and asks its filter (`tools/git_filter.sh`) only when the file
    is added. So a notebook whose filtered content is that of the index is added, which stages nothing. Jupyter calls
    this as its `post_save_hook`.

    Parameters
    ----------
    model : dict
        Of Jupyter's contents API.
    os_path : str

    Returns
    -------
    threading.Thread or None
        What does it, so that saving does not wait.
    """
    if model["type"] != "notebook" or not shutil.which("git"):
        return None
    thread = threading.Thread(target=_add_unchanged, args=(Path(os_path),), daemon=True)
    thread.start()
    return thread


def _add_unchanged(path):
    git = ["git", "-C", str(path.parent)]
    with _one_at_a_time:
        for wait_s in _WAITS_S:  # whoever else asks git for its status may hold the lock of its index
            known, saved = (
                subprocess.run([*git, *words], capture_output=True, text=True)
                for words in (["rev-parse", f":./{path.name}"], ["hash-object", "--", path.name])
            )
            if known.returncode or saved.returncode or known.stdout != saved.stdout:
                return
            if subprocess.run([*git, "add", "--", path.name], capture_output=True).returncode == 0:
                return
            time.sleep(wait_s)
