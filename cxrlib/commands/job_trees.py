"""A tree of its own for a job: links to all that a stage reads, and real folders for what it writes.

DVC takes the outputs of a stage away before it runs the stage's command. If it was killed and is started again, it
takes them away from under a job that still runs. So a job writes into a tree of its own, and what it wrote is brought
home when it is whole. Snakemake calls this a shadow rule.
"""

import os
import shutil

# Code and settings are copied, so that a job that waits in a queue runs what its stage was hashed with.
COPIED = ("cxrlib", "notebooks", "params.yaml", "dvc.yaml")
_NOT_LINKED = (".git", ".dvc")  # found in the folders above: a tree lies in the checkout


def remove(path):
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copied(source, to):
    """Copy a file or folder by hard links, or by its bytes where the file system has none; return where to."""

    def link(file, copy):
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)
        return copy

    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, copy_function=link)
    else:
        link(source, to)
    return to


def grow(root, tree, outs):
    """Make a tree below a checkout for a job that writes some of its paths.

    Parameters
    ----------
    root, tree : Path
        The checkout, and the folder to make.
    outs : Mapping of str to bool
        Each path that the job writes, relative to the root, and whether it begins with what is there now.
    """
    inner = {parent for path in outs for parent in _parents(path)}
    (root / "data" / "partial").mkdir(parents=True, exist_ok=True)  # shared by all: unfinished work outlives a job

    def fill(folder):
        (tree / folder).mkdir(parents=True)
        below = root / folder
        for entry in sorted(os.listdir(below)) if below.is_dir() else []:
            path = f"{folder}/{entry}" if folder else entry
            if path in outs or path in inner or (not folder and entry in (*COPIED, *_NOT_LINKED)):
                continue
            (tree / path).symlink_to(root / path)
        for path in sorted(inner):
            if os.path.dirname(path) == folder:
                fill(path)

    fill("")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(root / name, tree / name)
    for path, kept in outs.items():
        if kept and (root / path).exists():
            copied(root / path, tree / path)


def _parents(path):
    """Return the folders above a relative path."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: k + 1]) for k in range(len(parts))]


def bring_home(root, tree, outs):
    """Put what a job wrote in the place of what is in the checkout; the tree keeps it too.

    Parameters
    ----------
    root, tree : Path
    outs : iterable of str
        Paths relative to both; what the job did not write stays as it is.
    """
    for path in outs:
        if (tree / path).exists():
            home = root / path
            part = home.with_name(f".{home.name}.part")
            remove(part)
            copied(tree / path, part)
            remove(home)
            os.replace(part, home)
