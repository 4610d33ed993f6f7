"""Networks with re-initialised weights, block by block: the sanity check of saliency maps."""

import copy

import numpy as np
import pandas as pd
import torch
from scipy import stats
from skimage.metrics import structural_similarity
from torch import nn

from cxrlib.networks import map_layers, saliency


def blocks(network):
    """Return a network's blocks from the head down to the stem, `{name: list of (module, recursive)}`.

    A block is a stage, or what lies beside the stages: the head, the stem, a norm between. Parameters that belong to
    no block, such as a class token, come last, under the names of their modules' parameters.
    """
    above = {""}
    for stage in map_layers.stages(network):
        parts = stage.split(".")
        above |= {".".join(parts[:k]) for k in range(1, len(parts))}
    found, loose = {}, []
    for name, module in network.named_modules():
        parent = name.rpartition(".")[0]
        if name in above:
            if list(module.parameters(recurse=False)):
                loose.append((module, False))
        elif parent in above and any(True for _ in module.parameters()):
            found[name] = [(module, True)]
    found = dict(reversed(found.items()))
    if loose:
        found[", ".join(n for module, _ in loose for n, _ in module.named_parameters(recurse=False))] = loose
    return found


@torch.no_grad()
def _reinitialise(module, generator):
    """Re-initialise a module's own parameters; what lies below it is left alone.

    Weights of layers: He et al. 2015, normal, by fan in; biases: 0; norms: 1 and 0, their running statistics
    forgotten; anything else (tokens, position tables, layer scales): normal with its own mean and spread.
    """
    own = dict(module.named_parameters(recurse=False))
    if own and hasattr(module, "reset_parameters") and all(p.ndim == 1 for p in own.values()):
        module.reset_parameters()
        return
    for name, parameter in own.items():
        fresh = torch.zeros(parameter.shape)
        if name == "weight" and parameter.ndim >= 2:
            nn.init.kaiming_normal_(fresh, nonlinearity="relu", generator=generator)
        elif name != "bias":
            spread = float(parameter.float().std(correction=0))
            fresh.normal_(float(parameter.float().mean()), spread, generator=generator)
        parameter.copy_(fresh)


def cascade(network, seed):
    """Yield networks whose weights are re-initialised block by block, cumulatively from the head down to the stem.

    Cascading parameter randomisation (Adebayo et al., NeurIPS 2018, section 4.1). How weights are drawn is said in
    `_reinitialise`; the last network that is yielded has nothing of the given one but its shape.

    Parameters
    ----------
    network : torch.nn.Module
        Left as it is.
    seed : int

    Yields
    ------
    name : str
        The block that was re-initialised in this step.
    network : torch.nn.Module
        A copy of its own, in the mode of the given one.
    """
    generator = torch.Generator().manual_seed(seed)
    current = copy.deepcopy(network)
    for name, parts in blocks(current).items():
        for module, recursive in parts:
            for part in module.modules() if recursive else (module,):
                _reinitialise(part, generator)
        yield name, copy.deepcopy(current)


def similarity(one, other):
    """Return how alike the maps of the same images are: by rank, and in structure.

    Parameters
    ----------
    one, other : (n, h, w) float32 in [0, 1], or in [-1, 1]
        As `maps` returns them, with or without `relu`; at least 7 pixels a side.

    Returns
    -------
    pandas.DataFrame
        A row per image. `rank_correlation`: Spearman's, over pixels, in [-1, 1], NaN if a map is constant.
        `structural_similarity`: Wang et al. 2004 in 7 x 7 windows, in [-1, 1].

    Raises
    ------
    ValueError
        If shapes differ or maps are smaller than a window.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape or one.ndim != 3 or min(one.shape[1:]) < 7:
        raise ValueError(f"Maps are {one.shape} and {other.shape}, not twice (n, h, w) with 7 pixels a side or more.")
    whole = 2.0 if min(one.min(initial=0), other.min(initial=0)) < 0 else 1.0
    rows = []
    for a, b in zip(one, other, strict=True):
        flat = np.ptp(a) == 0 or np.ptp(b) == 0
        rank = np.nan if flat else float(stats.spearmanr(a.ravel(), b.ravel()).statistic)
        rows.append((rank, float(structural_similarity(a, b, data_range=whole))))
    return pd.DataFrame(rows, columns=["rank_correlation", "structural_similarity"])


def resemblance(trained, network, pixels, images, **what):
    """Return how alike a network's maps and the trained network's are, of the same images and of other ones.

    Evidence against the finding counts too (no ReLU), so that no map is all zero.

    Parameters
    ----------
    trained : Mapping of str to (n, h, w) float32
        The trained network's maps by method, of logit 0.
    network : torch.nn.Module
    pixels : (n, size_px, size_px) uint8
    images : pandas.DataFrame
        `image_id, patient_id` of the same images, numbered from 0.
    **what
        Further columns.

    Returns
    -------
    pandas.DataFrame
        As `similarity`, and `unrelated` (the rank correlation with the trained network's map of another image),
        `image_id, patient_id, method` and the further columns; a row per method and image.
    """
    parts = []
    for method, before in trained.items():
        after = saliency.maps(network, pixels, 0, method, relu=False)
        unrelated = similarity(before, np.roll(after, len(after) // 2, axis=0))["rank_correlation"]
        part = similarity(before, after).assign(unrelated=unrelated, image_id=images["image_id"])
        parts.append(part.assign(patient_id=images["patient_id"], method=method, **what))
    return pd.concat(parts, ignore_index=True)
