"""The trainings behind the tables of teachers, as a queue: finished ones are skipped.

The recorded teachers train on the first half of a set's classes and are judged on the second. So
are the flowers, too few for anything else: no choice is made by that table. The tables of many
short trainings (losses, dimensions, shares of classes, guidance) keep to the first half of the
classes: its own first half trains, its second is judged, three seeds each. Where few-shot teachers
of cars are judged on birds, that is the whole first half of the birds' classes.
"""

import shlex
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from command_queue import SEEDS, Place
from record import flatten_row, read_seconds
from timing import on_one_core

from encoder.checkpoint import load_checkpoint
from encoder.datasets.splits import SplitRule, known_split, read_table, split_classes
from encoder.evaluate import encode_images, labelled_test
from encoder.evaluation.protocol import (
    EncodedSet,
    EvaluationRow,
    Judging,
    average_rows,
    compare_rows,
    evaluate_pair,
)
from encoder.evaluation.robustness import corrupt
from encoder.inference import prepare_network
from encoder.losses.supervised import LossName
from encoder.preprocess import Pixels

# Chosen on classes carved from the training half. Half an hour each on two cores.
FULL = {
    "cars": "--size 224 --epochs 12 --lr 1e-4 --pooling gem --any-colour --interpolation bicubic "
    "--nested 128 --nested 256",
    "cub": "--size 224 --epochs 3 --lr 5e-5 "
    "--trunk tf_efficientnet_lite0+tf_efficientnet_lite1+tf_efficientnet_lite2 "
    "--interpolation bicubic --nested 128 --nested 256",
}
SMALL = "--size 112 --epochs 4 --lr 1e-4 --val-share 0"
# All but the episodes of a master's branches.
LOSSES = [name for name in get_args(LossName) if name != "prototypical"]
DIMS = (64, 128, 256, 512, 1024, 2048)
SHARES = (1.0, 0.5, 0.25, 0.1)
# Images of each class to train on.
SHOTS = (5, 10)
# Three quarters of the steps of the four passes over all images of the small set.
FEW = "--size 112 --lr 1e-4 --val-share 0"
FEW_EPOCHS = {5: 25, 10: 12}
TRUNKS = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")
SIZES = (224, 320, 384)
FLOWERS = "--epochs 6 --lr 1e-4 --val-share 0"
STORAGES = ("float", "binary", "float-binary")


def train(place: Place, data: Path, name: str, flags: str) -> Path:
    """Train a teacher unless it is done; return the folder."""
    return place.make(name, "train-teacher", data, flags=flags)


def encode_test(
    folder: Path, data: Path, alter: Callable[[Pixels], Pixels] | None = None
) -> EncodedSet:
    """Return a teacher's vectors of a set's test images, altered first if asked."""
    teacher = load_checkpoint(folder)
    table = labelled_test(split_classes(read_table(data), known_split(teacher.provenance)))
    return encode_images(teacher, teacher.preprocess, table=table, precision="auto", alter=alter)[0]


def judge(encoded: EncodedSet, storage: Any = "float", dim: int | None = None) -> EvaluationRow:
    """Return the row of a set that searches itself."""
    return evaluate_pair("", encoded, encoded, Judging(storage, dim))


def judge_seeds(place: Place, data: Path, name: str, flags: str) -> dict[str, EvaluationRow]:
    """Train one configuration with every seed; return the mean row of each storage."""
    rows: dict[str, list[EvaluationRow]] = {storage: [] for storage in STORAGES}
    for seed in SEEDS:
        folder = train(place, data, f"{name}-s{seed}", f"{flags} --seed {seed}")
        encoded = encode_test(folder, data)
        for storage, found in rows.items():
            found.append(judge(encoded, storage))
    return {storage: average_rows(storage, found) for storage, found in rows.items()}


def train_small(place: Place, option: str, value: str, default: str) -> dict[str, EvaluationRow]:
    """Train on the small cars with one option set; with its default, the same for all tables."""
    changed = value != default
    name = f"small/{option}-{value}" if changed else "small/plain"
    flags = f"{SMALL} --{option} {value}" if changed else SMALL
    return judge_seeds(place, place.small("cars"), name, flags)


def measure_losses(place: Place) -> dict[str, float]:
    """Train with every loss at the same budget."""
    figures: dict[str, float] = {}
    for loss in LOSSES:
        rows = train_small(place, "loss", loss, "softmax")
        figures |= flatten_row(f"cars.loss.{loss}", rows["float"].to_json())
    return figures


def measure_shares(place: Place) -> dict[str, float]:
    """Train with softmaxes over shares of the classes.

    Below all classes the proxies are changed by another optimiser, without decay: the sparse one.
    """
    figures: dict[str, float] = {}
    for share in SHARES:
        rows = train_small(place, "class-share", f"{share:g}", "1")
        figures |= flatten_row(f"cars.share.{share:g}", rows["float"].to_json())
    return figures


def measure_dims(place: Place) -> dict[str, float]:
    """Train embeddings of many dimensions; float and sign codes of each."""
    figures: dict[str, float] = {}
    for dim in DIMS:
        rows = train_small(place, "dim", str(dim), "512")
        for storage, row in rows.items():
            figures |= flatten_row(f"cars.dim.{dim}.{storage}", row.to_json())
    return figures


def measure_full(place: Place) -> dict[str, float]:
    """Train the recorded teachers; floats, sign codes and prefixes on the test half."""
    figures: dict[str, float] = {}
    for name, flags in FULL.items():
        data = place.data / name
        encoded = encode_test(train(place, data, f"full/{name}", flags), data)
        for key, row in (
            ("teacher", judge(encoded)),
            ("binary512", judge(encoded, "binary")),
            ("float_binary512", judge(encoded, "float-binary")),
            ("matryoshka128", judge(encoded, dim=128)),
        ):
            figures |= flatten_row(f"{name}.{key}", row.to_json())
    return figures


def measure_label_free(place: Place) -> dict[str, float]:
    """Make teachers without labels; judged where the trained ones are."""
    figures: dict[str, float] = {}
    for name in FULL:
        data = place.data / name
        folder = place.make(f"label-free/{name}", "init-teacher", data, flags="--size 224")
        figures |= flatten_row(f"{name}.label_free", judge(encode_test(folder, data)).to_json())
    return figures


def measure_flowers(place: Place) -> dict[str, float]:
    """Train trunks and sizes on the one set with the pixels for it."""
    data, figures = place.data / "flowers", dict[str, float]()
    for trunk in TRUNKS:
        for size in SIZES:
            name = f"{trunk.rpartition('_')[2]}.{size}"
            flags = f"{FLOWERS} --trunk {trunk} --size {size}"
            folder = train(place, data, f"flowers/{name}", flags)
            figures |= flatten_row(f"flowers.{name}", judge(encode_test(folder, data)).to_json())
            figures[f"flowers.{name}.core_ms"] = measure_core_ms(folder)
    return figures


def measure_core_ms(folder: Path) -> float:
    """Return the core-milliseconds a teacher's network takes for an image, at its fastest."""
    teacher = load_checkpoint(folder)
    preprocess = teacher.preprocess
    network = prepare_network(teacher.model, teacher.architecture, preprocess, precision="auto")
    side = preprocess.size
    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), np.uint8)
    times = [on_one_core(lambda: network.embed_images(images)) for _ in range(7)]
    # The first allocates.
    return 1e3 * statistics.median(times[1:]) / len(images)


def swap_colours(image: Pixels) -> Pixels:
    """Return the picture with red as blue and blue as red."""
    return np.ascontiguousarray(image[..., ::-1])


# What is done to every test image, query and database alike.
SHIFTS: dict[str, Callable[[Pixels], Pixels]] = {
    "blurred": lambda image: corrupt(image, "blur", 0.016),
    "recoloured": swap_colours,
    "tiny": lambda image: corrupt(image, "low-resolution", 32),
}


def list_conditions(place: Place, shots: int) -> Iterator[tuple[str, Callable[[Path], EncodedSet]]]:
    """Yield what few-shot teachers are judged on: unseen cars, harmed ones, and birds."""
    cars = place.small("cars", shots)
    birds = split_classes(read_table(place.small("cub")), SplitRule(val=0.0))

    def encode_birds(folder: Path) -> EncodedSet:
        teacher = load_checkpoint(folder)
        return encode_images(teacher, teacher.preprocess, table=birds, precision="auto")[0]

    yield "in_domain", lambda folder: encode_test(folder, cars)
    yield "birds", encode_birds
    for name, alter in SHIFTS.items():
        yield name, lambda folder, alter=alter: encode_test(folder, cars, alter)


def measure_guided(place: Place) -> dict[str, float]:
    """Train few-shot teachers alone and guided by a master, at the same steps of their own.

    The master's training comes on top; its minutes are recorded.
    """
    figures: dict[str, float] = {}
    for shots in SHOTS:
        data, pairs = place.small("cars", shots), list[tuple[Path, Path]]()
        for seed in SEEDS:
            flags = f"{FEW} --epochs {FEW_EPOCHS[shots]} --seed {seed}"
            name = f"guided/{shots}-shot-s{seed}"
            master = place.make(f"{name}-master", "train-master", data, flags=flags)
            alone = train(place, data, f"{name}-alone", flags)
            with_guide = f"{flags} --guide {shlex.quote(str(master))}"
            guided = train(place, data, f"{name}-guided", with_guide)
            pairs.append((alone, guided))
            for part in ("master", "alone", "guided"):
                seconds = read_seconds(place.runs / f"{name}-{part}")
                figures[f"guided.{shots}_shot.s{seed}.{part}_minutes"] = seconds / 60
        for condition, encode in list_conditions(place, shots):
            rows = [[judge(encode(folder)) for folder in pair] for pair in pairs]
            alone, guided = (
                average_rows(condition, [row[side] for row in rows]) for side in (0, 1)
            )
            key = f"guided.{shots}_shot.{condition}"
            for seed, (one, other) in zip(SEEDS, rows, strict=True):
                gain = other.figures["map_at_r"] - one.figures["map_at_r"]
                figures[f"{key}.minus_unguided.map_at_r.s{seed}"] = gain
            figures |= flatten_row(f"{key}.unguided", alone.to_json())
            figures |= flatten_row(f"{key}.guided", guided.to_json())
            for metric, interval in compare_rows(guided, alone).items():
                if metric in ("r1", "map_at_r"):
                    figures[f"{key}.minus_unguided.{metric}.low"] = interval.low
                    figures[f"{key}.minus_unguided.{metric}.high"] = interval.high
                    difference = guided.figures[metric] - alone.figures[metric]
                    figures[f"{key}.minus_unguided.{metric}"] = difference
    return figures


TABLES: dict[str, Callable[[Place], dict[str, float]]] = {
    "full": measure_full,
    "label-free": measure_label_free,
    "losses": measure_losses,
    "shares": measure_shares,
    "dims": measure_dims,
    "guided": measure_guided,
    "flowers": measure_flowers,
}

# Of the others each training is one, with the first seed.
SEEDED = ("losses", "shares", "dims", "guided")
