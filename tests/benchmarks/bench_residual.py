"""Residual quantization beside vector-quantize-pytorch, with the same codebooks; run on a quiet machine:

pip install vector-quantize-pytorch        # in an environment of its own; skipped where it is missing
OMP_NUM_THREADS=1 pytest tests/benchmarks/bench_residual.py -s

8 quantizers of 1024 codes of 32 numbers, 16 × 1024 vectors, evaluation, float32.
"""

import statistics
import time

import pytest
import torch

from vartutor.tokenizer.residual import ResidualQuantizer

STAGES, CODES, DIM = 8, 1024, 32


@pytest.fixture(scope="module")
def z():
    return torch.randn(16, 1024, DIM, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ours():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(STAGES, CODES, DIM).eval()
    for k, book in enumerate(quantizer.books):
        book.codes.data *= 0.85**k  # residuals shrink
    return quantizer


@pytest.fixture(scope="module")
def theirs(ours):
    library = pytest.importorskip("vector_quantize_pytorch")
    quantizer = library.ResidualVQ(dim=DIM, num_quantizers=STAGES, codebook_size=CODES).eval()
    for layer, book in zip(quantizer.layers, ours.books, strict=True):
        layer._codebook.embed.data.copy_(book.codes.data[None])
    return quantizer


def paired(first, second, repeats=5):
    """Seconds of both, call by call in turn, so that a busy machine slows both alike; medians and median ratio."""
    first(), second()
    rows = []
    for _ in range(repeats):
        times = []
        for call in (first, second):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        rows.append((*times, times[1] / times[0]))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


@torch.no_grad()
def test_forward_beside_the_library(ours, theirs, z):
    flat = z.flatten(0, 1)
    out, idx, _ = ours(flat)
    their_out, their_idx, _ = theirs(z)
    same = (idx == their_idx.flatten(0, 1)).all(1)
    assert same.float().mean() > 0.999  # rounding may flip a tie, and then all later stages
    assert torch.allclose(out[same], their_out.flatten(0, 1)[same], atol=1e-5)
    mine, other, ratio = paired(lambda: ours(flat), lambda: theirs(z))
    print(f"\nforward: ours {mine * 1000:.0f} ms, vector-quantize-pytorch {other * 1000:.0f} ms: {ratio:.1f} times")
    assert ratio > 2


@pytest.mark.parametrize("beam", [1, 4, 16])
def test_lookup(ours, z, median_ms, beam):
    part = z[:2].flatten(0, 1)
    print(
        f"\nlookup of {len(part)} vectors, beam {beam}: {median_ms(lambda: ours.lookup(part, beam), 3):.0f} ms", end=""
    )
