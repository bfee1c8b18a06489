"""Measuring restorers: measures, tables, intervals, the error budget, and the command."""

import math
import os
import re
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chi2

from vartutor.addons.refiner import Refiner
from vartutor.baselines.classical import CHOSEN, parse_denoiser
from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.cli import main
from vartutor.data.damage import damage
from vartutor.data.degradation import degrade, gaussian_noise
from vartutor.data.images import from_uint8, to_uint8, write_image
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE, UNSEEN
from vartutor.evaluate import choice
from vartutor.evaluate.budget import ErrorBudget
from vartutor.evaluate.choice import default_restorers, find_model, find_restorers
from vartutor.evaluate.measures import MEASURES, measure, sharpness_and_noise
from vartutor.evaluate.photos import crops, own_photos, split_photos
from vartutor.evaluate.report import markdown, write_results, write_rows
from vartutor.evaluate.restorers import Method, evaluate, of_model, seedless
from vartutor.evaluate.table import Row, compare, read_rows, summarise
from vartutor.metrics import bootstrap, psnr
from vartutor.paths import assets
from vartutor.perceptual import perceptual_distance
from vartutor.profiles import get_profile
from vartutor.show.tradeoff import draw_tradeoff
from vartutor.superres import SuperResolver
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.train.kinds import train
from vartutor.train.settings import BaselineSettings, TransformerSettings
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights import load_cnn

SMOKE = get_profile("smoke")


@pytest.fixture(scope="module")
def config(tokenizer):
    return TransformerConfig(tokenizer.quantizer.patch_nums, 64, 16, 32, 1, 2, rope=True)


@pytest.fixture(scope="module")
def resolver(tokenizer, config):
    torch.manual_seed(0)
    return SuperResolver(PhotoTransformer(config, tokenizer.quantizer.codes).eval(), tokenizer)


@pytest.fixture(scope="module")
def photos():
    return crops(COURSE, "val", per_photo=2)[:3]


# --- measures --------------------------------------------------------------------------------------


def half_flat(size=48):
    """Left half flat, right half stripes."""
    x = torch.zeros(1, 3, size, size)
    x[..., size // 2 :] = torch.where(torch.arange(size // 2) % 6 < 3, -0.5, 0.5)
    return x


def test_the_clean_photo_is_as_sharp_and_as_clean_as_itself(lemur):
    values = measure(lemur[..., :64, :64], lemur[..., :64, :64], 4)
    assert list(values) == list(MEASURES)
    assert values["psnr_y"] == math.inf
    assert values["ssim"] == pytest.approx(1)
    assert values["perceptual"] == pytest.approx(0, abs=1e-6)
    assert values["sharpness"] == 1
    assert values["noise"] == 0


def test_blur_lowers_the_sharpness_alone():
    x = half_flat()
    sharpness, noise = sharpness_and_noise(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x, 1)
    assert sharpness < 0.7
    assert noise == pytest.approx(0, abs=1e-3)


def test_noise_is_found_where_the_photo_is_flat():
    x = half_flat(128)
    noisy = gaussian_noise(x, 6, gray=True, generator=torch.Generator().manual_seed(0))
    for scale, side in ((1, 3), (4, 9)):
        _, noise = sharpness_and_noise(noisy, x, scale)
        # Of side² normal numbers; luma spans 219 of 255 levels.
        expected = (chi2(side**2 - 1).median() / side**2) ** 0.5
        assert noise == pytest.approx(6 * 219 / 255 * expected, rel=0.05)
    only_stripes = torch.where(torch.arange(128) < 64, x, noisy)
    assert sharpness_and_noise(only_stripes, x, 1)[1] == pytest.approx(0, abs=1e-3)


def test_photos_without_what_is_needed_have_no_value():
    flat, stripes = torch.zeros(1, 3, 32, 32), half_flat()[..., 24:]
    assert math.isnan(sharpness_and_noise(flat, flat, 2)[0])
    assert math.isnan(sharpness_and_noise(stripes, stripes, 2)[1])


def test_measures_follow_the_papers(photos):
    x, clean = upscale_bicubic(photos[0].lr)[4], photos[0].hr[4]
    values = measure(x, clean, 4)
    rounded = from_uint8(to_uint8(x))
    assert values["psnr_y"] == pytest.approx(psnr(rounded, clean, border=4).mean().item())
    assert values["psnr_rgb"] == pytest.approx(psnr(rounded, clean, color="rgb", border=4).mean().item())


# --- what is measured on ---------------------------------------------------------------------------


def test_crops_are_those_that_the_course_reports_on():
    pairs = eval_pairs(COURSE, "val", per_photo=2)
    found = crops(COURSE, "val", per_photo=2)
    assert [photo.name for photo in found] == list(pairs.files[::2])
    assert torch.equal(torch.cat([photo.lr for photo in found]), pairs.lr)
    assert torch.equal(torch.cat([photo.hr[2] for photo in found]), pairs.hr[2])


def test_own_photos_keep_their_pairs_when_others_come(tmp_path, lemur):
    (tmp_path / "deep").mkdir()
    write_image(tmp_path / "b.png", lemur[0, :, :70, :99])
    write_image(tmp_path / "deep" / "c.png", lemur[0, :, 100:300, :66])
    before = {photo.name: photo for photo in own_photos(tmp_path, COURSE, largest=96)}
    assert list(before) == ["b.png", "deep/c.png"]
    assert [tuple(photo.lr.shape) for photo in before.values()] == [(1, 3, 17, 24), (1, 3, 24, 16)]
    assert torch.equal(before["deep/c.png"].hr[4][0], lemur[0, :, 152:248, 1:65])
    write_image(tmp_path / "a.png", lemur[0, :, :64, :64])
    after = {photo.name: photo for photo in own_photos(tmp_path, COURSE, largest=96)}
    assert all(torch.equal(after[name].lr, photo.lr) for name, photo in before.items())
    other = next(iter(own_photos(tmp_path, COURSE, largest=96, seed=1)))
    assert not torch.equal(other.lr, after["a.png"].lr)


def test_whole_photos_of_a_split():
    whole = split_photos(UNSEEN["jpeg"], "test", largest=128)
    assert len(whole) == 20
    assert {tuple(whole[i].hr[4].shape) for i in (0, 7)} == {(1, 3, 128, 128)}


# --- restorers -------------------------------------------------------------------------------------

BICUBIC = seedless("bicubic", upscale_bicubic)


def test_who_draws_is_measured_once_per_seed(photos):
    noisy = Method(
        "noisy", lambda lr, seed: {1: gaussian_noise(lr, 5, generator=torch.Generator().manual_seed(seed))}, True
    )
    rows = list(evaluate([BICUBIC, noisy], photos[:2], seeds=(3, 4)))
    assert {(row.restorer, row.seed) for row in rows} == {("bicubic", 0), ("noisy", 3), ("noisy", 4)}
    assert {row.scale for row in rows if row.restorer == "noisy"} == {"1"}
    values = {(row.photo, row.seed): row.value for row in rows if (row.restorer, row.measure) == ("noisy", "psnr_y")}
    assert len(set(values.values())) == 4


def test_a_model_is_asked_in_different_ways(resolver, photos):
    lr = photos[0].lr[:1].repeat(2, 1, 1, 1)
    draws, greedy, mean = (
        of_model(resolver, "a", 1.0), of_model(resolver, "b", 0), of_model(resolver, "c", 0.5, expected=True)
    )  # fmt: skip
    assert [r.draws for r in (draws, greedy, mean)] == [True, False, False]
    first, again, other = (draws.run(lr, seed) for seed in (1, 1, 2))
    assert {s: tuple(x.shape) for s, x in first.items()} == {s: (2, 3, 16 * s, 16 * s) for s in (1, 2, 4)}
    assert torch.equal(first[4], again[4])
    assert not torch.equal(first[4], other[4])
    assert torch.equal(greedy.run(lr, 1)[4], greedy.run(lr, 2)[4])
    assert torch.equal(mean.run(lr, 1)[4][0], resolver.upscale(lr[0], expected=True, temperature=0.5)[4])


def test_photos_of_one_size_draw_for_themselves(resolver):
    lr = torch.zeros(2, 3, 16, 16)
    lr[1] += 1 / 127.5  # next to nothing
    images = of_model(resolver, "model", 50.0).run(lr, 0)
    assert (images[4][0] - images[4][1]).abs().mean() > 0.01


def test_names_must_differ(photos, raises_user_error):
    with raises_user_error("'bicubic' is named twice"):
        list(evaluate([BICUBIC, BICUBIC], photos))


def test_what_is_no_image_is_refused_at_every_door_and_named(photos, tokenizer, raises_user_error):
    lr = photos[0].lr
    doors = [CHOSEN, upscale_bicubic, lambda x: measure(x, x, 1), lambda x: perceptual_distance(x, x)]
    doors += [tokenizer.tokenize, lambda x: degrade(x, COURSE), lambda x: damage(x, COURSE, torch.arange(len(x)))]
    for door in doors:
        with raises_user_error("an image of torch.uint8"):
            door(to_uint8(lr))
    net = CnnSuperResolver(CnnConfig(8, 1))
    more = [net.restore, lambda x: measure(x, x, 1), to_uint8]
    for door in (CHOSEN, lambda x: perceptual_distance(x, x), tokenizer.tokenize, lambda x: degrade(x, COURSE), *more):
        for bad in (lr + 255, lr * torch.nan):
            with raises_user_error("an image with"):
                door(bad)
    broken = seedless("mine", lambda lr: {1: lr * torch.inf})
    with raises_user_error(f"mine, {photos[0].name}, ×1: an image with NaN or infinity"):
        list(evaluate([broken], photos))


# --- tables ----------------------------------------------------------------------------------------


def rows_of(restorer, values, seed=0, measure="psnr_y"):
    return [Row(restorer, seed, f"p{i}", "4", measure, value) for i, value in enumerate(values)]


def test_rows_survive_the_file(tmp_path, raises_user_error):
    rows = rows_of("bicubic", [1.5, math.nan, math.inf])
    write_rows(tmp_path / "r.csv", rows)
    again = read_rows(tmp_path / "r.csv")
    assert again[::2] == rows[::2]
    assert math.isnan(again[1].value)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with raises_user_error("other.csv", "not a table of results"):
        read_rows(tmp_path / "other.csv")
    with raises_user_error("r.csv", "cannot be written"):
        write_rows(tmp_path / "missing" / "r.csv", rows)


def test_means_are_over_photos_of_means_over_seeds():
    rows = rows_of("model", [1.0, 5.0], 0) + rows_of("model", [3.0, 5.0], 1)
    (summary,) = summarise(rows)
    assert summary.interval == bootstrap([2.0, 5.0])
    assert summary.photos == 2
    assert summary.spread == pytest.approx(0.5**0.5)  # of 3 and 4
    assert summarise(rows_of("bicubic", [1.0, 2.0]))[0].spread is None


def test_what_could_not_be_measured_is_left_out():
    (summary,) = summarise(rows_of("model", [1.0, math.nan, 3.0]))
    assert (summary.photos, summary.interval.mean) == (2, 2.0)


def test_infinite_values_are_left_out_and_counted(tmp_path):
    rows = rows_of("bicubic", [math.inf, 30.0, 31.0]) + rows_of("model", [40.0, math.inf, 33.0])
    assert [s.interval.mean for s in summarise(rows)] == [30.5, 36.5]
    (difference,) = write_results(tmp_path, rows, [], "bicubic")
    assert (difference.photos, difference.interval.mean) == (1, 2.0)
    said = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "left out, here and in differences: bicubic, PSNR of luma, dB: 1; model, PSNR of luma, dB: 1." in said
    assert "inf" not in said.replace("Infinite", "")
    assert "nan" not in said
    assert math.inf in [row.value for row in read_rows(tmp_path / "results.csv")]


def test_names_of_any_bytes_are_measured(tmp_path):
    folder = os.fsencode(tmp_path) + b"/in\xe9"
    os.mkdir(folder)
    write_image(tmp_path / "x.png", torch.zeros(3, 64, 64))
    os.rename(tmp_path / "x.png", folder + b"/caf\xe9.png")
    call = ["evaluate", "--photos", os.fsdecode(folder), "--restorers", "bicubic", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    assert {row.photo for row in read_rows(tmp_path / "out" / "results.csv")} == {"caf\\xe9.png"}


def test_black_photos_do_not_spoil_the_mean(tmp_path, capsys):
    for name, image in (("black.png", -torch.ones(3, 64, 64)), ("photo.png", torch.rand(3, 64, 64) * 2 - 1)):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / "in" / name, image)
    call = ["evaluate", "--photos", str(tmp_path / "in"), "--restorers", "bicubic", "--degradation", "bicubic"]
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "bicubic, PSNR of luma, dB: 4" in said  # at ×1 both photos are as they were
    assert "nan" not in said


def test_differences_are_paired(raises_user_error):
    base = [20.0, 25.0, 30.0, 35.0]
    rows = rows_of("bicubic", base) + rows_of("model", [v + 1 + 0.01 * i for i, v in enumerate(base)])
    (difference,) = compare(rows, "bicubic")
    assert difference.interval.mean == pytest.approx(1.015)
    assert difference.interval.low > 0.9  # though each mean alone is uncertain by several dB
    assert summarise(rows)[0].interval.low < 24
    (backwards,) = compare(rows, "model")
    assert backwards.interval.mean == pytest.approx(-1.015)
    with raises_user_error("no restorer 'cnn'", "bicubic, model"):
        compare(rows, "cnn")


def test_only_common_photos_are_compared():
    rows = rows_of("bicubic", [1.0, 2.0, 3.0]) + rows_of("model", [2.0, math.nan, 5.0])
    (difference,) = compare(rows, "bicubic")
    assert (difference.photos, difference.interval.mean) == (2, 1.5)


def test_the_markdown_says_what_was_measured():
    rows = rows_of("bicubic", [1.0, 1.0]) + rows_of("model", [2.0, 2.0], 0) + rows_of("model", [2.5, 2.5], 1)
    text = markdown(summarise(rows))
    assert "**PSNR of luma, dB** (higher is better; 2 photos)" in text
    assert "| | ×4 |" in text
    assert "| bicubic | 1.00 [1.00, 1.00] |" in text
    assert "| model | 2.25 [2.25, 2.25] ±0.35 |" in text
    assert "+1.25 [+1.25, +1.25]" in markdown(compare(rows, "bicubic"), signed=True)


def test_the_plane_has_the_reference_at_its_origin():
    rows = rows_of("bicubic", [20.0, 30.0]) + rows_of("bicubic", [0.8, 0.6], measure="perceptual")
    for name, better in (("model, temperature 0", 1.0), ("model, temperature 1", 0.5), ("cnn", 2.0)):
        rows += rows_of(name, [20 + better, 30 + better])
        rows += rows_of(name, [0.8 - better / 10, 0.6 - better / 10], measure="perceptual")
    figure = draw_tradeoff(compare(rows, "bicubic"), "bicubic")
    (ax,) = figure.get_axes()
    origin, *_ = ax.get_lines()
    assert (origin.get_xdata(), origin.get_ydata()) == ([0], [0])
    joined = next(line for line in ax.get_lines() if len(line.get_xdata()) == 2)
    assert np.allclose(joined.get_xdata(), [1, 0.5])
    assert np.allclose(joined.get_ydata(), [-0.1, -0.05])
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["bicubic", "model, τ = 0", "model, τ = 1", "cnn"]
    assert ax.get_title() == "×4"
    plt.close(figure)


def test_no_two_marks_in_the_plane_look_alike():
    knobs = [
        f"model{w}{e}, temperature {t}"
        for w in ("", ", fidelity 0.6", ", fidelity 1")
        for e in ("", ", expected")
        for t in (0, 0.5, 1)
    ]
    names = ["bicubic", "denoise", "cnn", "cnn:perceptual", *knobs]
    rows = [r for n in names for m in ("psnr_y", "perceptual") for r in rows_of(n, [1.0, 2.0], measure=m)]
    for reference in ("bicubic", "cnn"):
        figure = draw_tradeoff(compare(rows, reference), reference)
        (ax,) = figure.get_axes()
        marks = [ax.get_lines()[0], *(container.lines[0] for container in ax.containers)]
        looks = {(m.get_marker(), m.get_color(), m.get_markerfacecolor()) for m in marks}
        assert len(looks) == len(marks) == len(names)
        plt.close(figure)


# --- the error budget ------------------------------------------------------------------------------


def table(rows):
    return {(row.restorer, row.scale, row.measure): row.value for row in rows}


def test_an_oracle_says_the_true_tokens(config, tokenizer, photos, monkeypatch):
    """A model that knows the answer: right everywhere, and its photos are those of the true tokens."""
    true = tokenizer.tokenize(photos[0].hr[4])
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=False).eval()
    answers = iter(true * 4)
    monkeypatch.setattr(model.body, "run_head", lambda x, vector, k, rest: 50.0 * F.one_hot(next(answers), 64).float())
    found = table(ErrorBudget(model, tokenizer, top_k=1).rows(photos[:1]))
    for k in range(len(true)):
        for part in ("teacher forced", "free running"):
            assert found[part, f"map {k}", "top-1"] == 1
            assert found[part, f"map {k}", "cross entropy"] < 0.01
        assert found["free running", f"map {k}", "true"] == 1
        assert found["free running", f"map {k}", "f_hat error"] < 1e-6
    for s in "124":
        assert found["model", s, "psnr_y"] == pytest.approx(found["true tokens", s, "psnr_y"], abs=1e-3)


def test_the_untrained_model_decodes_the_photos_own_tokens(resolver, tokenizer, photos, monkeypatch):
    body = resolver.model.body
    monkeypatch.setattr(body, "run_head", lambda x, vector, k, rest: body.prior.logits(rest, k, torch.zeros_like(x)))
    found = table(ErrorBudget(resolver.model, tokenizer, top_k=1).rows(photos[:1]))
    for s in "124":
        own = found["photo's own tokens", s, "psnr_y"]
        assert found["model", s, "psnr_y"] == pytest.approx(own, abs=0.05)
        assert found["true tokens", s, "psnr_y"] != pytest.approx(own, abs=1e-4)


def test_true_maps_are_taken_up_to_their_group(resolver, tokenizer, photos):
    found = table(ErrorBudget(resolver.model, tokenizer).rows(photos[:1], seeds=(0,)))
    true = {s: found["true tokens", s, "psnr_y"] for s in "124"}
    assert found["model after ×1", "1", "psnr_y"] == pytest.approx(true["1"])
    assert found["model after ×2", "1", "psnr_y"] == pytest.approx(true["1"])
    assert found["model after ×2", "2", "psnr_y"] == pytest.approx(true["2"])
    assert found["model after ×1", "2", "psnr_y"] != pytest.approx(true["2"], abs=1e-4)
    for k in range(8):
        assert found["free running", f"map {k}", "top-1"] <= found["free running", f"map {k}", "top-10"]
    first = {part: found[part, "map 0", "cross entropy"] for part in ("teacher forced", "free running")}
    assert first["teacher forced"] == pytest.approx(first["free running"], rel=1e-4)  # nothing was said before


def test_clean_features_are_decoded_as_they_are(resolver, tokenizer, photos):
    found = table(ErrorBudget(resolver.model, tokenizer).rows(photos[:1]))
    images = [tokenizer.decode(f) for f in tokenizer.encode(photos[0].hr[4])]
    expected = measure(images[1], photos[0].hr[2], 2)["psnr_y"]
    assert found["clean features", "2", "psnr_y"] == pytest.approx(expected)


# --- models and the command ------------------------------------------------------------------------


def train_transformer(out, tokenizer):
    return train("transformer", TransformerSettings.of(SMOKE, steps=1), out, device="cpu", tokenizer=tokenizer)


def train_cnn(out, heads=(1, 2, 4)):
    return train("baseline", BaselineSettings.of(SMOKE, steps=1, net=CnnConfig(8, 1, heads)), out, device="cpu")


def test_models_are_found_by_the_folder_of_their_run(tmp_path, tokenizer, photos, raises_user_error):
    trainer, net = train_transformer(tmp_path / "t", tokenizer), train_cnn(tmp_path / "c")
    model = find_model(str(tmp_path / "t"))
    ours, theirs = model.model.state_dict(), trainer.averages.values
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-2) for name in theirs)
    image = load_cnn(str(tmp_path / "c")).restore(photos[0].lr)[4]
    with net.averages.in_use() as averaged:
        assert torch.allclose(image, averaged.restore(photos[0].lr)[4], atol=1e-2)
    with raises_user_error(tmp_path / "t", "holds a transformer, not a cnn"):
        load_cnn(str(tmp_path / "t"))
    with raises_user_error(tmp_path / "c", "holds a baseline, not a transformer"):
        find_model(str(tmp_path / "c"))
    with raises_user_error(tmp_path, "no saved state"):
        load_cnn(str(tmp_path))


def test_restorers_by_their_words(tmp_path, tokenizer, photos):
    for name, heads in (("one", (1, 2, 4)), ("a", (1,)), ("b", (2, 4))):
        train_cnn(tmp_path / name, heads)
    train_transformer(tmp_path / "t", tokenizer)
    words = [f"cnn:{tmp_path / 'one'}", f"cnn:{tmp_path / 'a'},{tmp_path / 'b'}", f"model:{tmp_path / 't'}"]
    one, separate, *ways = find_restorers(words, temperatures=(0, 0.5), expected=True)
    assert [one.name, separate.name] == words[:2]
    assert list(separate.run(photos[0].lr, 0)) == [1, 2, 4]
    assert [way.name.removeprefix(words[2]) for way in ways] == [
        ", temperature 0",
        ", temperature 0.5",
        ", expected, temperature 0.5",
    ]
    assert default_restorers()[:2] == ["bicubic", "denoise"]


def test_a_model_is_asked_at_every_fidelity(resolver, tokenizer, photos, monkeypatch, raises_user_error):
    monkeypatch.setattr(choice, "find_model", lambda source, device="cpu": resolver)
    with raises_user_error("no fidelity module"):
        find_restorers(["model"], fidelities=(0, 1))
    fidelity = Fidelity.of(tokenizer, hidden=8)
    torch.nn.init.normal_(fidelity.pixels.weight, std=0.1)
    faithful = SuperResolver(resolver.model, tokenizer, fidelity.eval())
    monkeypatch.setattr(choice, "find_model", lambda source, device="cpu": faithful)
    plain, asked = find_restorers(["model"], temperatures=(0,), fidelities=(0, 0.5))
    assert asked.name == "model, fidelity 0.5, temperature 0"
    images = [r.run(photos[0].lr[:1], 0)[4][0] for r in (plain, asked)]
    assert not torch.equal(*images)
    assert torch.equal(images[1], faithful.upscale(photos[0].lr[0], top_k=1, fidelity=0.5)[4])


def test_a_model_is_asked_with_every_guidance_and_refined(resolver, tokenizer, photos, monkeypatch, raises_user_error):
    monkeypatch.setattr(choice, "find_model", lambda *_: resolver)
    with raises_user_error("no refiner"):
        find_restorers(["model"], refine=[0.0])
    monkeypatch.setattr(choice, "load_refiner", lambda source: Refiner.of(resolver.model.config, 16, 1).eval())
    ways = {"guidances": (0, 2), "negative": "photo", "refine": [0.0, 1.0]}
    asked = find_restorers(["model"], temperatures=(0,), **ways)
    names = [restorer.name.removeprefix("model").removesuffix("temperature 0") for restorer in asked]
    refined = ("refined at 0, ", "refined at 1, ")
    guided = ("guidance 2, ", *(f"guidance 2, {way}" for way in refined))
    assert names == [f", {way}" for way in ("", *refined, *guided)]
    assert [restorer.draws for restorer in asked] == [False, True, True] * 2
    images = [restorer.run(photos[0].lr[:1], 0)[4][0] for restorer in asked]
    assert all(not torch.equal(a, b) for a, b in combinations(images, 2))


def test_denoisers_by_their_words(raises_user_error):
    assert parse_denoiser("denoise") is CHOSEN
    assert parse_denoiser("denoise:nlm:0.5").factor == 0.5
    for words in ("denoise:nlm", "denoise:nlm:x"):
        with raises_user_error(words, "denoise:tv:0.5"):
            parse_denoiser(words)
    with raises_user_error("unknown denoiser 'bm3d'"):
        parse_denoiser("denoise:bm3d:1")


def test_the_default_denoiser_is_the_best_of_the_recorded_search():
    lines = (assets() / "studies" / "denoisers.md").read_text().split("**PSNR of luma")[1].split("**")[1].splitlines()
    means = {line.split("|")[1].strip(): re.findall(r"\| (\d+\.\d+) \[", line) for line in lines if " [" in line}
    best = max(means, key=lambda name: sum(map(float, means[name])))
    assert parse_denoiser(best) == CHOSEN
    assert len(means) > 10


def test_the_command_evaluates_own_photos(tmp_path, lemur, config, tokenizer, capsys):
    (tmp_path / "in").mkdir()
    for i, size in enumerate(((64, 72), (80, 64))):
        write_image(tmp_path / "in" / f"{i}.png", lemur[0, :, : size[0], 100 * i : 100 * i + size[1]])
    train_transformer(tmp_path / "t", tokenizer)
    train_cnn(tmp_path / "c")
    cnn = f"cnn:{tmp_path / 'c'}"
    call = ["evaluate", "--photos", str(tmp_path / "in"), "--model", str(tmp_path / "t")]
    ways = [
        "--restorers",
        "bicubic",
        "denoise",
        cnn,
        "model",
        "--temperatures",
        "0",
        "1",
        "--expected",
        "--seeds",
        "0",
        "5",
        "--degradation",
        "motion",
    ]
    assert main([*call, *ways, "--out", str(tmp_path / "out")]) == 0
    assert "×2" in capsys.readouterr().out
    rows = read_rows(tmp_path / "out" / "results.csv")
    names = ["model, temperature 0", "model, temperature 1", "model, expected, temperature 1"]
    assert list(dict.fromkeys(row.restorer for row in rows)) == ["bicubic", "denoise", cnn, *names]
    assert {row.seed for row in rows if row.restorer == names[1]} == {0, 5}
    assert {row.photo for row in rows} == {"0.png", "1.png"}
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "2 photos of" in summary
    assert "degraded with `motion`" in summary
    assert "## Differences from bicubic" in summary
    assert (tmp_path / "out" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_an_error_budget(tmp_path, monkeypatch, resolver, photos, capsys):
    monkeypatch.setattr("vartutor.evaluate.choice.find_model", lambda source: resolver)
    monkeypatch.setattr("vartutor.evaluate.photos.crops", lambda preset, split: photos[:2])
    call = ["evaluate", "--restorers", "bicubic", "--budget", "--seeds", "0", "1", "--out", str(tmp_path)]
    assert main(call) == 0
    assert "Tables and figure" in capsys.readouterr().out
    rows = read_rows(tmp_path / "budget.csv")
    assert {row.seed for row in rows if row.restorer == "free running"} == {0, 1}
    text = (tmp_path / "budget.md").read_text()
    assert "generated with {'temperature': 1.0, 'expected': False}" in text
    assert "| teacher forced |" in text
    assert "map 7" in text


def test_wrong_calls_are_one_line(tmp_path, capsys):
    for words, expected in (
        (["--restorers", "model:huge"], "huge"),
        (["--restorers", "bicubic", "--model", "huge", "--budget"], "huge"),
        (["--restorers", "cnn:huge"], "huge: neither a shipped cnn"),
        (["--restorers", "sharpen"], "unknown restorer 'sharpen'"),
        (["--restorers", "bicubic", "--photos", str(tmp_path / "none")], "no such folder"),
        (["--restorers", "bicubic", "--degradation", "rain"], "unknown degradation 'rain'"),
        (["--restorers", "bicubic", "--split", "best"], "unknown split 'best'"),
        (["--restorers", "bicubic", "--reference", "cnn", "--split", "val"], "--reference 'cnn'"),
        (["--temperatures", "-1"], "temperature -1"),
        (["--largest", "10"], "--largest 10"),
    ):
        assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert expected in line


def test_a_baseline_is_any_function(photos):
    rows = list(evaluate([seedless("black", lambda lr: {4: torch.full_like(photos[0].hr[4], -1)})], photos[:1]))
    assert {row.restorer for row in rows} == {"black"}
    assert len(rows) == len(MEASURES)
