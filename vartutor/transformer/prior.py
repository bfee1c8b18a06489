"""The degraded photo's own latents as a prior: our way to train on two cores; the paper has none that we know of.

Encode the degraded photo, enlarged, with the frozen tokenizer. At every scale its rest r, given the f_hat so far,
says which token the tokenizer itself would choose there. It enters the transformer twice: as an input, and in the
logit of code j as -α ‖r - e_j‖². An untrained model then "tokenises the degraded photo", and training only has to
learn the difference.
"""

import math

import torch
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
        alpha: at the start, in units of 1 / :func:`spacing`, so that tokenizers of any code length start alike.
    """

    def __init__(self, scales: int, codes: Tensor, width: int, alpha: float = 1.0):
        super().__init__()
        self.embed = nn.Linear(codes.shape[1], width)
        self.log_alpha = nn.Parameter(math.log(alpha) - spacing(codes.detach()).log().repeat(scales))
        self.register_buffer("codes", codes.detach().clone())

    def logits(self, rest: Tensor, k: int) -> Tensor:
        """(B, n, C) of scale k -> (B, n, V): α_k (2 r·e_j - ‖e_j‖²); ‖r‖² is the same for all codes and left out."""
        rest = rest.float()
        distance = self.codes.square().sum(1) - 2 * rest @ self.codes.T
        return -self.log_alpha[k].exp() * distance
