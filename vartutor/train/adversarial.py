"""An adversarial loss for pictures: a critic of pixels, hinge losses, a penalty on its slope, a late start.

As in VQGAN (Esser et al., 2021, section 3.1), an opinion on texture where squared error would blur. What a model
restores and what is true differ by little, and mostly in the finest detail. So the critic gets that detail enlarged,
and no spectral norms, which bound how fast an opinion can change; its slope on true photos is punished instead (R1,
Mescheder et al., 2018, equation 9). Told apart after 120 steps of 16, held-out photos of chapter 07's drawing model:
loss 0.39 for this critic, 0.47 with spectral norms, 0.67 without the detail, 0.81 with neither; 1 is ignorance.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.tokenizer.vq import average_gradients
from vartutor.train.loop import Moment, Numbers

WIDTH = 48  # channels of the first layer


class Critic(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, ⌊H / 4⌋ ⌊W / 4⌋): for every patch, high where the photo looks real.

    Beside the photo it sees what a blur would take away, four times as large: there the two kinds differ.
    """

    def __init__(self, width: int = WIDTH):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(6, width, 3, padding=1), nn.LeakyReLU(0.2)]
        for c_in, c_out, kernel, stride in ((1, 1, 4, 2), (1, 2, 3, 1), (2, 3, 4, 2), (3, 3, 3, 1)):
            layers += [nn.Conv2d(c_in * width, c_out * width, kernel, stride, 1), nn.GroupNorm(8, c_out * width)]
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(3 * width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        fine = x - F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, 1)
        return self.layers(torch.cat([4 * fine, x], 1)).flatten(1)


def hinge_critic(real: Tensor, fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """½ (mean max(0, 1 - real) + mean max(0, 1 + fake)), a scalar, of the critic's outputs; 1 if it knows nothing.

    Args:
        real, fake: (B, n) each.
        weights: (B,) of the fake ones, 1 in the mean.
    """
    return 0.5 * (F.relu(1 - real).mean() + _mean(F.relu(1 + fake), weights))


def hinge_generator(fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """-mean of the critic's output (B, n), a scalar; weights as for :func:`hinge_critic`."""
    return -_mean(fake, weights)


def slope_of(opinion: Tensor, photos: Tensor) -> Tensor:
    """The mean squared slope of the mean opinion (B, n) on true photos (B, 3, H, W), a scalar: R1."""
    (gradient,) = torch.autograd.grad(opinion.mean(1).sum(), photos, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def _mean(x: Tensor, weights: Tensor | None) -> Tensor:
    return x.mean() if weights is None else (x.mean(1) * weights).mean()


class Adversary:
    """The critic with its optimiser.

    Args:
        weight: of its opinion in a model's loss.
        start: share of the run before it begins to say it; it learns from the first step on.
        lr: of the critic.
        slope: weight of the penalty, on the largest photos.
    """

    def __init__(
        self, device: torch.device, weight: float = 1.0, start: float = 0.0, lr: float = 3e-4, slope: float = 0.1
    ):
        self.weight, self.start, self.slope = weight, start, slope
        self.critic = Critic().to(device)
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=lr, betas=(0.5, 0.9))
        self.rounds = 0

    def oppose(
        self, images: dict[int, Tensor], clean: dict[int, Tensor], moment: Moment, weights: Tensor | None = None
    ) -> tuple[Tensor | float, Numbers]:
        """What pictures {s: (B, 3, H_s, W_s)} add to their model's loss, and the critic's own loss: it learns, too.

        Args:
            weights: (B,) of the pictures, 1 in the mean; all 1 if left out.
        """
        fake = list(images.values())
        term = 0.0 if moment.progress < self.start else self.weight * self.term(fake, weights)
        return term, {"critic": self.learn([clean[s] for s in images], fake, weights)}

    def term(self, images: list[Tensor], weights: Tensor | None = None) -> Tensor:
        """What a model's pictures (B, 3, H_s, W_s) of every scale lose for not looking real, a scalar."""
        self.critic.requires_grad_(False)  # it learns in `learn` alone
        loss = sum(hinge_generator(self.critic(image), weights) for image in images) / len(images)
        self.critic.requires_grad_(True)
        return loss

    def learn(self, real: list[Tensor], fake: list[Tensor], weights: Tensor | None = None) -> Tensor:
        """Add the critic's gradient on images (B, 3, H_s, W_s) and a model's; returns its loss, a scalar."""
        side = max(image.shape[-1] for image in real)
        photos = [image.detach().requires_grad_(image.shape[-1] == side) for image in real]
        seen = [self.critic(image) for image in photos]
        loss = sum(hinge_critic(a, self.critic(b.detach()), weights) for a, b in zip(seen, fake, strict=True))
        slope = sum(slope_of(a, x) for a, x in zip(seen, photos, strict=True) if x.requires_grad)
        (loss + self.slope / 2 * slope).backward()
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
