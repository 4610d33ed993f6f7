"""YAML that people wrote, as plain mappings, lists and values: what could execute, grow or hide is refused.

Refused are tags that build objects (`!!python/...`), aliases that contain themselves or stand for more than
`_ENTRIES_MOST` entries in all, a key that occurs twice in one mapping, of which YAML would keep the last, and files
that are too long or too deep.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

_BYTES_MOST = 1 << 24


_ENTRIES_MOST = 1_000_000  # with every alias written out


_KNOWN_TAGS = frozenset(["tag:yaml.org,2002:merge", *filter(None, yaml.SafeLoader.yaml_constructors)])


_REFERENCE = re.compile(r"\$\{((?:\$\{|[^{}])*)\}?")


def read_mapping(path: Path, named: str = "") -> dict:
    """Return a YAML file that holds a mapping.

    Parameters
    ----------
    path : Path
    named : str
        What messages call it; its path if not given.

    Raises
    ------
    FileNotFoundError, ValueError
        In one sentence that names the file, the line and the remedy.
    """
    found = parse_file(path, named or str(path))
    if not isinstance(found, dict):
        raise ValueError(f"{named or path} holds no settings: it must be `name: value` lines.")
    return found


def parse_file(path: Path, named: str, kind: str = "YAML") -> Any:
    """Return what a YAML file holds, as `parse` does."""
    with open(path, "rb") as file:
        data = file.read(_BYTES_MOST + 1)
    if len(data) > _BYTES_MOST:
        raise ValueError(f"{named} is longer than {_BYTES_MOST:,} bytes, which no settings are: name another file.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{named} line {line} is no {kind}: it is not UTF-8; save it as UTF-8.") from None
    return parse(text, named, kind)


def parse(text: str, named: str, kind: str = "YAML") -> Any:
    """Return what a YAML text holds, None if it is empty.

    Parameters
    ----------
    text : str
    named : str
        What messages call it.
    kind : str
        What messages say that it is not.

    Raises
    ------
    ValueError
        In one sentence that names the text, the line and the remedy.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Checker().entries_of(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{named}{line} is no {kind}: {_one_line(error.problem or error.context)}.") from None
    except yaml.reader.ReaderError as error:
        above = text.count("\n", 0, error.position)
        raise ValueError(
            f"{named} line {above + 1} is no {kind}: it has a character that YAML forbids; remove it."
        ) from None
    except RecursionError:
        raise ValueError(f"{named} is no {kind}: it is nested too deep; write it flatter.") from None
    except (ValueError, OverflowError) as error:  # such as the date 2024-02-31
        raise ValueError(f"{named} is no {kind}: {_one_line(error)}; put such a value in quotes.") from None
    except (TypeError, AttributeError, LookupError):  # a tag of plain YAML on a value that it does not fit
        raise ValueError(f"{named} is no {kind}: a value does not fit its tag; write it without a tag.") from None


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:200].rstrip(".")


class _Checker:
    """Looks through the nodes of a document, each once, before anything is built of them."""

    def __init__(self) -> None:
        self.entries_n: dict[int, int] = {}  # of nodes that were seen, with every alias written out
        self.above: set[int] = set()

    def entries_of(self, node: yaml.Node) -> int:
        """Return how many entries a node stands for; raise a YAML error at what is refused."""
        if id(node) in self.above:
            raise _refused(node, "an alias that contains itself; write it out")
        if id(node) in self.entries_n:
            return self.entries_n[id(node)]
        if node.tag not in _KNOWN_TAGS:
            raise _refused(node, f"the tag {node.tag!r} is none of plain YAML; write the value without a tag")
        self.above.add(id(node))
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        total = 1 + sum(map(self.entries_of, inner))
        if total > _ENTRIES_MOST:
            raise _refused(
                node, f"its aliases stand for more than {_ENTRIES_MOST:,} entries; write out what is meant"
            )
        self.above.discard(id(node))
        self.entries_n[id(node)] = total
        return total


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        name = str(key.value)
        if isinstance(key, yaml.ScalarNode) and name in seen:
            raise _refused(key, f"the key {name!r} occurs twice; keep one")
        seen.add(name)


def _refused(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def check_references(settings: dict, named: str) -> None:
    """Raise a ValueError if settings refer to more of themselves, by `${...}`, than can be written out, or elsewhere.

    Parameters
    ----------
    settings : dict
        With the references as they are written, `${section.name}` from the top.
    named : str
        What messages call the settings.
    """
    known: dict[str, int] = {}

    def entries_of(value: Any) -> int:
        if isinstance(value, dict | list):
            return 1 + sum(map(entries_of, value.values() if isinstance(value, dict) else value))
        return 1 + sum(map(referred, _REFERENCE.findall(value))) if isinstance(value, str) else 1

    def referred(reference: str) -> int:
        reference = reference.strip().removeprefix("oc.dict.keys:")
        if ":" in reference or "${" in reference:
            raise ValueError(f"{named}: ${{{reference}}} refers to more than a setting; write ${{section.name}}.")
        if reference not in known:
            known[reference] = 1  # of one that refers to itself, which is said where it is resolved
            known[reference] = total = entries_of(_at(settings, reference))
            if total > _ENTRIES_MOST:
                raise ValueError(
                    f"{named}: ${{{reference}}} stands for more than {_ENTRIES_MOST:,} entries; write it out."
                )
        return known[reference]

    entries_of(settings)


def _at(settings: Any, reference: str) -> Any:
    """Return the setting of a path, None if there is none, which is said where it is resolved."""
    for name in reference.split("."):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings
