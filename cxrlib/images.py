"""Image files to 8-bit grey arrays: PNG, JPEG and DICOM of any bit depth."""

import io

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
Image.MAX_IMAGE_PIXELS = 200_000_000  # large detectors; beyond this a file is taken for a decompression bomb


class UnreadableImageError(ValueError):
    """An image file that cannot be used; the message is one sentence with the reason."""


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


def decode_dicom(content):
    """Return a DICOM radiograph as uint8, bone white.

    Modality rescale and the VOI look-up table or first window are applied; without either, the range
    that the values span is used. MONOCHROME1 is inverted.

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
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
    except InvalidDicomError:
        raise UnreadableImageError("it is not a DICOM file (no DICM prefix)") from None
    except EOFError:
        raise UnreadableImageError("the DICOM file is truncated") from None
    if "PixelData" not in dataset:
        raise UnreadableImageError("the DICOM file holds no pixels")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnreadableImageError(f"it holds {dataset.NumberOfFrames} frames; a radiograph has one")
    try:
        pixels = dataset.pixel_array
    except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        raise UnreadableImageError(f"its pixels cannot be decoded ({str(error).splitlines()[0]})") from None
    if pixels.ndim == 3:
        pixels = pixels[..., :3].mean(-1)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    values = apply_modality_lut(pixels, dataset)
    width, centre = dataset.get("WindowWidth"), dataset.get("WindowCenter")
    if dataset.get("VOILUTSequence"):
        values = apply_voi_lut(values, dataset)
        low, high = float(values.min()), float(values.max())
    elif width and centre is not None:  # several windows may be offered: the first is the default
        width, centre = (float(np.ravel(np.asarray(w, float))[0]) for w in (width, centre))
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    else:
        low, high = float(values.min()), float(values.max())
    grey = to_uint8(values, low, high)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def decode(content, suffix):
    """Return the bytes of an image file as a grey image.

    Parameters
    ----------
    content : bytes
    suffix : str
        The file's ending, one of `SUFFIXES`, in any case.

    Returns
    -------
    PIL.Image.Image
        Mode `L`. Colour and alpha (4 of the NIH images are RGBA) are reduced to luminance; 10- to
        16-bit greys are scaled by the bit depth that they use.

    Raises
    ------
    UnreadableImageError
        With the reason, if the file is truncated, of another format, or empty.
    """
    if not content:
        raise UnreadableImageError("the file is empty")
    if suffix.lower() in (".dcm", ".dicom"):
        return Image.fromarray(decode_dicom(content))
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except UnidentifiedImageError:
        raise UnreadableImageError("it is not an image of a known format, whatever its name says") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError("it claims more than 200 million pixels") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableImageError(f"it is damaged ({str(error).rstrip('.')})") from None
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0:
            return Image.fromarray(to_uint8(values, float(values.min()), float(values.max())))
        return Image.fromarray(to_uint8(values, *_used_range(values)))
    return image if image.mode == "L" else image.convert("RGB").convert("L")


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
        image = image.resize(inner, Image.Resampling.BILINEAR, reducing_gap=2.0)
    left, top = (size_px - inner[0]) // 2, (size_px - inner[1]) // 2
    if inner == (size_px, size_px):
        return np.asarray(image), scale, 0, 0
    square = np.zeros((size_px, size_px), np.uint8)
    square[top : top + inner[1], left : left + inner[0]] = np.asarray(image)
    return square, scale, left, top
