"""The multi-scale tokenizer gives the numbers of the official VAR release, forwards and backwards."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vartutor.paths import sha256_of
from vartutor.tokenizer.multiscale import MultiScaleQuantizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.tokenizer.var_autoencoder import Decoder, Encoder
from vartutor.weights.official_tokenizer import LADDER_256, download_official, load_vqvae

GOLDEN = Path(__file__).parent / "golden"


def metadata(name: str) -> dict:
    with safe_open(GOLDEN / name, "pt") as file:
        return file.metadata()


CASES = {case["name"]: case for case in json.loads(metadata("tiny_quantizer_golden.safetensors")["cases"])}
CONFIG = json.loads(metadata("tiny_vqvae_golden.safetensors")["config"])
K = len(CONFIG["v_patch_nums"])


def assert_close(ours, golden):
    """The tolerance of the reference for outputs."""
    assert ours.shape == golden.shape
    assert (ours - golden).abs().max() <= 1e-5 * max(1.0, golden.abs().max())


def assert_grad_close(ours, golden):
    """The tolerance of the reference for gradients."""
    assert ours.shape == golden.shape
    assert (ours - golden).abs().max() <= 2e-5 * golden.abs().max()


# --- the quantizer alone ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantizer_golden():
    return load_file(GOLDEN / "tiny_quantizer_golden.safetensors")


@pytest.fixture(params=CASES)
def case(request, quantizer_golden):
    """A case's settings, its golden tensors, and our quantizer with its weights."""
    settings = CASES[request.param]
    tensors = {key.removeprefix(f"{request.param}."): v for key, v in quantizer_golden.items()
               if key.startswith(f"{request.param}.")}  # fmt: skip
    quantizer = MultiScaleQuantizer(
        settings["patch_nums"],
        settings["V"],
        settings["C"],
        shared_phi=settings["share"],
        phi_ratio=settings["quant_resi"],
        metric="cosine" if settings["znorm"] else "euclidean",
    )
    quantizer.codes.data = tensors["weights.embedding.weight"].clone()
    quantizer.hits = tensors["weights.ema_vocab_hit_SV"].clone()
    for i, conv in enumerate(quantizer.phi.convs):
        name = phi_name(settings["share"], i)
        conv.weight.data = tensors[f"weights.{name}.weight"].clone()
        conv.bias.data = tensors[f"weights.{name}.bias"].clone()
    return settings, tensors, quantizer


def phi_name(share: int, i: int) -> str:
    return {0: f"quant_resi.{i}", 1: "quant_resi.qresi"}.get(share, f"quant_resi.qresi_ls.{i}")


def indices(tensors: dict, count: int) -> list[torch.Tensor]:
    return [tensors[f"out.idx_{k}"] for k in range(count)]


def test_indices_are_exact(case):
    settings, tensors, quantizer = case
    ours = quantizer.tokenize(tensors["in.f"])
    assert all(torch.equal(a, b) for a, b in zip(ours, indices(tensors, len(ours)), strict=True))
    assert len(ours) == len(settings["patch_nums"])


def test_latents_and_inputs(case):
    settings, tensors, quantizer = case
    idx = indices(tensors, len(settings["patch_nums"]))
    with torch.no_grad():
        for k, f_hat in enumerate(quantizer.latents(idx)):
            assert_close(f_hat, tensors[f"out.f_hat_{k}"])
            assert_close(f_hat, tensors[f"out.embed_to_fhat_{k}"])
        assert_close(quantizer.next_inputs(idx), tensors["out.var_input"])


def test_steps_of_inference(case):
    settings, tensors, quantizer = case
    f_hat = torch.zeros_like(tensors["in.f"])
    with torch.no_grad():
        for k, idx in enumerate(indices(tensors, len(settings["patch_nums"]))):
            f_hat, following = quantizer.step(f_hat, idx, k)
            assert_close(f_hat, tensors[f"out.ar_f_hat_{k}"])
            assert_close(following, tensors[f"out.ar_next_{k}"])


def test_growing_canvas(case):
    """The experimental variant: f_hat is kept at the size of the scale and enlarged step by step."""
    settings, tensors, quantizer = case
    f_hat = None
    with torch.no_grad():
        for k, p in enumerate(settings["patch_nums"]):
            h = quantizer.enlarge(quantizer.embed(tensors[f"out.idx_{k}"], (p, p)), (p, p), k)
            f_hat = h if f_hat is None else F.interpolate(f_hat, size=(p, p), mode="bicubic") + h
            assert_close(f_hat, tensors[f"out.embed_to_fhat_grow_{k}"])


def test_choice_of_phi(case):
    settings, tensors, quantizer = case
    golden = tensors.get("out.phi_index", torch.zeros(len(settings["patch_nums"])))  # one phi needs no index
    assert quantizer.phi.choice == golden.tolist()


def test_training_loss_usage_and_gradients(case):
    settings, tensors, quantizer = case
    f = tensors["in.f"].clone().requires_grad_()
    margin = settings["batch"] * settings["patch_nums"][-1] ** 2 / settings["V"] * 0.08
    assert_close(100 * quantizer.usage(margin), tensors["train.usages"])
    f_hat, _, loss = quantizer(f)
    assert_close(f_hat, tensors["train.f_hat"])
    assert_close(loss, tensors["train.vq_loss"])
    (f_hat.square().mean() + loss).backward()
    assert_grad_close(f.grad, tensors["grad.f"])
    assert_grad_close(quantizer.codes.grad, tensors["grad.embedding.weight"])
    for i, conv in enumerate(quantizer.phi.convs):
        assert_grad_close(conv.weight.grad, tensors[f"grad.{phi_name(settings['share'], i)}.weight"])
        assert_grad_close(conv.bias.grad, tensors[f"grad.{phi_name(settings['share'], i)}.bias"])


# --- the whole tokenizer ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "tiny_vqvae_golden.safetensors")


@pytest.fixture(scope="module")
def state(golden):
    return {k.removeprefix("weights."): v.float() for k, v in golden.items() if k.startswith("weights.")}


@pytest.fixture(scope="module")
def model(state):
    return load_vqvae(state, CONFIG["v_patch_nums"])


def test_sizes_are_read_from_the_tensors(model):
    assert sum(p.numel() for p in model.parameters()) == 4_375_003
    assert model.quantizer.codes.shape == (CONFIG["vocab_size"], CONFIG["z_channels"])
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_encoder(model, golden):
    x = golden["in.img"]
    with torch.no_grad():
        assert_close(model.encoder.conv_in(x[:1])[..., ::8, ::8], golden["out.enc_conv_in"])
        assert_close(model.encoder(x), golden["out.enc"])
        assert_close(model.encode(x), golden["out.f"])


def test_tokens_and_reconstructions(model, golden):
    ours = model.tokenize(golden["in.img"])
    assert all(torch.equal(a, b) for a, b in zip(ours, indices(golden, K), strict=True))
    with torch.no_grad():
        for k, f_hat in enumerate(model.latents(ours)):
            assert_close(f_hat, golden[f"out.f_hat_{k}"])
            assert_close(model.decode(f_hat), golden[f"out.rec_{k}"])
        assert_close(model.post_quant_conv(f_hat), golden["out.post_quant"])
        assert_close(model.decoder(golden["out.post_quant"]), golden["out.dec_unclamped"])
        assert_close(model.next_inputs(ours), golden["out.var_input"])
        assert_close(model.reconstruct(golden["in.img"]), golden["out.idxBl_to_img"])


def test_photos_that_are_not_square(model, golden):
    sizes = [tuple(size) for size in CONFIG["nonsquare_patch_hws"]]
    x = golden["in.nonsq_img"]
    with torch.no_grad():
        assert_close(model.encode(x), golden["out.nonsq_f"])
        ours = model.tokenize(x, sizes)
        assert all(torch.equal(idx, golden[f"out.nonsq_idx_{k}"]) for k, idx in enumerate(ours))
        for k, f_hat in enumerate(model.latents(ours, sizes)):
            assert_close(f_hat, golden[f"out.nonsq_f_hat_{k}"])
        assert_close(model.reconstruct(x, sizes), golden["out.nonsq_rec"])
        assert model.next_inputs(ours, sizes).shape == (1, sum(h * w for h, w in sizes[1:]), 8)


def test_training_step(state, golden):
    model = load_vqvae(state, CONFIG["v_patch_nums"]).train().requires_grad_(True)
    x = golden["in.img"]
    margin = len(x) * 4 * 4 / CONFIG["vocab_size"] * 0.08
    assert_close(100 * model.quantizer.usage(margin), golden["train.usages"])
    reconstruction, _, loss = model(x)
    assert_close(reconstruction, golden["train.rec"])
    assert_close(loss, golden["train.vq_loss"])
    mse = F.mse_loss(reconstruction, x)
    assert_close(mse, golden["train.rec_mse"])
    (mse + loss).backward()
    ours = dict(model.named_parameters())
    norm = torch.stack([p.grad.norm() for p in ours.values()]).norm()
    assert abs(norm - golden["train.grad_norm"]) <= 2e-5 * golden["train.grad_norm"]
    names = {"quantizer.codes": "quantize.embedding.weight"}
    checked = 0
    for name, parameter in ours.items():
        theirs = names.get(name, name.replace("quantizer.phi.convs", "quantize.quant_resi.qresi_ls"))
        if f"grad.{theirs}" in golden:
            assert_grad_close(parameter.grad, golden[f"grad.{theirs}"])
            checked += 1
    assert checked == sum(key.startswith("grad.") for key in golden)


def test_the_official_size_has_every_name_and_shape():
    listed = json.loads((GOLDEN / "vqvae_ch160v4096z32_state_dict.json").read_text())
    with torch.device("meta"):
        model = MultiScaleTokenizer(MultiScaleQuantizer(LADDER_256, 4096, 32), Encoder(), Decoder())
        fake = {name: torch.empty(entry["shape"]) for name, entry in listed["state_dict"].items()}
    assert sum(p.numel() for p in model.parameters()) == listed["num_parameters"] == 108_948_355
    with torch.device("meta"):
        loaded = load_vqvae(fake)
    assert len(loaded.state_dict()) == listed["num_entries"] == 324


# --- files and mistakes ----------------------------------------------------------------------------


def test_files_give_the_same_model(state, golden, tmp_path):
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "vae.safetensors")
    torch.save(state, tmp_path / "vae.pth")
    for name in ("vae.safetensors", "vae.pth"):
        model = load_vqvae(tmp_path / name, CONFIG["v_patch_nums"])
        assert torch.equal(model.tokenize(golden["in.img"])[-1], golden["out.idx_3"])


def test_another_ladder_keeps_its_own_statistics(state):
    model = load_vqvae(state, (1, 2, 4))
    assert model.quantizer.hits.shape == (3, CONFIG["vocab_size"])
    assert model.quantizer.hits.sum() == 0


def test_every_fault_is_listed(state, raises_user_error):
    wrong = {**state, "decoder.extra.weight": torch.zeros(1), "quant_conv.bias": torch.zeros(3)}
    del wrong["encoder.mid.attn_1.qkv.weight"]
    with raises_user_error(
        "missing encoder.mid.attn_1.qkv.weight",
        "unknown decoder.extra.weight",
        "quant_conv.bias is (3,), not (8,)",
    ):
        load_vqvae(wrong, CONFIG["v_patch_nums"])


def test_other_files_are_one_clear_line(tmp_path, raises_user_error):
    with raises_user_error("none.pth", "no such file"):
        load_vqvae(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with raises_user_error("text.pth", "not readable as weights"):
        load_vqvae(tmp_path / "text.pth")
    torch.save({"trainer": {"x": torch.zeros(1)}}, tmp_path / "nested.pth")
    with raises_user_error("bare state dict"):
        load_vqvae(tmp_path / "nested.pth")
    with raises_user_error("no tokenizer of VAR", "quantizer.codes"):
        load_vqvae({"weight": torch.zeros(2, 2)})


def test_a_pickle_with_code_is_refused(tmp_path, raises_user_error):
    class Evil:
        def __reduce__(self):
            return (print, ("this must not run",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with raises_user_error("evil.pth", "not readable as weights"):
        load_vqvae(tmp_path / "evil.pth")


def test_ladders_that_do_not_fit(model, golden, raises_user_error):
    with raises_user_error("3 sizes for a ladder of 4"):
        model.tokenize(golden["in.img"], [(1, 1), (2, 2), (4, 4)])
    with raises_user_error("the ladder ends at"):
        model.tokenize(golden["in.nonsq_img"])
    with raises_user_error("sides ()", "give sides"):
        MultiScaleQuantizer(())


@pytest.fixture
def published(tmp_path):
    """A file that stands for the published one: its address and its checksum."""
    path = tmp_path / "published" / "vae.pth"
    path.parent.mkdir()
    torch.save(load_file(GOLDEN / "tiny_vqvae_golden.safetensors"), path)
    return path.as_uri(), sha256_of(path)


def test_download_checks_and_fetches_once(tmp_path, published):
    url, sha256 = published
    path = download_official(tmp_path / "new" / "folder", url, sha256)
    assert sha256_of(path) == sha256
    before = path.stat().st_mtime_ns
    assert download_official(path.parent, "file:///nowhere/vae.pth", sha256) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("spoil", ["checksum", "missing"])
def test_a_failed_download_is_one_line_and_leaves_nothing(tmp_path, published, raises_user_error, spoil):
    url, sha256 = published
    if spoil == "checksum":
        sha256 = "0" * 64
    else:
        url = url.replace("vae.pth", "none.pth")
    with raises_user_error("not downloaded", "try again"):
        download_official(tmp_path / "new", url, sha256)
    assert list((tmp_path / "new").iterdir()) == []
