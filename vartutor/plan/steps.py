"""What a training step computes and allocates, counted in a dry run.

PyTorch's fake tensors have shapes and types but no numbers, so that the step of a model of any size runs in seconds
and in no memory. It is the step that the trainers take: a frozen tokenizer's tokens, forward pass, loss, backward pass.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vartutor.perceptual import PerceptualDistance
from vartutor.plan.autocast import cuda_rules
from vartutor.plan.ledger import Ledger
from vartutor.profiles import Profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.multiscale import MultiScaleQuantizer
from vartutor.train.sizes import make_transformer
from vartutor.transformer.photo import PhotoTransformer, force, photo_features


@dataclass(frozen=True)
class Counts:
    """Of a training step; bytes are those beside weights, gradients and averages."""

    parameters: int  # that are trained
    frozen: int  # of the frozen tokenizer, and of the transformer that a preference run starts from
    tokens: int  # per image
    forward: Counter  # FLOPs of one image, by part
    backward: Counter  # the same, with what is computed again
    fixed: int  # bytes of the step, whatever the batch
    per_image: int  # bytes of the step, and for every image as much
    encoding: int  # bytes per image before the step, while the frozen tokenizer encodes

    @property
    def flops(self) -> Counter:
        """Of one image, forwards and backwards, by part."""
        return self.forward + self.backward

    def activations(self, images: int) -> int:
        """Bytes at the fullest moment, for so many images at once."""
        return max(self.fixed + images * self.per_image, images * self.encoding)

    def fit(self, room: float) -> int:
        """Images at once whose activations fit into so many bytes."""
        return max(0, int(min((room - self.fixed) / self.per_image, room / self.encoding)))


def planned_tokenizer(profile: Profile) -> HierarchicalTokenizer:
    """The profile's hierarchical tokenizer, without numbers in its weights."""
    with torch.device("meta"):
        model = build_tokenizer(TokenizerConfig.of(profile, "hit"))
        model.quantizer.use_moving_averages()
    return model


def planned_transformer(profile: Profile, tokenizer: HierarchicalTokenizer) -> PhotoTransformer:
    """The profile's transformer, without numbers in its weights."""
    with torch.device("meta"):
        return make_transformer(
            profile, tokenizer, prior=profile.transformer.prior, encoded=profile.transformer.encoded
        )


@cache
def count_step(run: str, profile: Profile, bf16: bool = True, perceptual: bool = False) -> Counts:
    """Of a ``tokenizer``, ``transformer`` or ``preference``, from steps with one image and with two.

    Args:
        bf16: under autocast, by CUDA's rules.
        perceptual: whether a tokenizer's loss has the perceptual distance.
    """
    tokenizer, model, ledger, encoding, one = _dry_run(run, profile, 1, bf16, perceptual)
    *_, two = _dry_run(run, profile, 2, bf16, perceptual)
    parameters, frozen = _trained(model), 0
    if model is not tokenizer:
        frozen = sum(p.numel() for p in tokenizer.parameters()) + parameters * (run == "preference")
    sizes, memory = (parameters, frozen, tokenizer.quantizer.tokens), (2 * one - two, two - one, encoding)
    return Counts(*sizes, ledger.forward, ledger.backward, *memory)


def _trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _dry_run(run: str, profile: Profile, images: int, bf16: bool, perceptual: bool) -> tuple:
    """Tokenizer, trained model, and ledger of a step; the most bytes while tokens are made, and after that."""
    tokenizer = planned_tokenizer(profile)
    model = tokenizer if run == "tokenizer" else planned_transformer(profile, tokenizer).train()
    ruler = PerceptualDistance() if perceptual and run == "tokenizer" else None
    with FakeTensorMode(allow_non_fake_inputs=True):
        for each in {tokenizer, model}:
            each.to_empty(device="cpu")
        tokenizer.quantizer.eval().lookup = MethodType(lookup, tokenizer.quantizer)
        parts = _parts(tokenizer, model) | ({"perceptual distance": [ruler.forward]} if ruler else {})
        ledger = Ledger([tokenizer, model], parts)
        with ledger, cuda_rules():
            x, given = torch.zeros(images, 3, profile.image_size, profile.image_size), ()
            if model is not tokenizer:
                branches = (3 if profile.transformer.slip else 2) if run == "preference" else 1
                given = _make_tokens(model, tokenizer, x, branches)
            encoding, ledger.peak = ledger.peak, ledger.now
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = _predict(model, *given) if given else _reconstruct(tokenizer, x, ruler)
            forward = ledger.peak
            loss.backward()
    # A state counts its gradients: they are there from the first round on, and here come one by one.
    return tokenizer, model, ledger, encoding, max(forward, ledger.peak - 4 * _trained(model))


def _parts(tokenizer: HierarchicalTokenizer, model: HierarchicalTokenizer | PhotoTransformer) -> dict:
    """Names of the parts of a step, and the methods that each runs in."""
    quantizer = tokenizer.quantizer
    resampling = [quantizer.phi.forward, quantizer.bridge.forward]
    if model is tokenizer:
        decoding = [tokenizer.post_quant_conv.forward, tokenizer.decoder.forward]
        quantizing = {"nearest codes": [quantizer.lookup], "φ and bridge": resampling}
        return {"encoder": [tokenizer.encode], **quantizing, "decoder": decoding}
    body, prior = model.body, model.body.prior
    return {
        "frozen features": [tokenizer.encode],
        "frozen tokens": [quantizer.lookup, *resampling],
        "prefix": [model.prefix.forward],
        "embeddings": [body.word_embed.forward],
        "prior": [] if prior is None else [prior.embed.forward, prior.logits],
        "modulation": [m.forward for name, m in body.named_modules() if name.endswith("modulation")],
        "matrices": [block.forward for block in body.blocks],
        "head": [body.head.forward],
    }


def lookup(quantizer: MultiScaleQuantizer, z: Tensor) -> Tensor:
    """As much work as the nearest codes of (B, C, h, w), in the shape of their indices (B, h * w)."""
    return (z.flatten(2).mT @ quantizer.codes.T).argmax(-1)


def _reconstruct(tokenizer: HierarchicalTokenizer, x: Tensor, ruler: PerceptualDistance | None) -> Tensor:
    images, _, loss = tokenizer(x)
    pairs = [(image.float(), torch.zeros(image.shape)) for image in images.values()]
    loss = loss + sum((a - b).abs().mean() + (a - b).square().mean() for a, b in pairs)
    with torch.autocast("cpu", enabled=False):
        return loss if ruler is None else loss + sum(ruler.forward(a, b).mean() for a, b in pairs)


@torch.no_grad()
def _make_tokens(model: PhotoTransformer, tokenizer: HierarchicalTokenizer, x: Tensor, branches: int) -> tuple:
    """Degraded photos, their latents where something reads them, and what `force` gives for every branch.

    Branches: the clean photos' tokens; for a preference the degraded ones' too, and clean ones with slips.
    """
    side = x.shape[-1] // tokenizer.factor
    photo, clean = x[..., :side, :side], tuple(tokenizer.encode(x))
    read = model.reads_latents or branches > 1
    degraded = photo_features(tokenizer, photo) if read else clean
    return photo, degraded, [force(tokenizer, f, degraded) for f in (clean, degraded, clean)[:branches]]


def _predict(model: PhotoTransformer, photo: Tensor, degraded: tuple[Tensor, ...], seen: list[tuple]) -> Tensor:
    logits = model.body.branches(model.condition(photo, degraded), [(inputs, rests) for _, _, inputs, rests in seen])
    return sum(F.cross_entropy(x.flatten(0, 1), tokens.flatten()) for x, (tokens, *_) in zip(logits, seen, strict=True))
