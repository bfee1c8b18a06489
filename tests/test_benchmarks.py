"""Test sets of published tables, on folders in their layouts."""

import pytest
import torch

from vartutor.data.benchmarks import Benchmark
from vartutor.data.images import resize, write_image
from vartutor.data.presets import BICUBIC


def photo(height, width, seed=0):
    """Smooth, so that a window is recognised after shrinking."""
    generator = torch.Generator().manual_seed(seed)
    return resize(torch.rand(1, 3, 9, 9, generator=generator) * 2 - 1, (height, width))[0].clamp(-1, 1)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def pair(lr, hr, height=140, width=160, seed=0):
    clean = photo(height * 4, width * 4, seed)
    write(hr, clean)
    write(lr, resize(clean[None], (height, width))[0].clamp(-1, 1))
    return clean


def test_div2k_gives_the_same_crops_every_time(tmp_path):
    for name in ("0801", "0802", "0803"):
        write(tmp_path / "DIV2K_valid_HR" / f"{name}.png", photo(520, 600, int(name)))
    first, again = (Benchmark("div2k-val", tmp_path, count=7) for _ in range(2))
    assert [len(first[i].lr) for i in range(len(first))] == [3, 2, 2]
    one, same = first[1], again[1]
    assert one.files == ("0802", "0802")
    assert one.lr.shape == (2, 3, 128, 128)
    assert {s: tuple(x.shape) for s, x in one.hr.items()} == {s: (2, 3, 128 * s, 128 * s) for s in (1, 2, 4)}
    assert torch.equal(one.lr, same.lr)
    assert torch.equal(one.hr[4], same.hr[4])
    assert not torch.equal(one.hr[4][0], one.hr[4][1])
    write(tmp_path / "DIV2K_valid_HR" / "0800.png", photo(520, 600, 9))
    more = Benchmark("div2k-val", tmp_path, count=8)
    assert torch.equal(more[2].hr[4], one.hr[4])  # other photos change nothing
    # A folder that holds the photos themselves will do.
    assert len(Benchmark("div2k-val", tmp_path / "DIV2K_valid_HR")) == 4


def test_the_published_number_of_crops(tmp_path):
    for k in range(100):
        (tmp_path / f"{801 + k:04}.png").write_bytes(b"")
    assert Benchmark("div2k-val", tmp_path).crops == [30] * 100


def test_the_preset_degrades(tmp_path):
    write(tmp_path / "0801.png", photo(512, 512))
    mild = Benchmark("div2k-val", tmp_path, count=1, preset=BICUBIC)[0]
    strong = Benchmark("div2k-val", tmp_path, count=1)[0]
    assert (mild.lr - mild.hr[1]).abs().mean() < 0.01
    assert (strong.lr - strong.hr[1]).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("name", "lr", "hr", "found"),
    [
        (
            "realsr",
            "RealSR(V3)/Canon/Test/4/Canon_001_LR4.png",
            "RealSR(V3)/Canon/Test/4/Canon_001_HR.png",
            "Canon_001",
        ),
        ("drealsr", "x4/Test_x4/test_LR/Canon_10_x1.png", "x4/Test_x4/test_HR/Canon_10_x4.png", "Canon_10"),
        ("realsr", "test_LR/Canon_004_LR4.png", "test_HR/Canon_004_LR4.png", "Canon_004_LR4"),
        ("div2k-val", "lq/0801_pch_00001.png", "gt/0801_pch_00001.png", "0801_pch_00001"),
    ],
)
def test_the_middle_of_pairs(tmp_path, name, lr, hr, found):
    clean = pair(tmp_path / lr, tmp_path / hr)
    benchmark = Benchmark(name, tmp_path)
    assert len(benchmark) == 1
    pairs = benchmark[0]
    assert pairs.files == (found,)
    assert torch.allclose(pairs.hr[4][0], clean[:, 24 : 24 + 512, 64 : 64 + 512], atol=1 / 200)
    assert (pairs.lr - pairs.hr[1]).abs().mean() < 0.01  # both show the same


def test_only_the_right_factor_and_split_count(tmp_path, raises_user_error):
    pair(tmp_path / "Canon" / "Train" / "4" / "a_LR4.png", tmp_path / "Canon" / "Train" / "4" / "a_HR.png")
    pair(tmp_path / "Canon" / "Test" / "2" / "b_LR2.png", tmp_path / "Canon" / "Test" / "2" / "b_HR.png")
    with raises_user_error("not realsr as it comes", "Canon_001_LR4.png"):
        Benchmark("realsr", tmp_path)


def test_wrong_folders_and_photos_get_one_line(tmp_path, raises_user_error):
    with raises_user_error("unknown benchmark 'set5'", "realsr"):
        Benchmark("set5", tmp_path)
    with raises_user_error("no such folder"):
        Benchmark("realsr", tmp_path / "none")
    with raises_user_error("not drealsr as it comes"):
        Benchmark("drealsr", tmp_path)
    write(tmp_path / "a" / "0801.png", photo(500, 600))
    with raises_user_error("0801", "too small"):
        Benchmark("div2k-val", tmp_path / "a")[0]
    pair(tmp_path / "b" / "lq" / "x.png", tmp_path / "b" / "gt" / "x.png", 100, 130)
    with raises_user_error("x.png", "too small"):
        Benchmark("realsr", tmp_path / "b")[0]
    write(tmp_path / "b" / "gt" / "x.png", photo(100, 130))
    with raises_user_error("x.png", "not 4 times"):
        Benchmark("realsr", tmp_path / "b")[0]
