"""What stands beside a map between two spaces: the scale of its scores, its doubt, its figures."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from encoder.checkpoint import Checkpoint
from encoder.compatibility import Compatibility, Direction
from encoder.datasets.table import ImageTable
from encoder.doubt import fit_doubt
from encoder.embed import (
    EmbeddedBatch,
    Embedder,
    Vectors,
    embed_files,
    embed_looks,
    gather_batches,
)
from encoder.evaluation.metrics import measure_retrieval
from encoder.evaluation.score_scale import ScoreScale, fit_scale
from encoder.images import Source, decode_image
from encoder.inference import prepare_inference
from encoder.perceptron import Perceptron
from encoder.preprocess import LARGEST_SIZE, Pixels
from encoder.progress import track
from encoder.space import EmbeddingSpace
from encoder.teacher import has_pair
from encoder.vector_map import VectorMap
from encoder.views import ViewRecipe, colour_views, render_view, sample_views

Sources = Sequence[Source]
Batches = Iterator[EmbeddedBatch]
# Enough for a line through the scores of pairs, and for what a vector's place tells of its error.
_MOST_LOOKED_AT = 5000


@dataclasses.dataclass(frozen=True)
class SeenByBoth:
    """Hold the vectors `[n, any]` that both encoders make of the same images, and the labels."""

    new: Vectors
    old: Vectors
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def followed_by(self, more: "SeenByBoth") -> "SeenByBoth":
        """Return these with more behind them."""
        return SeenByBoth(
            np.concatenate([self.new, more.new]),
            np.concatenate([self.old, more.old]),
            np.concatenate([self.labels, more.labels]),
        )

    def turned(self, turn: NDArray[np.float32]) -> "SeenByBoth":
        """Return what would have been seen with the new vectors turned by a rotation."""
        return dataclasses.replace(self, new=self.new @ turn.T)


def show_to_both(
    new: Checkpoint, old: Checkpoint, table: ImageTable, split: Literal["train", "val"]
) -> SeenByBoth:
    """Embed a split's images with both encoders; of very many an evenly spaced part."""

    def ask(checkpoint: Checkpoint, embedder: Embedder, sources: Sources) -> Batches:
        return embed_files(sources, checkpoint.preprocess, embedder)

    return _ask_both(new, old, _choose(table, split), ask)


def show_views_to_both(
    new: Checkpoint, old: Checkpoint, table: ImageTable, count: int, *, seed: int = 0
) -> SeenByBoth:
    """Embed so many crops of each training image with both encoders, each at its own size.

    Of the images they learnt, both know the classes better than they will know others; of parts of
    them, less so. The crops of an image stand together.
    """
    recipe = dataclasses.replace(colour_views(ViewRecipe(mix_alpha=0), 0), fit=new.preprocess.fit)

    def ask(checkpoint: Checkpoint, embedder: Embedder, sources: Sources) -> Batches:
        own = checkpoint.preprocess
        # A crop of a quarter of the area has as many pixels as the input.
        larger = own.resized(min(2 * own.size, LARGEST_SIZE))

        def read(position: int) -> Pixels:
            picture = decode_image(sources[position], target=larger)
            aspects = np.full(count, picture.shape[1] / picture.shape[0])
            views = sample_views(recipe, aspects, np.random.default_rng([seed, position]))
            crops = [render_view(picture, None, view, own.size, own.resampling) for view in views]
            return np.stack(crops)

        return embed_looks(sources, read, embedder, count, lambda each: each.reshape(len(each), -1))

    return _ask_both(new, old, _choose(table, "train"), ask, about=" about crops")


def _choose(table: ImageTable, split: Literal["train", "val"]) -> ImageTable:
    images = table.split(split)
    return images.select(range(0, len(images), -(-len(images) // _MOST_LOOKED_AT) or 1))


def _ask_both(
    new: Checkpoint,
    old: Checkpoint,
    images: ImageTable,
    ask: Callable[[Checkpoint, Embedder, Sources], Batches],
    *,
    about: str = "",
) -> SeenByBoth:
    """Return what both could read: either may fail at a picture that the other can read.

    `ask` yields one vector an image, or several side by side `[n, times × dim]`.
    """
    sources, found = images.sources(), []
    for title, checkpoint in (("new", new), ("old", old)):
        embedder = prepare_inference(checkpoint, precision="auto").embedder
        with track(f"asking the {title} model{about}", len(sources)) as advance:
            found.append(gather_batches(ask(checkpoint, embedder, sources), advance))
    positions = np.intersect1d(found[0].positions, found[1].positions)
    own, there = (
        # Of no images it has no dimensions either.
        one.vectors[np.isin(one.positions, positions)].reshape(-1, used.space.dim)
        for one, used in zip(found, (new, old), strict=True)
    )
    times = len(own) // max(1, len(positions))
    return SeenByBoth(own, there, np.repeat(images.labels()[positions], times))


def complete_compatibility(
    query: EmbeddingSpace,
    database: EmbeddingSpace,
    direction: Direction,
    found: VectorMap,
    trained: SeenByBoth,
    held_out: SeenByBoth,
    *,
    errors: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> Compatibility:
    """Return a map with the scale of its scores and its figures on images held out, and its doubt.

    Without images held out the scale is fitted on those trained on, which are nearer to one another
    than others, and no figure is shown. The doubt is fitted to what the map errs by on the images
    trained on, or to `errors` `[n]` of theirs.
    """
    judged = held_out if len(held_out) >= 2 else trained
    bare = Compatibility(query, database, direction, found, fit_scale_of(found, direction, judged))
    there = bare.map_database(trained.old)
    if errors is None:
        errors = 1 - np.einsum("nd,nd->n", bare.map_queries(trained.new), there)
    doubt: Perceptron | None = None
    if len(np.unique(trained.labels)) > 1:
        doubt = fit_doubt(there, errors, trained.labels, seed=seed)
    shows = judged is held_out and has_pair(held_out.labels)
    return dataclasses.replace(
        bare, doubt=doubt, shown=measure_both(bare, held_out) if shows else {}
    )


def fit_scale_of(found: VectorMap, direction: Direction, seen: SeenByBoth) -> ScoreScale:
    """Fit the scale of scores to what a map makes of these images."""
    if direction == "backward":
        return fit_scale(seen.new, found.apply(seen.new), seen.old)
    return fit_scale(seen.new, seen.new, found.apply(seen.old))


def measure_both(compatibility: Compatibility, seen: SeenByBoth) -> dict[str, float]:
    """Return R@1 and MAP@R, in per cent, of old and new queries in the old and the new database."""
    pairs = {
        "old_old": (seen.old, seen.old),
        "new_old": (compatibility.map_queries(seen.new), compatibility.map_database(seen.old)),
        "new_new": (seen.new, seen.new),
    }
    figures: dict[str, float] = {}
    for name, (asking, asked) in pairs.items():
        found = measure_retrieval(asking, seen.labels, asked, seen.labels, same_images=True).means()
        figures |= {f"{name}.{each}": round(found[each], 3) for each in ("r1", "map_at_r")}
    return figures
