"""Saliency maps: where in a radiograph a network's logit of a finding comes from.

    python -m cxrlib.explain IMAGE... --run results/quick/runs/KEY --finding pneumothorax --out FOLDER

Grad-CAM and Grad-CAM++ read one layer of a timm network, which `find_layer` finds and checks; occlusion reads the
logit alone. `cascade` makes the networks of a sanity check (a map that does not change when weights are drawn anew
shows the image and not the network), `overlay` and `opacity_slider` show maps, `cxrlib.localization` scores them.

IMAGE is a PNG, JPEG or DICOM file of any size and shape. For each image and finding there is an overlay in FOLDER and
a row in its `explained.csv`. What cannot be read or written is listed with the reason and the rest is done; exit
status 0 if any image could be read.
"""

import argparse
import base64
import contextlib
import copy
import html
import io
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from captum.attr import LayerGradCam, Occlusion
from PIL import Image
from safetensors import SafetensorError
from scipy import ndimage, stats
from skimage.metrics import structural_similarity
from torch import nn

from cxrlib import images, localization, paths, plots, runs, training

HEAT = "inferno"  # perceptually uniform; its cold end is drawn clear
BOX_COLOUR = "#56B4E9"
OCCLUDED_FRAC = 1 / 8  # of the image's side: what occlusion covers at a time
SHOWN_PX = 1024  # longest side of a radiograph as overlays show it
STEM_BYTES = 100  # of an image's name in its overlay's name: file systems allow 143 to 255 for the whole
EDGE_PX = 1e-6  # by which a box may leave its frame: rounding
NO_MAP = "its output is no map with cells down and across"


# --- the layer ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A layer whose output is a map.

    Attributes
    ----------
    name : str
        As `network.named_modules` has it.
    grid : (int, int)
        Cells down and across at the image size that was asked for.
    channels : int
    """

    name: str
    grid: tuple
    channels: int


@contextlib.contextmanager
def _still(network):
    """Put a network into evaluation mode for a while; every module's mode is restored."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _square(network, cells_n):
    """Return the (h, w) of a map that was laid out as so many tokens, or None."""
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if grid is not None and math.prod(grid) == cells_n:
        return tuple(grid)
    side = math.isqrt(max(cells_n, 0))
    return (side, side) if side * side == cells_n else None


def _as_map(output, network):
    """Return a layer's output as (b, c, h, w) and the function that undoes it, or None if it is no map.

    Images are square, so maps are: of four axes the two that are equal are space (NCHW, or NHWC as in Swin), and
    three axes are tokens (b, tokens, c), less the class token and its like.
    """
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 4:
        down, across, last = output.shape[1:]
        if down == across > 1 and (last != across or getattr(network, "output_fmt", "NCHW") == "NHWC"):
            return output.permute(0, 3, 1, 2), lambda map_: map_.permute(0, 2, 3, 1)
        return (output, lambda map_: map_) if across == last > 1 else None
    if output.ndim == 3:
        counts = dict.fromkeys((getattr(network, "num_prefix_tokens", 0), 0))
        fitting = [(n, _square(network, output.shape[1] - n)) for n in counts]
        for prefix_n, grid in ((n, grid) for n, grid in fitting if grid and min(grid) > 1):
            cells = output[:, prefix_n:].transpose(1, 2).unflatten(2, grid)
            return cells, partial(_as_tokens, output[:, :prefix_n])
    return None


def _as_tokens(prefix, map_):
    """Return a map (b, c, h, w) as tokens again, after the ones that were left out of it."""
    return torch.cat([prefix, map_.flatten(2).transpose(1, 2)], 1)


@contextlib.contextmanager
def _tapped(network, names, tap):
    """Lead the outputs of layers through `tap(name, map)`, which sees (b, c, h, w) whatever the layout.

    What follows in the network gets a copy, so that operations in place leave the tapped map alone. An output that
    is no map goes by untouched, after `tap(name, None)`.
    """
    modules = dict(network.named_modules())

    def hook(name):
        def lead(module, inputs, output):
            converted = _as_map(output, network)
            if converted is None:
                tap(name, None)
                return output
            map_, back = converted
            return back(tap(name, map_)).clone()

        return lead

    handles = [modules[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _too_small(size_px):
    return f"Images of {size_px} x {size_px} px are too small for this network: give a larger size."


def _probe(network, size_px, names):
    """Return `{name: Layer, or a sentence on why it is none}` of layers, from one pass forward and backward."""
    seen, why = {}, {}

    def tap(name, map_):
        if map_ is None:
            why[name] = NO_MAP
        elif name in seen:
            why[name] = "it runs more than once in a pass"
        else:
            seen[name] = map_ = map_.clone()
        return map_

    probe = torch.randn((4, 1, size_px, size_px), generator=torch.Generator().manual_seed(0))
    probe[1:] = torch.tensor([[-2.0], [2.0], [0.0]])[..., None, None] + 0.1 * probe[1:]  # black, white, grey
    some = next(network.parameters())
    with _still(network), torch.enable_grad(), _tapped(network, names, tap):
        try:
            logit = network(probe.to(some.device, some.dtype).requires_grad_())
        except (AssertionError, RuntimeError, ValueError) as error:
            said = (str(error).strip().splitlines() or ["no reason given"])[0]
            if "too small" in said or "greater than actual input size" in said:
                raise ValueError(_too_small(size_px)) from None
            raise ValueError(f"The network takes no images of {size_px} x {size_px} px: {said}") from None
        gradients = torch.autograd.grad(logit.sum(), list(seen.values()), allow_unused=True) if seen else ()
    found = {}
    for (name, map_), gradient in zip(seen.items(), gradients, strict=True):
        found[name] = Layer(name, tuple(map_.shape[2:]), map_.shape[1])
        if gradient is None or not gradient.abs().sum() > 0:
            why.setdefault(name, "no logit depends on its cells (in a transformer's last block only the class token)")
    return {name: why.get(name) or found.get(name) or "it does not run in a pass" for name in names}


def stages(network):
    """Return the names of a timm network's stages, first to last: those its `feature_info` lists and that exist."""
    there = dict(network.named_modules())
    return [info["module"] for info in getattr(network, "feature_info", None) or [] if info["module"] in there]


def layers(network, size_px):
    """Return the stages that give a map at one image size, shallowest first, as a list of `Layer`."""
    return [found for found in _probe(network, size_px, stages(network)).values() if isinstance(found, Layer)]


def find_layer(network, size_px, name=None, least_side=7):
    """Return the layer to read maps from, at one image size.

    Of the stages that timm lists it is the deepest one with at least `least_side` cells a side and on whose cells
    a logit depends; if none has so many cells, the deepest of those with the most. One pass forward and backward
    at this size finds both out. The last stage of a stride-32 network has 7 x 7 cells at 224 px, as in the published
    networks, and 2 x 2 at 64 px, which is no place. On the cells of a vision transformer's last block no
    logit depends, since only the class token is read after it.

    Parameters
    ----------
    network : torch.nn.Module
        As `training.create_network` returns it.
    size_px : int
    name : str, optional
        Take and check this layer: any name of `network.named_modules`.
    least_side : int

    Returns
    -------
    Layer

    Raises
    ------
    ValueError
        If the layer is unknown or gives no map, no stage does, or the network takes no images of this size; the
        message lists the stages that can be named.
    """
    listed = stages(network)
    if name is not None and (not name or name not in dict(network.named_modules())):
        raise ValueError(f"The network has no layer {name!r}; its stages: {', '.join(listed) or 'none listed'}.")
    found = _probe(network, size_px, list(dict.fromkeys([*listed, *([name] if name else [])])))
    usable = [found[stage] for stage in listed if isinstance(found[stage], Layer)]
    shown = ", ".join(f"{one.name} ({one.grid[0]} x {one.grid[1]})" for one in usable) or "no stage"
    if name is not None:
        if isinstance(found[name], Layer):
            return found[name]
        raise ValueError(f"Layer {name!r} gives no map at {size_px} px: {found[name]}; usable: {shown}.")
    if not usable:
        if listed and all(found[stage] == NO_MAP for stage in listed):
            raise ValueError(_too_small(size_px))
        reasons = "; ".join(f"{stage}: {found[stage]}" for stage in listed) or "timm lists no stages of it"
        raise ValueError(f"No stage of the network gives a map at {size_px} px ({reasons}): name a layer.")
    fine = [one for one in usable if min(one.grid) >= least_side]
    most = max(math.prod(one.grid) for one in usable)
    return (fine or [one for one in usable if math.prod(one.grid) == most])[-1]


# --- maps ---------------------------------------------------------------------------------------------------


def _grad_cam(network, x, finding_index, layer):
    """Return (b, 1, h, w): the sum over channels of alpha_k A_k, alpha_k the mean over cells of d logit / d A_k."""
    tap = nn.Identity()
    with _tapped(network, [layer.name], lambda _, map_: tap(map_)):
        return LayerGradCam(network, tap).attribute(x, target=finding_index)


def _grad_cam_plus_plus(network, x, finding_index, layer):
    """Return (b, 1, h, w): the sum over channels of w_k A_k, with w_k of equations 7 and 19.

    With g = d logit / d A_k and S the sum of A_k over cells, alpha = g^2 / (2 g^2 + S g^3) and w = sum over cells of
    alpha ReLU(g), which is the sum of g / (2 + S g) where g > 0: written so, small gradients need no epsilon. Their
    score is exp(logit); its factor exp(logit) is the same for all channels. Where 2 + S g is not positive,
    which takes negative activations that the derivation has none of, alpha is 0.
    """
    taken = []
    with _tapped(network, [layer.name], lambda _, map_: taken.append(map_.clone()) or taken[0]), torch.enable_grad():
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
        raise ValueError(_too_small(size_px))
    window = max(2, round(size_px * OCCLUDED_FRAC))
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


METHODS = {
    "grad_cam": Method(_grad_cam, True, "Selvaraju et al., ICCV 2017, equations 1 and 2"),
    "grad_cam_plus_plus": Method(_grad_cam_plus_plus, True, "Chattopadhay et al., WACV 2018, equations 7 and 19"),
    "occlusion": Method(_occlusion, False, "Zeiler and Fergus, ECCV 2014, section 4.2"),
}


def _checked(network, pixels, finding_index, method):
    """Raise ValueError, with one sentence, for what `maps` cannot do."""
    if method not in METHODS:
        raise ValueError(f"{method!r} is no saliency method; there are {', '.join(METHODS)}.")
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
    chosen = METHODS[method]
    if chosen.reads_layer:
        layer = find_layer(network, size_px, layer.name if isinstance(layer, Layer) else layer)
    where = next(network.parameters()).device
    found = np.zeros(pixels.shape, np.float32)
    done = 0
    loader = training.StoreLoader(pixels, np.arange(len(pixels)), np.zeros((len(pixels), 1)), batch_size)
    with _still(network):
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


# --- sanity checks ------------------------------------------------------------------------------------------


def blocks(network):
    """Return a network's blocks from the head down to the stem, `{name: list of (module, recursive)}`.

    A block is a stage, or what lies beside the stages: the head, the stem, a norm between. Parameters that belong to
    no block, such as a class token, come last, under the names of their modules' parameters.
    """
    above = {""}
    for stage in stages(network):
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
def _draw_anew(module, generator):
    """Draw a module's own parameters anew; what lies below it is left alone.

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
    """Yield networks whose weights are drawn anew block by block, cumulatively from the head down to the stem.

    Cascading parameter randomisation (Adebayo et al., NeurIPS 2018, section 4.1). How weights are drawn is said in
    `_draw_anew`; the last network that is yielded has nothing of the given one but its shape.

    Parameters
    ----------
    network : torch.nn.Module
        Left as it is.
    seed : int

    Yields
    ------
    name : str
        The block that was drawn anew in this step.
    network : torch.nn.Module
        A copy of its own, in the mode of the given one.
    """
    generator = torch.Generator().manual_seed(seed)
    current = copy.deepcopy(network)
    for name, parts in blocks(current).items():
        for module, recursive in parts:
            for part in module.modules() if recursive else (module,):
                _draw_anew(part, generator)
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


# --- to look at ---------------------------------------------------------------------------------------------


def _shown(image, map_, boxes, place=None):
    """Return `(image, map, boxes)` as uint8 (h, w), float (h, w) in [0, 1], (k, 4); grey if there is no image.

    With a place the image may be of another shape than the map.
    """
    map_ = np.clip(np.asarray(map_, float), 0, 1)
    image = np.full(map_.shape, 96, np.uint8) if image is None else np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 2 or (place is None and image.shape != map_.shape):
        raise ValueError(f"The image is {image.dtype} {image.shape}, not uint8 {map_.shape} as its map.")
    boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, float).reshape(-1, 4)
    return image, map_, boxes


def _coloured(map_):
    """Return a map as (h, w, 4) uint8: `HEAT`, as opaque as it is hot."""
    colours = np.uint8(np.rint(255 * matplotlib.colormaps[HEAT](map_)))
    colours[..., 3] = np.rint(255 * map_)
    return colours


def overlay(axis, image, map_, boxes=None, opacity=0.6, place=None):
    """Draw an image, its map and the contours of boxes.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    image : (h, w) uint8 or None
        None draws on plain grey, so that a figure holds no pixel of a patient.
    map_ : (h, w) float in [0, 1]
        Drawn as opaque as it is hot: the cold stays clear.
    boxes : (k, 4) float, optional
        x0, y0, x1, y1 in the map's pixels, end exclusive.
    opacity : float in [0, 1]
        Of the hottest pixel.
    place : (4,) float, optional
        x0, y0, x1, y1 of the image in the map's pixels, for an image of another resolution: beside it is black, and
        the map is drawn smoothly. If not given, image and map have one shape and their pixels are drawn as they are.

    Raises
    ------
    ValueError
        If the image and its map differ in shape, and no place is given.
    """
    image, map_, boxes = _shown(image, map_, boxes, place)
    height, width = map_.shape
    x0, y0, x1, y1 = (0, 0, width, height) if place is None else place
    how, smooth = ("nearest", "nearest") if place is None else ("auto", "bilinear")
    axis.set_facecolor("black")
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(x0, x1, y1, y0), interpolation=how)
    heat = {"extent": (0, width, height, 0), "interpolation": smooth}
    axis.imshow(map_, cmap=HEAT, vmin=0, vmax=1, alpha=opacity * map_, **heat)
    for x0, y0, x1, y1 in boxes:
        corner = {"fill": False, "edgecolor": BOX_COLOUR, "linewidth": 1.4}
        axis.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, **corner))
    axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set_visible(False)


def _embedded(pixels):
    """Return pixels as the source of an HTML image."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@dataclass(frozen=True)
class Slider:
    """HTML that JupyterLab and exported notebooks show."""

    text: str

    def _repr_html_(self):
        return self.text


def opacity_slider(image, map_, boxes=None, title="", opacity=0.6, width_px=384):
    """Return an image with its map and boxes, and a slider for the map's opacity.

    The HTML holds everything: layered PNGs, boxes as SVG, and a slider whose handler finds the map beside it, so that
    there are no scripts, no ids and no network; the same input gives the same bytes.

    Parameters
    ----------
    image, map_, boxes, opacity
        As in `overlay`.
    title : str
    width_px : int
        On the screen.

    Returns
    -------
    Slider
        Shown by JupyterLab as it is (in a trusted notebook, which one that was just run is).
    """
    image, map_, boxes = _shown(image, map_, boxes)
    height, width = map_.shape
    layer = "position:absolute;left:0;top:0;width:100%;height:100%;margin:0;max-width:none"
    rectangles = "".join(
        f'<rect x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{y1 - y0:g}" fill="none" '
        f'stroke="{BOX_COLOUR}" stroke-width="2" vector-effect="non-scaling-stroke"/>'
        for x0, y0, x1, y1 in boxes
    )
    handler = "this.closest('figure').querySelector('img.heat').style.opacity=this.value"
    return Slider(
        f'<figure style="display:inline-block;width:{width_px}px;margin:0 12px 12px 0">'
        f'<figcaption style="font-size:13px">{html.escape(title)}</figcaption>'
        f'<div style="position:relative;width:{width_px}px;height:{round(width_px * height / width)}px">'
        f'<img alt="image under the map" src="{_embedded(image)}" style="{layer}">'
        f'<img alt="saliency map" class="heat" src="{_embedded(_coloured(map_))}" '
        f'style="{layer};opacity:{opacity:g}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" style="{layer}">{rectangles}</svg></div>'
        f'<label style="font-size:12px">map <input type="range" min="0" max="1" step="0.05" value="{opacity:g}" '
        f'style="width:80%;vertical-align:middle" oninput="{handler}"></label></figure>'
    )


# --- command line -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished run: its network, what its logits mean, the size of its images, and where it lies."""

    network: nn.Module
    findings: tuple
    size_px: int
    folder: Path


def _packed_size(folder, entry):
    """Return the image size of a run whose record does not have it, from the packed cohort it was trained on."""
    cohort, known = entry["parameters"].get("cohort"), entry.get("data_sha256")
    packed = paths.cohort_dir(str(cohort)) / "images.npy"
    if isinstance(known, dict) and packed.exists() and runs.sha256(packed) == known.get("images"):
        return np.load(packed, mmap_mode="r").shape[1]
    raise ValueError(
        f"{folder}/run.json does not say at which size it was trained, and its cohort {cohort!r} is not packed here "
        "as it was then: give --size-px (size_px in editions/EDITION.yaml)."
    )


def _record(folder):
    """Return a run's record; raise ValueError if it is none."""
    try:
        entry = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        parameters = entry["parameters"]
        architecture, findings, size_px = (parameters.get(k) for k in ("architecture", "findings", "size_px"))
    except OSError as error:
        raise ValueError(f"{folder}/run.json cannot be read ({error.strerror}): take another folder.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder}/run.json is no record of a run: take another folder.") from None
    named = isinstance(findings, list) and findings and all(isinstance(name, str) for name in findings)
    sized = size_px is None or (type(size_px) is int and size_px > 0)
    if not (isinstance(architecture, str) and named and sized):
        raise ValueError(f"{folder}/run.json is no record of a run: take another folder.")
    return entry


def _trained(folder, architecture, findings_n):
    """Return the network of a run; raise ValueError, with one sentence, if its files give none."""
    path = folder / "model.safetensors"
    if not training.timm.is_model(architecture):
        raise ValueError(
            f"{folder}/run.json names the network {architecture!r}, which the installed timm does not have: take a "
            "run that was made with this version of the project."
        )
    try:
        return training.load_network(path, architecture, findings_n).eval()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}): copy it from the run again.") from None
    except SafetensorError:
        raise ValueError(f"{path} is damaged or cut short: copy it from the run again.") from None
    except ValueError:
        raise ValueError(
            f"{path} does not hold weights of {architecture} with {findings_n} findings, as run.json has it: take "
            "model.safetensors from the same run."
        ) from None


def open_run(folder, size_px=None):
    """Open a run's folder.

    Parameters
    ----------
    folder : Path
        With `run.json` and `model.safetensors`, as notebook 10 writes them.
    size_px : int, optional
        Side of the images. If not given, as recorded, else as the packed cohort of the run has it.

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If it is no run's folder.
    ValueError
        If its files are damaged or do not belong together, or the size cannot be known or is another one.
    """
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file: give the folder of a run, as results/EDITION/runs/KEY.")
    missing = [name for name in ("run.json", "model.safetensors") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}: give one of results/EDITION/runs/ (made by make repro)."
        )
    entry = _record(folder)
    parameters = entry["parameters"]
    recorded = parameters.get("size_px")
    if size_px and recorded and size_px != recorded:
        raise ValueError(f"{folder} was trained at {recorded} px, not at {size_px}: leave out --size-px.")
    network = _trained(folder, parameters["architecture"], len(parameters["findings"]))
    size_px = size_px or recorded or _packed_size(folder, entry)
    return Run(network.to(training.device()), tuple(parameters["findings"]), int(size_px), folder)


@dataclass(frozen=True)
class Picture:
    """An image file, fitted into the network's square."""

    path: Path
    source_px: tuple  # width, height
    square: np.ndarray
    scale: float
    left_px: int
    top_px: int
    shown: np.ndarray  # uint8: the source image, at most `SHOWN_PX` a side

    @property
    def inner_px(self):
        """Width and height of the image inside the square, as `images.fit` rounds them."""
        return tuple(max(1, round(side * self.scale)) for side in self.source_px)

    @property
    def place(self):
        """Where the image lies in the square: x0, y0, x1, y1."""
        across, down = self.inner_px
        return self.left_px, self.top_px, self.left_px + across, self.top_px + down

    def packed_box(self, x, y, width, height, frame):
        """Return a box given in a frame of `frame` px a side of the source image as x0, y0, x1, y1 in the square."""
        across, down = (side / frame for side in self.inner_px)
        x0, y0 = x * across + self.left_px, y * down + self.top_px
        return x0, y0, x0 + width * across, y0 + height * down

    def source_point(self, x, y):
        """Return a point of the square in pixels of the source image."""
        across, down = (source / inner for source, inner in zip(self.source_px, self.inner_px, strict=True))
        return (x - self.left_px) * across, (y - self.top_px) * down


def read(path, size_px):
    """Return an image file as a `Picture`.

    Raises
    ------
    images.UnreadableImageError
        With the reason, if it cannot be used.
    """
    try:
        known = images.is_image(path)
        content = path.read_bytes()
    except OSError as error:
        raise images.UnreadableImageError(f"it cannot be opened ({error.strerror})") from None
    if not known:
        raise images.UnreadableImageError("its ending is none of PNG, JPEG and DICOM files")
    image = images.decode(content, path.suffix)
    fitted = images.fit(image, size_px)
    shown = image.copy()
    shown.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.BILINEAR)
    return Picture(path, image.size, *fitted, np.asarray(shown))


# What `explained.csv` holds, a row for each image and finding.
COLUMNS = {
    "image": "the file, as it was given",
    "run": "the run's folder, as it was given",
    "finding": "what the map is of",
    "probability": "the network's, in [0, 1]",
    "method": "grad_cam, grad_cam_plus_plus or occlusion",
    "layer": "the layer that the map was read from; none with occlusion",
    "peak_x_px, peak_y_px": "where the map is highest, in pixels of the source image from its upper left corner: the "
    "middle of the connected pixels within a millionth of the maximum (of the first group from above, if there are "
    "several); empty if the map is zero everywhere, which is no evidence for the finding",
    "peak_inside": "whether that lies in the image, and not in the black that fills up the network's square",
    "in_box_frac": "with --box: the share of the map inside the boxes; empty if the map is zero everywhere",
    "overlay": "the PNG's name; empty if it could not be written",
}


def _text(path):
    """Return a path as text that can be printed and written, whatever bytes it holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _peak(picture, map_):
    """Return where a map is highest, as the peak's columns of a row."""
    if not map_.any():
        return {"peak_x_px": np.nan, "peak_y_px": np.nan, "peak_inside": False}
    groups, _ = ndimage.label(localization.highest(map_), structure=np.ones((3, 3)))
    y, x = (float(at.mean()) + 0.5 for at in np.nonzero(groups == 1))
    x0, y0, x1, y1 = picture.place
    inside = x0 <= x <= x1 and y0 <= y <= y1
    x, y = picture.source_point(x, y)
    return {"peak_x_px": round(x, 1), "peak_y_px": round(y, 1), "peak_inside": inside}


def _row(run, picture, finding, probability, method, layer, map_, boxes):
    """Return one row of `explained.csv`, less the overlay."""
    row = {"image": _text(picture.path), "run": _text(run.folder), "finding": finding}
    row |= {"probability": round(float(probability), 4), "method": method, "layer": layer.name if layer else "none"}
    row |= _peak(picture, map_)
    if boxes:
        inside = np.max([localization.coverage(box, map_.shape) for box in boxes], axis=0)
        row["in_box_frac"] = round(localization.energy(map_, inside), 4) if map_.any() else np.nan
    return row


def _names(pictures):
    """Return a file stem for each picture; long ones are shortened, and those that share one are numbered."""
    taken, names = set(), []
    for picture in pictures:
        stem = _text(picture.path.stem).encode()[:STEM_BYTES].decode(errors="ignore")
        numbered = (stem + (f"-{k}" if k > 1 else "") for k in range(1, len(pictures) + 1))
        names.append(next(name for name in numbered if name not in taken))
        taken.add(names[-1])
    return names


def _titles(pictures):
    """Return what each picture is called in a title: its file's name, with the folder's where stems clash."""
    stems = [picture.path.stem for picture in pictures]
    titles = []
    for picture in pictures:
        path = picture.path.absolute()
        name = _text(path.name)
        name = name if len(name) <= 60 else f"{name[:30]}...{name[-27:]}"
        titles.append(f"{_text(path.parent.name)}/{name}" if stems.count(path.stem) > 1 else name)
    return titles


def _draw(path, picture, map_, boxes, title):
    """Write an overlay and return its name; if it cannot be written, say so and return no name."""
    fig, axis = plots.figure(width=7, height=7.4)
    overlay(axis, picture.shown, map_, boxes, opacity=0.45, place=picture.place)
    axis.set_title(title, fontsize=9, parse_math=False)
    try:
        fig.savefig(path, metadata={"Software": None})
    except OSError as error:
        print(f"{_text(path)} cannot be written ({error.strerror or error}): the rest goes on.", file=sys.stderr)
        return ""
    finally:
        plt.close(fig)
    return path.name


def make_folder(out, force=False):
    """Make the folder that `explain` writes into.

    Raises
    ------
    OSError
        If it cannot be made, or has an `explained.csv` already that is not to be replaced.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{_text(out)} cannot be made ({error.strerror}): give another --out.") from None
    if not force and (out / "explained.csv").exists():
        raise FileExistsError(
            f"{_text(out)} already has an explained.csv: give another --out, or --force to replace it."
        )


def _write(rows, out):
    """Write `explained.csv`."""
    try:
        pd.DataFrame(rows).to_csv(out / "explained.csv", index=False)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{_text(out)}/explained.csv cannot be written ({reason}): give another --out.") from None


def _asked(run, findings, method, layer):
    """Return the findings, each once, and the layer to read, or None; raise ValueError if the run has none such."""
    for finding in findings or ():
        if finding not in run.findings:
            raise ValueError(f"The run has no finding {finding!r}; it has {', '.join(run.findings)}.")
    findings = list(dict.fromkeys(findings or run.findings))
    if METHODS[method].reads_layer:
        return findings, find_layer(run.network, run.size_px, layer)
    if layer is not None:
        reading = " or ".join(name for name, one in METHODS.items() if one.reads_layer)
        raise ValueError(f"{method} reads no layer: leave out --layer, or take --method {reading}.")
    _probe(run.network, run.size_px, [])  # it takes images of this size
    return findings, None


def explain(run, pictures, out, *, findings=None, method="grad_cam", layer=None, boxes=(), frame=1024, force=False):
    """Write overlays and `explained.csv` of pictures, and return the table.

    Parameters
    ----------
    run : Run
    pictures : sequence of Picture
    out : Path
        A folder; made if need be.
    findings : sequence of str, optional
        Of the run; all if not given.
    method, layer
        As in `maps`.
    boxes : sequence of (x, y, width, height)
        Of a radiologist, in a frame of `frame` px a side of each source image, whatever its size and shape.
    frame : int
    force : bool
        Replace an `explained.csv`, and overlays of the same names.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`. An overlay that cannot be written is said on stderr, and the rest goes on.

    Raises
    ------
    ValueError
        If the run has no such finding, or the network no such layer.
    OSError
        If the folder cannot be made, has a table already, or the table cannot be written.
    """
    findings, read_from = _asked(run, findings, method, layer)
    make_folder(out, force)
    squares = np.stack([picture.square for picture in pictures])
    probability = training.predict(run.network, SimpleNamespace(images=squares), np.arange(len(squares)))
    placed = [[picture.packed_box(*box, frame) for box in boxes] for picture in pictures]
    rows, names, titles = [], _names(pictures), _titles(pictures)
    try:
        for finding in findings:
            k = run.findings.index(finding)
            found = maps(run.network, squares, k, method, read_from)
            for n, picture in enumerate(pictures):
                row = _row(run, picture, finding, probability[n, k], method, read_from, found[n], placed[n])
                rows.append(row)
                title = f"{titles[n]}\n{finding} {probability[n, k]:.3f}, {method}{_remark(row)}"
                path = out / f"{names[n]}-{finding}-{method}.png"
                row["overlay"] = _draw(path, picture, found[n], placed[n], title)
    finally:  # whatever happens, what is done is written
        if rows:
            _write(rows, out)
    return pd.DataFrame(rows)


def _remark(row):
    """Return what an overlay's title has to say of its map."""
    if math.isnan(row["peak_x_px"]):
        return ", no evidence"
    return "" if row["peak_inside"] else ", peak beside the image"


def _box(text):
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y,width,height") from None
    if not (math.isfinite(x + y + width + height) and x >= 0 and y >= 0 and width > 0 and height > 0):
        raise argparse.ArgumentTypeError(f"box {text} has no area, or begins outside the image")
    return x, y, width, height


def _positive(text):
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def _parser():
    about, _, rest = __doc__.partition("\n")
    lines = [textwrap.fill(f"{name}: {what}", 100, subsequent_indent="    ") for name, what in COLUMNS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m cxrlib.explain",
        description=about,
        epilog="\n".join([rest, "Columns of explained.csv:", "", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", type=Path, nargs="+", help="PNG, JPEG or DICOM")
    add("--run", type=Path, required=True, help="folder of a finished run: results/EDITION/runs/KEY, by make repro")
    add("--finding", action="append", help="may be repeated; all of the run by default")
    add("--method", choices=METHODS, default="grad_cam", help="grad_cam by default")
    add("--layer", help="a layer of the network by name; found by itself if not given; none with occlusion")
    about_box = "x,y,width,height in a frame of --box-frame px a side that is laid over the source image, whatever "
    about_box += "its size or shape; held against every finding; may be repeated; with one image only"
    add("--box", type=_box, action="append", default=[], help=about_box)
    add("--box-frame", type=_positive, default=1024, help="side of the frame of boxes; 1024 (NIH) by default")
    add("--size-px", type=_positive, help="side of the run's images, if its record does not say")
    add("--out", type=Path, required=True, help="folder to write into; one without an explained.csv, unless --force")
    add("--force", action="store_true", help="replace the explained.csv in --out, and overlays of the same names")
    return parser


def _check_boxes(chosen):
    """End with a sentence if boxes leave their frame, or could be of several images."""
    if chosen.box and len(chosen.image) > 1:
        sys.exit(f"--box is of one image and {len(chosen.image)} were given: call once for each image with boxes.")
    for box in chosen.box:
        if max(box[0] + box[2], box[1] + box[3]) > chosen.box_frame + EDGE_PX:
            text = ",".join(f"{v:g}" for v in box)
            sys.exit(f"Box {text} leaves its frame of {chosen.box_frame} px: give --box-frame, or correct the box.")


def _read_all(files, size_px):
    """Return the pictures among files; what cannot be read is said on stderr."""
    pictures = []
    for path in files:
        try:
            pictures.append(read(path, size_px))
        except images.UnreadableImageError as error:
            print(f"{_text(path)} is left out: {error}.", file=sys.stderr)
    return pictures


def main(arguments=None):
    """Run the command line; return the exit status."""
    chosen = _parser().parse_args(arguments)
    _check_boxes(chosen)
    try:
        run = open_run(chosen.run, chosen.size_px)
        make_folder(chosen.out, chosen.force)
        pictures = _read_all(chosen.image, run.size_px)
        if not pictures:
            print("No image could be read.", file=sys.stderr)
            return 1
        options = {"findings": chosen.finding, "method": chosen.method, "layer": chosen.layer, "force": chosen.force}
        table = explain(run, pictures, chosen.out, **options, boxes=chosen.box, frame=chosen.box_frame)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    with pd.option_context("display.width", 250, "display.max_columns", 20, "display.max_rows", 500):
        print(table.to_string(index=False))
    print(f"overlays and table: {_text(chosen.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
