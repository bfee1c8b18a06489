"""Training the transformer: cached latents, the objective, the official decay rules, runs that resume."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from vartutor.cli import main
from vartutor.data.crops import RandomCrops
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.transformer import (
    FeatureCache,
    Objective,
    TransformerLoss,
    decay_groups,
    make_config,
    train_transformer,
)
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.photo import PhotoTransformer
from vartutor.transformer.prior import LatentPrior, spacing
from vartutor.weights import load_restorer, load_tokenizer
from vartutor.weights.files import load_state
from vartutor.weights.official_transformer import rename

SMOKE = replace(get_profile("smoke"), batch_size=2)
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return build_tokenizer(TokenizerConfig.of(SMOKE, "hit")).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def config(tokenizer):
    return TransformerConfig(tokenizer.quantizer.patch_nums, 64, 16, 32, 2, 2, rope=True)


def make_cache(tokenizer, **options):
    return FeatureCache(tokenizer, RandomCrops(load_pixels("train"), 64, 2, seed=1), COURSE, **options)


def equal(a, b):
    return torch.equal(a[0], b[0]) and all(torch.equal(p, q) for p, q in zip(a[1] + a[2], b[1] + b[2], strict=True))


def test_cached_batches_come_again_and_then_new_ones(tokenizer):
    cache = make_cache(tokenizer, batches=2, epochs=2)
    seen = [cache.batch() for _ in range(5)]
    assert equal(seen[0], seen[2])
    assert equal(seen[1], seen[3])
    assert not equal(seen[0], seen[4])
    assert [tuple(f.shape) for f in seen[0][1]] == [(2, 16, p, p) for p in (4, 8, 16)]


def test_a_cache_goes_on_where_it_stood(tokenizer):
    cache = make_cache(tokenizer, batches=2, epochs=1)
    for _ in range(3):
        cache.batch()
    other = make_cache(tokenizer, batches=2, epochs=1)
    other.load_state_dict(cache.state_dict())
    for _ in range(4):
        assert equal(cache.batch(), other.batch())


def test_a_resumed_run_is_bit_for_bit_the_same(tokenizer, config, monkeypatch, resumed):
    options = {"config": config, "steps": 6, "objective": Objective(1.0, 1.0, 0.3, 1.0, 0.5)}
    monkeypatch.setattr(FeatureCache.__init__, "__kwdefaults__", {"batches": 2, "epochs": 2, "seed": 0})
    resumed(partial(train_transformer, SMOKE, tokenizer, **options))


def test_training_learns(tokenizer, config, tmp_path):
    torch.manual_seed(0)
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=False)
    cache = make_cache(tokenizer, batches=1, epochs=1000)
    loss = TransformerLoss(model, cache, Objective())
    optimizer = torch.optim.AdamW(decay_groups(model, 0.0), lr=3e-3)
    entropies = []
    for step in range(40):
        value, numbers = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        entropies.append(numbers["ce"])
    assert entropies[-1] < entropies[0] - 0.5


def test_soft_targets_and_expected_codes_by_hand(tokenizer, config):
    model = PhotoTransformer(config, tokenizer.quantizer.codes)
    codes = torch.tensor([[0.0], [1.0], [3.0]])
    goals, logits = torch.full((1, config.tokens, 1), 0.9), torch.zeros(1, config.tokens, 3)
    targets = torch.ones(1, config.tokens, dtype=torch.long)
    log3 = torch.tensor(3.0).log()

    def weigh(**weights):
        loss = TransformerLoss(model, make_cache(tokenizer), Objective(**{"hard": 0.0} | weights))
        return loss._weigh(logits, targets, goals, codes)[0]

    assert torch.allclose(weigh(hard=1.0), log3)
    assert torch.allclose(weigh(soft=1.0), log3)  # any target, against equal chances
    assert torch.allclose(weigh(expected=1.0), torch.tensor((4 / 3 - 0.9) ** 2))
    logits[..., 2] = 1.0
    near = torch.tensor([-0.81, -0.01, -4.41]).softmax(-1)  # the nearest code is 0.1 away, and 100 · 0.1² is 1
    assert torch.allclose(weigh(soft=1.0, tau=100.0), -(near * logits[0, 0].log_softmax(-1)).sum(), rtol=1e-4)
    sharp = -logits[0, 0].log_softmax(-1)[1]  # a small tau leaves the nearest code alone
    assert torch.allclose(weigh(soft=1.0, tau=1e-3), sharp, rtol=1e-4)


def test_which_parameters_decay_is_as_in_var():
    entries = json.loads((GOLDEN / "var_d16_state_dict.json").read_text())["state_dict"]
    with torch.device("meta"):
        ladder = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
        model = NextScaleTransformer(TransformerConfig(ladder, 4096, 32, 1024, 16, 16, classes=1001))
    decayed = {id(p) for p in decay_groups(model, 0.05)[0]["params"]}
    official = rename({name: entry.get("weight_decay") for name, entry in entries.items()})
    assert {name: id(p) in decayed for name, p in model.named_parameters()} == official


def test_photos_are_dropped_at_the_given_rate(tokenizer, config, tmp_path, monkeypatch):
    model = PhotoTransformer(replace(config, classes=2), tokenizer.quantizer.codes)
    shown = []
    original = PhotoTransformer.condition
    monkeypatch.setattr(PhotoTransformer, "condition", lambda *args: shown.append(args[3]) or original(*args))
    loss = TransformerLoss(model, make_cache(tokenizer, batches=1, epochs=99), Objective(drop=0.3))
    torch.manual_seed(0)
    for step in range(60):
        loss.cache.batch()
        loss(step)
    share = torch.cat(shown).float().mean()
    assert 0.15 < share < 0.45
    trainer = train_transformer(SMOKE, tokenizer, tmp_path, objective=Objective(drop=0.1), steps=1)
    assert trainer.model.config.classes == 2


def test_the_priors_pull_is_measured_in_the_codes_spacing():
    codes = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    assert spacing(codes) == pytest.approx((9 + 9 + 16) / 3)
    small, large = LatentPrior(2, codes, 8), LatentPrior(2, 100 * codes, 8)
    rest, h = torch.randn(1, 5, 2), torch.randn(1, 5, 8)
    torch.nn.init.normal_(small.revise.weight)
    large.revise.load_state_dict(small.revise.state_dict())
    assert torch.allclose(small.logits(rest, 0, h), large.logits(100 * rest, 0, h), rtol=1e-4)


def test_the_transformer_moves_the_priors_rest_and_sharpens_it():
    codes = torch.randn(32, 4)
    prior, rest, h = LatentPrior(2, codes, 8), torch.randn(1, 5, 4), torch.zeros(1, 5, 8)
    closeness = -torch.cdist(rest[0], codes).square()[None]
    before = prior.logits(rest, 1, h).softmax(-1)
    assert torch.allclose(before, (prior.log_alpha[1].exp() * closeness).softmax(-1), atol=1e-5)
    shift = torch.tensor([1.0, -2.0, 0.0, 0.5])
    with torch.no_grad():
        prior.revise.bias.copy_(torch.cat([shift, torch.tensor([0.7])]))
    moved = -torch.cdist(rest[0] + prior.unit * shift, codes).square()[None]
    expected = ((prior.log_alpha[1] + 0.7).exp() * moved).softmax(-1)
    assert torch.allclose(prior.logits(rest, 1, h).softmax(-1), expected, atol=1e-5)


def test_calibration_finds_the_pull_that_was_there(tokenizer):
    torch.manual_seed(0)
    codes = torch.randn(32, 4)
    prior = LatentPrior(2, codes, 8)
    true = torch.tensor([0.5, 8.0]) / spacing(codes)
    rests = [torch.randn(4, 500, 4) for _ in true]
    chances = [
        (-alpha * torch.cdist(rest, codes).square()).softmax(-1) for alpha, rest in zip(true, rests, strict=True)
    ]
    targets = [torch.multinomial(chance.flatten(0, 1), 1).view(4, 500) for chance in chances]
    prior.calibrate(rests, targets)
    assert ((prior.log_alpha - true.log()).abs() < 0.3).all()


def test_a_new_run_starts_calibrated_and_a_resumed_one_as_it_was(tokenizer, tmp_path, monkeypatch):
    calls = []
    original = LatentPrior.calibrate
    monkeypatch.setattr(LatentPrior, "calibrate", lambda *args: calls.append(original(*args)))
    row = train_transformer(SMOKE, tokenizer, tmp_path, steps=1, objective=Objective()).rows[-1]
    assert row["ce"] < torch.tensor(64.0).log()  # better than any code alike
    train_transformer(SMOKE, tokenizer, tmp_path, steps=2, objective=Objective(), resume=True)
    train_transformer(SMOKE, tokenizer, tmp_path / "bare", steps=1, prior=False)
    assert len(calls) == 1


def test_wrong_objectives_are_one_line(tokenizer, config, tmp_path, raises_user_error):
    for wrong, words in (
        ({"hard": 0.0}, "not all of them 0"),
        ({"soft": -1.0}, "from 0 on"),
        ({"tau": 0.0}, "tau 0"),
        ({"slip": 1.5}, "slip 1.5"),
        ({"drop": -0.1}, "drop -0.1"),
    ):
        with raises_user_error(words):
            Objective(**wrong)
    for options in ({"prefix": False}, {"config": config}):
        with raises_user_error("can be dropped where a prefix shows them"):
            train_transformer(SMOKE, tokenizer, tmp_path, objective=Objective(drop=0.1), steps=1, **options)


# --- the command -----------------------------------------------------------------------------------------------


def train(*words):
    return main(["train", "transformer", "--profile", "smoke", *map(str, words)])


def test_the_command_trains_and_says_what_it_got(tiny_runs, tmp_path, capsys):
    switches = ["--no-prior", "--hard", "0.5", "--soft", "0.25", "--tau", "2", "--expected", "0.1"]
    switches += ["--balance", "0.3", "--slip", "0.2"]
    call = ["--tokenizer", tiny_runs / "hit", "--out", tmp_path, "--steps", 2, "--seed", 7, "--bf16", "--drop", "0.1"]
    assert train(*call, *switches) == 0
    sampled, expected, where = capsys.readouterr().out.splitlines()
    assert sampled.startswith("validation, sampled: ×1 ")
    assert expected.startswith("validation, expected: ×1 ")
    assert str(tmp_path) in where
    info = load_state(tmp_path / "state.pt")["info"]
    weights = {"hard": 0.5, "soft": 0.25, "tau": 2, "expected": 0.1, "balance": 0.3, "slip": 0.2, "drop": 0.1}
    assert info["objective"] == weights
    assert (info["kind"], info["prior"], info["prefix"], info["seed"]) == ("transformer", False, True, 7)
    assert info["config"]["width"] == SMOKE.transformer.width
    assert info["command"].startswith("vartutor train transformer --profile smoke --tokenizer ")
    model, tokenizer, fidelity, _ = load_restorer(str(tmp_path))
    assert fidelity is None
    assert model.config.classes == 2
    theirs = load_tokenizer(str(tiny_runs / "hit")).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in tokenizer.state_dict().items())


def test_a_run_goes_on_with_nothing_but_its_folder(tiny_runs, tmp_path, capsys, interrupted):
    whole, part = tmp_path / "whole", tmp_path / "part"
    call = ["--tokenizer", tiny_runs / "hit", "--steps", 4, "--no-prefix", "--slip", "0.5", "--lr", "5e-4", "--seed", 3]
    assert train(*call, "--out", whole) == 0
    with interrupted(1):
        assert train(*call, "--out", part) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert train("--out", part, "--resume") == 0
    a, b = (load_state(folder / "state.pt") for folder in (whole, part))
    assert all(torch.equal(value, b["averaged"][name]) for name, value in a["averaged"].items())
    assert b["info"] == a["info"] | {"command": b["info"]["command"]}
    assert "--slip 0.5" in b["info"]["command"]


def test_a_resumed_run_keeps_its_shape(tiny_runs, tmp_path):
    call = ["--tokenizer", tiny_runs / "hit", "--out", tmp_path, "--added", "--no-prior"]
    assert train(*call, "--steps", 1) == 0
    assert train("--resume", "--steps", 2, "--out", tmp_path) == 0
    model = load_restorer(str(tmp_path))[0]
    assert model.added
    assert model.body.prior is None
    assert train(*call, "--no-prefix", "--out", tmp_path / "none") == 2


def test_starting_from_official_weights(tiny_runs, tmp_path, capsys, monkeypatch):
    tokenizer = load_tokenizer(str(tiny_runs / "hit"))
    calls = []

    def start(model, source):
        calls.append((model, source))
        model.body.head.bias.data.fill_(0.25)
        return "taken from VAR: 7 tensors"

    monkeypatch.setattr("vartutor.weights.official_transformer.init_from_var", start)
    call = ["--tokenizer", tiny_runs / "hit", "--out", tmp_path, "--steps", 1, "--init", tmp_path / "var.pth"]
    assert train(*call) == 0
    assert capsys.readouterr().out.startswith("taken from VAR: 7 tensors\n")
    assert (load_restorer(str(tmp_path))[0].body.head.bias - 0.25).abs().max() < 0.01
    assert train(*call, "--resume") == 0
    assert len(calls) == 1
    assert calls[0][0].config.patch_nums == tokenizer.quantizer.patch_nums
    monkeypatch.undo()
    assert train(*call) == 2
    assert "holds a run already; --resume" in capsys.readouterr().err
    assert train(*call, "--out", tmp_path / "other") == 2
    assert "var.pth: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--tokenizer", "none"], "none: neither a shipped tokenizer"),
        (["--tokenizer", "vq"], "not a hierarchical tokenizer"),
        (["--tokenizer", "FOLDER"], "no saved state"),
        (["--resume"], "no saved state"),
        (["--steps", "0"], "--steps 0"),
        (["--lr", "0"], "--lr 0"),
        (["--drop", "2"], "drop 2"),
        (["--seed", "-1"], "seed -1"),
    ],
)
def test_wrong_calls_are_one_line(tmp_path, capsys, words, line):
    words = [tmp_path if word == "FOLDER" else word for word in words]
    assert train("--out", tmp_path / "out", *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert line in said


def test_the_profiles_sizes_are_possible():
    for name, largest in (("smoke", 1e5), ("cpu", 6e6), ("gpu", 3.2e8)):
        profile = get_profile(name)
        with torch.device("meta"):
            tokenizer = build_tokenizer(TokenizerConfig.of(profile))
            model = PhotoTransformer(make_config(profile, tokenizer), tokenizer.quantizer.codes)
        assert largest / 2 < sum(p.numel() for p in model.parameters()) < largest


def test_balance_lets_every_map_count_alike(tokenizer):
    model = PhotoTransformer(TransformerConfig((1, 2, 4, 4, 4, 8, 8, 16), 64, 16, 32, 1, 2), tokenizer.quantizer.codes)
    squares = [p * p for p in model.config.patch_nums]
    for balance, first in ((0.0, 1 / sum(squares)), (1.0, 1 / len(squares))):
        shares = TransformerLoss(model, make_cache(tokenizer), Objective(balance=balance)).shares.split(squares)
        assert sum(part.sum() for part in shares) == pytest.approx(1)
        assert shares[0].sum() == pytest.approx(first)
    assert shares[-1].sum() == pytest.approx(1 / len(squares))
