"""Which restorers are measured, by the words of the command line; models are shipped ones, or those of a run."""

from collections.abc import Sequence
from itertools import product

import torch

from vartutor.addons.refiner import load_refiner, make_writer
from vartutor.baselines.cnn import separate
from vartutor.data.pairs import upscale_bicubic
from vartutor.errors import UserError
from vartutor.evaluate.restorers import Method, of_model, seedless
from vartutor.superres import SuperResolver
from vartutor.transformer.generate import check_temperature
from vartutor.weights import load_cnn, load_restorer
from vartutor.weights.files import shipped


def find_model(source: str, device: torch.device | str = "cpu") -> SuperResolver:
    """A transformer with its tokenizer, and the fidelity module where there is one.

    Raises:
        UserError: no such name, or a folder without the state of either.
    """
    return SuperResolver(*load_restorer(source), device=device)


def default_restorers() -> list[str]:
    """The model and its baselines; the CNN only where one is shipped."""
    return ["bicubic", "denoise", *["cnn"] * ("course" in shipped("cnn")), "model"]


def find_restorers(
    words: Sequence[str],
    model: str = "course",
    temperatures: Sequence[float] = (1.0,),
    expected: bool = False,
    fidelities: Sequence[float] = (0.0,),
    guidances: Sequence[float] = (0.0,),
    negative: str = "null",
    refine: Sequence[float] = (),
    device: torch.device | str = "cpu",
) -> list[Method]:
    """Restorers by their words.

    Args:
        words: ``bicubic``; ``denoise`` or such as ``denoise:tv:0.5``; ``cnn`` (the shipped one), ``cnn:RUN``, or
            ``cnn:RUN,RUN,RUN`` for one net per scale; ``model``, or ``model:NAME`` and ``model:RUN`` for others.
        model: name or run of the one that ``model`` means.
        temperatures: each model at each of them; 0 is greedy.
        expected: also the mean codes, at those above 0.
        fidelities, guidances: all of that at each of them; ``negative`` is what guidance moves away from.
        refine: all of that also with the refiner, at each of these temperatures.
        device: of the models; the baselines stay on the CPU.

    Raises:
        UserError: unknown words, a negative temperature, or a model that is not there.
    """
    for t in temperatures:
        check_temperature(t)
    found = []
    for word in words:
        kind, _, source = word.partition(":")
        if kind == "denoise":
            from vartutor.baselines.classical import parse_denoiser  # needs scikit-image

            found.append(seedless(word, parse_denoiser(word)))
        elif kind == "cnn":
            found.append(seedless(word, separate([load_cnn(name) for name in (source or "course").split(",")])))
        elif kind == "model":
            resolver = find_model(source or model, device)
            refiner = load_refiner(source or model) if refine else None
            for w, c, refined in product(fidelities, guidances, (None, *refine)):
                resolver.check(resolver.tokenizer.scales, w)
                write = make_writer(resolver.model, c, negative, refined, refiner)
                options = {"fidelity": w, "write": write, "draws": refined is not None}
                ways = (
                    f"fidelity {w:g}" * (w > 0),
                    f"guidance {c:g}" * (c != 0),
                    "" if refined is None else f"refined at {refined:g}",
                )
                asked = ", ".join(filter(None, (word, *ways)))
                found += [of_model(resolver, f"{asked}, temperature {t:g}", t, **options) for t in temperatures]
                for t in temperatures if expected else ():
                    if t > 0:
                        name = f"{asked}, expected, temperature {t:g}"
                        found.append(of_model(resolver, name, t, expected=True, **options))
        elif word == "bicubic":
            found.append(seedless("bicubic", upscale_bicubic))
        else:
            raise UserError(f"unknown restorer {word!r}: choose from bicubic, denoise, cnn, model; see --help")
    return found
