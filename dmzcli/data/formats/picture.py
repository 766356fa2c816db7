"""One picture file's bytes ↦ uint8 H×W×C, upright; or a refusal that names the file.

What each kind of picture becomes:

- EXIF orientation is applied;
- black and white, gray, 16-bit gray (its high byte) and palettes of grays become gray, C = 1;
- color and other palettes become RGB, C = 3; CMYK and YCbCr are converted by Pillow without a profile;
- transparency is composited on white;
- animations, 32-bit and floating-point values, and Lab or HSV colors are refused.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from dmzcli.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"}
)
UNREAD = frozenset({".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".exr", ".svg", ".dng", ".tga"})
PIXELS = 1 << 26
"""Most pixels of a picture, 8192×8192: a file of some kilobytes can announce any number."""
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM", "TIFF")  # MPO opens as JPEG
_CONVERT = "convert it to an 8-bit PNG, or remove it"
_ORIENTATION = 0x0112


def decode(data: bytes, name: str, most: int = PIXELS) -> tuple[np.ndarray, bool]:
    """Decodes one picture.

    Arguments:
        data: The file's bytes.
        name: The file's name in errors.
        most: Most pixels that are read.

    Returns:
        uint8, shape (H, W, C), C in {1, 3}; and whether its format is lossy (JPEG, lossy WebP).

    Raises:
        UserError: The picture is truncated, foreign, or of a kind that is refused.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise UserError(f"{name} is an animation of several pictures", "save one of them as PNG")
            if image.width * image.height > most:
                raise _too_many(name, most)
            image.load()
            lossy = image.format in ("JPEG", "MPO") or (image.format == "WEBP" and b"VP8L" not in data[:64])
            return _pixels(_upright(image), name), lossy
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # of three times as many
        raise _too_many(name, most) from error
    except Image.UnidentifiedImageError as error:
        what = "is empty" if not data else "is damaged, or not a picture of a kind that is read"
        raise UserError(f"{name} {what}", _CONVERT) from error
    except Exception as error:  # damaged bytes make Pillow's decoders raise exceptions of any type
        raise UserError(
            f"{name} is truncated or damaged: {error}", "restore the file, or remove it"
        ) from error


def _too_many(name: str, most: int) -> UserError:
    return UserError(f"{name} has more than {most:,} pixels, the most that is read", "make it smaller")


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    mode = image.mode
    if mode in ("L", "RGB") and "transparency" not in image.info:
        pixels = np.asarray(image)
        return pixels[..., None] if mode == "L" else pixels
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        return (np.asarray(image) >> 8).astype(np.uint8)[..., None]
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        color = np.asarray(_on_white(image))
        gray = mode in ("1", "L", "LA", "La")
    elif mode in ("1", "P", "RGBX", "CMYK", "YCbCr"):
        color = np.asarray(image.convert("RGB"))
        gray = mode == "1"
    else:
        raise UserError(f"{name} has pixels of Pillow's mode '{mode}', which are not read", _CONVERT)
    if gray or (mode in ("P", "PA") and (color == color[..., :1]).all()):
        return color[..., :1]
    return color


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")
