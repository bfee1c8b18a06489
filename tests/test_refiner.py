"""The diffusion refiner: VARSR's numbers, and a residual that is learned with the tokens frozen."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Generator

from vartutor.addons.diffusion import Diffusion, DiffusionNetwork, guided
from vartutor.addons.guidance import Guided
from vartutor.addons.refiner import Refined, Refiner, load_refiner
from vartutor.cli import main
from vartutor.data.crops import eval_crops
from vartutor.data.presets import COURSE
from vartutor.profiles import get_profile
from vartutor.superres import SuperResolver
from vartutor.train.jobs import refiner_job
from vartutor.train.kinds import train
from vartutor.train.loop import Moment
from vartutor.train.processes import Process
from vartutor.train.refiner import RefinerObjective
from vartutor.train.settings import RefinerSettings
from vartutor.train.sizes import make_config
from vartutor.train.source import Batch, Feed, make_source
from vartutor.transformer.photo import PhotoTransformer, restore_latents, write_maps
from vartutor.weights import load_restorer
from vartutor.weights.files import STATE, load_state

SMOKE = replace(get_profile("smoke"), batch_size=2)

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


@pytest.mark.parametrize("kept", [3, 10])
def test_the_way_back_ends_at_the_data(kept):
    """With the best possible network for normal data of mean z, the samples have their mean and deviation."""
    process, full, deviation = Diffusion(kept=kept), Diffusion(), 0.2

    def best(x, t, z):
        alpha, i = full.alphas[t][:, None], torch.searchsorted(process.times, t)[:, None]
        spread = alpha * deviation**2 + 1 - alpha
        noise = (1 - alpha).sqrt() * (x - alpha.sqrt() * z) / spread
        variance = process.variance[i] + process.from_x[i] ** 2 * deviation**2 * (1 - alpha) / spread
        low, high = process.log_variance[i], process.betas[i].log()
        return torch.cat([noise, 2 * (variance.log() - low) / (high - low) - 1], 1).float()

    z = torch.tensor([-0.3, 0.1, 0.2]).repeat(3000)[:, None]
    noise = torch.randn(kept, 9000, 1, generator=Generator().manual_seed(0))
    x = process.sample(best, z, noise).view(3000, 3)
    assert torch.allclose(x.mean(0), z[:3, 0], atol=0.02)
    assert torch.allclose(x.std(0), torch.full((3,), deviation), rtol=0.05)
    sure = process.sample(best, z, noise, temperature=0.0).view(3000, 3)
    assert torch.allclose(sure.mean(0), z[:3, 0], atol=0.02)
    assert (sure.std(0) < 0.3 * deviation).all()


# --- the refiner -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformer(tokenizer):
    torch.manual_seed(1)
    model = PhotoTransformer(make_config(SMOKE, tokenizer), tokenizer.quantizer.codes)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def refiner(transformer):
    """As after training: its output is not zero."""
    torch.manual_seed(2)
    refiner = Refiner.of(transformer.config, 32, 1)
    for layer in (refiner.network.blocks[0].modulation, refiner.network.modulation, refiner.network.head):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return refiner.eval().requires_grad_(False)


def test_it_is_small_and_its_settings_build_the_same_shape(refiner):
    recipe = get_profile("cpu").transformer
    course = Refiner(16, recipe.width, recipe.refiner_width, recipe.refiner_blocks)
    assert sum(p.numel() for p in course.parameters()) < 500_000
    again = Refiner(**refiner.settings)
    again.load_state_dict(refiner.state_dict())
    assert again.settings == refiner.settings == {"channels": 16, "hidden": 32, "width": 32, "blocks": 1, "steps": 10}


def test_half_precision_leaves_the_schedule_alone(refiner):
    rounded = Refiner(**refiner.settings)
    rounded.load_state_dict(refiner.state_dict())
    rounded.half().float()
    assert torch.equal(rounded.drawing.betas, refiner.drawing.betas)
    assert rounded.drawing.betas.dtype == torch.float64


def test_the_finest_map_alone_is_refined_within_reach(transformer, tokenizer, refiner):
    photo = torch.rand(2, 3, 16, 16) * 2 - 1
    plain = restore_latents(transformer, tokenizer, photo, top_k=1)
    drawn = {"write": Refined(refiner, 1.0), "generators": [Generator().manual_seed(i) for i in range(2)]}
    refined = restore_latents(transformer, tokenizer, photo, top_k=1, **drawn)
    assert torch.equal(plain[1], refined[1])
    assert torch.equal(plain[2], refined[2])
    added = (refined[4] - plain[4]).abs().amax((0, 2, 3))
    assert (added > 0).all()
    assert (added <= refiner.unit * 1.01).all()


def test_the_noise_decides_and_a_photo_is_drawn_by_its_own(refiner):
    torch.manual_seed(3)
    hidden, said = torch.randn(2, 5, 32), torch.randn(2, 5, 16)
    noise = refiner.draw(2, 5, Generator().manual_seed(0))
    both = refiner(hidden, said, noise)
    assert torch.equal(both, refiner(hidden, said, noise))
    assert torch.allclose(both[1:], refiner(hidden[1:], said[1:], noise[1:]), atol=1e-4)
    assert not torch.allclose(both, refiner(hidden, said, refiner.draw(2, 5, Generator().manual_seed(1))), atol=1e-2)


def test_a_null_branch_guides_it(refiner):
    torch.manual_seed(3)
    hidden, said, noise = torch.randn(4, 5, 32), torch.randn(2, 5, 16), refiner.draw(2, 5)
    alone = refiner(hidden[:2], said, noise)
    assert torch.allclose(refiner(hidden, said, noise, 0.0), alone, atol=1e-4)
    assert not torch.allclose(refiner(hidden, said, noise, 2.0), alone, atol=1e-2)
    same = refiner(hidden[:2].repeat(2, 1, 1), said, noise, 2.0)  # away from itself is nowhere
    assert torch.allclose(same, alone, atol=1e-3)


def test_guided_tokens_are_refined_with_their_guidance(transformer, tokenizer, refiner):
    photo = torch.rand(2, 3, 16, 16, generator=Generator().manual_seed(1)) * 2 - 1

    def last(write):
        generators = [Generator().manual_seed(i) for i in range(2)]
        return list(write(transformer, tokenizer, photo, top_k=1, generators=generators))[-1]

    noise = torch.cat([refiner.draw(1, 256, Generator().manual_seed(i)) for i in range(2)])
    for write, guidance in ((write_maps, 0.0), (Guided(2.0, "photo"), 2.0)):
        step = last(write)
        assert len(step.hidden) == (4 if guidance else 2)
        rest = refiner(step.hidden, step.said, noise, guidance, 1.0)
        expected = step.f_hat + rest.transpose(1, 2).unflatten(2, step.f_hat.shape[-2:])
        assert torch.equal(last(Refined(refiner, 1.0, write)).f_hat, expected)


def test_tiles_are_refined_whatever_the_batch(transformer, tokenizer, refiner):
    photo = torch.rand(3, 20, 44, generator=Generator().manual_seed(0)) * 2 - 1
    one, many = (
        SuperResolver(transformer, tokenizer, batch=batch).upscale(photo, write=Refined(refiner, 1.0), top_k=1)
        for batch in (1, 32)
    )
    plain = SuperResolver(transformer, tokenizer).upscale(photo, top_k=1)
    for s in (1, 2, 4):
        assert (one[s] - many[s]).abs().max() <= 2 / 255 + 1e-6
    assert torch.equal(many[2], plain[2])
    assert not torch.equal(many[4], plain[4])


# --- training ----------------------------------------------------------------------------------------------


def settings(**changes):
    return RefinerSettings.of(SMOKE, **{"validate_every": 0, "log_every": 1} | changes)


def make_job(transformer, tokenizer, **objective):
    """A job, and what it sees at the first step."""
    run = settings(objective=RefinerObjective(**objective))
    job = refiner_job(run, Process(), over=(transformer, tokenizer))
    return job, Feed(make_source(run, Process()), run, Process(), job.prepare)(0)


def test_residuals_are_those_of_the_tokens_asked_for(transformer, tokenizer):
    clean, _ = eval_crops("val", 64, 1)
    batch, rests = Batch(clean[:2], torch.tensor([1, 2]), COURSE), {}
    for forced in (False, True):
        job, _ = make_job(transformer, tokenizer, forced=forced)
        seen = job.prepare(batch)
        assert (seen.hidden.shape, seen.said.shape) == ((2, 256, 32), (2, 256, 16))
        rests[forced] = seen.rest
    lacking = tokenizer.encode(clean[:2])[-1] - tokenizer.latents(tokenizer.tokenize(clean[:2]))[-1]
    assert torch.allclose(rests[True], lacking.flatten(2).transpose(1, 2), atol=1e-5)
    assert rests[False].square().mean() > 1.2 * rests[True].square().mean()


def test_training_draws_nearer_to_the_clean_features(transformer, tokenizer):
    """On one batch, whose residuals it can learn by heart from the hidden states."""
    torch.manual_seed(0)
    job, seen = make_job(transformer, tokenizer)
    refiner, optimizer = job.model, torch.optim.AdamW(job.model.parameters(), lr=3e-3)
    for step in range(100):
        value, _ = job.loss(seen, Moment(step, step / 100))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    noise = refiner.draw(2, 256, Generator().manual_seed(0))
    drawn, shuffled = refiner(seen.hidden, seen.said, noise), refiner(seen.hidden.flip(1), seen.said.flip(1), noise)
    error, wrong = ((seen.rest - guess).square().mean() for guess in (drawn, shuffled))
    assert error < 0.8 * wrong
    assert 0.6 < drawn.std() / seen.rest.std() < 1.4


def test_a_resumed_run_is_bit_for_bit_the_same_and_whole(transformer, tokenizer, tmp_path, monkeypatch, resumed):
    monkeypatch.setattr("vartutor.train.jobs.KEEP_UNSAID", (2, 2))

    def run(out, resume=False):
        over = (transformer, tokenizer)
        return train("refiner", settings(steps=6), out, device="cpu", resume=resume, over=over)

    again = resumed(run)
    model, own, fidelity = load_restorer(tmp_path / "part")  # nothing but the folder is needed
    assert fidelity is None
    assert torch.allclose(own.quantizer.codes, tokenizer.quantizer.codes, atol=1e-2)
    assert torch.allclose(model.body.head.weight, transformer.body.head.weight, atol=1e-3)
    assert torch.allclose(load_refiner(tmp_path / "part").unit, again.averages.values["unit"], rtol=1e-3)


def test_the_command_goes_on_with_nothing_but_its_folder(tiny_runs, tmp_path, capsys, interrupted):
    call = ["train", "refiner", "--device", "cpu", "--out", str(tmp_path)]
    new = ["--profile", "smoke", "--set", f"model={tiny_runs / 'transformer'}", "--set", "objective.forced=true"]
    new += ["--set", "objective.temperature=0.5", "--set", "loop.steps=3"]
    with interrupted(1):
        assert main([*call, *new]) == 130
    assert main([*call, *new]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    state = load_state(tmp_path / STATE)
    assert state["step"] == 3
    assert state["info"]["objective"] == {"forced": True, "temperature": 0.5, "expected": False}
    assert main(["train", "refiner", "--out", str(tiny_runs / "transformer"), "--resume"]) == 2
    assert "holds a transformer" in capsys.readouterr().err


def test_what_cannot_be_refined_is_one_line(tiny_runs, raises_user_error):
    with raises_user_error("temperature 0"):
        RefinerObjective(temperature=0.0)
    assert load_refiner(tiny_runs / "transformer") is None
    with raises_user_error("no refiner", "vartutor train refiner"):
        Refined(None)
    with raises_user_error("refine -1"):
        Refined(None, -1.0)
