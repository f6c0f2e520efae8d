"""A procedural image set: invented beetles with graded detail, for the demo and the tests.

Classes come in a hierarchy. A coarse group (silhouette and colours, readable at 56 px) has eight
classes: four medium groups (elytra pattern, readable at 112 px) of two fine siblings (pronotum
glyph and, in every other pair, elytra texture; readable at 224 px). Images vary in pose, light,
background, blur, noise and occlusion. Nothing is downloaded, every image follows from integers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from encoder.datasets.procedural_drawing import (
    BODIES,
    GLYPHS,
    PALETTES,
    PATTERNS,
    TEXTURES,
    Array,
    Beetle,
    Colour,
    Palette,
    Points,
    draw_beetle,
    project,
    split_planes,
)

JPEG_QUALITY = 92
COARSE_GROUPS = 8  # in a block of classes
MEMBERS = 8  # classes in a coarse group: 4 medium groups of 2 fine siblings
BLOCK = COARSE_GROUPS * MEMBERS
LIMITS = {
    "classes": (2, len(BODIES) * len(PALETTES) * MEMBERS),
    "images_per_class": (1, 1000),
    "seed": (0, 2**63 - 1),
    "size": (64, 1024),
}
# First words of the entropy of a random stream: streams of different use never meet.
_CLASS_STREAM, _ORDER_STREAM, _IMAGE_STREAM = 1, 2, 3


@dataclass(frozen=True)
class ProceduralSpec:
    """Describe a procedural image set.

    classes is 2..512, images_per_class 1..1000, size 64..1024 (pixels; sides are 0.94 to 1.25 times
    as long). Raises ValueError that names the field which is out of range or not an integer.
    """

    classes: int = 64
    images_per_class: int = 24
    seed: int = 0
    size: int = 256

    def __post_init__(self) -> None:
        """Check every field."""
        for field, (low, high) in LIMITS.items():
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{field} must be an integer in {low}..{high}, got {value!r}")


def class_names(spec: ProceduralSpec) -> list[str]:
    """Name the classes, such as "007-jade-stag-6spot-ribbed-ring"; sorted order is index order."""
    names = []
    for index in range(spec.classes):
        beetle = choose_beetle(spec.seed, index)
        traits = (beetle.palette, beetle.body, beetle.pattern, beetle.texture, beetle.glyph)
        names.append("-".join((f"{index:03d}", *traits)))
    return names


def locate_class(seed: int, class_index: int) -> tuple[int, int]:
    """Return the coarse group of a class and its place 0..7 there.

    Places 2m and 2m + 1 are fine siblings with medium pattern m. Each run of eight consecutive
    classes visits all eight coarse groups of its block, in an order of its own, so that neither
    halves nor every n-th class of the sorted names gather a whole group.
    """
    block, rest = divmod(class_index, BLOCK)
    place, position = divmod(rest, COARSE_GROUPS)
    order = np.random.default_rng([_ORDER_STREAM, seed, block, place]).permutation(COARSE_GROUPS)
    return block * COARSE_GROUPS + int(order[position]), place


def choose_beetle(seed: int, class_index: int) -> Beetle:
    """Choose the traits of a class from the seed and the index alone."""
    coarse, place = locate_class(seed, class_index)
    lap, slot = divmod(coarse, COARSE_GROUPS)
    shared = np.random.default_rng([_CLASS_STREAM, seed])
    palettes, bodies = shared.permutation(list(PALETTES)), shared.permutation(list(BODIES))
    group = np.random.default_rng([_CLASS_STREAM, seed, coarse])
    patterns = group.permutation(list(PATTERNS))
    medium, fine = divmod(place, 2)
    marks = np.random.default_rng([_CLASS_STREAM, seed, coarse, medium])
    textures, glyphs = marks.permutation(list(TEXTURES)), marks.permutation(list(GLYPHS))
    return Beetle(
        palette=str(palettes[slot]),
        body=str(bodies[(slot + lap) % len(bodies)]),
        pattern=str(patterns[medium]),
        texture=str(textures[fine if medium % 2 else 0]),
        glyph=str(glyphs[fine]),
    )


def render_image(spec: ProceduralSpec, class_index: int, image_index: int) -> NDArray[np.uint8]:
    """Render one image, uint8 RGB [H, W, 3] with H and W in 0.94 to 1.25 times spec.size.

    The result depends on spec.seed, spec.size and the two indices only. Raises IndexError when an
    index is out of the range of the spec.
    """
    _check_index("class_index", class_index, spec.classes)
    _check_index("image_index", image_index, spec.images_per_class)
    rng = np.random.default_rng([_IMAGE_STREAM, spec.seed, class_index, image_index])
    width, height = (int(spec.size * rng.uniform(0.94, 1.25)) for _ in range(2))
    beetle = choose_beetle(spec.seed, class_index)
    scene = paint_background(rng, width, height)
    pose = sample_pose(rng, width, height)
    shade_under(scene, rng, pose)
    colour, cover = draw_beetle(beetle, _vary_palette(rng, beetle), pose, width, height)
    colour *= shade_dome(rng, pose, width, height)
    scene *= 1 - cover
    scene += colour
    occlude(scene, rng, pose)
    return expose(scene, rng)


def render_plate(spec: ProceduralSpec, class_index: int, side: int) -> NDArray[np.uint8]:
    """Render a class on plain paper in a standard pose, uint8 RGB [side, side, 3]."""
    _check_index("class_index", class_index, spec.classes)
    beetle = choose_beetle(spec.seed, class_index)
    scale = 0.36 * side
    pose = np.array([[scale, 0, side / 2], [0, scale, side * 0.53], [0, 0, 1]])
    colour, cover = draw_beetle(beetle, PALETTES[beetle.palette], pose, side, side)
    return _merge_planes(244 * (1 - cover) + colour)


def write_images(
    spec: ProceduralSpec,
    folder: Path,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write every image to folder/<class name>/<NNN>.jpg.

    progress is called with the images done and their total after each class. The caller makes the
    folder appear at once, if it must. Raises OSError when a file cannot be written.
    """
    total = spec.classes * spec.images_per_class
    write = partial(_write_class, spec, folder)
    with ExitStack() as stack:
        done: Iterable[int]
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, context))
            done = pool.map(write, range(spec.classes))
        else:
            done = map(write, range(spec.classes))
        for count, images in enumerate(done, 1):
            if progress is not None:
                progress(count * images, total)


def _write_class(spec: ProceduralSpec, folder: Path, class_index: int) -> int:
    place = folder / class_names(spec)[class_index]
    place.mkdir(parents=True, exist_ok=True)
    for image_index in range(spec.images_per_class):
        image = Image.fromarray(render_image(spec, class_index, image_index))
        image.save(place / f"{image_index:03d}.jpg", quality=JPEG_QUALITY)
    return spec.images_per_class


def contact_sheet(spec: ProceduralSpec, rows: int = 6, columns: int = 8) -> Image.Image:
    """Lay out one class a row: its plate, then columns - 1 images, under a caption.

    Rows show siblings next to each other, three classes of each coarse group. Raises ValueError
    when rows or columns are below 1 or more than the spec has.
    """
    if not 1 <= rows <= spec.classes:
        raise ValueError(f"rows must be in 1..{spec.classes}, got {rows}")
    if not 1 <= columns <= spec.images_per_class + 1:
        raise ValueError(f"columns must be in 1..{spec.images_per_class + 1}, got {columns}")
    tile, caption, gap = 144, 18, 4
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, rows * (tile + caption + gap)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    names = class_names(spec)
    for row, class_index in enumerate(_order_by_kinship(spec)[:rows]):
        top = row * (tile + caption + gap)
        draw.text((gap, top + 2), names[class_index], fill=(40, 40, 40), font=font)
        for column in range(columns):
            if column == 0:
                picture = Image.fromarray(render_plate(spec, class_index, 2 * tile))
            else:
                picture = Image.fromarray(render_image(spec, class_index, column - 1))
            picture = picture.resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(picture, (gap + column * (tile + gap), top + caption))
    return sheet


def _order_by_kinship(spec: ProceduralSpec) -> list[int]:
    """Order classes by coarse group, the first three places of each group before all others."""

    def rank(class_index: int) -> tuple[bool, int, int]:
        coarse, place = locate_class(spec.seed, class_index)
        return place > 2, coarse, place

    return sorted(range(spec.classes), key=rank)


def _check_index(name: str, value: int, count: int) -> None:
    if not 0 <= value < count:
        raise IndexError(f"{name} must be in 0..{count - 1}, got {value}")


def sample_pose(rng: np.random.Generator, width: int, height: int) -> Points:
    """Sample a homography [3, 3] from beetle units to pixels."""
    side = min(width, height)
    angle, shear = rng.uniform(-0.6, 0.6), rng.uniform(-0.12, 0.12)
    scale_x, scale_y = side * rng.uniform(0.31, 0.40) * rng.uniform(0.94, 1.06, 2)
    shift_x, shift_y = np.array([width, height]) * (0.5 + rng.uniform(-0.08, 0.08, 2))
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    lean = np.array([[1, shear, 0], [0, 1, 0], [*rng.uniform(-0.1, 0.1, 2), 1]])
    place = np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y], [0, 0, 1]])
    return np.asarray(place @ turn @ lean, dtype=np.float64)


def _vary_palette(rng: np.random.Generator, beetle: Beetle) -> Palette:
    """Give one animal its own tint: animals of a kind differ a little."""
    tint = rng.uniform(0.93, 1.07, 3)

    def vary(colour: Colour) -> Colour:
        red, green, blue = np.clip(np.array(colour) * tint, 0, 255).astype(int).tolist()
        return (red, green, blue)

    kind = PALETTES[beetle.palette]
    return Palette(vary(kind.base), vary(kind.accent), vary(kind.collar))


def _resize(plane: Array, width: int, height: int) -> Array:
    """Stretch a float plane [h, w] smoothly to [height, width]."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _merge_planes(planes: Array) -> NDArray[np.uint8]:
    """Round float planes [3, H, W] to uint8 [H, W, 3]."""
    rounded = np.clip(planes + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.asarray(Image.merge("RGB", [Image.fromarray(plane) for plane in rounded]))


def _sample_earth(rng: np.random.Generator, count: int) -> Array:
    """Sample muted ground colours, RGB 0..255 [count, 3]."""
    value, warmth, moss = rng.uniform([60, -0.12, -0.05], [205, 0.3, 0.15], (count, 3)).T
    tint = np.stack([1 + warmth, 1 + moss, 1 - warmth], 1)
    return np.asarray(value[:, None] * tint, dtype=np.float32)


def paint_background(rng: np.random.Generator, width: int, height: int) -> Array:
    """Paint textured ground with clutter, float planes 0..255 [3, height, width]."""
    # Half size is enough, as the ground is out of focus; it saves most of the time.
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    grain = rng.integers(3, 60, 2)  # unequal numbers give wood, equal ones sand or soil
    noise = 22 * _resize(rng.standard_normal((5, 5), dtype=np.float32), half_width, half_height)
    fine = rng.standard_normal((int(grain[0]), int(grain[1])), dtype=np.float32)
    noise += rng.uniform(8, 24) * _resize(fine, half_width, half_height)
    ground = Image.fromarray(_merge_planes(_sample_earth(rng, 1).T[..., None] + noise))
    draw = ImageDraw.Draw(ground)
    count = int(rng.integers(6, 40))
    slimness = float(rng.choice([1.0, 0.3, 0.08])) * rng.uniform(0.6, 1, count)  # pebble to straw
    length = rng.uniform(0.04, 0.16, count) * half_width
    middles = rng.uniform(0, 1, (count, 2)) * (half_width, half_height)
    leaves = _trace_leaves(middles, length, slimness, rng.uniform(0, np.pi, count))
    for leaf, colour in zip(leaves, _sample_earth(rng, count).astype(int).tolist(), strict=True):
        draw.polygon(leaf, fill=tuple(colour))
    ground = ground.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2) * width / 256))
    return split_planes(ground.resize((width, height), Image.Resampling.BILINEAR))


def _trace_leaves(
    middles: Points, length: Points, slimness: Points, angle: Points
) -> list[list[float]]:
    """Trace turned ellipses, each a flat list of x, y in pixels, from middles [N, 2] and [N]."""
    t = np.linspace(0, 2 * np.pi, 15)[:-1]
    x, y = length[:, None] * np.cos(t), (length * slimness)[:, None] * np.sin(t)
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    turned = np.stack([x * cosine - y * sine, x * sine + y * cosine], -1) + middles[:, None]
    flat: list[list[float]] = turned.reshape(len(turned), -1).tolist()
    return flat


def _measure_dome(pose: Points, width: int, height: int) -> tuple[Points, Points]:
    """Return beetle coordinates x, y [h, w] of pixels on a coarse grid, enough for soft shades."""
    columns, rows = np.linspace(0, width, width // 8), np.linspace(0, height, height // 8)
    pixels = np.stack(np.meshgrid(columns, rows), -1)
    place = project(np.asarray(np.linalg.inv(pose), dtype=np.float64), pixels)
    return place[..., 0], place[..., 1]


def shade_dome(rng: np.random.Generator, pose: Points, width: int, height: int) -> Array:
    """Return the gain [height, width] of a shiny dome lit from a random side."""
    x, y = _measure_dome(pose, width, height)
    side_x, side_y = rng.uniform(-0.3, 0.3), rng.uniform(-0.35, 0.35)
    falloff = 1.08 - 0.42 * np.clip((x / 0.75) ** 2 + (y / 1.25) ** 2, 0, 1.4)
    gloss = np.exp(-((x - side_x) ** 2 + ((y - side_y) / 2) ** 2) / 0.03)
    gain = falloff + rng.uniform(0.1, 0.6) * gloss
    return _resize(gain.astype(np.float32), width, height)


def shade_under(scene: Array, rng: np.random.Generator, pose: Points) -> None:
    """Darken the ground under the beetle in place: a soft shadow to one side."""
    height, width = scene.shape[1:]
    x, y = _measure_dome(pose, width, height)
    offset_x, offset_y = rng.uniform(-0.15, 0.15, 2)
    reach = ((x - offset_x) / 0.75) ** 2 + ((y - 0.1 - offset_y) / 1.15) ** 2
    gain = 1 - rng.uniform(0.3, 0.6) / (1 + np.exp(np.clip(8 * (reach - 1), -30, 30)))
    scene *= _resize(gain.astype(np.float32), width, height)


def occlude(scene: Array, rng: np.random.Generator, pose: Points) -> None:
    """Lay a blade of grass or a crumb over the beetle, in place, in one image of two."""
    if rng.uniform() < 0.5:
        return
    height, width = scene.shape[1:]
    middle = project(pose, rng.uniform(-0.7, 0.7, (1, 2)))
    slimness, reach = ((0.07, 0.26), (0.6, 0.065))[int(rng.integers(2))]
    length = rng.uniform(0.8, 1.2, 1) * reach * width
    mask = Image.new("L", (width, height))
    leaf = _trace_leaves(middle, length, np.array([slimness]), rng.uniform(0, np.pi, 1))[0]
    ImageDraw.Draw(mask).polygon(leaf, fill=1)
    np.copyto(scene, _sample_earth(rng, 1).T[..., None], where=np.asarray(mask, dtype=bool))


def _blur(plane: Array, weight: float) -> None:
    """Blur a plane [H, W] in place with the kernel (w, 1 - 2 w, w) along both axes."""
    share = np.float32(weight)
    for low, middle, high in (
        (plane[:-2], plane[1:-1], plane[2:]),
        (plane[:, :-2], plane[:, 1:-1], plane[:, 2:]),
    ):
        change = low + high
        change -= 2 * middle
        change *= share
        middle += change


def expose(scene: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the photograph of planes [3, H, W]: light, blur, noise; returns uint8 [H, W, 3]."""
    height, width = scene.shape[1:]
    warmth, angle = rng.uniform(-0.13, 0.13), rng.uniform(0, 2 * np.pi)
    tone = rng.uniform(0.68, 1.2) * np.array([1 + warmth, 1, 1 - warmth], dtype=np.float32)
    across = np.cos(angle) * np.linspace(-1, 1, width, dtype=np.float32)
    along = np.sin(angle) * np.linspace(-1, 1, height, dtype=np.float32)
    slope = 1 + np.float32(rng.uniform(0, 0.25)) * (across + along[:, None])
    weight = rng.uniform(0, 0.2)
    noise = np.float32(rng.uniform(2, 6)) * rng.standard_normal((height, width), dtype=np.float32)
    for plane, gain in zip(scene, tone, strict=True):
        plane *= slope * gain
        np.clip(plane, 0, 255, out=plane)
        for _ in range(2):  # a sigma of up to 0.9 px; two passes are near enough to a Gaussian
            _blur(plane, weight)
        plane += noise
    return _merge_planes(scene)
