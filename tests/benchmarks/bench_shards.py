"""Crops per second and core from shards: OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_shards.py -s

Crops of 512, as in the full runs, from eight of the course's photos, which are smaller than the pieces of 1024 that the
large sets give. A GPU needs as many cores as its images per second, by `vartutor plan`, take here.
"""

import pytest

from tests.test_data_prepare import png
from vartutor.data.photos import photos
from vartutor.data.shards import CropStream, ShardedPhotos, write_shards

PIECES = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    large = [photo for photo in photos("train") if min(photo.width, photo.height) >= 512][:PIECES]
    write_shards([(photo.title, png(photo.load())) for photo in large], out, tile=1024, least=512)
    return out


def test_crops_per_second(benchmark, folder):
    stream = CropStream(ShardedPhotos(folder), 512, seed=0)
    numbers = iter(range(10**6))
    benchmark.pedantic(lambda: stream[next(numbers)], rounds=20, warmup_rounds=2)
    print(f"\n{1 / benchmark.stats.stats.mean:.1f} crops of 512 px per second and core")
    assert stream[0].shape == (3, 512, 512)
