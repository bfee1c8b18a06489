"""Images in and out: every file becomes a (3, H, W) tensor in [-1, 1]."""

import math
import struct
import warnings
from contextlib import ExitStack, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from vartutor.errors import UserError, first_line
from vartutor.paths import whole

MAX_PIXELS = 2**27  # 134 megapixels: 0.4 GB, and 1.6 GB as a float tensor

HEIC = (".heic", ".heif", ".hif")
with suppress(ImportError):
    import_module("pillow_heif").register_heif_opener()

# What Pillow's decoders raise for a broken file depends on the format and on where it is broken.
DECODER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, TypeError, LookupError, struct.error)


def read_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """One image file as (3, H, W) float32 in [-1, 1]; see :func:`read_pixels`."""
    return to_float(read_pixels(source, max_pixels=max_pixels))


def read_pixels(source: Any, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read one image as RGB, in a quarter of the memory that floats take.

    Handles gray, palette, CMYK and 16-bit files, and honours the EXIF orientation. Transparent pixels
    are laid over white. Of an animation the first frame is read. A colour profile is heeded.

    Args:
        source: a path, a binary file object, or a Pillow image.
        max_pixels: refuse larger images instead of filling the memory.

    Returns:
        (3, H, W) uint8; of a file with 16 bits, float32 in [-1, 1].

    Raises:
        UserError: missing, unreadable, truncated, floating-point or too large; the line says which.
    """
    given = source if isinstance(source, (str, Path)) else getattr(source, "filename", getattr(source, "name", ""))
    name = given or "image"
    try:
        # Pillow warns of damaged metadata, and of size from 89 megapixels on; the limit below decides instead.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as image:
                if image.width * image.height > max_pixels:
                    raise Image.DecompressionBombError
                return pixels_of(image)
    except Image.DecompressionBombError:
        limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))  # Pillow has one of its own
        raise UserError(f"{name}: more than {limit / 1e6:.0f} megapixels: shrink or cut it first") from None
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except DECODER_ERRORS as error:
        if Path(str(name)).suffix.lower() in HEIC and ".heic" not in Image.registered_extensions():
            raise UserError(f"{name}: HEIC is read after pip install pillow-heif; or save it as JPEG") from None
        raise UserError(f"{name}: not a readable image ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    # Pillow ends its message with the file's name or object, which our own line says already.
    return getattr(error, "strerror", None) or first_line(error).split(" '")[0].split(" <")[0]


def from_pil(image: Image.Image) -> Tensor:
    """Pillow image -> (3, H, W) float32 in [-1, 1]; modes as in :func:`read_pixels`."""
    return read_image(image, max_pixels=image.width * image.height)


def pixels_of(image: Image.Image) -> Tensor:
    """Pillow image -> (3, H, W) uint8, or float32 in [-1, 1] if it has 16 bits; modes as in :func:`read_pixels`.

    Raises:
        UserError: without pixels, floating-point, or integers beyond 16 bits.
    """
    if not image.width * image.height:
        raise UserError("an image without pixels")
    if image.mode == "F":
        raise UserError("floating-point image with an unknown range: save it with 8 or 16 bits first")
    if image.info.keys() & {"icc_profile", "transparency"}:
        from vartutor.data.metadata import heed  # no photo of the course has either

        image = heed(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float32)
        if gray.max() > 65535 or gray.min() < 0:
            raise UserError("integers outside 0..65535: save it with 8 or 16 bits first")
        gray[gray == image.info.get("transparency", -1)] = 65535
        return torch.from_numpy(gray / 32767.5 - 1).expand(3, -1, -1).contiguous()
    if image.has_transparency_data:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow knows no shorter way
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def check_floats(x: Tensor) -> Tensor:
    """An image of any shape, as it is; ``UserError`` if it has whole numbers. No device is waited for."""
    if not x.is_floating_point():
        raise UserError(f"an image of {x.dtype}: give floats in [-1, 1], such as from_uint8 makes of 0..255")
    return x


def check_image(x: Tensor, reach: float = 2.0) -> Tensor:
    """An image of any shape, as it is; bicubic enlargement leaves it below 1.9.

    ``UserError`` if it has whole numbers; on a CPU, as a GPU would have to be waited for, also if it has NaN, infinity,
    or values beyond the reach.
    """
    look = check_floats(x).numel() and x.device.type == "cpu" and type(x) is Tensor  # plans count with fake ones
    low, high = (end.item() for end in x.detach().aminmax()) if look else (0.0, 0.0)
    if not math.isfinite(high - low):
        raise UserError("an image with NaN or infinity in it: something went wrong where it was made")
    if max(-low, high) > reach:
        raise UserError(f"an image with values from {low:g} to {high:g}: give them in [-1, 1]")
    return x


def to_pil(x: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1] -> Pillow RGB image, clamped and rounded; ``UserError`` as in :func:`to_uint8`."""
    return Image.fromarray(to_uint8(x).permute(1, 2, 0).contiguous().cpu().numpy())


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255, any shape: scale, round to nearest, clamp; ``UserError`` if it is far from that, or none."""
    return check_image(x, reach=10).detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """0..255 -> float32 in [-1, 1], any shape."""
    return x.float().div(127.5).sub(1)


def to_float(pixels: Tensor) -> Tensor:
    """(3, H, W) uint8 -> float32 in [-1, 1]; what is floating-point already stays as it is."""
    return from_uint8(pixels) if pixels.dtype == torch.uint8 else pixels


def write_image(path: str | Path, x: Tensor) -> None:
    """Write (3, H, W) in [-1, 1], as :func:`write_images` does."""
    write_images({Path(path): to_pil(x)})


def write_images(images: dict[Path, Image.Image], **options) -> None:
    """Write Pillow images; the suffix chooses the format. A stopped write leaves none of them, and no half file.

    Args:
        options: as for Pillow's ``save``.

    Raises:
        UserError: the folder is missing, the disk is full, or the suffix is unknown.
    """
    try:
        with ExitStack() as stack:
            for path, image in images.items():
                with open(stack.enter_context(whole(path)), "wb") as file:
                    image.save(file, format=Image.registered_extensions().get(path.suffix.lower()), **options)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from None


def resize(x: Tensor, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Resample (B, 3, H, W) to ``size`` = (height, width) with antialiasing, as Pillow does.

    ``mode`` is ``bicubic``, ``bilinear`` or ``area``. Bicubic may overshoot the input's range; clamp if that matters.
    """
    options = {} if mode == "area" else {"antialias": True, "align_corners": False}
    return F.interpolate(check_floats(x), size=size, mode=mode, **options)
