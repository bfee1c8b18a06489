"""Fidelity: the decoder looks at the degraded photo, as much as one number w allows.

CodeFormer's controllable feature transformation (Zhou et al., 2022, section 3.3), also StableSR's feature wrapping
(Wang et al., 2023): beside a frozen decoder, a small network turns the photo, enlarged to the output's size, into a
scale α and a shift β for the decoder's features, F' = F + α ⊙ F + β. Ours: the photo's pixels, and what a small network
makes of them, may also add to the output's, as tokens say little more at ×1 than a mildly degraded photo. w mixes
the two pictures, with and without that look; CodeFormer's w stands before α and β, where it leads the decoder through
features that no training showed it. The module stands in this room since it needs a decoder and a photo, and nothing
of how the latents came to be.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.data.pairs import SCALES
from vartutor.errors import UserError
from vartutor.tokenizer.autoencoder import ChannelNorm, ResnetBlock, SmallDecoder
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer

BALANCED = 0.6  # the w with the least perceptual distance on validation photos, see chapter 07


class Fidelity(nn.Module):
    """The controllable skip around a :class:`SmallDecoder`; one serves all scales.

    The photo is looked at pixel by pixel: its features lie on its own grid, s times coarser than the output, and are
    then gathered on the decoder's. The last layers start at zero: untrained, the module changes nothing.

    Args:
        width, blocks, factor: of the decoder.
        hidden: channels of the photo's features.
        depth: residual blocks that make these features.
        scales: factors of the images that are decoded, each a divisor of the decoder's factor.
        base: what the module adds to: the picture of the ``decoder``, or the ``photo``, for a photo that was restored
            before, so that it starts at its quality. The decoder then speaks through its features alone.
        blind: whether the decoder is given zeros instead of latents: a control that shows what the tokens say.
        draws: whether it was taught to believe its tokens, by true ones; then codes are drawn where nobody says more.
    """

    def __init__(
        self,
        width: int = 128,
        blocks: int = 2,
        hidden: int = 64,
        depth: int = 6,
        scales: tuple[int, ...] = SCALES,
        factor: int = 4,
        base: str = "decoder",
        blind: bool = False,
        draws: bool = False,
    ):
        super().__init__()
        self.scales, self.factor, self.base, self.blind, self.draws = tuple(scales), factor, base, blind, draws
        self.stems = nn.ModuleList(nn.Conv2d(3 * s * s, hidden, 3, padding=1) for s in scales)
        self.block = nn.Sequential(*(ResnetBlock(hidden, hidden, ChannelNorm) for _ in range(depth)))
        self.heads = nn.ModuleList(nn.Conv2d(hidden, 3 * s * s, 3, padding=1) for s in scales)
        self.gather = nn.ModuleList(nn.Conv2d(hidden * (factor // s) ** 2, hidden, 1) for s in scales)
        self.mix = nn.ModuleList(_mix(width, hidden) for _ in range(1 + blocks))
        patch = 3 * factor * factor
        self.pixels = nn.Conv2d(width + hidden + patch, patch, 3, padding=1)
        for last in (*self.heads, *(mix[-1] for mix in self.mix), self.pixels):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.to(memory_format=torch.channels_last)

    @classmethod
    def of(cls, tokenizer: MultiScaleTokenizer, hidden: int = 64, depth: int = 6, **options) -> "Fidelity":
        """An untrained one for a tokenizer's decoder; options are ``base``, ``blind`` and ``draws``.

        Raises:
            UserError: the tokenizer does not have the course's small decoder.
        """
        decoder = tokenizer.decoder
        if not isinstance(decoder, SmallDecoder):
            raise UserError("fidelity is for tokenizers with the small autoencoder, which has no norm over a photo")
        shape, scales = (decoder.conv_in.out_channels, len(decoder.block)), getattr(tokenizer, "scales", (1,))
        return cls(*shape, hidden, depth, scales, decoder.factor, **options)

    @property
    def balanced(self) -> float:
        """The w that is taken where none is asked for."""
        return BALANCED if self.base == "decoder" else 1.0

    @property
    def settings(self) -> dict:
        """The arguments that make another one of the same shape, in words that JSON can hold."""
        hidden, width = self.stems[0].out_channels, self.mix[0][-1].out_channels // 2
        shape = {"width": width, "blocks": len(self.mix) - 1, "hidden": hidden, "depth": len(self.block)}
        shape |= {"scales": list(self.scales), "factor": self.factor}
        return shape | {"base": self.base, "blind": self.blind, "draws": self.draws}

    def forward(self, decoder: SmallDecoder, z: Tensor, photo: Tensor, s: int) -> Tensor:
        """Decode with an eye on the photo.

        Args:
            z: (B, C, h, w), what the decoder is given.
            photo: (B, 3, f h, f w) in [-1, 1], f the decoder's factor: the degraded photo at the output's size.
            s: the scale that is decoded.

        Returns:
            (B, 3, f h, f w), not clamped.
        """
        fine, seen = self.look(photo, s)
        h = self._steer(decoder.conv_in(torch.zeros_like(z) if self.blind else z), seen, 0)  # (B, width, h, w)
        for k, block in enumerate(decoder.block, 1):
            h = self._steer(block(h), seen, k)
        coarse = self.pixels(torch.cat([h, seen, F.pixel_unshuffle(photo, self.factor)], 1))  # (B, 3 * f * f, h, w)
        added = F.pixel_shuffle(coarse, self.factor) + F.pixel_shuffle(self.heads[self.scales.index(s)](fine), s)
        return (photo if self.base == "photo" else F.pixel_shuffle(decoder.conv_out(h), self.factor)) + added

    def look(self, photo: Tensor, s: int) -> tuple[Tensor, Tensor]:
        """The enlarged photo's features, for every degraded pixel and for every position of the decoder.

        Args:
            photo, s: as for :meth:`forward`.

        Returns:
            (B, hidden, f h / s, f w / s) and (B, hidden, h, w).
        """
        i = self.scales.index(s)
        fine = self.block(self.stems[i](F.pixel_unshuffle(photo, s)))
        return fine, self.gather[i](F.pixel_unshuffle(fine, self.factor // s))

    def _steer(self, h: Tensor, seen: Tensor, i: int) -> Tensor:
        alpha, beta = self.mix[i](torch.cat([h, seen], 1)).chunk(2, dim=1)  # (B, width, h, w) each
        return h + alpha * h + beta


def _mix(width: int, hidden: int) -> nn.Sequential:
    """α and β of every position from the decoder's features and the photo's there."""
    return nn.Sequential(
        ChannelNorm(width + hidden), nn.Conv2d(width + hidden, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, 2 * width, 1)
    )


def decode_faithfully(
    tokenizer: MultiScaleTokenizer, fidelity: Fidelity | None, f_hat: Tensor, photo: Tensor, s: int, w: float
) -> Tensor:
    """(B, C, h, w) -> (B, 3, H, W), clamped to [-1, 1]: 1 - w of the tokenizer's own ``decode``, w of the faithful one.

    Squared errors are convex: the mixture's is at most the mixture of theirs.

    Args:
        fidelity: not needed at w = 0.
        photo, s: see :class:`Fidelity`.
        w: 0 (the tokens alone) to 1 (faithful); only in between are both pictures decoded.
    """
    if w == 0:
        return tokenizer.decode(f_hat)
    faithful = fidelity(tokenizer.decoder, tokenizer.post_quant_conv(f_hat), photo, s).clamp(-1, 1)
    return faithful if w == 1 else torch.lerp(tokenizer.decode(f_hat), faithful, w)
