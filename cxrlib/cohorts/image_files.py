"""Image files to 8-bit grey arrays: PNG, JPEG and DICOM of any bit depth."""

import io
import re
import struct
import textwrap
import warnings
import zlib

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi

from cxrlib.base import bounded

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


Image.MAX_IMAGE_PIXELS = bounded.IMAGE_PIXELS  # Pillow warns beyond it, which is an error here


_MARKS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # how PNG and JPEG begin


_TURNS = {  # EXIF's orientation, and what makes a picture upright that is stored so
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")


_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT")


_DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax of which all that follows the meta header is deflated


_META_BYTES = 4096  # in which a file says its transfer syntax


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


def read_bytes(path):
    """Return the bytes of an image file.

    Raises
    ------
    UnreadableImageError
        If it is no file, cannot be opened, or has more than `bounded.IMAGE_BYTES`.
    """
    reason = bounded.hindrance(path, bounded.IMAGE_BYTES)
    if reason is not None:
        raise UnreadableImageError(reason)
    return path.read_bytes()


def check_expansion(content):
    """Raise an `UnreadableImageError` if the bytes are a deflated DICOM file that expands beyond the bounds."""
    if content[128:132] != b"DICM" or _DEFLATED not in content[:_META_BYTES]:
        return
    length = struct.unpack("<I", content[140:144])[0]  # of the meta header, which its first element says
    try:
        bounded.check_deflated(content[144 + length :])
    except bounded.TooLargeError as error:
        raise UnreadableImageError(str(error)) from None
    except zlib.error:
        raise UnreadableImageError("its DICOM header is truncated or damaged") from None


def is_deflated(path):
    """Return whether a DICOM file is deflated as a whole, so that reading its header expands all of it."""
    with open(path, "rb") as file:
        return _DEFLATED in file.read(_META_BYTES)


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
        if is_deflated(path):
            check_expansion(read_bytes(path))
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        row = {name: str(header.get(keyword) or "").strip() or None for name, keyword in wanted.items()}
        age, modality = str(header.get("PatientAge") or ""), header.get("Modality")
    except UnreadableImageError as error:
        return {}, str(error)
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
    if not np.isfinite([low, high]).all() or max(-low, high) > np.finfo(np.float32).max:
        raise UnreadableImageError(f"its values are not numbers that can be shown ({low:g} to {high:g})")
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


def _check_pixels(dataset):
    """Raise an UnreadableImageError if the header of an open DICOM dataset contradicts itself or the pixels' bits."""
    sides = dataset.get("Rows"), dataset.get("Columns")
    if None not in sides:
        _check_sides(*map(int, sides))
    kind, samples = dataset.get("PhotometricInterpretation"), int(dataset.get("SamplesPerPixel") or 1)
    if kind is None:
        return  # pydicom says that it is missing
    if kind not in _GREY + _COLOUR:
        raise UnreadableImageError(f"its photometric interpretation {kind!r} is none that is read: export it in grey")
    if samples != (1 if kind in _GREY else 3):
        raise UnreadableImageError(f"its photometric interpretation is {kind}, and it has {samples} samples a pixel")
    _check_bits(dataset)


def _check_sides(height, width):
    if not height or not width:
        raise UnreadableImageError(f"it has no pixels ({width} x {height})")
    if height * width > bounded.IMAGE_PIXELS:
        raise UnreadableImageError(f"it claims more than {bounded.IMAGE_PIXELS // 10**6} million pixels")


def _check_bits(dataset):
    """Raise if plain 16-bit values use several bits from the first on that is not stored: they would wrap around.

    One such bit is an overlay, as old systems keep it.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if dataset.get("BitsAllocated") != 16 or dataset.get("PixelRepresentation") != 0 or syntax.is_encapsulated:
        return
    stored = dataset.BitsStored
    values = np.frombuffer(
        dataset.PixelData, "<u2" if syntax.is_little_endian else ">u2", len(dataset.PixelData) // 2
    )
    used = int(np.bitwise_or.reduce(values)) if dataset.get("HighBit") == stored - 1 else 0
    beyond = used >> stored
    if beyond & 1 and beyond.bit_count() > 1:
        raise UnreadableImageError(
            f"its values use {used.bit_length()} bits, and its header says {stored} (BitsStored): export it anew"
        )


def _dicom_grey(dataset):
    """Return the pixels of an open DICOM dataset as uint8, bone white; raises whatever pydicom raises."""
    if "PixelData" not in dataset:
        raise UnreadableImageError("the DICOM file holds no pixels")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnreadableImageError(f"it holds {dataset.NumberOfFrames} frames; a radiograph has one")
    _check_pixels(dataset)
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
        If it is no DICOM, has several frames or no pixels, contradicts itself, is beyond the bounds of
        `cxrlib.base.bounded`, or needs a decoder that is not installed.
    """
    check_expansion(content)
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
        raise UnreadableImageError(
            f"its pixels cannot be decoded{_said(error)}: export it anew, uncompressed"
        ) from None


def _said(error):
    """Return what an exception says, in brackets, if it was worded for people."""
    if getattr(error, "name", None) and "has no attribute" in str(error):
        return f" (it lacks {error.name})"
    worded = isinstance(error, (ValueError, RuntimeError, AttributeError, OSError, SyntaxError))
    lines = str(error).strip().splitlines() if worded else []
    return f" ({textwrap.shorten(lines[0], 130, placeholder=' ...').rstrip('.: ')})" if lines else ""


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
    """Return the bytes of a PNG or JPEG file as an image of mode `L`, turned as its EXIF note says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            _check_picture(image)
            image.load()
    except UnidentifiedImageError:
        raise UnreadableImageError(_unidentified(content)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImageError(f"it claims more than {bounded.IMAGE_PIXELS // 10**6} million pixels") from None
    except UnreadableImageError:
        raise
    except Exception as error:  # on damaged files Pillow raises far more than OSError
        raise UnreadableImageError(f"it is truncated or damaged{_said(error)}") from None
    turn = _TURNS.get(_orientation(image))
    if image.mode.startswith("I"):
        values = np.asarray(image)
        grey = Image.fromarray(to_uint8(values, *_used_range(values)))
    elif image.format == "PNG" and content[24] == 16:  # Pillow drops the lower 8 bits: black, if 12 are used
        raise UnreadableImageError("it is a colour PNG of 16 bits, which must be saved in grey")
    else:
        grey = image if image.mode == "L" else image.convert("L")
    return grey if turn is None else grey.transpose(turn)


def _check_picture(image):
    """Raise an UnreadableImageError if an opened picture is of several frames, or made for printing."""
    frames_n = getattr(image, "n_frames", 1)
    if frames_n > 1:
        raise UnreadableImageError(f"it holds {frames_n} frames; a radiograph has one")
    if image.mode == "CMYK":  # whether 0 is ink or none differs between programs
        raise UnreadableImageError("it is in CMYK, the inks of a printer: save it in grey")


def _unidentified(content):
    """Return why Pillow knows a file as neither PNG nor JPEG."""
    if not content.startswith(_MARKS):
        return "it is neither PNG nor JPEG, whatever its name says"
    if content.startswith(_MARKS[0]) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        if not width or not height:
            return f"it has no pixels ({width} x {height})"
    return "it is truncated or damaged"


def _orientation(image):
    """Return how a picture's EXIF note says that it is stored, 1 to 8; 1, upright, where none can be read."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # a damaged note makes Pillow raise anything, and says nothing of the pixels
        return 1


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
