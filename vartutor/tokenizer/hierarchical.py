"""Hierarchical image tokenization (HIT): the tokens of a small photo are the first tokens of the larger one.

arXiv 2506.04990. The photo is shrunk to each image scale and encoded. Scale group 1 quantizes the features of
the smallest; group g starts from the enlarged sum of all tokens so far, and quantizes what that does not explain
of its own features. So decoding after each group gives a real image at ×1, ×2 and ×4. One encoder, one codebook
and one decoder serve all groups. How φ is shared and what enlarges between groups is our choice; the
paper does not say.
"""

import copy
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.data.pairs import SCALES, pyramid
from vartutor.errors import UserError
from vartutor.tokenizer.multiscale import MultiScaleQuantizer, Size, shrink
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer


class Bridge(nn.Module):
    """From the sum of one group to the start of the next: bicubic, plus what two convolutions learn to add.

    Features of a larger photo are not the enlarged features of the smaller one; but they can be guessed from them.

    Args:
        channels: C.
        hidden: channels between the convolutions; 0 leaves bicubic alone.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.hidden = hidden
        if hidden:
            self.conv1, self.conv2 = (nn.Conv2d(*io, 3, padding=1) for io in ((channels, hidden), (hidden, channels)))
            nn.init.zeros_(self.conv2.weight)
            nn.init.zeros_(self.conv2.bias)

    def forward(self, f_hat: Tensor, size: Size) -> Tensor:
        """(B, C, h, w) -> (B, C, height, width)."""
        wide = F.interpolate(f_hat, size=size, mode="bicubic")
        return wide + self.conv2(F.silu(self.conv1(wide))) if self.hidden else wide


class HierarchicalQuantizer(MultiScaleQuantizer):
    """A multi-scale quantizer whose ladder has groups, one for each image scale.

    With a single group it is :class:`MultiScaleQuantizer`, but for features in a list.

    Args:
        groups: the ladder of each group, such as ``((1, 2, 4), (6, 8), (12, 16))``.
        overlap: whether a group starts from the tokens of the groups before it; False is the ablation in
            which every group quantizes its image alone.
        bridge: see :class:`Bridge`; one serves all borders between groups.
        **options: as for :class:`MultiScaleQuantizer`.

    Raises:
        UserError: an empty group.
    """

    def __init__(self, groups: Sequence[Sequence[int]], *args, overlap: bool = True, bridge: int = 0, **options):
        if not groups or not all(groups):
            raise UserError("every scale group needs at least one side, such as ((1, 2, 4), (8,), (16,))")
        super().__init__([p for group in groups for p in group], *args, **options)
        self.groups, self.overlap = tuple(map(tuple, groups)), overlap
        self.ends = tuple(accumulate(len(group) for group in self.groups))  # scales done after each group
        self.bridge = Bridge(self.codes.shape[1], bridge if overlap and len(self.groups) > 1 else 0)
        self.group_of = [g for g, group in enumerate(self.groups) for _ in group]

    def _start(self, f_hat: Tensor | None, canvas: Size, like: Tensor) -> Tensor:
        """What a group begins with: f_hat of the group before, enlarged to its canvas; zeros without overlap."""
        if f_hat is None or not self.overlap:
            return like.new_zeros(*like.shape[:2], *canvas)
        return self.bridge(f_hat, canvas)

    def _check(self, features: Sequence[Tensor], sizes: list[Size]) -> None:
        for f, end in zip(features, self.ends, strict=True):
            if tuple(f.shape[-2:]) != tuple(sizes[end - 1]):
                raise UserError(f"features of {tuple(f.shape[-2:])}, but their group ends at {tuple(sizes[end - 1])}")

    def _scales(self, features: Sequence[Tensor], sizes: Sequence[Size] | None):
        """Yield (idx_k, z_k, f_hat_k, f): tokens, what was looked up, the sum on its group's canvas, its target."""
        sizes = self._sizes(sizes)
        if len(features) != len(self.groups):
            raise UserError(f"{len(features)} feature maps for {len(self.groups)} scale groups")
        self._check(features, sizes)
        f_hat = None
        for k, size in enumerate(sizes):
            f = features[self.group_of[k]]  # (B, C, H, W)
            if k == 0 or k in self.ends:
                f_hat = self._start(f_hat, f.shape[-2:], f)  # on the new group's canvas: (B, C, H, W)
            rest = (f - f_hat).detach()
            z = shrink(rest, size)  # (B, C, h_k, w_k)
            idx = self.lookup(z)  # (B, h_k * w_k)
            f_hat = f_hat + self.enlarge(self.embed(idx, size), f.shape[-2:], k)
            yield idx, z, f_hat, f

    @torch.no_grad()
    def tokenize(self, f: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> list[Tensor]:
        """Features of every image scale, (B, C, h_g, w_g) each -> K index maps (B, h_k * w_k) int64.

        Raises:
            UserError: another number of feature maps, or one that is not of its group's last size.
        """
        return [idx for idx, *_ in self._scales(f, sizes)]

    def forward(
        self, f: Sequence[Tensor], sizes: Sequence[Size] | None = None, skip: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Quantize for training.

        Returns:
            f_hat (B, C, h_g, w_g) at the end of every group, straight-through to its features; the K index maps;
            the loss of :meth:`MultiScaleQuantizer.forward`, each scale against the features of its group.
        """
        latents, indices, loss = self._fit(f, sizes, skip)
        return [latents[end - 1] for end in self.ends], indices, loss

    def _canvas(self, k: int, sizes: list[Size]) -> Size:
        return sizes[self.ends[self.group_of[k]] - 1]

    def step(
        self, f_hat: Tensor | None, idx: Tensor, k: int, sizes: Sequence[Size] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Add scale k's tokens (B, h_k * w_k), or vectors in their place; f_hat is None before the first.

        Returns:
            f_hat on the canvas of scale k's group, and the transformer's input for scale k + 1: f_hat enlarged
            to that scale's canvas if a group begins there, and shrunk to its size.
        """
        sizes = self._sizes(sizes)
        codes = self._vectors(idx, sizes[k])
        if k == 0 or k in self.ends:
            f_hat = self._start(f_hat, self._canvas(k, sizes), codes)
        f_hat = f_hat + self.enlarge(codes, self._canvas(k, sizes), k)
        if k + 1 == len(sizes):
            return f_hat, f_hat
        following = f_hat
        if k + 1 in self.ends:
            following = self._start(f_hat, self._canvas(k + 1, sizes), codes)
        return f_hat, shrink(following, sizes[k + 1])

    def rest(self, f: Sequence[Tensor], f_hat: Tensor | None, k: int, sizes: Sequence[Size] | None = None) -> Tensor:
        """What the tokens of scale k are to explain of its group's features, given f_hat: (B, h_k * w_k, C)."""
        sizes = self._sizes(sizes)
        target = f[self.group_of[k]]
        if k == 0 or k in self.ends:
            f_hat = self._start(f_hat, self._canvas(k, sizes), target)
        return super().rest(target, f_hat, k, sizes)

    def first(self, groups: int) -> "HierarchicalQuantizer":
        """The same weights for the first ``groups`` of the ladder's groups alone; every scale keeps its φ."""
        cut = copy.copy(self)
        cut.groups, cut.ends = self.groups[:groups], self.ends[:groups]
        cut.patch_nums, cut.group_of = self.patch_nums[: cut.ends[-1]], self.group_of[: cut.ends[-1]]
        return cut


class HierarchicalTokenizer(MultiScaleTokenizer):
    """HIT: one encoder, one codebook and one decoder for a photo at ×1, ×2 and ×4.

    Args:
        quantizer: with one group per scale.
        encoder, decoder: as for :class:`MultiScaleTokenizer`.
        scales: factor of each group relative to the smallest image.

    Attributes:
        factor: of the image that is encoded; the largest scale, and after :meth:`first` still that of the whole.
    """

    def __init__(
        self,
        quantizer: HierarchicalQuantizer,
        encoder: nn.Module,
        decoder: nn.Module,
        scales: tuple[int, ...] = SCALES,
    ):
        if len(scales) != len(quantizer.groups):
            raise UserError(f"{len(scales)} image scales for {len(quantizer.groups)} scale groups")
        super().__init__(quantizer, encoder, decoder)
        self.scales, self.factor = scales, max(scales)

    def first(self, groups: int) -> "HierarchicalTokenizer":
        """The same weights for the first scales alone: of the same photo, the same first tokens, and no others.

        It is meant for use, not for training.

        Raises:
            UserError: less than one group, or more than there are.
        """
        if not 1 <= groups <= len(self.scales):
            raise UserError(f"the first {groups} of {len(self.scales)} scale groups: give 1 to {len(self.scales)}")
        cut = copy.copy(self)
        cut._modules = dict(self._modules)  # else both would get the shorter quantizer
        cut.quantizer, cut.scales = self.quantizer.first(groups), self.scales[:groups]
        return cut

    def encode(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1], the largest image -> features (B, C, h_s, w_s) of every scale, smallest first."""
        images = pyramid(x, tuple(sorted({*self.scales, self.factor})))
        return [super(HierarchicalTokenizer, self).encode(images[s]) for s in self.scales]

    def complete(self, indices: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> dict[int, Tensor]:
        """Index maps -> {s: (B, C, h_s, w_s)}, f_hat of every scale whose group is complete."""
        latents = self.latents(indices, sizes)
        ends = [end for end in self.quantizer.ends if end <= len(latents)]
        return {s: latents[end - 1] for s, end in zip(self.scales, ends, strict=False)}

    def decode_scales(self, indices: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> dict[int, Tensor]:
        """Index maps -> {s: (B, 3, H_s, W_s) in [-1, 1]} for every scale whose group is complete."""
        return {s: self.decode(f_hat) for s, f_hat in self.complete(indices, sizes).items()}

    def forward(
        self, x: Tensor, sizes: Sequence[Size] | None = None, skip: Tensor | None = None
    ) -> tuple[dict[int, Tensor], list[Tensor], Tensor]:
        """For training: (B, 3, H, W) -> {s: reconstruction, not clamped}; the index maps; the quantizer's loss.

        ``skip`` (B,) bool marks the images that go around the quantizer.
        """
        features = self.encode(x)
        with torch.autocast(x.device.type, enabled=False):  # distances need all digits
            ends, indices, loss = self.quantizer([f.float() for f in features], sizes, skip)
        images = {s: self.decoder(self.post_quant_conv(f_hat)) for s, f_hat in zip(self.scales, ends, strict=True)}
        return images, indices, loss
