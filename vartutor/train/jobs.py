"""How each kind of run is made: the model, its loss, and what stands beside it."""

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from vartutor.baselines.cnn import CnnSuperResolver
from vartutor.data.draws import normal, uniform
from vartutor.data.pairs import Pairs
from vartutor.errors import UserError
from vartutor.tokenizer.build import TokenizerConfig
from vartutor.tokenizer.fidelity import Fidelity, decode_faithfully
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.job import Job
from vartutor.train.loop import Moment, Numbers
from vartutor.train.pairs import PairLoss, Written
from vartutor.train.preference import PreferenceLoss
from vartutor.train.processes import Process
from vartutor.train.refiner import Unsaid
from vartutor.train.settings import (
    BaselineSettings,
    FidelitySettings,
    PreferenceSettings,
    RefinerSettings,
    Settings,
    TokenizerSettings,
    TransformerSettings,
)
from vartutor.train.sizes import describe, make_transformer
from vartutor.train.source import Batch, make_source
from vartutor.train.tokenizer import FROZEN, TokenizerLoss, make_tokenizer, reconstruct_scales
from vartutor.train.transformer import Objective, TransformerLoss, calibrate, decay_groups
from vartutor.transformer.generate import iterate
from vartutor.transformer.photo import PhotoTransformer, pair_features, restore_latents
from vartutor.weights import is_official, load_addition, load_cnn, load_hierarchical, load_restorer, load_start
from vartutor.weights.files import checksum, own_weights
from vartutor.weights.state_dicts import load_strictly

# Steps whose tokens are kept, and how often each is used: to write them costs far more than a step.
KEEP_WRITTEN, KEEP_UNSAID = (32, 8), (32, 16)
REMEDY = "start it from VAR's tokenizer, too (train tokenizer --set init=vae_ch160v4096z32.pth)"
TOKENS, FORCED, NOISE = 113, 114, 2**10  # streams of the draws; those of the noise go on from there


def tokenizer_job(run: TokenizerSettings, process: Process, new: bool = True) -> Job:
    """A tokenizer from nothing, or from VAR's official weights."""
    config = TokenizerConfig.of(run.profile, run.ladder, run.overlap)
    config = replace(config, start=Path(run.init).name)
    model, notes = make_tokenizer(config, run.losses), []
    if new and run.init:
        from vartutor.weights.official_tokenizer import init_from_vqvae

        notes.append(str(init_from_vqvae(model, run.init)))
    for part in FROZEN[run.train]:
        getattr(model, part).requires_grad_(False)
    model = model.to(process.device)
    loss = TokenizerLoss(model, run.losses, run.bf16)
    return Job(
        model,
        loss,
        {"kind": "tokenizer", "config": config.to_json(), "losses": asdict(run.losses)},
        parts={"adversary": loss.adversary} if loss.adversary else {},
        finish=loss.finish,
        restore=lambda batch: reconstruct_scales(model, batch.x),
        compiles={"tokenizer": [model.encoder, model.decoder]},
        notes=notes,
    )


def restoring(
    model: PhotoTransformer, tokenizer: HierarchicalTokenizer, **options
) -> Callable[[Batch], dict[int, Tensor]]:
    """How a transformer restores a batch in training, {s: (B, 3, H_s, W_s)}: from mean codes; options of `iterate`."""

    def restore(batch: Batch) -> dict[int, Tensor]:
        f_hats = restore_latents(model, tokenizer, batch.lr, **{"expected": True} | options)
        return {s: tokenizer.decode(f_hat) for s, f_hat in f_hats.items()}

    return restore


def transformer_job(
    run: TransformerSettings,
    process: Process,
    new: bool = True,
    tokenizer: HierarchicalTokenizer | None = None,
    restorer: CnnSuperResolver | None = None,
) -> Job:
    """A transformer from nothing, or from the weights of another.

    Args:
        new: False for a run that goes on, whose weights come from its state.
        tokenizer, restorer: instead of those that the settings name.
    """
    tokenizer = (tokenizer or load_hierarchical(run.tokenizer)).to(process.device)
    if run.restorer and restorer is None:
        restorer = load_cnn(run.restorer)
    shape = {"prefix": run.prefix, "prior": run.prior, "added": run.added, "encoded": run.encoded}
    model = make_transformer(run.profile, tokenizer, **shape, drop=run.objective.drop, restorer=restorer).to(
        process.device
    )
    loss, notes = TransformerLoss(model, tokenizer, run.objective, run.bf16), []
    if new and run.init:
        notes.append(start_from(run.init, model))
        if is_official(run.init) and not tokenizer.config.start:
            notes.append(f"warning: {run.init} knows VAR's codes by number, and this tokenizer's are others: {REMEDY}")
    if new and run.prior and (not run.init or is_official(run.init)):
        alone = replace(run, batch=16, accumulate=1)  # the same photos in every process, and none that a step uses
        source = make_source(alone, Process(device=process.device))
        calibrate(model, tokenizer, loss.prepare(source.batch(range(2**40, 2**40 + 16))))
    return over_tokenizer(
        Job(model, loss, describe("transformer", model, tokenizer, run.objective), notes=notes), loss, run
    )


def start_from(source: str, model: PhotoTransformer) -> str:
    """Give a new transformer the weights of another, VAR's official ones or our own; says what was taken.

    Raises:
        UserError: weights of another shape, or learnt over another codebook.
    """
    if is_official(source):
        from vartutor.weights.official_transformer import init_from_var

        return str(init_from_var(model, source))
    codes = None if model.body.prior is None else model.body.prior.codes.clone()
    net = model.state_dict().keys() - own_weights(model).keys()
    load_strictly(model, own_weights(load_restorer(source).model), optional=net)
    if codes is not None:
        if not torch.allclose(codes, model.body.prior.codes, rtol=1e-2, atol=1e-3):  # saved ones are rounded
            raise UserError(f"init {source}: was trained over another tokenizer")
        model.body.prior.codes.copy_(codes)
    return f"starts from the weights of {source}"


def over_tokenizer(job: Job, loss: TransformerLoss, run: Settings) -> Job:
    """What every job of a transformer has in common."""
    model, tokenizer = loss.model, loss.tokenizer
    job.prepare, job.restore = loss.prepare, restoring(model, tokenizer)
    job.groups = lambda module: decay_groups(module, run.loop.weight_decay)
    job.parts["tokenizer"] = tokenizer
    job.compiles = {"transformer": list(model.body.blocks), "tokenizer": [tokenizer.encoder]}
    return job


def preference_job(
    run: PreferenceSettings,
    process: Process,
    new: bool = True,
    start: tuple[PhotoTransformer, HierarchicalTokenizer, dict] | None = None,
) -> Job:
    """A copy of a transformer, which learns beside it.

    Args:
        start: transformer, tokenizer and objective, instead of what the settings name.
    """
    first, tokenizer, asked = start or load_start(run.model)
    record = {"model": run.model, "sha256": checksum(first)}
    first, tokenizer = first.to(process.device), tokenizer.to(process.device)
    model, objective = copy.deepcopy(first).requires_grad_(True), Objective(**asked)
    loss = PreferenceLoss(model, first, tokenizer, objective, run.preference, run.bf16)
    info = describe("preference", model, tokenizer, objective) | {"preference": asdict(run.preference)}
    info["start"] = record
    return over_tokenizer(Job(model, loss, info, parts={"start": first}), loss, run)


def _beneath(
    run: FidelitySettings | RefinerSettings,
    process: Process,
    over: tuple[PhotoTransformer, HierarchicalTokenizer] | None,
) -> tuple[PhotoTransformer, HierarchicalTokenizer, dict, dict]:
    """The transformer and tokenizer that a module is trained over; what its job says of them, and keeps of them."""
    model, tokenizer = (part.to(process.device) for part in over or load_restorer(run.model)[:2])
    info = {"tokenizer": tokenizer.config.to_json(), "transformer": model.settings}
    return model, tokenizer, info, {"tokenizer": tokenizer, "transformer": model}


def fidelity_job(
    run: FidelitySettings,
    process: Process,
    new: bool = True,
    over: tuple[PhotoTransformer, HierarchicalTokenizer] | None = None,
) -> Job:
    """A module beside a frozen decoder.

    Args:
        over: transformer and tokenizer, instead of those that the settings name.

    Raises:
        UserError: a tokenizer without the small autoencoder; a module to go on from that is none, or of another shape.
    """
    model, tokenizer, info, parts = _beneath(run, process, over)
    asked = run.objective
    ways = {"base": asked.base, "blind": asked.blind, "draws": asked.forced > 0 and not asked.blind}
    fidelity, notes = Fidelity.of(tokenizer, asked.hidden, asked.depth, **ways).to(process.device), []
    if new and run.init:
        if (start := load_addition("fidelity", Fidelity, run.init)) is None:
            raise UserError(f"init {run.init}: has no fidelity module to go on from")
        load_strictly(fidelity, start.state_dict())
        notes.append(f"goes on from the fidelity module of {run.init}")
    decode = {"temperature": asked.temperature, "expected": asked.expected}

    @torch.no_grad()
    def write(batch: Batch, first: dict[int, Tensor]) -> dict[int, Tensor]:
        draws = batch.uniform(model.config.tokens, TOKENS)
        return restore_latents(model, tokenizer, batch.lr, first=lambda *_: first, uniform=draws, **decode)

    @torch.no_grad()
    def prepare(batch: Batch) -> Written:
        true, first = batch.uniform(1, FORCED)[:, 0] < asked.forced, model.first(batch.lr)
        own = write(batch, first) if asked.forced < 1 else {}
        given = tokenizer.complete(tokenizer.tokenize(batch.x)) if asked.forced else own
        f_hats = {s: torch.where(true[:, None, None, None], f, own.get(s, f)) for s, f in given.items()}
        share = 1 - asked.forced  # of those that a critic judges: true tokens make photos that look real
        judged = torch.where(true, 0.0, 1 / share) if share else torch.ones_like(true, dtype=torch.float)
        return Written(first, f_hats, batch.hr, torch.where(true, 1.0, asked.trust), judged)

    def look(seen: Written) -> dict[int, Tensor]:
        z = {s: tokenizer.post_quant_conv(f_hat) for s, f_hat in seen.f_hats.items()}
        return {s: fidelity(tokenizer.decoder, z[s], seen.first[s], s) for s in z}

    def restore(batch: Batch) -> dict[int, Tensor]:
        first, w = model.first(batch.lr), fidelity.balanced
        f_hats = write(batch, first)
        return {s: decode_faithfully(tokenizer, fidelity, f_hat, first[s], s, w) for s, f_hat in f_hats.items()}

    info |= {"kind": "fidelity", "config": fidelity.settings, "objective": asdict(asked)}
    weights = asked.perceptual, asked.adversarial, asked.adversarial_start
    loss = PairLoss(look, fidelity, *weights, run.bf16)
    compiles, more = {"fidelity": [fidelity.block]}, {"finish": loss.finish, "restore": restore}
    return Job(fidelity, loss, info, prepare, KEEP_WRITTEN, parts | loss.parts, compiles=compiles, notes=notes, **more)


def baseline_job(run: BaselineSettings, process: Process, new: bool = True) -> Job:
    """A net from nothing."""
    net = CnnSuperResolver(run.net).to(process.device)
    weights = run.perceptual, run.adversarial, run.adversarial_start
    loss = PairLoss(lambda pairs: net(pairs.lr), net, *weights, run.bf16)
    info = {"kind": "baseline", "config": run.net.to_json(), "perceptual": run.perceptual}
    prepare = lambda batch: Pairs(batch.lr, batch.hr)  # noqa: E731 (the loss would damage photos in bfloat16)
    restore = lambda batch: net.restore(batch.lr)  # noqa: E731
    more = {"parts": loss.parts, "finish": loss.finish, "restore": restore}
    return Job(net, loss, info, prepare, compiles={"net": [net.blocks]}, **more)


def refiner_job(
    run: RefinerSettings,
    process: Process,
    new: bool = True,
    over: tuple[PhotoTransformer, HierarchicalTokenizer] | None = None,
) -> Job:
    """A diffusion network over a frozen transformer; error of the noise and variational bound, VARSR's sum of both.

    Args:
        over: transformer and tokenizer, instead of those that the settings name.
    """
    from vartutor.addons.refiner import Refiner  # an add-on, which no other run needs

    model, tokenizer, info, parts = _beneath(run, process, over)
    asked, recipe = run.objective, run.profile.transformer
    refiner = Refiner.of(model.config, recipe.refiner_width, recipe.refiner_blocks).to(process.device)

    @torch.no_grad()
    def prepare(batch: Batch) -> Unsaid:
        clean, degraded = pair_features(tokenizer, batch.lr, batch.x, model.first)
        given = tokenizer.quantizer.tokenize(clean) if asked.forced else ()
        draws = batch.uniform(model.config.tokens, TOKENS)
        options = {"uniform": draws, "temperature": asked.temperature, "expected": asked.expected}
        *_, last = iterate(model.body, tokenizer, model.condition(batch.lr, degraded), given=given, **options)
        return Unsaid(last.hidden, last.said, (clean[-1] - last.f_hat).flatten(2).transpose(1, 2), batch.seeds)

    def loss(seen: Unsaid, moment: Moment) -> tuple[Tensor, Numbers]:
        count, stream = seen.rest.shape[1], NOISE + 2 * moment.step  # other noise whenever a batch is used again
        t = (uniform(seen.seeds, count, stream) * len(refiner.learning)).long()
        noise = normal(seen.seeds, seen.rest[0].numel(), stream + 1).view_as(seen.rest)
        with torch.autocast(process.device.type, torch.bfloat16, enabled=run.bf16):
            error, bound = refiner.losses(seen.hidden, seen.said, seen.rest, t, noise)
        return error + bound, {"error": error.detach(), "bound": bound.detach()}

    if new:
        refiner.calibrate(prepare(make_source(run, process).batch(range(2**40, 2**40 + run.batch))).rest)
    info |= {"kind": "refiner", "config": refiner.settings, "objective": asdict(asked)}
    return Job(refiner, loss, info, prepare, KEEP_UNSAID, parts)
