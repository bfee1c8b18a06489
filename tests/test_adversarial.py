"""The critic, its losses and the balance between them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig
from vartutor.train.adversarial import Adversary, Critic, hinge_critic, hinge_generator, slope_of
from vartutor.train.loop import Moment
from vartutor.train.processes import Process
from vartutor.train.settings import TokenizerSettings
from vartutor.train.source import make_source
from vartutor.train.tokenizer import Losses, TokenizerLoss, make_tokenizer

SMOKE = get_profile("smoke")


CPU = torch.device("cpu")


def test_the_critic_has_an_opinion_of_every_patch():
    critic = Critic()
    for side in (16, 32, 64):
        assert critic(torch.zeros(2, 3, side, side)).shape == (2, (side // 4) ** 2)


def test_the_critic_soon_tells_soft_photos_from_sharp_ones():
    torch.manual_seed(0)
    clean = make_source(TokenizerSettings.of(SMOKE, batch=8), Process()).batch(range(32)).hr[4]
    soft = F.avg_pool2d(F.pad(clean, (1, 1, 1, 1), mode="replicate"), 3, 1)
    adversary = Adversary(CPU)
    for i in range(30):
        part = slice(i % 3 * 8, i % 3 * 8 + 8)
        adversary.learn([clean[part]], [soft[part]])
        adversary.finish()
    with torch.no_grad():
        held = hinge_critic(adversary.critic(clean[24:]), adversary.critic(soft[24:]))
    assert held < 0.8


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert hinge_critic(real, fake).item() == pytest.approx(0.5 * (0.25 + 0.5))
    assert hinge_critic(torch.zeros(3), torch.zeros(3)).item() == 1.0
    assert hinge_generator(fake).item() == pytest.approx(1.5)


def test_photos_that_are_not_judged_have_no_say():
    real, fake, weights = torch.randn(4, 9), torch.randn(4, 9), torch.tensor([0.0, 2.0, 0.0, 2.0])
    assert hinge_generator(fake, weights).item() == pytest.approx(hinge_generator(fake[1::2]).item())
    half = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake[1::2]).mean())
    assert hinge_critic(real, fake, weights).item() == pytest.approx(half.item())
    adversary, image = Adversary(CPU), torch.rand(4, 3, 16, 16, requires_grad=True)
    adversary.term([image], weights).backward()
    assert image.grad.abs().amax((1, 2, 3)).bool().tolist() == [False, True, False, True]


def test_steep_opinions_are_punished():
    torch.manual_seed(0)
    real, fake = torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16) - 1
    steep = []
    for slope in (0.0, 10.0):
        torch.manual_seed(0)
        adversary = Adversary(CPU, slope=slope)
        for _ in range(30):
            adversary.learn([real], [fake])
            adversary.finish()
        photos = real.clone().requires_grad_(True)
        steep.append(slope_of(adversary.critic(photos), photos).item())
    assert steep[1] < 0.5 * steep[0]


def weights_of(critic):
    return {name: value.detach().clone() for name, value in critic.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in b)


@pytest.fixture
def loss():
    """A tokenizer's, whose critic begins in the middle of the run."""
    torch.manual_seed(0)
    losses = Losses(adversarial=0.5, adversarial_start=0.5, bypass=0.0)
    return TokenizerLoss(make_tokenizer(TokenizerConfig.of(SMOKE), losses).train(), losses)


@pytest.fixture(scope="module")
def batch():
    return make_source(TokenizerSettings.of(SMOKE, batch=2), Process()).batch(range(2))


def test_before_the_start_the_critic_learns_and_says_nothing(loss, batch):
    critic = loss.adversary.critic
    before = weights_of(critic)
    early, numbers = loss(batch, Moment(progress=0.49))
    assert numbers["critic"].item() == pytest.approx(1.0, abs=0.3)
    assert same(weights_of(critic), before)  # once per step, when all rounds are over
    late = loss(batch, Moment(progress=0.5))[0]
    assert early.item() != late.item()
    loss.adversary.weight = 0.0
    assert loss(batch, Moment(progress=0.5))[0].item() == pytest.approx(early.item(), rel=1e-6)
    loss.finish(Moment(progress=0.5))
    assert not any(torch.equal(value, before[name]) for name, value in weights_of(critic).items())


def test_what_is_only_looked_at_teaches_no_critic(loss, batch):
    loss.model.eval()
    before = weights_of(loss.adversary.critic)
    with torch.no_grad():
        value, numbers = loss(batch, Moment(progress=1.0))
    loss.adversary.finish()
    assert value.isfinite()
    assert "critic" not in numbers
    assert same(weights_of(loss.adversary.critic), before)


def test_one_step_by_the_mean_of_all_rounds():
    """Two rounds of half a batch move the critic as one round of the whole one, and once."""
    torch.manual_seed(0)
    real, fake = torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16) - 1
    first = Adversary(CPU)
    second = copy.deepcopy(first)
    whole = first.learn([real], [fake])
    halves = [second.learn([a], [b]) for a, b in zip(real.split(4), fake.split(4), strict=True)]
    assert whole.item() == pytest.approx(sum(halves).item() / 2, rel=1e-5)
    for adversary in (first, second):
        adversary.finish()
        assert {int(state["step"]) for state in adversary.optimizer.state.values()} == {1}
    for a, b in zip(first.critic.parameters(), second.critic.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_critic_goes_on_from_its_state():
    torch.manual_seed(0)
    pairs = [(torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16) - 1) for _ in range(6)]

    def learn(adversary, some):
        found = []
        for real, fake in some:
            found.append(adversary.learn([real], [fake]).item())
            adversary.finish()
        return found

    first, second = (Adversary(CPU) for _ in range(2))
    learn(first, pairs[:3])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert learn(second, pairs[3:]) == learn(first, pairs[3:])


def test_the_critic_moves_only_when_a_step_is_finished():
    layer = nn.Parameter(torch.ones(1, 3, 8, 8))
    adversary = Adversary(CPU)
    before = {name: p.detach().clone() for name, p in adversary.critic.named_parameters()}
    image = torch.ones(1, 3, 8, 8) * layer
    adversary.finish()  # nothing was learnt
    adversary.learn([torch.rand(1, 3, 8, 8)], [image])
    term = adversary.term([image])
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
