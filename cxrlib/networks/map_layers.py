"""The layers of a network whose output is a map, found and checked on any timm network."""

import contextlib
import math
from dataclasses import dataclass
from functools import partial

import torch

_NO_MAP = "its output is no map with cells down and across"


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
def still(network):
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
def tapped(network, names, tap):
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


def too_small(size_px):
    """Return the sentence that refuses images of this size."""
    return f"Images of {size_px} x {size_px} px are too small for this network: give a larger size."


def probe(network, size_px, names):
    """Return `{name: Layer, or a sentence on why it is none}` of layers, from one pass forward and backward."""
    seen, why = {}, {}

    def tap(name, map_):
        if map_ is None:
            why[name] = _NO_MAP
        elif name in seen:
            why[name] = "it runs more than once in a pass"
        else:
            seen[name] = map_ = map_.clone()
        return map_

    probe = torch.randn((4, 1, size_px, size_px), generator=torch.Generator().manual_seed(0))
    probe[1:] = torch.tensor([[-2.0], [2.0], [0.0]])[..., None, None] + 0.1 * probe[1:]  # black, white, grey
    some = next(network.parameters())
    with still(network), torch.enable_grad(), tapped(network, names, tap):
        try:
            logit = network(probe.to(some.device, some.dtype).requires_grad_())
        except (AssertionError, RuntimeError, ValueError) as error:
            said = (str(error).strip().splitlines() or ["no reason given"])[0]
            if "too small" in said or "greater than actual input size" in said:
                raise ValueError(too_small(size_px)) from None
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
    return [found for found in probe(network, size_px, stages(network)).values() if isinstance(found, Layer)]


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
    found = probe(network, size_px, list(dict.fromkeys([*listed, *([name] if name else [])])))
    usable = [found[stage] for stage in listed if isinstance(found[stage], Layer)]
    shown = ", ".join(f"{one.name} ({one.grid[0]} x {one.grid[1]})" for one in usable) or "no stage"
    if name is not None:
        if isinstance(found[name], Layer):
            return found[name]
        raise ValueError(f"Layer {name!r} gives no map at {size_px} px: {found[name]}; usable: {shown}.")
    if not usable:
        if listed and all(found[stage] == _NO_MAP for stage in listed):
            raise ValueError(too_small(size_px))
        reasons = "; ".join(f"{stage}: {found[stage]}" for stage in listed) or "timm lists no stages of it"
        raise ValueError(f"No stage of the network gives a map at {size_px} px ({reasons}): name a layer.")
    fine = [one for one in usable if min(one.grid) >= least_side]
    most = max(math.prod(one.grid) for one in usable)
    return (fine or [one for one in usable if math.prod(one.grid) == most])[-1]
