"""Restore first, then write: the tokens begin at a net's picture, and so does the decoder's look."""

import copy
from dataclasses import replace

import pytest
import torch

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.cli import main
from vartutor.data.crops import eval_crops
from vartutor.data.images import write_image
from vartutor.data.pairs import make_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.profiles import get_profile
from vartutor.superres import SuperResolver
from vartutor.tiling import cut
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import BALANCED, Fidelity, decode_faithfully
from vartutor.train.jobs import fidelity_job
from vartutor.train.kinds import is_finished, train
from vartutor.train.loop import Moment
from vartutor.train.pairs import FidelityObjective
from vartutor.train.processes import Process
from vartutor.train.settings import BaselineSettings, FidelitySettings, TransformerSettings
from vartutor.train.sizes import make_config
from vartutor.train.source import make_source
from vartutor.train.transformer import TransformerLoss, decay_groups
from vartutor.transformer.photo import PhotoTransformer, build_transformer, photo_features, restore_latents
from vartutor.weights import load_restorer
from vartutor.weights.files import STATE, load_state

SMOKE = replace(get_profile("smoke"), batch_size=2)


@pytest.fixture(scope="module")
def net():
    """As after training: its heads add something."""
    torch.manual_seed(1)
    net = CnnSuperResolver(CnnConfig(8, 1))
    for head in net.heads.values():
        torch.nn.init.normal_(head.weight, std=0.05)
    return net.eval()


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(eval_crops("val", 64, 1)[0][:2], COURSE, torch.Generator().manual_seed(0))


def make(tokenizer, net=None):
    torch.manual_seed(2)
    return PhotoTransformer(make_config(SMOKE, tokenizer), tokenizer.quantizer.codes, restorer=copy.deepcopy(net))


def test_the_first_picture_is_the_nets_or_bicubic(tokenizer, net, pairs):
    plain, restored = make(tokenizer).first(pairs.lr), make(tokenizer, net).first(pairs.lr, (1, 4))
    assert all(torch.equal(plain[s], image) for s, image in upscale_bicubic(pairs.lr).items())
    assert list(restored) == [1, 4]
    assert all(torch.equal(image, net.restore(pairs.lr)[s]) for s, image in restored.items())
    assert not torch.allclose(restored[4], plain[4], atol=1e-2)


def test_an_untrained_transformer_tokenises_the_first_picture(tokenizer, net, pairs):
    model = make(tokenizer, net).eval()
    with torch.no_grad():
        model.body.prior.log_alpha.fill_(10.0)  # nothing but the nearest code
        f_hats = restore_latents(model, tokenizer, pairs.lr, top_k=1)
    expected = tokenizer.decode_scales(tokenizer.tokenize(net.restore(pairs.lr)[4]))
    assert all(torch.allclose(tokenizer.decode(f_hats[s]), image, atol=1e-4) for s, image in expected.items())


def test_training_sees_the_latents_of_the_first_picture(tokenizer, net, pairs):
    model = make(tokenizer, net)
    seen = TransformerLoss(model, tokenizer).features(pairs.lr, pairs.hr[4])
    expected = photo_features(tokenizer, pairs.lr, model.first)
    assert all(torch.equal(ours, own) for ours, own in zip(seen.degraded, expected, strict=True))
    assert not torch.allclose(seen.degraded[2], photo_features(tokenizer, pairs.lr)[2], atol=1e-2)
    assert torch.equal(seen.photo, pairs.lr)  # the prefix shows the photo as it came


def test_the_restorer_never_learns(tokenizer, net):
    model = make(tokenizer, net).requires_grad_(True)
    assert not any(p.requires_grad for p in model.restorer.parameters())
    learning = {p for group in decay_groups(model, 0.1) for p in group["params"]}
    assert learning == {p for p in model.parameters() if p.requires_grad}
    assert all(p.requires_grad for p in model.body.parameters())


def test_a_model_is_built_with_its_restorer(tokenizer, net, pairs):
    model = make(tokenizer, net).eval()
    again = build_transformer(model.settings, tokenizer).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.first(pairs.lr)[2], model.first(pairs.lr)[2])
    assert "restorer" not in make(tokenizer).settings


# --- runs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tokenizer, tmp_path_factory):
    """A net, and a transformer that begins at its picture, two steps each."""
    out = tmp_path_factory.mktemp("runs")
    short = {"validate_every": 0, "steps": 2}
    train("baseline", BaselineSettings.of(SMOKE, **short, net=CnnConfig(8, 1)), out / "net", device="cpu")
    own = TransformerSettings.of(SMOKE, **short, restorer=str(out / "net"))
    train("transformer", own, out / "transformer", device="cpu", tokenizer=tokenizer)
    return out


def test_a_run_carries_its_restorer(runs, tokenizer, pairs, tmp_path):
    state = load_state(runs / "transformer" / STATE)
    assert state["info"]["restorer"]["width"] == 8
    model = load_restorer(runs / "transformer").model
    net = load_state(runs / "net" / STATE)["averaged"]
    assert all(torch.allclose(value, net[name], atol=1e-3) for name, value in model.restorer.state_dict().items())
    longer = TransformerSettings.of(SMOKE, validate_every=0, steps=3, restorer="a folder that is gone")
    (tmp_path / STATE).write_bytes((runs / "transformer" / STATE).read_bytes())
    train("transformer", longer, tmp_path, device="cpu", resume=True)
    again = load_restorer(tmp_path).model
    assert torch.equal(again.first(pairs.lr)[4], model.first(pairs.lr)[4])


def test_a_transformer_starts_from_another(runs, tokenizer, tmp_path, raises_user_error):
    first = load_restorer(runs / "transformer").model
    told = {"validate_every": 0, "steps": 1, "lr": 1e-9, "init": str(runs / "transformer")}
    train("transformer", TransformerSettings.of(SMOKE, **told), tmp_path / "a", device="cpu", tokenizer=tokenizer)
    model = load_restorer(tmp_path / "a").model
    assert model.restorer is None
    weights = first.body.state_dict()
    assert all(torch.allclose(value, weights[name], atol=1e-3) for name, value in model.body.state_dict().items())
    torch.manual_seed(9)
    other = build_tokenizer(TokenizerConfig.of(SMOKE)).eval()
    with raises_user_error("another tokenizer"):
        train("transformer", TransformerSettings.of(SMOKE, **told), tmp_path / "b", device="cpu", tokenizer=other)


def test_whether_a_run_is_finished(runs, tokenizer, tmp_path):
    assert is_finished(runs / "net")
    run = TransformerSettings.of(SMOKE, validate_every=0, steps=1000)
    stopped = train("transformer", run, tmp_path, device="cpu", tokenizer=tokenizer, max_hours=1e-9)
    assert stopped.timed_out
    assert not is_finished(tmp_path)


# --- the decoder's look ----------------------------------------------------------------------------


def test_a_look_can_begin_at_the_first_picture(tokenizer, pairs):
    fidelity = Fidelity.of(tokenizer, hidden=16, base="photo").eval()
    photo, f_hat = upscale_bicubic(pairs.lr)[2], torch.randn(2, 16, 8, 8)
    z = tokenizer.post_quant_conv(f_hat)
    assert torch.equal(fidelity(tokenizer.decoder, z, photo, 2), photo)
    assert torch.equal(decode_faithfully(tokenizer, fidelity, f_hat, photo, 2, fidelity.balanced), photo)
    assert Fidelity(**fidelity.settings).balanced == 1
    assert Fidelity.of(tokenizer, hidden=16).balanced == BALANCED
    torch.nn.init.normal_(fidelity.pixels.weight)  # the tokens speak through the decoder's features
    moved = fidelity(tokenizer.decoder, z + 1, photo, 2) - fidelity(tokenizer.decoder, z, photo, 2)
    assert moved.abs().max() > 1e-3


def test_a_blind_look_sees_no_tokens(tokenizer, pairs):
    fidelity = Fidelity.of(tokenizer, hidden=16, base="photo", blind=True).eval()
    torch.nn.init.normal_(fidelity.pixels.weight)
    photo, z = upscale_bicubic(pairs.lr)[2], torch.randn(2, 16, 8, 8)
    again = Fidelity(**fidelity.settings)
    again.load_state_dict(fidelity.state_dict())
    assert torch.equal(again(tokenizer.decoder, z, photo, 2), fidelity(tokenizer.decoder, 0 * z, photo, 2))
    assert not torch.equal(again(tokenizer.decoder, z, photo, 2), photo)


def test_a_look_can_learn_from_true_tokens(tokenizer, net):
    run = FidelitySettings.of(SMOKE, objective=FidelityObjective(forced=1.0, base="photo"))
    job = fidelity_job(run, Process(), over=(make(tokenizer, net).eval().requires_grad_(False), tokenizer))
    batch = make_source(run, Process()).batch(range(2))
    true = tokenizer.tokenize(batch.x)
    seen = job.prepare(batch)
    images = {s: tokenizer.decode(f_hat) for s, f_hat in seen.f_hats.items()}
    assert all(torch.equal(images[s], image) for s, image in tokenizer.decode_scales(true).items())
    torch.nn.init.normal_(job.model.pixels.weight)
    assert job.model.draws  # taught by true tokens, it believes drawn ones
    own = job.restore(batch)  # what is looked at is what the transformer says
    forced = {s: decode_faithfully(tokenizer, job.model, f, seen.first[s], s, 1.0) for s, f in seen.f_hats.items()}
    assert not torch.allclose(own[4], forced[4], atol=1e-2)


def test_a_look_can_learn_from_both_kinds_of_tokens(tokenizer, net):
    model = make(tokenizer, net).eval().requires_grad_(False)
    batch = make_source(FidelitySettings.of(SMOKE), Process()).batch(range(16))
    ways = {}
    for forced in (0.0, 0.5, 1.0):
        run = FidelitySettings.of(SMOKE, objective=FidelityObjective(forced=forced, trust=0.25, base="photo"))
        ways[forced] = fidelity_job(run, Process(), over=(model, tokenizer)).prepare(batch)
    true = ways[0.5].trust == 1
    assert 3 < true.sum() < 13
    assert set(ways[0.5].trust.tolist()) == {0.25, 1.0}
    for s, f_hat in ways[0.5].f_hats.items():
        assert torch.equal(f_hat[true], ways[1.0].f_hats[s][true])
        assert torch.equal(f_hat[~true], ways[0.0].f_hats[s][~true])
    job = fidelity_job(run, Process(), over=(model, tokenizer))
    torch.nn.init.normal_(job.model.pixels.weight, std=0.01)
    full, half, none = (
        job.loss(replace(ways[1.0], trust=torch.full((16,), weight)))[0].item() for weight in (1.0, 0.5, 0.0)
    )
    assert half == pytest.approx((full + none) / 2, rel=1e-4)
    assert 0 < none < 0.9 * full  # what is not trusted shall still be right when it is shrunk
    assert set(ways[0.5].judged.tolist()) == {0.0, 2.0}
    assert torch.equal(ways[0.5].judged == 0, true)
    assert torch.equal(ways[1.0].judged, torch.ones(16))
    assert torch.equal(ways[0.0].judged, torch.ones(16))


def test_a_fidelity_module_can_go_on_from_another(tokenizer, net, tmp_path, raises_user_error):
    over = make(tokenizer, net).eval().requires_grad_(False), tokenizer
    run = FidelitySettings.of(SMOKE, objective=FidelityObjective(hidden=8, depth=1, base="photo"), steps=2)
    train("fidelity", run, tmp_path / "first", over=over)
    job = fidelity_job(replace(run, init=str(tmp_path / "first")), Process(), over=over)
    averaged = load_restorer(tmp_path / "first").fidelity.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in job.model.state_dict().items())
    larger = replace(run, init=str(tmp_path / "first"), objective=replace(run.objective, hidden=16))
    with raises_user_error("do not fit"):
        fidelity_job(larger, Process(), over=over)
    with raises_user_error("dpo", "no fidelity module"):
        fidelity_job(replace(run, init="dpo"), Process(), over=over)


def test_a_restorer_works_once_per_block_and_sees_what_lies_around_a_tile(tokenizer, net, pairs):
    model = make(tokenizer, net).eval()
    photo, seen = torch.rand(3, 40, 24) * 2 - 1, []
    resolver = SuperResolver(model, tokenizer, tile=16)
    with torch.no_grad():
        whole = net.restore(photo[None])
    first = resolver._first(photo, cut(40, 24, 16, 12))
    for tile in cut(40, 24, 16, 12):
        for s, picture in first([tile], None).items():
            rows, columns = slice(tile.top * s, (tile.top + 16) * s), slice(tile.left * s, (tile.left + 16) * s)
            assert torch.allclose(picture[0], whole[s][0][:, rows, columns], atol=1e-5)
    restore = type(net).restore
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(net), "restore", lambda self, lr: seen.append(lr.shape) or restore(self, lr))
        large = resolver.upscale(photo, (2,))
        assert len(seen) == 1
        small = SuperResolver(model, tokenizer, tile=16, block=16).upscale(photo, (2,))
        assert len(seen) > 2
    assert torch.allclose(large[2], small[2], atol=2 / 255)


def test_upscale_looks_at_the_first_picture(tokenizer, net, pairs):
    model = make(tokenizer, net).eval()
    resolver = SuperResolver(model, tokenizer, Fidelity.of(tokenizer, hidden=16, base="photo").eval())
    images = resolver.upscale(pairs.lr[0])  # one tile
    expected = net.restore(pairs.lr[:1])
    assert all((images[s] - expected[s][0]).abs().max() <= 1.01 / 127.5 for s in (1, 2, 4))


def test_results_of_another_restorer_are_other_results(runs, tmp_path, capsys):
    write_image(tmp_path / "a.png", torch.zeros(3, 16, 16))
    call = ["upscale", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--scales", "1", "--model"]
    assert main([*call, str(runs / "transformer")]) == 0
    state = load_state(runs / "transformer" / STATE)
    name = next(name for name in state["averaged"] if name.startswith("restorer."))
    state["averaged"][name] = state["averaged"][name] + 1
    torch.save(state, tmp_path / STATE)
    assert main([*call, str(tmp_path / STATE)]) == 1
    assert "with other options" in capsys.readouterr().err
    assert main([*call, str(runs / "transformer")]) == 0
    assert "already there" in capsys.readouterr().out


def test_codes_are_drawn_where_the_look_was_taught_to_believe_them(tokenizer, net, pairs):
    fidelity = Fidelity.of(tokenizer, hidden=16, base="photo", draws=True).eval()
    torch.nn.init.normal_(fidelity.pixels.weight)
    resolver = SuperResolver(make(tokenizer, net).eval(), tokenizer, fidelity)
    own, drawn, mean = (
        resolver.upscale(pairs.lr[0], (4,), **how)[4] for how in ({}, {"expected": False}, {"expected": True})
    )
    assert torch.equal(own, drawn)
    assert not torch.equal(own, mean)
    alone = resolver.upscale(pairs.lr[0], (4,), fidelity=0.0)[4]  # tokens alone: their mean
    assert torch.equal(alone, resolver.upscale(pairs.lr[0], (4,), fidelity=0.0, expected=True)[4])


@pytest.mark.parametrize("factor", [4, 8])
def test_a_look_fits_decoders_of_any_factor(factor):
    profile = replace(SMOKE, factor=factor, image_size=16 * factor)
    own = build_tokenizer(TokenizerConfig.of(profile)).eval()
    assert own.config.from_json(own.config.to_json()) == own.config
    assert own.encoder.factor == factor
    x = torch.rand(1, 3, 16 * factor, 16 * factor) * 2 - 1
    assert {s: tuple(image.shape[2:]) for s, image in own.decode_scales(own.tokenize(x)).items()} == {
        s: (4 * factor * s,) * 2 for s in (1, 2, 4)
    }
    fidelity, f_hat = Fidelity.of(own, hidden=16), torch.randn(1, 16, 8, 8)
    photo = torch.rand(1, 3, 8 * factor, 8 * factor) * 2 - 1
    assert torch.allclose(decode_faithfully(own, fidelity, f_hat, photo, 2, 1.0), own.decode(f_hat), atol=1e-5)


def test_a_critic_can_judge_what_is_decoded(tokenizer, net):
    objective = FidelityObjective(adversarial=0.5, adversarial_start=0.5, base="photo")
    run = FidelitySettings.of(SMOKE, objective=objective)
    job = fidelity_job(run, Process(), over=(make(tokenizer, net).eval().requires_grad_(False), tokenizer))
    seen = job.prepare(make_source(run, Process()).batch(range(2)))
    loss, numbers = job.loss(seen, Moment(0, 0.6))
    assert numbers["critic"] > 0
    before = job.parts["adversary"].critic.layers[0].bias.detach().clone()
    loss.backward()
    job.finish(Moment(0, 0.6))
    assert not torch.equal(job.parts["adversary"].critic.layers[0].bias, before)
    job.model.eval()
    assert "critic" not in job.loss(seen, Moment(0, 0.6))[1]
