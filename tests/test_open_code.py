"""The chapters' cells tagged ``model`` are a whole program: with two files of weights it is the shipped model."""

import ast
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vartutor import open_code
from vartutor.course.book import listing
from vartutor.data.pairs import eval_pairs
from vartutor.data.presets import COURSE
from vartutor.paths import assets
from vartutor.transformer.photo import write_maps
from vartutor.weights import load_start


@pytest.fixture(scope="module")
def program():
    """Names defined by the cells alone, one chapter after the other, in a fresh name space."""
    names = {"torch": torch, "np": np, "F": F}
    for sources in open_code.model_cells().values():
        for source in sources:
            exec(source, names)
    return names


@pytest.fixture(scope="module")
def weights():
    files = (assets() / "checkpoints" / f"{name}.safetensors" for name in ("tokenizer_hit", "transformer_course"))
    tokenizer, transformer = ({name: x.float() for name, x in load_file(file).items()} for file in files)
    return tokenizer, {name.removeprefix("body."): x for name, x in transformer.items()}


@pytest.fixture(scope="module")
def shipped():
    model, tokenizer, _ = load_start("course")
    return model, tokenizer


@pytest.fixture(scope="module")
def pairs():
    return eval_pairs(COURSE, "test", 64, 3)


def test_the_cells_import_nothing():
    cells = open_code.model_cells()
    assert list(cells) == ["02", "04", "05", "06", "07"]
    for source in (source for sources in cells.values() for source in sources):
        assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.Import, ast.ImportFrom))]


def test_tokens_and_photos_are_the_packages(program, weights, shipped, pairs):
    tokenizer = shipped[1]
    with torch.no_grad():
        maps = program["hit_tokens"](weights[0], pairs.hr[4])
        photos = program["hit_photos"](weights[0], maps)
    for mine, theirs in zip(maps, tokenizer.tokenize(pairs.hr[4]), strict=True):
        assert torch.equal(mine, theirs)
    for s, theirs in tokenizer.decode_scales(maps).items():
        torch.testing.assert_close(photos[s], theirs, rtol=0, atol=1e-4)


def test_the_transformer_is_the_packages(program, weights, shipped, pairs):
    model, tokenizer = shipped
    lr = pairs.lr[::3]
    logits, photos = program["write_photo"](*weights, lr)
    steps = list(write_maps(model, tokenizer, lr, expected=True, temperature=0.5))
    for mine, step in zip(logits, steps, strict=True):
        assert (mine - step.logits).abs().max() < 1e-4 * step.logits.abs().max()
        torch.testing.assert_close(mine.softmax(-1), step.logits.softmax(-1), rtol=0, atol=1e-2)
    for s, end in zip(tokenizer.scales, tokenizer.quantizer.ends, strict=True):
        torch.testing.assert_close(photos[s], tokenizer.decode(steps[end - 1].f_hat), rtol=0, atol=1e-4)


def test_the_page_of_the_whole_model_runs_as_it_says(monkeypatch, capsys):
    root = assets().parent
    page = (root / "book" / "whole-model.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    before, after = example.split("# … the functions of this page …\n")
    functions = "\n".join(re.findall(r"```python\n(.*?)```", listing(open_code.model_cells(root)), re.S))
    monkeypatch.chdir(root)
    exec(before + functions + after, {})
    assert capsys.readouterr().out == "{1: (1, 3, 16, 16), 2: (1, 3, 32, 32), 4: (1, 3, 64, 64)}\n"


def test_a_chapter_takes_what_earlier_ones_wrote(raises_user_error):
    from vartutor.open_code import conv, encode

    assert conv.__name__ == "conv"
    assert encode.__name__ == "encode"
    with raises_user_error("no cell tagged 'model' defines 'conv3'"):
        open_code.conv3  # noqa: B018


def test_outside_a_clone_it_says_what_is_missing(raises_user_error, monkeypatch, tmp_path):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(open_code, "course_root", lambda: tmp_path)
    open_code._names.cache_clear()
    with raises_user_error("no cell tagged 'model'"):
        open_code.encode  # noqa: B018
    open_code._names.cache_clear()
