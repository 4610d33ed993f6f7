"""Checkpoints of a training: written whole or not at all, checked when read, and never executed.

A file is a line with the SHA-256 of what follows, then `torch.save`'s format, read with `weights_only=True`: tensors,
numbers and text come back, and nothing else can. A file that was cut short, or in which a bit fell over, is named.
"""

import hashlib
import io
import pickle
import random

import numpy as np
import torch

from cxrlib.base import whole_files


class DamagedCheckpointError(ValueError):
    """A checkpoint that is not as it was written; the message names it and says what to do."""


def write(state, path):
    """Write a checkpoint in the place of the one that is there; killed meanwhile, that one stays.

    Parameters
    ----------
    state : dict
        Of tensors, numbers, text, and lists, tuples and dicts of these.
    path : Path

    Raises
    ------
    whole_files.UnwrittenError
        Naming the file, if the disk is full or must not be written to.
    """
    content = io.BytesIO()
    torch.save(state, content)
    with whole_files.replacing(path) as new, open(new, "wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).hexdigest().encode() + b"\n")
        file.write(content.getbuffer())


def read(path):
    """Return what `write` wrote, tensors on the processor.

    Raises
    ------
    DamagedCheckpointError
        If the file is not as it was written, or holds what is no tensor, number or text.
    """
    told, _, content = path.read_bytes().partition(b"\n")
    reason = None
    if hashlib.sha256(content).hexdigest().encode() != told:
        reason = "its content has another SHA-256 than its first line says"
    else:
        try:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError):  # of no checkpoint, and of what could be executed
            reason = "it holds what is neither tensor, number nor text"
    raise DamagedCheckpointError(
        f"The checkpoint {path} is damaged: {reason}. Delete it, and the training starts from its first epoch."
    )


def random_states():
    """Return the states of all random generators that a training draws from, as a checkpoint can hold them."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (fastai draws from it)
    states = {"python": random.getstate(), "numpy": (name, keys.tolist(), *rest), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():  # of this process's own GPU
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states):
    """Set all random generators to `random_states`."""
    name, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
