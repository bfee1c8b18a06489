"""The course's model: prefix, prior, teacher forcing with slips, and generation that equals it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vartutor.data.crops import eval_crops
from vartutor.data.pairs import upscale_bicubic
from vartutor.transformer.attention import as_mask, attend, block_causal, grid_angles
from vartutor.transformer.condition import PhotoPrefix
from vartutor.transformer.generate import generate, iterate
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, force, photo_features, restore_latents, slip_codes, write_maps


@pytest.fixture(scope="module")
def photos():
    clean, _ = eval_crops("val", 64, 1)
    return clean[:3], torch.nn.functional.avg_pool2d(clean[:3], 4)


def make(tokenizer, seed=0, **options):
    torch.manual_seed(seed)
    quantizer = tokenizer.quantizer
    config = TransformerConfig(quantizer.patch_nums, 64, 16, 32, 2, 2, rope=options.pop("rope", True))
    return PhotoTransformer(config, quantizer.codes, **options).eval()


@pytest.mark.parametrize("shown", [{}, {"prefix": False}, {"added": True}, {"encoded": True}], ids=str)
@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("rope", [True, False])
def test_generation_equals_teacher_forcing(tokenizer, photos, shown, prior, rope):
    model = make(tokenizer, prior=prior, rope=rope, **shown)
    features = photo_features(tokenizer, photos[1])
    with torch.no_grad():
        condition = model.condition(photos[1], features)
        steps = list(iterate(model.body, tokenizer, condition, generator=torch.Generator().manual_seed(1)))
        idx, rests, f_hat = [step.idx for step in steps], [], None
        for k, tokens in enumerate(idx):
            rests.append(tokenizer.quantizer.rest(features, f_hat, k))
            f_hat, _ = tokenizer.quantizer.step(f_hat, tokens, k)
        again = model.body(condition, tokenizer.next_inputs(idx), torch.cat(rests, 1) if prior else None)
    ours = torch.cat([step.logits for step in steps], 1)
    assert (ours - again).abs().max() <= 1e-5 * max(1, again.abs().max())


def test_a_prediction_depends_on_earlier_maps_only(tokenizer, photos):
    model = make(tokenizer)
    features = photo_features(tokenizer, photos[1])
    _, _, inputs, rests = force(tokenizer, tuple(tokenizer.encode(photos[0])), features)
    inputs.requires_grad_(True)
    logits = model.body(model.condition(photos[1], features), inputs, rests)
    ends = torch.tensor([p * p for p in tokenizer.quantizer.patch_nums]).cumsum(0).tolist()
    (gradient,) = torch.autograd.grad(logits[:, : ends[4]].sum(), inputs)
    reached = gradient.abs().sum((0, 2)) > 0
    assert reached[: ends[4] - 1].all()
    assert not reached[ends[4] - 1 :].any()


@pytest.mark.parametrize("rope", [True, False])
def test_it_matters_where_the_photo_shows_something(tokenizer, photos, rope):
    model = make(tokenizer, prior=False, rope=rope)
    for weight in model.parameters():  # untrained blocks do next to nothing
        torch.nn.init.normal_(weight, std=0.3)
    condition, inputs = model.condition(photos[1], ()), torch.zeros(3, 436, 16)
    moved = replace(condition, prefix=condition.prefix.flip(1))
    with torch.no_grad():
        a, b = (model.body(c, inputs) for c in (condition, moved))
    assert (a - b).abs().max() > 1e-3 * a.abs().max()


def test_learned_positions_of_the_photo_are_those_of_the_tokens_over_it(tokenizer, photos):
    model = make(tokenizer, prior=False, rope=False)
    condition = model.condition(photos[1], ())
    marks = model.body.embed_start(condition)[:, :-1] - condition.prefix
    finest = model.body.pos[0, -256:].view(16, 16, 32)
    assert torch.allclose(marks[0, 0], finest[:2, :2].mean((0, 1)), atol=1e-6)
    assert torch.allclose(marks[2, -1], finest[-2:, -2:].mean((0, 1)), atol=1e-6)


def test_the_untrained_model_tokenises_the_degraded_photo(tokenizer, photos):
    model = make(tokenizer)
    model.body.head.weight.data.zero_()
    model.body.head.bias.data.zero_()
    condition = model.condition(photos[1], photo_features(tokenizer, photos[1]))
    maps = generate(model.body, tokenizer, condition, top_k=1)
    expected = tokenizer.tokenize(upscale_bicubic(photos[1], (4,))[4])
    same = torch.cat([(a == b).flatten() for a, b in zip(maps, expected, strict=True)]).float().mean()
    assert same > 0.99


def test_without_slips_forcing_is_tokenizing(tokenizer, photos):
    clean = tuple(tokenizer.encode(photos[0]))
    targets, goals, inputs, rests = force(tokenizer, clean, photo_features(tokenizer, photos[1]))
    indices = tokenizer.tokenize(photos[0])
    assert torch.equal(targets, torch.cat(indices, 1))
    assert torch.allclose(inputs, tokenizer.next_inputs(indices), atol=1e-5)
    assert goals.shape == rests.shape == (3, 437, 16)


def test_after_a_slip_the_targets_correct_it(tokenizer, photos):
    clean, degraded = tuple(tokenizer.encode(photos[0])), photo_features(tokenizer, photos[1])
    draws = torch.rand(len(photos[0]), 1 + 2 * 437, generator=torch.Generator().manual_seed(0))
    targets, goals, inputs, _ = force(tokenizer, clean, degraded, 1.0, draws)
    straight, _, true_inputs, _ = force(tokenizer, clean, degraded)
    assert not torch.equal(inputs, true_inputs)
    assert not torch.equal(targets, straight)
    f_hat = inputs[:, 436 - 256 :].transpose(1, 2).unflatten(2, (16, 16))  # what map 8 starts from
    lacking = (clean[2] - f_hat).flatten(2).transpose(1, 2)
    assert torch.allclose(goals[:, -256:], lacking, atol=1e-5)


def test_slips_lie_around_the_degraded_photos_rest(tokenizer, photos):
    codes = tokenizer.quantizer.codes
    goal = codes[torch.randint(64, (2, 300))]
    near = goal + 0.01 * torch.randn_like(goal)
    assert (slip_codes(codes, near, goal, torch.rand(2, 300)) == tokenizer.quantizer.lookup(near.mT[..., None])).all()
    far = goal + 100 * codes.std() * torch.randn_like(goal)  # a hopeless photo: any code
    assert len(slip_codes(codes, far, goal, torch.rand(2, 300)).unique()) > 32
    clean, degraded = tuple(tokenizer.encode(photos[0])), photo_features(tokenizer, photos[1])
    draws = torch.rand(2, len(photos[0]), 1 + 2 * 437)
    first, again, other = (force(tokenizer, clean, degraded, 1.0, own)[2] for own in (draws[0], draws[0], draws[1]))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_expected_vectors_take_the_place_of_tokens(tokenizer, photos):
    model = make(tokenizer)
    condition = model.condition(photos[1], photo_features(tokenizer, photos[1]))
    cold, greedy = (
        list(iterate(model.body, tokenizer, condition, **options))[-1].f_hat
        for options in ({"expected": True, "temperature": 1e-6}, {"top_k": 1})
    )
    assert torch.allclose(cold, greedy, atol=1e-4)
    warm = list(iterate(model.body, tokenizer, condition, expected=True))[-1].f_hat
    assert not torch.allclose(warm, greedy, atol=1e-2)


def test_generation_goes_on_after_given_maps(tokenizer, photos):
    model = make(tokenizer)
    condition = model.condition(photos[1], photo_features(tokenizer, photos[1]))
    own = generate(model.body, tokenizer, condition, top_k=1)
    again = generate(model.body, tokenizer, condition, top_k=1, given=own[:5])
    assert all(torch.equal(a, b) for a, b in zip(own, again, strict=True))
    true = tokenizer.tokenize(photos[0])
    led = generate(model.body, tokenizer, condition, top_k=1, given=true[:5], expected=True)
    assert all(torch.equal(a, b) for a, b in zip(led, true[:5], strict=False))
    assert not all(torch.equal(a, b) for a, b in zip(led[5:], own[5:], strict=True))


def test_coarse_and_fine_tokens_share_one_frame():
    angles = grid_angles([(1, 1), (2, 2), (4, 4)], 8)
    centre, quarter, fine = angles[0], angles[1], angles[5:]
    assert torch.allclose(angles[1:5].mean(0), centre, atol=1e-5)
    assert torch.allclose(fine[[0, 1, 4, 5]].mean(0), quarter, atol=1e-5)


def test_a_scale_sees_itself_and_all_before():
    mask = as_mask(block_causal([2, 3]))
    assert mask.tolist() == [[True, True, False, False, False]] * 2 + [[True] * 5] * 3


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_attention_by_scale_is_attention_with_a_mask(branches):
    views = block_causal([6, 4, 9], branches)
    q, k, v = torch.randn(3, 2, 4, 6 + 13 * branches, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=as_mask(views), scale=0.3)
    ours, pull = attend(q, k, v, views, 0.3), torch.linspace(-1, 1, masked.numel()).view_as(masked)
    assert torch.allclose(ours, masked, atol=1e-6)
    gradients = [torch.autograd.grad((h * pull).sum(), (q, k, v)) for h in (ours, masked)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_prefix_shapes():
    tokens, size = PhotoPrefix(32)(torch.zeros(2, 3, 16, 12))
    assert tokens.shape == (2, 48, 32)
    assert size == (8, 6)


def test_a_photo_that_is_not_shown_leaves_an_empty_prefix(tokenizer, photos):
    torch.manual_seed(0)
    quantizer = tokenizer.quantizer
    config = TransformerConfig(quantizer.patch_nums, 64, 16, 32, 2, 2, classes=2)
    model, features = PhotoTransformer(config, quantizer.codes), photo_features(tokenizer, photos[1])
    shown = model.condition(photos[1], features)
    assert torch.equal(shown.vector, model.body.class_emb.weight[:1].expand(3, -1))
    mixed = model.condition(photos[1], features, torch.tensor([0, 1, 0]))
    assert torch.equal(mixed.prefix[[0, 2]], shown.prefix[[0, 2]])
    assert not mixed.prefix[1].any()
    assert make(tokenizer).condition(photos[1], features, torch.zeros(3, dtype=torch.long)).prefix.any()


def test_tokens_of_the_photo_are_added_at_the_size_of_every_map(tokenizer, photos, raises_user_error):
    model = make(tokenizer, prior=False, added=True)
    condition = model.condition(photos[1], ())
    tokens, (_, w) = model.prefix(photos[1])
    assert condition.prefix is None
    assert torch.equal(condition.added.flatten(2).transpose(1, 2), tokens)
    assert torch.equal(condition.added_to(8), tokens)
    assert torch.allclose(condition.added_to(1), tokens.mean(1, keepdim=True), atol=1e-6)
    assert torch.allclose(condition.added_to(4)[:, 0], tokens[:, [0, 1, w, w + 1]].mean(1), atol=1e-6)
    assert torch.allclose(condition.added_to(16)[:, 0], tokens[:, 0], atol=1e-6)  # the corner
    inputs = torch.randn(3, 256, 16)
    bare, told = (model.body.embed_inputs(inputs, 7, condition=c) for c in (None, condition))
    assert torch.allclose(told - bare, condition.added_to(16), atol=1e-5)
    assert model.body.embed_start(condition).shape == (3, 1, 32)
    joined = condition.joined(condition)
    assert joined.added_to(4).shape == (6, 16, 32)
    with raises_user_error("no prefix"):
        make(tokenizer, prefix=False, added=True)


def test_latents_at_the_end_of_every_group(tokenizer, photos):
    model = make(tokenizer)
    options = {"generator": torch.Generator().manual_seed(2), "temperature": 0.8}
    found = restore_latents(model, tokenizer, photos[1], **options)
    condition = model.condition(photos[1], photo_features(tokenizer, photos[1]))
    options["generator"].manual_seed(2)
    steps = list(iterate(model.body, tokenizer, condition, **options))
    assert list(found) == [1, 2, 4]
    assert all(torch.equal(f_hat, steps[k].f_hat) for f_hat, k in zip(found.values(), (4, 6, 7), strict=True))


def test_maps_beyond_the_scales_asked_for_are_not_written(tokenizer, photos):
    model, written = make(tokenizer), []

    def write(*call, **options):
        for step in write_maps(*call, **options):
            written.append(step.k)
            yield step

    found = restore_latents(model, tokenizer, photos[1], (1,), write=write, top_k=1)
    assert written == [0, 1, 2, 3, 4]
    assert torch.equal(found[1], restore_latents(model, tokenizer, photos[1], top_k=1)[1])


def test_widths_that_do_not_divide(raises_user_error):
    with raises_user_error("width 30", "4 heads"):
        NextScaleTransformer(TransformerConfig((1, 2), 8, 4, 30, 1, 4))
