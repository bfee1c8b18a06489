"""The diffusion refiner: VARSR's numbers, and a residual that is learned with the tokens frozen."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vartutor.transformer.diffusion import Diffusion, DiffusionNetwork, guided

GOLDEN = Path(__file__).parent / "golden" / "varsr_extra_golden.safetensors"
NAMES = (  # official -> ours
    ("time_embed.mlp", "time.layers"),
    ("cond_embed", "condition"),
    ("input_proj", "stem"),
    ("res_blocks", "blocks"),
    ("in_ln", "norm"),
    ("mlp", "layers"),
    ("adaLN_modulation.1", "modulation"),
    ("final_layer.linear", "head"),
    ("final_layer.", ""),
)


def assert_close(ours, golden):
    """The tolerance of the reference for outputs."""
    assert ours.shape == golden.shape
    assert (ours - golden).abs().max() <= 1e-5 * max(1.0, golden.abs().max())


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def network(golden):
    weights = {}
    for name in (name for name in golden if name.startswith("weights.")):
        ours = name.removeprefix("weights.")
        for theirs, word in NAMES:
            ours = ours.replace(theirs, word)
        weights[ours] = golden[name]
    network = DiffusionNetwork(8, 24, 32, 2)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(("name", "kept"), [("train", None), ("sample10", 10)])
def test_the_schedule_is_varsrs(golden, name, kept):
    process = Diffusion(kept=kept)
    assert torch.equal(process.times, golden[f"diff.{name}.timestep_map"])
    for theirs, ours in (
        ("alphas_cumprod", process.alphas),
        ("betas", process.betas),
        ("posterior_variance", process.variance),
        ("posterior_log_variance_clipped", process.log_variance),
    ):
        assert_close(ours, golden[f"diff.{name}.{theirs}"])


def test_network_and_loss_are_varsrs(golden, network):
    x, t, z, noise = (golden[f"in.{name}"] for name in ("x", "t", "z", "noise"))
    assert_close(network.time.embed(t), golden["out.temb"])
    assert_close(network(x, t, z), golden["out.net"])
    process = Diffusion()
    x_t = process.noisy(x, t, noise)
    assert_close(x_t, golden["out.x_t"])
    error, bound = process.losses(network(x_t, t, z), x, x_t, t, noise)
    assert_close(error, golden["out.train_mse"])
    assert_close(bound, golden["out.train_vb"])
    assert_close(error + bound, golden["out.train_loss"])


def test_guidance_is_varsrs(golden, network):
    x, t, z = (golden[f"in.{name}"] for name in ("x", "t", "z"))
    assert_close(guided(network, x[:6], t, z, 3.0), golden["out.net_cfg"][:6])
    assert torch.allclose(guided(network, x[:6], t, z, 0.0), network(x[:6], t[:6], z[:6]), atol=1e-5)


@pytest.mark.parametrize("i", [0, 5, 9])
def test_a_step_back_is_varsrs(golden, network, i):
    process, x, z = Diffusion(kept=10), golden["in.x"], golden["in.z"]
    t = torch.full((len(x),), i)
    ours = process.predict(network(x, process.times[t], z), x, t)
    for name, value in zip(("mean", "log_variance", "pred_xstart"), ours, strict=True):
        assert_close(value, golden[f"out.pmv_{i}_{name}"])
