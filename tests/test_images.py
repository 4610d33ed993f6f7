"""Image files as hospitals export them, and as no one should: either a grey picture or one sentence."""

import io
import struct
import warnings

import numpy as np
import pydicom
import pytest
from bad_input.images import COLOUR, RAMP, RAMP8, compressed_as, dicom, jpeg, of_bits, png, raw_png
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from cxrlib.cohorts import image_files


def grey(content, suffix=".dcm"):
    image = image_files.decode(content, suffix)
    assert image.mode == "L"
    return np.asarray(image)


def reason(content, suffix=".dcm"):
    """The reason for which a file is refused: one line, and nothing but UnreadableImageError is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on broken files
        with pytest.raises(image_files.UnreadableImageError) as raised:
            image_files.decode(content, suffix)
    text = str(raised.value)
    assert "\n" not in text and 10 < len(text) < 250 and not text.endswith("."), text
    assert not any(word in text for word in ("Error", "Exception", "Traceback", "object has no", "<class")), text
    return text


# --- PNG and JPEG ------------------------------------------------------------------------------------------


def with_alpha(mode):
    colour = Image.fromarray(RAMP8).convert(mode)
    colour.putalpha(Image.fromarray(RAMP8[::-1].copy()))
    return colour


def palette():
    image = Image.fromarray(255 - RAMP8).convert("P")
    image.putpalette([v for k in range(256) for v in (255 - k,) * 3])
    return image


@pytest.mark.parametrize("suffix", [".png", ".PNG"])
@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RAMP8),
        Image.fromarray(RAMP8).convert("RGB"),
        with_alpha("RGB"),
        with_alpha("L"),
        palette(),
        Image.fromarray(of_bits(8)),  # 16 bits, of which 8 are used
    ],
    ids=["L", "RGB", "RGBA", "LA", "P", "I;16 of 8 bits"],
)
def test_every_8_bit_png_is_the_same_picture(image, suffix):
    np.testing.assert_array_equal(grey(png(image), suffix), RAMP8)


def test_black_and_white_png():
    dark = RAMP8 < 100
    np.testing.assert_array_equal(grey(png(Image.fromarray(~dark)), ".png"), np.where(dark, 0, 255))


def test_colour_is_reduced_to_luminance():
    expected = COLOUR @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey(png(Image.fromarray(COLOUR)), ".png"), expected, atol=0.6)
    np.testing.assert_allclose(grey(jpeg(COLOUR), ".jpeg"), expected, atol=6)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_png_is_scaled_by_the_bits_it_uses(bits):
    np.testing.assert_allclose(grey(png(Image.fromarray(of_bits(bits))), ".png"), RAMP * 255 / RAMP.max(), atol=0.65)


def test_12_bit_png_that_is_dark_stays_dark():
    """The scale comes from the bit depth and not from the brightest pixel."""
    pixels = of_bits(12) // 2 + 20  # up to 2067, 12 bits
    assert grey(png(Image.fromarray(pixels)), ".png").max() == round(2067 * 255 / 4095)


def test_16_bit_colour_png_is_refused_rather_than_nearly_black():
    rows = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in of_bits(12))
    content = raw_png(RAMP.shape[1], RAMP.shape[0], pixels=rows)
    assert np.asarray(Image.open(io.BytesIO(content))).max() < 16  # what Pillow makes of it
    assert "16 bits" in reason(content, ".png")


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png"])
def test_jpeg(suffix):
    np.testing.assert_allclose(grey(jpeg(RAMP8), suffix), RAMP8, atol=6)
    np.testing.assert_allclose(grey(jpeg(np.stack([RAMP8] * 3, -1)), suffix), RAMP8, atol=6)


PNG8 = png(Image.fromarray(RAMP8))
PNG16 = png(Image.fromarray(of_bits(16)))
PNG16_CONSTANT = png(Image.fromarray(np.full((8, 8), 900, np.uint16)))


@pytest.mark.parametrize(
    ("content", "suffix", "says"),
    [
        (b"", ".png", "empty"),
        (b"", ".dcm", "empty"),
        (b"Impression: no pneumothorax.\n" * 50, ".png", "neither PNG nor JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ".png", "neither PNG nor JPEG"),
        (b"GIF89a" + bytes(50), ".jpg", "neither PNG nor JPEG"),
        (dicom(), ".png", "neither PNG nor JPEG"),
        (PNG8[: len(PNG8) // 2], ".png", "truncated"),
        (PNG16[:-100], ".png", "truncated"),
        (PNG8[:20], ".png", ""),
        (jpeg(RAMP8)[:-200], ".jpg", "truncated"),
        (jpeg(COLOUR)[:30], ".jpg", ""),
        (PNG8[:60] + bytes(40) + PNG8[100:], ".png", "damaged"),
        (raw_png(20_000, 20_001, 8, 0), ".png", "200 million"),
        (raw_png(14_000, 15_000, 8, 0), ".png", "200 million"),  # where Pillow only warns
        (png(Image.new("L", (30, 20), 7)), ".png", "one value (7)"),
        (png(Image.new("RGB", (30, 20), (9, 9, 9))), ".png", "one value (9)"),
        (PNG16_CONSTANT, ".png", "one value"),
        (jpeg(np.zeros((20, 30), np.uint8)), ".jpg", "one value (0)"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_unusable_pictures(content, suffix, says):
    assert says in reason(content, suffix)


@pytest.mark.parametrize("content", [PNG8, PNG16, jpeg(COLOUR)], ids=["png", "16 bits", "jpeg"])
def test_damaged_pictures_raise_nothing_else(content):
    """Cut short in 100 places, and bytes of it spoilt 300 times: refused, or a picture of some kind."""
    rng = np.random.default_rng(0)
    whole = grey(content, ".png")
    cuts = [content[:n] for n in range(1, len(content) - 20, max(1, len(content) // 100))]
    broken = []
    for _ in range(300):
        spoilt = bytearray(content)
        for at in rng.integers(0, len(content), 4):
            spoilt[at] = rng.integers(256)
        broken.append(bytes(spoilt))
    refused = 0
    for one in cuts + broken:
        try:
            got = grey(one, ".png")
        except image_files.UnreadableImageError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert one in broken or np.array_equal(got, whole), f"read from {len(one)} of {len(content)} bytes"
    assert refused > 100


# --- DICOM -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_dicom_without_a_window_shows_the_range_of_its_pixels(bits, photometric):
    pixels = RAMP8 if bits == 8 else of_bits(bits)
    shown = pixels if photometric == "MONOCHROME2" else 2**bits - 1 - pixels
    got = grey(dicom(shown, bits=bits, PhotometricInterpretation=photometric), ".DICOM")
    np.testing.assert_allclose(got, RAMP * 255 / RAMP.max(), atol=0.6)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless])
def test_dicom_compressed(syntax):
    def compress(ds):
        if syntax.is_encapsulated:
            ds.compress(syntax, generate_instance_uid=False)

    start = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    np.testing.assert_array_equal(grey(dicom(syntax=start, then=compress)), RAMP8)


@pytest.mark.parametrize(
    ("syntax", "kind", "most"), [(JPEGBaseline8Bit, "JPEG", 3), (JPEG2000Lossless, "JPEG2000", 0)]
)
def test_dicom_in_jpeg(syntax, kind, most):
    """What docs/own_images.md says is read as installed; what is not, is among the broken files below."""
    stream = io.BytesIO()
    Image.fromarray(RAMP8).save(stream, kind)
    got = grey(dicom(then=compressed_as(syntax, stream.getvalue())))
    assert np.abs(got.astype(int) - RAMP8).max() <= most


def test_dicom_in_jpeg_of_12_bits_is_refused():
    content = dicom(of_bits(12), bits=12, then=compressed_as(JPEGExtended12Bit, jpeg(RAMP8)))
    assert reason(content).endswith("export it anew, uncompressed")


def test_dicom_high_bits_that_are_not_stored_are_ignored():
    """Old systems keep overlays in the unused bits."""
    pixels = of_bits(12)
    overlaid = pixels | np.uint16(0x8000) * (RAMP8 % 2)
    np.testing.assert_array_equal(grey(dicom(overlaid, bits=12)), grey(dicom(pixels, bits=12)))


def test_dicom_signed_with_rescale():
    signed = np.int16(of_bits(12).astype(int) - 2048)
    plain = grey(dicom(of_bits(12), bits=12))
    rescaled = dict(RescaleSlope="2.5", RescaleIntercept="-100")
    np.testing.assert_array_equal(grey(dicom(signed, bits=12)), plain)
    np.testing.assert_allclose(grey(dicom(signed, bits=12, **rescaled)), plain, atol=1)
    # the window is in rescaled units: -100 + 2.5 * [-1024, 1024]
    got = grey(dicom(signed, bits=12, WindowCenter="-99.5", WindowWidth="5121", **rescaled))
    np.testing.assert_allclose(got, np.clip((signed + 1024) / 2048, 0, 1) * 255, atol=0.6)


def test_negative_slope_turns_the_picture_over():
    got = grey(dicom(255 - RAMP8, RescaleSlope="-1", RescaleIntercept="255", WindowCenter="128", WindowWidth="256"))
    np.testing.assert_array_equal(got, RAMP8)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("several", [False, True])
def test_dicom_window(several, function, photometric):
    elements = dict(WindowCenter="1500", WindowWidth="120", PhotometricInterpretation=photometric)
    elements |= dict(VOILUTFunction=function) if function else {}
    extra = dict(WindowCenter=["1500", "40"], WindowWidth=["120", "400"]) if several else {}
    pixels = of_bits(12)
    content = dicom(pixels, bits=12, **elements | extra)
    expected = apply_windowing(pixels, pydicom.dcmread(io.BytesIO(dicom(pixels, bits=12, **elements)))) / 4095
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    np.testing.assert_allclose(grey(content), expected * 255, atol=0.6)


@pytest.mark.parametrize(("centre", "width"), [("", ""), ("2000", ""), ("2000", "0"), ("2000", "1"), ("", "900")])
def test_dicom_window_that_is_none(centre, width):
    pixels = of_bits(12)
    got = grey(dicom(pixels, bits=12, WindowCenter=centre, WindowWidth=width))
    np.testing.assert_array_equal(got, grey(dicom(pixels, bits=12)))


@pytest.mark.parametrize("rescale", [{}, dict(RescaleSlope="1", RescaleIntercept="0")])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_dicom_voi_look_up_table(vr, photometric, rescale):
    """The table, here a square, comes before the window."""
    table = np.uint16(np.arange(4096) ** 2 // 4096)

    def add(ds):
        item = Dataset()
        item.LUTDescriptor = [4096, 0, 12]
        item.add_new("LUTData", vr, table.tobytes() if vr == "OW" else table.tolist())
        ds.VOILUTSequence = [item]

    elements = dict(WindowCenter="1", WindowWidth="2", PhotometricInterpretation=photometric, **rescale)
    got = grey(dicom(of_bits(12), bits=12, then=add, **elements))
    expected = np.square(RAMP / RAMP.max()) * 255
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    np.testing.assert_allclose(got, expected, atol=0.7)


def palette_colour(ds):
    ds.PhotometricInterpretation = "PALETTE COLOR"
    entries = 257 * (255 - np.arange(256, dtype=np.uint16))
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", entries.tobytes())


def ybr(ds):
    colours = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    ds.PhotometricInterpretation, ds.PixelData = "YBR_FULL", colours.tobytes()


@pytest.mark.parametrize(
    ("content", "expected", "atol"),
    [
        (dicom(np.stack([RAMP8] * 3, -1)), RAMP8, 0),
        (dicom(COLOUR), COLOUR @ [0.299, 0.587, 0.114], 0.6),
        (dicom(COLOUR, then=ybr), COLOUR @ [0.299, 0.587, 0.114], 1.6),
        (dicom(255 - RAMP8, then=palette_colour), RAMP8, 0),
    ],
    ids=["RGB grey", "RGB", "YBR_FULL", "PALETTE COLOR"],
)
def test_dicom_in_colour_is_read_as_a_colour_png(content, expected, atol):
    np.testing.assert_allclose(grey(content), expected, atol=atol)


def without_meta(name):
    """A DICOM file whose file meta lacks an element."""
    dataset = pydicom.dcmread(io.BytesIO(dicom()))
    delattr(dataset.file_meta, name)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return stream.getvalue()


def bad_voi(ds):
    ds.VOILUTSequence = [Dataset()]


def two_frames(ds):
    ds.NumberOfFrames, ds.PixelData = 2, RAMP8.tobytes() * 2


def unknown_compression(ds):
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" + bytes(60)])


FILE = dicom()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Impression: no pneumothorax.\n" * 50, "not a DICOM file"),
        (PNG8, "not a DICOM file"),
        (FILE[132:], "not a DICOM file"),  # no preamble
        (FILE[:136], "no pixels"),
        (FILE[:142], "truncated"),
        (FILE[:-100], "pixels cannot be decoded"),
        (without_meta("TransferSyntaxUID"), "pixels cannot be decoded"),
        (dicom(PixelData=None), "no pixels"),
        (dicom(then=two_frames), "2 frames"),
        (dicom(Rows=None), "pixels cannot be decoded"),
        (dicom(Rows=60_000, Columns=60_000), "200 million"),
        (dicom(BitsAllocated=12), "pixels cannot be decoded"),
        (dicom(PhotometricInterpretation=None), "pixels cannot be decoded"),
        (dicom(then=bad_voi), "pixels cannot be decoded"),
        (dicom(then=unknown_compression), "pixels cannot be decoded"),
        (dicom(PhotometricInterpretation="PALETTE COLOR"), "pixels cannot be decoded"),
        (dicom(np.full((8, 9), 77, np.uint8)), "one value (77)"),
        (dicom(WindowCenter="5000", WindowWidth="10"), "one value (0)"),
        (dicom(RescaleSlope="0", RescaleIntercept="3"), "one value (3)"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_unusable_dicom(content, says):
    assert says in reason(content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["NumberOfFrames", "WindowWidth", "RescaleSlope", "BitsStored", "Rows"])
def test_dicom_elements_that_make_no_sense(name):
    """The text of an element replaced where it lies in the file."""
    content = dicom(
        NumberOfFrames="1", WindowCenter="128", WindowWidth="256", RescaleSlope="10", RescaleIntercept="0"
    )
    tag = struct.pack("<HH", *divmod(int(pydicom.datadict.tag_for_keyword(name)), 65536))
    at = content.index(tag) + 8
    length = struct.unpack("<H", content[at - 2 : at])[0]
    grey(content)
    assert "cannot be decoded" in reason(content[:at] + b"\xe9" * length + content[at + length :])


@pytest.mark.filterwarnings("ignore")
def test_damaged_dicom_raises_nothing_else():
    """Cut short everywhere, and 600 times with header bytes spoilt."""
    rng = np.random.default_rng(1)
    content = dicom(
        of_bits(12),
        bits=12,
        WindowCenter=["1500", "40"],
        WindowWidth=["1200", "400"],
        RescaleSlope="1",
        RescaleIntercept="0",
    )
    header = len(content) - RAMP.size * 2
    broken = [content[:n] for n in range(1, len(content), 7)]
    for _ in range(600):
        spoilt = bytearray(content)
        for at in rng.integers(128, header, 3):
            spoilt[at] = rng.integers(256)
        broken.append(bytes(spoilt))
    refused = 0
    for one in broken:
        try:
            grey(one)
        except image_files.UnreadableImageError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 300


# --- fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "size_px"),
    [
        (1024, 1024, 256),
        (2500, 2048, 224),
        (600, 1000, 128),
        (1000, 333, 128),
        (64, 64, 64),
        (64, 48, 64),
        (40, 60, 256),
        (61, 33, 200),
    ],
    ids=str,
)
def test_fit_says_where_things_went(width, height, size_px):
    """A bright dot is found again where scale, left and top say; the shape is kept, the rest is black."""
    x, y = 0.7 * width, 0.2 * height
    radius = max(2.5, 2 / (size_px / max(width, height)))
    yy, xx = np.ogrid[:height, :width]
    picture = np.where(np.hypot(xx + 0.5 - x, yy + 0.5 - y) < radius, 255, 60).astype(np.uint8)
    square, scale, left, top = image_files.fit(Image.fromarray(picture), size_px)
    assert square.shape == (size_px, size_px) and square.dtype == np.uint8
    bright = np.where(square > 60, square.astype(float) - 60, 0)
    found_y, found_x = (np.indices(square.shape) + 0.5).reshape(2, -1) @ bright.ravel() / bright.sum()
    assert (found_x, found_y) == pytest.approx((x * scale + left, y * scale + top), abs=0.75)
    filled = np.argwhere(square > 0)
    shown_height, shown_width = filled.max(0) - filled.min(0) + 1
    assert scale == pytest.approx(size_px / max(width, height))
    assert (shown_width, shown_height) == (round(width * scale), round(height * scale))
    assert tuple(filled.min(0)) == (top, left)
    assert max(shown_width, shown_height) == size_px and min(left, top) == 0


def test_fit_leaves_a_picture_of_the_right_size_alone():
    pixels = np.uint8(np.arange(32 * 32).reshape(32, 32) % 256)
    square, *where = image_files.fit(Image.fromarray(pixels), 32)
    np.testing.assert_array_equal(square, pixels)
    assert where == [1.0, 0, 0]


def test_fit_a_thread():
    square, _, left, top = image_files.fit(Image.new("L", (4000, 1), 200), 64)
    assert (square == 200).sum() == 64 and (left, top) == (0, 31)
