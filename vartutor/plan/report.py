"""A plan as text, each figure with the way it is made."""

import textwrap

from vartutor.plan.estimate import OPTIMIZER_TRAFFIC, USABLE, Plan
from vartutor.plan.memory import STATE_BYTES

WIDTH, INDENT = 110, 19


def report(plan: Plan) -> str:
    """Several lines: a name, a figure, and after the colon how it is made."""
    s, gpu = plan.setup, plan.setup.gpu
    recomputed = s.checkpointing and plan.run != "tokenizer"
    price = gpu.price if s.price is None else s.price
    rows = [
        ("parameters", _si(plan.parameters), "those that are trained" + _frozen(plan)),
        (
            "FLOPs per image",
            _si(plan.image_flops),
            "2 per weight and position, attention 4 C per query and key that it sees; backward twice the forward"
            + ", and the blocks' forward once more (checkpointing)" * recomputed,
        ),
        *((f"  {part.name}", *_part(part, plan)) for part in plan.flops),
        ("FLOPs per step", _si(plan.step_flops), f"the above × {s.batch} images"),
        (
            "state",
            _gb(plan.state),
            f"{STATE_BYTES} bytes per parameter: weight, gradient, two averages of AdamW, averaged weight"
            + f"; shared by {s.gpus} GPUs" * (s.strategy == "fsdp")
            + "; 4 per frozen one" * bool(plan.frozen),
        ),
        (
            "activations",
            f"{_gb(plan.per_image)} per image",
            f"and {_gb(plan.fixed)} besides, by a dry run on tensors without numbers, at batch 1 and 2, and a line",
        ),
        (
            "largest batch",
            f"{plan.largest} images per GPU",
            f"{USABLE:.0%} of {gpu.memory / 1e9:.0f} GB less the state, by the activations",
        ),
        (
            "at once",
            f"{plan.at_once} images per GPU",
            f"{s.batch} images by {s.gpus} GPUs in {plan.accumulate} rounds; {_gb(plan.peak)} at the fullest moment",
        ),
        (
            "seconds per step",
            f"{plan.step_seconds:.3g}",
            f"FLOPs by {s.gpus} × {_si(gpu.flops)}FLOP/s × {s.utilisation:.0%}, and {OPTIMIZER_TRAFFIC} bytes per"
            f" parameter at {_si(gpu.bandwidth)}B/s; the exchange between GPUs counts as hidden",
        ),
        ("tokens per second", _si(s.batch * plan.tokens / plan.step_seconds), f"{plan.tokens} per image"),
        ("hours", f"{plan.hours:.3g}", f"{plan.steps} steps"),
        (
            "cost",
            f"${plan.cost:,.0f}",
            f"× {s.gpus} GPUs × ${price:.2f} an hour ({gpu.price_from if s.price is None else 'your price'})",
        ),
    ]
    head = f"{plan.run}, profile {plan.profile}, on {s.gpus} × {gpu.name}, {s.strategy}, "
    lines = [head + ("bfloat16" if s.bf16 else "float32"), *(_line(*row) for row in rows)]
    lines.append(f"{gpu.name}: {gpu.source}, bf16 without sparsity.")
    lines.append("Not counted: data, perceptual and adversarial losses, validation.")
    if not plan.largest:
        lines.append("does not fit: not one image; take --strategy fsdp, --checkpointing, or a larger GPU")
    return "\n".join(lines)


def _line(name: str, figure: str, how: str) -> str:
    return textwrap.fill(f"{name:{INDENT - 1}} {figure}: {how}", WIDTH, subsequent_indent=" " * INDENT)


def _frozen(plan: Plan) -> str:
    who = "models have" if plan.run == "preference" else "tokenizer has"
    return f"; the frozen {who} {_si(plan.frozen)} more" if plan.frozen else ""


def _part(part, plan: Plan) -> tuple[str, str]:
    return _si(part.total), f"{part.total / plan.image_flops:.1%}, of it forward {_si(part.forward)}"


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"


def _si(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g}"
