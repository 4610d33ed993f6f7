"""Draw where in a radiograph a network finds its evidence.

cxr explain --example --out maps/
cxr explain chest.png --run results/quick/runs/pneumothorax_radiologist/test_resnet-1 --out maps/
cxr explain chest.png --run RUN --finding pneumothorax --box 280,300,180,420 --out boxed/

It writes an overlay for each image and finding, and `explained.csv`. Without --run it uses a released model
(models/), which learned from simulated images.
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split

from cxrlib.base import figures, tables
from cxrlib.cohorts import image_files
from cxrlib.commands import released
from cxrlib.networks import localization, map_layers, overlays, saliency, trained_runs, training

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEM_BYTES = 100  # of an image's name in its overlay's name: file systems allow 143 to 255 for the whole


_EDGE_PX = 1e-6  # by which a box may leave its frame: rounding


@dataclass(frozen=True)
class FittedImage:
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
        """Width and height of the image inside the square, as `image_files.fit` rounds them."""
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


def read_fitted(path, size_px):
    """Return an image file as a `FittedImage`.

    Raises
    ------
    image_files.UnreadableImageError
        With the reason, if it cannot be used.
    """
    content = image_files.read_bytes(path)
    if not image_files.is_image(path):
        raise image_files.UnreadableImageError("its ending is none of PNG, JPEG and DICOM files")
    image = image_files.decode(content, path.suffix)
    fitted = image_files.fit(image, size_px)
    shown = image.copy()
    shown.thumbnail((overlays.SHOWN_PX, overlays.SHOWN_PX), Image.Resampling.BILINEAR)
    return FittedImage(path, image.size, *fitted, np.asarray(shown))


# What `explained.csv` holds, a row for each image and finding.
EXPLAINED_COLUMNS = {
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
    row = {"image": tables.as_text(picture.path), "run": tables.as_text(run.folder), "finding": finding}
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
        stem = tables.as_text(picture.path.stem).encode()[:_STEM_BYTES].decode(errors="ignore")
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
        name = tables.as_text(path.name)
        name = name if len(name) <= 60 else f"{name[:30]}...{name[-27:]}"
        titles.append(f"{tables.as_text(path.parent.name)}/{name}" if stems.count(path.stem) > 1 else name)
    return titles


def _draw(path, picture, map_, boxes, title):
    """Write an overlay and return its name; if it cannot be written, say so and return no name."""
    fig, axis = figures.figure(width=7, height=7.4)
    overlays.overlay(axis, picture.shown, map_, boxes, opacity=0.45, place=picture.place)
    axis.set_title(title, fontsize=9, parse_math=False)
    try:
        fig.savefig(path, metadata={"Software": None})
    except OSError as error:
        print(
            f"{tables.as_text(path)} cannot be written ({error.strerror or error}): the rest goes on.",
            file=sys.stderr,
        )
        return ""
    finally:
        plt.close(fig)
    return path.name


def make_explained_folder(out, force):
    """Make the folder that `explain` writes into, or raise an OSError if it has an `explained.csv` to be kept."""
    tables.make_folder(out)
    if not force and (out / "explained.csv").exists():
        raise FileExistsError(
            f"{tables.as_text(out)} already has an explained.csv: give another --out, or --force to replace it."
        )


def _asked(run, findings, method, layer):
    """Return the findings, each once, and the layer to read, or None; raise ValueError if the run has none such."""
    for finding in findings or ():
        if finding not in run.findings:
            raise ValueError(f"The run has no finding {finding!r}; it has {', '.join(run.findings)}.")
    findings = list(dict.fromkeys(findings or run.findings))
    if saliency.SALIENCY_METHODS[method].reads_layer:
        return findings, map_layers.find_layer(run.network, run.size_px, layer)
    if layer is not None:
        reading = " or ".join(name for name, one in saliency.SALIENCY_METHODS.items() if one.reads_layer)
        raise ValueError(f"{method} reads no layer: leave out --layer, or take --method {reading}.")
    map_layers.probe(run.network, run.size_px, [])  # it takes images of this size
    return findings, None


def explain(run, pictures, out, *, findings=None, method="grad_cam", layer=None, boxes=(), frame=1024, force=False):
    """Write overlays and `explained.csv` of pictures, and return the table.

    Parameters
    ----------
    run : Run
    pictures : sequence of FittedImage
    out : Path
        A folder; made if need be.
    findings : sequence of str, optional
        Of the run; all if not given.
    method, layer
        As in `saliency.maps`.
    boxes : sequence of (x, y, width, height)
        Of a radiologist, in a frame of `frame` px a side of each source image, whatever its size and shape.
    frame : int
    force : bool
        Replace an `explained.csv`, and overlays of the same names.

    Returns
    -------
    pandas.DataFrame
        `EXPLAINED_COLUMNS`. An overlay that cannot be written is said on stderr, and the rest goes on.

    Raises
    ------
    ValueError
        If the run has no such finding, or the network no such layer.
    OSError
        If the folder cannot be made, has a table already, or the table cannot be written.
    """
    findings, read_from = _asked(run, findings, method, layer)
    make_explained_folder(out, force)
    squares = np.stack([picture.square for picture in pictures])
    probability = training.predict(run.network, SimpleNamespace(images=squares), np.arange(len(squares)))
    placed = [[picture.packed_box(*box, frame) for box in boxes] for picture in pictures]
    rows, names, titles = [], _names(pictures), _titles(pictures)
    try:
        for finding in findings:
            k = run.findings.index(finding)
            found = saliency.maps(run.network, squares, k, method, read_from)
            for n, picture in enumerate(pictures):
                row = _row(run, picture, finding, probability[n, k], method, read_from, found[n], placed[n])
                rows.append(row)
                title = f"{titles[n]}\n{finding} {probability[n, k]:.3f}, {method}{_remark(row)}"
                path = out / f"{names[n]}-{finding}-{method}.png"
                row["overlay"] = _draw(path, picture, found[n], placed[n], title)
    finally:  # whatever happens, what is done is written
        if rows:
            tables.write_csv(pd.DataFrame(rows), out / "explained.csv")
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
    about, _, examples = __doc__.partition("\n\n")
    lines = [
        textwrap.fill(f"{name}: {what}", 100, subsequent_indent="    ") for name, what in EXPLAINED_COLUMNS.items()
    ]
    parser = argparse.ArgumentParser(
        prog="cxr explain",
        description=about,
        epilog="\n".join([examples, "Columns of explained.csv:", "", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", type=Path, nargs="*", help="PNG, JPEG or DICOM")
    add("--example", action="store_true", help="draw a simulated radiograph, example.png in --out, and explain that")
    network = parser.add_mutually_exclusive_group()
    about_run = (
        "folder of a run: results/EDITION/runs/TARGET/NETWORK-SEED; if there is none, its released copy is used"
    )
    network.add_argument("--run", type=Path, help=about_run)
    about_model = "a released model (`cxr fetch models --list`); the first one if neither this nor --run is given"
    network.add_argument("--model", metavar="NAME", help=about_model)
    add("--finding", action="append", help="may be repeated; all of the run by default")
    add("--method", choices=saliency.SALIENCY_METHODS, default="grad_cam", help="grad_cam by default")
    add("--layer", help="a layer of the network by name; found by itself if not given; none with occlusion")
    about_box = "x,y,width,height in a frame of --box-frame px a side that is laid over the source image, whatever "
    about_box += "its size or shape; compared with every map; may be repeated; with one image only"
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
        if max(box[0] + box[2], box[1] + box[3]) > chosen.box_frame + _EDGE_PX:
            text = ",".join(f"{v:g}" for v in box)
            sys.exit(f"Box {text} leaves its frame of {chosen.box_frame} px: give --box-frame, or correct the box.")


def _read_all(files, size_px):
    """Return the pictures among files; what cannot be read is said on stderr."""
    pictures = []
    for path in files:
        try:
            pictures.append(read_fitted(path, size_px))
        except image_files.UnreadableImageError as error:
            print(f"{tables.as_text(path)} is left out: {error}.", file=sys.stderr)
    return pictures


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run the command line; return the exit status."""
    chosen = _parser().parse_args(arguments)
    if chosen.example and (chosen.image or chosen.box):
        sys.exit("--example brings its own image and box: leave the others out.")
    if not (chosen.example or chosen.image):
        sys.exit("No image is given: name one, or --example to have a simulated one drawn.")
    _check_boxes(chosen)
    try:
        run = trained_runs.open_run(released.image_network(chosen.run, chosen.model), chosen.size_px)
        make_explained_folder(chosen.out, chosen.force)
        if chosen.example:
            path, box, chosen.box_frame = released.draw_example(chosen.out)
            chosen.image, chosen.box = [path], [box]
            print(f"{tables.as_text(path)} is a simulated radiograph with a pneumothorax; the box shows where.")
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
    print(f"overlays and table: {tables.as_text(chosen.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
