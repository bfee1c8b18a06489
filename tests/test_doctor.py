"""`vartutor doctor` on a healthy machine, and on machines with one thing wrong."""

import os
import shutil
import sys

import psutil
import pytest
import torch

from vartutor import doctor
from vartutor.cli import main
from vartutor.doctor import FAIL, OK, WARN, examine
from vartutor.weights import load_restorer


def find(word: str) -> doctor.Finding:
    (finding,) = (f for f in examine() if f.what.startswith(word))
    return finding


def test_a_healthy_machine(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 10
    for word in ("Python", "packages:", "kernel", "photos: 82", "checkpoints", "memory", "disk", "threads", "GPU"):
        assert any(word in line for line in lines), word
    assert not any(line.startswith(FAIL) for line in lines)


@pytest.fixture
def spoiled(tmp_path, monkeypatch):
    """Assets with one photograph and one checkpoint changed."""
    from vartutor.paths import assets

    shutil.copytree(assets(), tmp_path / "assets")
    for module in ("vartutor.paths", "vartutor.data.photos", "vartutor.weights.files", "vartutor.doctor"):
        monkeypatch.setattr(f"{module}.assets", lambda: tmp_path / "assets")
    return tmp_path / "assets"


def test_a_changed_photo_is_named(spoiled, capsys):
    with open(spoiled / "photos" / "kde_owl.jpg", "ab") as file:
        file.write(b"x")
    assert main(["doctor"]) == 1
    assert "photos: 1 of 82 missing or changed, first kde_owl.jpg -> git checkout" in capsys.readouterr().out


def test_a_missing_checkpoint_is_named(spoiled):
    (spoiled / "checkpoints" / "efficientnet_lite0_features.safetensors").unlink()
    assert find("checkpoints").status == FAIL
    assert "efficientnet_lite0_features.safetensors" in find("checkpoints").what


def test_a_broken_manifest_is_named(spoiled, raises_user_error):
    manifest = spoiled / "checkpoints" / "manifest.json"
    for text in ("{", "[]", '{"a": 1}', '{"a": {}}'):
        manifest.write_text(text)
        assert find("checkpoints: no readable manifest").status == FAIL
        with raises_user_error(manifest, "not readable", "git checkout"):
            load_restorer("course")


def test_too_old_and_missing_packages(monkeypatch):
    real = doctor.version

    def version(name):
        if name == "tqdm":
            raise doctor.PackageNotFoundError
        return "1.0" if name == "numpy" else real(name)

    monkeypatch.setattr(doctor, "version", version)
    finding = find("packages:")
    assert finding.status == FAIL
    assert "numpy 1.0 (needs >=1.26)" in finding.what
    assert "tqdm (missing)" in finding.what
    assert finding.advice == "pip install -e ."


def test_little_memory_and_disk(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"available": 0.5e9}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("D", (), {"free": 0.1e9}))
    assert find("memory: 0.5 GB free").status == WARN
    assert find("disk: 0.1 GB free").status == WARN


def test_too_many_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert "OMP_NUM_THREADS" in find("threads").advice


def test_no_kernel(monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    def missing(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", missing)
    assert find("kernel").advice == "pip install ipykernel"


def test_a_kernel_of_the_interpreter_below_this_environment(monkeypatch, tmp_path):
    """Its real path is the same, its packages are not; and one of an environment that is gone."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    bin = tmp_path / "venv" / "bin"
    bin.mkdir(parents=True)
    for name in ("python", "python3"):
        (bin / name).symlink_to(os.path.realpath(sys.executable))
    monkeypatch.setattr(sys, "executable", str(bin / "python"))
    for command, status in {
        "python": OK,
        str(bin / "python"): OK,
        str(bin / "python3"): OK,
        os.path.realpath(bin / "python"): WARN,
        str(tmp_path / "gone" / "python"): WARN,
    }.items():
        monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_, c=command: KernelSpec(argv=[c]))
        assert find("kernel").status == status, command


def test_a_kernel_that_cannot_be_read(monkeypatch, tmp_path):
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    for text in ("{", '{"argv": [], "display_name": "Python 3", "language": "python"}'):
        (tmp_path / "kernels" / "python3" / "kernel.json").write_text(text)
        assert find("kernel").status == WARN


def test_a_finding_is_one_line():
    assert str(doctor.Finding(OK, "all well")) == "ok   all well"
    assert str(doctor.Finding(WARN, "old", "renew")) == "warn old -> renew"
