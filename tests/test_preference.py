"""DPO: closed forms, the formula of common libraries, the direction of its gradient, and a shared prefix."""

import math

import pytest
import torch

from vartutor.train.preference import dpo_loss, margin, sequence_logp
from vartutor.transformer.attention import as_mask, block_causal
from vartutor.transformer.condition import Condition
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.prior import LatentPrior


def test_sequence_logp_by_hand():
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0], [math.log(4.0), 0.0]]])
    found = sequence_logp(logits, torch.tensor([[1, 0, 0]]), [1, 2])
    parts = [math.log(0.75), math.log(0.5), math.log(0.8)]
    assert found.total.item() == pytest.approx(sum(parts))
    assert found.mean.item() == pytest.approx(sum(parts) / 3)
    assert found.scales[0].tolist() == pytest.approx([parts[0], (parts[1] + parts[2]) / 2])


def test_closed_forms():
    even = torch.tensor([-5.0])
    assert dpo_loss(even, even, 0.2).item() == pytest.approx(math.log(2))
    loss = dpo_loss(torch.tensor([-1.0]), torch.tensor([-4.0]), 0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.5)))
    assert dpo_loss(torch.tensor([-1e4]), torch.tensor([0.0]), 1.0).item() == pytest.approx(1e4)  # no overflow


def test_with_a_reference_it_is_the_usual_formula():
    # The sigmoid loss of TRL's DPOTrainer: -logsigmoid(beta * ((pc - pr) - (rc - rr))); by hand for these numbers:
    # ((-10 + 12) - (-11 + 11.5)) = 1.5, times 0.1 = 0.15; log(1 + exp(-0.15)) = 0.620957...
    chosen, rejected = torch.tensor([-10.0]), torch.tensor([-12.0])
    loss = dpo_loss(chosen, rejected, 0.1, torch.tensor([-11.0]), torch.tensor([-11.5]))
    assert loss.item() == pytest.approx(0.6209570, abs=1e-6)
    assert margin(chosen, rejected).item() == 2.0


@pytest.mark.parametrize("reference", [False, True])
def test_the_gradient_raises_the_clean_and_lowers_the_degraded(reference):
    hr, lr = (torch.tensor([-3.0, -2.0], requires_grad=True) for _ in range(2))
    refs = (torch.tensor([-2.5, -2.0]), torch.tensor([-2.0, -3.0])) if reference else ()
    dpo_loss(hr, lr, 0.2, *refs).sum().backward()
    assert (hr.grad < 0).all()
    assert torch.allclose(hr.grad, -lr.grad)
    weight = 0.2 * torch.sigmoid(-0.2 * margin(hr, lr, *refs).detach())
    assert torch.allclose(lr.grad, weight)


def test_a_step_on_a_model_moves_the_probabilities():
    logits = torch.zeros(1, 5, 7, requires_grad=True)
    hr, lr = torch.tensor([[0, 1, 2, 3, 4]]), torch.tensor([[0, 1, 5, 6, 4]])
    both = [sequence_logp(logits, tokens, [1, 4]).mean for tokens in (hr, lr)]
    dpo_loss(*both, 1.0).sum().backward()
    probabilities = (logits - logits.grad).softmax(-1)[0]
    assert (probabilities[[2, 3], [2, 3]] > 1 / 7).all()
    assert (probabilities[[2, 3], [5, 6]] < 1 / 7).all()
    assert torch.allclose(logits.grad[0, [0, 1, 4]], torch.zeros(3, 7), atol=1e-7)  # where both agree


@pytest.mark.parametrize("rope", [True, False])
@pytest.mark.parametrize("prior", [True, False])
def test_two_sequences_share_their_prefix_exactly(rope, prior):
    torch.manual_seed(0)
    config = TransformerConfig((1, 2, 3), 11, 4, 32, 2, 2, rope=rope)
    model = NextScaleTransformer(config, LatentPrior(3, torch.randn(11, 4), 32) if prior else None).eval()
    condition = Condition(torch.randn(2, 32), torch.randn(2, 4, 32), ((2, 2),))
    first = torch.randn(2, 1, 4)
    sequences = [
        (torch.randn(2, 13, 4), torch.cat([first, torch.randn(2, 13, 4)], 1) if prior else None) for _ in range(2)
    ]
    together = model.branches(condition, sequences)
    apart = [model(condition, *sequence) for sequence in sequences]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(together, apart, strict=True))
    assert torch.allclose(together[0][:, :1], together[1][:, :1])


def test_branches_do_not_see_each_other():
    mask = as_mask(block_causal([2, 1, 2], branches=2))
    assert mask.shape == (8, 8)
    assert torch.equal(mask[:5, :5], as_mask(block_causal([2, 1, 2])))
    assert torch.equal(mask[5:, 5:], mask[2:5, 2:5])
    assert mask[5:, :2].all()
    assert not mask[5:, 2:5].any()
    assert not mask[:5, 5:].any()
