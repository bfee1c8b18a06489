import hashlib
import re
import shutil

import pytest
import torch

from vartutor.paths import assets
from vartutor.weights import files
from vartutor.weights.files import checkpoint_path, intact, load_checkpoint, manifest


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the checkpoints that a test may spoil."""
    shutil.copytree(assets() / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.setattr(files, "assets", lambda: tmp_path)
    load_checkpoint.cache_clear()
    yield tmp_path / "checkpoints"
    load_checkpoint.cache_clear()


def test_the_manifest_lists_every_checkpoint():
    assert set(manifest()) == {path.name for path in (assets() / "checkpoints").glob("*.safetensors")}
    assert {path.name for path in (assets() / "checkpoints").iterdir()} == set(manifest()) | {"manifest.json"}


@pytest.mark.parametrize("name", manifest())
def test_checkpoint_is_as_published(name):
    entry = manifest()[name]
    assert re.fullmatch("[0-9a-f]{64}", entry["sha256"])
    assert hashlib.sha256(checkpoint_path(name).read_bytes()).hexdigest() == entry["sha256"]
    assert intact(name)
    assert all(entry.get(key) for key in ("what", "licence"))


@pytest.mark.parametrize("name", manifest())
def test_load(name):
    tensors = load_checkpoint(name)
    assert tensors
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize("spoil", ["changed", "cut", "missing"])
def test_a_spoiled_file_gives_one_line(copied, raises_user_error, spoil):
    name = next(iter(manifest()))
    path = copied / name
    content = bytearray(path.read_bytes())
    if spoil == "changed":
        content[-1] ^= 1
        path.write_bytes(content)
    elif spoil == "cut":
        path.write_bytes(content[:1000])
    else:
        path.unlink()
    assert not intact(name)
    with raises_user_error(path, "not the published file", "git checkout"):
        load_checkpoint(name)


@pytest.mark.parametrize("call", [load_checkpoint, checkpoint_path, intact])
def test_unknown_name(call, raises_user_error):
    for name in ("nothing.safetensors", "../photos/ATTRIBUTION.csv", ""):
        with raises_user_error(repr(name), "efficientnet_lite0_features.safetensors"):
            call(name)
