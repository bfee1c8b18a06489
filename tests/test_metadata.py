"""Colour profiles: what a file means is what is read, within a few levels."""

import struct

import numpy as np
import pytest
from PIL import Image

from vartutor.data.images import read_image, read_pixels, to_uint8

WHITE = np.array([0.9642, 1.0, 0.8249])  # D50, the profile's own
SRGB, P3 = ([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)], [(0.68, 0.32), (0.265, 0.69), (0.15, 0.06)])
ADOBE = [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)]
COLORS = [[[200, 30, 40], [30, 160, 60], [40, 60, 200]], [[230, 180, 150], [128, 128, 128], [250, 210, 40]]]
BLOCKS = np.kron(np.array(COLORS, np.uint8), np.ones((8, 8, 1), np.uint8))


def matrix(primaries):
    """RGB -> XYZ under D50, adapted from D65 after Bradford."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    d65 = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    return np.linalg.inv(cone) @ np.diag((cone @ WHITE) / (cone @ d65)) @ cone @ (xyz * np.linalg.solve(xyz, d65))


def profile(primaries=None, gamma=2.2, name="by hand"):
    """A profile of three colours, or of gray, whose light is the value to the power of gamma."""
    trc = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    vectors = [WHITE] if primaries is None else [WHITE, *matrix(primaries).T]
    points = [b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(c * 65536)) for c in v) for v in vectors]
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" * (80 - len(name))
    tags = [(b"desc", text), *zip((b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ"), points, strict=False)]
    tags += [(key, trc) for key in ((b"kTRC",) if primaries is None else (b"rTRC", b"gTRC", b"bTRC"))]
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for key, data in tags:
        table += key + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    space = b"GRAY" if primaries is None else b"RGB "
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02400000, b"mntr", space, b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(struct.pack(">i", round(c * 65536)) for c in WHITE)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def light(levels):
    x = np.asarray(levels, float) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def stored(levels, primaries, gamma=2.2):
    """What a file in these colours holds where sRGB has ``levels``."""
    linear = light(levels) @ (np.linalg.inv(matrix(primaries)) @ matrix(SRGB)).T
    return np.round(255 * np.clip(linear, 0, 1) ** (1 / gamma)).astype(np.uint8)


def read(path):
    return to_uint8(read_image(path)).permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("primaries", [P3, ADOBE], ids=["p3", "adobe"])
@pytest.mark.parametrize("kind", ["rgb.png", "rgba.png", "palette.png", "photo.jpg", "lossless.webp", "rgb.tif"])
def test_wide_colours_are_read_as_srgb(tmp_path, primaries, kind):
    image, options = Image.fromarray(stored(BLOCKS, primaries)), {"lossless": True} if "webp" in kind else {}
    if kind == "rgba.png":
        image.putalpha(Image.fromarray(np.where(np.arange(24) < 4, 0, 255).astype(np.uint8)[None].repeat(16, 0)))
    if kind == "palette.png":
        image = image.quantize(8)
    if kind == "photo.jpg":
        options = {"quality": 98, "subsampling": 0}
    image.save(tmp_path / kind, icc_profile=profile(primaries), **options)
    expected = BLOCKS.astype(int)
    if kind == "rgba.png":
        expected[:, :4] = 255  # what is transparent lies over white
    assert np.abs(read(tmp_path / kind) - expected).max() <= 3  # the file has 8 bits, too


@pytest.mark.parametrize("bits", [8, 16])
def test_gray_follows_its_own_curve(tmp_path, bits):
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    linear = light(levels)  # gamma 1: the file holds light itself
    gray = np.round(linear * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png", icc_profile=profile(gamma=1.0))
    found = read(tmp_path / "gray.png")
    assert (found == found[..., :1]).all()
    bright = levels > 60  # below, 8 bits of light are too few
    assert np.abs(found[..., 0] - levels)[bright].max() <= 3


def test_profiles_that_say_nothing_change_nothing(tmp_path):
    """sRGB's own, a broken one, and one of another kind than the image."""
    sayings = [profile(P3, name="sRGB IEC61966-2.1"), b"no profile", profile(P3)[:140], profile()]
    for k, icc in enumerate(sayings):
        Image.fromarray(BLOCKS).save(tmp_path / f"{k}.png", icc_profile=icc)
        assert np.array_equal(read_pixels(tmp_path / f"{k}.png").permute(1, 2, 0).numpy(), BLOCKS)
