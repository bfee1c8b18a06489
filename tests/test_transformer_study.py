"""Short runs that compare transformers: what differs, what does not, and one scale alone."""

import re
from dataclasses import replace

import pytest
import torch

from vartutor.cli import main
from vartutor.evaluate.measures import MEASURES
from vartutor.evaluate.report import markdown
from vartutor.evaluate.table import compare, study_rows, summarise
from vartutor.metrics import psnr
from vartutor.profiles import get_profile
from vartutor.tables import load_study
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.jobs import transformer_job
from vartutor.train.processes import Process
from vartutor.train.settings import TransformerSettings
from vartutor.train.sizes import make_config
from vartutor.train.source import Feed, make_source
from vartutor.train.transformer import Objective, TransformerLoss
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights import load_restorer
from vartutor.weights.files import load_state
from vartutor.workshop.scores import course_pairs, restore_pairs
from vartutor.workshop.transformer_study import TRANSFORMER_RUNS, forced_rows, run_transformer_study, tokenizer_for

SMOKE = get_profile("smoke")


@pytest.fixture(scope="module")
def tokenizers():
    torch.manual_seed(0)
    return [build_tokenizer(TokenizerConfig.of(SMOKE, name)).eval().requires_grad_(False) for name in ("hit", "var")]


def judge(image, clean, scale):
    return {"psnr": psnr(image, clean).mean().item(), "size": float(image.shape[-1])}


def study(names, tokenizers, out, **options):
    options = {"steps": 1, "seeds": [3], "compare": judge} | options
    return run_transformer_study(names, SMOKE, *tokenizers, out, **options)


def test_every_run_is_trained_and_measured(tokenizers, tmp_path):
    found = load_study(study([], tokenizers, tmp_path))
    for name, run in TRANSFORMER_RUNS.items():
        scales = [run.only] if run.only else [1, 2, 4]
        for s in scales:
            assert set(found[name, f"size {s} sampled"][3].values()) == {16 * s}
            assert len(found[name, f"psnr {s} expected"][3]) == 20
        assert run.only in (None, 2) or (name, "size 2 sampled") not in found
        maps = {1: 5, 2: 7}.get(run.only, 8)
        assert (
            list(found[name, "ce by map"][3]) == list(found[name, "right by map"][3]) == [str(k) for k in range(maps)]
        )
        assert len(found[name, "ce"][3]) == 20
        assert found[name, "tokens"][3][""] == {1: 53, 2: 181}.get(run.only, 437)
    sizes = {name: found[name, "parameters"][3][""] for name in TRANSFORMER_RUNS}
    assert sizes["narrow"] < sizes["shallow"] < sizes["course"] < sizes["deep"]
    assert sizes["added"] == sizes["course"] > sizes["no prior"]
    infos = {
        name: load_state(tmp_path / f"{name.replace(' ', '')}_3" / "state.pt")["info"] for name in TRANSFORMER_RUNS
    }
    assert not infos["no prefix"]["prefix"]
    assert infos["added"]["added"]
    assert not infos["no prior"]["prior"]
    assert not infos["learned positions"]["config"]["rope"]
    assert infos["no slips"]["objective"] == infos["course"]["objective"] | {"slip": 0.0}
    assert infos["tokens alike"]["objective"] == infos["course"]["objective"] | {"balance": 0.0}
    assert infos["hard"]["objective"] == infos["course"]["objective"] | {"hard": 1.0, "soft": 0.0}


def test_nothing_is_done_twice_and_settings_are_not_mixed(tokenizers, tmp_path, raises_user_error):
    path = study(["course"], tokenizers, tmp_path)
    first = path.read_bytes()
    (tmp_path / "course_3" / "state.pt").unlink()
    assert study(["course"], tokenizers, tmp_path).read_bytes() == first
    with raises_user_error("began in another way", "transformers.txt"):
        study(["hard"], tokenizers, tmp_path, steps=2)
    with raises_user_error("no run 'soft'", "only 4"):
        study(["soft"], tokenizers, tmp_path)


def test_an_interrupted_run_goes_on(tokenizers, tmp_path, interrupted):
    whole = load_study(study(["only 2"], tokenizers, tmp_path / "whole", steps=3))
    with interrupted(1), pytest.raises(KeyboardInterrupt):
        study(["only 2"], tokenizers, tmp_path / "part", steps=3)
    again = load_study(study(["only 2"], tokenizers, tmp_path / "part", steps=3))
    assert again["only 2", "psnr 2 sampled"] == whole["only 2", "psnr 2 sampled"]
    assert again["only 2", "steps"][3][""] == 3


def test_all_runs_of_a_seed_see_the_same_photos(tokenizers):
    photos, ends = [], {1: 1, 2: 2, None: 3}
    for only in (None, 1, 2, 4):
        own = tokenizer_for(replace(TRANSFORMER_RUNS["course"], only=only), *tokenizers)
        run = TransformerSettings.of(SMOKE, seed=5, batch=2)
        job = transformer_job(run, Process(), tokenizer=own)
        photos.append(Feed(make_source(run, Process()), run, Process(), job.prepare, job.keep)(0))
        if only in ends:  # of the hierarchical tokenizer: the same features too
            assert len(photos[-1].clean) == ends[only]
            assert all(torch.equal(a, b) for a, b in zip(photos[-1].clean, photos[0].clean, strict=False))
    assert all(torch.equal(seen.photo, photos[0].photo) for seen in photos)


def test_teacher_forced_numbers_are_those_of_the_training_loss(tokenizers):
    tokenizer, pairs = tokenizers[0], course_pairs(SMOKE)
    torch.manual_seed(1)
    model = PhotoTransformer(make_config(SMOKE, tokenizer), tokenizer.quantizer.codes).eval()
    rows = forced_rows(model, tokenizer, pairs, 1, batch=7)
    loss = TransformerLoss(model, tokenizer, Objective())
    with torch.no_grad():
        _, numbers = loss(loss.features(pairs.lr, pairs.hr[4]))
    numbers = {name: float(value) for name, value in numbers.items()}
    by = {(name, item): value for name, item, value in rows}
    assert sum(by["ce", file] for file in pairs.files) / 20 == pytest.approx(numbers["ce"], rel=1e-4)
    for k in range(8):
        assert by["right by map", str(k)] == pytest.approx(numbers[f"right/{k}"], abs=1e-6)
    assert sum(by["ce by map", str(k)] * p * p for k, p in enumerate((1, 2, 4, 4, 4, 8, 8, 16))) / 437 == pytest.approx(
        numbers["ce"], rel=1e-4
    )


def test_a_model_for_one_scale_can_be_used_from_its_run(tokenizers, tmp_path):
    study(["only 1", "only 4"], tokenizers, tmp_path)
    pairs = course_pairs(SMOKE)
    for s in (1, 4):
        images = restore_pairs(load_restorer(str(tmp_path / f"only{s}_3")), pairs, expected=True)
        assert {scale: tuple(x.shape[-2:]) for scale, x in images.items()} == {s: (16 * s, 16 * s)}


def test_a_study_becomes_a_table_of_paired_differences(tokenizers, tmp_path):
    found = load_study(study(["course", "only 2"], tokenizers, tmp_path, seeds=[0, 1]))
    rows = study_rows(found, "expected")
    assert len(rows) == 2 * 20 * 2 * (3 + 2)  # seeds, photos, measures, and the scales of both runs
    by_photo = {row.photo: row.value for row in rows if row[:2] == ("only 2", 1) and row[3:5] == ("2", "psnr")}
    assert by_photo == found["only 2", "psnr 2 expected"][1]
    differences = [d for d in compare(rows, "course") if d.measure == "psnr"]
    assert [(d.restorer, d.scale, d.photos) for d in differences] == [("only 2", "1", 20), ("only 2", "2", 20)]
    table = markdown(summarise(rows), {"psnr": MEASURES["psnr_y"]})
    assert "| | ×1 | ×2 | ×4 |" in table
    assert re.search(r"\| only 2 \| \d.*\| \d.*\|  \|", table)


def test_the_command(tmp_path, capsys):
    call = ["study", "--of", "transformer", "--profile", "smoke", "--out", str(tmp_path)]
    assert main([*call, "course", "only 4"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "study.csv")
    found = load_study(tmp_path / "study.csv")
    assert found["course", "steps"][0][""] == SMOKE.study_steps
    for name in ("psnr_y", "psnr_rgb", "ssim", "perceptual", "sharpness", "noise"):
        assert set(found["only 4", f"{name} 4 sampled"]) == set(found["course", f"{name} 4 expected"]) == {0}
    assert main([*call, "corse"]) == 2
    assert "no run 'corse'" in capsys.readouterr().err
