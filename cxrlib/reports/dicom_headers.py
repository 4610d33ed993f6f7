"""What the header of a DICOM file says, without its pixels: of an image, or of a structured report."""

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from cxrlib.reports import export_files, report_headers, report_rows

HEADER_TAGS = {
    "sop_uid": "SOPInstanceUID",
    "study_uid": "StudyInstanceUID",
    "accession": "AccessionNumber",
    "study_id": "StudyID",
    "patient_id": "PatientID",
    "date": "StudyDate",
    "time": "StudyTime",
    "series_number": "SeriesNumber",
    "instance_number": "InstanceNumber",
    "view": "ViewPosition",
    "series_description": "SeriesDescription",
    "modality": "Modality",
    "photometric": "PhotometricInterpretation",
}


_OTHER_DATES = ("SeriesDate", "AcquisitionDate", "ContentDate")  # where there is no study date, the first of these


_CHECKED = (
    *_OTHER_DATES,
    "SOPClassUID",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "NumberOfFrames",
    "SpecificCharacterSet",
)


_WANTED = [Tag(tag_for_keyword(keyword)) for keyword in (*HEADER_TAGS.values(), *_CHECKED)]


_NUMBERS = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel")  # binary, where the others are text


_DICOMDIR = "1.2.840.10008.1.3.10"


_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."


_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88."


_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # pixels that are not compressed


def is_bare(start):
    """Return whether a file starts as DICOM without preamble does: with an element of group 2 or 8."""
    return start[:2] in (b"\x02\x00", b"\x08\x00") and start[2:4] < b"\x20\x00" and start[3:4] == b"\0"


def read_dicom(path, bare, how):
    """Return what a DICOM file is.

    Parameters
    ----------
    path : Path
    bare : bool
        Whether it lacks DICOM's mark, so that its name or its start alone speak for it.
    how : report_headers.Conventions

    Returns
    -------
    list
        Of one: a dict of `HEADER_TAGS` as text if it is an image, a dict as `export_files` yields it if it is a
        structured report, else an `export_files.Problem`. Pixels are not read; of those that are not compressed it is
        checked that the file is long enough for them.
    """
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_WANTED, force=bare)
    except Exception as error:  # a damaged header makes pydicom raise anything
        return [
            export_files.Problem(
                None, f"its DICOM header cannot be read ({report_rows.brief(error)}): export it anew"
            )
        ]
    sop_class = _value(dataset, "SOPClassUID") or str(
        getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID", "")
    )
    if sop_class == _DICOMDIR or path.name.upper() == "DICOMDIR":
        return export_files.left_aside("it is a DICOMDIR, the index of a medium")
    if sop_class.startswith(_TEXT_SR) or _value(dataset, "Modality") == "SR":
        return _read_structured(path, bare, how)
    if sop_class.startswith(_ENCAPSULATED):
        return export_files.left_aside("it is a document (such as PDF) within DICOM: save its text as .txt")
    if not _value(dataset, "Rows"):
        modality = _value(dataset, "Modality")
        if modality and _value(dataset, "SOPInstanceUID") and modality in ("PR", "KO", "REG", "RTSTRUCT", "DOC"):
            return export_files.left_aside(f"it is DICOM of modality {modality}, which has no image")
        return [export_files.Problem(None, "its DICOM header is truncated, damaged or of no image: export it anew")]
    missing = _missing_bytes(path, dataset)
    if missing:
        return [export_files.Problem(None, f"its pixels are cut off: {missing:,} bytes are missing; export it anew")]
    row = {name: _value(dataset, keyword) for name, keyword in HEADER_TAGS.items()}
    for name in ("accession", "study_id", "patient_id"):
        row[name] = report_headers.known_value(row[name], how)
    row["date"] = next(filter(None, (row["date"], *(_value(dataset, keyword) for keyword in _OTHER_DATES))), "")
    return [row]


def _missing_bytes(path, dataset):
    """Return by how many bytes a file is too short for its pixels; 0 where they are compressed."""
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))
    if syntax not in _NATIVE:
        return 0
    size = 1
    for keyword, default in (
        ("Rows", 0),
        ("Columns", 0),
        ("SamplesPerPixel", 1),
        ("NumberOfFrames", 1),
        ("BitsAllocated", 8),
    ):
        value = _value(dataset, keyword)
        size *= int(value) if value.isdigit() else default
    return max(0, size // 8 - path.stat().st_size)


def _value(dataset, keyword):
    """Return an element as text without blanks around it, '' if it is not there or cannot be decoded."""
    try:
        raw = dataset.get_item(keyword)
        if raw is None:
            return ""
        if isinstance(raw, RawDataElement) and keyword not in _NUMBERS and (raw.value or b"").isascii():
            text = (raw.value or b"").decode("ascii")  # as pydicom would, several times faster
        elif isinstance(value := dataset.get(keyword), MultiValue):
            text = "\\".join(map(str, value))
        else:
            text = "" if value is None else str(value)
    except Exception:  # values that break the standard make pydicom raise anything
        return ""
    return ";".join(part.strip() for part in text.replace("\0", "").split("\\"))


def _read_structured(path, bare, how):
    try:
        dataset = pydicom.dcmread(path, force=bare)
        text = export_files.structured_report(dataset)
    except Exception as error:
        return [export_files.Problem(None, f"its structured report cannot be read ({report_rows.brief(error)})")]
    given = {
        "report_id": _value(dataset, "SOPInstanceUID"),
        "accession": report_headers.known_value(_value(dataset, "AccessionNumber"), how),
        "patient_id": report_headers.known_value(_value(dataset, "PatientID"), how),
        "study_uid": _value(dataset, "StudyInstanceUID"),
        "exam_date": _value(dataset, "StudyDate"),
        "status": "preliminary" if _value(dataset, "PreliminaryFlag").upper() == "PRELIMINARY" else "",
    }
    return [{**given, "addendum": 0, "text": text, "line": None, "encoding": "DICOM"}]
