"""Full runs: tokenizer, transformer and preference on one process or on many, from one configuration.

    torchrun --nproc-per-node 8 -m vartutor train tokenizer --profile gpu --set bf16=true

starts eight processes of which each calls :func:`launch`. (With HF Accelerate installed, ``accelerate launch
--multi_gpu -m vartutor …`` starts the same processes: the short way to several machines. It sets the same variables.)
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vartutor.data.crops import eval_crops
from vartutor.data.presets import get_preset
from vartutor.errors import UserError
from vartutor.tokenizer.build import TokenizerConfig
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.checkpoint import checksum
from vartutor.train.config import RunConfig
from vartutor.train.distributed import DistributedTrainer
from vartutor.train.preference import PreferenceLoss
from vartutor.train.processes import Process, this_process
from vartutor.train.sources import FeatureSource, PhotoSource, ShardSource, Source, name_sets
from vartutor.train.tokenizer import TokenizerLoss, make_tokenizer
from vartutor.train.transformer import TransformerLoss, calibrate, decay_groups, describe, make_transformer
from vartutor.transformer.photo import PhotoTransformer, restore_latents

SAMPLES = 4


def launch(
    what: str,
    run: RunConfig,
    out: Path,
    *,
    tokenizer: HierarchicalTokenizer | None = None,
    seed: int = 0,
    resume: bool = False,
    origin: dict | None = None,
    **options,
) -> DistributedTrainer:
    """Train in this process, together with all others that ``torchrun`` started.

    Args:
        what: ``tokenizer``, ``transformer`` or ``preference``.
        tokenizer: of a transformer; frozen.
        resume: go on from the newest state in ``out``, written by any number of processes.
        origin: kept with the state, such as the command and the commit.
        **options: of :meth:`TokenizerConfig.of` for a tokenizer; ``prefix``, ``prior``, ``added`` and ``start``
            of :func:`train_transformer` for a transformer; ``start`` and ``source`` of :func:`train_preference`.

    Raises:
        UserError: settings that do not fit each other, or a state that does not fit the model.
    """
    with this_process() as process:
        run.check(process.size)
        torch.manual_seed(seed)
        if what == "tokenizer":
            model, loss, more = _tokenizer(run, process, seed, options)
        elif what == "preference":
            model, loss, more = _preference(run, process, seed, tokenizer, **options)
        else:
            model, loss, more = _transformer(run, process, seed, tokenizer, new=not resume, **options)
        more["info"] |= {"seed": seed, "steps": run.loop.steps, "run": _record(run, process), **(origin or {})}
        trainer = DistributedTrainer(model, loss, run, out, process=process, seed=seed, **more)
        if resume:
            trainer.resume()
        trainer.fit()
        if trainer.timed_out and process.rank == 0:
            print(f"{run.max_hours:g} hours are over; --resume goes on", file=sys.stderr)
        return trainer


def _tokenizer(run: RunConfig, process: Process, seed: int, options: dict) -> tuple[nn.Module, TokenizerLoss, dict]:
    """The model, its loss, and what else the trainer wants to know."""
    sharded = process.size > 1 and run.strategy == "fsdp"
    if sharded and (run.losses.adversarial or run.losses.codes != "ema"):
        raise UserError("fsdp trains a tokenizer with losses.codes=ema and losses.adversarial=0 only: take ddp")
    config = TokenizerConfig.of(run.profile, **options)
    model = make_tokenizer(config, run.losses).to(process.device)
    if run.compile:
        model.encoder.compile()
        model.decoder.compile()
    source = make_source(run, process, seed, degraded=False)
    loss = TokenizerLoss(model, source, run.losses, run.loop.steps, run.bf16)
    if loss.perceptual is not None:
        loss.perceptual.to(process.device)
    shown = eval_crops("val", run.profile.image_size, 1)[0][:SAMPLES].to(process.device)
    more = {
        "source": source,
        "info": {"config": config.to_json(), "losses": asdict(run.losses)},
        "parts": {"adversary": loss.adversary} if loss.adversary else {},
        "sample": lambda: contact_sheet([shown, model.reconstruct(shown)]),
    }
    return model, loss, more


def _transformer(
    run: RunConfig,
    process: Process,
    seed: int,
    tokenizer: HierarchicalTokenizer,
    *,
    new: bool,
    prefix: bool = True,
    prior: bool | None = None,
    added: bool = False,
    start: Callable[[PhotoTransformer], None] = lambda model: None,
) -> tuple[nn.Module, TransformerLoss, dict]:
    """The model, its loss, and what else the trainer wants to know; ``new`` where it gets weights to start from."""
    shape = {"prefix": prefix, "prior": prior, "added": added}
    model = make_transformer(run.profile, tokenizer, run.objective, **shape).to(process.device)
    few, more = _around(run, process, seed, model, tokenizer, "transformer")
    if new:
        start(model)
        if model.body.prior is not None:
            calibrate(model, tokenizer, FeatureSource(few, tokenizer).batch())
    return model, TransformerLoss(model, FeatureSource(more["source"], tokenizer), run.objective, run.bf16), more


def _preference(
    run: RunConfig,
    process: Process,
    seed: int,
    tokenizer: HierarchicalTokenizer,
    *,
    start: PhotoTransformer,
    source: str = "",
) -> tuple[nn.Module, PreferenceLoss, dict]:
    """The model, its loss, and what else the trainer wants to know; ``start`` stays whole in every process."""
    start = start.to(process.device)
    model = copy.deepcopy(start).requires_grad_(True)
    _, more = _around(run, process, seed, model, tokenizer, "preference")
    more["info"] |= {"preference": asdict(run.preference), "start": {"model": source, "sha256": checksum(start)}}
    more["parts"]["start"] = start
    features, asked = FeatureSource(more["source"], tokenizer), (run.objective, run.preference, run.bf16)
    return model, PreferenceLoss(model, start, features, *asked, due=run.loop.is_logged), more


def _around(
    run: RunConfig,
    process: Process,
    seed: int,
    model: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    kind: str,
) -> tuple[Source, dict]:
    """A few photos, and all that the trainer wants to know of a transformer; compiles its blocks if asked."""
    tokenizer.to(process.device)
    # The same few photos in every process, and none that a step uses: to calibrate the prior, and to look at.
    few = make_source(replace(run, batch=SAMPLES, accumulate=1), Process(device=process.device), seed, degraded=True)
    few.seek(2**40)
    shown = few.pairs()
    if run.compile:
        for block in model.body.blocks:
            block.compile(fullgraph=True)

    def sample() -> Tensor:
        latents = restore_latents(model, tokenizer, shown.lr)
        return contact_sheet([shown.hr[max(shown.hr)], tokenizer.decode(latents[max(latents)])])

    return few, {
        "source": make_source(run, process, seed, degraded=True),
        "info": describe(kind, model, tokenizer, run.objective) | {"lr": run.loop.lr},
        "parts": {"tokenizer": tokenizer},
        "groups": lambda module: decay_groups(module, run.loop.weight_decay),
        "sample": sample,
    }


def _record(run: RunConfig, process: Process) -> dict:
    """What the model's record says of how it was trained."""
    names = "batch", "accumulate", "strategy", "bf16", "degradation"
    data = {"data": name_sets(run.data), "image_size": run.profile.image_size, "processes": process.size}
    return {name: getattr(run, name) for name in names} | data


def make_source(run: RunConfig, process: Process, seed: int, degraded: bool) -> Source:
    """Where the run's ``data`` says the images are; ``degraded`` where the run needs pairs.

    Raises:
        UserError: an unknown degradation; no shards in the folder.
    """
    preset, size, batch = get_preset(run.degradation), run.profile.image_size, run.batch // run.accumulate
    if run.data == "photos":
        return PhotoSource(size, batch, preset, process, seed)
    preset = preset if degraded else None
    return ShardSource(Path(run.data), size, batch, preset, process, seed=seed, workers=run.workers)


def contact_sheet(rows: list[Tensor]) -> Tensor:
    """Images (B, 3, H, W) of every row side by side, rows one below the other: (3, rows × H, B × W)."""
    return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).cpu()
