"""The course's model: a next-scale transformer that is told a degraded photo."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from vartutor.data.images import check_image
from vartutor.data.pairs import SCALES, upscale_bicubic
from vartutor.errors import UserError
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.transformer.condition import Condition, LatentPrefix, PhotoPrefix
from vartutor.transformer.generate import Step, iterate
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.prior import LatentPrior

if TYPE_CHECKING:
    from vartutor.baselines.cnn import CnnSuperResolver


class PhotoTransformer(nn.Module):
    """Transformer, prefix and prior, over a frozen tokenizer that is not part of it.

    Args:
        config: of the transformer; with two classes, the second one stands for a photo that is not shown.
        codes: (V, C) codebook of the tokenizer.
        prefix: whether the photo stands before the first map as tokens, as in the paper.
        prior: whether its own latents pull the tokens (ours).
        patch: side of the pixels that become one token of the prefix.
        added: whether these tokens are added to every map's inputs, at its size, instead of standing before the first;
            an ablation.
        encoded: whether they are the latents of the enlarged photo, as in the paper, instead of made of its pixels.
        restorer: makes the first picture of a photo, see :meth:`first`; frozen, and part of this model.

    Raises:
        UserError: tokens are to be added, but there are none.
    """

    def __init__(
        self,
        config: TransformerConfig,
        codes: Tensor,
        *,
        prefix: bool = True,
        prior: bool = True,
        patch: int = 2,
        added: bool = False,
        encoded: bool = False,
        restorer: "CnnSuperResolver | None" = None,
    ):
        super().__init__()
        if added and not prefix:
            raise UserError("the photo's tokens cannot be added to the inputs of a model that has no prefix")
        self.added, self.encoded, self.prefix = added, encoded and prefix, None
        if prefix:
            self.prefix = LatentPrefix(config.width, codes.shape[1]) if encoded else PhotoPrefix(config.width, patch)
        own = LatentPrior(len(config.patch_nums), codes, config.width) if prior else None
        self.body = NextScaleTransformer(config, own)
        self.restorer = restorer
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> "PhotoTransformer":
        """As for every module, but the restorer never learns."""
        super().requires_grad_(requires_grad)
        if self.restorer is not None:
            self.restorer.requires_grad_(False)
        return self

    @torch.no_grad()
    def first(self, photo: Tensor, scales: tuple[int, ...] = SCALES) -> dict[int, Tensor]:
        """The picture that tokens begin at: (B, 3, h, w) in [-1, 1] -> {s: (B, 3, s h, s w)} in [-1, 1].

        The restorer's, so that the tokens only have to say what it cannot; bicubic enlargement where there is none.
        """
        if self.restorer is None:
            return upscale_bicubic(photo, scales)
        pictures = self.restorer.restore(photo)
        return {s: pictures[s] for s in scales}

    @property
    def config(self) -> TransformerConfig:
        """Of the transformer."""
        return self.body.config

    @property
    def reads_latents(self) -> bool:
        """Whether it looks at the degraded photos' latents."""
        return self.encoded or self.body.prior is not None

    @property
    def settings(self) -> dict:
        """What :func:`build_transformer` needs for another one, as JSON can hold it."""
        config = asdict(self.config) | {"patch_nums": list(self.config.patch_nums)}
        prefix = {name: True for name in ("added", "encoded") if getattr(self, name)} | {"prefix": bool(self.prefix)}
        if isinstance(self.prefix, PhotoPrefix):
            prefix["patch"] = self.prefix.patch
        net = {} if self.restorer is None else {"restorer": self.restorer.config.to_json()}
        return {"config": config, **prefix, "prior": self.body.prior is not None, **net}

    def condition(self, photo: Tensor, features: tuple[Tensor, ...], labels: Tensor | None = None) -> Condition:
        """What the transformer is told of a photo (B, 3, h, w) and its latents, from :func:`photo_features`.

        Args:
            labels: (B,) int64 classes, all 0 if left out. Of photos of the null class, the prefix is all zeros; the
                prior stays, since generation adds it whatever the guidance.
        """
        if labels is None:
            labels = torch.zeros(len(photo), dtype=torch.long, device=photo.device)
        vector = self.body.class_emb(labels)
        prefix, sizes, added = None, (), None
        if self.prefix is not None:
            prefix, size = self.prefix(features[-1] if self.encoded else photo)
            sizes = (size,)
            if self.config.classes > 1:
                prefix = prefix * (labels != self.config.classes - 1)[:, None, None]
            if self.added:
                prefix, sizes, added = None, (), prefix.transpose(1, 2).unflatten(2, size)
        return Condition(vector, prefix, sizes, features if self.body.prior is not None else (), added)


def build_transformer(entry: dict, tokenizer: HierarchicalTokenizer) -> PhotoTransformer:
    """An untrained transformer over a tokenizer, as :attr:`PhotoTransformer.settings` describe it."""
    config = TransformerConfig(**entry["config"] | {"patch_nums": tuple(entry["config"]["patch_nums"])})
    options = {name: entry[name] for name in ("prefix", "prior", "patch", "added", "encoded") if name in entry}
    if entry.get("restorer"):
        from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver  # no chapter before the last needs it

        options["restorer"] = CnnSuperResolver(CnnConfig.from_json(entry["restorer"]))
    return PhotoTransformer(config, tokenizer.quantizer.codes, **options)


First = Callable[[Tensor, tuple[int, ...]], dict[int, Tensor]]  # :meth:`PhotoTransformer.first`


@torch.no_grad()
def photo_features(
    tokenizer: HierarchicalTokenizer, photo: Tensor, first: First = upscale_bicubic
) -> tuple[Tensor, ...]:
    """Latents of the first picture of a degraded photo (B, 3, h, w): (B, C, h_s, w_s) for every scale group.

    Args:
        first: makes that picture: a model's :meth:`PhotoTransformer.first`; bicubic if left out.
    """
    return tuple(tokenizer.encode(first(photo, (tokenizer.factor,))[tokenizer.factor]))


@torch.no_grad()
def pair_features(
    tokenizer: HierarchicalTokenizer, photo: Tensor, clean: Tensor, first: First = upscale_bicubic
) -> tuple[tuple[Tensor, ...], ...]:
    """Latents of the clean photo (B, 3, H, W) and of the degraded one (B, 3, h, w), by scale group each."""
    return tuple(tokenizer.encode(clean)), photo_features(tokenizer, photo, first)


Writer = Callable[..., Iterator[Step]]  # :func:`write_maps`, or an add-on in its place


@torch.no_grad()
def write_maps(
    model: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    photo: Tensor,
    *,
    first: First | None = None,
    generators: Sequence[Generator] = (),
    **options,
) -> Iterator[Step]:
    """Write the token maps of degraded photos (B, 3, h, w), one after the other.

    Args:
        first: gives the pictures that the tokens begin at, where they were made before.
        generators: one per photo, for add-ons that draw more than tokens.
        **options: see :func:`vartutor.transformer.generate.iterate`.
    """
    condition = model.condition(photo, photo_features(tokenizer, photo, first or model.first))
    return iterate(model.body, tokenizer, condition, **options)


@torch.no_grad()
def restore_latents(
    model: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    photo: Tensor,
    scales: Sequence[int] | None = None,
    *,
    write: Writer = write_maps,
    **options,
) -> dict[int, Tensor]:
    """Generate for degraded photos (B, 3, h, w): f_hat at the end of every scale group, {s: (B, C, h_s, w_s)}.

    Args:
        scales: all if left out; maps beyond the last one that is asked for are not written.
        write, **options: how, see :func:`write_maps`.
    """
    ends = dict(zip(tokenizer.quantizer.ends, tokenizer.scales, strict=True))
    count = max(end for end, s in ends.items() if scales is None or s in scales)
    steps = islice(write(model, tokenizer, check_image(photo), **options), count)
    return {ends[step.k + 1]: step.f_hat for step in steps if step.k + 1 in ends}


@torch.no_grad()
def force(
    tokenizer: HierarchicalTokenizer,
    clean: tuple[Tensor, ...],
    degraded: tuple[Tensor, ...],
    slip: float = 0.0,
    draws: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Teacher forcing with slips: what the model shall say, and what it sees while it says it.

    In generation, the model sees its own mistakes. So some tokens of the input are not the true ones, but drawn from
    around the degraded photo's rest r, as far from it as the goal g is: with chances ∝ exp(-‖r - e‖² / ‖r - g‖²). What
    comes after aims at correcting them, since every target is the nearest code to what the clean features lack *then*.
    (Han et al., 2024, do this with random flips: Infinity, section 3.4.)

    Args:
        clean, degraded: features of the clean photo and of the degraded one, for every scale group.
        slip: the share of slips of an image is drawn from 0 to this.
        draws: (B, 1 + 2 L) uniform in 0..1, which decide the slips; if left out, torch's global generator does.

    Returns:
        targets (B, L) int64; goals (B, L, C), the vectors whose nearest codes they are; next inputs
        (B, L - p_1², C); the degraded photo's rests (B, L, C).
    """
    quantizer, f_hat, following = tokenizer.quantizer, None, None
    if slip:
        if draws is None:
            draws = torch.rand(len(clean[0]), 1 + 2 * quantizer.tokens, device=clean[0].device)
        share, *draws = draws.split([1, *(2 * p * p for p in quantizer.patch_nums)], 1)
    targets, goals, inputs, rests = [], [], [], []
    for k in range(len(quantizer.patch_nums)):
        goal, rest = (quantizer.rest(f, f_hat, k) for f in (clean, degraded))
        said = idx = quantizer.lookup(goal.transpose(1, 2)[..., None])
        if slip:
            whether, which = draws[k].chunk(2, 1)
            said = torch.where(whether < slip * share, slip_codes(quantizer.codes, rest, goal, which), idx)
        if k:
            inputs.append(following.flatten(2).transpose(1, 2))
        f_hat, following = quantizer.step(f_hat, said, k)
        targets.append(idx)
        goals.append(goal)
        rests.append(rest)
    return torch.cat(targets, 1), torch.cat(goals, 1), torch.cat(inputs, 1), torch.cat(rests, 1)


def slip_codes(codes: Tensor, rest: Tensor, goal: Tensor, uniform: Tensor) -> Tensor:
    """Codes around the rests (B, n, C) -> (B, n) int64; ``uniform`` (B, n) decides which."""
    reach = (rest - goal).square().sum(-1).mean(1)[:, None, None].clamp(min=1e-6)  # one per image and map
    chances = ((2 * rest @ codes.T - codes.square().sum(1)) / reach).softmax(-1)
    return torch.searchsorted(chances.cumsum(-1), uniform[..., None].contiguous())[..., 0].clamp(max=len(codes) - 1)
