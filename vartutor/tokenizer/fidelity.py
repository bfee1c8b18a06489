"""Fidelity: the decoder looks at the degraded photo, as much as one number w allows.

CodeFormer's controllable feature transformation (Zhou et al., 2022, section 3.3), also StableSR's feature wrapping
(Wang et al., 2023): beside a frozen decoder, a small network turns the photo, enlarged to the output's size, into a
scale α and a shift β for the decoder's features, F' = F + w (α ⊙ F + β). w = 0 is the decode of the tokens alone, w = 1
is faithful. Ours: the photo's pixels may also add to the output's, w times, on the decoder's space-to-depth grid, for
at ×1 a mildly degraded photo is better than any decode. The module stands in this room since it needs a decoder and a
photo, and nothing of how the latents came to be.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.data.pairs import SCALES
from vartutor.errors import UserError
from vartutor.tokenizer.autoencoder import ChannelNorm, ResnetBlock, SmallDecoder
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer


class Fidelity(nn.Module):
    """The controllable skip around a :class:`SmallDecoder`; one serves all scales.

    Neighbours are mixed in the photo's own features, in the decoder and beside its last layer, but not in between. The
    last layers start at zero: untrained, the module changes nothing.

    Args:
        width, blocks: of the decoder.
        hidden: channels of the photo's features.
        depth: residual blocks that make these features; they see 8 pixels farther each way per block.
        scales: factors of the images that are decoded.
    """

    def __init__(
        self, width: int = 128, blocks: int = 2, hidden: int = 96, depth: int = 4, scales: tuple[int, ...] = SCALES
    ):
        super().__init__()
        self.scales = tuple(scales)
        self.stem = nn.Conv2d(3 * 16, hidden, 3, padding=1)
        self.scale_bias = nn.Embedding(len(scales), hidden)
        self.block = nn.Sequential(*(ResnetBlock(hidden, hidden, ChannelNorm) for _ in range(depth)))
        self.mix = nn.ModuleList(_mix(width, hidden) for _ in range(1 + blocks))
        self.pixels = nn.Conv2d(width + hidden + 3 * 16, 3 * 16, 3, padding=1)
        for last in (*(mix[-1] for mix in self.mix), self.pixels):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.to(memory_format=torch.channels_last)

    @classmethod
    def of(cls, tokenizer: MultiScaleTokenizer, hidden: int = 96, depth: int = 4) -> "Fidelity":
        """An untrained one for a tokenizer's decoder.

        Raises:
            UserError: the tokenizer does not have the course's small decoder.
        """
        decoder = tokenizer.decoder
        if not isinstance(decoder, SmallDecoder):
            raise UserError("fidelity is for tokenizers with the small autoencoder, whose positions are 4 × 4 pixels")
        return cls(decoder.conv_in.out_channels, len(decoder.block), hidden, depth, getattr(tokenizer, "scales", (1,)))

    @property
    def settings(self) -> dict:
        """The arguments that make another one of the same shape, in words that JSON can hold."""
        hidden, width = self.stem.out_channels, self.mix[0][-1].out_channels // 2
        shape = {"width": width, "blocks": len(self.mix) - 1, "hidden": hidden, "depth": len(self.block)}
        return shape | {"scales": list(self.scales)}

    def forward(self, decoder: SmallDecoder, z: Tensor, photo: Tensor, s: int, w: float = 1.0) -> Tensor:
        """Decode with an eye on the photo.

        Args:
            z: (B, C, h, w), what the decoder is given.
            photo: (B, 3, 4 h, 4 w) in [-1, 1], the degraded photo enlarged to the output's size.
            s: the scale that is decoded.
            w: 0 to 1.

        Returns:
            (B, 3, 4 h, 4 w), not clamped.
        """
        patches = F.pixel_unshuffle(photo, 4)
        bias = self.scale_bias.weight[self.scales.index(s)]
        seen = self.block(self.stem(patches) + bias[:, None, None])
        h = self._steer(decoder.conv_in(z), seen, 0, w)
        for i, block in enumerate(decoder.block, 1):
            h = self._steer(block(h), seen, i, w)
        added = self.pixels(torch.cat([h, seen, patches], 1))
        return F.pixel_shuffle(decoder.conv_out(h) + w * added, 4)

    def _steer(self, h: Tensor, seen: Tensor, i: int, w: float) -> Tensor:
        alpha, beta = self.mix[i](torch.cat([h, seen], 1)).chunk(2, dim=1)
        return h + w * (alpha * h + beta)


def _mix(width: int, hidden: int) -> nn.Sequential:
    """α and β of every position from the decoder's features and the photo's there."""
    return nn.Sequential(
        ChannelNorm(width + hidden), nn.Conv2d(width + hidden, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, 2 * width, 1)
    )


def decode_faithfully(
    tokenizer: MultiScaleTokenizer, fidelity: Fidelity | None, f_hat: Tensor, photo: Tensor, s: int, w: float
) -> Tensor:
    """(B, C, h, w) -> (B, 3, H, W), clamped to [-1, 1]; at w = 0 exactly the tokenizer's own ``decode``.

    Args:
        fidelity: not needed at w = 0.
        photo, s, w: see :class:`Fidelity`.
    """
    if w == 0:
        return tokenizer.decode(f_hat)
    return fidelity(tokenizer.decoder, tokenizer.post_quant_conv(f_hat), photo, s, w).clamp(-1, 1)
