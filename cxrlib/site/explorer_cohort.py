"""The simulated cohort of the explorer: images painted again, reports written again, evidence read again.

The simulation is deterministic, so that any clone can repeat it without the packed cohort. What is repeated is
compared with the committed case table, and the explorer is not built where the two differ.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd

from cxrlib.base import vocabulary
from cxrlib.cohorts import simulation, sources
from cxrlib.labelers import rules
from cxrlib.labels import simulated_labels
from cxrlib.releases import google, nih
from cxrlib.reports import simulated_reports
from cxrlib.site import explorer_files
from cxrlib.statistics import noise
from cxrlib.studies import case_tables

_REPORT_LABELS = "rules"  # the label set that was read in the reports that are shown
_ATTRIBUTES = ("view", "sex", "age", "follow_up_number")


@dataclass(frozen=True)
class Repeated:
    """The simulated test images, painted and reported again.

    Attributes
    ----------
    index : pandas.DataFrame
        A row an image: `image_id, patient_id`, what was drawn and how conspicuously.
    images : (n, size_px, size_px) uint8
    boxes : list of list of dict
        Of each image, as `simulation.boxes` returns them.
    texts : list of str
        Its report.
    readings : list of rules.Reading
        What the rule labeler reads in it.
    """

    index: pd.DataFrame
    images: np.ndarray
    boxes: list
    texts: list
    readings: list


def measured_noise():
    """Return how report labels err, from released tables: the content of `data/label_noise.csv` (notebook 02)."""
    truth = google.read_google_four("test")
    reported = nih.read_nih_entries().set_index("image_id").loc[truth["image_id"]].reset_index()
    parts = []
    for finding in ("pneumothorax", "airspace_opacity", "nodule_or_mass"):
        if finding not in reported:
            reported[finding] = reported[list(vocabulary.ANY_OF[finding])].max(axis=1)
        table = noise.calibrate(truth[finding], reported[finding], truth["patient_id"].to_numpy())
        parts.append(table.assign(finding=finding))
    return pd.concat(parts, ignore_index=True)


def repeat_cohort(settings, cohort, image_ids):
    """Return some images of a simulated cohort, with the reports that its label set `rules` was read in.

    Parameters
    ----------
    settings : Mapping
        Of the edition, as `params.yaml`.
    cohort : str
    image_ids : sequence of str
        In the order wanted.

    Raises
    ------
    ValueError
        If the simulation has no such image.
    """
    how = {key: value for key, value in settings["cohorts"][cohort].items() if key != "source"}
    source = sources.simulated(size_px=settings["size_px"], **how)
    at = pd.Index(source.table["image_id"]).get_indexer(image_ids)
    if (at < 0).any():
        raise ValueError(f"The simulation has no image {image_ids[int(np.argmin(at))]!r} of cohort {cohort!r}.")
    label_sets = settings["label_sets"][cohort]
    asked = label_sets[_REPORT_LABELS]
    panel = {k: v for k, v in label_sets[asked["reference"]].items() if k != "kind"}
    whole = SimpleNamespace(index=source.table, labels=source.labels)
    truth, _ = simulated_labels.simulated_panel(whole, **panel)
    texts, _ = simulated_reports.simulated(
        source.table.reset_index(drop=True), truth.reset_index(drop=True), measured_noise(), asked["seed"]
    )
    reader = rules.RuleLabeler()
    painter = simulation.Painter(simulation.HOSPITALS[how["hospital"]], settings["size_px"], how["seed"])
    images, boxes, rows = [], [], source.table.to_dict("records")
    for i in at:
        image, masks = painter.draw(rows[i], i)
        images.append(image)
        boxes.append(simulation.boxes(masks, rows[i]))
    return Repeated(
        source.table.iloc[at].reset_index(drop=True),
        np.stack(images),
        boxes,
        [texts[i] for i in at],
        [reader.read(texts[i]) for i in at],
    )


def check_repeated(repeated, cases, where):
    """Raise a ValueError unless what was repeated is what the case table is of.

    Parameters
    ----------
    repeated : Repeated
    cases : pandas.DataFrame
        The case table's rows of the same images, in the same order.
    where : str
        The case table's file, for the message.
    """
    # `airspace_opacity` of a report is put together from four findings, so that the others are compared.
    for finding in simulated_reports.REPORTED_FINDINGS:
        drawn = cases[case_tables.label("drawn", finding)].to_numpy()
        same = np.array_equal(drawn, repeated.index[finding].to_numpy())
        if finding != "airspace_opacity":
            read = np.array([reading.labels[finding] for reading in repeated.readings])
            written = cases[case_tables.label(_REPORT_LABELS, finding)].to_numpy()
            same &= np.array_equal(np.nan_to_num(read), written)
        if not same:
            raise ValueError(
                f"{where} is of another simulation than this code ({finding} differs): "
                "run `make repro EDITION=quick` first."
            )


def cohort_data(repeated, settings, cohort):
    """Return what the page shows of each image apart from labels and probabilities: attributes, report, boxes.

    Returns
    -------
    dict
        `image_ids, patients` (a number each), attributes, `devices`, `reports` (text), `evidence` (a list an image:
        start, end, finding, assertion, rule, and the rule's start and end), `boxes` (finding, x0, y0, x1, y1 in
        pixels), `conspicuity` by finding in hundredths.
    """
    index = repeated.index
    evidence = [
        [[m.start, m.end, m.finding, m.assertion, m.rule, m.rule_start, m.rule_end] for m in reading.evidence]
        for reading in repeated.readings
    ]
    boxes = [
        [[b["finding"], b["x0_px"], b["y0_px"], b["x1_px"], b["y1_px"]] for b in each if b["area_frac"] > 0]
        for each in repeated.boxes
    ]
    return {
        "image_ids": index["image_id"].tolist(),
        "patients": explorer_files.packed(pd.factorize(index["patient_id"])[0], "u2"),
        **{name: index[name].tolist() for name in _ATTRIBUTES},
        "devices": [[d for d in simulation.DEVICES if row[d]] for row in index.to_dict("records")],
        "reports": repeated.texts,
        "evidence": evidence,
        "boxes": boxes,
        "size_px": settings["size_px"],
        "images_n": len(index),
        "patients_n": int(index["patient_id"].nunique()),
        "cohort": cohort,
    }
