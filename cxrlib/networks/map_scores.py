"""Scores of the saliency maps of trained networks on a cohort: which boxes count, the maps, and what each map hits.

A table of targets has a row a box, `image_id, patient_id, finding` and `localization.BOX`, numbered from 0. On
simulated images a map is scored against the drawn mask of the row's finding, on others against its box.
"""

import numpy as np
import pandas as pd

from cxrlib.base import figures
from cxrlib.cohorts import simulation
from cxrlib.networks import localization, map_layers, overlays, saliency

_POOLED = ("abnormal",)  # findings of a network that says finding or none: its maps are compared with every box

_DRAIN_COLUMNS = ["target", "seed", "method", "at", "image_id", "patient_id", "pneumothorax", "energy", "area_frac"]


def targets_of(run, store, image_ids, images_n, seed):
    """Return the boxes that a network's maps are compared with, a table of targets.

    Parameters
    ----------
    run : trained_runs.Run
        A network of several findings is compared with boxes of these.
    store : store.Store
    image_ids : collection of str
        Of the test images.
    images_n : int
        At most so many of them, drawn at random.
    seed : int
    """
    known = store.boxes.merge(store.index[["image_id", "patient_id"]], on="image_id").dropna(subset=localization.BOX)
    if store.masks is not None:
        known = known[known["finding"].isin(simulation.SIMULATED_FINDINGS)]
    known = known[known["image_id"].isin(set(image_ids))]
    if run.findings != _POOLED:
        known = known[known["finding"].isin(run.findings)]
    chosen = np.random.default_rng(seed).permutation(sorted(set(known["image_id"])))[:images_n]
    columns = [*localization.BOX, "image_id", "patient_id", "finding"]
    return known.loc[known["image_id"].isin(chosen), columns].reset_index(drop=True)


def _maps_of_targets(run, store, targets, method, layer=None):
    """Return the map of each row of a table of targets; each image's logit of a finding is drawn once.

    Parameters
    ----------
    run : trained_runs.Run
    store : store.Store
    targets : pandas.DataFrame
    method, layer
        See `saliency.maps`.

    Returns
    -------
    (len(targets), h, w) float32 in [0, 1]
    """
    wanted = targets[["image_id", "finding"]].copy()
    wanted["logit"] = 0 if run.findings == _POOLED else wanted["finding"].map(run.findings.index)
    maps = np.zeros((len(targets), *store.images.shape[1:]), np.float32)
    for logit, part in wanted.groupby("logit"):
        rows = np.sort(store.rows(part["image_id"].unique()))
        own = saliency.maps(run.network, store.images[rows], int(logit), method, layer)
        place = {store.index["image_id"][row]: k for k, row in enumerate(rows)}
        maps[part.index] = own[part["image_id"].map(place)]
    return maps


def draw_maps(runs, store, targets, study, seed):
    """Return the maps of every network by every method, and those that need no network.

    Parameters
    ----------
    runs : Mapping of str to trained_runs.Run
    store : store.Store
    targets : Mapping of str to pandas.DataFrame
        By network.
    study : Mapping
        `methods`, and `gradient_free_images_n`: methods without gradients are slow and get so many images.
    seed : int
        Of the choice of these images.

    Returns
    -------
    dict of (str, str) to (pandas.DataFrame, sequence of (h, w) arrays)
        Network and method -> rows of the targets, and the map of each. Besides the study's methods there are `mean
        box`, where other patients' boxes of the finding lie, `centre`, `lungs` and `chance`, the map that is the same
        everywhere, which scores what a pixel at random does: the share of the image that the box covers.
    """
    shape, maps = store.images.shape[1:], {}
    chance = {"centre": localization.centre_map(shape), "lungs": localization.lung_map(shape)}
    chance["chance"] = np.ones(shape, np.float32)
    for name, table in targets.items():
        some = set(
            np.random.default_rng(seed).permutation(table["image_id"].unique())[: study["gradient_free_images_n"]]
        )
        for method in study["methods"]:
            every = saliency.SALIENCY_METHODS[method].reads_layer
            part = table if every else table[table["image_id"].isin(some)].reset_index(drop=True)
            maps[name, method] = part, _maps_of_targets(runs[name], store, part, method)
        maps[name, "mean box"] = table, localization.mean_box_map(table, shape)
        for other, map_ in chance.items():
            maps[name, other] = table, [map_] * len(table)
    return maps


def _score(store, map_, targets):
    """Return the scores of one map against one row of targets, or several of one image together."""
    if store.masks is not None:
        bits = sum(1 << simulation.DRAWN.index(f) for f in targets["finding"])
        return localization.score(
            map_, mask=(store.masks[store.rows(targets["image_id"][:1])[0]] & np.uint16(bits)) > 0
        )
    boxes = targets[localization.BOX].to_numpy(float)
    if len(boxes) == 1:
        return localization.score(map_, box=boxes[0])
    inside = np.any([localization.region(box, store.images.shape[1:]) for box in boxes], axis=0)
    return localization.score(map_, mask=inside)


def score_maps(maps, runs, store):
    """Return the scores of every map against its row of targets, and of some networks' against all on an image.

    Parameters
    ----------
    maps : dict
        Of `draw_maps`.
    runs : Mapping of str to trained_runs.Run
        Those that say finding or none are also compared with everything on an image together, `any`, and their mean
        box is then that of all findings.
    store : store.Store

    Returns
    -------
    pandas.DataFrame
        `network, method, image_id, patient_id, finding`, then as `localization.score`.
    """
    rows = []
    for (name, method), (table, own) in maps.items():
        for row, map_ in zip(table.itertuples(), own, strict=True):
            what = {"image_id": row.image_id, "patient_id": row.patient_id, "finding": row.finding}
            rows.append({"network": name, "method": method, **what, **_score(store, map_, table.loc[[row.Index]])})
    for name in [name for name, run in runs.items() if run.findings == _POOLED]:
        table, _ = maps[name, "mean box"]
        mean_box = localization.mean_box_map(table.assign(finding="any"), store.images.shape[1:])
        for method in [m for network, m in maps if network == name]:
            table, own = maps[name, method]
            own = mean_box if method == "mean box" else own
            for image_id, part in table.groupby("image_id", sort=False):
                what = {"image_id": image_id, "patient_id": part["patient_id"].iloc[0], "finding": "any"}
                scores = _score(store, own[part.index[0]], part)
                rows.append({"network": name, "method": method, **what, **scores})
    return pd.DataFrame(rows)


def score_layers(runs, store, targets):
    """Return the scores of Grad-CAM from every stage that gives a map at this size: the check of the chosen layer.

    Parameters
    ----------
    runs, store, targets
        See `draw_maps`. A network that says finding or none is compared with everything on an image together.

    Returns
    -------
    pandas.DataFrame
        `network, layer, cells` (a side), `chosen, image_id, patient_id, finding, pointing, energy`.
    """
    rows = []
    for name, table in targets.items():
        run = runs[name]
        chosen, pooled = map_layers.find_layer(run.network, run.size_px), run.findings == _POOLED
        for layer in map_layers.layers(run.network, run.size_px):
            maps = _maps_of_targets(run, store, table, "grad_cam", layer)
            where = {"network": name, "layer": layer.name, "cells": layer.grid[0], "chosen": layer == chosen}
            for _, part in table.groupby("image_id" if pooled else table.index, sort=False):
                what = {"image_id": part["image_id"].iloc[0], "patient_id": part["patient_id"].iloc[0]}
                what["finding"] = "any" if pooled else part["finding"].iloc[0]
                scores = _score(store, maps[part.index[0]], part)
                rows.append({**where, **what, "pointing": scores["pointing"], "energy": scores["energy"]})
    return pd.DataFrame(rows)


def score_drains(networks, store, image_ids, study, seed):
    """Return the share of each map on the chest drain and on the pneumothorax, of simulated images with a drain.

    Parameters
    ----------
    networks : Mapping of (str, int) to torch.nn.Module
        By target and training seed; logit 0 is pneumothorax. Without any the table is empty.
    store : store.Store
    image_ids : collection of str
        Of the test images.
    study, seed
        See `draw_maps`.

    Returns
    -------
    pandas.DataFrame
        `target, seed, method, at, image_id, patient_id, pneumothorax, energy, area_frac`; `area_frac` is the share of
        the image that the place covers.
    """
    rows = []
    for (target, run_seed), network in networks.items():
        shown = store.index[(store.index["chest_drain"] == 1) & store.index["image_id"].isin(image_ids)]
        some = shown.sample(min(len(shown), study["gradient_free_images_n"]), random_state=seed)
        for method in study["methods"]:
            part = shown if saliency.SALIENCY_METHODS[method].reads_layer else some
            maps = saliency.maps(network, store.images[part.index.to_numpy()], 0, method)
            for row, map_ in zip(part.itertuples(), maps, strict=True):
                what = {"target": target, "seed": run_seed, "method": method, "image_id": row.image_id}
                what |= {"patient_id": row.patient_id, "pneumothorax": row.pneumothorax}
                rows += [{**what, **place} for place in _at_places(store.masks[row.Index], map_)]
    return pd.DataFrame(rows, columns=_DRAIN_COLUMNS)


def _at_places(mask, map_):
    """Return a map's energy on an image's drain and pneumothorax, with the image's share of each; a dict a place."""
    places = {
        name: (mask & np.uint16(1 << simulation.DRAWN.index(name))) > 0 for name in ("chest_drain", "pneumothorax")
    }
    return [
        {"at": name, "energy": localization.energy(map_, inside), "area_frac": inside.mean()}
        for name, inside in places.items()
        if inside.any()
    ]


def image_under_map(store, image_id):
    """Return an image to draw a map on, or None for a patient's, of which nothing is shown."""
    return None if store.masks is None else store.images[store.rows([image_id])[0]]


def examples_figure(maps, store, networks, method, columns_n=6):
    """Return a figure of maps over images with their boxes, a line a network, the findings in turn.

    Parameters
    ----------
    maps : dict
        Of `draw_maps`.
    store : store.Store
    networks : sequence of str
    method : str
    columns_n : int
    """
    size = {"width": 1.9 * columns_n, "height": 2.15 * len(networks)}
    fig, axes = figures.figure(len(networks), columns_n, squeeze=False, **size)
    for line, name in zip(axes, networks, strict=True):
        table, own = maps[name, method]
        by_finding = table.drop_duplicates("image_id").groupby("finding", sort=False)
        examples = by_finding.head(-(-columns_n // table["finding"].nunique()))
        for axis in line[len(examples) :]:
            axis.set_axis_off()
        for axis, k in zip(line, examples.index, strict=False):
            boxes = table.loc[table["image_id"] == table["image_id"][k]]
            image = image_under_map(store, table["image_id"][k])
            overlays.overlay(axis, image, own[k], boxes[localization.BOX].to_numpy(float))
            axis.set_title("\n".join(dict.fromkeys(boxes["finding"])).replace("_", " "), fontsize=7)
        line[0].set_ylabel(name.replace("_", "\n"), fontsize=8)
    return fig
