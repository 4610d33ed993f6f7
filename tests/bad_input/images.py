"""Image files as nobody should export them: each is made here, in a moment, so that none is stored."""

import functools
import io
import pickle
import struct
import zlib

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

# A ramp in both directions: the way up, the full range and both ends are told apart.
RAMP = np.add.outer(np.arange(24) * 5, np.arange(35) * 4)
RAMP8 = np.uint8(np.round(RAMP * 255 / RAMP.max()))
COLOUR = np.stack([RAMP8, RAMP8[::-1], np.full_like(RAMP8, 40)], -1)


def of_bits(bits):
    """The ramp in so many bits, uint16."""
    return np.uint16(np.round(RAMP * (2**bits - 1) / RAMP.max()))


def saved(image, kind, **options):
    """An image's bytes in one of Pillow's formats."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(image):
    """An image's bytes as PNG."""
    return saved(image, "PNG")


def jpeg(pixels):
    """Pixels as JPEG."""
    return saved(Image.fromarray(pixels), "JPEG", quality=95)


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width, height, bits=16, colour_type=2, pixels=b"\0", more=()):
    """A PNG written by hand: kinds that Pillow does not write, and headers that lie."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), *more, (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def dicom(pixels=RAMP8, *, bits=8, syntax=ExplicitVRLittleEndian, then=lambda ds: None, **elements):
    """A DICOM file; `elements` override, None removes, `then` edits what is left."""
    pixels = np.asarray(pixels)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.file_meta.TransferSyntaxUID = syntax
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = pixels.itemsize * 8, bits, bits - 1
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    then(ds)
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def compressed_as(syntax, content):
    """An edit that puts a compressed stream of a transfer syntax in the place of the pixels."""

    def put(ds):
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = pydicom.encaps.encapsulate([content])
        ds["PixelData"].VR = "OB"

    return put


def _frames(n):
    def put(ds):
        ds.NumberOfFrames, ds.PixelData = n, ds.PixelData * n

    return put


def _rle_bomb(ds):
    """60,000 x 60,000 pixels whose one RLE segment is short."""
    ds.Rows = ds.Columns = 60_000
    segment = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 100
    compressed_as(RLELossless, segment)(ds)


def _swollen_jpeg():
    """A JPEG whose frame header claims 60,000 x 60,000 pixels."""
    content = bytearray(jpeg(RAMP8))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    return bytes(content)


@functools.cache
def deflated_bomb(size=80_000_000):
    """A deflated DICOM file of some hundred kilobytes with a header that says nothing, at length."""
    start = dicom(syntax=DeflatedExplicitVRLittleEndian)
    dataset = pydicom.dcmread(io.BytesIO(start), stop_before_pixels=True)
    group_length = dataset.file_meta.FileMetaInformationGroupLength
    meta = start[: 132 + 12 + group_length]
    squeeze = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    element = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, size)
    parts = [squeeze.compress(element)]
    parts += [squeeze.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)]
    return meta + b"".join(parts) + squeeze.flush()


def _deeply_nested(levels=5_000):
    """A header of sequences of undefined length, each within the one before; never closed."""
    start = dicom(PixelData=None)
    element = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return start + (element + item) * levels


def _claiming(length):
    """A file whose last element claims to be as long as that."""
    return dicom(PixelData=None) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, length) + bytes(10)


def _float_pixels(ds):
    ds.FloatPixelData = np.full(RAMP.shape, np.nan, np.float32).tobytes()
    ds.BitsAllocated = 32
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation


def float_tiff():
    """A TIFF of 32-bit numbers, among them NaN and infinity."""
    values = RAMP.astype(np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    return saved(Image.fromarray(values), "TIFF")


class _Shout:
    """What Python executes when it is unpickled: it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def shouting_pickle(marker):
    """A pickle that makes the file `marker` when it is opened."""
    return pickle.dumps(_Shout(marker))


def rotated_jpeg(orientation=6):
    """A JPEG as a camera held sideways writes it: stored lying, with the note how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = Image.fromarray(RAMP8).transpose(Image.Transpose.ROTATE_90)
    return saved(lying, "JPEG", quality=95, exif=exif)


PNG8, JPEG8 = png(Image.fromarray(RAMP8)), jpeg(RAMP8)
_TWO = [Image.fromarray(RAMP8), Image.fromarray(RAMP8[::-1].copy())]

# Kind: the file's name, its content, and what the reason has to say. Each is a line of rejected.csv.
BAD_IMAGES = {
    "png empty": ("png_empty.png", b"", "the file is empty"),
    "png that is text": ("png_text.png", b"Impression: no pneumothorax.\n" * 9, "neither PNG nor JPEG"),
    "jpeg that is a web page": ("login.jpg", b"<html><body>Please log in</body></html>", "neither PNG nor JPEG"),
    "png of its mark alone": ("mark.png", PNG8[:8], "truncated or damaged"),
    "png of its header alone": ("header.png", PNG8[:33], "truncated or damaged"),
    "png cut in its pixels": ("cut.png", PNG8[: len(PNG8) * 2 // 3], "truncated or damaged"),
    "png of zero width": ("width0.png", raw_png(0, 20, 8, 0), "no pixels"),
    "png of zero height": ("height0.png", raw_png(20, 0, 8, 0), "no pixels"),
    "png of 60,000 x 60,000": ("bomb.png", raw_png(60_000, 60_000, 8, 0), "200 million pixels"),
    "png of 2**31 x 2**31": ("bomb31.png", raw_png(2**31 - 1, 2**31 - 1, 8, 0), "200 million pixels"),
    "png a little over the bound": ("bomb_small.png", raw_png(14_200, 14_200, 8, 0), "200 million pixels"),
    "png of 16-bit colour": ("colour16.png", raw_png(2, 2, 16, 2, bytes(26)), "colour PNG of 16 bits"),
    "png of one pixel": ("one.png", png(Image.new("L", (1, 1), 9)), "one value (9)"),
    "png of one grey": ("flat.png", png(Image.new("L", (9, 9), 7)), "one value (7)"),
    "png animated": ("moving.png", saved(_TWO[0], "PNG", save_all=True, append_images=_TWO[1:]), "2 frames"),
    "png with a bomb of text": (
        "text_bomb.png",
        raw_png(9, 9, 8, 0, bytes(90), [(b"zTXt", b"note\0\0" + zlib.compress(bytes(20_000_000), 9))]),
        "too large",
    ),
    "png with a wrong checksum": ("crc.png", PNG8[:40] + b"\1\2\3" + PNG8[43:], "truncated or damaged"),
    "png of an unknown colour type": ("type.png", raw_png(9, 9, 8, 5, bytes(90)), "truncated or damaged"),
    "png with too few rows": ("rows.png", raw_png(90, 90, 8, 0, bytes(91)), "one value (0)"),
    "jpeg cut": ("cut.jpg", JPEG8[:-200], "truncated or damaged"),
    "jpeg of its header alone": ("header.jpg", JPEG8[:30], "damaged"),
    "jpeg of 60,000 x 60,000": ("bomb.jpg", _swollen_jpeg(), "200 million pixels"),
    "jpeg in CMYK": ("cmyk.jpg", saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "CMYK"),
    "jpeg of several pictures": ("several.jpg", saved(_TWO[0], "MPO", save_all=True, append_images=_TWO[1:]), "2 "),
    "tiff": ("film.tif", saved(_TWO[0], "TIFF"), "not an image file"),
    "tiff of NaN and infinity": ("nan.tiff", float_tiff(), "not an image file"),
    "tiff named png": ("film.png", float_tiff(), "neither PNG nor JPEG"),
    "gif named png": ("gif.png", saved(_TWO[0], "GIF"), "neither PNG nor JPEG"),
    "bmp named jpg": ("bmp.jpg", saved(_TWO[0], "BMP"), "neither PNG nor JPEG"),
    "webp named jpg": ("webp.jpg", saved(_TWO[0], "WEBP"), "neither PNG nor JPEG"),
    "svg named png": ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither PNG nor JPEG"),
    "postscript named png": ("eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "neither PNG nor JPEG"),
    "pdf named jpg": ("pdf.jpg", b"%PDF-1.7\n" + bytes(90), "neither PNG nor JPEG"),
    "dicom named png": ("dicom.png", dicom(), "neither PNG nor JPEG"),
    "png named dicom": ("png.dcm", PNG8, "not a DICOM file"),
    "dicom empty": ("empty.dcm", b"", "the file is empty"),
    "dicom without its mark": ("bare.dcm", dicom()[132:], "not a DICOM file"),
    "dicom cut in its header": ("cut_header.dcm", dicom()[:142], "truncated"),
    "dicom cut in its pixels": ("cut_pixels.dcm", dicom()[:-100], "cannot be decoded"),
    "dicom without pixels": ("no_pixels.dcm", dicom(PixelData=None), "holds no pixels"),
    "dicom of several frames": ("frames.dcm", dicom(then=_frames(3)), "3 frames"),
    "dicom of 60,000 x 60,000": ("bomb.dcm", dicom(Rows=60_000, Columns=60_000), "200 million pixels"),
    "dicom of 60,000 x 60,000 in RLE": ("bomb_rle.dcm", dicom(then=_rle_bomb), "200 million pixels"),
    "dicom of zero rows": ("rows0.dcm", dicom(Rows=0), "no pixels"),
    "dicom without rows": ("no_rows.dcm", dicom(Rows=None), "Rows"),
    "dicom without a photometric": ("no_photometric.dcm", dicom(PhotometricInterpretation=None), "Photometric"),
    "dicom of an unknown photometric": ("cie.dcm", dicom(PhotometricInterpretation="CIELAB"), "CIELAB"),
    "dicom of colour called grey": (
        "colour_as_grey.dcm",
        dicom(COLOUR, PhotometricInterpretation="MONOCHROME1"),
        "MONOCHROME1",
    ),
    "dicom of grey called colour": ("grey_as_colour.dcm", dicom(PhotometricInterpretation="RGB"), "RGB"),
    "dicom of a palette without one": ("palette.dcm", dicom(PhotometricInterpretation="PALETTE COLOR"), "decoded"),
    "dicom of fewer bits than it uses": ("bits.dcm", dicom(of_bits(12), bits=8), "12 bits"),
    "dicom of more bits than there are": ("bits17.dcm", dicom(BitsStored=17, HighBit=16), "decoded"),
    "dicom of no bits": ("bits0.dcm", dicom(BitsStored=0, HighBit=0), "decoded"),
    "dicom in JPEG 2000": (
        "j2k.dcm",
        dicom(then=compressed_as(JPEG2000Lossless, b"\xff\x4f" + bytes(60))),
        "export it anew, uncompressed",
    ),
    "dicom in lossless JPEG": (
        "lossless.dcm",
        dicom(then=compressed_as(JPEGLosslessSV1, b"\xff\xd8\xff\xc3" + bytes(60))),
        "JPEG Lossless",
    ),
    "dicom in JPEG-LS": ("jls.dcm", dicom(then=compressed_as(JPEGLSLossless, b"\xff\xd8" + bytes(60))), "JPEG-LS"),
    "dicom in HTJ2K": ("htj2k.dcm", dicom(then=compressed_as(HTJ2KLossless, b"\xff\x4f" + bytes(60))), "decoded"),
    "dicom of a film": ("film.dcm", dicom(then=compressed_as(MPEG2MPML, bytes(60))), "decoded"),
    "dicom of an unknown transfer syntax": (
        "syntax.dcm",
        dicom(then=compressed_as(JPEG2000Lossless, bytes(60))).replace(b"1.2.4.90", b"1.2.4.99"),
        "decoded",
    ),
    "dicom with a JPEG of 60,000 x 60,000": (
        "inner_bomb.dcm",
        dicom(then=compressed_as(JPEGBaseline8Bit, _swollen_jpeg())),
        "decoded",
    ),
    "dicom with a JPEG that is none": (
        "inner.dcm",
        dicom(then=compressed_as(JPEGBaseline8Bit, bytes(60))),
        "decoded",
    ),
    "dicom deflated, a bomb": ("deflated.dcm", deflated_bomb(), "expands to more than"),
    "dicom of a NaN slope": ("nan_slope.dcm", dicom(RescaleSlope="NaN", RescaleIntercept="0"), "not numbers"),
    "dicom of an infinite slope": ("inf_slope.dcm", dicom(RescaleSlope="1e308", RescaleIntercept="0"), "not numbers"),
    "dicom with a window beside its values": ("window.dcm", dicom(WindowCenter="9999", WindowWidth="9"), "one value"),
    "dicom of one value": ("flat.dcm", dicom(np.full((8, 9), 77, np.uint8)), "one value (77)"),
    "dicom of floating-point pixels": ("float.dcm", dicom(then=_float_pixels), "holds no pixels"),
    "dicom of endless sequences": ("nested.dcm", _deeply_nested(), "damaged"),
    "dicom with an element of 4 GB": ("claims.dcm", _claiming(2**32 - 2), "decoded"),
    "archive named png": ("archive.png", b"PK\x03\x04" + bytes(90), "neither PNG nor JPEG"),
    "pickle named png": ("pickle.png", shouting_pickle("/dev/null"), "neither PNG nor JPEG"),
    "pickle named dicom": ("pickle.dcm", shouting_pickle("/dev/null"), "not a DICOM file"),
}
