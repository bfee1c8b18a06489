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
# # 09 · Evaluation and ablations
#
# **A paper makes claims; which of them did we see with our own eyes?**
# The chapter explains the interval that all tables of this course carry, then holds every claim of the paper's abstract against what the chapters before it measured. It trains nothing.
#
# After this chapter you will be able to
#
# - **resample** photos, and say what an interval covers and what not;
# - **pair** two methods by photo, and see differences that no unpaired test can see;
# - **separate** a claim that failed from one that nobody tested;
# - **break** a model with damage that it never saw in training;
# - **evaluate** your own model, on your own photos, in one command.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | under a minute and 1.1 GB to run, an hour to read | chapters 05, 07 and 08 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → **09 verdict** → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): codebook, degradation, fidelity module, HIT, LPIPS, mean codes, perceptual distance, prior, PSNR, slip, temperature, token, tokenizer.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from vartutor.chapter import setup
from vartutor.show import COLORS
from vartutor.show.figures import image_grid, show

session = setup(PROFILE, SEED, DEVICE)
print(session)

# %% [markdown]
# ## What would convince you?
#
# "Our model is better by half a decibel." Better than what? In which measure? On which photos, how many, chosen by whom? Would it hold on other photos, or with another seed?
#
# Four things make a number a result: an **opponent** that somebody would really use, a **measure** that was not trained on, **photos** that nobody looked at while choosing, and an **interval**. Let us begin with the last.
#
# Chapter 07 left a table: for each method, seed, test photo and size all measures. Take the PSNR of two methods at ×4: bicubic, and what `upscale` does by default. PSNR in this chapter is that of *luma*, without a border left out, unless a line says RGB.

# %%
from vartutor.evaluate.table import compare, read_rows
from vartutor.metrics import bootstrap
from vartutor.paths import assets

rows = read_rows(assets() / "studies" / "superres.csv")
default = "model, fidelity 0.6, expected, temperature 0.5"


def by_photo(name, scale="4", measure="psnr_y"):
    found = [r for r in rows if (r.restorer, r.scale, r.measure) == (name, scale, measure)]
    return {photo: np.mean([r.value for r in found if r.photo == photo]) for photo in sorted({r.photo for r in found})}


ours, theirs = (np.array(list(by_photo(name).values())) for name in (default, "bicubic"))
print(f"{len(ours)} photos: ours {ours.mean():.2f} dB, bicubic {theirs.mean():.2f} dB")
print(f"photos differ by {theirs.std(ddof=1):.1f} dB among themselves (standard deviation)")

# %% [markdown]
# ## How sure is a mean of twenty photos?
#
# We would like to draw twenty *other* photos, again and again, and see how the mean moves. We have no others. So draw from the twenty that we have, with replacement: some come twice, some not at all. That is the **bootstrap**.
#
# $$ \bar x^{(r)} = \frac1N \sum_{n=1}^{N} x_{i_{rn}}, \qquad i_{rn} \sim \text{uniform}\{1 \dots N\}. $$
#
# The middle 95 % of these means is the interval.


# %%
def resampled_means(values, resamples=2000):
    chosen = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))  # i
    return values[chosen].mean(axis=1)


for name, values in (("ours", ours), ("bicubic", theirs)):
    low, high = np.quantile(resampled_means(values), [0.025, 0.975])
    assert np.allclose((low, high), bootstrap(values)[1:])  # the package's is the same
    print(f"{name:>8}: {values.mean():.2f} [{low:.2f}, {high:.2f}] dB")

# %% [markdown]
# **★★ An interval · 20 min.** `values` is (N,), `chosen` (R, N) holds indices. Return the pair (low, high) between which lie the middle `level` of the resampled means.

# %% tags=["exercise"]
from vartutor.exercises import ch09


def my_interval(values, chosen, level):
    return ...


ch09.check("interval", my_interval)

# %%
ch09.hint("interval")
ch09.solution("interval")

# %% [markdown]
# The two intervals overlap almost entirely. So is the difference nothing? No: *photos* differ by many decibels, and both methods got the same ones. A calm sky is easy for both, a lawn hard for both.
# So subtract first, on each photo, and resample the **differences**. That is a paired comparison.

# %%
gain = ours - theirs
paired, shuffled = resampled_means(gain), np.random.default_rng(1).permutation(resampled_means(theirs))
unpaired = resampled_means(ours) - shuffled  # each side resampled by itself
for name, means in (("unpaired", unpaired), ("paired", paired)):
    low, high = np.quantile(means, [0.025, 0.975])
    print(f"{name:>8}: {gain.mean():+.2f} [{low:+.2f}, {high:+.2f}] dB, {high - low:.2f} dB wide")
print(f"ours is ahead on {(gain > 0).sum()} of {len(gain)} photos")

# %% [markdown]
# **★ Differences · 10 min.** `ours` and `theirs` map a photo's name to its values, one per seed, perhaps not the same number of them. Return the list of differences of means, for the photos that both have, in the order of `ours`.


# %% tags=["exercise"]
def my_differences(ours, theirs):
    return ...


ch09.check("differences", my_differences)

# %%
ch09.hint("differences")
ch09.solution("differences")

# %% tags=["hide-input"]
figure, (ax, other) = plt.subplots(1, 2, figsize=(7.2, 2.7))
for a, b in zip(theirs, ours, strict=True):
    ax.plot([0, 1], [a, b], "o-", color=COLORS["model"] if b > a else COLORS["lr"], markersize=3, linewidth=0.9)
ax.set(xticks=[0, 1], xticklabels=["bicubic", "ours"], ylabel="PSNR at ×4, dB", xlim=(-0.3, 1.3))
other.hist(unpaired, 40, color=COLORS["bicubic"], alpha=0.7, label="unpaired")
other.hist(paired, 40, color=COLORS["model"], alpha=0.8, label="paired")
other.axvline(0, color="black", linewidth=0.8)
other.set(xlabel="difference of the means, dB", yticks=[])
other.legend(fontsize=8)
show(
    figure,
    "Left, every test photo under both methods; right, 2000 resampled differences.",
    "Left, twenty lines from bicubic to ours that start at very different heights; most rise a little. Right, a "
    "broad grey histogram around the same mean as a narrow one; only the narrow one stays off zero.",
)

# %% [markdown]
# **What you should see.** The same mean, twice. The unpaired interval reaches far below zero, the paired one does not touch it. All that changed is the order of subtracting and resampling.
#
# And seeds? A model that draws gives other numbers next time. `summarise` prints that spread as ±. Over twenty photos it averages out, so it is far smaller than what other photos would change:

# %%
from vartutor.evaluate.table import summarise

for s in summarise(rows):
    if (s.scale, s.measure) == ("4", "psnr_y") and s.restorer.startswith("model, temperature"):
        spread = f"± {s.spread:.3f} over seeds" if s.spread is not None else "one decode, no seeds"
        print(f"{s.restorer}: {s.interval} over photos, {spread}")

# %% [markdown]
# What does the interval *not* cover? Another training seed. Another degradation. Photos unlike these twenty: night, text, faces. And the choice of the measure.
#
# ## Every claim, one by one
#
# The abstract says, in our words:
#
# - the model decodes *intermediate sizes* too, and gives all of them in *one pass*;
# - it is *small*: 300 million weights where VARSR has a billion;
# - it needs *no external data*;
# - a *DPO regulariser* helps.
#
# What have we that speaks to each? First the tokenizer: the hierarchical one (HIT) against a plain one with the same token maps, both decoded at all sizes, same budget (chapter 05).

# %%
from vartutor.evaluate.table import study_rows
from vartutor.tables import load_study


def verdict(interval, words=("reproduced", "not at this size", "the opposite")):
    return words[0] if interval.low > 0 else words[2] if interval.high < 0 else words[1]


tokenizers = load_study("tokenizers")


def photo_means(run, measure):
    seeds = list(tokenizers[run, measure].values())
    return np.array([np.mean([seed[photo] for seed in seeds]) for photo in sorted(seeds[0])])


claims = []
for s, ways in (("1", [" decoded first", " shrunk first"]), ("2", [" decoded first", " shrunk first"])):
    plain = np.max([photo_means("var", f"psnr {s}{way}") for way in ways], axis=0)  # the better way, photo by photo
    gap = bootstrap(photo_means("hit", f"psnr {s}") - plain)
    claims.append((f"×{s} decodes: HIT − plain tokenizer, dB (RGB)", gap, verdict(gap)))
full = bootstrap(photo_means("var", "psnr 4") - photo_means("hit", "psnr 4"))
claims.append(("a cost at ×4 †: plain tokenizer − HIT, dB (RGB)", full, verdict(full)))

# %% [markdown]
# The last row is a cost, which the paper is said to admit: HIT is *slightly worse* at full size †. († marks what we know of the paper at second hand, not from its abstract. It may be wrong.)
#
# Next, one pass against one model for each size, same size and steps (chapter 07). The claim is that sharing costs nothing. A difference of nothing cannot be proved, so name a margin first: no more than two tenths of a decibel lost.

# %%
margin = 0.2
single = {
    (d.restorer, d.scale): d.interval
    for d in compare(study_rows(load_study("transformers"), "expected"), "course")
    if d.measure == "psnr_y"
}
for s in "124":
    apart = single[f"only {s}", s]  # the single model minus the shared one
    word = "reproduced" if apart.high < margin else "not shown"
    claims.append((f"one pass: model for ×{s} alone − shared, dB", apart, word))

# %% [markdown]
# And the preference of chapter 08, run *mean*, against the control with the same steps, in drawn codes. (How the paper decodes we do not know.) It is said to lower LPIPS at full size and to raise PSNR at the small sizes †. Our ruler in the place of LPIPS is the course's perceptual distance, where less is better.

# %%
preference = {
    (d.scale, d.measure): d.interval
    for d in compare(study_rows(load_study("preference"), "sampled"), "ce")
    if d.restorer == "mean"
}
for s in "12":
    claims.append((f"DPO raises PSNR at ×{s}, dB †", preference[s, "psnr_y"], verdict(preference[s, "psnr_y"])))
gap = preference["4", "perceptual"]
less = gap._replace(mean=-gap.mean, low=-gap.high, high=-gap.low)
claims.append(("DPO lowers the perceptual distance at ×4 †", less, verdict(less)))

# %%
for claim, interval, word in claims:
    print(f"{claim:<52} {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]  {word}")

# %% [markdown]
# Is the result any good? That is no claim of the paper about our model, so here nothing can be "reproduced". We ask whether the default is ahead. Opponents: the degraded photo enlarged (the least that a restorer must beat), and a CNN of the same size, data and training time (the line that a new idea should beat). Our training had the ruler of the eye in its loss, so the same CNN trained with it stands beside.

# %%
lead, ranks = [], ("ahead", "level", "behind")
better = {
    reference: {(d.restorer, d.scale, d.measure): d.interval for d in compare(rows, reference)}
    for reference in ("bicubic", "cnn", "cnn:perceptual")
}
for s in "124":
    gap = better["bicubic"][default, s, "psnr_y"]
    lead.append((f"PSNR above bicubic at ×{s}, dB", gap, verdict(gap, ranks)))
for name, words in (("cnn", "the CNN's"), ("cnn:perceptual", "that of cnn:perceptual")):
    for s in "24":
        gap = better[name][default, s, "perceptual"]
        less = gap._replace(mean=-gap.mean, low=-gap.high, high=-gap.low)
        lead.append((f"perceptual distance below {words} at ×{s}", less, verdict(less, ranks)))

# %%
for what, interval, word in lead:
    print(f"{what:<56} {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]  {word}")

# %% [markdown]
# **What you should see.** The two ideas that gave the paper its title hold up. Sizes in between decode better with the hierarchical tokenizer than with the plain one (which, to be fair, was never trained for them; see chapter 05). And sharing one model among three sizes costs nothing that we can see in mean codes; at ×4 the interval is too wide to promise it. (In drawn codes it is less clear, see chapter 07.)
# The preference does not help at our size; chapter 08 shows what it does instead.
# Our default beats bicubic. Against the CNN it does not win, and it loses where the CNN was trained with the same ruler.
#
# And the rest of the abstract?
#
# | claim | verdict | why |
# |---|---|---|
# | 300 million weights do what a billion did | not tested | ours has four million, and no larger rival was trained; chapter 12 is the run that could tell |
# | no external data | not tested as such | all that restores was trained on the photos of this course; but the perceptual ruler, which the fidelity module and the decoder were trained with, has seen ImageNet |
# | better than diffusion models on RealSR and DRealSR | not tested | they need weights and photo sets that are not here; chapter 12 has the protocol |
#
# "Not tested" is not "false". Nor does "not at this size" say anything about 310 million weights and a thousand times the training.
#
# ## Close to the truth, or to the eye?
#
# No method wins both rulers (Blau and Michaeli). So a method is a *point*, and a knob draws a *line*. Chapter 07 drew the plane around bicubic; put the CNN into the middle instead, for it is the opponent that counts. Our knobs: temperature, mean or draw, and fidelity $w$.

# %% tags=["hide-input"]
from vartutor.show.tradeoff import draw_tradeoff

left_out = ("denoise", "model, fidelity 1")  # a weak opponent, and what is much like the same at 0.6
left_out += ("model, temperature 0", "model, fidelity 0.6, temperature 1")  # few marks can be told apart
drawn = [d for d in compare(rows, "cnn") if not d.restorer.startswith(left_out)]
figure = draw_tradeoff([d for d in drawn if "expected, temperature 1" not in d.restorer], "cnn")
show(
    figure,
    "Test photos against the CNN, which is the origin: right is closer in pixels, down is closer to the eye.",
    "Three planes, for times one, two and four, with a mark with error bars for five settings of the model, for bicubic "
    "and for the CNN trained with the ruler. All lie left of the origin. At times two and four that CNN lies a little below "
    "it, and the model's best settings lie left of it at about the same height.",
)

# %%
for s in "124":
    mine = [n for n in {r.restorer for r in rows} if n.startswith("model")]
    for measure, best in (("psnr_y", max), ("perceptual", min)):
        name = best(mine, key=lambda n, s=s, m=measure: better["cnn"][n, s, m].mean)
        print(f"×{s}, best in {measure:<10}: {name}, {better['cnn'][name, s, measure]} against the CNN")

# %% [markdown]
# **★★★ Nobody is better in both · 30 min.** `points` maps a name to (PSNR, perceptual distance). Return the set of names that no other point beats. One point beats another if it is at least as good in both and better in one.


# %% tags=["exercise"]
def my_front(points):
    return ...


ch09.check("front", my_front)

# %%
ch09.hint("front")
ch09.solution("front")

# %% [markdown]
# **What you should see.** In pixels nothing of ours reaches the CNN. At the larger sizes the default is our best by both rulers, and by the perceptual one level with the CNN. At ×1 the full second look ($w = 1$) is better: there the degraded photo is close to the truth already. Drawing costs by both rulers: see chapter 07 for why.
#
# A warning about the vertical axis. The fidelity module was trained *with* this ruler as part of its loss, the CNN was not. A ruler that one side trained on flatters that side. So look at *cnn:perceptual*, the CNN that had the same chance. At the larger sizes it pays a quarter to a third of a decibel and gains a little by the ruler, more than ours does.
#
# Why so little? Measure on the photos that it was trained on, with `--split train`: there, at ×4, its gain over the plain CNN is more than twice as large. So it learned the ruler, but most of it by heart, although all crops were turned and recoloured at random (`--set augment=true`). Fifty photos limit this course more than the loss does; ours, too, gains on them what it cannot keep. `--extra lpips dists` would bring rulers that nobody here trained on; they need a network.
#
# ## Best, middle, worst
#
# A gallery without a rule is an advertisement. Ours: rank the twenty test photos by the perceptual distance at ×4, the default's minus the CNN's. Show every second one, from the best to the worst: a piece of 176 × 176 pixels from a place that the file's name decides, one pixel for each of its own.

# %%
mine, net = by_photo(default, "4", "perceptual"), by_photo("cnn", "4", "perceptual")
ranked = sorted(mine, key=lambda photo: mine[photo] - net[photo])
chosen = [*ranked[:-1:2][:-1], ranked[-1]]  # ten: every second, and the worst as the last
for rank, photo in enumerate(chosen):
    print(f"{2 * rank + 1 if photo != ranked[-1] else len(ranked):>2}: {photo}, {mine[photo] - net[photo]:+.3f}")

# %%
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.superres import SuperResolver
from vartutor.weights import load_cnn

resolver, cnn = SuperResolver.from_pretrained("course", device=session.device), load_cnn()
test = eval_pairs(COURSE, "test", 176, 1)


def restored(i, scale=4):  # the crop as the four see it
    x = test.lr[i : i + 1]
    with torch.no_grad():
        net = cnn.restore(x)[scale][0]
    ours = resolver.upscale(x[0], (scale,), seed=SEED)[scale]
    return {"bicubic": upscale_bicubic(x)[scale][0], "CNN": net, "ours": ours, "clean": test.hr[scale][i]}


strips = [restored(test.files.index(photo)) for photo in chosen]

# %% tags=["hide-input"]
colors = [COLORS["bicubic"], COLORS["rest"], COLORS["model"], COLORS["hr"]]
figure = image_grid([list(strip.values()) for strip in strips], list(strips[0]), colors=colors)
show(
    figure,
    "Ten test photos at ×4, from the one where we gain most on the CNN by the perceptual ruler to the one where we lose most.",
    "Ten rows of four pieces of photos: bicubic, blurred and grainy; the CNN, clean, with firm edges; ours, clean and a "
    "little softer, with a trace of grain in the last row; and the clean photo with its texture.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The CNN and ours are close. Where they differ, the CNN's edges are firmer (the parrot's beak, the hen's head), and in the last row ours keeps a trace of the grain. By the perceptual distance the two are level all the same. The clean photo has what both lack: texture. Keep that in mind when a table reports the third digit.
#
# Look yourself, at any crop: two restorers side by side, and the clean photo.

# %% tags=["widget", "nbval-ignore-output"]
import ipywidgets

from vartutor.show.widgets import explorer, slider


def versus(crop, a, b, scale):
    seen = restored(crop, int(scale))
    return image_grid(
        [[seen[a], seen[b], seen["clean"]]], [f"A: {a}", f"B: {b}", "clean"]
    )  # at one pixel each, or more


names = ["bicubic", "CNN", "ours"]
explorer(
    versus,
    crop=slider("crop", 9, 0, len(test.lr) - 1, 1),
    a=ipywidgets.Dropdown(options=names, value="CNN", description="A"),
    b=ipywidgets.Dropdown(options=names, value="ours", description="B"),
    scale=ipywidgets.Dropdown(options=["1", "2", "4"], value="4", description="scale"),
)

# %% [markdown]
# ## Does it survive other damage?
#
# All of ours learned from one kind of damage: blur, noise of a camera, JPEG, as chapter 01 made it. Real photos do not read our presets. Four others were never seen in training: **impulse** noise (single wild pixels), **speckle** (noise that grows with brightness), **motion** blur, and **jpeg**, much harder than in training.
#
# Same photos, same crops, same methods: `vartutor evaluate --restorers bicubic denoise cnn model --temperatures .5 --expected --fidelity 0 .6 1 --seeds 0 --degradation impulse`, and so on.

# %%
damages = ["impulse", "speckle", "motion", "jpeg"]
tables = {damage: read_rows(assets() / "studies" / f"robustness_{damage}.csv") for damage in damages}
tables = {"as trained": rows, **tables}
lost = {}
for damage, table in tables.items():
    gaps = {(d.restorer, d.scale, d.measure): d.interval for d in compare(table, "bicubic")}
    lost[damage] = gaps
    for name in ("cnn", "model, expected, temperature 0.5", default):
        print(f"{damage:>10}, {name:<45}", *(f"×{s} {gaps[name, s, 'psnr_y']} dB " for s in "124"))

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), sharey=True)
panels = {"psnr_y": "PSNR gained at ×4, dB", "perceptual": "perceptual distance added at ×4"}
styles = {
    "cnn": ("CNN", COLORS["rest"], "s"),
    "model, expected, temperature 0.5": ("ours, w = 0", COLORS["token"], "^"),
    default: ("ours, w = 0.6", COLORS["model"], "o"),
}
for ax, (measure, label) in zip(axes, panels.items(), strict=True):
    for j, (name, (word, color, mark)) in enumerate(styles.items()):
        for i, damage in enumerate(tables):
            gap = lost[damage][name, "4", measure]
            reach = [[gap.mean - gap.low], [gap.high - gap.mean]]
            shown = word if i == 0 else None
            ax.errorbar(gap.mean, i + 0.2 * (j - 1), xerr=reach, fmt=mark, color=color, markersize=4, label=shown)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(xlabel=label, yticks=range(len(tables)), yticklabels=list(tables))
axes[0].invert_yaxis()
axes[1].legend(fontsize=8, loc="lower left")
show(
    figure,
    "Against bicubic on the same photos, for the damage of the training and for four others.",
    "Two panels with five rows, one per damage, and three marks with error bars per row for the CNN and two settings of "
    "the model: how far each lies from the line of bicubic in PSNR and in perceptual distance.",
)

# %% [markdown]
# And against the CNN, photo by photo?

# %%
for damage, table in tables.items():
    gaps = {(d.restorer, d.scale, d.measure): d.interval for d in compare(table, "cnn")}
    for measure in ("psnr_y", "perceptual"):
        print(f"{damage:>10}, {measure:<10}", *(f"×{s} {gaps[default, s, measure]} " for s in "124"))

# %% [markdown]
# **What you should see.** Speckle and motion blur are near enough to the damage of the training: the gains hold, and so does the CNN's lead in pixels. Under impulse noise PSNR still gains, but the perceptual distance gains much less than under the training's own damage. At ×1 ours is ahead of the CNN there, and the tokens alone ($w = 0$) do best. A possible reason: tokens can hardly write a single wild pixel.
# Hard JPEG defeats all: no method gains much in pixels.
#
# By the perceptual distance, ours is level with the CNN at the larger sizes under speckle and motion blur. It is a little ahead where the damage is least like the training's, impulse noise and JPEG. Perhaps that is what tokens are worth, since a codebook holds only what photos look like; these tables cannot tell. (And the ruler was ours in training, not the plain CNN's.) Read the rows, not their mean: a mean over damages answers a question that nobody asks.
#
# ## What was each decision worth?
#
# Three studies changed one thing at a time. Here they are together, largest first: the difference from the run named behind it, PSNR at ×4 in dB, this time in RGB, since the tokenizers were measured so. The transformers have *one* training seed and short runs: their intervals are over photos alone, and say nothing about another seed.

# %%
worth = []
for of, way, reference in (("transformers", "expected", "course"), ("preference", "expected", "ce")):
    for d in compare(study_rows(load_study(of), way), reference):
        if (d.scale, d.measure) == ("4", "psnr_rgb") and "prior" not in d.restorer and d.restorer != "prefix alone":
            worth.append((d.interval, f"{d.restorer} − {reference} ({of})"))
for run in ("alone", "no bridge", "one more scale"):
    gap = bootstrap(photo_means(run, "psnr 4") - photo_means("hit", "psnr 4"))
    worth.append((gap, f"{run} − hit (tokenizers)"))
for interval, what in sorted(worth, key=lambda pair: -abs(pair[0].mean)):
    print(f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]  {what}")

# %% [markdown]
# **What you should see.** What stands out are decisions about the *tokenizer*. Slips and the width of the transformer come next, far behind; most others cannot be told from nothing. Left out are the runs without the prior: they are an order of magnitude away, see chapter 07.
#
# How small a difference could we see at all? About half the width of an interval: with twenty photos and pairs, one or two tenths of a decibel. Whoever claims less needs more photos.
#
# ## What breaks if you choose on the test photos?
#
# Suppose forty students each submit a variant that changes nothing: their differences from ours are noise around zero. You keep the best. What do you report?
# For the noise take real differences, those of the start from the control of chapter 08, less their mean. Flip the sign of each photo's at random.

# %%
noise = [d for d in study_rows(load_study("preference"), "sampled") if (d.scale, d.measure) == ("4", "psnr_y")]
values = {(r.restorer, r.seed, r.photo): r.value for r in noise}
photos = sorted({r.photo for r in noise})
real = np.array([values["start", 0, p] - values["ce", 0, p] for p in photos])
signs = np.random.default_rng(SEED).choice([-1, 1], size=(40, len(photos)))
variants = signs * (real - real.mean())
winner = max(variants, key=np.mean)
print("forty variants of nothing: on average", f"{variants.mean():+.3f} dB")
print("the best of them, by its own interval:", bootstrap(winner), "dB")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.6, 2.6))
order = np.argsort(variants.mean(1))
for i, k in enumerate(order):
    gap = bootstrap(variants[k])
    color = COLORS["lr"] if gap.low > 0 else COLORS["bicubic"]
    ax.errorbar(i, gap.mean, yerr=[[gap.mean - gap.low], [gap.high - gap.mean]], fmt="o", color=color, markersize=3)
ax.axhline(0, color="black", linewidth=0.8)
ax.set(xlabel="variant, sorted", ylabel="gain, dB", xticks=[])
show(
    figure,
    "Forty variants that change nothing, with their intervals; orange where the interval lies above zero.",
    "Forty error bars that rise from left to right through zero; the last one or few at the right may lie wholly above "
    "the zero line although no variant does anything.",
)

# %% [markdown]
# **What you should see.** The best of forty nothings gains visibly, and its interval is at or above zero, for it was *chosen* for that. So choose on validation photos, and measure once on test photos. This course chose the denoiser, the temperature and the default that way; where a chapter looked at test photos before choosing, it says so.
#
# ## Your own model, your own photos
#
# One command does what this chapter read: tables as CSV and Markdown, paired differences, and the plane. `--model` takes the folder of a training run; `--photos` a folder of clean photos, which it degrades. Here with two test photos, small, to be quick.

# %%
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vartutor.data.photos import find_photo

folder = Path(tempfile.mkdtemp())
(folder / "photos").mkdir()
for name in ("red_panda", "sea6"):
    source = find_photo(name).path
    shutil.copy(source, folder / "photos" / source.name)

# %% tags=["nbval-ignore-output"]
words = "evaluate --restorers bicubic cnn model --temperatures .5 --expected --fidelity .6"
words += " --seeds 0 --largest 128"
command = [sys.executable, "-m", "vartutor", *words.split(), "--photos", folder / "photos", "--out", folder / "out"]
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
means, differences = done.stdout.split("## Differences from bicubic")  # each has a table for every measure
for title, part in (("means over photos", means), ("differences from bicubic", differences)):
    measures = part.split("\n**")
    print(title, *["**" + m for m in measures if m.startswith(("PSNR of luma", "Perceptual"))], sep="\n\n")

# %%
print("written:", ", ".join(sorted(path.name for path in (folder / "out").iterdir())))

# %% [markdown]
# Two photos are no evidence; their interval shows it. Take fifty of yours.

# %% [markdown]
# ## Questions
#
# 1. Two intervals overlap. May you conclude that the methods do not differ?
#
# <details><summary>Answer</summary>
#
# No. Both were measured on the same photos, so look at the interval of the paired differences.
#
# </details>
#
# 2. You have twenty photos and three crops of each. Are that sixty independent values?
#
# <details><summary>Answer</summary>
#
# No. Crops of a photo are alike. Average them per photo and resample photos, or the interval comes out too narrow.
#
# </details>
#
# 3. The interval of a difference holds zero. Which of these follows: "no effect", "not shown", "the claim is false"?
#
# <details><summary>Answer</summary>
#
# Only "not shown". How large an effect may hide is what the ends of the interval say.
#
# </details>
#
# 4. Why does it matter that our loss contains the perceptual distance and the CNN's does not?
#
# <details><summary>Answer</summary>
#
# Who trains on a ruler looks good by it. Compare by a ruler that neither trained on, or give both the same chance.
#
# </details>
#
# 5. A model is ahead by three hundredths of a decibel, and the interval stays above zero. Is it better?
#
# <details><summary>Answer</summary>
#
# On photos like these, with this training seed: yes. Whether anybody can see it, or whether another seed keeps it, the interval does not say.
#
# </details>
#
# ## An open experiment
#
# Take one claim of this course that you doubt, and put it to the test on photos of your own. Take at least thirty, under one sort of damage that the course has not used.
#
# A good answer
#
# - writes the claim down before measuring, with the number that would refute it;
# - says how the photos were chosen, and looks at them only once;
# - gives paired differences with intervals, and the convention of every PSNR;
# - shows the best, the middle and the worst photo by a rule;
# - names what the interval does not cover.
#
# ## In five lines
#
# 1. Resample photos for an interval; subtract before you resample, and photos no longer blur the difference.
# 2. "Not tested", "not at this size" and "false" are three verdicts.
# 3. Hierarchical tokens and one pass for three sizes hold up at this size; the preference does not help.
# 4. A ruler that one side trained on flatters it, and a gallery needs a rule.
# 5. The best of many nothings looks like something: choose on validation photos.
#
# ## The course and the paper
#
# | | this course | the paper, as far as it is known |
# |---|---|---|
# | test photos | twenty, three crops of 64 × 64 each | DIV2K-Val, RealSR, DRealSR at 512 × 512 † |
# | rulers | PSNR, SSIM, a perceptual distance, sharpness, noise | PSNR, LPIPS, FID and others † |
# | intervals | over photos, paired | none that we know of |
# | opponents | bicubic, a denoiser, a CNN with the same training | StableSR, ResShift, VARSR † |
# | other damage | four kinds | real cameras † |
#
# † at second hand; the page *Paper versus course* of the book says from where.
#
# ## References
#
# - B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993: resampling.
# - Y. Blau and T. Michaeli, [The Perception-Distortion Tradeoff](https://arxiv.org/abs/1711.06077), 2018.
# - [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990), 2025: the claims.
#
# **Next:** chapter 10 asks what changes when all of this becomes a hundred times larger.
