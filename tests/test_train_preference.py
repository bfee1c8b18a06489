"""Fine-tuning with a preference: what is computed, what it starts from, runs that resume, and the command."""

import copy
import hashlib
import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch

from vartutor.cli import main
from vartutor.data.pairs import eval_pairs
from vartutor.data.presets import COURSE
from vartutor.paths import assets
from vartutor.profiles import get_profile
from vartutor.train.kinds import train
from vartutor.train.loop import Moment
from vartutor.train.preference import Preference, PreferenceLoss, drift, judge_preference, show_sides
from vartutor.train.processes import Process
from vartutor.train.settings import PreferenceSettings
from vartutor.train.source import StoreSource, make_source
from vartutor.train.transformer import Features, Objective, TransformerLoss
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, force, pair_features, photo_features
from vartutor.weights import load_restorer, load_start, load_tokenizer
from vartutor.weights.files import STATE, load_state, packed
from vartutor.workshop.publish import publish

SMOKE = replace(get_profile("smoke"), batch_size=2)


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


@pytest.fixture(scope="module")
def batch():
    return make_source(PreferenceSettings.of(SMOKE, seed=1), Process()).batch(range(2))


@pytest.fixture(scope="module")
def seen(tokenizer, batch):
    """What a loss gets to see of two photos."""
    return Features(
        batch.lr, *pair_features(tokenizer, batch.lr, batch.x), batch.uniform(2 + 2 * tokenizer.quantizer.tokens, 110)
    )


@pytest.mark.parametrize("side", [16, 48], ids=["short", "long"])
def test_both_sides_are_two_separate_passes(tokenizer, start, seen, side, monkeypatch):
    """Whether the prefix is short or, of 576 tokens, longer than the maps: it is computed once."""
    photo, degraded = torch.rand(2, 3, side, side), seen.degraded
    forced = [force(tokenizer, features, degraded) for features in (seen.clean, degraded)]
    passes, original = [], type(start.body).branches
    monkeypatch.setattr(type(start.body), "branches", lambda *args: passes.append(len(args[2])) or original(*args))
    sides = show_sides(start, photo, degraded, forced, None)
    assert passes == [2]
    condition = start.condition(photo, degraded)
    for logits, (targets, _, inputs, rests), found in zip(sides.logits, forced, (sides.hr, sides.lr), strict=True):
        alone = start.body(condition, inputs, rests)
        assert torch.allclose(logits, alone, atol=1e-4)
        logp = alone.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        assert torch.allclose(found.mean, logp.mean(1), atol=1e-4)


def test_the_other_tokens_are_those_of_the_enlarged_photo(tokenizer, start):
    pairs = eval_pairs(COURSE, "test", 64, 1)
    degraded = photo_features(tokenizer, pairs.lr[:3])
    targets = force(tokenizer, degraded, degraded)[0]
    assert torch.equal(targets, torch.cat(tokenizer.quantizer.tokenize(degraded), 1))


def test_a_batch_is_shown_as_the_latents_of_both_photos(tokenizer, start, batch, seen):
    """Whether there is a prior or not: the degraded photo's tokens are needed in any case."""
    shown = PreferenceLoss(start, start, tokenizer, Objective()).prepare(batch)
    assert torch.equal(shown.photo, batch.lr)
    assert torch.equal(shown.draws, seen.draws)
    for ours, theirs in ((shown.clean, seen.clean), (shown.degraded, photo_features(tokenizer, batch.lr))):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_control_is_the_transformers_own_loss(tokenizer, start, seen):
    for objective in (Objective(), Objective(0.5, 1.0, 0.3, 0.2)):
        plain, numbers = TransformerLoss(start, tokenizer, objective)(seen, Moment())
        control, others = PreferenceLoss(start, start, tokenizer, objective, Preference(lam=0))(seen, Moment())
        assert torch.allclose(plain, control, atol=1e-5)
        assert numbers["ce"].item() == pytest.approx(others["ce"].item(), abs=1e-4)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("total", [False, True])
def test_the_preference_is_added_with_its_weight(tokenizer, start, seen, total, reference):
    other = make_model(tokenizer, start.body.prior is not None, seed=2).requires_grad_(False)
    w = Preference(0.05, 0.7, total, reference)
    loss, numbers = PreferenceLoss(other, start, tokenizer, Objective(), w)(seen, Moment())
    forced = [force(tokenizer, features, seen.degraded) for features in (seen.clean, seen.degraded)]
    logps = []
    for model in (other, start):
        for targets, _, inputs, rests in forced:
            logits = model.body(model.condition(seen.photo, seen.degraded), inputs, rests)
            logp = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
            logps.append(logp.sum(1) if total else logp.mean(1))
    gap = logps[0] - logps[1] - reference * (logps[2] - logps[3])
    expected = torch.log1p(torch.exp(-0.05 * gap)).mean().item()
    assert numbers["dpo"].item() == pytest.approx(expected, rel=1e-3)
    assert loss.item() == pytest.approx(numbers["ce"].item() + 0.7 * expected, rel=1e-3)
    assert numbers["margin sum" if total else "margin"].item() == pytest.approx(
        (logps[0] - logps[1]).mean().item(), rel=1e-2
    )


def test_a_sum_is_a_mean_with_a_larger_beta(tokenizer, start, seen):
    """All photos have as many tokens; so sum or mean is a question of β alone."""
    L = start.config.tokens
    ways = Preference(0.2 / L, total=True), Preference(0.2)
    found = [PreferenceLoss(start, start, tokenizer, Objective(), w)(seen, Moment())[1]["dpo"].item() for w in ways]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_numbers_of_the_margin(tokenizer, start, seen):
    loss = PreferenceLoss(start, start, tokenizer, Objective())
    numbers = {name: value.item() for name, value in loss(seen, Moment())[1].items()}
    squares = [p * p for p in start.config.patch_nums]
    by_scale = sum(numbers[f"margin/{k}"] * n for k, n in enumerate(squares))
    assert by_scale == pytest.approx(numbers["margin sum"], rel=1e-3)
    assert numbers["margin sum"] == pytest.approx(numbers["margin"] * sum(squares), rel=1e-3)
    assert numbers["drift"] == pytest.approx(0, abs=1e-6)
    assert numbers["accuracy"] in (0, 0.5, 1)


def test_the_start_is_asked_where_somebody_wants_to_know(tokenizer, start, seen, monkeypatch):
    """Its pass is for the log and for the reference: between them it is left out."""
    other = make_model(tokenizer, start.body.prior is not None, seed=2).requires_grad_(False)
    asked, original = [], type(start).condition
    monkeypatch.setattr(type(start), "condition", lambda model, *args: asked.append(model) or original(model, *args))
    for reference, logged, passes in ((False, False, 0), (False, True, 1), (True, False, 1)):
        asked.clear()
        loss = PreferenceLoss(other, start, tokenizer, Objective(), Preference(reference=reference))
        numbers = loss(seen, Moment(logged=logged))[1]
        assert sum(model is start for model in asked) == passes
        assert ("drift" in numbers) == logged


def test_slips_are_for_the_own_objective_alone(tokenizer, start, seen):
    model = copy.deepcopy(start).train()
    found = {}
    for slip in (0.0, 0.9):
        loss, numbers = PreferenceLoss(model, start, tokenizer, Objective(slip=slip))(seen, Moment())
        found[slip] = loss.item(), {name: value.item() for name, value in numbers.items()}
    assert found[0.9][1] == pytest.approx(found[0.0][1], abs=1e-4)
    assert abs(found[0.9][0] - found[0.0][0]) > 1e-4
    calm = PreferenceLoss(model.eval(), start, tokenizer, Objective(slip=0.9))(seen, Moment())[0]
    assert calm.item() == pytest.approx(found[0.0][0], abs=1e-5)  # none when it counts


def test_a_few_steps_widen_the_margin(tokenizer, start, seen):
    model = copy.deepcopy(start).requires_grad_(True)
    loss = PreferenceLoss(model, start, tokenizer, Objective(), Preference(beta=5.0, lam=5.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    margins = []
    for _ in range(12):
        value, numbers = loss(seen, Moment())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        margins.append(numbers["margin"])
    assert margins[-1] > margins[0] + 0.05
    assert numbers["drift"] > 1e-3


def test_drift_is_the_divergence_from_the_start(tokenizer, start, seen):
    other = make_model(tokenizer, start.body.prior is not None, seed=2)
    forced = [force(tokenizer, features, seen.degraded) for features in (seen.clean, seen.degraded)]
    with torch.no_grad():
        a, b = (show_sides(model, seen.photo, seen.degraded, forced, None) for model in (start, other))
    expected = torch.distributions.kl_divergence(
        *(torch.distributions.Categorical(logits=sides.logits[0]) for sides in (a, b))
    )
    assert torch.allclose(drift(a, b), expected.mean(1), atol=1e-4)
    numbers = PreferenceLoss(other, start, tokenizer, Objective())(seen, Moment())[1]
    assert numbers["drift"].item() == pytest.approx(expected.mean().item(), rel=1e-3)


def test_held_out_pairs_are_judged_one_by_one(tokenizer, start):
    other = make_model(tokenizer, start.body.prior is not None, seed=2)
    pairs = eval_pairs(COURSE, "test", 64, 1)
    found = judge_preference(other, start, tokenizer, pairs, batch=7)
    assert all(value.shape == (20,) for value in found.values())
    again = judge_preference(other, start, tokenizer, pairs, batch=20)
    assert all(torch.allclose(found[name], again[name], atol=1e-3) for name in found)
    assert torch.equal(found["accuracy"], (found["margin sum"] > 0).float())
    assert (found["drift"] > 0).all()


def fine_tune(start, tokenizer, objective, out, resume=False, **changes):
    run = PreferenceSettings.of(SMOKE, **{"validate_every": 0, "log_every": 1} | changes)
    return train("preference", run, out, device="cpu", resume=resume, start=(start, tokenizer, asdict(objective)))


def test_a_resumed_run_is_bit_for_bit_the_same(tokenizer, start, resumed):
    def train(out, resume=False):
        preference = Preference(reference=True)
        return fine_tune(start, tokenizer, Objective(slip=0.3), out, resume, steps=6, preference=preference)

    ours = resumed(train).model.state_dict()
    assert not torch.equal(ours["body.head.weight"], start.state_dict()["body.head.weight"])


def test_the_start_stands_still(tokenizer, start, tmp_path):
    before = {name: value.clone() for name, value in start.state_dict().items()}
    trainer = fine_tune(start, tokenizer, Objective(), tmp_path, steps=2)
    kept = load_state(tmp_path / STATE)["parts"]["start"]
    assert all(torch.equal(kept[name], value) for name, value in before.items())
    assert all(torch.equal(start.state_dict()[name], value) for name, value in before.items())
    assert not any(p.requires_grad for p in start.parameters())
    assert trainer.model is not start


def test_the_batches_do_not_depend_on_the_preference(tokenizer, start, tmp_path, monkeypatch):
    seen = []
    original = StoreSource.batch
    monkeypatch.setattr(StoreSource, "batch", lambda *args: seen.append(original(*args)) or seen[-1])
    for i, preference in enumerate((Preference(lam=0), Preference(reference=True), Preference(9.0, total=True))):
        fine_tune(start, tokenizer, Objective(slip=0.5), tmp_path / str(i), steps=2, preference=preference)
    assert len(seen) == 6
    for i in (0, 1):
        for j in (i + 2, i + 4):
            assert torch.equal(seen[i].lr, seen[j].lr)
            assert torch.equal(seen[i].x, seen[j].x)
            assert torch.equal(seen[i].seeds, seen[j].seeds)


def test_wrong_preferences_are_one_line(raises_user_error):
    with raises_user_error("beta 0"):
        Preference(beta=0)
    with raises_user_error("lambda -1"):
        Preference(lam=-1)


# --- the command -----------------------------------------------------------------------------------------------


def command(*words, **settings):
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return main(["train", "preference", "--profile", "smoke", "--device", "cpu", *map(str, words), *sets])


def test_the_command_fine_tunes_and_its_run_restores_photos(tiny_runs, tmp_path, capsys):
    run = tmp_path / "run"
    told = {"preference.beta": 0.5, "preference.lam": 2, "preference.total": "true", "preference.reference": "true"}
    told |= {"loop.lr": "1e-4", "loop.steps": 2, "seed": 7, "model": tiny_runs / "transformer"}
    assert command("--out", run, **told) == 0
    device, report, where = capsys.readouterr().out.splitlines()
    assert device.startswith("trains on cpu (")
    assert report.startswith("validation photos: ×1 ")
    assert str(run) in where
    info = load_state(run / STATE)["info"]
    start = load_state(tiny_runs / "transformer" / STATE)["info"]
    assert info["preference"] == asdict(Preference(0.5, 2.0, True, True))
    assert (info["objective"], info["config"], info["prior"]) == (start["objective"], start["config"], start["prior"])
    assert info["seed"] == 7
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
    assert command("--out", run, "--no-report", **{"loop.steps": 1, "model": tiny_runs / "transformer"}) == 0
    entry = publish(run, SMOKE, shelf, "dpo")
    assert entry["start"]["sha256"] == first["sha256"]
    assert entry["preference"] == asdict(Preference())
    assert "chapter 08" in entry["what"]
    assert json.loads((shelf / "manifest.json").read_text())["transformer_dpo.safetensors"] == entry


def test_a_run_goes_on_with_nothing_but_its_folder(tiny_runs, tmp_path, capsys, interrupted):
    whole, part = tmp_path / "whole", tmp_path / "part"
    told = {"model": tiny_runs / "transformer", "preference.reference": "true", "preference.beta": 3}
    told |= {"loop.steps": 3, "loop.lr": "5e-4", "seed": 3}
    assert command("--out", whole, **told) == 0
    with interrupted(1):
        assert command("--out", part, **told) == 130
    assert command("--out", part, "--resume") == 0
    a, b = (load_state(folder / STATE) for folder in (whole, part))
    assert all(torch.equal(value, b["averaged"][name]) for name, value in a["averaged"].items())
    assert b["info"] == a["info"] | {"command": b["info"]["command"]}
    capsys.readouterr()
    assert main(["train", "transformer", "--profile", "smoke", "--out", str(part), "--resume"]) == 2
    assert "holds a preference; go on with vartutor train preference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--set", "model=none"], "none: neither a shipped transformer"),
        (["--set", "model=HIT"], "holds a tokenizer, not a transformer"),
        (["--set", "preference.beta=0"], "beta 0"),
        (["--set", "preference.lam=-1"], "lambda -1"),
        (["--set", "loop.steps=0"], "loop.steps 0"),
        (["--set", "loop.lr=0"], "loop.lr 0"),
        (["--resume"], "no saved state"),
    ],
)
def test_wrong_calls_are_one_line(tiny_runs, tmp_path, capsys, words, line):
    words = ["--set", f"model={tiny_runs / 'transformer'}", *words] if "--resume" not in words else words
    words = [word.replace("HIT", str(tiny_runs / "hit")) for word in words]
    assert command("--out", tmp_path / "out", *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert line in said
