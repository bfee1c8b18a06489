"""Short comparative runs, and how a trained tokenizer becomes a shipped one."""

import json
import shutil

import pytest
import torch

from vartutor.cli import main
from vartutor.paths import assets, sha256_of
from vartutor.profiles import get_profile
from vartutor.tables import load_study
from vartutor.train.kinds import train
from vartutor.train.settings import TokenizerSettings
from vartutor.workshop.publish import publish
from vartutor.workshop.tokenizer_study import TOKENIZER_RUNS, run_tokenizer_study

SMOKE = get_profile("smoke")


def test_a_study_measures_every_photo_and_does_nothing_twice(tmp_path):
    path = run_tokenizer_study(["hit", "var"], SMOKE, tmp_path, steps=1, seeds=[0])
    first = path.read_bytes()
    study = load_study(path)
    assert set(study["hit", "psnr 1"][0]) == set(study["var", "psnr 1 shrunk first"][0])
    assert len(study["var", "psnr 4"][0]) == 20
    assert study["hit", "tokens"][0]["all"] == study["var", "tokens"][0]["all"] == 437
    (tmp_path / "hit_0" / "state.pt").unlink()
    assert run_tokenizer_study(["hit"], SMOKE, tmp_path, steps=1, seeds=[0]).read_bytes() == first


def test_groups_that_stand_alone_are_compared(tmp_path):
    study = load_study(run_tokenizer_study(["alone"], SMOKE, tmp_path, steps=1, seeds=[3]))
    assert list(study["alone", "agreement"][3]) == ["0: 1", "1: 2", "2: 4", "3: 4", "4: 4"]
    assert all(0 <= share <= 1 for share in study["alone", "agreement"][3].values())


def test_an_unknown_run_is_one_line(tmp_path, raises_user_error):
    with raises_user_error("no run 'hat'", "one more scale"):
        run_tokenizer_study(["hat"], SMOKE, tmp_path, steps=1, seeds=[0])


@pytest.fixture
def shelf(tmp_path):
    """A copy of the manifest, to be written to."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    shutil.copy(assets() / "checkpoints" / "manifest.json", folder)
    return folder


def test_publishing_writes_weights_and_their_record(tmp_path, shelf):
    before = json.loads((shelf / "manifest.json").read_text())
    run, origin = TokenizerSettings.of(SMOKE, ladder="vq", steps=2, seed=5), {"command": "c", "commit": "abc"}
    train("tokenizer", run, tmp_path / "run", device="cpu", origin=origin)
    entry = publish(tmp_path / "run", SMOKE, shelf)
    assert (entry["seed"], entry["steps"], entry["command"], entry["commit"]) == (5, 2, "c", "abc")
    assert set(entry["metrics"]["psnr_rgb"]) == {"4"}
    after = json.loads((shelf / "manifest.json").read_text())
    assert after == before | {"tokenizer_vq.safetensors": entry}
    assert sha256_of(shelf / "tokenizer_vq.safetensors") == entry["sha256"]
    assert [path.name for path in shelf.glob("*.part")] == []


def test_publishing_something_else_is_one_line(tmp_path, capsys):
    assert main(["publish", str(tmp_path)]) == 2
    torch.save({"step": 1}, tmp_path / "state.pt")
    assert main(["publish", str(tmp_path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "no saved state" in first
    assert "does not say which model" in second


def test_the_shipped_study_is_complete():
    study = load_study()
    for name, run in TOKENIZER_RUNS.items():
        seeds = [0] if name.startswith("ladder") else [0, 1, 2]
        assert sorted(study[name, "psnr 4"]) == seeds
        assert all(len(photos) == (12 if run.split == "val" else 20) for photos in study[name, "psnr 4"].values())
