"""The critic, its losses and the balance between them."""

import pytest
import torch
from torch import nn

from vartutor.train.adversarial import Adversary, PatchCritic, adaptive_weight, hinge_critic, hinge_generator


def test_the_critic_judges_patches_of_every_image_scale():
    critic = PatchCritic()
    for side in (16, 32, 64):
        assert critic(torch.zeros(2, 3, side, side)).shape == (2, 1, side // 8, side // 8)


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert hinge_critic(real, fake).item() == pytest.approx(0.5 * (0.25 + 0.5))
    assert hinge_critic(torch.zeros(3), torch.zeros(3)).item() == 1.0
    assert hinge_generator(fake).item() == pytest.approx(1.5)


def test_the_adaptive_weight_makes_both_gradients_equally_long():
    layer = nn.Parameter(torch.tensor([3.0, 4.0]))
    a, b = (layer**2).sum(), 0.01 * (layer**3).sum()
    weight = adaptive_weight(a, b, layer)
    (ga,) = torch.autograd.grad(a, layer, retain_graph=True)
    (gb,) = torch.autograd.grad(weight * b, layer, retain_graph=True)
    assert gb.norm().item() == pytest.approx(ga.norm().item(), rel=1e-3)
    assert adaptive_weight(a, 1e-12 * b, layer).item() == 1e4
    assert not weight.requires_grad


def test_the_critic_moves_only_when_a_step_is_finished():
    layer = nn.Parameter(torch.ones(1, 3, 8, 8))
    adversary = Adversary(layer)
    before = {name: p.detach().clone() for name, p in adversary.critic.named_parameters()}
    image = torch.ones(1, 3, 8, 8) * layer
    adversary.finish()  # nothing was learnt
    adversary.learn([torch.rand(1, 3, 8, 8)], [image])
    term = adversary.term(image.mean(), [image])
    term.backward()
    assert layer.grad is not None
    own = [p.grad.clone() for p in adversary.critic.parameters()]
    assert all(torch.equal(p, before[name]) for name, p in adversary.critic.named_parameters())
    adversary.learn([torch.rand(1, 3, 8, 8)], [image])  # a second round adds to the first
    assert not all(torch.equal(p.grad, g) for p, g in zip(adversary.critic.parameters(), own, strict=True))
    adversary.finish()
    assert not all(torch.equal(p, before[name]) for name, p in adversary.critic.named_parameters())
    assert all(p.grad is None for p in adversary.critic.parameters())


def test_the_critic_learns_to_tell_two_kinds_of_patches_apart():
    torch.manual_seed(0)
    adversary = Adversary(nn.Parameter(torch.ones(1)), lr=2e-3)
    losses = []
    for _ in range(60):
        real, fake = torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16) - 1
        losses.append(adversary.learn([real], [fake]).item())
        adversary.finish()
    assert losses[0] == pytest.approx(1.0, abs=0.2)
    assert losses[-1] < 0.3
