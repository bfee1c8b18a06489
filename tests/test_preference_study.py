"""Short fine-tuning runs that compare preferences, into one table."""

import pytest
import torch

from vartutor.cli import main
from vartutor.profiles import get_profile
from vartutor.tables import load_study
from vartutor.weights import load_start
from vartutor.workshop.preference_study import PREFERENCE_RUNS, run_preference_study

SMOKE = get_profile("smoke")


@pytest.fixture(scope="module")
def start(tiny_runs):
    return load_start(tiny_runs / "transformer")


def compare(image, clean, scale):
    return {"size": float(image.shape[-1] / scale), "error": (image - clean).abs().mean().item()}


def test_a_study_measures_every_photo_and_does_nothing_twice(start, tmp_path):
    options = {"steps": 1, "seeds": [3], "compare": compare}
    path = run_preference_study(["start", "mean"], SMOKE, *start, tmp_path, **options)
    first, study = path.read_bytes(), load_study(path)
    for run in ("start", "mean"):
        for measure in ("error 1 sampled", "error 4 expected", "accuracy", "ce", "drift", "margin", "margin sum"):
            assert len(study[run, measure][3]) == 20
        assert set(study[run, "size 2 sampled"][3].values()) == {16}
        assert list(study[run, "margin by scale"][3]) == [str(k) for k in range(8)]
    assert max(map(abs, study["start", "drift"][3].values())) < 1e-8 < max(study["mean", "drift"][3].values())
    assert study["mean", "steps"][3][""] == 1
    assert study["start", "error 4 sampled"][3] != study["start", "error 4 expected"][3]
    (tmp_path / "mean_3" / "state.pt").unlink()
    assert run_preference_study(["mean"], SMOKE, *start, tmp_path, **options).read_bytes() == first


def test_an_interrupted_run_goes_on(start, tmp_path, monkeypatch):
    options = {"steps": 1, "seeds": [0], "compare": compare}

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("vartutor.workshop.preference_study.measure_preference", fail)
    with pytest.raises(KeyboardInterrupt):
        run_preference_study(["ce"], SMOKE, *start, tmp_path, **options)
    monkeypatch.undo()
    state = tmp_path / "ce_0" / "state.pt"
    before = torch.load(state, weights_only=True)["seconds"]
    study = load_study(run_preference_study(["ce"], SMOKE, *start, tmp_path, **options))
    assert study["ce", "seconds per step"][0][""] == pytest.approx(before, rel=1e-4)  # not trained again


def test_starts_are_not_mixed(start, tmp_path, raises_user_error):
    model, tokenizer, objective = start
    (tmp_path / "start.txt").write_text("5 steps from elsewhere")
    with raises_user_error("began in another way", "start.txt"):
        options = {"steps": 5, "seeds": [0], "compare": compare}
        run_preference_study(["start"], SMOKE, model, tokenizer, objective, tmp_path, **options)


def test_the_sweep_is_what_chapter_08_says():
    runs = [w for name, w in PREFERENCE_RUNS.items() if name not in ("start", "ce", "reference")]
    sweep = [w.beta * (437 if w.total else 1) for w in runs]
    assert sorted(round(beta, 2) for beta in sweep) == [0.02, 0.2, 2, 4.37, 20, 87.4]


def test_the_command_takes_a_start_without_a_prior(tiny_runs, tmp_path, capsys):
    run = str(tmp_path / "bare")
    keys = [f"tokenizer={tiny_runs / 'hit'}", "prior=false", "loop.steps=1"]
    call = ["--profile", "smoke", "--device", "cpu", "--no-report", *(word for key in keys for word in ("--set", key))]
    assert main(["train", "transformer", *call, "--out", run]) == 0
    command = ["study", "--of", "preference", "--profile", "smoke", "--steps", "1", "--out", str(tmp_path / "study")]
    assert main([*command, "start", "--start", run]) == 0
    path = tmp_path / "study" / "study.csv"
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    study = load_study(path)
    for measure in ("psnr_rgb", "ssim", "perceptual", "sharpness", "noise"):
        assert ("start, no prior", f"{measure} 4 sampled") in study
    for words, line in (
        (["--of", "photos"], "no study of 'photos'"),
        (["alpha", "--start", run], "no run 'alpha'"),
        (["--start", "none"], "none: neither a shipped transformer"),
        (["--steps", "0"], "--steps 0"),
    ):
        assert main([*command, *words]) == 2
        assert line in capsys.readouterr().err
