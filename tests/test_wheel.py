"""An installed wheel finds its photographs and checkpoints, far from any clone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LOOK = """
import vartutor.paths
from vartutor.weights.files import load_checkpoint
from vartutor.data.photos import photos
from vartutor.perceptual import CHECKPOINT

assert vartutor.paths.assets().parent == vartutor.paths.PACKAGE
assert len(photos()) == 82 and all(photo.intact() for photo in photos())
print(photos("test")[0].load().shape[0], len(load_checkpoint(CHECKPOINT)) > 50)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_a_wheel_carries_the_assets_and_finds_them(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    # First on the path: the package of the wheel, not that of the clone.
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{LOOK}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "3 True\n", done.stderr


def test_a_wheel_carries_licences_and_no_notebooks(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).name for name in names if "licenses" in name} == {"LICENSE", "LICENSE-TEXT"}
    assert "vartutor/assets/photos/ATTRIBUTION.csv" in names
    assert not [name for name in names if name.endswith((".ipynb", ".md")) or name.startswith(("tests", "book"))]
