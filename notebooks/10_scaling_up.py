# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Scaling up
#
# **What does a model cost before it runs, where does its time go, and what changes when eight GPUs train it together?**
# This chapter counts by hand what a run needs, checks every count, and starts a training on two processes.
#
# ![Four GPUs, twice. With DDP, each holds its own photos, and all weights, gradients and averages; once per step all exchange the mean of their gradients. With FSDP, each holds a quarter of the weights, gradients and averages; weights are gathered block by block when they are needed.](../assets/diagrams/who_holds_what.svg)
#
# After this chapter you will be able to
#
# - **count** parameters, operations and memory of a training step by hand;
# - **find** where its time goes;
# - **say** what breaks in 16 bits, and why bfloat16 breaks less;
# - **train** with several processes, and prove that they do what one does;
# - **fit** a scaling law, and distrust it.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about a minute and 2.9 GB to run, an hour to read | chapters 06 and 07 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → **10 scale** → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): autocast, bfloat16, block-causal mask, codebook, DDP, entropy, FLOP, FSDP, ladder, next-scale prediction, perceptual distance, prior, scaling law, super-resolution, token, tokenizer.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from vartutor.chapter import setup
from vartutor.profiles import get_profile
from vartutor.show import COLORS
from vartutor.show.figures import show, smooth

session = setup(PROFILE, SEED, DEVICE)
profile = session.profile
work = Path(tempfile.mkdtemp())
print(session)

# %% [markdown]
# ## How large is a model?
#
# (Whatever `DEVICE` says, this chapter runs and measures on the CPU.)
#
# The course's transformer and the published one are the same class. What differs is the width $D$, the depth, and the number of tokens.
# Nearly all parameters are in the blocks, and a block is a handful of matrices: queries, keys and values $3D^2$, projection $D^2$, feed-forward $4D^2 + 4D^2$, and the modulation by the condition $6D^2$.
#
# $$ N \approx 18\, D^2 \cdot \text{depth}. $$

# %%
from vartutor.train.sizes import make_transformer
from vartutor.weights import load_tokenizer

tokenizer = load_tokenizer("hit")
model = make_transformer(profile, tokenizer)
D, depth, L = model.config.width, model.config.depth, model.config.tokens
blocks, whole = (sum(p.numel() for p in m.parameters()) for m in (model.body.blocks, model))
print(f"blocks: {18 * D**2 * depth:,} by hand, {blocks:,} with biases; the whole model: {whole:,}")
assert abs(blocks / (18 * D**2 * depth) - 1) < 1 / D

# %% [markdown]
# Now put in the published sizes, width 1024 and depth 16. PyTorch's *meta* device builds a model without storage, so this costs nothing:

# %%
from vartutor.plan.steps import planned_tokenizer, planned_transformer

published = get_profile("gpu")
large_tokenizer = planned_tokenizer(published)
large = planned_transformer(published, large_tokenizer)
total = sum(p.numel() for p in large.parameters())
print(f"{18 * 1024**2 * 16 / 1e6:.0f} M by hand in the blocks, {total / 1e6:.0f} M in all")
assert 18 * 1024**2 * 16 < total < 1.05 * 18 * 1024**2 * 16

# %% [markdown]
# A third of it is modulation, which sees one vector per image: many parameters, hardly any work.
#
# ## How much work is a step?
#
# A matrix of $D \times D$ takes, per token, $D^2$ products and as many sums: **two operations per weight and token**. Attention adds the product of every query with every key that it sees, and of every weight with its value: $2 D$ each. Map $k$ has $n_k$ tokens, and sees all until its own end; the prefix belongs to the first.
#
# $$ \text{forward} = \underbrace{2\, n \cdot 12 D^2 \cdot \text{depth}}_{\text{matrices}} + \underbrace{4 D \sum_k n_k (n_1 + \dots + n_k) \cdot \text{depth}}_{\text{attention}} + \underbrace{2\, L\, D\, V}_{\text{head}}. $$

# %%
V, C = tokenizer.quantizer.codes.shape
prefix = (profile.lr_size // model.prefix.patch) ** 2
counts = np.array(model.config.patch_nums) ** 2
counts[0] += prefix
n, pairs = int(counts.sum()), int((counts * counts.cumsum()).sum())
matrices = 2 * n * 12 * D**2 * depth
scores = 4 * D * pairs * depth
head = 2 * L * D * V
print(f"matrices {matrices / 1e9:.2f}, attention {scores / 1e9:.2f}, head {head / 1e9:.2f}: GFLOP per photo")

# %% [markdown]
# **★ A block's work · 15 min.** The operations of the forward pass of one block for `tokens` tokens of width `width`, where everybody sees everybody; modulation left out.

# %% tags=["exercise"]
from vartutor.exercises import ch10


def my_block_flops(tokens, width):
    return ...


ch10.check("block_flops", my_block_flops)

# %%
ch10.hint("block_flops")
ch10.solution("block_flops")

# %% [markdown]
# Do not believe it; count. PyTorch has a counter that watches every operation, and knows a formula for each kind of product. One trap: of fused attention it knows the kernels of GPUs only, and silently leaves the CPU's out. So we tell it that this one is attention, too.

# %%
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

fused = "_scaled_dot_product_flash_attention_for_cpu"
KNOWN = {
    getattr(torch.ops.aten, fused): lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    getattr(torch.ops.aten, fused + "_backward"): lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v),
}


def count_flops(call):
    with FlopCounterMode(display=False, custom_mapping=KNOWN) as counter:
        call()
    return counter.get_total_flops()


# %% [markdown]
# What is counted are the parts of `vartutor train transformer`: settings, a source of photos, and the loss. The photos of a run are numbered 0, 1, 2 …, without end. Photo $n$ is a function of $n$ and the seed: which crop of which photo, and how it is damaged.

# %%
from vartutor.train.processes import Process
from vartutor.train.settings import TransformerSettings
from vartutor.train.source import make_source
from vartutor.train.transformer import Objective, TransformerLoss

run = TransformerSettings.of(profile, seed=SEED, batch=4, objective=Objective())
source, loss = make_source(run, Process()), TransformerLoss(model, tokenizer, run.objective)

# %%
from vartutor.transformer.photo import force

one = source.batch(range(1))  # photo 0
seen = loss.prepare(one)  # what the frozen tokenizer makes of it
targets, _, inputs, rests = force(tokenizer, seen.clean, seen.degraded)
counted = count_flops(lambda: model.body(model.condition(seen.photo, seen.degraded), inputs, rests))
print(f"forward: {(matrices + scores + head) / 1e9:.3f} GFLOP by hand, {counted / 1e9:.3f} counted")
if PROFILE != "smoke":  # in a very small model, the small parts are not small
    assert abs((matrices + scores + head) / counted - 1) < 0.02

# %% [markdown]
# The backward pass costs twice the forward pass: once for the gradient of the weights, once for that of the inputs. So a step is three forward passes. With *checkpointing*, which saves memory by computing the blocks again, it is four. Fused attention always computes something again, for it kept none of its $n \times n$ weights. Backwards it starts from queries and keys once more, and so costs two and a half times its forward pass.
#
# Must a model be built and run, to be counted? No. *Fake tensors* have shapes and types, and no numbers: every operation says what it would compute and allocate, and does nothing. `vartutor.plan` takes a whole training step with them, and enters what the counter's formulas say of each operation, part by part. The tokenizer is counted too: it stands frozen beside the transformer and makes its tokens.

# %%
from vartutor.plan.steps import count_step

counts = count_step("transformer", profile)
print("   ".join(f"{part} {flops / 1e9:.2f}" for part, flops in counts.flops.items() if flops > 1e8))
assert (counts.forward["matrices"], counts.forward["attention"]) == (matrices, scores)  # as by hand, to the last one
assert counts.backward["matrices"] == 2 * matrices and counts.backward["attention"] == 2.5 * scores
counted = count_flops(lambda: loss(loss.prepare(one))[0].backward())
print(f"step: {counts.flops.total() / 1e9:.2f} GFLOP planned, {counted / 1e9:.2f} counted")
if PROFILE != "smoke":  # which plans a smaller tokenizer than the shipped one
    assert counts.flops.total() == counted

# %% tags=["hide-input"]
steps = {"course": counts.flops, "published": count_step("transformer", published).flops}
figure, ax = plt.subplots(figsize=(7.2, 1.9))
kinds = {"matrices": "model", "attention": "token", "frozen features": "lr", "other": "bicubic"}
for y, step in enumerate(steps.values()):
    shares, left = dict.fromkeys(kinds, 0.0), 0.0
    for part, flops in step.items():
        shares[part if part in kinds else "other"] += flops / step.total()
    for kind, share in shares.items():
        ax.barh(y, share, left=left, color=COLORS[kinds[kind]], label=kind if y == 0 else None)
        left += share
ax.set_yticks(range(2), [f"{name}\n{step.total() / 1e9:,.0f} GFLOP" for name, step in steps.items()])
ax.set(xlabel="share of a training step, per photo", xlim=(0, 1))
ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
show(
    figure,
    "What a training step is made of, in the course and at the published size.",
    "Two bars cut into matrices, attention, frozen features and other; in both, matrices are the largest part and "
    "attention over a fifth; the published one has a visible part for the frozen tokenizer's features.",
)

# %% [markdown]
# **What you should see.** In both, matrices rule, and attention is over a fifth. Attention grows with $n^2$ and matrices with $n$, so longer sequences shift the balance; but the published model is wider as well, and that shifts it back.
# At the published size, the frozen tokenizer takes more than a sixth of the step: the clean photo of 512 pixels through VAR's large encoder. (The course's model looks at the degraded photo's latents too; without a prior, nothing does.) Whoever trains several epochs could keep its features on disk.
#
# ## How much memory?
#
# First the *state*, which is there whatever the batch: per parameter four bytes for the weight, its gradient, AdamW's two averages, and the moving average that we keep.

# %%
from vartutor.gpus import get_gpu
from vartutor.plan.estimate import Setup, make_plan

plan = make_plan("transformer", published, Setup(get_gpu("h100"), gpus=8))
state = (4 + 4 + 4 + 4 + 4) * total + 4 * plan.counts.frozen
print(
    f"state: {state / 1e9:.2f} GB by hand, {plan.state / 1e9:.2f} GB planned, of {plan.setup.gpu.memory / 1e9:.0f} GB"
)
assert state == plan.state

# %% [markdown]
# Then the *activations*: everything that the backward pass will need. With checkpointing, that is one (n, D) input per block, and what a single block needs while it is computed again. The logits, one number per token and code, come on top.
#
# `plan` does not guess: in the same dry run on fake tensors, it adds up what would be allocated, and takes off again what nothing holds any more. A GPU under autocast keeps more in 32 bits than a CPU does, such as every norm; it takes the GPU's rules.

# %%
n_large = 1024 + large.config.tokens
inputs_of_blocks = 16 * n_large * 1024 * 4  # bytes
logits = 2 * large.config.tokens * 4096 * 4  # and their log-softmax
again = make_plan("transformer", published, Setup(get_gpu("h100"), gpus=8, checkpointing=True))
each = again.counts.per_image
print(f"per photo: {(inputs_of_blocks + logits) / 1e9:.2f} GB by hand, {each / 1e9:.2f} GB by the dry run")
assert 0.5 < (inputs_of_blocks + logits) / each < 1.2
print(f"without checkpointing: {plan.counts.per_image / 1e9:.2f} GB")
print(f"and before the step, while the frozen tokenizer encodes: {plan.counts.encoding / 1e9:.2f} GB")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.2, 2.7))
batch = np.arange(0, 65)
for p, color, name in ((plan, "rest", "all activations kept"), (again, "model", "checkpointing")):
    memory = [(p.state + p.counts.activations(photos)) / 1e9 for photos in batch]
    ax.plot(batch, memory, color=COLORS[color], label=name)
for name in ("rtx4090", "h100"):
    ax.axhline(get_gpu(name).memory / 1e9, color="black", linewidth=0.8, linestyle=":")
    ax.text(64, get_gpu(name).memory / 1e9 - 1, name, ha="right", va="top")
ax.set(xlabel="photos per GPU at once", ylabel="memory (GB)", ylim=(0, 95), xlim=(0, 65))
ax.legend(loc="center right", bbox_to_anchor=(1, 0.39))
show(
    figure,
    "Memory of the published transformer's step against the photos at once; dotted, what two GPUs have.",
    "Two rising straight lines of memory against batch; the one without checkpointing is several times steeper and "
    "crosses the upper dotted line early, the one with checkpointing stays below it.",
)

# %% [markdown]
# **What you should see.** The state is a small start; the slope decides. Checkpointing buys several times the batch for a third more work on the blocks. It could buy more: with it, the fullest moment is no longer in the step, but before it, in the frozen tokenizer. But who needs the batch? What does not fit at once is done in rounds, whose gradients add up (*accumulation*): the numbers stay the same. A GPU is busy with a few photos of this size, so the plan keeps all activations unless fewer than four photos would fit.
#
# `vartutor plan` prints all this, with the way each figure is made, then hours and dollars; chapters 11 and 12 begin with it. `--set batch=auto` asks it for the rounds.
#
# ## Is the plan right?
#
# FLOPs and memory are counted. Time is not: the plan *assumes* a share of the GPU's peak, its *utilisation*. `vartutor measure` trains both published models for a few steps on a GPU, and sets each figure beside the plan's. It takes nine minutes. If its table is in `assets/studies`, you see it here.

# %%
from vartutor.plan.measured import AS_PLANNED, read_measured

measured = {(row.run, row.measure): row for row in read_measured() if row.variant == AS_PLANNED}
stamp = next((f"{row.card}, {row.date}" for row in measured.values()), "per H100, nobody has measured")
print(f"{stamp:<32}{'planned':>10}{'measured':>12}")
for kind in ("tokenizer", "transformer"):
    p = make_plan(kind, published, Setup(get_gpu("h100"), gpus=8))
    rate = p.setup.batch / p.step_seconds / p.setup.gpus
    for what, figure in {"photos/s": rate, "utilisation": p.utilisation, "memory": p.peak / 1e9}.items():
        row = measured.get((kind, what))
        found = f"{row.value:.3g}" if row else "estimate"
        print(f"{kind + ', ' + what:<32}{row.planned if row else figure:>10.3g}{found:>12}")

# %% [markdown]
# Where the last column says *estimate*, no GPU has run the code. Then hours and dollars of the next chapters are no better than the assumed share. The other rows of the table switch one optimisation off at a time: compiled blocks, kernels chosen by trial, channels last in memory. Each costs something to build, and only a measurement says what it brings.
#
# ## Where does the time go?
#
# Counting says what must be done. What *is* done, a profiler tells: it notes begin and end of every operation. One training step of the course's model, four photos:

# %%
from torch.profiler import ProfilerActivity, record_function

four = source.batch(range(4))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def train_step():
    with record_function("» forward"):
        value, _ = loss(loss.prepare(four))
    optimizer.zero_grad()
    with record_function("» backward"):
        value.backward()
    with record_function("» optimizer"):
        optimizer.step()


train_step()  # the first one allocates, and damages the photos
os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler greets on stderr otherwise
with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as trace:
    train_step()

# %%
KINDS = {
    "matrices": ("aten::linear", "aten::matmul", "aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("aten::scaled_dot_product", "aten::_scaled_dot_product"),
    "convolutions": ("aten::conv2d", "aten::convolution"),
    "optimizer": ("Optimizer.step",),
}


def kind_of(event):
    return next((kind for kind, words in KINDS.items() if event.name.startswith(words)), None)


def above(event):  # the kinds of all that it is part of
    return [] if event.cpu_parent is None else [kind_of(event.cpu_parent), *above(event.cpu_parent)]


outermost = [e for e in trace.events() if not any(above(e)) and (kind_of(e) or not e.cpu_children)]
phases = {e.name[2:]: e.time_range for e in trace.events() if e.name.startswith("»")}
assert list(phases) == ["forward", "backward", "optimizer"]

# %% tags=["hide-input", "nbval-ignore-output"]
figure, ax = plt.subplots(figsize=(7.2, 2.6))
begin, end = phases["forward"].start, phases["optimizer"].end
names = ["all else", *list(KINDS)[::-1]]
colors = dict(zip(names, ("bicubic", "rest", "lr", "token", "model"), strict=True))
spans = {name: [] for name in names}
for event in outermost:
    if not event.name.startswith("»") and begin <= event.time_range.start < end:
        length = event.time_range.end - event.time_range.start
        spans[kind_of(event) or "all else"].append(((event.time_range.start - begin) / 1e3, length / 1e3))
for row, (name, found) in enumerate(spans.items()):
    ax.broken_barh(found, (row - 0.4, 0.8), color=COLORS[colors[name]])
for name in ("forward", "backward"):
    at = (phases[name].start - begin) / 1e3
    ax.axvline(at, color="black", linewidth=0.8, linestyle=":")
    ax.text(at, 4.6, f" {name}", fontsize=8)
total_ms = (end - begin) / 1e3
ax.set_yticks(range(5), [f"{name} {sum(length for _, length in spans[name]) / total_ms:.0%}" for name in names])
ax.set(xlabel="milliseconds", ylim=(-0.6, 5.2), xlim=(0, total_ms))
show(
    figure,
    "A training step of the course's model, operation by operation.",
    "A timeline with five rows. Convolutions come first; then matrices and attention alternate, block by block, through the "
    "forward and the longer backward pass, with all else between them; the optimizer closes.",
)

# %% [markdown]
# **What you should see.** First the frozen tokenizer's convolutions, then the blocks, forwards and backwards, the backward pass about twice as long, as counted.
# But "all else" is less than a hundredth of the operations, and takes a tenth of the time or more: norms, modulations, activations, sums. They compute little and *move* much, and memory is slower than arithmetic. White gaps are Python, and other programs. That is why kernels are fused, and what `torch.compile` is for (`--set compile=[transformer]`).
#
# ## What breaks with fewer bits?
#
# Half the bits are half the traffic, and on a GPU many times the arithmetic. But sixteen bits must be spent: on **range** (exponent) or on **precision** (mantissa).

# %%
print(f"{'':9}{'largest':>10}{'smallest':>10}{'next after 1':>14}")
for kind in (torch.float32, torch.float16, torch.bfloat16):
    info = torch.finfo(kind)
    print(f"{str(kind)[6:]:9}{info.max:10.1e}{info.smallest_normal * info.eps:10.1e}{1 + info.eps:14.7f}")

# %% [markdown]
# **Underflow.** The gradient of the mean cross entropy at a logit is $(p_j - y_j) / (B L)$: for a wrong code of a fresh model, about one over codes times tokens times photos. By hand, for one process with 48 photos of the published size:

# %%
for name, (codes, tokens, photos) in {"course": (1024, 437, 16), "published": (4096, 2130, 48)}.items():
    g = torch.tensor(1 / (codes * tokens * photos))
    print(
        f"{name:10} {g:.0e} in fp16: {g.half():.0e}   in bf16: {g.bfloat16():.0e}   scaled in fp16: {(g * 2**16).half():.0e}"
    )
assert g.half() == 0
assert (g * 2**16).half() > 0

# %% [markdown]
# At the published size: zero. Of all the wrong codes, none is pushed down any more. The cure is *loss scaling*: multiply the loss by a large power of two, and divide the gradients in fp32 before the optimiser sees them. The scale must be found as one goes: halve it when something overflows, double it when nothing did for long (PyTorch's `GradScaler`).
#
# How does it look in all gradients of a real step? Take the gradients at the outputs of the course model's layers, where fp16 would hold them.

# %%
caught = []


def catch(layer, given, out):
    out.register_hook(lambda g: caught.append(g.flatten()))


layers = [m for m in model.body.modules() if isinstance(m, torch.nn.Linear)]
hooks = [layer.register_forward_hook(catch) for layer in layers]
loss(loss.prepare(four))[0].backward()
for hook in hooks:
    hook.remove()
sizes = torch.cat([g[g != 0].abs() for g in caught]).log2().cpu()
lost = (sizes < -25).float().mean()  # below half the smallest of fp16
print(f"{len(sizes) / 1e6:.1f} million gradients, {lost:.0%} of them are zero in fp16")
assert lost > (sizes < -37).float().mean()

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.6, 2.4))
ax.hist(sizes.clamp(-55, -5), bins=50, range=(-55, -5), color=COLORS["rest"])
ax.axvspan(-24, -5, ymin=0.93, color=COLORS["token"])
ax.text(-23.5, ax.get_ylim()[1] * 0.82, "what fp16 can say", color=COLORS["token"])
ax.axvline(-25, color="black", linewidth=0.8, linestyle=":")
ax.set(xlabel="log₂ of the gradient's size", ylabel="how many", yticks=[])
show(
    figure,
    "Sizes of the gradients in one step of the course's model; left of the dotted line, fp16 has only zero.",
    "A histogram of the logarithm of gradient sizes, a broad hump to the left of the dotted "
    "line, outside the range of float16, marked by a bar above.",
)

# %% [markdown]
# **What you should see.** Most of it lies left of the dotted line, in this fresh model, whose blocks are still gated nearly shut. The range of bfloat16 is that of fp32, and its line would be far outside the picture. That is why nobody scales losses in bf16.
#
# **Overflow** is the other end. Above 65,504 there is only infinity in fp16, and squares and exponentials get there quickly.

# %%
z, logit = torch.full((64,), 40.0), torch.tensor([12.0, 3.0, -2.0])  # a feature with a norm of 320
for kind in (torch.float16, torch.bfloat16):
    square, power = (z.to(kind) ** 2).sum(), logit.to(kind).exp()
    print(
        f"{str(kind)[6:]:9} ‖z‖² = {square:8.0f}   exp(12) = {power[0]:8.0f}   softmax by hand: {power / power.sum()}"
    )
assert (z.half() ** 2).sum().isinf()
assert torch.isfinite(logit.half().softmax(0)).all()  # subtracts the largest first

# %% [markdown]
# So squared distances, norms, and softmax need care or fp32. On a GPU, autocast keeps them there. Our tokenizer's lookup is never in 16 bits: a wrong nearest code is wrong for good.
#
# May at least the frozen encoder before it be in 16 bits? It takes a sixth of the published step, so it is tempting. How many tokens of the test photos stay the same?

# %%
from vartutor.data.crops import eval_crops

x = eval_crops("test", per_photo=1)[0]
with torch.no_grad():
    true = torch.cat(tokenizer.tokenize(x), 1)  # (20, 437)
    for kind in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", kind):
            features = [f.float() for f in tokenizer.encode(x)]
        share = (torch.cat(tokenizer.quantizer.tokenize(features), 1) == true).float().mean()
        print(f"encoder in {str(kind)[6:]}: {share:.0%} of the tokens stay")
        assert share < 0.99

# %% [markdown]
# In bfloat16 a fifth of the tokens change. Each map says what the maps before it left over, so one other token changes all that follow. Hence the frozen encoder stays in float32, at its price. The perceptual distance does, too: in bfloat16 its gradient points elsewhere (`tests/test_precision.py`).
#
# **Precision** is bf16's own trouble. It has 8 bits of mantissa: after 256 comes 258. A small step on a large number is lost, however often it is repeated, and *all* steps of an optimiser, and of a moving average, are small.

# %%
average = {kind: torch.tensor(1.0, dtype=kind) for kind in (torch.float32, torch.bfloat16)}
for _ in range(5000):
    for kind in average:
        average[kind] = average[kind] + 0.001 * (torch.tensor(2.0, dtype=kind) - average[kind])
print("towards 2, by a thousandth each time:", {str(kind)[6:]: round(x.item(), 3) for kind, x in average.items()})
assert torch.tensor(256.0).bfloat16() + 1 == 256
assert average[torch.bfloat16] == 1
assert average[torch.float32] > 1.98

# %% [markdown]
# It never moved. Hence *mixed* precision: weights, averages and optimiser in fp32, and only the products of a step in bf16. Autocast casts the inputs of each operation when it is called:

# %%
with torch.autocast("cpu", torch.bfloat16):
    h = model.body.blocks[0].fc1(torch.randn(2, D))
    print("weights", model.body.blocks[0].fc1.weight.dtype, " product", h.dtype)
    narrow = model.body(model.condition(seen.photo, seen.degraded), inputs, rests)
exact = model.body(model.condition(seen.photo, seen.degraded), inputs, rests)
losses = [F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()).item() for logits in (exact, narrow)]
print(f"loss: {losses[0]:.3f} in fp32, {losses[1]:.3f} with bf16 products")
assert abs(losses[1] - losses[0]) < 0.05

# %% [markdown]
# The loss hardly notices. `--set bf16=true` does this for every kind of training; processors of the last years have instructions for it, and so have two-core laptops.
#
# ## What would a mask cost?
#
# The block-causal mask of chapter 06 forbids a token all later maps. Our count above leaves forbidden pairs out. A kernel that takes a mask does not: it multiplies, then throws away. How much would that be?
#
# $$ \text{visible} = \frac{1}{n^2} \sum_k n_k\, (n_1 + \dots + n_k). $$

# %%
from vartutor.transformer.attention import as_mask, attend, block_causal

ladders = {
    "VAR, 256 px": [p * p for p in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)],
    "course": [64 + 1, 4, 16, 16, 16, 64, 64, 256],  # the prefix sees itself, and belongs to the first map
    "published": [1024 + 1] + [p * p for p in (2, 3, 4, 6, 8, 12, 16, 24, 32)],
}
masks = {name: as_mask(block_causal(lengths)) for name, lengths in ladders.items()}
for name, lengths in ladders.items():
    k = np.array(lengths)
    visible = (k * k.cumsum()).sum() / k.sum() ** 2
    assert abs(visible - masks[name].float().mean().item()) < 1e-6
    print(f"{name:12} {k.sum():5} tokens, visible: {visible:.1%}")

# %% [markdown]
# A text model's triangle leaves half. Here it is about two thirds, for the last map alone is a large part of the sequence, and sees everything. So with a mask, a third of the work on attention would be for nothing.
#
# Some kernels, such as FlexAttention, skip in *blocks* of 128 × 128: a block goes only if it is forbidden as a whole. And blocks that stick out over the end are paid in full.

# %%
blocked = {}
for name, mask in masks.items():
    n, b = len(mask), 128
    count = -(-n // b)
    padded = F.pad(mask, (0, count * b - n, 0, count * b - n))
    blocked[name] = padded.view(count, b, count, b).any(3).any(1)  # (count, count): has anything to do
    work_done = blocked[name].sum() * b * b / n**2
    print(f"{name:12} {count:2} × {count:<2} blocks: work {work_done:.0%} of no mask at all")

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6))
for ax, (name, mask) in zip(axes, masks.items(), strict=True):
    n, small = len(mask), F.interpolate(mask[None, None].float(), size=(400, 400), mode="area")[0, 0]
    ax.imshow(1 - small * 0.45, cmap="gray", vmin=0, vmax=1, extent=(0, n, n, 0))
    for row, column in (~blocked[name]).nonzero().tolist():
        box = plt.Rectangle((column * 128, row * 128), 128, 128, color=COLORS["hr"], alpha=0.6, linewidth=0)
        ax.add_patch(box)
    ax.set(title=name, xlim=(0, n), ylim=(n, 0), xticks=[0, n], yticks=[0, n])
    ax.grid(False)
show(
    figure,
    "Gray: pairs that may see each other. Green: blocks of 128 that a kernel can skip.",
    "Three square masks, gray below a staircase and white above it; green squares fill part of the white: few of them at 680 "
    "tokens, only two at the course's 501, and most of the white at 3154.",
)

# %% [markdown]
# **What you should see.** White and not green is paid for nothing. At 680 tokens, padding eats what the green saves; at 501, a tenth is left. At 3154 most of the white is green, and a third of attention goes.
#
# The model needs no such kernel. Maps come one after the other, and each sees *all* that came until its end. So it cuts the queries by map, and calls plain attention once per map, on the keys so far. No mask, no wasted pair:


# %%
def by_map(q, k, v, lengths):
    ends = np.cumsum(lengths).tolist()
    calls = zip(q.split(lengths, 2), ends, strict=True)
    return torch.cat([F.scaled_dot_product_attention(part, k[:, :, :end], v[:, :, :end]) for part, end in calls], 2)


def by_hand(q, k, v, mask):
    scores = (q @ k.mT) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v


# %%
q, k, v = torch.randn(3, 2, 6, 501, 32)
dense = F.scaled_dot_product_attention(q, k, v, attn_mask=masks["course"])
assert torch.allclose(by_map(q, k, v, ladders["course"]), dense, atol=1e-5)
assert torch.allclose(attend(q, k, v, block_causal(ladders["course"])), dense, atol=1e-5)  # the model's own
assert torch.allclose(by_hand(q, k, v, masks["course"]), dense, atol=1e-5)


# %% tags=["nbval-ignore-output"]
WAYS = {
    "written out": lambda q, k, v, name: by_hand(q, k, v, masks[name]),
    "dense mask": lambda q, k, v, name: F.scaled_dot_product_attention(q, k, v, attn_mask=masks[name]),
    "no mask": lambda q, k, v, name: F.scaled_dot_product_attention(q, k, v),
    "map by map": lambda q, k, v, name: by_map(q, k, v, ladders[name]),
}


def milliseconds(way, *given, repeats=3):
    way(*given)
    begin = time.perf_counter()
    for _ in range(repeats):
        way(*given).sum().backward()
    return (time.perf_counter() - begin) / repeats * 1e3


for name, shape in {"course": (2, 6, 501, 32), "published": (1, 2, 3154, 64)}.items():
    q, k, v = (torch.randn(shape).requires_grad_() for _ in range(3))
    times = [f"{way} {milliseconds(call, q, k, v, name):.0f} ms" for way, call in WAYS.items()]
    print(f"{name:10}", "   ".join(times))

# %% [markdown]
# **What you should see.** The fused kernel never stores the n × n scores, and wins by far. The dense mask costs a little on top. Map by map takes about two thirds of it: the whole third is saved, forwards and backwards. On a GPU more is: its fastest kernels take no mask at all.
#
# On a GPU, FlexAttention compiles a mask into a fused kernel. On a CPU it runs forwards only, so this course cannot teach with it:

# %% tags=["nbval-ignore-output"]
q = torch.randn(1, 1, 16, 16, requires_grad=True)
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flex_attention(q, q, q).sum().backward()
    print("FlexAttention has learnt to go backwards on this CPU")
except (NotImplementedError, RuntimeError) as error:
    print(str(error).split(". ")[0])

# %% [markdown]
# ## Who feeds the model?
#
# Thousands of photos in thousands of files are slow to open, and slower to decode. So `vartutor data prepare` decodes the paper's sets once, cuts the photos into pieces, and writes the bytes of all pieces one after the other into one file, with an index of their sizes. Here are four pieces, by hand.

# %%
import json

from vartutor.data.photos import load_pixels

pieces = [image[:, :256, :256] for image in load_pixels("train")[:4]]
(work / "tiles.bin").write_bytes(b"".join(piece.numpy().tobytes() for piece in pieces))
(work / "index.json").write_text(json.dumps({"tile": 256, "sizes": [list(piece.shape[1:]) for piece in pieces]}))
print((work / "index.json").read_text(), (work / "tiles.bin").stat().st_size, "bytes")

# %% [markdown]
# Here too, photo $n$ of the run is a function of $n$ and the seed alone. So the photos of a step are a function of the step. Nothing needs to be remembered: a run can resume in mid-epoch, on another number of processes, or in more rounds, and sees what it would have seen. Who takes which?

# %%
from dataclasses import replace

from vartutor.train.source import share

eight = replace(run, batch=8)
one_gpu, *two_gpus = (list(share(3, 0, eight, p)) for p in (Process(), Process(0, 2), Process(1, 2)))
print("step 3:", one_gpu, "=", " + ".join(map(str, two_gpus)))
two_rounds = [list(share(3, k, replace(eight, accumulate=2), Process())) for k in (0, 1)]
assert all([*first, *second] == one_gpu for first, second in (two_gpus, two_rounds))

# %% [markdown]
# The file is *mapped* into memory: it looks like one large array, of which the disk reads what is looked at. A step copies the pieces that it draws to the device, as bytes; crops and damage are made there, a batch at a time. Is that enough? A GPU that waits for photos is the most common waste there is.

# %% tags=["nbval-ignore-output"]
from vartutor.data.tiles import load_set

mapped = load_set(work)
assert all(torch.equal(piece, image) for piece, image in zip(mapped, pieces, strict=True))
begin = time.perf_counter()
for _ in range(50):
    read = torch.cat([piece.flatten() for piece in mapped])
rate = 50 * len(read) / (time.perf_counter() - begin)
print(f"copied: {rate / 1e9:.1f} GB per second")

# %% tags=["nbval-ignore-output"]
needed = plan.setup.batch / plan.step_seconds / plan.setup.gpus
print(f"planned for the published transformer: {needed:.0f} photos per second and GPU")
print(f"as pieces of 1,024 × 1,024 pixels: {needed * 3 * 1024**2 / 1e9:.2f} GB per second and GPU")

# %% [markdown]
# Eight GPUs want eight times as much. Our four pieces were still in memory; a set that is larger than the memory comes from the disk. One that hangs on the network may be ten times too slow, so measure yours before you rent. A set that fits into a quarter of a GPU's memory stays there from the first step on, as the course's own photos do.
#
# ## How do several GPUs train one model?
#
# *Data parallel* (DDP): everybody has the whole model, and an own part of the batch. The gradient of a mean loss is the mean of the parts' gradients. That is the whole idea; check it.


# %%
def gradient(numbers):  # of the mean loss of these photos
    model.zero_grad()
    loss(loss.prepare(source.batch(numbers)))[0].backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# %%
together = gradient(range(4))
apart = (gradient(range(0, 2)) + gradient(range(2, 4))) / 2
difference = (apart - together).norm() / together.norm()
assert difference < 0.01
print("two halves give the gradient of the whole")

# %% [markdown]
# **★★ Unequal shares · 20 min.** Each process has the gradient of the *mean* loss over its own images, and `counts` says how many those are. Return the gradient of the mean over all images.


# %% tags=["exercise"]
def my_mean_gradient(gradients, counts):
    return ...


ch10.check("mean_gradient", my_mean_gradient)

# %%
ch10.hint("mean_gradient")
ch10.solution("mean_gradient")

# %% [markdown]
# What does the exchange cost? In a *ring*, every GPU passes parts on to its neighbour until all have the sum: each sends $2 (n - 1) / n$ times the gradients, however many GPUs there are. Against the time of a step, by hand:

# %%
sent = 2 * 7 / 8 * 4 * total  # bytes of fp32 gradients, 8 GPUs
print(f"each GPU sends {sent / 1e9:.1f} GB per step, which takes {plan.step_seconds:.2f} s as planned")
for link, speed in {"NVLink, 450 GB/s": 450e9, "network, 100 Gbit/s": 12.5e9, "network, 10 Gbit/s": 1.25e9}.items():
    print(f"{link:20} {sent / speed:.3f} s")

# %% [markdown]
# Inside a machine it is nothing, and the exchange of the last layers runs while the backward pass of the first ones still computes. Over a slow network it takes nearly as long as the step itself.
#
# Now for real. Two processes, which know each other through *gloo*, PyTorch's messenger for CPUs (*NCCL* does it on GPUs). The script is what a full run does, with a tiny model:

# %%
script = """
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from vartutor.profiles import get_profile
from vartutor.train.kinds import train
from vartutor.train.processes import this_process
from vartutor.train.settings import TransformerSettings
from vartutor.train.transformer import Objective

told = {"steps": int(sys.argv[1]), "batch": 4, "lr": 1e-2, "log_every": 1, "prior": False, "objective": Objective()}
with this_process("cpu") as process:
    for strategy in sys.argv[2:]:
        run = TransformerSettings.of(get_profile("smoke"), strategy=strategy, **told)
        out = Path(f"{strategy}-{process.size}")
        trainer = train("transformer", run, out, device="cpu")
        mine = {n: p.to_local() if isinstance(p, DTensor) else p for n, p in trainer.model.named_parameters()}
        found = {"losses": [row["loss"] for row in trainer.rows], "held": {n: list(p.shape) for n, p in mine.items()}}
        torch.save(found, out / f"process-{process.rank}.pt")
"""
(work / "share.py").write_text(script)
length = "40" if PROFILE != "smoke" else "4"

# %% [markdown]
# `torchrun` starts the processes and tells each its number; without it, the script is one process. On your GPUs it is the same with `vartutor train` in place of the script, and chapters 11 and 12 do that. (The script stays on the CPU, so that it runs anywhere.)

# %%
environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
for words in (["share.py", length, "ddp"], [*torchrun, "share.py", length, "ddp", "fsdp"]):
    done = subprocess.run([sys.executable, *words], cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
runs = {
    name: [torch.load(path) for path in sorted((work / name).glob("process-*.pt"))]
    for name in ("ddp-1", "ddp-2", "fsdp-2")
}
print({name: f"{len(found)} processes" for name, found in runs.items()})

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.6, 2.4))
styles = {"ddp-1": ("bicubic", 5, "-", "one process"), "ddp-2": ("model", 2, "-", "two, DDP")}
styles["fsdp-2"] = ("rest", 2, ":", "two, FSDP")
for name, (color, width, line, label) in styles.items():
    ax.plot(smooth(runs[name][0]["losses"], 8), color=COLORS[color], linewidth=width, linestyle=line, label=label)
ax.set(xlabel="step", ylabel="cross entropy (nats)")
ax.legend()
show(
    figure,
    "The loss of a tiny transformer, trained by one process and by two.",
    "Three falling curves of loss against steps that lie exactly on top of one another: a broad gray one, a blue one "
    "on it, and an orange dotted one on both.",
)

# %% tags=["nbval-ignore-output"]
alone = np.array(runs["ddp-1"][0]["losses"])
for name in ("ddp-2", "fsdp-2"):
    first, second = (np.array(found["losses"]) for found in runs[name])
    assert (first == second).all()  # both report the mean over both
    assert abs(first - alone).max() < 0.02  # a feature between two codes may fall to the other side
    print(f"{name}: largest difference from one process {abs(first - alone).max():.0e}")
if PROFILE == "cpu":
    assert alone[-10:].mean() < alone[:5].mean() - 0.1

# %% [markdown]
# **What you should see.** Three curves that look like one. The differences are those of rounding: sums in another order. Two processes that do *not* do what one does are the rule, not the exception, until somebody has looked; so look first, on a CPU.
#
# ## What if the state does not fit?
#
# With DDP, eight GPUs keep eight copies of the same state. *Fully sharded* (FSDP) keeps one: every tensor is cut along its first dimension, and everybody holds a piece, with its gradient and its averages. Before a block runs, its pieces are gathered; afterwards they are dropped.
# The same run as above; whom does a weight belong to?

# %%
for name in ("blocks.0.attn.qkv.weight", "blocks.0.fc1.weight", "blocks.0.fc1.bias", "class_emb.weight"):
    shapes = {run: [found["held"][f"body.{name}"] for found in runs[run]] for run in ("ddp-2", "fsdp-2")}
    print(f"{name:25} DDP {shapes['ddp-2'][0]} twice   FSDP", " + ".join(map(str, shapes["fsdp-2"])))
held = {run: [sum(map(np.prod, found["held"].values())) for found in runs[run]] for run in runs}
print({run: [int(n) for n in numbers] for run, numbers in held.items()})
assert held["ddp-2"] == held["ddp-1"] * 2
assert sum(held["fsdp-2"]) == held["ddp-1"][0]

# %% [markdown]
# A tensor with a single row has one owner, and the other process holds nothing of it. All else is halved.
#
# The price is traffic: weights are gathered for the forward pass and again for the backward pass, and gradients are scattered, half as much again as DDP's exchange. What does it buy, at the published size?

# %%
fsdp = make_plan("transformer", published, Setup(get_gpu("h100"), gpus=8, strategy="fsdp"))
print(f"state per GPU: DDP {plan.state / 1e9:.2f} GB, FSDP {fsdp.state / 1e9:.2f} GB")
print(f"photos that fit at once on one GPU: DDP {plan.largest}, FSDP {fsdp.largest}")
billions = 20 * 10e9
print(f"state of a model of ten billion: DDP {billions / 1e9:.0f} GB, FSDP over 8 {billions / 8 / 1e9:.0f} GB")

# %% [markdown]
# Little, for 310 M: DDP is simpler, and our default. FSDP is for models whose state fills a GPU. `--set strategy=fsdp` switches.
#
# ## What can be had from VAR?
#
# The paper does not start from nothing, but from VAR's weights for classes of ImageNet. What fits a model that restores photos? Here is a state of VAR's names and shapes, narrow and shallow so that it is quick; the numbers are noise.

# %%
from vartutor.weights.official_tokenizer import LADDER_256

wide, deep, names, codes = 64, 2, 1000, 4096
shapes = {"pos_start": (1, 1, wide), "pos_1LC": (1, 680, wide), "lvl_embed.weight": (10, wide)}
shapes |= {"class_emb.weight": (names + 1, wide), "lvl_1L": (1, 680), "attn_bias_for_masking": (1, 1, 680, 680)}
linear = {"word_embed": (wide, 32), "head": (codes, wide), "head_nm.ada_lin.1": (2 * wide, wide)}
for b in range(deep):
    block = f"blocks.{b}."
    shapes |= {block + "attn.mat_qkv.weight": (3 * wide, wide), block + "attn.scale_mul_1H11": (1, 1, 1, 1)}
    shapes |= {block + f"attn.{name}": (wide,) for name in ("q_bias", "v_bias", "zero_k_bias")}
    linear |= {block + "attn.proj": (wide, wide), block + "ada_lin.1": (6 * wide, wide)}
    linear |= {block + "ffn.fc1": (4 * wide, wide), block + "ffn.fc2": (wide, 4 * wide)}
shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
official = {name: torch.randn(shape) * 0.02 for name, shape in shapes.items()}
print(f"{len(official)} tensors, ladder {LADDER_256}")

# %% [markdown]
# `load_var` makes VAR itself of it. `init_from_var` gives what it can to a model with a prefix, another ladder and another purpose, and reports:

# %%
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights.official_transformer import init_from_var, load_var

var = load_var(official)
ladder_512 = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
ours = PhotoTransformer(
    TransformerConfig(ladder_512, codes, 32, wide, deep, heads=1), torch.randn(codes, 32), prior=False
)
start = init_from_var(ours, official)
print(start)
assert torch.equal(ours.body.blocks[1].fc1.weight, official["blocks.1.ffn.fc1.weight"])
assert all(name.startswith("prefix.") for name in start.new)

# %% [markdown]
# The blocks, the head and the word embedding come over as they are: how tokens of an image hang together is the same, whoever asks for it. The position table and the level embeddings are resampled for the longer ladder. A thousand classes become one. Only the prefix is new, and the model does not know yet that it should listen to it.
#
# This presumes VAR's *tokenizer* too: codes are numbers without meaning except in the codebook that they were learnt with. So the tokenizer starts from VAR's as well (chapter 11). `--set init=var_d16.pth` does it for the real weights, and warns where the tokenizer has other codes; the tests do it at full size.
#
# ## Would a larger model be better?
#
# Before one pays for size, one asks small models. Loss often falls like a power of size $N$ and of data $D$ (images seen), towards something that no model gets below:
#
# $$ L(N, D) = E + A\, N^{-\alpha} + B\, D^{-\beta}. $$
#
# We trained four sizes for three lengths each: `vartutor study --of scaling`, less than half an hour on one core. Every run has its own schedule, to its own end: in the middle of a longer run the learning rate is still high, and the loss worse than it need be. Measured is the cross entropy of the true tokens on the validation photos.

# %%
from vartutor.tables import load_study

study = load_study("scaling")  # NEEDS assets/studies/scaling.csv
names = sorted({run for run, _ in study})
number = {what: np.array([study[run, what][0][""] for run in names]) for what in ("parameters", "images", "width")}
files = sorted(study[names[0], "ce"][0])
table = np.array([[study[run, "ce"][0][file] for file in files] for run in names])  # (runs, photos)
assert table.shape == (12, len(files))
for images in np.unique(number["images"]):
    row = {
        int(n): x for n, x, i in zip(number["parameters"], table.mean(1), number["images"], strict=True) if i == images
    }
    print(f"{images:6.0f} images:", "  ".join(f"{n / 1e6:.2f} M {row[n]:.3f}" for n in sorted(row)))

# %% [markdown]
# For given exponents the law is linear in $E$, $A$ and $B$. So go through a grid of exponents, solve each by least squares, and keep the best. For an interval, draw the validation photos anew with replacement, and fit again; all of it at once.


# %%
def fit(N, images, losses):  # losses (runs, draws)
    grid = torch.linspace(0.05, 1.5, 59).double()
    a, b = torch.cartesian_prod(grid, grid).T
    N, images, losses = (torch.as_tensor(x).double() for x in (N / 1e6, images / 1e3, losses))
    X = torch.stack([torch.ones(len(a), len(N)).double(), N ** -a[:, None], images ** -b[:, None]], 2)
    solved = torch.linalg.pinv(X) @ losses  # (exponents, 3, draws)
    error = (X @ solved - losses).square().sum(1).masked_fill((solved < 0).any(1), torch.inf)
    best, draw = error.argmin(0), torch.arange(losses.shape[1])
    return a[best], b[best], solved[best, :, draw]


def predict(law, N, images):
    a, b, (E, A, B) = law[0], law[1], law[2].T
    return (E + A * (N / 1e6) ** -a + B * (images / 1e3) ** -b).numpy()


rng = np.random.default_rng(SEED)
chosen = [np.arange(len(files)), *rng.integers(len(files), size=(500, len(files)))]
draws = np.stack([table[:, photos].mean(1) for photos in chosen], 1)  # (12, 501); the first is the plain mean
law = fit(number["parameters"], number["images"], draws)
for name, values in {"α": law[0], "β": law[1], "E": law[2][:, 0]}.items():
    low, high = np.quantile(values[1:], (0.025, 0.975))
    print(f"{name} = {values[0]:.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown]
# **★★★ A law · 40 min.** From the sizes of some models and their losses, find $E$, $A$ and $\alpha$ of $L = E + A\, N^{-\alpha}$. The losses lie exactly on such a law, with $\alpha$ below 1. A search in steps of a hundredth is good enough.


# %% tags=["exercise"]
def my_fit_law(sizes, losses):
    return ...


ch10.check("fit_law", my_fit_law)

# %%
ch10.hint("fit_law")
ch10.solution("fit_law")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.2, 2.9))
across = np.geomspace(number["parameters"].min() / 1.3, number["parameters"].max() * 4, 40)
for images, color in zip(np.unique(number["images"]), ("rest", "token", "model"), strict=True):
    mine = number["images"] == images
    lines = np.stack([predict(law, n, images) for n in across], 1)  # (draws, sizes)
    lines = lines - draws.mean(0)[:, None] + draws[:, 0].mean()
    ax.fill_between(across, *np.quantile(lines[1:], (0.025, 0.975), axis=0), color=COLORS[color], alpha=0.15)
    ax.plot(across, lines[0], color=COLORS[color], label=f"{images:.0f} images")
    ax.plot(number["parameters"][mine], table[mine].mean(1), "o", color=COLORS[color])
ax.set(xscale="log", xlabel="parameters", ylabel="cross entropy (nats)")
ax.legend()
show(
    figure,
    "Four sizes, three lengths: measured (dots), the law, and where it lies for other photos, with their mean held fixed.",
    "Three falling curves of loss against the number of parameters, one per number of images seen, the longer the lower, "
    "with four dots on each and a pale band around it.",
)

# %% [markdown]
# **What you should see.** The longer the lower, and the larger the lower, at the same number of photos. Some photos are harder than others, for every model alike; that moves all curves together, and is left out of the bands.
#
# A law is worth what it predicts. So hide the most expensive run, fit the eleven others, and ask for it:

# %%
last = int(np.argmax(number["parameters"] * number["images"]))
rest = np.arange(12) != last
others = fit(number["parameters"][rest], number["images"][rest], draws[rest])
guess = predict(others, number["parameters"][last], number["images"][last]) - draws[last]
low, high = np.quantile(guess[1:], (0.025, 0.975))
print(
    f"{names[last]}: measured {draws[last, 0]:.3f}; the law was off by {guess[0]:+.3f} [{low:+.3f}, {high:+.3f}] nats"
)
cheaper = np.sort(draws[rest, 0])[0]
print(f"the best of the cheaper runs: {cheaper:.3f}")

# %% [markdown]
# And now the caveats. Twelve runs determine five numbers badly, and $E$ worst of all: it lies beyond all data. There is one seed. All sizes have the same learning rate, which favours some. The photos are few, so that a long run sees the same ones often, and then size begins to hurt.
# And cross entropy is not what the eye sees. Such a law may tell which of two small changes to pay for. It does not tell what 310 M parameters do after 200 epochs: a factor of seventy in size, and of a thousand in data.
#
# ## What breaks if every process draws the same photos?
#
# The commonest mistake with several GPUs: one seed for all. Nothing crashes. Every loss looks right. Guess before you run: what is lost?
#
# Here are the gradients of 48 "processes", of one photo each. We average groups of four, once with photos of their own, once with the same ones, and look how much the averages vary.

# %%
grads = torch.stack([gradient(range(n, n + 1)) for n in range(100, 148)])
grads = grads / grads.norm(dim=1, keepdim=True)  # or one hard photo would rule
groups = grads.view(12, 4, -1)


def noise(averages):  # variance, over all parameters
    return averages.var(0).sum()


own = noise(groups.mean(1)) / noise(grads)
same = noise(groups[:, :1].expand(-1, 4, -1).mean(1)) / noise(grads)  # all drew what the first one drew
print(f"noise of the gradient, relative to one process: own photos {own:.2f}, the same photos {same:.2f}")
assert own < 0.5 < same

# %% [markdown]
# **What you should see.** With own photos, four processes have about a quarter of the noise. With the same ones they have what one has, give or take chance: four times the bill for the work of one.
#
# So test it: two processes, print the first numbers of each batch. In this course the photos of a step are a function of the step, each process takes its share, and "losses equal to one process" is the proof.
#
# ## From VARSR to here
#
# VARSR came first: super-resolution by next-scale prediction, with a model of a billion. What it added to VAR, and what became of it here; the page *From VARSR to here* of the book has the measurements.
#
# | part | what it does | in this course |
# |---|---|---|
# | prefix tokens | the degraded photo stands before the first map, and all maps may look at it | yes: two convolutions and a projection |
# | scale-aligned RoPE | positions as rotations, on one frame for all maps | yes, centred; learned tables where VAR's weights are loaded |
# | diffusion refiner | a small network draws, by denoising, what the last codes left over, for every token | an option: `vartutor train refiner` |
# | image-based guidance | pushes the draw away from what a worse photo would give | an option: `--guidance` with `--negative photo`, without VARSR's class of bad photos |
#
# The paper of this course dropped the last two, took VAR's d16, and put hierarchical tokens and a preference in their place.

# %% [markdown]
# ## Questions
#
# 1. First the depth doubles, then the width instead. What happens to the parameters, and to the work of attention?
#
# <details><summary>Answer</summary>
#
# Parameters grow as $D^2 \cdot \text{depth}$: twice as many, or four times. The work of attention grows as $D \cdot \text{depth}$ at the same number of tokens: twice as much in both cases.
#
# </details>
#
# 2. Checkpointing computes every block a second time. Why is the step a third more expensive, and not twice?
#
# <details><summary>Answer</summary>
#
# A step is one forward pass and a backward pass that costs two. The second forward pass makes four of three. The frozen tokenizer is not computed again.
#
# </details>
#
# 3. The gradient of a wrong code is lost in fp16, and a moving average stands still in bf16. Which part of the number is to blame in each case?
#
# <details><summary>Answer</summary>
#
# In fp16 it is the exponent: so small a number does not exist. In bf16 it is the mantissa: the step exists, but beside 1 it is too small to be added.
#
# </details>
#
# 4. At 501 tokens a third of the pairs is forbidden. Why does a kernel with blocks of 128 save only a tenth?
#
# <details><summary>Answer</summary>
#
# It skips a block only if all its pairs are forbidden, and most blocks hold a few that are not. Besides, the last blocks stick out over the end.
#
# </details>
#
# 5. FSDP takes five of six gigabytes of state off a GPU. Why do only six more photos fit?
#
# <details><summary>Answer</summary>
#
# A photo needs almost a gigabyte in the fullest moment, while the frozen tokenizer encodes it. So five gigabytes are room for six photos, beside more than seventy.
#
# </details>
#
# ## An open experiment
#
# The law of this chapter knows parameters, not shapes. Does it matter how they are spent? Add runs of the same number of parameters, but deeper and narrower, or wider and shallower. Ask the law first.
#
# A good answer
#
# - writes down what the law predicts for the new runs, with its interval, before they run;
# - keeps photos, steps, batch and schedule as in the study, and says what the learning rate was;
# - counts the work of a step as well as the parameters, since a deep model has the same matrices but more attention;
# - has at least two seeds for one of the runs, to know how large chance is;
# - says which of the differences a run of 400 steps cannot decide.
#
# ## In five lines
#
# 1. A block has $18 D^2$ parameters. For every token it takes two operations for each of $12 D^2$ weights, three times over. Attention adds $4 D$ for every pair that may see each other, three and a half times.
# 2. State costs 20 bytes per parameter, activations grow with the batch; checkpointing trades memory for a third more work.
# 3. fp16 lacks range and bf16 precision: products in bf16, weights, averages and lookups in fp32.
# 4. DDP shares the batch, FSDP the state too; both give the losses of one process, if every process draws its own photos.
# 5. A scaling law from small runs says where to look next, not what the large run will give.
#
# ## The course and the paper
#
# | | this chapter | the published runs |
# |---|---|---|
# | size | 4 M parameters, 501 tokens | 310 M, some 3,000 tokens with the prefix (the paper's ladder is not printed) |
# | processes | two, on a CPU | 24 A100 |
# | precision | fp32, bf16 as an option | VAR: fp16 with loss scaling, or bf16 |
# | strategy | DDP and FSDP2, compared | VAR: DDP |
# | start | noise in VAR's shapes | VAR-d16's weights |
# | scaling | four sizes up to 4 M, twelve runs | VAR: sizes up to two billion, and power laws over them |
#
# ## References
#
# - J. Kaplan et al., [Scaling Laws for Neural Language Models](https://arxiv.org/abs/2001.08361), 2020.
# - J. Hoffmann et al., [Training Compute-Optimal Large Language Models](https://arxiv.org/abs/2203.15556), 2022: the law with $E$; a schedule for every length.
# - P. Micikevicius et al., [Mixed Precision Training](https://arxiv.org/abs/1710.03740), 2017: fp16, master weights, loss scaling.
# - T. Dao et al., [FlashAttention](https://arxiv.org/abs/2205.14135), 2022: attention without the n × n scores.
# - T. Chen et al., [Training Deep Nets with Sublinear Memory Cost](https://arxiv.org/abs/1604.06174), 2016: checkpointing.
# - S. Rajbhandari et al., [ZeRO](https://arxiv.org/abs/1910.02054), 2019, and Y. Zhao et al., [PyTorch FSDP](https://arxiv.org/abs/2304.11277), 2023: sharded state.
# - K. Tian et al., [Visual Autoregressive Modeling](https://arxiv.org/abs/2404.02905), 2024: VAR's own power laws are in its section 5.
# - Y. Qu et al., [Visual Autoregressive Modeling for Image Super-Resolution](https://arxiv.org/abs/2501.18993), 2025: VARSR.
#
# **Next:** chapter 11 trains the tokenizer at full size.
