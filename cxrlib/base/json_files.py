"""JSON that others wrote: what is no JSON, would be lost or cannot be held is said in one sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def parse(text: str) -> Any:
    """Return what a JSON text holds.

    Refused are numbers that JSON does not have (NaN, Infinity), a name that occurs twice in one object, of which
    Python would keep the last, and nesting that is deeper than Python can follow.

    Raises
    ------
    ValueError
        In half a sentence: what is wrong, and where as far as it is known.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}: line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} occurs twice in one object")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON; write null")
