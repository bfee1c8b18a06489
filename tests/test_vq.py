"""The vector quantizer: lookup, gradients, learning, and the care of its codes."""

import pytest
import torch
import torch.nn.functional as F

from vartutor.tokenizer.multiscale import MultiScaleQuantizer, Phi
from vartutor.tokenizer.vq import (
    VectorQuantizer,
    kmeans,
    nearest_code,
    perplexity,
    rotate_through,
    straight_through,
    usage,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("bound", [1, 7, 1000, 2**24])
def test_nearest_code_is_the_nearest_in_slices_of_any_size(bound):
    z, codes = torch.randn(50, 8), torch.randn(20, 8)
    assert torch.equal(nearest_code(z, codes, max_elements=bound), torch.cdist(z, codes).argmin(1))


def test_cosine_ignores_lengths():
    z, codes = torch.randn(50, 8), torch.randn(20, 8)
    scaled = codes * torch.rand(20, 1).add(0.1)
    assert torch.equal(nearest_code(z, codes, metric="cosine"), nearest_code(3 * z, scaled, metric="cosine"))


def test_no_vectors_give_no_indices():
    assert nearest_code(torch.zeros(0, 4), torch.randn(3, 4)).shape == (0,)


def test_straight_through_copies_the_gradient():
    z = torch.randn(5, 4, requires_grad=True)
    out = straight_through(z, torch.ones(5, 4))
    assert torch.allclose(out, torch.ones(5, 4))
    (out * torch.arange(4.0)).sum().backward()
    assert torch.equal(z.grad, torch.arange(4.0).expand(5, 4))


def test_rotation_trick_gives_the_code_and_a_rotated_gradient():
    z = torch.randn(6, 4, requires_grad=True)
    code, upstream = torch.randn(6, 4), torch.randn(6, 4)
    out = rotate_through(z, code)
    assert torch.allclose(out, code, atol=1e-5)
    out.backward(upstream)
    # The map is a rotation times |q| / |z|: it keeps the angle of the gradient to z at that of upstream to the code.
    scale = code.norm(dim=1) / z.detach().norm(dim=1)
    assert torch.allclose(z.grad.norm(dim=1), upstream.norm(dim=1) * scale, atol=1e-4)
    assert torch.allclose(F.cosine_similarity(z.grad, z.detach()), F.cosine_similarity(upstream, code), atol=1e-4)


def test_losses_move_codes_and_encoder_apart():
    vq = VectorQuantizer(8, 4, beta=0.5)
    z = torch.randn(2, 4, 3, 3, requires_grad=True)
    out, idx, loss = vq(z)
    assert out.shape == z.shape
    assert idx.shape == (2, 3, 3)
    assert torch.allclose(out.permute(0, 2, 3, 1), vq.codes[idx], atol=1e-6)
    difference = (z.detach() - out.detach()).square().mean()
    assert torch.allclose(loss, 1.5 * difference, atol=1e-6)
    loss.backward()
    assert torch.allclose(z.grad, 0.5 * 2 * (z - out).detach() / z.numel(), atol=1e-6)


def test_ema_moves_codes_to_the_mean_of_their_vectors():
    vq = VectorQuantizer(4, 2, learn="ema", decay=0.5).train()
    centres = torch.tensor([[0.0, 5.0], [5.0, 0.0], [-5.0, 0.0], [0.0, -5.0]])
    vq.codes.data = centres + 0.5
    for _ in range(40):
        z = centres[torch.randint(4, (256,))] + 0.1 * torch.randn(256, 2)
        vq(z.T.reshape(1, 2, 16, 16))
    assert torch.allclose(vq.codes, centres, atol=0.05)
    assert not vq.codes.requires_grad


def test_evaluation_changes_nothing():
    vq = VectorQuantizer(4, 2, learn="ema").eval()
    before = {k: v.clone() for k, v in vq.state_dict().items()}
    vq(torch.randn(1, 2, 4, 4))
    assert all(torch.equal(v, before[k]) for k, v in vq.state_dict().items())


def test_kmeans_finds_separate_clusters():
    centres = 10 * torch.eye(6)
    z = centres.repeat_interleave(50, 0) + 0.1 * torch.randn(300, 6)
    best = min((torch.cdist(z, kmeans(z, 12)).min(1).values.mean() for _ in range(3)), key=float)
    assert best < 0.5


def test_kmeans_with_fewer_vectors_than_codes():
    assert kmeans(torch.randn(5, 3), 8).shape == (8, 3)


def test_initialise_and_revive_bring_dead_codes_back():
    vq = VectorQuantizer(64, 4).train()
    vq.codes.data += 100  # all far away: one code wins everything
    z = torch.randn(1, 4, 32, 32)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 4)
    assert usage(vq(z)[1], 64) < 0.1
    for _ in range(100):
        vq(z)
    moved = vq.revive(flat)
    assert moved > 50
    assert usage(vq(z)[1], 64) > 0.7
    vq.initialise(flat)
    assert usage(vq(z)[1], 64) > 0.9


def test_usage_and_perplexity():
    even, single = torch.arange(8).repeat(5), torch.zeros(40, dtype=torch.long)
    assert usage(even, 16) == 0.5
    assert perplexity(even, 16) == pytest.approx(8)
    assert perplexity(single, 16) == pytest.approx(1)


@pytest.mark.parametrize("words", [{"metric": "manhattan"}, {"gradient": "none"}, {"learn": "fast"}])
def test_unknown_settings_are_one_clear_line(words, raises_user_error):
    with raises_user_error("unknown", next(iter(words.values()))):
        VectorQuantizer(4, 2, **words)


def test_a_side_may_repeat_and_helps():
    f = torch.randn(4, 8, 4, 4)
    errors = []
    for ladder in ((1, 2, 4), (1, 2, 4, 4), (1, 2, 4, 4, 4)):
        torch.manual_seed(0)
        quantizer = MultiScaleQuantizer(ladder, 64, 8, phi_ratio=0.0)
        indices = quantizer.tokenize(f)
        assert quantizer.tokens == sum(idx.shape[1] for idx in indices)
        errors.append(F.mse_loss(quantizer.latents(indices)[-1], f).item())
    assert errors[0] > errors[1] > errors[2]


def test_training_lowers_the_quantizers_loss():
    quantizer = MultiScaleQuantizer((1, 2, 4), 32, 8).train()
    f = torch.randn(8, 8, 4, 4)
    optimizer = torch.optim.Adam(quantizer.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = quantizer(f)[2]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert quantizer.hits.sum() > 0


PHI = {
    5: [0, 1, 2, 2, 3],
    6: [0, 0, 1, 2, 3, 3],
    8: [0, 0, 1, 1, 2, 2, 3, 3],
    10: [0, 0, 1, 1, 1, 2, 2, 3, 3, 3],
    12: [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
    14: [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3],
}


@pytest.mark.parametrize("scales", PHI)
def test_phi_is_chosen_by_the_scales_position(scales):
    assert Phi(4, scales, shared=4).choice == PHI[scales]
    assert Phi(4, scales, shared=0).choice == list(range(scales))
    assert Phi(4, scales, shared=1).choice == [0] * scales


TWO = """
import os, torch, torch.distributed as dist
from vartutor.tokenizer.vq import VectorQuantizer
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(7)
vq = VectorQuantizer(16, 4, learn="ema").train()
both = torch.randn(2, 4, 8, 8)
vq(both[rank : rank + 1])
seen = {"codes": vq.codes.clone(), "hits": vq.hits.clone()}
torch.manual_seed(rank)  # random choices must agree all the same
vq.revive(both[rank].permute(1, 2, 0).reshape(-1, 4), share=0.5)
revived = vq.codes.clone()
vq.initialise(both[rank].permute(1, 2, 0).reshape(-1, 4))
torch.save({**seen, "revived": revived, "kmeans": vq.codes}, os.environ["OUT"] + f"/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_count_as_one(two_processes):
    first, second = two_processes(TWO)
    assert all(torch.equal(first[key], second[key]) for key in ("codes", "hits", "revived", "kmeans"))
    assert not torch.equal(first["codes"], first["revived"])
    torch.manual_seed(7)
    one = VectorQuantizer(16, 4, learn="ema").train()
    one(torch.randn(2, 4, 8, 8))
    assert torch.allclose(first["hits"], one.hits)
    assert torch.allclose(first["codes"], one.codes, atol=1e-6)
