"""Floating-point operations of a training step, by formula.

A matrix or a filter is used once per position, at 2 FLOPs per weight; attention takes 4 C per query and key that it
sees, with C channels. The backward pass costs the same again for the weights and once more for the inputs that need a
gradient. Norms, activations and resampling are left out: together they are below one per cent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from vartutor.tokenizer.autoencoder import AttnBlock, Decoder, Encoder
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.multiscale import MultiScaleQuantizer
from vartutor.transformer.attention import block_causal
from vartutor.transformer.photo import PhotoTransformer


@dataclass(frozen=True)
class Flops:
    """Of one module and one image: ``forward`` and ``backward``, which includes what is computed again."""

    name: str
    forward: float
    backward: float = 0.0

    @property
    def total(self) -> float:
        """Both."""
        return self.forward + self.backward


def dense(module: nn.Module, positions: int) -> int:
    """2 FLOPs per weight and position of every convolution and every linear layer in the module."""
    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return 2 * positions * sum(layer.weight.numel() for layer in layers)


def attention(queries: int, keys: int, channels: int) -> int:
    """Queries by keys, and the weighted sum of values."""
    return 4 * queries * keys * channels


def block_causal_attention(lengths: Sequence[int], channels: int, branches: int = 1) -> int:
    """Every query with the keys that it sees; arguments as for :func:`vartutor.transformer.attention.block_causal`."""
    return sum(
        attention(queries, sum(keys.stop - keys.start for keys in seen), channels)
        for queries, seen in block_causal(lengths, branches)
    )


def _level(module: nn.Module, positions: int) -> int:
    blocks = [m for m in module.modules() if isinstance(m, AttnBlock)]
    return dense(module, positions) + sum(attention(positions, positions, b.proj_out.out_channels) for b in blocks)


def encoder_flops(encoder: nn.Module, side: int) -> int:
    """One pass of an image of ``side`` pixels, square, through either encoder."""
    if not isinstance(encoder, Encoder):
        return dense(encoder, (side // 4) ** 2)
    total, n = dense(encoder.conv_in, side**2), side**2
    for level in encoder.down:
        total += _level(level.block, n) + _level(level.attn, n)
        if dense(level.downsample, 1):
            n //= 4
            total += dense(level.downsample, n)
    return total + _level(encoder.mid, n) + dense(encoder.conv_out, n)


def decoder_flops(decoder: nn.Module, side: int) -> int:
    """One pass through either decoder, to an image of ``side`` pixels."""
    if not isinstance(decoder, Decoder):
        return dense(decoder, (side // 4) ** 2)
    n = (side // 2 ** (len(decoder.up) - 1)) ** 2
    total = dense(decoder.conv_in, n) + _level(decoder.mid, n)
    for level in reversed(decoder.up):
        total += _level(level.block, n) + _level(level.attn, n)
        if dense(level.upsample, 1):
            n *= 4
            total += dense(level.upsample, n)
    return total + dense(decoder.conv_out, n)


def lookup_flops(quantizer: MultiScaleQuantizer) -> int:
    """Products of every position of every scale with every code, once."""
    return 2 * quantizer.tokens * quantizer.codes.numel()


def smooth_flops(quantizer: MultiScaleQuantizer) -> int:
    """φ of every scale, on the canvas of its group."""
    groups = getattr(quantizer, "groups", (quantizer.patch_nums,))
    if quantizer.phi.ratio <= 1e-6:
        return 0
    return sum(len(group) * dense(quantizer.phi.convs[0], group[-1] ** 2) for group in groups)


def bridge_flops(quantizer: MultiScaleQuantizer) -> int:
    """The bridge to every group after the first, once each; 0 where there is none."""
    if not hasattr(quantizer, "bridge"):
        return 0
    return sum(dense(quantizer.bridge, group[-1] ** 2) for group in quantizer.groups[1:])


def _sides(model: nn.Module, image_size: int) -> list[int]:
    scales = model.scales if isinstance(model, HierarchicalTokenizer) else (1,)
    return [image_size * s // max(scales) for s in scales]


def encode_flops(tokenizer: nn.Module, image_size: int) -> int:
    """Features of a photo at every scale of the tokenizer."""
    factor = tokenizer.encoder.factor
    return sum(
        encoder_flops(tokenizer.encoder, side) + dense(tokenizer.quant_conv, (side // factor) ** 2)
        for side in _sides(tokenizer, image_size)
    )


def decode_flops(tokenizer: nn.Module, image_size: int) -> int:
    """An image from the features, at every scale of the tokenizer."""
    factor = tokenizer.encoder.factor
    return sum(
        decoder_flops(tokenizer.decoder, side) + dense(tokenizer.post_quant_conv, (side // factor) ** 2)
        for side in _sides(tokenizer, image_size)
    )


def tokenizer_step(tokenizer: nn.Module, image_size: int) -> list[Flops]:
    """A training step of the tokenizer for one image, without perceptual and adversarial losses."""
    encode, decode = encode_flops(tokenizer, image_size), decode_flops(tokenizer, image_size)
    factor = 1 if isinstance(tokenizer.encoder, Encoder) else 16
    first = sum(dense(tokenizer.encoder.conv_in, side**2 // factor) for side in _sides(tokenizer, image_size))
    learns = tokenizer.quantizer.codes.requires_grad
    smooth, bridge = smooth_flops(tokenizer.quantizer), bridge_flops(tokenizer.quantizer)
    return [
        Flops("encoder", encode, 2 * encode - first),
        Flops("nearest codes", lookup_flops(tokenizer.quantizer)),
        Flops("φ and bridge", smooth + bridge, (2 if learns else 1) * smooth + 2 * bridge),
        Flops("decoder", decode, 2 * decode),
    ]


def transformer_step(model: PhotoTransformer, tokenizer: nn.Module, image_size: int, branches: int = 1) -> list[Flops]:
    """A training step of the transformer for one photo, with what its frozen tokenizer does for it.

    Args:
        branches: sequences of tokens for the same photo: 2 or 3 where a preference between them is learned.
    """
    body, config, quantizer = model.body, model.config, tokenizer.quantizer
    shown = 0 if model.prefix is None else (image_size // max(tokenizer.scales) // model.prefix.patch) ** 2
    start, *later = [p * p for p in config.patch_nums]
    lengths = [start + (0 if model.added else shown), *later]
    n, tokens, again = lengths[0] + branches * sum(later), branches * config.tokens, 1 if config.checkpointing else 0
    matrices = sum(dense(part, n) for block in body.blocks for part in (block.attn, block.fc1, block.fc2))
    scores = config.depth * block_causal_attention(lengths, config.width, branches)
    modulation = sum(dense(m, 1) for m in body.modules() if m in _modulations(body))
    inputs = dense(body.word_embed, branches * sum(later))
    rows = [
        Flops("matrices", matrices, (2 + again) * matrices),
        Flops("attention", scores, (2 + again) * scores),
        Flops("modulation", modulation, 2 * modulation),
        Flops("head", dense(body.head, tokens), 2 * dense(body.head, tokens)),
    ]
    if model.prefix is not None:
        first, whole = dense(model.prefix.layers[0], shown), dense(model.prefix, shown)
        rows.append(Flops("prefix", whole, 2 * whole - first))
    if body.prior is not None:
        inputs += dense(body.prior.embed, tokens)
        rows.append(Flops("prior's logits", branches * lookup_flops(quantizer)))
    encode = 2 * encode_flops(tokenizer, image_size)  # the clean photo and the degraded one
    force = 2 * lookup_flops(quantizer) + smooth_flops(quantizer) + 4 * bridge_flops(quantizer)
    return [
        *rows,
        Flops("embeddings", inputs, inputs),
        Flops("frozen features", encode),
        Flops("frozen tokens", branches * force),
    ]


def _modulations(body: nn.Module) -> list[nn.Module]:
    shared = [body.shared_modulation] if body.config.shared_aln else [block.modulation for block in body.blocks]
    return [*shared, body.head_modulation]
