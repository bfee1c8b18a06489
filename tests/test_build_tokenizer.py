"""Tokenizers from plain settings, and the ones that are shipped."""

import json

import pytest
import torch

from vartutor.data.crops import eval_crops
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import LADDERS, TokenizerConfig, build_tokenizer, first_groups, one_group
from vartutor.weights import load_tokenizer
from vartutor.weights.files import checkpoint_name, manifest
from vartutor.workshop.scores import score_tokenizer
from vartutor.workshop.tokenizer_study import parse_groups

SMOKE = get_profile("smoke")


def test_groups_are_written_as_they_are_read():
    assert parse_groups("1,2,4 | 8|16") == ((1, 2, 4), (8,), (16,))


@pytest.mark.parametrize("text", ["", "1,,2", "1|", "a", "0,2", "1 2", "-1"])
def test_a_ladder_that_is_none_is_one_clear_line(raises_user_error, text):
    with raises_user_error(repr(text), "write it like"):
        parse_groups(text)


@pytest.mark.parametrize("ladder", LADDERS)
def test_settings_survive_json(ladder):
    config = TokenizerConfig.of(SMOKE, ladder, overlap=ladder != "hit")
    assert TokenizerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_ladders_share_their_token_maps():
    ladders = {name: build_tokenizer(TokenizerConfig.of(SMOKE, name)).quantizer.patch_nums for name in LADDERS}
    assert ladders["var"] == ladders["hit"] == (1, 2, 4, 4, 4, 8, 8, 16)
    assert ladders["vq"] == (16,)


def test_a_single_map_is_plain_vector_quantization():
    model = build_tokenizer(TokenizerConfig.of(SMOKE, "vq")).eval()
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    (idx,) = model.tokenize(x)
    (f_hat,) = model.latents([idx])
    assert torch.equal(f_hat.flatten(2).transpose(1, 2), model.quantizer.codes[idx])


def test_the_first_groups_are_built_again_from_their_settings():
    whole = build_tokenizer(TokenizerConfig.of(SMOKE)).eval()
    cut = first_groups(whole, 2)
    config = TokenizerConfig.from_json(json.loads(json.dumps(cut.config.to_json())))
    assert config.kept == 2
    again = build_tokenizer(config).eval()
    again.load_state_dict(cut.state_dict())
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert again.scales == (1, 2)
    assert all(map(torch.equal, again.tokenize(x), whole.tokenize(x)[:7]))
    assert whole.config.kept is None


def test_a_plain_tokenizer_as_one_group():
    plain = build_tokenizer(TokenizerConfig.of(SMOKE, "var")).eval()
    hit = one_group(plain, 4)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    idx = plain.tokenize(x)
    assert all(map(torch.equal, hit.tokenize(x), idx))
    assert torch.equal(hit.decode_scales(idx)[4], plain.reconstruct(x))
    again = build_tokenizer(hit.config)
    again.load_state_dict(plain.state_dict())
    assert (again.scales, again.quantizer.groups) == ((4,), ((1, 2, 4, 4, 4, 8, 8, 16),))


def test_unknown_ladders(raises_user_error):
    with raises_user_error("unknown ladder 'rvq'", "vq, var, hit"):
        TokenizerConfig.of(SMOKE, "rvq")
    with raises_user_error("official: neither a shipped tokenizer", "hit, var, vq"):
        load_tokenizer("official")


@pytest.mark.parametrize("name", LADDERS)
def test_shipped_tokenizers_score_what_the_manifest_says(name):
    model, entry = load_tokenizer(name), manifest()[checkpoint_name("tokenizer", name)]
    scores = score_tokenizer(model, get_profile("cpu"))
    assert {str(s): v.mean().item() for s, v in scores.items()} == pytest.approx(entry["metrics"]["psnr_rgb"], abs=0.05)
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


def test_the_hierarchical_tokenizer_is_as_good_as_the_course_says():
    metrics = manifest()[checkpoint_name("tokenizer", "hit")]["metrics"]
    assert metrics["psnr_rgb"]["1"] >= 28.5
    assert metrics["psnr_rgb"]["2"] >= 28.5
    assert metrics["psnr_rgb"]["4"] >= 30.5
    assert metrics["codes_used"] >= 0.95


def test_plain_and_hierarchical_had_the_same_budget():
    var, hit = (manifest()[checkpoint_name("tokenizer", name)] for name in ("var", "hit"))
    assert var["steps"] == hit["steps"]
    assert {**var["config"], "ladder": "hit", "bridge": hit["config"]["bridge"]} == hit["config"]


@pytest.mark.parametrize("name", LADDERS)
def test_tokenizers_of_any_ladder_have_the_same_methods(name):
    model = load_tokenizer(name)
    x, _ = eval_crops("val", 64, 1)
    indices = model.tokenize(x[:2])
    assert [idx.shape for idx in indices] == [(2, p * p) for p in model.quantizer.patch_nums]
    assert all(idx.dtype == torch.int64 for idx in indices)
    latents = model.latents(indices)
    assert len(latents) == len(indices)
    assert torch.equal(model.decode(latents[-1]), model.reconstruct(x[:2]))
    if name != "vq":
        tokens = model.quantizer.tokens
        assert model.next_inputs(indices).shape == (2, tokens - 1, model.quantizer.codes.shape[1])
