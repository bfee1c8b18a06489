"""Benchmarks use all cores, or as many as OMP_NUM_THREADS says; the tests beside them use one."""

import os

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    yield
    torch.set_num_threads(before)
