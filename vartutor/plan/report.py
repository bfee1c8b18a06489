"""A plan as text, each figure with the way it is made."""

import re
import textwrap

from vartutor.plan.estimate import OPTIMIZER_TRAFFIC, STATE_BYTES, USABLE, Plan


def report(plan: Plan) -> str:
    """Several lines: a name, a figure, and after the colon how it is made."""
    s, c, gpu, flops = plan.setup, plan.counts, plan.setup.gpu, plan.counts.flops
    frozen = f"; the frozen {'models have' if plan.run == 'preference' else 'tokenizer has'} {_si(c.frozen)} more"
    assumed = "assumed; once measured, photos/s × FLOPs per image ÷ the peak of all GPUs: --utilisation"
    parts = (
        f"  {name} | {_si(part)} | {part / flops.total():.1%}, of it forward {_si(c.forward[name])}"
        for name, part in flops.items()
    )
    encoding = f"encoding | {_gb(c.encoding)} per image | likewise, before the step: the frozen tokenizer in float32"
    text = f"""
parameters | {_si(c.parameters)} | those that are trained{frozen * bool(c.frozen)}
FLOPs per image | {_si(flops.total())} | counted in a dry run on tensors without numbers, by the formulas of torch's
        FlopCounterMode; backward with what is computed again:
        {"the blocks, for checkpointing, and " * (s.checkpointing and bool(c.frozen))}the scores inside fused attention
{chr(10).join(parts)}
FLOPs per step | {_si(plan.step_flops)} | the above × {s.batch} images
state | {_gb(plan.state)} | {STATE_BYTES} bytes per parameter: weight, gradient, two averages of AdamW, averaged
        weight{f"; shared by {s.gpus} GPUs" * (s.strategy == "fsdp")}{"; 4 per frozen one" * bool(c.frozen)}
activations | {_gb(c.per_image)} per image | and {_gb(c.fixed)} besides: what the dry run allocates, with one image and
        with two, and a line through both{", in 16 and 32 bits by CUDA's rules of autocast" * s.bf16}
{encoding * bool(c.frozen)}
largest batch | {plan.largest} images per GPU | {USABLE:.0%} of {gpu.memory / 1e9:.0f} GB less the state, by the
        activations{" and the encoding, whichever is more" * bool(c.frozen)}
at once | {plan.at_once} images per GPU | {s.batch} images by {s.gpus} GPUs in {plan.accumulate} rounds;
        {_gb(plan.peak)} at the fullest moment
seconds per step | {plan.step_seconds:.3g} | FLOPs by {s.gpus} × {_si(gpu.flops)}FLOP/s × {plan.utilisation:.0%}
        ({assumed if s.utilisation is None else "as you measured"}), and
        {OPTIMIZER_TRAFFIC} bytes per parameter at {_si(gpu.bandwidth)}B/s; the exchange between GPUs counts as hidden
tokens per second | {_si(s.batch * c.tokens / plan.step_seconds)} | {c.tokens} per image
hours | {plan.hours:.3g} | {plan.steps} steps
cost | ${plan.cost:,.0f} | × {s.gpus} GPUs × ${plan.price:.2f} an hour
        ({gpu.price_from if s.price is None else "your price"})
"""
    rows = (row.split(" | ") for row in re.sub(r"\n {8}", " ", text).split("\n") if row)
    lines = [
        f"{plan.run}, profile {plan.profile}, on {s.gpus} × {gpu.name}, {s.strategy}, "
        + ("bfloat16" if s.bf16 else "float32"),
        *(textwrap.fill(f"{name:18} {figure}: {how}", 110, subsequent_indent=" " * 19) for name, figure, how in rows),
        f"{gpu.name}: {gpu.source}, bf16 without sparsity.",
        "Not counted: data, adversarial losses, validation.",
    ]
    if not plan.largest:
        lines.append("does not fit: not one image; take --strategy fsdp, --checkpointing, or a larger GPU")
    return "\n".join(lines)


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"


def _si(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g}"
