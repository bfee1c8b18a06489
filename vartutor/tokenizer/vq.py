"""Vector quantization: replace a vector by the nearest entry of a codebook.

Van den Oord et al., 2017, section 3; the ways to keep all codes in use are those that later work collected.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.errors import UserError

METRICS = ("euclidean", "cosine")
GRADIENTS = ("straight-through", "rotation")
LEARNING = ("loss", "ema")


def nearest_code(z: Tensor, codebook: Tensor, *, metric: str = "euclidean", max_elements: int | None = None) -> Tensor:
    """Index of the nearest code for each vector.

    Args:
        z: (N, C) vectors.
        codebook: (V, C) codes.
        metric: ``euclidean``: argmin |z - e|²; ``cosine``: argmax of the angle's cosine.
        max_elements: the (N, V) distances are computed in slices of at most this many numbers; by default
            what stays in a CPU core's cache, and more elsewhere.

    Returns:
        (N,) int64 in 0..V-1.
    """
    z, codebook = z.detach().float(), codebook.detach().float()
    if metric == "cosine":
        z, codebook = F.normalize(z, dim=1), F.normalize(codebook, dim=1)
    # |z - e|² = |z|² + |e|² - 2 z·e; the first term is the same for all codes.
    norms = codebook.square().sum(1)
    on_cpu = z.device.type == "cpu"
    rows = max(1, (max_elements or (2**18 if on_cpu else 2**24)) // len(codebook))
    slices = []
    for part in z.split(rows):
        distances = torch.addmm(norms, part, codebook.T, alpha=-2)
        if on_cpu and distances.dtype == torch.float32:  # torch's own argmin takes as long as the product
            slices.append(torch.from_numpy(distances.numpy().argmin(1)))
        else:
            slices.append(distances.argmin(1))
    return torch.cat(slices) if slices else z.new_zeros(0, dtype=torch.long)


def straight_through(z: Tensor, quantized: Tensor) -> Tensor:
    """The value of ``quantized``, and the gradient as if it were ``z``: any shape, both alike."""
    return z + (quantized - z).detach()


def rotate_through(z: Tensor, quantized: Tensor) -> Tensor:
    """The value of ``quantized``; the gradient is turned and scaled as z was (Fifty et al., 2024, section 4).

    Both are (N, C). R is the reflection product that turns z's direction into the code's:
    λ (z - 2 r rᵀz + 2 q̂ ẑᵀz), with all factors but z held constant.
    """
    z_hat, q_hat = F.normalize(z.detach(), dim=1), F.normalize(quantized.detach(), dim=1)
    r = F.normalize(z_hat + q_hat, dim=1)
    scale = quantized.detach().norm(dim=1, keepdim=True) / z.detach().norm(dim=1, keepdim=True).clamp(min=1e-6)
    turned = z - 2 * r * (r * z).sum(1, keepdim=True) + 2 * q_hat * (z_hat * z).sum(1, keepdim=True)
    return scale * turned


def all_reduce(x: Tensor) -> Tensor:
    """Sum over all processes, in place and of any shape; unchanged where there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(x)
    return x


def broadcast(x: Tensor) -> Tensor:
    """The tensor of the first process, in place and of any shape, so that random choices agree."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(x, src=0)
    return x


def average_gradients(module: nn.Module) -> None:
    """Means of the gradients over all processes, in place, for a module that no DDP looks after."""
    if dist.is_available() and dist.is_initialized():
        for parameter in module.parameters():
            all_reduce(parameter.grad).div_(dist.get_world_size())


def count_hits(idx: Tensor, size: int) -> Tensor:
    """(size,) float: how often each code occurs in the indices, over all processes."""
    idx = idx.flatten()  # bincount would make the host wait for the device
    return all_reduce(torch.zeros(size, device=idx.device).index_add_(0, idx, torch.ones(len(idx), device=idx.device)))


def dead_codes(hits: Tensor, share: float) -> Tensor:
    """Numbers of the codes whose hits (V,) are below ``share`` of an even portion."""
    return (hits < share * hits.mean()).nonzero()[:, 0]


@torch.no_grad()
def follow(
    codes: Tensor, sums: Tensor, weights: Tensor, z: Tensor, idx: Tensor, decay: float, votes: Tensor | None = None
) -> None:
    """Move codes (V, C) to the moving mean of their vectors, in place and over all processes.

    Args:
        sums, weights: (V, C) and (V,) moving sums of the vectors of each code and of their votes.
        z, idx: (N, C) vectors and the codes they chose.
        votes: (N,) how much each vector counts; 1 if left out.
    """
    votes = torch.ones(len(idx), device=idx.device) if votes is None else votes
    totals = all_reduce(torch.zeros_like(sums).index_add_(0, idx, votes[:, None] * z.detach().float()))
    sums.lerp_(totals, 1 - decay)
    weights.lerp_(all_reduce(torch.zeros_like(weights).index_add_(0, idx, votes)), 1 - decay)
    alive = weights[:, None] > 1e-3  # a code without vectors stays where it is
    codes.copy_(torch.where(alive, sums / weights[:, None].clamp(min=1e-3), codes))


def kmeans(z: Tensor, k: int, *, metric: str = "euclidean") -> Tensor:
    """Centres (k, C) of the vectors (N, C) by ten steps of Lloyd's algorithm, started from random vectors.

    A centre that loses all its vectors starts again at a random one.
    """
    z = z.detach().float()
    centres = z[torch.randint(len(z), (k,), device=z.device)] if len(z) < k else z[torch.randperm(len(z))[:k]]
    for _ in range(10):
        idx = nearest_code(z, centres, metric=metric)
        counts = torch.bincount(idx, minlength=k)
        sums = torch.zeros_like(centres).index_add_(0, idx, z)
        fresh = z[torch.randint(len(z), (k,), device=z.device)]
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], fresh)
    return centres


class VectorQuantizer(nn.Module):
    """A codebook of ``size`` codes, with its lookup, its losses and the care of its codes.

    Args:
        size: number of codes V.
        dim: length C of a code.
        metric: ``euclidean`` or ``cosine``.
        gradient: what the encoder gets: ``straight-through`` or ``rotation``.
        learn: the codes follow the ``loss``, or an exponential moving average of their vectors (``ema``).
        beta: weight of the commitment loss.
        decay: of the moving averages of hits, and of vectors for ``ema``.

    Attributes:
        codes: (V, C).
        hits: (V,) moving average of how many vectors of a batch a code gets.

    Raises:
        UserError: an unknown metric, gradient or way of learning.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        metric: str = "euclidean",
        gradient: str = "straight-through",
        learn: str = "loss",
        beta: float = 0.25,
        decay: float = 0.99,
    ):
        super().__init__()
        for word, known in ((metric, METRICS), (gradient, GRADIENTS), (learn, LEARNING)):
            if word not in known:
                raise UserError(f"unknown {word!r}: choose one of {', '.join(known)}")
        self.metric, self.gradient, self.learn, self.beta, self.decay = metric, gradient, learn, beta, decay
        self.codes = nn.Parameter(torch.randn(size, dim) / dim**0.5, requires_grad=learn == "loss")
        self.register_buffer("hits", torch.zeros(size))
        if learn == "ema":
            self.register_buffer("sums", self.codes.detach().clone())
            self.register_buffer("weights", torch.ones(size))

    def lookup(self, z: Tensor) -> Tensor:
        """(N, C) -> (N,) int64: the nearest codes."""
        return nearest_code(z, self.codes, metric=self.metric)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize a feature map.

        Args:
            z: (B, C, H, W).

        Returns:
            the quantized map (B, C, H, W), which carries the encoder's gradient; indices (B, H, W) int64; the
            loss ‖sg[z] - e‖² + β ‖z - sg[e]‖² as a mean over elements (its first term only if the codes learn by it).
        """
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        idx = self.lookup(flat)
        if self.training:
            self.observe(flat, idx)
        quantized = self.codes[idx]
        loss = self.beta * F.mse_loss(flat, quantized.detach())
        if self.learn == "loss":
            loss = loss + F.mse_loss(quantized, flat.detach())
        through = straight_through if self.gradient == "straight-through" else rotate_through
        out = through(flat, quantized).view(z.shape[0], *z.shape[2:], -1).permute(0, 3, 1, 2)
        return out, idx.view(z.shape[0], *z.shape[2:]), loss

    @torch.no_grad()
    def observe(self, z: Tensor, idx: Tensor) -> None:
        """Update hits, and with ``ema`` the codes, from vectors (N, C) and their indices, over all processes."""
        self.hits.lerp_(count_hits(idx, len(self.codes)), 1 - self.decay)
        if self.learn == "ema":
            follow(self.codes, self.sums, self.weights, z, idx, self.decay)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Put the codes at the k-means centres of vectors (N, C); every process takes those of the first."""
        self._place(torch.arange(len(self.codes), device=z.device), kmeans(z, len(self.codes), metric=self.metric))

    @torch.no_grad()
    def revive(self, z: Tensor, share: float = 0.05) -> int:
        """Move codes that get less than ``share`` of an even portion of the hits to random vectors of z (N, C).

        Returns:
            how many codes moved.
        """
        dead = dead_codes(self.hits, share)
        if len(dead):
            self._place(dead, z[torch.randint(len(z), (len(dead),), device=z.device)].float())
        return len(dead)

    def _place(self, which: Tensor, codes: Tensor) -> None:
        self.codes.data[which] = broadcast(codes.contiguous()).to(self.codes.dtype)
        self.hits[which] = self.hits.mean()
        if self.learn == "ema":
            self.sums[which], self.weights[which] = self.codes[which].float(), 1.0


def usage(idx: Tensor, size: int) -> float:
    """Share of the ``size`` codes that occur in indices of any shape, 0 to 1."""
    return len(idx.unique()) / size


def perplexity(idx: Tensor, size: int) -> float:
    """exp of the entropy of indices of any shape: how many codes, used evenly, would be as varied; 1 to ``size``."""
    p = torch.bincount(idx.flatten(), minlength=size).double() / max(1, idx.numel())
    return torch.exp(-(p * p.clamp(min=1e-12).log()).sum()).item()
