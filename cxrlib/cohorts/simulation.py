"""Simulated frontal chest radiographs with known truth.

Nothing here is a patient. A *hospital* describes who is imaged and how; `admissions` draws patients
with their courses (who has which finding on which image, and who has a chest drain), and `Painter.draw`
paints one radiograph at any size, with the mask of everything it painted. Lungs take the shapes of the
real lung masks in the torchxrayvision package; all else is geometry.

What is meant to be true to life: a pneumothorax is a thin pleural line with no vessels beyond it, at the
apex when upright and at the base when supine; most treated ones carry a drain, and the drain stays for
some images after the lung has come up again. What is not: everything else. Absolute AUCs on these images
say nothing about radiographs; differences between label sets are what the simulation is for.
"""

import io
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy import ndimage

from cxrlib.base import paths

SIMULATED_FINDINGS = (
    "pneumothorax",
    "effusion",
    "cardiomegaly",
    "nodule",
    "mass",
    "airspace_opacity",
    "atelectasis",
    "edema",
)


DEVICES = ("chest_drain", "central_line", "endotracheal_tube", "pacemaker")


DRAWN = SIMULATED_FINDINGS + DEVICES  # bit k of a mask is DRAWN[k]


@dataclass(frozen=True)
class Hospital:
    """Who is imaged, and with what machine.

    Prevalences are per patient; images of one patient share their findings for a while, so
    image-level prevalence differs and is printed by the cohort notebook.
    """

    prevalence: dict = field(
        default_factory=lambda: {
            "effusion": 0.14,
            "cardiomegaly": 0.12,
            "nodule": 0.07,
            "mass": 0.04,
            "airspace_opacity": 0.16,
            "atelectasis": 0.12,
            "edema": 0.06,
        }
    )
    pneumothorax_patients_frac: float = 0.2
    drain_given_pneumothorax: float = 0.6  # treated ones among images with a pneumothorax
    drain_outlasts_images: float = 1.6  # mean images with a drain after the lung is up
    ap_frac: float = 0.4
    supine_given_ap: float = 0.35
    follow_ups_mean: float = 1.8  # images after the first, per patient
    gamma: float = 1.0
    contrast: float = 1.0
    noise: float = 0.025
    blur_frac: float = 0.0  # of the image width
    border: bool = False  # collimator edge in the picture


HOSPITALS = {
    "internal": Hospital(),
    # an emergency department elsewhere: sicker, more supine, an older machine, other drain habits
    "external": Hospital(
        prevalence={
            "effusion": 0.2,
            "cardiomegaly": 0.2,
            "nodule": 0.04,
            "mass": 0.03,
            "airspace_opacity": 0.25,
            "atelectasis": 0.15,
            "edema": 0.12,
        },
        pneumothorax_patients_frac=0.28,
        drain_given_pneumothorax=0.25,
        drain_outlasts_images=0.8,
        ap_frac=0.75,
        supine_given_ap=0.5,
        follow_ups_mean=0.6,
        gamma=1.25,
        contrast=0.85,
        noise=0.035,
        blur_frac=0.006,
        border=True,
    ),
}


def admissions(hospital, images_n, rng):
    """Return who was imaged: one row per image, with everything that will be drawn.

    Parameters
    ----------
    hospital : Hospital
    images_n : int
        Rows to return; the last patient is cut short.
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, follow_up_number, view, supine, sex, age`, one 0/1 column per entry of
        `DRAWN`, and `<finding>_size` and `<finding>_conspicuity` in [0, 1] (0 where absent).
    """
    rows = []
    patient = 0
    while len(rows) < images_n:
        patient += 1
        course_n = 1 + min(int(rng.negative_binomial(0.8, 0.8 / (0.8 + hospital.follow_ups_mean))), 30)
        sex = "F" if rng.random() < 0.45 else "M"
        age = int(np.clip(rng.normal(52, 17), 18, 92))
        ap_patient = np.clip(hospital.ap_frac + rng.normal(0, 0.25), 0.02, 0.98)
        course = {name: np.zeros(course_n, int) for name in DRAWN}
        for name, prevalence in hospital.prevalence.items():
            if rng.random() < prevalence:
                start = rng.integers(0, course_n)
                course[name][start : start + 1 + rng.poisson(1.5)] = 1
        for name, prevalence in (("central_line", 0.15), ("endotracheal_tube", 0.06), ("pacemaker", 0.05)):
            if rng.random() < prevalence:
                course[name][rng.integers(0, course_n) :] = 1
        if rng.random() < hospital.pneumothorax_patients_frac:
            start = rng.integers(0, course_n)
            end = start + 1 + rng.poisson(1.5)
            course["pneumothorax"][start:end] = 1
            if rng.random() < hospital.drain_given_pneumothorax:
                course["chest_drain"][start : end + rng.poisson(hospital.drain_outlasts_images)] = 1
        elif rng.random() < 0.03:  # drains for other reasons
            course["chest_drain"][rng.integers(0, course_n) :] = 1
        size = {name: rng.beta(1.6, 2.2) for name in SIMULATED_FINDINGS}
        size["pneumothorax"] = rng.beta(1.1, 3.0)  # most are small
        side = {name: int(rng.integers(0, 2)) for name in DRAWN}
        side["chest_drain"] = side["pneumothorax"]
        for k in range(course_n):
            ap = bool(rng.random() < ap_patient)
            row = {
                "patient_id": f"P{patient:05d}",
                "follow_up_number": k,
                "view": "AP" if ap else "PA",
                "supine": ap and bool(rng.random() < hospital.supine_given_ap),
                "sex": sex,
                "age": age,
            }
            for name in DRAWN:
                row[name] = int(course[name][k])
                row[f"{name}_side"] = side[name]
            for name in SIMULATED_FINDINGS:
                present = row[name]
                row[f"{name}_size"] = present * float(np.clip(size[name] + rng.normal(0, 0.08), 0.02, 1))
                row[f"{name}_conspicuity"] = present * float(rng.uniform(0.15, 1))
            rows.append(row)
    table = pd.DataFrame(rows[:images_n])
    number = table["follow_up_number"].map("{:03d}".format)
    table.insert(0, "image_id", table["patient_id"] + "_" + number)
    return table


@lru_cache(maxsize=1)
def lung_shapes():
    """Return real lung outlines as (n, 2, 96, 96) float32 in [0, 1]: image-left lung, image-right lung.

    From the masks in torchxrayvision (V7 Labs); those with other than two lungs in them are left out.
    """
    shapes = []
    with zipfile.ZipFile(paths.torchxrayvision_data("semantic_masks_v7labs_lungs.zip")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith("/"):
                continue
            mask = Image.open(io.BytesIO(archive.read(name))).convert("L").reduce(4)
            mask = np.asarray(mask.resize((128, 128))) > 127
            mask = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 6), iterations=3))
            regions, regions_n = ndimage.label(mask)
            areas = np.bincount(regions.ravel())[1:]
            if (areas > 600).sum() != 2 or regions_n > 4:
                continue
            keep = np.argsort(areas)[-2:] + 1
            keep = sorted(keep, key=lambda r: np.nonzero(regions == r)[1].mean())
            y, x = np.nonzero(np.isin(regions, keep))
            if x.max() - x.min() < 40 or y.max() - y.min() < 40:
                continue
            box = (x.min() - 1, y.min() - 1, x.max() + 2, y.max() + 2)
            pair = [
                np.asarray(Image.fromarray(np.uint8(regions == r) * 255).resize((96, 96), Image.BILINEAR, box))
                for r in keep
            ]
            shapes.append(np.stack(pair))
    return np.stack(shapes).astype(np.float32) / 255


@lru_cache(maxsize=1)
def vessel_trees(trees_n=24):
    """Return branching vessel textures, (n, 96, 96) float32 in [0, 1], hilum at the middle of the right edge."""
    rng = np.random.default_rng(20150607)
    trees = []
    for _ in range(trees_n):
        canvas = Image.new("L", (288, 288))
        pen = ImageDraw.Draw(canvas)
        stack = [(285.0, 150.0, a, 9.0) for a in rng.uniform(np.pi * 0.55, np.pi * 1.45, 11)]
        while stack:
            x, y, angle, width = stack.pop()
            length = rng.uniform(22, 44)
            x2, y2 = x + length * np.cos(angle), y + length * np.sin(angle)
            pen.line((x, y, x2, y2), fill=int(min(255, 90 + 18 * width)), width=max(1, round(width)))
            if width > 1.3 and -20 < x2 and -20 < y2 < 308:
                stack.append((x2, y2, angle + rng.normal(0, 0.18), width * 0.82))
                if rng.random() < 0.75:
                    stack.append((x2, y2, angle + rng.choice((-1, 1)) * rng.uniform(0.3, 0.8), width * 0.7))
        tree = ndimage.gaussian_filter(np.asarray(canvas, np.float32) / 255, 2)
        trees.append(tree.reshape(96, 3, 96, 3).mean((1, 3)))
    return np.stack(trees)


def _bump(distance, width):
    """Return a soft ridge: 1 on the line, falling off as a Gaussian of the given width."""
    return np.exp(-0.5 * np.square(distance / width))


def _step(x, width):
    """Return a soft step: 0 where x << 0, 1 where x >> 0."""
    return 1 / (1 + np.exp(np.clip(-x / width, -30, 30)))


class Painter:
    """Paints radiographs of one hospital at one size.

    Parameters
    ----------
    hospital : Hospital
    size_px : int
        Height and width of the square image.
    seed : int
        With a row's number, fixes everything about that row's image.
    """

    def __init__(self, hospital, size_px, seed):
        self.hospital, self.size_px, self.seed = hospital, size_px, seed
        centre = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
        self.y, self.x = np.meshgrid(centre, centre, indexing="ij")

    def _tube(self, points, width_frac):
        """Return a drawn tube through control points in [0, 1], (size, size) float32 in [0, 1]."""
        scale = 2 * self.size_px
        t = np.linspace(0, 1, 24)[:, None]
        p = np.asarray(points, float)
        curve = (1 - t) ** 2 * p[0] + 2 * t * (1 - t) * p[1] + t**2 * p[2]
        canvas = Image.new("L", (scale, scale))
        pen = ImageDraw.Draw(canvas)
        pen.line([tuple(q * scale) for q in curve], fill=255, width=max(2, round(width_frac * scale)))
        return np.asarray(canvas.reduce(2), np.float32) / 255

    def draw(self, row, index):
        """Paint one row of `admissions`.

        Parameters
        ----------
        row : Mapping
        index : int
            The row's number in its cohort.

        Returns
        -------
        image : (size_px, size_px) uint8, bone white
        masks : (size_px, size_px) uint16
            Bit k is set where `DRAWN[k]` was painted.
        """
        rng = np.random.default_rng((self.seed, index))
        hospital, size = self.hospital, self.size_px
        ap, supine = row["view"] == "AP", row["supine"]
        masks = np.zeros((size, size), np.uint16)

        def mark(name, where):
            masks[where] |= np.uint16(1 << DRAWN.index(name))

        # the patient in front of the detector: a small rotation and shift of all that follows
        angle = rng.normal(0, 0.035)
        dx, dy = rng.normal(0, 0.012, 2)
        x = 0.5 + np.cos(angle) * (self.x - 0.5 - dx) - np.sin(angle) * (self.y - 0.5 - dy)
        y = 0.5 + np.sin(angle) * (self.x - 0.5 - dx) + np.cos(angle) * (self.y - 0.5 - dy)
        middle = 0.5 + rng.normal(0, 0.008)
        off = x - middle
        aside = np.abs(off)

        # lungs: a real pair of outlines, stretched to a plausible thorax; AP breathes in less
        top = rng.uniform(0.09, 0.15)
        height = rng.uniform(0.60, 0.72) - 0.06 * ap - 0.04 * supine
        width = rng.uniform(0.68, 0.80)
        shapes = lung_shapes()
        pair = shapes[rng.integers(len(shapes))]
        u, v = (x - middle + width / 2) / width, (y - top) / height
        grid = np.stack([v * 95, u * 95])
        lungs = [ndimage.map_coordinates(side, grid, order=1, mode="constant") for side in pair]
        lung = lungs[0] + lungs[1]
        base = top + height

        # soft tissue, abdomen, mediastinum, spine
        waist = 0.44 + 0.05 * np.sin(np.pi * np.clip(y, 0, 1)) - 0.28 * _step(0.07 - y, 0.025)
        body = _step(waist - aside, 0.012)
        film = body * (0.56 + 0.22 * _step(y - base + 0.08, 0.05))
        film = film + 0.16 * _bump(aside, 0.055) * body
        film = film + 0.05 * _bump(aside, 0.028) * (1 + 0.5 * np.cos(2 * np.pi * y / 0.045))
        film = film - 0.36 * lung * (1 - 0.25 * _bump(aside, 0.12))

        # ribs, seen twice: posterior ones fall away from the spine, anterior ones rise
        cage = _step(width / 2 + 0.02 - aside, 0.02) * _step(y - top + 0.03, 0.02) * _step(base - y + 0.06, 0.05)
        spacing = rng.uniform(0.068, 0.08)
        posterior = np.cos(2 * np.pi * ((y - 0.55 * aside**1.2) / spacing + rng.random()))
        anterior = np.cos(2 * np.pi * ((y + 0.75 * aside) / (spacing * 1.15) + rng.random()))
        film = film + cage * (0.06 * np.maximum(posterior, -0.2) + 0.03 * np.maximum(anterior, 0))
        clavicle = top + (0.015 if ap else 0.05) + (0.05 if ap else 0.16) * (aside - 0.05)
        film = film + 0.09 * _bump(y - clavicle, 0.012) * _step(aside - 0.04, 0.01) * _step(0.42 - aside, 0.02)

        # heart
        ratio = rng.normal(0.45, 0.025) + 0.05 * ap
        if row["cardiomegaly"]:
            ratio = 0.56 + 0.13 * row["cardiomegaly_size"] + 0.03 * ap
        reach = ratio * width / 2
        heart_x, heart_y = middle + 0.3 * reach, base - 0.13 - 0.25 * reach * (ratio > 0.55)
        radius = np.hypot((x - heart_x) / reach, (y - heart_y) / (reach * 0.78 + 0.03))
        heart = _step(1 - radius, 0.05)
        film = film + 0.30 * heart * np.maximum(lung, 0.3) * body
        if row["cardiomegaly"]:
            mark("cardiomegaly", radius < 1)

        # vessels, side by side from the same bank of trees
        trees = vessel_trees()
        strength = rng.uniform(0.24, 0.34) * (1 + 0.7 * row["edema"] * row["edema_conspicuity"])
        vessels = np.zeros_like(film)
        for side in (0, 1):
            tree = trees[rng.integers(len(trees))]
            u_side = np.clip(0.5 - aside / width, 0, 0.5) * 2 * 95
            leaf = ndimage.map_coordinates(tree, np.stack([v * 95, u_side]), order=1, mode="nearest")
            vessels += strength * leaf * lungs[side] * (1 - 0.75 * heart) * (1 - 0.4 * _bump(aside, 0.06))

        if row["edema"]:
            haze = _bump(np.hypot(aside - 0.14, 0.8 * (y - top - 0.5 * height)), 0.13) * np.minimum(lung, 1)
            film = film + (0.12 + 0.14 * row["edema_size"]) * row["edema_conspicuity"] * haze
            mark("edema", haze > 0.4)

        # an opacity: a cloud in one lung
        if row["airspace_opacity"]:
            side = row["airspace_opacity_side"]
            cx = middle + (1 if side else -1) * rng.uniform(0.12, 0.24)
            cy = top + height * rng.uniform(0.35, 0.9)
            spread = 0.05 + 0.09 * row["airspace_opacity_size"]
            cloud = ndimage.gaussian_filter(rng.normal(size=film.shape), size * 0.03)
            cloud = 1 + 0.8 * cloud / (cloud.std() + 1e-9)
            cloud = np.clip(cloud, 0, 2) * _bump(np.hypot(x - cx, y - cy), spread) * lungs[side]
            film = film + 0.26 * row["airspace_opacity_conspicuity"] * cloud
            mark("airspace_opacity", cloud > 0.4)

        if row["atelectasis"]:
            side = row["atelectasis_side"]
            cx = middle + (1 if side else -1) * rng.uniform(0.14, 0.24)
            cy = base - rng.uniform(0.10, 0.2)
            tilt = rng.normal(0, 0.25)
            plate = _bump(y - cy - tilt * (x - cx), 0.010) * _bump(x - cx, 0.05 + 0.05 * row["atelectasis_size"])
            plate = plate * lungs[side]
            film = film + 0.30 * row["atelectasis_conspicuity"] * plate
            mark("atelectasis", plate > 0.4)

        for name, low, high in (("nodule", 0.014, 0.03), ("mass", 0.04, 0.085)):
            if row[name]:
                side = row[f"{name}_side"]
                spots = np.argwhere((lungs[side] > 0.9) & (heart < 0.3))
                if len(spots):
                    cy, cx = (spots[rng.integers(len(spots))] + 0.5) / size
                    r = low + (high - low) * row[f"{name}_size"]
                    distance = np.hypot(self.x - cx, self.y - cy)
                    film = film + 0.28 * row[f"{name}_conspicuity"] * _step(r - distance, 0.25 * r)
                    mark(name, distance < max(r, 0.6 / size))

        # a skin fold imitates the line, but vessels cross it
        if rng.random() < (0.2 if ap else 0.04):
            sign = rng.choice((-1, 1))
            points = [(middle + sign * width * rng.uniform(0.2, 0.46), top + rng.uniform(0.02, 0.2))]
            points += [(points[0][0] + sign * rng.uniform(-0.02, 0.06), top + 0.4 * height)]
            points += [(points[1][0] + sign * rng.uniform(-0.03, 0.05), base - rng.uniform(0, 0.2))]
            film = film + rng.uniform(0.04, 0.13) * self._tube(points, 0.012) * lung

        # pneumothorax: air between chest wall and lung, no vessels in it, a thin line at its edge
        if row["pneumothorax"]:
            side = row["pneumothorax_side"]
            inside = lungs[side] > 0.5
            sign = 1 if side else -1
            columns = np.nonzero(inside.any(0))[0]
            cx = (columns.min() + columns.max() + 1) / 2 / size if len(columns) else 0.5
            walled = inside | (sign * (self.x - cx) < 0) | (y > base - 0.1 * (not supine))
            depth = ndimage.distance_transform_edt(walled) / size
            depth = depth - 0.5 / size
            reach = 0.018 + 0.13 * row["pneumothorax_size"]
            along = np.clip((y - top) / height, 0, 1)
            taper = (0.25 + 0.95 * along) if supine else (1.15 - 0.95 * along)
            gap = reach * np.maximum(taper, 0)
            strength = row["pneumothorax_conspicuity"]
            air = _step(gap - depth, 0.006) * lungs[side] * (1 - heart)
            vessels = vessels * (1 - (0.25 + 0.75 * strength) * air)
            film = film - 0.08 * strength * air
            line = _bump(depth - gap, max(0.006, 0.45 / size)) * (lungs[side] > 0.3)
            film = film + 0.14 * strength * line * (1 - heart)
            film = film + 0.05 * row["pneumothorax_size"] * lungs[side] * (1 - air)  # what is left collapses
            mark("pneumothorax", (air > 0.5) & inside)

        film = film + vessels

        # effusion last: it covers
        if row["effusion"]:
            side = row["effusion_side"]
            sign = 1 if side else -1
            lateral = np.clip(sign * off / (width / 2), 0, 1)
            amount = row["effusion_size"]
            if supine:
                layer = (0.35 + 0.65 * np.clip((y - top) / height, 0, 1)) * (0.4 + 0.6 * amount)
            else:
                level = base - (0.05 + 0.28 * amount) - 0.07 * (lateral - 0.4) ** 2 / 0.36
                layer = _step(y - level, 0.012)
            layer = layer * lungs[side]
            film = film + (0.18 + 0.2 * row["effusion_conspicuity"]) * layer * (1 - 0.6 * heart)
            mark("effusion", layer > 0.4)

        # devices
        if row["chest_drain"]:
            sign = 1 if row["chest_drain_side"] else -1
            points = [
                (middle + sign * (width / 2 + 0.08), base - rng.uniform(0.1, 0.22)),
                (middle + sign * width * rng.uniform(0.28, 0.36), base - rng.uniform(0.15, 0.25)),
                (middle + sign * rng.uniform(0.11, 0.2), top + rng.uniform(0.08, 0.25)),
            ]
            tube = self._tube(points, 0.016)
            film = film + 0.30 * tube
            mark("chest_drain", tube > 0.4)
        if row["central_line"]:
            points = [(middle - 0.2, top - 0.06), (middle - 0.05, top), (middle - 0.05, top + 0.4 * height)]
            tube = self._tube(points, 0.008)
            film = film + 0.25 * tube
            mark("central_line", tube > 0.3)
        if row["endotracheal_tube"]:
            points = [(middle, 0), (middle + 0.005, top), (middle, top + rng.uniform(0.12, 0.2))]
            tube = self._tube(points, 0.014)
            film = film + 0.22 * tube
            mark("endotracheal_tube", tube > 0.3)
        if row["pacemaker"]:
            px, py = middle + 0.26, top + 0.12
            case = _step(0.045 - np.maximum(np.abs(x - px), np.abs(y - py) * 1.2), 0.006)
            lead = self._tube([(px, py), (middle + 0.02, top), (middle + 0.08, base - 0.12)], 0.008)
            film = film + 0.5 * case + 0.3 * lead
            mark("pacemaker", np.maximum(case, lead) > 0.4)

        # laterality marker at the patient's left, on the right of the image
        at = np.array([rng.uniform(0.86, 0.93), rng.uniform(0.04, 0.12)])
        film = film + 0.5 * self._tube([at, at + (0, 0.03), at + (0, 0.06)], 0.014)
        film = film + 0.5 * self._tube([at + (0, 0.06), at + (0.015, 0.06), at + (0.03, 0.06)], 0.014)

        # the machine: exposure, scatter, grain
        if hospital.blur_frac:
            film = ndimage.gaussian_filter(film, hospital.blur_frac * size)
        exposure = rng.normal(0, 0.03)
        film = 0.5 + hospital.contrast * rng.normal(1, 0.06) * (film - 0.5) * (0.9 if ap else 1.0) + exposure
        film = np.clip(film, 0, 1.2) ** (hospital.gamma * np.exp(rng.normal(0, 0.08)))
        film = film + rng.normal(0, hospital.noise * (1.3 if ap else 1.0), film.shape) * (
            1.1 - 0.6 * np.clip(film, 0, 1)
        )
        if hospital.border:
            edge = rng.uniform(0, 0.05, 4)
            film = film * ((self.x > edge[0]) & (self.x < 1 - edge[1]) & (self.y > edge[2]) & (self.y < 1 - edge[3]))
        return np.uint8(np.clip(film, 0, 1) * 255), masks


def boxes(masks, row):
    """Return the box of each thing drawn on one image.

    Parameters
    ----------
    masks : (height, width) uint16
        As `Painter.draw` returns it.
    row : Mapping
        The image's row of `admissions`.

    Returns
    -------
    list of dict
        `finding, x0_px, y0_px, x1_px, y1_px` (end exclusive), `area_frac` of the image. A finding whose
        mask is empty at this size (hidden behind the heart, smaller than a pixel) has NaN coordinates
        and area 0: it is in the truth and cannot be seen.
    """
    found = []
    for bit, name in enumerate(DRAWN):
        if not row[name]:
            continue
        y, x = np.nonzero(masks & np.uint16(1 << bit))
        box = (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (np.nan,) * 4
        entry = dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), map(float, box), strict=True))
        found.append({"finding": name, **entry, "area_frac": len(x) / masks.size})
    return found
