"""Photographs under free licences: each is fetched from where it is published, and shrunk to what models trained on."""

import csv
import io
from hashlib import sha256
from pathlib import Path

from PIL import Image, ImageCms, ImageOps
from tqdm import tqdm

from vartutor.data.images import DECODER_ERRORS
from vartutor.errors import UserError, first_line
from vartutor.paths import assets, make_folder, sha256_of, whole
from vartutor.workshop.download import download

LISTED = "photos_commons.csv"  # file, licence, author, page, url, cut, and the sha256 of the shrunk photo
SHORT = 512  # pixels of the short side


def read_list() -> list[dict[str, str]]:
    """The rows of the list in ``assets``."""
    with open(assets() / LISTED, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shrink_file(content: bytes, cut: str = "") -> bytes:
    """An image file -> a JPEG file with a short side of ``SHORT`` pixels, in sRGB.

    Args:
        cut: ``2:1`` takes the middle of a photo that is wider than that.

    Raises:
        UserError: not a readable image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            profile, image = image.info.get("icc_profile"), ImageOps.exif_transpose(image)
            if profile and image.mode == "RGB":
                own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                image = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
            image = image.convert("RGB")
    except (*DECODER_ERRORS, ImageCms.PyCMSError) as error:
        raise UserError(f"not a readable image ({first_line(error)})") from None
    if cut == "2:1":
        left = (image.width - 2 * image.height) // 2
        image = image.crop((left, 0, left + 2 * image.height, image.height))
    factor = SHORT / min(image.size)
    size = tuple(round(side * factor) for side in image.size)
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=92, subsampling=0, optimize=True)
    return buffer.getvalue()


def fetch_listed(rows: list[dict[str, str]], folder: Path) -> str:
    """Fetch and shrink photos that are not there yet, each checked against the list; goes on where it stopped.

    Returns:
        what could not be had, in a few words, or nothing.

    Raises:
        UserError: no photo at all could be had, or the disk is full.
    """
    make_folder(folder)
    missing = []
    for row in tqdm(rows, unit="photo", disable=None):
        path, raw = folder / row["file"], folder.with_name(f"{folder.name}-originals") / row["file"]
        if path.is_file() and sha256_of(path) == row["sha256"]:
            continue
        try:
            content = shrink_file(download(row["url"], raw).read_bytes(), row["cut"])
            if sha256(content).hexdigest() != row["sha256"]:
                raise UserError(f"{row['url']}: not the photo that the list names")
        except UserError as error:
            missing.append(str(error))
            continue
        with whole(path) as part:
            part.write_bytes(content)
        raw.unlink()
    if len(missing) == len(rows):
        raise UserError(missing[0])
    return f"{len(missing)} of {len(rows)} photos could not be had, the first: {missing[0]}" if missing else ""
