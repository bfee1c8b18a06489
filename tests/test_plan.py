"""The plan: FLOPs beside torch's counter, memory beside the allocator's own records, and the arithmetic in between."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from vartutor.cli import main
from vartutor.data.crops import RandomCrops
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.gpus import GPUS, get_gpu
from vartutor.plan.estimate import Setup, make_plan, planned_tokenizer, planned_transformer
from vartutor.plan.flops import tokenizer_step, transformer_step
from vartutor.plan.memory import tokenizer_activations, transformer_activations
from vartutor.plan.report import report
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.train.preference import Preference, PreferenceLoss
from vartutor.train.tokenizer import Losses, TokenizerLoss
from vartutor.train.transformer import FeatureCache, Objective, TransformerLoss
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer

CPU = get_profile("cpu")
SMALL = replace(CPU, batch_size=1, width=32)
# VAR's autoencoder, as narrow as its norms allow, for 16 to 64 pixels
VAR = replace(SMALL, autoencoder="var", channels=32, codes=256, groups=((1,), (1, 2), (2, 4)))
ROWS = {"small": SMALL, "wide": replace(SMALL, width=96, bridge=0), "var": VAR}


def tokenizer_of(profile, ladder="hit", codes="ema"):
    model = build_tokenizer(TokenizerConfig.of(profile, ladder))
    if codes == "ema":
        model.quantizer.use_moving_averages()
    return model.train()


def crops_of(profile):
    return RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size)


def transformer_of(profile, width=64, depth=2, heads=4, checkpointing=False, prior=True, rope=True, shared=False):
    tokenizer = tokenizer_of(profile).eval().requires_grad_(False)
    sizes = profile.codes, profile.channels, width, depth, heads
    options = {"rope": rope, "checkpointing": checkpointing, "shared_aln": shared}
    config = TransformerConfig(tokenizer.quantizer.patch_nums, *sizes, **options)
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=prior).train()
    cache = FeatureCache(tokenizer, crops_of(profile), COURSE, batches=1, epochs=99)
    return model, tokenizer, cache


def counted(call) -> int:
    """FLOPs by torch's counter, which sees attention only where it is written out in matrix products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("codes", ["ema", "loss"])
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("ladder", ["hit", "var", "vq"])
def test_flops_of_the_tokenizer(name, ladder, codes):
    profile = ROWS[name]
    model = tokenizer_of(profile, ladder, codes)
    loss = TokenizerLoss(model, crops_of(profile), Losses(revive_every=0), 10)
    planned = sum(part.total for part in tokenizer_step(model, profile.image_size))
    assert planned == pytest.approx(counted(lambda: loss(0)[0].backward()), rel=0.02)


SIZES = {
    "narrow": {},
    "wide": {"width": 128, "heads": 4, "depth": 3},
    "positions": {"rope": False, "prior": False},
    "shared": {"shared": True},
    "checkpointing": {"checkpointing": True},
}


@pytest.mark.parametrize("options", SIZES.values(), ids=SIZES)
def test_flops_of_the_transformer(options):
    model, tokenizer, cache = transformer_of(SMALL, **options)
    loss = TransformerLoss(model, cache, Objective())
    planned = sum(part.total for part in transformer_step(model, tokenizer, SMALL.image_size))
    assert planned == pytest.approx(counted(lambda: loss(0)[0].backward()), rel=0.02)


def preference_loss(model, cache, slip):
    start = copy.deepcopy(model).eval().requires_grad_(False)
    return PreferenceLoss(model, start, cache, Objective(slip=slip), Preference(), due=lambda step: False)


@pytest.mark.parametrize(("slip", "branches"), [(0.0, 2), (0.5, 3)])
def test_flops_of_the_preference(slip, branches):
    model, tokenizer, cache = transformer_of(SMALL)
    loss = preference_loss(model, cache, slip)
    planned = sum(part.total for part in transformer_step(model, tokenizer, SMALL.image_size, branches))
    assert planned == pytest.approx(counted(lambda: loss(0)[0].backward()), rel=0.02)


def test_flops_of_the_forward_pass_by_module():
    model = tokenizer_of(VAR)
    x = crops_of(VAR).batch()
    parts = {part.name: part for part in tokenizer_step(model, VAR.image_size)}
    assert parts["encoder"].forward == pytest.approx(counted(lambda: model.encode(x)), rel=0.02)


def allocated(step) -> int:
    """Most bytes at one time that a step holds beside what it found, by the records of PyTorch's allocator."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()  # whose gradients the next one frees; the records know only what was made under them
        with record_function("second"):
            step()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns())
    begin = next(e.start_ns() for e in events if e.name() == "second")
    found = now = peak = 0
    for event in (e for e in events if e.name() == "[memory]"):
        now += event.nbytes()
        if event.start_ns() < begin:
            found = peak = now
        peak = max(peak, now)
    return peak - found


def trainer_of(model, loss, folder):
    return Trainer(model, loss, LoopConfig(steps=10), folder, [])


@pytest.mark.parametrize(
    ("name", "bf16"), [("course", False), ("course", True), ("var", False)], ids=["course", "bf16", "var"]
)
def test_memory_of_the_tokenizer(tmp_path, name, bf16):
    profile = {"course": replace(CPU, batch_size=3), "var": replace(VAR, batch_size=2)}[name]
    model = tokenizer_of(profile)
    loss = TokenizerLoss(model, crops_of(profile), Losses(revive_every=0), 10, bf16)
    measured = allocated(trainer_of(model, loss, tmp_path)._step)
    planned = [tokenizer_activations(planned_tokenizer(profile), profile.image_size, b, bf16) for b in (1, 2)]
    assert planned[0] + (profile.batch_size - 1) * (planned[1] - planned[0]) == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_of_the_transformer(tmp_path, checkpointing):
    small = replace(SMALL, batch_size=3)
    model, _, cache = transformer_of(small, 128, 4, 4, checkpointing)
    loss = TransformerLoss(model, cache, Objective())
    measured = allocated(trainer_of(model, loss, tmp_path)._step)
    sizes = []
    for batch in (1, 2):
        with torch.device("meta"):
            planned = PhotoTransformer(model.config, torch.empty(small.codes, small.channels))
        sizes.append(transformer_activations(planned, small.lr_size, batch))
    assert sizes[0] + 2 * (sizes[1] - sizes[0]) == pytest.approx(measured, rel=0.15)


def test_memory_of_the_preference(tmp_path):
    model, _, cache = transformer_of(replace(SMALL, batch_size=2), 128, 4, 4)
    measured = allocated(trainer_of(model, preference_loss(model, cache, 0.0), tmp_path)._step)
    with torch.device("meta"):
        planned = PhotoTransformer(model.config, torch.empty(SMALL.codes, SMALL.channels))
    assert transformer_activations(planned, SMALL.lr_size, 2, branches=2) == pytest.approx(measured, rel=0.15)


def test_a_preference_costs_less_than_two_runs_and_keeps_its_start():
    smoke, setup = get_profile("smoke"), Setup(get_gpu("h100"), gpus=2, batch=8)
    plain, preference = (make_plan(run, smoke, setup) for run in ("transformer", "preference"))
    branches = 3 if smoke.transformer.slip else 2
    assert plain.image_flops < preference.image_flops < branches * plain.image_flops
    assert preference.frozen == plain.frozen + plain.parameters
    assert preference.steps == smoke.transformer.preference_steps


def test_the_published_sizes():
    gpu = get_profile("gpu")
    tokenizer = planned_tokenizer(gpu)
    assert sum(p.numel() for p in tokenizer.encoder.parameters()) == 44_107_872
    model = planned_transformer(gpu, tokenizer)
    body = model.body
    assert body.config.tokens == 2130
    assert (gpu.lr_size // model.prefix.patch) ** 2 == 1024
    assert sum(p.numel() for p in body.blocks.parameters()) == 16 * 18_888_720


def test_more_gpus_are_faster_and_cost_the_same_arithmetic():
    small = get_profile("smoke")
    setup = Setup(get_gpu("h100"), gpus=1, batch=8)
    one, four = (make_plan("tokenizer", small, replace(setup, gpus=n)) for n in (1, 4))
    assert one.step_flops == four.step_flops
    assert one.step_seconds > four.step_seconds
    assert replace(one, setup=replace(setup, utilisation=0.2)).hours > 1.5 * one.hours
    assert one.cost == pytest.approx(one.hours * GPUS["h100"].price)
    assert replace(one, setup=replace(setup, price=1.0)).cost == pytest.approx(one.hours)


def test_fsdp_shares_the_state_and_checkpointing_saves_activations():
    smoke = get_profile("smoke")
    setup = Setup(get_gpu("rtx4090"), gpus=4, batch=8)
    plain, shared, again = (
        make_plan("transformer", smoke, replace(setup, **change))
        for change in ({}, {"strategy": "fsdp"}, {"checkpointing": True})
    )
    assert plain.state - shared.state == pytest.approx(15 * plain.parameters)  # three quarters of 20 bytes
    assert again.per_image < plain.per_image
    assert again.step_flops > plain.step_flops


def test_the_largest_batch_fits_and_one_more_does_not():
    gpu = replace(GPUS["h100"], memory=200e6)
    plan = make_plan("tokenizer", get_profile("smoke"), Setup(gpu, gpus=2, batch=1000))
    room = 0.9 * gpu.memory
    assert plan.state + plan.fixed + plan.largest * plan.per_image <= room
    assert plan.state + plan.fixed + (plan.largest + 1) * plan.per_image > room
    assert plan.accumulate * 2 * plan.at_once >= 1000
    assert plan.at_once <= plan.largest
    assert plan.peak <= room


def test_what_does_not_fit_is_said():
    gpu = replace(GPUS["h100"], memory=1e6)
    assert report(make_plan("tokenizer", get_profile("smoke"), Setup(gpu, gpus=1))).endswith("or a larger GPU")


def test_every_gpu_has_its_sources():
    for gpu in GPUS.values():
        assert 1e14 < gpu.flops < 1e16
        assert 1e10 < gpu.memory < 1e12
        assert 5e11 < gpu.bandwidth < 1e13
        assert "20" in gpu.price_from
        assert gpu.source


def test_the_command_prints_how_each_figure_is_made(capsys):
    assert main(["plan", "--profile", "smoke", "--gpus", "2", "--gpu", "l40s", "--price", "1"]) == 0
    out = capsys.readouterr().out
    for words in ("parameters ", "FLOPs per image ", "decoder ", "attention ", "largest batch ", "rounds", "hours "):
        assert words in out
    assert "2 × l40s" in out
    assert "your price" in out


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["--gpu", "tpu"], "unknown GPU 'tpu'"),
        (["both"], "unknown run 'both'"),
        (["--strategy", "zero"], "unknown strategy 'zero'"),
        (["--gpus", "0"], "on 0 GPUs"),
        (["--batch", "4"], "batch 4 on 8 GPUs"),
        (["--utilisation", "40"], "utilisation 40.0"),
        (["--profile", "big"], "unknown profile 'big'"),
    ],
)
def test_wrong_calls_get_one_line(capsys, call, words):
    assert main(["plan", *call]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
