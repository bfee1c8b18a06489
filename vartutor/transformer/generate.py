"""Write token maps one scale after the other, with cached keys and values."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vartutor.errors import UserError
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.transformer.attention import Cache
from vartutor.transformer.condition import Condition
from vartutor.transformer.model import NextScaleTransformer

SUREST = 1e-6  # temperatures below count as 0: logits divided by them would be infinite


@dataclass(frozen=True)
class Step:
    """One finished scale: its number, its logits (B, p_k², V) after guidance, its tokens, and f_hat so far.

    ``hidden`` (B, p_k², D) are the last block's states, those of the null branch behind where there is one; ``said``
    (B, p_k², C) the codes of the tokens, or their mean.
    """

    k: int
    logits: Tensor
    idx: Tensor
    f_hat: Tensor
    hidden: Tensor
    said: Tensor


def keep_likely(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """-inf for all logits (B, n, V) but the ``top_k`` largest, then for the tail beyond probability ``top_p``.

    0 switches either off. Values equal to the k-th largest all stay; the largest always stays.
    """
    if top_k > 0:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p > 0:
        ascending, order = logits.sort(dim=-1)
        tail = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
        tail[..., -1] = False
        logits = logits.masked_fill(torch.zeros_like(tail).scatter(-1, order, tail), -torch.inf)
    return logits


def chances(logits: Tensor, top_k: int = 0, top_p: float = 0.0, temperature: float = 1.0) -> Tensor:
    """What logits (B, n, V) give every token, after :func:`keep_likely`; at temperature 0 the likeliest gets all.

    Raises:
        UserError: a temperature below 0 or infinite; on a CPU, logits that are no finite numbers.
    """
    if logits.device.type == "cpu" and not logits.amax(-1).isfinite().all():  # a GPU would have to be waited for
        raise UserError("the logits hold NaN or infinity: broken weights, or too strong a guidance")
    if check_temperature(temperature) < SUREST:
        top_k, temperature = 1, 1.0
    return keep_likely(logits / temperature, top_k, top_p).softmax(-1)


def check_temperature(temperature: float) -> float:
    """The temperature itself; ``UserError`` if it is below 0 or no finite number."""
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature {temperature:g}: give 0 (always the likeliest), or a number above it")
    return temperature


def sample(
    logits: Tensor,
    top_k: int = 0,
    top_p: float = 0.0,
    temperature: float = 1.0,
    generator: Generator | None = None,
    uniform: Tensor | None = None,
) -> Tensor:
    """(B, n, V) -> (B, n) int64; ``top_k=1`` and temperature 0 take the largest and draw nothing.

    ``uniform`` (B, n) in 0..1 decides the draws instead of the generator: the token at that share of the total.
    """
    shares = chances(logits, top_k, top_p, temperature)  # (B, n, V)
    if top_k == 1 or temperature < SUREST:
        return shares.argmax(-1)
    if uniform is not None:
        return (shares.cumsum(-1) < uniform[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)
    return torch.multinomial(shares.flatten(0, 1), 1, replacement=True, generator=generator).view(logits.shape[:2])


@torch.no_grad()
def iterate(
    model: NextScaleTransformer,
    tokenizer: MultiScaleTokenizer,
    condition: Condition,
    *,
    null: Condition | None = None,
    guidance: float = 0.0,
    top_k: int = 0,
    top_p: float = 0.0,
    temperature: float = 1.0,
    expected: bool = False,
    generator: Generator | None = None,
    uniform: Tensor | None = None,
    given: Sequence[Tensor] = (),
) -> Iterator[Step]:
    """Yield every scale as it appears.

    Args:
        null: what the model is told where nothing is asked of it, or where the opposite is; needed for guidance.
        guidance: c; at scale k, logits are (1 + t) conditional - t null with t = c k / (K - 1). The null branch
            doubles the batch; at 0 it is left out.
        expected: add the mean of all codes, weighted by their probabilities at ``temperature``, instead of one
            code: the least squared error, where a single code would be sharper. ``idx`` is the likeliest code.
        generator: on the device of the logits.
        uniform: (B, L) in 0..1, one number per token instead of a generator: then an image does not depend on
            what else is in the batch.
        given: token maps (B, p_k²) that are said already, from the first on; the model goes on after them.

    Raises:
        UserError: guidance away from nothing; see also :func:`chances`.
    """
    if (guided := guidance != 0) and null is None:
        raise UserError("guidance needs a condition to move away from: see vartutor.addons.guidance")
    both = condition.joined(null) if guided else condition  # b = 2 B images, or B
    count, K, quantizer = len(condition), len(model.config.patch_nums), tokenizer.quantizer
    angles, modulations = model.angles(both), model.modulations(both.vector)
    f_hat, following, caches, seen = None, None, None, 0
    for k in range(K):
        rest = doubled = None
        if model.prior is not None:
            before = None if f_hat is None else f_hat.repeat(1 + guided, 1, 1, 1)
            doubled = quantizer.rest(both.features, before, k)  # (b, p_k², C)
            rest = doubled[:count]
        if k == 0:
            x = model.embed_start(both, doubled)  # (b, P + p_1², D)
            prefix = x.shape[1] - model.config.patch_nums[0] ** 2
            caches = _make_caches(model, x, prefix + model.config.tokens)
        else:
            inputs = following.flatten(2).transpose(1, 2)  # (B, p_k², C)
            x = model.embed_inputs(inputs.repeat(1 + guided, 1, 1), k, doubled, both)
        turn = None if angles is None else angles[seen : seen + x.shape[1]]
        seen += x.shape[1]
        for block, m, cache in zip(model.blocks, modulations, caches, strict=True):
            x = block(x, m, None, turn, cache)  # everything in the cache may be seen
        x = x[:, prefix:] if k == 0 else x  # (b, p_k², D)
        t = guidance * k / max(1, K - 1)
        if guided and t:
            logits = model.run_head(x, both.vector, k, doubled)
            logits = (1 + t) * logits[:count] - t * logits[count:]  # (B, p_k², V)
        else:
            logits = model.run_head(x[:count], condition.vector, k, rest)
        if k < len(given):
            idx = given[k]
            said = F.embedding(idx, quantizer.codes)
        elif expected:
            idx = logits.argmax(-1)
            said = chances(logits, top_k, top_p, temperature) @ quantizer.codes
        else:
            begin = sum(p * p for p in model.config.patch_nums[:k])
            draws = None if uniform is None else uniform[:, begin : begin + logits.shape[1]]
            idx = sample(logits, top_k, top_p, temperature, generator, draws)
            said = F.embedding(idx, quantizer.codes) + 0 * logits.amax(-1, keepdim=True)  # NaN shows in the picture
        f_hat, following = quantizer.step(f_hat, said, k)  # (B, C, H, W), and the same at the next map's size
        yield Step(k, logits, idx, f_hat, x, said)


def _make_caches(model: NextScaleTransformer, x: Tensor, length: int) -> list[Cache]:
    heads = model.config.heads
    return [Cache(len(x), heads, length, model.config.width // heads, x) for _ in model.blocks]


def generate(
    model: NextScaleTransformer, tokenizer: MultiScaleTokenizer, condition: Condition, **options
) -> list[Tensor]:
    """All token maps, (B, p_k²) int64 each; options as for :func:`iterate`."""
    return [step.idx for step in iterate(model, tokenizer, condition, **options)]
