"""Photo in, clean photo at ×1, ×2 and ×4 out: any size, in overlapping tiles that are decoded and blended."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vartutor.data.images import check_image, from_pil, read_pixels, to_pil
from vartutor.data.pairs import upscale_bicubic
from vartutor.errors import UserError, pick
from vartutor.tiling import Canvas, Region, Tile, cut, padded, ramp, regions
from vartutor.tokenizer.fidelity import Fidelity, decode_faithfully
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.transformer.photo import PhotoTransformer, Writer, restore_latents, write_maps
from vartutor.weights import load_restorer

SEAM = 2  # pixels of the degraded photo over which drawn tiles pass into each other: a mean of two draws is blurred
MAX_SIDE = 4096  # its results at ×1, ×2 and ×4 are 1.4 GB: Pillow keeps 4 bytes per pixel


class ColorFix:
    """Gives a photo restored at scale s no other colours; the form of those in :mod:`vartutor.addons.color`."""

    margin = 0  # pixels of the degraded photo that `local` needs around a block
    looks = False  # whether it reads the enlarged photo at all

    def __init__(self, s: int):
        self.s = s

    def local(self, image: Tensor, photo: Tensor | None) -> Tensor:
        """(3, H, W) in [-1, 1] and the enlarged degraded photo of the same place and shape -> (3, H, W)."""
        return image

    def observe(self, image: Tensor, photo: Tensor | None) -> None:
        """Called once for every block, without its surroundings: (3, H, W) in [-1, 1] each."""

    def whole(self, image: Image.Image) -> None:
        """Called last, with the whole result, to change in place."""


def find_fix(name: str) -> type[ColorFix]:
    """A colour fix by its name; ``UserError`` if there is none."""
    if name == "none":
        return ColorFix
    from vartutor.addons.color import FIXES  # no chapter needs them

    return pick(name, FIXES, "colour fix")


class SuperResolver:
    """Restores photos with a transformer and its tokenizer.

    A photo is cut into tiles of the size that the model was trained on. Every tile becomes tokens, and these a picture;
    overlapping pictures are averaged, with weights that fall towards a tile's border. (To average latents, and decode
    them as one map, as VARSR does, needs tiles much larger than what a latent sees: ours at ×1 has 4 × 4 of them, so
    all know of the tile's border, and without it the decoder goes wrong.) Large photos are done block by block.

    Args:
        model, tokenizer: in evaluation mode.
        fidelity: lets the decoder look at the degraded photo, where ``upscale`` asks for it.
        device: what everything is moved to; what is kept of the photo stays in main memory.
        tile: side of a tile in pixels of the degraded photo; that of the training if left out.
        overlap: of neighbouring tiles, a multiple of the pixels per latent, 4 or 16; a quarter if left out.
        batch: tiles at once.
        block: pixels a side that are decoded at once; bounds the memory.

    Raises:
        UserError: an overlap that is no multiple of the pixels per latent, or not smaller than the tile.
    """

    def __init__(
        self,
        model: PhotoTransformer,
        tokenizer: HierarchicalTokenizer,
        fidelity: Fidelity | None = None,
        *,
        device: torch.device | str = "cpu",
        tile: int | None = None,
        overlap: int | None = None,
        batch: int = 32,
        block: int = 384,
    ):
        cell = tokenizer.encoder.factor
        tile = tokenizer.quantizer.groups[0][-1] * cell if tile is None else tile
        overlap = tile // (4 * cell) * cell if overlap is None else overlap
        if overlap % cell or tile % cell or not 0 <= overlap < tile:
            raise UserError(f"overlap {overlap} of tiles of {tile}: give multiples of {cell}, the overlap the smaller")
        self.device = torch.device(device)
        self.model, self.tokenizer = model.to(self.device), tokenizer.to(self.device)
        self.fidelity = fidelity and fidelity.to(self.device)
        self.tile, self.overlap, self.batch, self.cell = tile, overlap, batch, cell
        self.block = max(tile, block // cell * cell)

    @classmethod
    def from_pretrained(cls, name: str = "course", **options) -> "SuperResolver":
        """A resolver with the shipped weights, and fidelity where they have it; options as for the class.

        Raises:
            UserError: no such model, or a checkpoint that is missing or changed.
        """
        return cls(*load_restorer(name), **options)

    def check(self, scales: Sequence[int], fidelity: float = 0.0, color_fix: str = "none") -> None:
        """Whether this model can do what :meth:`upscale` would be asked for.

        Raises:
            UserError: it cannot.
        """
        known, asked = self.tokenizer.scales, set(scales if isinstance(scales, Iterable) else ())
        if not asked or asked - set(known):
            raise UserError(f"scales {scales}: choose from {', '.join(map(str, known))}, as in (1, 4)")
        if not 0 <= fidelity <= 1:
            raise UserError(f"fidelity {fidelity:g}: give a number from 0 to 1")
        if fidelity and self.fidelity is None:
            raise UserError("this model has no fidelity module: use fidelity 0, or train one (vartutor train fidelity)")
        find_fix(color_fix)

    def upscale(
        self,
        image: Any,
        scales: Sequence[int] = (1, 2, 4),
        *,
        fidelity: float | None = None,
        color_fix: str = "none",
        seed: int = 0,
        write: Writer = write_maps,
        progress: Callable[[int, int], None] = lambda done, total: None,
        **sampling,
    ) -> dict[int, Any]:
        """Restore a photo.

        Args:
            image: a path, a Pillow image, a (H, W, 3) uint8 array, or a (3, H, W) tensor in [-1, 1].
            scales: of 1, 2 and 4.
            fidelity: w of :func:`vartutor.tokenizer.fidelity.decode_faithfully`, 0 (the tokens alone) to 1 (faithful);
                if left out, the module's own ``balanced``, where the model has one.
            color_fix: ``none``, ``mean`` or ``wavelet``; see :mod:`vartutor.addons.color`.
            seed: decides every draw, tile by tile, whatever the batch.
            write: writes the tokens of tiles, see :func:`vartutor.transformer.photo.write_maps`; or an add-on does.
            progress: called with the tiles done and their total.
            **sampling: ``temperature`` (default 0.5), ``expected`` (True, unless the fidelity module was taught with
                drawn codes in mind), ``top_k`` (0) and ``top_p`` (0) of
                :func:`vartutor.transformer.generate.iterate`; chapter 07 shows why.

        Returns:
            {scale: image} in the kind that came in; for a path Pillow images.

        Raises:
            UserError: an unknown scale or colour fix, fidelity outside 0…1 or without its module, an unreadable image,
                one of more than 4096 pixels a side, or a tensor that is none in [-1, 1].
        """
        if fidelity is None:
            fidelity = 0.0 if self.fidelity is None else self.fidelity.balanced
        self.check(scales, fidelity, color_fix)
        fixes = {s: find_fix(color_fix)(s) for s in scales}
        photo = _read(image)
        height, width = photo.shape[-2:]
        if max(height, width) > MAX_SIDE:
            raise UserError(f"a photo of {width} × {height} pixels: at most {MAX_SIDE} a side; shrink or cut it first")
        mean = self.fidelity is None or not fidelity or not self.fidelity.draws
        options = {"temperature": 0.5, "expected": mean, "write": write} | sampling
        sides = padded((height, width), self.tile, self.cell)
        tiles = cut(*sides, self.tile, self.tile - self.overlap)
        blocks = list(regions(height, width, self.block))
        halo = self.cell + max(fix.margin for fix in fixes.values())  # a cell: bicubic enlargement reaches less far
        surroundings = [block.grown(halo, *sides) for block in blocks]
        plans = [[tile for tile in tiles if around.meets(tile, self.tile)] for around in surroundings]
        out = {s: Image.new("RGB", (width * s, height * s)) for s in scales}  # all that grows with the photo
        done, total = 0, sum(map(len, plans))
        for block, around, plan in zip(blocks, surroundings, plans, strict=True):
            canvases = {s: self._canvas(s, around, options["expected"]) for s in scales}
            first = self._first(photo, plan)
            for part in (plan[i : i + self.batch] for i in range(0, len(plan), self.batch)):
                for s, images in self._restore(photo, part, first, scales, seed, fidelity, options).items():
                    for t, picture in zip(part, images.cpu(), strict=True):
                        canvases[s].add(picture, (t.top - around.top) * s, (t.left - around.left) * s)
                done += len(part)
                progress(done, total)
            for s, fix in fixes.items():
                own = block.within(around, s)
                seen = upscale_bicubic(around.of(photo)[None], (s,))[s][0] if fix.looks else None
                fixed = fix.local(canvases.pop(s).mean(), seen)[own]
                fix.observe(fixed, seen[own] if fix.looks else None)
                out[s].paste(to_pil(fixed), (block.left * s, block.top * s))
        for s, fix in fixes.items():
            fix.whole(out[s])
        return {s: _like(image, out.pop(s)) for s in tuple(out)}

    def _canvas(self, s: int, around: Region, mean: bool) -> Canvas:
        height, width = (around.bottom - around.top) * s, (around.right - around.left) * s
        seam = self.overlap if mean else min(SEAM, self.overlap)
        return Canvas(3, height, width, ramp(self.tile * s, self.overlap * s, seam * s))

    def _place(self, tile: Tile) -> Region:
        return Region(tile.top, tile.top + self.tile, tile.left, tile.left + self.tile)

    def _first(self, photo: Tensor, plan: list[Tile]) -> Callable[[list[Tile], Tensor], dict[int, Tensor]]:
        """What gives tiles and their crops (B, 3, tile, tile) the pictures that their tokens begin at.

        A net restores what all tiles of the plan cover at once: it sees what lies around a tile, and works once.
        """
        scales = self.tokenizer.scales
        if self.model.restorer is None:
            return lambda part, crops: self.model.first(crops, scales)
        tops, lefts = [t.top for t in plan], [t.left for t in plan]
        covered = Region(min(tops), max(tops) + self.tile, min(lefts), max(lefts) + self.tile)
        height, width = max(photo.shape[1], covered.bottom), max(photo.shape[2], covered.right)
        around = covered.grown(self.model.restorer.reach, height, width)
        pictures = self.model.first(around.of(photo)[None].to(self.device), scales)

        def cut_out(part: list[Tile], crops: Tensor) -> dict[int, Tensor]:
            return {s: torch.stack([p[0][self._place(t).within(around, s)] for t in part]) for s, p in pictures.items()}

        return cut_out

    @torch.no_grad()
    def _restore(
        self,
        photo: Tensor,
        part: list[Tile],
        first: Callable,
        scales: Sequence[int],
        seed: int,
        w: float,
        options: dict,
    ) -> dict[int, Tensor]:
        """Every tile's picture: {s: (B, 3, s tile, s tile)}."""
        crops = torch.stack([self._place(t).of(photo) for t in part])
        generators = [_generator(seed, t) for t in part]
        draws = torch.stack([torch.rand(self.model.config.tokens, generator=own) for own in generators])
        crops, options = crops.to(self.device), options | {"uniform": draws.to(self.device), "generators": generators}
        seen = first(part, crops)
        f_hats = restore_latents(self.model, self.tokenizer, crops, scales, first=lambda *_: seen, **options)
        return {s: decode_faithfully(self.tokenizer, self.fidelity, f_hats[s], seen[s], s, w) for s in scales}


def _generator(seed: int, tile: Tile) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {tile.row} {tile.column}".encode()))


def _read(image: Any) -> Tensor:
    """(3, H, W) uint8, or float32 in [-1, 1] where the image has more than 8 bits."""
    if isinstance(image, (str, Path, Image.Image)):
        return read_pixels(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f"an array of {image.dtype}, {image.shape}: give uint8 of shape (height, width, 3)")
        return torch.from_numpy(image.copy()).permute(2, 0, 1)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise UserError(f"a tensor of shape {tuple(image.shape)}: give (3, height, width) in [-1, 1]")
        return check_image(image.detach().cpu()).float()
    raise UserError(f"a {type(image).__name__}: give a path, a Pillow image, an array or a tensor")


def _like(image: Any, result: Image.Image) -> Any:
    if isinstance(image, np.ndarray):
        return np.array(result)
    return from_pil(result) if isinstance(image, Tensor) else result
