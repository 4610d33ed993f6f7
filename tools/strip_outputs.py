"""Write the notebook on standard input to standard output as git keeps it: git's filter (`git_filter.sh`).

nbstripout takes outputs and counts out; what JupyterLab adds when it saves goes too: the state of widgets, what the
kernel says of its Python, and what the kernel is called here. Git starts this once for each notebook that it looks
into, so it imports little: jsonschema, which nbformat needs, would compile a grammar of internet addresses, in five
times the time of all the rest.
"""

import sys
import warnings

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat  # noqa: E402
from nbstripout import strip_output  # noqa: E402

_KERNEL = ("codemirror_mode", "file_extension", "mimetype", "nbconvert_exporter", "pygments_lexer", "version")
_CELL = (
    *("ExecuteTime", "collapsed", "execution", "heading_collapsed", "hidden", "scrolled"),  # as nbstripout by itself
    *("editable", "jupyter", "papermill", "slideshow", "trusted"),
)
DROPPED = (
    *(f"metadata.language_info.{key}" for key in _KERNEL),
    *(f"metadata.{key}" for key in ("papermill", "signature", "toc-autonumbering", "widgets")),
    *(f"cell.metadata.{key}" for key in _CELL),
)


def stripped(text):
    """Return the text of a notebook without what git does not keep.

    Raises
    ------
    ValueError
        If it is no notebook; git then takes the file as it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of cells without ids, which are kept so
        notebook = nbformat.reads(text, nbformat.NO_CONVERT)
        kept = strip_output(notebook, keep_output=False, keep_count=False, keep_id=False, extra_keys=list(DROPPED))
        if "kernelspec" in kept.metadata:
            kept.metadata.kernelspec.display_name = "Python 3"
        return nbformat.writes(kept).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(stripped(sys.stdin.buffer.read().decode()).encode())
