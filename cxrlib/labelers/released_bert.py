"""The language-model labeler as it is released: how its weights differ from those of its encoder's package.

Of a MiniLM labeler whose upper layers alone were trained, the lower layers are the package's. A weight matrix of the
upper ones is stored as its difference from the package's in 8 bits, each row with a scale of its own, which takes
3.6 MB instead of 92 MB. `tools/pack_models.py` measures what that changes.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cxrlib.base import records, weight_files
from cxrlib.labelers import bert, registry, report_network

_SCALE = ".scale"  # after the name of a matrix: the scales of its rows
_STEPS = 127  # of an 8-bit number, on either side of 0


def _encoder_file(encoder):
    return Path(report_network.encoder_path(encoder)) / "model.safetensors"


def _encoders_name(name, lower_n):
    """Return what the encoder's package calls a weight of the trained upper layers."""
    parts = name.removeprefix("encoder.").split(".")
    parts[2] = str(int(parts[2]) + lower_n)
    return ".".join(parts)


def _upper(state):
    """Return the names of the weights of the upper layers, those that were trained on the encoder's."""
    return [name for name in state if name.startswith("encoder.encoder.layer.")]


def save_difference(labeler, folder):
    """Write a labeler as `difference.safetensors` and `labeler.json`.

    Parameters
    ----------
    labeler : bert.BertLabeler
        Whose encoder is in a package, and of which upper layers alone were trained.
    folder : Path

    Raises
    ------
    ValueError
        If weights besides the upper layers and the head differ from the encoder's: then a difference does not do.
    """
    network, path = labeler.network, _encoder_file(labeler.encoder)
    if network.lower is None:
        raise ValueError("All layers of the labeler were trained: release it whole, not as a difference.")
    state, own = network.state_dict(), load_file(path)
    for name, weight in state.items():
        if name.startswith("lower.") and not torch.equal(weight, own[name.removeprefix("lower.")]):
            raise ValueError(f"The labeler's {name} is not the one in {path}: release it whole.")
    lower_n, stored = len(network.lower.encoder.layer), {}
    for name in _upper(state):
        difference = state[name] - own[_encoders_name(name, lower_n)]
        if difference.dim() < 2:
            stored[name] = difference.half()
            continue
        scale = (difference.abs().amax(1, keepdim=True) / _STEPS).clamp_min(torch.finfo(torch.float32).tiny)
        stored[name] = (difference / scale).round().to(torch.int8)
        stored[name + _SCALE] = scale
    for name in ("head.weight", "head.bias"):
        stored[name] = state[name].half()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in stored.items()}, folder / "difference.safetensors")
    entry = {
        "findings": labeler.findings,
        "encoder": labeler.encoder,
        "encoder_sha256": records.sha256(path),
        "pooling": network.pooling,
        "trained_layers": network.trained_layers,
    }
    (folder / "labeler.json").write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")


def load_difference(folder):
    """Return the `bert.BertLabeler` of a folder that `save_difference` wrote.

    Raises
    ------
    ValueError
        If the files are damaged, or the installed encoder is another one than the difference was taken from.
    """
    folder = Path(folder)
    entry = report_network.read_entry(folder, {"encoder_sha256": str, "trained_layers": int})
    path = _encoder_file(entry["encoder"])
    if records.sha256(path) != entry["encoder_sha256"]:
        raise ValueError(
            f"{path} is not the encoder that {folder} differs from: install the version of its package that "
            "requirements.txt names."
        )
    encoder, tokenizer = report_network.outline(entry["encoder"])
    outputs_n = 4 * len(entry["findings"])
    network = report_network.ReportNetwork(encoder, outputs_n, entry["pooling"], entry["trained_layers"])
    state, own = network.state_dict(), load_file(path)
    lower_n = len(network.lower.encoder.layer)
    state |= {name: own[name.removeprefix("lower.")] for name in state if name.startswith("lower.")}
    try:
        stored = weight_files.read_safetensors(folder / "difference.safetensors", "run `git checkout models`")
        for name in _upper(state):
            difference = stored[name].float() * stored.get(name + _SCALE, 1)
            state[name] = own[_encoders_name(name, lower_n)] + difference
        state |= {name: stored[name].float() for name in ("head.weight", "head.bias")}
        network.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{folder}/difference.safetensors does not hold this labeler ({reason}).") from None
    return bert.BertLabeler(network, tokenizer, entry["findings"], entry["encoder"])


class ReleasedBert(registry.Bert):
    """The released language-model labeler, as `cxr label` uses it."""

    @staticmethod
    def _load(folder):
        return load_difference(folder)
