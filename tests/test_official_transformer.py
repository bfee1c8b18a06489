"""The next-scale transformer gives the numbers of the official VAR release, forwards, backwards and cached."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vartutor.profiles import get_profile
from vartutor.transformer.attention import block_causal, grid_angles, rotate
from vartutor.transformer.condition import Condition
from vartutor.transformer.generate import generate, iterate, keep_likely
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights.official_tokenizer import load_vqvae
from vartutor.weights.official_transformer import init_from_var, load_var, rename

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("tiny_var_golden", "tiny_var_saln_golden", "tiny_var_nol2_golden")


def class_condition(model, labels):
    """Class numbers (B,); -1 stands for the null class, the last of the table."""
    return Condition(model.class_emb(labels % model.config.classes))


def assert_close(ours, golden, tolerance=1e-5):
    """The tolerance of the reference for outputs."""
    assert ours.shape == golden.shape
    assert (ours - golden).abs().max() <= tolerance * max(1.0, golden.abs().max())


def assert_grad_close(ours, golden):
    """The tolerance of the reference for gradients."""
    assert ours.shape == golden.shape
    assert (ours - golden).abs().max() <= 2e-5 * golden.abs().max()


def weights_of(golden: dict) -> dict:
    return {
        name.removeprefix("weights."): value.float() for name, value in golden.items() if name.startswith("weights.")
    }


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """(golden tensors, configuration, official weights)"""
    path = GOLDEN / f"{request.param}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    golden = load_file(path)
    return golden, config, weights_of(golden)


@pytest.fixture
def model(case):
    _, config, weights = case
    return load_var(weights, config["patch_nums"], heads=config["num_heads"])


@pytest.fixture(scope="module")
def tokenizer():
    return load_vqvae(weights_of(load_file(GOLDEN / "tiny_vqvae_golden.safetensors")), (1, 2, 3, 4))


def true_maps(golden):
    return [golden[f"in.idx_{k}"] for k in range(4)]


def test_sizes_are_read_from_the_tensors(case, model):
    _, config, _ = case
    assert (model.config.depth, model.config.width, model.config.classes) == (2, 64, 11)
    assert model.config.shared_aln == config["shared_aln"]
    assert model.config.l2_norm == config["attn_l2_norm"]


def test_teacher_forcing(case, model, tokenizer):
    golden, *_ = case
    inputs = tokenizer.next_inputs(true_maps(golden))
    assert_close(inputs, golden["out.var_input"])
    condition = class_condition(model, golden["in.label"])
    start = model.embed_start(condition)
    maps = inputs.split([4, 9, 16], 1)
    x = torch.cat([start, *(model.embed_inputs(m, k + 1) for k, m in enumerate(maps))], 1)
    assert_close(x, golden["out.x0"])
    views = block_causal([1, 4, 9, 16])
    for i, (block, m) in enumerate(zip(model.blocks, model.modulations(condition.vector), strict=True)):
        x = block(x, m, views, None)
        assert_close(x, golden[f"out.block_{i}"])
    assert_close(model(condition, inputs), golden["out.logits"])
    nobody = class_condition(model, torch.full((2,), -1))
    assert_close(model(nobody, inputs), golden["out.logits_uncond"])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients(case, model, checkpointing):
    golden, *_ = case
    trained = NextScaleTransformer(replace(model.config, checkpointing=checkpointing)).train()
    trained.load_state_dict(model.state_dict())
    logits = trained(class_condition(trained, golden["in.label"]), golden["out.var_input"])
    true = torch.cat(true_maps(golden), 1)
    per_token = F.cross_entropy(logits.transpose(1, 2), true, reduction="none")
    assert_close(per_token, golden["train.loss_per_token"])
    smoothed = F.cross_entropy(logits.flatten(0, 1), true.flatten(), label_smoothing=0.1)
    assert_close(smoothed, golden["train.loss_ls0.1"])
    loss = per_token.mean()
    assert_close(loss, golden["train.loss"])
    loss.backward()
    gradients = {name: p.grad for name, p in trained.named_parameters()}
    total = torch.stack([g.norm() for g in gradients.values()]).norm()
    assert_grad_close(total, golden["train.grad_norm"])
    expected = rename({name.removeprefix("grad."): value for name, value in golden.items() if name.startswith("grad.")})
    assert len(expected) >= 12
    for name, value in expected.items():
        assert_grad_close(gradients[name], value)


@pytest.mark.parametrize("guidance", [0, 1.5, 4])
def test_greedy_generation_with_cache_and_guidance(case, model, tokenizer, guidance):
    golden, *_ = case
    condition, null = (class_condition(model, labels) for labels in (golden["in.label"], torch.full((2,), -1)))
    steps = list(iterate(model, tokenizer, condition, null=null, guidance=guidance, top_k=1))
    for step in steps:
        assert_close(step.logits, golden[f"out.ar_cfg{guidance}.logits_{step.k}"], 2e-5)
        assert torch.equal(step.idx, golden[f"out.ar_cfg{guidance}.idx_{step.k}"])
    assert_close(steps[-1].f_hat, golden[f"out.ar_cfg{guidance}.f_hat"])
    image = (tokenizer.decode(steps[-1].f_hat) + 1) / 2
    assert_close(image, golden[f"out.ar_cfg{guidance}.img"])


def test_seeded_generation(case, model, tokenizer):
    golden, *_ = case
    condition, null = (class_condition(model, labels) for labels in (golden["in.label"], torch.full((2,), -1)))
    options = {"guidance": 1.5, "top_k": 20, "top_p": 0.95, "generator": torch.Generator().manual_seed(0)}
    maps = generate(model, tokenizer, condition, null=null, **options)
    assert all(torch.equal(idx, golden[f"out.ar_seeded.idx_{k}"]) for k, idx in enumerate(maps))


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0), (0, 0.6), (0, 0.95), (1, 0), (32, 0.96), (7, 0), (7, 0.6)])
def test_which_candidates_survive(case, top_k, top_p):
    golden, *_ = case
    kept = keep_likely(golden["in.sampler_logits"], top_k, top_p).isfinite()
    assert torch.equal(kept, golden[f"out.sampler_keep_k{top_k}_p{top_p}"].bool())


def test_cached_generation_equals_teacher_forcing(case, model, tokenizer):
    golden, *_ = case
    condition = class_condition(model, golden["in.label"])
    steps = list(iterate(model, tokenizer, condition, top_k=20, generator=torch.Generator().manual_seed(3)))
    again = model(condition, tokenizer.next_inputs([step.idx for step in steps]))
    assert_close(torch.cat([step.logits for step in steps], 1), again)


def test_rotary_positions_of_varsr():
    path = GOLDEN / "varsr_extra_golden.safetensors"
    golden = load_file(path)
    angles = grid_angles([(p, p) for p in (4, 1, 2, 3, 4)], 16, centred=False)
    for name in ("q", "k"):
        assert_close(rotate(golden[f"rope.{name}"], angles), golden[f"rope.{name}_out"])


def test_the_published_size():
    entries = json.loads((GOLDEN / "var_d16_state_dict.json").read_text())["state_dict"]
    shapes = {name: torch.empty(entry["shape"], device="meta") for name, entry in entries.items()}
    config = TransformerConfig((1, 2, 3, 4, 5, 6, 8, 10, 13, 16), 4096, 32, 1024, 16, 16, classes=1001)
    with torch.device("meta"):
        model = NextScaleTransformer(config)
    assert sum(p.numel() for p in model.parameters()) == 310_283_520
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert ours == {name: tuple(value.shape) for name, value in rename(shapes).items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_files(case, model, tmp_path, suffix):
    _, config, weights = case
    path = tmp_path / f"var{suffix}"
    (torch.save if suffix == ".pth" else save_file)(weights, path)
    loaded = load_var(path, config["patch_nums"], heads=config["num_heads"])
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_weights_that_do_not_fit_are_listed(case, raises_user_error):
    _, config, weights = case
    spoiled = {name: value for name, value in weights.items() if name != "head.bias"}
    spoiled["head_nm.ada_lin.1.bias"] = torch.zeros(3)
    spoiled["surplus"] = torch.zeros(1)
    with raises_user_error("missing head.bias", "unknown surplus", "head_modulation.bias is (3,)"):
        load_var(spoiled, config["patch_nums"], heads=config["num_heads"])
    with raises_user_error("no transformer of VAR", "word_embed.weight"):
        load_var({"x": torch.zeros(1)})


# --- starting a model for photos from official weights -----------------------------------------------------


def make_photo_transformer(model, ladder, **changes):
    """A new model of the same size, for other maps."""
    options = {"prior": changes.pop("prior", True), "prefix": changes.pop("prefix", True)}
    config = replace(model.config, patch_nums=ladder, classes=1, **changes)
    return PhotoTransformer(config, torch.randn(config.codes, config.channels), **options)


def test_starting_on_the_same_ladder_takes_all_but_the_classes(case, model):
    _, config, weights = case
    photo = make_photo_transformer(model, tuple(config["patch_nums"]))
    start = init_from_var(photo, weights, config["patch_nums"])
    assert start.resized == ("body.class_emb.weight",)
    assert start.unused == ()
    assert {name.split(".")[0] for name in start.new} == {"prefix", "body"}
    assert all(name.startswith(("prefix.", "body.prior.")) for name in start.new)
    assert set(start.taken + start.resized + start.new) == set(photo.state_dict())
    ours, theirs = photo.body.state_dict(), model.state_dict()
    assert all(
        torch.equal(ours[name.removeprefix("body.")], theirs[name.removeprefix("body.")]) for name in start.taken
    )
    assert torch.equal(photo.body.class_emb.weight[0], model.class_emb.weight[-1])  # the null class


def test_tables_are_resized_for_another_ladder(case, model):
    _, config, weights = case
    photo = make_photo_transformer(model, (1, 2, 2, 4, 5, 8))  # theirs is 1, 2, 3, 4
    assert config["patch_nums"] == [1, 2, 3, 4]
    start = init_from_var(photo, weights, config["patch_nums"])
    assert set(start.resized) == {"body.class_emb.weight", "body.level.weight", "body.pos"}
    level, pos = photo.body.level.weight, photo.body.pos
    assert torch.equal(level, model.level.weight[[0, 1, 1, 3, 3, 3]])
    ours, theirs = (
        table.split([p * p for p in ladder], 1)
        for table, ladder in ((pos, (1, 2, 2, 4, 5, 8)), (model.pos, (1, 2, 3, 4)))
    )
    for k, same in ((0, 0), (1, 1), (2, 1), (3, 3)):
        assert torch.allclose(ours[k], theirs[same], atol=1e-6)
    grid = theirs[3].transpose(1, 2).unflatten(2, (4, 4))
    large = F.interpolate(grid, size=(8, 8), mode="bicubic")
    assert torch.allclose(ours[5].transpose(1, 2).unflatten(2, (8, 8)), large, atol=1e-6)


def test_rotary_positions_need_no_table(case, model):
    _, config, weights = case
    start = init_from_var(make_photo_transformer(model, (1, 2, 4), rope=True), weights, config["patch_nums"])
    assert start.unused == ("pos",)
    assert "body.pos" not in start.resized
    bare = NextScaleTransformer(replace(model.config, patch_nums=(1, 2)))
    start = init_from_var(bare, weights, config["patch_nums"])
    assert start.new == ()
    assert "blocks.0.fc1.weight" in start.taken
    assert torch.equal(bare.class_emb.weight, model.class_emb.weight)


def test_the_report_can_be_read(case, model):
    _, config, weights = case
    lines = str(init_from_var(make_photo_transformer(model, (1, 2)), weights, config["patch_nums"])).splitlines()
    assert lines[0].startswith("taken from VAR: ")
    assert lines[1].startswith("resized: body.")
    assert lines[2].startswith("new: ")
    assert "prefix.proj.weight" in lines[2]
    assert len(lines) == 3


def test_weights_that_do_not_fit_change_nothing_and_are_listed(case, model, raises_user_error, tmp_path):
    _, config, weights = case
    ladder = config["patch_nums"]
    photo = make_photo_transformer(model, (1, 2, 4))
    before = {name: value.clone() for name, value in photo.state_dict().items()}
    spoiled = {name: value for name, value in weights.items() if name != "head.bias"}
    spoiled |= {"surplus": torch.zeros(1), "head_nm.ada_lin.1.bias": torch.zeros(3), "pos_1LC": torch.zeros(1, 7, 64)}
    with raises_user_error("missing head.bias", "unknown surplus", "head_modulation.bias is (3,)", "pos is (1, 7, 64)"):
        init_from_var(photo, spoiled, ladder)
    with raises_user_error("pos is"):  # of another ladder than said
        init_from_var(photo, weights, (1, 2, 3, 5))
    with raises_user_error("no transformer of VAR"):
        init_from_var(photo, {"x": torch.zeros(1)}, ladder)
    with raises_user_error("no such file"):
        init_from_var(photo, tmp_path / "none.pth", ladder)
    with raises_user_error("unknown blocks.1."):
        init_from_var(make_photo_transformer(model, (1, 2), depth=1), weights, ladder)
    assert all(torch.equal(value, before[name]) for name, value in photo.state_dict().items())


def test_the_published_size_starts_from_the_published_shapes():
    entries = json.loads((GOLDEN / "var_d16_state_dict.json").read_text())["state_dict"]
    weights = {name: torch.zeros(entry["shape"], device="meta") for name, entry in entries.items()}
    profile = get_profile("gpu")
    recipe, ladder = profile.transformer, tuple(p for group in profile.groups for p in group)
    sizes = recipe.width, recipe.depth, recipe.heads
    config = TransformerConfig(ladder, profile.codes, profile.channels, *sizes, rope=recipe.rope)
    with torch.device("meta"):
        model = PhotoTransformer(config, torch.zeros(1, 1), prior=recipe.prior)
        start = init_from_var(model, weights)
    assert set(start.resized) == {"body.class_emb.weight", "body.level.weight", "body.pos"}
    assert all(name.startswith("prefix.") for name in start.new)
    assert len(start.taken) == 220 - 18 - 3  # without the constant buffers
