"""What a GPU really does with the published size, beside the plan: a table that any owner of one can make."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vartutor.errors import UserError, first_line
from vartutor.paths import assets
from vartutor.perceptual import PerceptualDistance
from vartutor.plan.estimate import UTILISATION
from vartutor.plan.measured import AS_PLANNED, GpuRow
from vartutor.plan.rounds import fit, memory_of, plan_of
from vartutor.profiles import Profile, get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.job import Job, some_are_idle
from vartutor.train.kinds import KINDS, train
from vartutor.train.loop import Moment
from vartutor.train.options import read_settings
from vartutor.train.processes import Process
from vartutor.train.settings import Settings
from vartutor.train.speed import peak_flops, peak_memory
from vartutor.train.trainer import Trainer
from vartutor.train.transformer import TransformerLoss
from vartutor.transformer import attention
from vartutor.transformer.condition import Condition
from vartutor.weights.official_tokenizer import load_vqvae
from vartutor.weights.official_transformer import load_var

LADDER = 1, 2, 3, 4  # of the authors' numbers
WARM, TIMED = 3, 6  # steps; the first ones compile and choose kernels


# --- what is switched, one thing at a time ---------------------------------------------------------------------

Hold = Callable[[Job], AbstractContextManager]
Switch = tuple[dict, Hold]  # changes of the settings, and what holds meanwhile
PLAIN: Switch = {}, lambda job: nullcontext()


def _contiguous(job: Job) -> AbstractContextManager:
    for module in (job.model, *(part for part in job.parts.values() if isinstance(part, nn.Module))):
        module.to(memory_format=torch.contiguous_format)
    return nullcontext()


def _in_16_bits(owner: type, name: str) -> AbstractContextManager:
    whole = getattr(owner, name)

    def narrow(module, x, *more):
        with torch.autocast(x.device.type, torch.bfloat16):
            made = whole(module, x, *more)
        return [f.float() for f in made] if isinstance(made, list) else made

    return patch.object(owner, name, narrow)


def _casting(job: Job) -> AbstractContextManager:
    once = attention.attend
    return patch.object(attention, "attend", lambda q, k, v, *more: once(q.float(), k.float(), v.float(), *more))


def _dynamic(job: Job) -> AbstractContextManager:
    whole = nn.Module.compile
    return patch.object(nn.Module, "compile", lambda module, **how: whole(module, **how | {"dynamic": True}))


NO_BENCHMARK = {}, lambda job: torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=True)
SWITCHES: dict[str, dict[str, Switch]] = {
    "transformer": {
        AS_PLANNED: PLAIN,
        "nothing compiled": ({"compile": ()}, lambda job: nullcontext()),
        "encoder not compiled": ({"compile": ("transformer",)}, lambda job: nullcontext()),
        "blocks computed twice": ({"checkpointing": True}, lambda job: nullcontext()),
        "cast in every call": ({}, _casting),
        "degraded latents, too": ({}, lambda job: patch.object(TransformerLoss, "reads_degraded", True)),
        "encoder in 16 bits": ({}, lambda job: _in_16_bits(HierarchicalTokenizer, "encode")),
        "encoder not channels last": ({}, _contiguous),
        "no search for kernels": NO_BENCHMARK,
    },
    "tokenizer": {
        AS_PLANNED: PLAIN,
        "nothing compiled": ({"compile": ()}, lambda job: nullcontext()),
        "not channels last": ({}, _contiguous),
        "one graph for all sizes": ({}, _dynamic),
        "perceptual in 16 bits": ({}, lambda job: _in_16_bits(PerceptualDistance, "forward")),
        "no search for kernels": NO_BENCHMARK,
    },
}
DDP = "as planned, under DDP"


# --- correctness ---------------------------------------------------------------------------------------------


def golden(device: torch.device) -> Iterator[tuple[str, str, float, float]]:
    """The authors' numbers, which come with the tests, against ours: run, what, difference, what is allowed."""
    folder = assets().parent / "tests" / "golden"
    files = {name: folder / f"tiny_{name}_golden.safetensors" for name in ("vqvae", "var")}
    if not all(path.is_file() for path in files.values()):
        return  # not in a clone
    tensors = {name: {key: x.to(device) for key, x in load_file(path).items()} for name, path in files.items()}
    photos, told = tensors["vqvae"], tensors["var"]
    tokenizer, var = (load(_weights(x), LADDER).to(device) for load, x in ((load_vqvae, photos), (load_var, told)))
    maps = tokenizer.tokenize(photos["in.img"])
    wrong = [(maps[k] != photos[f"out.idx_{k}"]).float().mean().item() for k in range(len(LADDER))]
    yield "tokenizer", "share of tokens unlike the authors'", max(wrong), 0.0
    inputs = tokenizer.next_inputs([told[f"in.idx_{k}"] for k in range(len(LADDER))])
    logits, theirs = var(Condition(var.class_emb(told["in.label"])), inputs), told["out.logits"]
    yield "transformer", "logits unlike the authors'", ((logits - theirs).abs().max() / theirs.abs().max()).item(), 1e-4


def _weights(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("weights."): x.float() for key, x in found.items() if key.startswith("weights.")}


def check_numbers(device: torch.device, folder: Path) -> Iterator[tuple[str, str, float, float]]:
    """The same of small runs' losses, on the device against on the CPU; and :func:`golden`."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        with torch.no_grad():
            yield from golden(device)
        for kind in SWITCHES:
            told = KINDS[kind].settings.of(get_profile("smoke"), steps=3, log_every=1, validate_every=0)
            ways = {"cpu": ("cpu", False), "float32": (device.type, False), "bfloat16": (device.type, True)}
            losses = {
                name: [
                    row["loss"]
                    for row in train(kind, replace(told, bf16=bf16), folder / f"{kind}-{name}", device=on).rows
                ]
                for name, (on, bf16) in ways.items()
            }
            for name, allowed in (("float32", 1e-4), ("bfloat16", 0.05)):
                far = max(abs(a - b) for a, b in zip(losses[name], losses["cpu"], strict=True))
                yield kind, f"losses in {name} unlike the CPU's", far, allowed


# --- speed ---------------------------------------------------------------------------------------------------


def settings_of(kind: str, profile: Profile) -> Settings:
    """As the commands of chapters 11 and 12 have them, on the course's photos."""
    words = ["data=photos", "tensorboard=false"]
    return read_settings(KINDS[kind].settings.of(profile), assets() / "configs" / f"{kind}.yaml", words)


def _time(
    kind: str, run: Settings, hold: Hold, process: Process, folder: Path, ddp: bool
) -> tuple[float, float, float]:
    """Photos per second, MFU, and bytes at the fullest moment, of a run's own steps."""
    tokenizer = build_tokenizer(TokenizerConfig.of(run.profile)).eval().requires_grad_(False)
    job = KINDS[kind].job(run, process, True, **({} if kind == "tokenizer" else {"tokenizer": tokenizer}))
    if process.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with hold(job), alone_as_group(process, folder / kind) if ddp else nullcontext():
        trainer = Trainer(job, run, folder, process)
        if ddp:
            idle = some_are_idle(trainer.model)
            trainer.outer = DistributedDataParallel(trainer.outer, find_unused_parameters=idle)
        trainer.model.train()
        for step in range(WARM + TIMED):
            if step == WARM:
                trainer.speed.numbers()  # from here on
            numbers = trainer._step(Moment(step, 0.5, logged=False))
            numbers["loss"].item()  # waits for the device
    found = trainer.speed.numbers()
    return found["photos/s"], found["mfu"], peak_memory(process.device)


def rates(kind: str, variant: str, profile: Profile, process: Process, folder: Path) -> dict[str, tuple[float, float]]:
    """{measure: (value, what the plan says)} of one variant, at the plan's batch for this device, in one round."""
    told, hold = SWITCHES[kind].get(variant, PLAIN)
    changes = dict(told)
    run, _ = fit(kind, settings_of(kind, profile), process)
    run = replace(run, batch=run.batch // run.accumulate, accumulate=1)
    recipe = run.profile.transformer
    again = changes.pop("checkpointing", recipe.checkpointing)
    run = replace(run, profile=replace(run.profile, transformer=replace(recipe, checkpointing=again)), **changes)
    plan, peak = plan_of(kind, run, memory_of(process), 1, again), peak_flops(process.device, run.bf16)
    rate, mfu, memory = _time(kind, run, hold, process, folder, variant == DDP)
    each = plan.counts.flops.total()
    return {
        "photos/s": (rate, UTILISATION * peak / each),
        "mfu": (mfu, UTILISATION),
        "utilisation": (rate * each / peak, UTILISATION),  # with what is computed twice, and what is frozen: the plan's
        "memory": (memory / 1e9, (plan.state + plan.counts.activations(run.batch)) / 1e9),
        "photos at once": (run.batch, plan.largest),
    }


def measure_gpu(profile: Profile, process: Process, minutes: float, say: Callable[[str], None]) -> list[GpuRow]:
    """The whole table, each row said as it is found; what no time is left for is not in it."""
    cuda, end, rows = process.device.type == "cuda", time.monotonic() + 60 * minutes, []
    stamp = torch.cuda.get_device_name(process.device) if cuda else "CPU", date.today().isoformat()

    def note(run: str, variant: str, what: str, value: float, planned: float) -> None:
        rows.append(GpuRow(run, variant, what, float(value), float(planned), *stamp))
        say(f"{run:<12}{variant:<36}{what:<16}{value:>12.5g}{planned:>12.5g}")

    say(f"{'run':<12}{'variant':<36}{'measure':<16}{'measured':>12}{'planned':>12}")
    with tempfile.TemporaryDirectory() as room:
        for kind, variant, far, allowed in check_numbers(process.device, Path(room)):
            note(kind, variant, "difference", far, allowed)
        names = list(dict.fromkeys(name for kinds in SWITCHES.values() for name in kinds))
        for name in [AS_PLANNED, "nothing compiled", DDP, *names[2:]]:  # the most important ones first
            for kind in (kind for kind in SWITCHES if name in (*SWITCHES[kind], DDP)):
                if time.monotonic() > end:
                    say(f"{kind:<12}{name:<36}no time left")
                    continue
                try:
                    found = rates(kind, name, profile, process, Path(room))
                except (RuntimeError, UserError) as error:  # out of memory, or no compiler
                    say(f"{kind:<12}{name:<36}failed: {first_line(error)}")
                    continue
                finally:
                    torch._dynamo.reset()
                    gc.collect()
                    torch.cuda.empty_cache()
                for what, (value, planned) in found.items():
                    note(kind, name, what, value, planned)
    return rows


@contextmanager
def alone_as_group(process: Process, file: Path) -> Iterator[None]:
    """This process alone as a group, for DDP."""
    kind = "nccl" if process.device.type == "cuda" else "gloo"
    dist.init_process_group(kind, init_method=file.as_uri(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
