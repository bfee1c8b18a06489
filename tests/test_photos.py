import hashlib
from dataclasses import replace

import pytest
import torch
from PIL import Image

from vartutor.data.images import read_image, to_uint8
from vartutor.data.photos import SPLITS, find_photo, load_pixels, photos
from vartutor.paths import assets


def test_splits():
    files = {split: {photo.file for photo in photos(split)} for split in SPLITS}
    assert {split: len(names) for split, names in files.items()} == {"train": 50, "val": 12, "test": 20}
    assert len(set.union(*files.values())) == 82
    assert [photo.file for photo in photos()] == [photo.file for photo in photos()]
    assert {photo.file for photo in photos()} == set.union(*files.values())


def test_every_file_is_listed():
    listed = {photo.file for photo in photos()}
    assert {path.name for path in (assets() / "photos").iterdir()} == listed | {"ATTRIBUTION.csv"}


def test_no_picture_is_there_twice():
    assert len({photo.sha256 for photo in photos()}) == 82


@pytest.mark.parametrize("photo", photos(), ids=lambda photo: photo.file)
def test_photo_is_as_published(photo):
    assert photo.intact()
    assert hashlib.sha256(photo.path.read_bytes()).hexdigest() == photo.sha256
    with Image.open(photo.path) as image:
        assert image.size == (photo.width, photo.height)
        assert image.mode == "RGB"
    assert min(photo.width, photo.height) >= 512
    assert photo.licence in ("CC0-1.0", "Public-Domain")
    assert photo.author
    # One picture is known by its author and the Debian package alone.
    assert photo.source or photo.file == "lomiri_seeding.jpg"


def test_a_changed_file_is_noticed(tmp_path, monkeypatch):
    photo = photos()[0]
    (tmp_path / "photos").mkdir()
    monkeypatch.setattr("vartutor.data.photos.assets", lambda: tmp_path)
    assert not photo.intact()  # missing
    photo.path.write_bytes(b"changed")
    assert not photo.intact()


def test_load(lemur):
    photo = find_photo("lemur")
    assert photo.load().shape == (3, photo.height, photo.width)
    assert torch.equal(photo.load(), read_image(photo.path))
    pixels = load_pixels("val")
    assert load_pixels("val") is pixels
    assert [tuple(image.shape) for image in pixels] == [(3, photo.height, photo.width) for photo in photos("val")]
    assert all(image.dtype == torch.uint8 for image in pixels)
    assert torch.equal(pixels[3], to_uint8(photos("val")[3].load()))


def test_find_photo(raises_user_error):
    assert find_photo("lemur").file == "gc_world_animals_lemur.jpg"
    assert find_photo("kde_cat.jpg").file == "kde_cat.jpg"
    with raises_user_error("'animals'", "exactly one", "gc_farm_animals_cat.jpg"):
        find_photo("animals")
    with raises_user_error("'unicorn'", "none"):
        find_photo("unicorn")
    with raises_user_error("''"):
        find_photo("")


def test_whole_names_win_over_parts(monkeypatch):
    table = tuple(replace(photos()[0], file=file) for file in ("a_cat.jpg", "cat.jpg"))
    monkeypatch.setattr("vartutor.data.photos._table", lambda: table)
    assert find_photo("cat.jpg").file == "cat.jpg"


def test_unknown_split(raises_user_error):
    for call in (photos, load_pixels):
        with raises_user_error("'dev'", "train, val, test"):
            call("dev")


def test_titles_are_words():
    titles = {photo.file: photo.title for photo in photos()}
    assert titles["gc_world_animals_lemur.jpg"] == "lemur"
    assert titles["gc_world_animals_polar_bear.jpg"] == "polar bear"
    assert titles["scipy_raccoon.jpg"] == "raccoon"
    assert titles["gc_monuments_hawaMahal.jpg"] == "hawa mahal"
    assert titles["kde_air_balloon.jpg"] == "air balloon"
    for title in titles.values():
        assert title.strip()
        assert "_" not in title
        assert "." not in title
