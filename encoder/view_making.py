"""Make a view store: sample views, let the teacher look at each once, keep what it says.

Blocks are appended to files beside the output, in `NAME.state/`; `made.json` there lists the
digests of the blocks that are whole, so a kill costs no more than the block it fell in.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from encoder.atomic import check_output, new_folder, read_json, write_bytes, write_json
from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable
from encoder.embed import BATCH_SIZE, Quarantined, embed_pictures, prepare_file
from encoder.errors import PocketlensError
from encoder.image_cache import DecodedImages
from encoder.inference import Inference, choose_precision, prepare_inference
from encoder.preprocess import Pixels
from encoder.progress import track
from encoder.training import check_seed
from encoder.training_state import StateFolder, drop_state, identify, mark_started, open_state
from encoder.unlabelled_images import open_unlabelled, training_images
from encoder.view_cutter import ViewCutter
from encoder.view_store import (
    FEATURES,
    FORMAT,
    MANIFEST,
    POSITIONS,
    VIEWS,
    WHOLE,
    Manifest,
    StoreLayout,
    digest_block,
    pack_positions,
)
from encoder.views import QUERY_VIEWS, ViewRecipe, Views, sample_views

_MADE = "made.json"
# A kill costs at most these; fewer would leave cores idle at the ends of blocks.
_VIEWS_PER_BLOCK = 2048


@dataclasses.dataclass(frozen=True)
class StoreRecipe:
    """Hold every choice of a view store."""

    views: int = 16
    recipe: ViewRecipe = QUERY_VIEWS
    precision: str = "auto"
    with_validation: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.views <= 1024:
            raise PocketlensError(f"--views {self.views} is not in 1..1024")
        check_seed(self.seed)


def make_views(
    teacher: Checkpoint,
    table: ImageTable,
    recipe: StoreRecipe,
    output: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> tuple[StoreLayout, tuple[Quarantined, ...]]:
    """Make views of the table's training images and write a store of them.

    Labels are not used. Some images are held out, as a student's training does, so that alignment
    can be measured on them. With `resume` a making that was stopped goes on, to the same bytes.
    Returns the layout and the images that could not be read.

    Raises:
        PocketlensError: when no image can be read, the disk is too small, or the output must not
            be replaced.
    """
    preprocess = teacher.preprocess
    training = training_images(table, with_validation=recipe.with_validation)
    recipe = dataclasses.replace(
        recipe, recipe=dataclasses.replace(recipe.recipe, fit=preprocess.fit)
    )
    block = max(1, _VIEWS_PER_BLOCK // recipe.views)
    facts: dict[str, Any] = {
        "recipe": dataclasses.asdict(recipe.recipe),
        "views": recipe.views,
        "block": block,
        "precision": choose_precision(recipe.precision),
        "seed": recipe.seed,
        "teacher": {"encoder": teacher.encoder, "space": teacher.space.id, "size": preprocess.size},
        "data": training.describe(),
    }
    identity = identify(**facts)
    if resume and _is_finished(output, identity):
        drop_state(output)
        return Manifest.read(output).layout, ()
    check_output(output, marker=MANIFEST, overwrite=overwrite)
    with open_state(output, identity, resume=resume, overwrite=overwrite) as state:
        images, _ = open_unlabelled(
            table,
            side=2 * preprocess.size,
            with_validation=recipe.with_validation,
            rng=np.random.default_rng(recipe.seed),
        )
        guide = prepare_inference(teacher, precision=recipe.precision)
        layout = StoreLayout(
            len(images.positions),
            recipe.views,
            teacher.model.projection.in_features,
            block,
        )
        positions = _keep_positions(state, images)
        digests = _make_blocks(_Maker(images, guide, recipe, layout), state)
        with new_folder(output, marker=MANIFEST, overwrite=overwrite) as folder:
            for name in layout.sizes(0):
                _link(state.path / name, folder / name)
            (folder / POSITIONS).write_bytes(positions)
            described = {
                "format": FORMAT,
                "identity": identity,
                "layout": dataclasses.asdict(layout),
                "blocks": digests,
                "positions": hashlib.sha256(positions).hexdigest(),
                **{name: fact for name, fact in facts.items() if name not in ("views", "block")},
            }
            write_json(folder / MANIFEST, described)
    return layout, images.quarantined


def _is_finished(output: Path, identity: str) -> bool:
    """Return whether this very making ended, and only its state was left behind by a kill."""
    try:
        return Manifest.read(output).identity == identity
    except PocketlensError:
        return False


def _keep_positions(state: StateFolder, images: DecodedImages) -> bytes:
    """Write which images views are made of, or compare it with what was begun.

    Raises:
        PocketlensError: when other images can be read now.
    """
    file, positions = state.path / POSITIONS, pack_positions(images.positions)
    if not file.exists():
        write_bytes(file, positions)
    elif file.read_bytes() != positions:
        raise PocketlensError(
            f"{state.path}: begun when other images could be read; begin anew with --overwrite"
        )
    return positions


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Hold what blocks are made from."""

    images: DecodedImages
    guide: Inference
    recipe: StoreRecipe
    layout: StoreLayout

    def draw(self, number: int) -> Views:
        """Return the views of a block: a function of seed and number alone."""
        span = self.layout.span(number)
        rng = np.random.default_rng([self.recipe.seed, number])
        positions = np.repeat(self.images.positions[span.start : span.stop], self.layout.views)
        return sample_views(
            self.recipe.recipe,
            self.images.aspects(positions),
            rng,
            population=self.layout.images,
        )

    def make(self, number: int, cutter: ViewCutter) -> dict[str, NDArray[Any]]:
        """Return a block's parts by the name of their file."""
        span, views = self.layout.span(number), self.draw(number)
        positions = self.images.positions[span.start : span.stop]
        repeated = np.repeat(positions, self.layout.views)
        preprocess = self.guide.preprocess

        def cut(at: int) -> Pixels:
            return cutter.cut_one(int(repeated[at]), views[at], preprocess.size)

        def prepare(at: int) -> Pixels:
            return prepare_file(self.images.files[positions[at]], preprocess)

        return {
            VIEWS: views,
            FEATURES: self._extract(repeated, cut),
            WHOLE: self._extract(positions, prepare),
        }

    def _extract(self, positions: NDArray[np.int64], read: Any) -> NDArray[np.float16]:
        files = [self.images.files[position] for position in positions]
        # Always batches of one size, so that a block's bytes do not depend on where it began.
        found = list(embed_pictures(files, read, self.guide.feature_extractor, BATCH_SIZE))
        for batch in found:
            for entry in batch.quarantined:
                raise PocketlensError(f"{entry.path}: changed while views were made of it")
        return np.concatenate([batch.vectors for batch in found]).astype("<f2")


def _make_blocks(maker: _Maker, state: StateFolder) -> list[str]:
    """Make the blocks that are not made yet; return the digests of all."""
    layout = maker.layout
    made = _read_made(state)
    missing = layout.images - layout.images_in(len(made))
    _check_disk(state.path, layout, missing)
    cutter = ViewCutter(maker.images, maker.guide.preprocess)
    with (
        _open_files(state, layout, len(made)) as files,
        track("making views", missing * layout.views) as advance,
    ):
        for number in range(len(made), layout.blocks):
            parts = maker.make(number, cutter)
            for name, file in files.items():
                file.write(np.ascontiguousarray(parts[name]).view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())
            made.append(digest_block(parts[VIEWS], parts[FEATURES], parts[WHOLE]))
            write_json(state.path / _MADE, {"blocks": made})
            if len(made) == 1:
                mark_started(state)
            advance(len(layout.span(number)) * layout.views)
    return made


def _read_made(state: StateFolder) -> list[str]:
    """Return the digests of the blocks made before a stop; none in a new state."""
    file = state.path / _MADE
    if not file.exists():
        return []
    blocks = read_json(file).get("blocks")
    if not isinstance(blocks, list):
        raise PocketlensError(f"{file}: names no blocks; begin anew with --overwrite")
    return [str(digest) for digest in blocks]


def _check_disk(folder: Path, layout: StoreLayout, missing: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    needed = sum(layout.sizes(missing).values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PocketlensError(
            f"{folder}: the views need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "give fewer --views or another output"
        )


@contextlib.contextmanager
def _open_files(
    state: StateFolder, layout: StoreLayout, made: int
) -> Iterator[dict[str, BinaryIO]]:
    """Open the files to append to, cut back to the blocks that are whole."""
    sizes = layout.sizes(layout.images_in(made))
    with contextlib.ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for name, size in sizes.items():
            path = state.path / name
            found = path.stat().st_size if path.exists() else 0
            if found < size:
                raise PocketlensError(
                    f"{path}: has {found} bytes, not {size}; begin anew with --overwrite"
                )
            file = stack.enter_context(path.open("ab"))
            file.truncate(size)
            files[name] = file
        yield files


def _link(source: Path, target: Path) -> None:
    """Give the file a second name, or copy it where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
