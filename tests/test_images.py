import gc
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vartutor.data.images import (
    check_image,
    from_pil,
    from_uint8,
    read_image,
    read_pixels,
    resize,
    to_pil,
    to_uint8,
    write_image,
)
from vartutor.errors import UserError

# Four corners of different colours on a wider-than-high image: any flip or rotation shows.
BLOCKS = np.array(
    [[[250, 20, 30], [30, 240, 40], [128, 128, 128]], [[20, 40, 230], [240, 230, 20], [0, 0, 0]]], np.uint8
)
RGB = np.kron(BLOCKS, np.ones((16, 16, 1), np.uint8))
GRAY = np.arange(48 * 32, dtype=np.uint32).reshape(32, 48)


def quiet_read(source, **options):
    """read_image, with every warning an error, unclosed files included."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = read_image(source, **options)
        gc.collect()
    assert x.dtype == torch.float32
    assert x.ndim == 3
    assert len(x) == 3
    assert x.min() >= -1
    assert x.max() <= 1
    return x


def levels(x):
    return to_uint8(x).permute(1, 2, 0).numpy()


def stack(*planes):
    return np.stack([np.broadcast_to(plane, planes[0].shape) for plane in planes], -1)


def over_white(rgb, alpha):
    return rgb * (alpha / 255) + 255 * (1 - alpha / 255)


L8 = (GRAY % 256).astype(np.uint8)
ALPHA = np.broadcast_to(np.linspace(0, 255, 48).astype(np.uint8), (32, 48))
RGBA = Image.fromarray(np.dstack([RGB, ALPHA]))
PALETTE = Image.fromarray(RGB).quantize(8)
INDEX = np.asarray(PALETTE)
FIRST = INDEX[0, 0]

# name: (what to save, options, expected levels, tolerance in levels)
ZOO = {
    "rgb.png": (Image.fromarray(RGB), {}, RGB, 0),
    "rgb.bmp": (Image.fromarray(RGB), {}, RGB, 0),
    "rgb.tif": (Image.fromarray(RGB), {"compression": "tiff_lzw"}, RGB, 0),
    "rgb.webp": (Image.fromarray(RGB), {"lossless": True}, RGB, 0),
    "l.png": (Image.fromarray(L8), {}, stack(L8, L8, L8), 0),
    "bilevel.png": (Image.fromarray(L8 > 99), {}, stack(*[(L8 > 99) * 255] * 3), 0),
    "palette.png": (PALETTE, {}, RGB, 1),
    "palette_hole.png": (PALETTE, {"transparency": int(FIRST)}, np.where((INDEX == FIRST)[..., None], 255, RGB), 1),
    "palette_alpha.png": (PALETTE, {"transparency": bytes([128] * 8)}, over_white(RGB, 128), 2),
    "la.png": (Image.fromarray(np.stack([L8, ALPHA], -1), "LA"), {}, stack(*[over_white(L8, ALPHA)] * 3), 1),
    "rgba.png": (RGBA, {}, over_white(RGB, ALPHA[..., None]), 1),
    "rgba.webp": (RGBA, {"lossless": True, "exact": True}, over_white(RGB, ALPHA[..., None]), 1),
    "cmyk.jpg": (Image.fromarray(RGB).convert("CMYK"), {"quality": 100}, RGB, 4),
    "ycbcr.jpg": (Image.fromarray(RGB).convert("YCbCr"), {"quality": 100, "subsampling": 0}, RGB, 4),
    "gray.jpg": (Image.fromarray(np.full((9, 7), 77, np.uint8)), {}, np.full((9, 7, 3), 77), 1),
    "one.png": (Image.fromarray(RGB[:1, :1]), {}, RGB[:1, :1], 0),
    "one.jpg": (Image.fromarray(RGB[:1, :1]), {"quality": 100}, RGB[:1, :1], 4),
    "strip.png": (Image.fromarray(RGB[:1]), {}, RGB[:1], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
def test_read_gives_the_right_levels(tmp_path, name):
    image, options, expected, tolerance = ZOO[name]
    image.save(tmp_path / name, **options)
    read = levels(quiet_read(tmp_path / name))
    assert read.shape == expected.shape
    assert np.abs(read - expected.astype(float)).max() <= tolerance + 0.5 * (tolerance > 0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    gray = (GRAY * 40).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / f"gray.{suffix}")
    x = quiet_read(tmp_path / f"gray.{suffix}")
    assert torch.equal(x[0], x[1])
    assert np.allclose((x[2].double().numpy() + 1) * 32767.5, gray, atol=0.01)


def test_32_bit_integers(tmp_path, raises_user_error):
    Image.fromarray((GRAY * 40).astype(np.int32)).save(tmp_path / "i.tif")
    assert np.allclose((quiet_read(tmp_path / "i.tif")[0].double().numpy() + 1) * 32767.5, GRAY * 40, atol=0.01)
    for name, shift in (("negative.tif", -1), ("large.tif", 70000)):
        Image.fromarray((GRAY + np.int64(shift)).astype(np.int32)).save(tmp_path / name)
        with raises_user_error(name, "outside 0..65535"):
            quiet_read(tmp_path / name)


def test_floating_point_is_refused(tmp_path, raises_user_error):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    with raises_user_error("float.tif", "floating-point"):
        quiet_read(tmp_path / "float.tif")


# The stored array from the upright one, after the meaning of each value in the EXIF standard.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](RGB))
    Image.fromarray(stored).save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    read = levels(quiet_read(tmp_path / "turned.jpg"))
    assert read.shape == RGB.shape
    assert np.abs(read - RGB.astype(float)).max() <= 4
    with Image.open(tmp_path / "turned.jpg") as image:  # a Pillow image is its file's equal
        assert np.array_equal(levels(from_pil(image)), read)
        assert np.array_equal(levels(read_image(image)), read)


def png(depth, kind, row, key):
    """One row as a PNG file of any depth; gray is kind 0, RGB 2. Pillow writes neither shallow files nor keys."""
    bits = "".join(f"{value:0{depth}b}" for value in np.ravel(row))
    data = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    head = struct.pack(">IIBBBBB", len(row), 1, depth, kind, 0, 0, 0)
    key = struct.pack(f">{np.size(key)}H", *np.ravel(key))
    chunks = ((b"IHDR", head), (b"tRNS", key), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_level_of_gray_is_white(depth):
    top = 2**depth - 1
    row = np.arange(8) % (top + 1) if depth < 8 else np.arange(8) * (top // 9)
    for key in sorted(set(row.tolist())):
        expected = np.where(row == key, 255, np.round(row * (255 / top)))
        assert np.array_equal(levels(quiet_read(png(depth, 0, row, key)))[0, :, 1], expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_white(depth):
    row = np.array([[10, 20, 30], [200, 20, 30], [0, 0, 0]]) * (1 if depth == 8 else 257)
    read = levels(quiet_read(png(depth, 2, row, row[1])))
    assert np.array_equal(read[0], [[10, 20, 30], [255, 255, 255], [0, 0, 0]])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (255, 0, 128)]
    path = tmp_path / f"moving.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    assert np.abs(levels(quiet_read(path)) - 255.0).max() <= 2


def test_damaged_metadata_is_no_noise(tmp_path):
    for k, exif in enumerate(
        (b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff")
    ):
        Image.fromarray(RGB).save(tmp_path / f"{k}.jpg", exif=exif)
        assert quiet_read(tmp_path / f"{k}.jpg").shape == (3, 32, 48)


def encoded(fmt, **options):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, fmt, **options)
    return buffer.getvalue()


BROKEN = {
    "truncated.jpg": lambda: encoded("JPEG")[:2000],
    "header_only.jpg": lambda: encoded("JPEG")[:100],
    "truncated.png": lambda: encoded("PNG")[:5000],
    "truncated.gif": lambda: encoded("GIF")[:2000],
    "truncated.webp": lambda: encoded("WEBP")[:1000],
    "truncated.tif": lambda: encoded("TIFF")[:3000],
    "bad_exif.png": lambda: encoded("PNG", exif=b"Exif\0\0MM\0*"),
    "empty.jpg": lambda: b"",
    "text.jpg": lambda: b"this is no picture\nbut two lines of text\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_line(tmp_path, raises_user_error, name):
    (tmp_path / name).write_bytes(BROKEN[name]())
    with raises_user_error(name, "not a readable image"):
        quiet_read(tmp_path / name)


def test_random_damage_gives_one_line_or_an_image():
    rng = np.random.default_rng(0)
    for fmt in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP"):
        whole = encoded(fmt)
        for _ in range(25):
            damaged = bytearray(whole)
            for position in rng.integers(0, 150, 4):
                damaged[position] = rng.integers(256)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    read_image(io.BytesIO(damaged))
            except UserError as error:
                assert "\n" not in str(error)  # noqa: PT017


def test_heic_has_a_sentence_of_its_own_where_it_cannot_be_read(tmp_path, raises_user_error, monkeypatch):
    monkeypatch.setattr(Image, "registered_extensions", dict)  # no package for it
    (tmp_path / "IMG.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with raises_user_error("IMG.HEIC: HEIC is read after pip install pillow-heif"):
        quiet_read(tmp_path / "IMG.HEIC")


def test_pillow_images_that_cannot_be_read_are_one_line(tmp_path, raises_user_error):
    (tmp_path / "cut.png").write_bytes(encoded("PNG")[:5000])
    with raises_user_error("cut.png", "not a readable image"), Image.open(tmp_path / "cut.png") as image:
        read_image(image)
    with raises_user_error("an image without pixels"):
        read_image(Image.new("RGB", (0, 4)))


def test_missing_file_and_folder(tmp_path, raises_user_error):
    with raises_user_error("nowhere.png", "no such file"):
        quiet_read(tmp_path / "nowhere.png")
    with raises_user_error(f"{tmp_path}: not a readable image (Is a directory)"):
        quiet_read(tmp_path)


def test_size_limit(tmp_path, raises_user_error):
    Image.new("1", (10000, 10000)).save(tmp_path / "large.png")
    with raises_user_error("large.png", "more than 50 megapixels"):
        quiet_read(tmp_path / "large.png", max_pixels=50 * 10**6)
    # Pillow would warn from 89 megapixels on, and stop at 179 by itself.
    Image.new("1", (14000, 10000)).save(tmp_path / "larger.png")
    with raises_user_error("larger.png", "more than 134 megapixels"):
        quiet_read(tmp_path / "larger.png")
    Image.new("1", (20000, 10000)).save(tmp_path / "bomb.png")
    with raises_user_error("bomb.png", "more than 134 megapixels"):
        quiet_read(tmp_path / "bomb.png")
    with raises_user_error("bomb.png", "more than 179 megapixels"):
        quiet_read(tmp_path / "bomb.png", max_pixels=10**9)
    assert quiet_read(io.BytesIO(encoded("PNG")), max_pixels=64 * 64).shape == (3, 64, 64)


def test_a_large_image_within_the_limit_does_not_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # as if 64 x 32 pixels were 150 megapixels
    Image.fromarray(RGB).save(tmp_path / "large.png")
    assert quiet_read(tmp_path / "large.png").shape == (3, 32, 48)


def test_file_objects_are_named(raises_user_error):
    assert quiet_read(io.BytesIO(encoded("PNG"))).shape == (3, 64, 64)
    with raises_user_error("image: not a readable image"):
        quiet_read(io.BytesIO(b"nothing"))


# --- 8 bits ----------------------------------------------------------------------------------------


def test_all_levels_survive_the_round_trip():
    everything = torch.arange(256, dtype=torch.uint8)
    x = from_uint8(everything)
    assert torch.equal(to_uint8(x), everything)
    assert x[0] == -1
    assert x[255] == 1
    assert torch.equal(to_uint8(x.half().float()), everything)


def test_to_uint8_clamps_and_rounds():
    # Without the clamp, 1.01 would wrap around to 0; without the rounding, 0.999 would become 254.
    x = torch.tensor([-5.0, -1.01, -1, 0.999, 1, 1.01, 5])
    assert to_uint8(x).tolist() == [0, 0, 0, 255, 255, 255, 255]
    half = torch.tensor([10.4, 10.6]) / 127.5 - 1
    assert to_uint8(half).tolist() == [10, 11]
    assert not to_uint8(torch.zeros(1, requires_grad=True)).requires_grad


@pytest.mark.parametrize("bad", [torch.tensor(value) for value in (float("nan"), float("inf"), 7, True)], ids=str)
def test_what_is_no_number_or_a_whole_one_becomes_no_picture(tmp_path, raises_user_error, bad):
    x = torch.zeros(3, 4, 4).to(bad.dtype)
    x[1, 2, 3] = bad
    for make in (to_uint8, to_pil, check_image, lambda x: write_image(tmp_path / "out.png", x)):
        with raises_user_error("an image", "give floats" if bad.item() in (7, True) else "NaN or infinity"):
            make(x)
    assert not list(tmp_path.iterdir())


def test_the_range_of_an_image(raises_user_error):
    harsh = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.5) * 2.0 - 1
    for options in ({"antialias": True}, {"antialias": False}):  # bicubic overshoots, and may
        enlarged = torch.nn.functional.interpolate(harsh, scale_factor=4, mode="bicubic", **options)
        assert 1.3 < enlarged.abs().max() < 2
        assert check_image(enlarged) is enlarged
    with raises_user_error("values from 0 to 255", "[-1, 1]"):
        check_image(torch.arange(256.0))
    with raises_user_error("torch.uint8"):
        resize(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), (4, 4))
    assert check_image(torch.zeros(3, 0, 4)).shape == (3, 0, 4)


def test_bytes_are_read_as_bytes_and_more_than_8_bits_as_floats(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "8.png")
    Image.fromarray(RGB[..., 0].astype(np.uint16) * 257 + 1).save(tmp_path / "16.png")
    eight, sixteen = (read_pixels(tmp_path / f"{bits}.png") for bits in (8, 16))
    assert np.array_equal(eight.permute(1, 2, 0).numpy(), RGB)
    assert sixteen.dtype == torch.float32
    assert torch.equal(sixteen, read_image(tmp_path / "16.png"))
    assert torch.equal(from_uint8(eight), read_image(tmp_path / "8.png"))


def test_pil_round_trip():
    x = from_pil(Image.fromarray(RGB))
    assert np.array_equal(np.asarray(to_pil(x)), RGB)
    assert torch.equal(from_pil(to_pil(x)), x)


# --- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tiff"])
def test_write_then_read(tmp_path, suffix):
    x = from_pil(Image.fromarray(RGB))
    write_image(tmp_path / f"out.{suffix}", x)
    assert torch.equal(read_image(tmp_path / f"out.{suffix}"), x)
    assert [file.name for file in tmp_path.iterdir()] == [f"out.{suffix}"]


def test_write_obeys_the_umask(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_image(tmp_path / "out.png", torch.zeros(3, 4, 4))
    assert (tmp_path / "out.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("no\nway"), KeyboardInterrupt()])
def test_a_failing_encoder_leaves_the_old_file(tmp_path, raises_user_error, monkeypatch, error):
    path = tmp_path / "out.png"
    write_image(path, torch.zeros(3, 4, 4))
    before = path.read_bytes()

    def save(self, file, **_):
        file.write(b"half a file")
        raise error

    monkeypatch.setattr(Image.Image, "save", save)
    expected = (
        pytest.raises(KeyboardInterrupt) if isinstance(error, KeyboardInterrupt) else raises_user_error("out.png")
    )
    with expected:
        write_image(path, torch.ones(3, 4, 4))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["out.png"]


@pytest.mark.parametrize("name", ["out.xyz", "out", "out.psd"])
def test_unknown_suffix(tmp_path, raises_user_error, name):
    with raises_user_error(name, "cannot be written"):
        write_image(tmp_path / name, torch.zeros(3, 4, 4))
    assert not list(tmp_path.iterdir())


def test_missing_folder(tmp_path, raises_user_error):
    with raises_user_error("out.png", "cannot be written"):
        write_image(tmp_path / "missing" / "out.png", torch.zeros(3, 4, 4))
    (tmp_path / "file").write_bytes(b"")
    with raises_user_error("out.png", "cannot be written"):
        write_image(tmp_path / "file" / "out.png", torch.zeros(3, 4, 4))


# --- resampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(128, 192), (100, 77), (512, 768), (1, 1), (700, 901)])
def test_resize_is_pillows(lemur, size, mode):
    method = Image.Resampling[mode.upper()]
    ours = resize(lemur, size, mode)[0]
    for channel in range(3):
        plane = Image.fromarray(lemur[0, channel].numpy())  # mode F: no rounding in between
        expected = np.asarray(plane.resize(size[::-1], method))
        assert np.abs(ours[channel].numpy() - expected).max() < 1e-4
    eight_bit = np.asarray(to_pil(lemur[0]).resize(size[::-1], method)).astype(float)
    # Pillow also rounds and clips between the two directions, which shows at a few sharp edges.
    assert (np.abs(levels(ours) - eight_bit) <= 1).mean() > 0.9995


def test_area_is_the_mean_of_blocks(lemur):
    blocks = lemur.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert torch.allclose(resize(lemur, (128, 192), "area"), blocks, atol=1e-5)
