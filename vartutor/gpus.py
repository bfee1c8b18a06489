"""What a GPU can do and what an hour of it costs, as plain data with sources."""

from dataclasses import dataclass

from vartutor.errors import pick


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU; ``flops`` are those of dense bf16 matrix products with float32 sums, without sparsity."""

    name: str
    flops: float  # per second, at most
    memory: float  # bytes
    bandwidth: float  # bytes per second, of its own memory
    price: float  # US dollars per hour, on demand
    price_from: str  # whose price, and when it was read
    source: str  # of the other figures


LAMBDA = "Lambda, 8 at a time, lambda.ai/instances, read 2026-09-20"
RUNPOD = "RunPod, as listed by deploybase.ai/articles/runpod-gpu-pricing, 2026-03-10"

GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-40", 312e12, 40e9, 1.555e12, 1.99, LAMBDA, "NVIDIA A100 data sheet, SXM 40 GB"),
        Gpu("a100-80", 312e12, 80e9, 2.039e12, 2.79, LAMBDA, "NVIDIA A100 data sheet, SXM 80 GB"),
        Gpu("h100", 989e12, 80e9, 3.35e12, 3.99, LAMBDA, "NVIDIA H100 data sheet, SXM"),
        Gpu("h200", 989e12, 141e9, 4.8e12, 3.59, RUNPOD, "NVIDIA H200 data sheet, SXM"),
        Gpu("l40s", 362e12, 48e9, 0.864e12, 0.79, RUNPOD, "NVIDIA L40S data sheet"),
        Gpu("rtx4090", 165e12, 24e9, 1.008e12, 0.34, RUNPOD, "NVIDIA Ada GPU architecture white paper, appendix A"),
    )
}


def get_gpu(name: str) -> Gpu:
    """A GPU by its name; ``UserError`` if there is none."""
    return pick(name, GPUS, "GPU")
