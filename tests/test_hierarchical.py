"""The hierarchical tokenizer: groups, overlap, and the images at every scale."""

import pytest
import torch
import torch.nn.functional as F

from vartutor.data.pairs import pyramid
from vartutor.tokenizer.autoencoder import SmallDecoder, SmallEncoder
from vartutor.tokenizer.hierarchical import Bridge, HierarchicalQuantizer, HierarchicalTokenizer
from vartutor.tokenizer.multiscale import MultiScaleQuantizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer, decode_small

GROUPS = ((1, 2, 4, 4), (5, 8), (16,))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def features(batch=2, channels=8):
    return [torch.randn(batch, channels, p, p) for p in (4, 8, 16)]


@pytest.fixture
def quantizer():
    return HierarchicalQuantizer(GROUPS, 64, 8)


@pytest.fixture
def tokenizer():
    quantizer = HierarchicalQuantizer(GROUPS, 64, 16)
    return HierarchicalTokenizer(quantizer, SmallEncoder(32), SmallDecoder(32))


def test_one_group_is_the_plain_quantizer():
    plain = MultiScaleQuantizer((1, 2, 4), 64, 8).train()
    hit = HierarchicalQuantizer(((1, 2, 4),), 64, 8).train()
    hit.load_state_dict(plain.state_dict())
    f = torch.randn(2, 8, 4, 4, requires_grad=True)
    a, idx_a, loss_a = plain(f)
    (b,), idx_b, loss_b = hit([f])
    assert torch.allclose(a, b, atol=1e-6)
    assert torch.allclose(loss_a, loss_b)
    assert all(map(torch.equal, idx_a, idx_b))
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(plain.latents(idx_a), hit.latents(idx_a), strict=True))
    assert torch.allclose(plain.next_inputs(idx_a), hit.next_inputs(idx_a), atol=1e-6)


def test_the_tokens_of_the_small_photo_are_the_first_of_the_larger(quantizer):
    f = features()
    other = [f[0], torch.randn_like(f[1]), torch.randn_like(f[2])]
    a, b = quantizer.tokenize(f), quantizer.tokenize(other)
    assert all(map(torch.equal, a[:4], b[:4]))
    assert not torch.equal(a[4], b[4])
    alone = HierarchicalQuantizer(GROUPS[:1], 64, 8)
    # Without ties to the larger scales φ must be the same, so it is left out here.
    quantizer.phi.ratio = alone.phi.ratio = 0.0
    alone.codes.data = quantizer.codes.data
    assert all(map(torch.equal, alone.tokenize(f[:1]), quantizer.tokenize(f)[:4]))


def test_a_group_starts_from_the_enlarged_sum_of_those_before(quantizer):
    f = features()
    idx = quantizer.tokenize(f)
    latents = quantizer.latents(idx)
    assert [tuple(z.shape[-2:]) for z in latents] == [(4, 4)] * 4 + [(8, 8)] * 2 + [(16, 16)]
    start = F.interpolate(latents[3], size=(8, 8), mode="bicubic")
    added = quantizer.enlarge(quantizer.embed(idx[4], (5, 5)), (8, 8), 4)
    assert torch.allclose(latents[4], start + added, atol=1e-6)
    rest = F.interpolate(f[1] - start, size=(5, 5), mode="area")
    assert torch.equal(idx[4], quantizer.lookup(rest))


def test_inputs_of_the_transformer_have_the_size_of_their_scale(quantizer):
    idx = quantizer.tokenize(features())
    inputs = quantizer.next_inputs(idx)
    assert inputs.shape == (2, quantizer.tokens - 1, 8)
    # The first scale of group 2 sees group 1's latent, enlarged to the group's canvas and shrunk to its size.
    canvas = F.interpolate(quantizer.latents(idx)[3], size=(8, 8), mode="bicubic")
    expected = F.interpolate(canvas, size=(5, 5), mode="area").flatten(2).transpose(1, 2)
    start = sum(p * p for p in (2, 4, 4))
    assert torch.allclose(inputs[:, start : start + 25], expected, atol=1e-6)


def test_without_overlap_every_group_is_alone():
    quantizer = HierarchicalQuantizer(GROUPS, 64, 8, overlap=False)
    f = features()
    changed = [torch.randn_like(f[0]), f[1], f[2]]
    a, b = quantizer.tokenize(f), quantizer.tokenize(changed)
    assert not torch.equal(a[3], b[3])
    assert all(map(torch.equal, a[4:], b[4:]))
    inputs = quantizer.next_inputs(a)
    start = sum(p * p for p in (2, 4, 4))
    assert (inputs[:, start : start + 25] == 0).all()


def test_gradients_reach_everything(tokenizer):
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    images, indices, loss = tokenizer.train()(x)
    assert {s: tuple(image.shape[-2:]) for s, image in images.items()} == {1: (16, 16), 2: (32, 32), 4: (64, 64)}
    assert [idx.shape[1] for idx in indices] == [p * p for p in (1, 2, 4, 4, 5, 8, 16)]
    target = pyramid(x)
    (loss + sum(F.mse_loss(images[s], target[s]) for s in images)).backward()
    without = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_decode_scales_gives_the_complete_groups(tokenizer):
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        idx = tokenizer.tokenize(x)
        images = tokenizer.decode_scales(idx)
        assert {s: tuple(image.shape) for s, image in images.items()} == {s: (2, 3, 16 * s, 16 * s) for s in (1, 2, 4)}
        assert list(tokenizer.decode_scales(idx[:5])) == [1]
        assert torch.equal(tokenizer.decode_scales(idx[:6])[2], images[2])
        assert torch.equal(tokenizer.reconstruct(x), images[4])
        assert all(image.abs().max() <= 1 for image in images.values())


def test_the_first_groups_alone_say_the_same(tokenizer):
    for p in tokenizer.quantizer.bridge.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        idx, features = tokenizer.tokenize(x), tokenizer.encode(x)
        images, inputs = tokenizer.decode_scales(idx), tokenizer.next_inputs(idx)
        for groups, maps, tokens in ((1, 4, 37), (2, 6, 126), (3, 7, 382)):
            cut = tokenizer.first(groups)
            assert (cut.scales, cut.factor) == ((1, 2, 4)[:groups], 4)
            assert (cut.quantizer.patch_nums, cut.quantizer.tokens) == ((1, 2, 4, 4, 5, 8, 16)[:maps], tokens)
            own = cut.tokenize(x)
            assert all(torch.equal(a, b) for a, b in zip(own, idx[:maps], strict=True))
            assert all(torch.equal(a, b) for a, b in zip(cut.encode(x), features[:groups], strict=True))
            assert torch.equal(cut.next_inputs(own), inputs[:, : tokens - 1])
            decoded = cut.decode_scales(own)
            assert list(decoded) == [1, 2, 4][:groups]
            assert all(torch.equal(image, images[s]) for s, image in decoded.items())
    assert tokenizer.scales == (1, 2, 4)
    assert tokenizer.quantizer.patch_nums == (1, 2, 4, 4, 5, 8, 16)
    assert tokenizer.first(1).quantizer.codes is tokenizer.quantizer.codes


def test_photos_that_are_not_square(tokenizer):
    x = torch.rand(1, 3, 64, 96) * 2 - 1
    sizes = [(p, p * 3 // 2 or 1) for p in (1, 2, 4, 4, 5, 8, 16)]
    with torch.no_grad():
        idx = tokenizer.tokenize(x, sizes)
        images = tokenizer.decode_scales(idx, sizes)
    assert tuple(images[4].shape) == (1, 3, 64, 96)
    assert tuple(images[1].shape) == (1, 3, 16, 24)


def test_a_few_steps_lower_the_error(tokenizer):
    x = torch.rand(4, 3, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3) * 2 - 1
    target = pyramid(x)
    optimizer = torch.optim.AdamW(tokenizer.train().parameters(), 3e-3)
    losses = []
    for _ in range(60):
        images, _, loss = tokenizer(x)
        loss = loss + sum(F.mse_loss(images[s], target[s]) for s in images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_mistakes_are_one_clear_line(quantizer, raises_user_error):
    f = features()
    with raises_user_error("2 feature maps for 3 scale groups"):
        quantizer.tokenize(f[:2])
    with raises_user_error("their group ends at (8, 8)"):
        quantizer.tokenize([f[0], f[0], f[2]])
    whole = HierarchicalTokenizer(quantizer, SmallEncoder(32, 8), SmallDecoder(32, 8))
    for groups in (0, 4):
        with raises_user_error(f"the first {groups} of 3 scale groups"):
            whole.first(groups)
    with raises_user_error("every scale group"):
        HierarchicalQuantizer(((1, 2), ()))
    with raises_user_error("2 image scales for 3"):
        HierarchicalTokenizer(quantizer, SmallEncoder(32, 8), SmallDecoder(32, 8), (1, 2))


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_bridge_starts_as_bicubic_and_learns(hidden):
    bridge = Bridge(4, hidden)
    f_hat = torch.randn(2, 4, 4, 4)
    wide = F.interpolate(f_hat, size=(8, 8), mode="bicubic")
    assert torch.equal(bridge(f_hat, (8, 8)), wide)
    if hidden:
        (bridge(f_hat, (8, 8)) - 1).square().mean().backward()
        assert bridge.conv2.weight.grad.abs().max() > 0


def test_a_bridge_is_built_only_where_there_is_a_border():
    def size(groups, **options):
        return sum(p.numel() for p in HierarchicalQuantizer(groups, 8, 4, **options).bridge.parameters())

    assert size(((1, 2), (4,)), bridge=8) == 8 * 4 * 9 * 2 + 8 + 4
    assert size(((1, 2),), bridge=8) == size(((1, 2), (4,)), bridge=8, overlap=False) == 0


def test_all_ways_through_a_quantizer_cross_the_same_bridge():
    torch.manual_seed(0)
    quantizer = HierarchicalQuantizer(((1, 2), (4,), (8,)), 16, 4, bridge=8).eval()
    torch.nn.init.normal_(quantizer.bridge.conv2.weight, std=0.2)
    f = [torch.randn(2, 4, p, p) for p in (2, 4, 8)]
    ends, indices, _ = quantizer(f)
    latents = quantizer.latents(indices)
    assert all(torch.allclose(latents[end - 1], own, atol=1e-5) for end, own in zip(quantizer.ends, ends, strict=True))
    f_hat = None
    for k, idx in enumerate(indices):
        rest = quantizer.rest(f, f_hat, k)
        size = (quantizer.patch_nums[k],) * 2
        assert torch.equal(quantizer.lookup(rest.transpose(1, 2).unflatten(2, size)), idx)
        f_hat, _ = quantizer.step(f_hat, idx, k)


@pytest.mark.parametrize("votes", ["scale", "token"])
def test_moving_averages_are_the_means_of_the_chosen_vectors(votes):
    torch.manual_seed(0)
    quantizer = MultiScaleQuantizer((1, 2), 3, 4, phi_ratio=0.0).train()
    before = quantizer.codes.detach().clone()
    quantizer.use_moving_averages(decay=0.0, votes=votes)  # no memory: the mean of this batch
    _, indices, _ = quantizer(torch.randn(5, 4, 2, 2))
    z = torch.cat([quantizer.seen[0], quantizer.seen[1]])
    idx = torch.cat([m.flatten() for m in indices])
    weight = torch.cat([torch.full((5,), 4.0 if votes == "scale" else 1.0), torch.ones(20)])[:, None]
    for j in range(3):
        mine = idx == j
        expected = (weight * z)[mine].sum(0) / weight[mine].sum() if mine.any() else before[j]
        assert torch.allclose(quantizer.codes[j], expected, atol=1e-5)


def test_a_code_that_only_a_coarse_scale_uses_is_not_dead():
    quantizer = MultiScaleQuantizer((1, 4), 40, 4)
    for votes, moved in (("scale", 0), ("token", 1)):
        quantizer.use_moving_averages(votes=votes)
        quantizer.seen = {0: torch.randn(5, 4), 1: torch.randn(80, 4)}
        quantizer.hits = torch.ones(2, 40) * torch.tensor([[0.0], [2.0]])
        quantizer.hits[:, 0] = torch.tensor([0.05, 0.0])
        assert quantizer.revive(share=0.1) == moved


def test_unknown_votes(raises_user_error):
    with raises_user_error("votes 'photo'", "scale or token"):
        MultiScaleQuantizer((1, 2), 3, 4).use_moving_averages(votes="photo")


def test_two_ways_to_a_small_photo_of_a_plain_tokenizer():
    plain = MultiScaleTokenizer(MultiScaleQuantizer((1, 2, 16), 64, 16), SmallEncoder(32), SmallDecoder(32))
    ways = decode_small(plain, torch.randn(2, 16, 16, 16), 16, 64)
    assert list(ways) == ["decoded first", "shrunk first"]
    assert all(image.shape == (2, 3, 16, 16) and image.abs().max() <= 1 for image in ways.values())
    assert not torch.allclose(*ways.values())
