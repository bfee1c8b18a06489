"""The degraded photo's own latents as a prior: our way to train on two cores; the paper has none that we know of.

Encode the degraded photo, enlarged, with the frozen tokenizer. At every scale its rest r, given the f_hat so far,
says which token the tokenizer itself would choose there. It enters the transformer twice: as an input, and in the
logit of code j as -α ‖r + Δ - e_j‖². An untrained model has Δ = 0: it "tokenises the degraded photo". Training only
has to learn the difference, and most of that is Δ, where the transformer thinks that the clean latents lie.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def spacing(codes: Tensor) -> Tensor:
    """Mean squared distance of (V, C) codes from their nearest neighbours: the unit of α and of soft targets."""
    distance = torch.cdist(codes, codes) + torch.diag_embed(codes.new_full((len(codes),), torch.inf))
    return distance.amin(1).square().mean().clamp(min=1e-12)


class LatentPrior(nn.Module):
    """Turns rests into inputs and logits.

    Args:
        scales: K; each has its own learned α.
        codes: (V, C) codebook of the frozen tokenizer; kept as a constant.
        width: D.
    """

    def __init__(self, scales: int, codes: Tensor, width: int):
        super().__init__()
        self.embed = nn.Linear(codes.shape[1], width)
        # At the start α is 1 / spacing, so that tokenizers of any code length start alike.
        self.log_alpha = nn.Parameter(-spacing(codes.detach()).log().repeat(scales))
        self.register_buffer("codes", codes.detach().clone())
        self.register_buffer("unit", spacing(codes.detach()).sqrt())
        self.revise = nn.Linear(width, codes.shape[1] + 1)  # Δ in these units, and by how much log α rises
        nn.init.zeros_(self.revise.weight)
        nn.init.zeros_(self.revise.bias)

    @torch.no_grad()
    def calibrate(self, rests: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        """Set every α to the one that makes true tokens likeliest while nothing else says anything.

        Far too large, it is sure of the wrong token, and training has to unlearn that first; and what is right
        differs by orders of magnitude between the coarsest scale and the finest.

        Args:
            rests, targets: of every scale, (B, n, C) and (B, n) int64.
        """
        candidates = torch.logspace(-1, 1.5, 26, device=self.codes.device) / spacing(self.codes)
        for k, (rest, idx) in enumerate(zip(rests, targets, strict=True)):
            closeness = -self._distance(rest).flatten(0, 1)
            entropies = [F.cross_entropy(alpha * closeness, idx.flatten()) for alpha in candidates]
            self.log_alpha[k] = candidates[int(torch.stack(entropies).argmin())].log()

    def logits(self, rest: Tensor, k: int, h: Tensor) -> Tensor:
        """What is added to the logits of scale k.

        Args:
            rest: (B, n, C).
            h: (B, n, D), what the transformer's own head sees.

        Returns:
            (B, n, V): α (2 (r + Δ)·e_j - ‖e_j‖²); ‖r + Δ‖² is the same for all codes and left out.
        """
        shift, sharper = self.revise(h).float().split([rest.shape[-1], 1], -1)
        return -(self.log_alpha[k] + sharper).exp() * self._distance(rest + self.unit * shift)

    def _distance(self, rest: Tensor) -> Tensor:
        return self.codes.square().sum(1) - 2 * rest.float() @ self.codes.T
