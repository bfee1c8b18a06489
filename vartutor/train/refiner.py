"""What the diffusion refiner learns by: transformer, tokenizer and so all tokens stay frozen."""

from dataclasses import dataclass

from torch import Tensor

from vartutor.errors import UserError


@dataclass(frozen=True)
class RefinerObjective:
    """Whose tokens the residuals are left by."""

    forced: bool = False  # true tokens, as VARSR trains, instead of the transformer's own
    temperature: float = 1.0  # of its own tokens
    expected: bool = False  # mean codes instead of sampled ones

    def __post_init__(self):
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature:g}: give a number above 0")


@dataclass(frozen=True)
class Unsaid:
    """What the finest map's tokens leave: hidden states (B, n, D), vectors said and residuals (B, n, C), seeds (B,)."""

    hidden: Tensor
    said: Tensor
    rest: Tensor
    seeds: Tensor
