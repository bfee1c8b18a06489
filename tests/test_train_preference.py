"""Fine-tuning with a preference: what is computed, what it starts from, runs that resume, and the command."""

import copy
import hashlib
import json
import shutil
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch

from vartutor.cli import main
from vartutor.data.crops import RandomCrops
from vartutor.data.pairs import eval_pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.paths import assets
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.preference import (
    Preference,
    PreferenceLoss,
    drift,
    judge_preference,
    show_sides,
    train_preference,
)
from vartutor.train.transformer import FeatureCache, Objective, TransformerLoss
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, force, photo_features
from vartutor.weights import load_restorer
from vartutor.weights.files import load_state, packed
from vartutor.workshop.publish import publish

SMOKE = replace(get_profile("smoke"), batch_size=2)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return build_tokenizer(TokenizerConfig.of(SMOKE, "hit")).eval().requires_grad_(False)


def make_model(tokenizer, prior=True, seed=1):
    torch.manual_seed(seed)
    config = TransformerConfig(tokenizer.quantizer.patch_nums, 64, 16, 32, 2, 2, rope=True)
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=prior)
    with torch.no_grad():
        model.body.head.weight.mul_(50)  # so that it has opinions
    return model.eval()


@pytest.fixture(scope="module", params=[True, False], ids=["prior", "no prior"])
def start(tokenizer, request):
    return make_model(tokenizer, request.param).requires_grad_(False)


def make_cache(tokenizer, **options):
    return FeatureCache(tokenizer, RandomCrops(load_pixels("train"), 64, 2, seed=1), COURSE, **options)


@pytest.mark.parametrize("side", [16, 48], ids=["short", "long"])
def test_both_sides_are_two_separate_passes(tokenizer, start, side, monkeypatch):
    """Whether the prefix is short or, of 576 tokens, longer than the maps: it is computed once."""
    _, clean, degraded = make_cache(tokenizer).batch()
    photo = torch.rand(2, 3, side, side)
    seen = [force(tokenizer, features, degraded) for features in (clean, degraded)]
    passes, original = [], type(start.body).branches
    monkeypatch.setattr(type(start.body), "branches", lambda *args: passes.append(len(args[2])) or original(*args))
    sides = show_sides(start, photo, degraded, seen, None)
    assert passes == [2]
    condition = start.condition(photo, degraded)
    for logits, (targets, _, inputs, rests), found in zip(sides.logits, seen, (sides.hr, sides.lr), strict=True):
        alone = start.body(condition, inputs, rests)
        assert torch.allclose(logits, alone, atol=1e-4)
        logp = alone.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        assert torch.allclose(found.mean, logp.mean(1), atol=1e-4)


def test_the_other_tokens_are_those_of_the_enlarged_photo(tokenizer, start):
    pairs = eval_pairs(COURSE, "test", 64, 1)
    degraded = photo_features(tokenizer, pairs.lr[:3])
    targets = force(tokenizer, degraded, degraded)[0]
    assert torch.equal(targets, torch.cat(tokenizer.quantizer.tokenize(degraded), 1))


def test_the_control_is_the_transformers_own_loss(tokenizer, start):
    for objective in (Objective(), Objective(0.5, 1.0, 0.3, 0.2)):
        losses = []
        for make in (
            lambda cache, o=objective: TransformerLoss(start, cache, o),
            lambda cache, o=objective: PreferenceLoss(start, start, cache, o, Preference(lam=0)),
        ):
            losses.append(make(make_cache(tokenizer))(0))
        (plain, numbers), (control, others) = losses
        assert torch.allclose(plain, control, atol=1e-5)
        assert numbers["ce"] == pytest.approx(others["ce"], abs=1e-4)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("total", [False, True])
def test_the_preference_is_added_with_its_weight(tokenizer, start, total, reference):
    other = make_model(tokenizer, start.body.prior is not None, seed=2).requires_grad_(False)
    w = Preference(0.05, 0.7, total, reference)
    loss, numbers = PreferenceLoss(other, start, make_cache(tokenizer), Objective(), w)(0)
    photo, clean, degraded = make_cache(tokenizer).batch()
    seen = [force(tokenizer, features, degraded) for features in (clean, degraded)]
    logps = []
    for model in (other, start):
        for targets, _, inputs, rests in seen:
            logits = model.body(model.condition(photo, degraded), inputs, rests)
            logp = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
            logps.append(logp.sum(1) if total else logp.mean(1))
    gap = logps[0] - logps[1] - reference * (logps[2] - logps[3])
    expected = torch.log1p(torch.exp(-0.05 * gap)).mean().item()
    assert numbers["dpo"] == pytest.approx(expected, rel=1e-3)
    assert loss.item() == pytest.approx(numbers["ce"] + 0.7 * expected, rel=1e-3)
    assert numbers["margin sum" if total else "margin"] == pytest.approx((logps[0] - logps[1]).mean().item(), rel=1e-2)


def test_a_sum_is_a_mean_with_a_larger_beta(tokenizer, start):
    """All photos have as many tokens; so sum or mean is a question of β alone."""
    L = start.config.tokens
    ways = Preference(0.2 / L, total=True), Preference(0.2)
    found = [PreferenceLoss(start, start, make_cache(tokenizer), Objective(), w)(0)[1]["dpo"] for w in ways]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_numbers_of_the_margin(tokenizer, start):
    _, numbers = PreferenceLoss(start, start, make_cache(tokenizer), Objective(), Preference())(0)
    squares = [p * p for p in start.config.patch_nums]
    by_scale = sum(numbers[f"margin/{k}"] * n for k, n in enumerate(squares))
    assert by_scale == pytest.approx(numbers["margin sum"], rel=1e-3)
    assert numbers["margin sum"] == pytest.approx(numbers["margin"] * sum(squares), rel=1e-3)
    assert numbers["drift"] == pytest.approx(0, abs=1e-6)
    assert numbers["accuracy"] in (0, 0.5, 1)


def test_slips_are_for_the_own_objective_alone(tokenizer, start):
    found = {}
    for slip in (0.0, 0.9):
        torch.manual_seed(0)
        found[slip] = PreferenceLoss(start, start, make_cache(tokenizer), Objective(slip=slip), Preference())(0)
    assert found[0.9][1] == pytest.approx(found[0.0][1], abs=1e-4)
    assert abs(found[0.9][0].item() - found[0.0][0].item()) > 1e-4


def test_a_few_steps_widen_the_margin(tokenizer, start):
    model = copy.deepcopy(start).requires_grad_(True)
    cache = make_cache(tokenizer, batches=1, epochs=100)
    loss = PreferenceLoss(model, start, cache, Objective(), Preference(beta=5.0, lam=5.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    margins = []
    for step in range(12):
        value, numbers = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        margins.append(numbers["margin"])
    assert margins[-1] > margins[0] + 0.05
    assert numbers["drift"] > 1e-3


def test_drift_is_the_divergence_from_the_start(tokenizer, start):
    other = make_model(tokenizer, start.body.prior is not None, seed=2)
    photo, clean, degraded = make_cache(tokenizer).batch()
    seen = [force(tokenizer, features, degraded) for features in (clean, degraded)]
    with torch.no_grad():
        a, b = (show_sides(model, photo, degraded, seen, None) for model in (start, other))
    expected = torch.distributions.kl_divergence(
        *(torch.distributions.Categorical(logits=sides.logits[0]) for sides in (a, b))
    )
    assert torch.allclose(drift(a, b), expected.mean(1), atol=1e-4)


def test_held_out_pairs_are_judged_one_by_one(tokenizer, start):
    other = make_model(tokenizer, start.body.prior is not None, seed=2)
    pairs = eval_pairs(COURSE, "test", 64, 1)
    found = judge_preference(other, start, tokenizer, pairs, batch=7)
    assert all(value.shape == (20,) for value in found.values())
    again = judge_preference(other, start, tokenizer, pairs, batch=20)
    assert all(torch.allclose(found[name], again[name], atol=1e-3) for name in found)
    assert torch.equal(found["accuracy"], (found["margin sum"] > 0).float())
    assert (found["drift"] > 0).all()


def test_a_resumed_run_is_bit_for_bit_the_same(tokenizer, start, resumed):
    options = {"steps": 6, "objective": Objective(slip=0.3), "preference": Preference(reference=True)}
    ours = resumed(partial(train_preference, SMOKE, start, tokenizer, **options)).model.state_dict()
    assert not torch.equal(ours["body.head.weight"], start.state_dict()["body.head.weight"])


def test_the_batches_do_not_depend_on_the_preference(tokenizer, start, tmp_path, monkeypatch):
    seen = []
    original = FeatureCache.batch
    monkeypatch.setattr(FeatureCache, "batch", lambda cache: seen.append(original(cache)) or seen[-1])
    for i, preference in enumerate((Preference(lam=0), Preference(reference=True), Preference(9.0, total=True))):
        train_preference(
            SMOKE, start, tokenizer, tmp_path / str(i), steps=2, objective=Objective(slip=0.5), preference=preference
        )
    for i in (0, 1):
        assert torch.equal(seen[i][0], seen[i + 2][0])
        assert torch.equal(seen[i][0], seen[i + 4][0])


def test_wrong_preferences_are_one_line(raises_user_error):
    with raises_user_error("beta 0"):
        Preference(beta=0)
    with raises_user_error("lambda -1"):
        Preference(lam=-1)


# --- the command -----------------------------------------------------------------------------------------------


def train(*words):
    return main(["train", "preference", "--profile", "smoke", *map(str, words)])


def test_the_command_fine_tunes_and_its_run_restores_photos(tiny_runs, tmp_path, capsys):
    run, options = tmp_path / "run", ["--beta", "0.5", "--lambda", "2", "--sum", "--reference", "--lr", "1e-4"]
    assert train("--model", tiny_runs / "transformer", "--out", run, "--steps", 2, "--seed", 7, *options) == 0
    sampled, expected, where = capsys.readouterr().out.splitlines()
    assert sampled.startswith("validation, sampled: ×1 ")
    assert expected.startswith("validation, expected: ×1 ")
    assert str(run) in where
    info = load_state(run / "state.pt")["info"]
    start = load_state(tiny_runs / "transformer" / "state.pt")["info"]
    assert info["preference"] == asdict(Preference(0.5, 2.0, True, True))
    assert (info["objective"], info["config"], info["prior"]) == (start["objective"], start["config"], start["prior"])
    model = load_restorer(str(tiny_runs / "transformer"))[0]
    checksum = hashlib.sha256(packed(model)).hexdigest()
    assert info["start"] == {"model": str(tiny_runs / "transformer"), "sha256": checksum}
    photo = assets() / "photos" / "kde_owl.jpg"
    assert load_restorer(str(run))[2] is None
    assert load_tokenizer(str(run)).config == load_tokenizer(str(tiny_runs / "hit")).config
    assert main(["upscale", str(photo), "--model", str(run), "--scales", "1", "--out", str(tmp_path / "up")]) == 0
    again = load_start(str(run))
    assert again[2] == info["objective"]


def test_publishing_says_what_it_was_tuned_from(tiny_runs, tmp_path):
    shelf, run = tmp_path / "shelf", tmp_path / "run"
    shelf.mkdir()
    shutil.copy(assets() / "checkpoints" / "manifest.json", shelf)
    publish(tiny_runs / "hit", SMOKE, shelf)
    first = publish(tiny_runs / "transformer", SMOKE, shelf, "plain")
    assert train("--model", tiny_runs / "transformer", "--out", run, "--steps", 1) == 0
    entry = publish(run, SMOKE, shelf, "dpo")
    assert entry["start"]["sha256"] == first["sha256"]
    assert entry["preference"] == asdict(Preference())
    assert "chapter 08" in entry["what"]
    assert json.loads((shelf / "manifest.json").read_text())["transformer_dpo.safetensors"] == entry


def test_a_run_goes_on_with_nothing_but_its_folder(tiny_runs, tmp_path, capsys, interrupted):
    whole, part = tmp_path / "whole", tmp_path / "part"
    call = ["--model", tiny_runs / "transformer", "--steps", 3, "--reference", "--beta", 3, "--lr", 5e-4, "--seed", 3]
    assert train(*call, "--out", whole) == 0
    with interrupted(1):
        assert train(*call, "--out", part) == 130
    assert train("--out", part, "--resume") == 0
    a, b = (load_state(folder / "state.pt") for folder in (whole, part))
    assert all(torch.equal(value, b["averaged"][name]) for name, value in a["averaged"].items())
    assert b["info"] == a["info"] | {"command": b["info"]["command"]}
    capsys.readouterr()
    assert main(["train", "transformer", "--profile", "smoke", "--out", str(part), "--resume"]) == 2
    assert "holds a preference; needed: transformer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model", "none"], "none: neither a shipped transformer"),
        (["--model", "HIT"], "holds a tokenizer; needed: transformer or preference"),
        (["--beta", "0"], "beta 0"),
        (["--lambda", "-1"], "lambda -1"),
        (["--steps", "0"], "--steps 0"),
        (["--lr", "0"], "--lr 0"),
        (["--resume"], "no saved state"),
    ],
)
def test_wrong_calls_are_one_line(tiny_runs, tmp_path, capsys, words, line):
    words = [tiny_runs / "hit" if word == "HIT" else word for word in words]
    assert train("--model", tiny_runs / "transformer", "--out", tmp_path / "out", *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert line in said
