"""The command that trains: train, with a subcommand for each model."""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vartutor.cli.parser import Commands, add_augment, add_profile, add_seed, check_steps
from vartutor.errors import UserError


def _tokenizer(args: argparse.Namespace) -> int:
    from vartutor.cli.launch import full_run, is_full_run
    from vartutor.profiles import get_profile
    from vartutor.tokenizer.build import parse_groups
    from vartutor.train.checkpoint import load_state
    from vartutor.train.runs import trained_tokenizer
    from vartutor.train.tokenizer import Losses, evaluate_tokenizer, train_tokenizer

    profile, options = get_profile(args.profile), _run_options(args)
    losses = Losses(perceptual=args.perceptual, adversarial=args.adversarial, bypass=args.bypass, votes=args.votes)
    groups = parse_groups(args.groups) if args.groups else None
    shape = {"ladder": args.ladder, "groups": groups, "overlap": not args.no_overlap, "bridge": args.bridge}
    if is_full_run(args):
        profile = full_run(args, "tokenizer", options, {"losses": losses}, **shape)
        if profile is None:
            return 0
        averaged = trained_tokenizer(load_state(args.out / "state.pt"))
    else:
        averaged = train_tokenizer(profile, args.out, losses=losses, **shape, **options).averaged
    scores = evaluate_tokenizer(averaged, profile, "val")
    print("validation: " + ", ".join(f"×{s} {v.mean():.2f} dB" for s, v in scores.items()))
    print(f"weights and log: {args.out}")
    return 0


def _transformer(args: argparse.Namespace) -> int:
    from vartutor.cli.launch import full_run, is_full_run
    from vartutor.profiles import get_profile
    from vartutor.train.evaluate import DECODES
    from vartutor.train.runs import find_tokenizer, trained_tokenizer
    from vartutor.train.transformer import Objective, train_transformer
    from vartutor.transformer.official import init_from_var

    profile, options = get_profile(args.profile), _run_options(args)
    recipe = asdict(Objective.of(profile.transformer))
    asked = {name: getattr(args, name) for name in recipe}
    shape = {"prefix": not args.no_prefix, "prior": False if args.no_prior else None, "added": args.added}
    lr, tokenizer = args.lr, None
    if args.resume:
        tokenizer, info = _go_on(args, options, "transformer", trained_tokenizer)
        recipe, lr = info["objective"], lr or info["lr"]
        shape = {name: info.get(name, False) for name in shape}
    objective = Objective(**recipe | {name: value for name, value in asked.items() if value is not None})
    shape |= {
        "tokenizer": tokenizer or find_tokenizer(args.tokenizer),
        # VAR's weights do not fit the toy sizes of a dry run.
        "start": lambda model: args.init and not args.dry_run and print(init_from_var(model, args.init), flush=True),
    }
    if is_full_run(args):
        profile = full_run(args, "transformer", options, {"objective": objective}, lr, **shape)
        if profile is None:
            return 0
    else:
        train_transformer(profile, out=args.out, objective=objective, lr=lr, **shape, **options)
    return _report(args, profile, DECODES)


def _preference(args: argparse.Namespace) -> int:
    from vartutor.cli.launch import full_run, is_full_run
    from vartutor.profiles import get_profile
    from vartutor.train.evaluate import DECODES
    from vartutor.train.preference import Preference, train_preference
    from vartutor.train.runs import find_start, trained_start
    from vartutor.train.transformer import Objective

    profile, options = get_profile(args.profile), _run_options(args)
    preference, lr, source = Preference(args.beta, args.lam, args.sum, args.reference), args.lr, args.model
    if args.resume:
        (model, tokenizer), info = _go_on(args, options, "preference", trained_start)
        preference, lr, source = Preference(**info["preference"]), lr or info["lr"], info["start"]["model"]
        objective = info["objective"]
    else:
        model, tokenizer, objective = find_start(source)
    asked = {"objective": Objective(**objective), "preference": preference}
    if is_full_run(args):
        profile = full_run(args, "preference", options, asked, lr, tokenizer=tokenizer, start=model, source=source)
        if profile is None:
            return 0
    else:
        train_preference(profile, model, tokenizer, args.out, **asked, source=source, lr=lr, **options)
    return _report(args, profile, DECODES)


def _fidelity(args: argparse.Namespace) -> int:
    from vartutor.train.evaluate import LOOKS
    from vartutor.train.fidelity import FidelityObjective, train_fidelity

    objective = FidelityObjective(**{field.name: getattr(args, field.name) for field in fields(FidelityObjective)})
    return _addition(args, "fidelity", train_fidelity, objective, LOOKS)


def _refiner(args: argparse.Namespace) -> int:
    from vartutor.train.evaluate import REFINED
    from vartutor.train.refiner import RefinerObjective, train_refiner

    objective = RefinerObjective(args.forced, args.temperature, args.expected)
    return _addition(args, "refiner", train_refiner, objective, REFINED)


def _addition(args: argparse.Namespace, kind: str, train: Callable, objective: Any, ways: dict[str, dict]) -> int:
    """What is trained beside a frozen transformer, and judged in these ways."""
    from vartutor.profiles import get_profile
    from vartutor.train.runs import find_restorer, trained_transformer

    profile, options = get_profile(args.profile), _run_options(args)
    if args.resume:
        (model, tokenizer), info = _go_on(args, options, kind, trained_transformer)
        objective = type(objective)(**info["objective"])
    else:
        model, tokenizer, *_ = find_restorer(args.model)
    train(profile, model, tokenizer, args.out, objective=objective, **options)
    decode = {"temperature": objective.temperature, "expected": objective.expected}
    return _report(args, profile, {way: asked | decode for way, asked in ways.items()})


def _go_on(args: argparse.Namespace, options: dict, kind: str, build: Callable[[dict], Any]) -> tuple[Any, dict]:
    """The models and settings of the run in --out; its steps, seed and origin go into ``options``."""
    from vartutor.cli.launch import is_full_run
    from vartutor.train.runs import open_run
    from vartutor.train.sharded import read_extra

    if kind in ("transformer", "preference") and is_full_run(args):
        state = read_extra(args.out)[1]
        models, info = build(state), state["info"]
    else:
        models, info = open_run(args.out, (kind,), lambda state: (build(state), state["info"]))
    options["steps"] = args.steps or info["steps"]
    options["seed"] = info["seed"]
    options["origin"] = {name: info[name] for name in ("command", "commit") if name in info}
    return models, info


def _report(args: argparse.Namespace, profile, decodes: dict[str, dict]) -> int:
    from vartutor.train.evaluate import score_restorer
    from vartutor.train.runs import find_restorer

    restorer = find_restorer(str(args.out))
    for name, options in decodes.items():
        scores = score_restorer(restorer, profile, "val", **options)["psnr_rgb"]
        print(f"validation, {name}: " + ", ".join(f"×{s} {value:.2f} dB" for s, value in scores.items()))
    print(f"weights and log: {args.out}")
    return 0


def _run_options(args: argparse.Namespace) -> dict:
    """What every training takes from the command line, checked."""
    from vartutor.chapter import check_seed
    from vartutor.paths import commit

    check_steps(args.steps)
    if getattr(args, "lr", None) is not None and args.lr <= 0:
        raise UserError(f"--lr {args.lr:g}: give a number above 0")
    if not args.resume and ((args.out / "state.pt").exists() or any(args.out.glob("step-*"))):
        raise UserError(f"{args.out}: holds a run already; --resume goes on with it, or choose another --out")
    origin = {"command": shlex.join(["vartutor", *args.words]), "commit": commit()}
    return {
        "seed": check_seed(args.seed),
        "steps": args.steps,
        "bf16": args.bf16,
        "resume": args.resume,
        "origin": origin,
    }


def _baseline(args: argparse.Namespace) -> int:
    from vartutor.baselines.cnn import CnnConfig
    from vartutor.profiles import get_profile
    from vartutor.train.baseline import train_baseline, trained_cnn

    profile, options = get_profile(args.profile), _run_options(args)
    settings = {"lr": args.lr, "perceptual": args.perceptual, "augment": args.augment}
    if args.resume:
        net, info = _go_on(args, options, "cnn", trained_cnn)
        config, settings = net.config, {name: info[name] for name in settings if name in info}
    else:
        width = profile.cnn_width if args.width is None else args.width
        blocks = profile.cnn_blocks if args.blocks is None else args.blocks
        config, settings["seconds"] = CnnConfig(width, blocks, tuple(args.heads), args.residual_scale), args.seconds
    trainer = train_baseline(profile, args.out, config=config, **settings, **options)
    million = sum(p.numel() for p in trainer.model.parameters()) / 1e6
    print(f"{million:.2f} M parameters, {trainer.step} steps in {trainer.seconds:.0f} s; weights and log: {args.out}")
    return 0


def add(commands: Commands) -> None:
    """Add this command."""
    train = Commands(commands.add("train", None, "train a model on the shipped photos"), "what")
    sub = train.add("tokenizer", _tokenizer, "train a tokenizer: hierarchical, plain multi-scale, or of one map")
    add_profile(sub)
    sub.add_argument(
        "--ladder", default="hit", help="hit (default): hierarchical; var: plain, with the same token maps; vq: one map"
    )
    sub.add_argument("--groups", help="token maps instead of the profile's, such as '1,2,4 | 8 | 16'")
    sub.add_argument("--no-overlap", action="store_true", help="hit: every group quantizes its image alone")
    sub.add_argument("--bridge", type=int, help="hit: hidden channels between the groups; 0: bicubic alone")
    sub.add_argument("--perceptual", type=float, default=0.0, help="weight of the perceptual distance (default 0)")
    sub.add_argument("--adversarial", type=float, default=0.0, help="weight of the adversarial loss (default 0)")
    sub.add_argument("--bypass", type=float, default=0.1, help="share of images that skip the quantizer (default 0.1)")
    sub.add_argument(
        "--votes", default="scale", help="where codes move: every scale counts alike (scale, default), or every token"
    )
    add_seed(sub)
    add_run(sub, "build/tokenizer", resumed="; give the same options again")
    _add_settings(sub)
    sub = train.add("transformer", _transformer, "train the transformer that restores photos, over a tokenizer")
    add_profile(sub)
    sub.add_argument("--tokenizer", default="hit", help="hit (default): the shipped one; or the folder of a run")
    sub.add_argument("--init", type=Path, help="weights of an official VAR transformer to start from, .pth")
    sub.add_argument("--no-prefix", action="store_true", help="the photo does not stand before the first map as tokens")
    sub.add_argument("--added", action="store_true", help="they are added to the inputs of every map instead")
    sub.add_argument("--no-prior", action="store_true", help="the photo's own latents do not pull the tokens")
    sub.add_argument("--hard", type=float, help="weight of the cross entropy with the nearest codes, the paper's loss")
    sub.add_argument("--soft", type=float, help="weight of the cross entropy with near codes, by their distance")
    sub.add_argument(
        "--tau", type=float, help="how far near reaches, as a share of the nearest code's squared distance"
    )
    sub.add_argument("--expected", type=float, help="weight of the squared error of the expected code")
    sub.add_argument("--balance", type=float, help="from every token counts alike, 0, to every map does, 1")
    sub.add_argument("--slip", type=float, help="largest share of wrong tokens in the input, 0 to 1")
    sub.add_argument("--drop", type=float, help="share of photos that are not shown, for guidance (default 0)")
    sub.add_argument("--lr", type=float, help="peak learning rate; these eight instead of the profile's")
    add_seed(sub)
    add_run(sub, "build/transformer")
    _add_settings(sub)
    sub = train.add("preference", _preference, "fine-tune a transformer to prefer the clean photo's tokens (DPO)")
    add_profile(sub)
    sub.add_argument("--model", default="course", help="a shipped transformer (default course), or the folder of a run")
    sub.add_argument("--beta", type=float, default=0.2, help="sharpness of the preference (default 0.2)")
    sub.add_argument(
        "--lambda", dest="lam", type=float, default=1.0, help="weight of the preference (default 1; 0: the control)"
    )
    sub.add_argument("--sum", action="store_true", help="log-likelihoods as sums over the tokens instead of means")
    sub.add_argument("--reference", action="store_true", help="margins less those of the frozen start")
    sub.add_argument("--lr", type=float, help="peak learning rate instead of the profile's")
    add_seed(sub)
    add_run(sub, "build/preference")
    _add_settings(sub)
    sub = train.add("fidelity", _fidelity, "train the decoder's skip from the degraded photo, over a transformer")
    add_profile(sub)
    sub.add_argument("--model", default="course", help="a shipped transformer (default course), or the folder of a run")
    sub.add_argument("--perceptual", type=float, default=0.05, help="weight of the perceptual distance (default 0.05)")
    sub.add_argument("--temperature", type=float, default=1.0, help="of the tokens in training (default 1)")
    sub.add_argument("--expected", action="store_true", help="train on mean codes instead of sampled ones")
    add_augment(sub)
    sub.add_argument("--hidden", type=int, default=64, help="channels of the module (default 64)")
    sub.add_argument("--depth", type=int, default=6, help="residual blocks of the module (default 6)")
    add_seed(sub)
    add_run(sub, "build/fidelity")
    sub = train.add("refiner", _refiner, "train the diffusion refiner of the finest token map, over a transformer")
    add_profile(sub)
    sub.add_argument("--model", default="course", help="a shipped transformer (default course), or the folder of a run")
    sub.add_argument("--forced", action="store_true", help="on true tokens, as VARSR, instead of the transformer's own")
    sub.add_argument("--temperature", type=float, default=1.0, help="of the tokens in training (default 1)")
    sub.add_argument("--expected", action="store_true", help="train on mean codes instead of sampled ones")
    add_seed(sub)
    add_run(sub, "build/refiner")
    sub = train.add("baseline", _baseline, "train the convolutional super-resolver that the transformer has to beat")
    add_profile(sub)
    sub.add_argument("--heads", type=int, nargs="+", default=[1, 2, 4], help="scales of the one net (default 1 2 4)")
    sub.add_argument("--width", type=int, help="channels, instead of the profile's")
    sub.add_argument("--blocks", type=int, help="residual blocks, instead of the profile's")
    sub.add_argument("--residual-scale", type=float, default=1.0, help="of each block's branch (default 1)")
    sub.add_argument("--lr", type=float, default=1e-3, help="peak learning rate (default 0.001)")
    sub.add_argument("--perceptual", type=float, default=0.0, help="weight of the perceptual distance (default 0)")
    add_augment(sub)
    sub.add_argument("--seconds", type=float, help="instead of steps: as many as fit, by a few trial steps")
    add_seed(sub)
    add_run(sub, "build/baseline")


def add_run(sub: argparse.ArgumentParser, out: str, resumed: str = ", with its settings") -> None:
    """Add the options that every training run has."""
    sub.add_argument("--steps", type=int, help="instead of the profile's")
    sub.add_argument("--bf16", action="store_true", help="the networks in bfloat16")
    sub.add_argument("--out", type=Path, default=Path(out), help="folder for state.pt and log.csv")
    sub.add_argument("--resume", action="store_true", help=f"go on from the state in --out{resumed}")


def _add_settings(sub: argparse.ArgumentParser) -> None:
    """Add the options of full runs; under torchrun every run is one."""
    sub.add_argument("--config", type=Path, help="YAML file with settings over the profile's")
    sub.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="one setting, such as loop.lr=0.001; repeat it"
    )
    sub.add_argument("--max-hours", type=float, help="save and stop after this time")
    sub.add_argument("--dry-run", action="store_true", help="the same at toy size, a few steps on the shipped photos")
