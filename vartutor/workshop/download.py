"""Large downloads that go on where they broke off."""

import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from vartutor.errors import UserError, first_line
from vartutor.paths import make_folder, sha256_of

BLOCK, TIMEOUT = 2**20, 60  # bytes, seconds
BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(url: str, path: Path, *, size: int | None = None, sha256: str | None = None, tries: int = 6) -> Path:
    """Fetch a file unless it is there; it gets its name only when it is complete and right.

    What has arrived stays in ``PATH.part``, and a later call asks for the rest only, provided that the server still
    has the same file.

    Args:
        size: in bytes, if known.
        sha256: if known.
        tries: connections to make, with pauses that grow, while each one brings something.

    Raises:
        UserError: no connection, no space, or another file than the one asked for.
    """
    if path.is_file():
        _verify(path, size, sha256, url)
        return path
    make_folder(path.parent)
    part, tag = path.with_name(path.name + ".part"), path.with_name(path.name + ".tag")
    free, missing = shutil.disk_usage(path.parent).free, (size or 0) - _length(part)
    if missing > free:
        raise UserError(f"{path}: {missing / 1e9:.1f} GB are missing, and {free / 1e9:.1f} GB are free on the disk")
    failed, pause = 0, 0.5
    while True:
        before = _length(part)
        try:
            _fetch(url, part, tag)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise UserError(f"{url}: the server says {error.code} {error.reason}") from None
            reason = f"{error.code} {error.reason}"
        except BROKEN as error:
            reason = first_line(error)
        except OSError as error:
            raise UserError(
                f"{part}: cannot be written ({error.strerror}); {_length(part)} bytes are kept, run it again to go on"
            ) from None
        failed = 1 if _length(part) > before else failed + 1
        if failed >= tries:
            raise UserError(f"{url}: not downloaded ({reason}); run it again to go on after byte {_length(part)}")
        time.sleep(pause * 2 ** (failed - 1))
    tag.unlink(missing_ok=True)
    try:
        _verify(part, size, sha256, url)
    except UserError:
        part.unlink()
        raise
    os.replace(part, path)
    return path


def _fetch(url: str, part: Path, tag: Path) -> None:
    """One connection: append what is missing, or begin anew where the server's file is another one now."""
    have = _length(part)
    headers = {"User-Agent": "vartutor"}
    if have and tag.is_file():
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if error.code == 416 and total and int(total.group(1)) == have:
            return  # all of it is here
        raise
    with answer:
        goes_on = answer.status == 206
        if mark := answer.headers.get("ETag") or answer.headers.get("Last-Modified"):
            tag.write_text(mark)
        start = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
        with bar, open(part, "ab" if goes_on else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and _length(part) < total:
        raise ConnectionError("the connection broke off")


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _verify(path: Path, size: int | None, sha256: str | None, url: str) -> None:
    name = path.name.removesuffix(".part")
    if size is not None and path.stat().st_size != size:
        raise UserError(f"{name}: {path.stat().st_size} bytes instead of {size}; not what {url} is known for")
    if sha256 is not None and sha256_of(path) != sha256:
        raise UserError(f"{name}: wrong checksum; not what {url} is known for, fetch it again")
