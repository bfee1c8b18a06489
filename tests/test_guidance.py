"""Guidance: logits that move away from no photo, or from a worse one."""

import pytest
import torch

from vartutor.addons.guidance import Guided, worsen
from vartutor.addons.refiner import make_writer
from vartutor.data.crops import eval_crops
from vartutor.superres import SuperResolver
from vartutor.transformer.generate import iterate
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, photo_features, restore_latents, write_maps


@pytest.fixture(scope="module")
def photo():
    clean, _ = eval_crops("val", 64, 1)
    return torch.nn.functional.avg_pool2d(clean[:3], 4)


def make(tokenizer, classes=1, **options):
    torch.manual_seed(0)
    config = TransformerConfig(tokenizer.quantizer.patch_nums, 64, 16, 32, 2, 2, classes=classes)
    return PhotoTransformer(config, tokenizer.quantizer.codes, **options).eval()


@pytest.mark.parametrize("prior", [True, False])
def test_logits_move_away_from_what_a_worse_photo_would_say(tokenizer, photo, prior):
    model, worse = make(tokenizer, prior=prior), worsen(photo)
    own, away = (model.condition(x, photo_features(tokenizer, x)) for x in (photo, worse))
    kept = list(Guided(2.0, "photo")(model, tokenizer, photo, top_k=1))
    given = [step.idx for step in kept]
    plain, other = (list(iterate(model.body, tokenizer, c, given=given)) for c in (own, away))
    for k, step in enumerate(kept):
        t = 2.0 * k / (len(kept) - 1)
        expected = (1 + t) * plain[k].logits - t * other[k].logits
        assert (step.logits - expected).abs().max() <= 1e-4 * max(1, expected.abs().max())
    f_hats = restore_latents(model, tokenizer, photo, write=Guided(2.0, "photo"), top_k=1)
    assert torch.allclose(f_hats[4], kept[-1].f_hat, atol=1e-4)
    if prior:  # without, an untrained model hardly looks at the photo
        assert not torch.allclose(restore_latents(model, tokenizer, photo, top_k=1)[4], f_hats[4], atol=1e-2)


def test_a_photo_that_is_not_shown_leaves_an_empty_prefix_and_the_prior(tokenizer, photo):
    model, features = make(tokenizer, classes=2), photo_features(tokenizer, photo)
    shown, null = model.condition(photo, features), Guided(1.0).away(model, tokenizer, photo, features)
    assert not null.prefix.any()
    assert null.prefix.shape == shown.prefix.shape
    assert torch.equal(null.vector, model.body.class_emb.weight[1:].expand(3, -1))
    assert null.features is features


def test_a_worse_photo_is_blurred_where_it_is_not_flat(photo):
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(worsen(flat), flat, atol=1e-6)
    energy = [(x[..., 1:] - x[..., :-1]).square().mean() for x in (photo, worsen(photo))]
    assert energy[1] < 0.5 * energy[0]


@pytest.mark.parametrize("negative", ["null", "photo"])
def test_guidance_moves_a_restored_photo_and_none_does_not(tokenizer, photo, negative):
    model = make(tokenizer, classes=2)
    resolver = SuperResolver(model, tokenizer)
    free = resolver.upscale(photo[0], (1, 4))
    for guidance in (0.0, 3.0):
        ours = resolver.upscale(photo[0], (1, 4), write=make_writer(model, guidance, negative))
        assert [torch.equal(ours[s], free[s]) for s in (1, 4)] == [guidance == 0] * 2


def test_unknown_negatives_and_a_missing_null_class_are_one_line(tokenizer, photo, raises_user_error):
    model = make(tokenizer)
    with raises_user_error("negative 'text'", "null or photo"):
        Guided(1.0, "text")
    with raises_user_error("no null class", "objective.drop", "negative photo"):
        restore_latents(model, tokenizer, photo, write=Guided(1.0), top_k=1)
    with raises_user_error("no null class"):
        make_writer(model, 1.0)
    assert make_writer(model) is write_maps
    with raises_user_error("away from"):
        restore_latents(model, tokenizer, photo, guidance=1.0, top_k=1)
