"""Training runs of several sizes and lengths, into one table."""

import math

import pytest
import torch

from vartutor.cli import main
from vartutor.profiles import get_profile
from vartutor.tables import load_study
from vartutor.train.sizes import make_transformer
from vartutor.weights import load_tokenizer
from vartutor.workshop.scaling_study import SIZES, entropies, name_runs, resized, run_scaling_study

SMOKE = get_profile("smoke")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("hit")


def test_sizes_keep_the_proportion_of_the_course_and_end_with_it():
    recipe = get_profile("cpu").transformer
    assert SIZES[recipe.width] == recipe.depth == max(SIZES.values())
    for width, depth in SIZES.items():
        small = resized(get_profile("cpu"), width).transformer
        assert width / depth == recipe.width / recipe.depth
        assert small.width / small.heads == recipe.width / recipe.heads
        assert (small.lr, small.prior, small.patch) == (recipe.lr, recipe.prior, recipe.patch)


def test_twelve_runs():
    runs = name_runs(100)
    assert len(runs) == 12
    assert runs["width 96, 400 steps"] == (96, 400)


def test_a_model_that_knows_nothing_needs_the_log_of_the_codebook(tokenizer):
    model = make_transformer(resized(SMOKE, 64), tokenizer, prior=False).eval()
    model.body.head.weight.data.zero_()
    found = entropies(model, tokenizer, SMOKE)
    assert len(found) == 12
    assert list(found.values()) == pytest.approx([math.log(1024)] * 12)


def test_a_study_measures_every_photo_and_does_nothing_twice(tokenizer, tmp_path):
    options = {"steps": 1, "seeds": [3]}
    path = run_scaling_study(["width 64, 1 steps", "width 64, 2 steps"], SMOKE, tokenizer, tmp_path, **options)
    first, study = path.read_bytes(), load_study(path)
    for steps in (1, 2):
        run = f"width 64, {steps} steps"
        assert len(study[run, "ce"][3]) == 12
        assert study[run, "images"][3][""] == steps * SMOKE.batch_of("transformer")
        assert study[run, "parameters"][3][""] > 18 * 64**2 * 2  # what the matrices of the blocks hold
    assert study["width 64, 1 steps", "ce"][3] != study["width 64, 2 steps", "ce"][3]
    (tmp_path / "width64,1steps_3" / "state.pt").unlink()
    assert run_scaling_study(["width 64, 1 steps"], SMOKE, tokenizer, tmp_path, **options).read_bytes() == first


def test_an_interrupted_run_goes_on(tokenizer, tmp_path, monkeypatch):
    names, options = ["width 64, 1 steps"], {"steps": 1, "seeds": [0]}

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("vartutor.workshop.scaling_study.entropies", fail)
    with pytest.raises(KeyboardInterrupt):
        run_scaling_study(names, SMOKE, tokenizer, tmp_path, **options)
    monkeypatch.undo()
    before = torch.load(tmp_path / "width64,1steps_0" / "state.pt", weights_only=True)["seconds"]
    study = load_study(run_scaling_study(names, SMOKE, tokenizer, tmp_path, **options))
    assert study[names[0], "seconds per step"][0][""] == pytest.approx(before, rel=1e-4)  # not trained again


def test_the_command(tmp_path, capsys):
    command = ["study", "--of", "scaling", "--profile", "smoke", "--steps", "1", "--out", str(tmp_path)]
    assert main([*command, "width 64, 4 steps"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "study.csv")
    assert main([*command, "width 65, 4 steps"]) == 2
    assert "no run 'width 65, 4 steps'" in capsys.readouterr().err


def test_the_shipped_study_is_complete():
    study = load_study("scaling")
    runs = {run for run, _ in study}
    shortest = min(study[run, "steps"][0][""] for run in runs)
    assert runs == set(name_runs(int(shortest)))
    assert all(len(study[run, "ce"][0]) == 12 for run in runs)
