"""Every kind of picture does the right thing or is refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from dmzcli.data.formats.picture import decode
from dmzcli.errors import UserError


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(image, kind="PNG", **options):
    return decode(encoded(image, kind, **options), "x")[0]


def one(mode, value):
    return Image.new(mode, (3, 2), value)


@pytest.mark.parametrize(
    ("image", "kind", "pixel"),
    [
        (one("L", 7), "PNG", [7]),
        (one("RGB", (1, 2, 3)), "PNG", [1, 2, 3]),
        (one("RGB", (9, 9, 9)), "PNG", [9, 9, 9]),
        (one("1", 1), "PNG", [255]),
        (one("L", 7), "PPM", [7]),
        (one("RGB", (1, 2, 3)), "PPM", [1, 2, 3]),
        (one("RGB", (1, 2, 3)), "BMP", [1, 2, 3]),
        (one("RGB", (1, 2, 3)), "TIFF", [1, 2, 3]),
        (one("RGB", (255, 0, 0)), "GIF", [255, 0, 0]),
        (one("L", 7), "GIF", [7]),
        (one("RGBA", (10, 20, 30, 255)), "PNG", [10, 20, 30]),
        (one("RGBA", (10, 20, 30, 0)), "PNG", [255, 255, 255]),
        (one("LA", (0, 0)), "PNG", [255]),
        (one("LA", (40, 255)), "PNG", [40]),
        (one("I;16", 0x1234), "PNG", [0x12]),
        (one("I;16", 0xFFFF), "TIFF", [255]),
        (one("CMYK", (0, 255, 255, 0)), "TIFF", [255, 0, 0]),
    ],
)
def test_modes(image, kind, pixel):
    pixels = decoded(image, kind)
    assert pixels.shape == (2, 3, len(pixel)) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.broadcast_to(pixel, pixels.shape))


def test_palettes():
    colour = Image.new("P", (4, 4), 1)
    colour.putpalette([0, 0, 0, 200, 100, 50])
    np.testing.assert_array_equal(decoded(colour)[0, 0], [200, 100, 50])
    grey = Image.new("P", (4, 4), 1)
    grey.putpalette([0, 0, 0, 80, 80, 80])
    np.testing.assert_array_equal(decoded(grey)[0, 0], [80])
    assert (decoded(colour, transparency=1) == 255).all()


def test_exif_orientation_is_applied():
    pixels = np.zeros((2, 4), np.uint8)
    pixels[0, 0] = 255  # upper left as stored; orientation 6 turns it to the upper right
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decoded(Image.fromarray(pixels), "PNG", exif=exif)
    assert upright.shape == (4, 2, 1) and upright[0, 1] == 255 and upright.sum() == 255


def test_jpeg_is_lossy_and_png_is_not():
    image = one("RGB", (90, 90, 90))
    assert decode(encoded(image, "JPEG"), "x")[1]
    assert not decode(encoded(image, "PNG"), "x")[1]
    assert decode(encoded(image, "WEBP"), "x")[1]
    assert not decode(encoded(image, "WEBP", lossless=True), "x")[1]
    assert decoded(one("CMYK", (0, 0, 0, 0)), "JPEG")[0, 0].tolist() == [255, 255, 255]


def test_sixteen_bit_colour_keeps_its_high_bytes():
    """A PNG of two RGB pixels of 16 bits, chunk by chunk: Pillow cannot write one."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0x80FF)
    head = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert decode(data, "x")[0].tolist() == [[[0x12, 0x56, 0x9A], [0xFF, 0, 0x80]]]


def test_refused_kinds():
    for image, kind, sentence in (
        (one("F", 0.5), "TIFF", "a/x has pixels of Pillow's mode 'F'"),
        (one("I", 70_000), "TIFF", "a/x has pixels of Pillow's mode 'I'"),
        (one("LAB", (1, 2, 3)), "TIFF", "a/x has pixels of Pillow's mode 'LAB'"),
    ):
        with pytest.raises(UserError, match=sentence):
            decode(encoded(image, kind), "a/x")
    frames = encoded(one("L", 0), "GIF", save_all=True, append_images=[one("L", 200)])
    with pytest.raises(UserError, match="a/x is an animation of several pictures"):
        decode(frames, "a/x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF"])
def test_truncated_pictures(kind):
    noise = np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UserError, match=r"a/x is (truncated or damaged|damaged, or)"):
        decode(data[: len(data) // 2], "a/x")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "a/x is empty"),
        (b"<html>", "a/x is damaged, or not a picture"),
        (b"\x89PNG\r\n\x1a\n", "a/x is"),
    ],
)
def test_foreign_pictures(data, sentence):
    with pytest.raises(UserError, match=sentence):
        decode(data, "a/x")
