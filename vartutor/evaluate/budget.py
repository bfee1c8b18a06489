"""Where the error comes from: each part of the model measured alone, the others replaced by the truth.

- ``clean features``: the clean photo's features decoded without quantization; the autoencoder's own limit.
- ``true tokens``: decoded from the clean photo's tokens; no transformer over this tokenizer can do better.
- ``photo's own tokens``: decoded from the tokens of the degraded photo; what the prior alone would say.
- ``model``: from its own tokens; ``model after ×1``, ``model after ×2``: from true ones up to that scale group.

Of the tokens, map by map: how often the model is right if all maps before are true (``teacher forced``), and if they
are its own (``free running``). There the right token is the one that corrects what was said so far, the nearest code
to what the clean features lack then; so both answer the same question, and the difference is exposure bias.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vartutor.evaluate.benchmarks import Sample
from vartutor.evaluate.measures import MEASURES, Measure
from vartutor.evaluate.restorers import judge
from vartutor.evaluate.table import Row
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.transformer.generate import Step, iterate
from vartutor.transformer.photo import PhotoTransformer, force, pair_features

TOKEN_MEASURES = {
    "top-1": Measure("Right token, share", 3, "higher is better"),
    "top-10": Measure("Right token among the ten likeliest, share", 3, "higher is better"),
    "cross entropy": Measure("Cross entropy of the right token, nats", 2, "lower is better"),
    "true": Measure("Token equal to the clean photo's, share", 3, "higher is better"),
    "f_hat error": Measure(
        "Squared distance of f_hat from the true one, as a share of its energy", 3, "lower is better"
    ),
}
BUDGET_MEASURES = MEASURES | TOKEN_MEASURES


class ErrorBudget:
    """Takes a transformer apart on test crops of the size that it was trained on.

    Args:
        options: how it generates, as for :func:`vartutor.transformer.generate.iterate`.
    """

    def __init__(self, model: PhotoTransformer, tokenizer: HierarchicalTokenizer, **options):
        self.model, self.tokenizer, self.options = model, tokenizer, options

    def rows(self, photos: Iterable[Sample], seeds: Sequence[int] = (0,)) -> Iterator[Row]:
        """Every part's measures, photo by photo; the first column names the part, ``scale`` may be ``map K``."""
        for photo in photos:
            yield from self._still(photo)
            for seed in seeds:
                yield from self._drawn(photo, seed)

    @torch.no_grad()
    def _still(self, photo: Sample) -> Iterator[Row]:
        """What needs no generation."""
        tokenizer, quantizer = self.tokenizer, self.tokenizer.quantizer
        clean, degraded = pair_features(tokenizer, photo.lr, photo.hr[max(photo.hr)], self.model.first)
        features = {s: tokenizer.decode(f) for s, f in zip(tokenizer.scales, clean, strict=True)}
        yield from judge(photo, "clean features", features)
        for part, f in (("true tokens", clean), ("photo's own tokens", degraded)):
            yield from judge(photo, part, tokenizer.decode_scales(quantizer.tokenize(f)))
        targets, _, inputs, rests = force(tokenizer, clean, degraded)
        logits = self.model.body(self.model.condition(photo.lr, degraded), inputs, rests)
        squares = [p * p for p in quantizer.patch_nums]
        for k, (said, right) in enumerate(zip(logits.split(squares, 1), targets.split(squares, 1), strict=True)):
            for name, value in _right(said, right).items():
                yield Row("teacher forced", 0, photo.name, f"map {k}", name, value)

    @torch.no_grad()
    def _drawn(self, photo: Sample, seed: int) -> Iterator[Row]:
        """What the model generates, alone and after true tokens."""
        tokenizer, quantizer = self.tokenizer, self.tokenizer.quantizer
        clean, degraded = pair_features(tokenizer, photo.lr, photo.hr[max(photo.hr)], self.model.first)
        true, condition = quantizer.tokenize(clean), self.model.condition(photo.lr, degraded)
        for g, end in enumerate((0, *quantizer.ends[:-1])):
            draws = Generator().manual_seed(zlib.crc32(photo.name.encode(), seed))
            steps = list(
                iterate(self.model.body, tokenizer, condition, given=true[:end], generator=draws, **self.options)
            )
            part = f"model after ×{tokenizer.scales[g - 1]}" if g else "model"
            images = {
                s: tokenizer.decode(steps[e - 1].f_hat) for s, e in zip(tokenizer.scales, quantizer.ends, strict=True)
            }
            yield from judge(photo, part, images, seed)
            if g == 0:
                for k, name, value in self._running(steps, clean, true):
                    yield Row("free running", seed, photo.name, f"map {k}", name, value)

    def _running(self, steps: list[Step], clean: tuple[Tensor, ...], true: list[Tensor]):
        quantizer, f_hat = self.tokenizer.quantizer, None
        for step, aim in zip(steps, quantizer.latents(true), strict=True):
            goal = quantizer.rest(clean, f_hat, step.k)
            right = quantizer.lookup(goal.transpose(1, 2)[..., None])
            f_hat = step.f_hat
            measured = _right(step.logits, right) | {
                "true": (step.idx == true[step.k]).float().mean().item(),
                "f_hat error": ((f_hat - aim).square().sum() / aim.square().sum()).item(),
            }
            yield from ((step.k, name, value) for name, value in measured.items())


def _right(logits: Tensor, right: Tensor) -> dict[str, float]:
    """Logits (B, n, V) against the right tokens (B, n)."""
    likeliest = logits.topk(min(10, logits.shape[-1]), dim=-1).indices
    hits = likeliest == right[..., None]
    return {
        "top-1": hits[..., 0].float().mean().item(),
        "top-10": hits.any(-1).float().mean().item(),
        "cross entropy": F.cross_entropy(logits.flatten(0, 1), right.flatten()).item(),
    }
