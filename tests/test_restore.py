"""Many files in, one folder out."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from vartutor.errors import UserError
from vartutor.restore import find_photos, restore
from vartutor.weights import load_restorer


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "in"
    photos.mkdir()
    for name, color in (("b.png", "red"), ("a.jpg", "blue")):
        Image.new("RGB", (8, 6), color).save(photos / name)
    (photos / "notes.txt").write_text("no photo")
    return photos


def double(path: Path, scales=(2,)):
    with Image.open(path) as image:
        return {s: image.convert("RGB").resize((image.width * s, image.height * s)) for s in scales}


def test_folders_are_searched_and_files_taken_as_named(folder):
    assert [path.name for path in find_photos([folder, folder / "notes.txt"])] == ["a.jpg", "b.png", "notes.txt"]
    assert len(find_photos([folder, folder / "b.png", folder / "b.png"])) == 2


def test_a_folder_as_a_phone_and_a_browser_leave_it(folder, tmp_path, raises_user_error):
    image, lines = Image.new("RGB", (8, 6), "teal"), []
    for name, kind in (("I1.JPG", "JPEG"), ("web.jfif", "JPEG"), ("old.jp2", "JPEG2000"), ("x.ppm", "PPM")):
        image.save(folder / name, kind)
    new = [".avif"] if ".avif" in Image.registered_extensions() else []
    for suffix in new:
        image.save(folder / f"new{suffix}")
    (folder / "._I1.JPG").write_bytes(b"Mac OS X")
    (folder / "I2.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "deep.png").mkdir()
    restore([folder / "b.png"], folder, double, (2,))
    found = [path.name for path in find_photos([folder], lines.append)]
    assert found == ["I1.JPG", "I2.HEIC", "a.jpg", "b.png", *(f"new{s}" for s in new), "old.jp2", "web.jfif", "x.ppm"]
    assert lines == [f"{folder}: left out b_x2.png (a result), deep.png (a folder), notes.txt (no photo)"]
    for k in range(9):
        (tmp_path / f"{k}.txt").write_text("")
    with raises_user_error("no photos", "left out 0.txt (no photo)", "and 5 more"):
        find_photos([tmp_path])


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, monkeypatch, raises_user_error):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with raises_user_error(tmp_path, "cannot be read (Permission denied)"):
        find_photos([tmp_path])


def test_an_empty_folder_is_one_line(tmp_path, raises_user_error):
    with raises_user_error(tmp_path, "no photos", ".png"):
        find_photos([tmp_path])


def test_results_are_named_after_the_source(folder, tmp_path):
    seen = []
    outcomes = restore(find_photos([folder]), tmp_path / "new" / "out", double, (2,), report=seen.append)
    assert outcomes == seen
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["a_x2.png", "b_x2.png"]
    with Image.open(tmp_path / "new" / "out" / "a_x2.png") as image:
        assert image.size == (16, 12)


def test_a_bad_file_is_named_and_the_others_are_done(folder, tmp_path):
    def upscale(path, scales):
        if path.name == "a.jpg":
            raise UserError(f"{path}: not a readable image")
        return double(path, scales)

    bad, good = restore(find_photos([folder]), tmp_path / "out", upscale, (2,))
    assert "a.jpg: not a readable image" in bad.error
    assert [path.name for path in good.written] == ["b_x2.png"]


def test_nothing_is_overwritten_unasked(folder, tmp_path):
    sources = [folder / "a.jpg"]
    first = restore(sources, tmp_path, double, (2,))[0].written[0]
    before = first.read_bytes()
    other = lambda path, scales: {2: Image.new("RGB", (1, 1))}  # noqa: E731
    (refused,) = restore(sources, tmp_path, other, (2,), how="otherwise")
    assert "a_x2.png: exists of another photo or with other options; --force" in refused.error
    (folder / "twin").mkdir()
    Image.new("RGB", (8, 6)).save(folder / "twin" / "a.jpg")
    (refused,) = restore([folder / "twin" / "a.jpg"], tmp_path, other, (2,))
    assert "of another photo" in refused.error
    assert first.read_bytes() == before
    (forced,) = restore(sources, tmp_path, other, (2,), how="otherwise", force=True)
    assert forced.written
    assert first.read_bytes() != before


@pytest.mark.parametrize("force", [False, True])
def test_no_photo_is_written_over_and_results_in_place_are_no_photos(tmp_path, force):
    colors = {"a.png": "red", "a_x1.png": "blue", "b.png": "teal"}
    for name, color in colors.items():
        Image.new("RGB", (5, 4), color).save(tmp_path / name)
    Image.new("RGB", (5, 4)).save(tmp_path / "c_x1.png")  # nobody asks for this one
    Image.new("RGB", (5, 4)).save(sub := tmp_path / "c.webp")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    photos = [tmp_path / name for name in colors] + [sub]
    for _ in range(2):
        first, second, third, fourth = restore(photos, tmp_path, double, (1, 2), force=force)
        assert "a_x1.png: a photo that is to be restored has this name" in first.error
        assert "c_x1.png: a picture from elsewhere" in fourth.error
        assert second.error == third.error == ""
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert sorted({path.name for path in tmp_path.iterdir()} - set(before)) == [
        "a_x1_x1.png", "a_x1_x2.png", "b_x1.png", "b_x2.png"
    ]  # fmt: skip
    assert sorted(path.name for path in find_photos([tmp_path])) == sorted(before)


def test_a_rerun_makes_what_is_missing_and_nothing_twice(folder, tmp_path):
    asked = []

    def upscale(path, scales):
        asked.append((path.name, scales))
        return double(path, scales)

    call = [folder / "a.jpg", folder / "b.png"], tmp_path / "out", upscale, (1, 2, 4)
    restore(*call)
    (tmp_path / "out" / "a_x2.png").unlink()
    (tmp_path / "out" / "a_x4.png").unlink()
    again, complete = restore(*call)
    assert [path.name for path in again.written] == ["a_x2.png", "a_x4.png"]
    assert (complete.written, complete.error) == ((), "")
    assert asked == [("a.jpg", (1, 2, 4)), ("b.png", (1, 2, 4)), ("a.jpg", (2, 4))]
    Image.new("RGB", (8, 6), "green").save(folder / "a.jpg")  # another photo of the same name
    changed, _ = restore(*call)
    assert "a_x1.png: exists of another photo" in changed.error


def test_an_interruption_leaves_nothing_and_the_same_call_goes_on(folder, tmp_path, monkeypatch):
    """Ctrl-C while the second of three results is written."""
    scales, out = (1, 2, 4), tmp_path / "out"
    call = [folder / "b.png"], out, lambda *_: dict.fromkeys(scales, Image.new("RGB", (9, 9))), scales
    save, files = Image.Image.save, []

    def stopped(image, file, **options):
        files.append(file.name)
        save(image, file, **options)
        if len(files) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        restore(*call)
    assert list(out.iterdir()) == []
    assert restore(*call)[0].error == ""
    assert sorted(path.name for path in out.iterdir()) == ["b_x1.png", "b_x2.png", "b_x4.png"]


def test_an_error_without_a_name_gets_one(folder, tmp_path):
    def refuse(path, scales):
        raise UserError("a photo of 9 × 9 pixels")

    assert (
        restore([folder / "b.png"], tmp_path, refuse, (2,))[0].error == f"{folder / 'b.png'}: a photo of 9 × 9 pixels"
    )


def test_names_that_meet_are_refused_before_anything_is_done(folder, tmp_path, raises_user_error):
    Image.new("RGB", (2, 2)).save(folder / "a.png")
    with raises_user_error("a.jpg", "a.png", "would both become"):
        restore(find_photos([folder]), tmp_path / "out", double, (2,))
    assert not (tmp_path / "out").exists()


def test_unknown_models_are_one_line(raises_user_error):
    with raises_user_error("huge", "neither a shipped transformer"):
        load_restorer("huge")
    assert torch.is_grad_enabled()
