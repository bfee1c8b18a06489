"""A tokenizer's run that starts from VAR's official weights, and the transformer's run over it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vartutor.cli import main
from vartutor.profiles import get_profile, toy
from vartutor.tokenizer.build import TokenizerConfig
from vartutor.train.settings import TokenizerSettings
from vartutor.train.tokenizer import FROZEN, Losses, make_tokenizer
from vartutor.weights import load_restorer, load_tokenizer
from vartutor.weights.files import STATE, load_state
from vartutor.weights.official_tokenizer import init_from_vqvae, load_vqvae

GOLDEN = Path(__file__).parent / "golden" / "tiny_vqvae_golden.safetensors"
SMALL = ["--set", "profile.width=32", "--set", "profile.channels=8", "--set", "profile.codes=64"]
SMALL += ["--set", "profile.image_size=64", "--set", "profile.groups=[[1], [2], [4]]", "--set", "profile.bridge=8"]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file of the official layout with random numbers, narrow, and for 64 codes of 8 channels."""
    torch.manual_seed(5)
    tiny = load_file(GOLDEN)
    state = {name.removeprefix("weights."): value.float() for name, value in tiny.items() if "weights." in name}
    with safe_open(GOLDEN, "pt") as file:
        config = json.loads(file.metadata()["config"])
    assert (config["ch"], config["z_channels"], config["vocab_size"]) == (32, 8, 64)
    state = {name: torch.randn_like(value) * 0.05 for name, value in state.items()}
    path = tmp_path_factory.mktemp("official") / "vae.pth"
    torch.save(state, path)
    return path


def train(kind, out, *words, steps=2):
    call = ["train", kind, "--profile", "gpu", "--device", "cpu", "--no-report", "--out", str(out), "--set", "batch=2"]
    return main([*call, *SMALL, "--set", f"loop.steps={steps}", *map(str, words)])


@pytest.mark.parametrize("learns", FROZEN)
def test_the_command_takes_the_weights_and_trains_what_it_is_told(official, tmp_path, capsys, learns):
    assert train("tokenizer", tmp_path, "--set", f"init={official}", "--set", f"train={learns}") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("taken from VAR: ")
    assert said[2].startswith("new: quantizer.hits, ")
    assert "quantizer.bridge.conv1.weight" in said[2]
    assert "encoder" not in said[2]
    assert said[3] == "not used: quantizer.hits"
    state, start = load_state(tmp_path / STATE), load_vqvae(official).state_dict()
    moved = {name.split(".")[0] for name, value in state["model"].items() if name in start and "hits" not in name
             and not torch.equal(value, start[name])}  # fmt: skip
    everything = {"encoder", "quant_conv", "quantizer", "post_quant_conv", "decoder"}
    assert moved == everything - set(FROZEN[learns])
    assert load_tokenizer(tmp_path).config.start == "vae.pth"


def test_a_run_that_started_from_weights_goes_on_without_them(official, tmp_path):
    words = ["--set", "train=codes+decoder", "--set", "loop.log_every=1"]
    gone = tmp_path / "gone.pth"
    gone.write_bytes(official.read_bytes())
    assert train("tokenizer", tmp_path / "whole", "--set", f"init={gone}", *words, steps=3) == 0
    assert train("tokenizer", tmp_path / "part", "--set", f"init={gone}", *words, "--max-hours", 1e-9, steps=3) == 0
    gone.unlink()
    assert train("tokenizer", tmp_path / "part", "--resume", steps=3) == 0
    whole, part = (load_state(tmp_path / name / STATE) for name in ("whole", "part"))
    assert all(torch.equal(part["averaged"][name], value) for name, value in whole["averaged"].items())
    assert part["info"]["config"] == whole["info"]["config"]


def test_what_it_makes_of_a_photo_is_what_the_official_one_makes():
    """A plain tokenizer of the official ladder gives the official tokens."""
    torch.manual_seed(0)
    profile = replace(toy(get_profile("gpu")), groups=((1, 2), (3,), (4,)))
    model = make_tokenizer(TokenizerConfig.of(profile, "var"), Losses()).eval()
    tiny = load_file(GOLDEN)
    state = {name.removeprefix("weights."): value.float() for name, value in tiny.items() if "weights." in name}
    start = init_from_vqvae(model, state)
    assert len(start.taken) == len(model.state_dict()) - 3
    assert torch.equal(model.quantizer.sums, model.quantizer.codes)  # the averages begin at the codes
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    theirs = load_vqvae(state, (1, 2, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(model.tokenize(x), theirs.tokenize(x), strict=True))
    assert torch.allclose(model.reconstruct(x), theirs.reconstruct(x), atol=1e-5)


def test_what_cannot_be_is_one_line(official, tmp_path, capsys):
    for words, line in (
        (["--set", f"init={tmp_path / 'none.pth'}"], "none.pth: no such file"),
        (["--set", f"init={official}", "--set", "profile.width=64"], "the weights do not fit the model"),
        (["--set", f"init={official}", "--set", "profile.autoencoder=small"], "fits VAR's autoencoder"),
        (["--set", "train=decoder"], "train 'decoder': choose one of all, codes+decoder, codes"),
        (["--set", "train=codes", "--set", "ladder=vq"], "take train=codes+decoder"),
    ):
        assert train("tokenizer", tmp_path / "out", *words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert line in said
    assert not (tmp_path / "out" / STATE).exists()


def test_over_other_codes_vars_transformer_is_warned_of(official, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "vartutor.weights.official_transformer.init_from_var", lambda model, source: "taken from VAR: 7"
    )
    assert train("tokenizer", tmp_path / "vars", "--set", f"init={official}") == 0
    assert train("tokenizer", tmp_path / "own") == 0
    small = ["--set", "profile.transformer={width: 32, depth: 1, heads: 1}", "--set", "init=var_d16.pth"]
    for name, warned in (("vars", False), ("own", True)):
        capsys.readouterr()
        assert train("transformer", tmp_path / f"over {name}", "--set", f"tokenizer={tmp_path / name}", *small) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: var_d16.pth")]
        assert len(lines) == warned
        assert not warned or "train tokenizer --set init=vae_ch160v4096z32.pth" in lines[0]


def test_dry_runs_need_no_weights(tmp_path):
    run = TokenizerSettings.of(get_profile("gpu"), init="vae.pth", train="codes")
    assert (run.dry(2).init, run.dry(2).train) == ("", "codes")
    words = ["--dry-run", "--device", "cpu", "--no-report", "--set", "loop.steps=1", "--set", "train=codes"]
    assert main(["train", "tokenizer", "--profile", "gpu", "--out", str(tmp_path), *words]) == 0


def test_the_prefix_of_the_paper_is_the_enlarged_photos_latents(official, tmp_path):
    """Trained, kept, built again; one token for every position of the finest map, and the photo changes the answer."""
    tokenizer = tmp_path / "tokenizer"
    assert train("tokenizer", tokenizer, "--set", f"init={official}") == 0
    small = ["--set", "profile.transformer={width: 32, depth: 1, heads: 1}", "--set", f"tokenizer={tokenizer}"]
    assert train("transformer", tmp_path / "run", *small, "--set", "encoded=true") == 0
    model, hit = load_restorer(tmp_path / "run")[:2]
    assert model.settings["encoded"]
    assert "patch" not in model.settings
    assert model.reads_latents
    photo = torch.rand(2, 3, 16, 16) * 2 - 1
    latents = tuple(hit.encode(model.first(photo, (4,))[4]))
    condition = model.condition(photo, latents)
    assert condition.prefix.shape == (2, 16, 32)
    assert condition.sizes == ((4, 4),)
    assert condition.features == ()
    assert torch.allclose(condition.prefix[:, 5], model.prefix.proj(latents[-1][:, :, 1, 1]))
    inputs = torch.zeros(2, hit.quantizer.tokens - 1, 8)
    model.body.head.weight.data.normal_()
    model.body.blocks[0].modulation.weight.data.normal_()
    other = model.condition(photo, tuple(-f for f in latents))
    assert not torch.allclose(model.body(condition, inputs), model.body(other, inputs))
