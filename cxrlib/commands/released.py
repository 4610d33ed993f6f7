"""Which released model a command uses where no network of the user's own is named, and an image to try it on."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from cxrlib.base import tables
from cxrlib.cohorts import simulation
from cxrlib.releases import released_models

EXAMPLE_FILE = "example.png"
_EXAMPLE_SEED, _EXAMPLE_PX = 2019, 64  # another seed than any cohort's; the size that the released networks take


def run_name(folder):
    """Return the key of the run that a folder's path names (`.../TARGET/NETWORK-SEED`), and its edition or None."""
    edition = folder.parts[-4] if folder.parts[-3:-2] == ("runs",) and len(folder.parts) > 3 else None
    return f"{folder.parent.name}-{folder.name}", edition


def image_network(run=None, model=None):
    """Return the folder of the image network to use, saying so on stderr if it is a released one.

    Parameters
    ----------
    run : Path, optional
        A run's folder; the released copy of the run stands in where there is no such folder.
    model : str, optional
        A released model by name; without `run` and `model` the first that is released.

    Raises
    ------
    FileNotFoundError, ValueError
        As of `released_models.find_model`.
    """
    if run is not None:
        name, edition = run_name(run.absolute())
        if run.exists() or not released_models.is_released(name):
            return run
        if edition != released_models.read_models()[name].about["edition"]:
            return run
        model = name
    found = released_models.find_model(model, released_models.IMAGE_NETWORK)
    say_released(found)
    return found.folder


def say_released(model):
    """Say on stderr which released model is used, and that it is not for patients."""
    print(tables.as_text(model.said), file=sys.stderr)


def draw_example(folder):
    """Write `example.png` into a folder: a simulated radiograph with a conspicuous pneumothorax and no drain.

    It is the first such image of a simulated hospital whose patients no network was trained on.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    path : Path
    box : (x, y, width, height) float
        Of the pneumothorax, in pixels of the image.
    size_px : int
        Side of the image.
    """
    hospital = simulation.HOSPITALS["internal"]
    people = simulation.admissions(hospital, 200, np.random.default_rng(_EXAMPLE_SEED))
    clear = people["pneumothorax_size"].ge(0.15) & people["pneumothorax_conspicuity"].ge(0.7)
    index = int(people.index[clear & people["chest_drain"].eq(0)][0])
    row = people.loc[index]
    image, masks = simulation.Painter(hospital, _EXAMPLE_PX, _EXAMPLE_SEED).draw(row, index)
    box = next(box for box in simulation.boxes(masks, row) if box["finding"] == "pneumothorax")
    path = Path(folder) / EXAMPLE_FILE
    Image.fromarray(image).save(path)
    x0, y0, x1, y1 = (box[name] for name in ("x0_px", "y0_px", "x1_px", "y1_px"))
    return path, (x0, y0, x1 - x0, y1 - y0), _EXAMPLE_PX
