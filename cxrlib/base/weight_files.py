"""Weights from files, and the JSON beside them, read without executing anything.

A file of pickled Python can run any program when it is opened. Such files are refused by how they begin, whatever
they are called; of torch's own format, which is pickle, only tensors are read (`weights_only`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cxrlib.base import bounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PICKLED = (b"\x80", b"PK\x03\x04", b"\x93NUMPY")  # how pickles, torch's archives and arrays of objects begin

_CONVERT = "convert it where it was made, by `safetensors.torch.save_file(network.state_dict(), 'model.safetensors')`"


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message names it, what is wrong, and the remedy."""


def _check_file(path: Path, most_bytes: int | None = None) -> None:
    reason = bounded.hindrance(path, most_bytes)
    if reason is not None:
        raise WeightsError(f"{path} cannot be read: {reason}.")


def read_safetensors(path: Path, remedy: str = "copy it from where it was made again") -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, all of their numbers finite.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do about a damaged file, for the message.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, of the stored dtypes.

    Raises
    ------
    WeightsError
        If it is none, is damaged or cut short, is pickled Python, or holds NaN or infinity.
    """
    _check_file(path)
    with open(path, "rb") as file:
        start = file.read(8)
    too_long = int.from_bytes(start, "little") > path.stat().st_size  # the header of a safetensors file
    if too_long and start.startswith(_PICKLED):
        raise WeightsError(f"{path} is no safetensors file but one that could run a program: {_CONVERT}.")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0][:120].rstrip(".:")
        raise WeightsError(f"{path} is damaged or cut short ({reason}): {remedy}.") from None
    for name, tensor in state.items():
        values = tensor.float() if tensor.element_size() == 1 else tensor  # 8 bits have no test of their own
        if tensor.is_floating_point() and not torch.isfinite(values).all():
            raise WeightsError(f"{path}: the weights {name!r} hold NaN or infinity: train again, or {remedy}.")
    return state


def read_torch(path: Path, remedy: str) -> Mapping[str, Any]:
    """Return what torch's own file of weights holds, read by `weights_only`, which executes nothing.

    Parameters
    ----------
    path : Path
    remedy : str

    Raises
    ------
    WeightsError
        If it holds anything besides weights, is damaged, or is beyond the bounds of `bounded.check_zip`.
    """
    _check_file(path)
    try:
        with open(path, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        if zipped:
            bounded.check_zip(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything on a file that is not its own
        said = f" ({error})" if isinstance(error, bounded.TooLargeError) else ""
        raise WeightsError(
            f"{path} is not a file of weights that torch can read safely{said}: {remedy}. What is in it was not run."
        ) from error
    if not isinstance(stored, dict) or not all(isinstance(name, str) for name in stored):
        raise WeightsError(f"{path} holds a {type(stored).__name__} and no weights by name: {remedy}.")
    return stored


def misfit(state: Mapping[str, Any], wanted: Mapping[str, torch.Tensor], allowed: Sequence[str] = ()) -> str | None:
    """Return in what weights differ from those of a network, without a full stop; None if they fit.

    Parameters
    ----------
    state : Mapping
        Name to tensor, as read.
    wanted : Mapping
        The network's own, which may lie on the device `meta`, where they have no memory.
    allowed : sequence of str
        Parts of names that may be missing.
    """
    missing = [name for name in wanted if name not in state and not any(part in name for part in allowed)]
    if missing:
        return f"it lacks {len(missing)} weights, such as {missing[0]}"
    more = [name for name in state if name not in wanted]
    if more:
        return f"it has {len(more)} weights too many, such as {more[0]}"
    for name, own in wanted.items():
        given = state.get(name, own)
        if not isinstance(given, torch.Tensor) or given.shape != own.shape:
            shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
            return f"{name} has the shape {shape}, not {tuple(own.shape)}"
        if given.is_floating_point() != own.is_floating_point():
            return f"{name} is of {given.dtype}, not {own.dtype}"
    return None


def read_record(path: Path, fields: Mapping[str, type | tuple[type, ...]], remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file that says what weights are of.

    Parameters
    ----------
    path : Path
    fields : Mapping
        Names that it needs, each with its type; what else it has stays as it is.
    remedy : str

    Raises
    ------
    WeightsError
        If it is no JSON object, has more than `bounded.RECORD_BYTES`, or a field is missing or of another type.
    """
    _check_file(path, bounded.RECORD_BYTES)
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise WeightsError(f"{path} is no JSON, or is damaged: {remedy}.") from None
    if not isinstance(entry, dict):
        raise WeightsError(f"{path} holds a {type(entry).__name__} and no object of JSON: {remedy}.")
    for name, kind in fields.items():
        value = entry.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise WeightsError(f"{path}: {name!r} is {str(value)[:60]!r}, or missing: {remedy}.")
    return entry


def is_plain_name(name: object) -> bool:
    """Return whether a finding's name may become part of a file's name: no path, no control characters."""
    return isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable() and not {"/", "\\"} & set(name)
