"""Is this machine ready for the course? One line per question, with what to do where the answer is no."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import torch

from vartutor.data.photos import photos
from vartutor.errors import UserError
from vartutor.paths import assets
from vartutor.weights import files

MIN_MEMORY_GB = 3.0  # the peak of chapter 10
MIN_DISK_GB = 2.0
OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True)
class Finding:
    """``status`` is ok, warn or FAIL; ``advice`` says what to do unless all is well."""

    status: str
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.status:<5}{self.what}" + (f" -> {self.advice}" if self.advice else "")


def examine() -> Iterator[Finding]:
    """All checks, each as a :class:`Finding`."""
    yield Finding(OK, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _packages()
    yield _kernel()
    yield _files("photos", lambda: {photo.file: photo.intact() for photo in photos()})
    yield _files("checkpoints", lambda: {name: files.intact(name) for name in sorted(files.manifest())})
    yield _memory()
    yield _disk()
    yield _threads()
    yield _accelerator()


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        listed = [Requirement(line) for line in requires("vartutor") or ()]
    except PackageNotFoundError:
        yield Finding(FAIL, "vartutor is not installed", "pip install -e . in the clone")
        return
    for extra in ("", "notebooks", "book"):
        found, faults = [], []
        for requirement in listed:
            belongs = bool(re.search(r"extra *==", str(requirement.marker or ""))) == bool(extra)
            if not belongs or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
                continue
            try:
                have = version(requirement.name)
                found.append(f"{requirement.name} {have}")
                if not requirement.specifier.contains(have, prereleases=True):
                    faults.append(f"{requirement.name} {have} (needs {requirement.specifier})")
            except PackageNotFoundError:
                faults.append(f"{requirement.name} (missing)")
        name = f"packages [{extra}]" if extra else "packages"
        if faults:
            target = f"'.[{extra}]'" if extra else "."
            status = FAIL if not extra else WARN
            yield Finding(status, f"{name}: {', '.join(faults)}", f"pip install -e {target}")
        else:
            yield Finding(OK, f"{name}: {', '.join(found)}")


def _kernel() -> Finding:
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return Finding(WARN, "kernel: Jupyter is not installed", "pip install -e '.[notebooks]'")
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
        command = spec.argv[0]
    except (NoSuchKernel, ValueError, OSError, LookupError):  # none, or one that cannot be read
        return Finding(WARN, "kernel: no 'python3'", "pip install ipykernel")
    # A virtual environment is where its interpreter lies, not where that links to.
    asked, own = ([os.path.realpath(p) for p in (os.path.dirname(at), at)] for at in (command, sys.executable))
    # A bare "python" is replaced by the running interpreter when the kernel starts.
    if os.path.isabs(command) and asked != own:
        cure = f"python -m ipykernel install --sys-prefix, and delete {spec.resource_dir} if it lies elsewhere"
        return Finding(WARN, "kernel: 'python3' starts another Python than this one", cure)
    return Finding(OK, "kernel: 'python3' starts this Python")


def _files(what: str, look: Callable[[], dict[str, bool]]) -> Finding:
    """Whether the files that the course ships are as they were published."""
    cure = f"git checkout -- assets/{what}"
    try:
        intact = look()
    except (OSError, UserError, KeyError) as error:
        return Finding(FAIL, f"{what}: no readable manifest ({error})", cure)
    broken = [name for name, fine in intact.items() if not fine]
    if broken:
        return Finding(FAIL, f"{what}: {len(broken)} of {len(intact)} missing or changed, first {broken[0]}", cure)
    return Finding(OK, f"{what}: {len(intact)}, all as published (sha256)")


def _memory() -> Finding:
    try:
        import psutil
    except ImportError:
        return Finding(WARN, "memory: cannot be read", "pip install psutil")
    free = psutil.virtual_memory().available / 1e9
    if free < MIN_MEMORY_GB:
        return Finding(WARN, f"memory: {free:.1f} GB free", f"close programs: chapters need {MIN_MEMORY_GB:g} GB")
    return Finding(OK, f"memory: {free:.1f} GB free")


def _disk() -> Finding:
    free = shutil.disk_usage(assets()).free / 1e9
    if free < MIN_DISK_GB:
        return Finding(WARN, f"disk: {free:.1f} GB free", f"make room: results need up to {MIN_DISK_GB:g} GB")
    return Finding(OK, f"disk: {free:.0f} GB free")


def _threads() -> Finding:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if threads > cores:
        return Finding(WARN, f"threads: torch uses {threads} on {cores} cores", f"set OMP_NUM_THREADS={cores}")
    return Finding(OK, f"threads: torch uses {threads} of {cores} cores")


def _accelerator() -> Finding:
    name = "Apple MPS (DEVICE = 'mps')" if torch.backends.mps.is_available() else "none; every chapter runs on the CPU"
    return Finding(OK, f"GPU: {torch.cuda.get_device_name() if torch.cuda.is_available() else name}")
