import hashlib
import itertools
import zlib

import pytest
import torch

from vartutor.data import crops
from vartutor.data.crops import RandomCrops
from vartutor.data.images import from_uint8, to_uint8
from vartutor.data.photos import load_pixels, photos


@pytest.fixture(scope="module")
def pixels():
    return load_pixels("val")


@pytest.fixture
def ramp():
    """Level = column, so that the slope of a crop tells its scale and its flip."""
    return torch.arange(256, dtype=torch.uint8).expand(3, 256, 256)


def test_batches(pixels):
    stream = RandomCrops(pixels, size=48, batch_size=5)
    for x in itertools.islice(stream, 3):
        assert x.shape == (5, 3, 48, 48)
        assert x.dtype == torch.float32
        assert x.min() >= -1
        assert x.max() <= 1


def test_seeded(pixels):
    first, again, other = (RandomCrops(pixels, batch_size=4, seed=seed) for seed in (3, 3, 4))
    for _ in range(2):
        x = first.batch()
        assert torch.equal(x, again.batch())
        assert not torch.equal(x, other.batch())


def test_resumes_from_the_generator_state(pixels):
    crops = RandomCrops(pixels, batch_size=4)
    crops.batch()
    state = crops.generator.get_state()
    expected = [crops.batch() for _ in range(2)]
    resumed = RandomCrops(pixels, batch_size=4, seed=99)
    resumed.generator.set_state(state)
    assert all(torch.equal(x, resumed.batch()) for x in expected)


def test_the_global_generator_is_left_alone(pixels):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    RandomCrops(pixels).batch()
    crops.eval_crops("val", per_photo=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_jitter_and_flips(ramp):
    for jitter in (1.0, 2.0, 3.0):
        x = RandomCrops([ramp], size=32, batch_size=400, jitter=jitter).batch()
        row = x[:, 0, 16] * 127.5  # levels along a row, one per pixel of the photo
        slope = (row[:, 24] - row[:, 8]) / 16
        assert 150 < (slope < 0).sum() < 250
        scale = slope.abs()
        assert scale.min() >= 1 - 0.02
        assert scale.max() <= jitter + 0.05
        if jitter > 1:
            assert scale.min() < 1.05
            assert scale.max() > 0.93 * jitter
            # Log-uniform: half of the windows are smaller than the geometric mean.
            assert 160 < (scale < jitter**0.5).sum() < 240


def test_jitter_is_limited_by_the_photo(ramp):
    x = RandomCrops([ramp[:, :40]], size=32, batch_size=200, jitter=8.0).batch()
    assert x.shape == (200, 3, 32, 32)
    slope = (x[:, 0, 16, 24] - x[:, 0, 16, 8]).abs() * 127.5 / 16
    assert slope.max() < 40 / 32 + 0.05


def test_unscaled_crops_are_cut_from_the_photo(pixels):
    image = pixels[0]
    for x in to_uint8(RandomCrops([image], size=32, batch_size=4, jitter=1.0).batch()):
        windows = image.unfold(1, 32, 1).unfold(2, 32, 1)
        corner = [
            (image[:, : image.shape[1] - 31, : image.shape[2] - 31] == y[:, :1, :1]).all(0) for y in (x, x.flip(-1))
        ]
        hits = [
            (y, r, c) for y, found in zip((x, x.flip(-1)), corner, strict=True) for r, c in found.nonzero().tolist()
        ]
        assert any(torch.equal(windows[:, r, c], y) for y, r, c in hits)


def test_all_photos_and_places_occur():
    images = [torch.full((3, 40, 40), level, dtype=torch.uint8) for level in range(5)]
    x = to_uint8(RandomCrops(images, size=32, batch_size=200).batch())
    assert x[:, 0, 0, 0].unique().tolist() == list(range(5))
    exact = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert RandomCrops([exact], size=32, batch_size=3).batch().eq(-1).all()


def test_too_small_photos(raises_user_error):
    small, large = torch.zeros(3, 30, 90, dtype=torch.uint8), torch.full((3, 64, 64), 255, dtype=torch.uint8)
    assert RandomCrops([small, large], size=64, batch_size=8).batch().eq(1).all()
    with raises_user_error("64 x 64", "2 given"):
        RandomCrops([small, small])
    with raises_user_error("0 given"):
        RandomCrops([])


def test_a_batch_is_a_small_part_of_a_training_step(pixels, median_ms):
    stream = RandomCrops(pixels, size=64, batch_size=16)
    assert median_ms(stream.batch) < 60


# --- test crops ------------------------------------------------------------------------------------


def test_test_crops_are_always_the_same():
    x, files = crops.eval_crops()
    again, _ = crops.eval_crops()
    assert torch.equal(x, again)
    assert x.shape == (60, 3, 64, 64)
    assert files == [photo.file for photo in photos("test") for _ in range(3)]
    assert len({hashlib.sha256(to_uint8(crop).numpy()).hexdigest() for crop in x}) == 60


def test_test_crops_golden():
    x, files = crops.eval_crops()
    assert files[0] == "gc_clickgame_sea6.jpg"
    # Of the 8-bit levels: changes if a photo, its decoder or the rule of the windows changes.
    assert (
        hashlib.sha256(to_uint8(x[0]).numpy().tobytes()).hexdigest()
        == "82f479249ddebd59c6028f9da32807c35061b58da746f91024931abef5e4de4d"
    )


def test_test_crops_depend_on_nothing_but_their_photo(monkeypatch):
    x, files = crops.eval_crops("val", size=32, per_photo=2)
    some, images = photos("val")[3:5], load_pixels("val")[3:5]
    monkeypatch.setattr(crops, "photos", lambda split: some)
    monkeypatch.setattr(crops, "load_pixels", lambda split: images)
    fewer, names = crops.eval_crops("val", size=32, per_photo=2)
    assert torch.equal(fewer, x[6:10])
    assert names == files[6:10]
    # More crops of a photo begin with the same ones.
    assert torch.equal(crops.eval_crops("val", size=32, per_photo=3)[0][:2], fewer[:2])


def test_test_crops_are_windows_of_the_photo():
    x, _ = crops.eval_crops("val", per_photo=1)
    photo = photos("val")[0]
    row, column = torch.rand(2, generator=torch.Generator().manual_seed(zlib.crc32(photo.file.encode()))).tolist()
    top, left = int(row * (photo.height - 63)), int(column * (photo.width - 63))
    assert torch.equal(x[0], from_uint8(load_pixels("val")[0][:, top : top + 64, left : left + 64]))
