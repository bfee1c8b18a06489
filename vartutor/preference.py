"""A preference for the tokens of the clean photo over those of the degraded one: DPO as a regulariser.

arXiv 2506.04990 trains with cross entropy plus this term, without a reference model, as far as it is known.
Rafailov et al., 2023, equation 7, is the loss with one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SequenceLogp:
    """Log-likelihood of token sequences: ``total`` (B,), ``mean`` (B,) per token, ``scales`` (B, K) means per scale."""

    total: Tensor
    mean: Tensor
    scales: Tensor


def sequence_logp(logits: Tensor, tokens: Tensor, squares: Sequence[int]) -> SequenceLogp:
    """log π of sequences under teacher forcing.

    Args:
        logits: (B, L, V).
        tokens: (B, L) int64.
        squares: tokens of every scale, with sum L.
    """
    logp = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    scales = torch.stack([part.mean(1) for part in logp.split(list(squares), dim=1)], 1)
    return SequenceLogp(logp.sum(1), logp.mean(1), scales)


def margin(
    logp_hr: Tensor, logp_lr: Tensor, ref_logp_hr: Tensor | None = None, ref_logp_lr: Tensor | None = None
) -> Tensor:
    """log π(z_HR) - log π(z_LR), minus the same of the reference, if any: (B,)."""
    found = logp_hr - logp_lr
    if ref_logp_hr is not None and ref_logp_lr is not None:
        found = found - (ref_logp_hr - ref_logp_lr)
    return found


def dpo_loss(
    logp_hr: Tensor,
    logp_lr: Tensor,
    beta: float,
    ref_logp_hr: Tensor | None = None,
    ref_logp_lr: Tensor | None = None,
) -> Tensor:
    """-log σ(β margin), (B,); log 2 where nothing is preferred.

    Args:
        logp_hr, logp_lr: (B,) log-likelihoods of the preferred and of the other tokens, sums or means.
        beta: sharpness; with sums over hundreds of tokens, σ saturates unless it is small.
        ref_logp_hr, ref_logp_lr: of a frozen reference, or None for none.
    """
    return -F.logsigmoid(beta * margin(logp_hr, logp_lr, ref_logp_hr, ref_logp_lr))
