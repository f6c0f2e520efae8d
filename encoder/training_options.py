"""What the trainings' command lines share: their options, and how data and outputs are checked."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.progress import report_set_aside
from encoder.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encoder.checkpoint import Checkpoint
    from encoder.datasets.splits import SplitRule
    from encoder.datasets.table import ImageTable
    from encoder.embed import Quarantined

Output = Annotated[Path, typer.Argument(help="Checkpoint folder to write.")]
Trunk = Annotated[str, typer.Option(help="Any timm model, or several joined by +.")]
Weights = Annotated[
    Path | None, typer.Option(help="Safetensors file of the trunk, in place of ImageNet's.")
]
Dim = Annotated[int, typer.Option(help="Dimension of the embedding.")]
Pooling = Annotated[str, typer.Option(help="avg or gem.")]
Fit = Annotated[str, typer.Option(help="squash the picture to the square, or crop it.")]
Interpolation = Annotated[
    str, typer.Option(help="How pictures are resized: bilinear, or bicubic for more detail.")
]
TestClasses = Annotated[
    Path | None, typer.Option(help="Text file naming the test classes, one a line.")
]
ValShare = Annotated[float, typer.Option(help="Share of the training classes kept to validate.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was stopped.")]
Optimiser = Annotated[str, typer.Option(help="adamw, or sgd with momentum 0.9.")]
WeightDecay = Annotated[float, typer.Option(help="Biases are not decayed.")]
WarmUp = Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")]
Schedule = Annotated[str, typer.Option(help="one-cycle, cosine or step.")]
HeadPasses = Annotated[float, typer.Option(help="Passes at the start in which the trunk rests.")]
Accumulate = Annotated[int, typer.Option(help="Batches whose gradients make one step.")]
Average = Annotated[
    float, typer.Option(help="Decay of a moving average of the weights, kept instead; 0 for none.")
]
Precision = Annotated[
    str, typer.Option(help="Of the trunk: fp32, bf16, or auto: bf16 on an accelerator.")
]
Batch = Annotated[int, typer.Option(help="Images a batch.")]
ImagesPerClass = Annotated[int, typer.Option(help="Images of a class in a batch.")]
Scale = Annotated[float, typer.Option(help="Smallest share of an image's area that a view shows.")]
Jitter = Annotated[float, typer.Option(help="Strength of a view's changes of colour; 0 for none.")]
SplitSeed = Annotated[int, typer.Option(help="Seed of the validation classes.")]
Tensorboard = Annotated[
    Path | None, typer.Option(help="Folder to show the training in with TensorBoard.")
]


def read_split(
    test_share: float | None, test_classes: Path | None, *, val_share: float, seed: int
) -> "SplitRule":
    """Return the rule that the options give."""
    if test_share is not None and test_classes is not None:
        raise PocketlensError("give --test-share or --test-classes, not both")
    from encoder.datasets.splits import SplitRule, read_class_list

    return SplitRule(
        test=0.5 if test_share is None else test_share,
        val=val_share,
        seed=seed,
        test_names=read_class_list(test_classes) if test_classes else (),
    )


def divide(data: Path, split: "SplitRule") -> "ImageTable":
    """Read images and divide their classes."""
    from encoder.datasets.splits import check_test_names, read_table, split_classes

    table = read_table(data)
    check_test_names(table, split)
    return split_classes(table, split)


def report_division(table: "ImageTable") -> None:
    """Say which classes train, validate and test."""
    told = []
    for name, shown in (("train", "training"), ("val", "validation"), ("test", "test")):
        part = table.split(name)  # type: ignore[arg-type]
        classes, images = counted(len(part.class_names()), "class"), counted(len(part), "image")
        told.append(f"{shown}: {f'{images} of {classes}' if len(part) else 'none'}")
    print("; ".join(told))


def divide_known(data: Path, teacher: "Checkpoint") -> "ImageTable":
    """Read images to distil on; where the teacher knows their classes, keep its test images out."""
    from encoder.datasets.splits import known_split, read_table, split_classes

    table = read_table(data)
    if set(teacher.provenance.get("trained_on", [])) & set(table.class_names()):
        table = split_classes(table, known_split(teacher.provenance))
    return table


def check_outputs(
    output: Path,
    *inputs: Path | None,
    overwrite: bool,
    resume: bool = False,
    marker: str = "config.json",
) -> None:
    """Refuse an output that must not be written, or that holds one of the inputs given.

    Where it is to go on and nothing of it was stopped, that is told.
    """
    from encoder.atomic import check_output

    given = [path for path in inputs if path]
    check_output(output, marker=marker, overwrite=overwrite, inputs=given)
    if resume:
        from encoder.training_state import has_state

        if not has_state(output) and not output.exists():
            print(f"note: nothing of {output} was stopped; it begins anew", file=sys.stderr)


def check_tensorboard(folder: Path | None, output: Path) -> None:
    """Refuse to show a training where that cannot be done, before any work is."""
    if folder is None:
        return
    require_extra("tensorboard", "--tensorboard")
    if folder.exists() and not folder.is_dir():
        raise PocketlensError(f"{folder}: not a folder; name another for --tensorboard")
    for taken in (output, output.with_name(f"{output.name}.state")):
        if folder.resolve().is_relative_to(taken.resolve()):
            raise PocketlensError(
                f"{folder}: lies in what the training itself writes; name another folder for "
                "--tensorboard"
            )


def report_checkpoint(
    output: Path, checkpoint: "Checkpoint", quarantined: "Iterable[Quarantined]"
) -> None:
    """Name the images that could not be used, and say what was made."""
    report_set_aside(entry.reason for entry in quarantined)
    print(f"{output}: {checkpoint.kind}, {checkpoint.preprocess.size} px, {checkpoint.space.dim}-d")
    print(f"space {checkpoint.space.id}, encoder {checkpoint.encoder}")
    if checkpoint.alignment:
        shown = checkpoint.alignment
        print(
            f"cosine to the teacher on {shown.images} held-out images: "
            f"mean {shown.mean_cosine:.3f}, 5th percentile {shown.p5_cosine:.3f}"
        )
