"""Files of any kind: pictures, names, folders and weights. Whatever they hold, one line or the right thing."""

import copy
import io
import os
import random
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from properties import attempt, command, tries
from safetensors.torch import load_file, save

from vartutor.data.images import from_pil, read_image
from vartutor.restore import find_photos, restore
from vartutor.weights import load_addition, load_cnn, load_restorer, load_start, load_tokenizer
from vartutor.weights.official_tokenizer import load_vqvae
from vartutor.weights.official_transformer import load_var

# --- pictures ------------------------------------------------------------------------------------------

MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr LAB HSV I I;16 I;16B I;16L F".split()  # noqa: SIM905
SUFFIXES = [
    f".{s}" for s in ("png", "jpg", "tif", "webp", "gif", "bmp", "tga", "ppm", "ico", "jp2", "avif", "pcx", "sgi")
]
PROFILES = [
    b"",
    b"\0" * 200,
    *(ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes() for name in ("sRGB", "LAB", "XYZ")),
]
KEYS = st.one_of(
    st.none(),
    st.integers(-1, 70_000),
    st.tuples(*[st.integers(-1, 70_000)] * 3),
    st.binary(max_size=300),
    st.sampled_from([(), (1,), "x", 1.5]),
)


@st.composite
def pictures(draw):
    """Pillow images of every mode, and what their files may say beside the pixels."""
    mode, size = draw(st.sampled_from(MODES)), draw(st.tuples(st.integers(0, 40), st.integers(0, 40)))
    image = Image.new(mode, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if 0 not in size:
            image.frombytes(random.Random(draw(st.integers(0, 99))).randbytes(len(image.tobytes())))
        if image.mode in ("P", "PA") and draw(st.booleans()):
            image.putpalette(draw(st.binary(min_size=3, max_size=768).map(lambda b: b[: len(b) // 3 * 3])))
        if (orientation := draw(st.none() | st.integers(-1, 70_000))) is not None:
            image.getexif()[274] = orientation % 65536
            image.info["exif"] = image.getexif().tobytes()
        if profile := draw(st.sampled_from([None, *PROFILES])):
            image.info["icc_profile"] = profile
        if (key := draw(KEYS)) is not None:
            image.info["transparency"] = key
    return image


def of_mode(mode, **info):
    """A small image with such a mode and information."""
    image = Image.new(mode, (3, 2))
    image.info = info
    return image


def looks_right(x, size=None):
    assert x.dtype == torch.float32
    assert x.ndim == 3
    assert x.shape[0] == 3
    assert size is None or sorted(x.shape[1:]) == sorted(size)
    assert x.isfinite().all()
    assert x.abs().max() <= 1


@tries(150)
@given(pictures())
@example(of_mode("I;16", transparency=(1, 2, 3)))
@example(of_mode("La"))
def test_any_pillow_image_is_read_or_one_line(image):
    x = attempt(from_pil, image)
    if x is not None:
        looks_right(x, image.size)
    else:  # what may be refused
        assert 0 in image.size or image.mode in ("F", "I") or image.info.keys() & {"transparency", "icc_profile"}


def file_of(image, suffix):
    """The image as a file, or as its mode's PNG where no such file can be made."""
    image.info = {key: value for key, value in image.info.items() if key != "transparency" or isinstance(value, int)}
    for mode, kind in ((image.mode, suffix), ("RGB", suffix), ("RGB", ".png")):
        buffer = io.BytesIO()
        options = {key: image.info[key] for key in ("icc_profile", "exif") if key in image.info}
        try:
            made = image if mode == image.mode else image.convert(mode)
            made.save(buffer, Image.registered_extensions()[kind], **options)
            return buffer.getvalue(), kind
        except Exception:  # encoders raise many kinds
            continue
    return b"", suffix


@st.composite
def damaged(draw, content):
    """Bytes with some of them cut off, left out, doubled or changed."""
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        at, length = draw(st.integers(0, len(content))), draw(st.integers(0, 40))
        what = draw(st.sampled_from(["cut", "drop", "double", "change", "zeros"]))
        if what == "cut":
            del content[at:]
        elif what == "drop":
            del content[at : at + length]
        elif what == "double":
            content[at:at] = content[at : at + length]
        elif what == "change":
            content[at : at + 4] = draw(st.binary(min_size=1, max_size=4))
        else:
            content[at : at + length] = bytes(length)
    return bytes(content)


@st.composite
def picture_files(draw):
    """Files of images, half of them damaged, under any suffix."""
    content, suffix = file_of(draw(pictures()), draw(st.sampled_from(SUFFIXES)))
    if draw(st.booleans()):
        content = draw(damaged(content))
    return content, draw(st.sampled_from([suffix, suffix, *SUFFIXES]))


@tries(150)
@given(picture_files())
def test_any_file_is_read_or_one_line(tmp_path_factory, file):
    path = tmp_path_factory.getbasetemp() / f"any{file[1]}"
    path.write_bytes(file[0])
    for source in (path, io.BytesIO(file[0])):
        if (x := attempt(read_image, source)) is not None:
            looks_right(x)


# --- names and folders ---------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(["a.png", "a.jpg", "A.PNG", "a_x1.png", "a_x1.jpg", ".a.png", "._a.png", "a", "a.png.part"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30).map(
        lambda name: name + ".png"
    ),
    st.binary(min_size=1, max_size=245).map(lambda b: os.fsdecode(b.replace(b"/", b"_").replace(b"\0", b"_")) + ".png"),
    st.integers(200, 300).map(lambda n: "n" * n + ".png"),
)
KINDS_OF_FILES = st.sampled_from(["photo", "photo", "photo", "text", "empty", "half", "folder", "link", "dead link"])
PHOTO = file_of(Image.effect_mandelbrot((9, 7), (-3, -2.5, 2, 2.5), 20).convert("RGB"), ".png")[0]


def fill(folder, entries):
    """Make files; those that the system refuses are left out."""
    for name, kind in entries:
        path = folder / name
        try:
            if path.exists() or path.is_symlink():
                continue
            if kind == "folder":
                path.mkdir()
            elif kind in ("link", "dead link"):
                path.symlink_to(folder / "a.png" if kind == "link" else folder / "nowhere")
            else:
                path.write_bytes({"photo": PHOTO, "text": b"x", "empty": b"", "half": PHOTO[:40]}[kind])
        except (OSError, ValueError):
            continue


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def enlarged(path, scales):
    """What a model would do, in no time."""
    read_image(path)
    return {s: Image.new("RGB", (9 * s, 7 * s)) for s in scales}


@tries(50)
@given(st.lists(st.tuples(NAMES, KINDS_OF_FILES), max_size=6), st.booleans(), st.booleans(), st.sets(st.integers(0, 5)))
@example([("a.png", "link")], True, False, {0})
def test_no_name_stops_a_folder_and_no_photo_is_lost(tmp_path_factory, entries, in_place, force, named):
    folder = tmp_path_factory.mktemp("names")
    fill(folder, entries)
    before, out = contents(folder), folder if in_place else folder.parent / f"{folder.name}-out"
    single = [folder / name for k, (name, _) in enumerate(entries) if k in named]
    sources = attempt(find_photos, [folder, *single], lambda line: None)
    if not sources:
        return
    done = attempt(restore, sources, out, enlarged, (1, 2), how="x", force=force)
    after = contents(folder)
    assert {path: after.get(path) for path in before} == before
    if done is None:
        return
    made = [path for outcome in done for path in outcome.written]
    assert not [path for path in contents(out) if path.name.endswith(".part") and path not in before]
    for path in made:
        assert path not in before
        with Image.open(path) as image:
            image.load()
    again = attempt(restore, sources, out, enlarged, (1, 2), how="x")
    assert [bool(outcome.error) for outcome in again] == [bool(outcome.error) for outcome in done]
    assert not [path for outcome in again for path in outcome.written]


# --- weights -------------------------------------------------------------------------------------------

JUNK = st.sampled_from(
    [None, 0, -1, 10**30, 1.5, float("nan"), "x", "", [], {}, [1, [2]], True, torch.zeros(2, 3), torch.zeros(0)]
)
LOADERS = [
    load_tokenizer,
    load_restorer,
    load_start,
    load_cnn,
    lambda path: load_addition("refiner", torch.nn.Identity, path),
]


def places(node, path=()):
    """Where in nested dictionaries and lists something stands."""
    yield path
    if isinstance(node, (dict, list)):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from places(node[key], (*path, key))


def spoil(data, state):
    """The state with a few places removed or replaced, tensors also by others of their kind."""
    state = copy.deepcopy(state)
    for _ in range(data.draw(st.integers(1, 3))):
        found = [path for path in places(state) if path]
        short = [path for path in found if len(path) <= 3 and "model" not in path and "averaged" not in path]
        path = data.draw(st.sampled_from(short if short and data.draw(st.booleans()) else found))
        node = state
        for key in path[:-1]:
            node = node[key]
        old = node[path[-1]]
        what = data.draw(st.sampled_from(["remove", "junk", "same kind"]))
        if what == "remove":
            del node[path[-1]]
        elif what == "same kind" and isinstance(old, torch.Tensor):
            change = data.draw(st.sampled_from(["nan", "type", "shape", "huge"]))
            changed = {"nan": old * float("nan"), "type": old.long(), "shape": old[None], "huge": old.float() + 1e30}
            node[path[-1]] = changed[change]
        elif what == "same kind" and isinstance(old, int):
            node[path[-1]] = data.draw(st.integers(-3, 70))
        else:
            node[path[-1]] = data.draw(JUNK)
        if not isinstance(state, dict) or not state:
            break
    return state


RUNS = {"hit": "tokenizer", "transformer": "transformer", "refiner": "refiner"}  # their folders, and their kinds


@pytest.fixture(scope="module")
def states(tiny_runs):
    return {run: torch.load(tiny_runs / run / "state.pt", weights_only=True) for run in RUNS}


@tries(20)
@given(st.sampled_from(sorted(RUNS)), st.data())
def test_a_spoilt_state_is_one_line(states, tmp_path_factory, run, data):
    folder = tmp_path_factory.getbasetemp() / "spoilt"
    folder.mkdir(exist_ok=True)
    torch.save(spoil(data, states[run]), folder / "state.pt")
    for load in LOADERS:
        attempt(load, folder)
    before = (folder / "state.pt").read_bytes()
    words = ["--resume", "--no-report", "--device", "cpu", "--out", str(folder), "--set", "loop.steps=1"]
    code, *_ = command(["train", RUNS[run], *words])
    assert code == 0 or (folder / "state.pt").read_bytes() == before
    command(["publish", str(folder), "--profile", "smoke", "--out", str(folder / "published")])


@tries(30)
@given(st.sampled_from(["hit", "refiner"]), st.data())
def test_a_damaged_state_is_one_line(states, tiny_runs, tmp_path_factory, run, data):
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    content = (tiny_runs / run / "state.pt").read_bytes()
    part = data.draw(st.sampled_from([content[:3000], content[-3000:]]))
    changed = data.draw(damaged(part))
    path.write_bytes(changed + content[3000:] if part == content[:3000] else content[:-3000] + changed)
    for load in LOADERS:
        attempt(load, path)


OFFICIAL = {"tiny_vqvae_golden": load_vqvae, "tiny_var_golden": load_var}


@pytest.fixture(scope="module")
def official():
    """Small models under the official names."""
    found = {name: load_file(Path(__file__).parent / "golden" / f"{name}.safetensors") for name in OFFICIAL}
    part = "weights."
    return {n: {k.removeprefix(part): v.float() for k, v in s.items() if k.startswith(part)} for n, s in found.items()}


@tries(30)
@given(st.sampled_from(sorted(OFFICIAL)), st.sampled_from([".pth", ".safetensors"]), st.data())
def test_any_official_file_is_one_line(official, tmp_path_factory, name, suffix, data):
    path = tmp_path_factory.getbasetemp() / f"official{suffix}"
    state = spoil(data, official[name])
    if suffix == ".pth":
        torch.save(state, path)
    else:
        tensors = save({name: value.contiguous() for name, value in state.items() if isinstance(value, torch.Tensor)})
        path.write_bytes(data.draw(damaged(tensors[:4000])) + tensors[4000:])
    attempt(OFFICIAL[name], path, (1, 2, 3))
