"""An adversarial loss for pictures: a critic of patches, hinge losses, an adaptive weight, a late start.

As in VQGAN (Esser et al., 2021, section 3.1), whose decoder it taught to invent texture where squared error
would blur. The critic judges every image scale with the same weights.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from vartutor.tokenizer.vq import average_gradients


class PatchCritic(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 1, H / 8, W / 8): high where a patch looks real. PatchGAN (Isola et al., 2017)."""

    def __init__(self):
        super().__init__()
        layers = []
        for c_in, c_out in pairwise((3, 32, 64, 128)):
            layers += [spectral_norm(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(128, 1, 3, padding=1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """½ (mean max(0, 1 - real) + mean max(0, 1 + fake)), a scalar, of the critic's outputs; 1 if it knows nothing."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator(fake: Tensor) -> Tensor:
    """-mean of the critic's output, a scalar."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, layer: Tensor) -> Tensor:
    """‖∂ reconstruction / ∂ layer‖ / ‖∂ adversarial / ∂ layer‖, at most 10⁴ (Esser et al., 2021, equation 7).

    So both losses, scalars, pull equally hard at ``layer``, the decoder's last weights of any shape.
    """
    (a,) = torch.autograd.grad(reconstruction, layer, retain_graph=True)
    (b,) = torch.autograd.grad(adversarial, layer, retain_graph=True)
    return (a.norm() / (b.norm() + 1e-6)).clamp(max=1e4).detach()


class Adversary:
    """The critic with its optimiser.

    Args:
        layer: weights of any shape, by which the two losses are balanced.
        lr: of the critic.
    """

    def __init__(self, layer: Tensor, lr: float = 5e-4):
        self.layer = layer
        self.critic = PatchCritic().to(layer.device)
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=lr, betas=(0.5, 0.9))
        self.rounds = 0

    def term(self, reconstruction: Tensor, images: list[Tensor]) -> Tensor:
        """What to add to a model's loss, a scalar, weighed against its reconstruction loss.

        Args:
            images: (B, 3, H_s, W_s) of every scale.
        """
        self.critic.requires_grad_(False)  # it learns in `learn` alone
        loss = sum(hinge_generator(self.critic(image)) for image in images) / len(images)
        self.critic.requires_grad_(True)
        return adaptive_weight(reconstruction, loss, self.layer) * loss

    def learn(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """Add the critic's gradient on images (B, 3, H_s, W_s) and reconstructions; returns its loss, a scalar."""
        loss = sum(hinge_critic(self.critic(a), self.critic(b.detach())) for a, b in zip(real, fake, strict=True))
        loss.backward()
        self.rounds += 1
        return loss.detach() / len(real)

    def finish(self) -> None:
        """One step of the critic, by the mean gradient of all rounds since the last."""
        if not self.rounds:
            return
        for parameter in self.critic.parameters():
            parameter.grad.div_(self.rounds)
        average_gradients(self.critic)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.rounds = 0

    def state_dict(self) -> dict:
        """Critic and optimiser."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Back to a saved state."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
