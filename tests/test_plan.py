"""The plan: FLOPs beside torch's counter on the trainers' own steps, memory beside the allocator's own records."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from vartutor.cli import main
from vartutor.data.presets import COURSE
from vartutor.gpus import GPUS, get_gpu
from vartutor.plan.autocast import CAST, SUMS, cuda_rules
from vartutor.plan.estimate import Setup, make_plan
from vartutor.plan.report import report
from vartutor.plan.steps import count_step, planned_tokenizer, planned_transformer
from vartutor.profiles import Recipe, get_profile
from vartutor.tokenizer.build import TokenizerConfig
from vartutor.train.loop import Moment
from vartutor.train.preference import PreferenceLoss
from vartutor.train.sizes import make_transformer
from vartutor.train.source import Batch
from vartutor.train.tokenizer import Losses, TokenizerLoss, make_tokenizer
from vartutor.train.transformer import Objective, TransformerLoss
from vartutor.transformer.attention import block_causal

CPU, SMOKE = get_profile("cpu"), get_profile("smoke")
RECIPE = Recipe(width=128, depth=3, heads=4, slip=0.0)
SMALL = replace(CPU, width=32, transformer=RECIPE)
# VAR's autoencoder, as narrow as its norms allow, for 16 to 64 pixels
VAR = replace(SMALL, autoencoder="var", channels=32, codes=256, groups=((1,), (1, 2), (2, 4)))
AGAIN = replace(SMALL, transformer=replace(RECIPE, checkpointing=True, rope=False))
STEPS = {
    "tokenizer": ("tokenizer", replace(SMALL, width=128)),
    "tokenizer of VAR": ("tokenizer", VAR),
    "transformer": ("transformer", SMALL),
    "checkpointing": ("transformer", AGAIN),
    "preference": ("preference", SMALL),
}


def batch_of(profile, images):
    batch = Batch(torch.rand(images, 3, profile.image_size, profile.image_size), torch.arange(images), COURSE)
    assert len(batch.lr) == images  # damaged beforehand, for the plan does not count that
    return batch


def loss_of(run, profile, bf16=False):
    """As ``vartutor train`` makes it."""
    tokenizer = make_tokenizer(TokenizerConfig.of(profile), Losses())
    if run == "tokenizer":
        return TokenizerLoss(tokenizer.train(), Losses(bypass=0.0), bf16)
    tokenizer.eval().requires_grad_(False)
    model = make_transformer(profile, tokenizer, prior=profile.transformer.prior).train()
    objective = Objective(slip=profile.transformer.slip)
    if run == "transformer":
        return TransformerLoss(model, tokenizer, objective, bf16)
    start = copy.deepcopy(model).eval().requires_grad_(False)
    return PreferenceLoss(model, start, tokenizer, objective, bf16=bf16)


def prepared(loss, batch):
    return loss.prepare(batch) if hasattr(loss, "prepare") else batch


def learn(loss, seen):
    loss(seen, Moment(logged=False))[0].backward()


def counted(call) -> int:
    """FLOPs by torch's counter, told of the CPU's fused attention, which it does not know."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backwards = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    mapping = {
        fused: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        backwards: lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v),
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize(("run", "small"), STEPS.values(), ids=STEPS)
def test_flops_are_those_of_the_trainers_step(run, small):
    loss, batch = loss_of(run, small), batch_of(small, 3)
    counts = count_step(run, small)
    assert 3 * counts.flops.total() == counted(lambda: learn(loss, prepared(loss, batch)))
    assert "all else" not in counts.flops


def test_a_sequence_with_slips_is_a_branch_of_its_own():
    loss, seen = loss_of("preference", SMOKE), batch_of(SMOKE, 2)
    measured = counted(lambda: learn(loss, prepared(loss, seen)))  # with the guesses that slip, which are not planned
    assert 2 * count_step("preference", SMOKE).flops.total() == pytest.approx(measured, rel=0.03)


def test_flops_belong_to_their_parts_forwards_and_backwards():
    model, x = loss_of("tokenizer", VAR).model, batch_of(VAR, 1).x
    counts = count_step("tokenizer", VAR)
    assert counts.forward["encoder"] == counted(lambda: model.encode(x))
    assert counts.backward["encoder"] == counted(sum(f.sum() for f in model.encode(x)).backward)
    assert counts.backward["decoder"] == pytest.approx(2 * counts.forward["decoder"], rel=1e-3)
    assert "nearest codes" not in counts.backward
    once, again = (count_step("transformer", small) for small in (SMALL, AGAIN))
    assert once.forward == again.forward
    for part, share in {"matrices": 2, "attention": 2.5}.items():  # fused, it computes its scores again
        assert once.backward[part] == share * once.forward[part]
        assert again.backward[part] == (share + 1) * once.forward[part]
    assert again.backward["head"] == 2 * again.forward["head"]


def test_attention_is_that_of_the_pairs_that_see_each_other():
    squares = [p * p for group in SMALL.groups for p in group]
    prefix = (SMALL.lr_size // RECIPE.patch) ** 2
    views = block_causal([squares[0] + prefix, *squares[1:]])
    pairs = sum(queries * sum(keys.stop - keys.start for keys in seen) for queries, seen in views)
    assert count_step("transformer", SMALL).forward["attention"] == 4 * RECIPE.width * pairs * RECIPE.depth


def test_latents_of_the_degraded_photo_are_made_where_something_reads_them():
    without = replace(SMOKE, transformer=replace(SMOKE.transformer, prior=False))
    one, two = (count_step("transformer", profile) for profile in (without, SMOKE))
    assert two.forward["frozen features"] == 2 * one.forward["frozen features"]
    assert "prior" not in one.flops


@pytest.mark.parametrize("name", [*CAST, *SUMS])
def test_the_rules_are_on_cudas_lists_and_not_on_the_cpus(name):
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has(f"aten::{name}", "AutocastCUDA")
    assert not has(f"aten::{name}", "AutocastCPU")


def test_cudas_rules_hold_while_they_last():
    x = torch.randn(1, 4, 8, 8).bfloat16()
    calls = {
        "layer norm": lambda: F.layer_norm(x, (8,)),
        "group norm": lambda: F.group_norm(x, 2),
        "normalize": lambda: F.normalize(x, dim=-1),
        "enlarge": lambda: F.interpolate(x, scale_factor=2),
        "softmax": lambda: x.softmax(-1),
        "square": lambda: x**2,
        "sum": lambda: x.sum(),
    }
    half = {"product": lambda: x.float() @ x.float(), "gelu": lambda: F.gelu(x), "mean": lambda: x.mean()}

    def kinds():
        with torch.autocast("cpu", torch.bfloat16):
            return {name: call().dtype for name, call in (calls | half).items()}

    before = kinds()
    with cuda_rules():
        assert kinds() == dict.fromkeys(calls, torch.float32) | dict.fromkeys(half, torch.bfloat16)
    assert kinds() == before == dict.fromkeys(calls | half, torch.bfloat16)


def allocated(call) -> int:
    """Most bytes at one time that a second call holds beside what it found, by the records of PyTorch's allocator."""
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    now = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        now += event.nbytes() if event.name() == "[memory]" else 0
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize(("name", "bf16"), [*((name, True) for name in STEPS), ("transformer", False)])
def test_memory_is_that_of_the_trainers_step(name, bf16):
    run, small = STEPS[name]
    loss = loss_of(run, small, bf16)
    seen = prepared(loss, batch_of(small, 3))
    with cuda_rules():  # real numbers, on a CPU that casts as a GPU does; gradients are there, as in every later round
        measured = allocated(lambda: learn(loss, seen))
    assert count_step(run, small, bf16).activations(3) == pytest.approx(measured, rel=0.06)


def test_memory_while_the_frozen_tokenizer_encodes():
    loss, batch = loss_of("transformer", VAR), batch_of(VAR, 4)
    measured = allocated(lambda: loss.prepare(batch))
    assert 4 * count_step("transformer", VAR).encoding == pytest.approx(measured, rel=0.2)  # convolutions take more


def test_a_preference_costs_less_than_its_branches_and_keeps_its_start():
    setup = Setup(get_gpu("h100"), gpus=2, batch=8)
    plain, preference = (make_plan(run, SMOKE, setup) for run in ("transformer", "preference"))
    branches = 3 if SMOKE.transformer.slip else 2
    assert plain.step_flops < preference.step_flops < branches * plain.step_flops
    assert preference.counts.frozen == plain.counts.frozen + plain.counts.parameters
    assert preference.steps == SMOKE.transformer.preference_steps


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
    setup = Setup(get_gpu("h100"), gpus=1, batch=8)
    one, four = (make_plan("tokenizer", SMOKE, replace(setup, gpus=n)) for n in (1, 4))
    assert one.step_flops == four.step_flops == 8 * one.counts.flops.total()
    assert one.step_seconds > four.step_seconds
    assert one.utilisation == 0.2
    assert make_plan("tokenizer", SMOKE, replace(setup, utilisation=0.1)).hours > 1.5 * one.hours
    assert one.cost == pytest.approx(one.hours * GPUS["h100"].price)
    assert make_plan("tokenizer", SMOKE, replace(setup, price=1.0)).cost == pytest.approx(one.hours)


def test_fsdp_shares_the_state_and_checkpointing_saves_activations():
    setup = Setup(get_gpu("rtx4090"), gpus=4, batch=8)
    plain, shared, again = (
        make_plan("transformer", SMOKE, replace(setup, **change))
        for change in ({}, {"strategy": "fsdp"}, {"checkpointing": True})
    )
    assert plain.state - shared.state == pytest.approx(15 * plain.counts.parameters)  # three quarters of 20 bytes
    assert again.counts.per_image < plain.counts.per_image
    assert again.step_flops > plain.step_flops


@pytest.mark.parametrize("run", ["tokenizer", "transformer"])
def test_the_largest_batch_fits_and_one_more_does_not(run):
    gpu = replace(GPUS["h100"], memory=200e6)
    plan = make_plan(run, SMOKE, Setup(gpu, gpus=2, batch=1000))
    room = 0.9 * gpu.memory
    assert plan.state + plan.counts.activations(plan.largest) <= room
    assert plan.state + plan.counts.activations(plan.largest + 1) > room
    assert plan.accumulate * 2 * plan.at_once >= 1000
    assert plan.at_once <= plan.largest
    assert plan.peak <= room


def test_the_fuller_of_encoding_and_step_decides():
    counts = replace(count_step("transformer", SMOKE), fixed=30, per_image=1, encoding=4)
    assert [counts.activations(images) for images in (1, 10, 20)] == [31, 40, 80]
    assert counts.fit(80) == 20
    assert counts.fit(29) == 0


def test_what_does_not_fit_is_said():
    gpu = replace(GPUS["h100"], memory=1e6)
    assert report(make_plan("tokenizer", SMOKE, Setup(gpu, gpus=1))).endswith("or a larger GPU")


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
    assert "20% (assumed" in out


def test_a_measured_utilisation_is_called_one(capsys):
    assert main(["plan", "tokenizer", "--profile", "smoke", "--gpus", "2", "--utilisation", "0.31"]) == 0
    assert "31% (as you measured)" in " ".join(capsys.readouterr().out.split())


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
