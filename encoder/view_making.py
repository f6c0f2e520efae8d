"""Make a view store: sample views, let the teacher look at each once, keep what it says."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.atomic import check_output
from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable
from encoder.embed import BATCH_SIZE, Quarantined, embed_pictures, prepare_file
from encoder.errors import PocketlensError
from encoder.image_cache import DecodedImages
from encoder.inference import Inference, choose_precision, prepare_inference
from encoder.preprocess import Pixels
from encoder.training import check_seed
from encoder.training_state import drop_state, identify, open_state
from encoder.unlabelled_images import open_unlabelled, training_images
from encoder.view_cutter import ViewCutter
from encoder.view_store import (
    FEATURES,
    MANIFEST,
    VIEWS,
    WHOLE,
    Manifest,
    StoreLayout,
)
from encoder.view_writing import write_store
from encoder.views import QUERY_VIEWS, ViewRecipe, Views, sample_views

MOST_VIEWS = 1024
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
        if not 1 <= self.views <= MOST_VIEWS:
            raise PocketlensError(f"--views {self.views} is not in 1..{MOST_VIEWS}")
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
        maker = _Maker(images, guide, recipe, layout)
        write_store(
            output,
            layout,
            images.positions,
            maker.make,
            state,
            overwrite=overwrite,
            **{name: fact for name, fact in facts.items() if name not in ("views", "block")},
        )
    return layout, images.quarantined


def _is_finished(output: Path, identity: str) -> bool:
    """Return whether this very making ended, and only its state was left behind by a kill."""
    try:
        return Manifest.read(output).identity == identity
    except PocketlensError:
        return False


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

    def make(self, number: int) -> dict[str, NDArray[Any]]:
        """Return a block's parts by the name of their file."""
        cutter = ViewCutter(self.images, self.guide.preprocess)
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
