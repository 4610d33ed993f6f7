"""XML that others wrote, as a tree: entities that grow, or name other files, are refused before any is followed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.parsers import expat

if TYPE_CHECKING:
    from typing import NoReturn

_DEPTH_MOST = 200  # elements within elements


def parse(data: bytes) -> ElementTree.Element:
    """Return the root of an XML document.

    Parameters
    ----------
    data : bytes
        In the encoding that it states.

    Raises
    ------
    ValueError
        In half a sentence: it is no XML, declares entities, states an encoding that there is not, or has elements
        within elements more than 200 deep.
    """
    _look_through(data)
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"not XML ({error})") from None


def _look_through(data: bytes) -> None:
    depth = 0

    def opens(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH_MOST:
            raise ValueError(f"XML with elements within elements more than {_DEPTH_MOST} deep")

    def closes(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler, parser.EndElementHandler = opens, closes
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"not XML ({error})") from None


def _refuse_entity(name: str, *_: object) -> NoReturn:
    raise ValueError(f"XML that declares the entity {name[:80]!r}, which can grow without end or name other files")
