"""Saliency maps of the explorer: Grad-CAM of notebook 14's networks on some test images, drawn when it is built."""

import matplotlib
import numpy as np

from cxrlib.networks import run_maps, saliency, trained_runs

_METHOD = "grad_cam"
_HEAT = "inferno"  # perceptually uniform; its cold end is drawn clear


def map_networks(edition, settings):
    """Return the folders of the networks whose maps are drawn, by name.

    Each is the run's own folder, or its released copy (`models/`) where the run is not here. Networks of which there
    is neither are left out.

    Raises
    ------
    ValueError
        If a file of a released network is missing or damaged; the message names it and says what brings it back.
    """
    runs = settings["maps"]["runs"].items()
    folders = {
        name: run_maps.find_run(edition, how["target"], how["architecture"], how["seed"]) for name, how in runs
    }
    return {name: folder for name, folder in folders.items() if folder is not None}


def mapped_images(boxes, images_n, seed):
    """Return which images get maps, (images_n,) int in order: as many as possible with something drawn, at random.

    Parameters
    ----------
    boxes : list of list
        What is drawn on each image.
    images_n, seed : int
    """
    order = np.random.default_rng(seed).permutation(len(boxes))
    return np.sort(sorted(order, key=lambda k: not boxes[k])[:images_n])


def coloured_maps(folders, pixels):
    """Return the maps of every network and of each of its findings, coloured, as opaque as they are hot.

    Parameters
    ----------
    folders : Mapping of str to Path
    pixels : (n, size_px, size_px) uint8

    Returns
    -------
    names : list of [network, finding]
    tiles : (len(names) * n, size_px, size_px, 4) uint8
        All images of the first name, then of the next.
    """
    names, tiles = [], []
    for name, folder in folders.items():
        run = trained_runs.open_run(folder, pixels.shape[1])
        for k, finding in enumerate(run.findings):
            heat = saliency.maps(run.network, pixels, k, _METHOD)
            colours = np.uint8(np.rint(255 * matplotlib.colormaps[_HEAT](heat)))
            colours[..., 3] = np.rint(255 * heat)
            names.append([name, finding])
            tiles.append(colours)
    return names, np.concatenate(tiles)
