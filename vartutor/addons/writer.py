"""How token maps are written, as the commands are asked for it: plainly, guided, refined, or both."""

from collections.abc import Callable, Iterator

from vartutor.addons.guidance import Guided
from vartutor.addons.refiner import Refined, Refiner
from vartutor.transformer.generate import Step
from vartutor.transformer.photo import PhotoTransformer, write_maps


def make_writer(
    model: PhotoTransformer,
    guidance: float = 0.0,
    negative: str = "null",
    refine: float | None = None,
    refiner: Refiner | None = None,
) -> Callable[..., Iterator[Step]]:
    """What goes as ``write`` to :meth:`vartutor.superres.SuperResolver.upscale`.

    Args:
        guidance, negative: see :class:`Guided`; at guidance 0 there is none.
        refine: temperature of the refiner; none goes over the tokens if left out.

    Raises:
        UserError: an unknown negative, guidance of a model that was trained without, refine below 0 or without a
            refiner.
    """
    write = Guided(guidance, negative)
    if guidance:
        write.check(model)
    else:
        write = write_maps
    return write if refine is None else Refined(refiner, refine, write)
