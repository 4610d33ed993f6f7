"""Radiology reports from the releases that have them, each with the images that it is of.

`read(settings)` returns one row per report and image; `source` names a function of `SOURCES`, the rest are its
arguments. `of_images(reports, image_ids)` returns the reports of a cohort's images and says which images have none.
What is read of a report is its `sections`: by default the impression, where there is none the findings, where there
is neither the last paragraph (the owner's rule for the labels of MIMIC-CXR-JPG); with `both`, findings and
impression.
"""

import re
from typing import NamedTuple

import pandas as pd

from cxrlib.base import paths, tables, xml_files
from cxrlib.releases import openi_reports

LINKED_COLUMNS = ("report_id", "image_id", "patient_id", "text")


_SECTIONS = ("impression", "both")


_NAMED_N = 5  # how many ids a note names before it only counts


_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z /,&()-]{2,}?)[ \t]*:", re.M)


_CHEXPERT = re.compile(r"(?:^|/)(train|valid|val|test)/(patient\d+/study\d+(?:/[^/]+?)?)(?:\.\w+)?$")


class OfImages(NamedTuple):
    """The reports of a cohort's images.

    Attributes
    ----------
    table : pandas.DataFrame
        `report_id, image_id, patient_id, text`, a row per image that has a report with text; the cohort's ids.
    without_report : list of str
        Images of the cohort that have none.
    without_image : list of str
        Reports that are of no image of the cohort.
    """

    table: pd.DataFrame
    without_report: list
    without_image: list

    def notes(self):
        """Return what does not match, with its number, a sentence each."""
        said = []
        if self.without_report:
            said.append(f"{len(self.without_report)} images have no report with text: {_some(self.without_report)}.")
        if self.without_image:
            said.append(
                f"{len(self.without_image)} reports are of no image of the cohort: {_some(self.without_image)}."
            )
        return said


def _some(ids):
    return ", ".join(ids[:_NAMED_N]) + (", ..." if len(ids) > _NAMED_N else "")


def image_key(image_ids):
    """Return what identifies an image whatever folder a release calls it by.

    CheXpert's files name one image as `CheXpert-v1.0/train/...jpg`, `CheXpert-v1.0-small/train/...jpg` or
    `train/...jpg`, CheXpert Plus also as `.png`; validation images lie in `valid` or `val`. Other ids stay as they
    are.

    Parameters
    ----------
    image_ids : pandas.Series of str
    """

    def key(image_id):
        found = _CHEXPERT.search(image_id)
        return f"{found[1].replace('valid', 'val')}/{found[2]}" if found else image_id

    return image_ids.astype("string").map(key, na_action="ignore").astype("string")


def sections(report):
    """Return the findings and the impression of a report with headings, and its last paragraph.

    Parameters
    ----------
    report : str
        Headings are capitals at the start of a line, ended by a colon.

    Returns
    -------
    dict of str
        `findings, impression, last`; empty where the report has none. `CONCLUSION` is an impression.
    """
    found = {"findings": [], "impression": []}
    heads = list(_HEADING.finditer(report))
    for k, head in enumerate(heads):
        end = heads[k + 1].start() if k + 1 < len(heads) else None
        names = {"FINDING": "findings", "IMPRESSION": "impression", "CONCLUSION": "impression"}
        for start, name in names.items():
            if head[1].startswith(start):
                found[name].append(report[head.end() : end])
    paragraphs = [p for p in re.split(r"\n\s*\n", report) if p.strip()]
    return {
        **{name: _plain("\n".join(parts)) for name, parts in found.items()},
        "last": _plain(_HEADING.sub("", paragraphs[-1])) if paragraphs else "",
    }


def _plain(text):
    return " ".join(text.split())


def _chosen(findings, impression, rest, which):
    """Return the text that a labeler reads, NA if there is none."""
    if which not in _SECTIONS:
        raise ValueError(f"sections: {which!r} is none of {', '.join(_SECTIONS)}.")
    text = " ".join(t for t in (findings, impression) if t) if which == "both" else impression or findings
    return text or rest or pd.NA


def _table(rows, where):
    """Return rows of `COLUMNS` as text, checked: an image in one report, a report with one text."""
    table = pd.DataFrame(rows, columns=list(LINKED_COLUMNS)).astype("string")
    if table.empty:
        raise ValueError(f"{where} holds no report.")
    images = table["image_id"].dropna()
    if images.duplicated().any():
        raise ValueError(
            f"{where}: image {images[images.duplicated()].iloc[0]!r} occurs twice; keep one row an image."
        )
    differ = table.dropna(subset="text").groupby("report_id")["text"].nunique() > 1
    if differ.any():
        raise ValueError(f"{where}: report {differ.index[differ][0]!r} has two texts; give each report its own id.")
    return table.sort_values(["report_id", "image_id"], ignore_index=True)


def mimic(*, folder, metadata, sections="impression"):
    """Return the reports of MIMIC-CXR (Johnson et al., Sci Data 2019;6:317; PhysioNet, credentialed access).

    Parameters
    ----------
    folder : str
        `mimic-cxr-reports.zip` unpacked: `files/p10/p10000032/s50414267.txt`, with or without `files`.
    metadata : str
        `mimic-cxr-2.0.0-metadata.csv` or `.csv.gz` of MIMIC-CXR-JPG: which image (`dicom_id`) is of which study.
    sections : {"impression", "both"}

    Returns
    -------
    pandas.DataFrame
        `image_id` is the `dicom_id`, as torchxrayvision's `MIMIC_Dataset` has it here; `report_id` is the study,
        `s50414267`. A study without a text file has no text, a file without an image no `image_id`.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder holds no such file, a file is not UTF-8, or the metadata lack a column.
    """
    root, csv = paths.source_path(folder), paths.source_path(metadata)
    base = root / "files" if (root / "files").is_dir() else root
    files = {(p.parent.name[1:], p.stem[1:]): p for p in sorted(base.glob("p*/p*/s*.txt"))}
    if not files:
        raise FileNotFoundError(
            f"{root} holds no report files/p10/p10000032/s50414267.txt: unpack mimic-cxr-reports.zip there."
        )
    texts = {key: _read_mimic(path, sections) for key, path in files.items()}
    images = tables.read_csv(csv, ("dicom_id", "subject_id", "study_id"))
    rows = [
        (f"s{study}", image, subject, texts.get((subject, study), pd.NA))
        for image, subject, study in images[["dicom_id", "subject_id", "study_id"]].itertuples(index=False)
    ]
    imaged = set(images[["subject_id", "study_id"]].itertuples(index=False, name=None))
    rows += [
        (f"s{study}", pd.NA, subject, text)
        for (subject, study), text in texts.items()
        if (subject, study) not in imaged
    ]
    return _table(rows, csv)


def _read_mimic(path, which):
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): fetch it again.") from None
    return _read_of(text, which)


def _read_of(report, which):
    """Return what is read of a report with headings, NA if that is nothing."""
    found = sections(report)
    return _chosen(found["findings"], found["impression"], found["last"], which)


def chexpert_plus(*, path, sections="impression"):
    """Return the reports of CheXpert Plus (Chambon et al., arXiv:2405.19538; Stanford AIMI, by agreement).

    Parameters
    ----------
    path : str
        `df_chexpert_plus_240401.csv`. Read are `path_to_image`, `deid_patient_id`, `section_findings` and
        `section_impression`; where both are empty, `section_narrative` if there is one.
    sections : {"impression", "both"}

    Returns
    -------
    pandas.DataFrame
        `image_id` is `path_to_image`, which `of_images` matches to CheXpert's paths; `report_id` is its study.
    """
    csv = paths.source_path(path)
    wanted = ("path_to_image", "deid_patient_id", "section_findings", "section_impression")
    raw = tables.read_csv(csv, wanted).dropna(subset="path_to_image")
    parts = [
        raw.get(f"section_{name}", pd.Series(pd.NA, raw.index, dtype="string")).fillna("").map(_plain)
        for name in ("findings", "impression", "narrative")
    ]
    text = [_chosen(*each, sections) for each in zip(*parts, strict=True)]
    study = image_key(raw["path_to_image"]).str.rpartition("/")[0]
    return _table(list(zip(study, raw["path_to_image"], raw["deid_patient_id"], text, strict=True)), csv)


def _folder_reports(*, path):
    """Return the reports of one's own CSV: `image_id, text`, and if known `patient_id` and `report_id`.

    UTF-8, comma-separated, quoted text may run over several lines. Without `report_id` each image has a report of its
    own; an image without text is one without a report. The text is read whole: leave out what the labeler is not to
    read, such as the clinical question.
    """
    csv = paths.source_path(path)
    raw = tables.read_csv(csv, ("image_id", "text"))
    if raw["image_id"].isna().all():
        raise ValueError(f"{csv} has no image id in column image_id.")
    report_id = raw["report_id"] if "report_id" in raw else raw["image_id"]
    patient_id = raw["patient_id"] if "patient_id" in raw else [pd.NA] * len(raw)
    text = [pd.NA if pd.isna(t) or not t.strip() else _plain(t) for t in raw["text"]]
    return _table(list(zip(report_id, raw["image_id"], patient_id, text, strict=True)), csv)


def openi(*, archive=None, sections="impression"):
    """Return the reports of Open-i, Indiana University (Demner-Fushman et al., JAMIA 2016;23:304; CC BY-NC-ND 4.0).

    Parameters
    ----------
    archive : str, optional
        `NLMCXR_reports.tgz`; by default the copy in torchxrayvision. 3,955 reports when whole.
    sections : {"impression", "both"}

    Returns
    -------
    pandas.DataFrame
        `image_id` as torchxrayvision's `Openi_Dataset` has it (`CXR1_1_IM-0001-3001`); patients are not told, so each
        report counts as a patient.
    """
    path = paths.torchxrayvision_data("NLMCXR_reports.tgz") if archive is None else paths.source_path(archive)
    rows = []
    for where, data in openi_reports.members(path):
        try:
            root = xml_files.parse_xml(data)
        except ValueError as error:
            raise ValueError(f"{where} is {error}.") from None
        said = {part.get("Label"): _plain(part.text or "") for part in root.iterfind(".//AbstractText")}
        text = _chosen(said.get("FINDINGS", ""), said.get("IMPRESSION", ""), "", sections)
        report = getattr(root.find("uId"), "attrib", {}).get("id")
        if not report:
            raise ValueError(f"{where} is not a report of Open-i: it has no uId.")
        images = [image.get("id") for image in root.findall("parentImage")] or [pd.NA]
        rows += [(report, image, report, text) for image in images]
    return _table(rows, path)


def _archive_reports(*, path, sections="impression"):
    """Return the reports of pairs that notebook 15 matched, `data/reports/<edition>/<cohort>.parquet`."""
    file = paths.source_path(path)
    pairs = tables.read_parquet(file, ("report_id", "image_id", "patient_id", "text"))
    texts = {text: _read_of(text, sections) for text in pairs["text"].dropna().unique()}
    pairs["text"] = pairs["text"].map(texts)
    return _table(list(pairs[list(LINKED_COLUMNS)].itertuples(index=False, name=None)), file)


_REPORT_SOURCES = {
    "mimic": mimic,
    "chexpert_plus": chexpert_plus,
    "folder": _folder_reports,
    "openi": openi,
    "archive": _archive_reports,
}


def read_linked(settings):
    """Return reports with the images that they are of.

    Parameters
    ----------
    settings : Mapping
        `source` names one of `SOURCES`; the rest are its arguments. Paths are looked for by `paths.source_path`.

    Returns
    -------
    pandas.DataFrame
        `report_id, image_id, patient_id, text`, text columns, a row per report and image, sorted. `image_id` is
        missing where a report has no image, `text` where an image has no report or the report says nothing.

    Raises
    ------
    FileNotFoundError, ValueError
        In one sentence: no such source, file or column; not UTF-8; an image that occurs twice; a report of two texts.
    """
    settings = dict(settings)
    name = settings.pop("source", None)
    if name not in _REPORT_SOURCES:
        raise ValueError(f"reports: source {name!r} is none of {', '.join(_REPORT_SOURCES)}.")
    try:
        return _REPORT_SOURCES[name](**settings)
    except TypeError as error:
        raise ValueError(f"The settings of reports from {name!r} are not its arguments: {error}.") from None


def of_images(reports, image_ids):
    """Return the reports of these images, under these images' ids.

    Parameters
    ----------
    reports : pandas.DataFrame
        As `read` returns it.
    image_ids : sequence of str

    Raises
    ------
    ValueError
        If none of the images has a report.
    """
    wanted = pd.DataFrame({"cohort_id": pd.Series(list(image_ids), dtype="string")})
    wanted["key"] = image_key(wanted["cohort_id"])
    there = reports.dropna(subset=["image_id", "text"])
    there = there.assign(key=image_key(there["image_id"]))
    for table, what in ((wanted, "the cohort"), (there, "the reports")):
        if table["key"].duplicated().any():
            raise ValueError(f"image {table['key'][table['key'].duplicated()].iloc[0]!r} occurs twice in {what}.")
    both = wanted.merge(there, on="key")
    if both.empty:
        raise ValueError(
            f"None of {len(wanted)} images (the first: {wanted['cohort_id'].iloc[0]}) is among the {len(there)} that "
            f"have a report (the first: {there['image_id'].iloc[0] if len(there) else 'none'})."
        )
    table = both.assign(image_id=both["cohort_id"])[list(LINKED_COLUMNS)]
    without_report = wanted["cohort_id"][~wanted["cohort_id"].isin(table["image_id"])].tolist()
    said = reports["report_id"][reports["text"].notna()].drop_duplicates()
    without_image = said[~said.isin(table["report_id"])].tolist()
    return OfImages(table, without_report, without_image)
