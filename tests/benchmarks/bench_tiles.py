"""Crops per second from a prepared set: OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_tiles.py -s

Crops of 512, as in the full runs, from eight of the course's photos, which are smaller than the pieces of 1024 that the
large sets give; read piece by piece, as if they did not fit into memory.
"""

import pytest
import torch

from vartutor.data.draws import photo_seeds
from vartutor.data.photos import photos
from vartutor.data.store import PhotoStore
from vartutor.data.tiles import load_set
from vartutor.workshop.prepare import write_set

PIECES, BATCH = 8, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiles")
    large = [photo for photo in photos("train") if min(photo.width, photo.height) >= 512][:PIECES]
    write_set([photo.path.read_bytes() for photo in large], out, tile=1024, least=512)
    return out


def test_crops_per_second(benchmark, folder, monkeypatch):
    monkeypatch.setattr("vartutor.data.store.ROOM", 0)
    store, seeds = PhotoStore(load_set(folder)), photo_seeds(0, torch.arange(BATCH))
    crops = benchmark.pedantic(lambda: store.crops(seeds, 512), rounds=20, warmup_rounds=2)
    print(f"\n{BATCH / benchmark.stats.stats.mean:.1f} crops of 512 px per second")
    assert crops.shape == (BATCH, 3, 512, 512)
