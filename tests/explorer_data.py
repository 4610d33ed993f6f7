"""What tests of the explorer read back from its data files."""

import base64
import json

import numpy as np

from cxrlib.site import explorer_files


def content(folder, name):
    """Return what `data/NAME.js` hands to the page."""
    text = (folder / "data" / f"{name}.js").read_text(encoding="utf-8")
    start = f'explorer.receive("{name}", '
    assert text.startswith(start) and text.endswith(");\n")
    return json.loads(text.removeprefix(start).removesuffix(");\n"))


def unpacked(packed):
    """Return a packed array."""
    kind = np.dtype(explorer_files.KINDS[packed["kind"]]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(packed["data"]), kind)


def labels(packed):
    """Return packed labels as floats, NaN where they are not assessed."""
    values = unpacked(packed).astype(float)
    return np.where(values == explorer_files.MISSING_LABEL, np.nan, values)
