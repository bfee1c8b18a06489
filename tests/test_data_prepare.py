"""Photo sets: downloads that break off, checksums, full disks, pieces, and streams that can be entered anywhere."""

import errno
import hashlib
import http.server
import io
import json
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vartutor.cli import main
from vartutor.data.damage import damage
from vartutor.data.draws import photo_seeds
from vartutor.data.images import to_pil, to_uint8, write_image
from vartutor.data.presets import VARSR
from vartutor.data.store import PhotoStore
from vartutor.data.tiles import load_set, prepared_sets
from vartutor.profiles import get_profile
from vartutor.train.kinds import train
from vartutor.train.processes import Process
from vartutor.train.settings import TokenizerSettings
from vartutor.train.source import make_source, name_sets, share
from vartutor.train.tokenizer import Losses
from vartutor.workshop import download as downloads
from vartutor.workshop import sets
from vartutor.workshop.download import download
from vartutor.workshop.prepare import cut_photo, prepare, terms, write_set
from vartutor.workshop.sets import PhotoSet, RemoteFile, get_set


class Server:
    """Serves ``content``, whole or from an offset on; ``faults`` say what goes wrong with the next requests."""

    def __init__(self, content):
        self.content, self.faults, self.asked, self.etag, self.ranges = content, [], [], '"1"', True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/photos.zip"

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int) and fault >= 400:
            request.send_error(fault)
            return
        same = request.headers.get("If-Range") == self.etag
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and same and self.ranges else 0
        if start and start >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.end_headers()
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", self.etag)
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if fault == "drop" else body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    monkeypatch.setattr(downloads, "BLOCK", 1000)
    serving = Server(bytes(range(256)) * 40)
    yield serving
    serving.server.shutdown()


def test_a_dropped_connection_goes_on_where_it_broke(server, tmp_path):
    server.faults = ["drop", "drop"]
    path = download(server.url, tmp_path / "a" / "photos.zip")
    assert path.read_bytes() == server.content
    assert server.asked == [None, "bytes=5120-", "bytes=7680-"]
    assert [p.name for p in path.parent.iterdir()] == ["photos.zip"]
    download(server.url, path)
    assert len(server.asked) == 3  # it is there


def test_a_later_call_goes_on(server, tmp_path, raises_user_error):
    server.faults = ["drop", 503, 503]
    path = tmp_path / "photos.zip"
    with raises_user_error("run it again to go on after byte 5120"):
        download(server.url, path, tries=3)
    assert not path.exists()
    assert download(server.url, path).read_bytes() == server.content
    assert server.asked[-1] == "bytes=5120-"


def test_another_file_or_a_server_without_ranges_begins_anew(server, tmp_path, raises_user_error):
    server.faults = ["drop", 404]
    path = tmp_path / "photos.zip"
    with raises_user_error("404"):
        download(server.url, path)
    server.content, server.etag = b"new" * 4000, '"2"'
    assert download(server.url, path).read_bytes() == server.content
    server.ranges, server.faults = False, ["drop"]
    assert download(server.url, tmp_path / "again.zip").read_bytes() == server.content


def test_all_had_arrived_but_the_name(server, tmp_path):
    (tmp_path / "photos.zip.part").write_bytes(server.content)
    (tmp_path / "photos.zip.tag").write_text(server.etag)
    assert download(server.url, tmp_path / "photos.zip").read_bytes() == server.content


def test_a_wrong_checksum_or_size_is_refused(server, tmp_path, raises_user_error):
    path = tmp_path / "photos.zip"
    with raises_user_error("photos.zip: wrong checksum", server.url):
        download(server.url, path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []
    with raises_user_error("10240 bytes instead of 10241"):
        download(server.url, path, size=10241)
    path.write_bytes(b"something else")
    with raises_user_error("wrong checksum"):
        download(server.url, path, sha256=hashlib.sha256(server.content).hexdigest())


def test_a_full_disk_keeps_what_has_arrived(server, tmp_path, monkeypatch, raises_user_error):
    path, written = tmp_path / "photos.zip", []
    real = open

    def limited(file, mode="r", *args, **kwargs):
        opened = real(file, mode, *args, **kwargs)
        if str(file).endswith(".part") and "b" in mode:
            write = opened.write

            class Full:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    opened.close()

                def write(self, block):
                    if len(written) == 3:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    written.append(write(block))

            return Full()
        return opened

    monkeypatch.setattr("builtins.open", limited)
    with raises_user_error("No space left on device", "3000 bytes are kept"):
        download(server.url, path)
    monkeypatch.setattr("builtins.open", real)
    assert download(server.url, path).read_bytes() == server.content
    assert server.asked[-1] == "bytes=3000-"


def test_too_little_room_is_said_before(tmp_path, raises_user_error):
    with raises_user_error("GB are missing"):
        download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip", size=10**15)


def test_no_server(tmp_path, monkeypatch, raises_user_error):
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    with raises_user_error("not downloaded", "run it again"):
        download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip", tries=2)


# --- pieces ----------------------------------------------------------------------------------------


def photo(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def png(image):
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Twelve prepared pieces of nine photos."""
    photos = [png(photo(64 + 8 * (k > 5), 64 + 40 * (k > 5), k)) for k in range(9)]
    assert write_set([*photos, b"no photo", png(photo(20, 80))], tmp_path / "s", tile=72, least=64) == 2
    return tmp_path


def test_pieces_cover_a_photo():
    image = to_uint8(photo(130, 70))
    pieces, covered = cut_photo(png(photo(130, 70)), 64, 64), torch.zeros(130, 70)
    corners = [(top, left) for top in (0, 33, 66) for left in (0, 6)]
    for (size, content), (top, left) in zip(pieces, corners, strict=True):
        part = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(3, *size)
        covered[top : top + size[0], left : left + size[1]] += 1
        assert torch.equal(part, image[:, top : top + 64, left : left + 64])
    assert len(pieces) == 6
    assert covered.min() >= 1


def test_the_file_holds_the_pieces_byte_for_byte_and_the_index_finds_them(folder):
    pieces = load_set(folder / "s")
    assert len(pieces) == 12
    assert [tuple(piece.shape) for piece in pieces] == 6 * [(3, 64, 64)] + 6 * [(3, 72, 72)]
    assert all(torch.equal(pieces[k], to_uint8(photo(64, 64, k))) for k in range(6))
    assert torch.equal(pieces[7], to_uint8(photo(72, 104, 6))[:, :, 32:])
    assert sorted(path.name for path in (folder / "s").iterdir()) == ["index.json", "tiles.bin"]
    assert (folder / "s" / "tiles.bin").stat().st_size == sum(piece.numel() for piece in pieces)


def test_cutting_in_processes_gives_the_same_file(folder, tmp_path):
    photos = [png(photo(64, 64, k)) for k in range(7)]
    for workers in (1, 2):
        write_set(photos, tmp_path / f"w{workers}", tile=64, least=64, workers=workers)
    for name in ("tiles.bin", "index.json"):
        assert (tmp_path / "w1" / name).read_bytes() == (tmp_path / "w2" / name).read_bytes()


SMOKE = replace(get_profile("smoke"), image_size=32, groups=((1, 2), (4,), (8,)))


def test_a_folder_of_several_sets_is_data_of_all_of_them(folder):
    write_set([png(photo(64, 64, 20))], folder / "other", tile=64, least=64)
    sets = prepared_sets(folder)
    assert [found.name for found in sets] == name_sets(str(folder)) == ["other", "s"]
    images = make_source(TokenizerSettings.of(SMOKE, data=str(folder)), Process()).store.images
    assert len(images) == 13
    assert torch.equal(images[0], to_uint8(photo(64, 64, 20)))
    assert name_sets(str(folder / "s")) == ["s"]


def test_a_set_that_fits_nowhere_is_read_piece_by_piece(folder, monkeypatch):
    """What a step draws is all that is read: the file may be far larger than any memory."""
    run = TokenizerSettings.of(SMOKE, seed=1, batch=4, data=str(folder))
    expected = make_source(run, Process()).batch(range(8))
    monkeypatch.setattr("vartutor.data.store.ROOM", 0)
    source, laid = make_source(run, Process()), []
    assert source.store.laid is None
    lay_out = PhotoStore._lay_out
    monkeypatch.setattr(PhotoStore, "_lay_out", lambda self, images, pin: laid.append(images) or lay_out(self, images))
    batch = source.batch(range(8))
    assert torch.equal(batch.x, expected.x)
    assert torch.equal(batch.lr, expected.lr)
    mapped = {piece.untyped_storage().data_ptr() for piece in source.store.images}
    assert len(mapped) == 1  # one file, of which nothing was copied before
    assert [len(images) for images in laid] == [8]


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no holes")
def test_a_set_may_be_larger_than_any_memory(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({"tile": 1024, "sizes": [[1024, 1024]] * 100_000}))
    with open(tmp_path / "tiles.bin", "wb") as file:
        file.truncate(3 * 1024**2 * 100_000)  # 315 GB, of which the disk holds nothing
    store = PhotoStore(load_set(tmp_path))
    assert len(store.images) == 100_000
    assert (store.crops(photo_seeds(0, torch.arange(2)), 64) == -1).all()


def test_processes_share_one_stream(folder):
    run = TokenizerSettings.of(SMOKE, seed=1, batch=4, data=str(folder))
    whole = make_source(run, Process())
    halves = [(process, make_source(run, process)) for process in (Process(0, 2), Process(1, 2))]
    for step in (0, 1, 2, 7, 1):  # in order, ahead, and back
        expected = whole.batch(share(step, 0, run, Process()))
        parts = [half.batch(share(step, 0, run, process)) for process, half in halves]
        assert torch.equal(torch.cat([part.lr for part in parts]), expected.lr)
        assert torch.equal(torch.cat([part.hr[4] for part in parts]), expected.hr[4])
        assert expected.lr.shape == (4, 3, 8, 8)
        assert expected.x.min() < expected.x.max() <= 1


def test_crops_of_a_stream_depend_on_number_and_seed(folder):
    run = TokenizerSettings.of(SMOKE, seed=1, data=str(folder))
    first, again = (make_source(run, Process()).batch(range(5, 6)).x for _ in range(2))
    assert first.shape == (1, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, make_source(replace(run, seed=2), Process()).batch(range(5, 6)).x)


def test_crops_of_a_stream_are_turned_and_recoloured_where_that_is_asked_for(folder):
    store, seeds = PhotoStore(load_set(folder / "s")), photo_seeds(0, torch.arange(24))
    moved = 0
    for augment in (False, True):
        run = TokenizerSettings.of(SMOKE, data=str(folder), augment=augment)
        x = make_source(run, Process()).batch(range(24)).x
        assert torch.equal(x, store.crops(seeds, 32, augment=augment))
        moved += (x != store.crops(seeds, 32)).flatten(1).any(1).sum()
    assert 12 < moved < 24


def test_photos_of_a_stream_are_damaged_by_their_own_seeds(folder):
    run = TokenizerSettings.of(SMOKE, seed=3, batch=4, data=str(folder), degradation="varsr")
    batch = make_source(run, Process()).batch(range(8, 12))
    assert torch.equal(batch.seeds, photo_seeds(3, torch.arange(8, 12)))
    assert torch.equal(batch.lr, damage(batch.x, VARSR, batch.seeds))


@pytest.mark.parametrize("room", [0, 2**30])
def test_reading_draws_nothing_from_the_runs_own_numbers(folder, room, monkeypatch):
    """Else a run that goes on would draw other numbers."""
    monkeypatch.setattr("vartutor.data.store.ROOM", room)
    run = TokenizerSettings.of(SMOKE, batch=4, data=str(folder))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make_source(run, Process()).batch(range(4))
    assert torch.equal(torch.rand(3), expected)


def test_a_run_on_a_prepared_set_resumes_in_the_middle(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("vartutor.data.store.ROOM", 0)
    losses = Losses(revive_every=2, revive_until=1.0)  # the first step that goes on revives
    options = {"data": str(folder / "s"), "steps": 5, "log_every": 1, "save_every": 1, "losses": losses}
    run, found = TokenizerSettings.of(SMOKE, **options), {}
    for name, hours in (("whole", 0.0), ("cut", 1e-9), ("cut", 0.0)):
        resume = (tmp_path / name).is_dir()
        trainer = train("tokenizer", run, tmp_path / name, device="cpu", max_hours=hours, resume=resume)
        found[name] = [row["loss"] for row in trainer.rows], trainer.model.state_dict()
    assert len(found["whole"][0]) == 5
    assert found["cut"][0] == found["whole"][0]
    assert all(torch.equal(found["cut"][1][name], value) for name, value in found["whole"][1].items())
    assert trainer.job.info["run"]["data"] == ["s"]


def test_a_folder_of_photos_is_data_too(tmp_path):
    (tmp_path / "mine").mkdir()
    for k in range(3):
        write_image(tmp_path / "mine" / f"{k}.png", photo(64, 64, k))
    run = TokenizerSettings.of(SMOKE, data=str(tmp_path / "mine"), steps=1)
    trainer = train("tokenizer", run, tmp_path / "run", device="cpu")
    assert trainer.step == 1


def test_wrong_folders_get_one_line(folder, tmp_path, raises_user_error):
    with raises_user_error("none: no such folder"):
        make_source(TokenizerSettings.of(SMOKE, data=str(tmp_path / "none")), Process())
    with raises_user_error("prepare the set again"):
        load_set(tmp_path / "none")
    (folder / "s" / "tiles.bin").write_bytes(b"cut off")
    with raises_user_error("index.json", "another length", "prepare the set again"):
        load_set(folder / "s")
    for broken in ("{", "[]", '{"sizes": [[1]]}', '{"sizes": [["a", 2]]}'):
        (folder / "s" / "index.json").write_text(broken)
        with raises_user_error("index.json", "prepare the set again"):
            make_source(TokenizerSettings.of(SMOKE, data=str(folder)), Process())
    with raises_user_error("no usable photo"):
        write_set([b""], tmp_path / "t", tile=64, least=64)
    assert list((tmp_path / "t").iterdir()) == []


def test_pieces_below_a_crop_are_said_or_one_line(tmp_path, raises_user_error):
    (tmp_path / "in").mkdir()
    run = TokenizerSettings.of(SMOKE, data=str(tmp_path / "out"))
    size = run.profile.image_size
    write_image(tmp_path / "in" / "small.png", photo(size - 8, 2 * size))
    prepare(sets.SETS["own"], tmp_path / "out", source=tmp_path / "in", tile=size, least=16)
    with raises_user_error("out: no piece has", f"--least {size} or more"):
        make_source(run, Process())
    write_image(tmp_path / "in" / "large.png", photo(size, size))
    prepare(sets.SETS["own"], tmp_path / "out", source=tmp_path / "in", tile=size + 1, least=16)
    with pytest.warns(UserWarning, match=r"2 of 3 pieces are below the crops'"):
        assert make_source(run, Process()).batch(range(8)).x.shape[-1] == size


def test_photos_of_ones_own_have_a_name_and_no_terms(tmp_path, capsys):
    write_image(tmp_path / "mine.png", photo(64, 64))
    call = ["data", "prepare", "own", "--tile", "64", "--least", "64", "--out", str(tmp_path / "out")]
    assert main(call) == 2
    assert capsys.readouterr().err == "vartutor data: own: no program may fetch it: add --from PATH of its photos\n"
    assert main([*call, "--from", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("own: photos of your own, from --from PATH\nown: 1 pieces in")
    assert "licence" not in said


def test_a_broken_set_is_cut_again(tmp_path):
    write_image(tmp_path / "a.png", photo(64, 64))
    photos, options = PhotoSet("mine", 1, "", "", "here"), {"source": tmp_path, "tile": 64, "least": 64}
    assert "1 pieces in" in prepare(photos, tmp_path / "out", **options)
    assert "there already" in prepare(photos, tmp_path / "out", **options)
    assert "0 files skipped" in prepare(photos, tmp_path / "out", **options | {"tile": 32})
    (tmp_path / "out" / "mine" / "tiles.bin").write_bytes(b"")
    assert "4 pieces in" in prepare(photos, tmp_path / "out", **options | {"tile": 32})


def test_a_full_disk_leaves_nothing_half(folder, tmp_path, monkeypatch, raises_user_error):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = (folder / "s" / "tiles.bin").read_bytes()
    monkeypatch.setattr("vartutor.workshop.prepare.cut_photo", full)
    with raises_user_error("No space left on device", "make room"):
        write_set([png(photo(64, 64))], folder / "s", tile=64, least=64)
    assert [path.name for path in (folder / "s").iterdir()] == ["tiles.bin"]
    assert (folder / "s" / "tiles.bin").read_bytes() == before
    assert prepared_sets(folder) == []  # without the index, the pieces count for nothing


# --- sets ------------------------------------------------------------------------------------------


def archive_of(kind, names):
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as bag:
            for k, name in enumerate(names):
                bag.writestr(name, png(photo(64, 64, k)))
    else:
        with tarfile.open(fileobj=buffer, mode="w") as bag:
            for k, name in enumerate(names):
                member = tarfile.TarInfo(name)
                member.size = len(png(photo(64, 64, k)))
                bag.addfile(member, io.BytesIO(png(photo(64, 64, k))))
    return buffer.getvalue()


NAMES = ["S/S_HR/b.png", "S/S_HR/a.png", "S/S_LR/a.png", "__MACOSX/S_HR/._a.png", "S/S_HR/notes.txt"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_set_is_fetched_once_and_cut(server, tmp_path, kind):
    server.content = archive_of(kind, NAMES)
    photos = PhotoSet("small", 2, "two photos", "CC0", "here", (RemoteFile(server.url),), within="_HR/")
    assert prepare(photos, tmp_path, tile=64, least=64).startswith("small: 2 pieces in")
    seen = json.loads((tmp_path / "downloads" / "checksums.json").read_text())
    assert seen == {server.url: hashlib.sha256(server.content).hexdigest()}
    assert "there already" in prepare(photos, tmp_path, tile=64, least=64)
    assert len(server.asked) == 1


def test_another_download_than_the_first_is_refused(server, tmp_path, raises_user_error):
    server.content = archive_of("zip", NAMES)
    photos = PhotoSet("small", 2, "two photos", "CC0", "here", (RemoteFile(server.url),))
    prepare(photos, tmp_path, tile=64, least=64)
    (tmp_path / "downloads" / "photos.zip").unlink()
    server.content = archive_of("zip", NAMES[:1])
    with raises_user_error("wrong checksum"):
        prepare(photos, tmp_path, tile=32, least=32)


def test_photos_at_hand_and_the_first_few(tmp_path, raises_user_error):
    for k in range(4):
        (tmp_path / "mine").mkdir(exist_ok=True)
        write_image(tmp_path / "mine" / f"{k}.png", photo(64, 64, k))
    photos = PhotoSet("few", 4, "", "", "https://here", how="ask nicely", first=3)
    assert "3 pieces" in prepare(photos, tmp_path / "out", source=tmp_path / "mine", tile=64, least=64)
    with raises_user_error("few: no program may fetch it: ask nicely (https://here)", "--from PATH"):
        prepare(photos, tmp_path / "other")
    with raises_user_error("none.zip", "neither a folder nor"):
        prepare(photos, tmp_path / "other", source=tmp_path / "none.zip")


def test_every_set_says_its_terms_and_how_to_get_it():
    for photos in sets.SETS.values():
        assert bool(photos.files) + bool(photos.how) + photos.listed == 1
        assert bool(photos.licence) == (photos.name != "own")
        assert photos.licence in terms(photos)
        for file in photos.files:
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32


def test_the_command_shows_the_terms_first(server, tmp_path, monkeypatch, capsys):
    server.content = archive_of("zip", NAMES)
    mine = PhotoSet("mine", 2, "two photos", "CC0, really", "here", (RemoteFile(server.url, len(server.content)),))
    monkeypatch.setitem(sets.SETS, "mine", mine)
    call = ["data", "prepare", "mine", "--out", str(tmp_path), "--tile", "64", "--least", "64"]
    assert main(call) == 2
    shown = capsys.readouterr()
    assert "CC0, really" in shown.out
    assert "add --yes" in shown.err
    assert server.asked == []
    assert main([*call, "--yes"]) == 0
    assert "3 pieces in" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    assert "FFHQ" in capsys.readouterr().out
    assert main(["data", "prepare", "imagenet"]) == 2
    assert main(["data", "prepare", "div2k", "ost", "--yes", "--from", "x"]) == 2
    assert main([*call, "--yes", "--least", "65"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_unknown_sets(raises_user_error):
    with raises_user_error("unknown photo set 'x'", "div2k"):
        get_set("x")
    assert Path(get_set("div2k").files[0].url).name == "DIV2K_train_HR.zip"
