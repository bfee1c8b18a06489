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
# # 12 · GPU run: transformer, DPO, benchmarks
#
# **Three commands: train the transformer of 310 million parameters, teach it a preference, measure it as the published tables do.**
# As in chapter 11, the full run is a *plan*: nobody has made it. Every command is run here all the same, with `--dry-run`, on two processes; on the CPU, whatever `DEVICE` says, so that it runs anywhere.
#
# After this chapter you will be able to
#
# - **configure** the transformer's run and the preference's, and say whose each setting is;
# - **compare** learning rates of two papers on one axis;
# - **launch** with sharded weights (FSDP), and read what comes out;
# - **evaluate** on DIV2K-Val, RealSR and DRealSR, with their protocol;
# - **place** a result in a table, and leave cells empty that nobody has measured.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about a minute and 2.1 GB to run, an hour to read | chapters 07, 08 and 11 | November 2026, torch 2.13, without a GPU |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → **12 GPU: transformer**
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): bfloat16, degradation, FID, FSDP, ladder, LPIPS, PSNR, SSIM, token, tokenizer.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import contextlib
import io
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from vartutor.chapter import setup
from vartutor.paths import assets
from vartutor.profiles import get_profile, toy
from vartutor.show import COLORS
from vartutor.show.figures import show, smooth

session = setup(PROFILE, SEED, DEVICE)
gpu = get_profile("gpu")
room = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # runs of this chapter go here
work = Path(room.name)
print(session)

# %% [markdown]
# ## What is trained?
#
# VAR's smallest transformer, d16, with the degraded photo before the first map as 1,024 tokens, and the ladder of 2,130 tokens behind it. It starts from VAR's official weights, as the paper does: download `var_d16.pth` from [the authors](https://github.com/FoundationVision/VAR), and give it with `--set init=var_d16.pth`. The command prints what it takes and what is new; chapter 10 shows that list. The tokenizer must be one that started from VAR's, as in chapter 11. Over other codes the command warns, for these weights know codes by number.
#
# How does the photo get in? By default two convolutions turn its pixels into tokens. The paper enlarges it, and takes what the tokenizer's encoder makes of it †: 1,024 latents of 32 numbers. `--set encoded=true` does that. It costs a second photo through the frozen encoder in every step:

# %%
from dataclasses import replace

from vartutor.plan.steps import count_step

paper = replace(gpu, transformer=replace(gpu.transformer, encoded=True))
for name, profile in {"of pixels": gpu, "of latents, the paper's": paper}.items():
    flops = count_step("transformer", profile).flops
    print(f"prefix {name:<24}{flops.total() / 1e12:.2f} TFLOP per photo, frozen {flops['frozen features'] / 1e12:.2f}")

# %% [markdown]
#
# These are the settings. Read every line, and mark whose it is: the paper's, VAR's, VARSR's or ours.

# %%
configs = assets() / "configs"
print((configs / "transformer.yaml").read_text())

# %% [markdown]
# ## How fast may it learn?
#
# Here the sources pull in different directions. Notes on the paper say 1e-3 at a batch of 384. VAR's own rule, for the very weights that we start from, is 1e-4 for every 256 images. And VARSR fine-tuned at less still, whatever the batch.
#
# The profile takes the paper's figure, since this run is to repeat the paper. (An earlier version of this course had a tenth of it.) The shapes differ too: VAR's rate stays high and then falls in a line, ours follows a cosine, which is our choice.

# %%
from vartutor.train.loop import LoopConfig, learning_rate

loop = LoopConfig(gpu.transformer.steps, lr=gpu.transformer.lr)
steps = np.arange(0, loop.steps, 50)
paper = [learning_rate((step + 1) / loop.steps, loop) for step in steps]
rule = 1e-4 * gpu.full_batch / 256  # VAR: 1e-4 per 256 images
last, warm = loop.steps - 1, loop.steps // 50  # a line up, flat for 5 % of the rest, a line down to a tenth
var = rule * np.interp(steps, [0, warm, warm + 0.05 * (last - warm), last], [0.005, 1, 1, 0.1])
print(f"peak: {loop.lr:g} as in the paper, {rule:g} by VAR's rule: {loop.lr / rule:.1f} times as much")

# %% [markdown]
# **★ Epochs · 10 min.** Return how many steps of `batch` images are `epochs` passes through `photos` images, rounded to the nearest whole number.

# %% tags=["exercise"]
from vartutor.exercises import ch12


def my_steps(photos, batch, epochs):
    return ...


ch12.check("steps", my_steps)

# %%
ch12.hint("steps")
ch12.solution("steps")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.4))
ax.plot(steps, paper, color=COLORS["model"], label="this run: the paper's peak, a cosine")
ax.plot(steps, var, color=COLORS["bicubic"], label="VAR's rule and shape")
ax.axhline(5e-5, color=COLORS["rest"], linestyle=":", label="VARSR's peak")
ax.set(xlabel="step", ylabel="learning rate", yscale="log", ylim=(3e-6, 2e-3))
ax.legend()
show(
    figure,
    "Three opinions on how fast to fine-tune VAR.",
    "Learning rate on a logarithmic axis over 13,000 steps: the paper's curve warms up to the top and falls as a cosine; "
    "VAR's stays far lower and falls in a line; a dotted line for VARSR lies below both for most of the way.",
)

# %% [markdown]
# **What you should see.** Almost an order of magnitude between the paper and the rule of the model it starts from. If the loss of your run jumps in the warm-up, this is the first suspect: `--set loop.lr=1.5e-4` is VAR's rule.
#
# ## What does it cost?

# %%
from vartutor.gpus import get_gpu
from vartutor.plan.estimate import Setup, make_plan
from vartutor.plan.report import report

plan = make_plan("transformer", gpu, Setup(get_gpu("h100"), gpus=8))
print(report(plan))

# %% [markdown]
# The file says `batch: auto`, so the command takes the rounds that this plan finds. All activations are kept, since enough photos fit with them. The frozen tokenizer encodes in float32: in bfloat16 a fifth of the tokens would change (chapter 10).
#
# How far can the hours be trusted? And what does one card cost? If a GPU was measured, this cell uses its figures.

# %%
from vartutor.plan.measured import AS_PLANNED, read_measured

found = {r.measure: r for r in read_measured() if (r.run, r.variant) == ("transformer", AS_PLANNED)}
share = found["utilisation"].value if found else plan.utilisation
how = f"measured on {found['mfu'].card}, {found['photos/s'].value:.0f} photos/s" if found else "assumed: an estimate"
print(f"{share:.0%} of the peak, {how}")
for name, gpus in (("gpu", 8), ("gpu1", 1)):
    p = make_plan("transformer", get_profile(name), Setup(get_gpu("h100"), gpus=gpus, utilisation=share))
    photos = p.steps * p.setup.batch / 1e6
    print(f"profile {name:<5} {gpus} × H100: {p.hours:5.1f} hours, ${p.cost:4,.0f}, {photos:.1f} million photos")

# %% [markdown]
# Profile `gpu1` sees about half as many photos, in smaller batches at a lower rate, by our choice. It starts from the same weights, so it can learn to read the prefix. Whether it gets as far as the paper, nobody knows.
#
# A step with a preference shows the model *two* sequences for each photo, the clean tokens and the degraded ones; the prefix is shared, and the frozen tokenizer encodes both photos. `plan` knows that as a run of its own. And again there is the paper's own time to compare with, 13 hours on 24 A100.

# %%
preference = make_plan("preference", gpu, Setup(get_gpu("h100"), gpus=8))
more = preference.step_flops / plan.step_flops
print(
    f"a preference: {more:.2f} times the work per step, {preference.hours:.2g} hours and ${preference.cost:,.0f} more"
)
paper_flops = 13 * 3600 * 24 * get_gpu("a100-80").flops
for name, step_flops in {"one sequence": plan.step_flops, "two, as the paper trains": preference.step_flops}.items():
    print(f"{name}: the paper's 13 hours would be {step_flops * plan.steps / paper_flops:.0%} of the peak")

# %% [markdown]
# The paper trains with the preference all along, so the second figure is the one to compare. It is of the same order as what chapter 11 found for the tokenizer. That is comforting for the arithmetic, and it is where the plan takes its fifth from, until somebody measures.
#
# (We fine-tune for a short while instead, so that one run can be compared before and after: chapter 08.)
#
# ## Can the whole path be run?
#
# A transformer needs a tokenizer. A dry one will do: two steps, here in one process, by the command of chapter 11.

# %% tags=["nbval-ignore-output"]
from vartutor.cli import main

tokenizer = work / "tokenizer"
words = ["--profile", "gpu", "--dry-run", "--device", "cpu", "--set", "loop.steps=2", "--out", str(tokenizer)]
with contextlib.redirect_stdout(io.StringIO()) as said:
    assert main(["train", "tokenizer", *words]) == 0
print(said.getvalue().replace(str(work), "runs"))

# %% tags=["nbval-ignore-output"]
module = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
environment = {**os.environ, "OMP_NUM_THREADS": "1"}


def torchrun(*words):
    words = ["-m", "vartutor", "train", *map(str, words), "--dry-run", "--device", "cpu"]
    print("torchrun --nproc-per-node 2", shlex.join(words).replace(str(work), "runs").replace(str(configs), "configs"))
    done = subprocess.run([*module, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    return done.stdout


settings = ["--profile", "gpu", "--config", configs / "transformer.yaml", "--set", "strategy=fsdp"]
output = torchrun("transformer", *settings, "--set", f"tokenizer={tokenizer}", "--out", work / "transformer")
print(output.split("weights and log")[0])

# %% [markdown]
# Two processes, each with half of every block's weights, gradients and averages, in bfloat16. On 80 GB the file's `ddp` is simpler and as fast. On smaller GPUs you need what you have just seen.
#
# The decibels are those of an untrained model: noise. What counts is that every part was passed. Who holds what is drawn in chapter 10. On disk nothing is shared any more: the state is one file with whole weights, so that any number of processes can go on with it.

# %%
from vartutor.weights.files import load_state

print(sorted(path.name for path in (work / "transformer").iterdir()))
weights = load_state(work / "transformer" / "state.pt")["model"]
print(f"{len(weights)} tensors; queries, keys, values:", tuple(weights["body.blocks.0.attn.qkv.weight"].shape))
rows = np.genfromtxt(work / "transformer" / "log.csv", delimiter=",", names=True, deletechars="")
print("logged:", *rows.dtype.names)
assert np.isfinite(rows["loss"]).all() and len(rows) == 6

# %% [markdown]
# ## And the preference?
#
# Chapter 08 explains what it does; this file says how it is trained at full size.

# %%
print((configs / "preference.yaml").read_text())

# %% tags=["nbval-ignore-output"]
settings = ["--profile", "gpu", "--config", configs / "preference.yaml", "--set", f"model={work / 'transformer'}"]
output = torchrun("preference", *settings, "--out", work / "preference")
rows = np.genfromtxt(work / "preference" / "log.csv", delimiter=",", names=True, deletechars="")
print(f"dpo {rows['dpo'][0]:.3f} at first: -log σ(0) = {np.log(2):.3f}; drift from the start: {rows['drift'][0]:.0e}")
assert abs(rows["dpo"][0] - np.log(2)) < 0.05 and abs(rows["drift"][0]) < 1e-2

# %% [markdown]
# **★★★ The pull · 40 min.** `margins` is (B, L): log-probability of the clean token minus that of the degraded one, token by token. The loss is the mean over photos of $-\log \sigma(\beta M)$, where $M$ is the sum over the tokens if `total`, else their mean. Return its gradient, (B, L), by formula. What happens to it at 2,130 tokens if you take the sum?


# %% tags=["exercise"]
def my_pull(margins, beta, total):
    return ...


ch12.check("pull", my_pull)

# %%
ch12.hint("pull")
ch12.solution("pull")

# %% [markdown]
# **What you should see.** At the first step the model still *is* its start: it has not drifted, and an untrained one has no preference. Two numbers that are known in advance are the cheapest test of a new run. Look at them before you look away.
#
# ## What should you watch?
#
# No curve of the full run exists. Below is the log of the course's own transformer, that of chapter 07 at 64 pixels. A row is one batch of eight photos, and batches differ more than training changes in a hundred steps. So pale dots show the rows, and the lines are means over eight of them.

# %%
log = np.genfromtxt(assets() / "studies" / "transformer_log.csv", delimiter=",", names=True, deletechars="")
right = sorted((name for name in log.dtype.names if name.startswith("right/")), key=lambda name: int(name[6:]))
means = {name: smooth(log[name], 8)[7:] for name in ("ce", *right)}  # of eight rows, from the eighth on
print(f"cross entropy: {means['ce'][0]:.2f} at first, {means['ce'][-1]:.2f} at last; ln V = {np.log(1024):.2f}")

# %% tags=["hide-input", "nbval-ignore-output"]
figure, (left, ax) = plt.subplots(1, 2, figsize=(7.2, 2.5))
left.plot(log["step"], log["ce"], ".", color=COLORS["model"], alpha=0.3)
left.plot(log["step"][7:], means["ce"], color=COLORS["model"])
left.set(xlabel="step", ylabel="cross entropy (nats)", title="the course's transformer, 64 px")
for i, name in enumerate(right):
    ax.plot(log["step"][7:], means[name], color=COLORS["token"], alpha=0.25 + 0.75 * (i + 1) / len(right))
ax.set(xlabel="step", ylabel="share of right tokens", title="map by map, the finer the darker")
show(
    figure,
    "What a transformer's log.csv holds: single batches (dots), and means of eight rows (lines).",
    "Two panels over 3,600 steps. On the left scattered dots of cross entropy with a line that falls steeply at first "
    "and then hovers; on the right the share of right tokens, eight lines, the coarsest map on top, the finest lowest.",
)

# %% [markdown]
# Watch four things, in this order.
#
# 1. *Cross entropy* starts near the logarithm of the number of codes, or below it with VAR's weights over VAR's codes. It falls steeply at first, and then so slowly that single batches hide it: look at means, and at `held-out/loss`. It will not come near zero: many tokens are as good as their neighbours (chapter 05).
# 2. *The share of right tokens*, map by map. The coarse maps lead. A map that stays at chance has wrong inputs.
# 3. *Samples*. If they are blurred, the run had too few steps. If their colours are wrong, look at the tokenizer. If seams show, look at the tiling.
# 4. For the preference, *the margin grows while `drift` stays small*. When cross entropy rises with the margin, stop: the model unlearns (chapter 08).
#
# ## When should you stop?
#
# The transformer: at the end of its schedule, unless a sign is bad. The preference: when the validation photos say so. Every `loop.validate_every` steps the log has the loss and the decibels of photos that it does not learn from (`held-out/…`). The weights with the lowest such loss are kept in `best.pt`. More of it is not better.
#
# ## What goes wrong, and what helps?
#
# | symptom | cause | cure |
# |---|---|---|
# | the loss jumps in the warm-up and stays high | learning rate | `--set loop.lr=1.5e-4`, VAR's rule; start again |
# | the loss starts at the logarithm of the codes, in spite of `init` | a tokenizer with other codes than VAR's | read what the command printed: taken, resized, new, and the warning |
# | right tokens of all maps stay at chance | tokenizer of another run | `tokenizer` is the run whose codes you want |
# | fine in training, rubbish in generation | a mask with a hole, or positions amiss | chapter 06: ask the gradient |
# | out of memory, and the command stops | more at once than fits | `--set accumulate=N`, as the command says |
# | GPUs wait for photos | a slow disk | the set on a local disk; chapter 10 counts what a GPU wants |
# | the margin grows, photos get worse | preference too strong | smaller `lam`, fewer steps |
#
# ## What breaks if the prefix has no places?
#
# This one is ours. For a long time the profile of the published size had a fault that no test saw. The model uses learned positions, as VAR does, but the *prefix* had none. The course's small model, with rotations, was never affected.
#
# What does a transformer know of 1,024 tokens without places? That they are there, not where. Take a model, and shuffle its prefix:

# %%
from vartutor.train.sizes import make_transformer
from vartutor.transformer.condition import Condition
from vartutor.weights import load_tokenizer

small = load_tokenizer(str(tokenizer))
torch.manual_seed(SEED)
model = make_transformer(toy(gpu), small, prior=False).eval()
model.body.blocks.apply(lambda m: torch.nn.init.normal_(m.weight, std=0.2) if isinstance(m, torch.nn.Linear) else None)
prefix, inputs = torch.randn(1, 16, 64), torch.randn(1, small.quantizer.tokens - 1, 8)
order = torch.randperm(16, generator=session.generator)


# %%
@torch.no_grad()
def moved(model):  # how far the logits move when the photo is shuffled
    vector = model.body.class_emb.weight[:1]
    ours, shuffled = (model.body(Condition(vector, p, ((4, 4),)), inputs) for p in (prefix, prefix[:, order]))
    return (ours - shuffled).abs().max().item()


with_places = moved(model)
model.body._prefix_position = lambda sizes: 0.0  # as it was
without = moved(model)
print(f"shuffling the photo moves the logits by {with_places:.0e} with places, by {without:.0e} without")
assert with_places > 1000 * without

# %% [markdown]
# **What you should see.** Without places, a shuffled photo gives the same answer, but for rounding. Such a model would have trained. Its loss would have fallen, for the *content* of the photo says much. After days it would have drawn a plausible photo with everything in the wrong spot, and somebody would have blamed the learning rate.
#
# Now the prefix takes the places of the last map, at its own size (our choice; the notes say that the paper shrinks one table to all its maps).
#
# A dry run proves that a path can be *walked*. That it leads to the right place, only a question like this one can prove: change what must matter, and see whether it does.
#
# ## How is it measured, as the papers do?
#
# Three sets, crops of 512 pixels, degraded photos of 128. DIV2K-Val: 3,000 crops, degraded by a program. RealSR and DRealSR: pairs taken with two focal lengths, the middle of each. PSNR and SSIM on luma; LPIPS, DISTS, FID, NIQE, MUSIQ, MANIQA and CLIP-IQA through packages that you install yourself (`--extra`), some of them not free for commerce.
#
# `vartutor evaluate --benchmark realsr --photos RealSR --model runs/preference --device cuda --extra lpips dists fid`
#
# The sets are not ours to ship. So we make a folder in RealSR's layout, with one photo of the course:

# %%
from vartutor.data.degradation import degrade
from vartutor.data.images import write_image
from vartutor.data.photos import find_photo
from vartutor.data.presets import VARSR

folder = work / "RealSR" / "Canon" / "Test" / "4"
folder.mkdir(parents=True)
clean = find_photo("kde_owl").load()[None, :, :512, :512]
write_image(folder / "Canon_001_HR.png", clean[0])
write_image(folder / "Canon_001_LR4.png", degrade(clean, VARSR, seeds=[SEED])[0])

# %% [markdown]
# **★★ The middle · 20 min.** A degraded photo is `height` × `width`, the clean one four times as large. Return the top left corners of the middle crops, 128 and 512 pixels a side: (top, left) in the degraded photo and (top, left) in the clean one. They must show the same.


# %% tags=["exercise"]
def my_middle(height, width):
    return ...


ch12.check("middle", my_middle)

# %%
ch12.hint("middle")
ch12.solution("middle")

# %% tags=["nbval-ignore-output"]
words = ["--benchmark", "realsr", "--photos", str(work / "RealSR"), "--restorers", "bicubic", "model"]
words += ["--model", str(work / "preference"), "--seeds", "0", "--out", str(work / "realsr")]
print("vartutor evaluate", shlex.join(words).replace(str(work), "runs"))
done = subprocess.run(
    [sys.executable, "-m", "vartutor", "evaluate", *words], env=environment, capture_output=True, text=True
)
assert done.returncode == 0, done.stderr[-800:]
print(sorted(path.name for path in (work / "realsr").iterdir()))

# %% [markdown]
# ## Where does your number belong?
#
# Below, LPIPS as the paper prints it for others and for itself, quoted by third-party notes, and a row for this run. It is filled from `runs/benchmarks/NAME/results.csv`, if you have such files. We have none, and the row says so.

# %%
from vartutor.evaluate.table import read_rows

published = {  # LPIPS: DIV2K-Val, RealSR, DRealSR
    "StableSR": (0.323, 0.300, 0.333),
    "ResShift": (0.428, 0.346, 0.401),
    "VARSR (1 B)": (0.326, 0.350, 0.354),
    "VARSR-d16": (0.495, 0.413, 0.409),
    "H-VAR, the paper (310 M)": (0.317, 0.256, 0.259),
}


def ours(name, measure="lpips"):
    path = Path("runs/benchmarks") / name / "results.csv"
    values = [row.value for row in read_rows(path) if row.measure == measure] if path.is_file() else []
    return f"{np.mean(values):.3f}" if values else "not run"


# %% tags=["nbval-ignore-output"]
sets = ("div2k-val", "realsr", "drealsr")
print(f"{'LPIPS, lower is better':<28}" + "".join(f"{name:>12}" for name in sets))
for name, values in published.items():
    print(f"{name:<28}" + "".join(f"{value:>12.3f}" for value in values))
print(f"{'this run (310 M)':<28}" + "".join(f"{ours(name):>12}" for name in sets))

# %% [markdown]
# Before you compare, ask four questions. Are they the same crops? (Only StableSR's own copy of DIV2K-Val has the published ones; `--photos` reads it.) The same degradation? The same version of the metric? And sampled or greedy? VARSR's users found figures far from its table for such reasons. Your table must say what you did: the command prints it above every result.
#
# ## How is it published?
#
# As in chapter 11, tokenizer first: the transformer's record names the checksum of the tokenizer that it speaks through, and will not be published beside another one.

# %%
from vartutor.workshop.publish import publish

shelf = work / "published"
publish(tokenizer, toy(gpu), shelf)
entry = publish(work / "preference", toy(gpu), shelf, name="full")
print("files:", *sorted(path.name for path in shelf.iterdir()))
card = (shelf / "transformer_full.md").read_text()
print(card.split("## Limits")[1].split("##")[0].strip())
assert (
    entry["sha256"] in card
    and entry["tokenizer"] in card
    and entry["start"]["sha256"] in (shelf / "manifest.json").read_text()
)

# %% [markdown]
# The limits are the part of a card that matters most. A super-resolver that draws from what is likely will draw a face, or a digit, that was never there. Whoever uses it must read that *first*.

# %% [markdown]
# ## Questions
#
# 1. You start from VAR's weights, and the first cross entropy is the logarithm of the number of codes. What do you look at?
#
# <details><summary>Answer</summary>
#
# That is guessing, so nothing useful was taken over. Read the list that the command printed: taken, resized, new. Then look whether the tokenizer is the one whose codes these weights know.
#
# </details>
#
# 2. A step with a preference works on two sequences. Why does it cost less than twice as much?
#
# <details><summary>Answer</summary>
#
# The prefix and the start are shared, and the prefix alone is a third of a sequence. It is computed once.
#
# </details>
#
# 3. The first step shows a `dpo` of $\ln 2$ and a drift of zero. Must both be so for a trained model, too?
#
# <details><summary>Answer</summary>
#
# The drift must: nothing has moved yet. The loss need not. A trained model may already prefer one of the two photos, and then its margin is not zero.
#
# </details>
#
# 4. Without places, a shuffled photo still moves the logits by a hundred-millionth or so. Why not by exactly zero?
#
# <details><summary>Answer</summary>
#
# The sums of attention run over the same numbers in another order, and floating-point sums depend on the order. So compare with rounding, not with zero.
#
# </details>
#
# 5. You measure a good LPIPS on photos that you shrank and damaged yourself. May it stand in the table?
#
# <details><summary>Answer</summary>
#
# No. The columns are fixed sets: for RealSR and DRealSR pairs taken with two lenses. Another damage is another task, and another version of LPIPS is another ruler.
#
# </details>
#
# ## An open experiment
#
# "Change what must matter, and see whether it does." Choose three more things that a next-scale model must depend on, and two that it must not depend on. Write a test for each, as in *What breaks if the prefix has no places?*.
#
# A good answer
#
# - says for each change whether the logits must move, and which ones, before it measures;
# - compares with rounding, not with zero;
# - has at least one change that must *not* matter, such as the input of a later map;
# - uses weights from two seeds, so that no single draw decides;
# - says which fault each passed test rules out, and which it does not.
#
# ## In five lines
#
# 1. Transformer, preference and benchmark are three commands; each has a file or a line that says whose every setting is.
# 2. The paper's learning rate is several times what VAR's rule gives for the same weights: watch the warm-up.
# 3. Numbers that are known in advance, such as log 2 at the first step, test a run before it costs anything.
# 4. A dry run walks the path; whether it leads to the right place needs a test of what must matter.
# 5. What was not run stays an empty cell.
#
# ## The course and the paper
#
# | | this run (a plan) | H-VAR (the paper, by third-party notes) |
# |---|---|---|
# | start | VAR-d16, official weights | the same |
# | condition | the degraded photo as 1,024 tokens, from its pixels by two convolutions; or as in the paper, `encoded=true` | the enlarged photo through the tokenizer's encoder, 1,024 tokens |
# | places | VAR's table for all maps; the prefix takes the last map's | one table at the largest scale, shrunk to every map |
# | loss | cross entropy; then cross entropy and preference | both, all along, with equal weights |
# | photos per step, epochs | those of the paper †; fewer for one GPU | 384, 200 † |
# | peak rate | that of the paper †; lower for one GPU | a thousandth † |
# | log-likelihoods | mean over the tokens | not known |
# | hardware | 8 H100, or what you have | 24 A100, 13 hours |
#
# ## References
#
# - A. Sánchez et al., [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990), 2025, and its second version, [H-VAR](https://arxiv.org/abs/2605.14891).
# - Y. Qu et al., [Visual Autoregressive Modeling for Image Super-Resolution](https://arxiv.org/abs/2501.18993), 2025: VARSR.
# - J. Wang et al., [Exploiting Diffusion Prior for Real-World Image Super-Resolution](https://arxiv.org/abs/2305.07015), 2023: StableSR, and the protocol of the benchmarks.
# - Y. Zhao et al., [PyTorch FSDP](https://arxiv.org/abs/2304.11277), 2023: sharded training.
# - R. Rafailov et al., [Direct Preference Optimization](https://arxiv.org/abs/2305.18290), 2023.
#
# This is the last chapter. If you run the plan, tell us what the empty cells say.
