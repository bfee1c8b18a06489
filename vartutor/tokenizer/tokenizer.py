"""A tokenizer: encoder, quantizer and decoder with the methods that every tokenizer of the course has."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vartutor.data.images import check_image
from vartutor.data.pairs import pyramid
from vartutor.tokenizer.multiscale import MultiScaleQuantizer, Size, shrink


class MultiScaleTokenizer(nn.Module):
    """VAR's tokenizer: photos to token maps from coarse to fine, and back.

    Args:
        quantizer: holds the ladder and the codebook.
        encoder: photos in [-1, 1] to features with as many channels as a code.
        decoder: features to photos.
    """

    def __init__(self, quantizer: MultiScaleQuantizer, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        z = quantizer.codes.shape[1]
        self.encoder, self.decoder, self.quantizer = encoder, decoder, quantizer
        self.quant_conv, self.post_quant_conv = (nn.Conv2d(z, z, 3, padding=1) for _ in range(2))

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> features f (B, C, h, w)."""
        return self.quant_conv(self.encoder(x))

    def tokenize(self, x: Tensor, sizes: Sequence[Size] | None = None) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> K index maps (B, p_k²) int64."""
        return self.quantizer.tokenize(self.encode(check_image(x)), sizes)

    def latents(self, indices: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> list[Tensor]:
        """Index maps -> f_hat (B, C, h, w) after each scale."""
        return self.quantizer.latents(indices, sizes)

    def next_inputs(self, indices: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> Tensor:
        """Index maps -> teacher-forcing inputs (B, L - p_1², C) of the scales after the first."""
        return self.quantizer.next_inputs(indices, sizes)

    def decode(self, f_hat: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, H, W), clamped to [-1, 1]."""
        return self.decoder(self.post_quant_conv(f_hat)).clamp(-1, 1)

    def reconstruct(self, x: Tensor, sizes: Sequence[Size] | None = None) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> what its tokens say of it, same shape and range."""
        return self.decode(self.latents(self.tokenize(x, sizes), sizes)[-1])

    def forward(
        self, x: Tensor, sizes: Sequence[Size] | None = None, skip: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """For training: (B, 3, H, W) -> the reconstruction, not clamped; the index maps; the quantizer's loss.

        ``skip`` (B,) bool marks the images that go around the quantizer.
        """
        f = self.encode(x)
        with torch.autocast(x.device.type, enabled=False):  # distances need all digits
            f_hat, indices, loss = self.quantizer(f.float(), sizes, skip)
        return self.decoder(self.post_quant_conv(f_hat)), indices, loss


def decode_small(model: MultiScaleTokenizer, f_hat: Tensor, size: int, image_size: int) -> dict[str, Tensor]:
    """Two ways to get a small picture out of a plain tokenizer's unfinished f_hat (B, C, h, w).

    Returns:
        ``decoded first`` and ``shrunk first``, (B, 3, size, size) in [-1, 1] each.
    """
    side = f_hat.shape[-1] * size // image_size
    return {
        "decoded first": pyramid(model.decode(f_hat), (size, image_size))[size],
        "shrunk first": model.decode(shrink(f_hat, (side, side))),
    }
