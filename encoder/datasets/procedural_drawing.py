"""Vector drawing of the beetles of the procedural data set.

A beetle is drawn in its own frame (x right, y down, head at y = -1, tail at y = 1) and every point
goes through a 3x3 homography to pixels, so that thin marks stay crisp under any pose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

Array = NDArray[np.float32]
Points = NDArray[np.float64]
Colour = tuple[int, int, int]

SUPERSAMPLING = 2
ELYTRA_TOP, ELYTRA_LENGTH = -0.27, 1.27
PRONOTUM_TOP, PRONOTUM_LENGTH = -0.68, 0.44
TEXTURE_STRENGTH = 0.35  # tuned: stronger textures make the set too easy at 224 px
_ANGLE = np.linspace(0, 2 * np.pi, 17)[:-1]
UNIT_CIRCLE: Points = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], 1)


@dataclass(frozen=True)
class Body:
    """Describe a silhouette: half-widths and lengths in beetle units."""

    width: float  # of the elytra
    squareness: float  # 1 is a lens, 0.3 nearly a box
    peak: float  # below 1 the widest point is near the head, above 1 near the tail
    collar: float  # half-width of the pronotum
    antenna: float
    ornament: str = ""  # "", "jaws" or "horn"


@dataclass(frozen=True)
class Palette:
    """Hold the three colours of a beetle, RGB 0..255."""

    base: Colour
    accent: Colour
    collar: Colour


BODIES: dict[str, Body] = {
    "domed": Body(0.70, 0.62, 0.95, 0.46, 0.30),
    "oval": Body(0.52, 0.52, 1.00, 0.40, 0.45),
    "slender": Body(0.36, 0.36, 0.95, 0.29, 0.55),
    "pear": Body(0.60, 0.72, 1.55, 0.30, 0.40),
    "stag": Body(0.48, 0.42, 0.90, 0.46, 0.32, "jaws"),
    "horned": Body(0.58, 0.42, 1.10, 0.50, 0.25, "horn"),
    "longhorn": Body(0.40, 0.45, 0.72, 0.30, 1.20),
    "shield": Body(0.62, 0.46, 0.68, 0.54, 0.35),
}

PALETTES: dict[str, Palette] = {
    "ochre": Palette((204, 146, 52), (74, 44, 24), (122, 74, 32)),
    "crimson": Palette((178, 38, 42), (34, 22, 28), (62, 26, 32)),
    "jade": Palette((48, 140, 96), (226, 216, 142), (26, 84, 64)),
    "cobalt": Palette((46, 84, 168), (234, 192, 70), (32, 50, 100)),
    "plum": Palette((122, 54, 116), (236, 184, 204), (76, 34, 80)),
    "ivory": Palette((224, 212, 182), (66, 50, 44), (154, 126, 96)),
    "umber": Palette((110, 72, 48), (230, 164, 76), (70, 46, 34)),
    "slate": Palette((84, 96, 108), (232, 118, 76), (52, 58, 70)),
}


def profile(t: Points, width: float, squareness: float, peak: float) -> Points:
    """Return the half-width of a body part at each t in [0, 1] from head to tail."""
    return np.asarray(width * np.sin(np.pi * np.clip(t, 0, 1) ** peak) ** squareness)


def outline(width: float, squareness: float, peak: float, top: float, length: float) -> Points:
    """Return the closed outline [N, 2] of a symmetric body part, in beetle units."""
    # Cosine spacing puts points where the outline turns fastest, at both ends.
    t = (1 - np.cos(np.linspace(0, np.pi, 33))) / 2
    half, y = profile(t, width, squareness, peak), top + length * t
    return np.concatenate([np.stack([half, y], 1), np.stack([-half, y], 1)[::-1]])


def split_planes(image: Image.Image) -> Array:
    """Return an RGB image as float planes [3, H, W]: numpy is fast on planes, slow on pixels."""
    return np.stack([np.asarray(band, dtype=np.float32) for band in image.split()])


def trace_shell(body: Body) -> Points:
    """Return the outline of the elytra."""
    return outline(body.width, body.squareness, body.peak, ELYTRA_TOP, ELYTRA_LENGTH)


def trace_collar(body: Body) -> Points:
    """Return the outline of the pronotum."""
    return outline(body.collar, 0.42, 0.9, PRONOTUM_TOP, PRONOTUM_LENGTH)


def project(homography: Points, points: Points) -> Points:
    """Map points [..., 2] through a 3x3 homography."""
    lifted = points @ homography[:, :2].T + homography[:, 2]
    return np.asarray(lifted[..., :2] / lifted[..., 2:])


@dataclass(frozen=True)
class Pen:
    """Draw polygons given in beetle units on one PIL image."""

    draw: ImageDraw.ImageDraw
    homography: Points

    def fill(self, polygons: Points, colour: Colour | int) -> None:
        """Fill the polygons [..., N, 2]."""
        for polygon in project(self.homography, polygons).reshape(-1, polygons.shape[-2] * 2):
            self.draw.polygon(polygon.tolist(), fill=colour)

    def stroke(self, lines: Points, width: float, colour: Colour | int) -> None:
        """Draw the open polylines [..., N, 2] with a constant width in beetle units."""
        step = np.empty_like(lines)
        step[..., 1:-1, :] = lines[..., 2:, :] - lines[..., :-2, :]
        step[..., 0, :] = lines[..., 1, :] - lines[..., 0, :]
        step[..., -1, :] = lines[..., -1, :] - lines[..., -2, :]
        normal = step[..., ::-1] * np.array([-width / 2, width / 2])
        normal /= np.maximum(np.hypot(step[..., :1], step[..., 1:]), 1e-9)
        self.fill(np.concatenate([lines + normal, (lines - normal)[..., ::-1, :]], -2), colour)

    def disc(self, centres: Points, radius: float, colour: Colour | int) -> None:
        """Fill discs around the centres [..., 2]; radius in beetle units."""
        self.fill(centres[..., None, :] + radius * UNIT_CIRCLE, colour)


@dataclass(frozen=True)
class Shell:
    """Draw white marks on the elytra, at u in [-1, 1] across and v in [0, 1] along."""

    pen: Pen
    body: Body

    def place(self, u: Points, v: Points) -> Points:
        """Return the points [..., 2] of surface coordinates u, v, in beetle units."""
        u, v = np.broadcast_arrays(u, np.clip(v, 0, 1))
        x = u * profile(v, self.body.width, self.body.squareness, self.body.peak)
        return np.stack([x, ELYTRA_TOP + ELYTRA_LENGTH * v], -1)

    def line(self, u: Points, v: Points, width: float) -> None:
        """Draw lines along the last axis of u, v; width in beetle units."""
        self.pen.stroke(self.place(u, v), width, 255)

    def spot(self, u: Points, v: Points, radius: float) -> None:
        """Draw a disc at each u, v; radius in beetle units."""
        self.pen.disc(self.place(u, v), radius, 255)


def _draw_bands(shell: Shell, count: int, slant: float) -> None:
    u, v = np.linspace(-1, 1, 15), (np.arange(count)[:, None] + 0.75) / (count + 0.5)
    shell.line(u, v + slant * (np.abs(u) - 0.5), 0.38 / count)


def _draw_stripes(shell: Shell, count: int) -> None:
    u = (np.arange(count) + 0.6) / (count + 0.1)
    columns = np.concatenate([u, -u])[:, None]
    shell.line(columns, np.linspace(0.04, 0.96, 25), 0.34 * shell.body.width / count)


def _draw_spots(shell: Shell, rows: int, columns: int, stagger: bool) -> None:
    radius = 0.184 * float(np.sqrt(shell.body.width * ELYTRA_LENGTH * 2 / (rows * columns)))
    row, column = np.arange(rows)[:, None], np.arange(columns)
    shift = np.where(row % 2, 0.25, -0.15) * float(stagger)
    u = np.asarray((column + 0.55 + shift) / (columns + 0.1), dtype=np.float64)
    v = np.asarray((row + 0.7) / (rows + 0.4), dtype=np.float64)
    for side in (-1, 1):
        shell.spot(side * u, v, radius)


# Medium detail: patterns of about equal cover, which differ in layout and not in mean colour.
PATTERNS: dict[str, Callable[[Shell], None]] = {
    "3band": lambda shell: _draw_bands(shell, 3, 0.0),
    "5band": lambda shell: _draw_bands(shell, 5, 0.0),
    "3chevron": lambda shell: _draw_bands(shell, 3, 0.2),
    "4arch": lambda shell: _draw_bands(shell, 4, -0.16),
    "4stripe": lambda shell: _draw_stripes(shell, 2),
    "6stripe": lambda shell: _draw_stripes(shell, 3),
    "6spot": lambda shell: _draw_spots(shell, 3, 1, False),
    "8spot": lambda shell: _draw_spots(shell, 4, 1, True),
    "12spot": lambda shell: _draw_spots(shell, 3, 2, False),
    "16spot": lambda shell: _draw_spots(shell, 4, 2, True),
}


def _draw_ribs(shell: Shell) -> None:
    shell.line(np.linspace(-0.93, 0.93, 16)[:, None], np.linspace(0.02, 0.98, 21), 0.016)


def _draw_rungs(shell: Shell) -> None:
    shell.line(np.linspace(-0.98, 0.98, 11), np.linspace(0.05, 0.97, 24)[:, None], 0.016)


def _draw_pits(shell: Shell) -> None:
    v = np.linspace(0.05, 0.95, 15)
    shift = np.where(np.arange(15) % 2, 0.045, -0.045)
    shell.spot(np.linspace(-0.9, 0.9, 11) + shift[:, None], v[:, None], 0.021)


def _draw_net(shell: Shell) -> None:
    u, v = np.linspace(-0.98, 0.98, 13), np.linspace(-0.3, 1.25, 15)[:, None]
    for slope in (-0.34, 0.34):
        shell.line(u, v + slope * u, 0.013)


# Fine detail of the elytra: textures of about equal cover with a period near 5 px at 224 px.
TEXTURES: dict[str, Callable[[Shell], None]] = {
    "ribbed": _draw_ribs,
    "runged": _draw_rungs,
    "pitted": _draw_pits,
    "netted": _draw_net,
}


def _spread(count: int, gap: float) -> Points:
    return np.asarray((np.arange(count) - (count - 1) / 2) * gap)


def _draw_dots(pen: Pen, count: int, colour: Colour) -> None:
    pen.disc(np.stack([_spread(count, 0.12), np.full(count, -0.46)], 1), 0.036, colour)


def _draw_bars(pen: Pen, count: int, colour: Colour) -> None:
    for x in _spread(count, 0.1):
        pen.stroke(np.array([[x, -0.54], [x, -0.38]]), 0.036, colour)


def _draw_ring(pen: Pen, colour: Colour) -> None:
    circle = np.concatenate([UNIT_CIRCLE, UNIT_CIRCLE[:1]])
    pen.stroke(circle * 0.085 + np.array([0, -0.46]), 0.036, colour)


def _draw_cross(pen: Pen, colour: Colour) -> None:
    pen.stroke(np.array([[-0.1, -0.46], [0.1, -0.46]]), 0.04, colour)
    pen.stroke(np.array([[0.0, -0.56], [0.0, -0.36]]), 0.04, colour)


def _draw_vee(pen: Pen, colour: Colour) -> None:
    pen.stroke(np.array([[-0.1, -0.54], [0.0, -0.38]]), 0.04, colour)
    pen.stroke(np.array([[0.1, -0.54], [0.0, -0.38]]), 0.04, colour)


# Fine detail of the pronotum: glyphs 10 to 15 px wide with strokes near 2.5 px at 224 px.
GLYPHS: dict[str, Callable[[Pen, Colour], None]] = {
    "2dot": lambda pen, colour: _draw_dots(pen, 2, colour),
    "3dot": lambda pen, colour: _draw_dots(pen, 3, colour),
    "2bar": lambda pen, colour: _draw_bars(pen, 2, colour),
    "3bar": lambda pen, colour: _draw_bars(pen, 3, colour),
    "ring": _draw_ring,
    "cross": _draw_cross,
    "vee": _draw_vee,
}


@dataclass(frozen=True)
class Beetle:
    """Name the traits of one class, from coarse to fine; each is a key of its table above."""

    palette: str
    body: str
    pattern: str
    texture: str
    glyph: str


def _trace_limbs(body: Body) -> Iterator[tuple[Points, float]]:
    for side in (-1, 1):
        for y, reach, drop in ((-0.36, 0.34, -0.3), (-0.05, 0.42, 0.16), (0.2, 0.4, 0.5)):
            hip = 0.75 * (body.collar if y < -0.3 else body.width)
            knee = (side * (hip + reach * 0.7), y + drop * 0.3)
            foot = (side * (hip + reach), y + drop)
            yield np.array([(side * hip * 0.6, y), knee, foot]), 0.055
        t = np.linspace(0, 1, 9)
        arc_x = side * (0.1 + body.antenna * (0.25 * t + 0.42 * np.sin(1.6 * t)))
        arc_y = -0.85 - 0.3 * np.sin(np.pi * t) + 0.85 * body.antenna * np.maximum(t - 0.45, 0)
        yield np.stack([arc_x, arc_y], 1), 0.032
        if body.ornament == "jaws":
            jaw_x = side * (0.08 + 0.24 * np.sin(np.pi * t * 0.9))
            yield np.stack([jaw_x, -0.85 - 0.42 * t], 1), 0.09
    if body.ornament == "horn":
        yield np.array([(0.0, -0.7), (0.0, -1.0), (0.02, -1.3)]), 0.1


def darken(colour: Colour, factor: float) -> Colour:
    """Scale a colour by a factor of 0 to 1."""
    return (int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor))


def _draw_silhouette(pen: Pen, body: Body, limb: Colour | int, head: Colour | int) -> None:
    for points, width in _trace_limbs(body):
        pen.stroke(points, width, limb)
    pen.fill(outline(0.7 * body.collar, 0.6, 1.0, -0.92, 0.36), head)


def _draw_shell_marks(canvas: Image.Image, beetle: Beetle, palette: Palette, grown: Points) -> None:
    """Draw pattern and texture, cut to the elytra; works on their box only, for speed."""
    body = BODIES[beetle.body]
    elytra, collar = trace_shell(body), trace_collar(body)
    corners = project(grown, elytra)
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0).tolist()
    right, bottom = (np.ceil(corners.max(0)).astype(int) + 1).tolist()
    size = (max(right - left, 1), max(bottom - top, 1))
    local = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]]) @ grown
    clip = Image.new("L", size)
    clip_pen = Pen(ImageDraw.Draw(clip), local)
    clip_pen.fill(elytra, 255)
    clip_pen.fill(collar, 0)
    for draw_marks, strength, colour in (
        (PATTERNS[beetle.pattern], 1.0, palette.accent),
        (TEXTURES[beetle.texture], TEXTURE_STRENGTH, darken(palette.base, 0.35)),
    ):
        marks = Image.new("L", size)
        draw_marks(Shell(Pen(ImageDraw.Draw(marks), local), body))
        marks = ImageChops.multiply(marks, clip)
        if strength < 1:
            marks = marks.point([int(strength * value) for value in range(256)])
        canvas.paste(colour, (left, top, left + size[0], top + size[1]), marks)


def draw_beetle(
    beetle: Beetle, palette: Palette, homography: Points, width: int, height: int
) -> tuple[Array, Array]:
    """Draw a beetle on nothing, with anti-aliased edges.

    homography maps beetle units to pixels of the [height, width] image. Returns the colour
    [3, H, W] in 0..255, already multiplied by cover, and the cover [H, W] in 0..1.
    """
    body = BODIES[beetle.body]
    grown = np.diag([SUPERSAMPLING, SUPERSAMPLING, 1.0]) @ homography
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    canvas, cover = Image.new("RGB", size), Image.new("L", size)
    pen, cover_pen = Pen(ImageDraw.Draw(canvas), grown), Pen(ImageDraw.Draw(cover), grown)
    dark = darken(palette.collar, 0.5)
    _draw_silhouette(pen, body, dark, darken(palette.collar, 0.75))
    _draw_silhouette(cover_pen, body, 255, 255)
    for part, colour in ((trace_shell(body), palette.base), (trace_collar(body), palette.collar)):
        pen.fill(part, colour)
        cover_pen.fill(part, 255)
    _draw_shell_marks(canvas, beetle, palette, grown)
    pen.stroke(np.array([[0.0, ELYTRA_TOP + 0.12], [0.0, 0.99]]), 0.022, dark)
    GLYPHS[beetle.glyph](pen, palette.accent if sum(palette.accent) > 300 else palette.base)
    cover_plane = np.asarray(cover.reduce(SUPERSAMPLING), dtype=np.float32)
    return split_planes(canvas.reduce(SUPERSAMPLING)), cover_plane / np.float32(255)
