"""What a network that was trained on photographs says of radiographs: its last maps, with no training on them.

Heads on such features (`nested_heads`) are cheap enough for nested cross-validation with many seeds on a processor.
They are no fine-tuned networks: what needs other features than ImageNet's they cannot learn.
"""

import hashlib
import json
import sys

import numpy as np
import torch

from cxrlib.base import checksums, paths, whole_files
from cxrlib.networks import architectures, map_layers

_BATCH_N = 32


def frozen_maps(images, architecture="tf_efficientnet_lite0"):
    """Return the maps of a network's last layer before pooling, mean of the image and of its mirror image.

    Their mean over cells is the pooled feature, so that a linear head on it has an exact class activation map
    (Zhou et al., CVPR 2016, equation 2). They are kept below `data/partial/`, by the content of images and weights,
    with their SHA-256 beside them: maps that have another are computed anew, with a word.

    Parameters
    ----------
    images : (n, side, side) uint8
    architecture : str
        Of timm, with ImageNet weights that are in a package.

    Returns
    -------
    (n, h, w, channels) float32
        Stored in half precision, so that a first call returns the same as later ones.

    Raises
    ------
    ValueError
        If no ImageNet weights of the network are here: those of a random network would be no features.
    """
    network, origin = architectures.create_network(architecture, 1, "auto")
    if origin == "from scratch":
        raise ValueError(f"There are no ImageNet weights of {architecture} here: reinstall requirements.txt.")
    digest = hashlib.sha256(np.ascontiguousarray(images).tobytes())
    digest.update(
        str((architecture, np.shape(images), *(network.pretrained_cfg[k] for k in ("mean", "std")))).encode()
    )
    for name, weights in network.state_dict().items():
        if not name.startswith("classifier."):  # the head is random, and not used
            digest.update(weights.numpy().tobytes())
    path = paths.partial_dir("frozen_features") / f"{digest.hexdigest()[:32]}.npy"
    wrong = _problem(path) if path.exists() else None
    if wrong:
        print(f"{wrong}: its maps are computed anew.", file=sys.__stderr__, flush=True)  # past the notebook's page
    if wrong or not path.exists():
        maps = computed_maps(network, images).astype(np.float16)
        with whole_files.replacing(path) as new, open(new, "wb") as file:
            np.save(file, maps)
        told = checksums.of_files(path.parent, [path.name])
        whole_files.write_text(path.with_suffix(".json"), json.dumps(told) + "\n")
    return np.load(path).astype(np.float32)


def _problem(path):
    """Return what is wrong with maps that were kept, without a full stop; None if they are as they were written."""
    try:
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return checksums.problem(path.parent, {path.name: told[path.name]})
    except FileNotFoundError:
        return f"{path} has no SHA-256 beside it"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path.with_suffix('.json')} is damaged"


def computed_maps(network, images):
    """Return the maps of a network's `forward_features`, as `frozen_maps`, without keeping them.

    Parameters
    ----------
    network : torch.nn.Module
        Of timm, with convolutions.
    images : (n, side, side) uint8
    """
    usual = network.pretrained_cfg  # frozen, it needs greys on the scale of its own training, not of `batches`
    mean, spread = np.mean(usual["mean"]), np.mean(usual["std"])
    parts = []
    with torch.no_grad(), map_layers.still(network):
        for start in range(0, len(images), _BATCH_N):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH_N])).unsqueeze(1).float() / 255
            batch = (batch - mean) / spread
            mirrored = network.forward_features(batch.flip(-1)).flip(-1)
            maps = (network.forward_features(batch) + mirrored) / 2
            parts.append(maps.permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)
