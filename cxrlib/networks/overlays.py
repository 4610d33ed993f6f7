"""Saliency maps drawn over radiographs."""

import base64
import html
import io
from dataclasses import dataclass

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

_HEAT = "inferno"  # perceptually uniform; its cold end is drawn clear


_BOX_COLOUR = "#56B4E9"


SHOWN_PX = 1024  # longest side of a radiograph as overlays show it


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
    """Return a map as (h, w, 4) uint8: `_HEAT`, as opaque as it is hot."""
    colours = np.uint8(np.rint(255 * matplotlib.colormaps[_HEAT](map_)))
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
    axis.imshow(map_, cmap=_HEAT, vmin=0, vmax=1, alpha=opacity * map_, **heat)
    for x0, y0, x1, y1 in boxes:
        corner = {"fill": False, "edgecolor": _BOX_COLOUR, "linewidth": 1.4}
        axis.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, **corner))
    axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set_visible(False)


def _embedded(pixels):
    """Return pixels as the source of an HTML image."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@dataclass(frozen=True)
class _Slider:
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
        f'stroke="{_BOX_COLOUR}" stroke-width="2" vector-effect="non-scaling-stroke"/>'
        for x0, y0, x1, y1 in boxes
    )
    handler = "this.closest('figure').querySelector('img.heat').style.opacity=this.value"
    return _Slider(
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
