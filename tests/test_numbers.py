"""No number is silently wrong: at every public door a picture that is none is named, and so is a measure."""

import numpy as np
import pytest
import torch
from PIL import Image

from vartutor.baselines.classical import parse_denoiser
from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.data.degradation import degrade
from vartutor.data.images import check_image, to_pil, to_uint8, write_image
from vartutor.data.pairs import make_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.evaluate.measures import measure
from vartutor.metrics import bootstrap, gmsd, psnr, ssim
from vartutor.perceptual import perceptual_distance
from vartutor.profiles import get_profile
from vartutor.show.before_after import before_after
from vartutor.show.figures import contact_sheet, image_grid
from vartutor.superres import SuperResolver
from vartutor.train.sizes import make_transformer
from vartutor.transformer.photo import restore_latents

FINE = torch.zeros(1, 3, 64, 64)


@pytest.fixture(scope="module")
def models(tokenizer):
    torch.manual_seed(0)
    model = make_transformer(get_profile("smoke"), tokenizer).eval().requires_grad_(False)
    return {
        "tokenizer": tokenizer,
        "model": model,
        "resolver": SuperResolver(model, tokenizer),
        "net": CnnSuperResolver(CnnConfig(8, 1)).eval(),
        "denoiser": parse_denoiser("denoise:tv:0.5"),
    }


DOORS = {
    "check_image": lambda x, m: check_image(x),
    "to_uint8": lambda x, m: to_uint8(x),
    "to_pil": lambda x, m: to_pil(x[0]),
    "write_image": lambda x, m: write_image("none.png", x[0]),
    "psnr": lambda x, m: psnr(x, FINE),
    "psnr of the other": lambda x, m: psnr(FINE, x),
    "ssim": lambda x, m: ssim(x, FINE),
    "gmsd": lambda x, m: gmsd(x, FINE),
    "perceptual_distance": lambda x, m: perceptual_distance(x, FINE),
    "measure": lambda x, m: measure(x, FINE, 4),
    "degrade": lambda x, m: degrade(x, COURSE),
    "make_pairs": lambda x, m: make_pairs(x, COURSE),
    "upscale_bicubic": lambda x, m: upscale_bicubic(x),
    "tokenize": lambda x, m: m["tokenizer"].tokenize(x),
    "reconstruct": lambda x, m: m["tokenizer"].reconstruct(x),
    "restore_latents": lambda x, m: restore_latents(m["model"], m["tokenizer"], x[..., :16, :16]),
    "upscale": lambda x, m: m["resolver"].upscale(x[0, :, :16, :16]),
    "a net's restore": lambda x, m: m["net"].restore(x),
    "denoise": lambda x, m: m["denoiser"].denoise(x),
    "image_grid": lambda x, m: image_grid([[x[0]]]),
    "contact_sheet": lambda x, m: contact_sheet([x[0]], 1),
    "before_after": lambda x, m: before_after(x[0], x[0], ("a", "b"), "two pictures that are one and the same"),
}
NONE = {
    "nan": (torch.full_like(FINE, float("nan")), "NaN or infinity"),
    "one nan": (FINE.index_fill(3, torch.tensor([5]), float("nan")), "NaN or infinity"),
    "infinity": (FINE - float("inf"), "NaN or infinity"),
    "bytes": ((FINE + 157).to(torch.uint8), "give floats in [-1, 1]"),
    "floats of bytes": (FINE + 157, "values from 157 to 157"),
}


@pytest.mark.parametrize("bad", NONE)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_picture_comes_through_no_door(models, door, bad, raises_user_error, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    picture, words = NONE[bad]
    with raises_user_error(words):
        DOORS[door](picture, models)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("door", DOORS)
def test_a_picture_comes_through_every_door(models, door, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    DOORS[door](FINE.clone(), models)


@pytest.mark.parametrize("kind", [np.float32, np.int64, bool])
def test_arrays_are_bytes(models, kind, raises_user_error):
    with raises_user_error("give uint8"):
        models["resolver"].upscale(np.zeros((16, 16, 3), kind))


def test_pillow_images_have_a_known_range(models, raises_user_error):
    with raises_user_error("unknown range"):
        models["resolver"].upscale(Image.new("F", (16, 16)))


@pytest.mark.parametrize("values", [[1.0, float("nan")], [float("inf")], []])
def test_no_interval_is_made_of_what_is_no_number(values, raises_user_error):
    with raises_user_error("finite values"):
        bootstrap(values)
