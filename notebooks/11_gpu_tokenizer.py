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
# # 11 · GPU run: the tokenizer
#
# **One command trains the tokenizer of the published size on eight GPUs. Here it is, explained, priced, and proved on two processes of your own machine.**
# Nobody has made the full run. So it is a *plan*, and says so; speeds are estimates until somebody measures them. What can be proved without a GPU is proved: the command below runs the very code that GPUs would run, at toy size.
#
# After this chapter you will be able to
#
# - **read** the settings of a full run, line by line, and change them;
# - **price** it before it starts, and doubt the price;
# - **launch** it, kill it, and go on with another number of processes;
# - **watch** the four curves that matter, and know when to stop;
# - **publish** weights with all that must be said beside them.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | under a minute and 1.6 GB to run, an hour to read | chapters 05 and 10 | November 2026, torch 2.13, without a GPU |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → **11 GPU: tokenizer** → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): accumulation, adversarial loss, bfloat16, bridge, codebook, DDP, FSDP, ladder, LPIPS, perceptual distance, PSNR, token.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import psutil
import torch

from vartutor.chapter import setup
from vartutor.paths import assets
from vartutor.profiles import get_profile, toy
from vartutor.show import COLORS
from vartutor.show.figures import image_grid, show, smooth

session = setup(PROFILE, SEED, DEVICE)
room = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # runs of this chapter go here
work = Path(room.name)
print(session)

# %% [markdown]
# ## What is trained, and for how long?
#
# The hierarchical tokenizer of chapter 05, with the autoencoder of VAR: a photo of 512 pixels becomes 32 × 32 vectors, and those become 2,130 tokens in ten maps. Built here without numbers in its weights, so that it costs nothing:

# %%
from vartutor.plan.steps import planned_tokenizer

gpu = get_profile("gpu")
tokenizer = planned_tokenizer(gpu)
parts = {"encoder": tokenizer.encoder, "decoder": tokenizer.decoder, "quantizer": tokenizer.quantizer}
for name, part in parts.items():
    print(f"{name:<10}{sum(p.numel() for p in part.parameters()) / 1e6:6.1f} million parameters")
print("groups of the ladder:", *gpu.groups, "=", tokenizer.quantizer.tokens, "tokens")
print(f"{gpu.tokenizer_steps:,} steps of {gpu.full_batch} images, learning rate {gpu.tokenizer_lr:g}")

# %% [markdown]
# Batch, steps and learning rate are the paper's, as third-party notes quote them (`book/paper-versus-course.md` marks such figures). The ladder is ours: the paper does not print its own.
#
# ## From which weights?
#
# The paper starts from the tokenizer of Switti †, and fine-tunes. We start from VAR's, which is of the same family and free to use: `vae_ch160v4096z32.pth` from [the authors](https://huggingface.co/FoundationVision/var), by `--set init=FILE`. There is a second reason. The transformer of chapter 12 starts from VAR's weights, and these know VAR's codes *by number*. To a transformer, a code is a name: number 17 means what it meant where it learnt. Over other codes, all it knows of numbers is wrong.
#
# What of such a file fits a tokenizer with three groups? Here is one of the official names and shapes, narrow, with numbers that are noise:

# %%
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.tokenizer import Losses, make_tokenizer
from vartutor.weights.official_tokenizer import init_from_vqvae

tiny = TokenizerConfig.of(toy(gpu))
theirs = build_tokenizer(replace(tiny, ladder="var", bridge=0)).state_dict()
BACK = {"quantizer.codes": "quantize.embedding.weight", "quantizer.hits": "quantize.ema_vocab_hit_SV"}
convs = "quantizer.phi.convs.", "quantize.quant_resi.qresi_ls."
official = {BACK.get(name, name.replace(*convs)): value for name, value in theirs.items()}
print(len(official), "tensors, such as", *list(official)[:2])
start = init_from_vqvae(make_tokenizer(tiny, Losses()), official)
print(start)
assert len(start.taken) == len(official) - 1

# %% [markdown]
# Encoder, decoder, codes and φ come over as they are. New is the bridge between the groups. Who uses which code must be counted anew, since the ladder is another one.
#
# How much may change? `--set train=all` fine-tunes everything. `train=codes+decoder` keeps the encoder, so that every photo keeps its features. `train=codes` moves codes, φ and bridge alone. The less moves, the better VAR's transformer still knows the names.
#
# ## What must the run be told?
#
# Little, since the profile knows the sizes. The rest is a file. Read it line by line: every line has its reason beside it. (`vartutor train tokenizer --help` lists all that can be set.)

# %%
config = assets() / "configs" / "tokenizer.yaml"
print(config.read_text())

# %% [markdown]
# Three lines deserve more words.
#
# **`batch: auto`**: a whole batch does not fit on eight GPUs at once. So each GPU takes a few images, computes gradients, takes a few more; after the last round gradients are exchanged, and the weights move *once*. So do the codebook's averages and the critic, on what all rounds have seen. The result is that of one large batch. How many rounds? The command asks the plan, and says what it took. Should memory end all the same, one process goes on with half as many images at once; several stop, and say what to set.
#
# **`strategy: ddp`**: every GPU holds the whole model. Chapter 10 shows who holds what, and when sharding (FSDP) pays. Here it would save little, and an adversarial loss could not be sharded.
#
# **`perceptual`**: the paper adds five times LPIPS. That network must be downloaded, and its licence is its own affair; our perceptual distance comes with the course. Its weight is our guess: search for it at small size before you pay for a large run.
#
# A wrong key stops the run before it starts:

# %%
from vartutor.errors import UserError
from vartutor.gpus import get_gpu
from vartutor.plan.estimate import Setup, make_plan
from vartutor.plan.rounds import in_rounds
from vartutor.train.options import read_settings
from vartutor.train.settings import TokenizerSettings

told = read_settings(TokenizerSettings.of(gpu, seed=SEED), config)
rounds = make_plan("tokenizer", gpu, Setup(get_gpu("h100"), gpus=8)).accumulate
run = in_rounds(replace(told, batch=gpu.full_batch), processes=8, least=rounds)
print(f"{run.batch} images = 8 GPUs × {run.accumulate} rounds × {run.batch // 8 // run.accumulate} images")
for wrong in ("loop.stps=10", "batch=380"):
    try:
        read_settings(run, None, [wrong]).check(processes=8)
    except UserError as error:
        print(error)

# %% [markdown]
# **★ Rounds · 10 min.** `batch` images per step go to `gpus` GPUs, each of which takes at most `largest` at once. Return the fewest rounds of accumulation so that every GPU gets the same number of images in every round.

# %% tags=["exercise"]
from vartutor.exercises import ch11


def my_rounds(batch, gpus, largest):
    return ...


ch11.check("rounds", my_rounds)

# %%
ch11.hint("rounds")
ch11.solution("rounds")

# %% [markdown]
# ## Where do the photos come from?
#
# The paper trains on DIV2K, DIV8K, Flickr2K, OST and 10,000 faces of FFHQ: some 25,000 photos. `vartutor data list` says what each is, and under which terms. Some cannot be fetched by a program, and most are for research only: the terms bind you, and what you do with the weights.
#
# `vartutor data prepare div2k flickr2k ost --yes --out data` downloads what may be downloaded, checks it, and cuts it into pieces, which lie byte for byte in one large file. Here, the same code on eight photos of the course:

# %%
from vartutor.data.tiles import load_set
from vartutor.workshop.prepare import write_set

photos = sorted((assets() / "photos").glob("*.jpg"))[:8]
eight = work / "data" / "eight"
skipped = write_set((photo.read_bytes() for photo in photos), eight, tile=256, least=64)
print(f"{len(photos)} photos, {skipped} skipped, {len(load_set(eight))} pieces")

# %% [markdown]
# ## What does it cost?
#
# Ask before you pay. `vartutor plan tokenizer --gpus 8 --gpu h100` prints each figure and how it is made; chapter 10 makes them by hand. Operations and memory are counted, in a dry run on tensors without numbers.

# %%
from vartutor.plan.report import report

plan = make_plan("tokenizer", gpu, Setup(get_gpu("h100"), gpus=8))
print(report(plan))

# %% [markdown]
# The weakest figure is not counted: the utilisation, the share of the GPU's peak that the step really reaches. Until somebody has measured it, the plan *assumes* a fifth, and says so. Norms, convolutions at 512 pixels, and a disk that cannot keep up may halve it; better kernels may double it. So read the price as a range.
#
# There is one public number to hold against it. The paper reports about a day on 24 A100 for its tokenizer. If its step costs what ours does, which share of the peak did it reach?

# %%
for share in (0.1, 0.2, 0.4):
    guess = make_plan("tokenizer", gpu, replace(plan.setup, utilisation=share))
    print(f"at {share:.0%} of the peak: {guess.hours:5.1f} hours, ${guess.cost:,.0f}")
day = 24 * 3600 * 24 * get_gpu("a100-80").flops  # what 24 A100 could do in a day at their peak
implied = plan.step_flops * plan.steps / day
print(f"the paper's day on 24 A100 would be {implied:.0%} of the peak")
assert 0.05 < implied < 0.4

# %% [markdown]
# **★★ The price · 15 min.** A step of all images takes `flops`; each GPU can do `peak` per second, of which it reaches the share `utilisation`. Return hours and dollars of the run, at `price` per GPU and hour.


# %% tags=["exercise"]
def my_price(flops, steps, gpus, peak, utilisation, price):
    return ...


ch11.check("price", my_price)

# %%
ch11.hint("price")
ch11.solution("price")

# %% [markdown]
# **What you should see.** A share somewhat below the one that we assume. Their loss contains LPIPS, which ours does not count, and their photos came from somewhere; we do not know what else. Twice the planned price is the honest upper end.
#
# So measure first: `vartutor measure` takes nine minutes on one rented GPU, for less than a dollar. It prints *your* utilisation. Say it with `--utilisation`, and the plan stops assuming.

# %%
from vartutor.plan.measured import AS_PLANNED, read_measured

found = [r for r in read_measured() if (r.run, r.variant, r.measure) == ("tokenizer", AS_PLANNED, "utilisation")]
share = found[0].value if found else plan.utilisation
real = make_plan("tokenizer", gpu, replace(plan.setup, utilisation=share))
print(f"{share:.0%} {'measured on ' + found[0].card if found else 'assumed: an estimate'}, {real.hours:.3g} hours")
one = make_plan("tokenizer", get_profile("gpu1"), Setup(get_gpu("h100"), gpus=1, utilisation=share))
seen = one.steps * one.setup.batch / (plan.steps * plan.setup.batch)
print(f"profile gpu1, on one card: {one.hours:.3g} hours, ${one.cost:,.0f}, {seen:.0%} of the images")

# %% [markdown]
# **And with one GPU?** Profile `gpu1` has the same tokenizer and the same ladder. Batch, rate and steps are smaller, by our choice. It can reach what fine-tuning brings early: a decoder for the new ladder, and a bridge. It cannot reach what the paper's many images bring. How large that difference is, we do not know.
#
# ## How is it launched?
#
# `torchrun` starts one process per GPU and tells each who it is. Each runs the same command. This is the whole of it:

# %%
module = [sys.executable, "-m", "torch.distributed.run", "--standalone"]  # what `torchrun` is short for


def command(processes, *words):
    train = ["-m", "vartutor", "train", "tokenizer", "--profile", "gpu", "--config", str(config)]
    train += map(str, words)
    shown = shlex.join(train).replace(str(config), config.name).replace(str(work), "runs")
    print(f"torchrun --nproc-per-node {processes} {shown}")
    return [*module, "--nproc-per-node", str(processes), *train]


_ = command(8, "--set", "init=vae_ch160v4096z32.pth", "--out", work / "tokenizer")

# %% [markdown]
# And this is **the same command, with `--dry-run`**. It keeps every part: two processes, DDP, bfloat16, rounds of accumulation, photos read from their file, validation, states, sample images. It shrinks the sizes: 64 pixels, 32 channels, a batch of 8. And it leaves out official weights, which do not fit it, and `torch.compile`, which would take longer than all the rest. (`--device cpu`, so that it runs anywhere, whatever `DEVICE` says. Left alone, a run takes the GPUs that are there; its first line says on what it runs.)
#
# We ask for many steps, since we do not mean to let it finish.

# %%
out = work / "tokenizer"
environment = {**os.environ, "OMP_NUM_THREADS": "1"}
dry = ["--dry-run", "--device", "cpu", "--out", out, "--set", f"data={work / 'data'}"]
with open(work / "log.txt", "w") as log:
    job = subprocess.Popen(command(2, *dry, "--set", "loop.steps=500"), env=environment, stdout=log, stderr=log)
while job.poll() is None and not (out / "state.pt").is_file():
    time.sleep(0.2)  # until the first state is there

# %% [markdown]
# ## What if a machine dies?
#
# On a long run, one will. The honest test is to kill a process without warning, in the middle of a step, and see what is left. `kill -9` cannot be caught, so nothing can be tidied up.

# %%
from vartutor.weights.files import load_state

victim = psutil.Process(job.pid).children()[0]
victim.kill()  # kill -9 of one of the two
code = job.wait()
saved = load_state(out / "state.pt")
print("torchrun failed, as it should:", code != 0, " a complete state is left:", saved["step"] > 0)
assert code != 0 and saved["step"] > 0

# %% [markdown]
# `torchrun` saw one process die, and stopped the other: a run with a missing process would wait for ever. On disk lies one complete state, `state.pt`. A new one is written beside it, and takes its name only when it is complete.
#
# (When this chapter was written, the run would *not* go on: weights that no scale takes never get a gradient, so the optimizer's state lacked them. The full ladder has no such weights; the toy one has. It is mended, and tested. That is what dry runs are for.)
#
# What is in it? Weights, averages, and what the optimizer remembers, whole, whatever the number of processes that wrote it and however they shared them. So the run goes on with **one** process, if that is all you have got left:

# %% tags=["nbval-ignore-output"]
more = ["--resume", "--set", f"loop.steps={saved['step'] + 3}"]
done = subprocess.run(command(1, *dry, *more), env=environment, capture_output=True, text=True)
rows = np.genfromtxt(out / "log.csv", delimiter=",", names=True, deletechars="")
print("went on to the end:", done.returncode == 0, " steps without a gap:", bool((np.diff(rows["step"]) == 1).all()))
assert done.returncode == 0, done.stderr[-500:]

# %% [markdown]
# A batch is a function of the step alone, not of what was drawn before, nor of the number of processes or rounds. So the resumed run sees the photos that the unbroken one would have seen. The tests go further (`tests/test_distributed.py`): after such a death, the steps give the losses of an unbroken run, but for rounding, with DDP and with FSDP.
#
# For deaths that announce themselves there is `--max-hours`: a step is finished, the state saved, and the command that goes on is printed. A queue that sends SIGTERM, and a hand on Ctrl-C, get the same.
#
# ## What should you watch?
#
# Of the full run there is no curve, for nobody has made it. These are from **the course's own tokenizer**, 64 pixels, 20,000 steps on two CPU cores, the run whose weights the course ships: `vartutor train tokenizer --set bf16=true`. Look at their shapes, not at their heights.

# %%
log = np.genfromtxt(assets() / "studies" / "hit_log.csv", delimiter=",", names=True, deletechars="")
coarse = np.mean([log[f"used/{k}"] for k in range(1, 5)], 0)  # codes in a batch, maps 2 to 5
fine = np.mean([log[f"used/{k}"] for k in range(5, 8)], 0)
print(len(log), "rows:", *log.dtype.names[:6], "…")

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5))
axes[0].plot(log["step"], smooth(log["loss"], 10), color=COLORS["model"])
axes[0].set(title="loss", ylim=(0.3, 1.1))
for s, color in zip((1, 2, 4), (COLORS["rest"], COLORS["token"], COLORS["model"]), strict=True):
    axes[1].plot(log["step"], smooth(log[f"psnr{s}"], 10), color=color, label=f"×{s}")
axes[1].set(title="PSNR of the batch (dB)", ylim=(22, 34))
axes[1].legend()
axes[2].plot(log["step"], smooth(coarse, 10), color=COLORS["token"], label="maps 2 to 5")
axes[2].plot(log["step"], smooth(fine, 10), color=COLORS["other"], label="maps 6 to 8")
axes[2].set(title="codes in a batch", ylim=(0, 720))
axes[2].legend()
for ax in axes:
    ax.set_xlabel("step")
    ax.set_xticks([0, 10_000, 20_000], ["0", "10k", "20k"])
show(
    figure,
    "The CPU-size run: what log.csv of a full run holds too. Means of ten rows.",
    "Three panels over 20,000 steps: the loss falls steeply, then hovers; PSNR at three scales rises by several "
    "decibels and flattens; the codes in a batch fall ever more slowly for the coarse maps and stay high for the fine ones.",
)

# %% [markdown]
# **What you should see.** Four signs of health. (This log is of an earlier version of the trainer. Today's has more columns: the same numbers on validation photos, `held-out/…`, every `loop.validate_every` steps, and `photos/s`, `mfu` and `memory`.)
#
# 1. The *loss* falls steeply in the first steps, then hovers. It holds the quantizer's term beside the pixels', and says little from then on, unless it jumps to another level.
# 2. *All three* PSNR curves go on rising, together, long after the loss has stopped falling. One that lags shows a group that is starved.
# 3. The *coarse maps keep their codes*. Here their line falls by two fifths, most of it early, and ever more slowly. A line that falls to a handful is collapse. It begins in these maps, and the loss hides it, since they have few tokens (chapters 02 and 04).
# 4. The *sample images* in `samples/` look right. A bug in colours or borders has no curve.
#
# ## When should you stop?
#
# The learning rate ends near zero, so the end of the schedule is the end; stopping halfway wastes the most useful part. Should the held-out loss turn upwards before that, the averaged weights where it was lowest lie in `best.pt`. But stop *at once* when a sign is bad. And to decide whether a longer schedule would pay, look at what the last quarter of the steps still brought:

# %%
quarter = len(log) // 4
for s in (1, 2, 4):
    halves = [log[f"psnr{s}"][-quarter:][half].mean() for half in (slice(quarter // 2), slice(quarter // 2, None))]
    print(f"×{s}: the last eighth is {halves[1] - halves[0]:+.2f} dB above the one before")

# %% [markdown]
# Still a few tenths of a decibel. So this run had not learnt all it could. But the learning rate falls in that stretch, and a falling rate always brings something: it is a hint that more steps would pay, not a proof. Do the same with your own log before you pay for a second run.
#
# ## What goes wrong, and what helps?
#
# | symptom | cause | cure |
# |---|---|---|
# | out of memory, and the command stops | more at once than fits | `--set accumulate=N`, as the command says: the same result, in more rounds |
# | the loss is not a number; the run stops with the step's number | learning rate too high, or a broken image | `--resume --set loop.lr=1e-4`; the last state is intact |
# | coarse maps use ever fewer codes | collapse | `losses.revive_every` smaller, `votes: scale`; start again |
# | PSNR good, pictures dull | squared error alone | more `perceptual`; last of all `adversarial` |
# | GPUs idle every few seconds | the disk | the set on a local disk |
# | all waits, nothing is printed | one process is gone, or its network | `NCCL_DEBUG=INFO`; kill all, `--resume` |
# | each resumed run is slower | another machine with fewer cores | compare `photos/s` in `log.csv` |
# | `mfu` far below the plan's utilisation | small rounds, the disk, or nothing is compiled | larger rounds, a faster disk, `compile` |
#
# That a loss which is no number stops the run is tested; collapse was provoked in chapters 02 and 04. The other lines come from how these tools work in general, not from this run.
#
# ## What breaks if every process draws the same photos?
#
# The classic among silent failures. Each process shuffles the photos with the same seed, and forgets to take only its own share. Below, what two processes draw for one step: as it should be, and as if both thought they were number 0.

# %%
from vartutor.train.processes import Process
from vartutor.train.source import make_source, share

small = replace(run.dry(processes=2), accumulate=1)  # the course's photos, 8 per step
source = make_source(small, Process())


def drawn(ranks):  # in step 100, by processes that think they have these numbers
    return torch.cat([source.batch(share(100, 0, small, Process(rank, 2))).x for rank in ranks])  # (8, 3, 64, 64)


right, wrong = drawn((0, 1)), drawn((0, 0))
print("different photos of 8:", len(right.flatten(1).unique(dim=0)), "and", len(wrong.flatten(1).unique(dim=0)))
assert torch.equal(wrong[:4], wrong[4:])

# %% tags=["hide-input"]
figure = image_grid([list(right), list(wrong)], [f"process {i // 4}" for i in range(8)], labels=["right", "wrong"])
show(
    figure,
    "A batch of eight on two processes: eight photos, or four photos twice.",
    "Two rows of eight small crops of photographs. In the upper row all eight differ; in the lower row the last four "
    "repeat the first four.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The lower row repeats itself. The gradients of both processes are equal, so their mean is what *one* process would have computed: half the money is lost.
# And no curve shows it. The loss falls, nothing crashes. Only a comparison with one process does, which is why the tests have one: with the same batch, one process and two must give the *same losses*.
#
# **★★★ Shares · 30 min.** Photos of an endless stream are numbered 0, 1, 2 … A step takes `batch` of them in `rounds` rounds, shared evenly by `size` processes. Return the numbers that process `rank` reads in `step`, one list per round. Whatever the number of processes and rounds, a step must read the same photos.


# %% tags=["exercise"]
def my_shares(step, batch, rounds, size, rank):
    return ...


ch11.check("shares", my_shares)

# %%
ch11.hint("shares")
ch11.solution("shares")

# %% [markdown]
# ## How good is it?
#
# At the end the command prints PSNR and perceptual distance on validation photos at ×1, ×2 and ×4, measured on the run's device (`--no-report` leaves that out). The test photos come once, when you publish. Beside it goes what others have:

# %%
from vartutor.weights.files import manifest

ours = manifest()["tokenizer_hit.safetensors"]["metrics"]["psnr_rgb"]
table = {
    "course, 16, 32, 64 px": [f"{ours[s]:.1f}" for s in "124"],
    "this run, 128, 256, 512 px": ["not run"] * 3,
    "the paper, 128, 256, 512 px": ["not given"] * 3,
}
print(f"{'RGB-PSNR of the reconstruction, dB':<36}{'×1':>10}{'×2':>10}{'×4':>10}")
for name, values in table.items():
    print(f"{name:<36}" + "".join(f"{value:>10}" for value in values))

# %% [markdown]
# The rows are not comparable: other photos, other sizes. The table shows where your number belongs.
#
# ## How are weights published?
#
# As *safetensors*: numbers, and nothing that runs when it is opened; a `.pth` file can execute code. Rounded to float16, with a checksum, and with a **model card**: what it is, what it was trained on, under which licence, how good, and what it cannot do. The command refuses weights that float16 cannot hold.
#
# `vartutor publish runs/tokenizer --profile gpu --out published --licence LICENCE` writes all of it. The same, for the dry run:

# %%
from vartutor.workshop.publish import publish

entry = publish(out, toy(gpu), work / "published", licence="CC-BY-NC-4.0")
card = (work / "published" / "tokenizer_hit.md").read_text()
print("files:", *sorted(path.name for path in (work / "published").iterdir()))
print(*[line for line in card.splitlines() if line.startswith(("#", "license", "- ", "The terms"))], sep="\n")

# %% [markdown]
# The card lists the set by the name of its folder, and repeats the terms of sets that the course knows. It carries command, commit and seed, so that anybody can do it again.
#
# Does the file hold what was trained? Read it back, as a stranger would:

# %%
from safetensors.torch import load_file

from vartutor.paths import sha256_of
from vartutor.weights import load_tokenizer

path = work / "published" / "tokenizer_hit.safetensors"
published, trained = load_file(path), load_tokenizer(str(out)).state_dict()
assert sha256_of(path) == entry["sha256"] and entry["sha256"] in card
assert all(torch.equal(published[name].float(), value) for name, value in trained.items())
print(f"{len(published)} tensors, {path.stat().st_size / 1e6:.1f} MB, equal to the run's averages")

# %% [markdown]
# ## Questions
#
# 1. Two of the eight GPUs are gone. Can the run go on with the same batch of 384?
#
# <details><summary>Answer</summary>
#
# Yes. Each of six GPUs gets 64 images per step. At most seven fit at once, and 64 must be cut evenly, so it takes 16 rounds of 4. The steps give the same losses, but for rounding.
#
# </details>
#
# 2. You measure half of the utilisation that the plan assumed. What changes: the hours, the price or the result?
#
# <details><summary>Answer</summary>
#
# Hours and price double. The result does not change, for the photos and steps are the same.
#
# </details>
#
# 3. Why is a state written beside the old one and then renamed?
#
# <details><summary>Answer</summary>
#
# A machine may die while it writes. Then the new file is incomplete, but the old one still has its name. Renaming happens at once or not at all.
#
# </details>
#
# 4. The loss has hovered for thousands of steps. Is the run at its end?
#
# <details><summary>Answer</summary>
#
# Not by that sign. In the log above the loss hovers early, and PSNR goes on rising at all three sizes for most of the run. Look at those, and at the held-out photos.
#
# </details>
#
# 5. Both processes log the same smooth loss. Why does that not show that they read different photos?
#
# <details><summary>Answer</summary>
#
# What is logged is the mean over both, so it is always the same. And four photos twice are a batch, too: its loss falls as well. Only a comparison with one process, or the list of the photos read, can tell.
#
# </details>
#
# ## An open experiment
#
# How early can you tell? Take the first quarter of the course's log (`assets/studies/hit_log.csv`), and predict from it alone what PSNR the run has at the end, at all three sizes.
#
# A good answer
#
# - fixes the rule and an interval before it looks beyond the first quarter;
# - says what the learning rate does in the part that is predicted;
# - tries the rule on a second log without changing it, such as `var_votes_scale.csv` in the same folder;
# - reports misses as well as hits, in decibels;
# - says which decision the prediction would serve: to stop, to go on, or to pay for more steps.
#
# ## In five lines
#
# 1. A full run is the small one with other settings: a profile, a file, and `torchrun`.
# 2. Price it first, and doubt the utilisation; an hour on one GPU tells the truth.
# 3. `--dry-run` passes through every part of the real path before you pay.
# 4. A run that is killed goes on, on any number of processes, because batches depend on the step alone.
# 5. Publish safetensors with a card: data, licence, numbers, limits, checksum.
#
# ## The course and the paper
#
# | | this run (a plan) | H-VAR (the paper, by third-party notes) |
# |---|---|---|
# | start | VAR's official tokenizer, fine-tuned as a whole or in part | Switti's tokenizer †, fine-tuned |
# | loss | squared error, our perceptual distance, and the quantizer's | squared error between features and codes, and five times LPIPS |
# | codebook | moving averages, votes by scale | learned by the loss |
# | not quantized | half of the images | with probability one half, as in HART |
# | batch, steps, rate | those of the paper †; smaller for one GPU | printed at the top of this chapter † |
# | hardware | 8 H100, or what you have | 24 A100, about a day |
#
# ## References
#
# - A. Sánchez et al., [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990), 2025, and its second version, [H-VAR](https://arxiv.org/abs/2605.14891).
# - K. Tian et al., [Visual Autoregressive Modeling](https://arxiv.org/abs/2404.02905), 2024: the autoencoder.
# - H. Tang et al., [HART](https://arxiv.org/abs/2410.10812), 2024: images that skip the quantizer.
# - A. Voronov et al., [Switti](https://arxiv.org/abs/2412.01819), 2024: the tokenizer that the paper starts from.
# - M. Mitchell et al., [Model Cards for Model Reporting](https://arxiv.org/abs/1810.03993), 2019.
#
# **Next:** chapter 12 trains the transformer over this tokenizer.
