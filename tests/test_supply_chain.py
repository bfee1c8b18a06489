"""What comes from elsewhere: no file's code is ever run, and no archive or download writes where it should not."""

import ast
import io
import os
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from vartutor.cli import main
from vartutor.data.photos import photos
from vartutor.data.tiles import INDEX, TILES
from vartutor.errors import UserError
from vartutor.weights import load_addition, load_cnn, load_restorer, load_start, load_tokenizer
from vartutor.weights.files import load_state
from vartutor.weights.official_transformer import load_var
from vartutor.weights.state_dicts import read_state_dict
from vartutor.workshop.prepare import LARGEST_FILE, write_set
from vartutor.workshop.prepare import _members as members

PACKAGE = Path(__file__).resolve().parents[1] / "vartutor"


class Evil:
    """What runs code when a pickle of it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


LOADERS = {
    "load_state": load_state,
    "read_state_dict": read_state_dict,
    "load_tokenizer": load_tokenizer,
    "load_restorer": load_restorer,
    "load_start": load_start,
    "load_cnn": load_cnn,
    "load_addition": lambda path: load_addition("refiner", torch.nn.Identity, path),
    "load_var": load_var,
    "upscale": lambda path: main(["upscale", str(PACKAGE / "none.png"), "--out", f"{path}-out", "--model", str(path)]),
    "resume": lambda path: main(["train", "tokenizer", "--resume", "--out", str(path.parent)]),
    "publish": lambda path: main(["publish", str(path.parent), "--out", f"{path}-out"]),
    "evaluate": lambda path: main(["evaluate", "--restorers", f"cnn:{path}", "--out", f"{path}-out"]),
    "init": lambda path: main(
        ["train", "transformer", "--profile", "smoke", "--set", f"init={path}", "--out", f"{path}-out"]
    ),
}


@pytest.mark.parametrize("name", ["state.pt", "state.pth"])
@pytest.mark.parametrize("loader", LOADERS)
def test_a_pickle_with_code_does_nothing(tmp_path, loader, name):
    path = tmp_path / name
    torch.save({"x": Evil(tmp_path / "it ran"), "info": {"kind": "tokenizer"}}, path)
    with suppress(UserError):
        assert LOADERS[loader](path) == 2
    assert not (tmp_path / "it ran").exists()


def test_no_pickle_is_loaded_and_no_archive_unpacked():
    names = {"torch.load", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "np.load", "eval"}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [node for node in calls if isinstance(node.func, (ast.Name, ast.Attribute))]
    found = [ast.unparse(node) for node in found if ast.unparse(node.func) in names]
    assert len(found) == 2
    assert all(call.startswith("torch.load(") and "weights_only=True" in call for call in found)
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for word in ("import pickle", "import marshal", "import shelve", ".extractall(", ".extract(", "unpack_archive"):
        assert word not in text


def archive(path, entries):
    """A tar or zip file with such names, contents and kinds."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bag:
            for name, content in entries:
                bag.writestr(name, content)
        return
    with tarfile.open(path, "w:gz") as bag:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bag.addfile(info, io.BytesIO(content))
        for kind, name in ((tarfile.SYMTYPE, "link.png"), (tarfile.FIFOTYPE, "pipe.png"), (tarfile.CHRTYPE, "dev.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            bag.addfile(info)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_archives_write_nothing_outside_their_folder(tmp_path, suffix):
    photo = photos("test")[0].path.read_bytes()
    absolute = tmp_path / "absolute.jpg"
    names = ["../../up.jpg", str(absolute), "a/../../b.jpg", "fine.jpg", "C:\\evil.jpg"]
    path = tmp_path / "in" / f"set{suffix}"
    path.parent.mkdir()
    archive(path, [(name, photo) for name in names])
    assert write_set(members(path, ""), tmp_path / "out" / "set", tile=64, least=32) == 0
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted([path.name, TILES, INDEX])
    assert not (tmp_path.parent / "up.jpg").exists()


def test_a_bomb_is_left_out_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("vartutor.workshop.prepare.LARGEST_FILE", 10**5)
    archive(tmp_path / "bomb.zip", [("bomb.png", bytes(10**6)), ("small.png", b"x")])
    archive(tmp_path / "bomb.tar.gz", [("bomb.png", bytes(10**6)), ("small.png", b"x")])
    for name in ("bomb.zip", "bomb.tar.gz"):
        assert list(members(tmp_path / name, "")) == [b"x"]
    assert LARGEST_FILE >= 2**28


def test_a_locked_archive_is_one_line(tmp_path, raises_user_error):
    path = tmp_path / "locked.zip"
    archive(path, [("a.png", b"x" * 100)])
    content = bytearray(path.read_bytes())
    for start, flags in ((content.index(b"PK\3\4"), 6), (content.index(b"PK\1\2"), 8)):
        content[start + flags] |= 1  # encrypted
    path.write_bytes(content)
    with raises_user_error(path, "broken"):
        list(members(path, ""))
