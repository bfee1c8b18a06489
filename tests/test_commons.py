"""Photos under free licences: the list, shrinking to the very bytes, fetching what is missing."""

import hashlib
import http.server
import io
import threading
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from vartutor.cli import main
from vartutor.data.images import read_image, to_pil
from vartutor.data.photos import find_photo
from vartutor.data.tiles import load_set
from vartutor.workshop import commons
from vartutor.workshop.commons import fetch_listed, read_list, shrink_file


@pytest.fixture(scope="module")
def photos():
    """{name: content of an image file}: a wide one, a tall one with a colour profile, and a broken one."""
    image = to_pil(find_photo("lemur").load())
    wide, tall = image.resize((1300, 600)), image.resize((540, 700))
    found = {}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, own, options in (("wide", wide, {}), ("tall", tall, {"icc_profile": profile})):
        buffer = io.BytesIO()
        own.save(buffer, "PNG", **options)
        found[name] = buffer.getvalue()
    return found | {"broken": found["wide"][:2000]}


@pytest.fixture
def server(photos):
    """Serves the photos; ``asked`` are the paths that were asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = photos.get(Path(self.path).stem)
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    own = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=own.serve_forever, daemon=True).start()
    own.asked, own.home = asked, f"http://127.0.0.1:{own.server_port}"
    yield own
    own.shutdown()


def row(server, name, content=b"", cut=""):
    digest = hashlib.sha256(content).hexdigest()
    return {"file": f"{name}.jpg", "url": f"{server.home}/a/{name}.png", "cut": cut, "sha256": digest}


def test_the_list_names_every_photo_once_with_its_author_and_licence():
    rows = read_list()
    assert len(rows) == len({r["file"] for r in rows}) == len({r["sha256"] for r in rows}) == 443
    for r in rows:
        assert r["author"] or not r["licence"].startswith("CC-BY")  # CC BY asks for it
        assert r["page"].startswith("http")
        assert r["url"].startswith("https://raw.githubusercontent.com/")
        assert r["licence"].startswith(("CC0", "CC-BY-", "Public domain"))
        assert r["cut"] in ("", "2:1")
        assert len(bytes.fromhex(r["sha256"])) == 32


def test_photos_are_shrunk_to_a_short_side_of_512(photos):
    for name, size in (("wide", (1109, 512)), ("tall", (512, 664))):
        image = Image.open(io.BytesIO(shrink_file(photos[name])))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)
    assert Image.open(io.BytesIO(shrink_file(photos["wide"], "2:1"))).size == (1024, 512)
    assert shrink_file(photos["wide"]) == shrink_file(photos["wide"])


def test_only_what_is_missing_is_fetched(server, photos, tmp_path, capsys):
    good = {name: shrink_file(photos[name]) for name in ("wide", "tall")}
    rows = [row(server, name, content) for name, content in good.items()]
    wrong = [row(server, "wide") | {"file": "other.jpg"}, row(server, "broken"), row(server, "gone")]
    told = fetch_listed([*rows, *wrong], tmp_path / "commons")
    assert told.startswith("3 of 5 photos could not be had, the first: ")
    assert "not the photo that the list names" in told
    assert {path.name: path.read_bytes() for path in (tmp_path / "commons").iterdir()} == {
        f"{name}.jpg": content for name, content in good.items()
    }
    before = len(server.asked)
    assert fetch_listed(rows, tmp_path / "commons") == ""
    assert len(server.asked) == before
    (tmp_path / "commons" / "tall.jpg").write_bytes(b"changed")
    assert fetch_listed(rows, tmp_path / "commons") == ""
    assert (tmp_path / "commons" / "tall.jpg").read_bytes() == good["tall"]


def test_nothing_at_all_is_an_error(server, tmp_path, raises_user_error):
    with raises_user_error("404"):
        fetch_listed([row(server, "gone")], tmp_path / "commons")


def test_the_command_prepares_the_list(server, photos, tmp_path, monkeypatch, capsys):
    rows = [row(server, "wide", shrink_file(photos["wide"])), row(server, "gone")]
    monkeypatch.setattr("vartutor.workshop.prepare.read_list", lambda: rows)
    call = ["data", "prepare", "commons", "--out", str(tmp_path), "--yes"]
    assert main(call) == 0
    printed = capsys.readouterr()
    assert "1 of 2 photos could not be had" in printed.err
    assert "photos_commons.csv names licence and author" in printed.out
    pieces = load_set(tmp_path / "commons")
    assert [tuple(piece.shape) for piece in pieces] == [(3, 512, 1024), (3, 512, 1024)]
    assert read_image(tmp_path / "downloads" / "commons" / "wide.jpg").shape == (3, 512, 1109)
    assert commons.SHORT == 512
