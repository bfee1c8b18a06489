"""The panel for a reader's own photo: by hand, and in JupyterLab in a browser."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import browser
import pytest
from PIL import Image

from vartutor.show.try_it import TryIt

ROOT = Path(__file__).resolve().parents[1]
READY = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def upload(name: str, content: bytes) -> tuple[dict]:
    about = {"name": name, "type": "image/png", "size": len(content), "last_modified": datetime.now(timezone.utc)}
    return (about | {"content": memoryview(content)},)


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_photo_is_restored_at_three_sizes():
    panel = TryIt()
    assert panel.button.disabled
    panel.piece.value = 256
    panel.file.value = upload("photo.png", png(24, 17))
    assert "24 × 17 pixels become up to 96 × 68. Expected: about 0 seconds." in panel.said.value
    panel.button.click()
    assert panel.said.value.startswith("Done in")
    assert panel.bar.value == panel.bar.max > 0
    assert [panel.results.get_title(i) for i in range(3)] == ["×1", "×2", "×4"]
    assert all(page.value.count("data:image/jpeg;base64,") == 2 for page in panel.results.children)
    assert not panel.button.disabled
    first = panel.results.children[2].value
    panel.boldness.value, panel.seed.value = 1.2, 3
    panel.button.click()
    assert panel.results.children[2].value != first


def test_a_large_photo_is_cut_and_its_cost_is_said():
    panel = TryIt()
    panel.file.value = upload("large.png", png(700, 90))
    assert "96 × 90 pixels" in panel.said.value
    panel.piece.value = 4096
    assert "700 × 90 pixels become up to 2800 × 360. Expected: about 38 seconds." in panel.said.value


def test_what_is_no_photo_gets_one_line_and_harms_nothing():
    panel = TryIt()
    panel.file.value = upload("<i>.png", b"no photo")
    assert panel.said.value == "<b>&lt;i&gt;.png: not a readable image (cannot identify image file)</b>"
    assert panel.button.disabled
    panel.file.value = upload("photo.png", png(20, 20))
    assert not panel.button.disabled


@contextmanager
def lab(home: Path):
    """A JupyterLab of its own over a folder; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")}
    told = [f"--port={port}", "--port-retries=0", f"--ServerApp.root_dir={home}", "--IdentityProvider.token="]
    told += ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--LabApp.expose_app_in_browser=True"]
    with open(home / "lab.log", "w") as log:
        command = [sys.executable, "-m", "jupyter", "lab", *told, "--ServerApp.disable_check_xsrf=True"]
        server = subprocess.Popen(command, env=os.environ | folders, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"{address}/api/status", timeout=2)
                    break
                except OSError:
                    assert server.poll() is None, (home / "lab.log").read_text()
                    time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)
def test_the_panel_works_in_jupyterlab(tmp_path):
    shutil.copy(ROOT / "notebooks" / "try_it.ipynb", tmp_path)  # Lab would save what it shows
    (tmp_path / "mine.png").write_bytes(png(20, 20))
    with lab(tmp_path) as address, browser.chromium() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(90_000)
        page.goto(f"{address}/lab/tree/try_it.ipynb?reset")
        page.wait_for_function(READY)
        page.get_by_role("menuitem", name="Run", exact=True).first.click()
        page.get_by_text("Run All Cells", exact=True).first.click()
        page.get_by_text("It stays on this machine.").last.wait_for()
        with page.expect_file_chooser() as chooser:
            page.locator("button.widget-upload").click()
        chooser.value.set_files(tmp_path / "mine.png")
        page.get_by_text("20 × 20 pixels become up to 80 × 80").wait_for()
        page.get_by_role("button", name="Restore").click()
        page.get_by_text("Done in").wait_for()
        knob = page.get_by_label("how much of as it was, enlarged is seen").last
        knob.focus()
        page.keyboard.press("ArrowRight")
        assert knob.input_value() == "51"
        assert page.locator(".before-after").last.evaluate("box => box.style.getPropertyValue('--seen')") == "51%"
