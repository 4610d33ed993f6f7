"""Image files to 8-bit grey arrays: PNG, JPEG and DICOM of any bit depth."""

import io
import re
import warnings

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


Image.MAX_IMAGE_PIXELS = 200_000_000  # large detectors; beyond this a file is taken for a decompression bomb


class UnreadableImageError(ValueError):
    """An image file that cannot be used; the message is one sentence with the reason."""


def is_image(path):
    """Return whether a file's ending is one of `SUFFIXES`, or it has no ending and DICOM's mark in it."""
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    return _is_marked(path)


def is_dicom(path):
    """Return whether a file has DICOM's mark in it, or its ending says that it is DICOM."""
    return _is_marked(path) or path.suffix.lower() in (".dcm", ".dicom")


def _is_marked(path):
    """Return whether a file has DICOM's mark behind its preamble."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def dicom_header(path):
    """Return what the header of a DICOM file says of an image, and why it is none.

    Parameters
    ----------
    path : Path

    Returns
    -------
    row : dict
        `image_id` (SOP instance UID), `patient_id, view` (view position), `sex`, `age` in years; None where the
        header does not say.
    reason : str or None
        Why it cannot be used; None if it can. Pixels are not looked at.
    """
    wanted = {"image_id": "SOPInstanceUID", "patient_id": "PatientID", "view": "ViewPosition", "sex": "PatientSex"}
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        row = {name: str(header.get(keyword) or "").strip() or None for name, keyword in wanted.items()}
        age, modality = str(header.get("PatientAge") or ""), header.get("Modality")
    except Exception:  # a damaged header makes pydicom raise anything
        return {}, "its DICOM header is truncated or damaged"
    row["age"] = int(age[:3]) if re.fullmatch(r"\d{3}Y", age) else None
    if row["image_id"] is None:
        return row, "its DICOM header has no SOP instance UID"
    if header.get("Rows") is None:
        return row, f"it holds no image (modality {modality or 'unknown'})"
    return row, None


def to_uint8(values, low, high):
    """Return `values` scaled so that `low` becomes 0 and `high` becomes 255, clipped, as uint8."""
    if not high > low:
        raise UnreadableImageError(f"all its pixels have one value ({low:g}), so it shows nothing")
    scaled = (np.asarray(values, np.float32) - low) * (255 / (high - low))
    return np.uint8(np.clip(np.rint(scaled), 0, 255))


def _used_range(values):
    """Return (0, 2**bits - 1) for the fewest bits, at least 8, that hold the values: 8, 10, 12, 14, 16."""
    bits = max(8, int(values.max()).bit_length())
    return 0, 2 ** (bits + bits % 2) - 1


def _luminance(pixels):
    """Return colour pixels (height, width, 3) as 8-bit luminance; deeper ones are scaled by the bits they use."""
    if pixels.dtype != np.uint8:
        pixels = to_uint8(pixels, *_used_range(pixels))
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _dicom_grey(dataset):
    """Return the pixels of an open DICOM dataset as uint8, bone white; raises whatever pydicom raises."""
    if "PixelData" not in dataset:
        raise UnreadableImageError("the DICOM file holds no pixels")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnreadableImageError(f"it holds {dataset.NumberOfFrames} frames; a radiograph has one")
    pixels = dataset.pixel_array
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    if pixels.ndim == 3:  # a screenshot or a scan, without look-up tables
        return _luminance(pixels[..., :3])
    values = apply_modality_lut(pixels, dataset)
    width, centre = (  # several windows may be offered: the first is the default
        None if dataset.get(name) is None else float(np.ravel(dataset[name].value)[0])
        for name in ("WindowWidth", "WindowCenter")
    )
    if dataset.get("VOILUTSequence"):
        values = apply_voi(np.asarray(np.rint(values), np.int64), dataset)
        low, high = values.min(), values.max()
    elif centre is not None and width is not None and width > 1:
        function = dataset.get("VOILUTFunction") or "LINEAR"
        if function == "SIGMOID":
            values = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -50, 50)))
            low, high = 0, 1
        else:
            shift, width = (0.5, width - 1) if function == "LINEAR" else (0, width)
            low, high = centre - shift - width / 2, centre - shift + width / 2
    else:
        low, high = values.min(), values.max()
    grey = to_uint8(values, float(low), float(high))
    return 255 - grey if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else grey


def decode_dicom(content):
    """Return a DICOM radiograph as uint8, bone white.

    Modality rescale and the VOI look-up table or first window are applied; without either, the range
    that the values span is used. MONOCHROME1 is inverted, colour is reduced to luminance.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    (height, width) uint8

    Raises
    ------
    UnreadableImageError
        If it is no DICOM, has several frames or no pixels, or needs a decoder that is not installed.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
    except InvalidDicomError:
        raise UnreadableImageError("it is not a DICOM file (no DICM prefix)") from None
    except Exception:  # a damaged header makes pydicom raise anything
        raise UnreadableImageError("its DICOM header is truncated or damaged") from None
    try:
        return _dicom_grey(dataset)
    except UnreadableImageError:
        raise
    except Exception as error:  # wrong, missing or contradictory elements, too
        raise UnreadableImageError(f"its pixels cannot be decoded{_said(error)}") from None


def _said(error):
    """Return what an exception says, in brackets, if it was worded for people."""
    if getattr(error, "name", None) and "has no attribute" in str(error):
        return f" (it lacks {error.name})"
    worded = isinstance(error, (ValueError, RuntimeError, AttributeError, OSError, SyntaxError))
    lines = str(error).strip().splitlines() if worded else []
    return f" ({lines[0].rstrip('.:')})" if lines else ""


def decode(content, suffix):
    """Return the bytes of an image file as a grey image.

    Parameters
    ----------
    content : bytes
    suffix : str
        The file's ending, one of `SUFFIXES`, in any case; without one it is DICOM (`is_image`).

    Returns
    -------
    PIL.Image.Image
        Mode `L`. Colour and alpha (4 of the NIH images are RGBA) are reduced to luminance; 10- to
        16-bit greys are scaled by the bit depth that they use.

    Raises
    ------
    UnreadableImageError
        With the reason, if the file is truncated, of another format, empty, or of one grey all over.
    """
    if not content:
        raise UnreadableImageError("the file is empty")
    dicom = suffix.lower() in (".dcm", ".dicom", "")
    image = Image.fromarray(decode_dicom(content)) if dicom else _decode_picture(content)
    low, high = image.resize((16, 16), Image.Resampling.NEAREST).getextrema()  # quick, and mostly enough
    if low == high:
        low, high = image.getextrema()
    if low == high:
        raise UnreadableImageError(f"all its pixels have one value ({low}), so it shows nothing")
    return image


def _decode_picture(content):
    """Return the bytes of a PNG or JPEG file as an image of mode `L`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            image.load()
    except UnidentifiedImageError:
        raise UnreadableImageError("it is neither PNG nor JPEG, whatever its name says") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImageError("it claims more than 200 million pixels") from None
    except Exception as error:  # on damaged files Pillow raises far more than OSError
        raise UnreadableImageError(f"it is truncated or damaged{_said(error)}") from None
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return Image.fromarray(to_uint8(values, *_used_range(values)))
    if image.format == "PNG" and content[24] == 16:  # Pillow drops the lower 8 bits: black, if 12 are used
        raise UnreadableImageError("it is a colour PNG of 16 bits, which must be saved in grey")
    return image if image.mode == "L" else image.convert("L")


def fit(image, size_px):
    """Return an image scaled into a square, its shape kept, the rest black.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode `L`, any size.
    size_px : int
        Side of the square.

    Returns
    -------
    square : (size_px, size_px) uint8
    scale : float
        Packed pixels per source pixel.
    left_px, top_px : int
        Where the source's corner lies in the square: `packed = source * scale + (left, top)`.
    """
    width, height = image.size
    scale = size_px / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    if inner != image.size:
        image = image.resize(inner, Image.Resampling.BILINEAR, reducing_gap=1.5)
    left, top = (size_px - inner[0]) // 2, (size_px - inner[1]) // 2
    if inner == (size_px, size_px):
        return np.asarray(image), scale, 0, 0
    square = np.zeros((size_px, size_px), np.uint8)
    square[top : top + inner[1], left : left + inner[0]] = np.asarray(image)
    return square, scale, left, top
