"""What a file says of its pixels: a level that means transparent, and a profile of its colours, which become sRGB."""

import io

import numpy as np
from PIL import Image, ImageCms, ImageOps

GRAYS = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")


def heed(image: Image.Image) -> Image.Image:
    """An image whose transparent level fits its pixels, and with a profile the image in sRGB, upright."""
    _mend_key(image)
    return to_srgb(ImageOps.exif_transpose(image)) if image.info.get("icc_profile") else image


def _mend_key(image: Image.Image) -> None:
    """Pillow scales the levels of shallow and deep PNG files to 8 bits, but not the level that means transparent."""
    key, raw = image.info.get("transparency"), image.tile[0][3] if getattr(image, "tile", ()) else None
    if raw == "RGB;16B" and key:
        image.info["transparency"] = tuple(level >> 8 for level in key)
    elif raw in ("L;2", "L;4") and key is not None and key < (step := 85 if raw == "L;2" else 17):
        image.info["transparency"] = key * step


def to_srgb(image: Image.Image) -> Image.Image:
    """An image with a colour profile as RGB, RGBA or 16-bit gray in sRGB.

    As it is if its profile is sRGB's own, cannot be read, or is for another kind of image: so browsers take it, too.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        space = profile.profile.xcolor_space.strip()
        if space != {"CMYK": "CMYK"}.get(image.mode, "GRAY" if image.mode in GRAYS else "RGB"):
            return image
        if image.mode.startswith("I"):
            return _deep_gray(image, profile)
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        colors = _converted(image.convert("L" if space == "GRAY" else space), profile)
    except (ImageCms.PyCMSError, OSError):
        return image
    if alpha is not None:
        colors.putalpha(alpha)
    return colors


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")


def _deep_gray(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """The library converts 8 bits only: the others lie between."""
    levels = np.arange(256, dtype=np.uint8)
    table = np.asarray(_converted(Image.fromarray(levels[None]), profile))[0, :, 1] * 257.0
    values = np.asarray(image)
    gray = np.interp(values, levels * 257.0, table).round()
    return Image.fromarray(np.where(values == image.info.get("transparency"), 65535, gray).astype(np.uint16))
