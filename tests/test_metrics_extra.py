import sys
from types import SimpleNamespace

import pytest
import torch

from vartutor import metrics_extra
from vartutor.data.images import to_uint8
from vartutor.metrics_extra import BUILDERS, NO_REFERENCE, extra_metric

FULL_REFERENCE = ("lpips", "dists")


class Spy(torch.nn.Module):
    """Stands in for a metric's network: keeps what it was given."""

    def __init__(self, shape, **options):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))  # so that a forgotten no_grad shows
        self.shape, self.options, self.calls = shape, options, []

    def forward(self, *images):
        self.calls.append(images)
        return images[0].mean((1, 2, 3)).reshape(self.shape(len(images[0]))) + self.weight


class FID:
    def __init__(self, feature):
        self.feature, self.updates, self.resets = feature, [], 0

    def to(self, device):
        return self

    def reset(self):
        self.updates, self.resets = [], self.resets + 1

    def update(self, images, real):
        self.updates.append((images, real))

    def compute(self):
        return torch.tensor(12.5)


@pytest.fixture
def fake(monkeypatch):
    """Fake modules; the dictionary holds what was made of them."""
    made = {}

    def keep(name, value):
        made[name] = value
        return value

    modules = {
        "lpips": SimpleNamespace(LPIPS=lambda **o: keep("lpips", Spy(lambda b: (b, 1, 1, 1), **o))),
        # As the real one: it squeezes, which makes a batch of one a single number.
        "DISTS_pytorch": SimpleNamespace(DISTS=lambda: keep("dists", Spy(lambda b: (b,) if b > 1 else ()))),
        "torchmetrics.image.fid": SimpleNamespace(FrechetInceptionDistance=lambda **o: keep("fid", FID(**o))),
        "pyiqa": SimpleNamespace(create_metric=lambda n, device: keep(n, Spy(lambda b: (b, 1), name=n, device=device))),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(metrics_extra, "VggDistance", lambda: keep("vgg", Spy(lambda b: (b,))))
    return made


@pytest.fixture
def x():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", FULL_REFERENCE)
@pytest.mark.parametrize("batch", [1, 3])
def test_full_reference_ranges(fake, x, name, batch):
    x = x[:batch]
    y = (x * 1.5).requires_grad_()  # leaves [-1, 1] as bicubic does
    value = extra_metric(name)(x, y)
    (given_x, given_y), *rest = fake[name].calls
    assert not rest
    low = -1 if name == "lpips" else 0
    assert torch.allclose(given_x, x if name == "lpips" else (x + 1) / 2)
    assert given_y.min() == low
    assert given_y.max() == 1
    assert value.shape == (batch,)
    assert torch.allclose(value, given_x.mean((1, 2, 3)))
    assert not value.requires_grad
    assert not fake[name].training


def test_lpips_is_the_alexnet_one(fake):
    extra_metric("lpips")
    assert fake["lpips"].options == {"net": "alex", "verbose": False}


@pytest.mark.parametrize("name", NO_REFERENCE)
@pytest.mark.parametrize("batch", [1, 3])
def test_no_reference_ranges(fake, x, name, batch):
    metric = extra_metric(name, "cpu")
    assert fake[name].options == {"name": name, "device": torch.device("cpu")}
    value = metric(x[:batch] * 1.5)
    assert value.shape == (batch,)
    (given,) = fake[name].calls[0]
    assert torch.allclose(given, ((x[:batch] * 1.5 + 1) / 2).clamp(0, 1))
    assert torch.equal(metric(x[:batch] * 1.5, None), value)
    assert torch.equal(metric(x[:batch] * 1.5, x), value)  # a reference is not looked at
    assert not value.requires_grad


def test_fid_gets_8_bits_of_two_sets(fake, x):
    metric = extra_metric("fid")
    assert fake["fid"].feature == 2048
    many = x.repeat(12, 1, 1, 1)
    value = metric(x, many)
    assert value.shape == ()
    assert value == 12.5
    updates = fake["fid"].updates
    assert [(len(images), real) for images, real in updates] == [(3, False), (32, True), (4, True)]
    assert all(images.dtype == torch.uint8 for images, _ in updates)
    assert torch.equal(updates[0][0], to_uint8(x))
    metric(x, x)
    assert len(fake["fid"].updates) == 2  # the first sets are forgotten
    assert fake["fid"].resets == 2


def test_fid_needs_sets(fake, x, raises_user_error):
    for a, b in ((x[:1], x), (x, x[:1])):
        with raises_user_error("fid", "at least 2"):
            extra_metric("fid")(a, b)


@pytest.mark.parametrize("name", ["vgg", "lpips", "dists", "fid"])
def test_references_are_needed(fake, x, raises_user_error, name):
    with raises_user_error(repr(name), "reference"):
        extra_metric(name)(x)


@pytest.mark.parametrize("name", BUILDERS)
def test_wrong_shapes(fake, x, raises_user_error, name):
    metric = extra_metric(name)
    for wrong in (x[0], x[:, :1]):
        with raises_user_error(repr(name), "(B, 3, H, W)"):
            metric(wrong, wrong)
    if name in ("vgg", *FULL_REFERENCE):
        with raises_user_error(repr(name), "same shape", "(3, 3, 8, 8)", "(2, 3, 8, 8)"):
            metric(x, x[:2])


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [("lpips", "lpips", "vartutor[metrics]"), ("dists", "DISTS_pytorch", "vartutor[metrics]")]
    + [("fid", "torchmetrics.image.fid", "vartutor[metrics]")]
    + [(name, "pyiqa", "pip install pyiqa (licence PolyForm Noncommercial") for name in NO_REFERENCE],
)
def test_a_missing_package_says_what_to_install(monkeypatch, raises_user_error, name, package, command):
    monkeypatch.setitem(sys.modules, package, None)
    with raises_user_error(repr(name), package, "pip install", command):
        extra_metric(name)


def test_a_package_that_misses_torchvision_says_so(fake, monkeypatch, raises_user_error):
    def broken(**_):
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setattr(sys.modules["lpips"], "LPIPS", broken)
    with raises_user_error("'lpips'", "no package torchvision", "vartutor[metrics]"):
        extra_metric("lpips")
    # torchmetrics raises this one without a name where torch-fidelity is missing.
    monkeypatch.setattr(sys.modules["lpips"], "LPIPS", lambda **_: (_ for _ in ()).throw(ModuleNotFoundError("a\nb")))
    with raises_user_error("'lpips'", "vartutor[metrics]"):
        extra_metric("lpips")


def test_no_network_says_so(fake, monkeypatch, raises_user_error):
    def offline():
        raise OSError("name resolution failed\nsecond line")

    monkeypatch.setattr(sys.modules["DISTS_pytorch"], "DISTS", offline)
    with raises_user_error("'dists'", "no weights", "name resolution failed"):
        extra_metric("dists")


def test_unknown_name(raises_user_error):
    with raises_user_error("'vmaf'", "lpips, dists, fid, niqe, musiq, maniqa, clipiqa"):
        extra_metric("vmaf")
