"""The recipes: one command, four stages, a published model; stopped and gone on with."""

import json
from dataclasses import replace

import pytest
import torch
import yaml

from vartutor.cli import main
from vartutor.data.images import read_image
from vartutor.paths import assets
from vartutor.profiles import get_profile
from vartutor.train.kinds import KINDS
from vartutor.weights import files, load_restorer
from vartutor.weights.files import load_checkpoint
from vartutor.workshop import speedrun
from vartutor.workshop.speedrun import ORDER, read_schedule


@pytest.mark.parametrize("name", ["speedrun", "overnight"])
def test_recipes_fit_the_settings(name, tmp_path):
    schedule = read_schedule(name)
    assert schedule.profile == get_profile(name)
    runs = {kind: schedule.stage(kind, "photos", tmp_path) for kind in ORDER}
    for run in runs.values():
        run.check(1)
        assert run.degradation == "wide"
    assert sum(run.loop.seconds for run in runs.values()) == pytest.approx(60 * schedule.minutes)
    assert runs["transformer"].restorer == str(tmp_path / "baseline")
    assert runs["transformer"].tokenizer == str(tmp_path / "tokenizer")
    assert runs["fidelity"].model == str(tmp_path / "transformer")
    assert runs["fidelity"].objective.base == "photo"
    told = yaml.safe_load((assets() / "recipes" / f"{name}.yaml").read_text())
    assert runs["baseline"].loop.lr == float(told["stages"]["baseline"]["loop"]["lr"])
    assert runs["baseline"].loop.save_every == told["all"]["loop"]["save_every"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda told: told["stages"].pop("tokenizer"), "not a recipe"),
        (lambda told: told["stages"]["tokenizer"].update(share=0.9), "the shares of the stages make"),
        (lambda told: told["stages"]["tokenizer"].update(bach=3), "did you mean batch?"),
        (lambda told: told.update(profile="huge"), "unknown profile 'huge'"),
    ],
)
def test_a_recipe_that_is_wrong_is_one_line(change, line, tmp_path, capsys):
    told = yaml.safe_load((assets() / "recipes" / "speedrun.yaml").read_text())
    change(told)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(told))
    assert main(["speedrun", "--recipe", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def smaller(monkeypatch):
    """Toy runs of nets that are toys too, judged on one photo."""
    stage = speedrun.Schedule.stage

    def smaller_stage(self, kind, photos, out):
        run = stage(self, kind, photos, out)
        return replace(run, net=replace(run.net, width=8, blocks=1)) if kind == "baseline" else run

    monkeypatch.setattr(speedrun.Schedule, "stage", smaller_stage)
    photos = speedrun.split_photos
    monkeypatch.setattr(speedrun, "split_photos", lambda *args, **options: [photos(*args, **options)[0]])
    monkeypatch.setattr(speedrun, "EXAMPLES", 1)


def test_one_command_makes_a_published_model(smaller, tmp_path, capsys, monkeypatch):
    call = ["speedrun", "--dry-run", "--device", "cpu", "--out", str(tmp_path)]
    assert main([*call, "--max-hours", "0.0000001"]) == 0  # each call stops where its time is over
    printed = capsys.readouterr()
    assert f"go on with: vartutor {' '.join(call)}" in printed.err
    assert "stopped after step 1 and saved" in printed.err
    assert not (tmp_path / "tokenizer").exists()
    assert main(call) == 0
    printed = capsys.readouterr().out
    assert "Columns of `samples.png`, at ×4: bicubic, net alone, model, temperature 0.5," in printed
    for kind in ORDER:
        assert KINDS[kind]
        assert (tmp_path / kind / "state.pt").exists()
    listed = json.loads((tmp_path / "weights" / "manifest.json").read_text())
    assert sorted(listed) == [
        f"{kind}_speedrun.safetensors" for kind in ("cnn", "fidelity", "tokenizer", "transformer")
    ]
    assert listed["transformer_speedrun.safetensors"]["restorer"]["width"] == 8
    assert listed["fidelity_speedrun.safetensors"]["config"]["base"] == "photo"
    assert read_image(tmp_path / "results" / "samples.png").shape[0] == 3
    restorer = load_restorer(tmp_path / "fidelity")
    assert restorer.fidelity.balanced == 1
    assert restorer.model.restorer.config.width == 8
    (tmp_path / "checkpoints").symlink_to(tmp_path / "weights")
    monkeypatch.setattr(files, "assets", lambda: tmp_path)
    shipped = load_restorer("speedrun")  # the net lies in a file of its own
    for a, b in zip(restorer, shipped, strict=True):
        assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
    assert not any(name.startswith("restorer.") for name in load_checkpoint("transformer_speedrun.safetensors"))
    assert listed["transformer_speedrun.safetensors"]["net"] == listed["cnn_speedrun.safetensors"]["sha256"]

    stamps = {kind: (tmp_path / kind / "state.pt").stat().st_mtime_ns for kind in ORDER}
    assert main(call) == 0
    assert "transformer: finished before" in capsys.readouterr().out
    assert stamps == {kind: (tmp_path / kind / "state.pt").stat().st_mtime_ns for kind in ORDER}


def test_the_finest_map_covers_the_photo():
    for profile in (read_schedule(name).profile for name in ("overnight", "speedrun")):
        assert profile.groups[-1][-1] * profile.factor == profile.image_size
        assert profile.groups[0][-1] * profile.factor == profile.lr_size
