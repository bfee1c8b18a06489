"""``vartutor upscale``: files and folders in, one folder out, whatever one of them is like."""

import io
import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from vartutor.addons.guidance import Guided
from vartutor.addons.refiner import Refined, load_refiner
from vartutor.cli import main
from vartutor.data.images import to_pil
from vartutor.superres import SuperResolver
from vartutor.weights import load_restorer


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, name in enumerate(("a.png", "b.jpg")):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def upscale(*words):
    return main(["upscale", *map(str, words)])


def test_every_photo_of_a_folder_at_every_scale(photos, tiny_runs, tmp_path, capsys):
    assert upscale(photos, "--out", tmp_path / "out", "--model", tiny_runs / "transformer") == 0
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes == {f"{name}_x{s}.png": (14 * s, 10 * s) for name in "ab" for s in (1, 2, 4)}
    said = capsys.readouterr()
    assert said.out.count(" -> ") == 2
    assert said.err == ""  # no progress bar where nobody looks


def test_the_options_reach_the_model(photos, tiny_runs, tmp_path):
    model = tiny_runs / "fidelity"
    call = ["--scales", "2", "--fidelity", "0.5", "--seed", "3", "--temperature", "0.7", "--color-fix", "wavelet"]
    assert upscale(photos / "a.png", "--out", tmp_path, "--model", model, *call) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["a_x2.png"]
    resolver = SuperResolver(*load_restorer(str(model)))
    options = {"fidelity": 0.5, "seed": 3, "temperature": 0.7, "color_fix": "wavelet"}
    expected = resolver.upscale(photos / "a.png", (2,), **options)[2]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a_x2.png")), np.asarray(expected))
    assert upscale(photos / "a.png", "--out", tmp_path / "drawn", "--model", model, "--sample", "--scales", "2") == 0
    expected = resolver.upscale(photos / "a.png", (2,), expected=False)[2]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "drawn" / "a_x2.png")), np.asarray(expected))


def test_refinement_and_guidance_reach_the_model(photos, tiny_runs, tmp_path):
    model = tiny_runs / "refiner"
    call = [photos / "a.png", "--out", tmp_path, "--model", model, "--guidance", "2", "--negative", "photo", "--refine"]
    assert upscale(*call) == 0
    write = Refined(load_refiner(str(model)), 0.0, Guided(2.0, "photo"))
    expected = SuperResolver(*load_restorer(str(model))).upscale(photos / "a.png", write=write)
    for s in (1, 2, 4):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"a_x{s}.png")), np.asarray(expected[s]))


def test_a_bad_file_is_named_at_the_end_and_the_others_are_done(photos, tiny_runs, tmp_path, capsys):
    (photos / "0.png").write_bytes(b"no image")
    call = ["--out", tmp_path / "out", "--model", tiny_runs / "transformer", "--scales", "1"]
    assert upscale(photos, photos / "missing.png", *call) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x1.png", "b_x1.png"]
    broken, missing = capsys.readouterr().err.splitlines()
    assert re.match(r"vartutor upscale: .*0\.png: not a readable image", broken)
    assert "missing.png: no such file" in missing


def test_nothing_is_overwritten_unasked(photos, tiny_runs, tmp_path, capsys):
    (tmp_path / "a_x1.png").write_bytes(b"mine")
    call = [photos / "a.png", "--out", tmp_path, "--model", tiny_runs / "transformer", "--scales", "1"]
    assert upscale(*call) == 1
    assert (tmp_path / "a_x1.png").read_bytes() == b"mine"
    assert "a_x1.png: exists; --force" in capsys.readouterr().err
    assert upscale(*call, "--force") == 0
    assert Image.open(tmp_path / "a_x1.png").size == (14, 10)
    assert upscale(*call, "--seed", "1") == 1
    assert "exists of another photo or with other options; --force" in capsys.readouterr().err
    assert upscale(*call) == 0
    assert capsys.readouterr().out == f"{photos / 'a.png'}: already there\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--temperature", "-1"], "temperature -1: give 0"),
        (["--temperature", "nan"], "temperature nan"),
        (["--guidance", "nan"], "guidance nan"),
        (["--fidelity", "nan"], "fidelity nan"),
        (["--seed", "-1"], "seed -1"),
        (["--scales", "3"], r"scales \(3,\)"),
        (["--fidelity", "2"], "fidelity 2"),
        (["--fidelity", "1"], "no fidelity module"),
        (["--refine"], "no refiner"),
        (["--refine", "-1"], "refine -1"),
        (["--refine", "inf"], "refine inf"),
        (["--guidance", "1"], "no null class"),
        (["--guidance", "1", "--negative", "text"], "negative 'text'"),
        (["--color-fix", "all"], "unknown colour fix 'all'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--model", "huge"], "huge: neither a shipped transformer"),
    ],
)
def test_wrong_calls_are_one_line_before_anything_is_done(photos, tiny_runs, tmp_path, capsys, words, line):
    call = [photos, "--out", tmp_path / "out", "--model", tiny_runs / "transformer", *words]
    assert upscale(*call) == 2
    assert re.fullmatch(rf"vartutor upscale: .*{line}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_run_of_something_else_is_one_line(photos, tiny_runs, tmp_path, capsys):
    assert upscale(photos, "--out", tmp_path / "out", "--model", tiny_runs / "hit") == 2
    assert "holds a tokenizer, not a transformer" in capsys.readouterr().err
    assert upscale(photos, "--out", tmp_path / "out", "--model", photos) == 2
    assert "no saved state" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        upscale(photos, "--out", tmp_path, "--scales", "x")
    assert "'x': write them like 1,2,4" in capsys.readouterr().err


def test_weights_that_are_no_numbers_are_one_line_and_make_no_file(photos, tiny_runs, tmp_path, capsys):
    state = torch.load(tiny_runs / "transformer" / "state.pt", weights_only=True)
    next(value for value in state["averaged"].values() if value.is_floating_point()).fill_(torch.nan)
    torch.save(state, tmp_path / "state.pt")
    assert upscale(photos, "--out", tmp_path / "out", "--model", tmp_path) == 2
    assert re.fullmatch(r"vartutor upscale: .*state\.pt: .* not finite in float16.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def names(folder, name):
    """A folder with a photo of that name in bytes, and a good one after it."""
    image = Image.new("RGB", (10, 8), "teal")
    with open(os.fsencode(folder) + b"/" + name, "wb") as file:
        image.save(file, "PNG")
    image.save(folder / "zgood.png")
    return folder


@pytest.mark.parametrize(
    "name", [b"n" * 251 + b".png", b"caf\xe9.png", "照片 🦜.png".encode(), b"n" * 245 + b".png", b"new\nline.png"]
)
def test_no_name_stops_a_batch(tmp_path, tiny_runs, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    (tmp_path / "in").mkdir()
    photos, out = names(tmp_path / "in", name), tmp_path / "out"
    code = upscale(photos, "--out", out, "--model", tiny_runs / "transformer", "--scales", "1")
    too_long = len(name) == 255
    escaped = b"\n" in name
    assert code == too_long
    assert (out / "zgood_x1.png").is_file()
    assert len(list(out.iterdir())) == 2 - too_long
    assert ("file name too long" in capsys.readouterr().err) == too_long
    sys.stdout.seek(0)
    said = sys.stdout.read()
    assert said.count(" -> ") == said.count("\n") == 2 - too_long
    assert ("new\\nline.png -> new\\nline_x1.png" in said) == escaped


def test_a_reader_that_leaves_stops_nothing(photos, tiny_runs, tmp_path, monkeypatch):
    """As `vartutor upscale … | head -1` would: here the reader is gone from the beginning."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert upscale(photos, "--out", tmp_path / "out", "--model", tiny_runs / "transformer", "--scales", "1") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x1.png", "b_x1.png"]


def test_a_progress_bar_on_a_terminal(photos, tiny_runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    call = ["--out", tmp_path / "out", "--model", tiny_runs / "transformer", "--scales", "1"]
    assert upscale(photos / "a.png", *call) == 0
    assert "a.png" in capsys.readouterr().err


def test_a_large_photo_says_its_cost_when_the_first_tiles_are_done(photos, tiny_runs, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (120, 90), "teal").save(photos / "large.png")
    clock = iter(range(0, 10**6, 60))  # a minute between any two looks
    monkeypatch.setattr("vartutor.cli.upscale.time.perf_counter", lambda: next(clock))
    call = ["--out", tmp_path / "out", "--model", tiny_runs / "transformer", "--scales", "1,4"]
    assert upscale(photos, *call) == 0
    (line,) = capsys.readouterr().err.splitlines()
    tiles = int(re.search(r"large\.png: (\d+) tiles, about \d+ minutes and 0\.0 GB of memory", line)[1])
    assert tiles >= 10 * 8


def test_images_may_be_given_in_memory(tiny_runs, lemur):
    resolver = SuperResolver(*load_restorer(str(tiny_runs / "fidelity")))
    image = to_pil(lemur[0, :, :9, :11])
    assert resolver.upscale(image, (4,), fidelity=1.0)[4].size == (44, 36)
