"""What the header of a DICOM file says, without its pixels: of an image, or of a structured report."""

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from cxrlib.cohorts import image_files
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


# What the number of an image's bytes is the product of, and what stands for it where the header does not say.
_LENGTHS = {"Rows": 0, "Columns": 0, "SamplesPerPixel": 1, "NumberOfFrames": 1, "BitsAllocated": 8}


_CHECKED = (*_OTHER_DATES, *_LENGTHS, "SOPClassUID", "SpecificCharacterSet")


_WANTED = {keyword: Tag(tag_for_keyword(keyword)) for keyword in (*HEADER_TAGS.values(), *_CHECKED)}


_NUMBERS = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel")  # binary, where the others are text


_DICOMDIR = "1.2.840.10008.1.3.10"


_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."


_PRESENTATION = "1.2.840.10008.5.1.4.1.1.11."


_IMAGELESS = ("PR", "KO", "REG", "DOC", "RTSTRUCT", "RTPLAN", "RTRECORD", "ECG", "AU", "PLAN", "SEG", "FID", "RWV")


_PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")  # their element's tag


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
        if image_files.is_deflated(path):
            image_files.check_expansion(image_files.read_bytes(path))
        with open(path, "rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_WANTED.values()), force=bare)
            end, size = file.tell(), path.stat().st_size
            file.seek(end)
            has_pixels = file.read(4) in _PIXELS
    except Exception as error:  # a damaged header makes pydicom raise anything
        said = report_rows.brief(error)
        return [export_files.Problem(None, f"its DICOM header cannot be read ({said}): export it anew")]
    meta = getattr(dataset, "file_meta", {})
    sop_class = _value(dataset, "SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", ""))
    modality = _value(dataset, "Modality")
    if sop_class == _DICOMDIR or path.name.upper() == "DICOMDIR":
        return export_files.left_aside("it is a DICOMDIR, the index of a medium")
    if sop_class.startswith(_TEXT_SR) or modality == "SR":
        return _read_structured(path, bare, how)
    if sop_class.startswith(_ENCAPSULATED):
        return export_files.left_aside("it is a document (such as PDF) within DICOM: save its text as .txt")
    if not has_pixels and (end > size or _is_cut(dataset) or not _value(dataset, "SOPInstanceUID")):
        return [export_files.Problem(None, "its DICOM header is truncated or damaged, or none: export it anew")]
    if not has_pixels and (modality in _IMAGELESS or sop_class.startswith(_PRESENTATION)):
        return export_files.left_aside(f"it is DICOM of modality {modality or 'unknown'}, which has no image")
    missing = _missing_bytes(dataset, str(meta.get("TransferSyntaxUID", "")), size - end) if has_pixels else 0
    if missing:
        return [export_files.Problem(None, f"its pixels are cut off: {missing:,} bytes are missing; export it anew")]
    row = {name: _value(dataset, keyword) for name, keyword in HEADER_TAGS.items()}
    for name in ("accession", "study_id", "patient_id"):
        row[name] = report_headers.known_value(row[name], how)
    if not row["date"]:
        row["date"] = next(filter(None, (_value(dataset, keyword) for keyword in _OTHER_DATES)), "")
    return [{**row, "has_pixels": has_pixels}]


def _is_cut(dataset):
    """Return whether an element is shorter than it says."""
    raw = (dataset.get_item(tag) for tag in dataset.keys())
    return any(isinstance(e, RawDataElement) and e.value and 0 < len(e.value) < e.length < 2**32 - 1 for e in raw)


def _missing_bytes(dataset, syntax, there):
    """Return by how many bytes an image that is not compressed is too short; `there` are from its pixels' tag on."""
    if syntax not in _NATIVE:
        return 0
    size = 1
    for keyword, otherwise in _LENGTHS.items():
        value = _value(dataset, keyword)
        size *= int(value) if value.isdigit() else otherwise
    return max(0, size // 8 + (8 if syntax == _NATIVE[0] else 12) - there)


def _value(dataset, keyword):
    """Return an element as text without blanks around it, '' if it is not there or cannot be decoded."""
    try:
        raw = dataset.get_item(_WANTED.get(keyword, keyword))
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
