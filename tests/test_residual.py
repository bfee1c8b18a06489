"""The residual quantizer: greedy and beam lookup, partial sums, gradients, dropout, and the care of its codes."""

import pytest
import torch

from vartutor.tokenizer.residual import ResidualQuantizer


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def fitted(stages=4, size=16, dim=4, **words):
    quantizer = ResidualQuantizer(stages, size, dim, **words).eval()
    quantizer.initialise(torch.randn(1000, dim))
    return quantizer


def errors(quantizer, z, beam=1):
    return (quantizer.decode(quantizer.lookup(z, beam)) - z).square().sum(1)


@pytest.mark.parametrize("shared", [False, True])
def test_greedy_lookup_is_the_loop_over_residuals(shared):
    quantizer, z = fitted(shared=shared), torch.randn(50, 4)
    rest, columns = z, []
    for k in range(4):
        codes = quantizer.books[0 if shared else k].codes
        columns.append(torch.cdist(rest, codes).argmin(1))
        rest = rest - codes[columns[-1]]
    idx = quantizer.lookup(z)
    assert torch.equal(idx, torch.stack(columns, 1))
    assert idx.dtype == torch.int64
    assert torch.allclose(quantizer.decode(idx), z - rest, atol=1e-6)
    assert len(quantizer.books) == (1 if shared else 4)


def test_every_stage_lowers_the_error():
    quantizer, z = fitted(), torch.randn(500, 4)
    means = [(part - z).square().mean().item() for part in quantizer.latents(quantizer.lookup(z))]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.05


def test_the_first_stages_alone_give_the_partial_sums():
    quantizer, z = fitted(), torch.randn(30, 4)
    idx = quantizer.lookup(z)
    for m, part in enumerate(quantizer.latents(idx), start=1):
        assert torch.equal(part, quantizer.decode(idx[:, :m]))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("beam", [2, 5, 40])
def test_a_beam_is_never_worse_than_greedy(shared, beam):
    quantizer, z = fitted(stages=3, shared=shared), torch.randn(300, 4)
    greedy, found = errors(quantizer, z), errors(quantizer, z, beam)
    assert (found <= greedy).all()
    assert found.mean() < 0.95 * greedy.mean()


def test_a_beam_as_wide_as_the_tree_finds_the_best_of_all_sums():
    quantizer, z = fitted(stages=3, size=4, dim=2), torch.randn(40, 2)
    a, b, c = (book.codes for book in quantizer.books)
    sums = (a[:, None, None] + b[None, :, None] + c[None, None]).reshape(-1, 2)  # 64 of them
    best = torch.cdist(z, sums).min(1).values.square()
    assert torch.allclose(errors(quantizer, z, beam=16), best, atol=1e-5)


def test_beams_in_slices_are_the_same(monkeypatch):
    quantizer, z = fitted(), torch.randn(57, 4)
    whole = quantizer.lookup(z, beam=3)
    monkeypatch.setattr("vartutor.tokenizer.residual.MAX_ELEMENTS", 100)
    assert torch.equal(quantizer.lookup(z, beam=3), whole)


def test_maps_and_vectors_agree():
    quantizer, z = fitted(), torch.randn(2, 4, 3, 5)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 4)
    out, idx, loss = quantizer(z)
    out_flat, idx_flat, loss_flat = quantizer(flat)
    assert idx.shape == (2, 3, 5, 4)
    assert torch.equal(idx.view(-1, 4), idx_flat)
    assert torch.equal(quantizer.tokenize(z), idx)
    assert torch.equal(quantizer.tokenize(flat, beam=1), idx_flat)
    assert torch.allclose(out.permute(0, 2, 3, 1), quantizer.decode(idx), atol=1e-6)
    assert torch.allclose(out_flat, quantizer.decode(idx_flat), atol=1e-6)
    assert torch.allclose(loss, loss_flat)


def test_gradient_passes_straight_through_and_codes_learn_from_partial_sums():
    quantizer = fitted(stages=2).train()
    z = torch.randn(20, 4, requires_grad=True)
    out, idx, loss = quantizer(z)
    (gradient,) = torch.autograd.grad((out * torch.arange(4.0)).sum(), z, retain_graph=True)
    assert torch.allclose(gradient, torch.arange(4.0).expand(20, 4))
    sums = quantizer.latents(idx)
    assert torch.allclose(loss, sum(1.25 * (part - z).square().mean() for part in sums) / 2)
    loss.backward()
    commitment = sum(0.25 * 2 * (z - part) / z.numel() for part in sums) / 2
    assert torch.allclose(z.grad, commitment.detach(), atol=1e-6)
    second = quantizer.books[1].codes.grad  # code j of the last stage is in the last partial sum only
    j = idx[0, 1]
    expected = (2 * (sums[1] - z).detach() / z.numel() / 2)[idx[:, 1] == j].sum(0)
    assert torch.allclose(second[j], expected, atol=1e-6)


@pytest.mark.parametrize("learn", ["loss", "ema"])
@pytest.mark.parametrize("shared", [False, True])
def test_training_lowers_the_error(learn, shared):
    quantizer = ResidualQuantizer(3, 16, 4, shared=shared, learn=learn, decay=0.8).train()
    if learn == "loss":
        optimizer = torch.optim.Adam(quantizer.parameters(), 2e-2)
    losses = []
    for _ in range(60):
        loss = quantizer(torch.randn(256, 4))[2]
        if learn == "loss":
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_dropped_stages_are_marked_and_do_not_learn():
    quantizer = fitted(dropout=1.0).train()
    used = []
    for _ in range(60):
        quantizer.zero_grad()
        before = [book.hits.clone() for book in quantizer.books]
        out, idx, loss = quantizer(torch.randn(8, 4))
        loss.backward()
        m = int((idx[0] >= 0).sum())
        assert (idx[:, :m] >= 0).all()
        assert (idx[:, m:] == -1).all()
        assert torch.allclose(out, quantizer.decode(idx), atol=1e-6)
        assert [book.codes.grad is not None for book in quantizer.books] == [k < m for k in range(4)]
        changed = [not torch.equal(book.hits, b) for book, b in zip(quantizer.books, before, strict=True)]
        assert changed == [k < m for k in range(4)]
        used.append(m)
    assert set(used) == {1, 2, 3, 4}
    assert (quantizer.eval()(torch.randn(8, 4))[1] >= 0).all()


def test_dropout_follows_torchs_seed_and_its_probability():
    quantizer = fitted(dropout=0.5).train()
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append([quantizer._draw_stages(torch.device("cpu")) for _ in range(400)])
    assert draws[0] == draws[1]
    assert 0.5 < sum(m == 4 for m in draws[0]) / 400 < 0.75  # 1/2 + 1/2 · 1/4


def test_evaluation_changes_nothing():
    quantizer = fitted(learn="ema", dropout=1.0)
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(torch.randn(20, 4))
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())


@pytest.mark.parametrize("shared", [False, True])
def test_initialise_and_revive_bring_dead_codes_back_at_every_stage(shared):
    quantizer = ResidualQuantizer(3, 32, 4, shared=shared).train()
    for book in quantizer.books:
        book.codes.data += 100  # one code wins everything
    z = torch.randn(2000, 4)
    assert max(quantizer.usage(quantizer(z)[1])) < 0.2
    for _ in range(100):
        quantizer(z)
    moved = quantizer.revive(z)
    assert len(moved) == len(quantizer.books)
    assert min(moved) > 20
    assert quantizer.usage(quantizer(z)[1])[0] > (0.3 if shared else 0.6)
    quantizer.initialise(z)
    assert min(quantizer.usage(quantizer(z)[1])) > (0.3 if shared else 0.95)


def test_bits_and_state():
    quantizer = fitted()
    assert quantizer.bits == 16
    again = ResidualQuantizer(4, 16, 4)
    again.load_state_dict(quantizer.state_dict())
    z = torch.randn(9, 4)
    assert torch.equal(again.lookup(z), quantizer.lookup(z))


def test_no_vectors_give_no_indices():
    quantizer = fitted()
    for beam in (1, 3):
        assert quantizer.lookup(torch.zeros(0, 4), beam).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda q: ResidualQuantizer(0, 4, 4), "stages = 0"),
        (lambda q: ResidualQuantizer(2, 4, 4, dropout=1.5), "dropout = 1.5"),
        (lambda q: ResidualQuantizer(2, 4, 4, learn="fast"), "unknown 'fast'"),
        (lambda q: q(torch.zeros(3, 5)), "shape (3, 5)"),
        (lambda q: q.lookup(torch.zeros(3)), "shape (3,)"),
        (lambda q: q.lookup(torch.zeros(3, 4), beam=0), "beam = 0"),
        (lambda q: q.decode(torch.zeros(3, 5, dtype=torch.long)), "5 stages for a quantizer of 4"),
        (lambda q: q.decode(torch.full((3, 4), 16)), "outside 0..15"),
        (lambda q: q.decode(torch.zeros(3, 0, dtype=torch.long)), "at least one stage"),
    ],
)
def test_what_is_wrong_is_one_clear_line(raises_user_error, call, words):
    quantizer = fitted()
    with raises_user_error(words):
        call(quantizer)


TWO = """
import os, torch, torch.distributed as dist
from vartutor.tokenizer.residual import ResidualQuantizer
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(7)
quantizer = ResidualQuantizer(3, 8, 4, learn="ema", dropout=1.0).train()
torch.manual_seed(rank)  # the processes must drop the same stages all the same
used = [int((quantizer(torch.randn(16, 4))[1][0] >= 0).sum()) for _ in range(8)]
torch.save({"used": used, "codes": [book.codes.data for book in quantizer.books]}, os.environ["OUT"] + f"/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_drop_the_same_stages(two_processes):
    first, second = two_processes(TWO)
    assert first["used"] == second["used"]
    assert len(set(first["used"])) > 1
    assert all(torch.equal(a, b) for a, b in zip(first["codes"], second["codes"], strict=True))
