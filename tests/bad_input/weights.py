"""Files of weights that are damaged, of another network, or would run a program when they are unpickled."""

import functools
import io
import json
import pickle
import struct

import numpy as np
import torch
from bad_input.archives import zip_bomb
from bad_input.images import shouting_pickle
from safetensors.torch import save


def _header(length, text=b""):
    return struct.pack("<Q", length) + text


def _described(**entries):
    """A safetensors file whose header says this, and which has no data."""
    text = json.dumps(entries).encode()
    return _header(len(text), text)


def of_torch(content):
    """Anything as `torch.save` writes it: a zip archive with a pickle in it."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@functools.cache
def torch_bomb():
    """A zip archive as torch writes it, of some kilobytes, that says it expands to 80 MB."""
    return zip_bomb("archive/data/0", **{"archive/data.pkl": pickle.dumps({})})


def _changed(state, **changes):
    """Weights with some replaced; None takes one away."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    return save(state)


def bad_weights(state, marker):
    """Return kind: (content of `model.safetensors`, what the error says), for a network with the weights `state`.

    Parameters
    ----------
    state : dict of str to torch.Tensor
        With `conv1.weight`, `fc.weight` and `fc.bias`.
    marker : Path
        A file that is made if anything is executed.
    """
    whole, wide = save(state), {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    nan, infinite = state["fc.bias"].clone(), state["fc.weight"].clone()
    nan[0], infinite[0, 0] = torch.nan, torch.inf
    program = "one that could run a program"
    return {
        "weights empty": (b"", "damaged or cut short"),
        "weights of a few bytes": (whole[:5], "damaged or cut short"),
        "weights cut in the header": (whole[:300], "damaged or cut short"),
        "weights cut in the data": (whole[:-9], "damaged or cut short"),
        "weights with bytes too many": (whole + bytes(9), "damaged or cut short"),
        "weights with a header of 2**60 bytes": (_header(2**60, whole[8:]), "damaged or cut short"),
        "weights with a header of no JSON": (_header(16, b"{not json at all}"), "damaged or cut short"),
        "weights with a header of arrays in arrays": (_header(90_000, b"[" * 90_000), "damaged or cut short"),
        "weights that claim 4 TB": (_described(weight=wide), "damaged or cut short"),
        "weights that overlap": (
            _described(
                a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                b={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            )
            + bytes(4),
            "damaged or cut short",
        ),
        "weights of a wrong shape": (_changed(state, fc__weight=torch.zeros(9, 9)), "does not hold weights of"),
        "weights of other names": (save({f"x.{name}": t for name, t in state.items()}), "does not hold weights of"),
        "weights that lack one": (_changed(state, fc__bias=None), "does not hold weights of"),
        "weights with one too many": (_changed(state, more=torch.zeros(3)), "does not hold weights of"),
        "weights of whole numbers": (
            _changed(state, fc__bias=torch.zeros_like(state["fc.bias"], dtype=torch.int64)),
            "does not hold weights of",
        ),
        "weights with NaN": (_changed(state, fc__bias=nan), "'fc.bias' hold NaN or infinity"),
        "weights with infinity": (_changed(state, fc__weight=infinite), "'fc.weight' hold NaN or infinity"),
        "weights that are a pickle": (shouting_pickle(marker), program),
        "weights as torch saves them": (of_torch(state), program),
        "weights that are an array of objects": (array_of_objects(marker), program),
        "weights that are a web page": (b"<html><body>Not found</body></html>", "damaged or cut short"),
    }


class _Shout:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def array_of_objects(marker):
    """A .npy file whose elements are pickled: opening it as such makes the file `marker`."""
    stream = io.BytesIO()
    np.save(stream, np.array([_Shout(marker), None], object), allow_pickle=True)
    return stream.getvalue()


def bad_torch(marker):
    """Return kind: content of a file that is named as CheXbert's checkpoint."""
    return {
        "checkpoint empty": b"",
        "checkpoint that is a pickle": shouting_pickle(marker),
        "checkpoint with a program in it": of_torch({"model_state_dict": _Shout(marker)}),
        "checkpoint of a whole network": of_torch(torch.nn.Linear(2, 2)),
        "checkpoint cut short": of_torch({"a": torch.zeros(999)})[:-500],
        "checkpoint that expands to 80 MB": torch_bomb(),
        "checkpoint of a list": of_torch([torch.zeros(3)]),
        "checkpoint of another network": of_torch({"model_state_dict": {"module.a": torch.zeros(3)}}),
        "checkpoint of names that are numbers": of_torch({1: torch.zeros(3)}),
        "checkpoint that is a text": b"chexbert",
    }


# Kind: what `run.json` holds, and what the error says; each beside weights that are whole.
BAD_RECORDS = {
    "record empty": (b"", "no record of a run"),
    "record that is no JSON": (b"{'parameters': 1}", "no record of a run"),
    "record of arrays in arrays": (b"[" * 100_000, "no record of a run"),
    "record that is no object": (b"[1, 2]", "no record of a run"),
    "record of other bytes": (b"\xff\xfe{\0}\0", "no record of a run"),
    "record without parameters": (b"{}", "no record of a run"),
    "record of a size beyond memory": ({"size_px": 10**9}, "no record of a run"),
    "record of a path as a finding": ({"findings": ["../../outside", "b"]}, "no record of a run"),
    "record of a null byte as a finding": ({"findings": ["a\0", "b"]}, "no record of a run"),
    "record of a network of another name": ({"architecture": "resnet_of_tomorrow"}, "does not have"),
    "record of a network from an address": ({"architecture": "hf-hub:someone/else"}, "does not have"),
    "record of a network of 300 million weights": (
        {"architecture": "vit_large_patch16_224"},
        "does not hold weights of",
    ),
    "record of 100,000 findings": ({"findings": [f"f{k}" for k in range(100_000)]}, "does not hold weights of"),
}
