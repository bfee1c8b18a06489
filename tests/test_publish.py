"""From a training run to a shipped checkpoint, and back into a model."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

from vartutor.addons.refiner import Refined, load_refiner
from vartutor.baselines.cnn import CnnConfig
from vartutor.cli import main
from vartutor.data.pairs import eval_pairs
from vartutor.data.presets import COURSE
from vartutor.metrics import psnr
from vartutor.paths import assets, sha256_of
from vartutor.profiles import get_profile
from vartutor.superres import SuperResolver
from vartutor.train.kinds import train
from vartutor.train.settings import BaselineSettings
from vartutor.transformer.photo import PhotoTransformer, build_transformer
from vartutor.weights import files, load_cnn, load_restorer, load_tokenizer
from vartutor.weights.files import load_checkpoint, manifest
from vartutor.workshop.publish import KEPT, publish

SMOKE = get_profile("smoke")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A copy of the shipped checkpoints that a test may write to, and that the package then reads from."""
    shutil.copytree(assets() / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.setattr(files, "assets", lambda: tmp_path)
    load_checkpoint.cache_clear()
    yield tmp_path / "checkpoints"
    load_checkpoint.cache_clear()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_published_is_what_was_trained(tiny_runs, shelf):
    for run in ("hit", "transformer", "fidelity", "refiner"):
        entry = publish(tiny_runs / run, SMOKE, shelf)
        assert entry["steps"] == 2
        assert entry["command"].startswith("vartutor train ")
    names = ["fidelity_course.safetensors", "tokenizer_hit.safetensors", "transformer_course.safetensors"]
    for file in names:
        assert manifest()[file]["sha256"] == sha256_of(shelf / file)
    assert manifest()[names[2]]["tokenizer"] == manifest()[names[1]]["sha256"]
    for file in (names[0], "refiner_course.safetensors"):
        assert manifest()[file]["transformer"] == manifest()[names[2]]["sha256"]
    shipped = load_restorer("course")
    trained = load_restorer(str(tiny_runs / "fidelity"))
    assert all(same(a, b) for a, b in zip(shipped, trained, strict=True))
    assert same(shipped[1], load_tokenizer("hit"))
    assert same(shipped[1], load_tokenizer(str(tiny_runs / "hit")))
    resolver = SuperResolver.from_pretrained("course")
    x = torch.zeros(3, 8, 8)
    assert not torch.equal(resolver.upscale(x, (1,))[1], resolver.upscale(x, (1,), fidelity=0.0)[1])
    refiner = load_refiner("course")
    assert same(refiner, load_refiner(str(tiny_runs / "refiner")))
    plain, refined = resolver.upscale(x), resolver.upscale(x, write=Refined(refiner))
    assert [torch.equal(refined[s], plain[s]) for s in (1, 2, 4)] == [True, True, False]


def test_the_record_of_a_transformer(tiny_runs, shelf):
    publish(tiny_runs / "hit", SMOKE, shelf)
    entry = publish(tiny_runs / "transformer", SMOKE, shelf, name="small")
    assert entry == json.loads((shelf / "manifest.json").read_text())["transformer_small.safetensors"]
    assert all(entry[key] for key in ("what", "licence", "command", "config", "objective"))
    assert entry["seed"] == 0
    for way in ("sampled", "expected"):
        assert set(entry["metrics"][way]) == {"psnr_rgb", "perceptual"}
        assert set(entry["metrics"][way]["psnr_rgb"]) == {"1", "2", "4"}
    small = load_restorer("small")
    assert small.fidelity is None
    assert small.model.config.width == SMOKE.transformer.width


def test_convolutional_nets_are_published_by_their_heads(tmp_path, shelf):
    for name, heads in (("all", (1, 2, 4)), ("four", (4,))):
        config = CnnConfig(4, 1, heads)
        run = BaselineSettings.of(SMOKE, steps=2, net=config, perceptual=0.1)
        train("baseline", run, tmp_path / name, device="cpu", origin={"command": "c"})
        entry = publish(tmp_path / name, SMOKE, shelf)
        assert (entry["command"], entry["steps"], entry["perceptual"]) == ("c", 2, 0.1)
        own, trained = "course" if name == "all" else "course_x4", load_cnn(str(tmp_path / name))
        assert entry == manifest()[f"cnn_{own}.safetensors"]
        assert same(load_cnn(own), trained)
        assert load_cnn(own).config == config
        pairs = eval_pairs(COURSE, "test", 64, SMOKE.eval_crops)
        x, clean = trained.restore(pairs.lr)[4], pairs.hr[4]
        assert entry["metrics"]["psnr_rgb"]["4"] == pytest.approx(psnr(x, clean, color="rgb").mean().item(), abs=0.01)
        assert set(entry["metrics"]["perceptual"]) == {str(s) for s in heads}
    assert files.shipped("cnn") == ["course", "course_x4"]


def test_the_record_has_all_that_a_transformer_is_built_from(tiny_runs):
    model, tokenizer, *_ = load_restorer(str(tiny_runs / "transformer"))
    codes = tokenizer.quantizer.codes
    settings = PhotoTransformer(model.config, codes, prior=False, patch=4, added=True).settings
    assert settings["added"]
    assert settings["patch"] == 4
    assert set(settings) <= set(KEPT)
    assert build_transformer(settings, tokenizer).settings == settings


def test_what_it_was_trained_over_must_be_there(tiny_runs, shelf, raises_user_error):
    with raises_user_error("tokenizer_hit.safetensors", "first"):
        publish(tiny_runs / "transformer", SMOKE, _without(shelf, "tokenizer_hit.safetensors"))
    publish(tiny_runs / "hit", SMOKE, shelf)
    with raises_user_error("transformer_course.safetensors", "first"):
        publish(tiny_runs / "fidelity", SMOKE, shelf)
    shutil.copytree(tiny_runs / "hit", shelf.parent / "other")
    state = torch.load(shelf.parent / "other" / "state.pt", weights_only=True)
    state["averaged"]["quantizer.codes"] += 1
    torch.save(state, shelf.parent / "other" / "state.pt")
    publish(shelf.parent / "other", SMOKE, shelf)
    before = (shelf / "manifest.json").read_bytes()
    with raises_user_error("tokenizer_hit.safetensors", "not what the run was trained over"):
        publish(tiny_runs / "transformer", SMOKE, shelf)
    assert (shelf / "manifest.json").read_bytes() == before


def _without(shelf: Path, file: str) -> Path:
    listed = json.loads((shelf / "manifest.json").read_text())
    listed.pop(file, None)
    (shelf / "manifest.json").write_text(json.dumps(listed))
    return shelf


def test_a_new_tokenizer_makes_a_shipped_transformer_useless_and_says_so(tiny_runs, shelf, raises_user_error):
    for run in ("hit", "transformer", "fidelity"):
        publish(tiny_runs / run, SMOKE, shelf)
    listed = json.loads((shelf / "manifest.json").read_text())
    listed["fidelity_course.safetensors"]["transformer"] = "0" * 64
    (shelf / "manifest.json").write_text(json.dumps(listed))
    assert load_restorer().fidelity is None  # it belongs to other weights
    listed["transformer_course.safetensors"]["tokenizer"] = "0" * 64
    (shelf / "manifest.json").write_text(json.dumps(listed))
    with raises_user_error("another tokenizer"):
        load_restorer()


def test_a_full_disk_keeps_the_old_files(tiny_runs, shelf, monkeypatch, raises_user_error):
    before = {path.name: path.read_bytes() for path in shelf.iterdir()}
    original = Path.write_bytes

    def full(path, data):
        original(path, data[:10])
        if path.name == "manifest.json.part":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with raises_user_error("No space left", "kept"):
        publish(tiny_runs / "hit", SMOKE, shelf)
    assert {path.name: path.read_bytes() for path in shelf.iterdir()} == before


def test_the_command_publishes_and_prints_the_metrics(tiny_runs, shelf, monkeypatch, capsys):
    monkeypatch.setattr("vartutor.workshop.publish.assets", lambda: shelf.parent)
    for run in ("hit", "transformer", "fidelity"):
        assert main(["publish", str(tiny_runs / run), "--profile", "smoke", "--name", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["codes_used" in lines[0], "'expected'" in lines[1], "'fidelity 1'" in lines[2]] == [True] * 3
    assert {"transformer_tiny.safetensors", "fidelity_tiny.safetensors"} <= set(manifest())


def test_a_folder_of_your_own_gets_model_cards(tiny_runs, tmp_path, raises_user_error):
    """Weights, record and card agree; the course's own folder has no cards."""
    folder, photos = tmp_path / "mine", tmp_path / "run"
    shutil.copytree(tiny_runs / "hit", photos)
    state = torch.load(photos / "state.pt", weights_only=True)
    state["info"]["run"] = {"data": ["div2k", "holiday"], "image_size": 64, "batch": 4, "degradation": "varsr"}
    torch.save(state, photos / "state.pt")
    call = ["publish", str(photos), "--profile", "smoke", "--out", str(folder), "--licence", "CC-BY-NC-4.0"]
    assert main(call) == 0
    names = ["manifest.json", "tokenizer_hit.md", "tokenizer_hit.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    card = (folder / "tokenizer_hit.md").read_text()
    assert sha256_of(folder / "tokenizer_hit.safetensors") in card
    for words in ("license: cc-by-nc-4.0", "academic research only", "- holiday", "psnr_rgb", "64 pixels", "## Limits"):
        assert words in card
    state["averaged"]["post_quant_conv.bias"][0] = 1e6
    torch.save(state, photos / "state.pt")
    before = (folder / "manifest.json").read_bytes()
    with raises_user_error("post_quant_conv.bias", "float16", "nothing is published"):
        publish(photos, SMOKE, folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_the_card_of_a_transformer_warns(tiny_runs, shelf):
    publish(tiny_runs / "hit", SMOKE, shelf)
    publish(tiny_runs / "transformer", SMOKE, shelf)
    card = (shelf / "transformer_course.md").read_text()
    assert manifest()["tokenizer_hit.safetensors"]["sha256"] in card
    assert "what is likely, not what was there" in card
    assert "CC0 or public domain" in card
