"""Test sets of published tables, on folders in their layouts."""

import pytest
import torch

from vartutor import metrics_extra
from vartutor.cli import main
from vartutor.data.images import resize, write_image
from vartutor.data.presets import BICUBIC
from vartutor.evaluate.benchmarks import Benchmark
from vartutor.evaluate.extras import EXTRA_MEASURES
from vartutor.evaluate.table import read_rows


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
    assert one.name == "0802"
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
    assert pairs.name == found
    assert len(pairs.lr) == 1
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


class Frechet:
    """Stands in for torchmetrics': says how many images of each kind it saw."""

    def __init__(self, **_):
        self.seen = {True: 0, False: 0}

    def to(self, _):
        return self

    def update(self, images, real):
        assert images.dtype == torch.uint8
        self.seen[real] += len(images)

    def compute(self):
        return torch.tensor(self.seen[False] + 100.0 * self.seen[True])


def test_the_command_measures_a_benchmark(tmp_path, monkeypatch, capsys):
    networks = {name: lambda _: lambda x, y: (x - y).abs().mean((1, 2, 3)) for name in ("vgg", "lpips", "dists")}
    networks |= {name: lambda _: lambda x, y: x.mean((1, 2, 3)) for name in metrics_extra.NO_REFERENCE}
    monkeypatch.setattr(metrics_extra, "BUILDERS", metrics_extra.BUILDERS | networks)
    fid = type("Module", (), {"FrechetInceptionDistance": Frechet})
    monkeypatch.setattr(metrics_extra, "import_module", lambda name: fid)
    for name in ("0801", "0802"):
        write(tmp_path / "set" / f"{name}.png", photo(512, 530, int(name)))
    call = ["evaluate", "--benchmark", "div2k-val", "--photos", str(tmp_path / "set"), "--restorers", "bicubic"]
    out = ["--out", str(tmp_path / "out")]
    assert main([*call, "--crops", "3", "--extra", *EXTRA_MEASURES, *out]) == 0
    printed = capsys.readouterr().out
    assert "2 photos of div2k-val" in printed
    assert "or with `varsr`" in printed
    rows = read_rows(tmp_path / "out" / "results.csv")
    assert {row.photo for row in rows} == {"0801", "0802", "all photos"}
    assert {row.scale for row in rows if row.measure in EXTRA_MEASURES.keys() - {"vgg"}} == {"4"}
    assert all({row.scale for row in rows if row.measure == own} == {"1", "2", "4"} for own in ("psnr_y", "vgg"))
    assert [row.value for row in rows if row.measure == "fid"] == [303.0]  # three crops of each kind
    assert all(f"**{measure.title}**" in printed for measure in EXTRA_MEASURES.values())


def test_real_pairs_are_measured_as_they_come(tmp_path, capsys):
    pair(tmp_path / "Canon" / "Test" / "4" / "a_LR4.png", tmp_path / "Canon" / "Test" / "4" / "a_HR.png")
    call = ["evaluate", "--benchmark", "realsr", "--photos", str(tmp_path), "--restorers", "bicubic"]
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    values = {row.measure: row.value for row in read_rows(tmp_path / "out" / "results.csv") if row.scale == "4"}
    assert values["psnr_y"] > 40  # the smooth photo shrunk and enlarged
    for words, line in (
        (["--photos", str(tmp_path), "--extra", "vmaf"], "unknown metric 'vmaf'"),
        (["--photos", str(tmp_path), "--crops", "0"], "--crops 0"),
        ([], "give its folder with --photos"),
    ):
        assert main(["evaluate", "--benchmark", "realsr", "--restorers", "bicubic", *words]) == 2
        assert line in capsys.readouterr().err
