"""Training the transformer: its latents, the objective, the official decay rules, runs that resume."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vartutor.cli import main
from vartutor.data.draws import photo_seeds, uniform
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.kinds import train
from vartutor.train.loop import Moment
from vartutor.train.processes import Process
from vartutor.train.settings import TransformerSettings
from vartutor.train.sizes import make_config
from vartutor.train.source import Feed, make_source
from vartutor.train.transformer import Objective, TransformerLoss, decay_groups
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, photo_features
from vartutor.transformer.prior import LatentPrior, spacing
from vartutor.weights import load_restorer, load_tokenizer
from vartutor.weights.files import STATE, load_state
from vartutor.weights.official_transformer import rename

SMOKE = replace(get_profile("smoke"), batch_size=2)
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def config(tokenizer):
    return TransformerConfig(tokenizer.quantizer.patch_nums, 64, 16, 32, 2, 2, rope=True)


def make_feed(loss, seed=1):
    run = TransformerSettings.of(SMOKE, seed=seed)
    return Feed(make_source(run, Process()), run, Process(), loss.prepare)


def train_transformer(tokenizer, out, resume=False, **changes):
    run = TransformerSettings.of(SMOKE, **{"validate_every": 0} | changes)
    return train("transformer", run, out, device="cpu", resume=resume, tokenizer=tokenizer)


def equal(a, b):
    pairs = zip((a.photo, a.draws, *a.clean, *a.degraded), (b.photo, b.draws, *b.clean, *b.degraded), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def test_a_batch_is_a_function_of_the_step(tokenizer, config):
    loss = TransformerLoss(PhotoTransformer(config, tokenizer.quantizer.codes), tokenizer)
    feed, other = make_feed(loss), make_feed(loss)
    seen = [feed(step) for step in range(4)]
    for step in (3, 1, 2, 2):  # ahead, and back
        assert equal(other(step), seen[step])
    assert not any(equal(seen[i], seen[j]) for i in range(4) for j in range(i))
    assert not equal(make_feed(loss, seed=2)(0), seen[0])
    assert seen[0].photo.shape == (2, 3, 16, 16)
    for features in (seen[0].clean, seen[0].degraded):
        assert [tuple(f.shape) for f in features] == [(2, 16, p, p) for p in (4, 8, 16)]


def test_degraded_latents_are_made_where_anything_reads_them(tokenizer, config):
    """The prior does, and so do slips, which are drawn around them."""
    for prior, slip, read in ((True, 0.0, True), (False, 0.3, True), (False, 0.0, False)):
        model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=prior)
        seen = make_feed(TransformerLoss(model, tokenizer, Objective(slip=slip)))(0)
        expected = photo_features(tokenizer, seen.photo) if read else seen.clean
        assert all(torch.equal(a, b) for a, b in zip(seen.degraded, expected, strict=True))
        assert read != torch.equal(seen.degraded[0], seen.clean[0])


def test_a_resumed_run_is_bit_for_bit_the_same(tokenizer, resumed):
    objective = Objective(1.0, 1.0, 0.3, 1.0, 0.5, slip=0.5, drop=0.3)

    def train(out, resume=False):
        return train_transformer(tokenizer, out, resume, steps=6, log_every=1, objective=objective)

    trainer = resumed(train)
    assert trainer.step == len(trainer.rows) == 6
    assert all(math.isfinite(row["loss"]) for row in trainer.rows)


def test_training_learns(tokenizer, config):
    torch.manual_seed(0)
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=False)
    loss = TransformerLoss(model, tokenizer)
    seen, optimizer = make_feed(loss)(0), torch.optim.AdamW(decay_groups(model, 0.0), lr=3e-3)
    entropies = []
    for _ in range(40):
        value, numbers = loss(seen, Moment())
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
        few = SimpleNamespace(quantizer=SimpleNamespace(codes=codes))
        return TransformerLoss(model, few, Objective(**{"hard": 0.0} | weights))._weigh(logits, targets, goals)[0]

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
    loss = TransformerLoss(model, tokenizer, Objective(drop=0.3))
    seen = make_feed(loss)(0)
    for step in range(60):
        seeds = photo_seeds(0, torch.arange(2 * step, 2 * step + 2))
        loss(replace(seen, draws=uniform(seeds, seen.draws.shape[1], 110)), Moment())
    assert 0.15 < torch.cat(shown).float().mean() < 0.45
    assert set(torch.cat(shown).tolist()) == {0, 1}
    model.eval()
    loss(seen, Moment())
    assert shown[-1] is None  # never when it counts
    trainer = train_transformer(tokenizer, tmp_path, objective=Objective(drop=0.1), steps=1)
    assert trainer.model.config.classes == 2


def test_slips_are_the_photos_own_and_for_training_alone(tokenizer, config):
    torch.manual_seed(0)
    model = PhotoTransformer(config, tokenizer.quantizer.codes)
    seen = make_feed(TransformerLoss(model, tokenizer))(0)
    plain, slipping = (TransformerLoss(model, tokenizer, Objective(slip=slip)) for slip in (0.0, 0.9))

    def value(loss, **changes):
        return loss(replace(seen, **changes), Moment())[0].item()

    assert value(slipping) == value(slipping) != value(plain)
    assert value(slipping, draws=seen.draws.flip(0)) != value(slipping)
    model.eval()
    assert value(slipping) == value(plain)


def test_only_what_is_logged_is_measured(tokenizer, config):
    loss = TransformerLoss(PhotoTransformer(config, tokenizer.quantizer.codes), tokenizer)
    seen = make_feed(loss)(0)
    assert set(loss(seen, Moment(logged=False))[1]) == {"ce"}
    numbers = loss(seen, Moment())[1]
    assert set(numbers) == {"ce", *(f"right/{k}" for k in range(8))}
    assert all(0 <= numbers[f"right/{k}"] <= 1 for k in range(8))


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
    row = train_transformer(tokenizer, tmp_path, steps=1, objective=Objective()).rows[-1]
    assert row["ce"] < torch.tensor(64.0).log()  # better than any code alike
    train_transformer(tokenizer, tmp_path, steps=2, objective=Objective(), resume=True)
    train_transformer(tokenizer, tmp_path / "bare", steps=1, prior=False)
    assert len(calls) == 1


def test_wrong_objectives_are_one_line(tokenizer, tmp_path, raises_user_error):
    for wrong, words in (
        ({"hard": 0.0}, "not all of them 0"),
        ({"soft": -1.0}, "from 0 on"),
        ({"tau": 0.0}, "tau 0"),
        ({"balance": 2.0}, "balance 2"),
        ({"slip": 1.5}, "slip 1.5"),
        ({"drop": -0.1}, "drop -0.1"),
    ):
        with raises_user_error(words):
            Objective(**wrong)
    with raises_user_error("can be dropped where a prefix shows them"):
        train_transformer(tokenizer, tmp_path, objective=Objective(drop=0.1), steps=1, prefix=False)


# --- the command -----------------------------------------------------------------------------------------------


def command(*words, **settings):
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return main(["train", "transformer", "--profile", "smoke", "--device", "cpu", *map(str, words), *sets])


def test_the_command_trains_and_says_what_it_got(tiny_runs, tmp_path, capsys):
    weights = {"hard": 0.5, "soft": 0.25, "tau": 2, "expected": 0.1, "balance": 0.3, "slip": 0.2, "drop": 0.1}
    told = {"loop.steps": 2, "seed": 7, "bf16": "true", "prior": "false"}
    told |= {f"objective.{name}": value for name, value in weights.items()}
    assert command("--out", tmp_path, **told, tokenizer=tiny_runs / "hit") == 0
    device, report, where = capsys.readouterr().out.splitlines()
    assert device.startswith("trains on cpu (")
    assert report.startswith("validation photos: ×1 ")
    assert report.count(" dB (perceptual ") == 3
    assert str(tmp_path) in where
    info = load_state(tmp_path / STATE)["info"]
    assert info["objective"] == weights
    assert (info["kind"], info["prior"], info["prefix"], info["seed"]) == ("transformer", False, True, 7)
    assert info["config"]["width"] == SMOKE.transformer.width
    assert info["command"].startswith("vartutor train transformer --profile smoke --device cpu --out ")
    assert info["run"]["bf16"]
    model, tokenizer, fidelity = load_restorer(str(tmp_path))
    assert fidelity is None
    assert model.config.classes == 2
    theirs = load_tokenizer(str(tiny_runs / "hit")).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in tokenizer.state_dict().items())


def test_a_run_goes_on_with_nothing_but_its_folder(tiny_runs, tmp_path, capsys, interrupted):
    whole, part = tmp_path / "whole", tmp_path / "part"
    told = {"tokenizer": tiny_runs / "hit", "loop.steps": 4, "prefix": "false", "objective.slip": 0.5}
    told |= {"loop.lr": "5e-4", "seed": 3}
    assert command("--out", whole, **told) == 0
    with interrupted(1):
        assert command("--out", part, **told) == 130
    assert capsys.readouterr().err.rstrip().endswith("--resume")
    assert command("--out", part, "--resume") == 0
    a, b = (load_state(folder / STATE) for folder in (whole, part))
    assert all(torch.equal(value, b["averaged"][name]) for name, value in a["averaged"].items())
    assert b["info"] == a["info"] | {"command": b["info"]["command"]}
    assert "--set objective.slip=0.5" in b["info"]["command"]


def test_a_resumed_run_keeps_its_shape(tiny_runs, tmp_path, capsys):
    told = {"tokenizer": tiny_runs / "hit", "added": "true", "prior": "false"}
    assert command("--out", tmp_path, **told, **{"loop.steps": 1}) == 0
    assert command("--out", tmp_path, "--resume", **{"loop.steps": 2}) == 0
    model = load_restorer(str(tmp_path))[0]
    assert model.added
    assert model.body.prior is None
    capsys.readouterr()
    assert command("--out", tmp_path / "none", **told, prefix="false") == 2
    assert "no prefix" in capsys.readouterr().err


def test_starting_from_official_weights(tiny_runs, tmp_path, capsys, monkeypatch):
    tokenizer = load_tokenizer(str(tiny_runs / "hit"))
    calls = []

    def start(model, source):
        calls.append((model, source))
        model.body.head.bias.data.fill_(0.25)
        return "taken from VAR: 7 tensors"

    monkeypatch.setattr("vartutor.weights.official_transformer.init_from_var", start)
    told = {"tokenizer": tiny_runs / "hit", "loop.steps": 1, "init": tmp_path / "var.pth"}
    assert command("--out", tmp_path, **told) == 0
    assert capsys.readouterr().out.splitlines()[1] == "taken from VAR: 7 tensors"
    assert (load_restorer(str(tmp_path))[0].body.head.bias - 0.25).abs().max() < 0.01
    assert command("--out", tmp_path, "--resume", **told) == 0
    assert len(calls) == 1
    assert calls[0][0].config.patch_nums == tokenizer.quantizer.patch_nums
    assert calls[0][1] == str(tmp_path / "var.pth")
    monkeypatch.undo()
    assert command("--out", tmp_path, **told) == 2
    assert "holds a run already; --resume" in capsys.readouterr().err
    assert command("--out", tmp_path / "other", **told) == 2
    assert "var.pth: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--set", "tokenizer=none"], "none: neither a shipped tokenizer"),
        (["--set", "tokenizer=vq"], "not a hierarchical tokenizer"),
        (["--set", "tokenizer=FOLDER"], "no saved state"),
        (["--resume"], "no saved state"),
        (["--set", "loop.steps=0"], "loop.steps 0"),
        (["--set", "loop.lr=0"], "loop.lr 0"),
        (["--set", "objective.drop=2"], "drop 2"),
        (["--set", "seed=-1"], "seed -1"),
    ],
)
def test_wrong_calls_are_one_line(tmp_path, capsys, words, line):
    words = [word.replace("FOLDER", str(tmp_path)) for word in words]
    assert command("--out", tmp_path / "out", *words) == 2
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
        shares = TransformerLoss(model, tokenizer, Objective(balance=balance)).shares.split(squares)
        assert sum(part.sum() for part in shares) == pytest.approx(1)
        assert shares[0].sum() == pytest.approx(first)
    assert shares[-1].sum() == pytest.approx(1 / len(squares))
