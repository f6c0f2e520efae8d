"""Small data sets for tables of many short trainings: links to some images of a class folder."""

from pathlib import Path

import numpy as np


def link_training_half(source: Path, target: Path, *, images: int | None = None) -> Path:
    """Link the first half of a set's classes, so that its test half is never touched.

    Of these, the first half trains and the second tests, by the usual split. With `images` only so
    many images of each class to train on are linked, drawn with seed 0: the few-shot regime.
    """
    if target.exists():
        return target
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    chosen = classes[: len(classes) - round(len(classes) / 2)]
    training = set(chosen[: len(chosen) - round(len(chosen) / 2)])
    rng = np.random.default_rng(0)
    for place in chosen:
        files = sorted(place.iterdir())
        if images is not None and place in training:
            files = [files[at] for at in sorted(rng.choice(len(files), images, replace=False))]
        (target / place.name).mkdir(parents=True)
        for file in files:
            (target / place.name / file.name).symlink_to(file.resolve())
    return target
