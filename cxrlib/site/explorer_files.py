"""Files of the explorer: arrays and tables as scripts that a page can load from a disk, pictures as sheets of tiles.

A page that is opened from a disk may not fetch JSON, but it may load a script. So every data file is one call,
`explorer.receive("NAME", {...})`, with arrays as base64 of their little-endian bytes.
"""

import base64
import json

import numpy as np
from PIL import Image

KINDS = {"i1": np.int8, "u1": np.uint8, "i2": np.int16, "u2": np.uint16, "u4": np.uint32, "f4": np.float32}
MISSING_LABEL = -9  # a label that is not assessed, in an array of int8
_SHEET_COLUMNS, _SHEET_TILES = 16, 512
_QUALITY, _OPACITY_QUALITY = 80, 50  # of WebP: of colours, and of opacity, which maps alone have


def packed(values, kind):
    """Return an array as the page reads it: `kind`, a key of `KINDS`, and `data`, base64 of its bytes.

    Raises
    ------
    ValueError
        If a value does not fit the kind.
    """
    given = np.asarray(values)
    array = given.astype(np.dtype(KINDS[kind]).newbyteorder("<"))
    if not np.array_equal(array, given, equal_nan=given.dtype.kind == "f"):
        raise ValueError(f"Values of {given.dtype} do not fit {KINDS[kind].__name__} of the explorer's data files.")
    return {"kind": kind, "data": base64.b64encode(array.tobytes()).decode()}


def packed_labels(values):
    """Return labels (1, 0, -1, NaN) as a packed array of int8, in which `MISSING_LABEL` is not assessed."""
    return packed(np.nan_to_num(np.asarray(values, float), nan=MISSING_LABEL).astype(np.int8), "i1")


def write_script(folder, name, content):
    """Write `folder/NAME.js`, which hands its content to the page, and return its size in bytes."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("</", "<\\/")
    path = folder / f"{name}.js"
    path.write_text(f"explorer.receive({json.dumps(name)}, {text});\n", encoding="utf-8")
    return path.stat().st_size


def write_sheets(folder, name, tiles):
    """Write square tiles as sheets, `folder/NAME-0.webp` and on, and return how the page finds a tile.

    Parameters
    ----------
    folder : Path
    name : str
    tiles : (n, size_px, size_px) uint8 or (n, size_px, size_px, 4) uint8
        Grey, or red, green, blue and opacity.

    Returns
    -------
    dict
        `files`, `tile_px`, `columns` and `per_sheet`: tile k is tile k % per_sheet of file k // per_sheet.
    """
    size, files = tiles.shape[1], []
    for first in range(0, len(tiles), _SHEET_TILES):
        some = tiles[first : first + _SHEET_TILES]
        rows = -(-len(some) // _SHEET_COLUMNS)
        sheet = np.zeros((rows * _SHEET_COLUMNS, *tiles.shape[1:]), np.uint8)
        sheet[: len(some)] = some
        sheet = sheet.reshape(rows, _SHEET_COLUMNS, *tiles.shape[1:]).swapaxes(1, 2)
        sheet = sheet.reshape(rows * size, _SHEET_COLUMNS * size, *tiles.shape[3:])
        files.append(f"{name}-{len(files)}.webp")
        Image.fromarray(sheet).save(folder / files[-1], quality=_QUALITY, alpha_quality=_OPACITY_QUALITY, method=4)
    return {"files": files, "tile_px": size, "columns": _SHEET_COLUMNS, "per_sheet": _SHEET_TILES}
