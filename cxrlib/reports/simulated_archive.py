"""A simulated hospital's export, with the faults of real ones and a key that says what belongs together.

The headers are real DICOM, written by pydicom; the pixels are those of a packed cohort; the reports are those that it
is given. How often real archives have each fault is not published, so the shares are assumptions, and what is
measured on such an archive is how well the rules cope with each fault, not how well they will do in a hospital.
"""

import csv
import functools
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from cxrlib.statistics import intervals, resampling

LAYOUTS = ("files", "table")


_GAPS_DAYS = (0, 1, 2, 3, 7, 30, 120)  # between exams of a patient; 0 is a second exam of the day


_GAPS_FRAC = (0.1, 0.2, 0.1, 0.1, 0.15, 0.2, 0.15)


_NAMING = (
    "This is best seen on the lateral view.",
    "See image 2.",
    "Series 1, image 2 shows this best.",
    "On the {view} view the apices are not included.",
    "The {view} radiograph is slightly rotated.",
)


_OF_PRIOR = (
    "Compared with the radiograph of {date}.",
    "Compared with the {view} view of {date}.",
    "Compared with prior study {accession}.",
    "Image 1 of the prior study {accession} was reviewed.",
)


@dataclass(frozen=True)
class ArchiveFaults:
    """How often what goes wrong in a simulated archive; shares in [0, 1], assumed.

    Attributes
    ----------
    no_accession : of reports, without an accession number.
    other_patient : of reports, with the accession number of another patient's exam.
    reformatted : of reports, with the accession number in another form: letters, zeros or hyphens added or left out.
    mistyped : of reports, with an accession number that no exam has. These four exclude each other.
    date_off : of reports, with a date that is off by one day, whatever else is wrong with them.
    no_image : of exams, reported but without images.
    no_report : of exams, with images but not reported. These two exclude each other.
    lateral : of exams, with a second image, a lateral view (a copy of the first, turned; no cohort has it).
    naming : of reports of two images, with a sentence that names one of them.
    prior : of reports of follow-up exams, with a sentence that names an earlier exam.
    addendum : of reports, with an addendum in a file of its own.
    """

    no_accession: float = 0.05
    other_patient: float = 0.02
    reformatted: float = 0.1
    mistyped: float = 0.02
    date_off: float = 0.03
    no_image: float = 0.04
    no_report: float = 0.04
    lateral: float = 0.25
    naming: float = 0.6
    prior: float = 0.5
    addendum: float = 0.05


class ArchiveKey(NamedTuple):
    """What is true of a simulated archive.

    Attributes
    ----------
    images : pandas.DataFrame
        A row per DICOM file: `sop_uid, file, image_id` (of the cohort; of a lateral view with `_lateral`),
        `patient_id, exam, report_id` (missing where the exam was not reported), `named_in` (sentences that name it).
    reports : pandas.DataFrame
        A row per report, addenda apart: `report_id, patient_id, exam, accession` (the exam's), `number_fault` (one
        of `no_accession, other_patient, reformatted, mistyped, none`), `date_off`, `has_image`, `addendum`,
        `prior_exam`.
    """

    images: pd.DataFrame
    reports: pd.DataFrame


def write_simulated_archive(store, texts, folder, seed, faults=None, layout="files"):
    """Write a simulated export of a cohort, and return its key.

    Parameters
    ----------
    store : cohorts.Store
        Whose `index` and `images` are exported: an exam an image, in the order of `follow_up_number`.
    texts : sequence of str
        The report of each image, in the store's order.
    folder : Path
        It is made, and must be empty.
    seed : int
    faults : ArchiveFaults or Mapping, optional
    layout : {"files", "table"}
        `files`: a text file a report with a header, images as .dcm by patient. `table`: one CSV of reports with
        columns in camel case, images without ending in nested folders.

    Returns
    -------
    ArchiveKey

    Raises
    ------
    ValueError
        If a fault or layout is unknown, a share is none, or the folder holds files.
    """
    faults = faults if isinstance(faults, ArchiveFaults) else _faults(faults or {})
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r} is none of {', '.join(LAYOUTS)}.")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds files: name a folder that is empty or not there.")
    if len(texts) != len(store.index):
        raise ValueError(f"There are {len(texts)} reports for {len(store.index)} images: give one an image.")
    rng = np.random.default_rng((seed, 15))
    exams = _exams(store.index, faults, rng)
    images = _write_images(store, exams, folder, seed, layout)
    reports, named = _write_reports(exams, texts, faults, folder, layout, rng)
    images["named_in"] = [
        named.get((exam, number), "") for exam, number in zip(images["exam"], images["number"], strict=True)
    ]
    return ArchiveKey(images.drop(columns="number"), reports)


def cohort_ids(images, key):
    """Return the cohort's id of each image of an archive, missing for lateral views, which no cohort has.

    Parameters
    ----------
    images : pandas.DataFrame
        As `archive.Archive` has them.
    key : ArchiveKey

    Returns
    -------
    pandas.Series of str
    """
    ids = images["image_id"].map(key.images.set_index("sop_uid")["image_id"]).astype("str")
    return ids.where(~ids.str.endswith("_lateral"))


def _judged(links, images, reports, key):
    """Return a row per pair with its rule, patient, report, and whether it is right."""
    truth = key.images.set_index("sop_uid").loc[images.loc[links["image"], "image_id"]]
    report = reports.loc[links["report"], "report_id"].to_numpy()
    right = (truth["report_id"].to_numpy() == report).astype(float)
    return pd.DataFrame(
        {
            "rule": links["rule"].to_numpy(),
            "patient_id": truth["patient_id"].to_numpy(),
            "report_id": report,
            "right": right,
        }
    )


def precision_by_rule(matched, archive, key, resamples_n=1000, seed=1):
    """Return how many pairs of each rule are right, by the key of a simulated archive.

    Parameters
    ----------
    matched : matching.Matched
    archive : archive.Archive
    key : ArchiveKey
    resamples_n, seed : int
        Of patients, for the interval.

    Returns
    -------
    pandas.DataFrame
        `rule, pairs_n, wrong_n, precision, low, high, recall`, a row per rule that made pairs, and `all`. `recall` is
        the share of all images with a report in the archive that the rule pairs rightly.
    """
    pairs = _judged(matched.links, archive.images, archive.reports, key)
    possible_n = int(key.images["report_id"].notna().sum())
    rows = []
    for rule in (*pairs["rule"].drop_duplicates(), "all"):
        of = pairs if rule == "all" else pairs[pairs["rule"] == rule]
        resamples = resampling.patient_resamples(of["patient_id"], resamples_n, np.random.default_rng(seed))
        estimate, low, high, _ = intervals.mean(of["right"].to_numpy(), resamples)
        counts = {"pairs_n": len(of), "wrong_n": int((1 - of["right"]).sum())}
        rows.append({"rule": rule, **counts, "precision": estimate, "low": low, "high": high})
        rows[-1]["recall"] = of["right"].sum() / possible_n
    order = {name: k for k, name in enumerate((*matched.rules["rule"], "all"))}
    return pd.DataFrame(rows).sort_values("rule", key=lambda rules: rules.map(order), ignore_index=True)


def recall_by_fault(matched, archive, key, resamples_n=1000, seed=1):
    """Return which share of the images that have a report got it, by what is wrong with the report.

    Parameters
    ----------
    matched, archive, key, resamples_n, seed
        As for `precision_by_rule`.

    Returns
    -------
    pandas.DataFrame
        `number_fault, date_off, images_n, wrong_n, unmatched_n, recall, low, high`.
    """
    pairs = _judged(matched.links, archive.images, archive.reports, key)
    pairs["sop_uid"] = archive.images.loc[matched.links["image"], "image_id"].to_numpy()
    images = key.images.dropna(subset="report_id").merge(key.reports[["report_id", "number_fault", "date_off"]])
    images["right"] = images["sop_uid"].map(pairs.set_index("sop_uid")["right"])
    rows = []
    for (fault, off), of in images.groupby(["number_fault", "date_off"]):
        resamples = resampling.patient_resamples(of["patient_id"], resamples_n, np.random.default_rng(seed))
        estimate, low, high, _ = intervals.mean(of["right"].fillna(0).to_numpy(), resamples)
        counts = {
            "images_n": len(of),
            "wrong_n": int((of["right"] == 0).sum()),
            "unmatched_n": int(of["right"].isna().sum()),
        }
        rows.append({"number_fault": fault, "date_off": off, **counts, "recall": estimate, "low": low, "high": high})
    return pd.DataFrame(rows)


def _faults(shares):
    known = [field.name for field in fields(ArchiveFaults)]
    unknown = sorted(set(shares) - set(known))
    if unknown:
        raise ValueError(f"faults: {unknown[0]!r} is none of {', '.join(known)}.")
    made = ArchiveFaults(**shares)
    wrong = [name for name, share in asdict(made).items() if not 0 <= share <= 1]
    exclusive = made.no_accession + made.other_patient + made.reformatted + made.mistyped
    if wrong or exclusive > 1 or made.no_image + made.no_report > 1:
        raise ValueError(f"faults: {wrong[0] if wrong else 'those that exclude each other'} must be within 0 and 1.")
    return made


def _exams(index, faults, rng):
    """Return a row per exam: its date, its numbers, and which faults befall it."""
    exams = index[["image_id", "patient_id", "follow_up_number", "view"]].reset_index(drop=True)
    n = len(exams)
    exams = exams.assign(at=np.arange(n)).sort_values(["patient_id", "follow_up_number"], kind="stable")
    gap = rng.choice(_GAPS_DAYS, n, p=_GAPS_FRAC)
    first = (~exams["patient_id"].duplicated()).to_numpy()
    gap[first] = 0
    start = np.datetime64("2012-01-01") + rng.integers(0, 1500, n)
    since = pd.Series(gap).groupby(np.cumsum(first)).cumsum().to_numpy()
    exams["date"] = pd.Series(start[first][np.cumsum(first) - 1] + since.astype("timedelta64[D]"), exams.index)
    exams["accession"] = [f"A{number:07d}" for number in rng.permutation(9 * n)[:n] + 1_000]
    exams["prior"] = exams.groupby("patient_id")["at"].shift(1).astype("Int64")
    drawn = rng.random(n)
    exams["has_image"] = ~(drawn < faults.no_image)
    exams["has_report"] = ~((drawn >= faults.no_image) & (drawn < faults.no_image + faults.no_report))
    exams["lateral"] = rng.random(n) < faults.lateral
    names = ("no_accession", "other_patient", "reformatted", "mistyped")
    shares = [getattr(faults, name) for name in names]
    exams["number_fault"] = rng.choice([*names, "none"], n, p=[*shares, 1 - sum(shares)])
    exams["date_off"] = np.where(rng.random(n) < faults.date_off, rng.choice((-1, 1), n), 0)
    for name in ("naming", "prior", "addendum"):
        exams[f"says_{name}"] = rng.random(n) < getattr(faults, name)
    return exams.sort_values("at").set_index("at")


# --- images ---------------------------------------------------------------------------------------------------------


# What stands for an image's own values in a header that pydicom has encoded; each is as long as what replaces it.
_PLACES = {
    "sop": generate_uid(entropy_srcs=["place", "sop"]),
    "study": generate_uid(entropy_srcs=["place", "study"]),
    "series": generate_uid(entropy_srcs=["place", "series"]),
    "date": "19010203",
    "time": "235901",
    "accession": "ZZZZZZZ9",
}


@functools.cache
def _template(view, number, side, patient_id_n):
    """Return an image file up to its pixels, with `_PLACES` for what differs: encoded by pydicom, once for many."""
    dataset, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = _PLACES["sop"]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["cxrlib", "simulated archive"])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _PLACES["study"], _PLACES["series"]
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = (
        _PLACES[k] for k in ("date", "time", "accession")
    )
    dataset.PatientName, dataset.PatientID = "SIMULATED", "Q" * patient_id_n
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "DX", 1, number
    dataset.ViewPosition, dataset.SeriesDescription = view, "CHEST LATERAL" if number == 2 else f"CHEST {view}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = side
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.file_meta, dataset.PixelData = meta, bytes(side * side)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()[: -(side * side + side % 2)]


def _write_images(store, exams, folder, seed, layout):
    """Write the images of exams that have any; return a row each."""
    side, rows = store.images.shape[1], []
    for exam in exams[exams["has_image"]].itertuples():
        study, series = (
            generate_uid(entropy_srcs=[str(seed), str(exam.Index), what]) for what in ("study", "series")
        )
        for number in (1, 2) if exam.lateral else (1,):
            uid = generate_uid(entropy_srcs=[str(seed), str(exam.Index), str(number)])
            own = {
                _PLACES["sop"]: uid,
                _PLACES["study"]: study,
                _PLACES["series"]: series,
                _PLACES["date"]: f"{exam.date:%Y%m%d}",
                _PLACES["time"]: f"{8 + exam.Index % 10:02d}{exam.Index % 60:02d}00",
                _PLACES["accession"]: exam.accession,
                "Q" * len(exam.patient_id): exam.patient_id,
            }
            header = _template("LL" if number == 2 else exam.view, number, side, len(exam.patient_id))
            for place, value in own.items():
                header = header.replace(place.encode(), value.encode())
            pixels = store.images[exam.Index]
            pixels = np.ascontiguousarray(pixels if number == 1 else pixels[:, ::-1])
            name = f"{exam.Index // 500:03d}/{exam.Index % 500:03d}/IM{number:06d}"
            if layout == "files":
                name = f"images/{exam.patient_id}/{exam.accession}_{number}.dcm"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(header + pixels.tobytes() + bytes(side % 2))
            image_id = exam.image_id if number == 1 else f"{exam.image_id}_lateral"
            report_id = f"R{exam.Index:06d}" if exam.has_report else None
            rows.append((uid, name, image_id, exam.patient_id, exam.Index, report_id, number))
    columns = ["sop_uid", "file", "image_id", "patient_id", "exam", "report_id", "number"]
    return pd.DataFrame(rows, columns=columns)


# --- reports --------------------------------------------------------------------------------------------------------


def _write_reports(exams, texts, faults, folder, layout, rng):
    """Write the reports of exams that have one; return a row each, and which sentence names which image."""
    written, rows, named = [], [], {}
    for exam in exams[exams["has_report"]].itertuples():
        report_id = f"R{exam.Index:06d}"
        text, said = _told(exam, texts[exam.Index], exams, rng)
        for number, sentence in said.items():
            named[exam.Index, number] = sentence
        number = _typed_number(exam, exams, rng)
        date = exam.date + np.timedelta64(int(exam.date_off), "D")
        written.append((report_id, number, exam.patient_id, date, "", text))
        if exam.says_addendum:
            extra = "Comparison with the clinical record adds nothing to the above."
            written.append((f"{report_id}A", number, exam.patient_id, date, "1", extra))
        rows.append(
            {
                "report_id": report_id,
                "patient_id": exam.patient_id,
                "exam": exam.Index,
                "accession": exam.accession,
                "number_fault": exam.number_fault,
                "date_off": exam.date_off != 0,
                "has_image": exam.has_image,
                "addendum": bool(exam.says_addendum),
                "prior_exam": exam.prior if exam.says_prior else pd.NA,
            }
        )
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    if layout == "table":
        table = io.StringIO()
        rows_out = csv.writer(table)
        rows_out.writerow(["ReportID", "AccessionNumber", "PatientID", "StudyDate", "Addendum", "ReportText"])
        for report_id, number, patient, date, addendum, text in written:
            rows_out.writerow([report_id, number, patient, f"{date:%Y-%m-%d}", addendum or "0", text])
        (folder / "reports" / "reports.csv").write_text(table.getvalue())
    else:
        for report_id, number, patient, date, addendum, text in written:
            head = [f"Report ID: {report_id}", f"Patient ID: {patient}", f"Exam date: {_in_words(date)}"]
            head += [f"Accession: {number}"] * bool(number) + [""] + ["ADDENDUM"] * bool(addendum)
            (folder / "reports" / f"{report_id}.txt").write_text("\n".join([*head, text, ""]))
    return pd.DataFrame(rows), named


def _in_words(date):
    return f"{date.day} {date:%B %Y}"


def _told(exam, text, exams, rng):
    """Return a report with its sentences on images and earlier exams, and which sentence names which image."""
    findings, impression = text.rsplit("\nIMPRESSION:", 1) if "\nIMPRESSION:" in text else (text, None)
    said = {}
    if exam.says_prior and not pd.isna(exam.prior):
        prior = exams.loc[exam.prior]
        sentence = _OF_PRIOR[rng.integers(len(_OF_PRIOR))]
        findings += " " + sentence.format(
            date=_in_words(prior["date"]), accession=prior["accession"], view=prior["view"]
        )
    if exam.says_naming and exam.lateral and exam.has_image:
        sentence = _NAMING[rng.integers(len(_NAMING))].format(view=exam.view)
        findings += " " + sentence
        said[1 if exam.view in sentence.split() else 2] = sentence
    return (findings if impression is None else f"{findings}\nIMPRESSION:{impression}"), said


def _typed_number(exam, exams, rng):
    """Return the accession number as the report has it."""
    if exam.number_fault == "no_accession":
        return ""
    if exam.number_fault == "reformatted":
        digits = exam.accession[1:]
        return (digits, digits.lstrip("0"), f"A-{digits}", f"ACC {digits.lstrip('0')}", f"a{digits}")[rng.integers(5)]
    if exam.number_fault == "mistyped":
        return f"A{9_000_000 + exam.Index:07d}"
    if exam.number_fault == "other_patient":
        others = exams["accession"][exams["patient_id"] != exam.patient_id]
        return others.iloc[rng.integers(len(others))] if len(others) else exam.accession
    return exam.accession
