import warnings

import pytest
import torch
from torch.utils.data import DataLoader

from vartutor.data.folders import PhotoFolder
from vartutor.data.images import write_image


def fill(folder, sizes):
    for k, (height, width) in enumerate(sizes):
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"good{k}.png", torch.full((3, height, width), k / 10))


def test_good_and_bad_files_give_one_warning(tmp_path):
    fill(tmp_path, [(70, 80), (64, 64), (63, 200)])
    (tmp_path / "bad.jpg").write_bytes(b"text\nof two lines")
    (tmp_path / "empty.webp").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.txt").write_text("not looked at")
    with pytest.warns(UserWarning, match="skipped 4 of 6 files") as caught:
        folder = PhotoFolder(tmp_path)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert caught[0].filename == __file__
    assert [path.name for path in folder.files] == ["good0.png", "good1.png"]
    assert sorted(path.name for path in folder.skipped) == ["bad.jpg", "empty.webp", "folder.png", "good2.png"]
    assert "200 x 63 pixels, below 64" in folder.skipped[tmp_path / "good2.png"]
    assert len(folder) == 2
    assert torch.allclose(folder[1], torch.full((3, 64, 64), 0.1), atol=1 / 255)


def test_only_good_files_give_no_warning(tmp_path):
    fill(tmp_path, [(64, 64)])
    fill(tmp_path / "b" / "deep", [(64, 70)])
    fill(tmp_path / "a", [(70, 64)])
    (tmp_path / "a" / "good0.png").rename(tmp_path / "a" / "UPPER.PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = PhotoFolder(str(tmp_path))
    assert folder.skipped == {}
    assert [str(path.relative_to(tmp_path)) for path in folder.files] == [
        "a/UPPER.PNG",
        "b/deep/good0.png",
        "good0.png",
    ]


def test_hidden_files_are_no_photos_and_every_format_is_read(tmp_path):
    fill(tmp_path, [(64, 64)])
    (tmp_path / "._good0.png").write_bytes(b"Mac OS X")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "x.png").write_bytes(b"small")
    write_image(tmp_path / "old.jp2", torch.zeros(3, 64, 64))
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.warns(UserWarning, match="skipped 1 of 3"):
        folder = PhotoFolder(tmp_path)
    assert [path.name for path in folder.files] == ["good0.png", "old.jp2"]


def test_min_size(tmp_path):
    fill(tmp_path, [(20, 30), (64, 64)])
    assert len(PhotoFolder(tmp_path, min_size=20)) == 2
    with pytest.warns(UserWarning, match="skipped 1 of 2"):
        assert len(PhotoFolder(tmp_path, min_size=21)) == 1


def test_nothing_usable_is_one_error(tmp_path, raises_user_error):
    for k in range(5):
        (tmp_path / f"bad{k}.jpg").write_bytes(b"no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with raises_user_error(tmp_path, "no usable photo", "5 skipped", "bad0.jpg"):
            PhotoFolder(tmp_path)


def test_no_files_and_no_folder(tmp_path, raises_user_error):
    with raises_user_error(tmp_path, "holds no image files"):
        PhotoFolder(tmp_path)
    with raises_user_error("nowhere", "no such folder"):
        PhotoFolder(tmp_path / "nowhere")
    (tmp_path / "file.png").write_bytes(b"")
    with raises_user_error("file.png", "no such folder"):
        PhotoFolder(tmp_path / "file.png")


@pytest.mark.parametrize("workers", [0, 1])
def test_as_a_dataset(tmp_path, workers):
    fill(tmp_path, [(64, 64)] * 4)
    batches = list(DataLoader(PhotoFolder(tmp_path), batch_size=2, num_workers=workers))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 64, 64)] * 2
    assert torch.allclose(batches[1][1], torch.full((3, 64, 64), 0.3), atol=1 / 255)
