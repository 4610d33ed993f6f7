"""Write down what each notebook computes: `data/code/<notebook>.txt`, on which the stages of `dvc.yaml` depend.

A file holds a hash of the notebook's code and of every module of `cxrlib` that this code hangs on, directly or
through others, also where a function imports it. Comments, docstrings, types, prose, stored outputs and what an error
says are not in the hashes: saving a notebook after Run All, or mending a sentence, costs nothing; no import can be
forgotten. Of notebooks that pack, train or draw maps, which is dear, modules that only show what was computed are not
in them either: their pages look as they did when they were last run.

    python -m cxrlib.commands.computes
"""

import ast
import functools
import hashlib
import json
import re
from pathlib import Path

from cxrlib.base import paths

# Modules that only say what tables and figures look like, and the notebooks whose results do not hang on that.
_ONLY_SHOW = ("cxrlib/base/figures.py", "cxrlib/studies/displays.py")
_DEAR = ("01_cohort", "10_train", "12_labelers", "13_visual", "14_maps", "17_image_to_text")

_MODULE = re.compile(r"cxrlib(\.\w+)+")


def notebook_code(path):
    """Return the code of a notebook's cells, a cell after another, without outputs and prose."""
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


class _Untyped(ast.NodeTransformer):
    """Takes the types out of a syntax tree: what only a type checker reads computes nothing.

    The fields of a class keep theirs, since dataclasses and named tuples are made of them.
    """

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        if node.value is None:
            return None
        return ast.Assign([node.target], self.visit(node.value), lineno=node.lineno)

    def visit_ClassDef(self, node):
        fields = {id(each): each for each in node.body if isinstance(each, ast.AnnAssign)}
        visited = [each if id(each) in fields else self.visit(each) for each in node.body]
        node.body = [each for each in visited if each is not None]
        return node

    def visit_ImportFrom(self, node):
        """Drop what serves types alone: `TYPE_CHECKING`, and annotations that are not evaluated."""
        alone = {"typing": "TYPE_CHECKING", "__future__": "annotations"}.get(node.module)
        node.names = [alias for alias in node.names if alias.name != alone]
        return node if node.names else None

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def parsed(text):
    """Return the syntax tree of Python code without types."""
    return _Untyped().visit(ast.parse(text))


@functools.cache
def _parsed(path):
    return parsed(path.read_text())


@functools.cache
def _imported_by(path, root):
    return imported(_parsed(path), root)


@functools.cache
def _digest_of(path):
    return _digest(meaning(path.read_text()).encode() if path.suffix == ".py" else path.read_bytes())


def imported(tree, root):
    """Return the files of `cxrlib` that a syntax tree imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            names = [node.value]  # of importlib.import_module
        else:
            continue
        for name in names:
            if name.split(".")[0] == "cxrlib":
                place = root.joinpath(*name.split("."))
                found |= {p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists()}
    return found


def closure(tree, root, without=()):
    """Return every file of `cxrlib` that some code hangs on, and the data files that those read, sorted.

    Files in `without`, and what is reached through them alone, are left out.
    """
    modules, without = set(), set(without)
    waiting = (imported(tree, root) | {root / "cxrlib" / "__init__.py"}) - without
    while waiting:
        path = waiting.pop()
        modules.add(path)
        waiting |= _imported_by(path, root) - modules - without
    data = set()
    for path in modules:
        if "__file__" in path.read_text() and path.parent != root / "cxrlib" / "base":
            data |= {p for p in path.parent.rglob("*") if p.suffix in (".txt", ".yaml")}
    return sorted(modules | data)


def meaning(text):
    """Return Python code without comments, docstrings, types, layout and what its errors say, as text."""
    tree = parsed(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def computes(notebook, root):
    """Return what a notebook computes, a line each for its own code and for every file that it hangs on."""
    code = notebook_code(notebook)
    without = [root / name for name in _ONLY_SHOW] if notebook.stem in _DEAR else []
    return f"{_digest(meaning(code).encode())}  notebooks/{notebook.name}\n" + _hangs_on(code, root, without)


def module_computes(module, root):
    """Return what a module of `cxrlib` computes, named with dots, a line for every file that it hangs on."""
    return _hangs_on(f"import {module}", root, [root / name for name in _ONLY_SHOW])


def _hangs_on(code, root, without):
    files = closure(ast.parse(code), root, without)
    return "".join(f"{_digest_of(path)}  {path.relative_to(root).as_posix()}\n" for path in files)


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def write(root, folder):
    """Write what every notebook below `root` computes into a folder; files that stay the same are not touched.

    Parameters
    ----------
    root, folder : Path
    """
    for cached in (_parsed, _imported_by, _digest_of):  # files may have changed since
        cached.cache_clear()
    folder.mkdir(parents=True, exist_ok=True)
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    for notebook in notebooks:
        file, text = folder / f"{notebook.stem}.txt", computes(notebook, root)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    for file in set(folder.glob("*.txt")) - {folder / f"{n.stem}.txt" for n in notebooks}:
        file.unlink()


if __name__ == "__main__":
    write(paths.ROOT, Path(paths.ROOT) / "data" / "code")
