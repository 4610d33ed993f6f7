"""Run one notebook as a stage of the pipeline: `python -m cxrlib.commands.notebook TEMPLATE PAGE [NAME=VALUE ...]`.

The template gets the parameters that it declares: those of the command line, else what `params.yaml` has of that name
in the section `section=NAME` (`NAME.PART` inside one), else at its top level; what neither has keeps the template's
own value. PAGE, the executed copy, is written without what differs from run to run. If a cell fails, one sentence
says which and why, and the page as far as it came lies in `data/partial/failed/`. With a place in the variable
`CXR_PLACE` (`make repro PLACE=NAME`), a stage of DVC sends this command there and waits for it.
"""

import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import yaml

# Else jsonschema, which checks notebooks, compiles a grammar of internet addresses when it is imported: two seconds a
# stage, for a format that no notebook has.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat  # noqa: E402
import papermill  # noqa: E402
from nbclient.exceptions import DeadKernelError  # noqa: E402
from papermill.exceptions import PapermillExecutionError  # noqa: E402
from papermill.iorw import LocalHandler, papermill_io  # noqa: E402
from traitlets.config import Config  # noqa: E402

from cxrlib.base import paths, whole_files  # noqa: E402
from cxrlib.commands import places  # noqa: E402

# A kernel that is gone while its last message is read is no failure of a notebook; tornado logs a traceback of it.
logging.getLogger("tornado").setLevel(logging.CRITICAL)

_PR_SET_PDEATHSIG = 1  # prctl(2)
_VARYING = ("papermill", "execution")  # metadata that differ from run to run


def parameters(template, settings, given):
    """Return the parameters that a template declares and somebody sets.

    Parameters
    ----------
    template : Path
    settings : Mapping
        `params.yaml`.
    given : Mapping of str to str
        Of the command line; `section` names the part of `settings`, dotted, that is asked before its top level.

    Raises
    ------
    ValueError
        If the command line sets what the template does not declare.
    """
    given = dict(given)
    section = given.pop("section", None)
    asked = settings
    for part in section.split(".") if section else ():
        asked = asked[part]
    known = {**settings, **asked}
    declared = papermill.inspect_notebook(str(template))
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise ValueError(f"{template.name} declares no parameter {unknown[0]}; it has {', '.join(declared)}.")
    chosen = {name: known[name] for name in declared if name in known}
    return {**chosen, **{name: yaml.safe_load(value) for name, value in given.items()}}


class _PageSoFar(LocalHandler):
    """Write what papermill saves after each cell; where that fails, the cell's own error is not hidden by it."""

    def __init__(self):
        super().__init__()
        self.problem = None

    def write(self, buf, path):
        try:
            super().write(buf, path)
        except OSError as error:
            self.problem = whole_files.not_written(Path(path), error)


def run(template, page, settings, given):
    """Execute a template and write its page.

    Raises
    ------
    RuntimeError
        In one sentence, if a cell fails.
    whole_files.UnwrittenError
        If the page cannot be written.
    """
    failed, kept = paths.partial_dir("failed") / page.name, _PageSoFar()
    papermill_io.register(str(failed), kept)
    with whole_files.naming(Path(tempfile.gettempdir())):
        sockets = tempfile.mkdtemp(prefix="cxr")  # a folder a kernel: no port to race for, and no warning of one
    kernel = {"transport": "ipc", "ip": f"{sockets}/kernel"}
    try:
        executed = papermill.execute_notebook(
            str(template),
            str(failed),
            parameters(template, settings, given),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            config=Config({"KernelManager": kernel}),
        )
    except PapermillExecutionError as error:
        what = str(error.evalue).strip() or "no message"
        so_far = kept.problem or f"the page so far: {failed.relative_to(paths.ROOT)}"
        raise RuntimeError(f"{template.name}, cell {error.exec_count}: {error.ename}: {what}\n({so_far})") from None
    except DeadKernelError:
        raise RuntimeError(
            f"{template.name}: the process that ran its cells was ended, by Ctrl+C or because memory ran out: run "
            "`make repro` again, which takes up what is unfinished."
        ) from None
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    clean(executed)
    with whole_files.naming(page):
        page.parent.mkdir(parents=True, exist_ok=True)
        whole_files.write_text(page, nbformat.writes(executed) + "\n")
    failed.unlink(missing_ok=True)


def clean(notebook):
    """Remove in place what differs from run to run, and number the cells."""
    for k, cell in enumerate(notebook.cells):
        cell.id = str(k)
    for metadata in (notebook.metadata, *(cell.metadata for cell in notebook.cells)):
        for name in _VARYING:
            metadata.pop(name, None)


def main(arguments=None):
    """Run the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) < 2 or not all("=" in word for word in words[2:]):
        sys.exit("usage: python -m cxrlib.commands.notebook TEMPLATE PAGE [NAME=VALUE ...]")
    if os.environ.get(places.PLACE) and os.environ.get("DVC_STAGE"):
        sys.exit(_elsewhere(words))
    if os.environ.get("CXR_DASK"):
        os.environ["PYTHONSTARTUP"] = str(places.KERNEL_STARTUP)
    template, page = (paths.ROOT / word for word in words[:2])
    settings = yaml.safe_load((paths.ROOT / "params.yaml").read_text())
    try:
        run(template, Path(page), settings, dict(word.split("=", 1) for word in words[2:]))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _elsewhere(words):
    """Run this command where the environment says; return its exit status, or a sentence."""
    from cxrlib.commands import sending  # not needed here

    command = [sys.executable, "-m", "cxrlib.commands.notebook", *words]
    try:
        return sending.send(command, os.environ["DVC_STAGE"], places.open_place(os.environ[places.PLACE]))
    except (RuntimeError, ValueError, OSError) as error:
        return str(error)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # without DVC, nobody would take what is made here
    main()
