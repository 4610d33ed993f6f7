"""The numbers in the prose of pages, each filled from a file by a marker.

A marker is `<!-- value: FILE ; WHERE ; TEMPLATE -->...<!-- end -->`, never at the start of a line. FILE lies in the
repository. WHERE and TEMPLATE depend on its kind:

- CSV: WHERE is `column = text & column = text`, which must leave one row. TEMPLATE is text with `{column}`,
  `{column:.2f}`, or `{column[1]:.2f}`, the second number of a cell such as `0.23 (0.12 to 0.34)`.
  `{min(column):.2f}`, `max`, `sum` and `count()` are over all rows that WHERE leaves, and `{abs(column):.2f}` drops
  the sign. `{one / two:.2f}` is of two columns, as are their sum and difference.
- JSON and YAML: WHERE is a path of keys, separated by `/`, to a mapping, whose keys TEMPLATE names.
- An executed notebook: WHERE is words, separated by `&`, all of which one line of its outputs holds. TEMPLATE numbers
  the numbers of that line, from 0: `{0:.2f}`.

A format is one of Python's, or `.1p`, a percentage without its sign, or `d`, an integer with thousands commas.
"""

import functools
import html
import json
import operator
import re
from pathlib import Path

import pandas as pd
import yaml

MARKER = re.compile(r"<!-- value: (?P<marker>.*?) -->(?P<shown>.*?)<!-- end -->", re.S)
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?")
_FIELD = re.compile(
    r"\{(?:(?P<function>min|max|sum|count|abs)\()?(?P<column>[^{}]*?)(?:\[(?P<place>\d)\])?"
    r"(?P<close>\))?(?::(?P<spec>[-+,]?(?:\.\d+)?[a-z,]))?\}"
)
_OVER_ROWS = {"min": min, "max": max, "sum": sum}
_SIGNS = {" / ": operator.truediv, " - ": operator.sub, " + ": operator.add}


def numbers(text):
    """Return the numbers of a text as floats, in their order."""
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text)]


def shown(number, spec):
    """Return a number as a format says: Python's, `.1p` for a percentage, `d` for an integer with commas."""
    if spec.endswith("p"):
        text = format(100 * number, f"{spec[:-1] or '.0'}f")
    else:
        text = format(number, ",.0f" if spec == "d" else spec)
    return text.removeprefix("-") if not re.search("[1-9]", text) else text


@functools.lru_cache(maxsize=64)
def _read_csv(path, _changed):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@functools.lru_cache(maxsize=64)
def _read_lines(path, _changed):
    return output_lines(json.loads(Path(path).read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=64)
def _read_keys(path, _changed):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def output_lines(notebook):
    """Return the lines of text in a notebook's outputs, a row of an HTML table being one line, each once.

    Parameters
    ----------
    notebook : dict
        As in its JSON.

    Returns
    -------
    list of str
    """
    texts = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = {"text/plain": output["text"]} if "text" in output else output.get("data", {})
            if "text/html" in data:
                rows = re.sub(r"\s*\n\s*", " ", "".join(data["text/html"]))
                rows = re.sub(r"</tr>|<br>|</p>|</div>", "\n", rows)
                texts.append(html.unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", rows))))
            else:
                texts += ["".join(data[kind]) for kind in ("text/plain", "text/markdown") if kind in data]
    return list(dict.fromkeys(re.sub(r"\s+", " ", line).strip() for text in texts for line in text.splitlines()))


def _rows(table, where):
    """Return the rows of a table that conditions leave."""
    for condition in filter(None, (part.strip() for part in where.split(" & "))):
        column, equals, value = (part.strip() for part in condition.partition(" = "))
        if not equals or column not in table:
            raise ValueError(f"the condition {condition!r} names none of its columns ({', '.join(table)})")
        table = table[table[column] == value]
    if table.empty:
        raise ValueError(f"no row has {where!r}")
    return table


def _column(table, name, place):
    """Return one number per row of a table: of one column, or of two with a sign of `_SIGNS` between them."""
    if name in table:
        found = [numbers(cell) for cell in table[name]]
        if any(len(row) <= place for row in found):
            raise ValueError(f"the column {name!r} has no number {place} in {table[name].iloc[0]!r}")
        return [row[place] for row in found]
    for sign, compute in _SIGNS.items():
        first, found, second = name.partition(sign)
        if found and first in table and second in table:
            return [*map(compute, _column(table, first, place), _column(table, second, place))]
    raise ValueError(f"it has no column {name!r} ({', '.join(table)})")


def _of_table(table, where, template):
    """Return a template filled from the rows of a table that conditions leave."""
    rows = _rows(table, where)

    def field(match):
        function, name, spec = match["function"], match["column"], match["spec"]
        if function == "count":
            return shown(len(rows), "d")
        if function in _OVER_ROWS:
            return shown(_OVER_ROWS[function](_column(rows, name, _place(match))), spec or "")
        if len(rows) > 1:
            raise ValueError(f"{len(rows)} rows have {where!r}")
        if spec is None and name in rows:
            return rows[name].iloc[0]
        number = _column(rows, name, _place(match))[0]
        return shown(abs(number) if function == "abs" else number, spec or "")

    return _FIELD.sub(field, template)


def _place(match):
    """Return which number of a cell a field of a template asks for."""
    return int(match["place"] or 0)


def _of_keys(found, where, template):
    """Return a template filled from a mapping inside YAML or JSON."""
    for key in filter(None, where.split("/")):
        if isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            raise ValueError(f"it has no {where!r}")
    return _of_table(pd.DataFrame([{str(key): str(value) for key, value in found.items()}]), "", template)


def _of_lines(lines, where, template):
    """Return a template filled from the one line of a notebook's outputs that has all of some words."""
    words = [word.strip() for word in where.split(" & ")]
    found = [line for line in lines if all(word in line for word in words)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} lines of its outputs have {where!r}")
    return _of_table(pd.DataFrame([{str(i): str(n) for i, n in enumerate(numbers(found[0]))}]), "", template)


def value(marker, root):
    """Return what a marker stands for.

    Parameters
    ----------
    marker : str
        `FILE ; WHERE ; TEMPLATE`, as described above.
    root : pathlib.Path
        The folder below which FILE lies.

    Raises
    ------
    ValueError
        If the file, the row or the column is not there, or several rows are.
    """
    parts = [part.strip() for part in re.split(r" ;(?= )", marker)]
    if len(parts) != 3:
        raise ValueError("write it as FILE ; WHERE ; TEMPLATE")
    name, where, template = parts
    path = Path(root) / name
    if not path.exists():
        raise ValueError(f"there is no {name}")
    read, fill = {
        ".csv": (_read_csv, _of_table),
        ".ipynb": (_read_lines, _of_lines),
        ".json": (_read_keys, _of_keys),
        ".yaml": (_read_keys, _of_keys),
    }.get(path.suffix, (None, None))
    if read is None:
        raise ValueError(f"{name} is no CSV, JSON, YAML or notebook")
    return fill(read(str(path), path.stat().st_mtime_ns), where, template)


def with_values(text, root, page="the page"):
    """Return a page's text with every marker showing what its file has now.

    Raises
    ------
    ValueError
        One sentence that names the page and the marker, if the marker does not name one row.
    """

    def fill(match):
        try:
            if not text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip():
                raise ValueError("it starts its line, which Markdown takes for a block of HTML; put a word before it")
            found = value(match["marker"], root)
        except ValueError as error:
            marker = f"<!-- value: {match['marker']} -->"
            raise ValueError(f"{page}: the marker {marker} cannot be filled: {error}.") from None
        return f"<!-- value: {match['marker']} -->{found}<!-- end -->"

    return MARKER.sub(fill, text)
