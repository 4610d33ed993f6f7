"""Reports of simulated radiographs, written by a grammar: what a report mentions, and in what words.

First it is settled what the reporter has in mind: the findings that were drawn, with the omissions and false alarms
that were measured on real report labels (`cxrlib.statistics.noise`). Then it is written down as real reports do it:
sections, hedging, negated lists, comparisons with an earlier image, findings that are not mentioned at all,
devices, an indication that names what is feared, typing errors. Labels of these images then come from labelers that
read these reports, so that their errors arise as in a hospital: some from the reporter, some from the reader of the
report.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlib.cohorts import simulation
from cxrlib.statistics import noise

REPORTED_FINDINGS = ("pneumothorax", "effusion", "cardiomegaly", "airspace_opacity", "atelectasis", "edema")


# Whose measured errors a reporter makes. The last four have none that could be measured on public tables; they borrow
# those of nodule or mass, the mildest of the three: an assumption.
OMISSIONS_MEASURED_AS = {
    "pneumothorax": "pneumothorax",
    "airspace_opacity": "airspace_opacity",
    "effusion": "nodule_or_mass",
    "cardiomegaly": "nodule_or_mass",
    "atelectasis": "nodule_or_mass",
    "edema": "nodule_or_mass",
}


_PRESENT = {
    "pneumothorax": (
        "a {size} {side} apical pneumothorax is seen",
        "{size} {side} pneumothorax",
        "there is a {side} pneumothorax",
    ),
    "effusion": (
        "{size} {side} pleural effusion",
        "blunting of the {side} costophrenic angle from pleural fluid",
        "there is a {side} pleural effusion",
    ),
    "cardiomegaly": ("the heart is enlarged", "cardiomegaly is present", "the cardiac silhouette is mildly enlarged"),
    "airspace_opacity": (
        "{side} airspace opacity",
        "patchy infiltrate in the {side} lung",
        "{side} basilar consolidation",
    ),
    "atelectasis": (
        "{side} basilar atelectasis",
        "linear atelectasis at the {side} base",
        "volume loss with atelectasis on the {side}",
    ),
    "edema": (
        "{size} pulmonary edema",
        "findings of interstitial edema",
        "pulmonary vascular congestion with edema",
    ),
}


NAMES = {
    "pneumothorax": "pneumothorax",
    "effusion": "pleural effusion",
    "cardiomegaly": "cardiomegaly",
    "airspace_opacity": "focal consolidation",
    "atelectasis": "atelectasis",
    "edema": "pulmonary edema",
}


_HEDGED = ("possible {name}", "{name} cannot be excluded", "findings may represent {name}", "questionable {name}")


_FOLLOWED = ("{name} is unchanged", "{name} has increased since the prior", "{name} has decreased", "stable {name}")


_NEGATED = ("no {names}", "no evidence of {names}", "negative for {names}", "without {names}")


NORMAL = (
    "the lungs are clear",
    "heart size is normal",
    "the mediastinum is unremarkable",
    "bony structures are intact",
    "degenerative changes of the spine",
)


DEVICES = {
    "chest_drain": "{side} chest tube in place",
    "central_line": "central venous catheter tip projects over the superior vena cava",
    "endotracheal_tube": "endotracheal tube is in standard position",
    "pacemaker": "pacemaker leads are intact",
}


_INDICATIONS = ("rule out pneumothorax", "shortness of breath", "evaluate for pneumonia", "chest pain", "line check")


@dataclass(frozen=True)
class Style:
    """How often reports do what; fractions in [0, 1], assumed.

    Attributes
    ----------
    hedged : of findings that are there, written as possible; half as often of a finding that is not.
    followed : of findings on follow-up images, written as a comparison.
    denied : of absent findings, denied by name; the others are passed over.
    device : of devices, mentioned.
    typo : of words of more than four letters.
    """

    hedged: float = 0.12
    followed: float = 0.4
    denied: float = 0.35
    device: float = 0.8
    typo: float = 0.01


def in_mind(index, truth, measured, rng, *, scale=1.0, drain_log_odds=2.0, faint_log_odds=3.0):
    """Return what the reporter has in mind: findings with the errors measured on real report labels.

    Parameters
    ----------
    index : pandas.DataFrame
        Images of a simulated cohort: `patient_id`, `<finding>_conspicuity`, `chest_drain`.
    truth : pandas.DataFrame
        A column of 0/1 per finding, in the same order.
    measured : pandas.DataFrame
        `data/label_noise.csv` (notebook 02).
    rng : numpy.random.Generator
    scale : float in [0, 1]
        Of the error rates.
    drain_log_odds, faint_log_odds : float
        Which errors are made within the measured rates (assumed; see `noise.corrupt`).

    Returns
    -------
    pandas.DataFrame
        `FINDINGS`, float32 of 0/1.
    """
    said = {}
    for finding in REPORTED_FINDINGS:
        said[finding] = noise.corrupt(
            truth[finding].to_numpy(float),
            index["patient_id"],
            measured[measured["finding"] == OMISSIONS_MEASURED_AS[finding]],
            rng,
            scale=scale,
            miss_log_odds=-faint_log_odds * index[f"{finding}_conspicuity"],
            false_alarm_log_odds=drain_log_odds * index["chest_drain"] * (finding == "pneumothorax"),
        )
    return pd.DataFrame(said, index=index.index)


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


def _filled(phrase, row, finding, rng):
    """Return a phrase with side and size in words."""
    side = {0: "left", 1: "right"}.get(row.get(f"{finding}_side"), "left")
    size = row.get(f"{finding}_size") or 0.0
    words = {"side": side, "size": "small" if size < 0.4 else "moderate" if size < 0.8 else "large"}
    words["name"] = NAMES.get(finding, finding)
    return phrase.format(**words)


def _sentence(text):
    return text[0].upper() + text[1:] + "."


def _findings(row, said, style, rng):
    """Return sentences on findings: those that are there, doubts, denials; and the phrases for the impression."""
    sentences, concluded = [], []
    present = [f for f in REPORTED_FINDINGS if said[f]]
    absent = [f for f in REPORTED_FINDINGS if not said[f]]
    for finding in present:
        if rng.random() < style.hedged:
            phrase = _pick(rng, _HEDGED)
        elif row["follow_up_number"] > 0 and rng.random() < style.followed:
            phrase = _pick(rng, _FOLLOWED)
        else:
            phrase = _pick(rng, _PRESENT[finding])
        phrase = _filled(phrase, row, finding, rng)
        sentences.append(_sentence(phrase))
        concluded.append(phrase)
    denied = [f for f in absent if rng.random() < style.denied]
    doubted = [f for f in denied if rng.random() < style.hedged / 2]
    sentences += [_sentence(_filled(_pick(rng, _HEDGED), row, f, rng)) for f in doubted]
    names = [NAMES[f] for f in denied if f not in doubted]
    if names:
        joined = " or ".join(names) if len(names) < 3 else ", ".join(names[:-1]) + ", or " + names[-1]
        sentences.append(_sentence(_pick(rng, _NEGATED).format(names=joined)))
    if not present and not doubted:
        sentences.append(_sentence(_pick(rng, NORMAL)))
    return [sentences[k] for k in rng.permutation(len(sentences))], concluded


def _typed(text, rate, rng):
    """Return text with typing errors: two letters swapped, or one left out, inside longer words."""
    words = text.split(" ")
    for k in np.flatnonzero(rng.random(len(words)) < rate):
        word = words[k]
        if len(word) > 4:
            at = int(rng.integers(1, len(word) - 2))
            swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            words[k] = swapped if rng.random() < 0.5 else word[:at] + word[at + 1 :]
    return " ".join(words)


def compose(row, said, rng, style=None):
    """Return the report of one image.

    Parameters
    ----------
    row : Mapping
        The image's row of a simulated cohort.
    said : Mapping of str to 0/1
        What the reporter has in mind, by finding.
    rng : numpy.random.Generator
    style : Style, optional

    Returns
    -------
    str
        Sections INDICATION, COMPARISON, FINDINGS, IMPRESSION.
    """
    style = style or Style()
    sentences, concluded = _findings(row, said, style, rng)
    for device, phrase in DEVICES.items():
        if row.get(device) and rng.random() < style.device:
            sentences.append(_sentence(_filled(phrase, row, device, rng)))
    prior = "Prior radiograph." if row["follow_up_number"] > 0 else "None."
    if concluded:
        impression = " ".join(_sentence(c) for c in concluded[:2])
    else:
        impression = "No acute cardiopulmonary abnormality."
    body = _typed(" ".join(sentences), style.typo, rng)
    return (
        f"INDICATION: {_sentence(_pick(rng, _INDICATIONS))}\nCOMPARISON: {prior}\n"
        f"FINDINGS: {body}\nIMPRESSION: {impression}"
    )


def simulated(index, truth, measured, seed, **options):
    """Return a simulated cohort's reports.

    Parameters
    ----------
    index, truth, measured
        As for `in_mind`, in the same order of images.
    seed : int
    **options
        Further arguments of `in_mind`.

    Returns
    -------
    texts : list of str
    said : pandas.DataFrame
        What the reporter had in mind.
    """
    rng = np.random.default_rng((seed, 7))
    said = in_mind(index, truth, measured, rng, **options)
    rows, minds = index.to_dict("records"), said.to_dict("records")
    return [compose(row, mind, rng) for row, mind in zip(rows, minds, strict=True)], said


def practice(reports_n, seed):
    """Return reports of admissions whose images nobody drew, to teach a labeler this hospital's words.

    The reporter has in mind just what is there: no omissions, no false alarms.
    """
    rng = np.random.default_rng((seed, 9))
    rows = simulation.admissions(simulation.HOSPITALS["internal"], reports_n, rng).to_dict("records")
    for row in rows:  # findings are rare in admissions, and there is nothing to learn from normal reports
        row |= {finding: int(row[finding] or rng.random() < 0.15) for finding in REPORTED_FINDINGS}
    return [compose(row, row, rng) for row in rows]
