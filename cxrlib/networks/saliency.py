"""Saliency maps: where in a radiograph a network's logit of a finding comes from.

    cxr explain IMAGE... --run results/quick/runs/TARGET/NETWORK-SEED --finding pneumothorax --out FOLDER

Grad-CAM and Grad-CAM++ read one layer of a timm network, which `find_layer` finds and checks; occlusion reads the
logit alone. `cascade` makes the networks of a sanity check (a map that does not change when weights are re-
initialised shows the image and not the network), `overlay` and `opacity_slider` show maps, `localization` scores
them. IMAGE is a PNG, JPEG or DICOM file of any size and shape. For each image and finding there is an overlay in
FOLDER and a row in its `explained.csv`. What cannot be read or written is listed with the reason and the rest is
done; exit status 0 if any image could be read.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerGradCam, Occlusion
from torch import nn

from cxrlib.networks import batches, map_layers

_OCCLUDED_FRAC = 1 / 8  # of the image's side: what occlusion covers at a time


def _grad_cam(network, x, finding_index, layer):
    """Return (b, 1, h, w): the sum over channels of alpha_k A_k, alpha_k the mean over cells of d logit / d A_k."""
    tap = nn.Identity()
    with map_layers.tapped(network, [layer.name], lambda _, map_: tap(map_)):
        return LayerGradCam(network, tap).attribute(x, target=finding_index)


def _grad_cam_plus_plus(network, x, finding_index, layer):
    """Return (b, 1, h, w): the sum over channels of w_k A_k, with w_k of equations 7 and 19.

    With g = d logit / d A_k and S the sum of A_k over cells, alpha = g^2 / (2 g^2 + S g^3) and w = sum over cells of
    alpha ReLU(g), which is the sum of g / (2 + S g) where g > 0: written so, small gradients need no epsilon. Their
    score is exp(logit); its factor exp(logit) is the same for all channels. Where 2 + S g is not positive,
    which takes negative activations that the derivation has none of, alpha is 0.
    """
    taken = []
    with (
        map_layers.tapped(network, [layer.name], lambda _, map_: taken.append(map_.clone()) or taken[0]),
        torch.enable_grad(),
    ):
        logit = network(x.detach().requires_grad_())[:, finding_index]
        gradient = torch.autograd.grad(logit.sum(), taken[0])[0]
    activation = taken[0].detach()
    below = 2 + activation.sum((2, 3), keepdim=True) * gradient
    share = torch.where((gradient > 0) & (below > 0), gradient / below, 0)
    return (share.sum((2, 3), keepdim=True) * activation).sum(1, keepdim=True)


def _occlusion(network, x, finding_index, layer):
    """Return (b, 1, size, size): the mean drop of the logit over the windows that cover each pixel."""
    size_px = x.shape[-1]
    if size_px < 2:
        raise ValueError(map_layers.too_small(size_px))
    window = max(2, round(size_px * _OCCLUDED_FRAC))
    with torch.no_grad():
        return Occlusion(network).attribute(
            x,
            sliding_window_shapes=(1, window, window),
            strides=(1, window // 2, window // 2),
            baselines=x.mean((1, 2, 3), keepdim=True).expand_as(x),
            target=finding_index,
            perturbations_per_eval=max(1, (64 if x.device.type == "cpu" else 1024) // len(x)),  # what is quickest
        )


@dataclass(frozen=True)
class Method:
    """A saliency method: its function, whether it reads a layer, and where it was published."""

    function: Callable
    reads_layer: bool
    source: str


SALIENCY_METHODS = {
    "grad_cam": Method(_grad_cam, True, "Selvaraju et al., ICCV 2017, equations 1 and 2"),
    "grad_cam_plus_plus": Method(_grad_cam_plus_plus, True, "Chattopadhay et al., WACV 2018, equations 7 and 19"),
    "occlusion": Method(_occlusion, False, "Zeiler and Fergus, ECCV 2014, section 4.2"),
}


def _checked(network, pixels, finding_index, method):
    """Raise ValueError, with one sentence, for what `maps` cannot do."""
    if method not in SALIENCY_METHODS:
        raise ValueError(f"{method!r} is no saliency method; there are {', '.join(SALIENCY_METHODS)}.")
    if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8:
        raise ValueError(
            f"Images are {pixels.dtype} {pixels.shape}, not uint8 (n, size_px, size_px): use images.fit."
        )
    if hasattr(network, "num_classes") and not 0 <= finding_index < network.num_classes:
        raise ValueError(f"There is no finding {finding_index}: the network has {network.num_classes} logits.")


def maps(network, pixels, finding_index, method, layer=None, batch_size=32, relu=True):
    """Return a saliency map of one finding for each image.

    `grad_cam` is ReLU(sum_k alpha_k A_k), where A_k is channel k of the layer's output and alpha_k the mean over
    cells of d logit / d A_k; upsampled bilinearly (align_corners=False) from cells to pixels, then divided by its
    largest pixel. `grad_cam_plus_plus` differs in the weights. `occlusion` covers windows of an eighth of the image's
    side, half a window apart, with the image's mean, and gives each pixel the mean drop of the logit over the windows
    that cover it; ReLU and division are the same. The minimum is not subtracted: 0 means no evidence for the finding.

    Parameters
    ----------
    network : torch.nn.Module
        (b, 1, size_px, size_px) to (b, findings_n) logits. It computes where it is and is left as it was: mode,
        gradients, weights, hooks.
    pixels : (n, size_px, size_px) uint8
        As in a packed store; normalised as in training.
    finding_index : int
        Which logit.
    method : str
        A key of `METHODS`.
    layer : Layer or str, optional
        `find_layer` finds it if not given; occlusion reads none.
    batch_size : int
        Images at a time; the maps do not depend on it.
    relu : bool
        False keeps evidence against the finding as negative values, and divides by the largest absolute value.

    Returns
    -------
    (n, size_px, size_px) float32 in [0, 1]
        [-1, 1] without `relu`. A map of zeros (no evidence anywhere) stays one.

    Raises
    ------
    ValueError
        If the method, finding or layer is unknown, images are not uint8 squares, or a map is not finite.
    """
    _checked(network, pixels, finding_index, method)
    size_px = pixels.shape[1]
    chosen = SALIENCY_METHODS[method]
    if chosen.reads_layer:
        layer = map_layers.find_layer(network, size_px, layer.name if isinstance(layer, map_layers.Layer) else layer)
    where = next(network.parameters()).device
    found = np.zeros(pixels.shape, np.float32)
    done = 0
    loader = batches.StoreLoader(pixels, np.arange(len(pixels)), np.zeros((len(pixels), 1)), batch_size)
    with map_layers.still(network):
        for x, _ in loader if len(pixels) else ():
            coarse = chosen.function(network, x.to(where), finding_index, layer).detach().float()
            coarse = coarse.relu() if relu else coarse
            fine = nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bilinear", align_corners=False)
            found[done : done + len(x)] = fine[:, 0].cpu().numpy()
            done += len(x)
    if not np.isfinite(found).all():
        first = int(np.nonzero(~np.isfinite(found).all((1, 2)))[0][0])
        raise ValueError(f"The {method} map of image {first} is not finite: look at the network's weights.")
    peak = np.abs(found).max((1, 2), keepdims=True, initial=0)
    return np.divide(found, peak, out=found, where=peak > 0)
