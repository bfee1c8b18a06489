"""An adversarial loss for pictures: a critic of a classifier's features, hinge losses, a late start.

As in VQGAN (Esser et al., 2021, section 3.1), an opinion on texture where squared error would blur. Its critic of
pixels has to learn from nothing what a photo looks like, and in our short runs never did: its loss stayed at 1, where
it knows nothing. Projected GAN (Sauer et al., 2021, section 3) puts small heads on the features of a classifier
that has seen photos; such a critic has an opinion after a few steps. It judges every image scale with the same weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from vartutor.perceptual import STAGES, TAPS, PerceptualDistance
from vartutor.tokenizer.vq import average_gradients
from vartutor.train.loop import Moment, Numbers

HIDDEN = 32  # channels of a head


class FeatureCritic(nn.Module):
    """Heads on four feature maps (B, C_i, h_i, w_i) -> (B, Σ h_i w_i): high where the photo looks real."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(_head(STAGES[k][-1]) for k in TAPS)

    def forward(self, maps: list[Tensor]) -> Tensor:
        maps = [F.normalize(m, dim=1) * m.shape[1] ** 0.5 for m in maps]  # each channel about 1
        return torch.cat([head(m).flatten(1) for head, m in zip(self.heads, maps, strict=True)], 1)


def _head(channels: int) -> nn.Sequential:
    convs = nn.Conv2d(channels, HIDDEN, 1), nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1), nn.Conv2d(HIDDEN, 1, 1)
    first, second, last = map(spectral_norm, convs)
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), last)


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """½ (mean max(0, 1 - real) + mean max(0, 1 + fake)), a scalar, of the critic's outputs; 1 if it knows nothing."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator(fake: Tensor) -> Tensor:
    """-mean of the critic's output, a scalar."""
    return -fake.mean()


class Adversary:
    """The critic with its optimiser, and the frozen classifier beneath it.

    Args:
        weight: of its opinion in a model's loss.
        start: share of the run before it begins.
        lr: of the critic.
    """

    def __init__(self, device: torch.device, weight: float = 1.0, start: float = 0.0, lr: float = 1e-3):
        self.weight, self.start = weight, start
        self.trunk = PerceptualDistance().features.to(device)
        self.critic = FeatureCritic().to(device)
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=lr, betas=(0.5, 0.9))
        self.rounds = 0

    def judge(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, n)."""
        return self.critic(self.trunk(image))

    def oppose(
        self, images: dict[int, Tensor], clean: dict[int, Tensor], moment: Moment
    ) -> tuple[Tensor | float, Numbers]:
        """What pictures {s: (B, 3, H_s, W_s)} add to their model's loss, and the critic's own loss: it learns, too."""
        if moment.progress < self.start:
            return 0.0, {}
        fake = list(images.values())
        term = self.weight * self.term(fake)
        return term, {"critic": self.learn([clean[s] for s in images], fake)}

    def term(self, images: list[Tensor]) -> Tensor:
        """What a model's pictures (B, 3, H_s, W_s) of every scale lose for not looking real, a scalar."""
        self.critic.requires_grad_(False)  # it learns in `learn` alone
        loss = sum(hinge_generator(self.judge(image)) for image in images) / len(images)
        self.critic.requires_grad_(True)
        return loss

    def learn(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """Add the critic's gradient on images (B, 3, H_s, W_s) and a model's; returns its loss, a scalar."""
        loss = sum(hinge_critic(self.judge(a), self.judge(b.detach())) for a, b in zip(real, fake, strict=True))
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
